from libc.stdint cimport int64_t

from .._engine cimport Op, Tensor

cpdef enum:
    NONE = 0
    MEAN = 1
    SUM = 2
    BATCH = 3  # kl_div's 'batchmean': the sum divided by the first size
    ZERO = 4  # the mean, but 0 of no rows

cpdef object reduction_name(object reduction, object size_average=*, object reduce=*)
cpdef int reduction_of(object reduction, object size_average=*, object reduce=*) except -1
cpdef bint zero_of(object all_ignored) except -1
cpdef Tensor as_tensor(object value, Tensor x=*, str name=*)
cpdef Tensor floating(object value, str function, str name=*)
cdef list sizes(Tensor x)
cdef str element(str name, Py_ssize_t at, object shape)
cdef Tensor total_of(Tensor parts, double *divisor, double n, int dt)
cpdef Tensor reduced(Tensor losses, Py_ssize_t n, int code, Tensor like=*)
cpdef Tensor reduced_by(Tensor losses, int code, Tensor stats)
cpdef int warn_of_probabilities(Tensor x, str function, str expected, str advice) except -1
cdef Op op_named(str name)


cdef inline int code_of(object reduction, object size_average, object reduce) except -1:
    """``reduction_of``, quick where it is the default."""
    if reduction == "mean" and size_average is None and reduce is None:
        return MEAN
    return reduction_of(reduction, size_average, reduce)


cdef inline int advise(Tensor x, str function, str expected, str advice) except -1:
    """``warn_of_probabilities`` where it may have to."""
    if x.storage.made_by != NULL or x.node is not None:
        warn_of_probabilities(x, function, expected, advice)
    return 0


cdef inline int64_t versions(Tensor t, Tensor w, Tensor q) noexcept:
    """A number that grows when a target or weight is written: they are read again only if backward is recorded."""
    return (t.storage.version + (0 if w is None else w.storage.version) + (0 if q is None else q.storage.version))
