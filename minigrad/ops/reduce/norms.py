"""Norms."""

import math

from ..._engine import Op, filled
from ..._engine import _cast as cast
from ..._storage import float64
from .. import pointwise as p
from .._check import check_tensor
from ..direct import sum
from .extremes import amax, amin
from .folds import SQUARES, SUM
from .plan import dims_of, key_of, layout
from .sums import spread


def _dnorm(dy, x, y, axes, order):
    # x |x|^(p-2) dy / y^(p-1); 0 at x = 0 and at y = 0. The inner where keeps derivatives of the rule finite there.
    nil = p.eq(y, 0)
    safe = p.where(nil, 1.0, y)
    if order == 2:
        return x * spread(p.where(nil, 0.0, dy / safe), x.shape, axes)
    scale = p.where(nil, 0.0, dy * p.pow(safe, 1 - order))
    zero = p.eq(x, 0)
    size = p.pow(p.abs(p.where(zero, 1.0, x)), order - 1)
    return p.where(zero, 0.0, p.sign(x) * size * spread(scale, x.shape, axes))


_norm = Op("Norm", _dnorm)
_count = Op("Norm", lambda dy, shape: filled(shape, 0, dy.dtype, dy))  # flat


def norm(input, p="fro", dim=None, keepdim=False, dtype=None):
    """The p-norm of the elements over ``dim``: (sum |x|^p)^(1/p).

    ``p``: 2 or "fro" (float32 is squared in float64 and cannot overflow), 1, inf (largest magnitude), -inf (smallest),
    0 (number of elements that are not 0; flat), any other. ``dim``: an int, a tuple, or None for all elements.
    Where the norm is 0 so is the gradient.

    >>> import minigrad as mg
    >>> mg.norm(mg.tensor([3., 4.]))
    tensor(5.)
    """
    check_tensor("norm", input)
    if dtype is not None:
        input = cast(input, dtype)
    if not input.is_floating_point():
        raise RuntimeError(f"norm(): expected a floating point tensor as input, got {input.dtype!r}; pass dtype=")
    if p is None or p == "fro":
        p = 2.0
    if isinstance(p, str):
        raise RuntimeError(f"norm(): p must be a number or 'fro', got {p!r}")
    return _vector_norm(input, float(p), key_of(dim), keepdim)


def _vector_norm(input, order, dim, keepdim):
    if order == math.inf or order == -math.inf:
        if not input.numel() and (dim is None or dim == () or 0 in [input.shape[d] for d in dims_of(dim, input.ndim)]):
            raise RuntimeError(
                f"norm() cannot compute the {order} norm of nothing (shape {tuple(input.shape)}, dim {dim}) because "
                "the operation does not have an identity"
            )
        return (amax if order > 0 else amin)(p.abs(input), () if dim is None else dim, keepdim)
    if order == 1:
        return sum(p.abs(input), dim, keepdim)
    if order == 0:
        return _count.record(sum(cast(p.ne(input.detach(), 0), input.dtype), dim, keepdim), input, saved=(input.shape,))
    shape, axes, steps, _ = layout(input.shape, dim, keepdim)
    x = input.detach()
    if order == 2:
        y = cast(p.sqrt(SQUARES(x, shape, steps, float64, axes)), x.dtype)
    else:
        y = p.pow(SUM(p.pow(p.abs(x), order), shape, steps, x.dtype), 1 / order)
    return _norm.record(y, input, saved=(input, y, axes, order))
