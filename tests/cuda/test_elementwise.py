"""Elementwise kernels for a GPU, in the simulator, beside NumPy."""

import itertools

import numpy as np
import pytest

from minigrad.kernels import elementwise as tables
from minigrad.kernels.cuda import contract

pytestmark = pytest.mark.cuda_sim
rng = np.random.default_rng(0)

SIZES = (0, 1, 31, 33, 257)
SPECIAL = np.array([0, -0.0, 1, -1, 0.5, 2.5, -3.5, 1e-40, -1e-40, 88.8, -104, 1e30, np.inf, -np.inf, np.nan])
INTEGERS = ("invert", "int_pow", "int_remainder", "int_floor_divide", "bit_and", "bit_or", "bit_xor")
BITS = ("invert", "bit_and", "bit_or", "bit_xor")
BOTH = (
    "copy",
    "neg",
    "abs",
    "sign",
    "square",
    "relu",
    "logical_not",
    "add",
    "sub",
    "mul",
    "maximum",
    "minimum",
    "drelu",
)
BOTH += ("drelu", *(row[0] for row in tables.COMPARE))
UNARY = [row[:3] for row in [*tables.UNARY, *tables.UNARY_FAST, *tables.UNARY_TO_BOOL]]
BINARY = [*tables.BINARY, *tables.COMPARE]
TO_BOOL = {row[0] for row in [*tables.UNARY_TO_BOOL, *tables.COMPARE]}


def dtypes(name):
    if name in INTEGERS:  # NumPy has no uint8(-1), which the simulator would need
        return ["int64"] + ["uint8"] * (name != "int_floor_divide") + ["bool"] * (name in BITS)
    return ["float32", "float64"] + ["int32"] * (name in BOTH)


def cases(rows):
    return [(name, t, reference) for name, _, reference in rows for t in dtypes(name)]


def numbers(n, t, name=""):
    """n numbers of dtype t, special ones among them."""
    if t == "bool":
        return rng.integers(0, 2, n).astype(bool)
    if "float" not in t:
        return rng.integers(0 if t == "uint8" else -9, 9, n).astype(t)
    if name in ("dsigmoid", "dtanh"):  # where 1 - y and 1 - y * y lose no digits
        return (rng.random(n) / 2).astype(t)
    x = rng.standard_normal(n) * 4
    some = SPECIAL[rng.integers(0, len(SPECIAL), n)]
    return np.where(rng.random(n) < 0.5, some, x).astype(t)


