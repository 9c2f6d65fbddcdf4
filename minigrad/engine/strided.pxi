"""Kernels over operands of any strides, and copies within and between layouts."""


cdef int plan(int nop, PyObject **ops, int ndim, Py_ssize_t *shape, Py_ssize_t *dims) except -1:
    """Order and collapse dimensions, write the ``dims`` of a strided kernel (operand 0 is the output); the units.

    dims = [k, n, inner stride of each operand, then for each of k outer dimensions: size, stride of each operand]. The
    output's strides descend; but the last outer dimension is the one along which an input runs that is transposed.
    """
    cdef Py_ssize_t size[8]
    cdef Py_ssize_t stride[8][4]  # of at most four operands
    cdef int d, e, o, count = 0, m = 0, skip
    cdef Py_ssize_t units = 1
    cdef bint merge
    for d in range(ndim):
        if shape[d] == 1:
            continue
        size[count] = shape[d]
        for o in range(nop):
            skip = ndim - (<Tensor>ops[o]).nd
            if d < skip or (<Tensor>ops[o]).shape_[d - skip] == 1:
                stride[count][o] = 0
            else:
                stride[count][o] = (<Tensor>ops[o]).stride_[d - skip]
        e = count
        while e > 0 and stride[e - 1][0] < stride[e][0]:
            swap(nop, size, stride, e - 1, e)
            e -= 1
        count += 1
    for d in range(count):
        merge = m > 0
        if merge:
            for o in range(nop):
                if stride[m - 1][o] != stride[d][o] * size[d]:
                    merge = False
        if merge:
            size[m - 1] *= size[d]
            stride[m - 1] = stride[d]
        else:
            size[m], stride[m] = size[d], stride[d]
            m += 1
    if m == 0:
        size[0] = 1
        for o in range(nop):
            stride[0][o] = 1
        m = 1
    for o in range(1, nop):
        e = -1
        for d in range(m - 1):
            if 0 < stride[d][o] < stride[m - 1 if e < 0 else e][o]:
                e = d
        if e >= 0:
            for d in range(e, m - 2):
                swap(nop, size, stride, d, d + 1)
            break
    dims[0] = m - 1
    dims[1] = size[m - 1]
    for o in range(nop):
        dims[2 + o] = stride[m - 1][o]
    for d in range(m - 1):
        dims[2 + nop + d * (nop + 1)] = size[d]
        units *= size[d]
        for o in range(nop):
            dims[3 + nop + d * (nop + 1) + o] = stride[d][o]
    return units


cdef void swap(int nop, Py_ssize_t *size, Py_ssize_t[4] *stride, int d, int e) noexcept:
    """Exchange two dimensions of a plan."""
    cdef int o
    size[d], size[e] = size[e], size[d]
    for o in range(nop):
        stride[d][o], stride[e][o] = stride[e][o], stride[d][o]


cdef int copy_strided(Tensor y, Tensor x, PyObject **ops, void **bufs) except -1:
    """y[...] = x on the CPU, of one dtype."""
    cdef Py_ssize_t[64] dims
    cdef Py_ssize_t units = plan(2, ops, y.nd, y.shape_, dims)
    return launch(entry_of(COPY_STRIDED, y.dt, y.dt, -1), bufs, dims, NULL, units, 2 * y.count * COPY.cost)


cdef int run_strided(Kernel k, int dt, int to, int nop, PyObject **ops, void **bufs, Tensor y) except -1:
    """Run the elementwise kernel ``k`` on operands of any strides that broadcast to ``y``, one of them: bufs[0]."""
    cdef Py_ssize_t[64] dims
    cdef Py_ssize_t units
    cdef Kernel strided = UNARY if nop == 2 else BINARY
    cdef int device = y.storage.device
    if y.count:
        bufs[nop] = <void *>entry_of(k, dt, to, device)
        bufs[nop + 1] = <void *>entry_of(COPY_STRIDED, dt, dt, device)
        bufs[nop + 2] = <void *>entry_of(COPY_STRIDED, to, to, device)
        units = plan(nop, ops, y.nd, y.shape_, dims)
        launch(entry_of(strided, dt, to, device), bufs, dims, NULL, units, 2 * y.count * k.cost)
    return 0


