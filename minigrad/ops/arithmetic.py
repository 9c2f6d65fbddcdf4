"""Arithmetic with PyTorch's extra arguments, over the rows of ``pointwise``."""

from .._engine import Tensor, common_dtype, operand
from .._engine import _cast as cast
from . import pointwise as p


def _scaled(input, other, alpha):
    if type(alpha) is int and alpha == 1:
        return other
    if isinstance(alpha, float) and not any(
        isinstance(x, float) or operand(x).is_floating_point() for x in (input, other)
    ):
        raise RuntimeError("For integral input tensors, argument alpha must not be a floating point number.")
    return (other if isinstance(other, (Tensor, float, int)) else operand(other)) * alpha


def add(input, other, *, alpha=1):
    """``input + alpha * other``, broadcast and promoted; tensors or numbers.

    >>> import minigrad as mg
    >>> mg.add(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 1.0]), alpha=10)
    tensor([11., 12.])
    """
    return p.add(input, _scaled(input, other, alpha))


def sub(input, other, *, alpha=1):
    """``input - alpha * other``, broadcast and promoted; tensors or numbers; not for bools.

    >>> import minigrad as mg
    >>> mg.sub(mg.tensor([1, 2]), 1)
    tensor([0, 1])
    """
    return p.sub(input, _scaled(input, other, alpha))


def div(input, other, *, rounding_mode=None):
    """``input / other``; integers give floats unless ``rounding_mode`` is "trunc" (towards zero) or "floor".

    >>> import minigrad as mg
    >>> mg.div(mg.tensor([7, -7]), 2)
    tensor([ 3.5000, -3.5000])
    >>> mg.div(mg.tensor([7, -7]), 2, rounding_mode="trunc")
    tensor([ 3, -3])
    """
    if rounding_mode is None:
        return p.div(input, other)
    if rounding_mode == "floor":
        return p.floor_divide(input, other)
    if rounding_mode != "trunc":
        raise RuntimeError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}"
        )
    a, b = operand(input), operand(other)
    if a.is_floating_point() or b.is_floating_point() or isinstance(other, float) or isinstance(input, float):
        return p.trunc(p.div(input, other))
    down = p.floor_divide(input, other)
    return down + ((down < 0) & (p.remainder(input, other) != 0))  # one up where floor went away from zero


def _together(*tensors):
    """The tensors in the dtype that an operation on all of them has."""
    dtype = common_dtype(*tensors)
    return [cast(x, dtype) for x in tensors]


def _product(input, a, b, value):
    """``input`` and value * a * b, in the dtype that all three have together; integers take an integer value."""
    input, a, b = _together(input, a, b)
    if a.is_floating_point():
        return input, a * b * value
    try:
        return input, a * b * int(value)
    except (OverflowError, ValueError):
        raise RuntimeError(f"value {value!r} cannot be converted to {a.dtype!r} without overflow") from None


def _quotient(input, a, b, value):
    """``input`` and value * a / b, in the dtype that all three have together."""
    if not (a.is_floating_point() or b.is_floating_point()):
        raise RuntimeError(
            "Integer division with addcdiv is no longer supported: of integer tensors use input + value * "
            "div(tensor1, tensor2, rounding_mode='trunc'), or convert them to a floating dtype"
        )
    input, a, b = _together(input, a, b)
    return input, a / b * value


def addcmul(input, tensor1, tensor2, *, value=1):
    """``input + value * tensor1 * tensor2``.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0])
    >>> mg.addcmul(x, x, x, value=2)
    tensor([ 3., 10.])
    """
    return p.add(*_product(input, tensor1, tensor2, value))


def addcdiv(input, tensor1, tensor2, *, value=1):
    """``input + value * tensor1 / tensor2``; floating point.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0])
    >>> mg.addcdiv(x, x, x, value=2)
    tensor([3., 4.])
    """
    return p.add(*_quotient(input, tensor1, tensor2, value))


def lerp(input, end, weight):
    """``input + weight * (end - input)``; ``weight``: a number or a tensor.

    >>> import minigrad as mg
    >>> mg.lerp(mg.tensor([0.0, 2.0]), mg.tensor([4.0, 4.0]), 0.25)
    tensor([1.0000, 2.5000])
    """
    return p.add(input, (end - input) * weight)


# --- in place: methods of Tensor --------------------------------------------------------------------------------------


def add_(self, other, *, alpha=1):
    """Add ``alpha * other`` in place; the tensor."""
    return p.add.inplace(self, _scaled(self, other, alpha))


def sub_(self, other, *, alpha=1):
    """Subtract ``alpha * other`` in place; the tensor."""
    return p.sub.inplace(self, _scaled(self, other, alpha))


def div_(self, other, *, rounding_mode=None):
    """Divide by ``other`` in place, rounded as in ``div``; the tensor."""
    if rounding_mode is None:
        return p.div.inplace(self, other)
    if rounding_mode == "floor":
        return p.floor_divide.inplace(self, other)
    return self.copy_(div(self.clone(), other, rounding_mode=rounding_mode))


def addcmul_(self, tensor1, tensor2, *, value=1):
    """Add ``value * tensor1 * tensor2`` in place; the tensor."""
    return p.add.inplace(self, _product(self, tensor1, tensor2, value)[1])


def addcdiv_(self, tensor1, tensor2, *, value=1):
    """Add ``value * tensor1 / tensor2`` in place; the tensor."""
    return p.add.inplace(self, _quotient(self, tensor1, tensor2, value)[1])


def lerp_(self, end, weight):
    """Move the share ``weight`` of the way to ``end``, in place; the tensor."""
    return p.add.inplace(self, (end - self) * weight)
