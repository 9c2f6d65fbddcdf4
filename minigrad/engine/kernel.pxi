"""Calling kernels: their C entry points by dtype and device."""

cdef enum:
    DEVICES = 16    # at most so many besides the CPU


@cython.final
cdef class Kernel:
    """A compiled kernel: C entry points by dtype, and an estimated cost in nanoseconds a unit of work."""

    def __init__(self, str name, double cost=0.15):
        self.name, self.cost = name, cost

    def __dealloc__(self):
        free(self.distant)

    cdef kernel_t find(self, int t, int u, Storage on) except NULL:
        """What to give to ``launch`` for dtypes t and u, where the memory is that of ``on``."""
        return entry_of(self, t, u, on.device)

    cdef kernel_t compiled(self, int t, int u) except NULL:
        cdef kernel_t f = <kernel_t><size_t>contract.address(self.name, DTYPE_NAMES[t], DTYPE_NAMES[u] if u != t else "")
        self.entry[8 * t + u] = f
        return f

    cdef kernel_t handle(self, int t, int u, int device) except NULL:
        cdef int at = 64 * device + 8 * t + u
        if device >= DEVICES:
            raise ValueError(f"{device_name(device)}: only {DEVICES} devices are supported")
        if self.distant == NULL:
            self.distant = <kernel_t *>calloc(64 * DEVICES, sizeof(kernel_t))
            if self.distant == NULL:
                raise MemoryError()
        if self.distant[at] == NULL:
            key = self.name, DTYPE_NAMES[t], DTYPE_NAMES[u] if u != t else ""
            self.distant[at] = <kernel_t>device_kernel(key[0], key[1], key[2], device)
            handles[<size_t>self.distant[at]] = key
        return self.distant[at]

    def __call__(self, tuple outputs, tuple inputs, tuple dims=(), tuple scalars=(), Py_ssize_t units=-1,
                 double work=-1, dtype=None, to=None):
        """Run on tensors: buffers, dims, scalars as the kernel lists them; all tensors contiguous or None, on one device.

        The kernel's T is ``dtype`` or the first output's, its U is ``to`` or T. ``work``: elementary operations.
        """
        cdef void *bufs[16]
        cdef Py_ssize_t[48] sizes
        cdef double[16] numbers
        cdef Py_ssize_t i = 0
        cdef Storage on = storage_among(outputs, inputs)
        if len(outputs) + len(inputs) > 16 or len(dims) > 48 or len(scalars) > 16:
            raise ValueError(f"kernel {self.name}: too many arguments")
        for item in outputs:
            bufs[i] = buffer_of(self, item, True, on)
            i += 1
        for item in inputs:
            bufs[i] = buffer_of(self, item, False, on)
            i += 1
        for i in range(len(dims)):
            sizes[i] = dims[i]
        for i in range(len(scalars)):
            numbers[i] = scalars[i]
        cdef int a = (<Tensor>outputs[0]).dt if dtype is None else dtype_code(dtype)
        cdef int b = a if to is None else dtype_code(to)
        if units < 0:
            units = (<Tensor>outputs[0]).count
        launch(self.find(a, b, on), bufs, sizes, numbers, units, (units if work < 0 else work) * self.cost)


cdef Storage storage_among(tuple outputs, tuple inputs):
    """The storage of the first tensor."""
    for item in outputs:
        if item is not None:
            return (<Tensor?>item).storage
    for item in inputs:
        if item is not None:
            return (<Tensor?>item).storage
    return NOTHING


cdef void *buffer_of(Kernel k, object item, bint output, Storage on) except? NULL:
    if item is None:
        return NULL
    cdef Tensor t = <Tensor?>item
    if not t.contiguous:
        raise ValueError(f"kernel {k.name}: tensors must be contiguous")
    if t.storage.device != on.device:
        refuse_mixed(on.device, t.storage.device)
    if output:
        check_writable(t)
    return t.ptr
