"""linear and cross_entropy in one, in chunks of rows: neither the (N, C) logits nor their gradient exist as a whole.

DESIGN
a. A chunk is ordinary work: logits = x w.T + b, the fused cross-entropy kernel (the loss and g, its gradient), then
   dx = g w, dw += g.T x and db += sum(g), each one product into memory that is there already. Two buffers of
   (rows, C) serve all chunks. The gradients are ready with the loss; backward multiplies them by its one number.
b. With reduction='none' backward brings a number for each row, which dw cannot take any more: then the forward pass
   computes losses only, and backward computes the chunks again with those numbers.
c. How many rows a chunk has follows from the shapes and the kind of device alone, so that results do not depend on the
   number of threads. What depends on labels stays on the device: nobody waits for it.
d. A loss at several positions, w (C, d1, ..., D), is one such loss a position p, of the strided matrix w[:, p].
e. When backward is recorded (create_graph), or when class weights or probabilities need a gradient or have another
   dtype, the loss is ``composed`` of linear and cross_entropy, whole logits and all.
"""

import dataclasses
import math
from collections import namedtuple

from .._engine import Kernel, Op, Tensor, always_one, empty, filled, view, write_memory
from .._engine import _cast as cast
from .._gradmode import enable_grad, is_grad_enabled, no_grad
from .._storage import float32, float64, int64
from .._walk import run_backward
from . import pointwise as p
from ._gemm import gemm_into
from ._loss import SUM, ZERO, as_tensor, reduced, reduced_by, reduction_of, zero_of
from .label_losses import cross_entropy, label_losses, label_stats
from .linear import linear
from .reduce import sum as sum_of
from .shape import narrow, permute, reshape

CHUNK = 1 << 23  # logits a chunk may have (32 MB of float32): small beside a large head, enough for fast products
DISTANT = 1 << 26  # on a device that needs more work at once
LEAST = 64  # rows a chunk has at least: with fewer the products become slow

_PROBS, _PROBS_LOSS = Kernel("losses.cross_entropy_probs", 0.8), Kernel("losses.cross_entropy_probs_loss", 0.6)


@dataclasses.dataclass(slots=True, frozen=True)
class LinearCrossEntropyOptions:
    """How ``linear_cross_entropy`` works through the batch; PyTorch's fields, validated as there.

    batch_chunk_size: rows a chunk has, an int above 0; smaller ones take less memory and more time. None: chosen from
    the shapes. chunking_method: 'auto' (the default) leaves that choice; 'aspect_ratio' or 'aspect_ratio:n' makes
    PyTorch's: the power of two from which a chunk's logits take as much memory as the input, divided by n; None: no
    method, and without a batch_chunk_size one chunk for all. ValueError if a method and a batch_chunk_size disagree.

    These make no difference here: acc_policy ('auto', 'accurate', 'balanced' or 'compact'; always 'compact': gradients
    are added up where they will stay), acc_dtype (None, float32 or float64; sums have the dtype of the input, as there
    is no half precision) and allow_retain_graph (backward may always run again).

    >>> import minigrad as mg
    >>> mg.nn.LinearCrossEntropyOptions(batch_chunk_size=128).batch_chunk_size
    128
    """

    allow_retain_graph: bool = False
    batch_chunk_size: int | None = None
    chunking_method: str | None = "auto"
    acc_policy: str = "auto"
    acc_dtype: object = None

    def __post_init__(self):
        if self.acc_policy not in ("auto", "accurate", "balanced", "compact"):
            raise ValueError(f"invalid acc_policy: {self.acc_policy!r}")
        if self.chunking_method not in (None, "auto"):
            name, colon, n = str(self.chunking_method).partition(":")
            if name != "aspect_ratio" or (colon and not (n.isdigit() and int(n) > 0)):
                raise ValueError(f"invalid chunking_method: {self.chunking_method!r}")
        size = self.batch_chunk_size
        if size is not None and not (isinstance(size, int) and size > 0):
            raise ValueError(f"batch_chunk_size must be positive int or None, got {size!r}")
        if self.acc_dtype not in (None, float32, float64):
            raise ValueError(f"acc_dtype must be None, float32 or float64, got {self.acc_dtype!r}")


