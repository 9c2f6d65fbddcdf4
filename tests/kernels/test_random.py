"""The random generator against published vectors, its NumPy twin and the distributions it promises."""

import math

import numpy as np
import pytest
from numba import njit

from minigrad.kernels import random as kernels

from .harness import reference, run

# Random123's kat_vectors, philox4x32-10: counter, key, result
KNOWN = [
    ("00000000 00000000 00000000 00000000", "00000000 00000000", "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff", "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0", "d16cfe09 94fdcceb 5001e420 24126ea1"),
]
SIZES = (0, 1, 2, 3, 7, 10, 511, 513, 1030)
SEED, OFFSET = 0x1234_5678_9ABC_DEF0, 0xFFFF_FFFE  # the counter carries into its second word at once


@pytest.mark.parametrize("vector", KNOWN)
def test_known_answers(vector):
    counter, key, result = ([int(w, 16) for w in words.split()] for words in vector)
    want = np.array([result], np.uint64)
    np.testing.assert_array_equal(kernels.reference_philox(np.array([counter]), np.array([key])), want)
    got = njit(lambda *words: kernels.philox(*words))(*(np.uint64(w) for w in counter + key))  # as the kernels call it
    np.testing.assert_array_equal(got, want[0])


# name, dtype, outputs' dtypes, extra dims, scalars
KERNELS = [
    ("words", "int64", ["int64"], (), ()),
    ("uniform", "float32", ["float32"], (), (-2.0, 5.0)),
    ("uniform", "float64", ["float64"], (), (-2.0, 5.0)),
    ("normal", "float32", ["float32"], (), (1.0, 3.0)),
    ("normal", "float64", ["float64"], (), (1.0, 3.0)),
    ("randint", "int64", ["int64"], (-5, 12), ()),
    ("bernoulli", "bool", ["bool"], (), (0.3,)),
    ("bernoulli_each", "float32", ["float32"], (), ()),
    ("dropout", "float32", ["float32", "uint8"], (), (0.3, 1 / 0.7)),
]


