"""The memory that training steps take at most, beyond what was there before them: five MLPs at batch 2,048."""

import json
import subprocess
import sys
from pathlib import Path

from . import steps
from .common import load

BATCH = 2_048
FRAMEWORKS = ("minigrad", "torch", "torch fused")


def resident(field):
    """VmRSS (now) or VmHWM (at most so far) of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def megabytes(framework, case, count=5):
    """The high-water mark of ``count`` steps above the resident set before them, in MB; for a fresh process.

    Before them are the imports, the data, the model and its optimizer without state; minigrad's threads too, and with
    them Numba, which a long run imports one day, and PyTorch with torch. Memory that was freed meanwhile does not count
    as there: minigrad gives it back first.
    """
    m = load(framework)
    if framework == "minigrad":
        m.start_threads()
    sizes = steps.NETS[case][0]
    step = steps.make_torch(m, framework, *steps.data(sizes, BATCH))
    if framework == "minigrad":
        m.memory.trim()
    Path("/proc/self/clear_refs").write_text("5")  # forget the high-water mark of making the data
    before = resident("VmRSS")
    for _ in range(count):
        step()
    return resident("VmHWM") - before


def compare(case):
    """{framework: MB}, each in a process of its own; after another one, which may compile kernels."""
    found = {}
    for framework in (FRAMEWORKS[0], *FRAMEWORKS):
        script = f"import json; from suite import memory; print(json.dumps(memory.megabytes({framework!r}, {case!r})))"
        folder = Path(__file__).parent.parent
        done = subprocess.run([sys.executable, "-c", script], cwd=folder, check=True, stdout=subprocess.PIPE)
        found[framework] = json.loads(done.stdout)
    return found


class Memory:
    params = (list(FRAMEWORKS), list(steps.NETS))
    param_names = ("framework", "network")
    unit = "MB"
    timeout = 300

    def track_peak(self, framework, network):
        return megabytes(framework, network)
