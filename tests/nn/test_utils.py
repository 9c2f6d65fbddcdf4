"""Gradient clipping and parameters as a vector, against NumPy."""

import math
from itertools import product

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn.utils import (
    clip_grad_norm_,
    clip_grad_value_,
    clip_grads_with_norm_,
    get_total_norm,
    parameters_to_vector,
    vector_to_parameters,
)

inf, nan = math.inf, math.nan
SHAPES = [(), (3,), (0, 4), (2, 1, 3), (40, 101), (9,)]


def params(dtype="float32", scale=1.0):
    """Parameters with gradients: one without, one that is not contiguous."""
    rng = np.random.default_rng(0)
    made = [mg.zeros(*s, dtype=getattr(mg, dtype), requires_grad=True) for s in SHAPES]
    for p in made[:-1]:
        p.grad = mg.tensor(np.asarray(scale * rng.normal(size=tuple(p.shape)), dtype))
    turned = mg.zeros(4, 3, dtype=getattr(mg, dtype), requires_grad=True)
    turned.grad = mg.tensor(np.asarray(scale * rng.normal(size=(3, 4)), dtype)).t()
    return [*made, turned]


def values(tensors):
    return [p.grad.numpy().astype(float).copy() for p in tensors if p.grad is not None]


def total(arrays, order):
    if order == 0:
        return sum(bool(a.any()) for a in arrays)
    if order == -inf:
        return min(abs(a).min() for a in arrays if a.size)
    return np.linalg.norm(np.concatenate([a.reshape(-1) for a in arrays]), order)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("order", "max_norm"), [*product((2, 1, inf, 3, 0.5, 0, -inf), (0.3, 1e9, 0.0, -1.0))])
def test_clip_grad_norm(order, max_norm, dtype):
    tensors = params(dtype)
    before = values(tensors)
    norm = total(before, order)
    rtol = 1e-5 if dtype == "float32" else 1e-13
    grads = [p.grad for p in tensors if p.grad is not None]
    np.testing.assert_allclose(get_total_norm(grads, order).item(), norm, rtol)
    versions = [g._version for g in grads]
    found = clip_grad_norm_(iter(tensors), max_norm, order)
    np.testing.assert_allclose(found.item(), norm, rtol)
    assert found.shape == () and found.dtype is getattr(mg, dtype) and not found.requires_grad
    factor = min(1.0, max_norm / (norm + 1e-6))
    for a, b in zip(values(tensors), before, strict=True):
        np.testing.assert_allclose(a, b * factor, rtol, 1e-30)
    assert factor == 1 or all(g._version > v for g, v in zip(grads, versions, strict=True))


@pytest.mark.parametrize("foreach", [None, True, False])
def test_known_norm_and_values(foreach):
    tensors = params()
    before = values(tensors)
    assert clip_grads_with_norm_(tensors, 1.0, mg.tensor(4.0), foreach) is None
    for a, b in zip(values(tensors), before, strict=True):
        np.testing.assert_allclose(a, b * np.float32(1 / (4 + 1e-6)), 1e-6)
    clip_grads_with_norm_(tensors, 5.0, 4.0)  # a number; and nothing to do
    assert clip_grad_value_(tensors, 0.05, foreach) is None
    for a, b in zip(values(tensors), before, strict=True):
        np.testing.assert_allclose(a, np.clip(b / 4, -0.05, 0.05), 1e-5)


