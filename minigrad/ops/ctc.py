"""Connectionist temporal classification: kernels/ctc.py computes the loss and its gradient in one pass."""

import math

from .._engine import Kernel, Op, Tensor, empty
from .._engine import _cast as cast
from .._gradmode import is_grad_enabled
from .._storage import float64
from ._arrays import as_numpy, from_array
from ._late import np
from ._loss import MEAN, NONE, reduction_of
from .pointwise import where
from .reduce import sum as total
from .row_losses import check_labels, contiguous, integers, scaled

_K_CTC, _K_CTC_LOSS = Kernel("ctc.ctc", 1), Kernel("ctc.ctc_loss", 1)
STEP = 10  # nanoseconds of a state in a frame; a class in a frame takes 1


def _no_second(dy, *saved):
    raise RuntimeError("ctc_loss: second derivatives are not implemented, as in PyTorch")


_AGAIN = Op("CtcLossBackward", _no_second, _no_second)


def _dctc(dy, x, dx):
    g = scaled(dx, dy.detach())
    if not is_grad_enabled():
        return g
    return _AGAIN.record(g.clone() if g is dx else g.detach(), dy, x)


_CTC = Op("CtcLoss", _dctc)


def ctc_loss(log_probs, targets, input_lengths, target_lengths, blank=0, reduction="mean", zero_infinity=False):
    """-log of the probability of all alignments of the targets with the inputs, blanks between labels being free.

    log_probs: (T, N, C) or (T, C), log-probabilities, float32 or float64. targets: labels in [0, C) but ``blank``, of
    any integer dtype: (N, S), or (sum of target_lengths,), or (S,) for one sequence; IndexError names one out of range
    (PyTorch reads memory that is not there). input_lengths (up to T),
    target_lengths: (N,), tensors, lists, tuples, or numbers for one sequence. A target that does not fit its input has
    loss inf and gradient nan; ``zero_infinity`` makes both 0. 'mean' divides each loss by its target's length (1 if
    that is 0), then averages over the batch.

    As in PyTorch the gradient is exp(log_probs) minus the expected occupancy: right where log_probs come from
    log_softmax, whose backward takes the first term away. It is finite also where a log-probability is -inf, if the
    loss is. Derivatives of it raise RuntimeError. Source: Graves et al. 2006.

    >>> import minigrad as mg
    >>> x = mg.zeros(4, 1, 3).log_softmax(2)
    >>> mg.nn.functional.ctc_loss(x, mg.tensor([[1, 2]]), [4], [2], reduction="sum")
    tensor(1.6864)
    """
    code = reduction_of(reduction)
    x, targets, frames, lengths = _checked(log_probs, targets, input_lengths, target_lengths, blank)
    n_frames, batch, n = x.shape if x.ndim == 3 else (x.shape[0], 1, x.shape[1])
    starts = np.arange(batch) * targets.shape[1] if targets.ndim == 2 else np.cumsum(lengths) - lengths
    _check_labels(targets, starts, lengths, n)
    states = 2 * int(lengths.max()) + 1
    weights = np.ones(batch) if code != MEAN else 1 / (batch * np.maximum(lengths, 1.0))
    recording = is_grad_enabled() and x.requires_grad
    losses, data = empty((batch,), x.dtype, like=x), contiguous(x)
    inputs = (data, targets, *[from_array(a, like=x) for a in (starts, lengths, frames)])
    dims = (n_frames, batch, n, states, blank, bool(zero_infinity))
    work, weights = n_frames * batch * (states * STEP + n), from_array(weights, "float64", like=x)
    if recording:
        dx = empty(x.shape, x.dtype, like=x)
        room = [empty(shape, float64, like=x) for shape in ((batch, n_frames, states), (batch, states), (batch, n))]
        _K_CTC((losses, dx, *room), (*inputs, weights), dims, (), batch, 2 * work)
    else:
        _K_CTC_LOSS((losses, empty((batch, 2, states), float64, like=x)), inputs, dims, (), batch, work)
    if code == NONE:
        y = losses if x.ndim == 3 else losses.reshape(())
    else:
        y = cast(total(cast(losses, float64) * weights), x.dtype)
    return _CTC.record(y, x, saved=(x, dx)) if recording else y