@pytest.mark.parametrize(("name", "t", "outputs", "dims", "scalars"), KERNELS)
def test_against_reference_in_any_split(name, t, outputs, dims, scalars):
    dims = (SEED, OFFSET, *dims)
    for n in SIZES:
        inputs = []
        if name in ("bernoulli_each", "dropout"):
            inputs = [np.linspace(0, 1, n).astype(t)]
        got, want, parts = ([np.full(n, 77).astype(d) for d in outputs] for _ in range(3))
        run(f"random.{name}", [*got, *inputs], dims, scalars, units=n, t=t)
        reference(f"random.{name}", [*want, *inputs], dims, scalars)
        for edges in ((0, n // 3, n // 2, n), (0, n // 7 + 1, n) if n > 2 else (0, n)):
            for lo, hi in zip(edges, edges[1:]):
                run(f"random.{name}", [*parts, *inputs], dims, scalars, units=hi, t=t, lo=lo)
            for g, w, p in zip(got, want, parts):
                assert g.tobytes() == p.tobytes()
                tolerance = 8 * np.finfo(g.dtype).eps if g.dtype.kind == "f" else 0
                np.testing.assert_allclose(g, w, rtol=tolerance, atol=4 * tolerance)


def draw(name, t, n, dims=(), scalars=(), seed=42, offset=0):
    y = np.empty(n, t)
    run(f"random.{name}", [y], (seed, offset, *dims), scalars, units=n, t=t)
    return y


def ks(sample, cdf):
    """Kolmogorov-Smirnov statistic times sqrt(n); above 1.95 in one case of 1,000."""
    x = cdf(np.sort(sample.astype(np.float64)))
    grid = np.arange(x.size + 1) / x.size
    return max((grid[1:] - x).max(), (x - grid[:-1]).max()) * math.sqrt(x.size)


@pytest.mark.parametrize("t", ["float32", "float64"])
def test_distributions(t):
    n = 200_000
    u = draw("uniform", t, n, (), (0, 1))
    assert u.min() >= 0 and u.max() < 1
    assert ks(u, lambda x: x) < 1.95
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 4 / math.sqrt(n)
    z = draw("normal", t, n, (), (0, 1))
    assert np.isfinite(z).all()
    assert ks(z, np.vectorize(lambda x: 0.5 * math.erfc(-x / math.sqrt(2)))) < 1.95
    assert abs(z.mean()) < 4 / math.sqrt(n)
    assert abs(z.var() - 1) < 4 * math.sqrt(2 / n)
    assert abs((z**4).mean() - 3) < 4 * math.sqrt(96 / n)
    assert abs(np.corrcoef(z[0::2], z[1::2])[0, 1]) < 4 / math.sqrt(n / 2)
    assert abs(np.corrcoef(z[0::2] ** 2, z[1::2] ** 2)[0, 1]) < 4 / math.sqrt(n / 2)


def test_randint():
    y = draw("randint", "int64", 100_000, (-3, 7))
    assert set(np.unique(y)) == set(range(-3, 7))
    count = np.bincount(y + 3)
    assert ((count - 1e4) ** 2 / 1e4).sum() < 27.9  # chi square, 9 degrees of freedom, 0.001
    assert (draw("randint", "int64", 100, (5, 6)) == 5).all()
    for low, high in ((-(2**63), 2**63 - 1), (0, 2**62), (-1, 2**33)):
        y, want = draw("randint", "int64", 1000, (low, high)), np.empty(1000, np.int64)
        reference("random.randint", [want], (42, 0, low, high))
        np.testing.assert_array_equal(y, want)
        assert y.max() > low + (high - low) // 100 * 98
        assert y.min() < low + (high - low) // 50


def test_uniform_never_reaches_high():
    for low, high in ((1.0, 1.0000001), (1e8, 1e8 + 8), (-1e30, 1e30), (3.0, 3.0)):
        y = draw("uniform", "float32", 10_000, (), (low, high))
        low, high = np.float32(low), np.float32(high)
        assert (y >= low).all()
        assert (y < high).all() or low == high


def test_streams():
    a = draw("words", "int64", 4000)
    assert a.min() >= 0
    assert a.max() < 2**32
    assert np.unique(a).size > 3995
    np.testing.assert_array_equal(draw("words", "int64", 400, offset=100), a[400:800])  # four words a counter
    assert (draw("words", "int64", 4000, seed=43) != a).mean() > 0.99
    assert (draw("words", "int64", 4000, seed=-1) != a).mean() > 0.99
    assert (draw("words", "int64", 8, seed=42 + 2**32) != a[:8]).all()


def test_dropout():
    x = np.array([1, np.inf, np.nan, -2] * 5000, np.float32)
    y, mask, dx = np.empty_like(x), np.empty(x.size, np.uint8), np.empty_like(x)
    for p in (0.0, 0.25, 1.0):
        scale = 1 / (1 - p) if p < 1 else 0.0
        run("random.dropout", [y, mask, x], (1, 2), (p, scale), units=x.size)
        assert abs(mask.mean() - (1 - p)) < 0.02
        assert (mask == 1).all() if p == 0 else True
        assert (y[mask == 0] == 0).all()
        np.testing.assert_array_equal(y[mask == 1], x[mask == 1] * np.float32(scale))
        run("random.ddropout", [dx, x, mask], (), (scale,), units=x.size)
        np.testing.assert_array_equal(dx, y)
    probability = draw("bernoulli", "bool", 100_000, (), (0.3,)).mean()
    assert abs(probability - 0.3) < 4 * math.sqrt(0.21 / 1e5)
    assert not draw("bernoulli", "bool", 1000, (), (0.0,)).any()
    assert draw("bernoulli", "bool", 1000, (), (1.0,)).all()


@pytest.mark.parametrize("n", [0, 1, 2, 3, 10, 1000])
def test_shuffle(n):
    words, order, want = (np.zeros(n, np.int64) for _ in range(3))
    run("random.words", [words], (SEED, OFFSET), units=n, t="int64")
    run("random.shuffle", [order, words], (n,), units=1, t="int64")
    reference("random.shuffle", [want, words], (n,))
    np.testing.assert_array_equal(order, want)
    np.testing.assert_array_equal(np.sort(order), np.arange(n))
