from ._program cimport Call, Patch, Program, Slot
from ._record cimport Recorder, kernel_t


cdef class Draft(Recorder):
    cdef Call *code
    cdef Slot *slots
    cdef Patch *patches
    cdef void **bufs
    cdef Py_ssize_t *dims
    cdef double *scalars
    cdef Py_ssize_t count, room, slot_count, slot_room, patch_count, patch_room
    cdef Py_ssize_t buf_count, buf_room, dim_count, dim_room, scalar_count, scalar_room
    cdef readonly list objects, names, lines
    cdef dict line_numbers, name_numbers
    cdef readonly list heads   # (call, its slot, slots that it reads, check, whether it must) made ahead of all
    cdef Py_ssize_t last_check
    cdef list fills            # (slot, call) of fills that are made once
    cdef list chains           # of ``_fuse.plan``
    cdef Call *merged          # the calls that may stand for them
    cdef int new_slot(self, char *base, Py_ssize_t n, int size_class, int kind, int index, int device) except -1
    cdef int new_patch(self, int kind, Py_ssize_t at, void **place, int slot, Py_ssize_t offset, Py_ssize_t call) except -1
    cdef int add_patch(self, int kind, Py_ssize_t at, void **place, int slot, Py_ssize_t offset) except -1
    cdef Call *add_call(self, int kind, kernel_t f, int nb, int nd, int ns, Py_ssize_t units, double cost,
                        str name) except NULL
    cdef int make_buf_room(self, Py_ssize_t n) except -1
    cdef int patch_of(self, Call *call, int which) noexcept
    cdef bint passing(self, int slot) noexcept
    cdef int find_uses(self, int form) except -1
    cdef Py_ssize_t pack(self, list hosts, int device) except -1
    cdef bint lodge(self, int guest, list hosts) except -1
    cdef int sort_patches(self, int form, Patch **found, Py_ssize_t **firsts) except -1
    cdef int hand_over(self, Program p) except -1