def _checked(x, targets, input_lengths, target_lengths, blank):
    """log_probs, contiguous int64 targets, and the lengths as arrays."""
    if not isinstance(x, Tensor):
        raise TypeError(f"ctc_loss: log_probs must be a Tensor, got {type(x).__name__}")
    if x.ndim not in (2, 3):
        raise RuntimeError(f"ctc_loss: log_probs must have shape (T, N, C) or (T, C), got {list(x.shape)}")
    if not x.is_floating_point():
        raise NotImplementedError(f"ctc_loss: log_probs must be floating point, got {x.dtype!r}")
    if x.numel() == 0:
        raise RuntimeError(f"ctc_loss: log_probs tensor must not be empty, got shape {list(x.shape)}")
    n_frames, batch, n = x.shape if x.ndim == 3 else (x.shape[0], 1, x.shape[1])
    if not 0 <= blank < n:
        raise RuntimeError(f"ctc_loss: blank must be in label range [0, {n}), got {blank}")
    targets = _whole(targets, x)
    if targets.ndim not in (1, 2):
        raise RuntimeError(f"ctc_loss: targets must have 1 or 2 dimensions, got shape {list(targets.shape)}")
    frames = _lengths(input_lengths, "input_lengths", batch, n_frames, x.ndim == 2)
    lengths = _lengths(target_lengths, "target_lengths", batch, None, x.ndim == 2)
    longest = int(lengths.max())
    if targets.ndim == 2 or x.ndim == 2:
        wide = targets.shape[-1]
        if targets.ndim == 2 and targets.shape[0] != batch:
            raise RuntimeError(f"ctc_loss: targets of shape {list(targets.shape)} for a batch of {batch}")
        if wide < longest:
            b = int(lengths.argmax())
            raise RuntimeError(
                f"ctc_loss: target_lengths[{b}] = {longest}, but targets of shape {list(targets.shape)} have {wide}"
            )
    elif targets.numel() != lengths.sum():
        raise RuntimeError(
            f"ctc_loss: concatenated targets must have the size of all target_lengths together, {lengths.sum()}, "
            f"got {targets.numel()}"
        )
    return x, targets, frames, lengths


def _whole(targets, x):
    """Targets as int64, where x is; PyTorch takes floats, too."""
    if isinstance(targets, Tensor) and targets.is_floating_point():
        targets = targets.detach().long()
    return integers(targets, "ctc_loss", "targets", like=x)


def _lengths(value, name, batch, most, single):
    """Lengths as an int64 array of (N,), checked."""
    if isinstance(value, int) and not single:
        raise TypeError(f"ctc_loss: {name} must hold one length for each of the {batch} sequences, got a number")
    found = as_numpy(integers(value, "ctc_loss", name)).reshape(-1)
    if found.size != batch:
        raise RuntimeError(f"ctc_loss: {name} must be of size batch_size, {batch}, got {found.size}")
    wrong = (found < 0) | (found > (math.inf if most is None else most))
    if wrong.any():
        b = int(wrong.argmax())
        bound = "at least 0" if found[b] < 0 else f"at most {most}"
        raise RuntimeError(f"ctc_loss: {name} must be {bound}, got {name}[{b}] = {found[b]}")
    return found.copy()


def _check_labels(targets, starts, lengths, n):
    """IndexError for the first label outside [0, n) within its sequence's length."""
    if targets._device >= 0:  # 0 is a class, if only the blank
        if targets.ndim == 2:
            inside = np.arange(targets.shape[1]) < lengths[:, None]
            targets = where(from_array(inside, "bool", like=targets), targets, 0)
        else:
            targets = targets[: starts[-1] + lengths[-1]] if starts.size else targets
        check_labels(targets, 0, n, "ctc_loss", "targets")
        return
    labels = as_numpy(targets)
    wrong = (labels < 0) | (labels >= n)
    if labels.ndim == 2:
        wrong &= np.arange(labels.shape[1]) < lengths[:, None]
    elif starts.size:  # of one sequence there may be more labels than its length
        wrong[starts[-1] + lengths[-1] :] = False
    if wrong.any():
        at = np.unravel_index(int(wrong.argmax()), labels.shape)
        b = at[0] if labels.ndim == 2 else int(np.searchsorted(starts + lengths, at[0], "right"))
        place = ", ".join(map(str, at))
        raise IndexError(f"ctc_loss: targets[{place}] = {labels[at]} of sequence {b} is outside [0, {n})")
