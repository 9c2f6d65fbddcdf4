"""Threads that compute one result together: how many, which, and how they pass values to each other.

DESIGN
a. x is viewed as (outer, n, inner) as in kernels/reduce.py, and a result is made of n elements that lie ``inner``
   apart. Its threads are ``lanes`` (a power of two): neighbours where inner == 1, so that they read along the row; else
   ``near`` apart, so that neighbours read neighbouring columns. Both ways a warp reads whole 32-byte sectors.
b. How many lanes depends on n and inner alone: one for rows of a few elements, 32 up to 1,024, the block beyond; the
   bits of a result depend on nothing else.
c. ``swap`` and ``peek`` pass values of one type between threads; all threads of a block call them together.
d. A lane takes ``four`` elements at a time, so that enough loads are under way: along a row neighbours, by one access
   where they are aligned, else elements ``lanes`` apart. ``walk`` says which; alignment does not change the order.
"""

import functools
import threading

import numpy as np
from numba import cuda
from numba.cuda.core import config

from .contract import THREADS, jit
from .parts import aligned, load4, split, store4

# --- values -----------------------------------------------------------------------------------------------------------


def wide(v):
    """v as what sums are made of: float64, or int64 for an integer or bool."""
    return np.float64(v) if isinstance(v, (float, np.floating)) else np.int64(v)


def typed(x, v):
    """v in the element type of pointer x."""
    return x.dtype.type(v)


def zero(x):
    """0 as ``wide`` makes it of an element of pointer x."""
    return np.float64(0) if x.dtype.kind == "f" else np.int64(0)


def by_type(single, double):
    """``f(y, *five)``: what is done where y points to float32, and where to float64."""
    single, double = jit(single), jit(double)

    def choose(y, a, b, c, d, e):
        return (single if y.dtype == np.float32 else double)(y, a, b, c, d, e)

    if not config.ENABLE_CUDASIM:

        @overload(choose)
        def chosen(y, a, b, c, d, e):
            if y.dtype == types.float32:
                return lambda y, a, b, c, d, e: single(y, a, b, c, d, e)
            return lambda y, a, b, c, d, e: double(y, a, b, c, d, e)

    return choose


# --- from thread to thread --------------------------------------------------------------------------------------------


def peek(v, thread):
    """The v of a thread of the block, of at most THREADS."""
    me = threading.current_thread()
    assert me.thread_id < THREADS
    values = me._manager.__dict__.setdefault("peek", {})
    values[me.thread_id] = v
    me.syncthreads()
    found = values[int(thread)]
    me.syncthreads()
    return found


def swap(v, bit):
    """The v of the thread whose number differs in ``bit``, a power of two."""
    return peek(v, threading.current_thread().thread_id ^ int(bit))


