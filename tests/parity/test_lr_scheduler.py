"""Learning-rate schedules against PyTorch: learning rates, momenta, attributes and state dicts, bit by bit.

A schedule is a specification that both libraries build: (name, options), or (name, [specifications], milestones).
"""

import copy
import inspect
import math
import warnings
from itertools import product
from types import FunctionType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minigrad as mg

from . import comparing

LIBRARIES = (mg, torch)
inf, nan = math.inf, math.nan


def combinations(**options):
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


class Power:
    """A callable object: its attributes are saved. It counts how often it is called, unless ``calls`` is None."""

    def __init__(self, base, calls=0):
        self.base, self.calls = base, calls

    def __call__(self, epoch):
        if self.calls is not None:
            self.calls += 1
        return self.base**epoch

    def __eq__(self, other):
        return type(other) is Power and vars(other) == vars(self)

    __hash__ = None


def inverse(epoch):
    return 1 / (1 + epoch)


CASES = [
    *[("LambdaLR", {"lr_lambda": f}) for f in (inverse, lambda epoch: 0.95**epoch, lambda epoch: epoch // 30)],
    *[("MultiplicativeLR", {"lr_lambda": f}) for f in (inverse, lambda epoch: 0.95)],
    *[("StepLR", o) for o in combinations(step_size=(1, 3, 30, 1000), gamma=(0.1, 0.7, 1.0, 1.1, 0))],
    ("StepLR", {"step_size": 7}),
    *[
        ("MultiStepLR", o)
        for o in combinations(
            milestones=([], [0], [1, 2, 2, 5], [3, 30, 31, 99], [5, 3], (10,), [200]), gamma=(0.1, 0.7)
        )
    ],
    ("MultiStepLR", {"milestones": [3, 7]}),
    *[("ConstantLR", o) for o in combinations(factor=(1 / 3, 0.7, 1.0, 1), total_iters=(0, 1, 5, 40, 1000))],
    ("ConstantLR", {}),
    ("ConstantLR", {"factor": 0, "total_iters": 7}),
    *[
        ("LinearLR", o)
        for o in combinations(start_factor=(1 / 3, 1e-4, 1.0), end_factor=(0, 0.5, 1.0), total_iters=(0, 1, 5, 40, 500))
    ],
    ("LinearLR", {}),
    *[("ExponentialLR", {"gamma": g}) for g in (0.95, 0.1, 1, 0, 1.01)],
    *[("PolynomialLR", o) for o in combinations(total_iters=(0, 1, 5, 40, 500), power=(1.0, 0.5, 2, 0.9, 0))],
    ("PolynomialLR", {}),
    *[("CosineAnnealingLR", o) for o in combinations(T_max=(1, 2, 7, 10, 33, 100, 500), eta_min=(0.0, 1e-3, 0.2))],
    ("CosineAnnealingLR", {"T_max": 10}),
    *[
        ("CosineAnnealingWarmRestarts", o)
        for o in combinations(T_0=(1, 2, 7, 100), T_mult=(1, 2, 3), eta_min=(0.0, 1e-3, 1))
    ],
    ("CosineAnnealingWarmRestarts", {"T_0": 5}),
    *[
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, **o})
        for o in combinations(
            step_size_up=(1, 4, 30), step_size_down=(None, 1, 9), mode=("triangular", "triangular2", "exp_range"),
            gamma=(1.0, 0.97), cycle_momentum=(False, True),
        )
    ],
    *[
        ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 6, "mode": mode, **o})
        for mode, o in product(
            ("triangular", "none"),
            combinations(scale_fn=(inverse, lambda x: 0.9**x), scale_mode=("cycle", "iterations"),
                         base_momentum=(0.8, 0.5), max_momentum=(0.9, 0.99)),
        )
    ],
    ("CyclicLR", {"base_lr": 0.01, "max_lr": 0.1}),
    *[
        ("OneCycleLR", {"max_lr": 0.1, **o})
        for o in combinations(
            total_steps=(1, 2, 20, 99, 1000), pct_start=(0.3, 0.45), anneal_strategy=("cos", "linear"),
            cycle_momentum=(False, True), three_phase=(False, True),
        )
    ],
    *[
        ("OneCycleLR", {"max_lr": 0.1, **o})
        for o in combinations(
            epochs=(5,), steps_per_epoch=(7,), div_factor=(25.0, 10), final_div_factor=(1e4, 3),
            base_momentum=(0.85, 0.5), max_momentum=(0.95, 0.9), pct_start=(0.0, 0.5, 1.0),
        )
    ],
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 50}),
    ("OneCycleLR", {"max_lr": 0.1, "total_steps": 10, "pct_start": 0.1}),  # a phase without steps
]  # fmt: skip
LISTS = [  # one value a group, for three groups
    ("LambdaLR", {"lr_lambda": [inverse, Power(0.9), lambda epoch: 2]}),
    ("MultiplicativeLR", {"lr_lambda": (inverse, Power(0.9), lambda epoch: 0.5)}),
    ("CyclicLR", {"base_lr": [0.1, 0.2, 0.3], "max_lr": (1, 2, 3), "step_size_up": 5, "base_momentum": [0.1, 0.2, 0.3],
                  "max_momentum": [0.8, 0.7, 0.9]}),
    ("CyclicLR", {"base_lr": [0.1, 0.2, 0.3], "max_lr": 1, "step_size_up": 5, "scale_fn": Power(0.5, None)}),
    ("OneCycleLR", {"max_lr": [1, 2.0, 0.3], "total_steps": 40, "base_momentum": [0.1, 0.2, 0.3],
                    "max_momentum": [0.8, 0.7, 0.9]}),
]  # fmt: skip


