"""Taking, adding and writing at positions along a run of dimensions."""

import math

from ..._engine import Kernel, Op, bump, empty, filled
from ..._engine import _cast as cast
from ..._engine import view as _view
from ..._storage import bool_, float32, float64, int8, int16, int32, int64, uint8
from .. import pointwise
from .._arrays import as_numpy, from_array
from .._late import np
from ..shape import contiguous, expand, reshape
from .values import on_device_of

_K_TAKE = Kernel("index.take", 0.8)
_K_TAKE_ADD = Kernel("index.take_add", 1.2)
K_PUT = Kernel("index.put", 1.0)

TILE = 64  # columns a unit of the kernels that write to repeated places: see kernels/index.py

# Kernels that only move data run in a dtype of the same size: fewer to compile.
MOVE = {
    float32: float32, int32: float32, float64: float64, int64: float64, int16: int16, int8: uint8, uint8: uint8,
    bool_: uint8,
}  # fmt: skip


def around(first, count, shape):
    """(outer, size, inner) of the run of ``count`` dims from ``first`` on."""
    last = first + count
    return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])


def offsets_of(shape, strides):
    """The offset of every element of a strided tensor, row-major."""
    out = np.zeros((), np.int64)
    for n, step in zip(shape, strides):
        out = out[..., None] + np.arange(n, dtype=np.int64) * step
    return out.reshape(-1)


def _elements(x, index, first, count):
    """(x's memory as a vector, where in it each selected element is)."""
    shape, strides, last = tuple(x.shape), x.stride(), first + count
    outer, inner = offsets_of(shape[:first], strides[:first]), offsets_of(shape[last:], strides[last:])
    memory = _view(x, (1 + sum((n - 1) * step for n, step in zip(shape, strides)),), (1,))
    if x._device >= 0:
        along = reshape(index, (-1, 1))
        if count == 1:
            along = along * strides[first]
        else:
            along = from_array(offsets_of(shape[first:last], strides[first:last]), like=x)[along]
        outer, inner = (from_array(a, like=x) for a in (outer, inner))
        return memory, reshape(reshape(outer, (-1, 1, 1)) + along + inner, (-1,)).contiguous()
    if count == 1:
        along = as_numpy(index).reshape(-1) * strides[first]
    else:
        along = offsets_of(shape[first:last], strides[first:last])[as_numpy(index).reshape(-1)]
    positions = (outer[:, None, None] + along[None, :, None] + inner[None, None, :]).reshape(-1)
    return memory, from_array(positions)


def take_at(x, index, first, count, index_shape, shape):
    """What ``index`` selects of x (shape); differentiable."""
    y = empty(shape[:first] + index_shape + shape[first + count :], x.dtype, x)
    total, n = y.numel(), index.numel()
    if total:
        source, kind = x.detach(), MOVE[x.dtype]
        if not source.is_contiguous() and source.numel() > 2 * total and x._device < 0:
            memory, index_in = _elements(source, index, first, count)
            _K_TAKE((y,), (memory, index_in), dims=(total, memory.numel(), 1), units=total, dtype=kind)
        else:
            outer, size, inner = around(first, count, shape)
            _K_TAKE((y,), (source.contiguous(), index), dims=(n, size, inner), units=outer * n, work=total, dtype=kind)
    return _TAKE.record(y, x, saved=(index, first, count, index_shape, shape))


def add_at(dy, index, first, count, index_shape, shape):
    """Zeros (shape) to which dy is added at what ``index`` selects; differentiable."""
    y = filled(shape, 0, dy.dtype, dy)
    if dy.numel():
        outer, size, inner = around(first, count, shape)
        _K_TAKE_ADD(
            (y,), (contiguous(dy.detach()), index), dims=(index.numel(), size, inner),
            units=outer * -(-inner // TILE), work=dy.numel(),
        )  # fmt: skip
    return _TAKE_ADD.record(y, dy, saved=(index, first, count, index_shape, shape))


def write_at(y, value, index, first, count, index_shape, shape):
    """y[what index selects] = value, into y's memory, whatever its strides; no history."""
    target = shape[:first] + index_shape + shape[first + count :]
    total = math.prod(target)
    if total == 0:
        return
    for n, step in zip(shape, y.stride()):
        if step == 0 and n > 1:
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation."
            )
    outer, _, inner = around(first, count, shape)
    value, kind = cast(on_device_of(y, value.detach()), y.dtype), MOVE[y.dtype]
    if value._storage is y._storage:
        value = value.clone()
    one, y = value.numel() == 1, y.detach()
    if outer != 1 or not y.is_contiguous():
        y, index = _elements(y, index, first, count)
        inner = 1
    if one:
        step, along = 0, 0
    elif inner > 1 and value.ndim == len(shape) - first - count and value.numel() == inner:
        step, along = 0, 1  # one row for all
    else:
        value, step, along = expand(value, target), inner, 1
    units = -(-inner // TILE)
    K_PUT(
        (y,), (value.contiguous(), index), dims=(index.numel(), inner, step, along), units=units, work=total, dtype=kind
    )
    bump(y)


def put_at(x, value, index, first, count, index_shape, shape):
    """A copy of x with ``value`` (of the shape that is selected) where ``index`` selects; differentiable."""
    y = x.detach().clone()
    write_at(y, value, index, first, count, index_shape, shape)
    return _PUT.record(y, x, value, saved=(index, first, count, index_shape, shape))


def _clear_at(dy, index, first, count, index_shape, shape):
    y = dy.detach().clone()
    write_at(y, filled((), 0, y.dtype, y), index, first, count, index_shape, shape)
    return _CLEAR.record(y, dy, saved=(index, first, count, index_shape, shape))


def winners(positions, size):
    """Whether an entry of ``positions`` is the last at its position; None (on the CPU only) if none repeats."""
    if positions._device >= 0:
        order = from_array(np.arange(positions.numel()), like=positions)
        last = empty((size,), int64, positions)
        n, flat = positions.numel(), reshape(positions, (-1,))
        K_PUT((last,), (order, flat), dims=(n, 1, 1, 1), units=1, work=n, dtype=MOVE[int64])
        return reshape(pointwise.eq(last[flat], order), positions.shape)
    positions = as_numpy(positions)
    flat, order = positions.reshape(-1), np.arange(positions.size)
    last = np.empty(size, np.int64)
    last[flat] = order
    won = last[flat] == order
    return None if won.all() else from_array(won.reshape(positions.shape), "bool")


def _dput_value(dy, index, first, count, index_shape, shape):
    d = take_at(dy, index, first, count, index_shape, shape)
    won = winners(index, math.prod(shape[first : first + count]))
    if won is None:
        return d
    won = reshape(won, index_shape + (1,) * (len(shape) - first - count))
    return pointwise.where(won, d, filled((), 0, d.dtype, d))


_TAKE = Op("Index", add_at)
_TAKE_ADD = Op("IndexBackward", take_at)
_PUT = Op("IndexPut", _clear_at, _dput_value)
_CLEAR = Op("IndexPutBackward", _clear_at)
