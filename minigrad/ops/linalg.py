"""Matrix products: vectors to batches of matrices, with broadcasting.

DESIGN
a. One differentiable product of (batches of) matrices with transpose flags, ``_product``: the gradient of each side is
   such a product again, so nothing is ever transposed in memory and every derivative exists.
b. A matrix times a batch reads the one matrix again and again by offsets: broadcasting copies nothing. A contiguous
   batch times one matrix is a single product of more rows, and so is the gradient of that one matrix.
c. Integers have a plain kernel: exact, wrapping as PyTorch's. It takes contiguous batches, which broadcasting copies.
"""

import functools
import math

from .._engine import Kernel, Op, Tensor, empty, filled, from_buffer, together, view
from .._gradmode import is_grad_enabled
from .._storage import bool_
from . import pointwise as p
from ._gemm import gemm, gemm_batched
from ._late import np
from .reduce import sum_to
from .shape import expand, reshape, row_major, transpose, unsqueeze

CACHED = 4096  # batches of up to this many products keep their offsets for the next call


# --- the product of matrices ------------------------------------------------------------------------------------------


def _da(dy, a, b, ta, tb, shape_a, shape_b):
    da = _product(b, dy, tb, True) if ta else _product(dy, b, False, not tb)
    return da if shape_a is None else sum_to(da, shape_a)


def _db(dy, a, b, ta, tb, shape_a, shape_b):
    if shape_b is not None and len(shape_b) == 2 and not ta:  # the batch is just more rows
        a, dy = (reshape(t, (math.prod(t.shape[:-1]), t.shape[-1])) for t in (a, dy))
    db = _product(dy, a, True, ta) if tb else _product(a, dy, not ta, False)
    return db if shape_b is None else sum_to(db, shape_b)


_matmul = Op("Mm", _da, _db)  # shape_a, shape_b: None for two matrices, which cannot broadcast
_dot = Op("Dot", lambda dy, a, b: dy * b, lambda dy, a, b: dy * a)


def _product(a, b, ta=False, tb=False):
    """op(a) @ op(b) of tensors with at least two dimensions and inner sizes that agree; recorded."""
    if not a.is_floating_point():
        return _integer_product(a, b, ta, tb)
    if a.ndim == 2 and b.ndim == 2:
        return _recorded(gemm(a, b, ta, tb), a, b, ta, tb, None, None)
    if b.ndim == 2 and not ta and a.is_contiguous():
        lead, k = tuple(a.shape[:-1]), a.shape[-1]
        rows = gemm(view(a, (math.prod(lead), k), (k or 1, 1)), b, False, tb)
        shape = (*lead, rows.shape[1])
        y = view(rows, shape, row_major(shape)).detach()
    else:
        y = _batched(a, b, ta, tb)
    return _recorded(y, a, b, ta, tb, a.shape, b.shape)


def _recorded(y, a, b, ta, tb, shape_a, shape_b):
    """y with its history; each operand is saved only if the gradient of the other needs it."""
    if not is_grad_enabled():
        return y
    saved = (a if b.requires_grad else None, b if a.requires_grad else None, ta, tb, shape_a, shape_b)
    return _matmul.record(y, a, b, saved=saved)


def _layout(x):
    """(x or a contiguous copy, leading dimension, transposed): how BLAS reads the matrices of a batch."""
    (rows, columns), (s0, s1) = x.shape[-2:], x.stride()[-2:]
    if (s1 == 1 or columns <= 1) and (rows <= 1 or s0 >= columns):
        return x, max(s0 if rows > 1 else columns, 1), False
    if (s0 == 1 or rows <= 1) and (columns <= 1 or s1 >= rows):
        return x, max(s1 if columns > 1 else rows, 1), True
    return x.detach().clone(), max(columns, 1), False


def _batched(a, b, ta, tb):
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    m, k = a.shape[-2:] if not ta else a.shape[:-3:-1]
    n = b.shape[-2] if tb else b.shape[-1]
    y = empty((*batch, m, n), a.dtype, a)
    if y.numel() == 0:
        return y
    if k == 0:
        return filled(y.shape, 0, y.dtype, y)
    (a, lda, turned_a), (b, ldb, turned_b) = _layout(a), _layout(b)
    if max(m, n, k, lda, ldb) > 0x7FFFFFFF:
        raise ValueError(f"matrix product of sizes ({m}, {k}) x ({k}, {n}): dimensions and strides must fit 32 bits")
    make = _offsets_kept if math.prod(batch) <= CACHED else _offsets
    offsets = make(batch, m * n, *(_batch_strides(x, len(batch)) for x in (a, b)))
    return gemm_batched(y, a, b, m, n, k, lda, ldb, n, ta != turned_a, tb != turned_b, offsets)


