"""Losses as modules: each keeps its options and calls the function in ``nn.functional``; class weights are buffers."""

from ..ops import label_losses
from ..ops import losses as ops
from ..ops._loss import reduction_name, zero_of
from ..ops.gaussian_nll import gaussian_nll_loss
from .module import Module


class _Loss(Module):
    _reductions: tuple[str, ...] = ("mean", "sum", "none")

    def __init__(self, size_average=None, reduce=None, reduction="mean"):
        super().__init__()
        reduction = reduction_name(reduction, size_average, reduce)
        if reduction not in self._reductions:  # here, so that a typo shows where it was made
            known = ", ".join(map(repr, self._reductions[:-1]))
            raise ValueError(f"{reduction} is not a valid value for reduction: use {known} or {self._reductions[-1]!r}")
        self.reduction = reduction


class CrossEntropyLoss(_Loss):
    """log_softmax and negative log-likelihood in one: classification from logits.

    input (N, C), (N, C, d1, ...) or (C,), logits. target: class indices (N,), (N, d1, ...) or (), of any integer dtype,
    or class probabilities in the shape of the input. 'mean' divides by the weights of the targets that count; if none
    does, it is nan as in PyTorch, or 0 with ``all_ignored="zero"``.

    >>> import minigrad as mg
    >>> loss = mg.nn.CrossEntropyLoss(weight=mg.tensor([1.0, 2.0]))
    >>> loss(mg.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]]), mg.tensor([0, 1, 1]))
    tensor(0.3642)
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean",
                 label_smoothing=0.0, *, all_ignored="nan"):  # fmt: skip
        super().__init__(size_average, reduce, reduction)
        zero_of(all_ignored)
        self.register_buffer("weight", weight)
        self.ignore_index, self.label_smoothing, self.all_ignored = ignore_index, label_smoothing, all_ignored

    def forward(self, input, target):
        return label_losses.cross_entropy(
            input, target, self.weight, None, self.ignore_index, None, self.reduction, self.label_smoothing,
            all_ignored=self.all_ignored,
        )  # fmt: skip


class NLLLoss(_Loss):
    """Negative log-likelihood of log-probabilities (from LogSoftmax): -w[t] x[t].

    Shapes, labels and ``all_ignored`` as CrossEntropyLoss.

    >>> import minigrad as mg
    >>> mg.nn.NLLLoss()(mg.tensor([[-0.5, -1.0]]), mg.tensor([1]))
    tensor(1.)
    """

    def __init__(self, weight=None, size_average=None, ignore_index=-100, reduce=None, reduction="mean", *,
                 all_ignored="nan"):  # fmt: skip
        super().__init__(size_average, reduce, reduction)
        zero_of(all_ignored)
        self.register_buffer("weight", weight)
        self.ignore_index, self.all_ignored = ignore_index, all_ignored

    def forward(self, input, target):
        return label_losses.nll_loss(
            input, target, self.weight, None, self.ignore_index, None, self.reduction, all_ignored=self.all_ignored
        )


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

    Exact at infinite logits, where PyTorch gives nan: right and certain costs 0, wrong and certain inf.

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


class L1Loss(_Loss):
    """The absolute difference of input and target, of equal shapes.

    >>> import minigrad as mg
    >>> mg.nn.L1Loss()(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(1.)
    """

    def forward(self, input, target):
        return ops.l1_loss(input, target, None, None, self.reduction)


class SmoothL1Loss(_Loss):
    """d^2 / (2 beta) where d = |input - target| < beta, else d - beta/2 (Girshick 2015, equation 3).

    input, target: floats of one shape. ``beta = 0`` is L1Loss; forward refuses a negative one by RuntimeError.

    >>> import minigrad as mg
    >>> mg.nn.SmoothL1Loss(beta=2.0)(mg.tensor([1.0, 1.0]), mg.tensor([2.0, 4.0]))
    tensor(1.1250)
    """

    def __init__(self, size_average=None, reduce=None, reduction="mean", beta=1.0):
        super().__init__(size_average, reduce, reduction)
        self.beta = beta

    def forward(self, input, target):
        return ops.smooth_l1_loss(input, target, None, None, self.reduction, self.beta)


class HuberLoss(_Loss):
    """d^2 / 2 where d = |input - target| <= delta, else delta (d - delta/2) (Huber 1964).

    input, target: floats of one shape. Forward refuses a delta that is not positive by RuntimeError.

    >>> import minigrad as mg
    >>> mg.nn.HuberLoss(delta=2.0)(mg.tensor([1.0, 1.0]), mg.tensor([2.0, 4.0]))
    tensor(2.2500)
    """

    def __init__(self, reduction="mean", delta=1.0):
        super().__init__(None, None, reduction)
        self.delta = delta

    def forward(self, input, target):
        return ops.huber_loss(input, target, self.reduction, self.delta)


class KLDivLoss(_Loss):
    """Kullback-Leibler divergence: target (log target - input), the input being log-probabilities.

    input, target: floats of one shape, (N, ...). ``log_target``: the target holds log-probabilities too. Use
    'batchmean', the sum divided by N; 'mean' divides by the number of elements and warns. A target of 0 costs 0.

    >>> import minigrad as mg
    >>> loss = mg.nn.KLDivLoss(reduction="batchmean")
    >>> loss(mg.tensor([[0.5, 0.5]]).log(), mg.tensor([[0.25, 0.75]]))
    tensor(0.1308)
    """

    _reductions = ("mean", "batchmean", "sum", "none")

    def __init__(self, size_average=None, reduce=None, reduction="mean", log_target=False):
        super().__init__(size_average, reduce, reduction)
        self.log_target = log_target

    def forward(self, input, target):
        return ops.kl_div(input, target, None, None, self.reduction, self.log_target)


class PoissonNLLLoss(_Loss):
    """Negative log-likelihood of counts: exp(input) - target input, or input - target log(input + eps).

    The first with ``log_input``. input, target: of one shape. ``full`` adds log(target!) by Stirling where target > 1.

    >>> import minigrad as mg
    >>> mg.nn.PoissonNLLLoss()(mg.tensor([0.0, 1.0]), mg.tensor([0.0, 2.0]))
    tensor(0.8591)
    """

    def __init__(self, log_input=True, full=False, size_average=None, eps=1e-8, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.log_input, self.full, self.eps = log_input, full, eps

    def forward(self, input, target):
        return ops.poisson_nll_loss(input, target, self.log_input, self.full, None, self.eps, None, self.reduction)


class GaussianNLLLoss(_Loss):
    """(log(var) + (input - target)^2 / var) / 2 with var at least ``eps``; ``full`` adds log(2 pi) / 2.

    input, target: of one shape. var: not negative (ValueError); a number, or a tensor of that shape, of that shape
    without its last dimension, or with one size of 1 instead.

    >>> import minigrad as mg
    >>> mg.nn.GaussianNLLLoss()(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]), mg.tensor([1.0, 4.0]))
    tensor(0.5966)
    """

    def __init__(self, *, full=False, eps=1e-6, reduction="mean"):
        super().__init__(None, None, reduction)
        self.full, self.eps = full, eps

    def forward(self, input, target, var):
        return gaussian_nll_loss(input, target, var, self.full, self.eps, self.reduction)


class HingeEmbeddingLoss(_Loss):
    """The input where the target is 1, max(0, margin - input) where it is -1: distances of pairs.

    >>> import minigrad as mg
    >>> mg.nn.HingeEmbeddingLoss()(mg.tensor([0.5, 0.25]), mg.tensor([1, -1]))
    tensor(0.6250)
    """

    def __init__(self, margin=1.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input, target):
        return ops.hinge_embedding_loss(input, target, self.margin, None, None, self.reduction)


class SoftMarginLoss(_Loss):
    """log(1 + exp(-target input)) with targets 1 and -1; exact where PyTorch's exponential overflows.

    >>> import minigrad as mg
    >>> mg.nn.SoftMarginLoss()(mg.tensor([0.0, 1.0]), mg.tensor([1, -1]))
    tensor(1.0032)
    """

    def forward(self, input, target):
        return ops.soft_margin_loss(input, target, None, None, self.reduction)


class MarginRankingLoss(_Loss):
    """max(0, margin - target (input1 - input2)): which of two scores is to be the larger, by ``margin``.

    Three tensors of one shape; target 1: input1, -1: input2.

    >>> import minigrad as mg
    >>> mg.nn.MarginRankingLoss()(mg.tensor([1.0, 2.0]), mg.tensor([1.5, 0.0]), mg.tensor([1, 1]))
    tensor(0.2500)
    """

    def __init__(self, margin=0.0, size_average=None, reduce=None, reduction="mean"):
        super().__init__(size_average, reduce, reduction)
        self.margin = margin

    def forward(self, input1, input2, target):
        return ops.margin_ranking_loss(input1, input2, target, self.margin, None, None, self.reduction)
