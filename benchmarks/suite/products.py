"""The matrix products of a training step alone: what no framework can save, hence the limit of a step's ratios."""

from . import steps
from .common import Case, Timed, load

CASES = {f"{name}, products only": Case(flops=case.flops) for name, case in steps.CASES.items()}
WAYS = ("minigrad", "torch")


def make(framework, case):
    """y = x w.T, dw = dy.T x and, but for the first layer, dx = dy w, for every layer."""
    m = load(framework, WAYS)
    sizes, batch, _ = steps.NETS[case.split(",")[0]]
    layers = [
        (m.randn(batch, a), m.randn(b, a), m.randn(batch, b), i) for i, (a, b) in enumerate(zip(sizes, sizes[1:]))
    ]

    def run():
        for x, w, dy, i in layers:
            x @ w.t()
            dy.t() @ x
            if i:
                dy @ w

    return run


class Products(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)
