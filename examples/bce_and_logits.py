"""BCELoss of sigmoid(x) is BCEWithLogitsLoss of x, until float32 runs out of digits.

python examples/bce_and_logits.py [--device NAME] [--plot FILE.png]

Also: what BCELoss says to raw logits, that neither loss knows ignore_index (some courses list it), and that binary
cross-entropy without its (1 - y) log(1 - p), as some courses print it, makes every negative sample free.
"""

import minigrad as mg
from _check import arguments, close, drawing, refused
from minigrad import nn

X = mg.tensor([[1.0, 2.0], [2.0, 2.0], [3.0, 4.0], [4.0, 5.0]])
Y = mg.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
EXPECTED = {
    "none": [[0.3133, 2.1269], [0.1269, 2.1269], [3.0486, 0.0181], [4.0181, 0.0067]], "sum": 11.7856, "mean": 1.4732,
}  # fmt: skip


def saturation(logits):
    """Both losses of target 0 at each logit: the limit is the logit itself."""
    y = mg.zeros(len(logits))
    return nn.BCELoss(reduction="none")(logits.sigmoid(), y), nn.BCEWithLogitsLoss(reduction="none")(logits, y)


def main():
    options = arguments(__doc__)
    for reduction, expected in EXPECTED.items():
        close(f"BCELoss(sigmoid(x)), {reduction}", nn.BCELoss(reduction=reduction)(X.sigmoid(), Y), expected)
        close(f"BCEWithLogitsLoss(x), {reduction}", nn.BCEWithLogitsLoss(reduction=reduction)(X, Y), expected)
    close("the default reduction is the mean", nn.BCELoss()(X.sigmoid(), Y), EXPECTED["mean"])

    p = X.sigmoid()
    close("by hand", -(Y * p.log() + (1 - Y) * (1 - p).log()).mean(), EXPECTED["mean"])
    close("by hand without (1 - y) log(1 - p)", (-Y * p.log()).sum(dim=1), [0.3133, 0.1269, 0.0181, 0.0067])

    refused("BCELoss(x)", RuntimeError, "all elements of input should be between 0 and 1", nn.BCELoss(), X, Y)
    for loss in (nn.BCELoss, nn.BCEWithLogitsLoss):
        refused(f"{loss.__name__}(ignore_index=0)", TypeError, "ignore_index", loss, ignore_index=0)

    # sigmoid(20) is 1 in float32: BCELoss then gives its largest value, 100, and no gradient
    naive, stable = saturation(mg.tensor([10.0, 20.0, 50.0]))
    close("target 0, x = 10, 20, 50: BCELoss", naive, [10.0, 100, 100], 1e-2)
    close("target 0, x = 10, 20, 50: with logits", stable, [10.0, 20, 50], 1e-4)

    if options.plot:
        x = mg.linspace(0, 30, 301)
        naive, stable = saturation(x)
        with drawing(options.plot) as axes:
            axes.plot(x, naive, label="BCELoss(sigmoid(x))")
            axes.plot(x, stable, label="BCEWithLogitsLoss(x)")
            axes.set(xlabel="logit x", ylabel="loss of target 0, float32")
            axes.legend()


if __name__ == "__main__":
    main()
