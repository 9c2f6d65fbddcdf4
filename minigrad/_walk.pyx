# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The backward walk: from outputs to leaves, by descending sequence number.

DESIGN
a. ``collect`` finds the reachable nodes breadth first and sorts them; nothing recurses, so depth is no limit. A walk's
   state lives in the walk, in C arrays (lists and their items were most of the cost of a short walk); nodes and leaves
   only note their place in it (``walk``, ``slot``), and a walk whose notes another one has overwritten (nested, or in
   another thread) looks places up in a dict.
b. Gradients are handed on without copies where possible: a leaf takes its first gradient over, and sums and the last
   elementwise rule of a node are computed in place, when reference counts prove that nobody else can see the memory.
c. With requested inputs only the nodes that lead to one run.
d. What a node saved is released as soon as its rules have their values, unless the graph is retained.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, qsort, realloc
from libc.string cimport memcpy

import warnings

from ._engine cimport (
    ADD, FREED, MUL, SEED, Node, Op, Tensor, alias, anomaly, apply_binary, apply_unary, cast, clone, edge_at, edge_of,
    entry_of, full, grad_enabled, item_of, kept_at, needs_grad, on_host, origins, retain_gradient,
    same_shape, set_backward, set_grad_off, shape_tuple, to_contiguous, unpack,
)
from ._launch cimport kernel_t, launch
from ._plug cimport plugs
from ._record cimport recorder, recording
from ._storage cimport CATEGORY, DTYPES, F32, device_name

cdef extern from *:
    """
    static inline PyObject *mg_steal(PyObject *o) { return o; }
    static PyObject *mg_vectorcall(PyObject *f, PyObject **a, size_t n) { return PyObject_Vectorcall(f, a, n, NULL); }
    """
    object mg_vectorcall(object f, PyObject **a, size_t n)
    object steal "mg_steal"(PyObject *o)
    void incref "Py_INCREF"(object o)
    void xdecref "Py_XDECREF"(PyObject *o)
    Py_ssize_t Py_REFCNT(PyObject *o)

cdef int64_t walks = 0

cdef struct Item:
    PyObject *target       # a Node or a leaf; owned
    PyObject *grad         # what has reached it, or NULL; owned
    int64_t note           # of a node: its sequence number; of a leaf: how many gradients are still to come

cdef enum:
    FEW = 12

cdef struct Items:
    Item *at
    Py_ssize_t count, room
    Item[FEW] few          # where most walks find room enough


cdef int append(Items *items, object target, int64_t note) except -1:
    cdef Item *grown
    if items.at == NULL:
        items.at, items.room = items.few, FEW
    if items.count == items.room:
        grown = <Item *>realloc(NULL if items.at == items.few else items.at, 4 * items.room * sizeof(Item))
        if grown == NULL:
            raise MemoryError("backward: too many nodes")
        if items.at == items.few:
            memcpy(grown, items.few, sizeof(items.few))
        items.at, items.room = grown, 4 * items.room
    incref(target)
    items.at[items.count].target, items.at[items.count].grad = <PyObject *>target, NULL
    items.at[items.count].note = note
    items.count += 1
    return 0


cdef int clear(Items *items) noexcept:
    cdef Py_ssize_t i
    for i in range(items.count):
        xdecref(items.at[i].grad)
        xdecref(items.at[i].target)
    if items.at != items.few:
        free(items.at)
    return 0


cdef inline object take(Item *item):
    """The gradient that has reached ``item``, or None; it keeps none."""
    cdef PyObject *g = item.grad
    if g == NULL:
        return None
    item.grad = NULL
    return steal(g)


cdef int later_first(const void *a, const void *b) noexcept nogil:
    return 1 if (<Item *>a).note < (<Item *>b).note else -1 if (<Item *>a).note > (<Item *>b).note else 0


