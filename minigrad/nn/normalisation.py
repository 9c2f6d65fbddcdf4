"""Normalisation layers: of batches, which remember running statistics, of layers and of groups of channels."""

from .. import creation
from .._storage import int64
from . import functional as F
from . import init
from .module import Module
from .parameter import Parameter


class _Norm(Module):
    """What starts as 1 and 0: ``weight`` and ``bias``, None where they are not wanted."""

    def _parameters_of(self, shape, device, dtype, **wanted):
        for name, is_wanted in wanted.items():
            made = Parameter(creation.empty(shape, device=device, dtype=dtype)) if is_wanted else None
            self.register_parameter(name, made)

    def reset_parameters(self):
        """Back to the initial values."""
        if self.weight is not None:
            init.ones_(self.weight)
        if getattr(self, "bias", None) is not None:
            init.zeros_(self.bias)


class _OfLast(_Norm):
    """The last dimensions normalised, of ``normalized_shape``."""

    def __init__(self, normalized_shape, eps, elementwise_affine, device, dtype, **others):
        super().__init__()
        self.normalized_shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
        self.eps, self.elementwise_affine = eps, elementwise_affine
        self._parameters_of(self.normalized_shape, device, dtype, weight=elementwise_affine, **others)
        self.reset_parameters()


class LayerNorm(_OfLast):
    """(x - mean) / sqrt(var + eps) * weight + bias over the last dimensions, of ``normalized_shape``.

    >>> import minigrad as mg
    >>> mg.nn.LayerNorm(2)(mg.tensor([[1.0, 3.0]])).tolist()[0][1] > 0.99
    True
    """

    def __init__(self, normalized_shape, eps=1e-5, elementwise_affine=True, bias=True, device=None, dtype=None):
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype, bias=elementwise_affine and bias)

    def forward(self, input):
        return F.layer_norm(input, self.normalized_shape, self.weight, self.bias, self.eps)

    def extra_repr(self):
        bias = self.bias is not None
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}, bias={bias}"


class RMSNorm(_OfLast):
    """x / sqrt(mean(x^2) + eps) * weight over the last dimensions, of ``normalized_shape``; no bias.

    >>> import minigrad as mg
    >>> mg.nn.RMSNorm(2)(mg.tensor([1.0, 7.0])).shape
    minigrad.Size([2])
    """

    def __init__(self, normalized_shape, eps=None, elementwise_affine=True, device=None, dtype=None):
        super().__init__(normalized_shape, eps, elementwise_affine, device, dtype)

    def forward(self, x):
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)

    def extra_repr(self):
        return f"{self.normalized_shape}, eps={self.eps}, elementwise_affine={self.elementwise_affine}"


class GroupNorm(_Norm):
    """(N, C, ...): ``num_groups`` groups of the ``num_channels`` channels, each normalised; weight and bias a channel.

    >>> import minigrad as mg
    >>> mg.nn.GroupNorm(2, 6)(mg.randn(4, 6, 5)).shape
    minigrad.Size([4, 6, 5])
    """

    def __init__(self, num_groups, num_channels, eps=1e-5, affine=True, device=None, dtype=None, *, bias=True):
        super().__init__()
        if num_channels % num_groups:
            raise ValueError(f"num_channels ({num_channels}) must be divisible by num_groups ({num_groups})")
        self.num_groups, self.num_channels, self.eps, self.affine = num_groups, num_channels, eps, affine
        self._parameters_of((num_channels,), device, dtype, weight=affine, bias=affine and bias)
        self.reset_parameters()

    def forward(self, input):
        return F.group_norm(input, self.num_groups, self.weight, self.bias, self.eps)

    def extra_repr(self):
        bias = self.bias is not None
        return f"{self.num_groups}, {self.num_channels}, eps={self.eps}, affine={self.affine}, bias={bias}"


class _BatchNorm(_Norm):
    """Each channel of (N, C, ...) normalised by the batch in training, by running statistics in evaluation."""

    _dims: tuple[int, ...]  # of the input

    def __init__(
        self, num_features, eps=1e-5, momentum=0.1, affine=True, track_running_stats=True, device=None, dtype=None,
        *, bias=True,
    ):  # fmt: skip
        super().__init__()
        self.num_features, self.eps, self.momentum = num_features, eps, momentum
        self.affine, self.track_running_stats = affine, track_running_stats
        self._parameters_of((num_features,), device, dtype, weight=affine, bias=affine and bias)
        kept = track_running_stats
        where = {"device": device, "dtype": dtype}
        self.register_buffer("running_mean", creation.zeros(num_features, **where) if kept else None)
        self.register_buffer("running_var", creation.ones(num_features, **where) if kept else None)
        count = creation.tensor(0, dtype=int64, device=device) if kept else None
        self.register_buffer("num_batches_tracked", count)
        self.reset_parameters()

    def reset_running_stats(self):
        """Forget the batches that were seen."""
        if self.track_running_stats:
            self.running_mean.zero_()
            self.running_var.fill_(1)
            self.num_batches_tracked.zero_()

    def reset_parameters(self):
        """Back to the initial values, running statistics too."""
        self.reset_running_stats()
        super().reset_parameters()

    def forward(self, input):
        if input.ndim not in self._dims:
            wanted = " or ".join(f"{n}D" for n in self._dims)
            raise ValueError(f"expected {wanted} input (got {input.ndim}D input)")
        momentum, mean, var = self.momentum or 0.0, self.running_mean, self.running_var
        if self.training and self.track_running_stats and self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
            if self.momentum is None:  # the average of all batches
                momentum = 1.0 / float(self.num_batches_tracked)
        batch = self.training or (mean is None and var is None)
        if not self.track_running_stats and self.training:
            mean = var = None
        return F.batch_norm(input, mean, var, self.weight, self.bias, batch, momentum, self.eps)

    def extra_repr(self):
        return (
            f"{self.num_features}, eps={self.eps}, momentum={self.momentum}, affine={self.affine}, "
            f"bias={self.bias is not None}, track_running_stats={self.track_running_stats}"
        )


class BatchNorm1d(_BatchNorm):
    """(N, C) or (N, C, L): each channel normalised by the batch, in evaluation by running statistics.

    ``momentum``: how far these move towards each batch; None averages all. ValueError for other dimensions.

    >>> import minigrad as mg
    >>> layer = mg.nn.BatchNorm1d(3)
    >>> layer(mg.randn(8, 3)).shape, int(layer.num_batches_tracked)
    (minigrad.Size([8, 3]), 1)
    """

    _dims = (2, 3)


class BatchNorm2d(_BatchNorm):
    """(N, C, H, W): as ``BatchNorm1d``."""

    _dims = (4,)


class BatchNorm3d(_BatchNorm):
    """(N, C, D, H, W): as ``BatchNorm1d``."""

    _dims = (5,)
