"""Indexing: ``x[...]`` and ``x[...] = v`` with NumPy's and PyTorch's meaning, gather, scatter, masks, triangles.

DESIGN
a. An index is read in two steps, as in PyTorch: integers, slices, None and Ellipsis make a view (``_basic``); then
   arrays of integers and masks select from that view. An integer beside arrays is therefore a plain selection: the
   dimensions of the arrays stay where they are if they are neighbours, else they come first.
b. Several arrays become one array of positions in the run of dimensions that they index, so that all of it is one
   ``take`` over (outer, size, inner); its gradient adds into zeros with ``take_add``.
c. Every index is checked before a kernel runs. Indices that a backward rule will use are private copies.
d. Where a selection is small and its source is not contiguous, single elements are taken out of the source's memory
   instead of copying the source (``_elements``).
e. ``x[index] = v`` with no history to keep writes straight into memory; else it is computed out of place and written
   back by the engine, which rewrites the history of x. With repeated positions the last value wins, also for its
   gradient.
f. On a device other than the CPU nothing waits for an index: a kernel notes the first one outside its range, to be
   raised at the next synchronisation, and takes position 0 instead. Positions are computed there too, by ordinary
   operations; what follows from shapes is computed here and copied there. Only the number of true elements of a mask is
   waited for, since it is a shape. Indices on the CPU (lists, arrays) are checked here, and may select from any device.
"""

import math
import operator

from .._engine import (
    Kernel,
    Op,
    Tensor,
    bump,
    copy_,
    empty,
    expected,
    filled,
    from_buffer,
    is_grad_enabled,
    move,
    operand,
)
from .._engine import _cast as cast
from .._engine import view as _view
from .._record import current
from .._storage import bool_, float32, float64, int8, int16, int32, int64, uint8
from . import pointwise
from ._late import np
from .shape import (
    broadcast_shapes,
    contiguous,
    expand,
    inverse,
    narrow,
    permute,
    put_region,
    record_slice,
    reshape,
    row_major,
    stack,
    unbind,
    wrap_dim,
)
from .shape import diagonal as _diagonal

_K_TAKE = Kernel("index.take", 0.8)
_K_TAKE_ADD = Kernel("index.take_add", 1.2)
_K_PUT = Kernel("index.put", 1.0)
_K_GATHER = Kernel("index.gather", 1.0)
_K_SCATTER = Kernel("index.scatter", 1.0)
_K_SCATTER_ADD = Kernel("index.scatter_add", 1.2)
_K_CHECK = Kernel("index.check_index", 0.3)
_K_WRAP = Kernel("index.wrap_index", 0.3)
_K_MASK = Kernel("index.mask_to_index", 1.0)
_K_TRI = Kernel("index.tri", 0.2)

TILE = 64  # columns a unit of the kernels that write to repeated places: see kernels/index.py

# Kernels that only move data run in a dtype of the same size: fewer to compile.
_MOVE = {
    float32: float32, int32: float32, float64: float64, int64: float64, int16: int16, int8: uint8, uint8: uint8,
    bool_: uint8,
}  # fmt: skip


# --- index arrays -----------------------------------------------------------------------------------------------------


def _numpy(x):
    """A NumPy array over a contiguous tensor's memory, or over a copy of what another device has there."""
    x = move(x, None)
    return np.ndarray(tuple(x.shape), x.dtype.name, x._storage, x.storage_offset() * x.element_size())


def host(x):
    """The values of any tensor as a NumPy array, to be read only."""
    return _numpy(x.detach().contiguous())


def _from_numpy(array, name="int64", like=None):
    """A tensor over an array's memory, or a copy on the device of ``like``."""
    array = np.ascontiguousarray(array, name)
    return move(from_buffer(array, name, array.shape, row_major(array.shape), array.flags.writeable), like)


def _index_tensor(item):
    """A Tensor index as an int64 or bool tensor, contiguous, without history."""
    dtype = item.dtype
    if dtype is not int64 and dtype is not bool_:
        if dtype is uint8:
            raise IndexError(
                "uint8 tensors are not accepted as indices: PyTorch reads them as masks and NumPy as positions. Use "
                ".bool() for a mask or .long() for positions"
            )
        if dtype.is_floating_point:
            raise IndexError(f"tensors used as indices must be integer or bool tensors, got {dtype!r}")
        return cast(item.detach(), int64).contiguous()
    item = item.detach()
    return item if item.is_contiguous() else item.clone()


