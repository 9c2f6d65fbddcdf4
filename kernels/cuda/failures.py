"""What goes wrong on a GPU, as Python exceptions."""

FORKED = (
    "Cannot re-initialize CUDA in forked subprocess. To use CUDA with multiprocessing, you must use the 'spawn' start method"
)


class OutOfMemoryError(RuntimeError, MemoryError):
    """No memory is left on a GPU, also after what was kept for reuse has been given back."""


# What a kernel may write into errors[0]. The other numbers are the row (or flat position) at which it first goes wrong,
# the value there, and the number of classes.
def _label(row, value, classes):
    return IndexError(
        f"Target {value} is out of bounds: target[{row}] = {value} is outside [0, {classes}) (found by a kernel that ran "
        "earlier; MINIGRAD_CUDA_STRICT=1 raises at the line that started it)"
    )


_COMPLAINTS = {1: _label}


def complaint(code, row, value, classes):
    """The exception for what a kernel has written into ``errors``."""
    made = _COMPLAINTS.get(code)
    return RuntimeError(f"a kernel failed with code {code} at {row}: {value}, {classes}") if made is None else made(row, value, classes)
