from cpython.object cimport PyObject
from libc.stdint cimport int64_t, uint32_t

from ._launch cimport kernel_t
from ._storage cimport Storage, dtype


cdef extern from "Python.h":
    PyObject *item_of "PyTuple_GET_ITEM"(object t, Py_ssize_t i)


cdef class Kernel:
    cdef readonly str name
    cdef kernel_t[64] entry
    cdef kernel_t *distant     # handles for other devices, 64 each, once they were asked for
    cdef readonly double cost
    cdef kernel_t find(self, int t, int u, Storage on) except NULL
    cdef kernel_t compiled(self, int t, int u) except NULL
    cdef kernel_t handle(self, int t, int u, int device) except NULL



cdef inline kernel_t entry_of(Kernel k, int t, int u, int device) except NULL:
    """``k.find`` where nanoseconds count: it takes no reference."""
    if device < 0 and k.entry[8 * t + u] != NULL:
        return k.entry[8 * t + u]
    return k.compiled(t, u) if device < 0 else k.handle(t, u, device)


cdef class Op:
    cdef readonly str name
    cdef readonly tuple rules
    cdef readonly object backward
    cdef Kernel flat
    cdef Kernel int_flat
    cdef int kind
    cdef int saves0
    cdef int saves1
    cdef readonly int arity
    cdef str doc


cdef class Tensor:
    cdef Storage storage
    cdef char *ptr
    cdef int dt
    cdef int nd
    cdef Py_ssize_t count
    cdef bint contiguous
    cdef bint requires
    cdef uint32_t history      # of a base: how often an in-place op rewrote it; of a view: what it has seen
    cdef uint32_t saved_version
    cdef int slot
    cdef int64_t walk
    cdef Node node
    cdef object link           # of a saved alias: where its gradient goes (Node, leaf Tensor or None)
    cdef object gradient
    cdef Tensor base
    cdef list hooks
    cdef object after_hooks
    cdef object __weakref__
    cdef Py_ssize_t[8] shape_
    cdef Py_ssize_t[8] stride_


cdef class Node:
    cdef Op op
    cdef int64_t seq
    cdef int64_t walk
    cdef int slot
    cdef int outputs           # more than one: gradients arrive through Slot nodes
    cdef int output            # of a Slot: which output of its parent
    cdef bint freed
    cdef int inputs, kept      # how many edges and saved values; the first two of each lie here, the others in a tuple
    cdef object edge0, edge1, kept0, kept1
    cdef tuple more_edges, more_kept
    cdef tuple shapes          # of inputs that were broadcast, else None
    cdef list hooks
    cdef object retained       # weak reference to a tensor that wants its .grad
    cdef object context


ctypedef int (*backward_t)(Tensor y, object gradient, bint retain, bint recorded) except -1

cdef int set_backward(backward_t f) noexcept
cdef inline PyObject *edge_at(Node n, Py_ssize_t i) noexcept:
    """Where the gradient of input ``i`` goes: a node, a leaf or None; borrowed."""
    return <PyObject *>n.edge0 if i == 0 else <PyObject *>n.edge1 if i == 1 else item_of(n.more_edges, i - 2)


cdef inline PyObject *kept_at(Node n, Py_ssize_t i) noexcept:
    """Saved value ``i``, borrowed."""
    return <PyObject *>n.kept0 if i == 0 else <PyObject *>n.kept1 if i == 1 else item_of(n.more_kept, i - 2)


cdef bint grad_enabled() noexcept
cdef Tensor new_tensor(int dt, int ndim, Py_ssize_t *shape, Storage on)
cdef Tensor new_like(Tensor x, int dt)
cdef Tensor alias(Tensor x)
cdef Tensor to_contiguous(Tensor x)
cdef int check_expanded(Tensor x) except -1
cdef Tensor strided_view(Tensor x, int ndim, Py_ssize_t *shape, Py_ssize_t *stride, Py_ssize_t offset)
cdef bint needs_grad(Tensor x) except -1
cdef bint made_by(Tensor x, Op op) noexcept
cdef Node push(Op op, Tensor y, object edge0)
cdef Tensor record(Op op, Tensor y, tuple inputs, tuple saved)
cdef Tensor save_output(Tensor y)
cdef Tensor full(int dt, int nd, Py_ssize_t *shape, object value, Storage on)
cdef Tensor scalar_tensor(object value, int dt, Storage on)
cdef Tensor on_host(Tensor x)
cdef Tensor beside(Tensor x, Storage on)
cdef int fill(Tensor t, object value) except -1
cdef Tensor cast(Tensor x, int dt)
cdef Tensor clone(Tensor x)
cdef Tensor apply_unary(Op op, Tensor x)
cdef Tensor apply_binary(Op op, Tensor a, Tensor b)
cdef tuple shape_tuple(Tensor x)
cdef bint same_shape(Tensor a, Tensor b) noexcept
cdef object edge_of(Tensor x)
cdef object unpack(Node node, object item, bint linked)
cdef int retain_gradient(Tensor t) except -1
cdef int set_grad_off(int off) noexcept
cpdef object expected(Tensor x)
cpdef bint always_one(Tensor x) except -1

cdef int anomaly
cdef int default_float
cdef dict origins
cdef str FREED
cdef Op ADD, MUL, SEED
