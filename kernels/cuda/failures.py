"""What goes wrong on a GPU, as Python exceptions."""

import os

FORKED = (
    "Cannot re-initialize CUDA in forked subprocess. "
    "To use CUDA with multiprocessing, you must use the 'spawn' start method"
)
STRICT = os.environ.get("MINIGRAD_CUDA_STRICT", "0") not in ("", "0")
LATE = (
    ""
    if STRICT
    else " (a kernel found it that ran earlier; with MINIGRAD_CUDA_STRICT=1 the line that started it raises)"
)

# What a kernel may write into errors[0].
LABEL, INPUT, TARGET, INDEX = 1, 2, 3, 4


class OutOfMemoryError(RuntimeError, MemoryError):
    """No memory is left on a GPU, also after what was kept for reuse has been given back."""


class LabelError(IndexError, RuntimeError):
    """A label out of range: on the CPU losses raise an IndexError or a RuntimeError, as PyTorch's do; this is both."""


def complaint(code: int, at: int, value: int, size: int) -> Exception:
    """The exception for what a kernel has written into ``errors``: where it first went wrong, the value, the size."""
    if code == LABEL:
        found = f"target[{at}] = {value} is outside [0, {size})"
        return LabelError(f"Target {value} is out of bounds: {found}{LATE}")
    if code in (INPUT, TARGET):
        name = "input" if code == INPUT else "target"
        return RuntimeError(f"all elements of {name} should be between 0 and 1: element {at} is not{LATE}")
    if code == INDEX:
        return IndexError(f"index {value}, element {at}, is out of bounds for a dimension of size {size}{LATE}")
    return RuntimeError(f"a kernel failed with code {code}: {at}, {value}, {size}{LATE}")
