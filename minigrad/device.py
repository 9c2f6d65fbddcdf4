"""Where tensors live: on the CPU, or on an NVIDIA GPU where there is one. Asking for what is not there says why.

DESIGN
a. The engine numbers devices: -1 is the CPU, 0 the first GPU. ``number`` makes such a number of what users write, and
   ``described`` what users see of a number.
b. No driver and no package for GPUs is loaded before somebody names one. Then ``plug`` gives the engine their table of
   functions; tests plug in a pretended one.
c. As in PyTorch, "cuda" is the GPU that is current in the calling thread, and the devices of tensors have an index.
d. Where tensors are made by default is a matter of the thread, too: the innermost ``with device(...)``, else what
   ``set_default_device`` said, else the CPU. Who makes tensors asks only if ``defaults.count`` says that some thread
   has such a default. What a compiled function depends on is told to the engine (``_storage.set_where``).
"""

import threading
from collections.abc import Callable
from typing import Any

from . import _storage

_KNOWN = ("cpu", "cuda", "mps", "xpu", "meta")

ACCELERATOR = "cuda"  # how users call devices that are not the CPU: methods are named by it

_gpus: list["device"] = []
_state: dict[str, Any] = {"plugged": False, "runtime": None}
_lock = threading.Lock()


class device:
    """A device by its name, ``"cpu"``, ``"cuda"`` or ``"cuda:1"``, or a GPU's number; RuntimeError if there is none.

    >>> import minigrad as mg
    >>> mg.device("cpu")
    device(type='cpu')
    >>> mg.zeros(2).device == mg.device("cpu")
    True

    As a context manager: where tensors are made meanwhile, in this thread, unless ``device=`` says otherwise.

    >>> with mg.device("cpu"):
    ...     model = mg.nn.Linear(2, 1)
    """

    __slots__ = ("index", "type")

    type: str
    index: int | None

    def __init__(self, type, index=None):
        if isinstance(type, device):
            type, index = type.type, type.index
        if isinstance(type, int) and not isinstance(type, bool) and index is None:
            type, index = "cuda", type
        if not isinstance(type, str):
            raise TypeError(f"device(): type must be a string such as 'cpu', got {type!r}")
        name, colon, number = type.partition(":")
        if colon:
            if index is not None:
                raise RuntimeError(f"type (string) must not include an index because index was passed: {type!r}")
            if not number.isdecimal():
                raise RuntimeError(f"Invalid device string: {type!r}")
            index = int(number)
        if name not in _KNOWN:
            raise RuntimeError(f"Expected one of {', '.join(_KNOWN)} device type at start of device string: {type}")
        if index is not None and index < 0:
            raise RuntimeError(f"Device index must be non-negative, got {index}")
        if name == "cuda":
            start(type)
        elif name != "cpu":
            raise RuntimeError(f"device {type!r} is not available: minigrad has kernels for 'cpu' and 'cuda' only")
        self.type, self.index = name, index

    def __repr__(self):
        return f"device(type={self.type!r}{'' if self.index is None else f', index={self.index}'})"

    def __str__(self):
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __eq__(self, other):
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self):
        return hash((self.type, self.index))

    def __reduce__(self):
        return device, (self.type, self.index)

    def __enter__(self):
        number(self)  # an error if it is not there
        _here.said.entered.append(self)
        _count(1)
        return self

    def __exit__(self, *error):
        _here.said.entered.pop()
        _count(-1)


def number(where) -> int:
    """The engine's number of a device: -1 for the CPU and None, else a GPU that is there."""
    if where is None or where is cpu:
        return -1
    found = where if isinstance(where, device) else device(where)
    if found.type == "cpu":
        return -1
    i = current() if found.index is None else found.index
    if i >= len(_gpus):
        raise RuntimeError(f"CUDA error: invalid device ordinal: {found} among {len(_gpus)} GPU(s)")
    return i


