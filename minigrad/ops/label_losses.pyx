# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Cross-entropy and negative log-likelihood, of labels or of class probabilities.

DESIGN
a. ``LabelLoss`` is the native path: a unit is a row of classes. ``probabilities`` is the same for soft targets.
b. Labels may be of any integer or bool dtype, arrays or lists.
c. What depends on labels, such as a mean's divisor, is computed by a kernel and read by the next ones, so that replayed
   programs and other devices need nobody to look at it. On another device nobody waits for the check of labels either: its
   kernel notes what is wrong, rows of such labels do not count, and the next loss or copy to the host raises.
"""

from libc.stdint cimport int64_t

from .._engine cimport (
    Kernel, Op, Tensor, grad_enabled, needs_grad, new_like, new_tensor, record, same_shape, strided_view, to_contiguous,
)
from .._launch cimport launch
from .._record cimport recorder
from .._record cimport recording as captured
from .._storage cimport CATEGORY, DTYPES, F32, F64, I64, ITEMSIZE, Storage, devices
from ._loss cimport (
    MEAN, NONE, SUM, ZERO, advise, as_tensor, code_of, element, op_named, reduced, sizes, total_of, versions, zero_of,
)

from .._engine import _cast as cast
from .._storage import int64
from . import loss_formulas as formulas

cdef Kernel LABEL_STATS = Kernel("losses.label_stats", 0.3)


cdef int look(double *stats, Tensor target, Tensor weight, Py_ssize_t classes, Py_ssize_t ignore_index, double smoothing,
              bint smooths, int reduction, int dt, object shape) except -1:
    """Five numbers that losses of rows need, by the kernel label_stats: see there; the last is the row of a label that is
    out of range. target (N,) contiguous int64. IndexError, or, on another device, a note for whoever synchronises."""
    cdef Storage on = target.storage
    cdef int64_t *bad = <int64_t *>(stats + 4)
    cdef Py_ssize_t[7] dims
    cdef void *bufs[4]
    if on.device >= 0:
        devices.raise_errors(on.device)
    bufs[0], bufs[1], bufs[2], bufs[3] = stats, bad, target.ptr, NULL if weight is None else weight.ptr
    dims[0], dims[1], dims[2], dims[3] = target.count, classes, weight is not None, ignore_index
    dims[4], dims[5], dims[6] = reduction == MEAN or reduction == ZERO, smooths, reduction == ZERO
    launch(LABEL_STATS.find(dt, dt, on), bufs, dims, &smoothing, 1, target.count * LABEL_STATS.cost)
    if on.device >= 0:
        return 0
    if recorder is not None and captured():
        recorder.expect(bad, 8)
    if bad[0] >= 0:
        raise_label(target, bad[0], classes, target.shape if shape is None else shape)
    return 0


cdef Py_ssize_t FEW = 128  # classes, of which rows are taken together: kernels/losses.py
cdef Py_ssize_t FAR = 8 << 20  # bytes of a gradient that no cache keeps: kernels/losses_parts.py


cdef class LabelLoss:
    """The kernels of a loss whose unit is a row (N, C) -> (N,), by integer label."""
    cdef Op op
    cdef Kernel fused
    cdef Kernel loss_only
    cdef Kernel far  # fused, for a gradient that no cache keeps, if there is one
    cdef object formula
    cdef str name
    cdef bint smooths

    def __init__(self, name, op, formula, double cost, bint smooths):
        self.name, self.op, self.formula, self.smooths = name, op_named(op), formula, smooths
        self.fused = Kernel("losses." + name, cost)
        self.loss_only = Kernel("losses." + name + "_loss", cost)
        self.far = Kernel("losses." + name + "_far", cost) if smooths else None

    cdef int compute(self, Tensor losses, Tensor dx, Tensor x, Tensor target, Tensor w, Py_ssize_t ignore_index,
                     double *scalars) except -1:
        """The losses of rows and, unless dx is None, their gradient; all contiguous. The scalars are label_stats's."""
        cdef Kernel kernel = self.loss_only if dx is None else self.fused
        cdef Py_ssize_t[3] dims
        cdef void *bufs[5]
        cdef int at = 1
        bufs[0] = losses.ptr
        if dx is not None:
            bufs[1], at = dx.ptr, 2
            if self.far is not None and x.shape_[1] > FEW and x.count * ITEMSIZE[x.dt] >= FAR and (
                    x.storage.device < 0 and scalars[0] == 0):
                kernel = self.far
        bufs[at], bufs[at + 1], bufs[at + 2] = x.ptr, target.ptr, NULL if w is None else w.ptr
        dims[0], dims[1], dims[2] = x.shape_[1], w is not None, ignore_index
        return launch(kernel.find(x.dt, x.dt, x.storage), bufs, dims, scalars, x.shape_[0], x.count * kernel.cost)

    cdef Tensor run(self, Tensor x, Tensor target, Tensor weight, Py_ssize_t ignore_index, double smoothing,
                    int reduction, object label_shape):
        """x (N, C), target (N,) int64 and weight (C,), checked for shape and dtype; target contiguous."""
        cdef Py_ssize_t rows = x.shape_[0], five = 5
        cdef bint recording = grad_enabled() and needs_grad(x)
        cdef double[5] room
        cdef double *stats = room
        cdef Tensor data = to_contiguous(x), losses, dx = None, w = None, kept, y
        if weight is not None:
            w = to_contiguous(weight)
        if x.storage.device >= 0 or (recorder is not None and captured()):
            kept = new_tensor(F64, 1, &five, x.storage)  # the stack is gone when the calls are made, or made again
            stats = <double *>kept.ptr
        look(stats, target, w, x.shape_[1], ignore_index, smoothing, self.smooths, reduction, x.dt, label_shape)
        if weight is not None and grad_enabled() and needs_grad(weight):
            return self.formula(x, target, weight, ignore_index, smoothing, reduction)
        losses = new_tensor(x.dt, 1, &rows, x.storage)
        if recording:
            dx = new_like(data, data.dt)
        self.compute(losses, dx, data, target, w, ignore_index, stats + 2)
        y = losses if reduction == NONE else total_of(losses, NULL if reduction == SUM else stats, 1, x.dt)
        if recording:
            record(self.op, y, (x,), (x, dx, self.formula, (versions(target, w, None), target, w, ignore_index, smoothing,
                                                              reduction)))
        return y


