"""Losses as modules: each keeps its options and calls the function in ``nn.functional``; class weights are buffers."""

import warnings

from ..ops import losses as ops
from .module import Module


class _Loss(Module):
    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__()
        if size_average is not None or reduce is not None:
            mean = size_average is None or size_average
            reduction = "none" if reduce is not None and not reduce else "mean" if mean else "sum"
            warnings.warn(
                f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.",
                stacklevel=3,
            )
        if reduction not in ("mean", "sum", "none"):  # here, so that a typo shows where it was made
            raise ValueError(f"{reduction} is not a valid value for reduction: use 'mean', 'sum' or 'none'")
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """log_softmax and negative log-likelihood in one: classification from logits.

    input (N, C), (N, C, d1, ...) or (C,), logits. target: class indices (N,), (N, d1, ...) or (), of any integer dtype,
    or class probabilities in the shape of the input. 'mean' divides by the weights of the targets that count.

    >>> import minigrad as mg
    >>> loss = mg.nn.CrossEntropyLoss(weight=mg.tensor([1.0, 2.0]))
    >>> loss(mg.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]]), mg.tensor([0, 1, 1]))
    tensor(0.3642)
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                 label_smoothing=0.0):  # fmt: skip
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing = ignore_index, label_smoothing

    def forward(self, input, target):
        return ops.cross_entropy(
            input, target, self.weight, None, self.ignore_index, None, self.reduction, self.label_smoothing
        )


class NLLLoss(_Loss):
    """Negative log-likelihood of log-probabilities (from LogSoftmax): -w[t] x[t]; shapes as CrossEntropyLoss.

    >>> import minigrad as mg
    >>> mg.nn.NLLLoss()(mg.tensor([[-0.5, -1.0]]), mg.tensor([1]))
    tensor(1.)
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.ignore_index = ignore_index

    def forward(self, input, target):
        return ops.nll_loss(input, target, self.weight, None, self.ignore_index, None, self.reduction)


class BCELoss(_Loss):
    """Binary cross-entropy of probabilities; RuntimeError outside [0, 1]. For logits: BCEWithLogitsLoss.

    >>> import minigrad as mg
    >>> mg.nn.BCELoss()(mg.tensor([0.5]), mg.tensor([1.0]))
    tensor(0.6931)
    """

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)

    def forward(self, input, target):
        return ops.binary_cross_entropy(input, target, self.weight, None, None, self.reduction)


class BCEWithLogitsLoss(_Loss):
    """Sigmoid and binary cross-entropy in one; ``pos_weight`` multiplies the loss of positive targets.

    >>> import minigrad as mg
    >>> mg.nn.BCEWithLogitsLoss()(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 0.0]))
    tensor(1.2201)
    """

    def __init__(self, weight=None, size_average=None, reduce=None, reduction="mean", pos_weight=None):
        super().__init__(size_average, reduce, reduction)
        self.register_buffer("weight", weight)
        self.register_buffer("pos_weight", pos_weight)

    def forward(self, input, target):
        return ops.binary_cross_entropy_with_logits(
            input, target, self.weight, None, None, self.reduction, self.pos_weight
        )


class MSELoss(_Loss):
    """The squared difference of input and target, of equal shapes.

    >>> import minigrad as mg
    >>> mg.nn.MSELoss()(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(2.)
    """

    def forward(self, input, target):
        return ops.mse_loss(input, target, None, None, self.reduction)
