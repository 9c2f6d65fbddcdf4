"""Types of the compiled module: see _storage.pyx."""

from collections.abc import Callable
from typing import Any

class dtype:
    code: int
    name: str
    itemsize: int
    is_floating_point: bool
    is_signed: bool

float32: dtype
float64: dtype
int64: dtype
int32: dtype
int16: dtype
int8: dtype
uint8: dtype
bool_: dtype

class Storage:
    def __buffer__(self, flags: int, /) -> memoryview: ...

def set_devices(
    table: int,
    describe: Callable[[int], Any],
    kernel: Callable[[str, str, str, int], int],
    shape: Callable[[str, str, str], tuple[Any, ...]],
    current: Callable[[], int],
) -> None: ...
def set_where(default: int, current: int) -> None: ...
def trim() -> int: ...
def memory_stats() -> dict[str, int]: ...
def reset_peak() -> None: ...
