"""The operations behind the layers, as functions; ``import minigrad.nn.functional as F``.

Losses and ``linear`` come from ``minigrad.ops``; what is composed here from other operations needs no rule of its own.
"""

import math

from .. import random as _random
from .._engine import Kernel, Tensor, copy_, empty
from .._storage import int64
from ..ops import pointwise as _p
from ..ops import reduce as _reduce
from ..ops._warn import warn_user as _warn_user
from ..ops.ctc import ctc_loss
from ..ops.distance import cosine_similarity, pairwise_distance
from ..ops.dropout import dropout as _dropout
from ..ops.embedding import embedding
from ..ops.gaussian_nll import gaussian_nll_loss
from ..ops.label_losses import cross_entropy, nll_loss
from ..ops.linear import linear
from ..ops.linear_cross_entropy import linear_cross_entropy
from ..ops.losses import (
    binary_cross_entropy,
    binary_cross_entropy_with_logits,
    hinge_embedding_loss,
    huber_loss,
    kl_div,
    l1_loss,
    margin_ranking_loss,
    mse_loss,
    poisson_nll_loss,
    smooth_l1_loss,
    soft_margin_loss,
)
from ..ops.normalisation import batch_norm, group_norm, layer_norm, rms_norm
from ..ops.row_losses import (
    cosine_embedding_loss,
    multi_margin_loss,
    multilabel_margin_loss,
    multilabel_soft_margin_loss,
    triplet_margin_loss,
    triplet_margin_with_distance_loss,
)
from .more_functional import (
    celu,
    glu,
    gumbel_softmax,
    hardshrink,
    hardsigmoid,
    hardswish,
    hardtanh,
    logsigmoid,
    mish,
    prelu,
    relu6,
    scaled_dot_product_attention,
    selu,
    softshrink,
    softsign,
    tanhshrink,
    threshold,
)

_K_ONE_HOT = Kernel("index.one_hot", 0.2)

__all__ = [
    "batch_norm", "binary_cross_entropy", "binary_cross_entropy_with_logits", "celu", "cosine_embedding_loss",
    "cosine_similarity", "cross_entropy", "ctc_loss", "dropout", "elu", "embedding", "gaussian_nll_loss", "gelu",
    "glu", "group_norm", "gumbel_softmax", "hardshrink", "hardsigmoid", "hardswish", "hardtanh",
    "hinge_embedding_loss", "huber_loss", "kl_div", "l1_loss", "layer_norm", "leaky_relu", "linear",
    "linear_cross_entropy", "log_softmax", "logsigmoid", "margin_ranking_loss", "mish", "mse_loss",
    "multi_margin_loss", "multilabel_margin_loss", "multilabel_soft_margin_loss", "nll_loss", "normalize", "one_hot",
    "pairwise_distance", "poisson_nll_loss", "prelu", "relu", "relu6", "rms_norm", "scaled_dot_product_attention",
    "selu", "sigmoid", "silu", "smooth_l1_loss", "soft_margin_loss", "softmax", "softmin", "softplus", "softshrink",
    "softsign", "tanh", "tanhshrink", "threshold", "triplet_margin_loss", "triplet_margin_with_distance_loss",
]  # fmt: skip


# --- activations ------------------------------------------------------------------------------------------------------


def relu(input, inplace=False):
    """max(x, 0); the gradient at 0 is 0.

    >>> import minigrad as mg
    >>> mg.nn.functional.relu(mg.tensor([-1.0, 2.0]))
    tensor([0., 2.])
    """
    return _p.relu.inplace(input) if inplace else _p.relu(input)


def sigmoid(input):
    """1 / (1 + exp(-x)).

    >>> import minigrad as mg
    >>> mg.nn.functional.sigmoid(mg.tensor([0.0, 1e4]))
    tensor([0.5000, 1.0000])
    """
    return _p.sigmoid(input)


def tanh(input):
    """The hyperbolic tangent.

    >>> import minigrad as mg
    >>> mg.nn.functional.tanh(mg.tensor([0.0, 1e4]))
    tensor([0., 1.])
    """
    return _p.tanh(input)


def leaky_relu(input, negative_slope=0.01, inplace=False):
    """x where x > 0, else ``negative_slope * x``.

    >>> import minigrad as mg
    >>> mg.nn.functional.leaky_relu(mg.tensor([-1.0, 2.0]), 0.1)
    tensor([-0.1000,  2.0000])
    """
    x = input.clone() if inplace else input
    return _written(input, _p.where(x > 0, x, x * negative_slope), inplace)


def elu(input, alpha=1.0, inplace=False):
    """x where x > 0, else ``alpha * (exp(x) - 1)``.

    >>> import minigrad as mg
    >>> mg.nn.functional.elu(mg.tensor([-1.0, 2.0]))
    tensor([-0.6321,  2.0000])
    """
    x = input.clone() if inplace else input
    # clamped, so that the branch that is not taken has a finite slope: 0 * inf would be nan
    return _written(input, _p.where(x > 0, x, _p.expm1(_p.clamp(x, max=0.0)) * alpha), inplace)


def silu(input, inplace=False):
    """x * sigmoid(x).

    >>> import minigrad as mg
    >>> mg.nn.functional.silu(mg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.7311])
    """
    x = input.clone() if inplace else input
    return _written(input, x * _p.sigmoid(x), inplace)


