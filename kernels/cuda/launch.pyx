# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""GPUs through NVIDIA's driver: memory, copies, launches and products, as a table of C functions for the engine.

DESIGN
a. The driver's C functions are looked up in libcuda itself. cuda.bindings has the same functions, for an import of a
   tenth of a second, a build dependency and a Python call each; the prototypes below are the stable ABI that it wraps, by
   the names that it exports (``_v2`` where the header says so), and a test compares them with NVIDIA's cuda.h.
   cuBLAS likewise: of nvmath-python, 22 MB, five functions would be used.
b. Each GPU is used through its primary context, which other libraries share, and one stream, which is ordered with the
   legacy default stream, both ways: PyTorch and CuPy work there, on memory that they share with us. So memory that is freed may be handed out again at once, and everything runs in the
   order of the calls. Where somebody else's stream is to see our work or the other way round (DLPack), an event says so.
c. Memory comes from a pool of our own by stream order; nothing is given back until ``trim``, or until memory is out,
   which is then tried once more. Its own, because the default pool's settings and figures are other libraries' too.
d. Uploads of up to PART bytes go through a ring of pinned memory: they are copied there at once and no call waits, unless
   the GPU is a whole ring behind. What is larger waits: the driver does not promise to be done with pageable memory on
   return. Downloads wait always.
e. A launch is by *handle*: the address of a ``Handle``, which says where each argument is found, with the highest bit set,
   which no address of this machine's memory has. Arguments are handed to the driver by their places in the caller's
   arrays; a grid whose size depends on units alone is computed here, one that a kernel computes itself in Python.
f. Kernels write what they complain about into ``errors``, eight int64 of mapped pinned memory, so that looking whether
   there is anything costs a load. Who looks, and when, is the engine's business; MINIGRAD_CUDA_STRICT=1 waits and looks
   after each launch.
g. float32 products are float32 throughout: no TF32. One handle, one stream and one workspace a GPU: bits are the same
   from run to run.
h. A forked child can use no GPU: every call refuses, but freeing, which then does nothing, as at the interpreter's end,
   when the driver may be gone.
i. A graph is captured on a stream of its own, which waits for none and that none waits for: whatever goes wrong, ours
   stays usable, and what other threads launch meanwhile does not get in. No Python runs during a capture. The graph keeps
   a copy of each kernel's arguments; a replay packs them anew and hands the driver those that have changed. What cuBLAS
   makes of a product cannot be changed, nor are copies and fills: with other addresses it is another graph.
j. Whatever calls in here holds the GIL; waiting releases it. A context that somebody else has made current in the calling
   thread is put back.
