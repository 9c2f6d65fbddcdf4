"""Tensors on a GPU, from and for other libraries."""

import gc

import numpy as np
import pytest

import minigrad as mg

from .both import needs_gpu
from .test_driver import PRETENDED, pretended, waits

pytestmark = needs_gpu
DTYPES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


class Other:
    """A tensor of another library, as far as DLPack shows it."""

    def __init__(self, x, **options):
        self.x, self.options, self.streams = x, options, []

    def __dlpack__(self, *, stream=None, **options):
        self.streams.append(stream)
        return self.x.__dlpack__(stream=stream, **options, **self.options)

    def __dlpack_device__(self):
        return self.x.__dlpack_device__()


class Old(Other):
    def __dlpack__(self, *, stream=None):
        return super().__dlpack__(stream=stream)


@pytest.mark.parametrize("kind", [Other, Old])
@pytest.mark.parametrize("dtype", DTYPES)
def test_there_and_back(kind, dtype):
    a = (np.arange(12).reshape(3, 4) % 2).astype(dtype)
    for x in (mg.tensor(a, device="cuda"), mg.tensor(a, device="cuda").t(), mg.tensor(a, device="cuda")[1:, ::2]):
        other = kind(x)
        y = mg.from_dlpack(other)
        assert y.device == x.device and y.dtype is x.dtype and y.shape == x.shape and y.stride() == x.stride()
        assert y.data_ptr() == x.data_ptr() and other.streams[0] > 2
        np.testing.assert_array_equal(y.cpu().numpy(), x.cpu().numpy())
        if dtype == "float32":
            y.add_(1)
            np.testing.assert_array_equal(x.cpu().numpy(), y.cpu().numpy())


def test_memory_lives_as_long_as_somebody_uses_it():
    gc.collect()
    mg.cuda.synchronize()
    before = mg.cuda.memory_allocated()
    y = mg.from_dlpack(Other(mg.ones(5000, device="cuda")))
    z = y[10:]
    del y
    gc.collect()
    assert mg.cuda.memory_allocated() > before and z.sum().item() == 4990
    del z
    mg.cuda.synchronize()
    assert mg.cuda.memory_allocated() == before
    capsule = mg.ones(5000, device="cuda").__dlpack__()  # that nobody takes
    assert mg.cuda.memory_allocated() > before
    del capsule
    assert mg.cuda.memory_allocated() == before


def test_options():
    x = mg.ones(3, device="cuda")
    assert x.__dlpack_device__() == (2, 0) and mg.ones(3).__dlpack_device__() == (1, 0)
    y = mg.from_dlpack(Other(x, copy=True))
    assert y.data_ptr() != x.data_ptr() and y.sum().item() == 3
    here = np.from_dlpack(Other(x, dl_device=(1, 0))) if hasattr(np, "from_dlpack") and PRETENDED else None
    assert here is None or (here == 1).all()
    with pytest.raises(BufferError, match="require gradient"):
        mg.ones(3, device="cuda", requires_grad=True).__dlpack__()
    with pytest.raises(BufferError, match="cannot be exported"):
        x.__dlpack__(dl_device=(1, 0), copy=False)
    with pytest.raises(BufferError, match="stream"):
        x.__dlpack__(stream=0)
    with pytest.raises(TypeError, match="stream"):
        x.__dlpack__(stream="1")
    capsule = x.__dlpack__()
    taken = mg.from_dlpack(
        type("Box", (), {"__dlpack__": lambda s, **k: capsule, "__dlpack_device__": lambda s: (2, 0)})()
    )
    with pytest.raises(ValueError, match="nobody has used"):
        mg.from_dlpack(type("Box", (), {"__dlpack__": lambda s, **k: capsule, "__dlpack_device__": lambda s: (2, 0)})())
    assert taken.sum().item() == 3


@pretended
def test_streams_wait_for_each_other_not_the_host():
    x = mg.ones(3, device="cuda")
    before = waits()
    for stream in (None, 1):
        capsule = x.__dlpack__(stream=stream)
        del capsule
    assert waits() == before
    for stream in (2, -1):
        capsule = x.__dlpack__(stream=stream)
        del capsule  # nobody knows on which stream it was used: 2 is another one in each thread
    assert waits() == before + 2


def test_array_interface():
    x = mg.tensor(np.arange(6.0).reshape(2, 3), device="cuda")
    found = x.__cuda_array_interface__
    assert found["shape"] == (2, 3) and found["typestr"] == "<f8" and found["data"] == (x.data_ptr(), False)
    assert found["strides"] is None and found["version"] == 3 and found["stream"] > 2
    assert x.t().__cuda_array_interface__["strides"] == (8, 24)
    assert mg.zeros(0, 3, device="cuda").__cuda_array_interface__["data"] == (0, False)
    assert not hasattr(mg.ones(3), "__cuda_array_interface__")
    with pytest.raises(RuntimeError, match="requires grad"):
        x.requires_grad_().__cuda_array_interface__  # noqa: B018


def test_the_cpu_still_speaks_it():
    x = mg.arange(6.0).view(2, 3)
    y = mg.from_dlpack(x)
    assert y.data_ptr() == x.data_ptr()
    assert np.shares_memory(np.from_dlpack(x.t()), x.numpy())
