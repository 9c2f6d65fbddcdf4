"""What this machine can do with two threads: memory bandwidth (STREAM's triad) and multiply-adds (a large product)."""

import time

import numpy as np


def triad(n=20_000_000, times=30):
    """GB/s of a = b + s c in float32 on arrays far larger than the caches, best of ``times``.

    16 bytes an element: a line that is written is read first (STREAM itself counts 12).
    """
    import numba

    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))

    @numba.njit(parallel=True)
    def run(a, b, c, s):
        for i in numba.prange(a.size):
            a[i] = b[i] + s * c[i]

    a, b, c = (np.ones(n, np.float32) for _ in range(3))
    return 16e-9 * n / best(lambda: run(a, b, c, np.float32(3)), times)


def gemm(sizes=(500, 1_000, 2_000), times=20):
    """GFLOP/s of a float32 product of two (n, n) matrices by minigrad: the best of ``times`` and of all sizes."""
    import minigrad as m

    m.set_num_threads(2)
    m.start_threads()

    def rate(n):
        a = m.randn(n, n)
        return 2e-9 * n**3 / best(lambda: a @ a, times)

    return max(rate(n) for n in sizes)


def best(run, times):
    run()
    found = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        found.append(time.perf_counter() - start)
    return min(found)


class Machine:
    timeout = 120

    def track_bandwidth(self):
        return triad()

    def track_products(self):
        return gemm()


Machine.track_bandwidth.unit = "GB/s"
Machine.track_products.unit = "GFLOP/s"
