from ._record cimport kernel_t

cdef int launch(kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units, double cost) except -1
cdef double now() noexcept nogil
cdef kernel_t COPY_THERE, FILL_THERE, PRODUCT_THERE
cdef bint leave_python() noexcept
cdef int enter_python() noexcept
