"""Tensors on other devices than the CPU: to, from and between them."""

cdef list landmarks = []    # by device: a storage without memory, to say where


cdef Storage landmark(int device):
    """A storage on ``device``, for whoever takes a storage to say where."""
    while device >= len(landmarks):
        landmarks.append(foreign_storage(NULL, 0, <int>len(landmarks), True, None))
    return NOTHING if device < 0 else <Storage>landmarks[device]


cdef int transfer(Tensor y, Tensor x) except -1:
    """y[...] = x from one device to another, by way of contiguous memory where they lie differently."""
    cdef Tensor a = to_contiguous(x), b = y
    cdef Py_ssize_t n = a.count * ITEMSIZE[a.dt]
    cdef int source = x.storage.device, target = y.storage.device
    if not y.contiguous or y.dt != a.dt or not same_shape(y, a):
        b = new_tensor(a.dt, a.nd, a.shape_, y.storage)
    if target < 0:
        fetch(b.ptr, a, n)
    else:
        copy_there(target, b.ptr, source, a.ptr, n)
    return 0 if b is y else copy_memory(y, b)


cdef int copy_there(int target, char *to, int source, char *p, Py_ssize_t n) except -1:
    """Copy n bytes to a device that is not the CPU."""
    cdef void *bufs[2]
    cdef Py_ssize_t[3] dims
    bufs[0], bufs[1], dims[0], dims[1], dims[2] = to, p, target, source, n
    return launch(COPY_THERE, bufs, dims, NULL, n, 0)


cdef int copy_distant(Tensor y, Tensor x) except -1:
    """y[...] = x, both contiguous, of one shape and dtype, on one device that is not the CPU."""
    return copy_there(y.storage.device, y.ptr, x.storage.device, x.ptr, y.count * ITEMSIZE[y.dt])


cdef int put(Tensor t, void *value) except -1:
    """Set all elements of a contiguous tensor that is not on the CPU."""
    cdef void *bufs[1]
    cdef Py_ssize_t[4] dims
    bufs[0], dims[0], dims[1], dims[2] = t.ptr, t.storage.device, ITEMSIZE[t.dt], t.count
    dims[3] = (<int64_t *>value)[0]
    return launch(FILL_THERE, bufs, dims, NULL, t.count, 0)


cdef int fetch(void *to, Tensor x, Py_ssize_t n) except -1:
    """Copy the first n bytes of x, which is not on the CPU, to host memory; what has gone wrong there is raised now."""
    if recorder is not None and recording():
        recorder.refuse(f"reads the value of a tensor on {device_name(x.storage.device)}")
    devices.download(x.storage.device, to, x.ptr, n)
    return devices.raise_errors(x.storage.device)


cdef Tensor on_host(Tensor x):
    """x itself if it is on the CPU, else a contiguous copy that is; not recorded."""
    if x.storage.device < 0:
        return x
    cdef Tensor y = new_tensor(x.dt, x.nd, x.shape_, None)
    copy_memory(y, x)
    return y


cdef Tensor beside(Tensor x, Storage on):
    """x itself if it is on the device of ``on``, else a contiguous copy that is; recorded."""
    if x.storage.device == on.device:
        return x
    cdef Tensor y = new_tensor(x.dt, x.nd, x.shape_, on)
    cdef Node node
    copy_memory(y, x)
    if mg_grad_off == 0 and needs_grad(x):
        node = push(MOVE_OP, y, edge_of(x))
        node.kept, node.kept0 = 1, x.storage.device
    return y


def _dmove(Tensor dy, int device):
    return beside(dy, landmark(device))


cdef Op MOVE_OP = Op("ToCopy", _dmove)


cdef int joins(Tensor x, Storage on) except -1:
    """Refuse a tensor that may not enter an operation on the device of ``on``: only one number may, from the CPU."""
    if x.nd != 0 or x.storage.device >= 0:
        refuse_mixed(on.device, x.storage.device)
    return 0


def together(*tensors):
    """The tensors on the one device that they are on; a 0-d tensor on the CPU follows the others, recorded."""
    cdef Tensor x
    cdef Storage on = None
    cdef bint mixed = False
    for x in tensors:
        if on is None or (on.device < 0 and x.storage.device >= 0):
            mixed = mixed or on is not None
            on = x.storage
        elif x.storage.device != on.device:
            mixed = True
    if not mixed:
        return tensors
    for x in tensors:
        if x.storage.device != on.device:
            joins(x, on)
    return tuple([beside(<Tensor>x, on) for x in tensors])


def move(Tensor x not None, Tensor like):
    """x on the device of ``like`` (None: the CPU): itself if it is there, else a contiguous copy; recorded."""
    return beside(x, NOTHING if like is None else like.storage)


def place(int device):
    """An empty tensor on a device, to say where (``like=``); None for the CPU, -1."""
    cdef Tensor t
    if device < 0:
        return None
    t = <Tensor>Tensor.__new__(Tensor)
    t.storage, t.ptr = landmark(device), NULL
    return t
