"""Reductions along one dimension, softmax and its relatives, running sums: twins of kernels/reduce.py.

DESIGN
a. Buffers, dims and units are those of kernels/reduce.py; groups.py says which threads compute a result. The
   ``_columns`` twins have no tiles of their own: they are the other kernel with one block of n rows.
b. Lanes add up in float64 or int64 whatever T is: memory is slower, even where float64 is a half of float32's speed.
c. softmax and its relatives read a row twice, the second time out of the cache: the first pass keeps the maximum so far
   and the sum of exponentials relative to it (Milakov, Gimelshein: Online normalizer calculation for softmax, 2018).
"""

import math

import numpy as np
from numba import cuda

from .contract import FLOATS, THREADS, T, U, dim, i8, jit, kernel, u1
from .groups import (
    fold_by,
    four,
    grid,
    in_fours,
    layout,
    put_four,
    scan_by,
    swap,
    target,
    typed,
    walk,
    warp_scan_by,
    wide,
    zero,
)
from .parts import load4, split, store4

TILE = 512  # columns of a unit of the _columns kernels
STRIPE = 64  # of a softmax


def _tiles(inner, tile):
    return (inner + tile - 1) // tile


_tiles_of = jit(_tiles)


_NUMBERS = (*FLOATS, ("int64", ""), ("uint8", ""))
_SUMS = (*FLOATS, ("float32", "float64"), ("int64", ""), ("bool", "int64"))
_TRUTH = (*FLOATS, ("int64", ""), ("bool", ""))


def _declare(name, fn, doc, blocks, types):
    fn.__module__, fn.__doc__ = __name__, doc
    kernel(fn, name=name, blocks=blocks, types=types)


def _grid_of_blocks(units, dims):
    return grid(units, dims[2], dims[1])


