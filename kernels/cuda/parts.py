"""What kernels on a GPU share: sums and extremes over a block or a warp, 16-byte accesses, pointers, a counter.

DESIGN
a. The functions below are what Numba's simulator runs; ``compiled.py`` has what becomes PTX, in the same order of
   operations. Values are combined as a butterfly: warps first, then the warps of the block in order; so every thread
   gets the same bits, on every run.
b. Whatever says ``block_`` is called by all threads of the block, whatever says ``warp_`` by all 32 of a warp. A block
   has a multiple of 32 threads, at most 1,024. Integers are combined as int64.
"""

import threading

import numpy as np
from numba.cuda.core import config

from . import simulated

WARP = 32


# --- over all threads -------------------------------------------------------------------------------------------------


def block_sum(v):
    """The sum of v over the threads of the block."""
    return _block(v, _add, True)


def block_max(v):
    """The largest v of the block; nan if one is."""
    return _block(v, _higher)


def block_min(v):
    """The least v of the block; nan if one is."""
    return _block(v, _lower)


def warp_sum(v):
    """The sum of v over the threads of the warp."""
    return _warp(v, _add)


def warp_max(v):
    """The largest v of the warp; nan if one is."""
    return _warp(v, _higher)


def warp_min(v):
    """The least v of the warp; nan if one is."""
    return _warp(v, _lower)


# --- memory -----------------------------------------------------------------------------------------------------------


def load4(x, i):
    """x[i], x[i + 1], x[i + 2], x[i + 3] by 16-byte accesses (smaller for small elements); i % 4 == 0, x aligned."""
    simulated.aligned4(x, i)
    return x[i], x[i + 1], x[i + 2], x[i + 3]


def store4(y, i, a, b, c, d):
    """y[i : i + 4] = a, b, c, d, as ``load4``."""
    simulated.aligned4(y, i)
    y[i], y[i + 1], y[i + 2], y[i + 3] = a, b, c, d


def aligned(x):
    """Whether a pointer is a multiple of 16 bytes."""
    return x.address % 16 == 0


def after(x, i):
    """The pointer to x[i]."""
    return x.after(int(i))


def at(address, offset, T):
    """The pointer to element ``offset`` of type T at an address of device memory."""
    return simulated.Address(int(address) + int(offset) * np.dtype(T).itemsize, T)


def counter_swap(p, i, old, new):
    """p[i] = new if it is old, at once whatever other threads do, for int64; what was there before."""
    with simulated.lock:
        found = p[i]
        if found == old:
            p[i] = new
    return found


# --- numbers ----------------------------------------------------------------------------------------------------------


def rint(x):
    """x rounded to an integer, half to even."""
    return np.rint(x)


def split(t, n):
    """t // n and t % n for t >= 0, n > 0; by 32-bit division where both are small."""
    return t // n, t % n


# --- the simulator's side ---------------------------------------------------------------------------------------------


def _add(a, b):
    return a + b


def _higher(a, b):
    return a if (a >= b) | (a != a) else b


def _lower(a, b):
    return a if (a <= b) | (a != a) else b


def _butterfly(values, combine):
    values = list(values)
    for step in (16, 8, 4, 2, 1):
        values = [combine(values[i], values[i ^ step]) for i in range(WARP)]
    return values


def _block(v, combine, sums=False):
    thread = threading.current_thread()
    common = thread._manager.__dict__
    values = common.setdefault("values", {})
    values[thread.thread_id] = v
    thread.syncthreads()
    if thread.thread_id == 0:
        each = [values[i] for i in range(len(values))]
        warps = [_butterfly(each[i : i + WARP], combine)[0] for i in range(0, len(each), WARP)]
        spare = [type(v)(0) if sums else warps[0]] * (WARP - len(warps))
        common["result"] = _butterfly(warps + spare, combine)[0]
    thread.syncthreads()
    return common["result"]


def _warp(v, combine):
    thread = threading.current_thread()
    warps = thread._manager.__dict__.setdefault("warps", {})
    barrier, values = warps.setdefault(thread.thread_id // WARP, (threading.Barrier(WARP, timeout=60), [None] * WARP))
    lane = thread.thread_id % WARP
    values[lane] = v
    barrier.wait()
    result = _butterfly(values, combine)[lane]
    barrier.wait()
    return result


if not config.ENABLE_CUDASIM:
    from . import compiled

    compiled.overload_parts(globals())
