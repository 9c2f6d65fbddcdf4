"""Samplers: in which order items are visited. The ones here draw a whole order at once (``order``), as one tensor."""

from .._engine import Tensor
from .._storage import float64
from ..creation import arange, as_tensor, from_numpy
from ..ops.shape import cat
from ..random import rand, randint, randperm


class Sampler:
    """Base of samplers: define ``__iter__()``, which yields indices, and, if it is known, ``__len__()``."""

    def __init__(self, data_source=None):
        pass

    def __iter__(self):
        raise NotImplementedError("Subclasses of Sampler should implement __iter__.")


def _check_count(num_samples):
    if not isinstance(num_samples, int) or isinstance(num_samples, bool) or num_samples <= 0:
        raise ValueError(f"num_samples should be a positive integer value, but got num_samples={num_samples}")


def _check_replacement(replacement):
    if not isinstance(replacement, bool):
        raise ValueError(f"replacement should be a boolean value, but got replacement={replacement}")


class SequentialSampler(Sampler):
    """0, 1, ..., len(data_source) - 1."""

    def __init__(self, data_source):
        self.data_source = data_source

    def order(self):
        """The indices of one pass, an int64 tensor."""
        return arange(len(self.data_source))

    def __iter__(self):
        return iter(range(len(self.data_source)))

    def __len__(self):
        return len(self.data_source)


class RandomSampler(Sampler):
    """A new random order in each pass; with ``replacement``, ``num_samples`` independent draws.

    >>> from minigrad.data import RandomSampler
    >>> sorted(RandomSampler(range(4)))
    [0, 1, 2, 3]
    """

    def __init__(self, data_source, replacement=False, num_samples=None, generator=None):
        _check_replacement(replacement)
        self.data_source, self.replacement, self.generator = data_source, replacement, generator
        self._num_samples = num_samples
        _check_count(self.num_samples)

    @property
    def num_samples(self):
        """How many indices a pass has; the length of the data, which may change, unless it was given."""
        return len(self.data_source) if self._num_samples is None else self._num_samples

    def order(self):
        """The indices of one pass, an int64 tensor."""
        n, count = len(self.data_source), self.num_samples
        if self.replacement:
            return randint(n, (count,), generator=self.generator, device="cpu")
        if count == n:
            return randperm(n, generator=self.generator, device="cpu")
        rounds = [randperm(n, generator=self.generator, device="cpu") for _ in range(-(-count // n))]
        return cat(rounds)[:count].clone()

    def __iter__(self):
        return iter(self.order().tolist())

    def __len__(self):
        return self.num_samples


class SubsetRandomSampler(Sampler):
    """``indices`` in a new random order in each pass."""

    def __init__(self, indices, generator=None):
        self.indices, self.generator = indices, generator

    def order(self):
        """The indices of one pass, an int64 tensor."""
        indices = self.indices if isinstance(self.indices, Tensor) else as_tensor(list(self.indices), device="cpu")
        return indices.long()[randperm(len(indices), generator=self.generator, device="cpu")]

    def __iter__(self):
        return (self.indices[i] for i in randperm(len(self.indices), generator=self.generator).tolist())

    def __len__(self):
        return len(self.indices)


class WeightedRandomSampler(Sampler):
    """``num_samples`` indices in each pass, drawn with probabilities proportional to ``weights``.

    Without ``replacement`` no index is drawn twice. RuntimeError if weights are negative, infinite, all 0, or too few.

    >>> from minigrad.data import WeightedRandomSampler
    >>> list(WeightedRandomSampler([0.0, 1.0], 3))
    [1, 1, 1]
    """

    def __init__(self, weights, num_samples, replacement=True, generator=None):
        _check_count(num_samples)
        _check_replacement(replacement)
        self.weights = as_tensor(weights, dtype=float64, device="cpu").detach()
        if self.weights.ndim != 1:
            raise ValueError(
                f"weights should be a 1d sequence but given weights have shape {tuple(self.weights.shape)}"
            )
        self.num_samples, self.replacement, self.generator = num_samples, replacement, generator

    def order(self):
        """The indices of one pass, an int64 tensor."""
        import numpy as np

        w, count = self.weights.numpy(), self.num_samples
        possible = np.flatnonzero(w)
        if not np.isfinite(w).all() or (w < 0).any():
            raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
        if not possible.size:
            raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
        if self.replacement:
            total = np.cumsum(w[possible])
            u = rand(count, generator=self.generator, dtype=float64, device="cpu").numpy() * total[-1]
            drawn = np.minimum(np.searchsorted(total, u, side="right"), possible.size - 1)
        else:
            if count > possible.size:
                raise RuntimeError(
                    f"cannot sample {count} samples without replacement from {possible.size} of weight above 0"
                )
            # an exponential race: the index with the smallest E / w comes first (Efraimidis and Spirakis 2006)
            u = rand(possible.size, generator=self.generator, dtype=float64, device="cpu").numpy()
            drawn = np.argsort(-np.log1p(-u) / w[possible], kind="stable")[:count]
        return from_numpy(possible[drawn].astype(np.int64))

    def __iter__(self):
        return iter(self.order().tolist())

    def __len__(self):
        return self.num_samples


class BatchSampler(Sampler):
    """Lists of ``batch_size`` indices of ``sampler``; the last may be shorter, or is dropped with ``drop_last``.

    >>> from minigrad.data import BatchSampler
    >>> list(BatchSampler(range(5), batch_size=2, drop_last=False))
    [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler, batch_size, drop_last):
        if not isinstance(batch_size, int) or isinstance(batch_size, bool) or batch_size <= 0:
            raise ValueError(f"batch_size should be a positive integer value, but got batch_size={batch_size}")
        if not isinstance(drop_last, bool):
            raise ValueError(f"drop_last should be a boolean value, but got drop_last={drop_last}")
        self.sampler, self.batch_size, self.drop_last = sampler, batch_size, drop_last

    def __iter__(self):
        batch = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch

    def __len__(self):
        n = len(self.sampler)
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)
