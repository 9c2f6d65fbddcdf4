"""In-place operations: what they record, and what the versions of saved tensors notice."""

import pytest

import minigrad as mg

from .leaves import leaf, values

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
