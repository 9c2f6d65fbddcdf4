"""Tensors from data, from NumPy and from nothing; bad input is refused by name."""

import math
from array import array

import numpy as np
import pytest

import minigrad as mg

from .dtypes import each_dtype

DTYPES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


@pytest.mark.parametrize(
    ("data", "dtype", "shape", "values"),
    [
        (1.5, "float32", (), 1.5),
        (3, "int64", (), 3),
        (True, "bool", (), True),
        ([], "float32", (0,), []),
        ([[]], "float32", (1, 0), [[]]),
        ([1.0, 2], "float32", (2,), [1.0, 2.0]),
        ([1, True], "int64", (2,), [1, 1]),
        ([True, False], "bool", (2,), [True, False]),
        ((1, 2), "int64", (2,), [1, 2]),
        ([(1, 2), [3, 4]], "int64", (2, 2), [[1, 2], [3, 4]]),
        ([[[1.0]], [[2.0]]], "float32", (2, 1, 1), [[[1.0]], [[2.0]]]),
        (range(3), "int64", (3,), [0, 1, 2]),
        (array("d", [1.0, 2.0]), "float32", (2,), [1.0, 2.0]),
        (np.float32(2), "float32", (), 2.0),
        (np.float64(2), "float64", (), 2.0),
        (np.int16(2), "int16", (), 2),
        (np.bool_(True), "bool", (), True),
        ([np.float64(1), 2.0], "float64", (2,), [1.0, 2.0]),
        ([np.int32(1), np.int32(2)], "int32", (2,), [1, 2]),
        ([np.arange(2), np.arange(2)], "int64", (2, 2), [[0, 1], [0, 1]]),
        ([np.ones(2, np.float32), [3.0, 4.0]], "float32", (2, 2), [[1.0, 1.0], [3.0, 4.0]]),
        ([math.inf, -math.inf], "float32", (2,), [math.inf, -math.inf]),
        ([2**62], "int64", (1,), [2**62]),
    ],
)
def test_tensor_of_python_data(data, dtype, shape, values):
    x = mg.tensor(data)
    assert x.dtype == getattr(mg, dtype)
    assert tuple(x.shape) == shape
    assert x.tolist() == values


def test_tensor_of_tensors():
    assert mg.tensor([mg.tensor(1.0), mg.tensor(2.0)]).tolist() == [1.0, 2.0]
    assert mg.tensor([mg.tensor([1, 2]), mg.tensor([3, 4])]).dtype == mg.int64
    assert mg.tensor([mg.tensor(1), 2.5]).tolist() == [1.0, 2.5]
    x = mg.tensor([1.0], requires_grad=True)
    y = mg.tensor(x)
    y[0] = 5.0
    assert x.tolist() == [1.0] and not y.requires_grad


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
@pytest.mark.parametrize("data", [[0, 1, 1], [0.0, 1.0, 1.0], [False, True, True], np.array([0, 1, 1], np.uint8)])
def test_tensor_with_a_dtype(data, dtype):
    x = mg.tensor(data, dtype=getattr(mg, dtype))
    assert x.numpy().dtype == dtype
    assert x.tolist() == [0, 1, 1]


def test_dtype_may_be_pythons_or_numpys():
    for given, wanted in (
        (float, mg.float64), (int, mg.int64), (bool, mg.bool), (np.int8, mg.int8), (np.dtype("int32"), mg.int32),
    ):  # fmt: skip
        assert mg.zeros(1, dtype=given).dtype is wanted


