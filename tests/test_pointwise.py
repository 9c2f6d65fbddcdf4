"""Corners of elementwise operations that a table of smooth functions does not reach."""

import math

import pytest

import minigrad as mg

from .dtypes import each_dtype


def test_second_derivative_of_relu_is_zero_not_absent():
    x = mg.tensor([1.0, -2.0], requires_grad=True)
    (d,) = mg.autograd.grad(x.relu().sum(), x, create_graph=True)
    (dd,) = mg.autograd.grad(d.sum(), x)
    assert dd.tolist() == [0, 0]


def test_power_zero_has_slope_zero():
    x = mg.tensor([0.0, 1.0, -2.0, math.inf, math.nan], requires_grad=True)
    y = x**0
    (d,) = mg.autograd.grad(y.sum(), x, create_graph=True)
    assert y.tolist() == [1] * 5 and d.tolist() == [0] * 5


@pytest.mark.parametrize("bounds", [{"min": math.nan}, {"max": math.nan}, {"min": 0.0, "max": math.nan}])
def test_clamp_to_nan_is_nan(bounds):
    assert mg.tensor([1.0, 5.0]).clamp(**bounds).isnan().all()


@pytest.mark.parametrize("dtype", each_dtype([mg.int8, mg.int16, mg.int32, mg.int64]))
def test_least_integer_divided_by_minus_one_wraps(dtype):
    least = mg.tensor([-(2 ** (8 * dtype.itemsize - 1))], dtype=dtype)
    assert (least // -1).tolist() == least.tolist()
    assert (least % -1).tolist() == [0]


def test_alpha_must_fit_integers():
    with pytest.raises(RuntimeError, match="alpha must not be a floating point number"):
        mg.add(mg.tensor([1]), mg.tensor([2]), alpha=2.5)
    assert mg.add(mg.tensor([1.0]), mg.tensor([2]), alpha=2.5).tolist() == [6.0]


@pytest.mark.parametrize("mode", ["x", None, 1])
def test_set_grad_enabled_wants_a_bool(mode):
    with pytest.raises(TypeError, match="mode must be bool"):
        mg.set_grad_enabled(mode)
    assert mg.is_grad_enabled()
