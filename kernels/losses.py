"""Loss kernels: the loss and its gradient with respect to the input in one pass, and a loss-only twin of each.

DESIGN
a. ``name`` writes the loss and ``dx = scale * d loss / d x``: with scale = 1/N for a mean, backward has nothing left to
   do. ``name_loss`` is for no_grad. Sums over rows and blocks are the caller's: no partial depends on another.
b. cross_entropy, nll: a unit is a row, ``loss[row]`` is unscaled. Few classes: a tile of rows is taken at once, so that
   exp runs over one long vector and not over ten numbers a row. Many classes: row by row, the row stays in the cache.
c. Elementwise losses: a unit is a block of BLOCK elements; ``part[block]`` is its sum in float64, or, with ``each``,
   ``loss[i]`` every element's loss (reduction='none'). The one not asked for may be NULL. Inside a block, strips of
   STRIP elements go through a buffer on the stack, so that every loop is short, simple and vectorised.
d. Only sums are reassociated. No loop assumes finite numbers: nan and inf come out as in PyTorch, but for the kinder
   limits of bce_logits, see there. Inputs are not checked here: label_stats and bce_check look, the caller raises;
   it also refuses C = 0.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from . import math as km
from .contract import T, dim, f8, i8, jit, kernel, scalar

BLOCK = 4096  # elements a unit of the elementwise losses
STRIP = 512  # elements that pass through the stack at once; divides BLOCK
TILE = 2048  # elements a tile of rows may have
TILE_ROWS = 128  # rows a tile may have
FAR = 8 << 20  # bytes of a result that no cache will keep until it is read
FEW = 128  # up to so many classes rows are taken in tiles

_jit = jit(forceinline=True)
_jit_sum = jit(fastmath={"reassoc"}, forceinline=True)  # for the additions written in that very function
_call = jit(fastmath={"reassoc"})  # rare work, left to a call: compiling it once is enough


@intrinsic
def _ordered(typing, x):
    """The bits of x as a signed integer in the order of the floats; its own inverse (nan: beyond the infinities)."""
    integer = types.int32 if x == types.float32 else types.int64 if x == types.float64 else x
    number = {types.int32: types.float32, types.int64: types.float64}.get(x)

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], context.get_value_type(integer))
        width = bits.type.width
        flip = builder.lshr(builder.ashr(bits, bits.type(width - 1)), bits.type(1))  # all but the sign if negative
        return builder.bitcast(builder.xor(bits, flip), context.get_value_type(number or integer))

    return (number or integer)(x), generate


@intrinsic
def _larger(typing, a, b):
    """The larger of two integers, without Numba's widening to int64."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.icmp_signed(">", *arguments), *arguments)

    return (a(a, b), generate) if a == b else None


@intrinsic(prefer_literal=True)
def scratch(typing, dtype, n):
    """Room for n (a literal) numbers of T on the stack, at a multiple of 64 bytes."""
    pointer, length = types.CPointer(dtype.dtype), n.literal_value

    def generate(context, builder, signature, arguments):
        room = cgutils.alloca_once(builder, context.get_data_type(dtype.dtype), size=length)
        room.align = 64
        return room

    return pointer(dtype, n), generate


# --- large results ----------------------------------------------------------------------------------------------------


@intrinsic
def _address(typing, x):
    return types.int64(x), lambda context, builder, signature, arguments: builder.ptrtoint(arguments[0], ir.IntType(64))


@intrinsic
def _store_lines(typing, y, o, x, ox, n, scale):
    """y[o : o + n] = scale * x[ox : ox + n] past the caches, by lines of 64 bytes: y[o] begins one, n fills them."""

    def generate(context, builder, signature, arguments):
        y, o, x, ox, n, scale = arguments
        lanes = 64 // signature.args[0].dtype.bitwidth * 8
        line = ir.VectorType(scale.type, lanes)
        factor = ir.Constant(line, ir.Undefined)
        for lane in range(lanes):
            factor = builder.insert_element(factor, scale, ir.IntType(32)(lane))
        with cgutils.for_range_slice(builder, n.type(0), n, n.type(lanes), n.type) as (i, _):
            source = builder.gep(x, [builder.add(ox, i)])
            value = builder.load(builder.bitcast(source, line.as_pointer()))
            value.align = signature.args[0].dtype.bitwidth // 8
            target = builder.gep(y, [builder.add(o, i)])
            store = builder.store(builder.fmul(factor, value), builder.bitcast(target, line.as_pointer()))
            store.align = 64
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(y, o, x, ox, n, scale), generate


