"""What the table of operations does not show of reductions: dtypes, empty inputs, nan, ties, errors, accuracy."""

import math
import warnings

import numpy as np
import pytest

import minigrad as mg

from .dtypes import each_dtype

NAN, INF = math.nan, math.inf
INTEGERS = (mg.int64, mg.int32, mg.int16, mg.int8, mg.uint8)


def gradient(f, values):
    """The gradient of sum(f(x)) in float64, as a list."""
    x = mg.tensor(values, dtype=mg.float64, requires_grad=True)
    f(x).sum().backward()
    return x.grad.tolist()


def same(found, expected):
    np.testing.assert_allclose(np.asarray(found), expected, 1e-12, 1e-12)


# --- dtypes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", each_dtype(INTEGERS), ids=repr)
def test_integers(dtype):
    x = mg.tensor([[1, 2, 3], [100, 120, 7]], dtype=dtype)
    for y, expected in (
        (x.sum(), 233), (x.sum(0), [101, 122, 10]), (x.prod(1), [6, 84000]),
        (x.cumsum(1), [[1, 3, 6], [100, 220, 227]]),
        (x.cumprod(1), [[1, 2, 6], [100, 12000, 84000]]), (x.argmax(1), [2, 1]), (x.count_nonzero(), 6),
        (x.max(0).indices, [1, 1, 1]),
    ):  # fmt: skip
        assert y.dtype is mg.int64 and y.tolist() == expected
    for y, expected in ((x.max(), 120), (x.amin(1), [1, 7]), (x.min(1).values, [1, 7]), (x.amax((0, 1)), 120)):
        assert y.dtype is dtype and y.tolist() == expected
    truth = mg.uint8 if dtype is mg.uint8 else mg.bool
    assert x.all().dtype is truth and x.any(0).dtype is truth and x.all(1).tolist() == [1, 1]
    assert x.sum(dtype=mg.float64).dtype is mg.float64 and x.mean(dtype=mg.float32).item() == np.float32(233 / 6)
    assert x.logsumexp(1).dtype is mg.float32 and x.softmax(1, dtype=mg.float64).dtype is mg.float64
    assert x.norm(dtype=mg.float32).dtype is mg.float32


def test_bools():
    x = mg.tensor([[True, False], [True, True]])
    assert x.sum().dtype is mg.int64 and x.sum(0).tolist() == [2, 1]
    assert x.prod(1).tolist() == [0, 1] and x.prod().dtype is mg.int64
    assert x.all(1).tolist() == [False, True] and x.any().item() is True
    assert x.max().item() is True and x.max(1).indices.tolist() == [0, 0] and x.amin(0).tolist() == [True, False]
    assert x.cumsum(0).tolist() == [[1, 0], [2, 1]] and x.cumsum(0).dtype is mg.int64
    assert mg.tensor([-1, 1]).sum(dtype=mg.bool).item() is True
    with pytest.raises(RuntimeError, match="does not support bool"):
        x.argmax()


def test_wrapping_and_conversion():
    assert mg.tensor([100, 100], dtype=mg.int8).sum(dtype=mg.int8).item() == -56
    assert mg.tensor([2**62, 2**62]).sum().item() == -(2**63)
    assert mg.tensor([1.7, 1.7]).sum(dtype=mg.int64).item() == 2  # converted first, as in PyTorch
    x = mg.tensor([1.5, 2.5], requires_grad=True)
    y = x.sum(dtype=mg.float64)
    assert y.dtype is mg.float64
    y.backward()
    assert x.grad.dtype is mg.float32 and x.grad.tolist() == [1, 1]


# --- empty ------------------------------------------------------------------------------------------------------------


