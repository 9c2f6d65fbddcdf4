"""Positions in range: checked here, or noted by a device for later."""

from ..._engine import Kernel, empty, expected, move
from ..._engine import view as _view
from ..._storage import int64
from .._arrays import as_numpy, from_array
from .._late import np
from ..shape import reshape

_K_CHECK = Kernel("index.check_index", 0.3)
_K_WRAP = Kernel("index.wrap_index", 0.3)
_K_COUNT, _K_MASK = Kernel("index.count_mask", 0.05), Kernel("index.mask_to_index", 1.0)


def _blocks(n):
    """How n > 0 elements are cut where each block is one's work: (size of a block, blocks)."""
    size = max(4096, -(-n // 4096) * 4)  # at most 1,024
    return size, -(-n // size)


def _bad_position(index, dim, size, low):
    bad = empty((1,), int64, index)
    n = index.numel()
    _K_CHECK((bad,), (index,), dims=(n, low, size, n), units=1, work=n)
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
    _K_WRAP((y,), (index, None), dims=(size, 0))
    return y


def _checked_later(index, size, negative):
    """``checked_index`` where the host does not wait (DESIGN f of the package)."""
    n = index.numel()
    block, blocks = _blocks(n)
    bad, y = empty((blocks,), int64, index), empty(index.shape, int64, index)
    _K_CHECK((bad,), (index,), dims=(n, -size if negative else 0, size, block), units=blocks)
    _K_WRAP((y,), (index, bad), dims=(size, blocks))
    return y


def beside(index, x):
    """An index on the device of x: as it is, or, from the CPU, a copy of what has been checked."""
    if index._device >= 0 and index._device != x._device:
        raise RuntimeError(
            f"indices should be either on cpu or on the same device as the indexed tensor ({x.device}), got one on "
            f"{index.device}"
        )
    return move(index, x)


def mask_positions(mask):
    """The positions (row-major) where a contiguous bool tensor is true: an int64 tensor (count,)."""
    n = mask.numel()
    if n == 0:
        return empty((0,), int64, mask)
    block, blocks = _blocks(n)
    count = empty((blocks,), int64, mask)
    _K_COUNT((count,), (mask,), dims=(n, block), units=blocks, work=n)
    start = np.zeros(blocks + 1, np.int64)
    np.cumsum(as_numpy(count), out=start[1:])
    index = empty((int(start[-1]),), int64, mask)
    if index.numel():
        _K_MASK((index,), (from_array(start, like=mask), mask), dims=(n, block), units=blocks, work=n)
    return index
