"""Indexing: selecting, gathering and scattering by position, masks, one-hot and triangles.

DESIGN
a. The engine has validated the indices (``check_index``) and made them non-negative (``wrap_index``) before: nothing
   is checked here, and an index outside its range would read or write wild memory.
b. x is contiguous and viewed as (outer, size, inner) around the indexed dimension.
c. A kernel that adds to places which repeat cannot be split over the indices. Its unit is a tile of TILE columns of one
   outer slice: unit = o * tiles + t, tiles = ceil(inner / TILE). Every place is added to in the order of j, so the sum
   has the same bits at any split.
d. Kernels that only move data take any dtype; the caller may pass a same-sized one to compile fewer of them.
"""

import numpy as np

from .contract import T, dim, i8, kernel, u1

TILE = 64  # columns a unit of the kernels that write to repeated places


def _cube(a, n, inner):
    """a as (outer, n, inner), for the references; -1 would not do for empty ones."""
    return a.reshape(a.size // max(n * inner, 1), n, inner)


# --- one index for whole slices: index_select, embedding, x[index] ---------------------------------------------------


@kernel
def take(y: T, x: T, index: i8, n: dim, size: dim, inner: dim, lo, hi):
    """y[o, j, :] = x[o, index[j], :]; y (outer, n, inner), x (outer, size, inner), index (n,); unit = o * n + j."""
    if inner == 1:
        o, j = lo // n if n > 0 else 0, lo % n if n > 0 else 0
        at = lo
        while at < hi:
            stop = n if hi - at > n - j else j + hi - at
            for k in range(j, stop):
                y[o * n + k] = x[o * size + index[k]]
            at += stop - j
            o, j = o + 1, 0
    else:
        for unit in range(lo, hi):
            o = unit // n
            to, at = unit * inner, (o * size + index[unit - o * n]) * inner
            for c in range(inner):
                y[to + c] = x[at + c]


@take.reference
def _take(y, x, index, n, size, inner):
    _cube(y, n, inner)[:] = _cube(x, size, inner)[:, index]


@kernel
def take_add(dx: T, dy: T, index: i8, n: dim, size: dim, inner: dim, lo, hi):
    """dx[o, index[j], :] += dy[o, j, :]; shapes as take; unit = o * ceil(inner / TILE) + tile of columns."""
    tiles = (inner + TILE - 1) // TILE
    for unit in range(lo, hi):
        o = unit // tiles
        first = (unit - o * tiles) * TILE
        width = TILE if first + TILE < inner else inner - first
        for j in range(n):
            to, at = (o * size + index[j]) * inner + first, (o * n + j) * inner + first
            for c in range(width):
                dx[to + c] += dy[at + c]


@take_add.reference
def _take_add(dx, dy, index, n, size, inner):
    dx, dy = _cube(dx, size, inner), _cube(dy, n, inner)
    for j in range(n):
        dx[:, index[j]] += dy[:, j]


@kernel
def put(x: T, v: T, index: i8, n: dim, inner: dim, v_stride: dim, v_inner: dim, lo, hi):
    """x[index[j], c] = v[j * v_stride + c * v_inner], the last j wins; unit = tile of TILE columns.

    x (size, inner), index (n,). v (n, inner): strides (inner, 1); one row for all: (0, 1); one number: (0, 0).
    """
    for unit in range(lo, hi):
        first = unit * TILE
        width = TILE if first + TILE < inner else inner - first
        for j in range(n):
            to, at = index[j] * inner + first, j * v_stride + first * v_inner
            if v_inner == 1:
                for c in range(width):
                    x[to + c] = v[at + c]
            else:
                for c in range(width):
                    x[to + c] = v[at + c * v_inner]


@put.reference
def _put(x, v, index, n, inner, v_stride, v_inner):
    for j in range(n):
        for c in range(inner):
            x.reshape(-1, inner)[index[j], c] = v.reshape(-1)[j * v_stride + c * v_inner]


@kernel
def put_add(x: T, v: T, index: i8, n: dim, inner: dim, v_stride: dim, v_inner: dim, lo, hi):
    """x[index[j], c] += v[j * v_stride + c * v_inner] in the order of j; arguments and units as put."""
    for unit in range(lo, hi):
        first = unit * TILE
        width = TILE if first + TILE < inner else inner - first
        for j in range(n):
            to, at = index[j] * inner + first, j * v_stride + first * v_inner
            if v_inner == 1:
                for c in range(width):
                    x[to + c] += v[at + c]
            else:
                for c in range(width):
                    x[to + c] += v[at + c * v_inner]


@put_add.reference
def _put_add(x, v, index, n, inner, v_stride, v_inner):
    for j in range(n):
        for c in range(inner):
            x.reshape(-1, inner)[index[j], c] += v.reshape(-1)[j * v_stride + c * v_inner]


# --- an index for every element: gather, scatter ----------------------------------------------------------------------


@kernel
def gather(y: T, x: T, index: i8, m: dim, size: dim, inner: dim, lo, hi):
    """y[o, j, c] = x[o, index[o, j, c], c]; y, index (outer, m, inner), x (outer, size, inner); unit = o * m + j."""
    for unit in range(lo, hi):
        base, at = unit // m * size * inner, unit * inner
        for c in range(inner):
            y[at + c] = x[base + index[at + c] * inner + c]


@gather.reference
def _gather(y, x, index, m, size, inner):
    _cube(y, m, inner)[:] = np.take_along_axis(_cube(x, size, inner), _cube(index, m, inner), 1)


@kernel
def scatter_add(dx: T, dy: T, index: i8, m: dim, size: dim, inner: dim, lo, hi):
    """dx[o, index[o, j, c], c] += dy[o, j, c]; shapes as gather; unit = o * ceil(inner / TILE) + tile of columns."""
    tiles = (inner + TILE - 1) // TILE
    for unit in range(lo, hi):
        o = unit // tiles
        first = (unit - o * tiles) * TILE
        width = TILE if first + TILE < inner else inner - first
        base = o * size * inner + first
        for j in range(m):
            at = (o * m + j) * inner + first
            for c in range(width):
                dx[base + index[at + c] * inner + c] += dy[at + c]


@scatter_add.reference
def _scatter_add(dx, dy, index, m, size, inner):
    dx, dy, index = _cube(dx, size, inner), _cube(dy, m, inner), _cube(index, m, inner)
    o, _, c = np.indices(index.shape)
    np.add.at(dx, (o, index, c), dy)


@kernel
def scatter(x: T, v: T, index: i8, m: dim, size: dim, inner: dim, lo, hi):
    """x[o, index[o, j, c], c] = v[o, j, c], the last j wins; shapes as gather, units as scatter_add."""
    tiles = (inner + TILE - 1) // TILE
    for unit in range(lo, hi):
        o = unit // tiles
        first = (unit - o * tiles) * TILE
        width = TILE if first + TILE < inner else inner - first
        base = o * size * inner + first
        for j in range(m):
            at = (o * m + j) * inner + first
            for c in range(width):
                x[base + index[at + c] * inner + c] = v[at + c]


@scatter.reference
def _scatter(x, v, index, m, size, inner):
    x, v, index = _cube(x, size, inner), _cube(v, m, inner), _cube(index, m, inner)
    for j in range(m):
        np.put_along_axis(x, index[:, j : j + 1], v[:, j : j + 1], 1)


# --- indices themselves -----------------------------------------------------------------------------------------------


@kernel
def check_index(bad: i8, index: i8, n: dim, low: dim, high: dim, block: dim, lo, hi):
    """bad[k] = first position in block k of index (n,) whose value is outside [low, high), or -1; unit = a block."""
    count = np.uint64(high - low) if high > low else np.uint64(0)
    for k in range(lo, hi):
        bad[k] = -1
        end = (k + 1) * block if (k + 1) * block < n else n
        for start in range(k * block, end, 1024):  # 1,024 at once whether one is bad, then which
            stop = start + 1024 if start + 1024 < end else end
            wrong = False
            for j in range(start, stop):
                wrong |= np.uint64(index[j] - low) >= count  # below low wraps around to a huge number
            if wrong:
                for j in range(start, stop):
                    if np.uint64(index[j] - low) >= count:
                        bad[k] = j
                        break
                break


@check_index.reference
def _check_index(bad, index, n, low, high, block):
    wrong = np.flatnonzero((index < low) | (index >= high))
    for k in range(bad.size):
        found = wrong[wrong // max(block, 1) == k]
        bad[k] = found[0] if found.size else -1


@kernel
def wrap_index(y: i8, x: i8, bad: i8, size: dim, blocks: dim, lo, hi):
    """y = x + size where x < 0, else x, over elements; 0 where that is outside [0, size).

    bad (blocks,), or NULL and 0: what check_index found, for a GPU: see kernels/cuda/index.py.
    """
    for i in range(lo, hi):
        v = x[i]
        v = v + size if v < 0 else v
        y[i] = v if 0 <= v < size else 0


@wrap_index.reference
def _wrap_index(y, x, bad, size, blocks):
    v = np.where(x < 0, x + size, x)
    y[:] = np.where((v >= 0) & (v < size), v, 0)


@kernel
def count_mask(count: i8, mask: u1, n: dim, block: dim, lo, hi):
    """count[k] = how many of block k of mask (n,) are not 0; unit = a block."""
    for k in range(lo, hi):
        end = (k + 1) * block if (k + 1) * block < n else n
        total = 0
        for i in range(k * block, end):
            total += mask[i] != 0
        count[k] = total


@count_mask.reference
def _count_mask(count, mask, n, block):
    for k in range(count.size):
        count[k] = np.count_nonzero(mask[k * block : (k + 1) * block])


@kernel
def mask_to_index(index: i8, start: i8, mask: u1, n: dim, block: dim, lo, hi):
    """index[start[k] : start[k + 1]] = positions in block k of mask (n,) where it is not 0; unit = a block."""
    for k in range(lo, hi):
        at, end, i = start[k], start[k + 1], k * block
        while at < end:  # without a branch: a position that is not taken is overwritten
            index[at] = i
            at += mask[i] != 0
            i += 1


@mask_to_index.reference
def _mask_to_index(index, start, mask, n, block):
    index[:] = np.flatnonzero(mask)


@kernel
def one_hot(y: T, index: i8, classes: dim, lo, hi):
    """y[i, c] = (c == index[i]); y (N, classes), index (N,); unit = i."""
    for j in range(lo * classes, hi * classes):
        y[j] = T(0)
    for i in range(lo, hi):
        y[i * classes + index[i]] = T(1)


@one_hot.reference
def _one_hot(y, index, classes):
    y.reshape(-1, classes)[:] = index[:, None] == np.arange(classes)


# --- matrices ---------------------------------------------------------------------------------------------------------


@kernel
def tri(y: T, x: T, rows: dim, cols: dim, diagonal: dim, upper: dim, lo, hi):
    """y = x where c - r >= diagonal (upper, triu) or <= diagonal (tril), else 0; (batch, rows, cols); unit = a row."""
    for unit in range(lo, hi):
        edge = unit % rows + diagonal + (0 if upper != 0 else 1)  # the first column of the right part
        edge = 0 if edge < 0 else (cols if edge > cols else edge)
        at = unit * cols
        if upper != 0:
            for c in range(at, at + edge):
                y[c] = T(0)
            for c in range(at + edge, at + cols):
                y[c] = x[c]
        else:
            for c in range(at, at + edge):
                y[c] = x[c]
            for c in range(at + edge, at + cols):
                y[c] = T(0)


@tri.reference
def _tri(y, x, rows, cols, diagonal, upper):
    _cube(y, rows, cols)[:] = (np.triu if upper else np.tril)(_cube(x, rows, cols), diagonal)
