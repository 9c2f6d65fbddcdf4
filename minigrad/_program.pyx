# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Captured programs: a list of kernel calls, the memory that they use, and the loop that makes them again.

DESIGN
a. ``run`` writes the addresses of this call's arguments, gives results and gradients that somebody still holds other
   memory, and runs the list. What must be computed again (random offsets, step counts, learning rates) is computed
   between two calls, by the objects that computed it eagerly.
b. A value that the eager code looked at and found harmless (labels within range) is looked at again; if it has changed,
   the run is abandoned before anything visible was written, and the function runs eagerly.
c. An address is a slot and an offset. ``patches`` lists, slot by slot, the places where addresses stand: buffers and
   scalars of calls, entries of an optimizer's tables.
d. Runs of calls on one device (segments) are one graph there, if it can make graphs: the first replay makes it, others
   hand it what has changed. Random offsets and an optimizer's tables are computed and uploaded before it is launched.
   A graph is for certain addresses of what products and copies read and write (``Device.replay``). A few such sets have
   a graph each; where they keep changing, arguments are copied to memory that stays, and results are handed out as copies.
e. Clipping and the update after it go over the same chunks of the same gradients. ``chained`` makes both calls for a few
   chunks at a time, so that a gradient comes from memory once; they are the same calls, hence the same bits.
