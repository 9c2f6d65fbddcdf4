"""Finding NVIDIA's driver and libraries, and what is missing where there are none; importing this imports nothing."""

import ctypes
import importlib
import importlib.util
import sys

from .failures import OutOfMemoryError as OutOfMemoryError

INSTALL = 'pip install "minigrad-engine[cuda]"'
CUDA, LEAST = 13000, (7, 5)  # of the driver, whose machine code older ones cannot load; of a GPU
_DRIVER = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
# Kernels that call another by address, on the CPU: in which buffer that stands. (That of ``pack`` is never launched.)
_THROUGH = {"elementwise.strided_unary": 2, "elementwise.strided_binary": 3, "elementwise.copy_strided": 0}

_state: dict = {"found": None}


def start() -> int:
    """Initialise the driver, once; how many GPUs there are. RuntimeError that says what is missing."""
    if _state["found"] is None:
        try:
            _state["found"] = _start()
        except RuntimeError as error:
            _state["found"] = str(error)
    if isinstance(_state["found"], str):
        raise RuntimeError(_state["found"])
    return _state["found"]


def _start() -> int:
    try:
        library = ctypes.CDLL(_DRIVER)
    except OSError:
        raise RuntimeError(f"found no NVIDIA driver ({_DRIVER}) on this machine") from None
    if importlib.util.find_spec("numba_cuda") is None:
        raise RuntimeError(f"the package numba-cuda is missing: {INSTALL}")
    try:
        from . import launch
    except ImportError as error:
        raise RuntimeError(f"this build of minigrad has no support for it ({error})") from error
    version = ctypes.c_int()
    library.cuDriverGetVersion(ctypes.byref(version))
    if version.value < CUDA:
        old = f"{version.value // 1000}.{version.value % 1000 // 10}"
        raise RuntimeError(f"the NVIDIA driver is too old: it supports CUDA {old}, CUDA 13.0 is needed (driver 580)")
    count = launch.start(library, _blas)
    if not count:
        raise RuntimeError("the NVIDIA driver finds no GPU")
    if launch.properties(0)[1] < LEAST:
        raise RuntimeError("this GPU is too old: compute capability {}.{} is needed at least".format(*LEAST))
    return count


def _blas():
    """cuBLAS, from the wheel nvidia-cublas or a CUDA toolkit."""
    from cuda.pathfinder import load_nvidia_dynamic_lib

    try:
        found = load_nvidia_dynamic_lib("cublas")
    except RuntimeError as error:
        raise RuntimeError(f"matrix products on a GPU need cuBLAS: {INSTALL} ({error})") from error
    return ctypes.CDLL(found.abs_path) if found.abs_path else ctypes.CDLL("cublas", handle=found._handle_uint)


def handle(name: str, t: str, u: str, device: int) -> int:
    """What the engine launches kernel ``module.function`` by, for dtypes t and u on a GPU."""
    from . import contract, launch

    if name in _THROUGH:
        return launch.through(_THROUGH[name])
    spec = contract.find(name)
    code, entry = contract.cubin(name, t, u, capability(device))
    arguments = contract.arguments(name, t, u)
    return launch.handle(
        device,
        code,
        entry,
        arguments,
        spec.block,
        spec.per,
        contract.MOST,
        spec.blocks,
        spec.shared,
        _strided(name, t, u, device),
    )


def shape(name: str, t: str, u: str) -> tuple[str, int, int, int, bool, int]:
    """A kernel's name with dtypes, how many buffers, dims and scalars (-1: it reads them from the device) it takes,
    whether ``dims`` follow, and in bits which buffers are handles. By its twin, if it has one."""
    from .. import contract as cpu
    from . import contract

    if name in _THROUGH:
        importlib.import_module(f"{cpu.__package__}.{name.partition('.')[0]}")
    spec = cpu._registry[name] if name in _THROUGH else contract.find(name)
    kinds = [*spec.fn.__annotations__.values()]
    counts = [
        sum(kind in group for kind in kinds)
        for group in (("T", "U", "f8", "i8", "i4", "u1", "code", *cpu.DTYPES), ("dim",), ("scalar", "f8s"))
    ]
    if "device_scalars" in kinds:
        counts[2] = -1
    codes = sum(1 << i for i, kind in enumerate(kinds) if kind == "code")
    return ".".join(part for part in (name, t, u) if part), *counts, "dims" in kinds, codes


def _strided(name, t, u, device):
    return (lambda: handle(name + "@strided", t, u, device)) if name.startswith("elementwise.") else None


def capability(device: int) -> tuple[int, int]:
    """The compute capability of a GPU, such as (9, 0)."""
    from . import launch

    return launch.properties(device)[1]
