"""Exponentially weighted averages, v = β v + (1 - β) g: how far back they look, and where optimizers keep one.

python examples/moving_averages.py [--device NAME] [--plot FILE.png]

The weight of the number k steps ago is (1 - β) β^k; the memory is about 1 / (1 - β) numbers. Adam's exp_avg is such an
average, of gradients; started at 0, it is too small by 1 - β^t at first, which Adam divides by.
"""

import minigrad as mg
from _check import arguments, close, drawing
from minigrad import optim

SUMS = {0.98: 0.8674, 0.95: 0.9941, 0.9: 0.99997, 0.8: 1.0}  # of the weights of 100 numbers


def weights(beta, n=100):
    return (1 - beta) * beta ** mg.arange(n, dtype=mg.float64)


def average(beta, numbers):
    """The average after each number, from 0."""
    v, path = 0.0, []
    for g in numbers:
        v = beta * v + (1 - beta) * g
        path.append(v)
    return path


def main():
    options = arguments(__doc__)
    for beta, expected in SUMS.items():
        close(f"β = {beta}: 100 weights sum to", weights(beta).sum(), expected)
    close("which is 1 - β^100", [weights(beta).sum().item() for beta in SUMS], [1 - beta**100 for beta in SUMS], 1e-12)
    close("memory 1 / (1 - β)", [1 / (1 - beta) for beta in SUMS], [50.0, 20, 10, 5], 1e-9)
    close("weight after that many steps / the first",
          [(weights(beta)[round(1 / (1 - beta))] / weights(beta)[0]).item() for beta in SUMS],
          [0.3642, 0.3585, 0.3487, 0.3277])  # about 1/e  # fmt: skip
    close("β = 0.8: weight of the number 20 steps ago", weights(0.8)[20], 0.0023)

    mg.manual_seed(0)
    gradients = (mg.arange(100) / 16).sin() + 0.5 * mg.randn(100)
    for beta in SUMS:
        by_weights = (weights(beta).flip(0) * gradients).sum()
        close(f"β = {beta}: step by step - by weights", average(beta, gradients.tolist())[-1] - by_weights, 0.0, 1e-12)

    p = mg.tensor([1.0], requires_grad=True)
    optimizer = optim.Adam([p], betas=(0.9, 0.999))
    for g in gradients:
        p.grad = g.reshape(1)
        optimizer.step()
    v = average(0.9, gradients.tolist())[-1]
    close("Adam's exp_avg - average with β = 0.9", optimizer.state[p]["exp_avg"].item() - v, 0.0, 1e-6)
    ones = average(0.9, [1.0] * 5)
    close("the average of ones, from 0", ones, [0.1, 0.19, 0.271, 0.3439, 0.40951], 1e-12)
    close("divided by 1 - β^t", [v / (1 - 0.9**t) for t, v in enumerate(ones, start=1)], [1.0] * 5, 1e-12)

    if options.plot:
        with drawing(options.plot, columns=2) as (left, right):
            right.plot(gradients, ".", color="lightgray")
            for beta in SUMS:
                left.plot(weights(beta), label=f"β = {beta}")
                right.plot(average(beta, gradients.tolist()), label=f"β = {beta}")
            left.set(xlabel="steps ago", ylabel="weight")
            right.set(xlabel="step", ylabel="average")
            left.legend()


if __name__ == "__main__":
    main()
