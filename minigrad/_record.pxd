ctypedef void (*kernel_t)(void **, Py_ssize_t *, double *, Py_ssize_t, Py_ssize_t) noexcept nogil


cdef class Prepared:
    cdef int device_of(self) noexcept
    cdef bint owns(self, void *p) noexcept
    cdef int addresses(self, Recorder to) except -1
    cdef int prepare(self) except -1
    cdef int finish(self) noexcept


cdef class Recorder:
    cdef unsigned long thread
    cdef unsigned int serial
    cdef readonly bint refreshing
    cdef int kernel(self, kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units,
                    double cost) except -1
    cdef int prepared(self, Prepared call) except -1
    cdef int address(self, void **place) except -1
    cdef int written(self, void *p, Py_ssize_t n) except -1
    cdef int constant(self, void *p, Py_ssize_t n) except -1
    cdef bint always(self, void *p, void *value, Py_ssize_t n) except -1
    cdef int expect(self, void *p, Py_ssize_t n) except -1
    cdef int refuse(self, object why) except -1
    cdef int opened(self, object storage) except -1
    cdef int leased(self, object storage) except -1
    cdef void *reuse(self, int size_class) noexcept
    cdef void *reuse_distant(self, int device, Py_ssize_t n) except? NULL
    cdef int make_room(self) except -1
    cdef int allocated(self, object storage, void *p, Py_ssize_t n, Py_ssize_t asked, int size_class) except -1
    cdef bint keep(self, unsigned int serial, void *p) noexcept


cdef extern from "Python.h":
    unsigned long PyThread_get_thread_ident() nogil

cdef Recorder recorder
cdef int set_recorder(Recorder to) except -1
cdef int describe(kernel_t f, str name, int bufs, int dims, int scalars, int opaque=*, int relu=*) except -1
cdef dict shapes, handles

cdef inline bint recording() noexcept:
    return recorder is not None and recorder.thread == PyThread_get_thread_ident()
