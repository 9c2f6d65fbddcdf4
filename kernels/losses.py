"""Losses of classes: cross-entropy and negative log-likelihood; loss and gradient in one pass, and a loss-only twin.

DESIGN
a. ``name`` writes the loss and ``dx = scale * d loss / d x``: with scale = 1/N for a mean, backward has nothing left to
   do. ``name_loss`` is for no_grad. Sums over rows are the caller's: no partial depends on another.
b. A unit is a row, ``loss[row]`` is unscaled. Few classes: a tile of rows is taken at once, so that exp runs over one
   long vector and not over ten numbers a row. Many classes: row by row, the row stays in the cache.
c. Only sums are reassociated. No loop assumes finite numbers: nan and inf come out as in PyTorch. Inputs are not
   checked here: label_stats looks, the caller raises; it also refuses C = 0.
"""

import numpy as np

from . import math as km
from .contract import T, U, dim, f8, f8s, i8, kernel, scalar
from .losses_parts import (
    STRIP,
    _address,
    _call,
    _fence,
    _fetch,
    _hand_over,
    _itemsize,
    _jit,
    _jit_sum,
    _label,
    _larger,
    _ordered,
    _zero,
    scratch,
)

TILE = 2048  # elements a tile of rows may have
TILE_ROWS = 128  # rows a tile may have
FEW = 128  # up to so many classes rows are taken in tiles


# --- cross-entropy with labels ----------------------------------------------------------------------------------------


@_jit
def _max(x, o, n):
    """Maximum of x[o : o + n], of the integers of that order: LLVM vectorises no maximum of floats that may be nan."""
    m = _ordered(x[o])
    for j in range(o + 1, o + n):
        m = _larger(m, _ordered(x[j]))
    return _ordered(m)


@_jit_sum
def _sum(x, o, n):
    s = type(x[0])(0)
    for j in range(o, o + n):
        s += x[j]
    return s


@_call
def _exp_store_sum(e, oe, x, o, n, m):
    """e[oe:] = exp(x[o:] - m) for one row; the sum, in T over strips, in float64 over their sums."""
    total = 0.0
    for first in range(0, n, STRIP):
        s = type(m)(0)
        for j in range(first, min(first + STRIP, n)):
            e[oe + j] = km.exp_down(x[o + j] - m)
            s += e[oe + j]
        total += np.float64(s)
    return type(m)(total)


