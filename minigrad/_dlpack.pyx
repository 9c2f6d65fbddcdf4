# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""DLPack's capsules: tensors handed from one library to another without a copy (https://dmlc.github.io/dlpack).

A capsule holds one of two structs, by its name: ``dltensor``, or ``dltensor_versioned`` since version 1. Whoever takes it
renames the capsule and calls the struct's deleter when done; a capsule that nobody took does so itself.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.pycapsule cimport PyCapsule_GetPointer, PyCapsule_IsValid, PyCapsule_New, PyCapsule_SetName
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int32_t, int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free

cdef extern from "Python.h":
    bint Py_IsInitialized() nogil

cdef struct DLDevice:
    int32_t device_type
    int32_t device_id

cdef struct DLDataType:
    uint8_t code
    uint8_t bits
    uint16_t lanes

cdef struct DLTensor:
    void *data
    DLDevice device
    int32_t ndim
    DLDataType dtype
    int64_t *shape
    int64_t *strides
    uint64_t byte_offset

cdef struct DLManagedTensor:
    DLTensor dl_tensor
    void *manager_ctx
    void (*deleter)(DLManagedTensor *) noexcept nogil

cdef struct DLManagedTensorVersioned:
    uint32_t major
    uint32_t minor
    void *manager_ctx
    void (*deleter)(DLManagedTensorVersioned *) noexcept nogil
    uint64_t flags
    DLTensor dl_tensor

cdef enum:
    READ_ONLY = 1   # of flags

cdef struct Sizes:  # what is handed out, and where its shape and strides lie
    DLManagedTensor old
    DLManagedTensorVersioned new
    int64_t[16] sizes


cdef void let_go(void *owner, Sizes *block) noexcept nogil:
    if Py_IsInitialized():
        with gil:
            Py_DECREF(<object>owner)
        free(block)


cdef void delete_old(DLManagedTensor *m) noexcept nogil:
    let_go(m.manager_ctx, <Sizes *>m)  # its first field


cdef void delete_new(DLManagedTensorVersioned *m) noexcept nogil:
    let_go(m.manager_ctx, <Sizes *>(<char *>m - <size_t>&(<Sizes *>NULL).new))


cdef void unused(object capsule) noexcept:
    """The destructor of a capsule: nobody has taken it, or its name would be another."""
    cdef DLManagedTensor *old
    cdef DLManagedTensorVersioned *new
    if PyCapsule_IsValid(capsule, "dltensor"):
        old = <DLManagedTensor *>PyCapsule_GetPointer(capsule, "dltensor")
        old.deleter(old)
    elif PyCapsule_IsValid(capsule, "dltensor_versioned"):
        new = <DLManagedTensorVersioned *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
        new.deleter(new)


def export(owner, size_t address, device, dtype, shape, strides, bint readonly, bint versioned):
    """A capsule over memory that ``owner`` keeps alive. device: (type, id); dtype: (code, bits); strides in elements."""
    cdef Sizes *block = <Sizes *>calloc(1, sizeof(Sizes))
    cdef DLTensor *t
    cdef int i, n = len(shape)
    if block == NULL:
        raise MemoryError
    t = &block.new.dl_tensor if versioned else &block.old.dl_tensor
    t.data, t.ndim, t.shape, t.strides = <void *>address, n, block.sizes, block.sizes + 8
    t.device.device_type, t.device.device_id = device
    t.dtype.code, t.dtype.bits = dtype
    t.dtype.lanes = 1
    for i in range(n):
        block.sizes[i], block.sizes[8 + i] = shape[i], strides[i]
    Py_INCREF(owner)
    if not versioned:
        block.old.manager_ctx, block.old.deleter = <void *>owner, delete_old
        return PyCapsule_New(&block.old, "dltensor", unused)
    block.new.major, block.new.manager_ctx, block.new.deleter = 1, <void *>owner, delete_new
    block.new.flags = READ_ONLY if readonly else 0
    return PyCapsule_New(&block.new, "dltensor_versioned", unused)


@cython.final
cdef class Taken:
    """Somebody else's memory: ``address``, ``device`` (type, id), ``dtype`` (code, bits), ``shape``, ``strides`` in elements
    and ``readonly``; given back when this object goes."""
    cdef DLManagedTensor *old
    cdef DLManagedTensorVersioned *new
    cdef readonly object address, device, dtype, shape, strides, readonly

    def __init__(self, capsule):
        cdef DLTensor *t
        cdef int i
        if PyCapsule_IsValid(capsule, "dltensor_versioned"):
            self.new = <DLManagedTensorVersioned *>PyCapsule_GetPointer(capsule, "dltensor_versioned")
            t = &self.new.dl_tensor
            if self.new.major != 1:
                major, self.new = self.new.major, NULL
                raise BufferError(f"DLPack version {major} is not supported")
            PyCapsule_SetName(capsule, "used_dltensor_versioned")
            self.readonly = bool(self.new.flags & READ_ONLY)
        elif PyCapsule_IsValid(capsule, "dltensor"):
            self.old = <DLManagedTensor *>PyCapsule_GetPointer(capsule, "dltensor")
            t = &self.old.dl_tensor
            PyCapsule_SetName(capsule, "used_dltensor")
            self.readonly = False
        else:
            raise ValueError("from_dlpack: expected a DLPack capsule that nobody has used yet")
        if t.dtype.lanes != 1:
            raise BufferError(f"DLPack elements of {t.dtype.lanes} lanes are not supported")
        self.address = <size_t>t.data + t.byte_offset
        self.device, self.dtype = (t.device.device_type, t.device.device_id), (t.dtype.code, t.dtype.bits)
        self.shape = tuple([t.shape[i] for i in range(t.ndim)])
        if t.strides != NULL:
            self.strides = tuple([t.strides[i] for i in range(t.ndim)])
        else:
            steps, n = [], 1
            for size in reversed(self.shape):
                steps.append(n)
                n *= size
            self.strides = tuple(reversed(steps))

    def __dealloc__(self):
        if self.old != NULL and self.old.deleter != NULL:
            self.old.deleter(self.old)
        if self.new != NULL and self.new.deleter != NULL:
            self.new.deleter(self.new)
