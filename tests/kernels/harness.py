"""Call a kernel, or its NumPy reference, on arrays."""

import ctypes

import numpy as np

from minigrad.kernels import contract

ENTRY = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_ssize_t] * 2)


def run(name, arrays, dims=(), scalars=(), units=0, t="float32", u="", lo=0):
    """Run kernel ``name`` on units [lo, units); ``arrays`` are contiguous or None, outputs first."""
    entry = ENTRY(contract.address(name, t, u))
    pointers = (ctypes.c_void_p * max(len(arrays), 1))(*[None if a is None else a.ctypes.data for a in arrays])
    integers = (ctypes.c_ssize_t * max(len(dims), 1))(*[int(d) for d in dims])
    numbers = (ctypes.c_double * max(len(scalars), 1))(*[float(s) for s in scalars])
    entry(pointers, integers, numbers, lo, units)


def reference(name, arrays, dims=(), scalars=()):
    """Fill the output arrays by the kernel's NumPy reference."""
    contract.registered()
    with np.errstate(all="ignore"):
        contract._registry[name].reference_fn(*arrays, *dims, *scalars)
