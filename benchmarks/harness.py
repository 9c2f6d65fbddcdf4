"""What all benchmarks share: a clean environment, contenders that take turns, medians, and writing results down."""

import importlib
import json
import os
import platform
import statistics
import subprocess
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


class Contender:
    """A function timed in a process of its own, so that frameworks do not share thread pools, BLAS or caches.

    ``build`` names a function of the calling script; it is called with ``arguments`` and returns what is timed.
    """

    def __init__(self, build, *arguments):
        script = Path(sys.argv[0]).resolve()
        command = [sys.executable, __file__, str(script.parent), script.stem, build, json.dumps(arguments)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.first = json.loads(self.answer())  # what the function returned at its first call

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


def serve(folder, script, build, arguments):
    """The process of a contender: for each line with a number, time that many calls."""
    sys.path[:0] = [folder]
    sys.argv = [script]
    out, sys.stdout = sys.stdout, sys.stderr
    run = getattr(importlib.import_module(script), build)(*json.loads(arguments))
    first = run()
    print(json.dumps(float(first) if getattr(first, "numel", lambda: 0)() == 1 else None), file=out, flush=True)
    for line in sys.stdin:
        calls = int(line)
        start = time.perf_counter()
        for _ in range(calls):
            run()
        print(time.perf_counter() - start, file=out, flush=True)


def take_turns(contenders, seconds=4.0, rounds=25, warm=2.0):
    """Time contenders in turns, after ``warm`` seconds each; {name: sorted seconds a call}.

    A fifth of a turn is not timed: the other contender's threads still spin (8 ms for PyTorch's), and ours wake up.
    """
    calls, times = {}, {name: [] for name in contenders}
    for name, contender in contenders.items():
        count, spent, best = 1, 0.0, float("inf")
        while spent < warm:
            last = contender.run(count)
            spent += last
            best = min(best, last / count)
            count = max(count, min(2 * count, int(0.1 / best)))
        calls[name] = max(1, int(seconds / rounds / len(contenders) / best))
    for _ in range(rounds):
        for name, contender in contenders.items():
            contender.run(max(1, calls[name] // 5))
            times[name].append(contender.run(calls[name]) / calls[name])
    for contender in contenders.values():
        contender.stop()
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
    """Keep the rows of a benchmark as ``results/<name>.json`` and list all of them in ``results/README.md``."""
    RESULTS.mkdir(exist_ok=True)
    found = {"machine": machine(), "date": time.strftime("%Y-%m-%d"), "rows": rows}
    (RESULTS / f"{name}.json").write_text(json.dumps(found, indent=1) + "\n")
    lines = [
        "# Measured",
        "",
        "Written by the scripts in this folder; ratios are peer's time / minigrad's, of one run.",
    ]
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text())
        lines += ["", f"## {path.stem}", "", ", ".join(f"{k} {v}" for k, v in found["machine"].items()), ""]
        lines += ["| work | measured | ratio | goal |", "|---|---|---|---|"]
        for entry in found["rows"]:
            unit = "us" if "us" in entry else "seconds"
            measured = ", ".join(f"{k} {v:.4g} {unit if unit == 'us' else 's'}" for k, v in entry[unit].items())
            if "GFLOP/s" in entry:
                measured += " (" + ", ".join(f"{k} {v}" for k, v in entry["GFLOP/s"].items()) + " GFLOP/s)"
            if "memory" in entry:
                measured += " (memory: " + ", ".join(f"{k} {v}" for k, v in entry["memory"].items()) + ")"
            ratio = entry.get("ratio", "")
            spread = entry.get("spread", {})
            if isinstance(ratio, dict):
                ratio = ", ".join(f"{v}x ({spread[k][0]} to {spread[k][1]})" for k, v in ratio.items())
            lines.append(f"| {entry['work']} | {measured} | {ratio} | {entry.get('goal') or ''} |")
    (RESULTS / "README.md").write_text("\n".join(lines) + "\n")
    print(f"written to {RESULTS / name}.json and README.md")


if __name__ == "__main__":
    serve(*sys.argv[1:])
