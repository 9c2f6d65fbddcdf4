"""Losses whose unit is a row: margins over classes, cosines, triplets; each with its gradients in one pass.

DESIGN
a. As in losses.py, ``name`` writes ``loss[row]`` and every gradient times ``scale``, ``name_loss`` the same loss alone.
   Both call the same helpers for everything that is summed, so that their losses have the same bits.
b. Sums are float64, in the order of the row; or, over one contiguous array, reassociated in strips, as there.
c. What runs once a row and is long to compile is a call, not inlined.
d. Comparisons are written so that nan and ties fall as in PyTorch; inputs are checked by the caller.
"""

import numpy as np

from . import math as km
from .contract import T, dim, f8s, i8, jit, kernel, scalar, u1
from .losses_parts import STRIP, _jit, _jit_sum, _label, _zero, scratch

COSINE_EPS = 1e-12  # PyTorch's, added to each squared length
inf = np.inf
_call = jit  # left to a call: a row is long enough for it, and it is compiled once


# --- multi-class margin -----------------------------------------------------------------------------------------------


@_jit
def _hinge(z, p):
    """max(z, 0)**p for p 1 or 2; 0 for nan."""
    zero = type(z)(0)
    h = z if z > zero else zero
    return h if p == 1 else h * h


@_jit_sum
def _hinges(x, first, end, base, p):
    s = type(base)(0)
    for j in range(first, end):
        s += _hinge(base + x[j], p)
    return s


@_call
def _multi_margin(x, o, n, t, w, p, margin):
    base = margin - x[o + t]
    return w * (_hinges(x, o, o + t, base, p) + _hinges(x, o + t + 1, o + n, base, p)) / type(base)(n)


@_jit_sum
def _multi_margin_gradient(dx, x, o, n, t, each, p, margin):
    base, zero, total = margin - x[o + t], type(each)(0), type(each)(0)
    for j in range(o, o + n):
        z = base + x[j]
        g = (each if p == 1 else (each + each) * z) if z > zero else zero
        dx[j] = g
        total += g
    dx[o + t] -= total  # its own term, which is in the total, cancels: d(margin - x_t + x_t) = 0


@kernel
def multi_margin(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    x: T,  # (N, C)
    target: i8,  # (N,) labels in [0, C)
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    p: dim,  # 1 or 2
    margin: scalar,
    scale: scalar,
    lo,
    hi,
):
    """loss = w_t / C sum over j != t of max(0, margin - x_t + x_j)**p; dx = scale times its gradient. Unit: row."""
    n = n_classes
    for row in range(lo, hi):
        t = max(_label(target, row, n, -1), 0)  # checked by the caller, but another thread may write it
        w = weight[t] if has_weight else T(1)
        loss[row] = _multi_margin(x, row * n, n, t, w, p, margin)
        _multi_margin_gradient(dx, x, row * n, n, t, scale * w / T(n), p, margin)


@multi_margin.reference
def _(loss, dx, x, target, weight, n_classes, has_weight, p, margin, scale):
    """Crammer and Singer 2001, summed over all wrong classes (Weston and Watkins 1999)."""
    x = x.reshape(-1, n_classes).astype(float)
    rows = np.arange(len(x))
    w = (weight.astype(float) if has_weight else np.ones(n_classes))[target] / n_classes
    z = margin - x[rows, target][:, None] + x
    z[rows, target] = 0
    h = np.where(z > 0, z, 0)
    loss[:] = w * (h**p).sum(1)
    d = scale * w[:, None] * (p * h ** (p - 1) * (z > 0))
    d[rows, target] = -d.sum(1)
    dx.reshape(x.shape)[:] = d


@kernel
def multi_margin_loss(
    loss: T,  # (N,)
    x: T,  # (N, C)
    target: i8,  # (N,)
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    p: dim,
    margin: scalar,
    lo,
    hi,
):
    """The loss of multi_margin. Unit: row."""
    n = n_classes
    for row in range(lo, hi):
        t = max(_label(target, row, n, -1), 0)
        loss[row] = _multi_margin(x, row * n, n, t, weight[t] if has_weight else T(1), p, margin)


@multi_margin_loss.reference
def _(loss, x, target, weight, n_classes, has_weight, p, margin):
    multi_margin.reference_fn(loss, np.zeros_like(x), x, target, weight, n_classes, has_weight, p, margin, 1)


# --- multi-label margin -----------------------------------------------------------------------------------------------


