"""The tape and the backward walk: what PyTorch does, row by row (autograd.grad, hooks, grad mode, errors)."""

import copy
import gc
import pickle
import threading

import numpy as np
import pytest

import minigrad as mg

from .garbage import collector_off


def leaf(values, dtype=mg.float32):
    return mg.tensor(values, dtype=dtype, requires_grad=True)


def values(t):
    return t.detach().numpy().tolist()


# --- shapes of graphs -------------------------------------------------------------------------------------------------


def test_square():
    x = leaf(3.0)
    (x * x).backward()
    assert x.grad.item() == 6


def test_the_same_tensor_in_many_places():
    x = leaf(2.0)
    (x * x * x + x * x + x).backward()
    assert x.grad.item() == 12 + 4 + 1


def test_diamonds():
    x = leaf(1.0)
    y = x
    for _ in range(40):
        y = y + y
    y.backward()
    assert x.grad.item() == 2.0**40


def test_diamond_of_different_depths():
    x = leaf([1.0, 2.0])
    a = x * 2
    b = (a.exp() + a) * a
    (b.sum() + a.sum() * 3).backward()
    e = np.exp([2.0, 4.0])
    np.testing.assert_allclose(x.grad.numpy(), 2 * (e * [3, 5] + 2 * np.array([2.0, 4]) + 3), rtol=1e-6)


def test_repeated_index():
    x = leaf([1.0, 2.0, 3.0])
    x[mg.tensor([0, 0, 1])].sum().backward()
    assert values(x.grad) == [2, 1, 0]


@pytest.mark.parametrize("operation", ["add", "mul"])
def test_deep_chains_backward_and_destruction(operation):
    x = leaf(1.0)
    y = x
    for _ in range(100_000):
        y = y + 1.0 if operation == "add" else y * 1.0
    y.backward()
    assert x.grad.item() == 1
    del y


def test_deep_chain_destroyed_without_backward():
    x = leaf([1.0])
    for wrap in (lambda y: y * 1.0, lambda y: y.view(1), lambda y: y.exp().log()):
        y = x
        for _ in range(60_000):
            y = wrap(y)
        del y


def test_deep_chain_of_second_derivatives():
    x = leaf(0.5, mg.float64)
    y = x
    for _ in range(5_000):
        y = y * 1.0001
    (g,) = mg.autograd.grad(y * y, x, create_graph=True)
    (h,) = mg.autograd.grad(g, x)
    assert h.item() == pytest.approx(2 * 1.0001**10_000)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3, 1), (4,)), ((), (2, 3)), ((2, 3), ()), ((1,), (5,)), ((2, 1, 3), (4, 1)), ((0, 3), (1, 3)), ((1, 1), (0, 1))],
)
def test_broadcast_gradients_have_the_shape_of_their_input(a, b):
    x, y = mg.ones(a, requires_grad=True), mg.ones(b, requires_grad=True)
    z = x + y * 2
    z.sum().backward()
    assert x.grad.shape == a and y.grad.shape == b
    np.testing.assert_array_equal(x.grad.numpy(), np.full(a, z.numel() / max(x.numel(), 1)))
    np.testing.assert_array_equal(y.grad.numpy(), np.full(b, 2 * z.numel() / max(y.numel(), 1)))


def test_backward_through_double_returns_float32():
    x = leaf([1.0, 2.0])
    (x.double() ** 2).sum().backward()
    assert x.grad.dtype is mg.float32 and values(x.grad) == [2, 4]


def test_mixed_dtypes():
    x, y = leaf([1.0, 2.0]), leaf([3.0, 4.0], mg.float64)
    (x * y).sum().backward()
    assert x.grad.dtype is mg.float32 and values(x.grad) == [3, 4]
    assert y.grad.dtype is mg.float64 and values(y.grad) == [1, 2]


# --- derivatives at special points ------------------------------------------------------------------------------------

INF, NAN = float("inf"), float("nan")


