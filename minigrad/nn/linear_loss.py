"""LinearCrossEntropyLoss: the last layer of a classifier and its loss as one module."""

import math

from ..ops._loss import zero_of
from ..ops.linear_cross_entropy import LinearCrossEntropyOptions, linear_cross_entropy
from .linear import Linear
from .losses import _Loss

__all__ = ["LinearCrossEntropyLoss", "LinearCrossEntropyOptions"]


class LinearCrossEntropyLoss(_Loss):
    """Linear and CrossEntropyLoss in one, in chunks of rows: the logits of a batch never exist as a whole.

    input (N, in_features), target as CrossEntropyLoss; for ``out_features`` (d1, ...) a loss at each of these
    positions, target (N, d1, ...). ``linear`` is the layer: its weight (num_classes * d1 * ..., in_features) and, if
    ``bias``, its bias. weight, ignore_index, label_smoothing, reduction, options, all_ignored: as
    ``nn.functional.linear_cross_entropy``, which says what it computes, and which takes other leading dimensions too.

    >>> import minigrad as mg
    >>> head = mg.nn.LinearCrossEntropyLoss(16, 1000)
    >>> head(mg.randn(8, 16), mg.randint(0, 1000, (8,))).shape
    minigrad.Size([])
    """

    def __init__(self, in_features, num_classes, *, out_features=(), bias=False, device=None, dtype=None,
                 reduction="mean", weight=None, ignore_index=None, label_smoothing=0.0, options=None,
                 all_ignored="nan"):  # fmt: skip
        if weight is not None and tuple(weight.shape) != (num_classes,):
            raise RuntimeError(f"expected weight shape to be {(num_classes,)}, got {tuple(weight.shape)}")
        if not 0 <= label_smoothing <= 1:
            raise RuntimeError(f"expected label_smoothing to be in range [0, 1], got {label_smoothing}")
        super().__init__(None, None, reduction)
        self.register_buffer("weight", weight)
        zero_of(all_ignored)
        self.all_ignored = all_ignored
        self.num_classes, self.out_features = num_classes, tuple(out_features)
        self.ignore_index, self.label_smoothing, self.options = ignore_index, label_smoothing, options
        self.linear = Linear(in_features, math.prod(self.out_features, start=num_classes), bias, device, dtype)

    def forward(self, input, target):
        w, b = self.linear.weight, self.linear.bias
        if self.out_features:
            w = w.reshape(self.num_classes, *self.out_features, self.linear.in_features)
            b = None if b is None else b.reshape(self.num_classes, *self.out_features)
        return linear_cross_entropy(
            input, w, target, linear_bias=b, weight=self.weight, reduction=self.reduction,
            ignore_index=self.ignore_index, label_smoothing=self.label_smoothing, options=self.options,
            all_ignored=self.all_ignored,
        )  # fmt: skip

    def extra_repr(self):
        return (
            f"in_features={self.linear.in_features}, num_classes={self.num_classes}, out_features={self.out_features}, "
            f"bias={self.linear.bias is not None}, reduction={self.reduction}, ignore_index={self.ignore_index}, "
            f"label_smoothing={self.label_smoothing}, options={self.options}"
        )
