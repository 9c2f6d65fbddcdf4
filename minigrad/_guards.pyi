from collections.abc import Iterable
from typing import Any

from ._engine import Tensor

class Guards:
    reason: str | None
    grad: bool
    renewed: bool
    tensor_list: list[Tensor]
    def __init__(
        self,
        tensors: Iterable[Tensor],
        dicts: Iterable[tuple[dict[Any, Any], Any]],
        names: Iterable[tuple[Any, Any, Any]],
        lists: Iterable[list[Any]],
        strings: Iterable[str] = (),
    ) -> None: ...
    def holds(self, gradients: bool = True) -> bool: ...

def class_dict(kind: type) -> dict[str, Any]: ...
def slot_of(slot: Any, item: Any) -> Any: ...