"""

from cpython.object cimport PyObject
from libc.stdlib cimport free
from libc.string cimport memcmp, memcpy, memset

from ._engine cimport Tensor, grad_enabled, needs_grad
from ._guards cimport Guards, Py_REFCNT, grown, same
from ._launch cimport COPY_THERE, FILL_THERE, PRODUCT_THERE, enter_python, launch, leave_python, now
from ._record cimport Prepared, kernel_t, recorder
from ._storage cimport ITEMSIZE, Storage, Work, current_device, device_name, devices, new_storage

import os
import sys
import warnings

cdef extern from "Python.h":
    PyObject *PyTuple_GET_ITEM(object t, Py_ssize_t i)

# Estimated nanoseconds: calls above SHARED go through ``launch``, which may share them; runs of small ones above
# RELEASED let other Python threads run.
SHARED, RELEASED = 12_000, 20_000
TOGETHER = 32  # units that stay in the caches between two chained calls; for one, a call costs too much
LEAST_CALLS = 3  # of a graph
MOST_IN_A_ROW = 16  # graphs that are made without one being used again
SWEEPS = ("optimizers.scale.", "optimizers.clamp.")  # over gradients, in place


cdef void chained(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """Two calls, some units of the first and then the same units of the second."""
    cdef Call *first = <Call *>bufs[0]
    cdef Call *second = <Call *>bufs[1]
    cdef Py_ssize_t end
    while lo < hi:
        end = min(lo + TOGETHER, hi)
        first.f(first.bufs, first.dims, first.scalars, lo, end)
        second.f(second.bufs, second.dims, second.scalars, lo, end)
        lo = end


cdef bint is_fixed(Call *call) noexcept:
    """Whether a graph cannot be handed other operands of it."""
    return call.kind == THERE and (call.f == COPY_THERE or call.f == FILL_THERE or call.f == PRODUCT_THERE)


cdef str PACKAGE = os.path.dirname(sys.modules["minigrad"].__file__) + os.sep  # this file may lie in a build folder
cdef dict ours = {}  # file -> whether it is minigrad's


def user_line():
    """(file, line number) of the innermost frame outside of minigrad, or ("", 0)."""
    frame = sys._getframe(0)
    while frame is not None:
        file = frame.f_code.co_filename
        inner = ours.get(file)
        if inner is None:
            inner = ours[file] = file.startswith(PACKAGE)
        if not inner:
            return file, frame.f_lineno
        frame = frame.f_back
    return "", 0


cdef class Output:
    """A tensor that the function returned, over memory of the program."""


cdef class Program:
    """A list of kernel calls, the memory they use, and what it may be run for."""

    def __dealloc__(self):
        cdef Py_ssize_t i
        self.forget()
        for i in range(self.segment_count):
            free(self.segments[i].calls)
        free(self.code); free(self.slots); free(self.patches); free(self.first); free(self.bufs); free(self.dims)
        free(self.scalars); free(self.arguments); free(self.visible); free(self.ends); free(self.incoming)
        free(self.segments); free(self.spent); free(self.merged); free(self.other_patches); free(self.other_first); free(self.other_places)

    # --- matching ---

    cdef bint accepts(self, tuple leaves) except -1:
        """Whether the arguments are of the kind it was captured for."""
        cdef Py_ssize_t i, j
        cdef int d
        cdef Tensor t
        cdef ArgumentSpec *spec
        for i in range(self.argument_count):
            spec = &self.arguments[i]
            item = <object>PyTuple_GET_ITEM(leaves, spec.place)
            if not isinstance(item, Tensor):
                return False
            t = <Tensor>item
            if t.nd != spec.nd or t.dt != spec.dt or t.storage.readonly != spec.readonly or (
                    t.storage.device != spec.device):
                return False
            if spec.pinned and t.ptr != spec.ptr:
                return False
            for d in range(t.nd):
                if t.shape_[d] != spec.shape[d] or (t.stride_[d] != spec.stride[d] and t.shape_[d] > 1):
                    return False
            if t.requires and self.guards.grad:
                return False
            if t.base is not None and needs_grad(t) and self.guards.grad:
                return False
        for place, value in self.constants_of:
            if not same(value, leaves[place]):
                return False
        return True

    cdef bint separate(self, tuple leaves) except -1:
        """Whether arguments share memory where they did in the captured call, and nowhere else."""
        cdef Py_ssize_t i, j, g
        cdef Tensor t, u
        for i in range(self.argument_count):
            t = <Tensor><object>PyTuple_GET_ITEM(leaves, self.arguments[i].place)
            for j in range(i):
                u = <Tensor><object>PyTuple_GET_ITEM(leaves, self.arguments[j].place)
                if self.arguments[i].slot == self.arguments[j].slot and self.arguments[i].slot >= 0:
                    if t.ptr != u.ptr:
                        return False
                elif t.storage is u.storage and (self.arguments[i].delta or self.arguments[j].delta) and not (
                        self.arguments[i].pinned):
                    return False
            if not self.arguments[i].pinned:
                for g in range(self.guards.tensor_count):
                    if <PyObject *>t.storage == self.guards.tensors[g].storage:
                        return False
        return True

    # --- running ---

    cdef int rebind(self, int slot, char *base) noexcept:
        """The memory of ``slot`` is at ``base`` from now on."""
        cdef Py_ssize_t i
        self.slots[slot].base = base
        for i in range(self.first[slot], self.first[slot + 1]):
            self.patches[i].place[0] = base + self.patches[i].offset
        return 0

    cdef int bind(self, tuple leaves) except -1:
        """Write the addresses of this call; 1 if it must run eagerly."""
        cdef Py_ssize_t i
        cdef Tensor t, g
        cdef Storage s
        cdef int slot, leaf
        cdef ArgumentSpec *spec
        if self.crowded and self.landings is None:
            self.settle()
        for i in range(self.argument_count):
            spec = &self.arguments[i]
            if spec.slot >= 0:
                t = <Tensor><object>PyTuple_GET_ITEM(leaves, self.arguments[i].place)
                if self.landings is not None and i in self.landings:
                    s = <Storage>self.landings[i]
                    move(s.device, s.ptr, t.ptr, self.slots[spec.slot].nbytes)
                elif self.slots[spec.slot].base != t.ptr:
                    self.rebind(spec.slot, t.ptr)
        for i in range(self.guards.tensor_count):
            slot = self.incoming[i]
            if slot >= 0:
                t = <Tensor>self.guards.tensors[i].tensor
                g = <Tensor>t.gradient
                if not g.contiguous or g.requires or g.dt != t.dt or g.count != t.count or g.storage.readonly:
                    return 1
                if self.slots[slot].base != g.ptr:
                    self.rebind(slot, g.ptr)
        for i in range(self.visible_count):
            slot, leaf = self.visible[i].slot, self.visible[i].leaf
            s = <Storage>self.memory[slot]
            if leaf < 0:  # references: the list, s
                if Py_REFCNT(<PyObject *>s) > 2 and (self.lent is None or slot not in self.lent):
                    self.renew(slot)
                continue
            g = <Tensor>self.gradients[leaf]
            t = <Tensor>self.guards.tensors[leaf].tensor
            # of the storage: the list, s, g; of g: the list, g, perhaps t
            if g.storage is not s or Py_REFCNT(<PyObject *>s) > 3 or Py_REFCNT(<PyObject *>g) > 2 + (t.gradient is g) or (
                    self.slots[slot].clobbered and t.gradient is g):
                self.renew(slot)
                s = <Storage>self.memory[slot]
                self.gradients[leaf] = over(<Tensor>self.layouts[leaf], s, 0)
            elif g.requires or g.hooks is not None or g.gradient is not None or g.node is not None:
                self.gradients[leaf] = over(<Tensor>self.layouts[leaf], s, 0)
        return 0

    cdef int renew(self, int slot) except -1:
        """Leave the memory of ``slot`` to those who hold it and take other memory."""
        cdef Storage s
        if self.slots[slot].device < 0:
            s = new_storage(self.slots[slot].nbytes)
        else:  # two blocks in turns: two graphs
            s = <Storage>self.spares.pop(slot, None)
            if s is None or Py_REFCNT(<PyObject *>s) > 1:
                s = new_storage(self.slots[slot].nbytes, self.slots[slot].device)
            self.spares[slot] = self.memory[slot]
        self.memory[slot] = s
        return self.rebind(slot, s.ptr)

    cdef int settle(self) except -1:
        """Let what products and copies read of arguments be copied to memory that stays, and what they write of results
        be handed out as copies."""
        cdef Py_ssize_t i, j
        cdef int slot
        cdef set fixed = set(), written = set()
        self.landings, self.lent, self.copied = {}, set(), {}
        for slot in range(self.slot_count):
            for j in range(self.first[slot], self.first[slot + 1]):
                if is_fixed(&self.code[self.patches[j].call]):
                    fixed.add(slot)
        for i in range(self.argument_count):
            if self.arguments[i].delta:
                written.add(self.arguments[i].slot)
        for i in range(self.argument_count):
            slot = self.arguments[i].slot
            if slot in fixed and self.slots[slot].device >= 0 and slot not in written:
                for j in range(i):
                    if self.arguments[j].slot == slot and j in self.landings:
                        self.landings[i] = self.landings[j]
                        break
                else:
                    self.landings[i] = new_storage(self.slots[slot].nbytes, self.slots[slot].device)
                self.rebind(slot, (<Storage>self.landings[i]).ptr)
        for i in range(self.visible_count):
            slot = self.visible[i].slot
            if slot in fixed and self.slots[slot].device >= 0 and self.visible[i].leaf < 0:
                self.lent.add(slot)
                self.renew(slot)  # somebody may have what it was
                self.spares.pop(slot, None)  # it stays from now on
        return 0

    cdef int execute(self) except -1:
        """Make all calls; 1 if a check failed."""
        cdef Py_ssize_t i
        cdef Call *call
        for item in self.heads:
            call = &self.code[<Py_ssize_t>(<tuple>item)[0]]
            call.f(call.bufs, call.dims, call.scalars, 0, call.units)
            call = &self.code[<Py_ssize_t>(<tuple>item)[1]]
            if memcmp(call.bufs[0], call.bufs[1], call.units) != 0:
                return 1
        if self.segments == NULL:
            return self.make(0, self.count)
        for i in range(self.segment_count):
            if self.segments[i].calls != NULL and self.graphs:
                self.make_there(&self.segments[i])
            elif self.make(self.segments[i].first, self.segments[i].last):
                return 1
        return 0

    cdef int make_there(self, Segment *segment) except -1:
        """Make calls on a device as a graph, after all that the host computes for them; one by one if there is none."""
        cdef Py_ssize_t i
        cdef Call *call
        for i in range(segment.first, segment.last):
            call = &self.code[i]
            if call.kind == TAKE:
                self.take(i)
            elif call.kind == PREPARED:
                tables = <Prepared>self.objects[call.object]
                (<Prepared>tables).prepare()
                (<Prepared>tables).finish()
        if not self.replay(segment):
            for i in range(segment.count):
                launch(<kernel_t>segment.calls[i].f, segment.calls[i].bufs, segment.calls[i].dims, segment.calls[i].scalars,
                       segment.calls[i].units, 0)
        return 0

    cdef bint replay(self, Segment *segment) except -1:
        """Whether there is a graph of these calls, or one could be made; they have been made then."""
        cdef Py_ssize_t i, j
        cdef void *graph
        try:
            for i in range(GRAPHS):
                graph = segment.graphs[i]
                if graph != NULL and devices.replay(graph) == 0:
                    for j in range(i, 0, -1):
                        segment.graphs[j] = segment.graphs[j - 1]
                    segment.graphs[0], segment.in_a_row = graph, 0
                    return True
            if segment.made == GRAPHS and not self.crowded:
                self.crowded = True
                return False
            segment.in_a_row += 1
            if segment.in_a_row > MOST_IN_A_ROW:
                self.graphs, self.why_no_graphs = False, "the addresses of what they read and write keep changing"
                self.forget()
                return False
            graph = devices.graph(segment.device, segment.calls, segment.count)
            if graph == NULL:
                self.graphs, self.why_no_graphs = False, "every kernel is waited for"
                return False
            segment.made += 1
            if segment.graphs[GRAPHS - 1] != NULL:
                devices.forget(segment.graphs[GRAPHS - 1])
            for j in range(GRAPHS - 1, 0, -1):
                segment.graphs[j] = segment.graphs[j - 1]
            segment.graphs[0] = graph
            return devices.replay(graph) == 0
        except (RuntimeError, MemoryError) as error:
            self.graphs, self.why_no_graphs = False, str(error)
            self.forget()
            file, line = user_line()
            warnings.warn_explicit(f"minigrad.compile: calls on {device_name(segment.device)} are made one by one, not as a "
                                   f"graph: {error}", UserWarning, file or "minigrad", line or 1)
        return False

    cdef int forget(self) noexcept:
        """Give all graphs back."""
        cdef Py_ssize_t i, j
        for i in range(self.segment_count):
            for j in range(GRAPHS):
                if self.segments[i].graphs[j] != NULL:
                    devices.forget(self.segments[i].graphs[j])
                    self.segments[i].graphs[j] = NULL
        return 0

    cdef int take(self, Py_ssize_t i) except -1:
        """Let the next call have the random numbers that call i takes."""
        cdef Py_ssize_t *dims = self.code[i + 1].dims
        seed, offset = self.objects[self.code[i].object].take(self.code[i].units)
        dims[0], dims[1] = seed, offset
        return 0

    cdef int make(self, Py_ssize_t i, Py_ssize_t end) except -1:
        """Make some of the calls, one by one; 1 if a check failed."""
        cdef Py_ssize_t j
        cdef Call *call
        cdef void *pair[2]
        cdef bint idle
        cdef bint timed = self.runs & 63 == 32 and self.segments == NULL
        cdef double begin = now() if timed else 0, ended
        while i < end:
            call = &self.code[i]
            if call.kind == CALL:
                if call.last and not timed and leave_python():
                    with nogil:
                        for j in range(i, call.last):
                            if self.code[j].kind == CALL:
                                self.code[j].f(self.code[j].bufs, self.code[j].dims, self.code[j].scalars, 0, self.code[j].units)
                    enter_python()
                    i = call.last
                    continue
                if call.cost < SHARED:
                    call.f(call.bufs, call.dims, call.scalars, 0, call.units)
                else:
                    launch(call.f, call.bufs, call.dims, call.scalars, call.units, call.cost)
            elif call.kind == PREPARED:
                tables = <Prepared>self.objects[call.object]
                if (<Prepared>tables).prepare() == 0:
                    launch(call.f, call.bufs, call.dims, call.scalars, call.units, call.cost)
                (<Prepared>tables).finish()
            elif call.kind == CHAINED:
                tables, pair[0], pair[1] = <Prepared>self.objects[call.object], &self.code[call.partner], call
                idle = (<Prepared>self.objects[self.code[call.partner].object]).prepare()
                (<Prepared>tables).prepare()
                if idle:
                    launch(call.f, call.bufs, call.dims, call.scalars, call.units, call.cost)
                else:
                    launch(chained, pair, NULL, NULL, call.units, self.code[call.partner].cost + call.cost)
                (<Prepared>tables).finish()
            elif call.kind == THERE:
                launch(call.f, call.bufs, call.dims, call.scalars, call.units, 0)
            elif call.kind == EXPECT:
                if memcmp(call.bufs[0], call.bufs[1], call.units) != 0:
                    return 1
            elif call.kind == TAKE:
                self.take(i)
            if timed:
                ended = now()
                self.spent[i] += ended - begin
                begin = ended
            i += 1
        self.timed += timed
        return 0

    cdef int find_runs(self) except -1:
        """Find runs of small calls, which together take long enough to let other Python threads run."""
        cdef Py_ssize_t i, j
        cdef double total
        for i in range(self.count):
            self.code[i].last = 0
        i = 0
        while i < self.count:
            j, total = i, 0
            while j < self.count and (self.code[j].kind == GONE or (
                    self.code[j].kind == CALL and self.code[j].cost < SHARED)):
                if self.code[j].kind == CALL:
                    total += self.code[j].cost
                j += 1
            while i < j and self.code[i].kind == GONE:
                i += 1
            if total > RELEASED:
                self.code[i].last = <int>j
            i = j + 1
        return 0

    cdef int find_segments(self) except -1:
        """Cut the calls into runs that are made here and runs on one device; a copy between devices is made here."""
        cdef Py_ssize_t i, n = 0
        cdef Call *call
        cdef Segment *segment = NULL
        cdef set found = set()
        cdef int device
        for i in range(self.count):
            if self.code[i].device >= 0:
                found.add(self.code[i].device)
        if not found:
            return 0
        self.devices = sorted(found)
        self.spares, self.graphs, self.current = {}, True, current_device()
        self.segments = <Segment *>grown(NULL, self.count * sizeof(Segment))
        memset(self.segments, 0, self.count * sizeof(Segment))
        for i in range(self.count):
            call = &self.code[i]
            if call.kind == TAKE:  # of the call that follows
                call = &self.code[i + 1]
            device = call.device
            if call.f == COPY_THERE and call.dims[0] != call.dims[1]:
                device = -1
            if segment == NULL or (call.kind != GONE and call.kind != HEAD and segment.device != device):
                segment = &self.segments[n]
                segment.first, segment.device = i, device
                n += 1
            segment.last = i + 1
            segment.count += self.code[i].kind == THERE or self.code[i].kind == PREPARED
        self.segment_count = n
        for n in range(self.segment_count):
            segment = &self.segments[n]
            if segment.device < 0 or segment.count < LEAST_CALLS:
                continue
            segment.calls, segment.count = <Work **>grown(NULL, segment.count * sizeof(void *)), 0
            for i in range(segment.first, segment.last):
                if self.code[i].kind == THERE or self.code[i].kind == PREPARED:
                    segment.calls[segment.count] = <Work *>&self.code[i]  # which begins as a Work
                    segment.count += 1
        return 0

    def swap(self, bint on=True):
        """Let each chain be one call (``ready``), or its calls again; whether anything changed. See _fuse.py."""
        cdef Py_ssize_t i, call
        cdef Call other
        addresses, self.ready = self.ready, None
        if on == self.swapped or (on and addresses is None):
            return False
        for i, chain in enumerate(self.chains.chains):
            call = chain.calls[len(chain.calls) - 1]
            if on:
                self.merged[i].f = <kernel_t><size_t>addresses[i]
            other = self.code[call]
            self.code[call] = self.merged[i]
            self.merged[i] = other
            for call in chain.replaced:
                self.code[call].kind = GONE if on else CALL
        self.patches, self.other_patches = self.other_patches, self.patches
        self.first, self.other_first = self.other_first, self.first
        exchange_places(self.slots, self.other_places, self.slot_count)
        for i in range(self.slot_count):
            if self.slots[i].place >= 0 and self.slots[i].host < 0:
                self.slots[i].base = (<Storage>self.arenas[self.slots[i].device + 1]).ptr + self.slots[i].place
        for i in range(self.slot_count):
            self.rebind(<int>i, self.slots[i].base)
        self.swapped, self.trusted = on, False
        memset(self.spent, 0, self.count * sizeof(double))
        self.timed = 0
        self.find_runs()
        return True

    cdef object run(self, tuple leaves):
        """The results, or ``NotImplemented`` if the function must run eagerly instead; nothing has changed then."""
        cdef Py_ssize_t i
        cdef Tensor t
        cdef Storage s
        cdef list states = None
        if self.segments != NULL:
            if current_device() != self.current:
                return NotImplemented
            for i in range(len(self.devices)):
                devices.raise_errors(self.devices[i])
        if self.bind(leaves):
            return NotImplemented
        if self.has_checks and self.generators:
            states = [(each._seed, each._offset) for each in self.generators]
        if self.execute():
            if states is not None:
                for generator, (seed, offset) in zip(self.generators, states):
                    generator._seed, generator._offset = seed, offset
            return NotImplemented
        self.runs += 1
        if self.runs == self.merge_at:
            self.chains.start(self)
        for item in self.bumps:
            s = <Storage>(<tuple>item)[0]
            s.version += <unsigned int>(<tuple>item)[1]
        for item in self.gradient_bumps:
            t = <Tensor>self.guards.tensors[<Py_ssize_t>(<tuple>item)[0]].tensor
            (<Tensor>t.gradient).storage.version += <unsigned int>(<tuple>item)[1]
        for i in range(self.argument_count):
            if self.arguments[i].delta:
                t = <Tensor><object>PyTuple_GET_ITEM(leaves, self.arguments[i].place)
                t.storage.version += <unsigned int>self.arguments[i].delta
        for i in range(self.guards.tensor_count):
            if self.ends[i] != SAME_GRADIENT:
                t = <Tensor>self.guards.tensors[i].tensor
                g = self.gradients[i]
                if t.gradient is not g:
                    t.gradient = g
        return self.results(leaves)

    cdef object results(self, tuple leaves):
        cdef Py_ssize_t i
        cdef list made
        if self.copied is not None:
            self.copied.clear()
        if self.single:
            made = [self.output(<Output>self.outputs[0], leaves)]
        else:
            made = [self.output(<Output>item, leaves) for item in self.outputs]
        if self.copied is not None:
            self.copied.clear()
        if self.single:
            return made[0]
        return build(self.tree, made, leaves, self.gradients)

    cdef Tensor output(self, Output o, tuple leaves):
        cdef Storage s
        cdef Tensor t
        if self.slots[o.slot].kind == ARGUMENT:
            t = <Tensor><object>PyTuple_GET_ITEM(leaves, self.arguments[self.slots[o.slot].index].place)
            s = t.storage
            t = over(o.like, s, t.ptr + o.offset - s.ptr)
        else:
            s = <Storage>self.memory[o.slot]
            if self.lent is not None and o.slot in self.lent:
                if o.slot not in self.copied:
                    self.copied[o.slot] = new_storage(self.slots[o.slot].nbytes, s.device)
                    move(s.device, (<Storage>self.copied[o.slot]).ptr, s.ptr, self.slots[o.slot].nbytes)
                s = <Storage>self.copied[o.slot]
            t = over(o.like, s, o.offset)
        t.node, t.requires = o.like.node, o.like.requires  # a history that holds no tensors: results may share it
        if o.made_by != NULL:
            s.made_by, s.made_at = o.made_by, s.version
        return t

    # --- looking inside ---

    def why_not(self, tuple leaves not None, structure):
        """Why the program does not fit a call."""
        if len(leaves) != self.argument_count + len(self.constants_of) or structure != self.structure:
            return "other arguments"
        if not self.accepts(leaves):
            return "shape, dtype, strides or requires_grad of an argument, or the value of one that is no tensor"
        if not self.guards.hold(True):
            return "changed: " + str(self.guards.reason)
        return None if self.separate(leaves) else "arguments share memory"

    def snapshot(self, tuple leaves not None):
        """What a run changes, as it is now: memory, versions, gradients, states of random generators."""
        cdef Snapshot made = Snapshot()
        cdef Py_ssize_t i
        cdef Tensor t, g
        made.storages = [item[0] for item in self.bumps]
        made.places = [(<size_t>(<Storage>item[0]).ptr, (<Storage>item[0]).nbytes) for item in self.bumps]
        for i in range(self.argument_count):
            if self.arguments[i].delta:
                t = <Tensor>leaves[self.arguments[i].place]
                made.storages.append(t.storage)
                made.places.append((<size_t>t.ptr, extent_of(t)))
        made.compared = len(made.storages)
        for i in range(self.guards.tensor_count):
            g = <Tensor>(<Tensor>self.guards.tensors[i].tensor).gradient
            if g is not None and self.incoming[i] >= 0:  # others are forgotten by the function before it could see them
                made.storages.append(g.storage)
                made.places.append((<size_t>g.ptr, extent_of(g)))
        made.versions = [(<Storage>each).version for each in made.storages]
        made.copies = [new_storage(n, (<Storage>each).device) for each, (p, n) in zip(made.storages, made.places)]
        for (p, n), copy in zip(made.places, made.copies):
            move((<Storage>copy).device, (<Storage>copy).ptr, <char *><size_t>p, n)
        made.tensors, made.generators = self.guards.tensor_list, self.generators
        made.gradients = [(<Tensor>t).gradient for t in made.tensors]
        made.states = [(each._seed, each._offset) for each in made.generators]
        return made

    def run_once(self, tuple leaves not None):
        """``run`` for Python code."""
        return self.run(leaves)

    def drop(self):
        """Give its memory back now, for it will not run again, whoever still has it."""
        self.forget()
        self.arenas, self.memory, self.gradients, self.objects, self.keep_alive = [], [], [], [], []

    def own_bytes(self):
        """Bytes of memory that the program holds."""
        cdef Py_ssize_t i, n = self.starts().pop()
        for i in range(self.visible_count):
            n += self.slots[self.visible[i].slot].nbytes
        return n

    def graph_counts(self):
        """Of each run of calls on a device that may be a graph: how many calls, and how many graphs were made of it."""
        return [(self.segments[i].count, self.segments[i].made) for i in range(self.segment_count)
                if self.segments[i].calls != NULL]

    def starts(self):
        """Where each arena begins if they lie one behind the other, and where the last one ends."""
        found, end = [0], 0
        for arena in self.arenas:
            end += 0 if arena is None else (<Storage>arena).nbytes
            found.append(end)
        return found

    def blocks(self):
        """(place, bytes, first call, last call) of each block of memory: those in the arenas, then what can be seen from
        outside, one behind the other, with its guests in it."""
        cdef Py_ssize_t i, at
        cdef int slot
        found, places, starts = [], {}, self.starts()
        at = starts.pop()
        for i in range(self.visible_count):
            slot = self.visible[i].slot
            places[slot] = at
            found.append((at, self.slots[slot].nbytes, self.slots[slot].first, self.count - 1))
            at += self.slots[slot].nbytes
        for i in range(self.slot_count):
            if self.slots[i].place >= 0:
                found.append((self.slots[i].place + (places[self.slots[i].host] if self.slots[i].host >= 0 else
                                                     starts[self.slots[i].device + 1]), self.slots[i].nbytes, self.slots[i].first, self.slots[i].last))
        return found

    def poison(self):
        """Fill the program's own memory with 0xff (float nan), but for what can be seen from outside; for tests."""
        cdef Storage s
        cdef unsigned char value = 255
        for s in self.arenas:
            if s is not None and s.device >= 0:
                devices.put(s.device, s.ptr, &value, 1, s.nbytes)
            elif s is not None:
                memset(s.ptr, value, s.nbytes)

    def table(self):
        """A row a call that is made: (kernel, dims, bytes that it reads and writes, multiply-adds, (file, line), whether
        threads may share it)."""
        cdef Py_ssize_t i, j, n, products
        cdef Py_ssize_t *d
        cdef Call *call
        rows = []
        for i in range(self.count):
            call, products = &self.code[i], 0
            if call.kind == GONE:
                continue
            name, n, d = <str>self.names[call.name], call.bytes, call.dims
            if call.kind == PREPARED or call.kind == CHAINED:
                n += self.objects[call.object].traffic(call.kind == CHAINED or name.startswith(SWEEPS))
            elif name == "device.product":
                products = d[8] * d[0] * d[1] * d[2]
                n = d[8] * (d[0] * d[2] + d[2] * d[1] + d[0] * d[1] * (2 if call.scalars[1] != 0 else 1)) * ITEMSIZE[d[12]]
            elif name.startswith("blas."):  # m, n, k; so many of them
                j = call.units // (d[8] * d[9])
                products = j * d[0] * d[1] * d[2]
                n = j * (d[0] * d[2] + d[2] * d[1] + d[0] * d[1] * (2 if call.scalars[1] != 0 else 1)) + (
                    d[1] if call.bufs[3] != NULL else 0)
                n *= 4 if name == "blas.sgemm" else 8
            rows.append((name, tuple([d[j] for j in range(call.nd)]), n, products, self.lines[call.line],
                         call.cost >= SHARED and call.units > 1))
        return rows

    def times(self):
        """Nanoseconds of each call: the mean of the runs that were timed, one in 64."""
        return [self.spent[i] / self.timed if self.timed else 0.0 for i in range(self.count) if self.code[i].kind != GONE]


