"""Every case of the suite, all frameworks in turns in one run: `results/*.json`, and the tables made of them.

python benchmarks/report.py [family ...]        steps operations losses optimizers elementwise strides threads ...
"""

import argparse
import importlib
import statistics

from harness import clean_environment, row, write

clean_environment()

from suite import limits, memory, neighbour, startup, steps, threads  # noqa: E402
from suite.common import FRAMEWORKS, compare  # noqa: E402

FAMILIES = (
    "steps",
    "operations",
    "losses",
    "optimizers",
    "elementwise",
    "strides",
    "products",
    "inference",
    "training",
)


def measure(family, only=""):
    """The rows of a family; each says what per cent of the machine's limit minigrad reached."""
    module = importlib.import_module(f"suite.{family}")
    cases = {name: case for name, case in module.CASES.items() if only in name}
    bandwidth = limits.triad() if any(case.bytes for case in cases.values()) else 0
    products = limits.gemm() if any(case.flops for case in cases.values()) else 0
    ways = getattr(module, "WAYS", FRAMEWORKS)
    rows = [row(name, compare(f"suite.{family}", name, ways), goal=case.goal) for name, case in cases.items()]
    # Once more: beside a busy neighbour the first figure may be no limit.
    bandwidth, products = max(bandwidth, bandwidth and limits.triad()), max(products, products and limits.gemm())
    for entry, case in zip(rows, cases.values()):
        nanoseconds = entry["us"]["minigrad"] * 1e3
        if case.bytes > 50e6:  # what is smaller stays in the caches, whose limit is another one
            entry["limit"] = f"{case.bytes / nanoseconds / bandwidth:.0%} of {bandwidth:.1f} GB/s"
        if case.flops > 1e6:
            entry["limit"] = f"{case.flops / nanoseconds / products:.0%} of {products:.0f} GFLOP/s"
    return rows


def first_steps(only=""):
    seconds = startup.seconds(("minigrad", "torch"))
    median = {name: round(statistics.median(s), 3) for name, s in seconds.items()}
    ratio = {"torch": round(median["torch"] / median["minigrad"], 1)}
    print(median, ratio)
    return [{"work": "process start to the end of the first step", "seconds": median, "ratio": ratio}]


def peaks(only=""):
    """The memory that steps take at most; PyTorch's better way counts."""
    rows = []
    for case in (case for case in steps.NETS if only in case):
        found = {name: round(mb, 1) for name, mb in memory.compare(case).items()}
        ratio = {name: round(mb / found["minigrad"], 1) for name, mb in found.items() if name != "minigrad"}
        rows.append({"work": f"{case.partition('@')[0]} at batch {memory.BATCH:,}", "MB": found, "ratio": ratio})
        print(rows[-1], flush=True)
    return rows


def against_threads(only=""):
    """The time of each class of kernels at each size with 1, 2 and more threads; prints the worst ratio."""
    rows = []
    for kind in (kind for kind in threads.KINDS if only in kind):
        entry = {"work": kind, "us": {}}
        for n in threads.SIZES:
            if n <= threads.LARGEST.get(kind, n):
                entry["us"][f"{n:,}"] = threads.in_a_process(kind, n)
        rows.append(entry)
        ratios = {n: max(list(us.values())[1:]) / us["1"] for n, us in entry["us"].items()}
        size = max(ratios, key=ratios.get)
        print(f"{kind:14s} with more threads at most {ratios[size]:.2f} times the time (size {size})", flush=True)
    return rows


def beside_a_neighbour(only=""):
    return neighbour.measure()


OTHERS = {"startup": first_steps, "memory": peaks, "threads": against_threads, "neighbour": beside_a_neighbour}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="*", choices=[*FAMILIES, *OTHERS], default=[*FAMILIES, *OTHERS])
    parser.add_argument("--only", default="", help="cases whose name contains this; prints only")
    options = parser.parse_args()
    for family in options.family:
        rows = OTHERS[family](options.only) if family in OTHERS else measure(family, options.only)
        if not options.only:
            write(family, rows)


if __name__ == "__main__":
    main()
