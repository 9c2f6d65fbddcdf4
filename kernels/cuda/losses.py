"""Losses of classes on a GPU: cross-entropy and negative log-likelihood, a row the work of a warp or of a block.

DESIGN
a. cross_entropy: memory sees each logit once and its gradient once, 8 bytes of float32, and 12 bytes a row beside. A
   thread keeps what it has of a row, up to 32 numbers, in registers: all loads are under way at once, and each number
   has one exponential, relative to the largest of its thread until that of the row is known. Up to 1,024 numbers a row
   is a warp's, then two warps', ..., up to 16,384 a block's (twice as many would spill on an A100). Rows that are
   longer, not aligned or smoothed, and those of float64, are summed as they pass (online softmax) and read again for
   the gradient: out of the L2, if they fit.
b. Exponentials are of x less the largest number so far, so that nothing overflows; sums are float32 a thread, float64
   over threads.
c. The scalars of cross_entropy and nll depend on labels: they are read from memory, where label_stats has put them. A
   label out of range is noted in ``errors`` by label_stats; the host never waits for it.
"""

import numpy as np
from numba import cuda

from .contract import FLOATS, T, U, device_scalars, dim, errors, f8, f8s, i8, jit, kernel, scalar
from .losses_parts import (
    LABEL,
    THREADS,
    WARP_ROW,
    blocks_of_rows,
    counted,
    crew,
    exp,
    four,
    inf,
    label,
    log,
    nan,
    put,
    row_max,
    row_sum,
    single,
)
from .parts import after, aligned, block_min, block_sum, load4, store4, warp_max, warp_sum

HELD = 8  # times four numbers of a row that a thread keeps in registers

# --- cross-entropy with labels ----------------------------------------------------------------------------------------


@jit
def _largest(v):
    a, b, c, d = v
    a, c = (b if b > a else a), (d if d > c else c)  # a nan may lose here: exp(nan - m) is nan all the same
    return c if c > a else a


@jit
def _larger(a, b):
    return b if b > a else a


@jit
def _exp(v, m):
    """e**(v - m); beyond the row v is -inf."""
    return exp(v[0] - m), exp(v[1] - m), exp(v[2] - m), exp(v[3] - m)


@jit
def _sum(v):
    return (v[0] + v[1]) + (v[2] + v[3])


@jit
def _online(x, n, step, full, low):
    """The largest of what a thread has of a row, every step-th vector of x[:n], and the sum of e**(x - largest)."""
    m, s, zero, j, some = low, type(low)(0), type(low)(0), np.int64(0), single(low)
    while j < n:  # four vectors; of float64, whose arithmetic takes more registers, one
        v0, v1 = four(x, 0, j, n, full, low), four(x, 0, j + step if some else n, n, full, low)
        v2 = four(x, 0, j + 2 * step if some else n, n, full, low)
        v3 = four(x, 0, j + 3 * step if some else n, n, full, low)
        top = _larger(_larger(_largest(v0), _largest(v1)), _larger(_largest(v2), _largest(v3)))
        if top > m:
            s, m = s * exp(m - top), top
        base = m if m > low else zero  # nothing but -inf so far: each e**-inf is 0
        s += _sum(_exp(v0, base)) + _sum(_exp(v1, base))
        s += _sum(_exp(v2, base)) + _sum(_exp(v3, base))
        j += 4 * step if some else step
    return m, s


@jit
def _smooth_sums(x, o, rank, n, size, m, weight, has_weight):
    """Sums of w and of w (x - m) over what a thread has of a row, each w 1 without weight."""
    total, spread = np.float64(0), np.float64(0)
    for j in range(rank, n, size):
        w = weight[j] if has_weight else type(m)(1)
        total += w
        spread += w * (x[o + j] - m)
    return total, spread


