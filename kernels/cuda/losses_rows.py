"""Losses whose unit is a row on a GPU: margins over classes, cosines, triplets; each with its gradients in one pass.

DESIGN
a. A row is the work of one block, in the order of the CPU's kernels; sums are float64, of the threads in a fixed order.
b. A thread writes what it alone reads again; ``cuda.syncthreads`` stands where another one's numbers are needed.
c. Comparisons are written so that nan and ties fall as in PyTorch; labels out of range are complained of elsewhere.
"""

import math

import numpy as np
from numba import cuda

from .contract import T, dim, f8s, i8, jit, kernel, scalar, u1
from .losses_parts import exp, inf, label, log1p_unit, nan, sign
from .parts import block_max, block_min, block_sum

COSINE_EPS = 1e-12  # PyTorch's, added to each squared length


# --- multi-class margin -----------------------------------------------------------------------------------------------


@jit
def _hinge(z, p):
    """max(z, 0)**p for p 1 or 2; 0 for nan."""
    zero = type(z)(0)
    h = z if z > zero else zero
    return h if p == 1 else h * h


@jit
def _multi_margin(x, o, n, t, w, p, margin):
    base, s = margin - x[o + t], np.float64(0)
    for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        s += _hinge(base + x[o + j], p) if j != t else type(base)(0)
    return type(base)(np.float64(w) * block_sum(s) / n)


@kernel(per=1)
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
    units,
):
    """loss = w_t / C sum over j != t of max(0, margin - x_t + x_j)**p; dx = scale times its gradient. Unit: row."""
    n = n_classes
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, t = row * n, max(label(target, row, n, -1), 0)
        w = weight[t] if has_weight else T(1)
        y = _multi_margin(x, o, n, t, w, p, margin)
        base, each, total = margin - x[o + t], scale * w / T(n), np.float64(0)
        for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            z = base + x[o + j]
            g = (each if p == 1 else (each + each) * z) if z > T(0) and j != t else T(0)
            dx[o + j] = g
            total += g
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            loss[row] = y
            dx[o + t] = T(-total)


@kernel(per=1)
def multi_margin_loss(
    loss: T,  # (N,)
    x: T,  # (N, C)
    target: i8,  # (N,)
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    p: dim,
    margin: scalar,
    units,
):
    """The loss of multi_margin. Unit: row."""
    n = n_classes
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        t = max(label(target, row, n, -1), 0)
        y = _multi_margin(x, row * n, n, t, weight[t] if has_weight else T(1), p, margin)
        if cuda.threadIdx.x == 0:
            loss[row] = y


# --- multi-label margin -----------------------------------------------------------------------------------------------


@jit
def _mark(mark, target, o, n):
    """Mark the labels of a row, which end at the first -1; how many they are."""
    end = n
    for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        mark[o + j] = 0
        if label(target, o + j, n, -1) < 0:
            end = min(end, j)
    end = block_min(end)  # all marks are 0 by then
    for k in range(cuda.threadIdx.x, end, cuda.blockDim.x):
        t = label(target, o + k, n, -1)
        if t >= 0:
            mark[o + t] = 1
    cuda.syncthreads()
    return end


@kernel(per=1)
def multilabel_margin(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    mark: u1,  # (N, C) room: 1 where a class is a label
    x: T,  # (N, C)
    target: i8,  # (N, C) a row's labels, ended by -1
    n_classes: dim,
    scale: scalar,
    units,
):
    """loss = 1/C sum over labels t, other classes j, of max(0, 1 - x_t + x_j); dx = scale times its gradient."""
    n = n_classes
    each = scale / T(n)
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, total = row * n, np.float64(0)
        labels = _mark(mark, target, o, n)
        for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            dx[o + j] = T(0)
        for k in range(labels):
            t = o + max(label(target, o + k, n, -1), 0)
            base, above = T(1) - x[t], 0
            for j in range(o + cuda.threadIdx.x, o + n, cuda.blockDim.x):
                if mark[j] == 0 and base + x[j] > T(0):
                    total += base + x[j]
                    dx[j] += each
                    above += 1
            above = block_sum(above)  # all of dx is 0 by then
            if cuda.threadIdx.x == 0:
                dx[t] -= each * T(above)
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            loss[row] = T(total / n)