def case_id(value):
    def short(v):
        return v.__name__ if isinstance(v, FunctionType) else type(v).__name__ if isinstance(v, Power) else v

    return ",".join(f"{k}={short(v)}" for k, v in value.items()) if isinstance(value, dict) else str(value)


def make_optimizer(m, groups=1, kind="SGD", lr=0.1):
    """``groups`` parameter groups whose learning rates are lr, lr / 2, lr / 3, ..."""
    params = [m.ones(2).requires_grad_(True) for _ in range(groups)]
    options = {"momentum": 0.9} if kind == "SGD" else {}
    optimizer = getattr(m.optim, kind)([{"params": [p], "lr": lr / (i + 1)} for i, p in enumerate(params)], **options)
    if kind == "SGD":
        optimizer.step()  # there are no gradients: a scheduler that is made now has not seen it
    return optimizer


def build(m, optimizer, spec):
    name, options, *milestones = spec
    make = getattr(m.optim.lr_scheduler, name)
    if name == "SequentialLR":
        return make(optimizer, [build(m, optimizer, s) for s in options], *milestones)
    if name == "ChainedScheduler":
        return make([build(m, optimizer, s) for s in options])
    return make(optimizer, **copy.deepcopy(options))


def plain(value):
    """For comparing with ==: nan equals itself; tensors by value and dtype; containers by content."""
    if isinstance(value, (mg.Tensor, torch.Tensor)):
        return ("tensor", str(value.dtype).rpartition(".")[2], tuple(value.shape), plain(value.item()))
    if isinstance(value, float) and math.isnan(value):
        return "nan"
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(plain(v) for v in value)
    return value


SHOWN = ("lr", "initial_lr", "max_lr", "min_lr", "momentum", "betas", "max_momentum", "base_momentum")


def snapshot(optimizer, scheduler):
    groups = [{k: g[k] for k in SHOWN if k in g} for g in optimizer.param_groups]
    return plain([groups, scheduler.get_last_lr(), scheduler.state_dict()])


def outcome(run, *arguments):
    """What ``run`` returns, or the type of its exception."""
    try:
        return run(*arguments)
    except (ArithmeticError, LookupError, TypeError, ValueError, RuntimeError) as error:
        return error


