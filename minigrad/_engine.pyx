# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""The latency path: tensors, kernel calls and the tape.

DESIGN
a. A ``Tensor`` is dtype, shape and strides over a ``Storage``; its operators are C slots that allocate an output, call
   one kernel by pointer and, when recording, add one ``Node``. Everything slower than that lives in ``ops/`` and
   ``tensor.py`` and is attached to the class by ``add_methods``.
b. A ``Node`` holds where gradients go (edges: a leaf tensor, a node or None an input), what the rule needs (kept) and
   a sequence number; two of each in fields of their own, since two tuples cost as much as a small operation. Saved
   tensors are aliases: they share storage but are not the tensors the user holds, so no reference cycle can arise;
   each remembers the storage version that it expects.
c. A rule is a Python callable ``rule(dy, *saved)``, one per input, called only if that input needs a gradient. It is
   written with the same ops, so ``create_graph`` records it. Gradients of broadcast inputs are summed here.
d. The backward walk has a file of its own, _walk.pyx; it plugs itself in as ``Tensor.backward``.
e. An in-place op that must be differentiated is computed out of place and written back; the history of the tensor
   (and of the base, through a view) is rewritten. Views notice by ``history`` and rebuild their own on next use.
f. Kernels run through ``launch`` (_launch.pyx), which decides about threads.
g. A tensor may live on another device (``storage.device`` >= 0). Operations do not differ: ``Kernel.find`` returns that
   device's twin of a kernel and ``launch`` runs it. Only what touches memory itself (``fill``, ``copy_memory``,
   ``value_at``, see "other devices") looks at the device, and what takes several tensors, to refuse a mixture.
