"""Every kernel for a GPU becomes PTX and cubins for the A100 (sm_80) and the H100 (sm_90), without a GPU."""

import re

import pytest
from numba import cuda

from minigrad.kernels import contract as cpu
from minigrad.kernels.cuda import contract, parts
from minigrad.kernels.cuda.contract import T, device_scalars, errors, i8

pytestmark = pytest.mark.cuda_compile
SM_80, SM_90 = (8, 0), (9, 0)

# CPU kernels without a twin, and why.
EXEMPT = {
    "elementwise.strided_unary": "every kernel has a variant @strided instead",
    "elementwise.strided_binary": "every kernel has a variant @strided instead",
    "losses.cross_entropy_far": "stores past a CPU's caches",
    "elementwise.copy_strided": "copy@strided does it, and what strided loops bring together threads fetch themselves",
    **dict.fromkeys(
        [f"reduce.{n}_strided" for n in ("sum", "sum_squares", "prod", "all", "any", "max", "min", "maxdim", "mindim")],
        "a copy first: a GPU's memory is fast enough",
    ),
    "random.shuffle": "each exchange depends on all before: randperm runs on the CPU",
}
MAY_NOT_SPILL = ("losses", "ctc", "optimizers", "factored", "elementwise", "reduce")


def resources(text, cc):
    """(registers, shared, stack, spilled bytes) as the assembler says."""
    _, log = contract.link(text, cc, verbose=True)
    numbers = [
        sum(int(n) for n in re.findall(pattern, log))
        for pattern in (r"Used (\d+) registers", r"(\d+) bytes smem", r"(\d+) bytes stack", r"(\d+) bytes spill")
    ]
    assert "Used" in log, log
    return numbers


def test_compiles(cuda_kernel, record_property):
    spec = contract.find(cuda_kernel)
    for n, (t, u) in enumerate(spec.types):
        library = contract.library(cuda_kernel, t, u, SM_90)
        for cc in (SM_80, SM_90) if n == 0 else (SM_90,):
            text = contract.assembly(library, cc)
            registers, shared, stack, spilled = resources(text, cc)
            dtypes = t if u in ("", t) else f"{t} → {u}"
            doubles = len(re.findall(r"\.f64\s", text)) if "float64" not in (t, u) else ""
            row = (dtypes, "sm_{}{}".format(*cc), spec.block, registers, shared, stack, spilled, doubles)
            record_property("resources", (cuda_kernel, *row))
            assert registers * spec.block <= 65536
            assert not spilled or not cuda_kernel.startswith(MAY_NOT_SPILL), (dtypes, cc)


def test_every_cpu_kernel_has_a_twin():
    mine = set(contract.registered())
    missing = set(cpu.registered()) - mine
    assert missing == set(EXEMPT)


def parameters(fn):
    """Annotations less what only a CPU, or only a GPU, has."""
    return [kind for kind in fn.__annotations__.values() if kind not in ("code", "errors", "device_scalars")]


def test_twins_take_the_same_arguments(cuda_kernel):
    name, _, strided = cuda_kernel.partition("@")
    cpu.registered()
    fn = contract.find(cuda_kernel).fn
    if strided:
        operands = [kind for kind in cpu._registry[name].fn.__annotations__.values() if kind in ("T", "U")]
        name = "elementwise.strided_unary" if len(operands) == 2 else "elementwise.strided_binary"
    wanted = parameters(cpu._registry[name].fn)
    if "device_scalars" in fn.__annotations__.values():  # instead of those by value
        wanted = [kind for kind in wanted if kind not in ("scalar", "f8s")]
    assert parameters(fn) == wanted
    assert fn.__code__.co_varnames[fn.__code__.co_argcount - 1] == "units"


