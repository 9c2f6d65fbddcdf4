"""Small functions of other operations, which need no rule of their own; indices are made by NumPy, on the host."""

import math
import operator

from .._engine import Tensor
from .._storage import bool_, float32, float64
from . import pointwise as p
from . import reduce
from ._arrays import from_array, host
from ._late import np
from .indexing import index_select
from .shape import cat, narrow, wrap_dim


def clamp_min(input, min):
    """``input`` where it is larger, else ``min``."""
    return p.clamp(input, min=min)


def clamp_max(input, max):
    """``input`` where it is smaller, else ``max``."""
    return p.clamp(input, max=max)


def nan_to_num(input, nan=0.0, posinf=None, neginf=None):
    """``input`` with numbers in place of nan and the infinities, by default 0 and the largest that the dtype has.

    >>> import minigrad as mg
    >>> mg.nan_to_num(mg.tensor([mg.nan, 1.0, mg.inf]), posinf=9.0)
    tensor([0., 1., 9.])
    """
    if not input.is_floating_point():
        return input.clone()
    most = (2 - 2.0**-23) * 2.0**127 if input.dtype is float32 else (2 - 2.0**-52) * 2.0**1023
    y = p.where(p.isnan(input), nan or 0.0, input)
    y = p.where(p.eq(input, math.inf), most if posinf is None else posinf, y)
    return p.where(p.eq(input, -math.inf), -most if neginf is None else neginf, y)


def nansum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum over ``dim`` of what is not nan.

    >>> import minigrad as mg
    >>> mg.nansum(mg.tensor([1.0, mg.nan, 2.0]))
    tensor(3.)
    """
    y = p.where(p.isnan(input), 0.0, input) if input.is_floating_point() else input
    return reduce.sum(y, dim, keepdim, dtype=dtype)


def nanmean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean over ``dim`` of what is not nan; nan where nothing is.

    >>> import minigrad as mg
    >>> mg.nanmean(mg.tensor([1.0, mg.nan, 2.0]))
    tensor(1.5000)
    """
    if not input.is_floating_point():
        raise RuntimeError(f"nanmean(): expected input to have floating point dtype but got {input.dtype!r}")
    total = nansum(input, dim, keepdim, dtype=dtype)
    return total / reduce.sum(p.logical_not(p.isnan(input.detach())), dim, keepdim).to(total.dtype)


def std_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """(std, mean) over ``dim``, which ``unbiased`` may take the place of, as in ``std``."""
    spread = reduce.std(input, dim, unbiased, keepdim, correction=correction)
    return spread, reduce.mean(input, None if isinstance(dim, bool) else dim, keepdim)


def var_mean(input, dim=None, unbiased=None, keepdim=False, *, correction=None):
    """(var, mean) over ``dim``, which ``unbiased`` may take the place of, as in ``var``."""
    spread = reduce.var(input, dim, unbiased, keepdim, correction=correction)
    return spread, reduce.mean(input, None if isinstance(dim, bool) else dim, keepdim)


def trace(input):
    """The sum of the diagonal of a matrix; RuntimeError for other dimensions."""
    if input.ndim != 2:
        raise RuntimeError("trace: expected a matrix, but got tensor with dim " + str(input.ndim))
    return reduce.sum(input.diagonal())


def cdist(x1, x2, p=2.0):
    """The p-norms of the differences of all rows: (..., P, M), (..., R, M) -> (..., P, R).

    >>> import minigrad as mg
    >>> mg.cdist(mg.zeros(1, 2), mg.tensor([[3.0, 4.0], [0.0, 1.0]]))
    tensor([[5., 1.]])
    """
    for name, x in (("X1", x1), ("X2", x2)):
        if x.ndim < 2:
            raise RuntimeError(f"cdist only supports at least 2D tensors, {name} got: {x.ndim}D")
    if x1.shape[-1] != x2.shape[-1]:
        raise RuntimeError(f"X1 and X2 must have the same number of columns. X1: {x1.shape[-1]} X2: {x2.shape[-1]}")
    return reduce.norm(x1.unsqueeze(-2) - x2.unsqueeze(-3), p, -1)


