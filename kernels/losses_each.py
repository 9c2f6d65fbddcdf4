"""Elementwise losses: the loss and its gradient in one pass, and a loss-only twin of each.

DESIGN
a. ``name`` writes the loss and ``dx = scale * d loss / d x``: with scale = 1/N for a mean, backward has nothing left to
   do. ``name_loss`` is for no_grad.
b. A unit is a block of BLOCK elements; ``part[block]`` is its sum in float64, or, with ``each``, ``loss[i]`` every
   element's loss (reduction='none'). The one not asked for may be NULL. Sums over blocks are the caller's.
c. One table of formulas, but for those with a weight or a gradient more. No loop assumes finite numbers: nan and inf
   come out as in PyTorch, but for the kinder limits of bce_logits, see there. bce_check looks at inputs, the caller
   raises.
"""

import numpy as np

from . import math as km
from .contract import T, dim, f8, i8, kernel, scalar
from .losses_parts import STRIP, _far, _fence, _hand_over, _jit, _jit_sum, scratch

BLOCK = 4096  # elements a unit; STRIP divides it


@_jit_sum
def _sum64(y, n):
    total = 0.0
    for i in range(n):
        total += np.float64(y[i])
    return total


@_jit
def _put(loss, y, o, n, each):
    """Hand a strip of losses over: to loss[o:], or as a sum."""
    if each:
        for i in range(n):
            loss[o + i] = y[i]
        return 0.0
    return _sum64(y, n)


def _elementwise(name, function, reference):
    """Kernels ``name`` and ``name_loss`` from ``function(x, t, c) -> loss, d loss / d x`` of one element."""
    f = _jit(function)

    def fused(
        part: f8,  # (blocks,) sums in float64, or NULL if each
        loss: T,  # (n,) if each, or NULL
        dx: T,  # (n,)
        x: T,  # (n,)
        t: T,  # (n,)
        w: T,  # (n,), or NULL
        n: dim,
        each: dim,
        has_weight: dim,
        c: scalar,  # beta of smooth_l1, delta of huber, eps of poisson, a margin; the others have none
        scale: scalar,
        lo,
        hi,
    ):
        y, g, far = scratch(T, STRIP), scratch(T, STRIP), _far(dx, (hi - lo) * BLOCK)
        for block in range(lo, hi):
            total, end = 0.0, min(block * BLOCK + BLOCK, n)
            for o in range(block * BLOCK, end, STRIP):
                m = min(STRIP, end - o)
                for i in range(m):
                    y[i], g[i] = f(x[o + i], t[o + i], c)
                if has_weight:
                    for i in range(m):
                        y[i] = y[i] * w[o + i]
                        g[i] = g[i] * w[o + i]
                _hand_over(dx, o, g, 0, m, scale, far)
                total += _put(loss, y, o, m, each)
            if not each:
                part[block] = total
        if far:
            _fence()

    def loss_only(part: f8, loss: T, x: T, t: T, w: T, n: dim, each: dim, has_weight: dim, c: scalar, lo, hi):
        y = scratch(T, STRIP)
        for block in range(lo, hi):
            total, end = 0.0, min(block * BLOCK + BLOCK, n)
            for o in range(block * BLOCK, end, STRIP):
                m = min(STRIP, end - o)
                for i in range(m):
                    y[i] = f(x[o + i], t[o + i], c)[0]
                if has_weight:
                    for i in range(m):
                        y[i] = y[i] * w[o + i]
                total += _put(loss, y, o, m, each)
            if not each:
                part[block] = total

    def fused_reference(part, loss, dx, x, t, w, n, each, has_weight, c, scale):
        y, g = reference(x.astype(float), t.astype(float), c)
        w = w.astype(float) if has_weight else 1.0
        dx[:] = scale * w * g
        _reference_put(part, loss, w * y, each)

    def loss_only_reference(part, loss, x, t, w, n, each, has_weight, c):
        fused_reference(part, loss, np.zeros_like(x), x, t, w, n, each, has_weight, c, 1)

    fused.__doc__ = f"{function.__doc__} Unit: block of BLOCK elements."
    loss_only.__doc__ = f"The loss of {name}. Unit: block of BLOCK elements."
    fused.__module__ = loss_only.__module__ = __name__
    kernel(fused, name=name).reference(fused_reference)
    kernel(loss_only, name=f"{name}_loss").reference(loss_only_reference)


