"""Cross-entropy is the minus log of the probability that softmax gives the right class.

python examples/cross_entropy_by_hand.py [--device NAME] [--plot FILE.png]

By hand, by CrossEntropyLoss and by LogSoftmax + NLLLoss, which only picks and negates. LogSoftmax does not "normalise
to 0..1", as some courses say: it gives log-probabilities, which are never positive; their exponentials sum to 1.
"""

import math

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn

X = [[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]]
T = [0, 1, 1]
EXPECTED = {"none": [1.3133, 0.1269, 0.1269], "sum": 1.5671, "mean": 0.5224}


def main():
    options = arguments(__doc__)
    x, t = mg.tensor(X), mg.tensor(T)
    close("-log 0.6, -log 0.1", [-math.log(0.6), -math.log(0.1)], [0.5108256, 2.3025851], 1e-7)
    for reduction, expected in EXPECTED.items():
        close(f"CrossEntropyLoss, {reduction}", nn.CrossEntropyLoss(reduction=reduction)(x, t), expected)
    close("by hand, row 0: -x[t] + log(sum(exp(x)))", -X[0][T[0]] + math.log(sum(map(math.exp, X[0]))), 1.3132617, 1e-7)

    y = nn.LogSoftmax(dim=1)(x)
    close("LogSoftmax", y, [[-1.3133, -0.3133], [-2.1269, -0.1269], [-2.1269, -0.1269]])
    true("no log-probability is above 0", (y <= 0).all())
    close("sum of their exponentials", y.exp().sum(dim=1), [1.0, 1, 1], 1e-6)
    for reduction in EXPECTED:
        both = nn.NLLLoss(reduction=reduction)(y, t), nn.CrossEntropyLoss(reduction=reduction)(x, t)
        close(f"LogSoftmax + NLLLoss - CE, {reduction}", both[0] - both[1], (both[1] * 0).tolist(), 1e-6)
    for reduction, expected in {"none": [-1.0, -3, -3], "sum": -7.0, "mean": -7 / 3}.items():
        nll = nn.NLLLoss(weight=mg.ones(2), reduction=reduction)(x, t)
        close(f"NLLLoss(x) only negates, {reduction}", nll, expected, 1e-6)

    # a smoothed target gives each class a share; a target may be probabilities too
    close("label_smoothing=0.1", nn.CrossEntropyLoss(label_smoothing=0.1)(x, t), 0.572372569868, 1e-6)
    shares = mg.tensor([[1.0, 0.0], [0.5, 0.5], [0.2, 0.8]])
    weighted = nn.CrossEntropyLoss(weight=mg.tensor([1.0, 2.0]))(x, shares)
    close("class probabilities, weight=[1, 2]", weighted, 1.044041374653, 1e-6)  # divides by N, not by weights

    if options.plot:
        p = mg.linspace(0.01, 1, 100)
        with drawing(options.plot) as axes:
            axes.plot(p, -p.log())
            for value in (0.6, 0.1):
                axes.plot([value], [-math.log(value)], "o", label=f"-log {value} = {-math.log(value):.2f}")
            axes.set(xlabel="probability of the right class", ylabel="cross-entropy")
            axes.legend()


if __name__ == "__main__":
    main()
