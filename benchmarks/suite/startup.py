"""Seconds from the start of a process to the end of its first training step (784-128-10@64).

Kernels and Python's bytecode are cached, as after any earlier run; neither framework is given NumPy before. The figure
counts for an installed package: an editable install, whose loader keeps no bytecode, takes 0.15 s more.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time

from .common import load

SCRIPT = """
import {name} as m
nn = m.nn
model = nn.Sequential(nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))
optimizer = m.optim.Adam(model.parameters())
x, y = m.randn(64, 784), m.randint(0, 10, (64,))
optimizer.zero_grad()
nn.functional.cross_entropy(model(x), y).backward()
optimizer.step()
"""


def seconds(frameworks, times=7):
    """{framework: sorted seconds} in turns; the first turn, which may compile and fills the disk's cache, left out."""
    found = {name: [] for name in frameworks}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    for _ in range(times + 1):
        for name, list_ in found.items():
            start = time.perf_counter()
            command = [sys.executable, "-c", SCRIPT.format(name=name)]
            subprocess.run(command, check=True, env=environment, cwd=tempfile.gettempdir())  # not where a checkout lies
            list_.append(time.perf_counter() - start)
    return {name: sorted(list_[1:]) for name, list_ in found.items()}


class Startup:
    params = (["minigrad", "torch"],)
    param_names = ("framework",)
    unit = "seconds"
    timeout = 300

    def setup(self, framework):
        load(framework)

    def track_first_step(self, framework):
        return statistics.median(seconds([framework], 5)[framework])
