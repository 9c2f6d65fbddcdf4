"""Passes of compiled functions: fewer calls and less memory traffic, with the eager bits."""

import itertools
import os
from pathlib import Path

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from . import compiled
from .compiled import OPTIMIZERS, batch, bits, compare, network, odd_network, training
from .processes import run_python

CPU = Path("/proc/cpuinfo")
CLIPS = {
    "norm": lambda p: nn.utils.clip_grad_norm_(p, 0.05),
    "never reached": lambda p: nn.utils.clip_grad_norm_(p, 1e9),
    "reached now and then": lambda p: nn.utils.clip_grad_norm_(p, 0.9),
    "largest": lambda p: nn.utils.clip_grad_norm_(p, 0.01, norm_type=float("inf")),
    "turned": lambda p: nn.utils.clip_grad_norm_(p, -0.5),
    "value": lambda p: nn.utils.clip_grad_value_(p, 0.01),
}


# Whether OpenBLAS has kernels that do not pack, on Linux; elsewhere it may have them.
NO_PACK = "OPENBLAS_CORETYPE" not in os.environ and CPU.exists() and "avx512vl" in CPU.read_text()


def kernels(run):
    return [row[0] for row in run.programs[0].table()]


def clipped(make_optimizer, clip, model=network):
    def make():
        net = model()
        optimizer = make_optimizer(net.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            clip(net.parameters())
            optimizer.step()
            return loss.detach(), [p.grad.detach().clone() for p in net.parameters()]

        return net, [optimizer], lambda x, y: step(x, y)[0]

    return make


@pytest.mark.parametrize(("name", "clip"), [*itertools.product(OPTIMIZERS, CLIPS)])
def test_clipping_is_done_chunk_by_chunk_with_the_update(name, clip, monkeypatch):
    monkeypatch.setenv("MINIGRAD_PASSES", "clip")
    run = compare(clipped(OPTIMIZERS[name], CLIPS[clip]), 14, hits=10)
    sweep = "optimizers.clamp" if clip == "value" else "optimizers.scale"
    chained = [k for k in kernels(run) if " + " in k]
    if name == "Adafactor":  # whose unit is a whole tensor
        assert not chained
        assert f"{sweep}.float32" in kernels(run)
    else:
        assert len(chained) == 1
        assert chained[0].startswith(f"{sweep} + ")
        assert f"{sweep}.float32" not in kernels(run)


def wide():
    return nn.Sequential(nn.Linear(5, 300), nn.Tanh(), nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 3))


@pytest.mark.parametrize("clip", ["norm", "reached now and then", "value"])
def test_clipping_of_many_chunks(clip):
    run = compare(clipped(OPTIMIZERS["Adam"], CLIPS[clip], wide), 12, hits=8)
    assert any(" + adam.float32" in kernel for kernel in kernels(run))


SHARED = """
from minigrad._launch import share_always, thread_stats
from tests.test_compile_passes import CLIPS, OPTIMIZERS, batch, bits, clipped, mg, wide

found = []
for threads in (1, 2, 4):
    share_always(threads > 1)
    mg.set_num_threads(threads)
    mg.manual_seed(0)
    net, _, step = clipped(OPTIMIZERS["Adam"], CLIPS["norm"], wide)()
    step = mg.compile(step)
    calls = thread_stats()["calls"]
    for i in range(8):
        step(*batch(i))
    assert step.cache_info().hits == 5
    assert (thread_stats()["calls"] > calls) == (threads > 1)
    found.append(bits(*net.parameters(), *[p.grad for p in net.parameters()]))
assert found[0] == found[1] == found[2]
"""


def test_clipping_has_the_same_bits_at_any_thread_count():
    run_python("-c", SHARED)


def test_clipping_of_two_dtypes_and_of_nan():
    def before(i, model, optimizers):
        if i == 10:
            with mg.no_grad():
                model.c[0] = float("nan")

    def two_dtypes():
        net = odd_network()
        net.a.data = net.a.data.contiguous()
        return net

    run = compare(clipped(OPTIMIZERS["SGD, momentum"], CLIPS["norm"], two_dtypes), 14, before=before, hits=10)
    assert sum(" + sgd.float" in kernel for kernel in kernels(run)) == 2
    compare(clipped(OPTIMIZERS["Adam"], CLIPS["norm"], odd_network), 8, hits=4)


def looks_in_between(net, optimizer):
    nn.utils.clip_grad_norm_(net.parameters(), 0.05)
    seen = sum((p.grad * p.grad).sum() for p in net.parameters())
    optimizer.step()
    return seen


def clips_some(net, optimizer):
    nn.utils.clip_grad_norm_(net[0].parameters(), 0.05)
    optimizer.step()
    return net[0].bias.grad.sum()


def clips_twice(net, optimizer):
    nn.utils.clip_grad_norm_(net.parameters(), 0.5)
    nn.utils.clip_grad_value_(net.parameters(), 0.01)
    optimizer.step()
    return net[0].bias.grad.sum()


def changes_one_in_between(net, optimizer):
    nn.utils.clip_grad_norm_(net.parameters(), 0.05)
    with mg.no_grad():
        net[0].bias.grad.mul_(2.0)
    optimizer.step()
    return net[0].bias.grad.sum()


@pytest.mark.parametrize(
    ("middle", "chained"), [(looks_in_between, 0), (clips_some, 0), (clips_twice, 1), (changes_one_in_between, 0)]
)
def test_what_happens_between_clipping_and_update(middle, chained):
    def make():
        net = network()
        optimizer = optim.Adam(net.parameters())

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            return loss.detach(), middle(net, optimizer)

        return net, [optimizer], step

    run = compare(make, 12, hits=8)
    assert sum(" + " in kernel for kernel in kernels(run)) == chained


