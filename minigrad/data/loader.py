"""DataLoader: batches of a dataset. Rows of a TensorDataset are gathered natively, a whole batch at a time.

DESIGN
a. A TensorDataset, or a Subset of one, needs no Python a sample: an epoch's order is drawn as one tensor, and a batch
   is one kernel call a tensor over a part of that order; rows that lie in order are one block copied. A batch is always
   a copy, as in PyTorch: to normalise it in place must not change the dataset.
b. Everything else goes the general way: index, fetch items, collate.
"""

from itertools import islice

from .._engine import Kernel, Tensor, empty, move, view
from ..creation import as_tensor
from ..device import start as start_gpus
from .collate import default_collate, default_convert
from .dataset import IterableDataset, Subset, TensorDataset
from .sampler import BatchSampler, RandomSampler, SequentialSampler, SubsetRandomSampler, WeightedRandomSampler

_K_TAKE = Kernel("index.take", 0.5)
_FIXED = ("batch_size", "batch_sampler", "sampler", "drop_last", "dataset", "persistent_workers")


class DataLoader:
    """Batches of ``dataset``, in order or shuffled anew in each pass; ``for x, y in DataLoader(...)``.

    A batch of a ``TensorDataset`` is a list of tensors with ``batch_size`` rows, copied, so that it may be changed
    in place. Other datasets are indexed item by item and collated (``collate_fn``, default ``default_collate``).
    ``batch_size=None`` yields single items.

    ``shuffle`` draws from ``generator``, or from the default one. ``sampler`` and ``batch_sampler`` decide the order
    instead. ``num_workers`` must be 0: batches are gathered natively. ``pin_memory``: where there is a GPU, tensors of
    the CPU in batches are copied to page-locked memory (``Tensor.pin_memory``). ``pin_memory_device``,
    ``worker_init_fn``, ``timeout`` and ``in_order`` are accepted and change nothing.

    >>> import minigrad as mg
    >>> from minigrad.data import DataLoader, TensorDataset
    >>> data = TensorDataset(mg.arange(5), mg.arange(5) * 10)
    >>> for x, y in DataLoader(data, batch_size=2):
    ...     print(x, y)
    tensor([0, 1]) tensor([ 0, 10])
    tensor([2, 3]) tensor([20, 30])
    tensor([4]) tensor([40])
    """

    def __init__(
        self, dataset, batch_size=1, shuffle=None, sampler=None, batch_sampler=None, num_workers=0, collate_fn=None,
        pin_memory=False, drop_last=False, timeout=0, worker_init_fn=None, multiprocessing_context=None,
        generator=None, *, prefetch_factor=None, persistent_workers=False, pin_memory_device="", in_order=True,
    ):  # fmt: skip
        _check_workers(num_workers, timeout, prefetch_factor, persistent_workers, multiprocessing_context)
        self._iterable = isinstance(dataset, IterableDataset)
        if self._iterable:
            for name, value in (("shuffle", shuffle or None), ("sampler", sampler), ("batch_sampler", batch_sampler)):
                if value is not None:
                    raise ValueError(
                        f"DataLoader with IterableDataset: expected unspecified {name} option, but got {name}={value}"
                    )
        if sampler is not None and shuffle:
            raise ValueError("sampler option is mutually exclusive with shuffle")
        if batch_sampler is not None:
            if batch_size != 1 or shuffle or sampler is not None or drop_last:
                raise ValueError(
                    "batch_sampler option is mutually exclusive with batch_size, shuffle, sampler, and drop_last"
                )
            batch_size, drop_last = None, False
        elif batch_size is None and drop_last:
            raise ValueError("batch_size=None option disables auto-batching and is mutually exclusive with drop_last")
        if sampler is None and not self._iterable and batch_sampler is None:
            sampler = RandomSampler(dataset, generator=generator) if shuffle else SequentialSampler(dataset)
        if batch_size is not None and batch_sampler is None:
            batch_sampler = BatchSampler(sampler, batch_size, drop_last)
        self._native = collate_fn is None and batch_sampler is not None and _is_tensors(dataset)
        self.dataset, self.sampler, self.batch_sampler = dataset, sampler, batch_sampler
        self.batch_size, self.drop_last, self.generator = batch_size, drop_last, generator
        self.num_workers, self.timeout, self.worker_init_fn = num_workers, timeout, worker_init_fn
        self.pin_memory, self.pin_memory_device = pin_memory, pin_memory_device
        self.prefetch_factor, self.persistent_workers, self.in_order = prefetch_factor, persistent_workers, in_order
        self.multiprocessing_context = multiprocessing_context
        self.collate_fn = collate_fn or (default_convert if batch_sampler is None else default_collate)
        self._ready = True

    def __setattr__(self, name, value):
        if name in _FIXED and "_ready" in self.__dict__:
            raise ValueError(f"{name} attribute should not be set after {type(self).__name__} is initialized")
        object.__setattr__(self, name, value)

    def __iter__(self):
        batches = self._batches()
        return map(_pinned, batches) if self.pin_memory and _has_gpu() else batches

    def _batches(self):
        if self._iterable:
            return self._stream()
        if self.batch_sampler is None:
            return (self.collate_fn(self.dataset[index]) for index in self.sampler)
        if self._native:
            return _gathered(self.dataset, self.batch_sampler)
        return self._collated()

    def __len__(self):
        """The number of batches (of items, if ``batch_size`` is None)."""
        if not self._iterable:
            return len(self.sampler if self.batch_sampler is None else self.batch_sampler)
        n = len(self.dataset)
        if self.batch_size is None:
            return n
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def _stream(self):
        items = iter(self.dataset)
        if self.batch_size is None:
            yield from map(self.collate_fn, items)
            return
        while batch := list(islice(items, self.batch_size)):
            if len(batch) == self.batch_size or not self.drop_last:
                yield self.collate_fn(batch)

    def _collated(self):
        dataset, collate = self.dataset, self.collate_fn
        many = getattr(dataset, "__getitems__", None)
        for indices in self.batch_sampler:
            yield collate(many(indices) if callable(many) else [dataset[i] for i in indices])


