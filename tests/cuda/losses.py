"""Loss kernels for a GPU in the simulator, and what the references of the CPU's make of the same arrays."""

import numpy as np

from minigrad.kernels.cuda import contract
from tests.kernels.harness import reference

DTYPES = ("float32", "float64")
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}
inf, nan = np.inf, np.nan


def odd(a):
    """A copy that starts one element past an aligned address."""
    out = np.empty(a.size + 1, a.dtype)[1:].reshape(a.shape)
    out[...] = a
    return out


def both(name, t, outputs, inputs, dims, scalars, units, threads=64, u="", **more):
    """Outputs of the simulated kernel and of the reference; ``outputs``: shapes, or None, or (shape, dtype)."""
    dtypes = [s[1] if s and isinstance(s[0], tuple) else t for s in outputs]
    shapes = [s[0] if s and isinstance(s[0], tuple) else s for s in outputs]
    got = [None if s is None else odd(np.full(s, 7, d)) for s, d in zip(shapes, dtypes, strict=True)]
    want = [None if s is None else np.full(s, 7, float if d == t else d) for s, d in zip(shapes, dtypes, strict=True)]
    contract.simulate(name, t, u, [*got, *inputs], dims, scalars, units, threads=threads, **more)
    if units:
        reference(name, [*want, *inputs], dims, scalars)
    return got, want


def agree(name, t, outputs, inputs, dims, scalars, units, scale=10.0, **more):
    """They agree up to TOLERANCE, relative and times ``scale``; what the kernel wrote."""
    got, want = both(name, t, outputs, inputs, dims, scalars, units, **more)
    for a, b in zip(got, want, strict=True):
        if a is not None:
            np.testing.assert_allclose(a, b, TOLERANCE[t], TOLERANCE[t] * scale, err_msg=f"{name} {t} {dims}")
    return got
