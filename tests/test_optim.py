"""Optimizers: numbers to reproduce, NumPy references, groups, state, hooks, errors. "S n" are systems to reproduce."""

import copy
import gc
from collections import defaultdict
from functools import partial
from itertools import product

import numpy as np
import pytest

import minigrad as mg

from .garbage import collector_off

DTYPES = ("float32", "float64")
inf, nan = np.inf, np.nan


def parameter(values=1.0, dtype="float32"):
    return mg.tensor(np.asarray(values, dtype), requires_grad=True)


def run(name, gradients, start=1.0, dtype="float64", **options):
    """The values of a parameter after each step with these gradients."""
    p = parameter(start, dtype)
    optimizer = getattr(mg.optim, name)([p], **options)
    values = []
    for g in gradients:
        p.grad = mg.tensor(np.asarray(g, dtype))
        optimizer.step()
        values.append(p.tolist())
    return values


# --- the systems to reproduce -----------------------------------------------------------------------------------------

ONES = [1.0] * 3
NUMBERS = [
    ("SGD", ONES, {"lr": 0.1, "momentum": 0.9}, [0.9, 0.71, 0.439]),
    ("SGD", ONES, {"lr": 0.1, "momentum": 0.9, "dampening": 0.5}, [0.9, 0.76, 0.584]),
    ("SGD", ONES, {"lr": 0.1, "momentum": 0.9, "nesterov": True}, [0.81, 0.539, 0.1951]),
    ("SGD", ONES, {"lr": 0.1, "weight_decay": 0.1}, [0.89, 0.7811, 0.673289]),
    ("SGD", ONES, {"lr": 0.1, "weight_decay": 0.1, "maximize": True}, [1.09, 1.1791]),
    ("SGD", ONES, {"lr": 0.1, "maximize": True}, [1.1, 1.2]),
    ("SGD", ONES, {"lr": 0.0, "momentum": 0.9}, [1, 1, 1]),
    ("Adam", [1, -0.5, 2], {"lr": 0.1}, [0.9, 0.8733664, 0.8075552]),
    ("Adam", [1, -0.5, 2], {"lr": 0.1, "weight_decay": 0.1}, [0.9, 0.8632183, 0.7935998]),
    ("AdamW", [1, -0.5, 2], {"lr": 0.1, "weight_decay": 0.1}, [0.89, 0.8544664, 0.7801105]),
    (
        "Adam", [1, -0.5, 2], {"lr": 0.1, "weight_decay": 0.1, "decoupled_weight_decay": True},
        [0.89, 0.8544664, 0.7801105],
    ),
    ("Adam", [1, -0.5, 0.1], {"lr": 0.1, "amsgrad": True}, [0.9, 0.8733664, 0.8471643]),
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("name", "gradients", "options", "want"), NUMBERS)
def test_measured_numbers(name, gradients, options, want, dtype):
    found = run(name, gradients, dtype=dtype, **options)[: len(want)]
    np.testing.assert_allclose(found, want, rtol=0, atol=2e-7)


def test_s9_state_of_adam():
    p = parameter()
    optimizer = mg.optim.Adam([p], lr=0.1)
    for g in (1, -0.5, 2):
        p.grad = mg.tensor(float(g))
        optimizer.step()
    state = optimizer.state[p]
    assert list(state) == ["step", "exp_avg", "exp_avg_sq"]
    assert state["step"].item() == 3 and state["step"].dtype is mg.float32 and state["step"].shape == ()
    assert abs(state["exp_avg"].item() - 0.236) < 1e-7 and abs(state["exp_avg_sq"].item() - 0.00524775) < 5e-9


def test_s14_attributes():
    p = parameter([1.0, 2.0])
    optimizer = mg.optim.SGD([p], lr=0.1, momentum=0.9)
    assert optimizer.defaults == {
        "lr": 0.1, "momentum": 0.9, "dampening": 0, "weight_decay": 0, "nesterov": False, "maximize": False,
        "foreach": None, "differentiable": False, "fused": None,
    }  # fmt: skip
    assert isinstance(optimizer.state, defaultdict) and not optimizer.state
    assert [list(g) for g in optimizer.param_groups] == [["params", *optimizer.defaults]]
    assert list(mg.optim.Adam([p]).param_groups[0]) == [
        "params", "lr", "betas", "eps", "weight_decay", "amsgrad", "maximize", "foreach", "capturable",
        "differentiable", "fused", "decoupled_weight_decay",
    ]  # fmt: skip
    assert mg.optim.AdamW([p]).param_groups[0]["decoupled_weight_decay"] is True
    assert mg.optim.AdamW([p]).param_groups[0]["weight_decay"] == 0.01


def test_s15_gradients_accumulate_and_are_forgotten():
    w = parameter([1.0, 2.0])
    optimizer = mg.optim.SGD([w], lr=0.1)
    assert optimizer.param_groups[0]["params"][0] is w
    for _ in range(2):
        (w * mg.tensor([1.0, 3.0])).sum().backward()
    assert w.grad.tolist() == [2, 6]
    optimizer.zero_grad()
    assert w.grad is None
    (w * w).sum().backward()
    kept = w.grad
    optimizer.zero_grad(set_to_none=False)
    assert w.grad is kept and kept.tolist() == [0, 0]
    optimizer.zero_grad(set_to_none=False)
    optimizer.zero_grad()
    optimizer.zero_grad()
    assert w.grad is None
    optimizer.zero_grad(set_to_none=False)
    assert w.grad is None


def test_zero_grad_of_a_recorded_gradient():
    w = parameter([1.0, 2.0])
    (g,) = mg.autograd.grad((w**3).sum(), (w,), create_graph=True)
    w.grad = g
    mg.optim.SGD([w]).zero_grad(set_to_none=False)
    assert w.grad.tolist() == [0, 0] and not w.grad.requires_grad


@pytest.mark.parametrize(
    ("lr", "want"), [(1, [[-0.3386, -0.7331], [-0.9383, -0.3787]]), (0.1, [[0.5614, 0.1669], [-0.0383, 0.5213]])]
)
def test_s16_one_step(lr, want):
    w = parameter([[0.6614, 0.2669], [0.0617, 0.6213]])
    w.grad = mg.ones(2, 2)
    mg.optim.SGD([w], lr=lr).step()
    np.testing.assert_allclose(w.detach().numpy(), want, atol=1e-6)


def test_s17_add_param_group():
    w1, w2 = parameter([1.0]), parameter([2.0])
    optimizer = mg.optim.SGD([w1], lr=0.1, momentum=0.9)
    optimizer.add_param_group({"params": w2, "lr": 1e-4, "mine": "kept"})
    first, second = optimizer.param_groups
    assert second["params"] == [w2] and second["lr"] == 1e-4 and second["momentum"] == 0.9 and second["mine"] == "kept"
    assert first["lr"] == 0.1 and "mine" not in first
    w1.grad, w2.grad = mg.ones(1), mg.ones(1)
    optimizer.step()
    np.testing.assert_allclose([w1.item(), w2.item()], [0.9, 1.9999], rtol=1e-6)


