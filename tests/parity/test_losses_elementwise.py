"""The elementwise losses against PyTorch: all their arguments, layouts, dtypes, gradients, extremes and errors."""

from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides", "ignore:Using a target size")
DTYPES = ("float32", "float64")
REDUCTIONS = ("none", "mean", "sum")
SHAPES = [(), (1,), (7,), (3, 4), (2, 3, 4), (2, 1, 3, 2), (2, 1, 2, 2, 3), (0,), (3, 0), (0, 3), (5000,)]
inf, nan = np.inf, np.nan


def normal(r, s):
    return r.normal(0, 2, s)


def signs(r, s):
    return r.choice([-1.0, 1.0], s)


def positive(r, s):
    return r.uniform(0.1, 2, s)


def grid(**options):
    """Dictionaries of all combinations of the options' values."""
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


# function, how x and the target are made, options, whether the target is differentiated
LOSSES = {
    "mse_loss": (normal, normal, grid(reduction=REDUCTIONS), True),
    "l1_loss": (normal, normal, grid(reduction=REDUCTIONS), True),
    "smooth_l1_loss": (normal, normal, grid(reduction=REDUCTIONS, beta=(0.0, 0.5, 1, 3.0)), True),
    "huber_loss": (normal, normal, grid(reduction=REDUCTIONS, delta=(0.5, 1, 3.0)), True),
    "kl_div": (normal, positive, grid(reduction=(*REDUCTIONS, "batchmean"), log_target=(False, True)), True),
    "poisson_nll_loss": (
        positive,
        lambda r, s: r.poisson(2, s) * 1.0 + 0.3,
        grid(reduction=REDUCTIONS, log_input=(False, True), full=(False, True), eps=(1e-8, 0.5)),
        True,
    ),
    "gaussian_nll_loss": (
        normal,
        normal,
        grid(reduction=REDUCTIONS, full=(False, True), eps=(1e-6, 0.5), var=(0.7, 0.0)),
        True,
    ),
    "hinge_embedding_loss": (normal, signs, grid(reduction=REDUCTIONS, margin=(0, 1.0, 2.5)), False),
    "soft_margin_loss": (normal, signs, grid(reduction=REDUCTIONS), False),
    "margin_ranking_loss": (normal, signs, grid(reduction=REDUCTIONS, margin=(0, 0.5, -1.0)), True),
}


def call(m, name, v, options):
    """The loss of the tensors ``v``: x, target, for some x2, var, weight."""
    f = getattr(m.nn.functional, name)
    if name == "margin_ranking_loss":
        return f(v["x"], v["x2"], v["target"], **options)
    return f(v["x"], v["target"], **{k: v[k] for k in ("var", "weight") if k in v}, **options)


def evaluate(m, name, arrays, options, wanted, second=False, view=lambda t: t):
    """The loss and the gradients of the ``wanted`` ones among the named arrays."""
    leaves = {k: m.from_numpy(np.array(a)) for k, a in arrays.items()}
    for k in wanted:
        leaves[k].requires_grad_(True)
    y = call(m, name, {k: view(t) for k, t in leaves.items()}, options)
    if not wanted:
        return [y]
    inputs = [leaves[k] for k in wanted]
    dy = np.cos(0.5 + np.arange(y.numel())).reshape(tuple(y.shape)).astype(str(y.dtype).partition(".")[2])
    found = m.autograd.grad(y, inputs, m.from_numpy(np.asarray(dy)), create_graph=second)
    if second:
        wanted2 = [(g * g).sum() for g in found if g.requires_grad]
        more = m.autograd.grad(sum(wanted2), inputs, allow_unused=True) if wanted2 else []
        found = (*found, *(g if g is not None else m.zeros(1) for g in more))
    if m is torch:
        found = [torch.zeros(g.shape, dtype=g.dtype) if g._is_zerotensor() else g for g in found]
    return [y, *found]


def compare(name, arrays, options, wanted, rtol=None, second=False, view=lambda t: t):
    what = f"{name} {options} { {k: (a.shape, a.dtype.name) for k, a in arrays.items()} } {wanted}"
    ours, theirs = (evaluate(m, name, arrays, options, wanted, second, view) for m in (mg, torch))
    for a, b in zip(ours, theirs, strict=True):
        close("elementwise losses", a, b, what, rtol)
    with mg.no_grad():
        alone = call(mg, name, {k: view(mg.from_numpy(np.array(a))) for k, a in arrays.items()}, options)
    if wanted in (("x",), ("x", "x2"), ("x", "target", "var"), ("x", "var")):  # the fused kernel
        assert alone.numpy().tobytes() == ours[0].detach().numpy().tobytes(), what


