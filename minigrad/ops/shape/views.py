"""The same elements under another shape: reshape, flatten, and dimensions of size 1."""

import math

from ..._engine import Op, empty, write_memory
from ..._engine import view as _view
from ..memory_format import check_format, contiguous_format
from .sizes import check_dims, distinct_dims, row_major, sizes_of, wrap_dim


def contiguous(input, *, memory_format=contiguous_format):
    """``input`` itself if its elements lie in row-major order, else a contiguous copy.

    ``memory_format``: ``contiguous_format``; NotImplementedError for channels last.

    >>> import minigrad as mg
    >>> mg.ones(2, 3).t().contiguous().stride()
    (2, 1)
    """
    if memory_format is not contiguous_format:
        check_format(memory_format, "contiguous")
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    return input if input.is_contiguous() else input.clone()


def _target(input, shape):
    """``shape`` with its -1 inferred, checked against the number of elements."""
    n, known, free = input.numel(), 1, -1
    for i, size in enumerate(shape):
        if size >= 0:
            known *= size
        elif size != -1:
            raise RuntimeError(f"invalid shape dimension {size} at index {i} of shape {list(shape)}")
        elif free >= 0:
            raise RuntimeError("only one dimension can be inferred")
        else:
            free = i
    if free >= 0:
        if known == 0:
            if n == 0:
                raise RuntimeError(
                    f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension "
                    "size -1 can be any value and is ambiguous"
                )
        elif n % known == 0:
            return shape[:free] + (n // known,) + shape[free + 1 :]
    elif known == n:
        return shape
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {n}")


def _strides_for(input, shape):
    """The strides with which ``input``'s memory reads as ``shape``, or None if no strides do."""
    if input.is_contiguous() or input.numel() == 0:
        return row_major(shape)
    old, steps = input.shape, input.stride()
    strides, d, inner = [0] * len(shape), len(shape) - 1, steps[-1]
    have = want = 1  # sizes of the run of input's dims that is contiguous, and of the new dims put into it
    for i in range(len(old) - 1, -1, -1):
        have *= old[i]
        if i == 0 or (old[i - 1] != 1 and steps[i - 1] != have * inner):
            while d >= 0 and (want < have or shape[d] == 1):
                strides[d] = want * inner
                want *= shape[d]
                d -= 1
            if want != have:
                return None
            if i > 0:
                inner, have, want = steps[i - 1], 1, 1
    return tuple(strides) if d == -1 else None


_VIEW = Op("View", lambda dy, shape: reshape(dy, shape))
_RESHAPE_COPY = Op("ReshapeCopy", lambda dy, shape: reshape(dy, shape))


def reshape(input, *sizes, shape=None):
    """``input`` with another shape of as many elements; one size may be -1. A view where strides allow it, else a copy.

    >>> import minigrad as mg
    >>> mg.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    target = _target(input, sizes_of(sizes if shape is None else (shape,)))
    strides = _strides_for(input, target)
    if strides is not None:
        y = _view(input, target, strides)
        return _VIEW.record(y, input, saved=(input.shape,)) if input.requires_grad else y
    check_dims(len(target), target)
    y = empty(target, input.dtype, input)
    write_memory(_view(y, input.shape, row_major(input.shape)), input)
    return _RESHAPE_COPY.record(y, input, saved=(input.shape,))


def view(input, *sizes, size=None):
    """``input``'s memory with another shape; RuntimeError where only a copy could have it (use ``reshape``).

    >>> import minigrad as mg
    >>> mg.zeros(2, 3).view(3, 2).shape
    minigrad.Size([3, 2])
    """
    if len(sizes) == 1 and not isinstance(sizes[0], (int, tuple, list)) and not hasattr(sizes[0], "__index__"):
        raise TypeError(f"view: sizes must be ints, got {sizes[0]!r} (views of another dtype are not supported)")
    target = _target(input, sizes_of(sizes if size is None else (size,)))
    strides = _strides_for(input, target)
    if strides is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            f"contiguous subspaces). Use .reshape(...) instead. Input: shape {list(input.shape)}, strides "
            f"{list(input.stride())}; asked: {list(target)}"
        )
    y = _view(input, target, strides)
    return _VIEW.record(y, input, saved=(input.shape,)) if input.requires_grad else y


def view_as(input, other):
    """``input.view(other.shape)``."""
    return view(input, tuple(other.shape))


def reshape_as(input, other):
    """``input.reshape(other.shape)``."""
    return reshape(input, tuple(other.shape))


def flatten(input, start_dim=0, end_dim=-1):
    """Dimensions ``start_dim`` to ``end_dim`` as one; a view where strides allow it.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3, 4).flatten(1).shape
    minigrad.Size([2, 12])
    """
    n, shape = input.ndim, tuple(input.shape)
    start, end = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    if n == 0:
        return reshape(input, (1,))
    if start > end:
        raise RuntimeError(
            f"flatten() has invalid args: start_dim cannot come after end_dim, got {start_dim} and {end_dim}"
        )
    if start == end:
        return input
    return reshape(input, shape[:start] + (math.prod(shape[start : end + 1]),) + shape[end + 1 :])


def ravel(input):
    """All elements in one dimension; a view where strides allow it."""
    return reshape(input, (-1,)) if input.numel() else reshape(input, (0,))


def unflatten(input, dim, sizes):
    """Dimension ``dim`` as several of ``sizes`` (one may be -1).

    >>> import minigrad as mg
    >>> mg.zeros(2, 12).unflatten(1, (3, -1)).shape
    minigrad.Size([2, 3, 4])
    """
    shape, sizes = tuple(input.shape), sizes_of((sizes,))
    d = wrap_dim(dim, input.ndim)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    size, free = shape[d] if shape else 1, sizes.count(-1)
    if free > 1:
        raise RuntimeError("only one dimension can be inferred")
    known = math.prod([s for s in sizes if s != -1])
    if (free and (known == 0 or size % known)) or (not free and known != size):
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({size}) in the input "
            "tensor"
        )
    if free:
        sizes = tuple([size // known if s == -1 else s for s in sizes])
    return reshape(input, shape[:d] + sizes + shape[d + 1 :])


_SQUEEZE = Op("Squeeze", lambda dy, shape: reshape(dy, shape))
_UNSQUEEZE = Op("Unsqueeze", lambda dy, shape: reshape(dy, shape))


def squeeze(input, dim=None):
    """A view without the dimensions of size 1 (all, or those of ``dim``, an int or a tuple).

    >>> import minigrad as mg
    >>> mg.zeros(1, 3, 1).squeeze().shape, mg.zeros(1, 3, 1).squeeze(0).shape
    (minigrad.Size([3]), minigrad.Size([3, 1]))
    """
    shape, strides = input.shape, input.stride()
    dims = range(len(shape)) if dim is None else distinct_dims(dim, len(shape))
    keep = [i for i in range(len(shape)) if shape[i] != 1 or i not in dims]
    y = _view(input, [shape[i] for i in keep], [strides[i] for i in keep])
    return _SQUEEZE.record(y, input, saved=(shape,)) if input.requires_grad else y


def unsqueeze(input, dim):
    """A view with a new dimension of size 1 at ``dim``.

    >>> import minigrad as mg
    >>> mg.zeros(3).unsqueeze(1).shape
    minigrad.Size([3, 1])
    """
    shape, strides = tuple(input.shape), input.stride()
    d = wrap_dim(dim, len(shape) + 1)
    step = shape[d] * strides[d] if d < len(shape) else 1
    y = _view(input, shape[:d] + (1,) + shape[d:], strides[:d] + (step,) + strides[d:])
    return _UNSQUEEZE.record(y, input, saved=(shape,)) if input.requires_grad else y