def test_empty():
    e = mg.zeros(0, 3)
    assert e.sum().item() == 0 and e.sum(0).tolist() == [0, 0, 0] and e.sum(1).tolist() == []
    assert e.prod(0).tolist() == [1, 1, 1] and math.isnan(e.mean().item()) and e.norm().item() == 0
    assert e.all().item() is True and e.any(0).tolist() == [False] * 3 and e.count_nonzero().item() == 0
    assert e.logsumexp(0).tolist() == [-INF] * 3 and e.softmax(0).shape == e.softmax(1).shape == (0, 3)
    assert e.cumsum(0).shape == (0, 3) and e.norm(1, 0).tolist() == [0, 0, 0] and e.norm(INF, 1).shape == (0,)
    assert e.amax(1).shape == (0,) and e.argmin(1).dtype is mg.int64 and e.max(1).values.shape == (0,)
    assert mg.zeros(0, dtype=mg.int32).sum().dtype is mg.int64
    for f in (mg.Tensor.sum, mg.Tensor.prod, mg.Tensor.mean, mg.Tensor.norm):
        x = mg.zeros(0, 3, requires_grad=True)
        f(x).backward()
        assert x.grad.shape == (0, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda e: e.max(), RuntimeError, r"max\(\): Expected reduction dim to be specified for input.numel\(\) == 0"),
        (lambda e: e.amin(), RuntimeError, r"amin\(\): Expected reduction dim to be specified"),
        (lambda e: e.argmax(), IndexError, r"argmax\(\): Expected reduction dim to be specified"),
        (lambda e: e.max(0), IndexError, r"max\(\): Expected reduction dim 0 to have non-zero size"),
        (lambda e: e.amax(0), IndexError, r"amax\(\): Expected reduction dim 0 to have non-zero size"),
        (lambda e: e.argmin(0), IndexError, r"argmin\(\): Expected reduction dim 0 to have non-zero size"),
        (lambda e: e.norm(INF), RuntimeError, "does not have an identity"),
        (lambda e: e.norm(-INF, 0), RuntimeError, "does not have an identity"),
    ],
)
def test_extremes_of_nothing(call, error, text):
    with pytest.raises(error, match=text):
        call(mg.zeros(0, 3))


# --- errors -----------------------------------------------------------------------------------------------------------

X = mg.arange(6.0).reshape(2, 3)


@pytest.mark.parametrize(
    ("call", "error", "text"),
    [
        (lambda: X.sum(2), IndexError, r"expected to be in range of \[-2, 1\], but got 2"),
        (lambda: X.sum((0, 0)), RuntimeError, "dim 0 appears multiple times"),
        (lambda: X.mean((1, -1)), RuntimeError, "dim 1 appears multiple times"),
        (lambda: X.sum(1.0), TypeError, "float"),
        (lambda: X.sum("a"), TypeError, "str"),
        (lambda: X.softmax(-3), IndexError, "Dimension out of range"),
        (lambda: X.cumsum(2), IndexError, "Dimension out of range"),
        (lambda: X.max(2), IndexError, "Dimension out of range"),
        (lambda: mg.tensor(1.0).sum(1), IndexError, r"range of \[-1, 0\], but got 1"),
        (lambda: mg.tensor([1, 2]).mean(), RuntimeError, "could not infer output dtype.*minigrad.int64"),
        (lambda: mg.tensor([1, 2]).softmax(0), NotImplementedError, "softmax.*minigrad.int64"),
        (lambda: mg.tensor([1, 2]).log_softmax(0), NotImplementedError, "log_softmax.*minigrad.int64"),
        (lambda: mg.tensor([1, 2]).var(), RuntimeError, "only support floating point"),
        (lambda: mg.tensor([1, 2]).norm(), RuntimeError, "floating point.*minigrad.int64"),
        (lambda: X.norm("nuc"), RuntimeError, "nuc"),
        (lambda: X.var(0, unbiased=True, correction=0), TypeError, "not both"),
        (lambda: mg.sum([1, 2]), TypeError, r"sum\(\): argument 'input' must be Tensor, not list"),
        (lambda: mg.max([1, 2]), TypeError, "must be Tensor, not list"),
    ],
)
def test_errors(call, error, text):
    with pytest.raises(error, match=text):
        call()


# --- dims -------------------------------------------------------------------------------------------------------------


