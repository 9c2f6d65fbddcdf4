# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Elementwise losses: ``EachLoss`` is their native path, one kernel for the loss and its gradient."""

from libc.stdint cimport int64_t

from .._engine cimport (
    Kernel, Op, Tensor, grad_enabled, needs_grad, new_like, new_tensor, record, same_shape, to_contiguous,
)
from .._launch cimport launch
from .._record cimport recorder
from .._record cimport recording as captured
from .._storage cimport CATEGORY, DTYPES, F32, F64, I64
from ._loss cimport (
    BATCH, MEAN, NONE, SUM, advise, as_tensor, code_of, element, floating, op_named, sizes, total_of, versions,
)

from .._engine import _cast as cast
from .._engine import result_type
from .._storage import int64
from . import loss_formulas as formulas
from ._warn import warn_user
from .shape import broadcast_named, broadcast_tensors

cdef Kernel BCE_CHECK = Kernel("losses_each.bce_check", 0.2)
cpdef enum:
    BLOCK = 4096  # elements a unit of the elementwise kernels, see kernels/losses_each.py


cdef class EachLoss:
    """The kernels of an elementwise loss."""
    cdef Op op
    cdef Kernel fused
    cdef Kernel loss_only
    cdef object formula
    cdef bint logits

    def __init__(self, name, op, formula, double cost, bint logits=False):
        self.op, self.formula, self.logits = op_named(op), formula, logits
        self.fused, self.loss_only = Kernel("losses_each." + name, cost), Kernel("losses_each." + name + "_loss", cost)

    cdef Tensor run(self, Tensor x, Tensor t, Tensor w, Tensor q, double constant, int reduction):
        """x and t of one shape and dtype; w, q (pos_weight, only for logits) of that shape or None."""
        cdef bint recording = grad_enabled() and needs_grad(x), each = reduction == NONE
        cdef Tensor data = to_contiguous(x), target = to_contiguous(t), weight = None, positive = None
        cdef Tensor losses = None, parts = None, dx = None, y
        cdef Py_ssize_t n = x.count, blocks = (n + BLOCK - 1) // BLOCK
        cdef Py_ssize_t[4] dims
        cdef double[2] scalars
        cdef double divisor = 1
        cdef void *bufs[7]
        cdef int at = 2
        if w is not None:
            weight = to_contiguous(w)
        if q is not None:
            positive = to_contiguous(q)
        if each:
            losses = new_like(data, data.dt)
        else:
            parts = new_tensor(F64, 1, &blocks, x.storage)
        bufs[0], bufs[1] = NULL if each else <void *>parts.ptr, <void *>losses.ptr if each else NULL
        if recording:
            dx = new_like(data, data.dt)
            bufs[2], at = dx.ptr, 3
        bufs[at], bufs[at + 1] = data.ptr, target.ptr
        bufs[at + 2] = NULL if weight is None else <void *>weight.ptr
        dims[0], dims[1], dims[2] = n, each, weight is not None
        if reduction == MEAN or reduction == BATCH:
            divisor = <double>(n if reduction == MEAN else x.shape_[0])
        scale = 1 / divisor if divisor else 1.0
        if self.logits:
            bufs[at + 3] = NULL if positive is None else <void *>positive.ptr
            dims[3] = positive is not None
            scalars[0] = scale
        else:
            scalars[0], scalars[1] = constant, scale
        kernel = self.fused if recording else self.loss_only
        launch((<Kernel>kernel).find(x.dt, x.dt, x.storage), bufs, dims, scalars, blocks, n * (<Kernel>kernel).cost)
        if each:
            y = losses
        else:
            y = total_of(parts, NULL, divisor, x.dt)
        if recording:
            record(self.op, y, (x,), (x, dx, self.formula, (versions(t, w, q), t, w, q, constant, reduction)))
        return y

    cdef object call(self, Tensor x, Tensor t, Tensor w, Tensor q, double constant, int reduction):
        """The fused kernel, or the formula where something other than x needs a gradient."""
        if grad_enabled() and (needs_grad(t) or (w is not None and needs_grad(w)) or (q is not None and needs_grad(q))):
            return self.formula(x, t, w, q, constant, reduction)
        return self.run(x, t, w, q, constant, reduction)


