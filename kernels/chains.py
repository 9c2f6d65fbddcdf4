"""Generated kernels: elementwise operations that feed each other, in one loop.

DESIGN
a. minigrad.compile writes the source (``_fuse.py``): a kernel whose body calls the scalar functions of elementwise.py
   by name, and brings each result to the dtype in which its own kernel would have stored it. No fastmath flag is set,
   and LLVM neither contracts nor reassociates without one, so each operation rounds as in its own kernel. Only the sign
   and the payload of a nan are open, as IEEE 754 and LLVM leave them.
b. The name of such a kernel is the hash of its source; the functions it calls are part of the cache folder's name.
"""

import functools
import hashlib

from . import contract

_sources: dict[str, str] = {}


def declare(source: str) -> str:
    """The name of the kernel with this source, which ``contract`` may then be asked for."""
    name = f"chains.{hashlib.sha256(source.encode()).hexdigest()[:20]}"
    _sources[name] = source
    return name


def define(name: str):
    """Make the kernel that was declared, for ``contract``, which knows it from then on."""
    import numpy as np

    scope = {**_functions(), "float32": np.float32, "float64": np.float64, "__name__": __name__}
    exec(_sources[name], scope)  # noqa: S102 (of our own making, from names of operations)
    contract.kernel(scope["chain"], name=name.partition(".")[2])


@functools.cache
def _functions():
    from . import elementwise as e

    tables = (*e.UNARY, *e.UNARY_TO_BOOL, *e.BINARY, *e.COMPARE)
    functions = {row[0]: row[1] for row in tables} | {"clamp": _clamp, "where": _where}
    # inlined always: a call in a loop keeps it scalar
    return {name: contract.jit(function, forceinline=True) for name, function in functions.items()}


def _clamp(x, low, high):
    v = low if x < low else x
    return high if v > high else v


def _where(c, a, b):
    return a if c else b