def accumulated(parts, sizes, dtype=mg.float32):
    """A step over ``parts`` of the batch, whose gradients add up; ``sizes``: of one weight; the other is used twice."""

    def make():
        a, b = nn.Parameter(mg.randn(*sizes, dtype=dtype)), nn.Parameter(mg.randn(sizes[1], sizes[1], dtype=dtype))
        optimizer = optim.SGD([a, b], lr=0.01)
        model = nn.ParameterList([a, b])

        def step(x, y):
            optimizer.zero_grad()
            total = 0
            for part in x.chunk(parts):
                loss = ((part @ a).tanh() @ b @ b).square().mean()
                loss.backward()
                total = total + loss.detach()
            optimizer.step()
            return total

        return model, [optimizer], step

    return make


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("sizes", [(5, 7), (5, 40), (65, 3), (129, 33), (200, 100)])
@pytest.mark.parametrize("rows", [2, 16, 64, 250])
def test_products_add_to_the_gradients_themselves(rows, sizes, dtype, monkeypatch):
    def inputs(i):
        mg.manual_seed(i)
        return mg.randn(rows, sizes[0], dtype=dtype), None

    monkeypatch.setattr(compiled, "batch", inputs)
    before = {}
    for passes in ("", "beta"):
        monkeypatch.setenv("MINIGRAD_PASSES", passes)
        before[passes] = kernels(compare(accumulated(2, sizes, dtype), 8, hits=4))
    adds = [sum(kernel.startswith("elementwise.add.") for kernel in found) for found in before.values()]
    assert adds[1] < adds[0] if NO_PACK else adds[1] <= adds[0]


def test_sums_that_are_read_between_product_and_addition(monkeypatch):
    monkeypatch.setenv("MINIGRAD_PASSES", "beta")
    w = mg.randn(5, 5)

    def f(x):
        y = x @ w
        z = x.t() @ y
        z += y.t() @ x  # added by the product
        z += z @ w  # reads what it adds to
        t = y.t() @ y
        before = z.sum()
        z += t  # z is read in between
        u = w @ w
        z += u
        return before, z, u

    run = mg.compile(f)
    for i in range(8):
        x = batch(i)[0]
        assert bits(*run(x)) == bits(*f(x))
        for program in run.programs:
            program.poison()
    assert run.cache_info().hits == 5
    assert sum(kernel.startswith("elementwise.add.") for kernel in kernels(run)) == (3 if NO_PACK else 4)


@pytest.mark.parametrize("sizes", [(4, 8, 16), (300, 128, 300), (16, 16, 128), (512, 10, 64)])
@pytest.mark.parametrize("turned", [*itertools.product([False, True], [False, True])])
def test_zeros_keep_their_signs_where_a_product_adds_to_them(sizes, turned):
    m, n, k = sizes
    a, b = mg.full((k, m) if turned[0] else (m, k), 1e-30), mg.full((n, k) if turned[1] else (k, n), -1e-30)

    def f(y):
        y = y * -0.0
        y += (a.t() if turned[0] else a) @ (b.t() if turned[1] else b)  # -0 where it underflows
        return y

    run = mg.compile(f)
    for _ in range(4):
        assert bits(run(mg.ones(m, n))) == bits(f(mg.ones(m, n)))
    assert run.cache_info().hits == 1


def test_bytes_and_limits_in_explain(capsys, tmp_path):
    net = nn.Sequential(nn.Linear(100, 50), nn.ReLU(), nn.Linear(50, 10))
    optimizer = optim.Adam(net.parameters())

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()

    x, y = mg.randn(20, 100), mg.zeros(20, dtype=mg.int64)
    for _ in range(80):  # one run in 64 is timed
        step(x, y)
    n = sum(p.numel() for p in net.parameters())
    rows = {row[0]: row for row in step.programs[0].table()}
    assert rows["optimizers.norm_squares.float32"][2] == 4 * n + 8 * (3 + 1 + 1 + 1)  # and a sum for each chunk
    # g is read and written, p, m and v too; each tensor's step count is
    assert rows["optimizers.scale + adam.float32"][2] == 4 * 8 * n + 8 * 4
    product = next(row for row in step.programs[0].table() if row[0] == "blas.sgemm")
    assert product[2:4] == (4 * (20 * 100 + 100 * 50 + 20 * 50 + 50), 20 * 100 * 50)
    step.explain()
    out = capsys.readouterr().out
    assert "limit %" in out
    assert "captured in call 2, ready since call 3" in out
    times = [float(line[78:87]) for line in out.splitlines()[2:]]
    limits = [float(line[94:101]) for line in out.splitlines()[2:]]
    assert len(times) == len(step.programs[0].table()) + 1
    assert min(times[0], limits[0], times[-1], limits[-1]) > 0
    step.explain(html=tmp_path / "program.html")
    assert "% of the limit" in (tmp_path / "program.html").read_text()


def test_the_first_call_only_runs():
    run = mg.compile(training(optim.Adam)()[2])
    sizes = []
    for i in range(5):
        run(*batch(i))
        sizes.append(run.cache_info().currsize)
    assert sizes == [0, 1, 1, 1, 1]
    assert run.cache_info().hits == 2
    assert (run.programs[0].captured, run.programs[0].proved) == (2, 3)
    run(*batch(0, 2))  # the last batch of an epoch, say
    assert run.cache_info().currsize == 1
    run(*batch(0, 2))
    assert run.cache_info().currsize == 2
