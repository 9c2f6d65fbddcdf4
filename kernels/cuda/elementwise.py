"""Elementwise kernels: one scalar function a row of the CPU's tables, one flat loop and one for any strides each.

DESIGN
a. ``add`` runs over contiguous operands, two times four elements a thread where all of them are aligned: both are
   loaded before anything is stored, since a load never moves before a store that might change what it reads. With the
   32 registers that this takes, 64 KB an operand and multiprocessor are under way, where 18 KB keep an H100's memory
   busy. Memory sees each operand once, each result once. ``mode`` as on the CPU: 0 distinct operands, 1 and 2 the first
   or second is one number, 3 and 4 the same in place (y is a).
b. ``add@strided`` is what the CPU does by calling ``add`` from ``strided_binary``: the same buffers and dims, but for
   the addresses. One thread an element. Where an input runs along the last outer dimension, blocks cover tiles of SIDE
   x SIDE elements, so that what one warp leaves of a cache line another one reads.
c. Loops are ``while``, and the long ones have two ends: Numba divides to know how often a ``range`` with a step runs,
   and NVVM to unroll a loop with one end, each time 64-bit numbers, which takes as long as the elements do.
d. Functions that the CPU has from its own ``math.py`` are CUDA's here.
"""

import math

from numba import cuda

from .. import elementwise as cpu
from .contract import FLOATS, THREADS, T, U, dim, dims, f8s, jit, kernel, u1
from .parts import aligned, load4, rint, split, store4

STEP = 4 * THREADS
PER = 2 * STEP
SIDE = 16  # of a tile, which is as many elements as a block has threads: 1 << 8
WORTH = 8  # rows and columns from which on tiles are
_NUMBERS = (("float32", ""), ("float64", ""), ("int64", ""))
_WHOLE = (("int64", ""), ("uint8", ""))
_BITS = (*_WHOLE, ("bool", ""))
_TO_BOOL = (("float32", "bool"), ("float64", "bool"), ("int64", "bool"))
_COPY = (("float32", ""), ("float32", "float64"), ("float64", "float32"), ("int64", "float32"), ("float32", "int64"))
_COPY += (("bool", "float32"), ("float32", "bool"), ("int64", "bool"), ("uint8", "bool"), ("int64", "int32"))
TYPES = {
    **dict.fromkeys(["neg", "abs", "sign", "square", "relu", "add", "sub", "mul", "maximum", "minimum"], _NUMBERS),
    **dict.fromkeys(["int_pow", "int_remainder", "int_floor_divide"], _WHOLE),
    **dict.fromkeys(["invert", "bit_and", "bit_or", "bit_xor"], _BITS),
    **{row[0]: _TO_BOOL for row in [*cpu.UNARY_TO_BOOL, *cpu.COMPARE]},
    "copy": _COPY,
}

# --- scalar functions that are not the CPU's --------------------------------------------------------------------------


def _sigmoid(x):
    e = math.exp(-abs(x))  # no overflow, and denormal where the result is
    return (e if x < type(x)(0) else type(x)(1)) / (type(x)(1) + e)


def _softplus(x):
    return (x if x > type(x)(0) else type(x)(0)) + math.log1p(math.exp(-abs(x))) if x == x else x


def _remainder(a, b):
    r = math.fmod(a, b)
    return r + b if (r != type(a)(0)) & ((r < type(a)(0)) != (b < type(b)(0))) else r  # the sign of b


def _floor_divide(a, b):
    """Python's //, by fmod, so that the quotient is not off by one where a / b rounds to an integer."""
    if b == type(b)(0):
        return a / b
    r = math.fmod(a, b)
    q = (a - r) / b
    q = q - type(a)(1) if (r != type(a)(0)) & ((r < type(a)(0)) != (b < type(b)(0))) else q
    if q == type(a)(0):
        return math.copysign(type(a)(0), a / b)
    whole = math.floor(q)
    return whole + type(a)(1) if q - whole > type(a)(0.5) else whole


OWN = {
    "sqrt": lambda x: math.sqrt(x),
    "rsqrt": lambda x: type(x)(1) / math.sqrt(x),
    "exp": lambda x: math.exp(x),
    "expm1": lambda x: math.expm1(x),
    "log": lambda x: math.log(x),
    "log1p": lambda x: math.log1p(x),
    "tanh": lambda x: math.tanh(x),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
    "erf": lambda x: math.erf(x),
    "sin": lambda x: math.sin(x),
    "cos": lambda x: math.cos(x),
    "floor": lambda x: math.floor(x),
    "ceil": lambda x: math.ceil(x),
    "trunc": lambda x: math.trunc(x),
    "round": lambda x: rint(x),
    "pow": lambda a, b: math.pow(a, b),
    "remainder": _remainder,
    "floor_divide": _floor_divide,
}

