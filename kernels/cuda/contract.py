"""The kernel contract on a GPU: a Numba function over a grid becomes a cubin, one per dtype and compute capability.

DESIGN
a. A kernel here is the twin of the CPU kernel of the same name: the same buffers, dims and scalars in the same order,
   by the same annotations. Instead of ``lo, hi`` it is given ``units`` and covers them all in one launch::

       @kernel(block=256, per=1024)
       def axpy(y: T, x: T, alpha: scalar, units):
           for i in range(cuda.grid(1), units, cuda.gridsize(1)):
               y[i] = y[i] + alpha * x[i]

   The grid has no more than MOST blocks, so loops are grid-stride. ``errors`` and ``scalars: device_scalars`` may be
   declared before ``units``: eight int64 that the host reads, and float64 scalars that lie on the device.
b. Buffers are pointers; a bool is a byte there, and ``T(x[i])`` makes it a bool again. ``dims`` is indexed like a
   tuple; it lies in the kernel's parameters (constant memory), wherever the index comes from.
c. Arguments are packed as C would pack a struct of them; ``arguments`` says what lies where.
d. Numba makes PTX, nvJitLink a cubin of it, without a GPU. A cubin lies in the CPU kernels' cache, named by a hash of
   the sources here and the versions of what made it. The PTX itself is never given to a driver, which may be older than
   the compiler.
e. ``simulate`` runs a kernel on NumPy arrays in Numba's simulator (NUMBA_ENABLE_CUDASIM=1), for tests.
"""

import contextlib
import functools
import hashlib
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import FunctionType, SimpleNamespace
from typing import NamedTuple

from .. import contract as cpu
from ..contract import T, U, dim, dims, f8, f8s, i4, i8, scalar, u1

__all__ = ["T", "U", "dim", "dims", "f8", "f8s", "i4", "i8", "scalar", "u1"]  # the annotations; see DESIGN a
__all__ += ["errors", "device_scalars", "kernel", "jit"]

errors, device_scalars = "errors", "device_scalars"
MOST = 1 << 16  # blocks of a grid: so many waves of them that the last one, which leaves gaps, does not count
DIMS = 40  # integers of ``dims``
THREADS = 256
FLOATS = (("float32", ""), ("float64", ""))

_FIXED = {"f8": "float64", "i8": "int64", "i4": "int32", "u1": "uint8"}
_SIZES = {"float32": 4, "dims": 8 * DIMS}  # of arguments; all others take 8 bytes

_registry: dict[str, "Kernel"] = {}
_cubins: dict[tuple[str, ...], bytes] = {}
_state = {"noticed": False}


class Kernel:
    """A kernel's source function, its options and how many threads it is run by."""

    def __init__(self, fn, name: str, block: int, per, blocks, shared, fastmath: bool, fma: bool, types):
        self.fn, self.name, self.block, self.per = fn, name, block, per or block
        self.blocks, self.shared, self.types = blocks, shared, types
        self.fastmath, self.fma = fastmath, fma
        self.__doc__ = fn.__doc__


def kernel(
    fn=None,
    *,
    name: str | None = None,
    block: int = THREADS,
    per: int | None = None,
    blocks: Callable[[int, Sequence[int]], int] | None = None,
    shared: int | Callable[[int, Sequence[int]], int] = 0,
    fastmath: bool = False,
    fma: bool = True,
    types: Sequence[tuple[str, str]] = FLOATS,
):
    """Declare ``fn`` the twin of ``module.function``.

    ``block``: threads a block. ``per``: units a block covers in one turn of its loop (as many as threads). ``blocks``
    and ``shared`` (bytes of dynamic shared memory): functions of (units, dims) where ``per`` cannot say it. ``fma``:
    whether x * y + z may be rounded once. ``types``: what T and U are; tests compile all of them, the first for every
    compute capability.
    """
    if fn is None:
        return lambda f: kernel(
            f, name=name, block=block, per=per, blocks=blocks, shared=shared, fastmath=fastmath, fma=fma, types=types
        )
    key = f"{fn.__module__.rpartition('.')[2]}.{name or fn.__name__}"
    _registry[key] = Kernel(fn, key, block, per, blocks, shared, fastmath, fma, types)
    return _registry[key]


def jit(fn):
    """A function that kernels call. ``T`` and ``U`` are unknown there: ``type(x)(0.5)``."""
    from numba import cuda
    from numba.cuda.core import config

    return fn if config.ENABLE_CUDASIM and "cuda" not in fn.__code__.co_names else cuda.jit(device=True)(fn)