cdef void exchange_places(Slot *slots, Place *places, Py_ssize_t n) noexcept:
    """Let the slots have these places, and the places those that they had."""
    cdef Py_ssize_t i
    cdef Slot *s
    cdef Place *p
    for i in range(n):
        s, p = &slots[i], &places[i]
        s.place, p.place = p.place, s.place
        s.host, p.host = p.host, s.host
        s.first, p.first = p.first, s.first
        s.last, p.last = p.last, s.last


def least_time(size_t kernel, tensors, dims, scalars, Py_ssize_t units, double cost, bint shared, double seconds):
    """Nanoseconds that a kernel takes at least, called again and again for so long; on one thread unless ``shared``."""
    cdef void *bufs[6]
    cdef Py_ssize_t[16] d
    cdef double[4] s
    cdef double begin, end = 0, best = 0, until = now() + 1e9 * seconds
    cdef kernel_t f = <kernel_t>kernel
    cdef Py_ssize_t i, repeats = 1
    for i in range(6):
        bufs[i] = (<Tensor>tensors[i]).ptr if i < len(tensors) else NULL
    for i in range(len(dims)):
        d[i] = dims[i]
    for i in range(len(scalars)):
        s[i] = scalars[i]
    while best == 0 or end < until:
        begin = now()
        for i in range(repeats):
            if shared:
                launch(f, bufs, d, s, units, cost)
            else:
                f(bufs, d, s, 0, units)
        end = now()
        if end - begin < 20_000:  # too short to be timed
            repeats *= 4
        else:
            best = min(best, (end - begin) / repeats) if best else (end - begin) / repeats
    return best


