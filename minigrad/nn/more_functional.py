"""The rarer activations and attention, as functions; ``nn.functional`` has them under its name."""

import math

from .._engine import Tensor, copy_
from ..ops import pointwise as p
from ..ops import reduce
from ..ops._check import check_floating
from ..ops.shape import chunk, wrap_dim
from ..random import rand_like


def _written(input, y, inplace):
    return copy_(input, y) if inplace else y


def _source(input, inplace):
    return input.clone() if inplace else input


def hardtanh(input, min_val=-1.0, max_val=1.0, inplace=False):
    """x limited to [min_val, max_val]; no gradient at the limits.

    >>> import minigrad as mg
    >>> mg.nn.functional.hardtanh(mg.tensor([-3.0, 0.5, 3.0]))
    tensor([-1.0000,  0.5000,  1.0000])
    """
    if min_val > max_val:
        raise ValueError("min_val cannot be greater than max_val")
    x = _source(input, inplace)
    if not x.is_floating_point():
        return _written(input, p.clamp(x, int(min_val), int(max_val)), inplace)
    limit = (x <= min_val) | (x >= max_val)  # nan is not
    return _written(input, p.where(limit, p.clamp(x.detach(), min_val, max_val), x), inplace)


def relu6(input, inplace=False):
    """x limited to [0, 6].

    >>> import minigrad as mg
    >>> mg.nn.functional.relu6(mg.tensor([-1.0, 2.0, 8.0]))
    tensor([0., 2., 6.])
    """
    return hardtanh(input, 0.0, 6.0, inplace)


def hardsigmoid(input, inplace=False):
    """relu6(x + 3) / 6."""
    check_floating("hardsigmoid", input)
    x = _source(input, inplace)
    return _written(input, relu6(x + 3) / 6, inplace)


def hardswish(input, inplace=False):
    """x * hardsigmoid(x)."""
    check_floating("hardswish", input)
    x = _source(input, inplace)
    return _written(input, x * hardsigmoid(x), inplace)


def selu(input, inplace=False):
    """1.0507 * (x where x > 0, else 1.6733 * (exp(x) - 1)); the constants of Klambauer et al. 2017.

    >>> import minigrad as mg
    >>> mg.nn.functional.selu(mg.tensor([-1.0, 1.0]))
    tensor([-1.1113,  1.0507])
    """
    check_floating("selu", input)
    x = _source(input, inplace)
    negative = p.expm1(p.clamp(x, max=0.0)) * 1.6732632423543772
    return _written(input, p.where(x > 0, x, negative) * 1.0507009873554805, inplace)


def celu(input, alpha=1.0, inplace=False):
    """x where x > 0, else ``alpha * (exp(x / alpha) - 1)``; RuntimeError if ``alpha`` is 0."""
    if alpha == 0:
        raise RuntimeError("ZeroDivisionError: alpha cannot be 0 for CELU")
    check_floating("celu", input)
    x = _source(input, inplace)
    return _written(input, p.where(x > 0, x, p.expm1(p.clamp(x, max=0.0) / alpha) * alpha), inplace)


def mish(input, inplace=False):
    """x * tanh(log(1 + exp(x)))."""
    check_floating("mish", input)
    x = _source(input, inplace)
    return _written(input, x * p.tanh(p.softplus(x)), inplace)


def threshold(input, threshold, value, inplace=False):
    """``value`` where x <= ``threshold``, else x, nan too."""
    x = _source(input, inplace)
    value = value if x.is_floating_point() else int(value)
    return _written(input, p.where(x <= threshold, value, x), inplace)


def softsign(input):
    """x / (1 + |x|)."""
    return input / (p.abs(input) + 1)


def tanhshrink(input):
    """x - tanh(x)."""
    return input - p.tanh(input)


def logsigmoid(input):
    """log(1 / (1 + exp(-x))), which overflows nowhere.

    >>> import minigrad as mg
    >>> mg.nn.functional.logsigmoid(mg.tensor([0.0, -1000.0]))
    tensor([-6.9315e-01, -1.0000e+03])
    """
    check_floating("logsigmoid", input)
    return -p.softplus(-input)


def hardshrink(input, lambd=0.5):
    """x where |x| > ``lambd``, else 0."""
    check_floating("hardshrink", input)
    return p.where((input <= lambd) & (input >= -lambd), input.detach() * 0, input)


