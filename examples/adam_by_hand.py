"""Adam by its formula and by optim.Adam, and what moving eps into the root changes.

python examples/adam_by_hand.py [--device NAME] [--plot FILE.png]

m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g²; p -= lr (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

Here, as in PyTorch, eps is added to the bias-corrected root. The paper's "eps hat" form, which scikit-learn has, adds
it to sqrt(v) and corrects both at once by lr sqrt(1 - b2^t) / (1 - b1^t): another trajectory, since there eps weighs
1 / sqrt(1 - b2^t) times as much, 32 times at the first step.
"""

from math import sqrt

import minigrad as mg
from _check import arguments, close, drawing
from minigrad import optim

B1, B2 = 0.9, 0.999
GRADIENTS = [1.0, -0.5, 2.0]


def by_hand(gradients, lr, eps, hat=False):
    """(p after each step from 1, m, v)"""
    p, m, v, path = 1.0, 0.0, 0.0, []
    for t, g in enumerate(gradients, start=1):
        m, v = B1 * m + (1 - B1) * g, B2 * v + (1 - B2) * g * g
        if hat:
            p -= lr * sqrt(1 - B2**t) / (1 - B1**t) * m / (sqrt(v) + eps)
        else:
            p -= lr * (m / (1 - B1**t)) / (sqrt(v / (1 - B2**t)) + eps)
        path.append(p)
    return path, m, v


def by_optimizer(gradients, lr, eps):
    p = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.Adam([p], lr=lr, betas=(B1, B2), eps=eps)
    path = []
    for g in gradients:
        p.grad = mg.tensor([g])
        optimizer.step()
        path.append(p.item())
    state = optimizer.state[p]
    return path, state["exp_avg"].item(), state["exp_avg_sq"].item()


def main():
    options = arguments(__doc__)
    expected = [0.9, 0.8733664, 0.8075552]
    for name, run in (("by hand", by_hand), ("optim.Adam", by_optimizer)):
        path, m, v = run(GRADIENTS, lr=0.1, eps=1e-8)
        close(f"{name}: p for gradients 1, -0.5, 2", path, expected, 2e-7)
        close(f"{name}: m", m, 0.236, 1e-7)
        close(f"{name}: v", v, 0.00524775, 1e-8)

    small = [0.01] * 30  # gradients that eps = 0.01 is not small beside: the step is lr / 2, and lr / 33 at first
    ours, hat = by_optimizer(small, 0.1, 0.01)[0], by_hand(small, 0.1, 0.01, hat=True)[0]
    close("eps = 0.01, 30 gradients of 0.01: by hand", by_hand(small, 0.1, 0.01)[0][-1], -0.5)
    close("optim.Adam", ours[-1], -0.5)
    close("eps hat", hat[-1], 0.687555)

    if options.plot:
        with drawing(options.plot) as axes:
            axes.plot(range(31), [1, *ours], label="eps outside (here, PyTorch)")
            axes.plot(range(31), [1, *hat], label="eps hat (scikit-learn)")
            axes.set(xlabel="step", ylabel="p", title="gradients of 0.01, eps = 0.01, lr = 0.1")
            axes.legend()


if __name__ == "__main__":
    main()
