"""Sorting and what stands on it. NumPy orders, on the host; values are gathered, which gives them their gradients."""

import math

from .._gradmode import is_grad_enabled
from . import pointwise as p
from . import reduce
from ._arrays import from_array, host
from ._check import check_tensor
from ._late import np
from .indexing import gather
from .shape import wrap_dim


def _order(x, dim, descending):
    """The places of the elements along ``dim`` in order; equal ones keep theirs, and nan counts as the largest."""
    a = host(x)
    if descending:
        return a.shape[dim] - 1 - np.flip(np.argsort(np.flip(a, dim), dim, kind="stable"), dim)
    return np.argsort(a, dim, kind="stable")


def _at(kind, input, dim, order):
    """(values, indices) of the elements of ``input`` at the places ``order``."""
    index = from_array(np.ascontiguousarray(order), "int64", input)
    return getattr(reduce.return_types, kind)(gather(input, dim, index), index)


def _of_number(kind, input):
    return getattr(reduce.return_types, kind)(input.clone(), input.detach().long() * 0)


def sort(input, dim=-1, descending=False, *, stable=False):
    """(values, indices) of ``input`` in order along ``dim``, always stable; nan counts as the largest.

    >>> import minigrad as mg
    >>> values, indices = mg.sort(mg.tensor([3.0, 1.0, 2.0]))
    >>> values, indices
    (tensor([1., 2., 3.]), tensor([1, 2, 0]))
    """
    check_tensor("sort", input)
    d = wrap_dim(dim, input.ndim)
    return _at("sort", input, d, _order(input, d, descending)) if input.ndim else _of_number("sort", input)


def argsort(input, dim=-1, descending=False, *, stable=False):
    """The indices of ``sort``.

    >>> import minigrad as mg
    >>> mg.argsort(mg.tensor([3.0, 1.0, 2.0]), descending=True)
    tensor([0, 2, 1])
    """
    return sort(input.detach(), dim, descending).indices


def topk(input, k, dim=-1, largest=True, sorted=True):
    """(values, indices) of the ``k`` largest or smallest along ``dim``, in order; of equal ones the first.

    RuntimeError if there are fewer than ``k``.

    >>> import minigrad as mg
    >>> mg.topk(mg.tensor([3.0, 1.0, 2.0]), 2).indices
    tensor([0, 2])
    """
    check_tensor("topk", input)
    d = wrap_dim(dim, input.ndim)
    if not 0 <= k <= (input.shape[d] if input.ndim else 1):
        raise RuntimeError("selected index k out of range")
    if input.ndim == 0:
        return _of_number("topk", input)
    return _at("topk", input, d, np.take(_order(input, d, largest), range(k), d))


def median(input, dim=None, keepdim=False):
    """The middle element, of an even number the lower one: of all, or (values, indices) along ``dim``; nan if one is.

    >>> import minigrad as mg
    >>> mg.median(mg.tensor([4.0, 1.0, 3.0, 2.0]))
    tensor(2.)
    """
    check_tensor("median", input)
    if dim is None:
        return _median_of_all(input.reshape(-1))
    d = wrap_dim(dim, input.ndim)
    if input.ndim == 0:
        return _of_number("median", input)
    n = input.shape[d]
    if n == 0:
        raise IndexError(f"median(): Expected reduction dim {d} to have non-zero size.")
    order = np.take(_order(input, d, False), [(n - 1) // 2], d)
    if input.is_floating_point():
        nans = host(p.isnan(input.detach()))
        order = np.where(nans.any(d, keepdims=True), nans.argmax(d, keepdims=True), order)
    values, indices = _at("median", input, d, order)
    return reduce.return_types.median(*(x if keepdim else x.squeeze(d) for x in (values, indices)))


def _median_of_all(x):
    if x.numel() == 0:
        lowest = math.nan if x.is_floating_point() else np.iinfo(x.dtype.name).min
        return from_array(np.array(lowest), x.dtype.name, x)
    found = median(x.detach(), 0).values
    if not (x.requires_grad and is_grad_enabled()):
        return found
    those = p.isnan(x.detach()) if found.item() != found.item() else p.eq(x.detach(), found)
    return reduce.amax(p.where(those, x, -math.inf))  # equal ones share the gradient


def unique(input, sorted=True, return_inverse=False, return_counts=False, dim=None):
    """The different elements, in order, or the different slices along ``dim``; nan is like nothing else. No gradient.

    return_inverse: where each element is in them; return_counts: how often each is there.

    >>> import minigrad as mg
    >>> mg.unique(mg.tensor([3, 1, 3]), return_counts=True)
    (tensor([1, 3]), tensor([1, 2]))
    """
    check_tensor("unique", input)
    found, inverse, counts = np.unique(host(input), return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    made = [from_array(found, input.dtype.name, input)]
    if return_inverse:
        shape = input.shape if dim is None else (-1,)
        made.append(from_array(inverse.reshape(shape), "int64", input))
    if return_counts:
        made.append(from_array(counts, "int64", input))
    return made[0] if len(made) == 1 else tuple(made)
