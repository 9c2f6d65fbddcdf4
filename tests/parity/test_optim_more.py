"""LBFGS, Muon, Adafactor and averaged models against PyTorch: every combination of their options, state included."""

import math
from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

STEPS = 10
DTYPES = ("float32", "float64")
dtypes = pytest.mark.parametrize("dtype", DTYPES)


def combinations(**options):
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


def tensors(m, shapes, dtype, seed=0):
    """Parameters of these shapes, and one that is not contiguous."""
    rng = np.random.default_rng(seed)
    made = [m.from_numpy(np.asarray(rng.normal(size=s), dtype)) for s in shapes]
    made.append(m.from_numpy(rng.normal(size=(4, 3)).astype(dtype)).transpose(0, 1))
    return [p.requires_grad_(True) for p in made]


def feed(m, params, step, dtype):
    """New gradients; some parameters have none at first."""
    rng = np.random.default_rng(100 + step)
    for i, p in enumerate(params):
        g = np.asarray(rng.normal(size=tuple(p.shape)), dtype)
        p.grad = None if i % 3 == 1 and step < 2 else m.from_numpy(g)


def agree(name, ours, theirs, our_params, their_params, what, rtol):
    for i, (a, b) in enumerate(zip(our_params, their_params, strict=True)):
        close("optim_more", a, b, f"parameter {i} of {name} {what}", rtol)
        assert list(ours.state.get(a, {})) == list(theirs.state.get(b, {})), what
        for key, value in theirs.state.get(b, {}).items():
            close("optim_more", ours.state[a][key], value, f"{key} {i} of {name} {what}", rtol)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


def run_both(name, options, shapes, dtype, rtol):
    both = []
    for m in (mg, torch):
        params = tensors(m, shapes, dtype)
        optimizer = getattr(m.optim, name)(params, **options)
        for step in range(STEPS):
            feed(m, params, step, dtype)
            optimizer.step()
        both.append((optimizer, params))
    (ours, our_params), (theirs, their_params) = both
    agree(name, ours, theirs, our_params, their_params, options, rtol)


# --- Adafactor ------------------------------------------------------------------------------------------------------

ADAFACTOR = combinations(
    lr=(0.01, 1.0),
    beta2_decay=(-0.8, -0.3),
    eps=((None, 1e-3), (1e-1, 3.0)),
    d=(1.0, 2.5),
    weight_decay=(0.0, 0.1),
    foreach=(None, True),
    maximize=(False, True),
)


@dtypes
@pytest.mark.parametrize("options", [{}, *ADAFACTOR], ids=str)
def test_adafactor(options, dtype):
    shapes = [(3, 4), (), (5,), (2, 1, 3), (2, 3, 1, 4), (1, 1), (3, 2100), (9000,)]
    run_both("Adafactor", options, shapes, dtype, {"float32": 5e-6, "float64": 1e-12}[dtype])


def test_adafactor_with_the_step_of_the_paper():
    for decay in (0.0, 0.1):  # lr only bounds the step, but decays, too
        run_both("Adafactor", {"lr": math.inf, "weight_decay": decay}, [(3, 4), (5,)], "float64", 1e-12)


@dtypes
@pytest.mark.parametrize("scale", [0.0, 1e-12, 1e-3, 1e6])
def test_adafactor_scales(scale, dtype):
    both = []
    for m in (mg, torch):
        params = tensors(m, [(3, 4), (5,)], dtype)
        optimizer = m.optim.Adafactor(params)
        for step in range(4):
            feed(m, params, step, dtype)
            for p in params:
                if p.grad is not None:
                    p.grad *= scale
            optimizer.step()
        both.append((optimizer, params))
    (ours, our_params), (theirs, their_params) = both
    agree("Adafactor", ours, theirs, our_params, their_params, scale, {"float32": 5e-6, "float64": 1e-12}[dtype])


# --- Muon -----------------------------------------------------------------------------------------------------------

MATRICES = [(3, 4), (4, 3), (1, 5), (6, 6), (5, 1), (40, 70)]
MUON = combinations(
    lr=(0.02,),
    weight_decay=(0.0, 0.1),
    momentum=(0.0, 0.3, 0.95),
    nesterov=(True, False),
    ns_coefficients=((3.4445, -4.7750, 2.0315), (1.5, -0.5, 0.0)),
    eps=(1e-7, 10.0),
    ns_steps=(0, 5),
    adjust_lr_fn=(None, "original", "match_rms_adamw"),
)