cpdef Tensor label_stats(Tensor target, Tensor weight, Py_ssize_t classes, Py_ssize_t ignore_index, double smoothing,
                         int reduction, object dtype):
    """What ``label_losses`` and ``reduced_by`` need of labels, a tensor of five numbers. target: contiguous int64, of any
    shape; weight: contiguous, or None. IndexError as in ``cross_entropy``."""
    cdef Py_ssize_t five = 5
    cdef Tensor stats = new_tensor(F64, 1, &five, target.storage)
    look(<double *>stats.ptr, target, weight, classes, ignore_index, smoothing, True, reduction, DTYPES.index(dtype), None)
    return stats


cpdef int label_losses(Tensor losses, Tensor dx, Tensor x, Tensor target, Tensor weight, Py_ssize_t ignore_index,
                       Tensor stats) except -1:
    """Cross-entropy's losses (N,) of logits (N, C) and, unless dx is None, the gradient; into memory that is there."""
    return (<LabelLoss>CE).compute(losses, dx, x, target, weight, ignore_index, <double *>stats.ptr + 2)


cpdef int raise_label(Tensor target, Py_ssize_t bad, Py_ssize_t classes, object shape) except -1:
    """IndexError naming the label, its place and the range. target: contiguous int64."""
    value = (<int64_t *>target.ptr)[bad]
    raise IndexError(f"Target {value} is out of bounds: {element('target', bad, shape)} = {value} is outside "
                     f"[0, {classes})")


CE = LabelLoss("cross_entropy", "CrossEntropy", formulas.cross_entropy, 0.6, True)
NLL = LabelLoss("nll", "NllLoss", formulas.nll_loss, 0.15, False)


