"""Accuracy, special values, tail == body and vectorisation of kernels/math.py."""

import math
import re

import mpmath
import numpy as np
import pytest
from llvmlite import binding
from numba import njit

from minigrad.kernels import contract
from minigrad.kernels import math as kmath

INF, NAN = np.inf, np.nan
NAMES = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus", "erf", "sin", "cos", "rsqrt", "pow"]
FAST = ["sin_fast", "cos_fast"]
DTYPES = [np.float32, np.float64]
MAX_ULP = 2.0
_loops = {}


def loop_of(name, dtype):
    """The compiled elementwise loop: what a kernel is made of."""
    if name not in _loops:
        f = getattr(kmath, name)
        if name == "pow":

            def loop(x, y, out):
                for i in range(x.size):
                    out[i] = f(x[i], y[i])

        else:

            def loop(x, out):
                for i in range(x.size):
                    out[i] = f(x[i])

        _loops[name] = njit(loop, error_model="numpy")
    return _loops[name]


def apply(name, dtype, *args):
    args = [np.ascontiguousarray(a, dtype=dtype) for a in args]
    out = np.empty_like(args[0])
    loop_of(name, dtype)(*args, out)
    return out


def erf_reference(x):
    if x.dtype == np.float64:  # the inputs were float32: libm's float64 is enough
        return np.array([math.erf(v) for v in x])
    with mpmath.workprec(80):
        return np.array([np.longdouble(mpmath.nstr(mpmath.erf(mpmath.mpf(float(v))), 22)) for v in x])


def softplus_reference(x):
    return np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))


def sigmoid_reference(x):
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, 1) / (1 + e)


REFERENCE = {
    "erf": erf_reference,
    "softplus": softplus_reference,
    "sigmoid": sigmoid_reference,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "pow": np.power,
    "sin_fast": np.sin,
    "cos_fast": np.cos,
}
# name: (ranges dense in float32, ranges dense in float64)
RANGES = {
    "exp": ([(-104.5, 89), (-1, 1)], [(-746, 710), (-1, 1)]),
    "expm1": ([(-20, 89), (-2, 2), (-0.1, 0.1)], [(-42, 710), (-2, 2), (-0.1, 0.1)]),
    "log": ([(0, 3), (0.9, 1.1), (0, 1e6)],) * 2,
    "log1p": ([(-1, 3), (-0.1, 0.1), (-1e-6, 1e-6), (0, 1e6)],) * 2,
    "tanh": ([(-11, 11), (-1, 1)], [(-23, 23), (-1, 1)]),
    "sigmoid": ([(-105, 40), (-2, 2)], [(-746, 60), (-2, 2)]),
    "softplus": ([(-105, 40), (-3, 3)], [(-746, 60), (-3, 3)]),
    "erf": ([(-4.5, 4.5), (-1, 1)], [(-6.5, 6.5), (-1, 1)]),
    "sin": ([(-10, 10), (-1e5, 1e5), (-1e8, 1e8)], [(-10, 10), (-1e6, 1e6), (-1e9, 1e9), (-1e15, 1e15)]),
    "rsqrt": ([(0, 3), (0, 1e6)],) * 2,
    "sin_fast": ([(-10, 10), (-1e6, 1e6)], [(-10, 10), (-1e9, 1e9)]),
}
RANGES["cos"], RANGES["cos_fast"] = RANGES["sin"], RANGES["sin_fast"]