@dtypes
@pytest.mark.parametrize("options", [{}, *MUON], ids=str)
def test_muon_in_full_precision(options, dtype, monkeypatch):
    """Against PyTorch's code with its rounding to bfloat16 taken out."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    # the default iteration doubles the rounding errors of small singular values at every step
    run_both("Muon", options, MATRICES, dtype, {"float32": 2e-4, "float64": 1e-11}[dtype])


@dtypes
@pytest.mark.parametrize("nesterov", [True, False])
@pytest.mark.parametrize("adjust_lr_fn", [None, "match_rms_adamw"])
def test_muon_in_bfloat16(nesterov, adjust_lr_fn, dtype):
    """One step, against PyTorch as it is."""
    both = []
    for m in (mg, torch):
        params = tensors(m, MATRICES, dtype)
        feed(m, params, 5, dtype)
        before = [p.detach().numpy().copy() for p in params]
        m.optim.Muon(params, lr=1.0, weight_decay=0, nesterov=nesterov, adjust_lr_fn=adjust_lr_fn).step()
        both.append([m.tensor(p.detach().numpy() - q) for p, q in zip(params, before, strict=True)])
    for a, b in zip(*both, strict=True):
        size = np.abs(b.numpy()).max()
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=0.05 * size)


# --- LBFGS ----------------------------------------------------------------------------------------------------------

LBFGS = combinations(
    lr=(1, 0.3),
    max_iter=(1, 5, 20),
    max_eval=(None, 3),
    tolerance_grad=(1e-7, 1e-2),
    tolerance_change=(1e-9, 1e-3),
    history_size=(1, 3, 100),
    line_search_fn=(None, "strong_wolfe"),
)


def problem(m, dtype):
    """Parameters and a closure: a smooth, convex loss of two tensors; a third has no gradient."""
    rng = np.random.default_rng(3)
    x = m.from_numpy(rng.normal(size=(20, 4)).astype(dtype))
    t = m.from_numpy(rng.normal(size=(20, 2)).astype(dtype))
    w = m.from_numpy(rng.normal(size=(2, 4)).astype(dtype)).requires_grad_(True)
    b = m.from_numpy(rng.normal(size=2).astype(dtype)).requires_grad_(True)
    unused = m.from_numpy(rng.normal(size=3).astype(dtype)).requires_grad_(True)

    def closure():
        w.grad = b.grad = None
        r = x @ w.t() + b - t
        loss = (r * r).mean() + 0.01 * (w**4).sum()
        loss.backward()
        return loss

    return [w, unused, b], closure


@dtypes
@pytest.mark.parametrize("options", [{}, *LBFGS], ids=str)
def test_lbfgs(options, dtype):
    both = []
    for m in (mg, torch):
        params, closure = problem(m, dtype)
        optimizer = m.optim.LBFGS(params, **options)
        losses = [optimizer.step(closure).item() for _ in range(STEPS)]
        both.append((optimizer, params, losses))
    (ours, our_params, a), (theirs, their_params, b) = both
    exact = dtype == "float64"
    np.testing.assert_allclose(a, b, rtol=1e-7 if exact else 1e-4, err_msg=str(options))
    for p, q in zip(our_params, their_params, strict=True):
        close("optim_more", p, q, options, 1e-5 if exact else 1e-2)
    mine, other = ours.state[our_params[0]], theirs.state[their_params[0]]
    assert list(mine) == list(other)
    if exact:  # in float32 rounding decides when it stops
        assert (mine["n_iter"], mine["func_evals"]) == (other["n_iter"], other["func_evals"])
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


def translated(value, tensor):
    """State of one library with the tensors of the other."""
    if isinstance(value, dict):
        return {k: translated(v, tensor) for k, v in value.items()}
    if isinstance(value, list):
        return [translated(v, tensor) for v in value]
    return tensor(np.array(value.numpy())) if isinstance(value, (mg.Tensor, torch.Tensor)) else value


@pytest.mark.parametrize("name", ["LBFGS", "LBFGS strong_wolfe", "Muon", "Adafactor"])
def test_state_of_pytorch(name, monkeypatch):
    """What PyTorch saved is loaded here and both go on alike; so does what was saved here."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
    name, *search = name.split()

    def start(m):
        if name == "LBFGS":
            params, closure = problem(m, "float64")
            return params, m.optim.LBFGS(params, max_iter=2, line_search_fn=search[0] if search else None), closure
        params = tensors(m, [(3, 4), (6, 6)], "float64")
        return params, getattr(m.optim, name)(params), None

    def go(m, params, optimizer, closure, first, last):
        for step in range(first, last):
            if closure is None:
                feed(m, params, step, "float64")
                optimizer.step()
            else:
                optimizer.step(closure)

    runs = {}
    for m, other in ((mg, torch), (torch, mg)):
        params, optimizer, closure = start(m)
        go(m, params, optimizer, closure, 0, 3)
        saved = translated(optimizer.state_dict(), other.tensor)
        params_, optimizer_, closure_ = start(other)
        for p, q in zip(params, params_, strict=True):
            q.data.copy_(other.tensor(p.detach().numpy()))
        optimizer_.load_state_dict(saved)
        go(other, params_, optimizer_, closure_, 3, 6)
        runs[m] = params_
        go(m, params, optimizer, closure, 3, 6)
        for p, q in zip(params, params_, strict=True):
            np.testing.assert_allclose(q.detach().numpy(), p.detach().numpy(), rtol=1e-7, atol=1e-9)


