"""Optimizer kernels: one call updates every parameter of a group in place, and the few things done to all gradients.

DESIGN
a. Multi-tensor: the buffers are tables with one row a tensor, not the tensors. ``params``, ``grads``, ``m``... hold
   addresses (int64) of contiguous tensors of dtype T, ``sizes`` their element counts, ``table`` the numbers (float64)
   that depend on a tensor's own step count. A unit is a chunk: elements ``[chunk_start[c], chunk_start[c] + CHUNK)``
   of tensor ``chunk_tensor[c]``, cut at its size; ``chunks(sizes)`` lists them. A thousand small tensors cost no more
   than one big one, and any split of the chunks gives the same bits.
b. Group-wide numbers (lr, betas, ...) are float64 scalars, read at every call, so that a replayed step sees a new
   learning rate. They are rounded to T once they are combined, where PyTorch rounds them. ``grad_scale`` multiplies
   every gradient first: clipping costs no pass of its own. ``maximize`` flips its sign.
c. Every line is PyTorch's formula in PyTorch's order (torch/optim, `_single_tensor_*`), without fastmath: an element's
   bits do not depend on whether it fell into the vector body or the scalar tail.
d. A chunk is walked in strips that stay in the L1 cache, some loops a strip. Each loop touches at most four buffers,
   since LLVM gives vectorisation up when it needs more than eight alias checks; ``scratch`` never needs one.
"""

import ctypes
from math import sqrt

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import math as km
from .contract import T, dim, f8, f8s, i8, jit, kernel

CHUNK = 2048  # elements a unit: small, so that threads get equal shares of a few tensors
STRIP = 1024  # elements a strip: a multiple of every vector width that divides CHUNK


