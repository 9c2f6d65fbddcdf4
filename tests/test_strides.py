"""Every operation gives on a view what it gives on a copy of it: tiles, tails, narrow rows, writes into views."""

import itertools

import numpy as np
import pytest

import minigrad as mg

# views of an array, each of which takes another way through the strided kernels
VIEWS = {
    "transposed": lambda a: a(67, 45).T,
    "transposed, wide": lambda a: a(7, 1030).T,
    "transposed, tall": lambda a: a(1030, 7).T,
    "transposed, large": lambda a: a(515, 530).T,
    "thin": lambda a: a(2, 700).T,
    "batched": lambda a: a(3, 40, 33).transpose(0, 2, 1),
    "last first": lambda a: a(3, 4, 5, 70).transpose(0, 3, 1, 2),
    "reversed": lambda a: a(9, 8, 17, 11).transpose(3, 2, 1, 0),
    "heads": lambda a: a(5, 6, 7, 33).transpose(0, 2, 1, 3),
    "every second row": lambda a: a(80, 45)[::2],
    "every second column": lambda a: a(40, 91)[:, ::2],
    "every second of many": lambda a: a(3, 9001)[:, ::2],
    "every third column": lambda a: a(40, 91)[:, ::3],
    "a corner": lambda a: a(80, 91)[3:50, 5:70],
    "a narrow corner": lambda a: a(800, 91)[:, 5:14],
    "transposed, every second": lambda a: a(91, 80)[::2, ::2].T,
    "a row for all": lambda a: np.broadcast_to(a(1, 45), (67, 45)),
    "a column for all": lambda a: np.broadcast_to(a(67, 1), (67, 45)),
    "a narrow row for all": lambda a: np.broadcast_to(a(1, 5), (900, 5)),
    "a narrow column for all": lambda a: np.broadcast_to(a(900, 1), (900, 5)),
    "one number": lambda a: np.broadcast_to(a(1, 1), (67, 45)),
    "broadcast and transposed": lambda a: np.broadcast_to(a(20, 30).T, (4, 30, 20)),
    "one dimension": lambda a: a(3001)[1::3],
    "empty": lambda a: a(40, 0).T,
}
DTYPES = ("float32", "uint8", "bool")


def maker(dtype, seed=0):
    """``a(*shape)``: an array of small numbers, so that sums and products are exact."""
    random = np.random.default_rng(seed)
    return lambda *shape: random.integers(0, 2 if dtype == "bool" else 8, shape).astype(dtype)


