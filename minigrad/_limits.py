"""What this machine can do at most, measured when first asked for: bytes moved and multiply-adds in a nanosecond.

DESIGN
a. Bandwidth is that of y = a + b, counted as two reads and a write, over as many bytes as a call touches or the next
   larger size: what fits a cache is not held against the memory. Multiply-adds are those of a product whose matrices
   fit the first cache, or of a larger one, if that is faster.
b. Minigrad's own kernels measure, so that nothing is imported for it; with threads if they were started. The best of
   many short calls counts, since others may be using the machine. It takes about half a second in all.
"""

import functools

from ._engine import filled
from ._program import least_time
from ._storage import float32, float64
from .kernels import contract
from .kernels.blas import address

_SIZES = (24_000, 384_000, 6_000_000, 48_000_000)  # bytes: of a first, second, third level of caches, and of memory
_SECONDS = 0.04  # for each


@functools.cache
def _bandwidths(threads):
    """Bytes a nanosecond at each size, one thread's and those of all."""
    kernel = contract.address("elementwise.add", "float32")
    tensors = [filled((_SIZES[-1] // 12,), 1, float32) for _ in range(3)]

    def rate(size, shared):
        return size / least_time(kernel, tensors, (0,), (), size // 12, 0.1 * size, shared, _SECONDS)

    one = [rate(size, False) for size in _SIZES]
    return one, [max(alone, rate(size, True)) for alone, size in zip(one, _SIZES, strict=True)]


@functools.cache
def _products(dtype, threads):
    """Multiply-adds a nanosecond, one thread's and those of all."""
    y, a, b = (filled((32 * 96, 96), 1, {"float32": float32, "float64": float64}[dtype]) for _ in range(3))

    def rate(m, n, blocks, shared):
        dims = (m, n, n, n, n, n, 0, 0, blocks, 1, 1, 0, 0)
        work = m * n * n
        return work / least_time(address(dtype), [y, a, b], dims, (1.0, 0.0), blocks, 0.02 * work, shared, _SECONDS)

    alone = max(rate(96, 96, 1, False), rate(384, 384, 1, False))
    return alone, max(alone, rate(32 * 96, 96, 32, True))


def least(kernel, size, products, shared, threads):
    """Nanoseconds that a call cannot be shorter than: it moves ``size`` bytes and does so many multiply-adds.

    shared: whether threads may do it. threads: what ``get_num_threads`` says, and whether they run.
    """
    at = next((i for i, most in enumerate(_SIZES) if size <= most), len(_SIZES) - 1)
    time = size / _bandwidths(threads)[shared][at]
    if products:
        time = max(time, products / _products("float32" if kernel == "blas.sgemm" else "float64", threads)[shared])
    return time
