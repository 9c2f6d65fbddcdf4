"""LBFGS, Muon, Adafactor and averaged models: NumPy references, resuming, refusals; all optimizers on any threads."""

import copy
import doctest
import importlib
import pkgutil
from itertools import product

import numpy as np
import pytest

import minigrad as mg
from minigrad.optim import swa_utils

from .processes import run_with_threads

dtypes = pytest.mark.parametrize("dtype", ["float32", "float64"])
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def combinations(**options):
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


def parameter(values, dtype="float32"):
    return mg.tensor(np.asarray(values, dtype), requires_grad=True)


def steps(name, shape, dtype, count=6, **options):
    """A parameter after ``count`` steps of normal gradients, its start and the gradients in float64."""
    rng = np.random.default_rng(0)
    start = np.asarray(rng.normal(size=shape)).astype(dtype)
    gradients = [np.asarray(rng.normal(size=shape)).astype(dtype) for _ in range(count)]
    p = parameter(start, dtype)
    optimizer = getattr(mg.optim, name)([p], **options)
    for g in gradients:
        p.grad = mg.from_numpy(g)
        optimizer.step()
    return p, start.astype(float), [g.astype(float) for g in gradients]


# --- Adafactor --------------------------------------------------------------------------------------------------------


def adafactor(
    p, gradients, dtype, lr=1e-2, beta2_decay=-0.8, eps=(None, 1e-3), d=1.0, weight_decay=0.0, maximize=False
):
    """Shazeer and Stern 2018, with the whole second moment in place of sums in the kernel."""
    eps1, eps2 = np.finfo(dtype).eps if eps[0] is None else eps[0], eps[1]
    row = column = 0.0
    for t, g in enumerate(gradients, 1):
        g, w = -g if maximize else g, t**beta2_decay
        size = max(eps2, np.sqrt(np.mean(p * p))) * min(lr, 1 / np.sqrt(t))
        if p.ndim < 2:
            v = row = (1 - w) * row + w * g * g
        else:
            row = (1 - w) * row + w * np.mean(g * g, -1, keepdims=True)
            column = (1 - w) * column + w * np.mean(g * g, -2, keepdims=True)
            v = row * column / np.maximum(np.mean(row, -2, keepdims=True), eps1)
        u = g / np.sqrt(np.maximum(v, eps1 * eps1))
        p = p * (1 - lr * weight_decay) - size * u / max(1, np.sqrt(np.mean(u * u)) / d)
    return p


@dtypes
@pytest.mark.parametrize("shape", [(), (5,), (3, 4), (2, 3, 1), (2, 1, 4, 5), (1, 1), (2_049,), (3, 1_500)], ids=str)
def test_adafactor(shape, dtype):
    for options in combinations(
        lr=(0.01, 1.0), beta2_decay=(-0.8, -0.3), eps=((None, 1e-3), (0.1, 3.0)), d=(1.0, 2.5), weight_decay=(0.0, 0.1),
        maximize=(False, True),
    ):  # fmt: skip
        p, start, gradients = steps("Adafactor", shape, dtype, **options)
        want, rtol = adafactor(start, gradients, dtype, **options), TOLERANCE[dtype]
        np.testing.assert_allclose(p.detach().numpy(), want, rtol, rtol, err_msg=str(options))


def test_empty_tensors_of_adafactor():
    params = [mg.zeros(*s, requires_grad=True) for s in ((0,), (0, 3), (3, 0), (2, 0, 3))] + [parameter([1.0])]
    for p in params:
        p.grad = mg.ones(*p.shape)
    optimizer = mg.optim.Adafactor(params, lr=0.1)
    optimizer.step()
    assert [tuple(v.shape) for v in optimizer.state[params[3]].values()] == [(), (2, 0, 1), (2, 1, 3)]
    assert abs(params[-1].item() - 0.9) < 1e-6


# --- Muon -------------------------------------------------------------------------------------------------------------