"""

cimport cython
from cpython.object cimport PyObject, Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import weakref
from types import MethodType

from . import _storage
from ._storage cimport (
    BOOL, CATEGORY, DTYPES, F32, F64, I8, I16, I32, I64, ITEMSIZE, MAXDIM, U8, Storage, device_kernel, device_name,
    device_object, devices, dtype, dtype_code, foreign_storage, lease, new_storage, promote, refuse_mixed,
)
from ._launch cimport COPY_THERE, FILL_THERE, kernel_t, launch
from ._plug cimport plugs
from ._record cimport describe, handles, recorder, recording
from ._hooks import add_hook
from .kernels import contract

cdef extern from "Python.h":
    void PyType_Modified(type t)

cdef extern from *:
    """
    #ifdef _MSC_VER
    static __declspec(thread) int mg_grad_off = 0;
    #else
    static __thread int mg_grad_off = 0;
    #endif
    #define mg_type_dict(t) Py_NewRef(((PyTypeObject *)(t))->tp_dict)
    """
    int mg_grad_off
    object mg_type_dict(type t)

DTYPE_NAMES = contract.DTYPES

cdef enum:
    DEVICES = 16    # at most so many besides the CPU


# --- calling kernels --------------------------------------------------------------------------------------------------

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


# --- tensors ----------------------------------------------------------------------------------------------------------


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


# --- strided iteration ------------------------------------------------------------------------------------------------


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
    if y.count:
        bufs[nop], bufs[nop + 1] = <void *>entry_of(k, dt, to, y.storage.device), <void *>entry_of(COPY_STRIDED, dt, dt, y.storage.device)
        bufs[nop + 2] = <void *>entry_of(COPY_STRIDED, to, to, y.storage.device)
        units = plan(nop, ops, y.nd, y.shape_, dims)
        launch(entry_of(strided, dt, to, y.storage.device), bufs, dims, NULL, units, 2 * y.count * k.cost)
    return 0


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


cdef Tensor full(int dt, int ndim, Py_ssize_t *shape, object value, Storage on):
    cdef Tensor t = new_tensor(dt, ndim, shape, on)
    fill(t, value)
    return t


cdef int store(char *p, int dt, object value) except -1:
    """*p = value, refusing integers that do not fit."""
    cdef int64_t i
    if dt == F32:
        (<float *>p)[0] = <float><double>value
    elif dt == F64:
        (<double *>p)[0] = value
    elif dt == BOOL:
        (<uint8_t *>p)[0] = 1 if value else 0
    else:
        try:
            i = int(value)
        except OverflowError:
            raise RuntimeError(f"value {value!r} cannot be converted to {DTYPES[dt]!r} without overflow") from None
        if (dt == I32 and i != <int32_t>i) or (dt == I16 and i != <int16_t>i) or (
            dt == I8 and i != <int8_t>i) or (dt == U8 and not -255 <= i <= 255):  # -1 is 255, as in PyTorch
            raise RuntimeError(f"value {value!r} cannot be converted to {DTYPES[dt]!r} without overflow")
        if dt == I64:
            (<int64_t *>p)[0] = i
        elif dt == I32:
            (<int32_t *>p)[0] = <int32_t>i
        elif dt == I16:
            (<int16_t *>p)[0] = <int16_t>i
        else:
            (<int8_t *>p)[0] = <int8_t>i
    return 0


cdef object load(Tensor x):
    """``value_at`` for users."""
    if recorder is not None and recording():
        recorder.refuse("reads the value of a tensor")
    return value_at(x)


cdef object value_at(Tensor x):
    """The first element as a Python number."""
    cdef int64_t word
    cdef char *p = x.ptr
    cdef int dt = x.dt
    if x.storage.device >= 0:
        p = <char *>&word
        fetch(p, x, ITEMSIZE[dt])
    if dt == F32:
        return <double>(<float *>p)[0]
    if dt == F64:
        return (<double *>p)[0]
    if dt == I64:
        return (<int64_t *>p)[0]
    if dt == I32:
        return (<int32_t *>p)[0]
    if dt == I16:
        return (<int16_t *>p)[0]
    if dt == I8:
        return (<int8_t *>p)[0]
    if dt == U8:
        return (<uint8_t *>p)[0]
    return (<uint8_t *>p)[0] != 0


cdef int fill(Tensor t, object value) except -1:
    cdef int64_t word = 0  # room for one element of any dtype
    cdef void *bufs[2]
    cdef Tensor one
    store(<char *>&word, t.dt, value)
    if t.storage.device >= 0 and (t.contiguous or t.count == 1):
        put(t, &word)
    elif t.count == 1:
        memcpy(t.ptr, &word, ITEMSIZE[t.dt])
        if recorder is not None and recording():
            recorder.written(t.ptr, ITEMSIZE[t.dt])
    elif t.contiguous:
        bufs[0], bufs[1] = t.ptr, &word
        if recorder is not None and recording():
            recorder.constant(&word, 8)
        launch(entry_of(FILL, t.dt, t.dt, t.storage.device), bufs, NULL, NULL, t.count, t.count * FILL.cost)
    else:
        one = scalar_tensor(value, t.dt, t.storage)
        copy_memory(t, one)
    return 0


cdef Tensor scalar_tensor(object value, int dt, Storage on):
    cdef Tensor t = new_tensor(dt, 0, NULL, on)
    if t.storage.device >= 0:
        fill(t, value)
        return t
    store(t.ptr, dt, value)
    if recorder is not None and recording():
        recorder.written(t.ptr, ITEMSIZE[dt])
    return t


cdef Tensor number_beside(object value, int dt, Tensor x):
    """A number as an operand beside x; an integer that a narrower dtype cannot hold wraps around, as in PyTorch."""
    cdef int64_t i
    if CATEGORY[dt] != 1:
        return scalar_tensor(value, dt, x.storage)
    try:
        i = value
    except OverflowError:
        if not 0 < value < 1 << 64:
            raise OverflowError(f"int too big to convert: {value!r}") from None
        i = <int64_t><uint64_t>value
    if dt == I32:
        i = <int32_t>i
    elif dt == I16:
        i = <int16_t>i
    elif dt == I8:
        i = <int8_t>i
    elif dt == U8:
        i = <uint8_t>i
    return scalar_tensor(i, dt, x.storage)


# --- other devices ----------------------------------------------------------------------------------------------------

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
    bufs[0], dims[0], dims[1], dims[2], dims[3] = t.ptr, t.storage.device, ITEMSIZE[t.dt], t.count, (<int64_t *>value)[0]
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


# --- operations: what they compute and how they differentiate ---------------------------------------------------------

cdef enum:
    FLOATS = 1      # integers are promoted to the default floating dtype
    TO_BOOL = 2     # the result is bool
    INTS = 4        # integers and bools only
    NO_BOOL = 8     # refuses bool
    NOTED = 16      # the storage of the result remembers the operation, see ``made_by``
    BOOL_TO_INT = 32  # bools are promoted to int64, as an integer exponent does
    DIVIDES = 64    # integers refuse a zero among the second operand

cdef int default_float = F32
cdef Op CAST_OP, SLOT, IDENTITY, SUB, MUL, DIV, POW, NEG, ABS, EQ, NE, LT, LE, GT, GE, AND, OR, XOR, INVERT
cdef Op REMAINDER, FLOOR_DIVIDE


def set_default_dtype(d):
    """The dtype of floating-point literals and of creation functions; float32 or float64."""
    global default_float
    code = dtype_code(d)
    if CATEGORY[code] != 2:
        raise TypeError(f"only floating-point dtypes can be the default, got {d!r}")
    default_float = code


def get_default_dtype():
    """The dtype of floating-point literals and of creation functions."""
    return DTYPES[default_float]


cdef class Op:
    """A differentiable operation: its name, its rules (one per input: ``rule(dy, *saved)``), perhaps its kernel.

    With ``kernel`` it is elementwise and can be called on tensors and numbers; ``saves`` says, per rule, which of
    ``a``, ``b`` (inputs) and ``y`` (output) it needs; each rule receives all that any of them needs, in that order,
    None where nobody does. Without, a function in ``ops/`` computes and then calls ``record``.
    A rule may be an elementwise Op itself: it is applied to (dy,) or (dy, saved) natively; or "dy", which is
    handed on as it is; or one of those letters: dy times that tensor.
    ``backward(node, dy)``, if given instead of rules, returns the gradients of all inputs at once.
    ``arity`` is the number of operands, by default that of the rules; ``doc`` is what ``help`` shows.
    An Op in a class is a method of it.
    """

    def __init__(self, str name, *rules, str kernel=None, str int_kernel=None, saves=(), int flags=0, double cost=0.15,
                 backward=None, int arity=0, str doc=None):
        self.name, self.backward, self.kind = name, backward, flags
        self.arity, self.doc = arity if arity else max(len(rules), 1), doc
        if kernel is not None:
            self.flat = Kernel("elementwise." + kernel, cost)
            self.int_flat = self.flat if int_kernel is None else Kernel("elementwise." + int_kernel, cost)
        bits = {"a": 1, "b": 2, "y": 4}
        letters = [c for c in bits if c in "".join(saves)]
        native = {"dy": -1} | {c: i for i, c in enumerate(letters)}
        self.rules = tuple([native[rule] if isinstance(rule, str) else rule for rule in rules])
        masks = [sum([bits[c] for c in word]) for word in saves] + [0, 0]
        self.saves0, self.saves1 = masks[0], masks[1]

    def __call__(self, input, other=None):
        if self.flat is None or (other is None) != (self.arity == 1):
            raise TypeError(f"{self.__name__}() takes {self.arity} operand{'s' * (self.arity > 1)}: "
                            f"input{', other' * (self.arity > 1)}; got {type(other).__name__} for other")
        if other is None:
            return apply_unary(self, as_operand(input, "input"))
        return binary(self, input, other)

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)

    @property
    def __name__(self):
        words = [("_" + c.lower() if c.isupper() and i else c) for i, c in enumerate(self.name)]
        return "".join(words).replace("__", "_").lower()

    @property
    def __doc__(self):
        return self.doc

    @property
    def __signature__(self):
        from inspect import Parameter, Signature

        return Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in ("input", "other")[:self.arity]])

    def inplace(self, Tensor x not None, other=None):
        """x = op(x, other), written into x's memory, following autograd's rules for in-place operations."""
        return apply_inplace(self, x, other)

    def record(self, Tensor y not None, *inputs, tuple saved=()):
        """Give ``y`` a history if recording is on and an input needs a gradient; y."""
        return record(self, y, inputs, saved)

    def record_outputs(self, tuple outputs, tuple inputs, tuple saved=(), context=None):
        """As ``record`` for several outputs; the rule is ``backward(node, gradients)``. The node or None."""
        return record_outputs(self, outputs, inputs, saved, context)

    def __repr__(self):
        return f"<op {self.name}>"


cdef Tensor as_operand(object value, str name):
    if isinstance(value, Tensor):
        return <Tensor>value
    if isinstance(value, bool):
        return scalar_tensor(value, BOOL, None)
    if isinstance(value, int):
        return scalar_tensor(value, I64, None)
    if isinstance(value, float):
        return scalar_tensor(value, default_float, None)
    return plugs.as_tensor(value)


cdef bint is_number(object value):
    return type(value) is float or type(value) is int or isinstance(value, (float, int))


cdef int number_dtype(object value, int other) except -1:
    """The dtype of a tensor of dtype ``other`` combined with a Python number."""
    if isinstance(value, bool):
        return other
    if isinstance(value, int):
        return other if CATEGORY[other] >= 1 else I64
    return other if CATEGORY[other] == 2 else default_float


cdef int result_dtype(Tensor a, Tensor b) noexcept:
    cdef int high, low
    if a.dt == b.dt:
        return a.dt
    if (a.nd == 0) == (b.nd == 0):
        return promote(a.dt, b.dt)
    high, low = (b.dt, a.dt) if a.nd == 0 else (a.dt, b.dt)
    return high if CATEGORY[high] >= CATEGORY[low] else low


cdef inline int compute_dtype(Op op, int dt) except -1:
    """The dtype that the kernel of ``op`` runs in, for operands of dtype ``dt``."""
    if op.kind & FLOATS and CATEGORY[dt] != 2:
        return default_float
    if op.kind & INTS and CATEGORY[dt] == 2:
        raise RuntimeError(f"{op.name.lower()} is defined for integer and bool tensors, not {DTYPES[dt]!r}")
    if op.kind & BOOL_TO_INT and dt == BOOL:
        return I64
    if op.kind & NO_BOOL and dt == BOOL:
        raise (NotImplementedError if op is POW else RuntimeError)(
            f"{op.name.lower()} is not defined for bool tensors; use logical_not, ^ or convert them")
    return dt


cdef object binary(Op op, object a, object b):
    """op(a, b) where one of them is a tensor and the other may be a number or an array."""
    cdef int dt
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return apply_binary(op, <Tensor>a, <Tensor>b)
        if is_number(b):
            dt = compute_dtype(op, number_dtype(b, (<Tensor>a).dt))
            return apply_binary(op, cast(<Tensor>a, dt), second(op, b, dt, <Tensor>a))
        return apply_binary(op, <Tensor>a, plugs.as_tensor(b))
    if isinstance(b, Tensor):
        if is_number(a):
            dt = compute_dtype(op, number_dtype(a, (<Tensor>b).dt))
            return apply_binary(op, number_beside(a, dt, <Tensor>b), cast(<Tensor>b, dt))
        return apply_binary(op, plugs.as_tensor(a), <Tensor>b)
    return apply_binary(op, as_operand(a, "input"), as_operand(b, "other"))


cdef inline void note(Op op, Tensor y) noexcept:
    y.storage.made_by, y.storage.made_at = <void *>op, y.storage.version


cdef bint made_by(Tensor x, Op op) noexcept:
    """Whether x, or what it is a view of, is what the NOTED ``op`` returned, recorded or not, and not written since."""
    return (x.storage.made_by == <void *>op and x.storage.made_at == x.storage.version) or (
        x.node is not None and x.node.op is op)


cdef Tensor apply_unary(Op op, Tensor x):
    cdef int dt = compute_dtype(op, x.dt)
    cdef int to = BOOL if op.kind & TO_BOOL else dt
    cdef void *bufs[5]
    cdef Py_ssize_t[1] dims
    cdef PyObject *operands[2]
    if dt != x.dt:
        x = cast(x, dt)
    cdef Kernel k = op.flat if CATEGORY[dt] == 2 else op.int_flat
    cdef Tensor y = new_like(x, to)
    bufs[0], bufs[1] = y.ptr, x.ptr
    if x.contiguous:
        dims[0] = 0
        launch(entry_of(k, dt, to, y.storage.device), bufs, dims, NULL, y.count, y.count * k.cost)
    else:
        operands[0], operands[1] = <PyObject *>y, <PyObject *>x
        run_strided(k, dt, to, 2, operands, bufs, y)
    if op.kind & NOTED:
        note(op, y)
    if mg_grad_off == 0 and op.rules and needs_grad(x):
        keep(push(op, y, edge_of(x)), op.saves0, op.saves0, x, None, y)
    return y


cdef Tensor apply_binary(Op op, Tensor a, Tensor b):
    cdef int dt = a.dt
    cdef Tensor y, p, q
    cdef void *bufs[6]
    cdef Py_ssize_t[1] dims
    cdef Py_ssize_t[8] shape
    cdef PyObject *operands[3]
    cdef Kernel k
    cdef int to, ndim, mode = -1
    cdef bint ga, gb
    cdef Node node
    if a.storage.device != b.storage.device:
        if b.nd == 0 and b.storage.device < 0:
            b = beside(b, a.storage)
        else:
            joins(a, b.storage)
            a = beside(a, b.storage)
    if a.dt != b.dt or op.kind != 0:
        dt = compute_dtype(op, result_dtype(a, b))
        if a.dt != dt:
            a = cast(a, dt)
        if b.dt != dt:
            b = cast(b, dt)
    to = BOOL if op.kind & TO_BOOL else dt
    if a.contiguous and b.contiguous:
        if same_shape(a, b):
            mode = 0
        elif b.count == 1 and b.nd <= a.nd:
            mode = 2
        elif a.count == 1 and a.nd <= b.nd:
            mode = 1
    if mode < 0:
        ndim = broadcast(a, b, shape)
    if op.kind & DIVIDES and CATEGORY[dt] != 2 and a.count:
        check_divisor(b)
    k = op.flat if CATEGORY[dt] == 2 else op.int_flat
    if mode >= 0:
        y = new_like(b if mode == 1 else a, to)
        bufs[0], bufs[1], bufs[2], dims[0] = y.ptr, a.ptr, b.ptr, mode
        launch(entry_of(k, dt, to, y.storage.device), bufs, dims, NULL, y.count, y.count * k.cost)
    else:
        y = new_on(to, ndim, shape, a.storage.device)
        p, q = in_order(a, y), in_order(b, y)
        operands[0], operands[1], operands[2] = <PyObject *>y, <PyObject *>p, <PyObject *>q
        bufs[0], bufs[1], bufs[2] = y.ptr, p.ptr, q.ptr
        run_strided(k, dt, to, 3, operands, bufs, y)
    if mg_grad_off == 0 and op.rules:
        ga, gb = needs_grad(a), needs_grad(b)
        if ga or gb:
            node = push(op, y, edge_of(a) if ga else None)
            node.inputs = 2
            if gb:
                node.edge1 = edge_of(b)
            keep(node, op.saves0 | op.saves1, (op.saves0 if ga else 0) | (op.saves1 if gb else 0), a, b, y)
            if mode != 0:
                node.shapes = (None if same_shape(a, y) else shape_tuple(a), None if same_shape(b, y) else shape_tuple(b))
    return y


cdef int check_divisor(Tensor b) except -1:
    """Integer kernels never raise: refuse zero divisors first."""
    if b.count and plugs.any_zero(b):
        raise RuntimeError("ZeroDivisionError: integer division or remainder by zero")
    return 0


cdef Tensor second(Op op, object value, int dt, Tensor x):
    """A number as the second operand of x. An exponent of integers must fit and not be negative; in a tensor it may be,
    and gives 0, 1 or -1, as in PyTorch."""
    cdef Tensor y = number_beside(value, dt, x)
    if op is not POW or CATEGORY[dt] == 2:
        return y
    if value < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return scalar_tensor(value, dt, x.storage)


def _dcast(dy, code):
    return cast(dy, code)


CAST_OP = Op("ToCopy", _dcast)


cdef Tensor cast(Tensor x, int dt):
    """x converted to dtype ``dt`` (x itself if it has it), recorded."""
    if x.dt == dt:
        return x
    cdef Tensor y = new_like(x, dt)
    cdef Node node
    copy_memory(y, x)
    if mg_grad_off == 0 and CATEGORY[dt] == 2 and needs_grad(x):
        node = push(CAST_OP, y, edge_of(x))
        node.kept, node.kept0 = 1, x.dt
    return y


def _cast(Tensor x not None, dtype):
    """x converted to ``dtype`` (x itself if it has it), recorded."""
    return cast(x, dtype_code(dtype))


def operand(value, dtype=None, Tensor like=None):
    """``value`` (tensor, number, array, list) as a tensor, converted to ``dtype`` if given (recorded); a number on the
    device of ``like``."""
    cdef Tensor t
    if dtype is not None and is_number(value) and CATEGORY[dtype_code(dtype)] == 2:
        return scalar_tensor(value, dtype_code(dtype), None if like is None else like.storage)  # not by way of float32
    t = as_operand(value, "input")
    if like is not None and t.nd == 0 and t.storage.device < 0:
        t = beside(t, like.storage)
    return t if dtype is None else cast(t, dtype_code(dtype))


def result_type(a, b):
    """The dtype of an operation on ``a`` and ``b`` (tensors or Python numbers), by PyTorch's promotion."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return DTYPES[result_dtype(<Tensor>a, <Tensor>b)]
    if isinstance(a, Tensor):
        return DTYPES[number_dtype(b, (<Tensor>a).dt) if is_number(b) else result_dtype(<Tensor>a, operand(b))]
    if isinstance(b, Tensor):
        return result_type(b, a)
    return DTYPES[result_dtype(operand(a), operand(b))]


