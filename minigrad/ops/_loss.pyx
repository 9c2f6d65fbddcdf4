# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
"""What losses share: their arguments, how they are reduced, and backward, which hands on the gradient of forward.

DESIGN
a. One kernel computes a loss and its gradient: when the input needs one, already divided by what the reduction divides
   by, and the node saves it; under no_grad a loss-only twin runs. The rule, ``dloss``, multiplies by the incoming
   gradient unless that is one number equal to 1.
b. When backward is recorded (create_graph), or when the target or a weight needs a gradient, the loss is computed by
   its formula in differentiable operations instead (loss_formulas.py): any order of derivative, for the time it takes.
c. A mistake that runs and learns badly (an activation that the loss applies itself, before it) is seen from the
   operation that filled the input's memory, which costs a comparison, and gets a warning at the user's line.
d. Everything is validated before a kernel runs: kernels never raise.
"""

from .._engine cimport Kernel, Op, Tensor, always_one, beside, grad_enabled, made_by, new_tensor
from .._launch cimport launch
from .._storage cimport CATEGORY, F64, refuse_mixed

from .._engine import _cast as cast
from .._engine import operand
from .._gradmode import enable_grad
from .._storage import int64
from .._walk import run_backward
from ._warn import warn_user
from .pointwise import sigmoid
from .reduce.softmaxes import SOFTMAX as _softmax

cdef Op SIGMOID = sigmoid, SOFTMAX = _softmax
cdef Kernel TOTAL = Kernel("losses.total", 0.3)


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


cpdef Tensor floating(object value, str function, str name="input"):
    """``value``, if it is a floating tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{function}: {name} must be a Tensor, got {type(value).__name__}")
    if CATEGORY[(<Tensor>value).dt] != 2:
        raise NotImplementedError(f"{function}: {name} must be floating point, got {value.dtype!r}")
    return <Tensor>value


cdef str element(str name, Py_ssize_t at, object shape):
    """``name[i, j]``: the element of a flat index; of a 0-d tensor the name."""
    place = []
    for size in reversed(shape):
        place.append(str(at % size))
        at //= size
    return f"{name}[{', '.join(reversed(place))}]" if place else name


# --- backward: hand the saved gradient on -------------------------------------------------------------------------------


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


cdef dict OPS = {}


cdef Op op_named(str name):
    found = OPS.get(name)
    if found is None:
        found = OPS[name] = Op(name, dloss)
    return <Op>found
