# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""One native call for a whole list of tensors: the tables that the optimizer and clipping kernels read.

DESIGN
a. ``update`` walks the parameters once, looks their state up in the optimizer's own dicts (nothing is cached, so nothing
   can go stale), writes addresses and chunks into C arrays, and runs one kernel per dtype over all chunks.
b. Numbers that depend on a tensor's own step count (bias corrections) come from ``row(step)``, called once per run of
   equal step counts, in practice once.
c. Everything that can fail (state creation, shapes, dtypes) happens before the first parameter is written, also where
   parameters of two dtypes need two calls, or several groups: ``all_groups``. No Python code runs while they are
   written, hence no Ctrl-C.
d. Tensors of two dtypes or on two devices are two batches: tables, and a kernel call, each.
e. For tensors on a GPU ``stage`` copies the tables there, packed into one block, before anything is written; then the
   kernel's buffers are addresses of tables of addresses on the GPU. Chunk tables, the long ones (16 bytes a chunk),
   depend on nothing but the sizes: they are copied when these change and stay there. Step counts remain on the CPU. A
   program's copies stay, too, and are written again when something in them has changed.
f. Of two hundred small parameters with their states, the objects fill a first-level cache many times over. So each is
   looked at once: what has to stay alive, and to be marked as written later, is a list of storages, not of tensors.
