"""What integer arrays and masks select, as positions in one run of dimensions."""

from ..._storage import bool_
from .._arrays import as_numpy, from_array
from .._late import np
from ..shape import expand, permute, row_major
from .checks import beside, checked_index, mask_positions


def selection(x, arrays, private):
    """What ``arrays`` select from x: (source, order, selected).

    ``source`` is x with its dims permuted by ``order`` (None: x itself) so that the indexed ones are neighbours.
    ``selected`` is what the operations below take: (positions as a vector, in which run of dims: the first of them and
    how many, the shape of the index, the shape of the source).
    """
    shape = tuple(x.shape)
    if len(arrays) == 1:
        d, item = arrays[0]
        if item.dtype is bool_:
            index = beside(mask_positions(item), x)
            return x, None, (index, d, item.ndim, (index.numel(),), shape)
        return x, None, (beside(checked_index(item, d, shape[d], private), x), d, 1, tuple(item.shape), shape)
    dims, parts = [], []
    for d, item in arrays:
        if item.dtype is bool_:
            for k, part in enumerate(unravelled(beside(mask_positions(item), x), tuple(item.shape))):
                dims.append(d + k)
                parts.append(part)
        else:
            dims.append(d)
            index = beside(checked_index(item, d, shape[d]), x)
            parts.append(index if x._device >= 0 else as_numpy(index))
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
        index = from_array(positions)
    first, count = dims[0], len(dims)
    if dims == list(range(first, first + count)):
        return x, None, (index, first, count, index_shape, shape)
    order = tuple(dims + [d for d in range(len(shape)) if d not in dims])
    return permute(x, order), order, (index, 0, count, index_shape, tuple([shape[d] for d in order]))


def unravelled(positions, shape):
    """For each dimension of ``shape`` where in it ``positions`` are: arrays, or tensors if they are not on the CPU."""
    if positions._device < 0:
        flat = as_numpy(positions)
        return np.unravel_index(flat, shape) if flat.size else [flat] * len(shape)
    return [positions // step % size for size, step in zip(shape, row_major(shape))]


def selected_shape(index, first, count, index_shape, shape):
    return shape[:first] + index_shape + shape[first + count :]
