"""Scripts in processes of their own, with the module path of this one."""

import ctypes
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
