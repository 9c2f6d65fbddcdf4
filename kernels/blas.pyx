# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Matrix products as kernels: blocks of one product, each a single-threaded BLAS call.

DESIGN
a. OpenBLAS comes from the scipy-openblas32 wheel, loaded privately with one thread: NumPy's own copy and its threads
   are untouched. Parallelism is the engine's: a product is cut into blocks that depend on its shape only, so that
   results do not depend on the number of threads.
b. ``gemm``: y = op(a) @ op(b) (+ y), row-major, for a batch of products. A pass over each finished block adds the bias
   and applies relu while the block is in cache; that pass is a Numba kernel, given by pointer.
   bufs: y (M, N), a, b, bias (N,) or NULL, epilogue kernel or NULL, offsets (batch, 3) int64 or NULL.
   dims: M, N, K, lda, ldb, ldy, transpose a, transpose b, R, C, down, relu, gemv.   scalars: alpha, beta.
   Unit: batch index * R * C + block; y is cut into R x C blocks, counted down its columns or along its rows.
c. ``gemv`` (for M = 1 or N = 1) calls the matrix-vector product: gemm copies the whole matrix first, which takes three
   to seven times as long.
"""

from libc.stdint cimport int64_t

import ctypes
import os
from importlib.util import find_spec
from pathlib import Path

ctypedef void (*kernel_t)(void **, Py_ssize_t *, double *, Py_ssize_t, Py_ssize_t) noexcept nogil
ctypedef void (*sgemm_t)(int, int, int, int, int, int, float, const float *, int, const float *, int, float, float *,
                         int) noexcept nogil
ctypedef void (*dgemm_t)(int, int, int, int, int, int, double, const double *, int, const double *, int, double,
                         double *, int) noexcept nogil

ctypedef void (*sgemv_t)(int, int, int, int, float, const float *, int, const float *, int, float, float *,
                         int) noexcept nogil
ctypedef void (*dgemv_t)(int, int, int, int, double, const double *, int, const double *, int, double, double *,
                         int) noexcept nogil

cdef sgemm_t sgemm = NULL
cdef dgemm_t dgemm = NULL
cdef sgemv_t sgemv = NULL
cdef dgemv_t dgemv = NULL


def _load():
    """Load the private OpenBLAS; its thread count is set while loading, so that it never starts a thread."""
    global sgemm, dgemm, sgemv, dgemv
    spec = find_spec("scipy_openblas32")
    if spec is None:
        raise ImportError("minigrad needs the package scipy-openblas32 for matrix products")
    folder = Path(spec.submodule_search_locations[0]) / "lib"
    names = sorted(p for p in folder.iterdir() if p.name.startswith("libscipy_openblas") and p.suffix != ".lib")
    before = os.environ.get("OPENBLAS_NUM_THREADS")
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    try:
        library = ctypes.CDLL(str(names[0]))
    finally:
        if before is None:
            del os.environ["OPENBLAS_NUM_THREADS"]
        else:
            os.environ["OPENBLAS_NUM_THREADS"] = before
    library.scipy_openblas_set_num_threads(1)
    sgemm = <sgemm_t><size_t>ctypes.cast(library.scipy_cblas_sgemm, ctypes.c_void_p).value
    dgemm = <dgemm_t><size_t>ctypes.cast(library.scipy_cblas_dgemm, ctypes.c_void_p).value
    sgemv = <sgemv_t><size_t>ctypes.cast(library.scipy_cblas_sgemv, ctypes.c_void_p).value
    dgemv = <dgemv_t><size_t>ctypes.cast(library.scipy_cblas_dgemv, ctypes.c_void_p).value
    return library  # kept alive by the module


library = _load()

ctypedef fused real:
    float
    double


cdef inline Py_ssize_t edge(Py_ssize_t n, Py_ssize_t parts, Py_ssize_t i) noexcept nogil:
    """Where part ``i`` of n begins: nearly equal parts, rounded up to whole vectors where they are long enough."""
    cdef Py_ssize_t step = 16 if n >= 32 * parts else 8 if n >= 16 * parts else 4 if n >= 8 * parts else 1
    cdef Py_ssize_t at
    if i == parts:
        return n
    at = (n * i // parts + step - 1) & -step
    return at if at < n else n


cdef inline void _gemm(real *tag, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    cdef Py_ssize_t m = dims[0], n = dims[1], k = dims[2], lda = dims[3], ldb = dims[4], ldy = dims[5]
    cdef Py_ssize_t across = dims[8], along = dims[9], unit, block, r, c, row, column, rows, columns
    cdef int ta = 112 if dims[6] else 111, tb = 112 if dims[7] else 111
    cdef real *y
    cdef real *a
    cdef real *b
    cdef int64_t *offsets
    cdef void *pass_bufs[2]
    cdef Py_ssize_t[5] pass_dims
    for unit in range(lo, hi):
        y, a, b = <real *>bufs[0], <real *>bufs[1], <real *>bufs[2]
        if bufs[5] != NULL:
            offsets = <int64_t *>bufs[5] + 3 * (unit // (across * along))
            y, a, b = y + offsets[0], a + offsets[1], b + offsets[2]
        row, column, rows, columns = 0, 0, m, n
        if across * along > 1:
            block = unit % (across * along)
            r, c = (block % across, block // across) if dims[10] else (block // along, block % along)
            row, column = edge(m, across, r), edge(n, along, c)
            rows, columns = edge(m, across, r + 1) - row, edge(n, along, c + 1) - column
            if rows == 0 or columns == 0:
                continue
        y = y + row * ldy + column
        a = a + row * (1 if dims[6] else lda)
        b = b + column * (ldb if dims[7] else 1)
        if dims[12] and m == 1:  # y.T = op(b).T @ a.T
            gemv(101, 111 if dims[7] else 112, columns if dims[7] else k, k if dims[7] else columns, scalars[0], b, ldb,
                 a, lda if dims[6] else 1, scalars[1], y, 1)
        elif dims[12]:
            gemv(101, 112 if dims[6] else 111, k if dims[6] else rows, rows if dims[6] else k, scalars[0], a, lda,
                 b, 1 if dims[7] else ldb, scalars[1], y, ldy)
        elif real is float:
            sgemm(101, ta, tb, <int>rows, <int>columns, <int>k, <float>scalars[0], a, <int>lda, b, <int>ldb,
                  <float>scalars[1], y, <int>ldy)
        else:
            dgemm(101, ta, tb, <int>rows, <int>columns, <int>k, scalars[0], a, <int>lda, b, <int>ldb, scalars[1], y,
                  <int>ldy)
        if bufs[4] != NULL:
            pass_bufs[0], pass_bufs[1] = y, NULL
            if bufs[3] != NULL:
                pass_bufs[1] = <real *>bufs[3] + column
            pass_dims[0], pass_dims[1], pass_dims[2], pass_dims[3] = columns, ldy, bufs[3] != NULL, dims[11]
            (<kernel_t>bufs[4])(pass_bufs, pass_dims, NULL, 0, rows)


cdef inline void gemv(int order, int turned, Py_ssize_t rows, Py_ssize_t columns, double alpha, real *a, Py_ssize_t lda,
                      real *x, Py_ssize_t incx, double beta, real *y, Py_ssize_t incy) noexcept nogil:
    if real is float:
        sgemv(order, turned, <int>rows, <int>columns, <float>alpha, a, <int>lda, x, <int>incx, <float>beta, y, <int>incy)
    else:
        dgemv(order, turned, <int>rows, <int>columns, alpha, a, <int>lda, x, <int>incx, beta, y, <int>incy)


cdef void sgemm_kernel(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    _gemm(<float *>NULL, bufs, dims, scalars, lo, hi)


cdef void dgemm_kernel(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    _gemm(<double *>NULL, bufs, dims, scalars, lo, hi)


def address(str dtype):
    """The gemm kernel for float32 or float64, as an address."""
    return <size_t>&sgemm_kernel if dtype == "float32" else <size_t>&dgemm_kernel


def core():
    """The name of the processor family whose kernels OpenBLAS has chosen."""
    name = library.scipy_openblas_get_corename
    name.restype = ctypes.c_char_p
    return name().decode()
