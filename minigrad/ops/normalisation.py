"""Normalisation of batches, layers and groups, composed of operations: derivatives of any order come from these."""

import math

from .._engine import _cast as cast
from .._gradmode import no_grad
from . import pointwise as p
from . import reduce
from ._check import check_floating

_EPS = {"float32": 2.0**-23, "float64": 2.0**-52}


def _check_dtypes(name, input, *others):
    for x in others:
        if x is not None and x.dtype is not input.dtype:
            raise RuntimeError(
                f"{name}(): mixed dtype: all inputs must share same datatype, got {input.dtype!r} and {x.dtype!r}"
            )


def _affine(y, weight, bias, shape):
    y = y if weight is None else y * weight.reshape(shape)
    return y if bias is None else y + bias.reshape(shape)


def _standardised(x, dims, eps):
    """(x - mean) / sqrt(var + eps) over ``dims``, the mean and the biased variance."""
    mean = reduce.mean(x, dims, True)
    centred = x - mean
    var = reduce.mean(p.square(centred), dims, True)
    return centred * p.rsqrt(var + eps), mean, var


def _over(name, input, normalized_shape, **parameters):
    """The last dimensions, which must be ``normalized_shape``."""
    check_floating(name, input)
    if not isinstance(normalized_shape, (tuple, list)):
        raise TypeError(f"{name}(): normalized_shape must be tuple of ints, not {type(normalized_shape).__name__}")
    wanted = list(normalized_shape)
    for which, value in parameters.items():
        if value is not None and list(value.shape) != wanted:
            raise RuntimeError(
                f"Expected {which} to be of same shape as normalized_shape, but got {which} of shape "
                f"{list(value.shape)} and normalized_shape = {wanted}"
            )
    if not wanted or list(input.shape)[-len(wanted) :] != wanted:
        raise RuntimeError(
            f"Given normalized_shape={wanted}, expected input with shape [*, {str(wanted)[1:]}, but got input of "
            f"size{list(input.shape)}"
        )
    return tuple(range(-len(wanted), 0))


def layer_norm(input, normalized_shape, weight=None, bias=None, eps=1e-5):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions, those of ``normalized_shape``.

    weight, bias: of ``normalized_shape``. RuntimeError if shapes or dtypes differ. Source: Ba, Kiros and Hinton 2016.

    >>> import minigrad as mg
    >>> mg.nn.functional.layer_norm(mg.tensor([[1.0, 3.0]]), (2,))
    tensor([[-1.0000,  1.0000]])
    """
    dims = _over("layer_norm", input, normalized_shape, weight=weight, bias=bias)
    _check_dtypes("layer_norm", input, weight, bias)
    return _affine(_standardised(input, dims, eps)[0], weight, bias, tuple(normalized_shape))


def rms_norm(input, normalized_shape, weight=None, eps=None):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions, those of ``normalized_shape``.

    In the dtype of ``input``. eps: its machine epsilon if None. RuntimeError if shapes differ. Source: Zhang and
    Sennrich 2019.

    >>> import minigrad as mg
    >>> mg.nn.functional.rms_norm(mg.tensor([[1.0, 7.0]]), (2,))
    tensor([[0.2000, 1.4000]])
    """
    dims = _over("rms_norm", input, normalized_shape, weight=weight)
    square = reduce.mean(p.square(input), dims, True)
    y = input * p.rsqrt(square + (_EPS[input.dtype.name] if eps is None else eps))
    return y if weight is None else cast(y * weight, input.dtype)


def group_norm(input, num_groups, weight=None, bias=None, eps=1e-5):
    """(N, C, ...): ``layer_norm`` of each of ``num_groups`` groups of channels; weight, bias: (C,).

    RuntimeError unless C is divisible by ``num_groups`` and dtypes agree. Source: Wu and He 2018.

    >>> import minigrad as mg
    >>> mg.nn.functional.group_norm(mg.tensor([[1.0, 3.0, 5.0, 9.0]]), 2)
    tensor([[-1.0000,  1.0000, -1.0000,  1.0000]])
    """
    check_floating("group_norm", input)
    if input.ndim < 2:
        raise RuntimeError(f"Expected at least 2 dimensions for input tensor but received {input.ndim}")
    n, c = input.shape[:2]
    if num_groups < 1 or c % num_groups:
        raise RuntimeError(
            "Expected number of channels in input to be divisible by num_groups, but got input of shape "
            f"{list(input.shape)} and num_groups={num_groups}"
        )
    _check_channels(c, weight=weight, bias=bias)
    _check_dtypes("group_norm", input, weight, bias)
    y = _standardised(input.reshape(n, num_groups, math.prod(input.shape[1:]) // num_groups), (2,), eps)[0].reshape(
        input.shape
    )
    return _affine(y, weight, bias, (c,) + (1,) * (input.ndim - 2))


def _check_channels(channels, **parameters):
    for name, value in parameters.items():
        if value is not None and tuple(value.shape) != (channels,):
            raise RuntimeError(f"{name} should contain {channels} elements not {value.numel()}")


def batch_norm(input, running_mean, running_var, weight=None, bias=None, training=False, momentum=0.1, eps=1e-5):
    """(N, C, ...): (x - mean) / sqrt(var + eps) * weight + bias for each channel.

    training: with the mean and the biased variance of the batch, which must have more than one value a channel
    (ValueError); running_mean and running_var (C,), unless None, move towards them, the unbiased variance, by
    ``momentum``. Else with the running ones. weight, bias: (C,). RuntimeError if shapes or dtypes differ. Source: Ioffe
    and Szegedy 2015.

    >>> import minigrad as mg
    >>> mg.nn.functional.batch_norm(mg.tensor([[1.0], [3.0]]), None, None, training=True)
    tensor([[-1.0000],
            [ 1.0000]])
    """
    check_floating("batch_norm", input)
    if input.ndim < 2:
        raise RuntimeError(f"batch_norm: expected an input of at least 2 dimensions, got {list(input.shape)}")
    c, n = input.shape[1], input.numel() // max(input.shape[1], 1)
    shape = (c,) + (1,) * (input.ndim - 2)
    _check_channels(c, running_mean=running_mean, running_var=running_var, weight=weight, bias=bias)
    _check_dtypes("batch_norm", input, running_mean, running_var, weight, bias)
    if training:
        if n == 1:
            raise ValueError(f"Expected more than 1 value per channel when training, got input size {input.shape}")
        y, mean, var = _standardised(input, (0, *range(2, input.ndim)), eps)
        with no_grad():
            if running_mean is not None and n:
                running_mean.mul_(1 - momentum).add_(mean.reshape(c), alpha=momentum)
            if running_var is not None and n:
                running_var.mul_(1 - momentum).add_(var.reshape(c), alpha=momentum * n / (n - 1))
        return _affine(y, weight, bias, shape)
    for name, value in (("running_mean", running_mean), ("running_var", running_var)):
        if value is None:
            raise RuntimeError(f"{name} must be defined in evaluation mode")
    scale = p.rsqrt(running_var + eps)
    return _affine((input - running_mean.reshape(shape)) * scale.reshape(shape), weight, bias, shape)
