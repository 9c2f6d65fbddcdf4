"""Activations in front of losses that apply them themselves: one warning, at the user's line."""

import sys
import warnings

import pytest

import minigrad as mg

F, nn = mg.nn.functional, mg.nn
LABELS, RATES = mg.tensor([0, 1]), mg.tensor([[0.0, 1.0], [1.0, 0.0]])
LOGITS = "binary_cross_entropy_with_logits"


def logits():
    return mg.tensor([[1.0, 2.0], [3.0, -1.0]], requires_grad=True)


CASES = {  # activation, loss, its target, what the warning says
    "softmax": (lambda x: F.softmax(x, 1), F.cross_entropy, LABELS, "cross_entropy: .* softmax, .* pass the logits"),
    "softmax.method": (lambda x: x.softmax(1), nn.CrossEntropyLoss(), LABELS, "cross_entropy: .* pass the logits"),
    "softmax.module": (
        nn.Sequential(nn.Softmax(1)), nn.CrossEntropyLoss(label_smoothing=0.1), LABELS, "cross_entropy: .* log_softmax",
    ),
    "softmax.probabilities": (nn.Softmax(1), F.cross_entropy, RATES, "cross_entropy: "),
    "softmax.weight": (nn.Softmax(1), nn.CrossEntropyLoss(weight=mg.ones(2)), LABELS, "cross_entropy: "),
    "softmax.transposed": (lambda x: x.T.softmax(0).T, F.cross_entropy, LABELS, "cross_entropy: "),
    "softmax.sigmoid": (mg.sigmoid, nn.CrossEntropyLoss(), LABELS, "cross_entropy: .* sigmoid, .* pass the logits"),
    "nll": (nn.Softmax(1), F.nll_loss, LABELS, "nll_loss: .* use log_softmax, or pass the logits to cross_entropy"),
    "nll.module": (nn.Softmax(1), nn.NLLLoss(), LABELS, "nll_loss: .* logarithms of probabilities; use log_softmax"),
    "nll.sigmoid": (mg.sigmoid, nn.NLLLoss(), LABELS, "nll_loss: .* sigmoid, .* logarithms"),
    "kl": (nn.Softmax(1), nn.KLDivLoss(reduction="batchmean"), RATES, "kl_div: .* logarithms .*; use log_softmax"),
    "sigmoid": (mg.sigmoid, F.binary_cross_entropy_with_logits, RATES, f"{LOGITS}: .* sigmoid, .* pass the logits"),
    "sigmoid.module": (nn.Sigmoid(), nn.BCEWithLogitsLoss(), RATES, f"{LOGITS}: .* or use binary_cross_entropy"),
    "sigmoid.view": (
        lambda x: x[:, :1].sigmoid().squeeze(1), nn.BCEWithLogitsLoss(pos_weight=mg.tensor(2.0)), LABELS, f"{LOGITS}: ",
    ),
    "sigmoid.inplace": (lambda x: x.clone().sigmoid_(), nn.BCEWithLogitsLoss(), RATES, f"{LOGITS}: "),
    "sigmoid.softmax": (nn.Softmax(1), nn.BCEWithLogitsLoss(), RATES, f"{LOGITS}: .* softmax"),
    "sigmoid.rows": (nn.Sigmoid(), F.multilabel_soft_margin_loss, RATES, "multilabel_soft_margin_loss: .* sigmoid"),
}  # fmt: skip


@pytest.mark.parametrize("recording", [True, False], ids=["training", "evaluation"])
@pytest.mark.parametrize("name", CASES)
def test_mistakes_warn_where_they_are_made(name, recording):
    activation, loss, target, message = CASES[name]
    with mg.set_grad_enabled(recording), pytest.warns(UserWarning, match=message) as caught:
        y, line = loss(activation(logits()), target), sys._getframe().f_lineno
    assert y.requires_grad is recording and len(caught) == 1
    assert (caught[0].filename, caught[0].lineno) == (__file__, line)


@pytest.mark.parametrize("name", CASES)
def test_once_a_line_and_silenced_by_a_filter(name):
    activation, loss, target, message = CASES[name]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        for _ in range(3):  # the steps of a training
            loss(activation(logits()), target)
        assert len(caught) == 1
        loss(activation(logits()), target)  # another place
        assert len(caught) == 2
        warnings.filterwarnings("ignore", message=message)
        loss(activation(logits()), target)
        assert len(caught) == 2


@pytest.mark.parametrize("recording", [True, False], ids=["training", "evaluation"])
def test_the_right_way_is_silent(recording):
    with mg.set_grad_enabled(recording):
        x = logits()
        F.cross_entropy(x, LABELS)
        F.cross_entropy(F.log_softmax(x, 1), LABELS)  # softmax of logarithms of probabilities gives them back
        F.cross_entropy(mg.relu(x), LABELS)
        F.nll_loss(F.log_softmax(x, 1), LABELS)
        F.nll_loss(mg.log(F.softmax(x, 1)), LABELS)
        F.kl_div(F.log_softmax(x, 1), F.softmax(x, 1), reduction="batchmean")
        F.binary_cross_entropy(mg.sigmoid(x), RATES)
        F.binary_cross_entropy_with_logits(x, mg.sigmoid(x).detach())
        F.cross_entropy(x, F.softmax(x, 1))  # as a target
        F.cross_entropy(5 * F.softmax(x, 1), LABELS)  # on purpose, it seems
        F.linear_cross_entropy(F.softmax(x, 1), mg.ones(3, 2), LABELS)  # as features
        rewritten = mg.sigmoid(x).detach()
        F.nll_loss(rewritten.log_(), LABELS)
        rewritten = mg.sigmoid(x)
        rewritten.copy_(x)
        F.cross_entropy(rewritten, LABELS)
        for _ in range(100):  # memory that held probabilities before
            F.softmax(x.detach(), 1)
            F.cross_entropy(x.detach() + 1, LABELS)


def test_other_warnings_of_losses_point_at_the_user_too():
    for make, message in (
        (lambda: nn.MSELoss()(mg.ones(3, 4), mg.ones(4)), "different to the input size"),
        (lambda: F.mse_loss(mg.ones(3), mg.ones(3), size_average=False), "please use reduction='sum'"),
        (lambda: nn.MSELoss(reduce=False), "please use reduction='none'"),
        (lambda: nn.CrossEntropyLoss(reduce=False), "please use reduction='none'"),
    ):
        with pytest.warns(UserWarning, match=message) as caught:
            make()
        assert (caught[0].filename, caught[0].lineno) == (__file__, make.__code__.co_firstlineno)
