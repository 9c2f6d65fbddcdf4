from cpython.object cimport PyObject

from ._engine cimport Tensor
from ._guards cimport Guards
from ._record cimport kernel_t
from ._storage cimport Storage, Work

cdef enum:
    CALL, PREPARED, EXPECT, TAKE, CHAINED, THERE, HEAD, GONE  # kinds of calls; the last two are passed over
cdef enum:
    OWN, OUTER, ARGUMENT, GRADIENT, CONSTANT          # kinds of slots
cdef enum:
    NO_GRADIENT, SAME_GRADIENT, NEW_GRADIENT          # what a tensor has at the end
cdef enum:
    GRAPHS = 4                                        # of one segment


cdef struct Call:
    kernel_t f
    void **bufs
    Py_ssize_t *dims
    double *scalars
    Py_ssize_t units
    double cost
    int kind
    Py_ssize_t bytes   # of the memory that it reads or writes
    int last           # of a run of small calls that starts here: one past its end, else 0
    int object
    int device         # where it runs, -1: here
    int partner        # of a chained call: the one that it follows chunk by chunk
    int line
    int name
    Py_ssize_t b, d, s  # where its buffers, dims and scalars are in the pools
    int nb, nd, ns
    Py_ssize_t p       # its first patch, while recording


cdef struct Slot:
    char *base
    Py_ssize_t nbytes
    int size_class
    int kind
    int index          # of an argument or a leaf
    int next           # free block of the same class
    int device
    int first, last    # calls in which it was first and last used
    Py_ssize_t block   # bytes of the block
    Py_ssize_t asked   # bytes that were asked for
    Py_ssize_t place   # in the arena or in the memory of slot ``host``, or -1
    int host
    bint alive
    bint clobbered     # used before the last check
    PyObject *storage  # borrowed, while alive


cdef struct Segment:       # calls that all run here, or all on one device
    Py_ssize_t first, last     # one past the last
    int device
    Work **calls               # of a device, if there are enough of them for a graph
    Py_ssize_t count
    void *graphs[GRAPHS]       # each for other addresses; the last one used first
    Py_ssize_t made, in_a_row  # how many were, and how many since one could be replayed


cdef struct Patch:
    void **place       # once sealed
    Py_ssize_t at      # before: which buffer, or which call's scalars
    int kind           # 0: a buffer, 1: scalars, 2: ``place`` itself
    int slot
    int call
    int form           # of the program that has it: 1 its calls one by one, 2 chains merged, 3 both
    Py_ssize_t offset


cdef struct Place:         # of a slot, in the other form of the program
    Py_ssize_t place
    int host, first, last


cdef struct Visible:
    int slot
    int leaf               # whose gradient it is, or -1


cdef struct ArgumentSpec:
    Py_ssize_t place       # among the leaves of the arguments
    int slot               # -1: its memory is not used
    int nd
    int dt
    int device
    bint pinned            # shares memory with a parameter or the like: only this very memory will do
    bint readonly
    Py_ssize_t delta       # how often it is written
    char *ptr
    Py_ssize_t[8] shape
    Py_ssize_t[8] stride


cdef class Output:
    cdef int slot
    cdef Py_ssize_t offset
    cdef Tensor like
    cdef void *made_by


cdef class Program:
    cdef Call *code
    cdef Slot *slots
    cdef Patch *patches        # sorted by slot
    cdef Py_ssize_t *first     # of each slot, its first patch
    cdef void **bufs
    cdef Py_ssize_t *dims
    cdef double *scalars
    cdef Py_ssize_t count, slot_count
    cdef ArgumentSpec *arguments
    cdef Visible *visible
    cdef Py_ssize_t argument_count, visible_count, leaf_count
    cdef readonly Guards guards
    cdef list arenas           # memory that does not outlive a run: here, then on each device or None
    cdef Segment *segments     # NULL where all calls run here
    cdef Py_ssize_t segment_count
    cdef list devices          # on which there are calls
    cdef int current           # which of them is meant by a device without a number
    cdef public bint graphs    # whether to make graphs of them
    cdef readonly object why_no_graphs
    cdef bint crowded          # addresses were too many
    cdef dict landings         # argument -> memory on its device that it is copied to; None before they are needed
    cdef set lent              # slots of results that are handed out as copies, since then
    cdef dict copied           # slot -> such a copy, in this run
    cdef dict spares           # slot -> memory on a device that it had before
    cdef readonly list memory, objects, constants, keep_alive, names, lines, generators
    cdef list gradients        # of each guarded tensor: the program's gradient tensor, or None
    cdef list layouts          # and a tensor without memory of its shape and strides
    cdef list gradient_bumps   # (which guarded tensor, how often its gradient is written in place)
    cdef int *ends             # of each guarded tensor: what becomes of its gradient
    cdef int *incoming         # of each guarded tensor: the slot of the gradient it had, or -1
    cdef list bumps            # (storage, how often it is written)
    cdef list outputs
    cdef list heads            # (call, check) to be made ahead of all others
    cdef readonly object tree  # how the results are put together
    cdef readonly object structure, constants_of  # of the arguments: their nesting, (place, value) of those that are no tensors
    cdef readonly list places  # of the arguments that are tensors
    cdef bint has_checks, single
    cdef public bint trusted
    cdef public long captured, proved  # in which call of the function
    cdef readonly long runs, timed
    cdef double *spent         # nanoseconds of each call, in ``timed`` runs
    cdef readonly object chains  # _fuse.Chains, or None
    cdef public object ready   # addresses of their kernels, from the moment all are compiled until ``swap``
    cdef Patch *other_patches  # those of the form that the program does not have now: one by one, or with merged calls
    cdef Py_ssize_t *other_first
    cdef Place *other_places
    cdef Call *merged          # of each chain: its one call, or while that is in use the call in whose place it is
    cdef readonly bint swapped
    cdef readonly long merge_at  # the number of runs after which it pays to compile them
    cdef bint accepts(self, tuple leaves) except -1
    cdef bint separate(self, tuple leaves) except -1
    cdef int rebind(self, int slot, char *base) noexcept
    cdef int bind(self, tuple leaves) except -1
    cdef int renew(self, int slot) except -1
    cdef int execute(self) except -1
    cdef int make(self, Py_ssize_t i, Py_ssize_t end) except -1
    cdef int find_segments(self) except -1
    cdef int make_there(self, Segment *segment) except -1
    cdef bint replay(self, Segment *segment) except -1
    cdef int forget(self) noexcept
    cdef int settle(self) except -1
    cdef int take(self, Py_ssize_t i) except -1
    cdef int find_runs(self) except -1
    cdef object run(self, tuple leaves)
    cdef object results(self, tuple leaves)
    cdef Tensor output(self, Output o, tuple leaves)


cdef double SHARED, RELEASED
cdef void exchange_places(Slot *slots, Place *places, Py_ssize_t n) noexcept
cdef Py_ssize_t TOGETHER
cdef tuple SWEEPS
cdef Tensor layout_of(Tensor t)
cdef Py_ssize_t extent_of(Tensor t) noexcept