def _index_array(array):
    """An ndarray index as a tensor."""
    recorder = current()
    if recorder is not None:
        recorder.refuses("uses an array or a list as an index")
    if array.dtype.kind == "b":
        return _from_numpy(array, "bool")
    if array.dtype.kind not in "iu":
        if array.size == 0:  # an empty list is a list of no positions
            return _from_numpy(array, "int64")
        raise IndexError(f"arrays used as indices must be of integer or bool type, got {array.dtype}")
    if array.dtype == np.uint8:
        raise IndexError(
            "uint8 arrays are not accepted as indices: PyTorch reads them as masks and NumPy as positions. Use "
            ".astype(bool) for a mask or .astype(int) for positions"
        )
    return _from_numpy(array, "int64")


def _normal(item):
    """One entry of an index: an int, slice, None, Ellipsis, bool, or an int64 or bool tensor."""
    if item is None or item is Ellipsis or isinstance(item, (slice, bool)):
        return item
    if isinstance(item, int):
        return int(item)
    if isinstance(item, Tensor):
        if item.ndim == 0 and not item.dtype.is_floating_point and item.dtype is not uint8:
            return item.item()
        return _index_tensor(item)
    if isinstance(item, np.generic):
        item = item[()] if item.ndim else item.item()
        if isinstance(item, (bool, int)):
            return item
    elif isinstance(item, np.ndarray):
        return item.item() if item.ndim == 0 and item.dtype.kind in "iub" else _index_array(item)
    elif isinstance(item, (list, tuple, range)):
        try:
            return _index_array(np.asarray(item))
        except ValueError:
            raise IndexError(f"an index of nested lists must be rectangular, got {item!r}") from None
    else:
        try:
            return operator.index(item)
        except TypeError:
            pass
    raise IndexError(
        "only integers, slices (`:`), ellipsis (`...`), None and tensors, arrays or lists of integers or bools are "
        f"valid indices (got {type(item).__name__})"
    )


def _bad_position(index, dim, size, low):
    bad = empty((1,), int64, index)
    _K_CHECK((bad,), (index,), dims=(index.numel(), low, size), units=1, work=index.numel())
    return expected(bad)


def checked_index(index, dim, size, private=False, negative=True):
    """An int64 contiguous ``index`` with all values in [0, size), negative ones wrapped; IndexError if one is outside.

    ``private``: a copy, whose values nobody can change before a backward rule uses them.
    """
    n = index.numel()
    if n == 0:
        return index
    if index._device >= 0 and size:
        return _checked_later(index, size, negative)
    if _bad_position(index, dim, size, 0) < 0:
        return index.clone() if private else index
    at = _bad_position(index, dim, size, -size if negative else 0)
    if at >= 0:
        value = reshape(index, (-1,))
        value = _view(value, (), (), at).item()
        raise IndexError(f"index {value} is out of bounds for dimension {dim} with size {size}")
    y = empty(index.shape, int64, index)
    _K_WRAP((y,), (index,), dims=(size,))
    return y


def _checked_later(index, size, negative):
    """``checked_index`` where the host does not wait (DESIGN f)."""
    bad, y = empty((1,), int64, index), empty(index.shape, int64, index)
    _K_CHECK((bad,), (index,), dims=(index.numel(), -size if negative else 0, size), units=1)
    _K_WRAP((y,), (index,), dims=(size,))
    return y


def _beside(index, x):
    """An index on the device of x: as it is, or, from the CPU, a copy of what has been checked."""
    if index._device >= 0 and index._device != x._device:
        raise RuntimeError(
            f"indices should be either on cpu or on the same device as the indexed tensor ({x.device}), got one on "
            f"{index.device}"
        )
    return move(index, x)


def _mask_positions(mask):
    """The positions (row-major) where a contiguous bool tensor is true: an int64 tensor (count,)."""
    n, found = mask.numel(), 0
    index = empty((n,), int64, mask)
    if n:
        count = empty((1,), int64, mask)
        _K_MASK((index, count), (mask,), dims=(n,), units=1, work=n)
        found = count.item()
    return _view(index, (found,), (1,)).detach()


def _check_mask(mask_shape, shape, dim):
    for i, (have, want) in enumerate(zip(mask_shape, shape[dim:])):
        if have != want:
            raise IndexError(
                f"The shape of the mask {list(mask_shape)} at index {i} does not match the shape of the indexed tensor "
                f"{list(shape)} at index {dim + i}"
            )


# --- reading an index -------------------------------------------------------------------------------------------------


def _too_many(count, ndim):
    if ndim == 0:
        return IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to a number")
    return IndexError(f"too many indices for tensor of dimension {ndim}: {count}")


def _bounds(item, size):
    """(start, step, length) of a slice over a dimension of ``size``."""
    step = item.step
    if step is not None and (step if type(step) is int else operator.index(step)) <= 0:
        raise ValueError("step must be greater than zero")
    start, stop, step = item.indices(size)
    return start, step, (stop - start + step - 1) // step if stop > start else 0


