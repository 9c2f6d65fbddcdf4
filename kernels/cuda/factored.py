"""Adafactor's step: second moments kept as one row and one column of each matrix.

DESIGN
a. As on the CPU a unit is a whole tensor, which one block works on: its step needs the root mean square of the
   parameter and of the update. It makes four passes over memory; tensors go on beside each other, a single large one
   does not use the whole GPU.
b. A matrix is the block's work: a warp takes a row, and a tile of 32 columns is summed by all warps, a part of the rows
   each, which one warp adds in order. Of many small matrices (convolutions have them) each is one thread's work: a
   *team* is the block or a thread. Sums are float64 and in an order that depends on shapes only.
c. The update is computed twice, for its norm and to subtract it, and never stored.
"""

import math

import numpy as np
from numba import cuda

from .contract import T, dim, f8, f8s, i8, jit, kernel
from .optimizers import _lerp
from .parts import at, block_sum, warp_sum

BLOCK = 256  # threads a tensor; fewer would do
WARPS = BLOCK // 32
SMALL = 64  # elements of a matrix that is one thread's work


@jit
def _square(x):
    wide = np.float64(x)
    return wide * wide


@jit
def _scaled(g, v, low):
    """g / sqrt(max(v, low)); nan stays."""
    return g / math.sqrt(low if v < low else v)


@jit
def _centre(r, h, least, small):
    """The mean of r, at least ``least``, for the whole team."""
    total = 0.0
    if small:
        for i in range(h):
            total += np.float64(r[i])
    else:
        for i in range(cuda.threadIdx.x, h, cuda.blockDim.x):
            total += np.float64(r[i])
        total = block_sum(total)
    mean = type(least)(total / h)
    return least if mean < least else mean


@kernel(block=BLOCK, per=1, fma=False)
def adafactor(
    params: i8,
    row: i8,
    column: i8,
    grads: i8,
    heights: i8,
    widths: i8,
    sizes: i8,
    table: f8,
    maximize: dim,
    lr: f8s,
    eps1: f8s,
    eps2: f8s,
    d: f8s,
    weight_decay: f8s,
    units,
):
    """row, column = lerp(., mean(g^2), table0); u = g / sqrt(max(row column / mean(row), eps1^2)); p -= alpha u.

    alpha = max(eps2, rms(p)) table1 / max(1, rms(u) / d).
    """
    keep, least, low = T(1.0 - lr * weight_decay), T(eps1), T(eps1 * eps1)
    tile = cuda.shared.array((WARPS, 32), np.float64)
    me, lane, warp = cuda.threadIdx.x, cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
    threads, warps = cuda.blockDim.x, cuda.blockDim.x >> 5
    for k in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        size, h, w = sizes[k], heights[k], widths[k]
        if size == 0:
            continue
        p, g, weight = at(params[k], 0, T), at(grads[k], 0, T), T(table[2 * k])
        vector = column[k] == 0
        small = h * w <= SMALL
        matrices, team, first = size // (h * w), threads if small else 1, me if small else 0
        start, step = 0 if small else warp, 1 if small else warps  # this thread's rows and
        left, lanes = 0 if small else lane, 1 if small else 32  # columns of a matrix
        root = math.sqrt(np.float64(size))
        total = 0.0
        for i in range(me, size, threads):
            total += _square(p[i])
        rms = math.sqrt(block_sum(total)) / root
        alpha = (rms if rms > eps2 else eps2) * table[2 * k + 1]

        total = 0.0  # of the squares of u, this thread's
        if vector:
            v = at(row[k], 0, T)
            for i in range(me, size, threads):
                v[i] = _lerp(v[i], g[i] * g[i], weight)
                total += _square(_scaled(g[i], v[i], low))
        else:
            for b in range(first, matrices, team):
                r, c, x = at(row[k], b * h, T), at(column[k], b * w, T), at(grads[k], b * h * w, T)
                for i in range(start, h, step):
                    squares = 0.0
                    for j in range(left, w, lanes):
                        squares += _square(x[i * w + j])
                    if not small:
                        squares = warp_sum(squares)
                    if left == 0:
                        r[i] = _lerp(r[i], T(squares / w), weight)
                for o in range(0, w, lanes):
                    j, squares = o + left, 0.0
                    if j < w:
                        for i in range(start, h, step):
                            squares += _square(x[i * w + j])
                    if not small:
                        tile[warp, lane] = squares
                        cuda.syncthreads()
                        squares = 0.0
                        if warp == 0:
                            for i in range(warps):
                                squares += tile[i, lane]
                        cuda.syncthreads()
                    if start == 0 and j < w:
                        c[j] = _lerp(c[j], T(squares / h), weight)
                if not small:
                    cuda.syncthreads()  # r and c are there
                centre = _centre(r, h, least, small)
                for i in range(start, h, step):
                    f = r[i] / centre
                    for j in range(left, w, lanes):
                        total += _square(_scaled(x[i * w + j], f * c[j], low))

        clip = math.sqrt(block_sum(total)) / (root * d)
        a = T(alpha / (clip if clip > 1.0 else 1.0))
        a = -a if maximize else a
        if vector:
            v = at(row[k], 0, T)
            for i in range(me, size, threads):
                p[i] = p[i] * keep - a * _scaled(g[i], v[i], low)
        else:
            for b in range(first, matrices, team):
                r, c = at(row[k], b * h, T), at(column[k], b * w, T)
                y, x = at(params[k], b * h * w, T), at(grads[k], b * h * w, T)
                centre = _centre(r, h, least, small)
                for i in range(start, h, step):
                    f = r[i] / centre
                    for j in range(left, w, lanes):
                        o = i * w + j
                        y[o] = y[o] * keep - a * _scaled(x[o], f * c[j], low)