@_jit
def _mark(mark, target, o, n):
    """Mark the labels of a row, which end at the first -1; how many they are."""
    for j in range(o, o + n):
        mark[j] = 0
    for k in range(n):
        t = _label(target, o + k, n, -1)
        if t < 0:
            return k
        mark[o + t] = 1
    return n


@_jit
def _label_hinges(mark, x, o, n, base):
    total = 0.0
    for j in range(o, o + n):
        total += np.float64(_hinge(base + x[j], 1)) if mark[j] == 0 else 0.0
    return total


@kernel
def multilabel_margin(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    mark: u1,  # (N, C) room: 1 where a class is a label
    x: T,  # (N, C)
    target: i8,  # (N, C) a row's labels, ended by -1
    n_classes: dim,
    scale: scalar,
    lo,
    hi,
):
    """loss = 1/C sum over labels t, other classes j, of max(0, 1 - x_t + x_j); dx = scale times its gradient."""
    n = n_classes
    each = scale / T(n)
    for row in range(lo, hi):
        o, total = row * n, 0.0
        labels = _mark(mark, target, o, n)
        _zero(dx, o, n)
        for k in range(labels):
            t = o + max(_label(target, o + k, n, -1), 0)
            base = T(1) - x[t]
            total += _label_hinges(mark, x, o, n, base)
            above = 0
            for j in range(o, o + n):
                if mark[j] == 0 and base + x[j] > T(0):
                    dx[j] += each
                    above += 1
            dx[t] -= each * T(above)
        loss[row] = T(total / n)


@multilabel_margin.reference
def _(loss, dx, mark, x, target, n_classes, scale):
    n = n_classes
    x, target, mark, dx = (a.reshape(-1, n) for a in (x, target, mark, dx))
    mark[:], dx[:] = 0, 0
    for row in range(len(x)):
        ends = np.flatnonzero(target[row] < 0)
        labels = target[row, : ends[0] if len(ends) else n]
        mark[row, labels] = 1
        z = 1 - x[row, labels].astype(float)[:, None] + x[row].astype(float)
        above = (z > 0) & (mark[row] == 0)
        loss[row] = np.where(above, z, 0).sum() / n
        dx[row] = scale / n * above.sum(0)
        np.subtract.at(dx[row], labels, scale / n * above.sum(1))


@kernel
def multilabel_margin_loss(
    loss: T,  # (N,)
    mark: u1,  # (N, C) room
    x: T,  # (N, C)
    target: i8,  # (N, C)
    n_classes: dim,
    lo,
    hi,
):
    """The loss of multilabel_margin. Unit: row."""
    n = n_classes
    for row in range(lo, hi):
        o, total = row * n, 0.0
        for k in range(_mark(mark, target, o, n)):
            total += _label_hinges(mark, x, o, n, T(1) - x[o + max(_label(target, o + k, n, -1), 0)])
        loss[row] = T(total / n)


@multilabel_margin_loss.reference
def _(loss, mark, x, target, n_classes):
    multilabel_margin.reference_fn(loss, np.zeros_like(x), mark, x, target, n_classes, 1)


# --- multi-label soft margin ------------------------------------------------------------------------------------------


@_jit
def _soft_margin(x, t):
    """t softplus(-x) + (1 - t) softplus(x) and its derivative, from one exp. 0 * inf is nan, as in PyTorch."""
    one, size = type(x)(1), abs(x)
    e = km.exp_down(-size)
    wrong, right = (t, one - t) if km.negative(x) else (one - t, t)  # of the side that costs |x| more, and of the other
    log = km.log1p_unit(e)
    slope = km.mad(-right, e, wrong) * (one / (one + e))
    return wrong * (size + log) + right * log, km.flip(slope, x)


@_jit_sum
def _strip_sum(y, n):
    s = type(y[0])(0)
    for i in range(n):
        s += y[i]
    return np.float64(s)


@kernel
def multilabel_soft_margin(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    x: T,  # (N, C) logits
    target: T,  # (N, C)
    weight: T,  # (N, C), or (C,) with weight_step 0, or NULL
    n_classes: dim,
    has_weight: dim,
    weight_step: dim,
    scale: scalar,
    lo,
    hi,
):
    """loss = 1/C sum_j w_j (t_j softplus(-x_j) + (1 - t_j) softplus(x_j)); dx = scale times its gradient. Unit: row."""
    n = n_classes
    each = scale / T(n)
    y = scratch(T, STRIP)
    for row in range(lo, hi):
        total = 0.0
        for first in range(0, n, STRIP):
            m, o, ow = min(STRIP, n - first), row * n + first, row * weight_step + first
            for i in range(m):
                y[i], g = _soft_margin(x[o + i], target[o + i])
                dx[o + i] = each * g
            if has_weight:
                for i in range(m):
                    y[i] = y[i] * weight[ow + i]
                    dx[o + i] = dx[o + i] * weight[ow + i]
            total += _strip_sum(y, m)
        loss[row] = T(total / n)


