"""NVIDIA GPUs: which there are, waiting for them, and their memory. Functions as in ``torch.cuda``.

Work on a GPU is asynchronous: a call returns when its kernels are queued, in order, on one stream. ``item()``,
``cpu()``, printing and ``synchronize`` wait. A label out of range is noticed by the kernel that reads it and raised at
the next of these, or at the next loss; with the environment variable ``MINIGRAD_CUDA_STRICT=1`` every kernel is waited
for.

>>> import minigrad as mg
>>> device = "cuda" if mg.cuda.is_available() else "cpu"
>>> x = mg.ones(3, device=device)
"""

from ._record import current as recording
from .device import current, number, runtime, set_current, start
from .kernels.cuda.failures import OutOfMemoryError as OutOfMemoryError
from .random import default_generator

__all__ = [
    "Event", "OutOfMemoryError", "current_device", "device", "device_count", "empty_cache", "get_device_capability",
    "get_device_name", "get_rng_state", "initial_seed", "is_available", "is_bf16_supported", "is_initialized",
    "manual_seed", "manual_seed_all", "max_memory_allocated", "memory_allocated", "memory_reserved",
    "reset_peak_memory_stats", "seed", "seed_all", "set_device", "set_rng_state", "synchronize",
]  # fmt: skip


def is_available():
    """Whether there are a GPU, its driver and the packages that minigrad needs to use it."""
    try:
        return start() > 0
    except RuntimeError:
        return False


def is_initialized():
    """Whether the driver has been initialised by minigrad."""
    return runtime() is not None


def device_count():
    """How many GPUs there are; 0 without driver or packages."""
    return start() if is_available() else 0


def current_device():
    """The number of the GPU that ``device="cuda"`` means in this thread."""
    start()
    return current()


def set_device(device):
    """Let ``"cuda"`` mean this GPU in this thread: a number, ``"cuda:1"`` or a device; -1 does nothing."""
    if isinstance(device, int) and device < 0:
        return
    set_current(_number(device))


class device:
    """A context in which ``"cuda"`` means another GPU: a number, a name or a device; nothing for None or -1.

    >>> import minigrad as mg
    >>> if mg.cuda.device_count() > 1:
    ...     with mg.cuda.device(1):
    ...         x = mg.ones(3, device="cuda")
    """

    def __init__(self, device):
        self.idx = -1 if device is None or (isinstance(device, int) and device < 0) else _number(device)
        self.prev_idx = -1

    def __enter__(self):
        self.prev_idx = current()
        if self.idx >= 0:
            set_current(self.idx)

    def __exit__(self, *error):
        set_current(self.prev_idx)
        return False


def synchronize(device=None):
    """Wait for all work on a GPU, the current one unless another is named; raises what its kernels complain about."""
    _refuse("waits for a GPU")
    _runtime().synchronize(_number(device))


def memory_allocated(device=None):
    """Bytes that tensors take on a GPU."""
    return _memory(device)[0]


def max_memory_allocated(device=None):
    """The most bytes that tensors took at once, since the start or ``reset_peak_memory_stats``."""
    return _memory(device)[1]


def memory_reserved(device=None):
    """Bytes that are taken from the driver: those of tensors and those kept for reuse."""
    return _memory(device)[2]


def reset_peak_memory_stats(device=None):
    """Start a new peak for ``max_memory_allocated``."""
    _runtime().reset_peak(_number(device))


def empty_cache():
    """Give memory that is kept for reuse back to the driver, on all GPUs."""
    if is_initialized():
        for i in range(device_count()):
            _runtime().trim(i)


def get_device_name(device=None):
    """The name of a GPU."""
    return _runtime().properties(_number(device))[0]


def get_device_capability(device=None):
    """The compute capability of a GPU, such as (9, 0)."""
    return _runtime().properties(_number(device))[1]


def is_bf16_supported(including_emulation=True):
    """False: there are float32 and float64."""
    return False


# --- random numbers: one generator serves all devices, which draw the same numbers from it ----------------------------


