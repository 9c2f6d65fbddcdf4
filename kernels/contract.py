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
   dtype (``"float32"`` and so on in generated kernels), ``dim`` an integer, ``scalar`` a number of dtype T, ``f8s`` a
   number kept in float64, ``dims`` the raw integer array from there on, ``code`` the address of another kernel. Buffers
   are pointers: ``x[i]`` is one load, without bounds or negative indices.
   In the body ``T`` is the dtype itself: ``T(0.5)``, because a bare ``0.5`` would promote a float32 loop to float64.
c. Object code is kept in our own cache and loaded through llvmlite, so that a warm process never imports Numba
   (0.2 s) nor NumPy (0.07 s). Numba's file cache is not used for kernels: it misses edits in another file and closures
   over helpers. The cache folder is named by a hash of every kernel source, the versions of Python, Numba and llvmlite
   and the CPU, hence never stale.
d. A cache that cannot be read or written costs a recompile and one warning, never an error.
e. What the cache holds is run. So the folder is made for its owner alone, and a folder or file that somebody else (but
   root) owns or may write is not used.
f. Numba works ``aside``, in a thread of its own. Ctrl-C raises between any two lines of the main thread, and a process
   whose import of Numba was cut short could compile nothing any more. A fork waits until Numba is done.
"""

import atexit
import contextlib
import ctypes
import functools
import hashlib
import importlib.util
import os
import stat
import sys
import threading
import warnings
from pathlib import Path
from types import FunctionType

import llvmlite
import llvmlite.binding as llvm

DTYPES = ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool")

# Annotation markers; see DESIGN b.
T, U, f8, i8, i4, u1, dim, dims, scalar, f8s = "T", "U", "f8", "i8", "i4", "u1", "dim", "dims", "scalar", "f8s"
code = "code"
_FIXED = {"f8": "float64", "i8": "int64", "i4": "int32", "u1": "uint8", "code": "uint8"} | {t: t for t in DTYPES}
_MAGIC = b"minigrad-object-4"
# Without the wrappers for Python callers, which would be a fourth of the time spent compiling: what ``jit`` returns may
# be called from compiled code only.
JIT = {"error_model": "numpy", "no_cpython_wrapper": True, "no_cfunc_wrapper": True}

_registry: dict[str, "Kernel"] = {}
_addresses: dict[tuple[str, str, str], int] = {}
_lock = threading.RLock()


def _forks_wait():
    """A child has no thread that could end what its parent's began."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=lambda: _lock.acquire(),
            after_in_parent=lambda: _lock.release(),
            after_in_child=lambda: globals().update(_lock=threading.RLock()),
        )


_forks_wait()

_state: dict = dict.fromkeys(("engine", "machine", "folder", "usable"))
_state |= {"noticed": False, "warned": False, "closing": False}


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
    return _addresses.get(key) or aside(_fetch, key)()


def address_aside(name: str, t: str, u: str = "") -> int:
    """``address`` for work that runs ``aside`` already."""
    return _fetch((name, t, u))


def say_nothing():
    """Compile without the notice on stderr: somebody else tells the user."""
    _state["noticed"] = True


def known(name: str, t: str) -> bool:
    """Whether a kernel seems to need no compiler: it has been used, or lies in the cache."""
    return (name, t, "") in _addresses or (_usable() and _file((name, t, "")).exists())


def aside(work, *arguments, warn: str = ""):
    """Start ``work(*arguments)`` in a thread (DESIGN f); a function that waits for its result.

    ``warn``: nobody waits, and an exception is only a warning that begins so.
    """
    found: list = []
    failed: list[BaseException] = []

    def run():
        try:
            with _lock:
                found.append(work(*arguments))
        except BaseException as error:
            failed.append(error)
            if warn:
                warnings.warn(f"minigrad: {warn}: {error!r}", RuntimeWarning, stacklevel=2)

    def result():
        if thread.is_alive():
            thread.join()
        if failed:
            raise failed[0]
        return found[0]

    if warn:
        _forks_wait_first()
    thread = threading.Thread(target=run, name="minigrad compiler")
    run() if _state["closing"] else thread.start()
    return result


