"""Matrix products: layouts, batches, dtypes, errors. The usual cases and all derivatives are in the table of ops."""

import itertools
import math

import numpy as np
import pytest

import minigrad as mg

R = np.random.default_rng(0)


def batches(array):
    """(name, tensor) of a batch of matrices in memory in different ways."""
    yield "contiguous", mg.from_numpy(array)
    yield "transposed", mg.from_numpy(np.ascontiguousarray(array.swapaxes(-1, -2))).transpose(-1, -2)
    wide = np.zeros((*array.shape[:-2], array.shape[-2] + 1, array.shape[-1] + 2), array.dtype)
    wide[..., 1:, 2:] = array
    yield "part of a larger one", mg.from_numpy(wide)[..., 1:, 2:]
    gaps = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    gaps[..., ::2] = array
    yield "every second column", mg.from_numpy(gaps)[..., ::2]
    if array.ndim > 2:
        last = np.ascontiguousarray(np.moveaxis(array, 0, -1))
        yield "batch last", mg.movedim(mg.from_numpy(last), -1, 0)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("one", "other"),
    [((5, 7), (7, 3)), ((2, 5, 7), (2, 7, 3)), ((2, 5, 7), (7, 3)), ((5, 7), (2, 7, 3)), ((3, 1, 5, 7), (2, 7, 3)),
     ((1, 7), (7, 1)), ((2, 1, 7), (2, 7, 1)), ((2, 5, 1), (2, 1, 3)), ((70, 66), (66, 65))],
)  # fmt: skip
def test_layouts(one, other, dtype):
    a, b = (R.standard_normal(shape).astype(dtype) for shape in (one, other))
    exact = a.astype(np.float64) @ b.astype(np.float64)
    for (name_a, x), (name_b, y) in itertools.product(batches(a), batches(b)):
        tolerance = 1e-5 if dtype is np.float32 else 1e-13
        np.testing.assert_allclose((x @ y).numpy(), exact, tolerance, 10 * tolerance, err_msg=f"{name_a} @ {name_b}")


@pytest.mark.parametrize(
    ("one", "other"),
    [((5, 7), (7, 3)), ((2, 5, 7), (7, 3)), ((5, 7), (2, 7, 3)), ((3, 1, 5, 7), (2, 7, 3)), ((7,), (2, 7, 3))],
)
def test_gradients_of_layouts(one, other):
    a, b = R.standard_normal(one), R.standard_normal(other)
    y = a @ b
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    x = a if a.ndim > 1 else a[None]
    g = dy if a.ndim > 1 else dy[..., None, :]
    da, db = g @ b.swapaxes(-1, -2), x.swapaxes(-1, -2) @ g
    da, db = (d.sum(tuple(range(d.ndim - t.ndim))) for d, t in ((da, x), (db, b)))
    da = da.sum(tuple(i for i in range(x.ndim - 2) if x.shape[i] == 1 and da.shape[i] > 1), keepdims=True).reshape(
        a.shape
    )
    for (_, p), (_, q), (_, d) in itertools.product(
        batches(a) if a.ndim > 1 else [(0, mg.from_numpy(a))], batches(b), batches(dy)
    ):
        p, q = p.detach().requires_grad_(), q.detach().requires_grad_()
        (p @ q).backward(d)
        np.testing.assert_allclose(p.grad.numpy(), da, 1e-12, 1e-12)
        np.testing.assert_allclose(q.grad.numpy(), db, 1e-12, 1e-12)


def test_broadcast_batches_are_not_copied():
    one = mg.ones(1, 64, 64).expand(500, 64, 64)
    assert (one @ mg.ones(64, 1)).shape == (500, 64, 1)
    assert (mg.ones(64, 64) @ mg.ones(500, 64, 1)).sum().item() == 500 * 64 * 64
    assert (mg.ones(1, 2, 3).expand(4, 2, 3) @ mg.ones(4, 3, 2)).tolist() == [[[3.0] * 2] * 2] * 4


