"""In-place operations, and views of what they write."""


cdef int check_expanded(Tensor x) except -1:
    """Refuse to write where one number stands for many elements."""
    cdef int i
    for i in range(x.nd):
        if x.stride_[i] == 0 and x.shape_[i] > 1 and x.count:
            raise RuntimeError(
                "unsupported operation: more than one element of the written-to tensor refers to a single memory "
                "location. Please clone() the tensor before performing the operation."
            )


cdef int check_inplace(Tensor x) except -1:
    """Refuse what must not be written: read-only memory, expanded views, leaves that record."""
    check_writable(x)
    if x.base is not None and x.base.storage is not x.storage:
        x.base = None  # ``.data = ...`` gave the base other memory
    check_expanded(x)
    if mg_grad_off == 0:
        needs_grad(x)
        if x.requires and x.node is None:
            raise RuntimeError("a leaf Variable that requires grad is being used in an in-place operation.")
        if x.base is not None and x.base.requires:
            if x.base.node is None:
                raise RuntimeError("a view of a leaf Variable that requires grad is being used in an in-place "
                                   "operation.")
            if not x.requires:
                raise RuntimeError(
                    "A view was created in no_grad mode and is being modified inplace with grad mode enabled. This is "
                    "ambiguous and forbidden: move both the view and the inplace operation inside the no_grad block "
                    "(not tracked) or both outside (tracked)."
                )
    return 0


cdef bint overlaps(Tensor x, Tensor y):
    """Whether writing x could change what is read from y at another place."""
    cdef int i
    if x.storage is not y.storage:
        return False
    if x.ptr == y.ptr and same_shape(x, y):
        for i in range(x.nd):
            if x.stride_[i] != y.stride_[i] and x.shape_[i] > 1:
                return True
        return False
    return True


cdef Tensor apply_inplace(Op op, Tensor x, object other):
    cdef Tensor y, b = None
    cdef void *bufs[6]
    cdef Py_ssize_t[1] dims
    cdef PyObject *operands[3]
    cdef Kernel k
    cdef int dt
    if (other is None) != (op.arity == 1) or op.flat is None:
        raise TypeError(f"{op.__name__}_() takes {op.arity - 1} other operand, got {type(other).__name__}")
    check_inplace(x)
    if other is not None:
        if isinstance(other, Tensor):
            b = <Tensor>other
        elif is_number(other):
            b = second(op, other, compute_dtype(op, number_dtype(other, x.dt)), x)
        else:
            b = plugs.as_tensor(other)
        if b.storage.device != x.storage.device:
            joins(b, x.storage)
            b = beside(b, x.storage)
    dt = compute_dtype(op, x.dt if b is None else result_dtype(x, b))
    if dt != x.dt and CATEGORY[dt] > CATEGORY[x.dt] and not op.kind & TO_BOOL:
        raise RuntimeError(f"result type {DTYPES[dt]!r} can't be cast to the desired output type {DTYPES[x.dt]!r}")
    if mg_grad_off == 0 and (needs_grad(x) or (b is not None and needs_grad(b))):
        return write_back(x, apply_unary(op, clone(x)) if b is None else apply_binary(op, clone(x), b))
    if dt != x.dt or op.kind & TO_BOOL or (b is not None and overlaps(x, b)):
        return write_back(x, apply_unary(op, x) if b is None else apply_binary(op, x, b))
    k = op.flat if CATEGORY[dt] == 2 else op.int_flat
    bufs[0] = bufs[1] = x.ptr
    operands[0] = operands[1] = <PyObject *>x
    if b is None:
        if not x.contiguous:
            run_strided(k, dt, dt, 2, operands, bufs, x)
            x.storage.version += 1
            return x
        dims[0] = 3
        launch(entry_of(k, dt, dt, x.storage.device), bufs, dims, NULL, x.count, x.count * k.cost)
        x.storage.version += 1
        if op.kind & NOTED and x.base is None:
            note(op, x)
        return x
    if b.dt != dt:
        b = cast(b, dt)
    if op.kind & DIVIDES and CATEGORY[dt] != 2 and x.count:
        check_divisor(b)
    if x.contiguous and b.contiguous and (same_shape(x, b) or (b.count == 1 and b.nd <= x.nd)):
        dims[0], bufs[2] = 3 if same_shape(x, b) else 4, b.ptr
        launch(entry_of(k, dt, dt, x.storage.device), bufs, dims, NULL, x.count, x.count * k.cost)
    else:
        check_fits(x, b)
        b = in_order(b, x)
        operands[2], bufs[2] = <PyObject *>b, b.ptr
        run_strided(k, dt, dt, 3, operands, bufs, x)
    x.storage.version += 1
    return x


