"""Learning-rate schedules: closed forms, groups, resuming, state, momentum, warnings, errors."""

import copy
import doctest
import importlib
import io
import math
import pickle
import runpy
import warnings
import weakref
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad.optim import lr_scheduler as schedules

from .garbage import collector_off

N = 100
t = np.arange(N)


def parameter():
    return mg.tensor([1.0, -2.0], requires_grad=True)


def make_optimizer(lrs=(0.1,), kind="SGD"):
    options = {"momentum": 0.9} if kind == "SGD" else {}
    return getattr(mg.optim, kind)([{"params": [parameter()], "lr": lr} for lr in lrs], **options)


def run(scheduler, n=N):
    """The learning rates of n epochs from the current one, (n, groups)."""
    seen = []
    for _ in range(n):
        seen.append([g["lr"] for g in scheduler.optimizer.param_groups])
        assert scheduler.get_last_lr() == seen[-1]
        scheduler.optimizer.step()
        scheduler.step()
    return np.array(seen)


def cosine(t, period):
    return (1 + np.cos(np.pi * t / period)) / 2


def cycle(t, up, down):
    """Straight from 0 to 1 and back."""
    part = t % (up + down)
    return np.where(part <= up, part / up, 1 - (part - up) / down)


def halves(epoch):
    return 0.5**epoch


def step_back(t):  # epochs since the last restart of T_0 = 10, T_mult = 2: 0, 10, 30, 70
    return np.select([t < 10, t < 30, t < 70], [t, t - 10, t - 30], t - 70)


