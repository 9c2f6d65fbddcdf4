"""Triangles and diagonals of matrices."""

import operator

from ..._engine import Kernel, Op, empty
from ..shape import diagonal as _diagonal
from ..shape import permute, put_region, row_major, wrap_dim
from .positions import MOVE

_K_TRI = Kernel("index.tri", 0.2)


def _triangle(name, input, diagonal, upper):
    shape = tuple(input.shape)
    if len(shape) < 2:
        raise RuntimeError(f"{name}: input tensor must have at least 2 dimensions")
    x, diagonal = input.detach().contiguous(), operator.index(diagonal)
    y = empty(shape, x.dtype, x)
    rows, cols = shape[-2:]
    if y.numel():
        _K_TRI(
            (y,), (x,), dims=(rows, cols, max(-rows, min(diagonal, cols)), upper), units=y.numel() // cols,
            work=y.numel(), dtype=MOVE[x.dtype],
        )  # fmt: skip
    return (_TRIU if upper else _TRIL).record(y, input, saved=(diagonal,))


_TRIL = Op("Tril", lambda dy, diagonal: tril(dy, diagonal))
_TRIU = Op("Triu", lambda dy, diagonal: triu(dy, diagonal))


def tril(input, diagonal=0):
    """The lower triangle of the last two dimensions, zeros elsewhere; ``diagonal`` > 0 keeps more.

    >>> import minigrad as mg
    >>> mg.ones(2, 3).tril()
    tensor([[1., 0., 0.],
            [1., 1., 0.]])
    """
    return _triangle("tril", input, diagonal, 0)


def triu(input, diagonal=0):
    """The upper triangle of the last two dimensions, zeros elsewhere; ``diagonal`` > 0 keeps less.

    >>> import minigrad as mg
    >>> mg.ones(2, 3).triu(1)
    tensor([[0., 1., 1.],
            [0., 0., 1.]])
    """
    return _triangle("triu", input, diagonal, 1)


def diag_embed(input, offset=0, dim1=-2, dim2=-1):
    """Zeros with the last dimension of ``input`` on the diagonal of two new dimensions ``dim1`` and ``dim2``."""
    shape, n = tuple(input.shape), input.ndim + 1
    if not shape:
        raise RuntimeError("diag_embed expects at least a 1-dimensional tensor")
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    size = shape[-1] + abs(offset)
    base = shape[:-1] + (size, size)
    strides = row_major(base)
    start = (offset if offset >= 0 else -offset * size) if shape[-1] else 0
    y = put_region(input, shape, strides[:-2] + (size + 1,), start, base)
    order = list(range(n - 2))
    for d, place in sorted([(a, n - 2), (b, n - 1)]):
        order.insert(d, place)
    return permute(y, order)


def diag(input, diagonal=0):
    """A matrix with the vector ``input`` on its diagonal, or the diagonal of the matrix ``input``, copied.

    >>> import minigrad as mg
    >>> mg.diag(mg.tensor([1, 2]))
    tensor([[1, 0],
            [0, 2]])
    """
    if input.ndim == 1:
        return diag_embed(input, diagonal)
    if input.ndim == 2:
        return _diagonal(input, diagonal).clone()
    raise RuntimeError(f"diag(): Supports 1D or 2D tensors. Got {input.ndim}D")
