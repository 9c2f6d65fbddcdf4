"""All optimizers against PyTorch: every combination of their options, state included."""

import inspect
from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

SHAPES = [(3, 4), (), (5,), (0, 2), (2, 1, 3), (17_000,)]
STEPS = 10
TOLERANCE = {"float32": 4e-6, "float64": 1e-13}


def combinations(**options):
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


SGD = [
    o
    for o in combinations(
        lr=(0.1, 0.0),
        momentum=(0, 0.9),
        dampening=(0, 0.5),
        weight_decay=(0, 0.1),
        nesterov=(False, True),
        maximize=(False, True),
    )
    if not o["nesterov"] or (o["momentum"] and not o["dampening"])
]
ADAM = combinations(
    lr=(0.01,),
    betas=((0.9, 0.999), (0.5, 0.9), (0.0, 0.0)),
    eps=(1e-8, 1e-2),
    weight_decay=(0, 0.1),
    amsgrad=(False, True),
    maximize=(False, True),
)
DECAY = {"weight_decay": (0, 0.1), "maximize": (False, True)}
BETAS = {"betas": ((0.9, 0.999), (0.5, 0.9), (0.0, 0.0)), "eps": (1e-8, 1e-2), **DECAY}
OTHERS = {
    "RMSprop": combinations(
        lr=(0.01,), alpha=(0.99, 0.5), eps=(1e-8, 1e-2), momentum=(0, 0.9), centered=(False, True), **DECAY
    ),
    "Adagrad": combinations(
        lr=(0.1,), lr_decay=(0, 0.1), initial_accumulator_value=(0, 0.5), eps=(1e-10, 0.1), **DECAY
    ),
    "Adadelta": combinations(lr=(1.0, 0.1), rho=(0.9, 0.5, 1.0), eps=(1e-6, 1e-2), **DECAY),
    "Adamax": combinations(lr=(0.01,), **BETAS),
    "NAdam": combinations(lr=(0.01,), momentum_decay=(4e-3, 0), decoupled_weight_decay=(False, True), **BETAS),
    "RAdam": combinations(lr=(0.01,), decoupled_weight_decay=(False, True), **BETAS),
    "ASGD": combinations(lr=(0.1,), lambd=(1e-4, 0.1), alpha=(0.75, 0.5), t0=(1e6, 3, 0), **DECAY),
    "Rprop": combinations(
        lr=(0.01, 0.5), etas=((0.5, 1.2), (0.1, 2.0)), step_sizes=((1e-6, 50), (0.005, 0.02)), maximize=(False, True)
    ),
}
CASES = [
    *[("SGD", o) for o in SGD],
    *[("Adam", o | {"decoupled_weight_decay": d}) for o in ADAM for d in (False, True)],
    *[("AdamW", o) for o in ADAM],
    ("SGD", {}),
    ("Adam", {}),
    ("AdamW", {}),
    *[(name, o) for name, options in OTHERS.items() for o in ({}, *options)],
]


def tensors(m, dtype, seed=0):
    """Parameters of all shapes; the second last is not contiguous."""
    rng = np.random.default_rng(seed)
    made = [m.from_numpy(np.asarray(rng.normal(size=s), dtype)) for s in SHAPES]
    made.insert(-1, m.from_numpy(rng.normal(size=(4, 3)).astype(dtype)).transpose(0, 1))
    return [p.requires_grad_(True) for p in made]


def feed(m, params, step, dtype, skip=True):
    """New gradients; some parameters have none at first."""
    rng = np.random.default_rng(100 + step)
    for i, p in enumerate(params):
        g = np.asarray(rng.normal(size=tuple(p.shape)), dtype)
        p.grad = None if skip and i % 3 == 1 and step < 2 else m.from_numpy(g)


def agree(ours, theirs, our_params, their_params, what, dtype):
    for i, (a, b) in enumerate(zip(our_params, their_params, strict=True)):
        close("optim", a, b, f"parameter {i} of {what}", TOLERANCE[dtype])
        assert list(ours.state.get(a, {})) == list(theirs.state.get(b, {})), what
        for name, value in theirs.state.get(b, {}).items():
            close("optim", ours.state[a][name], value, f"{name} {i} of {what}", TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), CASES, ids=str)
