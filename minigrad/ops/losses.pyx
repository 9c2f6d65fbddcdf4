# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""Losses: one kernel computes the loss and its gradient; backward hands the gradient on.

DESIGN
a. Two native paths cover the losses here: ``LabelLoss`` (a unit is a row of classes: cross_entropy, nll) and
   ``EachLoss`` (elementwise: mse, bce, bce_logits, ...); ``probabilities`` is the first for soft targets. When the
   input needs a gradient the fused kernel writes it, already divided by what the reduction divides by, and the node
   saves it; under no_grad the loss-only twin runs.
b. The rule multiplies by the incoming gradient unless that is one number equal to 1.
c. When backward is recorded (create_graph), or when the target or a weight needs a gradient, the loss is computed by
   its formula in differentiable operations instead (loss_formulas.py): any order of derivative, for the time it takes.
d. A mistake that runs and learns badly (an activation that the loss applies itself, before it) is seen from the
   operation that filled the input's memory, which costs a comparison, and gets a warning at the user's line.
e. Everything is validated here, before a kernel runs: kernels never raise. Labels may be of any integer or bool dtype,
   arrays or lists.
f. What depends on labels, such as a mean's divisor, is computed by a kernel and read by the next ones, so that replayed
   programs and other devices need nobody to look at it. On another device nobody waits for the check of labels either: its
   kernel notes what is wrong, rows of such labels do not count, and the next loss or copy to the host raises.
"""

from libc.stdint cimport int64_t

from .._engine cimport (
    Kernel, Op, Tensor, beside, grad_enabled, always_one, made_by, needs_grad, new_like, new_tensor, record,
    strided_view, to_contiguous,
)
from .._launch cimport launch
from .._record cimport recorder
from .._record cimport recording as captured
from .._storage cimport CATEGORY, DTYPES, F32, F64, I64, ITEMSIZE, Storage, devices, refuse_mixed


from .._engine import _cast as cast
from .._engine import operand, result_type
from .._gradmode import enable_grad
from .._storage import int64
from .._walk import run_backward
from . import loss_formulas as formulas
from ._warn import warn_user
from .pointwise import sigmoid
from .reduce.softmaxes import SOFTMAX as _softmax
from .shape import broadcast_named, broadcast_tensors

cdef Op SIGMOID = sigmoid, SOFTMAX = _softmax
cdef Kernel LABEL_STATS = Kernel("losses.label_stats", 0.3), BCE_CHECK = Kernel("losses_each.bce_check", 0.2)
cpdef enum:
    BLOCK = 4096  # elements a unit of the elementwise kernels, see kernels/losses_each.py
cpdef enum:
    NONE = 0
    MEAN = 1
    SUM = 2
    BATCH = 3  # kl_div's 'batchmean': the sum divided by the first size
    ZERO = 4  # the mean, but 0 of no rows


cpdef object reduction_name(object reduction, object size_average=None, object reduce=None):
    """``reduction``, or what PyTorch makes of the deprecated ``size_average`` and ``reduce``, with its warning."""
    if size_average is None and reduce is None:
        return reduction
    average, reduced = [True if v is None else v for v in (size_average, reduce)]
    reduction = "none" if not reduced else "mean" if average else "sum"
    warn_user(f"size_average and reduce args will be deprecated, please use reduction='{reduction}' instead.")
    return reduction


cpdef int reduction_of(object reduction, object size_average=None, object reduce=None) except -1:
    """The reduction's code."""
    reduction = reduction_name(reduction, size_average, reduce)
    if reduction == "mean":
        return MEAN
    if reduction == "sum":
        return SUM
    if reduction == "none":
        return NONE
    raise ValueError(f"{reduction} is not a valid value for reduction: use 'mean', 'sum' or 'none'")


cdef list sizes(Tensor x):
    """The shape for messages."""
    return [x.shape_[i] for i in range(x.nd)]


cpdef Tensor as_tensor(object value, Tensor x=None, str name="target"):
    """A target or weight as a tensor. Lists and numbers take the dtype of x, if there is one, without going through
    float32, and its device; an empty list holds integers. An exception says which argument, ``name``, is none."""
    cdef Tensor found
    if isinstance(value, Tensor):
        found = <Tensor>value
        if x is not None and found.storage.device != x.storage.device:
            if found.nd or found.storage.device >= 0:
                refuse_mixed(x.storage.device, found.storage.device)
            return beside(found, x.storage)
        return found
    if value is None:
        raise TypeError(f"{name} must be a Tensor, an array, a list or a number, got NoneType")
    try:
        if not isinstance(value, (list, tuple, float)):
            found = operand(value)
        else:
            import numpy

            found = operand(numpy.asarray(value))
            if found.count == 0:
                found = cast(found, int64)
            elif x is not None and found.dt == F64 and CATEGORY[x.dt] == 2:
                found = cast(found, x.dtype)
    except (TypeError, ValueError) as problem:
        raise type(problem)(f"{name} is no tensor: {problem}") from None
    return found if x is None else beside(found, x.storage)