"""

cimport cython
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF
from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcmp, memcpy, memset

import atexit
import ctypes
import os

from .failures import FORKED, STRICT, OutOfMemoryError, complaint

# --- the engine's table; as in minigrad/_storage.pxd ------------------------------------------------------------------

cdef struct Work:                      # a call of ``launch``, which another may look at again later
    void *f                            # a handle; or the highest bit and one of these numbers
    void **bufs
    Py_ssize_t *dims
    double *scalars
    Py_ssize_t units

cdef enum:                             # for what a device does besides kernels; operands: minigrad/_launch.pyx
    COPY_CALL = 1
    FILL_CALL = 2
    PRODUCT_CALL = 3

cdef struct Device:
    void *(*allocate)(int device, Py_ssize_t nbytes) except NULL                             # or MemoryError
    void (*release)(int device, void *p) noexcept
    int (*upload)(int device, void *to, const void *host, Py_ssize_t n) except -1      # host memory may be reused on return
    int (*download)(int device, void *host, const void *p, Py_ssize_t n) except -1     # waits
    int (*copy)(int device, void *to, int source, const void *p, Py_ssize_t n) except -1   # between or within devices
    int (*put)(int device, void *to, const void *value, int itemsize, Py_ssize_t count) except -1   # one value, repeated
    int (*launch)(void *handle, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units) except -1
    int (*product)(int device, int dt, bint ta, bint tb, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double alpha,
                   const void *a, Py_ssize_t lda, const void *b, Py_ssize_t ldb, double beta, void *y, Py_ssize_t ldy,
                   Py_ssize_t batch, Py_ssize_t stride_a, Py_ssize_t stride_b, Py_ssize_t stride_y) except -1  # row-major
    void *(*errors)(int device) except NULL    # int64[8] that kernels write and the host may read at any time
    int (*raise_errors)(int device) except -1  # what a kernel has complained about, as a Python exception
    void *(*graph)(int device, Work **calls, Py_ssize_t n) except? NULL   # the calls as one; NULL: here each is made alone
    int (*replay)(void *graph) except -1       # make them, with what stands in them now; 1: not with these addresses
    void (*forget)(void *graph) noexcept

# --- the driver: names and prototypes of cuda.h -----------------------------------------------------------------------

ctypedef int CUresult
ctypedef int CUdevice
ctypedef int CUdevice_attribute
ctypedef int CUmemPool_attribute
ctypedef int CUfunction_attribute
ctypedef unsigned long long CUdeviceptr
ctypedef void *CUcontext
ctypedef void *CUstream
ctypedef void *CUevent
ctypedef void *CUmemoryPool
ctypedef void *CUmodule
ctypedef void *CUfunction
ctypedef void *CUkernel
ctypedef void *CUgraph
ctypedef void *CUgraphNode
ctypedef void *CUgraphExec
ctypedef int CUstreamCaptureMode
ctypedef int CUstreamCaptureStatus
ctypedef void CUgraphEdgeData
ctypedef unsigned long long cuuint64_t

cdef struct CUmemLocation:
    int type
    int id

cdef struct CUmemPoolProps:
    int allocType
    int handleTypes
    CUmemLocation location
    void *win32SecurityAttributes
    size_t maxSize
    unsigned short usage
    unsigned char reserved[54]

cdef struct CUDA_KERNEL_NODE_PARAMS:
    CUfunction func
    unsigned int gridDimX
    unsigned int gridDimY
    unsigned int gridDimZ
    unsigned int blockDimX
    unsigned int blockDimY
    unsigned int blockDimZ
    unsigned int sharedMemBytes
    void **kernelParams
    void **extra
    CUkernel kern
    CUcontext ctx

cdef enum:
    CUDA_SUCCESS = 0
    CUDA_ERROR_OUT_OF_MEMORY = 2
    CUDA_ERROR_NOT_READY = 600
    CUDA_ERROR_STREAM_CAPTURE_INVALIDATED = 901
    CU_STREAM_DEFAULT = 0
    CU_STREAM_NON_BLOCKING = 1
    CU_STREAM_CAPTURE_MODE_RELAXED = 2
    CU_STREAM_CAPTURE_STATUS_ACTIVE = 1
    CU_EVENT_DEFAULT = 0
    CU_EVENT_DISABLE_TIMING = 2
    CU_MEM_ALLOCATION_TYPE_PINNED = 1
    CU_MEM_HANDLE_TYPE_NONE = 0
    CU_MEM_LOCATION_TYPE_DEVICE = 1
    CU_MEMPOOL_ATTR_RELEASE_THRESHOLD = 4
    CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT = 5
    CU_MEMPOOL_ATTR_USED_MEM_CURRENT = 7
    CU_MEMPOOL_ATTR_USED_MEM_HIGH = 8
    CU_MEMHOSTALLOC_PORTABLE = 1
    CU_MEMHOSTALLOC_DEVICEMAP = 2
    CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES = 8
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR = 75
    CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR = 76

cdef struct Driver:
    CUresult (*cuGetErrorName)(CUresult error, const char **pStr) noexcept nogil
    CUresult (*cuGetErrorString)(CUresult error, const char **pStr) noexcept nogil
    CUresult (*cuInit)(unsigned int Flags) noexcept nogil
    CUresult (*cuDeviceGetCount)(int *count) noexcept nogil
    CUresult (*cuDeviceGet)(CUdevice *device, int ordinal) noexcept nogil
    CUresult (*cuDeviceGetName)(char *name, int len, CUdevice dev) noexcept nogil
    CUresult (*cuDeviceGetAttribute)(int *pi, CUdevice_attribute attrib, CUdevice dev) noexcept nogil
    CUresult (*cuDevicePrimaryCtxRetain)(CUcontext *pctx, CUdevice dev) noexcept nogil
    CUresult (*cuCtxGetCurrent)(CUcontext *pctx) noexcept nogil
    CUresult (*cuCtxSetCurrent)(CUcontext ctx) noexcept nogil
    CUresult (*cuCtxSynchronize)() noexcept nogil
    CUresult (*cuStreamCreate)(CUstream *phStream, unsigned int Flags) noexcept nogil
    CUresult (*cuStreamSynchronize)(CUstream hStream) noexcept nogil
    CUresult (*cuStreamWaitEvent)(CUstream hStream, CUevent hEvent, unsigned int Flags) noexcept nogil
    CUresult (*cuEventCreate)(CUevent *phEvent, unsigned int Flags) noexcept nogil
    CUresult (*cuEventDestroy_v2)(CUevent hEvent) noexcept nogil
    CUresult (*cuEventRecord)(CUevent hEvent, CUstream hStream) noexcept nogil
    CUresult (*cuEventQuery)(CUevent hEvent) noexcept nogil
    CUresult (*cuEventSynchronize)(CUevent hEvent) noexcept nogil
    CUresult (*cuEventElapsedTime)(float *pMilliseconds, CUevent hStart, CUevent hEnd) noexcept nogil
    CUresult (*cuMemPoolCreate)(CUmemoryPool *pool, const CUmemPoolProps *poolProps) noexcept nogil
    CUresult (*cuMemPoolSetAttribute)(CUmemoryPool pool, CUmemPool_attribute attr, void *value) noexcept nogil
    CUresult (*cuMemPoolGetAttribute)(CUmemoryPool pool, CUmemPool_attribute attr, void *value) noexcept nogil
    CUresult (*cuMemPoolTrimTo)(CUmemoryPool pool, size_t minBytesToKeep) noexcept nogil
    CUresult (*cuMemAllocFromPoolAsync)(CUdeviceptr *dptr, size_t bytesize, CUmemoryPool pool, CUstream hStream) noexcept nogil
    CUresult (*cuMemFreeAsync)(CUdeviceptr dptr, CUstream hStream) noexcept nogil
    CUresult (*cuMemAlloc_v2)(CUdeviceptr *dptr, size_t bytesize) noexcept nogil
    CUresult (*cuMemGetInfo_v2)(size_t *free, size_t *total) noexcept nogil
    CUresult (*cuMemHostAlloc)(void **pp, size_t bytesize, unsigned int Flags) noexcept nogil
    CUresult (*cuMemHostGetDevicePointer_v2)(CUdeviceptr *pdptr, void *p, unsigned int Flags) noexcept nogil
    CUresult (*cuMemcpyHtoDAsync_v2)(CUdeviceptr dstDevice, const void *srcHost, size_t ByteCount, CUstream hStream) noexcept nogil
    CUresult (*cuMemcpyDtoHAsync_v2)(void *dstHost, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) noexcept nogil
    CUresult (*cuMemcpyDtoDAsync_v2)(CUdeviceptr dstDevice, CUdeviceptr srcDevice, size_t ByteCount, CUstream hStream) noexcept nogil
    CUresult (*cuMemcpyPeerAsync)(CUdeviceptr dstDevice, CUcontext dstContext, CUdeviceptr srcDevice, CUcontext srcContext, size_t ByteCount, CUstream hStream) noexcept nogil
    CUresult (*cuMemsetD8Async)(CUdeviceptr dstDevice, unsigned char uc, size_t N, CUstream hStream) noexcept nogil
    CUresult (*cuMemsetD16Async)(CUdeviceptr dstDevice, unsigned short us, size_t N, CUstream hStream) noexcept nogil
    CUresult (*cuMemsetD32Async)(CUdeviceptr dstDevice, unsigned int ui, size_t N, CUstream hStream) noexcept nogil
    CUresult (*cuMemsetD2D32Async)(CUdeviceptr dstDevice, size_t dstPitch, unsigned int ui, size_t Width, size_t Height, CUstream hStream) noexcept nogil
    CUresult (*cuModuleLoadData)(CUmodule *module, const void *image) noexcept nogil
    CUresult (*cuModuleGetFunction)(CUfunction *hfunc, CUmodule hmod, const char *name) noexcept nogil
    CUresult (*cuFuncSetAttribute)(CUfunction hfunc, CUfunction_attribute attrib, int value) noexcept nogil
    CUresult (*cuLaunchKernel)(CUfunction f, unsigned int gridDimX, unsigned int gridDimY, unsigned int gridDimZ, unsigned int blockDimX, unsigned int blockDimY, unsigned int blockDimZ, unsigned int sharedMemBytes, CUstream hStream, void **kernelParams, void **extra) noexcept nogil
    CUresult (*cuStreamBeginCapture_v2)(CUstream hStream, CUstreamCaptureMode mode) noexcept nogil
    CUresult (*cuStreamGetCaptureInfo_v3)(CUstream hStream, CUstreamCaptureStatus *captureStatus_out, cuuint64_t *id_out, CUgraph *graph_out, const CUgraphNode **dependencies_out, const CUgraphEdgeData **edgeData_out, size_t *numDependencies_out) noexcept nogil
    CUresult (*cuStreamEndCapture)(CUstream hStream, CUgraph *phGraph) noexcept nogil
    CUresult (*cuGraphInstantiateWithFlags)(CUgraphExec *phGraphExec, CUgraph hGraph, unsigned long long flags) noexcept nogil
    CUresult (*cuGraphExecKernelNodeSetParams_v2)(CUgraphExec hGraphExec, CUgraphNode hNode, const CUDA_KERNEL_NODE_PARAMS *nodeParams) noexcept nogil
    CUresult (*cuGraphLaunch)(CUgraphExec hGraphExec, CUstream hStream) noexcept nogil
    CUresult (*cuGraphExecDestroy)(CUgraphExec hGraphExec) noexcept nogil
    CUresult (*cuGraphDestroy)(CUgraph hGraph) noexcept nogil

DRIVER = (  # the fields of Driver
    "cuGetErrorName cuGetErrorString cuInit cuDeviceGetCount cuDeviceGet cuDeviceGetName cuDeviceGetAttribute "
    "cuDevicePrimaryCtxRetain cuCtxGetCurrent cuCtxSetCurrent cuCtxSynchronize cuStreamCreate cuStreamSynchronize "
    "cuStreamWaitEvent cuEventCreate cuEventDestroy_v2 cuEventRecord cuEventQuery cuEventSynchronize cuEventElapsedTime "
    "cuMemPoolCreate cuMemPoolSetAttribute cuMemPoolGetAttribute cuMemPoolTrimTo cuMemAllocFromPoolAsync cuMemFreeAsync "
    "cuMemAlloc_v2 cuMemGetInfo_v2 cuMemHostAlloc cuMemHostGetDevicePointer_v2 cuMemcpyHtoDAsync_v2 cuMemcpyDtoHAsync_v2 "
    "cuMemcpyDtoDAsync_v2 cuMemcpyPeerAsync cuMemsetD8Async cuMemsetD16Async cuMemsetD32Async "
    "cuMemsetD2D32Async cuModuleLoadData cuModuleGetFunction cuFuncSetAttribute cuLaunchKernel "
    "cuStreamBeginCapture_v2 cuStreamGetCaptureInfo_v3 cuStreamEndCapture cuGraphInstantiateWithFlags "
    "cuGraphExecKernelNodeSetParams_v2 cuGraphLaunch cuGraphExecDestroy cuGraphDestroy"
).split()

# --- cuBLAS: of cublas_api.h ------------------------------------------------------------------------------------------

ctypedef int cublasStatus_t
ctypedef int cublasOperation_t
ctypedef int cudaDataType
ctypedef int cublasComputeType_t
ctypedef int cublasGemmAlgo_t
ctypedef int cublasMath_t
ctypedef void *cublasHandle_t

cdef enum:
    CUBLAS_OP_N = 0
    CUBLAS_OP_T = 1
    CUBLAS_DEFAULT_MATH = 0
    CUBLAS_GEMM_DEFAULT = -1
    CUBLAS_COMPUTE_32F = 68
    CUBLAS_COMPUTE_64F = 70
    CUDA_R_32F = 0
    CUDA_R_64F = 1

cdef struct Blas:
    const char *(*cublasGetStatusName)(cublasStatus_t status) noexcept nogil
    cublasStatus_t (*cublasCreate_v2)(cublasHandle_t *handle) noexcept nogil
    cublasStatus_t (*cublasSetStream_v2)(cublasHandle_t handle, CUstream streamId) noexcept nogil
    cublasStatus_t (*cublasSetWorkspace_v2)(cublasHandle_t handle, void *workspace, size_t workspaceSizeInBytes) noexcept nogil
    cublasStatus_t (*cublasSetMathMode)(cublasHandle_t handle, cublasMath_t mode) noexcept nogil
    cublasStatus_t (*cublasGemmEx_64)(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *A, cudaDataType Atype, int64_t lda, const void *B, cudaDataType Btype, int64_t ldb, const void *beta, void *C, cudaDataType Ctype, int64_t ldc, cublasComputeType_t computeType, cublasGemmAlgo_t algo) noexcept nogil
    cublasStatus_t (*cublasGemmStridedBatchedEx_64)(cublasHandle_t handle, cublasOperation_t transa, cublasOperation_t transb, int64_t m, int64_t n, int64_t k, const void *alpha, const void *A, cudaDataType Atype, int64_t lda, long long int strideA, const void *B, cudaDataType Btype, int64_t ldb, long long int strideB, const void *beta, void *C, cudaDataType Ctype, int64_t ldc, long long int strideC, int64_t batchCount, cublasComputeType_t computeType, cublasGemmAlgo_t algo) noexcept nogil

BLAS = (  # the fields of Blas
    "cublasGetStatusName cublasCreate_v2 cublasSetStream_v2 cublasSetWorkspace_v2 cublasSetMathMode cublasGemmEx_64 "
    "cublasGemmStridedBatchedEx_64"
).split()

# --- state ------------------------------------------------------------------------------------------------------------

cdef enum:
    GPUS = 64
    PARTS = 4              # of the pinned ring
    PART = 1 << 20         # bytes of each
    WORKSPACE = 32 << 20   # of cuBLAS: what NVIDIA advises for Hopper
    PLAIN_SHARED = 48 << 10   # bytes of shared memory that a kernel may have without asking
    ARGUMENTS = 96
    DIMS = 40              # of a parameter that holds all further dims

cdef struct Gpu:
    CUdevice device
    CUcontext context
    CUstream stream
    CUstream side               # where graphs are captured; made when the first one is
    CUmemoryPool pool
    CUevent mark                # for other streams
    char *ring
    CUevent[PARTS] passed       # when a part of the ring was left
    int part
    Py_ssize_t used             # bytes of it
    int64_t *errors
    CUdeviceptr errors_there    # the same block, as kernels see it
    cublasHandle_t blas
    void *workspace

cdef struct Handle:
    CUfunction function
    int through                 # else: launch the ``strided`` of the handle in this buffer
    Handle *strided             # the same operation on any strides, made by ``stride`` when it is asked for
    PyObject *stride
    int device, count           # arguments
    unsigned int block, shared, granted   # threads; bytes of shared memory, and how many the driver was asked to allow
    Py_ssize_t per, most        # units a block; blocks
    Py_ssize_t dims             # that ``blocks`` and ``shares`` see
    PyObject *blocks            # functions of (units, dims), or NULL
    PyObject *shares
    char[ARGUMENTS] kind
    uint8_t[ARGUMENTS] index

cdef Driver cu
cdef Blas blas
cdef Gpu[GPUS] gpus
cdef Device functions
cdef int count = 0
cdef bint started = False, forked = False, closing = False, strict = STRICT
cdef uint64_t BIT = <uint64_t>1 << 63
open_blas = None                # a function that loads cuBLAS
libraries = []                  # kept alive


cdef int look_up(object library, list names, void **place) except -1:
    for i, name in enumerate(names):
        place[i] = <void *><size_t>ctypes.cast(getattr(library, name), ctypes.c_void_p).value
    return 0


def start(library, blas_library):
    """Initialise the driver, a ctypes library; how many GPUs there are. ``blas_library`` loads cuBLAS when it is needed."""
    global count, started, open_blas
    cdef int found = 0
    look_up(library, DRIVER, <void **>&cu)
    check(cu.cuInit(0))
    check(cu.cuDeviceGetCount(&found))
    libraries.append(library)
    count, started, open_blas = min(found, GPUS), True, blas_library
    return count


def table():
    """The address of the engine's table."""
    functions.allocate, functions.release, functions.upload, functions.download = allocate, release, upload, download
    functions.copy, functions.put, functions.launch, functions.product = copy, put, launch, product
    functions.errors, functions.raise_errors = errors, raise_errors
    functions.graph, functions.replay, functions.forget = graph, replay, forget
    return <size_t>&functions


