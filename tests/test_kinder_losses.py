"""Where losses are kinder than PyTorch's: labels of any kind, errors that name the row, columns, ignored batches."""

import re
from itertools import product

import numpy as np
import pytest

import minigrad as mg

F, nn = mg.nn.functional, mg.nn
inf, nan = np.inf, np.nan

# --- labels of any dtype, from anywhere -------------------------------------------------------------------------------

X, W = mg.randn(4, 2), mg.randn(2, 2)
LP = mg.randn(5, 4, 3).log_softmax(2)
BINARY, SIGNS = [1, 0, 0, 1], [1, -1, -1, 1]
LOSSES = {  # labels, the loss of them; dtypes beside the signed ones
    "cross_entropy": (BINARY, lambda t: F.cross_entropy(X, t), "u1 ?"),
    "nll_loss": (BINARY, lambda t: F.nll_loss(X, t), "u1 ?"),
    "linear_cross_entropy": (BINARY, lambda t: F.linear_cross_entropy(X, W, t), "u1 ?"),
    "multi_margin_loss": (BINARY, lambda t: F.multi_margin_loss(X, t), "u1 ?"),
    "multilabel_margin_loss": ([[1, -1], [0, 1], [-1, 0], [1, 0]], lambda t: F.multilabel_margin_loss(X, t), ""),
    "multilabel_soft_margin_loss": ([[1, 0], [0, 1], [1, 1], [0, 0]],
                                    lambda t: F.multilabel_soft_margin_loss(X, t), "u1 ?"),
    "binary_cross_entropy": (BINARY, lambda t: F.binary_cross_entropy(X[:, 0].sigmoid(), t), "u1 ?"),
    "binary_cross_entropy_with_logits": (BINARY, lambda t: F.binary_cross_entropy_with_logits(X[:, 0], t), "u1 ?"),
    "hinge_embedding_loss": (SIGNS, lambda t: F.hinge_embedding_loss(X[:, 0], t), "?"),
    "soft_margin_loss": (SIGNS, lambda t: F.soft_margin_loss(X[:, 0], t), "?"),
    "margin_ranking_loss": (SIGNS, lambda t: F.margin_ranking_loss(X[:, 0], X[:, 1], t), "?"),
    "cosine_embedding_loss": (SIGNS, lambda t: F.cosine_embedding_loss(X, X + 1, t), "?"),
    "ctc_loss": ([[1, 2], [2, 2], [1, 1], [2, 1]], lambda t: F.ctc_loss(LP, t, [5] * 4, (2, 2, 1, 2)), "u1"),
}  # fmt: skip


@pytest.mark.parametrize("name", LOSSES)
def test_labels_of_any_kind(name):
    labels, loss, more = LOSSES[name]
    want = loss(mg.tensor(labels)).item()
    for dtype in ("i1", "i2", "i4", "i8", ">i2", ">i8", *more.split()):
        array = np.array(labels)
        array = array > 0 if dtype == "?" else array.astype(dtype)  # of signs, True is 1 and False is -1
        for given in (array, array[::-1].copy()[::-1], np.repeat(array, 2, 0)[::2], array.tolist()):
            assert loss(given).item() == want, (dtype, given)
        if array.dtype.isnative:
            strided = mg.from_numpy(np.repeat(array, 2, 0))[::2]
            assert loss(mg.tensor(array)).item() == loss(strided).item() == want, dtype
    assert loss(tuple(labels)).item() == want


# --- a label out of range is named, with its row ----------------------------------------------------------------------

RANGES = {  # PyTorch's type of error; its ctc_loss reads memory that is not there
    "cross_entropy": (lambda t: F.cross_entropy(mg.ones(4, 3), t), IndexError, 0),
    "nll_loss": (lambda t: F.nll_loss(mg.ones(4, 3), t), IndexError, 0),
    "linear_cross_entropy": (lambda t: F.linear_cross_entropy(mg.ones(4, 2), mg.ones(3, 2), t), IndexError, 0),
    "multi_margin_loss": (lambda t: F.multi_margin_loss(mg.ones(4, 3), t), RuntimeError, 0),
    "multilabel_margin_loss": (
        lambda t: F.multilabel_margin_loss(mg.ones(4, 3), [[y, -1, -1] for y in t]), RuntimeError, -1,
    ),
    "ctc_loss": (lambda t: F.ctc_loss(LP, [[y] for y in t], [5] * 4, [1] * 4), IndexError, 0),
}  # fmt: skip


@pytest.mark.parametrize("name", RANGES)
def test_label_out_of_range(name):
    loss, error, low = RANGES[name]
    loss([low, 1, 2, 2])
    for label in (3, low - 1, 2**40, -(2**63)):
        with pytest.raises(error, match=rf"targets?\[2(, 0)?\] = {label} .*is outside \[{low}, 3\)"):
            loss([0, 1, label, label])


# --- (N, 1) against (N,) ----------------------------------------------------------------------------------------------

