"""Tensors over memory: new ones, aliases and views; shapes and how they broadcast."""

cdef Storage NOTHING = new_storage(0)


cdef Tensor new_tensor(int dt, int ndim, Py_ssize_t *shape, Storage on):
    """An uninitialised contiguous tensor, on the device of ``on`` (None: the CPU)."""
    return new_on(dt, ndim, shape, -1 if on is None else on.device)


cdef Tensor new_on(int dt, int ndim, Py_ssize_t *shape, int device):
    cdef Tensor t = <Tensor>Tensor.__new__(Tensor)
    cdef Py_ssize_t n = 1
    cdef int i
    for i in range(ndim - 1, -1, -1):
        t.shape_[i] = shape[i]
        t.stride_[i] = n
        if shape[i] > 1 and n > (<Py_ssize_t>1 << 56) // shape[i]:
            raise MemoryError(f"cannot allocate a tensor of shape {tuple([shape[j] for j in range(ndim)])}")
        n *= shape[i]
    # strides of an empty tensor are those of its shape with 1 for 0, as in PyTorch
    if n == 0:
        n = 1
        for i in range(ndim - 1, -1, -1):
            t.stride_[i] = n
            n *= shape[i] if shape[i] > 0 else 1
        n = 0
    t.dt, t.nd, t.count, t.contiguous = dt, ndim, n, True
    t.storage = new_storage(n * ITEMSIZE[dt]) if device < 0 else new_storage(n * ITEMSIZE[dt], device)
    t.ptr = t.storage.ptr
    return t


cdef Tensor new_like(Tensor x, int dt):
    return new_on(dt, x.nd, x.shape_, x.storage.device)


cdef Tensor alias(Tensor x):
    """A tensor over the same memory, without history."""
    cdef Tensor t = <Tensor>Tensor.__new__(Tensor)
    t.storage, t.ptr, t.dt, t.nd = x.storage, x.ptr, x.dt, x.nd
    t.count, t.contiguous = x.count, x.contiguous
    cdef int i
    for i in range(x.nd):
        t.shape_[i], t.stride_[i] = x.shape_[i], x.stride_[i]
    return t


cdef Tensor strided_view(Tensor x, int ndim, Py_ssize_t *shape, Py_ssize_t *stride, Py_ssize_t offset):
    """A view with its own shape and strides, ``offset`` elements after x's first; not recorded."""
    cdef Tensor t = <Tensor>Tensor.__new__(Tensor)
    cdef Py_ssize_t n = 1, expected = 1
    cdef int i
    cdef bint contiguous = True
    for i in range(ndim):
        t.shape_[i] = shape[i]
        t.stride_[i] = stride[i]
        n *= shape[i]
    for i in range(ndim - 1, -1, -1):
        if shape[i] != 1:
            if stride[i] != expected:
                contiguous = False
            expected *= shape[i]
    t.storage, t.dt, t.nd, t.count = x.storage, x.dt, ndim, n
    t.contiguous = contiguous or n <= 1
    t.ptr = x.ptr + (offset * ITEMSIZE[x.dt] if n else 0)  # empty views stay inside the memory
    t.base = x if x.base is None else x.base
    t.history = t.base.history
    return t


cdef inline int check_writable(Tensor x) except -1:
    if x.storage.readonly:
        raise ValueError("this tensor shares read-only memory (a read-only NumPy array); clone() it before writing")
    return 0


cdef tuple shape_tuple(Tensor x):
    cdef tuple t = PyTuple_New(x.nd)
    cdef int i
    for i in range(x.nd):
        set_item(t, i, <Py_ssize_t>x.shape_[i])
    return t


cdef inline int set_item(tuple t, Py_ssize_t i, object value) except -1:
    """t[i] = value in a tuple that is being made."""
    Py_INCREF(value)
    PyTuple_SET_ITEM(t, i, value)
    return 0


cdef bint same_shape(Tensor a, Tensor b) noexcept:
    cdef int i
    if a.nd != b.nd:
        return False
    for i in range(a.nd):
        if a.shape_[i] != b.shape_[i]:
            return False
    return True


cdef int parse_shape(object sizes, Py_ssize_t *shape) except -1:
    """Fill ``shape`` from a sequence of ints; its length."""
    cdef int n = 0
    cdef Py_ssize_t size
    if len(sizes) > MAXDIM:
        raise ValueError(f"tensors have at most {MAXDIM} dimensions, got shape {tuple(sizes)}")
    for item in sizes:
        size = item.__index__() if not isinstance(item, int) else item
        if size < 0:
            raise RuntimeError(f"negative dimension {size} in shape {tuple(sizes)}")
        shape[n] = size
        n += 1
    return n


cdef int broadcast(Tensor a, Tensor b, Py_ssize_t *shape) except -1:
    """Fill the broadcast shape; its length."""
    cdef int n = a.nd if a.nd > b.nd else b.nd, i
    cdef Py_ssize_t p, q
    for i in range(n):
        p = a.shape_[i - n + a.nd] if i >= n - a.nd else 1
        q = b.shape_[i - n + b.nd] if i >= n - b.nd else 1
        if p != q and p != 1 and q != 1:
            raise RuntimeError(
                f"The size of tensor a ({p}) must match the size of tensor b ({q}) at non-singleton dimension {i}: "
                f"shapes {shape_tuple(a)} and {shape_tuple(b)} do not broadcast"
            )
        shape[i] = q if p == 1 else p
    return n