def muon(
    p, gradients, lr=1e-3, weight_decay=0.1, momentum=0.95, nesterov=True, ns_coefficients=(3.4445, -4.7750, 2.0315),
    eps=1e-7, ns_steps=5, adjust_lr_fn=None,
):  # fmt: skip
    m, (a, b, c) = 0.0, ns_coefficients
    for g in gradients:
        m = momentum * m + (1 - momentum) * g
        x = (1 - momentum) * g + momentum * m if nesterov else m
        x = x / max(np.linalg.norm(x), eps)
        for _ in range(ns_steps):
            s = x @ x.T
            x = a * x + (b * s + c * s @ s) @ x
        rows, columns = p.shape
        matching = adjust_lr_fn == "match_rms_adamw"
        ratio = 0.2 * np.sqrt(max(rows, columns)) if matching else np.sqrt(max(1, rows / columns))
        p = p * (1 - lr * weight_decay) - lr * ratio * x
    return p


@dtypes
@pytest.mark.parametrize("shape", [(3, 4), (4, 3), (1, 5), (5, 1), (6, 6), (40, 70)], ids=str)
def test_muon(shape, dtype):
    for options in combinations(
        weight_decay=(0.0, 0.1), momentum=(0.0, 0.3, 0.95), nesterov=(True, False), eps=(1e-7, 10.0), ns_steps=(0, 5),
        adjust_lr_fn=(None, "original", "match_rms_adamw"),
        ns_coefficients=((3.4445, -4.7750, 2.0315), (1.5, -0.5, 0.0)),
    ):  # fmt: skip
        p, start, gradients = steps("Muon", shape, dtype, count=3, lr=0.02, **options)
        rtol = 2e-4 if dtype == "float32" else 1e-11  # rounding errors of small singular values double at every step
        np.testing.assert_allclose(p.detach().numpy(), muon(start, gradients, lr=0.02, **options), rtol, rtol)


def test_muon_makes_the_step_orthogonal():
    p = mg.zeros(20, 30, requires_grad=True)
    p.grad = mg.tensor(np.random.default_rng(0).normal(size=(20, 30)), dtype=mg.float32)
    mg.optim.Muon([p], lr=1.0).step()
    singular = np.linalg.svd(p.detach().numpy(), compute_uv=False)
    assert singular.min() > 0.6 and singular.max() < 1.3


def test_muon_of_strided_mixed_missing_and_empty_parameters():
    rng = np.random.default_rng(1)
    start, gradient = rng.normal(size=(4, 3)), rng.normal(size=(4, 3))
    turned = mg.from_numpy(start.T.copy()).t().requires_grad_(True)
    plain, single, unused = parameter(start, "float64"), parameter(start), parameter(start)
    turned.grad, plain.grad = mg.from_numpy(gradient), mg.from_numpy(gradient.T.copy()).t()
    single.grad = mg.from_numpy(gradient.astype("float32"))
    empty = [mg.zeros(*s, requires_grad=True) for s in ((0, 3), (3, 0))]
    for p in empty:
        p.grad = mg.zeros(*p.shape)
    optimizer = mg.optim.Muon([turned, unused, plain, single, *empty], lr=0.1)
    for _ in range(3):
        optimizer.step()
    want = muon(start, [gradient] * 3, lr=0.1)
    for p, rtol in ((turned, 1e-12), (plain, 1e-12), (single, 2e-4)):
        np.testing.assert_allclose(p.detach().numpy(), want, rtol, rtol)
    assert mg.equal(unused, parameter(start)) and unused not in optimizer.state
    assert plain.grad.tolist() == gradient.tolist()


# --- both: a step is taken by all or by none, states are checked ------------------------------------------------------

BOTH = pytest.mark.parametrize(("name", "key"), [("Muon", "momentum_buffer"), ("Adafactor", "row_var")])


