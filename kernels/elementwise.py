"""Elementwise kernels: one scalar function a row, two loops each.

DESIGN
a. ``add`` is the flat loop, over elements ``[lo, hi)`` of contiguous operands; ``add_strided`` the general one, over
   rows: the innermost dimension is a loop, the others are unravelled from the row number. Both inline the scalar.
b. LLVM guards a loop by an alias check and falls to scalar code where it fails, hence ``mode``: 0 distinct operands,
   1 and 2 the first or second is one number, 3 and 4 the same in place (y is a).
c. The tables at the end say everything: name, scalar function, whether the result is bool.
"""

import math

import numpy as np

from . import math as km
from .contract import T, U, dim, dims, f8s, jit, kernel, u1


def _unary(name, function, reference, to_bool=False):
    f = jit(function)

    def flat(y: U, x: T, mode: dim, lo, hi):
        if mode == 3:
            for i in range(lo, hi):
                y[i] = f(y[i])
        else:
            for i in range(lo, hi):
                y[i] = f(x[i])

    def flat_to(y: U, x: T, mode: dim, lo, hi):
        for i in range(lo, hi):
            y[i] = f(x[i])

    def strided(y: U, x: T, k: dim, n: dim, sy: dim, sx: dim, outer: dims, lo, hi):
        for r in range(lo, hi):
            oy, ox, t = 0, 0, r
            for d in range(k - 1, -1, -1):
                q = t // outer[3 * d]
                j = t - q * outer[3 * d]
                t = q
                oy += j * outer[3 * d + 1]
                ox += j * outer[3 * d + 2]
            if sy == 1 and sx == 1:
                for i in range(n):
                    y[oy + i] = f(x[ox + i])
            else:
                for i in range(n):
                    y[oy + i * sy] = f(x[ox + i * sx])

    _declare(name, flat_to if to_bool else flat, strided, reference)


def _unary_fast(name, function, reference, fast, beyond):
    """As _unary; where ``beyond(x)`` holds for no element of the range, ``fast`` gives the same and vectorises."""
    _unary(name, function, reference)
    f, g, h = (jit(one) for one in (function, fast, beyond))

    def flat(y: U, x: T, mode: dim, lo, hi):
        big = False
        for i in range(lo, hi):
            big |= h(x[i])
        if big:
            for i in range(lo, hi):
                y[i] = f(x[i])
        elif mode == 3:
            for i in range(lo, hi):
                y[i] = g(y[i])
        else:
            for i in range(lo, hi):
                y[i] = g(x[i])

    kernel(flat, name=name).reference(reference)


def _binary(name, function, reference, to_bool=False):
    f = jit(function, forceinline=True)  # pow is long: a call would keep its loop scalar

    def flat(y: U, a: T, b: T, mode: dim, lo, hi):
        if mode == 0:
            for i in range(lo, hi):
                y[i] = f(a[i], b[i])
        elif mode == 1:
            s = a[0]
            for i in range(lo, hi):
                y[i] = f(s, b[i])
        elif mode == 2:
            s = b[0]
            for i in range(lo, hi):
                y[i] = f(a[i], s)
        elif mode == 3:
            for i in range(lo, hi):
                y[i] = f(y[i], b[i])
        else:
            s = b[0]
            for i in range(lo, hi):
                y[i] = f(y[i], s)

    def flat_to(y: U, a: T, b: T, mode: dim, lo, hi):
        if mode == 0:
            for i in range(lo, hi):
                y[i] = f(a[i], b[i])
        elif mode == 1:
            s = a[0]
            for i in range(lo, hi):
                y[i] = f(s, b[i])
        else:
            s = b[0]
            for i in range(lo, hi):
                y[i] = f(a[i], s)

    def strided(y: U, a: T, b: T, k: dim, n: dim, sy: dim, sa: dim, sb: dim, outer: dims, lo, hi):
        for r in range(lo, hi):
            oy, oa, ob, t = 0, 0, 0, r
            for d in range(k - 1, -1, -1):
                q = t // outer[4 * d]
                j = t - q * outer[4 * d]
                t = q
                oy += j * outer[4 * d + 1]
                oa += j * outer[4 * d + 2]
                ob += j * outer[4 * d + 3]
            if sy == 1 and sa == 1 and sb == 1:
                for i in range(n):
                    y[oy + i] = f(a[oa + i], b[ob + i])
            elif sy == 1 and sa == 1 and sb == 0:
                s = b[ob]
                for i in range(n):
                    y[oy + i] = f(a[oa + i], s)
            elif sy == 1 and sa == 0 and sb == 1:
                s = a[oa]
                for i in range(n):
                    y[oy + i] = f(s, b[ob + i])
            else:
                for i in range(n):
                    y[oy + i * sy] = f(a[oa + i * sa], b[ob + i * sb])

    _declare(name, flat_to if to_bool else flat, strided, reference)