@pytest.mark.parametrize(
    ("f", "x", "y", "slope"),
    [
        (mg.relu, [0.0, -0.0, 2.0, -1.0], [0, 0, 2, 0], [0, 0, 1, 0]),
        (mg.relu, [NAN], [NAN], [1]),
        (mg.sigmoid, [1e4, -1e4, 0.0], [1, 0, 0.5], [0, 0, 0.25]),
        (mg.tanh, [1e4, -1e4, 0.0], [1, -1, 0], [0, 0, 1]),
        (mg.sqrt, [0.0, 4.0], [0, 2], [INF, 0.25]),
        (lambda x: x**0.5, [0.0, 4.0], [0, 2], [INF, 0.25]),
        (lambda x: x**0, [0.0, 3.0], [1, 1], [0, 0]),
        (lambda x: x**0.0, [0.0, 3.0], [1, 1], [0, 0]),
        (lambda x: x**2, [0.0, 3.0], [0, 9], [0, 6]),
        (mg.abs, [0.0, -2.0], [0, 2], [0, -1]),
        (lambda x: x.norm().reshape(1), [0.0, 0.0], [0], [0, 0]),
        (lambda x: mg.where(x > 0, x.sqrt(), mg.zeros(2)), [-1.0, 4.0], [0, 2], [NAN, 0.25]),  # the classic trap
        (lambda x: x.max().reshape(1), [3.0, 1.0, 3.0], [3], [0.5, 0, 0.5]),
        (lambda x: x.amax(0, keepdim=True), [3.0, 1.0, 3.0], [3], [0.5, 0, 0.5]),
        (lambda x: x.max(0, keepdim=True)[0], [3.0, 1.0, 3.0], [3], [1, 0, 0]),
        (lambda x: mg.maximum(x, mg.tensor([2.0, 2.0, 2.0])), [2.0, 3.0, 1.0], [2, 3, 2], [0.5, 1, 0]),
        (lambda x: mg.minimum(mg.tensor([2.0, 2.0, 2.0]), x), [2.0, 3.0, 1.0], [2, 2, 1], [0.5, 0, 1]),
        (lambda x: x.clamp(-1, 1), [-1.0, 1.0, 0.5, 2.0], [-1, 1, 0.5, 1], [1, 1, 1, 0]),
        (lambda x: x.mean(0, keepdim=True), [2.0], [2], [1]),
    ],
)
def test_derivatives_at_special_points(f, x, y, slope):
    x = leaf(x)
    out = f(x)
    np.testing.assert_array_equal(out.detach().numpy(), np.float32(y))
    out.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.float32(slope))


# --- accumulation -----------------------------------------------------------------------------------------------------


def test_gradients_accumulate_over_graphs():
    x = leaf([1.0, 2.0])
    for _ in range(3):
        (x * x).sum().backward()
    assert values(x.grad) == [6, 12]


def test_accumulation_is_in_place():
    x = leaf([1.0])
    x.sum().backward()
    g = x.grad
    x.sum().backward()
    assert x.grad is g and g.item() == 2


def test_accumulation_into_an_assigned_gradient():
    x = leaf([1.0, 2.0])
    for given in (mg.ones(2), mg.ones(4)[::2], mg.ones(1).expand(2), mg.from_numpy(np.ones(2, np.float32))):
        x.grad = given
        (x * 3).sum().backward()
        assert values(x.grad) == [4, 4]


def test_accumulating_a_gradient_into_itself():
    x = leaf([1.0, 2.0])
    x.grad = mg.tensor([1.0, 5.0])
    (x + 0).backward(x.grad)
    assert values(x.grad) == [2, 10]


def test_backward_twice_needs_retain_graph():
    x = leaf(3.0)
    y = x * x
    y.backward()
    with pytest.raises(RuntimeError, match="Trying to backward through the graph a second time"):
        y.backward()
    y = x * x
    x.grad = None
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == 12


@pytest.mark.parametrize("make", [lambda x: x + 1, lambda x: -x, lambda x: x.sum(), lambda x: x.reshape(1).view(())])
def test_backward_twice_where_nothing_was_saved(make):
    x = leaf(3.0)
    y = make(x)
    y.backward()
    first = x.grad.item()
    y.backward()
    assert x.grad.item() == 2 * first


def test_the_error_comes_even_where_the_second_graph_is_new():
    x = leaf(3.0)
    y = x * x
    (y + 1).backward()
    with pytest.raises(RuntimeError, match="second time"):
        (y + 2).backward()


def test_a_first_gradient_is_taken_over_without_a_copy():
    w = leaf(np.ones(100_000, np.float32))
    x = mg.ones(100_000)
    seen = []
    y = w * x
    w.register_post_accumulate_grad_hook(lambda t: seen.append(t.grad.data_ptr()))
    g = mg.ones(100_000)
    before = mg_peak()
    y.backward(g)
    assert mg_peak() - before < 1.5 * 400_000  # the gradient itself, no copy of it
    assert seen == [w.grad.data_ptr()]