def _after_fork():
    global forked
    forked = started


def _at_exit():
    global closing
    closing = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


cdef int check(CUresult r) except -1:
    """RuntimeError unless the driver's function succeeded."""
    if r == CUDA_SUCCESS:
        return 0
    cdef const char *name = NULL
    cdef const char *text = NULL
    cu.cuGetErrorName(r, &name)
    cu.cuGetErrorString(r, &text)
    word = name.decode() if name != NULL else f"error {r}"
    raise RuntimeError(f"CUDA error: {word}: {text.decode()}" if text != NULL else f"CUDA error: {word}")


cdef int check_blas(cublasStatus_t r) except -1:
    if r == 0:
        return 0
    cdef const char *name = blas.cublasGetStatusName(r)
    raise RuntimeError(f"cuBLAS error: {name.decode() if name != NULL else r}")


cdef Gpu *enter(int device, CUcontext *before) except NULL:
    """The GPU, its context current; ``before`` is what was."""
    if forked:
        raise RuntimeError(FORKED)
    if device < 0 or device >= count:
        raise RuntimeError(f"CUDA error: invalid device ordinal: there is no cuda:{device} among {count} GPU(s)")
    cdef Gpu *g = &gpus[device]
    check(cu.cuCtxGetCurrent(before))
    if g.context == NULL:
        set_up(g, device)
    elif before[0] != g.context:
        check(cu.cuCtxSetCurrent(g.context))
    return g


