"""Reductions: sums, products, extremes, moments, norms, softmax and its relatives, running sums.

DESIGN
a. A reduction is planned from the shape alone and the plan is cached: ``_layout`` gives the output's shape, the axes
   that lead back from an output to the input, and the kernel calls. A run of neighbouring reduced dimensions is one
   call on x viewed as (outer, n, inner); several runs are reduced one after the other, from the last to the first.
b. A long run is cut into blocks whose partial results a second call reduces in order, and a wide one into tiles of
   columns; both by shape alone, so that results have the same bits at any number of threads. A device other than the
   CPU has a plan of its own (``_block``).
c. ``_add_up`` and ``_spread`` (a broadcast view) are each other's gradients; the sum of a broadcast gradient
   (``sum_to``) and all of sum, mean and var stand on them.
"""

import functools
import math
import operator
from collections import namedtuple
from types import SimpleNamespace

from .._engine import Kernel, Op, Tensor, empty, filled, view
from .._engine import _cast as cast
from .._storage import bool_, float64, int64, uint8
from . import pointwise as p
from ._check import check_floating, check_tensor
from ._warn import warn_user
from .direct import fold, plug, rows, sum
from .direct import mean as mean
from .shape import cat, flip, narrow, permute, reshape, row_major, select, stack, wrap_dim

BLOCK = 32768  # elements a unit of work reduces when a long run is cut
TILE = 512  # columns a unit of the _columns kernels, see kernels/reduce.py
BLOCKS, COLUMNS, ROWS, STRIDED = range(4)  # the kernels of a reduction
GATHER_TILE = 64  # columns a unit of index.scatter_add, see kernels/index.py


# --- planning ---------------------------------------------------------------------------------------------------------


