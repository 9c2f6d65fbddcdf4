"""Views against the contiguous case of as many elements, and reductions along each dimension.

A case is a pattern and a piece of work; "contiguous" is the pattern that the others are to be compared with: none is to
take more than twice as long.
"""

from .common import Case, Timed, load

# 1,000,000 elements each, of float32: the shape of the base, and the view of it
PATTERNS = {
    "contiguous": ((1000, 1000), lambda x: x),
    "transposed": ((1000, 1000), lambda x: x.t()),
    "every second row": ((2000, 1000), lambda x: x[::2]),
    "every second column": ((1000, 2000), lambda x: x[:, ::2]),
    "half of the columns": ((1000, 2000), lambda x: x[:, :1000]),
    "a row for all": ((1, 1000), lambda x: x.expand(1000, 1000)),
    "a column for all": ((1000, 1), lambda x: x.expand(1000, 1000)),
    "channels last": ((10, 40, 50, 50), lambda x: x.permute(0, 2, 3, 1)),
    "channels first": ((10, 50, 50, 40), lambda x: x.permute(0, 3, 1, 2)),
    "heads": ((10, 50, 40, 50), lambda x: x.transpose(1, 2)),
}
WORK = ("copy", "exp", "add", "add in place", "sum", "sum of rows")
SHAPES = {"1,000 x 1,000": (1000, 1000), "10,000 x 100": (10_000, 100), "100 x 10,000": (100, 10_000)}
REDUCTIONS = ("sum", "mean", "amax", "max", "argmax", "prod", "var", "norm", "logsumexp", "softmax", "cumsum")

CASES = {f"{work}, {name}": Case() for work in WORK for name in PATTERNS}
del CASES["add in place, a row for all"], CASES["add in place, a column for all"]
CASES |= {f"{f} over {d}, {n}": Case() for f in REDUCTIONS for n in SHAPES for d in (0, 1)}
WAYS = ("minigrad", "torch")


def make(framework, case):
    import numpy as np

    m = load(framework, WAYS)
    random = np.random.default_rng(0)
    work, name = case.split(", ", 1)

    def tensor(shape):
        return m.tensor(random.random(shape, np.float32) + np.float32(0.5))

    if name in SHAPES:
        f, dim = work.split(" over ")
        x, f, dim = tensor(SHAPES[name]), getattr(m, f), int(dim)
        return (lambda: f(x, dim=dim)) if f is m.norm else (lambda: f(x, dim))
    shape, pattern = PATTERNS[name]
    x = pattern(tensor(shape))
    y = tensor(tuple(x.shape))
    return {
        "copy": lambda: y.copy_(x),
        "exp": lambda: m.exp(x),
        "add": lambda: x + y,
        "add in place": lambda: x.add_(y),
        "sum": lambda: m.sum(x),
        "sum of rows": lambda: m.sum(x, -1),
    }[work]


class Strides(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)
