"""Matrix products alone: those of a training step, which no framework can save and which limit a step's ratios, and
single ones by shape and by what is transposed."""

from . import steps
from .common import Case, Timed, load

STEPS = {f"{name}, products only": name for name in steps.CASES}
SHAPES = {  # m, n, k
    f"{kind}, {m} x {n} over {k}": (kind, m, n, k)
    for kind, shapes in {
        "x @ w.T": ((64, 128, 784), (256, 512, 784), (64, 1024, 1024), (2048, 64, 64)),
        "dy.T @ x": ((128, 784, 64), (512, 784, 256), (64, 1024, 1024), (64, 64, 2048)),
        "dy @ w": ((128, 256, 128), (256, 512, 512), (64, 1024, 1024), (32, 2048, 512)),
        "row @ w.T": ((1, 128, 784), (1, 2000, 4000)),
    }.items()
    for m, n, k in shapes
}
CASES = {work: Case(flops=steps.CASES[name].flops) for work, name in STEPS.items()} | {
    work: Case(flops=2 * m * n * k) for work, (_, m, n, k) in SHAPES.items()
}
WAYS = ("minigrad", "torch")


def make(framework, case):
    m = load(framework, WAYS)
    return make_step(m, STEPS[case]) if case in STEPS else make_one(m, *SHAPES[case])


def make_step(m, name):
    """y = x w.T, dw = dy.T x and, but for the first layer, dx = dy w, for every layer."""
    sizes, batch, _ = steps.NETS[name]
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


def make_one(module, kind, m, n, k):
    left, right = (k, m) if kind == "dy.T @ x" else (m, k), (n, k) if kind.endswith("w.T") else (k, n)
    a, b = module.randn(*left), module.randn(*right)
    a, b = a.t() if kind == "dy.T @ x" else a, b.t() if kind.endswith("w.T") else b
    return lambda: a @ b


class Products(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)
