"""The largest and the smallest element: values, positions, and who gets their gradient."""

from collections import namedtuple
from types import SimpleNamespace

from ..._engine import Kernel, Op, Tensor, empty, filled
from ..._engine import _cast as cast
from ..._storage import bool_, int64
from .. import pointwise as p
from .._check import check_tensor
from ..shape import wrap_dim
from .folds import MAX, MAX_VALUES, MIN, MIN_VALUES
from .plan import around, contiguous, dims_of, key_of, layout
from .sums import add_up, spread

_Pair = namedtuple("_Pair", ["values", "indices"])  # once: making one takes a tenth of a millisecond and more


def _return_type(name):
    def text(self):
        return f"minigrad.return_types.{name}(\nvalues={self.values!r},\nindices={self.indices!r})"

    return type(name, (_Pair,), {"__slots__": (), "__module__": "minigrad.return_types", "__repr__": text})


return_types = SimpleNamespace(**{name: _return_type(name) for name in ("max", "min", "median", "sort", "topk")})

# all that equal the extreme share the gradient
_amax = Op("Amax", lambda dy, x, y, axes: _share_out(dy, x, y, axes))
_amin = Op("Amin", lambda dy, x, y, axes: _share_out(dy, x, y, axes))


def _share_out(dy, x, y, axes):
    x, y = x.detach(), spread(y.detach(), x.shape, axes)
    hits = cast(p.logical_or(p.eq(x, y), p.logical_and(p.isnan(x), p.isnan(y))), x.dtype)
    count = add_up(hits, dy.shape, axes)
    return spread(dy / count, x.shape, axes) * hits


def _check_nonempty(input, dim, name):
    """Every reduced dimension must have elements."""
    for d in dims_of(dim, input.ndim):
        if input.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _extreme_values(op, fold, name, input, dim, keepdim):
    if (dim is None or dim == () or dim == []) and input.numel() == 0:
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with "
            "the 'dim' argument."
        )
    shape, axes, steps, _ = layout(input.shape, key_of(dim), keepdim)
    if not steps:
        _check_nonempty(input, dim, name)
        y = empty(shape, input.dtype, input)
    else:
        y = fold(input, shape, steps, input.dtype, axes)
    return op.record(y, input, saved=(input, y, axes))


def amax(input, dim=(), keepdim=False):
    """The largest element over ``dim`` (an int, a tuple, or () for all); nan if there is one.

    Equal largest elements share the gradient evenly.

    >>> import minigrad as mg
    >>> mg.amax(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([5., 4.])
    """
    check_tensor("amax", input)
    return _extreme_values(_amax, MAX_VALUES, "amax", input, dim, keepdim)


def amin(input, dim=(), keepdim=False):
    """The smallest element over ``dim`` (an int, a tuple, or () for all); nan if there is one.

    Equal smallest elements share the gradient evenly.

    >>> import minigrad as mg
    >>> mg.amin(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([1., 3.])
    """
    check_tensor("amin", input)
    return _extreme_values(_amin, MIN_VALUES, "amin", input, dim, keepdim)


GATHER_TILE = 64  # columns a unit of index.scatter_add, see kernels/index.py
_K_PICK, _K_PLACE = Kernel("index.gather", 1), Kernel("index.scatter_add", 1)
_pick = Op("Gather", lambda dy, dim, shape, index, keepdim: _place(dy, dim, shape, index, keepdim))
_place_op = Op("Scatter", lambda d, dim, index, keepdim: _pick_values(d, dim, index, keepdim))


def _place(dy, dim, shape, index, keepdim):
    """Zeros of ``shape`` with dy at the positions ``index`` along ``dim``; recorded."""
    outer, n, inner = around(shape, dim)
    dx = filled(shape, 0, dy.dtype, dy)
    units = outer * (-(-inner // GATHER_TILE))
    _K_PLACE((dx,), (contiguous(dy), index), dims=(1, n, inner), units=units, work=outer * inner)
    return _place_op.record(dx, dy, saved=(dim, index, keepdim))


def _pick_values(x, dim, index, keepdim):
    """The elements of x at the positions ``index`` along ``dim``; recorded."""
    outer, n, inner = around(x.shape, dim)
    y = empty(index.shape, x.dtype, x)
    _K_PICK((y,), (contiguous(x), index), dims=(1, n, inner), units=outer, work=outer * inner)
    return _pick.record(y, x, saved=(dim, x.shape, index, keepdim))


def _extreme_along(extreme, name, input, dim, keepdim):
    """Values and indices along one dimension."""
    d = wrap_dim(dim, input.ndim)
    shape, axes, steps, _ = layout(input.shape, d, keepdim)
    if not steps:
        if input.ndim and input.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")
        y, index = empty(shape, input.dtype, input), empty(shape, int64, input)
    else:
        y, index = extreme(input, shape, steps, axes)
    return _pick.record(y, input, saved=(d, input.shape, index, keepdim)), index


def _extreme(name, fold, extreme, op, other_op, input, dim, keepdim, other):
    check_tensor(name, input)
    if isinstance(dim, Tensor):
        dim, other = None, dim
    if other is not None:
        return other_op(input, other)
    if dim is None:
        return _extreme_values(op, fold, name, input, None, keepdim)
    return getattr(return_types, name)(*_extreme_along(extreme, name, input, dim, keepdim))


def max(input, dim=None, keepdim=False, *, other=None):
    """The largest element; with ``dim``, ``(values, indices)`` along it; with a tensor, the elementwise maximum.

    nan wins. Without ``dim`` equal largest elements share the gradient, with ``dim`` the first one (whose index is
    returned) gets it all, as in PyTorch.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1., 5.], [3., 4.]])
    >>> mg.max(x)
    tensor(5.)
    >>> mg.max(x, 0).indices
    tensor([1, 0])
    """
    return _extreme("max", MAX_VALUES, MAX, _amax, p.maximum, input, dim, keepdim, other)


def min(input, dim=None, keepdim=False, *, other=None):
    """The smallest element; with ``dim``, ``(values, indices)`` along it; with a tensor, the elementwise minimum.

    Gradients as in ``max``.

    >>> import minigrad as mg
    >>> mg.min(mg.tensor([[1., 5.], [3., 4.]]), 1).values
    tensor([1., 3.])
    """
    return _extreme("min", MIN_VALUES, MIN, _amin, p.minimum, input, dim, keepdim, other)


def _position(extreme, name, input, dim, keepdim):
    check_tensor(name, input)
    if input.dtype is bool_:
        raise RuntimeError(f"{name}(): does not support bool input")
    if dim is None:
        if input.numel() == 0:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
        shape, _, steps, _ = layout((input.numel(),), None, False)
        return extreme(input, (1,) * input.ndim if keepdim else shape, steps)[1]
    return _extreme_along(extreme, name, input.detach(), dim, keepdim)[1]


def argmax(input, dim=None, keepdim=False):
    """The index of the largest element, the first of several, along ``dim`` or in the flattened tensor; nan wins.

    >>> import minigrad as mg
    >>> mg.argmax(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([1, 1])
    """
    return _position(MAX, "argmax", input, dim, keepdim)


def argmin(input, dim=None, keepdim=False):
    """The index of the smallest element, the first of several, along ``dim`` or in the flattened tensor; nan wins.

    >>> import minigrad as mg
    >>> mg.argmin(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([0, 0])
    """
    return _position(MIN, "argmin", input, dim, keepdim)
