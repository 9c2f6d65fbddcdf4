"""Products; their gradients are exact with zeros."""

import math

from ..._engine import Op, filled
from ..._engine import _cast as cast
from ..._storage import bool_, int64
from .._check import check_tensor
from ..shape import cat, narrow, permute, reshape, select, stack
from .folds import PROD
from .plan import key_of, layout
from .sums import spread
from .truth import all

_prod = Op("Prod", lambda dy, x, axes: spread(dy, x.shape, axes) * _others(x, axes))


def prod(input, dim=None, keepdim=False, *, dtype=None):
    """The product over ``dim`` (an int, or None for all dimensions); of nothing it is 1. Integers as in ``sum``.

    The gradient multiplies all other elements and is exact when some of them are zero.

    >>> import minigrad as mg
    >>> mg.prod(mg.tensor([[1., 2.], [3., 4.]]), 1)
    tensor([ 2., 12.])
    """
    check_tensor("prod", input)
    if dtype is not None:
        input = cast(input, dtype)
        if input.dtype is bool_:
            return all(input, dim, keepdim)
    shape, axes, steps, _ = layout(input.shape, key_of(dim), keepdim)
    y = PROD(input, shape, steps, input.dtype if dtype is not None or input.is_floating_point() else int64, axes)
    return _prod.record(y, input, saved=(input, axes))


def _others(x, axes):
    """For each element of x the product of all the others that are reduced with it.

    A tree: products of pairs upwards, then downwards each child gets its parent's others times its sibling. No
    division, hence exact with zeros; made of differentiable operations; about five passes over x in all.
    """
    kept = [d for d, a in enumerate(axes) if a >= 0]
    order = kept + [d for d, a in enumerate(axes) if a < 0]
    rows = permute(x, order)
    moved = tuple(rows.shape)
    lead = moved[: len(kept)]
    n = math.prod(moved[len(kept) :])
    rows = reshape(rows, (*lead, n))
    tree = []
    while n > 1:
        if n % 2:
            rows, n = cat([rows, filled((*lead, 1), 1, x.dtype, x)], -1), n + 1
        pairs = reshape(rows, (*lead, n // 2, 2))
        left, right = select(pairs, -1, 0), select(pairs, -1, 1)
        tree.append((left, right))
        rows, n = left * right, n // 2
    others = filled(rows.shape, 1, x.dtype, x)
    sizes = [2 * t[0].shape[-1] for t in tree]
    for (left, right), size in zip(reversed(tree), reversed(sizes), strict=True):
        others = narrow(others, -1, 0, size // 2)  # without the one that made an odd row even
        others = reshape(stack([others * right, others * left], -1), (*lead, size))
    others = reshape(narrow(others, -1, 0, math.prod(moved[len(kept) :])), moved)
    return permute(others, [order.index(d) for d in range(len(order))])
