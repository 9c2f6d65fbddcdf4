"""Elementwise losses on a GPU: the loss and its gradient in one pass, and a loss-only twin of each.

DESIGN
a. A unit is a block of BLOCK elements here too: a block of threads takes it, two times four elements a thread at once
   (all are loaded before any is stored), and adds up part[unit] in float64, always in the same order. Memory sees x
   and t once, dx once, and 8 bytes of part for 4,096 elements.
b. One table of formulas, as on the CPU; they are its formulas, with the device's elementary functions.
"""

import math

import numpy as np
from numba import cuda

from .contract import T, dim, errors, f8, i8, jit, kernel, scalar
from .losses_parts import INPUT, TARGET, exp, four, log, log1p_unit, put, sign
from .parts import aligned, block_sum, counter_swap

BLOCK = 4096  # elements a unit, as on the CPU


@jit
def _add(total, i, n, v):
    """total + v[0] + ... + v[3], less what is beyond n."""
    a, b, c, d = v
    total += a
    total += b if i + 1 < n else 0.0
    total += c if i + 2 < n else 0.0
    return total + (d if i + 3 < n else 0.0)


@jit
def _times(v, w):
    return v[0] * w[0], v[1] * w[1], v[2] * w[2], v[3] * w[3]


@jit
def _scaled(v, a):
    return v[0] * a, v[1] * a, v[2] * a, v[3] * a


def _elementwise(name, function):
    """Kernels ``name`` and ``name_loss`` from ``function(x, t, c) -> loss, d loss / d x`` of one element."""
    f = jit(function)

    @jit
    def with_slope(total, loss, dx, x, t, w, i, n, full, each, has_weight, c, scale):
        """Four elements: their losses and slopes; the sum so far."""
        if i >= n:
            return total
        y0, g0 = f(x[0], t[0], c)
        y1, g1 = f(x[1], t[1], c)
        y2, g2 = f(x[2], t[2], c)
        y3, g3 = f(x[3], t[3], c)
        y, g = (y0, y1, y2, y3), (g0, g1, g2, g3)
        if has_weight:
            weight = four(w, 0, i, n, full, c)
            y, g = _times(y, weight), _times(g, weight)
        put(dx, 0, i, n, full, _scaled(g, scale))
        if each:
            put(loss, 0, i, n, full, y)
            return total
        return _add(total, i, n, y)

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
        c: scalar,
        scale: scalar,
        units,
    ):
        whole, one, step = aligned(dx) and aligned(x) and aligned(t), T(1), 4 * cuda.blockDim.x
        whole = whole and (each == 0 or aligned(loss)) and (has_weight == 0 or aligned(w))
        block = cuda.blockIdx.x
        while block < units:
            total, i = np.float64(0), block * BLOCK + 4 * cuda.threadIdx.x
            end = min(block * BLOCK + BLOCK, n)
            while i < end:
                j = i + step  # within the block too, if within n
                full, more = whole and i + 3 < n, whole and j + 3 < n
                v, s = four(x, 0, i, n, full, one), four(t, 0, i, n, full, one)
                p, r = four(x, 0, j, n, more, one), four(t, 0, j, n, more, one)
                total = with_slope(total, loss, dx, v, s, w, i, n, full, each, has_weight, c, scale)
                total = with_slope(total, loss, dx, p, r, w, j, n, more, each, has_weight, c, scale)
                i = j + step
            if not each:
                total = block_sum(total)
                if cuda.threadIdx.x == 0:
                    part[block] = total
            block += cuda.gridDim.x

    @jit
    def alone(total, loss, x, t, w, i, n, full, each, has_weight, c):
        if i >= n:
            return total
        y = f(x[0], t[0], c)[0], f(x[1], t[1], c)[0], f(x[2], t[2], c)[0], f(x[3], t[3], c)[0]
        if has_weight:
            y = _times(y, four(w, 0, i, n, full, c))
        if each:
            put(loss, 0, i, n, full, y)
            return total
        return _add(total, i, n, y)

    def loss_only(part: f8, loss: T, x: T, t: T, w: T, n: dim, each: dim, has_weight: dim, c: scalar, units):
        whole, one, step = aligned(x) and aligned(t), T(1), 4 * cuda.blockDim.x
        whole = whole and (each == 0 or aligned(loss)) and (has_weight == 0 or aligned(w))
        block = cuda.blockIdx.x
        while block < units:
            total, i = np.float64(0), block * BLOCK + 4 * cuda.threadIdx.x
            end = min(block * BLOCK + BLOCK, n)
            while i < end:
                j = i + step
                full, more = whole and i + 3 < n, whole and j + 3 < n
                v, s = four(x, 0, i, n, full, one), four(t, 0, i, n, full, one)
                p, r = four(x, 0, j, n, more, one), four(t, 0, j, n, more, one)
                total = alone(total, loss, v, s, w, i, n, full, each, has_weight, c)
                total = alone(total, loss, p, r, w, j, n, more, each, has_weight, c)
                i = j + step
            if not each:
                total = block_sum(total)
                if cuda.threadIdx.x == 0:
                    part[block] = total
            block += cuda.gridDim.x

    fused.__doc__ = f"{function.__doc__} Unit: block of BLOCK elements."
    loss_only.__doc__ = f"The loss of {name}. Unit: block of BLOCK elements."
    kernel(fused, name=name, per=1)
    kernel(loss_only, name=f"{name}_loss", per=1)


