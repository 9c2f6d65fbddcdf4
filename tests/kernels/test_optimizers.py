"""Optimizer kernels against their NumPy references, PyTorch's measured trajectories and the edge cases."""

import math
import platform
import re

import numpy as np
import pytest

from minigrad.kernels import contract, optimizers

from .harness import reference, run

SIZES = (0, 1, 7, 1000, 20000)
inf, nan = np.inf, np.nan


class Columns:
    """One tensor a size and column ("p", "g", state...), each at an odd address, and the address tables."""

    def __init__(self, t, sizes=SIZES, seed=0, absent=(), **start):
        rng = np.random.default_rng(seed)
        self.t, self.sizes, self.columns = t, np.array(sizes, np.int64), {}
        self.chunks = optimizers.chunks(sizes)
        for name, value in start.items():
            column = self.columns[name] = []
            for size in sizes:
                a = np.empty(size + 1, t)[1:]
                a[:] = rng.standard_normal(size) if value is None else value
                column.append(a)
        for name in absent:
            self.columns[name] = None

    def addresses(self, name):
        column = self.columns[name]
        return None if column is None else np.array([a.ctypes.data for a in column], np.int64)

    def arrays(self, names, table):
        tables = [] if table is None else [np.asarray(table, np.float64)]
        return [*map(self.addresses, names), *self.chunks, self.sizes, *tables]

    def copy(self, t):
        other = object.__new__(Columns)
        other.t, other.sizes, other.chunks = t, self.sizes, self.chunks
        other.columns = {}
        for name, column in self.columns.items():
            other.columns[name] = None if column is None else [a.astype(t) for a in column]
        return other

    def bytes(self):
        return b"".join(a.tobytes() for column in self.columns.values() if column for a in column)


def same(a, b, tolerance):
    for name, column in a.columns.items():
        for x, y in zip(column or (), b.columns[name] or (), strict=True):
            np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance, err_msg=name)


def nadam_row(t, lr=0.01, beta1=0.9, beta2=0.999, decay=0.004):
    mu = [beta1 * (1 - 0.5 * 0.96 ** (k * decay)) for k in range(1, t + 2)]
    product = math.prod(mu[:t])
    return 1 - beta2**t, lr * (1 - mu[t - 1]) / (1 - product), lr * mu[t] / (1 - product * mu[t])


def radam_row(t, beta1=0.9, beta2=0.999):
    rho = 2 / (1 - beta2) - 1
    rho_t = rho - 2 * t * beta2**t / (1 - beta2**t)
    rectify = math.sqrt((rho_t - 4) * (rho_t - 2) * rho / ((rho - 4) * (rho - 2) * rho_t)) if rho_t > 5 else 0
    return 1 - beta1**t, math.sqrt(1 - beta2**t), rectify


def adam_row(t, lr=0.01, beta1=0.9, beta2=0.999):
    return lr / (1 - beta1**t), math.sqrt(1 - beta2**t)