def make(name, shape, dtype, seed=0, **sizes):
    """Arrays for a loss; ``sizes``: of further ones, or of the target."""
    rng = np.random.default_rng(seed)
    makers = {"x": LOSSES[name][0], "target": LOSSES[name][1], "x2": normal, "var": positive, "weight": positive}
    sizes = {"x": shape, "target": shape, **({"x2": shape} if name == "margin_ranking_loss" else {}), **sizes}
    return {k: np.asarray(makers[k](rng, s), dtype) for k, s in sizes.items()}


def wanted_sets(name):
    first = ("x", "x2") if name == "margin_ranking_loss" else ("x",)
    return [first, (*first, "target"), ("target",)] if LOSSES[name][3] else [first]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", list(LOSSES))
def test_all_arguments(name, shape, dtype):
    arrays = make(name, shape, dtype)
    for options, wanted in product(LOSSES[name][2], wanted_sets(name)):
        compare(name, arrays, options, wanted, 3e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("name", list(LOSSES))
def test_second_derivatives(name):
    for shape, options, wanted in product([(), (3, 4)], LOSSES[name][2], wanted_sets(name)):
        compare(name, make(name, shape, "float64", 1), options, wanted, 1e-9, True)


VIEWS = {
    "transposed": lambda t: t.transpose(0, 1),
    "strided": lambda t: t[::2, 1::2],
    "narrow": lambda t: t[:, 2],
    "expanded": lambda t: t[:1].expand(4, 6),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("view", list(VIEWS))
@pytest.mark.parametrize("name", list(LOSSES))
def test_layouts(name, view, dtype):
    arrays = make(name, (4, 6), dtype, 2)
    for options, wanted in product(LOSSES[name][2][:: 3 if len(LOSSES[name][2]) > 6 else 1], wanted_sets(name)):
        compare(name, arrays, options, wanted, 3e-5 if dtype == "float32" else 1e-10, view=VIEWS[view])


PAIRS = [
    ((3, 4), (4,)),
    ((4,), (3, 4)),
    ((2, 1, 3), (2, 4, 1)),
    ((5,), ()),
    ((), (5,)),
    ((3, 1), (1, 4)),
    ((0, 3), (3,)),
]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", PAIRS, ids=str)
@pytest.mark.parametrize("name", list(LOSSES))
def test_broadcasting(name, shapes, dtype):
    if name == "margin_ranking_loss" and len(shapes[0]) != len(shapes[1]):
        pytest.skip("refused, see test_errors")
    if name == "soft_margin_loss" and np.broadcast_shapes(*shapes) != shapes[0]:
        pytest.skip("refused, see test_errors")
    arrays = make(name, shapes[0], dtype, 3, target=shapes[1])
    for options, wanted in product(LOSSES[name][2][:: 3 if len(LOSSES[name][2]) > 6 else 1], wanted_sets(name)):
        compare(name, arrays, options, wanted, 3e-5 if dtype == "float32" else 1e-10)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["mse_loss", "l1_loss", "huber_loss"])
def test_weights(name, dtype):
    for shape, options in product(SHAPES, LOSSES[name][2]):
        for wanted in (("x",), ("x", "target"), ("weight",), ("x", "target", "weight")):
            compare(name, make(name, shape, dtype, weight=shape), options, wanted, 3e-5 if dtype == "float32" else None)
    for shapes, options in product([p for p in PAIRS if p[0]], LOSSES[name][2]):
        arrays = make(name, shapes[0], dtype, target=shapes[1], weight=shapes[0])
        for wanted in (("x",), ("x", "target", "weight")):
            compare(name, arrays, options, wanted, 3e-5 if dtype == "float32" else None)
    arrays = make(name, (3, 4), "float32", weight=(3, 4))
    arrays["weight"] = arrays["weight"].astype("float64")
    compare(name, arrays, {}, ("x", "weight"), 1e-6)


@pytest.mark.parametrize("dtype", DTYPES)
def test_variances(dtype):
    name, options = "gaussian_nll_loss", grid(reduction=REDUCTIONS, full=(False, True), eps=(1e-6, 0.5))
    cases = [(s, (s, s[:-1], *((*s[:i], 1, *s[i + 1 :]) for i in range(len(s))))) for s in SHAPES if s and 1 not in s]
    for (shape, sizes), o in product([*cases, ((), [()])], options):
        for size in sizes:
            for wanted in (("x",), ("x", "var"), ("x", "target", "var"), ("var",), ("target",)):
                arrays = make(name, shape, dtype, 4, var=size)
                compare(name, arrays, o, wanted, 1e-4 if dtype == "float32" else 1e-10)
    for wanted in (("x", "target", "var"), ("x",)):
        compare(name, make(name, (3, 4), "float64", 4, var=(3,)), {}, wanted, 1e-9, True)
        compare(name, make(name, (3, 4), "float64", 4, target=(4,), var=(1, 4)), {"eps": 1.0}, wanted, 1e-9, True)


PROMOTED = [n for n in LOSSES if n != "huber_loss"]  # PyTorch's has the input's dtype and no backward


@pytest.mark.parametrize("name", PROMOTED)
def test_promotion(name):
    for x_dtype, t_dtype in (
        ("float32", "float64"),
        ("float64", "float32"),
        ("float32", "int64"),
        ("float64", "int32"),
    ):
        if name == "kl_div" and "int" in t_dtype:
            continue
        arrays = make(name, (3, 4), x_dtype, 5)
        arrays["target"] = arrays["target"].astype(t_dtype)
        for wanted in wanted_sets(name)[: 1 if "int" in t_dtype else 3]:
            compare(name, arrays, {"var": 1.5} if "gauss" in name else {"reduction": "sum"}, wanted, 1e-5)
    if name not in ("soft_margin_loss", "margin_ranking_loss"):  # of 0 dimensions, float64
        arrays = make(name, (3,), "float32", target=()) | {"target": np.float64(1)}
        compare(name, arrays, {"var": 1.5} if "gauss" in name else {}, wanted_sets(name)[0], 1e-5)
    if name in ("poisson_nll_loss", "margin_ranking_loss"):
        arrays = {k: a.astype("int64") for k, a in make(name, (3, 4), "float64").items()}
        compare(name, arrays, {}, ())


@pytest.mark.parametrize("name", [n for n in LOSSES if n not in ("gaussian_nll_loss", "huber_loss")])
@pytest.mark.parametrize(("average", "reduce"), list(product((None, False, True), repeat=2))[1:])
def test_deprecated_reductions(name, average, reduce):
    arrays = make(name, (3, 4), "float64")
    for more in ({}, {"reduction": "sum"}, *([{"reduction": "batchmean"}] if name == "kl_div" else [])):
        with pytest.warns(UserWarning, match="please use reduction="):
            compare(name, arrays, {"size_average": average, "reduce": reduce, **more}, wanted_sets(name)[0])


MODULES = {
    "L1Loss": [{}],
    "MSELoss": [{}],
    "SmoothL1Loss": grid(beta=(0.5, 1.0)),
    "HuberLoss": grid(delta=(0.5, 1.0)),
    "KLDivLoss": grid(log_target=(False, True)),
    "PoissonNLLLoss": grid(log_input=(False, True), full=(False, True), eps=(1e-8, 0.1)),
    "GaussianNLLLoss": grid(full=(False, True), eps=(1e-6, 0.5)),
    "HingeEmbeddingLoss": grid(margin=(0.5, 1.0)),
    "SoftMarginLoss": [{}],
    "MarginRankingLoss": grid(margin=(0.0, 0.5)),
}


@pytest.mark.parametrize("name", list(MODULES))
def test_modules(name):
    rng = np.random.default_rng(9)
    a, b, c = positive(rng, (3, 4)), positive(rng, (3, 4)), signs(rng, (3, 4))
    arrays = {"MarginRankingLoss": (a, b, c), "GaussianNLLLoss": (a, b, b[:, 0])}.get(
        name, (a, c if "Margin" in name or "Hinge" in name else b)
    )
    for options, reduction in product(MODULES[name], (*REDUCTIONS, *(["batchmean"] if name == "KLDivLoss" else []))):
        results = []
        for m in (mg, torch):
            x, *others = [m.from_numpy(v.copy()) for v in arrays]
            module = getattr(m.nn, name)(reduction=reduction, **options)
            y = module(x.requires_grad_(True), *others)
            y.sum().backward()
            results.append((y, x.grad))
            assert list(module.state_dict()) == []
        for ours, theirs in zip(*results, strict=True):
            close("elementwise losses", ours, theirs, f"{name} {options} {reduction}")
        assert getattr(mg.nn, name)().reduction == getattr(torch.nn, name)().reduction


# --- extremes: what is kinder here than in PyTorch is left out --------------------------------------------------------

VALUES = (0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 2.0, 3e38, -3e38, 1e-30, inf, -inf, nan)
KIND = {
    # where PyTorch's intermediate results overflow
    "smooth_l1_loss": lambda x, t, o: abs(x - t) > 1e18 and o.get("beta") == inf,
    "huber_loss": lambda x, t, o: abs(x - t) > 1e38 and o.get("delta") == inf,
    "gaussian_nll_loss": lambda x, t, o: abs(x - t) > 1e38,
    # where the target is 0, 0; PyTorch: nan if x is -inf
    "kl_div": lambda x, t, o: t < -1000 if o.get("log_target") else t == 0 or t > 1e38,
    "soft_margin_loss": lambda x, t, o: abs(x * t) > 80,  # PyTorch: inf and nan
}
MORE = {
    "smooth_l1_loss": grid(beta=(0.0, 1.0, inf)),
    "huber_loss": grid(delta=(1.0, inf)),
    "kl_div": grid(log_target=(False, True)),
    "poisson_nll_loss": grid(log_input=(False, True), full=(False, True), eps=(0.25,)),
    "gaussian_nll_loss": grid(var=(0.0, 1.0, inf, nan), full=(False, True)),
    "hinge_embedding_loss": grid(margin=(0.5, -1.0)),
    "margin_ranking_loss": grid(margin=(0.5, -1.0)),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", list(LOSSES))
def test_extremes(name, dtype):
    for options in MORE.get(name, [{}]):
        pairs = [p for p in product(VALUES, VALUES) if not KIND.get(name, lambda *_: False)(*p, options)]
        x, t = np.array(pairs, dtype).T
        arrays = {"x": x, "target": t, **({"x2": np.zeros_like(x)} if name == "margin_ranking_loss" else {})}
        for one in range(len(pairs)):  # one by one, so that tolerances are of its own size
            single = {k: a[one : one + 1] for k, a in arrays.items()}
            compare(name, single, {**options, "reduction": "none"}, ("x",), 3e-5 if dtype == "float32" else 1e-10)
        compare(name, arrays, {**options, "reduction": "sum"}, ("x",), 3e-5)


# --- errors -----------------------------------------------------------------------------------------------------------


def errors(m):
    """Calls that both refuse, by errors of the same type."""
    F, one, ints = m.nn.functional, m.ones(3), m.ones(3, dtype=m.int64)
    matrix, row, nothing = m.ones(2, 3), m.ones(2), {}
    for name in LOSSES:
        more = {"var": 1.0} if name == "gaussian_nll_loss" else nothing
        f = getattr(F, name)
        first = (one,) if name == "margin_ranking_loss" else ()
        yield name, lambda f=f, i=first, o=more: f(one, *i, one, reduction="avg", **o)
        yield name, lambda f=f, i=first, o=more: f(one, *i, m.ones(4), **o)
        if name in ("mse_loss", "kl_div", "smooth_l1_loss", "huber_loss"):
            yield name, lambda f=f: f(ints, ints)
    for name in ("mse_loss", "l1_loss", "huber_loss"):
        f = getattr(F, name)
        yield name, lambda f=f: f(one, one, weight=row)
    for number in (-1.0, nan):
        yield "beta", lambda b=number: F.smooth_l1_loss(one, one, beta=b)
        yield "delta", lambda d=number: F.huber_loss(one, one, delta=d)
    yield "delta 0", lambda: F.huber_loss(one, one, delta=0.0)
    yield "int kl", lambda: F.kl_div(one, ints)
    yield "dimensions", lambda: F.margin_ranking_loss(one, one, matrix)
    yield "dimensions", lambda: F.margin_ranking_loss(one, matrix, one)
    yield "soft", lambda: F.soft_margin_loss(one, matrix)
    for var in (-1.0, -one, m.tensor([1.0, -1.0, nan]), row, matrix, m.tensor(-1.0)):
        yield "var", lambda v=var: F.gaussian_nll_loss(one, one, v)
    for var in (m.ones(1, 1), m.ones(3), m.ones(2, 2), m.ones(2, 3, 1), m.tensor(1.0), m.ones(1)):
        yield "var", lambda v=var: F.gaussian_nll_loss(matrix, matrix, v)


def test_errors():
    for (name, ours), (_, theirs) in zip(errors(mg), errors(torch), strict=True):
        with pytest.raises((RuntimeError, ValueError, TypeError, IndexError)) as expected:
            theirs()
        with pytest.raises(expected.type) as found:
            ours()
        assert found.type is expected.type, (name, found.value, expected.value)
        close("elementwise losses", None, None, name)