# For any strides: they call a flat kernel, and COPY_STRIDED, by their addresses, which follow the operands.
cdef Kernel UNARY = Kernel("elementwise.strided_unary"), BINARY = Kernel("elementwise.strided_binary")
cdef Kernel COPY_STRIDED = Kernel("elementwise.copy_strided"), COPY = Kernel("elementwise.copy", 0.1)
cdef Kernel FILL = Kernel("elementwise.fill", 0.05)


cdef void copy_bytes(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    memcpy(bufs[0], bufs[1], dims[0])


describe(copy_bytes, "copy_bytes", 2, 1, 0)


cdef bint is_one(Tensor x) noexcept:
    """Whether all elements of x are one and the same."""
    cdef int i
    for i in range(x.nd):
        if x.shape_[i] != 1 and x.stride_[i] != 0:
            return False
    return True


cdef int copy_memory(Tensor y, Tensor x) except -1:
    """y[...] = x, with broadcasting and conversion; y and x do not overlap unless they are the same."""
    cdef void *bufs[5]
    cdef Py_ssize_t[1] dims
    cdef PyObject *ops[2]
    if y.count == 0:
        return 0
    if y.storage.device != x.storage.device:
        return transfer(y, x)
    bufs[0], bufs[1] = y.ptr, x.ptr
    if y.contiguous and x.contiguous and same_shape(x, y):
        if y.storage.device >= 0 and y.dt == x.dt:
            return copy_distant(y, x)
        if y.dt == x.dt and y.count * ITEMSIZE[y.dt] <= 4096:
            if recorder is not None and recording():
                dims[0] = y.count * ITEMSIZE[y.dt]
                recorder.kernel(copy_bytes, bufs, dims, NULL, 1, 0)
            memcpy(y.ptr, x.ptr, y.count * ITEMSIZE[y.dt])
            return 0
        dims[0] = 0
        launch(entry_of(COPY, x.dt, y.dt, y.storage.device), bufs, dims, NULL, y.count, y.count * COPY.cost)
        return 0
    if y.contiguous and y.dt == x.dt and is_one(x):
        launch(entry_of(FILL, y.dt, y.dt, y.storage.device), bufs, NULL, NULL, y.count, y.count * FILL.cost)
        return 0
    ops[0], ops[1] = <PyObject *>y, <PyObject *>x
    if x.dt == y.dt and x.storage.device < 0:
        return copy_strided(y, x, ops, bufs)
    return run_strided(COPY, x.dt, y.dt, 2, ops, bufs, y)


cdef Tensor to_contiguous(Tensor x):
    """x itself if contiguous, else a fresh contiguous copy; not recorded."""
    if x.contiguous:
        return x
    cdef Tensor y = new_like(x, x.dt)
    copy_memory(y, x)
    return y


cdef Tensor in_order(Tensor x, Tensor y):
    """x itself if it is small or lies in the order of y, to which it broadcasts; else a copy that does; not recorded.

    Tiles of two inputs and an output lie too far apart for memory beyond the caches, which wants long runs: first
    a blocked copy and then a loop over rows takes half the time there.
    """
    cdef int[8] order
    cdef Py_ssize_t[8] stride
    cdef Py_ssize_t last = 0, n = 1
    cdef int d, e, skip = y.nd - x.nd
    cdef bint turned = False
    if x.count * ITEMSIZE[x.dt] < 1 << 23 or (x.contiguous and y.contiguous):
        return x
    for d in range(x.nd):  # by descending stride of y
        e = d
        while e > 0 and y.stride_[skip + order[e - 1]] < y.stride_[skip + d]:
            order[e] = order[e - 1]
            e -= 1
        order[e] = d
    for e in range(x.nd - 1, -1, -1):
        d = order[e]
        stride[d] = n
        n *= x.shape_[d]
        if x.shape_[d] > 1:
            if x.stride_[d] == 0:
                return x
            turned = turned or x.stride_[d] < last
            last = x.stride_[d]
    if not turned:
        return x
    cdef Tensor copy = strided_view(new_tensor(x.dt, 1, &x.count, x.storage), x.nd, x.shape_, stride, 0)
    copy_memory(copy, x)
    return copy