ADAM = (0.01, 0.9, 0.999, 1e-8)
# kernel: columns in its order, start of each state, table row of step t or None, [(dims, scalars less grad_scale)]
OPTIMIZERS = {
    "sgd": (
        "p b g",
        {"b": nan},  # a new buffer is never read
        lambda t: (float(t == 1),),
        [
            ((0, 0), (0.1, 0.9, 0.5, 0)),
            ((1, 0), (0.1, 0.9, 0, 0.01)),
            ((0, 1), (0.1, 0.9, 0, 0.01)),
        ],
    ),
    "adam": (
        "p m v top g",
        {"m": 0, "v": 0, "top": 0},
        adam_row,
        [
            ((0, 0, 0), (*ADAM, 0)),
            ((0, 0, 1), (*ADAM, 0.1)),
            ((0, 1, 0), (*ADAM, 0.1)),
            ((1, 1, 0), (*ADAM, 0.1)),
            ((1, 0, 1), (*ADAM, 0.1)),
            ((0, 0, 0), (0.01, 0.3, 0.999, 1e-8, 0)),
        ],
    ),
    "rmsprop": (
        "p v b mean g",
        {"v": 0, "b": 0, "mean": 0},
        None,
        [
            ((0, 0), (0.01, 0.99, 1e-8, 0, 0)),
            ((1, 0), (0.01, 0.9, 1e-4, 0.1, 0)),
            ((0, 1), (0.01, 0.9, 1e-4, 0.1, 0.9)),
            ((1, 0), (0.01, 0.9, 1e-4, 0, 0.9)),
        ],
    ),
    "adagrad": (
        "p s g",
        {"s": 0.1},
        lambda t: (0.1 / (1 + (t - 1) * 0.01),),
        [((0,), (1e-10, 0)), ((1,), (1e-10, 0.1))],
    ),
    "adadelta": ("p v u g", {"v": 0, "u": 0}, None, [((0,), (1.0, 0.9, 1e-6, 0)), ((1,), (0.5, 0.9, 1e-6, 0.1))]),
    "adamax": (
        "p m u g",
        {"m": 0, "u": 0},
        lambda t: (0.01 / (1 - 0.9**t),),
        [((0,), (0.9, 0.999, 1e-8, 0)), ((1,), (0.9, 0.999, 1e-8, 0.1))],
    ),
    "nadam": (
        "p m v g",
        {"m": 0, "v": 0},
        nadam_row,
        [((0, 0), (*ADAM, 0)), ((0, 1), (*ADAM, 0.1)), ((1, 0), (*ADAM, 0.1))],
    ),
    "radam": (
        "p m v g",
        {"m": 0, "v": 0},
        radam_row,
        [((0, 0), (*ADAM, 0)), ((0, 1), (*ADAM, 0.1)), ((1, 0), (*ADAM, 0.1))],
    ),
    "asgd": (
        "p a g",
        {"a": 0},
        lambda t: (0.01 / (1 + 1e-4 * 0.01 * (t - 1)) ** 0.75, 1 / max(1, t - 1 - 2)),
        [((0,), (1e-4, 0)), ((1,), (1e-4, 0.1))],
    ),
    "rprop": (
        "p last step g",
        {"last": 0, "step": 0.01},
        None,
        [((0,), (0.5, 1.2, 1e-6, 50)), ((1,), (0.5, 1.2, 1e-6, 0.012))],
    ),
}
CASES = [(name, t) for name in OPTIMIZERS for t in ("float32", "float64") if t == "float64" or name in ("sgd", "adam")]


@pytest.mark.parametrize(("name", "t"), CASES)
def test_optimizer_equals_its_reference(name, t):
    """Steps on tensors of all sizes at once; the reference is float64, so float32 is off by its own rounding."""
    columns, start, row, settings = OPTIMIZERS[name]
    names = columns.split()
    for dims, scalars in settings:
        a = Columns(t, p=None, g=None, **start)
        b = a.copy("float64")
        whole, split = a.copy(t), a.copy(t)
        for step in range(1, 9):
            rng = np.random.default_rng(step)
            for k, size in enumerate(SIZES):
                g = rng.standard_normal(size)
                for c in (a, b, whole, split):
                    c.columns["g"][k][:] = g.astype(t)
            table = None if row is None else [row(step)] * len(SIZES)
            count = len(a.chunks[0])
            run(f"optimizers.{name}", a.arrays(names, table), dims, (*scalars, 0.5), count, t)
            run(f"optimizers.{name}", whole.arrays(names, table), dims, (*scalars, 0.5), count, t)
            for lo, hi in ((0, 1), (1, 2), (2, count)):
                run(f"optimizers.{name}", split.arrays(names, table), dims, (*scalars, 0.5), hi, t, lo=lo)
            reference(f"optimizers.{name}", b.arrays(names, table), dims, (*scalars, 0.5))
        same(a, b, 1e-12 if t == "float64" else 3e-6)
        # neither the split nor the alignment (copies are aligned, the first is not) changes a bit
        assert a.bytes() == whole.bytes() == split.bytes()


def trajectory(name, grads, dims, scalars, rows, start, p=1.0, t="float64", n=1):
    """Values of one parameter over steps with the given gradients."""
    names = OPTIMIZERS[name][0].split()
    c = Columns(t, sizes=(n,), p=p, g=0, **start)
    out = []
    for step, g in enumerate(grads, 1):
        c.columns["g"][0][:] = g
        table = None if rows is None else [rows(step)]
        run(f"optimizers.{name}", c.arrays(names, table), dims, (*scalars, 1.0), len(c.chunks[0]), t)
        assert (c.columns["p"][0] == c.columns["p"][0][0]).all() or np.isnan(c.columns["p"][0]).all()
        out.append(c.columns["p"][0][0])
    return out, c