def _declare(name, flat, strided, reference):
    kernel(flat, name=name).reference(reference)
    kernel(strided, name=f"{name}_strided").reference(reference)


# --- scalar functions that are more than an operator ---------------------------------------------------------------


def _relu(x):
    return type(x)(0) if x <= type(x)(0) else x  # nan stays nan, -0 becomes 0


def _abs(x):
    return type(x)(abs(x))


def _sign(x):
    return type(x)(type(x)(x > type(x)(0)) - type(x)(x < type(x)(0)))


def _round(x):
    return np.rint(x)  # half to even, as PyTorch


def _maximum(a, b):
    return a if (a >= b) | (a != a) else b  # nan wins, as in NumPy


def _minimum(a, b):
    return a if (a <= b) | (a != a) else b


def _float_remainder(a, b):
    r = np.fmod(a, b)  # Numba has no math.fmod
    return r + b if (r != type(a)(0)) & ((r < type(a)(0)) != (b < type(b)(0))) else r  # the sign of b


def _float_floor_divide(a, b):
    """Python's //, by fmod, so that the quotient is not off by one where a / b rounds to an integer."""
    if b == type(b)(0):
        return a / b
    r = np.fmod(a, b)
    q = (a - r) / b
    q = q - type(a)(1) if (r != type(a)(0)) & ((r < type(a)(0)) != (b < type(b)(0))) else q
    if q == type(a)(0):
        return np.copysign(type(a)(0), a / b)
    whole = np.floor(q)
    return whole + type(a)(1) if q - whole > type(a)(0.5) else whole


def _int_remainder(a, b):
    return a % b if b != type(b)(0) else type(a)(0)  # the engine refuses zero divisors beforehand


def _int_floor_divide(a, b):
    if (a < 0) & (b == type(b)(-1)):
        return -a  # the least number wraps around, as in C
    return a // b if b != type(b)(0) else type(a)(0)


def _int_pow(a, b):
    result, base = type(a)(1), a
    while b > 0:  # square and multiply; the engine refuses negative exponents
        if b & 1:
            result = type(a)(result * base)
        base = type(a)(base * base)
        b >>= 1
    return result


def _drelu(dy, y):
    return type(dy)(0) if y <= type(y)(0) else dy  # y = nan passes the gradient, as PyTorch


def _dsigmoid(dy, y):
    return dy * (y * (type(y)(1) - y))


def _dtanh(dy, y):
    return dy * (type(y)(1) - y * y)


# --- the tables -----------------------------------------------------------------------------------------------------
# name, scalar function, NumPy reference; dtypes are the caller's choice (kernels compile on first use)

