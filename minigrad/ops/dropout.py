"""Dropout: the mask comes from the counter-based generator, so it does not depend on the number of threads."""

from .._engine import Kernel, Op, empty
from .._storage import uint8

_K_DROPOUT = Kernel("random.dropout", 1.5)
_K_DDROPOUT = Kernel("random.ddropout", 0.2)

_dropout = Op("Dropout", lambda dy, mask, scale: ddropout(dy, mask, scale))
_ddropout = Op("DropoutBackward", lambda d, mask, scale: ddropout(d, mask, scale))


def dropout(input, p, seed, offset):
    """``input`` with each element 0 with probability ``p``, else divided by 1 - p; floats of any shape.

    ``seed, offset``: of a generator, for as many elements as ``input`` has.
    """
    x = input.detach().contiguous()
    y, mask = empty(x.shape, x.dtype, x), empty(x.shape, uint8, x)
    scale = 1 / (1 - p) if p < 1 else 0.0
    _K_DROPOUT((y, mask), (x,), (seed, offset), (p, scale))
    return _dropout.record(y, input, saved=(mask, scale))


def ddropout(dy, mask, scale):
    """``dy * scale`` where ``mask``, else 0."""
    g = dy.detach().contiguous()
    dx = empty(g.shape, g.dtype, g)
    _K_DDROPOUT((dx,), (g, mask), (), (scale,))
    return _ddropout.record(dx, dy, saved=(mask, scale))
