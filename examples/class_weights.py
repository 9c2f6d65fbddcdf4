"""Class weights: one weight for each class, not one for each sample; the mean divides by the weights that counted.

python examples/class_weights.py [--device NAME] [--plot FILE.png]

"The first sample weighs 1, the other two weigh 2", as some courses put it, is true of their example only because its
targets are 0, 1, 1. A weight for each of the three samples is refused.
"""

import minigrad as mg
from _check import arguments, close, drawing, refused
from minigrad import nn

X = [[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]]
T = [0, 1, 1]


def loss(weight, t=T, reduction="none"):
    return nn.CrossEntropyLoss(weight=mg.tensor(weight), reduction=reduction)(mg.tensor(X), mg.tensor(t))


def main():
    options = arguments(__doc__)
    for weight, each, total, mean in (
        ([1.0, 2.0], [1.3133, 0.2539, 0.2539], 1.8210, 0.3642),  # 1.8210 / (1 + 2 + 2)
        ([0.7, 0.3], [0.9193, 0.0381, 0.0381], 0.9954, 0.7657),  # 0.9954 / (0.7 + 0.3 + 0.3)
    ):
        for reduction, expected in (("none", each), ("sum", total), ("mean", mean)):
            close(f"weight={weight}, {reduction}", loss(weight, reduction=reduction), expected)

    x = mg.tensor(X, dtype=mg.float64, requires_grad=True)
    mean = nn.CrossEntropyLoss(weight=mg.tensor([1.0, 2.0], dtype=mg.float64))(x, mg.tensor(T))
    mean.backward()
    close("float64, mean", mean, 0.364194746338, 1e-12)
    a, b = 0.1462117157, 0.0476811688
    close("float64, gradient", x.grad, [[-a, a], [b, -b], [b, -b]], 1e-10)

    t = [1, 0, 0]  # other targets, and the weights follow the class
    close("targets 1, 0, 0: loss / unweighted loss", loss([1.0, 2.0], t) / loss([1.0, 1.0], t), [2.0, 1, 1], 1e-6)
    refused("weight=[1, 2, 2], one for each sample", RuntimeError, "for all 2 classes", loss, [1.0, 2.0, 2.0])
    smooth = nn.CrossEntropyLoss(weight=mg.tensor([1.0, 2.0]), label_smoothing=0.1)(mg.tensor(X), mg.tensor(T))
    close("weight=[1, 2], label_smoothing=0.1", smooth, 0.394788802992, 1e-6)

    if options.plot:
        with drawing(options.plot) as axes:
            for i, weight in enumerate(([1.0, 1.0], [1.0, 2.0], [0.7, 0.3])):
                bars = [row + 0.25 * (i - 1) for row in range(3)]
                axes.bar(bars, loss(weight), 0.23, label=f"weight={weight}")
            axes.set(xlabel="sample", ylabel="loss", xticks=range(3), xticklabels=[f"target {t}" for t in T])
            axes.legend()


if __name__ == "__main__":
    main()