def trace(m, spec, steps=100, groups=1, kind="SGD", lr=0.1, act=None):
    """Snapshots after construction and after each step; an exception ends them. act(scheduler, i) makes step i."""
    optimizer = make_optimizer(m, groups, kind, lr)
    scheduler = outcome(build, m, optimizer, spec)
    if isinstance(scheduler, Exception):
        return [type(scheduler)]
    optimizer.step()
    seen = [snapshot(optimizer, scheduler)]
    for i in range(steps):
        done = outcome(act, scheduler, i) if act else outcome(scheduler.step)
        seen.append(type(done) if isinstance(done, Exception) else snapshot(optimizer, scheduler))
        if isinstance(done, Exception):
            break
    return seen


def agree(ours, theirs, what):
    for i, (a, b) in enumerate(zip(ours, theirs, strict=True)):
        assert a == b, f"{what}: step {i}: {a} instead of {b}"
    comparing.counts["lr_scheduler"] = comparing.counts.get("lr_scheduler", 0) + len(theirs)


def compare(spec, **options):
    agree(*(trace(m, spec, **options) for m in LIBRARIES), f"{spec} {options}")


@pytest.mark.parametrize(("name", "options"), CASES, ids=case_id)
def test_sequences(name, options):
    compare((name, options))
    compare((name, options), steps=12, groups=3, kind="Adam", lr=1)


@pytest.mark.parametrize(("name", "options"), LISTS, ids=case_id)
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_lists(name, options, kind):
    compare((name, options), groups=3, kind=kind)
    compare((name, options), groups=2, kind=kind)  # the wrong number: an error


@pytest.mark.parametrize(("name", "options"), CASES[::3] + LISTS, ids=case_id)
def test_round_trip(name, options):
    """A state dict taken at any step continues the sequence, also one that the other library saved."""
    groups, total = 3, 40
    whole = trace(torch, (name, options), total, groups)
    if isinstance(whole[-1], type):
        return
    for at, source in product((0, 1, 17), LIBRARIES):
        optimizer = make_optimizer(source, groups)
        scheduler = build(source, optimizer, (name, options))
        optimizer.step()
        for _ in range(at):
            scheduler.step()
        saved, saved_optimizer = copy.deepcopy([scheduler.state_dict(), optimizer.state_dict()])
        optimizer = make_optimizer(mg, groups, lr=7)
        scheduler = build(mg, optimizer, (name, options))
        optimizer.load_state_dict(saved_optimizer)
        before = copy.deepcopy(saved)
        scheduler.load_state_dict(saved)
        assert saved == before  # the dict is only read
        optimizer.step()
        seen = [snapshot(optimizer, scheduler)]
        for _ in range(at, total):
            scheduler.step()
            seen.append(snapshot(optimizer, scheduler))
        agree(seen, whole[at:], f"{name} {options} saved at {at} by {source.__name__}")


@pytest.mark.parametrize(("name", "options"), CASES[::2], ids=case_id)
@pytest.mark.parametrize("last_epoch", [0, 4, 29])
def test_last_epoch(name, options, last_epoch):
    """Resuming in groups that a schedule has left."""

    def resumed(m):
        optimizer = make_optimizer(m, 2)
        build(m, optimizer, (name, options))  # leaves initial_lr, max_lr, ...
        scheduler = build(m, optimizer, (name, {**options, "last_epoch": last_epoch}))
        optimizer.step()
        seen = [snapshot(optimizer, scheduler)]
        for _ in range(20):
            scheduler.step()
            seen.append(snapshot(optimizer, scheduler))
        return seen

    ours, theirs = (outcome(resumed, m) for m in LIBRARIES)
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(theirs, list):
        agree(ours, theirs, f"{name} {options} {last_epoch}")


EPOCHS = [
    [0, 1, 2, 3],
    [5, None, None, 3, None],
    [None, None, 50, None, 0, None, None],
    [10, 10, None, 11, None],
    [-1, None],
    [None, 100, None, None],
]


@pytest.mark.parametrize(("name", "options"), CASES[::2], ids=case_id)
@pytest.mark.filterwarnings("ignore:The epoch parameter")
def test_given_epochs(name, options):
    for epochs in EPOCHS:
        compare((name, options), steps=len(epochs), groups=2, act=lambda scheduler, i, e=epochs: scheduler.step(e[i]))