cdef inline int leave(Gpu *g, CUcontext before, CUresult r) except -1:
    """Put back the context that was current, if there was one; RuntimeError for a failure."""
    if before != g.context and before != NULL:
        cu.cuCtxSetCurrent(before)
    if r != CUDA_SUCCESS:
        check(r)
    return 0


cdef int set_up(Gpu *g, int device) except -1:
    cdef CUmemPoolProps props
    cdef uint64_t most = <uint64_t>-1
    cdef CUcontext context = NULL
    cdef void *block = NULL
    cdef int i
    check(cu.cuDeviceGet(&g.device, device))
    check(cu.cuDevicePrimaryCtxRetain(&context, g.device))
    check(cu.cuCtxSetCurrent(context))
    check(cu.cuStreamCreate(&g.stream, CU_STREAM_DEFAULT))
    memset(&props, 0, sizeof(props))
    props.allocType, props.handleTypes = CU_MEM_ALLOCATION_TYPE_PINNED, CU_MEM_HANDLE_TYPE_NONE
    props.location.type, props.location.id = CU_MEM_LOCATION_TYPE_DEVICE, g.device
    check(cu.cuMemPoolCreate(&g.pool, &props))
    check(cu.cuMemPoolSetAttribute(g.pool, CU_MEMPOOL_ATTR_RELEASE_THRESHOLD, &most))
    check(cu.cuEventCreate(&g.mark, CU_EVENT_DISABLE_TIMING))
    for i in range(PARTS):
        check(cu.cuEventCreate(&g.passed[i], CU_EVENT_DISABLE_TIMING))
    check(cu.cuMemHostAlloc(&block, PARTS * PART, CU_MEMHOSTALLOC_PORTABLE))
    g.ring = <char *>block
    check(cu.cuMemHostAlloc(&block, 8 * sizeof(int64_t), CU_MEMHOSTALLOC_PORTABLE | CU_MEMHOSTALLOC_DEVICEMAP))
    memset(block, 0, 8 * sizeof(int64_t))
    check(cu.cuMemHostGetDevicePointer_v2(&g.errors_there, block, 0))
    g.errors = <int64_t *>block
    g.context = context  # at last: from here on it is in order
    return 0


# --- memory -----------------------------------------------------------------------------------------------------------


cdef void *allocate(int device, Py_ssize_t nbytes) except NULL:
    cdef CUcontext before
    cdef Gpu *g = enter(device, &before)
    cdef CUdeviceptr p = 0
    cdef size_t free = 0, total = 0
    cdef CUresult r = cu.cuMemAllocFromPoolAsync(&p, nbytes, g.pool, g.stream)
    if r == CUDA_ERROR_OUT_OF_MEMORY:  # perhaps what is kept for reuse would do
        with nogil:
            r = cu.cuStreamSynchronize(g.stream)
            if r == CUDA_SUCCESS:
                r = cu.cuMemPoolTrimTo(g.pool, 0)
        if r == CUDA_SUCCESS:
            r = cu.cuMemAllocFromPoolAsync(&p, nbytes, g.pool, g.stream)
    if r == CUDA_ERROR_OUT_OF_MEMORY:
        cu.cuMemGetInfo_v2(&free, &total)
        leave(g, before, CUDA_SUCCESS)
        raise OutOfMemoryError(
            f"CUDA out of memory. Tried to allocate {nbytes:,} bytes. GPU {device} has a total capacity of {total:,} bytes "
            f"of which {free:,} are free. minigrad has allocated {memory(device)[0]:,} bytes there."
        )
    leave(g, before, r)
    return <void *><size_t>p


cdef void release(int device, void *p) noexcept:
    cdef CUcontext before
    if forked or closing:
        return
    cdef Gpu *g = &gpus[device]
    # An error that a kernel has caused is told by the next call that can.
    if cu.cuCtxGetCurrent(&before) == CUDA_SUCCESS:
        if before != g.context:
            cu.cuCtxSetCurrent(g.context)
        cu.cuMemFreeAsync(<CUdeviceptr><size_t>p, g.stream)
        if before != g.context and before != NULL:
            cu.cuCtxSetCurrent(before)


cdef CUresult stage(Gpu *g, Py_ssize_t n, char **place) noexcept:
    """Room for n <= PART bytes in the pinned ring, for one copy that follows."""
    cdef CUresult r = CUDA_SUCCESS
    cdef int following
    while g.used + n > PART:
        following = (g.part + 1) % PARTS
        r = cu.cuEventQuery(g.passed[following])
        if r == CUDA_ERROR_NOT_READY:
            with nogil:
                r = cu.cuEventSynchronize(g.passed[following])
            if r != CUDA_SUCCESS:
                return r
            continue  # another thread may have moved on meanwhile
        if r == CUDA_SUCCESS:
            r = cu.cuEventRecord(g.passed[g.part], g.stream)
        if r != CUDA_SUCCESS:
            return r
        g.part, g.used = following, 0
    place[0] = g.ring + g.part * PART + g.used
    g.used += (n + 63) & -64
    return r


cdef int upload(int device, void *to, const void *host, Py_ssize_t n) except -1:
    cdef CUcontext before
    cdef Gpu *g
    cdef char *place
    cdef CUresult r
    if n <= 0:
        return 0
    g = enter(device, &before)
    if n <= PART:
        r = stage(g, n, &place)
        if r == CUDA_SUCCESS:
            memcpy(place, host, n)
            r = cu.cuMemcpyHtoDAsync_v2(<CUdeviceptr><size_t>to, place, n, g.stream)
    else:
        with nogil:
            r = cu.cuMemcpyHtoDAsync_v2(<CUdeviceptr><size_t>to, host, n, g.stream)
            if r == CUDA_SUCCESS:
                r = cu.cuStreamSynchronize(g.stream)
    return leave(g, before, r)


def send(int device, size_t to, size_t host, Py_ssize_t n):
    """Have a GPU copy n > 0 bytes from page-locked memory by itself; they must stay until an event that is recorded next."""
    cdef CUcontext before
    cdef Gpu *g = enter(device, &before)
    leave(g, before, cu.cuMemcpyHtoDAsync_v2(<CUdeviceptr>to, <const void *>host, n, g.stream))


