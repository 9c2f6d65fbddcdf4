"""Settings of PyTorch's that scripts make and that change nothing here: all is deterministic and in full precision."""

_state = {"deterministic": False, "warn_only": False, "precision": "highest"}


def use_deterministic_algorithms(mode, *, warn_only=False):
    """Accepted: all operations are deterministic, at any number of threads.

    >>> import minigrad as mg
    >>> mg.use_deterministic_algorithms(True)
    >>> mg.are_deterministic_algorithms_enabled()
    True
    """
    _state["deterministic"], _state["warn_only"] = bool(mode), bool(warn_only)


def are_deterministic_algorithms_enabled():
    """What ``use_deterministic_algorithms`` was told."""
    return _state["deterministic"]


def set_float32_matmul_precision(precision):
    """Accepted: "highest", "high" or "medium"; products of float32 are computed in float32 always."""
    if precision not in ("highest", "high", "medium"):
        raise ValueError(f"set_float32_matmul_precision: expected 'highest', 'high' or 'medium', got {precision!r}")
    _state["precision"] = precision


def get_float32_matmul_precision():
    """What ``set_float32_matmul_precision`` was told."""
    return _state["precision"]
