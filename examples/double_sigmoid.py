"""A sigmoid in the model and BCEWithLogitsLoss behind it: it trains, badly, since sigmoid is applied twice.

python examples/double_sigmoid.py [--device NAME] [--plot FILE.png]

The second sigmoid sees numbers between 0 and 1, so that the loss of a right answer cannot fall below 0.3133 and the
gradient of a wrong one vanishes. Wherever gradients are recorded, minigrad warns of it.
"""

import warnings

import minigrad as mg
from _check import arguments, close, drawing, true
from minigrad import nn

X = mg.tensor([[1.0, 2.0], [2.0, 2.0], [3.0, 4.0], [4.0, 5.0]])
Y = mg.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
WRONG = {
    "none": [[0.3930, 1.2275], [0.3467, 1.2275], [1.2788, 0.3181], [1.3001, 0.3151]], "sum": 6.4070, "mean": 0.8009,
}  # fmt: skip


def once(x, y, reduction="none"):
    return nn.BCEWithLogitsLoss(reduction=reduction)(x, y)


def twice(x, y, reduction="none"):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of this very mistake, which is made on purpose here
        return nn.BCEWithLogitsLoss(reduction=reduction)(x.sigmoid(), y)


def slope(loss, x, y):
    """The derivative of the loss at logit x."""
    x = mg.tensor([x], requires_grad=True)
    loss(x, mg.tensor([y])).backward()
    return x.grad.item()


def main():
    options = arguments(__doc__)
    close("right: mean of BCEWithLogitsLoss(x)", once(X, Y, "mean"), 1.4732)
    for reduction, expected in WRONG.items():
        close(f"wrong: BCEWithLogitsLoss(sigmoid(x)), {reduction}", twice(X, Y, reduction), expected)
    true("the wrong loss is lower, which is no merit", twice(X, Y, "mean") < once(X, Y, "mean"))

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        nn.BCEWithLogitsLoss()(mg.zeros(1, requires_grad=True).sigmoid(), mg.ones(1))
    true("minigrad warns: pass the logits", any("pass the logits" in str(w.message) for w in caught))

    one, sure = mg.ones(1), mg.tensor([100.0])
    close("loss of a sure right answer: right", once(sure, one), [0.0])
    close("loss of a sure right answer: wrong", twice(sure, one), [0.3133])
    close("gradient of a wrong answer, x = 10: right", slope(once, 10.0, 0.0), 1.0, 1e-4)
    close("gradient of a wrong answer, x = 10: wrong", slope(twice, 10.0, 0.0), 3.3187e-5, 1e-7)

    if options.plot:
        x = mg.linspace(-8, 8, 161)
        with drawing(options.plot) as axes:
            axes.plot(x, once(x, mg.ones(161)), label="sigmoid once")
            axes.plot(x, twice(x, mg.ones(161)), label="sigmoid twice")
            axes.set(xlabel="logit x", ylabel="loss of target 1")
            axes.legend()


if __name__ == "__main__":
    main()
