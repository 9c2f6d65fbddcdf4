"""Losses whose unit is a row: margins over classes, cosines, triplets.

DESIGN
a. ``RowLoss`` runs the kernels of one loss (kernels/losses_rows.py). When an input needs a gradient the fused one
   writes the gradients of all inputs, scaled by the reduction, and the node saves them; else its loss-only twin runs.
b. Each input's rule multiplies its gradient by the incoming one, unless that is one number equal to 1.
c. When backward is recorded (create_graph), or when a target or weight needs a gradient, the loss is computed by its
   formula (row_formulas.py).
d. Everything is validated here; labels may be of any integer dtype, arrays or lists.
"""

import math
from functools import partial

from .._engine import Kernel, Op, Tensor, always_one, empty, result_type, together
from .._engine import _cast as cast
from .._engine import get_default_dtype as default_dtype
from .._gradmode import enable_grad, is_grad_enabled
from .._storage import bool_, float32, float64, int64, uint8
from .._walk import run_backward
from . import row_formulas as formulas
from ._arrays import as_numpy
from ._late import np
from ._loss import MEAN, as_tensor, floating, reduced, reduction_of, warn_of_probabilities
from .shape import broadcast_named, view_as


class RowLoss:
    """The kernels, the formula and the operation of one loss of ``arity`` inputs; ``cost`` in ns an element."""

    def __init__(self, kernel, op, arity, cost, formula):
        self.fused, self.loss_only = Kernel(kernel, cost), Kernel(kernel + "_loss", cost)
        self.formula = formula
        self.op = Op(op, *[partial(hand_on, i) for i in range(arity)])

    def __call__(self, inputs, others, room, dims, scalars, rows, shape, constants, code):
        """Loss of ``rows`` rows, of that ``shape`` if not reduced.

        inputs: what is differentiated, of one dtype and shape; others: what else the kernel reads (None: NULL); room:
        memory it works in. constants: what the formula takes besides.
        """
        recording = is_grad_enabled()
        if recording and any(t is not None and t.requires_grad for t in others):
            return self.formula(*inputs, *others, *constants, code)
        recording = recording and any(t.requires_grad for t in inputs)
        dtype, work = inputs[0].dtype, inputs[0].numel()
        losses = empty(shape, dtype, like=inputs[0])
        data = (*[contiguous(t) for t in inputs], *[t if t is None else contiguous(t) for t in others])
        if recording:
            dxs = tuple([empty(t.shape, dtype, like=t) for t in inputs])
            scale = 1 / rows if code == MEAN and rows else 1
            self.fused((losses, *dxs, *room), data, dims, (*scalars, scale), rows, work)
        else:
            self.loss_only((losses, *room), data, dims, scalars, rows, work)
        y = reduced(losses, rows, code)
        if recording:
            saved = ((self.formula, versions(others), others, (*constants, code)), dxs, *inputs)
            self.op.record(y, *inputs, saved=saved)
        return y


def contiguous(t):
    t = t.detach()
    return t if t.is_contiguous() else t.clone()


def versions(others):
    """A number that grows when a target or weight is written: they are read again only if backward is recorded."""
    return sum([t._version for t in others if t is not None])


def scaled(dx, dy):
    """dx times dy, which is one number or has one for each row."""
    if dy.ndim == 0:
        return dx if always_one(dy) else dx * dy
    return dx * (dy.unsqueeze(-1) if dy.ndim < dx.ndim else dy)


def hand_on(i, dy, plan, dxs, *inputs):
    """The gradient of the i-th input; through the formula when backward is recorded."""
    if not is_grad_enabled():
        return scaled(dxs[i], dy)
    formula, version, others, constants = plan
    if version != versions(others):
        raise RuntimeError(
            "one of the variables needed for gradient computation has been modified by an inplace operation: the "
            "target or a weight of a loss"
        )
    with enable_grad():
        inputs = [view_as(t, t) for t in inputs]  # one tensor may be several inputs, each with its own gradient
        y = formula(*inputs, *others, *constants)
    return run_backward((y,), (dy,), True, True, (inputs[i],), True)[0]


