"""Whether objects are freed without the garbage collector."""

import contextlib
import gc


@contextlib.contextmanager
def collector_off():
    """Without the collector, which then sees only what was made inside: the objects of all other tests take it long."""
    gc.freeze()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
        gc.unfreeze()
