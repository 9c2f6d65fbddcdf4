# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What the engine tells a recorder while a function is being captured (compile.py); without one, a pointer comparison.

DESIGN
a. Whatever writes tensor memory is a kernel call, which ``launch`` reports, or reports itself here; whatever reads it in
   Python or C is reported too. So a recorder can prove that what it kept is all there is to replay, or refuse.
b. Only the capturing thread is recorded (``recording``). The methods here do nothing: _program.pyx overrides them.
"""

cdef Recorder recorder = None
cdef dict shapes = {}  # address of a kernel: name, how many buffers, dims and scalars, whether more dims follow, a mask of
                       # buffers that are no memory (a function), see ``describe``; Numba's kernels are added when met
cdef dict handles = {}  # of kernels for other devices: handle -> name, dtypes

adds = {}  # address of a product's kernel: a function of its dims that says whether beta 1 has the bits of an addition


cdef class Prepared:
    """Tables that a kernel reads, and what must be computed before it runs again."""

    cdef int device_of(self) noexcept:
        """Where the kernel runs, -1: here."""
        return -1

    cdef bint owns(self, void *p) noexcept:
        """Whether p is memory of this object, which lives as long as it does."""
        return False

    cdef int addresses(self, Recorder to) except -1:
        """Report each place in the tables that holds the address of a tensor's memory."""
        return 0

    cdef int prepare(self) except -1:
        """Compute what depends on the state, before the kernel; 1 if that would change nothing this time."""
        return 0

    cdef int finish(self) noexcept:
        """Count steps, after it."""
        return 0


cdef class Recorder:
    """Hears of everything that touches tensor memory in its thread."""

    cdef int kernel(self, kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units,
                    double cost) except -1:
        """A kernel is about to run."""
        return 0

    cdef int prepared(self, Prepared call) except -1:
        """The next kernel reads the tables of ``call``."""
        return 0

    cdef int address(self, void **place) except -1:
        """``place`` holds the address of a tensor's memory."""
        return 0

    cdef int written(self, void *p, Py_ssize_t n) except -1:
        """C code has written these bytes of tensor memory, always the same."""
        return 0

    cdef int constant(self, void *p, Py_ssize_t n) except -1:
        """A kernel is about to read these bytes, which are no tensor's and always the same."""
        return 0

    cdef bint always(self, void *p, void *value, Py_ssize_t n) except -1:
        """Whether the bytes at p are those of ``value`` whenever the function gets here."""
        return False

    cdef int expect(self, void *p, Py_ssize_t n) except -1:
        """What follows holds only if the bytes at p are what they are now."""
        return 0

    cdef int refuse(self, object why) except -1:
        """The function does something that cannot be replayed."""
        return 0

    cdef int opened(self, object storage) except -1:
        """Python code has got hold of the memory itself."""
        return 0

    cdef int leased(self, object storage) except -1:
        """A tensor was made over the memory of an array that an operation has computed from shapes."""
        return 0

    cdef void *reuse(self, int size_class) noexcept:
        """A block that was freed since recording began, or NULL."""
        return NULL

    cdef void *reuse_distant(self, int device, Py_ssize_t n) except? NULL:
        """The same of n bytes on another device."""
        return NULL

    cdef int make_room(self) except -1:
        """Memory of a device is out: give back what is kept there, and record no more."""
        return 0

    cdef int allocated(self, object storage, void *p, Py_ssize_t n, Py_ssize_t asked, int size_class) except -1:
        """A storage was created: a block of n bytes, of which so many were asked for."""
        return 0

    cdef bint keep(self, unsigned int serial, void *p) noexcept:
        """A storage that was created while ``serial`` recorded dies; whether its block is kept here."""
        return False


cdef int set_recorder(Recorder to) except -1:
    global recorder
    recorder = to
    return 0


cdef int describe(kernel_t f, str name, int bufs, int dims, int scalars, int opaque=0, int relu=-1) except -1:
    """Declare a kernel that is not Numba's; ``relu``: which of a product's dims makes its epilogue apply relu."""
    shapes[<size_t>f] = (name, bufs, dims, scalars, 0, opaque, relu)
    return 0


def current():
    """The recorder of this thread, or None."""
    return recorder if recording() else None