def _check_workers(num_workers, timeout, prefetch_factor, persistent_workers, context):
    if num_workers < 0:
        raise ValueError("num_workers option should be non-negative; use num_workers=0 to disable multiprocessing.")
    if num_workers > 0:
        raise ValueError(
            f"num_workers={num_workers}: this DataLoader has no worker processes. Batches of a TensorDataset are "
            "gathered natively, faster than workers could hand them over; use num_workers=0"
        )
    if timeout < 0:
        raise ValueError("timeout option should be non-negative")
    for name, value in (("prefetch_factor", prefetch_factor), ("multiprocessing_context", context)):
        if value is not None:
            raise ValueError(f"{name} option needs num_workers > 0, which this DataLoader does not have; leave it None")
    if persistent_workers:
        raise ValueError("persistent_workers option needs num_workers > 0")


def _has_gpu():
    try:
        return start_gpus() > 0
    except RuntimeError:
        return False


def _pinned(batch):
    """``batch`` with its tensors, also inside containers, in page-locked memory."""
    if isinstance(batch, Tensor):
        return batch if batch._device >= 0 else batch.pin_memory()
    if isinstance(batch, dict):
        return {key: _pinned(value) for key, value in batch.items()}
    if isinstance(batch, tuple) and hasattr(batch, "_fields"):
        return type(batch)(*map(_pinned, batch))
    if isinstance(batch, (list, tuple)):
        return type(batch)(map(_pinned, batch))
    return batch.pin_memory() if hasattr(batch, "pin_memory") else batch


# --- batches of tensors -----------------------------------------------------------------------------------------------


def _is_tensors(dataset):
    """Whether ``dataset`` is a TensorDataset, or Subsets of one; classes that may index differently are not."""
    while type(dataset) is Subset:
        dataset = dataset.dataset
    return type(dataset) is TensorDataset


def _rows(dataset):
    """The tensors below ``dataset``, and which of their rows it shows: an int64 tensor, or None for all in order."""
    if type(dataset) is TensorDataset:
        return dataset.tensors, None
    tensors, below = _rows(dataset.dataset)
    count = len(tensors[0]) if below is None else len(below)
    rows = _index(dataset.indices, count, "Subset: indices")
    return tensors, _pick(below, rows)


def _index(indices, count, name):
    """``indices`` as a non-negative int64 tensor; IndexError for one outside [-count, count)."""
    import numpy as np

    if isinstance(indices, Tensor):
        indices = move(indices, None)
    a = np.asarray(indices if hasattr(indices, "__array__") else list(indices))
    if a.size and a.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers, got {a.dtype}")
    if a.ndim != 1:
        raise ValueError(f"{name} must be a flat sequence, got shape {a.shape}")
    a = a.astype(np.int64, copy=False)
    wrong = (a < -count) | (a >= count)
    if wrong.any():
        i = int(wrong.argmax())
        raise IndexError(f"{name}[{i}] = {a[i]} is outside a dataset of {count} items")
    return as_tensor(np.ascontiguousarray(np.where(a < 0, a + count, a)), device="cpu")


def _gatherer(x, order):
    """A function (start, n) -> rows order[start : start + n] of x."""
    if x.requires_grad:  # recorded
        return lambda start, n: x[order[start : start + n]]
    x, order = x.contiguous(), move(order, x)
    length, rest, dtype = len(x), tuple(x.shape[1:]), x.dtype
    inner = x.numel() // length if length else 0

    def take(start, n):
        y = empty((n, *rest), dtype, x)
        _K_TAKE((y,), (x, view(order, (n,), (1,), start)), (n, length, inner), (), n, n * inner)
        return y

    return take


def _slicer(x, first):
    """A function (start, n) -> a copy of n rows of x from row first + start on."""
    if x.requires_grad:
        return lambda start, n: x[first + start : first + start + n].clone()
    rest, strides = tuple(x.shape[1:]), x.stride()
    return lambda start, n: view(x, (n, *rest), strides, (first + start) * strides[0]).clone()


def _pick(x, index):
    """``x[index]``; x itself if ``index`` is None, ``index`` if x is None: None stands for 0, 1, 2, ..."""
    return index if x is None else x if index is None else _gatherer(x, index)(0, len(index))


def _start(order):
    """The first index if ``order`` counts up by one, else None."""
    import numpy as np

    a = order.numpy()
    return int(a[0]) if a.size and (a == np.arange(a[0], a[0] + a.size)).all() else None


_WHOLE = (SequentialSampler, RandomSampler, SubsetRandomSampler, WeightedRandomSampler)  # they know an epoch's order


def _gathered(dataset, batch_sampler):
    """The batches of a TensorDataset or of Subsets of one."""
    tensors, rows = _rows(dataset)
    sampler = batch_sampler.sampler if type(batch_sampler) is BatchSampler else None
    if type(sampler) not in _WHOLE:
        for indices in batch_sampler:
            indices = _pick(rows, _index(indices, len(dataset), "indices"))
            yield [_gatherer(x, indices)(0, len(indices)) for x in tensors]
        return
    order = _pick(rows, _index(sampler.order(), len(dataset), "indices"))
    first = _start(order)
    rows_of = [_gatherer(x, order) if first is None else _slicer(x, first) for x in tensors]
    size, total = batch_sampler.batch_size, len(order)
    for start in range(0, total - size + 1, size):
        yield [take(start, size) for take in rows_of]
    rest = total % size
    if rest and not batch_sampler.drop_last:
        yield [take(total - rest, rest) for take in rows_of]
