# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""sum() and mean() over everything: what small losses end with, without the planning that reductions need in general.

DESIGN
a. One unit of the same kernel that ``reduce.py`` would call, so the bits are the same; anything larger than a unit,
   not floating or not contiguous is left to it (``None``).
b. The gradient is a broadcast view of one number; when backward is recorded, ``Tensor.expand``, which is.
"""

from .._engine cimport Kernel, Op, Tensor, grad_enabled, needs_grad, new_tensor, record, shape_tuple, strided_view
from .._launch cimport launch
from .._storage cimport CATEGORY, F32

cdef Kernel SUM = Kernel("reduce.sum", 0.1)
cdef Py_ssize_t BLOCK = 32768  # reduce.BLOCK


cdef object run(Tensor x, bint mean):
    cdef Tensor y
    cdef void *bufs[2]
    cdef Py_ssize_t[4] dims
    if CATEGORY[x.dt] != 2 or not x.contiguous or x.count == 0 or x.count > BLOCK:
        return None
    y = new_tensor(x.dt, 0, NULL)
    bufs[0], bufs[1] = y.ptr, x.ptr
    dims[0], dims[1], dims[2], dims[3] = x.count, 1, x.count, 1
    launch(SUM.find(x.dt, x.dt), bufs, dims, NULL, 1, x.count * SUM.cost)
    if mean:
        divide(y, x.count)
    if grad_enabled() and needs_grad(x):
        record(MEAN if mean else TOTAL, y, (x,), (shape_tuple(x), x.count))
    return y


cdef int divide(Tensor y, Py_ssize_t n) noexcept:
    if y.dt == F32:
        (<float *>y.ptr)[0] /= <float>n
    else:
        (<double *>y.ptr)[0] /= <double>n
    return 0


def sum_all(Tensor x not None):
    """The sum of all elements, or None where ``reduce.sum`` must do it."""
    return run(x, False)


def mean_all(Tensor x not None):
    """The mean of all elements, or None where ``reduce.mean`` must do it."""
    return run(x, True)


def dsum_all(Tensor dy, tuple shape, Py_ssize_t n):
    """dx = dy, for every element."""
    cdef Py_ssize_t[8] size
    cdef Py_ssize_t[8] step
    cdef int i
    if grad_enabled():
        return dy.expand(shape)
    for i in range(len(shape)):
        size[i], step[i] = shape[i], 0
    return strided_view(dy, len(shape), size, step, 0)


def dmean_all(Tensor dy, tuple shape, Py_ssize_t n):
    """dx = dy / n, for every element."""
    cdef Tensor g
    if grad_enabled():
        return (dy / n).expand(shape)
    g = new_tensor(dy.dt, 0, NULL)
    if g.dt == F32:
        (<float *>g.ptr)[0] = (<float *>dy.ptr)[0]
    else:
        (<double *>g.ptr)[0] = (<double *>dy.ptr)[0]
    divide(g, n)
    return dsum_all(g, shape, n)


cdef Op TOTAL = Op("Sum", dsum_all), MEAN = Op("Mean", dmean_all)