@cython.final
@cython.no_gc
@cython.freelist(4)
cdef class Walk:
    """One run of backward: nodes by descending sequence number, and the gradients that have reached them."""
    cdef int64_t id
    cdef Items roots       # outputs' nodes or leaves, with the gradients that they start from
    cdef Items nodes
    cdef Items leaves
    cdef dict places       # node or leaf -> place, once another walk has taken over a node's own note of it
    cdef set targets       # the requested inputs, or None
    cdef set wanted        # nodes whose rules must run to reach a target, or None for all
    cdef dict captured     # requested input -> gradient
    cdef bint retain
    cdef bint recorded

    def __dealloc__(self):
        clear(&self.roots)
        clear(&self.nodes)
        clear(&self.leaves)

    cdef Py_ssize_t place(self, object item) except -1:
        cdef Py_ssize_t i
        if type(item) is Node:
            if (<Node>item).walk == self.id:
                return (<Node>item).slot
        elif (<Tensor>item).walk == self.id:
            return (<Tensor>item).slot
        if self.places is None:
            self.places = {}
            for i in range(self.nodes.count):
                self.places[<size_t>self.nodes.at[i].target] = i
            for i in range(self.leaves.count):
                self.places[<size_t>self.leaves.at[i].target] = i
        return self.places[<size_t><PyObject *>item]

    cdef int add_root(self, Tensor y, object gradient, Py_ssize_t i) except -1:
        if not needs_grad(y):
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        gradient = initial_gradient(y, gradient, i)
        append(&self.roots, edge_of(y), 0)
        incref(gradient)
        self.roots.at[self.roots.count - 1].grad = <PyObject *>gradient
        return 0

    cdef int collect(self) except -1:
        """Find the nodes and leaves below the roots, breadth first, and order the nodes."""
        cdef Node n
        cdef Py_ssize_t i, k
        cdef bint ordered = True
        for i in range(self.roots.count):
            self.add_edge(self.roots.at[i].target)
        i = 0
        while i < self.nodes.count:
            n = <Node>self.nodes.at[i].target
            if i and n.seq > self.nodes.at[i - 1].note:
                ordered = False
            for k in range(n.inputs):
                self.add_edge(edge_at(n, k))
            i += 1
        if not ordered:
            qsort(self.nodes.at, self.nodes.count, sizeof(Item), later_first)
            for i in range(self.nodes.count):
                n = <Node>self.nodes.at[i].target
                if n.walk == self.id:  # else another walk, in another thread, has passed here since
                    n.slot = <int>i
        return 0

    cdef int add_edge(self, PyObject *edge) except -1:
        """Note a node that may be new, or one more gradient on its way to a leaf."""
        cdef Node n
        cdef Tensor leaf
        if <object>edge is None:
            return 0
        if type(<object>edge) is Node:
            n = <Node>edge
            if n.walk != self.id:
                n.walk, n.slot = self.id, <int>self.nodes.count
                append(&self.nodes, n, n.seq)
        else:
            leaf = <Tensor>edge
            if leaf.walk != self.id:
                leaf.walk, leaf.slot = self.id, <int>self.leaves.count
                append(&self.leaves, leaf, 0)
            self.leaves.at[leaf.slot].note += 1
        return 0

    cdef int prune(self) except -1:
        """Keep only the nodes that lead to a target; a target itself runs only if it leads to another one."""
        cdef Node n
        cdef Py_ssize_t i, k
        self.wanted = set()
        for i in range(self.nodes.count - 1, -1, -1):
            n = <Node>self.nodes.at[i].target
            for k in range(n.inputs):
                edge = <object>edge_at(n, k)
                if edge is not None and self.wants(edge):
                    self.wanted.add(n)
                    break
        return 0

    cdef inline bint wants(self, object edge) except -1:
        return self.wanted is None or edge in self.wanted or edge in self.targets

    cdef int deliver(self, object edge, object g) except -1:
        """Add gradient ``g`` (or None) to what has reached ``edge``; a leaf that got its last one is finished."""
        cdef Item *item
        cdef object total
        if type(edge) is Node:
            if g is not None:
                add_to(&self.nodes.at[self.place(edge)].grad, g, self.recorded)
            return 0
        item = &self.leaves.at[self.place(edge)]
        item.note -= 1
        if item.note == 0 and item.grad == NULL:
            if g is not None:
                self.finish_leaf(<Tensor>edge, g)
            return 0
        if g is not None:
            add_to(&item.grad, g, self.recorded)
        if item.note == 0 and item.grad != NULL:
            total = take(item)
            self.finish_leaf(<Tensor>edge, total)
        return 0

    cdef int finish_leaf(self, Tensor leaf, object g) except -1:
        cdef object hooked
        if not isinstance(g, Tensor):
            raise TypeError(f"a backward rule must return tensors or None, got {type(g).__name__}")
        if self.targets is not None and leaf not in self.targets:
            return 0
        if leaf.hooks is None:
            if self.captured is not None:
                self.captured[leaf] = g
            else:
                accumulate(leaf, <Tensor>g, self.recorded)
            return 0
        hooked = run_hooks(leaf.hooks, g)
        if self.captured is not None:
            self.captured[leaf] = hooked
        else:
            accumulate(leaf, <Tensor>hooked, self.recorded)
        return 0

    cdef int run(self) except -1:
        cdef Node n
        cdef Item *item
        cdef Py_ssize_t i
        cdef object g
        for i in range(self.roots.count):
            g = take(&self.roots.at[i])
            self.deliver(<object>self.roots.at[i].target, g)
            g = None
        for i in range(self.nodes.count):
            item = &self.nodes.at[i]
            n = <Node>item.target
            if not i & 1023:
                PyErr_CheckSignals()  # rules need not be Python code, which would notice Ctrl-C
            if item.grad == NULL or not self.wants(n):
                take(item)
                self.skip(n)
                continue
            if n.hooks is not None:
                g = take(item)
                g = run_hooks(n.hooks, g)
                add_to(&item.grad, g, self.recorded)
                g = None
            if n.retained is not None or (self.targets is not None and n in self.targets):
                g = <object>item.grad
                self.keep(n, g)
                g = None
                if self.wanted is not None and n not in self.wanted:
                    take(item)
                    self.skip(n)
                    continue
            if n.outputs == -1:  # a Slot
                g = take(item)
                if self.wants(n.edge0):
                    self.deliver_slot(<Node>n.edge0, n.output, g)
                g = None
                continue
            if n.freed:
                raise RuntimeError(FREED)
            if anomaly:
                self.apply_watched(n, item)
            elif n.op.backward is not None:
                self.apply_whole(n, item)
            else:
                self.apply(n, item)
        return 0

    cdef int apply_watched(self, Node n, Item *item) except -1:
        """``apply``; an error is preceded by a warning that shows where the operation was recorded."""
        try:
            if n.op.backward is not None:
                self.apply_whole(n, item)
            else:
                self.apply(n, item)
        except Exception:
            warnings.warn(
                f"Error detected in {n.op.name}Backward0. "
                + ("Traceback of forward call that caused the error:\n" + origins[n.seq] if n.seq in origins else
                   "No forward pass information available. Enable detect_anomaly during forward pass too."),
                stacklevel=2,
            )
            raise
        return 0

    cdef int keep(self, Node n, object g) except -1:
        """Hand ``g`` to whoever asked for the gradient of this very node."""
        cdef Tensor t
        if n.retained is not None:
            t = n.retained()
            if t is not None:
                accumulate(t, <Tensor>g, self.recorded)
        if self.targets is not None and n in self.targets:
            if self.captured is not None:
                self.captured[n] = g
        return 0

    cdef int skip(self, Node n) except -1:
        cdef Py_ssize_t i
        for i in range(n.inputs):
            edge = <object>edge_at(n, i)
            if edge is not None and type(edge) is not Node:
                self.deliver(edge, None)
        return 0

    cdef int deliver_slot(self, Node parent, int output, object g) except -1:
        """Gradients of one of several outputs wait in a list."""
        cdef Item *item = &self.nodes.at[self.place(parent)]
        cdef list parts
        cdef PyObject *part
        if item.grad == NULL:
            parts = [None] * parent.outputs
            incref(parts)
            item.grad = <PyObject *>parts
        parts = <list>item.grad
        if parts[output] is None:
            parts[output] = g
            return 0
        incref(parts[output])
        part = <PyObject *>parts[output]
        parts[output] = None
        try:
            add_to(&part, g, self.recorded)
        finally:
            parts[output] = steal(part)
        return 0

    cdef int apply_whole(self, Node n, Item *item) except -1:
        """Run the one rule that returns the gradients of all inputs and deliver them; release what was saved."""
        cdef Py_ssize_t i
        cdef list values
        cdef object edge, r, g = take(item)
        r = n.op.backward(n, g)
        g = None
        if not self.retain:
            release(n)
        values = list(r) if isinstance(r, (tuple, list)) else [r]
        r = None
        if len(values) < n.inputs:
            raise RuntimeError(f"function {n.op.name}Backward0 returned an incorrect number of gradients (expected "
                               f"{n.inputs}, got {len(values)})")
        for i in range(n.inputs):
            edge = <object>edge_at(n, i)
            if edge is not None:
                r, values[i] = values[i], None  # r may be the only reference now
                if anomaly:
                    refuse_nan(n, i, r)
                if not self.wants(edge):
                    r = None
                self.deliver(edge, r)  # not a conditional expression: that would be a second reference
                r = None
        return 0

    cdef int apply(self, Node n, Item *item) except -1:
        """Run the rules of ``n`` and deliver what they return; release what it saved."""
        cdef Py_ssize_t i, count = n.kept, last = n.inputs - 1
        cdef PyObject *arguments[24]
        cdef PyObject *edge
        cdef object rule, r, g = take(item), kept0 = None, kept1 = None
        cdef tuple more = None
        while last >= 0 and <object>edge_at(n, last) is None:
            last -= 1
        if count:
            if count > 22:
                raise ValueError(f"{n.op.name}: too many saved values")
            kept0 = unpack(n, n.kept0, self.recorded)
            arguments[1] = <PyObject *>kept0
            if count > 1:
                kept1 = unpack(n, n.kept1, self.recorded)
                arguments[2] = <PyObject *>kept1
            if count > 2:
                more = tuple([unpack(n, value, self.recorded) for value in n.more_kept])
                for i in range(2, count):
                    arguments[i + 1] = item_of(more, i - 2)
            if not self.retain:
                release(n)
        for i in range(last + 1):
            edge = edge_at(n, i)
            if <object>edge is None:
                continue
            if not self.wants(<object>edge):
                if type(<object>edge) is not Node:
                    self.deliver(<object>edge, None)
                continue
            arguments[0] = <PyObject *>g
            rule = <object>item_of(n.op.rules, i)
            if type(rule) is Op:  # an elementwise op is its own native rule: op(dy) or op(dy, saved)
                r = self.native(<Op>rule, <Tensor>g, <Tensor>arguments[1] if count else None, i == last)
            elif type(rule) is int:  # dy, or dy times a saved tensor
                r = g if <Py_ssize_t>rule < 0 else self.native(MUL, <Tensor>g, <Tensor>arguments[1 + <Py_ssize_t>rule],
                                                               i == last)
            else:
                r = mg_vectorcall(rule, arguments, count + 1)
            if n.shapes is not None and n.shapes[i] is not None and r is not None:
                r = plugs.sum_to(r, n.shapes[i])
            if anomaly:
                refuse_nan(n, i, r)
            if i == last:
                g = kept0 = kept1 = more = None  # the last rule has run: r may be the only reference now
            self.deliver(<object>edge, r)
            r = None
        return 0

    cdef Tensor native(self, Op op, Tensor g, Tensor x, bint last):
        """op(g) or op(g, x), in g's memory if the caller's was the last use of it."""
        cdef void *bufs[3]
        cdef Py_ssize_t[1] dims
        if last and not self.recorded and Py_REFCNT(<PyObject *>g) == 1 and op.kind == 0 and exclusive(g) and (
                x is None or (x.contiguous and x.dt == g.dt and same_shape(x, g) and
                              x.storage.device == g.storage.device)):
            bufs[0], bufs[1], bufs[2], dims[0] = g.ptr, g.ptr, x.ptr if x is not None else NULL, 3
            launch(entry_of(op.flat, g.dt, g.dt, g.storage.device), bufs, dims, NULL, g.count, g.count * op.flat.cost)
            g.storage.version += 1
            return g
        return apply_unary(op, g) if x is None else apply_binary(op, g, x)


