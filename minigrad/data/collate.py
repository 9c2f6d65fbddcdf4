"""From items to a batch: tensors are stacked, numbers become tensors, containers are collated part by part."""

import copy
from collections.abc import Mapping, MutableMapping, MutableSequence, Sequence

from .._engine import Tensor
from .._storage import float64
from ..creation import as_tensor, is_array, tensor
from ..ops.shape import stack


def default_collate(batch):
    """Join a list of items into one item of batches.

    Tensors and arrays are stacked along a new first dimension; floats become a float64 tensor, ints an int64 one; str
    and bytes stay lists; mappings, named tuples, tuples (as lists) and sequences are collated part by part. TypeError
    for anything else, RuntimeError for sequences of different lengths.

    >>> from minigrad.data import default_collate
    >>> default_collate([(0, 1.0), (2, 3.0)])
    [tensor([0, 2]), tensor([1., 3.], dtype=minigrad.float64)]
    >>> default_collate([{"a": 0}, {"a": 100}])
    {'a': tensor([  0, 100])}
    """
    first = batch[0]
    if isinstance(first, Tensor):
        return stack(list(batch))
    if is_array(first):
        if first.dtype.kind not in "biuf":
            raise TypeError(_unsupported(first.dtype))
        return stack([as_tensor(item) for item in batch])
    if isinstance(first, float):
        return tensor(batch, dtype=float64)
    if isinstance(first, int):
        return tensor(batch)
    if isinstance(first, (str, bytes)):
        return batch
    if isinstance(first, Mapping):
        return _mapping(first, {key: default_collate([item[key] for item in batch]) for key in first})
    if isinstance(first, tuple) and hasattr(first, "_fields"):
        return type(first)(*[default_collate(part) for part in zip(*batch)])
    if isinstance(first, Sequence):
        if any(len(item) != len(first) for item in batch):
            raise RuntimeError("each element in list of batch should be of equal size")
        return _sequence(first, [default_collate(part) for part in zip(*batch)])
    raise TypeError(_unsupported(type(first)))


def default_convert(data):
    """The item itself with its arrays converted to tensors, also inside containers."""
    if isinstance(data, Tensor):
        return data
    if is_array(data):
        return as_tensor(data) if data.dtype.kind in "biuf" else data
    if isinstance(data, Mapping):
        return _mapping(data, {key: default_convert(data[key]) for key in data})
    if isinstance(data, tuple) and hasattr(data, "_fields"):
        return type(data)(*[default_convert(part) for part in data])
    if isinstance(data, Sequence) and not isinstance(data, (str, bytes)):
        return _sequence(data, [default_convert(part) for part in data])
    return data


def _unsupported(found):
    return f"default_collate: batch must contain tensors, numpy arrays, numbers, dicts or lists; found {found}"


def _mapping(like, parts):
    """``parts`` in a mapping of the class of ``like``, with its other attributes if it has any."""
    try:
        if isinstance(like, MutableMapping):
            made = copy.copy(like)
            made.update(parts)
            return made
        return type(like)(parts)
    except TypeError:
        return parts


def _sequence(like, parts):
    """``parts`` in a sequence of the class of ``like``; a list for a tuple, as in PyTorch."""
    if isinstance(like, tuple):
        return parts
    try:
        if isinstance(like, MutableSequence):
            made = copy.copy(like)
            for i, part in enumerate(parts):
                made[i] = part
            return made
        return type(like)(parts)
    except TypeError:
        return parts
