"""Connectionist temporal classification on a GPU: the loss of all alignments of a sequence, and its gradient.

DESIGN
a. A unit is one sequence of the batch and the work of one block: the states of a frame side by side, frame after frame.
   States, sums and the meaning of alpha and beta are those of the CPU's kernel.
b. Between frames the block meets (``cuda.syncthreads``); a thread may read what another one wrote before that.
c. The probability of a class is added up by the thread of its first label, in the order of labels.
"""

import math

import numpy as np
from numba import cuda

from .contract import T, dim, f8, i8, jit, kernel
from .losses_parts import exp, inf, nan
from .parts import block_sum

NEVER = -inf


@jit
def _join(a, b):
    """log(e**a + e**b)."""
    high, low = (a, b) if a > b else (b, a)
    return high if low == NEVER else high + math.log1p(math.exp(low - high))


@jit
def _join3(a, b, c):
    """log(e**a + e**b + e**c), by one logarithm."""
    high = a if a > b else b
    high = c if c > high else high
    if a == NEVER and b == NEVER and c == NEVER:
        return high
    return high + math.log(math.exp(a - high) + math.exp(b - high) + math.exp(c - high))


@jit
def _class(labels, k, n, blank):
    c = labels[k]
    return c if c >= 0 and c < n else blank


@jit
def _start(alpha, o, x, frame, labels, first, length, n, blank):
    for s in range(cuda.threadIdx.x, 2 * length + 1, cuda.blockDim.x):
        p = np.float64(NEVER)
        if s == 0:
            p = np.float64(x[frame + blank])
        elif s == length + 1:
            p = np.float64(x[frame + _class(labels, first, n, blank)])
        alpha[o + s] = p
    cuda.syncthreads()


@jit
def _step(alpha, o, before, x, frame, labels, first, length, n, blank):
    """alpha[t] at o, from alpha[t - 1] at ``before``."""
    ol, bl, p = o + length + 1, before + length + 1, np.float64(x[frame + blank])
    for k in range(cuda.threadIdx.x, length + 1, cuda.blockDim.x):
        stay = alpha[before + k]
        alpha[o + k] = stay + p if k == 0 else _join(stay, alpha[bl + k - 1]) + p
        if k < length:
            q, here = np.float64(x[frame + _class(labels, first + k, n, blank)]), alpha[bl + k]
            if k == 0:
                alpha[ol] = q + _join(here, stay)
            else:
                skip = alpha[bl + k - 1] if labels[first + k] != labels[first + k - 1] else np.float64(NEVER)
                alpha[ol + k] = q + _join3(here, stay, skip)
    cuda.syncthreads()


@jit
def _finish(alpha, o, frames, length):
    """The loss, from alpha of the last frame."""
    if frames == 0:
        return np.float64(0) if length == 0 else np.float64(inf)
    return -(alpha[o] if length == 0 else _join(alpha[o + length], alpha[o + 2 * length]))


@jit
def _end(beta, o, length):
    """beta of the last frame: alignments end in the last blank or the last label."""
    for s in range(cuda.threadIdx.x, 2 * length + 1, cuda.blockDim.x):
        beta[o + s] = np.float64(0) if s == length or s == 2 * length else np.float64(NEVER)
    cuda.syncthreads()


@jit
def _step_back(beta, o, labels, first, length):
    """beta[t] from beta[t + 1] + x[t + 1], in place: as many at once as there are threads, the first ones first."""
    ol = o + length + 1
    for start in range(0, length, cuda.blockDim.x):
        k = start + cuda.threadIdx.x
        blank, own = np.float64(0), np.float64(0)
        if k < length:
            here, after = beta[ol + k], beta[o + k + 1]
            blank = _join(beta[o + k], here)
            if k == length - 1:
                own = _join(here, after)
            else:
                skip = beta[ol + k + 1] if labels[first + k] != labels[first + k + 1] else np.float64(NEVER)
                own = _join3(here, after, skip)
        cuda.syncthreads()
        if k < length:
            beta[o + k] = blank
            beta[ol + k] = own
        cuda.syncthreads()