MSE = EachLoss("mse", "MseLoss", formulas.mse, 0.15)
BCE = EachLoss("bce", "BinaryCrossEntropy", formulas.bce, 1.2)
BCE_LOGITS = EachLoss("bce_logits", "BinaryCrossEntropyWithLogits", formulas.bce_logits, 1.0, True)
L1 = EachLoss("l1", "L1Loss", formulas.l1, 0.15)
SMOOTH_L1 = EachLoss("smooth_l1", "SmoothL1Loss", formulas.smooth_l1, 0.3)
HUBER = EachLoss("huber", "HuberLoss", formulas.huber, 0.3)
KL = EachLoss("kl", "KlDiv", formulas.kl, 0.6)
KL_LOG = EachLoss("kl_log", "KlDiv", formulas.kl_log, 0.6)
POISSON = EachLoss("poisson", "PoissonNllLoss", formulas.poisson, 0.8)
POISSON_FULL = EachLoss("poisson_full", "PoissonNllLoss", formulas.poisson_full, 1.2)
POISSON_LOG = EachLoss("poisson_log", "PoissonNllLoss", formulas.poisson_log, 0.5)
POISSON_LOG_FULL = EachLoss("poisson_log_full", "PoissonNllLoss", formulas.poisson_log_full, 1.0)
HINGE_EMBEDDING = EachLoss("hinge_embedding", "HingeEmbeddingLoss", formulas.hinge_embedding, 0.3)
SOFT_MARGIN = EachLoss("soft_margin", "SoftMarginLoss", formulas.soft_margin, 1.0)
MARGIN_RANKING = EachLoss("margin_ranking", "MarginRankingLoss", formulas.margin_ranking, 0.3)


cdef Tensor expanded(object weight, Tensor x, object dtype, str function, str name, object error=RuntimeError):
    """A weight broadcast to x's shape and converted to a dtype."""
    if weight is None:
        return None
    weight = cast(as_tensor(weight, x, name), dtype)
    try:
        return weight.expand(x.shape) if weight.shape != x.shape else weight
    except RuntimeError:
        hint = f"; use {name}.reshape({', '.join(map(str, x.shape))})" if (<Tensor>weight).count == x.count and x.nd else ""
        raise error(f"{function}: {name} of shape {sizes(weight)} does not broadcast to the input's shape {sizes(x)}{hint}"
                    ) from None