@kernel(per=1)
def multilabel_margin_loss(
    loss: T,  # (N,)
    mark: u1,  # (N, C) room
    x: T,  # (N, C)
    target: i8,  # (N, C)
    n_classes: dim,
    units,
):
    """The loss of multilabel_margin. Unit: row."""
    n = n_classes
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, total = row * n, np.float64(0)
        labels = _mark(mark, target, o, n)
        for k in range(labels):
            base = T(1) - x[o + max(label(target, o + k, n, -1), 0)]
            for j in range(o + cuda.threadIdx.x, o + n, cuda.blockDim.x):
                if mark[j] == 0 and base + x[j] > T(0):
                    total += base + x[j]
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            loss[row] = T(total / n)


# --- multi-label soft margin ------------------------------------------------------------------------------------------


@jit
def _soft_margin(x, t):
    """t softplus(-x) + (1 - t) softplus(x) and its derivative, from one exp. 0 * inf is nan, as in PyTorch."""
    one, size, negative = type(x)(1), abs(x), x < type(x)(0)
    e = exp(-size)
    wrong, right = (t, one - t) if negative else (one - t, t)  # of the side that costs |x| more, and of the other
    log = log1p_unit(e)
    slope = (wrong - right * e) * (one / (one + e))
    return wrong * (size + log) + right * log, -slope if negative else slope


@kernel(per=1)
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
    units,
):
    """loss = 1/C sum_j w_j (t_j softplus(-x_j) + (1 - t_j) softplus(x_j)); dx = scale times its gradient. Unit: row."""
    n = n_classes
    each = scale / T(n)
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, total = row * n, np.float64(0)
        for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            y, g = _soft_margin(x[o + j], target[o + j])
            w = weight[row * weight_step + j] if has_weight else T(1)
            dx[o + j] = each * g * w
            total += y * w
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            loss[row] = T(total / n)


@kernel(per=1)
def multilabel_soft_margin_loss(
    loss: T,  # (N,)
    x: T,  # (N, C)
    target: T,  # (N, C)
    weight: T,  # as there
    n_classes: dim,
    has_weight: dim,
    weight_step: dim,
    units,
):
    """The loss of multilabel_soft_margin. Unit: row."""
    n = n_classes
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, total = row * n, np.float64(0)
        for j in range(cuda.threadIdx.x, n, cuda.blockDim.x):
            w = weight[row * weight_step + j] if has_weight else T(1)
            total += _soft_margin(x[o + j], target[o + j])[0] * w
        total = block_sum(total)
        if cuda.threadIdx.x == 0:
            loss[row] = T(total / n)


# --- cosine embedding -------------------------------------------------------------------------------------------------


@jit
def _products(a, b, o, n):
    """a.b, a.a + eps, b.b + eps."""
    ab, aa, bb = np.float64(0), np.float64(0), np.float64(0)
    for j in range(o + cuda.threadIdx.x, o + n, cuda.blockDim.x):
        u, v = np.float64(a[j]), np.float64(b[j])
        ab += u * v
        aa += u * u
        bb += v * v
    return block_sum(ab), block_sum(aa) + COSINE_EPS, block_sum(bb) + COSINE_EPS


@jit
def _cosine_loss(cos, t, margin):
    """1 - cos, or max(0, cos - margin), or 0, for t = 1, -1 or another."""
    zero, z = type(cos)(0), cos - margin
    return type(cos)(1) - cos if t == 1 else (zero if z < zero else z) if t == -1 else zero


@kernel(per=1)
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
    units,
):
    """loss = 1 - cos(a, b) if t is 1, max(0, cos(a, b) - margin) if it is -1; da, db = scale times its gradients."""
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, t = row * width, target[row]
        ab, aa, bb = _products(a, b, o, width)
        size = math.sqrt(aa * bb)
        cos = T(ab / size)
        if cuda.threadIdx.x == 0:
            loss[row] = _cosine_loss(cos, t, margin)
        g = -scale if t == 1 else scale if t == -1 and cos - margin >= T(0) else T(0)
        cross, own, other = T(np.float64(1) / size), T(np.float64(cos) / aa), T(np.float64(cos) / bb)
        for j in range(o + cuda.threadIdx.x, o + width, cuda.blockDim.x):
            u, v = a[j], b[j]
            da[j] = g * (cross * v - own * u)
            db[j] = g * (cross * u - other * v)


@kernel(per=1)
def cosine_embedding_loss(
    loss: T,  # (N,)
    a: T,  # (N, D)
    b: T,  # (N, D)
    target: i8,  # (N,)
    width: dim,
    margin: scalar,
    units,
):
    """The loss of cosine_embedding. Unit: row."""
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        ab, aa, bb = _products(a, b, row * width, width)
        if cuda.threadIdx.x == 0:
            loss[row] = _cosine_loss(T(ab / math.sqrt(aa * bb)), target[row], margin)