def _entries(index):
    """The entries of an index, normal, and how many dimensions they use up."""
    items, used, dots = [], 0, 0
    for item in index:
        if type(item) is not int and type(item) is not slice:
            item = _normal(item)
        items.append(item)
        if item is Ellipsis:
            dots += 1
        elif isinstance(item, Tensor):
            used += item.ndim if item.dtype is bool_ else 1
        elif item is not None and not isinstance(item, bool):
            used += 1
    if dots > 1:
        raise IndexError("an index can only have a single ellipsis ('...')")
    return items, used


def _basic(shape, strides, items, used):
    """The view that ints, slices, None and Ellipsis make: (shape, strides, offset), and [(dim, tensor)] of the rest."""
    out, steps, offset, d, arrays = [], [], 0, 0, []
    if used > len(shape):
        raise _too_many(used, len(shape))
    for item in items:
        kind = type(item)
        if kind is int:
            size = shape[d]
            if not -size <= item < size:
                raise IndexError(f"index {item} is out of bounds for dimension {d} with size {size}")
            offset += (item + size if item < 0 else item) * strides[d]
            d += 1
        elif kind is slice:
            start, step, length = _bounds(item, shape[d])
            offset += start * strides[d]
            out.append(length)
            steps.append(step * strides[d])
            d += 1
        elif item is Ellipsis:
            skip = len(shape) - used
            out += shape[d : d + skip]
            steps += strides[d : d + skip]
            d += skip
        elif item is None:
            out.append(1)
            steps.append(0)
        elif kind is bool:  # a new dimension of size 1, from which one or no position is taken
            arrays.append((len(out), _from_numpy(np.zeros(1 if item else 0, np.int64))))
            out.append(1)
            steps.append(0)
        else:
            if item.dtype is bool_:
                _check_mask(tuple(item.shape), shape, d)
            arrays.append((len(out), item))
            n = item.ndim if item.dtype is bool_ else 1
            out += shape[d : d + n]
            steps += strides[d : d + n]
            d += n
    out += shape[d:]
    steps += strides[d:]
    if len(out) > 8:
        raise IndexError(f"tensors have at most 8 dimensions, the index makes {len(out)}")
    return tuple(out), tuple(steps), offset, arrays


def _split_index(x, index):
    """(the recorded view of x that the basic part of an index makes, the rest as [(dim, tensor)])."""
    items = index if type(index) is tuple else (index,)
    used = len(items)
    for item in items:
        if type(item) is not int and type(item) is not slice:
            items, used = _entries(items)
            break
    shape = tuple(x.shape)
    out, steps, offset, arrays = _basic(shape, x.stride(), items, used)
    if len(arrays) == len(items) and out == shape:  # nothing basic
        return x, arrays
    y = _view(x, out, steps, offset)
    if x.requires_grad:
        if not x.is_contiguous():
            _, steps, offset, _ = _basic(shape, row_major(shape), items, used)
        record_slice(y, x, shape, out, steps, offset)
    return y, arrays


def _select(x, arrays, private):
    """What ``arrays`` select from x: (source, order, selected).

    ``source`` is x with its dims permuted by ``order`` (None: x itself) so that the indexed ones are neighbours.
    ``selected`` is what the operations below take: (positions as a vector, in which run of dims: the first of them and
    how many, the shape of the index, the shape of the source).
    """
    shape = tuple(x.shape)
    if len(arrays) == 1:
        d, item = arrays[0]
        if item.dtype is bool_:
            index = _beside(_mask_positions(item), x)
            return x, None, (index, d, item.ndim, (index.numel(),), shape)
        return x, None, (_beside(checked_index(item, d, shape[d], private), x), d, 1, tuple(item.shape), shape)
    dims, parts = [], []
    for d, item in arrays:
        if item.dtype is bool_:
            for k, part in enumerate(_unravelled(_beside(_mask_positions(item), x), tuple(item.shape))):
                dims.append(d + k)
                parts.append(part)
        else:
            dims.append(d)
            index = _beside(checked_index(item, d, shape[d]), x)
            parts.append(index if x._device >= 0 else _numpy(index))
    try:
        index_shape = np.broadcast_shapes(*[tuple(part.shape) for part in parts])
    except ValueError:
        raise IndexError(
            "shape mismatch: indexing tensors could not be broadcast together with shapes "
            + ", ".join(str(list(part.shape)) for part in parts)
        ) from None
    if x._device >= 0:
        positions = parts[0]
        for d, part in zip(dims[1:], parts[1:]):
            positions = positions * shape[d] + part
        index = expand(positions, index_shape).contiguous()
    else:
        positions = np.zeros(index_shape, np.int64)
        for d, part in zip(dims, parts):
            positions = positions * shape[d] + part
        index = _from_numpy(positions)
    first, count = dims[0], len(dims)
    if dims == list(range(first, first + count)):
        return x, None, (index, first, count, index_shape, shape)
    order = tuple(dims + [d for d in range(len(shape)) if d not in dims])
    return permute(x, order), order, (index, 0, count, index_shape, tuple([shape[d] for d in order]))


