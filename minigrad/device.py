"""Where tensors live. This build computes on the CPU; asking for another device says so at once."""

_KNOWN = ("cpu", "cuda", "mps", "xpu", "meta")


class device:
    """A device by its name, ``"cpu"`` or ``"cpu:0"``; another one raises a RuntimeError.

    >>> import minigrad as mg
    >>> mg.device("cpu")
    device(type='cpu')
    >>> mg.zeros(2).device == mg.device("cpu")
    True
    """

    __slots__ = ("index", "type")

    def __init__(self, type, index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        if not isinstance(type, str):
            raise TypeError(f"device(): type must be a string such as 'cpu', got {type!r}")
        name, colon, number = type.partition(":")
        if colon:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed: {type!r}")
            if not number.isdecimal():
                raise RuntimeError(f"Invalid device string: {type!r}")
            index = int(number)
        if name not in _KNOWN:
            raise RuntimeError(f"Expected one of {', '.join(_KNOWN)} device type at start of device string: {type}")
        if name != "cpu":
            raise RuntimeError(f"device {type!r} is not available: this build of minigrad has kernels for 'cpu' only")
        self.type, self.index = name, index

    def __repr__(self):
        return f"device(type={self.type!r}{'' if self.index is None else f', index={self.index}'})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (self.type, self.index)


cpu = device("cpu")


def check(where):
    """Refuse a ``device=`` argument that is neither None nor the CPU."""
    if where is not None and where is not cpu:
        device(where)
