"""NVIDIA's driver as the engine's device: prototypes, copies, products, errors, events, forks, several GPUs."""

import os
import re
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

from .. import pretend
from .both import needs_gpu

ROOT = Path(__file__).parent.parent.parent
SOURCE = (ROOT / "kernels/cuda/launch.pyx").read_text(encoding="utf-8")
PRETENDED = bool(os.environ.get("MINIGRAD_PRETEND_CUDA"))
pretended = pytest.mark.skipif(not PRETENDED, reason="needs MINIGRAD_PRETEND_CUDA=1")
two = pytest.mark.skipif(mg.cuda.device_count() < 2, reason="needs two GPUs, or MINIGRAD_PRETEND_CUDA=2")
MEBI = 1 << 20


# --- what is written down twice ---------------------------------------------------------------------------------------


def declared(text, start):
    return re.search(rf"^{start}.*?^\n", text, re.MULTILINE | re.DOTALL).group()


def test_the_engine_and_the_runtime_mean_the_same_table():
    engine = (ROOT / "minigrad/_storage.pxd").read_text(encoding="utf-8")
    for start in ("cdef struct Device:", "cdef struct Work:", "cdef enum:  .*\n    COPY_CALL"):
        assert declared(engine, start).split() == declared(SOURCE, start).split()


def header(name):
    """The folder of one of NVIDIA's headers; of a wheel, or of a toolkit."""
    wheels = Path(sysconfig.get_paths()["purelib"], "nvidia")
    places = [*wheels.glob("*/include"), Path(os.environ.get("CUDA_HOME", "/usr/local/cuda"), "include")]
    found = [place for place in places if (place / name).exists()]
    return found[0] if found else pytest.skip(f"{name} is not installed")


