"""Optimizer kernels: one launch updates every parameter of a batch in place, and the few things done to all gradients.

DESIGN
a. The tables are the CPU kernels', on the GPU. A block takes a chunk, then that which lies a grid further on, so that a
   thousand small tensors are one launch like one big one. A thread takes four elements at a time, by 16-byte accesses
   where all tensors of a chunk are aligned. Loops are ``while``, which takes fewer registers than Numba's ``range``:
   more blocks fit, whose loads are under way at once.
b. What happens to one element is a function of the element in each tensor and of ``c``, the chunk's numbers. ``over1``
   to ``over4`` walk chunks with it, ``over0`` without a gradient. It is a line or two, the CPU kernel's.
c. Each product, sum, quotient and root is rounded by itself, as on the CPU: no fused multiply-add (``fma``), which
   would not be seen in the time, since these kernels wait for memory. So a step has the same bits on both devices.
   Norms do not: their sums are taken in another order, their powers by another function.
d. Which thread takes which element does not depend on alignment, so that a sum does not either.
"""

import functools
import math

from numba import cuda

from .contract import T, device_scalars, dim, f8, f8s, i8, jit, kernel
from .parts import aligned, at, block_max, block_sum, load4, store4

CHUNK = 2048  # elements a unit, as on the CPU
BLOCK = 256  # threads a chunk
STEP = 4 * BLOCK  # elements a block takes at once

chunked = functools.partial(kernel, block=BLOCK, per=1, fma=False)


# --- walking chunks: formula(element of each tensor, c) -> new elements -------------------------------------------


@jit
def load_some(x, i, n):
    """x[i] to x[i + 3], those that there are; for others the last."""
    return x[i], x[min(i + 1, n - 1)], x[min(i + 2, n - 1)], x[min(i + 3, n - 1)]


@jit
def store_some(y, i, n, a, b, c, d):
    """y[i] to y[i + 3], those that there are."""
    y[i] = a
    if i + 1 < n:
        y[i + 1] = b
    if i + 2 < n:
        y[i + 2] = c
    if i + 3 < n:
        y[i + 3] = d


def over0(formula):
    @jit
    def walk(p, n, c):
        wide = aligned(p)
        i = 4 * cuda.threadIdx.x
        while i < n:
            whole = wide and i + 4 <= n
            if whole:
                p0, p1, p2, p3 = load4(p, i)
            else:
                p0, p1, p2, p3 = load_some(p, i, n)
            p0 = formula(p0, c)
            p1 = formula(p1, c)
            p2 = formula(p2, c)
            p3 = formula(p3, c)
            if whole:
                store4(p, i, p0, p1, p2, p3)
            else:
                store_some(p, i, n, p0, p1, p2, p3)
            i += STEP

    return walk


def over1(formula):
    @jit
    def walk(p, g, n, c):
        wide = aligned(p) & aligned(g)
        i = 4 * cuda.threadIdx.x
        while i < n:
            whole = wide and i + 4 <= n
            if whole:
                g0, g1, g2, g3 = load4(g, i)
                p0, p1, p2, p3 = load4(p, i)
            else:
                g0, g1, g2, g3 = load_some(g, i, n)
                p0, p1, p2, p3 = load_some(p, i, n)
            p0 = formula(p0, g0, c)
            p1 = formula(p1, g1, c)
            p2 = formula(p2, g2, c)
            p3 = formula(p3, g3, c)
            if whole:
                store4(p, i, p0, p1, p2, p3)
            else:
                store_some(p, i, n, p0, p1, p2, p3)
            i += STEP

    return walk


def over2(formula):
    @jit
    def walk(p, a, g, n, c):
        wide = aligned(p) & aligned(a) & aligned(g)
        i = 4 * cuda.threadIdx.x
        while i < n:
            whole = wide and i + 4 <= n
            if whole:
                g0, g1, g2, g3 = load4(g, i)
                p0, p1, p2, p3 = load4(p, i)
                a0, a1, a2, a3 = load4(a, i)
            else:
                g0, g1, g2, g3 = load_some(g, i, n)
                p0, p1, p2, p3 = load_some(p, i, n)
                a0, a1, a2, a3 = load_some(a, i, n)
            p0, a0 = formula(p0, a0, g0, c)
            p1, a1 = formula(p1, a1, g1, c)
            p2, a2 = formula(p2, a2, g2, c)
            p3, a3 = formula(p3, a3, g3, c)
            if whole:
                store4(p, i, p0, p1, p2, p3)
                store4(a, i, a0, a1, a2, a3)
            else:
                store_some(p, i, n, p0, p1, p2, p3)
                store_some(a, i, n, a0, a1, a2, a3)
            i += STEP

    return walk