def registered() -> list[str]:
    """Names of all kernels, after importing every module of kernels."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "contract", "parts", "compiled", "simulated"):
            importlib.import_module(f"{__package__}.{path.stem}")
    return sorted(_registry)


def find(name: str) -> Kernel:
    """The kernel of a name; its module is imported."""
    if name not in _registry:
        importlib.import_module(f"{__package__}.{name.partition('.')[0]}")
    return _registry[name]


# --- how a kernel is launched -----------------------------------------------------------------------------------------


def geometry(name: str, units: int, dims: Sequence[int] = ()) -> tuple[int, int, int]:
    """Blocks, threads a block and bytes of dynamic shared memory; 0 blocks if there is nothing to do."""
    spec = find(name)
    if units <= 0:
        return 0, spec.block, 0
    blocks = spec.blocks(units, dims) if spec.blocks else -(-units // spec.per)
    shared = spec.shared(units, dims) if callable(spec.shared) else spec.shared
    return max(1, min(blocks, MOST)), spec.block, shared


class Argument(NamedTuple):
    """What a kernel wants in its packed arguments: ``kind``, the number of the buffer, dim or scalar, and where."""

    kind: str  # buffer, int64 (a dim), float32 or float64 (scalars), dims (DIMS int64), errors, device_scalars, units
    number: int
    offset: int


@functools.cache
def arguments(name: str, t: str, u: str = "") -> tuple[Argument, ...]:
    """The packed arguments of a kernel. ``dims`` are one parameter of DIMS int64, the dims from ``index`` on."""
    found: list[Argument] = []
    counts = {"buffer": 0, "int64": 0, "scalars": 0}
    offset = 0
    for kind, _ in _parameters(find(name), t, u):
        group = {"float32": "scalars", "float64": "scalars", "dims": "int64"}.get(kind, kind)
        size = _SIZES.get(kind, 8)
        offset = -(-offset // min(size, 8)) * min(size, 8)
        found.append(Argument(kind, counts.get(group, 0), offset))
        offset += size
        if group in counts and kind != "dims":
            counts[group] += 1
    return tuple(found)


def _parameters(spec: Kernel, t: str, u: str):
    """Kind and element type of each parameter, by its annotation."""
    for name, kind in spec.fn.__annotations__.items():
        if kind in ("T", "U") or kind in _FIXED:
            yield "buffer", {"T": t, "U": u or t}.get(kind) or _FIXED[kind]
        elif kind == "dim":
            yield "int64", "int64"
        elif kind == "f8s" or (kind == "scalar" and t == "float64"):
            yield "float64", "float64"
        elif kind == "scalar" and t == "float32":
            yield "float32", "float32"
        elif kind == "errors":
            yield kind, "int64"
        elif kind == "device_scalars":
            yield kind, "float64"
        elif kind == "dims":
            yield kind, "int64"
        else:
            raise TypeError(f"kernel {spec.name}: argument {name!r} has unknown annotation {kind!r} for {t}")
    yield "units", "int64"


# --- from Python to a cubin -------------------------------------------------------------------------------------------


def cubin(name: str, t: str, u: str, cc: tuple[int, int]) -> tuple[bytes, str]:
    """The machine code of a kernel for a compute capability such as (9, 0), and the name of its entry."""
    key = (name, t, u, "sm_{}{}".format(*cc), _fingerprint())
    if key not in _cubins:
        cpu.aside(_fetch, key, cc)()
    entry, _, code = _cubins[key].partition(b"\0")
    return code, entry.decode()


def ptx(name: str, t: str, u: str = "", cc: tuple[int, int] = (9, 0)) -> str:
    """The PTX of a kernel, to look at."""
    return assembly(library(name, t, u, cc), cc)


def library(name: str, t: str, u: str, cc: tuple[int, int]) -> tuple[list[str], dict]:
    """A kernel and what it calls as modules in LLVM's language, and NVVM's options for them."""
    from numba.cuda import compiler
    from numba.cuda.cudadrv import nvvm

    from .compiled import pass_dims_by_value

    spec = find(name)
    signature = tuple(_numba_type(kind, element) for kind, element in _parameters(spec, t, u))
    # What numba.cuda.compile does, but for the dims, since it has no way to pass more than a number by value, and for
    # modules that are called from two others: it links them twice, which fails where they have shared memory.
    options = {"fastmath": spec.fastmath, "opt": 3} | ({} if spec.fma else {"fma": False})
    with _as_on(cc):
        made = compiler.compile_cuda(
            specialised(spec, t, u), None, signature, cc=cc, fastmath=spec.fastmath, nvvm_options=options
        )
    function = made.library.get_function(made.fndesc.llvm_func_name)
    compiler.kernel_fixup(function, False)
    nvvm.set_launch_bounds(function, spec.block)
    pass_dims_by_value(function)
    return [str(module) for module in dict.fromkeys(made.library.modules)], options


def assembly(library: tuple[list[str], dict], cc: tuple[int, int]) -> str:
    """The PTX of a ``library``."""
    from numba.cuda.cudadrv import nvvm

    modules, options = library
    return nvvm.compile_ir(modules, arch="compute_{}{}".format(*cc), **options).decode().strip("\0").strip()


@contextlib.contextmanager
def _as_on(cc: tuple[int, int]):
    """Numba asks the GPU for its compute capability, in a context of its own; there need not be one."""
    from numba.cuda import dispatcher
    from numba.cuda.core.compiler_lock import global_compiler_lock

    with global_compiler_lock:
        kept = dispatcher.get_current_device
        dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=cc)
        try:
            yield
        finally:
            dispatcher.get_current_device = kept


def specialised(spec: Kernel, t: str, u: str) -> FunctionType:
    """The kernel's function, where T and U are dtypes."""
    scope = {**spec.fn.__globals__, "T": cpu._numpy_type(t), "U": cpu._numpy_type(u or t)}
    return FunctionType(spec.fn.__code__, scope, spec.fn.__name__, None, spec.fn.__closure__)