cdef int check_fits(Tensor x, Tensor y) except -1:
    """y must broadcast to the very shape of x."""
    cdef Py_ssize_t[8] shape
    cdef int i, n = broadcast(x, y, shape)
    cdef bint fits = n == x.nd
    for i in range(n):
        fits = fits and shape[i] == x.shape_[i]
    if not fits:
        raise RuntimeError(
            f"output with shape {list(shape_tuple(x))} doesn't match the broadcast shape "
            f"{[shape[i] for i in range(n)]}"
        )
    return 0


cdef Tensor write_back(Tensor x, Tensor y):
    """x[...] = y, and x takes over y's history: the end of every in-place operation."""
    cdef bint recording = mg_grad_off == 0 and CATEGORY[x.dt] == 2 and (needs_grad(x) or needs_grad(y))
    check_inplace(x)
    check_fits(x, y)
    if overlaps(x, y):
        y = clone(y)
    if recording:
        y = cast(y, x.dt)
        if not same_shape(x, y):
            y = plugs.expand(y, shape_tuple(x))
    copy_memory(x, y)
    x.storage.version += 1
    if recording:
        if x.base is None and y.requires:
            if y.node is None:
                y = clone(y)
            adopt(x, y.node, True)
            x.history += 1
            x.hooks = None
        else:  # also when a constant is written over history: the gradient of what was there is zero
            plugs.slice_write(x if x.base is None else x.base, y, x)
    return x


cdef int adopt(Tensor x, Node node, bint requires) except -1:
    """x is the output of ``node`` now; the wish to retain its gradient moves along."""
    if x.node is not None and x.node.retained is not None:
        if node is not None:
            node.retained = x.node.retained
        x.node.retained = None
    x.node, x.requires = node, requires
    return 0


def rewrite_base(Tensor base not None, Tensor result not None):
    """Give ``base`` the history of ``result`` (same values, not copied); views of it follow on next use."""
    adopt(base, result.node, result.requires)
    base.history += 1


def region_of(Tensor view not None, Tensor base not None):
    """(shape, strides, offset, base shape, base strides or None if contiguous) of a view within its base's memory."""
    return (shape_tuple(view), view.stride(), (view.ptr - base.ptr) // ITEMSIZE[base.dt], shape_tuple(base),
            None if base.contiguous else base.stride())


cdef int refresh_view(Tensor x) except -1:
    """The base of view x was modified in place and recorded: x's history is now a view of the new base."""
    cdef Tensor base = x.base, y
    if base.storage is not x.storage:  # one of them was given other memory by ``.data = ...``: no view any more
        x.base = None
        return 0
    x.history = base.history
    if not base.requires:
        return adopt(x, None, False)
    y = alias(x)
    node = push(<Op>plugs.as_strided_op, y, edge_of(base))
    for value in region_of(x, base):
        keep_next(node, value)
    return adopt(x, node, True)


def view(Tensor x not None, shape, strides, Py_ssize_t offset=0):
    """A view of ``x`` by shape, strides and an offset in elements; the caller checks bounds and records it."""
    cdef Py_ssize_t[8] sizes
    cdef Py_ssize_t[8] steps
    cdef int n = parse_shape(shape, sizes), i
    for i in range(n):
        steps[i] = strides[i]
    return strided_view(x, n, sizes, steps, offset)


def copy_(Tensor x not None, Tensor y not None):
    """x[...] = y with broadcasting and conversion, following autograd's rules; x."""
    cdef Tensor u
    if mg_grad_off == 0 and needs_grad(y):
        if x.storage.device != y.storage.device:
            y = beside(y, x.storage)
        elif x.storage is y.storage:
            y = clone(y)
        else:  # a node of its own: gradients that reach x and those that reach y are different things
            u = alias(y)
            push(IDENTITY, u, edge_of(y))
            y = u
    return write_back(x, y)


def write_memory(Tensor x not None, Tensor y not None):
    """x[...] = y without history or checks beyond shape; for outputs under construction."""
    check_fits(x, y)
    copy_memory(x, y)
    return x


def bump(Tensor x not None):
    """Count one in-place write of ``x``'s memory."""
    x.storage.version += 1
