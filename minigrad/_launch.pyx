# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Running kernels: serially, or shared among threads where that has been seen to pay.

DESIGN
a. A kernel's units are independent, so who computes which never changes a bit: this file may choose freely, call by
   call. Callers estimate the serial time of the work, ``cost`` in nanoseconds; only ratios of estimates matter.
b. Small work runs at once, with the GIL. Work above SHARE may be shared. The parallel driver needs Numba, whose import
   costs some 0.4 s, so it is loaded once the process has done enough work that two threads would have saved that much.
c. Threads are kept only while they help. A busy neighbour can make a shared call 50 times slower than a serial one,
   since every thread waits for the one that was descheduled. So each kernel's first calls run serially and are timed,
   and every shared call adds what it saved against that to a purse, or takes what it lost. An empty purse makes calls
   serial for as long as the loss was, then a trial starts with a purse that pays for one stall, such as when another
   pool's threads still spin (8 ms in GNU OpenMP). Each failure doubles the pause, up to PATIENCE times the loss: where
   a neighbour stays busy, threads cost at most 1 / PATIENCE of the time. Savings of PROOF make pauses short again.
d. One thread at a time drives the pool; others run serially meanwhile. After a fork the child stays serial, because
   OpenMP's pool does not survive it.
"""

import os

from ._record cimport recorder, recording

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

ctypedef void (*driver_t)(Py_ssize_t, void **, Py_ssize_t *, double *, Py_ssize_t, Py_ssize_t) noexcept nogil

# Nanoseconds of estimated work: from RELEASE on the GIL is released, from SHARE on threads may help; DEBT loads the
# driver. Of the purse: what a trial starts with, what proves that threads pay, the most it holds.
cdef double RELEASE = 20_000, SHARE = 12_000, DEBT = 1e9
cdef double TRIAL = 1e7, PROOF = 1.5e7, MOST = 2e7, PATIENCE = 16
# WEIGHT: of a new measurement in a running mean. FIRST: serial calls of a kernel before it is shared.
cdef double WEIGHT = 0.05
cdef int FIRST = 3

cdef driver_t driver = NULL
cdef bint driver_busy = False
cdef bint forked = False
cdef int threads = 0
cdef double shareable = 0

# By a hash of the kernel's address: the running mean of elapsed / estimated time when serial, and of how many calls.
cdef enum:
    SLOTS = 64
cdef double serial_rate[SLOTS]
cdef int measured[SLOTS]
cdef double purse = TRIAL
cdef bint sharing = True             # else every call is serial until ``next_trial``
cdef bint always = False             # every call that may be shared is
cdef Py_ssize_t shared_calls = 0
cdef double next_trial = 0, patience = 1


def _default_threads():
    asked = os.environ.get("NUMBA_NUM_THREADS", "")
    if asked.isdigit() and int(asked) > 0:
        return int(asked)
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


threads = _default_threads()


def get_num_threads():
    """The number of threads that large operations may use."""
    return threads


def set_num_threads(int n):
    """Use at most ``n`` threads; results do not depend on it, not in one bit."""
    global threads
    if n < 1:
        raise ValueError(f"set_num_threads: n must be at least 1, got {n}")
    threads = n


def start_threads():
    """Start the thread pool now, instead of once the process has done 1 s of work that threads could have shared."""
    global driver
    if driver == NULL:
        from .kernels import parallel

        driver = <driver_t><size_t>parallel.address()


def thread_stats():
    """Whether threads were started, whether calls are shared at present, seconds in the purse (DESIGN c), shared calls."""
    return {"started": driver != NULL, "sharing": sharing, "purse": 1e-9 * purse, "calls": shared_calls}


def share_always(bint on=True):
    """Start the threads and share all work large enough, paying or not: so tests see what threads compute."""
    global always
    start_threads()
    always = on


def _after_fork():
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef double now() noexcept nogil:
    """Nanoseconds of a clock that only goes forward."""
    return mg_now()


cdef int launch(kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units, double cost) except -1:
    """Run ``units`` units of a kernel whose estimated serial time is ``cost`` nanoseconds."""
    global driver_busy, shareable, shared_calls
    cdef double start
    cdef Py_ssize_t chunks
    if units <= 0:
        return 0
    if recorder is not None and recording():
        recorder.kernel(f, bufs, dims, scalars, units, cost)
    if cost < SHARE or units == 1 or threads == 1 or forked:
        if cost > RELEASE:
            with nogil:
                f(bufs, dims, scalars, 0, units)
        else:
            f(bufs, dims, scalars, 0, units)
        return 0
    cdef int slot = (<size_t>f >> 4) % SLOTS
    if driver == NULL:
        shareable += cost
        if shareable > DEBT:
            start_threads()
    if driver != NULL and not driver_busy and (
            always or (measured[slot] >= FIRST and (sharing or mg_now() >= next_trial))):
        chunks = threads if threads < units else units
        driver_busy = True
        with nogil:
            start = mg_now()
            driver(<Py_ssize_t>f, bufs, dims, scalars, units, chunks)
            start = mg_now() - start
        driver_busy = False
        shared_calls += 1
        if not always:
            shared_took(cost * serial_rate[slot] - start)
    else:
        with nogil:
            start = mg_now()
            f(bufs, dims, scalars, 0, units)
            start = mg_now() - start
        serial_took(slot, start / cost)
    return 0


cdef int serial_took(int slot, double rate) noexcept:
    """Note a serial call; a first call is cold and an interrupted one an accident, so that slow ones count for little."""
    if measured[slot] < FIRST:
        serial_rate[slot] = rate if measured[slot] == 0 or rate < serial_rate[slot] else serial_rate[slot]
        measured[slot] += 1
    else:
        serial_rate[slot] += WEIGHT * ((rate if rate < 2 * serial_rate[slot] else 2 * serial_rate[slot]) - serial_rate[slot])
    return 0


cdef int shared_took(double saved) noexcept:
    """Note how many nanoseconds a shared call saved, and decide how the next ones run."""
    global purse, sharing, next_trial, patience
    purse = purse + saved if purse + saved < MOST else MOST
    sharing = purse > 0
    if purse > PROOF:
        patience = 1
    if not sharing:
        next_trial = mg_now() + patience * (TRIAL - purse)
        patience = 2 * patience if patience < PATIENCE else PATIENCE
        purse = TRIAL
    return 0
