"""Memory formats by PyTorch's names. Copies are row-major here, so one is all there is to choose."""


class memory_format:
    """How the elements of a tensor may lie: ``contiguous_format`` and ``preserve_format``; the others are refused."""

    __slots__ = ("name",)

    def __init__(self, name):
        self.name = name

    def __repr__(self):
        return "minigrad." + self.name

    def __reduce__(self):
        return self.name  # the one of that name in this module


contiguous_format = memory_format("contiguous_format")
preserve_format = memory_format("preserve_format")
channels_last = memory_format("channels_last")
channels_last_3d = memory_format("channels_last_3d")


def check_format(format, function):
    """TypeError for what is none, NotImplementedError for one that tensors do not have."""
    if not isinstance(format, memory_format):
        raise TypeError(f"{function}(): argument 'memory_format' must be memory_format, not {type(format).__name__}")
    if format is channels_last or format is channels_last_3d:
        raise NotImplementedError(f"{function}(): {format!r} is not supported: tensors are copied in row-major order")
