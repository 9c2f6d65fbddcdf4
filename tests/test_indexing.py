"""Indexing, gathering, scattering, masks and triangles: against NumPy, derivatives, and every bad index refused."""

import itertools
import random

import numpy as np
import pytest

import minigrad as mg

from .derivatives import check_derivatives
from .dtypes import each_dtype

DTYPES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


def rand(*shape, seed=0):
    return np.random.default_rng(seed).uniform(0.5, 1.5, shape)


# --- x[index], x[index] = value against NumPy -------------------------------------------------------------------------


def used(item):
    return (
        0
        if item is None or item is Ellipsis
        else item.ndim
        if isinstance(item, np.ndarray) and item.dtype.kind == "b"
        else 1
    )


def steps(a, index):
    """The index as NumPy is to be asked: PyTorch selects integers first, so that arrays keep their place."""
    if not any(isinstance(i, np.ndarray) for i in index) or not any(type(i) is int for i in index):
        return (index,)
    first, second = [], []
    for item in index:
        if type(item) is int:
            first.append(item)
        elif item is Ellipsis:
            n = a.ndim - sum(used(i) for i in index)
            first += [slice(None)] * n
            second += [slice(None)] * n
        else:
            first += [slice(None)] * used(item)
            second.append(item)
    return tuple(first), tuple(second)


def random_index(r, shape):
    items, d, dots = [], 0, False
    while d < len(shape):
        n, kind = shape[d], r.random()
        if kind < 0.2 and n:
            items.append(r.randrange(-n, n))
            d += 1
        elif kind < 0.45:
            start, stop = (r.choice([None, r.randrange(-n - 2, n + 3)]) for _ in range(2))
            items.append(slice(start, stop, r.choice([None, 1, 2, 3])))
            d += 1
        elif kind < 0.65 and n:
            size = r.choice([(2,), (3,), (1,), (2, 3), (2, 1), (0,), (3, 1)])
            values = [r.randrange(-n, n) for _ in range(int(np.prod(size)))]
            items.append(np.array(values, r.choice(["int64", "int32", "int16", "int8"])).reshape(size))
            d += 1
        elif kind < 0.75 and 0 not in shape:
            m = min(r.choice([1, 1, 2]), len(shape) - d)
            values = [r.random() < 0.5 for _ in range(int(np.prod(shape[d : d + m])))]
            items.append(np.array(values, bool).reshape(shape[d : d + m]))
            d += m
        elif kind < 0.82 and sum(i is None for i in items) < 2:
            items.append(None)
        elif kind < 0.9 and not dots and d + 1 < len(shape):
            items.append(Ellipsis)
            dots = True
            d += r.randrange(1, len(shape) - d)
        elif kind > 0.95:
            break
    return tuple(items)


def random_tensor(r):
    """(array, tensor) of some shape, dtype and layout."""
    shape = tuple(r.randrange(1, 5) if r.random() > 0.1 else 0 for _ in range(r.randrange(0, 5)))
    a = np.arange(int(np.prod(shape))).reshape(shape).astype(r.choice(DTYPES))
    x = mg.from_numpy(a.copy())
    if r.random() < 0.4:
        order = r.sample(range(a.ndim), a.ndim)
        a, x = a.transpose(order), x.permute(order)
    if r.random() < 0.2 and a.ndim:
        a, x = a[1:], x[1:]
    return a, x


def as_given(r, item):
    """An index entry as a user may write it."""
    if not isinstance(item, np.ndarray):
        return item
    return r.choice([item, mg.from_numpy(item), item.tolist() if item.size else item])


