"""Softmax regression on the Iris flowers: one Linear layer and cross-entropy, from weights of 0.

python examples/iris.py [--device NAME] [--plot FILE.png]

Nothing is drawn at random, so the losses are those of PyTorch: ln 3 at first, since three classes are equally likely.
"""

import math

import minigrad as mg
from _check import arguments, close, drawing
from minigrad import nn, optim


def load():
    """(x, y): 150 flowers, four measures of mean 0 and deviation 1; three kinds."""
    try:
        from sklearn.datasets import load_iris
    except ImportError:
        raise SystemExit("iris.py: error: the flowers come from scikit-learn: pip install scikit-learn") from None
    x, y = load_iris(return_X_y=True)
    return mg.tensor((x - x.mean(axis=0)) / x.std(axis=0), dtype=mg.float32), mg.tensor(y, dtype=mg.int64)


def train(x, y, weight_decay=0.0):
    """(model, losses) of 200 steps, each with all flowers."""
    model = nn.Linear(4, 3)
    nn.init.zeros_(model.weight)
    nn.init.zeros_(model.bias)
    criterion = nn.CrossEntropyLoss()
    optimizer = optim.SGD(model.parameters(), lr=0.1, weight_decay=weight_decay)
    losses = []
    for _ in range(200):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return model, losses


def main():
    options = arguments(__doc__)
    x, y = load()
    model, losses = train(x, y)
    close("first loss, ln 3", losses[0], math.log(3), 1e-6)
    close("last loss", losses[-1], 0.261370, 2e-6)
    right = model(x).argmax(dim=1) == y
    close("accuracy", right.to(mg.float32).mean(), 0.92, 1e-6)
    close("by kind", [right[y == kind].to(mg.float32).mean().item() for kind in range(3)], [1.0, 0.84, 0.92], 1e-6)

    decayed, _ = train(x, y, weight_decay=0.1)
    norms = [m.weight.norm().item() for m in (model, decayed)]
    close("norm of the weights: plain, weight_decay 0.1", norms, [2.6956, 1.5173], 2e-4)

    if options.plot:
        with drawing(options.plot, columns=2) as (left, right):
            left.plot(losses)
            left.set(xlabel="step", ylabel="cross-entropy")
            wrong = model(x).argmax(dim=1) != y
            for kind, name in enumerate(("setosa", "versicolor", "virginica")):
                right.plot(*x[y == kind][:, 2:].T, ".", label=name)
            right.plot(*x[wrong][:, 2:].T, "o", color="black", fillstyle="none", label="mistaken")
            right.set(xlabel="petal length, standardised", ylabel="petal width, standardised")
            right.legend()


if __name__ == "__main__":
    main()