# --- errors ---------------------------------------------------------------------------------------------------------

BAD = [
    *[("LBFGS", o) for o in ({"lr": -1}, {"lr": float("nan")})],
    *[("Muon", o) for o in ({"lr": -1}, {"momentum": -1}, {"weight_decay": -1}, {"adjust_lr_fn": "x"})],
    *[
        ("Adafactor", o)
        for o in (
            {"lr": -1}, {"beta2_decay": 1}, {"beta2_decay": 0.5}, {"eps": (-1, 1)}, {"eps": (None, -1)}, {"d": 0.5},
            {"d": -2}, {"weight_decay": -1}, {"lr": float("nan")}, {"d": float("nan")},
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_refused_alike(name, options):
    errors = []
    for m in (mg, torch):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            getattr(m.optim, name)([m.ones(2, 2).requires_grad_(True)], **options)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("name", ["LBFGS", "Muon", "Adafactor"])
def test_other_refusals(name):
    for m in (mg, torch):
        make, p, q = getattr(m.optim, name), *[m.ones(2, 2).requires_grad_(True) for _ in range(2)]
        with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
            make([p], lr=m.ones(2))
        make([p], lr=m.tensor(0.1))
        if name == "Muon":
            for shape in ((), (2,), (1, 2, 2)):
                with pytest.raises(ValueError, match="Muon only supports 2D parameters whereas we found"):
                    make([p, m.ones(shape).requires_grad_(True)])
            p.grad = m.ones(2, 2)
            for bad in ({"ns_steps": 100}, {"ns_coefficients": (1, 2)}):
                with pytest.raises(ValueError, match="must be"):
                    make([p], **bad).step()
        if name == "LBFGS":
            with pytest.raises(ValueError, match="LBFGS doesn't support per-parameter options"):
                make([{"params": [p]}, {"params": [q]}])
            with pytest.raises(TypeError):
                make([p]).step()
            p.grad = m.ones(2, 2)
            with pytest.raises(RuntimeError, match="only 'strong_wolfe' is supported"):
                make([p], line_search_fn="x").step(lambda p=p: (p * p).sum())


# --- averaged models --------------------------------------------------------------------------------------------------


def nets(m, dtype):
    net = m.nn.Sequential(m.nn.Linear(3, 4), m.nn.Linear(4, 2)).to(getattr(m, dtype))
    net.register_buffer("mean", m.zeros(2, dtype=getattr(m, dtype)))
    net.register_buffer("count", m.tensor(0))
    return net


def change(m, net, step, dtype):
    rng = np.random.default_rng(step)
    with m.no_grad():
        for p in [*net.parameters(), net.mean]:
            p.copy_(m.from_numpy(np.asarray(rng.normal(size=tuple(p.shape)), dtype)))
        if hasattr(net, "count"):
            net.count.fill_(7 * step)


AVERAGES = {
    "default": lambda utils: {},
    "ema": lambda utils: {"avg_fn": utils.get_ema_avg_fn(0.7)},
    "ema default": lambda utils: {"avg_fn": utils.get_ema_avg_fn()},
    "swa": lambda utils: {"avg_fn": utils.get_swa_avg_fn()},
    "multi ema": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.7)},
    "multi ema fast": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.1)},
    "multi ema 0": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(0.0)},
    "multi ema 1": lambda utils: {"multi_avg_fn": utils.get_ema_multi_avg_fn(1.0)},
    "multi swa": lambda utils: {"multi_avg_fn": utils.get_swa_multi_avg_fn()},
    "own": lambda utils: {"avg_fn": lambda a, c, n: a + c * n},
}


