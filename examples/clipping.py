"""Gradient clipping: by norm it keeps the direction, by value it does not.

python examples/clipping.py [--device NAME] [--plot FILE.png]

clip_grad_norm_ shortens the gradient of all parameters together to a largest length and returns the length it had;
clip_grad_value_ cuts every element. Descent with a learning rate that is too large shows what it is for: clipped, it
no longer explodes, though it never comes to rest either.
"""

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn, optim


def gradients():
    """Two parameters whose gradients, (3) and (4), have length 5 together."""
    a, b = (nn.Parameter(mg.zeros(1)) for _ in range(2))
    a.grad, b.grad = mg.tensor([3.0]), mg.tensor([4.0])
    return a, b


def overshoot(clip, steps=40):
    """x at each step down 4x² from 2 with lr 0.26, where plain descent overshoots by a growing amount."""
    x = mg.tensor(2.0, requires_grad=True)
    optimizer = optim.SGD([x], lr=0.26)
    path = [x.item()]
    for _ in range(steps):
        optimizer.zero_grad()
        (4 * x**2).backward()
        if clip:
            nn.utils.clip_grad_norm_([x], max_norm=clip)
        optimizer.step()
        path.append(x.item())
    return path


def main():
    options = arguments(__doc__)
    a, b = gradients()
    close("norm of (3, 4), returned", nn.utils.clip_grad_norm_([a, b], max_norm=1.0), 5.0, 1e-6)
    close("clipped to norm 1", [a.grad.item(), b.grad.item()], [0.6, 0.8], 1e-5)
    close("norm now", nn.utils.clip_grad_norm_([a, b], max_norm=10.0), 1.0, 1e-5)
    close("which is short enough for 10", [a.grad.item(), b.grad.item()], [0.6, 0.8], 1e-5)

    a, b = gradients()
    close("largest element of (3, 4)", nn.utils.clip_grad_norm_([a, b], 2.0, norm_type=float("inf")), 4.0, 1e-6)
    close("clipped to a largest element of 2", [a.grad.item(), b.grad.item()], [1.5, 2.0], 1e-5)
    a, b = gradients()
    nn.utils.clip_grad_value_([a, b], clip_value=3.5)
    close("clipped to values of 3.5: turned", [a.grad.item(), b.grad.item()], [3.0, 3.5], 0)

    free, held = overshoot(None), overshoot(1.0)
    close("4x², lr 0.26, free: x after 40 steps / 2", free[-1] / 2, 1.08**40, 1e-2)
    close("clipped to norm 1: the first steps are of 0.26", held[:4], [2.0, 1.74, 1.48, 1.22], 1e-5)
    true("then x stays within one such step of the minimum", max(map(abs, held[8:])) < 0.26)

    if options.plot:
        with drawing(options.plot) as axes:
            axes.plot(free, label="free")
            axes.plot(held, label="clip_grad_norm_(x, 1)")
            axes.set(xlabel="step", ylabel="x", title="4x² from 2, lr 0.26", ylim=(-8, 8))
            axes.legend()


if __name__ == "__main__":
    main()