COLUMNS = {
    "mse_loss": ValueError, "l1_loss": ValueError, "smooth_l1_loss": ValueError, "huber_loss": ValueError,
    "kl_div": ValueError, "poisson_nll_loss": ValueError, "gaussian_nll_loss": ValueError,
    "hinge_embedding_loss": ValueError, "binary_cross_entropy": ValueError,
    "binary_cross_entropy_with_logits": ValueError, "soft_margin_loss": RuntimeError,
    "multilabel_soft_margin_loss": ValueError, "margin_ranking_loss": RuntimeError,
}  # fmt: skip


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_against_a_row_is_refused_with_the_fix(name):
    more = {"gaussian_nll_loss": (1.0,), "margin_ranking_loss": ()}.get(name, ())

    reduction = "mean" if name == "multilabel_soft_margin_loss" else "sum"  # that column is three rows of one class

    def loss(x, t):
        x = (x, x / 2) if name == "margin_ranking_loss" else (x,)
        return getattr(F, name)(*x, t, *more, reduction=reduction)

    row, column = mg.full((3,), 0.5), mg.full((3, 1), 0.5)
    for x, t in ((row, column), (column, row)):
        with pytest.raises(COLUMNS[name], match=r"\[3, 1\]") as caught:
            loss(x, t)
        fix = re.search(r"; use (\w+\.(squeeze|unsqueeze|reshape)\([\d, ]+\))", str(caught.value)).group(1)
        mended = {"input": x, "target": t}
        mended[fix.partition(".")[0]] = eval(fix, dict(mended))
        assert loss(mended["input"], mended["target"]).item() == loss(row, row).item()


# --- no label counts --------------------------------------------------------------------------------------------------

CALLS = {
    "cross_entropy": lambda x, t, **o: F.cross_entropy(x, t, **o),
    "cross_entropy smoothed": lambda x, t, **o: F.cross_entropy(x, t, label_smoothing=0.1, **o),
    "cross_entropy weighted": lambda x, t, **o: F.cross_entropy(x, t, [1.0, 0.0, 2.0], **o),
    "cross_entropy weight needs grad": lambda x, t, **o: F.cross_entropy(x, t, mg.ones(3).requires_grad_(True), **o),
    "nll_loss": lambda x, t, **o: F.nll_loss(x, t, **o),
    "linear_cross_entropy": lambda x, t, **o: F.linear_cross_entropy(x, mg.eye(3), t, **o),
    "CrossEntropyLoss": lambda x, t, **o: nn.CrossEntropyLoss(**o)(x, t),
    "NLLLoss": lambda x, t, **o: nn.NLLLoss(**o)(x, t),
    "LinearCrossEntropyLoss": lambda x, t, **o: nn.LinearCrossEntropyLoss(3, 4, **o)(x, t),
}


@pytest.mark.parametrize("name", CALLS)
def test_all_ignored(name):
    loss = CALLS[name]
    for rows, (choice, want) in product((4, 0), (("nan", nan), ("zero", 0.0))):
        x, t = mg.randn(rows, 3, requires_grad=True), mg.full((rows,), -100)
        y = loss(x, t, all_ignored=choice)
        np.testing.assert_equal(y.item(), want)
        for create_graph in (False, True):
            (g,) = mg.autograd.grad(y, x, retain_graph=True, create_graph=create_graph)
            assert g.shape == (rows, 3) and (g == 0).all()
        with mg.no_grad():
            np.testing.assert_equal(loss(x, t, all_ignored=choice).item(), want)
        assert loss(x, t, all_ignored=choice, reduction="sum").item() == 0
    x = mg.randn(2, 3)
    if name != "LinearCrossEntropyLoss":
        for t in ([-100, 2], [0, 2]):  # no difference where labels count
            assert loss(x, t, all_ignored="zero").item() == loss(x, t).item()
    with pytest.raises(ValueError, match="all_ignored must be 'nan' or 'zero', got 'raise'"):
        loss(x, [0, 1], all_ignored="raise")


def test_weights_of_zero_are_no_ignored_labels():
    assert F.cross_entropy(mg.randn(2, 3), [1, 1], [1.0, 0.0, 1.0], all_ignored="zero").isnan()


@pytest.mark.parametrize("value", ["abc", object(), [[1, 2], [3]], ["a", "b"]])
def test_what_is_no_tensor_is_named(value):
    x, t = mg.zeros(2, 3), mg.tensor([0, 1])
    calls = {
        "target": lambda: F.cross_entropy(x, value),
        "weight": lambda: F.cross_entropy(x, t, weight=value),
        "pos_weight": lambda: F.binary_cross_entropy_with_logits(x, mg.ones(2, 3), pos_weight=value),
        "input_lengths": lambda: F.ctc_loss(mg.zeros(4, 2, 3), mg.tensor([[1], [2]]), value, mg.tensor([1, 1])),
    }
    for name, call in calls.items():
        with pytest.raises((TypeError, ValueError), match=f"^{name} is no tensor: "):
            call()
