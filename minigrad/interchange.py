"""Tensors from and for other libraries without a copy: DLPack and ``__cuda_array_interface__``.

Libraries work on streams of their own. Who hands a tensor over makes the other's stream wait for its work so far. When
a tensor of ours that somebody borrowed is given back, or we give one back, who uses the memory next must not be faster
than who used it last: our stream waits for theirs where that is possible, and the host for both where it is not.
"""

from ._engine import from_address
from ._record import current
from ._storage import bool_, float32, float64, int8, int16, int32, int64, uint8
from .device import number, runtime

CPU, GPU = 1, 2  # DLPack's device types
_DTYPES = {
    (2, 32): float32, (2, 64): float64, (0, 64): int64, (0, 32): int32, (0, 16): int16, (0, 8): int8, (1, 8): uint8,
    (6, 8): bool_,
}  # fmt: skip
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_TYPESTR = {
    float32: "<f4", float64: "<f8", int64: "<i8", int32: "<i4", int16: "<i2", int8: "|i1", uint8: "|u1", bool_: "|b1",
}  # fmt: skip
_LEGACY, _PER_THREAD = 1, 2  # the driver's two default streams, by DLPack's numbers and its own


class _Lent:
    """A tensor on a GPU while somebody else uses its memory on a stream."""

    def __init__(self, tensor, stream):
        self.tensor, self.stream = tensor, stream

    def __del__(self):
        i = self.tensor._device
        if self.stream == _LEGACY:
            runtime().order(i, self.stream, False)
        else:  # which need not exist any more, or is another one in this thread
            runtime().wait(i)


class _Borrowed:
    """Memory on a GPU that belongs to somebody else."""

    def __init__(self, taken):
        self.taken = taken

    def __del__(self):
        runtime().wait(self.taken.device[1])


def dlpack(self, *, stream=None, max_version=None, dl_device=None, copy=None):
    """The DLPack protocol: a capsule over the same memory. BufferError if the tensor requires grad."""
    if self.requires_grad:
        raise BufferError("Can't export tensors that require gradient, use tensor.detach()")
    i = self._device
    if i < 0:
        given = {"max_version": max_version, "dl_device": dl_device, "copy": copy}
        given = {k: v for k, v in given.items() if v is not None}
        return self.numpy().__dlpack__(stream=stream, **given)
    if dl_device is not None and tuple(dl_device) != (GPU, i):
        if tuple(dl_device) != (CPU, 0) or copy is False:
            raise BufferError(f"a tensor on {self.device} cannot be exported to DLPack device {tuple(dl_device)}")
        return dlpack(self.cpu(), max_version=max_version)
    if stream is not None and (not isinstance(stream, int) or isinstance(stream, bool)):
        raise TypeError("stream must be ``int`` or ``none``")
    if stream is not None and (stream == 0 or stream < -1):
        raise BufferError(f"__dlpack__: stream must be None, -1, 1, 2 or the address of a stream, got {stream}")
    _told()
    tensor = self.clone() if copy else self
    stream = _LEGACY if stream is None else stream
    if stream != -1:
        runtime().order(i, stream, True)
    from . import _dlpack

    return _dlpack.export(
        _Lent(tensor, stream), tensor.data_ptr(), (GPU, i), _CODES[tensor.dtype], tuple(tensor.shape), tensor.stride(),
        False, max_version is not None and max_version[0] >= 1,
    )  # fmt: skip


def _told():
    recorder = current()
    if recorder is not None:
        recorder.refuses("gets at the memory of a tensor")


def dlpack_device(self):
    """The DLPack protocol: (1, 0), the CPU, or (2, i), a GPU."""
    return (CPU, 0) if self._device < 0 else (GPU, self._device)


def array_interface(self):
    """The protocol of CUDA libraries in Python, version 3: address, shape, strides in bytes, and our stream."""
    if self._device < 0:
        raise AttributeError("a tensor on the CPU has no __cuda_array_interface__; use Tensor.cuda() first")
    if self.requires_grad:
        raise RuntimeError(
            "Can't get __cuda_array_interface__ on Variable that requires grad. If gradients aren't required, use "
            "var.detach() to get Variable that doesn't require grad."
        )
    _told()
    size = self.element_size()
    return {
        "shape": tuple(self.shape),
        "typestr": _TYPESTR[self.dtype],
        "data": (self.data_ptr() if self.numel() else 0, False),
        "strides": None if self.is_contiguous() else tuple(s * size for s in self.stride()),
        "version": 3,
        "stream": runtime().stream(self._device),
    }


METHODS = {
    "__dlpack__": dlpack,
    "__dlpack_device__": dlpack_device,
    "__cuda_array_interface__": property(array_interface),
}


def from_gpu(ext_tensor):
    """A tensor over the memory of an object whose ``__dlpack_device__`` is a GPU."""
    from . import _dlpack

    i = number(ext_tensor.__dlpack_device__()[1])
    stream = runtime().stream(i)
    try:
        capsule = ext_tensor.__dlpack__(stream=stream, max_version=(1, 0))
    except TypeError:  # a library from before version 1
        capsule = ext_tensor.__dlpack__(stream=stream)
    taken = _dlpack.Taken(capsule)
    if taken.device != (GPU, i):
        raise BufferError(f"from_dlpack: expected memory of DLPack device {(GPU, i)}, got {taken.device}")
    dtype = _DTYPES.get(taken.dtype)
    if dtype is None:
        raise TypeError(f"from_dlpack: DLPack dtype (code, bits) = {taken.dtype} is not supported")
    if any(s < 0 for s in taken.strides):
        raise ValueError("from_dlpack: tensors with negative strides are not supported")
    return from_address(taken.address, i, _Borrowed(taken), dtype, taken.shape, taken.strides, not taken.readonly)
