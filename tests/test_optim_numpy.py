"""Optimizers against NumPy: all options, many tensors, layouts, dtypes, extreme gradients."""

from functools import partial
from itertools import product

import numpy as np
import pytest

import minigrad as mg

from .optimizers import DTYPES, every, inf, nan, parameter, run

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
