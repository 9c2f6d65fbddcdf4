# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""Passes over a recorded program: the same bits with fewer calls. MINIGRAD_PASSES lists those that run."""

from ._draft cimport Draft
from ._guards cimport grown
from ._launch cimport FILL_THERE
from ._program cimport CALL, CHAINED, EXPECT, GONE, HEAD, OWN, PREPARED, SWEEPS, THERE, Call, Program
from ._record cimport shapes
from ._storage cimport Storage, devices, unheard_storage

import os
import warnings

from . import _fuse
from ._record import adds

cdef enum:
    MOST_KEPT = 4096  # bytes of a constant on a device
cdef tuple DROPPABLE = ("elementwise.", "constant", "divide", "device.fill", "device.copy")

PASSES = "relu,beta,clip,dead,chains,fills,graphs"
cdef set told = set()  # which unknown passes


def passes():
    """The passes that MINIGRAD_PASSES lists, by default all; warns once of one that is unknown."""
    found = [name.strip() for name in os.environ.get("MINIGRAD_PASSES", PASSES).split(",")]
    for name in found:
        if name and name not in PASSES.split(",") and name not in told:
            told.add(name)
            warnings.warn(f"MINIGRAD_PASSES: no pass is called {name!r}; the known ones are {PASSES}", UserWarning)
    return found


cdef int simplify(Draft draft, list passes) except -1:
    cdef Py_ssize_t i
    cdef list uses = [[] for i in range(draft.slot_count)]  # of each slot: which patches
    cdef set ahead = {call for call, own, read, check, must in draft.heads}
    for i in range(draft.patch_count):
        uses[draft.patches[i].slot].append(i)
    if "relu" in passes:
        for i in range(draft.count):
            fold_relu(draft, i, uses)
    if "beta" in passes:
        for i in range(draft.count):
            add_in_product(draft, i, uses)
    if "clip" in passes:
        for i in range(draft.count):
            chain_update(draft, i)
    if "dead" in passes:
        for i in range(draft.count - 1, -1, -1):
            if i not in ahead:
                drop_dead(draft, i, uses)
    if "chains" in passes:
        merge_chains(draft, ahead)
    if "fills" in passes:
        for i in range(draft.count):
            find_fill(draft, i, uses)
    return 0


cdef int fold_relu(Draft draft, Py_ssize_t i, list uses) except -1:
    """y = x @ w + b; z = relu(y), y not used otherwise: the product's pass over its blocks does it."""
    cdef Call *relu = &draft.code[i]
    cdef Call *product
    cdef int z, y, other, at
    if relu.kind != CALL or not (<str>draft.names[relu.name]).startswith("elementwise.relu.") or draft.dims[relu.d] != 0:
        return 0
    z, y = draft.patch_of(relu, 0), draft.patch_of(relu, 1)
    if z < 0 or y < 0 or not draft.passing(draft.patches[y].slot) or len(uses[draft.patches[y].slot]) != 2:
        return 0
    other = [k for k in uses[draft.patches[y].slot] if k != y][0]
    product = &draft.code[draft.patches[other].call]
    at = (<tuple>shapes[<size_t>product.f])[6] if product.f != NULL else -1
    if (at < 0 or draft.patches[other].kind != 0 or draft.patches[other].at != product.b or product.kind != CALL
            or draft.bufs[product.b + 4] == NULL
            or draft.bufs[product.b + 5] != NULL or draft.dims[product.d + at] or draft.scalars[product.s + 1] != 0
            or draft.dims[product.d + 5] != draft.dims[product.d + 1]
            or draft.dims[product.d] * draft.dims[product.d + 1] != relu.units
            or draft.patches[z].offset or draft.patches[y].offset or draft.patches[other].offset):
        return 0
    draft.dims[product.d + at] = 1
    uses[draft.patches[y].slot].remove(other)
    uses[draft.patches[z].slot].append(other)
    draft.patches[other].slot = draft.patches[z].slot
    relu.kind = GONE
    return 0