@BOTH
def test_a_step_is_taken_by_all_or_by_none(name, key):
    a, b = parameter(np.ones((2, 3))), parameter(np.ones((3, 2)), "float64")
    optimizer = getattr(mg.optim, name)([a, b], lr=0.1)
    frozen = np.ones((3, 2))
    frozen.flags.writeable = False

    def refused(error, message):
        before = a.tolist(), {k: v.tolist() for k, v in optimizer.state.get(a, {}).items()}
        with pytest.raises(error, match=message):
            optimizer.step()
        assert before == (a.tolist(), {k: v.tolist() for k, v in optimizer.state.get(a, {}).items()})

    for _ in range(2):
        a.grad, b.grad = mg.ones(2, 3), mg.ones(3, 2, dtype=mg.float64)
        for data, error, message in (
            (mg.ones(3, 2), RuntimeError, "gradient of shape"), (mg.ones(2, 2, dtype=mg.float64), RuntimeError, "grad"),
            (mg.from_numpy(frozen), ValueError, "read-only"),
        ):  # fmt: skip
            kept, b.data = b.data, data
            refused(error, message)
            b.data = kept
        kept, optimizer.param_groups[0]["lr"] = 0.1, "text"
        refused(ValueError, "text")
        optimizer.param_groups[0]["lr"] = kept
        optimizer.step()
    assert not np.equal(a.tolist(), 1).any() and not np.equal(b.tolist(), 1).any()
    for value in (mg.ones(3, 1), mg.ones(3, 2, dtype=mg.float32), mg.ones(1, 2, dtype=mg.float64), None, 1.0):
        if name == "Muon" and value is None:  # as if it were not there: made again
            continue
        kept, optimizer.state[b][key] = optimizer.state[b][key], value
        refused((RuntimeError, TypeError), f"state '{key}' has shape|NoneType|float")
        optimizer.state[b][key] = kept
    if name == "Adafactor":
        del optimizer.state[b]["col_var"]
        refused(KeyError, r"of shape \(3, 2\) lacks 'col_var'")


def test_loaded_states_are_checked():
    def saved(name, shape=(2, 3), **options):
        p = parameter(np.ones(shape))
        optimizer = getattr(mg.optim, name)([p], **options)
        p.grad = mg.ones(*shape)
        optimizer.step(lambda: (p * p).sum()) if name == "LBFGS" else optimizer.step()
        return optimizer.state_dict()

    for name, state, message in (
        ("Muon", saved("Adam"), r"Muon needs \['momentum_buffer'\]; was it saved by another optimizer"),
        ("Muon", saved("Muon", (3, 2)), r"'momentum_buffer' of parameter 0 has shape \(3, 2\), not \(2, 3\)"),
        ("Adafactor", saved("Muon"), r"Adafactor needs \['step', 'row_var', 'col_var'\]"),
        ("Adafactor", saved("Adafactor", (6,)), r"Adafactor needs \['step', 'row_var', 'col_var'\]"),
        ("Adafactor", saved("Adafactor", (3, 2)), r"'row_var' of parameter 0 has shape \(3, 1\), not \(2, 1\)"),
        ("LBFGS", saved("LBFGS", (7,)), r"'d' of parameter 0 has shape \(7,\), not \(6,\)"),
    ):
        optimizer = getattr(mg.optim, name)([parameter(np.ones((2, 3)))], lr=0.25)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        assert not optimizer.state and optimizer.param_groups[0]["lr"] == 0.25


# --- LBFGS ------------------------------------------------------------------------------------------------------------

SEARCHES = pytest.mark.parametrize("search", [None, "strong_wolfe"])


def regression(dtype="float64", **options):
    """Parameters of a smooth loss, one of them unused; an optimizer and its closure."""
    rng = np.random.default_rng(3)
    x, t = (mg.tensor(rng.normal(size=s).astype(dtype)) for s in ((20, 4), (20, 2)))
    w, unused, b = (parameter(rng.normal(size=s), dtype) for s in ((2, 4), (3,), (2,)))
    optimizer = mg.optim.LBFGS([w, unused, b], **options)

    def closure():
        optimizer.zero_grad()
        loss = ((x @ w.t() + b - t) ** 2).mean() + 0.01 * (w**4).sum()
        loss.backward()
        return loss

    return [w, unused, b], optimizer, closure


@SEARCHES
@dtypes
def test_lbfgs_finds_the_minimum(search, dtype):
    params, optimizer, closure = regression(dtype, line_search_fn=search, tolerance_change=1e-15)
    first = closure().item()
    kept = params[1].tolist()
    losses = [optimizer.step(closure).item() for _ in range(4)]
    assert losses[0] == first and losses == sorted(losses, reverse=True)
    closure()
    assert max(float(p.grad.abs().max()) for p in (params[0], params[2])) < (1e-3 if dtype == "float32" else 1e-6)
    assert params[1].tolist() == kept
    state = optimizer.state[params[0]]
    assert list(optimizer.state) == [params[0]] and state["d"].shape == (13,) and state["func_evals"] >= state["n_iter"]