def test_large_products_and_many_small_ones():
    a, b = R.standard_normal((300, 500)), R.standard_normal((500, 410))
    np.testing.assert_allclose((mg.from_numpy(a) @ mg.from_numpy(b)).numpy(), a @ b, 1e-10, 1e-10)
    a, b = R.standard_normal((6000, 2, 3)), R.standard_normal((6000, 3, 2))
    np.testing.assert_allclose((mg.from_numpy(a) @ mg.from_numpy(b)).numpy(), a @ b, 1e-12, 1e-12)
    a, b = R.standard_normal((3, 200, 150)), R.standard_normal((3, 150, 220))
    np.testing.assert_allclose((mg.from_numpy(a) @ mg.from_numpy(b)).numpy(), a @ b, 1e-11, 1e-11)


@pytest.mark.parametrize("dtype", [mg.int64, mg.int32, mg.int16, mg.int8, mg.uint8], ids=repr)
def test_integers(dtype):
    a, b = mg.tensor([[1, 2], [3, 4]], dtype=dtype), mg.tensor([[5, 6], [7, 8]], dtype=dtype)
    assert (
        (a @ b).dtype is dtype
        and (a @ b).tolist() == [[19, 22], [43, 50]]
        and (a @ b.T).tolist() == [[17, 23], [39, 53]]
    )
    assert (a @ b[0]).tolist() == [17, 39] and mg.dot(a[0], b[0]).item() == 17 and mg.dot(a[0], b[0]).shape == ()
    assert (mg.stack([a, a]) @ b).shape == (2, 2, 2) and mg.outer(a[0], b[0]).tolist() == [[5, 6], [10, 12]]


def test_integers_wrap():
    ones = mg.ones(200, dtype=mg.int8)
    assert (ones @ ones).item() == -56
    assert (mg.tensor([2**62, 2**62]) @ mg.tensor([2, 2])).item() == 0


def test_nothing_inside_gives_zeros():
    assert (mg.ones(2, 0) @ mg.ones(0, 3)).tolist() == [[0] * 3] * 2
    assert (mg.ones(4, 2, 0) @ mg.ones(0, 3)).tolist() == [[[0] * 3] * 2] * 4
    assert (mg.ones(4, 2, 0) @ mg.ones(4, 0, 3)).tolist() == [[[0] * 3] * 2] * 4
    assert mg.dot(mg.ones(0), mg.ones(0)).item() == 0 and (mg.ones(2, 0) @ mg.ones(0)).tolist() == [0, 0]
    assert (mg.ones(2, 0, dtype=mg.int64) @ mg.ones(0, 3, dtype=mg.int64)).tolist() == [[0] * 3] * 2
    assert (mg.ones(0, 2, 3) @ mg.ones(3, 4)).shape == (0, 2, 4) and (mg.ones(0, 3) @ mg.ones(3)).shape == (0,)


def test_nan_and_infinity():
    assert math.isnan((mg.tensor([[math.nan, 0.0]]) @ mg.zeros(2, 1)).item())
    assert math.isnan((mg.tensor([[math.inf, 1.0]]) @ mg.tensor([[0.0], [1.0]])).item())
    kept = mg.addmm(mg.full((2,), math.nan), mg.ones(2, 2), mg.ones(2, 2), beta=0)
    assert kept.tolist() == [[2, 2], [2, 2]]