cdef Tensor labels(Tensor target):
    """Integer labels as a contiguous int64 tensor."""
    return to_contiguous(target if target.dt == I64 else cast(target, int64))


cdef Tensor class_weight(object weight, Tensor x, Py_ssize_t classes):
    """The class weights, checked."""
    if weight is None:
        return None
    cdef Tensor w = as_tensor(weight, x, "weight")
    if w.dt != x.dt and not isinstance(weight, Tensor):
        w = cast(w, x.dtype)
    if w.nd != 1 or w.shape_[0] != classes:
        raise RuntimeError(f"weight tensor should be defined either for all {classes} classes or no classes but got weight "
                           f"tensor of shape: {sizes(w)}")
    if w.dt != x.dt:
        raise RuntimeError(f"expected scalar type {x.dtype!r} for weight but found {w.dtype!r}")
    return w


def cross_entropy(input, target, weight=None, size_average=None, Py_ssize_t ignore_index=-100, reduce=None,
                  reduction="mean", double label_smoothing=0.0, *, all_ignored="nan"):
    """Cross-entropy of logits and class labels or class probabilities.

    input: logits (N, C), (C,) or (N, C, d1, ...), float32 or float64. target: labels in [0, C), of any integer or bool
    dtype, (N,), () or (N, d1, ...); or probabilities, floating point, of input's shape. weight: (C,).
    Loss of a row: w_t (log(sum(exp(x))) - x_t); 'mean' divides by the sum of the weights of the rows that are not
    ``ignore_index`` (by their number for probabilities). Label smoothing mixes the target with the uniform
    distribution. Probabilities and weights may require grad; float64 ones make the loss float64 if the target is
    probabilities. IndexError names the row of a label out of range. Logits that come straight from softmax or sigmoid get
    a warning at the line of the call.
    all_ignored: what 'mean' gives for a batch in which no row counts (all are ``ignore_index``, or there are none):
    'nan', as in PyTorch, or 'zero'. The gradients are 0 in either case.
    Source: Bishop 2006, section 4.3.4; Szegedy et al. 2016, section 7.

    >>> import minigrad as mg
    >>> x = mg.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]])
    >>> mg.nn.functional.cross_entropy(x, mg.tensor([0, 1, 1]))
    tensor(0.5224)
    >>> mg.nn.functional.cross_entropy(x, [-100, -100, -100], all_ignored="zero")
    tensor(0.)
    """
    cdef Tensor x, t
    cdef bint zero = zero_of(all_ignored)
    cdef int code = code_of(reduction, size_average, reduce)
    if not isinstance(input, Tensor):
        raise TypeError(f"cross_entropy: input must be a Tensor, got {type(input).__name__}")
    x = <Tensor>input
    advise(x, "cross_entropy", "applies log_softmax itself, so that it learns badly", "pass the logits")
    if isinstance(target, Tensor) and (<Tensor>target).dt == I64 and (<Tensor>target).nd == 1 and x.nd == 2 and (
            weight is None and (<Tensor>target).contiguous and (<Tensor>target).shape_[0] == x.shape_[0]
            and CATEGORY[x.dt] == 2 and x.shape_[1] > 0 and label_smoothing == 0
            and (<Tensor>target).storage.device == x.storage.device):
        return (<LabelLoss>CE).run(x, <Tensor>target, None, ignore_index, 0.0, ZERO if zero and code == MEAN else code, None)
    if CATEGORY[x.dt] != 2:
        raise NotImplementedError(f"cross_entropy: logits must be floating point, got {x.dtype!r}")
    if not 0 <= label_smoothing <= 1:
        raise RuntimeError(f"label_smoothing must be between 0.0 and 1.0. Got: {label_smoothing}")
    t = as_tensor(target, x)
    if CATEGORY[t.dt] == 2:
        if x.nd and same_shape(t, x):
            return probabilities(x, t, weight, ignore_index, SUM if zero and code == MEAN and x.count == 0 else code,
                                 label_smoothing)
        raise RuntimeError(
            f"cross_entropy: target has dtype {t.dtype!r} and shape {sizes(t)}: class labels must be integers; class "
            f"probabilities must have the input's shape {sizes(x)}")
    return of_labels(<LabelLoss>CE, x, t, weight, ignore_index, label_smoothing, code, zero, "cross_entropy")