def tensor(view):
    """A tensor with the strides of ``view``."""
    base = view if view.base is None else view.base
    while base.base is not None and isinstance(base.base, np.ndarray):
        base = base.base
    x = mg.tensor(base)
    offset = (view.__array_interface__["data"][0] - base.__array_interface__["data"][0]) // view.itemsize
    return mg.as_strided(x, view.shape, [s // view.itemsize for s in view.strides], offset)


def same(found, wanted):
    np.testing.assert_array_equal(found.numpy(), wanted)


@pytest.mark.parametrize("name", VIEWS)
def test_views(name):
    for dtype in DTYPES if name == "transposed" else DTYPES[:1]:
        view = VIEWS[name](maker(dtype))
        x, other = tensor(view), maker(dtype, 1)(*view.shape)
        assert name == "empty" or x.stride() == tuple(s // view.itemsize for s in view.strides)
        b = mg.tensor(other)
        same(x.clone(), view)
        same(x.to(mg.float64), view.astype(np.float64))
        same(x == b, view == other)
        same(x + b, view + other)
        same(b * x, other * view)
        same(x * x, view * view)
        same(mg.where(x != 0, x, b), np.where(view != 0, view, other))
        if dtype == "bool":
            continue
        same(x - mg.tensor(other[:1]), view - other[:1])
        same(mg.tensor(other[..., :1]) - x, other[..., :1] - view)
        same(abs(x), abs(view))
        np.testing.assert_array_equal(mg.exp(x).numpy(), mg.exp(x.clone()).numpy())


@pytest.mark.parametrize(
    "name", [name for name in VIEWS if "for all" not in name and "broad" not in name and name != "one number"]
)
def test_writes_into_views(name):
    for dtype in ("float32", "uint8"):
        view = VIEWS[name](maker(dtype)).copy()
        other = maker(dtype, 1)(*view.shape)
        for write, wanted in (
            (lambda x, b: x.copy_(b), other),
            (lambda x, b: x.add_(b), view + other),
            (lambda x, b: x.mul_(x), view * view),
            (lambda x, b: x.neg_(), -view),
            (lambda x, b: x.sub_(b[:1]), view - other[:1]),
            (lambda x, b: x.fill_(3), np.full_like(view, 3)),
        ):
            x = tensor(VIEWS[name](maker(dtype)))
            around = x._base.sum().item() - x.sum().item()
            write(x, mg.tensor(other))
            np.testing.assert_array_equal(x.numpy(), wanted)
            assert x._base.sum().item() - x.sum().item() == around  # and nothing else was written


def test_both_operands_are_views():
    views = [VIEWS[name](maker("float32")) for name in ("transposed", "a row for all", "a column for all", "a corner")]
    views = [v[:40, :40] for v in views] + [np.ascontiguousarray(views[0][:40, :40])]
    for a, b in itertools.product(views, views):
        same(tensor(a) - tensor(b), a - b)


@pytest.mark.parametrize("name", VIEWS)
def test_reductions_of_views(name):
    view = VIEWS[name](maker("float32"))
    x, dims = tensor(view), range(view.ndim)
    for dim in [(d,) for d in dims] + list(itertools.combinations(dims, 2)) + [tuple(dims)]:
        for keepdim in (False, True):
            same(x.sum(dim, keepdim), view.sum(dim, keepdims=keepdim))
            if view.size:
                same(x.amax(dim, keepdim), view.max(dim, keepdims=keepdim))
        if view.size and len(dim) == 1:
            same(x.argmax(dim[0]), view.argmax(dim[0]))
            same(x.max(dim[0]).values, view.max(dim[0]))
            same(x.cumsum(dim[0]), view.cumsum(dim[0]))


GAPS = {
    "every second row": lambda a: a(80, 130)[::2],
    "every second column": lambda a: a(40, 1030)[:, ::2],
    "every third of many": lambda a: a(3, 30001)[:, ::3],
    "every second, cut into blocks": lambda a: a(70, 2600)[:, ::2],
    "a wide one": lambda a: a(18, 5000)[::2, 1:],
    "a corner": lambda a: a(300, 900)[3:, 5:700],
    "a narrow corner": lambda a: a(900, 50)[:, 5:9],
    "two gaps": lambda a: a(3, 5, 70, 80)[:, ::2, :, :39],
    "a middle": lambda a: a(50, 7, 300)[:, 1:6],
    "long rows": lambda a: a(66, 5000)[:, 1:],
    "every fifth": lambda a: a(50, 60, 70)[:, 3, ::5],
    "a row for all": lambda a: a(1, 300).expand(700, 300),
    "a column for all": lambda a: a(700, 1).expand(700, 300),
    "every second of one dimension": lambda a: a(100_001)[::2],
}


@pytest.mark.parametrize("name", GAPS)
def test_reductions_of_gaps_have_the_bits_of_a_copy(name):
    random = np.random.default_rng(0)
    x = GAPS[name](lambda *shape: mg.tensor(random.standard_normal(shape).astype(np.float32) - 0.1))
    copy = x.clone()
    assert copy.is_contiguous() and not x.is_contiguous()
    for dim in [None, *range(x.ndim)]:
        for f in (mg.sum, mg.prod, mg.argmax, mg.argmin):
            found, wanted = (np.asarray((f(v) if dim is None else f(v, dim)).numpy()) for v in (x, copy))
            assert found.tobytes() == wanted.tobytes(), (f.__name__, dim)
    for f in (mg.sum, mg.amax):
        for dim in itertools.combinations(range(x.ndim), 2):
            assert f(x, dim).numpy().tobytes() == f(copy, dim).numpy().tobytes(), (f.__name__, dim)


def test_extremes_of_gaps_find_nan_and_the_first():
    base = np.zeros((40, 5000), np.float32)
    base[3, 4400], base[5, 2], base[5, 4998] = np.nan, 7, 7
    for view, x in (
        (base[::1, ::2], mg.tensor(base)[:, ::2]),
        (base[1:], mg.tensor(base)[1:]),
        (base.T, mg.tensor(base).t()),
    ):
        for dim in (0, 1):
            same(x.argmax(dim), view.argmax(dim))
            same(x.max(dim).values, view.max(dim))
            same(x.amax(dim), view.max(dim))
        assert np.isnan(x.amax().item()) and np.isnan(x.amin().item())


def test_a_reduced_view_can_be_written_and_differentiated():
    x = mg.arange(24.0).reshape(2, 3, 4).requires_grad_()
    y = x.permute(2, 1, 0).sum(1)
    y += 1
    y[0] *= 2
    y.sum().backward()
    wanted = np.ones((2, 3, 4))
    wanted[:, :, 0] = 2
    np.testing.assert_array_equal(x.grad.numpy(), wanted)