def ones(*shape, dtype=mg.float32):
    return mg.ones(*shape, dtype=dtype)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: ones(4, 5) @ ones(3, 2), RuntimeError, r"mat1 and mat2 shapes cannot be multiplied \(4x5 and 3x2\)"),
        (lambda: ones(2, 4, 5) @ ones(3, 2), RuntimeError, r"cannot be multiplied \(8x5 and 3x2\)"),
        (lambda: ones(3) @ ones(4, 2), RuntimeError, r"cannot be multiplied \(1x3 and 4x2\)"),
        (lambda: ones(3) @ ones(4), RuntimeError, r"inconsistent tensor size, expected tensor \[3\] and src \[4\]"),
        (lambda: ones(2, 3) @ ones(4), RuntimeError, r"size mismatch, got input \(2\), mat \(2x3\), vec \(4\)"),
        (lambda: ones(2, 2, 3) @ ones(4), RuntimeError, r"size mismatch, got input \(4\), mat \(4x3\), vec \(4\)"),
        (lambda: ones(2, 2, 3) @ ones(2, 4, 3), RuntimeError, r"batch2 tensor to be: \[2, 3\] but got: \[2, 4\]"),
        (lambda: ones(2, 2, 3) @ ones(3, 3, 3), RuntimeError, r"size of tensor a \(2\) must.*b \(3\).*dimension 0"),
        (lambda: mg.tensor(1.0) @ ones(4), RuntimeError, "both arguments.*at least 1D, but they are 0D and 1D"),
        (lambda: ones(2, 3) @ ones(3, 2).double(), RuntimeError, "same dtype.*minigrad.float32 != minigrad.float64"),
        (lambda: ones(2, 3) @ ones(3, 2).long(), RuntimeError, "same dtype.*minigrad.float32 != minigrad.int64"),
        (lambda: ones(2, 2, dtype=mg.bool) @ ones(2, 2, dtype=mg.bool), NotImplementedError, "bool"),
        (lambda: mg.mm(ones(2, 2), ones(2)), RuntimeError, "mat2 must be a matrix"),
        (lambda: mg.mm(ones(2), ones(2, 2)), RuntimeError, "self must be a matrix"),
        (lambda: mg.mm(ones(2, 3), ones(2, 3)), RuntimeError, r"cannot be multiplied \(2x3 and 2x3\)"),
        (lambda: mg.bmm(ones(2, 2), ones(2, 2, 2)), RuntimeError, "batch1 must be a 3D tensor"),
        (lambda: mg.bmm(ones(1, 2, 2), ones(2, 2, 2)), RuntimeError, r"\[1, 2\] but got: \[2, 2\]"),
        (lambda: mg.mv(ones(2), ones(2)), RuntimeError, r"vector \+ matrix @ vector expected"),
        (lambda: mg.dot(ones(2, 2), ones(2)), RuntimeError, "1D tensors expected, but got 2D and 1D tensors"),
        (lambda: mg.outer(ones(2, 2), ones(2)), RuntimeError, "outer: Expected 1-D argument self, but got 2-D"),
        (lambda: mg.addmm(ones(3), ones(2, 2), ones(2, 2)), RuntimeError, r"\(2, 2\).*\(3,\)|must match"),
        (lambda: mg.matmul(ones(2), [1, 2]), TypeError, "list"),
        (lambda: ones(2, 2) @ 3, TypeError, "int"),
    ],
)  # fmt: skip
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_only_what_is_needed_is_saved():
    """Changing an operand in place is harmless when no gradient reads it."""
    x, w = ones(2, 3), ones(3, 2).requires_grad_()
    y = x @ w
    with mg.no_grad():
        w *= 2  # only the gradient of x would need w
    y.sum().backward()
    assert w.grad.tolist() == [[2, 2]] * 3
    y = x @ w
    x += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_result_is_its_own_tensor():
    y = ones(2, 3, 4) @ ones(4, 5)
    assert y._base is None and y.is_contiguous()
    x = ones(3).requires_grad_()
    y = ones(2, 3) @ x
    y += 1
    y.sum().backward()
    assert x.grad.tolist() == [2, 2, 2]


def test_same_operand_twice():
    x = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True)
    (x @ x).sum().backward()
    assert x.grad.tolist() == [[7, 11], [9, 13]]
    x.grad = None
    (x @ x.T).sum().backward()
    assert x.grad.tolist() == [[8, 12], [8, 12]]
    v = mg.tensor([1.0, 2.0], requires_grad=True)
    (v @ v).backward()
    assert v.grad.tolist() == [2, 4]


def test_threads_do_not_change_bits():
    a, b = (mg.from_numpy(R.standard_normal(shape).astype(np.float32)) for shape in ((4, 130, 200), (200, 170)))
    before, found = mg.get_num_threads(), []
    try:
        for n in (1, 2, 3):
            mg.set_num_threads(n)
            found.append([(a @ b).numpy().tobytes(), (a[0] @ b).numpy().tobytes(), (b.T @ a.mT).numpy().tobytes()])
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] == found[2]