@intrinsic
def _fence(typing):
    """Order what was stored past the caches before what follows."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _itemsize(typing, x):
    return types.int64(x), lambda context, *_: ir.IntType(64)(x.dtype.bitwidth // 8)


@intrinsic
def _fetch(typing, x, o):
    """Bring x[o] from memory, without waiting for it."""

    def generate(context, builder, signature, arguments):
        byte = ir.IntType(8).as_pointer()
        kind, i32 = ir.FunctionType(ir.VoidType(), [byte, *[ir.IntType(32)] * 3]), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        builder.call(prefetch, [address, i32(0), i32(2), i32(1)])
        return context.get_dummy_value()

    return types.void(x, o), generate


@_jit
def _far(y, n):
    """Are n numbers more than the caches are likely to keep until they are read?"""
    return n * _itemsize(y) >= FAR


@_jit
def _hand_over(y, o, x, ox, n, scale, far):
    """y[o : o + n] = scale * x[ox : ox + n]; far: past the caches, which saves reading what is overwritten."""
    size, i = _itemsize(y), 0
    if far:
        i = min(n, -_address(y) // size - o & 64 // size - 1)
        for j in range(i):
            y[o + j] = scale * x[ox + j]
        lines = n - i & -(64 // size)
        _store_lines(y, o + i, x, ox + i, lines, scale)
        i += lines
    for j in range(i, n):
        y[o + j] = scale * x[ox + j]


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
def _exp_store_sum(e, oe, x, o, n, m, fetch):
    """e[oe:] = exp(x[o:] - m) for one row; the sum, in T over strips, in float64 over their sums.

    fetch: bring the next row from memory meanwhile.
    """
    total = 0.0
    for first in range(0, n, STRIP):
        if fetch:
            for j in range(first, min(first + STRIP, n), 64 // _itemsize(x)):
                _fetch(x, o + n + j)
        s = type(m)(0)
        for j in range(first, min(first + STRIP, n)):
            e[oe + j] = km.exp_down(x[o + j] - m)
            s += e[oe + j]
        total += np.float64(s)
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


@_jit
def _label(target, row, n, ignore_index):
    """The label of a row, or -1 if it does not count. Read once: another thread may write it meanwhile."""
    t = target[row]
    return t if (t != ignore_index) & (np.uint64(t) < np.uint64(n)) else -1


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


@_jit
def _zero(dx, o, n):
    for j in range(o, o + n):
        dx[j] = type(dx[0])(0)


@jit
def _far_rows(loss, dx, x, target, weight, n, has_weight, ignore_index, scale, lo, hi):
    """Rows lo to hi of cross_entropy, same bits, for a gradient that no cache keeps.

    Each row's exponentials stay in the cache, in the room of the last row; the gradient goes past it.
    """
    e = (hi - 1) * n
    for row in range(lo, hi):
        o, t = row * n, _label(target, row, n, ignore_index)
        if t < 0:
            loss[row] = type(scale)(0)
            _zero(dx, o, n)
            continue
        m = _max(x, o, n)
        total = _exp_store_sum(dx, e, x, o, n, m, row < hi - 1)
        w = weight[t] if has_weight else type(scale)(1)
        loss[row] = w * (km.log(total) - (x[o + t] - m))
        a = scale * w / total
        own = dx[e + t] * a - scale * w
        if row < hi - 1:
            _hand_over(dx, o, dx, e, n, a, True)
        else:
            for j in range(o, o + n):
                dx[j] = dx[j] * a
        dx[o + t] = own
    _fence()


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
    if n > FEW and smoothing == T(0) and _far(dx, (hi - lo) * n):
        _far_rows(loss, dx, x, target, weight, n, has_weight, ignore_index, scale, lo, hi)
        return
    top, total, logs = scratch(T, TILE_ROWS), scratch(T, TILE_ROWS), scratch(T, TILE_ROWS)
    step = min(TILE_ROWS, TILE // n) if n <= FEW else 1
    for first in range(lo, hi, step):
        rows, o = min(step, hi - first), first * n
        if n <= FEW:
            _exp_tile(dx, o, top, total, logs, x, o, rows, n)
        elif target[first] != ignore_index:
            top[0] = _max(x, o, n)
            total[0] = _exp_store_sum(dx, o, x, o, n, top[0], False)
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
    out: f8,  # (2,): sum of the weights of the rows that are not ignored (valid rows only), and their number
    bad: i8,  # (1,): first row whose label is neither in [0, C) nor ignore_index, or -1
    target: i8,  # (N,)
    weight: T,  # (C,), or NULL
    n: dim,
    n_classes: dim,
    has_weight: dim,
    ignore_index: dim,
    lo,
    hi,
):
    """What must be known of labels before a loss runs. One unit."""
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
    out[1] = np.float64(count)
    out[0] = np.float64(count)
    if has_weight:
        total = 0.0
        for i in range(n):
            t = target[i]
            if t != ignore_index and np.uint64(t) < size:
                total += np.float64(weight[t])
        out[0] = total


@label_stats.reference
def _(out, bad, target, weight, n, n_classes, has_weight, ignore_index):
    keep = target != ignore_index
    valid = (target >= 0) & (target < n_classes)
    wrong = np.flatnonzero(keep & ~valid)
    bad[0] = wrong[0] if len(wrong) else -1
    out[1] = keep.sum()
    out[0] = weight[target[keep & valid]].astype(float).sum() if has_weight else keep.sum()


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
        s = _exp_store_sum(dx, o, x, o, n, m, o)
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


# --- elementwise losses -----------------------------------------------------------------------------------------------


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


# --- what the references share ----------------------------------------------------------------------------------------


def _log_softmax(x):
    m = x.max(1, keepdims=True)
    return x - m - np.log(np.exp(x - m).sum(1, keepdims=True))


def _reference_put(part, loss, y, each):
    if each:
        loss[:] = y
    else:
        part[:] = [y[o : o + BLOCK].sum() for o in range(0, len(y), BLOCK)]