def common_dtype(*tensors):
    """The dtype of an operation on all of them: 0-d ones count only if they are of a higher category."""
    cdef int[2] found = [-1, -1]
    cdef Tensor x
    for x in tensors:
        found[x.nd == 0] = x.dt if found[x.nd == 0] < 0 else promote(found[x.nd == 0], x.dt)
    cdef bint single = found[0] < 0 or (found[1] >= 0 and CATEGORY[found[1]] > CATEGORY[found[0]])
    return DTYPES[found[single]]


cdef Kernel WHERE = Kernel("elementwise.where_strided", 0.5)


def select(Tensor c not None, Tensor a not None, Tensor b not None):
    """``a where c else b`` for a bool tensor c and a, b of one dtype, broadcast together; not recorded."""
    cdef Py_ssize_t[8] shape
    cdef Py_ssize_t[64] dims
    cdef void *bufs[4]
    cdef PyObject *operands[4]
    cdef int n = broadcast(a, b, shape)
    cdef Tensor y
    if a.storage.device != b.storage.device or a.storage.device != c.storage.device:
        c, a, b = together(c, a, b)
    y = new_tensor(a.dt, n, shape, a.storage)
    if n != c.nd or not same_shape(y, c):
        n = broadcast(y, c, shape)
        y = new_tensor(a.dt, n, shape, a.storage)
    if y.count == 0:
        return y
    operands[0], operands[1], operands[2], operands[3] = <PyObject *>y, <PyObject *>c, <PyObject *>a, <PyObject *>b
    bufs[0], bufs[1], bufs[2], bufs[3] = y.ptr, c.ptr, a.ptr, b.ptr
    cdef Py_ssize_t units = plan(4, operands, n, shape, dims)
    launch(entry_of(WHERE, y.dt, y.dt, y.storage.device), bufs, dims, NULL, units, y.count * WHERE.cost)
    return y


