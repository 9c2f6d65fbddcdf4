"""Whole slices of a dimension by position: index_select, index_add, index_copy, index_fill, take."""

from ..._engine import Tensor
from ..._engine import _cast as cast
from ..._storage import bool_, int64
from ..shape import expand, reshape, wrap_dim
from .checks import checked_index
from .items import getitem
from .positions import add_at, put_at, take_at
from .values import as_scalar, check_addable


def _vector_index(index, name, input, dim):
    """(index as int64 positions, its dim, the input with at least one dim)."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' must be Tensor, not {type(index).__name__}")
    if index.dtype.is_floating_point or index.dtype is bool_:
        raise RuntimeError(f"{name}(): Expected dtype int32/int64 for index, got {index.dtype!r}")
    if index.ndim > 1:
        raise IndexError(f"{name}(): Index is supposed to be a vector, got shape {list(index.shape)}")
    d = wrap_dim(dim, input.ndim)
    x = input if input.ndim else reshape(input, (1,))
    index = reshape(cast(index.detach(), int64).contiguous(), (-1,)).detach()
    return checked_index(index, d, x.shape[d], private=True, negative=False), d, x


def index_select(input, dim, index):
    """The slices of dimension ``dim`` at the positions ``index`` (a vector of integers), copied.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2, 3], [4, 5, 6]]).index_select(1, mg.tensor([2, 0]))
    tensor([[3, 1],
            [6, 4]])
    """
    index, d, x = _vector_index(index, "index_select", input, dim)
    y = take_at(x, index, d, 1, tuple(index.shape), tuple(x.shape))
    return y if input.ndim else reshape(y, ())


def _check_source(name, source, shape, d, n):
    want = shape[:d] + (n,) + shape[d + 1 :]
    if tuple(source.shape) != want:
        raise RuntimeError(
            f"{name}(): source of shape {list(source.shape)} does not fit: with {n} positions in dimension {d} of a "
            f"tensor of shape {list(shape)} it must have shape {list(want)}"
        )


def index_add(input, dim, index, source, *, alpha=1):
    """``input`` with ``alpha * source`` added to its slices at the positions ``index`` of ``dim``; repeats add up.

    >>> import minigrad as mg
    >>> mg.zeros(3).index_add(0, mg.tensor([2, 2, 0]), mg.tensor([1.0, 2.0, 3.0]))
    tensor([3., 0., 3.])
    """
    index, d, x = _vector_index(index, "index_add", input, dim)
    shape = tuple(x.shape)
    _check_source("index_add", source, shape, d, index.numel())
    check_addable("index_add", x)
    source = cast(source, x.dtype)
    added = add_at(source if alpha == 1 else source * alpha, index, d, 1, tuple(index.shape), shape)
    return reshape(x + added, input.shape)


def index_copy(input, dim, index, source):
    """``input`` with its slices at the positions ``index`` of ``dim`` replaced by those of ``source``."""
    index, d, x = _vector_index(index, "index_copy", input, dim)
    _check_source("index_copy", source, tuple(x.shape), d, index.numel())
    return reshape(put_at(x, cast(source, x.dtype), index, d, 1, tuple(index.shape), tuple(x.shape)), input.shape)


def index_fill(input, dim, index, value):
    """``input`` with ``value`` (a number or 0-d tensor) in its slices at the positions ``index`` of ``dim``."""
    index, d, x = _vector_index(index, "index_fill", input, dim)
    shape = tuple(x.shape)
    value = expand(as_scalar("index_fill", value, x), shape[:d] + (index.numel(),) + shape[d + 1 :])
    return reshape(put_at(x, value, index, d, 1, tuple(index.shape), shape), input.shape)


def take(input, index):
    """The elements of ``input``, read as a vector, at the positions ``index``, in the shape of ``index``.

    >>> import minigrad as mg
    >>> mg.take(mg.tensor([[1, 2], [3, 4]]), mg.tensor([3, 0]))
    tensor([4, 1])
    """
    if not isinstance(index, Tensor) or index.dtype.is_floating_point or index.dtype is bool_:
        raise RuntimeError("take(): Expected a long tensor for index")
    return getitem(reshape(input, (input.numel(),)), cast(index.detach(), int64))
