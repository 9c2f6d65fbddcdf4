ctypedef void (*kernel_t)(void **, Py_ssize_t *, double *, Py_ssize_t, Py_ssize_t) noexcept nogil

cdef int launch(kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units, double cost) except -1
