"""Softmax and its relatives, and the logarithm of a sum of exponentials."""

import math

from ..._engine import Kernel, Op, empty, filled, view
from ..._engine import _cast as cast
from .. import pointwise as p
from .._check import check_floating, check_tensor
from ..direct import rows, sum
from ..shape import wrap_dim
from .plan import around, contiguous, dims_of, key_of, layout
from .sums import spread

_K_SOFTMAX, _K_LOG_SOFTMAX = Kernel("reduce.softmax", 1), Kernel("reduce.log_softmax", 1)
_K_DSOFTMAX, _K_DLOG_SOFTMAX = Kernel("reduce.dsoftmax", 0.3), Kernel("reduce.dlog_softmax", 0.8)
_K_LOGSUMEXP = Kernel("reduce.logsumexp", 0.8)


_COLUMNS = {k: Kernel(f"{k.name}_columns", k.cost) for k in (_K_SOFTMAX, _K_LOG_SOFTMAX, _K_DSOFTMAX, _K_DLOG_SOFTMAX)}
STRIPE = 64  # columns a unit of those, see kernels/reduce.py


def _moved(x, dims):
    """A contiguous tensor with ``dims`` (sorted) moved last, x itself where possible; not recorded."""
    nd = x.ndim
    if dims == tuple(range(nd - len(dims), nd)):
        return contiguous(x)
    order = [d for d in range(nd) if d not in dims] + list(dims)
    shape, stride = x.shape, x.stride()
    return view(x, [shape[d] for d in order], [stride[d] for d in order]).detach().clone()


def _moved_back(x, dim):
    """The inverse of ``_moved`` for one dimension."""
    nd = x.ndim
    if dim == nd - 1 or nd == 0:
        return x
    order = [*range(dim), nd - 1, *range(dim, nd - 1)]
    shape, stride = x.shape, x.stride()
    return view(x, [shape[d] for d in order], [stride[d] for d in order]).detach().clone()


def _by_rows(kernel, dim, *inputs):
    """Run a kernel on rows along ``dim``: an output of the inputs' shape, not recorded."""
    y = rows(kernel, dim, *inputs)
    if y is not None:
        return y
    outer, n, inner = around(inputs[0].shape, dim)
    if (inner >= STRIPE // 4 or inputs[0]._device >= 0) and inputs[0].numel():
        y = empty(inputs[0].shape, inputs[0].dtype, inputs[0])
        inputs = tuple([contiguous(x) for x in inputs])
        _COLUMNS[kernel]((y,), inputs, (n, inner), (), outer * -(-inner // STRIPE), y.numel())
        return y
    dims = (dim,) if inputs[0].ndim else ()
    inputs = tuple([_moved(x, dims) for x in inputs])
    x = inputs[0]
    y = empty(x.shape, x.dtype, x)
    size = x.numel()
    if size:
        n = x.shape[-1] if dims else 1
        kernel((y,), inputs, (n,), (), size // n, size)
    return _moved_back(y, dim)


SOFTMAX = Op("Softmax", lambda dy, y, dim: _dsoftmax(dy, y, dim), flags=p.NOTED)
_dsoftmax_op = Op(
    "SoftmaxBackward",
    lambda d, dy, y, dim: _dsoftmax(d, y, dim),
    lambda d, dy, y, dim: d * (dy - sum(dy * y, dim, True)) - dy * sum(d * y, dim, True),
)
_log_softmax = Op("LogSoftmax", lambda dy, y, dim: _dlog_softmax(dy, y, dim))
_dlog_softmax_op = Op(
    "LogSoftmaxBackward",
    lambda d, dy, y, dim: d - sum(d * p.exp(y), dim, True),
    lambda d, dy, y, dim: -(d * p.exp(y)) * sum(dy, dim, True),
)


def _dsoftmax(dy, y, dim):
    return _dsoftmax_op.record(_by_rows(_K_DSOFTMAX, dim, dy, y), dy, y, saved=(dy, y, dim))


def _dlog_softmax(dy, y, dim):
    return _dlog_softmax_op.record(_by_rows(_K_DLOG_SOFTMAX, dim, dy, y), dy, y, saved=(dy, y, dim))


def softmax(input, dim, dtype=None):
    """exp(x) / sum(exp(x)) along ``dim``, shifted by the maximum so that nothing overflows.

    A row that holds +inf, or only -inf, is nan. ``dtype``: convert the input first.

    >>> import minigrad as mg
    >>> mg.softmax(mg.tensor([1., 1.]), 0)
    tensor([0.5000, 0.5000])
    """
    check_tensor("softmax", input)
    input = input if dtype is None else cast(input, dtype)
    check_floating("softmax", input)
    d = wrap_dim(dim, input.ndim)
    y = _by_rows(_K_SOFTMAX, d, input)
    return SOFTMAX.record(y, input, saved=(y, d))


def log_softmax(input, dim, dtype=None):
    """x - log(sum(exp(x))) along ``dim``, shifted by the maximum so that nothing overflows.

    A row that holds +inf, or only -inf, is nan. ``dtype``: convert the input first.

    >>> import minigrad as mg
    >>> mg.log_softmax(mg.tensor([1., 1.]), 0)
    tensor([-0.6931, -0.6931])
    """
    check_tensor("log_softmax", input)
    input = input if dtype is None else cast(input, dtype)
    check_floating("log_softmax", input)
    d = wrap_dim(dim, input.ndim)
    y = _by_rows(_K_LOG_SOFTMAX, d, input)
    return _log_softmax.record(y, input, saved=(y, d))


def softmin(input, dim, dtype=None):
    """``softmax(-input, dim)``.

    >>> import minigrad as mg
    >>> softmin(mg.tensor([1., 1.]), 0)
    tensor([0.5000, 0.5000])
    """
    check_tensor("softmin", input)
    input = input if dtype is None else cast(input, dtype)
    check_floating("softmin", input)
    return softmax(-input, dim)


_logsumexp = Op("Logsumexp", lambda dy, x, y, axes: spread(dy, x.shape, axes) * p.exp(x - spread(y, x.shape, axes)))


def logsumexp(input, dim, keepdim=False):
    """log(sum(exp(x))) over ``dim`` (an int or a tuple), shifted by the maximum so that nothing overflows.

    Integers are converted to the default floating dtype. Of nothing, or of -inf only, it is -inf.

    >>> import minigrad as mg
    >>> mg.logsumexp(mg.tensor([0., 0.]), 0)
    tensor(0.6931)
    """
    check_tensor("logsumexp", input)
    if not input.is_floating_point():
        input = p.add(input, 0.0)
    shape, axes, _, n = layout(input.shape, key_of(dim), keepdim)
    if input.numel() == 0:
        y = filled(shape, -math.inf, input.dtype, input)
    else:
        x = _moved(input, dims_of(dim, input.ndim))
        y = empty(shape, x.dtype, x)
        _K_LOGSUMEXP((y,), (x,), (n,), (), x.numel() // n, x.numel())
    return _logsumexp.record(y, input, saved=(input, y, axes))
