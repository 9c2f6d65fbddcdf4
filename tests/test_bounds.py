"""Kernels touch no memory but their operands': views that end, or begin, where no memory is, and writes between others.

What reads beyond them ends the process, so it is one of its own.
"""

import ctypes
import mmap
import sys

import numpy as np
import pytest

import minigrad as mg

from .processes import run_python

SIZE = 1 << 20
PROGRAM = "from tests.test_bounds import views; views({})"


def island():
    """SIZE bytes of memory, without any before and after it; they are never returned."""
    system = ctypes.CDLL(None)
    system.mmap.restype = ctypes.c_void_p
    page = mmap.PAGESIZE
    kind = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    start = system.mmap(None, ctypes.c_size_t(SIZE + 2 * page), 3, kind, -1, ctypes.c_long(0))
    for edge in (start, start + page + SIZE):
        assert system.mprotect(ctypes.c_void_p(edge), ctypes.c_size_t(page), 0) == 0
    return np.frombuffer((ctypes.c_ubyte * SIZE).from_address(start + page), np.uint8)


def views(seed, count=150):
    memory, random = island(), np.random.default_rng(seed)
    for _ in range(count):
        ndim = random.integers(1, 4)
        shape = random.choice([1, 2, 3, 8, 15, 16, 17, 33, 50, 63, 64, 65, 100, 129, 257, 1000], ndim)
        steps = random.choice([1, 1, 1, 2, 2, 3, 5], ndim)
        extent = (shape - 1) * steps + 1
        extent[-1] += random.integers(0, 2)
        size = 4 * int(np.prod(extent))
        if size > SIZE:
            continue
        at = random.choice([0, SIZE - size])
        base = memory[at : at + size].view(np.float32).reshape(extent)
        base[...] = random.integers(-9, 9, extent)
        v = base[tuple(slice(None, None, step) for step in steps)].transpose(random.permutation(ndim))
        x, w = mg.from_numpy(v), v.copy()
        y = mg.tensor(w)
        for found, wanted in (
            (x.clone(), w),
            (x + y, w + w),
            (y - x, w - w),
            (mg.relu(x), w.clip(0)),
            (mg.sum(x), w.sum(dtype=np.float64)),
            (mg.amax(x), w.max()),
            *[(mg.sum(x, d), w.sum(d)) for d in range(ndim)],
            *[(mg.max(x, d)[0], w.max(d)) for d in range(ndim)],
        ):
            np.testing.assert_array_equal(found.numpy(), wanted)
        wanted = memory.copy()
        inside = np.ndarray(v.shape, np.float32, wanted[at : at + size], 0, v.strides)
        inside[...] = (w + 1 + w).clip(0)
        x.copy_(y + 1).add_(y).relu_()
        np.testing.assert_array_equal(memory, wanted)
    print("all views")


@pytest.mark.skipif(sys.platform == "win32", reason="needs mmap and mprotect")
@pytest.mark.parametrize("seed", [0])
def test_nothing_outside_of_views_is_touched(seed):
    assert "all views" in run_python("-c", PROGRAM.format(seed))
