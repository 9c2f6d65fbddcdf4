"""Optimizers, clipping and averaging of parameters on a GPU, or on two devices, beside the CPU."""

import copy
import math
import os

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn.utils import clip_grad_norm_, clip_grad_value_, clip_grads_with_norm_, get_total_norm
from minigrad.optim import swa_utils

from .both import needs_gpu, values

pytestmark = needs_gpu
pretended = pytest.mark.skipif(not os.environ.get("MINIGRAD_PRETEND_CUDA"), reason="counts the driver's calls")
SHAPES = ((3, 4), (5000,), (2, 3, 5), (), (0, 3), (40, 70), (2048,))
COUNTERS = ("step", "eta", "mu", "mu_product")

CASES = [
    (mg.optim.SGD, {"lr": 0.1}),
    (mg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.1}),
    (mg.optim.SGD, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5, "maximize": True}),
    (mg.optim.Adam, {"weight_decay": 0.1}),
    (mg.optim.Adam, {"amsgrad": True, "maximize": True}),
    (mg.optim.AdamW, {"amsgrad": True}),
    (mg.optim.NAdam, {"decoupled_weight_decay": True}),
    (mg.optim.RAdam, {"weight_decay": 0.1}),
    (mg.optim.Adamax, {}),
    (mg.optim.Adagrad, {"lr_decay": 0.1, "initial_accumulator_value": 0.5}),
    (mg.optim.Adadelta, {}),
    (mg.optim.RMSprop, {"centered": True, "momentum": 0.9}),
    (mg.optim.RMSprop, {}),
    (mg.optim.Rprop, {}),
    (mg.optim.ASGD, {"t0": 1}),
    (mg.optim.Adafactor, {"weight_decay": 0.1}),
]
IDS = [f"{cls.__name__}-{i}" for i, (cls, _) in enumerate(CASES)]


def parameters(device="cpu", dtype=mg.float32, shapes=SHAPES):
    rng = np.random.default_rng(0)
    devices = [device] * len(shapes) if isinstance(device, str) else device
    made = [mg.tensor(rng.standard_normal(s), dtype=dtype, device=d) for s, d in zip(shapes, devices, strict=True)]
    return [p.requires_grad_() for p in made]


def gradients(ps, seed, skip=()):
    rng = np.random.default_rng(seed)
    for i, p in enumerate(ps):
        g = rng.standard_normal(tuple(p.shape))
        p.grad = None if i in skip else mg.tensor(g, dtype=p.dtype, device=p.device)


def equal(found, expected):
    for a, b in zip(found, expected, strict=True):
        values(a, b)


@pytest.mark.parametrize(("cls", "options"), CASES, ids=IDS)
@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_steps(cls, options, dtype):
    """Also with other gradients missing each time, so that the chunks change; states are where the parameters are."""
    sides = []
    for device in ("cuda", "cpu"):
        ps = parameters(device, dtype)
        optimizer = cls(ps, **options)
        for step, skip in enumerate(((), (), (1,), (0, 5), ())):
            gradients(ps, step, skip)
            optimizer.step()
        sides.append((ps, optimizer))
    (ps, optimizer), (expected, reference) = sides
    equal(ps, expected)
    for p, q in zip(ps, expected, strict=True):
        assert p.is_cuda and optimizer.state[p].keys() == reference.state[q].keys()
        for name, value in optimizer.state[p].items():
            assert value.is_cuda == (name not in COUNTERS), name
            values(value, reference.state[q][name])


@pytest.mark.parametrize("cls", [mg.optim.SGD, mg.optim.AdamW, mg.optim.Adafactor])
def test_parameters_on_two_devices(cls):
    """In one group and in several; float32 and float64 besides."""
    devices = ["cuda", "cpu", "cpu", "cuda", "cuda", "cpu", "cuda"]
    for grouped in (False, True):
        sides = []
        for where in (devices, "cpu"):
            ps = parameters(where) + parameters(where, mg.float64)
            optimizer = cls([{"params": ps[:3]}, {"params": ps[3:], "lr": 0.3}] if grouped else ps)
            for step in range(3):
                gradients(ps, step)
                clip_grad_norm_(ps, 3.0)
                optimizer.step()
            sides.append(ps)
        assert [p.device for p in sides[0][:7]] == [mg.zeros(1, device=d).device for d in devices]
        equal(*sides)


