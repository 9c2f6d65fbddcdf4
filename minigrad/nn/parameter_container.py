"""Modules that hold parameters: ParameterList, ParameterDict. Tensors put into them become Parameters."""

import operator
from collections.abc import Iterable

from .._engine import Tensor
from .container import _pairs
from .module import Module
from .parameter import Parameter


def _parameter(value):
    return Parameter(value) if isinstance(value, Tensor) and not isinstance(value, Parameter) else value


def _describe(key, value):
    if not isinstance(value, Tensor):
        return f"  ({key}): Object of type: {type(value).__name__}"
    kind = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"  ({key}): {kind} containing: [{value.dtype!r} of size {'x'.join(map(str, value.shape))}]"


class ParameterList(Module):
    """Parameters (or anything else) in a list that registers them.

    >>> import minigrad as mg
    >>> weights = mg.nn.ParameterList([mg.zeros(2), mg.zeros(3)])
    >>> [p.shape for p in weights.parameters()]
    [minigrad.Size([2]), minigrad.Size([3])]
    """

    def __init__(self, values=None):
        super().__init__()
        self._size = 0
        if values is not None:
            self.extend(values)

    def _key(self, index):
        i = operator.index(index)
        if not -len(self) <= i < len(self):
            raise IndexError(f"index {i} is out of range")
        return str(i % len(self))

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)([self[i] for i in range(*index.indices(len(self)))])
        return self.__dict__[self._key(index)]

    def __setitem__(self, index, value):
        setattr(self, self._key(index), _parameter(value))

    def __len__(self):
        return self._size

    def __iter__(self):
        return iter([self[i] for i in range(len(self))])

    def __iadd__(self, values):
        return self.extend(values)

    def append(self, value):
        """Add ``value`` at the end; the list."""
        value = _parameter(value)
        setattr(self, str(self._size), value)
        self._size += 1
        return self

    def extend(self, values):
        """Add all of an iterable at the end; the list."""
        if not isinstance(values, Iterable) or isinstance(values, Tensor):
            raise TypeError(f"ParameterList.extend should be called with an iterable, but got {type(values).__name__}")
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self):
        return "\n".join([_describe(i, value) for i, value in enumerate(self)])

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """Parameters (or anything else) in a dict that registers them, in insertion order.

    >>> import minigrad as mg
    >>> weights = mg.nn.ParameterDict({"left": mg.zeros(2)})
    >>> [name for name, _ in weights.named_parameters()]
    ['left']
    """

    def __init__(self, parameters=None):
        super().__init__()
        self._keys = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key):
        if key not in self._keys:
            raise KeyError(key)
        return self.__dict__[key]

    def __setitem__(self, key, value):
        if not isinstance(key, str):
            raise TypeError(
                "Index given to ParameterDict cannot be used as a key as it is not a string "
                f"(type is '{type(key).__name__}')."
            )
        if key not in self._keys and hasattr(self, key):
            raise KeyError(f"attribute '{key}' already exists")
        setattr(self, key, _parameter(value))
        self._keys[key] = None

    def __delitem__(self, key):
        del self._keys[key]
        delattr(self, key)

    def __len__(self):
        return len(self._keys)

    def __iter__(self):
        return iter(self._keys)

    def __reversed__(self):
        return reversed(list(self._keys))

    def __contains__(self, key):
        return key in self._keys

    def __or__(self, other):
        made = self.copy()
        made.update(other)
        return made

    def __ior__(self, other):
        self.update(other)
        return self

    def copy(self):
        """Another ParameterDict with the same values."""
        return ParameterDict(dict(self.items()))

    def setdefault(self, key, default=None):
        """The value of ``key``, after setting it to ``default`` if it is absent."""
        if key not in self:
            self[key] = default
        return self[key]

    def get(self, key, default=None):
        """The value of ``key``, or ``default`` if it is absent."""
        return self[key] if key in self._keys else default

    def pop(self, key):
        """Remove ``key`` and return its value."""
        value = self[key]
        del self[key]
        return value

    def popitem(self):
        """Remove the last (key, value) and return it."""
        if not self._keys:
            raise KeyError("popitem(): ParameterDict is empty")
        key = next(reversed(self._keys))
        return key, self.pop(key)

    def clear(self):
        """Remove everything."""
        for key in tuple(self):
            del self[key]

    def fromkeys(self, keys, default=None):
        """A new ParameterDict of ``keys``, all with the value ``default``."""
        return ParameterDict([(key, default) for key in keys])

    def keys(self):
        """The keys."""
        return self._keys.keys()

    def values(self):
        """The values."""
        return [self[key] for key in self._keys]

    def items(self):
        """(key, value)."""
        return [(key, self[key]) for key in self._keys]

    def update(self, parameters):
        """Add all of a mapping, or of an iterable of (key, value)."""
        for key, value in _pairs(parameters, "ParameterDict"):
            self[key] = value

    def extra_repr(self):
        return "\n".join([_describe(key, value) for key, value in self.items()])

    def __call__(self, *args, **kwargs):
        raise RuntimeError("ParameterDict should not be called.")