@multilabel_soft_margin.reference
def _(loss, dx, x, target, weight, n_classes, has_weight, weight_step, scale):
    x, t = x.reshape(-1, n_classes).astype(float), target.reshape(-1, n_classes).astype(float)
    w = np.broadcast_to(weight.astype(float).reshape(-1, n_classes) if has_weight else 1.0, x.shape)
    loss[:] = (w * (t * np.logaddexp(0, -x) + (1 - t) * np.logaddexp(0, x))).sum(1) / n_classes
    slope = (1 - t) * np.exp(-np.logaddexp(0, -x)) - t * np.exp(-np.logaddexp(0, x))
    dx.reshape(x.shape)[:] = scale / n_classes * w * slope


@kernel
def multilabel_soft_margin_loss(
    loss: T,  # (N,)
    x: T,  # (N, C)
    target: T,  # (N, C)
    weight: T,  # as there
    n_classes: dim,
    has_weight: dim,
    weight_step: dim,
    lo,
    hi,
):
    """The loss of multilabel_soft_margin. Unit: row."""
    n = n_classes
    y = scratch(T, STRIP)
    for row in range(lo, hi):
        total = 0.0
        for first in range(0, n, STRIP):
            m, o, ow = min(STRIP, n - first), row * n + first, row * weight_step + first
            for i in range(m):
                y[i] = _soft_margin(x[o + i], target[o + i])[0]
            if has_weight:
                for i in range(m):
                    y[i] = y[i] * weight[ow + i]
            total += _strip_sum(y, m)
        loss[row] = T(total / n)


@multilabel_soft_margin_loss.reference
def _(loss, x, target, weight, n_classes, has_weight, weight_step):
    multilabel_soft_margin.reference_fn(
        loss, np.zeros_like(x), x, target, weight, n_classes, has_weight, weight_step, 1
    )


# --- cosine embedding -------------------------------------------------------------------------------------------------


@_jit_sum
def _products(a, b, o, n):
    """a.b, a.a + eps, b.b + eps."""
    ab = aa = bb = 0.0
    for j in range(o, o + n):
        u, v = np.float64(a[j]), np.float64(b[j])
        ab += u * v
        aa += u * u
        bb += v * v
    return ab, aa + COSINE_EPS, bb + COSINE_EPS


@_jit
def _cosine_loss(cos, t, margin):
    """1 - cos, or max(0, cos - margin), or 0, for t = 1, -1 or another."""
    zero, z = type(cos)(0), cos - margin
    return type(cos)(1) - cos if t == 1 else (zero if z < zero else z) if t == -1 else zero


@kernel
def cosine_embedding(
    loss: T,  # (N,)
    da: T,  # (N, D)
    db: T,  # (N, D)
    a: T,  # (N, D)
    b: T,  # (N, D)
    target: i8,  # (N,) 1: alike, -1: unlike; any other: no loss
    width: dim,
    margin: scalar,
    scale: scalar,
    lo,
    hi,
):
    """loss = 1 - cos(a, b) if t is 1, max(0, cos(a, b) - margin) if it is -1; da, db = scale times its gradients."""
    for row in range(lo, hi):
        o, t = row * width, target[row]
        ab, aa, bb = _products(a, b, o, width)
        cos = T(ab / np.sqrt(aa * bb))
        loss[row] = _cosine_loss(cos, t, margin)
        g = -scale if t == 1 else scale if t == -1 and cos - margin >= T(0) else T(0)
        cross, own, other = T(1 / np.sqrt(aa * bb)), T(np.float64(cos) / aa), T(np.float64(cos) / bb)
        for j in range(o, o + width):
            da[j] = g * (cross * b[j] - own * a[j])
            db[j] = g * (cross * a[j] - other * b[j])


@cosine_embedding.reference
def _(loss, da, db, a, b, target, width, margin, scale):
    a, b = a.reshape(-1, width).astype(float), b.reshape(-1, width).astype(float)
    aa, bb = (a * a).sum(1) + COSINE_EPS, (b * b).sum(1) + COSINE_EPS
    cos = (a * b).sum(1) / np.sqrt(aa * bb)
    z = cos - margin
    loss[:] = np.where(target == 1, 1 - cos, np.where(target == -1, np.where(z < 0, 0, z), 0))
    g = np.where(target == 1, -scale, np.where((target == -1) & (z >= 0), scale, 0))[:, None]
    cross = 1 / np.sqrt(aa * bb)[:, None]
    da.reshape(a.shape)[:] = g * (cross * b - (cos / aa)[:, None] * a)
    db.reshape(a.shape)[:] = g * (cross * a - (cos / bb)[:, None] * b)


