# cython: language_level=3
"""What the engine needs from the parts that are built upon it: they plug it in when they are imported."""


cdef class Plugs:
    pass


cdef Plugs plugs = Plugs()
plugs.size = tuple


def install(**functions):
    """Plug in functions (and other objects) by name; AttributeError for a name that ``Plugs`` does not list."""
    for name, value in functions.items():
        setattr(plugs, name, value)
