"""Adafactor's kernel for a GPU, in the simulator, beside its NumPy reference."""

import math

import numpy as np
import pytest

from minigrad.kernels.cuda import contract

from ..kernels.harness import reference

pytestmark = pytest.mark.cuda_sim
# (B, H, W): matrices that are one thread's work, more of them than threads, and those that are a block's
MATRICES = ((0, 4, 3), (2, 0, 3), (1, 1, 1), (3, 4, 5), (100, 2, 3), (1, 5, 40), (2, 21, 33), (1, 70, 5))
VECTORS = (0, 1, 7, 300)
SHAPES = (*MATRICES, *((1, 1, n) for n in VECTORS))


class Tensors:
    def __init__(self, t, scale=1.0):
        rng = np.random.default_rng(0)
        self.t, n = t, len(MATRICES)
        p, g = ([s * rng.standard_normal(shape) for shape in SHAPES] for s in (1.0, scale))
        row = [np.zeros(b * h if k < n else w) for k, (b, h, w) in enumerate(SHAPES)]
        column = [np.zeros(b * w if k < n else 0) for k, (b, h, w) in enumerate(SHAPES)]
        self.columns = {"p": p, "row": row, "column": column, "g": g}
        self.columns = {k: [np.ascontiguousarray(x, t) for x in v] for k, v in self.columns.items()}

    def like(self, t):
        other = Tensors(t)
        other.columns = {k: [x.astype(t) for x in v] for k, v in self.columns.items()}
        return other

    def arrays(self, table):
        n = len(MATRICES)
        addresses = [np.array([x.ctypes.data for x in column]) for column in self.columns.values()]
        addresses[2][n:] = 0
        heights, widths, sizes = (np.array(x) for x in zip(*((h, w, math.prod((b, h, w))) for b, h, w in SHAPES)))
        return [*addresses, heights, widths, sizes, np.array([table] * len(SHAPES))]

    def step(self, table, maximize, scalars, **options):
        arrays = self.arrays(table)
        contract.simulate(
            "factored.adafactor", self.t, "", arrays, (maximize,), scalars, len(SHAPES), threads=64, **options
        )

    def bytes(self):
        return b"".join(x.tobytes() for name in ("p", "row", "column") for x in self.columns[name])


@pytest.mark.parametrize(
    ("t", "scale", "maximize", "scalars"),
    [
        ("float32", 1.0, 0, (0.01, 2.0**-23, 1e-3, 1.0, 0.0)),
        ("float64", 1.0, 1, (0.5, 1e-2, 3.0, 2.5, 0.1)),
        ("float32", 1e-4, 1, (0.5, 1e-2, 3.0, 2.5, 0.1)),
        ("float64", 1e-4, 0, (0.01, 2.0**-52, 1e-3, 1.0, 0.0)),
        ("float32", 0.0, 0, (0.01, 2.0**-23, 1e-3, 1.0, 0.1)),
    ],
)
def test_adafactor(t, scale, maximize, scalars):
    x = Tensors(t, scale)
    expected = x.like("float64")
    for step in (1, 2):
        table = (step**-0.8, min(scalars[0], step**-0.5))
        x.step(table, maximize, scalars)
        reference("factored.adafactor", expected.arrays(table), (maximize,), scalars)
    for name, rtol in (("row", 1), ("column", 1), ("p", 3)):
        for a, b in zip(x.columns[name], expected.columns[name], strict=True):
            tolerance = rtol * (1e-12 if t == "float64" else 2e-6)
            np.testing.assert_allclose(a, b, tolerance, tolerance * abs(b).max(initial=0), err_msg=name)
    for a, b in zip(x.columns["g"], Tensors(t, scale).columns["g"], strict=True):
        assert a.tobytes() == b.tobytes()


def test_the_grid_changes_no_bit():
    x, y = Tensors("float32"), Tensors("float32")
    for z, most in ((x, 1), (y, 3)):
        z.step((0.5, 0.01), 0, (0.01, 1e-7, 1e-3, 1.0, 0.0), most=most)
    assert x.bytes() == y.bytes()


@pytest.mark.parametrize("special", [np.nan, np.inf])
def test_special_gradients_spoil_their_own_tensor(special):
    x, clean = Tensors("float64"), Tensors("float64")
    k = SHAPES.index((2, 21, 33))
    x.columns["g"][k][0, 2, 3] = special
    for z in (x, clean):
        z.step((0.5, 0.01), 0, (0.01, 1e-16, 1e-3, 1.0, 0.0))
    assert np.isnan(x.columns["p"][k]).any()
    for i, (a, b) in enumerate(zip(x.columns["p"], clean.columns["p"], strict=True)):
        assert i == k or a.tobytes() == b.tobytes()
