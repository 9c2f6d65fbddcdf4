"""Elementwise operations: one row each: kernel, what it saves, its derivative.

A rule gets ``dy`` and what was saved (``a``, ``b``: inputs, ``y``: output) and is written with the operations
themselves, so that second derivatives come for free. Broadcast gradients are summed by the engine.
"""

import math

from .._engine import Kernel, Op, Tensor, empty, filled, operand, result_type, select, together
from .._engine import _cast as cast
from .._gradmode import is_grad_enabled
from .._storage import bool_

FLOATS, TO_BOOL, INTS, NO_BOOL, NOTED, BOOL_TO_INT, DIVIDES = 1, 2, 4, 8, 16, 32, 64  # flags of Op: see _engine.pyx

# --- arithmetic -------------------------------------------------------------------------------------------------------

add = Op("Add", "dy", "dy", kernel="add", doc="input + other.")
sub = Op("Sub", "dy", lambda dy: -dy, kernel="sub", flags=NO_BOOL, doc="input - other; not for bools.")
mul = Op("Mul", "b", "a", kernel="mul", saves=("b", "a"), doc="input * other.")
div = Op(
    "Div",
    lambda dy, a, b: dy / b,
    lambda dy, a, b: -dy * (a / b) / b,
    kernel="div", saves=("b", "ab"), flags=FLOATS,
    doc="input / other; integers give floats.",
)  # fmt: skip
neg = Op("Neg", lambda dy: -dy, kernel="neg", flags=NO_BOOL, doc="-input; not for bools.")
abs = Op("Abs", lambda dy, a: dy * sign(a), kernel="abs", saves=("a",), doc="|input|; its slope at 0 is 0.")
sign = Op("Sign", lambda dy: dy * 0, kernel="sign", doc="-1, 0 or 1; no gradient flows.")
square = Op(
    "Square", lambda dy, a: dy * (a * 2), kernel="square", saves=("a",), flags=BOOL_TO_INT,
    doc="input ** 2; of bools int64.",
)  # fmt: skip
reciprocal = Op(
    "Reciprocal", lambda dy, y: -dy * (y * y), kernel="reciprocal", saves=("y",), flags=FLOATS,
    doc="1 / input.",
)  # fmt: skip
sqrt = Op(
    "Sqrt", lambda dy, y: dy / (y * 2), kernel="sqrt", saves=("y",), flags=FLOATS,
    doc="The square root; nan below 0.",
)  # fmt: skip
rsqrt = Op(
    "Rsqrt", lambda dy, y: dy * (y * y * y) * -0.5, kernel="rsqrt", saves=("y",), flags=FLOATS,
    doc="1 / sqrt(input).",
)  # fmt: skip
remainder = Op(
    "Remainder",
    lambda dy, a, b: dy,
    lambda dy, a, b: -dy * floor_divide(a, b),
    kernel="remainder", int_kernel="int_remainder", saves=("", "ab"), flags=NO_BOOL | DIVIDES, cost=2,
    doc="input - other * floor(input / other): the sign of other; integers refuse a zero other.",
)  # fmt: skip
floor_divide = Op(
    "FloorDivide", kernel="floor_divide", int_kernel="int_floor_divide", flags=NO_BOOL | DIVIDES, cost=2, arity=2,
    doc="floor(input / other); integers refuse a zero other; no gradient.",
)  # fmt: skip


def zeros_like(x):
    return filled(x.shape, 0, x.dtype, x)


def _dpow_base(dy, a, b, y):
    return dy * where(b == 0, zeros_like(y), b * power(a, b - 1))  # x ** 0 has slope 0, also at 0


def _dpow_exponent(dy, a, b, y):
    return dy * where((a == 0) & (b >= 0), zeros_like(y), y * log(a))


power = Op(
    "Pow", _dpow_base, _dpow_exponent, kernel="pow", int_kernel="int_pow", saves=("aby", "aby"), flags=NO_BOOL, cost=4,
    doc="input ** other; integers to negative powers are 0, 1 or -1, and refuse a negative number as the power.",
)  # fmt: skip


_ones = Op("Pow", lambda dy: zeros_like(dy))


