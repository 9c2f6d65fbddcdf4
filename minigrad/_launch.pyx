# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Running kernels: serially, or shared among threads where that has been seen to pay.

DESIGN
a. A kernel's units are independent, so who computes which never changes a bit: this file may choose freely, call by
   call. Callers hold the GIL and estimate the serial time of the work, ``cost`` in nanoseconds.
b. Small work runs at once, with the GIL. Work of WORTH fork-joins may be shared; what a fork-join costs is measured
   when the parallel driver is loaded (1.3 us with OpenMP, 100 with Numba's workqueue). The driver needs Numba, whose
   import costs some 0.4 s, so it is loaded, in a thread of its own, once the process has done enough work that two
   threads would have saved that much. More threads than cores never help: a team is no larger.
c. Estimates and machines differ, so each kernel at each size (a slot) has its calls timed, serial and shared ones: what
   takes less time is done. The other way is tried now and then, sharing in a row of BURST calls: the kernels of a step
   leave data in each other's caches, so that they gain by sharing together. (Single calls, tried one by one, kept a
   step serial that takes 282 us so and 215 when shared.)
d. A busy neighbour can make a shared call 50 times slower than a serial one, since every thread waits for the one that
   was descheduled. So every shared call adds what it saved against serial ones to a purse, or takes what it lost. An
   empty purse makes calls serial for as long as the loss was, then a trial starts with a purse that pays for one stall,
   such as when another pool's threads still spin (8 ms in GNU OpenMP). Each failure doubles the pause, up to PATIENCE
   times the loss: where a neighbour stays busy, threads cost at most 1 / PATIENCE of the time. Savings beyond a full
   purse make pauses shorter again.
e. One thread at a time drives the pool; others run serially meanwhile. Workqueue aborts the process when two threads
   use it, and the second may be a user's own parallel function: there, only a process with one Python thread shares.
   After a fork the child stays serial, because OpenMP's pool does not survive it.
f. ``launch`` does not fail, so that an optimizer's step is done or not done. At the interpreter's end, daemon threads
   may be computing: ``_at_exit`` waits until no kernel runs without the GIL, and none begins to, since libraries are
   unloaded next.