# --- arguments --------------------------------------------------------------------------------------------------------


def tensors(function, **named):
    """The named tensors, of one floating dtype and on one device."""
    for name, x in named.items():
        if not isinstance(x, Tensor):
            raise TypeError(f"{function}: {name} must be a Tensor, got {type(x).__name__}")
    dtype = None
    for x in named.values():
        dtype = x.dtype if dtype is None else result_type(empty((1,), dtype), x)
    if not dtype.is_floating_point:
        dtype = default_dtype()
    return [cast(x, dtype) for x in together(*named.values())]


def integers(value, function, name="target", like=None):
    """Integers of any dtype as an int64 tensor, contiguous, without history, on the device of ``like``."""
    t = as_tensor(value, like, name)
    if t.is_floating_point():
        raise RuntimeError(f"{function}: {name} must hold integers, got {t.dtype!r}")
    return contiguous(cast(t.detach(), int64))


def check_labels(target, low, classes, function, name="target"):
    """RuntimeError, as in PyTorch, naming the first label outside [low, classes); low is 0, or -1, which is no label.

    On another device than the CPU a kernel looks, later, and it is an IndexError.
    """
    if target._device >= 0:
        room = empty((4,), float64, like=target), empty((1,), int64, like=target)
        dims = target.numel(), classes, False, -1 if low < 0 else NO_LABEL, False, False, False
        _STATS(room, (target, None), dims, (0.0,), 1, target.numel(), float32)
        return
    labels = as_numpy(target)
    wrong = (labels < low) | (labels >= classes)
    if wrong.any():
        at = tuple(int(i) for i in np.unravel_index(int(wrong.argmax()), labels.shape))
        where = f"{name}[{', '.join(map(str, at))}]" if at else name
        raise RuntimeError(f"{function}: target out of range: {where} = {labels[at]} is outside [{low}, {classes})")


def rows_of(x, function):
    """(rows, classes) of an input of shape (N, C), (C,) or ()."""
    if x.ndim > 2 or (x.ndim and x.shape[-1] == 0):
        raise RuntimeError(
            f"{function}: Expected non-empty vector or matrix with optional 0-dim batch size, but got: {list(x.shape)}"
        )
    return (x.shape[0] if x.ndim == 2 else 1), (x.shape[-1] if x.ndim else 1)


_STATS = Kernel("losses.label_stats", 0.3)
NO_LABEL = -(1 << 63)  # an ignore_index that nobody means

# --- margins over classes ---------------------------------------------------------------------------------------------

MULTI_MARGIN = RowLoss("losses_rows.multi_margin", "MultiMarginLoss", 1, 0.4, formulas.multi_margin)
MULTILABEL_MARGIN = RowLoss("losses_rows.multilabel_margin", "MultilabelMarginLoss", 1, 2, formulas.multilabel_margin)
SOFT_MARGIN = RowLoss(
    "losses_rows.multilabel_soft_margin", "MultilabelSoftMarginLoss", 1, 1, formulas.multilabel_soft_margin
)
COSINE = RowLoss("losses_rows.cosine_embedding", "CosineEmbeddingLoss", 2, 0.5, formulas.cosine_embedding)
TRIPLET = RowLoss("losses_rows.triplet", "TripletMarginLoss", 3, 0.8, formulas.triplet)


