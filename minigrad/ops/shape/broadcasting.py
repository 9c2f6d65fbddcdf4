"""Dimensions repeated without copying, and the shapes that tensors broadcast to."""

import math

from ..._engine import Op
from ..._engine import view as _view
from .sizes import broadcast_shapes, check_dims, sizes_of


def sum_to(dy, shape):
    """``reduce.sum_to``, which needs this file."""
    from ..reduce import sum_to

    return sum_to(dy, shape)


_EXPAND = Op("Expand", lambda dy, shape: sum_to(dy, shape))


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
    check_dims(len(target), target)
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
