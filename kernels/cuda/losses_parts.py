"""What loss kernels on a GPU share: rows as the work of a warp or of a block, four numbers at a time, labels.

DESIGN
a. A row of up to WARP_ROW numbers is a warp's work, so that a block has many rows and none waits for all threads; a
   longer one is a block's. The same code does both: ``wide`` says which, ``rank`` and ``size`` who of how many.
b. Four neighbours are read and written at once, by 16-byte accesses where rows begin at multiples of 16 bytes. Who
   computes what does not depend on that.
c. A label is read once and checked where it is used, as on the CPU: out of range it counts as ignored.
"""

import math

import numpy as np
from numba import cuda

from ..math import _F32
from .contract import jit
from .parts import block_max, block_sum, load4, store4, warp_max, warp_sum

WARP_ROW = 1024  # up to so many numbers a row is a warp's
THREADS = 512  # a block's: with up to 64 registers a multiprocessor has two, and one works while the other waits
LABEL, INPUT, TARGET = 1, 2, 3  # codes of complaints: a label, or an element of bce's input or target, is out of range
LOG1P = _F32.log1p_unit  # (log(1 + f) - f) / f**2 in f - 1/2, f in [0, 1]
inf, nan = math.inf, math.nan


def blocks_of_rows(units, dims):
    """How many blocks kernels of rows of dims[0] numbers take."""
    return units if dims[0] > WARP_ROW else -(-units // (THREADS // 32))


@jit
def crew(wide):
    """Rank and size of the threads that share a row, the first of their rows, and how far it is to the next."""
    thread, block, threads, blocks = cuda.threadIdx.x, cuda.blockIdx.x, cuda.blockDim.x, cuda.gridDim.x
    if wide:
        return np.int64(thread), np.int64(threads), np.int64(block), np.int64(blocks)
    warps = np.int64(threads // 32)
    return np.int64(thread % 32), np.int64(32), block * warps + thread // 32, blocks * warps


@jit
def row_sum(v, wide):
    return block_sum(v) if wide else warp_sum(v)


@jit
def row_max(v, wide):
    return block_max(v) if wide else warp_max(v)


@jit
def four(x, o, j, n, full, other):
    """x[o + j : o + j + 4], ``other`` from n on; full: none is beyond, and they lie in 16 aligned bytes."""
    if j >= n:
        return other, other, other, other
    if full:
        return load4(x, o + j)
    return (
        x[o + j],
        x[o + j + 1] if j + 1 < n else other,
        x[o + j + 2] if j + 2 < n else other,
        x[o + j + 3] if j + 3 < n else other,
    )


@jit
def put(y, o, j, n, full, v):
    """y[o + j : o + j + 4] = v, less what is beyond n."""
    a, b, c, d = v
    if j >= n:
        return
    if full:
        store4(y, o + j, a, b, c, d)
        return
    y[o + j] = a
    if j + 1 < n:
        y[o + j + 1] = b
    if j + 2 < n:
        y[o + j + 2] = c
    if j + 3 < n:
        y[o + j + 3] = d


@jit
def counted(t, n, ignore_index):
    """The label t, or -1 if it does not count."""
    return t if t != ignore_index and t >= 0 and t < n else -1


@jit
def label(target, row, n, ignore_index):
    """The label of a row, or -1 if it does not count."""
    return counted(target[row], n, ignore_index)


@jit
def exp(x):
    return type(x)(math.exp(x))


@jit
def log(x):
    return type(x)(math.log(x))


@jit
def sign(d):
    """Of nan: 0."""
    zero, one = type(d)(0), type(d)(1)
    return one if d > zero else -one if d < zero else zero


@jit
def single(x):
    """Whether x is float32: known when this is compiled."""
    return type(x)(16777217) == type(x)(16777216)


@jit
def log1p_unit(f):
    """log(1 + f) for f in [0, 1]; for float32 by kernels/math.py's polynomial, half as long as libdevice's."""
    if not single(f):
        return type(f)(math.log1p(f))
    x, y = f - type(f)(0.5), type(f)(LOG1P[0])
    y = y * x + type(f)(LOG1P[1])
    y = y * x + type(f)(LOG1P[2])
    y = y * x + type(f)(LOG1P[3])
    y = y * x + type(f)(LOG1P[4])
    y = y * x + type(f)(LOG1P[5])
    y = y * x + type(f)(LOG1P[6])
    y = y * x + type(f)(LOG1P[7])
    y = y * x + type(f)(LOG1P[8])
    return f * f * y + f