@pytest.mark.parametrize(
    "options", combinations(T_0=(1, 5, 10), T_mult=(1, 2, 3, 5), eta_min=(0, 0.01)), ids=case_id
)  # fmt: skip
def test_fractions_of_epochs(options):
    spec = "CosineAnnealingWarmRestarts", options
    compare(spec, steps=300, act=lambda scheduler, i: scheduler.step(i / 7))
    compare(spec, steps=100, act=lambda scheduler, i: scheduler.step(i * 7.3 if i % 3 else None))


@pytest.mark.parametrize(("name", "options"), CASES[::2] + LISTS, ids=case_id)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_tensor_learning_rates(name, options, dtype):
    """A 0-d tensor is filled in place and keeps its dtype."""

    def run(m):
        params = [m.ones(2).requires_grad_(True) for _ in range(3)]
        lrs = [m.tensor(lr, dtype=getattr(m, dtype)) for lr in (0.1, 0.05, 1.0)]
        optimizer = m.optim.SGD([{"params": [p], "lr": lr} for p, lr in zip(params, lrs)], momentum=0.9)
        scheduler = build(m, optimizer, (name, options))
        seen = [snapshot(optimizer, scheduler)]
        optimizer.step()
        for _ in range(15):
            scheduler.step()
            seen.append(snapshot(optimizer, scheduler))
        assert all(g["lr"] is lr for g, lr in zip(optimizer.param_groups, lrs))
        return seen

    ours, theirs = (outcome(run, m) for m in LIBRARIES)
    assert type(ours) is type(theirs), (ours, theirs)
    if isinstance(theirs, list):
        agree(ours, theirs, f"{name} {options}")


# --- ReduceLROnPlateau ------------------------------------------------------------------------------------------------

PLATEAUS = combinations(
    mode=("min", "max"), factor=(0.1, 0.5), patience=(0, 2), threshold=(1e-4, 0.1), threshold_mode=("rel", "abs"),
    cooldown=(0, 3), min_lr=(0, 0.02, [0.03, 0.0]), eps=(1e-8, 1e-2),
)  # fmt: skip


def metrics(seed, n=60):
    rng = np.random.default_rng(seed)
    values = [
        np.exp(-np.arange(n) / 5) + 0.05 * rng.normal(size=n),
        rng.normal(size=n).round(1),
        np.where(rng.random(n) < 0.3, nan, rng.normal(size=n)),
        np.where(rng.random(n) < 0.2, rng.choice([inf, -inf, 0.0, nan], n), 1.0),
    ]
    return [v.tolist() for v in values]


@pytest.mark.parametrize("options", [{}, {"patience": 0, "factor": 0}, *PLATEAUS], ids=case_id)
def test_plateau(options):
    for i, values in enumerate(metrics(0)):
        spec = "ReduceLROnPlateau", options
        compare(spec, steps=len(values), groups=2, act=lambda scheduler, k, v=values: scheduler.step(v[k]))
        if i == 2:
            compare(spec, steps=9, groups=2, act=lambda s, k, v=values: s.step(type(s.get_last_lr()[0])(v[k])))