def over3(formula):
    @jit
    def walk(p, a, b, g, n, c):
        wide = aligned(p) & aligned(a) & aligned(b) & aligned(g)
        i = 4 * cuda.threadIdx.x
        while i < n:
            whole = wide and i + 4 <= n
            if whole:
                g0, g1, g2, g3 = load4(g, i)
                p0, p1, p2, p3 = load4(p, i)
                a0, a1, a2, a3 = load4(a, i)
                b0, b1, b2, b3 = load4(b, i)
            else:
                g0, g1, g2, g3 = load_some(g, i, n)
                p0, p1, p2, p3 = load_some(p, i, n)
                a0, a1, a2, a3 = load_some(a, i, n)
                b0, b1, b2, b3 = load_some(b, i, n)
            p0, a0, b0 = formula(p0, a0, b0, g0, c)
            p1, a1, b1 = formula(p1, a1, b1, g1, c)
            p2, a2, b2 = formula(p2, a2, b2, g2, c)
            p3, a3, b3 = formula(p3, a3, b3, g3, c)
            if whole:
                store4(p, i, p0, p1, p2, p3)
                store4(a, i, a0, a1, a2, a3)
                store4(b, i, b0, b1, b2, b3)
            else:
                store_some(p, i, n, p0, p1, p2, p3)
                store_some(a, i, n, a0, a1, a2, a3)
                store_some(b, i, n, b0, b1, b2, b3)
            i += STEP

    return walk


def over4(formula):
    @jit
    def walk(p, a, b, d, g, n, c):
        wide = aligned(p) & aligned(a) & aligned(b) & aligned(d) & aligned(g)
        i = 4 * cuda.threadIdx.x
        while i < n:
            whole = wide and i + 4 <= n
            if whole:
                g0, g1, g2, g3 = load4(g, i)
                p0, p1, p2, p3 = load4(p, i)
                a0, a1, a2, a3 = load4(a, i)
                b0, b1, b2, b3 = load4(b, i)
                d0, d1, d2, d3 = load4(d, i)
            else:
                g0, g1, g2, g3 = load_some(g, i, n)
                p0, p1, p2, p3 = load_some(p, i, n)
                a0, a1, a2, a3 = load_some(a, i, n)
                b0, b1, b2, b3 = load_some(b, i, n)
                d0, d1, d2, d3 = load_some(d, i, n)
            p0, a0, b0, d0 = formula(p0, a0, b0, d0, g0, c)
            p1, a1, b1, d1 = formula(p1, a1, b1, d1, g1, c)
            p2, a2, b2, d2 = formula(p2, a2, b2, d2, g2, c)
            p3, a3, b3, d3 = formula(p3, a3, b3, d3, g3, c)
            if whole:
                store4(p, i, p0, p1, p2, p3)
                store4(a, i, a0, a1, a2, a3)
                store4(b, i, b0, b1, b2, b3)
                store4(d, i, d0, d1, d2, d3)
            else:
                store_some(p, i, n, p0, p1, p2, p3)
                store_some(a, i, n, a0, a1, a2, a3)
                store_some(b, i, n, b0, b1, b2, b3)
                store_some(d, i, n, d0, d1, d2, d3)
            i += STEP

    return walk


def fold(formula):
    """formula(formula(start, x[i], c), x[j], c)... over this thread's elements of a chunk."""

    @jit
    def walk(start, x, n, c):
        wide, total = aligned(x), start
        i = 4 * cuda.threadIdx.x
        while i < n:
            if wide and i + 4 <= n:
                x0, x1, x2, x3 = load4(x, i)
                total = formula(formula(formula(formula(total, x0, c), x1, c), x2, c), x3, c)
            else:
                for j in range(i, min(i + 4, n)):
                    total = formula(total, x[j], c)
            i += STEP
        return total

    return walk


# --- pieces -------------------------------------------------------------------------------------------------------


@jit
def _lerp(a, b, w):
    """a + w (b - a), in the form that is exact at the nearer end, as torch.lerp."""
    one = type(a)(1)
    return a + w * (b - a) if w < type(a)(0.5) else b - (b - a) * (one - w)


@jit
def _maximum(a, b):
    return b if (b > a) | (b != b) else a  # nan wins


