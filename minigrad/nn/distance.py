"""Distances as modules."""

from ..ops.distance import cosine_similarity, pairwise_distance
from .module import Module


class PairwiseDistance(Module):
    """The p-norm of x1 - x2 + eps along the last dimension: (N, D), (N, D) -> (N,), or (N, 1) with ``keepdim``.

    >>> import minigrad as mg
    >>> mg.nn.PairwiseDistance(p=1)(mg.tensor([[3.0, 4.0]]), mg.zeros(1, 2))
    tensor([7.0000])
    """

    def __init__(self, p=2.0, eps=1e-6, keepdim=False):
        super().__init__()
        self.norm, self.eps, self.keepdim = p, eps, keepdim

    def forward(self, x1, x2):
        return pairwise_distance(x1, x2, self.norm, self.eps, self.keepdim)


class CosineSimilarity(Module):
    """The cosine of the angle between x1 and x2 along ``dim``; lengths count as at least ``eps``.

    >>> import minigrad as mg
    >>> mg.nn.CosineSimilarity()(mg.tensor([[3.0, 4.0]]), mg.tensor([[4.0, 3.0]]))
    tensor([0.9600])
    """

    def __init__(self, dim=1, eps=1e-8):
        super().__init__()
        self.dim, self.eps = dim, eps

    def forward(self, x1, x2):
        return cosine_similarity(x1, x2, self.dim, self.eps)
