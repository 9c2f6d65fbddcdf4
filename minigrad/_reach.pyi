from collections.abc import Iterable
from typing import Any

from ._engine import Tensor
from ._guards import Guards

class Reach:
    tensors: list[Tensor]
    full: bool
    unguarded: str | None
    def __init__(self, roots: Iterable[Any]) -> None: ...
    def guards(self, arguments: Iterable[Tensor]) -> Guards: ...