def _unravelled(positions, shape):
    """For each dimension of ``shape`` where in it ``positions`` are: arrays, or tensors if they are not on the CPU."""
    if positions._device < 0:
        flat = _numpy(positions)
        return np.unravel_index(flat, shape) if flat.size else [flat] * len(shape)
    return [positions // step % size for size, step in zip(shape, row_major(shape))]


def _selected_shape(index, first, count, index_shape, shape):
    return shape[:first] + index_shape + shape[first + count :]


# --- taking and putting by position -----------------------------------------------------------------------------------


def _around(first, count, shape):
    """(outer, size, inner) of the run of ``count`` dims from ``first`` on."""
    last = first + count
    return math.prod(shape[:first]), math.prod(shape[first:last]), math.prod(shape[last:])


def _offsets(shape, strides):
    """The offset of every element of a strided tensor, row-major."""
    out = np.zeros((), np.int64)
    for n, step in zip(shape, strides):
        out = out[..., None] + np.arange(n, dtype=np.int64) * step
    return out.reshape(-1)


def _elements(x, index, first, count):
    """(x's memory as a vector, where in it each selected element is)."""
    shape, strides, last = tuple(x.shape), x.stride(), first + count
    outer, inner = _offsets(shape[:first], strides[:first]), _offsets(shape[last:], strides[last:])
    memory = _view(x, (1 + sum((n - 1) * step for n, step in zip(shape, strides)),), (1,))
    if x._device >= 0:
        along = reshape(index, (-1, 1))
        if count == 1:
            along = along * strides[first]
        else:
            along = _from_numpy(_offsets(shape[first:last], strides[first:last]), like=x)[along]
        outer, inner = (_from_numpy(a, like=x) for a in (outer, inner))
        return memory, reshape(reshape(outer, (-1, 1, 1)) + along + inner, (-1,)).contiguous()
    if count == 1:
        along = _numpy(index).reshape(-1) * strides[first]
    else:
        along = _offsets(shape[first:last], strides[first:last])[_numpy(index).reshape(-1)]
    positions = (outer[:, None, None] + along[None, :, None] + inner[None, None, :]).reshape(-1)
    return memory, _from_numpy(positions)


def _take(x, index, first, count, index_shape, shape):
    """What ``index`` selects of x (shape); differentiable."""
    y = empty(shape[:first] + index_shape + shape[first + count :], x.dtype, x)
    total, n = y.numel(), index.numel()
    if total:
        source, kind = x.detach(), _MOVE[x.dtype]
        if not source.is_contiguous() and source.numel() > 2 * total and x._device < 0:
            memory, index_in = _elements(source, index, first, count)
            _K_TAKE((y,), (memory, index_in), dims=(total, memory.numel(), 1), units=total, dtype=kind)
        else:
            outer, size, inner = _around(first, count, shape)
            _K_TAKE((y,), (source.contiguous(), index), dims=(n, size, inner), units=outer * n, work=total, dtype=kind)
    return _TAKE.record(y, x, saved=(index, first, count, index_shape, shape))


def _take_add(dy, index, first, count, index_shape, shape):
    """Zeros (shape) to which dy is added at what ``index`` selects; differentiable."""
    y = filled(shape, 0, dy.dtype, dy)
    if dy.numel():
        outer, size, inner = _around(first, count, shape)
        _K_TAKE_ADD(
            (y,), (contiguous(dy.detach()), index), dims=(index.numel(), size, inner),
            units=outer * -(-inner // TILE), work=dy.numel(),
        )  # fmt: skip
    return _TAKE_ADD.record(y, dy, saved=(index, first, count, index_shape, shape))


def _write(y, value, index, first, count, index_shape, shape):
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
    outer, _, inner = _around(first, count, shape)
    value, kind = cast(_on_device_of(y, value.detach()), y.dtype), _MOVE[y.dtype]
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
    _K_PUT(
        (y,), (value.contiguous(), index), dims=(index.numel(), inner, step, along), units=units, work=total, dtype=kind
    )
    bump(y)


def _put(x, value, index, first, count, index_shape, shape):
    """A copy of x with ``value`` (of the shape that is selected) where ``index`` selects; differentiable."""
    y = x.detach().clone()
    _write(y, value, index, first, count, index_shape, shape)
    return _PUT.record(y, x, value, saved=(index, first, count, index_shape, shape))


def _clear(dy, index, first, count, index_shape, shape):
    y = dy.detach().clone()
    _write(y, filled((), 0, y.dtype, y), index, first, count, index_shape, shape)
    return _CLEAR.record(y, dy, saved=(index, first, count, index_shape, shape))


def _on_device_of(x, value):
    """``value``, moved if it is one number on the CPU."""
    return move(value, x) if value._device < 0 and value.numel() == 1 else value


def _winners(positions, size):
    """Whether an entry of ``positions`` is the last at its position; None (on the CPU only) if none repeats."""
    if positions._device >= 0:
        order = _from_numpy(np.arange(positions.numel()), like=positions)
        last = empty((size,), int64, positions)
        n, flat = positions.numel(), reshape(positions, (-1,))
        _K_PUT((last,), (order, flat), dims=(n, 1, 1, 1), units=1, work=n, dtype=_MOVE[int64])
        return reshape(pointwise.eq(last[flat], order), positions.shape)
    positions = _numpy(positions)
    flat, order = positions.reshape(-1), np.arange(positions.size)
    last = np.empty(size, np.int64)
    last[flat] = order
    won = last[flat] == order
    return None if won.all() else _from_numpy(won.reshape(positions.shape), "bool")


def _dput_value(dy, index, first, count, index_shape, shape):
    d = _take(dy, index, first, count, index_shape, shape)
    won = _winners(index, math.prod(shape[first : first + count]))
    if won is None:
        return d
    won = reshape(won, index_shape + (1,) * (len(shape) - first - count))
    return pointwise.where(won, d, filled((), 0, d.dtype, d))


_TAKE = Op("Index", _take_add)
_TAKE_ADD = Op("IndexBackward", _take)
_PUT = Op("IndexPut", _clear, _dput_value)
_CLEAR = Op("IndexPutBackward", _clear)


# --- x[index], x[index] = value ---------------------------------------------------------------------------------------


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
            raise _too_many(1, 0)
        size = shape[0]
        if kind is int:
            if not -size <= index < size:
                raise IndexError(f"index {index} is out of bounds for dimension 0 with size {size}")
            out, steps, start = shape[1:], strides[1:], index + size if index < 0 else index
        else:
            start, step, length = _bounds(index, size)
            out, steps = (length, *shape[1:]), (step * strides[0], *strides[1:])
        if not x.requires_grad:
            return _view(x, out, steps, start * strides[0])
        if x.is_contiguous():
            y = _view(x, out, steps, start * strides[0])
            return record_slice(y, x, shape, out, steps, start * strides[0])
    if isinstance(index, Tensor) and index.ndim == 1 and x.ndim:
        item = _index_tensor(index)
        if item.dtype is bool_:
            _check_mask(tuple(item.shape), tuple(x.shape), 0)
        y, arrays = x, ((0, item),)
    else:
        y, arrays = _split_index(x, index)
    if arrays:
        source, _, selected = _select(y, arrays, y.requires_grad)
        return _take(source, *selected)
    return reshape(x, x.shape) if y is x else y


def _value(value, x):
    """What is assigned to (part of) x, as a tensor; a number in its dtype; numbers and arrays on its device."""
    if isinstance(value, Tensor):
        return _on_device_of(x, value)
    if isinstance(value, (bool, int, float)):
        return filled((), value, x.dtype, x)
    return move(operand(value), x)


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
    y, arrays = _split_index(x, index)
    value = _value(value, x)
    if not arrays:
        if value.ndim and value.shape != y.shape:
            value = expand(_fitting(value, y.shape), tuple(y.shape))
        copy_(y, value)
        return
    if len(arrays) == 1 and value.numel() == 1 and arrays[0][1].dtype is bool_ and arrays[0][1].shape == y.shape:
        copy_(y, pointwise.where(_beside(arrays[0][1], y), reshape(cast(value, y.dtype), ()), y))
        return
    base = y._base
    recorded = (
        is_grad_enabled()
        and y.dtype.is_floating_point
        and (y.requires_grad or value.requires_grad or (base is not None and base.requires_grad))
    )
    source, order, selected = _select(y, arrays, recorded)
    target = _selected_shape(*selected)
    value = _fitting(value, target)
    if value.ndim > len(target) or any(n not in (1, m) for n, m in zip(tuple(value.shape)[::-1], target[::-1])):
        raise RuntimeError(
            f"shape mismatch: value tensor of shape {list(value.shape)} cannot be broadcast to indexing result of "
            f"shape {list(target)}"
        )
    if not recorded:
        _write(source, value, *selected)
        return
    made = _put(source, expand(cast(value, y.dtype), target), *selected)
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
    from .reduce import any as any_

    return bool(any_(pointwise.eq(x, value)).item())


# --- whole slices by position -----------------------------------------------------------------------------------------


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
    y = _take(x, index, d, 1, tuple(index.shape), tuple(x.shape))
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
    _check_addable("index_add", x)
    source = cast(source, x.dtype)
    added = _take_add(source if alpha == 1 else source * alpha, index, d, 1, tuple(index.shape), shape)
    return reshape(x + added, input.shape)


def index_copy(input, dim, index, source):
    """``input`` with its slices at the positions ``index`` of ``dim`` replaced by those of ``source``."""
    index, d, x = _vector_index(index, "index_copy", input, dim)
    _check_source("index_copy", source, tuple(x.shape), d, index.numel())
    return reshape(_put(x, cast(source, x.dtype), index, d, 1, tuple(index.shape), tuple(x.shape)), input.shape)


def index_fill(input, dim, index, value):
    """``input`` with ``value`` (a number or 0-d tensor) in its slices at the positions ``index`` of ``dim``."""
    index, d, x = _vector_index(index, "index_fill", input, dim)
    shape = tuple(x.shape)
    value = expand(_scalar("index_fill", value, x), shape[:d] + (index.numel(),) + shape[d + 1 :])
    return reshape(_put(x, value, index, d, 1, tuple(index.shape), shape), input.shape)


def _check_addable(name, x):
    if x.dtype is bool_:
        raise RuntimeError(f"{name}(): bool tensors cannot be added to; convert them to an integer dtype")


def _scalar(name, value, x):
    value = _value(value, x)
    if value.ndim:
        raise RuntimeError(
            f"{name} only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
        )
    return cast(value, x.dtype)


def take(input, index):
    """The elements of ``input``, read as a vector, at the positions ``index``, in the shape of ``index``.

    >>> import minigrad as mg
    >>> mg.take(mg.tensor([[1, 2], [3, 4]]), mg.tensor([3, 0]))
    tensor([4, 1])
    """
    if not isinstance(index, Tensor) or index.dtype.is_floating_point or index.dtype is bool_:
        raise RuntimeError("take(): Expected a long tensor for index")
    return getitem(reshape(input, (input.numel(),)), cast(index.detach(), int64))


# --- an index for every element ---------------------------------------------------------------------------------------


def _element_index(name, input, dim, index, private):
    """(index as int64 positions, its dim, the input with at least one dim)."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' must be Tensor, not {type(index).__name__}")
    if index.dtype.is_floating_point or index.dtype is bool_:
        raise RuntimeError(f"{name}(): Expected dtype int64 for index, got {index.dtype!r}")
    d = wrap_dim(dim, input.ndim)
    x = input if input.ndim else reshape(input, (1,))
    index = cast(index.detach(), int64).contiguous()
    if index.ndim == 0:
        index = reshape(index, (1,)).detach()
    if index.ndim != x.ndim and index.numel():
        raise RuntimeError(
            f"Index tensor must have the same number of dimensions as input tensor: {name}() got shapes "
            f"{list(index.shape)} and {list(input.shape)}"
        )
    return checked_index(index, d, x.shape[d], private, negative=False), d, x


def _check_smaller(index, shape, d, what):
    for i, (n, limit) in enumerate(zip(tuple(index.shape), shape)):
        if i != d and n > limit:
            raise RuntimeError(
                f"Size does not match at dimension {i} expected index {list(index.shape)} to be no larger than {what} "
                f"{list(shape)} apart from dimension {d}"
            )


def _narrowed(x, shape, skip=None):
    """x, narrowed to ``shape`` in all dimensions but ``skip``."""
    for i, n in enumerate(shape):
        if i != skip and x.shape[i] != n:
            x = narrow(x, i, 0, n)
    return x


def gather(input, dim, index, *, sparse_grad=False):
    """y[i][j][k] = input[index[i][j][k]][j][k] for dim 0, and so on: one position along ``dim`` for every element.

    ``index`` has as many dimensions as ``input`` and is no larger apart from ``dim``; positions are not negative.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).gather(1, mg.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    index_, d, x = _element_index("gather", input, dim, index, input.requires_grad)
    if index_.numel() == 0:
        return (
            filled(index.shape, 0, input.dtype, input)
            if not x.requires_grad
            else reshape(x, (-1,))[:0].reshape(index.shape)
        )
    _check_smaller(index_, tuple(x.shape), d, "self")
    y = _gather(_narrowed(x, tuple(index_.shape), d), d, index_)
    return y if index.ndim == y.ndim else reshape(y, index.shape)


def _gather(x, d, index):
    """As gather, for an index that differs in size only along d."""
    shape = tuple(x.shape)
    y = empty(index.shape, x.dtype, x)
    outer, size, inner = _around(d, 1, shape)
    m = index.shape[d]
    _K_GATHER(
        (y,), (contiguous(x.detach()), index), dims=(m, size, inner), units=outer * m, work=y.numel(),
        dtype=_MOVE[x.dtype],
    )  # fmt: skip
    return _GATHER.record(y, x, saved=(d, index, shape))


def _gather_back(dy, d, index, shape):
    """Zeros (shape) with dy added where ``index`` says."""
    y = filled(shape, 0, dy.dtype, dy)
    if dy.numel():
        outer, size, inner = _around(d, 1, shape)
        _K_SCATTER_ADD(
            (y,), (contiguous(dy.detach()), index), dims=(index.shape[d], size, inner),
            units=outer * -(-inner // TILE), work=dy.numel(),
        )  # fmt: skip
    return _GATHER_BACK.record(y, dy, saved=(d, index, shape))


_GATHER = Op("Gather", _gather_back)
_GATHER_BACK = Op("GatherBackward", lambda d, dim, index, shape: _gather(d, dim, index))


def take_along_dim(input, indices, dim=None):
    """``gather`` with broadcasting; without ``dim``, ``indices`` are positions in the flattened input.

    >>> import minigrad as mg
    >>> x = mg.tensor([[3, 1], [2, 4]])
    >>> mg.take_along_dim(x, x.argmax(1, keepdim=True), 1)
    tensor([[3],
            [4]])
    """
    if dim is None:
        return gather(reshape(input, (input.numel(),)), 0, reshape(indices, (indices.numel(),)))
    if input.ndim != indices.ndim:
        raise RuntimeError(
            "take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices"
        )
    d = wrap_dim(dim, input.ndim)
    a, b = list(input.shape), list(indices.shape)
    a[d] = b[d] = 1
    shape = list(broadcast_shapes(tuple(a), tuple(b)))
    size, count = input.shape[d], indices.shape[d]
    shape[d] = size
    x = expand(input, shape)
    shape[d] = count
    return gather(x, d, expand(indices, shape))


def _flat_positions(index, d, shape):
    """Where in a contiguous tensor of ``shape`` the elements of an index along d are: a vector."""
    strides = list(row_major(shape))
    step, strides[d] = strides[d], 0
    offsets = _offsets(tuple(index.shape), strides)
    if index._device >= 0:
        return _from_numpy(offsets, like=index) + reshape(index, (-1,)) * step
    return _from_numpy(offsets + _numpy(index).reshape(-1) * step)


def _scatter_arguments(name, input, dim, index, src):
    """(index, dim, input with at least one dim, src of the shape of index)."""
    index, d, x = _element_index(name, input, dim, index, True)
    if index.numel():
        _check_smaller(index, tuple(x.shape), d, "self")
    if isinstance(src, Tensor):
        if src.ndim == 0:
            src = reshape(src, (1,))
        if src.dtype is not x.dtype:
            raise RuntimeError(
                f"{name}(): Expected self.dtype to be equal to src.dtype, got {x.dtype!r}, {src.dtype!r}"
            )
        if index.numel():
            if src.ndim != index.ndim:
                raise RuntimeError(
                    f"Index tensor must have the same number of dimensions as src tensor: {name}() got shapes "
                    f"{list(index.shape)} and {list(src.shape)}"
                )
            _check_smaller(index, tuple(src.shape), None, "src")
            src = _narrowed(src, tuple(index.shape))
    return index, d, x, src


def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """``input`` with ``src`` (a tensor or number) at the positions ``index`` along ``dim``: the inverse of gather.

    y[index[i][j]][j] = src[i][j] for dim 0, and so on; where positions repeat, the last one wins. ``reduce="add"``
    adds instead.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3).scatter(1, mg.tensor([[2], [0]]), 1.0)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    src = value if src is None else src
    if src is None:
        raise TypeError("scatter(): missing argument 'src' or 'value'")
    if reduce is not None:
        if reduce != "add":
            raise ValueError(f"scatter(): reduce must be 'add' or None, got {reduce!r}")
        if not isinstance(src, Tensor):
            src = expand(filled((), src, input.dtype, input), index.shape)
        return scatter_add(input, dim, index, src)
    index, d, x, src = _scatter_arguments("scatter", input, dim, index, src)
    if index.numel() == 0:
        return input.clone()
    y = _scatter(x, d, index, expand(_value(src, x), index.shape))
    return y if input.ndim else reshape(y, ())


def _scatter(x, d, index, src):
    """As scatter, for a src of the shape of index."""
    shape, y = tuple(x.shape), x.detach().clone()
    kind = _MOVE[y.dtype]
    source = contiguous(src.detach())
    if _same_apart(tuple(index.shape), shape, d):
        outer, size, inner = _around(d, 1, shape)
        _K_SCATTER(
            (y,), (source, index), dims=(index.shape[d], size, inner), units=outer * -(-inner // TILE),
            work=index.numel(), dtype=kind,
        )  # fmt: skip
    else:
        n, positions = index.numel(), _flat_positions(index, d, shape)
        _K_PUT((y,), (source, positions), dims=(n, 1, 1, 1), units=1, work=n, dtype=kind)
    return _SCATTER.record(y, x, src, saved=(d, index, shape))


def _same_apart(a, b, d):
    return a[:d] == b[:d] and a[d + 1 :] == b[d + 1 :]


def _dscatter_input(dy, d, index, shape):
    return _scatter(dy, d, index, expand(filled((), 0, dy.dtype, dy), index.shape))


def _dscatter_src(dy, d, index, shape):
    g = gather(dy, d, index)
    won = _winners(_flat_positions(index, d, shape), math.prod(shape))
    if won is None:
        return g
    return pointwise.where(reshape(won, index.shape), g, filled((), 0, g.dtype, g))


_SCATTER = Op("Scatter", _dscatter_input, _dscatter_src)


def scatter_add(input, dim, index, src):
    """``input`` with ``src`` added at the positions ``index`` along ``dim``; where positions repeat, all are added.

    >>> import minigrad as mg
    >>> mg.zeros(3).scatter_add(0, mg.tensor([1, 1, 2]), mg.tensor([1.0, 2.0, 3.0]))
    tensor([0., 3., 3.])
    """
    if not isinstance(src, Tensor):
        raise TypeError(f"scatter_add(): argument 'src' must be Tensor, not {type(src).__name__}")
    _check_addable("scatter_add", input)
    index, d, x, src = _scatter_arguments("scatter_add", input, dim, index, src)
    if index.numel() == 0:
        return input.clone()
    shape = tuple(x.shape)
    if _same_apart(tuple(index.shape), shape, d):
        added = _gather_back(src, d, index, shape)
    else:
        flat = _flat_positions(index, d, shape)
        n = math.prod(shape)
        added = reshape(_take_add(reshape(src, (-1,)), flat, 0, 1, (index.numel(),), (n,)), shape)
    return reshape(x + added, input.shape)


# --- masks ------------------------------------------------------------------------------------------------------------


def masked_fill(input, mask, value):
    """``input`` with ``value`` (a number or 0-d tensor) where ``mask`` (bool, broadcast) is true.

    >>> import minigrad as mg
    >>> mg.tensor([1, 2, 3]).masked_fill(mg.tensor([True, False, True]), 0)
    tensor([0, 2, 0])
    """
    if not isinstance(mask, Tensor) or mask.dtype is not bool_:
        kind = repr(mask.dtype) if isinstance(mask, Tensor) else type(mask).__name__
        raise RuntimeError(f"masked_fill only supports boolean masks, but got mask with dtype {kind}")
    return pointwise.where(mask, _scalar("masked_fill", value, input), input)


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
    flat = _mask_positions(mask.contiguous())
    if x.ndim == 0:
        return filled((flat.numel(), 0), 0, int64, x)
    columns = _unravelled(flat, tuple(x.shape))
    if x._device >= 0:
        return tuple(columns) if as_tuple else stack(columns, 1)
    if as_tuple:
        return tuple([_from_numpy(np.array(column)) for column in columns])
    return _from_numpy(np.stack(columns, 1))


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


# --- triangles and diagonals ------------------------------------------------------------------------------------------


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
            work=y.numel(), dtype=_MOVE[x.dtype],
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


# --- in place ---------------------------------------------------------------------------------------------------------


def _in_place(name, function):
    def method(self, *args, **kwargs):
        return copy_(self, function(self, *args, **kwargs))

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"As ``{function.__name__}``, in place; the tensor."
    return method


index_add_ = _in_place("index_add_", index_add)
index_copy_ = _in_place("index_copy_", index_copy)
index_fill_ = _in_place("index_fill_", index_fill)
masked_fill_ = _in_place("masked_fill_", masked_fill)
scatter_ = _in_place("scatter_", scatter)
scatter_add_ = _in_place("scatter_add_", scatter_add)
tril_ = _in_place("tril_", tril)
triu_ = _in_place("triu_", triu)


def index_put(input, indices, values, accumulate=False):
    """``input`` with ``values`` at ``indices`` (a tuple of index tensors), or added to what is there (``accumulate``).

    >>> import minigrad as mg
    >>> mg.zeros(3).index_put((mg.tensor([0, 0]),), mg.ones(2), accumulate=True)
    tensor([2., 0., 0.])
    """
    y = input.clone()
    return index_put_(y, indices, values, accumulate)


def index_put_(self, indices, values, accumulate=False):
    """As ``index_put``, in place; the tensor."""
    index = tuple([slice(None) if item is None else item for item in indices])
    if not accumulate:
        setitem(self, index, values)
        return self
    _check_addable("index_put_", self)
    y, arrays = _split_index(self, index)
    _, order, selected = _select(y, arrays, True)
    value = expand(cast(_value(values, self), self.dtype), _selected_shape(*selected))
    added = _take_add(value, *selected)
    pointwise.add.inplace(y, added if order is None else permute(added, inverse(order)))
    return self
