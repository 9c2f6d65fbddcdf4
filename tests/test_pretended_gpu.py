"""The tests of tests/cuda on a pretended GPU, in a process of their own: elsewhere, there shall be none."""

import shutil

import pytest

from .processes import run_python


@pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="needs a C compiler")
def test_on_a_pretended_gpu():
    run_python("-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", "tests/cuda", MINIGRAD_PRETEND_CUDA="2")
