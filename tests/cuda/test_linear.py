"""The pass after a matrix product and products of integers for a GPU, in the simulator."""

import itertools

import numpy as np
import pytest

from minigrad.kernels import contract as cpu
from minigrad.kernels.cuda import contract

pytestmark = pytest.mark.cuda_sim
RNG = np.random.default_rng(5)


@pytest.mark.parametrize("t", ["float32", "float64"])
def test_bias_relu(t):
    cpu.registered()
    sizes = ((0, 4, 4), (1, 1, 1), (31, 3, 3), (5, 4, 8), (3, 33, 36), (2, 257, 257), (9, 16, 16))  # rows, n, ld
    for (rows, n, ld), (bias, relu), shift in itertools.product(sizes, ((1, 1), (1, 0), (0, 1)), (0, 1)):
        room = RNG.standard_normal(rows * ld + 8).astype(t)
        room[room > 1.5], room[room < -1.5] = np.nan, -np.inf
        start = (-room.ctypes.data // room.itemsize) % (16 // room.itemsize) + shift
        y = room[start : start + rows * ld]
        b, want = RNG.standard_normal(n).astype(t), y.copy()
        rest = want.reshape(rows, ld)[:, :n]
        cpu._registry["linear.bias_relu"].reference_fn(rest, b, n, ld, bias, relu)
        contract.simulate(
            "linear.bias_relu", t, "", [y, b if bias else None], (n, ld, bias, relu), (), rows, threads=64
        )
        np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize("t", ["int64", "int32", "int8"])
def test_int_product(t):
    cpu.registered()
    for batch, m, n, k, shared in ((1, 1, 1, 1, False), (2, 3, 17, 20, False), (2, 17, 2, 5, True)):
        a, b = (
            RNG.integers(-2, 3, (batch, m, k)).astype(t),
            RNG.integers(-2, 3, (1 if shared else batch, k, n)).astype(t),
        )
        got, want = np.full((batch, m, n), 7, t), np.full((batch, m, n), 7, t)
        dims = (m, n, k, 0 if shared else k * n)
        contract.simulate("linear.int_product", t, "", [got, a, b], dims, (), batch * m)
        cpu._registry["linear.int_product"].reference_fn(want, a, b, *dims)
        np.testing.assert_array_equal(got, want)
