"""pos_weight of BCEWithLogitsLoss: how much more a missed positive costs than a false alarm.

python examples/pos_weight.py [--device NAME] [--plot FILE.png]

It multiplies the loss of positive targets only, so 1 changes nothing, and the mean still divides by the count. For rare
positives the usual value is negatives / positives: then the best constant answer is "fifty-fifty".
"""

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn, optim

X = [[1.0, 2.0], [2.0, 2.0], [3.0, 4.0], [4.0, 5.0]]
Y = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]
TRIPLE = {
    "none": [[0.9398, 2.1269], [0.3808, 2.1269], [3.0486, 0.0544], [4.0181, 0.0201]], "sum": 12.7158, "mean": 1.5895,
}  # fmt: skip


def loss(pos_weight, x, y, reduction="none"):
    return nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=mg.tensor([pos_weight]))(x, y)


def best_constant(pos_weight):
    """The probability that a model without inputs learns for 1 positive among 10 samples."""
    y = mg.tensor([1.0] + [0.0] * 9)
    logit = mg.zeros(1, requires_grad=True)
    optimizer = optim.SGD([logit], lr=2.0)
    for _ in range(200):
        optimizer.zero_grad()
        loss(pos_weight, logit.expand(10), y, "mean").backward()
        optimizer.step()
    return logit.sigmoid().item()


def main():
    options = arguments(__doc__)
    x, y = mg.tensor(X), mg.tensor(Y)
    true("pos_weight=[1] changes no bit", mg.equal(loss(1.0, x, y), nn.BCEWithLogitsLoss(reduction="none")(x, y)))
    for reduction, expected in TRIPLE.items():
        close(f"pos_weight=[3], {reduction}", loss(3.0, x, y, reduction), expected)
    close("1 positive of 10, pos_weight 1: learns p", best_constant(1.0), 0.1)
    close("1 positive of 10, pos_weight 9: learns p", best_constant(9.0), 0.5)

    if options.plot:
        x, one, zero = mg.linspace(-5, 5, 101), mg.ones(101), mg.zeros(101)
        with drawing(options.plot) as axes:
            for weight in (1.0, 3.0):
                axes.plot(x, loss(weight, x, one), label=f"target 1, pos_weight {weight:g}")
            axes.plot(x, loss(3.0, x, zero), label="target 0, any pos_weight")
            axes.set(xlabel="logit x", ylabel="loss")
            axes.legend()


if __name__ == "__main__":
    main()