def _grid_of_columns(units, dims):
    return grid(units // _tiles(dims[1], TILE), dims[0], dims[1])


# --- sum, sum of squares, prod, all, any, max, min --------------------------------------------------------------------


def _fold(name, out, start, prepare, combine, formula):
    """Declare ``name`` and ``name_columns``: fold prepare(x) by combine, from start(x, at, count) on, which is wide."""
    start, prepare, combine = jit(start), jit(prepare), jit(combine)
    fold = fold_by(combine)

    @jit
    def reduced(y, x, n, inner, block, blocks, units):
        turns, tiles, side, lane, lanes, near, slot = layout(block, inner, units)
        for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
            unit, column, active = target(turn, units, inner, tiles, side, slot)
            at, count = 0, 0
            if active:
                o, part = split(unit, blocks)
                first = part * block
                at, count = (o * n + first) * inner + column, min(block, n - first)
            a = start(x, at, count)
            b = c = d = a
            j, hop, gap, end = walk(count, inner, lane, lanes)
            whole = in_fours(x, at, inner)
            while whole and j + hop < end:  # two fours: nothing else hides how long a load takes
                v, w, p, q = load4(x, at + j)
                e, f, g, h = load4(x, at + j + hop)
                a, b = combine(combine(a, prepare(v)), prepare(e)), combine(combine(b, prepare(w)), prepare(f))
                c, d = combine(combine(c, prepare(p)), prepare(g)), combine(combine(d, prepare(q)), prepare(h))
                j += 2 * hop
            while j < end:
                v, w, p, q = four(x, at + j * inner, gap * inner, whole)
                a, b = combine(a, prepare(v)), combine(b, prepare(w))
                c, d = combine(c, prepare(p)), combine(d, prepare(q))
                j += hop
            j = end + lane
            while j < count:
                a = combine(a, prepare(x[at + j * inner]))
                j += lanes
            a = fold(combine(combine(a, b), combine(c, d)), near, lanes)
            if active and lane == 0:
                y[unit * inner + column] = a

    def blocks_kernel(y: out, x: T, n: dim, inner: dim, block: dim, blocks: dim, units):
        reduced(y, x, n, inner, block, blocks, units)

    def columns_kernel(y: out, x: T, n: dim, inner: dim, units):
        reduced(y, x, n, inner, n, 1, units // _tiles_of(inner, TILE))

    types = {U: _SUMS, u1: _TRUTH, T: _NUMBERS}[out]
    for twin in (name, f"{name}_rows"):  # the CPU's are two kernels
        _declare(twin, blocks_kernel, f"y = {formula} over blocks of n.", _grid_of_blocks, types)
    _declare(f"{name}_columns", columns_kernel, f"y = {formula} over n.", _grid_of_columns, types)


def _add(a, b):
    return a + b


def _higher(a, b):
    return a if (a >= b) | (a != a) else b


def _lower(a, b):
    return a if (a <= b) | (a != a) else b


def _first(x, at, count):
    return wide(x[at]) if count > 0 else zero(x)


_fold("sum", U, lambda x, at, n: zero(x), lambda v: wide(v), _add, "sum(x)")
_fold("prod", U, lambda x, at, n: zero(x) + 1, lambda v: wide(v), lambda a, b: a * b, "prod(x)")
_fold("sum_squares", U, lambda x, at, n: zero(x), lambda v: wide(v) * wide(v), _add, "sum(x * x)")
_fold("all", u1, lambda x, at, n: np.int64(1), lambda v: np.int64(v != 0), lambda a, b: a & b, "all(x != 0)")
_fold("any", u1, lambda x, at, n: np.int64(0), lambda v: np.int64(v != 0), lambda a, b: a | b, "any(x != 0)")
_fold("max", T, _first, lambda v: wide(v), _higher, "max(x)")
_fold("min", T, _first, lambda v: wide(v), _lower, "min(x)")


# --- max and min with their positions ---------------------------------------------------------------------------------


def _extreme(name, word, sign):
    """Declare ``name`` and ``name_columns``: value and index of the first extreme; the first nan wins."""
    before = jit(sign)

    @jit
    def better(v, w):
        return before(v, w) | ((v != v) & (w == w))

    @jit
    def reduced(y, index, x, index_in, n, inner, block, blocks, has_index, units):
        turns, tiles, side, lane, lanes, near, slot = layout(block, inner, units)
        for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
            unit, column, active = target(turn, units, inner, tiles, side, slot)
            at, count, first = 0, 0, 0
            if active:
                o, part = split(unit, blocks)
                first = part * block
                at, count = (o * n + first) * inner + column, min(block, n - first)
            best, place = zero(x), 0
            if count > 0:
                best = wide(x[at])
            j, hop, gap, end = walk(count, inner, lane, lanes)
            whole = in_fours(x, at, inner)
            while j < end:
                a, b, c, d = four(x, at + j * inner, gap * inner, whole)
                a, b, c, d = wide(a), wide(b), wide(c), wide(d)
                if better(a, best):
                    best, place = a, j
                if better(b, best):
                    best, place = b, j + gap
                if better(c, best):
                    best, place = c, j + 2 * gap
                if better(d, best):
                    best, place = d, j + 3 * gap
                j += hop
            j = end + lane
            while j < count:
                v = wide(x[at + j * inner])
                if better(v, best):
                    best, place = v, j
                j += lanes
            bit = near
            while bit < near * lanes:
                v, k = swap(best, bit), swap(place, bit)
                if better(v, best) or (not better(best, v) and k < place):
                    best, place = v, k
                bit *= 2
            if active and lane == 0:
                to, at = unit * inner + column, at + place * inner
                y[to] = x[at]
                index[to] = index_in[at] if has_index != 0 else first + place

    def blocks_kernel(
        y: T, index: i8, x: T, index_in: i8, n: dim, inner: dim, block: dim, blocks: dim, has_index: dim, units
    ):
        reduced(y, index, x, index_in, n, inner, block, blocks, has_index, units)

    def columns_kernel(y: T, index: i8, x: T, n: dim, inner: dim, units):
        reduced(y, index, x, index, n, inner, n, 1, 0, units // _tiles_of(inner, TILE))

    for twin in (name, f"{name}_rows"):
        _declare(twin, blocks_kernel, f"y, index = {word} over blocks of n >= 1.", _grid_of_blocks, _NUMBERS)
    _declare(f"{name}_columns", columns_kernel, f"y, index = {word} over n >= 1.", _grid_of_columns, _NUMBERS)


_extreme("maxdim", "max", lambda a, b: a > b)
_extreme("mindim", "min", lambda a, b: a < b)


# --- softmax, log_softmax, logsumexp --------------------------------------------------------------------------------
# Infinities are left out of the sums, so that a sum is nan only for a nan: m = -inf is a row of -inf, m = +inf a row
# with +inf. ``m - m`` is 0 for other rows and nan for these.

_sum = fold_by(jit(_add))
_max = fold_by(jit(lambda a, b: a if a > b else b))


@jit
def _exp(v, m):
    return type(v)(0) if (v == math.inf) | (v == -math.inf) else math.exp(v - m)


@jit
def _statistics(x, at, n, step, near, lane, lanes):
    """(max, sum(exp(x - max)) in float64) of the n numbers from x[at] on, step apart, to all lanes."""
    m, s = typed(x, -math.inf), np.float64(0)
    j, hop, gap, end = walk(n, step, lane, lanes)
    whole = in_fours(x, at, step)
    while j < end:
        a, b, c, d = four(x, at + j * step, gap * step, whole)
        p, q = (a if a > b else b), (c if c > d else d)
        p = p if p > q else q
        if p > m:
            s, m = s * math.exp(m - p), p
        s += (_exp(a, m) + _exp(b, m)) + (_exp(c, m) + _exp(d, m))
        j += hop
    j = end + lane
    while j < n:
        v = x[at + j * step]
        if v > m:
            s, m = s * math.exp(m - v), v
        s += _exp(v, m)
        j += lanes
    top = _max(m, near, lanes)
    if m != top:
        s *= math.exp(m - top)
    return top, _sum(s, near, lanes)


@jit
def _total(x, z, at, n, step, near, lane, lanes, both):
    """sum(x * z), or sum(x), in float64, to all lanes."""
    s = np.float64(0)
    j, hop, gap, end = walk(n, step, lane, lanes)
    whole = in_fours(x, at, step), in_fours(z, at, step)
    while j < end:
        i = at + j * step
        a, b, c, d = four(x, i, gap * step, whole[0])
        if both:
            e, f, g, h = four(z, i, gap * step, whole[1])
            a, b, c, d = a * e, b * f, c * g, d * h
        s += (wide(a) + wide(b)) + (wide(c) + wide(d))
        j += hop
    j = end + lane
    while j < n:
        i = at + j * step
        s += wide(x[i] * z[i] if both else x[i])
        j += lanes
    return _sum(s, near, lanes)


def _each(formula):
    """``each(y, x, z, ...)``: y = formula(x, z, p, q) over a row."""
    formula = jit(formula)

    @jit
    def each(y, x, z, at, n, step, lane, lanes, p, q):
        j, hop, gap, end = walk(n, step, lane, lanes)
        whole = in_fours(x, at, step) and in_fours(z, at, step) and in_fours(y, at, step)
        while j < end:
            i = at + j * step
            a, b, c, d = four(x, i, gap * step, whole)
            e, f, g, h = four(z, i, gap * step, whole)
            a, b, c, d = formula(a, e, p, q), formula(b, f, p, q), formula(c, g, p, q), formula(d, h, p, q)
            put_four(y, i, gap * step, whole, a, b, c, d)
            j += hop
        j = end + lane
        while j < n:
            i = at + j * step
            y[i] = formula(x[i], z[i], p, q)
            j += lanes

    return each


_softmax_each = _each(lambda x, z, m, scale: math.exp(x - m) * scale)
_log_softmax_each = _each(lambda x, z, m, c: (x - m) - c)
_dsoftmax_each = _each(lambda dy, y, s, unused: y * (dy - s))
_dlog_softmax_each = _each(lambda dy, y, s, unused: dy - math.exp(y) * s)


@jit
def _softmax(y, x, n, inner, units):
    turns, tiles, side, lane, lanes, near, slot = layout(n, inner, units)
    for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
        unit, column, active = target(turn, units, inner, tiles, side, slot)
        at, count = unit * n * inner + column, n if active else 0
        m, s = _statistics(x, at, count, inner, near, lane, lanes)
        scale = typed(x, 1) / typed(x, s) + (m - m)
        _softmax_each(y, x, x, at, count, inner, lane, lanes, m, scale)


@jit
def _log_softmax(y, x, n, inner, units):
    turns, tiles, side, lane, lanes, near, slot = layout(n, inner, units)
    for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
        unit, column, active = target(turn, units, inner, tiles, side, slot)
        at, count = unit * n * inner + column, n if active else 0
        m, s = _statistics(x, at, count, inner, near, lane, lanes)
        _log_softmax_each(y, x, x, at, count, inner, lane, lanes, m, math.log(typed(x, s)) + (m - m))


@jit
def _dsoftmax(dx, dy, y, n, inner, units):
    turns, tiles, side, lane, lanes, near, slot = layout(n, inner, units)
    for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
        unit, column, active = target(turn, units, inner, tiles, side, slot)
        at, count = unit * n * inner + column, n if active else 0
        s = typed(dx, _total(dy, y, at, count, inner, near, lane, lanes, True))
        _dsoftmax_each(dx, dy, y, at, count, inner, lane, lanes, s, s)


@jit
def _dlog_softmax(dx, dy, y, n, inner, units):
    turns, tiles, side, lane, lanes, near, slot = layout(n, inner, units)
    for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
        unit, column, active = target(turn, units, inner, tiles, side, slot)
        at, count = unit * n * inner + column, n if active else 0
        s = typed(dx, _total(dy, y, at, count, inner, near, lane, lanes, False))
        _dlog_softmax_each(dx, dy, y, at, count, inner, lane, lanes, s, s)


def _grid_of_rows(units, dims):
    return grid(units, dims[0], 1)


def _grid_of_stripes(units, dims):
    return grid(units // _tiles(dims[1], STRIPE), dims[0], dims[1])


@kernel(blocks=_grid_of_rows)
def softmax(y: T, x: T, n: dim, units):
    """y = exp(x - max) / sum(exp(x - max)) over rows; y, x (N, n); unit = row."""
    _softmax(y, x, n, 1, units)


@kernel(blocks=_grid_of_rows)
def log_softmax(y: T, x: T, n: dim, units):
    """y = x - max - log(sum(exp(x - max))) over rows; y, x (N, n); unit = row."""
    _log_softmax(y, x, n, 1, units)


@kernel(blocks=_grid_of_rows)
def dsoftmax(dx: T, dy: T, y: T, n: dim, units):
    """dx = y * (dy - sum(dy * y)) over rows; all (N, n); unit = row."""
    _dsoftmax(dx, dy, y, n, 1, units)


@kernel(blocks=_grid_of_rows)
def dlog_softmax(dx: T, dy: T, y: T, n: dim, units):
    """dx = dy - exp(y) * sum(dy) over rows; all (N, n); unit = row."""
    _dlog_softmax(dx, dy, y, n, 1, units)


@kernel(blocks=_grid_of_rows)
def logsumexp(y: T, x: T, n: dim, units):
    """y = max + log(sum(exp(x - max))) over rows; y (N,), x (N, n); unit = row. An infinite max is the result."""
    turns, tiles, side, lane, lanes, near, slot = layout(n, 1, units)
    for turn in range(cuda.blockIdx.x, turns, cuda.gridDim.x):
        unit, _, active = target(turn, units, 1, tiles, side, slot)
        m, s = _statistics(x, unit * n, n if active else 0, 1, near, lane, lanes)
        if active and lane == 0:
            v = math.log(T(s)) + m
            y[unit] = m if (m - m != 0) & (s == s) else v


@kernel(blocks=_grid_of_stripes)
def softmax_columns(y: T, x: T, n: dim, inner: dim, units):
    """y = softmax(x) along the middle of (outer, n, inner)."""
    _softmax(y, x, n, inner, units // _tiles_of(inner, STRIPE))


@kernel(blocks=_grid_of_stripes)
def log_softmax_columns(y: T, x: T, n: dim, inner: dim, units):
    """y = log_softmax(x) along the middle of (outer, n, inner)."""
    _log_softmax(y, x, n, inner, units // _tiles_of(inner, STRIPE))


@kernel(blocks=_grid_of_stripes)
def dsoftmax_columns(dx: T, dy: T, y: T, n: dim, inner: dim, units):
    """dx = y * (dy - sum(dy * y)) along the middle of (outer, n, inner)."""
    _dsoftmax(dx, dy, y, n, inner, units // _tiles_of(inner, STRIPE))


@kernel(blocks=_grid_of_stripes)
def dlog_softmax_columns(dx: T, dy: T, y: T, n: dim, inner: dim, units):
    """dx = dy - exp(y) * sum(dy) along the middle of (outer, n, inner)."""
    _dlog_softmax(dx, dy, y, n, inner, units // _tiles_of(inner, STRIPE))


# --- running sums and products --------------------------------------------------------------------------------------


def _running(name, word, identity, combine):
    """Declare ``name``: the results of all elements up to each one, combined in float64 or int64.

    Where inner > 1 each column of a block has a thread. Else a block is the work of a warp, or of all threads if it is
    long: each takes four neighbours and adds them up; what comes before them is a scan of these sums.
    """
    identity, combine = jit(identity), jit(combine)
    before_of, lane_scan = scan_by(combine), warp_scan_by(combine)

    def running(y: T, x: T, carry: U, n: dim, inner: dim, block: dim, blocks: dim, units):
        if inner > 1:
            e = cuda.grid(1)
            while e < units * inner:
                unit, c = split(e, inner)
                o, part = split(unit, blocks)
                start, stop = part * block, min((part + 1) * block, n)
                total = carry[e - inner] if part > 0 else identity(carry)
                j, end = (o * n + start) * inner + c, (o * n + stop) * inner + c
                while j + 3 * inner < end:  # four loads are under way at once
                    p, q, r, s = x[j], x[j + inner], x[j + 2 * inner], x[j + 3 * inner]
                    a = combine(total, U(p))
                    b = combine(a, U(q))
                    d = combine(b, U(r))
                    total = combine(d, U(s))
                    y[j] = T(a)
                    y[j + inner] = T(b)
                    y[j + 2 * inner] = T(d)
                    y[j + 3 * inner] = T(total)
                    j += 4 * inner
                while j < end:
                    total = combine(total, U(x[j]))
                    y[j] = T(total)
                    j += inner
                e += cuda.gridsize(1)
            return
        alone = _is_short(block)
        side = cuda.blockDim.x >> 5 if alone else 1
        lane = cuda.threadIdx.x & 31 if alone else cuda.threadIdx.x
        hop = 128 if alone else 4 * cuda.blockDim.x
        turn = cuda.blockIdx.x
        while turn * side < units:
            unit = turn * side + (cuda.threadIdx.x >> 5 if alone else 0)
            at, size, total = np.int64(0), np.int64(0), identity(carry)
            if unit < units:
                o, part = split(unit, blocks)
                at = o * n + part * block
                size = min(block, n - part * block)
                if part > 0:
                    total = carry[unit - 1]
            whole = in_fours(x, at, 1) and in_fours(y, at, 1)
            for first in range(0, block, hop):
                j = first + 4 * lane
                a = b = c = d = identity(carry)
                full = whole and j + 3 < size
                if full:
                    p, q, r, s = load4(x, at + j)
                    a, b, c, d = U(p), U(q), U(r), U(s)
                elif j < size:
                    a = U(x[at + j])
                    b = U(x[at + j + 1]) if j + 1 < size else b
                    c = U(x[at + j + 2]) if j + 2 < size else c
                    d = U(x[at + j + 3]) if j + 3 < size else d
                b = combine(a, b)
                c = combine(b, c)
                d = combine(c, d)
                before, more = lane_scan(d, identity(carry)) if alone else before_of(d, identity(carry))
                before = combine(total, before)
                total = combine(total, more)
                a, b, c, d = combine(before, a), combine(before, b), combine(before, c), combine(before, d)
                if full:
                    store4(y, at + j, T(a), T(b), T(c), T(d))
                elif j < size:
                    y[at + j] = T(a)
                    if j + 1 < size:
                        y[at + j + 1] = T(b)
                    if j + 2 < size:
                        y[at + j + 2] = T(c)
                    if j + 3 < size:
                        y[at + j + 3] = T(d)
            turn += cuda.gridDim.x

    def grid_of(units, dims):
        _, inner, block, _ = dims
        if inner > 1:
            return -(-units * inner // THREADS)
        return -(-units // (THREADS // 32)) if _short(block) else units

    doc = f"y[o, j, c] = {word}(x[o, :j+1, c]); y, x (outer, n, inner), in blocks of n; as the CPU's."
    _declare(name, running, doc, grid_of, _RUNNING)


def _short(block):
    return block <= 512


_is_short = jit(_short)
_RUNNING = (("float32", "float64"), ("float64", ""), ("int64", ""), ("int32", "int64"))

_running("cumsum", "sum", lambda x: zero(x), _add)
_running("cumprod", "prod", lambda x: zero(x) + 1, lambda a, b: a * b)