def _mse(x, t, c):
    """loss = (x - t)^2; dx = 2 (x - t)."""
    d = x - t
    return d * d, d + d


def _mse_reference(x, t, c):
    return (x - t) ** 2, 2 * (x - t)


@_jit
def _sign(d):
    return type(d)(d > type(d)(0)) - type(d)(d < type(d)(0))  # of nan: 0, as in PyTorch


def _l1(x, t, c):
    """loss = |x - t|; dx = sign(x - t)."""
    return abs(x - t), _sign(x - t)


def _l1_reference(x, t, c):
    return np.abs(x - t), np.where(np.isnan(x - t), 0, np.sign(x - t))


def _smooth_l1(x, t, c):
    """loss = d^2 / (2 beta) where d = |x - t| < beta, else d - beta/2; beta = 0 is l1."""
    d, half = x - t, type(x)(0.5)
    z = abs(d)
    far = z >= c
    q = d / c
    return z - half * c if far else half * d * q, _sign(d) if far else q


def _smooth_l1_reference(x, t, beta):
    """Girshick 2015, Fast R-CNN, equation 3."""
    d = x - t
    near = ~(np.abs(d) >= beta)
    return np.where(near, d * d / (2 * beta), np.abs(d) - beta / 2), np.where(near, d / beta, np.sign(d))


def _huber(x, t, c):
    """loss = d^2 / 2 where d = |x - t| <= delta, else delta (d - delta/2)."""
    d, half = x - t, type(x)(0.5)
    z = abs(d)
    far = z > c
    return c * (z - half * c) if far else half * d * d, c * _sign(d) if far else d


def _huber_reference(x, t, delta):
    """Huber 1964."""
    d = x - t
    near = ~(np.abs(d) > delta)
    return np.where(near, d * d / 2, delta * (np.abs(d) - delta / 2)), np.where(near, d, delta * np.sign(d))


def _bce(x, t, c):
    """loss = -t log x - (1 - t) log(1 - x), logs clamped at -100; dx = (x - t) / max(x (1 - x), 1e-12)."""
    one, least, tiny = type(x)(1), type(x)(-100), type(x)(1e-12)
    log, log_not, v = km.log(x), km.log1p(-x), (one - x) * x
    log = least if log < least else log
    log_not = least if log_not < least else log_not
    return (t - one) * log_not - t * log, (x - t) / (tiny if v < tiny else v)


def _bce_reference(x, t, c):
    loss = (t - 1) * np.maximum(np.log1p(-x), -100) - t * np.maximum(np.log(x), -100)
    return loss, (x - t) / np.maximum(x * (1 - x), 1e-12)


def _kl(x, t, c):
    """loss = t (log t - x), 0 where t = 0, even at x = -inf; dx = -t."""
    y, zero = t * (km.log(t) - x), type(x)(0)
    return (x if x != x else zero) if t == zero else y, -t


def _kl_reference(x, t, c):
    """Kullback and Leibler 1951, of log-probabilities x against probabilities t."""
    return np.where((t == 0) & ~np.isnan(x), 0, t * (np.log(t) - x)), -t


def _kl_log(x, t, c):
    """loss = e^t (t - x), 0 where e^t = 0; dx = -e^t."""
    e, zero = km.exp(t), type(x)(0)
    return (x if x != x else zero) if e == zero else e * (t - x), -e


def _kl_log_reference(x, t, c):
    return np.where((np.exp(t) == 0) & ~np.isnan(x), 0, np.exp(t) * (t - x)), -np.exp(t)


@_jit
def _stirling(t):
    """log t! = t log t - t + log(2 pi t) / 2, about; 0 for t <= 1, as in PyTorch."""
    one = type(t)(1)
    return type(t)(0) if t <= one else (t + type(t)(0.5)) * km.log(t) - t + type(t)(0.9189385332046727)


def _stirling_reference(t):
    return np.where(t <= 1, 0, t * np.log(t) - t + np.log(2 * np.pi * t) / 2)


def _poisson_log(x, t, c):
    """loss = e^x - t x; dx = e^x - t."""
    e = km.exp(x)
    return e - t * x, e - t


def _poisson_log_reference(x, t, c):
    """-log of e^(-m) m^t / t! without log t!, for the mean m = e^x."""
    return np.exp(x) - t * x, np.exp(x) - t