def _mse(x, t, c):
    """loss = (x - t)^2; dx = 2 (x - t)."""
    d = x - t
    return d * d, d + d


def _l1(x, t, c):
    """loss = |x - t|; dx = sign(x - t)."""
    return abs(x - t), sign(x - t)


def _smooth_l1(x, t, c):
    """loss = d^2 / (2 beta) where d = |x - t| < beta, else d - beta/2; beta = 0 is l1."""
    d, half = x - t, type(x)(0.5)
    z = abs(d)
    if z >= c:
        return z - half * c, sign(d)
    q = d / c
    return half * d * q, q


def _huber(x, t, c):
    """loss = d^2 / 2 where d = |x - t| <= delta, else delta (d - delta/2)."""
    d, half = x - t, type(x)(0.5)
    z = abs(d)
    far = z > c
    return c * (z - half * c) if far else half * d * d, c * sign(d) if far else d


def _bce(x, t, c):
    """loss = -t log x - (1 - t) log(1 - x), logs clamped at -100; dx = (x - t) / max(x (1 - x), 1e-12)."""
    one, least, tiny = type(x)(1), type(x)(-100), type(x)(1e-12)
    yes, no, v = log(x), type(x)(math.log1p(-x)), (one - x) * x
    yes = least if yes < least else yes
    no = least if no < least else no
    return (t - one) * no - t * yes, (x - t) / (tiny if v < tiny else v)


def _kl(x, t, c):
    """loss = t (log t - x), 0 where t = 0, even at x = -inf; dx = -t."""
    zero = type(x)(0)
    return (x if x != x else zero) if t == zero else t * (log(t) - x), -t


def _kl_log(x, t, c):
    """loss = e^t (t - x), 0 where e^t = 0; dx = -e^t."""
    e, zero = exp(t), type(x)(0)
    return (x if x != x else zero) if e == zero else e * (t - x), -e


@jit
def _stirling(t):
    """log t! = t log t - t + log(2 pi t) / 2, about; 0 for t <= 1, as in PyTorch."""
    one = type(t)(1)
    return type(t)(0) if t <= one else (t + type(t)(0.5)) * log(t) - t + type(t)(0.9189385332046727)


def _poisson_log(x, t, c):
    """loss = e^x - t x; dx = e^x - t."""
    e = exp(x)
    return e - t * x, e - t


def _poisson(x, t, c):
    """loss = x - t log(x + eps); dx = 1 - t / (x + eps)."""
    m = x + c
    return x - t * log(m), type(x)(1) - t / m


def _poisson_log_full(x, t, c):
    """loss = e^x - t x + log t!, by Stirling; dx = e^x - t."""
    e = exp(x)
    return e - t * x + _stirling(t), e - t


def _poisson_full(x, t, c):
    """loss = x - t log(x + eps) + log t!, by Stirling; dx = 1 - t / (x + eps)."""
    m = x + c
    return x - t * log(m) + _stirling(t), type(x)(1) - t / m


def _hinge_embedding(x, t, c):
    """loss = x where t = 1, max(0, margin - x) where t = -1, their sum elsewhere, as in PyTorch."""
    zero, one = type(x)(0), type(x)(1)
    a, near, far = c - x, t != -one, t != one
    y, slope = (zero if a < zero else a) if far else zero, one if far and a >= zero else zero
    return (x if near else zero) + y, (one if near else zero) - slope


