"""Adafactor's step: second moments kept as one row and one column of each matrix.

DESIGN
a. Tables as in ``optimizers.py``, but a unit is a whole tensor: its step needs the root mean square of the parameter
   and of the update, so units would otherwise wait for each other. One call serves any number of small tensors; of a
   large one it makes four passes over memory, where tensor operations make a dozen.
b. Sums are float64. The update is computed twice, for its norm and to subtract it, and never stored.
"""

from math import sqrt

import numpy as np

from .contract import T, dim, f8, f8s, i8, jit, kernel
from .optimizers import STRIP, _float64, _lerp, at, scratch


@jit(fastmath={"reassoc"})
def _squares(x, n):
    """The sum of x^2."""
    total = 0.0
    for i in range(n):
        total += np.float64(x[i]) * np.float64(x[i])
    return total


@jit
def _scaled(g, v, low):
    """g / sqrt(max(v, low)); nan stays."""
    return g / sqrt(low if v < low else v)


@jit(fastmath={"reassoc"})
def _row_norm(g, column, f, low, n):
    """The sum of the squared updates of one row, v = f column."""
    total = 0.0
    for i in range(n):
        u = np.float64(_scaled(g[i], f * column[i], low))
        total += u * u
    return total


@jit(fastmath={"reassoc"})
def _vector_norm(g, v, low, n):
    total = 0.0
    for i in range(n):
        u = np.float64(_scaled(g[i], v[i], low))
        total += u * u
    return total


@kernel
def adafactor(
    params: i8,  # (N,) addresses, updated
    row: i8,  # (N,) addresses: mean of g^2 along rows, (B, H), updated; of a vector its mean of g^2, (W,)
    column: i8,  # (N,) addresses: mean of g^2 along columns, (B, W), updated; 0 for a vector
    grads: i8,  # (N,) addresses
    heights: i8,  # (N,) H of tensors (B, H, W); 1 for a vector
    widths: i8,  # (N,) W
    sizes: i8,  # (N,) B H W
    table: f8,  # (N, 2): t**beta2_decay, min(lr, 1 / sqrt(t))
    maximize: dim,
    lr: f8s,
    eps1: f8s,
    eps2: f8s,
    d: f8s,
    weight_decay: f8s,
    lo,
    hi,
):
    """row, column = lerp(., mean(g^2), table0); u = g / sqrt(max(row column / mean(row), eps1^2)); p -= alpha u.

    alpha = max(eps2, rms(p)) table1 / max(1, rms(u) / d).
    """
    keep, least, low = T(1.0 - lr * weight_decay), T(eps1), T(eps1 * eps1)
    acc = scratch(np.float64)
    for k in range(lo, hi):
        size, h, w = sizes[k], heights[k], widths[k]
        if size == 0:
            continue
        p, g, weight = at(params[k], 0, T), at(grads[k], 0, T), T(table[2 * k])
        root = sqrt(np.float64(size))
        rms = sqrt(_squares(p, size)) / root
        alpha = (rms if rms > eps2 else eps2) * table[2 * k + 1]
        total = 0.0
        if column[k] == 0:
            v = at(row[k], 0, T)
            for i in range(size):
                v[i] = _lerp(v[i], g[i] * g[i], weight)
            total = _vector_norm(g, v, low, size)
        else:
            for b in range(size // (h * w)):
                r, c = at(row[k], b * h, T), at(column[k], b * w, T)
                mean = 0.0
                for i in range(h):
                    r[i] = _lerp(r[i], T(_squares(at(grads[k], (b * h + i) * w, T), w) / w), weight)
                    mean += r[i]
                for o in range(0, w, STRIP):
                    n = min(STRIP, w - o)
                    for j in range(n):
                        acc[j] = 0.0
                    for i in range(h):
                        s = at(grads[k], (b * h + i) * w + o, T)
                        for j in range(n):
                            acc[j] += np.float64(s[j]) * np.float64(s[j])
                    for j in range(n):
                        c[o + j] = _lerp(c[o + j], T(acc[j] / h), weight)
                centre = T(mean / h)
                centre = least if centre < least else centre
                for i in range(h):
                    x = at(grads[k], (b * h + i) * w, T)
                    total += _row_norm(x, c, r[i] / centre, low, w)
        clip = sqrt(total) / (root * d)
        a = T(alpha / (clip if clip > 1.0 else 1.0))
        a = -a if maximize else a
        if column[k] == 0:
            v = at(row[k], 0, T)
            for i in range(size):
                p[i] = p[i] * keep - a * _scaled(g[i], v[i], low)
        else:
            for b in range(size // (h * w)):
                r, c = at(row[k], b * h, T), at(column[k], b * w, T)
                mean = 0.0
                for i in range(h):
                    mean += r[i]
                centre = T(mean / h)
                centre = least if centre < least else centre
                for i in range(h):
                    f = r[i] / centre
                    y, x = at(params[k], (b * h + i) * w, T), at(grads[k], (b * h + i) * w, T)
                    for j in range(w):
                        y[j] = y[j] * keep - a * _scaled(x[j], f * c[j], low)


@adafactor.reference
def _(
    params, row, column, grads, heights, widths, sizes, table, maximize, lr, eps1, eps2, d, weight_decay
):  # fmt: skip
    """Shazeer and Stern 2018, algorithms 4 and 5, with PyTorch's lr and eps1."""
    for k, size in enumerate(sizes.tolist()):
        if size == 0:
            continue
        h, w, (weight, rho) = int(heights[k]), int(widths[k]), table[k].tolist()
        p, g = _float64(int(params[k]), size), _float64(int(grads[k]), size)
        if column[k] == 0:
            v = _float64(int(row[k]), size)
            v += weight * (g * g - v)
        else:
            squares = (g * g).reshape(-1, h, w)
            r = _float64(int(row[k]), size // w).reshape(-1, h, 1)
            c = _float64(int(column[k]), size // h).reshape(-1, 1, w)
            r += weight * (squares.mean(2, keepdims=True) - r)
            c += weight * (squares.mean(1, keepdims=True) - c)
            v = (r * c / np.maximum(r.mean(1, keepdims=True), eps1)).reshape(size)
        u = g / np.sqrt(np.maximum(v, eps1 * eps1))
        alpha = max(eps2, np.sqrt(np.mean(p * p))) * rho / max(1, np.sqrt(np.mean(u * u)) / d)
        p *= 1 - lr * weight_decay
        p += alpha * u if maximize else -alpha * u
