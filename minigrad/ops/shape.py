"""Shapes and views: reshaping, permuting, expanding, joining, splitting, and in-place writes through views.

DESIGN
a. A view is ``_engine.view(x, shape, strides, offset)``: it shares memory, costs no copy, and the engine remembers its
   base. Where PyTorch copies (``flip``, ``cat``, ``repeat``, a ``reshape`` that strides do not allow), so do we.
b. A region is (shape, strides, offset, base shape, base strides): which elements of a base a view shows. ``Slice``,
   ``AsStrided`` and ``SliceWrite`` differentiate through regions with three linear operations: take a region out,
   put it into zeros, set it to zero. Each is a view of the contiguous gradient when base and region are simple, else
   it goes through the positions of the elements.
c. After a recorded in-place operation through a view the base gets a new history: ``slice_write``.
"""

import functools
import math
import operator

from .._engine import (
    Kernel,
    Op,
    Tensor,
    common_dtype,
    empty,
    filled,
    from_buffer,
    move,
    region_of,
    rewrite_base,
    together,
    write_memory,
)
from .._engine import _cast as cast
from .._engine import view as _view
from ._late import np
from .memory_format import check_format, contiguous_format

_K_TAKE = Kernel("index.take", 0.8)
_K_TAKE_ADD = Kernel("index.take_add", 1.2)
_K_PUT = Kernel("index.put", 1.2)

MAXDIM = 8


def _sum_to(dy, shape):
    from .reduce import sum_to

    return sum_to(dy, shape)


# --- helpers ----------------------------------------------------------------------------------------------------------


def wrap_dim(dim, ndim):
    """``dim`` made non-negative; IndexError outside [-ndim, ndim)."""
    d = dim if type(dim) is int else operator.index(dim)
    n = ndim or 1
    if -n <= d < n:
        return d if d >= 0 else d + n
    raise IndexError(f"Dimension out of range (expected to be in range of [{-n}, {n - 1}], but got {d})")


def sizes_of(sizes):
    """The ints of ``f(2, 3)`` or ``f((2, 3))`` as a tuple."""
    if len(sizes) == 1 and type(sizes[0]) is not int and isinstance(sizes[0], (tuple, list)):
        sizes = sizes[0]
    for size in sizes:
        if type(size) is not int:
            return tuple([operator.index(size) for size in sizes])
    return sizes if type(sizes) is tuple else tuple(sizes)


def row_major(shape):
    """The strides of a contiguous tensor of ``shape``."""
    strides, n = [0] * len(shape), 1
    for i in range(len(shape) - 1, -1, -1):
        strides[i] = n
        n *= shape[i] or 1
    return tuple(strides)


def _check_dims(ndim, sizes):
    if ndim > MAXDIM:
        raise ValueError(f"tensors have at most {MAXDIM} dimensions, got {list(sizes)}")


def _dims(dim, ndim):
    """One dim or several as a tuple of non-negative, distinct dims."""
    dims = tuple([wrap_dim(d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))])
    if len(set(dims)) != len(dims):
        raise RuntimeError(
            f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list of dims"
        )
    return dims


# --- regions ----------------------------------------------------------------------------------------------------------


def _overlapping(shape, strides):
    """Whether two places of a region may be one element (exact for all views but exotic uses of as_strided)."""
    reach = 0
    for stride, size in sorted(zip(strides, shape)):
        if size > 1:
            if stride <= reach:
                return True
            reach += stride * (size - 1)
    return False


def _simple(base_shape, base_strides):
    """Whether the base is contiguous, so that its gradient has the same layout."""
    if base_strides is None or 0 in base_shape:
        return True
    return all(
        size == 1 or stride == want for size, stride, want in zip(base_shape, base_strides, row_major(base_shape))
    )


def _positions(shape, strides, offset, base_shape, base_strides):
    """The positions (row-major, in the base) of the elements of a region: an int64 tensor of ``shape``'s size."""
    if base_strides is None:
        base_strides = row_major(base_shape)
    count = math.prod(base_shape)
    extent = 1 + sum((n - 1) * s for n, s in zip(base_shape, base_strides)) if count else 0
    memory = np.full(max(extent, 1), -1, np.int64)
    strided = np.lib.stride_tricks.as_strided
    if count:
        strided(memory, base_shape, [8 * s for s in base_strides])[...] = np.arange(count).reshape(base_shape)
    found = strided(memory[offset:], shape, [8 * s for s in strides]).reshape(-1) if math.prod(shape) else memory[:0]
    if found.size and found.min() < 0:
        raise RuntimeError("as_strided: the view shows memory between the elements of its base; clone() the base first")
    return from_buffer(np.ascontiguousarray(found), "int64", found.shape, (1,), True)


def _take_flat(x, index, shape):
    x, index = contiguous(x), move(index, x)
    y = empty(shape, x.dtype, x)
    n = y.numel()
    _K_TAKE((y,), (x.detach(), index), dims=(n, x.numel(), 1), units=n)
    return _TAKE_FLAT.record(y, x, saved=(index, x.shape, shape))


