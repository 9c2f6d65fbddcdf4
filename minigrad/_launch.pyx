# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Running kernels: serially, or shared among threads where that has been seen to pay.

DESIGN
a. A kernel's units are independent, so who computes which never changes a bit: this file may choose freely, call by
   call. Callers estimate the serial time of the work, ``cost`` in nanoseconds; only ratios of estimates matter.
b. Small work runs at once, with the GIL. Work above SHARE may be shared. The parallel driver needs Numba, whose import
   costs some 0.4 s, so it is loaded once the process has done enough work that two threads would have saved that much.
c. Threads are kept only while they help. A busy neighbour can make a shared call 50 times slower than a serial one,
   since every thread waits for the one that was descheduled. So each kernel's first calls run serially and are timed,
   and shared calls are compared with that: when they are not faster on average, calls run serially, and sharing is
   tried again after 10 ms, then ever more rarely while it keeps failing, down to twice a second.
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
# driver. RETRY: nanoseconds until sharing is tried again, at first and at most.
cdef double RELEASE = 20_000, SHARE = 12_000, DEBT = 1e9, RETRY = 1e7, RETRY_MOST = 5e8
# WEIGHT: of a new measurement in a running mean. FIRST: serial calls of a kernel before it is shared. A trial is WAKE
# calls, until threads are awake and have their part of the data in their caches, and TRIAL calls that count.
cdef double WEIGHT = 0.05
cdef int FIRST = 3, WAKE = 8, TRIAL = 8

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
cdef double spent = 0, expected = 0  # running means of the time of shared calls, and of what they take serially
cdef bint sharing = False            # else every call is serial, but for trials
cdef double next_trial = 0, interval = RETRY
cdef int trial = 0                   # calls of the present trial


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
    """Whether threads were started and are in use, and the time of shared calls by that of the same work in serial."""
    return {"started": driver != NULL, "sharing": sharing,
            "slowdown": spent / expected if expected > 0 else 0.0}


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
    cdef int slot = (<size_t>f >> 4) % SLOTS
    if driver == NULL:
        shareable += cost
        if shareable > DEBT:
            start_threads()
    if driver != NULL and not driver_busy and measured[slot] >= FIRST and (sharing or mg_now() >= next_trial):
        chunks = threads if threads < units else units
        driver_busy = True
        with nogil:
            start = mg_now()
            driver(<Py_ssize_t>f, bufs, dims, scalars, units, chunks)
            start = mg_now() - start
        driver_busy = False
        shared_took(start, cost * serial_rate[slot])
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


cdef int shared_took(double elapsed, double serial) noexcept:
    """Note how long a shared call took, and would have taken serially, and decide how the next ones run."""
    global spent, expected, sharing, next_trial, interval, trial
    cdef bint failed = False
    if sharing:
        spent += WEIGHT * (elapsed - spent)
        expected += WEIGHT * (serial - expected)
        failed = spent > expected
        if interval > RETRY:
            interval = 0.999 * interval  # after long good behaviour trials will be early again
    else:
        trial += 1
        if trial <= WAKE + 1:
            spent = expected = 0
        spent += elapsed / TRIAL
        expected += serial / TRIAL
        if trial == WAKE + TRIAL:
            sharing = spent < 0.9 * expected
            failed = not sharing
        elif elapsed > 4 * serial and elapsed > 2e5:
            failed = trial > 1  # a stall: no need to see more of them
        if failed:
            interval = 2 * interval if interval < RETRY_MOST else RETRY_MOST
    if failed:
        sharing = False
        next_trial = mg_now() + interval
    if failed or sharing:
        trial = 0
    return 0