def multi_margin_loss(input, target, p=1, margin=1.0, weight=None, size_average=None, reduce=None, reduction="mean"):
    """w_t / C sum over j != t of max(0, margin - x_t + x_j)^p, t being the row's label.

    input: (N, C) or (C,), float32 or float64. target: labels in [0, C), (N,) or (), of any integer dtype. p: 1 or 2.
    weight: (C,). RuntimeError names the row of a label out of range. Source: Weston and Watkins 1999.

    >>> import minigrad as mg
    >>> mg.nn.functional.multi_margin_loss(mg.tensor([[0.1, 0.2, 0.4, 0.8]]), mg.tensor([3]))
    tensor(0.3250)
    """
    name = "multi_margin_loss"
    code = reduction_of(reduction, size_average, reduce)
    x = floating(input, name)
    if p != 1 and p != 2:
        raise ValueError("only p == 1 and p == 2 supported")
    rows, n = rows_of(x, name)
    target = integers(target, name, like=x)
    if target.ndim > 1 or target.numel() != rows:
        raise RuntimeError(
            f"{name}: target must hold one label for each row: expected size [{rows}], but got {list(target.shape)} "
            f"for input {list(x.shape)}"
        )
    if weight is not None:
        given, weight = weight, as_tensor(weight, x, "weight")
        weight = weight if isinstance(given, Tensor) else cast(weight, x.dtype)
        if weight.ndim != 1:
            raise ValueError(f"weight must be one-dimensional, got shape {list(weight.shape)}")
        if weight.shape[0] != n:
            raise RuntimeError(f"{name}: inconsistent weight size, expected {n} but got {list(weight.shape)}")
        if weight.dtype != x.dtype:
            raise RuntimeError(f"{name}: expected scalar type {x.dtype!r} for weight but found {weight.dtype!r}")
    check_labels(target, 0, n, name)
    shape, dims = target.shape, (n, weight is not None, int(p))
    x = x if x.ndim else x.reshape(1)
    return MULTI_MARGIN((x,), (target, weight), (), dims, (margin,), rows, shape, (p, margin, shape), code)


def multilabel_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """1/C sum over the row's labels t, and classes j that are none, of max(0, 1 - x_t + x_j).

    input: (N, C) or (C,). target: of the same shape, integers: a row's labels, up to its first -1. RuntimeError names
    the row of a label outside [-1, C).

    >>> import minigrad as mg
    >>> mg.nn.functional.multilabel_margin_loss(mg.tensor([[0.1, 0.2, 0.4, 0.8]]), mg.tensor([[3, 0, -1, 1]]))
    tensor(0.8500)
    """
    name = "multilabel_margin_loss"
    code = reduction_of(reduction, size_average, reduce)
    x = floating(input, name)
    rows, n = rows_of(x, name)
    target = integers(target, name, like=x)
    if target.shape != x.shape and not (x.ndim <= 1 and target.ndim <= 1 and target.numel() == n):
        raise RuntimeError(f"{name}: inconsistent target size: {list(target.shape)} for input of size: {list(x.shape)}")
    check_labels(target, -1, n, name)
    shape = x.shape[:-1]
    room = (empty((rows, n), uint8, like=x),)
    return MULTILABEL_MARGIN((x,), (target,), room, (n,), (), rows, shape, (shape,), code)


