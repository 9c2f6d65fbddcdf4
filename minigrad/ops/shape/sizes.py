"""Shapes and dims as tuples of ints: no tensors here."""

import operator

MAXDIM = 8


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


def check_dims(ndim, sizes):
    if ndim > MAXDIM:
        raise ValueError(f"tensors have at most {MAXDIM} dimensions, got {list(sizes)}")


def distinct_dims(dim, ndim):
    """One dim or several as a tuple of non-negative, distinct dims."""
    dims = tuple([wrap_dim(d, ndim) for d in (dim if isinstance(dim, (tuple, list)) else (dim,))])
    if len(set(dims)) != len(dims):
        raise RuntimeError(
            f"dim {next(d for d in dims if dims.count(d) > 1)} appears multiple times in the list of dims"
        )
    return dims


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
