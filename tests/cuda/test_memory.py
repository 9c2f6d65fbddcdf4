"""Memory on a GPU: what is in use, what is kept, and running out of it."""

import gc

import pytest

import minigrad as mg

from .. import pretend
from .both import needs_gpu
from .test_driver import pretended, two, waits

pytestmark = needs_gpu
KIBI = 1024


def test_what_is_in_use():
    gc.collect()
    mg.cuda.synchronize()
    before = mg.cuda.memory_allocated()
    x = mg.zeros(64 * KIBI, device="cuda")
    assert mg.cuda.memory_allocated() - before >= 256 * KIBI
    mg.cuda.reset_peak_memory_stats()
    y = x + 1
    z = y * 2
    del y
    peak = mg.cuda.max_memory_allocated("cuda:0")
    assert peak >= before + 768 * KIBI and mg.cuda.memory_reserved(0) >= peak
    del x, z
    mg.cuda.synchronize()
    assert mg.cuda.memory_allocated() == before
    mg.cuda.empty_cache()
    mg.cuda.reset_peak_memory_stats()
    assert mg.cuda.max_memory_allocated() == before


@pretended
def test_memory_is_reused_in_the_order_of_the_stream():
    """A block is handed out again while kernels that read it are still waiting; nobody waits for that."""
    mg.cuda.synchronize()
    x = mg.ones(1000, device="cuda")
    before, y = waits(), x
    for _ in range(50):
        y = y + x
    reserved = mg.cuda.memory_reserved()
    for _ in range(50):
        y = y + x
    assert mg.cuda.memory_reserved() == reserved and waits() == before
    assert (y.cpu().numpy() == 101).all()


@pretended
def test_out_of_memory():
    library = pretend.library()
    gc.collect()
    mg.cuda.empty_cache()
    reserved = mg.cuda.memory_reserved()
    library.pretend_limit(0, reserved + 1024 * KIBI)
    try:
        x = mg.zeros(128 * KIBI, device="cuda")
        with pytest.raises(
            mg.cuda.OutOfMemoryError, match="CUDA out of memory. Tried to allocate 1,048,576 bytes. GPU 0"
        ):
            mg.zeros(256 * KIBI, device="cuda")
        assert issubclass(mg.cuda.OutOfMemoryError, RuntimeError) and issubclass(mg.cuda.OutOfMemoryError, MemoryError)
        del x
        y = mg.zeros(256 * KIBI, device="cuda")  # what was kept has been given back
        assert not y.cpu().numpy().any()
    finally:
        library.pretend_limit(0, 1 << 30)


@two
def test_figures_are_by_gpu():
    before = mg.cuda.memory_allocated(1)
    x = mg.zeros(KIBI, device="cuda:1")
    assert mg.cuda.memory_allocated("cuda:1") > before
    with mg.cuda.device(1):
        assert mg.cuda.memory_allocated() == mg.cuda.memory_allocated(1)
    del x


def test_names():
    assert mg.cuda.get_device_name() and mg.cuda.get_device_name(0) == mg.cuda.get_device_name("cuda:0")
    major, minor = mg.cuda.get_device_capability()
    assert major >= 7 and 0 <= minor < 10 and mg.cuda.is_initialized()


@pretended
def test_linear_cross_entropy_holds_two_chunks(monkeypatch):
    """Beside the gradients: the logits of a chunk, and theirs."""
    n, d, c = 512, 64, 2000
    monkeypatch.setattr("minigrad.ops.linear_cross_entropy.DISTANT", 64 * c)
    x, w = (mg.ones(*shape, device="cuda", requires_grad=True) for shape in ((n, d), (c, d)))
    target = mg.zeros(n, dtype=mg.int64, device="cuda")
    for _ in range(2):  # once for cuBLAS's workspace
        x.grad = w.grad = None
        gc.collect()
        mg.cuda.synchronize()
        mg.cuda.reset_peak_memory_stats()
        before = mg.cuda.memory_allocated()
        mg.nn.functional.linear_cross_entropy(x, w, target).backward()
        mg.cuda.synchronize()
        peak = mg.cuda.max_memory_allocated() - before
    assert peak <= 4 * (n * d + c * d + 2 * 64 * c) + 64 * KIBI
