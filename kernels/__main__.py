"""Compile kernels ahead of their first use: ``python -m minigrad.kernels``, after an installation or into an image.

It fills the cache (``contract.py``, DESIGN c) with what programs in float32 on the CPU call, in a process a core; all
of it is a minute or two of work. Words select kernels by how their names begin: ``python -m minigrad.kernels losses.``
"""

import argparse
import contextlib
import os
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

from . import contract

INTEGER = ("elementwise.int_", "elementwise.bit_", "elementwise.invert", "random.words", "random.shuffle")
TO_BOOL = ("eq", "ne", "lt", "le", "gt", "ge", "isnan", "isinf", "isfinite", "logical_")
# labels, indices and masks
BESIDE = [(f"elementwise.{name}", "int64", "bool") for name in ("eq", "ne", "lt", "le", "gt", "ge")]
BESIDE += [(f"elementwise.{name}", "int64", "") for name in ("copy", "fill", "arange", "add", "sub", "mul")]
BESIDE += [("index.take", "int64", ""), ("reduce.max_rows", "int64", ""), ("reduce.sum_rows", "bool", "int64")]
BESIDE += [("elementwise.copy", *pair) for pair in (("float64", "float32"), ("int64", "float32"), ("bool", "float32"))]


def usual():
    """(name, dtype, second dtype) of what programs in float32 call."""
    for name in contract.registered():
        if name.startswith(INTEGER):
            yield name, "int64", ""
        elif name.startswith(tuple(f"elementwise.{word}" for word in TO_BOOL)):
            yield name, "float32", "bool"
        else:
            yield name, "float32", ""
    yield from BESIDE


def main(arguments=None):
    parser = argparse.ArgumentParser(prog="python -m minigrad.kernels", description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", help="beginnings of kernel names (default: all)")
    names = tuple(parser.parse_args(arguments).names)
    keys = [key for key in usual() if key[0].startswith(names or ("",))]
    if not keys:
        parser.error(f"no kernel's name begins with {' or '.join(names)}")
    start, folder = time.perf_counter(), contract.cache_folder()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    contract.say_nothing()
    with contextlib.ExitStack() as stack:
        run = map
        if cores > 1 and len(keys) > 8:
            run = stack.enter_context(ProcessPoolExecutor(cores, get_context("spawn"), contract.say_nothing)).map
        for i, _ in enumerate(run(contract.address, *zip(*keys)), 1):
            if sys.stderr.isatty():
                print(f"\r{i} of {len(keys)} kernels", end="", file=sys.stderr, flush=True)
    if sys.stderr.isatty():
        print(file=sys.stderr)
    missing = [".".join(filter(None, key)) for key in keys if contract._read(key) is None]
    if missing:
        print(f"minigrad: {folder} did not take {len(missing)} of {len(keys)} kernels", file=sys.stderr)
        return 1
    print(f"{len(keys)} kernels in {folder}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
