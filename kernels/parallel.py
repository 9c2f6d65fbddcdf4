"""The one Numba-parallel function: it runs any kernel over equal chunks of its range.

DESIGN
a. Exactly one function has ``parallel=True``, so its quirks live here. It calls a kernel by address from inside
   ``prange`` through a small intrinsic; the Cython engine calls the driver by pointer without the GIL.
b. A kernel's units are independent (contract.py, DESIGN a), so the number of chunks changes no bit of the result;
   it is the number of threads.
c. Importing this module imports Numba (0.2 s), so the engine does it only when the first large piece of work comes.
   ``numba.get_num_threads()`` starts the thread pool: without it a driver loaded from Numba's cache crashes.
d. Numba's own number of threads, which users may set, is put back after each call: it says how many threads meet.
"""

import numba
from numba import cfunc, njit, prange, types
from numba.extending import intrinsic

_pointers = (types.CPointer(types.voidptr), types.CPointer(types.intp), types.CPointer(types.float64))
_signature = types.void(types.intp, *_pointers, types.intp, types.intp, types.intp)
_get_num_threads = types.ExternalFunction("get_num_threads", types.intc())  # of the pool; ``numba``'s are not cached
_set_num_threads = types.ExternalFunction("set_num_threads", types.void(types.intc))


@intrinsic
def _call(typing, kernel, bufs, dims, scalars, lo, hi):
    """``kernel(bufs, dims, scalars, lo, hi)`` where ``kernel`` is an address."""
    from llvmlite import ir

    def generate(context, builder, signature, arguments):
        values = [context.get_value_type(t) for t in signature.args[1:]]
        function = ir.FunctionType(ir.VoidType(), values)
        builder.call(builder.inttoptr(arguments[0], function.as_pointer()), arguments[1:])
        return context.get_dummy_value()

    return types.void(kernel, bufs, dims, scalars, lo, hi), generate


def _chunks(kernel, bufs, dims, scalars, units, chunks):
    for c in prange(chunks):
        _call(kernel, bufs, dims, scalars, units * c // chunks, units * (c + 1) // chunks)


def _enter(kernel, bufs, dims, scalars, units, chunks, team):
    before = _get_num_threads()
    _set_num_threads(team)
    _run(kernel, bufs, dims, scalars, units, chunks)
    _set_num_threads(before)


def _compile(cache):
    global _run
    _run = njit(parallel=True, nogil=True, cache=cache, error_model="numpy")(_chunks)
    return cfunc(_signature, nopython=True, cache=cache, error_model="numpy")(_enter)


numba.get_num_threads()
try:
    _driver = _compile(cache=True)
except Exception:  # of Numba's cache: no folder that it may write, a full disk, a damaged file
    _driver = _compile(cache=False)


def address() -> int:
    """The driver in C: void (intptr_t kernel, void **, intptr_t *, double *, intptr_t units, chunks, team)."""
    return _driver.address


def layer() -> str:
    """The pool's kind: omp, tbb or workqueue."""
    return numba.threading_layer()


def pool() -> int:
    """How many threads there are at most."""
    return numba.config.NUMBA_NUM_THREADS