cdef int download(int device, void *host, const void *p, Py_ssize_t n) except -1:
    cdef CUcontext before
    cdef Gpu *g
    cdef CUresult r
    if n <= 0:
        return 0
    g = enter(device, &before)
    with nogil:
        r = cu.cuMemcpyDtoHAsync_v2(host, <CUdeviceptr><size_t>p, n, g.stream)
        if r == CUDA_SUCCESS:
            r = cu.cuStreamSynchronize(g.stream)
    return leave(g, before, r)


cdef int copy(int device, void *to, int source, const void *p, Py_ssize_t n) except -1:
    cdef CUcontext before, other
    cdef Gpu *g
    cdef Gpu *s
    cdef CUresult r
    if n <= 0:
        return 0
    g = enter(device, &before)
    if source == device:
        r = cu.cuMemcpyDtoDAsync_v2(<CUdeviceptr><size_t>to, <CUdeviceptr><size_t>p, n, g.stream)
        return leave(g, before, r)
    # The copy runs on the stream of ``device``: after what the source's has done, and before what it does next.
    s = enter(source, &other)
    r = cu.cuEventRecord(s.mark, s.stream)
    cu.cuCtxSetCurrent(g.context)
    if r == CUDA_SUCCESS:
        r = cu.cuStreamWaitEvent(g.stream, s.mark, 0)
    if r == CUDA_SUCCESS:
        r = cu.cuMemcpyPeerAsync(<CUdeviceptr><size_t>to, g.context, <CUdeviceptr><size_t>p, s.context, n, g.stream)
    if r == CUDA_SUCCESS:
        r = cu.cuEventRecord(g.mark, g.stream)
    cu.cuCtxSetCurrent(s.context)
    if r == CUDA_SUCCESS:
        r = cu.cuStreamWaitEvent(s.stream, g.mark, 0)
    cu.cuCtxSetCurrent(g.context)
    return leave(g, before, r)


cdef int put(int device, void *to, const void *value, int itemsize, Py_ssize_t count) except -1:
    cdef CUcontext before
    cdef Gpu *g
    if count <= 0:
        return 0
    g = enter(device, &before)
    return leave(g, before, fill(<CUdeviceptr><size_t>to, value, itemsize, count, g.stream))


cdef CUresult fill(CUdeviceptr p, const void *value, int itemsize, Py_ssize_t count, CUstream stream) noexcept:
    cdef const uint32_t *half = <const uint32_t *>value
    cdef Py_ssize_t done, more
    cdef CUresult r
    if itemsize == 1:
        return cu.cuMemsetD8Async(p, (<const uint8_t *>value)[0], count, stream)
    if itemsize == 2:
        return cu.cuMemsetD16Async(p, (<const uint16_t *>value)[0], count, stream)
    if itemsize == 4:
        return cu.cuMemsetD32Async(p, half[0], count, stream)
    if half[0] == half[1]:
        return cu.cuMemsetD32Async(p, half[0], 2 * count, stream)
    done = min(count, 8192)  # the first 64 KiB by halves, and then by copying what is there
    r = cu.cuMemsetD2D32Async(p, 8, half[0], 1, done, stream)
    if r == CUDA_SUCCESS:
        r = cu.cuMemsetD2D32Async(p + 4, 8, half[1], 1, done, stream)
    while r == CUDA_SUCCESS and done < count:
        more = min(done, count - done)
        r = cu.cuMemcpyDtoDAsync_v2(p + 8 * done, p, 8 * more, stream)
        done += more
    return r


# --- kernels ----------------------------------------------------------------------------------------------------------


def handle(int device, bytes image, str entry, arguments, int block, Py_ssize_t per, Py_ssize_t most, blocks=None,
           shared=0, stride=None):
    """Load a kernel from a cubin; the handle that the engine launches it by, for good.

    ``arguments``: (kind, index) of each parameter, as ``contract.arguments`` lists them. The grid has ceil(units / per)
    blocks, or ``blocks(units, dims)``, at most ``most``; each has ``block`` threads and ``shared`` bytes of dynamic shared
    memory, a number or a function of (units, dims). ``stride``: makes the handle of the operation on any strides.
    """
    cdef CUcontext before
    cdef Gpu *g = enter(device, &before)
    cdef CUmodule module = NULL
    cdef CUfunction function = NULL
    cdef bytes name = entry.encode()
    cdef const char *image_at = image
    cdef const char *name_at = name
    cdef CUresult r = cu.cuModuleLoadData(&module, image_at)
    if r == CUDA_SUCCESS:
        r = cu.cuModuleGetFunction(&function, module, name_at)
    leave(g, before, r)
    if len(arguments) > ARGUMENTS:
        raise ValueError(f"{entry}: a kernel takes at most {ARGUMENTS} arguments, not {len(arguments)}")
    cdef Handle *h = <Handle *>calloc(1, sizeof(Handle))
    if h == NULL:
        raise MemoryError
    h.function, h.device, h.block, h.per, h.most, h.count = function, device, block, per, most, len(arguments)
    h.granted = PLAIN_SHARED
    if stride is not None:
        Py_INCREF(stride)
        h.stride = <PyObject *>stride
    for i, (kind, index, *_) in enumerate(arguments):
        h.kind[i], h.index[i] = ord(KINDS[kind]), index
        if kind in ("int64", "dims"):
            h.dims = max(h.dims, index + (0 if kind == "dims" else 1))
    if blocks is not None:
        Py_INCREF(blocks)
        h.blocks = <PyObject *>blocks
    if callable(shared):
        Py_INCREF(shared)
        h.shares = <PyObject *>shared
    else:
        h.shared = shared
    return <uint64_t><size_t>h | BIT


def through(int buffer):
    """The handle of a kernel that calls another by address, on the CPU: here it launches the strided twin of the one whose
    handle is in that buffer."""
    cdef Handle *h = <Handle *>calloc(1, sizeof(Handle))
    if h == NULL:
        raise MemoryError
    h.through = buffer
    return <uint64_t><size_t>h | BIT


cdef inline Handle *handle_at(void *address) noexcept:
    return <Handle *><size_t>(<uint64_t><size_t>address & ~BIT)


cdef Handle *strided(Handle *h) except NULL:
    if h.strided == NULL:
        if h.stride == NULL:
            raise RuntimeError("this kernel has no twin for other strides")
        h.strided = handle_at(<void *><size_t><uint64_t>(<object>h.stride)())
    return h.strided


KINDS = {"buffer": "p", "int64": "i", "dims": "m", "float32": "f", "float64": "d", "device_scalars": "s", "errors": "e",
         "units": "u"}


cdef Handle *geometry(Handle *h, void **bufs, Py_ssize_t *dims, Py_ssize_t units, unsigned int *blocks,
                      unsigned int *shared) except NULL:
    """The handle of what is launched, and its grid."""
    cdef Py_ssize_t n
    cdef Py_ssize_t i
    if h.function == NULL:
        h = strided(handle_at(bufs[h.through]))
    n, shared[0] = (units + h.per - 1) // h.per, h.shared
    if h.blocks != NULL or h.shares != NULL:
        sizes = tuple([dims[i] for i in range(h.dims)])
        if h.blocks != NULL:
            n = (<object>h.blocks)(units, sizes)
        if h.shares != NULL:
            shared[0] = (<object>h.shares)(units, sizes)
    blocks[0] = <unsigned int>max(1, min(n, h.most))
    return h


