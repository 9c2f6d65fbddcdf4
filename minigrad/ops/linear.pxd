from .._engine cimport Tensor

cdef Tensor apply(Tensor x, Tensor weight, Tensor bias, bint relu)