def test_special_values():
    def clipped(gradient, f):
        p = mg.zeros(len(gradient), requires_grad=True)
        p.grad = mg.tensor(gradient)
        norm = f(p)
        return p.grad.tolist(), None if norm is None else norm.item()

    for order in (1, 2, inf, 3):
        np.testing.assert_array_equal(clipped([nan, 1.0], lambda p: clip_grad_norm_(p, 1.0, order))[0], [nan, nan])  # noqa: B023
        grads, norm = clipped([inf, 1.0], lambda p: clip_grad_norm_(p, 1.0, order))  # noqa: B023
        np.testing.assert_array_equal(grads, [nan, 0])
        assert norm == inf
    for bad in (nan, inf):
        p = mg.zeros(2, requires_grad=True)
        p.grad = mg.tensor([bad, 1.0])
        for f in (clip_grad_norm_, lambda p, *a, **k: get_total_norm(p.grad, **k)):
            with pytest.raises(RuntimeError, match=r"total norm of order 2.0 .* is non-finite"):
                f(p, 1.0, error_if_nonfinite=True)
        np.testing.assert_array_equal(p.grad.tolist(), [bad, 1])
    np.testing.assert_array_equal(clipped([nan, inf, -inf, 0.2], lambda p: clip_grad_value_(p, 1))[0][:3], [nan, 1, -1])
    np.testing.assert_array_equal(clipped([0.5, 1.0], lambda p: clip_grad_value_(p, nan))[0], [nan, nan])
    grads, norm = clipped([3e30, 4e30], lambda p: clip_grad_norm_(p, 1.0))  # squares overflow float32
    np.testing.assert_allclose(grads, [0.6, 0.8], 1e-6)


def test_what_may_be_clipped():
    p, q = (mg.zeros(1, requires_grad=True) for _ in range(2))
    assert clip_grad_norm_([p, q], 1.0).item() == 0 and clip_grad_norm_([], 1.0).item() == 0
    assert get_total_norm([]).item() == 0 and p.grad is None
    p.grad, q.grad = mg.tensor([3.0]), mg.tensor([4.0])
    assert clip_grad_norm_(p, 1.0).item() == 3  # a tensor; then listed twice, and of another dtype
    p.grad = mg.tensor([3.0])
    assert clip_grad_norm_([p, p], 1.5).item() == 3 and abs(p.grad.item() - 1.5) < 1e-6
    r = mg.zeros(1, dtype=mg.float64, requires_grad=True)
    p.grad, r.grad = mg.tensor([3.0]), mg.tensor([4.0], dtype=mg.float64)
    norm = clip_grad_norm_([p, r], 1.0)
    assert norm.item() == 5 and norm.dtype is mg.float64
    np.testing.assert_allclose([p.grad.item(), r.grad.item()], [0.6, 0.8], 1e-6)
    used = (x for x in [p])
    list(used)
    with pytest.warns(UserWarning, match="`parameters` is an empty generator"):
        clip_grad_norm_(used, 1.0)
    with pytest.raises(TypeError, match="number 1 is int"):
        get_total_norm([mg.ones(1), 3])
    with pytest.raises(RuntimeError, match="number 0 has dtype minigrad.int64"):
        get_total_norm([mg.tensor([1])])
    with pytest.raises((TypeError, ValueError)):
        clip_grad_norm_([p], "much")


def test_vectors():
    w, b = mg.tensor([[1.0, 2.0], [3.0, 4.0]], requires_grad=True), mg.tensor(5.0, requires_grad=True)
    turned = mg.tensor([[6.0, 8.0], [7.0, 9.0]]).t()
    vector = parameters_to_vector([w, b, turned])
    assert vector.tolist() == [1, 2, 3, 4, 5, 6, 7, 8, 9]
    (vector**2).sum().backward()
    assert w.grad.tolist() == [[2, 4], [6, 8]] and b.grad.item() == 10
    new = mg.arange(6.0)
    vector_to_parameters(new, iter([w, b]))
    assert w.tolist() == [[0, 1], [2, 3]] and b.item() == 4 and w.requires_grad and w.is_leaf
    new.mul_(2)
    assert w.tolist() == [[0, 2], [4, 6]] and b.item() == 8  # shared memory
    for bad in (mg.zeros(4), mg.zeros(1, 5)):
        with pytest.raises(RuntimeError, match=r"for parameters of 5 elements"):
            vector_to_parameters(bad, [w, b])
    with pytest.raises(TypeError, match="expected a Tensor, but got: list"):
        vector_to_parameters([1.0], [w])
    assert w.tolist() == [[0, 2], [4, 6]]
