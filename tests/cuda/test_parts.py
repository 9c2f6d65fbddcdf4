"""What kernels share: what the simulator makes of it, which runs the same steps as a GPU."""

import math

import numpy as np
import pytest
from numba import cuda

from minigrad.kernels.cuda import contract, parts
from minigrad.kernels.cuda.contract import T, i8
from minigrad.kernels.cuda.parts import after, aligned, at, counter_swap, load4

pytestmark = pytest.mark.cuda_sim
rng = np.random.default_rng(0)


def run(fn, *arrays, units=1, threads=64, t="float32", **options):
    """Compute ``fn(thread number, arrays...)`` in each thread of a block."""
    spec = contract.kernel(fn, block=threads, per=1)
    contract.simulate(spec.name, t, "", arrays, units=units, **options)


def define(reduce):
    def total(y: T, x: T, units):
        i = cuda.threadIdx.x
        y[i] = reduce(x[i])

    return total


@pytest.mark.parametrize("threads", [32, 64, 96, 256])
@pytest.mark.parametrize(("name", "expected"), [("sum", np.sum), ("max", np.max), ("min", np.min)])
@pytest.mark.parametrize("t", ["float32", "float64", "int64"])
def test_block(name, expected, threads, t):
    x = (rng.standard_normal(threads) * 100).astype(t)
    y = np.zeros_like(x)
    run(define(getattr(parts, f"block_{name}")), y, x, threads=threads, t=t)
    np.testing.assert_allclose(y, np.full_like(y, expected(x)), rtol=1e-5)
    assert (y == y[0]).all()


@pytest.mark.parametrize(("name", "expected"), [("sum", np.sum), ("max", np.max), ("min", np.min)])
def test_warp(name, expected):
    x = rng.standard_normal(96).astype("float32")
    y = np.zeros_like(x)
    run(define(getattr(parts, f"warp_{name}")), y, x, threads=96)
    np.testing.assert_allclose(y.reshape(3, 32), np.repeat(expected(x.reshape(3, 32), 1), 32).reshape(3, 32), 1e-5)


@pytest.mark.parametrize("name", ["max", "min"])
def test_nan_wins(name):
    for i in (0, 5, 63):
        x = rng.standard_normal(64).astype("float32")
        x[i] = np.nan
        y = np.zeros_like(x)
        run(define(getattr(parts, f"block_{name}")), y, x)
        assert np.isnan(y).all()


def test_pointers():
    def probe(y: T, table: i8, x: T, units):
        y[0] = aligned(x)
        y[1] = aligned(after(x, 1))
        y[2] = after(x, 3)[0]
        y[3] = at(table[0], 2, T)[1]
        at(table[0], 0, T)[0] = T(9)
        counter_swap(table, 1, 1, 7)
        counter_swap(table, 2, 1, 7)

    x, y = np.arange(8, dtype="float32"), np.zeros(4, "float32")
    table = np.array([x.ctypes.data, 1, 2])
    run(probe, y, table, x, threads=1)
    assert y.tolist() == [1, 0, 3, 3] and x[0] == 9 and table[1:].tolist() == [7, 2]


def test_accesses_that_a_gpu_refuses():
    def outside(y: T, units):
        y[4] = T(0)

    def before(y: T, units):
        y[-1] = T(0)

    def crooked(y: T, units):
        load4(y, 1)

    for fn, error in ((outside, IndexError), (before, IndexError), (crooked, ValueError)):
        with pytest.raises(error):
            run(fn, np.zeros(4, "float32"), threads=1)


def test_math_is_that_of_c():
    def extremes(y: T, units):
        y[0], y[1], y[2], y[3] = math.exp(T(1000)), math.log(T(0)), math.sqrt(T(-1)), math.log(T(-1))

    y = np.zeros(4, "float32")
    run(extremes, y, threads=1)
    assert y[:2].tolist() == [np.inf, -np.inf] and np.isnan(y[2:]).all()