def _poisson(x, t, c):
    """loss = x - t log(x + eps); dx = 1 - t / (x + eps)."""
    m = x + c
    return x - t * km.log(m), type(x)(1) - t / m


def _poisson_reference(x, t, eps):
    return x - t * np.log(x + eps), 1 - t / (x + eps)


def _poisson_log_full(x, t, c):
    """loss = e^x - t x + log t!, by Stirling; dx = e^x - t."""
    e = km.exp(x)
    return e - t * x + _stirling(t), e - t


def _poisson_log_full_reference(x, t, c):
    return np.exp(x) - t * x + _stirling_reference(t), np.exp(x) - t


def _poisson_full(x, t, c):
    """loss = x - t log(x + eps) + log t!, by Stirling; dx = 1 - t / (x + eps)."""
    m = x + c
    return x - t * km.log(m) + _stirling(t), type(x)(1) - t / m


def _poisson_full_reference(x, t, eps):
    return x - t * np.log(x + eps) + _stirling_reference(t), 1 - t / (x + eps)


def _hinge_embedding(x, t, c):
    """loss = x where t = 1, max(0, margin - x) where t = -1, their sum elsewhere, as in PyTorch."""
    zero, one = type(x)(0), type(x)(1)
    a, near, far = c - x, t != -one, t != one
    y, slope = (zero if a < zero else a) if far else zero, type(x)(far & (a >= zero))
    return (x if near else zero) + y, type(x)(near) - slope


def _hinge_embedding_reference(x, t, margin):
    near, far = t != -1, t != 1
    loss = np.where(near, x, 0) + np.where(far, np.maximum(0, margin - x), 0)
    return loss, near * 1.0 - (far & (margin - x >= 0))


def _soft_margin(x, t, c):
    """loss = log(1 + e^(-t x)); dx = -t sigmoid(-t x)."""
    zero, one, z = type(x)(0), type(x)(1), t * x
    e = km.exp_down(-abs(z))
    s = one / (one + e)
    return (zero if z >= zero else -z) + km.log1p_unit(e), -t * (e * s if z >= zero else s)


def _soft_margin_reference(x, t, c):
    return np.logaddexp(0, -t * x), -t * np.exp(-np.logaddexp(0, t * x))


def _margin_ranking(x, t, c):
    """loss = max(0, margin - t x), x the difference of two scores; dx = -t where margin >= t x."""
    zero, a = type(x)(0), c - t * x
    return zero if a < zero else a, -t * type(x)(a >= zero)


def _margin_ranking_reference(x, t, margin):
    return np.maximum(0, margin - t * x), -t * (margin - t * x >= 0)


for _name, _function, _reference in (
    ("mse", _mse, _mse_reference),
    ("l1", _l1, _l1_reference),
    ("smooth_l1", _smooth_l1, _smooth_l1_reference),
    ("huber", _huber, _huber_reference),
    ("bce", _bce, _bce_reference),
    ("kl", _kl, _kl_reference),
    ("kl_log", _kl_log, _kl_log_reference),
    ("poisson", _poisson, _poisson_reference),
    ("poisson_full", _poisson_full, _poisson_full_reference),
    ("poisson_log", _poisson_log, _poisson_log_reference),
    ("poisson_log_full", _poisson_log_full, _poisson_log_full_reference),
    ("hinge_embedding", _hinge_embedding, _hinge_embedding_reference),
    ("soft_margin", _soft_margin, _soft_margin_reference),
    ("margin_ranking", _margin_ranking, _margin_ranking_reference),
):
    _elementwise(_name, _function, _reference)


@kernel
def bce_check(bad: i8, x: T, t: T, n: dim, lo, hi):
    """bad[0], bad[1] = first element of x, of t outside [0, 1] or nan, or -1. One unit."""
    if lo < hi:
        bad[0] = _first_outside(x, n)
        bad[1] = _first_outside(t, n)


@_jit
def _first_outside(x, n):
    for o in range(0, n, STRIP):
        end, wrong = min(o + STRIP, n), 0
        for i in range(o, end):
            wrong |= not ((x[i] >= type(x[0])(0)) & (x[i] <= type(x[0])(1)))
        if wrong:
            for i in range(o, end):
                if not (x[i] >= type(x[0])(0) and x[i] <= type(x[0])(1)):
                    return i
    return -1