cdef int release(Node n) except -1:
    """Let go of the saved tensors; a node without any can run again."""
    cdef Py_ssize_t i
    for i in range(n.kept):
        if isinstance(<object>kept_at(n, i), Tensor):
            n.kept, n.kept0, n.kept1, n.more_kept, n.freed = 0, None, None, None, True
            break
    return 0


cdef int add_to(PyObject **total, object g, bint recorded) except -1:
    """total += g, in place only when nobody else can see the sum so far."""
    cdef Tensor old
    cdef PyObject *before = total[0]
    if not isinstance(g, Tensor):
        raise TypeError(f"a backward rule must return tensors or None, got {type(g).__name__}")
    if before == NULL:
        incref(g)
        total[0] = <PyObject *>g
        return 0
    old = <Tensor>before
    # references: the walk, `old`; the storage: `old`
    if not recorded and Py_REFCNT(before) == 2 and exclusive(old) and same_shape(old, <Tensor>g) and (
            old.dt == (<Tensor>g).dt) and old.storage.device == (<Tensor>g).storage.device:
        add_inplace(old, to_contiguous(<Tensor>g), False)
    else:
        g = apply_binary(ADD, old, <Tensor>g)
        incref(g)
        total[0] = <PyObject *>g
        xdecref(before)
    return 0


