"""Single numbers: into and out of a tensor's memory, beside a tensor as operands."""


cdef Tensor full(int dt, int ndim, Py_ssize_t *shape, object value, Storage on):
    cdef Tensor t = new_tensor(dt, ndim, shape, on)
    fill(t, value)
    return t


cdef int store(char *p, int dt, object value) except -1:
    """*p = value, refusing integers that do not fit."""
    cdef int64_t i
    if dt == F32:
        (<float *>p)[0] = <float><double>value
    elif dt == F64:
        (<double *>p)[0] = value
    elif dt == BOOL:
        (<uint8_t *>p)[0] = 1 if value else 0
    else:
        try:
            i = int(value)
        except OverflowError:
            raise RuntimeError(f"value {value!r} cannot be converted to {DTYPES[dt]!r} without overflow") from None
        if (dt == I32 and i != <int32_t>i) or (dt == I16 and i != <int16_t>i) or (
            dt == I8 and i != <int8_t>i) or (dt == U8 and not -255 <= i <= 255):  # -1 is 255, as in PyTorch
            raise RuntimeError(f"value {value!r} cannot be converted to {DTYPES[dt]!r} without overflow")
        if dt == I64:
            (<int64_t *>p)[0] = i
        elif dt == I32:
            (<int32_t *>p)[0] = <int32_t>i
        elif dt == I16:
            (<int16_t *>p)[0] = <int16_t>i
        else:
            (<int8_t *>p)[0] = <int8_t>i
    return 0


cdef object load(Tensor x):
    """``value_at`` for users."""
    if recorder is not None and recording():
        recorder.refuse("reads the value of a tensor")
    return value_at(x)


cdef object value_at(Tensor x):
    """The first element as a Python number."""
    cdef int64_t word
    cdef char *p = x.ptr
    cdef int dt = x.dt
    if x.storage.device >= 0:
        p = <char *>&word
        fetch(p, x, ITEMSIZE[dt])
    if dt == F32:
        return <double>(<float *>p)[0]
    if dt == F64:
        return (<double *>p)[0]
    if dt == I64:
        return (<int64_t *>p)[0]
    if dt == I32:
        return (<int32_t *>p)[0]
    if dt == I16:
        return (<int16_t *>p)[0]
    if dt == I8:
        return (<int8_t *>p)[0]
    if dt == U8:
        return (<uint8_t *>p)[0]
    return (<uint8_t *>p)[0] != 0


cdef int fill(Tensor t, object value) except -1:
    cdef int64_t word = 0  # room for one element of any dtype
    cdef void *bufs[2]
    cdef Tensor one
    store(<char *>&word, t.dt, value)
    if t.storage.device >= 0 and (t.contiguous or t.count == 1):
        put(t, &word)
    elif t.count == 1:
        memcpy(t.ptr, &word, ITEMSIZE[t.dt])
        if recorder is not None and recording():
            recorder.written(t.ptr, ITEMSIZE[t.dt])
    elif t.contiguous:
        bufs[0], bufs[1] = t.ptr, &word
        if recorder is not None and recording():
            recorder.constant(&word, 8)
        launch(entry_of(FILL, t.dt, t.dt, t.storage.device), bufs, NULL, NULL, t.count, t.count * FILL.cost)
    else:
        one = scalar_tensor(value, t.dt, t.storage)
        copy_memory(t, one)
    return 0


cdef Tensor scalar_tensor(object value, int dt, Storage on):
    cdef Tensor t = new_tensor(dt, 0, NULL, on)
    if t.storage.device >= 0:
        fill(t, value)
        return t
    store(t.ptr, dt, value)
    if recorder is not None and recording():
        recorder.written(t.ptr, ITEMSIZE[dt])
    return t


cdef Tensor number_beside(object value, int dt, Tensor x):
    """A number as an operand beside x; an integer that a narrower dtype cannot hold wraps around, as in PyTorch."""
    cdef int64_t i
    if CATEGORY[dt] != 1:
        return scalar_tensor(value, dt, x.storage)
    try:
        i = value
    except OverflowError:
        if not 0 < value < 1 << 64:
            raise OverflowError(f"int too big to convert: {value!r}") from None
        i = <int64_t><uint64_t>value
    if dt == I32:
        i = <int32_t>i
    elif dt == I16:
        i = <int16_t>i
    elif dt == I8:
        i = <int8_t>i
    elif dt == U8:
        i = <uint8_t>i
    return scalar_tensor(i, dt, x.storage)


cpdef object expected(Tensor x):
    """The value of a tensor with one element, for code whose further way depends on it: a program that replays it
    checks that it still is the same."""
    if recorder is not None and recording():
        recorder.expect(x.ptr, ITEMSIZE[x.dt])
    return value_at(x)


cdef Op SEED = Op("Ones")  # what fills the gradient that backward starts from, unless it is given one


cpdef bint always_one(Tensor x) except -1:
    """Whether the one element of ``x`` is 1; in a captured function only if it always is, and on a device that computes
    behind the host's back only if backward() made it, and nobody has written it since: it is not worth waiting for."""
    cdef double one = 1
    cdef float single = 1
    if x.storage.device >= 0:
        return made_by(x, SEED)
    if recorder is not None and recording():
        return recorder.always(x.ptr, &single if x.dt == F32 else <void *>&one, ITEMSIZE[x.dt])
    return (<float *>x.ptr)[0] == 1 if x.dt == F32 else (<double *>x.ptr)[0] == 1
