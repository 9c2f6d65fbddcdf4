"""Kernels in Numba's simulator: NumPy arrays as pointers that notice what lies outside, and C's math functions."""

import math
import sys
import threading
import warnings
from types import SimpleNamespace

import numpy as np

lock = threading.RLock()


class Pointer:
    """A pointer to the memory of a contiguous array. It knows where the array ends, as a GPU does not."""

    def __init__(self, array, start=0):
        array = np.empty(0) if array is None else array
        if not array.flags.c_contiguous:
            raise ValueError("kernels take contiguous arrays")
        self.array = array.reshape(-1)[start:]
        self.dtype = array.dtype

    def __getitem__(self, i):
        return self.array[self._inside(i)]

    def __setitem__(self, i, value):
        self.array[self._inside(i)] = value

    def _inside(self, i):
        if not 0 <= i < self.array.size:
            raise IndexError(f"element {i} of {self.array.size}")
        return i

    @property
    def address(self):
        return self.array.ctypes.data

    def after(self, i):
        if not 0 <= i <= self.array.size:
            raise IndexError(f"element {i} of {self.array.size}")
        return Pointer(self.array, i)


class Address:
    """A pointer to memory of which only the address is known."""

    def __init__(self, address, T):
        self.address, self.dtype = address, np.dtype(T)
        self.type = np.ctypeslib.as_ctypes_type(self.dtype)

    def _element(self, i):
        return self.type.from_address(self.address + int(i) * self.dtype.itemsize)

    def __getitem__(self, i):
        return self.dtype.type(self._element(i).value)

    def __setitem__(self, i, value):
        self._element(i).value = self.dtype.type(value).item()

    def after(self, i):
        return Address(self.address + i * self.dtype.itemsize, self.dtype)


def aligned4(x, i):
    """Complain where a GPU would: four elements from the i-th on lie at no multiple of what one access takes."""
    size = x.dtype.itemsize
    if (x.address + int(i) * size) % min(16, 4 * size):
        raise ValueError(f"4 elements of {size} bytes from {i} on are not aligned")


def _of_numbers(f):
    def number(x):
        try:
            return type(x)(f(x))
        except (OverflowError, ValueError):  # of the gamma functions: too large, or a pole
            return type(x)(math.inf)

    return number


def _pow(x, y):
    return np.power(np.array([x]), np.array([y]))[0]  # of two scalars, (-inf) ** 0.5 is nan


# Python's functions raise where C's give inf or nan, and make every float32 a float64.
_SAME = ["ceil", "copysign", "cos", "cosh", "exp", "exp2", "expm1", "floor", "fmod", "frexp", "hypot", "isfinite"]
_SAME += ["isinf", "isnan", "ldexp", "log", "log10", "log1p", "log2", "nextafter", "sin", "sinh", "sqrt", "tan", "tanh"]
MATH = SimpleNamespace(
    **{name: getattr(np, name) for name in [*_SAME, "trunc"]},
    **{name: getattr(math, name) for name in ("e", "inf", "nan", "pi")},
    **{name: _of_numbers(getattr(math, name)) for name in ("erf", "erfc", "gamma", "lgamma")},
    **{f"a{name}": getattr(np, f"arc{name}") for name in ("sin", "cos", "tan", "tan2", "sinh", "cosh", "tanh")},
    fabs=np.abs,
    pow=_pow,
)


def run(fn, blocks, threads, shared, values):
    """Run a kernel's function, as it is in Python, with every ``math`` of our modules C's."""
    from numba import cuda

    package = __name__.rpartition(".")[0]
    scopes = [vars(module) for name, module in sys.modules.items() if name.startswith(package) and name != __name__]
    scopes = [scope for scope in [fn.__globals__, *scopes] if scope.get("math") is math]
    for scope in scopes:
        scope["math"] = MATH
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)
            cuda.jit(fn)[blocks, threads, 0, shared](*values)
    finally:
        for scope in scopes:
            scope["math"] = math