def test_lbfgs_in_the_valley_of_rosenbrock():
    p = parameter([-1.5, 2.0], "float64")
    optimizer = mg.optim.LBFGS([p], max_iter=100, tolerance_change=1e-15, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = (1 - p[0]) ** 2 + 100 * (p[1] - p[0] ** 2) ** 2
        loss.backward()
        return loss

    optimizer.step(closure)
    np.testing.assert_allclose(p.tolist(), [1, 1], atol=1e-6)
    assert optimizer.state[p]["n_iter"] < 60


@SEARCHES
def test_lbfgs_stops(search):
    for options, want in (({"max_iter": 3}, 3), ({"max_eval": 4}, 5), ({"tolerance_grad": 1e9}, 0),
                          ({"tolerance_change": 1e9}, 1)):  # fmt: skip
        params, optimizer, closure = regression(line_search_fn=search, **options)
        calls = []
        optimizer.step(lambda: (calls.append(1), closure())[1])  # noqa: B023
        state = optimizer.state[params[0]]
        assert state["func_evals"] == len(calls) and state["n_iter"] <= want, options
    assert optimizer.param_groups[0]["max_eval"] == 25  # 5/4 of 20


@SEARCHES
def test_lbfgs_is_undone_when_the_closure_raises(search):
    params, optimizer, closure = regression(line_search_fn=search)
    optimizer.step(closure)
    calls = []

    def failing():
        calls.append(1)
        if len(calls) == 3:
            raise ZeroDivisionError
        params[0].data.mul_(1.5)  # not yet where it was
        return closure()

    before, state = [p.tolist() for p in params], copy.deepcopy(dict(optimizer.state[params[0]]))
    with pytest.raises(ZeroDivisionError):
        optimizer.step(failing)
    assert [p.tolist() for p in params] == before
    assert all(np.array_equal(optimizer.state[params[0]][k], v) for k, v in state.items() if isinstance(v, mg.Tensor))
    with pytest.raises(TypeError, match="needs a closure that computes the loss, got NoneType"):
        optimizer.step(None)
    with pytest.raises(TypeError):
        optimizer.step()


@SEARCHES
def test_lbfgs_of_a_loss_that_is_nan(search):
    p = parameter([1.0, 2.0])
    optimizer = mg.optim.LBFGS([p], line_search_fn=search)

    def closure():
        optimizer.zero_grad()
        loss = (p * np.nan).sum()
        loss.backward()
        return loss

    optimizer.step(closure)
    assert np.isnan(p.tolist()).all()


def test_lbfgs_and_hooks():
    params, optimizer, closure = regression(max_iter=2)
    seen = []
    optimizer.register_step_pre_hook(lambda o, args, kwargs: seen.append(args))
    optimizer.register_step_post_hook(lambda o, args, kwargs: seen.append(params[0].tolist()))
    optimizer.step(closure)
    assert seen == [(optimizer, closure), params[0].tolist()]


@pytest.mark.parametrize("name", ["LBFGS", "Muon", "Adafactor"])
def test_schedules_and_copies(name):
    p = parameter(np.ones((2, 3)))
    optimizer = getattr(mg.optim, name)([p], lr=0.5)
    scheduler = mg.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)

    def train(p, optimizer, scheduler):
        def closure():
            optimizer.zero_grad()
            loss = (p**4).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
            scheduler.step()

    train(p, optimizer, scheduler)
    assert scheduler.get_last_lr() == [0.0625] and optimizer.param_groups[0]["lr"] == 0.0625
    others = copy.deepcopy((p, optimizer, scheduler))
    train(*others)
    assert not mg.equal(p, others[0]) and scheduler.get_last_lr() == [0.0625]
    train(p, optimizer, scheduler)
    assert mg.equal(p, others[0]) and others[2].get_last_lr() == scheduler.get_last_lr()


# --- what is taken and what is refused --------------------------------------------------------------------------------

