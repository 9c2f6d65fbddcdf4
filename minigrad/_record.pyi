from typing import Any

adds: dict[int, Any]

def current() -> Any: ...
