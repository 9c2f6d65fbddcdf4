"""A training step beside a process that keeps one core busy: threads are not to cost more than they do serially."""

import multiprocessing
import os
import statistics
import time

from .common import load

NETS = ("784-128-10@64", "784-256-128-10@128")
WAYS = {"serial": 1, "threads": None}  # how many; None: as many as there are cores


def spin(core):
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, [core])
    while True:
        pass


def steps(net, count, seconds, queue):
    """Times of single steps for ``seconds``, after as long a warm-up, trials of threads included."""
    from . import steps as family

    m = load("minigrad")
    m.set_num_threads(count or os.cpu_count())
    step = family.make("minigrad", net)
    m.set_num_threads(count or os.cpu_count())
    m.start_threads()
    found, start = [], time.perf_counter()
    before = start
    while before - start < 2 * seconds:
        step()
        now = time.perf_counter()
        if before - start > seconds:
            found.append(now - before)
        before = now
    queue.put(found)


def measure(seconds=4, rounds=3):
    """Rows with the mean and 99th percentile of a step, alone and beside a neighbour, in turns."""
    context = multiprocessing.get_context("spawn")
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else [0]
    rows = []
    for net in NETS:
        for place in ("alone", "beside a busy process"):
            found = {name: [] for name in WAYS}
            for _ in range(rounds):
                for name, count in WAYS.items():
                    other = context.Process(target=spin, args=(cores[-1],), daemon=True) if place != "alone" else None
                    if other:
                        other.start()
                    queue = context.Queue()
                    process = context.Process(target=steps, args=(net, count, seconds, queue))
                    process.start()
                    found[name] += queue.get()
                    process.join()
                    if other:
                        other.terminate()
                        other.join()
            entry = {"work": f"minigrad's step of {net}, {place}", "us": {}}
            for name, times in found.items():
                entry["us"][f"{name}, mean"] = round(1e6 * statistics.mean(times), 1)
                entry["us"][f"{name}, 99 %"] = round(1e6 * sorted(times)[len(times) * 99 // 100], 1)
            entry["mean"] = f"{entry['us']['threads, mean'] / entry['us']['serial, mean']:.2f} of serial"
            print(entry, flush=True)
            rows.append(entry)
    return rows
