"""How elementwise kernels bring strided operands together."""

import itertools

import numpy as np
import pytest

from .harness import run


@pytest.mark.parametrize("t", ["float32", "float64", "int8", "bool"])
def test_copy_strided(t):
    x = np.random.default_rng(0).integers(0, 2 if t == "bool" else 99, 9000).astype(t)
    for rows, width, (ty, sy), (tx, sx) in itertools.product(
        (1, 3, 8, 37), (1, 5, 16, 37), ((40, 1), (80, 2), (120, 3), (160, 4), (200, 5)),
        ((40, 1), (80, 2), (120, 3), (160, 4), (200, 5), (40, -1), (1, 40), (2, 77), (3, 120), (0, 1), (1, 0)),
    ):  # fmt: skip
        y = np.full(9000, x[0], t)
        wanted = y.copy()
        for r, c in itertools.product(range(rows), range(width)):
            wanted[r * ty + c * sy] = x[40 + r * tx + c * sx]
        for lo, hi in ((0, rows // 2), (rows // 2, rows)):
            run("elementwise.copy_strided", [y, x[40:]], (1, width, sy, sx, rows, ty, tx), units=hi, lo=lo, t=t)
        np.testing.assert_array_equal(y, wanted, f"{rows} x {width}, {(ty, sy)} from {(tx, sx)}")
