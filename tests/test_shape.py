"""Reshaping, permuting, expanding, joining and splitting: against NumPy, for dtypes, layouts, sizes and errors."""

import numpy as np
import pytest

import minigrad as mg

from .derivatives import check_derivatives
from .dtypes import each_dtype

DTYPES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


def filled(shape, dtype="float64", seed=0):
    return np.random.default_rng(seed).integers(0, 100, shape).astype(dtype)


def layouts(a):
    """Tensors of the values of ``a``: contiguous, with gaps, transposed memory, a part of a larger one."""
    yield mg.from_numpy(a.copy())
    if a.ndim:
        room = np.zeros((*a.shape[:-1], 2 * a.shape[-1] + 1), a.dtype)
        room[..., 1::2] = a
        yield mg.from_numpy(room)[..., 1::2]
        order = list(range(a.ndim))[::-1]
        yield mg.from_numpy(np.ascontiguousarray(a.transpose(order))).permute(order)
        yield mg.cat([mg.from_numpy(a.copy()), mg.from_numpy(a.copy())])[a.shape[0] :]


# name: (function of a tensor, function of an array, shapes)
ROWS = {
    "reshape": (lambda x: x.reshape(4, -1), lambda a: a.reshape(4, -1), [(2, 6), (3, 4), (4, 1, 2), (2, 2, 2, 2)]),
    "reshape to vector": (lambda x: x.reshape(-1), lambda a: a.reshape(-1), [(), (1,), (2, 3), (0,), (2, 3, 4)]),
    "reshape empty": (lambda x: x.reshape(0, 5), lambda a: a.reshape(0, 5), [(0,), (3, 0)]),
    "reshape to scalar": (lambda x: x.reshape(()), lambda a: a.reshape(()), [(1,), (1, 1), ()]),
    "reshape keyword": (lambda x: mg.reshape(x, shape=(3, 2)), lambda a: a.reshape(3, 2), [(6,), (2, 3)]),
    "reshape tensor sizes": (lambda x: x.reshape(mg.tensor(3), np.int64(2)), lambda a: a.reshape(3, 2), [(6,), (2, 3)]),
    "flatten": (lambda x: x.flatten(), lambda a: a.reshape(-1), [(), (3,), (2, 3), (2, 0, 3)]),
    "flatten from 1": (lambda x: x.flatten(1), lambda a: a.reshape(a.shape[0], -1), [(2, 3), (2, 3, 4), (2, 1, 2, 2)]),
    "flatten 1 to -2": (lambda x: mg.flatten(x, 1, -2), lambda a: a.reshape(2, 12, 2), [(2, 3, 4, 2), (2, 6, 2, 2)]),
    "ravel": (lambda x: x.ravel(), lambda a: a.ravel(), [(), (2, 3), (0, 3)]),
    "unflatten": (lambda x: x.unflatten(-1, (2, -1)), lambda a: a.reshape(*a.shape[:-1], 2, -1), [(4,), (3, 6)]),
    "transpose": (lambda x: x.transpose(0, -1), lambda a: a.swapaxes(0, -1), [(3,), (2, 3), (2, 3, 4), (2, 0)]),
    "t": (lambda x: x.t(), lambda a: a.T, [(), (3,), (2, 3), (0, 2)]),
    "T": (lambda x: x.T, lambda a: a.T, [(2, 3), (4, 1)]),
    "mT": (lambda x: x.mT, lambda a: a.swapaxes(-1, -2), [(2, 3), (2, 3, 4)]),
    "permute": (lambda x: x.permute(2, 0, 1), lambda a: a.transpose(2, 0, 1), [(2, 3, 4), (1, 2, 1), (0, 1, 2)]),
    "permute list": (lambda x: mg.permute(x, [-1, 0]), lambda a: a.transpose(1, 0), [(2, 3)]),
    "permute scalar": (lambda x: x.permute(()), lambda a: a.transpose(()), [()]),
    "movedim": (lambda x: x.movedim(0, -1), lambda a: np.moveaxis(a, 0, -1), [(2,), (2, 3), (2, 3, 4)]),
    "movedim two": (lambda x: mg.movedim(x, (0, 1), (2, 0)), lambda a: np.moveaxis(a, (0, 1), (2, 0)), [(2, 3, 4)]),
    "squeeze": (lambda x: x.squeeze(), lambda a: a.squeeze(), [(), (1,), (1, 3, 1), (2, 3), (1, 0)]),
    "squeeze dim": (lambda x: x.squeeze(1), lambda a: a.reshape(3, 2) if a.shape[1] == 1 else a, [(3, 1, 2), (3, 2)]),
    "squeeze dims": (lambda x: mg.squeeze(x, (0, -1)), lambda a: a.reshape(3), [(1, 3, 1), (3, 1), (1, 3)]),
    "unsqueeze": (lambda x: x.unsqueeze(1), lambda a: np.expand_dims(a, 1), [(2,), (2, 3), (0, 3)]),
    "unsqueeze last": (lambda x: x.unsqueeze(-1), lambda a: a[..., None], [(), (2,), (2, 3)]),
    "expand": (lambda x: x.expand(2, 3, 4), lambda a: np.broadcast_to(a, (2, 3, 4)), [(), (4,), (3, 1), (1, 1, 4)]),
    "expand keep": (lambda x: x.expand(5, -1, -1), lambda a: np.broadcast_to(a, (5, *a.shape)), [(2, 3), (1, 0)]),
    "expand empty": (lambda x: x.expand(0, 3), lambda a: np.broadcast_to(a, (0, 3)), [(3,), (1, 3), (1, 1)]),
    "broadcast_to": (lambda x: mg.broadcast_to(x, (3, 4)), lambda a: np.broadcast_to(a, (3, 4)), [(), (4,), (3, 1)]),
    "flip": (lambda x: x.flip(0), lambda a: np.flip(a, 0), [(3,), (2, 3), (0, 2), (2, 3, 4)]),
    "flip two": (lambda x: mg.flip(x, (0, -1)), lambda a: np.flip(a, (0, -1)), [(2, 3), (2, 3, 4)]),
    "flip none": (lambda x: x.flip(()), lambda a: a, [(), (2, 3)]),
    "repeat": (lambda x: x.repeat(2, 1, 3), lambda a: np.tile(a, (2, 1, 3)), [(), (2,), (2, 3), (2, 3, 4)]),
    "repeat zero": (lambda x: x.repeat(0, 2), lambda a: np.tile(a, (0, 2)), [(2,), (2, 3)]),
    "repeat once": (lambda x: x.repeat(1, 1), lambda a: np.tile(a, (1, 1)), [(2,), (2, 3)]),
    "tile": (lambda x: mg.tile(x, (2,)), lambda a: np.tile(a, 2), [(), (3,), (2, 3)]),
    "cat self": (lambda x: mg.cat([x, x], -1), lambda a: np.concatenate([a, a], -1), [(2,), (2, 3), (2, 0)]),
    "cat parts": (
        lambda x: mg.cat((x[:1], x, x[1:]), dim=0),
        lambda a: np.concatenate([a[:1], a, a[1:]]),
        [(2,), (3, 2), (3, 0)],
    ),
    "stack": (lambda x: mg.stack([x, x, x], 1), lambda a: np.stack([a, a, a], 1), [(2,), (2, 3), (0, 2)]),
    "stack last": (lambda x: mg.stack((x, x), -1), lambda a: np.stack((a, a), -1), [(), (2,), (2, 3)]),
    "hstack": (lambda x: mg.hstack([x, x]), lambda a: np.hstack([a, a]), [(), (2,), (2, 3), (2, 3, 2)]),
    "vstack": (lambda x: mg.vstack([x, x]), lambda a: np.vstack([a, a]), [(), (2,), (2, 3)]),
    "select": (lambda x: x.select(-1, 1), lambda a: a[..., 1], [(2,), (3, 4), (2, 3, 2)]),
    "narrow": (lambda x: x.narrow(0, 1, 2), lambda a: a[1:3], [(3,), (4, 2), (3, 0)]),
    "narrow negative": (lambda x: mg.narrow(x, 0, -2, 1), lambda a: a[-2:-1], [(3,), (4, 2)]),
    "split": (lambda x: x.split(2)[-1], lambda a: a[-(a.shape[0] % 2 or 2) :], [(3,), (4, 2), (1, 2)]),
    "split sizes": (lambda x: x.split([1, 0, 2], 1)[2], lambda a: a[:, 1:], [(2, 3), (0, 3)]),
    "split joined": (lambda x: mg.cat(x.split(2, -1), -1), lambda a: a, [(3,), (2, 5), (0,)]),
    "chunk": (lambda x: x.chunk(2)[0], lambda a: a[: (a.shape[0] + 1) // 2], [(3,), (4, 2), (1, 2)]),
    "unbind": (lambda x: mg.unbind(x, 1)[-1], lambda a: a[:, -1], [(2, 3), (0, 1), (2, 3, 2)]),
    "contiguous": (lambda x: x.t().contiguous(), lambda a: a.T, [(2, 3)]),
    "diagonal": (lambda x: x.diagonal(1), lambda a: np.diagonal(a, 1), [(3, 3), (2, 4), (4, 2), (2, 1)]),
    "diagonal below": (
        lambda x: x.diagonal(-1, -2, -1),
        lambda a: np.diagonal(a, -1, -2, -1),
        [(3, 3), (2, 3, 4), (1, 2)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
@pytest.mark.parametrize("name", ROWS)
def test_values(name, dtype):
    f, reference, shapes = ROWS[name]
    for shape in shapes:
        a = filled(shape, dtype)
        expected = np.asarray(reference(a))
        for x in layouts(a):
            y = f(x)
            assert tuple(y.shape) == expected.shape, (shape, x.stride())
            assert y.dtype is x.dtype
            np.testing.assert_array_equal(y.contiguous().numpy(), expected)
            np.testing.assert_array_equal(x.contiguous().numpy(), a)  # nothing was written to it


@pytest.mark.parametrize("name", ROWS)
def test_derivatives(name):
    f, _, shapes = ROWS[name]
    for shape in shapes[:3]:
        check_derivatives(f, filled(shape) / 50)
        if len(shape) == 2:
            check_derivatives(lambda x: f(x.t()), filled(shape[::-1]) / 50)


def test_derivatives_of_several():
    a, b, c = filled((2, 3)) / 50, filled((2, 1), seed=1) / 50, filled((2, 2), seed=2) / 50
    check_derivatives(lambda *x: mg.cat(x, 1), a, b, c)
    check_derivatives(lambda x, y: mg.stack([x, y, x], 2), a, a)
    check_derivatives(lambda x, y: mg.cat([x, mg.zeros(0), y]), a, a)
    check_derivatives(lambda x: x.split(2, 1)[1] * x.split(2, 1)[0][:, :1], a)
    check_derivatives(lambda x: x.unbind(1)[0] * x.unbind(1)[2], a)
    check_derivatives(lambda x: x.chunk(3, 1)[1] + x.chunk(1)[0], a)
    check_derivatives(lambda x, y: mg.hstack([x, y]) * mg.vstack([x, x]).sum(), a, b)
    check_derivatives(lambda x, y: mg.broadcast_tensors(x, y)[1] * mg.broadcast_tensors(x, y)[0], a, b)


def test_gradient_of_some_parts_only():
    x = mg.ones(5, requires_grad=True)
    y = mg.ones(2)
    a, _, c = x.split([1, 2, 2])
    mg.cat([a * 2, y, c * 3]).sum().backward()
    assert x.grad.tolist() == [2, 0, 0, 3, 3] and y.grad is None


def test_cat_promotes():
    f, d, i, b = mg.ones(1), mg.ones(1, dtype=mg.float64), mg.ones(1, dtype=mg.int64), mg.ones(1, dtype=mg.bool)
    assert mg.cat([i, f]).dtype is mg.float32
    assert mg.cat([b, i]).dtype is mg.int64
    assert mg.cat([f, i, d]).dtype is mg.float64
    assert mg.stack([mg.ones(()), mg.ones((), dtype=mg.float64)]).dtype is mg.float64
    assert mg.cat([mg.ones(1, dtype=mg.uint8), mg.ones(1, dtype=mg.int8)]).dtype is mg.int16
    x = mg.ones(2, requires_grad=True)
    mg.cat([x, d]).sum().backward()
    assert x.grad.dtype is mg.float32 and x.grad.tolist() == [1, 1]


def test_cat_takes_empty_vectors():
    assert mg.cat([mg.zeros(0), mg.ones(2, 2), mg.zeros(0)]).tolist() == [[1, 1], [1, 1]]
    assert mg.cat([mg.zeros(0), mg.zeros(0)]).shape == (0,)


def test_many_tensors():
    x = mg.ones(300, requires_grad=True)
    y = mg.cat([x[i : i + 1] * i for i in range(300)])
    z = mg.stack([x[i] * i for i in range(300)])
    (y + z).sum().backward()
    assert x.grad.tolist() == [2 * i for i in range(300)]


def test_shapes_of_parts():
    x = mg.arange(10).view(5, 2)
    assert [tuple(p.shape) for p in x.split(2)] == [(2, 2), (2, 2), (1, 2)]
    assert [tuple(p.shape) for p in x.chunk(4)] == [(2, 2), (2, 2), (1, 2)]
    assert [tuple(p.shape) for p in mg.zeros(0, 2).chunk(3)] == [(0, 2)] * 3
    assert [tuple(p.shape) for p in mg.zeros(0, 2).split(3)] == [(0, 2)]
    assert [tuple(p.shape) for p in mg.zeros(0, 2).split(0)] == [(0, 2)]
    assert mg.zeros(0, 2).unbind() == ()
    assert isinstance(x.unbind(), tuple) and len(x.unbind(1)) == 2


def test_views_and_copies():
    x = mg.arange(12).view(3, 4)
    assert x.reshape(4, 3).data_ptr() == x.data_ptr()
    assert x.t().reshape(2, 2, 3).data_ptr() == x.data_ptr()  # each old dimension is split
    assert x.t().view(2, 2, 3).stride() == (2, 1, 4)
    assert x[:, :2].view(3, 2, 1).stride() == (4, 1, 1)
    assert x[:, :3].reshape(9).data_ptr() != x.data_ptr()
    assert x[::2].view(2, 2, 2).stride() == (8, 2, 1)
    assert x.expand(2, 3, 4).stride() == (0, 4, 1)
    assert mg.zeros(1, 1).expand(2, 3).stride() == (0, 0)
    assert x.unsqueeze(-1).stride() == (4, 1, 1) and x.unsqueeze(0).stride() == (12, 4, 1)
    assert x.squeeze() is not x and x.flatten(0, 0) is x
    assert mg.zeros(2, 0, 3).stride() == (3, 3, 1) and mg.zeros(2, 0, 3).view(0, 7).shape == (0, 7)
    assert x.t().contiguous().is_contiguous() and not x.t().is_contiguous()
    assert mg.zeros(3, 1).t().is_contiguous()


def test_view_inputs():
    x = mg.zeros(2, 3)
    for y in (x.view(3, 2), x.view((3, 2)), x.view([3, 2]), x.view(mg.zeros(3, 2).shape), x.view(-1, 2),
              x.view(size=(3, 2)), x.view_as(mg.zeros(3, 2)), x.reshape_as(mg.zeros(3, 2))):  # fmt: skip
        assert tuple(y.shape) == (3, 2)


def test_as_strided():
    x = mg.arange(10)
    assert x.as_strided((3, 3), (2, 1)).tolist() == [[0, 1, 2], [2, 3, 4], [4, 5, 6]]
    assert x.as_strided((2, 2), (0, 1), 8).tolist() == [[8, 9], [8, 9]]
    assert x[4:].as_strided((2,), (1,)).tolist() == [4, 5]
    assert x[4:6].as_strided((2,), (5,), 0).tolist() == [0, 5]  # of the memory, not of the view
    assert x.as_strided((0, 3), (1, 1)).shape == (0, 3)
    for size, stride, offset in (
        ((4,), (3,), 1),
        ((11,), (1,), 0),
        ((1,), (1,), 10),
        ((2, 2), (9, 1), 0),
        ((1,), (1,), -1),
    ):
        with pytest.raises(RuntimeError, match="out of bounds"):
            x.as_strided(size, stride, offset)
    with pytest.raises(RuntimeError, match="Negative strides"):
        x.as_strided((2,), (-1,), 3)
    with pytest.raises(RuntimeError, match="mismatch in length"):
        x.as_strided((2,), (1, 1))
    check_derivatives(lambda x: x.as_strided((3, 2), (1, 2)), filled((6,)) / 50)
    check_derivatives(lambda x: x.as_strided((3, 2, 2), (1, 0, 2), 1), filled((6,)) / 50)
    check_derivatives(lambda x: x.t().as_strided((2, 2), (1, 3)), filled((2, 3)) / 50)
    check_derivatives(lambda x: (x * 1)[1:].as_strided((2, 2), (1, 3), 0), filled((2, 3)) / 50)


X = mg.arange(6).view(2, 3)
ERRORS = [
    (lambda: X.view(4, 2), RuntimeError, r"shape '\[4, 2\]' is invalid for input of size 6"),
    (lambda: X.view(-1, 4), RuntimeError, r"shape '\[-1, 4\]' is invalid for input of size 6"),
    (lambda: X.reshape(-1, -1), RuntimeError, "only one dimension can be inferred"),
    (lambda: X.reshape(-2, 3), RuntimeError, "invalid shape dimension -2"),
    (lambda: mg.zeros(0).reshape(-1, 0), RuntimeError, "cannot reshape tensor of 0 elements into shape .* ambiguous"),
    (lambda: X.reshape(0, -1), RuntimeError, "is invalid for input of size 6"),
    (lambda: X.t().view(6), RuntimeError, r"view size is not compatible with input tensor's size and stride.*reshape"),
    (lambda: X.view(1.5), TypeError, "ints"),
    (lambda: X.reshape([[2, 3]]), TypeError, "list"),
    (lambda: X.view(*[1] * 7, 2, 3), ValueError, "at most 8"),
    (
        lambda: X.transpose(0, 2),
        IndexError,
        r"Dimension out of range \(expected to be in range of \[-2, 1\], but got 2\)",
    ),
    (lambda: mg.zeros(()).transpose(0, 1), IndexError, r"expected to be in range of \[-1, 0\], but got 1"),
    (lambda: X.permute(0), RuntimeError, r"input.dim\(\) = 2 is not equal to len\(dims\) = 1"),
    (lambda: X.permute(0, 0), RuntimeError, "duplicate dims are not allowed"),
    (lambda: X.permute(0, 3), IndexError, "Dimension out of range"),
    (lambda: X.view(1, 2, 3).t(), RuntimeError, "t\\(\\) expects a tensor with <= 2 dimensions, but self is 3D"),
    (lambda: mg.zeros(3).mT, RuntimeError, "only supported on matrices"),
    (lambda: X.movedim((0, 1), 0), RuntimeError, "should contain the same number of dims"),
    (lambda: X.movedim((0, 0), (0, 1)), RuntimeError, "repeated dim in `source`"),
    (lambda: X.squeeze(2), IndexError, "Dimension out of range"),
    (lambda: X.squeeze((0, 0)), RuntimeError, "appears multiple times"),
    (lambda: X.unsqueeze(3), IndexError, r"\[-3, 2\], but got 3"),
    (lambda: mg.zeros(*[1] * 8).unsqueeze(0), ValueError, "at most 8"),
    (lambda: X.flatten(1, 0), RuntimeError, "start_dim cannot come after end_dim"),
    (lambda: X.flatten(0, 2), IndexError, "Dimension out of range"),
    (lambda: X.unflatten(1, (2, 2)), RuntimeError, "don't multiply up to the size of dim 1"),
    (lambda: X.unflatten(1, ()), RuntimeError, "sizes must be non-empty"),
    (
        lambda: X.expand(2, 4),
        RuntimeError,
        r"The expanded size of the tensor \(4\) must match the existing size \(3\) at "
        r"non-singleton dimension 1.  Target sizes: \[2, 4\].  Tensor sizes: \[2, 3\]",
    ),
    (lambda: X.expand(3), RuntimeError, r"must be greater or equal to the number of dimensions in the tensor \(2\)"),
    (lambda: X.expand(-1, 2, 3), RuntimeError, "isn't allowed in a leading, non-existing dimension 0"),
    (lambda: mg.zeros(1).expand(-2), RuntimeError, "expanded size of the tensor"),
    (lambda: mg.broadcast_tensors(X, mg.zeros(2)), RuntimeError, "cannot be broadcast"),
    (lambda: X.flip(2), IndexError, "Dimension out of range"),
    (lambda: X.flip(0, 0), RuntimeError, "appears multiple times"),
    (lambda: X.repeat(2), RuntimeError, "can not be smaller than number of dimensions"),
    (lambda: X.repeat(2, -1), RuntimeError, "non-negative"),
    (lambda: mg.cat([]), RuntimeError, "expected a non-empty list of Tensors"),
    (lambda: mg.cat(X), TypeError, "must be tuple of Tensors"),
    (lambda: mg.cat([X, 1]), TypeError, "expected Tensor as element 1 in argument 0, but got int"),
    (
        lambda: mg.cat([X, mg.zeros(2, 2)]),
        RuntimeError,
        "Sizes of tensors must match except in dimension 0. Expected size "
        "3 but got size 2 for tensor number 1 in the list",
    ),
    (lambda: mg.cat([X, mg.zeros(3)]), RuntimeError, "same number of dimensions: got 2 and 1"),
    (
        lambda: mg.cat([X, mg.zeros(())]),
        RuntimeError,
        r"zero-dimensional tensor \(at position 1\) cannot be concatenated",
    ),
    (lambda: mg.cat([X, X], 2), IndexError, "Dimension out of range"),
    (lambda: mg.stack([]), RuntimeError, "non-empty"),
    (lambda: mg.stack([X, X[0]]), RuntimeError, r"equal size, but got \[2, 3\] at entry 0 and \[3\] at entry 1"),
    (
        lambda: X.select(0, 2),
        IndexError,
        r"select\(\): index 2 out of range for tensor of size \[2, 3\] at dimension 0",
    ),
    (lambda: mg.zeros(()).select(0, 0), IndexError, "cannot be applied to a 0-dim tensor"),
    (lambda: X.narrow(0, 1, 2), RuntimeError, r"start \(1\) \+ length \(2\) exceeds dimension size \(2\)"),
    (lambda: X.narrow(0, 0, -1), RuntimeError, "length must be non-negative"),
    (lambda: X.narrow(0, 5, 0), IndexError, "Dimension out of range"),
    (lambda: X.split([1, 2]), RuntimeError, "sum exactly to 2"),
    (lambda: X.split(-1), RuntimeError, "split_size be non-negative"),
    (lambda: X.split(0), RuntimeError, "split_size can only be 0"),
    (lambda: mg.zeros(()).split(1), RuntimeError, "at least a 1-dimensional"),
    (lambda: X.chunk(0), RuntimeError, "greater than 0"),
    (lambda: mg.zeros(()).unbind(), IndexError, "no dimensions"),
    (lambda: X.diagonal(0, 1, 1), RuntimeError, "cannot be identical"),
    (lambda: X.transpose("a", 0), TypeError, "integer"),
]


@pytest.mark.parametrize("number", range(len(ERRORS)))
def test_errors(number):
    call, kind, text = ERRORS[number]
    with pytest.raises(kind, match=text):
        call()