cdef bint exclusive(Tensor g):
    """Whether nothing else uses the memory of g: no array, no other tensor but the base of g, which only g knows."""
    cdef Py_ssize_t users = 1
    if g.base is not None:
        if Py_REFCNT(<PyObject *>g.base) != 1 or g.base.count != g.count:
            return False
        users = 2
    return g.contiguous and not g.requires and g.storage.owner is None and Py_REFCNT(<PyObject *>g.storage) == users


cdef int add_inplace(Tensor y, Tensor x, bint shared) except -1:
    """y += x, both contiguous; if ``shared``, without letting other threads run in between."""
    cdef void *bufs[3]
    cdef Py_ssize_t[4] dims
    cdef kernel_t f = entry_of(ADD.flat, y.dt, y.dt, y.storage.device)
    bufs[0], bufs[1], bufs[2] = y.ptr, y.ptr, x.ptr
    dims[0] = 3
    if shared and y.storage.device < 0:
        if recorder is not None and recording():
            recorder.kernel(f, bufs, dims, NULL, y.count, y.count * ADD.flat.cost)
        f(bufs, dims, NULL, 0, y.count)
    else:
        launch(f, bufs, dims, NULL, y.count, y.count * ADD.flat.cost)
    y.storage.version += 1
    return 0


cdef object run_hooks(list hooks, object g):
    if hooks and recorder is not None and recording():
        recorder.refuse("calls a hook of a tensor")
    for hook, in list(hooks):
        result = hook(g)
        if result is not None:
            if not isinstance(result, Tensor):
                raise TypeError(f"a gradient hook must return a Tensor or None, got {type(result).__name__}")
            if not same_shape(<Tensor>result, <Tensor>g):
                raise RuntimeError(
                    f"hook '{getattr(hook, '__name__', hook)}' has changed the size of value: "
                    f"{shape_tuple(<Tensor>result)} instead of {shape_tuple(<Tensor>g)}"
                )
            if (<Tensor>result).dt != (<Tensor>g).dt:
                raise RuntimeError(
                    f"hook '{getattr(hook, '__name__', hook)}' has changed the type of value (was "
                    f"{DTYPES[(<Tensor>g).dt]!r} got {DTYPES[(<Tensor>result).dt]!r})"
                )
            if (<Tensor>result).storage.device != (<Tensor>g).storage.device:
                raise RuntimeError(
                    f"hook '{getattr(hook, '__name__', hook)}' has changed the device of value (was "
                    f"{device_name((<Tensor>g).storage.device)} got {device_name((<Tensor>result).storage.device)})"
                )
            g = result
    return g