# --- the tape ---------------------------------------------------------------------------------------------------------

cdef int64_t sequence = 0
cdef object OWN = object()  # the link of a saved output: the node that saved it


@cython.final
@cython.freelist(128)
@cython.trashcan(True)
cdef class Node:
    """One recorded operation (``Tensor.grad_fn``)."""

    @property
    def name(self):
        return self.op.name + "Backward0"

    @property
    def next_functions(self):
        """Where gradients go: a tuple of (node or leaf tensor or None, output number)."""
        return tuple([((<Node>e).edge0, (<Node>e).output) if isinstance(e, Node) and (<Node>e).outputs < 0 else (e, 0)
                      for e in edges_of(self)])

    @property
    def needs_input_grad(self):
        return tuple([e is not None for e in edges_of(self)])

    @property
    def saved_tensors(self):
        """The tensors that the operation saved, with their history; version-checked, RuntimeError after it was freed."""
        if self.freed:
            raise RuntimeError(FREED)
        return saved_of(self, True)

    def saved_values(self):
        """What the operation saved, for its rule; version-checked, RuntimeError after it was freed."""
        if self.freed:
            raise RuntimeError(FREED)
        return saved_of(self, mg_grad_off == 0)

    @property
    def ctx(self):
        return self.context

    def __repr__(self):
        return f"<{self.op.name}Backward0>"


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Specify retain_graph=True if you need to backward through the graph a second time."
)


cdef bint grad_enabled() noexcept:
    return mg_grad_off == 0


cdef bint needs_grad(Tensor x) except -1:
    """Whether x takes part in differentiation; a view whose base was rewritten is brought up to date first."""
    if x.base is not None and x.history != x.base.history:
        refresh_view(x)
    return x.requires


cdef object edge_of(Tensor x):
    return x.node if x.node is not None else x


cdef Tensor save(Tensor x):
    """An alias of an input for a node to keep."""
    cdef Tensor t = alias(x)
    t.saved_version = x.storage.version
    if needs_grad(x):
        t.link = edge_of(x)
    return t


cdef Tensor save_output(Tensor y):
    """An alias of an output for its own node to keep."""
    cdef Tensor t = alias(y)
    t.saved_version, t.link = y.storage.version, OWN
    return t


cdef int keep(Node n, int all, int mask, Tensor a, Tensor b, Tensor y) except -1:
    """Save what the rules of an elementwise op get: ``all`` of a, b and y that any rule needs, None but for ``mask``."""
    if all & 1:
        keep_next(n, save(a) if mask & 1 else None)
    if all & 2:
        keep_next(n, save(b) if mask & 2 else None)
    if all & 4:
        keep_next(n, save_output(y))
    return 0


cdef inline int keep_next(Node n, object value) except -1:
    if n.kept == 0:
        n.kept0 = value
    elif n.kept == 1:
        n.kept1 = value
    else:
        n.more_kept = (value,) if n.more_kept is None else n.more_kept + (value,)
    n.kept += 1
    return 0


cdef tuple saved_of(Node n, bint linked):
    """What ``n`` saved, for its rule."""
    cdef Py_ssize_t i
    return tuple([unpack(n, <object>kept_at(n, i), linked) for i in range(n.kept)])


cdef tuple edges_of(Node n):
    cdef Py_ssize_t i
    return tuple([<object>edge_at(n, i) for i in range(n.inputs)])


cdef int number(Node n) except -1:
    """Give a new node its place in the order; after all nodes that it refers to."""
    global sequence
    n.seq = sequence
    sequence += 1
    if anomaly:
        note_origin(n)
    return 0


cdef Node push(Op op, Tensor y, object edge0):
    """Make ``y`` the output of a new node of one input."""
    cdef Node n = <Node>Node.__new__(Node)
    n.op, n.outputs, n.inputs, n.edge0 = op, 1, 1, edge0
    number(n)
    y.node, y.requires = n, True
    return n