@jit
def _label_loss(x, n, m, total, w, smoothing, all_weight, spread):
    """x: the label's; m: the largest, total: the sum of e**(x - m)."""
    lse = log(total)
    loss = w * (lse - (x - m))
    if smoothing == type(m)(0):
        return loss
    smooth = type(m)(all_weight * np.float64(lse) - spread)
    return (type(m)(1) - smoothing) * loss + smoothing / type(m)(n) * smooth


def _warps(n, most):
    """How many warps share a row of n numbers: so that each thread may hold what it has of it."""
    warps = 1
    while warps < most and HELD * 128 * warps < n:
        warps *= 2
    return warps


warps_of = jit(_warps)


def _fused_grid(units, dims):
    return -(-units // (THREADS // 32 // _warps(dims[0], THREADS // 32)))


@jit
def _statistics(m, s, warps, low, tops, sums):
    """The largest of a row and its sum of e**(x - largest), from those of its threads; of a warp's, nobody waits."""
    zero = type(low)(0)
    top = warp_max(m)
    base = top if top > low else zero
    total = warp_sum(np.float64(s * exp(m - base) if m > low or s != zero else zero))
    if warps == 1:
        return top, total
    lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
    if lane == 0:
        tops[warp], sums[warp] = top, total
    cuda.syncthreads()
    there = (warp & ~(warps - 1)) + lane
    one, part = low, np.float64(0)
    if lane < warps:
        one, part = type(low)(tops[there]), sums[there]
    cuda.syncthreads()  # before the next row's are written
    top = warp_max(one)
    base = top if top > low else zero
    return top, warp_sum(part * np.float64(exp(one - base)) if one > low or part != 0 else np.float64(0))


@jit
def _added(v, warps, sums):
    """The sum of v over the threads of a row."""
    v = warp_sum(v)
    if warps == 1:
        return v
    lane, warp = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
    if lane == 0:
        sums[warp] = v
    cuda.syncthreads()
    v = sums[(warp & ~(warps - 1)) + lane] if lane < warps else np.float64(0)
    cuda.syncthreads()
    return warp_sum(v)


@jit
def _take16(x, n, step, low):
    """Four vectors ``step`` apart, -inf beyond the row; pointers go along, since offsets would take registers."""
    a = b = c = d = (low, low, low, low)
    if n > 0:
        a = load4(x, 0)
    if n > step:
        x = after(x, step)
        b = load4(x, 0)
    if n > 2 * step:
        x = after(x, step)
        c = load4(x, 0)
    if n > 3 * step:
        d = load4(x, step)
    return a, b, c, d


@jit
def _give4(y, e, a):
    store4(y, 0, e[0] * a, e[1] * a, e[2] * a, e[3] * a)


@jit
def _give16(y, n, step, v, a):
    if n > 0:
        _give4(y, v[0], a)
    if n > step:
        y = after(y, step)
        _give4(y, v[1], a)
    if n > 2 * step:
        y = after(y, step)
        _give4(y, v[2], a)
    if n > 3 * step:
        y = after(y, step)
        _give4(y, v[3], a)


@jit
def _largest16(v):
    return _larger(_larger(_largest(v[0]), _largest(v[1])), _larger(_largest(v[2]), _largest(v[3])))


@jit
def _exp16(v, m):
    return _exp(v[0], m), _exp(v[1], m), _exp(v[2], m), _exp(v[3], m)


@jit
def _sum16(v):
    return (_sum(v[0]) + _sum(v[1])) + (_sum(v[2]) + _sum(v[3]))


@jit
def _held(loss, dx, x, weight, row, t, n, there, has_weight, scale, rank, warps, low, tops, sums):
    """The fused loss of a row whose numbers its threads keep: each is read once, and has one exponential."""
    zero, step = type(low)(0), 128 * warps
    o = row * n if there else np.int64(0)
    before = 4 * rank
    own = n - before if there else np.int64(0)
    p, q = after(x, o + min(before, n)), after(dx, o + min(before, n))
    v = _take16(p, own, step, low)
    m, some = _largest16(v), n > 4 * step
    w = v
    if some:
        w = _take16(after(p, min(4 * step, own)), own - 4 * step, step, low)
        m = _larger(m, _largest16(w))
    base = m if m > low else zero  # nothing but -inf: each e**-inf is 0
    v = _exp16(v, base)
    s = _sum16(v)
    if some:
        w = _exp16(w, base)
        s += _sum16(w)
    top, total = _statistics(m, s, warps, low, tops, sums)
    label, b, a, hit = zero, zero, zero, zero
    if t >= 0:
        label, b = x[o + t], weight[t] if has_weight else type(low)(1)
        hit = scale * b
        a = hit / type(low)(total)
        if rank == 0:
            loss[row] = b * (log(type(low)(total)) - (label - top))
        b = exp(m - top) * a
        _give16(q, own, step, v, b)
        if some:
            _give16(after(q, min(4 * step, own)), own - 4 * step, step, w, b)
        if (t >> 2) & (32 * warps - 1) == rank:  # who has just written it
            dx[o + t] = exp(label - top) * a - hit
    elif there:
        if rank == 0:
            loss[row] = zero
        j = np.int64(0)
        while j < own:
            store4(q, j, zero, zero, zero, zero)
            j += step


@jit
def _slopes(e, j, before, n, a, each, weight, has_weight):
    """e a, less ``each`` w; j and n count from where the thread begins: ``before``."""
    e0, e1, e2, e3 = e[0] * a, e[1] * a, e[2] * a, e[3] * a
    if each != type(a)(0):
        one = type(a)(1)
        w0, w1, w2, w3 = four(weight, before, j, n, False, one) if has_weight else (one, one, one, one)
        e0, e1, e2, e3 = e0 - each * w0, e1 - each * w1, e2 - each * w2, e3 - each * w3
    return e0, e1, e2, e3


@jit
def _read_twice(
    loss, dx, x, weight, row, t, n, there, has_weight, smoothing, scale, full, rank, warps, low, tops, sums
):
    """The fused loss of any row: it is read again for the gradient."""
    zero, one, step = type(low)(0), type(low)(1), 128 * warps
    o = row * n if there else np.int64(0)
    before = 4 * rank
    own = n - before if there else np.int64(0)
    p, q = after(x, o + min(before, n)), after(dx, o + min(before, n))
    m, s = _online(p, own, step, full, low)
    top, total = _statistics(m, s, warps, low, tops, sums)
    all_weight, spread = np.float64(0), np.float64(0)
    if smoothing != zero:
        all_weight, spread = _smooth_sums(x, o, rank, n if there else 0, 32 * warps, top, weight, has_weight)
        all_weight, spread = _added(all_weight, warps, sums), _added(spread, warps, sums)
    label, w = zero, zero
    if t >= 0:
        label, w = x[o + t], weight[t] if has_weight else one
    hit = scale * (one - smoothing) * w
    each = scale * smoothing / type(low)(n) if smoothing != zero else zero
    a = (hit + each * type(low)(all_weight)) / type(low)(total)
    j = np.int64(0)
    while j < own:
        if t < 0:
            put(q, 0, j, own, full, (zero, zero, zero, zero))
        else:
            e = _exp(four(p, 0, j, own, full, low), top)
            put(q, 0, j, own, full, _slopes(e, j, before, own, a, each, weight, has_weight))
        j += step
    if t >= 0 and (t >> 2) & (32 * warps - 1) == rank:  # who has just written it
        dx[o + t] = (exp(label - top) * a - each * (w if has_weight else one)) - hit
    if rank == 0 and there:
        loss[row] = zero
        if t >= 0:
            loss[row] = _label_loss(label, n, top, type(low)(total), w, smoothing, all_weight, spread)


@kernel(block=THREADS, blocks=_fused_grid)
def cross_entropy(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    x: T,  # (N, C) logits
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    scalars: device_scalars,  # smoothing, scale
    units,
):
    """loss = w_t (lse(x) - x_t), t the row's label, w_t its weight; dx = scale w_t (softmax(x) - onehot(t)). Unit: row.

    With smoothing s: loss = (1 - s) w_t (lse - x_t) + s/C sum_c w_c (lse - x_c). An ignored row has loss and dx 0.
    """
    n, smoothing, scale, low = n_classes, T(scalars[0]), T(scalars[1]), T(-inf)
    tops = cuda.shared.array(32, np.float64)
    sums = cuda.shared.array(32, np.float64)  # on a line of its own: that is how the simulator knows which it is
    full = n % 4 == 0 and aligned(x) and aligned(dx)
    warps = warps_of(n, cuda.blockDim.x // 32)
    lanes = 32 * warps
    rank, slot, side = cuda.threadIdx.x & (lanes - 1), cuda.threadIdx.x // lanes, cuda.blockDim.x // lanes
    held = single(low) and full and smoothing == T(0) and n <= HELD * 4 * lanes
    first = cuda.blockIdx.x * side
    if held:
        while first < units:  # all threads of the block, for they wait for each other
            row, t = first + slot, np.int64(-1)
            if row < units:
                t = counted(target[row], n, ignore_index)
            _held(loss, dx, x, weight, row, t, n, row < units, has_weight, scale, rank, warps, low, tops, sums)
            first += cuda.gridDim.x * side
        return
    while first < units:
        row, t = first + slot, np.int64(-1)
        if row < units:
            t = counted(target[row], n, ignore_index)
        _read_twice(
            loss,
            dx,
            x,
            weight,
            row,
            t,
            n,
            row < units,
            has_weight,
            smoothing,
            scale,
            full,
            rank,
            warps,
            low,
            tops,
            sums,
        )
        first += cuda.gridDim.x * side


@kernel(block=THREADS, blocks=blocks_of_rows)
def cross_entropy_loss(
    loss: T,  # (N,)
    x: T,  # (N, C) logits
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    scalars: device_scalars,  # smoothing
    units,
):
    """The loss of cross_entropy. Unit: row."""
    n, wide, low = n_classes, n_classes > WARP_ROW, T(-inf)
    rank, size, first, rows = crew(wide)
    smoothing = T(scalars[0])
    full = n % 4 == 0 and aligned(x)
    for row in range(first, units, rows):
        o, t = row * n, label(target, row, n, ignore_index)
        if t < 0:
            if rank == 0:
                loss[row] = T(0)
            continue
        own = n - 4 * rank
        top, s = _online(after(x, o + min(4 * rank, n)), own, 4 * size, full, low)
        m = row_max(top, wide)
        total = T(row_sum(np.float64(s * exp(top - m) if own > 0 else T(0)), wide))
        all_weight, spread = np.float64(0), np.float64(0)
        if smoothing != T(0):
            all_weight, spread = _smooth_sums(x, o, rank, n, size, m, weight, has_weight)
            all_weight, spread = row_sum(all_weight, wide), row_sum(spread, wide)
        if rank == 0:
            w = weight[t] if has_weight else T(1)
            loss[row] = _label_loss(x[o + t], n, m, total, w, smoothing, all_weight, spread)


@jit
def _look(t, i, n, ignore_index, weight, has_weight, count, total, wrong):
    """Count label i; what the others came to, and this one."""
    if t == ignore_index:
        return count, total, wrong
    if t < 0 or t >= n:
        return count + 1, total, min(wrong, i)
    return count + 1, total + weight[t] if has_weight else total, wrong


@jit
def _look_at_four(v, i, n, ignore_index, weight, has_weight, count, total, wrong):
    count, total, wrong = _look(v[0], i, n, ignore_index, weight, has_weight, count, total, wrong)
    count, total, wrong = _look(v[1], i + 1, n, ignore_index, weight, has_weight, count, total, wrong)
    count, total, wrong = _look(v[2], i + 2, n, ignore_index, weight, has_weight, count, total, wrong)
    return _look(v[3], i + 3, n, ignore_index, weight, has_weight, count, total, wrong)


@kernel(block=1024, per=1)
def label_stats(
    out: f8,  # (4,), see the CPU's
    bad: i8,  # (1,): first row whose label is neither in [0, C) nor ignore_index, or -1
    target: i8,  # (N,)
    weight: T,  # (C,), or NULL
    n: dim,
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    mean: dim,
    smooths: dim,
    zero: dim,
    smoothing: f8s,
    errors: errors,
    units,
):
    """What must be known of labels before a loss runs, and a complaint of the first one out of range. One unit."""
    count, total, wrong, whole, step = np.int64(0), np.float64(0), n, aligned(target), 4 * cuda.blockDim.x
    for i in range(4 * cuda.threadIdx.x, n, 2 * step):  # eight at once: one block must not wait for each
        j = i + step
        v = four(target, 0, i, n, whole and i + 3 < n, ignore_index)
        w = four(target, 0, j, n, whole and j + 3 < n, ignore_index)
        count, total, wrong = _look_at_four(v, i, n_classes, ignore_index, weight, has_weight, count, total, wrong)
        count, total, wrong = _look_at_four(w, j, n_classes, ignore_index, weight, has_weight, count, total, wrong)
    count, wrong = block_sum(count), block_min(wrong)
    total = block_sum(total) if has_weight else np.float64(count)
    if cuda.threadIdx.x == 0:
        scale = np.float64(1)
        if mean:  # all ignored: the gradients are 0
            scale = (np.float64(1) / total if total != 0 else np.float64(inf)) if count else np.float64(0)
        out[0] = np.float64(1) if zero and count == 0 else total
        out[1] = np.float64(count)
        out[2] = smoothing if smooths else scale
        out[3] = scale
        bad[0] = wrong if wrong < n else -1
        if wrong < n and errors[0] == 0:
            errors[1], errors[2], errors[3] = wrong, target[wrong], n_classes
            cuda.threadfence_system()  # the host sees a code only with the rest
            errors[0] = LABEL


@kernel(block=1024, per=1, types=(*FLOATS, ("float32", "float64")))
def total(
    y: T,  # (1,)
    x: U,  # (n,)
    divisor: f8,  # (1,), or NULL
    n: dim,
    has_divisor: dim,
    by: f8s,  # else this is the divisor
    units,
):
    """y = sum of x / divisor, nan where that is 0; added up in float64. One unit."""
    s, whole, step, zero = np.float64(0), aligned(x), 4 * cuda.blockDim.x, U(0)
    for i in range(4 * cuda.threadIdx.x, n, 2 * step):
        j = i + step
        a, b, c, d = four(x, 0, i, n, whole and i + 3 < n, zero)
        e, f, g, h = four(x, 0, j, n, whole and j + 3 < n, zero)
        s += (np.float64(a) + b) + (np.float64(c) + d)
        s += (np.float64(e) + f) + (np.float64(g) + h)
    s = block_sum(s)
    if cuda.threadIdx.x == 0:
        by = divisor[0] if has_divisor else by
        y[0] = T(s / by) if by != 0 else T(nan)


# --- negative log-likelihood of labels --------------------------------------------------------------------------------


@kernel(block=256, blocks=lambda units, dims: units if dims[0] > WARP_ROW else -(-units // 8))
def nll(
    loss: T,  # (N,)
    dx: T,  # (N, C)
    x: T,  # (N, C) log-probabilities
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    scalars: device_scalars,  # scale
    units,
):
    """loss = -w_t x_t, t the row's label; dx = -scale w_t at t, 0 elsewhere. Unit: row."""
    n, wide, scale = n_classes, n_classes > WARP_ROW, T(scalars[0])
    rank, size, first, rows = crew(wide)
    for row in range(first, units, rows):
        o, t = row * n, label(target, row, n, ignore_index)
        w = T(0) if t < 0 else weight[t] if has_weight else T(1)
        if rank == 0:
            loss[row] = -w * x[o + t] if t >= 0 else T(0)
        for j in range(rank, n, size):
            dx[o + j] = -w * scale if j == t else T(0)


@kernel
def nll_loss(
    loss: T,  # (N,)
    x: T,  # (N, C) log-probabilities
    target: i8,  # (N,) labels in [0, C), or ignore_index
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    units,
):
    """The loss of nll. Unit: row."""
    for row in range(cuda.grid(1), units, cuda.gridsize(1)):
        t = label(target, row, n_classes, ignore_index)
        w = T(0) if t < 0 else weight[t] if has_weight else T(1)
        loss[row] = -w * x[row * n_classes + t] if t >= 0 else T(0)


# --- cross-entropy with class probabilities ---------------------------------------------------------------------------


@jit
def _wanted(t, weight, j, has_weight, smoothing, each):
    """The smoothed target times the class's weight; each = smoothing / C. Without smoothing t itself, bit for bit."""
    q = t * (type(t)(1) - smoothing) + each
    return weight[j] * q if has_weight else q


@jit
def _target_sums(x, t, weight, o, rank, n, size, m, has_weight, smoothing, each, wide):
    """Sums of q and of q (x - m) over a row, q as wanted."""
    total, dot = np.float64(0), np.float64(0)
    for j in range(rank, n, size):
        q = _wanted(t[o + j], weight, j, has_weight, smoothing, each)
        total += q
        dot += q * (x[o + j] - m)
    return row_sum(total, wide), row_sum(dot, wide)


@kernel(block=THREADS, blocks=blocks_of_rows)
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
    units,
):
    """loss = -sum_c q_c log_softmax(x)_c; dx = scale (sum(q) softmax(x) - q). Unit: row.

    q = w (target (1 - smoothing) + smoothing / C); dt = -scale (1 - smoothing) w log_softmax(x).
    """
    n, wide, low = n_classes, n_classes > WARP_ROW, T(-inf)
    rank, size, first, rows = crew(wide)
    full, each = n % 4 == 0 and aligned(x), smoothing / T(n)
    for row in range(first, units, rows):
        o = row * n
        own = n - 4 * rank
        top, s = _online(after(x, o + min(4 * rank, n)), own, 4 * size, full, low)
        m = row_max(top, wide)
        s = T(row_sum(np.float64(s * exp(top - m) if own > 0 else T(0)), wide))
        lse = log(s)
        total, dot = _target_sums(x, target, weight, o, rank, n, size, m, has_weight, smoothing, each, wide)
        if rank == 0:
            loss[row] = T(total * np.float64(lse) - dot)
        a = scale * T(total) / s
        for j in range(rank, n, size):
            d = x[o + j] - m
            q = _wanted(target[o + j], weight, j, has_weight, smoothing, each)
            dx[o + j] = exp(d) * a - scale * q
            if has_dt:
                g = scale * (T(1) - smoothing) * (lse - d)
                dt[o + j] = g * weight[j] if has_weight else g


@kernel(block=THREADS, blocks=blocks_of_rows)
def cross_entropy_probs_loss(
    loss: T,  # (N,)
    x: T,  # (N, C) logits
    target: T,  # (N, C) class probabilities
    weight: T,  # (C,), or NULL
    n_classes: dim,
    has_weight: dim,
    smoothing: scalar,
    units,
):
    """The loss of cross_entropy_probs. Unit: row."""
    n, wide, low = n_classes, n_classes > WARP_ROW, T(-inf)
    rank, size, first, rows = crew(wide)
    full, each = n % 4 == 0 and aligned(x), smoothing / T(n)
    for row in range(first, units, rows):
        o = row * n
        own = n - 4 * rank
        top, s = _online(after(x, o + min(4 * rank, n)), own, 4 * size, full, low)
        m = row_max(top, wide)
        s = T(row_sum(np.float64(s * exp(top - m) if own > 0 else T(0)), wide))
        total, dot = _target_sums(x, target, weight, o, rank, n, size, m, has_weight, smoothing, each, wide)
        if rank == 0:
            loss[row] = T(total * np.float64(log(s)) - dot)
