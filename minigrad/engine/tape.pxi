"""The tape: nodes, what they save, and what is recorded."""

cdef extern from *:
    """
    #ifdef _MSC_VER
    static __declspec(thread) int mg_grad_off = 0;
    #else
    static __thread int mg_grad_off = 0;
    #endif
    """
    int mg_grad_off    # of this thread; 0: operations are recorded

cdef int64_t sequence = 0
cdef object OWN = object()  # the link of a saved output: the node that saved it


@cython.final
@cython.freelist(128)
@cython.trashcan(True)
cdef class Node:
    """One recorded operation (``Tensor.grad_fn``)."""

    @property
    def name(self):
        return self.op.name + "Backward0"

    @property
    def next_functions(self):
        """Where gradients go: a tuple of (node or leaf tensor or None, output number)."""
        return tuple([((<Node>e).edge0, (<Node>e).output) if isinstance(e, Node) and (<Node>e).outputs < 0 else (e, 0)
                      for e in edges_of(self)])

    @property
    def needs_input_grad(self):
        return tuple([e is not None for e in edges_of(self)])

    @property
    def saved_tensors(self):
        """The tensors that the operation saved, with their history; version-checked, RuntimeError after it was freed."""
        if self.freed:
            raise RuntimeError(FREED)
        return saved_of(self, True)

    def saved_values(self):
        """What the operation saved, for its rule; version-checked, RuntimeError after it was freed."""
        if self.freed:
            raise RuntimeError(FREED)
        return saved_of(self, mg_grad_off == 0)

    @property
    def ctx(self):
        return self.context

    def __repr__(self):
        return f"<{self.op.name}Backward0>"


FREED = (
    "Trying to backward through the graph a second time (or directly access saved tensors after they have already "
    "been freed). Specify retain_graph=True if you need to backward through the graph a second time."
)


cdef bint grad_enabled() noexcept:
    return mg_grad_off == 0


cdef bint needs_grad(Tensor x) except -1:
    """Whether x takes part in differentiation; a view whose base was rewritten is brought up to date first."""
    if x.base is not None and x.history != x.base.history:
        refresh_view(x)
    return x.requires


cdef object edge_of(Tensor x):
    return x.node if x.node is not None else x


cdef Tensor save(Tensor x):
    """An alias of an input for a node to keep."""
    cdef Tensor t = alias(x)
    t.saved_version = x.storage.version
    if needs_grad(x):
        t.link = edge_of(x)
    return t


cdef Tensor save_output(Tensor y):
    """An alias of an output for its own node to keep."""
    cdef Tensor t = alias(y)
    t.saved_version, t.link = y.storage.version, OWN
    return t


cdef int keep(Node n, int all, int mask, Tensor a, Tensor b, Tensor y) except -1:
    """Save what the rules of an elementwise op get: ``all`` of a, b and y that any rule needs, None but for ``mask``."""
    if all & 1:
        keep_next(n, save(a) if mask & 1 else None)
    if all & 2:
        keep_next(n, save(b) if mask & 2 else None)
    if all & 4:
        keep_next(n, save_output(y))
    return 0


cdef inline int keep_next(Node n, object value) except -1:
    if n.kept == 0:
        n.kept0 = value
    elif n.kept == 1:
        n.kept1 = value
    else:
        n.more_kept = (value,) if n.more_kept is None else n.more_kept + (value,)
    n.kept += 1
    return 0


cdef tuple saved_of(Node n, bint linked):
    """What ``n`` saved, for its rule."""
    cdef Py_ssize_t i
    return tuple([unpack(n, <object>kept_at(n, i), linked) for i in range(n.kept)])


cdef tuple edges_of(Node n):
    cdef Py_ssize_t i
    return tuple([<object>edge_at(n, i) for i in range(n.inputs)])


cdef int number(Node n) except -1:
    """Give a new node its place in the order; after all nodes that it refers to."""
    global sequence
    n.seq = sequence
    sequence += 1
    if anomaly:
        note_origin(n)
    return 0


cdef Node push(Op op, Tensor y, object edge0):
    """Make ``y`` the output of a new node of one input."""
    cdef Node n = <Node>Node.__new__(Node)
    n.op, n.outputs, n.inputs, n.edge0 = op, 1, 1, edge0
    number(n)
    y.node, y.requires = n, True
    return n


cdef Node node_of(Op op, tuple inputs, tuple saved, tuple outputs):
    """A new node of ``inputs``, which may be anything; None where none of them needs a gradient."""
    cdef Node n = None
    cdef Tensor t
    cdef Py_ssize_t i, k, count = len(inputs)
    cdef object item
    for i in range(count):
        item = <object>item_of(inputs, i)
        if item is not None:
            item = edge_of(<Tensor>item) if isinstance(item, Tensor) and needs_grad(<Tensor>item) else None
        if n is None:
            if item is None:
                continue
            n = <Node>Node.__new__(Node)
            n.op, n.outputs, n.inputs = op, 1, <int>count
            if count > 2:
                n.more_edges = PyTuple_New(count - 2)
                for k in range(i - 2):
                    set_item(n.more_edges, k, None)
        if i == 0:
            n.edge0 = item
        elif i == 1:
            n.edge1 = item
        else:
            set_item(n.more_edges, i - 2, item)
    if n is None:
        return None
    if len(saved) > 2:
        n.more_kept = PyTuple_New(len(saved) - 2)
    n.kept = <int>len(saved)
    for k in range(n.kept):
        item = <object>item_of(saved, k)
        if item is not None and isinstance(item, Tensor):
            for i in range(len(outputs)):
                if item is <object>item_of(outputs, i):
                    t = save_output(<Tensor>item)
                    t.slot = <int>i
                    break
            else:
                t = save(<Tensor>item)
            item = t
        if k == 0:
            n.kept0 = item
        elif k == 1:
            n.kept1 = item
        else:
            set_item(n.more_kept, k - 2, item)
    number(n)  # now: a view among the inputs may have got a new node just before
    return n