cdef int add_in_product(Draft draft, Py_ssize_t i, list uses) except -1:
    """t = a @ b; y += t, t not used otherwise: the product adds to y itself (its beta is 1).

    Where it says that this has the same bits (``adds_alike`` in ops/_gemm.pyx)."""
    cdef Call *add = &draft.code[i]
    cdef Call *product
    cdef Py_ssize_t j, other, at
    cdef int y, t, to
    cdef bint before
    if add.kind != CALL or not (<str>draft.names[add.name]).startswith("elementwise.add.") or draft.dims[add.d] != 3:
        return 0
    y, t = draft.patch_of(add, 0), draft.patch_of(add, 2)
    if y < 0 or t < 0 or not draft.passing(draft.patches[t].slot) or len(uses[draft.patches[t].slot]) != 2:
        return 0
    other, to = [k for k in uses[draft.patches[t].slot] if k != t][0], draft.patches[y].slot
    at = draft.patches[other].call
    product = &draft.code[at]
    if (product.kind != CALL or product.f == NULL or (<tuple>shapes[<size_t>product.f])[6] < 0 or at > i
            or draft.patches[other].kind != 0 or draft.patches[other].at != product.b
            or draft.bufs[product.b + 3] != NULL or draft.bufs[product.b + 4] != NULL
            or draft.bufs[product.b + 5] != NULL or draft.scalars[product.s] != 1 or draft.scalars[product.s + 1] != 0
            or draft.dims[product.d] * draft.dims[product.d + 1] != add.units
            or draft.dims[product.d + 5] != draft.dims[product.d + 1] or draft.dims[product.d + 2] == 0
            or draft.patches[t].offset or draft.patches[other].offset
            or not adds[<size_t>product.f](tuple([draft.dims[product.d + j] for j in range(13)]))):
        return 0
    for j in range(at, i):  # y is written earlier now: nothing may abandon the run, or look at it, in between
        if draft.code[j].kind == EXPECT:
            return 0
    before = draft.slots[to].kind != OWN
    for k in uses[to]:
        j = draft.patches[<Py_ssize_t>k].call
        if draft.code[j].kind != GONE and at <= j < i:
            return 0
        before = before or j < at
    if not before:
        return 0
    draft.scalars[product.s + 1] = 1
    for k in [k for k in uses[to] if draft.patches[<Py_ssize_t>k].call == i]:
        uses[to].remove(k)
    uses[to].append(other)
    uses[draft.patches[t].slot] = []
    draft.patches[other].slot, draft.patches[other].offset = to, draft.patches[y].offset
    add.kind = GONE
    return 0


cdef int chain_update(Draft draft, Py_ssize_t i) except -1:
    """A sweep over gradients that scales or clamps them, and the update that reads them: chunk by chunk, one after the
    other, if nothing looks at the gradients in between."""
    cdef Call *first = &draft.code[i]
    cdef Call *second
    cdef Py_ssize_t k, last = -1
    cdef int j, factor = -1
    cdef set swept = set()
    if first.kind != PREPARED or first.device >= 0 or not (<str>draft.names[first.name]).startswith(SWEEPS):
        return 0
    tables = draft.objects[first.object]
    for k in range(first.p, draft.patch_count):
        j = draft.patches[k].call
        second = &draft.code[j]
        if j == i:
            swept.add(draft.patches[k].slot)
            last = k  # of a scaling sweep the factor's
            continue
        if last >= 0 and tables.scaled():
            factor = draft.patches[last].slot
            swept.discard(factor)
        last = -1
        if second.kind == PREPARED and second.device < 0 and second.units == first.units and (
                not (<str>draft.names[second.name]).startswith(SWEEPS) and draft.objects[second.object].chunks_of(tables)):
            break
        if second.kind != GONE and (draft.patches[k].slot in swept or (
                draft.patches[k].slot == factor and second.kind != PREPARED)):
            return 0
    else:
        return 0
    name = f"{draft.names[first.name].rpartition('.')[0]} + {draft.names[second.name].partition('.')[2]}"
    if name not in draft.name_numbers:
        draft.name_numbers[name] = len(draft.names)
        draft.names.append(name)
    for k in range(first.p, draft.patch_count):
        if draft.patches[k].call != i:
            break
        draft.patches[k].call = j
    first.kind, second.kind = GONE, CHAINED
    second.partner, second.name = <int>i, draft.name_numbers[name]
    return 0


cdef int drop_dead(Draft draft, Py_ssize_t i, list uses) except -1:
    """A call whose one output no other call mentions."""
    cdef Call *call = &draft.code[i]
    cdef int y, slot
    if (call.kind != CALL and call.kind != THERE) or not (<str>draft.names[call.name]).startswith(DROPPABLE):
        return 0
    y = draft.patch_of(call, 0)
    if y < 0 or not draft.passing(draft.patches[y].slot):
        return 0
    for k in uses[draft.patches[y].slot]:
        if draft.patches[<Py_ssize_t>k].call != i and draft.code[draft.patches[<Py_ssize_t>k].call].kind != GONE:
            return 0
    call.kind = GONE
    return 0