def pow(input, exponent):
    """``input ** exponent``; small constant exponents are products and roots.

    >>> import minigrad as mg
    >>> mg.pow(mg.tensor([1.0, 2.0, 3.0]), 2)
    tensor([1., 4., 9.])
    """
    if isinstance(exponent, (int, float)) and isinstance(input, Tensor) and input.is_floating_point():
        if exponent == 2:
            return square(input)
        if exponent == 0:  # slope 0 to any order, also at 0
            return _ones.record(filled(input.shape, 1, input.dtype, input), input)
        if exponent == 1:
            return input.clone()
        if exponent == 3:
            return square(input) * input
        if exponent == -1:
            return reciprocal(input)
    return power(input, exponent)


# --- exponentials and friends -----------------------------------------------------------------------------------------

exp = Op("Exp", mul, kernel="exp", saves=("y",), flags=FLOATS, cost=0.5, doc="e ** input.")
expm1 = Op(
    "Expm1", lambda dy, y: dy * (y + 1), kernel="expm1", saves=("y",), flags=FLOATS, cost=0.5,
    doc="e ** input - 1, accurate near 0.",
)  # fmt: skip
log = Op("Log", div, kernel="log", saves=("a",), flags=FLOATS, cost=0.5, doc="The natural logarithm.")
log1p = Op(
    "Log1p", lambda dy, a: dy / (a + 1), kernel="log1p", saves=("a",), flags=FLOATS, cost=0.6,
    doc="log(1 + input), accurate near 0.",
)  # fmt: skip
sin = Op("Sin", lambda dy, a: dy * cos(a), kernel="sin", saves=("a",), flags=FLOATS, cost=1.2, doc="Sine of radians.")
cos = Op(
    "Cos", lambda dy, a: -dy * sin(a), kernel="cos", saves=("a",), flags=FLOATS, cost=1.2,
    doc="The cosine of radians.",
)  # fmt: skip
erf = Op(
    "Erf", lambda dy, a: dy * (2 / math.sqrt(math.pi)) * exp(-(a * a)), kernel="erf", saves=("a",),
    flags=FLOATS, cost=0.9, doc="2 / sqrt(pi) times the integral of exp(-t * t) from 0 to input.",
)  # fmt: skip
softplus = Op(
    "Softplus", lambda dy, a: dy * sigmoid(a), kernel="softplus", saves=("a",), flags=FLOATS, cost=0.8,
    doc="log(1 + e ** input).",
)  # fmt: skip

# --- activations: their derivative is a fused kernel, itself differentiable -------------------------------------------

dtanh = Op(
    "TanhBackward",
    lambda d, dy, y: d * (1 - y * y),
    lambda d, dy, y: d * dy * y * -2,
    kernel="dtanh", saves=("b", "ab"),
)  # fmt: skip
dsigmoid = Op(
    "SigmoidBackward",
    lambda d, dy, y: d * (y * (1 - y)),
    lambda d, dy, y: d * dy * (1 - y * 2),
    kernel="dsigmoid", saves=("b", "ab"),
)  # fmt: skip
drelu = Op("ReluBackward", lambda d, y: drelu(d, y), lambda d, y: zeros_like(y), kernel="drelu", saves=("b", "b"))
tanh = Op("Tanh", dtanh, kernel="tanh", saves=("y",), flags=FLOATS, cost=0.6, doc="The hyperbolic tangent.")
sigmoid = Op(
    "Sigmoid", dsigmoid, kernel="sigmoid", saves=("y",), flags=FLOATS | NOTED, cost=0.6,
    doc="1 / (1 + e ** -input).",
)  # fmt: skip
relu = Op("Relu", drelu, kernel="relu", saves=("y",), doc="max(input, 0); its slope at 0 is 0, and nan stays nan.")

# --- extremes and rounding --------------------------------------------------------------------------------------------

# equal arguments share the gradient, as in PyTorch
maximum = Op(
    "Maximum",
    lambda dy, a, b: dy * _share(a > b, a == b, dy),
    lambda dy, a, b: dy * _share(b > a, a == b, dy),
    kernel="maximum", saves=("ab", "ab"),
    doc="The larger of each pair; equal ones share the gradient; nan wins.",
)  # fmt: skip
minimum = Op(
    "Minimum",
    lambda dy, a, b: dy * _share(a < b, a == b, dy),
    lambda dy, a, b: dy * _share(b < a, a == b, dy),
    kernel="minimum", saves=("ab", "ab"),
    doc="The smaller of each pair; equal ones share the gradient; nan wins.",
)  # fmt: skip


