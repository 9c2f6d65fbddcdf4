from .._engine cimport Tensor

cdef Tensor product(Tensor a, Tensor b, bint ta, bint tb, Tensor bias, bint relu)
cdef Tensor rows_of(Tensor x, Py_ssize_t width)