def _broadcast(one, other):
    """The common shape of two batches."""
    size = max(len(one), len(other))
    one, other = ((1,) * (size - len(s)) + tuple(s) for s in (one, other))
    for d, (i, j) in enumerate(zip(one, other, strict=True)):
        if i != j and i != 1 and j != 1:
            raise RuntimeError(
                f"The size of tensor a ({i}) must match the size of tensor b ({j}) at non-singleton dimension {d}: "
                f"batches {one} and {other} do not broadcast"
            )
    return tuple([j if i == 1 else i for i, j in zip(one, other, strict=True)])


def _batch_strides(x, ndim):
    """Strides of x along ``ndim`` broadcast batch dimensions: 0 where it repeats."""
    strides = [s if size > 1 else 0 for s, size in zip(x.stride()[:-2], x.shape[:-2], strict=True)]
    return (0,) * (ndim - len(strides)) + tuple(strides)


def _offsets(batch, step, strides_a, strides_b):
    """(number of products, 3) int64: where y, a and b of each product start, in elements."""
    offsets = np.zeros((math.prod(batch), 3), np.int64)
    offsets[:, 0] = np.arange(len(offsets)) * step
    for column, strides in ((1, strides_a), (2, strides_b)):
        places = np.zeros((1,) * len(batch), np.int64)
        for d, (size, stride) in enumerate(zip(batch, strides, strict=True)):
            places = places + (np.arange(size) * stride).reshape([-1 if i == d else 1 for i in range(len(batch))])
        offsets[:, column] = places.reshape(-1)
    return from_buffer(offsets, "int64", offsets.shape, (3, 1), True)


_offsets_kept = functools.lru_cache(128)(_offsets)


_K_INTEGERS = Kernel("linear.int_product", 0.3)


def _integer_product(a, b, ta, tb):
    if a.dtype is bool_:
        raise NotImplementedError("matmul() is not defined for bool tensors; convert them to integers or floats")
    a, b = (transpose(t, -1, -2) if turned else t for t, turned in zip(together(a.detach(), b.detach()), (ta, tb)))
    (m, k), n = a.shape[-2:], b.shape[-1]
    batch = _broadcast(a.shape[:-2], b.shape[:-2])
    y = filled((*batch, m, n), 0, a.dtype, a)
    if y.numel() == 0 or k == 0:
        return y
    if b.ndim == 2:  # the batch is just more rows
        rows, step = y.numel() // n, 0
    else:
        rows, step, b = m, k * n, expand(b, (*batch, k, n)).contiguous()
    a, b = expand(a, (*batch, m, k)).contiguous(), b.contiguous()
    _K_INTEGERS((y,), (a, b), (rows, n, k, step), (), y.numel() // n, y.numel() * k)
    return y


# --- checks -----------------------------------------------------------------------------------------------------------


def _check(name, *inputs):
    """All are tensors of one dtype."""
    for x in inputs:
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}(): expected Tensor arguments, got {type(x).__name__}")
        if x.dtype is not inputs[0].dtype:
            raise RuntimeError(
                f"expected m1 and m2 to have the same dtype, but got: {inputs[0].dtype!r} != {x.dtype!r}"
            )


def _check_inner(a, b):
    if a.shape[-1] != b.shape[-2]:
        if b.ndim > 2:
            raise RuntimeError(
                f"Expected size for first two dimensions of batch2 tensor to be: [{math.prod(b.shape[:-2])}, "
                f"{a.shape[-1]}] but got: [{math.prod(b.shape[:-2])}, {b.shape[-2]}]. Inner sizes differ: "
                f"{tuple(a.shape)} @ {tuple(b.shape)}"
            )
        rows = math.prod(a.shape[:-1])
        raise RuntimeError(
            f"mat1 and mat2 shapes cannot be multiplied ({rows}x{a.shape[-1]} and {b.shape[-2]}x{b.shape[-1]}): "
            f"{tuple(a.shape)} @ {tuple(b.shape)}"
        )


# --- public -----------------------------------------------------------------------------------------------------------


def matmul(input, other):
    """``input @ other``: the product of vectors, matrices or batches of matrices.

    (k,) @ (k,) is a dot product, a number; a vector on one side counts as a row or a column and its dimension is
    dropped again; of more than two dimensions the leading ones are batches and broadcast. One dtype for both.

    >>> import minigrad as mg
    >>> mg.matmul(mg.tensor([[1., 2.], [3., 4.]]), mg.tensor([1., 1.]))
    tensor([3., 7.])
    """
    _check("matmul", input, other)
    m, n = input.ndim, other.ndim
    if m == 2 and n == 2:
        (_, k), (rows, _) = input.shape, other.shape
        if k == rows:
            return _product(input, other)
    if m == 0 or n == 0:
        raise RuntimeError(f"both arguments to matmul need to be at least 1D, but they are {m}D and {n}D")
    if m == 1 and n == 1:
        return dot(input, other)
    if n == 1:
        if input.shape[-1] != other.shape[0]:
            raise RuntimeError(
                f"size mismatch, got input ({math.prod(input.shape[:-1])}), mat "
                f"({math.prod(input.shape[:-1])}x{input.shape[-1]}), vec ({other.shape[0]})"
            )
        y = _product(input, reshape(other, (other.shape[0], 1)))
        return reshape(y, y.shape[:-1])
    if m == 1:
        row = reshape(input, (1, input.shape[0]))
        _check_inner(row, other)
        y = _product(row, other)
        return reshape(y, (*y.shape[:-2], y.shape[-1]))
    _check_inner(input, other)
    return _product(input, other)


