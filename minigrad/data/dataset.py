"""Datasets: anything with ``__getitem__`` and ``__len__``, and the ways to cut and join them."""

import bisect
import math
import warnings
from itertools import accumulate

from .._engine import Tensor
from ..random import randperm


class Dataset:
    """Base of map datasets: define ``__getitem__(index)`` and ``__len__()``."""

    def __getitem__(self, index):
        raise NotImplementedError("Subclasses of Dataset should implement __getitem__.")

    def __add__(self, other):
        return ConcatDataset([self, other])


class IterableDataset(Dataset):
    """Base of datasets that are only iterated over, such as streams: define ``__iter__()``."""

    def __iter__(self):
        raise NotImplementedError("Subclasses of IterableDataset should implement __iter__.")


class TensorDataset(Dataset):
    """Rows of tensors of equal length: item i is ``(tensors[0][i], tensors[1][i], ...)``.

    A ``DataLoader`` gathers whole batches of it natively. ValueError if the tensors differ in their first dimension.

    >>> import minigrad as mg
    >>> from minigrad.data import TensorDataset
    >>> data = TensorDataset(mg.tensor([[1.0], [2.0]]), mg.tensor([0, 1]))
    >>> data[1]
    (tensor([2.]), tensor(1))
    """

    def __init__(self, *tensors):
        if not tensors:
            raise ValueError("TensorDataset: expected at least one tensor")
        for i, tensor in enumerate(tensors):
            if not isinstance(tensor, Tensor):
                raise TypeError(
                    f"TensorDataset: tensors[{i}] must be a Tensor, got {type(tensor).__name__}; "
                    "convert it with minigrad.as_tensor"
                )
            if tensor.ndim == 0:
                raise ValueError(f"TensorDataset: tensors[{i}] has no dimensions, so it has no rows")
            if len(tensor) != len(tensors[0]):
                raise ValueError(
                    f"Size mismatch between tensors: tensors[0] has {len(tensors[0])} rows (shape "
                    f"{tuple(tensors[0].shape)}), tensors[{i}] has {len(tensor)} (shape {tuple(tensor.shape)})"
                )
        self.tensors = tensors

    def __getitem__(self, index):
        return tuple([tensor[index] for tensor in self.tensors])

    def __len__(self):
        return len(self.tensors[0])


class Subset(Dataset):
    """The items of ``dataset`` at ``indices``.

    >>> from minigrad.data import Subset
    >>> list(Subset("abcd", [3, 0]))
    ['d', 'a']
    """

    def __init__(self, dataset, indices):
        self.dataset, self.indices = dataset, indices

    def __getitem__(self, index):
        if isinstance(index, (list, tuple)):
            return self.dataset[[self.indices[i] for i in index]]
        return self.dataset[self.indices[index]]

    def __getitems__(self, indices):
        indices = [self.indices[i] for i in indices]
        many = getattr(self.dataset, "__getitems__", None)
        return many(indices) if callable(many) else [self.dataset[i] for i in indices]

    def __len__(self):
        return len(self.indices)


class ConcatDataset(Dataset):
    """Several map datasets, one after the other.

    >>> from minigrad.data import ConcatDataset
    >>> joined = ConcatDataset(["ab", "cd"])
    >>> joined[2], joined[-1], len(joined)
    ('c', 'd', 4)
    """

    def __init__(self, datasets):
        self.datasets = list(datasets)
        if not self.datasets:
            raise ValueError("ConcatDataset: datasets should not be an empty iterable")
        if any(isinstance(d, IterableDataset) for d in self.datasets):
            raise ValueError("ConcatDataset does not support IterableDataset")
        self.cumulative_sizes = list(accumulate(len(d) for d in self.datasets))

    def __getitem__(self, index):
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} is outside a dataset of {len(self)} items")
        index %= len(self)
        which = bisect.bisect_right(self.cumulative_sizes, index)
        return self.datasets[which][index - (self.cumulative_sizes[which - 1] if which else 0)]

    def __len__(self):
        return self.cumulative_sizes[-1]


def random_split(dataset, lengths, generator=None):
    """Random, disjoint Subsets of the given ``lengths``, or of the given fractions if they add up to 1.

    Items that fractions leave over go to the subsets in turn. ValueError if lengths do not add up to the dataset's.

    >>> from minigrad.data import random_split
    >>> [len(part) for part in random_split(range(10), [0.75, 0.25])]
    [8, 2]
    """
    lengths, total = list(lengths), len(dataset)
    if math.isclose(sum(lengths), 1) and sum(lengths) <= 1:
        for i, fraction in enumerate(lengths):
            if not 0 <= fraction <= 1:
                raise ValueError(f"Fraction at index {i} is not between 0 and 1: {fraction}")
        lengths = [math.floor(total * fraction) for fraction in lengths]
        for i in range(total - sum(lengths)):
            lengths[i % len(lengths)] += 1
        for i, length in enumerate(lengths):
            if length == 0:
                warnings.warn(
                    f"Length of split at index {i} is 0. This might result in an empty dataset.", stacklevel=2
                )
    if sum(lengths) != total:
        raise ValueError(
            f"Sum of input lengths does not equal the length of the input dataset! {sum(lengths)} for {total} items"
        )
    order = randperm(total, generator=generator, device="cpu").tolist()
    ends = list(accumulate(lengths))
    return [Subset(dataset, order[end - length : end]) for end, length in zip(ends, lengths)]
