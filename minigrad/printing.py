"""How tensors are shown: PyTorch's layout of numbers, lines and suffixes."""

import math
from itertools import product
from types import SimpleNamespace

from ._engine import Tensor, empty, get_default_dtype, move, view, write_memory
from ._storage import bool_, int64

_PROFILES: dict[str, dict] = {
    "default": {"precision": 4, "threshold": 1000, "edgeitems": 3, "linewidth": 80},
    "short": {"precision": 2, "threshold": 1000, "edgeitems": 2, "linewidth": 80},
    "full": {"precision": 4, "threshold": math.inf, "edgeitems": 3, "linewidth": 80},
}
_options = SimpleNamespace(**_PROFILES["default"], sci_mode=None)


def set_printoptions(precision=None, threshold=None, edgeitems=None, linewidth=None, profile=None, sci_mode=None):
    """Change how tensors are shown; what is None stays as it is, except ``sci_mode``: None is automatic.

    ``precision``: digits after the point. ``threshold``: elements from which tensors are summarised, to ``edgeitems``
    at both ends of each dimension. ``linewidth``: characters a line. ``profile``: "default", "short" or "full".
    ``sci_mode``: scientific notation, always or never.

    >>> import minigrad as mg
    >>> mg.set_printoptions(precision=2)
    >>> mg.tensor([1 / 3])
    tensor([0.33])
    >>> mg.set_printoptions(profile="default")
    """
    if profile is not None:
        if profile not in _PROFILES:
            raise ValueError(f"profile must be one of {', '.join(map(repr, _PROFILES))}, got {profile!r}")
        vars(_options).update(_PROFILES[profile])
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    vars(_options).update({name: value for name, value in given.items() if value is not None})
    _options.sci_mode = sci_mode


def _leaves(nested, depth):
    """The numbers in ``depth`` levels of lists."""
    for _ in range(depth):
        nested = [item for row in nested for item in row]
    return nested


def _number_format(values, floating):
    """A function from a number to its text: all of one width and one notation, chosen by ``values``."""
    digits = _options.precision
    if not floating:
        width = max((len(str(v)) for v in values), default=0)
        return lambda v: str(v).rjust(width)

    def scientific(v):
        return f"{v:.{digits}e}"

    def fixed(v):
        return f"{v:.{digits}f}"

    def whole(v):
        return f"{v:.0f}." if math.isfinite(v) else f"{v:.0f}"

    telling = [v for v in values if v != 0 and math.isfinite(v)]
    show, width = whole, 1
    if telling:
        sizes = [abs(v) for v in telling]
        least, most = min(sizes), max(sizes)
        integral = all(v == math.floor(v) for v in telling)
        wide = most / least > 1000 or most > 1e8
        show = scientific if wide or (not integral and least < 1e-4) else whole if integral else fixed
        width = max(len(show(v)) for v in telling)
    if _options.sci_mode is not None:
        plain = whole if not telling or all(v == math.floor(v) for v in telling) else fixed
        show = scientific if _options.sci_mode else plain
        width = max((len(show(v)) for v in telling), default=1)
    return lambda v: show(v).rjust(width)


def _lines(nested, cut, indent, show):
    """Nested lists as text that starts at column ``indent``; ``cut[d]`` says that the middle of dimension d is gone."""
    edge = _options.edgeitems
    if len(cut) > 1:
        parts = [_lines(row, cut[1:], indent + 1, show) for row in nested]
        if cut[0]:
            parts.insert(edge, "...")
        return "[" + ("," + "\n" * (len(cut) - 1) + " " * (indent + 1)).join(parts) + "]"
    parts = [show(v) for v in nested]
    width = len(parts[0]) + 2 if parts else 2
    if cut[0]:
        parts.insert(edge, " ...")
    count = max(1, (_options.linewidth - indent) // width)
    rows = [", ".join(parts[i : i + count]) for i in range(0, len(parts), count)]
    return "[" + (",\n" + " " * (indent + 1)).join(rows) + "]"


def _edges(x, cut):
    """What is shown of ``x``: both ends of the dimensions that are cut, on the CPU."""
    edge = _options.edgeitems
    size = [2 * edge if gone else n for n, gone in zip(x.shape, cut)]
    y, steps = empty(size, x.dtype), x.stride()
    rows = y.stride()
    for ends in product(*[(0, 1) if gone else (0,) for gone in cut]):
        part = [edge if gone else n for n, gone in zip(x.shape, cut)]
        source = sum(end * (n - edge) * step for end, n, step in zip(ends, x.shape, steps))
        target = sum(end * edge * step for end, step in zip(ends, rows))
        write_memory(view(y, part, rows, target), move(view(x, part, steps, source), None))
    return y


def _body(x, indent):
    """The numbers of a tensor that is not empty."""
    edge = _options.edgeitems
    cut = [x.numel() > _options.threshold and n > 2 * edge for n in x.shape]
    nested = (_edges(x, cut) if any(cut) else x).tolist()
    if x.ndim == 0:
        return _number_format([nested], x.is_floating_point())(nested)
    return _lines(nested, cut, indent, _number_format(_leaves(nested, x.ndim - 1), x.is_floating_point()))


def tensor_text(x, prefix="tensor("):
    """``repr`` of a tensor."""
    indent, suffixes = len(prefix), []
    if x._device >= 0:
        suffixes.append(f"device='{x.device}'")
    if x.numel():
        text = prefix + _body(x.detach(), indent)
        usual = (get_default_dtype(), int64, bool_)
    else:
        text = prefix + "[]"
        usual = (get_default_dtype(),)
        if x.ndim != 1:
            suffixes.append(f"size={tuple(x.shape)}")
    if x.dtype not in usual:
        suffixes.append(f"dtype={x.dtype!r}")
    if x.grad_fn is not None:
        suffixes.append(f"grad_fn={x.grad_fn!r}")
    elif x.requires_grad:
        suffixes.append("requires_grad=True")
    column = len(text) - text.rfind("\n") + 1
    for suffix in suffixes:
        if column + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * indent + suffix
            column = indent + len(suffix)
        else:
            text += ", " + suffix
            column += len(suffix) + 2
    return text + ")"


def format_tensor(x, spec):
    """``format`` of a tensor: that of its number if it has no dimensions."""
    if x.ndim == 0 and type(x) is Tensor:
        return format(x.item(), spec)
    return object.__format__(x, spec)
