"""minigrad's time against threads and size, for each class of kernels: threads are only to help."""

import os

from .common import load

KINDS = ("add", "exp", "sum", "softmax", "cross-entropy", "Adam", "matmul")
SIZES = (10, 1_000, 100_000, 10_000_000)
ROW = 100  # columns of what has rows


def make(kind, n):
    import minigrad as m

    if kind == "Adam":
        p = m.zeros(n, requires_grad=True)
        p.grad = m.ones(n)
        return m.optim.Adam([p]).step
    if kind == "matmul":  # n elements in each factor
        a = m.randn(max(1, int(n**0.5)), max(1, int(n**0.5)))
        return lambda: a @ a
    x = m.randn(max(1, n // ROW), ROW) if kind in ("softmax", "cross-entropy") else m.randn(n)
    t = m.randint(0, ROW, (x.shape[0],))
    F = m.nn.functional
    return {
        "add": lambda: x + x,
        "exp": lambda: x.exp(),
        "sum": lambda: x.sum(),
        "softmax": lambda: F.softmax(x, 1),
        "cross-entropy": lambda: F.cross_entropy(x, t),
    }[kind]


def counts():
    """1, 2, and twice as many as there are cores."""
    return sorted({1, 2, 2 * (os.cpu_count() or 1)})


class Threads:
    params = (list(KINDS), list(SIZES), counts())
    param_names = ("kernel", "size", "threads")
    timeout = 300
    rounds = 1
    repeat = (3, 20, 1.0)
    warmup_time = 0.0

    def setup(self, kernel, size, threads):
        from .common import warm

        m = load("minigrad")
        m.set_num_threads(threads)
        self.run = make(kernel, size)
        warm(self.run, 1.0)

    def time_kernel(self, kernel, size, threads):
        self.run()
