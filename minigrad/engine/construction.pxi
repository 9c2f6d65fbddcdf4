"""Tensors for Python code: empty, filled, over other people's memory."""


def empty(shape, dtype=None, Tensor like=None):
    """An uninitialised tensor of ``shape``, on the device of ``like``."""
    cdef Py_ssize_t[8] sizes
    cdef int n = parse_shape(shape, sizes), dt = default_float if dtype is None else dtype_code(dtype)
    return new_tensor(dt, n, sizes, None if like is None else like.storage)


def filled(shape, value, dtype=None, Tensor like=None):
    """A tensor of ``shape`` with every element ``value``, on the device of ``like``."""
    cdef Py_ssize_t[8] sizes
    cdef int n = parse_shape(shape, sizes), dt
    dt = dtype_code(dtype) if dtype is not None else (
        BOOL if isinstance(value, bool) else I64 if isinstance(value, int) else default_float)
    return full(dt, n, sizes, value, None if like is None else like.storage)


def from_buffer(array, name, shape, strides, bint writable):
    """A tensor over the memory of ``array`` (an ndarray of a supported, native dtype; strides in elements)."""
    cdef Storage s = lease(array, writable)
    cdef Tensor t = <Tensor>Tensor.__new__(Tensor), u
    if recorder is not None and recording():
        recorder.leased(s)
    cdef Py_ssize_t[8] sizes
    cdef Py_ssize_t[8] steps
    cdef int n = parse_shape(shape, sizes), i
    t.storage, t.ptr = s, s.ptr
    t.dt = DTYPE_NAMES.index(name)
    for i in range(n):
        steps[i] = strides[i]
    u = strided_view(t, n, sizes, steps, 0)
    u.base = None
    u.history = 0
    return u


def from_address(size_t address, int device, owner, dtype, shape, strides, bint writable):
    """A tensor over foreign memory on a device, that ``owner`` keeps alive (strides in elements, not negative)."""
    cdef Py_ssize_t[8] sizes
    cdef Py_ssize_t[8] steps
    cdef int n = parse_shape(shape, sizes), i
    cdef Py_ssize_t reach = 1
    cdef Tensor t = <Tensor>Tensor.__new__(Tensor), u
    t.dt = dtype_code(dtype)
    for i in range(n):
        steps[i] = strides[i]
        reach = reach + (sizes[i] - 1) * steps[i] if sizes[i] and reach else 0
    t.storage = foreign_storage(<void *>address, reach * ITEMSIZE[t.dt], device, writable, owner)
    t.ptr = <char *>address
    u = strided_view(t, n, sizes, steps, 0)
    u.base = None
    u.history = 0
    return u