def chunks(sizes):
    """The chunk table ``(chunk_tensor, chunk_start)``, both int64, for tensors of these sizes."""
    counts = [-(-int(size) // CHUNK) for size in sizes]
    tensor = np.repeat(np.arange(len(counts), dtype=np.int64), counts)
    start = [np.arange(count, dtype=np.int64) * CHUNK for count in counts]
    return tensor, np.concatenate(start) if start else np.zeros(0, np.int64)


# --- pieces -------------------------------------------------------------------------------------------------------


@intrinsic
def at(typing, address, offset, dtype):
    """The int64 ``address`` as a pointer to T, moved by ``offset`` elements."""
    pointer = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, arguments):
        base = builder.inttoptr(arguments[0], context.get_value_type(pointer))
        return builder.gep(base, [arguments[1]])

    return pointer(address, offset, dtype), generate


@intrinsic
def scratch(typing, dtype):
    """Room for one strip of T on the stack."""
    pointer = types.CPointer(dtype.dtype)

    def generate(context, builder, signature, arguments):
        return cgutils.alloca_once(builder, context.get_data_type(dtype.dtype), size=STRIP)

    return pointer(dtype), generate


@jit
def _lerp(a, b, w):
    """a + w (b - a), in the form that is exact at the nearer end, as torch.lerp."""
    one = type(a)(1)
    return a + w * (b - a) if w < type(a)(0.5) else b - (b - a) * (one - w)


@jit
def _maximum(a, b):
    return b if (b > a) | (b != b) else a  # nan wins


@jit
def _gradient(d, g, p, n, scale, decay):
    """d = scale g + decay p, where decay is the L2 penalty."""
    if decay != type(decay)(0):
        for i in range(n):
            d[i] = g[i] * scale + decay * p[i]
    else:  # not 0 * p: p may be infinite
        for i in range(n):
            d[i] = g[i] * scale


@jit
def _first_moment(m, d, n, w):
    for i in range(n):
        m[i] = _lerp(m[i], d[i], w)


@jit
def _second_moment(v, d, n, b, w):
    for i in range(n):
        v[i] = v[i] * b + w * d[i] * d[i]


# --- the two that everybody uses ------------------------------------------------------------------------------------


@kernel
def sgd(
    params: i8,  # (N,) addresses, updated
    buffers: i8,  # (N,) addresses of the momentum buffers, updated; NULL if momentum is 0
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 1): 1 if the buffer is new (it becomes the gradient, undamped), else 0
    nesterov: dim,
    maximize: dim,
    lr: f8s,
    momentum: f8s,
    dampening: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """b = momentum b + (1 - dampening) g; p -= lr b, with Nesterov lr (g + momentum b); g includes weight_decay p."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, rate, mu, damp = T(weight_decay), T(lr), T(momentum), T(1.0 - dampening)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g = at(params[k], o, T), at(grads[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            if momentum != 0.0:
                b = at(buffers[k], o, T)
                if table[k] != 0.0:
                    for i in range(n):
                        b[i] = d[i]
                else:
                    for i in range(n):
                        b[i] = b[i] * mu + damp * d[i]
                if nesterov:
                    for i in range(n):
                        p[i] = p[i] - rate * (d[i] + mu * b[i])
                else:
                    for i in range(n):
                        p[i] = p[i] - rate * b[i]
            else:
                for i in range(n):
                    p[i] = p[i] - rate * d[i]


@sgd.reference
def _(
    params, buffers, grads, chunk_tensor, chunk_start, sizes, table,
    nesterov, maximize, lr, momentum, dampening, weight_decay, grad_scale,
):  # fmt: skip
    """Sutskever et al., On the importance of initialization and momentum, ICML 2013, with PyTorch's lr outside b."""
    for (new,), p, b, g in _rows(table, sizes, params, buffers, grads):
        d = _reference_gradient(p, g, maximize, weight_decay, grad_scale)
        if momentum != 0:
            b[:] = d if new else momentum * b + (1 - dampening) * d
            d = d + momentum * b if nesterov else b
        p -= lr * d


@kernel
def adam(
    params: i8,  # (N,) addresses, updated
    m: i8,  # (N,) addresses: mean of the gradient, updated
    v: i8,  # (N,) addresses: mean of its square, updated
    top: i8,  # (N,) addresses: largest v so far, updated; NULL unless amsgrad
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 2): lr / (1 - beta1**t), sqrt(1 - beta2**t), t = 1 at the first step
    amsgrad: dim,
    decoupled: dim,  # AdamW: p *= 1 - lr weight_decay, instead of weight_decay p in the gradient
    maximize: dim,
    lr: f8s,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """m = lerp(m, g, 1 - beta1); v = beta2 v + (1 - beta2) g^2; p -= table0 m / (sqrt(v) / table1 + eps)."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, keep = T(0.0 if decoupled else weight_decay), T(1.0 - lr * weight_decay if decoupled else 1.0)
    w1, b2, w2, e = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps)
    penalty = decay != T(0)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        size, unroot = T(table[2 * k]), T(1.0 / table[2 * k + 1])  # a division an element less
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, a, s = at(params[k], o, T), at(grads[k], o, T), at(m[k], o, T), at(v[k], o, T)
            if not amsgrad:
                for i in range(n):
                    d = g[i] * scale
                    d = d + decay * p[i] if penalty else d
                    a[i] = _lerp(a[i], d, w1)
                    s[i] = s[i] * b2 + w2 * d * d
                    p[i] = p[i] * keep - size * a[i] / (sqrt(s[i]) * unroot + e)
            else:  # a fifth buffer: two loops, see DESIGN d
                r = at(top[k], o, T)
                for i in range(n):
                    d = g[i] * scale
                    d = d + decay * p[i] if penalty else d
                    a[i] = _lerp(a[i], d, w1)
                    s[i] = s[i] * b2 + w2 * d * d
                for i in range(n):
                    r[i] = _maximum(r[i], s[i])
                    p[i] = p[i] * keep - size * a[i] / (sqrt(r[i]) * unroot + e)


@adam.reference
def _(
    params, m, v, top, grads, chunk_tensor, chunk_start, sizes, table,
    amsgrad, decoupled, maximize, lr, beta1, beta2, eps, weight_decay, grad_scale,
):  # fmt: skip
    """Kingma and Ba 2015, algorithm 1; Reddi et al. 2018 (amsgrad); Loshchilov and Hutter 2019 (decoupled)."""
    for (step_size, root), p, m, v, top, g in _rows(table, sizes, params, m, v, top, grads):
        d = _reference_gradient(p, g, maximize, 0 if decoupled else weight_decay, grad_scale)
        if decoupled:
            p *= 1 - lr * weight_decay
        m[:] = beta1 * m + (1 - beta1) * d
        v[:] = beta2 * v + (1 - beta2) * d * d
        if amsgrad:
            top[:] = np.maximum(top, v)
        p -= step_size * m / (np.sqrt(top if amsgrad else v) / root + eps)


# --- gradients of all tensors: norms, clipping, averages ------------------------------------------------------------


@kernel(fastmath={"reassoc"})
def norm_squares(part: f8, grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, lo, hi):
    """part[c] = sum of g^2 over chunk c, in float64; the norm is sqrt(sum(part))."""
    for c in range(lo, hi):
        k = chunk_tensor[c]
        g = at(grads[k], chunk_start[c], T)
        total = 0.0
        for i in range(min(CHUNK, sizes[k] - chunk_start[c])):
            x = np.float64(g[i])
            total += x * x
        part[c] = total


@norm_squares.reference
def _(part, grads, chunk_tensor, chunk_start, sizes):
    for c, x in _pieces(grads, chunk_tensor, chunk_start, sizes):
        part[c] = np.sum(x * x)


@kernel
def norm_max(part: f8, grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, lo, hi):
    """part[c] = largest |g| of chunk c, nan if there is one; norm_type=inf."""
    for c in range(lo, hi):
        k = chunk_tensor[c]
        g = at(grads[k], chunk_start[c], T)
        top = T(0)
        for i in range(min(CHUNK, sizes[k] - chunk_start[c])):
            top = _maximum(top, abs(g[i]))
        part[c] = top


@norm_max.reference
def _(part, grads, chunk_tensor, chunk_start, sizes):
    for c, x in _pieces(grads, chunk_tensor, chunk_start, sizes):
        part[c] = np.max(np.abs(x))


@kernel(fastmath={"reassoc"})
def norm_powers(part: f8, grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, exponent: f8s, lo, hi):
    """part[c] = sum of |g|^exponent over chunk c, in float64; the norm is sum(part)^(1/exponent)."""
    for c in range(lo, hi):
        k = chunk_tensor[c]
        g = at(grads[k], chunk_start[c], T)
        n = min(CHUNK, sizes[k] - chunk_start[c])
        total = 0.0
        if exponent == 1.0:
            for i in range(n):
                total += np.float64(abs(g[i]))
        else:
            for i in range(n):
                total += np.float64(km.pow(np.float64(abs(g[i])), exponent))
        part[c] = total


@norm_powers.reference
def _(part, grads, chunk_tensor, chunk_start, sizes, exponent):
    for c, x in _pieces(grads, chunk_tensor, chunk_start, sizes):
        part[c] = np.sum(np.abs(x) ** exponent)


@kernel
def scale(grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, coef: f8s, lo, hi):
    """g *= coef, in place (clip_grad_norm_)."""
    factor = T(coef)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        g = at(grads[k], chunk_start[c], T)
        for i in range(min(CHUNK, sizes[k] - chunk_start[c])):
            g[i] = g[i] * factor


@scale.reference
def _(grads, chunk_tensor, chunk_start, sizes, coef):
    for _, x in _pieces(grads, chunk_tensor, chunk_start, sizes):
        x *= coef


@kernel
def clamp(grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, low: f8s, high: f8s, lo, hi):
    """g = min(max(g, low), high), in place, nan stays (clip_grad_value_)."""
    a, b = T(low), T(high)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        g = at(grads[k], chunk_start[c], T)
        for i in range(min(CHUNK, sizes[k] - chunk_start[c])):
            x = a if g[i] < a else g[i]
            g[i] = b if x > b else x


@clamp.reference
def _(grads, chunk_tensor, chunk_start, sizes, low, high):
    for _, x in _pieces(grads, chunk_tensor, chunk_start, sizes):
        x[:] = np.minimum(np.maximum(x, low), high)


@kernel
def lerp(averages: i8, params: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, weight: f8s, lo, hi):
    """average += weight (p - average), in place: an exponential moving average of decay 1 - weight."""
    w = T(weight)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        a, p = at(averages[k], chunk_start[c], T), at(params[k], chunk_start[c], T)
        _first_moment(a, p, min(CHUNK, sizes[k] - chunk_start[c]), w)


@lerp.reference
def _(averages, params, chunk_tensor, chunk_start, sizes, weight):
    for _, a, p in _rows(np.zeros((len(sizes), 1)), sizes, averages, params):
        a += weight * (p - a)


# --- the rest of torch.optim ----------------------------------------------------------------------------------------


@kernel
def muon(
    params: i8,  # (N,) addresses, updated
    buffers: i8,  # (N,) addresses: mean of the gradient, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    momentum: f8s,
    decay: f8s,
    lo,
    hi,
):
    """b = momentum b + (1 - momentum) g; p *= 1 - decay: all of Muon's step but its matrix products."""
    w, keep = T(1.0 - momentum), T(1.0 - decay)
    for c in range(lo, hi):
        k, o = chunk_tensor[c], chunk_start[c]
        p, b, g = at(params[k], o, T), at(buffers[k], o, T), at(grads[k], o, T)
        n = min(CHUNK, sizes[k] - o)
        _first_moment(b, g, n, w)
        for i in range(n):
            p[i] = p[i] * keep


@muon.reference
def _(params, buffers, grads, chunk_tensor, chunk_start, sizes, momentum, decay):
    """Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024."""
    for _, p, b, g in _rows(np.zeros((len(sizes), 1)), sizes, params, buffers, grads):
        b += (1 - momentum) * (g - b)
        p *= 1 - decay


@kernel
def rmsprop(
    params: i8,  # (N,) addresses, updated
    v: i8,  # (N,) addresses: mean of g^2, updated
    buffers: i8,  # (N,) addresses of the momentum buffers, updated; NULL if momentum is 0
    means: i8,  # (N,) addresses: mean of g, updated; NULL unless centered
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    centered: dim,
    maximize: dim,
    lr: f8s,
    alpha: f8s,
    eps: f8s,
    weight_decay: f8s,
    momentum: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """v = alpha v + (1 - alpha) g^2; b = momentum b + g / (sqrt(v [- mean^2]) + eps); p -= lr b."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, rate, keep, w, e, mu = T(weight_decay), T(lr), T(alpha), T(1.0 - alpha), T(eps), T(momentum)
    d, root = scratch(T), scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, s = at(params[k], o, T), at(grads[k], o, T), at(v[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            _second_moment(s, d, n, keep, w)
            if centered:
                a = at(means[k], o, T)
                _first_moment(a, d, n, w)
                for i in range(n):
                    root[i] = sqrt(s[i] - a[i] * a[i]) + e
            else:
                for i in range(n):
                    root[i] = sqrt(s[i]) + e
            if momentum > 0.0:
                b = at(buffers[k], o, T)
                for i in range(n):
                    b[i] = b[i] * mu + d[i] / root[i]
                    p[i] = p[i] - rate * b[i]
            else:
                for i in range(n):
                    p[i] = p[i] - rate * d[i] / root[i]


@rmsprop.reference
def _(
    params, v, buffers, means, grads, chunk_tensor, chunk_start, sizes,
    centered, maximize, lr, alpha, eps, weight_decay, momentum, grad_scale,
):  # fmt: skip
    """Tieleman and Hinton 2012, lecture 6.5; centered: Graves 2013, section 4.2."""
    for _, p, v, b, mean, g in _rows(None, sizes, params, v, buffers, means, grads):
        d = _reference_gradient(p, g, maximize, weight_decay, grad_scale)
        v[:] = alpha * v + (1 - alpha) * d * d
        square = v
        if centered:
            mean[:] = alpha * mean + (1 - alpha) * d
            square = v - mean * mean
        d = d / (np.sqrt(square) + eps)
        if momentum > 0:
            b[:] = momentum * b + d
            d = b
        p -= lr * d


@kernel
def adagrad(
    params: i8,  # (N,) addresses, updated
    total: i8,  # (N,) addresses: sum of g^2, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 1): lr / (1 + (t - 1) lr_decay)
    maximize: dim,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """total += g^2; p -= table0 g / (sqrt(total) + eps)."""
    scale, decay, e = T(-grad_scale if maximize else grad_scale), T(weight_decay), T(eps)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        rate = T(table[k])
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, s = at(params[k], o, T), at(grads[k], o, T), at(total[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            for i in range(n):
                s[i] = s[i] + d[i] * d[i]
                p[i] = p[i] - rate * d[i] / (sqrt(s[i]) + e)


@adagrad.reference
def _(params, total, grads, chunk_tensor, chunk_start, sizes, table, maximize, eps, weight_decay, grad_scale):
    """Duchi, Hazan and Singer 2011, JMLR 12."""
    for (rate,), p, s, g in _rows(table, sizes, params, total, grads):
        d = _reference_gradient(p, g, maximize, weight_decay, grad_scale)
        s += d * d
        p -= rate * d / (np.sqrt(s) + eps)


@kernel
def adadelta(
    params: i8,  # (N,) addresses, updated
    v: i8,  # (N,) addresses: mean of g^2, updated
    u: i8,  # (N,) addresses: mean of the squared updates, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    maximize: dim,
    lr: f8s,
    rho: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """v = rho v + (1 - rho) g^2; x = sqrt((u + eps) / (v + eps)) g; u = rho u + (1 - rho) x^2; p -= lr x."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, rate, keep, w, e = T(weight_decay), T(lr), T(rho), T(1.0 - rho), T(eps)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, s, a = at(params[k], o, T), at(grads[k], o, T), at(v[k], o, T), at(u[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            for i in range(n):
                s[i] = s[i] * keep + w * d[i] * d[i]
                x = sqrt(a[i] + e) / sqrt(s[i] + e) * d[i]
                a[i] = a[i] * keep + w * x * x
                p[i] = p[i] - rate * x


@adadelta.reference
def _(params, v, u, grads, chunk_tensor, chunk_start, sizes, maximize, lr, rho, eps, weight_decay, grad_scale):
    """Zeiler 2012, algorithm 1."""
    for _, p, v, u, g in _rows(None, sizes, params, v, u, grads):
        d = _reference_gradient(p, g, maximize, weight_decay, grad_scale)
        v[:] = rho * v + (1 - rho) * d * d
        x = np.sqrt(u + eps) / np.sqrt(v + eps) * d
        u[:] = rho * u + (1 - rho) * x * x
        p -= lr * x


@kernel
def adamax(
    params: i8,  # (N,) addresses, updated
    m: i8,  # (N,) addresses: mean of the gradient, updated
    u: i8,  # (N,) addresses: decaying maximum of |g|, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 1): lr / (1 - beta1**t)
    maximize: dim,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """m = lerp(m, g, 1 - beta1); u = max(beta2 u, |g| + eps); p -= table0 m / u."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, w, b, e = T(weight_decay), T(1.0 - beta1), T(beta2), T(eps)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        rate = T(table[k])
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, a, s = at(params[k], o, T), at(grads[k], o, T), at(m[k], o, T), at(u[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            for i in range(n):
                a[i] = _lerp(a[i], d[i], w)
                s[i] = _maximum(s[i] * b, abs(d[i]) + e)
                p[i] = p[i] - rate * a[i] / s[i]


@adamax.reference
def _(
    params, m, u, grads, chunk_tensor, chunk_start, sizes, table,
    maximize, beta1, beta2, eps, weight_decay, grad_scale,
):  # fmt: skip
    """Kingma and Ba 2015, algorithm 2, with PyTorch's eps inside the maximum."""
    for (rate,), p, m, u, g in _rows(table, sizes, params, m, u, grads):
        d = _reference_gradient(p, g, maximize, weight_decay, grad_scale)
        m[:] = beta1 * m + (1 - beta1) * d
        u[:] = np.maximum(beta2 * u, np.abs(d) + eps)
        p -= rate * m / u


@kernel
def nadam(
    params: i8,  # (N,) addresses, updated
    m: i8,  # (N,) addresses: mean of the gradient, updated
    v: i8,  # (N,) addresses: mean of its square, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 3): 1 - beta2**t, lr (1 - mu_t) / (1 - P_t), lr mu_t1 / (1 - P_t mu_t1), P_t = mu_1 ... mu_t,
    #                     mu_t = beta1 (1 - 0.96**(t momentum_decay) / 2), mu_t1 the same at t + 1
    decoupled: dim,
    maximize: dim,
    lr: f8s,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """m, v as in adam; q = sqrt(v / table0) + eps; p -= table1 g / q; p -= table2 m / q."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, keep = T(0.0 if decoupled else weight_decay), T(1.0 - lr * weight_decay if decoupled else 1.0)
    w1, b2, w2, e = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        correction, now, ahead = T(table[3 * k]), T(table[3 * k + 1]), T(table[3 * k + 2])
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, a, s = at(params[k], o, T), at(grads[k], o, T), at(m[k], o, T), at(v[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            for i in range(n):
                a[i] = _lerp(a[i], d[i], w1)
                s[i] = s[i] * b2 + w2 * d[i] * d[i]
                q = sqrt(s[i] / correction) + e
                p[i] = p[i] * keep - now * d[i] / q - ahead * a[i] / q


@nadam.reference
def _(
    params, m, v, grads, chunk_tensor, chunk_start, sizes, table,
    decoupled, maximize, lr, beta1, beta2, eps, weight_decay, grad_scale,
):  # fmt: skip
    """Dozat 2016, Incorporating Nesterov momentum into Adam."""
    for (correction, now, ahead), p, m, v, g in _rows(table, sizes, params, m, v, grads):
        d = _reference_gradient(p, g, maximize, 0 if decoupled else weight_decay, grad_scale)
        if decoupled:
            p *= 1 - lr * weight_decay
        m[:] = beta1 * m + (1 - beta1) * d
        v[:] = beta2 * v + (1 - beta2) * d * d
        p -= (now * d + ahead * m) / (np.sqrt(v / correction) + eps)


@kernel
def radam(
    params: i8,  # (N,) addresses, updated
    m: i8,  # (N,) addresses: mean of the gradient, updated
    v: i8,  # (N,) addresses: mean of its square, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 3): 1 - beta1**t, sqrt(1 - beta2**t), rectification r, 0 where rho_t <= 5; with
    #           rho = 2 / (1 - beta2) - 1, rho_t = rho - 2 t beta2**t / (1 - beta2**t) and
    #           r = sqrt((rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t))
    decoupled: dim,
    maximize: dim,
    lr: f8s,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """m, v as in adam; p -= lr m / table0 * (table1 / (sqrt(v) + eps) * table2, or 1 if table2 is 0)."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, keep = T(0.0 if decoupled else weight_decay), T(1.0 - lr * weight_decay if decoupled else 1.0)
    w1, b2, w2, e, rate = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps), T(lr)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        correction, root, rectify = T(table[3 * k]), T(table[3 * k + 1]), T(table[3 * k + 2])
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, a, s = at(params[k], o, T), at(grads[k], o, T), at(m[k], o, T), at(v[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            _first_moment(a, d, n, w1)
            _second_moment(s, d, n, b2, w2)
            if rectify != T(0):
                for i in range(n):
                    x = a[i] / correction * rate * (root / (sqrt(s[i]) + e)) * rectify
                    p[i] = p[i] * keep - x
            else:
                for i in range(n):
                    p[i] = p[i] * keep - a[i] / correction * rate


@radam.reference
def _(
    params, m, v, grads, chunk_tensor, chunk_start, sizes, table,
    decoupled, maximize, lr, beta1, beta2, eps, weight_decay, grad_scale,
):  # fmt: skip
    """Liu et al. 2020, On the variance of the adaptive learning rate, algorithm 2."""
    for (correction, root, rectify), p, m, v, g in _rows(table, sizes, params, m, v, grads):
        d = _reference_gradient(p, g, maximize, 0 if decoupled else weight_decay, grad_scale)
        if decoupled:
            p *= 1 - lr * weight_decay
        m[:] = beta1 * m + (1 - beta1) * d
        v[:] = beta2 * v + (1 - beta2) * d * d
        p -= lr * m / correction * (rectify * root / (np.sqrt(v) + eps) if rectify else 1)


@kernel
def asgd(
    params: i8,  # (N,) addresses, updated
    averages: i8,  # (N,) addresses: averaged parameters, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    table: f8,  # (N, 2): eta = lr / (1 + lambd lr s)**alpha, mu = 1 / max(1, s - t0), s = t - 1 steps done before;
    #           eta = lr and mu = 1 at the first
    maximize: dim,
    lambd: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """p = (1 - lambd eta) p - eta g; average += mu (p - average)."""
    scale, decay = T(-grad_scale if maximize else grad_scale), T(weight_decay)
    d = scratch(T)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        rate, keep, mu = T(table[2 * k]), T(1.0 - lambd * table[2 * k]), T(table[2 * k + 1])
        end = min(chunk_start[c] + CHUNK, sizes[k])
        for o in range(chunk_start[c], end, STRIP):
            n = min(STRIP, end - o)
            p, g, a = at(params[k], o, T), at(grads[k], o, T), at(averages[k], o, T)
            _gradient(d, g, p, n, scale, decay)
            for i in range(n):
                p[i] = p[i] * keep - rate * d[i]
            if mu != T(1):
                for i in range(n):
                    a[i] = a[i] + (p[i] - a[i]) * mu
            else:
                for i in range(n):
                    a[i] = p[i]


@asgd.reference
def _(params, averages, grads, chunk_tensor, chunk_start, sizes, table, maximize, lambd, weight_decay, grad_scale):
    """Polyak and Juditsky 1992; Bottou's sgd for the schedule of eta."""
    for (eta, mu), p, a, g in _rows(table, sizes, params, averages, grads):
        d = _reference_gradient(p, g, maximize, weight_decay, grad_scale)
        p[:] = (1 - lambd * eta) * p - eta * d
        a[:] = p if mu == 1 else a + mu * (p - a)


@kernel
def rprop(
    params: i8,  # (N,) addresses, updated
    last: i8,  # (N,) addresses: gradient of the step before, 0 at first, updated
    steps: i8,  # (N,) addresses: step size of each element, lr at first, updated
    grads: i8,  # (N,) addresses
    chunk_tensor: i8,  # (chunks,)
    chunk_start: i8,  # (chunks,)
    sizes: i8,  # (N,)
    maximize: dim,
    eta_minus: f8s,
    eta_plus: f8s,
    step_min: f8s,
    step_max: f8s,
    grad_scale: f8s,
    lo,
    hi,
):
    """step *= eta_plus where g keeps its sign, eta_minus where it flips (then g = 0); p -= sign(g) step."""
    scale = T(-grad_scale if maximize else grad_scale)
    less, more, low, high = T(eta_minus), T(eta_plus), T(step_min), T(step_max)
    for c in range(lo, hi):
        k = chunk_tensor[c]
        o, n = chunk_start[c], min(CHUNK, sizes[k] - chunk_start[c])
        p, g, b, s = at(params[k], o, T), at(grads[k], o, T), at(last[k], o, T), at(steps[k], o, T)
        for i in range(n):
            d = g[i] * scale
            product = d * b[i]
            step = s[i] * (more if product > T(0) else (less if product < T(0) else T(1)))
            step = low if step < low else step
            step = high if step > high else step
            d = T(0) if product < T(0) else d
            s[i] = step
            b[i] = d
            p[i] = p[i] - (step if d > T(0) else (-step if d < T(0) else T(0)))


@rprop.reference
def _(
    params, last, steps, grads, chunk_tensor, chunk_start, sizes,
    maximize, eta_minus, eta_plus, step_min, step_max, grad_scale,
):  # fmt: skip
    """Riedmiller and Braun 1993; the iRprop- variant of Igel and Huesken 2000, as PyTorch."""
    for _, p, b, s, g in _rows(None, sizes, params, last, steps, grads):
        d = _reference_gradient(p, g, maximize, 0, grad_scale)
        product = d * b
        factor = np.select([product > 0, product < 0], [eta_plus, eta_minus], 1.0)
        s[:] = np.clip(s * factor, step_min, step_max)
        b[:] = np.where(product < 0, 0, d)
        p -= np.sign(b) * s


# --- what the references share --------------------------------------------------------------------------------------


def _float64(address, size):
    """The float64 tensor at an address; the references work on float64 tensors only."""
    if address == 0 or size == 0:
        return np.zeros(size)
    return np.ctypeslib.as_array((ctypes.c_double * size).from_address(address))


def _rows(table, sizes, *addresses):
    """For each tensor its table row and its arrays; None stands for a table or column that is not there."""
    for k, size in enumerate(sizes.tolist()):
        row = () if table is None else table[k].tolist()
        yield row, *[None if column is None else _float64(int(column[k]), size) for column in addresses]


def _pieces(addresses, chunk_tensor, chunk_start, sizes):
    """For each chunk its number and its elements."""
    for c, (k, start) in enumerate(zip(chunk_tensor.tolist(), chunk_start.tolist(), strict=True)):
        yield c, _float64(int(addresses[k]), int(sizes[k]))[start : start + CHUNK]


def _reference_gradient(p, g, maximize, weight_decay, grad_scale):
    d = (-grad_scale if maximize else grad_scale) * g
    return d + weight_decay * p if weight_decay != 0 else d
