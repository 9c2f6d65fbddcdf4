"""Page-locked host memory: a GPU copies from it by itself, at full speed.

Locking pages takes the driver longer than copying them, so blocks are kept for reuse, by powers of two of their size.
"""

import ctypes
import os
import weakref

from . import launch

_PORTABLE = 1  # locked for all GPUs
_LIMIT = 1 << 28  # bytes that are kept for reuse
_free: dict[int, list[int]] = {}
_used: dict[int, int] = {}  # address -> size

if hasattr(os, "register_at_fork"):  # the driver need not have mapped it into the child
    os.register_at_fork(after_in_child=lambda: (_free.clear(), _used.clear()))


def block(nbytes: int, device: int):
    """A writable buffer of ``nbytes``; its memory is reused when nobody refers to it any more."""
    size = 1 << max(nbytes - 1, 4095).bit_length()
    kept = _free.get(size)
    address = kept.pop() if kept else _allocate(size, device)
    _used[address] = size
    made = (ctypes.c_char * nbytes).from_address(address)
    weakref.finalize(made, _give_back, address).atexit = False
    return memoryview(made)  # which has strides


def holds(address: int) -> bool:
    """Whether an address lies in such memory that is in use."""
    return any(start <= address < start + size for start, size in [*_used.items()])


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
    if size + sum(size * len(kept) for size, kept in _free.items()) > _LIMIT:
        launch.libraries[0].cuMemFreeHost(ctypes.c_void_p(address))
    else:
        _free.setdefault(size, []).append(address)
