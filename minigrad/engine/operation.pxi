"""Operations: what they compute and how they differentiate; promotion of dtypes."""

cdef enum:
    FLOATS = 1      # integers are promoted to the default floating dtype
    TO_BOOL = 2     # the result is bool
    INTS = 4        # integers and bools only
    NO_BOOL = 8     # refuses bool
    NOTED = 16      # the storage of the result remembers the operation, see ``made_by``
    BOOL_TO_INT = 32  # bools are promoted to int64, as an integer exponent does
    DIVIDES = 64    # integers refuse a zero among the second operand

cdef int default_float = F32
cdef Op CAST_OP, SLOT, IDENTITY, SUB, MUL, DIV, POW, NEG, ABS, EQ, NE, LT, LE, GT, GE, AND, OR, XOR, INVERT
cdef Op REMAINDER, FLOOR_DIVIDE


def set_default_dtype(d):
    """The dtype of floating-point literals and of creation functions; float32 or float64."""
    global default_float
    code = dtype_code(d)
    if CATEGORY[code] != 2:
        raise TypeError(f"only floating-point dtypes can be the default, got {d!r}")
    default_float = code


def get_default_dtype():
    """The dtype of floating-point literals and of creation functions."""
    return DTYPES[default_float]


cdef class Op:
    """A differentiable operation: its name, its rules (one per input: ``rule(dy, *saved)``), perhaps its kernel.

    With ``kernel`` it is elementwise and can be called on tensors and numbers; ``saves`` says, per rule, which of
    ``a``, ``b`` (inputs) and ``y`` (output) it needs; each rule receives all that any of them needs, in that order,
    None where nobody does. Without, a function in ``ops/`` computes and then calls ``record``.
    A rule may be an elementwise Op itself: it is applied to (dy,) or (dy, saved) natively; or "dy", which is
    handed on as it is; or one of those letters: dy times that tensor.
    ``backward(node, dy)``, if given instead of rules, returns the gradients of all inputs at once.
    ``arity`` is the number of operands, by default that of the rules; ``doc`` is what ``help`` shows.
    An Op in a class is a method of it.
    """

    def __init__(self, str name, *rules, str kernel=None, str int_kernel=None, saves=(), int flags=0, double cost=0.15,
                 backward=None, int arity=0, str doc=None):
        self.name, self.backward, self.kind = name, backward, flags
        self.arity, self.doc = arity if arity else max(len(rules), 1), doc
        if kernel is not None:
            self.flat = Kernel("elementwise." + kernel, cost)
            self.int_flat = self.flat if int_kernel is None else Kernel("elementwise." + int_kernel, cost)
        bits = {"a": 1, "b": 2, "y": 4}
        letters = [c for c in bits if c in "".join(saves)]
        native = {"dy": -1} | {c: i for i, c in enumerate(letters)}
        self.rules = tuple([native[rule] if isinstance(rule, str) else rule for rule in rules])
        masks = [sum([bits[c] for c in word]) for word in saves] + [0, 0]
        self.saves0, self.saves1 = masks[0], masks[1]

    def __call__(self, input, other=None):
        if self.flat is None or (other is None) != (self.arity == 1):
            raise TypeError(f"{self.__name__}() takes {self.arity} operand{'s' * (self.arity > 1)}: "
                            f"input{', other' * (self.arity > 1)}; got {type(other).__name__} for other")
        if other is None:
            return apply_unary(self, as_operand(input, "input"))
        return binary(self, input, other)

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)

    @property
    def __name__(self):
        words = [("_" + c.lower() if c.isupper() and i else c) for i, c in enumerate(self.name)]
        return "".join(words).replace("__", "_").lower()

    @property
    def __doc__(self):
        return self.doc

    @property
    def __signature__(self):
        from inspect import Parameter, Signature

        return Signature([Parameter(n, Parameter.POSITIONAL_OR_KEYWORD) for n in ("input", "other")[:self.arity]])

    def inplace(self, Tensor x not None, other=None):
        """x = op(x, other), written into x's memory, following autograd's rules for in-place operations."""
        return apply_inplace(self, x, other)

    def record(self, Tensor y not None, *inputs, tuple saved=()):
        """Give ``y`` a history if recording is on and an input needs a gradient; y."""
        return record(self, y, inputs, saved)

    def record_outputs(self, tuple outputs, tuple inputs, tuple saved=(), context=None):
        """As ``record`` for several outputs; the rule is ``backward(node, gradients)``. The node or None."""
        return record_outputs(self, outputs, inputs, saved, context)

    def __repr__(self):
        return f"<op {self.name}>"


