"""Scripts in processes of their own, with the module path of this one."""

import os
import subprocess
import sys


def run_python(*arguments, **environment):
    """Run the interpreter; its output. Fails with what it wrote to stderr."""
    path = os.pathsep.join(p or os.getcwd() for p in sys.path)
    given = {k: v for k, v in os.environ.items() if k != "NUMBA_NUM_THREADS"} | {"PYTHONPATH": path} | environment
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=600, env=given, check=False
    )
    assert done.returncode == 0, f"exit {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout
