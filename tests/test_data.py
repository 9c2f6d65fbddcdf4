"""Datasets, samplers and the DataLoader: native batches are what item by item gives, for any dataset and order."""

import copy
import math
import pickle
from collections import OrderedDict, UserDict, namedtuple

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import (
    BatchSampler,
    ConcatDataset,
    DataLoader,
    Dataset,
    IterableDataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    Subset,
    SubsetRandomSampler,
    TensorDataset,
    WeightedRandomSampler,
    default_collate,
    default_convert,
    random_split,
)

DTYPES = [mg.float32, mg.float64, mg.int64, mg.int32, mg.int16, mg.int8, mg.uint8, mg.bool_]


def rows(n, *shape, dtype=mg.float32):
    """n rows that can be told apart."""
    return mg.arange(n * math.prod(shape)).reshape(n, *shape).to(dtype)


def seed(n):
    return mg.Generator().manual_seed(n)


class Squares(Dataset):
    """A map dataset of Python numbers."""

    def __init__(self, n):
        self.n = n

    def __getitem__(self, index):
        if not 0 <= index < self.n:
            raise IndexError(index)
        return index, float(index**2)

    def __len__(self):
        return self.n


class Stream(IterableDataset):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(self.n))


class SizedStream(Stream):
    def __len__(self):
        return self.n


def test_pytorchs_import_path():
    from minigrad.utils import data

    assert data.DataLoader is DataLoader and data.TensorDataset is TensorDataset
    assert all(hasattr(data, name) for name in mg.data.__all__)


# --- datasets ---------------------------------------------------------------------------------------------------------


def test_tensor_dataset():
    x, y = rows(4, 2), rows(4, dtype=mg.int64)
    data = TensorDataset(x, y)
    assert len(data) == 4 and data.tensors == (x, y)
    a, b = data[-1]
    assert a.tolist() == [6.0, 7.0] and b.item() == 3
    a, b = data[1:3]
    assert a.tolist() == [[2.0, 3.0], [4.0, 5.0]] and b.tolist() == [1, 2]
    with pytest.raises(IndexError):
        data[4]


@pytest.mark.parametrize(
    ("tensors", "error", "message"),
    [
        ((), ValueError, "at least one tensor"),
        ((mg.zeros(3), mg.zeros(2, 2)), ValueError, r"Size mismatch between tensors: tensors\[0\] has 3 rows"),
        ((mg.zeros(3), mg.tensor(1.0)), ValueError, r"tensors\[1\] has no dimensions"),
        ((np.zeros(3),), TypeError, r"tensors\[0\] must be a Tensor, got ndarray"),
    ],
)
def test_tensor_dataset_errors(tensors, error, message):
    with pytest.raises(error, match=message):
        TensorDataset(*tensors)


def test_subset():
    data = Subset(Squares(10), [3, 5, 7])
    assert len(data) == 3 and data[1] == (5, 25.0) and data[-1] == (7, 49.0)
    assert data.__getitems__([0, 2]) == [(3, 9.0), (7, 49.0)]
    x = Subset(TensorDataset(rows(10)), [3, 5, 7])
    assert x[[0, 2]][0].tolist() == [3.0, 7.0]


def test_concat():
    data = Squares(2) + Squares(3)
    assert isinstance(data, ConcatDataset) and len(data) == 5
    assert [data[i][0] for i in range(5)] == [0, 1, 0, 1, 2] and data[-1] == (2, 4.0)
    assert data.cumulative_sizes == [2, 5]
    assert [b[0].tolist() for b in DataLoader(data, 3)] == [[0, 1, 0], [1, 2]]
    for index in (5, -6):
        with pytest.raises(IndexError):
            data[index]
    with pytest.raises(ValueError, match="should not be an empty iterable"):
        ConcatDataset([])
    with pytest.raises(ValueError, match="does not support IterableDataset"):
        ConcatDataset([Stream(3)])


@pytest.mark.parametrize(
    ("n", "lengths", "expected"),
    [
        (10, [7, 3], [7, 3]),
        (10, [0, 10], [0, 10]),
        (10, [0.7, 0.3], [7, 3]),
        (10, [0.25, 0.25, 0.25, 0.25], [3, 3, 2, 2]),
        (3, [0.5, 0.5], [2, 1]),
        (10, [1], None),
        (10, [1.0], [10]),
        (1, [1], [1]),
    ],
)
def test_random_split(n, lengths, expected):
    if expected is None:  # [1]: all of it, as a fraction
        expected = [n]
    parts = random_split(Squares(n), lengths, seed(0))
    assert [len(p) for p in parts] == expected
    assert sorted(i for p in parts for i in p.indices) == list(range(n))
    assert [p.indices for p in random_split(Squares(n), lengths, seed(0))] == [p.indices for p in parts]


