from typing import Any

from ._engine import Tensor

def run_backward(
    outputs: tuple[Tensor, ...],
    gradients: tuple[Tensor | None, ...],
    retain_graph: bool,
    create_graph: bool,
    inputs: tuple[Tensor, ...] | None = None,
    capture: bool = False,
    allow_unused: bool = False,
) -> Any: ...