@pytest.mark.parametrize("seed", range(20))
def test_against_numpy(seed):
    r, checked = random.Random(seed), 0
    for _ in range(150):
        a, x = random_tensor(r)
        index = random_index(r, a.shape)
        given = tuple(as_given(r, item) for item in index)
        given = given[0] if len(given) == 1 and r.random() < 0.5 else given
        parts = steps(a, index)
        what = f"{x.dtype} {a.shape} strides {x.stride()} index {given}"
        try:
            expected = a[parts[0]][parts[1:][0]] if len(parts) > 1 else a[parts[0]]
        except IndexError:  # arrays that do not broadcast
            with pytest.raises(IndexError):
                x[given]
            continue
        y = x[given]
        assert tuple(y.shape) == expected.shape, what
        np.testing.assert_array_equal(y.contiguous().numpy(), expected, err_msg=what)

        size = r.choice([(), expected.shape, tuple(1 if r.random() < 0.5 else n for n in expected.shape)])
        value = np.array(np.arange(int(np.prod(size))).reshape(size) + 7).astype(a.dtype)
        b, z = a.copy(), r.choice([x, x.clone()])
        if len(parts) > 1:
            if b[parts[0]].ndim == 0:
                continue
            b[parts[0]][parts[1]] = value
        else:
            b[parts[0]] = value
        z[given] = value.item() if size == () and r.random() < 0.5 else mg.from_numpy(value)
        np.testing.assert_array_equal(z.contiguous().numpy(), b, err_msg="set " + what)
        checked += 1
    assert checked > 100


def test_places_of_dimensions():
    x = mg.zeros(2, 3, 4, 5)
    i, j = mg.tensor([0, 1, 1]), mg.tensor([[0], [1]])
    assert x[:, i, j].shape == (2, 2, 3, 5)
    assert x[i, :, j].shape == (2, 3, 3, 5)
    assert x[0, :, i].shape == (3, 3, 5)  # PyTorch's rule; NumPy would put the array first
    assert x[i, None, i].shape == (3, 1, 4, 5)
    assert x[..., i].shape == (2, 3, 4, 3)
    assert x[:, 1, ..., i, 0].shape == (2, 3)
    assert x[x[:, :, 0, 0] == 0].shape == (6, 4, 5)
    assert x[True].shape == (1, 2, 3, 4, 5) and x[False].shape == (0, 2, 3, 4, 5)
    assert x[mg.tensor(True)].shape == (1, 2, 3, 4, 5) and mg.tensor(3.0)[mg.tensor(True)].tolist() == [3.0]
    assert x[[]].shape == (0, 3, 4, 5) and x[()].shape == x.shape
    assert x[mg.tensor(1)].shape == (3, 4, 5) and x[np.int32(1), np.array(2)].shape == (4, 5)
    assert x[[[0, 1], [1, 0]]].shape == (2, 2, 3, 4, 5)
    assert x[range(2)].shape == (2, 3, 4, 5)
    assert x[mg.tensor(1) : np.int64(2)].shape == (1, 3, 4, 5)


def test_views_and_copies():
    x = mg.arange(6).view(2, 3)
    assert x[0]._base is not None and x[mg.tensor(0)]._base is not None
    assert x[[0]]._base is None and x[x > 2]._base is None
    y = x[[0, 1]]
    y[0] = 9
    assert x[0].tolist() == [0, 1, 2]


