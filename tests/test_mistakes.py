"""Activations in front of losses that apply them themselves: one warning, at the user's line."""

import sys
import warnings

import pytest

import minigrad as mg

F, nn = mg.nn.functional, mg.nn
LABELS, RATES = mg.tensor([0, 1]), mg.tensor([[0.0, 1.0], [1.0, 0.0]])


def logits():
    return mg.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)


CASES = {  # activation, loss, what the warning says
    "softmax": (lambda x: F.softmax(x, 1), F.cross_entropy, "cross_entropy: .* softmax, .* pass the logits"),
    "softmax.method": (lambda x: x.softmax(1), nn.CrossEntropyLoss(), "cross_entropy: .* pass the logits"),
    "softmax.module": (nn.Sequential(nn.Softmax(1)), nn.CrossEntropyLoss(label_smoothing=0.1), "cross_entropy: "),
    "softmax.probabilities": (nn.Softmax(1), lambda x, t: F.cross_entropy(x, RATES), "cross_entropy: "),
    "softmax.weight": (nn.Softmax(1), nn.CrossEntropyLoss(weight=mg.ones(2)), "cross_entropy: "),
    "nll": (nn.Softmax(1), F.nll_loss, "nll_loss: .* use log_softmax, or pass the logits to cross_entropy"),
    "nll.module": (nn.Softmax(1), nn.NLLLoss(), "nll_loss: .* use log_softmax"),
    "sigmoid": (
        mg.sigmoid,
        F.binary_cross_entropy_with_logits,
        "binary.*: .* sigmoid, .* pass the logits",
    ),
    "sigmoid.module": (nn.Sigmoid(), nn.BCEWithLogitsLoss(), "binary.*: .* or use binary_cross_entropy"),
}


def target(name):
    return RATES if name.startswith("sigmoid") else LABELS


@pytest.mark.parametrize("name", CASES)
def test_mistakes_warn_where_they_are_made(name):
    activation, loss, message = CASES[name]
    with pytest.warns(UserWarning, match=message) as caught:
        y, line = loss(activation(logits()), target(name)), sys._getframe().f_lineno
    assert y.requires_grad and len(caught) == 1
    assert caught[0].filename == __file__ and (caught[0].lineno == line or name == "softmax.probabilities")


@pytest.mark.parametrize("name", ["softmax", "nll.module", "sigmoid.module"])
def test_once_a_line_and_silenced_by_a_filter(name):
    activation, loss, message = CASES[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):
            loss(activation(logits()), target(name))
        assert len(caught) == 1
        warnings.filterwarnings("ignore", message=message)
        loss(activation(logits()), target(name))
        assert len(caught) == 1


def test_the_right_way_is_silent():
    x = logits()
    F.cross_entropy(x, LABELS)
    F.cross_entropy(F.log_softmax(x, 1), LABELS)  # softmax of logarithms of probabilities gives them back
    F.cross_entropy(mg.relu(x), LABELS)
    F.nll_loss(F.log_softmax(x, 1), LABELS)
    F.nll_loss(mg.log(F.softmax(x, 1)), LABELS)
    F.binary_cross_entropy(mg.sigmoid(x), RATES)
    F.binary_cross_entropy_with_logits(x, mg.sigmoid(x).detach())
    F.cross_entropy(x, F.softmax(x, 1))  # as a target
    with mg.no_grad():  # nothing is recorded, nothing is known
        F.cross_entropy(F.softmax(x, 1), LABELS)


def test_other_warnings_of_losses_point_at_the_user_too():
    for make, message in (
        (lambda: nn.MSELoss()(mg.ones(3, 4), mg.ones(4)), "different to the input size"),
        (lambda: F.mse_loss(mg.ones(3), mg.ones(3), size_average=False), "please use reduction='sum'"),
    ):
        with pytest.warns(UserWarning, match=message) as caught:
            make()
        assert caught[0].filename == __file__