@pytest.mark.parametrize(
    ("name", "t", "u", "loads", "stores"),
    [
        ("add", "float32", "", r"v4\.[fbu]32", r"v4\.[fbu]32"),
        ("relu", "float64", "", r"v2\.[fbu]64", r"v2\.[fbu]64"),
        ("eq", "int64", "bool", r"v2\.[fbu]64", r"(v4\.[bu]8|[bu]32)"),
    ],
)
def test_four_elements_are_one_access(name, t, u, loads, stores):
    text = contract.ptx(f"elementwise.{name}", t, u)
    assert re.search(rf"ld\.global\.{loads}\s", text) and re.search(rf"st\.global\.{stores}\s", text)


def _every_part(y: T, places: i8, x: T, table: i8, errors: errors, scalars: device_scalars, units):
    i = cuda.grid(1)
    v = x[i]
    y[0] = parts.block_sum(v) + parts.block_max(v) + parts.block_min(v)
    y[1] = parts.warp_sum(v) + parts.warp_max(v) + parts.warp_min(v)
    if parts.aligned(parts.after(x, i)):
        y[2] = parts.at(table[0], i, T)[1]
    places[0] = parts.counter_swap(errors, 2, 0, i)
    places[1], places[2] = parts.split(i, units)
    y[3] = T(scalars[0])


@pytest.mark.parametrize("t", ["float32", "float64", "int64", "int32", "uint8", "bool"])
def test_parts(t):
    name = contract.kernel(_every_part, types=((t, ""),)).name
    try:
        text = contract.ptx(name, t)
        code, _ = contract.link(text, SM_90)
    finally:
        del contract._registry[name]
    assert code[:4] == b"\x7fELF"
    for instruction in ("shfl.sync.bfly", "bar.sync", r"atom\.(global\.)?cas"):
        assert re.search(instruction, text), instruction


def test_dims_stay_in_the_parameters():
    """They are not copied to the stack of each thread."""
    text = contract.ptx("elementwise.add@strided", "float32")
    assert "local_depot" not in text and f".b8 {contract.entry(text)}_param_8[320]" in text


def test_float32_kernels_do_not_compute_in_float64():
    for name in ("add", "mul", "relu", "sigmoid", "exp", "log", "tanh", "softplus", "rsqrt", "where_strided"):
        assert ".f64" not in contract.ptx(f"elementwise.{name}", "float32"), name


def test_arguments():
    arguments = [tuple(a) for a in contract.arguments("elementwise.arange", "float32")]
    assert arguments == [("buffer", 0, 0), ("float64", 0, 8), ("float64", 1, 16), ("units", 0, 24)]
    *_, dims, units = contract.arguments("elementwise.add@strided", "float32")
    assert dims == ("dims", 5, 64) and units == ("units", 0, 384)


@pytest.mark.parametrize(
    ("name", "units", "dims", "expected"),
    [
        ("elementwise.add", 0, (0,), (0, 256, 0)),
        ("elementwise.add", 1, (0,), (1, 256, 0)),
        ("elementwise.add", 2049, (0,), (2, 256, 0)),
        ("elementwise.add", 10**9, (0,), (contract.MOST, 256, 0)),
        ("elementwise.neg@strided", 3, (1, 100), (2, 256, 0)),
    ],
)
def test_geometry(name, units, dims, expected):
    assert contract.geometry(name, units, dims) == expected


def test_cubins_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(cpu, "_state", {**cpu._state, "folder": None, "usable": None})
    monkeypatch.setattr(contract, "_cubins", {})
    code, entry = contract.cubin("elementwise.fill", "float32", "", SM_90)
    assert code[:4] == b"\x7fELF" and entry.encode() in code
    (file,) = tmp_path.glob("*/elementwise.fill.float32.sm_90.*")
    monkeypatch.setattr(contract, "_cubins", {})
    monkeypatch.setattr(contract, "_compile", lambda *_: pytest.fail("compiled again"))
    assert contract.cubin("elementwise.fill", "float32", "", SM_90) == (code, entry)
    file.write_bytes(file.read_bytes()[:-1])
    monkeypatch.setattr(contract, "_cubins", {})
    monkeypatch.setattr(contract, "_compile", lambda *_: b"entry\0again")
    assert contract.cubin("elementwise.fill", "float32", "", SM_90) == (b"again", "entry")
