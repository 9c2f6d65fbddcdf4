"""Selecting by truth: masked_fill, masked_select, nonzero, where."""

from ..._engine import Tensor, filled
from ..._storage import bool_, int64
from .. import pointwise
from .._arrays import from_array
from .._late import np
from ..shape import broadcast_shapes, expand, reshape, stack
from .checks import mask_positions
from .items import getitem
from .selection import unravelled
from .values import as_scalar


def masked_fill(input, mask, value):
    """``input`` with ``value`` (a number or 0-d tensor) where ``mask`` (bool, broadcast) is true.

    >>> import minigrad as mg
    >>> mg.tensor([1, 2, 3]).masked_fill(mg.tensor([True, False, True]), 0)
    tensor([0, 2, 0])
    """
    if not isinstance(mask, Tensor) or mask.dtype is not bool_:
        kind = repr(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {kind}")
    return pointwise.where(mask, as_scalar("masked_fill", value, input), input)


def masked_select(input, mask):
    """The elements of ``input`` where ``mask`` (bool) is true, a vector; the two are broadcast together.

    >>> import minigrad as mg
    >>> mg.masked_select(mg.tensor([1, 2, 3]), mg.tensor([True, False, True]))
    tensor([1, 3])
    """
    if not isinstance(mask, Tensor) or mask.dtype is not bool_:
        raise RuntimeError("masked_select: expected BoolTensor for mask")
    shape = broadcast_shapes(tuple(input.shape), tuple(mask.shape)) or (1,)
    return getitem(expand(input, shape), expand(mask, shape))


def nonzero(input, *, as_tuple=False):
    """The positions of the elements that are not zero: (count, ndim) int64, or (``as_tuple``) one vector a dimension.

    >>> import minigrad as mg
    >>> mg.tensor([[0, 5], [7, 0]]).nonzero()
    tensor([[0, 1],
            [1, 0]])
    """
    x = input.detach()
    if as_tuple and x.ndim == 0:
        x = reshape(x, (1,))
    mask = x if x.dtype is bool_ else pointwise.ne(x, 0)
    flat = mask_positions(mask.contiguous())
    if x.ndim == 0:
        return filled((flat.numel(), 0), 0, int64, x)
    columns = unravelled(flat, tuple(x.shape))
    if x._device >= 0:
        return tuple(columns) if as_tuple else stack(columns, 1)
    if as_tuple:
        return tuple([from_array(np.array(column)) for column in columns])
    return from_array(np.stack(columns, 1))


argwhere = nonzero


def where(condition, input=None, other=None):
    """``input`` where ``condition`` (bool) else ``other``, broadcast together; alone: ``nonzero(as_tuple=True)``.

    >>> import minigrad as mg
    >>> mg.where(mg.tensor([True, False]), mg.tensor([1, 2]), 0)
    tensor([1, 0])
    """
    if input is None and other is None:
        return nonzero(condition, as_tuple=True)
    if input is None or other is None:
        raise TypeError("where(): expected a condition alone, or a condition, input and other")
    return pointwise.where(condition, input, other)
