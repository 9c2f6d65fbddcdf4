"""Sums and means, and the broadcasts that undo them."""

from ..._engine import Op, view
from ..._engine import _cast as cast
from ..._storage import bool_, int64
from .. import pointwise as p
from .._check import check_tensor
from ..direct import plug, sum
from .folds import SUM
from .plan import key_of, layout, layout_to, steps_of
from .truth import any

_sum = Op("Sum", lambda dy, shape, axes: spread(dy, shape, axes))
_expand = Op("Expand", lambda d, axes, shape: add_up(d, shape, axes))


def add_up(x, shape, axes):
    """x summed to ``shape``, over the dimensions that ``axes`` marks by -1; recorded."""
    y = SUM(x, shape, steps_of(x.shape, axes), x.dtype, axes)
    return _sum.record(y, x, saved=(x.shape, axes))


def spread(y, shape, axes):
    """A view of ``y`` broadcast to ``shape``: dimension d of it lies along dimension axes[d] of y; recorded."""
    s = y.stride()
    x = view(y, shape, [0 if a < 0 else s[a] for a in axes])
    return _expand.record(x, y, saved=(axes, y.shape))


def sum_to(g, shape):
    """``g`` summed down to ``shape``, from which it was broadcast: what a broadcast does to gradients."""
    full = g.shape
    if full == shape:
        return g
    axes, steps = layout_to(full, shape)
    return _sum.record(SUM(g, shape, steps, g.dtype, axes), g, saved=(full, axes))


def _general_sum(input, dim, keepdim, dtype):
    check_tensor("sum", input)
    full = input.shape
    shape, axes, steps, _ = layout(full, key_of(dim), keepdim)
    if dtype is not None:
        input = cast(input, dtype)
        if input.dtype is bool_:
            return any(input, dim, keepdim)
    elif not input.is_floating_point():
        return SUM(input, shape, steps, int64, axes)
    return _sum.record(SUM(input, shape, steps, input.dtype, axes), input, saved=(full, axes))


_mean = Op("Mean", lambda dy, shape, axes, n: spread(dy / n, shape, axes))


def _general_mean(input, dim, keepdim, dtype):
    check_tensor("mean", input)
    if dtype is not None:
        input = cast(input, dtype)
    if not input.is_floating_point():
        raise RuntimeError(
            "mean(): could not infer output dtype. Input dtype must be a floating point dtype. "
            f"Got: {input.dtype!r}; convert it or pass dtype="
        )
    full = input.shape
    shape, axes, steps, n = layout(full, key_of(dim), keepdim)
    y = p.div(SUM(input, shape, steps, input.dtype, axes), n)
    return _mean.record(y, input, saved=(full, axes, n))


plug(sum=_general_sum, mean=_general_mean)


def count_nonzero(input, dim=None):
    """The number of elements that are not zero over ``dim`` (an int, a tuple, or None for all), in int64.

    >>> import minigrad as mg
    >>> mg.count_nonzero(mg.tensor([[1., 0.], [3., 4.]]), 0)
    tensor([2, 1])
    """
    check_tensor("count_nonzero", input)
    return sum(p.ne(input.detach(), 0), dim)
