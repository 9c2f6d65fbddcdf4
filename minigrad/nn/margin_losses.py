"""Losses whose unit is a row, as modules: margins over classes, cosines, triplets, alignments."""

from ..ops import ctc, row_losses
from .distance import PairwiseDistance
from .losses import _Loss


class MultiMarginLoss(_Loss):
    """w[t] / C times the sum over j != t of max(0, margin - x[t] + x[j])**p, t being the row's label.

    input (N, C) or (C,); target (N,) or (), labels of any integer dtype; p 1 or 2; weight (C,).

    >>> import minigrad as mg
    >>> mg.nn.MultiMarginLoss()(mg.tensor([[0.1, 0.2, 0.4, 0.8]]), mg.tensor([3]))
    tensor(0.3250)
    """

    def __init__(self, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        if p != 1 and p != 2:
            raise ValueError("only p == 1 and p == 2 supported")
        if weight is not None and weight.ndim != 1:
            raise ValueError(f"MultiMarginLoss: expected weight to be None or 1D tensor, got {weight.ndim}D instead")
        self.register_buffer("weight", weight)
        self.p, self.margin = p, margin

    def forward(self, input, target):
        return row_losses.multi_margin_loss(input, target, self.p, self.margin, self.weight, reduction=self.reduction)


class MultiLabelMarginLoss(_Loss):
    """1/C times the sum over labels t, and classes j that are none, of max(0, 1 - x[t] + x[j]).

    input (N, C) or (C,); target of the same shape: a row's labels, up to its first -1.

    >>> import minigrad as mg
    >>> mg.nn.MultiLabelMarginLoss()(mg.tensor([[0.1, 0.2, 0.4, 0.8]]), mg.tensor([[3, 0, -1, 1]]))
    tensor(0.8500)
    """

    def forward(self, input, target):
        return row_losses.multilabel_margin_loss(input, target, reduction=self.reduction)


class MultiLabelSoftMarginLoss(_Loss):
    """Binary cross-entropy of logits (N, C) and targets of that shape, averaged over the classes; weight (C,).

    >>> import minigrad as mg
    >>> mg.nn.MultiLabelSoftMarginLoss()(mg.tensor([[0.0, 2.0]]), mg.tensor([[1.0, 0.0]]))
    tensor(1.4100)
    """

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)

    def forward(self, input, target):
        return row_losses.multilabel_soft_margin_loss(input, target, self.weight, reduction=self.reduction)


class CosineEmbeddingLoss(_Loss):
    """1 - cos(x1, x2) where target is 1, max(0, cos(x1, x2) - margin) where it is -1; (N, D), (N, D), (N,).

    >>> import minigrad as mg
    >>> x = mg.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> mg.nn.CosineEmbeddingLoss()(x, mg.tensor([[4.0, 3.0], [1.0, 0.0]]), mg.tensor([1, -1]))
    tensor(0.5200)
    """

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1, input2, target):
        return row_losses.cosine_embedding_loss(input1, input2, target, self.margin, reduction=self.reduction)


class TripletMarginLoss(_Loss):
    """max(0, margin + d(a, p) - d(a, n)), d being the p-norm of the difference; three inputs (N, D) or (D,).

    swap: take d(p, n) for d(a, n) where it is smaller. Source: Balntas et al. 2016.

    >>> import minigrad as mg
    >>> a, p, n = mg.tensor([[0.0, 0.0]]), mg.tensor([[3.0, 4.0]]), mg.tensor([[5.0, 12.0]])
    >>> mg.nn.TripletMarginLoss(margin=10.0)(a, p, n)
    tensor(2.0000)
    """

    def __init__(self, margin=1.0, p=2.0, eps=1e-6, swap=False, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        _check_margin(self, margin)
        self.margin, self.p, self.eps, self.swap = margin, p, eps, swap

    def forward(self, anchor, positive, negative):
        return row_losses.triplet_margin_loss(
            anchor, positive, negative, self.margin, self.p, self.eps, self.swap, reduction=self.reduction
        )


class TripletMarginWithDistanceLoss(_Loss):
    """max(0, margin + d(a, p) - d(a, n)) for any ``distance_function`` d; PairwiseDistance if None.

    >>> import minigrad as mg
    >>> loss = mg.nn.TripletMarginWithDistanceLoss(distance_function=lambda x, y: (x - y).abs().sum(1))
    >>> loss(mg.zeros(1, 2), mg.tensor([[3.0, 4.0]]), mg.tensor([[1.0, 1.0]]))
    tensor(6.)
    """

    def __init__(self, *, distance_function=None, margin=1.0, swap=False, reduction="mean"):
        super().__init__(reduction=reduction)
        _check_margin(self, margin)
        self.distance_function = PairwiseDistance() if distance_function is None else distance_function
        self.margin, self.swap = margin, swap

    def forward(self, anchor, positive, negative):
        return row_losses.triplet_margin_with_distance_loss(
            anchor, positive, negative, distance_function=self.distance_function, margin=self.margin, swap=self.swap,
            reduction=self.reduction,
        )  # fmt: skip


def _check_margin(loss, margin):
    if margin <= 0:
        raise ValueError(f"{type(loss).__name__}: expected margin to be greater than 0, got {margin} instead")


class CTCLoss(_Loss):
    """-log of the probability of all alignments of label sequences with longer inputs (T, N, C) or (T, C).

    targets (N, S) or concatenated; lengths (N,), tensors, lists or tuples. 'mean' divides each loss by its target's
    length first. See ``functional.ctc_loss``. Source: Graves et al. 2006.

    >>> import minigrad as mg
    >>> x = mg.zeros(4, 1, 3).log_softmax(2)
    >>> mg.nn.CTCLoss(reduction="sum")(x, mg.tensor([[1, 2]]), [4], [2])
    tensor(1.6864)
    """

    def __init__(self, blank=0, reduction="mean", zero_infinity=False):
        super().__init__(reduction=reduction)
        self.blank, self.zero_infinity = blank, zero_infinity

    def forward(self, log_probs, targets, input_lengths, target_lengths):
        return ctc.ctc_loss(
            log_probs, targets, input_lengths, target_lengths, self.blank, self.reduction, self.zero_infinity
        )
