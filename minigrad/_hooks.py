"""Lists of hooks, and the handles that take hooks out of them."""


class RemovableHandle:
    """What ``register_hook`` returns: ``remove()`` takes the hook away; usable as a context manager."""

    def __init__(self, hooks, entry):
        self._hooks, self._entry = hooks, entry

    def remove(self):
        """Take the hook away; a second call does nothing."""
        self._hooks[:] = [entry for entry in self._hooks if entry is not self._entry]

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.remove()


def add_hook(hooks, hook):
    """Append ``[hook]``, which is no other entry, to the list of a tensor or node; the handle."""
    if not callable(hook):
        raise TypeError(f"a hook must be callable, got {type(hook).__name__}")
    entry = [hook]
    hooks.append(entry)
    return RemovableHandle(hooks, entry)