UNARY = [
    ("copy", lambda x: x, lambda x: x),  # also converts, from T to U; beyond an integer's range as C does
    ("neg", lambda x: -x, np.negative),
    ("abs", _abs, np.abs),
    ("sign", _sign, np.sign),
    ("square", lambda x: x * x, np.square),
    ("sqrt", lambda x: np.sqrt(x), np.sqrt),
    ("rsqrt", lambda x: km.rsqrt(x), lambda x: 1 / np.sqrt(x)),
    ("reciprocal", lambda x: type(x)(1) / x, lambda x: 1 / x),
    ("exp", lambda x: km.exp(x), np.exp),
    ("expm1", lambda x: km.expm1(x), np.expm1),
    ("log", lambda x: km.log(x), np.log),
    ("log1p", lambda x: km.log1p(x), np.log1p),
    ("tanh", lambda x: km.tanh(x), np.tanh),
    ("sigmoid", lambda x: km.sigmoid(x), lambda x: 1 / (1 + np.exp(-x))),
    ("softplus", lambda x: km.softplus(x), lambda x: np.logaddexp(x, 0)),
    ("erf", lambda x: km.erf(x), np.vectorize(math.erf, otypes=[float])),
    ("relu", _relu, lambda x: np.where(x <= 0, 0, x)),
    ("floor", lambda x: np.floor(x), np.floor),
    ("ceil", lambda x: np.ceil(x), np.ceil),
    ("trunc", lambda x: np.trunc(x), np.trunc),
    ("round", _round, np.rint),
    ("invert", lambda x: ~x, np.invert),
]
# right everywhere, and the same bits faster where no argument is huge
UNARY_FAST = [
    ("sin", lambda x: km.sin(x), np.sin, lambda x: km.sin_fast(x), lambda x: km.beyond_fast(x)),
    ("cos", lambda x: km.cos(x), np.cos, lambda x: km.cos_fast(x), lambda x: km.beyond_fast(x)),
]
UNARY_TO_BOOL = [
    ("isnan", lambda x: x != x, np.isnan),
    ("isinf", lambda x: (x == x) & (x - x != type(x)(0)), np.isinf),
    ("isfinite", lambda x: x - x == type(x)(0), np.isfinite),
    ("logical_not", lambda x: x == type(x)(0), np.logical_not),
]
BINARY = [
    ("add", lambda a, b: a + b, np.add),
    ("sub", lambda a, b: a - b, np.subtract),
    ("mul", lambda a, b: a * b, np.multiply),
    ("div", lambda a, b: a / b, np.divide),
    ("pow", lambda a, b: km.pow(a, b), np.power),
    ("int_pow", _int_pow, np.power),
    ("remainder", _float_remainder, np.remainder),
    ("int_remainder", _int_remainder, np.remainder),
    ("floor_divide", _float_floor_divide, np.floor_divide),
    ("int_floor_divide", _int_floor_divide, np.floor_divide),
    ("maximum", _maximum, np.maximum),
    ("minimum", _minimum, np.minimum),
    ("bit_and", lambda a, b: a & b, np.bitwise_and),
    ("bit_or", lambda a, b: a | b, np.bitwise_or),
    ("bit_xor", lambda a, b: a ^ b, np.bitwise_xor),
    # derivatives of activations, fused: (dy, y) -> dx
    ("drelu", _drelu, lambda dy, y: np.where(y <= 0, 0, dy)),
    ("dsigmoid", _dsigmoid, lambda dy, y: dy * y * (1 - y)),
    ("dtanh", _dtanh, lambda dy, y: dy * (1 - y * y)),
]
COMPARE = [
    ("eq", lambda a, b: a == b, np.equal),
    ("ne", lambda a, b: a != b, np.not_equal),
    ("lt", lambda a, b: a < b, np.less),
    ("le", lambda a, b: a <= b, np.less_equal),
    ("gt", lambda a, b: a > b, np.greater),
    ("ge", lambda a, b: a >= b, np.greater_equal),
    ("logical_and", lambda a, b: (a != type(a)(0)) & (b != type(b)(0)), np.logical_and),
    ("logical_or", lambda a, b: (a != type(a)(0)) | (b != type(b)(0)), np.logical_or),
    ("logical_xor", lambda a, b: (a != type(a)(0)) != (b != type(b)(0)), np.logical_xor),
]

for _row in UNARY:
    _unary(*_row)
for _row in UNARY_FAST:
    _unary_fast(*_row)
for _row in UNARY_TO_BOOL:
    _unary(*_row, to_bool=True)
for _row in BINARY:
    _binary(*_row)
for _row in COMPARE:
    _binary(*_row, to_bool=True)


# --- filling, selection -----------------------------------------------------------------------------------------------


@kernel
def where_strided(y: T, c: u1, a: T, b: T, k: dim, n: dim, sy: dim, sc: dim, sa: dim, sb: dim, outer: dims, lo, hi):
    """y = a where c else b, over rows of n."""
    for r in range(lo, hi):
        oy, oc, oa, ob, t = 0, 0, 0, 0, r
        for d in range(k - 1, -1, -1):
            q = t // outer[5 * d]
            j = t - q * outer[5 * d]
            t = q
            oy += j * outer[5 * d + 1]
            oc += j * outer[5 * d + 2]
            oa += j * outer[5 * d + 3]
            ob += j * outer[5 * d + 4]
        if sy == 1 and sc == 1 and sa == 1 and sb == 1:
            for i in range(n):
                y[oy + i] = a[oa + i] if c[oc + i] != 0 else b[ob + i]
        else:
            for i in range(n):
                y[oy + i * sy] = a[oa + i * sa] if c[oc + i * sc] != 0 else b[ob + i * sb]


@kernel
def clamp(y: T, x: T, low: T, high: T, lo, hi):
    """y = min(max(x, low[0]), high[0]) over elements; nan stays nan."""
    bottom, top = low[0], high[0]
    for i in range(lo, hi):
        v = x[i]
        v = bottom if v < bottom else v
        y[i] = top if v > top else v


@kernel
def fill(y: T, v: T, lo, hi):
    """y[:] = v[0]."""
    value = v[0]
    for i in range(lo, hi):
        y[i] = value


@kernel
def arange(y: T, start: f8s, step: f8s, lo, hi):
    """y[i] = start + i * step, computed in float64."""
    for i in range(lo, hi):
        y[i] = T(start + i * step)