@kernel
def cosine_embedding_loss(
    loss: T,  # (N,)
    a: T,  # (N, D)
    b: T,  # (N, D)
    target: i8,  # (N,)
    width: dim,
    margin: scalar,
    lo,
    hi,
):
    """The loss of cosine_embedding. Unit: row."""
    for row in range(lo, hi):
        ab, aa, bb = _products(a, b, row * width, width)
        loss[row] = _cosine_loss(T(ab / np.sqrt(aa * bb)), target[row], margin)


@cosine_embedding_loss.reference
def _(loss, a, b, target, width, margin):
    cosine_embedding.reference_fn(loss, np.zeros_like(a), np.zeros_like(a), a, b, target, width, margin, 1)


# --- triplets ---------------------------------------------------------------------------------------------------------


@_jit_sum
def _squares(a, b, o, n, eps):
    s = 0.0
    for j in range(o, o + n):
        d = np.float64(a[j] - b[j] + eps)
        s += d * d
    return s


@_jit_sum
def _sizes(a, b, o, n, eps):
    s = 0.0
    for j in range(o, o + n):
        s += np.float64(abs(a[j] - b[j] + eps))
    return s


@_jit_sum
def _powers(a, b, o, n, eps, order):
    s = 0.0
    for j in range(o, o + n):
        s += np.float64(km.pow(abs(a[j] - b[j] + eps), type(eps)(order)))
    return s


@_call
def _distance(a, b, o, n, eps, order):
    """The norm of a - b + eps of an order above 0, inf included."""
    if order == 2.0:
        return type(eps)(np.sqrt(_squares(a, b, o, n, eps)))
    if order == 1.0:
        return type(eps)(_sizes(a, b, o, n, eps))
    if order != inf:
        return type(eps)(km.pow(_powers(a, b, o, n, eps, order), 1.0 / order))
    s = type(eps)(0)
    for j in range(o, o + n):
        d = abs(a[j] - b[j] + eps)
        s = s if d <= s else d  # nan wins ...
        if s != s:
            return s  # ... and stays
    return s


@_call
def _share(a, b, o, n, eps, order, y, g):
    """What all slopes of the distance y have in common, times g: 1 / y**(p - 1), or 1 / how many are largest."""
    if order == 1.0:
        return np.float64(g)
    if order == inf:
        count = 0
        for j in range(o, o + n):
            d = abs(a[j] - b[j] + eps)
            count += 1 if d == y or d != d else 0
        return np.float64(g) / count
    if y == type(y)(0):
        return 0.0
    return np.float64(g) / (np.float64(y) if order == 2.0 else km.pow(np.float64(y), order - 1.0))


@_jit
def _slope(d, kind, order, y, share):
    """share times the slope of the distance y by its difference d; kind: the order, or 0 where it is another."""
    size, zero = abs(d), type(d)(0)
    sign = type(d)(1) if d > zero else type(d)(-1) if d < zero else d  # nan stays
    if kind == 2.0:
        return type(d)(share * np.float64(d))
    if kind == 1.0:
        return type(d)(share) * sign
    if kind == inf:
        return (type(d)(share) if size == y or size != size else zero) * sign
    slope = type(d)(share * np.float64(km.pow(size, type(d)(order - 1.0)) * sign))
    return zero if d == zero else slope


@_jit
def _gradients(da, dp, dn, a, p, n, o, width, eps, kind, order, ys, shares):
    for j in range(o, o + width):  # a loop for each, of few buffers: else LLVM would not vectorise it
        dp[j] = -_slope(a[j] - p[j] + eps, kind, order, ys[0], shares[0])
    for j in range(o, o + width):
        dn[j] = -_slope(a[j] - n[j] + eps, kind, order, ys[1], shares[1])
    for j in range(o, o + width):
        da[j] = -dp[j] - dn[j]
    if shares[2] != 0.0:
        for j in range(o, o + width):
            swapped = _slope(p[j] - n[j] + eps, kind, order, ys[2], shares[2])
            dp[j] += swapped
            dn[j] -= swapped


