"""SGD, Adam and AdamW against PyTorch: every combination of their options, state included."""

from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

SHAPES = [(3, 4), (), (5,), (0, 2), (2, 1, 3), (17_000,)]
STEPS = 6
TOLERANCE = {"float32": 2e-6, "float64": 1e-13}


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
CASES = [
    *[("SGD", o) for o in SGD],
    *[("Adam", o | {"decoupled_weight_decay": d}) for o in ADAM for d in (False, True)],
    *[("AdamW", o) for o in ADAM],
    ("SGD", {}),
    ("Adam", {}),
    ("AdamW", {}),
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


BAD = [
    *[("SGD", o) for o in ({"lr": -1}, {"momentum": -1}, {"weight_decay": -1}, {"nesterov": True})],
    ("SGD", {"nesterov": True, "momentum": 0.9, "dampening": 0.1}),
    *[
        (name, o)
        for name in ("Adam", "AdamW")
        for o in (
            {"lr": -1}, {"lr": float("nan")}, {"eps": -1}, {"eps": float("nan")}, {"weight_decay": -0.1},
            {"weight_decay": float("nan")}, {"betas": (1.0, 0.9)}, {"betas": (0.9, -0.1)},
            {"fused": True, "foreach": True},
        )
    ],
]  # fmt: skip


@pytest.mark.parametrize(("name", "options"), BAD, ids=str)
def test_refused_alike(name, options):
    errors = []
    for m in (mg, torch):
        with pytest.raises((ValueError, RuntimeError)) as caught:
            getattr(m.optim, name)([m.ones(2).requires_grad_(True)], **options)
        errors.append((caught.type, str(caught.value)))
    assert errors[0] == errors[1]


@pytest.mark.parametrize(
    "options", [{"lr": float("inf")}, {"lr": float("nan")}, {"lr": 0}, {"dampening": -1.0}], ids=str
)
def test_accepted_alike(options):
    results = []
    for m in (mg, torch):
        p = m.ones(3).requires_grad_(True)
        optimizer = m.optim.SGD([p], **options)
        p.grad = m.tensor([1.0, 0.0, -1.0])
        optimizer.step()
        results.append(p)
    close("optim", *results, options)


def test_printed_alike():
    printed = []
    for m in (mg, torch):
        a, b = m.ones(2).requires_grad_(True), m.ones(3).requires_grad_(True)
        optimizer = m.optim.AdamW([{"params": [a]}, {"params": [b], "lr": 0.1, "extra": 1}])
        printed.append(repr(optimizer))
    assert printed[0] == printed[1]
