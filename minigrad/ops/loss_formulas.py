"""The losses once more, in differentiable operations: for second derivatives and for gradients of targets and weights.

``losses.pyx`` runs fused kernels; it comes here only when backward itself is recorded, or when something other than
the input needs a gradient. Reductions: 0 none, 1 mean, 2 sum, 3 the sum divided by the first size, 4 the mean, or 0 of
no rows.
"""

from math import inf, nan, tau
from math import log as log_of

from .._engine import Op
from .._engine import _cast as cast
from .pointwise import abs, clamp, exp, log, log1p, softplus, where


def _reduce(loss, reduction):
    if reduction == 3:
        return loss.sum() / loss.shape[0]
    return loss if reduction == 0 else loss.mean() if reduction == 1 else loss.sum()


def _by_label(logp, target, weight, ignore_index):
    """(-w_t logp_t, w_t, kept) of each row; ignored rows have weight 0."""
    kept = target != ignore_index
    safe = where(kept, target, 0)
    w = cast(kept, logp.dtype) if weight is None else where(kept, weight[safe], 0.0)
    picked = logp.gather(1, safe.unsqueeze(1)).squeeze(1)
    return where(kept, -picked * w, 0.0), w, kept


def _weighted_mean(loss, w, kept, reduction):
    """The sum divided by the weights; of no rows at all nan or 0, with gradients of 0."""
    some = kept.any()
    return where(some, loss.sum() / where(some, w.sum(), 1.0), 0.0 if reduction == 4 else nan)


def cross_entropy(x, target, weight, ignore_index, smoothing, reduction):
    """(1 - s) (-w_t logp_t) + s / C sum_c(-w_c logp_c), x (N, C), target (N,)."""
    logp = x.log_softmax(1)
    loss, w, kept = _by_label(logp, target, weight, ignore_index)
    if smoothing:
        spread = -(logp if weight is None else logp * weight).sum(1)
        loss = loss * (1 - smoothing) + where(kept, spread, 0.0) * (smoothing / x.shape[1])
    return _weighted_mean(loss, w, kept, reduction) if reduction in (1, 4) else _reduce(loss, reduction)


def nll_loss(x, target, weight, ignore_index, smoothing, reduction):
    """-w_t x_t, x (N, C), target (N,)."""
    loss, w, kept = _by_label(x, target, weight, ignore_index)
    return _weighted_mean(loss, w, kept, reduction) if reduction in (1, 4) else _reduce(loss, reduction)


def cross_entropy_probs(x, target, weight, smoothing, reduction):
    """-sum_c q_c logp_c with q = w (t (1 - s) + s / C), x and target (N, C)."""
    q = target * (1 - smoothing) + smoothing / x.shape[1] if smoothing else target
    if weight is not None:
        q = q * weight
    return _reduce(-(q * x.log_softmax(1)).sum(1), reduction)


def _weighted(loss, w, reduction):
    return _reduce(loss if w is None else loss * w, reduction)


def mse(x, t, w, q, constant, reduction):
    d = x - t
    return _weighted(d * d, w, reduction)


def _dbce(dy, x, t):
    return dy * ((x - t) / clamp(x * (1 - x), min=1e-12))  # finite at 0 and 1, the same as in the kernel


def _dbce_target(dy, x, t):
    return dy * (clamp(log1p(-x), min=-100.0) - clamp(log(x), min=-100.0))


_bce = Op("BinaryCrossEntropy", _dbce, _dbce_target)


def bce(x, t, w, q, constant, reduction):
    """-(t max(log x, -100) + (1 - t) max(log(1 - x), -100))."""
    a, b = x.detach(), t.detach()
    loss = (b - 1) * clamp(log1p(-a), min=-100.0) - b * clamp(log(a), min=-100.0)
    return _weighted(_bce.record(loss, x, t, saved=(x, t)), w, reduction)


def bce_logits(x, t, w, q, constant, reduction):
    """q t softplus(-x) + (1 - t) softplus(x); a term whose factor is 0 is 0 even where the softplus is infinite."""
    yes, no = (t if q is None else t * q), 1 - t
    minus, plus = softplus(-x), softplus(x)
    minus = where((yes == 0) & (minus == inf), 0.0, minus)
    plus = where((no == 0) & (plus == inf), 0.0, plus)
    return _weighted(yes * minus + no * plus, w, reduction)


def l1(x, t, w, q, constant, reduction):
    return _weighted(abs(x - t), w, reduction)


def smooth_l1(x, t, w, q, beta, reduction):
    d = x - t
    far = abs(d)
    return _weighted(where(far >= beta, far - 0.5 * beta, d * d * 0.5 / beta), w, reduction)


def huber(x, t, w, q, delta, reduction):
    d = x - t
    far = abs(d)
    return _weighted(where(far > delta, (far - 0.5 * delta) * delta, d * d * 0.5), w, reduction)


def kl(x, t, w, q, constant, reduction):
    """t (log t - x), 0 where t = 0."""
    return _reduce(where((t == 0) & (x == x), 0.0, t * (log(t) - x)), reduction)


def kl_log(x, t, w, q, constant, reduction):
    """e^t (t - x), 0 where e^t = 0."""
    p = exp(t)
    return _reduce(where((p == 0) & (x == x), 0.0, p * (t - x)), reduction)


def _stirling(t):
    large = t > 1
    safe = where(large | (t != t), t, 2.0)  # the branch that is not taken has a finite slope
    return where(large | (t != t), safe * log(safe) - safe + log(safe) * 0.5 + 0.5 * log_of(tau), 0.0)


def poisson(x, t, w, q, eps, reduction):
    return _reduce(x - t * log(x + eps), reduction)


def poisson_full(x, t, w, q, eps, reduction):
    return _reduce(x - t * log(x + eps) + _stirling(t), reduction)


def poisson_log(x, t, w, q, eps, reduction):
    return _reduce(exp(x) - t * x, reduction)


def poisson_log_full(x, t, w, q, eps, reduction):
    return _reduce(exp(x) - t * x + _stirling(t), reduction)


def hinge_embedding(x, t, w, q, margin, reduction):
    return _reduce(where(t != -1, x, 0.0) + where(t != 1, clamp(margin - x, min=0.0), 0.0), reduction)


def soft_margin(x, t, w, q, constant, reduction):
    return _reduce(softplus(-(t * x)), reduction)


def margin_ranking(x, t, w, q, margin, reduction):
    return _reduce(clamp(margin - t * x, min=0.0), reduction)
