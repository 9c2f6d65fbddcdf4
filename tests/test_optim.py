"""Optimizers: measured numbers, versions, hooks, closures, parameters and groups, and what is refused."""

import gc
from collections import defaultdict

import numpy as np
import pytest

import minigrad as mg

from .garbage import collector_off
from .optimizers import DTYPES, every, nan, network, parameter, run, train
from .test_optim_numpy import TABLE

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