@functools.cache
def _forks_wait_first():
    """A fork takes the locks of all who asked for it, those of the last one first. Ours must come before that of
    ``logging``, which Numba takes while it is imported; so ask once more."""
    import logging  # noqa: F401

    _forks_wait()


@atexit.register
def _at_exit():
    """LLVM is unloaded next: wait for whoever compiles, and keep daemon threads from beginning to."""
    _lock.acquire()
    _state["closing"] = True


def shape(at: int) -> tuple[str, int, int, int, bool, int] | None:
    """The kernel at an address: its name with dtypes, how many buffers, dims and scalars it takes, whether ``dims``
    follow, and in bits which buffers are ``code``; None if it is none of ours. From its object code, so that nothing is
    imported."""
    for key, found in [*_addresses.items()]:
        if found == at:
            place = _state["engine"].get_global_value_address(_symbol(key) + "_shape")
            bufs, dims, scalars, more, codes = (ctypes.c_int64 * 5).from_address(place)
            return ".".join(part for part in key if part), bufs, dims, scalars, bool(more), codes
    return None


def assembly(name: str, t: str, u: str = "") -> str:
    """The machine code of a kernel as text, to check that LLVM vectorised it."""
    return _machine().emit_assembly(_module((name, t, u)))


def cache_folder() -> Path:
    """Where object code lies: ``$MINIGRAD_CACHE_DIR`` or the user's cache, then a folder named by content."""
    if _state["folder"] is None:
        chosen = os.environ.get("MINIGRAD_CACHE_DIR")
        _state["folder"] = (Path(chosen).absolute() if chosen else _user_cache()) / _fingerprint()
    return _state["folder"]


def registered() -> list[str]:
    """Names of all kernels that were written by hand, after importing every kernel module, for tests and benchmarks."""
    for path in sorted(Path(__file__).parent.glob("*.py")):
        if path.stem not in ("__init__", "__main__", "contract", "parallel", "math"):
            importlib.import_module(f"{__package__}.{path.stem}")
    return sorted(name for name in _registry if not name.startswith("chains."))


# --- object code: cache, compiler, loader -----------------------------------------------------------------------


def _user_cache() -> Path:
    for place in (os.environ.get("LOCALAPPDATA"), os.environ.get("XDG_CACHE_HOME"), os.path.expanduser("~/.cache")):
        if place and os.path.isabs(place):  # a "~" stays where the user has no home
            return Path(place, "minigrad")
    import tempfile

    return Path(tempfile.gettempdir(), f"minigrad-{os.getuid()}")


def _fingerprint() -> str:
    digest = hashlib.sha256(_MAGIC)
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.read_bytes())
    features = llvm.get_host_cpu_features().flatten()
    python = sys.implementation.cache_tag
    for word in (python, _numba_version(), llvmlite.__version__, llvm.get_host_cpu_name(), features, sys.platform):
        digest.update(word.encode() + b"\0")
    return digest.hexdigest()[:20]


def _fetch(key) -> int:
    if key not in _addresses:
        _addresses[key] = _load(key, _read(key) or _write(key, _compile(key)))
    return _addresses[key]


def _numba_version() -> str:
    """What tells one Numba from another, without importing it, nor importlib.metadata, which takes 20 ms."""
    spec = importlib.util.find_spec("numba")
    if spec is None or spec.origin is None:
        raise ImportError("minigrad needs the package numba")
    try:
        return Path(spec.origin).with_name("_version.py").read_text(encoding="utf-8")
    except OSError:
        from importlib.metadata import version

        return version("numba")