cdef int accumulate(Tensor leaf, Tensor g, bint recorded) except -1:
    """leaf.grad += g; the first gradient is taken over without a copy when nobody else refers to it.

    Several threads may do so for one leaf: between looking at ``.grad`` and changing it no other thread runs.
    """
    cdef Tensor old, new
    if not same_shape(leaf, g):
        raise RuntimeError(f"a gradient of shape {shape_tuple(g)} reached a tensor of shape {shape_tuple(leaf)}")
    if g.storage.device != leaf.storage.device:
        raise RuntimeError(f"a gradient on {device_name(g.storage.device)} reached a tensor on "
                           f"{device_name(leaf.storage.device)}")
    if g.dt != leaf.dt:
        return accumulate(leaf, cast(g, leaf.dt), recorded)
    # arguments are borrowed: the one reference is the caller's
    if leaf.gradient is None and not recorded and Py_REFCNT(<PyObject *>g) == 1 and exclusive(g):
        g.link = None
        leaf.gradient = g if g.base is None else alias(g)
    else:
        new = to_contiguous(g)
        entry_of(ADD.flat, g.dt, g.dt, g.storage.device)  # compiled by now
        while True:
            old = <Tensor>leaf.gradient
            if old is not None and not same_shape(old, g):
                raise RuntimeError(f"a gradient of shape {shape_tuple(g)} reached a tensor whose .grad has shape "
                                   f"{shape_tuple(old)}")
            if old is not None and not recorded and old.contiguous and not old.requires and old.dt == g.dt and (
                    not old.storage.readonly) and old.storage is not new.storage and (
                    old.storage.device == new.storage.device):
                add_inplace(old, new, True)
                break
            total = apply_binary(ADD, old, g) if old is not None else new if new is not g and not recorded else clone(g)
            if leaf.gradient is old:  # else another thread came first: add to what it left
                leaf.gradient = total
                break
    if leaf.after_hooks is not None:
        if leaf.after_hooks and recorder is not None and recording():
            recorder.refuse("calls a hook of a tensor")
        for hook, in list(leaf.after_hooks):
            hook(leaf)
    return 0