def mm(input, mat2):
    """The product of two matrices, (m, k) @ (k, n); nothing broadcasts.

    >>> import minigrad as mg
    >>> mg.mm(mg.tensor([[1., 2.]]), mg.tensor([[3.], [4.]]))
    tensor([[11.]])
    """
    _check("mm", input, mat2)
    if input.ndim != 2:
        raise RuntimeError(f"self must be a matrix, got shape {tuple(input.shape)}")
    if mat2.ndim != 2:
        raise RuntimeError(f"mat2 must be a matrix, got shape {tuple(mat2.shape)}")
    _check_inner(input, mat2)
    return _product(input, mat2)


def mv(input, vec):
    """The product of a matrix and a vector, (m, k) @ (k,).

    >>> import minigrad as mg
    >>> mg.mv(mg.tensor([[1., 2.]]), mg.tensor([3., 4.]))
    tensor([11.])
    """
    _check("mv", input, vec)
    if input.ndim != 2 or vec.ndim != 1:
        raise RuntimeError(f"vector + matrix @ vector expected, got {input.ndim}-D and {vec.ndim}-D")
    return matmul(input, vec)


def dot(input, other):
    """The sum of the products of two vectors, (k,) . (k,), a 0-d tensor.

    >>> import minigrad as mg
    >>> mg.dot(mg.tensor([1., 2.]), mg.tensor([3., 4.]))
    tensor(11.)
    """
    _check("dot", input, other)
    if input.ndim != 1 or other.ndim != 1:
        raise RuntimeError(f"1D tensors expected, but got {input.ndim}D and {other.ndim}D tensors")
    k, n = input.shape[0], other.shape[0]
    if k != n:
        raise RuntimeError(
            f"inconsistent tensor size, expected tensor [{k}] and src [{n}] to have the same number of elements, but "
            f"got {k} and {n} elements respectively"
        )
    row, column = view(input, (1, k), (k, *input.stride())), view(other, (k, 1), (*other.stride(), 1))
    y = view(_product(row, column), (), ()).detach()
    if not is_grad_enabled():
        return y
    saved = (input if other.requires_grad else None, other if input.requires_grad else None)
    return _dot.record(y, input, other, saved=saved)


def outer(input, vec2):
    """All products of elements of two vectors, (m,) and (n,): an (m, n) matrix, dtypes promoted.

    >>> import minigrad as mg
    >>> mg.outer(mg.tensor([1., 2.]), mg.tensor([3., 4.]))
    tensor([[3., 4.],
            [6., 8.]])
    """
    for x, name in ((input, "self"), (vec2, "vec2")):
        if not isinstance(x, Tensor):
            raise TypeError(f"outer(): expected Tensor arguments, got {type(x).__name__}")
        if x.ndim != 1:
            raise RuntimeError(f"outer: Expected 1-D argument {name}, but got {x.ndim}-D")
    return p.mul(unsqueeze(input, 1), vec2)


def bmm(input, mat2):
    """Products of two batches of matrices, (b, m, k) @ (b, k, n); nothing broadcasts.

    >>> import minigrad as mg
    >>> mg.bmm(mg.tensor([[[1., 2.]]]), mg.tensor([[[3.], [4.]]]))
    tensor([[[11.]]])
    """
    _check("bmm", input, mat2)
    for x, name in ((input, "batch1"), (mat2, "batch2")):
        if x.ndim != 3:
            raise RuntimeError(f"{name} must be a 3D tensor, got shape {tuple(x.shape)}")
    if mat2.shape[0] != input.shape[0] or mat2.shape[1] != input.shape[2]:
        raise RuntimeError(
            f"Expected size for first two dimensions of batch2 tensor to be: [{input.shape[0]}, {input.shape[2]}] but "
            f"got: [{mat2.shape[0]}, {mat2.shape[1]}]."
        )
    return _product(input, mat2)


def addmm(input, mat1, mat2, *, beta=1, alpha=1):
    """``beta * input + alpha * (mat1 @ mat2)``; ``input`` broadcasts to (m, n). With beta 0 it is not read.

    >>> import minigrad as mg
    >>> mg.addmm(mg.tensor([1.]), mg.tensor([[1., 2.]]), mg.tensor([[3.], [4.]]))
    tensor([[12.]])
    """
    _check("addmm", input, mat1, mat2)
    y = mm(mat1, mat2)
    if alpha != 1:
        y = y * alpha
    shape = tuple(y.shape)
    if _broadcast(input.shape, shape) != shape:
        raise RuntimeError(
            f"The expanded size of the tensor {shape} must match the existing size {tuple(input.shape)} of input"
        )
    if beta == 0:
        return y
    return (input if beta == 1 else input * beta) + y