cdef CUresult grant(Handle *h, unsigned int shared) noexcept:
    """Have the driver allow so much shared memory."""
    cdef CUresult r = CUDA_SUCCESS
    if shared > h.granted:
        r = cu.cuFuncSetAttribute(h.function, CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, <int>shared)
        h.granted = shared
    return r


cdef int launch(void *handle, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units) except -1:
    cdef Handle *h
    cdef void *places[ARGUMENTS]
    cdef float singles[ARGUMENTS]
    cdef CUcontext before
    cdef Gpu *g
    cdef unsigned int blocks, shared
    cdef CUresult r
    cdef char kind
    cdef int i, at
    h = geometry(handle_at(handle), bufs, dims, units, &blocks, &shared)
    g = enter(h.device, &before)
    for i in range(h.count):
        kind, at = h.kind[i], h.index[i]
        if kind == c"p":
            places[i] = &bufs[at]
        elif kind == c"i" or kind == c"m":  # of the latter, the driver reads DIMS
            places[i] = &dims[at]
        elif kind == c"f":
            singles[i] = <float>scalars[at]
            places[i] = &singles[i]
        elif kind == c"d":
            places[i] = &scalars[at]
        elif kind == c"s":
            places[i] = &scalars
        elif kind == c"e":
            places[i] = &g.errors_there
        else:
            places[i] = &units
    r = grant(h, shared)
    if r == CUDA_SUCCESS:
        r = cu.cuLaunchKernel(h.function, blocks, 1, 1, h.block, 1, 1, shared, g.stream, places, NULL)
    leave(g, before, r)
    if strict:
        synchronize(h.device)
    return 0


cdef void *errors(int device) except NULL:
    cdef CUcontext before
    cdef Gpu *g = enter(device, &before)
    leave(g, before, CUDA_SUCCESS)
    return g.errors


cdef int raise_errors(int device) except -1:
    cdef Gpu *g = &gpus[device]
    cdef int64_t[4] found
    if forked or g.errors == NULL or g.errors[0] == 0:
        return 0
    wait(device)  # until it is written wholly, and nobody writes it any more
    memcpy(found, g.errors, sizeof(found))
    memset(g.errors, 0, 8 * sizeof(int64_t))
    raise complaint(found[0], found[1], found[2], found[3])


# --- products ---------------------------------------------------------------------------------------------------------


cdef int set_up_blas(Gpu *g, int device) except -1:
    cdef cublasHandle_t handle = NULL
    cdef void *workspace
    if blas.cublasGemmStridedBatchedEx_64 == NULL:  # the last one that is looked up
        library = open_blas()
        try:
            look_up(library, BLAS, <void **>&blas)
        except AttributeError as error:
            raise RuntimeError(f"cuBLAS is too old; CUDA 12 or later is needed ({error})") from error
        libraries.append(library)
    workspace = allocate(device, WORKSPACE)  # first: it makes room where our pool has taken all
    check_blas(blas.cublasCreate_v2(&handle))
    check_blas(turn(handle, g.stream, workspace))
    check_blas(blas.cublasSetMathMode(handle, CUBLAS_DEFAULT_MATH))
    g.blas, g.workspace = handle, workspace
    return 0


cdef cublasStatus_t turn(cublasHandle_t handle, CUstream stream, void *workspace) noexcept:
    """Let products run on a stream."""
    cdef cublasStatus_t status = blas.cublasSetStream_v2(handle, stream)  # which forgets a workspace
    return status if status != 0 else blas.cublasSetWorkspace_v2(handle, workspace, WORKSPACE)


cdef int product(int device, int dt, bint ta, bint tb, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, double alpha,
                 const void *a, Py_ssize_t lda, const void *b, Py_ssize_t ldb, double beta, void *y, Py_ssize_t ldy,
                 Py_ssize_t batch, Py_ssize_t stride_a, Py_ssize_t stride_b, Py_ssize_t stride_y) except -1:
    """y = alpha op(a) op(b) + beta y, row-major, k > 0; dt is 0 for float32 and 1 for float64."""
    cdef CUcontext before
    cdef Gpu *g
    if m <= 0 or n <= 0 or batch <= 0:
        return 0
    g = enter(device, &before)
    try:
        if g.blas == NULL:
            set_up_blas(g, device)
        check_blas(multiply(g.blas, dt, ta, tb, m, n, k, alpha, a, lda, b, ldb, beta, y, ldy, batch, stride_a, stride_b,
                            stride_y))
    finally:
        leave(g, before, CUDA_SUCCESS)
    return 0


cdef cublasStatus_t multiply(cublasHandle_t handle, int dt, bint ta, bint tb, Py_ssize_t m, Py_ssize_t n, Py_ssize_t k,
                             double alpha, const void *a, Py_ssize_t lda, const void *b, Py_ssize_t ldb, double beta,
                             void *y, Py_ssize_t ldy, Py_ssize_t batch, Py_ssize_t stride_a, Py_ssize_t stride_b,
                             Py_ssize_t stride_y) noexcept:
    """cuBLAS is column-major: there, the same memory holds the transposes, and y.T = op(b).T op(a).T."""
    cdef float single_alpha = <float>alpha, single_beta = <float>beta
    cdef void *scale = &single_alpha
    cdef void *keep = &single_beta
    cdef cudaDataType kind = CUDA_R_32F
    cdef cublasComputeType_t compute = CUBLAS_COMPUTE_32F
    cdef cublasOperation_t opa = CUBLAS_OP_T if ta else CUBLAS_OP_N, opb = CUBLAS_OP_T if tb else CUBLAS_OP_N
    if dt == 1:
        scale, keep, kind, compute = &alpha, &beta, CUDA_R_64F, CUBLAS_COMPUTE_64F
    if batch == 1:
        return blas.cublasGemmEx_64(handle, opb, opa, n, m, k, scale, b, kind, ldb, a, kind, lda, keep, y, kind, ldy,
                                    compute, CUBLAS_GEMM_DEFAULT)
    return blas.cublasGemmStridedBatchedEx_64(handle, opb, opa, n, m, k, scale, b, kind, ldb, stride_b, a, kind, lda,
                                              stride_a, keep, y, kind, ldy, stride_y, batch, compute, CUBLAS_GEMM_DEFAULT)


# --- graphs -----------------------------------------------------------------------------------------------------------

cdef struct Node:               # a call
    CUgraphNode node            # of a kernel
    Handle *handle              # NULL: a copy, a fill or a product
    unsigned int blocks, shared
    Py_ssize_t size             # bytes of its operands

cdef struct Graph:
    int device
    Py_ssize_t count
    Work **calls
    Node *nodes
    char *operands              # of all calls as the graph has them, then room for those of one
    CUgraph graph
    CUgraphExec ready


cdef inline size_t number_of(Work *w) noexcept:
    """Which of COPY_CALL, ...; a large number for a kernel."""
    return <size_t>(<uint64_t><size_t>w.f & ~BIT)


