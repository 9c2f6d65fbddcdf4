"""A position for every element: gather and scatter."""

import math

from ..._engine import Kernel, Op, Tensor, empty, filled
from ..._engine import _cast as cast
from ..._storage import bool_, int64
from .. import pointwise
from .._arrays import as_numpy, from_array
from ..shape import broadcast_shapes, contiguous, expand, narrow, reshape, row_major, wrap_dim
from .checks import checked_index
from .positions import K_PUT, MOVE, TILE, add_at, around, offsets_of, winners
from .values import as_value, check_addable

_K_GATHER = Kernel("index.gather", 1.0)
_K_SCATTER = Kernel("index.scatter", 1.0)
_K_SCATTER_ADD = Kernel("index.scatter_add", 1.2)


def _element_index(name, input, dim, index, private):
    """(index as int64 positions, its dim, the input with at least one dim)."""
    if not isinstance(index, Tensor):
        raise TypeError(f"{name}(): argument 'index' must be Tensor, not {type(index).__name__}")
    if index.dtype.is_floating_point or index.dtype is bool_:
        raise RuntimeError(f"{name}(): Expected dtype int64 for index, got {index.dtype!r}")
    d = wrap_dim(dim, input.ndim)
    x = input if input.ndim else reshape(input, (1,))
    index = cast(index.detach(), int64).contiguous()
    if index.ndim == 0:
        index = reshape(index, (1,)).detach()
    if index.ndim != x.ndim and index.numel():
        raise RuntimeError(
            f"Index tensor must have the same number of dimensions as input tensor: {name}() got shapes "
            f"{list(index.shape)} and {list(input.shape)}"
        )
    return checked_index(index, d, x.shape[d], private, negative=False), d, x


def _check_smaller(index, shape, d, what):
    for i, (n, limit) in enumerate(zip(tuple(index.shape), shape)):
        if i != d and n > limit:
            raise RuntimeError(
                f"Size does not match at dimension {i} expected index {list(index.shape)} to be no larger than {what} "
                f"{list(shape)} apart from dimension {d}"
            )


def _narrowed(x, shape, skip=None):
    """x, narrowed to ``shape`` in all dimensions but ``skip``."""
    for i, n in enumerate(shape):
        if i != skip and x.shape[i] != n:
            x = narrow(x, i, 0, n)
    return x


def gather(input, dim, index, *, sparse_grad=False):
    """y[i][j][k] = input[index[i][j][k]][j][k] for dim 0, and so on: one position along ``dim`` for every element.

    ``index`` has as many dimensions as ``input`` and is no larger apart from ``dim``; positions are not negative.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).gather(1, mg.tensor([[0, 0], [1, 0]]))
    tensor([[1, 1],
            [4, 3]])
    """
    index_, d, x = _element_index("gather", input, dim, index, input.requires_grad)
    if index_.numel() == 0:
        return (
            filled(index.shape, 0, input.dtype, input)
            if not x.requires_grad
            else reshape(x, (-1,))[:0].reshape(index.shape)
        )
    _check_smaller(index_, tuple(x.shape), d, "self")
    y = _gather(_narrowed(x, tuple(index_.shape), d), d, index_)
    return y if index.ndim == y.ndim else reshape(y, index.shape)


def _gather(x, d, index):
    """As gather, for an index that differs in size only along d."""
    shape = tuple(x.shape)
    y = empty(index.shape, x.dtype, x)
    outer, size, inner = around(d, 1, shape)
    m = index.shape[d]
    _K_GATHER(
        (y,), (contiguous(x.detach()), index), dims=(m, size, inner), units=outer * m, work=y.numel(),
        dtype=MOVE[x.dtype],
    )  # fmt: skip
    return _GATHER.record(y, x, saved=(d, index, shape))