@bce_check.reference
def _(bad, x, t, n):
    for k, a in enumerate((x, t)):
        wrong = np.flatnonzero(~((a >= 0) & (a <= 1)))
        bad[k] = wrong[0] if len(wrong) else -1


# --- binary cross-entropy with logits ---------------------------------------------------------------------------------


@_jit
def _bce_logits(x, t, q):
    """(q t) softplus(-x) + (1 - t) softplus(x) and its derivative, from one exp.

    A term whose factor is 0 is 0 even where the softplus is infinite: (inf, 1) and (-inf, 0) are certain and right,
    loss 0. PyTorch gives nan. Both terms are sums of positive numbers for t in [0, 1]: nothing cancels.
    """
    zero, one = type(x)(0), type(x)(1)
    size = abs(x)
    e = km.exp_down(-size)
    a, b = one - t, q * t
    wrong, right = (b, a) if km.negative(x) else (a, b)  # weights of the side that costs |x| more, and of the other
    distance = zero if wrong == zero else wrong * size
    slope = km.mad(-right, e, wrong) * (one / (one + e))
    return km.mad(a + b, km.log1p_unit(e), distance), km.flip(slope, x)


@kernel
def bce_logits(
    part: f8,  # (blocks,) sums in float64, or NULL if each
    loss: T,  # (n,) if each, or NULL
    dx: T,  # (n,)
    x: T,  # (n,) logits
    t: T,  # (n,)
    w: T,  # (n,), or NULL
    q: T,  # (n,) weight of the positive class, or NULL
    n: dim,
    each: dim,
    has_weight: dim,
    has_pos_weight: dim,
    scale: scalar,
    lo,
    hi,
):
    """loss = w (q t softplus(-x) + (1 - t) softplus(x)); dx its derivative. Unit: block of BLOCK elements."""
    y, g, far = scratch(T, STRIP), scratch(T, STRIP), _far(dx, (hi - lo) * BLOCK)
    for block in range(lo, hi):
        total, end = 0.0, min(block * BLOCK + BLOCK, n)
        for o in range(block * BLOCK, end, STRIP):
            m = min(STRIP, end - o)
            if has_pos_weight:
                for i in range(m):
                    y[i], g[i] = _bce_logits(x[o + i], t[o + i], q[o + i])
            else:
                for i in range(m):
                    y[i], g[i] = _bce_logits(x[o + i], t[o + i], T(1))
            if has_weight:
                for i in range(m):
                    y[i] = y[i] * w[o + i]
                    g[i] = g[i] * w[o + i]
            _hand_over(dx, o, g, 0, m, scale, far)
            total += _put(loss, y, o, m, each)
        if not each:
            part[block] = total
    if far:
        _fence()


@bce_logits.reference
def _(part, loss, dx, x, t, w, q, n, each, has_weight, has_pos_weight, scale):
    """Goodfellow et al. 2016, section 6.2.2.2; softplus(x) = log(1 + e^x)."""
    x, t = x.astype(float), t.astype(float)
    a, b = 1 - t, (q.astype(float) if has_pos_weight else 1.0) * t
    w = w.astype(float) if has_weight else 1.0
    y = np.where(a == 0, 0, a * np.logaddexp(0, x)) + np.where(b == 0, 0, b * np.logaddexp(0, -x))
    dx[:] = scale * w * (a * np.exp(-np.logaddexp(0, -x)) - b * np.exp(-np.logaddexp(0, x)))
    _reference_put(part, loss, w * y, each)


@kernel
def bce_logits_loss(
    part: f8,  # (blocks,) sums in float64, or NULL if each
    loss: T,  # (n,) if each, or NULL
    x: T,  # (n,) logits
    t: T,  # (n,)
    w: T,  # (n,), or NULL
    q: T,  # (n,) weight of the positive class, or NULL
    n: dim,
    each: dim,
    has_weight: dim,
    has_pos_weight: dim,
    lo,
    hi,
):
    """The loss of bce_logits. Unit: block of BLOCK elements."""
    y = scratch(T, STRIP)
    for block in range(lo, hi):
        total, end = 0.0, min(block * BLOCK + BLOCK, n)
        for o in range(block * BLOCK, end, STRIP):
            m = min(STRIP, end - o)
            if has_pos_weight:
                for i in range(m):
                    y[i] = _bce_logits(x[o + i], t[o + i], q[o + i])[0]
            else:
                for i in range(m):
                    y[i] = _bce_logits(x[o + i], t[o + i], T(1))[0]
            if has_weight:
                for i in range(m):
                    y[i] = y[i] * w[o + i]
            total += _put(loss, y, o, m, each)
        if not each:
            part[block] = total