def _dims(dim, ndim):
    """``dim`` (None, an int or a sequence) as a sorted tuple of distinct non-negative dimensions."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    found = set()
    for d in dim if isinstance(dim, (tuple, list)) else (dim,):
        d = wrap_dim(d, ndim)
        if d in found:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
        found.add(d)
    return tuple(sorted(found)) if ndim else ()


@functools.lru_cache(4096)
def _layout(shape, dim, keepdim):
    """(output shape, axes, kernel calls, number of elements reduced into one) of a reduction.

    axes: for each input dimension, the output dimension that it lies along, or -1 if it is reduced.
    """
    dims = _dims(dim, len(shape))
    axes, out = [], []
    for d, size in enumerate(shape):
        reduced = d in dims
        axes.append(-1 if reduced else len(out))
        if keepdim or not reduced:
            out.append(1 if reduced else size)
    return tuple(out), tuple(axes), _steps(shape, tuple(axes)), math.prod([shape[d] for d in dims])


@functools.lru_cache(4096)
def _layout_to(shape, target):
    """(axes, kernel calls) of the sum that undoes a broadcast from ``target`` to ``shape``."""
    lead = len(shape) - len(target)
    axes = [-1 if d < lead or (target[d - lead] == 1 and size != 1) else d - lead for d, size in enumerate(shape)]
    if lead < 0 or [d for d, a in enumerate(axes) if a >= 0 and shape[d] != target[a]]:
        raise RuntimeError(f"a gradient of shape {tuple(shape)} cannot be summed to shape {tuple(target)}")
    return tuple(axes), _steps(shape, tuple(axes))


@functools.lru_cache(4096)
def _steps(shape, axes):
    """The kernel calls of a reduction on the CPU, and on another device; () where there is nothing to reduce."""
    return () if 0 in shape else (_calls(shape, axes, _cut), _calls(shape, axes, _cut_for_many))


def _calls(shape, axes, cut):
    """(which kernel, dims, units, work, size of the output) of each kernel call."""
    runs = []  # [reduced, size]
    for size, axis in zip(shape, axes, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][0] == (axis < 0):
            runs[-1][1] *= size
        else:
            runs.append([axis < 0, size])
    steps, inner = [], 1
    for i in range(len(runs) - 1, -1, -1):
        reduced, n = runs[i]
        if reduced:
            cut(steps, math.prod([size for _, size in runs[:i]]), n, inner)
        else:
            inner *= n
    if not steps:  # nothing to add up, still a conversion or a square
        cut(steps, 1, 1, inner)
    return tuple(steps)


def _cut(steps, outer, n, inner):
    work, block, blocks = outer * n * inner, n, 1
    if work > BLOCK and outer < 64:
        if inner >= 8 * TILE:
            steps.append((COLUMNS, (n, inner), outer * (-(-inner // TILE)), work, outer * inner))
            return
        block = -(-BLOCK // inner) + 7 & ~7
        blocks = -(-n // block)
    _in_blocks(steps, outer, n, inner, block, blocks)


def _in_blocks(steps, outer, n, inner, block, blocks):
    which = ROWS if inner == 1 else BLOCKS
    steps.append((which, (n, inner, block, blocks), outer * blocks, outer * n * inner, outer * blocks * inner))
    if blocks > 1:
        steps.append((which, (blocks, inner, blocks, 1), outer, outer * blocks * inner, outer * inner))


def _block(outer, n, inner):
    """How many rows a unit reduces on a device of many processors, where a group of threads has one row, or 32 columns.

    A few thousand groups keep it busy, and 2,048 elements are worth one: so 10^8 numbers are added up by 2,048 groups.
    """
    side = inner if inner < 32 else 32
    groups, share = outer * -(-inner // side), n * side // 2048
    if groups >= 256 or share <= 4:
        return n
    pieces = share if share * groups < 2048 else 2048 // groups
    block = -(-n // pieces) + 31 & ~31
    return block if block < n else n


def _cut_for_many(steps, outer, n, inner):
    block = _block(outer, n, inner)
    _in_blocks(steps, outer, n, inner, block, -(-n // block))


def _contiguous(x):
    return x if x.is_contiguous() else x.detach().clone()


def _in_memory_order(x, axes, shape):
    """(view, axes, strides) of a permuted x: a view of descending strides, its axes, None or what restores the order.

    Those are the strides by which the result has ``shape``, where other dimensions come first in memory. None where x
    is in that order already, or repeats elements.
    """
    strides, sizes = x.stride(), x.shape
    order = sorted(range(x.ndim), key=lambda d: -strides[d])
    if 0 in strides or [d for d in order if sizes[d] != 1] == [d for d in range(x.ndim) if sizes[d] != 1]:
        return None
    turned = view(x, [sizes[d] for d in order], [strides[d] for d in order])
    kept = [axes[d] for d in order if axes[d] >= 0]
    back = None
    if kept != sorted(kept):
        steps = dict(zip(kept, row_major([shape[a] for a in kept])))
        back = [steps.get(a, 1) for a in range(len(shape))]
    return turned, tuple([axes[d] for d in order]), back


def _kernels(name, cost):
    return [Kernel(f"reduce.{name}{twin}", cost) for twin in ("", "_columns", "_rows", "_strided")]


class _Fold:
    """The kernels of a reduction, those that reduce its partial results, its identity."""

    def __init__(self, name, identity, cost, then=None, converts=True):
        self.kernels = _kernels(name, cost)
        self.identity, self.then, self.converts = identity, then or self, converts

    def __call__(self, x, shape, steps, dtype, axes=None):
        """x reduced to ``shape``. With ``axes`` a transposed x is reduced in the order of its memory: no copy.

        A sum of floats only if it has no gaps, so that those change no bit.
        """
        if not steps:
            return filled(shape, self.identity, dtype, x)
        if axes is not None and not x.is_contiguous():
            turned = _in_memory_order(x, axes, shape)
            exact = not (self.converts and x.is_floating_point())  # in any order
            if turned is not None and (exact or turned[0].is_contiguous()):
                x, axes, back = turned
                y = self(x, shape, _steps(x.shape, axes), dtype)
                return view(y, shape, back).detach().clone() if back else y
        steps, to, fold = steps[x._device >= 0], dtype if self.converts else None, self
        for i, step in enumerate(steps):
            which, dims, units, work, size = step
            y = empty(shape if i == len(steps) - 1 else (size,), dtype, x)
            if x.is_contiguous() or not _strided(fold.kernels[STRIDED], (y,), x, step, to):
                fold.kernels[which]((y,), (_contiguous(x),), dims, (), units, work, x.dtype, to)
            x, fold = y, fold.then
        return y


def _strided(kernel, outputs, x, step, to=None):
    """Whether the kernel could be run on x with its strides: see ``direct.fold``."""
    which, dims, units, work, _ = step
    head = (*dims, dims[0], 1, TILE) if which == COLUMNS else (*dims, dims[1])
    return fold(kernel, outputs, x, head, units, work, to)


_SUM = _Fold("sum", 0, 0.1)
_PROD = _Fold("prod", 1, 0.1)
_SQUARES = _Fold("sum_squares", 0, 0.1, then=_SUM)
_ALL = _Fold("all", True, 0.1, converts=False)
_ANY = _Fold("any", False, 0.1, converts=False)


class _Extreme:
    """The kernels of max or min: values and the positions of the first of them along the reduced run."""

    def __init__(self, name):
        self.kernels = _kernels(name, 0.3)

    def __call__(self, x, shape, steps, axes=None):
        """Values and indices of ``shape``. ``axes``, along one dimension only: as in ``_Fold``."""
        if axes is not None and not x.is_contiguous():
            turned = _in_memory_order(x, axes, shape)
            if turned is not None:
                x, axes, back = turned
                found = self(x, shape, _steps(x.shape, axes))
                return tuple([view(y, shape, back).detach().clone() for y in found]) if back else found
        index, steps = None, steps[x._device >= 0]
        for i, step in enumerate(steps):
            which, dims, units, work, size = step
            y, k = (empty(shape if i == len(steps) - 1 else (size,), d, x) for d in (x.dtype, int64))
            if x.is_contiguous() or not _strided(self.kernels[STRIDED], (y, k), x, step):
                columns = which == COLUMNS
                inputs, more = ((_contiguous(x),), ()) if columns else ((_contiguous(x), index), (index is not None,))
                self.kernels[which]((y, k), inputs, (*dims, *more), (), units, work)
            # positions of an earlier run mean nothing along the next one
            x, index = y, k if dims[-1] > 1 and which != COLUMNS else None
        return y, k


_MAX, _MIN = _Extreme("maxdim"), _Extreme("mindim")
_MAX_VALUES, _MIN_VALUES = _Fold("max", None, 0.1, converts=False), _Fold("min", None, 0.1, converts=False)


def _key(dim):
    """``dim`` as something to look a plan up by."""
    if dim is None or type(dim) is int:
        return dim
    if isinstance(dim, (tuple, list)):
        return tuple([operator.index(d) for d in dim])
    return operator.index(dim)


# --- sums and the broadcasts that undo them ---------------------------------------------------------------------------

_sum = Op("Sum", lambda dy, shape, axes: _spread(dy, shape, axes))
_expand = Op("Expand", lambda d, axes, shape: _add_up(d, shape, axes))


def _add_up(x, shape, axes):
    """x summed to ``shape``, over the dimensions that ``axes`` marks by -1; recorded."""
    y = _SUM(x, shape, _steps(x.shape, axes), x.dtype, axes)
    return _sum.record(y, x, saved=(x.shape, axes))


def _spread(y, shape, axes):
    """A view of ``y`` broadcast to ``shape``: dimension d of it lies along dimension axes[d] of y; recorded."""
    s = y.stride()
    x = view(y, shape, [0 if a < 0 else s[a] for a in axes])
    return _expand.record(x, y, saved=(axes, y.shape))


def sum_to(g, shape):
    """``g`` summed down to ``shape``, from which it was broadcast: what a broadcast does to gradients."""
    full = g.shape
    if full == shape:
        return g
    axes, steps = _layout_to(full, shape)
    return _sum.record(_SUM(g, shape, steps, g.dtype, axes), g, saved=(full, axes))


def _general_sum(input, dim, keepdim, dtype):
    check_tensor("sum", input)
    full = input.shape
    shape, axes, steps, _ = _layout(full, _key(dim), keepdim)
    if dtype is not None:
        input = cast(input, dtype)
        if input.dtype is bool_:
            return any(input, dim, keepdim)
    elif not input.is_floating_point():
        return _SUM(input, shape, steps, int64, axes)
    return _sum.record(_SUM(input, shape, steps, input.dtype, axes), input, saved=(full, axes))


_mean = Op("Mean", lambda dy, shape, axes, n: _spread(dy / n, shape, axes))


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
    shape, axes, steps, n = _layout(full, _key(dim), keepdim)
    y = p.div(_SUM(input, shape, steps, input.dtype, axes), n)
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


# --- products ---------------------------------------------------------------------------------------------------------

_prod = Op("Prod", lambda dy, x, axes: _spread(dy, x.shape, axes) * _others(x, axes))


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
    shape, axes, steps, _ = _layout(input.shape, _key(dim), keepdim)
    y = _PROD(input, shape, steps, input.dtype if dtype is not None or input.is_floating_point() else int64, axes)
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


# --- truth ------------------------------------------------------------------------------------------------------------


def _truth(fold, input, dim, keepdim):
    if dim == () or dim == []:  # here no dimensions are none, unlike everywhere else, as in PyTorch
        y = p.ne(input.detach(), 0)
        return cast(y, uint8) if input.dtype is uint8 else y
    shape, axes, steps, _ = _layout(input.shape, _key(dim), keepdim)
    y = fold(input, shape, steps, bool_, axes)
    return cast(y, uint8) if input.dtype is uint8 else y


def all(input, dim=None, keepdim=False):
    """Whether all elements over ``dim`` are true (not zero; nan is true): bool, but uint8 for uint8 as in PyTorch.

    >>> import minigrad as mg
    >>> mg.all(mg.tensor([[True, False], [True, True]]), 1)
    tensor([False,  True])
    """
    check_tensor("all", input)
    return _truth(_ALL, input, dim, keepdim)


def any(input, dim=None, keepdim=False):
    """Whether any element over ``dim`` is true (not zero; nan is true): bool, but uint8 for uint8 as in PyTorch.

    >>> import minigrad as mg
    >>> mg.any(mg.tensor([[True, False], [False, False]]), 1)
    tensor([ True, False])
    """
    check_tensor("any", input)
    return _truth(_ANY, input, dim, keepdim)


# --- extremes ---------------------------------------------------------------------------------------------------------


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
    x, y = x.detach(), _spread(y.detach(), x.shape, axes)
    hits = cast(p.logical_or(p.eq(x, y), p.logical_and(p.isnan(x), p.isnan(y))), x.dtype)
    count = _add_up(hits, dy.shape, axes)
    return _spread(dy / count, x.shape, axes) * hits


def _check_nonempty(input, dim, name):
    """Every reduced dimension must have elements."""
    for d in _dims(dim, input.ndim):
        if input.shape[d] == 0:
            raise IndexError(f"{name}(): Expected reduction dim {d} to have non-zero size.")


def _extreme_values(op, fold, name, input, dim, keepdim):
    if (dim is None or dim == () or dim == []) and input.numel() == 0:
        raise RuntimeError(
            f"{name}(): Expected reduction dim to be specified for input.numel() == 0. Specify the reduction dim with "
            "the 'dim' argument."
        )
    shape, axes, steps, _ = _layout(input.shape, _key(dim), keepdim)
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
    return _extreme_values(_amax, _MAX_VALUES, "amax", input, dim, keepdim)


def amin(input, dim=(), keepdim=False):
    """The smallest element over ``dim`` (an int, a tuple, or () for all); nan if there is one.

    Equal smallest elements share the gradient evenly.

    >>> import minigrad as mg
    >>> mg.amin(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([1., 3.])
    """
    check_tensor("amin", input)
    return _extreme_values(_amin, _MIN_VALUES, "amin", input, dim, keepdim)


_K_PICK, _K_PLACE = Kernel("index.gather", 1), Kernel("index.scatter_add", 1)
_pick = Op("Gather", lambda dy, dim, shape, index, keepdim: _place(dy, dim, shape, index, keepdim))
_place_op = Op("Scatter", lambda d, dim, index, keepdim: _pick_values(d, dim, index, keepdim))


def _around(shape, dim):
    """(outer, n, inner) of ``shape`` around dimension ``dim``."""
    if not shape:
        return 1, 1, 1
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])


def _place(dy, dim, shape, index, keepdim):
    """Zeros of ``shape`` with dy at the positions ``index`` along ``dim``; recorded."""
    outer, n, inner = _around(shape, dim)
    dx = filled(shape, 0, dy.dtype, dy)
    units = outer * (-(-inner // GATHER_TILE))
    _K_PLACE((dx,), (_contiguous(dy), index), dims=(1, n, inner), units=units, work=outer * inner)
    return _place_op.record(dx, dy, saved=(dim, index, keepdim))


def _pick_values(x, dim, index, keepdim):
    """The elements of x at the positions ``index`` along ``dim``; recorded."""
    outer, n, inner = _around(x.shape, dim)
    y = empty(index.shape, x.dtype, x)
    _K_PICK((y,), (_contiguous(x), index), dims=(1, n, inner), units=outer, work=outer * inner)
    return _pick.record(y, x, saved=(dim, x.shape, index, keepdim))


def _extreme_along(extreme, name, input, dim, keepdim):
    """Values and indices along one dimension."""
    d = wrap_dim(dim, input.ndim)
    shape, axes, steps, _ = _layout(input.shape, d, keepdim)
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
    return _extreme("max", _MAX_VALUES, _MAX, _amax, p.maximum, input, dim, keepdim, other)


def min(input, dim=None, keepdim=False, *, other=None):
    """The smallest element; with ``dim``, ``(values, indices)`` along it; with a tensor, the elementwise minimum.

    Gradients as in ``max``.

    >>> import minigrad as mg
    >>> mg.min(mg.tensor([[1., 5.], [3., 4.]]), 1).values
    tensor([1., 3.])
    """
    return _extreme("min", _MIN_VALUES, _MIN, _amin, p.minimum, input, dim, keepdim, other)


def _position(extreme, name, input, dim, keepdim):
    check_tensor(name, input)
    if input.dtype is bool_:
        raise RuntimeError(f"{name}(): does not support bool input")
    if dim is None:
        if input.numel() == 0:
            raise IndexError(f"{name}(): Expected reduction dim to be specified for input.numel() == 0.")
        shape, _, steps, _ = _layout((input.numel(),), None, False)
        return extreme(input, (1,) * input.ndim if keepdim else shape, steps)[1]
    return _extreme_along(extreme, name, input.detach(), dim, keepdim)[1]


def argmax(input, dim=None, keepdim=False):
    """The index of the largest element, the first of several, along ``dim`` or in the flattened tensor; nan wins.

    >>> import minigrad as mg
    >>> mg.argmax(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([1, 1])
    """
    return _position(_MAX, "argmax", input, dim, keepdim)


def argmin(input, dim=None, keepdim=False):
    """The index of the smallest element, the first of several, along ``dim`` or in the flattened tensor; nan wins.

    >>> import minigrad as mg
    >>> mg.argmin(mg.tensor([[1., 5.], [3., 4.]]), 1)
    tensor([0, 0])
    """
    return _position(_MIN, "argmin", input, dim, keepdim)


# --- moments ----------------------------------------------------------------------------------------------------------


def _dvar(dy, x, axes, n, divisor):
    slope = 2 / divisor if divisor > 0 else math.inf  # n - correction <= 0: the variance is nan or inf, so are slopes
    centre = x - _spread(_add_up(x, dy.shape, axes) / n, x.shape, axes)
    return _spread(dy * slope, x.shape, axes) * centre


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
    shape, axes, steps, n = _layout(input.shape, _key(dim), keepdim)
    divisor = n - correction if n > correction else 0
    if divisor == 0 and math.prod(shape):
        warn_user(
            f"{name}(): degrees of freedom is <= 0. Correction should be strictly less than the reduction factor "
            f"(input numel divided by output numel): correction {correction}, {n} elements."
        )
    x = input.detach()
    centre = p.sub(x, _spread(p.div(_SUM(x, shape, steps, x.dtype, axes), n), x.shape, axes))
    y = p.div(_SQUARES(centre, shape, steps, x.dtype), divisor)
    return _var.record(y, input, saved=(input, axes, n, divisor))


# --- norms ------------------------------------------------------------------------------------------------------------


def _dnorm(dy, x, y, axes, order):
    # x |x|^(p-2) dy / y^(p-1); 0 at x = 0 and at y = 0. The inner where keeps derivatives of the rule finite there.
    nil = p.eq(y, 0)
    safe = p.where(nil, 1.0, y)
    if order == 2:
        return x * _spread(p.where(nil, 0.0, dy / safe), x.shape, axes)
    scale = p.where(nil, 0.0, dy * p.pow(safe, 1 - order))
    zero = p.eq(x, 0)
    size = p.pow(p.abs(p.where(zero, 1.0, x)), order - 1)
    return p.where(zero, 0.0, p.sign(x) * size * _spread(scale, x.shape, axes))


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
    return _vector_norm(input, float(p), _key(dim), keepdim)


def _vector_norm(input, order, dim, keepdim):
    if order == math.inf or order == -math.inf:
        if not input.numel() and (dim is None or dim == () or 0 in [input.shape[d] for d in _dims(dim, input.ndim)]):
            raise RuntimeError(
                f"norm() cannot compute the {order} norm of nothing (shape {tuple(input.shape)}, dim {dim}) because "
                "the operation does not have an identity"
            )
        return (amax if order > 0 else amin)(p.abs(input), () if dim is None else dim, keepdim)
    if order == 1:
        return sum(p.abs(input), dim, keepdim)
    if order == 0:
        return _count.record(sum(cast(p.ne(input.detach(), 0), input.dtype), dim, keepdim), input, saved=(input.shape,))
    shape, axes, steps, _ = _layout(input.shape, dim, keepdim)
    x = input.detach()
    if order == 2:
        y = cast(p.sqrt(_SQUARES(x, shape, steps, float64, axes)), x.dtype)
    else:
        y = p.pow(_SUM(p.pow(p.abs(x), order), shape, steps, x.dtype), 1 / order)
    return _norm.record(y, input, saved=(input, y, axes, order))


# --- softmax and its relatives ----------------------------------------------------------------------------------------

_K_SOFTMAX, _K_LOG_SOFTMAX = Kernel("reduce.softmax", 1), Kernel("reduce.log_softmax", 1)
_K_DSOFTMAX, _K_DLOG_SOFTMAX = Kernel("reduce.dsoftmax", 0.3), Kernel("reduce.dlog_softmax", 0.8)
_K_LOGSUMEXP = Kernel("reduce.logsumexp", 0.8)


_COLUMNS = {k: Kernel(f"{k.name}_columns", k.cost) for k in (_K_SOFTMAX, _K_LOG_SOFTMAX, _K_DSOFTMAX, _K_DLOG_SOFTMAX)}
STRIPE = 64  # columns a unit of those, see kernels/reduce.py


def _moved(x, dims):
    """A contiguous tensor with ``dims`` (sorted) moved last, x itself where possible; not recorded."""
    nd = x.ndim
    if dims == tuple(range(nd - len(dims), nd)):
        return _contiguous(x)
    order = [d for d in range(nd) if d not in dims] + list(dims)
    shape, stride = x.shape, x.stride()
    return view(x, [shape[d] for d in order], [stride[d] for d in order]).detach().clone()


def _moved_back(x, dim):
    """The inverse of ``_moved`` for one dimension."""
    nd = x.ndim
    if dim == nd - 1 or nd == 0:
        return x
    order = [*range(dim), nd - 1, *range(dim, nd - 1)]
    shape, stride = x.shape, x.stride()
    return view(x, [shape[d] for d in order], [stride[d] for d in order]).detach().clone()


def _by_rows(kernel, dim, *inputs):
    """Run a kernel on rows along ``dim``: an output of the inputs' shape, not recorded."""
    y = rows(kernel, dim, *inputs)
    if y is not None:
        return y
    outer, n, inner = _around(inputs[0].shape, dim)
    if (inner >= STRIPE // 4 or inputs[0]._device >= 0) and inputs[0].numel():
        y = empty(inputs[0].shape, inputs[0].dtype, inputs[0])
        inputs = tuple([_contiguous(x) for x in inputs])
        _COLUMNS[kernel]((y,), inputs, (n, inner), (), outer * -(-inner // STRIPE), y.numel())
        return y
    dims = (dim,) if inputs[0].ndim else ()
    inputs = tuple([_moved(x, dims) for x in inputs])
    x = inputs[0]
    y = empty(x.shape, x.dtype, x)
    size = x.numel()
    if size:
        n = x.shape[-1] if dims else 1
        kernel((y,), inputs, (n,), (), size // n, size)
    return _moved_back(y, dim)


_softmax = Op("Softmax", lambda dy, y, dim: _dsoftmax(dy, y, dim), flags=p.NOTED)
_dsoftmax_op = Op(
    "SoftmaxBackward",
    lambda d, dy, y, dim: _dsoftmax(d, y, dim),
    lambda d, dy, y, dim: d * (dy - sum(dy * y, dim, True)) - dy * sum(d * y, dim, True),
)
_log_softmax = Op("LogSoftmax", lambda dy, y, dim: _dlog_softmax(dy, y, dim))
_dlog_softmax_op = Op(
    "LogSoftmaxBackward",
    lambda d, dy, y, dim: d - sum(d * p.exp(y), dim, True),
    lambda d, dy, y, dim: -(d * p.exp(y)) * sum(dy, dim, True),
)


def _dsoftmax(dy, y, dim):
    return _dsoftmax_op.record(_by_rows(_K_DSOFTMAX, dim, dy, y), dy, y, saved=(dy, y, dim))


def _dlog_softmax(dy, y, dim):
    return _dlog_softmax_op.record(_by_rows(_K_DLOG_SOFTMAX, dim, dy, y), dy, y, saved=(dy, y, dim))


def softmax(input, dim, dtype=None):
    """exp(x) / sum(exp(x)) along ``dim``, shifted by the maximum so that nothing overflows.

    A row that holds +inf, or only -inf, is nan. ``dtype``: convert the input first.

    >>> import minigrad as mg
    >>> mg.softmax(mg.tensor([1., 1.]), 0)
    tensor([0.5000, 0.5000])
    """
    check_tensor("softmax", input)
    input = input if dtype is None else cast(input, dtype)
    check_floating("softmax", input)
    d = wrap_dim(dim, input.ndim)
    y = _by_rows(_K_SOFTMAX, d, input)
    return _softmax.record(y, input, saved=(y, d))


def log_softmax(input, dim, dtype=None):
    """x - log(sum(exp(x))) along ``dim``, shifted by the maximum so that nothing overflows.

    A row that holds +inf, or only -inf, is nan. ``dtype``: convert the input first.

    >>> import minigrad as mg
    >>> mg.log_softmax(mg.tensor([1., 1.]), 0)
    tensor([-0.6931, -0.6931])
    """
    check_tensor("log_softmax", input)
    input = input if dtype is None else cast(input, dtype)
    check_floating("log_softmax", input)
    d = wrap_dim(dim, input.ndim)
    y = _by_rows(_K_LOG_SOFTMAX, d, input)
    return _log_softmax.record(y, input, saved=(y, d))


def softmin(input, dim, dtype=None):
    """``softmax(-input, dim)``.

    >>> import minigrad as mg
    >>> softmin(mg.tensor([1., 1.]), 0)
    tensor([0.5000, 0.5000])
    """
    check_tensor("softmin", input)
    input = input if dtype is None else cast(input, dtype)
    check_floating("softmin", input)
    return softmax(-input, dim)


_logsumexp = Op("Logsumexp", lambda dy, x, y, axes: _spread(dy, x.shape, axes) * p.exp(x - _spread(y, x.shape, axes)))


def logsumexp(input, dim, keepdim=False):
    """log(sum(exp(x))) over ``dim`` (an int or a tuple), shifted by the maximum so that nothing overflows.

    Integers are converted to the default floating dtype. Of nothing, or of -inf only, it is -inf.

    >>> import minigrad as mg
    >>> mg.logsumexp(mg.tensor([0., 0.]), 0)
    tensor(0.6931)
    """
    check_tensor("logsumexp", input)
    if not input.is_floating_point():
        input = p.add(input, 0.0)
    shape, axes, _, n = _layout(input.shape, _key(dim), keepdim)
    if input.numel() == 0:
        y = filled(shape, -math.inf, input.dtype, input)
    else:
        x = _moved(input, _dims(dim, input.ndim))
        y = empty(shape, x.dtype, x)
        _K_LOGSUMEXP((y,), (x,), (n,), (), x.numel() // n, x.numel())
    return _logsumexp.record(y, input, saved=(input, y, axes))


# --- running sums and products ----------------------------------------------------------------------------------------

_K_CUMSUM, _K_CUMPROD = Kernel("reduce.cumsum", 1), Kernel("reduce.cumprod", 1)
_cumsum = Op("Cumsum", lambda dy, dim: flip(cumsum(flip(dy, dim), dim), dim) if dy.ndim else dy)
_cumprod = Op("Cumprod", lambda dy, x, dim: _dcumprod(dy, x, dim))


def _running(kernel, fold, op, name, input, dim, dtype, saves_input):
    check_tensor(name, input)
    d = wrap_dim(dim, input.ndim)
    if dtype is not None:
        input = cast(input, dtype)
    elif not input.is_floating_point():
        input = cast(input, int64)
    if input.dtype is bool_:
        return cast(_running(kernel, fold, op, name, input, dim, int64, False), bool_)
    x = _contiguous(input)
    y = _scan(kernel, fold, x, *_around(x.shape, d)) if x.numel() else empty(x.shape, x.dtype, x)
    return op.record(y, input, saved=(input, d) if saves_input else (d,))


def _scan(kernel, fold, x, outer, n, inner):
    """Running results along the middle of x (outer, n, inner).

    On a device that needs more work at once, of blocks: what comes before each is the running result of what they
    come to, and x is read twice.
    """
    wide, block, carry = float64 if x.is_floating_point() else int64, n, None
    if x._device >= 0:
        block = _scan_block(outer, n, inner)
    blocks = -(-n // block)
    if blocks > 1:
        carry = empty((outer, blocks, inner), wide, x)
        fold((carry,), (x,), (n, inner, block, blocks), (), outer * blocks, x.numel(), x.dtype, wide)
        carry = _scan(kernel, fold, carry, outer, blocks, inner)
    y = empty(x.shape, x.dtype, x)
    kernel((y,), (x, carry), (n, inner, block, blocks), (), outer * blocks, x.numel(), x.dtype, wide)
    return y


def _scan_block(outer, n, inner):
    """How many of n a block is: rows are the work of 256 threads, columns of one each."""
    wanted, least = (1024 // outer, 8192) if inner == 1 else (131072 // (outer * inner), 128)
    blocks = sorted((1, wanted, n // least))[1] if n >= least else 1
    return -(-n // blocks)


def cumsum(input, dim, *, dtype=None):
    """The sums of all elements up to each one along ``dim``; integers in int64, floats added up in float64.

    >>> import minigrad as mg
    >>> mg.cumsum(mg.tensor([1., 2., 3.]), 0)
    tensor([1., 3., 6.])
    """
    return _running(_K_CUMSUM, _SUM.kernels[0], _cumsum, "cumsum", input, dim, dtype, False)


def cumprod(input, dim, *, dtype=None):
    """The products of all elements up to each one along ``dim``; integers in int64. The gradient is exact with zeros.

    >>> import minigrad as mg
    >>> mg.cumprod(mg.tensor([1., 2., 3.]), 0)
    tensor([1., 2., 6.])
    """
    return _running(_K_CUMPROD, _PROD.kernels[0], _cumprod, "cumprod", input, dim, dtype, True)


def _dcumprod(dy, x, dim):
    """dx[i] = prod(x[:i]) * S[i] with S[i] = dy[i] + x[i+1] S[i+1], which needs no division.

    The recurrence is composed with itself log2(n) times: after each, S[i] has the terms of twice as many elements and
    f[i] the product that carries on to the rest.
    """
    if x.ndim == 0:
        return dy
    n = x.shape[dim]
    if n == 0:
        return dy.clone()

    def later(t, k, fill):
        pad = filled([k if d == dim else size for d, size in enumerate(t.shape)], fill, t.dtype, t)
        return cat([narrow(t, dim, k, n - k), pad], dim)

    one = filled([1 if d == dim else size for d, size in enumerate(x.shape)], 1, x.dtype, x)
    before = cat([one, narrow(cumprod(x, dim), dim, 0, n - 1)], dim)
    total, factor, k = dy, later(x, 1, 0), 1
    while k < n:
        total, factor = total + factor * later(total, k, 0), factor * later(factor, k, 0)
        k *= 2
    return before * total
