"""Corner cases of reductions and products: PyTorch's values, dtypes, gradients and kinds of errors."""

import math
import warnings

import numpy as np
import pytest
import torch

import minigrad as mg

INF, NAN = math.inf, math.nan
_NAMES = {"torch": torch, "minigrad": mg}

# t(values): float32; e: an empty (0, 3); g(f, values): the gradient of sum(f(x)) in float64
EXPRESSIONS = """
    x.sum(()), x.mean(()), x.amax(()), x.all(dim=()), x.any(()), x.var(()), x.norm(2, ())
    x.sum(2)
    x.sum((0, 0))
    x.sum(1.0)
    x.sum('a')
    x.sum([0, 1]), x.sum(dim=1, keepdim=True), x.sum(1, True), x.sum(dtype=m.float64)
    t(1.).sum(0), t(1.).sum(-1), t(1.).sum((0,))
    t(1.).sum(1)
    e.sum(), e.sum(0), e.sum(1), e.prod(0), e.mean(), e.mean(0), e.mean(1), e.norm(), e.norm(0), e.norm(1, 0)
    e.max()
    e.min()
    e.amax()
    e.max(0)
    e.amin(0)
    e.max(1), e.amax(1), e.argmax(1)
    e.argmax()
    e.argmin(0)
    e.logsumexp(0), e.logsumexp(1), e.softmax(0), e.log_softmax(1), e.cumsum(0), e.all(), e.any(0), e.all(1)
    e.norm(INF)
    e.norm(-INF)
    e.norm(INF, 0)
    e.norm(INF, 1)
    m.tensor([1, 2]).norm()
    m.tensor([1, 2]).mean()
    m.tensor([1, 2]).softmax(0)
    m.tensor([1, 2]).log_softmax(0)
    m.tensor([1, 2]).var()
    m.tensor([1, 2]).std()
    m.tensor([1, 2]).logsumexp(0), m.tensor([1, 2]).mean(dtype=m.float64), m.tensor([1, 2]).softmax(0, dtype=m.float32)
    m.tensor([True, False]).sum(), m.tensor([True]).prod(), m.tensor([True, False]).max(), m.tensor([True]).max(0)
    m.tensor([True]).argmax()
    m.tensor([True, True]).cumsum(0), m.tensor([True, False]).all(), m.tensor([True, False]).any()
    m.tensor([1, 0], dtype=m.uint8).all(), m.tensor([1], dtype=m.uint8).any(0), m.tensor([1], dtype=m.uint8).sum()
    m.tensor([1, 2], dtype=m.int8).sum(), m.tensor([1, 2], dtype=m.int16).cumprod(0)
    m.tensor([3, 1], dtype=m.int32).max(), m.tensor([3, 1], dtype=m.int32).min(0)
    m.tensor([100, 100], dtype=m.int8).sum(dtype=m.int8), m.tensor([-1, 1]).sum(dtype=m.bool)
    x.sum(dtype=m.int64), x.prod(dtype=m.int32), x.cumsum(0, dtype=m.int8), m.tensor([1, 2]).prod(dtype=m.float32)
    t([1.]).var(), t([1.]).std(), t([1.]).std(correction=2), t([1., 2.]).var(correction=3), m.ones(3, 0).var(1)
    x.var(False), x.var(0, False), x.var(0, True), x.std(unbiased=False), x.var((0, 1), correction=0, keepdim=True)
    x.max(0, True), x.max(m.ones(3)), m.max(x, other=m.ones(3)), m.min(x, m.ones(3)), x.argmax(keepdim=True)
    x.softmax(5)
    t(3.).softmax(0), t(3.).cumsum(0), t(3.).logsumexp(0), t(3.).argmax(), t(3.).max(0), t(3.).norm()
    x.norm(3.), x.norm(0), x.norm(2, (0, 1)), x.norm('fro', (0,)), x.norm(dtype=m.float64), x.norm(0, 1), x.norm(-1)
    x.norm('bad')
    t([INF, 0]).softmax(0), t([-INF, -INF]).softmax(0), t([-INF, 0]).softmax(0), t([NAN, 0]).softmax(0)
    t([INF, 0]).log_softmax(0), t([-INF, -INF]).log_softmax(0), t([-INF, 0]).log_softmax(0)
    t([-INF, -INF]).logsumexp(0), t([INF, 0]).logsumexp(0), t([INF, -INF]).logsumexp(0), t([NAN, INF]).logsumexp(0)
    t([1, NAN, 3, NAN]).max(0), t([1, NAN, 3]).min(0), t([1, NAN]).amin(), t([1, NAN]).argmin(), t([NAN, 1]).all()
    t([INF, -INF]).sum(), t([INF, -INF]).mean(), t([0., INF]).prod(), t([INF, 1.]).cumsum(0), t([INF, 1]).norm()
    g(lambda x: x.logsumexp(0), [-INF, -INF]), g(lambda x: x.logsumexp(0), [INF, 0])
    g(lambda x: x.softmax(0), [-INF, 0])
    g(lambda x: x.max(), [1, 3, 3]), g(lambda x: x.amax(), [1, 3, 3]), g(lambda x: x.amin(0), [1, 1, 3])
    g(lambda x: x.max(0)[0], [1, 3, 3]), g(lambda x: x.min(0)[0], [1, 1, 3]), g(lambda x: x.max(), [1, NAN, NAN])
    g(lambda x: x.std(), [1, 1]), g(lambda x: x.var(), [1]), g(lambda x: x.std(), [1]), g(lambda x: x.std(0), [1, 2])
    g(lambda x: x.norm(), [0, 0]), g(lambda x: x.norm(3), [0, 1]), g(lambda x: x.norm(.5), [0, 1])
    g(lambda x: x.norm(3), [0, 0])
    g(lambda x: x.norm(1), [0, 1]), g(lambda x: x.norm(INF), [1, -1]), g(lambda x: x.norm(-INF), [1, -1])
    g(lambda x: x.norm(INF), [0, 0]), g(lambda x: x.norm(1.5), [0, 0])
    g(lambda x: x.norm(), [NAN, 0]), g(lambda x: x.norm(), [INF, 0])
    g(lambda x: x.prod(), [0, 2, 3]), g(lambda x: x.prod(), [0, 2, 0]), g(lambda x: x.prod(0), [4, 2, 3])
    g(lambda x: x.cumprod(0), [0, 2, 0, 3]), g(lambda x: x.cumprod(0), [2, 0, 3]), g(lambda x: x.cumprod(0), [2, 4, 3])
    m.count_nonzero(x), m.count_nonzero(x, 0), m.count_nonzero(x, (0, 1))
    m.ones(2, 3) @ m.ones(2, 3)
    m.ones(3) @ m.ones(4)
    m.ones(2, 3) @ m.ones(4)
    m.ones(3) @ m.ones(4, 2)
    m.ones(3) @ m.ones(5, 4, 2)
    m.ones(2, 2, 3) @ m.ones(2, 4, 3)
    m.ones(2, 2, 3) @ m.ones(4, 3)
    m.ones(2, 2, 3) @ m.ones(3, 3, 3)
    m.ones(2, 2, 3) @ m.ones(4)
    t(1.) @ m.ones(4)
    m.ones(2, 3) @ m.ones(3, 2).double()
    m.ones(3) @ m.ones(3).double()
    m.ones(2, 2, 3) @ m.ones(2, 3, 3).double()
    m.ones(2, 2).bool() @ m.ones(2, 2).bool()
    m.ones(2, 2) @ 3
    m.ones(2, 2).mm(m.ones(2))
    m.ones(2).mm(m.ones(2, 2))
    m.bmm(m.ones(2, 2), m.ones(2, 2))
    m.bmm(m.ones(1, 2, 2), m.ones(2, 2, 2))
    m.mv(m.ones(2), m.ones(2))
    m.mv(m.ones(2, 2), m.ones(3))
    m.dot(m.ones(2, 2), m.ones(2))
    m.outer(m.ones(2, 2), m.ones(2))
    m.outer(m.ones(2), m.tensor([1, 2]))
    m.addmm(m.ones(3), m.ones(2, 2), m.ones(2, 2))
    m.addmm(m.ones(2) * NAN, m.ones(2, 2), m.ones(2, 2), beta=0), m.addmm(t(1.), m.ones(2, 2), m.ones(2, 2))
    m.ones(200).to(m.int8) @ m.ones(200).to(m.int8), m.ones(2, 2).long() @ m.ones(2, 2).long()
    m.ones(2, 0) @ m.ones(0, 3)
    m.sum([1, 2])
    m.max(x, 1.5)
"""