def test_dims():
    x = mg.arange(24.0).reshape(2, 3, 4)
    for every in ((), [], None, (0, 1, 2), [2, 0, 1], (-1, -2, -3)):
        assert x.sum(every).item() == x.amax(every if every is not None else ()).item() * 12
    assert x.sum([0, 2]).tolist() == x.sum((0, 2)).tolist() and x.sum((0, 2), True).shape == (1, 3, 1)
    assert mg.tensor(3.0).sum(0).item() == mg.tensor(3.0).sum(-1, keepdim=True).item() == 3
    assert mg.tensor(3.0).softmax(0).item() == 1 and mg.tensor(3.0).cumsum(-1).item() == 3
    assert mg.tensor([0.0, 2.0]).any(()).tolist() == [False, True]  # here () are no dimensions, as in PyTorch
    assert x.argmax(keepdim=True).shape == (1, 1, 1) and x.argmax(keepdim=True).item() == 23
    assert x.sum(np.int64(1)).shape == (2, 4)


def test_var_arguments():
    x = mg.tensor([1.0, 2.0, 4.0])
    biased = 14 / 9
    for y in (x.var(False), x.var(unbiased=False), x.var(0, False), x.var(correction=0), x.var(0, correction=0)):
        assert y.item() == pytest.approx(biased, rel=1e-6)
    for y in (x.var(), x.var(True), x.var(None, True), x.var(correction=1)):
        assert y.item() == pytest.approx(biased * 1.5, rel=1e-6)
    assert x.std(correction=0).item() == pytest.approx(biased**0.5, rel=1e-6)


@pytest.mark.parametrize("call", [lambda x: x.var(), lambda x: x.std(), lambda x: x.var(0, correction=3)])
def test_var_of_too_few(call):
    with pytest.warns(UserWarning, match="degrees of freedom is <= 0"):
        assert math.isnan(call(mg.tensor([1.0])).item())
    with pytest.warns(UserWarning, match="degrees of freedom"):
        assert all(map(math.isnan, gradient(call, [1.0])))


def test_var_is_computed_around_the_mean():
    x = np.random.default_rng(0).standard_normal(5000).astype(np.float32) + 10_000
    np.testing.assert_allclose(mg.from_numpy(x).var().item(), x.astype(np.float64).var(ddof=1), 1e-4)


# --- nan and infinity -------------------------------------------------------------------------------------------------


def test_nan():
    x = mg.tensor([1.0, NAN, 3.0, NAN])
    for y in (x.sum(), x.mean(), x.prod(), x.max(), x.amin(), x.norm(), x.norm(INF), x.var(), x.logsumexp(0)):
        assert math.isnan(y.item())
    assert x.argmax().item() == x.argmin().item() == x.max(0).indices.item() == x.min(0).indices.item() == 1
    assert math.isnan(x.max(0).values.item())
    assert x.all().item() is True and x.count_nonzero().item() == 4
    assert np.isnan(x.cumsum(0).numpy()).tolist() == [False, True, True, True]
    assert np.isnan(x.softmax(0).numpy()).all()
    wide = mg.full((70, 300), 1.0)
    wide[65, 250] = NAN
    assert np.flatnonzero(np.isnan(wide.amax(0).numpy())).tolist() == [250]
    assert np.flatnonzero(np.isnan(wide.min(1).values.numpy())).tolist() == [65]
    assert wide.argmax().item() == 65 * 300 + 250


def test_infinity():
    def rows(f):
        return f(mg.tensor([[INF, 0.0], [-INF, -INF], [-INF, 0.0], [INF, -INF]])).tolist()

    assert rows(lambda x: x.logsumexp(1)) == [INF, -INF, 0.0, INF]
    assert np.isnan(rows(lambda x: x.softmax(1))).tolist() == [[True] * 2, [True] * 2, [False] * 2, [True] * 2]
    assert rows(lambda x: x.softmax(1))[2] == [0, 1] and rows(lambda x: x.log_softmax(1))[2] == [-INF, 0]
    assert rows(lambda x: x.amax(1)) == [INF, -INF, 0, INF] and rows(lambda x: x.norm(2, 1)) == [INF] * 4
    assert gradient(lambda x: x.softmax(0)[1], [-INF, 0.0]) == [0, 0]
    assert gradient(lambda x: x.logsumexp(0), [-INF, 0.0]) == [0, 1]
    assert mg.tensor([1e4, -1e4]).log_softmax(0).tolist() == [0, -2e4]
    assert mg.tensor([1e30, 1e30]).norm().item() == np.float32(2**0.5 * 1e30)  # squares exceed float32
    assert mg.tensor([1e-30, 1e-30]).norm().item() == np.float32(2**0.5 * 1e-30)


