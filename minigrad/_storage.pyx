# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Memory and dtypes: 64-byte aligned, refcounted, pooled blocks, and the eight element types.

DESIGN
a. A ``Storage`` is one block; tensors and NumPy views hold references to it, and the last one returns the block to a
   free list of its size class. A training step asks for the same sizes again and again, so after the first step it
   allocates nothing.
b. Size classes are multiples of 64 bytes up to 4 KiB, then four steps a power of two (at most 25 % waste). What would
   make the pool larger than 512 MiB goes back to the system at once; ``trim`` empties the pool. Large blocks are kept
   too: a fresh one costs a page fault every 4 KiB, five times what cross-entropy takes to fill it. For the same reason
   blocks of 4 MiB and more are mappings of their own, of huge pages on Linux: with pages of 4 KiB a column of a matrix
   takes longer to translate than to read.
c. ``version`` counts in-place writes, so that backward can tell that a tensor it saved has changed.
d. The GIL guards the pool: storage is created and released by Python code only.
e. A storage may lie on another device (``device`` >= 0). What such devices can do stands in a table of C functions,
   ``devices``, that is plugged in when somebody first asks for one; until then nothing of it is loaded.
"""

cimport cython
from ._record cimport recorder, recording
from cpython.buffer cimport (
    PyBUF_FORMAT, PyBUF_STRIDES, PyBUF_WRITABLE, PyBuffer_FillInfo, PyBuffer_Release, PyObject_GetBuffer,
)

cdef extern from *:
    """
    #include <stdlib.h>
    #ifdef _WIN32
    #include <malloc.h>
    static void *mg_block(size_t n) { return _aligned_malloc(n, 64); }
    static void mg_unblock(void *p, size_t n) { _aligned_free(p); }
    #else
    #include <stdint.h>
    #include <sys/mman.h>
    #define MG_HUGE ((size_t)2097152)
    static size_t mg_pages(size_t n) { return (n + 65535) & ~(size_t)65535; }
    static void *mg_block(size_t n) {
        void *p = NULL;
    #ifdef MADV_HUGEPAGE
        if (n >= 2 * MG_HUGE) {
            n = mg_pages(n);
            p = mmap(NULL, n + MG_HUGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
            if (p == MAP_FAILED) return NULL;
            size_t before = -(uintptr_t)p % MG_HUGE;
            if (before) munmap(p, before);
            p = (char *)p + before;
            munmap((char *)p + n, MG_HUGE - before);
            madvise(p, n, MADV_HUGEPAGE);
            return p;
        }
    #endif
        return posix_memalign(&p, 64, n) == 0 ? p : NULL;
    }
    static void mg_unblock(void *p, size_t n) {
    #ifdef MADV_HUGEPAGE
        if (n >= 2 * MG_HUGE) { munmap(p, mg_pages(n)); return; }
    #endif
        free(p);
    }
    #endif
    #ifdef _MSC_VER
    static __declspec(thread) int mg_where = 0;
    #else
    static __thread int mg_where = 0;
    #endif
    """
    int mg_where
    void *mg_block(size_t n) nogil
    void mg_unblock(void *p, size_t n) nogil

ITEMSIZE[:] = [4, 8, 8, 4, 2, 1, 1, 1]
CATEGORY[:] = [2, 2, 1, 1, 1, 1, 1, 0]  # bool < integer < floating point


@cython.final
cdef class dtype:
    """An element type: ``minigrad.float32`` and its like; compare with ``is`` or ``==``."""

    def __init__(self):
        raise TypeError("dtypes are fixed: use minigrad.float32, float64, int64, int32, int16, int8, uint8 or bool")

    def __repr__(self):
        return "minigrad." + self.name

    def __reduce__(self):
        return _dtype_named, (self.name,)


def _dtype_named(str name):
    for found in DTYPES:
        if (<dtype>found).name == name:
            return found
    raise TypeError(f"unknown dtype {name!r}")


cdef list _make_dtypes():
    made = []
    for code, name in enumerate(("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")):
        d = <dtype>dtype.__new__(dtype)
        d.code, d.name, d.itemsize = code, name, ITEMSIZE[code]
        d.is_floating_point, d.is_signed = CATEGORY[code] == 2, code != U8 and code != BOOL
        made.append(d)
    return made


DTYPES = _make_dtypes()
float32, float64, int64, int32, int16, int8, uint8, bool_ = DTYPES


cdef int dtype_code(object value) except -1:
    """The code of a minigrad dtype, a NumPy dtype or type, ``float``, ``int`` or ``bool``."""
    if type(value) is dtype:
        return (<dtype>value).code
    if value is float:
        return F64
    if value is int:
        return I64
    import numpy

    try:
        name = numpy.dtype(value).name
    except TypeError:
        raise TypeError(f"dtype must be a minigrad dtype, got {value!r}") from None
    for found in DTYPES:
        if (<dtype>found).name == name:
            return (<dtype>found).code
    raise TypeError(f"dtype {name} is not supported (float32, float64, int64, int32, int16, int8, uint8, bool)")


cdef int promote(int a, int b) noexcept nogil:
    """PyTorch's promotion of two dtypes of equal rank."""
    if a == b:
        return a
    if CATEGORY[a] == 2 or CATEGORY[b] == 2:
        if CATEGORY[a] != 2:
            return b
        if CATEGORY[b] != 2:
            return a
        return F64
    if a == BOOL:
        return b
    if b == BOOL:
        return a
    if a == U8 or b == U8:
        a = b if a == U8 else a
        return I16 if a == I8 else a
    return a if ITEMSIZE[a] > ITEMSIZE[b] else b


# --- the pool ---------------------------------------------------------------------------------------------------------

cdef enum:
    SMALL = 64          # classes 0..63: multiples of 64 bytes
    CLASSES = 136
    POOL_LIMIT = 536870912
    DISTANT = -3        # instead of a size class: memory of another device

cdef struct Block:
    Block *next

cdef Block *free_blocks[CLASSES]
cdef Py_ssize_t pooled_bytes = 0
cdef Py_ssize_t live_bytes = 0
cdef Py_ssize_t peak_bytes = 0


cdef inline int size_class(Py_ssize_t nbytes, Py_ssize_t *rounded) noexcept nogil:
    cdef Py_ssize_t step = 1024, base = 4096
    cdef int c = SMALL
    if nbytes <= 4096:
        rounded[0] = ((nbytes + 63) >> 6) << 6 if nbytes > 0 else 64
        return <int>(rounded[0] >> 6) - 1
    if nbytes > POOL_LIMIT:
        rounded[0] = nbytes
        return -1
    while base * 2 < nbytes:
        base, step, c = base * 2, step * 2, c + 4
    rounded[0] = base + ((nbytes - base + step - 1) // step) * step
    return c + <int>((rounded[0] - base) // step) - 1


cdef inline Py_ssize_t class_bytes(int c) noexcept nogil:
    """The size of the blocks of a class."""
    if c < SMALL:
        return (c + 1) * 64
    return <Py_ssize_t>(1024 * ((c - SMALL) % 4 + 5)) << (c - SMALL) // 4


cdef Storage new_storage(Py_ssize_t nbytes, int device=-1):
    """A block of at least ``nbytes``, uninitialised; MemoryError when there is none."""
    global pooled_bytes, live_bytes, peak_bytes
    if device >= 0:
        return distant_storage(nbytes, device)
    cdef Storage s = <Storage>Storage.__new__(Storage)
    cdef Py_ssize_t rounded
    cdef int c = size_class(nbytes, &rounded)
    cdef Block *block
    cdef bint heard = recorder is not None and recording()
    if heard:
        s.ptr = <char *>recorder.reuse(c)
    if s.ptr != NULL:
        pass
    elif c >= 0 and free_blocks[c] != NULL:
        block = free_blocks[c]
        free_blocks[c] = block.next
        pooled_bytes -= rounded
        s.ptr = <char *>block
    else:
        s.ptr = <char *>mg_block(rounded)
        if s.ptr == NULL:
            trim()
            s.ptr = <char *>mg_block(rounded)
            if s.ptr == NULL:
                raise MemoryError(f"cannot allocate {nbytes:,} bytes for a tensor")
    s.nbytes, s.size_class = rounded, c
    live_bytes += rounded
    if live_bytes > peak_bytes:
        peak_bytes = live_bytes
    if heard:
        s.recorded = recorder.serial
        recorder.allocated(s, s.ptr, rounded, nbytes, c)
    return s


cdef Storage storage_of(void *block, Py_ssize_t nbytes, int size_class, int device):
    """A storage over a block that a recorder has kept."""
    global live_bytes, peak_bytes
    cdef Storage s = <Storage>Storage.__new__(Storage)
    s.ptr, s.nbytes, s.size_class, s.device = <char *>block, nbytes, size_class, device
    if device >= 0:
        return s
    live_bytes += nbytes
    if live_bytes > peak_bytes:
        peak_bytes = live_bytes
    return s


@cython.no_gc
@cython.freelist(256)
@cython.final
cdef class Storage:
    """One block of memory, its owner when it is borrowed, and the count of in-place writes."""

    def __cinit__(self):
        self.size_class, self.device = -2, -1  # nothing to free yet

    def __dealloc__(self):
        global pooled_bytes, live_bytes
        cdef Block *block = <Block *>self.ptr
        if self.size_class < -1 or block == NULL:
            if self.size_class == DISTANT and not (
                    self.recorded and recorder is not None and recorder.keep(self.recorded, block)):
                devices.release(self.device, block)
            return
        live_bytes -= self.nbytes
        if self.recorded and recorder is not None and recorder.keep(self.recorded, block):
            return
        if self.size_class >= 0 and pooled_bytes + self.nbytes <= POOL_LIMIT:
            block.next = free_blocks[self.size_class]
            free_blocks[self.size_class] = block
            pooled_bytes += self.nbytes
        else:
            mg_unblock(block, self.nbytes)

    def __getbuffer__(self, Py_buffer *view, int flags):
        if self.device >= 0:
            refuse_host(self.device)
        if recorder is not None and recording():
            recorder.opened(self)
        PyBuffer_FillInfo(view, self, self.ptr, self.nbytes, self.readonly, flags)


def trim():
    """Return all pooled, unused blocks to the system; the bytes returned."""
    global pooled_bytes
    cdef Py_ssize_t freed = pooled_bytes
    cdef Block *block
    cdef int c
    for c in range(CLASSES):
        while free_blocks[c] != NULL:
            block = free_blocks[c]
            free_blocks[c] = block.next
            mg_unblock(block, class_bytes(c))
    pooled_bytes = 0
    return freed


def memory_stats():
    """Bytes ``live`` in tensors, ``pooled`` for reuse, and the ``peak`` of live bytes so far."""
    return {"live": live_bytes, "pooled": pooled_bytes, "peak": peak_bytes}


def reset_peak():
    """Start a new peak for ``memory_stats``."""
    global peak_bytes
    peak_bytes = live_bytes


# --- other devices ----------------------------------------------------------------------------------------------------

cdef Device *devices = NULL
cdef object describe_device = None, find_kernel = None, shape_of_kernel = None, find_current = None


def set_devices(size_t table, describe, kernel, shape, current):
    """Plug in devices: the address of a ``Device`` table that stays, ``describe(i)``, what users see as the device of a
    tensor on device ``i``, ``kernel(name, t, u, i)``, the handle of a kernel for dtypes t and u: an address whose
    highest bit is set, and ``shape(name, t, u)``, what ``kernels.contract.shape`` tells of a kernel by its address, with
    -1 scalars where they are read from the device. ``current()`` is the one that users mean where they name none."""
    global devices, describe_device, find_kernel, shape_of_kernel, find_current
    devices, describe_device, find_kernel, shape_of_kernel, find_current = <Device *>table, describe, kernel, shape, current


def set_where(int default, int current):
    """Note, for ``where``, on which devices the calling thread makes tensors by default and works."""
    global mg_where
    mg_where = (default + 1) << 16 | current


cdef int where() noexcept:
    """What ``set_where`` said in this thread: programs that a function was captured in depend on it."""
    return mg_where


cdef object device_object(int device):
    """What users see as a device other than the CPU."""
    return describe_device(device)


cdef int current_device() except -1:
    return find_current()


cdef str device_name(int device):
    return "cpu" if device < 0 else str(describe_device(device))


cdef size_t device_kernel(str name, str t, str u, int device) except 0:
    return find_kernel(name, t, u, device)


cdef tuple device_kernel_shape(str name, str t, str u):
    return shape_of_kernel(name, t, u)


cdef int refuse_mixed(int a, int b) except -1:
    if a < 0:
        a, b = b, a
    raise RuntimeError(f"Expected all tensors to be on the same device, but found at least two devices, {device_name(a)} "
                       f"and {device_name(b)}!")


cdef int refuse_host(int device) except -1:
    raise TypeError(f"can't convert {device_name(device)} device type tensor to numpy. Use Tensor.cpu() to copy the tensor "
                    "to host memory first.")


cdef Storage distant_storage(Py_ssize_t nbytes, int device):
    cdef Storage s
    cdef void *p
    if recorder is None or not recording():
        return unheard_storage(nbytes, device)
    p = recorder.reuse_distant(device, nbytes)
    if p != NULL:
        s = storage_of(p, nbytes, DISTANT, device)
    else:
        try:
            s = unheard_storage(nbytes, device)
        except MemoryError:
            recorder.make_room()
            return unheard_storage(nbytes, device)
    s.recorded = recorder.serial
    recorder.allocated(s, s.ptr, nbytes if nbytes > 0 else 1, nbytes, DISTANT)
    return s


cdef Storage unheard_storage(Py_ssize_t nbytes, int device):
    """Memory of a device other than the CPU that no recorder hears of: a program's own."""
    cdef Storage s = <Storage>Storage.__new__(Storage)
    s.ptr = <char *>devices.allocate(device, nbytes if nbytes > 0 else 1)
    s.nbytes, s.size_class, s.device = nbytes, DISTANT, device
    return s


cdef Storage foreign_storage(void *p, Py_ssize_t nbytes, int device, bint writable, object owner):
    """A storage over memory of a device (or of the CPU, -1) that ``owner`` keeps alive."""
    cdef Storage s = <Storage>Storage.__new__(Storage)
    s.ptr, s.nbytes, s.device, s.readonly, s.owner = <char *>p, nbytes, device, not writable, owner
    return s


# --- memory of others -------------------------------------------------------------------------------------------------


@cython.final
cdef class Lease:
    """A held buffer export: it keeps the array alive and refuses its resizing."""
    cdef Py_buffer view
    cdef bint held

    def __dealloc__(self):
        if self.held:
            PyBuffer_Release(&self.view)


cdef Storage lease(object array, bint writable):
    """A storage that borrows the memory of ``array`` (any strided buffer), from its first element on."""
    cdef Lease held = Lease()
    cdef Storage s = <Storage>Storage.__new__(Storage)
    PyObject_GetBuffer(array, &held.view, PyBUF_STRIDES | PyBUF_FORMAT | (PyBUF_WRITABLE if writable else 0))
    held.held = True
    cdef Py_ssize_t extent = held.view.itemsize if held.view.len else 0
    cdef int i
    for i in range(held.view.ndim):  # up to the last element, gaps included
        if held.view.strides[i] > 0 and held.view.len:
            extent += (held.view.shape[i] - 1) * held.view.strides[i]
    s.ptr, s.nbytes, s.readonly, s.owner = <char *>held.view.buf, extent, not writable, held
    return s