@jit
def _occupancy(total, ot, alpha, o, beta, ob, nll, x, frame, labels, first, length, n, blank):
    """total[c] = probability, given the labels, of class c in this frame; beta += x."""
    of_blank = np.float64(0)
    for c in range(cuda.threadIdx.x, n, cuda.blockDim.x):
        total[ot + c] = np.float64(0)
    for s in range(cuda.threadIdx.x, 2 * length + 1, cuda.blockDim.x):
        c = blank if s <= length else _class(labels, first + s - length - 1, n, blank)
        p = math.exp(alpha[o + s] + beta[ob + s] + nll)
        alpha[o + s] = p
        beta[ob + s] += np.float64(x[frame + c])
        if c == blank:
            of_blank += p
    of_blank = block_sum(of_blank)  # all states of the frame are probabilities by then
    if cuda.threadIdx.x == 0:
        total[ot + blank] = of_blank
    for k in range(cuda.threadIdx.x, length, cuda.blockDim.x):
        c, earlier = _class(labels, first + k, n, blank), False
        for i in range(k):
            earlier = earlier or labels[first + i] == c
        if c != blank and not earlier:
            p = np.float64(0)
            for i in range(k, length):
                p += alpha[o + length + 1 + i] if labels[first + i] == c else 0.0
            total[ot + c] = p
    cuda.syncthreads()


@kernel(block=128, per=1)
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
    units,
):
    """loss = -log p(labels | x); dx = scale (e**x - occupancy), the gradient by the logits before log_softmax.

    Occupancy[t, c] is the probability, given the labels, of class c in frame t. Unit: item of the batch.
    """
    n = n_classes
    for b in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        first, length, end = starts[b], lengths[b], frames[b]
        oa, ob, ot, row = b * n_frames * n_states, b * n_states, b * n, batch * n
        for t in range(end):
            o, frame = oa + t * n_states, t * row + b * n
            if t == 0:
                _start(alpha, o, x, frame, labels, first, length, n, blank)
            else:
                _step(alpha, o, o - n_states, x, frame, labels, first, length, n, blank)
        nll = _finish(alpha, oa + (end - 1) * n_states, end, length)
        nothing = zero_infinity and nll == inf
        if cuda.threadIdx.x == 0:
            loss[b] = T(0) if nothing else T(nll)
        cuda.syncthreads()  # everybody has read the last frame, which is overwritten next
        for i in range(n_frames):
            t = n_frames - 1 - i
            frame, o = t * row + b * n, oa + t * n_states
            if nothing or t >= end:
                for c in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                    dx[frame + c] = T(0)
                continue
            if t == end - 1:
                _end(beta, ob, length)
            else:
                _step_back(beta, ob, labels, first, length)
            _occupancy(total, ot, alpha, o, beta, ob, nll, x, frame, labels, first, length, n, blank)
            factor = scale[b] if nll < inf else np.float64(nan)  # also of classes that are no label
            for c in range(cuda.threadIdx.x, n, cuda.blockDim.x):
                dx[frame + c] = T(factor * (np.float64(exp(x[frame + c])) - total[ot + c]))
            cuda.syncthreads()


@kernel(block=128, per=1)
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
    units,
):
    """The loss of ctc. Unit: item of the batch."""
    n = n_classes
    for b in range(cuda.blockIdx.x, units, cuda.gridDim.x):
        first, length, end = starts[b], lengths[b], frames[b]
        before, o = 2 * b * n_states, (2 * b + 1) * n_states
        for t in range(end):
            before, o, frame = o, before, (t * batch + b) * n
            if t == 0:
                _start(alpha, o, x, frame, labels, first, length, n, blank)
            else:
                _step(alpha, o, before, x, frame, labels, first, length, n, blank)
        nll = _finish(alpha, o, end, length)
        if cuda.threadIdx.x == 0:
            loss[b] = T(0) if zero_infinity and nll == inf else T(nll)
        cuda.syncthreads()
