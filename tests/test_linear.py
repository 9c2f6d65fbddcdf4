"""The linear layer, bias and relu folded in: NumPy references, shapes, layouts, derivatives, errors."""

from itertools import product

import numpy as np
import pytest

import minigrad as mg

from .processes import run_python

F = mg.nn.functional
DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}


def tensor(values, grad=True):
    return mg.tensor(values, requires_grad=grad)


def close(got, want, dtype, scale=1.0):
    tolerance = TOLERANCE[dtype] * scale
    got = got.detach().numpy()
    assert got.dtype == dtype and got.shape == want.shape
    np.testing.assert_allclose(got, want, tolerance, tolerance * np.abs(want).max(initial=1.0))


def reference(x, w, b, relu, dy):
    """The result and the gradients of x, w, b, in float64."""
    x, w, dy = (v.astype(float) for v in (x, w, dy))
    y = x @ w.T + (0 if b is None else b.astype(float))
    if relu:
        dy = np.where(y > 0, dy, 0)
        y = np.maximum(y, 0)
    n = int(np.prod(x.shape[:-1]))
    drows = dy.reshape(n, dy.shape[-1])
    return y, dy @ w, drows.T @ x.reshape(n, x.shape[-1]), drows.sum(0)


SHAPES = [  # of x, and out
    ((3, 4), 5), ((4,), 5), ((2, 3, 4), 5), ((1, 4), 1), ((7, 1), 3), ((2, 1, 3, 2, 4), 3),
    ((1, 1, 1, 1, 1, 1, 2, 3), 2), ((0, 4), 5), ((2, 0, 4), 5), ((3, 0), 5), ((0,), 5), ((3, 4), 0), ((0, 0), 0),
    ((4,), 0), ((2, 3, 0), 2), ((33, 65), 17),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "out"), SHAPES, ids=str)
def test_linear(shape, out, dtype, capfd):
    rng = np.random.default_rng(0)
    for bias, relu in product((False, True), repeat=2):
        x, w = rng.normal(size=shape).astype(dtype), rng.normal(size=(out, shape[-1])).astype(dtype)
        b = rng.normal(size=out).astype(dtype) if bias else None
        dy = rng.normal(size=shape[:-1] + (out,)).astype(dtype)
        tx, tw, tb = tensor(x), tensor(w), tensor(b) if bias else None
        y = F.linear(tx, tw, tb, relu=relu) if relu else F.linear(tx, tw, tb)
        want, dx, dw, db = reference(x, w, b, relu, dy)
        close(y, want, dtype)
        y.backward(mg.tensor(dy), retain_graph=True)
        y.backward(mg.tensor(dy))
        close(tx.grad, 2 * dx, dtype)
        close(tw.grad, 2 * dw, dtype)
        if bias:
            close(tb.grad, 2 * db, dtype)
        with mg.no_grad():
            assert mg.equal(F.linear(tx, tw, tb, relu=relu), y)
    assert "illegal value" not in "".join(capfd.readouterr())  # BLAS prints what it does not like


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_only_needed_gradients(bias, relu):
    rng = np.random.default_rng(1)
    arrays = rng.normal(size=(3, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
    dy = rng.normal(size=(3, 5))
    want = reference(*arrays[:2], arrays[2] if bias else None, relu, dy)[1:]
    for needs in product((False, True), repeat=3):
        if not any(needs[: 2 + bias]):
            continue
        x, w, b = (tensor(a, grad) for a, grad in zip(arrays, needs))
        F.linear(x, w, b if bias else None, relu=relu).backward(mg.tensor(dy))
        for t, g in zip((x, w, b if bias else mg.ones(1)), want):
            if t.requires_grad:
                close(t.grad, g, "float64")
            else:
                assert t.grad is None


def matrices(values):
    """Tensors with these values (rows, columns) in other layouts."""
    rows, columns = values.shape
    wide = np.zeros((2 * rows, 3 * columns), values.dtype)
    wide[::2, ::3] = values
    frozen = values.copy()
    frozen.flags.writeable = False
    return {
        "transposed": mg.tensor(values.T.copy()).T,
        "row steps": mg.tensor(np.repeat(values, 2, 0))[::2],
        "both steps": mg.tensor(wide)[::2, ::3],
        "column steps": mg.tensor(np.repeat(values, 2, 1))[:, ::2],
        "part": mg.tensor(np.pad(values, 2))[2:-2, 2:-2],
        "part transposed": mg.tensor(np.pad(values.T, 1))[1:-1, 1:-1].T,
        "read-only": mg.from_numpy(frozen),
        "permuted": mg.tensor(values.T.copy().reshape(columns, rows, 1)).permute(2, 1, 0)[0],
    }


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(4, 3, 5), (1, 3, 5), (4, 1, 5), (4, 3, 1), (1, 1, 1), (65, 33, 70)], ids=str)
def test_layouts(size, dtype):
    n, k, out = size
    rng = np.random.default_rng(2)
    x, w, dy = (rng.normal(size=s).astype(dtype) for s in ((n, k), (out, k), (n, out)))
    b = rng.normal(size=2 * out).astype(dtype)
    want = reference(x, w, b[::2], True, dy)
    for (name, a), (other, v) in product(matrices(x).items(), matrices(w).items()):
        a, v = a.detach().requires_grad_(True), v.detach().requires_grad_(True)
        c = mg.tensor(b)[::2].detach().requires_grad_(True)
        y = F.linear(a, v, c, relu=True)
        y.backward(matrices(dy)[name])
        for got, expected in zip((y, a.grad, v.grad, c.grad), want):
            close(got, expected, dtype, 4)
        assert y.is_contiguous(), (name, other)