def gelu(input, approximate="none"):
    """x * Phi(x), Phi being the normal distribution; ``approximate="tanh"``: by its usual approximation.

    >>> import minigrad as mg
    >>> mg.nn.functional.gelu(mg.tensor([0.0, 1.0]))
    tensor([0.0000, 0.8413])
    """
    if approximate == "none":
        return input * 0.5 * (_p.erf(input * math.sqrt(0.5)) + 1)
    if approximate != "tanh":
        raise RuntimeError(f"approximate argument must be either none or tanh, got {approximate!r}")
    return input * 0.5 * (_p.tanh((input + input * input * input * 0.044715) * math.sqrt(2 / math.pi)) + 1)


def softplus(input, beta=1.0, threshold=20.0):
    """log(1 + exp(beta x)) / beta; x itself where ``beta * x > threshold``.

    >>> import minigrad as mg
    >>> mg.nn.functional.softplus(mg.tensor([0.0, 100.0]))
    tensor([  0.6931, 100.0000])
    """
    scaled = input * beta
    return _p.where(scaled > threshold, input, _p.softplus(scaled) / beta)


def _written(input, y, inplace):
    return copy_(input, y) if inplace else y


def _implicit_dim(name, ndim):
    _warn_user(
        f"Implicit dimension choice for {name} has been deprecated. Change the call to include dim=X as an argument."
    )
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input, dim=None, _stacklevel=3, dtype=None):
    """exp(x) / sum(exp(x)) along ``dim``; ``dtype``: convert the input first.

    >>> import minigrad as mg
    >>> mg.nn.functional.softmax(mg.tensor([1.0, 1.0]), dim=0)
    tensor([0.5000, 0.5000])
    """
    return _reduce.softmax(input, _implicit_dim("softmax", input.ndim) if dim is None else dim, dtype)


def log_softmax(input, dim=None, _stacklevel=3, dtype=None):
    """x - log(sum(exp(x))) along ``dim``; ``dtype``: convert the input first.

    >>> import minigrad as mg
    >>> mg.nn.functional.log_softmax(mg.tensor([1.0, 1.0]), dim=0)
    tensor([-0.6931, -0.6931])
    """
    return _reduce.log_softmax(input, _implicit_dim("log_softmax", input.ndim) if dim is None else dim, dtype)


def softmin(input, dim=None, _stacklevel=3, dtype=None):
    """``softmax(-x)`` along ``dim``; ``dtype``: convert the input first."""
    return _reduce.softmin(input, _implicit_dim("softmin", input.ndim) if dim is None else dim, dtype)


# --- the rest ---------------------------------------------------------------------------------------------------------


def dropout(input, p=0.5, training=True, inplace=False, *, generator=None):
    """Each element 0 with probability ``p``, the others divided by 1 - p; ``input`` itself if not ``training``.

    input: floating point, any shape. ValueError unless 0 <= p <= 1. ``generator``: the default one if None.

    >>> import minigrad as mg
    >>> mg.nn.functional.dropout(mg.ones(3), p=1.0)
    tensor([0., 0., 0.])
    >>> mg.nn.functional.dropout(mg.ones(3), training=False)
    tensor([1., 1., 1.])
    """
    if not 0 <= p <= 1:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if not training or p == 0:
        return input
    if not isinstance(input, Tensor) or not input.is_floating_point():
        kind = repr(input.dtype) if isinstance(input, Tensor) else type(input).__name__
        raise RuntimeError(f"dropout: input must be a floating-point tensor, got {kind}")
    if generator is None:
        generator = _random.default_generator
    seed, offset = generator.take(input.numel())
    return _written(input, _dropout(input, p, seed, offset), inplace)


def normalize(input, p=2.0, dim=1, eps=1e-12):
    """``input`` divided by its p-norm along ``dim``, or by ``eps`` where that is larger.

    >>> import minigrad as mg
    >>> mg.nn.functional.normalize(mg.tensor([[3.0, 4.0]]))
    tensor([[0.6000, 0.8000]])
    """
    return input / _p.clamp(_reduce.norm(input, p, dim, True), min=eps)


def one_hot(tensor, num_classes=-1):
    """1 at each label, 0 elsewhere, along a new last dimension of ``num_classes`` (the largest label + 1 if -1).

    tensor: integer labels of any shape; the result is int64. RuntimeError for labels outside [0, num_classes).

    >>> import minigrad as mg
    >>> mg.nn.functional.one_hot(mg.tensor([0, 2]), 3)
    tensor([[1, 0, 0],
            [0, 0, 1]])
    """
    if tensor.is_floating_point():
        raise RuntimeError(f"one_hot is only applicable to index tensors of integer type, got {tensor.dtype!r}")
    index = tensor.long().contiguous()
    if index.numel() == 0:
        if num_classes <= 0:
            raise RuntimeError("Can not infer total number of classes from empty tensor.")
        return empty((*index.shape, num_classes), int64, index)
    low, high = index.min().item(), index.max().item()
    if low < 0:
        raise RuntimeError(f"Class values must be non-negative, found {low}.")
    if num_classes == -1:
        num_classes = high + 1
    if high >= num_classes:
        raise RuntimeError(
            f"Class values must be smaller than num_classes, found {high} for num_classes={num_classes}."
        )
    y = empty((*index.shape, num_classes), int64, index)
    _K_ONE_HOT((y,), (index,), (num_classes,), (), index.numel(), y.numel())
    return y
