"""Types of the compiled module: see _dlpack.pyx."""

from typing import Any

def export(
    owner: object,
    address: int,
    device: tuple[int, int],
    dtype: tuple[int, int],
    shape: tuple[int, ...],
    strides: tuple[int, ...],
    readonly: bool,
    versioned: bool,
) -> Any: ...

class Taken:
    address: int
    device: tuple[int, int]
    dtype: tuple[int, int]
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    readonly: bool
    def __init__(self, capsule: Any) -> None: ...