cdef Tensor record(Op op, Tensor y, tuple inputs, tuple saved):
    cdef Node node
    if op.kind & NOTED:
        note(op, y)
    if mg_grad_off or CATEGORY[y.dt] != 2:
        return y
    node = node_of(op, inputs, saved, (y,))
    if node is not None:
        if len(inputs) > len(op.rules) and op.backward is None:
            raise RuntimeError(f"{op.name} has {len(op.rules)} rules but {len(inputs)} inputs")
        y.node, y.requires = node, True
    return y


SLOT = Op("Slot")


cdef object record_outputs(Op op, tuple outputs, tuple inputs, tuple saved, object context):
    """One node for several outputs; a Slot node per output collects its gradient."""
    cdef Node parent
    cdef Tensor y
    cdef int i
    if mg_grad_off:
        return None
    parent = node_of(op, inputs, saved, outputs)
    if parent is None:
        return None
    parent.context, parent.outputs = context, len(outputs) if len(outputs) > 1 else 1
    for i in range(len(outputs)):
        if not isinstance(outputs[i], Tensor):
            continue  # None: an output that is not differentiable
        y = <Tensor>outputs[i]
        if CATEGORY[y.dt] != 2:
            continue
        if parent.outputs == 1:
            y.node = parent
        else:
            y.node = slot_of(parent, i)
        y.requires = True
    return parent


cdef Node slot_of(Node parent, int output):
    """A node that stands for one of several outputs of ``parent``."""
    global sequence
    cdef Node n = <Node>Node.__new__(Node)
    n.op, n.inputs, n.edge0, n.seq, n.outputs, n.output = SLOT, 1, parent, sequence, -1, output
    sequence += 1
    return n


cdef object unpack(Node node, object item, bint linked):
    """A saved value for its rule: version-checked, and ``linked`` to its history when the backward is recorded."""
    cdef Tensor t, u
    if not isinstance(item, Tensor):
        return item
    t = <Tensor>item
    if t.saved_version != t.storage.version:
        raise RuntimeError(
            f"one of the variables needed for gradient computation has been modified by an inplace operation: the "
            f"tensor of shape {shape_tuple(t)} that {node.op.name}Backward0 saved is at version {t.storage.version}; "
            f"expected version {t.saved_version} instead"
        )
    if not linked or t.link is None:
        return t
    u = alias(t)
    u.requires = True
    if t.link is OWN:
        u.node = node if node.outputs == 1 else slot_of(node, t.slot)
    elif isinstance(t.link, Node):
        u.node = <Node>t.link
    elif same_layout(<Tensor>t.link, t):
        return t.link
    else:  # a leaf whose .data was exchanged since: the saved values, the leaf's gradient
        push(IDENTITY, u, t.link)
    return u


IDENTITY = Op("Clone", lambda dy: dy)


cdef bint same_layout(Tensor a, Tensor b) noexcept:
    """Whether a and b show the same elements in the same order."""
    cdef int i
    if a.storage is not b.storage or a.ptr != b.ptr or a.dt != b.dt or not same_shape(a, b):
        return False
    for i in range(a.nd):
        if a.stride_[i] != b.stride_[i] and a.shape_[i] > 1:
            return False
    return True


# Anomaly detection: where each node was recorded, by sequence number, and whether gradients are searched for nan.
anomaly = 0
origins = {}


def set_anomaly(int mode):
    """0: off; 1: remember where each operation was recorded; 2: and refuse nan gradients."""
    global anomaly
    anomaly = mode
    if mode == 0:
        origins.clear()


def get_anomaly():
    """The mode that ``set_anomaly`` set."""
    return anomaly


cdef int note_origin(Node n) except -1:
    import traceback

    origins[n.seq] = "".join(traceback.format_stack())
    return 0


cdef int set_grad_off(int off) noexcept:
    global mg_grad_off
    mg_grad_off = off
    return 0


cdef Tensor detached_clone(Tensor x):
    cdef Tensor y = new_like(x, x.dt)
    copy_memory(y, x)
    return y


cdef Tensor clone(Tensor x):
    """A contiguous copy, recorded."""
    cdef Tensor y = detached_clone(x)
    if mg_grad_off == 0 and needs_grad(x):
        push(IDENTITY, y, edge_of(x))
    return y


cdef int retain_gradient(Tensor t) except -1:
    if t.node is not None and t.node.retained is None:
        t.node.retained = weakref.ref(t)
    return 0


def clear_gradients(parameters):
    """Set ``.grad`` of every tensor to None."""
    for p in parameters:
        (<Tensor?>p).gradient = None
