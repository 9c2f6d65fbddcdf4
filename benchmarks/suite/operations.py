"""The cost of an operation: tensors of 10 elements, so that the kernel is a small part of it."""

from .common import Case, Speedup, Timed, load

CASES = {
    "a + b": Case({"torch": 8}),
    "a + b, recorded": Case({"torch": 6}),
    "(a + b).sum().backward()": Case({"torch": 25}),
    "20 products, backward": Case({"torch": 18}),
}
WAYS = ("minigrad", "torch")


def make(framework, case):
    m = load(framework, WAYS)
    a, b, p = m.ones(10), m.ones(10), m.ones(10, requires_grad=True)

    def backward():
        p.grad = None
        (p + b).sum().backward()

    def chain():
        p.grad = None
        y = p
        for _ in range(20):
            y = y * b
        y.sum().backward()

    return dict(zip(CASES, (lambda: a + b, lambda: p + b, backward, chain)))[case]


class Operation(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class OperationSpeedup(Speedup):
    cases = CASES
