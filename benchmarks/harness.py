"""What all benchmarks share: a clean environment, taking turns, medians, and writing results down."""

import json
import os
import platform
import statistics
import sys
import time
from pathlib import Path

RESULTS = Path(__file__).parent / "results"


def clean_environment():
    """Start again without the variables that change which BLAS kernels run; call before importing NumPy."""
    noise = [v for v in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE") if v in os.environ]
    if noise:
        environment = {k: v for k, v in os.environ.items() if k not in noise}
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)


def take_turns(contenders, seconds=2.0, rounds=25):
    """Time zero-argument functions in turns; {name: sorted seconds a call}."""
    calls, times = {}, {name: [] for name in contenders}
    for name, run in contenders.items():
        for _ in range(5):
            run()
        start = time.perf_counter()
        count = 0
        while time.perf_counter() - start < 0.02:
            run()
            count += 1
        calls[name] = max(1, int(count / 0.02 * seconds / rounds / len(contenders)))
    for _ in range(rounds):
        for name, run in contenders.items():
            n = calls[name]
            start = time.perf_counter()
            for _ in range(n):
                run()
            times[name].append((time.perf_counter() - start) / n)
    return {name: sorted(t) for name, t in times.items()}


def row(work, times, ours="minigrad", goal=None):
    """One line of a table: medians in us, the ratio of each peer to ours, its spread, and the goal."""
    median = {name: statistics.median(t) for name, t in times.items()}
    entry = {"work": work, "us": {name: round(1e6 * m, 3) for name, m in median.items()}}
    entry["ratio"] = {name: round(m / median[ours], 2) for name, m in median.items() if name != ours}
    q = {name: (t[len(t) // 4], t[3 * len(t) // 4]) for name, t in times.items()}
    peers = [name for name in times if name != ours]
    entry["spread"] = {p: [round(q[p][0] / q[ours][1], 2), round(q[p][1] / q[ours][0], 2)] for p in peers}
    if goal is not None:
        entry["goal"] = goal
    print(
        f"{work:34s}",
        "  ".join(f"{name} {us:.2f} us" for name, us in entry["us"].items()),
        "  ".join(f"{name}/{ours} {r}x {entry['spread'][name]}" for name, r in entry["ratio"].items()),
        f"goal {goal}x" if goal is not None else "",
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
    for name in ("minigrad-engine", "numpy", "numba", "torch"):
        from importlib.metadata import PackageNotFoundError, version

        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def write(name, rows):
    """Keep the rows of a benchmark as ``results/<name>.json``."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}.json"
    path.write_text(
        json.dumps({"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rows": rows}, indent=1) + "\n"
    )
    print(f"written to {path}")