cdef Kernel TOTAL = Kernel("losses.total", 0.3)


cdef Tensor total_of(Tensor parts, double *divisor, double n, int dt):
    """The sum of ``parts``, divided by what ``divisor`` points to, or by n if that is NULL, as a tensor of dtype ``dt``."""
    cdef Tensor y = new_tensor(dt, 0, NULL, parts.storage)
    cdef void *bufs[3]
    cdef Py_ssize_t[2] dims
    bufs[0], bufs[1], bufs[2], dims[0], dims[1] = y.ptr, parts.ptr, divisor, parts.count, divisor != NULL
    launch(TOTAL.find(dt, parts.dt, y.storage), bufs, dims, &n, 1, parts.count * TOTAL.cost)
    return y


cpdef Tensor reduced(Tensor losses, Py_ssize_t n, int code, Tensor like=None):
    """Losses, or parts of their sum, as one number, of the dtype of ``like`` (default: theirs); 'mean' divides by n."""
    cdef int dt = (losses if like is None else like).dt
    if code == NONE:
        return losses
    return total_of(losses, NULL, 1 if code == SUM else n, dt)


cpdef Tensor reduced_by(Tensor losses, int code, Tensor stats):
    """The same for losses of rows, whose mean divides by a number of ``label_stats``."""
    if code == NONE:
        return losses
    return total_of(losses, NULL if code == SUM else <double *>stats.ptr, 1, losses.dt)


cdef inline int advise(Tensor x, str function, str expected, str advice) except -1:
    """``warn_of_probabilities`` where it may have to."""
    if x.storage.made_by != NULL or x.node is not None:
        warn_of_probabilities(x, function, expected, advice)
    return 0


cpdef int warn_of_probabilities(Tensor x, str function, str expected, str advice) except -1:
    """Warn if x holds probabilities, straight from sigmoid or softmax, where ``function`` expects something else."""
    if made_by(x, SIGMOID) or made_by(x, SOFTMAX):
        name = "sigmoid" if made_by(x, SIGMOID) else "softmax"
        warn_user(f"{function}: the input is the output of {name}, but {function} {expected}; {advice}")
    return 0


cpdef bint zero_of(object all_ignored) except -1:
    """Whether ``all_ignored`` asks for a loss of 0."""
    if all_ignored == "nan":
        return False
    if all_ignored == "zero":
        return True
    raise ValueError(f"all_ignored must be 'nan' or 'zero', got {all_ignored!r}")


# --- backward: hand the saved gradient on -------------------------------------------------------------------------------


cdef int64_t versions(Tensor t, Tensor w, Tensor q) noexcept:
    """A number that grows when a target or weight is written: they are read again only if backward is recorded."""
    return (t.storage.version + (0 if w is None else w.storage.version) + (0 if q is None else q.storage.version))


def dloss(Tensor dy, Tensor x, Tensor dx, formula, arguments):
    """The gradient that the forward pass computed, times dy; recomputed by the formula when backward is recorded."""
    if grad_enabled():
        version, *arguments = arguments
        if version != sum([(<Tensor>a).storage.version for a in arguments if isinstance(a, Tensor)]):
            raise RuntimeError("one of the variables needed for gradient computation has been modified by an inplace "
                               "operation: the target or a weight of a loss")
        with enable_grad():
            y = formula(x, *arguments)
        return run_backward((y,), (dy,), True, True, (x,), True)[0]
    if dy.nd == 0:
        return dx if always_one(dy) else dx * dy
    return dx * (dy if dy.nd == dx.nd else dy.unsqueeze(-1))


LOSS = Op("Loss", dloss)
cdef dict OPS = {}


cdef Op op_named(str name):
    found = OPS.get(name)
    if found is None:
        found = OPS[name] = Op(name, dloss)
    return <Op>found


# --- losses of rows: cross-entropy and negative log-likelihood -----------------------------------------------------------


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


