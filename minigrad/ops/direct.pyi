from collections.abc import Callable, Sequence
from typing import Any

from .._engine import Kernel, Tensor

def plug(sum: Callable[..., Tensor], mean: Callable[..., Tensor]) -> None: ...
def sum(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor: ...
def mean(
    input: Tensor, dim: int | Sequence[int] | None = None, keepdim: bool = False, *, dtype: Any = None
) -> Tensor: ...
def rows(kernel: Kernel, dim: int, a: Tensor, b: Tensor | None = None) -> Tensor | None: ...
def dsum_all(dy: Tensor, shape: tuple[int, ...], n: int) -> Tensor: ...
def dmean_all(dy: Tensor, shape: tuple[int, ...], n: int) -> Tensor: ...
def fold(
    kernel: Kernel,
    outputs: tuple[Tensor, ...],
    x: Tensor,
    head: tuple[int, ...],
    units: int,
    work: int,
    to: Any = None,
) -> bool: ...
