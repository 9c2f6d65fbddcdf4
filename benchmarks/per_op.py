"""The cost of an operation: tensors of 10 elements, so that the kernel is a small part of it."""

import importlib

from harness import Contender, clean_environment, row, take_turns, write

clean_environment()

GOALS = {
    "a + b": 6,
    "a + b, recorded": 6,
    "a * b, recorded": None,
    "(a + b).sum().backward()": None,
    "20 products and backward": None,
}


def make_case(name, case):
    framework = importlib.import_module(name)
    a, b = framework.ones(10), framework.ones(10)
    p = framework.ones(10, requires_grad=True)

    def backward():
        p.grad = None
        (p + b).sum().backward()

    def chain():
        p.grad = None
        y = p
        for _ in range(20):
            y = y * b
        y.sum().backward()

    return dict(zip(GOALS, (lambda: a + b, lambda: p + b, lambda: p * b, backward, chain)))[case]


def main():
    rows = []
    for case, goal in GOALS.items():
        contenders = {name: Contender("make_case", name, case) for name in ("minigrad", "torch")}
        rows.append(row(case, take_turns(contenders, 1.5, warm=0.3), goal=goal))
    write("per_op", rows)


if __name__ == "__main__":
    main()