cdef Node node_of(Op op, tuple inputs, tuple saved, tuple outputs):
    """A new node of ``inputs``, which may be anything; None where none of them needs a gradient."""
    cdef Node n = None
    cdef Tensor t
    cdef Py_ssize_t i, k, count = len(inputs)
    cdef object item
    for i in range(count):
        item = <object>item_of(inputs, i)
        item = edge_of(<Tensor>item) if item is not None and isinstance(item, Tensor) and needs_grad(<Tensor>item) else None
        if n is None:
            if item is None:
                continue
            n = <Node>Node.__new__(Node)
            n.op, n.outputs, n.inputs = op, 1, <int>count
            if count > 2:
                n.more_edges = PyTuple_New(count - 2)
                for k in range(i - 2):
                    set_item(n.more_edges, k, None)
        if i == 0:
            n.edge0 = item
        elif i == 1:
            n.edge1 = item
        else:
            set_item(n.more_edges, i - 2, item)
    if n is None:
        return None
    if len(saved) > 2:
        n.more_kept = PyTuple_New(len(saved) - 2)
    n.kept = <int>len(saved)
    for k in range(n.kept):
        item = <object>item_of(saved, k)
        if item is not None and isinstance(item, Tensor):
            for i in range(len(outputs)):
                if item is <object>item_of(outputs, i):
                    t = save_output(<Tensor>item)
                    t.slot = <int>i
                    break
            else:
                t = save(<Tensor>item)
            item = t
        if k == 0:
            n.kept0 = item
        elif k == 1:
            n.kept1 = item
        else:
            set_item(n.more_kept, k - 2, item)
    number(n)  # now: a view among the inputs may have got a new node just before
    return n


cdef Tensor record(Op op, Tensor y, tuple inputs, tuple saved):
    cdef Node node
    if op.kind & NOTED:
        note(op, y)
    if mg_grad_off or CATEGORY[y.dt] != 2:
        return y
    node = node_of(op, inputs, saved, (y,))
    if node is not None:
        if len(inputs) > len(op.rules) and op.backward is None:
            raise RuntimeError(f"{op.name} has {len(op.rules)} rules but {len(inputs)} inputs")
        y.node, y.requires = node, True
    return y


SLOT = Op("Slot")


cdef object record_outputs(Op op, tuple outputs, tuple inputs, tuple saved, object context):
    """One node for several outputs; a Slot node per output collects its gradient."""
    cdef Node parent
    cdef Tensor y
    cdef int i
    if mg_grad_off:
        return None
    parent = node_of(op, inputs, saved, outputs)
    if parent is None:
        return None
    parent.context, parent.outputs = context, len(outputs) if len(outputs) > 1 else 1
    for i in range(len(outputs)):
        if not isinstance(outputs[i], Tensor):
            continue  # None: an output that is not differentiable
        y = <Tensor>outputs[i]
        if CATEGORY[y.dt] != 2:
            continue
        if parent.outputs == 1:
            y.node = parent
        else:
            y.node = slot_of(parent, i)
        y.requires = True
    return parent


cdef Node slot_of(Node parent, int output):
    """A node that stands for one of several outputs of ``parent``."""
    global sequence
    cdef Node n = <Node>Node.__new__(Node)
    n.op, n.inputs, n.edge0, n.seq, n.outputs, n.output = SLOT, 1, parent, sequence, -1, output
    sequence += 1
    return n


cdef object unpack(Node node, object item, bint linked):
    """A saved value for its rule: version-checked, and ``linked`` to its history when the backward is recorded."""
    cdef Tensor t, u
    if not isinstance(item, Tensor):
        return item
    t = <Tensor>item
    if t.saved_version != t.storage.version:
        raise RuntimeError(
            f"one of the variables needed for gradient computation has been modified by an inplace operation: the "
            f"tensor of shape {shape_tuple(t)} that {node.op.name}Backward0 saved is at version {t.storage.version}; "
            f"expected version {t.saved_version} instead"
        )
    if not linked or t.link is None:
        return t
    u = alias(t)
    u.requires = True
    if t.link is OWN:
        u.node = node if node.outputs == 1 else slot_of(node, t.slot)
    elif isinstance(t.link, Node):
        u.node = <Node>t.link
    elif same_layout(<Tensor>t.link, t):
        return t.link
    else:  # a leaf whose .data was exchanged since: the saved values, the leaf's gradient
        push(IDENTITY, u, t.link)
    return u


IDENTITY = Op("Clone", lambda dy: dy)


cdef bint same_layout(Tensor a, Tensor b) noexcept:
    """Whether a and b show the same elements in the same order."""
    cdef int i
    if a.storage is not b.storage or a.ptr != b.ptr or a.dt != b.dt or not same_shape(a, b):
        return False
    for i in range(a.nd):
        if a.stride_[i] != b.stride_[i] and a.shape_[i] > 1:
            return False
    return True


# Anomaly detection: where each node was recorded, by sequence number, and whether gradients are searched for nan.
anomaly = 0
origins = {}


def set_anomaly(int mode):
    """0: off; 1: remember where each operation was recorded; 2: and refuse nan gradients."""
    global anomaly
    anomaly = mode
    if mode == 0:
        origins.clear()


def get_anomaly():
    """The mode that ``set_anomaly`` set."""
    return anomaly


cdef int note_origin(Node n) except -1:
    import traceback

    origins[n.seq] = "".join(traceback.format_stack())
    return 0


cdef int set_grad_off(int off) noexcept:
    global mg_grad_off
    mg_grad_off = off
    return 0


cdef Tensor detached_clone(Tensor x):
    cdef Tensor y = new_like(x, x.dt)
    copy_memory(y, x)
    return y


cdef Tensor clone(Tensor x):
    """A contiguous copy, recorded."""
    cdef Tensor y = detached_clone(x)
    if mg_grad_off == 0 and needs_grad(x):
        push(IDENTITY, y, edge_of(x))
    return y


# --- in-place operations and views ------------------------------------------------------------------------------------

cdef int check_expanded(Tensor x) except -1:
    """Refuse to write where one number stands for many elements."""
    cdef int i
    for i in range(x.nd):
        if x.stride_[i] == 0 and x.shape_[i] > 1 and x.count:
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation."
            )


cdef int check_inplace(Tensor x) except -1:
    """Refuse what must not be written: read-only memory, expanded views, leaves that record."""
    check_writable(x)
    if x.base is not None and x.base.storage is not x.storage:
        x.base = None  # ``.data = ...`` gave the base other memory
    check_expanded(x)
    if mg_grad_off == 0:
        needs_grad(x)
        if x.requires and x.node is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if x.base is not None and x.base.requires:
            if x.base.node is None:
                raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place "
                                   "operation.")
            if not x.requires:
                raise RuntimeError(
                    "A view was created in no_grad mode and is being modified inplace with grad mode enabled. This is "
                    "ambiguous and forbidden: move both the view and the inplace operation inside the no_grad block "
                    "(not tracked) or both outside (tracked)."
                )
    return 0


cdef bint overlaps(Tensor x, Tensor y):
    """Whether writing x could change what is read from y at another place."""
    cdef int i
    if x.storage is not y.storage:
        return False
    if x.ptr == y.ptr and same_shape(x, y):
        for i in range(x.nd):
            if x.stride_[i] != y.stride_[i] and x.shape_[i] > 1:
                return True
        return False
    return True