def test_steps(name, options, dtype):
    libraries = []
    for m in (mg, torch):
        params = tensors(m, dtype)
        optimizer = getattr(m.optim, name)(params, **options)
        for step in range(STEPS):
            feed(m, params, step, dtype)
            optimizer.step()
        libraries.append((optimizer, params))
    (ours, our_params), (theirs, their_params) = libraries
    agree(ours, theirs, our_params, their_params, f"{name} {options}", dtype)
    a, b = ours.state_dict(), theirs.state_dict()
    assert a["param_groups"] == b["param_groups"]
    assert {k: list(v) for k, v in a["state"].items()} == {k: list(v) for k, v in b["state"].items()}


FEW = [
    ("SGD", {"momentum": 0.9, "lr": 0.1}),
    ("SGD", {"momentum": 0.9, "dampening": 0.5, "lr": 0.1}),
    ("SGD", {"momentum": 0.9, "nesterov": True, "lr": 0.1, "weight_decay": 0.1}),
    ("Adam", {"amsgrad": True}),
    ("Adam", {"weight_decay": 0.1}),
    ("AdamW", {}),
    ("RMSprop", {"momentum": 0.9, "centered": True}),
    ("RMSprop", {"weight_decay": 0.1}),
    ("Adagrad", {"lr_decay": 0.1, "initial_accumulator_value": 0.1}),
    ("Adadelta", {"weight_decay": 0.1}),
    ("Adamax", {}),
    ("NAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {"decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("ASGD", {"t0": 2, "lr": 0.1, "lambd": 0.1}),
    ("Rprop", {}),
]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), FEW, ids=str)
def test_state_of_pytorch(name, options, dtype):
    """What PyTorch saved is loaded here, and both go on alike; so does what was saved here."""
    theirs = tensors(torch, dtype)
    their_optimizer = getattr(torch.optim, name)(theirs, **options)
    for step in range(3):
        feed(torch, theirs, step, dtype)
        their_optimizer.step()
    saved = their_optimizer.state_dict()
    saved["state"] = {
        i: {k: mg.from_numpy(v.numpy().copy()) for k, v in values.items()} for i, values in saved["state"].items()
    }
    ours = [mg.from_numpy(p.detach().numpy().copy()).requires_grad_(True) for p in theirs]
    optimizer = getattr(mg.optim, name)(ours)
    optimizer.load_state_dict(saved)
    for step in range(3, STEPS):
        feed(mg, ours, step, dtype)
        optimizer.step()
        feed(torch, theirs, step, dtype)
        their_optimizer.step()
    agree(optimizer, their_optimizer, ours, theirs, f"{name} {options}", dtype)
    saved = optimizer.state_dict()
    saved["state"] = {i: {k: torch.from_numpy(v.numpy()) for k, v in s.items()} for i, s in saved["state"].items()}
    again = getattr(torch.optim, name)(theirs)
    again.load_state_dict(saved)
    for state in again.state.values():  # PyTorch loads numbers in the parameter's dtype; here they stay as they are
        state.update({k: v.to(torch.float32) for k, v in state.items() if k in ("mu_product", "eta", "mu")})
    agree(optimizer, again, ours, theirs, f"{name} {options} back", dtype)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), FEW, ids=str)
def test_groups_and_changes(name, options, dtype):
    """Groups with options of their own, one added later; the learning rate changed between steps."""
    libraries = []
    for m in (mg, torch):
        params = tensors(m, dtype)
        optimizer = getattr(m.optim, name)([{"params": params[:2]}, {"params": params[2:5], "lr": 0.5}], **options)
        for step in range(STEPS):
            if step == 2:
                optimizer.add_param_group({"params": params[5:], "weight_decay": 0.3, "note": "mine"})
            optimizer.param_groups[0]["lr"] *= 0.7
            feed(m, params, step, dtype)
            optimizer.step()
        libraries.append((optimizer, params))
    (ours, our_params), (theirs, their_params) = libraries
    agree(ours, theirs, our_params, their_params, f"{name} {options}", dtype)
    assert ours.state_dict()["param_groups"] == theirs.state_dict()["param_groups"]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("name", "options"), FEW, ids=str)
