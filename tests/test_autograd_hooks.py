"""Hooks, retain_grad and anomaly detection; walks and errors inside walks."""

import numpy as np
import pytest

import minigrad as mg

from .leaves import leaf, values

# --- retain_grad ------------------------------------------------------------------------------------------------------


def test_retain_grad():
    x = leaf([1.0, 2.0])
    h = x * 3
    assert not h.retains_grad
    h.retain_grad()
    h.retain_grad()
    assert h.retains_grad
    y = (h * h).sum()
    y.backward(retain_graph=True)
    assert values(h.grad) == [6, 12] and values(x.grad) == [18, 36]
    y.backward()
    assert values(h.grad) == [12, 24]
    assert h.grad.data_ptr() != x.grad.data_ptr()
    x.retain_grad()  # does nothing
    with pytest.raises(RuntimeError, match="requires_grad=False"):
        mg.ones(1).retain_grad()


def test_retained_gradient_of_a_tensor_that_is_gone():
    x = leaf(2.0)
    h = x * 3
    h.retain_grad()
    y = h * h
    del h
    y.backward()
    assert x.grad.item() == 36


def test_retain_grad_follows_an_in_place_operation():
    x = leaf([1.0, 2.0])
    h = x * 3
    h.retain_grad()
    h.mul_(2)
    (h * h).sum().backward()
    assert values(h.grad) == [12, 24] and values(x.grad) == [72, 144]


def test_retained_gradients_pass_through_unchanged():
    a, b = leaf([1.0]), leaf([2.0])
    s = a + b
    s.retain_grad()
    t = s + 0
    t.retain_grad()
    t.backward(mg.ones(1))
    assert len({z.grad.data_ptr() for z in (a, b, s, t)}) == 4


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_hooks_run_in_order_and_replace():
    x = leaf([1.0, 2.0])
    order = []
    x.register_hook(lambda g: order.append(("first", values(g))))
    x.register_hook(lambda g: g * 10)
    x.register_hook(lambda g: order.append(("third", values(g))))
    (x * x).sum().backward()
    assert order == [("first", [2, 4]), ("third", [20, 40])] and values(x.grad) == [20, 40]


def test_hook_of_a_leaf_runs_once_on_the_sum():
    x = leaf(3.0)
    calls = []
    x.register_hook(lambda g: calls.append(g.item()))
    (x * x + x).backward()
    assert calls == [7]


def test_hook_of_a_non_leaf():
    x = leaf([1.0, 2.0])
    h = x * 3
    h.retain_grad()
    calls = []
    h.register_hook(lambda g: calls.append(values(g)))
    h.register_hook(lambda g: g * 2)
    ((h * h) + h).sum().backward()
    assert calls == [[7, 13]] and values(h.grad) == [14, 26] and values(x.grad) == [42, 78]


def test_hook_that_changes_size_or_type():
    x = leaf([1.0, 2.0])
    handle = x.register_hook(lambda g: mg.ones(3))
    with pytest.raises(RuntimeError, match="has changed the size of value"):
        (x * 2).sum().backward()
    handle.remove()
    handle = x.register_hook(lambda g: g.double())
    with pytest.raises(RuntimeError, match="has changed the type of value"):
        (x * 2).sum().backward()
    handle.remove()
    handle = x.register_hook(lambda g: 3)
    with pytest.raises(TypeError, match="must return a Tensor or None"):
        (x * 2).sum().backward()
    handle.remove()
    assert x.grad is None
    with pytest.raises(TypeError, match="callable"):
        x.register_hook(3)
    with pytest.raises(RuntimeError, match="doesn't require gradient"):
        mg.ones(1).register_hook(print)


def test_removing_hooks():
    x = leaf(1.0)
    calls = []

    def hook(g):
        calls.append(1)

    one, _ = x.register_hook(hook), x.register_hook(hook)
    one.remove()
    one.remove()  # takes away its own registration only
    (x * 1).backward()
    assert calls == [1]
    with x.register_hook(lambda g: calls.append(2)):
        (x * 1).backward()
    (x * 1).backward()
    assert calls == [1, 1, 2, 1]


def test_hook_that_removes_itself():
    x = leaf(1.0)
    calls = []

    def hook(g):
        calls.append(1)
        handle.remove()

    handle = x.register_hook(hook)
    for _ in range(2):
        (x * 1).backward()
    assert calls == [1]


def test_hook_sees_grad_and_pruned_tensors_do_not():
    x, w = leaf(2.0), leaf(3.0)
    calls = []
    x.register_hook(lambda g: calls.append("x"))
    w.register_hook(lambda g: g * 100)
    h = x * 2
    h.register_hook(lambda g: calls.append("h"))
    (g,) = mg.autograd.grad(h * w, w)
    assert calls == [] and g.item() == 400


