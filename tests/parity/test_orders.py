"""Corner cases of sorting, counting and sampling: nan, ties, numbers, empty ones, and errors."""

import pytest

import minigrad as mg

from .test_edges import test_as_pytorch as alike

EXPRESSIONS = """
    n.sort(), n.sort(descending=True), n.argsort(), n.median(), n.unique(), n.nansum(), n.nanmean(), n.nan_to_num()
    i.sort(0, True), i.sort(0), i.argsort(1), m.sort(i, stable=True, dim=-1), t(1.).sort(), t(1.).median()
    n.topk(3), n.topk(2, largest=False)[0], i.topk(1, 0)[0], t(1.).topk(1), x.topk(0)
    n.topk(7)
    x.topk(-1)
    x.sort(2)
    m.tensor([True, False, True]).sort(stable=True), i.median(), m.tensor([2, 1], dtype=m.int8).median(0)
    e.sort(0), e.unique(), m.tensor([4., 1., 3., 2.]).median()
    e.median(0)
    i.unique(return_counts=True), i.unique(dim=0), i.unique(dim=1, return_inverse=True, return_counts=True)
    i.unique(sorted=False, return_inverse=True), m.tensor([True, True]).unique()
    i.roll(1), i.roll((1, 1), (0, 1)), i.roll(0), i.roll(5, -1)
    i.roll((1, 2))
    i.roll(1, (0, 1))
    i.repeat_interleave(2), i.repeat_interleave(m.tensor([1, 2]), dim=0), i.repeat_interleave(m.tensor([2]), dim=-1)
    i.repeat_interleave(m.tensor([1, 2, 3]), dim=0)
    i.repeat_interleave(-1)
    m.meshgrid(m.tensor([1, 2]), m.tensor(3), indexing='ij'), m.meshgrid([x[1], x[0]], indexing='xy')
    m.meshgrid(m.tensor([1, 2]), x[0], indexing='ij')
    m.meshgrid(x, x, indexing='ij')
    m.meshgrid(x[0], x[0], indexing='x')
    m.tensor([1, 3, 1]).bincount(), m.bincount(m.tensor([1, 3, 1]), m.tensor([.5, 1., 2.]), 6)
    m.bincount(m.tensor([1, 1]), m.tensor([1, 2])), m.tensor([], dtype=m.int64).bincount(minlength=2)
    m.bincount(m.tensor([-1]))
    m.bincount(m.tensor([1.]))
    m.bincount(m.tensor([[1]]))
    m.bincount(m.tensor([1]), minlength=-1)
    m.bincount(m.tensor([True]))
    m.tensor([], dtype=m.int64).bincount(x[0, :0], 2), m.tensor([2, 1]).to(m.uint8).bincount(x[0, :2])
    [m.tensor([2, 1]).to(d).bincount() for d in (m.uint8, m.int8, m.int16, m.int32)][3]
    m.meshgrid(m.tensor([1, 2]).to(m.uint8), m.tensor([3]).to(m.uint8), indexing='xy')
    m.meshgrid(m.tensor([1, 2]).to(m.int16), m.tensor([3]), indexing='ij')
    m.bincount(m.tensor([1]), t([1., 2.]))
    m.nan_to_num(t([NAN, INF, -INF]), 1., 2.), m.nan_to_num(t([NAN, INF, -INF]).double()), m.nan_to_num(i)
    m.tensor([1, 2]).nansum(), t([NAN]).nansum(), t([NAN]).nanmean(), n.nansum(0, True), n.nansum(dtype=m.float64)
    m.tensor([1, 2]).nanmean()
    i.trace()
    x.trace(), m.trace(m.zeros(0, 2))
    t(1.).trace()
    m.cdist(x, x), m.cdist(x, x[:1], 1.), m.cdist(x, e), m.cdist(x, x, INF)
    m.cdist(x, x[:, :2])
    m.cdist(x[0], x)
    m.std_mean(x), m.std_mean(x, 1, keepdim=True), m.var_mean(x, dim=0, correction=0)
    m.multinomial(t([0, 1]), 3, True), t([[0, 1], [1, 0]]).multinomial(1), t([0, 0, 5]).multinomial(1)
    m.multinomial(t([1, 1]), 3)
    m.multinomial(t([-1, 1]), 1)
    m.multinomial(t([NAN, 1]), 1)
    m.multinomial(t([INF, 1]), 1)
    m.multinomial(t([0, 0]), 1)
    m.multinomial(t([1, 1]), 0)
    m.multinomial(t([[[1.]]]), 1)
    m.multinomial(m.tensor([1, 1]), 1)
    x.clone().clamp_min_(2), x.clone().clamp_max_(2.5), n.clone().nan_to_num_(), x.clone().absolute_()
    x.clone().less_(2), x.moveaxis(0, 1), x.fix()
    x.clone().multiply_(2), x.clone().subtract_(1), x.clone().divide_(2), x.clone().negative_()
    x.clone().true_divide_(2), x.clone().greater_equal_(2), x.clone().not_equal_(2), x[0].ger(x[1])
    (x.ndimension() + x.itemsize + x.is_signed() + i.to(m.uint8).is_signed()) * x
"""


@pytest.mark.parametrize("expression", [line.strip() for line in EXPRESSIONS.strip().splitlines()])
def test_orders(expression):
    names = "n=t([3., NAN, 1., 2., NAN, 1.]), i=m.tensor([[3, 1, 2], [2, 2, 1]]), x=x, e=e"
    alike(f"(lambda {names}: ({expression}))()")


def test_settings():
    mg.use_deterministic_algorithms(True)
    assert mg.are_deterministic_algorithms_enabled()
    mg.use_deterministic_algorithms(False)
    mg.set_float32_matmul_precision("high")
    assert mg.get_float32_matmul_precision() == "high"
    mg.set_float32_matmul_precision("highest")
    with pytest.raises(ValueError, match="precision"):
        mg.set_float32_matmul_precision("low")
