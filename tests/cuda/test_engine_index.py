"""Indexing, random numbers and long reductions on a GPU, real or pretended: as on the CPU."""

import numpy as np
import pytest

import minigrad as mg

from .both import agree, needs_gpu, same

pytestmark = needs_gpu
X = np.arange(24, dtype=np.float32).reshape(4, 6)
ROWS, MASK = [2, 0, -1], [True, False, True, False, True, False]
PLACES = np.array([[0, 1, 2, 0, 0, 0], [1, 1, 1, 1, 1, 1]])


def index(m, values):
    return m.from_numpy(np.array(values))


SELECTIONS = {
    "an index on the device": lambda m, x: x[index(m, ROWS)],
    "an index on the CPU": lambda m, x: x[mg.tensor(ROWS)],
    "a list": lambda m, x: x[ROWS],
    "columns": lambda m, x: x[:, ROWS],
    "two": lambda m, x: x[index(m, ROWS), mg.tensor(ROWS)],
    "two that broadcast": lambda m, x: x[index(m, ROWS)[:, None], index(m, [1, 1])],
    "an index and a mask": lambda m, x: x[index(m, ROWS)[:, None], mg.tensor(MASK)],
    "a mask": lambda m, x: x[x > 5],
    "a mask of rows": lambda m, x: x[index(m, [True, False, True, True])],
    "of a view": lambda m, x: x.t()[index(m, ROWS), 1:],
    "none and true": lambda m, x: x[None, ..., True],
    "gather": lambda m, x: x.gather(0, index(m, PLACES)),
    "take": lambda m, x: mg.take(x, index(m, PLACES)),
    "take_along_dim": lambda m, x: mg.take_along_dim(x, index(m, PLACES), 0),
    "index_select": lambda m, x: x.index_select(1, index(m, [0, 2, 2])),
    "scatter": lambda m, x: x.scatter(0, index(m, PLACES), x[1:3]),
    "scatter a number": lambda m, x: x.scatter(1, index(m, PLACES[:, :3]), 1.0),
    "scatter fewer": lambda m, x: x.scatter(0, index(m, PLACES[:, :3]), x[:2]),
    "scatter_add": lambda m, x: x.scatter_add(0, index(m, PLACES), x[:2]),
    "scatter_add fewer": lambda m, x: x.scatter_add(1, index(m, PLACES[:, :3]), x),
    "index_add": lambda m, x: x.index_add(0, index(m, [1, 1]), x[:2]),
    "index_copy": lambda m, x: x.index_copy(0, index(m, [1, 3]), x[:2]),
    "index_fill": lambda m, x: x.index_fill(1, index(m, [1, 3]), 2.0),
    "masked_fill": lambda m, x: x.masked_fill(x > 3, 1.0),
    "masked_select": lambda m, x: mg.masked_select(x, x > 3),
    "triangle": lambda m, x: x.triu(1) + x.tril(),
    "max": lambda m, x: x.max(1).values,
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_selections(name):
    agree(lambda m, x: [SELECTIONS[name](m, x)], X, what=name, twice=True)


def assign(place, value):
    def run(m, x):
        y = x * 2
        y[place(m, y)] = value(m, x)
        return [y]

    return run


ASSIGNMENTS = {
    "a number": assign(lambda m, y: index(m, ROWS), lambda m, x: 7.0),
    "columns": assign(lambda m, y: (slice(None), index(m, ROWS)), lambda m, x: x[0, :3]),
    "repeats": assign(lambda m, y: index(m, [0, 0, 1]), lambda m, x: x[1:]),
    "two": assign(lambda m, y: (index(m, ROWS), mg.tensor(ROWS)), lambda m, x: x[0, :3]),
    "a mask": assign(lambda m, y: y > 9, lambda m, x: 1.0),
    "a mask and a tensor": assign(lambda m, y: y > 39, lambda m, x: x[2, :4]),
    "an array": assign(lambda m, y: index(m, ROWS), lambda m, x: np.arange(6.0, dtype="float32")),
    "a number on the CPU": assign(lambda m, y: index(m, ROWS), lambda m, x: mg.tensor(3.0)),
    "of a view": lambda m, x: [assign(lambda m, y: (index(m, ROWS), 0), lambda m, x: 9.0)(m, x.t()[1:])[0]],
}


@pytest.mark.parametrize("name", ASSIGNMENTS)
def test_assignments(name):
    agree(ASSIGNMENTS[name], X, what=name)
    with mg.no_grad():
        agree(ASSIGNMENTS[name], X, what=name)


def test_writes_into_views():
    sides = []
    for x in (mg.from_numpy(X.copy()).cuda(), mg.from_numpy(X.copy())):
        x[:, 1:][ROWS, 0] = 5.0
        x.t()[ROWS] = mg.arange(4.0).to(x.device)
        x[1:, ::2][x[1:, ::2] > 7] = 0.0
        x.index_put_((mg.tensor([0, 0]),), mg.tensor(1.0), accumulate=True)
        sides.append([x, x.nonzero(), *x.nonzero(as_tuple=True)])
    same(*sides)


@pytest.mark.parametrize("place", [lambda m, x: x[index(m, [1, 9])], lambda m, x: x.gather(0, index(m, PLACES + 4))])
def test_a_bad_index_is_raised_later(place):
    x = mg.from_numpy(X.copy()).cuda()
    y = place(type("m", (), {"from_numpy": staticmethod(lambda a: mg.from_numpy(a).cuda())}), x)
    with pytest.raises(IndexError, match=r"index \d+, element \d, is out of bounds for a dimension of size 4"):
        y.cpu()
    mg.cuda.synchronize()
    assert x[[1]].cpu().tolist() == [X[1].tolist()]


def test_indices_elsewhere():
    x = mg.from_numpy(X.copy())
    for bad in ([9], mg.tensor([9]), mg.tensor([-5])):
        with pytest.raises(IndexError, match="out of bounds for dimension 0 with size 4"):
            x.cuda()[bad]
    with pytest.raises(RuntimeError, match="indices should be either on cpu or on the same device"):
        x[mg.tensor([1]).cuda()]
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        x.cuda().gather(0, mg.from_numpy(PLACES))
    with pytest.raises(IndexError, match="out of bounds"):
        mg.zeros(0, 3).cuda()[mg.tensor([0]).cuda()]


DRAWS = {
    "rand": lambda d: mg.rand(5, 7, device=d),
    "rand64": lambda d: mg.rand(5, dtype=mg.float64, device=d),
    "randint": lambda d: mg.randint(0, 9, (11,), device=d),
    "randint of a type": lambda d: mg.randint(0, 9, (11,), dtype=mg.int16, device=d),
    "randperm": lambda d: mg.randperm(17, device=d),
    "rand_like": lambda d: mg.rand_like(mg.zeros(6, device=d)),
    "bernoulli": lambda d: mg.bernoulli(mg.full((9,), 0.5, device=d)),
    "uniform_": lambda d: mg.empty(9, device=d).uniform_(2, 3),
    "bernoulli_": lambda d: mg.empty(9, device=d).bernoulli_(0.3),
    "random_": lambda d: mg.empty(9, device=d).random_(5),
    "dropout": lambda d: mg.nn.functional.dropout(mg.ones(333, device=d)),
}
NORMAL = {
    "randn": lambda d: mg.randn(9, device=d),
    "randn_like": lambda d: mg.randn_like(mg.zeros(6, device=d)),
    "normal": lambda d: mg.normal(1.0, 2.0, (4,), device=d),
    "means": lambda d: mg.normal(mg.zeros(3, device=d), 1.0),
    "deviations": lambda d: mg.normal(0.0, mg.ones(3, device=d)),
    "normal_": lambda d: mg.empty(9, device=d).normal_(),
}


@pytest.mark.parametrize("name", [*DRAWS, *NORMAL])
def test_draws_do_not_depend_on_the_device(name):
    draws, sides = DRAWS | NORMAL, []
    for device in ("cuda", "cpu"):
        mg.manual_seed(3)
        sides.append([draws[name](device)])
    if name in DRAWS:
        same(*sides, name, exact=True)
    else:
        same(*sides, name)


def test_long_reductions():
    """On a device of many processors they are cut into other blocks."""
    x = np.random.default_rng(0).standard_normal(100_000).astype("float32")
    for shape, dim in (((100_000,), 0), ((400, 250), 0), ((250, 400), 1), ((50_000, 2), 0), ((2, 25_000, 2), 1)):
        a = x.reshape(shape)
        for name in ("sum", "mean", "amax", "argmin", "all", "logsumexp", "cumsum"):
            agree(lambda m, x, name=name, dim=dim: [getattr(x, name)(dim)], a, what=f"{name} {shape}", exact=False)
        agree(lambda m, x, dim=dim: list(x.max(dim)), a, what=f"max {shape}", exact=False)