def test_s18_state_dict(tmp_path):
    w = parameter([[0.6614, 0.2669], [0.0617, 0.6213]])
    optimizer = mg.optim.SGD([w], lr=0.1, momentum=0.9)
    before = optimizer.state_dict()
    assert before["state"] == {} and before["param_groups"][0]["params"] == [0]
    for _ in range(10):
        w.grad = mg.ones(2, 2)
        optimizer.step()
    saved = optimizer.state_dict()
    assert before["state"] == {}  # a snapshot
    np.testing.assert_allclose(saved["state"][0]["momentum_buffer"].numpy(), np.full((2, 2), 6.5132), atol=1e-4)
    np.testing.assert_allclose(w.detach().numpy(), [[-3.4768, -3.8712], [-4.0764, -3.5168]], atol=1e-4)
    path = tmp_path / "optimizer_state_dict.safetensors"
    mg.save(saved, path)
    other = mg.optim.SGD([parameter(np.zeros((2, 2)))], lr=1.0)
    other.load_state_dict(mg.load(path))
    assert other.param_groups[0]["lr"] == 0.1 and other.param_groups[0]["momentum"] == 0.9
    (buffer,) = (s["momentum_buffer"] for s in other.state.values())
    assert mg.equal(buffer, saved["state"][0]["momentum_buffer"])


def parabola(steps=100, **options):
    """x and y = 4 x^2 over gradient descent from 2."""
    x = parameter(2.0, "float64")
    optimizer = mg.optim.SGD([x], **options)
    xs, ys = [], []
    for _ in range(steps):
        optimizer.zero_grad()
        y = 4 * x**2
        y.backward()
        xs.append(x.item())
        ys.append(y.item())
        optimizer.step()
    return np.array(xs), np.array(ys)


def test_s19_s20_s21_learning_rates():
    xs, ys = parabola(5, lr=1.0)
    assert xs.tolist() == [2, -14, 98, -686, 4802] and ys.tolist()[:4] == [16, 784, 38416, 1882384]
    _, ys = parabola(10, lr=0.01)
    want = [16, 13.5424, 11.4623, 9.7017, 8.2115, 6.9502, 5.8827, 4.9791, 4.2143, 3.5670]
    np.testing.assert_allclose(ys, want, atol=5e-5)
    rates = np.linspace(0.01, 0.2, 10)
    ends = [abs(parabola(20, lr=lr)[0][-1]) for lr in rates]
    np.testing.assert_allclose(ends, 2 * abs(1 - 8 * rates) ** 19, rtol=1e-6)
    assert rates[np.argmin(ends)].round(4) == 0.1156
    assert parabola(2, lr=0.125)[0][1] == 0


def test_s23_momentum():
    def first(ys):
        return int(np.argmax(ys < 1e-3))

    plain, fast = parabola(lr=0.01), parabola(lr=0.03)
    heavy, fitting = parabola(lr=0.01, momentum=0.9), parabola(lr=0.01, momentum=0.63)
    assert [first(ys) for _, ys in (plain, fast, heavy, fitting)] == [59, 18, 60, 21]
    assert (np.diff(np.sign(heavy[0])) != 0).sum() == 9
    assert round(heavy[1][-1], 5) == 0.00047 and round(plain[1][-1], 8) == 1.08e-6


# --- against NumPy ----------------------------------------------------------------------------------------------------


def sgd_reference(p, gradients, lr=1e-3, momentum=0, dampening=0, weight_decay=0, nesterov=False, maximize=False):
    p, b = np.array(p), None
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        if momentum:
            b = g if b is None else momentum * b + (1 - dampening) * g
            g = g + momentum * b if nesterov else b
        p = p - lr * g
    return p


def adam_reference(
    p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, amsgrad=False, maximize=False, decoupled=False
):
    p = np.array(p)
    m = v = top = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        if decoupled:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        top = np.maximum(top, v)
        root = np.sqrt((top if amsgrad else v) / (1 - betas[1] ** t))
        p = p - lr * m / (1 - betas[0] ** t) / (root + eps)
    return p


def rmsprop_reference(
    p, gradients, lr=0.01, alpha=0.99, eps=1e-8, weight_decay=0, momentum=0, centered=False, maximize=False
):
    v = b = mean = np.zeros_like(p)
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        v, mean = alpha * v + (1 - alpha) * g * g, alpha * mean + (1 - alpha) * g
        b = momentum * b + g / (np.sqrt(v - mean**2 if centered else v) + eps)
        p = p - lr * b
    return p


def adagrad_reference(
    p, gradients, lr=0.01, lr_decay=0, weight_decay=0, initial_accumulator_value=0, eps=1e-10, maximize=False
):
    total = np.full_like(p, initial_accumulator_value)
    for t, g in enumerate(gradients):
        g = (-g if maximize else g) + weight_decay * p
        total = total + g * g
        p = p - lr / (1 + t * lr_decay) * g / (np.sqrt(total) + eps)
    return p


def adadelta_reference(p, gradients, lr=1.0, rho=0.9, eps=1e-6, weight_decay=0, maximize=False):
    v = u = np.zeros_like(p)
    for g in gradients:
        g = (-g if maximize else g) + weight_decay * p
        v = rho * v + (1 - rho) * g * g
        x = np.sqrt(u + eps) / np.sqrt(v + eps) * g
        u = rho * u + (1 - rho) * x * x
        p = p - lr * x
    return p


def adamax_reference(p, gradients, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False):
    m = u = np.zeros_like(p)
    for t, g in enumerate(gradients, 1):
        g = (-g if maximize else g) + weight_decay * p
        m, u = betas[0] * m + (1 - betas[0]) * g, np.maximum(betas[1] * u, abs(g) + eps)
        p = p - lr / (1 - betas[0] ** t) * m / u
    return p


def nadam_reference(
    p, gradients, lr=2e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, momentum_decay=4e-3, maximize=False,
    decoupled_weight_decay=False,
):  # fmt: skip
    m = v = np.zeros_like(p)
    mus, so_far = [betas[0] * (1 - 0.5 * 0.96 ** (t * momentum_decay)) for t in range(1, 12)], 1.0
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        so_far = np.float32(so_far) * np.float32(mus[t - 1])  # a float32 state
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        ahead = mus[t] / (1 - float(so_far) * mus[t]) * m
        p = p - lr * ((1 - mus[t - 1]) / (1 - float(so_far)) * g + ahead) / (np.sqrt(v / (1 - betas[1] ** t)) + eps)
    return p


def radam_reference(
    p, gradients, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0, maximize=False, decoupled_weight_decay=False
):
    m = v = np.zeros_like(p)
    longest = 2 / (1 - betas[1]) - 1
    for t, g in enumerate(gradients, 1):
        g = -g if maximize else g
        if decoupled_weight_decay:
            p = p * (1 - lr * weight_decay)
        else:
            g = g + weight_decay * p
        m, v = betas[0] * m + (1 - betas[0]) * g, betas[1] * v + (1 - betas[1]) * g * g
        left = 1 - betas[1] ** t
        n = longest - 2 * t * betas[1] ** t / left
        scale = 1
        if n > 5:
            r = np.sqrt((n - 4) * (n - 2) * longest / ((longest - 4) * (longest - 2) * n))
            scale = r * np.sqrt(left) / (np.sqrt(v) + eps)
        p = p - lr * m / (1 - betas[0] ** t) * scale
    return p


def asgd_reference(p, gradients, lr=0.01, lambd=1e-4, alpha=0.75, t0=1e6, weight_decay=0, maximize=False):
    eta = float(np.float32(lr))  # a float32 state
    for t, g in enumerate(gradients, 1):
        g = (-g if maximize else g) + weight_decay * p
        p = (1 - lambd * eta) * p - eta * g
        eta = float(np.float32(lr / (1 + lambd * lr * t) ** alpha))
    return p


