"""Initial values of parameters: each function fills a tensor in place, unrecorded, and returns it.

Where numbers are random, ``generator`` is the stream to draw from (the default one if None).
"""

import math

from .._gradmode import no_grad
from .._storage import float64
from ..creation import eye as _eye
from ..creation import from_numpy as _from_numpy
from ..ops._warn import warn_user as _warn_user
from ..ops.pointwise import erf as _erf
from ..random import rand as _rand
from ..random import randn as _randn

__all__ = [
    "calculate_gain", "constant_", "eye_", "kaiming_normal_", "kaiming_uniform_", "normal_", "ones_", "orthogonal_",
    "trunc_normal_", "uniform_", "xavier_normal_", "xavier_uniform_", "zeros_",
]  # fmt: skip

_GAIN_ONE = {"linear", "sigmoid"} | {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}


def calculate_gain(nonlinearity, param=None):
    """The factor by which weights before ``nonlinearity`` should be larger.

    linear, convolutions, sigmoid: 1; tanh: 5/3; relu: sqrt(2); leaky_relu: sqrt(2 / (1 + param^2)), param 0.01 if
    None; selu: 3/4. ValueError for another name.

    >>> import minigrad as mg
    >>> round(mg.nn.init.calculate_gain("relu"), 4)
    1.4142
    """
    if nonlinearity in _GAIN_ONE:
        return 1
    if nonlinearity == "tanh":
        return 5.0 / 3
    if nonlinearity == "relu":
        return math.sqrt(2.0)
    if nonlinearity == "leaky_relu":
        slope = 0.01 if param is None else param
        if isinstance(slope, bool) or not isinstance(slope, (int, float)):
            raise ValueError(f"negative_slope {param} not a valid number")
        return math.sqrt(2.0 / (1 + slope**2))
    if nonlinearity == "selu":
        return 3.0 / 4
    raise ValueError(f"Unsupported nonlinearity {nonlinearity}")


def _fans(tensor):
    """(fan_in, fan_out): inputs of one output, outputs of one input."""
    if tensor.ndim < 2:
        raise ValueError("Fan in and fan out can not be computed for tensor with fewer than 2 dimensions")
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _fan(tensor, mode):
    if not isinstance(mode, str) or mode.lower() not in ("fan_in", "fan_out"):
        raise ValueError(f"Mode {mode} not supported, please use one of ['fan_in', 'fan_out']")
    return _fans(tensor)[mode.lower() == "fan_out"]


def _no_op(tensor):
    """Whether there is nothing to scale: PyTorch warns then, and so do we."""
    if 0 not in tensor.shape:
        return False
    _warn_user("Initializing zero-element tensors is a no-op")
    return True


def uniform_(tensor, a=0.0, b=1.0, generator=None):
    """Fill with numbers uniform in [a, b).

    >>> import minigrad as mg
    >>> bool((mg.nn.init.uniform_(mg.empty(3, 5), 1, 2) >= 1).all())
    True
    """
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor, mean=0.0, std=1.0, generator=None):
    """Fill with normal numbers.

    >>> import minigrad as mg
    >>> mg.nn.init.normal_(mg.empty(2), mean=3.0, std=0.0)
    tensor([3., 3.])
    """
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(tensor, mean=0.0, std=1.0, a=-2.0, b=2.0, generator=None):
    """Fill with normal numbers that lie in [a, b]: uniform ones through the inverse of the distribution function.

    >>> import minigrad as mg
    >>> w = mg.nn.init.trunc_normal_(mg.empty(100), a=-1.0, b=1.0)
    >>> bool((w.abs() <= 1).all())
    True
    """
    if mean < a - 2 * std or mean > b + 2 * std:
        _warn_user(
            "mean is more than 2 std from [a, b] in nn.init.trunc_normal_. The distribution of values may be incorrect."
        )
    low, high = (math.erf((limit - mean) / std / math.sqrt(2)) for limit in (a, b))
    with no_grad():
        u = _rand(tensor.shape, generator=generator, dtype=float64) * (high - low) + low
        z = _inverse_erf(u) * (std * math.sqrt(2)) + mean
        return tensor.copy_(z.clamp(a, b))