nan = float("nan")
REFUSED = [
    *[("LBFGS", {"lr": x}, "Invalid learning rate") for x in (-1, nan)],
    *[("Muon", {k: x}, f"{label} should be >= 0 but is: {x}") for x in (-1, nan)
      for k, label in (("lr", "Learning rate"), ("momentum", "momentum"), ("weight_decay", "weight decay"))],
    ("Muon", {"adjust_lr_fn": "x"}, "Adjust learning rate function x is not supported"),
    *[("Adafactor", {k: x}, message) for k, x, message in (
        ("lr", -1, "Learning rate should be >= 0 but is: -1"), ("beta2_decay", 0.5, "beta2_decay should be <= 0"),
        ("eps", (-1, 1), "epsilon1 should be >= 0 but is: -1"), ("eps", (None, -1), "epsilon2 should be >= 0"),
        ("d", 0.5, "Clipping threshold d should be >= 1 but is: 0.5"), ("weight_decay", nan, "weight_decay should"))],
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "message"), REFUSED, ids=str)
def test_refused(name, options, message):
    p = parameter(np.ones((2, 3)))
    with pytest.raises(ValueError, match=message):
        getattr(mg.optim, name)([p], **options)
    optimizer = getattr(mg.optim, name)([p])
    if name != "LBFGS":
        with pytest.raises(ValueError, match=message):
            optimizer.add_param_group({"params": parameter(np.ones((1, 1))), **options})
    assert len(optimizer.param_groups) == 1


@pytest.mark.parametrize("name", ["LBFGS", "Muon", "Adafactor"])
def test_learning_rate_names_and_groups(name):
    found = []
    for lr in (0.25, mg.tensor(0.25), mg.tensor([0.25])):
        p, rng = parameter(np.ones((2, 3))), np.random.default_rng(0)
        x = mg.tensor(rng.normal(size=(2, 3)), dtype=mg.float32)
        optimizer = getattr(mg.optim, name)([("weight", p)], lr=lr)
        assert optimizer.state_dict()["param_groups"][0]["param_names"] == ["weight"]

        def closure(p=p, x=x, optimizer=optimizer):
            optimizer.zero_grad()
            loss = ((p - x) ** 2).sum()
            loss.backward()
            return loss

        losses = [optimizer.step(closure).item() for _ in range(3)]
        assert losses == sorted(losses, reverse=True) and losses[2] < losses[0]
        found.append((losses, p.tolist()))
    assert found[0] == found[1] == found[2]
    with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
        getattr(mg.optim, name)([p], lr=mg.ones(2))
    if name == "LBFGS":
        with pytest.raises(ValueError, match="doesn't support per-parameter options"):
            optimizer.add_param_group({"params": [("bias", parameter(np.ones((1, 1))))]})
    if name == "Muon":
        for shape in ((), (2,), (1, 2, 2)):
            with pytest.raises(ValueError, match=r"only supports 2D parameters .* size: minigrad.Size"):
                mg.optim.Muon([p, parameter(np.ones(shape))])
        for bad in ({"ns_steps": 100}, {"ns_coefficients": (1, 2)}):
            before = p.tolist()
            with pytest.raises(ValueError, match="must be"):
                mg.optim.Muon([p], **bad).step()
            assert p.tolist() == before
    with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
        mg.optim.LBFGS([p], line_search_fn="x").step(closure)


# --- resuming ---------------------------------------------------------------------------------------------------------

RESUMED = [
    ("LBFGS", {"max_iter": 3}), ("LBFGS", {"max_iter": 2, "history_size": 3, "line_search_fn": "strong_wolfe"}),
    ("Muon", {"lr": 0.1}), ("Muon", {"lr": 0.1, "nesterov": False, "ns_steps": 2}),
    ("Adafactor", {"lr": 0.1}), ("Adafactor", {"lr": 0.1, "eps": (1e-3, 0.1), "weight_decay": 0.1}),
]  # fmt: skip


