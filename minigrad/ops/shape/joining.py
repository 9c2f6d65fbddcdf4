"""Joining tensors and taking them apart again, each of which is the other's derivative."""

import functools
import operator

from ..._engine import Op, Tensor, common_dtype, empty, filled, together, write_memory
from ..._engine import _cast as cast
from ..._engine import view as _view
from .parts import narrow, select
from .sizes import check_dims, sizes_of, wrap_dim
from .views import reshape, unsqueeze


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
    check_dims(len(shape) + 1, shape)
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
