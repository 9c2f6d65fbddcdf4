from cpython.object cimport PyObject
from libc.stdint cimport uint64_t

cdef struct TensorGuard:
    PyObject *tensor
    PyObject *storage
    char *ptr
    int nd
    int dt
    bint requires
    bint had            # a gradient
    Py_ssize_t[8] shape
    Py_ssize_t[8] stride


cdef struct DictGuard:
    PyObject *dict
    uint64_t tag


cdef struct NameGuard:
    PyObject *dict      # or a cell, or an object with slots
    PyObject *name
    int kind            # 0: a cell, 1: a dict, 2: a slot; of a function 3: code, 4: defaults, 5: keyword defaults
    PyObject *value


cdef class Guards:
    cdef TensorGuard *tensors
    cdef DictGuard *dicts
    cdef NameGuard *names
    cdef Py_ssize_t tensor_count, dict_count, name_count
    cdef readonly list tensor_list, dict_list, dict_keys, dict_copies, name_list, value_list, lists, list_copies, storages
    cdef dict live             # index of a group's dict -> (optimizer, group, tables)
    cdef frozenset fixed       # strings in the user's code: hyperparameters with such names may not change
    cdef set changes           # hyperparameters that have changed so far
    cdef public bint renewed   # one has for the first time: the function may set it itself, so the program is proved anew
    cdef list rates            # [tensor, its number, (optimizer, group, tables)]
    cdef readonly bint grad
    cdef int default_dtype, where
    cdef readonly object reason
    cdef bint fails(self, object why)
    cdef bint hold(self, bint gradients) except -1
    cdef int renew(self, list changes) except -1
    cdef bint list_holds(self, list now, tuple then) except -1
    cdef bint dict_holds(self, Py_ssize_t i) except -1
    cdef str place(self, keys)


cdef frozenset SIMPLE
cdef list rates_in(dict group)
cdef int update_with(optimizer, dict group, list rates) except -1
cdef bint same(object a, object b) except -1
cdef void *grown(void *p, size_t n) except NULL


cdef extern from "Python.h":
    Py_ssize_t Py_REFCNT(PyObject *o)