"""

from cpython.bytes cimport PyBytes_FromStringAndSize
from cpython.dict cimport PyDict_GetItemWithError
from cpython.object cimport PyObject
from cpython.pythread cimport PyThread_get_thread_ident
from cpython.ref cimport Py_DECREF, Py_INCREF
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, realloc
from libc.string cimport memcmp, memcpy

from .._engine cimport Kernel, Tensor, check_expanded, to_contiguous
from .._launch cimport launch
from .._record cimport Prepared, Recorder, recorder, recording
from .._storage cimport CATEGORY, DTYPES, F32, F64, ITEMSIZE, Storage, device_name, devices, refuse_mixed, unheard_storage

from .._engine import write_memory

cpdef enum:
    CHUNK = 2048  # elements a unit: kernels/optimizers.py
cdef enum:
    SLOTS = 6      # parameter, gradient, up to four more
    COUNTERS = 3   # step count and what else is one number a tensor
    SPARE = 16     # tables that are kept


cdef class Tables(Prepared):
    """Growing C arrays: addresses a slot, counters and their new values, sizes, chunk table, numbers a tensor.

    A captured program keeps those of its optimizer steps, and lets them compute their numbers anew before each.
    """
    cdef int64_t *address[SLOTS]
    cdef int64_t *counter[COUNTERS]
    cdef float *count[COUNTERS]
    cdef int64_t *sizes
    cdef double *table
    cdef int64_t *chunk_tensor
    cdef int64_t *chunk_start
    cdef Py_ssize_t room, chunk_room, tensors, chunks, elements
    cdef Py_ssize_t[8] dims
    cdef double[16] scalars
    cdef int dt
    cdef list borrowed  # (tensor, contiguous copy)
    cdef PyObject **kept  # storages in use: another thread may drop a gradient or a state meanwhile
    cdef bint *written    # and whether the kernel writes them
    cdef Py_ssize_t kept_room, n_kept
    cdef object row                     # of ``update`` and ``factored``, for a program: see there
    cdef tuple shape                    # what a program cannot change: names, dims and how many columns
    cdef Py_ssize_t columns, counters, places  # places: which of ``address`` are addresses
    cdef void *factor                   # of ``sweep``: where the scalar is computed
    cdef int factor_dt
    cdef int device                     # where the tensors lie, -1: the CPU
    cdef Storage on                     # memory of one of them
    cdef Storage copies                 # on a GPU: addresses, sizes and numbers
    cdef Storage chunk_copies           # and the chunk table, from ``chunk_tables``
    cdef int64_t *packed                # what ``copies`` is a copy of
    cdef Py_ssize_t packed_room, packed_bytes
    cdef int copied                     # which of ``address`` are in it
    cdef bint factors                   # of ``factored``

    def __dealloc__(self):
        for i in range(SLOTS):
            free(self.address[i])
        for i in range(COUNTERS):
            free(self.counter[i])
            free(self.count[i])
        free(self.sizes)
        free(self.table)
        free(self.chunk_tensor)
        free(self.chunk_start)
        free(self.packed)
        self.release()
        free(self.kept)
        free(self.written)

    cdef inline int keep(self, Tensor t, bint written) except -1:
        """Hold the memory of t until the kernel has run; it is then marked as written if it was."""
        if self.n_kept == self.kept_room:
            self.kept_room = 2 * self.kept_room + 64
            self.kept = <PyObject **>grown(self.kept, self.kept_room * sizeof(PyObject *))
            self.written = <bint *>grown(self.written, self.kept_room * sizeof(bint))
        Py_INCREF(t.storage)
        self.kept[self.n_kept], self.written[self.n_kept] = <PyObject *>t.storage, written
        self.n_kept += 1
        return 0

    cdef int release(self, bint ran=False) noexcept:
        """Let go of what was kept; what the kernel has written counts as edited."""
        while self.n_kept:
            self.n_kept -= 1
            if ran and self.written[self.n_kept]:
                (<Storage>self.kept[self.n_kept]).version += 1
            Py_DECREF(<object>self.kept[self.n_kept])
        return 0

    cdef int reserve(self, Py_ssize_t n) except -1:
        cdef int i
        if n <= self.room:
            return 0
        n = 2 * n + 16
        for i in range(SLOTS):
            self.address[i] = <int64_t *>grown(self.address[i], n * sizeof(int64_t))
        for i in range(COUNTERS):
            self.counter[i] = <int64_t *>grown(self.counter[i], n * sizeof(int64_t))
            self.count[i] = <float *>grown(self.count[i], n * sizeof(float))
        self.sizes = <int64_t *>grown(self.sizes, n * sizeof(int64_t))
        self.table = <double *>grown(self.table, 4 * n * sizeof(double))
        self.room = n
        return 0

    cdef bint pack(self) noexcept:
        """Write the tables one behind the other; whether that changes anything."""
        cdef Py_ssize_t n = self.tensors, column = n * sizeof(int64_t)
        cdef int64_t *to = self.packed
        cdef bint changed = False
        for i in range(SLOTS):
            if self.copied >> i & 1:
                changed |= renewed(to, self.address[i], column)
                to += n
        changed |= renewed(to, self.sizes, column)
        return changed | renewed(to + n, self.table, self.columns * column)

    cdef int stage(self, int used) except -1:
        """Copy the tables to the device of the tensors, if that is not the CPU; ``used``: which of ``address``."""
        cdef Py_ssize_t n = self.tensors, room = (SLOTS + 1 + self.columns) * n, column = n * sizeof(int64_t)
        cdef Py_ssize_t half = self.chunks * sizeof(int64_t)
        cdef bytes sizes
        if self.device < 0 or n == 0:
            return 0
        if room > self.packed_room:
            self.packed, self.packed_room = <int64_t *>grown(self.packed, 2 * room * sizeof(int64_t)), 2 * room
        self.copied, self.packed_bytes = used, (1 + self.columns) * column
        for i in range(SLOTS):
            self.packed_bytes += (used >> i & 1) * column
        self.pack()
        self.copies = unheard_storage(self.packed_bytes, self.device)
        devices.upload(self.device, self.copies.ptr, self.packed, self.packed_bytes)
        sizes = PyBytes_FromStringAndSize(<char *>self.sizes, column)
        self.chunk_copies = <Storage>chunk_tables.get((self.device, sizes))
        if half and self.chunk_copies is None:
            self.chunk_copies = unheard_storage(2 * half, self.device)
            devices.upload(self.device, self.chunk_copies.ptr, self.chunk_tensor, half)
            devices.upload(self.device, self.chunk_copies.ptr + half, self.chunk_start, half)
            if len(chunk_tables) >= SPARE:
                del chunk_tables[next(iter(chunk_tables))]
            chunk_tables[self.device, sizes] = self.chunk_copies
        return 0

    cdef void *there(self, void *p) noexcept:
        """Where the copy of a table is; p itself if it is none."""
        cdef Py_ssize_t column = self.tensors * sizeof(int64_t)
        cdef char *at = self.copies.ptr
        if p == NULL:
            return p
        for i in range(SLOTS):
            if self.copied >> i & 1:
                if p == self.address[i]:
                    return at
                at += column
        if p == self.sizes:
            return at
        if p == self.table:
            return at + column
        if p == self.chunk_tensor:
            return self.chunk_copies.ptr
        if p == self.chunk_start:
            return self.chunk_copies.ptr + self.chunks * sizeof(int64_t)
        return p

    cdef int device_of(self) noexcept:
        return self.device

    cdef bint owns(self, void *p) noexcept:
        cdef int i
        if self.copies is not None:
            return within(p, self.copies) or within(p, self.chunk_copies)
        for i in range(SLOTS):
            if p == self.address[i]:
                return True
        return p == self.sizes or p == self.table or p == self.chunk_tensor or p == self.chunk_start

    cdef int addresses(self, Recorder to) except -1:
        cdef Py_ssize_t i, at
        for i in range(SLOTS):
            if self.places >> i & 1:
                for at in range(self.tensors):
                    to.address(<void **>&self.address[i][at])
        for i in range(self.counters):
            for at in range(self.tensors):
                to.address(<void **>&self.counter[i][at])
        if self.factor != NULL:
            to.address(&self.factor)
        return 0

    cdef int prepare(self) except -1:
        cdef bint idle = self.compute()
        if self.copies is not None and self.pack():
            devices.upload(self.device, self.copies.ptr, self.packed, self.packed_bytes)
        return idle

    cdef int compute(self) except -1:
        """``prepare`` the tables here."""
        cdef Py_ssize_t at, i
        cdef double[COUNTERS] last
        cdef bint same
        cdef double factor
        cdef object values = None
        if self.factor != NULL:
            factor = (<float *>self.factor)[0] if self.factor_dt == F32 else (<double *>self.factor)[0]
            self.scalars[0] = 1 if factor >= 1 else factor
            return factor >= 1
        if self.row is None:
            for at in range(self.tensors if self.columns else 0):
                self.table[at] = 0  # no state is new
            return 0
        for at in range(self.tensors):
            same = values is not None
            for i in range(self.counters):
                same = same and last[i] == (<float *>self.counter[i][at])[0]
                last[i] = (<float *>self.counter[i][at])[0]
            if not same:
                values = self.row(last[0] + 1) if self.counters == 1 else (
                    self.row(last[0] + 1, *[last[i] for i in range(1, self.counters)]))
            for i in range(self.columns):
                self.table[self.columns * at + i] = (<tuple>values)[i]
            self.count[0][at] = <float>(last[0] + 1)
            for i in range(1, self.counters):
                self.count[i][at] = <float><double>(<tuple>values)[self.columns + i - 1]
        return 0

    cdef int finish(self) noexcept:
        cdef Py_ssize_t i, j
        for j in range(self.counters):
            for i in range(self.tensors):
                (<float *>self.counter[j][i])[0] = self.count[j][i]
        return 0

    def renew(self, tuple shape, scalars, row):
        """Take over the hyperparameters of a later call; whether they fit."""
        cdef Py_ssize_t i
        if isinstance(scalars, dict):
            scalars = scalars[DTYPES[self.dt]]
        if shape != self.shape:
            return False
        for i in range(len(scalars)):
            self.scalars[i] = scalars[i]
        self.row = row
        return True

    def scaled(self):
        """Whether this is a sweep whose factor is read from a tensor."""
        return self.factor != NULL

    def chunks_of(self, Tables other not None):
        """Whether the gradients, and so the chunks, are those of ``other``; a unit of ``factored`` is a whole tensor."""
        cdef Py_ssize_t i
        if self.factors or self.tensors != other.tensors or self.chunks != other.chunks or self.dt != other.dt:
            return False
        for i in range(self.tensors):
            if self.address[1][i] != other.address[1][i] or self.sizes[i] != other.sizes[i]:
                return False
        return True

    def traffic(self, bint written):
        """Bytes that the kernel reads and writes. ``written``: a sweep's gradients are, or another call has scaled them."""
        cdef Py_ssize_t i, n = 0, columns = 0
        for i in range(SLOTS):
            columns += self.places >> i & 1
        if self.factors:
            for i in range(self.tensors):  # parameter and both of its factors are read and written, the gradient is read
                n += 3 * self.sizes[i] + 2 * (self.sizes[i] if self.address[3][i] == 0 else
                                              self.sizes[i] // self.address[5][i] + self.sizes[i] // self.address[4][i])
        else:
            n = self.elements * (2 * columns - 1 + written)
        return n * ITEMSIZE[self.dt] + 8 * self.tensors * self.counters

    cdef int add(self, Tensor p) except -1:
        """One more tensor and its chunks; addresses are the caller's. The first says which dtype and device."""
        cdef Py_ssize_t n = (p.count + CHUNK - 1) // CHUNK, i
        if self.tensors == 0:
            self.dt, self.on, self.device = p.dt, p.storage, p.storage.device
        self.reserve(self.tensors + 1)
        if self.chunks + n > self.chunk_room:
            i = 2 * (self.chunks + n) + 16
            self.chunk_tensor = <int64_t *>grown(self.chunk_tensor, i * sizeof(int64_t))
            self.chunk_start = <int64_t *>grown(self.chunk_start, i * sizeof(int64_t))
            self.chunk_room = i
        for i in range(n):
            self.chunk_tensor[self.chunks + i] = self.tensors
            self.chunk_start[self.chunks + i] = i * CHUNK
        self.sizes[self.tensors] = p.count
        self.chunks += n
        self.tensors += 1
        self.elements += p.count
        return 0


cdef list spare = []  # tables of former calls: a step allocates nothing
cdef dict chunk_tables = {}  # (device, sizes of tensors) -> memory there: steps of the same groups upload none again


cdef Tables take_tables():
    """Empty tables, spare ones if there are any."""
    cdef Tables tables = <Tables>spare.pop() if spare else Tables()
    tables.tensors = tables.chunks = tables.elements = tables.columns = tables.counters = tables.places = 0
    tables.row, tables.shape, tables.factor, tables.factors = None, None, NULL, False
    tables.borrowed = []
    tables.device, tables.on, tables.copies = -1, None, None
    return tables


cdef int give_back(Tables tables) except -1:
    tables.borrowed = tables.on = None
    tables.release()
    if recorder is not None and recording():  # a program's
        return 0
    tables.copies = None
    if len(spare) < SPARE:
        tables.row = None
        spare.append(tables)
    return 0


cdef bint renewed(int64_t *to, void *values, Py_ssize_t n) noexcept:
    """Copy n bytes; whether there were others."""
    if memcmp(to, values, n) == 0:
        return False
    memcpy(to, values, n)
    return True


cdef bint within(void *p, Storage s) noexcept:
    return s is not None and s.ptr <= <char *>p < s.ptr + s.nbytes


cdef void *grown(void *p, size_t bytes) except NULL:
    p = realloc(p, bytes)
    if p == NULL:
        raise MemoryError("cannot allocate the optimizer's tables")
    return p


cdef inline bint fits(Tensor a, Tensor b) noexcept:
    cdef int i
    if a.dt != b.dt or a.nd != b.nd or a.storage.device != b.storage.device:
        return False
    for i in range(a.nd):
        if a.shape_[i] != b.shape_[i]:
            return False
    return True


cdef inline int kind_of(Tensor p) noexcept:
    """Dtype and device: what a batch has in common."""
    return p.dt | (p.storage.device + 1) << 4


cdef Tensor dense(Tensor p, list borrowed):
    """p, or a contiguous copy of it that is written back after the kernel."""
    if p.storage.readonly:
        raise ValueError("a parameter shares read-only memory (a read-only NumPy array) and cannot be updated")
    if p.contiguous:
        return p
    check_expanded(p)
    copy = to_contiguous(p)
    borrowed.append((p, copy))
    return copy


def update(Kernel kernel not None, params, state, tuple names, tuple dims, tuple scalars,
           Py_ssize_t columns=0, row=None, init=None, str fresh=None, tuple counters=("step",)):
    """Run an optimizer kernel once over all ``params`` that have a gradient.

    names: the state key of each state buffer of the kernel, in its order, None for NULL. columns, row: the kernel's
    ``table`` and the function that gives its numbers for a tensor, from the tensor's ``counters``: float32, 0-d states,
    the first of them the step count, which is counted up; with more, ``row(step, *others)`` returns the numbers and
    then the new values of the others. Without row, and with ``fresh``, the one number is 1 where state ``fresh`` was
    missing. init(p, state): create the state. When anything does not fit, nothing is written and no state is created.
    """
    cdef Tables tables
    cdef list batches = [], created = [], kinds = []
    cdef Py_ssize_t i, at = 0
    cdef int used = 3
    if not isinstance(state, dict) or len(names) > SLOTS - 2 or len(dims) > 8 or len(scalars) > 16:
        raise TypeError("update: state must be a dict; at most 4 state buffers, 8 dims and 16 scalars")
    if columns > 4 or len(counters) > COUNTERS:
        raise TypeError(f"update: at most 4 columns and {COUNTERS} counters")
    for i in range(len(names)):
        used |= 0 if names[i] is None else 4 << i
    cdef tuple shape = None
    if recorder is not None and recording():
        shape = (kernel, names, dims, columns, counters)
        if recorder.refreshing:
            recorder.renew(shape, scalars, row)
            return
    try:
        while True:
            tables = take_tables()
            for i in range(len(dims)):
                tables.dims[i] = dims[i]
            for i in range(len(scalars)):
                tables.scalars[i] = scalars[i]
            tables.shape, tables.row, tables.columns, tables.places = shape, row, columns, used
            collect(tables, params, state, names, columns, row, init, fresh, counters, kinds, at, created)
            if tables.tensors:
                kernel.find(tables.dt, tables.dt, tables.on)  # compiled now: later it must not fail
                tables.stage(used)
                batches.append(tables)
            at += 1
            if at >= len(kinds):
                break
    except BaseException:
        undo(state, created, fresh)
        raise
    if waiting:
        write_or_wait((kernel, batches, names, 0 if row is None else len(counters), state, created, fresh))
        return
    for item in batches:  # from here on nothing fails
        commit(kernel, <Tables>item, names, 0 if row is None else len(counters))


cdef dict waiting = {}  # thread -> what ``all_groups`` is to write at its end


def all_groups(update_group, groups):
    """Call ``update_group(group)`` for each group; what they update is written at the end, or nothing is."""
    cdef long thread = PyThread_get_thread_ident()
    cdef list steps = []
    before = waiting.get(thread)
    waiting[thread] = steps
    try:
        for group in groups:
            update_group(group)
    except BaseException:
        for step in steps:
            undo(step[4], step[5], step[6])
        raise
    finally:
        if before is None:
            del waiting[thread]
        else:
            waiting[thread] = before
    for step in steps:
        write(step)


cdef int write_or_wait(tuple step) except -1:
    """From here on nothing fails."""
    steps = waiting.get(PyThread_get_thread_ident())
    if steps is None:
        return write(step)
    (<list>steps).append(step)
    return 0


cdef int write(tuple step) except -1:
    for tables in <list>step[1]:
        if step[2] is None:
            commit_factored(<Kernel>step[0], <Tables>tables)
        else:
            commit(<Kernel>step[0], <Tables>tables, <tuple>step[2], step[3])
    return 0


cdef Tensor gradient_of(Tensor p):
    """The gradient of p, which fits it."""
    cdef Tensor g = <Tensor>p.gradient
    if not fits(g, p) or CATEGORY[p.dt] != 2:
        if g.storage.device != p.storage.device:
            refuse_mixed(p.storage.device, g.storage.device)
        raise RuntimeError(f"gradient of shape {tuple(g.shape)} and dtype {g.dtype!r} for a parameter of shape "
                           f"{tuple(p.shape)} and dtype {p.dtype!r}")
    return g


cdef object state_of(Tensor p, state, str fresh, init, list created):
    """The states of p, made by ``init`` where there are none or ``fresh`` is missing, and then noted in ``created``."""
    cdef PyObject *found = PyDict_GetItemWithError(state, p)
    cdef object own = <object>found if found != NULL else state[p]
    if found == NULL:
        created.append((p, True))
    if not isinstance(own, dict):
        raise TypeError(f"optimizer state of a parameter must be a dict, got {type(own).__name__}")
    if len(<dict>own) == 0 or (fresh is not None and own.get(fresh) is None):
        if found != NULL:
            created.append((p, not own))
        init(p, own)
    return own


cdef Tensor held(own, str name, Tensor p):
    """State ``name`` of p."""
    cdef PyObject *found = PyDict_GetItemWithError(own, name)
    if found == NULL:
        raise KeyError(f"optimizer state of a parameter of shape {tuple(p.shape)} lacks {name!r}")
    return <Tensor?><object>found


cdef Tensor counter_held(own, str name, Tensor p):
    """State ``name`` of p, which is one float32 number."""
    cdef Tensor s = held(own, name, p)
    if s.count != 1 or s.dt != F32 or s.storage.readonly or s.storage.device >= 0:
        raise RuntimeError(f"optimizer state {name!r} must be a writable float32 tensor with one element, on the CPU")
    return s


cdef int misfit(str name, Tensor s, Tensor p) except -1:
    if s.storage.device != p.storage.device:
        raise RuntimeError(f"optimizer state {name!r} is on {device_name(s.storage.device)}, its parameter of shape "
                           f"{tuple(p.shape)} on {device_name(p.storage.device)}")
    raise RuntimeError(f"optimizer state {name!r} has shape {tuple(s.shape)} and dtype {s.dtype!r} for a parameter of "
                       f"shape {tuple(p.shape)} and dtype {p.dtype!r}")


cdef int undo(state, list created, str fresh) except -1:
    """Forget the states that a step made which was refused."""
    for p, was_empty in created:
        state.pop(p, None) if was_empty else state[p].pop(fresh, None)
    return 0


cdef int collect(Tables tables, params, state, tuple names, Py_ssize_t columns, row, init, str fresh, tuple counters,
                 list kinds, Py_ssize_t which, list created) except -1:
    """Check the parameters of one kind, ``kinds[which]``, and write them into ``tables``.

    The first call appends to ``kinds`` what kinds there are.
    """
    cdef Tensor p, g, s
    cdef object own = None
    cdef Py_ssize_t i, k = len(names), at, n = len(counters), known
    cdef int kind = kinds[which] if kinds else -1
    cdef double[COUNTERS] last
    cdef tuple values = None
    cdef bint same
    for item in params:
        p = <Tensor?>item
        if p.gradient is None:
            continue
        g = gradient_of(p)
        if kind < 0:
            kind = kind_of(p)
            kinds.append(kind)
        elif kind_of(p) != kind:
            if kind_of(p) not in kinds:
                kinds.append(kind_of(p))
            continue
        known = len(created)
        if init is not None:
            own = state_of(p, state, fresh, init, created)
        tables.add(p)
        at = tables.tensors - 1
        tables.address[0][at] = <int64_t>dense(p, tables.borrowed).ptr
        g = to_contiguous(g)
        tables.keep(g, False)  # another thread may set .grad to None meanwhile
        tables.address[1][at] = <int64_t>g.ptr
        for i in range(k):
            if names[i] is None:
                continue
            s = held(own, names[i], p)
            if not fits(s, p):
                misfit(names[i], s, p)
            tables.address[2 + i][at] = <int64_t>dense(s, tables.borrowed).ptr
            tables.keep(s, True)
        tables.keep(p, True)
        if row is not None:
            same = values is not None
            for i in range(n):
                s = counter_held(own, counters[i], p)
                tables.counter[i][at] = <int64_t>s.ptr
                tables.keep(s, True)
                same = same and last[i] == (<float *>s.ptr)[0]
                last[i] = (<float *>s.ptr)[0]
            if not same:
                values = row(last[0] + 1, *[last[i] for i in range(1, n)])
            for i in range(columns):
                tables.table[columns * at + i] = values[i]
            tables.count[0][at] = <float>(last[0] + 1)
            for i in range(1, n):
                tables.count[i][at] = <float><double>values[columns + i - 1]
        elif columns:
            tables.table[at] = len(created) > known
    return 0


cdef int commit(Kernel kernel, Tables tables, tuple names, Py_ssize_t counters) except -1:
    """Run the kernel over what was collected."""
    cdef void *bufs[12]
    cdef Py_ssize_t i, k = len(names)
    bufs[0] = tables.address[0]
    for i in range(k):
        bufs[1 + i] = NULL if names[i] is None else tables.address[2 + i]
    bufs[k + 1], bufs[k + 2], bufs[k + 3] = tables.address[1], tables.chunk_tensor, tables.chunk_start
    bufs[k + 4], bufs[k + 5] = tables.sizes, tables.table
    return finish(kernel, tables, bufs, k + 6, tables.scalars, tables.chunks, counters)


cdef int finish(Kernel kernel, Tables tables, void **bufs, Py_ssize_t n, double *scalars, Py_ssize_t units,
                Py_ssize_t counters) except -1:
    """Run the kernel on n buffers, count the steps and the edits, write copies back."""
    tables.counters = counters
    if tables.copies is not None:
        for i in range(n):
            bufs[i] = tables.there(bufs[i])
    if recorder is not None and recording():
        recorder.prepared(tables)
    launch(kernel.find(tables.dt, tables.dt, tables.on), bufs, tables.dims, scalars, units, tables.elements * kernel.cost)
    (<Prepared>tables).finish()  # after it: starting the threads may fail
    tables.release(True)
    for original, copy in tables.borrowed:
        write_memory(original, copy)
    give_back(tables)
    return 0


def sweep(Kernel kernel not None, tensors, tuple scalars=(), Tensor partials=None, Tensor factor=None):
    """Run a kernel of the gradients-only kind (norm_squares, scale, clamp) over ``tensors``, all of one dtype and device.

    ``partials``: float64, one number a chunk (see ``chunk_count``), for kernels that reduce. ``factor``: the scalar, if it
    is less than 1 or nan; otherwise nothing is done, as 1 would change nothing. It lies where the tensors do; on a GPU,
    where nobody waits for its value, it is float64 and at most 1 or nan.
    """
    cdef Tables tables = take_tables()
    cdef Tensor t
    cdef void *bufs[5]
    cdef double *numbers = tables.scalars
    cdef int at = 0
    for i in range(len(scalars)):
        tables.scalars[i] = scalars[i]
    if factor is not None:
        if factor.count != 1 or CATEGORY[factor.dt] != 2:
            raise RuntimeError(f"sweep: the factor must be one floating-point number, its shape is {tuple(factor.shape)}")
    if factor is not None and factor.storage.device >= 0:
        if factor.dt != F64:
            raise TypeError("sweep: on a GPU the factor must be float64")
        numbers = <double *>factor.ptr
        tables.keep(factor, False)
    elif factor is not None:
        tables.factor, tables.factor_dt = factor.ptr, factor.dt
        tables.compute()
        if tables.scalars[0] == 1 and (recorder is None or not recording()):
            give_back(tables)
            return
    tables.places = 2
    for item in tensors:
        t = <Tensor?>item
        if CATEGORY[t.dt] != 2 or tables.tensors and t.dt != tables.dt:
            raise TypeError("sweep: tensors must be of one floating dtype")
        tables.add(t)
        if t.storage.device != tables.device:
            refuse_mixed(tables.device, t.storage.device)
        if partials is not None:
            t = to_contiguous(t)
            tables.keep(t, False)
        else:
            tables.keep(t, True)
            t = dense(t, tables.borrowed)
        tables.address[1][tables.tensors - 1] = <int64_t>t.ptr
    if tables.tensors == 0:
        return
    for t in (partials, factor):
        if t is not None and t.storage.device != tables.device:
            refuse_mixed(tables.device, t.storage.device)
    if partials is not None:
        if partials.count < tables.chunks or partials.dt != F64:
            raise ValueError(f"sweep: partials needs {tables.chunks} float64 elements")
        bufs[0], at = partials.ptr, 1
    bufs[at], bufs[at + 1], bufs[at + 2] = tables.address[1], tables.chunk_tensor, tables.chunk_start
    bufs[at + 3] = tables.sizes
    tables.stage(2)
    finish(kernel, tables, bufs, at + 4, numbers, tables.chunks, 0)


def average(Kernel kernel not None, averages, tensors, double weight):
    """``average += weight (tensor - average)`` for all pairs, of one dtype and device, by one call of the lerp kernel.

    RuntimeError names the pair that does not fit; nothing is written then.
    """
    cdef Tables tables = take_tables()
    cdef Tensor a, t
    cdef void *bufs[5]
    cdef Py_ssize_t k = 0
    cdef int kind = 0
    for first, second in zip(averages, tensors, strict=True):
        a, t = <Tensor?>first, <Tensor?>second
        if t.storage.device != a.storage.device:
            refuse_mixed(t.storage.device, a.storage.device)
        if not fits(a, t) or CATEGORY[a.dt] != 2 or k and kind_of(a) != kind:
            raise RuntimeError(f"average {k} has shape {tuple(a.shape)} and dtype {a.dtype!r}, its new value "
                               f"{tuple(t.shape)} and {t.dtype!r}; all must have one floating dtype, on one device")
        tables.add(a)
        kind = kind_of(a)
        tables.keep(a, True)
        tables.address[0][k] = <int64_t>dense(a, tables.borrowed).ptr
        t = to_contiguous(t)
        tables.keep(t, False)
        tables.address[1][k] = <int64_t>t.ptr
        k += 1
    if k == 0:
        return
    tables.scalars[0], tables.places = weight, 3
    bufs[0], bufs[1], bufs[2] = tables.address[0], tables.address[1], tables.chunk_tensor
    bufs[3], bufs[4] = tables.chunk_start, tables.sizes
    tables.stage(3)
    finish(kernel, tables, bufs, 5, tables.scalars, tables.chunks, 0)


def factored(Kernel kernel not None, params, state, tuple dims, dict scalars, row, init):
    """Run Adafactor's kernel, once a dtype, over all ``params`` that have a gradient.

    scalars: those of each dtype. row(step): the two numbers of a tensor at this step, which is counted up. init(p,
    state): create ``step`` and for shape (..., N, M) ``row_var`` (..., N, 1) and ``col_var`` (..., 1, M), for a vector
    ``variance``. When anything does not fit, nothing is written and no state is created.
    """
    cdef Tables tables
    cdef Tensor p, g, s
    cdef object own
    cdef dict found = {}
    cdef list created = []
    cdef Py_ssize_t i, at
    cdef object values
    cdef tuple shape = None
    if recorder is not None and recording():
        shape = (kernel, dims)
        if recorder.refreshing:
            recorder.renew(shape, scalars, row)
            return
    if not isinstance(state, dict) or len(dims) > 8 or max(map(len, scalars.values())) > 16:
        raise TypeError("factored: state must be a dict; at most 8 dims and 16 scalars")
    try:
        for item in params:
            p = <Tensor?>item
            if p.gradient is None:
                continue
            g = gradient_of(p)
            own = state_of(p, state, None, init, created)
            if kind_of(p) not in found:
                kernel.find(p.dt, p.dt, p.storage)  # compiled now: later it must not fail
                found[kind_of(p)] = tables = take_tables()
                tables.shape, tables.row, tables.columns, tables.places = shape, row, 2, 15
                tables.factors = True
                for i in range(len(dims)):
                    tables.dims[i] = dims[i]
                for i, x in enumerate(scalars[p.dtype]):
                    tables.scalars[i] = x
            tables = <Tables>found[kind_of(p)]
            tables.add(p)
            at = tables.tensors - 1
            g = to_contiguous(g)
            tables.keep(g, False)
            tables.address[0][at] = <int64_t>dense(p, tables.borrowed).ptr
            tables.address[1][at] = <int64_t>g.ptr
            tables.keep(p, True)
            tables.address[3][at] = 0
            if p.nd < 2:
                s = held(own, "variance", p)
                if not fits(s, p):
                    misfit("variance", s, p)
                tables.address[2][at] = <int64_t>dense(s, tables.borrowed).ptr
                tables.keep(s, True)
            else:
                for i, name in (2, "row_var"), (3, "col_var"):
                    s = held(own, name, p)
                    if not factor(s, p, p.nd + 1 - i):
                        misfit(name, s, p)
                    tables.address[i][at] = <int64_t>dense(s, tables.borrowed).ptr
                    tables.keep(s, True)
            tables.address[4][at] = p.shape_[p.nd - 2] if p.nd > 1 else 1
            tables.address[5][at] = p.shape_[p.nd - 1] if p.nd else 1
            s = counter_held(own, "step", p)
            tables.keep(s, True)
            tables.counter[0][at] = <int64_t>s.ptr
            tables.count[0][at] = (<float *>s.ptr)[0] + 1
            values = row(<double>(<float *>s.ptr)[0] + 1)
            tables.table[2 * at], tables.table[2 * at + 1] = values
        for found_tables in found.values():
            (<Tables>found_tables).stage(63)
    except BaseException:
        undo(state, created, None)
        raise
    write_or_wait((kernel, list(found.values()), None, 1, state, created, None))


cdef int commit_factored(Kernel kernel, Tables tables) except -1:
    cdef void *bufs[8]
    bufs[0], bufs[1], bufs[2], bufs[3] = tables.address[0], tables.address[2], tables.address[3], tables.address[1]
    bufs[4], bufs[5], bufs[6], bufs[7] = tables.address[4], tables.address[5], tables.sizes, tables.table
    return finish(kernel, tables, bufs, 8, tables.scalars, tables.tensors, 1)


cdef inline bint factor(Tensor s, Tensor p, Py_ssize_t along) noexcept:
    """Whether s has p's dtype and its shape, but for size 1 in dimension ``along``."""
    cdef Py_ssize_t i
    if s.dt != p.dt or s.nd != p.nd or s.storage.device != p.storage.device:
        return False
    for i in range(p.nd):
        if s.shape_[i] != (1 if i == along else p.shape_[i]):
            return False
    return True


def by_kind(tensors):
    """Lists of tensors of one floating dtype on one device each."""
    cdef dict batches = {}
    cdef list batch = None
    cdef Tensor t
    cdef int last = -1
    for i, item in enumerate(tensors):
        if not isinstance(item, Tensor):
            raise TypeError(f"expected tensors, but number {i} is {type(item).__name__}")
        t = <Tensor>item
        if CATEGORY[t.dt] != 2:
            raise RuntimeError(f"expected floating point tensors, but number {i} has dtype {t.dtype!r}")
        if kind_of(t) != last:
            last = kind_of(t)
            batch = batches.setdefault(last, [])
        batch.append(t)
    return list(batches.values())


def chunk_count(tensors):
    """How many chunks ``sweep`` cuts ``tensors`` into."""
    return sum([((<Tensor?>t).count + CHUNK - 1) // CHUNK for t in tensors])
