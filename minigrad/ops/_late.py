"""NumPy, imported when an operation first uses it: that takes as long as all of minigrad, and most steps need none."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    import numpy as np
else:

    class _Late:
        """Stands for the module; each name is an ordinary attribute from its first use on."""

        def __getattr__(self, name):
            import numpy

            found = getattr(numpy, name)
            setattr(self, name, found)
            return found

    np = _Late()
