"""The pass that follows a matrix product, bias and relu; products of integers. Twins of kernels/linear.py."""

import numpy as np
from numba import cuda

from .contract import T, dim, jit, kernel
from .groups import rows_grid, width_bits
from .parts import aligned, load4, split, store4

SIDE = 16  # of a tile of a product, which has an element for each thread


@jit
def _finished(v, b, has_bias, relu):
    v = v + b if has_bias != 0 else v
    return type(v)(0) if (relu != 0) & (v <= 0) else v  # nan stays nan


@kernel(blocks=lambda units, dims: rows_grid(units, -(-dims[0] // 4)))
def bias_relu(y: T, b: T, n: dim, ld: dim, has_bias: dim, relu: dim, units):
    """y = relu(y + b), in place; y (rows, n) with row stride ld, b (n,) or none. Unit: a row."""
    bits = width_bits((n + 3) // 4, cuda.blockDim.x)
    side, lane = cuda.blockDim.x >> bits, cuda.threadIdx.x & ((1 << bits) - 1)
    whole = aligned(y) and ld % 4 == 0 and (has_bias == 0 or aligned(b))
    for r in range(cuda.blockIdx.x * side + (cuda.threadIdx.x >> bits), units, cuda.gridDim.x * side):
        i = 4 * lane
        while i < n:
            at = r * ld + i
            if whole and i + 4 <= n:
                p, q, v, w = load4(y, at)
                d = e = f = g = T(0)
                if has_bias != 0:
                    d, e, f, g = load4(b, i)
                p, q = _finished(p, d, has_bias, relu), _finished(q, e, has_bias, relu)
                store4(y, at, p, q, _finished(v, f, has_bias, relu), _finished(w, g, has_bias, relu))
            else:
                for k in range(i, min(i + 4, n)):
                    y[r * ld + k] = _finished(y[r * ld + k], b[k] if has_bias != 0 else T(0), has_bias, relu)
            i += 4 << bits


def _tiles(units, dims):
    m, n = dims[:2]
    return units // m * -(-m // SIDE) * -(-n // SIDE)


@kernel(blocks=_tiles, types=(("int64", ""), ("int32", ""), ("int16", ""), ("int8", ""), ("uint8", "")))
def int_product(y: T, a: T, b: T, m: dim, n: dim, k: dim, step: dim, units):
    """y = a b for integers, which wrap; y (batch, m, n), a (batch, m, k), b (batch, k, n), batches ``step`` apart.

    Unit: a row of y; a block computes a tile, and keeps the tiles of a and b that it is made of in shared memory.
    """
    left = cuda.shared.array((SIDE, SIDE), np.int64)
    right = cuda.shared.array((SIDE, SIDE), np.int64)
    row, column = cuda.threadIdx.x // SIDE, cuda.threadIdx.x % SIDE
    down, across = (m + SIDE - 1) // SIDE, (n + SIDE - 1) // SIDE
    tile = cuda.blockIdx.x
    while tile < units // m * down * across:
        rest, j = split(tile, across)
        batch, i = split(rest, down)
        i, j = i * SIDE + row, j * SIDE + column
        total, p = np.int64(0), np.int64(0)
        while p < k:
            there = i < m and p + column < k
            left[row, column] = a[(batch * m + i) * k + p + column] if there else 0
            there = p + row < k and j < n
            right[row, column] = b[batch * step + (p + row) * n + j] if there else 0
            cuda.syncthreads()
            for q in range(SIDE):
                total += left[row, q] * right[q, column]
            cuda.syncthreads()
            p += SIDE
        if i < m and j < n:
            y[(batch * m + i) * n + j] = T(total)
        tile += cuda.gridDim.x
