"""Reductions, softmax and running sums for a GPU, in the simulator, beside the CPU kernels' references."""

import numpy as np
import pytest

from minigrad.kernels import contract as cpu
from minigrad.kernels import reduce
from minigrad.kernels.cuda import contract

pytestmark = pytest.mark.cuda_sim
INF, NAN = np.inf, np.nan
SHAPES = [  # outer, n, inner
    (0, 3, 1), (1, 1, 1), (3, 1, 5), (70, 2, 1), (5, 31, 1), (2, 257, 1), (1, 1100, 1), (2, 9, 3), (1, 33, 40),
    (2, 4, 70), (1, 150, 2),
]  # fmt: skip


def data(dtype, size, spread=1):
    rng = np.random.default_rng(7 + size)
    if dtype == "bool":
        return rng.random(size) < 0.8
    if dtype.startswith("float"):
        return (rng.standard_normal(size) * spread).astype(dtype)
    return rng.integers(0 if dtype == "uint8" else -9, 9, size).astype(dtype)


def eps(dtype):
    return float(np.finfo(dtype).eps) if dtype.startswith("float") else 0


def reference(name, arrays, dims):
    cpu.registered()
    with np.errstate(all="ignore"):
        cpu._registry[f"reduce.{name}"].reference_fn(*arrays, *dims)


def check(name, outputs, inputs, dims, units, t, u="", tolerance=0.0, scale=1.0, threads=64):
    """The kernel agrees with the CPU kernel's reference within tolerance * scale."""
    got = [np.full(shape, 77, dtype) for shape, dtype in outputs]
    contract.simulate(f"reduce.{name}", t, u, [*got, *inputs], dims, (), units, threads=threads)
    want = [np.full(shape, 77, np.float64 if np.dtype(dtype).kind == "f" else dtype) for shape, dtype in outputs]
    reference(name, [*want, *inputs], dims)
    for g, w in zip(got, want):
        if g.dtype.kind == "f":
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale, err_msg=f"{name} {t} {dims}")
        else:
            np.testing.assert_array_equal(g, w, err_msg=f"{name} {t} {dims}")
    return got


FOLDS = [
    ("sum", "float32", "float32"),
    ("sum", "float64", "float64"),
    ("sum", "bool", "int64"),
    ("sum", "int32", "int64"),
    ("sum_squares", "float32", "float64"),
    ("prod", "float32", "float32"),
    ("prod", "int64", "int64"),
    ("all", "bool", ""),
    ("any", "float32", ""),
    ("max", "float32", ""),
    ("min", "uint8", ""),
]


