"""Embedding: rows of a table by their numbers."""

from .._engine import Tensor
from .._storage import int32, int64
from . import pointwise as p
from .indexing import index_select


def embedding(input, weight, padding_idx=None, max_norm=None, norm_type=2.0, scale_grad_by_freq=False, sparse=False):
    """The rows of ``weight`` (num, dim) with the numbers ``input``, int64 or int32 of any shape: (*, dim).

    The row ``padding_idx`` (it may count from the end) gets no gradient. IndexError for a number out of range.
    ``max_norm``, ``scale_grad_by_freq`` and ``sparse``: NotImplementedError.

    >>> import minigrad as mg
    >>> mg.nn.functional.embedding(mg.tensor([1, 0, 1]), mg.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[3., 4.],
            [1., 2.],
            [3., 4.]])
    """
    if max_norm is not None or scale_grad_by_freq or sparse:
        raise NotImplementedError("embedding: max_norm, scale_grad_by_freq and sparse are not supported")
    if not isinstance(input, Tensor) or input.dtype not in (int64, int32):
        kind = repr(input.dtype) if isinstance(input, Tensor) else type(input).__name__
        raise RuntimeError(f"embedding: input must be a tensor of int64 or int32, got {kind}")
    if weight.ndim != 2:
        raise RuntimeError("'weight' must be 2-D")
    rows = weight.shape[0]
    if padding_idx is not None:
        if not -rows <= padding_idx < rows:
            raise AssertionError("Padding_idx must be within num_embeddings")
        padding_idx %= rows
    flat = input.reshape(-1)
    y = index_select(weight, 0, flat)
    if padding_idx is not None:
        y = p.where((flat == padding_idx).unsqueeze(1), y.detach(), y)
    return y.reshape(*input.shape, weight.shape[1])