cdef Tensor as_operand(object value, str name):
    if isinstance(value, Tensor):
        return <Tensor>value
    if isinstance(value, bool):
        return scalar_tensor(value, BOOL, None)
    if isinstance(value, int):
        return scalar_tensor(value, I64, None)
    if isinstance(value, float):
        return scalar_tensor(value, default_float, None)
    return plugs.as_tensor(value)


cdef bint is_number(object value):
    return type(value) is float or type(value) is int or isinstance(value, (float, int))


cdef int number_dtype(object value, int other) except -1:
    """The dtype of a tensor of dtype ``other`` combined with a Python number."""
    if isinstance(value, bool):
        return other
    if isinstance(value, int):
        return other if CATEGORY[other] >= 1 else I64
    return other if CATEGORY[other] == 2 else default_float


cdef int result_dtype(Tensor a, Tensor b) noexcept:
    cdef int high, low
    if a.dt == b.dt:
        return a.dt
    if (a.nd == 0) == (b.nd == 0):
        return promote(a.dt, b.dt)
    high, low = (b.dt, a.dt) if a.nd == 0 else (a.dt, b.dt)
    return high if CATEGORY[high] >= CATEGORY[low] else low


cdef inline int compute_dtype(Op op, int dt) except -1:
    """The dtype that the kernel of ``op`` runs in, for operands of dtype ``dt``."""
    if op.kind & FLOATS and CATEGORY[dt] != 2:
        return default_float
    if op.kind & INTS and CATEGORY[dt] == 2:
        raise RuntimeError(f"{op.name.lower()} is defined for integer and bool tensors, not {DTYPES[dt]!r}")
    if op.kind & BOOL_TO_INT and dt == BOOL:
        return I64
    if op.kind & NO_BOOL and dt == BOOL:
        raise (NotImplementedError if op is POW else RuntimeError)(
            f"{op.name.lower()} is not defined for bool tensors; use logical_not, ^ or convert them")
    return dt


cdef object binary(Op op, object a, object b):
    """op(a, b) where one of them is a tensor and the other may be a number or an array."""
    cdef int dt
    if isinstance(a, Tensor):
        if isinstance(b, Tensor):
            return apply_binary(op, <Tensor>a, <Tensor>b)
        if is_number(b):
            dt = compute_dtype(op, number_dtype(b, (<Tensor>a).dt))
            return apply_binary(op, cast(<Tensor>a, dt), second(op, b, dt, <Tensor>a))
        return apply_binary(op, <Tensor>a, plugs.as_tensor(b))
    if isinstance(b, Tensor):
        if is_number(a):
            dt = compute_dtype(op, number_dtype(a, (<Tensor>b).dt))
            return apply_binary(op, number_beside(a, dt, <Tensor>b), cast(<Tensor>b, dt))
        return apply_binary(op, plugs.as_tensor(a), <Tensor>b)
    return apply_binary(op, as_operand(a, "input"), as_operand(b, "other"))


cdef inline void note(Op op, Tensor y) noexcept:
    y.storage.made_by, y.storage.made_at = <void *>op, y.storage.version


cdef bint made_by(Tensor x, Op op) noexcept:
    """Whether x, or what it is a view of, is what the NOTED ``op`` returned, recorded or not, and not written since."""
    return (x.storage.made_by == <void *>op and x.storage.made_at == x.storage.version) or (
        x.node is not None and x.node.op is op)