def test_plateau_metrics():
    """Tensors, epochs, and a group that is added later."""

    def run(m, options, grow):
        optimizer = make_optimizer(m, 2)
        scheduler = m.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, **options)
        seen = []
        for i in range(8):
            if grow and i == 4:
                optimizer.add_param_group({"params": [m.ones(1)], "lr": 5.0})
            scheduler.step(m.tensor([1.0]) if i % 2 else np.float64(1.0), **({"epoch": 3 * i} if i == 6 else {}))
            seen.append(snapshot(optimizer, scheduler))
        saved = scheduler.state_dict()
        other = m.optim.lr_scheduler.ReduceLROnPlateau(optimizer, mode="max")
        other.load_state_dict(saved)
        return [*seen, snapshot(optimizer, other)]

    for options, grow in product(({}, {"min_lr": [0.01, 0.02]}, {"min_lr": 0.03}), (False, True)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ours, theirs = (outcome(run, m, options, grow) for m in LIBRARIES)
        assert type(ours) is type(theirs), (ours, theirs)
        if isinstance(theirs, list):
            agree(ours, theirs, options)


# --- schedules of schedules -------------------------------------------------------------------------------------------

STEP, EXP, LINEAR = ("StepLR", {"step_size": 4, "gamma": 0.5}), ("ExponentialLR", {"gamma": 0.9}), ("LinearLR", {})
COSINE, CONSTANT = ("CosineAnnealingLR", {"T_max": 9}), ("ConstantLR", {"total_iters": 6})
RESTARTS, POLYNOMIAL = ("CosineAnnealingWarmRestarts", {"T_0": 4, "T_mult": 2}), ("PolynomialLR", {"total_iters": 12})
CYCLIC = "CyclicLR", {"base_lr": 0.05, "max_lr": 0.2, "step_size_up": 3}
LAMBDA = "LambdaLR", {"lr_lambda": inverse}
MULTIPLY = "MultiplicativeLR", {"lr_lambda": lambda epoch: 0.9}
MILESTONES = "MultiStepLR", {"milestones": [2, 5]}
ONE = "OneCycleLR", {"max_lr": 0.1, "total_steps": 60}
SIMPLE = [STEP, EXP, LINEAR, COSINE, CONSTANT, RESTARTS, POLYNOMIAL, CYCLIC, LAMBDA, MULTIPLY, MILESTONES, ONE]


@pytest.mark.parametrize("first", SIMPLE, ids=lambda s: s[0])
@pytest.mark.parametrize("second", SIMPLE, ids=lambda s: s[0])
def test_pairs(first, second):
    for milestone in (0, 1, 5, 50):
        compare(("SequentialLR", [first, second], [milestone]), steps=30, groups=2)
    compare(("ChainedScheduler", [first, second]), steps=30, groups=2)


def nested(inner):
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(lambda specs: ("ChainedScheduler", specs)),
        st.lists(inner, min_size=1, max_size=3).flatmap(
            lambda specs: st.lists(st.integers(0, 20), min_size=len(specs) - 1, max_size=len(specs) - 1).map(
                lambda milestones: ("SequentialLR", specs, sorted(milestones))
            )
        ),
    )


@given(st.recursive(st.sampled_from(SIMPLE), nested, max_leaves=6).filter(lambda spec: isinstance(spec[1], list)))
@settings(max_examples=150, deadline=None, derandomize=True, database=None)
def test_nestings(spec):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # in some of them a schedule makes its first step twice
        compare(spec, steps=30, groups=2)


@pytest.mark.parametrize("spec", [
    ("SequentialLR", [LINEAR, COSINE, STEP], [5, 14]),
    ("ChainedScheduler", [CONSTANT, EXP]),
    ("SequentialLR", [LINEAR, ("SequentialLR", [EXP, RESTARTS], [4])], [5]),
    ("ChainedScheduler", [("SequentialLR", [LINEAR, LAMBDA], [5]), EXP]),
], ids=str)  # fmt: skip
def test_round_trip_of_nestings(spec):
    whole = trace(torch, spec, 30, 2)
    for at, source in product((0, 1, 3, 5, 12), LIBRARIES):
        optimizer = make_optimizer(source, 2)
        scheduler = build(source, optimizer, spec)
        optimizer.step()
        for _ in range(at):
            scheduler.step()
        saved, saved_optimizer = copy.deepcopy([scheduler.state_dict(), optimizer.state_dict()])
        optimizer = make_optimizer(mg, 2, lr=7)
        scheduler = build(mg, optimizer, spec)
        optimizer.load_state_dict(saved_optimizer)
        scheduler.load_state_dict(saved)
        optimizer.step()
        seen = [snapshot(optimizer, scheduler)]
        for _ in range(at, 30):
            scheduler.step()
            seen.append(snapshot(optimizer, scheduler))
        agree(seen, whole[at:], f"{spec} saved at {at} by {source.__name__}")


