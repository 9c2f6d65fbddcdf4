"""Dropout: noise in training, nothing in evaluation."""

from . import functional as F
from .module import Module


class Dropout(Module):
    """In training mode each element is 0 with probability ``p`` and divided by 1 - p otherwise; else the identity.

    ValueError unless 0 <= p <= 1.

    >>> import minigrad as mg
    >>> layer = mg.nn.Dropout(0.5).eval()
    >>> layer(mg.ones(2))
    tensor([1., 1.])
    """

    def __init__(self, p=0.5, inplace=False):
        super().__init__()
        if not 0 <= p <= 1:
            raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
        self.p, self.inplace = p, inplace

    def forward(self, input):
        return F.dropout(input, self.p, self.training, self.inplace)

    def extra_repr(self):
        return f"p={self.p}, inplace={self.inplace}"
