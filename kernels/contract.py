"""The kernel contract: a Numba function over a range becomes a C function pointer, one per dtype, cached on disk.

DESIGN
a. One ABI for every CPU kernel, so that one caller and one parallel driver serve them all:
       void kernel(void **bufs, intptr_t *dims, double *scalars, intptr_t lo, intptr_t hi)
   A kernel is serial, works on units ``[lo, hi)`` (rows, blocks or elements), allocates nothing and never raises.
   No unit depends on another, so any split of the range gives the same bits.
b. The author writes a plain function whose annotations say where each argument comes from::

       @kernel
       def axpy(y: T, x: T, alpha: scalar, lo, hi):
           for i in range(lo, hi):
               y[i] = y[i] + alpha * x[i]

   ``T`` and ``U`` are buffers of the dtypes the kernel is compiled for, ``f8``/``i8``/``i4``/``u1`` buffers of one
   dtype, ``dim`` an integer, ``scalar`` a number of dtype T, ``f8s`` a number kept in float64, ``dims`` the raw
   integer array from there on. Buffers are pointers: ``x[i]`` is one load, without bounds or negative indices.
   In the body ``T`` is the dtype itself: ``T(0.5)``, because a bare ``0.5`` would promote a float32 loop to float64.
c. Object code is kept in our own cache and loaded through llvmlite, so that a warm process never imports Numba
   (0.2 s). Numba's file cache is not used for kernels: it misses edits in another file and closures over helpers.
   The cache folder is named by a hash of every kernel source, the Numba version and the CPU, hence never stale.
d. A cache that cannot be read or written costs a recompile and one warning, never an error.
"""

import ctypes
import functools
import hashlib
import importlib
import os
import sys
import tempfile
import threading
import warnings
from pathlib import Path
from types import FunctionType

import llvmlite.binding as llvm

DTYPES = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")

# Annotation markers; see DESIGN b.
T, U, f8, i8, i4, u1, dim, dims, scalar, f8s = "T", "U", "f8", "i8", "i4", "u1", "dim", "dims", "scalar", "f8s"
_FIXED = {"f8": "float64", "i8": "int64", "i4": "int32", "u1": "uint8"}
_MAGIC = b"minigrad-object-3"
# Without the wrappers for Python callers, which would be a fourth of the time spent compiling: what ``jit`` returns may
# be called from compiled code only.
JIT = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_registry: dict[str, "Kernel"] = {}
_addresses: dict[tuple[str, str, str], int] = {}
_lock = threading.RLock()

if hasattr(os, "register_at_fork"):  # a child must not wait for a thread of its parent that was compiling
    os.register_at_fork(after_in_child=lambda: globals().update(_lock=threading.RLock()))

_state: dict = {"engine": None, "machine": None, "folder": None, "noticed": False, "warned": False}


class Kernel:
    """A kernel's source function and its options; ``contract.address`` compiles it."""

    def __init__(self, fn, name: str, fastmath):
        self.fn, self.name, self.fastmath = fn, name, fastmath
        self.__doc__ = fn.__doc__
        self.reference_fn = None

    def reference(self, fn):
        """Attach the NumPy reference: same arguments as the kernel less ``lo, hi``; fills the output arrays."""
        self.reference_fn = fn
        return fn


def kernel(fn=None, *, name: str | None = None, fastmath=False):
    """Declare ``fn`` a kernel named ``module.function``; ``fastmath`` as in ``numba.njit``."""
    if fn is None:
        return lambda f: kernel(f, name=name, fastmath=fastmath)
    key = f"{fn.__module__.rpartition('.')[2]}.{name or fn.__name__}"
    _registry[key] = Kernel(fn, key, fastmath)
    return _registry[key]


def address(name: str, t: str, u: str = "") -> int:
    """The address of kernel ``module.function`` for dtype ``t`` (and ``u``), from memory, disk or the compiler."""
    key = (name, t, u)
    found = _addresses.get(key)
    if found is None:
        with _lock:
            found = _addresses.get(key)
            if found is None:
                found = _addresses[key] = _load(key, _read(key) or _write(key, _compile(key)))
    return found


def shape(at: int) -> tuple[str, int, int, int, bool] | None:
    """The kernel at an address: its name with dtypes, how many buffers, dims and scalars it takes, whether ``dims``
    follow; None if it is none of ours. From its object code, so that nothing is imported."""
    for key, found in [*_addresses.items()]:
        if found == at:
            place = _state["engine"].get_global_value_address(_symbol(key) + "_shape")
            bufs, dims, scalars, more = (ctypes.c_int64 * 4).from_address(place)
            return ".".join(part for part in key if part), bufs, dims, scalars, bool(more)
    return None


