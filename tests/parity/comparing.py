"""Compare results of both libraries, and count how many agreed."""

import numpy as np

counts = {}  # file -> arrays that agreed

TOLERANCE = {"float32": 1e-5, "float64": 1e-11}


def array(x):
    """The values of a tensor of either library, or None."""
    return None if x is None else x.detach().numpy()


def close(file, ours, theirs, what, rtol=None):
    """Assert that two tensors (or None) agree: shape, dtype, and values relative to the largest of them."""
    a, b = array(ours), array(theirs)
    assert (a is None) == (b is None), f"{what}: {a} instead of {b}"
    if b is not None:
        assert (a.dtype, a.shape) == (b.dtype, b.shape), f"{what}: {a.dtype} {a.shape} for {b.dtype} {b.shape}"
        rtol = TOLERANCE[b.dtype.name] if rtol is None else rtol
        size = np.abs(b[np.isfinite(b)]).max(initial=0)
        np.testing.assert_allclose(a, b, rtol=rtol, atol=0.1 * rtol * size + 1e-30, err_msg=str(what))
    counts[file] = counts.get(file, 0) + 1
