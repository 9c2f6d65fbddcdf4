"""Reductions, softmax and running sums against their NumPy references."""

import numpy as np
import pytest

from minigrad.kernels import reduce

from .harness import reference, run

SEED = 7
SHAPES = [  # outer, n, inner
    (0, 3, 1), (1, 1, 1), (3, 1, 5), (2, 7, 1), (5, 10, 1), (3, 63, 1), (2, 64, 1), (3, 131, 1), (1, 5000, 1),
    (1, 128, 10), (2, 9, 3), (3, 17, 127), (2, 8, 128), (1, 33, 129), (1, 3, 1300), (2, 1000, 2), (1, 300, 33),
]  # fmt: skip
INF, NAN = np.inf, np.nan


def data(dtype, size):
    rng = np.random.default_rng(SEED + size)
    if dtype == "bool":
        return rng.random(size) < 0.8
    if dtype.startswith("float"):
        return rng.standard_normal(size).astype(dtype)
    return rng.integers(0 if dtype == "uint8" else -9, 9, size).astype(dtype)


def check(name, outputs, inputs, dims, units, t, u="", tolerance=0.0, scale=1.0):
    """The kernel agrees with its reference within tolerance * scale, and in any split to the bit."""
    got = [np.full(shape, 77, dtype) for shape, dtype in outputs]
    run(name, [*got, *inputs], dims, units=units, t=t, u=u)
    want = [np.full(shape, 77, np.float64 if np.dtype(dtype).kind == "f" else dtype) for shape, dtype in outputs]
    reference(name, [*want, *inputs], dims)
    for g, w in zip(got, want):
        if g.dtype.kind == "f":
            np.testing.assert_allclose(g, w, rtol=tolerance, atol=tolerance * scale, err_msg=f"{name} {t} {dims}")
        else:
            np.testing.assert_array_equal(g, w, err_msg=f"{name} {t} {dims}")
    parts = [np.full(shape, 77, dtype) for shape, dtype in outputs]
    edges = sorted({0, units // 5, units // 2 + 1 if units > 1 else units, units})
    for lo, hi in zip(edges, edges[1:]):
        run(name, [*parts, *inputs], dims, units=hi, t=t, u=u, lo=lo)
    for g, p in zip(got, parts):
        assert g.tobytes() == p.tobytes(), f"{name} {t} {dims} depends on the split"
    return got


def eps(dtype):
    return float(np.finfo(dtype).eps)


FOLDS = [
    ("sum", "float32", "float32"),
    ("sum", "bool", "int64"),
    ("sum_squares", "float64", "float64"),
    ("prod", "float32", "float32"),
    ("all", "bool", ""),
    ("any", "float32", ""),
]


def fold_data(name, t, size):
    x = data(t, size)
    if name == "prod":
        return np.sign(x) * (np.abs(x) / 4 + 0.8).astype(t)
    if name in ("all", "any"):
        x[: size // 2] = name == "all"
        x[size // 2 :][np.arange(size - size // 2) % 7 != 0] = name == "all"
    return x


def twins(name, inner):
    """The kernels that may reduce this shape."""
    return [f"reduce.{name}", f"reduce.{name}_rows"] if inner == 1 else [f"reduce.{name}"]


@pytest.mark.parametrize(("name", "t", "u"), FOLDS)
def test_fold(name, t, u):
    out = u or "uint8"
    tolerance = 30 * eps(out) if out.startswith("float") else 0
    for outer, n, inner in SHAPES:
        if name == "prod" and n > 300:
            continue
        x = fold_data(name, t, outer * n * inner)
        scale = np.sqrt(n) if name == "sum" else 0
        for block in {n, 4, 1 + n // 3}:
            blocks = -(-n // block)
            dims, shape = (n, inner, block, blocks), (outer * blocks, inner)
            for kernel in twins(name, inner):
                check(kernel, [(shape, out)], [x], dims, outer * blocks, t, u, tolerance, scale)


def test_sum_columns():
    for outer, n, inner in SHAPES:
        x = data("float32", outer * n * inner)
        units = outer * -(-inner // reduce.TILE)
        spec = [((outer, inner), "float32")]
        tolerance = 30 * eps("float32")
        check("reduce.sum_columns", spec, [x], (n, inner), units, "float32", "float32", tolerance, np.sqrt(n))


@pytest.mark.parametrize(("outer", "n", "inner"), [(1, 100_000, 1), (1, 20_000, 3), (1, 20_000, 300)])
def test_sum_is_accurate(outer, n, inner):
    x = np.full(n * inner, 0.1, np.float32)
    block = 1024
    blocks = -(-n // block)
    part, y = np.zeros(blocks * inner, np.float32), np.zeros(inner, np.float32)
    for kernel in twins("sum", inner):
        run(kernel, [part, x], (n, inner, block, blocks), units=blocks, u="float32")
        run(kernel, [y, part], (blocks, inner, blocks, 1), units=1, u="float32")
        np.testing.assert_allclose(y, n * np.float64(np.float32(0.1)), rtol=8 * eps("float32"))
        run(kernel, [y, x], (n, inner, n, 1), units=1, u="float32")  # one block: still no running sum
        np.testing.assert_allclose(y, n * np.float64(np.float32(0.1)), rtol=32 * eps("float32"))


def test_empty_sum_is_identity():
    for name, value in [("sum", 0), ("prod", 1)]:
        for inner in (1, 5, 200):
            for kernel in twins(name, inner):
                y = np.full(inner, 9, np.float32)
                run(kernel, [y, np.zeros(0, np.float32)], (0, inner, 0, 1), units=1, u="float32")
                assert (y == value).all()


def test_nan_and_inf_survive_sums():
    for n, inner in [(10, 1), (1000, 1), (100, 3), (100, 300)]:
        for kernel in twins("sum", inner):
            x = np.zeros((n, inner), np.float32)
            x[n // 2], y = INF, np.zeros(inner, np.float32)
            run(kernel, [y, x], (n, inner, n, 1), units=1, u="float32")
            assert (y == INF).all()
            x[n // 3] = -INF
            run(kernel, [y, x], (n, inner, n, 1), units=1, u="float32")
            assert np.isnan(y).all()


EXTREMES = [("maxdim", "float32"), ("mindim", "float64"), ("mindim", "uint8")]


def extreme_data(t, size, nans):
    x = data(t, size)
    if t.startswith("float"):
        rng = np.random.default_rng(3)
        x = np.round(x) * np.dtype(t).type(0.5)  # ties, 0 and -0
        x[rng.random(size) < 0.02] = -INF
        if nans:
            x[rng.random(size) < 0.02] = INF
            x[rng.random(size) < 0.02] = NAN
            x[rng.random(size) < 0.02] = -np.float64(NAN)  # nan of either sign
    return x


@pytest.mark.parametrize(("name", "t"), EXTREMES)
def test_extreme(name, t):
    pick = np.argmax if name == "maxdim" else np.argmin
    for nans in (False, True) if t.startswith("float") else (False,):
        for outer, n, inner in SHAPES:
            x = extreme_data(t, outer * n * inner, nans)
            for block in {n, 70, 1 + n // 3}:
                blocks = -(-n // block)
                spec = [((outer, blocks, inner), t), ((outer, blocks, inner), "int64")]
                dims = (n, inner, block, blocks, 0)
                for kernel in twins(name, inner):
                    y, index = check(kernel, spec, [x, None], dims, outer * blocks, t)
                spec = [((outer, inner), t), ((outer, inner), "int64")]
                dims = (blocks, inner, blocks, 1, 1)
                for kernel in twins(name, inner):
                    _, whole = check(kernel, spec, [y, index], dims, outer, t)  # the partials
                    np.testing.assert_array_equal(whole, pick(x.reshape(outer, n, inner), 1))
            if (name, t) == EXTREMES[0]:
                check("reduce.maxdim_columns", spec, [x], (n, inner), outer * -(-inner // reduce.TILE), t)


ROWS = [(0, 3), (1, 1), (128, 10), (7, 2), (3, 63), (3, 64), (5, 131), (2, 1000), (2, 5000)]


SOFTMAX = [("softmax", "float32"), ("log_softmax", "float32"), ("logsumexp", "float32")]
SOFTMAX += [("dsoftmax", "float32"), ("dlog_softmax", "float64")]


@pytest.mark.parametrize(("name", "t"), SOFTMAX)
def test_softmax(name, t):
    for rows, n in ROWS:
        x = data(t, rows * n) * np.dtype(t).type(5)
        shape = (rows,) if name == "logsumexp" else (rows, n)
        inputs = [x]
        if name.startswith("d"):
            y = np.zeros((rows, n), t)
            reference(f"reduce.{name[1:]}", [y, x], (n,))
            inputs = [data(t, rows * n + 1)[1:], y]
        check(f"reduce.{name}", [(shape, t)], inputs, (n,), rows, t, tolerance=40 * eps(t))


@pytest.mark.parametrize(("name", "t"), [row for row in SOFTMAX if row[0] != "logsumexp"])
def test_softmax_columns(name, t):
    for outer, n, inner in [(0, 3, 20), (2, 7, 20), (1, 65, 64), (3, 10, 131), (1, 300, 17)]:
        shape = (outer, n, inner)
        inputs = [data(t, outer * n * inner).reshape(shape) * np.dtype(t).type(5)]
        if name.startswith("d"):
            y = np.zeros(shape, t)
            reference(f"reduce.{name[1:]}_columns", [y, inputs[0]], (n, inner))
            inputs = [data(t, y.size + 1)[1:], y]
        units = outer * -(-inner // reduce.STRIPE)
        check(f"reduce.{name}_columns", [(shape, t)], inputs, (n, inner), units, t, tolerance=40 * eps(t))


def test_softmax_extremes():
    # row, softmax, logsumexp: as PyTorch
    table = [
        ([0, 0], [0.5, 0.5], np.log(2)),
        ([-INF, 0], [0, 1], 0),
        ([-INF, -INF], [NAN, NAN], -INF),
        ([INF, 0], [NAN, NAN], INF),
        ([INF, INF], [NAN, NAN], INF),
        ([INF, -INF], [NAN, NAN], INF),
        ([NAN, 0], [NAN, NAN], NAN),
        ([0, NAN], [NAN, NAN], NAN),
        ([1e4, -1e4], [1, 0], 1e4),
        ([-1e4, -1e4], [0.5, 0.5], -1e4 + np.log(2)),
    ]
    one = np.zeros(3, np.float32)
    run("reduce.logsumexp", [one, one], (0,), units=3)
    assert (one == -INF).all()
    for n in (2, 10, 64, 200):
        for row, soft, lse in table:
            x = np.full((1, n), -INF, np.float32)
            x[0, [0, n - 1]] = row
            want = np.full(n, 0.0 if not np.isnan(soft[0]) else NAN)
            want[[0, n - 1]] = soft
            y, z, one = np.zeros_like(x), np.zeros_like(x), np.zeros(1, np.float32)
            run("reduce.softmax", [y, x], (n,), units=1)
            run("reduce.log_softmax", [z, x], (n,), units=1)
            run("reduce.logsumexp", [one, x], (n,), units=1)
            np.testing.assert_allclose(y[0], want, rtol=1e-6, err_msg=str((n, row)))
            np.testing.assert_allclose(one[0], lse, rtol=1e-6, err_msg=str((n, row)))
            expected = np.full((1, n), 1.0)
            reference("reduce.log_softmax", [expected, x], (n,))
            np.testing.assert_allclose(z, expected, rtol=1e-6, err_msg=str((n, row)))


RUNNING = [("cumsum", "float32", "float64"), ("cumsum", "int32", "int64"), ("cumprod", "float64", "float64")]


@pytest.mark.parametrize(("name", "t", "u"), RUNNING)
def test_running(name, t, u):
    for outer, n, inner in SHAPES:
        x = data(t, outer * n * inner)
        if name == "cumprod":
            x = np.sign(x).astype(t)
        tolerance = 4 * eps(t) if t.startswith("float") else 0
        for block in {n, -(-n // 3)}:
            blocks, carry = -(-n // block), None
            if blocks > 1:
                all_of = (np.cumsum if name == "cumsum" else np.cumprod)(x.reshape(outer, n, inner).astype(u), 1)
                carry = np.ascontiguousarray(all_of[:, [min(n, (k + 1) * block) - 1 for k in range(blocks)]])
            dims = (n, inner, block, blocks)
            check(f"reduce.{name}", [(x.shape, t)], [x, carry], dims, outer * blocks, t, u, tolerance, 10)