cdef Tensor apply_unary(Op op, Tensor x):
    cdef int dt = compute_dtype(op, x.dt)
    cdef int to = BOOL if op.kind & TO_BOOL else dt
    cdef void *bufs[5]
    cdef Py_ssize_t[1] dims
    cdef PyObject *operands[2]
    if dt != x.dt:
        x = cast(x, dt)
    cdef Kernel k = op.flat if CATEGORY[dt] == 2 else op.int_flat
    cdef Tensor y = new_like(x, to)
    bufs[0], bufs[1] = y.ptr, x.ptr
    if x.contiguous:
        dims[0] = 0
        launch(entry_of(k, dt, to, y.storage.device), bufs, dims, NULL, y.count, y.count * k.cost)
    else:
        operands[0], operands[1] = <PyObject *>y, <PyObject *>x
        run_strided(k, dt, to, 2, operands, bufs, y)
    if op.kind & NOTED:
        note(op, y)
    if mg_grad_off == 0 and op.rules and needs_grad(x):
        keep(push(op, y, edge_of(x)), op.saves0, op.saves0, x, None, y)
    return y


cdef Tensor apply_binary(Op op, Tensor a, Tensor b):
    cdef int dt = a.dt
    cdef Tensor y, p, q
    cdef void *bufs[6]
    cdef Py_ssize_t[1] dims
    cdef Py_ssize_t[8] shape
    cdef PyObject *operands[3]
    cdef Kernel k
    cdef int to, ndim, mode = -1
    cdef bint ga, gb
    cdef Node node
    if a.storage.device != b.storage.device:
        if b.nd == 0 and b.storage.device < 0:
            b = beside(b, a.storage)
        else:
            joins(a, b.storage)
            a = beside(a, b.storage)
    if a.dt != b.dt or op.kind != 0:
        dt = compute_dtype(op, result_dtype(a, b))
        if a.dt != dt:
            a = cast(a, dt)
        if b.dt != dt:
            b = cast(b, dt)
    to = BOOL if op.kind & TO_BOOL else dt
    if a.contiguous and b.contiguous:
        if same_shape(a, b):
            mode = 0
        elif b.count == 1 and b.nd <= a.nd:
            mode = 2
        elif a.count == 1 and a.nd <= b.nd:
            mode = 1
    if mode < 0:
        ndim = broadcast(a, b, shape)
    if op.kind & DIVIDES and CATEGORY[dt] != 2 and a.count:
        check_divisor(b)
    k = op.flat if CATEGORY[dt] == 2 else op.int_flat
    if mode >= 0:
        y = new_like(b if mode == 1 else a, to)
        bufs[0], bufs[1], bufs[2], dims[0] = y.ptr, a.ptr, b.ptr, mode
        launch(entry_of(k, dt, to, y.storage.device), bufs, dims, NULL, y.count, y.count * k.cost)
    else:
        y = new_on(to, ndim, shape, a.storage.device)
        p, q = in_order(a, y), in_order(b, y)
        operands[0], operands[1], operands[2] = <PyObject *>y, <PyObject *>p, <PyObject *>q
        bufs[0], bufs[1], bufs[2] = y.ptr, p.ptr, q.ptr
        run_strided(k, dt, to, 3, operands, bufs, y)
    if mg_grad_off == 0 and op.rules:
        ga, gb = needs_grad(a), needs_grad(b)
        if ga or gb:
            node = push(op, y, edge_of(a) if ga else None)
            node.inputs = 2
            if gb:
                node.edge1 = edge_of(b)
            keep(node, op.saves0 | op.saves1, (op.saves0 if ga else 0) | (op.saves1 if gb else 0), a, b, y)
            if mode != 0:
                node.shapes = (None if same_shape(a, y) else shape_tuple(a), None if same_shape(b, y) else shape_tuple(b))
    return y


cdef int check_divisor(Tensor b) except -1:
    """Integer kernels never raise: refuse zero divisors first."""
    if b.count and plugs.any_zero(b):
        raise RuntimeError("ZeroDivisionError: integer division or remainder by zero")
    return 0