def roll(input, shifts, dims=None):
    """The elements moved on by ``shifts`` along ``dims``, round about; along the flattened tensor if dims is None.

    >>> import minigrad as mg
    >>> mg.roll(mg.tensor([1, 2, 3]), 1)
    tensor([3, 1, 2])
    """
    shifts = (shifts,) if isinstance(shifts, int) else tuple(shifts)
    if dims is None or dims == ():
        if len(shifts) != 1:
            raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:0")
        return roll(input.reshape(-1), shifts, 0).reshape(input.shape)
    dims = (dims,) if isinstance(dims, int) else tuple(dims)
    if len(dims) != len(shifts):
        raise RuntimeError(f"shifts and dimensions must align. shifts: {len(shifts)}, dims:{len(dims)}")
    y = input
    for shift, dim in zip(shifts, dims):
        d = wrap_dim(dim, y.ndim)
        n = y.shape[d]
        if n and shift % n:
            y = cat([narrow(y, d, n - shift % n, shift % n), narrow(y, d, 0, n - shift % n)], d)
    return y.clone() if y is input else y


def repeat_interleave(input, repeats=None, dim=None, *, output_size=None):
    """Each element ``repeats`` times (a number, or a tensor with one for each) along ``dim``, or flattened if None.

    With one argument, its own positions as often as it says. RuntimeError if ``output_size`` is not what comes out.

    >>> import minigrad as mg
    >>> mg.repeat_interleave(mg.tensor([1, 2]), 2)
    tensor([1, 1, 2, 2])
    """
    if repeats is None:
        if input.ndim != 1:
            raise RuntimeError("repeat_interleave only accept 1D vector as repeat")
        return repeat_interleave(from_array(np.arange(len(input)), "int64", input), input, output_size=output_size)
    if isinstance(repeats, Tensor) and (repeats.ndim > 1 or repeats.dtype.name not in ("int32", "int64")):
        raise RuntimeError(
            f"repeats must be 0-dim or 1-dim, int32 or int64; got {repeats.dtype!r} of shape {list(repeats.shape)}"
        )
    if dim is None:
        input, dim = input.reshape(-1), 0
    n = input.shape[wrap_dim(dim, input.ndim)]
    times = np.atleast_1d(host(repeats)) if isinstance(repeats, Tensor) else np.array([operator.index(repeats)])
    if len(times) not in (1, n):
        raise RuntimeError(
            f"repeats must have the same size as input along dim, but got repeats.size(0) = {len(times)} and "
            f"input.size({dim}) = {n}"
        )
    if (times < 0).any():
        raise RuntimeError("repeats can not be negative")
    places = np.repeat(np.arange(n), times if len(times) == n else int(times[0]))
    if output_size is not None and output_size != len(places):
        raise RuntimeError(f"repeat_interleave: output_size is {output_size}, but {len(places)} come out")
    return index_select(input, dim, from_array(places, "int64", input))


def meshgrid(*tensors, indexing="ij"):
    """Vectors as views of the grid that they span: the i-th varies along dimension i; "xy" swaps the first two.

    >>> import minigrad as mg
    >>> mg.meshgrid(mg.tensor([1, 2]), mg.tensor([3, 4, 5]))[0]
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tuple(tensors[0])
    if not tensors:
        raise ValueError("meshgrid expects a non-empty tensor list")
    if indexing not in ("ij", "xy"):
        raise RuntimeError(f'meshgrid: indexing must be one of "xy" or "ij", but received: {indexing}')
    if any(x.ndim > 1 for x in tensors):
        raise RuntimeError("meshgrid: expected vectors or numbers")
    if len({x.dtype for x in tensors}) > 1:
        raise RuntimeError("meshgrid expects all tensors to have the same dtype")
    if indexing == "xy" and len(tensors) > 1:
        first, second, *rest = tensors
        second, first, *rest = meshgrid(second, first, *rest)
        return (first, second, *rest)
    shape = tuple(x.numel() for x in tensors)
    return tuple(
        x.reshape(*(-1 if d == i else 1 for d in range(len(tensors)))).expand(shape) for i, x in enumerate(tensors)
    )


def bincount(input, weights=None, minlength=0):
    """How often each of 0, 1, ... is in a vector of integers, or the sums of ``weights`` there.

    >>> import minigrad as mg
    >>> mg.bincount(mg.tensor([1, 3, 1]))
    tensor([0, 2, 0, 1])
    """
    if input.is_floating_point() or input.dtype is bool_:
        raise NotImplementedError(f"bincount: expected integers, got {input.dtype!r}")
    values = host(input)
    if input.ndim != 1 or (values < 0).any():
        raise RuntimeError("bincount only supports 1-d non-negative integral inputs.")
    if minlength < 0:
        raise RuntimeError("minlength should be >= 0")
    if weights is None or not values.size:  # also of nothing: PyTorch counts that
        return from_array(np.bincount(values, minlength=minlength), "int64", input)
    if weights.shape != input.shape:
        raise RuntimeError("weights should be 1-d and have the same length as input")
    y = from_array(np.bincount(values, host(weights), minlength), "float64", input)
    return y.to(float32 if weights.dtype is float32 else float64)