def describe(name, expression):
    """What an expression gives in one library: dtypes, shapes and values, or the kind of error."""
    m = _NAMES[name]

    def gradient(f, values):
        x = m.tensor(values, dtype=m.float64, requires_grad=True)
        f(x).sum().backward()
        return x.grad

    scope = {"m": m, "INF": INF, "NAN": NAN, "g": gradient, "t": lambda values: m.tensor(values, dtype=m.float32)}
    scope.update(x=m.arange(6.0).reshape(2, 3), e=m.zeros(0, 3))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result = eval(expression, scope)
        except Exception as error:
            return type(error)
    results = list(result) if type(result) is tuple else [result]
    flat = [y for r in results for y in (list(r) if isinstance(r, tuple) else [r])]
    return [(str(y.dtype).partition(".")[2], tuple(y.shape), y.detach().numpy()) for y in flat]


@pytest.mark.parametrize("expression", [line.strip() for line in EXPRESSIONS.strip().splitlines()])
def test_as_pytorch(expression):
    ours, theirs = describe("minigrad", expression), describe("torch", expression)
    if isinstance(theirs, type):
        assert ours is theirs
        return
    assert not isinstance(ours, type), ours
    assert [d[:2] for d in ours] == [d[:2] for d in theirs]
    for found, expected in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(found[2], expected[2], 2e-7, 1e-7)