def nll_loss(input, target, weight=None, size_average=None, Py_ssize_t ignore_index=-100, reduce=None,
             reduction="mean", *, all_ignored="nan"):
    """Negative log-likelihood of log-probabilities and class labels: -w_t x_t a row.

    Shapes, labels, weights, reductions and ``all_ignored`` as in ``cross_entropy``, of which it is the second half
    after ``log_softmax``. The values of the input are not checked, but probabilities straight from softmax or sigmoid get a
    warning at the line of the call.

    >>> import minigrad as mg
    >>> mg.nn.functional.nll_loss(mg.tensor([[-1.0, -2.0], [-0.5, -3.0]]), mg.tensor([0, 1]))
    tensor(2.)
    """
    cdef int code = code_of(reduction, size_average, reduce)
    if not isinstance(input, Tensor):
        raise TypeError(f"nll_loss: input must be a Tensor, got {type(input).__name__}")
    if CATEGORY[(<Tensor>input).dt] != 2:
        raise NotImplementedError(f"nll_loss: input must be floating point, got {input.dtype!r}")
    advise(<Tensor>input, "nll_loss", "expects logarithms of probabilities",
           "use log_softmax, or pass the logits to cross_entropy")
    target = as_tensor(target, input)
    if CATEGORY[(<Tensor>target).dt] == 2:
        raise RuntimeError(f"nll_loss: target must hold integer class labels, got {target.dtype!r}")
    return of_labels(<LabelLoss>NLL, input, target, weight, ignore_index, 0.0, code, zero_of(all_ignored), "nll_loss")


cdef object of_labels(LabelLoss loss, Tensor x, Tensor target, object weight, Py_ssize_t ignore_index, double smoothing,
                      int code, bint zero, str name):
    """Any allowed shape, brought to (N, C) and (N,)."""
    cdef int at = 0 if x.nd == 1 else 1
    cdef Py_ssize_t classes
    cdef Tensor w, rows
    cdef int i
    if x.nd == 0:
        raise ValueError(f"{name}: expected an input of 1 or more dimensions, (C,) or (N, C, ...), got shape []")
    classes = x.shape_[at]
    if x.nd == 1 and target.nd == 1:
        if target.shape_[0] != 1:
            raise ValueError(f"For 1D input, 1D target must have size 1, but got target size: {target.shape[0]}")
        target = target.reshape(())
    if target.nd == x.nd and same_shape(x, target) and x.nd > 1:
        raise RuntimeError(f"Expected floating point type for target with class probabilities, got {target.dtype!r}; for "
                           f"class labels use target.argmax(1)")
    if at and (target.nd == 0 or x.shape_[0] != target.shape_[0]):
        raise ValueError(f"Expected input batch_size ({x.shape[0]}) to match target batch_size "
                         f"({target.shape[0] if target.nd else 0}).")
    for i in range(2, x.nd):
        if target.nd == x.nd - 1 and x.shape_[i] != target.shape_[i - 1]:
            at = -1
    if target.nd != x.nd - 1 or at < 0:
        hint = "; squeeze the target: target.squeeze(1)" if target.nd == x.nd and target.shape_[1] == 1 else ""
        raise RuntimeError(f"{name}: Expected target size {sizes(x)[:1] + sizes(x)[2:]} for an input of shape {sizes(x)} "
                           f"(N, C, ...), got {sizes(target)}{hint}")
    if classes == 0 and target.count:
        raise IndexError(f"{name}: target is out of bounds: input of shape {sizes(x)} has no classes")
    w = class_weight(weight, x, classes)
    shape = target.shape
    rows = x
    if x.nd == 1:
        rows = x.unsqueeze(0)
    elif x.nd > 2:
        rows = x.movedim(1, -1).reshape(target.count, classes)
    target = labels(target)
    y = loss.run(rows, target if target.nd == 1 else flat(target), w, ignore_index, smoothing,
                 ZERO if zero and code == MEAN else code, shape)
    return y.reshape(shape) if code == NONE and x.nd != 2 else y