def test_extreme_gradients(name, options, dtype):
    values = [np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-30, 1e30, 1e-45, 3e38, 1.0]
    if "centered" in options and dtype == "float32":  # inf - inf: whether PyTorch's is nan depends on the CPU
        values = [v for v in values if not 1e19 < v < np.inf]
    libraries = []
    for m in (mg, torch):
        p = m.ones(len(values), dtype=getattr(m, dtype)).requires_grad_(True)
        optimizer = getattr(m.optim, name)([p], **options)
        for scale in (1, 0.5, 0):
            with np.errstate(invalid="ignore"):
                p.grad = m.from_numpy((np.array(values) * scale).astype(dtype))
            optimizer.step()
        libraries.append((optimizer, [p]))
    (ours, our_params), (theirs, their_params) = libraries
    agree(ours, theirs, our_params, their_params, f"{name} {options}", dtype)


NAN = float("nan")
ADAMS = [{"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)}, {"betas": (NAN, 0.9)}]
FUSED = {"fused": True, "foreach": True}
NEGATIVE = {  # and nan; SGD takes nan
    "SGD": ("lr", "momentum", "weight_decay"), "Adam": ("lr", "eps", "weight_decay"),
    "AdamW": ("lr", "eps", "weight_decay"), "RMSprop": ("lr", "eps", "momentum", "weight_decay", "alpha"),
    "Adagrad": ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
    "Adadelta": ("lr", "rho", "eps", "weight_decay"), "Adamax": ("lr", "eps", "weight_decay"),
    "NAdam": ("lr", "eps", "weight_decay", "momentum_decay"), "RAdam": ("lr", "eps", "weight_decay"),
    "ASGD": ("lr", "weight_decay"), "Rprop": ("lr",),
}  # fmt: skip
BAD = [
    *[(name, {k: v}) for name, keys in NEGATIVE.items() for k in keys for v in (-1, -0.5, NAN)
      if name != "SGD" or v < 0],
    *[(name, o) for name in ("Adam", "AdamW", "Adamax", "NAdam", "RAdam") for o in ADAMS],
    *[(name, {"lr": "tensor"}) for name in NEGATIVE],
    *[(name, FUSED) for name in ("SGD", "Adam", "AdamW", "Adagrad")],
    ("SGD", {"nesterov": True}), ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    ("Adadelta", {"rho": 1.1}), *[(name, {"lr": "number", "foreach": True}) for name in ("Adam", "AdamW")],
    *[("Rprop", {"etas": etas}) for etas in ((0.0, 1.2), (1.0, 1.2), (0.5, 1.0), (-0.5, 1.2), (NAN, 1.2), (0.5, NAN))],
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_refused_alike(name, options):
    errors = []
    for m in (mg, torch):
        lr = {"tensor": m.ones(2), "number": m.tensor(0.1)}
        given = {k: lr.get(v, v) if k == "lr" else v for k, v in options.items()}
        with pytest.raises((ValueError, RuntimeError)) as caught:
            getattr(m.optim, name)([m.ones(2).requires_grad_(True)], **given)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


ACCEPTED = [
    *[("SGD", o) for o in ({"lr": float("inf")}, {"lr": NAN}, {"lr": 0}, {"dampening": -1.0})],
    *[(name, {"lr": float("inf")}) for name in NEGATIVE if name != "SGD"],
    *[(name, {"lr": 0}) for name in NEGATIVE if name != "SGD"],
    *[(name, {"lr": shape}) for name in NEGATIVE for shape in ((), (1,))],
    *[(name, {"foreach": True}) for name in NEGATIVE],
    ("RMSprop", {"alpha": 2.0}), ("NAdam", {"momentum_decay": float("inf")}), ("ASGD", {"lambd": -1e-3}),
    ("ASGD", {"alpha": -1}), ("ASGD", {"t0": -5}), ("Rprop", {"step_sizes": (1.0, 0.1)}), ("Adadelta", {"rho": 0.0}),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), ACCEPTED, ids=str)
def test_accepted_alike(name, options):
    results = []
    for m in (mg, torch):
        p = m.ones(3).requires_grad_(True)
        lr = options.get("lr", 0.1)
        lr = m.full(lr, 0.1) if isinstance(lr, tuple) else lr
        optimizer = getattr(m.optim, name)([p], **options | {"lr": lr})
        for _ in range(3):
            p.grad = m.tensor([1.0, 0.0, -1.0])
            optimizer.step()
        results.append(p)
    close("optim", *results, options, TOLERANCE["float32"])


@pytest.mark.parametrize("name", list(NEGATIVE))
def test_signature(name):
    ours, theirs = (list(inspect.signature(getattr(m.optim, name)).parameters.values()) for m in (mg, torch))
    assert [(p.name, p.default, p.kind) for p in ours] == [(p.name, p.default, p.kind) for p in theirs]
    kept, optimizer = (getattr(m.optim, name)([m.ones(2).requires_grad_(True)]) for m in (mg, torch))
    assert list(kept.defaults.items()) == list(optimizer.defaults.items())
    assert repr(kept) == repr(optimizer)
    assert kept.state_dict()["param_groups"] == optimizer.state_dict()["param_groups"]
    assert {k: list(v) for k, v in kept.state_dict()["state"].items()} == {
        k: list(v) for k, v in optimizer.state_dict()["state"].items()
    }


def hooked(m, everywhere):
    """What was called, in what order and with what, by an optimizer with all hooks; and what they changed."""
    log = []

    def note(*what, result=None):
        def hook(optimizer, *given):
            log.append((*what, type(optimizer).__name__, [type(g).__name__ for g in given]))
            return result

        return hook

    class Own(m.optim.Optimizer):
        def step(self, closure=None):
            log.append("own step")

    p = m.ones(2).requires_grad_(True)
    before, after = everywhere
    handles = [before(note("every before")), after(note("every after"))]
    for o in (m.optim.SGD([p], lr=0.5), Own([p], {"lr": 0.5})):
        for i, prepend in enumerate((False, False, True)):
            o.register_state_dict_pre_hook(note("save", i), prepend)
            o.register_state_dict_post_hook(note("saved", i, result={"state": {}} if i == 1 else None), prepend=prepend)
            other = {"state": {}, "param_groups": [{**o.defaults, "lr": 7.0, "params": [0]}]}
            o.register_load_state_dict_pre_hook(note("load", i, result=other if i == 1 else None), prepend)
            o.register_load_state_dict_post_hook(note("loaded", i), prepend=prepend)
        handles += [o.register_step_pre_hook(note("before")), o.register_step_post_hook(note("after"))]
        for call in (lambda: o.step(), lambda: o.step(None), lambda: o.step(closure=None)):  # noqa: B023
            call()
        log.append(list(o.state_dict()))
        o.load_state_dict({"nothing": 1})
        log.append(o.param_groups[0]["lr"])
        for handle in handles[2:]:
            handle.remove()
        o.step()
    for handle in handles[:2]:
        handle.remove()
    o.step()
    return log


def test_hooks_alike():
    from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

    module = mg.optim.optimizer
    ours = hooked(mg, (module.register_optimizer_step_pre_hook, module.register_optimizer_step_post_hook))
    theirs = hooked(torch, (register_optimizer_step_pre_hook, register_optimizer_step_post_hook))
    assert ours == theirs
    assert len(ours) > 50


def test_printed_alike():
    printed = []
    for m in (mg, torch):
        a, b = m.ones(2).requires_grad_(True), m.ones(3).requires_grad_(True)
        optimizer = m.optim.AdamW([{"params": [a]}, {"params": [b], "lr": 0.1, "extra": 1}])
        printed.append(repr(optimizer))
    assert printed[0] == printed[1]
