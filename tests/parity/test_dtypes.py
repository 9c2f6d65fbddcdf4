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


def normalised(m, name, x, others):
    x, (a, b) = m.tensor([[1.0, 2.0], [3.0, 5.0]]).to(x), (m.ones(2, dtype=d) for d in others)
    call = getattr(m.nn.functional, name.partition(" ")[0])
    arguments = {
        "prelu": (a,), "batch_norm": (a, a, b, b), "batch_norm in training": (a, a, b, None, True),
        "layer_norm": ((2,), a, b), "group_norm": (1, a, b), "rms_norm": ((2,), a),
    }  # fmt: skip
    try:
        y = call(x, *arguments[name])
    except (RuntimeError, NotImplementedError) as error:
        return type(error)
    return str(y.dtype).rpartition(".")[2], [round(v, 4) for v in y.reshape(-1).tolist()]


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize(
    "name", ["prelu", "batch_norm", "batch_norm in training", "layer_norm", "group_norm", "rms_norm"]
)
def test_parameters_of_another_dtype(name):
    for x, a, b in product(("float32", "float64", "int64") if name == "prelu" else ("float32", "float64"), repeat=3):
        found = [normalised(m, name, getattr(m, x), (getattr(m, a), getattr(m, b))) for m in (mg, torch)]
        assert found[0] == found[1], (x, a, b)


@pytest.mark.parametrize("name", ["square", "square_"])
def test_squares(name):
    for dtype in DTYPES:
        alike(name, (dtype,), ((2,),))