def assembly(name: str, t: str, u: str = "") -> str:
    """The machine code of a kernel as text, to check that LLVM vectorised it."""
    return _machine().emit_assembly(_module((name, t, u)))


def cache_folder() -> Path:
    """Where object code lies: ``$MINIGRAD_CACHE_DIR`` or the user's cache, then a folder named by content."""
    if _state["folder"] is None:
        chosen = os.environ.get("MINIGRAD_CACHE_DIR")
        home = os.environ.get("LOCALAPPDATA") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        _state["folder"] = (Path(chosen) if chosen else Path(home) / "minigrad") / _fingerprint()
    return _state["folder"]


def registered() -> list[str]:
    """Names of all kernels, after importing every kernel module (tests and benchmarks iterate over this)."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "contract", "parallel", "math"):
            importlib.import_module(f"{__package__}.{path.stem}")
    return sorted(_registry)


# --- object code: cache, compiler, loader -----------------------------------------------------------------------


def _fingerprint() -> str:
    from importlib.metadata import version

    digest = hashlib.sha256(_MAGIC)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    features = llvm.get_host_cpu_features().flatten()
    for word in (version("numba"), version("llvmlite"), llvm.get_host_cpu_name(), features, sys.platform):
        digest.update(word.encode() + b"\0")
    return digest.hexdigest()[:20]


def _file(key) -> Path:
    return cache_folder() / (".".join(part for part in key if part) + ".o")


def _read(key) -> bytes | None:
    try:
        blob = _file(key).read_bytes()
    except OSError:
        return None
    magic, check, code = blob[: len(_MAGIC)], blob[len(_MAGIC) : len(_MAGIC) + 32], blob[len(_MAGIC) + 32 :]
    if magic == _MAGIC and check == hashlib.sha256(code).digest():
        return code
    return None  # truncated or corrupt: compiled and written again


def _write(key, code: bytes) -> bytes:
    path = _file(key)
    temporary = None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as f:
            f.write(_MAGIC + hashlib.sha256(code).digest() + code)
        os.replace(temporary, path)  # atomic: two processes may compile the same kernel at once
    except OSError as error:
        if temporary is not None and os.path.exists(temporary):
            os.unlink(temporary)
        if not _state["warned"]:
            _state["warned"] = True
            warnings.warn(
                f"minigrad: kernel cache {path.parent} is not writable ({error}); compiling every run", stacklevel=2
            )
    return code


def _machine():
    if _state["machine"] is None:
        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        target = llvm.Target.from_default_triple()
        _state["machine"] = target.create_target_machine(
            cpu=llvm.get_host_cpu_name(),
            features=llvm.get_host_cpu_features().flatten(),
            opt=3,
            reloc="static",
            codemodel="jitdefault",
            jit=True,
        )
    return _state["machine"]


def _symbol(key) -> str:
    return "minigrad_" + "_".join(part.replace(".", "_") for part in key if part)


def _load(key, code: bytes) -> int:
    if _state["engine"] is None:
        empty = llvm.parse_assembly("")
        # The execution engine takes its target machine over, hence one of its own.
        machine = _machine()
        _state["machine"] = None
        _state["engine"] = llvm.create_mcjit_compiler(empty, machine)
    engine = _state["engine"]
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    found = engine.get_function_address(_symbol(key))
    if not found:
        raise RuntimeError(f"kernel {'.'.join(key)}: symbol missing from its object code")
    return found


def _compile(key) -> bytes:
    if not _state["noticed"]:
        _state["noticed"] = True
        print(f"minigrad: compiling kernels for this CPU, once; kept in {cache_folder()}", file=sys.stderr, flush=True)
    return _machine().emit_object(_module(key))


def _module(key):
    """Optimised LLVM module that exports one function, with the ABI of DESIGN a."""
    from numba import types

    _bool_pointers()
    name, t, u = key
    if name not in _registry:
        importlib.import_module(f"{__package__}.{name.partition('.')[0]}")
    spec = _registry[name]
    scope = {**spec.fn.__globals__, "T": _numpy_type(t), "U": _numpy_type(u or t)}
    fn = FunctionType(spec.fn.__code__, scope, spec.fn.__name__, None, spec.fn.__closure__)
    arguments, entry = _arguments(spec, t, u)
    dispatcher = jit(fastmath=spec.fastmath)(fn)
    dispatcher.compile((*arguments, types.intp, types.intp))
    (result,) = dispatcher.overloads.values()
    text = result.library.get_llvm_str() + entry.format(symbol=_symbol(key), fn=result.fndesc.llvm_func_name)
    module = llvm.parse_assembly(text)
    for function in module.functions:  # only our entry is visible, so that the rest can be dropped
        if not function.is_declaration and function.name != _symbol(key):
            function.linkage = "internal"
    builder = llvm.create_pass_builder(_machine(), llvm.create_pipeline_tuning_options(speed_level=2))
    passes = llvm.create_new_module_pass_manager()
    passes.add_global_dead_code_eliminate_pass()
    passes.run(module, builder)
    return module


def jit(fn=None, **options):
    """Numba's njit for what kernels call, with ``JIT``."""
    from numba import njit

    return njit(fn, **JIT, **options)


