"""Reductions along one dimension, softmax and its relatives, running sums.

DESIGN
a. x is contiguous and viewed as (outer, n, inner); n is reduced. inner == 1 is a row reduction (vectors along n),
   inner > 1 a column reduction (vectors along inner).
b. A long n is cut into ``blocks`` of ``block`` rows: unit = o * blocks + b reduces x[o, b*block : (b+1)*block, :] into
   y[unit, :], and a second call with (n = blocks, blocks = 1) reduces those partials in order. A wide inner is cut
   instead by the ``_columns`` twin: unit = o * ceil(inner / TILE) + t reduces the columns [t*TILE, (t+1)*TILE).
   The caller chooses by shape alone, so the bits never depend on the number of threads.
c. Accuracy. Rows: vector lanes over CHUNK elements, chunks added up in float64. Columns: trees of 8 rows, added up
   over a GROUP of rows, then the groups; a narrow inner lays rows side by side in WIDTH lanes, folded in halves.
d. Only sums and products may be reassociated (``_FAST``): nan and inf survive that. max and min compare integer keys.
e. A row shorter than a few vectors would leave exp to a scalar loop. ``softmax`` and its relatives therefore take exp
   of many short rows at once, in the output or packed into a buffer on the stack.
"""

import numpy as np
from numba import types
from numba.core.cgutils import alloca_once
from numba.extending import intrinsic, overload

from . import math as km
from .contract import JIT, T, U, dim, i8, jit, kernel, u1

CHUNK = 1024  # elements of a row that are added in their own type
TILE = 512  # columns reduced at a time, and a unit of the _columns kernels
GROUP = 512  # rows whose sum is added to the total
WIDTH = 256  # lanes of a narrow column reduction
PACK = 512  # elements in the stack buffer that packs short rows
SHORT = 64  # rows shorter than this are taken together

_FAST = {"reassoc", "contract"}


# --- helpers: typed accumulators ------------------------------------------------------------------------------------