cdef Tensor initial_gradient(Tensor y, object gradient, Py_ssize_t i):
    cdef Tensor g
    if gradient is None:
        if y.count != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs, got output {i} of shape {shape_tuple(y)}; "
                f"pass gradient= or reduce it with sum() or mean()"
            )
        g = full(y.dt, y.nd, y.shape_, 1, y.storage)
        g.storage.made_by, g.storage.made_at = <void *>SEED, g.storage.version  # see always_one
        return g
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    g = <Tensor>gradient
    if not same_shape(g, y):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {shape_tuple(g)} and output[{i}] has a shape of "
            f"{shape_tuple(y)}."
        )
    if g.storage.device != y.storage.device:
        raise RuntimeError(f"grad_output[{i}] is on {device_name(g.storage.device)} and output[{i}] on "
                           f"{device_name(y.storage.device)}")
    return cast(g, y.dt)


def run_backward(tuple outputs, tuple gradients, bint retain_graph, bint create_graph, tuple inputs=None,
                 bint capture=False, bint allow_unused=False):
    """Differentiate ``outputs``; into ``.grad`` of leaves, or (``capture``) return the gradients of ``inputs``."""
    cdef Walk walk = new_walk(retain_graph, create_graph)
    cdef list keys = None
    cdef Py_ssize_t i
    if len(gradients) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    for i in range(len(outputs)):
        walk.add_root(<Tensor?>outputs[i], gradients[i], i)
    if inputs is not None:
        keys = keys_of(inputs, capture)
        walk.targets = set(keys)
        if capture:
            walk.captured = {}
    start(walk)
    return collect_captured(walk, keys, gradients, allow_unused) if capture else None