def _gather_back(dy, d, index, shape):
    """Zeros (shape) with dy added where ``index`` says."""
    y = filled(shape, 0, dy.dtype, dy)
    if dy.numel():
        outer, size, inner = around(d, 1, shape)
        _K_SCATTER_ADD(
            (y,), (contiguous(dy.detach()), index), dims=(index.shape[d], size, inner),
            units=outer * -(-inner // TILE), work=dy.numel(),
        )  # fmt: skip
    return _GATHER_BACK.record(y, dy, saved=(d, index, shape))


_GATHER = Op("Gather", _gather_back)
_GATHER_BACK = Op("GatherBackward", lambda d, dim, index, shape: _gather(d, dim, index))


def take_along_dim(input, indices, dim=None):
    """``gather`` with broadcasting; without ``dim``, ``indices`` are positions in the flattened input.

    >>> import minigrad as mg
    >>> x = mg.tensor([[3, 1], [2, 4]])
    >>> mg.take_along_dim(x, x.argmax(1, keepdim=True), 1)
    tensor([[3],
            [4]])
    """
    if dim is None:
        return gather(reshape(input, (input.numel(),)), 0, reshape(indices, (indices.numel(),)))
    if input.ndim != indices.ndim:
        raise RuntimeError(
            "take_along_dim(): input and indices should have the same number of dimensions, but got "
            f"{input.ndim} dimensions for input, and {indices.ndim} dimensions for indices"
        )
    d = wrap_dim(dim, input.ndim)
    a, b = list(input.shape), list(indices.shape)
    a[d] = b[d] = 1
    shape = list(broadcast_shapes(tuple(a), tuple(b)))
    size, count = input.shape[d], indices.shape[d]
    shape[d] = size
    x = expand(input, shape)
    shape[d] = count
    return gather(x, d, expand(indices, shape))


def _flat_positions(index, d, shape):
    """Where in a contiguous tensor of ``shape`` the elements of an index along d are: a vector."""
    strides = list(row_major(shape))
    step, strides[d] = strides[d], 0
    offsets = offsets_of(tuple(index.shape), strides)
    if index._device >= 0:
        return from_array(offsets, like=index) + reshape(index, (-1,)) * step
    return from_array(offsets + as_numpy(index).reshape(-1) * step)


def _scatter_arguments(name, input, dim, index, src):
    """(index, dim, input with at least one dim, src of the shape of index)."""
    index, d, x = _element_index(name, input, dim, index, True)
    if index.numel():
        _check_smaller(index, tuple(x.shape), d, "self")
    if isinstance(src, Tensor):
        if src.ndim == 0:
            src = reshape(src, (1,))
        if src.dtype is not x.dtype:
            raise RuntimeError(
                f"{name}(): Expected self.dtype to be equal to src.dtype, got {x.dtype!r}, {src.dtype!r}"
            )
        if index.numel():
            if src.ndim != index.ndim:
                raise RuntimeError(
                    f"Index tensor must have the same number of dimensions as src tensor: {name}() got shapes "
                    f"{list(index.shape)} and {list(src.shape)}"
                )
            _check_smaller(index, tuple(src.shape), None, "src")
            src = _narrowed(src, tuple(index.shape))
    return index, d, x, src


def scatter(input, dim, index, src=None, *, value=None, reduce=None):
    """``input`` with ``src`` (a tensor or number) at the positions ``index`` along ``dim``: the inverse of gather.

    y[index[i][j]][j] = src[i][j] for dim 0, and so on; where positions repeat, the last one wins. ``reduce="add"``
    adds instead.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3).scatter(1, mg.tensor([[2], [0]]), 1.0)
    tensor([[0., 0., 1.],
            [1., 0., 0.]])
    """
    src = value if src is None else src
    if src is None:
        raise TypeError("scatter(): missing argument 'src' or 'value'")
    if reduce is not None:
        if reduce != "add":
            raise ValueError(f"scatter(): reduce must be 'add' or None, got {reduce!r}")
        if not isinstance(src, Tensor):
            src = expand(filled((), src, input.dtype, input), index.shape)
        return scatter_add(input, dim, index, src)
    index, d, x, src = _scatter_arguments("scatter", input, dim, index, src)
    if index.numel() == 0:
        return input.clone()
    y = _scatter(x, d, index, expand(as_value(src, x), index.shape))
    return y if input.ndim else reshape(y, ())


def _scatter(x, d, index, src):
    """As scatter, for a src of the shape of index."""
    shape, y = tuple(x.shape), x.detach().clone()
    kind = MOVE[y.dtype]
    source = contiguous(src.detach())
    if _same_apart(tuple(index.shape), shape, d):
        outer, size, inner = around(d, 1, shape)
        _K_SCATTER(
            (y,), (source, index), dims=(index.shape[d], size, inner), units=outer * -(-inner // TILE),
            work=index.numel(), dtype=kind,
        )  # fmt: skip
    else:
        n, positions = index.numel(), _flat_positions(index, d, shape)
        K_PUT((y,), (source, positions), dims=(n, 1, 1, 1), units=1, work=n, dtype=kind)
    return _SCATTER.record(y, x, src, saved=(d, index, shape))


def _same_apart(a, b, d):
    return a[:d] == b[:d] and a[d + 1 :] == b[d + 1 :]


def _dscatter_input(dy, d, index, shape):
    return _scatter(dy, d, index, expand(filled((), 0, dy.dtype, dy), index.shape))


def _dscatter_src(dy, d, index, shape):
    g = gather(dy, d, index)
    won = winners(_flat_positions(index, d, shape), math.prod(shape))
    if won is None:
        return g
    return pointwise.where(reshape(won, index.shape), g, filled((), 0, g.dtype, g))


_SCATTER = Op("Scatter", _dscatter_input, _dscatter_src)


def scatter_add(input, dim, index, src):
    """``input`` with ``src`` added at the positions ``index`` along ``dim``; where positions repeat, all are added.

    >>> import minigrad as mg
    >>> mg.zeros(3).scatter_add(0, mg.tensor([1, 1, 2]), mg.tensor([1.0, 2.0, 3.0]))
    tensor([0., 3., 3.])
    """
    if not isinstance(src, Tensor):
        raise TypeError(f"scatter_add(): argument 'src' must be Tensor, not {type(src).__name__}")
    check_addable("scatter_add", input)
    index, d, x, src = _scatter_arguments("scatter_add", input, dim, index, src)
    if index.numel() == 0:
        return input.clone()
    shape = tuple(x.shape)
    if _same_apart(tuple(index.shape), shape, d):
        added = _gather_back(src, d, index, shape)
    else:
        flat = _flat_positions(index, d, shape)
        n = math.prod(shape)
        added = reshape(add_at(reshape(src, (-1,)), flat, 0, 1, (index.numel(),), (n,)), shape)
    return reshape(x + added, input.shape)