cdef class Snapshot:
    """What a run of a program changes, as it was."""
    cdef list storages, versions, places, copies, tensors, gradients, generators, states
    cdef Py_ssize_t compared  # versions; clipping that changes nothing does not count as a write of gradients

    def exchange(self):
        """Put everything back; what it is now is the snapshot from then on."""
        cdef Storage s
        cdef Tensor t
        cdef Py_ssize_t i
        for i in range(len(self.storages)):
            s = <Storage>self.storages[i]
            swap(s.device, <char *><size_t>self.places[i][0], (<Storage>self.copies[i]).ptr, self.places[i][1])
            version, s.version = s.version, <unsigned int>self.versions[i]
            self.versions[i] = version
        for i in range(len(self.tensors)):
            t = <Tensor>self.tensors[i]
            gradient, t.gradient = t.gradient, self.gradients[i]
            self.gradients[i] = gradient
        for i in range(len(self.generators)):
            each = self.generators[i]
            state = each._seed, each._offset
            each._seed, each._offset = self.states[i]
            self.states[i] = state

    def same(self):
        """Whether everything has the bits of the snapshot."""
        cdef Tensor a, b
        cdef Py_ssize_t i
        for i in range(self.compared):
            if (<Storage>self.storages[i]).version != <unsigned int>self.versions[i]:
                return False
        if [(each._seed, each._offset) for each in self.generators] != self.states:
            return False
        for (p, n), copy in zip(self.places, self.copies):
            if not alike((<Storage>copy).device, <char *><size_t>p, (<Storage>copy).ptr, n):
                return False
        for i in range(len(self.tensors)):
            a, b = <Tensor>self.gradients[i], <Tensor>(<Tensor>self.tensors[i]).gradient
            if a is not b and (a is None or b is None or extent_of(a) != extent_of(b) or (
                    a.storage.device != b.storage.device or not alike(a.storage.device, a.ptr, b.ptr, extent_of(a)))):
                return False
        return True