cdef int find_fill(Draft draft, Py_ssize_t i, list uses) except -1:
    """A fill of little memory on a device that only elementwise calls read afterwards; their outputs come first."""
    cdef Call *call = &draft.code[i]
    cdef Call *reader
    cdef Py_ssize_t *d = draft.dims + call.d
    cdef int y, slot
    if call.kind != THERE or call.f != FILL_THERE or d[1] * d[2] > MOST_KEPT:
        return 0
    y = draft.patch_of(call, 0)
    if y < 0 or not draft.passing(draft.patches[y].slot) or draft.patches[y].offset:
        return 0
    slot = draft.patches[y].slot
    for k in uses[slot]:
        reader = &draft.code[draft.patches[<Py_ssize_t>k].call]
        if <int>k == y or reader.kind == GONE:
            continue
        if (draft.patches[<Py_ssize_t>k].call < i or draft.patches[<Py_ssize_t>k].kind != 0
                or draft.patches[<Py_ssize_t>k].at == reader.b
                or not (<str>draft.names[reader.name]).startswith("elementwise.")):
            return 0
    call.kind = GONE
    draft.fills.append((slot, i))
    return 0


cdef int fill_once(Draft draft, Program p, int slot, Py_ssize_t i) except -1:
    """Give a slot memory that holds a constant."""
    cdef Py_ssize_t *d = draft.dims + draft.code[i].d
    cdef Storage s = unheard_storage(draft.slots[slot].nbytes, <int>d[0])
    devices.put(<int>d[0], s.ptr, &d[3], <int>d[1], d[2])
    p.keep_alive.append(s)
    draft.slots[slot].base = s.ptr
    return 0


cdef int merge_chains(Draft draft, set ahead) except -1:
    """Calls that may stand for chains of elementwise ones (_fuse.py), once their kernels are compiled."""
    cdef Py_ssize_t i, j, k
    cdef Call *call
    cdef Call *merged
    cdef list rows = [], visible = []
    for i in range(draft.slot_count):
        visible.append(None if draft.slots[i].kind != OWN else bool(draft.slots[i].alive))
    for i in range(draft.count):
        call = &draft.code[i]
        if call.kind == GONE or call.kind == HEAD:
            continue
        operands = [(-1, <size_t>draft.bufs[call.b + j]) for j in range(call.nb)]
        others = []
        for j in range(call.p, draft.patch_count):
            if draft.patches[j].call != i:
                break
            if draft.patches[j].kind == 0:
                operands[draft.patches[j].at - call.b] = draft.patches[j].slot, draft.patches[j].offset
            else:
                others.append(draft.patches[j].slot)
        if call.kind == CHAINED:  # what the call before it reads, which is its own now: the factor of clipping
            for j in range(draft.code[call.partner].p, draft.patch_count):
                if draft.patches[j].call != i:
                    break
                others.append(draft.patches[j].slot)
        rows.append(_fuse.Row(i, call.kind == CALL and i not in ahead and not others, draft.names[call.name], call.units,
                              tuple([draft.dims[call.d + j] for j in range(min(call.nd, 6))]), operands, others))
    draft.chains = _fuse.plan(rows, visible)
    replaced = {each for chain in draft.chains for each in (*chain.replaced, *chain.calls)}
    for i in range(draft.patch_count):
        if draft.patches[i].call in replaced:
            draft.patches[i].form = 1
    draft.merged = <Call *>grown(NULL, (len(draft.chains) + 1) * sizeof(Call))
    for k, chain in enumerate(draft.chains):
        i = chain.calls[len(chain.calls) - 1]
        merged = &draft.merged[k]
        merged[0] = draft.code[i]
        merged.nb, merged.b, merged.nd, merged.ns = len(chain.operands), draft.buf_count, 0, 0
        merged.units, merged.cost, merged.bytes = chain.n, 0, chain.moved
        for j in chain.calls:
            merged.cost += draft.code[j].cost
        merged.line, merged.name = <int>len(draft.lines), <int>len(draft.names)
        draft.lines.append(_fuse.place_of([draft.lines[draft.code[<Py_ssize_t>each].line] for each in chain.calls]))
        draft.names.append(chain.name)
        draft.make_buf_room(merged.nb)
        for slot, offset in chain.operands:
            if slot < 0:
                draft.bufs[draft.buf_count] = <void *><size_t>offset
            else:
                draft.new_patch(0, draft.buf_count, NULL, slot, offset, i)
                draft.patches[draft.patch_count - 1].form = 2
            draft.buf_count += 1
    return 0