# --- gradients at special points --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "values", "expected"),
    [
        (lambda x: x.max(), [1, 3, 3], [0, 0.5, 0.5]),
        (lambda x: x.amax(), [3, 3, 3], [1 / 3] * 3),
        (lambda x: x.amin(1), [[1, 1], [0, 2]], [[0.5, 0.5], [1, 0]]),
        (lambda x: x.max(0).values, [1, 3, 3], [0, 1, 0]),
        (lambda x: x.min(1, True).values, [[1, 1], [2, 0]], [[1, 0], [0, 1]]),
        (lambda x: x.max(), [1, NAN, NAN], [0, 0.5, 0.5]),
        (lambda x: x.norm(), [0, 0], [0, 0]),
        (lambda x: x.norm(3), [0, 0], [0, 0]),
        (lambda x: x.norm(1.5), [0, 1], [0, 1]),
        (lambda x: x.norm(0.5), [0, 1], [0, 1]),
        (lambda x: x.norm(1), [0, -2], [0, -1]),
        (lambda x: x.norm(INF), [1, -1], [0.5, -0.5]),
        (lambda x: x.norm(-INF), [1, -1], [0.5, -0.5]),
        (lambda x: x.norm(INF), [0, 0], [0, 0]),
        (lambda x: x.norm(2, 1), [[0, 0], [3, 4]], [[0, 0], [0.6, 0.8]]),
        (lambda x: x.std(), [1, 1], [0, 0]),
        (lambda x: x.prod(), [0, 2, 3], [6, 0, 0]),
        (lambda x: x.prod(), [0, 2, 0], [0, 0, 0]),
        (lambda x: x.prod(0), [[0, 2], [5, 3], [4, 0]], [[20, 0], [0, 0], [0, 6]]),
        (lambda x: x.cumprod(0), [0, 2, 0, 3], [3, 0, 0, 0]),
        (lambda x: x.cumprod(0), [2, 0, 3], [1, 8, 0]),
    ],
)
def test_gradients_at_special_points(call, values, expected):
    same(gradient(call, values), expected)


def hessian(f, values):
    x = mg.tensor(values, dtype=mg.float64, requires_grad=True)
    (g,) = mg.autograd.grad(f(x), x, create_graph=True)
    return [mg.autograd.grad(g[i], x, retain_graph=True)[0].tolist() for i in range(len(values))]


def test_second_derivatives_at_special_points():
    same(hessian(lambda x: x.prod(), [0, 2, 3]), [[0, 3, 2], [3, 0, 0], [2, 0, 0]])
    same(hessian(lambda x: x.prod(), [0, 0, 3]), [[0, 3, 0], [3, 0, 0], [0, 0, 0]])
    same(hessian(lambda x: x.cumprod(0)[2], [0, 0, 3]), [[0, 3, 0], [3, 0, 0], [0, 0, 0]])
    assert np.isfinite(hessian(lambda x: x.norm(), [0, 0])).all()
    assert np.isfinite(hessian(lambda x: x.norm(3), [0, 2])).all()
    assert np.isfinite(hessian(lambda x: x.std(), [1, 1])).all()


def test_third_derivative():
    x = mg.tensor([1.0, 2.0, 3.0], dtype=mg.float64, requires_grad=True)
    g = x.prod()
    for i in range(3):
        (g,) = mg.autograd.grad(g, x, create_graph=True)
        g = g[i]
    assert g.item() == 1


# --- accuracy ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shape", [(1_000_003,), (300_000, 3), (3, 300_000), (2, 100_000, 2), (50, 20_000), (8200, 129)]
)
def test_long_sums_keep_their_digits(shape):
    x = np.random.default_rng(1).uniform(0, 1, shape).astype(np.float32)
    t, exact = mg.from_numpy(x), x.astype(np.float64)
    for dim in (None, *range(x.ndim), (0, -1) if x.ndim > 1 else 0):
        np.testing.assert_allclose(t.sum(dim).numpy(), exact.sum(dim), 3e-7)
        np.testing.assert_allclose(t.norm(2, dim).numpy(), np.sqrt((exact**2).sum(dim)), 3e-7)
        np.testing.assert_array_equal(t.amax(dim if dim is not None else ()).numpy(), x.max(dim))
    for dim in range(x.ndim):
        np.testing.assert_array_equal(t.argmin(dim).numpy(), x.argmin(dim))
        np.testing.assert_allclose(t.cumsum(dim).numpy(), exact.cumsum(dim), 3e-7)
        np.testing.assert_allclose(t.softmax(dim).sum(dim).numpy(), 1, 2e-6)
    assert t.argmax().item() == x.argmax()