def _soft_margin(x, t, c):
    """loss = log(1 + e^(-t x)); dx = -t sigmoid(-t x)."""
    zero, one, z = type(x)(0), type(x)(1), t * x
    e = exp(-abs(z))
    s = one / (one + e)
    return (zero if z >= zero else -z) + log1p_unit(e), -t * (e * s if z >= zero else s)


def _margin_ranking(x, t, c):
    """loss = max(0, margin - t x), x the difference of two scores; dx = -t where margin >= t x."""
    zero, a = type(x)(0), c - t * x
    return zero if a < zero else a, -t * (type(x)(1) if a >= zero else zero)


for _name, _function in (
    ("mse", _mse),
    ("l1", _l1),
    ("smooth_l1", _smooth_l1),
    ("huber", _huber),
    ("bce", _bce),
    ("kl", _kl),
    ("kl_log", _kl_log),
    ("poisson", _poisson),
    ("poisson_full", _poisson_full),
    ("poisson_log", _poisson_log),
    ("poisson_log_full", _poisson_log_full),
    ("hinge_embedding", _hinge_embedding),
    ("soft_margin", _soft_margin),
    ("margin_ranking", _margin_ranking),
):
    _elementwise(_name, _function)


@jit
def _outside(x):
    return not (x >= type(x)(0) and x <= type(x)(1))


@kernel(blocks=lambda units, dims: -(-dims[0] // BLOCK))
def bce_check(bad: i8, x: T, t: T, n: dim, errors: errors, units):
    """Complain of an element of x or t outside [0, 1] or nan; ``bad`` stays as it is. One unit, of all blocks."""
    for i in range(cuda.grid(1), n, cuda.gridsize(1)):
        if _outside(x[i]) or _outside(t[i]):
            wrong = INPUT if _outside(x[i]) else TARGET
            if errors[0] == 0 and counter_swap(errors, 0, 0, wrong) == 0:
                errors[1] = i


# --- binary cross-entropy with logits ---------------------------------------------------------------------------------


@jit
def _bce_logits(x, t, q):
    """(q t) softplus(-x) + (1 - t) softplus(x) and its derivative, from one exp; kinder than PyTorch, see the CPU's."""
    zero, one = type(x)(0), type(x)(1)
    size, negative = abs(x), x < zero
    e = exp(-size)
    a, b = one - t, q * t
    wrong, right = (b, a) if negative else (a, b)  # weights of the side that costs |x| more, and of the other
    distance = zero if wrong == zero else wrong * size
    slope = (wrong - right * e) * (one / (one + e))
    return (a + b) * log1p_unit(e) + distance, -slope if negative else slope


@jit
def _bce_slope(total, loss, dx, x, t, w, q, i, n, full, each, has_weight, has_pos_weight, scale):
    """Four elements: their losses and slopes; the sum so far."""
    if i >= n:
        return total
    one = type(scale)(1)
    q0, q1, q2, q3 = four(q, 0, i, n, full, one) if has_pos_weight else (one, one, one, one)
    y0, g0 = _bce_logits(x[0], t[0], q0)
    y1, g1 = _bce_logits(x[1], t[1], q1)
    y2, g2 = _bce_logits(x[2], t[2], q2)
    y3, g3 = _bce_logits(x[3], t[3], q3)
    y, g = (y0, y1, y2, y3), (g0, g1, g2, g3)
    if has_weight:
        weight = four(w, 0, i, n, full, one)
        y, g = _times(y, weight), _times(g, weight)
    put(dx, 0, i, n, full, _scaled(g, scale))
    if each:
        put(loss, 0, i, n, full, y)
        return total
    return _add(total, i, n, y)


@jit
def _bce_alone(total, loss, x, t, w, q, i, n, full, each, has_weight, has_pos_weight):
    if i >= n:
        return total
    one = type(x[0])(1)
    q0, q1, q2, q3 = four(q, 0, i, n, full, one) if has_pos_weight else (one, one, one, one)
    y0, y1 = _bce_logits(x[0], t[0], q0)[0], _bce_logits(x[1], t[1], q1)[0]
    y2, y3 = _bce_logits(x[2], t[2], q2)[0], _bce_logits(x[3], t[3], q3)[0]
    y = (y0, y1, y2, y3)
    if has_weight:
        y = _times(y, four(w, 0, i, n, full, one))
    if each:
        put(loss, 0, i, n, full, y)
        return total
    return _add(total, i, n, y)


@kernel(per=1)
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
    units,
):
    """loss = w (q t softplus(-x) + (1 - t) softplus(x)); dx its derivative. Unit: block of BLOCK elements."""
    whole, one = aligned(dx) and aligned(x) and aligned(t) and (each == 0 or aligned(loss)), T(1)
    whole = whole and (has_weight == 0 or aligned(w)) and (has_pos_weight == 0 or aligned(q))
    step, block = 4 * cuda.blockDim.x, cuda.blockIdx.x
    while block < units:
        total, i = np.float64(0), block * BLOCK + 4 * cuda.threadIdx.x
        end = min(block * BLOCK + BLOCK, n)
        while i < end:
            j = i + step
            full, more = whole and i + 3 < n, whole and j + 3 < n
            v, s = four(x, 0, i, n, full, one), four(t, 0, i, n, full, one)
            p, r = four(x, 0, j, n, more, one), four(t, 0, j, n, more, one)
            total = _bce_slope(total, loss, dx, v, s, w, q, i, n, full, each, has_weight, has_pos_weight, scale)
            total = _bce_slope(total, loss, dx, p, r, w, q, j, n, more, each, has_weight, has_pos_weight, scale)
            i = j + step
        if not each:
            total = block_sum(total)
            if cuda.threadIdx.x == 0:
                part[block] = total
        block += cuda.gridDim.x


@kernel(per=1)
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
    units,
):
    """The loss of bce_logits. Unit: block of BLOCK elements."""
    whole, one = aligned(x) and aligned(t) and (each == 0 or aligned(loss)), T(1)
    whole = whole and (has_weight == 0 or aligned(w)) and (has_pos_weight == 0 or aligned(q))
    step, block = 4 * cuda.blockDim.x, cuda.blockIdx.x
    while block < units:
        total, i = np.float64(0), block * BLOCK + 4 * cuda.threadIdx.x
        end = min(block * BLOCK + BLOCK, n)
        while i < end:
            j = i + step
            full, more = whole and i + 3 < n, whole and j + 3 < n
            v, s = four(x, 0, i, n, full, one), four(t, 0, i, n, full, one)
            p, r = four(x, 0, j, n, more, one), four(t, 0, j, n, more, one)
            total = _bce_alone(total, loss, v, s, w, q, i, n, full, each, has_weight, has_pos_weight)
            total = _bce_alone(total, loss, p, r, w, q, j, n, more, each, has_weight, has_pos_weight)
            i = j + step
        if not each:
            total = block_sum(total)
            if cuda.threadIdx.x == 0:
                part[block] = total
        block += cuda.gridDim.x


