"""Linear: the fully connected layer."""

import math

from .. import creation
from . import init
from ._call import linear_forward
from .module import Module
from .parameter import Parameter


class Linear(Module):
    """y = x @ weight.T + bias, over the last dimension.

    x (..., in_features) gives (..., out_features). ``weight`` (out_features, in_features) and ``bias`` (out_features,)
    start uniform in +-1 / sqrt(in_features).

    >>> import minigrad as mg
    >>> layer = mg.nn.Linear(20, 30)
    >>> layer(mg.randn(128, 20)).shape
    minigrad.Size([128, 30])
    """

    def __init__(self, in_features, out_features, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features = in_features
        self.out_features = out_features
        self.weight = Parameter(creation.empty((out_features, in_features), device=device, dtype=dtype))
        if bias:
            self.bias = Parameter(creation.empty((out_features,), device=device, dtype=dtype))
        else:
            self.register_parameter("bias", None)
        self.reset_parameters()

    def reset_parameters(self):
        """Draw new initial values."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))  # the same as uniform in +-1 / sqrt(in_features)
        if self.bias is not None:
            bound = 1 / math.sqrt(self.in_features) if self.in_features else 0
            init.uniform_(self.bias, -bound, bound)

    forward = linear_forward

    def extra_repr(self):
        return f"in_features={self.in_features}, out_features={self.out_features}, bias={self.bias is not None}"