"""

import atexit
import os

from libc.math cimport frexp
from libc.stdint cimport uint64_t

from .kernels import contract
from ._record cimport describe, recorder, recording
from ._storage cimport COPY_CALL, FILL_CALL, PRODUCT_CALL, devices

cdef extern from "<time.h>" nogil:
    """
    #ifdef _WIN32
    #include <windows.h>
    static double mg_now(void) {
        LARGE_INTEGER c, f; QueryPerformanceCounter(&c); QueryPerformanceFrequency(&f); return 1e9 * c.QuadPart / f.QuadPart;
    }
    #else
    #include <time.h>
    static double mg_now(void) { struct timespec t; clock_gettime(CLOCK_MONOTONIC, &t); return 1e9 * t.tv_sec + t.tv_nsec; }
    #endif
    """
    double mg_now()

cdef extern from *:
    """
    static int mg_one_thread(void) {
        PyThreadState *first = PyInterpreterState_ThreadHead(PyInterpreterState_Main());
        return PyThreadState_Next(first) == NULL;
    }
    """
    bint mg_one_thread()

ctypedef void (*driver_t)(Py_ssize_t, void **, Py_ssize_t *, double *, Py_ssize_t, Py_ssize_t,
                          Py_ssize_t) noexcept nogil

# Nanoseconds of estimated work: from RELEASE on the GIL is released, from ``share`` on threads may help; DEBT loads the
# driver. Of the purse: what a trial starts with, and the most it holds.
cdef double RELEASE = 20_000, DEBT = 1e9
cdef double TRIAL = 1e7, MOST = 2e7, PATIENCE = 32
# WEIGHT: of a new measurement in a running mean. FIRST: serial calls in a slot before it is shared. BURST: shared calls
# of a trial. REST, LONGEST: calls until the slower way is tried again, at first and at most. WORTH:
# fork-joins of work that may be shared; TYPICAL: one.
cdef double WEIGHT = 0.1, WORTH = 5, TYPICAL = 2_000
cdef int FIRST = 3, BURST = 32, REST = 512, LONGEST = 8192

cdef driver_t driver = NULL
cdef bint loading = False, driver_busy = False, forked = False, closing = False
cdef bint not_threadsafe = False     # the pool: Numba's workqueue
cdef int threads = 0, pool = 0x7FFFFFFF, cores = 1, team = 1
cdef int running = 0                 # kernels without the GIL
cdef double shareable = 0, fork_join = TYPICAL, share = 0

cdef struct Slot:                    # by kernel and size
    double[2] mean                   # elapsed / estimated time of serial calls, and of shared ones
    int[2] calls                     # how many, up to FIRST
    bint way                         # what is done at present: 1 is sharing
    int left, since, rest            # calls of a trial that are left; calls since the last; calls until the next

cdef enum:
    SLOTS = 4096
cdef Slot[SLOTS] slots
cdef double purse = TRIAL
cdef bint sharing = True             # else every call is serial until ``next_trial``
cdef bint always = False             # every call that may be shared is
cdef Py_ssize_t shared_calls = 0
cdef double next_trial = 0, patience = 1


def _cores():
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _default_threads():
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    return int(asked) if asked.isdigit() and int(asked) > 0 else _cores()


cdef int settle() except -1:
    """How many threads share a call, and from what cost on."""
    global team, share
    team = min(threads, pool) if always else min(threads, pool, cores)
    share = WORTH * (TYPICAL if always else fork_join)
    return 0


def get_num_threads():
    """The number of threads that large operations may use."""
    return threads


def set_num_threads(n):
    """Use at most ``n`` threads, and no more than there are cores; results do not depend on it, not in one bit."""
    global threads
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"set_num_threads expects an int, but got {type(n).__name__}")
    if n < 1:
        raise ValueError(f"set_num_threads: n must be at least 1, got {n}")
    threads = n.__index__()
    settle()


cores = _cores()
set_num_threads(_default_threads())


def start_threads():
    """Start the thread pool now, instead of once the process has done 1 s of work that threads could have shared."""
    if driver == NULL and (always or team > 1):  # with one core, TBB's would never end
        contract.aside(_load_driver)()


def _load_driver():
    global driver, not_threadsafe, pool, fork_join, share
    cdef driver_t found
    cdef double start, end
    cdef int i
    from .kernels import parallel

    found = <driver_t><size_t>parallel.address()
    not_threadsafe, pool = parallel.layer() == "workqueue", parallel.pool()
    settle()
    if not_threadsafe:  # a user's thread may be using the pool now
        fork_join = 100_000
    else:
        fork_join, end = 5_000, mg_now() + 2e7
        for i in range(50):
            with nogil:
                start = mg_now()
                found(<Py_ssize_t>&nothing, NULL, NULL, NULL, team, team, team)
                start = mg_now() - start
            fork_join = min(start, fork_join)  # at most: this moment may be a busy one
            if mg_now() > end:
                break
    settle()
    driver = found


cdef void nothing(void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t lo, Py_ssize_t hi) noexcept nogil:
    pass


def thread_stats():
    """Whether threads were started, whether calls are shared at present, seconds in the purse (DESIGN d), shared calls,
    seconds a fork-join takes."""
    return {"started": driver != NULL, "sharing": sharing, "purse": 1e-9 * purse, "calls": shared_calls,
            "fork_join": 1e-9 * fork_join}


def share_always(bint on=True):
    """Start the threads and share all work large enough, paying or not: so tests see what threads compute."""
    global always
    always = on
    settle()
    start_threads()


def _after_fork():
    global forked, running
    forked, running = True, 0


def _at_exit():
    global closing
    import time

    closing = True
    while running:
        time.sleep(0.001)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(_at_exit)


cdef bint leave_python() noexcept:
    """Before kernels run without the GIL; False if none may any more (DESIGN f)."""
    global running
    if closing:
        return False
    running += 1
    return True


cdef int enter_python() noexcept:
    """After them."""
    global running
    running -= 1
    return 0


cdef double now() noexcept nogil:
    """Nanoseconds of a clock that only goes forward."""
    return mg_now()


cdef int launch(kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units, double cost) except -1:
    """Run ``units`` units of a kernel whose estimated serial time is ``cost`` nanoseconds."""
    global driver_busy, shareable, shared_calls, running
    cdef double start
    cdef Slot *slot
    if units <= 0:
        return 0
    if <Py_ssize_t>f < 0:  # the handle of a kernel for another device
        return launch_there(f, bufs, dims, scalars, units)
    if recorder is not None and recording():
        recorder.kernel(f, bufs, dims, scalars, units, cost)
    if cost < share or units == 1 or team == 1 or forked or closing:
        if cost > RELEASE and not closing:
            running += 1
            with nogil:
                f(bufs, dims, scalars, 0, units)
            running -= 1
        else:
            f(bufs, dims, scalars, 0, units)
        return 0
    if driver == NULL and not loading:
        shareable += cost
        if shareable > DEBT:
            load_later()
    slot = slot_of(f, cost)
    running += 1
    if driver != NULL and not driver_busy and (always or pays(slot)) and not (not_threadsafe and not mg_one_thread()):
        driver_busy = True
        with nogil:
            start = mg_now()
            driver(<Py_ssize_t>f, bufs, dims, scalars, units, min(<Py_ssize_t>threads if always else team, units), team)
            start = mg_now() - start
        driver_busy = False
        shared_calls += 1
        if not always:
            shared_took(cost * slot.mean[0] - start)
        took(slot, 1, start / cost)
    else:
        with nogil:
            start = mg_now()
            f(bufs, dims, scalars, 0, units)
            start = mg_now() - start
        took(slot, 0, start / cost)
    running -= 1
    return 0


# What a device does besides kernels, by handles of our own: a recorder hears of it as of any call.
# copy: bufs to, from; dims device, that of the source (-1: the CPU), bytes.
# fill: bufs to; dims device, bytes of an element, how many, and the value in the first bytes of the last.
# product: bufs y, a, b; dims m, n, k, lda, ldb, ldy, ta, tb, batch, stride_a, stride_b, stride_y, dtype, device; scalars
# alpha, beta.
cdef size_t DISTANT = <size_t>1 << 63
cdef kernel_t COPY_THERE = <kernel_t>(DISTANT | COPY_CALL), FILL_THERE = <kernel_t>(DISTANT | FILL_CALL)
cdef kernel_t PRODUCT_THERE = <kernel_t>(DISTANT | PRODUCT_CALL)
describe(COPY_THERE, "device.copy", 2, 3, 0)
describe(FILL_THERE, "device.fill", 1, 4, 0)
describe(PRODUCT_THERE, "device.product", 3, 14, 2)


cdef int launch_there(kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units) except -1:
    """``launch`` on another device."""
    if recorder is not None and recording():
        recorder.kernel(f, bufs, dims, scalars, units, 0)
    if f == COPY_THERE:
        if dims[1] < 0:
            return devices.upload(<int>dims[0], bufs[0], bufs[1], dims[2])
        return devices.copy(<int>dims[0], bufs[0], <int>dims[1], bufs[1], dims[2])
    if f == FILL_THERE:
        return devices.put(<int>dims[0], bufs[0], &dims[3], <int>dims[1], dims[2])
    if f == PRODUCT_THERE:
        return devices.product(<int>dims[13], <int>dims[12], dims[6], dims[7], dims[0], dims[1], dims[2], scalars[0],
                               bufs[1], dims[3], bufs[2], dims[4], scalars[1], bufs[0], dims[5], dims[8], dims[9],
                               dims[10], dims[11])
    return devices.launch(<void *>f, bufs, dims, scalars, units)


cdef int load_later() noexcept:
    """Load the driver, at last; a process that cannot stays serial."""
    global loading
    loading = True
    try:
        contract.aside(_load_driver, warn="threads cannot be used")
    except BaseException:
        pass
    return 0


cdef inline Slot *slot_of(kernel_t f, double cost) noexcept:
    cdef int exponent
    frexp(cost, &exponent)
    return &slots[((<uint64_t>f >> 4) * 64 + <uint64_t>exponent) * <uint64_t>0x9E3779B97F4A7C15 >> 52]


cdef bint pays(Slot *slot) noexcept:
    """Whether to share a call now (DESIGN c, d)."""
    cdef bint better
    if slot.calls[0] < FIRST or not (sharing or mg_now() >= next_trial):
        return False
    if slot.rest == 0:  # never shared
        slot.rest, slot.left, slot.way = REST, BURST, True
    if slot.left > 0:
        slot.left -= 1
        return slot.way
    better = slot.mean[1] < 1.02 * slot.mean[0]
    slot.since += 1
    if slot.since > slot.rest:
        slot.since, slot.rest = 0, min(2 * slot.rest, LONGEST)
        slot.left = 4 if better else BURST
        better = not better
    slot.way = better
    return better


cdef int took(Slot *slot, int kind, double rate) noexcept:
    """Note a call; a first one is cold and an interrupted one an accident, so that slow ones count for little."""
    if slot.calls[kind] < FIRST:
        slot.mean[kind] = rate if slot.calls[kind] == 0 else min(rate, slot.mean[kind])
        slot.calls[kind] += 1
    else:
        slot.mean[kind] += WEIGHT * (min(rate, 2 * slot.mean[kind]) - slot.mean[kind])
    return 0


cdef int shared_took(double saved) noexcept:
    """Note how many nanoseconds a shared call saved, and decide how the next ones run."""
    global purse, sharing, next_trial, patience
    purse += saved
    if purse > MOST:
        patience = max(1, patience - (purse - MOST) / TRIAL)
        purse = MOST
    sharing = purse > 0
    if not sharing:
        next_trial = mg_now() + patience * (TRIAL - purse)
        patience = min(2 * patience, PATIENCE)
        purse = TRIAL
    return 0