def rprop_reference(p, gradients, lr=0.01, etas=(0.5, 1.2), step_sizes=(1e-6, 50), maximize=False):
    size, last = np.full_like(p, lr), np.zeros_like(p)
    for g in gradients:
        g = -g if maximize else g
        sign = np.sign(g * last)
        size = np.clip(size * np.select([sign > 0, sign < 0], etas[::-1], 1.0), *step_sizes)
        last = np.where(sign < 0, 0.0, g)
        p = p - np.sign(last) * size
    return p


def combinations(**options):
    return [dict(zip(options, values)) for values in product(*options.values())]


SGD = [
    o
    for o in combinations(momentum=(0, 0.9), dampening=(0, 0.5), weight_decay=(0, 0.1), nesterov=(False, True),
                          maximize=(False, True))
    if not o["nesterov"] or (o["momentum"] and not o["dampening"])
]  # fmt: skip
DECAY = {"weight_decay": (0, 0.1), "maximize": (False, True)}
BETAS = {"betas": ((0.9, 0.999), (0, 0)), "eps": (1e-8, 0.1), **DECAY}
DECOUPLED = {"decoupled_weight_decay": (False, True)}
TABLE = {  # optimizer: reference, options
    "SGD": (sgd_reference, SGD),
    "Adam": (adam_reference, combinations(**BETAS, amsgrad=(False, True))),
    "AdamW": (partial(adam_reference, decoupled=True), combinations(**BETAS, amsgrad=(False, True))),
    "RMSprop": (rmsprop_reference, combinations(alpha=(0.99, 0.5), eps=(1e-8, 0.1), momentum=(0, 0.9),
                                                centered=(False, True), **DECAY)),
    "Adagrad": (adagrad_reference, combinations(lr_decay=(0, 0.1), initial_accumulator_value=(0, 0.5), **DECAY)),
    "Adadelta": (adadelta_reference, combinations(rho=(0.9, 0.5), eps=(1e-6, 0.1), **DECAY)),
    "Adamax": (adamax_reference, combinations(**BETAS)),
    "NAdam": (nadam_reference, combinations(**BETAS, **DECOUPLED, momentum_decay=(4e-3, 0.1))),
    "RAdam": (radam_reference, combinations(**{**BETAS, "betas": ((0.9, 0.999), (0.5, 0.9))}, **DECOUPLED)),
    "ASGD": (asgd_reference, combinations(lambd=(1e-4, 0.1), alpha=(0.75, 0.5), t0=(1e6, 2), **DECAY)),
    "Rprop": (rprop_reference, combinations(etas=((0.5, 1.2), (0.1, 2.0)), step_sizes=((1e-6, 50), (0.02, 0.1)),
                                            maximize=(False, True))),
}  # fmt: skip
SHAPES = [(), (3,), (2, 5), (0, 3), (2_049,), (1, 1, 1)]
STEPS = 10


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TABLE)
def test_all_options(name, dtype):
    rng = np.random.default_rng(0)
    start = [np.asarray(rng.normal(size=s)).astype(dtype) for s in SHAPES]
    gradients = [[np.asarray(rng.normal(size=s)).astype(dtype) for _ in range(STEPS)] for s in SHAPES]
    reference, table = TABLE[name]
    for options in table:
        params = [parameter(p, dtype) for p in start]
        optimizer = getattr(mg.optim, name)(params, lr=0.05, **options)
        for step in range(STEPS):
            for p, g in zip(params, gradients):
                p.grad = mg.from_numpy(g[step])
            optimizer.step()
        for p, first, g in zip(params, start, gradients):
            want = reference(first.astype(float), [x.astype(float) for x in g], lr=0.05, **options)
            tolerance = 1e-5 if dtype == "float32" else 1e-12
            np.testing.assert_allclose(p.detach().numpy(), want, tolerance, tolerance, err_msg=str(options))


def test_average_of_asgd():
    """The average is the parameter until step t0, and the mean of all later ones from then on."""
    p = parameter([1.0, -2.0], "float64")
    optimizer = mg.optim.ASGD([p], lr=0.1, t0=3)
    seen = []
    for step in range(1, 11):
        p.grad = mg.tensor([1.0, float(step)], dtype=mg.float64)
        optimizer.step()
        seen.append(p.detach().numpy().copy())
        want = np.mean(seen[4:], 0) if step > 5 else seen[-1]
        np.testing.assert_allclose(optimizer.state[p]["ax"].numpy(), want, 1e-7, err_msg=str(step))


def test_state_of_adagrad_is_there_at_once():
    p, q, r = parameter([1.0]), parameter([1.0]), parameter([1.0])
    optimizer = mg.optim.Adagrad([p, q], initial_accumulator_value=0.5)
    assert [optimizer.state[x]["sum"].item() for x in (p, q)] == [0.5, 0.5]
    optimizer.add_param_group({"params": r})
    assert r not in optimizer.state
    r.grad = mg.zeros(1)
    optimizer.step()
    assert optimizer.state[r]["sum"].item() == 0.5 and optimizer.state[p]["step"].item() == 0


@pytest.mark.parametrize("name", TABLE)
def test_hundreds_of_tensors(name):
    rng = np.random.default_rng(1)
    sizes = [*rng.integers(0, 40, 500), 40_000, 16_384, 16_383]
    options = {"lr": 0.1, "momentum": 0.9} if name in ("SGD", "RMSprop") else {"lr": 0.1}
    params = [parameter(rng.normal(size=n), "float64") for n in sizes]
    start = [p.detach().numpy().copy() for p in params]
    optimizer = getattr(mg.optim, name)(params, **options)
    gradients = [[rng.normal(size=n) for n in sizes] for _ in range(3)]
    for step in gradients:
        for p, g in zip(params, step):
            p.grad = mg.from_numpy(g)
        optimizer.step()
    reference = TABLE[name][0]
    options |= {"weight_decay": 0.01} if name == "AdamW" else {}
    for i, p in enumerate(params):
        want = reference(start[i], [g[i] for g in gradients], **options)
        np.testing.assert_allclose(p.detach().numpy(), want, 1e-12, 1e-14)


OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True, "alpha": 0.5}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    ("Adadelta", {"lr": 0.1}),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.1}),
    ("ASGD", {"lr": 0.1, "t0": 7, "lambd": 0.1}),
    ("Rprop", {"lr": 0.1}),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1}),
]
every = pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)


@every
def test_layouts(name, options):
    """A parameter, its gradient and its state may lie in memory as they like."""
    rng = np.random.default_rng(2)
    start, gradients = rng.normal(size=(4, 3)), rng.normal(size=(5, 4, 3))
    wide = np.zeros((8, 9))
    wide[::2, ::3] = start
    cases = {
        "plain": mg.tensor(start),
        "transposed": mg.tensor(start.T.copy()).T,
        "strided": mg.tensor(wide)[::2, ::3],
        "numpy": mg.from_numpy(start.copy()),
    }
    results = {}
    for case, values in cases.items():
        p = mg.nn.Parameter(mg.zeros(4, 3, dtype=mg.float64))
        p.data = values
        optimizer = getattr(mg.optim, name)([p], **options)
        for step, g in enumerate(gradients):
            g = mg.tensor(g)
            p.grad = [g, g.T.clone().T, mg.stack([g, g], 2)[:, :, 1]][step % 3]
            if step == 3:
                for state in optimizer.state.values():
                    state.update({k: v.T.clone().T for k, v in state.items() if v.ndim})
            optimizer.step()
        assert p.stride() == values.stride() and p.data_ptr() == values.data_ptr()
        results[case] = p.detach().numpy().copy()
    for case, values in results.items():
        assert values.tobytes() == results["plain"].tobytes(), case
    if name == "SGD":
        assert wide[1::2].max() == 0  # nothing beside it was written


