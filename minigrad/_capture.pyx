# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Recording: the kernel calls of one run of a function become a program.

DESIGN
a. ``Capture`` hears of every kernel call of the capturing thread and keeps it: kernel, buffers, dims, scalars. An address
   is kept as a slot and an offset. A slot is a block of the program's own (allocated during the capture), memory that
   existed before (a parameter), an argument, a gradient that was there, or a constant. An address that belongs to none of
   them, or any look at a tensor's value, makes the function one that cannot be captured.
b. Memory freed during the capture is kept and used again by the capture only, so that an address always belongs to one
   block of the program's or to none. Results and gradients have blocks of their own.
c. What is kept is a ``Draft`` (_draft.pyx); passes make it smaller (_passes.pyx). ``seal`` adds what Python sees: the
   arguments, the results, the gradients.
d. What runs on another device than the CPU is a call of kind THERE, which no pass for the CPU touches, or the call of an
   optimizer's tables, whose copies there stay where they are.
"""

from cpython.object cimport PyObject
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

import os

from ._draft cimport Draft
from ._engine cimport Node, Tensor
from ._guards cimport SIMPLE, Guards, grown, rates_in, update_with
from ._program cimport (
    ARGUMENT, CALL, CONSTANT, EXPECT, GRADIENT, HEAD, NEW_GRADIENT, NO_GRADIENT, OUTER, OWN, PREPARED, SAME_GRADIENT,
    TAKE, THERE, ArgumentSpec, Call, Output, Place, Program, Visible, exchange_places, extent_of, layout_of,
)
from ._passes cimport fill_once, simplify
from ._record cimport (
    Prepared, PyThread_get_thread_ident, describe, handles, kernel_t, recorder, recording, set_recorder, shapes,
)
from ._storage cimport ITEMSIZE, Storage, device_kernel_shape, new_storage, storage_of, unheard_storage

cdef extern from "Python.h":
    Py_ssize_t PY_SSIZE_T_MAX

from ._passes import passes
from ._program import user_line
from .kernels import contract

cdef enum:
    CLASSES = 136  # of block sizes, see _storage.pyx
    ALIGNED_THERE = 256  # bytes: as aligned as memory that a device's driver gives out
    DIMS_READ = 40  # a kernel on a device reads so many dims, used or not
cdef str LOST = ("uses a tensor that compile cannot find (in {}): pass it as an argument, or keep it where the function, its "
                 "module or its optimizer has it")
cdef unsigned int serials = 0


cdef struct Range:
    char *lo
    char *hi
    int slot


cdef void copy_bytes(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    memcpy(bufs[0], bufs[1], dims[0])


describe(copy_bytes, "constant", 2, 1, 0, opaque=2)


cdef dict WIDTHS = {"float64": 8, "int64": 8, "float32": 4, "int32": 4, "int16": 2}
cdef dict widths = {}  # of elements, by the name of a flat elementwise kernel; 0 for others


cdef Py_ssize_t most_bytes(str name, Py_ssize_t units) except -1:
    """How much of one buffer a kernel can touch; that may be less than what lies in the same memory."""
    width = widths.get(name)
    if width is None:
        parts = name.split(".")
        flat = parts[0] == "elementwise" and not parts[1].startswith(("strided", "pack"))
        widths[name] = width = max([WIDTHS.get(part, 1) for part in parts[2:]]) if flat else 0
    return units * <Py_ssize_t>width if width else PY_SSIZE_T_MAX


cdef class Capture(Draft):
    """Records the kernel calls of the thread that makes it."""
    cdef Range *own        # sorted; blocks of the program
    cdef Range *outer      # sorted; what was there before
    cdef Py_ssize_t own_count, own_room, outer_count, outer_room
    cdef int free_slots[CLASSES]
    cdef void *temporary       # a constant on the stack, and its copy
    cdef Py_ssize_t temporary_size
    cdef void *temporary_copy
    cdef Prepared pending
    cdef readonly list constants, keep_alive, groups, rates, taken_, generators
    cdef list storages, versions       # outer storages, their versions at the start
    cdef list starts, start_versions   # addresses of the gradients that there were, and versions of their memory
    cdef dict free_distant     # (device, bytes) -> slots whose blocks are free
    cdef object open_storage
    cdef readonly object why, why_line
    cdef bint has_checks

    def __cinit__(self):
        cdef int i
        for i in range(CLASSES):
            self.free_slots[i] = -1

    def __init__(self, arguments, tensors):
        """arguments: the tensors that are arguments; tensors: all others that the function may use."""
        global serials
        cdef Tensor t, g
        cdef set seen = set()
        cdef int i
        cdef Py_ssize_t j
        serials += 1
        self.serial, self.thread = serials, PyThread_get_thread_ident()
        self.constants, self.keep_alive, self.groups, self.rates, self.taken_, self.generators = [], [], [], [], [], []
        self.storages, self.versions, self.starts, self.start_versions, self.free_distant = [], [], [], [], {}
        for i, item in enumerate(tensors):
            t = <Tensor>item
            if id(t.storage) not in seen:
                seen.add(id(t.storage))
                self.note_outer(t.storage)
                self.add_outer(t.storage.ptr, t.storage.nbytes, OUTER, len(self.storages) - 1, t.storage.device)
        for i, item in enumerate(tensors):
            g = <Tensor>(<Tensor>item).gradient
            self.starts.append(0 if g is None else <size_t>g.ptr)
            self.start_versions.append(0 if g is None else g.storage.version)
            if g is not None and id(g.storage) not in seen:
                self.versions.append(g.storage.version)  # not kept alive: the function may drop it
                self.storages.append(None)
                self.add_outer(g.ptr, extent_of(g), GRADIENT, i, g.storage.device)
        for i, item in enumerate(arguments):
            t = <Tensor>item
            if id(t.storage) in seen or t.count == 0:
                continue  # guarded by identity
            for j in range(self.outer_count):
                if self.outer[j].lo < t.ptr + extent_of(t) and t.ptr < self.outer[j].hi:
                    if self.outer[j].lo != t.ptr or self.outer[j].hi != t.ptr + extent_of(t):
                        self.refuse("has arguments that share memory")
                    break
            else:
                self.note_outer(t.storage)
                self.add_outer(t.ptr, extent_of(t), ARGUMENT, i, t.storage.device)

    def __dealloc__(self):
        free(self.own); free(self.outer)

    cdef int note_outer(self, Storage s) except -1:
        self.storages.append(s)
        self.versions.append(s.version)
        return 0

    cdef int add_outer(self, char *base, Py_ssize_t n, int kind, int index, int device) except -1:
        cdef int slot = self.new_slot(base, n, -2, kind, index, device)
        if self.outer_count == self.outer_room:
            self.outer_room = 2 * self.outer_room + 64
            self.outer = <Range *>grown(self.outer, self.outer_room * sizeof(Range))
        insert(self.outer, self.outer_count, base, n, slot)
        self.outer_count += 1
        return slot

    # --- memory ---

    cdef void *reuse(self, int size_class) noexcept:
        cdef int slot
        if size_class < 0 or self.free_slots[size_class] < 0:
            return NULL
        slot = self.free_slots[size_class]
        self.free_slots[size_class] = self.slots[slot].next
        return self.slots[slot].base

    cdef void *reuse_distant(self, int device, Py_ssize_t n) except? NULL:
        cdef list slots = self.free_distant.get((device, n))
        return self.slots[<int>slots.pop()].base if slots else NULL

    cdef int make_room(self) except -1:
        cdef int i
        self.refuse("takes more memory than there is while it is recorded")
        self.discard()
        self.free_distant = {}
        for i in range(CLASSES):
            self.free_slots[i] = -1
        return 0

    cdef int allocated(self, object storage, void *p, Py_ssize_t n, Py_ssize_t asked, int size_class) except -1:
        cdef int device = (<Storage>storage).device
        cdef int slot = self.new_slot(<char *>p, n, size_class, OWN, -1, device)
        cdef Range *known = range_of(self.own, self.own_count, <char *>p)
        cdef Py_ssize_t grain = 64 if device < 0 else ALIGNED_THERE
        self.slots[slot].nbytes, self.slots[slot].asked = ((asked if asked > 0 else 1) + grain - 1) // grain * grain, asked
        if known != NULL:
            known.slot = slot
        else:
            if self.own_count == self.own_room:
                self.own_room = 2 * self.own_room + 64
                self.own = <Range *>grown(self.own, self.own_room * sizeof(Range))
            insert(self.own, self.own_count, <char *>p, n, slot)
            self.own_count += 1
        self.slots[slot].alive, self.slots[slot].storage = True, <PyObject *>storage
        return 0

    cdef bint keep(self, unsigned int serial, void *p) noexcept:
        cdef int slot
        if serial != self.serial:
            return False
        slot = find(self.own, self.own_count, <char *>p)
        if slot < 0:
            return False
        self.slots[slot].alive, self.slots[slot].storage = False, NULL
        if self.slots[slot].size_class >= 0:
            self.slots[slot].next = self.free_slots[self.slots[slot].size_class]
            self.free_slots[self.slots[slot].size_class] = slot
        elif self.slots[slot].device >= 0:
            self.free_distant.setdefault((self.slots[slot].device, self.slots[slot].asked), []).append(slot)
        return True

    cdef int leased(self, object storage) except -1:
        cdef Storage s = <Storage>storage
        self.keep_alive.append(s)
        self.add_outer(s.ptr, s.nbytes, CONSTANT, -1, s.device)
        return 0

    # --- what cannot be replayed ---

    cdef int refuse(self, object why) except -1:
        self.settle()
        if self.why is None:
            self.why, self.why_line = why, user_line()
        return 0

    def refuses(self, why):
        """``refuse`` for Python code."""
        self.refuse(why)

    cdef int opened(self, object storage) except -1:
        self.settle()
        self.open_storage = (storage, user_line())
        return 0

    cdef int settle(self) except -1:
        """What was opened was not filled with constants."""
        if self.open_storage is not None and self.why is None:
            self.why, self.why_line = "gets at the memory of a tensor", self.open_storage[1]
        self.open_storage = None
        return 0

    def filled(self, Tensor made not None):
        """Python numbers were written into the memory of ``made``, which was opened for it."""
        if self.open_storage is not None and self.open_storage[0] is made.storage:
            self.open_storage = None
            self.written(made.ptr, made.count * ITEMSIZE[made.dt])

    def taken(self, generator, n, seed, offset):
        """A kernel call to come has these as its first two dims."""
        if n:
            self.taken_.append((generator, n, seed, offset))

    def update(self, optimizer, group):
        """Let ``optimizer`` update the parameters of ``group``; its hyperparameters may change later if it does so by
        kernels over whole lists of parameters and nothing else. They may lie in tensors that the function has not written
        before."""
        cdef Py_ssize_t first = self.count, i
        cdef list tables = [], rates
        cdef bint live = True
        set_recorder(None)
        try:
            rates = [rate for rate in rates_in(group) if self.untouched((<Tensor>rate[1]).storage)]
        finally:
            set_recorder(self)
        update_with(optimizer, group, rates)
        for i in range(first, self.count):
            if self.code[i].kind != PREPARED:
                live = False
            else:
                tables.append(self.objects[self.code[i].object])
        if live and tables:
            for known in self.groups:  # stepped more than once
                if known[0] is optimizer and known[1] is group:
                    known[2].extend(tables)
                    break
            else:
                known = (optimizer, group, tables)
                self.groups.append(known)
                self.rates += [[t, number, known] for key, t, number in rates]
        elif rates:
            self.refuse("reads the value of a tensor")

    cdef bint untouched(self, Storage s) except -1:
        """Whether this is memory from before the capture that has not been written since."""
        cdef Py_ssize_t i
        for i in range(len(self.storages)):
            if self.storages[i] is s:
                return s.version == <unsigned int>self.versions[i]
        return False

    # --- recording ---

    cdef int resolve(self, void *p, Py_ssize_t *offset) noexcept:
        """The slot of an address, or -1."""
        cdef int slot = find(self.own, self.own_count, <char *>p)
        if slot < 0:
            slot = find(self.outer, self.outer_count, <char *>p)
        if slot >= 0:
            offset[0] = <char *>p - self.slots[slot].base
        return slot

    cdef void *copy_of(self, void *p, Py_ssize_t n) except NULL:
        """The bytes at p, for as long as the program lives."""
        cdef bytearray copy = bytearray(max(n, 16))
        cdef char *made = copy
        memcpy(made, p, n)
        self.constants.append(copy)
        return made

    cdef int kernel(self, kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units,
                    double cost) except -1:
        cdef Prepared tables = self.pending
        cdef Call *call
        cdef Py_ssize_t offset, i, at, most
        cdef int nb, nd, ns, slot, opaque
        cdef str name
        cdef object taken
        cdef Py_ssize_t room
        cdef bint distant = <Py_ssize_t>f < 0
        self.pending = None
        self.settle()
        if self.why is not None:
            return 0
        found = shapes.get(<size_t>f)
        if found is None:
            found = handles.get(<size_t>f)
            found = contract.shape(<size_t>f) if found is None else device_kernel_shape(found[0], found[1], found[2])
            if found is None:
                return self.refuse("runs a kernel that compile does not know")
            shapes[<size_t>f] = found = (*found, -1)
        name, nb, nd, ns, more, opaque, relu = found
        most = most_bytes(name, units)
        if more:
            nd += dims[0] * (nb - bin(opaque).count("1") + 1)
        room = nd + DIMS_READ if distant and more else nd
        if self.taken_ and nd >= 2 and tables is None and dims[0] == self.taken_[0][2] and dims[1] == self.taken_[0][3]:
            taken = self.taken_.pop(0)
            call = self.add_call(TAKE, NULL, 0, 0, 0, taken[1], 0, "random.take")
            call.object = <int>len(self.objects)
            self.objects.append(taken[0])
            if not any([g is taken[0] for g in self.generators]):
                self.generators.append(taken[0])
        call = self.add_call(PREPARED if tables is not None else THERE if distant else CALL, f, nb,
                             0 if tables is not None else room, 0 if tables is not None else max(ns, 0), units, cost, name)
        at = self.count - 1
        if tables is not None:
            call.object = <int>len(self.objects)
            self.objects.append(tables)
            call.dims, call.scalars = dims, scalars
            tables.addresses(self)
            call = &self.code[at]
        else:
            memset(self.dims + call.d, 0, room * sizeof(Py_ssize_t))
            call.nd = nd
            for i in range(nd):
                self.dims[call.d + i] = dims[i]
        if distant:
            call.device = tables.device_of() if tables is not None else -1
        if ns < 0:
            slot = self.resolve(scalars, &offset)
            if slot < 0:
                return self.refuse(LOST.format(name))
            self.add_patch(1, at, NULL, slot, offset)
            call.ns = -1
        elif tables is None:
            if ns and not distant:
                slot = self.resolve(scalars, &offset)
                if slot >= 0:
                    self.add_patch(1, at, NULL, slot, offset)
                    call.ns = -1
                else:
                    memcpy(self.scalars + call.s, scalars, ns * sizeof(double))
            elif ns:
                memcpy(self.scalars + call.s, scalars, ns * sizeof(double))
        for i in range(nb):
            self.bufs[call.b + i] = bufs[i]
            if bufs[i] == NULL or opaque >> i & 1 or (tables is not None and tables.owns(bufs[i])):
                continue
            slot = self.resolve(bufs[i], &offset)
            if slot >= 0:
                self.add_patch(0, call.b + i, NULL, slot, offset)
                call.bytes += min(most, self.slots[slot].asked - offset)
                if distant and call.device < 0:
                    call.device = self.slots[slot].device
            elif self.temporary != NULL and bufs[i] >= self.temporary and (
                    <char *>bufs[i] < <char *>self.temporary + self.temporary_size):
                self.bufs[call.b + i] = <char *>self.temporary_copy + (<char *>bufs[i] - <char *>self.temporary)
            else:
                self.refuse(LOST.format(name))
        self.temporary = NULL
        return 0

    cdef int prepared(self, Prepared call) except -1:
        self.pending = call
        return 0

    cdef int address(self, void **place) except -1:
        cdef Py_ssize_t offset
        cdef int slot
        if place[0] == NULL:
            return 0
        slot = self.resolve(place[0], &offset)
        if slot < 0:
            return self.refuse("updates a tensor that compile cannot find")
        return self.add_patch(2, 0, place, slot, offset)

    cdef int written(self, void *p, Py_ssize_t n) except -1:
        cdef Call *call
        cdef Py_ssize_t offset
        cdef int slot
        self.settle()
        if self.why is not None or n == 0:
            return 0
        slot = self.resolve(p, &offset)
        if slot < 0:
            return self.refuse("writes memory that compile does not know")
        call = self.add_call(CALL, copy_bytes, 2, 1, 0, 1, 0, "constant")
        self.bufs[call.b], self.bufs[call.b + 1], self.dims[call.d] = p, self.copy_of(p, n), n
        return self.add_patch(0, call.b, NULL, slot, offset)

    cdef int constant(self, void *p, Py_ssize_t n) except -1:
        self.temporary, self.temporary_size, self.temporary_copy = p, n, self.copy_of(p, n)
        return 0

    cdef bint always(self, void *p, void *value, Py_ssize_t n) except -1:
        """By the last call that mentions the address: whether it wrote these bytes, a constant."""
        cdef Py_ssize_t i, j, offset
        cdef Call *call
        for i in range(self.count - 1, -1, -1):
            call = &self.code[i]
            if call.kind == PREPARED:
                return False
            for j in range(call.nb):
                if self.bufs[call.b + j] == p:
                    return j == 0 and (self.names[call.name].startswith("elementwise.fill.") or call.f == copy_bytes) and (
                        self.resolve(self.bufs[call.b + 1], &offset) < 0
                        and memcmp(self.bufs[call.b + 1], value, n) == 0)
        return False

    cdef int expect(self, void *p, Py_ssize_t n) except -1:
        cdef Call *call
        cdef Py_ssize_t offset
        cdef int slot
        if self.why is not None:
            return 0
        slot = self.resolve(p, &offset)
        if slot >= 0 and self.slots[slot].device >= 0:
            return self.refuse("reads the value of a tensor")
        changed = self.changed()
        early = slot >= 0 and self.early(p, slot)
        if slot < 0 or (changed and not early):
            return self.refuse("checks values (labels, say) that depend on what it has changed before")
        call = self.add_call(HEAD if early else EXPECT, NULL, 2, 0, 0, n, 0, "check")
        self.bufs[call.b], self.bufs[call.b + 1] = p, self.copy_of(p, n)
        self.has_checks = True
        if early:
            self.heads.append((*self.heads.pop(), self.count - 1, changed))
        else:
            self.last_check = self.count - 1
        return self.add_patch(0, call.b, NULL, slot, offset)

    cdef bint early(self, void *p, int own) except -1:
        """Whether the kernel that wrote p may run ahead of all others: it reads arguments and what was there before."""
        cdef Py_ssize_t i, j, offset
        cdef Call *call
        cdef bint found
        cdef int slot
        for i in range(self.count - 1, -1, -1):
            call = &self.code[i]
            found = False
            for j in range(call.nb):
                found = found or self.bufs[call.b + j] == p
            if found:
                break
        else:
            return False
        if call.kind != CALL or self.slots[own].kind != OWN:
            return False
        read = []
        for j in range(call.nb):
            if self.bufs[call.b + j] == NULL:
                continue
            slot = self.resolve(self.bufs[call.b + j], &offset)
            if slot == own:
                continue
            if slot < 0 or (self.slots[slot].kind != ARGUMENT and self.slots[slot].kind != OUTER):
                return False
            read.append(slot)
        self.heads.append((i, own, read))
        return True

    cdef bint changed(self) except -1:
        """Whether memory from before the capture has been written by now."""
        cdef Py_ssize_t i
        for i in range(len(self.storages)):
            if self.storages[i] is not None and (<Storage>self.storages[i]).version != <unsigned int>self.versions[i]:
                return True
        for i in range(self.slot_count):
            if self.slots[i].kind == GRADIENT and self.slots[i].first >= 0:
                return True
        return False

    # --- the program ---

    def discard(self):
        """Give kept memory back."""
        cdef Py_ssize_t i
        self.settle()
        for i in range(self.own_count):
            self.give_back(self.own[i].slot)
        self.own_count = self.slot_count = 0

    cdef int give_back(self, int slot) except -1:
        """Return the block of a slot that no storage owns."""
        if not self.slots[slot].alive:
            storage_of(self.slots[slot].base, self.slots[slot].block, self.slots[slot].size_class, self.slots[slot].device)
        return 0

    def seal(self, Guards guards not None, structure, places, values, tuple leaves not None, result):
        """The Program, or None: ``why`` says why not. ``structure`` of the arguments, ``leaves``; ``places`` of those that
        are tensors, (place, value) of the others."""
        cdef Program p = Program()
        cdef Py_ssize_t i, j
        cdef Tensor t
        cdef int slot
        cdef set visible = set()
        cdef list sources = []
        cdef Storage s
        self.settle()
        if self.taken_:
            self.refuse("takes random numbers in a way that compile does not know")
        if self.why is not None:
            return None
        # results
        p.outputs, p.tree, p.heads = [], None, []
        p.tree = self.tree_of(result, guards, leaves, p.outputs, sources)
        if self.why is not None:
            return None
        p.single = p.tree == ("output", 0)
        # gradients
        p.ends = <int *>grown(NULL, (guards.tensor_count + 1) * sizeof(int))
        p.incoming = <int *>grown(NULL, (guards.tensor_count + 1) * sizeof(int))
        p.gradients, p.layouts, p.gradient_bumps = [], [], []
        for i in range(guards.tensor_count):
            p.incoming[i] = -1
        for i in range(self.slot_count):
            if self.slots[i].kind == GRADIENT and self.slots[i].first >= 0:
                p.incoming[self.slots[i].index] = <int>i
        shown = []
        for i in range(guards.tensor_count):
            t = <Tensor>guards.tensors[i].tensor
            p.gradients.append(None)
            p.layouts.append(None)
            p.ends[i] = NO_GRADIENT
            if t.gradient is None:
                continue
            t = <Tensor>t.gradient
            slot = find(self.own, self.own_count, t.storage.ptr)
            if slot < 0 or not self.slots[slot].alive:
                if self.starts[i] != <size_t>t.ptr:
                    self.refuse("makes a tensor from outside a gradient")
                    return None
                p.ends[i] = SAME_GRADIENT
                if t.storage.version != <unsigned int>self.start_versions[i]:
                    p.gradient_bumps.append((i, t.storage.version - <unsigned int>self.start_versions[i]))
                continue
            if slot in visible or t.requires or t.node is not None or t.ptr != self.slots[slot].base:
                self.refuse("leaves a gradient that shares memory or has a history")
                return None
            p.ends[i] = NEW_GRADIENT
            p.gradients[i], p.layouts[i] = t, layout_of(t)
            # its memory, which holds the gradient of the last call, may be written before that is read
            self.slots[slot].clobbered = p.incoming[i] >= 0
            visible.add(slot)
            shown.append((slot, i))
        for item in p.outputs:
            slot = (<Output>item).slot
            if slot not in visible and self.slots[slot].kind == OWN:
                visible.add(slot)
                shown.append((slot, -1))
        for i in range(self.slot_count):
            if self.slots[i].kind == OWN and self.slots[i].alive and i not in visible:
                self.refuse("keeps a tensor that it has made")
                return None
        # tensors with a history that were used
        for i in range(guards.tensor_count):
            t = <Tensor>guards.tensors[i].tensor
            slot = find(self.outer, self.outer_count, t.storage.ptr)
            if t.node is not None and t.requires and guards.grad and slot >= 0 and self.slots[slot].first >= 0:
                self.refuse("uses a tensor with a history from outside")
                return None
        # arguments
        p.guards, p.structure, p.places, p.constants_of = guards, structure, list(places), list(values)
        p.argument_count, p.leaf_count = len(p.places), len(leaves)
        p.arguments = <ArgumentSpec *>grown(NULL, (p.argument_count + 1) * sizeof(ArgumentSpec))
        for i in range(p.argument_count):
            p.arguments[i].place = p.places[i]
            self.describe_argument(&p.arguments[i], <Tensor>leaves[<Py_ssize_t>p.places[i]], guards)
            for j in range(i):  # one memory is written once
                if (<Tensor>leaves[<Py_ssize_t>p.places[j]]).storage is (<Tensor>leaves[<Py_ssize_t>p.places[i]]).storage:
                    p.arguments[i].delta = 0
        known = {id(each) for each in guards.storages}
        p.bumps = []
        for i in range(len(self.storages)):
            s = <Storage>self.storages[i]
            if s is not None and s.version != <unsigned int>self.versions[i] and id(s) in known:
                p.bumps.append((s, s.version - <unsigned int>self.versions[i]))
        # memory
        p.memory = []
        for i in range(self.slot_count):
            if self.slots[i].kind == OUTER:
                p.memory.append(self.storages[self.slots[i].index])
            elif self.slots[i].kind == OWN and self.slots[i].alive:
                p.memory.append(<object>self.slots[i].storage)
            else:
                p.memory.append(None)
        p.visible = <Visible *>grown(NULL, (len(shown) + 1) * sizeof(Visible))
        p.visible_count = len(shown)
        for i in range(p.visible_count):
            p.visible[i].slot, p.visible[i].leaf = shown[i]
        p.objects, p.constants, p.keep_alive = self.objects, self.constants, self.keep_alive
        p.names, p.lines, p.generators, p.has_checks = self.names, self.lines, self.generators, self.has_checks
        for call, own, read, check, must in self.heads:
            written = False
            for slot in read:
                written = written or self.slot_written(slot)
            if written and must:
                self.refuse("checks values (labels, say) that it changes")
                return None
            if written:
                self.code[<Py_ssize_t>check].kind, self.last_check = EXPECT, max(self.last_check, <Py_ssize_t>check)
                continue
            self.slots[<int>own].clobbered = True
            p.heads.append((call, check))
        names = passes()
        simplify(self, names)
        guards.set_live(self.groups, self.rates)
        # a gradient's memory is free for others until it is written, if nobody can see it until then
        hosts = [slot for slot, leaf in shown if leaf >= 0 and p.incoming[<int>leaf] < 0]
        sizes = {-1: 64, **{self.slots[i].device: 0 for i in range(self.slot_count) if self.slots[i].device >= 0}}
        if self.chains:
            self.find_uses(2)
            for device in sizes:
                sizes[device] = self.pack(hosts, device)
            p.other_places = <Place *>grown(NULL, (self.slot_count + 1) * sizeof(Place))
            p.other_places[self.slot_count].place = p.other_places[self.slot_count].host = -1  # of the arena, see below
            exchange_places(self.slots, p.other_places, self.slot_count)
        self.find_uses(1)
        for i in range(p.visible_count):
            slot = p.visible[i].slot
            if self.has_checks and self.slots[slot].first <= self.last_check:
                self.slots[slot].clobbered = True
        for device in sizes:
            sizes[device] = max(sizes[device], self.pack(hosts, device))
        p.arenas = [new_storage(sizes.pop(-1))]  # which is recorded, hence gets a slot
        for i in range(self.own_count):
            self.give_back(self.own[i].slot)
        self.own_count = 0
        for device in range(max(sizes, default=-1) + 1):
            p.arenas.append(unheard_storage(sizes[device], device) if sizes.get(device) else None)
        for item in self.fills:
            fill_once(self, p, item[0], item[1])
        for i in range(self.slot_count):
            if self.slots[i].place >= 0 and self.slots[i].host < 0:
                self.slots[i].base = (<Storage>p.arenas[self.slots[i].device + 1]).ptr + self.slots[i].place
        self.hand_over(p)
        if "graphs" not in names:
            p.graphs, p.why_no_graphs = False, "MINIGRAD_PASSES leaves graphs out"
        return p

    cdef bint slot_written(self, int slot) except -1:
        """Whether the memory of an argument or of what was there before was written."""
        cdef Py_ssize_t i
        for i in range(len(self.storages)):
            if self.storages[i] is not None and self.slots[slot].base >= (<Storage>self.storages[i]).ptr and (
                    self.slots[slot].base < (<Storage>self.storages[i]).ptr + (<Storage>self.storages[i]).nbytes):
                if (<Storage>self.storages[i]).version != <unsigned int>self.versions[i]:
                    return True
        return False

    cdef int describe_argument(self, ArgumentSpec *spec, Tensor t, Guards guards) except -1:
        cdef Py_ssize_t i
        cdef int d
        spec.slot = find(self.outer, self.outer_count, t.ptr)
        if spec.slot >= 0 and self.slots[spec.slot].kind != ARGUMENT:
            spec.slot = -1
        spec.nd, spec.dt, spec.ptr, spec.readonly, spec.delta = t.nd, t.dt, t.ptr, t.storage.readonly, 0
        spec.device = t.storage.device
        spec.pinned = any([s is t.storage for s in guards.storages])
        for i in range(len(self.storages)):
            if self.storages[i] is t.storage:
                spec.delta = t.storage.version - <unsigned int>self.versions[i]
        for d in range(t.nd):
            spec.shape[d], spec.stride[d] = t.shape_[d], t.stride_[d]
        return 0

    cdef object tree_of(self, result, Guards guards, tuple leaves, list outputs, list sources):
        """How ``result`` is put together; its tensors are appended to ``outputs``."""
        cdef Tensor t
        cdef Output o
        cdef int slot
        cdef Py_ssize_t i
        if isinstance(result, Tensor):
            t = <Tensor>result
            for i in range(len(leaves)):
                if leaves[i] is t:
                    return "argument", i
            for i in range(guards.tensor_count):
                if <PyObject *>t == guards.tensors[i].tensor:
                    return "value", t
                if (<Tensor>guards.tensors[i].tensor).gradient is t and find(self.own, self.own_count, t.ptr) >= 0:
                    return "gradient", i
            for i in range(len(sources)):
                if sources[i] is t:
                    return "output", i
            slot = find(self.own, self.own_count, t.storage.ptr)
            if slot < 0 or not self.slots[slot].alive:
                slot = find(self.outer, self.outer_count, t.ptr)
                if slot < 0 or self.slots[slot].kind == GRADIENT or self.slots[slot].kind == CONSTANT or t.count == 0:
                    self.refuse("returns a view of a tensor that compile cannot find")
                    return None
            if t.requires and (t.node is None or is_alive(t.node)):
                self.refuse("returns a tensor with a history: run it under no_grad(), or return .detach()")
                return None
            if type(t) is not Tensor:
                self.refuse(f"returns a new {type(t).__name__}")
                return None
            o = Output()
            o.slot, o.offset, o.like = slot, t.ptr - self.slots[slot].base, layout_of(t)
            o.like.node, o.like.requires = t.node, t.requires
            o.made_by = t.storage.made_by if t.storage.made_at == t.storage.version else NULL
            outputs.append(o)
            sources.append(t)
            return "output", len(outputs) - 1
        if type(result) in SIMPLE:
            return "value", result
        if type(result) is dict:
            parts = [self.tree_of(v, guards, leaves, outputs, sources) for v in result.values()]
            return "dict", dict, parts, list(result)
        if isinstance(result, tuple) and hasattr(result, "_fields"):
            return "named", type(result), [self.tree_of(v, guards, leaves, outputs, sources) for v in result]
        if type(result) in (list, tuple):
            return "sequence", type(result), [self.tree_of(v, guards, leaves, outputs, sources) for v in result]
        for i in range(len(leaves)):
            if leaves[i] is result:
                return "argument", i
        self.refuse(f"returns a {type(result).__name__}")
        return None

cdef int insert(Range *ranges, Py_ssize_t count, char *lo, Py_ssize_t n, int slot) except -1:
    """Into sorted ranges with room for one more."""
    cdef Py_ssize_t i = count
    while i > 0 and ranges[i - 1].lo > lo:
        ranges[i] = ranges[i - 1]
        i -= 1
    ranges[i].lo, ranges[i].hi, ranges[i].slot = lo, lo + n, slot
    return 0


cdef int find(Range *ranges, Py_ssize_t count, char *p) noexcept:
    """The slot of the range that holds p, or -1."""
    cdef Range *found = range_of(ranges, count, p)
    return -1 if found == NULL else found.slot


cdef Range *range_of(Range *ranges, Py_ssize_t count, char *p) noexcept:
    cdef Py_ssize_t lo = 0, hi = count, middle
    while lo < hi:
        middle = (lo + hi) // 2
        if ranges[middle].lo <= p:
            lo = middle + 1
        else:
            hi = middle
    return &ranges[lo - 1] if lo > 0 and p < ranges[lo - 1].hi else NULL


cdef bint is_alive(Node node) except -1:
    """Whether ``node`` or one before it still holds a tensor that it saved, or Python's context."""
    cdef list stack = [node]
    cdef set seen = set()
    cdef Node n
    while stack:
        n = <Node>stack.pop()
        if id(n) in seen:
            continue
        seen.add(id(n))
        if n.context is not None:
            return True
        if not n.freed:
            for item in n.saved_values():
                if isinstance(item, Tensor):
                    return True
        for edge, output in n.next_functions:
            if isinstance(edge, Node):
                stack.append(edge)
    return False


def start(arguments, tensors):
    """Record this thread from now on; the Capture."""
    if recorder is not None:
        return None  # another thread is at it, or this one is within a captured function
    cdef Capture capture = Capture(arguments, tensors)
    set_recorder(capture)
    return capture


def stop():
    """Record no more."""
    if recording():
        set_recorder(None)


if hasattr(os, "register_at_fork"):  # another thread of the parent may have been recording
    os.register_at_fork(after_in_child=lambda: set_recorder(None))
