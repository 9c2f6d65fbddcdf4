"""Reading ``x[...]``: the view that ints, slices, None and Ellipsis make, and the arrays that are left."""

import operator

from ..._engine import Tensor
from ..._engine import _cast as cast
from ..._engine import view as _view
from ..._record import current
from ..._storage import bool_, int64, uint8
from .._arrays import from_array
from .._late import np
from ..shape import record_slice, row_major


def index_tensor(item):
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
        return from_array(array, "bool")
    if array.dtype.kind not in "iu":
        if array.size == 0:  # an empty list is a list of no positions
            return from_array(array, "int64")
        raise IndexError(f"arrays used as indices must be of integer or bool type, got {array.dtype}")
    if array.dtype == np.uint8:
        raise IndexError(
            "uint8 arrays are not accepted as indices: PyTorch reads them as masks and NumPy as positions. Use "
            ".astype(bool) for a mask or .astype(int) for positions"
        )
    return from_array(array, "int64")


def _normal(item):
    """One entry of an index: an int, slice, None, Ellipsis, bool, or an int64 or bool tensor."""
    if item is None or item is Ellipsis or isinstance(item, (slice, bool)):
        return item
    if isinstance(item, int):
        return int(item)
    if isinstance(item, Tensor):
        if item.ndim == 0 and not item.dtype.is_floating_point and item.dtype is not uint8:
            return item.item()
        return index_tensor(item)
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


def check_mask(mask_shape, shape, dim):
    for i, (have, want) in enumerate(zip(mask_shape, shape[dim:])):
        if have != want:
            raise IndexError(
                f"The shape of the mask {list(mask_shape)} at index {i} does not match the shape of the indexed tensor "
                f"{list(shape)} at index {dim + i}"
            )


def too_many(count, ndim):
    if ndim == 0:
        return IndexError("invalid index of a 0-dim tensor. Use `tensor.item()` to convert a 0-dim tensor to a number")
    return IndexError(f"too many indices for tensor of dimension {ndim}: {count}")


def bounds_of(item, size):
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
        raise too_many(used, len(shape))
    for item in items:
        kind = type(item)
        if kind is int:
            size = shape[d]
            if not -size <= item < size:
                raise IndexError(f"index {item} is out of bounds for dimension {d} with size {size}")
            offset += (item + size if item < 0 else item) * strides[d]
            d += 1
        elif kind is slice:
            start, step, length = bounds_of(item, shape[d])
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
            arrays.append((len(out), from_array(np.zeros(1 if item else 0, np.int64))))
            out.append(1)
            steps.append(0)
        else:
            if item.dtype is bool_:
                check_mask(tuple(item.shape), shape, d)
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


def split_index(x, index):
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