# --- Gaussian negative log-likelihood ---------------------------------------------------------------------------------


@jit
def _gaussian_nll(x, t, v, eps, constant):
    """(log v + (x - t)^2 / v) / 2 + constant, v at least eps, and its derivatives by x and by v."""
    half = type(x)(0.5)
    v = eps if v < eps else v
    d = x - t
    q = d / v
    return half * (log(v) + d * q) + constant, q, half * (type(x)(1) - d * q) / v


@kernel(per=1)
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
    constant: scalar,
    scale: scalar,
    units,
):
    """loss = (log v + (x - t)^2 / v) / 2 + constant, v = max(v, eps); dx = (x - t) / v. Unit: block of elements."""
    for block in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        total, first = np.float64(0), block * BLOCK
        for i in range(first + cuda.threadIdx.x, min(first + BLOCK, n), cuda.blockDim.x):
            y, g, h = _gaussian_nll(x[i], t[i], v[i], eps, constant)
            dx[i] = scale * g
            if has_dv:
                dv[i] = scale * h
            if each:
                loss[i] = y
            total += y
        if not each:
            total = block_sum(total)
            if cuda.threadIdx.x == 0:
                part[block] = total


@kernel(per=1)
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
    units,
):
    """The loss of gaussian_nll. Unit: block of BLOCK elements."""
    for block in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        total, first = np.float64(0), block * BLOCK
        for i in range(first + cuda.threadIdx.x, min(first + BLOCK, n), cuda.blockDim.x):
            y = _gaussian_nll(x[i], t[i], v[i], eps, constant)[0]
            if each:
                loss[i] = y
            total += y
        if not each:
            total = block_sum(total)
            if cuda.threadIdx.x == 0:
                part[block] = total