@bce_logits_loss.reference
def _(part, loss, x, t, w, q, n, each, has_weight, has_pos_weight):
    bce_logits.reference_fn(part, loss, np.zeros_like(x), x, t, w, q, n, each, has_weight, has_pos_weight, 1)


# --- Gaussian negative log-likelihood ---------------------------------------------------------------------------------


@_jit
def _gaussian_nll(x, t, v, eps, constant):
    """(log v + (x - t)^2 / v) / 2 + constant, v at least eps, and its derivatives by x and by v."""
    half = type(x)(0.5)
    v = eps if v < eps else v
    d = x - t
    q = d / v
    return half * (km.log(v) + d * q) + constant, q, half * (type(x)(1) - d * q) / v


@kernel
def gaussian_nll(
    part: f8,  # (blocks,) sums in float64, or NULL if each
    loss: T,  # (n,) if each, or NULL
    dx: T,  # (n,)
    dv: T,  # (n,) gradient with respect to the variance, or NULL
    x: T,  # (n,) means
    t: T,  # (n,)
    v: T,  # (n,) variances, not negative
    n: dim,
    each: dim,
    has_dv: dim,
    eps: scalar,
    constant: scalar,  # log(2 pi) / 2, or 0
    scale: scalar,
    lo,
    hi,
):
    """loss = (log v + (x - t)^2 / v) / 2 + constant, v = max(v, eps); dx = (x - t) / v. Unit: block of BLOCK elements.

    dv = (1 - (x - t)^2 / v) / (2 v), also where v was less than eps, as in PyTorch.
    """
    y, g, h = scratch(T, STRIP), scratch(T, STRIP), scratch(T, STRIP)
    for block in range(lo, hi):
        total, end = 0.0, min(block * BLOCK + BLOCK, n)
        for o in range(block * BLOCK, end, STRIP):
            m = min(STRIP, end - o)
            for i in range(m):
                y[i], g[i], h[i] = _gaussian_nll(x[o + i], t[o + i], v[o + i], eps, constant)
            for i in range(m):
                dx[o + i] = scale * g[i]
            if has_dv:
                for i in range(m):
                    dv[o + i] = scale * h[i]
            total += _put(loss, y, o, m, each)
        if not each:
            part[block] = total


@gaussian_nll.reference
def _(part, loss, dx, dv, x, t, v, n, each, has_dv, eps, constant, scale):
    """Nix and Weigend 1994, equation 6."""
    x, t, v = x.astype(float), t.astype(float), np.maximum(v.astype(float), eps)
    dx[:] = scale * (x - t) / v
    if has_dv:
        dv[:] = scale * (1 - (x - t) ** 2 / v) / (2 * v)
    _reference_put(part, loss, (np.log(v) + (x - t) ** 2 / v) / 2 + constant, each)


@kernel
def gaussian_nll_loss(
    part: f8,  # (blocks,) sums in float64, or NULL if each
    loss: T,  # (n,) if each, or NULL
    x: T,  # (n,) means
    t: T,  # (n,)
    v: T,  # (n,) variances, not negative
    n: dim,
    each: dim,
    eps: scalar,
    constant: scalar,
    lo,
    hi,
):
    """The loss of gaussian_nll. Unit: block of BLOCK elements."""
    y = scratch(T, STRIP)
    for block in range(lo, hi):
        total, end = 0.0, min(block * BLOCK + BLOCK, n)
        for o in range(block * BLOCK, end, STRIP):
            m = min(STRIP, end - o)
            for i in range(m):
                y[i] = _gaussian_nll(x[o + i], t[o + i], v[o + i], eps, constant)[0]
            total += _put(loss, y, o, m, each)
        if not each:
            part[block] = total


@gaussian_nll_loss.reference
def _(part, loss, x, t, v, n, each, eps, constant):
    gaussian_nll.reference_fn(part, loss, np.zeros_like(x), None, x, t, v, n, each, 0, eps, constant, 1)


def _reference_put(part, loss, y, each):
    if each:
        loss[:] = y
    else:
        part[:] = [y[o : o + BLOCK].sum() for o in range(0, len(y), BLOCK)]