@dtypes
@pytest.mark.parametrize("use_buffers", [False, True])
@pytest.mark.parametrize("kind", AVERAGES)
def test_averaged_model(kind, use_buffers, dtype):
    both = []
    for m in (mg, torch):
        net = nets(m, dtype)
        if kind == "multi swa" and use_buffers:
            del net.count  # PyTorch refuses to average integers by this function
        averaged = m.optim.swa_utils.AveragedModel(net, **AVERAGES[kind](m.optim.swa_utils), use_buffers=use_buffers)
        for step in range(STEPS):
            change(m, net, step, dtype)
            averaged.update_parameters(net)
        assert averaged.n_averaged == STEPS
        x = m.from_numpy(np.ones((2, 3), dtype))
        both.append((averaged.state_dict(), averaged(x)))
    (ours, y), (theirs, z) = both
    assert list(ours) == list(theirs)
    # PyTorch rounds the weight of get_swa_multi_avg_fn to float32
    rtol = 2e-6 if dtype == "float32" else 1e-7 if kind == "multi swa" else 1e-13
    for name, value in theirs.items():
        close("optim_more", ours[name], value, (kind, name), rtol)
    close("optim_more", y, z, kind, 10 * rtol)


SWALR = combinations(
    swa_lr=(0.05, [0.05, 0.2]), anneal_epochs=(0, 1, 4, 10), anneal_strategy=("cos", "linear"), last_epoch=(-1, 3)
)


@pytest.mark.parametrize("options", [{"swa_lr": 0.01}, *SWALR], ids=str)
def test_swalr(options):
    both = []
    for m in (mg, torch):
        a, b = m.ones(1).requires_grad_(True), m.ones(1).requires_grad_(True)
        optimizer = m.optim.SGD([{"params": [a]}, {"params": [b], "lr": 0.5}], lr=0.1)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"]
        scheduler = m.optim.swa_utils.SWALR(optimizer, **options)
        rates = [scheduler.get_last_lr()]
        for _ in range(STEPS + 3):
            optimizer.step()
            scheduler.step()
            rates.append(scheduler.get_last_lr())
        both.append((rates, scheduler.state_dict(), optimizer.state_dict()["param_groups"]))
    assert both[0][0] == both[1][0]
    assert both[0][2] == both[1][2]
    assert set(both[0][1]) >= {"_anneal_strategy", "anneal_epochs", "base_lrs", "last_epoch", "_step_count", "_last_lr"}
    for name in set(both[0][1]) & set(both[1][1]):
        assert both[0][1][name] == both[1][1][name], name


@pytest.mark.parametrize(
    "options",
    [{"anneal_strategy": "x"}, {"anneal_epochs": -1}, {"anneal_epochs": 1.5}, {"swa_lr": [1, 2]}, {"swa_lr": ()}],
    ids=str,
)
def test_swalr_refuses_alike(options):
    errors = []
    for m in (mg, torch):
        optimizer = m.optim.SGD([m.ones(1).requires_grad_(True)], lr=0.1)
        with pytest.raises(ValueError, match="anneal|swa_lr") as caught:
            m.optim.swa_utils.SWALR(optimizer, **{"swa_lr": 0.1, **options})
        errors.append(str(caught.value))
    assert errors[0] == errors[1]


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
@pytest.mark.parametrize("name", ["get_ema_avg_fn", "get_ema_multi_avg_fn"])
def test_decay_refused_alike(name, decay):
    with pytest.raises(ValueError, match="Invalid decay value"):
        getattr(mg.optim.swa_utils, name)(decay)
    if decay == decay:  # PyTorch accepts nan
        with pytest.raises(ValueError, match="Invalid decay value"):
            getattr(torch.optim.swa_utils, name)(decay)