def _share(wins, ties, like):
    return cast(wins, like.dtype) + cast(ties, like.dtype) * 0.5


floor = Op("Floor", lambda dy: dy * 0, kernel="floor", doc="The largest integer not above; no gradient flows.")
ceil = Op("Ceil", lambda dy: dy * 0, kernel="ceil", doc="The smallest integer not below; no gradient flows.")
trunc = Op("Trunc", lambda dy: dy * 0, kernel="trunc", doc="Rounded towards 0; no gradient flows.")
round = Op(
    "Round", lambda dy: dy * 0, kernel="round",
    doc="Rounded to the nearest integer, halves to even; no gradient flows.",
)  # fmt: skip

# --- selection --------------------------------------------------------------------------------------------------------

_where = Op("Where", None, lambda dy, c: where(c, dy, zeros_like(dy)), lambda dy, c: where(c, zeros_like(dy), dy))
_clamp = Op("Clamp", lambda dy, x, low, high: dy * cast((x >= low) & (x <= high), dy.dtype))
_K_CLAMP = Kernel("elementwise.clamp")


def where(condition, input, other):
    """``input`` where ``condition`` (bool) else ``other``, broadcast together."""
    dtype = result_type(input, other)
    a, b = (filled((), x, dtype) if isinstance(x, (int, float)) else operand(x, dtype) for x in (input, other))
    if condition.dtype is not bool_:
        raise RuntimeError(f"where expected condition to be a boolean tensor, but got {condition.dtype!r}")
    condition, a, b = together(condition, a, b)
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
    if min != min or max != max:  # a bound is nan
        return input * math.nan
    for bound in (min, max):
        if bound is not None:
            input = cast(input, result_type(input, bound))
    x = input.detach().contiguous()
    low = filled((), _lowest(x.dtype) if min is None else min, x.dtype, x)
    high = filled((), _highest(x.dtype) if max is None else max, x.dtype, x)
    y = empty(x.shape, x.dtype, x)
    _K_CLAMP((y,), (x, low, high))
    return _clamp.record(y, input, saved=(input, low, high))


def _highest(dtype):
    return math.inf if dtype.is_floating_point else 2 ** (8 * dtype.itemsize - dtype.is_signed) - 1


def _lowest(dtype):
    return -math.inf if dtype.is_floating_point else -(2 ** (8 * dtype.itemsize - 1)) if dtype.is_signed else 0


# --- comparisons, logic: no gradient ----------------------------------------------------------------------------------

eq, ne, lt, le, gt, ge, logical_and, logical_or, logical_xor = (
    Op(name.title(), kernel=name, flags=TO_BOOL, arity=2, doc=f"input {sign} other, elementwise, as bools.")
    for name, sign in (
        ("eq", "=="), ("ne", "!="), ("lt", "<"), ("le", "<="), ("gt", ">"), ("ge", ">="), ("logical_and", "and"),
        ("logical_or", "or"), ("logical_xor", "xor"),
    )
)  # fmt: skip
isnan, isinf, isfinite, logical_not = (
    Op(name.title(), kernel=name, flags=TO_BOOL, doc=f"{text}, elementwise, as bools.")
    for name, text in (
        ("isnan", "Whether nan"), ("isinf", "Whether infinite"), ("isfinite", "Whether neither nan nor infinite"),
        ("logical_not", "Whether 0"),
    )
)  # fmt: skip
bitwise_and, bitwise_or, bitwise_xor = (
    Op(name.title(), kernel=kernel, flags=INTS, arity=2, doc=f"input {sign} other, for integers and bools.")
    for name, kernel, sign in (
        ("bitwise_and", "bit_and", "&"), ("bitwise_or", "bit_or", "|"), ("bitwise_xor", "bit_xor", "^"),
    )
)  # fmt: skip
bitwise_not = Op("BitwiseNot", kernel="invert", flags=INTS, doc="~input, for integers; logical not for bools.")
