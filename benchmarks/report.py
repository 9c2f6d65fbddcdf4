"""Every case of the suite, all frameworks in turns in one run: `results/*.json`, and the tables made of them.

python benchmarks/report.py [family ...]        steps operations losses optimizers elementwise products inference ...
"""

import argparse
import importlib
import statistics

from harness import clean_environment, row, write

clean_environment()

from suite import limits, startup  # noqa: E402
from suite.common import FRAMEWORKS, compare  # noqa: E402

FAMILIES = ("steps", "operations", "losses", "optimizers", "elementwise", "products", "inference", "training")


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


def first_steps():
    seconds = startup.seconds(("minigrad", "torch"))
    median = {name: round(statistics.median(s), 3) for name, s in seconds.items()}
    ratio = {"torch": round(median["torch"] / median["minigrad"], 1)}
    print(median, ratio)
    return [{"work": "process start to the end of the first step", "seconds": median, "ratio": ratio}]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("family", nargs="*", choices=[*FAMILIES, "startup"], default=[*FAMILIES, "startup"])
    parser.add_argument("--only", default="", help="cases whose name contains this; prints only")
    options = parser.parse_args()
    for family in options.family:
        rows = first_steps() if family == "startup" else measure(family, options.only)
        if not options.only:
            write(family, rows)


if __name__ == "__main__":
    main()
