"""Connectionist temporal classification: the loss of all alignments of a sequence, and its gradient.

DESIGN
a. A unit is one sequence of the batch. Its L labels, with blanks between and around them, are 2L + 1 states. A row of
   states is the L + 1 blanks, then the L labels, so that loops are vectorised: an alignment goes on from blank k to
   itself or label k, from label k to itself, blank k + 1, or label k + 1 if that is another class.
b. alpha[t, s] is the log of the probability of all alignments of frames 0..t that end in s; beta[t, s] that of
   frames t + 1.. after s. Both in float64 whatever the dtype: float32 would lose digits over long sequences.
c. The sums of exponentials never subtract two infinities: an impossible state is -inf and stays out.
d. A label is checked where it is used, since another thread may write it: out of range it counts as blank.
"""

import numpy as np

from . import math as km
from .contract import T, dim, f8, i8, jit, kernel
from .losses_parts import _jit, _zero

NEVER = -np.inf


@_jit
def _join(a, b):
    """log(e**a + e**b)."""
    high, low = (a, b) if a > b else (b, a)
    total = high + km.log1p_unit(km.exp_down(low - high))
    return high if low == NEVER else total


@_jit
def _join3(a, b, c):
    """log(e**a + e**b + e**c), by one logarithm."""
    high = a if a > b else b
    high = c if c > high else high
    total = high + km.log(km.exp_down(a - high) + km.exp_down(b - high) + km.exp_down(c - high))
    return NEVER if (a == NEVER) & (b == NEVER) & (c == NEVER) else total


@_jit
def _class(labels, k, n, blank):
    c = labels[k]
    return c if np.uint64(c) < np.uint64(n) else blank


@jit
def _start(alpha, o, x, frame, labels, first, length, n, blank):
    for s in range(2 * length + 1):
        alpha[o + s] = NEVER
    alpha[o] = np.float64(x[frame + blank])
    if length:
        alpha[o + length + 1] = np.float64(x[frame + _class(labels, first, n, blank)])


@jit
def _step(alpha, o, before, x, frame, labels, first, length, n, blank):
    """alpha[t] at o, from alpha[t - 1] at ``before``."""
    ol, bl, p = o + length + 1, before + length + 1, np.float64(x[frame + blank])
    for k in range(length):
        alpha[ol + k] = np.float64(x[frame + _class(labels, first + k, n, blank)])
    alpha[o] = alpha[before] + p
    for k in range(length):
        alpha[o + k + 1] = _join(alpha[before + k + 1], alpha[bl + k]) + p
    if length:
        alpha[ol] += _join(alpha[bl], alpha[before])
    for k in range(1, length):
        skip = alpha[bl + k - 1] if labels[first + k] != labels[first + k - 1] else NEVER
        alpha[ol + k] = alpha[ol + k] + _join3(alpha[bl + k], alpha[before + k], skip)


@_jit
def _finish(alpha, o, frames, length):
    """The loss, from alpha of the last frame."""
    if frames == 0:
        return 0.0 if length == 0 else -NEVER
    return -(alpha[o] if length == 0 else _join(alpha[o + length], alpha[o + 2 * length]))


@jit
def _end(beta, o, length):
    """beta of the last frame: alignments end in the last blank or the last label."""
    for s in range(2 * length + 1):
        beta[o + s] = NEVER
    beta[o + length] = 0.0
    if length:
        beta[o + 2 * length] = 0.0


@jit
def _step_back(beta, o, labels, first, length):
    """beta[t] from beta[t + 1] + x[t + 1], in place: what is read lies ahead of what is written."""
    ol = o + length + 1
    for k in range(length - 1):
        here, skip = beta[ol + k], beta[ol + k + 1] if labels[first + k] != labels[first + k + 1] else NEVER
        beta[ol + k] = _join3(here, beta[o + k + 1], skip)
        beta[o + k] = _join(beta[o + k], here)
    if length:
        here = beta[ol + length - 1]
        beta[ol + length - 1] = _join(here, beta[o + length])
        beta[o + length - 1] = _join(beta[o + length - 1], here)


@jit
def _occupancy(total, ot, alpha, o, beta, ob, nll, x, frame, labels, first, length, n, blank):
    """total[c] = probability, given the labels, of class c in this frame; beta += x."""
    p, of_blank = np.float64(x[frame + blank]), 0.0
    for c in range(n):
        total[ot + c] = 0.0
    for s in range(2 * length + 1):
        alpha[o + s] = km.exp(alpha[o + s] + beta[ob + s] + nll)
    for k in range(length + 1):
        of_blank += alpha[o + k]
        beta[ob + k] += p
    total[ot + blank] = of_blank
    for k in range(length + 1, 2 * length + 1):
        c = _class(labels, first + k - length - 1, n, blank)
        total[ot + c] += alpha[o + k]
        beta[ob + k] += np.float64(x[frame + c])


@jit
def _gradient(dx, o, x, total, ot, n, factor):
    for c in range(n):
        dx[o + c] = type(dx[0])(factor * (np.float64(km.exp(x[o + c])) - total[ot + c]))


