"""The pass after a matrix product for a GPU, in the simulator."""

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