@_call
def _triplet_gradients(da, dp, dn, a, p, n, o, width, eps, order, ys, shares):
    if order == 2.0:
        _gradients(da, dp, dn, a, p, n, o, width, eps, 2.0, order, ys, shares)  # short, once the order is known
    elif order == 1.0:
        _gradients(da, dp, dn, a, p, n, o, width, eps, 1.0, order, ys, shares)
    elif order == inf:
        _gradients(da, dp, dn, a, p, n, o, width, eps, inf, order, ys, shares)
    else:
        _gradients(da, dp, dn, a, p, n, o, width, eps, 0.0, order, ys, shares)


@_jit
def _nearer(b, c):
    """The smaller; nan wins."""
    return b if b < c or b != b else c


@kernel
def triplet(
    loss: T,  # (N,)
    da: T,  # (N, D)
    dp: T,  # (N, D)
    dn: T,  # (N, D)
    a: T,  # (N, D) anchors
    p: T,  # (N, D) positives
    n: T,  # (N, D) negatives
    width: dim,
    swap: dim,
    order: f8s,
    margin: scalar,
    eps: scalar,
    scale: scalar,
    lo,
    hi,
):
    """loss = max(0, margin + |a - p| - |a - n|), the norm of the order, eps added to differences; its gradients.

    swap: the smaller of |a - n| and |p - n|, which share the gradient when equal. Unit: row.
    """
    for row in range(lo, hi):
        o = row * width
        y, far, other = _distance(a, p, o, width, eps, order), _distance(a, n, o, width, eps, order), T(0)
        if swap:
            other = _distance(p, n, o, width, eps, order)
        z = margin + y - (_nearer(far, other) if swap else far)
        loss[row] = T(0) if z < T(0) else z
        if z < T(0):
            _zero(da, o, width)
            _zero(dp, o, width)
            _zero(dn, o, width)
            continue
        g = scale if z >= T(0) else T(0)  # nan: 0, as in PyTorch
        part = T(0) if not swap or far < other else T(0.5) if far == other else T(1) if other < far else T(0)
        toward = _share(a, p, o, width, eps, order, y, g)
        away = _share(a, n, o, width, eps, order, far, -g * (T(1) - part))
        swapped = _share(p, n, o, width, eps, order, other, -g * part) if part != T(0) else 0.0
        ys, shares = (y, far, other), (toward, away, swapped)
        _triplet_gradients(da, dp, dn, a, p, n, o, width, eps, order, ys, shares)


@triplet.reference
def _(loss, da, dp, dn, a, p, n, width, swap, order, margin, eps, scale):
    """Balntas et al. 2016, section 3."""
    a, p, n = (v.reshape(-1, width).astype(float) for v in (a, p, n))

    def distance(u, v):
        d = u - v + eps
        y = np.linalg.norm(d, order, 1, keepdims=True)
        if order == inf:
            hit = np.abs(d) == y
            return y, np.sign(d) * hit / hit.sum(1, keepdims=True)
        slope = np.sign(d) * np.where(d == 0, 0, np.abs(d) ** (order - 1)) / y ** (order - 1)
        return y, np.where(y == 0, 0, slope)

    (y, toward), (far, away), (other, swapped) = distance(a, p), distance(a, n), distance(p, n)
    part = np.where(other < far, 1, np.where(other == far, 0.5, 0)) if swap else np.zeros_like(y)
    z = margin + y - (np.minimum(far, other) if swap else far)
    loss[:] = np.maximum(z, 0)[:, 0]
    g = scale * (z >= 0)
    da.reshape(a.shape)[:] = g * (toward - (1 - part) * away)
    dp.reshape(a.shape)[:] = g * (-toward - part * swapped)
    dn.reshape(a.shape)[:] = g * ((1 - part) * away + part * swapped)


@kernel
def triplet_loss(
    loss: T,  # (N,)
    a: T,  # (N, D)
    p: T,  # (N, D)
    n: T,  # (N, D)
    width: dim,
    swap: dim,
    order: f8s,
    margin: scalar,
    eps: scalar,
    lo,
    hi,
):
    """The loss of triplet. Unit: row."""
    for row in range(lo, hi):
        o = row * width
        y, far = _distance(a, p, o, width, eps, order), _distance(a, n, o, width, eps, order)
        if swap:
            far = _nearer(far, _distance(p, n, o, width, eps, order))
        z = margin + y - far
        loss[row] = T(0) if z < T(0) else z


@triplet_loss.reference
def _(loss, a, p, n, width, swap, order, margin, eps):
    triplet.reference_fn(loss, *(np.zeros_like(a) for _ in "apn"), a, p, n, width, swap, order, margin, eps, 1)
