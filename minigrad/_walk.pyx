# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The backward walk: from outputs to leaves, by descending sequence number.

DESIGN
a. ``collect`` finds the reachable nodes with a stack of its own and sorts them; nothing recurses, so depth is no limit.
   A walk's state lives in the walk; nodes and leaves only note their place in it (``walk``, ``slot``), and a walk whose
   notes another one has overwritten (nested, or in another thread) looks places up in a dict.
b. Gradients are handed on without copies where possible: a leaf takes its first gradient over, and sums are made in
   place, when reference counts prove that nobody else can see the memory.
c. With requested inputs only the nodes that lead to one run.
d. What a node saved is released as soon as its rules have their values, unless the graph is retained.
"""

cimport cython
from cpython.exc cimport PyErr_CheckSignals
from cpython.object cimport PyObject
from libc.stdint cimport int64_t
from libc.stdlib cimport free, malloc, qsort, realloc

import warnings

from ._engine cimport (
    ADD, FREED, MUL, Node, Op, Tensor, alias, anomaly, apply_binary, apply_unary, cast, clone, edge_of, full, grad_enabled,
    hook_sum_to, needs_grad, origins, retain_gradient, same_shape, set_grad_off, shape_tuple, to_contiguous, unpack,
)
from ._launch cimport kernel_t, launch
from ._record cimport recorder, recording
from ._storage cimport CATEGORY, DTYPES, F32

from ._engine import install

cdef extern from *:
    """
    static PyObject *mg_vectorcall(PyObject *f, PyObject **a, size_t n) { return PyObject_Vectorcall(f, a, n, NULL); }
    """
    object mg_vectorcall(object f, PyObject **a, size_t n)
    Py_ssize_t Py_REFCNT(PyObject *o)

cdef int64_t walks = 0

cdef struct Order:
    int64_t seq
    PyObject *node


cdef int later_first(const void *a, const void *b) noexcept nogil:
    return 1 if (<Order *>a).seq < (<Order *>b).seq else -1 if (<Order *>a).seq > (<Order *>b).seq else 0


@cython.final
@cython.freelist(4)
cdef class Walk:
    """One run of backward: nodes by descending sequence number, and the gradients that have reached them."""
    cdef int64_t id
    cdef list nodes
    cdef list grads
    cdef list leaves
    cdef list leaf_grads
    cdef int *pending      # of each leaf: how many gradients are still to come
    cdef Py_ssize_t room   # length of ``pending``
    cdef dict places       # node or leaf -> place, once another walk has taken over a node's own note of it
    cdef set targets       # the requested inputs, or None
    cdef set wanted        # nodes whose rules must run to reach a target, or None for all
    cdef dict captured     # requested input -> gradient
    cdef bint retain
    cdef bint recorded

    def __dealloc__(self):
        free(self.pending)

    cdef int place(self, object item) except -1:
        if isinstance(item, Node):
            if (<Node>item).walk == self.id:
                return (<Node>item).slot
        elif (<Tensor>item).walk == self.id:
            return (<Tensor>item).slot
        if self.places is None:
            self.places = {id(n): i for i, n in enumerate(self.nodes)}
            self.places.update({id(t): i for i, t in enumerate(self.leaves)})
        return self.places[id(item)]

    cdef int collect(self, list roots) except -1:
        """Find the nodes and leaves below ``roots`` and order the nodes."""
        cdef list stack = list(roots), found = []
        cdef Node n
        cdef Py_ssize_t i, count = 0
        cdef int64_t seq = 0
        cdef Order *order
        cdef bint ordered = True
        self.leaves, self.leaf_grads = [], []
        for item in roots:
            if isinstance(item, Tensor):
                self.add_leaf(<Tensor>item)
        while stack:
            item = stack.pop()
            if not isinstance(item, Node):
                continue
            n = <Node>item
            if n.walk == self.id:
                continue
            n.walk, n.slot = self.id, <int>count
            if count and seq < n.seq:
                ordered = False
            seq = n.seq
            count += 1
            found.append(n)
            for edge in n.edges:
                if edge is None:
                    continue
                if isinstance(edge, Node):
                    if (<Node>edge).walk != self.id:
                        stack.append(edge)
                else:
                    self.add_leaf(<Tensor>edge)
        if not ordered:
            order = <Order *>malloc(count * sizeof(Order))
            if order == NULL:
                raise MemoryError("backward: too many nodes")
            for i in range(count):
                n = <Node>found[i]
                order[i].seq, order[i].node = n.seq, <PyObject *>n
            qsort(order, count, sizeof(Order), later_first)
            stack = found  # keeps them alive
            found = [<object>order[i].node for i in range(count)]
            free(order)
            for i in range(count):
                n = <Node>found[i]
                if n.walk == self.id:  # else another walk, in a finalizer or thread, has passed here since
                    n.slot = <int>i
        self.nodes, self.grads = found, [None] * count
        return 0

    cdef int add_leaf(self, Tensor leaf) except -1:
        """Note one more gradient on its way to ``leaf``."""
        cdef Py_ssize_t count
        if leaf.walk != self.id:
            count = len(self.leaves)
            if count == self.room:
                self.room = 2 * count + 8
                self.pending = <int *>realloc(self.pending, self.room * sizeof(int))
                if self.pending == NULL:
                    raise MemoryError("backward: too many leaves")
            leaf.walk, leaf.slot = self.id, <int>count
            self.pending[count] = 0
            self.leaves.append(leaf)
            self.leaf_grads.append(None)
        self.pending[leaf.slot] += 1
        return 0

    cdef int prune(self) except -1:
        """Keep only the nodes that lead to a target; a target itself runs only if it leads to another one."""
        cdef Node n
        cdef Py_ssize_t i
        self.wanted = set()
        for i in range(len(self.nodes) - 1, -1, -1):
            n = <Node>self.nodes[i]
            for edge in n.edges:
                if edge is not None and self.wants(edge):
                    self.wanted.add(n)
                    break
        return 0

    cdef bint wants(self, object edge):
        return self.wanted is None or edge in self.wanted or edge in self.targets

    cdef int deliver(self, object edge, object g) except -1:
        """Add gradient ``g`` (or None) to what has reached ``edge``; a leaf that got its last one is finished."""
        cdef int i = self.place(edge)
        cdef object total
        if isinstance(edge, Node):
            if g is not None:
                add_to(self.grads, i, g, self.recorded)
            return 0
        self.pending[i] -= 1
        if self.pending[i] == 0 and self.leaf_grads[i] is None:
            if g is not None:
                self.finish_leaf(<Tensor>edge, g)
            return 0
        if g is not None:
            add_to(self.leaf_grads, i, g, self.recorded)
        if self.pending[i] == 0:
            total = self.leaf_grads[i]
            self.leaf_grads[i] = None
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
        cdef Py_ssize_t i
        cdef object g
        for i in range(len(self.nodes)):
            n = <Node>self.nodes[i]
            if not i & 1023:
                PyErr_CheckSignals()  # rules need not be Python code, which would notice Ctrl-C
            if self.grads[i] is None or not self.wants(n):
                self.grads[i] = None
                self.skip(n)
                continue
            if n.hooks is not None:
                self.grads[i] = run_hooks(n.hooks, self.grads[i])
            if n.retained is not None or (self.targets is not None and n in self.targets):
                self.keep(n, self.grads[i])
                if self.wanted is not None and n not in self.wanted:
                    self.grads[i] = None
                    self.skip(n)
                    continue
            if n.outputs == -1:  # a Slot
                g, self.grads[i] = self.grads[i], None
                if self.wants(n.edges[0]):
                    self.deliver_slot(<Node>n.edges[0], n.output, g)
                continue
            if n.freed:
                raise RuntimeError(FREED)
            if anomaly:
                self.apply_watched(n, i)
            else:
                self.apply(n, i)
        return 0

    cdef int apply_watched(self, Node n, Py_ssize_t place) except -1:
        """``apply``; an error is preceded by a warning that shows where the operation was recorded."""
        try:
            self.apply(n, place)
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
        for edge in n.edges:
            if edge is not None and not isinstance(edge, Node):
                self.deliver(edge, None)
        return 0

    cdef int deliver_slot(self, Node parent, int output, object g) except -1:
        cdef int i = self.place(parent)
        cdef list parts = <list>self.grads[i]
        if parts is None:
            parts = self.grads[i] = [None] * parent.outputs
        add_to(parts, output, g, self.recorded)
        return 0

    cdef int apply(self, Node n, Py_ssize_t place) except -1:
        """Run the rules of ``n`` and deliver what they return; release what it saved."""
        cdef tuple edges = n.edges, saved = n.saved
        cdef Py_ssize_t i, count = len(saved), last = len(edges) - 1
        cdef PyObject *arguments[24]
        cdef list values = None
        cdef object edge, rule, r, result, g = self.grads[place]
        self.grads[place] = None
        if n.op.backward is not None:
            result = n.op.backward(n, g)
            g = None
            saved = None
            if not self.retain:
                release(n)
            values = list(result) if isinstance(result, (tuple, list)) else [result]
            result = None
            if len(values) <= last:
                raise RuntimeError(f"function {n.op.name}Backward0 returned an incorrect number of gradients (expected "
                                   f"{last + 1}, got {len(values)})")
            for i in range(last + 1):
                edge = edges[i]
                if edge is not None:
                    r, values[i] = values[i], None  # r may be the only reference now
                    if anomaly:
                        refuse_nan(n, i, r)
                    self.deliver(edge, r if self.wants(edge) else None)
                    r = None
            return 0
        while last >= 0 and edges[last] is None:
            last -= 1
        if count:
            if count > 22:
                raise ValueError(f"{n.op.name}: too many saved values")
            values = [unpack(n, item, grad_enabled()) for item in saved]
            for i in range(count):
                arguments[i + 1] = <PyObject *>values[i]
            saved = None
            if not self.retain:
                release(n)
        for i in range(last + 1):
            edge = edges[i]
            if edge is None:
                continue
            if not self.wants(edge):
                if not isinstance(edge, Node):
                    self.deliver(edge, None)
                continue
            arguments[0] = <PyObject *>g
            rule = (<tuple>n.op.rules)[i]
            if type(rule) is Op:  # an elementwise op is its own native rule: op(dy) or op(dy, saved)
                r = apply_binary(<Op>rule, <Tensor>g, <Tensor>values[0]) if count else apply_unary(<Op>rule, <Tensor>g)
            elif type(rule) is int:  # dy, or dy times a saved tensor
                r = g if <Py_ssize_t>rule < 0 else apply_binary(MUL, <Tensor>g, <Tensor>values[<Py_ssize_t>rule])
            else:
                r = mg_vectorcall(rule, arguments, count + 1)
            if n.shapes is not None and n.shapes[i] is not None and r is not None:
                r = hook_sum_to(r, n.shapes[i])
            if anomaly:
                refuse_nan(n, i, r)
            if i == last:
                g = values = None  # the last rule has run: r may be the only reference now
            self.deliver(edge, r)
            r = None
        return 0


cdef int release(Node n) except -1:
    """Let go of the saved tensors; a node without any can run again."""
    for item in n.saved:
        if isinstance(item, Tensor):
            n.saved = ()
            n.freed = True
            break
    return 0


cdef int add_to(list grads, Py_ssize_t i, object g, bint recorded) except -1:
    """grads[i] += g, in place only when nobody else can see the sum so far."""
    cdef Tensor old
    if not isinstance(g, Tensor):
        raise TypeError(f"a backward rule must return tensors or None, got {type(g).__name__}")
    if grads[i] is None:
        grads[i] = g
        return 0
    old = <Tensor>grads[i]
    # references: the list, `old`; the storage: `old`
    if not recorded and Py_REFCNT(<PyObject *>old) == 2 and exclusive(old) and same_shape(old, <Tensor>g) and (
            old.dt == (<Tensor>g).dt):
        add_inplace(old, to_contiguous(<Tensor>g), False)
    else:
        grads[i] = apply_binary(ADD, old, <Tensor>g)
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
    cdef kernel_t f = ADD.flat.find(y.dt, y.dt)
    bufs[0], bufs[1], bufs[2] = y.ptr, y.ptr, x.ptr
    dims[0] = 3
    if shared:
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
    for entry in list(hooks):
        result = entry[1](g)
        if result is not None:
            if not isinstance(result, Tensor):
                raise TypeError(f"a gradient hook must return a Tensor or None, got {type(result).__name__}")
            if not same_shape(<Tensor>result, <Tensor>g):
                raise RuntimeError(
                    f"hook '{getattr(entry[1], '__name__', entry[1])}' has changed the size of value: "
                    f"{shape_tuple(<Tensor>result)} instead of {shape_tuple(<Tensor>g)}"
                )
            if (<Tensor>result).dt != (<Tensor>g).dt:
                raise RuntimeError(
                    f"hook '{getattr(entry[1], '__name__', entry[1])}' has changed the type of value (was "
                    f"{DTYPES[(<Tensor>g).dt]!r} got {DTYPES[(<Tensor>result).dt]!r})"
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
    if g.dt != leaf.dt:
        return accumulate(leaf, cast(g, leaf.dt), recorded)
    # arguments are borrowed: the one reference is the caller's
    if leaf.gradient is None and not recorded and Py_REFCNT(<PyObject *>g) == 1 and exclusive(g):
        g.link = None
        leaf.gradient = g if g.base is None else alias(g)
    else:
        new = to_contiguous(g)
        ADD.flat.find(g.dt, g.dt)  # compiled by now
        while True:
            old = <Tensor>leaf.gradient
            if old is not None and not same_shape(old, g):
                raise RuntimeError(f"a gradient of shape {shape_tuple(g)} reached a tensor whose .grad has shape "
                                   f"{shape_tuple(old)}")
            if old is not None and not recorded and old.contiguous and not old.requires and old.dt == g.dt and (
                    not old.storage.readonly) and old.storage is not new.storage:
                add_inplace(old, new, True)
                break
            total = clone(g) if old is None else apply_binary(ADD, old, g)
            if leaf.gradient is old:  # else another thread came first: add to what it left
                leaf.gradient = total
                break
    if leaf.after_hooks is not None:
        if leaf.after_hooks and recorder is not None and recording():
            recorder.refuse("calls a hook of a tensor")
        for entry in list(leaf.after_hooks):
            entry[1](leaf)
    return 0


cdef Tensor initial_gradient(Tensor y, object gradient, Py_ssize_t i):
    cdef Tensor g
    if gradient is None:
        if y.count != 1:
            raise RuntimeError(
                f"grad can be implicitly created only for scalar outputs, got output {i} of shape {shape_tuple(y)}; "
                f"pass gradient= or reduce it with sum() or mean()"
            )
        return full(y.dt, y.nd, y.shape_, 1)
    if not isinstance(gradient, Tensor):
        raise TypeError(f"gradients can be either Tensors or None, but got {type(gradient).__name__}")
    g = <Tensor>gradient
    if not same_shape(g, y):
        raise RuntimeError(
            f"Mismatch in shape: grad_output[{i}] has a shape of {shape_tuple(g)} and output[{i}] has a shape of "
            f"{shape_tuple(y)}."
        )
    return cast(g, y.dt)


def run_backward(tuple outputs, tuple gradients, bint retain_graph, bint create_graph, tuple inputs=None,
                 bint capture=False, bint allow_unused=False):
    """Differentiate ``outputs``; into ``.grad`` of leaves, or (``capture``) return the gradients of ``inputs``."""
    global walks
    cdef Walk walk = <Walk>Walk.__new__(Walk)
    cdef list roots = [], first = [], keys = None
    cdef Tensor y
    cdef Py_ssize_t i, count = len(outputs)
    cdef bint before = not grad_enabled()
    if len(gradients) != count:
        raise RuntimeError(f"got {count} tensors and {len(gradients)} gradients")
    walks += 1
    walk.id, walk.retain, walk.recorded = walks, retain_graph, create_graph
    for i in range(count):
        y = <Tensor?>outputs[i]
        if not needs_grad(y):
            raise RuntimeError(f"element {i} of tensors does not require grad and does not have a grad_fn")
        roots.append(edge_of(y))
        first.append(initial_gradient(y, gradients[i], i))
    if inputs is not None:
        keys = keys_of(inputs, capture)
        walk.targets = set(keys)
        if capture:
            walk.captured = {}
    walk.collect(roots)
    if inputs is not None:
        walk.prune()
    set_grad_off(not create_graph)
    try:
        for i in range(count):
            g, first[i] = first[i], None
            walk.deliver(roots[i], g)
            g = None
        walk.run()
        return collect_captured(walk, keys, gradients, allow_unused) if capture else None
    finally:
        set_grad_off(before)


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
    t = to_contiguous(<Tensor>g)
    for i in range(t.count):
        if t.dt == F32:
            found = found or (<float *>t.ptr)[i] != (<float *>t.ptr)[i]
        else:
            found = found or (<double *>t.ptr)[i] != (<double *>t.ptr)[i]
    if found:
        raise RuntimeError(f"Function '{n.op.name}Backward0' returned nan values in its {output}th output.")
    return 0


install(backward=run_backward)
