"""Distances and similarities of vectors, composed of other operations."""

from .._engine import Tensor, result_type
from .._engine import _cast as cast
from .pointwise import clamp
from .reduce import norm, sum
from .shape import broadcast_named


def pairwise_distance(x1, x2, p=2.0, eps=1e-6, keepdim=False):
    """The p-norm of x1 - x2 + eps along the last dimension.

    x1, x2: (N, D) or (D,), or any shapes that broadcast; the result is (N,) or (), or (N, 1) with ``keepdim``.

    >>> import minigrad as mg
    >>> mg.nn.functional.pairwise_distance(mg.tensor([[3.0, 4.0]]), mg.zeros(1, 2))
    tensor([5.0000])
    """
    a, b = _tensor(x1, "pairwise_distance", "x1"), _tensor(x2, "pairwise_distance", "x2")
    if a.shape != b.shape:
        a, b = broadcast_named("pairwise_distance", x1=a, x2=b)
    difference = a - b + eps
    return norm(difference, p, -1 if difference.ndim else None, keepdim)


def cosine_similarity(x1, x2, dim=1, eps=1e-8):
    """x1 . x2 / (max(|x1|, eps) max(|x2|, eps)) along ``dim``.

    x1, x2: floating point, of shapes that broadcast; the result has that shape less ``dim``.

    >>> import minigrad as mg
    >>> mg.nn.functional.cosine_similarity(mg.tensor([[3.0, 4.0]]), mg.tensor([[4.0, 3.0]]))
    tensor([0.9600])
    """
    a, b = _tensor(x1, "cosine_similarity", "x1"), _tensor(x2, "cosine_similarity", "x2")
    dtype = result_type(a, b)
    if not dtype.is_floating_point:
        raise RuntimeError(f"cosine_similarity: inputs must be floating point, got {a.dtype!r} and {b.dtype!r}")
    a, b = broadcast_named("cosine_similarity", x1=cast(a, dtype), x2=cast(b, dtype))
    dim = dim if a.ndim else None
    return sum((a / _length(a, dim, eps)) * (b / _length(b, dim, eps)), dim)


def _length(x, dim, eps):
    """max(|x|, eps), with the gradient of |x| also below eps, as in PyTorch."""
    size = norm(x, 2, dim, True)
    return size + (clamp(size.detach(), min=eps) - size.detach())


def _tensor(x, function, name):
    if not isinstance(x, Tensor):
        raise TypeError(f"{function}: {name} must be a Tensor, got {type(x).__name__}")
    return x
