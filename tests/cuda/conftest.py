"""Kernels for a GPU without one: in Numba's simulator, or compiled and never run (`make test-cuda-sim`)."""

import importlib.util
import os
from collections import defaultdict

import pytest

SIMULATED = os.environ.get("NUMBA_ENABLE_CUDASIM") == "1"
INSTALLED = importlib.util.find_spec("numba_cuda") is not None
rows = defaultdict(list)


def missing(text, config):
    """What the tests of a file lack here, if anything."""
    if "mark.cuda_sim" in text and not (SIMULATED and INSTALLED):
        return "needs the dependency group cuda-test and Numba's simulator: NUMBA_ENABLE_CUDASIM=1"
    if "mark.cuda_compile" in text and (SIMULATED or not INSTALLED):
        return "needs the dependency group cuda-test, and no simulator"
    if "mark.cuda_compile" in text and "cuda_compile" not in config.option.markexpr:
        return "takes minutes: -m cuda_compile"
    return None


class NotHere(pytest.Module):
    """A file whose tests cannot run here. It is not imported, since it may import what is not installed."""

    def collect(self):
        pytest.skip(self.reason, allow_module_level=True)


def pytest_pycollect_makemodule(module_path, parent):
    if reason := missing(module_path.read_text(encoding="utf-8"), parent.config):
        module = NotHere.from_parent(parent, path=module_path)
        module.reason = reason
        return module
    return None


def pytest_generate_tests(metafunc):
    if "cuda_kernel" in metafunc.fixturenames:
        from minigrad.kernels.cuda import contract

        metafunc.parametrize("cuda_kernel", contract.registered())


def pytest_runtest_logreport(report):
    if report.when == "call":
        for name, row in report.user_properties:
            if name == "resources":
                rows[row[0]].append(row[1:])


def pytest_sessionfinish(session):
    """Where MINIGRAD_CUDA_TABLE says so, a table of what the compiled kernels take."""
    path = os.environ.get("MINIGRAD_CUDA_TABLE")
    if path and rows and not hasattr(session.config, "workerinput"):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "w", encoding="utf-8") as f:
            f.write("# Kernels for a GPU: registers, and bytes of shared memory, stack and spills\n\n")
            f.write("Float64: how many instructions, of kernels for other dtypes.\n\n")
            f.write("| kernel | dtypes | for | threads | registers | shared | stack | spills | float64 |\n")
            f.write("|---|---|---|---|---|---|---|---|---|\n")
            for name in sorted(rows):
                for row in sorted(rows[name]):
                    f.write(f"| {name} | {' | '.join(str(value) for value in row)} |\n")
