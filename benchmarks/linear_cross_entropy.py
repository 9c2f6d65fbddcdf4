"""The head of a language model, 256 features to 32,000 classes at 4,096 rows: memory and time of a step.

Training (forward and backward) and evaluation (no_grad), each by ``linear_cross_entropy`` and by ``linear`` and
``cross_entropy``, beside PyTorch's chunked ``linear_cross_entropy`` and PyTorch's ``linear`` and ``cross_entropy``.
Every contender has a process of its own. Memory is the high-water mark of the resident set above what is there before
the step: its inputs, the libraries, and what a tiny step leaves behind. The gradients are part of it.

    .venv/bin/python benchmarks/linear_cross_entropy.py            # writes results/
    .venv/bin/python benchmarks/linear_cross_entropy.py --quick    # a small head, only printed: does it still run?
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from harness import Contender, clean_environment, row, take_turns, write

clean_environment()

SIZES = (4096, 256, 32000)  # rows, features, classes
QUICK, TINY = (512, 32, 4000), (16, 4, 20)
WAYS = {  # name: (framework, in chunks)
    "minigrad": ("minigrad", True),
    "minigrad linear + cross_entropy": ("minigrad", False),
    "torch chunked": ("torch", True),
    "torch linear + cross_entropy": ("torch", False),
}
PLAIN = "minigrad linear + cross_entropy"
GOAL = {"memory": 0.25, "time": 1.2}  # of what PLAIN takes in training


def make_step(name, chunked, training, sizes):
    """A step of the head: the loss and, in training, the gradients of the features and of the weight."""
    import numpy as np

    m = importlib.import_module(name)
    m.set_num_threads(2)
    F, rng, (n, d, c) = m.nn.functional, np.random.default_rng(0), sizes
    x, w = rng.standard_normal((n, d), "f4"), rng.standard_normal((c, d), "f4")
    w *= 0.05
    x, w = m.from_numpy(x).requires_grad_(training), m.from_numpy(w).requires_grad_(training)
    target = m.from_numpy(rng.integers(0, c, n))
    options = m.nn.LinearCrossEntropyOptions() if chunked and name == "torch" else None  # None there: not in chunks

    def forward():
        if chunked:
            return F.linear_cross_entropy(x, w, target, options=options)
        return F.cross_entropy(F.linear(x, w), target)

    def train():
        x.grad = w.grad = None
        loss = forward()
        loss.backward()
        return loss.detach()

    return train if training else m.no_grad()(forward)


def resident(field):
    """``VmRSS`` (now) or ``VmHWM`` (the most so far) of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def measure(name, chunked, training, sizes):
    """Print the bytes that two steps take at most, beyond what is there before them."""
    make_step(name, chunked, training, TINY)()  # loads kernels and thread pools
    step = make_step(name, chunked, training, sizes)
    before = resident("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the high-water mark starts again from here
    step()
    step()
    print(json.dumps(resident("VmHWM") - before))


def memory(*arguments):
    """What ``measure`` prints in a process of its own."""
    command = [sys.executable, __file__, "--measure", json.dumps(arguments)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, env=os.environ, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def compare(training, sizes, seconds, rounds, warm):
    """The row of a table, memory included."""
    n, d, c = sizes
    contenders = {way: Contender("make_step", *how, training, sizes) for way, how in WAYS.items()}
    losses = [contender.first for contender in contenders.values()]
    if max(losses) - min(losses) > 1e-5 * losses[0]:
        raise SystemExit(f"the losses differ: {losses}")
    found = row(f"head {d}-{c}@{n}, {'training' if training else 'evaluation'}",
                take_turns(contenders, seconds, rounds, warm))  # fmt: skip
    taken = {way: memory(*how, training, sizes) for way, how in WAYS.items()}
    found["memory"] = {way: f"{round(size / 1e6)} MB" for way, size in taken.items()}
    print(f"{'':31s} {'memory':>10s} {'of plain':>8s} {'time':>12s} {'of plain':>8s}")
    for way, size in taken.items():
        us = found["us"]
        print(f"{way:31s} {size / 1e6:7.1f} MB {size / max(taken[PLAIN], 1):8.2f} {us[way] / 1e3:9.2f} ms "
              f"{us[way] / us[PLAIN]:8.2f}")  # fmt: skip
    return found


def main():
    quick = "--quick" in sys.argv
    timing = (1.0, 3, 0.1) if quick else (60.0, 5, 3.0)
    rows = [compare(training, QUICK if quick else SIZES, *timing) for training in (True, False)]
    print(f"goals in training, of linear + cross_entropy ('plain'): memory {GOAL['memory']}, time {GOAL['time']}")
    if not quick:
        write("linear_cross_entropy", rows)


if __name__ == "__main__":
    if "--measure" in sys.argv:
        measure(*json.loads(sys.argv[-1]))
    else:
        main()
