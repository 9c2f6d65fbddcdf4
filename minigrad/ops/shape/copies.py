"""Copies in another order or laid side by side: where PyTorch copies, so do we."""

import math

from ..._engine import Op, empty, write_memory
from ..._engine import view as _view
from .broadcasting import expand
from .sizes import check_dims, distinct_dims, sizes_of
from .views import reshape

_FLIP = Op("Flip", lambda dy, dims: flip(dy, dims))


def flip(input, *dims):
    """A copy with the order of elements reversed along ``dims``.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).flip(0)
    tensor([[3, 4],
            [1, 2]])
    """
    dims = distinct_dims(sizes_of(dims), input.ndim) if input.ndim or sizes_of(dims) else ()
    shape, strides = input.shape, list(input.stride())
    y = empty(shape, input.dtype, input)
    if y.numel():
        offset = 0
        for d in dims:
            if shape:
                offset += (shape[d] - 1) * strides[d]
                strides[d] = -strides[d]
        write_memory(y, _view(input, shape, strides, offset))
    return _FLIP.record(y, input, saved=(dims,))


def fliplr(input):
    """``flip`` along dimension 1."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input):
    """``flip`` along dimension 0."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def repeat(input, *repeats):
    """A copy of ``input`` laid ``repeats[i]`` times along dimension i; more repeats than dimensions add leading ones.

    >>> import minigrad as mg
    >>> mg.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    repeats = sizes_of(repeats)
    if len(repeats) < input.ndim:
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor: "
            f"{list(repeats)} for shape {list(input.shape)}"
        )
    for times in repeats:
        if times < 0:
            raise RuntimeError(f"repeat: repeats must be non-negative, got {list(repeats)}")
    check_dims(len(repeats), repeats)
    x = reshape(input, (1,) * (len(repeats) - input.ndim) + tuple(input.shape))
    for d in range(len(repeats) - 1, -1, -1):
        times, shape = repeats[d], tuple(x.shape)
        if times != 1:
            outer, inner = math.prod(shape[:d]), math.prod(shape[d:])
            x = expand(reshape(x, (outer, 1, inner)), (outer, times, inner))
            x = reshape(x, shape[:d] + (shape[d] * times,) + shape[d + 1 :])
    return x if x._base is None and x is not input else x.clone()


def tile(input, *dims):
    """``repeat``, with missing leading repeats taken as 1.

    >>> import minigrad as mg
    >>> mg.tensor([[1], [2]]).tile(2)
    tensor([[1, 1],
            [2, 2]])
    """
    dims = sizes_of(dims)
    return repeat(input, (1,) * (input.ndim - len(dims)) + dims)