@kernel
def ctc(
    loss: T,  # (N,)
    dx: T,  # (T, N, C)
    alpha: f8,  # (N, T, S) room, S = 2 max(target_lengths) + 1
    beta: f8,  # (N, S) room
    total: f8,  # (N, C) room
    x: T,  # (T, N, C) log-probabilities
    labels: i8,  # all targets
    starts: i8,  # (N,) where each item's labels start
    lengths: i8,  # (N,) of the labels
    frames: i8,  # (N,) of the input
    scale: f8,  # (N,)
    n_frames: dim,
    batch: dim,
    n_classes: dim,
    n_states: dim,
    blank: dim,
    zero_infinity: dim,
    lo,
    hi,
):
    """loss = -log p(labels | x); dx = scale (e**x - occupancy), the gradient by the logits before log_softmax.

    Occupancy[t, c] is the probability, given the labels, of class c in frame t. Unit: item of the batch.
    """
    n = n_classes
    for b in range(lo, hi):
        first, length, end = starts[b], lengths[b], frames[b]
        oa, ob, ot, row = b * n_frames * n_states, b * n_states, b * n, batch * n
        for t in range(end):
            o, frame = oa + t * n_states, t * row + b * n
            if t == 0:
                _start(alpha, o, x, frame, labels, first, length, n, blank)
            else:
                _step(alpha, o, o - n_states, x, frame, labels, first, length, n, blank)
        nll = _finish(alpha, oa + (end - 1) * n_states, end, length)
        nothing = zero_infinity and nll == -NEVER
        loss[b] = T(0.0 if nothing else nll)
        for t in range(n_frames - 1, -1, -1):
            frame, o = t * row + b * n, oa + t * n_states
            if nothing or t >= end:
                _zero(dx, frame, n)
                continue
            if t == end - 1:
                _end(beta, ob, length)
            else:
                _step_back(beta, ob, labels, first, length)
            _occupancy(total, ot, alpha, o, beta, ob, nll, x, frame, labels, first, length, n, blank)
            factor = scale[b] if nll < -NEVER else np.nan  # also of classes that are no label
            _gradient(dx, frame, x, total, ot, n, factor)


@ctc.reference
def _(loss, dx, alpha, beta, total, x, labels, starts, lengths, frames, scale, n_frames, batch, n_classes, n_states,
      blank, zero_infinity):  # fmt: skip
    """Graves et al. 2006, equations 6 to 16, summed over all paths through the states."""
    x, dx = x.reshape(n_frames, batch, n_classes).astype(float), dx.reshape(n_frames, batch, n_classes)
    dx[:] = 0
    for b in range(batch):
        own = labels[starts[b] : starts[b] + lengths[b]]
        path = np.full(2 * lengths[b] + 1, blank)
        path[1::2] = own
        length, states = frames[b], len(path)
        step = np.full((states, states), NEVER)  # step[s, r]: from r to s
        for s in range(states):
            step[s, max(s - 1, 0) : s + 1] = 0
            if s > 1 and path[s] != blank and path[s] != path[s - 2]:
                step[s, s - 2] = 0
        p = x[:length, b][:, path]
        forward, backward = np.full((2, length, states), NEVER)
        for t in range(length):
            begin = np.where(np.arange(states) < 2, 0, NEVER)
            forward[t] = p[t] + (np.logaddexp.reduce(step + forward[t - 1], 1) if t else begin)
        for t in range(length - 1, -1, -1):
            end = np.where(np.arange(states) >= states - 2, 0, NEVER)
            later = t + 1 < length
            backward[t] = np.logaddexp.reduce(step.T + (backward[t + 1] + p[t + 1]), 1) if later else end
        none = 0.0 if states == 1 else NEVER
        log_p = np.logaddexp.reduce(forward[-1, -2:]) if length else none
        loss[b] = 0 if zero_infinity and log_p == NEVER else -log_p
        if zero_infinity and log_p == NEVER:
            continue
        for c in range(n_classes):
            at = path == c
            occupancy = np.exp(np.logaddexp.reduce(forward[:, at] + backward[:, at], 1, initial=NEVER) - log_p)
            dx[:length, b, c] = scale[b] * (np.exp(x[:length, b, c]) - occupancy)


@kernel
def ctc_loss(
    loss: T,  # (N,)
    alpha: f8,  # (N, 2, S) room
    x: T,  # (T, N, C) log-probabilities
    labels: i8,
    starts: i8,  # (N,)
    lengths: i8,  # (N,)
    frames: i8,  # (N,)
    n_frames: dim,
    batch: dim,
    n_classes: dim,
    n_states: dim,
    blank: dim,
    zero_infinity: dim,
    lo,
    hi,
):
    """The loss of ctc. Unit: item of the batch."""
    n = n_classes
    for b in range(lo, hi):
        first, length, end = starts[b], lengths[b], frames[b]
        before, o = 2 * b * n_states, (2 * b + 1) * n_states
        for t in range(end):
            before, o, frame = o, before, (t * batch + b) * n
            if t == 0:
                _start(alpha, o, x, frame, labels, first, length, n, blank)
            else:
                _step(alpha, o, before, x, frame, labels, first, length, n, blank)
        nll = _finish(alpha, o, end, length)
        loss[b] = T(0.0 if zero_infinity and nll == -NEVER else nll)


@ctc_loss.reference
def _(loss, alpha, x, labels, starts, lengths, frames, n_frames, batch, n_classes, n_states, blank, zero_infinity):
    ctc.reference_fn(loss, np.zeros_like(x), None, None, None, x, labels, starts, lengths, frames, np.ones(batch),
                     n_frames, batch, n_classes, n_states, blank, zero_infinity)  # fmt: skip