@pytest.mark.parametrize("through", ["dict", "file", "copy"])
@dtypes
@pytest.mark.parametrize(("name", "options"), RESUMED, ids=str)
def test_resume_has_the_same_bits(name, options, dtype, through, tmp_path):
    def start(**options):
        if name == "LBFGS":
            return regression(dtype, **options)
        rng = np.random.default_rng(0)
        params = [parameter(rng.normal(size=s), dtype) for s in ((3, 4), (5, 2))]
        return params, getattr(mg.optim, name)(params, **options), None

    def train(params, optimizer, closure, first, last):
        for step in range(first, last):
            rng = np.random.default_rng(step)
            for p in params if closure is None else ():
                p.grad = mg.tensor(rng.normal(size=p.shape).astype(dtype))
            optimizer.step(closure)

    whole = start(**options)
    train(*whole, 0, 20)
    first = start(**options)
    train(*first, 0, 10)
    saved = {"params": {str(i): p.detach().clone() for i, p in enumerate(first[0])}, "state": first[1].state_dict()}
    if through == "file":
        mg.save(saved, tmp_path / "state")
        saved = mg.load(tmp_path / "state")
    elif through == "copy":
        saved = copy.deepcopy(saved)
    train(*first, 10, 12)  # what was saved does not notice
    again = start(lr=7.0)
    again[1].load_state_dict(saved["state"])
    for i, p in enumerate(again[0]):
        p.data.copy_(saved["params"][str(i)])
    train(*again, 10, 20)
    for a, b in zip(again[0], whole[0], strict=True):
        assert a.detach().numpy().tobytes() == b.detach().numpy().tobytes()
    assert str(again[1].state_dict()) == str(whole[1].state_dict())


# --- threads ----------------------------------------------------------------------------------------------------------

SCRIPT = """
import hashlib
import numpy as np
import minigrad as mg

if threads > 1:
    mg.start_threads()


def show(name, tensors):
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(t.detach().numpy()).tobytes() for t in tensors))
    print(name, digest.hexdigest()[:16])


SHAPES = [(300, 411), (7, 3), (200, 200), (64, 1030)]
OPTIONS = {"SGD": [{"momentum": 0.9, "nesterov": True}, {}], "RMSprop": [{"momentum": 0.9, "centered": True}],
           "Adam": [{"amsgrad": True}], "ASGD": [{"t0": 1}], "NAdam": [{"weight_decay": 0.1}]}
rng = np.random.default_rng(0)
VALUES = [[rng.normal(size=s) for s in (*SHAPES, (100_003,), (3, 200, 70), ())] for _ in range(4)]
for dtype in ("float32", "float64"):
    start, *gradients = ([np.asarray(x, dtype) for x in values] for values in VALUES)
    for name in "SGD Adam AdamW RMSprop Adagrad Adadelta Adamax NAdam RAdam ASGD Rprop Adafactor Muon".split():
        for options in OPTIONS.get(name, [{}]):
            params = [mg.tensor(x, requires_grad=True) for x in start[: len(SHAPES) if name == "Muon" else None]]
            optimizer = getattr(mg.optim, name)(params, lr=0.1, **options)
            for step, values in enumerate(gradients):
                for p, x in zip(params, values):
                    p.grad = mg.tensor(x)
                if step:
                    show("norm", [mg.nn.utils.clip_grad_norm_(params, 10.0, norm_type=step)])
                    mg.nn.utils.clip_grad_value_(params, 0.01)
                optimizer.step()
            show(name, [*params, *(v for p in params for v in optimizer.state.get(p, {}).values())])
            averages = [mg.zeros(*p.shape, dtype=p.dtype) for p in params]
            mg.optim.swa_utils.get_ema_multi_avg_fn(0.9)(averages, params, 1)
            show("average", averages)
    rng = np.random.default_rng(0)
    x, t = (mg.tensor(rng.normal(size=s).astype(dtype)) for s in ((500, 300), (500, 90)))
    w = mg.tensor(rng.normal(size=(90, 300)).astype(dtype), requires_grad=True)
    optimizer = mg.optim.LBFGS([w], max_iter=5, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = ((x @ w.t() - t) ** 2).mean()
        loss.backward()
        return loss

    optimizer.step(closure)
    show("LBFGS", [w, optimizer.state[w]["d"]])
"""


def test_all_optimizers_have_the_same_bits_with_any_number_of_threads():
    one, two, four = run_with_threads(SCRIPT)
    assert len(one) == 2 * (14 * 4 + 1)
    assert two == one
    assert four == one


# --- averages ---------------------------------------------------------------------------------------------------------


