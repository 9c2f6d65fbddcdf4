# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Running kernels: serially, or shared among threads where that has been seen to pay.

DESIGN
a. A kernel's units are independent, so who computes which never changes a bit: this file may choose freely, call by
   call. Callers estimate the serial time of the work, ``cost`` in nanoseconds; only ratios of estimates matter.
b. Small work runs at once, with the GIL. Work above SHARE may be shared. The parallel driver needs Numba, whose import
   costs some 0.4 s, so it is loaded once the process has done enough work that two threads would have saved that much.
c. Threads are kept only while they help. A busy neighbour can make a shared call 50 times slower than a serial one,
   since every thread waits for the one that was descheduled. So both ways are timed, as running means of elapsed time
   per estimated time: when sharing is not faster, calls run serially, and sharing is tried again after 10 ms, then ever
   more rarely while it keeps failing, down to twice a second.
d. One thread at a time drives the pool; others run serially meanwhile. After a fork the child stays serial, because
   OpenMP's pool does not survive it.
"""

import os

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
# driver. WEIGHT: of a new measurement in the running means. RETRY: nanoseconds until sharing is tried again, at first
# and at most. PROBES: trials that must be faster in a row.
cdef double RELEASE = 20_000, SHARE = 12_000, DEBT = 1e9, WEIGHT = 0.05, RETRY = 1e7, RETRY_MOST = 5e8
cdef int PROBES = 3

cdef driver_t driver = NULL
cdef bint driver_busy = False
cdef bint forked = False
cdef int threads = 0
cdef double shareable = 0

cdef double serial_rate = 0, shared_rate = 0   # running means of elapsed / estimated time; 0: not yet measured
cdef bint sharing = True
cdef double next_trial = 0, interval = RETRY
cdef int won = -1


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
    """Whether threads are in use, and the running means of elapsed per estimated time, shared and serial."""
    return {"started": driver != NULL, "sharing": driver != NULL and sharing, "shared": shared_rate,
            "serial": serial_rate}


def _after_fork():
    global forked
    forked = True


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


cdef int launch(kernel_t f, void **bufs, Py_ssize_t *dims, double *scalars, Py_ssize_t units, double cost) except -1:
    """Run ``units`` units of a kernel whose estimated serial time is ``cost`` nanoseconds."""
    global driver_busy, shareable
    cdef double start
    cdef Py_ssize_t chunks
    if units <= 0:
        return 0
    if cost < SHARE or units == 1 or threads == 1 or forked:
        if cost > RELEASE:
            with nogil:
                f(bufs, dims, scalars, 0, units)
        else:
            f(bufs, dims, scalars, 0, units)
        return 0
    if driver == NULL:
        shareable += cost
        if shareable > DEBT:
            start_threads()
    if driver != NULL and not driver_busy and may_share():
        chunks = threads if threads < units else units
        driver_busy = True
        with nogil:
            start = mg_now()
            driver(<Py_ssize_t>f, bufs, dims, scalars, units, chunks)
            start = mg_now() - start
        driver_busy = False
        shared_took(start / cost)
    else:
        with nogil:
            start = mg_now()
            f(bufs, dims, scalars, 0, units)
            start = mg_now() - start
        serial_took(start / cost)
    return 0


cdef inline bint may_share() noexcept:
    """Whether this call is shared: always while that pays, else when the next trial is due."""
    return sharing or mg_now() >= next_trial


cdef int serial_took(double rate) noexcept:
    global serial_rate
    # a serial call interrupted by the scheduler says nothing about sharing: outliers count for little
    if serial_rate > 0 and rate > 4 * serial_rate:
        rate = 4 * serial_rate
    serial_rate = rate if serial_rate == 0 else serial_rate + WEIGHT * (rate - serial_rate)
    return 0


cdef int shared_took(double rate) noexcept:
    """Note a shared call and decide how the next ones run."""
    global shared_rate, sharing, next_trial, interval, won
    if sharing:
        shared_rate = rate if shared_rate == 0 else shared_rate + WEIGHT * (rate - shared_rate)
        if serial_rate > 0 and shared_rate > serial_rate:
            sharing, won = False, -1
            next_trial = mg_now() + interval
        elif interval > RETRY:
            interval = interval * 0.999  # long good behaviour is rewarded: trials will be early again
        return 0
    if won < 0 or rate < 0.9 * serial_rate:  # the first call of a trial only wakes the threads up
        won += 1
        if won == PROBES:
            sharing, shared_rate = True, rate
    else:
        won = -1
        interval = 2 * interval if interval < RETRY_MOST else RETRY_MOST
        next_trial = mg_now() + interval
    return 0