cdef Tensor apply_inplace(Op op, Tensor x, object other):
    cdef Tensor y, b = None
    cdef void *bufs[6]
    cdef Py_ssize_t[1] dims
    cdef PyObject *operands[3]
    cdef Kernel k
    cdef int dt
    if (other is None) != (op.arity == 1) or op.flat is None:
        raise TypeError(f"{op.__name__}_() takes {op.arity - 1} other operand, got {type(other).__name__}")
    check_inplace(x)
    if other is not None:
        if isinstance(other, Tensor):
            b = <Tensor>other
        elif is_number(other):
            b = second(op, other, compute_dtype(op, number_dtype(other, x.dt)), x)
        else:
            b = plugs.as_tensor(other)
        if b.storage.device != x.storage.device:
            joins(b, x.storage)
            b = beside(b, x.storage)
    dt = compute_dtype(op, x.dt if b is None else result_dtype(x, b))
    if dt != x.dt and CATEGORY[dt] > CATEGORY[x.dt] and not op.kind & TO_BOOL:
        raise RuntimeError(f"result type {DTYPES[dt]!r} can't be cast to the desired output type {DTYPES[x.dt]!r}")
    if mg_grad_off == 0 and (needs_grad(x) or (b is not None and needs_grad(b))):
        return write_back(x, apply_unary(op, clone(x)) if b is None else apply_binary(op, clone(x), b))
    if dt != x.dt or op.kind & TO_BOOL or (b is not None and overlaps(x, b)):
        return write_back(x, apply_unary(op, x) if b is None else apply_binary(op, x, b))
    k = op.flat if CATEGORY[dt] == 2 else op.int_flat
    bufs[0] = bufs[1] = x.ptr
    operands[0] = operands[1] = <PyObject *>x
    if b is None:
        if not x.contiguous:
            run_strided(k, dt, dt, 2, operands, bufs, x)
            x.storage.version += 1
            return x
        dims[0] = 3
        launch(entry_of(k, dt, dt, x.storage.device), bufs, dims, NULL, x.count, x.count * k.cost)
        x.storage.version += 1
        if op.kind & NOTED and x.base is None:
            note(op, x)
        return x
    if b.dt != dt:
        b = cast(b, dt)
    if op.kind & DIVIDES and CATEGORY[dt] != 2 and x.count:
        check_divisor(b)
    if x.contiguous and b.contiguous and (same_shape(x, b) or (b.count == 1 and b.nd <= x.nd)):
        dims[0], bufs[2] = 3 if same_shape(x, b) else 4, b.ptr
        launch(entry_of(k, dt, dt, x.storage.device), bufs, dims, NULL, x.count, x.count * k.cost)
    else:
        check_fits(x, b)
        b = in_order(b, x)
        operands[2], bufs[2] = <PyObject *>b, b.ptr
        run_strided(k, dt, dt, 3, operands, bufs, x)
    x.storage.version += 1
    return x


cdef int check_fits(Tensor x, Tensor y) except -1:
    """y must broadcast to the very shape of x."""
    cdef Py_ssize_t[8] shape
    cdef int i, n = broadcast(x, y, shape)
    cdef bint fits = n == x.nd
    for i in range(n):
        fits = fits and shape[i] == x.shape_[i]
    if not fits:
        raise RuntimeError(
            f"output with shape {list(shape_tuple(x))} doesn't match the broadcast shape "
            f"{[shape[i] for i in range(n)]}"
        )
    return 0


cdef Tensor write_back(Tensor x, Tensor y):
    """x[...] = y, and x takes over y's history: the end of every in-place operation."""
    cdef bint recording = mg_grad_off == 0 and CATEGORY[x.dt] == 2 and (needs_grad(x) or needs_grad(y))
    check_inplace(x)
    check_fits(x, y)
    if overlaps(x, y):
        y = clone(y)
    if recording:
        y = cast(y, x.dt)
        if not same_shape(x, y):
            y = plugs.expand(y, shape_tuple(x))
    copy_memory(x, y)
    x.storage.version += 1
    if recording:
        if x.base is None and y.requires:
            if y.node is None:
                y = clone(y)
            adopt(x, y.node, True)
            x.history += 1
            x.hooks = None
        else:  # also when a constant is written over history: the gradient of what was there is zero
            plugs.slice_write(x if x.base is None else x.base, y, x)
    return x


cdef int adopt(Tensor x, Node node, bint requires) except -1:
    """x is the output of ``node`` now; the wish to retain its gradient moves along."""
    if x.node is not None and x.node.retained is not None:
        if node is not None:
            node.retained = x.node.retained
        x.node.retained = None
    x.node, x.requires = node, requires
    return 0


def rewrite_base(Tensor base not None, Tensor result not None):
    """Give ``base`` the history of ``result`` (same values, not copied); views of it follow on next use."""
    adopt(base, result.node, result.requires)
    base.history += 1


def region_of(Tensor view not None, Tensor base not None):
    """(shape, strides, offset, base shape, base strides or None if contiguous) of a view within its base's memory."""
    return (shape_tuple(view), view.stride(), (view.ptr - base.ptr) // ITEMSIZE[base.dt], shape_tuple(base),
            None if base.contiguous else base.stride())


cdef int refresh_view(Tensor x) except -1:
    """The base of view x was modified in place and recorded: x's history is now a view of the new base."""
    cdef Tensor base = x.base, y
    if base.storage is not x.storage:  # one of them was given other memory by ``.data = ...``: no view any more
        x.base = None
        return 0
    x.history = base.history
    if not base.requires:
        return adopt(x, None, False)
    y = alias(x)
    node = push(<Op>plugs.as_strided_op, y, edge_of(base))
    for value in region_of(x, base):
        keep_next(node, value)
    return adopt(x, node, True)


def view(Tensor x not None, shape, strides, Py_ssize_t offset=0):
    """A view of ``x`` by shape, strides and an offset in elements; the caller checks bounds and records it."""
    cdef Py_ssize_t[8] sizes
    cdef Py_ssize_t[8] steps
    cdef int n = parse_shape(shape, sizes), i
    for i in range(n):
        steps[i] = strides[i]
    return strided_view(x, n, sizes, steps, offset)


def copy_(Tensor x not None, Tensor y not None):
    """x[...] = y with broadcasting and conversion, following autograd's rules; x."""
    cdef Tensor u
    if mg_grad_off == 0 and needs_grad(y):
        if x.storage.device != y.storage.device:
            y = beside(y, x.storage)
        elif x.storage is y.storage:
            y = clone(y)
        else:  # a node of its own: gradients that reach x and those that reach y are different things
            u = alias(y)
            push(IDENTITY, u, edge_of(y))
            y = u
    return write_back(x, y)


def write_memory(Tensor x not None, Tensor y not None):
    """x[...] = y without history or checks beyond shape; for outputs under construction."""
    check_fits(x, y)
    copy_memory(x, y)
    return x


cpdef object expected(Tensor x):
    """The value of a tensor with one element, for code whose further way depends on it: a program that replays it
    checks that it still is the same."""
    if recorder is not None and recording():
        recorder.expect(x.ptr, ITEMSIZE[x.dt])
    return value_at(x)


cdef Op SEED = Op("Ones")  # what fills the gradient that backward starts from, unless it is given one


cpdef bint always_one(Tensor x) except -1:
    """Whether the one element of ``x`` is 1; in a captured function only if it always is, and on a device that computes
    behind the host's back only if backward() made it, and nobody has written it since: it is not worth waiting for."""
    cdef double one = 1
    cdef float single = 1
    if x.storage.device >= 0:
        return made_by(x, SEED)
    if recorder is not None and recording():
        return recorder.always(x.ptr, &single if x.dt == F32 else <void *>&one, ITEMSIZE[x.dt])
    return (<float *>x.ptr)[0] == 1 if x.dt == F32 else (<double *>x.ptr)[0] == 1