cdef Py_ssize_t room_of(Work *w, Handle *h) noexcept:
    cdef int i
    cdef Py_ssize_t n = 0
    if h == NULL:
        return 8 * (5 if number_of(w) < PRODUCT_CALL else 19)
    for i in range(h.count):
        n += 8 * DIMS if h.kind[i] == c"m" else 8
    return n


cdef void pack(Work *w, Handle *h, Gpu *g, char *to, void **places) noexcept:
    """Write the operands of a call, ``room_of`` bytes; ``places``: of a kernel's arguments."""
    cdef int64_t *words = <int64_t *>to
    cdef size_t number = number_of(w)
    cdef char kind
    cdef int i, at
    if h == NULL:
        i = 1 if number == FILL_CALL else 2 if number == COPY_CALL else 3
        at = 4 if number == FILL_CALL else 3 if number == COPY_CALL else 14
        memcpy(words, w.bufs, 8 * i)
        memcpy(words + i, w.dims, 8 * at)
        if number == PRODUCT_CALL:
            memcpy(words + i + at, w.scalars, 16)
        return
    for i in range(h.count):
        kind, at = h.kind[i], h.index[i]
        places[i] = words
        if kind == c"m":
            memcpy(words, &w.dims[at], 8 * DIMS)
            words += DIMS
            continue
        if kind == c"p":
            words[0] = <int64_t><size_t>w.bufs[at]
        elif kind == c"i":
            words[0] = w.dims[at]
        elif kind == c"f":
            words[0] = 0
            (<float *>words)[0] = <float>w.scalars[at]
        elif kind == c"d":
            (<double *>words)[0] = w.scalars[at]
        elif kind == c"s":
            words[0] = <int64_t><size_t>w.scalars
        elif kind == c"e":
            words[0] = <int64_t>g.errors_there
        else:
            words[0] = w.units
        words += 1


cdef CUresult put_in(Graph *made, Gpu *g) noexcept:
    """Make all calls on the side stream, which captures them."""
    cdef void *places[ARGUMENTS]
    cdef const CUgraphNode *last = NULL
    cdef const CUgraphEdgeData *edges = NULL
    cdef CUstreamCaptureStatus status = 0
    cdef size_t n = 0
    cdef char *operands = made.operands
    cdef CUresult r = CUDA_SUCCESS
    cdef Py_ssize_t i
    cdef Work *w
    cdef Node *node
    cdef Py_ssize_t *d
    for i in range(made.count):
        w, node = made.calls[i], &made.nodes[i]
        d = w.dims
        pack(w, node.handle, g, operands, places)
        operands += node.size
        if node.handle != NULL:
            r = cu.cuLaunchKernel(node.handle.function, node.blocks, 1, 1, node.handle.block, 1, 1, node.shared, g.side,
                                  places, NULL)
            if r == CUDA_SUCCESS:
                r = cu.cuStreamGetCaptureInfo_v3(g.side, &status, NULL, NULL, &last, &edges, &n)
            if r == CUDA_SUCCESS and (status != CU_STREAM_CAPTURE_STATUS_ACTIVE or n != 1):
                r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
            if r == CUDA_SUCCESS:
                node.node = last[0]
        elif number_of(w) == COPY_CALL:
            r = cu.cuMemcpyDtoDAsync_v2(<CUdeviceptr><size_t>w.bufs[0], <CUdeviceptr><size_t>w.bufs[1], d[2], g.side)
        elif number_of(w) == FILL_CALL:
            r = fill(<CUdeviceptr><size_t>w.bufs[0], &d[3], <int>d[1], d[2], g.side)
        elif multiply(g.blas, <int>d[12], d[6], d[7], d[0], d[1], d[2], w.scalars[0], w.bufs[1], d[3], w.bufs[2], d[4],
                      w.scalars[1], w.bufs[0], d[5], d[8], d[9], d[10], d[11]) != 0:
            r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
        if r != CUDA_SUCCESS:
            return r
    return r


cdef int capture(Graph *made, Gpu *g) except -1:
    cdef Py_ssize_t i, size = 0, most = 0
    cdef bint products = False
    cdef cublasStatus_t status = 0
    cdef CUresult r, ended
    cdef Node *node
    made.nodes = <Node *>calloc(made.count + 1, sizeof(Node))
    if made.nodes == NULL:
        raise MemoryError
    for i in range(made.count):  # what may run Python
        node = &made.nodes[i]
        if number_of(made.calls[i]) > PRODUCT_CALL:
            node.handle = geometry(handle_at(made.calls[i].f), made.calls[i].bufs, made.calls[i].dims, made.calls[i].units,
                                   &node.blocks, &node.shared)
            check(grant(node.handle, node.shared))
        products = products or number_of(made.calls[i]) == PRODUCT_CALL
        node.size = room_of(made.calls[i], node.handle)
        size, most = size + node.size, max(most, node.size)
    made.operands = <char *>calloc(1, size + most)
    if made.operands == NULL:
        raise MemoryError
    if g.side == NULL:
        check(cu.cuStreamCreate(&g.side, CU_STREAM_NON_BLOCKING))
    if products and g.blas == NULL:
        set_up_blas(g, made.device)
    if products:
        status = turn(g.blas, g.side, g.workspace)
    r = CUDA_ERROR_STREAM_CAPTURE_INVALIDATED
    if status == 0:
        r = cu.cuStreamBeginCapture_v2(g.side, CU_STREAM_CAPTURE_MODE_RELAXED)
        if r == CUDA_SUCCESS:
            r = put_in(made, g)
            ended = cu.cuStreamEndCapture(g.side, &made.graph)
            r = r if r != CUDA_SUCCESS else ended
    if products and turn(g.blas, g.stream, g.workspace) != 0:
        g.blas = NULL  # a new one is made for the next product
    check(r)
    return check(cu.cuGraphInstantiateWithFlags(&made.ready, made.graph, 0))


cdef void *graph(int device, Work **calls, Py_ssize_t n) except? NULL:
    cdef CUcontext before
    cdef Gpu *g
    cdef Graph *made
    if strict:  # each kernel is waited for
        return NULL
    g = enter(device, &before)
    try:
        made = <Graph *>calloc(1, sizeof(Graph))
        if made == NULL:
            raise MemoryError
        made.device, made.calls, made.count = device, calls, n
        try:
            capture(made, g)
        except BaseException:
            forget(made)
            raise
    finally:
        leave(g, before, CUDA_SUCCESS)
    return made