@pytest.mark.parametrize(
    ("data", "error", "message"),
    [
        ([[1, 2], [3]], ValueError, r"length 2 at dim 1, got length 1 at data\[1\]"),
        ([[1, 2], 3], ValueError, r"got type int at data\[1\]"),
        ([[[1], [2]], [[3], [4, 5]]], ValueError, r"length 1 at dim 2, got length 2 at data\[1\]\[1\]"),
        ([1, [2]], ValueError, r"expected a number at dim 1, got length 1 at data\[1\]"),
        ("abc", TypeError, "str"),
        (["a", "b"], TypeError, r"data\[0\] is of type str"),
        ([[1.0, "b"]], TypeError, r"data\[0\]\[1\] is of type str"),
        (None, TypeError, "NoneType"),
        ([None], TypeError, r"data\[0\] is of type NoneType"),
        ({1: 2}, TypeError, "dict"),
        ({1, 2}, TypeError, "set"),
        (1j, TypeError, "complex"),
        (object(), TypeError, "object"),
        (np.array(["a"]), TypeError, "str"),
        (np.array([None]), TypeError, "object"),
        (np.array([1j]), TypeError, "complex128"),
        (np.zeros(2, np.float16), TypeError, "float16"),
        (np.zeros(2, np.uint16), TypeError, "uint16"),
        (np.zeros(2, np.uint32), TypeError, "uint32"),
        (np.zeros(2, np.uint64), TypeError, "uint64"),
        (np.array(["2020-01-01"], "M8[D]"), TypeError, "datetime64"),
        (np.float16(1), TypeError, "float16"),
        ([np.uint16(1)], TypeError, "uint16"),
        (np.zeros((1,) * 9), ValueError, "8 dimensions"),
        ([[[[[[[[[1]]]]]]]]], ValueError, "8 dimensions"),
        ([2**64], RuntimeError, "overflow"),
        (2**64, RuntimeError, "overflow"),
        (lambda: 1, TypeError, "function"),
    ],
)
def test_bad_data_is_refused(data, error, message):
    with pytest.raises(error, match=message):
        mg.tensor(data)


def test_a_list_that_contains_itself():
    loop = []
    loop.append(loop)
    with pytest.raises(ValueError, match="8 dimensions"):
        mg.tensor(loop)


@pytest.mark.parametrize(("value", "dtype"), [(300, "uint8"), (-256, "uint8"), (128, "int8"), (2**31, "int32")])
def test_integers_that_do_not_fit(value, dtype):
    for make in (lambda d: mg.tensor([value], dtype=d), lambda d: mg.tensor(value, dtype=d)):
        with pytest.raises(RuntimeError, match="overflow"):
            make(getattr(mg, dtype))


@pytest.mark.parametrize("dtype", ["float16", "uint16", "complex64", "U3", "no such dtype", object()])
def test_bad_dtypes(dtype):
    with pytest.raises(TypeError, match="dtype"):
        mg.zeros(2, dtype=dtype)


LAYOUTS = {
    "contiguous": lambda a: a,
    "transposed": lambda a: a.T,
    "every other": lambda a: a[:, ::2],
    "reversed": lambda a: a[::-1, ::-1],
    "big-endian": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "fortran": np.asfortranarray,
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape),
    "empty": lambda a: a[:0],
    "field": lambda a: np.rec.fromarrays([a, a.astype("i1")])["f0"],
    "matrix row": lambda a: a[1],
}


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
@pytest.mark.parametrize("layout", LAYOUTS)
def test_arrays_are_copied_whatever_their_layout(layout, dtype):
    a = LAYOUTS[layout](np.arange(12).reshape(3, 4).astype(dtype))
    for make in (mg.tensor, mg.as_tensor):
        x = make(a)
        assert x.numpy().dtype == dtype
        np.testing.assert_array_equal(x.numpy(), a)
        np.testing.assert_array_equal((x * 1 if dtype != "bool" else x).numpy(), a)
    x = mg.tensor(a)
    if a.size and a.flags.writeable:
        a[...] = 0
        assert x.numpy().any()


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
def test_from_numpy_shares_memory(dtype):
    a = np.zeros((3, 4), dtype)
    x = mg.from_numpy(a)
    a[1, 2] = 1
    assert x[1, 2].item() == 1
    x[0, 0] = 1
    assert a[0, 0] == 1
    assert np.shares_memory(a, x.numpy())


def test_from_numpy_keeps_strides_and_the_array():
    a = np.arange(24.0).reshape(4, 6)
    for part in (a.T, a[:, 1::2], a[1:, 2]):
        x = mg.from_numpy(part)
        assert x.stride() == tuple(s // 8 for s in part.strides)
        np.testing.assert_array_equal(x.numpy(), part)
        assert np.shares_memory(x.numpy(), a)
    x = mg.from_numpy(np.arange(3.0))  # nobody else holds the array
    assert x.tolist() == [0, 1, 2]


def test_read_only_arrays_stay_protected():
    a = np.arange(3.0)
    a.flags.writeable = False
    for x in (mg.from_numpy(a), mg.as_tensor(a)):
        with pytest.raises(ValueError, match="read-only"):
            x.add_(1)
        with pytest.raises(ValueError, match="read-only"):
            x[0] = 1
        assert not x.numpy().flags.writeable
        assert (x + 1).tolist() == [1, 2, 3]
        x.clone().add_(1)
    assert a.tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        (np.arange(3)[::-1], ValueError, "negative"),
        (np.arange(3).astype(">i4"), ValueError, "byte order"),
        (np.zeros(3, np.uint16), TypeError, "uint16"),
        (np.zeros(3, np.float16), TypeError, "float16"),
        (np.array([None]), TypeError, "object"),
        ([1, 2], TypeError, r"expected np.ndarray \(got list\)"),
        (np.float64(1), TypeError, "expected np.ndarray"),
        (np.rec.fromarrays([np.arange(3.0), np.zeros(3, "i1")])["f0"], ValueError, "item size"),
    ],
)
def test_from_numpy_refuses(given, error, message):
    with pytest.raises(error, match=message):
        mg.from_numpy(given)