def _arguments(spec: Kernel, t: str, u: str):
    """The Numba types of a kernel's arguments, and LLVM's text of the entry that fetches them, by its annotations.

    The entry calls what Numba makes of the kernel: ``i32 fn(ptr result, ptr exception, arguments...)``.
    """
    from numba import types

    signature: list = []
    lines: list[str] = []
    values: list[str] = []
    places = {"buffer": 0, "dim": 0, "scalar": 0}

    def fetch(array, place, type):
        n = len(lines)
        lines.append(f"  %p{n} = getelementptr {type}, ptr {array}, i64 {places[place]}")
        lines.append(f"  %v{n} = load {type}, ptr %p{n}")
        places[place] += 1
        return f"%v{n}"

    for name, kind in spec.fn.__annotations__.items():
        if kind in ("T", "U") or kind in _FIXED:
            signature.append(types.CPointer(_numba_type({"T": t, "U": u or t}.get(kind) or _FIXED[kind])))
            values.append(f"ptr {fetch('%b', 'buffer', 'ptr')}")
        elif kind == "dim":
            signature.append(types.intp)
            values.append(f"i64 {fetch('%d', 'dim', 'i64')}")
        elif kind == "dims":
            signature.append(types.CPointer(types.intp))
            lines.append(f"  %rest = getelementptr i64, ptr %d, i64 {places['dim']}")
            values.append("ptr %rest")
        elif kind == "f8s" or (kind == "scalar" and t == "float64"):
            signature.append(types.float64)
            values.append(f"double {fetch('%s', 'scalar', 'double')}")
        elif kind == "scalar" and t == "float32":
            signature.append(types.float32)
            value = fetch("%s", "scalar", "double")
            lines.append(f"  %f{value[2:]} = fptrunc double {value} to float")
            values.append(f"float %f{value[2:]}")
        else:
            raise TypeError(f"kernel {spec.name}: argument {name!r} has unknown annotation {kind!r} for {t}")
    call = ", ".join(["ptr %ret", "ptr %exc", *values, "i64 %lo", "i64 %hi"])
    shape = [*places.values(), "dims" in spec.fn.__annotations__.values()]
    entry = [
        f"\n@{{symbol}}_shape = constant [4 x i64] [{', '.join(f'i64 {int(n)}' for n in shape)}]",
        "\ndefine void @{symbol}(ptr %b, ptr %d, ptr %s, i64 %lo, i64 %hi) {{",
        "  %ret = alloca ptr",
        "  %exc = alloca ptr",
        *lines,
        f'  %rc = call i32 @"{{fn}}"({call})',
        "  ret void\n}}\n",
    ]
    return signature, "\n".join(entry)


def _numba_type(name: str):
    from numba import types

    return types.boolean if name == "bool" else getattr(types, name)


def _numpy_type(name: str):
    import numpy

    return getattr(numpy, "bool_" if name == "bool" else name)


@functools.cache
def _bool_pointers():
    """Teach Numba to load and store through a pointer to bool: a byte in memory, one bit as a value (it forgets)."""
    import operator

    from numba import types
    from numba.extending import lower_builtin

    pointer = types.CPointer(types.boolean)

    @lower_builtin(operator.getitem, pointer, types.Integer)
    def load(context, builder, signature, arguments):
        return context.unpack_value(builder, types.boolean, builder.gep(arguments[0], [arguments[1]]))

    @lower_builtin(operator.setitem, pointer, types.Integer, types.boolean)
    def store(context, builder, signature, arguments):
        context.pack_value(builder, types.boolean, arguments[2], builder.gep(arguments[0], [arguments[1]]))
