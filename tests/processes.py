"""Scripts in processes of their own, with the module path of this one."""

import ctypes
import json
import os
import subprocess
import sys

import pytest


def _there(library):
    try:
        ctypes.CDLL(library)
    except OSError:
        return False
    return True


# Numba's thread pools; workqueue always exists, OpenMP except on macOS.
LAYERS = (
    "workqueue",
    pytest.param("omp", marks=pytest.mark.skipif(sys.platform == "darwin", reason="Numba has no OpenMP here")),
    pytest.param("tbb", marks=pytest.mark.skipif(not _there("libtbb.so.12"), reason="TBB is not installed")),
)


def run_python(*arguments, **environment):
    """Run the interpreter; its output. Fails with what it wrote to stderr."""
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)
    given = {k: v for k, v in os.environ.items() if k != "NUMBA_NUM_THREADS"} | {"PYTHONPATH": path} | environment
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=600, env=given, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


RUNS = """
import contextlib, io, json, sys
import minigrad as mg

script, runs = compile(sys.argv[1], "script", "exec"), []
for threads in (1, 2, 4):
    mg.set_num_threads(threads)
    with contextlib.redirect_stdout(io.StringIO()) as printed:
        exec(script, {"threads": threads})
    runs.append(printed.getvalue().splitlines())
print(json.dumps(runs))
"""


def run_with_threads(script, *arguments):
    """The lines that a script prints with 1, 2 and 4 threads (their number is ``threads`` there), in one process."""
    return json.loads(run_python("-c", RUNS, script, *arguments, NUMBA_NUM_THREADS="4"))
