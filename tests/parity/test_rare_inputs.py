"""Masked rows, nan, ties, infinities and empty batches: values and gradients are PyTorch's."""

import math

import numpy as np
import pytest
import torch

import minigrad as mg

pytestmark = pytest.mark.parity

nan, inf = math.nan, math.inf
X3 = [[1.0, 2.0], [3.0, 1.0], [0.5, 1.0]]
ROWS = [[1.0, 1.0, 0.0], [0.0, 0.0, 0.0], [1.0, 1.0, 1.0]]


def attention(m, x, masked):
    mask = m.tensor(ROWS) if masked else m.where(m.tensor(ROWS) > 0, 0.0, -inf)
    return m.nn.functional.scaled_dot_product_attention(x, x * 2, x + 1, mask > 0 if masked else mask)


CASES = {
    "attention, a row that looks at nothing": (
        lambda m, x: attention(m, x, True),
        [[1.0, 2.0], [3.0, 1.0], [0.5, 1.0]],
    ),
    "attention, the same by numbers": (lambda m, x: attention(m, x, False), X3),
    "threshold": (lambda m, x: m.nn.functional.threshold(x, 0.5, 20.0), [nan, 0.5, 1.0, -inf]),
    "median of ties": (lambda m, x: m.median(x), [1.0, 2.0, 2.0, 2.0, 3.0]),
    "median with nan": (lambda m, x: m.median(x * 2), [1.0, nan, 2.0]),
    "prelu": (lambda m, x: m.nn.functional.prelu(x, m.tensor([0.25])), [[inf, 2.0], [0.0, -1.0]]),
    "hardtanh": (lambda m, x: m.nn.functional.hardtanh(x), [nan, -1.0, 1.0, 0.5, inf]),
    "relu6": (lambda m, x: m.nn.functional.relu6(x), [nan, 0.0, 6.0, 0.5, -inf]),
    "hardshrink": (lambda m, x: m.nn.functional.hardshrink(x), [nan, -0.5, 0.5, 0.75, inf]),
    "softshrink": (lambda m, x: m.nn.functional.softshrink(x), [nan, -0.5, 0.5, 0.75, -2.0]),
    "cdist, p=0": (lambda m, x: m.cdist(x, x[:1] * 1, p=0), [[1.0, 2.0], [1.0, 3.0]]),
    "var_mean": (lambda m, x: sum(m.var_mean(x, False)), [1.0, 2.0, 4.0]),
    "std_mean": (lambda m, x: sum(m.std_mean(x, 0, False)), [1.0, 2.0, 4.0]),
}


@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name):
    call, data = CASES[name]
    found = []
    for m in (mg, torch):
        x = m.tensor(data, requires_grad=True)
        y = call(m, x)
        y.sum().backward()
        found.append((y.detach().numpy(), x.grad.numpy()))
    for ours, theirs in zip(*found):
        np.testing.assert_allclose(ours, theirs, 2e-6, 2e-6)


@pytest.mark.parametrize("shape", [(0, 4, 3), (2, 4, 3)])
def test_normalisation_of_an_empty_batch(shape):
    for m in (mg, torch):
        assert m.nn.functional.group_norm(m.zeros(*shape), 2).shape == shape
        assert m.nn.functional.batch_norm(m.zeros(*shape), None, None, training=True).shape == shape


def test_statistics_that_are_no_longer_tracked():
    for m in (mg, torch):
        layer = m.nn.BatchNorm1d(2)
        layer.track_running_stats = False
        layer(m.ones(3, 2))
        assert int(layer.num_batches_tracked) == 0


INTEGERS = {
    "threshold": lambda m, x: m.nn.functional.threshold(x, 1, 20),
    "repeats": lambda m, x: m.repeat_interleave(x),
    "repeats of a tensor": lambda m, x: m.repeat_interleave(x, m.tensor([2, 0, 1]), output_size=3),
    "inverse of one": lambda m, x: m.unique(x[0], return_inverse=True)[1],
    "median": lambda m, x: m.median(x),
}


@pytest.mark.parametrize("name", INTEGERS)
def test_integers(name):
    ours, theirs = (INTEGERS[name](m, m.tensor([3, 0, 2])) for m in (mg, torch))
    assert (
        ours.tolist() == theirs.tolist() and ours.shape == theirs.shape and str(ours.dtype)[8:] == str(theirs.dtype)[5:]
    )


REFUSED = {
    "output_size": lambda m: m.repeat_interleave(m.tensor([1, 2]), m.tensor([1, 2]), output_size=7),
    "repeats that are a matrix": lambda m: m.repeat_interleave(m.tensor([1, 2]), m.tensor([[1, 2]])),
    "repeats that are floats": lambda m: m.repeat_interleave(m.tensor([1, 2]), m.tensor([1.0, 2.0])),
    "mish of integers": lambda m: m.nn.functional.mish(m.tensor([1])),
    "hardswish of integers": lambda m: m.nn.functional.hardswish(m.tensor([1])),
    "softshrink of integers": lambda m: m.nn.functional.softshrink(m.tensor([1])),
    "one value a channel": lambda m: m.nn.BatchNorm1d(2)(m.ones(1, 2)),
}


@pytest.mark.parametrize("name", REFUSED)
def test_errors(name):
    for m in (mg, torch):
        with pytest.raises((RuntimeError, ValueError, NotImplementedError)):
            REFUSED[name](m)
