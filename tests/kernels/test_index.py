"""Indexing kernels against their NumPy references."""

import numpy as np
import pytest

from minigrad.kernels import index as kernels

from .harness import reference, run

RNG = np.random.default_rng(11)


def numbers(t, *shape):
    if t == "bool":
        return RNG.random(shape) < 0.5
    return RNG.integers(-99, 99, shape).astype(t)  # whole numbers: any order of additions gives the same float


def places(size, *shape):
    return RNG.integers(0, size, shape)


def check(name, t, outputs, inputs, dims, units):
    """The kernel agrees with its reference, in one call and in three."""
    want = [a.copy() for a in outputs]
    reference(f"index.{name}", [*want, *inputs], dims)
    for edges in ((0, units), (0, units // 3, units // 3 + units // 2, units)):
        got = [a.copy() for a in outputs]
        for lo, hi in zip(edges, edges[1:]):
            run(f"index.{name}", [*got, *inputs], dims, units=hi, t=t, lo=lo)
        for g, w in zip(got, want):
            np.testing.assert_array_equal(g, w, err_msg=f"{name} {t} {dims} {edges}")
    return got


def tiles(inner):
    return -(-inner // kernels.TILE)


# outer, n, size, inner
SLICES = [
    (1, 0, 5, 3),
    (0, 4, 5, 3),
    (1, 1, 1, 1),
    (1, 1500, 7, 1),
    (3, 11, 5, 1),
    (1, 40, 9, 10),
    (2, 9, 4, 65),
    (3, 5, 6, 200),
]


@pytest.mark.parametrize("t", ["float32", "bool"])
def test_take(t):
    for outer, n, size, inner in SLICES:
        x, y = numbers(t, outer, size, inner), numbers(t, outer, n, inner)
        check("take", t, [y], [x, places(size, n)], (n, size, inner), outer * n)


def test_take_in_any_split():
    x, j = numbers("float32", 3, 5, 1), places(5, 11)
    want, y = np.zeros((3, 11, 1), "float32"), np.zeros((3, 11, 1), "float32")
    reference("index.take", [want, x, j], (11, 5, 1))
    for cut in range(34):
        y[:] = 0
        run("index.take", [y, x, j], (11, 5, 1), units=cut)
        run("index.take", [y, x, j], (11, 5, 1), units=33, lo=cut)
        np.testing.assert_array_equal(y, want)


def test_take_add():
    for outer, n, size, inner in SLICES:
        dx, dy = numbers("float32", outer, size, inner), numbers("float32", outer, n, inner)
        check("take_add", "float32", [dx], [dy, places(size, n)], (n, size, inner), outer * tiles(inner))


@pytest.mark.parametrize("name", ["put", "put_add"])
def test_put(name):
    for outer, n, size, inner in SLICES:
        if outer == 1:
            for stride, step in ((inner, 1), (0, 1), (0, 0), (1, 0)):
                x, v = numbers("float32", size, inner), numbers("float32", max(n, 1) * inner)
                check(name, "float32", [x], [v, places(size, n)], (n, inner, stride, step), tiles(inner))


def test_gather():
    for outer, n, size, inner in SLICES:
        x, y = numbers("float32", outer, size, inner), numbers("float32", outer, n, inner)
        check("gather", "float32", [y], [x, places(size, outer, n, inner)], (n, size, inner), outer * n)


@pytest.mark.parametrize("name", ["scatter", "scatter_add"])
def test_scatter(name):
    for outer, n, size, inner in SLICES:
        x, v = numbers("float32", outer, size, inner), numbers("float32", outer, n, inner)
        index = places(size, outer, n, inner)
        check(name, "float32", [x], [v, index], (n, size, inner), outer * tiles(inner))


def test_check_index():
    for n in (0, 1, 7, 128, 1023, 1024, 3000):
        index, bad = places(10, n), np.zeros(1, np.int64)
        cases = [(0, v) for v in (0, 9)] + [(1, v) for v in (-1, 10, 2**62, -(2**63), 2**63 - 1)]
        for wrong, v in cases if n else []:
            for j in {0, n // 2, n - 1}:
                changed = index.copy()
                changed[j] = v
                if wrong and n > 2:
                    changed[n - 1] = v  # the first one counts
                check("check_index", "int64", [bad], [changed], (n, 0, 10, n), 1)
                check(
                    "check_index",
                    "int64",
                    [np.zeros(-(-n // 1100), np.int64)],
                    [changed],
                    (n, 0, 10, 1100),
                    -(-n // 1100),
                )
        check("check_index", "int64", [bad], [index], (n, 0, 10, n), 1)
        check("check_index", "int64", [bad], [index - 10], (n, -10, 0, n), 1)
        check("check_index", "int64", [bad], [index], (n, 3, 3, n), 1)  # nothing is inside an empty range


def test_wrap_index():
    for n in (0, 1, 9, 1000):
        check("wrap_index", "int64", [np.zeros(n, np.int64)], [places(14, n) - 7, None], (7, 0), n)


def test_mask_to_index():
    for n, block in ((1, 4), (5, 4), (64, 64), (1001, 300), (1001, 1001)):
        for p in (0.0, 0.5, 1.0):
            mask, blocks = RNG.random(n) < p, -(-n // block)
            (count,) = check("count_mask", "int64", [np.zeros(blocks, np.int64)], [mask], (n, block), blocks)
            start = np.concatenate([[0], np.cumsum(count)])
            assert start[-1] == mask.sum()
            check("mask_to_index", "int64", [np.zeros(start[-1], np.int64)], [start, mask], (n, block), blocks)


def test_one_hot():
    for n, classes in ((0, 3), (1, 1), (5, 10), (300, 7)):
        y = numbers("int64", n, classes)
        check("one_hot", "int64", [y], [places(classes, n)], (classes,), n)


def test_tri():
    for batch, rows, cols in ((1, 0, 3), (1, 1, 1), (2, 5, 7), (3, 9, 4), (1, 40, 33)):
        for diagonal in (-50, -2, 0, 1, 3, 50):
            for upper in (0, 1):
                x, y = numbers("float32", batch, rows, cols), numbers("float32", batch, rows, cols)
                check("tri", "float32", [y], [x], (rows, cols, diagonal, upper), batch * rows)