X = mg.arange(12).view(3, 4)
BAD = [
    (lambda: X[3], IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
    (lambda: X[-4], IndexError, "index -4 is out of bounds for dimension 0 with size 3"),
    (lambda: X[0, 4], IndexError, "index 4 is out of bounds for dimension 1 with size 4"),
    (lambda: X[[0, 3]], IndexError, "index 3 is out of bounds for dimension 0 with size 3"),
    (lambda: X[:, mg.tensor([[0, -5]])], IndexError, "index -5 is out of bounds for dimension 1 with size 4"),
    (lambda: X[[0], [7]], IndexError, "index 7 is out of bounds for dimension 1 with size 4"),
    (lambda: mg.zeros(0, 2)[0], IndexError, "index 0 is out of bounds for dimension 0 with size 0"),
    (lambda: mg.zeros(0, 2)[[0]], IndexError, "index 0 is out of bounds for dimension 0 with size 0"),
    (lambda: X[0, 0, 0], IndexError, "too many indices for tensor of dimension 2"),
    (lambda: X[[0], [0], [0]], IndexError, "too many indices for tensor of dimension 2"),
    (lambda: mg.tensor(1.0)[0], IndexError, "invalid index of a 0-dim tensor. Use `tensor.item\\(\\)`"),
    (lambda: X[..., ...], IndexError, "single ellipsis"),
    (lambda: X[::-1], ValueError, "step must be greater than zero"),
    (lambda: X[::0], ValueError, "step must be greater than zero"),
    (lambda: X[1.0], IndexError, "only integers, slices"),
    (lambda: X["a"], IndexError, "only integers, slices"),
    (lambda: X[mg.tensor([1.0])], IndexError, "must be integer or bool tensors"),
    (lambda: X[np.array([1.0])], IndexError, "must be of integer or bool type"),
    (lambda: X[[0, 1.5]], IndexError, "must be of integer or bool type"),
    (lambda: X[[[0, 1], [2]]], IndexError, "rectangular"),
    (lambda: X[mg.tensor([0, 1], dtype=mg.uint8)], IndexError, "uint8"),
    (lambda: X[np.array([0, 1], np.uint8)], IndexError, "uint8"),
    (lambda: X[[0, 1], [0, 1, 2]], IndexError, r"could not be broadcast together with shapes \[2\], \[3\]"),
    (lambda: X[mg.tensor([True, False])], IndexError, r"The shape of the mask \[2\] at index 0 does not match the "
     r"shape of the indexed tensor \[3, 4\] at index 0"),
    (lambda: X[:, mg.ones(3, dtype=mg.bool)], IndexError, r"mask \[3\] at index 0 does not match .* at index 1"),
    (lambda: X[mg.ones(3, 3, dtype=mg.bool)], IndexError, r"mask \[3, 3\] at index 1 does not match .* at index 1"),
    (lambda: X[mg.ones(3, 4, 1, dtype=mg.bool)], IndexError, "too many indices"),
    (lambda: mg.zeros(*[1] * 8)[None], IndexError, "at most 8"),
    (lambda: mg.zeros(*[1] * 7)[mg.zeros(1, 1, 1, dtype=mg.int64)], ValueError, "at most 8"),
    (lambda: X.__setitem__(3, 0), IndexError, "index 3 is out of bounds"),
    (lambda: X.__setitem__([3], 0), IndexError, "index 3 is out of bounds"),
    (lambda: X.__setitem__(0, mg.zeros(3)), RuntimeError, r"expanded size of the tensor \(4\) must match"),
    (lambda: X.__setitem__(0, mg.zeros(2, 4)), RuntimeError, "greater or equal to the number of dimensions"),
    (lambda: X.__setitem__([0, 1], mg.zeros(3)), RuntimeError, r"value tensor of shape \[3\] cannot be broadcast to "
     r"indexing result of shape \[2, 4\]"),
    (lambda: X.__setitem__(X > 5, mg.zeros(3)), RuntimeError, r"shape \[3\] cannot be broadcast to .* shape \[6\]"),
    (lambda: X.__setitem__(0, "a"), (TypeError, ValueError), "."),
    (lambda: X.__setitem__(0, None), (TypeError, ValueError), "."),
    (lambda: mg.zeros(2, dtype=mg.uint8).__setitem__(0, 300), RuntimeError, "without overflow"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD)))
def test_bad_indices(number):
    call, kind, text = BAD[number]
    with pytest.raises(kind, match=text):
        call()
    assert X.tolist() == np.arange(12).reshape(3, 4).tolist()


def test_read_only_and_strided_indices():
    positions = np.arange(10)[::3]
    fixed = np.array([2, 0])
    fixed.flags.writeable = False
    x = mg.arange(10.0)
    assert x[positions].tolist() == [0, 3, 6, 9]
    assert x[mg.from_numpy(np.arange(10))[::3]].tolist() == [0, 3, 6, 9]
    assert x[fixed].tolist() == [2, 0]
    assert x[np.array([1, 2], ">i8")].tolist() == [1, 2]
    assert x[np.array([1, 2], np.uint16)].tolist() == [1, 2]
    assert x[np.broadcast_to(np.array([True]), 10)].tolist() == x.tolist()
    array = np.zeros(3)
    array.flags.writeable = False
    y = mg.from_numpy(array)
    for index in (0, [0], mg.tensor([True, False, False]), slice(None)):
        with pytest.raises(ValueError, match="read-only"):
            y[index] = 1.0


