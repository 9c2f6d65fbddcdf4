"""How elementwise kernels bring strided operands together."""

import itertools

import numpy as np
import pytest

from .harness import reference, run


@pytest.mark.parametrize("t", ["float32", "float64", "int8", "bool"])
def test_pack(t):
    x = np.random.default_rng(0).integers(0, 2 if t == "bool" else 99, 9000).astype(t)
    for rows, width, (step, stride) in itertools.product(
        (1, 2, 7, 8, 19), (1, 5, 8, 16, 33), ((0, 0), (3, 0), (40, 1), (80, 2), (100, 3), (1, 60), (2, 77), (0, 5))
    ):
        found, wanted = np.zeros((2, rows * width + 16), t)
        for run_it in (run, reference):
            y = found if run_it is run else wanted
            run_it("elementwise.pack", [y, x], (11, rows, width, step, stride), *([(), 1, t] if run_it is run else []))
        message = f"{rows} x {width}, step {step}, stride {stride}"
        np.testing.assert_array_equal(found[: rows * width], wanted[: rows * width], message)
