"""Operations of this package that write into their first operand."""

from ..._engine import _cast as cast
from ..._engine import copy_
from .. import pointwise
from ..shape import expand, inverse, permute
from .elements import scatter, scatter_add
from .entries import split_index
from .items import setitem
from .masks import masked_fill
from .positions import add_at
from .selection import selected_shape, selection
from .slices import index_add, index_copy, index_fill
from .triangles import tril, triu
from .values import as_value, check_addable


def _in_place(name, function):
    def method(self, *args, **kwargs):
        return copy_(self, function(self, *args, **kwargs))

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"As ``{function.__name__}``, in place; the tensor."
    return method


index_add_ = _in_place("index_add_", index_add)
index_copy_ = _in_place("index_copy_", index_copy)
index_fill_ = _in_place("index_fill_", index_fill)
masked_fill_ = _in_place("masked_fill_", masked_fill)
scatter_ = _in_place("scatter_", scatter)
scatter_add_ = _in_place("scatter_add_", scatter_add)
tril_ = _in_place("tril_", tril)
triu_ = _in_place("triu_", triu)


def index_put(input, indices, values, accumulate=False):
    """``input`` with ``values`` at ``indices`` (a tuple of index tensors), or added to what is there (``accumulate``).

    >>> import minigrad as mg
    >>> mg.zeros(3).index_put((mg.tensor([0, 0]),), mg.ones(2), accumulate=True)
    tensor([2., 0., 0.])
    """
    y = input.clone()
    return index_put_(y, indices, values, accumulate)


def index_put_(self, indices, values, accumulate=False):
    """As ``index_put``, in place; the tensor."""
    index = tuple([slice(None) if item is None else item for item in indices])
    if not accumulate:
        setitem(self, index, values)
        return self
    check_addable("index_put_", self)
    y, arrays = split_index(self, index)
    _, order, selected = selection(y, arrays, True)
    value = expand(cast(as_value(values, self), self.dtype), selected_shape(*selected))
    added = add_at(value, *selected)
    pointwise.add.inplace(y, added if order is None else permute(added, inverse(order)))
    return self