def test_index_edited_after_use():
    """The backward pass uses the positions of the forward pass, and nothing can make it write out of bounds."""
    memory = np.array([0, 1, 2])
    x = mg.ones(3, requires_grad=True)
    index = mg.from_numpy(memory)
    for f in (lambda: x[index], lambda: x[memory], lambda: x.gather(0, index), lambda: x.index_select(0, index),
              lambda: (x * 0).scatter(0, index, x), lambda: (x * 0).scatter_add(0, index, x),
              lambda: (x * 0).index_put((index,), x)):  # fmt: skip
        memory[:] = [0, 1, 2]
        x.grad = None
        y = f()
        memory[:] = 10**12
        y.sum().backward()
        assert x.grad.tolist() == [1, 1, 1]


def test_numbers_are_converted():
    x = mg.zeros(3, dtype=mg.int64)
    x[0] = 2.7
    x[[1]] = True
    x[mg.tensor([False, False, True])] = mg.tensor(5.9)
    assert x.tolist() == [2, 1, 5]
    y = mg.zeros(2)
    y[0] = np.float64(1.5)
    y[1] = np.array(3)
    assert y.tolist() == [1.5, 3.0]
    y[:] = [1, 2]
    assert y.tolist() == [1.0, 2.0]
    b = mg.zeros(2, dtype=mg.bool)
    b[1] = 3
    assert b.tolist() == [False, True]


def test_last_value_wins():
    x = mg.zeros(3)
    x[[0, 0, 2, 0]] = mg.tensor([1.0, 2.0, 3.0, 4.0])
    assert x.tolist() == [4, 0, 3]
    x[mg.tensor([1, 1]),] += 1  # read once, written once
    assert x.tolist() == [4, 1, 3]


def test_strip_leading_ones():
    x = mg.zeros(2, 3)
    x[0] = mg.ones(1, 3)
    x[[1]] = mg.ones(1, 1, 3) * 2
    assert x.tolist() == [[1, 1, 1], [2, 2, 2]]


def test_iteration_and_membership():
    x = mg.arange(6).view(3, 2)
    assert [row.tolist() for row in x] == [[0, 1], [2, 3], [4, 5]]
    a, _, c = x
    assert c.tolist() == [4, 5] and a._base is not None and len(x) == 3
    assert 4 in x and 9 not in x and mg.tensor(3) in x
    with pytest.raises(TypeError, match="iteration over a 0-d tensor"):
        list(mg.tensor(1))
    with pytest.raises(RuntimeError, match="only supports Tensor or scalar"):
        "a" in x  # noqa: B015
    w = mg.ones(3, requires_grad=True)
    sum(v * i for i, v in enumerate(w)).backward()
    assert w.grad.tolist() == [0, 1, 2]


# --- derivatives ------------------------------------------------------------------------------------------------------

MASK = np.array([[True, False, True], [False, True, True]])
INDICES = [
    1, -1, slice(None), slice(1, None, 2), (0, 1), (slice(None), 1), (None, 0), (Ellipsis, 0), [0, 1, 0],
    ([0, 1, 1], [2, 0, 0]),
    (slice(None), [2, 2]), ([[0], [1]], [0, 2]), MASK, (slice(None), np.array([True, False, True])), ([True, False],),
    (0, [0, 0]), (None, [1, 1], slice(1, 3)), True, [],
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(INDICES)))
def test_derivatives_of_getitem(number):
    index = INDICES[number]
    check_derivatives(lambda x: x[index], rand(2, 3))
    check_derivatives(lambda x: x.t()[index], rand(3, 2))
    check_derivatives(lambda x: (x * 1)[index] * 2, rand(2, 3))