def test_strided_parameters_and_gradients():
    sides = []
    for device in ("cuda", "cpu"):
        base = mg.arange(60.0, device=device).reshape(6, 10)
        p = base[:, ::2].requires_grad_()
        p.grad = mg.arange(30.0, device=device).reshape(5, 6).t()
        optimizer = mg.optim.Adam([p])
        optimizer.step()
        sides.append((p, base, optimizer.state[p]["exp_avg"]))
    equal(*sides)


@pytest.mark.parametrize("cls", [mg.optim.Muon, mg.optim.LBFGS])
def test_optimizers_made_of_operations(cls):
    sides = []
    for device in ("cuda", "cpu"):
        (p,) = parameters(device, mg.float64, [(6, 4)])
        goal = mg.arange(24.0, dtype=mg.float64, device=device).reshape(6, 4)
        optimizer = cls([p], lr=0.1)

        def closure(p=p, goal=goal, optimizer=optimizer):
            optimizer.zero_grad()
            loss = ((p - goal) ** 2).sum()
            loss.backward()
            return loss

        for _ in range(3):
            optimizer.step(closure)
        sides.append(p.detach())
    np.testing.assert_allclose(sides[0].cpu().numpy(), sides[1].numpy(), 1e-9)


@pytest.mark.parametrize(("cls", "options"), CASES, ids=IDS)
def test_states_are_loaded_onto_the_parameters_device(cls, options):
    cpu = parameters()
    optimizer = cls(cpu, **options)
    gradients(cpu, 0)
    optimizer.step()
    saved = optimizer.state_dict()
    ps = parameters("cuda")
    with mg.no_grad():
        for p, q in zip(ps, cpu, strict=True):
            p.copy_(q)
    there = cls(ps, **options)
    there.load_state_dict(saved)
    for _ in range(2):  # and back
        for side in (cpu, ps):
            gradients(side, 1)
        optimizer.step()
        there.step()
        equal(ps, cpu)
        assert all(v.is_cuda == (k not in COUNTERS) for p in ps for k, v in there.state[p].items())
        optimizer.load_state_dict(there.state_dict())
        assert not any(v.is_cuda for p in cpu for v in optimizer.state[p].values())


def test_what_does_not_fit_is_refused_before_anything_is_written():
    for other in ("exp_avg", "step"):
        ps = parameters("cuda", shapes=[(3,), (4,)])
        optimizer = mg.optim.Adam(ps)
        gradients(ps, 0)
        optimizer.step()
        state = optimizer.state[ps[1]]
        state[other] = state[other].cpu() if state[other].is_cuda else state[other].cuda()
        before = [p.detach().clone() for p in ps]
        with pytest.raises(RuntimeError, match="exp_avg' is on cpu, .* on cuda:0|'step' must be .* on the CPU"):
            optimizer.step()
        assert all((p == q).all().item() for p, q in zip(ps, before, strict=True))


# --- clipping ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", [2, 1, 3.5, math.inf, -math.inf, 0])
@pytest.mark.parametrize("bound", [0.5, 1e6, 0.0])
def test_clipping(order, bound):
    sides = []
    for device in ("cuda", "cpu"):
        ps = parameters(device)
        gradients(ps, 3)
        norm = clip_grad_norm_(ps, bound, norm_type=order)
        again = get_total_norm([p.grad for p in ps], order)
        sides.append([norm, again, *(p.grad for p in ps)])
    assert sides[0][0].is_cuda and sides[0][0].dtype is mg.float32
    equal(*sides)


