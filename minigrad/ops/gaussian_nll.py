"""Gaussian negative log-likelihood: one kernel computes the loss and its gradients by the mean and by the variance."""

from math import log as log_of
from math import tau

from .._engine import Kernel, Op, Tensor, always_one, empty, filled, result_type, together
from .._engine import _cast as cast
from .._gradmode import is_grad_enabled
from .._storage import float64
from ._loss import reduced, reduction_of
from .losses import BLOCK, pair
from .pointwise import where

_K_BOTH, _K_LOSS = Kernel("losses_each.gaussian_nll", 0.8), Kernel("losses_each.gaussian_nll_loss", 0.6)


def _at_least(v, eps):
    """v, or eps where v is less, with the slope of v everywhere, as in PyTorch."""
    return where(v < eps, v - v.detach() + eps, v)


def _times(d, dy):
    return d if dy.ndim == 0 and always_one(dy) else d * dy


def _dx(dy, x, t, v, dx, dv, eps, scale):
    return dy * ((x - t) / _at_least(v, eps)) * scale if is_grad_enabled() else _times(dx, dy)


def _dt(*saved):
    return -_dx(*saved)


def _dv(dy, x, t, v, dx, dv, eps, scale):
    if not is_grad_enabled():
        return _times(dv, dy)
    v, d = _at_least(v, eps), x - t
    return dy * ((1 - d * d / v) / v) * (0.5 * scale)


_gaussian_nll = Op("GaussianNllLoss", _dx, _dt, _dv)


def gaussian_nll_loss(input, target, var, full=False, eps=1e-6, reduction="mean"):
    """Negative log-likelihood of targets t of mean x and variance v: (log v + (x - t)^2 / v) / 2, v at least ``eps``.

    input, target: they broadcast, silently as in PyTorch, but (N, 1) against (N,) is refused; two integer tensors give
    a float32 loss. var: not negative (ValueError names the first element that is); a number, or a tensor of the input's
    shape, of that shape without its last dimension, or with one size of 1 instead. All three may require grad.
    ``full``: log(2 pi) / 2 is added. Source: Nix and Weigend 1994, equation 6.

    >>> import minigrad as mg
    >>> x, t, v = mg.tensor([[1.0, 2.0]]), mg.tensor([[1.0, 4.0]]), mg.tensor([[1.0, 4.0]])
    >>> mg.nn.functional.gaussian_nll_loss(x, t, v, reduction="none")
    tensor([[0.0000, 1.1931]])
    """
    if not isinstance(input, Tensor):
        raise TypeError(f"gaussian_nll_loss: input must be a Tensor, got {type(input).__name__}")
    var = _variances(input, var)
    code = reduction_of(reduction, None, None)
    x, t = pair(input, target, "gaussian_nll_loss", False, True)
    dtype = result_type(x, var)
    x, var = together(x, var)
    x, t, v = cast(x, dtype), cast(t, dtype), cast(var, dtype).expand(x.shape)
    recording = is_grad_enabled() and (x.requires_grad or t.requires_grad or v.requires_grad)
    n = x.numel()
    arrays = [a.detach().contiguous() for a in (x, t, v)]
    each = code == 0
    part = None if each else empty(((n + BLOCK - 1) // BLOCK,), float64, like=x)
    loss = empty(x.shape, dtype, like=x) if each else None
    scale, constant = 1 / n if code == 1 and n else 1.0, 0.5 * log_of(tau) if full else 0.0
    blocks = (n + BLOCK - 1) // BLOCK
    if recording:
        dx, dv = empty(x.shape, dtype, like=x), empty(x.shape, dtype, like=x) if v.requires_grad else None
        dims, numbers = (n, each, dv is not None), (eps, constant, scale)
        _K_BOTH((part, loss, dx, dv), tuple(arrays), dims, numbers, blocks, n, dtype)
    else:
        _K_LOSS((part, loss), tuple(arrays), (n, each), (eps, constant), blocks, n, dtype)
    if not each:
        loss = reduced(part, n, code, x)
    return _gaussian_nll.record(loss, x, t, v, saved=(x, t, v, dx, dv, eps, scale)) if recording else loss


def _variances(x, var):
    """The variances as a tensor that broadcasts to x, checked."""
    if isinstance(var, (int, float)):
        if var < 0:
            raise ValueError(f"var has negative entry/entries: {var}")
        dtype = x.dtype if x.is_floating_point() else result_type(x, 1.0)
        return filled((), var, dtype, like=x).expand(x.shape)
    if not isinstance(var, Tensor):
        raise TypeError(f"gaussian_nll_loss: var must be a Tensor or a number, got {type(var).__name__}")
    values = var.detach()
    if (values < 0).any().item():
        at = (values < 0).nonzero()[0].tolist()
        raise ValueError(f"var has negative entry/entries: var{at if at else ''} = {values[tuple(at)].item()}")
    if var.shape != x.shape:
        if var.shape == x.shape[:-1] and x.ndim:
            return var.unsqueeze(-1)
        if var.ndim != x.ndim or sum(b for a, b in zip(x.shape, var.shape) if a != b) != 1:
            raise ValueError(
                f"var is of incorrect size: {list(var.shape)} for an input of shape {list(x.shape)}; it must have that "
                "shape, lack its last dimension, or have one size of 1 instead"
            )
    return var
