# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Reductions of a plain layout, without the planning that the others need: for small tensors it would be most of them.

DESIGN
a. The same kernels in the same units as ``reduce`` would call, so the bits are the same; what is not contiguous, and a
   sum of more than one unit, is left to it. ``sum`` and ``mean`` stand here whole, because a Python function in front
   costs as much as they do; ``reduce`` plugs in what does the rest.
b. ``fold`` calls the twins that take x with any strides; the rest of a reduction's plan is ``reduce``'s.
c. The gradient of ``sum()`` is a broadcast view of one number; when backward is recorded, ``Tensor.expand``, which is.
"""

from .._engine cimport (
    Kernel, Node, Op, Tensor, edge_of, entry_of, grad_enabled, needs_grad, new_like, new_tensor, push, same_shape,
    scalar_tensor, shape_tuple, strided_view,
)
from .._launch cimport launch
from .._record cimport describe
from .._storage cimport CATEGORY, F32, dtype_code, refuse_mixed

cdef Kernel SUM = Kernel("reduce.sum_rows", 0.1), DIV = Kernel("elementwise.div")
cdef Py_ssize_t BLOCK = 32768  # reduce.plan.BLOCK
cdef Py_ssize_t BLOCK_OF_MANY = 8192  # of a device of many processors: see reduce.plan


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


cdef Kernel COPY_STRIDED = Kernel("elementwise.copy_strided")


def fold(Kernel kernel not None, tuple outputs, Tensor x not None, tuple head, Py_ssize_t units, Py_ssize_t work, to=None):
    """Run a ``_strided`` reduction of x into contiguous outputs; head = (n, inner, block, blocks, tile).

    False, and nothing done, where a contiguous copy is better: on other devices, and where x runs along an outer
    dimension, which only a copy turns in blocks.
    """
    cdef void *bufs[4]
    cdef Py_ssize_t[24] dims
    cdef Py_ssize_t size, step, n = 1, stride = 1
    cdef int d, i, k = 0, t = (<Tensor>outputs[0]).dt if to is None else dtype_code(to)
    if x.storage.device >= 0:
        return False
    for d in range(x.nd - 1, -1, -1):  # from the innermost dimension on, merged where one goes on in the next
        size, step = x.shape_[d], x.stride_[d]
        if size == 1:
            continue
        if n == 1:
            n, stride = size, step
        elif k == 0 and step == n * stride:
            n *= size
        elif k > 0 and step == dims[8] * dims[9]:
            dims[8] *= size
        else:
            for i in range(2 * k - 1, -1, -1):
                dims[10 + i] = dims[8 + i]
            dims[8], dims[9] = size, step
            k += 1
            if 0 < step < stride:
                return False
    for i in range(5):
        dims[i] = head[i]
    dims[5], dims[6], dims[7] = k, n, stride
    for i in range(len(outputs)):
        bufs[i] = (<Tensor>outputs[i]).ptr
    i = len(outputs)
    bufs[i], bufs[i + 1] = x.ptr, <void *>entry_of(COPY_STRIDED, x.dt, x.dt, -1)
    launch(entry_of(kernel, x.dt, t, -1), bufs, dims, NULL, units, 2 * work * kernel.cost)
    return True


cdef Op TOTAL = Op("Sum", dsum_all), MEAN = Op("Mean", dmean_all)
