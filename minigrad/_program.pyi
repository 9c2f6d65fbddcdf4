from collections.abc import Callable
from typing import Any

from ._engine import Tensor
from ._fuse import Chains
from ._guards import Guards

class Snapshot:
    def exchange(self) -> None: ...
    def same(self) -> bool: ...

class Program:
    guards: Guards
    trusted: bool
    captured: int
    proved: int
    runs: int
    timed: int
    chains: Chains | None
    ready: list[int] | None
    swapped: bool
    def why_not(self, leaves: tuple[Any, ...], structure: Any) -> str | None: ...
    def snapshot(self, leaves: tuple[Any, ...]) -> Snapshot: ...
    def run_once(self, leaves: tuple[Any, ...]) -> Any: ...
    def own_bytes(self) -> int: ...
    def blocks(self) -> list[tuple[int, int, int, int]]: ...
    def swap(self, on: bool = ...) -> bool: ...
    def poison(self) -> None: ...
    def table(self) -> list[tuple[str, tuple[int, ...], int, int, tuple[str, int], bool]]: ...
    def times(self) -> list[float]: ...

class Compiled:
    function: Callable[..., Any]
    programs: list[Program]
    off: int
    hits: int
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...

def grad_bit() -> int: ...
def least_time(
    kernel: int,
    tensors: list[Tensor],
    dims: tuple[int, ...],
    scalars: tuple[float, ...],
    units: int,
    cost: float,
    shared: bool,
    seconds: float,
) -> float: ...