def described(i: int) -> device:
    """The device of an engine's number."""
    return cpu if i < 0 else _gpus[i]


def current() -> int:
    """The number of this thread's GPU."""
    return _here.gpu


def set_current(i: int) -> None:
    _here.gpu = i
    _tell()


class _Defaults:
    """How many defaults there are, in all threads: see ``default``."""

    __slots__ = ("count", "lock")

    def __init__(self):
        self.count, self.lock = 0, threading.RLock()  # one that a destructor may ask for at any time

    def add(self, more: int) -> None:
        with self.lock:
            self.count += more


defaults = _Defaults()


class _Said:
    """What a thread has said about where tensors are made. It lives in the thread's ``_here`` and ends with it."""

    def __init__(self):
        self.entered, self.default, self.everybody = [], None, defaults

    def __del__(self):
        self.everybody.add(-len(self.entered) - (self.default is not None))


class _Here(threading.local):
    def __init__(self):
        self.gpu, self.said = 0, _Said()


_here = _Here()


def _count(more: int) -> None:
    defaults.add(more)
    _tell()


def _tell() -> None:
    _storage.set_where(number(default()), current())


def default():
    """Where tensors are made in this thread unless ``device=`` says it; None if nobody has said so."""
    said = _here.said
    return said.entered[-1] if said.entered else said.default


def set_default_device(device):
    """Where tensors are made in this thread unless ``device=`` says it; None is the CPU.

    >>> import minigrad as mg
    >>> mg.set_default_device("cpu")
    >>> mg.get_default_device()
    device(type='cpu')
    """
    made = None if device is None else _device(device)
    number(made)
    had, _here.said.default = _here.said.default, made
    _count((made is not None) - (had is not None))


def get_default_device():
    """Where tensors are made in this thread unless ``device=`` says it."""
    return described(number(default()))


def start(name: str = "cuda") -> int:
    """Have GPUs plugged in, once; how many there are. RuntimeError that says what is missing."""
    if not _state["plugged"]:
        from .kernels.cuda import driver

        with _lock:
            if not _state["plugged"]:
                try:
                    count = driver.start()
                except RuntimeError as error:
                    raise RuntimeError(f"device {name!r} is not available: {error}") from None
                from .kernels.cuda import launch

                plug(count, launch, driver.handle, driver.shape)
    return len(_gpus)


def plug(
    count: int, runtime, handle: Callable[[str, str, str, int], int], shape: Callable[[str, str, str], tuple]
) -> None:
    """Give the engine ``count`` GPUs: ``runtime`` is a module such as ``kernels.cuda.launch``, whose ``table()`` is the
    address of their functions; ``handle(name, t, u, i)`` finds a kernel by the name of its twin on the CPU, and
    ``shape(name, t, u)`` says what it takes."""
    for i in range(len(_gpus), count):
        made = device.__new__(device)
        made.type, made.index = "cuda", i
        _gpus.append(made)
    _storage.set_devices(runtime.table(), described, handle, shape, current)
    _state["plugged"], _state["runtime"] = True, runtime


def runtime():
    """The module that ``plug`` was given; None before."""
    return _state["runtime"]


def page_locked(nbytes: int, where=None):
    """A buffer of host memory from which a GPU copies at full speed; RuntimeError where there is none."""
    start()
    from .kernels.cuda import pinned

    return pinned.block(nbytes, current() if where is None else number(where))


def is_page_locked(address: int) -> bool:
    """Whether ``page_locked`` has made the memory at an address."""
    if not _state["plugged"]:
        return False
    from .kernels.cuda import pinned

    return pinned.holds(address)


def send(i: int, to: int, host: int, nbytes: int) -> None:
    """Have GPU ``i`` copy from page-locked memory to an address of its own, which nobody waits for."""
    from .kernels.cuda import pinned

    pinned.send(i, to, host, nbytes)


_device = device  # where an argument has that name
cpu = device("cpu")
