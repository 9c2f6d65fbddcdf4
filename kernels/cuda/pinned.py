"""Page-locked host memory: a GPU copies from it by itself, at full speed.

Locking pages takes the driver longer than copying them, so blocks are kept for reuse, by powers of two of their size.
A GPU may still be copying from a block that nobody refers to any more: it waits, not the host, until events have passed
that follow the last copy to each GPU.
"""

import ctypes
import os
import weakref

from . import launch

_PORTABLE = 1  # locked for all GPUs
_LIMIT = 1 << 28  # bytes that are kept for reuse
_free: dict[int, list[int]] = {}
_used: dict[int, int] = {}  # address -> size
_sent: dict[int, dict[int, launch.Event]] = {}  # address -> GPU -> after the last copy there
_waiting: list[tuple[int, int]] = []  # address and size of what may still be copied

if hasattr(os, "register_at_fork"):  # the driver need not have mapped it into the child
    os.register_at_fork(after_in_child=lambda: [x.clear() for x in (_free, _used, _sent, _waiting)])


def block(nbytes: int, device: int):
    """A writable buffer of ``nbytes``; its memory is reused when nobody refers to it any more."""
    size = 1 << max(nbytes - 1, 4095).bit_length()
    for _ in range(len(_waiting)):
        try:
            entry = _waiting.pop(0)  # at once: other threads ask too
        except IndexError:
            break
        if _passed(entry[0]):
            _keep(*entry)
        else:
            _waiting.append(entry)
    kept = _free.get(size)
    address = kept.pop() if kept else _allocate(size, device)
    _used[address] = size
    made = (ctypes.c_char * nbytes).from_address(address)
    weakref.finalize(made, _give_back, address).atexit = False
    return memoryview(made)  # which has strides


def holds(address: int) -> bool:
    """Whether an address lies in such memory that is in use."""
    return _start(address) is not None


def send(device: int, to: int, host: int, nbytes: int) -> None:
    """Have a GPU copy from such memory in its stream's order. Nobody waits: the bytes must not change until then."""
    start = _start(host)
    launch.send(device, to, host, nbytes)
    events = _sent.setdefault(start, {})
    if device not in events:
        events[device] = launch.Event(device, False)
    events[device].record()


def _start(address):
    """The address of the block that an address lies in."""
    return next((start for start, size in [*_used.items()] if start <= address < start + size), None)


def _allocate(size, device):
    launch.stream(device)  # makes a context current
    found = ctypes.c_void_p()
    if launch.libraries[0].cuMemHostAlloc(ctypes.byref(found), ctypes.c_size_t(size), _PORTABLE) or not found.value:
        raise MemoryError(f"cannot allocate {size:,} bytes of page-locked memory")
    return found.value


def _give_back(address):
    size = _used.pop(address, None)
    if size is None:  # of a parent process
        return
    if _passed(address):
        _keep(address, size)
    else:
        _waiting.append((address, size))


def _passed(address):
    """Whether no GPU copies from a block any more."""
    if not all(event.query() for event in _sent.get(address, {}).values()):
        return False
    _sent.pop(address, None)
    return True


def _keep(address, size):
    if size + sum(size * len(kept) for size, kept in _free.items()) > _LIMIT:
        launch.libraries[0].cuMemFreeHost(ctypes.c_void_p(address))
    else:
        _free.setdefault(size, []).append(address)
