"""minigrad's time against threads and size, for each class of kernels: threads are only to help.

`python benchmarks/report.py threads` measures all in turns and says how much slower threads were anywhere.
"""

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from .common import load, ready, warm

COLUMNS = 100  # of what has rows
SIZES = tuple(10**k for k in range(9))
LARGEST = {"matmul": 10**7}  # n elements a factor: 60 GFLOP


def square(m, n):
    side = max(1, round(n**0.5))
    return m.randn(side, side)


def rows(m, n):
    return m.randn(max(1, n // COLUMNS), COLUMNS)


def add(m, n):
    x = m.randn(n)
    return lambda: x + x


def exp(m, n):
    x = m.randn(n)
    return lambda: x.exp()


def total(m, n):
    x = m.randn(n)
    return lambda: x.sum()


def softmax(m, n):
    x = rows(m, n)
    return lambda: m.softmax(x, 1)


def cross_entropy(m, n):
    x = rows(m, n)
    target = m.randint(0, COLUMNS, (x.shape[0],))
    return lambda: m.nn.functional.cross_entropy(x, target)


def adam(m, n):
    p = m.zeros(n, requires_grad=True)
    p.grad = m.ones(n)
    return m.optim.Adam([p]).step


def matmul(m, n):
    a = square(m, n)
    return lambda: a @ a


def transpose(m, n):
    x = square(m, n).t()
    return lambda: x.contiguous()


def normal(m, n):
    return lambda: m.randn(n)


KINDS = {
    "add": add,
    "exp": exp,
    "sum": total,
    "softmax": softmax,
    "cross-entropy": cross_entropy,
    "Adam": adam,
    "matmul": matmul,
    "transpose": transpose,
    "randn": normal,
}


def counts():
    """1, 2, and twice as many as there are cores."""
    return sorted({1, 2, 2 * (os.cpu_count() or 1)})


def work(kind, n):
    """A function that does the work once; nothing is recorded."""
    m = load("minigrad")
    run = KINDS[kind](m, n)

    def unrecorded():
        with m.no_grad():
            return run()

    return unrecorded


def in_a_process(kind, n):
    """``measure`` in a process of its own: {threads: median us a call}."""
    command = [sys.executable, "-m", "suite.threads", kind, str(n)]
    folder = Path(__file__).parent.parent
    return json.loads(subprocess.run(command, cwd=folder, stdout=subprocess.PIPE, check=True).stdout)


def measure(kind, n, turns=25, turn=0.02):
    """{threads: median us a call}, in turns of ``turn`` seconds, at least a call, on the same memory."""
    m = load("minigrad")
    m.start_threads()
    run = work(kind, n)
    calls, times = {}, {threads: [] for threads in counts()}
    for threads in times:
        m.set_num_threads(threads)
        warm(run, 0.3)
        calls[threads] = max(1, int(turn / seconds(run, 3)))
    turns = max(7, min(turns, int(10 / (len(times) * seconds(run, 1)))))
    for _ in range(turns):
        for threads, found in times.items():
            m.set_num_threads(threads)
            seconds(run, (calls[threads] + 4) // 5)  # the threads wake up
            found.append(seconds(run, calls[threads]))
    return {threads: round(1e6 * statistics.median(found), 3) for threads, found in times.items()}


def seconds(run, calls):
    """Seconds a call."""
    start = time.perf_counter()
    for _ in range(calls):
        run()
    return (time.perf_counter() - start) / calls


class Threads:
    params = (list(KINDS), list(SIZES[1::2]), counts())
    param_names = ("kernel", "size", "threads")
    timeout = 300
    rounds = 1
    repeat = (3, 20, 1.0)
    warmup_time = 0.0

    def setup(self, kernel, size, threads):
        if size > LARGEST.get(kernel, size):
            raise NotImplementedError("takes too long")
        load("minigrad").set_num_threads(threads)
        if not hasattr(self, "run"):
            ready(self, work(kernel, size))

    def time_kernel(self, kernel, size, threads):
        run = self.run
        for _ in range(self.calls):
            run()


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], int(sys.argv[2]))))
