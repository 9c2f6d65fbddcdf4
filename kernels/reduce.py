"""Reductions along one dimension, softmax and its relatives, running sums.

DESIGN
a. x is contiguous and viewed as (outer, n, inner); n is reduced. inner == 1 is a row reduction (vectors along n), the
   ``_rows`` twins; inner > 1 a column reduction (vectors along inner). They are kernels of their own, since most
   programs need one of them and compiling both takes twice as long.
b. A long n is cut into ``blocks`` of ``block`` rows: unit = o * blocks + b reduces x[o, b*block : (b+1)*block, :] into
   y[unit, :], and a second call with (n = blocks, blocks = 1) reduces those partials in order. A wide inner is cut
   instead by the ``_columns`` twin: unit = o * ceil(inner / TILE) + t reduces the columns [t*TILE, (t+1)*TILE).
   The caller chooses by shape alone, so the bits never depend on the number of threads.
c. Accuracy. Rows: 4 vectors over CHUNK elements, chunks added up in float64. Columns: trees of 8 rows, added up
   over a GROUP of rows, then the groups; a narrow inner lays rows side by side in WIDTH lanes, folded in halves.
d. Arithmetic is strict, so that the order written here is the order on every CPU and in every kernel.
e. A row that is no multiple of a vector would leave some of its exp to scalar code. ``softmax`` and its relatives
   therefore take exp of PACK elements of many rows at once, in the output or packed into a buffer on the stack.
f. The ``_strided`` twins take x with any strides and add it up in the same order, so that the bits are those of a
   contiguous copy: long rows where they lie, other pieces by bringing them to the first cache.
g. ``max`` and ``min`` are folds like ``sum``; ``maxdim`` and ``mindim`` also say where, by a second look at the row.
"""

import numpy as np
from numba import types
from numba.extending import overload

from . import math as km
from .contract import JIT, T, U, code, dim, dims, i8, jit, kernel, u1
from .lanes import (
    LANES,
    after,
    bound,
    call,
    convert,
    first,
    higher,
    higher_number,
    join,
    load,
    lower,
    lower_number,
    lowest_bit,
    match,
    rotated,
    splat,
    spread_load,
    stack,
    truth,
    unordered,
)  # fmt: skip

CHUNK = 1024  # elements of a row that are added in their own type
TILE = 512  # columns reduced at a time, and a unit of the _columns kernels
GROUP = 512  # rows whose sum is added to the total
WIDTH = 256  # lanes of a narrow column reduction
PACK = 2048  # elements of short rows that are taken together
STRIPE = 64  # columns of a softmax
PIECE = 4096  # elements that are brought together, and of which an extreme is found at a time
ROOM = PIECE + LANES
FOUR = 4 * LANES


# --- helpers: typed accumulators ------------------------------------------------------------------------------------


def _wide(v):
    """v as an accumulator: a float as float64, an integer as it is."""


@overload(_wide, jit_options=JIT)
def _wide_overload(v):
    if isinstance(v, types.Float):
        return lambda v: np.float64(v)
    return lambda v: v


# --- rows -------------------------------------------------------------------------------------------------------------


def _row_of(identity, term, combine):
    """``row(y, x, w, at, count)``: term(y, x, w, j, n), Lanes from j on of which n count, combined over a row.

    ``y`` gives the type in which CHUNK elements are combined; the result is wide.
    """

    across = _across(combine)

    @jit
    def row(y, x, w, at, count):
        total = _wide(identity(y))
        for start in range(at, at + count, CHUNK):
            stop = start + CHUNK if start + CHUNK < at + count else at + count
            a = splat(identity(y))
            j = start
            if j + 4 * LANES <= stop:
                b = c = d = a
                while j + 4 * LANES <= stop:
                    a = combine(a, term(y, x, w, j, LANES))
                    b = combine(b, term(y, x, w, j + LANES, LANES))
                    c = combine(c, term(y, x, w, j + 2 * LANES, LANES))
                    d = combine(d, term(y, x, w, j + 3 * LANES, LANES))
                    j += 4 * LANES
                a = combine(combine(a, b), combine(c, d))
            while j + LANES <= stop:
                a = combine(a, term(y, x, w, j, LANES))
                j += LANES
            if j < stop:
                a = combine(a, term(y, x, w, j, stop - j))
            total = combine(total, _wide(across(a)))
        return total

    return row


def _across(combine):
    """``across(a)``: the lanes of a combined, in halves."""

    @jit(forceinline=True)
    def across(a):
        a = combine(a, rotated(a, 8))
        a = combine(a, rotated(a, 4))
        a = combine(a, rotated(a, 2))
        return first(combine(a, rotated(a, 1)))

    return across