def bump(Tensor x not None):
    """Count one in-place write of ``x``'s memory."""
    x.storage.version += 1


# --- construction -----------------------------------------------------------------------------------------------------


def empty(shape, dtype=None, Tensor like=None):
    """An uninitialised tensor of ``shape``, on the device of ``like``."""
    cdef Py_ssize_t[8] sizes
    cdef int n = parse_shape(shape, sizes)
    return new_tensor(default_float if dtype is None else dtype_code(dtype), n, sizes, None if like is None else like.storage)


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
    t.storage, t.ptr = foreign_storage(<void *>address, reach * ITEMSIZE[t.dt], device, writable, owner), <char *>address
    u = strided_view(t, n, sizes, steps, 0)
    u.base = None
    u.history = 0
    return u


# --- the Tensor -------------------------------------------------------------------------------------------------------

cdef Storage NOTHING = new_storage(0)


@cython.freelist(256)
cdef class Tensor:
    """A multi-dimensional array of one dtype that remembers how it was computed.

    ``Tensor(data)`` converts ``data`` (nested lists, numbers, an array) to the default floating dtype and
    ``Tensor(2, 3)`` is uninitialised, as in PyTorch; prefer ``minigrad.tensor``, ``zeros`` or ``empty``.
    """

    __array_priority__ = 1000

    def __cinit__(self):
        # An empty tensor, also where a subclass forgets to call __init__.
        self.nd, self.stride_[0], self.contiguous, self.storage, self.ptr = 1, 1, True, NOTHING, NOTHING.ptr

    def __init__(self, *data, requires_grad=False):
        cdef Tensor t = plugs.legacy(data)
        self.storage, self.ptr, self.dt, self.nd = t.storage, t.ptr, t.dt, t.nd
        self.count, self.contiguous = t.count, t.contiguous
        memcpy(self.shape_, t.shape_, sizeof(t.shape_))
        memcpy(self.stride_, t.stride_, sizeof(t.stride_))
        self.requires_grad = requires_grad

    # --- what it is ---

    @property
    def shape(self):
        """The sizes of its dimensions, a tuple."""
        return plugs.size(shape_tuple(self))

    def stride(self, dim=None):
        """Steps between neighbours along each dimension (or ``dim``), in elements."""
        cdef tuple strides = tuple([self.stride_[i] for i in range(self.nd)])
        return strides if dim is None else strides[dim]

    @property
    def dtype(self):
        """The element type."""
        return DTYPES[self.dt]

    @property
    def device(self):
        """Where the memory is."""
        return plugs.device if self.storage.device < 0 else device_object(self.storage.device)

    @property
    def _device(self):
        return self.storage.device

    @property
    def ndim(self):
        """The number of dimensions."""
        return self.nd

    def dim(self):
        """The number of dimensions."""
        return self.nd

    def numel(self):
        """The number of elements."""
        return self.count

    def element_size(self):
        """Bytes an element."""
        return ITEMSIZE[self.dt]

    def data_ptr(self):
        """The address of the first element."""
        return <size_t>self.ptr

    def storage_offset(self):
        """Elements between the start of the memory block and the first element."""
        return (self.ptr - self.storage.ptr) // ITEMSIZE[self.dt]

    def is_contiguous(self):
        """Whether elements lie in row-major order without gaps."""
        return self.contiguous

    def is_floating_point(self):
        """Whether the dtype is float32 or float64."""
        return CATEGORY[self.dt] == 2

    @property
    def _version(self):
        return self.storage.version

    @property
    def _base(self):
        return self.base

    @property
    def _storage(self):
        return self.storage

    # --- gradients ---

    @property
    def requires_grad(self):
        """Whether operations on this tensor are recorded."""
        needs_grad(self)
        return self.requires

    @requires_grad.setter
    def requires_grad(self, bint value):
        if value and CATEGORY[self.dt] != 2:
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients, this one is {self.dtype!r}")
        if not value and self.node is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables; use detach() instead")
        self.requires = value

    def requires_grad_(self, bint requires_grad=True):
        """Set ``requires_grad`` in place; the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self):
        """The gradient that backward has accumulated, or None."""
        if self.gradient is None and self.node is not None and self.node.retained is None:
            plugs.warn_nonleaf()
        return self.gradient

    @grad.setter
    def grad(self, value):
        cdef Tensor g
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad must be a Tensor or None, got {type(value).__name__}")
            g = <Tensor>value
            if g is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if not same_shape(g, self):
                raise RuntimeError(f"assigned grad has data of a different size: {shape_tuple(g)} for a tensor of shape "
                                   f"{shape_tuple(self)}")
            if g.dt != self.dt:
                raise RuntimeError(f"assigned grad has data of a different type: {g.dtype!r} for {self.dtype!r}")
            if g.storage.device != self.storage.device:
                raise RuntimeError(f"assigned grad has data located on a different device: "
                                   f"{device_name(g.storage.device)} for a tensor on {device_name(self.storage.device)}")
        self.gradient = value

    @grad.deleter
    def grad(self):
        self.gradient = None

    @property
    def is_leaf(self):
        """Whether the user made it: gradients of leaves that require grad are kept."""
        needs_grad(self)
        return self.node is None

    @property
    def grad_fn(self):
        """The node that computed it, or None."""
        needs_grad(self)
        return self.node if self.node is None or self.node.outputs >= 0 else self.node.edge0

    @property
    def output_nr(self):
        """Which output of its ``grad_fn`` it is."""
        return self.node.output if self.node is not None else 0

    @property
    def retains_grad(self):
        """Whether a non-leaf keeps its gradient."""
        return self.node is not None and self.node.retained is not None

    @property
    def data(self):
        """The same memory without history; writing through it is still seen by backward's version check."""
        return alias(self)

    @data.setter
    def data(self, value):
        cdef Tensor t = <Tensor?>value
        if t.dt != self.dt and self.requires and CATEGORY[t.dt] != 2:
            raise RuntimeError(f"data of dtype {t.dtype!r} cannot require gradients")
        needs_grad(self)
        self.base = None  # a view that is given other memory is none any more
        self.storage, self.ptr, self.dt, self.nd = t.storage, t.ptr, t.dt, t.nd
        self.count, self.contiguous = t.count, t.contiguous
        memcpy(self.shape_, t.shape_, sizeof(t.shape_))
        memcpy(self.stride_, t.stride_, sizeof(t.stride_))

    def detach(self):
        """The same memory without history."""
        return alias(self)

    def detach_(self):
        """Forget the history; the tensor itself."""
        if self.base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self.node, self.requires = None, False
        return self

    def clone(self, *, memory_format=None):
        """A contiguous copy, recorded. ``memory_format``: accepted if it is one that tensors have."""
        if memory_format is not None:
            plugs.check_format(memory_format, "clone")
        return clone(self)

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Accumulate the gradient of this tensor into ``.grad`` of the leaves (or of ``inputs``) that it depends on.

        ``gradient``: of the same shape, the gradient to start from; optional if the tensor has one element.
        ``retain_graph``: keep what was saved, so that backward can run again; by default what ``create_graph`` is.
        ``create_graph``: record backward itself; ``autograd.backward`` says what that costs.
        """
        if inputs is not None:
            inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
            if not inputs:
                raise RuntimeError("'inputs' argument to backward cannot be empty.")
        if gradient is not None and not isinstance(gradient, Tensor):
            gradient = plugs.as_tensor(gradient)
        if inputs is None:
            walk_back(self, gradient, create_graph if retain_graph is None else retain_graph, create_graph)
        else:
            plugs.backward((self,), (gradient,), create_graph if retain_graph is None else retain_graph, create_graph,
                          inputs, False, False)

    def retain_grad(self):
        """Keep the gradient of this non-leaf in ``.grad`` too."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        retain_gradient(self)

    def register_hook(self, hook):
        """Call ``hook(grad)`` when the gradient is computed; what it returns, if not None, replaces it. A handle."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self.node is None:
            if self.hooks is None:
                self.hooks = []
            return add_hook(self.hooks, hook)
        if self.node.hooks is None:
            self.node.hooks = []
        return add_hook(self.node.hooks, hook)

    def register_post_accumulate_grad_hook(self, hook):
        """Call ``hook(tensor)`` after a gradient was added to a leaf's ``.grad``. A handle with ``remove()``."""
        if self.node is not None or not self.requires:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self.after_hooks is None:
            self.after_hooks = []
        return add_hook(self.after_hooks, hook)

    # --- values ---

    def item(self):
        """The value of a tensor with one element, as a Python number."""
        if self.count != 1:
            raise RuntimeError(f"a Tensor with {self.count} elements (shape {shape_tuple(self)}) cannot be converted to Scalar")
        return load(self)

    def __bool__(self):
        if self.count != 1:
            raise RuntimeError(f"Boolean value of Tensor with {'more than one value' if self.count else 'no values'} is "
                               "ambiguous; use .any(), .all() or .item()")
        return bool(load(self))

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if CATEGORY[self.dt] == 2 or self.count != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(load(self))

    def __len__(self):
        if self.nd == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape_[0]

    def __hash__(self):
        # By its address, whose bits are mixed: tensors lie at equal distances, and a dict looks at the low bits only.
        cdef size_t h = (<size_t><PyObject *>self >> 4) * <size_t>0x9E3779B97F4A7C15
        return <Py_hash_t>(h ^ (h >> 32))

    def __iter__(self):
        return plugs.iterate(self)

    def __getitem__(self, index):
        return plugs.getitem(self, index)

    def __setitem__(self, index, value):
        plugs.setitem(self, index, value)

    def __contains__(self, value):
        return plugs.contains(self, value)

    def __repr__(self):
        return plugs.text(self)

    def __format__(self, spec):
        return plugs.format(self, spec)

    # --- operators ---

    def __add__(self, other):
        return operator(ADD, self, other)

    def __radd__(self, other):
        return operator(ADD, other, self)

    def __iadd__(self, other):
        return apply_inplace(ADD, self, other)

    def __sub__(self, other):
        return operator(SUB, self, other)

    def __rsub__(self, other):
        return operator(SUB, other, self)

    def __isub__(self, other):
        return apply_inplace(SUB, self, other)

    def __mul__(self, other):
        return operator(MUL, self, other)

    def __rmul__(self, other):
        return operator(MUL, other, self)

    def __imul__(self, other):
        return apply_inplace(MUL, self, other)

    def __truediv__(self, other):
        return operator(DIV, self, other)

    def __rtruediv__(self, other):
        return operator(DIV, other, self)

    def __itruediv__(self, other):
        return apply_inplace(DIV, self, other)

    def __mod__(self, other):
        return operator(REMAINDER, self, other)

    def __rmod__(self, other):
        return operator(REMAINDER, other, self)

    def __floordiv__(self, other):
        return operator(FLOOR_DIVIDE, self, other)

    def __rfloordiv__(self, other):
        return operator(FLOOR_DIVIDE, other, self)

    def __pow__(self, other, modulo):
        return plugs.power(self, other)

    def __rpow__(self, other, modulo):
        return plugs.power(other, self)

    def __ipow__(self, other):
        return apply_inplace(POW, self, other)

    def __matmul__(self, other):
        return plugs.matmul(self, other)

    def __rmatmul__(self, other):
        return plugs.matmul(other, self)

    def __neg__(self):
        return apply_unary(NEG, self)

    def __pos__(self):
        return self

    def __abs__(self):
        return apply_unary(ABS, self)

    def __invert__(self):
        return apply_unary(INVERT, self)

    def __and__(self, other):
        return operator(AND, self, other)

    def __rand__(self, other):
        return operator(AND, other, self)

    def __or__(self, other):
        return operator(OR, self, other)

    def __ror__(self, other):
        return operator(OR, other, self)

    def __xor__(self, other):
        return operator(XOR, self, other)

    def __rxor__(self, other):
        return operator(XOR, other, self)

    def __richcmp__(self, other, int kind):
        cdef Op op = EQ
        if kind == Py_NE:
            op = NE
        elif kind == Py_LT:
            op = LT
        elif kind == Py_LE:
            op = LE
        elif kind == Py_GT:
            op = GT
        elif kind == Py_GE:
            op = GE
        return operator(op, self, other)