def test_sgd_has_pytorchs_trajectories():
    def sgd(momentum=0.0, dampening=0.0, weight_decay=0.0, nesterov=0, maximize=0):
        scalars = (0.1, momentum, dampening, weight_decay)
        return trajectory("sgd", [1] * 3, (nesterov, maximize), scalars, lambda t: (float(t == 1),), {"b": nan})[0]

    np.testing.assert_allclose(sgd(0.9, 0.5), [0.9, 0.76, 0.584])
    np.testing.assert_allclose(sgd(0.9), [0.9, 0.71, 0.439])
    np.testing.assert_allclose(sgd(0.9, nesterov=1), [0.81, 0.539, 0.1951])
    np.testing.assert_allclose(sgd(weight_decay=0.1), [0.89, 0.7811, 0.673289])
    np.testing.assert_allclose(sgd(weight_decay=0.1, maximize=1)[:2], [1.09, 1.1791])
    np.testing.assert_allclose(sgd(maximize=1), [1.1, 1.2, 1.3])


@pytest.mark.parametrize("t", ["float32", "float64"])
def test_adam_has_pytorchs_trajectories(t):
    def adam(grads=(1, -0.5, 2), weight_decay=0.0, amsgrad=0, decoupled=0):
        scalars = (0.1, 0.9, 0.999, 1e-8, weight_decay)
        rows = lambda step: adam_row(step, lr=0.1)  # noqa: E731
        start = {"m": 0, "v": 0, "top": 0}
        return trajectory("adam", grads, (amsgrad, decoupled, 0), scalars, rows, start, t=t, n=21)

    values, state = adam()
    np.testing.assert_allclose(values, [0.9, 0.8733664, 0.8075552], rtol=2e-7)
    np.testing.assert_allclose([state.columns[k][0][0] for k in "mv"], [0.236, 0.00524775], rtol=1e-6)
    np.testing.assert_allclose(adam(weight_decay=0.1)[0], [0.9, 0.8632183, 0.7935998], rtol=2e-7)
    np.testing.assert_allclose(adam(weight_decay=0.1, decoupled=1)[0], [0.89, 0.8544664, 0.7801105], rtol=2e-7)
    np.testing.assert_allclose(adam((1, -0.5, 0.1), amsgrad=1)[0], [0.9, 0.8733664, 0.8471643], rtol=2e-7)
    assert np.isnan(adam((inf, 1))[0]).all() and np.isnan(adam((nan, 1))[0]).all()
    if t == "float32":  # v underflows to 0, the parameter does not move
        values, state = adam((1e-30,))
        assert values == [1] and state.columns["v"][0][0] == 0


def test_adam_stays_with_pytorchs_formula_in_float32():
    """100 steps of torch's float32 operations one by one (torch/optim/adam.py), written in NumPy."""
    rng, f = np.random.default_rng(0), np.float32
    c = Columns("float32", sizes=(1000,), p=None, g=0, m=0, v=0, absent=["top"])
    p, m, v = (c.columns[k][0].copy() for k in "pmv")
    for t in range(1, 101):
        g = rng.standard_normal(1000).astype(f)
        c.columns["g"][0][:] = g
        run(
            "optimizers.adam",
            c.arrays(["p", "m", "v", "top", "g"], [adam_row(t)]),
            (0, 0, 0),
            (*ADAM, 0, 1),
            1,
            "float32",
        )
        m += f(1 - 0.9) * (g - m)
        v = v * f(0.999) + f(1 - 0.999) * g * g
        step_size, root = adam_row(t)
        p += f(-step_size) * m / (np.sqrt(v) / f(root) + f(1e-8))
    assert m.dtype == v.dtype == p.dtype == f
    np.testing.assert_allclose(c.columns["p"][0], p, rtol=1e-6, atol=1e-6)
    assert m.tobytes() == c.columns["m"][0].tobytes() and v.tobytes() == c.columns["v"][0].tobytes()


def test_rmsprop_and_adagrad_have_pytorchs_trajectories():
    start = {"v": 0, "b": 0, "mean": 0}
    values, _ = trajectory("rmsprop", (1, -0.5, 2), (0, 0), (0.1, 0.99, 1e-8, 0, 0), None, start)
    np.testing.assert_allclose(values, [1e-8, 0.4490133, -0.4257263], atol=2e-7)
    values, _ = trajectory("adagrad", (1, -0.5, 2), (0,), (1e-10, 0), lambda t: (0.1,), {"s": 0})
    np.testing.assert_allclose(values, [0.9, 0.9447213, 0.8574342], rtol=1e-7)