def test_first_of_many_equal():
    x = np.zeros((9, 5000), np.float32)
    for t in (mg.from_numpy(x), mg.from_numpy(x.T.copy()).T):
        assert t.argmax().item() == 0 and t.argmin(1).tolist() == [0] * 9 and not t.max(0).indices.numpy().any()
    x[:, 4000:] = 1
    assert mg.from_numpy(x).argmax(1).tolist() == [4000] * 9
    assert mg.from_numpy(np.r_[0, np.full(99_999, 1.0)]).argmax().item() == 1


def test_negative_zero_equals_zero():
    assert mg.tensor([-0.0, 0.0]).argmax().item() == 0 and mg.tensor([0.0, -0.0]).argmin().item() == 0


# --- the rest ---------------------------------------------------------------------------------------------------------


def test_return_types():
    found = mg.max(X, 1)
    values, indices = found
    assert found.values is values and found[1] is indices
    assert repr(found) == "minigrad.return_types.max(\nvalues=tensor([2., 5.]),\nindices=tensor([2, 2]))"
    assert not indices.requires_grad
    assert mg.max(X, mg.ones(3)).tolist() == X.max(mg.ones(3)).tolist() == [[1, 1, 2], [3, 4, 5]]
    assert mg.min(X, other=mg.ones(3)).tolist() == [[0, 1, 1], [1, 1, 1]]


def test_results_do_not_share_memory():
    x = mg.ones(1, 1)
    for f in (mg.sum, mg.mean, mg.amax, mg.prod, mg.norm):
        y = f(x)
        y += 1
        y = f(x, dim=0, keepdim=True)
        y += 1
    assert x.item() == 1


def test_in_place_after_softmax_is_noticed():
    x = mg.tensor([1.0, 2.0], requires_grad=True)
    y = x.softmax(0)
    with mg.no_grad():
        y += 1
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


def test_threads_do_not_change_bits():
    x = mg.from_numpy(np.random.default_rng(2).standard_normal((37, 4099)).astype(np.float32))
    before = mg.get_num_threads()
    found = []
    try:
        for n in (1, 2, 3):
            mg.set_num_threads(n)
            results = [
                x.sum(),
                x.sum(0),
                x.sum(1),
                x.softmax(0),
                x.softmax(1),
                x.var(0),
                x.norm(),
                x.logsumexp(1),
                x.mean((0, 1)),
            ]
            found.append([y.numpy().tobytes() for y in results])
    finally:
        mg.set_num_threads(before)
    assert found[0] == found[1] == found[2]


def test_no_warnings_of_numpy():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert math.isnan(mg.zeros(0).mean().item()) and math.isnan(mg.tensor([INF, -INF]).sum().item())


@pytest.mark.parametrize("dtype", ["float32", "float64", "int8", "bool"])
def test_extremes_of_rows_of_every_length(dtype):
    random = np.random.default_rng(2)
    for n in (*range(1, 70, 3), 127, 128, 200):
        x = random.integers(0 if dtype == "bool" else -90, 2 if dtype == "bool" else 90, (7, n)).astype(dtype)
        if dtype.startswith("float"):
            x[0, n // 2], x[1, n - 1], x[2, 0], x[3], x[4, n - 1] = NAN, -NAN, INF, -INF, NAN
            x[4, 0] = NAN
        t = mg.from_numpy(x)
        for dim in (0, 1):
            np.testing.assert_array_equal(t.amax(dim).numpy(), x.max(dim))
            np.testing.assert_array_equal(t.amin(dim).numpy(), x.min(dim))
            np.testing.assert_array_equal(t.max(dim).indices.numpy(), x.argmax(dim))
            np.testing.assert_array_equal(t.min(dim).indices.numpy(), x.argmin(dim))