def _put_flat(dy, index, base_shape, shape):
    dy, index = contiguous(dy), move(index, dy)
    y = filled(base_shape, 0, dy.dtype, dy)
    n = dy.numel()
    if n:
        _K_TAKE_ADD((y,), (dy.detach(), index), dims=(n, y.numel(), 1), units=1, work=n)
    return _PUT_FLAT.record(y, dy, saved=(index, base_shape, shape))


_TAKE_FLAT = Op("AsStrided", lambda dy, index, base_shape, shape: _put_flat(dy, index, base_shape, shape))
_PUT_FLAT = Op("AsStridedBackward", lambda d, index, base_shape, shape: _take_flat(d, index, shape))


def take_region(x, shape, strides, offset, base_shape, base_strides=None):
    """The elements of a region out of ``x`` (base_shape)."""
    if not _simple(base_shape, base_strides):
        return _take_flat(x, _positions(shape, strides, offset, base_shape, base_strides), shape)
    x = contiguous(x)
    return AS_STRIDED.record(_view(x, shape, strides, offset), x, saved=(shape, strides, offset, base_shape))


def put_region(dy, shape, strides, offset, base_shape, base_strides=None):
    """Zeros (base_shape) with ``dy`` (shape) added at a region."""
    if _overlapping(shape, strides):
        return _put_overlapping(dy, shape, strides, offset, base_shape, base_strides)
    if not _simple(base_shape, base_strides):
        return _put_flat(dy, _positions(shape, strides, offset, base_shape, base_strides), base_shape, shape)
    y = filled(base_shape, 0, dy.dtype, dy)
    write_memory(_view(y, shape, strides, offset), dy)
    return _PUT_REGION.record(y, dy, saved=(shape, strides, offset, base_shape))


def _put_overlapping(dy, shape, strides, offset, base_shape, base_strides):
    narrowed = tuple([1 if stride == 0 else size for size, stride in zip(shape, strides)])
    if narrowed != tuple(shape):  # an expanded view: sum what one element was shown as
        return put_region(_sum_to(dy, narrowed), narrowed, strides, offset, base_shape, base_strides)
    return _put_flat(dy, _positions(shape, strides, offset, base_shape, base_strides), base_shape, shape)


def clear_region(dy, shape, strides, offset, base_shape, base_strides=None):
    """``dy`` (base_shape) with zeros at a region."""
    y = dy.detach().clone()
    zero = filled((), 0, y.dtype, y)
    if _simple(base_shape, base_strides):
        write_memory(_view(y, shape, strides, offset), zero)
    else:
        index = move(_positions(shape, strides, offset, base_shape, base_strides), y)
        if index.numel():
            _K_PUT((y,), (zero, index), dims=(index.numel(), 1, 0, 0), units=1, work=index.numel())
    return _CLEAR_REGION.record(y, dy, saved=(shape, strides, offset, base_shape, base_strides))


AS_STRIDED = Op("AsStrided", put_region)
_SLICE = Op("Slice", put_region)
_PUT_REGION = Op("AsStridedBackward", take_region)
_CLEAR_REGION = Op("SliceWriteBackward", clear_region)
_SLICE_WRITE = Op("SliceWrite", clear_region, take_region)


def slice_write(base, y, shown):
    """Give ``base`` the history of "``base`` with ``y`` written at the region of its view ``shown``".

    The engine calls it after a recorded in-place operation through a view; the values are already there.
    """
    region = shape, strides, _, base_shape, base_strides = region_of(shown, base)
    if _overlapping(shape, strides) or (base_strides is not None and _overlapping(base_shape, base_strides)):
        raise RuntimeError(
            f"unsupported operation: elements of the written-to view (shape {shape}, strides {strides}) or of its "
            "base may share memory, so that its gradient is not defined. Please clone() it before writing to it."
        )
    result = _SLICE_WRITE.record(base.detach(), base, y, saved=region)
    rewrite_base(base, result)


def record_slice(y, x, base_shape, shape, strides, offset):
    """Record ``y`` as a view of ``x`` (base_shape): the region that it has if ``x`` is contiguous. Returns y."""
    return _SLICE.record(y, x, saved=(shape, strides, offset, base_shape))


# --- contiguous, reshape ----------------------------------------------------------------------------------------------


def contiguous(input, *, memory_format=contiguous_format):
    """``input`` itself if its elements lie in row-major order, else a contiguous copy.

    ``memory_format``: ``contiguous_format``; NotImplementedError for channels last.

    >>> import minigrad as mg
    >>> mg.ones(2, 3).t().contiguous().stride()
    (2, 1)
    """
    if memory_format is not contiguous_format:
        check_format(memory_format, "contiguous")
        raise RuntimeError("preserve memory format is unsupported by the contiguous operator")
    return input if input.is_contiguous() else input.clone()