@every
def test_mixed_dtypes_in_one_group(name, options):
    rng = np.random.default_rng(3)
    values = rng.normal(size=(6, 3)).astype("float32")
    gradients = rng.normal(size=(4, 6, 3)).astype("float32")
    dtypes = ["float32", "float64", "float64", "float32", "float32", "float64"]

    def train(rows):
        params = [parameter(values[i], dtypes[i]) for i in rows]
        optimizer = getattr(mg.optim, name)(params, **options)
        for g in gradients:
            for p, i in zip(params, rows):
                p.grad = mg.tensor(g[i].astype(dtypes[i]))
            optimizer.step()
        return dict(zip(rows, params))

    together = train(range(6))
    apart = train([0, 3, 4]) | train([1, 2, 5])
    for i in range(6):
        assert together[i].dtype is getattr(mg, dtypes[i]) and mg.equal(together[i], apart[i])


@every
def test_parameters_without_gradient(name, options):
    """They keep their values and get no state; so do those that need none."""
    a, b, c = parameter([1.0]), parameter([2.0]), mg.ones(2)
    optimizer = getattr(mg.optim, name)([a, b, c], **options)
    optimizer.step()
    if name == "Adagrad":  # has all its state from the start
        assert [optimizer.state[p]["step"].item() for p in (a, b, c)] == [0, 0, 0]
        optimizer.state.clear()
    assert not optimizer.state and [a.item(), b.item()] == [1, 2]
    b.grad = mg.ones(1)
    optimizer.step()
    assert a.item() == 1 and b.item() != 2 and c.tolist() == [1, 1] and a not in optimizer.state
    a.grad = mg.ones(1)
    optimizer.step()
    if name != "SGD":
        assert optimizer.state[a]["step"].item() == 1 and optimizer.state[b]["step"].item() == 2


@every
def test_extreme_gradients(name, options):
    p, q = parameter([1.0, 1.0, 1.0]), parameter([1.0])
    optimizer = getattr(mg.optim, name)([p, q], **options)
    p.grad, q.grad = mg.tensor([nan, 1.0, inf]), mg.tensor([0.5])
    optimizer.step()
    if name == "Rprop":  # looks at signs only, and that of nan is 0
        assert p[0].item() == 1 and p.isfinite().all() and p[2] < 1
        return
    assert p.isnan().tolist()[:2] == [True, False] and not p.isfinite()[2]
    p.grad = mg.zeros(3)
    optimizer.step()
    assert p.isnan().tolist()[0] and np.isfinite(q.item()) and np.isfinite(p[1].item())


def test_adam_of_tiny_gradients():
    """v underflows to 0 in float32, m / eps is nothing: the parameter does not move, as in PyTorch."""
    assert run("Adam", [1e-30] * 3, dtype="float32", lr=0.1) == [1.0] * 3


def test_learning_rate_between_steps():
    p = parameter(1.0, "float64")
    optimizer = mg.optim.SGD([p], lr=0.1)
    for lr in (0.1, 0.5, 0.0, 1.0):
        optimizer.param_groups[0]["lr"] = lr
        p.grad = mg.tensor(1.0, dtype=mg.float64)
        optimizer.step()
    assert abs(p.item() + 0.6) < 1e-15
    optimizer = mg.optim.Adam([p], lr=mg.tensor(0.1))
    optimizer.param_groups[0]["betas"] = (0.0, 0.0)
    optimizer.step()
    assert abs(p.item() + 0.7) < 1e-7
    for bad in (inf, nan):
        q = parameter([1.0, 1.0])
        q.grad = mg.tensor([1.0, 0.0])
        mg.optim.SGD([q], lr=bad).step()
        assert not q.isfinite().all()


def test_momentum_switched_on_and_off():
    p = parameter(1.0, "float64")
    optimizer = mg.optim.SGD([p], lr=0.1)

    def step():
        p.grad = mg.tensor(1.0, dtype=mg.float64)
        optimizer.step()
        return round(p.item(), 12)

    assert step() == 0.9 and p not in optimizer.state
    optimizer.param_groups[0].update(momentum=0.9, dampening=0.5)
    assert step() == 0.8 and step() == 0.66  # the first buffer is the gradient, undamped
    optimizer.param_groups[0]["momentum"] = 0
    assert step() == 0.56


# --- state ------------------------------------------------------------------------------------------------------------


def network(seed, dtype="float32"):
    mg.manual_seed(seed)
    return mg.nn.Sequential(mg.nn.Linear(6, 8), mg.nn.ReLU(), mg.nn.Linear(8, 3)).to(getattr(mg, dtype))


def train(model, optimizer, first, last):
    dtype = model[0].weight.dtype
    for step in range(first, last):
        rng = np.random.default_rng(step)
        x, t = mg.tensor(rng.normal(size=(10, 6)), dtype=dtype), mg.tensor(rng.integers(0, 3, 10))
        optimizer.zero_grad()
        mg.nn.functional.cross_entropy(model(x), t).backward()
        optimizer.step()


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_resume_has_the_same_bits(name, options, dtype, tmp_path):
    whole = network(0, dtype)
    optimizer = getattr(mg.optim, name)(whole.parameters(), **options)
    train(whole, optimizer, 0, 20)

    model = network(0, dtype)
    optimizer = getattr(mg.optim, name)(model.parameters(), **options)
    train(model, optimizer, 0, 10)
    mg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint")
    train(model, optimizer, 10, 15)  # what was saved does not notice

    model = network(1, dtype)
    optimizer = getattr(mg.optim, name)(model.parameters(), lr=77)
    checkpoint = mg.load(tmp_path / "checkpoint")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer, 10, 20)
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        assert mg.equal(a, b)


@every
def test_state_dict(name, options):
    params = [parameter(np.ones(n)) for n in (2, 3, 4)]
    optimizer = getattr(mg.optim, name)(
        [{"params": params[:1]}, {"params": params[1:], "lr": 0.5, "note": [1]}], **options
    )
    for p in (params[0], params[2]):
        p.grad = mg.ones(*p.shape)
    optimizer.step()
    saved = optimizer.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert [g["params"] for g in saved["param_groups"]] == [[0], [1, 2]]
    assert [g["lr"] for g in saved["param_groups"]] == [0.1, 0.5]
    has_state = name != "SGD" or "momentum" in options
    assert list(saved["state"]) == ([0, 1, 2] if name == "Adagrad" else [0, 2] if has_state else [])
    for index, state in saved["state"].items():
        for key, value in state.items():
            mine = optimizer.state[params[index]][key]
            assert value is not mine and mg.equal(value, mine) and value.data_ptr() != mine.data_ptr(), key
    saved["param_groups"][1]["note"].append(2)
    assert optimizer.param_groups[1]["note"] == [1]

    other = [parameter(np.ones(n)) for n in (2, 3, 4)]
    again = getattr(mg.optim, name)([{"params": other[:1]}, {"params": other[1:]}], lr=9.0)
    again.load_state_dict(saved)
    assert again.param_groups[1]["note"] == [1, 2] and again.param_groups[0]["lr"] == 0.1
    for p, q in zip(params, other):
        q.data.copy_(p.data)
        p.grad, q.grad = mg.ones(*p.shape), mg.ones(*p.shape)
    optimizer.step()
    again.step()
    for p, q in zip(params, other):
        assert mg.equal(p, q)
    for index in (0, 2) if has_state else ():  # loaded as a copy
        mine = again.state[other[index]]
        assert all(value is not mine[key] for key, value in saved["state"][index].items())
        assert any(not mg.equal(value, mine[key]) for key, value in saved["state"][index].items())