# --- any strides ------------------------------------------------------------------------------------------------------


def _blocks(units, dims):
    return -(-units * dims[1] // THREADS)


@jit
def _count(units, n, run, turned):
    """How many numbers ``_place`` knows."""
    if turned:
        return split(units, run)[0] * ((run + SIDE - 1) >> 4) * ((n + SIDE - 1) >> 4) << 8
    return units * n


@jit
def _place(e, n, run, turned):
    """Number e as (number among the further dimensions, number along the last outer one, number along the row)."""
    if turned:
        t, column = split(e >> 8, (n + SIDE - 1) >> 4)
        rest, row = split(t, (run + SIDE - 1) >> 4)
        return rest, row * SIDE + (e >> 4 & 15), column * SIDE + (e & 15)
    t, c = split(e, n)
    rest, j = split(t, run)
    return rest, j, c


def _strided_unary(f):
    def strided(y: U, x: T, k: dim, n: dim, sy: dim, sx: dim, outer: dims, units):
        run, ty, tx = 1, 0, 0
        if k > 0:
            run, ty, tx = outer[3 * k - 3], outer[3 * k - 2], outer[3 * k - 1]
        turned = 0 < tx < sx and run >= WORTH and n >= WORTH
        for e in range(cuda.grid(1), _count(units, n, run, turned), cuda.gridsize(1)):
            rest, j, c = _place(e, n, run, turned)
            if c < n and j < run:
                oy, ox = c * sy + j * ty, c * sx + j * tx
                for d in range(k - 2, -1, -1):
                    rest, i = split(rest, outer[3 * d])
                    oy += i * outer[3 * d + 1]
                    ox += i * outer[3 * d + 2]
                y[oy] = U(f(T(x[ox])))

    return strided


def _strided_binary(f):
    def strided(y: U, a: T, b: T, k: dim, n: dim, sy: dim, sa: dim, sb: dim, outer: dims, units):
        run, ty, ta, tb = 1, 0, 0, 0
        if k > 0:
            run, ty, ta, tb = outer[4 * k - 4], outer[4 * k - 3], outer[4 * k - 2], outer[4 * k - 1]
        turned = (0 < ta < sa or 0 < tb < sb) and run >= WORTH and n >= WORTH
        for e in range(cuda.grid(1), _count(units, n, run, turned), cuda.gridsize(1)):
            rest, j, c = _place(e, n, run, turned)
            if c < n and j < run:
                oy, oa, ob = c * sy + j * ty, c * sa + j * ta, c * sb + j * tb
                for d in range(k - 2, -1, -1):
                    rest, i = split(rest, outer[4 * d])
                    oy += i * outer[4 * d + 1]
                    oa += i * outer[4 * d + 2]
                    ob += i * outer[4 * d + 3]
                y[oy] = U(f(T(a[oa]), T(b[ob])))

    return strided


@kernel(blocks=_blocks, types=_NUMBERS)
def where_strided(y: T, c: u1, a: T, b: T, k: dim, n: dim, sy: dim, sc: dim, sa: dim, sb: dim, outer: dims, units):
    """y = a where c else b, over rows of n."""
    for e in range(cuda.grid(1), units * n, cuda.gridsize(1)):
        rest, column = split(e, n)
        oy, oc, oa, ob = column * sy, column * sc, column * sa, column * sb
        for d in range(k - 1, -1, -1):
            rest, i = split(rest, outer[5 * d])
            oy += i * outer[5 * d + 1]
            oc += i * outer[5 * d + 2]
            oa += i * outer[5 * d + 3]
            ob += i * outer[5 * d + 4]
        y[oy] = a[oa] if c[oc] != 0 else b[ob]


# --- one loop each ----------------------------------------------------------------------------------------------------


def _unary(name, function):
    f, types = jit(function), TYPES.get(name, FLOATS)

    def flat(y: U, x: T, mode: dim, units):
        whole = units & ~3 if aligned(y) and aligned(x) else 0
        step = 4 * cuda.blockDim.x
        i = 2 * step * cuda.blockIdx.x + 4 * cuda.threadIdx.x
        while i < whole:
            p, q, r, s = load4(x, i)
            if i + step >= whole:
                store4(y, i, U(f(T(p))), U(f(T(q))), U(f(T(r))), U(f(T(s))))
                break
            a, b, c, d = load4(x, i + step)
            store4(y, i, U(f(T(p))), U(f(T(q))), U(f(T(r))), U(f(T(s))))
            store4(y, i + step, U(f(T(a))), U(f(T(b))), U(f(T(c))), U(f(T(d))))
            i += 2 * step * cuda.gridDim.x
        i = whole + cuda.grid(1)
        while i < units:
            y[i] = U(f(T(x[i])))
            i += cuda.gridsize(1)

    kernel(flat, name=name, per=PER, types=types)
    kernel(_strided_unary(f), name=f"{name}@strided", blocks=_blocks, types=types[:1])


def _binary(name, function):
    f, types = jit(function), TYPES.get(name, FLOATS)

    @jit
    def some(x, i, one):
        if one:
            v = x[0]
            return v, v, v, v
        return load4(x, i)

    def flat(y: U, a: T, b: T, mode: dim, units):
        one_a, one_b = mode == 1, mode == 2 or mode == 4
        whole = units & ~3 if aligned(y) and (one_a or aligned(a)) and (one_b or aligned(b)) else 0
        step = 4 * cuda.blockDim.x
        i = 2 * step * cuda.blockIdx.x + 4 * cuda.threadIdx.x
        while i < whole:
            a0, a1, a2, a3 = some(a, i, one_a)
            b0, b1, b2, b3 = some(b, i, one_b)
            if i + step >= whole:
                store4(y, i, U(f(T(a0), T(b0))), U(f(T(a1), T(b1))), U(f(T(a2), T(b2))), U(f(T(a3), T(b3))))
                break
            c0, c1, c2, c3 = some(a, i + step, one_a)
            d0, d1, d2, d3 = some(b, i + step, one_b)
            store4(y, i, U(f(T(a0), T(b0))), U(f(T(a1), T(b1))), U(f(T(a2), T(b2))), U(f(T(a3), T(b3))))
            store4(y, i + step, U(f(T(c0), T(d0))), U(f(T(c1), T(d1))), U(f(T(c2), T(d2))), U(f(T(c3), T(d3))))
            i += 2 * step * cuda.gridDim.x
        i = whole + cuda.grid(1)
        while i < units:
            y[i] = U(f(T(a[0 if one_a else i]), T(b[0 if one_b else i])))
            i += cuda.gridsize(1)

    kernel(flat, name=name, per=PER, types=types)
    kernel(_strided_binary(f), name=f"{name}@strided", blocks=_blocks, types=types[:1])


for _name, _function, *_ in [*cpu.UNARY, *cpu.UNARY_FAST, *cpu.UNARY_TO_BOOL]:
    _unary(_name, OWN.get(_name, _function))
for _name, _function, *_ in [*cpu.BINARY, *cpu.COMPARE]:
    _binary(_name, OWN.get(_name, _function))


# --- filling, selection -----------------------------------------------------------------------------------------------


@jit
def _clamp(v, bottom, top):
    v = bottom if v < bottom else v
    return top if v > top else v


@kernel(per=STEP, types=_NUMBERS)
def clamp(y: T, x: T, low: T, high: T, units):
    """y = min(max(x, low[0]), high[0]) over elements; nan stays nan."""
    bottom, top = low[0], high[0]
    whole = units & ~3 if aligned(y) and aligned(x) else 0
    i = 4 * cuda.grid(1)
    while i < whole:
        a, b, c, d = load4(x, i)
        a, b, c, d = _clamp(a, bottom, top), _clamp(b, bottom, top), _clamp(c, bottom, top), _clamp(d, bottom, top)
        store4(y, i, a, b, c, d)
        i += 4 * cuda.gridsize(1)
    i = whole + cuda.grid(1)
    while i < units:
        y[i] = _clamp(x[i], bottom, top)
        i += cuda.gridsize(1)


@kernel(per=STEP, types=_NUMBERS)
def fill(y: T, v: T, units):
    """y[:] = v[0]."""
    value = v[0]
    whole = units & ~3 if aligned(y) else 0
    i = 4 * cuda.grid(1)
    while i < whole:
        store4(y, i, value, value, value, value)
        i += 4 * cuda.gridsize(1)
    i = whole + cuda.grid(1)
    while i < units:
        y[i] = value
        i += cuda.gridsize(1)


@kernel(per=STEP, types=_NUMBERS)
def arange(y: T, start: f8s, step: f8s, units):
    """y[i] = start + i * step, computed in float64."""
    for i in range(cuda.grid(1), units, cuda.gridsize(1)):
        y[i] = T(start + i * step)
