"""Comparing whole tensors: ``equal``, ``isclose``, ``allclose``."""

from .._engine import Tensor
from .._storage import bool_
from . import pointwise as p
from . import reduce


def _checked(name, input, other):
    for which, value in (("input", input), ("other", other)):
        if not isinstance(value, Tensor):
            raise TypeError(f"{name}(): argument '{which}' must be Tensor, not {type(value).__name__}")
    return input.detach(), other.detach()


def equal(input, other):
    """Whether two tensors have the same shape and the same values; nan equals nothing.

    >>> import minigrad as mg
    >>> mg.equal(mg.tensor([1, 2]), mg.tensor([1, 2]))
    True
    """
    a, b = _checked("equal", input, other)
    return a.shape == b.shape and bool(reduce.all(p.eq(a, b)))


def isclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """``|input - other| <= atol + rtol * |other|`` elementwise, as bools; of one dtype.

    >>> import minigrad as mg
    >>> mg.isclose(mg.tensor([1.0, 2.0]), mg.tensor([1.0, 2.1]))
    tensor([ True, False])
    """
    a, b = _checked("isclose", input, other)
    if a.dtype is not b.dtype:
        raise RuntimeError(f"{a.dtype!r} did not match {b.dtype!r}: isclose compares tensors of one dtype")
    if rtol < 0 or atol < 0:
        raise RuntimeError(f"rtol and atol must be at least 0, got {rtol} and {atol}")
    close = p.eq(a, b)
    if equal_nan and a.is_floating_point():
        close = close | (p.isnan(a) & p.isnan(b))
    if a.dtype is bool_ or (rtol == 0 and atol == 0):
        return close
    near = p.le(p.abs(a - b), p.abs(b * rtol) + atol)
    return close | (near & p.isfinite(b) & p.isfinite(a))


def allclose(input, other, rtol=1e-05, atol=1e-08, equal_nan=False):
    """Whether ``isclose`` holds everywhere.

    >>> import minigrad as mg
    >>> mg.allclose(mg.tensor([0.1]) + 0.2, mg.tensor([0.3]))
    True
    """
    return bool(reduce.all(isclose(input, other, rtol, atol, equal_nan)))