def link(text: str, cc: tuple[int, int], verbose: bool = False) -> tuple[bytes, str]:
    """A cubin of PTX, and what the assembler says of registers and spills if ``verbose``."""
    from cuda.core import Linker, LinkerOptions, ObjectCode

    options = LinkerOptions(arch="sm_{}{}".format(*cc), verbose=verbose or None)
    linker = Linker(ObjectCode.from_ptx(text.encode()), options=options)
    code = linker.link("cubin").code
    return bytes(code), linker.get_info_log()


def entry(text: str) -> str:
    """The name of the kernel in PTX."""
    found = re.search(r"\.entry (\S+)\(", text)
    if found is None:
        raise RuntimeError("PTX without an entry")
    return found.group(1)


def _fetch(key: tuple[str, ...], cc: tuple[int, int]):
    if key not in _cubins:
        _cubins[key] = cpu._read(key) or cpu._write(key, _compile(key, cc))


def _compile(key: tuple[str, ...], cc: tuple[int, int]) -> bytes:
    if not _state["noticed"]:
        _state["noticed"] = True
        kept = cpu.cache_folder()
        print(f"minigrad: compiling kernels for {key[3]}, once; kept in {kept}", file=sys.stderr, flush=True)
    name, t, u = key[:3]
    text = ptx(name, t, u, cc)
    return entry(text).encode() + b"\0" + link(text, cc)[0]


@functools.cache
def _fingerprint() -> str:
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    from importlib.metadata import PackageNotFoundError, version

    for package in ("numba-cuda", "cuda-core", "nvidia-nvvm", "nvidia-nvjitlink"):
        try:
            digest.update(f"{package} {version(package)}\0".encode())
        except PackageNotFoundError:  # not from a wheel
            digest.update(f"{package}\0".encode())
    return digest.hexdigest()[:20]


def _numba_type(kind: str, element: str):
    from numba.cuda import types

    if kind == "dims":
        from .compiled import Dims

        return Dims()
    scalar = getattr(types, "uint8" if element == "bool" else element)
    return types.CPointer(scalar) if kind in ("buffer", "errors", "device_scalars") else scalar


# --- without a GPU ----------------------------------------------------------------------------------------------------


def simulate(name, t, u, bufs, dims=(), scalars=(), units=0, most=2, errors=None, threads=None):
    """Run a kernel on NumPy arrays (or None) in Numba's simulator, by at most ``most`` blocks.

    ``errors``: eight int64, if the caller wants to see them. ``threads``: fewer than the kernel's block, where
    it allows that.
    """
    from . import simulated

    spec = find(name)
    blocks, block, shared = geometry(name, units, dims)
    if not blocks:
        return
    given = {
        "buffer": [simulated.Pointer(x) for x in bufs],
        "int64": [int(d) for d in dims],
        "float32": [cpu._numpy_type("float32")(s) for s in scalars],
        "float64": [float(s) for s in scalars],
        "errors": [simulated.Pointer(errors if errors is not None else simulated.np.zeros(8, "int64"))],
        "device_scalars": [simulated.Pointer(simulated.np.array([*scalars, 0.0], "float64"))],
        "units": [int(units)],
    }
    values = []
    for kind, index, _ in arguments(name, t, u):
        rest = tuple(given["int64"][index:])
        values.append(rest + (0,) * (DIMS - len(rest)) if kind == "dims" else given[kind][index])
    simulated.run(specialised(spec, t, u), min(blocks, most), threads or block, shared, values)