@jit
def _gradient(g, p, scale, decay):
    """scale g + decay p, where decay is the L2 penalty."""
    d = g * scale
    return d + decay * p if decay != type(p)(0) else d  # not 0 * p: p may be infinite


# --- the two that everybody uses ----------------------------------------------------------------------------------


@over1
@jit
def _sgd(p, g, c):
    scale, decay, rate = c
    return p - rate * _gradient(g, p, scale, decay)


@over2
@jit
def _sgd_momentum(p, b, g, c):
    scale, decay, rate, mu, damp, new, nesterov = c
    d = _gradient(g, p, scale, decay)
    b = d if new else b * mu + damp * d
    return p - rate * (d + mu * b if nesterov else b), b


@chunked
def sgd(
    params: i8,
    buffers: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    nesterov: dim,
    maximize: dim,
    lr: f8s,
    momentum: f8s,
    dampening: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """b = momentum b + (1 - dampening) g; p -= lr b, with Nesterov lr (g + momentum b); g includes weight_decay p."""
    scale, decay, rate = T(-grad_scale if maximize else grad_scale), T(weight_decay), T(lr)
    mu, damp = T(momentum), T(1.0 - dampening)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        n = min(CHUNK, sizes[k] - o)
        p, g = at(params[k], o, T), at(grads[k], o, T)
        if momentum != 0.0:
            new = table[k] != 0.0
            _sgd_momentum(p, at(buffers[k], o, T), g, n, (scale, decay, rate, mu, damp, new, nesterov != 0))
        else:
            _sgd(p, g, n, (scale, decay, rate))
        u += cuda.gridDim.x


@jit
def _adam_moments(p, m, v, g, c):
    scale, decay, _, w1, b2, w2, _, _, _ = c
    d = _gradient(g, p, scale, decay)
    return _lerp(m, d, w1), v * b2 + w2 * d * d


@jit
def _adam_step(p, m, v, c):
    _, _, keep, _, _, _, e, size, unroot = c
    return p * keep - size * m / (math.sqrt(v) * unroot + e)


@over3
@jit
def _adam(p, m, v, g, c):
    m, v = _adam_moments(p, m, v, g, c)
    return _adam_step(p, m, v, c), m, v


@over4
@jit
def _adam_amsgrad(p, m, v, top, g, c):
    m, v = _adam_moments(p, m, v, g, c)
    top = _maximum(top, v)
    return _adam_step(p, m, top, c), m, v, top


@chunked
def adam(
    params: i8,
    m: i8,
    v: i8,
    top: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    amsgrad: dim,
    decoupled: dim,
    maximize: dim,
    lr: f8s,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """m = lerp(m, g, 1 - beta1); v = beta2 v + (1 - beta2) g^2; p -= table0 m / (sqrt(v) / table1 + eps)."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, keep = T(0.0 if decoupled else weight_decay), T(1.0 - lr * weight_decay if decoupled else 1.0)
    w1, b2, w2, e = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        n = min(CHUNK, sizes[k] - o)
        p, a, s, g = at(params[k], o, T), at(m[k], o, T), at(v[k], o, T), at(grads[k], o, T)
        c = scale, decay, keep, w1, b2, w2, e, T(table[2 * k]), T(1.0 / table[2 * k + 1])
        if amsgrad:
            _adam_amsgrad(p, a, s, at(top[k], o, T), g, n, c)
        else:
            _adam(p, a, s, g, n, c)
        u += cuda.gridDim.x


# --- gradients of all tensors: norms, clipping, averages ----------------------------------------------------------


@fold
@jit
def _add_square(total, x, c):
    wide = type(total)(x)
    return total + wide * wide


@chunked
def norm_squares(part: f8, grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, units):
    """part[u] = sum of g^2 over chunk u, in float64; the norm is sqrt(sum(part))."""
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        total = block_sum(_add_square(0.0, at(grads[k], o, T), min(CHUNK, sizes[k] - o), 0.0))
        if cuda.threadIdx.x == 0:
            part[u] = total
        u += cuda.gridDim.x


@fold
@jit
def _largest(top, x, c):
    return _maximum(top, abs(x))


@chunked
def norm_max(part: f8, grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, units):
    """part[u] = largest |g| of chunk u, nan if there is one; norm_type=inf."""
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        top = block_max(_largest(T(0), at(grads[k], o, T), min(CHUNK, sizes[k] - o), 0.0))
        if cuda.threadIdx.x == 0:
            part[u] = top
        u += cuda.gridDim.x


@fold
@jit
def _add_power(total, x, exponent):
    size = type(total)(abs(x))
    return total + (size if exponent == 1.0 else math.pow(size, exponent))


@chunked
def norm_powers(part: f8, grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, exponent: f8s, units):
    """part[u] = sum of |g|^exponent over chunk u, in float64; the norm is sum(part)^(1/exponent)."""
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        total = block_sum(_add_power(0.0, at(grads[k], o, T), min(CHUNK, sizes[k] - o), exponent))
        if cuda.threadIdx.x == 0:
            part[u] = total
        u += cuda.gridDim.x


@over0
@jit
def _scale(g, c):
    return g * c


@chunked
def scale(grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, scalars: device_scalars, units):
    """g *= coef, in place (clip_grad_norm_). The host need not know coef, the one scalar; 1 changes nothing."""
    factor = T(scalars[0])
    if factor != T(1):
        u = cuda.blockIdx.x
        while u < units:
            k, o = chunk_tensor[u], chunk_start[u]
            _scale(at(grads[k], o, T), min(CHUNK, sizes[k] - o), factor)
            u += cuda.gridDim.x


@over0
@jit
def _clamp(g, c):
    low, high = c
    x = low if g < low else g
    return high if x > high else x


@chunked
def clamp(grads: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, low: f8s, high: f8s, units):
    """g = min(max(g, low), high), in place, nan stays (clip_grad_value_)."""
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        _clamp(at(grads[k], o, T), min(CHUNK, sizes[k] - o), (T(low), T(high)))
        u += cuda.gridDim.x


_average = over1(_lerp)


@chunked
def lerp(averages: i8, params: i8, chunk_tensor: i8, chunk_start: i8, sizes: i8, weight: f8s, units):
    """average += weight (p - average), in place: an exponential moving average of decay 1 - weight."""
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        _average(at(averages[k], o, T), at(params[k], o, T), min(CHUNK, sizes[k] - o), T(weight))
        u += cuda.gridDim.x


# --- the rest of torch.optim --------------------------------------------------------------------------------------


@over2
@jit
def _muon(p, b, g, c):
    w, keep = c
    return p * keep, _lerp(b, g, w)


@chunked
def muon(
    params: i8,
    buffers: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    momentum: f8s,
    decay: f8s,
    units,
):
    """b = momentum b + (1 - momentum) g; p *= 1 - decay: all of Muon's step but its matrix products."""
    c = T(1.0 - momentum), T(1.0 - decay)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        _muon(at(params[k], o, T), at(buffers[k], o, T), at(grads[k], o, T), min(CHUNK, sizes[k] - o), c)
        u += cuda.gridDim.x


@jit
def _rms_moment(p, v, g, c):
    """The gradient and the new mean of its square."""
    scale, decay, _, keep, w, _, _ = c
    d = _gradient(g, p, scale, decay)
    return d, v * keep + w * d * d


@jit
def _rms_mean(a, d, c):
    _, _, _, _, w, _, _ = c
    return _lerp(a, d, w)


@jit
def _rms_step(p, d, square, c):
    _, _, rate, _, _, e, _ = c
    return p - rate * d / (math.sqrt(square) + e)


@jit
def _rms_momentum(p, b, d, square, c):
    _, _, rate, _, _, e, mu = c
    b = b * mu + d / (math.sqrt(square) + e)
    return p - rate * b, b


@over2
@jit
def _rmsprop(p, v, g, c):
    d, v = _rms_moment(p, v, g, c)
    return _rms_step(p, d, v, c), v


@over3
@jit
def _rmsprop_momentum(p, v, b, g, c):
    d, v = _rms_moment(p, v, g, c)
    p, b = _rms_momentum(p, b, d, v, c)
    return p, v, b


@over3
@jit
def _rmsprop_centered(p, v, a, g, c):
    d, v = _rms_moment(p, v, g, c)
    a = _rms_mean(a, d, c)
    return _rms_step(p, d, v - a * a, c), v, a


@over4
@jit
def _rmsprop_both(p, v, b, a, g, c):
    d, v = _rms_moment(p, v, g, c)
    a = _rms_mean(a, d, c)
    p, b = _rms_momentum(p, b, d, v - a * a, c)
    return p, v, b, a


@chunked
def rmsprop(
    params: i8,
    v: i8,
    buffers: i8,
    means: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    centered: dim,
    maximize: dim,
    lr: f8s,
    alpha: f8s,
    eps: f8s,
    weight_decay: f8s,
    momentum: f8s,
    grad_scale: f8s,
    units,
):
    """v = alpha v + (1 - alpha) g^2; b = momentum b + g / (sqrt(v [- mean^2]) + eps); p -= lr b."""
    scale = T(-grad_scale if maximize else grad_scale)
    c = scale, T(weight_decay), T(lr), T(alpha), T(1.0 - alpha), T(eps), T(momentum)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        n = min(CHUNK, sizes[k] - o)
        p, s, g = at(params[k], o, T), at(v[k], o, T), at(grads[k], o, T)
        if centered and momentum > 0.0:
            _rmsprop_both(p, s, at(buffers[k], o, T), at(means[k], o, T), g, n, c)
        elif centered:
            _rmsprop_centered(p, s, at(means[k], o, T), g, n, c)
        elif momentum > 0.0:
            _rmsprop_momentum(p, s, at(buffers[k], o, T), g, n, c)
        else:
            _rmsprop(p, s, g, n, c)
        u += cuda.gridDim.x


@over2
@jit
def _adagrad(p, s, g, c):
    scale, decay, e, rate = c
    d = _gradient(g, p, scale, decay)
    s = s + d * d
    return p - rate * d / (math.sqrt(s) + e), s


@chunked
def adagrad(
    params: i8,
    total: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    maximize: dim,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """total += g^2; p -= table0 g / (sqrt(total) + eps)."""
    scale, decay, e = T(-grad_scale if maximize else grad_scale), T(weight_decay), T(eps)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        n, c = min(CHUNK, sizes[k] - o), (scale, decay, e, T(table[k]))
        _adagrad(at(params[k], o, T), at(total[k], o, T), at(grads[k], o, T), n, c)
        u += cuda.gridDim.x


@over3
@jit
def _adadelta(p, v, u, g, c):
    scale, decay, rate, keep, w, e = c
    d = _gradient(g, p, scale, decay)
    v = v * keep + w * d * d
    x = math.sqrt(u + e) / math.sqrt(v + e) * d
    return p - rate * x, v, u * keep + w * x * x


@chunked
def adadelta(
    params: i8,
    v: i8,
    u: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    maximize: dim,
    lr: f8s,
    rho: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """v = rho v + (1 - rho) g^2; x = sqrt((u + eps) / (v + eps)) g; u = rho u + (1 - rho) x^2; p -= lr x."""
    scale = T(-grad_scale if maximize else grad_scale)
    c = scale, T(weight_decay), T(lr), T(rho), T(1.0 - rho), T(eps)
    unit = cuda.blockIdx.x
    while unit < units:
        k, o = chunk_tensor[unit], chunk_start[unit]
        n = min(CHUNK, sizes[k] - o)
        _adadelta(at(params[k], o, T), at(v[k], o, T), at(u[k], o, T), at(grads[k], o, T), n, c)
        unit += cuda.gridDim.x


@over3
@jit
def _adamax(p, m, u, g, c):
    scale, decay, w, b, e, rate = c
    d = _gradient(g, p, scale, decay)
    m, u = _lerp(m, d, w), _maximum(u * b, abs(d) + e)
    return p - rate * m / u, m, u


@chunked
def adamax(
    params: i8,
    m: i8,
    u: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    maximize: dim,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """m = lerp(m, g, 1 - beta1); u = max(beta2 u, |g| + eps); p -= table0 m / u."""
    scale, decay = T(-grad_scale if maximize else grad_scale), T(weight_decay)
    w, b, e = T(1.0 - beta1), T(beta2), T(eps)
    unit = cuda.blockIdx.x
    while unit < units:
        k, o = chunk_tensor[unit], chunk_start[unit]
        n, c = min(CHUNK, sizes[k] - o), (scale, decay, w, b, e, T(table[k]))
        _adamax(at(params[k], o, T), at(m[k], o, T), at(u[k], o, T), at(grads[k], o, T), n, c)
        unit += cuda.gridDim.x


@over3
@jit
def _nadam(p, m, v, g, c):
    scale, decay, keep, w1, b2, w2, e, correction, now, ahead = c
    d = _gradient(g, p, scale, decay)
    m, v = _lerp(m, d, w1), v * b2 + w2 * d * d
    q = math.sqrt(v / correction) + e
    return p * keep - now * d / q - ahead * m / q, m, v


@chunked
def nadam(
    params: i8,
    m: i8,
    v: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    decoupled: dim,
    maximize: dim,
    lr: f8s,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """m, v as in adam; q = sqrt(v / table0) + eps; p -= table1 g / q; p -= table2 m / q."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, keep = T(0.0 if decoupled else weight_decay), T(1.0 - lr * weight_decay if decoupled else 1.0)
    w1, b2, w2, e = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        correction, now, ahead = T(table[3 * k]), T(table[3 * k + 1]), T(table[3 * k + 2])
        n, c = min(CHUNK, sizes[k] - o), (scale, decay, keep, w1, b2, w2, e, correction, now, ahead)
        _nadam(at(params[k], o, T), at(m[k], o, T), at(v[k], o, T), at(grads[k], o, T), n, c)
        u += cuda.gridDim.x


@over3
@jit
def _radam(p, m, v, g, c):
    scale, decay, keep, w1, b2, w2, e, rate, correction, root, rectify = c
    d = _gradient(g, p, scale, decay)
    m, v = _lerp(m, d, w1), v * b2 + w2 * d * d
    x = m / correction * rate
    if rectify != type(p)(0):
        x = x * (root / (math.sqrt(v) + e)) * rectify
    return p * keep - x, m, v


@chunked
def radam(
    params: i8,
    m: i8,
    v: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    decoupled: dim,
    maximize: dim,
    lr: f8s,
    beta1: f8s,
    beta2: f8s,
    eps: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """m, v as in adam; p -= lr m / table0 * (table1 / (sqrt(v) + eps) * table2, or 1 if table2 is 0)."""
    scale = T(-grad_scale if maximize else grad_scale)
    decay, keep = T(0.0 if decoupled else weight_decay), T(1.0 - lr * weight_decay if decoupled else 1.0)
    w1, b2, w2, e, rate = T(1.0 - beta1), T(beta2), T(1.0 - beta2), T(eps), T(lr)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        correction, root, rectify = T(table[3 * k]), T(table[3 * k + 1]), T(table[3 * k + 2])
        n, c = min(CHUNK, sizes[k] - o), (scale, decay, keep, w1, b2, w2, e, rate, correction, root, rectify)
        _radam(at(params[k], o, T), at(m[k], o, T), at(v[k], o, T), at(grads[k], o, T), n, c)
        u += cuda.gridDim.x


@over2
@jit
def _asgd(p, a, g, c):
    scale, decay, rate, keep, mu = c
    p = p * keep - rate * _gradient(g, p, scale, decay)
    return p, a + (p - a) * mu if mu != type(p)(1) else p


@chunked
def asgd(
    params: i8,
    averages: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    table: f8,
    maximize: dim,
    lambd: f8s,
    weight_decay: f8s,
    grad_scale: f8s,
    units,
):
    """p = (1 - lambd eta) p - eta g; average += mu (p - average); table: eta, mu."""
    scale, decay = T(-grad_scale if maximize else grad_scale), T(weight_decay)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        c = scale, decay, T(table[2 * k]), T(1.0 - lambd * table[2 * k]), T(table[2 * k + 1])
        _asgd(at(params[k], o, T), at(averages[k], o, T), at(grads[k], o, T), min(CHUNK, sizes[k] - o), c)
        u += cuda.gridDim.x


@over3
@jit
def _rprop(p, last, step, g, c):
    scale, less, more, low, high = c
    zero, one = type(p)(0), type(p)(1)
    d = g * scale
    product = d * last
    step = step * (more if product > zero else (less if product < zero else one))
    step = low if step < low else step
    step = high if step > high else step
    d = zero if product < zero else d
    return p - (step if d > zero else (-step if d < zero else zero)), d, step


@chunked
def rprop(
    params: i8,
    last: i8,
    steps: i8,
    grads: i8,
    chunk_tensor: i8,
    chunk_start: i8,
    sizes: i8,
    maximize: dim,
    eta_minus: f8s,
    eta_plus: f8s,
    step_min: f8s,
    step_max: f8s,
    grad_scale: f8s,
    units,
):
    """step *= eta_plus where g keeps its sign, eta_minus where it flips (then g = 0); p -= sign(g) step."""
    c = T(-grad_scale if maximize else grad_scale), T(eta_minus), T(eta_plus), T(step_min), T(step_max)
    u = cuda.blockIdx.x
    while u < units:
        k, o = chunk_tensor[u], chunk_start[u]
        n = min(CHUNK, sizes[k] - o)
        _rprop(at(params[k], o, T), at(last[k], o, T), at(steps[k], o, T), at(grads[k], o, T), n, c)
        u += cuda.gridDim.x