cdef object operator(Op op, object a, object b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return apply_binary(op, <Tensor>a, <Tensor>b)
    if not (is_number(a) or is_number(b) or plugs.is_array(a if isinstance(b, Tensor) else b)):
        return NotImplemented
    return binary(op, a, b)


cdef int retain_gradient(Tensor t) except -1:
    if t.node is not None and t.node.retained is None:
        t.node.retained = weakref.ref(t)
    return 0


def clear_gradients(parameters):
    """Set ``.grad`` of every tensor to None."""
    for p in parameters:
        (<Tensor?>p).gradient = None


# --- what the rest of the package plugs in ----------------------------------------------------------------------------

cdef backward_t walk_back = NULL


cdef int set_backward(backward_t f) noexcept:
    """Plug in backward of one output, see _walk.pyx."""
    global walk_back
    walk_back = f
    return 0


def install_operators(dict ops):
    """Plug in the elementwise operations behind the operators."""
    global ADD, SUB, MUL, DIV, POW, NEG, ABS, EQ, NE, LT, LE, GT, GE, AND, OR, XOR, INVERT, REMAINDER, FLOOR_DIVIDE
    ADD, SUB, MUL, DIV, POW, NEG, ABS = (ops[n] for n in ("add", "sub", "mul", "div", "pow", "neg", "abs"))
    EQ, NE, LT, LE, GT, GE = (ops[n] for n in ("eq", "ne", "lt", "le", "gt", "ge"))
    AND, OR, XOR, INVERT = (ops[n] for n in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"))
    REMAINDER, FLOOR_DIVIDE = ops["remainder"], ops["floor_divide"]


def add_methods(dict methods):
    """Attach Python functions to Tensor: what setattr would do if extension types allowed it."""
    cdef object namespace = mg_type_dict(Tensor)
    for name, function in methods.items():
        if name in namespace:
            raise TypeError(f"Tensor already has {name!r}")
        namespace[name] = function
    PyType_Modified(Tensor)