def test_clipping_on_two_devices():
    """The norm is where the first gradient is."""
    for devices in (("cuda", "cpu"), ("cpu", "cuda")):
        for order in (2, math.inf, 0):
            sides = []
            for where in (devices, ("cpu", "cpu")):
                ps = parameters(where, shapes=[(5000,), (30,)]) + parameters(where[1], mg.float64, [(7,)])
                gradients(ps, 0)
                sides.append([clip_grad_norm_(ps, 1.0, order), *(p.grad for p in ps)])
            assert sides[0][0].device == sides[0][1].device and sides[0][0].dtype is mg.float64
            equal(*sides)
    ps = parameters(("cuda", "cpu"), shapes=[(3,), (3,)])
    gradients(ps, 0)
    expected = [p.grad.cpu() * 0.25 for p in ps]
    clip_grads_with_norm_(ps, 1.0, mg.tensor(4.0 - 1e-6))
    np.testing.assert_allclose(ps[0].grad.cpu().numpy(), expected[0].numpy(), 1e-6)
    np.testing.assert_allclose(ps[1].grad.numpy(), expected[1].numpy(), 1e-6)


def test_special_norms():
    for special in (math.nan, math.inf):
        sides = []
        for device in ("cuda", "cpu"):
            ps = parameters(device, shapes=[(5,), (3000,)])
            gradients(ps, 0)
            ps[1].grad[7] = special
            with pytest.raises(RuntimeError, match="non-finite"):
                clip_grad_norm_(ps, 1.0, error_if_nonfinite=True)
            clip_grad_norm_(ps, 1.0)
            clip_grad_value_(ps[:1], math.nan)
            sides.append([p.grad for p in ps])
        equal(*sides)
    assert clip_grad_norm_(parameters("cuda"), 1.0).item() == 0
    empty = parameters("cuda", shapes=[(0,)])
    gradients(empty, 0)
    assert clip_grad_norm_(empty, 1.0).item() == 0


@pytest.mark.parametrize("bound", [0.5, 0])
def test_values_are_clamped(bound):
    sides = []
    for device in ("cuda", "cpu"):
        ps = parameters(device)
        gradients(ps, 0)
        clip_grad_value_(ps, bound)
        sides.append([p.grad for p in ps])
    equal(*sides)


# --- averages ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["cuda", "cpu"])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"multi_avg_fn": swa_utils.get_ema_multi_avg_fn(0.75)},
        {"avg_fn": swa_utils.get_swa_avg_fn()},
        {"avg_fn": swa_utils.get_ema_avg_fn(0.75), "use_buffers": True},
    ],
)
def test_averages_of_a_model_may_be_on_another_device(there, options):
    sides = []
    for device, where in (("cuda", there), ("cpu", "cpu")):
        mg.manual_seed(0)
        model = mg.nn.Linear(3, 700)
        averaged = swa_utils.AveragedModel(copy.deepcopy(model), **options).to(where)
        model = model.to(device)
        for step in range(3):
            with mg.no_grad():
                model.weight.mul_(1.5).add_(step)
            averaged.update_parameters(model)
        assert averaged.module.weight.device == mg.zeros(1, device=where).device
        sides.append([p.detach().cpu() for p in averaged.parameters()])
    equal(*sides)


def test_averages_on_two_devices_at_once_are_refused():
    a, b = [mg.zeros(2, device="cuda")], [mg.ones(2)]
    with pytest.raises(RuntimeError, match="Expected all tensors to be on the same device"):
        swa_utils.get_ema_multi_avg_fn(0.5)(a, b, 1)


# --- calls of the driver -------------------------------------------------------------------------------------------


@pretended
def test_a_step_is_one_launch_and_one_upload_and_waits_for_nothing():
    from .. import pretend

    def count():
        waits = ("cuStreamSynchronize", "cuCtxSynchronize", "cuEventSynchronize")
        return [*map(pretend.calls, ("cuLaunchKernel", "cuMemcpyHtoDAsync_v2")), sum(map(pretend.calls, waits))]

    ps = parameters("cuda", shapes=[(k % 7 + 1, 300) for k in range(100)])
    groups = [{"params": ps[:30]}, {"params": ps[30:], "weight_decay": 0.1}]
    for optimizer, calls in ((mg.optim.Adam(ps), 1), (mg.optim.AdamW(groups), 2)):
        for step in range(4):
            gradients(ps, step)
            mg.cuda.synchronize()
            before = count()
            optimizer.step()
            made = [b - a for a, b in zip(before, count(), strict=True)]
            assert step == 0 or made == [calls, calls, 0]
    before = count()
    clip_grad_norm_(ps, 1.0)
    assert count()[2] == before[2]