cdef Tensor flat(Tensor x):
    """Contiguous x in one dimension, unrecorded."""
    cdef Py_ssize_t[1] size
    cdef Py_ssize_t[1] step
    size[0], step[0] = x.count, 1
    return strided_view(x, 1, size, step, 0)


cdef Kernel PROBS = Kernel("losses.cross_entropy_probs", 0.8), PROBS_LOSS = Kernel("losses.cross_entropy_probs_loss", 0.6)
cdef Op PROBS_OP = op_named("CrossEntropyProbs")


cdef object probabilities(Tensor x, Tensor target, object weight, Py_ssize_t ignore_index, int code, double smoothing):
    """Cross-entropy against class probabilities."""
    cdef int at = 0 if x.nd == 1 else 1
    cdef Py_ssize_t classes = x.shape_[at], count
    cdef Tensor w, rows, t = target, data, td, wd = None, losses, dx = None, y
    cdef Py_ssize_t[3] dims
    cdef double[2] scalars
    cdef void *bufs[6]
    cdef bint recording
    if ignore_index >= 0:
        raise RuntimeError("ignore_index is not supported for floating point target")
    if classes == 0:
        raise IndexError(f"cross_entropy: input of shape {sizes(x)} has no classes")
    w = None if weight is None else as_tensor(weight, x, "weight")
    if w is not None and CATEGORY[w.dt] != 2:
        w = cast(w, x.dtype)
    if x.dt != t.dt or (w is not None and w.dt != x.dt):
        dtype = DTYPES[F64 if F64 in (x.dt, t.dt) or (w is not None and w.dt == F64) else F32]
        x, t, w = cast(x, dtype), cast(t, dtype), None if w is None else cast(w, dtype)
    w = class_weight(w, x, classes)
    rows = x
    shape = [x.shape[i] for i in range(x.nd) if i != at]
    if x.nd != 2:
        count = x.count // classes
        rows, t = (v.unsqueeze(0) if v.ndim == 1 else v.movedim(1, -1).reshape(count, classes) for v in (x, t))
    if grad_enabled() and (needs_grad(t) or (w is not None and needs_grad(w))):
        y = formulas.cross_entropy_probs(rows, t, w, smoothing, code)
        return y.reshape(shape) if code == NONE else y
    recording = grad_enabled() and needs_grad(rows)
    data, td = to_contiguous(rows), to_contiguous(t)
    if w is not None:
        wd = to_contiguous(w)
    count = data.shape[0]
    losses = new_tensor(x.dt, 1, &count, x.storage)
    # 'mean' divides by the batch size, also with further dimensions (count rows each weigh the same)
    divisor = count if code == MEAN else 1
    scalars[0], scalars[1] = smoothing, 1 / <double>divisor if divisor else 0
    if recording:
        dx = new_like(data, x.dt)
        bufs[0], bufs[1], bufs[2], bufs[3], bufs[4] = losses.ptr, dx.ptr, NULL, data.ptr, td.ptr
        bufs[5] = NULL if wd is None else wd.ptr
        dims[0], dims[1], dims[2] = classes, 0, w is not None
        launch(PROBS.find(x.dt, x.dt, x.storage), bufs, dims, scalars, count, <double>count * classes * PROBS.cost)
    else:
        bufs[0], bufs[1], bufs[2], bufs[3] = losses.ptr, data.ptr, td.ptr, NULL if wd is None else wd.ptr
        dims[0], dims[1] = classes, w is not None
        launch(PROBS_LOSS.find(x.dt, x.dt, x.storage), bufs, dims, scalars, count, <double>count * classes * PROBS_LOSS.cost)
    y = reduced(losses, count, code, x)
    if recording:
        record(PROBS_OP, y, (rows,), (rows, dx, formulas.cross_entropy_probs,
                                     (versions(t, w, None), t, w, smoothing, code)))
    return y.reshape(shape) if code == NONE and x.nd != 2 else y
