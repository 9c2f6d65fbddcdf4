from ._draft cimport Draft
from ._program cimport Program

cdef int simplify(Draft draft, list passes) except -1
cdef int fill_once(Draft draft, Program p, int slot, Py_ssize_t i) except -1
