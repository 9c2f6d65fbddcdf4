"""Variance and standard deviation."""

import math

from ..._engine import Op
from .. import pointwise as p
from .._check import check_tensor
from .._warn import warn_user
from .folds import SQUARES, SUM
from .plan import key_of, layout
from .sums import add_up, spread


def _dvar(dy, x, axes, n, divisor):
    slope = 2 / divisor if divisor > 0 else math.inf  # n - correction <= 0: the variance is nan or inf, so are slopes
    centre = x - spread(add_up(x, dy.shape, axes) / n, x.shape, axes)
    return spread(dy * slope, x.shape, axes) * centre


_var = Op("Var", _dvar)
_std = Op("Std", lambda dy, y: p.where(p.eq(y, 0), 0.0, dy / (p.where(p.eq(y, 0), 1.0, y) * 2)))


def var(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The variance over ``dim``: sum((x - mean(x))^2) / max(0, n - correction), correction = 1 by default.

    ``unbiased``: True is correction 1, False is 0; may come second, in place of ``dim``, as in PyTorch. With fewer
    than correction + 1 elements the result is nan or inf and there is a warning.

    >>> import minigrad as mg
    >>> mg.var(mg.tensor([[1., 3.], [3., 4.]]), 1)
    tensor([2.0000, 0.5000])
    """
    return _variance("var", input, dim, unbiased, keepdim, correction)


def std(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """The standard deviation over ``dim``: the root of ``var``. Where it is 0 the gradient is 0.

    >>> import minigrad as mg
    >>> mg.std(mg.tensor([1., 2., 3.]))
    tensor(1.)
    """
    v = _variance("std", input, dim, unbiased, keepdim, correction)
    y = p.sqrt(v.detach())
    return _std.record(y, v, saved=(y,))


def _variance(name, input, dim, unbiased, keepdim, correction):
    check_tensor(name, input)
    if not input.is_floating_point():
        raise RuntimeError(f"std and var only support floating point dtypes, got {input.dtype!r}; convert it")
    if isinstance(dim, bool):
        dim, unbiased = None, dim
    if unbiased is not None:
        if correction is not None:
            raise TypeError(f"{name}(): pass either unbiased or correction, not both")
        correction = 1 if unbiased else 0
    correction = 1 if correction is None else correction
    shape, axes, steps, n = layout(input.shape, key_of(dim), keepdim)
    divisor = n - correction if n > correction else 0
    if divisor == 0 and math.prod(shape):
        warn_user(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
            f"(input numel divided by output numel): correction {correction}, {n} elements."
        )
    x = input.detach()
    centre = p.sub(x, spread(p.div(SUM(x, shape, steps, x.dtype, axes), n), x.shape, axes))
    y = p.div(SQUARES(centre, shape, steps, x.dtype), divisor)
    return _var.record(y, input, saved=(input, axes, n, divisor))