# --- interfaces, errors, warnings -------------------------------------------------------------------------------------

NAMES = [name for name, value in vars(torch.optim.lr_scheduler).items() if name in torch.optim.lr_scheduler.__all__]


@pytest.mark.parametrize("name", [*NAMES, "_LRScheduler"])
def test_signatures(name):
    ours, theirs = (getattr(m.optim.lr_scheduler, name) for m in LIBRARIES)
    for method in ("__init__", "step", "get_lr", "get_last_lr", "state_dict", "load_state_dict"):
        a, b = ([(p.name, p.kind, p.default) for p in inspect.signature(getattr(c, method)).parameters.values()]
                for c in (ours, theirs))  # fmt: skip
        assert a == b, method
    assert hasattr(ours, "_get_closed_form_lr") == hasattr(theirs, "_get_closed_form_lr")
    assert issubclass(ours, mg.optim.lr_scheduler.LRScheduler)


REFUSED = [
    ("StepLR", (None, 3)),
    ("LRScheduler", ("abc",)),
    ("ReduceLROnPlateau", (3,)),
    ("CyclicLR", (3, 0.1, 0.2)),
    ("OneCycleLR", (3, 0.1, 9)),
    ("LRScheduler", ()),
    ("StepLR", (3, 0.1, 3)),
    ("ConstantLR", (1.5,)),
    ("ConstantLR", (-0.1,)),
    ("LinearLR", (0,)),
    ("LinearLR", (1.1,)),
    ("LinearLR", (0.5, -1)),
    ("LinearLR", (0.5, 2)),
    ("LambdaLR", ([inverse] * 3,)),
    ("LambdaLR", (3,)),
    ("MultiplicativeLR", ([inverse],)),
    ("MultiplicativeLR", ([inverse, 3],)),
    ("MultiplicativeLR", ("f",)),
    *[("CosineAnnealingWarmRestarts", a) for a in ((0,), (-1,), (2.0,), (2, 0), (2, 1.5), (2, 1, "0"), (2, 1, None))],
    ("CyclicLR", (0.1, 0.2, 5, None, "square")),
    ("CyclicLR", ([0.1], 0.2)),
    ("CyclicLR", (0.1, [0.1, 0.2, 0.3])),
    *[("OneCycleLR", (0.1, *a)) for a in ((), (0,), (-1,), (2.5,), (None, 3), (None, None, 3), (None, 0, 1),
                                          (None, 1, 0), (None, 1.0, 1), (None, 1, 2.0), (9, None, None, 1.5),
                                          (9, None, None, -0.1), (9, None, None, 0), (9, None, None, 0.3, "cosine"))],
    ("OneCycleLR", ([0.1], 9)),
    ("ReduceLROnPlateau", ("middle",)),
    ("ReduceLROnPlateau", ("min", 1.0)),
    ("ReduceLROnPlateau", ("min", 0.1, 10, 0.1, "both")),
    ("ReduceLROnPlateau", ("min", 0.1, 10, 0.1, "abs", 0, [0.1])),
]  # fmt: skip


@pytest.mark.parametrize(("name", "arguments"), REFUSED, ids=str)
def test_refused_alike(name, arguments):
    errors = []
    for m in LIBRARIES:
        given = (make_optimizer(m, 2), *arguments)
        if arguments and arguments[0] in (None, "abc", 3) and name not in ("LambdaLR", "MultiplicativeLR"):
            given = arguments
        with pytest.raises((TypeError, ValueError, NotImplementedError)) as caught:
            getattr(m.optim.lr_scheduler, name)(*given)
        errors.append((caught.type, str(caught.value)))
    (ours, message), (theirs, their_message) = errors
    assert ours is theirs
    if theirs is ValueError:
        assert message.startswith(their_message.rstrip(".")[:60])


