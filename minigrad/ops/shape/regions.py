"""Regions, which elements of a base a view shows: taken out, put into zeros, set to zero, written through."""

import math

from ..._engine import Kernel, Op, empty, filled, from_buffer, move, region_of, rewrite_base, write_memory
from ..._engine import view as _view
from .._late import np
from .broadcasting import sum_to
from .sizes import row_major
from .views import contiguous

_K_TAKE = Kernel("index.take", 0.8)
_K_TAKE_ADD = Kernel("index.take_add", 1.2)
_K_PUT = Kernel("index.put", 1.2)


def _overlapping(shape, strides):
    """Whether two places of a region may be one element (exact for all views but exotic uses of as_strided)."""
    reach = 0
    for stride, size in sorted(zip(strides, shape)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def _simple(base_shape, base_strides):
    """Whether the base is contiguous, so that its gradient has the same layout."""
    if base_strides is None or 0 in base_shape:
        return True
    return all(
        size == 1 or stride == want for size, stride, want in zip(base_shape, base_strides, row_major(base_shape))
    )


def region_positions(shape, strides, offset, base_shape, base_strides):
    """The positions (row-major, in the base) of the elements of a region: an int64 tensor of ``shape``'s size."""
    if base_strides is None:
        base_strides = row_major(base_shape)
    count = math.prod(base_shape)
    extent = 1 + sum((n - 1) * s for n, s in zip(base_shape, base_strides)) if count else 0
    memory = np.full(max(extent, 1), -1, np.int64)
    strided = np.lib.stride_tricks.as_strided
    if count:
        strided(memory, base_shape, [8 * s for s in base_strides])[...] = np.arange(count).reshape(base_shape)
    found = strided(memory[offset:], shape, [8 * s for s in strides]).reshape(-1) if math.prod(shape) else memory[:0]
    if found.size and found.min() < 0:
        raise RuntimeError("as_strided: the view shows memory between the elements of its base; clone() the base first")
    return from_buffer(np.ascontiguousarray(found), "int64", found.shape, (1,), True)


def _take_flat(x, index, shape):
    x, index = contiguous(x), move(index, x)
    y = empty(shape, x.dtype, x)
    n = y.numel()
    _K_TAKE((y,), (x.detach(), index), dims=(n, x.numel(), 1), units=n)
    return _TAKE_FLAT.record(y, x, saved=(index, x.shape, shape))


def _put_flat(dy, index, base_shape, shape):
    dy, index = contiguous(dy), move(index, dy)
    y = filled(base_shape, 0, dy.dtype, dy)
    n = dy.numel()
    if n:
        _K_TAKE_ADD((y,), (dy.detach(), index), dims=(n, y.numel(), 1), units=1, work=n)
    return _PUT_FLAT.record(y, dy, saved=(index, base_shape, shape))


_TAKE_FLAT = Op("AsStrided", lambda dy, index, base_shape, shape: _put_flat(dy, index, base_shape, shape))
_PUT_FLAT = Op("AsStridedBackward", lambda d, index, base_shape, shape: _take_flat(d, index, shape))


def take_region(x, shape, strides, offset, base_shape, base_strides=None):
    """The elements of a region out of ``x`` (base_shape)."""
    if not _simple(base_shape, base_strides):
        return _take_flat(x, region_positions(shape, strides, offset, base_shape, base_strides), shape)
    x = contiguous(x)
    return AS_STRIDED.record(_view(x, shape, strides, offset), x, saved=(shape, strides, offset, base_shape))


def put_region(dy, shape, strides, offset, base_shape, base_strides=None):
    """Zeros (base_shape) with ``dy`` (shape) added at a region."""
    if _overlapping(shape, strides):
        return _put_overlapping(dy, shape, strides, offset, base_shape, base_strides)
    if not _simple(base_shape, base_strides):
        return _put_flat(dy, region_positions(shape, strides, offset, base_shape, base_strides), base_shape, shape)
    y = filled(base_shape, 0, dy.dtype, dy)
    write_memory(_view(y, shape, strides, offset), dy)
    return _PUT_REGION.record(y, dy, saved=(shape, strides, offset, base_shape))


def _put_overlapping(dy, shape, strides, offset, base_shape, base_strides):
    narrowed = tuple([1 if stride == 0 else size for size, stride in zip(shape, strides)])
    if narrowed != tuple(shape):  # an expanded view: sum what one element was shown as
        return put_region(sum_to(dy, narrowed), narrowed, strides, offset, base_shape, base_strides)
    return _put_flat(dy, region_positions(shape, strides, offset, base_shape, base_strides), base_shape, shape)


def clear_region(dy, shape, strides, offset, base_shape, base_strides=None):
    """``dy`` (base_shape) with zeros at a region."""
    y = dy.detach().clone()
    zero = filled((), 0, y.dtype, y)
    if _simple(base_shape, base_strides):
        write_memory(_view(y, shape, strides, offset), zero)
    else:
        index = move(region_positions(shape, strides, offset, base_shape, base_strides), y)
        if index.numel():
            _K_PUT((y,), (zero, index), dims=(index.numel(), 1, 0, 0), units=1, work=index.numel())
    return _CLEAR_REGION.record(y, dy, saved=(shape, strides, offset, base_shape, base_strides))


AS_STRIDED = Op("AsStrided", put_region)
_SLICE = Op("Slice", put_region)
_PUT_REGION = Op("AsStridedBackward", take_region)
_CLEAR_REGION = Op("SliceWriteBackward", clear_region)
_SLICE_WRITE = Op("SliceWrite", clear_region, take_region)


def slice_write(base, y, shown):
    """Give ``base`` the history of "``base`` with ``y`` written at the region of its view ``shown``".

    The engine calls it after a recorded in-place operation through a view; the values are already there.
    """
    region = shape, strides, _, base_shape, base_strides = region_of(shown, base)
    if _overlapping(shape, strides) or (base_strides is not None and _overlapping(base_shape, base_strides)):
        raise RuntimeError(
            f"unsupported operation: elements of the written-to view (shape {shape}, strides {strides}) or of its "
            "base may share memory, so that its gradient is not defined. Please clone() it before writing to it."
        )
    result = _SLICE_WRITE.record(base.detach(), base, y, saved=region)
    rewrite_base(base, result)


def record_slice(y, x, base_shape, shape, strides, offset):
    """Record ``y`` as a view of ``x`` (base_shape): the region that it has if ``x`` is contiguous. Returns y."""
    return _SLICE.record(y, x, saved=(shape, strides, offset, base_shape))