def compile_c(tmp_path, lines, folder):
    (tmp_path / "check.c").write_text("\n".join(lines))
    command = ["cc", "-fsyntax-only", "-Werror", f"-I{folder}", str(tmp_path / "check.c")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def checks(struct, constants):
    """C that fails to compile where a prototype or a number in launch.pyx is not the header's."""
    text = declared(SOURCE, f"cdef struct {struct}:")
    fields = re.findall(r"^    (.*?) ?\(\*(\w+)\)(\(.*\)) noexcept nogil$", text, re.MULTILINE)
    assert len(fields) == text.count("nogil")
    yield from (f"{kind} (*of_{name}){arguments} = {name};" for kind, name, arguments in fields)
    for name, value in re.findall(rf"^    ((?:{constants})\w+) = (-?\d+)$", SOURCE, re.MULTILINE):
        yield f'_Static_assert({name} == {value}, "{name}");'


def test_names_are_those_of_the_struct():
    for kind, names in (("Driver", "DRIVER"), ("Blas", "BLAS")):
        fields = re.findall(r"\(\*(\w+)\)", declared(SOURCE, f"cdef struct {kind}:"))
        written = "".join(re.findall(r'"(.*?)"', re.search(rf"^{names} = \(.*?^\)", SOURCE, re.M | re.S).group(), re.S))
        assert written.split() == fields


def test_prototypes_are_the_drivers(tmp_path):
    folder = header("cuda.h")
    props = re.findall(
        r"^    (?:unsigned )?\S+ \*?(\w+)", declared(SOURCE, "cdef struct CUmemPoolProps:"), re.MULTILINE
    )
    assert props == ["allocType", "handleTypes", "location", "win32SecurityAttributes", "maxSize", "usage", "reserved"]
    mine = (
        "typedef struct { int allocType, handleTypes; struct { int type, id; } location; "
        "void *win32SecurityAttributes; size_t maxSize; unsigned short usage; unsigned char reserved[54]; } Mine;"
    )
    same = [f'_Static_assert(offsetof(Mine, {f}) == offsetof(CUmemPoolProps, {f}), "{f}");' for f in props]
    same.append('_Static_assert(sizeof(Mine) == sizeof(CUmemPoolProps), "size");')
    lines = declared(SOURCE, "cdef struct CUDA_KERNEL_NODE_PARAMS:").splitlines()[1:]
    fields = [line.split()[-1].lstrip("*") for line in lines if line]
    mine += " typedef struct { " + " ".join(f"{line.strip()};" for line in lines if line) + " } Params;"
    assert fields[0] == "func" and fields[-1] == "ctx" and len(fields) == 12
    kind = "CUDA_KERNEL_NODE_PARAMS_v2"
    same += [f'_Static_assert(offsetof(Params, {f}) == offsetof({kind}, {f}), "{f}");' for f in fields]
    same.append(f'_Static_assert(sizeof(Params) == sizeof({kind}), "size");')
    compile_c(
        tmp_path, ["#include <stddef.h>", "#include <cuda.h>", mine, *same, *checks("Driver", "CU_|CUDA_[SE]")], folder
    )


def test_prototypes_are_those_of_cublas(tmp_path):
    folder = header("cublas_v2.h")
    compile_c(tmp_path, ["#include <cublas_v2.h>", *checks("Blas", "CUBLAS_|CUDA_R")], folder)


# --- without a GPU ----------------------------------------------------------------------------------------------------


def run(script, **environment):
    """The script's output, in a process without a pretended GPU unless told."""
    given = {k: v for k, v in os.environ.items() if k != "MINIGRAD_PRETEND_CUDA"} | environment
    given["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=given, timeout=300, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return done.stdout.strip()


def test_what_is_missing_is_said():
    script = """
import ctypes, sys
def no_driver(name, *rest, **options):
    raise OSError(name)
import minigrad as mg
assert not {"minigrad.kernels.cuda.launch", "minigrad.kernels.cuda.driver"} & {*sys.modules}
ctypes.CDLL = no_driver
assert not mg.cuda.is_available() and mg.cuda.device_count() == 0 and not mg.cuda.is_initialized()
assert mg.cuda.memory_allocated() == 0
for ask in (lambda: mg.device("cuda"), lambda: mg.zeros(2, device="cuda:1"), lambda: mg.zeros(2).cuda(),
            mg.cuda.synchronize, mg.cuda.current_device, lambda: mg.nn.Linear(2, 2).to("cuda")):
    try:
        ask()
    except RuntimeError as error:
        print(error)
"""
    lines = run(script).splitlines()
    assert len(lines) == 6 and all("is not available: found no NVIDIA driver" in line for line in lines), lines


def test_a_missing_package_is_said():
    script = """
import importlib.util, minigrad as mg
from minigrad.kernels.cuda import driver
find = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "numba_cuda" else find(name, *rest)
driver.ctypes.CDLL = lambda name: None
try:
    mg.zeros(1, device="cuda")
except RuntimeError as error:
    print(error)
"""
    assert run(script).endswith('the package numba-cuda is missing: pip install "minigrad-engine[cuda]"')


# --- memory -----------------------------------------------------------------------------------------------------------


def waits():
    return pretend.calls("cuStreamSynchronize") + pretend.calls("cuCtxSynchronize")


def there(array):
    return mg.from_numpy(array).cuda()


@needs_gpu
@pytest.mark.parametrize("n", [1, 3, 1000, MEBI // 4, MEBI // 4 + 1, 3 * MEBI])
def test_there_and_back(n):
    a = np.arange(n, dtype=np.float32)
    x = there(a)
    kept = a.copy()
    a[:] = -1  # its memory may be reused at once
    np.testing.assert_array_equal(x.cpu().numpy(), kept)


@pretended
def test_small_uploads_do_not_wait():
    mg.zeros(1, device="cuda")
    mg.cuda.synchronize()
    before = waits()
    made = [there(np.full(250, i, np.float32)) for i in range(100)]
    assert waits() == before and pretend.library().pretend_pending() >= 100
    for i, x in enumerate(made):
        assert (x.cpu().numpy() == i).all()


@needs_gpu
def test_uploads_go_round_the_ring():
    """Nine MiB in pieces, through four of pinned memory, before anybody waits."""
    made = [there(np.full(70_000 + i, i, np.float32)) for i in range(33)]
    for i, x in enumerate(made):
        assert (x.cpu().numpy() == i).all() and x.shape == (70_000 + i,)


@pretended
def test_a_gpu_copies_from_pinned_memory_by_itself():
    host = mg.arange(600_000.0).pin_memory().requires_grad_()
    values, address = host.detach().numpy().copy(), host.data_ptr()
    mg.cuda.synchronize()
    before = waits()
    x, y = host.to("cuda", non_blocking=True), host[10:].cuda(non_blocking=True)
    z = (x * 2).to("cuda", non_blocking=True)
    assert waits() == before and pretend.library().pretend_pending() >= 3
    grad = mg.autograd.grad(x.sum(), host)[0]
    assert not grad.is_cuda and (grad.numpy() == 1).all()
    x, y, z = x.detach(), y.detach(), z.detach()
    mg.cuda.synchronize()

    x = host.detach().to("cuda", None, True)
    pending = pretend.library().pretend_pending()
    del host, grad  # the copy has not run: the memory is not given to anybody else
    other = mg.zeros(600_000).pin_memory()
    assert pending and other.data_ptr() != address
    other.fill_(-1)
    assert (x.cpu().numpy() == values).all() and (y.cpu().numpy() == values[10:]).all()
    mg.cuda.synchronize()
    assert mg.zeros(600_000).pin_memory().data_ptr() == address


@needs_gpu
@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"])
@pytest.mark.parametrize("n", [1, 5, 8191, 8192, 8193, 40_000])
def test_filling(dtype, n):
    for value in (0, 1, -1, 7) if dtype not in ("bool", "uint8") else (0, 1):
        x = mg.full((n,), value, dtype=getattr(mg, dtype), device="cuda")
        np.testing.assert_array_equal(x.cpu().numpy(), np.full(n, value, dtype))


@pretended
def test_host_code_cannot_read_what_is_there():
    script = "from tests import pretend; pretend.start(); import minigrad as mg, ctypes; "
    script += "ctypes.string_at(mg.zeros(4, device='cuda').data_ptr(), 4)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, cwd=ROOT, env=os.environ, check=False)
    assert done.returncode == -11


@needs_gpu
def test_errors_name_the_gpu():
    with pytest.raises(RuntimeError, match="invalid device ordinal"):
        mg.zeros(1, device="cuda:77")
    with pytest.raises(RuntimeError, match="non-negative"):
        mg.device("cuda", -1)
    with pytest.raises(ValueError, match="Expected a cuda device"):
        mg.cuda.synchronize("cpu")


@pretended
def test_errors_of_the_driver_become_exceptions():
    mg.zeros(1, device="cuda")
    pretend.library().pretend_fail(b"cuMemcpyHtoDAsync_v2", 1, 700)
    with pytest.raises(RuntimeError, match="CUDA error: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access"):
        there(np.ones(3))
    pretend.library().pretend_fail(b"cuLaunchKernel", 1, 999)
    with pytest.raises(RuntimeError, match="CUDA error: error 999"):
        mg.zeros(1, device="cuda") + 1
    there(np.ones(3))


@pretended
def test_a_kernel_that_went_astray_is_told_at_the_next_wait():
    script = """
from tests import pretend
pretend.start()
import minigrad as mg
x = mg.zeros(4, device="cuda")
pretend.library().pretend_fail(b"nobody", 0, 0)
from minigrad.kernels.cuda import launch
image = pretend.image("elementwise.exp", "float32", "")
handle = launch.handle(0, image, "entry", pretend.arguments("elementwise.exp", "float32", ""), 256, 1024, 2112)
from minigrad._engine import from_address
from minigrad import exp
wrong = from_address(4096, 0, None, mg.float32, (4,), (1,), True)
y = exp(wrong)
try:
    y.cpu()
except RuntimeError as error:
    print(error)
"""
    assert "an illegal memory access was encountered" in run(script, PYTHONPATH=str(ROOT))


# --- contexts, forks, the end -----------------------------------------------------------------------------------------


@pretended
@two
def test_the_context_of_others_is_put_back():
    import ctypes

    library, found = pretend.library(), ctypes.c_void_p()
    x = mg.ones(3, device="cuda:1")
    library.cuDevicePrimaryCtxRetain(ctypes.byref(found), 0)
    first = found.value
    library.cuCtxSetCurrent(found)
    (x + 1).cpu()
    library.pretend_fail(b"cuLaunchKernel", 1, 999)
    with pytest.raises(RuntimeError, match="999"):
        x + 1
    library.cuCtxGetCurrent(ctypes.byref(found))
    assert found.value == first


@two
def test_two_gpus():
    a = np.arange(12, dtype=np.float32).reshape(3, 4)
    x, y = mg.tensor(a, device="cuda:0"), mg.tensor(a, device="cuda:1")
    assert x.device == mg.device("cuda", 0) and y.device == mg.device("cuda:1")
    with pytest.raises(RuntimeError, match="cuda:0 and cuda:1!|cuda:1 and cuda:0!"):
        x + y
    z = (x * 2).to("cuda:1")
    assert z.device == y.device
    np.testing.assert_array_equal((z + y).cpu().numpy(), 3 * a)
    np.testing.assert_array_equal((x.t().to("cuda:1") @ y).cpu().numpy(), a.T @ a)
    with mg.cuda.device(1):
        assert mg.cuda.current_device() == 1 and mg.zeros(1, device="cuda").device == mg.device("cuda:1")
        with mg.cuda.device(None), mg.cuda.device(-1):
            assert mg.cuda.current_device() == 1
    assert mg.cuda.current_device() == 0
    mg.cuda.set_device("cuda:1")
    assert mg.device("cuda") != mg.device("cuda:1") and mg.zeros(1).cuda().device == mg.device("cuda:1")
    mg.cuda.set_device(0)
    mg.cuda.synchronize(0)
    mg.cuda.synchronize(mg.device("cuda:1"))


@needs_gpu
def test_a_forked_child_is_refused():
    script = """
import os, sys
if os.environ.get("MINIGRAD_PRETEND_CUDA"):
    from tests import pretend
    pretend.start()
import minigrad as mg
x = mg.ones(3, device="cuda")
pid = os.fork()
if pid == 0:
    code = 0
    for use in (lambda: x + 1, lambda: mg.zeros(1, device="cuda"), lambda: x.cpu(), mg.cuda.synchronize):
        try:
            use()
            code = 3
        except RuntimeError as error:
            code = code if "Cannot re-initialize CUDA in forked subprocess" in str(error) else 4
    code = code or (mg.ones(3) + 1).sum().item() != 6
    del x
    os._exit(code)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print((x + 1).sum().item())
"""
    given = {"MINIGRAD_PRETEND_CUDA": "1"} if PRETENDED else {}
    assert run(script, PYTHONPATH=str(ROOT), **given) == "6.0"


@needs_gpu
def test_the_end_of_a_process_is_quiet():
    script = """
import sys, os
if os.environ.get("MINIGRAD_PRETEND_CUDA"):
    from tests import pretend
    pretend.start()
import minigrad as mg
sys.kept = [mg.ones(3, device="cuda") * i for i in range(5)]
sys.events = mg.cuda.Event()
sys.events.record()
sys.lent = sys.kept[0].__dlpack__()
class Late:
    def __del__(self):
        print(len(sys.kept) if sys.kept else 0)
late = Late()
"""
    given = {"MINIGRAD_PRETEND_CUDA": "1"} if PRETENDED else {}
    run(script, PYTHONPATH=str(ROOT), **given)


# --- products ---------------------------------------------------------------------------------------------------------


@needs_gpu
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("m", "n", "k"), [(1, 1, 1), (3, 5, 4), (1, 7, 9), (8, 1, 3), (33, 65, 40)])
def test_products(dtype, m, n, k):
    rng = np.random.default_rng(0)
    tolerance = 1e-5 if dtype == np.float32 else 1e-13
    for turned_a in (False, True):
        for turned_b in (False, True):
            a, b = (
                rng.standard_normal((k, m) if turned_a else (m, k)),
                rng.standard_normal((n, k) if turned_b else (k, n)),
            )
            a, b = a.astype(dtype), b.astype(dtype)
            x, y = there(a), there(b)
            found = (x.t() if turned_a else x) @ (y.t() if turned_b else y)
            np.testing.assert_allclose(
                found.cpu().numpy(), (a.T if turned_a else a) @ (b.T if turned_b else b), tolerance, 1e-5
            )


@needs_gpu
def test_batches_of_products():
    rng = np.random.default_rng(0)
    for left, right in (((4, 3, 5), (4, 5, 2)), ((3, 5), (4, 5, 2)), ((2, 1, 3, 5), (4, 5, 2)), ((4, 3, 5), (5,))):
        a, b = rng.standard_normal(left), rng.standard_normal(right)
        np.testing.assert_allclose((there(a) @ there(b)).cpu().numpy(), a @ b, 1e-12, 1e-12)


@pretended
def test_a_failing_product_is_told():
    x = mg.ones(2, 2, device="cuda")
    x @ x
    pretend.library().pretend_fail(b"cublasGemmEx_64", 1, 7)
    with pytest.raises(RuntimeError, match="cuBLAS error: CUBLAS_STATUS_INVALID_VALUE"):
        x @ x
    np.testing.assert_array_equal((x @ x).cpu().numpy(), np.full((2, 2), 2.0))


# --- events -----------------------------------------------------------------------------------------------------------


@needs_gpu
def test_events():
    start, end, plain = mg.cuda.Event(enable_timing=True), mg.cuda.Event(enable_timing=True), mg.cuda.Event()
    assert start.query()
    start.synchronize()
    with pytest.raises(ValueError, match="must be recorded"):
        start.elapsed_time(end)
    start.record()
    x = mg.ones(100, 100, device="cuda")
    for _ in range(20):
        x = x * 1.5
    end.record()
    end.synchronize()
    assert start.elapsed_time(end) > 0 and end.query()
    plain.record()
    plain.wait()
    with pytest.raises(ValueError, match="enable_timing"):
        start.elapsed_time(plain)
    with pytest.raises(NotImplementedError):
        mg.cuda.Event(interprocess=True)


# --- kernels ----------------------------------------------------------------------------------------------------------


@pretended
def test_a_kernel_may_say_how_it_is_launched():
    from minigrad.device import plug
    from minigrad.kernels.cuda import launch

    asked = []
    image, arguments = (
        pretend.image("elementwise.exp", "float32", ""),
        pretend.arguments("elementwise.exp", "float32", ""),
    )
    options = {
        "blocks": lambda units, dims: asked.append((units, len(dims))) or 5,
        "shared": lambda units, dims: 1000 * units,
    }
    made = launch.handle(0, image, "entry", arguments, 128, 1, 2112, **options)
    assert made >> 63 == 1
    plug(1, launch, lambda name, t, u, i: made, pretend.shape)
    try:
        from minigrad._engine import Kernel

        y, x = mg.zeros(100, device="cuda"), mg.ones(100, device="cuda")
        before = pretend.calls("cuFuncSetAttribute")
        for _ in range(3):
            Kernel("a test's")((y,), (x,), (0,))
        assert asked == [(100, 1)] * 3 and pretend.calls("cuFuncSetAttribute") == before + 1  # 100 KB of shared memory
        np.testing.assert_allclose(y.cpu().numpy(), np.e, 1e-6)
    finally:
        plug(1, launch, pretend.handle, pretend.shape)


@pretended
@pytest.mark.parametrize("strict", [False, True])
def test_complaints_of_kernels(strict):
    """The first is kept until somebody waits; a strict process is told at once."""
    script = """
from tests import pretend
pretend.start()
import ctypes, minigrad as mg
from minigrad.kernels.cuda import launch
from minigrad._engine import Kernel
bad, target = mg.zeros(1, dtype=mg.int64, device="cuda"), mg.tensor([0, 9, -1], device="cuda")
def ask():
    Kernel("index.check_index")((bad,), (target,), (3, 0, 5, 3), units=1)
    Kernel("index.wrap_index")((target.clone(),), (target, bad), (5, 1))
try:
    ask()
    print("later")
    mg.cuda.synchronize()
except IndexError as error:
    print(error)
target.fill_(1)
ask()
mg.cuda.synchronize()
assert bad.item() == -1
"""
    lines = run(script, PYTHONPATH=str(ROOT), MINIGRAD_CUDA_STRICT=str(int(strict))).splitlines()
    assert lines[:-1] == ([] if strict else ["later"])
    assert lines[-1].startswith("index 9, element 1, is out of bounds for a dimension of size 5")
    assert ("MINIGRAD_CUDA_STRICT" in lines[-1]) is not strict


KERNELS = [
    ("elementwise.exp", "float32", ""),
    ("elementwise.add@strided", "float64", ""),
    ("optimizers.scale", "float32", ""),
]


def compiled(kernel):
    """(machine code, arguments) of a twin; skips where nothing can compile it."""
    pytest.importorskip("numba_cuda")
    contract = pytest.importorskip("minigrad.kernels.cuda.contract")
    try:
        return contract.cubin(*kernel, (9, 0))[0], contract.arguments(*kernel)
    except (ImportError, RuntimeError, OSError) as problem:
        pytest.skip(f"cannot compile for a GPU: {problem}")


@pretended
def test_a_twin_takes_what_the_pretended_one_does():
    """Buffers, dims and scalars, and whether these are read from the device: compile relies on it."""
    pytest.importorskip("numba_cuda")
    from minigrad.kernels.cuda import driver

    names = ("elementwise.add", "elementwise.where_strided", "random.dropout", "losses.label_stats", "linear.bias_relu")
    for name in (*names, *pretend.DEVICE_SCALARS, *pretend.PACKED, "optimizers.adam", "factored.adafactor"):
        assert driver.shape(name, "float32", "") == pretend.shape(name, "float32", ""), name


@pytest.mark.parametrize("kernel", KERNELS)
def test_machine_code_wants_what_it_is_given(kernel):
    """Each parameter's place and size, as the cubin says them: record 0x17 of .nv.info, four words."""
    code, arguments = compiled(kernel)
    found = {}
    for match in re.finditer(rb"(?=\x04\x17\x0c\x00(.{12}))", code, re.DOTALL):
        _, ordinal, offset, flags = struct.unpack("<IHHI", match.group(1))
        found.setdefault(ordinal, (offset, flags >> 18))
    sizes = {"float32": 4, "dims": 8 * 40}
    assert [found.get(i) for i in range(len(arguments))] == [(a.offset, sizes.get(a.kind, 8)) for a in arguments]


@pretended
def test_a_real_kernel_is_loaded_and_launched():
    """As far as a pretended driver goes: it does nothing with real machine code."""
    from minigrad._engine import Kernel, Op
    from minigrad.device import plug
    from minigrad.kernels.cuda import driver, launch

    compiled(("elementwise.exp", "float32", ""))
    x = mg.ones(1000, 3, device="cuda")
    plug(1, launch, driver.handle, driver.shape)
    try:
        before = pretend.calls("cuLaunchKernel")
        Kernel("elementwise.exp")((x,), (x,), (0,))
        Op("Exp", kernel="exp")(x.t())  # not mg.exp, which would go on with it
        mg.cuda.synchronize()
        assert pretend.calls("cuLaunchKernel") == before + 2
    finally:
        plug(1, launch, pretend.handle, pretend.shape)
