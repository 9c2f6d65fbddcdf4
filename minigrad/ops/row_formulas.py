"""The losses of ``row_losses`` once more, in differentiable operations; they come here as in ``loss_formulas``.

Arguments: the inputs, what else the kernel reads, the constants, and the reduction (0 none, 1 mean, 2 sum).
"""

from ._arrays import from_array
from ._late import np
from .distance import pairwise_distance
from .indexing import gather
from .loss_formulas import _reduce
from .pointwise import clamp, minimum, softplus, sqrt, where
from .reduce import sum


def _classes(n, like):
    return from_array(np.arange(n), like=like)


def multi_margin(x, target, weight, p, margin, shape, reduction):
    """w_t / C sum over j != t of max(0, margin - x_t + x_j)**p."""
    rows, n = target.numel(), x.shape[-1] if x.ndim else 1
    x, t = x.reshape(rows, n), target.reshape(rows, 1)
    z = margin - gather(x, 1, t) + x
    h = where((z > 0) & (_classes(n, t) != t), z, 0.0)
    loss = sum(h if p == 1 else h * h, 1) / n
    if weight is not None:
        loss = loss * weight[target.reshape(rows)]
    return _reduce(loss.reshape(shape), reduction)


def multilabel_margin(x, target, shape, reduction):
    """1/C sum over labels t and classes j that are none of max(0, 1 - x_t + x_j); labels end at the first -1."""
    n = x.shape[-1] if x.ndim else 1
    x, t = x.reshape(-1, n), target.reshape(-1, n)
    valid = (t < 0).cumsum(1) == 0
    labels = where(valid, t, 0)
    hit = (_classes(n, t) == labels.unsqueeze(2)) & valid.unsqueeze(2)  # (N, K, C)
    z = 1 - gather(x, 1, labels).unsqueeze(2) + x.unsqueeze(1)
    counts = valid.unsqueeze(2) & (~hit.any(1)).unsqueeze(1) & (z > 0)
    return _reduce((sum(where(counts, z, 0.0), (1, 2)) / n).reshape(shape), reduction)


def multilabel_soft_margin(x, target, weight, dim, reduction):
    """1/C sum_j w_j (t_j softplus(-x_j) + (1 - t_j) softplus(x_j))."""
    loss = target * softplus(-x) + (1 - target) * softplus(x)
    if weight is not None:
        loss = loss * weight
    return _reduce(sum(loss, dim) / x.shape[dim], reduction)


def cosine_embedding(a, b, target, margin, reduction):
    """1 - cos if t = 1, max(0, cos - margin) if t = -1."""
    cos = sum(a * b, -1) / sqrt((sum(a * a, -1) + 1e-12) * (sum(b * b, -1) + 1e-12))
    loss = where(target == 1, 1 - cos, where(target == -1, clamp(cos - margin, min=0.0), 0.0))
    return _reduce(loss, reduction)


def triplet(a, p, n, margin, order, eps, swap, reduction):
    """max(0, margin + |a - p| - |a - n|)."""
    return hinge(a, p, n, lambda u, v: pairwise_distance(u, v, order, eps), margin, swap, reduction)


def hinge(a, p, n, distance, margin, swap, reduction):
    """The same of any distance."""
    near, far = distance(a, p), distance(a, n)
    if swap:
        far = minimum(far, distance(p, n))
    return _reduce(clamp(margin + near - far, min=0.0), reduction)