cdef int move(int device, char *to, char *p, Py_ssize_t n) except -1:
    """Copy n bytes within a device, or here."""
    if device >= 0:
        return devices.copy(device, to, device, p, n)
    memcpy(to, p, n)
    return 0


cdef bint alike(int device, char *a, char *b, Py_ssize_t n) except -1:
    """Whether two pieces of a device's memory hold the same bytes."""
    cdef bytearray here
    cdef char *p
    cdef Py_ssize_t at = 0, k, half = 1 << 22
    if device < 0 or a == b:
        return memcmp(a, b, n) == 0 if device < 0 else True
    here = bytearray(2 * min(n, half))
    p = here
    while at < n:
        k = min(n - at, half)
        devices.download(device, p, a + at, k)
        devices.download(device, p + k, b + at, k)
        if memcmp(p, p + k, k) != 0:
            return False
        at += k
    return True


cdef int swap(int device, char *a, char *b, Py_ssize_t n) except -1:
    cdef char[4096] between
    cdef Py_ssize_t k
    cdef Storage third
    if device >= 0:
        third = new_storage(n, device)
        move(device, third.ptr, a, n)
        move(device, a, b, n)
        return move(device, b, third.ptr, n)
    while n > 0:
        k = min(n, 4096)
        memcpy(between, a, k)
        memcpy(a, b, k)
        memcpy(b, between, k)
        a, b, n = a + k, b + k, n - k
    return 0