def test_as_tensor_copies_only_when_it_must():
    a = np.zeros(3)
    assert np.shares_memory(mg.as_tensor(a).numpy(), a)
    assert not np.shares_memory(mg.as_tensor(a, dtype=mg.float32).numpy(), a)
    x = mg.zeros(2, requires_grad=True)
    assert mg.as_tensor(x) is x
    assert mg.as_tensor(x, dtype=mg.float64).grad_fn is not None


def test_dlpack():
    a = np.arange(6.0).reshape(2, 3)
    x = mg.from_dlpack(a)
    assert np.shares_memory(x.numpy(), a)
    assert np.shares_memory(np.from_dlpack(x), a)
    with pytest.raises(BufferError, match="detach"):
        mg.ones(2, requires_grad=True).__dlpack__()


# --- from a shape -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("make", "value"), [(mg.zeros, 0), (mg.ones, 1), (mg.empty, None)])
@pytest.mark.parametrize(
    ("size", "shape"),
    [((), ()), ((2,), (2,)), ((2, 3), (2, 3)), (((2, 3),), (2, 3)), (([2, 3],), (2, 3)), (((),), ()), ((0, 3), (0, 3)),
     ((np.int64(2), 1), (2, 1)), ((mg.zeros(4, 5).shape,), (4, 5))],
)  # fmt: skip
def test_sizes(make, value, size, shape):
    x = make(*size)
    assert tuple(x.shape) == shape and x.dtype == mg.float32
    if value is not None:
        assert (x.numpy() == value).all()


@pytest.mark.parametrize("make", [mg.zeros, mg.ones, mg.empty, mg.rand, mg.randn])
def test_bad_sizes(make):
    for bad in (1.5, "ab", None, (2, 1.5), [None], {2}):
        with pytest.raises(TypeError, match="size"):
            make(bad)
    with pytest.raises(RuntimeError, match="negative"):
        make(2, -1)
    with pytest.raises(ValueError, match="8 dimensions"):
        make((1,) * 9)
    with pytest.raises(MemoryError):
        make(2**62)
    with pytest.raises(MemoryError):
        make(2**40, 2**40)


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
def test_factories_take_a_dtype(dtype):
    d = getattr(mg, dtype)
    for x in (mg.zeros(2, dtype=d), mg.full((2,), 0, dtype=d), mg.arange(2, dtype=d) * 0 if dtype != "bool" else None):
        if x is not None:
            assert x.dtype is d and x.tolist() == [0, 0]
    like = mg.ones(2, 3, dtype=d)
    for make in (mg.zeros_like, mg.ones_like, mg.empty_like):
        assert make(like).dtype is d and make(like).shape == (2, 3)
        assert make(like, dtype=mg.int16).dtype is mg.int16
    assert mg.full_like(like, 1).tolist() == like.tolist()


def test_full_takes_the_type_of_its_value():
    for value, dtype in ((1, mg.int64), (1.0, mg.float32), (True, mg.bool), (mg.tensor(2), mg.int64)):
        assert mg.full((2,), value).dtype is dtype
    with pytest.raises(TypeError, match="fill_value"):
        mg.full((2,), "a")
    with pytest.raises(TypeError, match="size"):
        mg.full(None, 1)
    for make in (mg.zeros_like, mg.ones_like, mg.empty_like, mg.rand_like, mg.randn_like, mg.clone, mg.numel):
        with pytest.raises(TypeError, match="argument 'input' must be Tensor, not list"):
            make([1.0])


