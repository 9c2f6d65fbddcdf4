"""Every operation of ``ops_table`` on a GPU: values in all layouts, first and second derivatives, as on the CPU."""

import math

import numpy as np
import pytest

import minigrad as mg

from ..dtypes import each_dtype
from ..ops_table import DIFFERENTIABLE, FUNCTIONAL, REDUCTIONS, TABLE, make, outputs
from .both import EXACT, agree, needs_gpu, same, there

pytestmark = needs_gpu


def named(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def bits(row):
    """Whether the CPU's bits are to be had: runs are cut differently for the many processors of a GPU."""
    return EXACT and row not in REDUCTIONS and row not in FUNCTIONAL


def layouts(array):
    """(name, function of a module to a tensor) of the values of ``array`` in memory in different ways."""
    yield "contiguous", lambda m: m.from_numpy(array.copy())
    if array.ndim >= 1:
        room = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        room[..., 1::2] = array
        strides = [s // array.itemsize for s in room[..., 1::2].strides]
        if array.size:
            yield "every second", lambda m: m.from_numpy(room).as_strided(array.shape, strides, 1)
    if array.ndim >= 2:
        turned = np.ascontiguousarray(array.swapaxes(0, -1))
        yield "transposed", lambda m: m.from_numpy(turned).transpose(0, -1)
        yield "expanded", lambda m: m.from_numpy(array[:1].copy()).expand(array.shape)


@named(TABLE)
def test_values(row):
    for dtype in (np.float32, np.float64):
        for case in row.cases:
            ways = [list(layouts(a)) for a in make(row, case, dtype)]
            for i in range(max(map(len, ways))):
                chosen = [w[min(i, len(w) - 1)] for w in ways]
                sides = [outputs(row.call(m, *[way(m) for _, way in chosen], **case.arguments)) for m in (there, mg)]
                same(*sides, f"{row.name} {case} {[name for name, _ in chosen]}", bits(row))


@named(DIFFERENTIABLE)
def test_derivatives(row):
    for case in row.cases:
        size = sum(map(math.prod, case.shapes))
        for dtype in (np.float32, np.float64):
            agree(
                lambda m, *xs, case=case: outputs(row.call(m, *xs, **case.arguments)), *make(row, case, dtype),
                what=f"{row.name} {case}", twice=row.smooth and size <= 60, exact=bits(row),
            )  # fmt: skip


@pytest.mark.parametrize("dtype", each_dtype([mg.int64, mg.int32, mg.int16, mg.int8, mg.uint8, mg.bool_]))
def test_integers(dtype):
    operations = {
        "add": lambda a, b: a + b, "mul": lambda a, b: a * b, "number": lambda a, b: a * 3 + 1,
        "div": lambda a, b: a / 2, "eq": lambda a, b: a == b, "lt": lambda a, b: a < b, "maximum": mg.maximum,
        "and": lambda a, b: a & b, "or": lambda a, b: a | b, "xor": lambda a, b: a ^ b, "not": lambda a, b: ~a,
        "floor": lambda a, b: a // (b + 1), "float": lambda a, b: a.float() + b, "mixed": lambda a, b: a + b.long(),
        "where": lambda a, b: mg.where(a > b, a, b), "turned": lambda a, b: a.t() + b.t(),
        "copy": lambda a, b: a.t().contiguous(),
    }  # fmt: skip
    a, b = np.arange(12).reshape(3, 4) % 5, np.arange(12).reshape(3, 4) % 3
    for name, operation in operations.items():
        sides = []
        for m in (there, mg):
            try:
                sides.append(operation(m.from_numpy(a).to(dtype), m.from_numpy(b).to(dtype)))
            except (RuntimeError, NotImplementedError) as error:
                sides.append(str(error))
        same(*sides, f"{name} {dtype}")


def test_integer_division_by_zero_is_refused():
    x = mg.tensor([1, 2], device="cuda")
    for divide in (lambda: x // 0, lambda: x // mg.tensor([1, 0], device="cuda"), lambda: x % 0):
        with pytest.raises(RuntimeError, match="ZeroDivisionError"):
            divide()
    assert (x ** mg.tensor([-1, -1], device="cuda")).tolist() == [1, 0]