def multilabel_soft_margin_loss(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Binary cross-entropy of logits, averaged over the classes: 1/C sum_j w_j (t softplus(-x) + (1 - t) softplus(x)).

    input: logits (N, C), (C,) or (..., C). target: 0 or 1 (or between), of any dtype, and weight: both broadcast to it;
    float64 ones make the loss float64. (N, 1) against a target (N,) is refused: it would compare every row with every
    other. Logits that come straight from sigmoid or softmax get a warning at the line of the call.

    >>> import minigrad as mg
    >>> mg.nn.functional.multilabel_soft_margin_loss(mg.tensor([[0.0, 2.0]]), mg.tensor([[1, 0]]))
    tensor(1.4100)
    """
    name = "multilabel_soft_margin_loss"
    code = reduction_of(reduction, size_average, reduce)
    x = floating(input, name)
    if x.ndim == 0:
        raise IndexError(f"{name}: expected an input of 1 or more dimensions, (N, C) or (C,), got shape []")
    advice = "pass the logits, or use binary_cross_entropy"
    warn_of_probabilities(x, name, "applies sigmoid itself, so that it learns badly", advice)
    target = as_tensor(target, x)
    if (x.shape, target.shape) in (((x.numel(), 1), (x.numel(),)), ((x.numel(),), (x.numel(), 1))) and x.numel() > 1:
        raise ValueError(
            f"{name}: input {list(x.shape)} and target {list(target.shape)} would broadcast to {[x.numel()] * 2}, "
            f"comparing every row with every other; use target.{'un' * (x.ndim == 2)}squeeze(1)"
        )
    if weight is not None:
        weight = as_tensor(weight, x, "weight")
    dtype = result_type(x, target)
    dtype = dtype if weight is None else result_type(empty((1,), dtype), weight)
    x, target = cast(x, dtype), cast(target, dtype)
    weight = None if weight is None else cast(weight, dtype)
    dim, n = x.ndim - 1, x.shape[-1]
    shapes = [t.shape for t in (target, weight) if t is not None]
    if any(shape != x.shape for shape in shapes):
        named = {"input": x, "target": target} | ({} if weight is None else {"weight": weight})
        if broadcast_named(name, **named)[0].shape != x.shape:  # the rare case of a target larger than the input
            return formulas.multilabel_soft_margin(x, target, weight, dim, code)
        target = target.expand(x.shape)
        if weight is not None and weight.shape != (n,):
            weight = weight.expand(x.shape)
    shape = x.shape[:-1]
    rows = math.prod(shape)
    dims = (n, weight is not None, n if weight is not None and weight.ndim > 1 else 0)
    return SOFT_MARGIN((x,), (target, weight), (), dims, (), rows, shape, (dim,), code)


# --- pairs and triplets -----------------------------------------------------------------------------------------------


def cosine_embedding_loss(input1, input2, target, margin=0, size_average=None, reduce=None, reduction="mean"):
    """1 - cos(x1, x2) where target is 1, max(0, cos(x1, x2) - margin) where it is -1, 0 elsewhere.

    input1, input2: (N, D) or (D,). target: (N,) or (), of any dtype (bools: True is 1, False is -1). cos is computed
    with 1e-12 added to the squared lengths, as in PyTorch.

    >>> import minigrad as mg
    >>> x = mg.tensor([[3.0, 4.0], [1.0, 0.0]])
    >>> mg.nn.functional.cosine_embedding_loss(x, mg.tensor([[4.0, 3.0], [1.0, 0.0]]), mg.tensor([1, -1]))
    tensor(0.5200)
    """
    name = "cosine_embedding_loss"
    code = reduction_of(reduction, size_average, reduce)
    a, b = tensors(name, input1=input1, input2=input2)
    target = as_tensor(target, a).detach()
    if target.ndim > 1:
        raise RuntimeError(f"0D or 1D target tensor expected, multi-target not supported, got {list(target.shape)}")
    if a.ndim != target.ndim + 1 or b.ndim != a.ndim:
        raise RuntimeError(
            f"{target.ndim}D target tensor expects {target.ndim + 1}D input tensors, but found inputs with sizes "
            f"{list(a.shape)} and {list(b.shape)}."
        )
    code_of = target.long() * 2 - 1 if target.dtype is bool_ else cast(target == 1, int64) - cast(target == -1, int64)
    if a.shape != b.shape:
        wide = broadcast_named(name, input1=a, input2=b)
        if a.shape[-1] != b.shape[-1]:  # PyTorch broadcasts the product and not the lengths: so does the formula
            return formulas.cosine_embedding(a, b, code_of, margin, code)
        a, b = wide
    if a.shape[:-1] != target.shape:
        if 1 not in (a.shape[0], target.shape[0]):
            raise RuntimeError(f"{name}: target has {target.shape[0]} labels for the {a.shape[0]} rows of the inputs")
        rows = target.shape[0] if a.shape[0] == 1 else a.shape[0]
        a, b, code_of = a.expand(rows, -1), b.expand(rows, -1), code_of.expand(rows)
    shape, width = a.shape[:-1], a.shape[-1]
    rows = math.prod(shape)
    return COSINE((a, b), (code_of,), (), (width,), (margin,), rows, shape, (margin,), code)


def _check_triplet(anchor, positive, negative, margin):
    if margin <= 0:
        raise ValueError(f"margin must be greater than 0, got {margin}")
    if not anchor.ndim == positive.ndim == negative.ndim:
        raise RuntimeError(
            "The anchor, positive, and negative tensors are expected to have the same number of dimensions, but got: "
            f"anchor {anchor.ndim}D, positive {positive.ndim}D, and negative {negative.ndim}D inputs"
        )


def triplet_margin_loss(anchor, positive, negative, margin=1.0, p=2, eps=1e-6, swap=False, size_average=None,
                        reduce=None, reduction="mean"):  # fmt: skip
    """max(0, margin + d(a, p) - d(a, n)), d(x, y) being the p-norm of x - y + eps along the last dimension.

    anchor, positive, negative: (N, D), (D,) or (..., D), of shapes that broadcast. swap: take d(p, n) instead of
    d(a, n) where it is smaller. Source: Balntas et al. 2016.

    >>> import minigrad as mg
    >>> a, p, n = mg.tensor([[0.0, 0.0]]), mg.tensor([[3.0, 4.0]]), mg.tensor([[5.0, 12.0]])
    >>> mg.nn.functional.triplet_margin_loss(a, p, n, margin=10.0)
    tensor(2.0000)
    """
    name = "triplet_margin_loss"
    code = reduction_of(reduction, size_average, reduce)
    a, b, c = tensors(name, anchor=anchor, positive=positive, negative=negative)
    _check_triplet(a, b, c, margin)
    p = float(p)
    if not a.shape == b.shape == c.shape:
        wide = broadcast_named(name, anchor=a, positive=b, negative=c)
        if a.shape[-1] == b.shape[-1] == c.shape[-1]:  # else each distance has a width of its own
            a, b, c = wide
    if not p > 0 or a.ndim == 0 or not a.shape == b.shape == c.shape or (p == math.inf and a.shape[-1] == 0):
        return formulas.triplet(a, b, c, margin, p, eps, swap, code)  # also norms that no gradient descends
    shape, width = a.shape[:-1], a.shape[-1]
    rows = math.prod(shape)
    constants = (margin, p, eps, bool(swap))
    return TRIPLET((a, b, c), (), (), (width, bool(swap)), (p, margin, eps), rows, shape, constants, code)


def triplet_margin_with_distance_loss(anchor, positive, negative, *, distance_function=None, margin=1.0, swap=False,
                                      reduction="mean"):  # fmt: skip
    """max(0, margin + d(a, p) - d(a, n)) for any differentiable ``distance_function`` d of two tensors.

    ``distance_function``: takes two tensors (N, D) and gives (N,); ``pairwise_distance`` if None. swap: as in
    ``triplet_margin_loss``.

    >>> import minigrad as mg
    >>> a, p, n = mg.zeros(1, 2), mg.tensor([[3.0, 4.0]]), mg.tensor([[1.0, 1.0]])
    >>> far = lambda x, y: (x - y).abs().max(dim=1).values
    >>> mg.nn.functional.triplet_margin_with_distance_loss(a, p, n, distance_function=far)
    tensor(4.)
    """
    code = reduction_of(reduction)
    for argument, x in (("anchor", anchor), ("positive", positive), ("negative", negative)):
        if not isinstance(x, Tensor):
            raise TypeError(f"triplet_margin_with_distance_loss: {argument} must be a Tensor, got {type(x).__name__}")
    _check_triplet(anchor, positive, negative, margin)
    distance = formulas.pairwise_distance if distance_function is None else distance_function
    return formulas.hinge(anchor, positive, negative, distance, margin, swap, code)