@pytest.mark.parametrize("relu", [False, True])
def test_expanded(relu):
    """Rows that are one row, and a gradient that is one number."""
    rng = np.random.default_rng(3)
    row, w, b = rng.normal(size=(1, 3)), rng.normal(size=(4, 3)), rng.normal(size=4)
    x, tw, tb = tensor(row), tensor(w), tensor(b)
    F.linear(x.expand(5, 3), tw, tb, relu=relu).sum().backward()
    _, dx, dw, db = reference(np.repeat(row, 5, 0), w, b, relu, np.ones((5, 4)))
    close(x.grad, dx.sum(0, keepdims=True), "float64")
    close(tw.grad, dw, "float64")
    close(tb.grad, db, "float64")
    x.grad = None
    F.linear(x.expand(2, 5, 3), tw, None, relu=relu).sum().backward()
    close(x.grad, 10 * reference(row, w, None, relu, np.ones((1, 4)))[1], "float64")


# m, n, k around the sizes at which a product is cut differently, or goes to the product of a matrix and a vector
BLOCKS = [
    (33, 129, 257), (64, 10, 31), (48, 40, 64), (100, 300, 2000), (2000, 100, 200), (600, 530, 520), (96, 1953, 64),
    (96, 1954, 64), (1, 1200, 833), (1, 1201, 833), (1, 700, 2900), (2900, 1, 700), (10, 512, 256), (300, 33, 999),
    (64, 64, 122), (64, 64, 123), (31, 31, 600), (32, 32, 500), (63, 20, 500), (64, 20, 500), (127, 20, 900),
    (128, 20, 900), (255, 33, 240), (256, 33, 240), (257, 33, 240), (20, 257, 240), (200, 200, 200), (201, 200, 200),
    (200, 201, 200), (255, 130, 250), (384, 150, 150), (513, 130, 130), (130, 513, 130), (1023, 64, 130),
    (64, 1025, 130), (2100, 70, 70), (70, 2111, 70), (17, 40_000, 13), (40_000, 13, 17), (3, 3, 70_000),
    (1, 4000, 300), (4000, 1, 300),
]  # fmt: skip


@pytest.mark.parametrize("size", BLOCKS, ids=str)
def test_blocks(size):
    """All three products of a layer, whatever the blocks."""
    m, n, k = size
    rng = np.random.default_rng(4)
    for dtype in DTYPES:
        x, w, b, dy = (rng.normal(size=s).astype(dtype) for s in ((m, k), (n, k), (n,), (m, n)))
        tx, tw, tb = tensor(x), tensor(w), tensor(b)
        y = F.linear(tx, tw, tb, relu=True)
        y.backward(mg.tensor(dy))
        if dtype == "float32":  # a float32 sum just above 0 may be just below it in float64
            dy = np.where(y.detach().numpy() > 0, dy, 0)
        want, _, _, _ = reference(x, w, b, True, dy)
        _, dx, dw, db = reference(x, w, b, dtype == "float64", dy)
        for got, expected in zip((y, tx.grad, tw.grad, tb.grad), (want, dx, dw, db)):
            close(got, expected, dtype, 8)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("size", [(1, 900, 1300), (1300, 900, 1), (150, 130, 70)], ids=str)
