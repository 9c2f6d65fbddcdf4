"""Indexing: selecting, gathering and scattering by position, masks, one-hot and triangles. Twins of kernels/index.py.

DESIGN
a. The host does not wait to learn whether an index is valid. ``check_index`` finds the first bad one of each block;
   ``wrap_index``, which follows, notes the first of all in ``errors``, which becomes an exception at the next
   synchronisation, and makes it 0, so that nothing reads wild memory.
b. Kernels that write to places which repeat do so in the order of j, without atomics: the bits are those of the CPU.
   Each place has one owner. With many columns (or few j) that is a thread for each column, which walks all j. Else
   places are cut into parts by their lowest bits: a block owns every PARTS-th place and looks for those among all
   indices, CHUNK at a time; it keeps what it finds in shared memory, in order; and its threads share the places again.
   So a place that most j name is slow.
"""

import functools

import numpy as np
from numba import cuda

from .contract import FLOATS, THREADS, T, dim, errors, i8, jit, kernel, u1
from .groups import copy, four, rows_grid, scan_by, walk, width_bits
from .parts import aligned, block_min, block_sum, load4, split

TILE = 64  # columns of a unit of the kernels that write to repeated places
PARTS = 256  # at most
MANY = 8192  # columns: as many threads keep a GPU busy
FEW = 32  # places that a thread may as well walk alone
BLOCKS = 1024
EACH = 8  # indices that a thread looks at in one go
CHUNK = THREADS * EACH
INDEX = 4  # errors[0]: an index is outside its dimension; errors[1:4]: its place in the index, its value, the size
block_before = scan_by(lambda a, b: a + b)
_MOVED = (*FLOATS, ("int16", ""), ("uint8", ""))
_ADDED = (*FLOATS, ("int64", ""))
_WHOLE = (("int64", ""),)


# --- one index for whole slices: index_select, embedding, x[index] ---------------------------------------------------


def _rows_of(place):
    """The grid of a kernel whose units move dims[place] elements each."""
    return lambda units, dims: rows_grid(units, dims[place])


@jit
def _rows(width):
    """(this thread's lane, lanes, its unit, units that the grid takes at once)."""
    bits = width_bits(width, cuda.blockDim.x)
    side, me = cuda.blockDim.x >> bits, cuda.threadIdx.x
    return me & ((1 << bits) - 1), 1 << bits, cuda.blockIdx.x * side + (me >> bits), cuda.gridDim.x * side


@kernel(blocks=_rows_of(2), types=_MOVED)
def take(y: T, x: T, index: i8, n: dim, size: dim, inner: dim, units):
    """y[o, j, :] = x[o, index[j], :]; y (outer, n, inner), x (outer, size, inner), index (n,); unit = o * n + j."""
    lane, lanes, first, stride = _rows(inner)
    for unit in range(first, units, stride):
        o, j = split(unit, n)
        copy(y, unit * inner, x, (o * size + index[j]) * inner, inner, lane, lanes)


@kernel(blocks=_rows_of(2), types=_MOVED)
def gather(y: T, x: T, index: i8, m: dim, size: dim, inner: dim, units):
    """y[o, j, c] = x[o, index[o, j, c], c]; y, index (outer, m, inner), x (outer, size, inner); unit = o * m + j."""
    lane, lanes, first, stride = _rows(inner)
    for unit in range(first, units, stride):
        base, at, c = split(unit, m)[0] * size * inner, unit * inner, lane
        while c < inner:
            y[at + c] = x[base + index[at + c] * inner + c]
            c += lanes


# --- writing to places that repeat ------------------------------------------------------------------------------------


def _alone(columns, n):
    return columns >= MANY or n <= FEW


def _side_bits(inner):
    """2 to this power are the columns of a block whose columns share the indices."""
    bits = 0
    while bits < 5 and (1 << bits) < inner:
        bits += 1
    return bits


