from typing import Any

class Callable:
    def __call__(self, *args: Any, **kwargs: Any) -> Any: ...
