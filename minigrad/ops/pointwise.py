"""Elementwise operations: one row each: kernel, what it saves, its derivative.

A rule gets ``dy`` and what was saved (``a``, ``b``: inputs, ``y``: output) and is written with the operations
themselves, so that second derivatives come for free. Broadcast gradients are summed by the engine.
"""

import math

from .._engine import Kernel, Op, Tensor, empty, filled, is_grad_enabled, operand, result_type, select
from .._engine import _cast as cast
from .._storage import bool_

FLOATS, TO_BOOL, INTS, NO_BOOL = 1, 2, 4, 8  # flags of Op: see _engine.pyx

# --- arithmetic -------------------------------------------------------------------------------------------------------

add = Op("Add", lambda dy: dy, lambda dy: dy, kernel="add")
sub = Op("Sub", lambda dy: dy, lambda dy: -dy, kernel="sub", flags=NO_BOOL)
mul = Op("Mul", lambda dy, a, b: dy * b, lambda dy, a, b: dy * a, kernel="mul", saves=("b", "a"))
div = Op(
    "Div",
    lambda dy, a, b: dy / b,
    lambda dy, a, b: -dy * (a / b) / b,
    kernel="div", saves=("b", "ab"), flags=FLOATS,
)  # fmt: skip
neg = Op("Neg", lambda dy: -dy, kernel="neg", flags=NO_BOOL)
abs = Op("Abs", lambda dy, a: dy * sign(a), kernel="abs", saves=("a",))
sign = Op("Sign", lambda dy: dy * 0, kernel="sign")
square = Op("Square", lambda dy, a: dy * (a * 2), kernel="square", saves=("a",))
reciprocal = Op("Reciprocal", lambda dy, y: -dy * (y * y), kernel="reciprocal", saves=("y",), flags=FLOATS)
sqrt = Op("Sqrt", lambda dy, y: dy / (y * 2), kernel="sqrt", saves=("y",), flags=FLOATS)
rsqrt = Op("Rsqrt", lambda dy, y: dy * (y * y * y) * -0.5, kernel="rsqrt", saves=("y",), flags=FLOATS)
remainder = Op(
    "Remainder",
    lambda dy, a, b: dy,
    lambda dy, a, b: -dy * floor_divide(a, b),
    kernel="remainder", int_kernel="int_remainder", saves=("", "ab"), flags=NO_BOOL, cost=2,
)  # fmt: skip
floor_divide = Op(
    "FloorDivide", kernel="floor_divide", int_kernel="int_floor_divide", flags=NO_BOOL, cost=2, arity=2
)  # fmt: skip


def zeros_like(x):
    return filled(x.shape, 0, x.dtype)


def _dpow_base(dy, a, b, y):
    return dy * where(b == 0, zeros_like(y), b * power(a, b - 1))  # x ** 0 has slope 0, also at 0


def _dpow_exponent(dy, a, b, y):
    return dy * where((a == 0) & (b >= 0), zeros_like(y), y * log(a))


power = Op(
    "Pow", _dpow_base, _dpow_exponent, kernel="pow", int_kernel="int_pow", saves=("aby", "aby"), cost=4
)  # fmt: skip