cdef Tensor second(Op op, object value, int dt, Tensor x):
    """A number as the second operand of x. An exponent of integers must fit and not be negative; in a tensor it may be,
    and gives 0, 1 or -1, as in PyTorch."""
    cdef Tensor y = number_beside(value, dt, x)
    if op is not POW or CATEGORY[dt] == 2:
        return y
    if value < 0:
        raise RuntimeError("Integers to negative integer powers are not allowed.")
    return scalar_tensor(value, dt, x.storage)


def _dcast(dy, code):
    return cast(dy, code)


CAST_OP = Op("ToCopy", _dcast)


cdef Tensor cast(Tensor x, int dt):
    """x converted to dtype ``dt`` (x itself if it has it), recorded."""
    if x.dt == dt:
        return x
    cdef Tensor y = new_like(x, dt)
    cdef Node node
    copy_memory(y, x)
    if mg_grad_off == 0 and CATEGORY[dt] == 2 and needs_grad(x):
        node = push(CAST_OP, y, edge_of(x))
        node.kept, node.kept0 = 1, x.dt
    return y


def _cast(Tensor x not None, dtype):
    """x converted to ``dtype`` (x itself if it has it), recorded."""
    return cast(x, dtype_code(dtype))


def operand(value, dtype=None, Tensor like=None):
    """``value`` (tensor, number, array, list) as a tensor, converted to ``dtype`` if given (recorded); a number on the
    device of ``like``."""
    cdef Tensor t
    if dtype is not None and is_number(value) and CATEGORY[dtype_code(dtype)] == 2:
        return scalar_tensor(value, dtype_code(dtype), None if like is None else like.storage)  # not by way of float32
    t = as_operand(value, "input")
    if like is not None and t.nd == 0 and t.storage.device < 0:
        t = beside(t, like.storage)
    return t if dtype is None else cast(t, dtype_code(dtype))


def result_type(a, b):
    """The dtype of an operation on ``a`` and ``b`` (tensors or Python numbers), by PyTorch's promotion."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return DTYPES[result_dtype(<Tensor>a, <Tensor>b)]
    if isinstance(a, Tensor):
        return DTYPES[number_dtype(b, (<Tensor>a).dt) if is_number(b) else result_dtype(<Tensor>a, operand(b))]
    if isinstance(b, Tensor):
        return result_type(b, a)
    return DTYPES[result_dtype(operand(a), operand(b))]


def common_dtype(*tensors):
    """The dtype of an operation on all of them: 0-d ones count only if they are of a higher category."""
    cdef int[2] found = [-1, -1]
    cdef Tensor x
    for x in tensors:
        found[x.nd == 0] = x.dt if found[x.nd == 0] < 0 else promote(found[x.nd == 0], x.dt)
    cdef bint single = found[0] < 0 or (found[1] >= 0 and CATEGORY[found[1]] > CATEGORY[found[0]])
    return DTYPES[found[single]]


cdef Kernel WHERE = Kernel("elementwise.where_strided", 0.5)


def select(Tensor c not None, Tensor a not None, Tensor b not None):
    """``a where c else b`` for a bool tensor c and a, b of one dtype, broadcast together; not recorded."""
    cdef Py_ssize_t[8] shape
    cdef Py_ssize_t[64] dims
    cdef void *bufs[4]
    cdef PyObject *operands[4]
    cdef int n = broadcast(a, b, shape)
    cdef Tensor y
    if a.storage.device != b.storage.device or a.storage.device != c.storage.device:
        c, a, b = together(c, a, b)
    y = new_tensor(a.dt, n, shape, a.storage)
    if n != c.nd or not same_shape(y, c):
        n = broadcast(y, c, shape)
        y = new_tensor(a.dt, n, shape, a.storage)
    if y.count == 0:
        return y
    operands[0], operands[1], operands[2], operands[3] = <PyObject *>y, <PyObject *>c, <PyObject *>a, <PyObject *>b
    bufs[0], bufs[1], bufs[2], bufs[3] = y.ptr, c.ptr, a.ptr, b.ptr
    cdef Py_ssize_t units = plan(4, operands, n, shape, dims)
    launch(entry_of(WHERE, y.dt, y.dt, y.storage.device), bufs, dims, NULL, units, y.count * WHERE.cost)
    return y
