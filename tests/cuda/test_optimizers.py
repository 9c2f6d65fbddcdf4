"""Optimizer kernels for a GPU, in the simulator, beside the CPU's and their NumPy references."""

import numpy as np
import pytest

from minigrad.kernels import contract as cpu
from minigrad.kernels import optimizers
from minigrad.kernels.cuda import contract
from minigrad.kernels.cuda import optimizers as gpu

from ..kernels.harness import reference, run
from ..kernels.test_optimizers import OPTIMIZERS

pytestmark = pytest.mark.cuda_sim
SIZES = (0, 1, 2049, 2047, 2048)  # the second and the fourth at unaligned addresses
SPECIAL = (np.inf, -np.inf, np.nan, 0.0, -0.0, 1e-30, 1e30, 1e-42)
SGD = OPTIMIZERS["sgd"]
CASES = {
    **OPTIMIZERS,
    "sgd": (*SGD[:3], [*SGD[3], ((0, 0), (0.1, 0, 0, 0)), ((0, 1), (0.1, 0, 0, 0.01))]),
}


class Tensors:
    """A column of tensors for each name, some of them at addresses that are no multiple of 16 bytes; their tables."""

    def __init__(self, t, sizes=SIZES, seed=0, unaligned=True, **start):
        rng = np.random.default_rng(seed)
        self.t, self.sizes = t, np.array(sizes, np.int64)
        self.chunk_tensor, self.chunk_start = optimizers.chunks(sizes)
        self.columns = {}
        for name, value in start.items():
            self.columns[name] = [self._tensor(size, k % 2 * unaligned) for k, size in enumerate(sizes)]
            for x in self.columns[name]:
                x[:] = rng.standard_normal(x.size) if value is None else value

    def _tensor(self, size, by):
        room = np.empty(size + 16, self.t)
        start = -room.ctypes.data % 16 // room.itemsize + by
        return room[start : start + size]

    def like(self, t, unaligned=True):
        other = Tensors(t, self.sizes.tolist(), unaligned=unaligned, **dict.fromkeys(self.columns))
        other.set(self)
        return other

    def set(self, source, name=None):
        for key in self.columns if name is None else [name]:
            for x, y in zip(self.columns[key], source.columns[key], strict=True):
                x[:] = y

    def arrays(self, names, table=None):
        columns = [[x.ctypes.data for x in self.columns[name]] for name in names]
        tables = [] if table is None else [np.array([table] * len(self.sizes), np.float64)]
        return [*(np.array(c, np.int64) for c in columns), self.chunk_tensor, self.chunk_start, self.sizes, *tables]

    def equals(self, other, tolerance=0):
        for name, column in self.columns.items():
            for x, y in zip(column, other.columns[name], strict=True):
                if tolerance:
                    np.testing.assert_allclose(x, y, tolerance, tolerance, err_msg=name)
                else:
                    np.testing.assert_array_equal(x, y, err_msg=name)


def launch(name, x, names, dims=(), scalars=(), table=None, before=(), **options):
    bufs = [*before, *x.arrays(names, table)]
    contract.simulate(f"optimizers.{name}", x.t, "", bufs, dims, scalars, len(x.chunk_tensor), **options)


def on_cpu(name, x, names, dims=(), scalars=(), table=None, before=()):
    bufs = [*before, *x.arrays(names, table)]
    run(f"optimizers.{name}", bufs, dims, scalars, len(x.chunk_tensor), x.t)


@pytest.mark.parametrize(
    ("name", "dims", "scalars"), [(name, *setting) for name, case in CASES.items() for setting in case[3]]
)
def test_steps(name, dims, scalars):
    """float32: the bits of the CPU kernel, whatever the gradient is. float64: the reference."""
    columns, start, row, _ = CASES[name]
    names = columns.split()
    x = Tensors("float32", **{"p": None, "g": None, **start})
    y, z = x.like("float32"), x.like("float64", unaligned=False)
    z_expected = z.like("float64")
    for step in (1, 2):
        g = Tensors("float32", seed=step, g=None)
        for a in (z, z_expected):
            a.set(g, "g")
        g.columns["g"][2][100 : 100 + len(SPECIAL)] = SPECIAL
        for a in (x, y):
            a.set(g, "g")
        table = None if row is None else row(step)
        launch(name, x, names, dims, (*scalars, 0.5), table)
        on_cpu(name, y, names, dims, (*scalars, 0.5), table)
        x.equals(y)
        if step == 1:
            launch(name, z, names, dims, (*scalars, 0.5), table)
            reference(f"optimizers.{name}", z_expected.arrays(names, table), dims, (*scalars, 0.5))
            z.equals(z_expected, 1e-12)