cdef int replay(void *graph) except -1:
    cdef Graph *made = <Graph *>graph
    cdef void *places[ARGUMENTS]
    cdef CUDA_KERNEL_NODE_PARAMS given
    cdef CUcontext before
    cdef Gpu *g = enter(made.device, &before)
    cdef CUresult r = CUDA_SUCCESS
    cdef char *operands = made.operands
    cdef char *now = made.operands
    cdef Node *node
    cdef Py_ssize_t i
    for i in range(made.count):
        now += made.nodes[i].size
    for i in range(made.count):
        node = &made.nodes[i]
        if node.handle == NULL:
            pack(made.calls[i], NULL, g, now, places)
            if memcmp(operands, now, node.size) != 0:
                leave(g, before, CUDA_SUCCESS)
                return 1
        operands += node.size
    operands = made.operands
    for i in range(made.count):
        node = &made.nodes[i]
        if node.handle != NULL:
            pack(made.calls[i], node.handle, g, now, places)
            if memcmp(operands, now, node.size) != 0:
                memcpy(operands, now, node.size)
                memset(&given, 0, sizeof(given))
                given.func, given.kernelParams, given.sharedMemBytes = node.handle.function, places, node.shared
                given.gridDimX, given.gridDimY, given.gridDimZ = node.blocks, 1, 1
                given.blockDimX, given.blockDimY, given.blockDimZ = node.handle.block, 1, 1
                r = cu.cuGraphExecKernelNodeSetParams_v2(made.ready, node.node, &given)
                if r != CUDA_SUCCESS:
                    break
        operands += node.size
    if r == CUDA_SUCCESS:
        r = cu.cuGraphLaunch(made.ready, g.stream)
    leave(g, before, r)
    return 0


cdef void forget(void *graph) noexcept:
    """One that still runs is freed by the driver when it has."""
    cdef Graph *made = <Graph *>graph
    cdef CUcontext before
    if not forked and not closing and cu.cuCtxGetCurrent(&before) == CUDA_SUCCESS:
        cu.cuCtxSetCurrent(gpus[made.device].context)
        if made.ready != NULL:
            cu.cuGraphExecDestroy(made.ready)
        if made.graph != NULL:
            cu.cuGraphDestroy(made.graph)
        if before != NULL:
            cu.cuCtxSetCurrent(before)
    free(made.nodes)
    free(made.operands)
    free(made)


# --- for Python -------------------------------------------------------------------------------------------------------


cpdef int wait(int device) except -1:
    """Wait for all work on a GPU, on all its streams; not at the interpreter's end, nor in a forked child."""
    cdef CUcontext before
    cdef Gpu *g
    cdef CUresult r
    if closing or forked:
        return 0
    g = enter(device, &before)
    with nogil:
        r = cu.cuCtxSynchronize()
    return leave(g, before, r)


def synchronize(int device):
    """Wait for all work on a GPU; raises what its kernels have complained about."""
    errors(device)  # refuses what cannot be
    wait(device)
    raise_errors(device)


def memory(int device):
    """Bytes in use, the most of them since the last ``reset_peak``, and bytes in the pool."""
    cdef uint64_t used = 0, peak = 0, reserved = 0
    cdef CUcontext before
    cdef Gpu *g
    if not (0 <= device < count) or gpus[device].context == NULL:  # asking is not using
        return 0, 0, 0
    g = enter(device, &before)
    cdef CUresult r = cu.cuMemPoolGetAttribute(g.pool, CU_MEMPOOL_ATTR_USED_MEM_CURRENT, &used)
    if r == CUDA_SUCCESS:
        r = cu.cuMemPoolGetAttribute(g.pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &peak)
    if r == CUDA_SUCCESS:
        r = cu.cuMemPoolGetAttribute(g.pool, CU_MEMPOOL_ATTR_RESERVED_MEM_CURRENT, &reserved)
    leave(g, before, r)
    return used, peak, reserved


def reset_peak(int device):
    """Start a new peak for ``memory``."""
    cdef uint64_t zero = 0
    cdef CUcontext before
    cdef Gpu *g = enter(device, &before)
    leave(g, before, cu.cuMemPoolSetAttribute(g.pool, CU_MEMPOOL_ATTR_USED_MEM_HIGH, &zero))


def trim(int device):
    """Give memory that is kept for reuse back to the driver."""
    cdef CUcontext before
    if gpus[device].context == NULL:
        return
    cdef Gpu *g = enter(device, &before)
    cdef CUresult r
    with nogil:
        r = cu.cuStreamSynchronize(g.stream)
        if r == CUDA_SUCCESS:
            r = cu.cuMemPoolTrimTo(g.pool, 0)
    leave(g, before, r)


def properties(int device):
    """The name of a GPU, and its compute capability, such as (9, 0)."""
    cdef CUdevice d = 0
    cdef char[256] name
    cdef int major = 0, minor = 0
    if forked:
        raise RuntimeError(FORKED)
    check(cu.cuDeviceGet(&d, device))
    check(cu.cuDeviceGetName(name, 256, d))
    check(cu.cuDeviceGetAttribute(&major, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, d))
    check(cu.cuDeviceGetAttribute(&minor, CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, d))
    return (<bytes>name).decode(), (major, minor)


def stream(int device):
    """The stream of a GPU, as an address."""
    cdef CUcontext before
    cdef Gpu *g = enter(device, &before)
    leave(g, before, CUDA_SUCCESS)
    return <size_t>g.stream


def order(int device, size_t other, bint ours_first):
    """Make the stream ``other`` wait for what ours has been given so far, or ours for ``other``."""
    cdef CUcontext before
    cdef Gpu *g
    if closing or forked:
        return
    g = enter(device, &before)
    cdef CUresult r = cu.cuEventRecord(g.mark, g.stream if ours_first else <CUstream>other)
    if r == CUDA_SUCCESS:
        r = cu.cuStreamWaitEvent(<CUstream>other if ours_first else g.stream, g.mark, 0)
    leave(g, before, r)


@cython.final
cdef class Event:
    """A moment in a GPU's stream."""
    cdef CUevent event
    cdef readonly int device

    def __init__(self, int device, bint timing):
        cdef CUcontext before
        cdef Gpu *g = enter(device, &before)
        self.device = device
        leave(g, before, cu.cuEventCreate(&self.event, CU_EVENT_DEFAULT if timing else CU_EVENT_DISABLE_TIMING))

    def __dealloc__(self):
        if self.event != NULL and not forked and not closing:
            cu.cuEventDestroy_v2(self.event)

    def record(self):
        """Now is after everything that the stream has been given."""
        cdef CUcontext before
        cdef Gpu *g = enter(self.device, &before)
        leave(g, before, cu.cuEventRecord(self.event, g.stream))

    def query(self):
        """Whether it has passed."""
        cdef CUcontext before
        cdef Gpu *g = enter(self.device, &before)
        cdef CUresult r = cu.cuEventQuery(self.event)
        leave(g, before, CUDA_SUCCESS if r == CUDA_ERROR_NOT_READY else r)
        return r == CUDA_SUCCESS

    def wait(self, int device):
        """What the stream of ``device`` is given from now on comes after it."""
        cdef CUcontext before
        cdef Gpu *g = enter(device, &before)
        leave(g, before, cu.cuStreamWaitEvent(g.stream, self.event, 0))

    def synchronize(self):
        """Wait until it has passed."""
        cdef CUcontext before
        cdef Gpu *g = enter(self.device, &before)
        cdef CUresult r
        with nogil:
            r = cu.cuEventSynchronize(self.event)
        leave(g, before, r)

    def elapsed(self, Event end):
        """Milliseconds from here to ``end``."""
        cdef CUcontext before
        cdef Gpu *g = enter(self.device, &before)
        cdef float milliseconds = 0
        leave(g, before, cu.cuEventElapsedTime(&milliseconds, self.event, end.event))
        return milliseconds