def glance(v, lane):
    """The v of a lane of the warp."""
    return peek(v, threading.current_thread().thread_id // 32 * 32 + int(lane))


if not config.ENABLE_CUDASIM:
    from numba.cuda import types
    from numba.cuda.extending import overload

    @overload(wide)
    def _wide(v):
        if isinstance(types.unliteral(v), types.Float):
            return lambda v: np.float64(v)
        return lambda v: np.int64(v)

    @overload(typed)
    def _typed(x, v):
        kind = x.dtype
        return lambda x, v: kind(v)

    @overload(zero)
    def _zero(x):
        kind = types.float64 if isinstance(x.dtype, types.Float) else types.int64
        return lambda x: kind(0)

    @overload(peek)
    def _peek(v, thread):
        kind = types.unliteral(v)

        def among_block(v, thread):
            room = cuda.shared.array(THREADS, kind)
            room[cuda.threadIdx.x] = v
            cuda.syncthreads()
            found = room[thread]
            cuda.syncthreads()  # before the room serves the next
            return found

        return among_block

    @overload(glance)
    def _glance(v, lane):
        return lambda v, lane: cuda.shfl_sync(0xFFFFFFFF, v, lane)

    @overload(swap)
    def _swap(v, bit):
        def within_warp_or_block(v, bit):
            if bit < 32:
                return cuda.shfl_xor_sync(0xFFFFFFFF, v, bit)
            return peek(v, cuda.threadIdx.x ^ bit)

        return within_warp_or_block


def fold_by(combine):
    """``fold(v, near, lanes)``: v of all lanes combined, to all of them, as a butterfly."""

    @jit
    def fold(v, near, lanes):
        bit = near
        while bit < near * lanes:
            v = combine(v, swap(v, bit))
            bit *= 2
        return v

    return fold


def warp_scan_by(combine):
    """``scan(v, identity)``: what the v of the lanes before this one combine to, and those of the whole warp.

    All threads of the block call it (Hillis and Steele 1986).
    """
    combine = jit(combine)

    @jit
    def scan(v, identity):
        lane, reach = cuda.threadIdx.x & 31, 1
        while reach < 32:
            w = glance(v, lane - reach if lane >= reach else lane)
            v = combine(w, v) if lane >= reach else v
            reach *= 2
        before, total = glance(v, lane - 1 if lane > 0 else 0), glance(v, 31)
        return before if lane > 0 else identity, total

    return scan


def scan_by(combine):
    """``warp_scan_by`` for all threads of the block: the warps in order."""
    scan = warp_scan_by(combine)
    combine = jit(combine)

    @jit
    def over_block(v, identity):
        lane, warp, warps = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5, cuda.blockDim.x >> 5
        mine, total = scan(v, identity)
        w = peek(total, 32 * min(lane, warps - 1))
        before, total = scan(w if lane < warps else identity, identity)
        return combine(glance(before, warp), mine), total

    return over_block


# --- who computes what ------------------------------------------------------------------------------------------------


def _row_bits(n, threads):
    """2 to this power are the lanes of a row: with at least four elements each up to a warp."""
    bits = 0
    while bits < 5 and (8 << bits) <= n:
        bits += 1
    while n > 1024 and (1 << bits) < threads:
        bits += 1
    return bits


def _column_bits(n, inner, threads):
    """2 to this power are the columns side by side: a warp's width, more where n leaves lanes nothing to do."""
    bits = 0
    while (1 << bits) < inner and (1 << bits) < threads and (bits < 5 or n << bits < 4 * threads):
        bits += 1
    return bits


def _width_bits(width, threads):
    """2 to this power are the lanes that move ``width`` elements which lie side by side."""
    bits = 0
    while (2 << bits) <= width and (1 << bits) < threads:
        bits += 1
    return bits


row_bits, column_bits, width_bits = jit(_row_bits), jit(_column_bits), jit(_width_bits)


@functools.lru_cache(1024)
def grid(units, n, inner):
    """How many blocks ``layout`` makes use of."""
    if inner == 1:
        return -(-units // (THREADS >> _row_bits(n, THREADS)))
    return units * -(-inner // (1 << _column_bits(n, inner, THREADS)))


@jit
def layout(n, inner, units):
    """(turns of the block, tiles of columns, results side by side, this thread's lane, lanes, near, its result)."""
    threads, me = cuda.blockDim.x, cuda.threadIdx.x
    if inner == 1:
        bits = row_bits(n, threads)
        side, lanes = threads >> bits, 1 << bits
        return (units + side - 1) // side, 1, side, me & (lanes - 1), lanes, 1, me >> bits
    bits = column_bits(n, inner, threads)
    side, lanes = 1 << bits, threads >> bits
    tiles = (inner + side - 1) // side
    return units * tiles, tiles, side, me >> bits, lanes, side, me & (side - 1)


@jit
def target(turn, units, inner, tiles, side, slot):
    """(unit, column, whether there is such a one) of a thread's result in a turn."""
    if inner == 1:
        unit = turn * side + slot
        return unit, 0, unit < units
    unit, tile = split(turn, tiles)
    column = tile * side + slot
    return unit, column, column < inner


@jit
def walk(n, step, lane, lanes):
    """(first, hop, gap, end) of a lane that goes through n elements ``step`` apart.

    Its fours are the elements j + (0, 1, 2, 3) * gap for j = first, first + hop, ... < end; then it takes single ones,
    ``lanes`` apart from end + lane on.
    """
    if step == 1:
        return 4 * lane, 4 * lanes, 1, n & ~3
    return lane, 4 * lanes, lanes, n & ~(4 * lanes - 1)


@jit
def four(x, i, gap, whole):
    """x[i], x[i + gap], x[i + 2 * gap], x[i + 3 * gap]; ``whole``: gap is 1 and i is aligned."""
    if whole:
        return load4(x, i)
    return x[i], x[i + gap], x[i + 2 * gap], x[i + 3 * gap]


@jit
def put_four(y, i, gap, whole, a, b, c, d):
    """The inverse of ``four``."""
    if whole:
        store4(y, i, a, b, c, d)
    else:
        y[i] = a
        y[i + gap] = b
        y[i + 2 * gap] = c
        y[i + 3 * gap] = d


@jit
def in_fours(x, at, step):
    """Whether the fours of the row at x[at] are aligned."""
    return (step == 1) & (at & 3 == 0) and aligned(x)


@functools.lru_cache(1024)
def rows_grid(units, width):
    """Blocks where each of ``units`` moves ``width`` elements that lie side by side."""
    return -(-units // (THREADS >> _width_bits(width, THREADS)))


@jit
def copy(y, to, x, at, n, lane, lanes):
    """y[to : to + n] = x[at : at + n], one lane's part; four loads are under way at once."""
    j = lane
    while j + 3 * lanes < n:
        a, b, c, d = x[at + j], x[at + j + lanes], x[at + j + 2 * lanes], x[at + j + 3 * lanes]
        y[to + j] = a
        y[to + j + lanes] = b
        y[to + j + 2 * lanes] = c
        y[to + j + 3 * lanes] = d
        j += 4 * lanes
    while j < n:
        y[to + j] = x[at + j]
        j += lanes
