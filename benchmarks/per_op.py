"""The cost of an operation: tensors of 10 elements, so that the kernel is a small part of it."""

from harness import clean_environment, row, take_turns, write

clean_environment()


def cases(framework):
    a = framework.ones(10)
    b = framework.ones(10)
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

    return {
        "a + b": (lambda: a + b, 6),
        "a + b, recorded": (lambda: p + b, 6),
        "a * b, recorded": (lambda: p * b, None),
        "(a + b).sum().backward()": (backward, None),
        "20 products and backward": (chain, None),
    }


def main():
    import torch

    import minigrad

    ours, theirs = cases(minigrad), cases(torch)
    times = {n: take_turns({"minigrad": ours[n][0], "torch": theirs[n][0]}) for n in ours}
    write("per_op", [row(n, times[n], goal=ours[n][1]) for n in ours])


if __name__ == "__main__":
    main()
