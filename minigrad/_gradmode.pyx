# cython: language_level=3, auto_pickle=False
"""Grad modes: whether this thread records operations. The flag itself is the engine's."""

from types import MethodType

from ._engine cimport grad_enabled, set_grad_off
from ._plug cimport plugs


def is_grad_enabled():
    """Whether operations are being recorded in this thread."""
    return grad_enabled()


cdef class GradMode:
    """Base of ``no_grad``, ``enable_grad`` and ``set_grad_enabled``: context manager and decorator."""
    cdef readonly int off
    cdef int before       # the mode outside, and those further out if this object was entered several times
    cdef list further
    cdef bint entered
    cdef object function  # what it decorates, wrapped: each call enters a mode of its own

    def __enter__(self):
        if self.entered:
            self.further = self.further or []
            self.further.append(self.before)
        self.before, self.entered = not grad_enabled(), True
        set_grad_off(self.off)
        return self

    def __exit__(self, kind, value, trace):
        set_grad_off(self.before)
        if self.further:
            self.before = self.further.pop()
        else:
            self.entered = False

    def __call__(self, *args, **kwargs):
        if self.function is None:  # @no_grad()
            return plugs.decorate(self, *args, **kwargs)
        return self.function(*args, **kwargs)  # @no_grad

    def __get__(self, instance, owner):
        return self if instance is None else MethodType(self, instance)

    def __getattr__(self, name):
        if self.function is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        return getattr(self.function, name)


cdef class no_grad(GradMode):
    """Do not record operations: ``with no_grad(): ...``, ``@no_grad()`` or ``@no_grad``; thread-local."""

    def __init__(self, function=None):
        self.off = 1
        if function is not None:
            self.function = plugs.decorate(self, function)


cdef class enable_grad(GradMode):
    """Record operations, inside ``no_grad`` too; context manager and decorator; thread-local."""

    def __init__(self, function=None):
        self.off = 0
        if function is not None:
            self.function = plugs.decorate(self, function)


cdef class set_grad_enabled(GradMode):
    """Record operations or not by ``mode``: at once when called, until the end of a ``with`` block when used as one."""

    def __init__(self, mode):
        if not isinstance(mode, bool):
            raise TypeError(f"set_grad_enabled: mode must be bool, got {type(mode).__name__}")
        self.off, self.before = not mode, not grad_enabled()
        set_grad_off(self.off)

    def __enter__(self):
        set_grad_off(self.off)
        return self

    def __exit__(self, kind, value, trace):
        set_grad_off(self.before)

    def __call__(self, function):
        set_grad_off(self.before)
        return plugs.decorate(self, function)