@pytest.mark.parametrize("number", range(len(INDICES)))
def test_derivatives_of_setitem(number):
    index = INDICES[number]
    shape = mg.zeros(2, 3)[index].shape

    def f(x, v, transposed=False):
        y = (x.t() if transposed else x) * 1
        y = y.t().clone().t() if transposed else y
        y[index] = v
        return y

    check_derivatives(f, rand(2, 3), rand(*shape, seed=1))
    check_derivatives(lambda x, v: f(x, v, True), rand(3, 2), rand(seed=1))
    check_derivatives(lambda v: f(mg.ones(2, 3, dtype=mg.float64), v), rand(*shape[1:], seed=1))

    def number_into(x):
        y = x.exp().clone()
        y[index] = 2.0
        return y

    check_derivatives(number_into, rand(2, 3))


def test_derivatives_in_more_dimensions():
    x = rand(2, 3, 2, 2)
    i, j = mg.tensor([0, 1, 1]), mg.tensor([1, 0, 1])
    for index in ((i, slice(None), j), (slice(None), i, j), (i, None, j), (0, slice(None), i), (slice(None), i, 0, j)):
        check_derivatives(lambda x, index=index: x[index], x)

        def put(x, v, index=index):
            y = x * 2
            y[index] = v
            return y

        check_derivatives(put, x, rand(*mg.zeros(2, 3, 2, 2)[index].shape, seed=3))


def test_small_selections_of_large_strided_sources():
    """They are taken element by element instead of copying the source."""
    a = rand(40, 30, 3)
    for order in itertools.permutations(range(3)):
        b, x = a.transpose(order), mg.from_numpy(a.copy()).permute(order)
        for index in (
            ([2, 1],),
            (slice(None), [0, 2]),
            (slice(1, 3), [1, 0]),
            ([0, 2], slice(None), [1, 2]),
            (Ellipsis, [1]),
        ):
            given = index[0] if len(index) == 1 else index
            np.testing.assert_array_equal(x[given].numpy(), b[given])
            c, y = b.copy(), x.clone().permute(0, 1, 2)
            z = mg.from_numpy(a.copy()).permute(order)
            c[given] = 5
            y[given] = 5.0
            z[given] = 5.0
            np.testing.assert_array_equal(y.numpy(), c)
            np.testing.assert_array_equal(z.numpy(), c)
    x = mg.tensor(a, requires_grad=True)
    x.permute(2, 1, 0)[:, [3, 3]].sum().backward()
    assert x.grad.sum().item() == 2 * 40 * 3 and x.grad[:, 3].tolist() == [[2.0] * 3] * 40


def test_repeated_positions_add_up():
    x = mg.zeros(3, requires_grad=True)
    x[mg.tensor([0, 0, 1])].sum().backward()
    assert x.grad.tolist() == [2, 1, 0]


# --- gather, scatter and the like -------------------------------------------------------------------------------------


def two_layouts(a):
    return mg.from_numpy(a), mg.from_numpy(a.T.copy()).T


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
def test_gather_and_scatter(dtype):
    r = np.random.default_rng(0)
    for shape, dim in (((5,), 0), ((3, 4), 0), ((3, 4), 1), ((2, 3, 70), 1), ((2, 70, 3), -1), ((4, 1), 0)):
        a = r.integers(0, 2 if dtype == "bool" else 50, shape).astype(dtype)
        for m in (1, 2, 6):
            size = list(shape)
            size[dim] = m
            index = r.integers(0, shape[dim], size)
            for x, i in (
                (mg.from_numpy(a), mg.from_numpy(index)),
                (mg.from_numpy(a.T.copy()).T, mg.from_numpy(index.T.copy()).T),
            ):
                np.testing.assert_array_equal(x.gather(dim, i).numpy(), np.take_along_axis(a, index, dim))
                np.testing.assert_array_equal(
                    mg.take_along_dim(x, i.int(), dim).numpy(), np.take_along_axis(a, index, dim)
                )
                src = r.integers(0, 2, size).astype(dtype)
                expected = a.copy()
                for at in np.ndindex(*size):
                    to = list(at)
                    to[dim] = index[at]
                    expected[tuple(to)] = src[at]
                np.testing.assert_array_equal(x.scatter(dim, i, mg.from_numpy(src)).numpy(), expected)
                if dtype != "bool":
                    expected = a.copy()
                    for at in np.ndindex(*size):
                        to = list(at)
                        to[dim] = index[at]
                        expected[tuple(to)] += src[at]
                    np.testing.assert_array_equal(x.scatter_add(dim, i, mg.from_numpy(src)).numpy(), expected)
                    y = x.clone()
                    assert y.scatter_(dim, i, mg.from_numpy(src), reduce="add") is y
                    np.testing.assert_array_equal(y.numpy(), expected)


