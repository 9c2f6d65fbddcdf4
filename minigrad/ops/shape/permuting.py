"""Dimensions in another order."""

from ..._engine import Op
from ..._engine import view as _view
from .sizes import sizes_of, wrap_dim
from .views import reshape

_TRANSPOSE = Op("Transpose", lambda dy, a, b: transpose(dy, a, b))
_PERMUTE = Op("Permute", lambda dy, order: permute(dy, order))


def transpose(input, dim0, dim1):
    """A view with dimensions ``dim0`` and ``dim1`` swapped.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3, 4).transpose(0, 2).shape
    minigrad.Size([4, 3, 2])
    """
    n = input.ndim
    a, b = wrap_dim(dim0, n), wrap_dim(dim1, n)
    shape, strides = list(input.shape), list(input.stride())
    if n:
        shape[a], shape[b] = shape[b], shape[a]
        strides[a], strides[b] = strides[b], strides[a]
    y = _view(input, shape, strides)
    return _TRANSPOSE.record(y, input, saved=(a, b)) if input.requires_grad else y


def t(input):
    """The transpose of a matrix, a view; vectors and 0-d tensors stay what they are.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).t()
    tensor([[1, 3],
            [2, 4]])
    """
    n = input.ndim
    if n > 2:
        raise RuntimeError(f"t() expects a tensor with <= 2 dimensions, but self is {n}D")
    return transpose(input, 0, 1) if n == 2 else reshape(input, tuple(input.shape))


def T(input):
    """All dimensions in reverse order, a view (``Tensor.T``)."""
    n = input.ndim
    return transpose(input, 0, 1) if n == 2 else permute(input, tuple(range(n - 1, -1, -1)))


def mT(input):
    """The last two dimensions swapped, a view (``Tensor.mT``)."""
    if input.ndim < 2:
        raise RuntimeError(
            f"tensor.mT is only supported on matrices or batches of matrices. Got {input.ndim}-D tensor."
        )
    return transpose(input, -2, -1)


def inverse(order):
    """The order of dims that undoes ``order``."""
    places = [0] * len(order)
    for i, d in enumerate(order):
        places[d] = i
    return tuple(places)


def permute(input, *order, dims=None):
    """A view with dimension ``dims[i]`` at place i.

    >>> import minigrad as mg
    >>> mg.permute(mg.zeros(2, 3, 4), (2, 0, 1)).shape
    minigrad.Size([4, 2, 3])
    """
    order, n = sizes_of(order if dims is None else (dims,)), input.ndim
    if len(order) != n:
        raise RuntimeError(
            "permute(sparse_coo): number of dimensions in the tensor input does not match the length of the desired "
            f"ordering of dimensions i.e. input.dim() = {n} is not equal to len(dims) = {len(order)}"
        )
    order = tuple([wrap_dim(d, n) for d in order])
    if len(set(order)) != n:
        raise RuntimeError("permute(): duplicate dims are not allowed.")
    shape, strides = input.shape, input.stride()
    y = _view(input, [shape[d] for d in order], [strides[d] for d in order])
    return _PERMUTE.record(y, input, saved=(inverse(order),)) if input.requires_grad else y


def movedim(input, source, destination):
    """A view with the dimensions ``source`` moved to ``destination``, the others in order.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3, 4).movedim(0, -1).shape
    minigrad.Size([3, 4, 2])
    """
    n = input.ndim
    source = tuple(source) if isinstance(source, (tuple, list)) else (source,)
    destination = tuple(destination) if isinstance(destination, (tuple, list)) else (destination,)
    if len(source) != len(destination):
        raise RuntimeError(
            f"movedim: Invalid source or destination dims: source ({list(source)} dims) should contain the same number "
            f"of dims as destination ({list(destination)} dims)"
        )
    places = {}
    for name, dims in (("source", source), ("destination", destination)):
        places[name] = [wrap_dim(d, n) for d in dims]
        if len(set(places[name])) != len(dims):
            raise RuntimeError(f"movedim: repeated dim in `{name}` ({list(dims)})")
    if n == 0:
        return reshape(input, ())
    moved = dict(zip(places["destination"], places["source"]))
    rest = iter([d for d in range(n) if d not in places["source"]])
    return permute(input, tuple([moved[i] if i in moved else next(rest) for i in range(n)]))