@intrinsic
def stack(typing, like, count):
    """A buffer on the stack of ``count`` (a literal) elements of the type of ``like``; call it in the kernel itself."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    pointer = types.CPointer(like)

    def generate(context, builder, signature, arguments):
        slot = alloca_once(builder, context.get_data_type(like), size=count.literal_value)
        slot.align = 64
        return slot

    return pointer(like, count), generate


def _wide(v):
    """v as an accumulator: a float as float64, an integer as it is."""


@overload(_wide, jit_options=JIT)
def _wide_overload(v):
    if isinstance(v, types.Float):
        return lambda v: np.float64(v)
    return lambda v: v


@intrinsic
def _as(typing, y, v):
    """v converted to the element type of pointer y."""

    def generate(context, builder, signature, arguments):
        return context.cast(builder, arguments[1], v, y.dtype)

    return y.dtype(y, v), generate


def _key_of(nan_last):
    """``key(x)``: x as an integer in the same order, nan above all (or below all), -0 equal to 0.

    LLVM makes no vector reduction of a float max that must say what nan does; of an integer max it does.
    """

    @intrinsic
    def of_float(typing, x):
        key = types.int32 if x == types.float32 else types.int64

        def generate(context, builder, signature, arguments):
            word, value = context.get_value_type(key), arguments[0]
            top = (1 << (key.bitwidth - 1)) - 1
            bits = builder.bitcast(builder.fadd(value, value.type(0.0)), word)  # -0 + 0 = 0
            flip = builder.and_(builder.ashr(bits, word(key.bitwidth - 1)), word(top))
            isnan = builder.fcmp_unordered("uno", value, value)
            return builder.select(isnan, word(top if nan_last else -top - 1), builder.xor(bits, flip))

        return (key(x), generate) if isinstance(x, types.Float) else None

    def key(x):
        pass

    @overload(key, jit_options=JIT)
    def key_overload(x):
        if isinstance(x, types.Float):
            return lambda x: of_float(x)
        return (lambda x: np.uint8(x)) if x == types.boolean else (lambda x: x)

    return key


_high_key, _low_key = _key_of(True), _key_of(False)


@intrinsic
def _from_key(typing, like, key):
    """The float of the type of ``like`` whose ``_high_key`` is key."""

    def generate(context, builder, signature, arguments):
        bits = arguments[1]
        flip = builder.ashr(bits, bits.type(key.bitwidth - 1))
        flip = builder.and_(flip, bits.type((1 << (key.bitwidth - 1)) - 1))
        return builder.bitcast(builder.xor(bits, flip), context.get_value_type(like))

    return like(like, key), generate


# --- sum, sum of squares, prod, all, any ----------------------------------------------------------------------------


def _declare(name, fn, reference, doc):
    fn.__module__, fn.__doc__ = __name__, doc
    kernel(fn, name=name, fastmath=_FAST).reference(reference)


def _fold(name, out, identity, prepare, combine, numpy_fold, formula):
    """Declare ``name`` and ``name_columns``: fold prepare(x) by combine, starting from identity."""
    prepare = jit(fastmath=_FAST, forceinline=True)(prepare)
    combine = jit(fastmath=_FAST, forceinline=True)(combine)

    @jit(fastmath=_FAST)
    def row(y, x, at, count):
        total = _wide(_as(y, identity))
        for start in range(0, count, CHUNK):
            stop = start + CHUNK if start + CHUNK < count else count
            part = _as(y, identity)
            for j in range(at + start, at + stop):
                part = combine(part, prepare(y, x[j]))
            total = combine(total, _wide(part))
        return total

    @jit(fastmath=_FAST)
    def tree(y, x, at, rows, stride, width):
        # y[:width] = fold over rows of x[at + row * stride + column], eight rows at once
        for c in range(width):
            y[c] = _as(y, identity)
        first = rows % 8
        for j in range(first):
            a = at + j * stride
            for c in range(width):
                y[c] = combine(y[c], prepare(y, x[a + c]))
        for j in range(first, rows, 8):
            a0 = at + j * stride
            a1, a2, a3, a4 = a0 + stride, a0 + 2 * stride, a0 + 3 * stride, a0 + 4 * stride
            a5, a6, a7 = a0 + 5 * stride, a0 + 6 * stride, a0 + 7 * stride
            for c in range(width):
                v0 = combine(prepare(y, x[a0 + c]), prepare(y, x[a1 + c]))
                v1 = combine(prepare(y, x[a2 + c]), prepare(y, x[a3 + c]))
                v2 = combine(prepare(y, x[a4 + c]), prepare(y, x[a5 + c]))
                v3 = combine(prepare(y, x[a6 + c]), prepare(y, x[a7 + c]))
                y[c] = combine(y[c], combine(combine(v0, v1), combine(v2, v3)))

    @jit(fastmath=_FAST)
    def columns(y, to, lanes, x, at, rows, inner, width):
        # y[to : to + width] = fold over rows of x[at + row * inner + column]; width <= TILE
        m = 1  # rows side by side
        while width == inner and 2 * m * inner <= WIDTH and 2 * m <= rows:
            m *= 2
        for c in range(width):
            y[to + c] = _as(y, identity)
        for start in range(0, rows, GROUP * m):
            count = GROUP * m if start + GROUP * m < rows else rows - start
            tree(lanes, x, at + start * inner, count // m, m * inner, m * width)
            rest = at + (start + count - count % m) * inner
            for c in range(count % m * inner):
                lanes[c] = combine(lanes[c], prepare(lanes, x[rest + c]))
            half = m
            while half > 1:
                half //= 2
                for c in range(half * inner):
                    lanes[c] = combine(lanes[c], lanes[half * inner + c])
            for c in range(width):
                y[to + c] = combine(y[to + c], lanes[c])

    def blocks_kernel(y: out, x: T, n: dim, inner: dim, block: dim, blocks: dim, lo, hi):
        lanes = stack(_as(y, identity), TILE)
        for unit in range(lo, hi):
            o = unit // blocks
            first = (unit - o * blocks) * block
            rows = block if first + block < n else n - first
            at = (o * n + first) * inner
            if inner == 1:
                y[unit] = _as(y, row(y, x, at, rows))
            else:
                for start in range(0, inner, TILE):
                    width = TILE if start + TILE < inner else inner - start
                    columns(y, unit * inner + start, lanes, x, at + start, rows, inner, width)

    def columns_kernel(y: out, x: T, n: dim, inner: dim, lo, hi):
        lanes = stack(_as(y, identity), TILE)
        tiles = (inner + TILE - 1) // TILE
        for unit in range(lo, hi):
            o = unit // tiles
            first = (unit - o * tiles) * TILE
            width = TILE if first + TILE < inner else inner - first
            columns(y, o * inner + first, lanes, x, o * n * inner + first, n, inner, width)

    def blocks_reference(y, x, n, inner, block, blocks):
        x = x.reshape(-1, n, inner)
        for o in range(len(x)):
            for b in range(blocks):
                y.reshape(-1, blocks, inner)[o, b] = numpy_fold(x[o, b * block : (b + 1) * block])

    def columns_reference(y, x, n, inner):
        if y.size:
            for o, rows in enumerate(x.reshape(y.size // inner, n, inner)):
                y.reshape(-1, inner)[o] = numpy_fold(rows)

    where = "y (outer, blocks, inner), x (outer, n, inner); unit = o * blocks + b, rows [b*block, (b+1)*block)."
    _declare(name, blocks_kernel, blocks_reference, f"y = {formula} over blocks of n: {where}")
    where = "y (outer, inner), x (outer, n, inner); unit = o * ceil(inner / TILE) + tile of columns."
    _declare(f"{name}_columns", columns_kernel, columns_reference, f"y = {formula} over n: {where}")


def _wide64(x):
    return x.astype(np.float64 if x.dtype.kind == "f" else np.int64)


# name, output, identity, what enters (y gives the type), how two combine, NumPy over axis 0, formula
_fold("sum", U, 0, lambda y, v: _as(y, v), lambda a, b: a + b, lambda x: _wide64(x).sum(0), "sum(x)")
_fold("prod", U, 1, lambda y, v: _as(y, v), lambda a, b: a * b, lambda x: _wide64(x).prod(0), "prod(x)")
_fold(
    "sum_squares",
    U,
    0,
    lambda y, v: _as(y, v) * _as(y, v),
    lambda a, b: a + b,
    lambda x: (_wide64(x) ** 2).sum(0),
    "sum(x * x)",
)
_fold(
    "all", u1, 1, lambda y, v: _as(y, v != type(v)(0)), lambda a, b: type(a)(a & b), lambda x: x.all(0), "all(x != 0)"
)
_fold(
    "any", u1, 0, lambda y, v: _as(y, v != type(v)(0)), lambda a, b: type(a)(a | b), lambda x: x.any(0), "any(x != 0)"
)


# --- max and min ----------------------------------------------------------------------------------------------------


def _extreme(name, word, key, better, numpy_arg):
    """Declare ``name`` and ``name_columns``: value and index of the first extreme; the first nan wins."""
    better = jit(forceinline=True)(better)

    @jit
    def row(x, at, count):
        """Position of the first extreme of x[at : at + count]."""
        best, k = key(x[at]), 0
        if count < SHORT:
            for j in range(1, count):
                v = key(x[at + j])
                take = better(v, best)
                best, k = (v if take else best), (j if take else k)
            return k
        for j in range(at + 1, at + count):
            v = key(x[j])
            best = v if better(v, best) else best
        for start in range(at, at + count, 128):  # 128 at once whether it is here, then where
            stop = start + 128 if start + 128 < at + count else at + count
            found = False
            for j in range(start, stop):
                found |= key(x[j]) == best
            if found:
                k = start
                while key(x[k]) != best:
                    k += 1
                return k - at
        return 0

    @jit
    def columns(y, index, to, x, at, first, rows, stride, width):
        for c in range(width):
            y[to + c] = x[at + c]
            index[to + c] = first
        for j in range(1, rows):
            a = at + j * stride
            for c in range(width):
                take = better(key(x[a + c]), key(y[to + c]))
                y[to + c] = x[a + c] if take else y[to + c]
                index[to + c] = first + j if take else index[to + c]

    def blocks_kernel(
        y: T, index: i8, x: T, index_in: i8, n: dim, inner: dim, block: dim, blocks: dim, has_index: dim, lo, hi
    ):
        for unit in range(lo, hi):
            o = unit // blocks
            first = (unit - o * blocks) * block
            rows = block if first + block < n else n - first
            at = (o * n + first) * inner
            if inner == 1:
                k = row(x, at, rows)
                y[unit] = x[at + k]
                index[unit] = first + k
            else:
                columns(y, index, unit * inner, x, at, first, rows, inner, inner)
            if has_index != 0:
                for c in range(inner):
                    index[unit * inner + c] = index_in[(o * n + index[unit * inner + c]) * inner + c]

    def columns_kernel(y: T, index: i8, x: T, n: dim, inner: dim, lo, hi):
        tiles = (inner + TILE - 1) // TILE
        for unit in range(lo, hi):
            o = unit // tiles
            first = (unit - o * tiles) * TILE
            width = TILE if first + TILE < inner else inner - first
            columns(y, index, o * inner + first, x, o * n * inner + first, 0, n, inner, width)

    def blocks_reference(y, index, x, index_in, n, inner, block, blocks, has_index):
        x, y, index = x.reshape(-1, n, inner), y.reshape(-1, blocks, inner), index.reshape(-1, blocks, inner)
        for o in range(len(x)):
            for b in range(blocks):
                k = numpy_arg(x[o, b * block : (b + 1) * block], axis=0) + b * block
                y[o, b] = np.take_along_axis(x[o], k[None], 0)[0]
                index[o, b] = np.take_along_axis(index_in.reshape(x.shape)[o], k[None], 0)[0] if has_index else k

    def columns_reference(y, index, x, n, inner):
        blocks_reference(y, index, x, None, n, inner, n, 1, 0)

    where = "y, index (outer, blocks, inner), x (outer, n, inner); unit = o * blocks + b. Partials: index_in (as x)."
    _declare(name, blocks_kernel, blocks_reference, f"y, index = {word} over blocks of n >= 1: {where}")
    where = "y, index (outer, inner), x (outer, n, inner); unit = o * ceil(inner / TILE) + tile of columns."
    _declare(f"{name}_columns", columns_kernel, columns_reference, f"y, index = {word} over n >= 1: {where}")


_extreme("maxdim", "max", _high_key, lambda v, best: v > best, np.argmax)
_extreme("mindim", "min", _low_key, lambda v, best: v < best, np.argmin)


# --- softmax, log_softmax, logsumexp --------------------------------------------------------------------------------
# m = max of the row. All terms are -inf: m = -inf and x - m = nan. A term is +inf: x - m has a nan, hence the sum too.


@jit
def _row_max(x, at, n):
    if n < SHORT:
        m = _as(x, -np.inf)
        for j in range(at, at + n):  # a nan may be lost here: exp(nan) brings it back
            m = x[j] if x[j] > m else m
        return m
    best = _high_key(x[at])
    for j in range(at + 1, at + n):
        v = _high_key(x[j])
        best = v if v > best else best
    return _from_key(x[at], best)


def _row_sum_of(term):
    """``f(x, w, at, n)``: sum of term(x, w, j) over at <= j < at + n, in chunks as ``sum``."""

    @jit(fastmath=_FAST)
    def total_of(x, w, at, n):
        total = np.float64(0)
        for start in range(0, n, CHUNK):
            stop = start + CHUNK if start + CHUNK < n else n
            part = _as(x, 0)
            for j in range(at + start, at + stop):
                part += term(x, w, j)
            total += np.float64(part)
        return _as(x, total)

    return total_of


_row_sum = _row_sum_of(jit(lambda x, _, j: x[j]))
_row_dot = _row_sum_of(jit(fastmath=_FAST)(lambda x, w, j: x[j] * w[j]))
_row_sum_exp = _row_sum_of(jit(lambda x, m, j: km.exp(x[j] - m)))


@kernel
def softmax(y: T, x: T, n: dim, lo, hi):
    """y = exp(x - max) / sum(exp(x - max)) over rows; y, x (N, n); unit = row."""
    if n < SHORT:
        for r in range(lo, hi):
            m = _row_max(x, r * n, n)
            for j in range(r * n, r * n + n):
                y[j] = x[j] - m
        for j in range(lo * n, hi * n):
            y[j] = km.exp(y[j])
    else:
        for r in range(lo, hi):
            m = _row_max(x, r * n, n)
            for j in range(r * n, r * n + n):
                y[j] = km.exp(x[j] - m)
    for r in range(lo, hi):
        scale = T(1) / _row_sum(y, 0, r * n, n)
        for j in range(r * n, r * n + n):
            y[j] = y[j] * scale


@softmax.reference
def _softmax(y, x, n):
    x = x.astype(np.float64).reshape(-1, n)
    e = np.exp(x - x.max(1, keepdims=True))
    y.reshape(x.shape)[:] = e / e.sum(1, keepdims=True)


@kernel
def log_softmax(y: T, x: T, n: dim, lo, hi):
    """y = x - max - log(sum(exp(x - max))) over rows; y, x (N, n); unit = row."""
    e = stack(T(0), PACK)
    logs = stack(T(0), PACK)
    step = PACK // n if 0 < n < SHORT else 1
    for start in range(lo, hi, step):
        stop = start + step if start + step < hi else hi
        for r in range(start, stop):
            m = _row_max(x, r * n, n)
            for j in range(r * n, r * n + n):
                y[j] = x[j] - m
        if n < SHORT:
            for j in range((stop - start) * n):
                e[j] = km.exp(y[start * n + j])
            for r in range(stop - start):
                logs[r] = _row_sum(e, 0, r * n, n)
        else:
            logs[0] = _row_sum_exp(y, T(0), start * n, n)
        for r in range(stop - start):
            logs[r] = km.log(logs[r])
        for r in range(start, stop):
            c = logs[r - start]
            for j in range(r * n, r * n + n):
                y[j] = y[j] - c


@log_softmax.reference
def _log_softmax(y, x, n):
    x = x.astype(np.float64).reshape(-1, n)
    z = x - x.max(1, keepdims=True)
    y.reshape(x.shape)[:] = z - np.log(np.exp(z).sum(1, keepdims=True))


@kernel
def logsumexp(y: T, x: T, n: dim, lo, hi):
    """y = max + log(sum(exp(x - max))) over rows; y (N,), x (N, n); unit = row. max = +-inf is the result itself."""
    e = stack(T(0), PACK)
    top = stack(T(0), PACK)
    step = PACK // n if 0 < n < SHORT else 1
    for start in range(lo, hi, step):
        stop = start + step if start + step < hi else hi
        for r in range(start, stop):
            m = _row_max(x, r * n, n)
            m = T(0) if (m == T(np.inf)) | (m == T(-np.inf)) else m  # then exp(x) itself says -inf, inf or nan
            top[r - start] = m
            if n < SHORT:
                for j in range(n):
                    e[(r - start) * n + j] = x[r * n + j] - m
            else:
                y[r] = _row_sum_exp(x, m, r * n, n)
        if n < SHORT:
            for j in range((stop - start) * n):
                e[j] = km.exp(e[j])
            for r in range(start, stop):
                y[r] = _row_sum(e, 0, (r - start) * n, n)
        for r in range(start, stop):
            y[r] = km.log(y[r]) + top[r - start]


@logsumexp.reference
def _logsumexp(y, x, n):
    x = x.astype(np.float64).reshape(-1, n)
    m = x.max(1, keepdims=True)
    m = np.where(np.isinf(m), 0, m)
    y[:] = (np.log(np.exp(x - m).sum(1, keepdims=True)) + m)[:, 0]


@kernel(fastmath=_FAST)
def dsoftmax(dx: T, dy: T, y: T, n: dim, lo, hi):
    """dx = y * (dy - sum(dy * y)) over rows; all (N, n); unit = row."""
    for r in range(lo, hi):
        s = _row_dot(dy, y, r * n, n)
        for j in range(r * n, r * n + n):
            dx[j] = y[j] * (dy[j] - s)


@dsoftmax.reference
def _dsoftmax(dx, dy, y, n):
    dy, y = dy.astype(np.float64).reshape(-1, n), y.astype(np.float64).reshape(-1, n)
    dx.reshape(y.shape)[:] = y * (dy - (dy * y).sum(1, keepdims=True))


@kernel
def dlog_softmax(dx: T, dy: T, y: T, n: dim, lo, hi):
    """dx = dy - exp(y) * sum(dy) over rows; all (N, n); unit = row."""
    if n < SHORT:
        for j in range(lo * n, hi * n):
            dx[j] = km.exp(y[j])
        for r in range(lo, hi):
            s = _row_sum(dy, 0, r * n, n)
            for j in range(r * n, r * n + n):
                dx[j] = dy[j] - dx[j] * s
    else:
        for r in range(lo, hi):
            s = _row_sum(dy, 0, r * n, n)
            for j in range(r * n, r * n + n):
                dx[j] = dy[j] - km.exp(y[j]) * s


@dlog_softmax.reference
def _dlog_softmax(dx, dy, y, n):
    dy, y = dy.astype(np.float64).reshape(-1, n), y.astype(np.float64).reshape(-1, n)
    dx.reshape(y.shape)[:] = dy - np.exp(y) * dy.sum(1, keepdims=True)


# --- running sums and products --------------------------------------------------------------------------------------


@kernel
def cumsum(y: U, x: T, n: dim, inner: dim, lo, hi):
    """y[o, j, c] = sum(x[o, :j+1, c]); y, x (outer, n, inner); unit = o. Floats are added up in float64."""
    total = stack(_wide(U(0)), TILE)
    for o in range(lo, hi):
        for first in range(0, inner, TILE):
            width = TILE if first + TILE < inner else inner - first
            for c in range(width):
                total[c] = 0
            for j in range(n):
                at = (o * n + j) * inner + first
                for c in range(width):
                    total[c] += _wide(U(x[at + c]))
                    y[at + c] = U(total[c])


@cumsum.reference
def _cumsum(y, x, n, inner):
    y.reshape(-1, n, inner)[:] = _wide64(x).reshape(-1, n, inner).cumsum(1)


@kernel
def cumprod(y: U, x: T, n: dim, inner: dim, lo, hi):
    """y[o, j, c] = prod(x[o, :j+1, c]); y, x (outer, n, inner); unit = o. Floats are multiplied up in float64."""
    total = stack(_wide(U(0)), TILE)
    for o in range(lo, hi):
        for first in range(0, inner, TILE):
            width = TILE if first + TILE < inner else inner - first
            for c in range(width):
                total[c] = 1
            for j in range(n):
                at = (o * n + j) * inner + first
                for c in range(width):
                    total[c] *= _wide(U(x[at + c]))
                    y[at + c] = U(total[c])


@cumprod.reference
def _cumprod(y, x, n, inner):
    y.reshape(-1, n, inner)[:] = _wide64(x).reshape(-1, n, inner).cumprod(1)
