"""Gradient clipping: a native call for all gradients of a dtype and device gives their norm, one scales or clamps them.

On a GPU nobody waits for the norm or the factor, which stay there; ``error_if_nonfinite`` does. Gradients on several
devices are several batches, their norm is a tensor on the device of the first.

The norm is accumulated in float64, one partial sum a chunk, added in order: it has the same bits at any thread count,
and float32 gradients whose squares overflow still have a finite norm.
"""

import math
import types

from ..._engine import Kernel, Tensor, empty, filled, get_default_dtype, operand
from ..._gradmode import no_grad
from ..._storage import float64
from ...ops._multi import by_kind, chunk_count, sweep
from ...ops._warn import warn_user
from ...ops.pointwise import pow, sqrt
from ...ops.reduce import amax, norm, sum
from ...ops.shape import cat, stack

_SQUARES, _POWERS = Kernel("optimizers.norm_squares", 0.1), Kernel("optimizers.norm_powers", 2.0)
_MAX, _SCALE, _CLAMP = (Kernel(f"optimizers.{name}", 0.1) for name in ("norm_max", "scale", "clamp"))


def clip_grad_norm_(parameters, max_norm, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """Scale all gradients in place so that their norm, as that of one vector, is at most ``max_norm``; return the norm.

    g *= min(1, max_norm / (norm + 1e-6)). parameters: a tensor or an iterable of tensors; those without a gradient are
    skipped, one that is listed twice counts once (PyTorch scales it twice); without any gradient the norm is 0. A
    generator that is already exhausted is warned about. norm_type: 2, 1, ``inf`` (largest magnitude), 0 or any p.
    A nan among the gradients makes all of them nan, an infinity makes itself nan and the others 0, unless
    ``error_if_nonfinite``: then RuntimeError, and nothing is changed. A negative ``max_norm`` flips all signs.
    ``foreach`` is accepted. Source: Pascanu, Mikolov and Bengio, On the difficulty of training recurrent neural
    networks, ICML 2013.

    >>> import minigrad as mg
    >>> w = mg.zeros(2, requires_grad=True)
    >>> (w * mg.tensor([3.0, 4.0])).sum().backward()
    >>> mg.nn.utils.clip_grad_norm_([w], max_norm=1.0)
    tensor(5.)
    >>> w.grad
    tensor([0.6000, 0.8000])
    """
    if not isinstance(parameters, Tensor):
        generator = isinstance(parameters, types.GeneratorType)
        parameters = list(parameters)
        if generator and not parameters:
            warn_user("`parameters` is an empty generator, no gradient clipping will occur.")
    batches, max_norm = by_kind(_gradients(parameters)), float(max_norm)
    total_norm = _total(batches, float(norm_type), error_if_nonfinite)
    _scale(batches, max_norm, total_norm)
    return total_norm


def clip_grads_with_norm_(parameters, max_norm, total_norm, foreach=None):
    """Scale all gradients in place by min(1, max_norm / (total_norm + 1e-6)), for a norm that is known already.

    total_norm: what ``get_total_norm`` returned, or a number. Otherwise as ``clip_grad_norm_``.

    >>> import minigrad as mg
    >>> w = mg.zeros(2, requires_grad=True)
    >>> w.grad = mg.tensor([3.0, 4.0])
    >>> mg.nn.utils.clip_grads_with_norm_([w], 1.0, total_norm=mg.tensor(10.0))
    >>> w.grad
    tensor([0.3000, 0.4000])
    """
    _scale(by_kind(_gradients(parameters)), float(max_norm), operand(total_norm))


def clip_grad_value_(parameters, clip_value, foreach=None):
    """Clamp all gradients in place to [-clip_value, clip_value]; nan stays nan.

    parameters: a tensor or an iterable of tensors; those without a gradient are skipped. ``foreach`` is accepted.

    >>> import minigrad as mg
    >>> w = mg.zeros(2, requires_grad=True)
    >>> w.grad = mg.tensor([-3.0, 0.5])
    >>> mg.nn.utils.clip_grad_value_([w], 1.0)
    >>> w.grad
    tensor([-1.0000,  0.5000])
    """
    value = float(clip_value)
    batches = by_kind(_gradients(parameters))
    if math.isnan(value):  # the kernel compares, which a nan survives; as in PyTorch all becomes nan
        return _multiply(batches, operand(value))
    for batch in batches:
        sweep(_CLAMP, batch, (-value, value))


def get_total_norm(tensors, norm_type=2.0, error_if_nonfinite=False, foreach=None):
    """The norm of all ``tensors`` as that of one vector: (sum |x|^p)^(1/p), p = ``norm_type``; a 0-d tensor.

    tensors: a tensor or an iterable of floating tensors, of any shapes, also empty ones. Its dtype is theirs, float64
    if they differ. norm_type: 2, 1, ``inf`` (largest magnitude), ``-inf`` (smallest), any other p, and 0, which as in
    PyTorch counts the tensors that are not all zero. With ``error_if_nonfinite`` a norm that is nan or infinite is a
    RuntimeError. ``foreach`` is accepted.

    >>> import minigrad as mg
    >>> mg.nn.utils.get_total_norm([mg.tensor([3.0]), mg.tensor([[0.0, 4.0]])])
    tensor(5.)
    """
    batches = by_kind([tensors] if isinstance(tensors, Tensor) else tensors)
    return _total(batches, float(norm_type), error_if_nonfinite)


def _total(batches, order, error_if_nonfinite):
    """``get_total_norm`` of lists of tensors of one dtype and device each."""
    if not batches:
        return filled((), 0, get_default_dtype())
    with no_grad():
        dtypes = {batch[0].dtype for batch in batches}
        total = _norm(batches, order).to(dtypes.pop() if len(dtypes) == 1 else float64)
    if error_if_nonfinite and not math.isfinite(total.item()):
        raise RuntimeError(
            f"The total norm of order {order} for gradients from `parameters` is non-finite, so it cannot be clipped. "
            "To disable this error and scale the gradients by the non-finite norm anyway, set "
            "`error_if_nonfinite=False`"
        )
    return total


def _norm(batches, order):
    """The norm, float64 and 0-d, over lists of tensors of one kind each; empty tensors count for nothing."""
    first = batches[0][0]
    batches = [full for full in ([t for t in batch if t.numel()] for batch in batches) if full]
    if not batches:
        return filled((), 0, float64, like=first)
    if order in (0, -math.inf):  # no kernel: nobody clips by them
        norms = [norm(t, order).to(first.device, float64) for batch in batches for t in batch]
        return norm(stack(norms), order)
    kernel, scalars = (_SQUARES, ()) if order == 2 else (_MAX, ()) if order == math.inf else (_POWERS, (order,))
    partials = []
    for batch in batches:
        partials.append(empty((chunk_count(batch),), float64, like=batch[0]))
        sweep(kernel, batch, scalars, partials[-1])
    part = partials[0] if len(partials) == 1 else cat([part.to(first.device) for part in partials])
    if order == math.inf:
        return amax(part)
    return sqrt(sum(part)) if order == 2 else pow(sum(part), 1 / order)


def _scale(batches, max_norm, total_norm):
    """g *= min(1, max_norm / (total_norm + 1e-6)), the factor computed in the dtype of the norm as in PyTorch."""
    with no_grad():
        factor = max_norm / (total_norm + 1e-6)
    _multiply(batches, factor)


def _multiply(batches, factor):
    """g *= factor, a tensor, where it is below 1 or nan."""
    for batch in batches:
        near = factor if factor._device == batch[0]._device else factor.to(batch[0].device)
        if near._device >= 0:  # sweep does not look at it
            near = near.to(float64).clamp(max=1.0)
        sweep(_SCALE, batch, factor=near)


def _gradients(parameters):
    """The gradients that are there, each once."""
    found = [p.grad for p in ([parameters] if isinstance(parameters, Tensor) else parameters)]
    return list({id(g): g for g in found if g is not None}.values())