def test_layouts_of_large_products(size, dtype):
    m, k, n = size
    rng = np.random.default_rng(6)
    a, b, dy = (rng.normal(size=s).astype(dtype) for s in ((m, k), (k, n), (m, n)))
    want = a.astype(float) @ b.astype(float)
    for (name, x), (other, v) in product(matrices(a).items(), matrices(b).items()):
        close(x @ v, want, dtype, 8)
        x, v = x.detach().requires_grad_(True), v.detach().requires_grad_(True)
        if name == other:
            (x @ v).backward(matrices(dy)[name])
            close(x.grad, dy.astype(float) @ b.T, dtype, 8)
            close(v.grad, a.T.astype(float) @ dy, dtype, 8)


FAMILY = """
import numpy as np, minigrad as mg
from minigrad._launch import share_always

share_always()
sizes = (64, 64, 64), (200, 100, 300), (1, 128, 784), (784, 1, 128), (1, 2000, 900), (513, 400, 200), (9, 9, 40000)
for m, n, k in sizes:
    random = np.random.default_rng(0)
    x, w, dy = (random.normal(size=s).astype("f4") for s in ((m, k), (n, k), (m, n)))
    found = []
    for threads in 1, 2:
        mg.set_num_threads(threads)
        tx, tw = mg.tensor(x, requires_grad=True), mg.tensor(w, requires_grad=True)
        y = mg.nn.functional.linear(tx, tw)
        y.backward(mg.tensor(dy))
        found.append([t.detach().numpy().copy() for t in (y, tx.grad, tw.grad)])
    for one, two, want in zip(*found, (x.astype(float) @ w.T, dy.astype(float) @ w, dy.T.astype(float) @ x)):
        assert np.array_equal(one, two)
        assert np.abs(one - want).max() < 2e-6 * np.abs(want).max() + 1e-5
"""


def test_another_processor_family():
    """What runs where OpenBLAS has no kernels for small products."""
    run_python("-c", FAMILY, OPENBLAS_CORETYPE="Haswell")


@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("shape", [(3, 4), (4,), (2, 3, 4)], ids=str)
def test_gradcheck(shape, bias, relu):
    rng = np.random.default_rng(5)
    tensors = tensor(rng.normal(size=shape)), tensor(rng.normal(size=(2, 4))), tensor(rng.normal(size=2))

    def layer(x, w, b):
        return F.linear(x, w, b if bias else b.sum() * 0 + b, relu=relu) ** 2

    assert mg.autograd.gradcheck(layer, tensors)
    assert mg.autograd.gradgradcheck(layer, tensors)


def test_recorded_backward_has_the_same_values():
    for relu, shape in product((False, True), [(6, 4), (4,), (2, 3, 4)]):
        x, w, b = (
            mg.randn(*shape).requires_grad_(True),
            mg.randn(5, 4, requires_grad=True),
            mg.randn(5, requires_grad=True),
        )
        y = F.linear(x, w, b, relu=relu)
        dy = mg.randn(*y.shape)
        plain = mg.autograd.grad(y, (x, w, b), (dy,), retain_graph=True)
        recorded = mg.autograd.grad(y, (x, w, b), (dy,), create_graph=True)
        for p, r in zip(plain, recorded):
            close(r, p.numpy(), "float32")


def test_folded_relu():
    w, b = mg.eye(4), mg.tensor([0.0, -0.0, 0.0, 0.0])
    x = mg.tensor([[-1.0, 0.0, 2.0, float("nan")]]).requires_grad_(True)
    y = F.linear(x, w, None, relu=True)
    assert y.isnan().all()  # 0 * nan
    x = mg.tensor([[-1.0, 0.0, 2.0, 1.0]]).requires_grad_(True)
    b = mg.tensor([0.0, 0.0, 0.0, float("nan")], requires_grad=True)
    y = F.linear(x, w, b, relu=True)
    assert y[0, :3].tolist() == [0, 0, 2] and y[0, 3].isnan()
    y.sum().backward()
    assert b.grad.tolist() == [0, 0, 1, 1]  # as of relu(nan)
    z = mg.randn(3, 4)
    assert mg.equal(
        F.linear(z, w, b[:1].detach().expand(4), relu=True), F.relu(F.linear(z, w, b[:1].detach().expand(4)))
    )