def pow(input, exponent):
    """``input ** exponent``; small constant exponents are products and roots.

    >>> import minigrad as mg
    >>> mg.pow(mg.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    if isinstance(exponent, (int, float)) and isinstance(input, Tensor) and input.is_floating_point():
        if exponent == 2:
            return square(input)
        if exponent == 1:
            return input.clone()
        if exponent == 3:
            return square(input) * input
        if exponent == -1:
            return reciprocal(input)
    return power(input, exponent)


# --- exponentials and friends -----------------------------------------------------------------------------------------

exp = Op("Exp", lambda dy, y: dy * y, kernel="exp", saves=("y",), flags=FLOATS, cost=0.5)
expm1 = Op("Expm1", lambda dy, y: dy * (y + 1), kernel="expm1", saves=("y",), flags=FLOATS, cost=0.5)
log = Op("Log", lambda dy, a: dy / a, kernel="log", saves=("a",), flags=FLOATS, cost=0.5)
log1p = Op("Log1p", lambda dy, a: dy / (a + 1), kernel="log1p", saves=("a",), flags=FLOATS, cost=0.6)
sin = Op("Sin", lambda dy, a: dy * cos(a), kernel="sin", saves=("a",), flags=FLOATS, cost=5)
cos = Op("Cos", lambda dy, a: -dy * sin(a), kernel="cos", saves=("a",), flags=FLOATS, cost=5)
erf = Op(
    "Erf", lambda dy, a: dy * (2 / math.sqrt(math.pi)) * exp(-(a * a)), kernel="erf", saves=("a",), flags=FLOATS, cost=0.9
)  # fmt: skip
softplus = Op("Softplus", lambda dy, a: dy * sigmoid(a), kernel="softplus", saves=("a",), flags=FLOATS, cost=0.8)

# --- activations: their derivative is a fused kernel, itself differentiable ---------------------------------------------

dtanh = Op("TanhBackward", lambda d, dy, y: d * (1 - y * y), lambda d, dy, y: d * dy * y * -2, kernel="dtanh", saves=("b", "ab"))
dsigmoid = Op(
    "SigmoidBackward",
    lambda d, dy, y: d * (y * (1 - y)),
    lambda d, dy, y: d * dy * (1 - y * 2),
    kernel="dsigmoid", saves=("b", "ab"),
)  # fmt: skip
drelu = Op("ReluBackward", lambda d, y: drelu(d, y), lambda d, y: None, kernel="drelu", saves=("b", ""))
tanh = Op("Tanh", lambda dy, y: dtanh(dy, y), kernel="tanh", saves=("y",), flags=FLOATS, cost=0.6)
sigmoid = Op("Sigmoid", lambda dy, y: dsigmoid(dy, y), kernel="sigmoid", saves=("y",), flags=FLOATS, cost=0.6)
relu = Op("Relu", lambda dy, y: drelu(dy, y), kernel="relu", saves=("y",))

# --- extremes and rounding --------------------------------------------------------------------------------------------

# equal arguments share the gradient, as in PyTorch
maximum = Op(
    "Maximum",
    lambda dy, a, b: dy * _share(a > b, a == b, dy),
    lambda dy, a, b: dy * _share(b > a, a == b, dy),
    kernel="maximum", saves=("ab", "ab"),
)  # fmt: skip
minimum = Op(
    "Minimum",
    lambda dy, a, b: dy * _share(a < b, a == b, dy),
    lambda dy, a, b: dy * _share(b < a, a == b, dy),
    kernel="minimum", saves=("ab", "ab"),
)  # fmt: skip


def _share(wins, ties, like):
    return cast(wins, like.dtype) + cast(ties, like.dtype) * 0.5


floor = Op("Floor", lambda dy: dy * 0, kernel="floor")
ceil = Op("Ceil", lambda dy: dy * 0, kernel="ceil")
trunc = Op("Trunc", lambda dy: dy * 0, kernel="trunc")
round = Op("Round", lambda dy: dy * 0, kernel="round")

# --- selection --------------------------------------------------------------------------------------------------------

_where = Op("Where", None, lambda dy, c: where(c, dy, zeros_like(dy)), lambda dy, c: where(c, zeros_like(dy), dy))
_clamp = Op("Clamp", lambda dy, x, low, high: dy * cast((x >= low) & (x <= high), dy.dtype))
_K_CLAMP = Kernel("elementwise.clamp")


def where(condition, input, other):
    """``input`` where ``condition`` (bool) else ``other``, broadcast together."""
    dtype = result_type(input, other)
    a, b = operand(input, dtype), operand(other, dtype)
    if condition.dtype is not bool_:
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got {condition.dtype!r}")
    y = select(condition, a, b)
    if not is_grad_enabled():
        return y
    from .shape import expand

    shape = y.shape
    return _where.record(y, condition, expand(a, shape), expand(b, shape), saved=(condition,))


def clamp(input, min=None, max=None):
    """``input`` limited to [min, max]; numbers or tensors; at a bound the gradient passes, as in PyTorch."""
    if min is None and max is None:
        raise RuntimeError("clamp: at least one of 'min' or 'max' must not be None")
    if isinstance(min, Tensor) or isinstance(max, Tensor):
        lowered = input if min is None else maximum(input, min)
        return lowered if max is None else minimum(lowered, max)
    for bound in (min, max):
        if bound is not None:
            input = cast(input, result_type(input, bound))
    x = input.detach().contiguous()
    low = operand(_lowest(x.dtype) if min is None else min, x.dtype)
    high = operand(_highest(x.dtype) if max is None else max, x.dtype)
    y = empty(x.shape, x.dtype)
    _K_CLAMP((y,), (x, low, high))
    return _clamp.record(y, input, saved=(input, low, high))


def _highest(dtype):
    return math.inf if dtype.is_floating_point else 2 ** (8 * dtype.itemsize - dtype.is_signed) - 1


def _lowest(dtype):
    return -math.inf if dtype.is_floating_point else -(2 ** (8 * dtype.itemsize - 1)) if dtype.is_signed else 0


# --- comparisons, logic: no gradient -----------------------------------------------------------------------------------

eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor = (
    Op(name.title(), kernel=name, flags=TO_BOOL, arity=2)
    for name in ("eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor")
)
isnan, isinf, isfinite, logical_not = (
    Op(name.title(), kernel=name, flags=TO_BOOL) for name in ("isnan", "isinf", "isfinite", "logical_not")
)
bitwise_and, bitwise_or, bitwise_xor = (
    Op(name.title(), kernel=kernel, flags=INTS, arity=2)
    for name, kernel in (("bitwise_and", "bit_and"), ("bitwise_or", "bit_or"), ("bitwise_xor", "bit_xor"))
)
bitwise_not = Op("BitwiseNot", kernel="invert", flags=INTS)
