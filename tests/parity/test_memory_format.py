"""``memory_format``: what is accepted, and whether a copy is made; channels last is refused where PyTorch has it."""

import pytest
import torch

import minigrad as mg

from .test_edges import test_as_pytorch as alike

X = "m.arange(6.0).reshape(2, 3).t()"
EXPRESSIONS = f"""
    {X}.clone(memory_format=m.contiguous_format).is_contiguous() * x, {X}.clone(memory_format=m.preserve_format)
    m.clone({X}, memory_format=m.contiguous_format), {X}.clone(memory_format=None)
    {X}.contiguous(memory_format=m.contiguous_format).is_contiguous() * x
    {X}.contiguous(memory_format=m.preserve_format)
    {X}.contiguous(memory_format=None)
    {X}.contiguous(m.contiguous_format)
    {X}.clone(memory_format='contiguous_format')
    {X}.to(m.float64, memory_format=m.contiguous_format).is_contiguous() * x
    {X}.to(memory_format=m.contiguous_format).is_contiguous() * x, {X}.to(memory_format=m.preserve_format)
    (lambda y: (y.to(memory_format=m.preserve_format) is y) * x)({X})
    (lambda y: (y.to(memory_format=m.contiguous_format) is y) * x)({X})
    (lambda y: (y.to(memory_format=m.contiguous_format) is y) * x)(m.ones(2, 3, 4, 5).permute(0, 3, 1, 2))
    (lambda y: (y.to(memory_format=m.contiguous_format) is y) * x)(m.ones(2, 3, 4, 5).permute(3, 2, 1, 0))
    m.ones(2, 3, 4, 5).permute(0, 3, 1, 2).cpu(memory_format=m.contiguous_format).is_contiguous() * x
    (lambda y: (y.to('cpu', m.float32, memory_format=m.contiguous_format) is y) * x)(x)
    x.to(memory_format='contiguous_format')
    {X}.cpu(memory_format=m.contiguous_format).is_contiguous() * x
    m.nn.Linear(2, 3).to(memory_format=m.contiguous_format).weight.shape[0] * x
"""


@pytest.mark.parametrize("expression", [line.strip() for line in EXPRESSIONS.strip().splitlines()])
def test_formats(expression):
    alike(expression)


def test_channels_last_is_refused():
    assert [repr(m.channels_last).partition(".")[2] for m in (torch, mg)] == ["channels_last"] * 2
    x = mg.zeros(1, 2, 3, 4)
    for format in (mg.channels_last, mg.channels_last_3d):
        for call in (x.to, x.clone, x.contiguous, x.cpu):
            with pytest.raises(NotImplementedError, match="channels_last.* is not supported"):
                call(memory_format=format)