def test_hook_that_keeps_or_edits_its_gradient():
    x = leaf([1.0, 2.0])
    kept = []
    x.register_hook(kept.append)
    (x * 2).sum().backward()
    (x * 2).sum().backward()
    assert [values(g) for g in kept] == [[2, 2], [2, 2]] and values(x.grad) == [4, 4]

    a, b = leaf([1.0]), leaf([1.0])
    a.register_hook(lambda g: g.mul_(5) and None)
    (b + a).backward(mg.ones(1))
    assert values(a.grad) == [5]


def test_post_accumulate_hooks():
    x = leaf([1.0, 2.0])
    seen = []

    def step(t):
        assert t is x
        seen.append(values(t.grad))
        t.grad = None

    handle = x.register_post_accumulate_grad_hook(step)
    (x * x + x).sum().backward()
    assert seen == [[3, 5]] and x.grad is None
    handle.remove()
    (x * 1).sum().backward()
    assert len(seen) == 1
    with pytest.raises(RuntimeError, match="non-leaf"):
        (x * 1).register_post_accumulate_grad_hook(step)


def test_hook_under_create_graph_is_recorded():
    x = leaf(3.0)
    x.register_hook(lambda g: g * g)
    (g,) = mg.autograd.grad(x**2, x, create_graph=True)
    assert g.item() == 36
    y = leaf(3.0)
    h = y * 1
    h.register_hook(lambda g: g * g)
    (g,) = mg.autograd.grad(h**2, y, create_graph=True)
    (gg,) = mg.autograd.grad(g, y)
    assert gg.item() == (8 * 3) ** 2  # d (2h)^2 / dh, and the hook runs in this walk too


# --- walks inside walks, errors inside walks --------------------------------------------------------------------------


def test_backward_inside_a_hook():
    x, w = leaf(2.0), leaf(3.0)
    inner = []

    def hook(g):
        z = leaf(5.0)
        with mg.enable_grad():
            (z * z * z).backward()
        inner.append(z.grad.item())

    h = x * w
    h.register_hook(hook)
    (h * h).backward()
    assert inner == [75] and x.grad.item() == 36 and w.grad.item() == 24


def test_backward_of_the_same_graph_inside_a_hook():
    x = leaf(2.0)
    h = x * 3
    g = h * h
    y = g * h
    results = []

    def hook(_):
        if not results:  # the walk inside runs this hook too
            results.append(None)
            results[0] = [t.item() for t in mg.autograd.grad(y, [h, x], retain_graph=True)]

    g.register_hook(hook)
    y.backward(retain_graph=True)
    assert results == [[108, 324]] and x.grad.item() == 324


def test_exceptions_leave_the_engine_usable():
    x = leaf([1.0, 2.0])

    for error in (ZeroDivisionError, KeyboardInterrupt):

        def fail(g, error=error):
            raise error

        h = x * 2
        handle = h.register_hook(fail)
        y = (h * h).sum()
        with pytest.raises(error):
            y.backward(retain_graph=True)
        assert mg.is_grad_enabled() and x.grad is None
        with mg.no_grad(), pytest.raises(error):
            y.backward(retain_graph=True, create_graph=True)
        assert mg.is_grad_enabled()
        handle.remove()
        y.backward()
        assert values(x.grad) == [8, 16]
        x.grad = None


def test_grad_mode_inside_a_walk():
    x = leaf(2.0)
    modes = []
    h = x * 1
    h.register_hook(lambda g: modes.append(mg.is_grad_enabled()))
    y = h * h
    y.backward(retain_graph=True)
    y.backward(retain_graph=True, create_graph=True)
    with mg.no_grad():
        y.backward(retain_graph=True)
        assert not mg.is_grad_enabled()
    assert modes == [False, True, False]


# --- anomaly detection ------------------------------------------------------------------------------------------------


def test_detect_anomaly_names_the_operation():
    x = leaf([-1.0])
    with mg.autograd.detect_anomaly():
        y = mg.sqrt(x) * 0
        with (
            pytest.warns(UserWarning, match="(?s)Error detected in SqrtBackward0.*in test_detect_anomaly"),
            pytest.raises(RuntimeError, match="'SqrtBackward0' returned nan values in its 0th output"),
        ):
            y.backward()
    y = mg.sqrt(x) * 0
    y.backward()
    assert np.isnan(x.grad.item())
    with mg.autograd.set_detect_anomaly(True, check_nan=False):
        (mg.sqrt(x) * 0).backward()
