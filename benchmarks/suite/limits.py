"""What this machine can do with two threads: memory bandwidth (STREAM's triad) and multiply-adds (a large product)."""

import time

import numpy as np


def triad(n=20_000_000, times=10):
    """GB/s of a = b + s c in float32 on arrays far larger than the caches; 12 bytes an element, best of ``times``."""
    import numba

    numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))

    @numba.njit(parallel=True)
    def run(a, b, c, s):
        for i in numba.prange(a.size):
            a[i] = b[i] + s * c[i]

    a, b, c = (np.ones(n, np.float32) for _ in range(3))
    return 12e-9 * n / best(lambda: run(a, b, c, np.float32(3)), times)


def gemm(n=2_000, times=10):
    """GFLOP/s of a float32 product of two (n, n) matrices by minigrad, best of ``times``."""
    import minigrad as m

    m.set_num_threads(2)
    m.start_threads()
    a = m.randn(n, n)
    return 2e-9 * n**3 / best(lambda: a @ a, times)


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
