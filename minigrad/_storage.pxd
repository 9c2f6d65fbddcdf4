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

cdef struct Work:                      # a call of ``launch``, which another may look at again later
    void *f                            # a handle; or the highest bit and one of these numbers
    void **bufs
    Py_ssize_t *dims
    double *scalars
    Py_ssize_t units

cdef enum:                             # for what a device does besides kernels; operands: minigrad/_launch.pyx
    COPY_CALL = 1
    FILL_CALL = 2
    PRODUCT_CALL = 3

# What another kind of device than the CPU can do; all of it is called with the GIL. Who has such devices fills a table and
# hands it to ``_storage.set_devices``.
cdef struct Device:
    void *(*allocate)(int device, Py_ssize_t nbytes) except NULL                             # or MemoryError
    void (*release)(int device, void *p) noexcept
    int (*upload)(int device, void *to, const void *host, Py_ssize_t n) except -1      # host memory may be reused on return
    int (*download)(int device, void *host, const void *p, Py_ssize_t n) except -1     # waits
    int (*copy)(int device, void *to, int source, const void *p, Py_ssize_t n) except -1   # between or within devices
    int (*put)(int device, void *to, const void *value, int itemsize, Py_ssize_t count) except -1   # one value, repeated
    int (*launch)(void *handle, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units) except -1
    int (*product)(int device, int dt, bint ta, bint tb, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double alpha,
                   const void *a, Py_ssize_t lda, const void *b, Py_ssize_t ldb, double beta, void *y, Py_ssize_t ldy,
                   Py_ssize_t batch, Py_ssize_t stride_a, Py_ssize_t stride_b, Py_ssize_t stride_y) except -1  # row-major
    void *(*errors)(int device) except NULL    # int64[8] that kernels write and the host may read at any time
    int (*raise_errors)(int device) except -1  # what a kernel has complained about, as a Python exception
    void *(*graph)(int device, Work **calls, Py_ssize_t n) except? NULL   # the calls as one; NULL: here each is made alone
    int (*replay)(void *graph) except -1       # make them, with what stands in them now; 1: not with these addresses
    void (*forget)(void *graph) noexcept

cdef Device *devices    # NULL until somebody asks for a device other than the CPU

cdef class Storage:
    cdef char *ptr
    cdef Py_ssize_t nbytes
    cdef int size_class
    cdef int device            # -1: the CPU; else ``ptr`` means nothing here
    cdef bint readonly
    cdef uint32_t version
    cdef uint32_t made_at
    cdef uint32_t recorded     # the recorder that was at work when it was made
    cdef void *made_by         # the operation that filled it, at that version, if it is one that losses ask for
    cdef object owner

cdef Storage new_storage(Py_ssize_t nbytes, int device=*)
cdef Storage unheard_storage(Py_ssize_t nbytes, int device)
cdef Storage foreign_storage(void *p, Py_ssize_t nbytes, int device, bint writable, object owner)
cdef str device_name(int device)
cdef int current_device() except -1
cdef object device_object(int device)
cdef size_t device_kernel(str name, str t, str u, int device) except 0
cdef tuple device_kernel_shape(str name, str t, str u)
cdef int refuse_mixed(int a, int b) except -1
cdef Storage storage_of(void *block, Py_ssize_t nbytes, int size_class, int device)
cdef Storage lease(object array, bint writable)
cdef int where() noexcept
cdef int promote(int a, int b) noexcept nogil
cdef int dtype_code(object value) except -1
