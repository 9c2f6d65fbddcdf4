"""Integer tensors and Python numbers that they cannot hold, powers and softmax of integers: as PyTorch, errors too."""

from itertools import product

import pytest

from .comparing import counts
from .test_edges import test_as_pytorch as alike

OPERATORS = ["<", ">", "==", "!=", "<=", ">=", "+", "-", "*", "//", "%", "**"]
NUMBERS = (300, -1, -300, 256, 2**40, 2**63, 2**64 - 1, 2**64, -(2**63), -(2**63) - 1)
DTYPES = ("int8", "uint8", "int16", "int32", "int64")
INTEGERS = "m.tensor([-2, -1, 0, 1, 2, 3], dtype=m.{})"
UNSIGNED = "m.tensor([1, 2, 255], dtype=m.uint8)"
EXPRESSIONS = """
    i ** m.tensor(-1), i ** m.tensor([-3, -1, -1, -2, -1, 2]), i ** m.tensor(-2)
    2 ** -i.abs(), (-1) ** i, 1 ** i, m.pow(5, m.tensor(-1)), m.pow(m.tensor(5), m.tensor(-1)), i.clone().pow_(-i.abs())
    u ** m.tensor([-1, 1, -1], dtype=m.int8)
    i.clone().pow_(-1)
    b ** b
    b ** -1
    b ** 2, i ** -1.0
    b.pow_(2)
    u.fill_(-1), u.masked_fill(b, -255), m.full((2,), -1, dtype=m.uint8), m.tensor([-1], dtype=m.uint8)
    u.fill_(-256)
    u.fill_(256)
    m.tensor([-256], dtype=m.uint8)
    u.clamp(min=-1), u.clamp(max=-3), m.where(b, u, -1)
    u.clamp(max=256)
    m.where(b, u, 256)
    m.where(b, u.to(m.int8), 128)
    u.add_(300), u.mul_(-1), u.eq_(300)
    u.to(m.int8) & 300, u ^ -1, u | 256
    i.softmax(0)
    i.log_softmax(0)
    b.softmax(0)
    m.ones(2).softmax(0, dtype=m.int64)
    m.ones(2).log_softmax(0, dtype=m.uint8)
    i.softmax(0, dtype=m.float64), i.log_softmax(0, dtype=m.float32)
    m.nn.functional.multi_margin_loss(m.ones(2, 3), m.tensor([0, 5]))
    m.nn.functional.multi_margin_loss(m.ones(2, 3), m.tensor([-1, 0]))
    m.nn.functional.multi_margin_loss(m.ones(2, 3), m.tensor([0.0, 1.0]))
"""


@pytest.mark.parametrize("number", NUMBERS)
def test_numbers_out_of_range(number):
    for dtype, operator in product(DTYPES, OPERATORS):
        x = UNSIGNED if dtype == "uint8" else INTEGERS.format(dtype)
        alike(f"{x} {operator} ({number})")
        if operator not in ("//", "%", "**"):  # where x has a zero
            alike(f"({number}) {operator} {x}")
        counts["numbers"] = counts.get("numbers", 0) + 2


@pytest.mark.parametrize("expression", [line.strip() for line in EXPRESSIONS.strip().splitlines()])
def test_integers(expression):
    names = f"i={INTEGERS.format('int64')}, u={UNSIGNED}, b=m.tensor([True, False, True])"
    alike(f"(lambda {names}: ({expression}))()")
