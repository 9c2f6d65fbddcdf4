"""Elementwise kernels: one scalar function a row of a table, one loop each, and how any strides are brought to it.

DESIGN
a. ``add`` is a flat loop over elements ``[lo, hi)`` of contiguous operands. For other strides ``strided_binary``
   calls it by its address: over rows, the innermost dimension, the others unravelled from their number. What does
   not run along the rows is first brought into a buffer on the stack by ``copy_strided``, PIECE elements of several
   rows at a time. The engine puts the dimension along which such an operand runs, if there is one, last of the outer
   ones; a tile of that and of the innermost dimension is then transposed in registers.
b. LLVM guards a loop by an alias check and falls to scalar code where it fails, hence ``mode``: 0 distinct operands,
   1 and 2 the first or second is one number, 3 and 4 the same in place (y is a).
c. A copy between tensors of one dtype needs no buffer: ``copy_strided`` moves rows and tiles at once.
d. The tables at the end say everything: name, scalar function, whether the result is bool.
"""

import math

import numpy as np

from . import math as km
from .contract import T, U, code, dim, dims, f8s, jit, kernel, u1
from .lanes import BLOCK, LANES, after, call, load, prefetch, same, splat, spread_load, spread_store, stack, store, turn

PIECE = 4096  # elements of an operand in the stack buffer
ROOM = PIECE + LANES
SPREAD = 1024  # of those whose output does not lie side by side: it is still in the first cache when it is written
TILE = 128  # columns of a tile that is transposed
NARROW = 64  # rows up to this length are computed together; of whole vectors, or of spread outputs, up to half of it


def _from_every(s):
    """``row(y, to, x, at, width)``: y[to + c] = x[at + s * c]."""
    more = LANES + 1  # elements follow, so that all in between may be read

    @jit
    def row(y, to, x, at, width):
        whole = (width - 1) // LANES * LANES
        for c in range(0, whole, LANES):
            store(y, to + c, spread_load(x, at + s * c, more, s))
        spread_store(y, to + whole, spread_load(x, at + s * whole, width - whole, s), width - whole, 1)

    return row


def _to_every(s):
    """``row(y, to, x, at, width)``: y[to + s * c] = x[at + c]."""

    @jit
    def row(y, to, x, at, width):
        whole = width // LANES * LANES
        for c in range(0, whole, LANES):
            spread_store(y, to + s * c, load(x, at + c, LANES, x[at]), LANES, s)
        if whole < width:
            spread_store(y, to + s * whole, load(x, at + whole, width - whole, x[at]), width - whole, s)

    return row


_every2, _every3, _every4, _backwards = [_from_every(s) for s in (2, 3, 4, -1)]
_to_every2, _to_every3, _to_every4 = [_to_every(s) for s in (2, 3, 4)]


@jit
def _ask(x, at, n):
    """Have n elements brought nearer."""
    for c in range(0, n, LANES):
        prefetch(x, at + c)


