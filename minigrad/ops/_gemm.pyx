# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Matrix products of tensors: strides become BLAS flags, shapes choose the blocks.

DESIGN
a. A matrix whose rows or columns are contiguous goes to BLAS as it is (leading dimension, transpose flag); anything
   else is copied first.
b. ``blocks_of`` cuts a product into blocks that depend on its shape and on the processor family that OpenBLAS takes this
   CPU for, never on threads or on timings. Each block is one BLAS call and the inner dimension is never cut, so the bits
   are the same at any number of threads and in every process. Where other CPUs are to give the same bits, the environment
   variable OPENBLAS_CORETYPE names a family that all of them have (Haswell for x86-64): kernels and blocks follow it.
c. For AVX-512, OpenBLAS has kernels that do not pack their operands, for at most a million multiplications. Blocks that
   fit them, about 32 x 32, made 48 products of 32 to 2,000 rows 1.16 times as fast as one packed call each, 95 % of the
   core's peak in the median (float32, EPYC Zen 4). The rule is a fixed one because the best block for each of them, found
   by timing all, was only 0.7 % faster: nothing is to be gained by measuring at run time. Where there are no such
   kernels a product is cut for the threads only.
d. On another device a product is one call of that device's library (``devices.product``), then bias and relu in one pass.
"""

from .._engine cimport Kernel, Tensor, fill, new_tensor, strided_view, to_contiguous
from .._launch cimport PRODUCT_THERE, kernel_t, launch
from .._record cimport describe, recorder, recording
from .._storage cimport F32, F64, ITEMSIZE, refuse_mixed
from libc.stdint cimport int64_t
from libc.string cimport memset

from .._record import adds
from ..kernels import blas, contract

cdef kernel_t GEMM[2]
cdef kernel_t BIAS_RELU[2]
cdef Kernel EPILOGUE = Kernel("linear.bias_relu", 0.1)
cdef tuple NAMES = ("float32", "float64")
GEMM[F32] = <kernel_t><size_t>blas.address("float32")
GEMM[F64] = <kernel_t><size_t>blas.address("float64")


describe(GEMM[F32], "blas.sgemm", 6, 13, 2, opaque=1 << 4, relu=11)
describe(GEMM[F64], "blas.dgemm", 6, 13, 2, opaque=1 << 4, relu=11)


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


cdef bint SMALL_KERNELS = blas.core() in ("SkylakeX", "Cooperlake", "SapphireRapids")

cdef struct Blocks:
    Py_ssize_t rows, columns  # how many
    bint down                 # counted down the columns of y
    bint gemv


cdef inline bint unpacked(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint ta, bint tb) noexcept nogil:
    """Whether OpenBLAS multiplies without packing."""
    return SMALL_KERNELS and m * n * k <= 1_000_000 and (not tb or (not ta and m * n <= 1200 and k >= 32))


cdef Blocks blocks_of(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, bint ta, bint tb) noexcept nogil:
    """Into which blocks an (m, n) product over k is cut."""
    cdef Py_ssize_t work = m * n * k, rows, columns, count
    cdef bint pays
    cdef Blocks found
    found.rows, found.columns, found.down, found.gemv = 1, 1, True, False
    if m == 1 or n == 1:
        count = work // 800_000 + 1
        found.rows, found.columns = min(count, m), min(count, n)
        # the largest block, see ``edge`` in blas.pyx; the small kernels are as fast as gemv, for w.T somewhat faster
        rows, columns = (m // found.rows + 16 if m > 1 else 1), (n // found.columns + 16 if n > 1 else 1)
        found.gemv = not unpacked(m, n, k, ta, tb) and not (tb and unpacked(rows, columns, k, ta, tb))
        return found
    if work < 100_000:
        return found
    # blocks for the kernels that do not pack, if they take any
    rows, columns = 32 if ta or tb else 16, 32 if ta or tb else 64
    while rows * columns * k > 1_000_000 and rows > 8:
        rows //= 2
    if tb and rows * columns * k > 1_000_000:
        columns //= 2
    # a @ w.T: such a kernel adds up a vector of sums for each element of y, packing costs time for each of a and w.
    # else: a block reads with strides, which costs more than packing once all three sizes are large
    pays = (k * (3 * m * n + 200 * (m + n)) > 1000 * m * n or m <= 32 or n <= 32 if tb
            else k <= 512 or (k <= 1953 and (m <= 512 or n <= 512)))
    if pays and unpacked(rows, columns, k, ta, tb):
        rows, columns = min(rows, m), min(columns, n)
        while not tb and rows * columns * k < 262_144 and (rows < m or columns < n):  # a call costs 0.1 us
            if rows < m and (rows <= columns or columns >= n):
                rows = min(2 * rows, m)
            else:
                columns = min(2 * columns, n)
        found.rows, found.columns = (m + rows - 1) // rows, (n + columns - 1) // columns
        # a thread keeps to its rows of the weights, forward and in their gradient
        found.down = not ta or (k > 512 and n > m)
        return found
    if work < 500_000:
        return found
    found.down = n > m
    count = (n if found.down else m) // 64
    count = count if count < work // 16_000_000 else work // 16_000_000
    count = 2 if count < 2 else 16 if count > 16 else count
    found.rows, found.columns = 1 if found.down else count, count if found.down else 1
    return found


def adds_alike(dims):
    """Whether y = a @ b + y, for a kernel's ``dims``, has the bits of the product and then the addition.

    It has where BLAS does not pack, since a whole sum stays in registers until it is added to y. Packing cuts sums over
    many; and where they are short, it still adds those of the product alone to 0, which turns -0 into 0.
    """
    m, n, k, _, _, _, ta, tb, rows, columns, _, _, by_vector = dims
    # the largest block, see ``edge`` in blas.pyx
    return not by_vector and k <= 128 and unpacked(min(m, m // rows + 16), min(n, n // columns + 16), k, ta, tb)


adds[<size_t>GEMM[F32]] = adds[<size_t>GEMM[F64]] = adds_alike


cdef Tensor product(Tensor a, Tensor b, bint ta, bint tb, Tensor bias, bint relu):
    """op(a) @ op(b) [+ bias] [relu] for 2-D floats of one dtype whose shapes were checked; a fresh tensor."""
    cdef Py_ssize_t[2] shape
    shape[0], shape[1] = a.shape_[1] if ta else a.shape_[0], b.shape_[0] if tb else b.shape_[1]
    cdef Tensor y = new_tensor(a.dt, 2, shape, a.storage)
    multiply(y, a, b, ta, tb, bias, relu, 1, 0)
    return y


cdef int multiply(Tensor y, Tensor a, Tensor b, bint ta, bint tb, Tensor bias, bint relu, double alpha,
                  double beta) except -1:
    """y (m, n), its rows contiguous, = alpha op(a) @ op(b) + beta y [+ bias] [relu]; shapes and dtypes were checked."""
    cdef Layout la = layout_of(a), lb = layout_of(b), ly = layout_of(y)
    cdef Py_ssize_t[13] dims
    cdef Py_ssize_t[2] empty
    cdef double[2] scalars
    cdef void *bufs[6]
    cdef Py_ssize_t m = y.shape_[0], n = y.shape_[1], k = a.shape_[0] if ta else a.shape_[1]
    cdef Blocks blocks
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
    if y.storage.device >= 0:
        return multiply_distant(y, a, b, la, lb, ly, ta != la.transposed, tb != lb.transposed, k, bias, relu, alpha, beta)
    blocks = blocks_of(m, n, k, ta != la.transposed, tb != lb.transposed)
    bufs[0], bufs[1], bufs[2], bufs[5] = y.ptr, a.ptr, b.ptr, NULL
    bufs[3] = bias.ptr if bias is not None else NULL
    bufs[4] = <void *>epilogue(a.dt) if bias is not None or relu else NULL
    dims[0], dims[1], dims[2], dims[3], dims[4], dims[5] = m, n, k, la.ld, lb.ld, ly.ld
    dims[6], dims[7], dims[8], dims[9] = ta != la.transposed, tb != lb.transposed, blocks.rows, blocks.columns
    dims[10], dims[11], dims[12] = blocks.down, relu, blocks.gemv
    scalars[0], scalars[1] = alpha, beta
    if k == 0 and beta == 0:
        empty[0], empty[1] = ly.ld * ITEMSIZE[y.dt], n * ITEMSIZE[y.dt]
        launch(zero_rows, bufs, empty, NULL, m, 0)
        scalars[1] = 1
    launch(GEMM[a.dt], bufs, dims, scalars, blocks.rows * blocks.columns,
           <double>m * n * k * (0.022 if a.dt == F32 else 0.044))
    return 0


cdef int multiply_there(Tensor y, Py_ssize_t y_at, Tensor a, Py_ssize_t a_at, Tensor b, Py_ssize_t b_at, bint ta, bint tb,
                        Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t lda, Py_ssize_t ldb, Py_ssize_t ldy,
                        Py_ssize_t batch, Py_ssize_t da, Py_ssize_t db, Py_ssize_t dy, double alpha, double beta) except -1:
    """Products on a device that is not the CPU; of ``batch`` matrices from these elements on, at these distances."""
    cdef Py_ssize_t[14] dims
    cdef double[2] scalars
    cdef void *bufs[3]
    cdef Py_ssize_t size = ITEMSIZE[y.dt]
    bufs[0], bufs[1], bufs[2] = y.ptr + y_at * size, a.ptr + a_at * size, b.ptr + b_at * size
    dims[0], dims[1], dims[2], dims[3], dims[4], dims[5], dims[6], dims[7] = m, n, k, lda, ldb, ldy, ta, tb
    dims[8], dims[9], dims[10], dims[11], dims[12], dims[13] = batch, da, db, dy, y.dt, y.storage.device
    scalars[0], scalars[1] = alpha, beta
    return launch(PRODUCT_THERE, bufs, dims, scalars, batch, 0)


cdef int multiply_distant(Tensor y, Tensor a, Tensor b, Layout la, Layout lb, Layout ly, bint ta, bint tb, Py_ssize_t k,
                          Tensor bias, bint relu, double alpha, double beta) except -1:
    """``multiply`` on a device that is not the CPU."""
    cdef Py_ssize_t m = y.shape_[0], n = y.shape_[1]
    cdef Py_ssize_t[4] dims
    cdef void *bufs[2]
    if k == 0 and beta == 0:
        fill(y, 0)
    else:
        multiply_there(y, 0, a, 0, b, 0, ta, tb, m, n, k, la.ld, lb.ld, ly.ld, 1, 0, 0, 0, alpha, beta)
    if bias is not None or relu:
        bufs[0], bufs[1] = y.ptr, bias.ptr if bias is not None else NULL
        dims[0], dims[1], dims[2], dims[3] = n, ly.ld, bias is not None, relu
        launch(EPILOGUE.find(y.dt, y.dt, y.storage), bufs, dims, NULL, m, 0)
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
    if a.storage.device != b.storage.device:
        refuse_mixed(a.storage.device, b.storage.device)
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
    if y.storage.device != a.storage.device or (bias is not None and bias.storage.device != y.storage.device):
        refuse_mixed(a.storage.device, y.storage.device if bias is None else bias.storage.device)
    multiply(y, a, b, ta, tb, bias, False, alpha, 1 if accumulate else beta)
    return y


def gemm_batched(Tensor y not None, Tensor a not None, Tensor b not None, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                 Py_ssize_t lda, Py_ssize_t ldb, Py_ssize_t ldy, bint ta, bint tb, Tensor offsets not None):
    """y[i] = op(a[i]) @ op(b[i]); ``offsets`` (batch, 3) int64: where y[i], a[i], b[i] start, in elements.

    The caller answers for shapes, strides and offsets: nothing is checked here.
    """
    cdef Py_ssize_t[13] dims
    cdef double[2] scalars
    cdef void *bufs[6]
    cdef Blocks blocks = blocks_of(m, n, k, ta, tb)
    if a.storage.device != b.storage.device or a.storage.device != y.storage.device:
        refuse_mixed(a.storage.device, b.storage.device)
    if y.count == 0:
        return y
    if y.storage.device >= 0:
        batches_distant(y, a, b, m, n, k, lda, ldb, ldy, ta, tb, offsets)
        return y
    bufs[0], bufs[1], bufs[2], bufs[3], bufs[4], bufs[5] = y.ptr, a.ptr, b.ptr, NULL, NULL, offsets.ptr
    dims[0], dims[1], dims[2], dims[3], dims[4], dims[5] = m, n, k, lda, ldb, ldy
    dims[6], dims[7], dims[8], dims[9], dims[10] = ta, tb, blocks.rows, blocks.columns, blocks.down
    dims[11], dims[12] = False, blocks.gemv
    scalars[0], scalars[1] = 1, 0
    if k == 0:
        dims[0] = dims[1] = y.count * ITEMSIZE[y.dt]
        launch(zero_rows, bufs, dims, NULL, 1, 0)
        return y
    if recorder is not None and recording():
        recorder.constant(offsets.ptr, offsets.count * ITEMSIZE[offsets.dt])  # they follow from the shapes
    launch(GEMM[a.dt], bufs, dims, scalars, blocks.rows * blocks.columns * offsets.shape_[0],
           <double>m * n * k * offsets.shape_[0] * (0.022 if a.dt == F32 else 0.044))
    return y


cdef int batches_distant(Tensor y, Tensor a, Tensor b, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, Py_ssize_t lda,
                         Py_ssize_t ldb, Py_ssize_t ldy, bint ta, bint tb, Tensor offsets) except -1:
    """``gemm_batched`` on a device that is not the CPU; ``offsets`` is on the CPU. One call for each run of products whose
    offsets lie at equal distances: mostly one in all, and one for each index of the dimensions outside one that repeats."""
    cdef int64_t *at = <int64_t *>offsets.ptr
    cdef Py_ssize_t i = 0, j, batch = offsets.shape_[0], dy, da, db
    if k == 0:
        return fill(y, 0)
    while i < batch:
        dy = da = db = 0
        j = i + 1
        if j < batch:
            dy, da, db = at[3 * j] - at[3 * i], at[3 * j + 1] - at[3 * i + 1], at[3 * j + 2] - at[3 * i + 2]
            j += 1
            while j < batch and at[3 * j] - at[3 * j - 3] == dy and at[3 * j + 1] - at[3 * j - 2] == da and (
                    at[3 * j + 2] - at[3 * j - 1] == db):
                j += 1
            if j == i + 2 and (da < 0 or db < 0):  # two neighbours that have nothing to do with each other
                j = i + 1
        multiply_there(y, at[3 * i], a, at[3 * i + 1], b, at[3 * i + 2], ta, tb, m, n, k, lda, ldb, ldy, j - i, da, db, dy,
                       1, 0)
        i = j
    return 0