def test_refused_compositions():
    def refusals(m):
        s, first, second = m.optim.lr_scheduler, make_optimizer(m), make_optimizer(m)
        a, b = s.StepLR(first, 3), s.StepLR(second, 3)
        plateau = s.ReduceLROnPlateau(first)
        no_momentum = type("Plain", (m.optim.Optimizer,), {"_update": None, "step": lambda self: None})
        plain = no_momentum([m.ones(1)], {"lr": 0.1})
        for make in (
            lambda: s.SequentialLR(first, [], []),
            lambda: s.SequentialLR(first, [a], [3]),
            lambda: s.SequentialLR(first, [a, a], []),
            lambda: s.SequentialLR(first, [a, b], [3]),
            lambda: s.SequentialLR(first, [a, plateau], [3]),
            lambda: s.SequentialLR(first, [a, object()], [3]),
            lambda: s.SequentialLR(first, [a], []).step(3),
            lambda: s.ChainedScheduler([]),
            lambda: s.ChainedScheduler([a, b]),
            lambda: s.ChainedScheduler([a], second),
            lambda: s.ChainedScheduler([a, plateau]),
            lambda: s.ChainedScheduler([a, object()]),
            lambda: s.ChainedScheduler([a]).step(3),
            lambda: s.CyclicLR(plain, 0.1, 0.2),
            lambda: s.OneCycleLR(plain, 0.1, 10),
            lambda: s.StepLR(make_optimizer(m), 3, last_epoch=0),
            lambda: s.CosineAnnealingWarmRestarts(first, 3).step(-1),
            lambda: s.LambdaLR(first, inverse).load_state_dict({}),
        ):
            with pytest.raises((TypeError, ValueError, KeyError)) as caught:
                make()
            yield caught.type, str(caught.value)[:40]

    assert list(refusals(mg)) == list(refusals(torch))


def test_warnings_alike():
    def seen(m, name, act):
        optimizer = make_optimizer(m)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            act(optimizer, getattr(m.optim.lr_scheduler, name))
        assert all(w.filename == __file__ for w in caught) or m is torch
        return [(w.category, str(w.message)[:50]) for w in caught]

    def early(optimizer, make):
        scheduler = make(optimizer, 3)
        for _ in range(3):
            scheduler.step()

    def right(optimizer, make):
        scheduler = make(optimizer, 3)
        for _ in range(3):
            optimizer.step()
            scheduler.step()

    def overridden(optimizer, make):
        scheduler = make(optimizer, 3)
        optimizer.step = lambda: None
        optimizer.step()
        scheduler.step()

    def epochs(optimizer, make):
        scheduler = make(optimizer, 3)
        optimizer.step()
        scheduler.step(3)
        scheduler.step(epoch=4)

    def asked(optimizer, make):
        make(optimizer, 3).get_lr()

    def second(optimizer, make):
        right(optimizer, make)
        early(optimizer, make)

    for name, act in product(
        ("StepLR", "CosineAnnealingLR", "CosineAnnealingWarmRestarts"),
        (early, right, overridden, epochs, asked, second),
    ):
        assert seen(mg, name, act) == seen(torch, name, act), (name, act.__name__)

    def plateau(optimizer, make):
        scheduler = make(optimizer)
        scheduler.step(1.0)
        scheduler.step(1.0, 5)

    assert seen(mg, "ReduceLROnPlateau", plateau) == seen(torch, "ReduceLROnPlateau", plateau)


@pytest.mark.parametrize("kind", ["SGD", "Adam", "AdamW"])
@pytest.mark.parametrize("spec", [ONE, CYCLIC, ("SequentialLR", [LINEAR, COSINE], [5])], ids=lambda s: s[0])
def test_training(kind, spec):
    """The parameters themselves, over 40 steps."""
    results = []
    for m in LIBRARIES:
        rng = np.random.default_rng(0)
        p = m.from_numpy(rng.normal(size=(3, 4))).requires_grad_(True)
        optimizer = getattr(m.optim, kind)([p], lr=0.1)
        scheduler = build(m, optimizer, spec)
        for _ in range(40):
            optimizer.zero_grad()
            (p * p).sum().backward()
            optimizer.step()
            scheduler.step()
        results.append(p)
    comparing.close("lr_scheduler", *results, f"{kind} {spec}", 1e-12)
