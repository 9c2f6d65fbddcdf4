# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reductions of a plain layout, without the planning that the others need: for small tensors it would be most of them.

DESIGN
a. The same kernels in the same units as ``reduce.py`` would call, so the bits are the same; what is not contiguous, and
   a sum of more than one unit, is left to it. ``sum`` and ``mean`` stand here whole, because a Python function in
   front costs as much as they do; ``reduce.py`` plugs in what does the rest.
b. The gradient of ``sum()`` is a broadcast view of one number; when backward is recorded, ``Tensor.expand``, which is.
"""

from .._engine cimport (
    Kernel, Node, Op, Tensor, edge_of, entry_of, grad_enabled, needs_grad, new_like, new_tensor, push, same_shape,
    scalar_tensor, shape_tuple, strided_view,
)
from .._launch cimport launch
from .._record cimport describe
from .._storage cimport CATEGORY, F32, refuse_mixed

cdef Kernel SUM = Kernel("reduce.sum_rows", 0.1), DIV = Kernel("elementwise.div")
cdef Py_ssize_t BLOCK = 32768  # reduce.BLOCK
cdef Py_ssize_t BLOCK_OF_MANY = 8192  # of a device of many processors: see reduce._block


cdef object run(Tensor x, bint mean):
    cdef Tensor y
    cdef Node node
    cdef void *bufs[2]
    cdef Py_ssize_t[4] dims
    if CATEGORY[x.dt] != 2 or not x.contiguous or x.count == 0 or x.count > (
            BLOCK if x.storage.device < 0 else BLOCK_OF_MANY):
        return None
    y = new_tensor(x.dt, 0, NULL, x.storage)
    bufs[0], bufs[1] = y.ptr, x.ptr
    dims[0], dims[1], dims[2], dims[3] = x.count, 1, x.count, 1
    launch(entry_of(SUM, x.dt, x.dt, x.storage.device), bufs, dims, NULL, 1, x.count * SUM.cost)
    if mean:
        divide(y, y, x.count)
    if grad_enabled() and needs_grad(x):
        node = push(MEAN if mean else TOTAL, y, edge_of(x))
        node.kept, node.kept0, node.kept1 = 2, shape_tuple(x), x.count
    return y


cdef void divide_kernel(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    if dims[1]:
        (<float *>bufs[0])[0] = (<float *>bufs[1])[0] / <float>dims[0]
    else:
        (<double *>bufs[0])[0] = (<double *>bufs[1])[0] / <double>dims[0]


describe(divide_kernel, "divide", 2, 2, 0)


cdef int divide(Tensor y, Tensor x, Py_ssize_t n) except -1:
    """y = x / n, both of one element."""
    cdef void *bufs[3]
    cdef Py_ssize_t[2] dims
    cdef Tensor count
    bufs[0], bufs[1], dims[0], dims[1] = y.ptr, x.ptr, n, y.dt == F32
    if y.storage.device >= 0:
        count = scalar_tensor(n, y.dt, y.storage)
        bufs[2], dims[0] = count.ptr, 0
        return launch(entry_of(DIV, y.dt, y.dt, y.storage.device), bufs, dims, NULL, 1, 0)
    return launch(divide_kernel, bufs, dims, NULL, 1, 0)


cdef object general_sum, general_mean


def plug(sum, mean):
    """Set what computes the sums and means that are not of everything in one unit: ``f(input, dim, keepdim, dtype)``."""
    global general_sum, general_mean
    general_sum, general_mean = sum, mean


def sum(input, dim=None, keepdim=False, *, dtype=None):
    """The sum over ``dim`` (an int, a tuple, or None for all dimensions).

    Integers and bools are summed in int64 unless ``dtype`` says otherwise; the sum of nothing is 0. Long float32 sums
    are added up in float64 from parts of 1024 elements.

    >>> import minigrad as mg
    >>> mg.sum(mg.tensor([[1., 2.], [3., 4.]]), 1)
    tensor([3., 7.])
    """
    if dim is None and dtype is None and not keepdim and isinstance(input, Tensor):
        y = run(<Tensor>input, False)
        if y is not None:
            return y
    return general_sum(input, dim, keepdim, dtype)


def mean(input, dim=None, keepdim=False, *, dtype=None):
    """The mean over ``dim`` (an int, a tuple, or None for all dimensions); of nothing it is nan.

    >>> import minigrad as mg
    >>> mg.mean(mg.tensor([[1., 2.], [3., 4.]]), 0)
    tensor([2., 3.])
    """
    if dim is None and dtype is None and not keepdim and isinstance(input, Tensor):
        y = run(<Tensor>input, True)
        if y is not None:
            return y
    return general_mean(input, dim, keepdim, dtype)


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
    g = new_tensor(dy.dt, 0, NULL, dy.storage)
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
    if b is not None and b.storage.device != a.storage.device:
        refuse_mixed(a.storage.device, b.storage.device)
    n = a.shape_[a.nd - 1]
    y = new_like(a, a.dt)
    bufs[0], bufs[1], bufs[2] = y.ptr, a.ptr, NULL if b is None else b.ptr
    launch(entry_of(kernel, a.dt, a.dt, a.storage.device), bufs, &n, NULL, a.count // n, a.count * kernel.cost)
    return y


cdef Op TOTAL = Op("Sum", dsum_all), MEAN = Op("Mean", dmean_all)
