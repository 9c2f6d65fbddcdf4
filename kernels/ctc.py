"""Connectionist temporal classification: the loss of all alignments of a sequence, and its gradient.

DESIGN
a. A unit is one sequence of the batch. With its labels l_1..l_L and blanks between and around them, the states are
   s = 0..2L; the label of state s is blank if s is even, else l_((s+1)/2).
b. alpha[t, s] is the log of the probability of all alignments of frames 0..t that end in s; beta[s] at t that of
   frames t.. that begin in s. Both in float64 whatever the dtype: float32 would lose digits over long sequences.
c. The sums of exponentials never subtract two infinities: an impossible state is -inf and stays out.
"""

import numpy as np

from . import math as km
from .contract import T, dim, f8, i8, jit, kernel
from .losses import _jit, _zero

NEVER = -np.inf


@jit  # a call: it is used in many places
def _join(a, b):
    """log(e**a + e**b)."""
    high, low = (a, b) if a > b else (b, a)
    if a != a or b != b:
        return a + b
    return high if low == NEVER else high + km.log1p(km.exp(low - high))


@jit
def _join3(a, b, c):
    """log(e**a + e**b + e**c), by one logarithm."""
    if a != a or b != b or c != c:
        return a + b + c
    high = max(a, b, c)
    if high == NEVER or high == -NEVER:
        return high
    return high + km.log(km.exp(a - high) + km.exp(b - high) + km.exp(c - high))


@_jit
def _label(labels, first, s, blank):
    return blank if s % 2 == 0 else labels[first + s // 2]


@_jit
def _skips(labels, first, s):
    """May an alignment go from state s - 2 to s: both labels, and different."""
    return s % 2 == 1 and s > 1 and labels[first + s // 2] != labels[first + s // 2 - 1]


@_jit
def _step(after, o, before, ob, x, frame, labels, first, states, blank):
    """alpha[t] from alpha[t - 1]; in place too, since it goes from the last state down."""
    for s in range(states - 1, -1, -1):
        a = before[ob + s]
        if _skips(labels, first, s):
            a = _join3(a, before[ob + s - 1], before[ob + s - 2])
        elif s > 0:
            a = _join(a, before[ob + s - 1])
        after[o + s] = a + np.float64(x[frame + _label(labels, first, s, blank)])


@_jit
def _start(after, o, x, frame, labels, first, states, blank):
    for s in range(states):
        after[o + s] = np.float64(x[frame + _label(labels, first, s, blank)]) if s < 2 else NEVER


@_jit
def _finish(alpha, o, frames, states):
    """The loss, from alpha of the last frame."""
    if frames == 0:
        return 0.0 if states == 1 else -NEVER
    return -(alpha[o] if states == 1 else _join(alpha[o + states - 1], alpha[o + states - 2]))


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
        first, states, length = starts[b], 2 * lengths[b] + 1, frames[b]
        oa, ob, ot, row = b * n_frames * n_states, b * n_states, b * n, batch * n
        for t in range(length):
            o = oa + t * n_states
            if t == 0:
                _start(alpha, o, x, b * n, labels, first, states, blank)
            else:
                _step(alpha, o, alpha, o - n_states, x, t * row + b * n, labels, first, states, blank)
        nll = _finish(alpha, oa + (length - 1) * n_states, length, states)
        nothing = zero_infinity and nll == -NEVER
        loss[b] = T(0.0 if nothing else nll)
        for t in range(n_frames - 1, -1, -1):
            frame, o = t * row + b * n, oa + t * n_states
            if nothing or t >= length:
                _zero(dx, frame, n)
                continue
            for c in range(n):
                total[ot + c] = NEVER
            for s in range(states):  # upwards, so that beta of t replaces that of t + 1 in place
                if t == length - 1:
                    a = 0.0 if s >= states - 2 else NEVER
                else:
                    a = beta[ob + s]
                    if s + 2 < states and _skips(labels, first, s + 2):
                        a = _join3(a, beta[ob + s + 1], beta[ob + s + 2])
                    elif s + 1 < states:
                        a = _join(a, beta[ob + s + 1])
                c = _label(labels, first, s, blank)
                total[ot + c] = _join(total[ot + c], alpha[o + s] + a)  # x[frame + c] is in alpha already
                beta[ob + s] = a + np.float64(x[frame + c])
            for c in range(n):
                dx[frame + c] = T(scale[b] * (km.exp(np.float64(x[frame + c])) - km.exp(total[ot + c] + nll)))


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
    alpha: f8,  # (N, S) room
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
        first, states, o = starts[b], 2 * lengths[b] + 1, b * n_states
        for t in range(frames[b]):
            frame = (t * batch + b) * n
            if t == 0:
                _start(alpha, o, x, frame, labels, first, states, blank)
            else:
                _step(alpha, o, alpha, o, x, frame, labels, first, states, blank)
        nll = _finish(alpha, o, frames[b], states)
        loss[b] = T(0.0 if zero_infinity and nll == -NEVER else nll)


@ctc_loss.reference
def _(loss, alpha, x, labels, starts, lengths, frames, n_frames, batch, n_classes, n_states, blank, zero_infinity):
    ctc.reference_fn(loss, np.zeros_like(x), None, None, None, x, labels, starts, lengths, frames, np.ones(batch),
                     n_frames, batch, n_classes, n_states, blank, zero_infinity)  # fmt: skip