def test_index_smaller_than_input():
    a = np.arange(12.0).reshape(3, 4)
    x, index = mg.from_numpy(a), mg.tensor([[2, 0]])
    assert x.gather(0, index).tolist() == [[8.0, 1.0]]
    assert x.scatter(0, index, -1.0).tolist() == [[0, -1, 2, 3], [4, 5, 6, 7], [-1, 9, 10, 11]]
    assert x.scatter(1, index, mg.full((3, 4), 5.0, dtype=mg.float64))[0].tolist() == [5, 1, 5, 3]
    assert x.scatter_add(1, index, mg.ones(1, 2, dtype=mg.float64))[0].tolist() == [1, 1, 3, 3]
    for f in (
        lambda x, v: x.gather(0, index) * v[:1, :2],
        lambda x, v: x.scatter(0, index, v),
        lambda x, v: x.scatter_add(1, index, v),
    ):
        check_derivatives(f, rand(3, 4), rand(2, 3))


@pytest.mark.parametrize("dim", [0, 1])
def test_derivatives_with_repeated_positions(dim):
    index = mg.tensor([[0, 1, 1], [1, 1, 0]])
    check_derivatives(lambda x: x.gather(dim, index), rand(2, 3))
    check_derivatives(lambda x, v: x.scatter(dim, index, v), rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x, v: x.scatter(dim, index, 3.0) * v, rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x, v: x.scatter_add(dim, index, v), rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x, v: (x * 1).scatter_(dim, index, v), rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x, v: (x * 1).scatter_add_(dim, index, v), rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x: x.take_along_dim(index[:, :1], 1), rand(2, 3))


def test_whole_slices():
    a, index = np.arange(12.0).reshape(3, 4), mg.tensor([2, 0, 2])
    x = mg.from_numpy(a)
    for dim in (0, 1, -1):
        np.testing.assert_array_equal(x.index_select(dim, index.int()).numpy(), np.take(a, [2, 0, 2], dim))
    assert x.index_select(0, mg.tensor(1)).tolist() == [[4, 5, 6, 7]]
    assert mg.tensor(5).index_select(0, mg.tensor([0])).tolist() == 5
    assert mg.take(x, mg.tensor([[0, -1]])).tolist() == [[0, 11]]
    v = mg.ones(3, 4, dtype=mg.float64)
    assert x.index_add(0, index, v, alpha=2)[:, 0].tolist() == [2, 4, 12]
    assert x.index_copy(0, index, v * 3)[:, 0].tolist() == [3, 4, 3]
    assert x.index_fill(1, index, -1)[0].tolist() == [-1, 1, -1, 3]
    check_derivatives(lambda x: x.index_select(1, index), rand(2, 3))
    check_derivatives(lambda x, v: x.index_add(1, index, v), rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x, v: x.index_copy(1, index, v), rand(2, 3), rand(2, 3, seed=1))
    check_derivatives(lambda x, v: x.index_fill(1, index[:2], v), rand(2, 3), rand(seed=1))
    check_derivatives(lambda x: mg.take(x, index), rand(2, 3))
    check_derivatives(lambda x, v: x.index_put((index,), v, accumulate=True), rand(3, 2), rand(3, 2))
    check_derivatives(lambda x, v: x.index_put((index, index), v), rand(3, 3), rand(3))
    check_derivatives(lambda x, v: x.index_put((index, None, index), v, accumulate=True), rand(3, 2, 3), rand(3, 2))