# name, options, the factor of the initial learning rate at epoch t
FACTORS = [
    ("StepLR", {"step_size": 7, "gamma": 0.5}, 0.5 ** (t // 7)),
    ("StepLR", {"step_size": 30}, 0.1 ** (t // 30)),
    ("MultiStepLR", {"milestones": [3, 20, 20, 60], "gamma": 0.5},
     0.5 ** np.searchsorted([3, 20, 20, 60], t, side="right")),
    ("ConstantLR", {"factor": 0.25, "total_iters": 12}, np.where(t < 12, 0.25, 1)),
    ("ConstantLR", {}, np.where(t < 5, 1 / 3, 1)),
    ("LinearLR", {"start_factor": 0.2, "end_factor": 0.7, "total_iters": 50}, 0.2 + 0.5 * np.minimum(t, 50) / 50),
    ("LinearLR", {}, 1 / 3 + 2 / 3 * np.minimum(t, 5) / 5),
    ("ExponentialLR", {"gamma": 0.93}, 0.93**t),
    ("PolynomialLR", {"total_iters": 60, "power": 2.5}, (1 - np.minimum(t, 60) / 60) ** 2.5),
    ("PolynomialLR", {}, 1 - np.minimum(t, 5) / 5),
    ("LambdaLR", {"lr_lambda": halves}, 0.5**t),
    ("MultiplicativeLR", {"lr_lambda": lambda epoch: 0.9 if epoch % 2 else 1}, 0.9 ** ((t + 1) // 2)),
    ("CosineAnnealingLR", {"T_max": 40}, cosine(t, 40)),
    ("CosineAnnealingWarmRestarts", {"T_0": 8}, cosine(t % 8, 8)),
    ("CosineAnnealingWarmRestarts", {"T_0": 10, "T_mult": 2},
     cosine(step_back(t), np.select([t < 10, t < 30, t < 70], [10, 20, 40], 80))),
]  # fmt: skip


@pytest.mark.parametrize(("name", "options", "want"), FACTORS, ids=lambda v: v if isinstance(v, str) else "")
@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_closed_forms(name, options, want, kind):
    """Each group from its own initial learning rate."""
    lrs = (0.1, 1.0, 3e-4)
    scheduler = getattr(schedules, name)(make_optimizer(lrs, kind), **options)
    assert scheduler.base_lrs == [*lrs] == [g["initial_lr"] for g in scheduler.optimizer.param_groups]
    np.testing.assert_allclose(run(scheduler), np.outer(want, lrs), rtol=1e-12, atol=1e-15)
    assert scheduler.last_epoch == N


def test_cosine_with_a_floor():
    """Past T_max it rises again."""
    scheduler = schedules.CosineAnnealingLR(make_optimizer((0.1, 1.0)), T_max=10, eta_min=0.01)
    want = 0.01 + cosine(t, 10)[:, None] * (np.array([0.1, 1.0]) - 0.01)
    np.testing.assert_allclose(run(scheduler), want, rtol=1e-12)
    assert want[10, 0] < want[15, 0] < want[20, 0]


def test_recursive_forms_keep_other_changes():
    """A learning rate that somebody doubles stays doubled."""
    for name, options, want in FACTORS:
        scheduler = getattr(schedules, name)(make_optimizer(), **options)
        run(scheduler, 3)
        scheduler.optimizer.param_groups[0]["lr"] *= 2
        scheduler.step()
        kept = 1 if name in ("LambdaLR", "CosineAnnealingWarmRestarts") else 2
        np.testing.assert_allclose(scheduler.get_last_lr()[0], 0.1 * kept * want[4], rtol=1e-12, err_msg=name)


@pytest.mark.parametrize(
    ("name", "options", "want"), [f for f in FACTORS if hasattr(getattr(schedules, f[0]), "_get_closed_form_lr")],
    ids=lambda v: v if isinstance(v, str) else "",
)  # fmt: skip
def test_given_epochs_use_the_closed_form(name, options, want):
    scheduler = getattr(schedules, name)(make_optimizer((0.1, 2.0)), **options)
    scheduler.optimizer.step()
    for epoch in (5, 0, 77, 12):
        with pytest.warns(UserWarning, match="The epoch parameter in `scheduler.step\\(\\)` was not necessary"):
            scheduler.step(epoch)
        np.testing.assert_allclose(scheduler.get_last_lr(), want[epoch] * np.array([0.1, 2.0]), rtol=1e-12, atol=1e-15)
        assert scheduler.last_epoch == epoch


def test_warm_restarts_at_fractions():
    scheduler = schedules.CosineAnnealingWarmRestarts(make_optimizer(), T_0=4, T_mult=2, eta_min=0.02)
    for epoch, part in ((0.5, 0.5 / 4), (3.75, 3.75 / 4), (4.0, 0), (8, 0.5), (11.5, 7.5 / 8), (12, 0), (2, 0.5)):
        scheduler.step(epoch)
        np.testing.assert_allclose(scheduler.get_last_lr(), 0.02 + 0.08 * cosine(part, 1), rtol=1e-12)
        assert scheduler.last_epoch == math.floor(epoch)


# --- cycles, with momentum --------------------------------------------------------------------------------------------

CYCLES = [
    ({}, np.ones(N)),
    ({"mode": "triangular2"}, 0.5 ** (t // 10)),
    ({"mode": "exp_range", "gamma": 0.98}, 0.98**t),
    ({"scale_fn": lambda x: 1 / x}, 1 / (1 + t // 10)),
    ({"scale_fn": lambda x: 0.9**x, "scale_mode": "iterations"}, 0.9**t),
]


def momentum_of(group):
    return group["betas"][0] if "betas" in group else group["momentum"]


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize(("options", "scale"), CYCLES)
def test_cyclic(options, scale, kind):
    optimizer = make_optimizer((7.0, 8.0), kind)
    scheduler = schedules.CyclicLR(optimizer, [0.1, 0.2], 1.1, step_size_up=6, step_size_down=4, **options)
    height = cycle(t, 6, 4) * scale
    momenta = []
    step = scheduler.step
    scheduler.step = lambda: (momenta.append([momentum_of(g) for g in optimizer.param_groups]), step())
    np.testing.assert_allclose(run(scheduler), np.c_[0.1 + height, 0.2 + 0.9 * height], rtol=1e-11)
    np.testing.assert_allclose(momenta, np.c_[0.9 - 0.1 * height, 0.9 - 0.1 * height], rtol=1e-11)
    assert kind == "SGD" or optimizer.param_groups[0]["betas"][1] == 0.999


def one_cycle(t, total, points, ends, strategy):
    """Through ``points`` at the steps 0, *ends."""
    starts = [0, *ends[:-1]]
    i = np.minimum(np.searchsorted(ends, t), len(ends) - 1)
    part = (t - np.take(starts, i)) / (np.take(ends, i) - np.take(starts, i))
    part = 1 - cosine(part, 1) if strategy == "cos" else part
    points = np.asarray(points)
    return points[i] + (points[i + 1] - points[i]) * part


@pytest.mark.parametrize("kind", ["SGD", "AdamW"])
@pytest.mark.parametrize("strategy", ["cos", "linear"])
@pytest.mark.parametrize("three_phase", [False, True])
def test_one_cycle(three_phase, strategy, kind):
    total, top = 50, 2.0
    optimizer = make_optimizer((7.0, 8.0), kind)
    scheduler = schedules.OneCycleLR(
        optimizer, [top, top / 2], epochs=5, steps_per_epoch=10, pct_start=0.3, anneal_strategy=strategy,
        div_factor=10, final_div_factor=100, three_phase=three_phase,
    )  # fmt: skip
    low, end = top / 10, top / 1000
    points = [low, top, low, end] if three_phase else [low, top, end]
    momenta = [0.95, 0.85, 0.95, 0.95] if three_phase else [0.95, 0.85, 0.95]
    ends = [14, 28, 49] if three_phase else [14, 49]
    for step in range(total):
        want = one_cycle(step, total, points, ends, strategy)
        np.testing.assert_allclose(scheduler.get_last_lr(), [want, want / 2], rtol=1e-11)
        want = one_cycle(step, total, momenta, ends, strategy)
        np.testing.assert_allclose([momentum_of(g) for g in optimizer.param_groups], want, rtol=1e-11)
        optimizer.step()
        scheduler.step()
    with pytest.raises(ValueError, match="Tried to step 51 times. The specified number of total steps is 50"):
        scheduler.step()


def test_momentum_that_is_not_cycled():
    for make in (schedules.CyclicLR, schedules.OneCycleLR):
        optimizer = make_optimizer()
        make(optimizer, 0.1, 20, cycle_momentum=False)
        assert optimizer.param_groups[0]["momentum"] == 0.9 and "max_momentum" not in optimizer.param_groups[0]
        bare = mg.optim.Optimizer([parameter()], {"lr": 0.1})
        with pytest.raises(ValueError, match="optimizer must support momentum or beta1"):
            make(bare, 0.1, 20)
        make(bare, 0.1, 20, cycle_momentum=False)
    optimizer = mg.optim.SGD([parameter()])  # without momentum so far
    schedules.CyclicLR(optimizer, 0.1, 0.2)
    assert optimizer.param_groups[0]["momentum"] == 0.9


def test_a_phase_without_steps():
    with pytest.raises(ZeroDivisionError, match="a phase of OneCycleLR has no steps"):
        schedules.OneCycleLR(make_optimizer(), 1.0, total_steps=10, pct_start=0.1)


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedules.CyclicLR(o, 5.0, [6.0, 7.0, 8.0]),
        lambda o: schedules.CyclicLR(o, 5.0, 6.0, mode="square"),
        lambda o: schedules.CyclicLR(o, 5.0, 6.0, base_momentum=[1, 2, 3]),
        lambda o: schedules.OneCycleLR(o, 5.0, total_steps=10, max_momentum=[1, 2, 3]),
        lambda o: mg.optim.swa_utils.SWALR(o, 5.0, anneal_strategy="square"),
    ],
)
def test_a_refused_schedule_changes_no_group(make):
    optimizer = make_optimizer()
    before = copy.deepcopy([{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups])
    with pytest.raises(ValueError, match="length|mode is invalid|anneal_strategy"):
        make(optimizer)
    assert [{k: v for k, v in g.items() if k != "params"} for g in optimizer.param_groups] == before


@pytest.mark.parametrize(
    "make",
    [
        lambda o: schedules.StepLR(o, 1),
        lambda o: schedules.ChainedScheduler([schedules.StepLR(o, 1)]),
        lambda o: schedules.SequentialLR(o, [schedules.StepLR(o, 1)], []),
    ],
)
def test_warnings_point_at_the_users_line(make):
    scheduler = make(make_optimizer())
    with pytest.warns(UserWarning, match="before `optimizer.step") as found:
        scheduler.step()
    assert [w.filename for w in found] == [__file__]


# --- plateaus ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "metrics", "want"),
    [
        ({"patience": 1}, [1, 1, 1, 1, 1, 0.5], [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 0}, [1, 0.9, 0.9, 0.89999, 0.8], [1, 1, 0.5, 0.25, 0.25]),
        ({"patience": 0, "mode": "max"}, [1, 2, 2, 3, 1], [1, 1, 0.5, 0.5, 0.25]),
        ({"patience": 0, "threshold": 0.5}, [4, 3, 1.9, 1, 0.9], [1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 0, "threshold": 0.5, "threshold_mode": "abs"}, [4, 3.6, 3.4, 3, 2.8], [1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 0, "cooldown": 2}, [1, 1, 1, 1, 1, 1], [1, 0.5, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 0, "min_lr": 0.4}, [1, 1, 1, 1], [1, 0.5, 0.4, 0.4]),
        ({"patience": 0, "eps": 0.3}, [1, 1, 1], [1, 0.5, 0.5]),
        ({"patience": 1}, [math.nan] * 5, [1, 0.5, 0.5, 0.25, 0.25]),
        ({"patience": 0, "mode": "max"}, [-math.inf, 0, math.inf, math.inf], [0.5, 0.5, 0.5, 0.25]),
    ],
)  # fmt: skip
def test_plateau(options, metrics, want):
    optimizer = make_optimizer((1.0, 10.0))
    if "min_lr" in options:
        options = {**options, "min_lr": [options["min_lr"], 10 * options["min_lr"]]}
    scheduler = schedules.ReduceLROnPlateau(optimizer, factor=0.5, **options)
    seen = []
    for value in metrics:
        scheduler.step(mg.tensor([value]))
        seen.append(scheduler.get_last_lr())
    np.testing.assert_allclose(seen, np.outer(want, [1, 10]) if "eps" not in options else np.c_[want, [10, 5, 2.5]])


def test_plateau_with_more_groups():
    for least, error in (([0.0], RuntimeError), (0.0, None)):
        optimizer = make_optimizer()
        scheduler = schedules.ReduceLROnPlateau(optimizer, patience=0, min_lr=least)
        optimizer.add_param_group({"params": [parameter()], "lr": 1.0})
        scheduler.step(1.0)
        if error:
            with pytest.raises(error, match=r"param groups in the `optimizer` \(2\) differs from .* \(1\)"):
                scheduler.step(1.0)
        else:
            scheduler.step(1.0)
            np.testing.assert_allclose(scheduler.get_last_lr(), [0.01, 0.1])


# --- composition ------------------------------------------------------------------------------------------------------


def test_sequential():
    """Warm-up, then cosine, then constant; each from its own epoch 0."""
    optimizer = make_optimizer((0.1, 1.0))
    parts = [
        schedules.LinearLR(optimizer, 0.1, total_iters=10),
        schedules.CosineAnnealingLR(optimizer, T_max=40),
        schedules.ConstantLR(optimizer, 0.5, total_iters=20),
    ]
    scheduler = schedules.SequentialLR(optimizer, parts, [10, 40])
    want = np.select([t < 10, t < 40, t < 60], [0.1 + 0.9 * t / 10, cosine(t - 10, 40), 0.5], 1)
    np.testing.assert_allclose(run(scheduler), np.outer(want, [0.1, 1.0]), rtol=1e-12)
    assert [part.last_epoch for part in parts] == [9, 29, 60] and scheduler.last_epoch == N


def test_chained():
    optimizer = make_optimizer((0.1, 1.0))
    parts = [schedules.ConstantLR(optimizer, 0.5, 20), schedules.ExponentialLR(optimizer, 0.95)]
    scheduler = schedules.ChainedScheduler(parts)
    np.testing.assert_allclose(run(scheduler), np.outer(np.where(t < 20, 0.5, 1) * 0.95**t, [0.1, 1.0]), rtol=1e-12)


def test_composed_errors():
    a, b = make_optimizer(), make_optimizer()
    one, other, plateau = schedules.StepLR(a, 3), schedules.StepLR(b, 3), schedules.ReduceLROnPlateau(a)
    sequential, chained = schedules.SequentialLR, schedules.ChainedScheduler
    for make, error, message in (
        (lambda: sequential(a, [], []), ValueError, "expects at least one scheduler, but got no scheduler"),
        (lambda: sequential(a, [one], [3]), ValueError, "one more than the number of milestone points"),
        (lambda: sequential(a, [one, other], [3]), ValueError, "same optimizer, but got scheduler StepLR at index 1"),
        (lambda: sequential(a, [one, plateau], [3]), ValueError, "does not support `ReduceLROnPlateau`"),
        (lambda: sequential(a, [one, 3], [3]), TypeError, "at index 1 should have `optimizer`"),
        (lambda: sequential(a, [one], []).step(3), TypeError, "positional argument"),
        (lambda: chained([]), ValueError, "expects at least one scheduler to be chained"),
        (lambda: chained([one, other]), ValueError, "same optimizer"),
        (lambda: chained([one], b), ValueError, "same optimizer"),
        (lambda: chained([plateau]), ValueError, "does not support"),
        (lambda: chained([3]), TypeError, "at index 0 should have `optimizer`"),
        (lambda: chained([one]).step(3), TypeError, "positional argument"),
        (lambda: chained([one]).get_lr(), NotImplementedError, "cannot take over at a milestone"),
    ):
        with pytest.raises(error, match=message):
            make()


# --- state, resuming, copies ------------------------------------------------------------------------------------------


class Power:
    def __init__(self, base):
        self.base = base

    def __call__(self, x):
        return self.base**x


def warm_up_then_cosine(optimizer):
    parts = [schedules.LinearLR(optimizer, total_iters=10), schedules.CosineAnnealingLR(optimizer, T_max=40)]
    return schedules.SequentialLR(optimizer, parts, milestones=[10])


def both(optimizer):
    return schedules.ChainedScheduler([schedules.StepLR(optimizer, 7), schedules.LambdaLR(optimizer, Power(0.9))])


STATEFUL = [
    *[pytest.param(lambda o, n=n, k=k: getattr(schedules, n)(o, **k), id=n) for n, k, _ in FACTORS],
    lambda o: schedules.CyclicLR(o, 0.01, 0.1, 6, mode="triangular2"),
    lambda o: schedules.CyclicLR(o, 0.01, 0.1, 6, scale_fn=Power(0.9)),
    lambda o: schedules.OneCycleLR(o, 1.0, 2 * N, three_phase=True),
    warm_up_then_cosine,
    both,
]


@pytest.mark.parametrize("make", STATEFUL)
@pytest.mark.parametrize("at", [0, 1, 13])
def test_state_dicts_continue_exactly(make, at):
    """Through a file too."""
    want = run(make(make_optimizer((0.1, 2.0))), 60)
    scheduler = make(make_optimizer((0.1, 2.0)))
    run(scheduler, at)
    file = io.BytesIO()
    mg.save({"scheduler": scheduler.state_dict(), "optimizer": scheduler.optimizer.state_dict()}, file)
    saved = mg.load(io.BytesIO(file.getvalue()))
    other = make(make_optimizer((5.0, 6.0)))
    other.optimizer.load_state_dict(saved["optimizer"])
    other.load_state_dict(saved["scheduler"])
    assert run(other, 60 - at).tolist() == want[at:].tolist()
    assert {**other.state_dict(), "_last_lr": 0}.keys() == scheduler.state_dict().keys()


def by_pickle(scheduler):
    return pickle.loads(pickle.dumps(scheduler))


@pytest.mark.parametrize("make", STATEFUL)
@pytest.mark.parametrize("through", [copy.deepcopy, by_pickle])
def test_copies_continue_exactly(make, through):
    scheduler = make(make_optimizer((0.1, 2.0)))
    run(scheduler, 3)
    try:
        other = through(scheduler)
    except (AttributeError, pickle.PicklingError):
        assert "lambda" in str(vars(scheduler))
        return
    assert other.optimizer is not scheduler.optimizer
    assert run(other, 20).tolist() == run(scheduler, 20).tolist()


def test_a_copy_warns_of_nothing():
    """The copied optimizer is watched as well."""
    other = copy.deepcopy(schedules.StepLR(make_optimizer(), 3))
    run(other, 5)


@pytest.mark.parametrize("at", [1, 9])
@pytest.mark.parametrize(("name", "options", "want"), FACTORS, ids=lambda v: v if isinstance(v, str) else "")
def test_last_epoch(name, options, want, at):
    """A new scheduler goes on from the optimizer's state, without its own: constructing it is the step to ``at``."""
    scheduler = getattr(schedules, name)(make_optimizer((0.1, 2.0)), **options)
    run(scheduler, at)
    optimizer = make_optimizer((5.0, 6.0))
    optimizer.load_state_dict(scheduler.optimizer.state_dict())
    again = getattr(schedules, name)(optimizer, **options, last_epoch=at - 1)
    assert again.last_epoch == at and again.base_lrs == [0.1, 2.0]
    np.testing.assert_allclose(run(again, 20), np.outer(want[at : at + 20], [0.1, 2.0]), rtol=1e-12, atol=1e-15)


def test_last_epoch_needs_initial_learning_rates():
    with pytest.raises(KeyError, match=r"param 'initial_lr' is not specified in param_groups\[0\]"):
        schedules.StepLR(make_optimizer(), 3, last_epoch=0)


def test_functions_in_state_dicts():
    """Functions are dropped, the attributes of objects are kept."""
    optimizer = make_optimizer((0.1, 0.2, 0.3))
    scheduler = schedules.LambdaLR(optimizer, [halves, Power(0.9), math.sqrt])
    saved = scheduler.state_dict()
    assert saved["lr_lambdas"] == [None, {"base": 0.9}, None] and "optimizer" not in saved
    other = schedules.LambdaLR(make_optimizer((0.1, 0.2, 0.3)), [halves, Power(0.1), math.sqrt])
    before = copy.deepcopy(saved)
    other.load_state_dict(saved)
    assert other.lr_lambdas[1].base == 0.9 and saved == before
    cyclic = schedules.CyclicLR(make_optimizer(), 0.1, 0.2, scale_fn=Power(0.5))
    assert cyclic.state_dict()["_scale_fn_custom"] == {"base": 0.5}
    other = schedules.CyclicLR(make_optimizer(), 0.1, 0.2, scale_fn=Power(0.1))
    other.load_state_dict(cyclic.state_dict())
    assert other.scale_fn(2) == 0.25


def test_a_scheduler_leaves_no_cycle():
    """The optimizer dies with the last reference to it, and does not keep its scheduler alive."""
    makers = [m if callable(m) else m.values[0] for m in STATEFUL]
    with collector_off():
        for make in [*makers, schedules.ReduceLROnPlateau]:
            optimizer = make_optimizer()
            scheduler = make(optimizer)
            owner, held, step = weakref.ref(optimizer), weakref.ref(scheduler), optimizer.step
            del scheduler
            assert held() is None
            if make is not schedules.ReduceLROnPlateau:  # which does not watch: step is a plain method
                del optimizer
                assert owner() is None
                with pytest.raises(ReferenceError, match="no longer exists"):
                    step()


# --- learning rates that are tensors ----------------------------------------------------------------------------------


def test_tensor_learning_rates():
    lr = mg.tensor(0.5, dtype=mg.float64)
    optimizer = mg.optim.SGD([{"params": [parameter()], "lr": lr}, {"params": [parameter()], "lr": 0.25}], momentum=0.9)
    scheduler = schedules.StepLR(optimizer, 1, gamma=0.5)
    first = scheduler.get_last_lr()
    copies = [optimizer.param_groups[0]["initial_lr"], *scheduler.base_lrs, *first]
    optimizer.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] is lr and lr.item() == 0.25 and optimizer.param_groups[1]["lr"] == 0.125
    assert [float(x) for x in copies] == [0.5, 0.5, 0.25, 0.5, 0.25]
    optimizer.step()
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(3)
    assert lr.item() == 0.0625


# --- warnings and errors ----------------------------------------------------------------------------------------------


def test_38_steps_in_the_wrong_order():
    """One warning; the learning rate has decayed already."""
    for make in (
        lambda o: schedules.StepLR(o, 1, gamma=0.5),
        lambda o: schedules.ExponentialLR(o, 0.5),
        lambda o: schedules.LambdaLR(o, halves),
    ):
        scheduler = make(make_optimizer())
        with pytest.warns(UserWarning, match="Detected call of `lr_scheduler.step\\(\\)` before") as caught:
            scheduler.step()
        assert scheduler.get_last_lr() == [0.05] and caught[0].filename == __file__
        scheduler.step()
        scheduler = make(make_optimizer())
        scheduler.optimizer.step = lambda: None
        with pytest.warns(UserWarning, match="`optimizer.step\\(\\)` has been overridden"):
            scheduler.step()
        scheduler.step()


def test_a_step_that_was_replaced_before():
    """The function is called as it is, and seen."""
    optimizer, calls = make_optimizer(), []
    optimizer.step = lambda *arguments: calls.append(arguments)
    scheduler = schedules.StepLR(optimizer, 1)
    optimizer.step(3)
    scheduler.step()
    assert calls == [(3,)]


def test_get_lr_outside_a_step():
    for name, options, _ in FACTORS:
        scheduler = getattr(schedules, name)(make_optimizer(), **options)
        with pytest.warns(UserWarning, match="please use `get_last_lr\\(\\)`") as caught:
            scheduler.get_lr()
        assert caught[0].filename == __file__


def test_step_still_takes_a_closure():
    optimizer = make_optimizer()
    schedules.StepLR(optimizer, 3)
    schedules.StepLR(optimizer, 3)  # watched once only
    assert optimizer.step(lambda: 7) == 7 and optimizer.step.__name__ == "step"
    assert not hasattr(optimizer.step.__wrapped__, "_wrapped_by_lr_sched")


def test_own_schedule():
    """Subclasses need get_lr only; those that lack it, or give the wrong number, say so."""

    class Inverse(schedules.LRScheduler):
        def get_lr(self):
            return [lr / (1 + self.last_epoch) for lr in self.base_lrs]

    scheduler = Inverse(make_optimizer((0.1, 2.0)))
    np.testing.assert_allclose(run(scheduler), np.outer(1 / (1 + t), [0.1, 2.0]), rtol=1e-15)
    with pytest.warns(UserWarning, match="epoch parameter"):
        scheduler.step(3)  # has no closed form
    assert scheduler.get_last_lr() == [0.025, 0.5]
    with pytest.raises(NotImplementedError):
        schedules.LRScheduler(make_optimizer())
    scheduler.optimizer.add_param_group({"params": [parameter()], "lr": 3.0})
    with pytest.raises(ValueError, match="learning rates for 2 parameter groups, the optimizer has 3"):
        scheduler.step()
    assert [g["lr"] for g in scheduler.optimizer.param_groups] == [0.025, 0.5, 3.0]


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("ConstantLR", (1.5,), ValueError, "between 0 and 1. Got factor=1.5"),
        ("LinearLR", (0,), ValueError, "greater than 0 and less or equal to 1. Got start_factor=0"),
        ("LinearLR", (0.5, 2), ValueError, "between 0 and 1. Got end_factor=2"),
        ("LambdaLR", ([halves],), ValueError, "Expected 2 lr_lambdas, but got 1"),
        ("MultiplicativeLR", ([halves, 3],), TypeError, "lr_lambda should be a function, but got int"),
        ("CosineAnnealingWarmRestarts", (0,), ValueError, "positive integer T_0, but got 0"),
        ("CosineAnnealingWarmRestarts", (2, 0), ValueError, "T_mult >= 1, but got 0"),
        ("CosineAnnealingWarmRestarts", (2, 1, "0"), ValueError, "float or int eta_min, but got 0"),
        ("CyclicLR", (0.1, 0.2, 5, None, "square"), ValueError, "mode is invalid and scale_fn is None: 'square'"),
        ("CyclicLR", ([0.1], 0.2), ValueError, "base_lr has 1 values, param_groups has 2"),
        ("CyclicLR", (0.1, [0.1]), ValueError, "max_lr has 1 values"),
        ("OneCycleLR", (0.1,), ValueError, "define either total_steps OR"),
        ("OneCycleLR", (0.1, 2.5), ValueError, "positive integer total_steps, but got 2.5"),
        ("OneCycleLR", (0.1, None, 0, 3), ValueError, "positive integer epochs, but got 0"),
        ("OneCycleLR", (0.1, None, 3, -1), ValueError, "positive integer steps_per_epoch, but got -1"),
        ("OneCycleLR", (0.1, 9, None, None, 1.5), ValueError, "between 0 and 1 pct_start, but got 1.5"),
        ("OneCycleLR", (0.1, 9, None, None, 0.3, "cosine"), ValueError, "'cos' or 'linear', instead got cosine"),
        ("ReduceLROnPlateau", ("min", 1.0), ValueError, "Factor should be < 1.0. Got factor=1.0"),
        ("ReduceLROnPlateau", ("middle",), ValueError, "mode middle is unknown!"),
        ("ReduceLROnPlateau", ("min", 0.1, 10, 0.1, "both"), ValueError, "threshold mode both is unknown!"),
        ("ReduceLROnPlateau", ("min", 0.1, 10, 0.1, "abs", 0, [0.1]), ValueError, "expected 2 min_lrs, got 1"),
    ],
)
def test_errors(name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(schedules, name)(make_optimizer((0.1, 0.2)), *arguments)


def test_not_an_optimizer():
    cases = [(name, options) for name, options, _ in FACTORS]
    cases += [("CyclicLR", {"base_lr": 1, "max_lr": 2}), ("OneCycleLR", {"max_lr": 2}), ("ReduceLROnPlateau", {})]
    for name, options in cases:
        with pytest.raises(TypeError, match="list is not an Optimizer"):
            getattr(schedules, name)([parameter()], **options)


@pytest.mark.parametrize("module", ["base", "composed", "cosine", "cycles", "factors", "functions", "plateau"])
def test_examples_in_docstrings(module):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        done = doctest.testmod(importlib.import_module(f"minigrad.optim.lr_scheduler.{module}"))
    assert done.attempted and not done.failed


def test_the_example_shows_every_schedule(monkeypatch):
    examples = Path(__file__).parent.parent / "examples"
    monkeypatch.syspath_prepend(examples)
    shown = runpy.run_path(str(examples / "schedules.py"))["SCHEDULES"]
    classes = {name for name, value in vars(schedules).items() if isinstance(value, type)}
    assert set(shown) == classes - {"LRScheduler", "_LRScheduler"}