def _extreme_row(identity, combine):
    """``row(y, x, w, at, count)``: an extreme of a row; nan is looked for beside, cheaper than to carry it."""
    identity, combine = jit(identity), jit(forceinline=True)(combine)
    across = _across(combine)

    @jit
    def row(y, x, w, at, count):
        best = identity(x)
        for start in range(at, at + count, PIECE):
            stop = start + PIECE if start + PIECE < at + count else at + count
            a = b = c = d = splat(identity(x))
            odd, j = 0, start
            while j + 4 * LANES <= stop:
                p, q = load(x, j, LANES, identity(x)), load(x, j + LANES, LANES, identity(x))
                r, s = load(x, j + 2 * LANES, LANES, identity(x)), load(x, j + 3 * LANES, LANES, identity(x))
                a, b, c, d = combine(a, p), combine(b, q), combine(c, r), combine(d, s)
                odd |= unordered(p, q) | unordered(r, s)
                j += 4 * LANES
            a = combine(combine(a, b), combine(c, d))
            while j < stop:
                p = load(x, j, stop - j, identity(x))
                a = combine(a, p)
                odd |= unordered(p, p)
                j += LANES
            if odd != 0:
                return convert(x, np.nan)
            best = combine(best, across(a))
        return best

    return row


# --- any strides ------------------------------------------------------------------------------------------------------
# x has rows of ``width`` elements, ``stride`` apart, and k outer dimensions: (size, stride) of each in ``outer``. ``s``
# is the number of an element in this order.


@jit
def _place(s, k, width, outer):
    """Of element s: where its row begins, its number in the row, rows from this one on that are ``gap`` apart, gap."""
    t = s // width
    c, start, left, gap = s - t * width, 0, 1, 0
    for d in range(k - 1, -1, -1):
        i = t
        if d > 0:  # a division takes as long as a short row
            t = i // outer[2 * d]
            i -= t * outer[2 * d]
        start += i * outer[2 * d + 1]
        if d == k - 1:
            left, gap = outer[2 * d] - i, outer[2 * d + 1]
    return start, c, left, gap