def test_masks():
    a = np.arange(6.0).reshape(2, 3)
    x, m = mg.from_numpy(a), mg.from_numpy(MASK)
    assert x.masked_fill(m, -1).tolist() == np.where(MASK, -1, a).tolist()
    assert x.masked_fill(m[0], mg.tensor(9.0)).tolist() == np.where(MASK[0], 9, a).tolist()
    assert x.masked_select(m).tolist() == a[MASK].tolist()
    assert mg.masked_select(x[:1], m).tolist() == np.broadcast_to(a[:1], (2, 3))[MASK].tolist()
    y = x.clone()
    assert y.masked_fill_(m, 0.5) is y and y.tolist() == np.where(MASK, 0.5, a).tolist()
    assert m.nonzero().tolist() == np.argwhere(MASK).tolist() and m.nonzero().dtype is mg.int64
    assert [p.tolist() for p in x.nonzero(as_tuple=True)] == [p.tolist() for p in np.nonzero(a)]
    assert [p.tolist() for p in mg.where(m)] == [p.tolist() for p in np.nonzero(MASK)]
    assert mg.where(m, x, 0).tolist() == np.where(MASK, a, 0).tolist()
    assert mg.tensor(3).nonzero().shape == (1, 0) and mg.tensor(0).nonzero().shape == (0, 0)
    assert mg.tensor(3).nonzero(as_tuple=True)[0].tolist() == [0]
    assert mg.zeros(0, 3).nonzero().shape == (0, 2) and mg.zeros(2, 3).nonzero().shape == (0, 2)
    assert mg.tensor([0.0, float("nan"), -0.0]).nonzero().tolist() == [[1]]
    check_derivatives(lambda x, v: x.masked_fill(m, v), rand(2, 3), rand())
    check_derivatives(lambda x, v: (x * 1).masked_fill_(m[:, :1], v), rand(2, 3), rand())
    check_derivatives(lambda x: x.masked_select(m), rand(3))
    check_derivatives(lambda x: x[m] * x[~m], rand(2, 3)) if MASK.sum() * 2 == MASK.size else None


@pytest.mark.parametrize("dtype", each_dtype(DTYPES))
def test_triangles_and_diagonals(dtype):
    for shape in ((3, 3), (2, 4), (4, 2), (2, 3, 3), (0, 3), (3, 0)):
        a = np.arange(1, 1 + int(np.prod(shape))).reshape(shape).astype(dtype)
        for k in (0, 1, -1, 2, -2, 9, -9, 2**40):
            for x in (mg.from_numpy(a), mg.from_numpy(np.ascontiguousarray(a.swapaxes(-1, -2))).mT):
                np.testing.assert_array_equal(x.tril(k).numpy(), np.tril(a, k))
                np.testing.assert_array_equal(x.triu(k).numpy(), np.triu(a, k))
                if a.ndim == 2 and abs(k) < 4:
                    np.testing.assert_array_equal(x.diag(k).numpy(), np.diag(a, k))
    v = np.arange(1, 4).astype(dtype)
    for k in (0, 2, -1):
        np.testing.assert_array_equal(mg.diag(mg.from_numpy(v), k).numpy(), np.diag(v, k))


def test_derivatives_of_triangles():
    check_derivatives(lambda x: x.tril(-1) + x.triu(1), rand(3, 4))
    check_derivatives(lambda x: x.t().tril(), rand(3, 4))
    check_derivatives(lambda x: x.diag(1), rand(3, 3))
    check_derivatives(lambda x: x.diag(-1), rand(3))
    check_derivatives(lambda x: (x * 1).tril_(), rand(3, 3))
    check_derivatives(lambda x: x.t().diagonal(1) * x.diagonal(-1), rand(3, 3))