def test_many_tensors_are_one_launch():
    columns, start, row, settings = CASES["adam"]
    names, (dims, scalars) = columns.split(), settings[2]
    x = Tensors("float32", sizes=[1 + k % 5 for k in range(60)], **{"p": None, "g": None, **start})
    y = x.like("float32")
    launch("adam", x, names, dims, (*scalars, 1.0), row(1))
    on_cpu("adam", y, names, dims, (*scalars, 1.0), row(1))
    x.equals(y)


def test_the_grid_changes_no_bit():
    x = Tensors("float32", p=None, b=None, g=None)
    y = x.like("float32", unaligned=False)
    setting = (1, 0), (0.1, 0.9, 0, 0.01, 1.0)
    launch("sgd", x, "pbg", *setting, (0.0,), most=1)
    launch("sgd", y, "pbg", *setting, (0.0,), most=4)
    x.equals(y)


def test_nothing_is_read_that_is_not_there():
    """No momentum buffer without momentum, no maximum without amsgrad; infinite parameters survive weight_decay = 0."""
    x = Tensors("float32", sizes=(3,), p=np.inf, g=1, m=0.5, v=0.5)
    p, g, m, v = (x.arrays(name)[0] for name in "pgmv")
    chunks = x.arrays("p")[1:]
    contract.simulate("optimizers.sgd", "float32", "", [p, None, g, *chunks, np.zeros((1, 1))], (0, 0),
                      (0.1, 0, 0, 0, 1), 1)  # fmt: skip
    contract.simulate("optimizers.adam", "float32", "", [p, m, v, None, g, *chunks, np.ones((1, 2))], (0, 0, 0),
                      (0.1, 0.9, 0.99, 1e-8, 0, 1), 1)  # fmt: skip
    assert (x.columns["p"][0] == np.inf).all() and np.isfinite(x.columns["m"][0]).all()


@pytest.mark.parametrize("t", ["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "scalars"), [("norm_squares", ()), ("norm_max", ()), ("norm_powers", (1,)), ("norm_powers", (2.5,))]
)
def test_norms(name, scalars, t):
    x = Tensors(t, g=None)
    aligned, wide = x.like(t, unaligned=False), x.like("float64")
    count = len(x.chunk_tensor)
    part, again, expected = np.full(count, 7.0), np.full(count, 7.0), np.full(count, 7.0)
    launch(name, x, "g", (), scalars, before=[part])
    launch(name, aligned, "g", (), scalars, before=[again], most=1)
    reference(f"optimizers.{name}", [expected, *wide.arrays("g")], (), scalars)
    np.testing.assert_allclose(part, expected, 1e-12)
    assert part.tobytes() == again.tobytes()
    for special in (-np.inf, np.nan):
        x.columns["g"][3][777] = special
        launch(name, x, "g", (), scalars, before=[part])
        np.testing.assert_array_equal(part[x.chunk_tensor == 3], abs(special))
        assert np.isfinite(part[x.chunk_tensor != 3]).all()


@pytest.mark.parametrize(
    ("name", "names", "scalars"),
    [
        ("scale", "g", (0.3,)),
        ("scale", "g", (1.0,)),
        ("scale", "g", (np.nan,)),
        ("scale", "g", (0.0,)),
        ("clamp", "g", (-0.5, 0.7)),
        ("lerp", "gp", (0.1,)),
        ("lerp", "gp", (0.9,)),
        ("muon", "pbg", (0.95, 0.01)),
        ("muon", "pbg", (0.3, 0)),
    ],
)
def test_scale_clamp_lerp_and_muon(name, names, scalars):
    for t in ("float32", "float64"):
        x = Tensors(t, **dict.fromkeys(names))
        x.columns["g"][2][100 : 100 + len(SPECIAL)] = SPECIAL
        y = x.like(t)
        launch(name, x, names, (), scalars)
        on_cpu(name, y, names, (), scalars)
        x.equals(y)


def test_no_chunks_no_launch():
    x = Tensors("float32", sizes=(0, 0), g=None)
    launch("scale", x, "g", (), (0.5,))


def test_constants():
    assert gpu.CHUNK == optimizers.CHUNK and gpu.CHUNK % (4 * gpu.BLOCK) == 0
    assert all(
        not contract.find(name).fma for name in cpu.registered() if name.startswith(("optimizers.", "factored."))
    )
