"""Indexing kernels for a GPU, in the simulator, beside the CPU kernels' references."""

import numpy as np
import pytest

from minigrad.kernels import contract as cpu
from minigrad.kernels import index as kernels
from minigrad.kernels.cuda import contract
from minigrad.kernels.cuda import index as cuda_kernels

pytestmark = pytest.mark.cuda_sim
RNG = np.random.default_rng(11)


def numbers(t, *shape):
    if t == "bool":
        return RNG.random(shape) < 0.5
    return RNG.standard_normal(shape).astype(t) if t.startswith("float") else RNG.integers(-99, 99, shape).astype(t)


def places(size, *shape):
    return RNG.integers(0, size, shape)


def check(name, t, outputs, inputs, dims, units, threads=64):
    """The kernel gives the bits of the CPU kernel's reference, which adds in the order of j as well."""
    want, got = [a.copy() for a in outputs], [a.copy() for a in outputs]
    cpu.registered()
    cpu._registry[f"index.{name}"].reference_fn(*want, *inputs, *dims)
    contract.simulate(f"index.{name}", t, "", [*got, *inputs], dims, (), units, threads=threads)
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g, w, err_msg=f"{name} {t} {dims}")
    return got


def tiles(inner):
    return -(-inner // kernels.TILE)


SLICES = [(1, 0, 5, 3), (0, 4, 5, 3), (1, 1, 1, 1), (3, 11, 5, 1), (1, 33, 9, 10), (2, 9, 4, 65), (2, 5, 6, 257)]
# outer, n, size, inner; with more than FEW places to walk in parts
LONG = [(1, 150, 7, 1), (2, 270, 300, 1), (1, 70, 9, 10), (1, 40, 20, 40), (1, 90, 1, 1)]


@pytest.fixture(params=["one part", "many parts"])
def parts(request, monkeypatch):
    """Places cut into parts, without the many indices that it takes."""
    cuda_kernels._write_grid.cache_clear()
    if request.param == "many parts":
        part_bits = lambda jobs, n: 2  # noqa: E731
        monkeypatch.setattr(cuda_kernels, "part_bits", part_bits)
        monkeypatch.setattr(cuda_kernels, "_part_bits", part_bits)
    return request.param


@pytest.mark.parametrize("t", ["float32", "bool", "int16"])
def test_take(t):
    for outer, n, size, inner in SLICES:
        x, y = numbers(t, outer, size, inner), numbers(t, outer, n, inner)
        check("take", t, [y], [x, places(size, n)], (n, size, inner), outer * n)


def test_take_add(parts):
    for outer, n, size, inner in [*SLICES, *LONG]:
        dx, dy = numbers("float32", outer, size, inner), numbers("float32", outer, n, inner)
        check("take_add", "float32", [dx], [dy, places(size, n)], (n, size, inner), outer * tiles(inner), threads=32)


@pytest.mark.parametrize("name", ["put", "put_add"])
def test_put(name, parts):
    for outer, n, size, inner in [*SLICES, *LONG]:
        if outer == 1:
            for stride, step in ((inner, 1), (1, 0)) if n > 33 else ((inner, 1), (0, 1), (0, 0), (1, 0)):
                x, v = numbers("float32", size, inner), numbers("float32", max(n, 1) * inner)
                check(name, "float32", [x], [v, places(size, n)], (n, inner, stride, step), tiles(inner), threads=32)


def test_gather():
    for outer, n, size, inner in SLICES:
        x, y = numbers("float32", outer, size, inner), numbers("float32", outer, n, inner)
        check("gather", "float32", [y], [x, places(size, outer, n, inner)], (n, size, inner), outer * n)


@pytest.mark.parametrize("name", ["scatter", "scatter_add"])
def test_scatter(name, parts):
    for outer, n, size, inner in [*SLICES, (2, 270, 9, 2), (1, 40, 5, 9)]:
        x, v = numbers("float32", outer, size, inner), numbers("float32", outer, n, inner)
        index = places(size, outer, n, inner)
        check(name, "float32", [x], [v, index], (n, size, inner), outer * tiles(inner), threads=32)


def test_parts_of_many_indices():
    n, size = 1100, 37
    dx, dy = numbers("float64", size), numbers("float64", n)
    assert contract.geometry("index.take_add", 1, (n, size, 1))[0] == 8
    check("take_add", "float64", [dx], [dy, places(size, n)], (n, size, 1), 1)


def test_check_index():
    for n, block in ((1, 1), (7, 7), (129, 129), (129, 40), (300, 64)):
        index, blocks = places(10, n), -(-n // block)
        bad = np.zeros(blocks, np.int64)
        for wrong, v in [(0, 9)] + [(1, v) for v in (-1, 10, 2**62, -(2**63))]:
            for j in {0, n // 2, n - 1}:
                changed = index.copy()
                changed[j] = v
                if wrong and n > 2:
                    changed[n - 1] = v
                check("check_index", "int64", [bad], [changed], (n, 0, 10, block), blocks)
        check("check_index", "int64", [bad], [index - 10], (n, -10, 0, block), blocks)
        check("check_index", "int64", [bad], [index], (n, 3, 3, block), blocks)


def test_wrap_index():
    def wrap(x, bad, size, errors):
        y = np.zeros(x.size, np.int64)
        arrays, dims = [y, x, np.array(bad, np.int64)], (size, len(bad))
        contract.simulate("index.wrap_index", "int64", "", arrays, dims, (), x.size, errors=errors, threads=32)
        return y.tolist()

    errors = np.zeros(8, np.int64)
    for n in (1, 9, 300):
        x = places(14, n) - 7
        assert wrap(x, [-1] * 70, 7, errors) == np.where(x < 0, x + 7, x).tolist()
    assert not errors.any()
    x = np.array([6, -8, 6, 2**62])  # a bad one is harmless
    assert wrap(x, [-1] * 40 + [1, -1, 3], 7, errors) == [6, 0, 6, 0]
    assert errors[:4].tolist() == [cuda_kernels.INDEX, 1, -8, 7]
    assert wrap(x, [3], 7, errors) == [6, 0, 6, 0]
    assert errors[:4].tolist() == [cuda_kernels.INDEX, 1, -8, 7]  # the first complaint stays


def test_mask_to_index():
    for n, block in ((1, 4), (5, 4), (64, 64), (1001, 300), (1001, 1001)):
        for p in (0.0, 0.5, 1.0):
            mask, blocks = RNG.random(n) < p, -(-n // block)
            (count,) = check("count_mask", "int64", [np.zeros(blocks, np.int64)], [mask], (n, block), blocks)
            start = np.concatenate([[0], np.cumsum(count)])
            assert start[-1] == mask.sum()
            check("mask_to_index", "int64", [np.zeros(start[-1], np.int64)], [start, mask], (n, block), blocks)


def test_one_hot():
    for n, classes in ((0, 3), (1, 1), (5, 10), (90, 7)):
        check("one_hot", "int64", [numbers("int64", n, classes)], [places(classes, n)], (classes,), n)


def test_tri():
    for batch, rows, cols in ((1, 0, 3), (1, 1, 1), (2, 5, 7), (1, 9, 4), (1, 20, 33)):
        for diagonal in (-50, -2, 0, 1, 50):
            for upper in (0, 1):
                x, y = numbers("float32", batch, rows, cols), numbers("float32", batch, rows, cols)
                check("tri", "float32", [y], [x], (rows, cols, diagonal, upper), batch * rows)
