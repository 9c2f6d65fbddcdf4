"""The tests in tests/cuda that need a GPU, on a pretended one, in a process of their own: elsewhere, there is none."""

import shutil
from pathlib import Path

import pytest

from .processes import run_python

FILES = [path for path in sorted(Path(__file__).with_name("cuda").glob("test_*.py")) if "needs_gpu" in path.read_text()]


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_on_a_pretended_gpu():
    run_python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *FILES, MINIGRAD_PRETEND_CUDA="2")
