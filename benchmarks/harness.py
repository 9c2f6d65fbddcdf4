"""What all benchmarks share: a clean environment, contenders that take turns, medians, and writing results down."""

import importlib
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import tables

RESULTS = Path(__file__).parent / "results"


def clean_environment():
    """Start again without the variables that change which BLAS kernels run; call before importing NumPy."""
    noise = [v for v in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if v in os.environ]
    if noise:
        environment = {k: v for k, v in os.environ.items() if k not in noise}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


class Contender:
    """A function timed in a process of its own, so that frameworks do not share thread pools, BLAS or caches.

    ``build`` names a function of ``module`` in this folder, by default the calling script; it is called with
    ``arguments`` and returns what is timed. If it raises NotImplementedError, ``skipped`` says why.
    """

    def __init__(self, build, *arguments, module=None):
        module = module or Path(sys.argv[0]).stem
        command = [sys.executable, __file__, module, build, json.dumps(arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first, self.skipped = json.loads(self.answer())  # what the function returned at its first call
        if self.skipped:
            self.stop()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"a contender died: {self.process.args}")
        return line

    def run(self, calls):
        """Seconds that ``calls`` calls took."""
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        return float(self.answer())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()


def serve(module, build, arguments):
    """The process of a contender: for each line with a number, time that many calls."""
    sys.path[:0] = [str(Path(__file__).parent)]
    sys.argv = [module]
    out, sys.stdout = sys.stdout, sys.stderr
    try:
        run = getattr(importlib.import_module(module), build)(*json.loads(arguments))
        first, skipped = run(), None
    except NotImplementedError as problem:
        first, skipped = None, str(problem)
    first = float(first) if getattr(first, "size", None) is not None and math.prod(first.shape) == 1 else None
    print(json.dumps([first, skipped]), file=out, flush=True)
    for line in sys.stdin:
        calls = int(line)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        print(time.perf_counter() - start, file=out, flush=True)


def take_turns(contenders, seconds=4.0, rounds=25, warm=2.0):
    """Time contenders in turns, after ``warm`` seconds each; {name: sorted seconds a call}.

    A fifth of a turn is not timed: the other contender's threads still spin (8 ms for PyTorch's), and ours wake up.
    Where a call takes long there are fewer rounds, at least 7, so that it is not much more than ``seconds`` in all.
    """
    calls, times, longest = {}, {name: [] for name in contenders}, {}
    for name, contender in contenders.items():
        count, spent, best = 1, 0.0, float("inf")
        while spent < warm:
            last = contender.run(count)
            spent += last
            best = min(best, last / count)
            count = max(count, min(2 * count, int(0.1 / best)))
        longest[name] = best
        calls[name] = max(1, int(seconds / rounds / len(contenders) / best))
    rounds = max(7, min(rounds, int(seconds / sum(longest.values()))))
    for _ in range(rounds):
        for name, contender in contenders.items():
            contender.run((calls[name] + 4) // 5)
            times[name].append(contender.run(calls[name]) / calls[name])
    for contender in contenders.values():
        contender.stop()
    return {name: sorted(t) for name, t in times.items()}


def row(work, times, ours="minigrad", goal=None):
    """One line of a table: medians in us, the ratio of each peer to ours and its spread, and the goal, by peer.

    "torch" among the goals means the best of PyTorch's ways.
    """
    median = {name: statistics.median(t) for name, t in times.items()}
    entry = {"work": work, "us": {name: round(1e6 * m, 3) for name, m in median.items()}}
    entry["ratio"] = {name: round(m / median[ours], 2) for name, m in median.items() if name != ours}
    q = {name: (t[len(t) // 4], t[3 * len(t) // 4]) for name, t in times.items()}
    entry["spread"] = {p: [round(q[p][0] / q[ours][1], 2), round(q[p][1] / q[ours][0], 2)] for p in entry["ratio"]}
    if goal:
        entry["goal"] = goal
    print(
        f"{work:34s}",
        "  ".join(f"{name} {us:.2f} us" for name, us in entry["us"].items()),
        "  ".join(f"{name}/{ours} {r}x {entry['spread'][name]}" for name, r in entry["ratio"].items()),
        f"goal {goal}" if goal else "",
        flush=True,
    )
    return entry


def machine():
    """What the figures depend on."""
    cpu = platform.processor() or platform.machine()
    if Path("/proc/cpuinfo").exists():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        cpu = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), cpu)
    found = {"cpu": cpu, "cores": os.cpu_count(), "python": platform.python_version()}
    for name in ("minigrad-engine", "numpy", "numba", "torch", "jax"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write(name, rows):
    """Keep the rows of a benchmark as ``results/<name>.json`` and draw up ``results/README.md`` again."""
    RESULTS.mkdir(exist_ok=True)
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    tables.write()
    print(f"written to {RESULTS / name}.json and README.md")


if __name__ == "__main__":
    serve(*sys.argv[1:])