def chunk_rows(n, c, d, options, distant=False):
    """How many of ``n`` rows a chunk has, given C classes and D features; distant: not on the CPU."""
    size, method = (None, "auto") if options is None else (options.batch_chunk_size, options.chunking_method)
    if method == "auto":
        rows = size or max(LEAST, (DISTANT if distant else CHUNK) // max(1, c) // 16 * 16)
    elif method is None:
        rows = size or n
    else:
        wanted = -(-n // max(1, -(-c // max(1, d))))
        rows = min((1 << max(0, wanted - 1).bit_length()) // int(method.partition(":")[2] or 1), n)
        if size is not None and size != rows:
            raise ValueError(
                f"batch_chunk_size (={size}) and chunking_method ('{method}') give different chunk sizes ({size} vs "
                f"{rows}); pass only one."
            )
    return max(1, min(rows, n))


# what a call is, once checked; probabilities: whether the target is; rows: of a chunk
_Call = namedtuple("_Call", "reduction ignore_index smoothing probabilities rows zero")


def linear_cross_entropy(input, linear_weight, target, *, linear_bias=None, weight=None, reduction="mean",
                         ignore_index=None, label_smoothing=0.0, options=None, all_ignored="nan"):  # fmt: skip
    """``cross_entropy(linear(input, linear_weight, linear_bias), target, ...)`` without ever holding all the logits.

    input: (N, D), (D,), or, where PyTorch stops at two dimensions, (N, T, ..., D). linear_weight: (C, D); for a loss at
    several positions (C, d1, ..., D), with an input (N, D). linear_bias: (C,) or (C, d1, ...). All of one floating
    dtype. target: labels in [0, C), of any integer or bool dtype, (N,), () or (N, d1, ...) (IndexError names the row of
    one out of range); or probabilities, (N, C), (C,) or (N, C, d1, ...). weight: (C,). reduction, ignore_index
    (None: -100), label_smoothing, all_ignored ('nan' or 'zero'): as in ``cross_entropy``; RuntimeError for an
    ignore_index with probabilities.

    The rows are worked through in chunks, in training and in evaluation, with or without ``options``
    (``LinearCrossEntropyOptions``): beside the gradients it takes two times (rows of a chunk, C) numbers, one time in
    evaluation. Results have the same bits at any number of threads. reduction='none' computes the chunks twice, once
    more in backward. The whole logits are made after all for ``create_graph=True``, and when ``weight`` or
    probabilities require grad or have another dtype than ``input``.
    Source: Wijmans et al. 2025, Cut your losses in large-vocabulary language models; Liger-Kernel.

    >>> import minigrad as mg
    >>> x, w = mg.tensor([[1.0, 2.0], [3.0, 4.0]]), mg.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    >>> mg.nn.functional.linear_cross_entropy(x, w, mg.tensor([2, 0]))
    tensor(2.2367)
    """
    x, w, b = input, linear_weight, linear_bias
    lead, out = _check_shapes(x, w, b)
    _check_dtypes(x, w, b)
    c, d = w.shape[0], w.shape[-1]
    reduction_of(reduction)
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    if not (options is None or isinstance(options, LinearCrossEntropyOptions)):
        raise TypeError(f"options must be a LinearCrossEntropyOptions or None, got {type(options).__name__}")
    target = as_tensor(target, x)
    weight = None if weight is None else as_tensor(weight, x, "weight")
    if weight is not None and tuple(weight.shape) != (c,):
        raise RuntimeError(
            f"weight tensor should be defined either for all {c} classes or no classes but got weight tensor of shape: "
            f"{list(weight.shape)}"
        )
    probabilities = _check_target(target, lead, c, out, ignore_index)
    ignore_index = -100 if ignore_index is None else ignore_index
    rows = chunk_rows(math.prod(lead), c, d, options, x._device >= 0)
    call = _Call(reduction, ignore_index, float(label_smoothing), probabilities, rows, zero_of(all_ignored))
    odd = [v for v in (target if probabilities else None, weight) if v is not None]
    if c == 0 or any(v.dtype != x.dtype or (is_grad_enabled() and v.requires_grad) for v in odd):
        return composed(x, w, b, target, weight, call)
    if not probabilities:
        target = cast(target, int64)
    needs = [is_grad_enabled() and v is not None and v.requires_grad for v in (x, w, b)]
    later = reduction == "none"
    with no_grad():
        code = reduction_of(reduction)
        if probabilities:
            divisor = target.numel() // c
            stats = 1 / divisor if reduction == "mean" and divisor else 1.0
        else:
            stats = _label_stats(target, weight, c, call, x.dtype)
        y, *ready = _chunks(x, w, b, target, weight, call, stats, (False,) * 3 if later else needs)
        if probabilities:
            y = reduced(y, divisor, SUM if call.zero and not divisor and code else code)
        else:
            y = reduced_by(y, code, stats)
    return _OP.record(y, x, w, b, saved=(x, w, b, target, weight, call, *ready)) if any(needs) else y


def composed(x, w, b, target, weight, call):
    """The same by linear and cross_entropy: any derivative, for the memory of all logits."""
    lead, c, d, out = x.shape[:-1], w.shape[0], w.shape[-1], w.shape[1:-1]
    if len(lead) > 1:
        x, target = reshape(x, (-1, d)), reshape(target, (-1, *target.shape[len(lead) :]))
    flat = None if b is None else reshape(b, (math.prod((c, *out)),))
    logits = linear(x, reshape(w, (math.prod((c, *out)), d)) if out else w, flat)
    if out:
        logits = reshape(logits, (x.shape[0], c, *out))
    y = cross_entropy(
        logits, target, weight, ignore_index=call.ignore_index, reduction=call.reduction,
        label_smoothing=call.smoothing, all_ignored="zero" if call.zero else "nan",
    )  # fmt: skip
    return reshape(y, lead) if call.reduction == "none" and len(lead) > 1 else y


# --- backward ---------------------------------------------------------------------------------------------------------


def _backward(node, dy):
    """dx, dw, db of the loss: those of the forward pass times dy, or, for each row a dy, the chunks once more."""
    x, w, b, target, weight, call, dx, dw, db = node.saved_values()
    needs = node.needs_input_grad
    if is_grad_enabled():
        with enable_grad():
            copies = [v.clone() if need else v for v, need in zip((x, w, b), needs)]  # one tensor may be two of them
            y = composed(*copies, target, weight, call)
        wanted = tuple([v for v, need in zip(copies, needs) if need])
        found = iter(run_backward((y,), (dy,), True, True, wanted, True))
        return [next(found) if need else None for need in needs]
    if call.reduction == "none":
        # labels are looked at once more: they may lie in somebody's array, whose writes nobody counts
        stats = 1.0 if call.probabilities else _label_stats(target, weight, w.shape[0], call, x.dtype)
        return _chunks(x, w, b, target, weight, call, stats, needs, dy)[1:]
    one = always_one(dy)
    return [g if g is None or one else p.mul(g, dy) for g in (dx, dw, db)]


_OP = Op("LinearCrossEntropy", backward=_backward)


# --- the work ---------------------------------------------------------------------------------------------------------


def _label_stats(target, weight, c, call, dtype):
    """What the kernels of losses must know of labels; IndexError names one outside [0, c)."""
    code = ZERO if call.zero and call.reduction == "mean" else reduction_of(call.reduction)
    weight = None if weight is None else weight.detach().contiguous()
    return label_stats(target.contiguous(), weight, c, call.ignore_index, call.smoothing, code, dtype)


def _chunks(x, w, b, target, weight, call, stats, needs, dy=None):
    """The losses of all rows, and dx, dw, db (None where not needed), scaled and, row by row, times ``dy``.

    stats: what is known of labels; of probabilities it is the scale of gradients, a number.
    """
    dtype, n, c, d = x.dtype, math.prod(x.shape[:-1]), w.shape[0], w.shape[-1]
    out = w.shape[1:-1]
    positions, rows = math.prod(out), call.rows
    xs, ws = reshape(x.detach(), (n, d)), reshape(w.detach(), (c, positions, d))
    bs = None if b is None else permute(reshape(b.detach(), (c, positions)), (1, 0)).contiguous()
    if call.probabilities:
        ts = reshape(target.detach(), (n, c, positions))
    else:
        ts = permute(reshape(target, (n, positions)), (1, 0)).contiguous()
    ws_of = None if weight is None else weight.detach().contiguous()
    dys = None if dy is None else permute(reshape(dy, (n, positions)), (1, 0)).contiguous()
    losses = empty((positions, n), dtype, like=x)
    logits, slopes = empty((rows, c), dtype, like=x), empty((rows, c), dtype, like=x) if any(needs) else None
    dx, dw, db = (empty(v.shape, dtype, like=x) if need else None for v, need in zip((x, w, b), needs))
    dxs = None if dx is None else view(dx, (n, d), (d, 1))
    dws = None if dw is None else view(dw, (c, positions, d), (positions * d, d, 1))
    dbs = None if db is None else filled((positions, c), 0, dtype, like=x)
    for v, terms in ((dx, positions), (dw, n)):  # sums over nothing
        if v is not None and terms == 0:
            write_memory(v, filled((), 0, dtype, like=x))
    for position in range(positions):
        wp = view(ws, (c, d), (ws.stride(0), ws.stride(2)), position * ws.stride(1))
        bp = None if bs is None else view(bs, (c,), (1,), position * c)
        for first in range(0, n, rows):
            size = min(rows, n - first)
            chunk = narrow(xs, 0, first, size)
            y, g = (None if v is None else narrow(v, 0, 0, size) for v in (logits, slopes))
            gemm_into(y, chunk, wp, False, True, bp)
            loss = view(losses, (size,), (1,), position * n + first)
            if call.probabilities:
                t = narrow(ts, 0, first, size)
                t = view(t, (size, c), (t.stride(0), t.stride(1)), position * t.stride(2)).contiguous()
            else:
                t = view(ts, (size,), (1,), position * n + first)
            _loss(loss, g, y, t, ws_of, call, stats)
            if g is None:
                continue
            if dys is not None:
                p.mul.inplace(g, view(dys, (size, 1), (1, 1), position * n + first))
            if dxs is not None:
                gemm_into(narrow(dxs, 0, first, size), g, wp, accumulate=position > 0)
            if dws is not None:
                gemm_into(view(dws, (c, d), (positions * d, 1), position * d), g, chunk, True, accumulate=first > 0)
            if dbs is not None:
                p.add.inplace(view(dbs, (c,), (1,), position * c), sum_of(g, 0))
    y = empty((*x.shape[:-1], *out), dtype, like=x)
    write_memory(view(y, (positions, n), (1, positions)), losses)
    if db is not None:
        write_memory(view(db, (positions, c), (1, positions)), dbs)
    return y, dx, dw, db


def _loss(loss, g, y, t, weight, call, stats):
    """The losses of one chunk of logits y (rows, C), and g, their gradient times the scale, unless None."""
    size, c = y.shape
    if not call.probabilities:
        label_losses(loss, g, y, t, weight, call.ignore_index, stats)
    elif g is None:
        _PROBS_LOSS((loss,), (y, t, weight), (c, weight is not None), (call.smoothing,), size, size * c)
    else:
        dims = c, 0, weight is not None
        _PROBS((loss, g, None), (y, t, weight), dims, (call.smoothing, stats), size, size * c)


# --- what is accepted -------------------------------------------------------------------------------------------------


def _check_shapes(x, w, b):
    """The leading dimensions of the input and the positions (d1, ...) of the weight."""
    for name, v in (("input", x), ("linear_weight", w), ("linear_bias", b)):
        if not isinstance(v, Tensor) and not (v is None and name == "linear_bias"):
            raise TypeError(f"linear_cross_entropy: {name} must be a Tensor, got {type(v).__name__}")
    if x.ndim < 1:
        raise RuntimeError(f"expected input with dimensionality 1 or 2, got {x.ndim}")
    if w.ndim < 2:
        raise RuntimeError(f"expected linear_weight with dimensionality at least 2, got {w.ndim}")
    if x.shape[-1] != w.shape[-1]:
        raise RuntimeError(
            "expected equal input and linear_weight last dimensions (in_features), "
            f"got {x.shape[-1]} and {w.shape[-1]}, respectively"
        )
    out = tuple(w.shape[1:-1])
    if b is not None and tuple(b.shape) != (w.shape[0], *out):
        raise RuntimeError(f"expected linear_bias shape {(w.shape[0], *out)}, got {tuple(b.shape)}")
    if out and x.ndim != 2:
        raise RuntimeError(
            f"K-dimensional loss defined by linear_weight shape {tuple(w.shape)} requires batched input, "
            f"(N, {w.shape[-1]}), got input with shape {tuple(x.shape)}"
        )
    return tuple(x.shape[:-1]), out


def _check_dtypes(x, w, b):
    names = ", ".join(repr(v.dtype) for v in (x, w, b) if v is not None)
    if any(v is not None and v.dtype != x.dtype for v in (w, b)):
        raise RuntimeError(
            f"linear_cross_entropy: input, linear_weight and linear_bias must have the same dtype, but got {names}"
        )
    if not x.is_floating_point():
        raise NotImplementedError(f"linear_cross_entropy: input must be floating point, got {names}")


def _check_target(target, lead, c, out, ignore_index):
    """Whether the target is probabilities; its shape is checked."""
    shape = tuple(target.shape)
    if shape == (*lead, c, *out) and (target.is_floating_point() or shape != (*lead, *out)):
        if ignore_index is not None:
            raise RuntimeError("ignore_index cannot be specified when target contains probabilities")
        if not target.is_floating_point():
            raise RuntimeError(
                f"Expected floating point type for target with class probabilities, got {target.dtype!r}; for class "
                f"labels use target.argmax({len(lead)})"
            )
        return True
    if target.is_floating_point():
        raise RuntimeError(
            f"linear_cross_entropy: target has dtype {target.dtype!r} and shape {list(shape)}: class labels must be "
            f"integers; class probabilities must have the shape of the logits {[*lead, c, *out]}"
        )
    if shape == (1,) and not lead:
        return False
    if len(shape) == 1 and not lead:
        raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {shape[0]}")
    if lead and (not shape or shape[0] != lead[0]):
        raise ValueError(
            f"Expected input batch_size ({lead[0]}) to match target batch_size ({shape[0] if shape else 0})."
        )
    if shape != (*lead, *out):
        hint = f"; squeeze the target: target.squeeze({len(lead)})" if shape == (*lead, 1, *out) else ""
        raise RuntimeError(f"linear_cross_entropy: Expected target size {[*lead, *out]}, got {list(shape)}{hint}")
    return False