class Statistics(mg.nn.Module):
    """The mean of what it has seen in training mode, like batch normalisation's."""

    def __init__(self):
        super().__init__()
        self.momentum = 0.1
        self.register_buffer("running_mean", mg.zeros(()))
        self.register_buffer("num_batches_tracked", mg.tensor(0))

    def reset_running_stats(self):
        self.running_mean.zero_()
        self.num_batches_tracked.zero_()

    def forward(self, x):
        if self.training:
            self.num_batches_tracked += 1
            weight = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
            self.running_mean += weight * (x.detach().mean() - self.running_mean)
        return x - self.running_mean


def network():
    return mg.nn.Sequential(mg.nn.Linear(3, 2), Statistics())


def weights(model, value):
    with mg.no_grad():
        for i, p in enumerate(model.parameters()):
            p.fill_(value * (i + 1))


AVERAGES = {  # what makes an average, and what is the average of 1, 2, 6, -3
    "default": ({}, 1.5),
    "swa": ({"avg_fn": swa_utils.get_swa_avg_fn()}, 1.5),
    "swa, all at once": ({"multi_avg_fn": swa_utils.get_swa_multi_avg_fn()}, 1.5),
    "ema": ({"avg_fn": swa_utils.get_ema_avg_fn(0.75)}, ((1 * 0.75 + 2 * 0.25) * 0.75 + 6 * 0.25) * 0.75 - 3 * 0.25),
    "ema, all at once": (
        {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.75)},
        ((1 * 0.75 + 2 * 0.25) * 0.75 + 6 * 0.25) * 0.75 - 3 * 0.25,
    ),
    "own": ({"avg_fn": lambda average, current, n: average + current * n}, 1 + 2 * 1 + 6 * 2 - 3 * 3),
    "own, all at once": (
        {"multi_avg_fn": lambda averages, currents, n: [a.copy_(c * n) for a, c in zip(averages, currents)]}, -9,
    ),
}  # fmt: skip


@dtypes
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", AVERAGES)
def test_averaged_model(kind, use_buffers, dtype):
    options, want = AVERAGES[kind]
    model = network().to(getattr(mg, dtype))
    averaged = swa_utils.AveragedModel(model, use_buffers=use_buffers, **options)
    assert averaged.n_averaged.item() == 0 and averaged.module is not model
    for value in (1.0, 2.0, 6.0, -3.0):
        weights(model, value)
        model[1].running_mean.fill_(value)
        averaged.update_parameters(model)
    found = [p.detach().numpy() for p in averaged.module.parameters()]
    for i, p in enumerate(found):
        np.testing.assert_allclose(p, want * (i + 1), 1e-6 if dtype == "float32" else 1e-14)
    np.testing.assert_allclose(averaged.module[1].running_mean.item(), want if use_buffers else -3.0, 1e-6)
    assert averaged.n_averaged.item() == 4
    x = mg.ones(2, 3, dtype=getattr(mg, dtype))
    assert mg.equal(averaged.eval()(x), averaged.module(x))


def test_saved_averages_go_on(tmp_path):
    model = network()
    averaged = swa_utils.AveragedModel(model)
    for value in (1.0, 2.0):
        weights(model, value)
        averaged.update_parameters(model)
    mg.save(averaged.state_dict(), tmp_path / "average")
    other = swa_utils.AveragedModel(network())
    other.load_state_dict(mg.load(tmp_path / "average"))
    weights(model, 6.0)
    for a in (averaged, other, copy.deepcopy(other)):
        a.update_parameters(model)
        assert a.module[0].weight.detach().numpy().tolist() == [[3.0] * 3] * 2 and a.n_averaged.item() == 3


def test_averages_are_checked():
    model = network()
    with pytest.raises(AssertionError, match="Only one of avg_fn and multi_avg_fn"):
        swa_utils.AveragedModel(model, avg_fn=swa_utils.get_ema_avg_fn(), multi_avg_fn=lambda a, c, n: None)
    averaged = swa_utils.AveragedModel(model)
    before = averaged.module[0].weight.tolist()
    for other, message in (
        (mg.nn.Linear(3, 2), "2 parameters and buffers instead of 4"),
        (mg.nn.Sequential(mg.nn.Linear(4, 2), Statistics()), r"0.weight of the model has shape \(2, 4\), its average"),
    ):
        with pytest.raises(ValueError, match=message):
            averaged.update_parameters(other)
    assert averaged.module[0].weight.tolist() == before and averaged.n_averaged.item() == 0
    for make in (swa_utils.get_ema_avg_fn, swa_utils.get_ema_multi_avg_fn):
        for decay in (-0.1, 1.1):
            with pytest.raises(ValueError, match="Invalid decay value"):
                make(decay)
    a = [mg.zeros(2), mg.zeros(3)]
    with pytest.raises(RuntimeError, match=r"an average has shape \(3,\), its new value \(4,\)"):
        swa_utils.get_ema_multi_avg_fn(0.5)(a, [mg.ones(2), mg.ones(4)], 1)
    assert a[0].tolist() == [0, 0]