@pytest.mark.parametrize(
    ("arguments", "wanted", "dtype"),
    [
        ((5,), [0, 1, 2, 3, 4], "int64"),
        ((2, 5), [2, 3, 4], "int64"),
        ((5, 2, -1), [5, 4, 3], "int64"),
        ((0, 7, 3), [0, 3, 6], "int64"),
        ((0,), [], "int64"),
        ((1.0, 2.0, 0.25), [1, 1.25, 1.5, 1.75], "float32"),
        ((2.5,), [0, 1, 2], "float32"),
        ((2**60, 2**60 + 3), [2**60, 2**60 + 1, 2**60 + 2], "int64"),
    ],
)
def test_arange(arguments, wanted, dtype):
    x = mg.arange(*arguments)
    assert x.tolist() == wanted and x.dtype is getattr(mg, dtype)


@pytest.mark.parametrize("arguments", [(0, 5, 0), (5, 0), (0, math.nan), (0, math.inf), (0, 1, -0.5)])
def test_arange_refuses(arguments):
    with pytest.raises(RuntimeError):
        mg.arange(*arguments)


@pytest.mark.parametrize(("start", "end", "steps"), [(0, 1, 5), (3, -2, 11), (1, 2, 1), (1, 2, 0), (-1e-3, 1e6, 1001)])
def test_linspace(start, end, steps):
    x = mg.linspace(start, end, steps, dtype=mg.float64)
    np.testing.assert_allclose(x.numpy(), np.linspace(start, end, steps), rtol=1e-14, atol=1e-12)
    if steps > 1:
        assert x[-1].item() == end
    assert mg.linspace(start, end, steps).dtype is mg.float32
    with pytest.raises(RuntimeError, match="non-negative"):
        mg.linspace(0, 1, -1)


@pytest.mark.parametrize("shape", [(3,), (0,), (2, 5), (5, 2), (1, 1), (0, 3)])
def test_eye(shape):
    np.testing.assert_array_equal(mg.eye(*shape).numpy(), np.eye(*shape))
    assert mg.eye(*shape, dtype=mg.bool).dtype is mg.bool


def test_default_dtype():
    try:
        mg.set_default_dtype(mg.float64)
        assert mg.get_default_dtype() is mg.float64
        for x in (mg.tensor(1.0), mg.tensor([1.0]), mg.zeros(2), mg.linspace(0, 1, 2), mg.rand(2), mg.tensor([]),
                  mg.arange(1.5), mg.full((1,), 1.0), mg.Tensor([1])):  # fmt: skip
            assert x.dtype is mg.float64
    finally:
        mg.set_default_dtype(mg.float32)
    with pytest.raises(TypeError, match="floating"):
        mg.set_default_dtype(mg.int64)


def test_requires_grad_and_device():
    for x in (mg.tensor([1.0], requires_grad=True), mg.zeros(2, requires_grad=True), mg.randn(2, requires_grad=True)):
        assert x.requires_grad and x.is_leaf
    with pytest.raises(RuntimeError, match="floating point"):
        mg.zeros(2, dtype=mg.int64, requires_grad=True)
    for device in ("cpu", "cpu:0", mg.device("cpu"), None):
        assert mg.zeros(2, device=device).device == mg.device("cpu")
    for device, message in (("mps", "not available"), ("nowhere", "Expected one of"), ("cpu:x", "Invalid")):
        with pytest.raises(RuntimeError, match=message):
            mg.zeros(2, device=device)
    with pytest.raises(TypeError):
        mg.device(3.5)
    assert repr(mg.device("cpu", 0)) == "device(type='cpu', index=0)" and str(mg.device("cpu:0")) == "cpu:0"


def test_the_old_constructor():
    assert mg.Tensor([[1, 2], [3, 4]]).dtype is mg.float32
    assert mg.Tensor(2, 3).shape == (2, 3)
    assert mg.Tensor().shape == (0,)
    assert mg.Tensor(np.arange(3)).tolist() == [0.0, 1.0, 2.0]
    with pytest.raises(TypeError):
        mg.Tensor("abc")
    with pytest.raises(TypeError):
        mg.Tensor(2, 2.5)


def test_large_lists_are_exact():
    a = np.random.default_rng(0).normal(size=(200, 50))
    np.testing.assert_array_equal(mg.tensor(a.tolist(), dtype=mg.float64).numpy(), a)
    np.testing.assert_array_equal(mg.tensor(a.tolist()).numpy(), a.astype(np.float32))