def test_state_is_loaded_in_the_dtype_of_the_parameter():
    p, q = parameter([1.0, 2.0], "float64"), parameter([1.0, 2.0])
    optimizer = mg.optim.Adam([p])
    p.grad = mg.ones(2, dtype=mg.float64)
    optimizer.step()
    other = mg.optim.Adam([q])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[q]["exp_avg"].dtype is mg.float32 and other.state[q]["step"].dtype is mg.float32
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = 1  # old files of PyTorch
    other.load_state_dict(saved)
    q.grad = mg.ones(2)
    other.step()
    assert other.state[q]["step"].item() == 2


def test_load_state_dict_refuses_what_does_not_fit():
    p, q = parameter([1.0, 2.0]), parameter([1.0])
    optimizer = mg.optim.Adam([p, q], lr=0.25)
    p.grad = mg.ones(2)
    optimizer.step()
    good = optimizer.state_dict()

    def refused(message, change):
        bad = copy.deepcopy(good)
        change(bad)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(bad)
        assert optimizer.param_groups[0]["lr"] == 0.25 and mg.equal(
            optimizer.state[p]["exp_avg"], good["state"][0]["exp_avg"]
        )

    refused("different number of parameter groups: 2 instead of 1", lambda d: d["param_groups"].append({"params": []}))
    refused("group 0 has 1 parameters instead of 2", lambda d: d["param_groups"][0].update(params=[0], lr=3))
    refused(r"'exp_avg' of parameter 0 has shape \(3,\), not \(2,\)", lambda d: (
        d["state"][0].update(exp_avg=mg.ones(3)), d["param_groups"][0].update(lr=3)))  # fmt: skip
    refused("state for parameter 5, which no group lists", lambda d: d["state"].update({5: {}}))
    with pytest.raises(KeyError):
        optimizer.load_state_dict({"state": {}})
    optimizer.load_state_dict(good)


def test_load_state_dict_checks_names_of_states():
    def saved(name, **options):
        p = parameter([1.0, 2.0])
        optimizer = getattr(mg.optim, name)([p], **options)
        p.grad = mg.ones(2)
        optimizer.step()
        return optimizer.state_dict()

    p = parameter([1.0, 2.0])
    for name, other, options in (
        ("Adam", "SGD", {"momentum": 0.9}), ("Adam", "Rprop", {}), ("NAdam", "Adam", {}), ("Adagrad", "ASGD", {}),
        ("Adadelta", "RMSprop", {"alpha": 0.5}),
    ):  # fmt: skip
        optimizer = getattr(mg.optim, name)([p], lr=0.25)
        with pytest.raises(ValueError, match=f"but {name} needs .* was it saved by another optimizer"):
            optimizer.load_state_dict(saved(other, **options))
        assert optimizer.param_groups[0]["lr"] == 0.25 and "alpha" not in optimizer.param_groups[0]
    for key, value, message in (
        ("step", mg.ones(2), r"'step' of parameter 0 has shape \(2,\), not \(\)"),
        ("mu_product", mg.ones(2), "'mu_product'"), ("exp_avg", mg.tensor(1.0), r"'exp_avg' .* has shape \(\)"),
    ):  # fmt: skip
        state = saved("NAdam")
        state["state"][0][key] = value
        optimizer = mg.optim.NAdam([p], lr=0.25)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        assert not optimizer.state and optimizer.param_groups[0]["lr"] == 0.25
    state = saved("NAdam")
    state["state"][0].update(step=3, mu_product=mg.tensor([0.5], dtype=mg.float64))
    optimizer.load_state_dict(state)
    loaded = optimizer.state[p]
    assert all(loaded[k].dtype is mg.float32 and loaded[k].shape == () for k in ("step", "mu_product"))
    names = mg.optim.NAdam([("w", p)]).state_dict()
    with pytest.raises(ValueError, match=r"group 0: parameter names \['w'\] instead of \['v'\]"):
        mg.optim.NAdam([("v", p)]).load_state_dict(names)


def test_load_state_dict_is_all_or_nothing():
    """Also when a value cannot be copied, in the last group."""

    class Stubborn:
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    p, q = parameter([1.0]), parameter([2.0])
    optimizer = mg.optim.SGD([{"params": p}, {"params": q}], lr=0.25, momentum=0.9)
    bad = optimizer.state_dict()
    bad["param_groups"][0]["lr"], bad["param_groups"][1]["note"] = 7.0, Stubborn()
    with pytest.raises(TypeError, match="no copies"):
        optimizer.load_state_dict(bad)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_states_of_no_parameter():
    """What an optimizer of one's own keeps under other keys is saved and loaded too, copied."""
    optimizer = mg.optim.SGD([parameter([1.0])])
    optimizer.state["all"] = {"seen": [mg.ones(1)]}
    saved = optimizer.state_dict()
    optimizer.state["all"]["seen"][0].zero_()
    other = mg.optim.SGD([parameter([1.0])])
    other.load_state_dict(saved)
    assert saved["state"]["all"]["seen"][0].item() == 1 and other.state["all"]["seen"][0].item() == 1


@every
def test_a_step_is_taken_by_all_or_by_none(name, options):
    """A gradient that does not fit any more, of the other dtype and last: nothing is written, no state is made."""
    a, b, c = parameter([1.0, 2.0]), parameter([3.0], "float64"), parameter([4.0], "float64")
    optimizer = getattr(mg.optim, name)([a, b, c], **options)
    fresh = {k: dict(v) for k, v in optimizer.state.items()}

    def values():
        return [x.tolist() for x in (a, b, c)], [
            {k: v.tolist() for k, v in optimizer.state.get(x, {}).items()} for x in (a, b, c)
        ]

    for round in range(2):
        for x in (a, b, c):
            x.grad = mg.ones(*x.shape, dtype=x.dtype)
        for break_it in (
            lambda: setattr(c, "data", mg.full((1,), 4.0)),  # its gradient is still float64
            lambda: setattr(c, "data", mg.full((1, 1), 4.0, dtype=mg.float64)),
        ):
            before, kept = values(), c.data
            break_it()
            with pytest.raises(RuntimeError, match="gradient of shape"):
                optimizer.step()
            c.data = kept
            assert values() == before
        group = optimizer.param_groups[0]
        kept, group["lr"] = group["lr"], "text"
        before = values()
        with pytest.raises((TypeError, ValueError)):
            optimizer.step()
        group["lr"] = kept
        assert values() == before
        if round == 0:
            assert {k: list(v) for k, v in optimizer.state.items()} == {k: list(v) for k, v in fresh.items()}
        optimizer.step()
        assert all(x != y for x, y in zip(values()[0], before[0]))