cdef str element(str name, Py_ssize_t at, object shape):
    """``name[i, j]``: the element of a flat index; of a 0-d tensor the name."""
    place = []
    for size in reversed(shape):
        place.append(str(at % size))
        at //= size
    return f"{name}[{', '.join(reversed(place))}]" if place else name


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
    cdef int code = MEAN if reduction == "mean" and size_average is None and reduce is None else reduction_of(
        reduction, size_average, reduce)
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
        if x.nd and same(t, x):
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
    cdef int code = reduction_of(reduction, size_average, reduce)
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


cdef bint same(Tensor a, Tensor b):
    cdef int i
    for i in range(a.nd):
        if a.shape_[i] != b.shape_[i]:
            return False
    return a.nd == b.nd


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
    if target.nd == x.nd and same(x, target) and x.nd > 1:
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
cdef Op PROBS_OP = Op("CrossEntropyProbs", dloss)


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


# --- elementwise losses ---------------------------------------------------------------------------------------------------


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


cpdef Tensor floating(object value, str function, str name="input"):
    """``value``, if it is a floating tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: {name} must be a Tensor, got {type(value).__name__}")
    if CATEGORY[(<Tensor>value).dt] != 2:
        raise NotImplementedError(f"{function}: {name} must be floating point, got {value.dtype!r}")
    return <Tensor>value


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
    cdef int code = reduction_of(reduction, size_average, reduce)
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
    full = w if same(w, x) else w.expand(x.shape)  # larger than the input if the target is
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
    if not same(x, t):
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
    cdef int code = reduction_of(reduction, size_average, reduce)
    return distance(<EachLoss>L1, input, target, weight, 0.0, code, "l1_loss", True)


def smooth_l1_loss(input, target, size_average=None, reduce=None, reduction="mean", double beta=1.0):
    """(x - t)^2 / (2 beta) where d = |x - t| < beta, else d - beta/2; ``beta = 0`` is ``l1_loss``.

    input, target: as for ``mse_loss``. RuntimeError if beta is negative. Source: Girshick 2015, equation 3.

    >>> import minigrad as mg
    >>> mg.nn.functional.smooth_l1_loss(mg.tensor([1.0, 2.0]), mg.tensor([1.5, 4.0]), reduction="none")
    tensor([0.1250, 1.5000])
    """
    cdef int code = reduction_of(reduction, size_average, reduce)
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
    cdef int code = reduction_of(reduction, None, None)
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
        code = reduction_of("mean", size_average, reduce)
    elif batch:
        code = BATCH
    else:
        code = reduction_of(reduction, None, None)
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
    cdef int code = reduction_of(reduction, size_average, reduce)
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
    cdef int code = reduction_of(reduction, size_average, reduce)
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
    cdef int code = reduction_of(reduction, size_average, reduce)
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
    cdef int code = reduction_of(reduction, size_average, reduce)
    for name, value in (("input1", input1), ("input2", input2)):
        if not isinstance(value, Tensor):
            raise TypeError(f"margin_ranking_loss: {name} must be a Tensor, got {type(value).__name__}")
    cdef Tensor t = signs(target, input1), d
    if (<Tensor>input1).nd != (<Tensor>input2).nd or (<Tensor>input1).nd != t.nd:
        raise RuntimeError("margin_ranking_loss : All input tensors should have same dimension but got sizes: "
                           f"input1: {sizes(input1)}, input2: {sizes(input2)}, target: {sizes(t)}"
                           + (f"; use target.reshape({', '.join(map(str, input1.shape))})"
                              if same(input1, input2) and t.count == (<Tensor>input1).count and t.nd else ""))
    if not same(input1, input2):
        input1, input2 = broadcast_named("margin_ranking_loss", input1=input1, input2=input2)
    d, t = pair(input1 - input2, t, "margin_ranking_loss", False, True)
    return (<EachLoss>MARGIN_RANKING).call(d, t, None, None, margin, code)


cdef Tensor signs(object target, Tensor x):
    """A target of 1 and -1; bools would be read as 1 and 0."""
    cdef Tensor t = as_tensor(target, x)
    return cast(t, int64) * 2 - 1 if CATEGORY[t.dt] == 0 else t


cdef int check_sizes(Tensor x, Tensor t, str function) except -1:
    if not same(x, t):
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
    cdef int code = reduction_of(reduction, size_average, reduce)
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
        for i, name, v in ((0, "input", x), (1, "target", t)) if x.storage.device < 0 else ():  # see DESIGN f
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
    cdef int code = reduction_of(reduction, size_average, reduce)
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
