"""The tape and the backward walk: what PyTorch does, row by row (graphs, accumulation, autograd.grad, errors)."""

import copy
import pickle

import numpy as np
import pytest

import minigrad as mg

from .leaves import leaf, values

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