def test_user_replaces_state():
    p = parameter([1.0, 1.0])
    optimizer = mg.optim.Adam([p], lr=0.1)
    p.grad = mg.ones(2)
    optimizer.step()
    optimizer.state[p]["exp_avg"] = mg.zeros(2)
    optimizer.state[p]["exp_avg_sq"] = mg.ones(2)
    before = p.detach().clone()
    optimizer.step()
    assert mg.equal(optimizer.state[p]["exp_avg"], mg.full((2,), 0.1)) and not mg.equal(p, before)
    optimizer.state.clear()
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 1
    frozen = np.ones(2, "float32")
    frozen.flags.writeable = False
    for key, value, error in (
        ("exp_avg", mg.zeros(3), RuntimeError),
        ("exp_avg", mg.zeros(1, 2), RuntimeError),
        ("exp_avg", mg.zeros(2, dtype=mg.float64), RuntimeError),
        ("exp_avg", None, TypeError),
        ("exp_avg", [0.0, 0.0], TypeError),
        ("exp_avg", mg.from_numpy(frozen), ValueError),
        ("step", mg.tensor(1), RuntimeError),
        ("step", mg.ones(2), RuntimeError),
        ("step", 1.0, TypeError),
    ):
        kept, values = optimizer.state[p][key], p.detach().clone()
        optimizer.state[p][key] = value
        with pytest.raises(error):
            optimizer.step()
        optimizer.state[p][key] = kept
        assert mg.equal(p, values) and optimizer.state[p]["step"].item() == 1
    del optimizer.state[p]["exp_avg_sq"]
    with pytest.raises(KeyError, match="lacks 'exp_avg_sq'"):
        optimizer.step()
    optimizer.state[p] = []
    with pytest.raises(TypeError, match="must be a dict, got list"):
        optimizer.step()


def test_changed_parameters_are_noticed():
    """A gradient or state that does not fit the parameter any more is refused before anything is written."""
    p, q = parameter([1.0, 2.0]), parameter([1.0])
    optimizer = mg.optim.Adam([p, q])
    p.grad, q.grad = mg.ones(2), mg.ones(1)
    optimizer.step()
    values = p.tolist()
    q.data = mg.ones(1, dtype=mg.float64)
    with pytest.raises(
        RuntimeError, match="dtype minigrad.float32 for a parameter of shape .* and dtype minigrad.float64"
    ):
        mg.optim.SGD([q]).step()
    q.data = mg.ones(5)
    with pytest.raises(RuntimeError, match=r"gradient of shape \(1,\) .* for a parameter of shape \(5,\)"):
        optimizer.step()
    assert p.tolist() == values
    q.grad = mg.ones(5)
    with pytest.raises(RuntimeError, match=r"state 'exp_avg' has shape \(1,\)"):
        optimizer.step()
    assert p.tolist() == values
    counts = mg.ones(2, dtype=mg.int64)
    counts.grad = mg.ones(2, dtype=mg.int64)
    with pytest.raises(RuntimeError, match="minigrad.int64"):
        mg.optim.SGD([counts]).step()


def test_read_only_parameters():
    frozen = np.ones(3, "float32")
    frozen.flags.writeable = False
    p, q = parameter([1.0]), mg.from_numpy(frozen).requires_grad_(True)
    optimizer = mg.optim.SGD([p, q], lr=0.1)
    p.grad, q.grad = mg.ones(1), mg.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        optimizer.step()
    assert p.item() == 1 and frozen.tolist() == [1, 1, 1]