def _inverse_erf(y):
    """erf^-1 of a float64 tensor in [-1, 1]: Winitzki's approximation, then Newton steps."""
    edge = 1 - 2.0**-53
    y = y.clamp(-edge, edge)
    tail = (1 - y * y).log()
    c = tail / 2 + 2 / (math.pi * 0.147)
    x = ((c * c - tail / 0.147).sqrt() - c).clamp(min=0).sqrt() * y.sign()
    for _ in range(4):
        x = x - (_erf(x) - y) * (x * x).exp() * (math.sqrt(math.pi) / 2)
    return x


def constant_(tensor, val):
    """Fill with ``val``.

    >>> import minigrad as mg
    >>> mg.nn.init.constant_(mg.empty(2), 0.3)
    tensor([0.3000, 0.3000])
    """
    with no_grad():
        return tensor.fill_(val)


def ones_(tensor):
    """Fill with 1."""
    return constant_(tensor, 1.0)


def zeros_(tensor):
    """Fill with 0."""
    return constant_(tensor, 0.0)


def eye_(tensor):
    """Fill a matrix with the identity; ValueError unless it has 2 dimensions.

    >>> import minigrad as mg
    >>> mg.nn.init.eye_(mg.empty(2, 2))
    tensor([[1., 0.],
            [0., 1.]])
    """
    if tensor.ndim != 2:
        raise ValueError("Only tensors with 2 dimensions are supported")
    with no_grad():
        return tensor.copy_(_eye(*tensor.shape, dtype=tensor.dtype))


def xavier_uniform_(tensor, gain=1.0, generator=None):
    """Fill uniformly in (-a, a), a = gain * sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    bound = math.sqrt(3.0) * _xavier_std(tensor, gain)
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor, gain=1.0, generator=None):
    """Fill with normal numbers of std = gain * sqrt(2 / (fan_in + fan_out)) (Glorot and Bengio 2010)."""
    return normal_(tensor, 0.0, _xavier_std(tensor, gain), generator)


def _xavier_std(tensor, gain):
    total = sum(_fans(tensor))
    return gain * math.sqrt(2.0 / total) if total else 0.0


def kaiming_uniform_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fill uniformly in (-bound, bound), bound = gain * sqrt(3 / fan) (He et al. 2015).

    ``a``: negative slope of the rectifier behind; ``mode``: "fan_in" or "fan_out".

    >>> import minigrad as mg
    >>> w = mg.nn.init.kaiming_uniform_(mg.empty(3, 6), nonlinearity="relu")
    >>> bool((w.abs() <= 1).all())
    True
    """
    if _no_op(tensor):
        return tensor
    bound = math.sqrt(3.0) * calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(tensor, a=0, mode="fan_in", nonlinearity="leaky_relu", generator=None):
    """Fill with normal numbers of std = gain / sqrt(fan) (He et al. 2015); arguments as ``kaiming_uniform_``."""
    if _no_op(tensor):
        return tensor
    return normal_(tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_fan(tensor, mode)), generator)


def orthogonal_(tensor, gain=1, generator=None):
    """Fill with a matrix of orthonormal rows or columns times ``gain`` (Saxe et al. 2013).

    At least 2 dimensions (ValueError), those after the first taken as one.

    >>> import minigrad as mg
    >>> w = mg.nn.init.orthogonal_(mg.empty(2, 5))
    >>> bool(((w @ w.T - mg.eye(2)).abs() < 1e-5).all())
    True
    """
    if tensor.ndim < 2:
        raise ValueError("Only tensors with 2 or more dimensions are supported")
    if tensor.numel() == 0:
        return tensor
    import numpy as np

    rows = tensor.shape[0]
    flat = _randn((rows, tensor.numel() // rows), generator=generator, dtype=float64, device="cpu").numpy()
    q, r = np.linalg.qr(flat if flat.shape[0] >= flat.shape[1] else flat.T)
    q = q * np.sign(np.diag(r))  # makes q uniformly distributed: Mezzadri 2006, arXiv:math-ph/0609050
    q = q if flat.shape[0] >= flat.shape[1] else q.T
    with no_grad():
        return tensor.copy_(_from_numpy(np.ascontiguousarray(q) * gain).reshape(tensor.shape))