def mg_peak():
    """Bytes live at most since the last call."""

    peak = mg.memory.stats()["peak"]
    mg.memory.reset_peak()
    return peak


def test_leaves_never_share_a_gradient():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    g = mg.ones(2)
    (a + b).backward(g)
    assert len({t.data_ptr() for t in (a.grad, b.grad, g)}) == 3
    a.grad.mul_(5)
    assert values(b.grad) == [1, 1] and values(g) == [1, 1]
    (a + a).backward(g)
    assert values(g) == [1, 1] and values(a.grad) == [7, 7]


def test_gradients_of_grad_never_share_memory():
    a, b = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    g = mg.ones(2)
    for create in (False, True):
        found = mg.autograd.grad(a + b, [a, b, a], g, create_graph=create)
        assert len({t.data_ptr() for t in (*found, g)}) == 4
    h = a + b
    found = mg.autograd.grad(h * 1, [h, a, b], g)
    assert len({t.data_ptr() for t in (*found, g)}) == 4


def test_gradients_of_grad_can_be_edited():
    x, target = leaf([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([0, 1])
    for loss in (x.sum(), (x * x).sum(), mg.nn.functional.cross_entropy(x, target), x[:, 0].sum(), x.t().mean()):
        (g,) = mg.autograd.grad(loss, x, retain_graph=True)
        before = values(g)
        g.mul_(3)
        (again,) = mg.autograd.grad(loss, x)
        assert values(again) == before


def test_gradients_over_the_memory_of_an_array():
    array = np.ones(2, np.float32)

    class Constant(mg.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x * 1

        @staticmethod
        def backward(ctx, dy):
            return mg.from_numpy(array)

    x = leaf([1.0, 2.0])
    (Constant.apply(x) + 0).sum().backward()
    Constant.apply(x).sum().backward()
    h = x * 1
    (Constant.apply(h) + Constant.apply(h) + h).sum().backward()
    assert values(x.grad) == [5, 5] and array.tolist() == [1, 1]


# --- asking for gradients ---------------------------------------------------------------------------------------------


def test_backward_of_several_elements_needs_a_gradient():
    with pytest.raises(RuntimeError, match="grad can be implicitly created only for scalar outputs"):
        (leaf([1.0, 2.0]) * 2).backward()
    x = leaf([[1.0]])
    (x * 2).backward()
    assert values(x.grad) == [[2]]


def test_backward_without_a_graph():
    with pytest.raises(RuntimeError, match="element 0 of tensors does not require grad and does not have a grad_fn"):
        mg.ones(1).backward()
    with pytest.raises(RuntimeError, match="element 1 of tensors does not require grad"):
        mg.autograd.backward([leaf(1.0), mg.ones(1)])


def test_backward_of_a_leaf():
    x = leaf([1.0, 2.0])
    x.backward(mg.tensor([3.0, 4.0]))
    assert values(x.grad) == [3, 4]
    s = leaf(1.0)
    s.backward()
    assert s.grad.item() == 1


def test_gradient_of_a_wrong_shape_or_kind():
    y = leaf([1.0, 2.0]) * 2
    with pytest.raises(RuntimeError, match=r"Mismatch in shape: grad_output\[0\] has a shape of .*3.* and output"):
        y.backward(mg.ones(3))
    with pytest.raises(RuntimeError, match="Mismatch in shape"):
        y.backward(mg.ones(1))
    with pytest.raises(TypeError, match="gradients can be either Tensors or None"):
        mg.autograd.backward(y, ["no"])
    with pytest.raises(RuntimeError, match="got 1 tensors and 2 gradients"):
        mg.autograd.backward([y], [None, None])


def test_gradient_of_another_dtype_is_converted():
    x = leaf([1.0, 2.0])
    (x * 2).backward(mg.ones(2, dtype=mg.float64))
    assert x.grad.dtype is mg.float32 and values(x.grad) == [2, 2]


def test_several_roots_that_share_a_graph():
    x = leaf([1.0, 2.0])
    h = x * x
    y, z = h.sum(), (h * 3).sum()
    mg.autograd.backward([y, z, h], [None, None, mg.ones(2)])
    assert values(x.grad) == [2 * 5, 4 * 5]


def test_a_root_given_twice():
    x = leaf(3.0)
    y = x * x
    mg.autograd.backward([y, y])
    assert x.grad.item() == 12


def test_backward_into_some_inputs_only():
    x, w = leaf(2.0), leaf(3.0)
    h = x * w
    (h * h).backward(inputs=[w])
    assert x.grad is None and w.grad.item() == 2 * 6 * 2
    with pytest.raises(RuntimeError, match="cannot be empty"):
        (x * w).backward(inputs=[])


def test_backward_into_a_non_leaf():
    x = leaf(2.0)
    h = x * 3
    (h * h).backward(inputs=[h])
    assert h.grad.item() == 12 and x.grad is None
    h = x * 3
    (h * h).backward(inputs=[h, x])
    assert h.grad.item() == 12 and x.grad.item() == 36


def test_grad_leaves_grad_alone():
    x = leaf([1.0, 2.0])
    (g,) = mg.autograd.grad((x**2).sum(), x)
    assert values(g) == [2, 4] and x.grad is None and not g.requires_grad


def test_grad_of_unused_inputs():
    x, y = leaf(2.0), leaf(3.0)
    with pytest.raises(RuntimeError, match="appears to not have been used in the graph"):
        mg.autograd.grad(x * x, [x, y])
    gx, gy = mg.autograd.grad(x * x, [x, y], allow_unused=True)
    assert gx.item() == 4 and gy is None
    gx, gy = mg.autograd.grad(x * x, [x, y], materialize_grads=True)
    assert gx.item() == 4 and gy.item() == 0
    with pytest.raises(ValueError, match="Expected allow_unused to be True or not passed"):
        mg.autograd.grad(x * x, [x, y], allow_unused=False, materialize_grads=True)
    with pytest.raises(RuntimeError, match="does not require grad"):
        mg.autograd.grad(x * x, [mg.ones(1)])
    with pytest.raises(RuntimeError, match="non-empty"):
        mg.autograd.grad(x * x, [])


def test_grad_of_a_dict():
    x, y = leaf(2.0), leaf(3.0)
    found = mg.autograd.grad(x * y, {"x": x, "y": y})
    assert found["x"].item() == 3 and found["y"].item() == 2


def test_grad_with_respect_to_non_leaves_above_each_other():
    x = leaf(2.0)
    a = x * x
    b = a * 3
    c = b * b
    gc_, gb, ga, gx = mg.autograd.grad(c, [c, b, a, x])
    assert [g.item() for g in (gc_, gb, ga, gx)] == [1, 24, 72, 288]


def test_grad_of_a_root_with_respect_to_itself():
    x = leaf([1.0, 2.0])
    y = x * 2
    assert values(mg.autograd.grad(y, y, mg.tensor([3.0, 4.0]))[0]) == [3, 4]
    assert values(mg.autograd.grad(x, x, mg.tensor([3.0, 4.0]))[0]) == [3, 4]


def test_grad_with_respect_to_a_non_leaf_stops_there():
    x = leaf(2.0)
    h = x.exp()
    y = h * h
    (g,) = mg.autograd.grad(y, h)
    assert g.item() == pytest.approx(2 * np.exp(2))
    h.backward()  # what exp saved is still there
    assert x.grad.item() == pytest.approx(np.exp(2))


def test_grad_frees_only_what_it_walked():
    x, w = leaf(2.0), leaf(3.0)
    a, b = x * x, w * w
    y = a * 1.0 + b * 1.0
    mg.autograd.grad(y, x)
    (b + 0).backward()
    assert w.grad.item() == 6


def test_leaf_that_pruned_and_kept_paths_reach():
    x, w = leaf(2.0), leaf(3.0)
    y = x * w + x * 5 + w * 7 + (x * 11).exp() * 0
    gw, gx = mg.autograd.grad(y, [w, x])
    assert gw.item() == 9 and gx.item() == 8
    y = x * w + x * 5 + w * 7
    assert mg.autograd.grad(y, w)[0].item() == 9


def test_grad_with_respect_to_outputs_of_several():
    x = leaf([[1.0, 2.0], [3.0, 4.0]])
    (v, i), (w, _) = x.max(1), x.min(1)
    y = (v * w * 2).sum()
    gv, gx = mg.autograd.grad(y, [v, x])
    assert values(gv) == [2, 6] and values(gx) == [[4, 2], [8, 6]] and not i.requires_grad


def test_integers_cannot_require_grad():
    with pytest.raises(RuntimeError, match="floating point"):
        mg.tensor([1], requires_grad=True)
    with pytest.raises(RuntimeError, match="floating point"):
        mg.tensor([True]).requires_grad_()


def test_requires_grad_of_a_non_leaf_cannot_be_switched_off():
    y = leaf(1.0) * 2
    with pytest.raises(RuntimeError, match="you can only change requires_grad flags of leaf variables"):
        y.requires_grad = False
    y.requires_grad = True


def test_assigned_gradients_are_checked():
    x = leaf([1.0, 2.0])
    with pytest.raises(RuntimeError, match="different size"):
        x.grad = mg.ones(3)
    with pytest.raises(RuntimeError, match="different type"):
        x.grad = mg.ones(2, dtype=mg.float64)
    with pytest.raises(TypeError, match="Tensor or None"):
        x.grad = 1
    with pytest.raises(RuntimeError, match="own grad"):
        x.grad = x
    x.grad = mg.ones(2)
    x.grad = None
    assert x.grad is None
    del x.grad
    assert x.grad is None


def test_gradient_of_a_non_leaf_warns():
    y = leaf(1.0) * 2
    with pytest.warns(UserWarning, match="not a leaf"):
        assert y.grad is None


def test_gradient_shape_after_data_was_exchanged():
    x = leaf([1.0, 2.0])
    (x * 1).sum().backward()
    x.data = mg.ones(3)
    with pytest.raises(RuntimeError, match=r"shape \(3,\).*shape \(2,\)"):
        (x * 1).sum().backward()
    y = leaf([1.0, 2.0])
    z = (y * y).sum()
    y.data = mg.ones(3)
    with pytest.raises(RuntimeError, match=r"shape \(2,\).*shape \(3,\)"):
        z.backward()


def test_is_leaf_and_grad_fn():
    x = leaf(1.0)
    y = x * 2
    assert x.is_leaf and x.grad_fn is None
    assert not y.is_leaf and y.grad_fn.name == "MulBackward0" and repr(y.grad_fn) == "<MulBackward0>"
    assert y.detach().is_leaf and not y.detach().requires_grad
    assert (x * y).grad_fn.next_functions[1][0] is y.grad_fn


# --- in-place operations ----------------------------------------------------------------------------------------------


def test_in_place_on_a_leaf():
    x = leaf([1.0, 2.0])
    for edit in (lambda: x.add_(1), lambda: x.mul_(x), lambda: x.__setitem__(0, 5.0), lambda: x.zero_()):
        with pytest.raises(RuntimeError, match="a leaf Variable that requires grad is being used in an in-place"):
            edit()
    with pytest.raises(RuntimeError, match="a view of a leaf Variable that requires grad"):
        x[:1].add_(1)
    with mg.no_grad():
        x.add_(1)
        x[:1].mul_(10)
    assert values(x) == [20, 3] and x.is_leaf


def test_in_place_on_a_saved_input_or_output():
    x = leaf([1.0, 2.0])
    for make in (lambda h: h * h, lambda h: h.log(), lambda h: (h + 1).exp(), lambda h: h @ mg.ones(2) * h):
        h = x * 1
        y = make(h)
        (y if make(h).grad_fn.name == "ExpBackward0" else h).add_(1)
        with pytest.raises(
            RuntimeError, match=r"by an inplace operation: .*\(2,\).*Backward0.* at version 1; expected version 0"
        ):
            y.sum().backward()
    h = x * 1
    y = h * 3  # h is not needed
    h.add_(1)
    y.sum().backward()


def test_in_place_through_views_and_aliases_of_what_was_saved():
    x = leaf([1.0, 2.0])
    for edit in (
        lambda h: h[:1].add_(1),
        lambda h: h.detach().add_(1),
        lambda h: h.data.add_(1),  # PyTorch does not notice this one
        lambda h: h.view(2, 1).t().add_(1),
        lambda h: h.detach()[1:].zero_(),
    ):
        h = x * 1
        y = h * h
        edit(h)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            y.sum().backward()


def test_in_place_under_no_grad_on_a_saved_parameter():
    w = leaf([1.0, 2.0])
    loss = (w * w).sum()
    with mg.no_grad():
        w -= 0.1
    with pytest.raises(RuntimeError, match="MulBackward0"):
        loss.backward()


def test_edits_through_numpy_are_not_detected():
    w = leaf([1.0])
    y = w * w
    w.detach().numpy()[0] = 3
    y.backward()
    assert w.grad.item() == 6  # as in PyTorch: document, do not rely on it


def test_in_place_operations_have_gradients():
    x, w = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    h = x * 2
    h *= w
    h += x
    h[0] = w[1] * 5
    h.sum().backward()
    assert values(h) == [20, 18] and values(x.grad) == [0, 9] and values(w.grad) == [0, 4 + 5]


def test_in_place_on_expanded_memory():
    e = mg.ones(3, 1).expand(3, 4)
    assert not e.is_contiguous()
    with pytest.raises(RuntimeError, match="more than one element of the written-to tensor refers to a single memory"):
        e.add_(1)


def test_in_place_that_does_not_fit():
    x = mg.ones(2)
    with pytest.raises(RuntimeError, match=r"output with shape \[2\] doesn't match the broadcast shape \[3, 2\]"):
        x.add_(mg.ones(3, 2))
    with pytest.raises(RuntimeError, match="can't be cast"):
        mg.ones(2, dtype=mg.int64).add_(mg.ones(2))


def test_in_place_through_a_view_made_without_recording():
    x = leaf([1.0, 2.0])
    h = x * 1
    with mg.no_grad():
        v = h[:1]
    with pytest.raises(RuntimeError, match="A view was created in no_grad mode"):
        v.mul_(2)
    with mg.no_grad():
        v.mul_(2)
    assert values(h) == [2, 2]


def test_a_copied_tensor_has_a_history_of_its_own():
    x = leaf([1.0, 2.0])
    y = x * 3
    z = mg.zeros(2).copy_(y)
    calls = []
    z.register_hook(lambda g: calls.append(values(g)))
    (y * 10 + z).sum().backward()
    assert calls == [[1, 1]] and values(x.grad) == [33, 33]


def test_data_exchanged_under_a_view():
    x = leaf([1.0, 2.0])
    base = x * 1
    view = base[1:]
    base.data = mg.tensor([5.0, 6.0])
    base.mul_(2)
    view.mul_(10)  # its memory is its own by now
    assert values(view) == [20] and values(base) == [10, 12]
    view.sum().backward()
    assert values(x.grad) == [0, 10]


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


# --- second derivatives -----------------------------------------------------------------------------------------------


def test_second_and_third_derivatives():
    x = leaf(2.0, mg.float64)
    y = x**4
    derivatives = []
    for _ in range(4):
        (y,) = mg.autograd.grad(y, x, create_graph=True)
        derivatives.append(y.item())
    assert derivatives == [32, 48, 48, 24]


def test_second_derivative_through_a_saved_output():
    x = leaf([0.3, -0.7], mg.float64)
    for f, second in ((mg.exp, mg.exp), (mg.tanh, lambda t: -2 * t.tanh() * (1 - t.tanh() ** 2))):
        (g,) = mg.autograd.grad(f(x).sum(), x, create_graph=True)
        (h,) = mg.autograd.grad(g.sum(), x)
        np.testing.assert_allclose(values(h), values(second(x.detach())), rtol=1e-12)


def test_gradient_penalty():
    w = leaf([[1.0, 2.0], [3.0, 4.0]], mg.float64)
    x = leaf([0.5, -1.0], mg.float64)

    def penalty(w, x):
        (g,) = mg.autograd.grad((w @ x).tanh().sum(), x, create_graph=True)
        return (g * g).sum()

    assert mg.autograd.gradcheck(penalty, (w, x))


def test_backward_with_create_graph_accumulates_recorded():
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first.requires_grad and first.item() == 12
    (x**2).backward(create_graph=True)
    assert x.grad is not first and first.item() == 12 and x.grad.item() == 16
    total = x.grad
    x.grad = None
    total.backward()
    assert x.grad.item() == 12 + 2
    first.grad_fn  # noqa: B018 keep


def test_create_graph_retains_by_default():
    x = leaf(2.0)
    y = x * x
    mg.autograd.grad(y, x, create_graph=True)
    y.backward()
    assert x.grad.item() == 4


def test_upstream_gradient_that_requires_grad():
    x, v = leaf([1.0, 2.0]), leaf([3.0, 4.0])
    (g,) = mg.autograd.grad(x * x, x, v, create_graph=True)
    (gv,) = mg.autograd.grad(g.sum(), v)
    assert values(gv) == [2, 4]
    (x + 0).backward(v)
    assert not x.grad.requires_grad
    x.grad = None
    (x + 0).backward(v * 1)
    assert not x.grad.requires_grad


# --- grad mode --------------------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad():
    x = leaf(1.0)
    with mg.no_grad():
        assert not mg.is_grad_enabled() and not (x * 2).requires_grad
        with mg.enable_grad():
            assert (x * 2).requires_grad
        with mg.no_grad():
            pass
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_grad_mode_is_restored_after_an_exception():
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert mg.is_grad_enabled()


def test_one_context_used_again_and_nested():
    mode = mg.no_grad()
    for _ in range(2):
        with mode, mode:
            assert not mg.is_grad_enabled()
        assert mg.is_grad_enabled()


@pytest.mark.parametrize("decorate", [mg.no_grad(), mg.no_grad, mg.inference_mode(), mg.inference_mode])
def test_no_grad_as_a_decorator(decorate):
    x = leaf(1.0)

    @decorate
    def f(a, *, b=2):
        """A docstring."""
        if b:
            f(a, b=b - 1)
        return (x * a).requires_grad, mg.is_grad_enabled()

    assert f(1.0, b=3) == (False, False) and mg.is_grad_enabled()
    assert f.__name__ == "f" and f.__wrapped__.__doc__ == "A docstring."

    class Model:
        @decorate
        def predict(self, a):
            return self, mg.is_grad_enabled(), a

    model = Model()
    assert model.predict(4) == (model, False, 4)

    @decorate
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert mg.is_grad_enabled()


def test_no_grad_on_a_generator():
    @mg.no_grad()
    def numbers():
        got = yield mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
        yield got
        return 7

    g = numbers()
    assert next(g) is False and mg.is_grad_enabled()
    assert g.send("x") == "x" and mg.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(g)
    assert stop.value.value == 7 and mg.is_grad_enabled()


def test_set_grad_enabled():
    x = leaf(1.0)
    for mode in (False, True):
        with mg.set_grad_enabled(mode):
            assert (x * 2).requires_grad is mode
        assert mg.is_grad_enabled()
    mg.set_grad_enabled(False)
    try:
        assert not mg.is_grad_enabled()
    finally:
        mg.set_grad_enabled(True)
    assert mg.is_grad_enabled()

    @mg.set_grad_enabled(False)
    def f():
        return mg.is_grad_enabled()

    assert mg.is_grad_enabled() and f() is False and mg.is_grad_enabled()
    twice = mg.set_grad_enabled(True)
    with mg.no_grad():
        for _ in range(2):
            with twice:
                assert mg.is_grad_enabled()


def test_inference_mode():
    x = leaf(1.0)
    with mg.inference_mode():
        y = x * 2
        with mg.inference_mode(False):
            assert mg.is_grad_enabled()
    assert not y.requires_grad
    (y * x).backward()  # unlike in PyTorch, y is an ordinary tensor
    assert x.grad.item() == 2


def test_grad_mode_is_thread_local():
    seen = {}

    def other():
        seen["start"] = mg.is_grad_enabled()
        with mg.no_grad():
            ready.set()
            go.wait(10)
        seen["end"] = mg.is_grad_enabled()

    ready, go = threading.Event(), threading.Event()
    with mg.no_grad():
        t = threading.Thread(target=other)
        t.start()
        ready.wait(10)
    assert mg.is_grad_enabled()  # while the other thread is in no_grad
    go.set()
    t.join()
    assert seen == {"start": True, "end": True}


def test_a_decorated_function_in_two_threads():
    inside, leave = threading.Event(), threading.Event()

    @mg.no_grad
    def f(wait):
        if wait:
            inside.set()
            leave.wait(10)
        return mg.is_grad_enabled()

    after = []
    t = threading.Thread(target=lambda: (f(True), after.append(mg.is_grad_enabled())))
    t.start()
    inside.wait(10)
    with mg.no_grad():
        assert f(False) is False
        leave.set()
        t.join()
        assert not mg.is_grad_enabled()
    assert after == [True] and mg.is_grad_enabled()


def test_detach_and_numpy():
    x = leaf([1.0, 2.0])
    d = x.detach()
    d[0] = 5
    assert values(x) == [5, 2] and not d.requires_grad
    with pytest.raises(RuntimeError, match="detach"):
        x.numpy()


def test_truth_and_item_of_several_elements():
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(mg.ones(2))
    with pytest.raises(RuntimeError, match="2 elements"):
        mg.ones(2).item()


def test_pickle_and_deepcopy():
    x = leaf([1.0, 2.0])
    y = (x * 2).sum()
    y.backward()
    again = pickle.loads(pickle.dumps(x))
    assert again.requires_grad and again.is_leaf and again.grad is None and values(again) == [1, 2]
    again = pickle.loads(pickle.dumps(y))
    assert again.grad_fn is None
    with pytest.raises(RuntimeError, match="deepcopy"):
        copy.deepcopy(y)
    again = copy.deepcopy(x)
    assert again.requires_grad and values(again.grad) == [2, 2] and again.grad is not x.grad


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


# --- threads ----------------------------------------------------------------------------------------------------------


def run_threads(count, work):
    errors = []

    def guarded(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


@pytest.mark.parametrize("size", [1, 3000, 200_000])
def test_threads_accumulate_into_one_leaf(size):
    x = mg.zeros(size, requires_grad=True)
    rounds = 1000 if size < 10_000 else 20
    ones = mg.ones(size)

    def work(i):
        for _ in range(rounds):
            (x * ones).backward(ones)

    run_threads(4, work)
    assert (x.grad == 4 * rounds).all()


def test_threads_walk_one_retained_graph():
    x = leaf(np.linspace(-1, 1, 50), mg.float64)
    h = x
    for _ in range(20):
        h = (h * 1.1).tanh() + x
    y = h.sum()
    (expected,) = mg.autograd.grad(y, x, retain_graph=True)
    results = [[] for _ in range(4)]

    def work(i):
        for _ in range(30):
            results[i].extend(mg.autograd.grad(y, x, retain_graph=True))

    run_threads(4, work)
    for found in results:
        for g in found:
            np.testing.assert_array_equal(g.numpy(), expected.numpy())


def test_threads_free_one_graph():
    """One wins; the others get the error, never a crash."""
    for _ in range(50):
        x = leaf([1.0])
        y = x
        for _ in range(20):
            y = (y * 1.1).tanh()
        outcomes = []

        def work(i, y=y, outcomes=outcomes):
            try:
                y.backward()
                outcomes.append("done")
            except RuntimeError as error:
                outcomes.append("error" if "second time" in str(error) else error)

        run_threads(3, work)
        assert sorted(outcomes) in (["done"] * k + ["error"] * (3 - k) for k in (1, 2, 3))


# --- memory -----------------------------------------------------------------------------------------------------------


def training_step(x, w, b, how):
    h = (x @ w + b).relu()
    if how == "views":
        h = h.view(-1).reshape(h.shape).transpose(0, 1)[1:].sum(0)
    elif how == "in place":
        h = h * 1
        h.mul_(2)
        h[0] = 0
        h.add_(h)
    elif how == "saved outputs":
        h = h.exp().sigmoid().tanh().sqrt()
    elif how == "several outputs":
        h = h.max(1)[0] + mg.cat(h.split(1, 0), 0).sum(1)
    elif how == "grad of grad":
        (g,) = mg.autograd.grad((h * h).sum(), b, create_graph=True)
        h = h + g
    elif how == "hooks":
        h.register_hook(lambda g: g * 1)
        h.retain_grad()
    loss = (h * h).mean()
    loss.backward()
    with mg.no_grad():
        for p in (w, b):
            p -= 0.001 * p.grad
            p.grad = None
    return loss.item()


@pytest.mark.parametrize(
    "how", ["plain", "views", "in place", "saved outputs", "several outputs", "grad of grad", "hooks"]
)
def test_no_reference_cycles(how):
    x, w, b = mg.ones(3, 4), mg.ones(4, 5, requires_grad=True), mg.ones(5, requires_grad=True)
    training_step(x, w, b, how)
    with collector_off():
        before = len(gc.get_objects())
        for _ in range(200):
            training_step(x, w, b, how)
        after = len(gc.get_objects())
        assert gc.collect() == 0
        assert after - before < 50


def test_the_cycle_of_create_graph_is_collected():
    def step():
        x = leaf([1.0])
        (x * x).backward(create_graph=True)

    step()
    with collector_off():
        step()
        assert gc.collect() > 0


def test_a_walk_frees_saved_memory_as_it_goes():

    x = leaf(np.ones(10_000, np.float32))
    y = x
    for _ in range(50):
        y = y.exp().log()
    s = y.sum()
    del y
    full = mg.memory.stats()["live"]
    least = []
    x.register_hook(lambda g: least.append(mg.memory.stats()["live"]))
    s.backward()
    assert full - least[0] > 48 * 40_000  # when the leaf is reached, all that was saved is gone


def test_resident_memory_stays_flat():
    def resident():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * 4096

    x, w, b = mg.ones(3, 4), mg.ones(4, 5, requires_grad=True), mg.ones(5, requires_grad=True)
    for _ in range(2_000):
        training_step(x, w, b, "plain")
    before = resident()
    for _ in range(20_000):
        training_step(x, w, b, "plain")
    assert resident() - before < 1_000_000