def sample(name, dtype):
    """Random points in the function's ranges, dense ones, and random bit patterns (every exponent, both signs)."""
    rng = np.random.default_rng(7)
    wide = dtype == np.float64
    n = 1500 if name == "erf" and wide else 30_000
    parts = []
    for lo, hi in RANGES[name][wide]:
        parts += [rng.uniform(lo, hi, n).astype(dtype), np.linspace(lo, hi, n // 4).astype(dtype)]
    uint = np.uint64 if wide else np.uint32
    parts.append(rng.integers(0, np.iinfo(uint).max, n, dtype=uint).view(dtype))
    if name in ("sin", "cos", *FAST):  # close to multiples of pi/2, where the reduction cancels
        parts.append((np.arange(1, n).astype(np.longdouble) * np.pi / 2).astype(dtype))
    x = np.concatenate(parts)
    x = x[np.isfinite(x)]
    return x[np.abs(x) <= (1e9 if wide else 1e6)] if name in FAST else x


def sample_pow(dtype):
    rng = np.random.default_rng(7)
    n = 40_000
    x = np.concatenate([rng.uniform(0, 4, n), rng.uniform(0.99, 1.01, n), np.exp(rng.uniform(-80, 80, n))])
    y = np.concatenate([rng.uniform(-30, 30, n), rng.uniform(-3000, 3000, n), rng.uniform(-1.2, 1.2, n)])
    whole = rng.integers(-9, 9, n).astype(float)
    return np.concatenate([x, -x[:n]]).astype(dtype), np.concatenate([y, whole]).astype(dtype)


def ulps(got, want, dtype):
    """Largest |got - want| in units of the last place of `want`; infinities and nan must agree."""
    with np.errstate(all="ignore"):
        rounded = want.astype(dtype)
        finite = np.isfinite(rounded)
        # One step from the largest number to inf is an ulp like any other: leave such points out.
        edge = np.abs(np.where(finite, rounded, 0)) >= np.finfo(dtype).max
        assert np.array_equal(got[~finite], rounded[~finite], equal_nan=True)
        keep = finite & ~edge
        error = np.abs(got[keep].astype(want.dtype) - want[keep]) / np.spacing(np.abs(rounded[keep])).astype(want.dtype)
    return float(error.max()), int(np.flatnonzero(keep)[error.argmax()])


def measure(name, dtype):
    args = sample_pow(dtype) if name == "pow" else (sample(name, dtype),)
    wider = np.float64 if dtype == np.float32 else np.longdouble
    with np.errstate(all="ignore"):
        want = REFERENCE.get(name) or getattr(np, name)
        want = want(*[a.astype(wider) for a in args])
    worst, at = ulps(apply(name, dtype, *args), want, dtype)
    return worst, [a[at] for a in args]


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("name", NAMES + FAST)
def test_accuracy(name, dtype):
    worst, at = measure(name, dtype)
    assert worst <= MAX_ULP, f"{name} is {worst:.2f} ulp wrong at {at}"


@pytest.mark.parametrize("name", [n for n in NAMES if n != "pow"])
def test_whole_range_of_float32(name):
    """Every 8,191st of all bit patterns: each exponent, both signs, denormals, infinities and nan, to 2 ulp."""
    x = np.arange(0, 2**32, 8191, dtype=np.int64).astype(np.uint32).view(np.float32)
    with np.errstate(all="ignore"):
        wide = x.astype(np.float64)
        want = (
            np.array([math.erf(v) for v in wide]) if name == "erf" else (REFERENCE.get(name) or getattr(np, name))(wide)
        )
    worst, at = ulps(apply(name, np.float32, x), want, np.float32)
    assert worst <= MAX_ULP, f"{name} is {worst:.2f} ulp wrong at {x[at]!r}"


def test_whole_range_of_pow():
    """Pairs of bit patterns, and of bases and exponents whose power is neither 0 nor infinite."""
    rng = np.random.default_rng(5)
    for dtype, uint, wider in ((np.float32, np.uint32, np.float64), (np.float64, np.uint64, np.longdouble)):
        x, y = (rng.integers(0, np.iinfo(uint).max, 40_000, dtype=uint).view(dtype) for _ in "xy")
        a = np.abs(x[np.isfinite(x) & (x != 0)])
        limit = np.log(np.finfo(dtype).max.astype(wider))
        b = (limit * rng.uniform(-1.05, 1.02, a.size) / np.log(a.astype(wider))).astype(dtype)
        with np.errstate(all="ignore"):
            for base, exponent in ((x, y), (a, b), (-a, np.rint(b))):
                keep = np.isfinite(exponent) & (np.isfinite(base))
                base, exponent = base[keep], exponent[keep]
                want = np.power(base.astype(wider), exponent.astype(wider))
                worst, at = ulps(apply("pow", dtype, base, exponent), want, dtype)
                assert worst <= MAX_ULP, f"pow is {worst:.2f} ulp wrong at {base[at]!r}, {exponent[at]!r}"


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
def test_parts_of_the_range(dtype):
    """exp_down and log1p_unit, which losses use."""
    wider = np.float64 if dtype == np.float32 else np.longdouble
    least = np.log(np.finfo(dtype).tiny.astype(wider))
    x = np.concatenate([np.linspace(least + 1e-3, 0, 50_000), -np.geomspace(1e-30, 1, 20_000)]).astype(dtype)
    assert ulps(apply("exp_down", dtype, x), np.exp(x.astype(wider)), dtype)[0] <= MAX_ULP
    saturated = apply("exp_down", dtype, np.array([2 * least, -INF, 0, NAN] * 9, dtype))
    np.testing.assert_array_equal(saturated, [0, 0, 1, NAN] * 9)
    f = np.concatenate([np.linspace(0, 1, 50_000), np.geomspace(1e-30, 1, 20_000)]).astype(dtype)
    assert ulps(apply("log1p_unit", dtype, f), np.log1p(f.astype(wider)), dtype)[0] <= MAX_ULP


SPECIAL = {
    "exp": [(0, 1), (-0.0, 1), (INF, INF), (-INF, 0), (1e4, INF), (-1e4, 0), (NAN, NAN)],
    "expm1": [(0, 0), (-0.0, -0.0), (INF, INF), (-INF, -1), (1e4, INF), (-1e4, -1), (NAN, NAN), (1e-30, 1e-30)],
    "log": [(0, -INF), (-0.0, -INF), (1, 0), (-1, NAN), (-INF, NAN), (INF, INF), (NAN, NAN)],
    "log1p": [(0, 0), (-0.0, -0.0), (-1, -INF), (-2, NAN), (-INF, NAN), (INF, INF), (NAN, NAN), (1e-30, 1e-30)],
    "tanh": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e4, 1), (-1e4, -1), (NAN, NAN), (1e-30, 1e-30)],
    "sigmoid": [(0, 0.5), (-0.0, 0.5), (INF, 1), (-INF, 0), (1e4, 1), (-1e4, 0), (NAN, NAN)],
    "softplus": [(INF, INF), (-INF, 0), (1e4, 1e4), (-1e4, 0), (NAN, NAN)],
    "erf": [(0, 0), (-0.0, -0.0), (INF, 1), (-INF, -1), (1e4, 1), (-1e4, -1), (NAN, NAN)],
    "sin": [(0, 0), (-0.0, -0.0), (INF, NAN), (-INF, NAN), (NAN, NAN), (1e-30, 1e-30)],
    "cos": [(0, 1), (-0.0, 1), (INF, NAN), (-INF, NAN), (NAN, NAN), (1e-30, 1)],
    "rsqrt": [(0, INF), (-0.0, -INF), (INF, 0), (-1, NAN), (4, 0.5), (NAN, NAN)],
}
SPECIAL["sin_fast"], SPECIAL["cos_fast"] = SPECIAL["sin"], SPECIAL["cos"]