def _trusted(status: os.stat_result) -> bool:
    """Whether nobody but this user and root may have written a folder or file."""
    if not hasattr(os, "geteuid"):
        return True
    return status.st_uid in (os.geteuid(), 0) and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _warn(problem):
    if not _state["warned"]:
        _state["warned"] = True
        warnings.warn(
            f"minigrad: kernel cache {cache_folder()} {problem}; kernels are compiled in every run. The environment "
            "variable MINIGRAD_CACHE_DIR names another place",
            stacklevel=2,
        )


def _usable() -> bool:
    """Whether the cache folder, if there is one, may be used; a warning if not."""
    if _state["usable"] is None:
        try:
            _state["usable"] = _trusted(cache_folder().stat())
        except FileNotFoundError:
            return True  # until it has been made
        except OSError as error:
            _state["usable"] = False
            _warn(f"cannot be read ({error})")
        else:
            if not _state["usable"]:
                _warn("is not used: another user owns it or may write to it")
    return _state["usable"]


def _file(key) -> Path:
    return cache_folder() / (".".join(part for part in key if part) + ".o")


def _check(key, code: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(_symbol(key).encode() + code).digest()


def _read(key) -> bytes | None:
    if not _usable():
        return None
    try:
        with _file(key).open("rb") as f:
            blob = f.read() if _trusted(os.fstat(f.fileno())) else b""
    except OSError:
        return None
    size = len(_check(key, b""))
    code = blob[size:]
    # truncated, corrupt or another kernel's: compiled and written again
    return code if blob[:size] == _check(key, code) else None


def _write(key, code: bytes) -> bytes:
    if not _usable():
        return code
    import tempfile

    path, temporary = _file(key), None
    try:
        path.parent.parent.mkdir(parents=True, exist_ok=True)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        if not _usable():  # somebody else was faster
            return code
        handle, temporary = tempfile.mkstemp(dir=path.parent)  # for this user only
        with os.fdopen(handle, "wb") as f:
            f.write(_check(key, code) + code)
        os.replace(temporary, path)  # atomic: two processes may compile the same kernel at once
        temporary = None
    except OSError as error:
        _warn(f"cannot be written ({error})")
    finally:
        if temporary is not None:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
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
        module = importlib.import_module(f"{__package__}.{name.partition('.')[0]}")
        if name not in _registry:
            module.define(name)  # a generated kernel
    spec = _registry[name]
    scope = {**spec.fn.__globals__, "T": _numpy_type(t), "U": _numpy_type(u or t)}
    fn = FunctionType(spec.fn.__code__, scope, spec.fn.__name__, None, spec.fn.__closure__)
    arguments, entry = _arguments(spec, t, u)
    dispatcher = jit(fastmath=spec.fastmath)(fn)
    with _lean_numba():
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


@contextlib.contextmanager
def _lean_numba():
    """Numba without its last step, a fourth of its time: machine code of each function, which only our module needs.

    These methods are not Numba's public interface; without one of them everything takes as long as it does. A twelfth
    is the garbage collector, which finds little: it pauses.
    """
    import gc

    from numba.core import codegen
    from numba.core.compiler_lock import global_compiler_lock

    library, generator = getattr(codegen, "JITCodeLibrary", None), getattr(codegen, "JITCPUCodegen", None)
    steps = ((library, "_finalize_specific"), (generator, "_add_module"), (generator, "set_env"))
    kept = [getattr(owner, name, None) for owner, name in steps]
    with global_compiler_lock:  # other threads compile before or after
        collects = gc.isenabled()
        gc.disable()
        try:
            if all(kept):
                for owner, name in steps:
                    setattr(owner, name, lambda *_: None)
            yield
        finally:
            if collects:
                gc.enable()
            if all(kept):
                for (owner, name), step in zip(steps, kept):
                    setattr(owner, name, step)


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
    kinds = list(spec.fn.__annotations__.values())  # buffers come first
    shape = [*places.values(), "dims" in kinds, sum(1 << i for i, kind in enumerate(kinds) if kind == "code")]
    entry = [
        f"\n@{{symbol}}_shape = constant [5 x i64] [{', '.join(f'i64 {int(n)}' for n in shape)}]",
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