def test_random_split_errors():
    with pytest.raises(ValueError, match="Sum of input lengths does not equal the length of the input dataset"):
        random_split(Squares(10), [7, 4])
    with pytest.raises(ValueError, match="Fraction at index 0 is not between 0 and 1"):
        random_split(Squares(10), [-0.5, 1.5])
    with pytest.warns(UserWarning, match="Length of split at index 1 is 0"):
        random_split(Squares(1), [0.9, 0.1])


# --- samplers ---------------------------------------------------------------------------------------------------------


def test_sequential_sampler():
    sampler = SequentialSampler(Squares(3))
    assert list(sampler) == sampler.order().tolist() == [0, 1, 2] and len(sampler) == 3


@pytest.mark.parametrize("count", [None, 1, 3, 7, 10, 25])
def test_random_sampler(count):
    sampler = RandomSampler(Squares(7), num_samples=count, generator=seed(0))
    drawn = list(sampler)
    count = count or 7
    assert len(drawn) == len(sampler) == count
    for start in range(0, count, 7):  # each round is a permutation
        part = drawn[start : start + 7]
        assert len(set(part)) == len(part) and set(part) <= set(range(7))
    assert list(RandomSampler(Squares(7), num_samples=count, generator=seed(0))) == drawn


def test_random_sampler_with_replacement():
    sampler = RandomSampler(Squares(3), replacement=True, num_samples=3000, generator=seed(0))
    counts = np.bincount(list(sampler))
    assert len(counts) == 3 and (np.abs(counts - 1000) < 150).all()


def test_subset_random_sampler():
    for indices in ([5, 6, 9], range(5, 8), mg.tensor([5, 6, 9])):
        sampler = SubsetRandomSampler(indices, seed(0))
        assert sorted(int(i) for i in sampler) == sorted(int(i) for i in indices) and len(sampler) == 3
        assert sorted(sampler.order().tolist()) == sorted(int(i) for i in indices)


@pytest.mark.parametrize("weights", [[0.1, 0.0, 0.6, 0.3], mg.tensor([1, 0, 6, 3]), np.array([2.0, 0, 12, 6])])
def test_weighted_sampler(weights):
    sampler = WeightedRandomSampler(weights, 20_000, generator=seed(0))
    share = np.bincount(list(sampler), minlength=4) / 20_000
    np.testing.assert_allclose(share, [0.1, 0, 0.6, 0.3], atol=0.015)
    assert share[1] == 0 and len(sampler) == 20_000
    first = [next(iter(WeightedRandomSampler(weights, 3, False, seed(i)))) for i in range(2000)]
    np.testing.assert_allclose(np.bincount(first, minlength=4) / 2000, [0.1, 0, 0.6, 0.3], atol=0.04)
    assert sorted(WeightedRandomSampler(weights, 3, False)) == [0, 2, 3]


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda: RandomSampler([]),
            ValueError,
            "num_samples should be a positive integer value, but got num_samples=0",
        ),
        (lambda: RandomSampler([1], num_samples=1.5), ValueError, "positive integer value, but got num_samples=1.5"),
        (lambda: RandomSampler([1], replacement=1), ValueError, "replacement should be a boolean value"),
        (lambda: WeightedRandomSampler([1], 0), ValueError, "num_samples should be a positive integer"),
        (lambda: WeightedRandomSampler([1], True), ValueError, "num_samples should be a positive integer"),
        (lambda: WeightedRandomSampler([1], 1, 0), ValueError, "replacement should be a boolean"),
        (lambda: WeightedRandomSampler([[1.0]], 1), ValueError, "weights should be a 1d sequence"),
        (lambda: list(WeightedRandomSampler([-1.0, 2.0], 1)), RuntimeError, "element < 0"),
        (lambda: list(WeightedRandomSampler([math.nan], 1)), RuntimeError, "`nan`"),
        (lambda: list(WeightedRandomSampler([math.inf], 1)), RuntimeError, "`inf`"),
        (lambda: list(WeightedRandomSampler([0.0], 1)), RuntimeError, "sum of probabilities <= 0"),
        (lambda: list(WeightedRandomSampler([0.0, 1.0], 2, False)), RuntimeError, "cannot sample 2 samples without"),
        (lambda: BatchSampler([1], 0, False), ValueError, "batch_size should be a positive integer value"),
        (lambda: BatchSampler([1], True, False), ValueError, "batch_size should be a positive integer value"),
        (lambda: BatchSampler([1], 2.0, False), ValueError, "batch_size should be a positive integer value"),
        (lambda: BatchSampler([1], 2, 1), ValueError, "drop_last should be a boolean value"),
        (lambda: list(Sampler()), NotImplementedError, "__iter__"),
        (lambda: Dataset()[0], NotImplementedError, "__getitem__"),
        (lambda: list(IterableDataset()), NotImplementedError, "__iter__"),
    ],
)
def test_sampler_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(
    ("n", "size", "drop", "expected"),
    [
        (5, 2, False, [[0, 1], [2, 3], [4]]),
        (5, 2, True, [[0, 1], [2, 3]]),
        (4, 2, False, [[0, 1], [2, 3]]),
        (1, 3, True, []),
        (0, 3, False, []),
    ],
)
def test_batch_sampler(n, size, drop, expected):
    sampler = BatchSampler(range(n), size, drop)
    assert list(sampler) == expected and len(sampler) == len(expected)