def shifted(x, by):
    """x at an address that is ``by`` elements off a multiple of 16 bytes."""
    room = np.zeros(x.size + 16, x.dtype)
    start = (-room.ctypes.data // x.itemsize) % (16 // x.itemsize) + by
    room[start : start + x.size] = x.reshape(-1)
    return room[start : start + x.size]


def expected(name, reference, to, *operands):
    t = operands[0].dtype
    with np.errstate(all="ignore"):
        if t.kind == "f":
            operands = [x.astype("float64") for x in operands]
        y = np.asarray(reference(*operands)).astype(to)
    return np.nan_to_num(y, posinf=None) if name == "sign" else y  # that of nan is 0


def check(name, found, wanted):
    ulp = 4 * np.finfo(found.dtype).eps if found.dtype.kind == "f" else 0
    tiny = 1e-44 if found.dtype == np.float32 else 1e-320
    np.testing.assert_allclose(found, wanted, ulp, tiny, err_msg=name)


def simulate(name, t, u, arrays, dims, units):
    contract.simulate(f"elementwise.{name}", t, u, arrays, dims, (), units, threads=32)


@pytest.mark.parametrize(("name", "t", "reference"), cases(UNARY))
def test_unary(name, t, reference):
    u = "bool" if name in TO_BOOL else t
    for n, (p, q) in itertools.product(SIZES, ((0, 0), (1, 0))):
        x, y = shifted(numbers(n, t), p), shifted(np.zeros(n, u), q)
        simulate(name, t, u, [y, x], (0,), n)
        check(name, y, expected(name, reference, u, x))
    if u == t:  # in place
        x = numbers(99, t)
        wanted = expected(name, reference, t, x)
        simulate(name, t, t, [x, x], (3,), 99)
        check(name, x, wanted)


@pytest.mark.parametrize(("name", "t", "reference"), cases(BINARY))
def test_binary(name, t, reference):
    u = "bool" if name in TO_BOOL else t
    for n, mode in itertools.product(SIZES, range(3 if u != t else 5)):
        one_a, one_b = mode == 1, mode in (2, 4)
        a, b = numbers(1 if one_a else n, t, name), numbers(1 if one_b else n, t, name)
        if name.startswith("int_") and name != "int_pow":
            b[b == 0] = 1
        a, b = shifted(a, n % 2), shifted(b, mode % 2)
        wanted = expected(name, reference, u, *np.broadcast_arrays(a, b)) if n else np.zeros(0, u)
        y = a if mode in (3, 4) else shifted(np.zeros(n, u), 0)
        simulate(name, t, u, [y, a, b], (mode,), n)
        check(f"{name}, mode {mode}", y, wanted)


def plan(shape, *strides):
    """dims of a strided kernel as the engine makes them: the last dimension is the innermost."""
    k = len(shape) - 1
    outer = [value for d in range(k) for value in (shape[d], *(s[d] for s in strides))]
    return [k, shape[-1], *(s[-1] for s in strides), *outer], int(np.prod(shape[:-1]))


# shapes, and strides of y, a, b
STRIDED = [
    ((33,), (1,), (2,), (1,)),
    ((5, 33), (33, 1), (1, 5), (33, 1)),  # transposed
    ((17, 20), (20, 1), (1, 17), (1, 17)),  # transposed, in tiles
    ((40, 3), (3, 1), (1, 40), (0, 0)),
    ((3, 7, 5), (35, 5, 1), (1, 3, 21), (0, 5, 1)),
    ((2, 18, 35), (630, 35, 1), (630, 1, 18), (0, 1, 0)),
    ((2, 3, 2, 5), (60, 20, 10, 2), (0, 10, 5, 1), (30, 10, 5, 1)),
]


@pytest.mark.parametrize(("shape", "sy", "sa", "sb"), STRIDED)
def test_strided(shape, sy, sa, sb):
    def view(array, strides):
        return np.lib.stride_tricks.as_strided(array, shape, [s * array.itemsize for s in strides])

    a, b = numbers(2000, "float32"), numbers(2000, "float32")
    y = np.zeros(2000, "float32")
    dims, units = plan(shape, sy, sa, sb)
    simulate("sub@strided", "float32", "", [y, a, b], dims, units)
    wanted = np.zeros(2000, "float32")
    with np.errstate(all="ignore"):
        view(wanted, sy)[...] = view(a, sa) - view(b, sb)
    np.testing.assert_array_equal(y, wanted)

    dims, units = plan(shape, sy, sa)
    y = np.zeros(2000)
    simulate("copy@strided", "float32", "float64", [y, a], dims, units)
    wanted = np.zeros(2000)
    view(wanted, sy)[...] = view(a, sa)
    np.testing.assert_array_equal(y, wanted)

    c = rng.integers(0, 2, 2000).astype("uint8")
    dims, units = plan(shape, sy, sb, sa, sb)
    y, wanted = np.zeros((2, 2000), "float32")
    simulate("where_strided", "float32", "", [y, c, a, b], dims, units)
    view(wanted, sy)[...] = np.where(view(c, sb), view(a, sa), view(b, sb))
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("t", ["float32", "float64", "int64", "int16", "uint8", "bool"])
@pytest.mark.parametrize("u", ["float32", "float64", "int64", "int16", "uint8", "bool"])
def test_copy_converts(t, u):
    x = rng.integers(0, 2 if t == "bool" else 99, 37).astype(t)
    y = np.zeros(37, u)
    simulate("copy", t, u, [y, x], (0,), 37)
    np.testing.assert_array_equal(y, x.astype(u))


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("t", ["float32", "float64", "int64", "int8", "bool"])
def test_fill(n, t):
    for by in (0, 1):
        y, v = shifted(np.zeros(n, t), by), np.ones(1, t)
        simulate("fill", t, "", [y, v], (), n)
        assert (y == v).all()


@pytest.mark.parametrize("t", ["float32", "float64", "int64"])
def test_clamp(t):
    x = numbers(77, t)
    y = np.zeros_like(x)
    simulate("clamp", t, "", [y, x, np.array([-1], t), np.array([1], t)], (), 77)
    np.testing.assert_array_equal(y, np.clip(x, -1, 1))


@pytest.mark.parametrize("t", ["float32", "float64", "int64"])
def test_arange(t):
    y = np.zeros(77, t)
    contract.simulate("elementwise.arange", t, "", [y], (), (3, 0.5), 77, threads=32)
    np.testing.assert_array_equal(y, (3 + 0.5 * np.arange(77)).astype(t))
