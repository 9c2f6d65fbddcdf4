"""Layers that only rearrange: Identity, Flatten, Unflatten."""

from ..ops import shape as ops
from .module import Module


class Identity(Module):
    """Returns its input; any arguments are accepted and ignored.

    >>> import minigrad as mg
    >>> mg.nn.Identity(54, unused=True)(mg.ones(1))
    tensor([1.])
    """

    def __init__(self, *args, **kwargs):
        super().__init__()

    def forward(self, input):
        return input


class Flatten(Module):
    """Dimensions ``start_dim`` to ``end_dim`` as one.

    >>> import minigrad as mg
    >>> mg.nn.Flatten()(mg.zeros(32, 1, 28, 28)).shape
    minigrad.Size([32, 784])
    """

    def __init__(self, start_dim=1, end_dim=-1):
        super().__init__()
        self.start_dim, self.end_dim = start_dim, end_dim

    def forward(self, input):
        return ops.flatten(input, self.start_dim, self.end_dim)

    def extra_repr(self):
        return f"start_dim={self.start_dim}, end_dim={self.end_dim}"


class Unflatten(Module):
    """Dimension ``dim`` as several of ``unflattened_size`` (one may be -1).

    >>> import minigrad as mg
    >>> mg.nn.Unflatten(1, (2, -1))(mg.zeros(4, 6)).shape
    minigrad.Size([4, 2, 3])
    """

    def __init__(self, dim, unflattened_size):
        super().__init__()
        if not isinstance(dim, int):
            raise TypeError(f"unflatten: dim must be an int, got {type(dim).__name__}")
        if not isinstance(unflattened_size, (tuple, list)):
            raise TypeError(f"unflattened_size must be tuple of ints, but found type {type(unflattened_size).__name__}")
        for i, size in enumerate(unflattened_size):
            if not isinstance(size, int):
                raise TypeError(
                    "unflattened_size must be tuple of ints, "
                    f"but found element of type {type(size).__name__} at pos {i}"
                )
        self.dim, self.unflattened_size = dim, unflattened_size

    def forward(self, input):
        return ops.unflatten(input, self.dim, self.unflattened_size)

    def extra_repr(self):
        return f"dim={self.dim}, unflattened_size={self.unflattened_size}"