def fold_data(name, t, size):
    x = data(t, size)
    if name == "prod":
        return np.sign(x) * (np.abs(x) / 4 + 0.8).astype(t)
    if name in ("all", "any"):
        x[: size // 2] = name == "all"
        x[size // 2 :][np.arange(size - size // 2) % 7 != 0] = name == "all"
    return x


@pytest.mark.parametrize(("name", "t", "u"), FOLDS)
def test_fold(name, t, u):
    out = u or (t if name in ("max", "min") else "uint8")
    for k, (outer, n, inner) in enumerate(SHAPES):
        if name == "prod" and n > 300:
            continue
        x = fold_data(name, t, outer * n * inner)
        scale, tolerance = np.sqrt(n) if name == "sum" else 0, 4 * eps(out)
        blocks = 1 if k % 2 else 3
        block = -(-n // blocks)
        blocks = -(-n // block)
        dims, shape = (n, inner, block, blocks), (outer * blocks, inner)
        check(name, [(shape, out)], [x], dims, outer * blocks, t, u, tolerance, scale)
        if k % 3 == 0:
            units = outer * -(-inner // reduce.TILE)
            check(f"{name}_columns", [((outer, inner), out)], [x], (n, inner), units, t, u, tolerance, scale)


def test_whole_blocks():
    for name, shape in (("sum", (1, 1500, 1)), ("maxdim", (1, 1500, 1)), ("sum", (2, 3, 300)), ("maxdim", (1, 70, 9))):
        outer, n, inner = shape
        x, index = data("float32", outer * n * inner), name == "maxdim"
        outputs, extra = [((outer, inner), "float32"), ((outer, inner), "int64")], ([None], (0,))
        dims = (n, inner, n, 1, *(extra[1] if index else ()))
        inputs = [x, *(extra[0] if index else [])]
        tolerance = 4 * eps("float32")
        check(name, outputs[: 1 + index], inputs, dims, outer, "float32", "float32", tolerance, np.sqrt(n), threads=256)


def test_sums_keep_their_digits_and_infinities():
    x, y = np.full(3000, 0.1, np.float32), np.zeros(1, np.float32)
    contract.simulate("reduce.sum", "float32", "", [y, x], (3000, 1, 3000, 1), (), 1, threads=64)
    assert y[0] == np.float32(3000 * np.float64(np.float32(0.1)))
    for n, inner in ((10, 1), (200, 3)):
        x, y = np.zeros((n, inner), np.float32), np.zeros(inner, np.float32)
        for value, place in ((INF, n // 2), (-INF, n // 3)):
            x[place] = value
            contract.simulate("reduce.sum", "float32", "", [y, x], (n, inner, n, 1), (), 1, threads=64)
            assert (y == INF).all() if value == INF else np.isnan(y).all()


def test_sum_of_nothing():
    for name, value in (("sum", 0), ("prod", 1)):
        for inner in (1, 5):
            y = np.full(inner, 9, np.float32)
            contract.simulate(f"reduce.{name}", "float32", "", [y, None], (0, inner, 0, 1), (), 1, threads=64)
            assert (y == value).all()


def extreme_data(t, size, nans):
    x = data(t, size)
    if t.startswith("float"):
        rng = np.random.default_rng(3)
        x = np.round(x) * np.dtype(t).type(0.5)  # ties, 0 and -0
        x[rng.random(size) < 0.02] = -INF
        if nans:
            x[rng.random(size) < 0.02] = INF
            x[rng.random(size) < 0.02] = NAN
    return x


@pytest.mark.parametrize(("name", "t"), [("maxdim", "float32"), ("mindim", "float64"), ("mindim", "uint8")])
def test_extreme(name, t):
    pick = np.argmax if name == "maxdim" else np.argmin
    for k, (outer, n, inner) in enumerate(SHAPES):
        x = extreme_data(t, outer * n * inner, k % 2)
        block = n if k % 3 else 1 + n // 3
        blocks = -(-n // block)
        spec = [((outer, blocks, inner), t), ((outer, blocks, inner), "int64")]
        y, index = check(name, spec, [x, None], (n, inner, block, blocks, 0), outer * blocks, t)
        spec = [((outer, inner), t), ((outer, inner), "int64")]
        _, whole = check(name, spec, [y, index], (blocks, inner, blocks, 1, 1), outer, t)  # the partial results
        np.testing.assert_array_equal(whole, pick(x.reshape(outer, n, inner), 1))
        if k % 3 == 0:
            check(f"{name}_columns", spec, [x], (n, inner), outer * -(-inner // reduce.TILE), t)


ROWS = [(0, 3), (1, 1), (90, 10), (7, 2), (3, 64), (2, 131), (1, 1100)]
SOFTMAX = [("softmax", "float32"), ("log_softmax", "float32"), ("log_softmax", "float64"), ("logsumexp", "float32")]
SOFTMAX += [("dsoftmax", "float32"), ("dlog_softmax", "float64")]


@pytest.mark.parametrize(("name", "t"), SOFTMAX)
def test_softmax(name, t):
    for rows, n in ROWS:
        x = data(t, rows * n, 5)
        shape = (rows,) if name == "logsumexp" else (rows, n)
        inputs = [x]
        if name.startswith("d"):
            y = np.zeros((rows, n), t)
            reference(name[1:], [y, x], (n,))
            inputs = [data(t, rows * n + 1)[1:], y]
        check(name, [(shape, t)], inputs, (n,), rows, t, tolerance=16 * eps(t))


@pytest.mark.parametrize(("name", "t"), [row for row in SOFTMAX if row[0] != "logsumexp"])
def test_softmax_columns(name, t):
    for outer, n, inner in [(0, 3, 20), (2, 7, 20), (1, 65, 64), (3, 10, 70), (1, 30, 1)]:
        shape = (outer, n, inner)
        inputs = [data(t, outer * n * inner, 5).reshape(shape)]
        if name.startswith("d"):
            y = np.zeros(shape, t)
            reference(f"{name[1:]}_columns", [y, inputs[0]], (n, inner))
            inputs = [data(t, y.size + 1)[1:], y]
        units = outer * -(-inner // reduce.STRIPE)
        check(f"{name}_columns", [(shape, t)], inputs, (n, inner), units, t, tolerance=16 * eps(t))


def test_softmax_extremes():
    table = [  # row, softmax, logsumexp: as PyTorch
        ([0, 0], [0.5, 0.5], np.log(2)),
        ([-INF, 0], [0, 1], 0),
        ([-INF, -INF], [NAN, NAN], -INF),
        ([INF, 0], [NAN, NAN], INF),
        ([INF, INF], [NAN, NAN], INF),
        ([INF, -INF], [NAN, NAN], INF),
        ([NAN, 0], [NAN, NAN], NAN),
        ([0, NAN], [NAN, NAN], NAN),
        ([NAN, INF], [NAN, NAN], NAN),
        ([1e4, -1e4], [1, 0], 1e4),
        ([-1e4, -1e4], [0.5, 0.5], -1e4 + np.log(2)),
    ]
    one = np.zeros(3, np.float32)
    contract.simulate("reduce.logsumexp", "float32", "", [one, None], (0,), (), 3, threads=32)
    assert (one == -INF).all()
    for n in (2, 64):
        x = np.full((len(table), n), -INF, np.float32)
        x[:, [0, n - 1]] = [row for row, _, _ in table]
        want = np.zeros_like(x)
        want[:, [0, n - 1]] = [soft for _, soft, _ in table]
        want[np.isnan(want[:, 0])] = NAN
        y, z, s = np.zeros_like(x), np.zeros_like(x), np.zeros(len(x), np.float32)
        for name, out in (("softmax", y), ("log_softmax", z), ("logsumexp", s)):
            contract.simulate(f"reduce.{name}", "float32", "", [out, x], (n,), (), len(x), threads=64)
        np.testing.assert_allclose(y, want, rtol=1e-6)
        np.testing.assert_allclose(s, [lse for _, _, lse in table], rtol=1e-6)
        expected = np.zeros(x.shape)
        reference("log_softmax", [expected, x], (n,))
        np.testing.assert_allclose(z, expected, rtol=1e-6)


RUNNING = [("cumsum", "float32", "float64"), ("cumsum", "int32", "int64"), ("cumprod", "float64", "float64")]


@pytest.mark.parametrize(("name", "t", "u"), RUNNING)
def test_running(name, t, u):
    for outer, n, inner in [
        (0, 3, 1),
        (3, 1, 5),
        (70, 2, 1),
        (5, 31, 1),
        (2, 300, 1),
        (1, 1100, 1),
        (2, 9, 3),
        (1, 40, 2),
    ]:
        x = data(t, outer * n * inner)
        if name == "cumprod":
            x = np.sign(x).astype(t)
        for block in {n, -(-n // 3)}:
            blocks, carry = -(-n // block), None
            if blocks > 1:
                all_of = (np.cumsum if name == "cumsum" else np.cumprod)(x.reshape(outer, n, inner).astype(u), 1)
                carry = np.ascontiguousarray(all_of[:, [min(n, (k + 1) * block) - 1 for k in range(blocks)]])
            dims = (n, inner, block, blocks)
            arrays = [x, np.zeros(0, u) if carry is None else carry]
            check(name, [(x.shape, t)], arrays, dims, outer * blocks, t, u, 4 * eps(t), 10, threads=64)
