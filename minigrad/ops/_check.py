"""What operations refuse before they look at shapes."""

from .._engine import Tensor


def check_tensor(name, input):
    """TypeError for what is no tensor."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")


def check_floating(name, input):
    """TypeError for what is no tensor, NotImplementedError for integers and bools."""
    check_tensor(name, input)
    if not input.is_floating_point():
        raise NotImplementedError(f"{name}() needs a floating-point input, got {input.dtype!r}; convert it first")
