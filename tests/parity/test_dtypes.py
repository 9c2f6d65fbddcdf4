"""The dtype that operations on tensors of different dtypes compute in, and what they refuse."""

from itertools import product

import pytest
import torch

import minigrad as mg

DTYPES = ("float32", "float64", "int64", "int32", "uint8", "bool")
SHAPES = ((2,), ())


def outcome(m, name, dtypes, shapes, arguments):
    values = [[1, 2], [3, 4], [2, 1]]
    tensors = [m.tensor(v if s else v[0], dtype=m.float64).to(getattr(m, d)) for v, d, s in zip(values, dtypes, shapes)]
    try:
        y = getattr(tensors[0], name)(*tensors[1:], **arguments)
    except (RuntimeError, TypeError, NotImplementedError):
        return None
    return str(y.dtype).rpartition(".")[2], [round(float(v), 5) for v in y.reshape(-1).tolist()]


def alike(name, dtypes, shapes, **arguments):
    wanted = outcome(torch, name, dtypes, shapes, arguments)
    assert outcome(mg, name, dtypes, shapes, arguments) == wanted, (name, dtypes, shapes, arguments)


@pytest.mark.parametrize("name", ["addcmul", "addcmul_", "addcdiv", "addcdiv_"])
def test_three_operands(name):
    for dtypes in product(DTYPES, repeat=3):
        if "bool" in dtypes and all(d == "bool" for d in dtypes):
            continue  # PyTorch has no kernel
        for arguments in ({}, {"value": 2}, {"value": 2.0}):
            alike(name, dtypes, ((2,),) * 3, **arguments)
    for shapes in product(SHAPES, repeat=3):
        for dtypes in (("float32", "float64", "int64"), ("int64", "int32", "int64"), ("float64", "float32", "float32")):
            alike(name, dtypes, shapes)


@pytest.mark.parametrize("name", ["eq_", "lt_", "ge_", "ne_"])
def test_comparing_in_place(name):
    for dtypes in product(DTYPES, repeat=2):
        for shapes in (((2,), (2,)), ((2,), ()), ((), ())):
            alike(name, dtypes, shapes)


@pytest.mark.parametrize("name", ["square", "square_"])
def test_squares(name):
    for dtype in DTYPES:
        alike(name, (dtype,), ((2,),))