def manual_seed(seed):
    """Start the default generator, which the CPU draws from too, with ``seed``; nothing where there is no GPU.

    >>> import minigrad as mg
    >>> mg.cuda.manual_seed(0)
    """
    seed = int(seed)
    if is_available():
        default_generator.manual_seed(seed)


def manual_seed_all(seed):
    """As ``manual_seed``: one generator serves all GPUs."""
    manual_seed(seed)


def seed():
    """Start the default generator with a seed of the operating system; nothing where there is no GPU."""
    if is_available():
        default_generator.seed()


def seed_all():
    """As ``seed``: one generator serves all GPUs."""
    seed()


def initial_seed():
    """The seed of the default generator."""
    start()
    return default_generator.initial_seed()


def get_rng_state(device="cuda"):
    """The state of the default generator, a uint8 tensor."""
    _number(device)
    return default_generator.get_state()


def set_rng_state(new_state, device="cuda"):
    """Set the state of the default generator to what ``get_rng_state`` returned."""
    _number(device)
    default_generator.set_state(new_state)


class Event:
    """A moment in a GPU's work: ``record()`` marks it, ``elapsed_time`` measures between two, in milliseconds.

    ``enable_timing`` must be true of both events of a measurement. ``blocking`` and ``interprocess`` are accepted for
    PyTorch's sake; the latter must be false.

    >>> import minigrad as mg
    >>> if mg.cuda.is_available():
    ...     start, end = mg.cuda.Event(enable_timing=True), mg.cuda.Event(enable_timing=True)
    ...     start.record()
    ...     y = mg.ones(1000, 1000, device="cuda") @ mg.ones(1000, 1000, device="cuda")
    ...     end.record()
    ...     end.synchronize()
    ...     took = start.elapsed_time(end)
    """

    def __init__(self, enable_timing=False, blocking=False, interprocess=False, external=False):
        if interprocess or external:
            raise NotImplementedError("Event: events of other processes and of graphs are not supported")
        self._timing, self._event = bool(enable_timing), None

    def record(self, stream=None):
        """Mark this moment on the current GPU, which must stay the same for an event. There is one stream a GPU."""
        if stream is not None:
            raise NotImplementedError("Event.record: there is one stream a GPU; stream must be None")
        _refuse("records an event")
        i = current_device()
        if self._event is None:
            self._event = _runtime().Event(i, self._timing)
        elif self._event.device != i:
            raise RuntimeError(f"Event device {self._event.device} does not match recording stream's device {i}.")
        self._event.record()

    def wait(self, stream=None):
        """Let what the current GPU is given from now on come after this moment."""
        if stream is not None:
            raise NotImplementedError("Event.wait: there is one stream a GPU; stream must be None")
        _refuse("waits for an event")
        if self._event is not None:
            self._event.wait(current_device())

    def query(self):
        """Whether the GPU has passed this moment; true of an event that was never recorded."""
        return self._event is None or self._event.query()

    def synchronize(self):
        """Wait until the GPU has passed this moment."""
        _refuse("waits for an event")
        if self._event is not None:
            self._event.synchronize()

    def elapsed_time(self, end_event):
        """Milliseconds from this event to ``end_event``; both are recorded and passed."""
        if self._event is None or end_event._event is None:
            raise ValueError("Both events must be recorded before calculating elapsed time.")
        if not (self._timing and end_event._timing):
            raise ValueError("Both events must be created with argument 'enable_timing=True'.")
        return self._event.elapsed(end_event._event)


def _runtime():
    start()
    return runtime()


def _refuse(why):
    """No replay of a compiled function would do it."""
    recorder = recording()
    if recorder is not None:
        recorder.refuses(why)


def _number(device):
    """The engine's number of a GPU: the current one for None."""
    i = number("cuda" if device is None else device)
    if i < 0:
        raise ValueError(f"Expected a cuda device, but got: {device}")
    return i


def _memory(device):
    return _runtime().memory(_number(device)) if is_initialized() else (0, 0, 0)