def test_nothing_is_read_that_is_not_there():
    """No momentum buffer without momentum; infinite parameters survive weight_decay = 0."""
    c = Columns("float32", sizes=(3,), p=inf, g=1, absent=["b"])
    run("optimizers.sgd", c.arrays(["p", "b", "g"], [[0.0]]), (0, 0), (0.1, 0, 0, 0, 1), 1)
    assert (c.columns["p"][0] == inf).all()


# --- factored second moments ----------------------------------------------------------------------------------------

SHAPES = ((0, 0, 0), (1, 1, 1), (1, 1, 7), (1, 5, 1), (1, 7, 13), (3, 4, 5), (2, 3, 2500), (1, 130, 17), (0, 4, 3))
VECTORS = (0, 1, 7, 3000)


class Factored:
    """Matrices (B, H, W) and vectors with their moments, and the tables of Adafactor's kernel."""

    def __init__(self, t, scale=1.0):
        rng = np.random.default_rng(0)
        self.shapes = [*SHAPES, *[(1, 1, n) for n in VECTORS]]
        self.vector = [False] * len(SHAPES) + [True] * len(VECTORS)
        self.p, self.g = ([s * rng.standard_normal(shape) for shape in self.shapes] for s in (1.0, scale))
        self.row = [np.zeros(w if v else b * h) for (b, h, w), v in zip(self.shapes, self.vector)]
        self.column = [np.zeros(0 if v else b * w) for (b, h, w), v in zip(self.shapes, self.vector)]
        for name in ("p", "g", "row", "column"):
            setattr(self, name, [np.ascontiguousarray(a, t) for a in getattr(self, name)])

    def arrays(self, table):
        addresses = [
            np.array([0 if name == "column" and v else a.ctypes.data for a, v in zip(getattr(self, name), self.vector)])
            for name in ("p", "row", "column", "g")
        ]
        return [*addresses, *(np.array([s[i] for s in self.shapes]) for i in (1, 2)),
                np.array([math.prod(s) for s in self.shapes]), np.array([table] * len(self.shapes))]  # fmt: skip

    def bytes(self):
        return b"".join(a.tobytes() for name in ("p", "row", "column") for a in getattr(self, name))


@pytest.mark.parametrize("t", ["float32", "float64"])
@pytest.mark.parametrize("scale", [1.0, 1e-4, 0.0])
def test_adafactor_equals_its_reference(t, scale):
    """Whole tensors are units; a split of them changes no bit, and the gradient is only read."""
    eps = float(np.finfo(t).eps)
    for maximize, scalars in ((0, (0.01, eps, 1e-3, 1.0, 0.0)), (1, (0.5, 1e-2, 3.0, 2.5, 0.1))):
        a, split, b = Factored(t, scale), Factored(t, scale), Factored("float64", scale)
        for x, y, z in zip(a.g, b.g, a.p, strict=True):
            y[:] = x
            assert z.dtype == t
        for x, y in zip(a.p, b.p, strict=True):
            y[:] = x
        count = len(a.shapes)
        for step in range(1, 5):
            table = (step**-0.8, min(scalars[0], step**-0.5))
            run("factored.adafactor", a.arrays(table), (maximize,), scalars, count, t)
            for lo in range(count):
                run("factored.adafactor", split.arrays(table), (maximize,), scalars, lo + 1, t, lo=lo)
            reference("factored.adafactor", b.arrays(table), (maximize,), scalars)
        assert a.bytes() == split.bytes()
        for name, rtol in (("row", 1), ("column", 1), ("p", 3)):
            for x, y in zip(getattr(a, name), getattr(b, name), strict=True):
                tolerance = rtol * (1e-12 if t == "float64" else 2e-6)
                np.testing.assert_allclose(x, y, tolerance, tolerance * abs(y).max(initial=0), err_msg=name)
        for x, y in zip(a.g, Factored(t, scale).g, strict=True):
            assert x.tobytes() == y.tobytes()


