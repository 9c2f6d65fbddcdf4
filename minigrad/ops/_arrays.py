"""Tensors and NumPy arrays over the same memory, for what operations compute on the host."""

from .._engine import from_buffer, move
from ._late import np
from .shape import row_major


def as_numpy(x):
    """A NumPy array over a contiguous tensor's memory, or over a copy of what another device has there."""
    x = move(x, None)
    return np.ndarray(tuple(x.shape), x.dtype.name, x._storage, x.storage_offset() * x.element_size())


def from_array(array, name="int64", like=None):
    """A tensor over an array's memory, or a copy on the device of ``like``."""
    array = np.asarray(array, name, order="C")
    return move(from_buffer(array, name, array.shape, row_major(array.shape), array.flags.writeable), like)


def host(x):
    """The values of any tensor as a NumPy array, to be read only."""
    return as_numpy(x.detach().contiguous())
