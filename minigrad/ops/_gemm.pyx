# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Matrix products of tensors: strides become BLAS flags, shapes choose the blocks.

DESIGN
a. A matrix whose rows or columns are contiguous goes to BLAS as it is (leading dimension, transpose flag); anything
   else is copied first.
b. ``blocks_of`` cuts a product into blocks that depend on the shape only; the engine shares them among threads. Each
   block is one BLAS call, so the bits do not depend on the number of threads. Its numbers were measured with
   OpenBLAS 0.3.34 on AVX-512: products of up to a million multiplications run without packing there.
"""

from .._engine cimport Tensor, new_tensor, strided_view, to_contiguous
from .._launch cimport kernel_t, launch
from .._record cimport describe, recorder, recording
from .._storage cimport F32, F64, ITEMSIZE
from libc.string cimport memset

from ..kernels import blas, contract

cdef kernel_t GEMM[2]
cdef kernel_t BIAS_RELU[2]
cdef tuple NAMES = ("float32", "float64")
GEMM[F32] = <kernel_t><size_t>blas.address("float32")
GEMM[F64] = <kernel_t><size_t>blas.address("float64")


describe(GEMM[F32], "blas.sgemm", 6, 11, 2, opaque=1 << 4, relu=10)
describe(GEMM[F64], "blas.dgemm", 6, 11, 2, opaque=1 << 4, relu=10)


cdef void zero_rows(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    """dims: bytes from row to row, bytes to clear of each."""
    cdef Py_ssize_t i
    for i in range(lo, hi):
        memset(<char *>bufs[0] + i * dims[0], 0, dims[1])


describe(zero_rows, "zero_rows", 1, 2, 0)


cdef struct Layout:
    Py_ssize_t ld
    bint transposed
    bint usable


cdef Layout layout_of(Tensor x) noexcept:
    """How BLAS can read 2-D ``x`` where it lies, if it can."""
    cdef Py_ssize_t rows = x.shape_[0], columns = x.shape_[1], s0 = x.stride_[0], s1 = x.stride_[1]
    cdef Layout found
    found.usable, found.transposed = True, False
    if (s1 == 1 or columns <= 1) and (rows <= 1 or s0 >= columns):
        found.ld = s0 if rows > 1 else columns
    elif (s0 == 1 or rows <= 1) and (columns <= 1 or s1 >= rows):
        found.ld, found.transposed = s1 if columns > 1 else rows, True
    else:
        found.usable = False
    if found.ld < 1:
        found.ld = 1
    return found


cdef inline bint unpacked(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint ta, bint tb) noexcept nogil:
    """Whether OpenBLAS multiplies without packing, which is up to twice as fast for small products."""
    return m * n * k <= 1_000_000 and (not tb or ta or (m * n <= 1200 and k >= 32))


cdef Py_ssize_t blocks_of(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint ta, bint tb, bint *columns) noexcept nogil:
    """Into how many blocks an (m, n) product over k is cut, and whether into columns; by the shape alone."""
    cdef Py_ssize_t work = m * n * k, blocks = 1
    cdef bint by_rows, by_columns
    columns[0] = n > m
    if work < 100_000:
        return 1
    if work <= 16_000_000:  # the fewest blocks that need no packing, if there are such
        blocks = 2 if work >= 500_000 else 1
        while blocks <= 16:
            by_rows = m >= 4 * blocks and unpacked(m // blocks, n, k, ta, tb)
            by_columns = n >= 8 * blocks and unpacked(m, n // blocks, k, ta, tb)
            if by_rows or by_columns:
                columns[0] = not by_rows or (by_columns and tb)
                return blocks
            blocks *= 2
    if work < 500_000:
        return 1
    blocks = (n if columns[0] else m) // 64
    blocks = blocks if blocks < work // 16_000_000 else work // 16_000_000
    return 2 if blocks < 2 else 16 if blocks > 16 else blocks


cdef Tensor product(Tensor a, Tensor b, bint ta, bint tb, Tensor bias, bint relu):
    """op(a) @ op(b) [+ bias] [relu] for 2-D floats of one dtype whose shapes were checked; a fresh tensor."""
    cdef Py_ssize_t[2] shape
    shape[0], shape[1] = a.shape_[1] if ta else a.shape_[0], b.shape_[0] if tb else b.shape_[1]
    cdef Tensor y = new_tensor(a.dt, 2, shape)
    multiply(y, a, b, ta, tb, bias, relu, 1, 0)
    return y


cdef int multiply(Tensor y, Tensor a, Tensor b, bint ta, bint tb, Tensor bias, bint relu, double alpha,
                  double beta) except -1:
    """y (m, n), its rows contiguous, = alpha op(a) @ op(b) + beta y [+ bias] [relu]; shapes and dtypes were checked."""
    cdef Layout la = layout_of(a), lb = layout_of(b), ly = layout_of(y)
    cdef Py_ssize_t[11] dims
    cdef Py_ssize_t[2] empty
    cdef double[2] scalars
    cdef void *bufs[6]
    cdef Py_ssize_t m = y.shape_[0], n = y.shape_[1], k = a.shape_[0] if ta else a.shape_[1], units
    cdef bint columns
    if m > 0x7FFFFFFF or n > 0x7FFFFFFF or k > 0x7FFFFFFF or ly.ld > 0x7FFFFFFF:
        raise ValueError(f"matrix product of sizes ({m}, {k}) x ({k}, {n}): dimensions must fit 32 bits")
    if not la.usable:
        a = to_contiguous(a)
        la = layout_of(a)
    if not lb.usable:
        b = to_contiguous(b)
        lb = layout_of(b)
    if y.count == 0:
        return 0
    units = blocks_of(m, n, k, ta != la.transposed, tb != lb.transposed, &columns)
    bufs[0], bufs[1], bufs[2], bufs[5] = y.ptr, a.ptr, b.ptr, NULL
    bufs[3] = bias.ptr if bias is not None else NULL
    bufs[4] = <void *>epilogue(a.dt) if bias is not None or relu else NULL
    dims[0], dims[1], dims[2], dims[3], dims[4], dims[5] = m, n, k, la.ld, lb.ld, ly.ld
    dims[6], dims[7], dims[8], dims[9], dims[10] = ta != la.transposed, tb != lb.transposed, units, columns, relu
    scalars[0], scalars[1] = alpha, beta
    if k == 0 and beta == 0:
        empty[0], empty[1] = ly.ld * ITEMSIZE[y.dt], n * ITEMSIZE[y.dt]
        launch(zero_rows, bufs, empty, NULL, m, 0)
        scalars[1] = 1
    launch(GEMM[a.dt], bufs, dims, scalars, units, <double>m * n * k * (0.022 if a.dt == F32 else 0.044))
    return 0


cdef kernel_t epilogue(int dt) except NULL:
    if BIAS_RELU[dt] == NULL:
        BIAS_RELU[dt] = <kernel_t><size_t>contract.address("linear.bias_relu", NAMES[dt])
    return BIAS_RELU[dt]


cdef Tensor rows_of(Tensor x, Py_ssize_t width):
    """x (..., width) as an unrecorded (rows, width) matrix."""
    cdef Py_ssize_t[2] shape
    cdef Py_ssize_t[2] stride
    if x.nd == 2:
        return x
    x = to_contiguous(x)
    shape[0], shape[1], stride[0], stride[1] = x.count // width if width else 0, width, width, 1
    if width == 0:
        shape[0] = 1
        for i in range(x.nd - 1):
            shape[0] *= x.shape_[i]
    return strided_view(x, 2, shape, stride, 0)


cdef int check_matrices(Tensor a, Tensor b, bint ta, bint tb) except -1:
    if a.nd != 2 or b.nd != 2 or a.dt != b.dt or a.dt > F64:
        raise ValueError("gemm: needs two matrices of one floating dtype")
    if (a.shape_[0] if ta else a.shape_[1]) != (b.shape_[1] if tb else b.shape_[0]):
        raise ValueError(f"gemm: inner sizes of {a.shape} and {b.shape} differ")
    return 0


def gemm(Tensor a not None, Tensor b not None, bint ta=False, bint tb=False):
    """``op(a) @ op(b)`` for 2-D tensors of one floating dtype whose inner sizes agree; not recorded."""
    check_matrices(a, b, ta, tb)
    return product(a, b, ta, tb, None, False)


def gemm_into(Tensor y not None, Tensor a not None, Tensor b not None, bint ta=False, bint tb=False, Tensor bias=None,
              bint accumulate=False, double alpha=1, double beta=0):
    """y = alpha ``op(a) @ op(b)`` + beta y [+ bias], into memory of the caller's; neither recorded nor counted as an
    in-place edit. ``accumulate`` is beta 1. The rows of y must be contiguous, not necessarily next to each other."""
    check_matrices(a, b, ta, tb)
    if y.nd != 2 or y.dt != a.dt or y.shape_[0] != (a.shape_[1] if ta else a.shape_[0]) or (
            y.shape_[1] != (b.shape_[0] if tb else b.shape_[1])):
        raise ValueError(f"gemm_into: y of shape {y.shape} does not fit {a.shape} and {b.shape}")
    if y.count and (not layout_of(y).usable or layout_of(y).transposed):
        raise ValueError("gemm_into: the rows of y must be contiguous")
    if bias is not None and (bias.nd != 1 or bias.dt != y.dt or bias.shape_[0] != y.shape_[1] or not bias.contiguous):
        raise ValueError("gemm_into: bias must be contiguous and as long as the rows of y")
    multiply(y, a, b, ta, tb, bias, False, alpha, 1 if accumulate else beta)
    return y


def gemm_batched(Tensor y not None, Tensor a not None, Tensor b not None, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                 Py_ssize_t lda, Py_ssize_t ldb, Py_ssize_t ldy, bint ta, bint tb, Tensor offsets not None):
    """y[i] = op(a[i]) @ op(b[i]); ``offsets`` (batch, 3) int64: where y[i], a[i], b[i] start, in elements.

    The caller answers for shapes, strides and offsets: nothing is checked here.
    """
    cdef Py_ssize_t[11] dims
    cdef double[2] scalars
    cdef void *bufs[6]
    cdef bint columns
    cdef Py_ssize_t blocks = blocks_of(m, n, k, ta, tb, &columns)
    if y.count == 0:
        return y
    bufs[0], bufs[1], bufs[2], bufs[3], bufs[4], bufs[5] = y.ptr, a.ptr, b.ptr, NULL, NULL, offsets.ptr
    dims[0], dims[1], dims[2], dims[3], dims[4], dims[5] = m, n, k, lda, ldb, ldy
    dims[6], dims[7], dims[8], dims[9], dims[10] = ta, tb, blocks, columns, False
    scalars[0], scalars[1] = 1, 0
    if k == 0:
        dims[0] = dims[1] = y.count * ITEMSIZE[y.dt]
        launch(zero_rows, bufs, dims, NULL, 1, 0)
        return y
    if recorder is not None and recording():
        recorder.constant(offsets.ptr, offsets.count * ITEMSIZE[offsets.dt])  # they follow from the shapes
    launch(GEMM[a.dt], bufs, dims, scalars, blocks * offsets.shape_[0],
           <double>m * n * k * offsets.shape_[0] * (0.022 if a.dt == F32 else 0.044))
    return y