G = mg.zeros(2, 3)
I = mg.zeros(2, 3, dtype=mg.int64)  # noqa: E741
BAD_CALLS = [
    (lambda: G.gather(1, I + 3), IndexError, "index 3 is out of bounds for dimension 1 with size 3"),
    (lambda: G.gather(1, I - 1), IndexError, "index -1 is out of bounds for dimension 1 with size 3"),
    (lambda: G.gather(1, I.float()), RuntimeError, "Expected dtype int64 for index"),
    (lambda: G.gather(1, I > 0), RuntimeError, "Expected dtype int64 for index"),
    (lambda: G.gather(1, [[0]]), TypeError, "must be Tensor"),
    (lambda: G.gather(2, I), IndexError, "Dimension out of range"),
    (lambda: G.gather(1, I[0]), RuntimeError, "same number of dimensions"),
    (lambda: G.gather(0, mg.zeros(1, 4, dtype=mg.int64)), RuntimeError, r"Size does not match at dimension 1 expected "
     r"index \[1, 4\] to be no larger than self \[2, 3\] apart from dimension 0"),
    (lambda: G.scatter(1, I + 3, 1.0), IndexError, "out of bounds"),
    (lambda: G.scatter(1, I, mg.zeros(2, 2)), RuntimeError, "no larger than src"),
    (lambda: G.scatter(1, I, G.double()), RuntimeError, "Expected self.dtype to be equal to src.dtype"),
    (lambda: G.scatter(1, I), TypeError, "missing"),
    (lambda: G.scatter(1, I, G, reduce="multiply"), ValueError, "reduce"),
    (lambda: G.scatter_add(1, I, 1.0), TypeError, "must be Tensor"),
    (lambda: G.scatter_add(1, I, G[0]), RuntimeError, "same number of dimensions as src"),
    (lambda: G.bool().scatter_add(1, I, G.bool()), RuntimeError, "bool"),
    (lambda: G.index_select(0, mg.tensor([2])), IndexError, "index 2 is out of bounds for dimension 0 with size 2"),
    (lambda: G.index_select(0, mg.tensor([-1])), IndexError, "index -1 is out of bounds"),
    (lambda: G.index_select(0, I), IndexError, "supposed to be a vector"),
    (lambda: G.index_select(0, mg.tensor([0.0])), RuntimeError, "Expected dtype int32/int64"),
    (lambda: G.index_add(0, mg.tensor([0]), G), RuntimeError, r"must have shape \[1, 3\]"),
    (lambda: mg.take(G, mg.tensor([6])), IndexError, "index 6 is out of bounds for dimension 0 with size 6"),
    (lambda: mg.take_along_dim(G, I[0], 1), RuntimeError, "same number of dimensions"),
    (lambda: G.masked_fill(I, 0), RuntimeError, "only supports boolean masks"),
    (lambda: G.masked_fill(I > 0, mg.zeros(1)), RuntimeError, "0-dimensional value tensor"),
    (lambda: G.masked_fill(mg.ones(2, dtype=mg.bool), 0), RuntimeError, "must match"),
    (lambda: G.masked_select(I), RuntimeError, "BoolTensor"),
    (lambda: G[0].tril(), RuntimeError, "at least 2 dimensions"),
    (lambda: mg.diag(mg.zeros(1, 1, 1)), RuntimeError, "Supports 1D or 2D"),
    (lambda: mg.where(I > 0, G), TypeError, "where"),
    (lambda: mg.where(I, G, G), RuntimeError, "boolean"),
]  # fmt: skip


@pytest.mark.parametrize("number", range(len(BAD_CALLS)))
def test_bad_calls(number):
    call, kind, text = BAD_CALLS[number]
    with pytest.raises(kind, match=text):
        call()


def test_empty():
    x, none = mg.zeros(0, 3), mg.zeros(0, dtype=mg.int64)
    assert x[none].shape == (0, 3) and x.index_select(0, none).shape == (0, 3)
    assert x.gather(0, mg.zeros(0, 3, dtype=mg.int64)).shape == (0, 3)
    assert mg.zeros(2, 3).gather(1, mg.zeros(2, 0, dtype=mg.int64)).shape == (2, 0)
    assert mg.ones(2, 3).scatter(1, mg.zeros(2, 0, dtype=mg.int64), 1.0).tolist() == [[1] * 3] * 2
    assert x.tril().shape == (0, 3) and x.nonzero().shape == (0, 2) and x[x > 0].shape == (0,)
    x[none] = 1.0
    x[x > 0] = mg.zeros(0)
    y = mg.ones(3, requires_grad=True)
    (y[none].sum() + y[y > 5].sum() + y[:0].sum()).backward()
    assert y.grad.tolist() == [0, 0, 0]
    z = y * 1
    z[none] = 5.0
    z[2:2] = y[:0]
    z.sum().backward()
    assert y.grad.tolist() == [1, 1, 1]
