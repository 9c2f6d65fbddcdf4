from libc.stdint cimport uint32_t

cdef enum:
    F32 = 0
    F64 = 1
    I64 = 2
    I32 = 3
    I16 = 4
    I8 = 5
    U8 = 6
    BOOL = 7
    NDTYPES = 8
    MAXDIM = 8

cdef int[8] ITEMSIZE
cdef int[8] CATEGORY

cdef class dtype:
    cdef readonly int code
    cdef readonly str name
    cdef readonly int itemsize
    cdef readonly bint is_floating_point
    cdef readonly bint is_signed

cdef list DTYPES

cdef class Storage:
    cdef char *ptr
    cdef Py_ssize_t nbytes
    cdef int size_class
    cdef bint readonly
    cdef uint32_t version
    cdef uint32_t made_at
    cdef uint32_t recorded     # the recorder that was at work when it was made
    cdef void *made_by         # the operation that filled it, at that version, if it is one that losses ask for
    cdef object owner

cdef Storage new_storage(Py_ssize_t nbytes)
cdef Storage storage_of(void *block, Py_ssize_t nbytes, int size_class)
cdef Storage lease(object array, bint writable)
cdef int promote(int a, int b) noexcept nogil
cdef int dtype_code(object value) except -1