def test_multi_averages_of_mixed_dtypes_and_layouts():
    a = [mg.zeros(2, 3).t(), mg.zeros(2, dtype=mg.float64), mg.tensor([4, 8]), mg.zeros(())]
    c = [mg.ones(3, 2), mg.full((2,), 2.0, dtype=mg.float64), mg.tensor([8, 8]), mg.tensor(4.0)]
    swa_utils.get_swa_multi_avg_fn()(a, c, mg.tensor(1))
    assert [x.tolist() for x in a] == [[[0.5] * 2] * 3, [1.0, 1.0], [6, 8], 2.0]


def test_update_bn():
    model = mg.nn.Sequential(mg.nn.Identity(), Statistics()).eval()
    batches = [mg.full((2, 2), v) for v in (1.0, 2.0, 6.0)]
    model[1].running_mean.fill_(77.0)
    for loader in (batches, [(b, "label") for b in batches], [[b] for b in batches]):
        swa_utils.update_bn(loader, model)
        assert abs(model[1].running_mean.item() - 3.0) < 1e-6 and model[1].num_batches_tracked.item() == 3
        assert model[1].momentum == 0.1 and not model.training and not model[1].training
    with pytest.raises(AttributeError):
        swa_utils.update_bn([mg.ones(2), 3], model)
    assert model[1].momentum == 0.1 and not model.training
    swa_utils.update_bn(iter([]), mg.nn.Linear(2, 2))  # nothing to do


@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("epochs", [0, 1, 4])
def test_swalr(epochs, strategy):
    a, b = parameter([1.0]), parameter([1.0])
    optimizer = mg.optim.SGD([{"params": a}, {"params": b, "lr": 0.5}], lr=0.1)
    scheduler = swa_utils.SWALR(optimizer, [0.05, 0.2], epochs, strategy)
    for step in range(7):
        s = min(1.0, step / epochs) if epochs else 1.0
        s = (1 - np.cos(np.pi * s)) / 2 if strategy == "cos" else s
        np.testing.assert_allclose(scheduler.get_last_lr(), [0.1 + s * (0.05 - 0.1), 0.5 + s * (0.2 - 0.5)], 1e-12)
        optimizer.step()
        saved, rates = scheduler.state_dict(), [g["lr"] for g in optimizer.param_groups]
        scheduler.step()
        again = mg.optim.SGD([{"params": a, "lr": 0.1}, {"params": b, "lr": 0.5}])
        resumed = swa_utils.SWALR(again, [0.05, 0.2], epochs, strategy)
        resumed.load_state_dict(copy.deepcopy(saved))
        for group, lr in zip(again.param_groups, rates):
            group["lr"] = lr
        again.step()
        resumed.step()
        assert resumed.get_last_lr() == scheduler.get_last_lr()


def test_swalr_refuses():
    optimizer = mg.optim.SGD([parameter([1.0])], lr=0.1)
    for options, message in (
        ({"anneal_strategy": "x"}, "anneal_strategy must be one of"), ({"anneal_epochs": -1}, "anneal_epochs"),
        ({"anneal_epochs": 1.5}, "anneal_epochs"), ({"swa_lr": [1, 2]}, "swa_lr must have the same length"),
    ):  # fmt: skip
        with pytest.raises(ValueError, match=message):
            swa_utils.SWALR(optimizer, **{"swa_lr": 0.1, **options})


# --- examples ---------------------------------------------------------------------------------------------------------

MODULES = [m.name for p in (mg.optim, mg.nn.utils) for m in pkgutil.iter_modules(p.__path__, p.__name__ + ".")]


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings(module):
    assert doctest.testmod(importlib.import_module(module)).failed == 0
