"""``x[index]`` and ``x[index] = value``."""

from ..._engine import Tensor, copy_
from ..._engine import _cast as cast
from ..._engine import view as _view
from ..._gradmode import is_grad_enabled
from ..._storage import bool_
from .. import pointwise
from .._late import np
from ..shape import expand, inverse, permute, record_slice, reshape, unbind
from .checks import beside
from .entries import bounds_of, check_mask, index_tensor, split_index, too_many
from .positions import put_at, take_at, write_at
from .selection import selected_shape, selection
from .values import as_value


def getitem(x, index):
    """``x[index]``: a view for ints, slices, None and Ellipsis; a copy for integer arrays and masks.

    IndexError for an index outside [-size, size), ValueError for a negative step. Integer and bool tensors, arrays and
    lists are accepted, of any integer dtype but uint8 (PyTorch reads that as a mask, NumPy as positions).

    >>> import minigrad as mg
    >>> x = mg.arange(6).reshape(2, 3)
    >>> x[1, ::2]
    tensor([3, 5])
    >>> x[:, [2, 0]]
    tensor([[2, 0],
            [5, 3]])
    >>> x[x > 3]
    tensor([4, 5])
    """
    kind = type(index)
    if kind is int or kind is slice:
        shape, strides = tuple(x.shape), x.stride()
        if not shape:
            raise too_many(1, 0)
        size = shape[0]
        if kind is int:
            if not -size <= index < size:
                raise IndexError(f"index {index} is out of bounds for dimension 0 with size {size}")
            out, steps, start = shape[1:], strides[1:], index + size if index < 0 else index
        else:
            start, step, length = bounds_of(index, size)
            out, steps = (length, *shape[1:]), (step * strides[0], *strides[1:])
        if not x.requires_grad:
            return _view(x, out, steps, start * strides[0])
        if x.is_contiguous():
            y = _view(x, out, steps, start * strides[0])
            return record_slice(y, x, shape, out, steps, start * strides[0])
    if isinstance(index, Tensor) and index.ndim == 1 and x.ndim:
        item = index_tensor(index)
        if item.dtype is bool_:
            check_mask(tuple(item.shape), tuple(x.shape), 0)
        y, arrays = x, ((0, item),)
    else:
        y, arrays = split_index(x, index)
    if arrays:
        source, _, selected = selection(y, arrays, y.requires_grad)
        return take_at(source, *selected)
    return reshape(x, x.shape) if y is x else y


def _fitting(value, shape):
    """``value`` without leading dimensions of size 1 beyond those of ``shape``."""
    extra = value.ndim - len(shape)
    if extra > 0 and all(n == 1 for n in tuple(value.shape)[:extra]):
        return reshape(value, tuple(value.shape)[extra:])
    return value


def setitem(x, index, value):
    """``x[index] = value``: value (a number, tensor or array) is broadcast and converted; gradients reach x and value.

    Where positions repeat, the last value wins.

    >>> import minigrad as mg
    >>> x = mg.zeros(2, 3)
    >>> x[0] = 1.0
    >>> x[:, [2, 0]] = mg.tensor([5.0, 6.0])
    >>> x
    tensor([[6., 1., 5.],
            [6., 0., 5.]])
    """
    y, arrays = split_index(x, index)
    value = as_value(value, x)
    if not arrays:
        if value.ndim and value.shape != y.shape:
            value = expand(_fitting(value, y.shape), tuple(y.shape))
        copy_(y, value)
        return
    if len(arrays) == 1 and value.numel() == 1 and arrays[0][1].dtype is bool_ and arrays[0][1].shape == y.shape:
        copy_(y, pointwise.where(beside(arrays[0][1], y), reshape(cast(value, y.dtype), ()), y))
        return
    base = y._base
    recorded = (
        is_grad_enabled()
        and y.dtype.is_floating_point
        and (y.requires_grad or value.requires_grad or (base is not None and base.requires_grad))
    )
    source, order, selected = selection(y, arrays, recorded)
    target = selected_shape(*selected)
    value = _fitting(value, target)
    if value.ndim > len(target) or any(n not in (1, m) for n, m in zip(tuple(value.shape)[::-1], target[::-1])):
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of "
            f"shape {list(target)}"
        )
    if not recorded:
        write_at(source, value, *selected)
        return
    made = put_at(source, expand(cast(value, y.dtype), target), *selected)
    copy_(y, made if order is None else permute(made, inverse(order)))


def iterate(x):
    """``iter(x)``: the slices along the first dimension."""
    if x.ndim == 0:
        raise TypeError("iteration over a 0-d tensor")
    return iter(unbind(x))


def contains(x, value):
    """``value in x``: whether any element equals it."""
    if not isinstance(value, (Tensor, bool, int, float, np.generic, np.ndarray)):
        raise RuntimeError(f"Tensor.__contains__ only supports Tensor or scalar, but you passed in a {type(value)}.")
    from ..reduce import any as any_

    return bool(any_(pointwise.eq(x, value)).item())