# --- triplets ---------------------------------------------------------------------------------------------------------


@jit
def _distance(a, b, o, n, eps, order):
    """The norm of a - b + eps of an order above 0, inf included; nan if one is."""
    s, wrong = np.float64(0), 0
    for j in range(o + cuda.threadIdx.x, o + n, cuda.blockDim.x):
        d = np.float64(abs(a[j] - b[j] + eps))
        if order == 2.0:
            s += d * d
        elif order == 1.0:
            s += d
        elif order == inf:
            s = d if d > s else s
            wrong += 0 if d == d else 1
        else:
            s += math.pow(d, order)
    if order == inf:
        wrong, s = block_sum(wrong), block_max(s)
        return type(eps)(s if wrong == 0 else np.float64(nan))
    s = block_sum(s)
    return type(eps)(math.sqrt(s) if order == 2.0 else s if order == 1.0 else math.pow(s, 1.0 / order))


@jit
def _share(a, b, o, n, eps, order, y, g):
    """What all slopes of the distance y have in common, times g: 1 / y**(p - 1), or 1 / how many are largest."""
    if order == 1.0:
        return np.float64(g)
    if order == inf:
        count = 0
        for j in range(o + cuda.threadIdx.x, o + n, cuda.blockDim.x):
            d = abs(a[j] - b[j] + eps)
            count += 1 if d == y or d != d else 0
        return np.float64(g) / np.float64(block_sum(count))
    if y == type(y)(0):
        return np.float64(0)
    return np.float64(g) / (np.float64(y) if order == 2.0 else math.pow(np.float64(y), order - 1.0))


@jit
def _slope(d, order, y, share):
    """share times the slope of the distance y by its difference d."""
    size, zero = abs(d), type(d)(0)
    way = sign(d) if d == d else d  # nan stays
    if order == 2.0:
        return type(d)(share * np.float64(d))
    if order == 1.0:
        return type(d)(share) * way
    if order == inf:
        return (type(d)(share) if size == y or size != size else zero) * way
    slope = type(d)(share * math.pow(np.float64(size), order - 1.0) * np.float64(way))
    return zero if d == zero else slope


@jit
def _nearer(b, c):
    """The smaller; nan wins."""
    return b if b < c or b != b else c


@kernel(per=1)
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
    units,
):
    """loss = max(0, margin + |a - p| - |a - n|), the norm of the order, eps added to differences; its gradients.

    swap: the smaller of |a - n| and |p - n|, which share the gradient when equal. Unit: row.
    """
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o, zero, one = row * width, T(0), T(1)
        y, far, other = _distance(a, p, o, width, eps, order), _distance(a, n, o, width, eps, order), zero
        if swap:
            other = _distance(p, n, o, width, eps, order)
        z = margin + y - (_nearer(far, other) if swap else far)
        if cuda.threadIdx.x == 0:
            loss[row] = zero if z < zero else z
        if z < zero:
            for j in range(o + cuda.threadIdx.x, o + width, cuda.blockDim.x):
                da[j] = zero
                dp[j] = zero
                dn[j] = zero
            continue
        g = scale if z >= zero else zero  # nan: 0, as in PyTorch
        part = zero
        if swap and not far < other:
            part = T(0.5) if far == other else one if other < far else zero
        toward = _share(a, p, o, width, eps, order, y, g)
        away = _share(a, n, o, width, eps, order, far, -g * (one - part))
        swapped = _share(p, n, o, width, eps, order, other, -g * part) if part != zero else np.float64(0)
        for j in range(o + cuda.threadIdx.x, o + width, cuda.blockDim.x):
            u, v, w = a[j], p[j], n[j]
            by_p, by_n = -_slope(u - v + eps, order, y, toward), -_slope(u - w + eps, order, far, away)
            da[j] = -by_p - by_n
            if swapped != 0.0:
                crossed = _slope(v - w + eps, order, other, swapped)
                by_p, by_n = by_p + crossed, by_n - crossed
            dp[j] = by_p
            dn[j] = by_n


@kernel(per=1)
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
    units,
):
    """The loss of triplet. Unit: row."""
    for row in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        o = row * width
        y, far = _distance(a, p, o, width, eps, order), _distance(a, n, o, width, eps, order)
        if swap:
            far = _nearer(far, _distance(p, n, o, width, eps, order))
        z = margin + y - far
        if cuda.threadIdx.x == 0:
            loss[row] = T(0) if z < T(0) else z