def same(got, want):
    return np.array_equal(got, want, equal_nan=True) and np.array_equal(
        np.signbit(got[~np.isnan(want)]), np.signbit(want[~np.isnan(want)])
    )


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("name", SPECIAL)
def test_special_values(name, dtype):
    x, want = np.array(SPECIAL[name], dtype=dtype).T
    x, want = np.tile(x, 5), np.tile(want, 5)  # through the vector body as well
    got = apply(name, dtype, x)
    assert same(got, want), np.stack([x, got, want])


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
def test_pow_special_values(dtype):
    values = [0, 0.5, 1, 1.5, 2, 3, 7, 2.0**24 - 1, 2.0**24, 1e30, 1e-30, INF]
    x, y = np.meshgrid(np.array([*values, *[-v for v in values], NAN]), np.array([*values, *[-v for v in values], NAN]))
    x, y = x.ravel().astype(dtype), y.ravel().astype(dtype)
    want = np.array([math_pow(float(a), float(b)) for a, b in zip(x, y, strict=True)])
    special = (np.abs(want) == INF) | (want == 0) | (np.abs(want) == 1) | np.isnan(want)
    with np.errstate(over="ignore"):
        want = want.astype(dtype)
    got = apply("pow", dtype, x, y)
    bad = [i for i in np.flatnonzero(special) if not same(got[i : i + 1], want[i : i + 1])]
    assert special.sum() > 300
    assert not bad, np.stack([x, y, got, want])[:, bad].T


