"""A part of a tensor as a view: a slice, several, a diagonal, or any strides."""

import math
import operator

from ..._engine import view as _view
from .regions import AS_STRIDED, record_slice, region_positions
from .sizes import check_dims, row_major, sizes_of, wrap_dim


def select(input, dim, index):
    """The slice at ``index`` of dimension ``dim``, without that dimension; a view.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).select(1, 0)
    tensor([1, 3])
    """
    shape, strides = tuple(input.shape), input.stride()
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d, i = wrap_dim(dim, len(shape)), operator.index(index)
    size = shape[d]
    if not -size <= i < size:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(shape)} at dimension {d}")
    if i < 0:
        i += size
    rest = shape[:d] + shape[d + 1 :]
    y = _view(input, rest, strides[:d] + strides[d + 1 :], i * strides[d])
    if input.requires_grad:
        if not input.is_contiguous():
            strides = row_major(shape)
        record_slice(y, input, shape, rest, strides[:d] + strides[d + 1 :], i * strides[d])
    return y


def narrow(input, dim, start, length):
    """``length`` slices of dimension ``dim`` from ``start`` on; a view.

    >>> import minigrad as mg
    >>> mg.arange(5).narrow(0, 1, 3)
    tensor([1, 2, 3])
    """
    shape, strides = tuple(input.shape), input.stride()
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d, first, length = wrap_dim(dim, len(shape)), operator.index(start), operator.index(length)
    size = shape[d]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -size <= first <= size:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size}], but got {first})")
    if first < 0:
        first += size
    if first + length > size:
        raise RuntimeError(f"start ({first}) + length ({length}) exceeds dimension size ({size}).")
    out = shape[:d] + (length,) + shape[d + 1 :]
    y = _view(input, out, strides, first * strides[d])
    if input.requires_grad:
        if not input.is_contiguous():
            strides = row_major(shape)
        record_slice(y, input, shape, out, strides, first * strides[d])
    return y


def diagonal(input, offset=0, dim1=0, dim2=1):
    """The diagonal of two dimensions as the last dimension; a view. ``offset`` > 0: above the main diagonal.

    >>> import minigrad as mg
    >>> mg.arange(9).reshape(3, 3).diagonal(1)
    tensor([1, 5])
    """
    shape, n = tuple(input.shape), input.ndim
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b or n < 2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    length = max(0, min(shape[a], shape[b] - offset) if offset >= 0 else min(shape[a] + offset, shape[b]))

    def region(strides):
        start = (offset * strides[b] if offset >= 0 else -offset * strides[a]) if length else 0
        return tuple([s for d, s in enumerate(strides) if d not in (a, b)] + [strides[a] + strides[b]]), start

    out = tuple([s for d, s in enumerate(shape) if d not in (a, b)] + [length])
    y = _view(input, out, *region(input.stride()))
    return record_slice(y, input, shape, out, *region(row_major(shape))) if input.requires_grad else y


def as_strided(input, size, stride, storage_offset=None):
    """A view of ``input``'s memory by shape, strides and offset (in elements of its storage).

    It may overlap itself but must lie within the memory of ``input``, or of the tensor that ``input`` is a view of.

    >>> import minigrad as mg
    >>> mg.arange(4).as_strided((3, 2), (1, 1))
    tensor([[0, 1],
            [1, 2],
            [2, 3]])
    """
    size, stride = sizes_of((size,)), sizes_of((stride,))
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(stride)} and {list(size)}")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if any(s < 0 for s in size):
        raise RuntimeError(f"as_strided: negative size in {list(size)}")
    check_dims(len(size), size)
    if math.prod(size) >> 60:
        raise RuntimeError(f"as_strided: a tensor of shape {list(size)} has too many elements")
    start = input.storage_offset()
    first = start if storage_offset is None else operator.index(storage_offset)
    last = first + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else first - 1
    base = input
    if not (input.is_contiguous() and start <= first and last < start + input.numel()) and input._base is not None:
        base = input._base
        start = base.storage_offset()
    reach = sum((n - 1) * s for n, s in zip(base.shape, base.stride())) + 1 if base.numel() else 0
    if first < start or last >= start + reach:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {first}: elements {first} to "
            f"{last} are out of bounds for memory from {start} to {start + reach - 1}"
        )
    y = _view(base, size, stride, first - start)
    if base.requires_grad:
        base_strides = None if base.is_contiguous() else base.stride()
        if base_strides is not None:
            # refuses memory between elements
            region_positions(size, stride, first - start, tuple(base.shape), base_strides)
        AS_STRIDED.record(y, base, saved=(size, stride, first - start, tuple(base.shape), base_strides))
    return y
