"""The memory that training steps take at most, beyond what the imports take: five MLPs at batch 2,048."""

from pathlib import Path

from . import steps
from .common import load

BATCH = 2_048


def resident(field):
    """VmRSS (now) or VmHWM (at most so far) of this process in MB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1000 for line in lines if line.startswith(field))


def megabytes(framework, case, count=5):
    """The high-water mark of ``count`` steps above the resident set before them, in MB; for a fresh process."""
    m = load(framework)
    sizes = steps.NETS[case][0]
    step = steps.make_torch(m, framework, *steps.data(sizes, BATCH))
    before = resident("VmRSS")
    for _ in range(count):
        step()
    return resident("VmHWM") - before


class Memory:
    params = (["minigrad", "torch", "torch fused"], list(steps.NETS))
    param_names = ("framework", "network")
    unit = "MB"
    timeout = 300

    def track_peak(self, framework, network):
        return megabytes(framework, network)