def mse_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Squared error (x - t)^2; 'mean' divides by the number of elements.

    input, target: floats of one shape (others broadcast with a warning; (N, 1) against (N,) is refused, since it would
    compare every row with every other). weight: broadcast to the input; 'mean' then divides by its sum.

    >>> import minigrad as mg
    >>> mg.nn.functional.mse_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(2.)
    """
    cdef int code = code_of(reduction, size_average, reduce)
    return distance(<EachLoss>MSE, input, target, weight, 0.0, code, "mse_loss", True)


cdef object distance(EachLoss loss, object input, object target, object weight, double constant, int code, str function,
                     bint divides):
    """A loss of two tensors and their weights; with ``divides``, 'mean' divides by the sum of the weights."""
    cdef Tensor w
    x, t = pair(input, target, function)
    if weight is None:
        return loss.call(x, t, None, None, constant, code)
    w = as_tensor(weight, x, "weight")
    if w.dt == F64 and w.nd and (<Tensor>x).dt == F32:
        x, t = cast(x, w.dtype), cast(t, w.dtype)
    w = expanded(w, input, x.dtype, function, "weight", ValueError)
    full = w if same_shape(w, x) else w.expand(x.shape)  # larger than the input if the target is
    if code == MEAN and divides:
        return loss.call(x, t, full, None, constant, SUM) / w.sum()
    return loss.call(x, t, full, None, constant, code)


cpdef tuple pair(object input, object target, str function, bint warns=True, bint integers=False):
    """Input and target of one floating dtype and one shape; ``integers``: two integer tensors become float32."""
    cdef Tensor x, t
    if not isinstance(input, Tensor):
        raise TypeError(f"{function}: input must be a Tensor, got {type(input).__name__}")
    x, t = <Tensor>input, as_tensor(target, <Tensor>input)
    if not warns and x.dt != t.dt:  # PyTorch's operations promote first (a 0-d tensor is weak), its Python expands first
        dtype = result_type(x, t)
        x, t = cast(x, dtype), cast(t, dtype)
    if not same_shape(x, t):
        if {x.nd, t.nd} == {1, 2} and x.count == t.count and x.count > 1 and 1 in (x.shape[x.nd - 1], t.shape[t.nd - 1]):
            raise ValueError(f"{function}: input {sizes(x)} and target {sizes(t)} would broadcast to [{x.count}, {x.count}], "
                             f"comparing every row with every other; use {'input' if x.nd == 2 else 'target'}.squeeze(1)")
        message = (f"Using a target size ({sizes(t)}) that is different to the input size ({sizes(x)}). This will likely "
                   "lead to incorrect results due to broadcasting. Please ensure they have the same size.")
        try:
            x, t = broadcast_tensors(x, t)
        except RuntimeError:
            raise RuntimeError(f"{function}: input {sizes(x)} and target {sizes(t)} do not broadcast") from None
        if warns:
            warn_user(message)
    if x.dt != t.dt or CATEGORY[x.dt] != 2:
        dtype = result_type(x, t)
        if integers and not dtype.is_floating_point:
            dtype = result_type(x, 1.0)
        if not dtype.is_floating_point:
            raise NotImplementedError(f"{function}: input must be floating point, got {x.dtype!r} and target {t.dtype!r}")
        x, t = cast(x, dtype), cast(t, dtype)
    return x, t


def l1_loss(input, target, size_average=None, reduce=None, reduction="mean", weight=None):
    """Absolute error |x - t|, with slope 0 where they are equal; arguments as ``mse_loss``.

    >>> import minigrad as mg
    >>> mg.nn.functional.l1_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 4.0]))
    tensor(1.)
    """
    cdef int code = code_of(reduction, size_average, reduce)
    return distance(<EachLoss>L1, input, target, weight, 0.0, code, "l1_loss", True)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", double beta=1.0):
    """(x - t)^2 / (2 beta) where d = |x - t| < beta, else d - beta/2; ``beta = 0`` is ``l1_loss``.

    input, target: as for ``mse_loss``. RuntimeError if beta is negative. Source: Girshick 2015, equation 3.

    >>> import minigrad as mg
    >>> mg.nn.functional.smooth_l1_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.5, 4.0]), reduction="none")
    tensor([0.1250, 1.5000])
    """
    cdef int code = code_of(reduction, size_average, reduce)
    if not beta >= 0:
        raise RuntimeError(f"smooth_l1_loss does not support negative values for beta, got {beta}")
    return distance(<EachLoss>(L1 if beta == 0 else SMOOTH_L1), input, target, None, beta, code, "smooth_l1_loss", False)


def huber_loss(input, target, reduction="mean", double delta=1.0, weight=None):
    """(x - t)^2 / 2 where d = |x - t| <= delta, else delta (d - delta/2).

    input, target: as for ``mse_loss``; float64 ones make the loss float64 (PyTorch keeps the input's dtype and then
    refuses backward). weight: broadcast to the input; 'mean' still divides by the number of elements. RuntimeError
    unless delta is positive. Source: Huber 1964.

    >>> import minigrad as mg
    >>> mg.nn.functional.huber_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.5, 5.0]), reduction="none", delta=2.0)
    tensor([0.1250, 4.0000])
    """
    cdef int code = code_of(reduction, None, None)
    if not delta > 0:
        raise RuntimeError(f"huber_loss does not support non-positive values for delta, got {delta}")
    return distance(<EachLoss>HUBER, input, target, weight, delta, code, "huber_loss", False)


def kl_div(input, target, size_average=None, reduce=None, reduction="mean", bint log_target=False):
    """Kullback-Leibler divergence of log-probabilities x from probabilities t: t (log t - x), elementwise.

    input, target: floats that broadcast, silently as in PyTorch, but (N, 1) against (N,) is refused. ``log_target``:
    the target holds log-probabilities. 'batchmean' divides the sum by the first size of the input and is the divergence
    of the distributions; 'mean' divides by the number of elements and warns. An element with t = 0 costs 0, also where
    x = -inf (PyTorch: nan). Source: Kullback and Leibler 1951.

    >>> import minigrad as mg
    >>> x, t = mg.tensor([[0.5, 0.5]]).log(), mg.tensor([[0.0, 1.0]])
    >>> mg.nn.functional.kl_div(x, t, reduction="batchmean")
    tensor(0.6931)
    """
    cdef bint batch = reduction == "batchmean"
    cdef EachLoss loss = <EachLoss>(KL_LOG if log_target else KL)
    cdef int code
    if size_average is not None or reduce is not None:
        code = code_of("mean", size_average, reduce)
    elif batch:
        code = BATCH
    else:
        code = code_of(reduction, None, None)
    if code == MEAN and size_average is None and reduce is None:
        warn_user(
            "reduction: 'mean' divides the total loss by both the batch size and the support size. 'batchmean' divides "
            "only by the batch size, and aligns with the KL div math definition.")
    if not isinstance(input, Tensor):
        raise TypeError(f"kl_div: input must be a Tensor, got {type(input).__name__}")
    advise(input, "kl_div", "expects logarithms of probabilities", "use log_softmax")
    t = as_tensor(target, input)
    for name, dt in (("input", (<Tensor>input).dt), ("target", (<Tensor>t).dt)):
        if CATEGORY[dt] != 2:
            raise RuntimeError(f"kl_div: Integral inputs not supported: {name} is {DTYPES[dt]!r}")
    rows = (<Tensor>input).shape_[0] if (<Tensor>input).nd else 1
    x, t = pair(input, t, "kl_div", False)
    if not batch or code == BATCH and (<Tensor>input).nd and (<Tensor>x).nd == (<Tensor>input).nd and (
            (<Tensor>x).shape_[0] == rows):
        return loss.call(x, t, None, None, 0.0, code)
    y = loss.call(x, t, None, None, 0.0, SUM if code == BATCH else code)  # of a broadcast input, or size_average given
    return y / rows if (<Tensor>input).nd else y


def poisson_nll_loss(input, target, bint log_input=True, bint full=False, size_average=None, double eps=1e-8, reduce=None,
                     reduction="mean"):
    """Negative log-likelihood of counts t of mean m: m - t log m, with m = e^x, or x if not ``log_input``.

    input, target: of any dtype (two integer tensors give a float32 loss) that broadcast, silently as in PyTorch, but
    (N, 1) against (N,) is refused. ``eps`` is added to the mean before the logarithm if not ``log_input``.
    ``full``: log t! is added where t > 1, by Stirling: t log t - t + log(2 pi t) / 2.

    >>> import minigrad as mg
    >>> mg.nn.functional.poisson_nll_loss(mg.tensor([0.0, 1.0]), mg.tensor([0.0, 2.0]), reduction="none")
    tensor([1.0000, 0.7183])
    """
    cdef int code = code_of(reduction, size_average, reduce)
    x, t = pair(input, target, "poisson_nll_loss", False, True)
    if log_input:
        return (<EachLoss>(POISSON_LOG_FULL if full else POISSON_LOG)).call(x, t, None, None, 0.0, code)
    return (<EachLoss>(POISSON_FULL if full else POISSON)).call(x, t, None, None, eps, code)


def hinge_embedding_loss(input, target, double margin=1.0, size_average=None, reduce=None, reduction="mean"):
    """x where t = 1, max(0, margin - x) where t = -1: distances of pairs that are alike or not.

    input: floats; target: of any dtype, 1 or -1 (bools: True is 1, False is -1; another number counts as both, as in
    PyTorch), not differentiated; they broadcast, silently as in PyTorch, but (N, 1) against (N,) is refused. The loss has
    the input's dtype.

    >>> import minigrad as mg
    >>> mg.nn.functional.hinge_embedding_loss(mg.tensor([0.5, 0.25]), mg.tensor([1, -1]), reduction="none")
    tensor([0.5000, 0.7500])
    """
    cdef int code = code_of(reduction, size_average, reduce)
    cdef Tensor x = floating(input, "hinge_embedding_loss", "input")
    x, t = pair(x, cast(signs(target, x).detach(), x.dtype), "hinge_embedding_loss", False)
    return (<EachLoss>HINGE_EMBEDDING).call(x, t, None, None, margin, code)


def soft_margin_loss(input, target, size_average=None, reduce=None, reduction="mean"):
    """log(1 + exp(-t x)), t = 1 or -1: two-class logistic loss. Exact where PyTorch's exponential overflows.

    input: floats; target: of any dtype (bools: True is 1, False is -1), broadcast to the input's shape. The loss has the
    input's dtype.

    >>> import minigrad as mg
    >>> mg.nn.functional.soft_margin_loss(mg.tensor([0.0, 1.0]), mg.tensor([1, -1]), reduction="none")
    tensor([0.6931, 1.3133])
    """
    cdef int code = code_of(reduction, size_average, reduce)
    cdef Tensor x = floating(input, "soft_margin_loss", "input")
    t = expanded(signs(target, x), x, x.dtype, "soft_margin_loss", "target")
    return (<EachLoss>SOFT_MARGIN).call(x, t, None, None, 0.0, code)


def margin_ranking_loss(input1, input2, target, double margin=0.0, size_average=None, reduce=None, reduction="mean"):
    """max(0, margin - t (x1 - x2)): x1 is to be the larger by ``margin`` where t = 1, x2 where t = -1.

    Three tensors of as many dimensions that broadcast, silently as in PyTorch; target of any dtype, 1 or -1 (bools: True
    is 1, False is -1). RuntimeError if the numbers of dimensions differ.

    >>> import minigrad as mg
    >>> x1, x2 = mg.tensor([1.0, 2.0]), mg.tensor([1.5, 0.0])
    >>> mg.nn.functional.margin_ranking_loss(x1, x2, mg.tensor([1, 1]), reduction="none")
    tensor([0.5000, 0.0000])
    """
    cdef int code = code_of(reduction, size_average, reduce)
    for name, value in (("input1", input1), ("input2", input2)):
        if not isinstance(value, Tensor):
            raise TypeError(f"margin_ranking_loss: {name} must be a Tensor, got {type(value).__name__}")
    cdef Tensor t = signs(target, input1), d
    if (<Tensor>input1).nd != (<Tensor>input2).nd or (<Tensor>input1).nd != t.nd:
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: "
                           f"input1: {sizes(input1)}, input2: {sizes(input2)}, target: {sizes(t)}"
                           + (f"; use target.reshape({', '.join(map(str, input1.shape))})"
                              if same_shape(input1, input2) and t.count == (<Tensor>input1).count and t.nd else ""))
    if not same_shape(input1, input2):
        input1, input2 = broadcast_named("margin_ranking_loss", input1=input1, input2=input2)
    d, t = pair(input1 - input2, t, "margin_ranking_loss", False, True)
    return (<EachLoss>MARGIN_RANKING).call(d, t, None, None, margin, code)


cdef Tensor signs(object target, Tensor x):
    """A target of 1 and -1; bools would be read as 1 and 0."""
    cdef Tensor t = as_tensor(target, x)
    return cast(t, int64) * 2 - 1 if CATEGORY[t.dt] == 0 else t


cdef int check_sizes(Tensor x, Tensor t, str function) except -1:
    if not same_shape(x, t):
        hint = ""
        if x.count == t.count:
            hint = f"; use target.reshape({', '.join(map(str, x.shape))})" if x.nd else "; use target.squeeze()"
        raise ValueError(f"{function}: target size {sizes(t)} must be the same as input size {sizes(x)}{hint}")
    return 0


def binary_cross_entropy(input, target, weight=None, size_average=None, reduce=None, reduction="mean"):
    """Binary cross-entropy of probabilities: -(t log p + (1 - t) log(1 - p)), logs clamped at -100 as in PyTorch.

    input: probabilities in [0, 1]; target in [0, 1], any dtype, same shape; weight broadcasts. RuntimeError names the
    first element outside the range. For logits use binary_cross_entropy_with_logits: it is exact where this is not.

    >>> import minigrad as mg
    >>> mg.nn.functional.binary_cross_entropy(mg.tensor([0.5, 0.9]), mg.tensor([1.0, 1.0]))
    tensor(0.3993)
    """
    cdef int code = code_of(reduction, size_average, reduce)
    cdef Tensor x = floating(input, "binary_cross_entropy", "input"), t, xc, tc
    cdef int64_t[2] room
    cdef int64_t *bad = room
    cdef void *bufs[3]
    cdef Py_ssize_t[1] dims
    cdef Py_ssize_t two = 2
    cdef Tensor kept
    t = cast(as_tensor(target, x), x.dtype)
    check_sizes(x, t, "binary_cross_entropy")
    if x.count:
        xc, tc = to_contiguous(x), to_contiguous(t)
        if x.storage.device >= 0 or (recorder is not None and captured()):
            kept = new_tensor(I64, 1, &two, x.storage)
            bad = <int64_t *>kept.ptr
        bufs[0], bufs[1], bufs[2], dims[0] = bad, xc.ptr, tc.ptr, x.count
        launch(BCE_CHECK.find(x.dt, x.dt, x.storage), bufs, dims, NULL, 1, x.count * BCE_CHECK.cost)
        if x.storage.device < 0 and recorder is not None and captured():
            recorder.expect(bad, 16)
        for i, name, v in ((0, "input", x), (1, "target", t)) if x.storage.device < 0 else ():  # see label_losses.pyx, DESIGN c
            if bad[i] >= 0:
                raise RuntimeError(f"all elements of {name} should be between 0 and 1: {element(name, bad[i], v.shape)} = "
                                   f"{v.reshape(-1)[bad[i]].item()}")
    w = expanded(weight, x, x.dtype, "binary_cross_entropy", "weight")
    return (<EachLoss>BCE).call(x, t, w, None, 0.0, code)


def binary_cross_entropy_with_logits(input, target, weight=None, size_average=None, reduce=None, reduction="mean",
                                     pos_weight=None):
    """Binary cross-entropy of logits: w (q t softplus(-x) + (1 - t) softplus(x)), exact at infinite logits.

    input: logits; target: same shape, any dtype (float64 makes the loss float64); weight and pos_weight (q) broadcast to
    it. 'mean' divides by the number of elements, also with weights. A logit of inf is a probability of 1: with target 1 its
    loss is 0, with target 0 it is inf with slope 1; -inf likewise (PyTorch: nan in three of the four). Logits that come
    straight from sigmoid or softmax get a warning at the line of the call.

    >>> import minigrad as mg
    >>> mg.nn.functional.binary_cross_entropy_with_logits(mg.tensor([1.0, 2.0]), mg.tensor([1, 0]))
    tensor(1.2201)
    """
    cdef int code = code_of(reduction, size_average, reduce)
    cdef Tensor x = floating(input, "binary_cross_entropy_with_logits", "input")
    advise(x, "binary_cross_entropy_with_logits", "applies sigmoid itself, so that it learns badly",
           "pass the logits, or use binary_cross_entropy")
    t = as_tensor(target, x)
    if (<Tensor>t).dt == F64 and x.dt == F32:
        x = cast(x, t.dtype)
    t = cast(t, x.dtype)
    check_sizes(x, t, "binary_cross_entropy_with_logits")
    w = expanded(weight, x, x.dtype, "binary_cross_entropy_with_logits", "weight")
    q = expanded(pos_weight, x, x.dtype, "binary_cross_entropy_with_logits", "pos_weight")
    return (<EachLoss>BCE_LOGITS).call(x, t, w, q, 0.0, code)