def softshrink(input, lambd=0.5):
    """x moved by ``lambd`` towards 0, and 0 where it would pass it; RuntimeError if ``lambd`` < 0."""
    if lambd < 0:
        raise RuntimeError(f"lambda must be at least 0, but found {lambd}")
    check_floating("softshrink", input)
    moved = p.where(input > 0, input - lambd, input + lambd)
    return p.where((input <= lambd) & (input >= -lambd), input.detach() * 0, moved)


def prelu(input, weight):
    """x where x > 0, else weight * x; ``weight``: one number, or one for each channel (dimension 1), of x's dtype.

    >>> import minigrad as mg
    >>> mg.nn.functional.prelu(mg.tensor([-2.0, 2.0]), mg.tensor([0.25]))
    tensor([-0.5000,  2.0000])
    """
    if weight.dtype is not input.dtype:
        raise RuntimeError(f"prelu: Type promoting not supported. Got {input.dtype!r} and {weight.dtype!r}")
    check_floating("prelu", input)
    if weight.numel() != 1:
        channels = input.shape[1] if input.ndim > 1 else 1
        if weight.numel() != channels:
            raise RuntimeError(
                "Mismatch of parameter numbers and input channel size. "
                f"Found parameter numbers = {weight.numel()} and channel size = {channels}."
            )
        weight = weight.reshape(-1, *(1,) * (input.ndim - 2))
    else:
        weight = weight.reshape(())
    return p.where(input > 0, input, p.clamp(input, max=0.0) * weight)  # infinity times no weight


def glu(input, dim=-1):
    """a * sigmoid(b), a and b being the halves of ``input`` along ``dim``; RuntimeError if its size is odd.

    >>> import minigrad as mg
    >>> mg.nn.functional.glu(mg.tensor([2.0, 0.0]))
    tensor([1.])
    """
    if input.ndim == 0:
        raise RuntimeError("glu does not support scalars because halving size must be even")
    d = wrap_dim(dim, input.ndim)
    if input.shape[d] % 2:
        raise RuntimeError(f"Halving dimension must be even, but dimension {d} is size {input.shape[d]}")
    a, b = chunk(input, 2, d)
    return a * p.sigmoid(b)


def gumbel_softmax(logits, tau=1, hard=False, eps=1e-10, dim=-1):
    """softmax((logits + g) / tau) along ``dim``, g of the Gumbel distribution; ``hard``: one-hot, the same gradient.

    Source: Jang, Gu and Poole 2017.

    >>> import minigrad as mg
    >>> mg.nn.functional.gumbel_softmax(mg.zeros(2, 3), hard=True).sum(1)
    tensor([1., 1.])
    """
    uniform = p.clamp(rand_like(logits), 1e-38, 1 - 2.0**-24)  # 0 and 1 would give infinities
    soft = reduce.softmax((logits - p.log(-p.log(uniform))) / tau, dim)
    if not hard:
        return soft
    index = reduce.argmax(soft, dim, True)
    one = (soft.detach() * 0).scatter(wrap_dim(dim, logits.ndim), index, 1.0)
    return one - soft.detach() + soft


def scaled_dot_product_attention(
    query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False
):
    """softmax(query @ key^T * scale + mask) @ value: (..., L, E), (..., S, E), (..., S, V) -> (..., L, V).

    attn_mask: bools, False where nothing is looked at, or numbers to add; is_causal: each row looks at those up to its
    own. A row that looks at nothing is 0. scale: 1 / sqrt(E) if None. Source: Vaswani et al. 2017.

    >>> import minigrad as mg
    >>> x = mg.ones(1, 3, 2)
    >>> mg.nn.functional.scaled_dot_product_attention(x, x, x).shape
    minigrad.Size([1, 3, 2])
    """
    from .functional import dropout

    if enable_gqa:
        raise NotImplementedError("scaled_dot_product_attention: enable_gqa is not supported")
    if is_causal and attn_mask is not None:
        raise RuntimeError("scaled_dot_product_attention: Explicit attn_mask should not be set when is_causal=True")
    scores = query @ key.transpose(-2, -1) * (1 / math.sqrt(query.shape[-1]) if scale is None else scale)
    if is_causal:
        attn_mask = scores.new_ones(*scores.shape[-2:]).tril() > 0
    if attn_mask is None:
        return dropout(reduce.softmax(scores, -1), dropout_p) @ value
    masked = isinstance(attn_mask, Tensor) and attn_mask.dtype.name == "bool"
    scores = p.where(attn_mask, scores, -math.inf) if masked else scores + attn_mask
    nothing = reduce.all(p.eq(scores.detach(), -math.inf), -1, True)
    weights = p.where(nothing, 0.0, reduce.softmax(p.where(nothing, 0.0, scores), -1))
    return dropout(weights, dropout_p) @ value
