"""Random numbers: reproducible from their seed, of the right distribution, independent of threads."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg

DRAWS = {
    "rand": lambda g: mg.rand(1001, generator=g),
    "rand float64": lambda g: mg.rand(1001, generator=g, dtype=mg.float64),
    "randn": lambda g: mg.randn(1001, generator=g),
    "randn float64": lambda g: mg.randn(7, 11, generator=g, dtype=mg.float64),
    "randint": lambda g: mg.randint(-5, 5, (1001,), generator=g),
    "randperm": lambda g: mg.randperm(1001, generator=g),
    "normal": lambda g: mg.normal(2.0, 3.0, (1001,), generator=g),
    "normal of tensors": lambda g: mg.normal(mg.zeros(3, 1), mg.ones(500), generator=g),
    "bernoulli": lambda g: mg.bernoulli(mg.full((1001,), 0.25), generator=g),
    "uniform_": lambda g: mg.empty(1001).uniform_(-1, 1, generator=g),
    "normal_": lambda g: mg.empty(1001).normal_(generator=g),
    "bernoulli_": lambda g: mg.empty(1001).bernoulli_(0.5, generator=g),
    "random_": lambda g: mg.empty(1001, dtype=mg.int64).random_(10, generator=g),
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
def test_a_seed_decides_everything(draw):
    g = mg.Generator().manual_seed(7)
    first, second = draw(g), draw(g)
    assert not mg.equal(first, second)
    g.manual_seed(7)
    assert mg.equal(draw(g), first)
    state = g.get_state()
    assert mg.equal(draw(g), second)
    g.set_state(state)
    assert mg.equal(draw(g), second)
    assert not mg.equal(draw(mg.Generator().manual_seed(8)), first)
    mg.manual_seed(7)
    assert mg.equal(draw(None), first)
    mg.manual_seed(7)
    threads = mg.get_num_threads()
    try:
        mg.set_num_threads(1)
        assert mg.equal(draw(None), first)
    finally:
        mg.set_num_threads(threads)


def test_distributions():
    g = mg.Generator().manual_seed(0)
    n = 200_000
    for dtype in (mg.float32, mg.float64):
        u = mg.rand(n, generator=g, dtype=dtype).numpy()
        assert u.min() >= 0 and u.max() < 1 and abs(u.mean() - 0.5) < 3e-3 and abs(u.var() - 1 / 12) < 2e-3
        z = mg.randn(n, generator=g, dtype=dtype).numpy()
        assert abs(z.mean()) < 0.01 and abs(z.std() - 1) < 0.01 and abs((z**3).mean()) < 0.05
        assert abs((z**4).mean() - 3) < 0.15
    k = mg.randint(3, 8, (n,), generator=g).numpy()
    assert set(k) == {3, 4, 5, 6, 7} and np.abs(np.bincount(k)[3:] / n - 0.2).max() < 0.01
    assert abs(mg.bernoulli(mg.full((n,), 0.3), generator=g).mean().item() - 0.3) < 0.01
    z = mg.normal(5.0, 0.5, (n,), generator=g).numpy()
    assert abs(z.mean() - 5) < 0.01 and abs(z.std() - 0.5) < 0.01
    p = mg.randperm(1000, generator=g).numpy()
    assert sorted(p) == list(range(1000)) and abs(np.corrcoef(p, np.arange(1000))[0, 1]) < 0.15


def test_shapes_dtypes_and_forms():
    assert mg.rand(2, 3).shape == mg.randn((2, 3)).shape == mg.randint(5, (2, 3)).shape == (2, 3)
    assert mg.rand(0).shape == mg.randint(5, (0,)).shape == mg.randperm(0).shape == (0,)
    assert mg.rand(()).ndim == 0
    for dtype in (mg.int8, mg.uint8, mg.int64, mg.float32, mg.float64):
        x = mg.randint(0, 100, (50,), dtype=dtype)
        assert x.dtype is dtype and x.min() >= 0 and x.max() < 100
    x = mg.zeros(2, 3, dtype=mg.float64)
    assert mg.rand_like(x).dtype is mg.randn_like(x).dtype is mg.randint_like(x, 4).dtype is mg.float64
    assert mg.randint_like(x, 2, 3).tolist() == [[2.0] * 3] * 2
    assert mg.randn(3, requires_grad=True).is_leaf
    assert mg.randperm(4, dtype=mg.int32).dtype is mg.int32
    assert mg.randint(2**63 - 1, (3,)).min() >= 0


@pytest.mark.parametrize(
    ("draw", "error", "message"),
    [
        (lambda: mg.rand(2, dtype=mg.int64), RuntimeError, "not implemented for minigrad.int64"),
        (lambda: mg.randn(2, dtype=mg.bool), RuntimeError, "not implemented"),
        (lambda: mg.randint(5, 5, (2,)), RuntimeError, "from=5 >= to=5"),
        (lambda: mg.randint(5), TypeError, "randint"),
        (lambda: mg.randint(0, 300, (2,), dtype=mg.uint8), RuntimeError, "out of bounds"),
        (lambda: mg.randint(0, 2**64, (2,)), RuntimeError, "int64"),
        (lambda: mg.randperm(-1), RuntimeError, "non-negative"),
        (lambda: mg.normal(0.0, -1.0, (2,)), RuntimeError, "std"),
        (lambda: mg.normal(0.0, 1.0), TypeError, "size"),
        (lambda: mg.normal(mg.zeros(2), mg.tensor([1.0, -1.0])), RuntimeError, "std"),
        (lambda: mg.empty(2).uniform_(1, 0), RuntimeError, "from=1 > to=0"),
        (lambda: mg.empty(2).normal_(0, -1), RuntimeError, "std"),
        (lambda: mg.empty(2, dtype=mg.int64).uniform_(), RuntimeError, "int64"),
        (lambda: mg.bernoulli(mg.tensor([1.5])), RuntimeError, "p_in"),
        (lambda: mg.bernoulli(mg.tensor([float("nan")])), RuntimeError, "p_in"),
        (lambda: mg.bernoulli(mg.tensor([1])), RuntimeError, "int64"),
        (lambda: mg.rand(2, generator=3), TypeError, "Generator"),
        (lambda: mg.manual_seed(2**64), RuntimeError, "64 bits"),
        (lambda: mg.Generator().set_state(mg.zeros(16)), TypeError, "state"),
        (lambda: mg.Generator("cuda"), RuntimeError, "cuda"),
    ],
)
def test_refusals(draw, error, message):
    with pytest.raises(error, match=message):
        draw()


def test_generators():
    g = mg.Generator()
    assert g.initial_seed() == mg.Generator().initial_seed() and g.device == mg.device("cpu")
    assert mg.manual_seed(5) is mg.default_generator and mg.initial_seed() == 5
    assert mg.seed() == mg.initial_seed() != 5
    for seed in (0, -1, 2**63, 2**64 - 1, np.int64(3)):
        a = mg.rand(5, generator=g.manual_seed(seed))
        assert mg.equal(a, mg.rand(5, generator=g.manual_seed(seed)))
    mg.rand(10, generator=g)
    for other in (pickle.loads(pickle.dumps(g)), copy.deepcopy(g)):
        assert mg.equal(other.get_state(), g.get_state()) and other is not g
    state = mg.get_rng_state()
    a = mg.rand(3)
    mg.set_rng_state(state)
    assert mg.equal(mg.rand(3), a)


def test_in_place_draws_follow_views_and_autograd():
    x = mg.zeros(3, 4)
    x[:, 1].uniform_(1, 2)
    assert (x[:, 1] >= 1).all() and x[:, 0].sum() == 0
    w = mg.zeros(3, requires_grad=True)
    with pytest.raises(RuntimeError, match="leaf"):
        w.normal_()
    with mg.no_grad():
        assert w.normal_() is w
    assert w.any()


@pytest.mark.parametrize("replacement", [True, False])
def test_multinomial(replacement):
    mg.manual_seed(0)
    weights = mg.tensor([[0.0, 1.0, 2.0, 5.0], [3.0, 0.0, 1.0, 0.0]])
    drawn = mg.multinomial(weights.repeat(4000, 1), 2, replacement).numpy().reshape(4000, 2, 2)
    for row in range(2):
        w = weights[row].numpy() / weights[row].sum().item()
        np.testing.assert_allclose(np.bincount(drawn[:, row, 0], minlength=4) / 4000, w, atol=0.03)
        if replacement:
            np.testing.assert_allclose(np.bincount(drawn[:, row, 1], minlength=4) / 4000, w, atol=0.03)
        else:
            assert (drawn[:, row, 0] != drawn[:, row, 1]).all()
    g = mg.Generator().manual_seed(3)
    first = mg.multinomial(weights[0], 50, True, generator=g).tolist()
    assert mg.multinomial(weights[0], 50, True, generator=g.manual_seed(3)).tolist() == first


def test_multinomial_of_many_categories():
    """Many samples of many are found by bisection, few by counting: the same ones."""
    g, weights = mg.Generator(), mg.rand(2, 3000)
    weights *= weights > 0.5
    few, many = (
        mg.multinomial(w, n, True, generator=g.manual_seed(3)) for w, n in [(weights[0], 300), (weights[0], 900)]
    )
    assert (many[:300] == few).all() and (weights[0][many] > 0).all()
    each = mg.multinomial(weights, 450, True, generator=g.manual_seed(3))
    assert (each[0] == many[:450]).all() and (weights.gather(1, each) > 0).all()


def test_a_compiled_function_that_sorts_runs_eagerly():
    run, values = mg.compile(lambda x: x.sort().values * 2), [[3.0, 1.0], [1.0, 2.0], [5.0, 4.0], [4.0, 5.0]]
    with pytest.warns(UserWarning, match="runs eagerly"):
        found = [run(mg.tensor(v)).tolist() for v in values]
    assert found == [sorted(2 * v for v in vs) for vs in values]