def _part_bits(jobs, n):
    """2 to this power are the parts into which the places of a column are cut."""
    bits = 0
    while (2 << bits) <= PARTS and (jobs << bits) < BLOCKS and (CHUNK << bits) < 8 * n:
        bits += 1
    return bits


alone, side_bits, part_bits = jit(_alone), jit(_side_bits), jit(_part_bits)


@functools.lru_cache(1024)
def _write_grid(outer, inner, n, shared):
    if _alone(outer * inner, n):
        return -(-outer * inner // THREADS)
    jobs = outer * -(-inner // (1 << _side_bits(inner) if shared else 1))
    return jobs << _part_bits(jobs, n)


def _writer(combine):
    """``write``: x[o, index, c] = combine(it, v[o, j, c]) for all o, c and, in order, j < n.

    Strides of x: (x_outer, x_step, 1); of v: (v_outer, v_step, v_inner). ``shared``: all columns have the indices
    index[j]; else they are index (outer, n, inner).
    """
    combine = jit(combine)

    @jit
    def found(index, at, step, first, n, parts, part, places, numbers):
        """places, numbers = index[j], j - first of the part's among CHUNK indices from the first on; how many."""
        me = cuda.threadIdx.x
        start = first + me * EACH
        stop = min(start + EACH, n)
        count = np.int64(0)
        for j in range(start, stop):
            count += 1 if index[at + j * step] & (parts - 1) == part else 0
        k, total = block_before(count, np.int64(0))
        for j in range(start, stop):
            place = index[at + j * step]
            if place & (parts - 1) == part:
                places[k], numbers[k] = place, j - first
                k += 1
        cuda.syncthreads()  # all have written
        return total

    @jit
    def write(x, v, index, outer, n, inner, x_outer, x_step, v_outer, v_step, v_inner, shared):
        me, threads = cuda.threadIdx.x, cuda.blockDim.x
        if alone(outer * inner, n):
            for e in range(cuda.grid(1), outer * inner, cuda.gridsize(1)):
                o, c = split(e, inner)
                to, at, start, step = o * x_outer + c, o * v_outer + c * v_inner, 0, 1
                if not shared:
                    start, step = o * n * inner + c, inner
                for j in range(n):
                    i = to + index[start + j * step] * x_step
                    x[i] = combine(x[i], v[at + j * v_step])
        else:
            places = cuda.shared.array(CHUNK, np.int64)
            numbers = cuda.shared.array(CHUNK, np.int32)
            bits = side_bits(inner) if shared else 0
            tiles = (inner + (1 << bits) - 1) >> bits
            cut = part_bits(outer * tiles, n)
            slots = threads >> bits
            for job in range(cuda.blockIdx.x, (outer * tiles) << cut, cuda.gridDim.x):
                part, column = job & ((1 << cut) - 1), job >> cut
                o, tile = split(column, tiles)
                c = (tile << bits) + (me & ((1 << bits) - 1))
                to, at, start, step = o * x_outer + c, o * v_outer + c * v_inner, 0, 1
                if not shared:
                    start, step = o * n * inner + c, inner
                for first in range(0, n, threads * EACH):
                    count = found(index, start, step, first, n, 1 << cut, part, places, numbers)
                    for k in range(count):
                        if (places[k] >> cut) & (slots - 1) == me >> bits and c < inner:
                            i = to + places[k] * x_step
                            x[i] = combine(x[i], v[at + (first + numbers[k]) * v_step])
                    cuda.syncthreads()

    return write


_put = _writer(lambda old, new: new)
_add = _writer(lambda old, new: old + new)


@jit
def _tiles(inner):
    return (inner + TILE - 1) // TILE


def _outer(units, inner):
    return units // -(-inner // TILE)


def _take_add_grid(units, dims):
    return _write_grid(_outer(units, dims[2]), dims[2], dims[0], True)


def _put_grid(units, dims):
    return _write_grid(1, dims[1], dims[0], True)


def _scatter_grid(units, dims):
    return _write_grid(_outer(units, dims[2]), dims[2], dims[0], False)


@kernel(blocks=_take_add_grid, types=_ADDED)
def take_add(dx: T, dy: T, index: i8, n: dim, size: dim, inner: dim, units):
    """dx[o, index[j], :] += dy[o, j, :]; shapes as take; unit = o * ceil(inner / TILE) + tile of columns."""
    _add(dx, dy, index, units // _tiles(inner), n, inner, size * inner, inner, n * inner, inner, 1, True)


@kernel(blocks=_put_grid, types=_MOVED)
def put(x: T, v: T, index: i8, n: dim, inner: dim, v_stride: dim, v_inner: dim, units):
    """x[index[j], c] = v[j * v_stride + c * v_inner], the last j wins; unit = tile of TILE columns."""
    _put(x, v, index, 1, n, inner, 0, inner, 0, v_stride, v_inner, True)


@kernel(blocks=_put_grid, types=_ADDED)
def put_add(x: T, v: T, index: i8, n: dim, inner: dim, v_stride: dim, v_inner: dim, units):
    """x[index[j], c] += v[j * v_stride + c * v_inner] in the order of j; arguments and units as put."""
    _add(x, v, index, 1, n, inner, 0, inner, 0, v_stride, v_inner, True)


@kernel(blocks=_scatter_grid, types=_ADDED)
def scatter_add(dx: T, dy: T, index: i8, m: dim, size: dim, inner: dim, units):
    """dx[o, index[o, j, c], c] += dy[o, j, c]; shapes as gather; unit = o * ceil(inner / TILE) + tile of columns."""
    _add(dx, dy, index, units // _tiles(inner), m, inner, size * inner, inner, m * inner, inner, 1, False)


@kernel(blocks=_scatter_grid, types=_MOVED)
def scatter(x: T, v: T, index: i8, m: dim, size: dim, inner: dim, units):
    """x[o, index[o, j, c], c] = v[o, j, c], the last j wins; shapes as gather, units as scatter_add."""
    _put(x, v, index, units // _tiles(inner), m, inner, size * inner, inner, m * inner, inner, 1, False)


# --- indices themselves -----------------------------------------------------------------------------------------------


@kernel(per=1, types=_WHOLE)
def check_index(bad: i8, index: i8, n: dim, low: dim, high: dim, block: dim, units):
    """bad[k] = first position in block k of index (n,) whose value is outside [low, high), or -1; unit = a block."""
    whole = aligned(index) and block % 4 == 0
    k = cuda.blockIdx.x
    while k < units:
        at = k * block
        size = min(block, n - at)
        first = size
        j, hop, gap, end = walk(size, 1, cuda.threadIdx.x, cuda.blockDim.x)
        while j < end and first == size:
            a, b, c, d = four(index, at + j, gap, whole)
            first = j + 3 if (d < low) | (d >= high) else first
            first = j + 2 if (c < low) | (c >= high) else first
            first = j + 1 if (b < low) | (b >= high) else first
            first = j if (a < low) | (a >= high) else first
            j += hop
        j = end + cuda.threadIdx.x
        if j < size and first == size and (index[at + j] < low or index[at + j] >= high):
            first = j
        first = block_min(first)
        if cuda.threadIdx.x == 0:
            bad[k] = at + first if first < size else -1
        k += cuda.gridDim.x


@kernel(types=_WHOLE)
def wrap_index(y: i8, x: i8, bad: i8, size: dim, blocks: dim, errors: errors, units):
    """y = x + size where x < 0, else x, over elements; 0 where that is outside [0, size). What is bad becomes an error.

    bad (blocks,): what check_index found.
    """
    i = cuda.grid(1)
    while i < units:
        v = x[i] + size if x[i] < 0 else x[i]
        y[i] = v if (v >= 0) & (v < size) else 0
        i += cuda.gridsize(1)
    if cuda.blockIdx.x == 0:
        first = units
        i = np.int64(cuda.threadIdx.x)
        while i < blocks:
            first = min(first, bad[i]) if bad[i] >= 0 else first
            i += cuda.blockDim.x
        first = block_min(first)
        if cuda.threadIdx.x == 0 and first < units and errors[0] == 0:
            errors[1], errors[2], errors[3] = first, x[first], size
            cuda.threadfence_system()  # the host sees a code only with the rest
            errors[0] = INDEX


@jit
def _chosen(mask, i, end, whole):
    """Which of mask[i : i + 4] are not 0, as 0 or 1."""
    if whole and i + 3 < end:
        a, b, c, d = load4(mask, i)
        return np.int64(a != 0), np.int64(b != 0), np.int64(c != 0), np.int64(d != 0)
    zero = np.int64(0)
    a = np.int64(mask[i] != 0) if i < end else zero
    b = np.int64(mask[i + 1] != 0) if i + 1 < end else zero
    c = np.int64(mask[i + 2] != 0) if i + 2 < end else zero
    d = np.int64(mask[i + 3] != 0) if i + 3 < end else zero
    return a, b, c, d


@kernel(per=1, types=_WHOLE)
def count_mask(count: i8, mask: u1, n: dim, block: dim, units):
    """count[k] = how many of block k of mask (n,) are not 0; unit = a block."""
    whole = aligned(mask) and block % 4 == 0
    k, step = cuda.blockIdx.x, 4 * cuda.blockDim.x
    while k < units:
        i, end, total = k * block + 4 * cuda.threadIdx.x, min((k + 1) * block, n), np.int64(0)
        while i < end:
            a, b, c, d = _chosen(mask, i, end, whole)
            e, f, g, h = _chosen(mask, i + step, end, whole)
            total += ((a + b) + (c + d)) + ((e + f) + (g + h))
            i += 2 * step
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            count[k] = total
        k += cuda.gridDim.x


@kernel(per=1, types=_WHOLE)
def mask_to_index(index: i8, start: i8, mask: u1, n: dim, block: dim, units):
    """index[start[k] : start[k + 1]] = positions in block k of mask (n,) where it is not 0; unit = a block."""
    whole = aligned(mask) and block % 4 == 0
    k, step = cuda.blockIdx.x, 4 * cuda.blockDim.x
    while k < units:
        first, end, at = k * block, min((k + 1) * block, n), start[k]
        while first < end and at < start[k + 1]:
            i = first + 4 * cuda.threadIdx.x
            a, b, c, d = _chosen(mask, i, end, whole)
            before, total = block_before((a + b) + (c + d), np.int64(0))
            j = at + before
            if a != 0:
                index[j] = i
            j += a
            if b != 0:
                index[j] = i + 1
            j += b
            if c != 0:
                index[j] = i + 2
            j += c
            if d != 0:
                index[j] = i + 3
            at += total
            first += step
        k += cuda.gridDim.x


@kernel(blocks=_rows_of(0), types=_WHOLE)
def one_hot(y: T, index: i8, classes: dim, units):
    """y[i, c] = (c == index[i]); y (N, classes), index (N,); unit = i."""
    lane, lanes, first, stride = _rows(classes)
    for i in range(first, units, stride):
        c = lane
        while c < classes:
            y[i * classes + c] = 1 if c == index[i] else 0
            c += lanes


# --- matrices ---------------------------------------------------------------------------------------------------------


@kernel(blocks=_rows_of(1), types=_MOVED)
def tri(y: T, x: T, rows: dim, cols: dim, diagonal: dim, upper: dim, units):
    """y = x where c - r >= diagonal (upper, triu) or <= diagonal (tril), else 0; (batch, rows, cols); unit = a row."""
    lane, lanes, first, stride = _rows(cols)
    for unit in range(first, units, stride):
        edge, c = split(unit, rows)[1] + diagonal, lane
        while c < cols:
            kept = c >= edge if upper != 0 else c <= edge
            y[unit * cols + c] = x[unit * cols + c] if kept else T(0)
            c += lanes