def _target(input, shape):
    """``shape`` with its -1 inferred, checked against the number of elements."""
    n, known, free = input.numel(), 1, -1
    for i, size in enumerate(shape):
        if size >= 0:
            known *= size
        elif size != -1:
            raise RuntimeError(f"invalid shape dimension {size} at index {i} of shape {list(shape)}")
        elif free >= 0:
            raise RuntimeError("only one dimension can be inferred")
        else:
            free = i
    if free >= 0:
        if known == 0:
            if n == 0:
                raise RuntimeError(
                    f"cannot reshape tensor of 0 elements into shape {list(shape)} because the unspecified dimension "
                    "size -1 can be any value and is ambiguous"
                )
        elif n % known == 0:
            return shape[:free] + (n // known,) + shape[free + 1 :]
    elif known == n:
        return shape
    raise RuntimeError(f"shape '{list(shape)}' is invalid for input of size {n}")


def _strides_for(input, shape):
    """The strides with which ``input``'s memory reads as ``shape``, or None if no strides do."""
    if input.is_contiguous() or input.numel() == 0:
        return row_major(shape)
    old, steps = input.shape, input.stride()
    strides, d, inner = [0] * len(shape), len(shape) - 1, steps[-1]
    have = want = 1  # sizes of the run of input's dims that is contiguous, and of the new dims put into it
    for i in range(len(old) - 1, -1, -1):
        have *= old[i]
        if i == 0 or (old[i - 1] != 1 and steps[i - 1] != have * inner):
            while d >= 0 and (want < have or shape[d] == 1):
                strides[d] = want * inner
                want *= shape[d]
                d -= 1
            if want != have:
                return None
            if i > 0:
                inner, have, want = steps[i - 1], 1, 1
    return tuple(strides) if d == -1 else None


_VIEW = Op("View", lambda dy, shape: reshape(dy, shape))
_RESHAPE_COPY = Op("ReshapeCopy", lambda dy, shape: reshape(dy, shape))


def reshape(input, *sizes, shape=None):
    """``input`` with another shape of as many elements; one size may be -1. A view where strides allow it, else a copy.

    >>> import minigrad as mg
    >>> mg.arange(6).reshape(2, -1)
    tensor([[0, 1, 2],
            [3, 4, 5]])
    """
    target = _target(input, sizes_of(sizes if shape is None else (shape,)))
    strides = _strides_for(input, target)
    if strides is not None:
        y = _view(input, target, strides)
        return _VIEW.record(y, input, saved=(input.shape,)) if input.requires_grad else y
    _check_dims(len(target), target)
    y = empty(target, input.dtype, input)
    write_memory(_view(y, input.shape, row_major(input.shape)), input)
    return _RESHAPE_COPY.record(y, input, saved=(input.shape,))


def view(input, *sizes, size=None):
    """``input``'s memory with another shape; RuntimeError where only a copy could have it (use ``reshape``).

    >>> import minigrad as mg
    >>> mg.zeros(2, 3).view(3, 2).shape
    minigrad.Size([3, 2])
    """
    if len(sizes) == 1 and not isinstance(sizes[0], (int, tuple, list)) and not hasattr(sizes[0], "__index__"):
        raise TypeError(f"view: sizes must be ints, got {sizes[0]!r} (views of another dtype are not supported)")
    target = _target(input, sizes_of(sizes if size is None else (size,)))
    strides = _strides_for(input, target)
    if strides is None:
        raise RuntimeError(
            "view size is not compatible with input tensor's size and stride (at least one dimension spans across two "
            f"contiguous subspaces). Use .reshape(...) instead. Input: shape {list(input.shape)}, strides "
            f"{list(input.stride())}; asked: {list(target)}"
        )
    y = _view(input, target, strides)
    return _VIEW.record(y, input, saved=(input.shape,)) if input.requires_grad else y


def view_as(input, other):
    """``input.view(other.shape)``."""
    return view(input, tuple(other.shape))


def reshape_as(input, other):
    """``input.reshape(other.shape)``."""
    return reshape(input, tuple(other.shape))


def flatten(input, start_dim=0, end_dim=-1):
    """Dimensions ``start_dim`` to ``end_dim`` as one; a view where strides allow it.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3, 4).flatten(1).shape
    minigrad.Size([2, 12])
    """
    n, shape = input.ndim, tuple(input.shape)
    start, end = wrap_dim(start_dim, n), wrap_dim(end_dim, n)
    if n == 0:
        return reshape(input, (1,))
    if start > end:
        raise RuntimeError(
            f"flatten() has invalid args: start_dim cannot come after end_dim, got {start_dim} and {end_dim}"
        )
    if start == end:
        return input
    return reshape(input, shape[:start] + (math.prod(shape[start : end + 1]),) + shape[end + 1 :])


def ravel(input):
    """All elements in one dimension; a view where strides allow it."""
    return reshape(input, (-1,)) if input.numel() else reshape(input, (0,))


def unflatten(input, dim, sizes):
    """Dimension ``dim`` as several of ``sizes`` (one may be -1).

    >>> import minigrad as mg
    >>> mg.zeros(2, 12).unflatten(1, (3, -1)).shape
    minigrad.Size([2, 3, 4])
    """
    shape, sizes = tuple(input.shape), sizes_of((sizes,))
    d = wrap_dim(dim, input.ndim)
    if not sizes:
        raise RuntimeError("unflatten: sizes must be non-empty")
    size, free = shape[d] if shape else 1, sizes.count(-1)
    if free > 1:
        raise RuntimeError("only one dimension can be inferred")
    known = math.prod([s for s in sizes if s != -1])
    if (free and (known == 0 or size % known)) or (not free and known != size):
        raise RuntimeError(
            f"unflatten: Provided sizes {list(sizes)} don't multiply up to the size of dim {dim} ({size}) in the input "
            "tensor"
        )
    if free:
        sizes = tuple([size // known if s == -1 else s for s in sizes])
    return reshape(input, shape[:d] + sizes + shape[d + 1 :])


# --- permuting --------------------------------------------------------------------------------------------------------

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


swapaxes = swapdims = transpose


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


moveaxis = movedim


# --- dimensions of size 1, broadcasting -------------------------------------------------------------------------------

_SQUEEZE = Op("Squeeze", lambda dy, shape: reshape(dy, shape))
_UNSQUEEZE = Op("Unsqueeze", lambda dy, shape: reshape(dy, shape))
_EXPAND = Op("Expand", lambda dy, shape: _sum_to(dy, shape))


def squeeze(input, dim=None):
    """A view without the dimensions of size 1 (all, or those of ``dim``, an int or a tuple).

    >>> import minigrad as mg
    >>> mg.zeros(1, 3, 1).squeeze().shape, mg.zeros(1, 3, 1).squeeze(0).shape
    (minigrad.Size([3]), minigrad.Size([3, 1]))
    """
    shape, strides = input.shape, input.stride()
    dims = range(len(shape)) if dim is None else _dims(dim, len(shape))
    keep = [i for i in range(len(shape)) if shape[i] != 1 or i not in dims]
    y = _view(input, [shape[i] for i in keep], [strides[i] for i in keep])
    return _SQUEEZE.record(y, input, saved=(shape,)) if input.requires_grad else y


def unsqueeze(input, dim):
    """A view with a new dimension of size 1 at ``dim``.

    >>> import minigrad as mg
    >>> mg.zeros(3).unsqueeze(1).shape
    minigrad.Size([3, 1])
    """
    shape, strides = tuple(input.shape), input.stride()
    d = wrap_dim(dim, len(shape) + 1)
    step = shape[d] * strides[d] if d < len(shape) else 1
    y = _view(input, shape[:d] + (1,) + shape[d:], strides[:d] + (step,) + strides[d:])
    return _UNSQUEEZE.record(y, input, saved=(shape,)) if input.requires_grad else y


def expand(input, *sizes, size=None):
    """A view with dimensions of size 1 repeated without copying; -1 keeps a size, new dimensions come first.

    >>> import minigrad as mg
    >>> mg.tensor([[1], [2]]).expand(2, 3)
    tensor([[1, 1, 1],
            [2, 2, 2]])
    """
    target = sizes_of(sizes if size is None else (size,))
    shape, strides = input.shape, input.stride()
    lead = len(target) - len(shape)
    if lead < 0:
        raise RuntimeError(
            f"expand(Tensor{{{list(shape)}}}, size={list(target)}): the number of sizes provided ({len(target)}) must "
            f"be greater or equal to the number of dimensions in the tensor ({len(shape)})"
        )
    _check_dims(len(target), target)
    out, steps = list(target), [0] * lead
    for i, want in enumerate(target):
        if i < lead:
            if want < 0:
                raise RuntimeError(
                    f"The expanded size of the tensor ({want}) isn't allowed in a leading, non-existing dimension {i}"
                )
            continue
        have, step = shape[i - lead], strides[i - lead]
        if want == -1 or want == have:
            out[i] = have
            steps.append(step)
        elif have == 1 and want >= 0:
            steps.append(0)
        else:
            raise RuntimeError(
                f"The expanded size of the tensor ({want}) must match the existing size ({have}) at non-singleton "
                f"dimension {i}.  Target sizes: {list(target)}.  Tensor sizes: {list(shape)}"
            )
    if math.prod(out) >> 60:
        raise RuntimeError(f"expand: a tensor of shape {out} has too many elements")
    y = _view(input, out, steps)
    return _EXPAND.record(y, input, saved=(shape,)) if input.requires_grad else y


def expand_as(input, other):
    """``input.expand(other.shape)``."""
    return expand(input, tuple(other.shape))


def broadcast_to(input, *sizes, size=None):
    """``input`` expanded to a shape, as in NumPy; a view.

    >>> import minigrad as mg
    >>> mg.broadcast_to(mg.tensor([1, 2]), (2, 2))
    tensor([[1, 2],
            [1, 2]])
    """
    return expand(input, *sizes, size=size)


def broadcast_shapes(*shapes):
    """The shape that tensors of ``shapes`` broadcast to.

    >>> import minigrad as mg
    >>> mg.broadcast_shapes((2, 1), (3,))
    (2, 3)
    """
    shapes = [tuple(shape) if isinstance(shape, (tuple, list)) else (shape,) for shape in shapes]
    out = [1] * max([len(shape) for shape in shapes], default=0)
    for shape in shapes:
        for i, size in enumerate(shape, len(out) - len(shape)):
            if size != 1 and out[i] != size:
                if out[i] != 1:
                    raise RuntimeError(
                        "Shape mismatch: objects cannot be broadcast to a single shape: "
                        + ", ".join(str(list(s)) for s in shapes)
                    )
                out[i] = size
    return tuple(out)


def broadcast_tensors(*tensors):
    """The tensors expanded to their common shape: a tuple of views."""
    if len(tensors) == 1 and isinstance(tensors[0], (tuple, list)):
        tensors = tensors[0]
    shape = broadcast_shapes(*[tuple(x.shape) for x in tensors])
    return tuple([expand(x, shape) for x in tensors])


def broadcast_named(function, **named):
    """``broadcast_tensors`` of arguments of ``function``, which the error names."""
    try:
        return broadcast_tensors(*named.values())
    except RuntimeError:
        shapes = ", ".join(f"{name} {list(x.shape)}" for name, x in named.items())
        raise RuntimeError(f"{function}: {shapes} do not broadcast") from None


# --- copies -----------------------------------------------------------------------------------------------------------

_FLIP = Op("Flip", lambda dy, dims: flip(dy, dims))


def flip(input, *dims):
    """A copy with the order of elements reversed along ``dims``.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).flip(0)
    tensor([[3, 4],
            [1, 2]])
    """
    dims = _dims(sizes_of(dims), input.ndim) if input.ndim or sizes_of(dims) else ()
    shape, strides = input.shape, list(input.stride())
    y = empty(shape, input.dtype, input)
    if y.numel():
        offset = 0
        for d in dims:
            if shape:
                offset += (shape[d] - 1) * strides[d]
                strides[d] = -strides[d]
        write_memory(y, _view(input, shape, strides, offset))
    return _FLIP.record(y, input, saved=(dims,))


def fliplr(input):
    """``flip`` along dimension 1."""
    if input.ndim < 2:
        raise RuntimeError("Input must be >= 2-d.")
    return flip(input, 1)


def flipud(input):
    """``flip`` along dimension 0."""
    if input.ndim < 1:
        raise RuntimeError("Input must be >= 1-d.")
    return flip(input, 0)


def repeat(input, *repeats):
    """A copy of ``input`` laid ``repeats[i]`` times along dimension i; more repeats than dimensions add leading ones.

    >>> import minigrad as mg
    >>> mg.tensor([1, 2]).repeat(2, 2)
    tensor([[1, 2, 1, 2],
            [1, 2, 1, 2]])
    """
    repeats = sizes_of(repeats)
    if len(repeats) < input.ndim:
        raise RuntimeError(
            "Number of dimensions of repeat dims can not be smaller than number of dimensions of tensor: "
            f"{list(repeats)} for shape {list(input.shape)}"
        )
    for times in repeats:
        if times < 0:
            raise RuntimeError(f"repeat: repeats must be non-negative, got {list(repeats)}")
    _check_dims(len(repeats), repeats)
    x = reshape(input, (1,) * (len(repeats) - input.ndim) + tuple(input.shape))
    for d in range(len(repeats) - 1, -1, -1):
        times, shape = repeats[d], tuple(x.shape)
        if times != 1:
            outer, inner = math.prod(shape[:d]), math.prod(shape[d:])
            x = expand(reshape(x, (outer, 1, inner)), (outer, times, inner))
            x = reshape(x, shape[:d] + (shape[d] * times,) + shape[d + 1 :])
    return x if x._base is None and x is not input else x.clone()


def tile(input, *dims):
    """``repeat``, with missing leading repeats taken as 1.

    >>> import minigrad as mg
    >>> mg.tensor([[1], [2]]).tile(2)
    tensor([[1, 1],
            [2, 2]])
    """
    dims = sizes_of(dims)
    return repeat(input, (1,) * (input.ndim - len(dims)) + dims)


# --- joining ----------------------------------------------------------------------------------------------------------


@functools.cache
def _cat_op(count):
    """The op that joins ``count`` tensors: one rule each, so that only the parts that need a gradient get one."""
    return Op("Cat", *[functools.partial(_cat_rule, i) for i in range(count)])


def _cat_rule(i, dy, dim, starts, shapes):
    shape = shapes[i]
    if len(shape) != dy.ndim:  # an empty vector beside tensors of more dimensions
        return filled(shape, 0, dy.dtype, dy)
    return narrow(dy, dim, starts[i], shape[dim])


@functools.cache
def _stack_op(count):
    return Op("Stack", *[lambda dy, dim, i=i: select(dy, dim, i) for i in range(count)])


def _tensor_list(tensors, name):
    if isinstance(tensors, Tensor) or not isinstance(tensors, (tuple, list)):
        raise TypeError(f"{name}(): argument 'tensors' must be tuple of Tensors, not {type(tensors).__name__}")
    for i, x in enumerate(tensors):
        if not isinstance(x, Tensor):
            raise TypeError(f"{name}(): expected Tensor as element {i} in argument 0, but got {type(x).__name__}")
    return tensors


def cat(tensors, dim=0):
    """Join tensors along an existing dimension; their other sizes must agree, dtypes are promoted.

    >>> import minigrad as mg
    >>> mg.cat([mg.tensor([[1, 2]]), mg.tensor([[3, 4]])], 1)
    tensor([[1, 2, 3, 4]])
    """
    tensors = _tensor_list(tensors, "cat")
    if not tensors:
        raise RuntimeError("cat(): expected a non-empty list of Tensors")
    shapes = [tuple(x.shape) for x in tensors]
    for i, shape in enumerate(shapes):
        if not shape:
            raise RuntimeError(f"zero-dimensional tensor (at position {i}) cannot be concatenated")
    first = next((shape for shape in shapes if shape != (0,)), (0,))  # empty vectors join with anything
    d = wrap_dim(dim, len(first))
    starts, total = [], 0
    for i, shape in enumerate(shapes):
        starts.append(total)
        if shape == (0,):
            continue
        if len(shape) != len(first):
            raise RuntimeError(
                f"Tensors must have same number of dimensions: got {len(first)} and {len(shape)} (tensor {i} has shape "
                f"{list(shape)})"
            )
        if shape[:d] != first[:d] or shape[d + 1 :] != first[d + 1 :]:
            bad = next(k for k in range(len(first)) if k != d and shape[k] != first[k])
            raise RuntimeError(
                f"Sizes of tensors must match except in dimension {d}. Expected size {first[bad]} but got size "
                f"{shape[bad]} for tensor number {i} in the list (shapes {list(first)} and {list(shape)})."
            )
        total += shape[d]
    dtype = common_dtype(*tensors)
    tensors = together(*tensors)
    y = empty(first[:d] + (total,) + first[d + 1 :], dtype, tensors[0])
    strides = y.stride()
    for x, start, shape in zip(tensors, starts, shapes):
        if shape != (0,):
            write_memory(_view(y, shape, strides, start * strides[d]), x)
    for x in tensors:
        if x.requires_grad:
            parts = [cast(x, dtype) for x in tensors]
            return _cat_op(len(parts)).record(y, *parts, saved=(d, tuple(starts), tuple(shapes)))
    return y


concat = concatenate = cat


def stack(tensors, dim=0):
    """Join tensors of one shape along a new dimension.

    >>> import minigrad as mg
    >>> mg.stack([mg.tensor([1, 2]), mg.tensor([3, 4])], 1)
    tensor([[1, 3],
            [2, 4]])
    """
    tensors = _tensor_list(tensors, "stack")
    if not tensors:
        raise RuntimeError("stack expects a non-empty TensorList")
    shape = tuple(tensors[0].shape)
    for i, x in enumerate(tensors):
        if x.shape != shape:
            raise RuntimeError(
                f"stack expects each tensor to be equal size, but got {list(shape)} at entry 0 and {list(x.shape)} at "
                f"entry {i}"
            )
    d = wrap_dim(dim, len(shape) + 1)
    _check_dims(len(shape) + 1, shape)
    dtype = common_dtype(*tensors)
    tensors = together(*tensors)
    y = empty(shape[:d] + (len(tensors),) + shape[d:], dtype, tensors[0])
    strides = y.stride()
    rest, step = strides[:d] + strides[d + 1 :], strides[d]
    for i, x in enumerate(tensors):
        write_memory(_view(y, shape, rest, i * step), x)
    for x in tensors:
        if x.requires_grad:
            return _stack_op(len(tensors)).record(y, *[cast(x, dtype) for x in tensors], saved=(d,))
    return y


def _at_least(x, n):
    if x.ndim >= n:
        return x
    return reshape(x, (1,) * (n - x.ndim) + tuple(x.shape))


def hstack(tensors):
    """``cat`` along dimension 1 (0 for vectors; 0-d tensors count as vectors)."""
    tensors = [_at_least(x, 1) for x in _tensor_list(tensors, "hstack")]
    if not tensors:
        raise RuntimeError("hstack expects a non-empty TensorList")
    return cat(tensors, 0 if tensors[0].ndim == 1 else 1)


def vstack(tensors):
    """``cat`` along dimension 0; vectors count as rows."""
    tensors = [_at_least(x, 2) for x in _tensor_list(tensors, "vstack")]
    if not tensors:
        raise RuntimeError("vstack expects a non-empty TensorList")
    return cat(tensors, 0)


row_stack = vstack


# --- parts ------------------------------------------------------------------------------------------------------------


def select(input, dim, index):
    """The slice at ``index`` of dimension ``dim``, without that dimension; a view.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).select(1, 0)
    tensor([1, 3])
    """
    shape, strides = tuple(input.shape), input.stride()
    if not shape:
        raise IndexError("select() cannot be applied to a 0-dim tensor.")
    d, i = wrap_dim(dim, len(shape)), operator.index(index)
    size = shape[d]
    if not -size <= i < size:
        raise IndexError(f"select(): index {i} out of range for tensor of size {list(shape)} at dimension {d}")
    if i < 0:
        i += size
    rest = shape[:d] + shape[d + 1 :]
    y = _view(input, rest, strides[:d] + strides[d + 1 :], i * strides[d])
    if input.requires_grad:
        if not input.is_contiguous():
            strides = row_major(shape)
        record_slice(y, input, shape, rest, strides[:d] + strides[d + 1 :], i * strides[d])
    return y


def narrow(input, dim, start, length):
    """``length`` slices of dimension ``dim`` from ``start`` on; a view.

    >>> import minigrad as mg
    >>> mg.arange(5).narrow(0, 1, 3)
    tensor([1, 2, 3])
    """
    shape, strides = tuple(input.shape), input.stride()
    if not shape:
        raise RuntimeError("narrow() cannot be applied to a 0-dim tensor.")
    d, first, length = wrap_dim(dim, len(shape)), operator.index(start), operator.index(length)
    size = shape[d]
    if length < 0:
        raise RuntimeError("narrow(): length must be non-negative.")
    if not -size <= first <= size:
        raise IndexError(f"Dimension out of range (expected to be in range of [{-size}, {size}], but got {first})")
    if first < 0:
        first += size
    if first + length > size:
        raise RuntimeError(f"start ({first}) + length ({length}) exceeds dimension size ({size}).")
    out = shape[:d] + (length,) + shape[d + 1 :]
    y = _view(input, out, strides, first * strides[d])
    if input.requires_grad:
        if not input.is_contiguous():
            strides = row_major(shape)
        record_slice(y, input, shape, out, strides, first * strides[d])
    return y


def _split_backward(node, grads):
    dim, shapes, dtype = node.saved_values()
    if isinstance(grads, Tensor):
        return grads
    like = next(g for g in grads if g is not None)
    parts = [filled(shape, 0, dtype, like) if g is None else g for g, shape in zip(grads, shapes)]
    return cat(parts, dim)


def _unbind_backward(node, grads):
    dim, shape, dtype = node.saved_values()
    if isinstance(grads, Tensor):
        return unsqueeze(grads, dim)
    like = next(g for g in grads if g is not None)
    return stack([filled(shape, 0, dtype, like) if g is None else g for g in grads], dim)


_SPLIT = Op("Split", backward=_split_backward)
_UNBIND = Op("Unbind", backward=_unbind_backward)


def split(input, split_size_or_sections, dim=0):
    """Views of consecutive parts along ``dim``: of one size (the last may be smaller) or of a list of sizes.

    >>> import minigrad as mg
    >>> mg.arange(5).split(2)
    (tensor([0, 1]), tensor([2, 3]), tensor([4]))
    """
    shape, strides = tuple(input.shape), input.stride()
    if not shape:
        raise RuntimeError("split expects at least a 1-dimensional tensor")
    d = wrap_dim(dim, len(shape))
    size = shape[d]
    if isinstance(split_size_or_sections, (tuple, list)):
        sizes = sizes_of((split_size_or_sections,))
        if sum(sizes) != size or any(s < 0 for s in sizes):
            raise RuntimeError(
                f"split_with_sizes expects split_sizes to be non-negative and to sum exactly to {size} (input tensor's "
                f"size at dimension {d}), but got split_sizes={list(sizes)}"
            )
    else:
        step = operator.index(split_size_or_sections)
        if step < 0:
            raise RuntimeError(f"split expects split_size be non-negative, but got split_size={step}")
        if step == 0 and size:
            raise RuntimeError(f"split_size can only be 0 if dimension size is 0, but got dimension size of {size}")
        sizes = [step] * (size // step) + ([size % step] if size % step else []) if size else [0]
    parts, shapes, start = [], [], 0
    for length in sizes:
        shapes.append(shape[:d] + (length,) + shape[d + 1 :])
        parts.append(_view(input, shapes[-1], strides, start * strides[d]))
        start += length
    parts = tuple(parts)
    if input.requires_grad and parts:
        _SPLIT.record_outputs(parts, (input,), saved=(d, tuple(shapes), input.dtype))
    return parts


def chunk(input, chunks, dim=0):
    """At most ``chunks`` views of equal parts along ``dim``; the last may be smaller.

    >>> import minigrad as mg
    >>> mg.arange(5).chunk(2)
    (tensor([0, 1, 2]), tensor([3, 4]))
    """
    if input.ndim == 0:
        raise RuntimeError("chunk expects at least a 1-dimensional tensor")
    if chunks <= 0:
        raise RuntimeError(f"chunk expects `chunks` to be greater than 0, got: {chunks}")
    size = input.shape[wrap_dim(dim, input.ndim)]
    if size == 0:
        return split(input, [0] * chunks, dim)
    return split(input, -(-size // chunks), dim)


def unbind(input, dim=0):
    """All slices along ``dim``: a tuple of views without that dimension.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).unbind(1)
    (tensor([1, 3]), tensor([2, 4]))
    """
    shape, strides = tuple(input.shape), input.stride()
    if not shape:
        raise IndexError("Dimension specified as 0 but tensor has no dimensions")
    d = wrap_dim(dim, len(shape))
    rest, steps, step = shape[:d] + shape[d + 1 :], strides[:d] + strides[d + 1 :], strides[d]
    parts = tuple([_view(input, rest, steps, i * step) for i in range(shape[d])])
    if parts and input.requires_grad:
        _UNBIND.record_outputs(parts, (input,), saved=(d, rest, input.dtype))
    return parts


def diagonal(input, offset=0, dim1=0, dim2=1):
    """The diagonal of two dimensions as the last dimension; a view. ``offset`` > 0: above the main diagonal.

    >>> import minigrad as mg
    >>> mg.arange(9).reshape(3, 3).diagonal(1)
    tensor([1, 5])
    """
    shape, n = tuple(input.shape), input.ndim
    a, b = wrap_dim(dim1, n), wrap_dim(dim2, n)
    if a == b or n < 2:
        raise RuntimeError(f"diagonal dimensions cannot be identical {dim1}, {dim2}")
    length = max(0, min(shape[a], shape[b] - offset) if offset >= 0 else min(shape[a] + offset, shape[b]))

    def region(strides):
        start = (offset * strides[b] if offset >= 0 else -offset * strides[a]) if length else 0
        return tuple([s for d, s in enumerate(strides) if d not in (a, b)] + [strides[a] + strides[b]]), start

    out = tuple([s for d, s in enumerate(shape) if d not in (a, b)] + [length])
    y = _view(input, out, *region(input.stride()))
    return record_slice(y, input, shape, out, *region(row_major(shape))) if input.requires_grad else y


def as_strided(input, size, stride, storage_offset=None):
    """A view of ``input``'s memory by shape, strides and offset (in elements of its storage).

    It may overlap itself but must lie within the memory of ``input``, or of the tensor that ``input`` is a view of.

    >>> import minigrad as mg
    >>> mg.arange(4).as_strided((3, 2), (1, 1))
    tensor([[0, 1],
            [1, 2],
            [2, 3]])
    """
    size, stride = sizes_of((size,)), sizes_of((stride,))
    if len(size) != len(stride):
        raise RuntimeError(f"mismatch in length of strides and shape: {list(stride)} and {list(size)}")
    if any(s < 0 for s in stride):
        raise RuntimeError(f"as_strided: Negative strides are not supported at the moment, got strides: {list(stride)}")
    if any(s < 0 for s in size):
        raise RuntimeError(f"as_strided: negative size in {list(size)}")
    _check_dims(len(size), size)
    if math.prod(size) >> 60:
        raise RuntimeError(f"as_strided: a tensor of shape {list(size)} has too many elements")
    start = input.storage_offset()
    first = start if storage_offset is None else operator.index(storage_offset)
    last = first + sum((n - 1) * s for n, s in zip(size, stride)) if 0 not in size else first - 1
    base = input
    if not (input.is_contiguous() and start <= first and last < start + input.numel()) and input._base is not None:
        base = input._base
        start = base.storage_offset()
    reach = sum((n - 1) * s for n, s in zip(base.shape, base.stride())) + 1 if base.numel() else 0
    if first < start or last >= start + reach:
        raise RuntimeError(
            f"setStorage: sizes {list(size)}, strides {list(stride)}, storage offset {first}: elements {first} to "
            f"{last} are out of bounds for memory from {start} to {start + reach - 1}"
        )
    y = _view(base, size, stride, first - start)
    if base.requires_grad:
        base_strides = None if base.is_contiguous() else base.stride()
        if base_strides is not None:
            _positions(size, stride, first - start, tuple(base.shape), base_strides)  # refuses memory between elements
        AS_STRIDED.record(y, base, saved=(size, stride, first - start, tuple(base.shape), base_strides))
    return y
