"""The head of a language model, 256 features to 32,000 classes at 4,096 rows: memory and time of a training step.

Memory is the high-water mark of the resident set above where it stood before the step, each in a process of its own.
"""

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path

from harness import Contender, clean_environment, row, take_turns, write

clean_environment()

N, D, C = 4096, 256, 32000
WAYS = {  # name: (framework, chunked)
    "minigrad": ("minigrad", True),
    "minigrad linear + cross_entropy": ("minigrad", False),
    "torch chunked": ("torch", True),
    "torch linear + cross_entropy": ("torch", False),
}
GOAL = {"memory": 0.25, "time": 1.2}  # of what linear + cross_entropy takes


def make_step(name, chunked):
    """Forward and backward of the head; the gradients of the features and of the weight."""
    import numpy as np

    m = importlib.import_module(name)
    m.set_num_threads(2)
    F, rng = m.nn.functional, np.random.default_rng(0)
    x = m.from_numpy(rng.standard_normal((N, D)).astype("f4")).requires_grad_(True)
    w = m.from_numpy(rng.standard_normal((C, D)).astype("f4") * 0.05).requires_grad_(True)
    target = m.from_numpy(rng.integers(0, C, N))
    options = m.nn.LinearCrossEntropyOptions() if chunked and name == "torch" else None  # None there: not in chunks

    def step():
        x.grad = w.grad = None
        if chunked:
            loss = F.linear_cross_entropy(x, w, target, options=options)
        else:
            loss = F.cross_entropy(F.linear(x, w), target)
        loss.backward()
        return loss.detach()

    return step


def high_water():
    """The most memory that this process has had, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))


def measure(name, chunked):
    """Bytes that the second step takes at most, beyond the state before any step; kernels are loaded by the first."""
    step = make_step(name, chunked)
    before = high_water()
    step()
    step()
    print(json.dumps(high_water() - before))


def memory(name, chunked):
    done = subprocess.run(
        [sys.executable, __file__, name, str(int(chunked))], capture_output=True, text=True, env=os.environ, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


def main():
    megabytes = {way: round(memory(*arguments) / 1e6) for way, arguments in WAYS.items()}
    print(megabytes)
    contenders = {way: Contender("make_step", *arguments) for way, arguments in WAYS.items()}
    losses = [c.first for c in contenders.values()]
    if max(losses) - min(losses) > 1e-5 * losses[0]:
        raise SystemExit(f"the losses differ: {losses}")
    found = row(f"head {D}-{C}@{N}", take_turns(contenders, seconds=60, rounds=5, warm=3))
    found["memory"] = {way: f"{size} MB" for way, size in megabytes.items()}
    plain = "minigrad linear + cross_entropy"
    print(f"memory: {megabytes['minigrad'] / megabytes[plain]:.2f} of linear + cross_entropy, goal {GOAL['memory']}")
    print(f"time: {1 / found['ratio'][plain]:.2f} of linear + cross_entropy, goal {GOAL['time']}")
    write("linear_cross_entropy", [found])


if __name__ == "__main__":
    if len(sys.argv) > 1:
        measure(sys.argv[1], sys.argv[2] == "1")
    else:
        main()