cdef Walk new_walk(bint retain, bint recorded):
    global walks
    cdef Walk walk = <Walk>Walk.__new__(Walk)
    walks += 1
    walk.id, walk.retain, walk.recorded = walks, retain, recorded
    return walk


cdef int start(Walk walk) except -1:
    cdef bint before = not grad_enabled()
    walk.collect()
    if walk.targets is not None:
        walk.prune()
    set_grad_off(not walk.recorded)
    try:
        walk.run()
    finally:
        set_grad_off(before)
    return 0


cdef int backward(Tensor y, object gradient, bint retain, bint recorded) except -1:
    """``run_backward`` of one output into ``.grad`` of all leaves."""
    cdef Walk walk = new_walk(retain, recorded)
    walk.add_root(y, gradient, 0)
    start(walk)
    return 0


cdef list keys_of(tuple inputs, bint capture):
    """Where the gradients of ``inputs`` arrive: nodes and leaves."""
    cdef list keys = []
    cdef Tensor t
    cdef Py_ssize_t i
    for i in range(len(inputs)):
        t = <Tensor?>inputs[i]
        if not needs_grad(t):
            raise RuntimeError(f"One of the differentiated Tensors does not require grad: inputs[{i}]")
        if not capture:
            retain_gradient(t)
        keys.append(edge_of(t))
    return keys


cdef tuple collect_captured(Walk walk, list keys, tuple gradients, bint allow_unused):
    """The gradients of ``keys``, each with memory of its own: not another's, not one of the ``gradients`` given."""
    cdef list result = []
    cdef set seen = {id((<Tensor>g).storage) for g in gradients if g is not None} if walk.recorded else None
    cdef Py_ssize_t i
    for i in range(len(keys)):
        g = walk.captured.get(keys[i])
        if g is None:
            if not allow_unused:
                raise RuntimeError(
                    f"One of the differentiated Tensors appears to not have been used in the graph: inputs[{i}]. "
                    "Set allow_unused=True if this is the desired behavior."
                )
        elif walk.recorded:
            if id((<Tensor>g).storage) in seen:
                g = clone(<Tensor>g)
            seen.add(id((<Tensor>g).storage))
        elif Py_REFCNT(<PyObject *>g) != 2 or not exclusive(<Tensor>g):  # references: ``captured``, ``g``
            g = clone(<Tensor>g)
        result.append(g)
    return tuple(result)


cdef int refuse_nan(Node n, Py_ssize_t output, object g) except -1:
    """In anomaly mode 2: raise if gradient ``g``, which a rule of ``n`` returned, has a nan."""
    cdef Tensor t
    cdef Py_ssize_t i
    cdef bint found = False
    if recorder is not None and recording():
        recorder.refuse("runs with anomaly detection")
    if anomaly < 2 or not isinstance(g, Tensor) or CATEGORY[(<Tensor>g).dt] != 2:
        return 0
    t = to_contiguous(on_host(<Tensor>g))
    for i in range(t.count):
        if t.dt == F32:
            found = found or (<float *>t.ptr)[i] != (<float *>t.ptr)[i]
        else:
            found = found or (<double *>t.ptr)[i] != (<double *>t.ptr)[i]
    if found:
        raise RuntimeError(f"Function '{n.op.name}Backward0' returned nan values in its {output}th output.")
    return 0


plugs.backward = run_backward
set_backward(backward)
