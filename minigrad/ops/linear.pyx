# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""The linear layer: y = x @ w.T + b, with relu folded in on request; forward and backward.

DESIGN
a. Bias and relu are one pass over each block of the product while it is in cache (kernels/linear.py).
b. The rules below run natively when backward is not recorded; when it is (create_graph), they are the same formulas
   in differentiable operations.
"""

from cpython.object cimport PyObject

from .._engine cimport Kernel, Op, Tensor, entry_of, grad_enabled, needs_grad, new_tensor, record, to_contiguous
from .._launch cimport launch
from .._storage cimport CATEGORY, F64, refuse_mixed
from ._gemm cimport product, rows_of

cdef Kernel SUM = Kernel("reduce.sum", 0.1), SUM_ROWS = Kernel("reduce.sum_rows", 0.1)
cdef Kernel DRELU = Kernel("elementwise.drelu", 0.2)


def linear(Tensor input not None, Tensor weight not None, Tensor bias=None, *, bint relu=False):
    """``input @ weight.T + bias``, then relu if asked.

    input (..., in), weight (out, in), bias (out,), () or None, all of one floating dtype; the result is (..., out).
    A weight (in,) gives (...), with a bias ().

    >>> import minigrad as mg
    >>> x, w = mg.tensor([[1.0, 2.0]]), mg.tensor([[3.0, 4.0], [5.0, 6.0]])
    >>> mg.nn.functional.linear(x, w, mg.tensor([0.5, -0.5]))
    tensor([[11.5000, 16.5000]])
    """
    return apply(input, weight, bias, relu)


cdef Tensor apply(Tensor x, Tensor weight, Tensor bias, bint relu):
    cdef Tensor y
    cdef Py_ssize_t[8] shape
    cdef int i
    if weight.nd == 1:
        y = apply(x, weight.unsqueeze(0), None if bias is None else bias.reshape(1) if bias.nd == 0 else bias, relu)
        return y.squeeze(-1)
    if bias is not None and bias.count == 1 and bias.nd <= 1 and weight.nd == 2 and weight.shape_[0] > 1:
        bias = bias.expand((weight.shape_[0],))
    check(x, weight, bias)
    if x.nd == 2:
        y = product(x, weight, False, True, to_contiguous(bias) if bias is not None else None, relu)
    else:
        y = product(rows_of(x, weight.shape_[1]), weight, False, True,
                    to_contiguous(bias) if bias is not None else None, relu)
        for i in range(x.nd - 1):
            shape[i] = x.shape_[i]
        shape[x.nd - 1] = weight.shape_[0]
        y = reshaped(y, x.nd, shape)
    if not grad_enabled():
        return y
    if relu:
        return record(LINEAR_RELU, y, (x, weight, bias), (x, weight, y))
    return record(LINEAR, y, (x, weight, bias),
                  (x if needs_grad(weight) else None, weight if needs_grad(x) else None))


cdef int check(Tensor x, Tensor w, Tensor b) except -1:
    if w.nd != 2:
        raise RuntimeError(f"linear: weight must be 2-D (out_features, in_features), got shape {tuple(w.shape)}")
    if x.nd == 0:
        raise RuntimeError("linear: input must have at least one dimension")
    if x.dt != w.dt or (b is not None and b.dt != w.dt) or CATEGORY[x.dt] != 2:
        raise RuntimeError(
            f"mat1 and mat2 must have the same dtype, but got {x.dtype!r} and {w.dtype!r}"
            + (f" (bias: {b.dtype!r})" if b is not None else "")
            + ("; linear needs floating-point tensors" if CATEGORY[x.dt] != 2 else "")
        )
    if x.storage.device != w.storage.device:
        refuse_mixed(x.storage.device, w.storage.device)
    if b is not None and b.storage.device != w.storage.device:
        refuse_mixed(w.storage.device, b.storage.device)
    if x.shape_[x.nd - 1] != w.shape_[1]:
        rows = 1
        for i in range(x.nd - 1):
            rows *= x.shape_[i]
        raise RuntimeError(f"mat1 and mat2 shapes cannot be multiplied ({rows}x{x.shape_[x.nd - 1]} and "
                           f"{w.shape_[1]}x{w.shape_[0]}): input {tuple(x.shape)}, weight {tuple(w.shape)}")
    if b is not None and (b.nd != 1 or b.shape_[0] != w.shape_[0]):
        raise RuntimeError(f"linear: bias must have shape ({w.shape_[0]},), got {tuple(b.shape)}")
    return 0


cdef Tensor reshaped(Tensor x, int nd, Py_ssize_t *shape):
    """A fresh contiguous tensor in another shape."""
    cdef Py_ssize_t n = 1
    cdef int i
    x.nd = nd
    for i in range(nd - 1, -1, -1):
        x.shape_[i], x.stride_[i] = shape[i], n
        n *= shape[i] if shape[i] > 0 else 1
    return x


# --- rules: dy (..., out) -> dx (..., in), dw (out, in), db (out,) ------------------------------------------------------


def dinput(Tensor dy, x, Tensor w):
    """dx = dy @ w."""
    cdef Py_ssize_t[8] shape
    cdef int i
    if grad_enabled():
        return dy @ w
    if dy.nd == 2:
        return product(dy, w, False, False, None, False)
    for i in range(dy.nd - 1):
        shape[i] = dy.shape_[i]
    shape[dy.nd - 1] = w.shape_[1]
    return reshaped(product(rows_of(dy, w.shape_[0]), w, False, False, None, False), dy.nd, shape)


def dweight(Tensor dy, Tensor x, w):
    """dw = dy.T @ x over all rows."""
    if grad_enabled():
        columns, width = dy.shape[dy.nd - 1], x.shape[x.nd - 1]
        rows = 1
        for size in dy.shape[: dy.nd - 1]:
            rows *= size
        return dy.reshape(rows, columns).transpose(0, 1) @ x.reshape(rows, width)
    return product(rows_of(dy, dy.shape_[dy.nd - 1]), rows_of(x, x.shape_[x.nd - 1]), True, False, None, False)


def dbias(Tensor dy, x, w):
    """db = dy summed over all rows."""
    cdef Py_ssize_t[1] width
    cdef Py_ssize_t[4] dims
    cdef void *bufs[2]
    cdef Tensor db
    if grad_enabled() or dy.count > 65536 or dy.count == 0:
        return dy.sum(tuple(range(dy.nd - 1))) if dy.nd > 1 else dy.clone()
    dy = to_contiguous(dy)
    width[0] = dy.shape_[dy.nd - 1]
    db = new_tensor(dy.dt, 1, width, dy.storage)
    dims[0], dims[1], dims[2], dims[3] = dy.count // width[0], width[0], dy.count // width[0], 1
    bufs[0], bufs[1] = db.ptr, dy.ptr
    launch(entry_of(SUM_ROWS if width[0] == 1 else SUM, dy.dt, dy.dt, dy.storage.device), bufs, dims, NULL, 1,
           dy.count * SUM.cost)
    return db


def dlinear_relu(node, Tensor dy):
    """All gradients of relu(x @ w.T + b), from dy masked by the output once."""
    cdef Py_ssize_t[1] dims
    cdef void *bufs[3]
    cdef Tensor masked
    x, w, y = node.saved_values()
    needs = node.needs_input_grad
    if grad_enabled():
        from .pointwise import drelu

        masked = drelu(dy, y)
    else:
        dy = to_contiguous(dy)
        masked = new_tensor(dy.dt, dy.nd, dy.shape_, dy.storage)
        bufs[0], bufs[1], bufs[2], dims[0] = masked.ptr, dy.ptr, (<Tensor>y).ptr, 0
        launch(entry_of(DRELU, dy.dt, dy.dt, dy.storage.device), bufs, dims, NULL, dy.count, dy.count * DRELU.cost)
    return (dinput(masked, x, w) if needs[0] else None, dweight(masked, x, w) if needs[1] else None,
            dbias(masked, x, w) if needs[2] else None)


LINEAR = Op("Linear", dinput, dweight, dbias)
LINEAR_RELU = Op("LinearRelu", backward=dlinear_relu)
