"""The shape of a tensor."""


class Size(tuple):
    """The shape of a tensor: a tuple of its sizes.

    >>> import minigrad as mg
    >>> mg.zeros(2, 3).shape
    minigrad.Size([2, 3])
    >>> mg.zeros(2, 3).shape.numel()
    6
    """

    __slots__ = ()

    def numel(self):
        """The number of elements of a tensor of this shape."""
        n = 1
        for size in self:
            n *= size
        return n

    def __getitem__(self, index):
        part = tuple.__getitem__(self, index)
        return Size(part) if type(part) is tuple else part

    def __add__(self, other):
        return Size(tuple.__add__(self, other))

    def __repr__(self):
        return f"minigrad.Size({list(self)})"