def math_pow(a, b):
    """C's pow. (np.power(-inf, 0.5) is nan: it takes a square root.)"""
    if (a, b) == (-INF, 0.5):
        return INF
    with np.errstate(all="ignore"):
        return float(np.power(np.float64(a), np.float64(b)))


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
def test_denormals(dtype):
    tiny = np.finfo(dtype).smallest_subnormal
    x = np.array([tiny, -tiny, 3 * tiny, np.finfo(dtype).tiny / 2] * 9, dtype=dtype)
    for name in ("expm1", "log1p", "tanh", "sin"):
        assert same(apply(name, dtype, x), x), name
    log_min = math.log(2.0) * (-149 if dtype == np.float32 else -1074)
    assert apply("log", dtype, x)[0] == pytest.approx(log_min, rel=1e-6)
    assert apply("exp", dtype, np.full(5, log_min))[0] == tiny
    if dtype == np.float32:
        assert apply("exp", dtype, np.full(5, -100))[0] == np.float32(np.exp(-100.0))


@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("name", NAMES + FAST)
def test_result_does_not_depend_on_position(name, dtype):
    """A loop of length 1 (the scalar tail) and every longer or shifted one give the same bits."""
    rng = np.random.default_rng(3)
    x = np.concatenate([rng.uniform(-9, 9, 55), rng.uniform(-800, 800, 6), [0, -0.0, INF, -INF, 1e-40, 1e5]])
    args = [x.astype(dtype)] * (2 if name == "pow" else 1)
    bits = np.uint32 if dtype == np.float32 else np.uint64
    one = np.concatenate([apply(name, dtype, *[a[i : i + 1] for a in args]) for i in range(x.size)]).view(bits)
    nan = np.isnan(one.view(dtype))
    for start in range(4):
        for stop in range(start + 1, x.size + 1):
            got = apply(name, dtype, *[a[start:stop] for a in args]).view(bits)
            assert np.array_equal(got[~nan[start:stop]], one[start:stop][~nan[start:stop]])
            assert np.isnan(got.view(dtype)[nan[start:stop]]).all()


@pytest.mark.parametrize("name", ["exp", "log1p", "sin_fast", "tanh"])
def test_fastmath_of_the_caller_stays_out(name):
    """Reassociation would break the reductions: a helper keeps its own flags inside a fastmath loop."""
    f = getattr(kmath, name)

    @njit(fastmath=True, error_model="numpy")
    def loop(x, out):
        for i in range(x.size):
            out[i] = f(x[i])

    x = np.linspace(-0.9, 300, 1001)
    out = np.empty_like(x)
    loop(x, out)
    assert np.array_equal(out, apply(name, np.float64, x))


SCALAR = {("sin", "f32"), ("sin", "f64"), ("cos", "f32"), ("cos", "f64")}  # they call libm for huge arguments


FEATURES = binding.get_host_cpu_features()
WIDEST = "zmm" if FEATURES.get("avx512f") else "ymm"  # what "vectorised" has to mean


@pytest.mark.skipif(not FEATURES.get("avx2"), reason="needs AVX2")
@pytest.mark.parametrize("dtype", DTYPES, ids=["f32", "f64"])
@pytest.mark.parametrize("name", NAMES + FAST)
def test_vectorised(name, dtype):
    suffix = "f32" if dtype == np.float32 else "f64"
    if (name, suffix) in SCALAR:
        pytest.skip("a vector only where no argument is huge: see the kernel's test")
    apply(name, dtype, *[np.ones(3)] * (2 if name == "pow" else 1))
    loop = loop_of(name, dtype)
    (asm,) = [a for s, a in loop.inspect_asm().items() if str(s[0].dtype) == np.dtype(dtype).name]
    # pow of float32 computes in float64.
    packed = "p[sd]" if name == "pow" else "ps" if dtype == np.float32 else "pd"
    assert re.search(rf"v(fn?m(add|sub)\d+|mul|div|sqrt){packed}\s.*%?{WIDEST}", asm)
    assert not re.search(r"\bv(cvtss2sd|cvtps2pd)\b", asm) or name in ("pow", *FAST), "promoted to float64"


@pytest.mark.skipif(not FEATURES.get("avx2"), reason="needs AVX2")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("name", ["sin", "pow"])
def test_kernels_that_are_long_are_vectorised(name, dtype):
    code = contract.assembly(f"elementwise.{name}", dtype)
    assert len(re.findall(rf"fn?m(?:add|sub)\d+p[sd]\s.*{WIDEST}", code)) > 10