# --- DataLoader: native batches ---------------------------------------------------------------------------------------


class OneByOne(Dataset):
    """The same data without the native way."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, index):
        return self.dataset[index]

    def __len__(self):
        return len(self.dataset)


class Backwards(Sampler):
    def __init__(self, n):
        self.n = n

    def __iter__(self):
        return iter(range(-1, -self.n - 1, -1))

    def __len__(self):
        return self.n


class Odd(RandomSampler):
    """A subclass may do something else: it is asked item by item."""

    def __iter__(self):
        return iter(range(1, len(self.data_source), 2))

    def __len__(self):
        return len(self.data_source) // 2


DATASETS = {
    "plain": lambda: TensorDataset(rows(11, 3), rows(11, dtype=mg.int64)),
    "images": lambda: TensorDataset(rows(11, 2, 3, 2, dtype=mg.uint8)),
    "strided": lambda: TensorDataset(rows(3, 11).T, rows(22, 2)[::2]),
    "empty rows": lambda: TensorDataset(rows(11, 0), rows(11)),
    "subset": lambda: Subset(TensorDataset(rows(20, 2), rows(20)), [3, -1, 5, 0, 0, 19, 7, 2, 4, 4, 1]),
    "range": lambda: Subset(TensorDataset(rows(20, 2)), range(4, 15)),
    "nested": lambda: Subset(Subset(TensorDataset(rows(20, 2)), np.arange(19, 3, -1)), mg.arange(11)),
    "split": lambda: random_split(TensorDataset(rows(20, 2)), [11, 9], seed(3))[0],
    "one row": lambda: TensorDataset(rows(1, 2)),
}
ORDERS = {
    "in order": lambda d: {},
    "drop last": lambda d: {"drop_last": True},
    "shuffled": lambda d: {"shuffle": True, "generator": seed(7)},
    "shuffled, drop last": lambda d: {"shuffle": True, "generator": seed(7), "drop_last": True},
    "drawn": lambda d: {"sampler": RandomSampler(d, True, 30, seed(7))},
    "weighted": lambda d: {"sampler": WeightedRandomSampler(range(1, len(d) + 1), 20, generator=seed(7))},
    "subset": lambda d: {"sampler": SubsetRandomSampler(range(0, len(d), 2), seed(7))},
    "own sampler": lambda d: {"sampler": Backwards(len(d))},
    "subclass": lambda d: {"sampler": Odd(d)},
    "list": lambda d: {"sampler": [0, len(d) - 1, 0]},
    "sequential of another": lambda d: {"sampler": SequentialSampler(range(1))},
}


def same(a, b):
    return a.dtype == b.dtype and a.shape == b.shape and a.tolist() == b.tolist()


@pytest.mark.parametrize("size", [1, 4, 11, 50])
@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("name", DATASETS)
def test_batches_are_those_of_single_items(name, order, size):
    dataset = DATASETS[name]()
    native = DataLoader(dataset, size, **ORDERS[order](dataset))
    plain = OneByOne(dataset)
    general = DataLoader(plain, size, **ORDERS[order](plain))
    for _ in range(2):
        expected, found = list(general), list(native)
        assert len(found) == len(expected) == len(native) == len(general)
        for batch, other in zip(found, expected, strict=True):
            assert type(batch) is list and len(batch) == len(other)
            assert all(same(a, b) for a, b in zip(batch, other, strict=True))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shuffle", [False, True])
def test_dtypes(dtype, shuffle):
    x = rows(9, 2, dtype=dtype)
    (batch,) = next(iter(DataLoader(TensorDataset(x), 9, shuffle=shuffle, generator=seed(0))))
    order = mg.randperm(9, generator=seed(0)) if shuffle else mg.arange(9)
    assert same(batch, x[order])


def test_each_pass_has_its_own_order():
    data = TensorDataset(mg.arange(50))
    loader = DataLoader(data, 50, shuffle=True, generator=seed(0))
    first, second = (next(iter(loader))[0].tolist() for _ in range(2))
    assert first != second and sorted(first) == sorted(second) == list(range(50))
    loader.generator.manual_seed(0)
    assert next(iter(loader))[0].tolist() == first
    mg.manual_seed(0)
    assert next(iter(DataLoader(data, 50, shuffle=True)))[0].tolist() == first


@pytest.mark.parametrize("shuffle", [False, True])
def test_a_batch_is_a_copy(shuffle):
    x = rows(6, 2)
    for data in (TensorDataset(x), Subset(TensorDataset(x), range(2, 5))):
        for (batch,) in DataLoader(data, 4, shuffle=shuffle):
            batch.zero_()
    assert x.tolist() == rows(6, 2).tolist()


@pytest.mark.parametrize("order", ["in order", "shuffled", "own sampler"])
def test_gradients_reach_the_dataset(order):
    x = mg.arange(5.0).requires_grad_()
    data = TensorDataset(x)
    for (batch,) in DataLoader(data, 2, **ORDERS[order](data)):
        (batch * batch).sum().backward()
    assert x.grad.tolist() == [0.0, 2.0, 4.0, 6.0, 8.0]


def test_batch_sampler_argument():
    data = TensorDataset(rows(6), rows(6, 2))
    loader = DataLoader(data, batch_sampler=[[0], (5, -6, 1), np.array([2, 2])])
    assert [b[0].tolist() for b in loader] == [[0.0], [5.0, 0.0, 1.0], [2.0, 2.0]] and len(loader) == 3
    loader = DataLoader(data, batch_sampler=BatchSampler(RandomSampler(data, generator=seed(0)), 4, True))
    assert [len(b[0]) for b in loader] == [4] and len(loader) == 1 and loader.batch_size is None


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda d: DataLoader(d, sampler=[0, 6]), IndexError, r"indices\[0\] = 6 is outside a dataset of 6 items"),
        (lambda d: DataLoader(d, batch_sampler=[[1, -7]]), IndexError, r"indices\[1\] = -7 is outside a dataset of 6"),
        (lambda d: DataLoader(d, sampler=RandomSampler(range(99), generator=seed(0))), IndexError, "of 6 items"),
        (lambda d: DataLoader(Subset(d, [0, 6])), IndexError, r"Subset: indices\[1\] = 6 is outside a dataset of 6"),
        (lambda d: DataLoader(d, sampler=[0.5]), TypeError, "indices must be integers, got float64"),
        (lambda d: DataLoader(d, batch_sampler=[[[1, 2]]]), ValueError, r"flat sequence, got shape \(1, 2\)"),
    ],
)
def test_wrong_indices(make, error, message):
    with pytest.raises(error, match=message):
        list(make(TensorDataset(rows(6))))


def test_empty_dataset():
    assert list(DataLoader(TensorDataset(mg.zeros(0, 3)), 4)) == []
    assert list(DataLoader(Subset(TensorDataset(mg.zeros(3)), []), 4)) == []
    with pytest.raises(ValueError, match="num_samples should be a positive integer value, but got num_samples=0"):
        DataLoader(TensorDataset(mg.zeros(0, 3)), 4, shuffle=True)


# --- DataLoader: the general way --------------------------------------------------------------------------------------


def test_map_dataset():
    loader = DataLoader(Squares(5), batch_size=2)
    batches = list(loader)
    assert [b[0].tolist() for b in batches] == [[0, 1], [2, 3], [4]] and len(loader) == 3
    assert batches[0][0].dtype == mg.int64 and batches[0][1].dtype == mg.float64


def test_collate_fn_sees_the_items():
    data = TensorDataset(rows(3), rows(3))
    assert [len(b) for b in DataLoader(data, 2, collate_fn=lambda items: items)] == [2, 1]
    assert next(iter(DataLoader(data, 2, collate_fn=lambda items: type(items[0])))) is tuple


def test_getitems_is_used():
    class Many(Squares):
        def __getitems__(self, indices):
            return [("many", i) for i in indices]

    assert next(iter(DataLoader(Many(4), 2)))[0] == ("many", "many")


def test_subclasses_of_tensor_dataset_keep_their_items():
    class Doubled(TensorDataset):
        def __getitem__(self, index):
            return tuple(2 * t for t in super().__getitem__(index))

    assert next(iter(DataLoader(Doubled(rows(3)), 3)))[0].tolist() == [0.0, 2.0, 4.0]
    assert next(iter(DataLoader(Subset(Doubled(rows(3)), [2]), 3)))[0].tolist() == [4.0]


def test_single_items():
    loader = DataLoader(TensorDataset(rows(3, 2)), batch_size=None)
    assert [item[0].tolist() for item in loader] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]] and len(loader) == 3
    assert list(DataLoader([1, "a", np.ones(1)], batch_size=None))[2].tolist() == [1.0]


@pytest.mark.parametrize(
    ("size", "drop", "expected"),
    [
        (2, False, [[0, 1], [2, 3], [4]]),
        (2, True, [[0, 1], [2, 3]]),
        (9, False, [[0, 1, 2, 3, 4]]),
        (None, False, range(5)),
    ],
)
def test_iterable_dataset(size, drop, expected):
    loader = DataLoader(SizedStream(5), size, drop_last=drop)
    for _ in range(2):
        assert [b if size is None else b.tolist() for b in loader] == list(expected)
    assert len(loader) == len(expected)
    with pytest.raises(TypeError):
        len(DataLoader(Stream(5)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size should be a positive integer value, but got batch_size=0"),
        ({"batch_size": -1}, "batch_size should be a positive integer value, but got batch_size=-1"),
        ({"batch_size": 1.5}, "batch_size should be a positive integer value, but got batch_size=1.5"),
        ({"sampler": [0], "shuffle": True}, "sampler option is mutually exclusive with shuffle"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "batch_sampler option is mutually exclusive with batch_size"),
        ({"batch_sampler": [[0]], "shuffle": True}, "batch_sampler option is mutually exclusive"),
        ({"batch_sampler": [[0]], "sampler": [0]}, "batch_sampler option is mutually exclusive"),
        ({"batch_sampler": [[0]], "drop_last": True}, "batch_sampler option is mutually exclusive"),
        ({"batch_size": None, "drop_last": True}, "batch_size=None option disables auto-batching"),
        ({"drop_last": "no"}, "drop_last should be a boolean value, but got drop_last=no"),
        ({"num_workers": -1}, "num_workers option should be non-negative"),
        ({"num_workers": 4}, "num_workers=4: this DataLoader has no worker processes"),
        ({"timeout": -1}, "timeout option should be non-negative"),
        ({"prefetch_factor": 2}, "prefetch_factor option needs num_workers > 0"),
        ({"persistent_workers": True}, "persistent_workers option needs num_workers > 0"),
        ({"multiprocessing_context": "fork"}, "multiprocessing_context option needs num_workers > 0"),
    ],
)
def test_option_errors(options, message):
    with pytest.raises(ValueError, match=message):
        DataLoader(Squares(3), **options)


@pytest.mark.parametrize("options", [{"shuffle": True}, {"sampler": [0]}, {"batch_sampler": [[0]]}])
def test_option_errors_of_iterable_datasets(options):
    with pytest.raises(ValueError, match=f"expected unspecified {next(iter(options))} option"):
        DataLoader(Stream(3), **options)


def test_options_that_change_nothing():
    loader = DataLoader(
        TensorDataset(rows(2)),
        2,
        pin_memory=True,
        pin_memory_device="",
        timeout=1,
        worker_init_fn=print,
        in_order=False,
    )
    assert len(list(loader)) == 1
    assert DataLoader(Stream(3), shuffle=False).batch_size == 1
    for name in ("batch_size", "sampler", "batch_sampler", "drop_last", "dataset"):
        with pytest.raises(ValueError, match=f"{name} attribute should not be set after DataLoader is initialized"):
            setattr(loader, name, 3)
    loader.pin_memory = False
    assert next(iter(pickle.loads(pickle.dumps(loader))))[0].tolist() == [0.0, 1.0]
    assert len(copy.deepcopy(loader)) == 1


# --- collating --------------------------------------------------------------------------------------------------------

Point = namedtuple("Point", ["x", "y"])


class Tagged(UserDict):
    tag = None


def plain(value):
    """``value`` with tensors as (dtype, list)."""
    if isinstance(value, mg.Tensor):
        return value.dtype.name, value.tolist()
    if isinstance(value, (dict, UserDict)):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, Point):
        return Point(*map(plain, value))
    return type(value)(map(plain, value)) if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        ([1, 2], ("int64", [1, 2])),
        ([1.5, 2.5], ("float64", [1.5, 2.5])),
        ([True, False], ("bool", [True, False])),
        (["a", "b"], ["a", "b"]),
        ([b"a", b"b"], [b"a", b"b"]),
        ([mg.tensor(1.0), mg.tensor(2.0)], ("float32", [1.0, 2.0])),
        ([mg.tensor([1, 2]), mg.tensor([3, 4])], ("int64", [[1, 2], [3, 4]])),
        ([np.zeros(2, np.float32), np.ones(2, np.float32)], ("float32", [[0.0, 0.0], [1.0, 1.0]])),
        ([np.float32(1), np.float32(2)], ("float32", [1.0, 2.0])),
        ([np.int16(1), np.int16(2)], ("int16", [1, 2])),
        ([np.bool_(True)], ("bool", [True])),
        ([(1, "a"), (2, "b")], [("int64", [1, 2]), ("a", "b")]),
        ([[1, 2.0], [3, 4.0]], [("int64", [1, 3]), ("float64", [2.0, 4.0])]),
        ([{"a": 1, "b": "x"}, {"a": 2, "b": "y"}], {"a": ("int64", [1, 2]), "b": ["x", "y"]}),
        ([Point(1, 2.0), Point(3, 4.0)], Point(("int64", [1, 3]), ("float64", [2.0, 4.0]))),
        ([{"a": (1, [2])}], {"a": [("int64", [1]), [("int64", [2])]]}),
        ([range(2), range(2)], [("int64", [0, 0]), ("int64", [1, 1])]),
    ],
)
def test_collate(batch, expected):
    assert plain(default_collate(batch)) == expected


def test_collate_keeps_mapping_classes():
    a, b = Tagged(x=1), Tagged(x=2)
    a.tag = "kept"
    made = default_collate([a, b])
    assert type(made) is Tagged and made.tag == "kept" and made["x"].tolist() == [1, 2] and a["x"] == 1
    assert type(default_collate([OrderedDict(b=1, a=2)])) is OrderedDict


@pytest.mark.parametrize(
    ("batch", "error", "message"),
    [
        (
            [object()],
            TypeError,
            "batch must contain tensors, numpy arrays, numbers, dicts or lists; found <class 'object'>",
        ),
        ([None], TypeError, "found <class 'NoneType'>"),
        ([np.array(["a"])], TypeError, "found <U1"),
        ([[1, 2], [3]], RuntimeError, "each element in list of batch should be of equal size"),
        ([mg.zeros(2), mg.zeros(3)], RuntimeError, "stack expects each tensor to be equal size"),
        ([{"a": 1}, {"b": 1}], KeyError, "a"),
    ],
)
def test_collate_errors(batch, error, message):
    with pytest.raises(error, match=message):
        default_collate(batch)


@pytest.mark.parametrize(
    ("item", "expected"),
    [
        (3, 3),
        ("a", "a"),
        (np.ones(2, np.float32), ("float32", [1.0, 1.0])),
        (np.array(["a"]), np.array(["a"])),
        ((np.int64(1), "a"), [("int64", 1), "a"]),
        ([np.int64(1)], [("int64", 1)]),
        ({"a": np.zeros(1)}, {"a": ("float64", [0.0])}),
        (Point(np.int64(1), 2), Point(("int64", 1), 2)),
        (mg.ones(1), ("float32", [1.0])),
    ],
)
def test_convert(item, expected):
    assert plain(default_convert(item)) == expected
