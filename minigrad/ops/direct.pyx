# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reductions of a plain layout, without the planning that the others need: for small tensors it would be most of them.

DESIGN
a. The same kernels in the same units as ``reduce.py`` would call, so the bits are the same; what is not contiguous, and
   a sum of more than one unit, is left to it (``None``).
b. The gradient of ``sum()`` is a broadcast view of one number; when backward is recorded, ``Tensor.expand``, which is.
"""

from .._engine cimport (
    Kernel, Op, Tensor, grad_enabled, needs_grad, new_like, new_tensor, record, same_shape, shape_tuple, strided_view,
)
from .._launch cimport launch
from .._record cimport describe
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
        divide(y, y, x.count)
    if grad_enabled() and needs_grad(x):
        record(MEAN if mean else TOTAL, y, (x,), (shape_tuple(x), x.count))
    return y


cdef void divide_kernel(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    if dims[1]:
        (<float *>bufs[0])[0] = (<float *>bufs[1])[0] / <float>dims[0]
    else:
        (<double *>bufs[0])[0] = (<double *>bufs[1])[0] / <double>dims[0]


describe(divide_kernel, "divide", 2, 2, 0)


cdef int divide(Tensor y, Tensor x, Py_ssize_t n) except -1:
    """y = x / n, both of one element."""
    cdef void *bufs[2]
    cdef Py_ssize_t[2] dims
    bufs[0], bufs[1], dims[0], dims[1] = y.ptr, x.ptr, n, y.dt == F32
    return launch(divide_kernel, bufs, dims, NULL, 1, 0)


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
    divide(g, dy, n)
    return dsum_all(g, shape, n)


def rows(Kernel kernel not None, Py_ssize_t dim, Tensor a not None, Tensor b=None):
    """y = kernel(a[, b]) for each row, y (..., n) as the inputs, or None unless ``dim`` is the last of contiguous ones."""
    cdef Tensor y
    cdef void *bufs[3]
    cdef Py_ssize_t n
    if not a.contiguous or a.nd == 0 or dim != a.nd - 1 or a.count == 0 or CATEGORY[a.dt] != 2:
        return None
    if b is not None and (not b.contiguous or b.dt != a.dt or not same_shape(a, b)):
        return None
    n = a.shape_[a.nd - 1]
    y = new_like(a, a.dt)
    bufs[0], bufs[1], bufs[2] = y.ptr, a.ptr, NULL if b is None else b.ptr
    launch(kernel.find(a.dt, a.dt), bufs, &n, NULL, a.count // n, a.count * kernel.cost)
    return y


cdef Op TOTAL = Op("Sum", dsum_all), MEAN = Op("Mean", dmean_all)