cdef Py_ssize_t extent_of(Tensor t) noexcept:
    """Bytes from the first element of t to the end of its last one."""
    cdef Py_ssize_t n = 1
    cdef int i
    if t.count == 0:
        return 0
    for i in range(t.nd):
        n += (t.shape_[i] - 1) * t.stride_[i]
    return n * ITEMSIZE[t.dt]


cdef Tensor over(Tensor like, Storage s, Py_ssize_t offset):
    """A tensor with the layout of ``like`` over ``s``, ``offset`` bytes in."""
    cdef Tensor t = <Tensor>Tensor.__new__(Tensor)
    t.storage, t.ptr, t.dt, t.nd = s, s.ptr + offset, like.dt, like.nd
    t.count, t.contiguous = like.count, like.contiguous
    memcpy(t.shape_, like.shape_, like.nd * sizeof(Py_ssize_t))
    memcpy(t.stride_, like.stride_, like.nd * sizeof(Py_ssize_t))
    return t


cdef Tensor layout_of(Tensor t):
    """A tensor of the dtype, shape and strides of t, without memory."""
    cdef Tensor made = <Tensor>Tensor.__new__(Tensor)
    made.dt, made.nd, made.count, made.contiguous = t.dt, t.nd, t.count, t.contiguous
    memcpy(made.shape_, t.shape_, t.nd * sizeof(Py_ssize_t))
    memcpy(made.stride_, t.stride_, t.nd * sizeof(Py_ssize_t))
    return made


