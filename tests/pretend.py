"""A pretended GPU, to run the engine where there is none: the driver is ``pretend.c``, and kernels are the CPU's.

With MINIGRAD_PRETEND_CUDA=1 in the environment, tests are given one (``conftest.py``); 2 gives two. A script says
``from tests import pretend; pretend.start()`` before it uses minigrad.
"""

import ctypes
import functools
import os
import shlex
import subprocess
import sysconfig
import tempfile
from pathlib import Path

from minigrad.device import plug
from minigrad.kernels import blas, contract
from minigrad.kernels.cuda import launch

# Twins that read their scalars from device memory, and those that complain, of what (kernels/cuda/failures.py).
DEVICE_SCALARS = ("losses.cross_entropy", "losses.cross_entropy_loss", "losses.nll", "optimizers.scale")
CHECKS = {"losses.label_stats": 1, "losses_each.bce_check": 2, "index.wrap_index": 4}
TABLES = ("optimizers.", "factored.")  # kernels whose int64 buffers hold addresses
PACKED = {"elementwise.strided_unary": 2, "elementwise.strided_binary": 3}


class Image(ctypes.Structure):
    """As in pretend.c."""

    _fields_ = (
        ("magic", ctypes.c_char * 8),
        ("kernel", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("tables", ctypes.c_int64),
        ("check", ctypes.c_int64),
        ("bound", ctypes.c_void_p * 16),
        ("kind", ctypes.c_char * 96),
        ("index", ctypes.c_uint8 * 96),
    )


def compiled(source, *options):
    """The library that the C compiler makes of a file."""
    compiler = shlex.split(os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc")[:1]
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder, "made.so")
        subprocess.run([*compiler, "-O1", "-shared", "-fPIC", "-w", *options, str(source), "-o", str(made)], check=True)
        return ctypes.CDLL(str(made))


@functools.cache
def library():
    found = compiled(Path(__file__).with_name("pretend.c"))
    found.pretend_calls.restype = found.pretend_pending.restype = found.pretend_graphs.restype = ctypes.c_int64
    found.pretend_calls.argtypes = [ctypes.c_char_p]
    found.pretend_fail.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_int]
    found.pretend_limit.argtypes = [ctypes.c_int, ctypes.c_size_t]
    found.pretend_gemm.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int]
    small = blas.core() in ("SkylakeX", "Cooperlake", "SapphireRapids")
    found.pretend_gemm(blas.address("float32"), blas.address("float64"), small)
    return found


def calls(name):
    """How often a function of the driver has been called."""
    return library().pretend_calls(name.encode())


@functools.cache
def start(devices=1):
    """Plug the pretended GPUs in."""
    if library().pretend_start(devices):
        raise OSError("no memory for a pretended GPU")
    plug(launch.start(library(), library), launch, handle, shape)


def handle(name, t, u, i):
    """The handle of a CPU kernel, as if it were its twin."""
    if name in PACKED or name == "elementwise.copy_strided":
        return launch.through(PACKED.get(name, 0))
    return launch.handle(
        i, image(name, t, u), "entry", arguments(name, t, u), 256, 1024, 2112, stride=lambda: strided(name, t, u, i)
    )


def shape(name, t, u):
    """As of ``kernels.cuda.driver``, which asks the twin; a test compares them."""
    found = contract.shape(contract.address(name, t, u))
    return (*found[:3], -1, *found[4:]) if name in DEVICE_SCALARS else found


def arguments(name, t, u):
    _, bufs, dims, scalars, more, _ = contract.shape(contract.address(name, t, u))
    found = [("buffer", i) for i in range(bufs)] + [("int64", i) for i in range(dims)] + [("dims", dims)] * more
    found += [("device_scalars", 0)] if name in DEVICE_SCALARS else [("float64", i) for i in range(scalars)]
    return [*found, ("errors", 0), ("units", 0)]


def image(name, t, u, **bound):
    letters = [(launch.KINDS[kind].encode(), index) for kind, index in arguments(name, t, u)]
    made = Image(b"pretend", contract.address(name, t, u), len(letters), name.startswith(TABLES), CHECKS.get(name, 0))
    made.kind = b"".join(kind for kind, _ in letters)
    for i, (_, index) in enumerate(letters):
        made.index[i] = index
    for at, address in bound.items():
        made.bound[int(at[1:])] = address
    return bytes(made)


def strided(name, t, u, i):
    """The handle of an elementwise operation on any strides: on the CPU, a kernel that is given its address."""
    unary = contract.shape(contract.address(name, t, u))[1] == 2
    kernel, at = ("elementwise.strided_unary", 2) if unary else ("elementwise.strided_binary", 3)
    bound = {f"b{at}": contract.address(name, t, u)}
    bound |= {f"b{at + i}": contract.address("elementwise.copy_strided", d, "") for i, d in ((1, t), (2, u or t))}
    return launch.handle(i, image(kernel, t, u, **bound), "entry", arguments(kernel, t, u), 256, 1024, 2112)
