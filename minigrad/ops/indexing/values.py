"""What is written or added: numbers and arrays as tensors."""

from ..._engine import Tensor, filled, move, operand
from ..._engine import _cast as cast
from ..._storage import bool_


def on_device_of(x, value):
    """``value``, moved if it is one number on the CPU."""
    return move(value, x) if value._device < 0 and value.numel() == 1 else value


def as_value(value, x):
    """What is assigned to (part of) x, as a tensor; a number in its dtype; numbers and arrays on its device."""
    if isinstance(value, Tensor):
        return on_device_of(x, value)
    if isinstance(value, (bool, int, float)):
        return filled((), value, x.dtype, x)
    return move(operand(value), x)


def check_addable(name, x):
    if x.dtype is bool_:
        raise RuntimeError(f"{name}(): bool tensors cannot be added to; convert them to an integer dtype")


def as_scalar(name, value, x):
    value = as_value(value, x)
    if value.ndim:
        raise RuntimeError(
            f"{name} only supports a 0-dimensional value tensor, but got tensor with {value.ndim} dimension(s)."
        )
    return cast(value, x.dtype)
