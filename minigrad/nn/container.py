"""Modules that hold modules: Sequential, ModuleList, ModuleDict."""

import operator
from collections import OrderedDict
from collections.abc import Iterable, Mapping

from ._call import know, sequential_forward
from .activation import ReLU
from .linear import Linear
from .module import Module, _indent

know(Linear, ReLU)


class _Numbered(Module):
    """Submodules in an order, under the names "0", "1", ...: what Sequential and ModuleList share."""

    def _children(self):
        own = self.__dict__
        return [own[name] for name in own["_module_names"]]

    def _key(self, index):
        """The name of the submodule at ``index``."""
        names = list(self.__dict__["_module_names"])
        index = operator.index(index)
        if not -len(names) <= index < len(names):
            raise IndexError(f"index {index} is out of range")
        return names[index]

    def _renumber(self, modules):
        """Hold ``modules``, and nothing else, under "0", "1", ..."""
        for name in tuple(self.__dict__["_module_names"]):
            delattr(self, name)
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def __len__(self):
        return len(self.__dict__["_module_names"])

    def __iter__(self):
        return iter(self._children())

    def __setitem__(self, index, module):
        setattr(self, self._key(index), module)

    def __delitem__(self, index):
        modules = self._children()
        del modules[index if isinstance(index, slice) else list(self.__dict__["_module_names"]).index(self._key(index))]
        self._renumber(modules)

    def append(self, module):
        """Add ``module`` at the end; the container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules):
        """Add all of an iterable of modules at the end; the container."""
        if not isinstance(modules, Iterable):
            raise TypeError(
                f"{type(self).__name__}.extend should be called with an iterable, but got {type(modules).__name__}"
            )
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index, module):
        """Put ``module`` before position ``index``; the container."""
        n = len(self)
        if not isinstance(module, Module):
            raise AssertionError(f"module should be of type: {Module}")
        if not -n <= index <= n:
            raise IndexError(f"Index out of range: {index}")
        modules = self._children()
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def pop(self, index):
        """Remove the module at ``index`` and return it."""
        module = self[index]
        del self[index]
        return module

    def __iadd__(self, modules):
        return self.extend(modules)


class Sequential(_Numbered):
    """Modules one after the other: each gets what the one before returned.

    ``Sequential(*modules)`` or ``Sequential(OrderedDict(name=module, ...))``; indices and slices work as on a list.

    >>> import minigrad as mg
    >>> from minigrad import nn
    >>> model = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    >>> model(mg.zeros(5, 4)).shape
    minigrad.Size([5, 2])
    >>> model[:2]
    Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
      (1): ReLU()
    )
    """

    def __init__(self, *args):
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in args[0].items() if named else enumerate(args):
            self.add_module(str(name), module)

    forward = sequential_forward

    def __getitem__(self, index):
        if isinstance(index, slice):
            own = self.__dict__
            return type(self)(OrderedDict([(name, own[name]) for name in list(own["_module_names"])[index]]))
        return self.__dict__[self._key(index)]

    def _joined(self, modules):
        made = Sequential()
        return made.extend(modules)

    def __add__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return self._joined([*self, *other])

    def __iadd__(self, other):
        if not isinstance(other, Sequential):
            raise ValueError(f"add operator supports only objects of Sequential class, but {type(other)} is given.")
        return self.extend(other)

    def __mul__(self, other):
        return self._joined(self._children() * self._factor(other))

    __rmul__ = __mul__

    def __imul__(self, other):
        return self.extend(self._children() * (self._factor(other) - 1))

    def _factor(self, other):
        if not isinstance(other, int):
            raise TypeError(f"unsupported operand type(s) for *: {type(self)} and {type(other)}")
        if other <= 0:
            raise ValueError(f"Non-positive multiplication factor {other} for {type(self)}")
        return other


class ModuleList(_Numbered):
    """Modules in a list that registers them; it has no forward of its own.

    >>> from minigrad import nn
    >>> layers = nn.ModuleList([nn.Linear(2, 2) for _ in range(3)])
    >>> len(layers), len(list(layers.parameters()))
    (3, 6)
    """

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.extend(modules)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return type(self)(self._children()[index])
        return self.__dict__[self._key(index)]

    def __add__(self, other):
        return ModuleList([*self, *other])

    def __repr__(self):
        """Equal neighbours are shown once, with their count."""
        blocks = []
        for i, module in enumerate(self):
            text = repr(module)
            if blocks and blocks[-1][2] == text:
                blocks[-1][1] = i
            else:
                blocks.append([i, i, text])
        lines = []
        for first, last, text in blocks:
            line = f"({first}): {text}" if first == last else f"({first}-{last}): {last - first + 1} x {text}"
            lines.append("\n  " + _indent(line))
        return f"{self._get_name()}({''.join(lines)}\n)" if lines else f"{self._get_name()}()"


class ModuleDict(Module):
    """Modules in a dict that registers them, in insertion order.

    >>> from minigrad import nn
    >>> heads = nn.ModuleDict({"a": nn.Linear(2, 1), "b": nn.Identity()})
    >>> list(heads), "a" in heads
    (['a', 'b'], True)
    """

    def __init__(self, modules=None):
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key):
        return self._modules[key]

    def __setitem__(self, key, module):
        self.add_module(key, module)

    def __delitem__(self, key):
        if key not in self:
            raise KeyError(key)
        delattr(self, key)

    def __len__(self):
        return len(self.__dict__["_module_names"])

    def __iter__(self):
        return iter(self._modules)

    def __contains__(self, key):
        return key in self.__dict__["_module_names"]

    def keys(self):
        """The names."""
        return self._modules.keys()

    def values(self):
        """The modules."""
        return self._modules.values()

    def items(self):
        """(name, module)."""
        return self._modules.items()

    def pop(self, key):
        """Remove the module ``key`` and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self):
        """Remove all modules."""
        for key in tuple(self):
            del self[key]

    def update(self, modules):
        """Add all of a mapping, or of an iterable of (name, module)."""
        for key, module in _pairs(modules, "ModuleDict"):
            self[key] = module


def _pairs(items, name):
    """The (key, value) pairs of a mapping, a module with ``items``, or an iterable of pairs."""
    if not isinstance(items, Iterable):
        raise TypeError(
            f"{name}.update should be called with an iterable of key/value pairs, but got {type(items).__name__}"
        )
    if isinstance(items, Mapping) or hasattr(items, "items"):
        return list(items.items())
    pairs = []
    for i, pair in enumerate(items):
        if not isinstance(pair, Iterable):
            raise TypeError(f"{name} update sequence element #{i} should be Iterable; is {type(pair).__name__}")
        pair = tuple(pair)
        if len(pair) != 2:
            raise ValueError(f"{name} update sequence element #{i} has length {len(pair)}; 2 is required")
        pairs.append(pair)
    return pairs