def test_small_weights_and_biases():
    """A weight (in,) is a dot product, a bias () or (1,) serves all outputs."""
    x, w = mg.randn(2, 3, 4, dtype=mg.float64), mg.randn(4, dtype=mg.float64)
    close(F.linear(x, w), x.numpy() @ w.numpy(), "float64")
    b = mg.tensor(0.5, dtype=mg.float64)
    close(F.linear(x, w, b), x.numpy() @ w.numpy() + 0.5, "float64")
    v = mg.randn(5, 4, dtype=mg.float64)
    for bias in (b, b.reshape(1)):
        close(F.linear(x, v, bias), x.numpy() @ v.numpy().T + 0.5, "float64")
        tensors = [t.detach().requires_grad_(True) for t in (x[0], v, bias)]
        assert mg.autograd.gradcheck(F.linear, tensors)
    assert mg.autograd.gradcheck(F.linear, [t.detach().requires_grad_(True) for t in (x[0], w, b)])


def test_row_21_what_is_refused():
    x, w = mg.ones(4, 3), mg.ones(2, 3)
    for wrong in (x.double(), x.long(), x > 0):
        with pytest.raises(
            RuntimeError, match=f"mat1 and mat2 must have the same dtype, but got {wrong.dtype!r} and minigrad"
        ):
            F.linear(wrong, w)
    with pytest.raises(RuntimeError, match=r"must have the same dtype.*bias: minigrad.float64"):
        F.linear(x, w, mg.ones(2, dtype=mg.float64))
    with pytest.raises(RuntimeError, match="needs floating-point tensors"):
        F.linear(x.long(), w.long())
    for shape, rows in (((4, 5), 4), ((5,), 1), ((2, 3, 5), 6), ((0, 5), 0)):
        with pytest.raises(RuntimeError, match=rf"mat1 and mat2 shapes cannot be multiplied \({rows}x5 and 3x2\)"):
            F.linear(mg.ones(*shape), w)
    for bias in (mg.ones(3), mg.ones(1, 2), mg.ones(0), mg.ones(1, 1)):
        with pytest.raises(RuntimeError, match=r"bias must have shape \(2,\), got \("):
            F.linear(x, w, bias)
    with pytest.raises(RuntimeError, match="input must have at least one dimension"):
        F.linear(mg.tensor(1.0), w)
    with pytest.raises(RuntimeError, match=r"weight must be 2-D \(out_features, in_features\), got shape \(1, 2, 3\)"):
        F.linear(x, mg.ones(1, 2, 3))
    for arguments in (([[1.0]], w), (x, None), (None, w), (x, w, [1.0, 2.0]), (x.numpy(), w)):
        with pytest.raises(TypeError, match=r"(input|weight|bias)"):
            F.linear(*arguments)
    for rows, columns in ((2, 3), (1, 3), (2, 1), (1, 1)):
        assert (mg.zeros(rows, 0) @ mg.zeros(0, columns)).tolist() == [[0] * columns] * rows
    with pytest.warns(UserWarning, match="zero-element"):
        layer = mg.nn.Linear(0, 2)
    assert mg.equal(layer(mg.ones(3, 0)), layer.bias.expand(3, 2))


def test_in_place_changes_are_noticed():
    x, w, b = mg.ones(2, 3).requires_grad_(True), mg.ones(4, 3, requires_grad=True), mg.ones(4, requires_grad=True)
    for relu in (False, True):
        for changed in (x, w):
            y = F.linear(x, w, b, relu=relu)
            with mg.no_grad():
                changed.mul_(2)
            with pytest.raises(RuntimeError, match=r"modified by an inplace operation: the tensor of shape"):
                y.sum().backward()
        y = F.linear(x, w, b, relu=relu)
        with mg.no_grad():
            b.mul_(2)  # not needed again
        y.sum().backward()
    y = F.linear(x, w, b, relu=True)
    y.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_a_weight_that_needs_no_input_does_not_keep_it():
    """With frozen weights the input is not saved, and may be overwritten."""
    x, w = mg.ones(2, 3), mg.ones(4, 3)
    b = mg.zeros(4, requires_grad=True)
    y = F.linear(x, w, b)
    x.zero_()
    w.zero_()
    y.sum().backward()
    assert b.grad.tolist() == [2, 2, 2, 2]


def test_layer():
    layer = mg.nn.Linear(4, 3, dtype=mg.float64)
    x = mg.randn(5, 4, dtype=mg.float64)
    close(layer(x), x.numpy() @ layer.weight.detach().numpy().T + layer.bias.detach().numpy(), "float64")
    for p in layer.parameters():
        assert p.abs().max().item() <= 0.5
    assert mg.nn.Linear(4, 3, bias=False).bias is None
    assert mg.nn.Linear(4, 3, bias=False)(mg.ones(4)).shape == (3,)
