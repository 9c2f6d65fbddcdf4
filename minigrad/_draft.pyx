# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""A program that is being made: its calls, the memory that they touch, and where an address stands in them.

DESIGN
a. An address is kept as a slot and an offset, and each place where it stands as a patch. Each use of a block of memory is
   a slot of its own, with a first and a last call.
b. Slots whose calls do not overlap share bytes of one arena (``pack``). A slot lies on one device, and each device has
   its arena.
c. There may be two forms of a program, one with chains of calls merged (_fuse.py): a patch says which it is of.
"""

from libc.stdlib cimport free
from libc.string cimport memset

from ._guards cimport grown
from ._program cimport GONE, HEAD, OWN, exchange_places

from . import _fuse
from ._program import user_line


cdef class Draft(Recorder):
    """Calls, slots and patches, which grow; at the end a Program has them."""

    def __cinit__(self):
        self.last_check = -1
        self.objects, self.names, self.lines, self.heads, self.fills = [], [], [], [], []
        self.line_numbers, self.name_numbers = {}, {}

    def __dealloc__(self):
        free(self.code); free(self.slots); free(self.patches)
        free(self.bufs); free(self.dims); free(self.scalars); free(self.merged)

    cdef int new_slot(self, char *base, Py_ssize_t n, int size_class, int kind, int index, int device) except -1:
        cdef Slot *slot
        if self.slot_count == self.slot_room:
            self.slot_room = 2 * self.slot_room + 64
            self.slots = <Slot *>grown(self.slots, self.slot_room * sizeof(Slot))
        slot = &self.slots[self.slot_count]
        memset(slot, 0, sizeof(Slot))
        slot.base, slot.nbytes, slot.size_class, slot.kind, slot.index = base, n, size_class, kind, index
        slot.next = slot.first = slot.last = -1
        slot.block, slot.asked, slot.place, slot.host, slot.device = n, n, -1, -1, device
        self.slot_count += 1
        return <int>self.slot_count - 1

    cdef int new_patch(self, int kind, Py_ssize_t at, void **place, int slot, Py_ssize_t offset, Py_ssize_t call) except -1:
        cdef Patch *patch
        if self.patch_count == self.patch_room:
            self.patch_room = 2 * self.patch_room + 256
            self.patches = <Patch *>grown(self.patches, self.patch_room * sizeof(Patch))
        patch = &self.patches[self.patch_count]
        patch.kind, patch.at, patch.place, patch.slot, patch.offset = kind, at, place, slot, offset
        patch.call, patch.form = <int>call, 3
        self.patch_count += 1
        return 0

    cdef int add_patch(self, int kind, Py_ssize_t at, void **place, int slot, Py_ssize_t offset) except -1:
        """A patch of the last call."""
        self.new_patch(kind, at, place, slot, offset, self.count - 1)
        if self.slots[slot].first < 0:
            self.slots[slot].first = <int>self.count - 1
        self.slots[slot].last = <int>self.count - 1
        return 0

    cdef Call *add_call(self, int kind, kernel_t f, int nb, int nd, int ns, Py_ssize_t units, double cost,
                        str name) except NULL:
        cdef Call *call
        cdef object line = user_line()
        if self.count == self.room:
            self.room = 2 * self.room + 64
            self.code = <Call *>grown(self.code, self.room * sizeof(Call))
        self.make_buf_room(nb)
        while self.dim_count + nd > self.dim_room:
            self.dim_room = 2 * self.dim_room + 256
            self.dims = <Py_ssize_t *>grown(self.dims, self.dim_room * sizeof(Py_ssize_t))
        while self.scalar_count + ns > self.scalar_room:
            self.scalar_room = 2 * self.scalar_room + 256
            self.scalars = <double *>grown(self.scalars, self.scalar_room * sizeof(double))
        call = &self.code[self.count]
        memset(call, 0, sizeof(Call))
        call.kind, call.f, call.units, call.cost, call.object, call.p = kind, f, units, cost, -1, self.patch_count
        call.device = -1
        call.nb, call.nd, call.ns, call.b, call.d, call.s = nb, nd, ns, self.buf_count, self.dim_count, self.scalar_count
        if line not in self.line_numbers:
            self.line_numbers[line] = len(self.lines)
            self.lines.append(line)
        if name not in self.name_numbers:
            self.name_numbers[name] = len(self.names)
            self.names.append(name)
        call.line, call.name = self.line_numbers[line], self.name_numbers[name]
        self.buf_count += nb
        self.dim_count += nd
        self.scalar_count += ns
        self.count += 1
        return call

    cdef int make_buf_room(self, Py_ssize_t n) except -1:
        while self.buf_count + n > self.buf_room:
            self.buf_room = 2 * self.buf_room + 256
            self.bufs = <void **>grown(self.bufs, self.buf_room * sizeof(void *))
        return 0

    cdef int patch_of(self, Call *call, int which) noexcept:
        """The patch of a buffer of a call, or -1."""
        cdef Py_ssize_t i
        for i in range(call.p, self.patch_count):
            if self.patches[i].call != self.patches[call.p].call:
                break
            if self.patches[i].kind == 0 and self.patches[i].at == call.b + which:
                return <int>i
        return -1

    cdef bint passing(self, int slot) noexcept:
        """Whether nothing outside the program can see the memory of a slot."""
        return self.slots[slot].kind == OWN and not self.slots[slot].alive

    cdef int find_uses(self, int form) except -1:
        """Of each slot the first and the last call that touches it, in one form of the program."""
        cdef Py_ssize_t i
        cdef int slot
        for i in range(self.slot_count):
            self.slots[i].first = self.slots[i].last = self.slots[i].host = -1
            self.slots[i].place = -1
        for i in range(self.patch_count):
            slot = self.patches[i].slot
            if self.code[self.patches[i].call].kind == GONE or not self.patches[i].form & form:
                continue
            if self.slots[slot].first < 0 or self.patches[i].call < self.slots[slot].first:
                self.slots[slot].first = self.patches[i].call
            if self.patches[i].call > self.slots[slot].last:
                self.slots[slot].last = self.patches[i].call
        for call, own, read, check, must in self.heads:
            if self.code[<Py_ssize_t>check].kind == HEAD:
                self.slots[<int>own].first = 0
        return 0

    # --- memory ---

    cdef Py_ssize_t pack(self, list hosts, int device) except -1:
        """Give all memory of a device that does not outlive a run a place in an arena; its size. Large slots first, each as
        low as those allow that are in use at the same time; in the memory of one of ``hosts`` if that is used later only."""
        cdef int *order = <int *>grown(NULL, (self.slot_count + 1) * sizeof(int))
        cdef int *placed = <int *>grown(NULL, (self.slot_count + 1) * sizeof(int))  # sorted by place
        cdef Py_ssize_t i, j, n = 0, count = 0, at, size = 64
        cdef Slot *slot
        cdef Slot *other
        cdef set filled = {item[0] for item in self.fills}
        for i in range(self.slot_count):
            if self.slots[i].kind == OWN and not self.slots[i].alive and self.slots[i].first >= 0 and (
                    self.slots[i].device == device and i not in filled):
                order[n] = <int>i
                n += 1
        hosts = [(host, []) for host in hosts if self.slots[<int>host].device == device]
        chosen = [k for size_, k in sorted([(-self.slots[order[i]].nbytes, order[i]) for i in range(n)])]
        for item in chosen:
            slot, at = &self.slots[<int>item], 0
            if slot.first > self.last_check and self.lodge(<int>item, hosts):
                continue
            for j in range(count):
                other = &self.slots[placed[j]]
                if other.last < slot.first or slot.last < other.first:
                    continue
                if at + slot.nbytes <= other.place:
                    break
                if other.place + other.nbytes > at:
                    at = other.place + other.nbytes
            slot.place = at
            size = max(size, at + slot.nbytes)
            j = count
            while j > 0 and self.slots[placed[j - 1]].place > at:
                placed[j] = placed[j - 1]
                j -= 1
            placed[j] = <int>item
            count += 1
        free(order)
        free(placed)
        return size

    cdef bint lodge(self, int guest, list hosts) except -1:
        """Give a slot a place in the memory of a host, if it fits one."""
        cdef Slot *slot = &self.slots[guest]
        cdef Slot *other
        cdef Py_ssize_t at
        cdef int host
        for item in hosts:
            host, at = <int>item[0], 0
            if slot.last >= self.slots[host].first or slot.nbytes > self.slots[host].nbytes:
                continue
            for k in item[1]:  # its guests by place
                other = &self.slots[<int>k]
                if other.last < slot.first or slot.last < other.first:
                    continue
                if at + slot.nbytes <= other.place:
                    break
                at = max(at, other.place + other.nbytes)
            if at + slot.nbytes <= self.slots[host].nbytes:
                slot.place, slot.host = at, host
                item[1].append(guest)
                item[1].sort(key=self.place_of)
                return True
        return False

    def place_of(self, int slot):
        return self.slots[slot].place

    # --- the program ---

    cdef int sort_patches(self, int form, Patch **found, Py_ssize_t **firsts) except -1:
        """The patches of one form of the program by slot, and where those of each slot begin."""
        cdef Py_ssize_t i
        cdef int slot
        cdef Patch *patch
        cdef Patch *made = <Patch *>grown(NULL, (self.patch_count + 1) * sizeof(Patch))
        cdef Py_ssize_t *first = <Py_ssize_t *>grown(NULL, (self.slot_count + 2) * sizeof(Py_ssize_t))
        found[0], firsts[0] = made, first
        memset(first, 0, (self.slot_count + 2) * sizeof(Py_ssize_t))
        for i in range(self.patch_count):
            patch = &self.patches[i]
            if patch.form & form and self.code[patch.call].kind != GONE:
                slot = self.slots[patch.slot].host
                first[(patch.slot if slot < 0 else slot) + 2] += 1
        for i in range(2, self.slot_count + 2):
            first[i] += first[i - 1]
        for i in range(self.patch_count):
            patch = &self.patches[i]
            if patch.form & form and self.code[patch.call].kind != GONE:
                slot = self.slots[patch.slot].host
                made[first[(patch.slot if slot < 0 else slot) + 1]] = patch[0]
                patch = &made[first[(patch.slot if slot < 0 else slot) + 1]]
                if slot >= 0:
                    patch.offset += self.slots[patch.slot].place
                    patch.slot = slot
                first[patch.slot + 1] += 1
        return 0

    cdef int hand_over(self, Program p) except -1:
        """Move code, memory and patches into the program, with addresses instead of places."""
        cdef Py_ssize_t i
        cdef Call *call
        cdef Patch *patch
        for i in range(self.count):
            call = &self.code[i]
            call.bufs = self.bufs + call.b
            if call.dims == NULL:  # else those of a Prepared
                call.dims = self.dims + call.d
                call.scalars = self.scalars + call.s if call.ns > 0 else NULL
        for i in range(self.patch_count):
            patch = &self.patches[i]
            if patch.kind == 0:
                patch.place = &self.bufs[patch.at]
            elif patch.kind == 1:
                patch.place = <void **>&self.code[patch.at].scalars
        if self.chains:
            exchange_places(self.slots, p.other_places, self.slot_count)
            self.sort_patches(2, &p.other_patches, &p.other_first)
            exchange_places(self.slots, p.other_places, self.slot_count)
        self.sort_patches(1, &p.patches, &p.first)
        p.code, p.slots, p.bufs, p.dims, p.scalars = self.code, self.slots, self.bufs, self.dims, self.scalars
        p.spent = <double *>grown(NULL, (self.count + 1) * sizeof(double))
        memset(p.spent, 0, (self.count + 1) * sizeof(double))
        p.count, p.slot_count = self.count, self.slot_count
        for i in range(p.slot_count):
            p.rebind(<int>i, p.slots[i].base)
        p.find_runs()
        p.find_segments()
        if self.chains:
            for i in range(len(self.chains)):
                self.merged[i].bufs, self.merged[i].dims, self.merged[i].scalars = self.bufs + self.merged[i].b, NULL, NULL
            p.chains, p.merged, self.merged = _fuse.Chains(self.chains), self.merged, NULL
            p.merge_at = p.chains.runs()
        self.code, self.slots, self.bufs, self.dims, self.scalars = NULL, NULL, NULL, NULL, NULL
        self.count = self.slot_count = self.patch_count = 0
        return 0