@_call
def _exp_store_sum_far(e, oe, x, o, n, m, to, of, a):
    """``_exp_store_sum``, and meanwhile what the memory has time for: it brings the next row, and takes the gradient of
    the row before, whose exponentials lie at ``of``: e[to:] = a e[of:] if ``to`` >= 0."""
    total, shift = 0.0, (-_address(e) // _itemsize(e) - to) & (64 // _itemsize(e) - 1)  # strips of whole lines
    for first in range(0, n, STRIP):
        end = min(first + STRIP, n)
        for j in range(first, end, 64 // _itemsize(x)):
            _fetch(x, o + n + j)
        s = type(m)(0)
        for j in range(first, end):
            e[oe + j] = km.exp_down(x[o + j] - m)
            s += e[oe + j]
        total += np.float64(s)
        if to >= 0:
            begin, stop = first + shift if first > 0 else 0, end + shift if end < n else n
            _hand_over(e, to + begin, e, of + begin, min(stop, n) - begin, a, True)
    return type(m)(total)


@_jit_sum
def _exp_sum(x, o, n, m):
    """The same sum without the store."""
    total = 0.0
    for first in range(0, n, STRIP):
        s = type(m)(0)
        for j in range(first, min(first + STRIP, n)):
            s += km.exp_down(x[o + j] - m)
        total += np.float64(s)
    return type(m)(total)


@_jit
def _exp_tile(e, oe, top, total, logs, x, o, rows, n):
    """For each row of a tile: its maximum, e = exp(x - maximum), the sum and the log of the sum."""
    for r in range(rows):
        m = x[o + r * n]
        if n < 16:
            for j in range(o + r * n + 1, o + r * n + n):
                m = x[j] if x[j] > m else m  # a nan may lose here: exp(nan - m) is nan all the same
        else:
            m = _max(x, o + r * n, n)
        top[r] = m
        for j in range(r * n, r * n + n):
            e[oe + j] = x[o + j] - m
    for i in range(oe, oe + rows * n):
        e[i] = km.exp_down(e[i])
    for r in range(rows):
        total[r] = _sum(e, oe + r * n, n)
    for r in range(rows):
        logs[r] = km.log(total[r])


@_call
def _weight_sum(weight, n, has_weight):
    """Sum of the class weights, each 1 without weight."""
    if not has_weight:
        return np.float64(n)
    total = 0.0
    for j in range(n):
        total += np.float64(weight[j])
    return total


@_call
def _smooth_loss(x, o, n, m, log, weight, has_weight, all_weight):
    """Sum of w_j (lse(x) - x_j) over a row; summed as in _exp_sum."""
    total = all_weight * np.float64(log)
    for first in range(0, n, STRIP):
        s, end = type(m)(0), min(first + STRIP, n)
        if has_weight:
            for j in range(first, end):
                s += weight[j] * (x[o + j] - m)
        else:
            for j in range(first, end):
                s += x[o + j] - m
        total -= np.float64(s)
    return type(m)(total)


@_call
def _smooth_gradient(dx, o, n, a, each, weight, has_weight):
    if has_weight:
        for j in range(n):
            dx[o + j] = dx[o + j] * a - each * weight[j]
    else:
        for j in range(n):
            dx[o + j] = dx[o + j] * a - each


@_jit
def _label_loss(x, o, n, t, m, log, w, weight, has_weight, all_weight, smoothing):
    """Loss of row x[o : o + n]: label t of weight w, m = max x, log = log(sum(exp(x - m)))."""
    loss = w * (log - (x[o + t] - m))
    if smoothing == type(m)(0):
        return loss
    smooth = _smooth_loss(x, o, n, m, log, weight, has_weight, all_weight)
    return (type(m)(1) - smoothing) * loss + smoothing / type(m)(n) * smooth


@_jit
def _label_gradient(dx, o, n, t, total, w, weight, has_weight, all_weight, smoothing, scale):
    """Turn dx[o : o + n] = exp(x - m), whose sum is total, into scale times the gradient of _label_loss."""
    hit, each = scale * (type(scale)(1) - smoothing) * w, scale * smoothing / type(scale)(n)
    a = (hit + each * type(scale)(all_weight)) / total
    if smoothing == type(scale)(0):
        for j in range(o, o + n):
            dx[j] = dx[j] * a
    else:
        _smooth_gradient(dx, o, n, a, each, weight, has_weight)
    dx[o + t] -= hit


@kernel
def cross_entropy(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    x: T,  # (N, C) logits
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    smoothing: scalar,
    scale: scalar,
    lo,
    hi,
):
    """loss = w_t (lse(x) - x_t), t the row's label, w_t its weight; dx = scale w_t (softmax(x) - onehot(t)). Unit: row.

    With smoothing s: loss = (1 - s) w_t (lse - x_t) + s/C sum_c w_c (lse - x_c). An ignored row has loss and dx 0.
    """
    n = n_classes
    all_weight = _weight_sum(weight, n, has_weight) if smoothing != T(0) else 0.0
    top, total, logs = scratch(T, TILE_ROWS), scratch(T, TILE_ROWS), scratch(T, TILE_ROWS)
    step = min(TILE_ROWS, TILE // n) if n <= FEW else 1
    for first in range(lo, hi, step):
        rows, o = min(step, hi - first), first * n
        if n <= FEW:
            _exp_tile(dx, o, top, total, logs, x, o, rows, n)
        elif target[first] != ignore_index:
            top[0] = _max(x, o, n)
            total[0] = _exp_store_sum(dx, o, x, o, n, top[0])
            logs[0] = km.log(total[0])
        for r in range(rows):
            row = first + r
            t, o = _label(target, row, n, ignore_index), row * n
            if t < 0:
                loss[row] = T(0)
                _zero(dx, o, n)
            else:
                w = weight[t] if has_weight else T(1)
                loss[row] = _label_loss(x, o, n, t, top[r], logs[r], w, weight, has_weight, all_weight, smoothing)
                _label_gradient(dx, o, n, t, total[r], w, weight, has_weight, all_weight, smoothing, scale)


@cross_entropy.reference
def _(loss, dx, x, target, weight, n_classes, has_weight, ignore_index, smoothing, scale):
    """Bishop 2006, section 4.3.4; label smoothing: Szegedy et al. 2016, section 7, weighted as PyTorch does."""
    x = x.reshape(-1, n_classes).astype(float)
    w = weight.astype(float) if has_weight else np.ones(n_classes)
    log_p = _log_softmax(x)
    keep = target != ignore_index
    t = np.where(keep, target, 0)
    rows = np.arange(len(x))
    loss[:] = -w[t] * log_p[rows, t]
    q = np.zeros_like(x)  # the loss is -sum(q log_p)
    q[rows, t] = w[t] * (1 - smoothing)
    if smoothing != 0:
        loss[:] = (1 - smoothing) * loss + smoothing / n_classes * -(w * log_p).sum(1)
        q += smoothing / n_classes * w
    loss[~keep] = 0
    dx.reshape(x.shape)[:] = np.where(keep[:, None], scale * (q.sum(1, keepdims=True) * np.exp(log_p) - q), 0)


@kernel
def cross_entropy_far(
    loss: T,  # (N,)
    dx: T,  # (N, C), more than a cache keeps: FAR bytes
    x: T,  # (N, C) logits
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    smoothing: scalar,  # 0
    scale: scalar,
    lo,
    hi,
):
    """cross_entropy of more than FEW classes without smoothing, same bits, past the caches. Unit: row.

    A row's exponentials stay in the cache, in the room of the last two rows by turns; while those of the next one are
    computed the gradient goes past it. So the memory is written and read all the time. For small batches it does not
    pay, and compiling it takes as long as all of cross_entropy.
    """
    n = n_classes
    before = -1  # the row whose gradient is still to be written
    of, a, own, hit = 0, T(0), T(0), 0
    for row in range(lo, hi):
        o, t = row * n, _label(target, row, n, ignore_index)
        here = (hi - 1 - (row - lo) % 2) * n  # the room of this row's exponentials
        if before >= 0 and (t < 0 or row >= hi - 2):  # the room of the last rows is about to be their own
            _hand_over(dx, before * n, dx, of, n, a, True)
            dx[before * n + hit] = own
            before = -1
        if t < 0:
            loss[row] = T(0)
            _zero(dx, o, n)
            continue
        m = _max(x, o, n)
        w = weight[t] if has_weight else T(1)
        if row >= hi - 2:
            total = _exp_store_sum(dx, o, x, o, n, m)
        else:
            total = _exp_store_sum_far(dx, here, x, o, n, m, before * n if before >= 0 else -1, of, a)
            if before >= 0:
                dx[before * n + hit] = own
        loss[row] = w * (km.log(total) - (x[o + t] - m))
        a = scale * w / total
        if row >= hi - 2:
            for j in range(o, o + n):
                dx[j] = dx[j] * a
            dx[o + t] -= scale * w
        else:
            before, of, hit, own = row, here, t, dx[here + t] * a - scale * w
    _fence()


@cross_entropy_far.reference
def _(loss, dx, x, target, weight, n_classes, has_weight, ignore_index, smoothing, scale):
    cross_entropy.reference_fn(loss, dx, x, target, weight, n_classes, has_weight, ignore_index, smoothing, scale)


@kernel
def cross_entropy_loss(
    loss: T,  # (N,)
    x: T,  # (N, C) logits
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    smoothing: scalar,
    lo,
    hi,
):
    """The loss of cross_entropy. Unit: row."""
    n = n_classes
    all_weight = _weight_sum(weight, n, has_weight) if smoothing != T(0) else 0.0
    e, top, total, logs = scratch(T, TILE), scratch(T, TILE_ROWS), scratch(T, TILE_ROWS), scratch(T, TILE_ROWS)
    step = min(TILE_ROWS, TILE // n) if n <= FEW else 1
    for first in range(lo, hi, step):
        rows, o = min(step, hi - first), first * n
        if n <= FEW:
            _exp_tile(e, 0, top, total, logs, x, o, rows, n)
        elif target[first] != ignore_index:
            top[0] = _max(x, o, n)
            logs[0] = km.log(_exp_sum(x, o, n, top[0]))
        for r in range(rows):
            row = first + r
            t = _label(target, row, n, ignore_index)
            if t < 0:
                loss[row] = T(0)
            else:
                w = weight[t] if has_weight else T(1)
                loss[row] = _label_loss(x, row * n, n, t, top[r], logs[r], w, weight, has_weight, all_weight, smoothing)


@cross_entropy_loss.reference
def _(loss, x, target, weight, n_classes, has_weight, ignore_index, smoothing):
    cross_entropy.reference_fn(
        loss, np.zeros_like(x), x, target, weight, n_classes, has_weight, ignore_index, smoothing, 1
    )


@kernel
def label_stats(
    out: f8,  # (4,): what 'mean' divides by, the number of rows that are not ignored, and the loss's scalars
    bad: i8,  # (1,): first row whose label is neither in [0, C) nor ignore_index, or -1
    target: i8,  # (N,)
    weight: T,  # (C,), or NULL
    n: dim,
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    mean: dim,  # whether the sum of losses will be divided
    smooths: dim,  # whether the loss has two scalars, smoothing and scale, and not scale alone
    zero: dim,  # whether the mean of no rows is to be 0, not nan
    smoothing: f8s,
    lo,
    hi,
):
    """What must be known of labels before a loss runs: what divides, the sum of the weights of the rows that count (of
    the valid ones), and the scalars of the loss's kernel. One unit.

    If all are ignored the gradients are 0, as in PyTorch.
    """
    if lo >= hi:
        return
    count, wrong = 0, 0
    size = np.uint64(n_classes)
    for i in range(n):
        t = target[i]
        kept = t != ignore_index
        count += kept
        wrong |= kept & (np.uint64(t) >= size)
    bad[0] = -1
    if wrong:
        for i in range(n - 1, -1, -1):
            t = target[i]
            if t != ignore_index and np.uint64(t) >= size:
                bad[0] = i
    total = np.float64(count)
    if has_weight:
        total = 0.0
        for i in range(n):
            t = target[i]
            if t != ignore_index and np.uint64(t) < size:
                total += np.float64(weight[t])
    scale = 1.0
    if mean:
        scale = 1.0 / total if count else 0.0
    out[0] = 1.0 if zero and count == 0 else total
    out[1] = np.float64(count)
    out[2] = smoothing if smooths else scale
    out[3] = scale


@label_stats.reference
def _(out, bad, target, weight, n, n_classes, has_weight, ignore_index, mean, smooths, zero, smoothing):
    keep = target != ignore_index
    valid = (target >= 0) & (target < n_classes)
    wrong = np.flatnonzero(keep & ~valid)
    bad[0] = wrong[0] if len(wrong) else -1
    total = weight[target[keep & valid]].astype(float).sum() if has_weight else float(keep.sum())
    scale = (np.float64(1) / total if keep.any() else 0) if mean else 1
    out[:] = 1 if zero and not keep.any() else total, keep.sum(), smoothing if smooths else scale, scale


@kernel
def total(y: T, x: U, divisor: f8, n: dim, has_divisor: dim, by: f8s, lo, hi):
    """y (1,) = the sum of x (n,), added up in float64, divided by divisor (1,), or ``by`` if there is none. One unit.

    nan where that is 0.
    """
    if lo >= hi:
        return
    a = b = c = d = 0.0
    whole = n - n % 4
    for i in range(0, whole, 4):
        a += np.float64(x[i])
        b += np.float64(x[i + 1])
        c += np.float64(x[i + 2])
        d += np.float64(x[i + 3])
    for i in range(whole, n):
        a += np.float64(x[i])
    q = divisor[0] if has_divisor else by
    y[0] = T((a + b + (c + d)) / q) if q != 0.0 else T(np.nan)


@total.reference
def _(y, x, divisor, n, has_divisor, by):
    q = divisor[0] if has_divisor else by
    y[0] = x.astype(float).sum() / q if q else np.nan


# --- negative log-likelihood of labels --------------------------------------------------------------------------------


@kernel
def nll(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    x: T,  # (N, C) log-probabilities
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    scale: scalar,
    lo,
    hi,
):
    """loss = -w_t x_t, t the row's label; dx = -scale w_t at t, 0 elsewhere. Unit: row."""
    _zero(dx, lo * n_classes, (hi - lo) * n_classes)
    for row in range(lo, hi):
        t = _label(target, row, n_classes, ignore_index)
        if t < 0:
            loss[row] = T(0)
        else:
            w = weight[t] if has_weight else T(1)
            loss[row] = -w * x[row * n_classes + t]
            dx[row * n_classes + t] = -w * scale


@nll.reference
def _(loss, dx, x, target, weight, n_classes, has_weight, ignore_index, scale):
    dx[:] = 0
    loss[:] = 0
    for row, t in enumerate(target):
        if t != ignore_index:
            w = weight[t] if has_weight else 1
            loss[row] = -w * x.reshape(-1, n_classes)[row, t]
            dx.reshape(-1, n_classes)[row, t] = -w * scale


@kernel
def nll_loss(
    loss: T,  # (N,)
    x: T,  # (N, C) log-probabilities
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    lo,
    hi,
):
    """The loss of nll. Unit: row."""
    for row in range(lo, hi):
        t = _label(target, row, n_classes, ignore_index)
        if t < 0:
            loss[row] = T(0)
        else:
            w = weight[t] if has_weight else T(1)
            loss[row] = -w * x[row * n_classes + t]


@nll_loss.reference
def _(loss, x, target, weight, n_classes, has_weight, ignore_index):
    nll.reference_fn(loss, np.zeros_like(x), x, target, weight, n_classes, has_weight, ignore_index, 1)


# --- cross-entropy with class probabilities ---------------------------------------------------------------------------


@_jit
def _probability(t, smoothing, each):
    """The smoothed target; each = smoothing / C. Without smoothing t itself, bit for bit."""
    return t * (type(t)(1) - smoothing) + each


@_jit_sum
def _target_sums(x, t, weight, o, n, m, has_weight, smoothing, each):
    """Sums of q and of q (x - m) over a row, q = w times the smoothed target."""
    total, dot = 0.0, 0.0
    if has_weight:
        for j in range(n):
            q = weight[j] * _probability(t[o + j], smoothing, each)
            total += np.float64(q)
            dot += np.float64(q * (x[o + j] - m))
    else:
        for j in range(n):
            q = _probability(t[o + j], smoothing, each)
            total += np.float64(q)
            dot += np.float64(q * (x[o + j] - m))
    return total, dot


@kernel
def cross_entropy_probs(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    dt: T,  # (N, C) gradient with respect to the target, or NULL
    x: T,  # (N, C) logits
    target: T,  # (N, C) class probabilities; they need not sum to 1
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_dt: dim,
    has_weight: dim,
    smoothing: scalar,
    scale: scalar,
    lo,
    hi,
):
    """loss = -sum_c q_c log_softmax(x)_c; dx = scale (sum(q) softmax(x) - q). Unit: row.

    q = w (target (1 - smoothing) + smoothing / C); dt = -scale (1 - smoothing) w log_softmax(x).
    """
    n = n_classes
    each = smoothing / T(n)
    for row in range(lo, hi):
        o = row * n
        m = _max(x, o, n)
        s = _exp_store_sum(dx, o, x, o, n, m)
        log = km.log(s)
        total, dot = _target_sums(x, target, weight, o, n, m, has_weight, smoothing, each)
        loss[row] = T(total * np.float64(log) - dot)
        a = scale * T(total) / s
        if has_weight:
            for j in range(n):
                dx[o + j] = dx[o + j] * a - scale * (weight[j] * _probability(target[o + j], smoothing, each))
        else:
            for j in range(n):
                dx[o + j] = dx[o + j] * a - scale * _probability(target[o + j], smoothing, each)
        if has_dt:
            b = scale * (T(1) - smoothing)
            for j in range(n):
                dt[o + j] = b * (log - (x[o + j] - m))
            if has_weight:
                for j in range(n):
                    dt[o + j] = dt[o + j] * weight[j]


@cross_entropy_probs.reference
def _(loss, dx, dt, x, target, weight, n_classes, has_dt, has_weight, smoothing, scale):
    """Bishop 2006, equation 4.108; smoothing as in cross_entropy."""
    x, t = x.reshape(-1, n_classes).astype(float), target.reshape(-1, n_classes).astype(float)
    w = weight.astype(float) if has_weight else np.ones(n_classes)
    log_p = _log_softmax(x)
    q = w * (t * (1 - smoothing) + smoothing / n_classes)
    loss[:] = -(q * log_p).sum(1)
    dx.reshape(x.shape)[:] = scale * (q.sum(1, keepdims=True) * np.exp(log_p) - q)
    if has_dt:
        dt.reshape(x.shape)[:] = -scale * (1 - smoothing) * w * log_p


@kernel
def cross_entropy_probs_loss(
    loss: T,  # (N,)
    x: T,  # (N, C) logits
    target: T,  # (N, C) class probabilities
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    smoothing: scalar,
    lo,
    hi,
):
    """The loss of cross_entropy_probs. Unit: row."""
    n = n_classes
    each = smoothing / T(n)
    for row in range(lo, hi):
        o = row * n
        m = _max(x, o, n)
        log = km.log(_exp_sum(x, o, n, m))
        total, dot = _target_sums(x, target, weight, o, n, m, has_weight, smoothing, each)
        loss[row] = T(total * np.float64(log) - dot)


@cross_entropy_probs_loss.reference
def _(loss, x, target, weight, n_classes, has_weight, smoothing):
    cross_entropy_probs.reference_fn(
        loss, np.zeros_like(x), None, x, target, weight, n_classes, 0, has_weight, smoothing, 1
    )


def _log_softmax(x):
    m = x.max(1, keepdims=True)
    return x - m - np.log(np.exp(x - m).sum(1, keepdims=True))