@pytest.mark.parametrize("special", [nan, inf, -inf])
def test_special_gradients_of_adafactor(special):
    """As in PyTorch they spoil their own tensor, no other."""
    a, clean = Factored("float64"), Factored("float64")
    k = a.shapes.index((1, 7, 13))
    a.g[k][0, 2, 3] = special
    for x in (a, clean):
        run("factored.adafactor", x.arrays((0.5, 0.01)), (0,), (0.01, 1e-16, 1e-3, 1.0, 0.0), len(a.shapes), "float64")
    assert np.isnan(a.p[k]).any()
    for i, (x, y) in enumerate(zip(a.p, clean.p, strict=True)):
        assert i == k or x.tobytes() == y.tobytes()


# --- all gradients ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("t", ["float32", "float64"])
def test_norms(t):
    a = Columns(t, g=None)
    b = a.copy("float64")
    count = len(a.chunks[0])
    for name, scalars in (("norm_squares", ()), ("norm_max", ()), ("norm_powers", (1,)), ("norm_powers", (3,))):
        part, split, want = np.full(count, 7.0), np.full(count, 7.0), np.full(count, 7.0)
        run(f"optimizers.{name}", [part, *a.arrays("g", None)], (), scalars, count, t)
        for lo in range(count):
            run(f"optimizers.{name}", [split, *a.arrays("g", None)], (), scalars, lo + 1, t, lo=lo)
        reference(f"optimizers.{name}", [want, *b.arrays("g", None)], (), scalars)
        np.testing.assert_allclose(part, want, rtol=1e-12)
        assert part.tobytes() == split.tobytes()
        for special in (inf, -inf, nan):
            broken = a.copy(t)
            broken.columns["g"][3][777] = special
            run(f"optimizers.{name}", [part, *broken.arrays("g", None)], (), scalars, count, t)
            np.testing.assert_array_equal(part[2], abs(special))
            assert np.isfinite(np.delete(part, 2)).all()


@pytest.mark.parametrize("t", ["float32", "float64"])
def test_scale_clamp_lerp_and_muon(t):
    for name, names, scalars in (
        ("scale", ["g"], (0.3,)),
        ("clamp", ["g"], (-0.5, 0.7)),
        ("lerp", ["g", "p"], (0.1,)),
        ("lerp", ["g", "p"], (0.9,)),
        ("muon", ["p", "b", "g"], (0.95, 0.01)),
        ("muon", ["p", "b", "g"], (0.3, 0)),
    ):
        a = Columns(t, g=None, p=None, b=None)
        b, split = a.copy("float64"), a.copy(t)
        count = len(a.chunks[0])
        run(f"optimizers.{name}", a.arrays(names, None), (), scalars, count, t)
        for lo in range(count):
            run(f"optimizers.{name}", split.arrays(names, None), (), scalars, lo + 1, t, lo=lo)
        reference(f"optimizers.{name}", b.arrays(names, None), (), scalars)
        same(a, b, 1e-12 if t == "float64" else 3e-7)
        assert a.bytes() == split.bytes()


def test_special_gradients_when_clipped():
    """semantics.md, Clipping: nan stays nan; coefficient 0 turns inf into nan and the rest into 0."""
    c = Columns("float32", sizes=(4,), g=0)
    c.columns["g"][0][:] = [nan, inf, -inf, 0.2]
    run("optimizers.clamp", c.arrays("g", None), (), (-1, 1), 1)
    np.testing.assert_array_equal(c.columns["g"][0], np.float32([nan, 1, -1, 0.2]))
    c.columns["g"][0][:] = [nan, inf, 3, 4]
    run("optimizers.scale", c.arrays("g", None), (), (0,), 1)
    np.testing.assert_array_equal(c.columns["g"][0], [nan, nan, 0, 0])


def test_chunks_cover_every_element_once():
    size = optimizers.CHUNK
    tensor, start = optimizers.chunks([0, 1, size, size + 1, 0, 3 * size])
    assert tensor.tolist() == [1, 2, 3, 3, 5, 5, 5]
    assert start.tolist() == [0, 0, 0, size, 0, size, 2 * size]
    assert all(a.dtype == np.int64 for a in (tensor, start))
    assert [a.tolist() for a in optimizers.chunks([])] == [[], []]
    assert size % optimizers.STRIP == 0


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 registers")
def test_adam_is_vectorised():
    code = contract.assembly("optimizers.adam", "float32")
    assert re.search(r"sqrtps\s.*[xyz]mm", code) and re.search(r"divps\s.*[xyz]mm", code)