cdef object build(object tree, list made, tuple leaves, list gradients):
    """Results as the function nested them."""
    kind = tree[0]
    if kind == "output":
        return made[tree[1]]
    if kind == "argument":
        return leaves[tree[1]]
    if kind == "gradient":
        return gradients[tree[1]]
    if kind == "value":
        return tree[1]
    parts = [build(part, made, leaves, gradients) for part in tree[2]]
    if kind == "dict":
        return tree[1](zip(tree[3], parts))
    return tree[1](parts) if kind == "sequence" else tree[1](*parts)


# --- the compiled function --------------------------------------------------------------------------------------------

cdef class Compiled:
    """The call path of a compiled function: find a program that fits, and run it."""
    cdef public object function
    cdef public list programs   # the last one used first
    cdef public int off         # in which grad modes it always runs eagerly: 1 for no_grad, 2 for recording
    cdef bint busy
    cdef public long hits

    def __call__(self, *args, **kwargs):
        cdef Program p
        cdef Py_ssize_t i
        cdef tuple leaves
        cdef object structure = None, result
        if self.busy or recorder is not None or self.off >> grad_enabled() & 1:
            return self.function(*args, **kwargs)
        leaves = args
        if kwargs or nested(args):
            found = []
            structure = flatten((args, kwargs), found)
            leaves = tuple(found)
        self.busy = True
        try:
            for i in range(len(self.programs)):
                p = <Program>self.programs[i]
                if len(leaves) == p.leaf_count and (p.structure is structure or p.structure == structure) and (
                        p.accepts(leaves) and p.guards.hold(True) and p.separate(leaves)):
                    if i:
                        self.programs.insert(0, self.programs.pop(i))
                    if p.ready is not None and p.trusted:
                        p.swap()
                    if not p.trusted or p.guards.renewed:
                        return self._prove(p, leaves, args, kwargs)
                    result = p.run(leaves)
                    if result is not NotImplemented:
                        self.hits += 1
                        return result
                    return self.function(*args, **kwargs)
            return self._missed(args, kwargs, structure, leaves)
        finally:
            self.busy = False


cdef bint nested(tuple args) except -1:
    for item in args:
        if isinstance(item, (tuple, list, dict)):
            return True
    return False


cdef object flatten(object value, list found):
    """The nesting of ``value``, whose innermost parts are appended to ``found``."""
    if type(value) in (tuple, list):
        return type(value), tuple([flatten(v, found) for v in value])
    if type(value) is dict:
        return dict, tuple(value), tuple([flatten(v, found) for v in value.values()])
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value), tuple([flatten(v, found) for v in value])
    found.append(value)
    return None


def grad_bit():
    """The bit of ``Compiled.off`` for the grad mode of now."""
    return 1 << grad_enabled()