@jit
def _brought(to, x, packing, s, count, k, width, stride, outer, here):
    """Elements [s, s + count) side by side: where they are, unless they are wanted ``here``, in ``to``, or must be."""
    done = 0
    while done < count:
        start, c, left, gap = _place(s + done, k, width, outer)
        rest = count - done
        if stride == 1 and not here and done == 0 and c + count <= width:
            return after(x, start + c)
        rows, w = 1, min(width - c, rest)
        if c == 0 and rest >= width:
            rows, w = min(rest // width, left), width
        call(packing, rows, (after(to, done), after(x, start + c * stride)), (1, w, 1, stride, rows, w, gap))
        done += rows * w
    return to


@jit
def _brought_rows(to, x, packing, s, inner, rows, w, k, width, stride, outer):
    """(pointer, step, how many): the first w columns of some of ``rows`` rows of ``inner`` elements from s on.

    All, or rows % 8 and a multiple of 8, as they are added up.
    """
    lead = rows % 8
    fits = max(PIECE // w - lead, 0) // 8 * 8 + lead
    fits = min(rows, fits if fits > 0 else 8)
    if width % inner == 0:
        start, c, left, gap = _place(s, k, width, outer)
        if width > inner:
            left, gap = width // inner - c // inner, inner * stride
        count = min(rows if stride == 1 else fits, left)
        if count < rows:
            count = (count - lead) // 8 * 8 + lead if count >= lead else 0
        if count > 0:
            if stride == 1:
                return after(x, start + c), gap, count
            call(packing, count, (to, after(x, start + c * stride)), (1, w, 1, stride, count, w, gap))
            return to, w, count
    for r in range(fits):
        _brought(after(to, r * w), x, packing, s + r * inner, w, k, width, stride, outer, True)
    return to, w, fits


def _by_pieces(identity, combine, row, piece):
    """``row(y, x, packed, packing, s, count, k, width, stride, outer)``: elements [s, s + count) combined.

    PIECE elements are brought together for ``row``, which takes ``piece`` at a time.
    """

    @jit
    def by_pieces(y, x, packed, packing, s, count, k, width, stride, outer):
        total = _wide(identity(y))
        for start in range(0, count, PIECE):
            many = PIECE if start + PIECE < count else count - start
            v = _brought(packed, x, packing, s + start, many, k, width, stride, outer, False)
            for j in range(0, many, piece):
                total = combine(total, _wide(row(y, v, 0, j, piece if j + piece < many else many - j)))
        return total

    return by_pieces


@jit
def _next_row(s, at, rest, count, k, width, stride, outer):
    """Where elements go on after ``rest`` from x[at], element s, on: in the next row, unless ``count`` are left."""
    # a load of no element at all takes 600 ns where there is no memory
    return _place(s + rest, k, width, outer)[0] if rest < count else at + rest * stride


@jit
def _from_two(x, at, rest, to, i, count, stride, other):
    """Elements [i, i + LANES) of ``count``: ``rest`` lie at x[at], the others at x[to]; stride 1 or 2."""
    first = max(0, min(rest - i, LANES))
    to += (i + first - rest) * stride
    if stride == 1:
        return join(x, at + i, first, to, count - i, 1, other)
    return join(x, at + 2 * i, first, to, count - i, 2, other)


def _strided_row_of(identity, prepare, combine, by_pieces):
    """As _by_pieces, but nothing is brought where rows are FOUR long and at most every second element counts."""
    across = _across(combine)

    @jit
    def row(y, x, packed, packing, s, count, k, width, stride, outer):
        if width < FOUR or (stride != 1 and stride != 2):
            return by_pieces(y, x, packed, packing, s, count, k, width, stride, outer)
        total = _wide(identity(y))
        for chunk in range(s, s + count, CHUNK):
            stop = min(chunk + CHUNK, s + count)
            whole, j = chunk + (stop - chunk) // FOUR * FOUR, chunk
            a = b = c = d = splat(identity(y))
            while j < whole:
                at, column, _, _ = _place(j, k, width, outer)
                at, rest = at + column * stride, width - column
                # the elements between are read as well, so that another one has to follow
                near = min(rest + 1 - stride, whole - j) // FOUR * FOUR
                if stride == 1:
                    for i in range(at, at + near, FOUR):
                        a = combine(a, prepare(y, load(x, i, LANES, identity(x))))
                        b = combine(b, prepare(y, load(x, i + LANES, LANES, identity(x))))
                        c = combine(c, prepare(y, load(x, i + 2 * LANES, LANES, identity(x))))
                        d = combine(d, prepare(y, load(x, i + 3 * LANES, LANES, identity(x))))
                else:
                    for i in range(at, at + 2 * near, 2 * FOUR):
                        a = combine(a, prepare(y, spread_load(x, i, LANES + 1, 2)))
                        b = combine(b, prepare(y, spread_load(x, i + 2 * LANES, LANES + 1, 2)))
                        c = combine(c, prepare(y, spread_load(x, i + 4 * LANES, LANES + 1, 2)))
                        d = combine(d, prepare(y, spread_load(x, i + 6 * LANES, LANES + 1, 2)))
                at, j, rest = at + near * stride, j + near, rest - near
                if j < whole:  # four vectors from the end of a row on
                    to = _next_row(j, at, rest, FOUR, k, width, stride, outer)
                    for i in range(0, min(FOUR, whole - j), LANES):  # a bound that is not unrolled compiles faster
                        v = _from_two(x, at, rest, to, i, FOUR, stride, identity(x))
                        a, b, c, d = b, c, d, combine(a, prepare(y, v))
                    j += FOUR
            if whole > chunk:
                a = combine(combine(a, b), combine(c, d))
            if whole < stop:
                at, column, _, _ = _place(whole, k, width, outer)
                at, rest, left = at + column * stride, width - column, stop - whole
                to = _next_row(whole, at, rest, left, k, width, stride, outer)
                for i in range(0, left, LANES):
                    a = combine(a, prepare(y, _from_two(x, at, rest, to, i, left, stride, identity(x))))
            total = combine(total, _wide(across(a)))
        return total

    return row


# --- sum, sum of squares, prod, all, any, max, min --------------------------------------------------------------------


def _declare(name, fn, reference, doc):
    fn.__module__, fn.__doc__ = __name__, doc
    kernel(fn, name=name).reference(reference)


def _fold(name, out, identity, prepare, combine, numpy_fold, formula, row=None):
    """Declare ``name`` and its twins ``_rows``, ``_columns``, ``_strided``: fold prepare(y, x) from identity on."""
    identity = jit(identity)
    prepare = jit(forceinline=True)(prepare)
    combine = jit(forceinline=True)(combine)
    term = jit(forceinline=True)(lambda y, x, w, j, n: prepare(y, load(x, j, n, identity(x))))
    if row:
        strided_row = _by_pieces(identity, combine, row, PIECE)
    else:
        row = _row_of(identity, term, combine)
        strided_row = _strided_row_of(identity, prepare, combine, _by_pieces(identity, combine, row, CHUNK))

    @jit
    def tree(y, x, at, rows, stride, width):
        # y[:width] combined with rows of x[at + row * stride + column], eight rows at once
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

    @jit
    def side(rows, inner, width):
        m = 1  # rows side by side
        while width == inner and 2 * m * inner <= WIDTH and 2 * m <= rows:
            m *= 2
        return m

    @jit
    def folded(y, to, lanes, m, inner, width):
        # y[to + c] combined with the m groups of lanes
        half = m
        while half > 1:
            half //= 2
            for c in range(half * inner):
                lanes[c] = combine(lanes[c], lanes[half * inner + c])
        for c in range(width):
            y[to + c] = combine(y[to + c], lanes[c])

    @jit
    def columns(y, to, lanes, x, at, rows, inner, width):
        # y[to : to + width] = fold over rows of x[at + row * inner + column]; width <= TILE
        m = side(rows, inner, width)
        for c in range(width):
            y[to + c] = identity(y)
        for start in range(0, rows, GROUP * m):
            count = GROUP * m if start + GROUP * m < rows else rows - start
            for c in range(m * width):
                lanes[c] = identity(lanes)
            tree(lanes, x, at + start * inner, count // m, m * inner, m * width)
            rest = at + (start + count - count % m) * inner
            for c in range(count % m * inner):
                lanes[c] = combine(lanes[c], prepare(lanes, x[rest + c]))
            folded(y, to, lanes, m, inner, width)

    @jit
    def strided_columns(y, to, lanes, packed, x, packing, s, rows, inner, width, k, run, stride, outer):
        # as columns; x from element s on
        m = side(rows, inner, width)
        for c in range(width):
            y[to + c] = identity(y)
        for start in range(0, rows, GROUP * m):
            count = GROUP * m if start + GROUP * m < rows else rows - start
            for c in range(m * width):
                lanes[c] = identity(lanes)
            done, some = 0, count // m
            while done < some:
                at = s + (start + done * m) * inner
                if m == 1:
                    v, step, got = _brought_rows(
                        packed, x, packing, at, inner, some - done, width, k, run, stride, outer
                    )
                else:
                    step, lead = m * inner, (some - done) % 8
                    got = min(some - done, (PIECE // step - lead) // 8 * 8 + lead)
                    v = _brought(packed, x, packing, at, got * step, k, run, stride, outer, False)
                tree(lanes, v, 0, got, step, m * width)
                done += got
            rest = count % m * inner
            if rest > 0:
                at = s + (start + count) * inner - rest
                v = _brought(packed, x, packing, at, rest, k, run, stride, outer, False)
                for c in range(rest):
                    lanes[c] = combine(lanes[c], prepare(lanes, v[c]))
            folded(y, to, lanes, m, inner, width)

    def blocks_kernel(y: out, x: T, n: dim, inner: dim, block: dim, blocks: dim, lo, hi):
        lanes = stack(identity(y), TILE)
        for unit in range(lo, hi):
            o = unit // blocks
            first = (unit - o * blocks) * block
            rows = block if first + block < n else n - first
            at = (o * n + first) * inner
            for start in range(0, inner, TILE):
                width = TILE if start + TILE < inner else inner - start
                columns(y, unit * inner + start, lanes, x, at + start, rows, inner, width)

    def rows_kernel(y: out, x: T, n: dim, inner: dim, block: dim, blocks: dim, lo, hi):
        o, b = lo // blocks, lo % blocks
        for unit in range(lo, hi):
            first = b * block
            y[unit] = convert(y, row(y, x, 0, o * n + first, block if first + block < n else n - first))
            b += 1
            if b == blocks:  # a division would take as long as a short row
                o, b = o + 1, 0

    def columns_kernel(y: out, x: T, n: dim, inner: dim, lo, hi):
        lanes = stack(identity(y), TILE)
        tiles = (inner + TILE - 1) // TILE
        for unit in range(lo, hi):
            o = unit // tiles
            first = (unit - o * tiles) * TILE
            width = TILE if first + TILE < inner else inner - first
            columns(y, o * inner + first, lanes, x, o * n * inner + first, n, inner, width)

    def strided_kernel(
        y: out, x: T, packing: code, n: dim, inner: dim, block: dim, blocks: dim, tile: dim,
        k: dim, run: dim, stride: dim, outer: dims, lo, hi
    ):  # fmt: skip
        lanes, packed = stack(identity(y), TILE), stack(identity(x), ROOM)
        tiles = (inner + tile - 1) // tile
        few = inner == 1 and blocks == 1 and 0 < n <= PIECE and not (stride == 2 and n >= 4 * FOUR)
        many = PIECE // n if few and (stride != 1 or run % n != 0 or n < LANES) else 1  # short rows taken together
        unit = lo
        while unit < hi:
            if few:
                count = min(many, hi - unit)
                v = _brought(packed, x, packing, unit * n, count * n, k, run, stride, outer, False)
                for i in range(count):
                    y[unit + i] = convert(y, row(y, v, 0, i * n, n))
                unit += count
                continue
            o = unit // (tiles * blocks)
            b = unit // tiles - o * blocks
            first = b * block
            rows = block if first + block < n else n - first
            s = (o * n + first) * inner
            if inner == 1:
                y[unit] = convert(y, strided_row(y, x, packed, packing, s, rows, k, run, stride, outer))
            else:
                left = unit % tiles * tile
                right = left + tile if left + tile < inner else inner
                for start in range(left, right, TILE):
                    width = TILE if start + TILE < right else right - start
                    to = (o * blocks + b) * inner + start
                    strided_columns(
                        y, to, lanes, packed, x, packing, s + start, rows, inner, width, k, run, stride, outer
                    )
            unit += 1

    def blocks_reference(y, x, n, inner, block, blocks):
        x = x.reshape(-1, n, inner)
        for o in range(len(x)):
            for b in range(blocks):
                y.reshape(-1, blocks, inner)[o, b] = numpy_fold(x[o, b * block : (b + 1) * block])

    def strided_reference(y, x, packing, n, inner, block, blocks, tile, k, run, stride, *outer):
        blocks_reference(y, _viewed(x, run, stride, outer), n, inner, block, blocks)

    def columns_reference(y, x, n, inner):
        if y.size:
            for o, rows in enumerate(x.reshape(y.size // inner, n, inner)):
                y.reshape(-1, inner)[o] = numpy_fold(rows)

    where = "y (outer, blocks, inner), x (outer, n, inner); unit = o * blocks + b, rows [b*block, (b+1)*block)."
    _declare(name, blocks_kernel, blocks_reference, f"y = {formula} over blocks of n: {where}")
    _declare(f"{name}_rows", rows_kernel, blocks_reference, f"y = {formula} over blocks of n, inner == 1: {where}")
    where = "y (outer, inner), x (outer, n, inner); unit = o * ceil(inner / TILE) + tile of columns."
    _declare(f"{name}_columns", columns_kernel, columns_reference, f"y = {formula} over n: {where}")
    where = "as both; unit = (o * blocks + b) * ceil(inner / tile) + tile of columns."
    _declare(f"{name}_strided", strided_kernel, strided_reference, f"y = {formula}, x of any strides: {where}")
    return row


def _viewed(x, run, stride, outer):
    steps = [step * x.itemsize for step in (*outer[1::2], stride)]
    return np.ascontiguousarray(np.lib.stride_tricks.as_strided(x, (*outer[::2], run), steps))


def _wide64(x):
    return x.astype(np.float64 if x.dtype.kind == "f" else np.int64)


_zero, _one = (lambda like: convert(like, 0)), (lambda like: convert(like, 1))
_least, _most = (lambda like: bound(like, 0)), (lambda like: bound(like, 1))


def _add(a, b):
    return a + b


# name, output, identity, what enters (y gives the type), how two combine, NumPy over axis 0, formula
_sum_row = _fold("sum", U, _zero, lambda y, v: convert(y, v), _add, lambda x: _wide64(x).sum(0), "sum(x)")
_fold("prod", U, _one, lambda y, v: convert(y, v), lambda a, b: a * b, lambda x: _wide64(x).prod(0), "prod(x)")
_fold(
    "sum_squares",
    U,
    _zero,
    lambda y, v: convert(y, v) * convert(y, v),
    _add,
    lambda x: (_wide64(x) ** 2).sum(0),
    "sum(x * x)",
)
_fold("all", u1, _one, lambda y, v: truth(y, v), lambda a, b: lower(a, b), lambda x: x.all(0), "all(x != 0)")
_fold("any", u1, _zero, lambda y, v: truth(y, v), lambda a, b: higher(a, b), lambda x: x.any(0), "any(x != 0)")
_max_row = _extreme_row(_least, lambda a, b: higher_number(a, b))
_min_row = _extreme_row(_most, lambda a, b: lower_number(a, b))
_fold("max", T, _least, lambda y, v: v, lambda a, b: higher(a, b), lambda x: x.max(0), "max(x)", _max_row)
_fold("min", T, _most, lambda y, v: v, lambda a, b: lower(a, b), lambda x: x.min(0), "min(x)", _min_row)


# --- max and min with their positions ---------------------------------------------------------------------------------


def _extreme(name, word, row, sign, numpy_arg):
    """Declare ``name`` and its twins as ``_fold``: the first extreme and its index; the first nan wins."""
    before = jit(forceinline=True)(sign)  # whether a comes before b; one may be nan
    better = jit(forceinline=True)(lambda a, b: before(a, b) | ((a != a) & (b == b)))

    @jit
    def place(x, at, count):
        """Position of the first extreme of x[at : at + count]."""
        best = row(x, x, 0, at, count)
        for j in range(0, count, LANES):
            bits = match(load(x, at + j, count - j, best), best)
            if bits != 0:
                return j + lowest_bit(bits)
        return 0

    @jit
    def columns(y, index, to, best, where, x, at, first, rows, stride, width, goes_on):
        """y[to : to + width], index = first extremes of rows of x[at + row * stride + column], ``first`` + row.

        ``goes_on``: they hold the extremes of earlier rows.
        """
        for start in range(0, rows, GROUP):
            stop = start + GROUP if start + GROUP < rows else rows
            for c in range(width):
                best[c], where[c] = x[at + start * stride + c], 0
            whole = start + (stop - start) // 4 * 4
            for j in range(start, whole, 4):
                a, k = at + j * stride, np.int32(j - start)
                for c in range(width):
                    b, i = best[c], where[c]
                    v = x[a + c]
                    take = better(v, b)
                    b, i = (v if take else b), (k if take else i)
                    v = x[a + stride + c]
                    take = better(v, b)
                    b, i = (v if take else b), (np.int32(k + 1) if take else i)
                    v = x[a + 2 * stride + c]
                    take = better(v, b)
                    b, i = (v if take else b), (np.int32(k + 2) if take else i)
                    v = x[a + 3 * stride + c]
                    take = better(v, b)
                    best[c], where[c] = (v if take else b), (np.int32(k + 3) if take else i)
            for j in range(whole, stop):
                a, k = at + j * stride, np.int32(j - start)
                for c in range(width):
                    v = x[a + c]
                    take = better(v, best[c])
                    best[c], where[c] = (v if take else best[c]), (k if take else where[c])
            for c in range(width):
                take = (start == 0 and not goes_on) or better(best[c], y[to + c])
                if take:
                    y[to + c], index[to + c] = best[c], first + start + where[c]

    def blocks_kernel(
        y: T, index: i8, x: T, index_in: i8, n: dim, inner: dim, block: dim, blocks: dim, has_index: dim, lo, hi
    ):
        best, where = stack(bound(x, 0), TILE), stack(np.int32(0), TILE)
        for unit in range(lo, hi):
            o = unit // blocks
            first = (unit - o * blocks) * block
            rows = block if first + block < n else n - first
            at = (o * n + first) * inner
            for start in range(0, inner, TILE):
                width = TILE if start + TILE < inner else inner - start
                to = unit * inner + start
                columns(y, index, to, best, where, x, at + start, first, rows, inner, width, False)
            if has_index != 0:
                for c in range(inner):
                    index[unit * inner + c] = index_in[(o * n + index[unit * inner + c]) * inner + c]

    def rows_kernel(
        y: T, index: i8, x: T, index_in: i8, n: dim, inner: dim, block: dim, blocks: dim, has_index: dim, lo, hi
    ):
        o, b = lo // blocks, lo % blocks
        for unit in range(lo, hi):
            first = b * block
            at = o * n + first
            k = place(x, at, block if first + block < n else n - first)
            y[unit] = x[at + k]
            index[unit] = index_in[at + k] if has_index != 0 else first + k
            b += 1
            if b == blocks:
                o, b = o + 1, 0

    def columns_kernel(y: T, index: i8, x: T, n: dim, inner: dim, lo, hi):
        best, where = stack(bound(x, 0), TILE), stack(np.int32(0), TILE)
        tiles = (inner + TILE - 1) // TILE
        for unit in range(lo, hi):
            o = unit // tiles
            first = (unit - o * tiles) * TILE
            width = TILE if first + TILE < inner else inner - first
            columns(y, index, o * inner + first, best, where, x, o * n * inner + first, 0, n, inner, width, False)

    def strided_kernel(
        y: T, index: i8, x: T, packing: code, n: dim, inner: dim, block: dim, blocks: dim, tile: dim,
        k: dim, run: dim, stride: dim, outer: dims, lo, hi
    ):  # fmt: skip
        best, where, packed = stack(bound(x, 0), TILE), stack(np.int32(0), TILE), stack(bound(x, 0), ROOM)
        tiles = (inner + tile - 1) // tile
        few = inner == 1 and blocks == 1 and n <= PIECE
        many = PIECE // n if few and (stride != 1 or run % n != 0 or n < LANES) else 1
        unit = lo
        while unit < hi:
            if few:
                count = min(many, hi - unit)
                v = _brought(packed, x, packing, unit * n, count * n, k, run, stride, outer, False)
                for i in range(count):
                    j = place(v, i * n, n)
                    y[unit + i], index[unit + i] = v[i * n + j], j
                unit += count
                continue
            o = unit // (tiles * blocks)
            b = unit // tiles - o * blocks
            first = b * block
            rows = block if first + block < n else n - first
            s = (o * n + first) * inner
            if inner == 1:
                for start in range(0, rows, PIECE):
                    count = PIECE if start + PIECE < rows else rows - start
                    v = _brought(packed, x, packing, s + start, count, k, run, stride, outer, False)
                    j = place(v, 0, count)
                    if start == 0 or better(v[j], y[unit]):
                        y[unit], index[unit] = v[j], first + start + j
            else:
                left = unit % tiles * tile
                right = left + tile if left + tile < inner else inner
                for start in range(left, right, TILE):
                    width = TILE if start + TILE < right else right - start
                    to, done = (o * blocks + b) * inner + start, 0
                    while done < rows:
                        at = s + done * inner + start
                        v, step, got = _brought_rows(
                            packed, x, packing, at, inner, rows - done, width, k, run, stride, outer
                        )
                        columns(y, index, to, best, where, v, 0, first + done, got, step, width, done > 0)
                        done += got
            unit += 1

    def strided_reference(y, index, x, packing, n, inner, block, blocks, tile, k, run, stride, *outer):
        blocks_reference(y, index, _viewed(x, run, stride, outer), None, n, inner, block, blocks, 0)

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
    _declare(f"{name}_rows", rows_kernel, blocks_reference, f"y, index = {word} of rows, inner == 1: {where}")
    where = "y, index (outer, inner), x (outer, n, inner); unit = o * ceil(inner / TILE) + tile of columns."
    _declare(f"{name}_columns", columns_kernel, columns_reference, f"y, index = {word} over n >= 1: {where}")
    where = "as both; unit = (o * blocks + b) * ceil(inner / tile) + tile of columns. No index_in."
    _declare(f"{name}_strided", strided_kernel, strided_reference, f"y, index = {word}, x of any strides: {where}")


_extreme("maxdim", "max", _max_row, lambda a, b: a > b, np.argmax)
_extreme("mindim", "min", _min_row, lambda a, b: a < b, np.argmin)


# --- softmax, log_softmax, logsumexp --------------------------------------------------------------------------------
# m = max of the row. All terms are -inf: m = -inf and x - m = nan. A term is +inf: x - m has a nan, hence the sum too.


_dot_term = jit(lambda y, x, w, j, n: load(x, j, n, convert(x, 0)) * load(w, j, n, convert(w, 0)))
_dot_row = _row_of(jit(_zero), _dot_term, jit(_add))


@jit
def _row_max(x, at, n):
    return _max_row(x, x, 0, at, n)


@jit
def _row_sum(x, at, n):
    return convert(x, _sum_row(x, x, 0, at, n))


@jit
def _row_sum_exp(e, x, m, at, n):
    """sum(exp(x - m)) of a row longer than PACK."""
    total = np.float64(0)
    for start in range(at, at + n, PACK):
        count = PACK if start + PACK < at + n else at + n - start
        for j in range(count):
            e[j] = km.exp_down(x[start + j] - m)
        total += np.float64(_row_sum(e, 0, count))
    return convert(x, total)


@kernel
def softmax(y: T, x: T, n: dim, lo, hi):
    """y = exp(x - max) / sum(exp(x - max)) over rows; y, x (N, n); unit = row."""
    step = PACK // n if 0 < n < PACK else 1
    for start in range(lo, hi, step):
        stop = start + step if start + step < hi else hi
        for r in range(start, stop):
            m = _row_max(x, r * n, n)
            for j in range(r * n, r * n + n):
                y[j] = x[j] - m
        for j in range(start * n, stop * n):
            y[j] = km.exp_down(y[j])
        for r in range(start, stop):
            scale = T(1) / _row_sum(y, r * n, n)
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
    step = PACK // n if 0 < n < PACK else 1
    for start in range(lo, hi, step):
        stop = start + step if start + step < hi else hi
        for r in range(start, stop):
            m = _row_max(x, r * n, n)
            for j in range(r * n, r * n + n):
                y[j] = x[j] - m
        if n <= PACK:
            for j in range((stop - start) * n):
                e[j] = km.exp_down(y[start * n + j])
            for r in range(stop - start):
                logs[r] = _row_sum(e, r * n, n)
        else:
            logs[0] = _row_sum_exp(e, y, T(0), start * n, n)
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
    """y = max + log(sum(exp(x - max))) over rows; y (N,), x (N, n); unit = row. An infinite max is the result."""
    e = stack(T(0), PACK)
    top = stack(T(0), PACK)
    step = PACK // n if 0 < n < PACK else 1
    for start in range(lo, hi, step):
        stop = start + step if start + step < hi else hi
        for r in range(start, stop):
            m = _row_max(x, r * n, n)
            top[r - start] = m
            m = T(0) if m == T(-np.inf) else m
            if n <= PACK:
                for j in range(n):
                    e[(r - start) * n + j] = x[r * n + j] - m
            else:
                y[r] = _row_sum_exp(e, x, m, r * n, n)
        if n <= PACK:
            for j in range((stop - start) * n):
                e[j] = km.exp_down(e[j])
            for r in range(start, stop):
                y[r] = _row_sum(e, (r - start) * n, n)
        for r in range(start, stop):
            y[r] = top[r - start] if top[r - start] == T(np.inf) else km.log(y[r]) + top[r - start]


@logsumexp.reference
def _logsumexp(y, x, n):
    x = x.astype(np.float64).reshape(-1, n)
    m = x.max(1, keepdims=True)
    m = np.where(np.isinf(m), 0, m)
    y[:] = (np.log(np.exp(x - m).sum(1, keepdims=True)) + m)[:, 0]


@kernel
def dsoftmax(dx: T, dy: T, y: T, n: dim, lo, hi):
    """dx = y * (dy - sum(dy * y)) over rows; all (N, n); unit = row."""
    for r in range(lo, hi):
        s = convert(y, _dot_row(dx, dy, y, r * n, n))
        for j in range(r * n, r * n + n):
            dx[j] = y[j] * (dy[j] - s)


@dsoftmax.reference
def _dsoftmax(dx, dy, y, n):
    dy, y = dy.astype(np.float64).reshape(-1, n), y.astype(np.float64).reshape(-1, n)
    dx.reshape(y.shape)[:] = y * (dy - (dy * y).sum(1, keepdims=True))


@kernel
def dlog_softmax(dx: T, dy: T, y: T, n: dim, lo, hi):
    """dx = dy - exp(y) * sum(dy) over rows; all (N, n); unit = row."""
    step = PACK // n if 0 < n < PACK else 1
    for start in range(lo, hi, step):
        stop = start + step if start + step < hi else hi
        for j in range(start * n, stop * n):
            dx[j] = km.exp_down(y[j])
        for r in range(start, stop):
            s = _row_sum(dy, r * n, n)
            for j in range(r * n, r * n + n):
                dx[j] = dy[j] - dx[j] * s


@dlog_softmax.reference
def _dlog_softmax(dx, dy, y, n):
    dy, y = dy.astype(np.float64).reshape(-1, n), y.astype(np.float64).reshape(-1, n)
    dx.reshape(y.shape)[:] = dy - np.exp(y) * dy.sum(1, keepdims=True)


# The same along the middle of (outer, n, inner); unit = o * ceil(inner / STRIPE) + a stripe of columns, so narrow that
# the second cache holds it for the next pass.


@kernel
def softmax_columns(y: T, x: T, n: dim, inner: dim, lo, hi):
    """y = softmax(x) along the middle of (outer, n, inner)."""
    top, total = stack(T(0), STRIPE), stack(np.float64(0), STRIPE)
    stripes = (inner + STRIPE - 1) // STRIPE
    for unit in range(lo, hi):
        first = unit % stripes * STRIPE
        start, width = unit // stripes * n * inner + first, min(STRIPE, inner - first)
        _column_max(top, total, x, start, n, inner, width)
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                e = km.exp_down(x[a + c] - top[c])
                y[a + c] = e
                total[c] += e
        for c in range(width):
            top[c] = T(1) / T(total[c])
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                y[a + c] = y[a + c] * top[c]


@kernel
def log_softmax_columns(y: T, x: T, n: dim, inner: dim, lo, hi):
    """y = log_softmax(x) along the middle of (outer, n, inner)."""
    top, total, logs = stack(T(0), STRIPE), stack(np.float64(0), STRIPE), stack(T(0), STRIPE)
    stripes = (inner + STRIPE - 1) // STRIPE
    for unit in range(lo, hi):
        first = unit % stripes * STRIPE
        start, width = unit // stripes * n * inner + first, min(STRIPE, inner - first)
        _column_max(top, total, x, start, n, inner, width)
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                total[c] += km.exp_down(x[a + c] - top[c])
        for c in range(width):
            logs[c] = km.log(T(total[c]))
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                y[a + c] = x[a + c] - top[c] - logs[c]


@jit
def _column_max(top, total, x, start, n, inner, width):
    for c in range(width):
        top[c], total[c] = x[start + c], 0.0
    for a in range(start, start + n * inner, inner):
        for c in range(width):
            top[c] = higher(top[c], x[a + c])


@kernel
def dsoftmax_columns(dx: T, dy: T, y: T, n: dim, inner: dim, lo, hi):
    """dx = y * (dy - sum(dy * y)) along the middle of (outer, n, inner)."""
    total, s = stack(np.float64(0), STRIPE), stack(T(0), STRIPE)
    stripes = (inner + STRIPE - 1) // STRIPE
    for unit in range(lo, hi):
        first = unit % stripes * STRIPE
        start, width = unit // stripes * n * inner + first, min(STRIPE, inner - first)
        for c in range(width):
            total[c] = 0.0
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                total[c] += dy[a + c] * y[a + c]
        for c in range(width):
            s[c] = T(total[c])
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                dx[a + c] = y[a + c] * (dy[a + c] - s[c])


@kernel
def dlog_softmax_columns(dx: T, dy: T, y: T, n: dim, inner: dim, lo, hi):
    """dx = dy - exp(y) * sum(dy) along the middle of (outer, n, inner)."""
    total, s = stack(np.float64(0), STRIPE), stack(T(0), STRIPE)
    stripes = (inner + STRIPE - 1) // STRIPE
    for unit in range(lo, hi):
        first = unit % stripes * STRIPE
        start, width = unit // stripes * n * inner + first, min(STRIPE, inner - first)
        for c in range(width):
            total[c] = 0.0
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                total[c] += dy[a + c]
        for c in range(width):
            s[c] = T(total[c])
        for a in range(start, start + n * inner, inner):
            for c in range(width):
                dx[a + c] = dy[a + c] - km.exp_down(y[a + c]) * s[c]


def _by_columns(of_rows):
    def reference(y, *inputs):
        *inputs, n, inner = inputs
        if y.size:
            turned = [np.ascontiguousarray(x.reshape(-1, n, inner).swapaxes(1, 2)) for x in inputs]
            result = np.zeros(turned[0].shape)
            of_rows(result.reshape(-1, n), *turned, n)
            y.reshape(-1, n, inner)[:] = result.swapaxes(1, 2)

    return reference


softmax_columns.reference(_by_columns(_softmax))
log_softmax_columns.reference(_by_columns(_log_softmax))
dsoftmax_columns.reference(_by_columns(_dsoftmax))
dlog_softmax_columns.reference(_by_columns(_dlog_softmax))


# --- running sums and products --------------------------------------------------------------------------------------


def _running(name, word, identity, combine, numpy_running):
    """Declare ``name``: the results of all elements up to each one, in U: float64, or int64 for integers."""
    combine = jit(forceinline=True)(combine)

    def running(y: T, x: T, carry: U, n: dim, inner: dim, block: dim, blocks: dim, lo, hi):
        total = stack(U(0), TILE)
        last = lo
        if inner == 1 and blocks == 1:
            last = lo + (hi - lo) // 4 * 4
            for o in range(lo, last, 4):  # rows are independent, the elements of one are not
                ta = tb = tc = td = U(identity)
                a = o * n
                for j in range(a, a + n):
                    ta = combine(ta, U(x[j]))
                    tb = combine(tb, U(x[j + n]))
                    tc = combine(tc, U(x[j + 2 * n]))
                    td = combine(td, U(x[j + 3 * n]))
                    y[j], y[j + n], y[j + 2 * n], y[j + 3 * n] = T(ta), T(tb), T(tc), T(td)
        for unit in range(last, hi):
            o = unit // blocks
            start = (unit - o * blocks) * block
            stop = n if n < start + block else start + block
            for left in range(0, inner, TILE):
                width = TILE if left + TILE < inner else inner - left
                for c in range(width):
                    total[c] = identity
                    if start > 0:
                        total[c] = carry[(unit - 1) * inner + left + c]
                if inner == 1:
                    ta = total[0]
                    for j in range(o * n + start, o * n + stop):
                        ta = combine(ta, U(x[j]))
                        y[j] = T(ta)
                else:
                    for j in range(start, stop):
                        at = (o * n + j) * inner + left
                        for c in range(width):
                            total[c] = combine(total[c], U(x[at + c]))
                            y[at + c] = T(total[c])

    def reference(y, x, carry, n, inner, block, blocks):
        y.reshape(-1, n, inner)[:] = numpy_running(_wide64(x).reshape(-1, n, inner), 1)

    doc = (
        f"y[o, j, c] = {word}(x[o, :j+1, c]); y, x (outer, n, inner), cut into blocks of n: unit = o * blocks + block. "
        "carry (outer, blocks, inner): the results at the end of each block, or NULL if there is one. T: that of y and "
        "x; U: what floats (float64) or integers (int64) are combined in."
    )
    running.__module__, running.__doc__ = __name__, doc
    kernel(running, name=name).reference(reference)


_running("cumsum", "sum", 0, _add, np.cumsum)
_running("cumprod", "prod", 1, lambda a, b: a * b, np.cumprod)
