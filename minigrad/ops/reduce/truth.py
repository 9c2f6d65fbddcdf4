"""Whether all or any elements are true."""

from ..._engine import _cast as cast
from ..._storage import bool_, uint8
from .. import pointwise as p
from .._check import check_tensor
from .folds import ALL, ANY
from .plan import key_of, layout


def _truth(fold, input, dim, keepdim):
    if dim == () or dim == []:  # here no dimensions are none, unlike everywhere else, as in PyTorch
        y = p.ne(input.detach(), 0)
        return cast(y, uint8) if input.dtype is uint8 else y
    shape, axes, steps, _ = layout(input.shape, key_of(dim), keepdim)
    y = fold(input, shape, steps, bool_, axes)
    return cast(y, uint8) if input.dtype is uint8 else y


def all(input, dim=None, keepdim=False):
    """Whether all elements over ``dim`` are true (not zero; nan is true): bool, but uint8 for uint8 as in PyTorch.

    >>> import minigrad as mg
    >>> mg.all(mg.tensor([[True, False], [True, True]]), 1)
    tensor([False,  True])
    """
    check_tensor("all", input)
    return _truth(ALL, input, dim, keepdim)


def any(input, dim=None, keepdim=False):
    """Whether any element over ``dim`` is true (not zero; nan is true): bool, but uint8 for uint8 as in PyTorch.

    >>> import minigrad as mg
    >>> mg.any(mg.tensor([[True, False], [False, False]]), 1)
    tensor([ True, False])
    """
    check_tensor("any", input)
    return _truth(ANY, input, dim, keepdim)