@jit
def _rows(y, to, hop_y, x, at, hop_x, lines, width):
    """y[to + i * hop_y + c] = x[at + i * hop_x + c]; short rows far apart are asked for: hardware follows long ones."""
    whole, far = (width - 1) // LANES * LANES, abs(hop_x) > width + LANES
    ahead = max(1, 1024 // width) * hop_x
    for i in range(lines):
        p, q = to + i * hop_y, at + i * hop_x
        if far:
            _ask(x, q + ahead, width)
        for c in range(0, whole, LANES):
            store(y, p + c, load(x, q + c, LANES, x[q]))
        spread_store(y, p + whole, load(x, q + whole, width - whole, x[q]), width - whole, 1)


@jit
def _line(y, to, sy, x, at, sx, width):
    """y[to + c * sy] = x[at + c * sx]."""
    if sy == 1 and sx == 0:
        v, whole = splat(x[at]), width // LANES * LANES
        for c in range(0, whole, LANES):
            store(y, to + c, v)
        spread_store(y, to + whole, v, width - whole, 1)
    elif sy == 1 and sx == 2:
        _every2(y, to, x, at, width)
    elif sy == 1 and sx == 3:
        _every3(y, to, x, at, width)
    elif sy == 1 and sx == 4:
        _every4(y, to, x, at, width)
    elif sy == 1 and sx == -1:
        _backwards(y, to, x, at, width)
    elif sy == 2 and sx == 1:
        _to_every2(y, to, x, at, width)
    elif sy == 3 and sx == 1:
        _to_every3(y, to, x, at, width)
    elif sy == 4 and sx == 1:
        _to_every4(y, to, x, at, width)
    else:
        for c in range(width):
            y[to + c * sy] = x[at + c * sx]


@jit
def _turned(y, to, sy, x, at, sx, rows, width):
    """y[to + r * sy + c] = x[at + r + c * sx], by blocks; hardware does not foresee where the next lines of x lie."""
    high, wide, ahead = rows // BLOCK * BLOCK, width // BLOCK * BLOCK, min(width, TILE)
    for top in range(0, high, 2 * BLOCK):
        bottom = min(top + 2 * BLOCK, high)
        for left in range(0, wide, 2 * BLOCK):
            for c in range(left + ahead, left + ahead + 2 * BLOCK):
                if top == 0:
                    prefetch(x, at + c * sx)
                prefetch(x, at + top + 2 * BLOCK - 1 + c * sx)
            for r in range(top, bottom, BLOCK):
                for c in range(left, min(left + 2 * BLOCK, wide), BLOCK):
                    turn(y, to + r * sy + c, sy, x, at + r + c * sx, sx)
    for r in range(high):
        for c in range(wide, width):
            y[to + r * sy + c] = x[at + r + c * sx]
    for r in range(high, rows):
        for c in range(width):
            y[to + r * sy + c] = x[at + r + c * sx]


# --- any strides ------------------------------------------------------------------------------------------------------


@kernel
def copy_strided(y: T, x: T, k: dim, n: dim, sy: dim, sx: dim, outer: dims, lo, hi):
    """y = x, which do not overlap, over rows of n.

    The strided kernels call it by its address, so that it need not be compiled into each of them.
    """
    last = 3 * (k - 1)
    run, ty, tx = (outer[last], outer[last + 1], outer[last + 2]) if k > 0 else (1, 0, 0)
    turned = sy == 1 and tx == 1 < sx and run >= BLOCK
    across = 0 < tx < sx and run > n and (n < BLOCK or not turned)
    r = lo
    while r < hi:
        oy, ox, t, j = 0, 0, r, 0
        for d in range(k - 1, -1, -1):
            q = t // outer[3 * d]
            i = t - q * outer[3 * d]
            t = q
            oy += i * outer[3 * d + 1]
            ox += i * outer[3 * d + 2]
            j = i if d == k - 1 else j
        rows = min(run - j, hi - r)
        if turned and not across:
            _turned(y, oy, ty, x, ox, sx, rows, n)
        else:
            lines, length, hop_y, hop_x, step_y, step_x = rows, n, ty, tx, sy, sx
            if across:
                lines, length, hop_y, hop_x, step_y, step_x = n, rows, sy, sx, ty, tx
            if step_y == 1 and step_x == 1:
                _rows(y, oy, hop_y, x, ox, hop_x, lines, length)
            else:
                for i in range(lines):
                    _line(y, oy + i * hop_y, step_y, x, ox + i * hop_x, step_x, length)
        r += rows


@copy_strided.reference
def _copy_strided(y, x, k, n, sy, sx, *outer):
    def viewed(array, inner, at):
        steps = [step * array.itemsize for step in (*outer[at::3], inner)]
        return np.lib.stride_tricks.as_strided(array, (*outer[::3], n), steps)

    viewed(y, sy, 1)[...] = viewed(x, sx, 2)


@kernel
def strided_unary(
    y: U, x: T, flat: code, packing: code, unpacking: code, k: dim, n: dim, sy: dim, sx: dim, outer: dims, lo, hi
):
    """y = f(x), over rows of n; ``flat`` is the address of the kernel of f, the others ``copy_strided`` for T and U."""
    packed, out = stack(T(0), ROOM), stack(U(0), PIECE)
    last = 3 * (k - 1)
    run, ty, tx = (outer[last], outer[last + 1], outer[last + 2]) if k > 0 else (1, 0, 0)
    narrow = n <= (NARROW if sy == 1 and ty == n and n % LANES != 0 else NARROW // 2)
    unpacks = sy != 1 or (narrow and ty != n)
    packs = sx != 1 or (narrow and tx != n)
    mode = 3 if same(y, x) and not packs else 0
    piece = SPREAD if unpacks else PIECE
    width = min(n, TILE if packs and 0 < tx < sx and run >= BLOCK else piece)
    depth = piece // width if packs or unpacks else hi
    r = lo
    while r < hi:
        oy, ox, t, j = 0, 0, r, 0
        for d in range(k - 1, -1, -1):
            q = t // outer[3 * d]
            i = t - q * outer[3 * d]
            t = q
            oy += i * outer[3 * d + 1]
            ox += i * outer[3 * d + 2]
            j = i if d == k - 1 else j
        rows = min(depth, run - j, hi - r)
        for c in range(0, n, width):
            w = min(width, n - c)
            if packs:
                call(packing, rows, (packed, after(x, ox + c * sx)), (1, w, 1, sx, rows, w, tx))
            a, at, step = (packed, 0, w) if packs else (x, ox + c, tx)
            if unpacks and step == w:
                call(flat, rows * w, (out, after(a, at)), (0,))
                call(unpacking, rows, (after(y, oy + c * sy), out), (1, w, sy, 1, rows, ty, w))
                continue
            if narrow:
                call(flat, rows * n, (after(y, oy), after(a, at)), (mode,))
                continue
            for i in range(rows):
                to = oy + i * ty + c * sy
                call(flat, w, (out if unpacks else after(y, to), after(a, at + i * step)), (mode,))
                if unpacks:
                    call(unpacking, 1, (after(y, to), out), (0, w, sy, 1))
        r += rows


@kernel
def strided_binary(
    y: U,
    a: T,
    b: T,
    flat: code,
    packing: code,
    unpacking: code,
    k: dim,
    n: dim,
    sy: dim,
    sa: dim,
    sb: dim,
    outer: dims,
    lo,
    hi,
):
    """y = f(a, b), over rows of n, as ``strided_unary``."""
    packed_a, packed_b, out = stack(T(0), ROOM), stack(T(0), ROOM), stack(U(0), PIECE)
    last = 4 * (k - 1)
    run, ty, ta, tb = (outer[last], outer[last + 1], outer[last + 2], outer[last + 3]) if k > 0 else (1, 0, 0, 0)
    narrow = n <= (NARROW if sy == 1 and ty == n and n % LANES != 0 else NARROW // 2)
    unpacks = sy != 1 or (narrow and ty != n)
    packs_a = sa > 1 or (sa == 0 and sb == 0) or (narrow and (ta != n or sa == 0))
    packs_b = sb > 1 or (narrow and (tb != n or sb == 0))
    mode = 1 if sa == 0 and not packs_a else (2 if sb == 0 and not packs_b else 0)
    mode = (4 if mode == 2 else 3) if same(y, a) and not packs_a else mode
    turned = ((packs_a and 0 < ta < sa) or (packs_b and 0 < tb < sb)) and run >= BLOCK
    piece = SPREAD if unpacks else PIECE
    width = min(n, TILE if turned else piece)
    depth = piece // width if packs_a or packs_b or unpacks else hi
    ahead = max(1, 1024 // width)
    kept_a, kept_b = -1, -1  # of narrow rows: where a buffer that serves the whole run was filled from
    r = lo
    while r < hi:
        oy, oa, ob, t, j = 0, 0, 0, r, 0
        for d in range(k - 1, -1, -1):
            q = t // outer[4 * d]
            i = t - q * outer[4 * d]
            t = q
            oy += i * outer[4 * d + 1]
            oa += i * outer[4 * d + 2]
            ob += i * outer[4 * d + 3]
            j = i if d == k - 1 else j
        rows = min(depth, run - j, hi - r)
        for c in range(0, n, width):
            w = min(width, n - c)
            if packs_a and kept_a != oa:
                many = min(depth, run) if ta == 0 else rows
                call(packing, many, (packed_a, after(a, oa + c * sa)), (1, w, 1, sa, many, w, ta))
                kept_a = oa if narrow and ta == 0 else -1
            if packs_b and kept_b != ob:
                many = min(depth, run) if tb == 0 else rows
                call(packing, many, (packed_b, after(b, ob + c * sb)), (1, w, 1, sb, many, w, tb))
                kept_b = ob if narrow and tb == 0 else -1
            pa, qa, ra = (packed_a, 0, w) if packs_a else (a, oa + c * sa, ta)
            pb, qb, rb = (packed_b, 0, w) if packs_b else (b, ob + c * sb, tb)
            if unpacks and mode == 0 and ra == w and rb == w:
                call(flat, rows * w, (out, after(pa, qa), after(pb, qb)), (0,))
                call(unpacking, rows, (after(y, oy + c * sy), out), (1, w, sy, 1, rows, ty, w))
                continue
            if narrow:
                call(flat, rows * n, (after(y, oy), after(pa, qa), after(pb, qb)), (mode,))
                continue
            for i in range(rows):
                to = oy + i * ty + c * sy
                z = out if unpacks else after(y, to)
                if not packs_a and sa == 1 and ta > n:
                    _ask(a, oa + c * sa + (i + ahead) * ta, w)
                if not packs_b and sb == 1 and tb > n:
                    _ask(b, ob + c * sb + (i + ahead) * tb, w)
                call(flat, w, (z, after(pa, qa + i * ra), after(pb, qb + i * rb)), (mode,))
                if unpacks:
                    call(unpacking, 1, (after(y, to), out), (0, w, sy, 1))
        r += rows


# --- one loop each ----------------------------------------------------------------------------------------------------


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

    kernel(flat_to if to_bool else flat, name=name).reference(reference)


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

    kernel(flat_to if to_bool else flat, name=name).reference(reference)


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
    if b < 0:  # rounded towards zero, and 0 for 1 / 0, as PyTorch
        return type(a)(a == 1) if a != type(a)(-1) else a if b & 1 else type(a)(1)
    while b > 0:  # square and multiply
        if b & 1:
            result = type(a)(result * base)
        base = type(a)(base * base)
        b >>= 1
    return result


def _np_int_pow(a, b):
    inverse = (np.abs(a) == 1) * np.where(b & 1, a, 1)
    return np.where(b < 0, inverse, np.power(a, np.maximum(b, 0)))


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
    ("int_pow", _int_pow, _np_int_pow),
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