def test_rprop_takes_two_step_sizes():
    for sizes in ((0.1,), (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match="two numbers are needed"):
            mg.optim.Rprop([mg.ones(2, requires_grad=True)], step_sizes=sizes)
        p = parameter([1.0, 2.0])
        optimizer = mg.optim.Rprop([p])
        optimizer.param_groups[0]["step_sizes"], p.grad = sizes, mg.ones(2)
        with pytest.raises(ValueError, match="values to unpack"):
            optimizer.step()
        assert p.tolist() == [1, 2]


@every
def test_one_number_that_is_many_elements(name, options):
    p, q = parameter(np.ones((2, 2))), mg.ones(1).expand(2, 2).detach().requires_grad_(True)
    optimizer = getattr(mg.optim, name)([p, q], **options)
    p.grad, q.grad = mg.ones(2, 2), mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(RuntimeError, match="more than one element .* single memory location"):
        optimizer.step(lambda: mg.tensor(0.0)) if name == "LBFGS" else optimizer.step()
    assert (p == 1).all() and (q == 1).all()


@every
def test_copies_and_pickles(name, options):
    model = network(0)
    optimizer = getattr(mg.optim, name)(model.parameters(), **options)
    train(model, optimizer, 0, 2)
    pair = copy.deepcopy((model, optimizer))
    assert pair[1].param_groups[0]["params"][0] is pair[0][0].weight
    train(*pair, 2, 4)
    train(model, optimizer, 2, 4)
    for a, b in zip(model.parameters(), pair[0].parameters(), strict=True):
        assert mg.equal(a, b)


# --- versions, sharing, memory ----------------------------------------------------------------------------------------


@every
def test_step_between_forward_and_backward_is_noticed(name, options):
    model = network(0)
    optimizer = getattr(mg.optim, name)(model.parameters(), **options)
    train(model, optimizer, 0, 1)
    loss = model(mg.ones(2, 6)).sum()
    optimizer.step()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    versions = [p._version for p in model.parameters()]
    optimizer.step()
    assert all(p._version > v for p, v in zip(model.parameters(), versions))


def test_tied_weights():
    """A parameter of two modules is one parameter: updated once, with the sum of both gradients."""
    model = mg.nn.Sequential(mg.nn.Linear(3, 3, bias=False), mg.nn.Linear(3, 3, bias=False))
    model[1].weight = model[0].weight
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    assert len(optimizer.param_groups[0]["params"]) == 1
    before = model[0].weight.detach().clone()
    model(mg.ones(2, 3)).sum().backward()
    gradient = model[0].weight.grad.clone()
    optimizer.step()
    assert model[0].weight is model[1].weight
    np.testing.assert_allclose(model[1].weight.detach().numpy(), (before - 0.1 * gradient).numpy(), rtol=1e-6)


def test_parameters_that_are_views_of_one_tensor():
    base = mg.zeros(6)
    a, b = base[:2].detach().requires_grad_(True), base[4:].detach().requires_grad_(True)
    a.grad, b.grad = mg.ones(2), mg.full((2,), 2.0)
    mg.optim.SGD([a, b], lr=1.0).step()
    assert base.tolist() == [-1, -1, 0, 0, -2, -2]


def test_steps_make_no_garbage():
    model = network(0)
    optimizer = mg.optim.Adam(model.parameters())
    train(model, optimizer, 0, 3)
    with collector_off():
        before = len(gc.get_objects())
        train(model, optimizer, 0, 20)
        assert len(gc.get_objects()) - before < 20
        assert gc.collect() < 5


def test_gradient_is_only_read():
    p = parameter([1.0, 2.0])
    p.grad = mg.tensor([3.0, 4.0])
    kept = p.grad
    optimizer = mg.optim.SGD([p], lr=0.1, momentum=0.9, weight_decay=0.1, maximize=True)
    optimizer.step()
    optimizer.step()
    assert p.grad is kept and kept.tolist() == [3, 4]
    assert optimizer.state[p]["momentum_buffer"].data_ptr() != kept.data_ptr()


# --- closures and hooks -----------------------------------------------------------------------------------------------


@every
def test_closure(name, options):
    x = parameter([2.0])
    optimizer = getattr(mg.optim, name)([x], **options)
    seen = []

    def closure():
        optimizer.zero_grad()
        loss = (x**2).sum()
        loss.backward()
        seen.append((x.item(), mg.is_grad_enabled()))
        return loss

    with mg.no_grad():
        loss = optimizer.step(closure)
    assert loss.item() == 4 and seen == [(2.0, True)] and x.item() < 2
    assert optimizer.step(closure=closure).item() < 4
    assert optimizer.step() is None
    with pytest.raises(ZeroDivisionError):
        optimizer.step(lambda: 1 / 0)


def test_hooks():
    x = parameter([1.0])
    x.grad = mg.ones(1)
    optimizer = mg.optim.SGD([x], lr=0.1)
    calls = []
    before = optimizer.register_step_pre_hook(lambda *a: calls.append(("before", x.item(), a)))
    after = optimizer.register_step_post_hook(lambda *a: calls.append(("after", round(x.item(), 6), a)))

    def closure():
        return 7.0

    assert optimizer.step(closure) == 7
    assert calls == [
        ("before", 1.0, (optimizer, (optimizer, closure), {})),
        ("after", 0.9, (optimizer, (optimizer, closure), {})),
    ]
    calls.clear()
    before.remove()
    optimizer.step()
    assert [c[0] for c in calls] == ["after"]
    after.remove()
    optimizer.step()
    assert len(calls) == 1
    optimizer.register_step_pre_hook(lambda o, args, kwargs: ((o, lambda: 8.0), {}))
    assert optimizer.step(closure) == 8
    optimizer.register_step_pre_hook(lambda o, args, kwargs: 3)
    with pytest.raises(RuntimeError, match="must return None or a tuple"):
        optimizer.step()


def test_hooks_of_state_dicts():
    x = parameter([1.0])
    optimizer = mg.optim.SGD([x], lr=0.1)
    calls = []
    handles = [
        optimizer.register_state_dict_pre_hook(lambda o: calls.append("second")),
        optimizer.register_state_dict_pre_hook(lambda o: calls.append("first"), prepend=True),
        optimizer.register_state_dict_post_hook(lambda o, d: {**d, "version": 1}),
        optimizer.register_state_dict_post_hook(lambda o, d: calls.append(list(d))),
    ]
    saved = optimizer.state_dict()
    assert calls == ["first", "second", ["state", "param_groups", "version"]] and saved["version"] == 1
    calls.clear()
    handles[0].remove()
    optimizer.load_state_dict(saved)
    handles += [
        optimizer.register_load_state_dict_pre_hook(lambda o, d: d.pop("version") and calls.append("seen")),
        optimizer.register_load_state_dict_pre_hook(
            lambda o, d: {**d, "param_groups": [{**d["param_groups"][0], "lr": 0.5}]}, prepend=True
        ),
        optimizer.register_load_state_dict_post_hook(lambda o: calls.append(o.param_groups[0]["lr"])),
    ]
    optimizer.load_state_dict(saved)
    assert calls == ["seen", 0.5] and saved["version"] == 1 and saved["param_groups"][0]["lr"] == 0.1
    for handle in handles[1:]:
        handle.remove()
    assert list(optimizer.state_dict()) == ["state", "param_groups"] and len(calls) == 2


def test_hooks_of_every_optimizer():
    x = parameter([1.0])
    x.grad = mg.ones(1)
    calls = []
    with (
        mg.optim.optimizer.register_optimizer_step_pre_hook(lambda o, a, k: calls.append(("before", o))),
        mg.optim.optimizer.register_optimizer_step_post_hook(lambda o, a, k: calls.append(("after", o))),
    ):
        optimizers = mg.optim.SGD([x]), mg.optim.Adam([x])
        for optimizer in optimizers:
            optimizer.step()
    assert calls == [(when, o) for o in optimizers for when in ("before", "after")]
    optimizers[0].step()
    assert len(calls) == 4


def test_learning_rate_is_a_tensor():
    for name in TABLE:
        values = [run(name, [1.0, 2.0], lr=lr) for lr in (mg.tensor(0.5), mg.tensor([0.5]), 0.5)]
        assert values[0] == values[1] == values[2]
        with pytest.raises(ValueError, match="Tensor lr must be 1-element"):
            run(name, [1.0], lr=mg.ones(2))


def test_own_optimizers():
    """Subclasses may bring their own ``step``, as PyTorch's do."""

    class SignDescent(mg.optim.Optimizer):
        def __init__(self, params, lr=0.1):
            super().__init__(params, {"lr": lr})

        def step(self, closure=None):
            with mg.no_grad():
                for group in self.param_groups:
                    for p in group["params"]:
                        if p.grad is not None:
                            p.add_(p.grad.sign(), alpha=-group["lr"])
                            self.state[p]["count"] = self.state[p].get("count", 0) + 1

    x = parameter([1.0, -1.0])
    optimizer = SignDescent([x])
    called = []
    optimizer.register_step_post_hook(lambda *a: called.append(a))
    (x * x).sum().backward()
    optimizer.step()
    np.testing.assert_allclose(x.tolist(), [0.9, -0.9], rtol=1e-6)
    assert optimizer.state_dict()["state"] == {0: {"count": 1}} and called == [(optimizer, (optimizer,), {})]
    with pytest.raises((TypeError, NotImplementedError), match="_update"):
        mg.optim.Optimizer([x], {}).step()


# --- parameters and groups: what is taken and what is refused ---------------------------------------------------------


def test_what_parameters_may_be():
    a, b = parameter([1.0]), parameter([2.0])
    for params in ([a, b], (a, b), iter([a, b]), (p for p in (a, b)), {"a": a, "b": b}.values()):
        assert mg.optim.SGD(params).param_groups[0]["params"] == [a, b]
    model = network(0)
    named = mg.optim.SGD(model.named_parameters())
    assert named.param_groups[0]["param_names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert named.state_dict()["param_groups"][0]["param_names"] == ["0.weight", "0.bias", "2.weight", "2.bias"]
    assert mg.optim.SGD([{"params": iter([a])}, {"params": b}]).param_groups[1]["params"] == [b]
    assert mg.optim.SGD([{"params": []}]).param_groups[0]["params"] == []
    retained = a * 1
    retained.retain_grad()
    mg.optim.SGD([retained])


A = parameter([1.0])
REFUSED = {
    "a tensor": (lambda: mg.optim.SGD(A), TypeError, "should be an iterable of Tensors or dicts, but got a Tensor"),
    "a set": (lambda: mg.optim.SGD({A}), TypeError, "ordered collections"),
    "a set in a group": (lambda: mg.optim.SGD([{"params": {A}}]), TypeError, "ordered collections"),
    "nothing": (lambda: mg.optim.SGD([]), ValueError, "optimizer got an empty parameter list"),
    "exhausted": (lambda: mg.optim.SGD(iter(())), ValueError, "empty parameter list"),
    "None": (lambda: mg.optim.SGD(None), TypeError, "not iterable"),
    "numbers": (lambda: mg.optim.SGD([A, 1.0]), TypeError, r"can only optimize Tensors, but params\[1\] is float"),
    "arrays": (lambda: mg.optim.SGD([np.ones(2)]), TypeError, r"params\[0\] is ndarray"),
    "a model": (lambda: mg.optim.SGD(mg.nn.Identity()), TypeError, "not iterable"),
    "a dict": (lambda: mg.optim.SGD({"params": [A]}), TypeError, r"params\[0\] is str"),
    "not a leaf": (lambda: mg.optim.SGD([A * 2]), ValueError, "can't optimize a non-leaf Tensor"),
    "two groups": (
        lambda: mg.optim.SGD([{"params": [A]}, {"params": A}]),
        ValueError,
        "in more than one parameter group",
    ),
    "mixed": (lambda: mg.optim.SGD([{"params": [A]}, A]), TypeError, "param_group must be a dict"),
    "some names": (lambda: mg.optim.SGD([("a", A), parameter()]), ValueError, "with/without names"),
    "named groups": (
        lambda: mg.optim.SGD([{"params": [("a", A)]}, {"params": [parameter()]}]),
        ValueError,
        "with/without names",
    ),
    "no params": (lambda: mg.optim.SGD([{"lr": 1}]), KeyError, "params"),
    "SGD lr": (lambda: mg.optim.SGD([A], lr=-1), ValueError, "Invalid learning rate: -1"),
    "SGD momentum": (lambda: mg.optim.SGD([A], momentum=-0.1), ValueError, "Invalid momentum value: -0.1"),
    "SGD decay": (lambda: mg.optim.SGD([A], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    "nesterov": (lambda: mg.optim.SGD([A], nesterov=True), ValueError, "requires a momentum and zero dampening"),
    "nesterov damped": (
        lambda: mg.optim.SGD([A], momentum=0.9, dampening=0.1, nesterov=True),
        ValueError,
        "zero dampening",
    ),
    "group lr": (lambda: mg.optim.SGD([{"params": [A], "lr": -2}]), ValueError, "Invalid learning rate: -2"),
    "differentiable": (
        lambda: mg.optim.SGD([A], differentiable=True),
        ValueError,
        "differentiable=True is not supported",
    ),
    "capturable": (lambda: mg.optim.Adam([A], capturable=True), ValueError, "capturable=True is not supported"),
    "both": (lambda: mg.optim.AdamW([A], fused=True, foreach=True), RuntimeError, "cannot be `True` together"),
    "Adam lr": (lambda: mg.optim.Adam([A], lr=nan), ValueError, "Invalid learning rate: nan"),
    "Adam eps": (lambda: mg.optim.Adam([A], eps=-1e-8), ValueError, "Invalid epsilon value: -1e-08"),
    "Adam decay": (lambda: mg.optim.AdamW([A], weight_decay=-1), ValueError, "Invalid weight_decay value: -1"),
    "beta1": (lambda: mg.optim.Adam([A], betas=(1.0, 0.9)), ValueError, "Invalid beta parameter at index 0: 1.0"),
    "beta2": (lambda: mg.optim.Adam([A], betas=(0.9, -0.1)), ValueError, "Invalid beta parameter at index 1: -0.1"),
    "one beta": (lambda: mg.optim.Adam([A], betas=(0.9,)), ValueError, "two numbers"),
    **{
        f"{name} {key}": (lambda name=name, key=key: getattr(mg.optim, name)([A], **{key: True}), ValueError, key)
        for name in TABLE
        for key in ("differentiable", "capturable")
        if not (key == "capturable" and name in ("SGD", "Adagrad"))
    },
    "lr text": (lambda: mg.optim.SGD([A], lr="0.1"), TypeError, None),
    "keyword": (lambda: mg.optim.SGD([A], learning_rate=0.1), TypeError, "learning_rate"),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


def test_add_param_group_refuses():
    a, b = parameter([1.0]), parameter([2.0])
    optimizer = mg.optim.Adam([a])
    for group, error in (
        ([b], TypeError), ({"params": a}, ValueError), ({"lr": 1}, KeyError), ({"params": [b], "lr": -1}, ValueError),
        ({"params": [b], "betas": (2, 0)}, ValueError), ({"params": {b}}, TypeError), ({"params": [b * 1]}, ValueError),
        ({"params": [("b", b)]}, ValueError),
    ):  # fmt: skip
        with pytest.raises(error):
            optimizer.add_param_group(group)
        assert len(optimizer.param_groups) == 1
    options = {"params": b, "lr": 0.5}
    optimizer.add_param_group(options)
    assert options == {"params": b, "lr": 0.5}  # the caller's dict is left alone


def test_duplicates_are_updated_once():
    a = parameter([1.0])
    with pytest.warns(UserWarning, match="duplicate parameters") as found:
        optimizer = mg.optim.SGD([a, a], lr=0.1)
    assert found[0].filename == __file__  # the user's line
    a.grad = mg.ones(1)
    optimizer.step()
    assert abs(a.item() - 0.9) < 1e-7
    b = parameter([2.0])
    with pytest.warns(UserWarning, match="duplicate parameters"):
        (group,) = mg.optim.SGD([("a", a), ("b", b), ("again", a)]).param_groups
    assert group["param_names"] == ["a", "b"] and group["params"][0] is a and group["params"][1] is b


def test_foreach_and_fused_change_nothing():
    results = set()
    for options in ({}, {"foreach": True}, {"fused": True}, {"foreach": False, "fused": False}):
        for name in ("SGD", "Adam", "AdamW"):
            results.add((name, *run(name, [1.0, 2.0], lr=0.1, **options)))
    assert len(results) == 3


def test_repr():
    a, b = parameter([1.0]), parameter([2.0])
    text = repr(mg.optim.SGD([{"params": a}, {"params": b, "lr": 0.5}]))
    lines = text.splitlines()
    assert lines[0] == "SGD (" and lines[1] == "Parameter Group 0" and lines[-1] == ")"
    assert "    lr: 0.001" in lines and "    lr: 0.5" in lines and "params" not in text


@pytest.mark.parametrize("kind", [mg.optim.Adam, mg.optim.SGD, mg.optim.Adafactor])
def test_a_step_that_fails_in_one_group_changes_no_other(kind):
    """Neither parameters nor states; and the next step is as if there had not been one."""

    def run(fail):
        params = [mg.ones(3, 2, requires_grad=True), mg.full((4,), 2.0, requires_grad=True)]
        options = {"momentum": 0.9} if kind is mg.optim.SGD else {}
        optimizer = kind([{"params": [p]} for p in params], lr=0.1, **options)
        for step in range(3):
            for p in params:
                p.grad = mg.full(p.shape, float(step + 1))
            if fail:
                before = [p.tolist() for p in params]
                states = {k: {n: v.tolist() for n, v in s.items()} for k, s in optimizer.state_dict()["state"].items()}
                optimizer.param_groups[1]["lr"] = "fast"
                with pytest.raises((TypeError, ValueError)):
                    optimizer.step()
                optimizer.param_groups[1]["lr"] = 0.1
                assert [p.tolist() for p in params] == before
                found = optimizer.state_dict()["state"]
                assert {k: {n: v.tolist() for n, v in s.items()} for k, s in found.items()} == states
            optimizer.step()
        return [p.tolist() for p in params]

    assert run(True) == run(False)
