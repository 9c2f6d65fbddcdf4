"""Compiled steps on a GPU: the bits of the eager ones, few captures, one launch a step, and no waiting."""

import gc
import re
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn.utils import clip_grad_norm_, clip_grad_value_

from .. import pretend
from ..test_compile_fuzz import COUNT, Case
from .both import needs_gpu
from .test_driver import ROOT, pretended, run, two, waits
from .test_engine_optimizers import CASES, IDS

pytestmark = needs_gpu
F = mg.nn.functional
CLASSES = 5


class Setting:
    """A model, an optimizer and a step; all of it again for each side of a comparison."""

    def __init__(self, optim=mg.optim.Adam, options=None, loss="ce", clip=None, zero=True, split=False, **keywords):
        mg.manual_seed(0)
        nn = mg.nn
        first = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Dropout(0.3)).to("cuda")
        second = nn.Sequential(nn.Linear(16, 8), nn.Tanh(), nn.Linear(8, CLASSES)).to("cuda:1" if split else "cuda")
        self.parameters = [*first.parameters(), *second.parameters()]
        optimizer = self.optimizer = optim(self.parameters, **(options or {}))
        parameters, where = self.parameters, "cuda:1" if split else "cuda:0"
        classes = mg.arange(CLASSES, device=where)

        def step(x, y):
            if zero:
                optimizer.zero_grad()
            z = second(first(x).to(where))
            if loss == "ce":
                found = F.cross_entropy(z, y, label_smoothing=0.1)
            elif loss == "bce":
                found = F.binary_cross_entropy(z.sigmoid(), (y.unsqueeze(1) == classes).float())
            else:
                found = F.mse_loss(z, (y.unsqueeze(1) == classes).float())
            found.backward()
            if clip == "norm":
                clip_grad_norm_(parameters, 0.1)
            elif clip == "value":
                clip_grad_value_(parameters, 0.01)
            optimizer.step()
            return found.detach()

        self.step = step

    def state(self):
        states = [s for p in self.parameters for s in self.optimizer.state[p].values() if isinstance(s, mg.Tensor)]
        grads = [p.grad for p in self.parameters if p.grad is not None]
        return [t.detach().cpu().numpy().tobytes() for t in (*self.parameters, *states, *grads)]


def batches(n, rows=8, split=False, fresh=False):
    rng = np.random.default_rng(1)
    device = "cuda:1" if split else "cuda"
    x = mg.tensor(rng.standard_normal((n, rows, 12)), dtype=mg.float32, device="cuda")
    y = mg.tensor(rng.integers(0, CLASSES, (n, rows)), device=device)
    return [(x[0] if not fresh else x[i], y[0] if not fresh else y[i]) for i in range(n)]


def both(data, change=lambda i, setting: None, keep=False, **options):
    """Eagerly and compiled; the compiled function. Memory of programs is filled with nan before each call."""
    sides = []
    for compiled in (False, True):
        setting = Setting(**options)
        step = mg.compile(setting.step) if compiled else setting.step
        losses, kept = [], None
        for i, (x, y) in enumerate(data):
            change(i, setting)
            for program in step.programs if compiled else ():
                program.poison()
            loss = step(x, y)
            losses.append(loss if keep else loss.item())
            kept = [p.grad for p in setting.parameters] if keep else None
        losses = [loss.item() if keep else loss for loss in losses]
        sides.append((losses, setting.state(), [g.cpu().numpy().tobytes() for g in kept or ()]))
    assert sides[0] == sides[1]
    return step


def only(step):
    """The one program that there is, which is made of graphs."""
    (program,) = step.programs
    assert step.off == 0 and program.trusted and program.why_no_graphs is None
    return program


@pytest.mark.parametrize(("cls", "options"), CASES, ids=IDS)
def test_optimizers(cls, options):
    step = both(batches(6), optim=cls, options=options)
    assert only(step).graph_counts()[0][1] == 1 and step.cache_info().hits == 3


@pytest.mark.parametrize("loss", ["ce", "bce", "mse"])
@pytest.mark.parametrize("clip", ["norm", "value", None])
def test_losses_and_clipping(loss, clip):
    """With another batch each time, so that addresses change, and a learning rate that does."""

    def change(i, setting):
        setting.optimizer.param_groups[0]["lr"] = 0.01 / (1 + i // 4)

    step = both(batches(12, fresh=True), change, loss=loss, clip=clip, optim=mg.optim.AdamW)
    assert len(only(step).graph_counts()) == 1


def test_kept_results_and_gradients():
    step = both(batches(10), keep=True, clip="norm")
    assert only(step).graphs


def test_gradients_that_add_up():
    step = both(batches(10), zero=False)
    assert sum(made for _, made in only(step).graph_counts()) <= 4


def test_other_shapes():
    data = [each for pair in zip(batches(8, fresh=True), batches(8, 3, fresh=True), strict=True) for each in pair]
    step = both(data)
    assert len(step.programs) == 2 and all(program.graphs for program in step.programs)


@two
def test_two_gpus():
    step = both(batches(8, split=True), split=True, clip="norm")
    assert len(only(step).graph_counts()) > 2


def test_a_batch_from_the_cpu():
    """It is uploaded before the graph."""
    sides = []
    for compiled in (False, True):
        setting = Setting()
        step = mg.compile(lambda x, y, f=setting.step: f(x.to("cuda"), y.to("cuda"))) if compiled else setting.step
        for x, y in batches(8, fresh=True):
            step(x.cpu() if compiled else x, y.cpu() if compiled else y)
        sides.append(setting.state())
    assert sides[0] == sides[1] and len(only(step).graph_counts()) == 1


@pytest.mark.parametrize("n", [1, 5])
def test_results_that_products_write(n):
    """Held by the caller, so that each has memory of its own."""
    model = mg.nn.Linear(12, 4).to("cuda")
    forward = mg.compile(mg.no_grad()(lambda x: (model(x) * 2, (z := x @ model.weight.t()), z[:, 1:])))
    data = [x for x, _ in batches(20, fresh=True)][: n * 4]
    found = [forward(x) for x in data]
    for x, (a, b, c) in zip(data, found, strict=True):
        with mg.no_grad():
            np.testing.assert_array_equal(a.cpu().numpy(), (model(x) * 2).cpu().numpy())
            np.testing.assert_array_equal(b.cpu().numpy(), (x @ model.weight.t()).cpu().numpy())
        assert b.data_ptr() + 4 == c.data_ptr()
    assert only(forward).graphs
    assert len({b.data_ptr() for _, b, _ in found}) == len(found)


# --- what the driver is asked -----------------------------------------------------------------------------------------

CALLS = ("cuStreamBeginCapture_v2", "cuGraphLaunch", "cuGraphExecKernelNodeSetParams_v2", "cuLaunchKernel")
MEMORY = ("cuMemAllocFromPoolAsync", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoDAsync_v2")


def counted(work, names=CALLS):
    before = [pretend.calls(name) for name in names]
    work()
    return [pretend.calls(name) - n for name, n in zip(names, before, strict=True)]


@pretended
def test_a_step_is_one_launch():
    setting = Setting(clip="norm")
    step, ((x, y),) = mg.compile(setting.step), batches(1)
    for _ in range(3):
        loss = step(x, y)
    before = waits()

    def steps():
        nonlocal loss
        for _ in range(100):
            loss = step(x, y)

    # Dropout's counter changes in two kernels' arguments, and the memory of the loss that is still held.
    captures, launches, updates, kernels = counted(steps)
    assert (captures, launches, kernels) == (0, 100, 0) and updates <= 200
    assert counted(steps, MEMORY) == [0, 100, 0]  # Adam's tables
    assert waits() == before and only(step).graph_counts()[0][1] == 1
    assert np.isfinite(loss.item())


@pretended
def test_what_does_not_change_is_not_sent():
    model = mg.nn.Linear(12, CLASSES).to("cuda")
    optimizer = mg.optim.SGD(model.parameters(), lr=0.1)

    @mg.compile
    def step(x, y):
        optimizer.zero_grad()
        F.cross_entropy(model(x), y).backward()
        optimizer.step()

    ((x, y),) = batches(1)
    for _ in range(3):
        step(x, y)
    assert counted(lambda: [step(x, y) for _ in range(10)], CALLS + MEMORY) == [0, 10, 0, 0, 0, 0, 0]
    optimizer.param_groups[0]["lr"] = 0.2
    step(x, y)  # is proved again
    optimizer.param_groups[0]["lr"] = 0.3
    assert counted(lambda: step(x, y), CALLS) == [0, 1, 1, 0]


@pretended
def test_batches_from_anywhere():
    """After four graphs for as many addresses, batches are copied to memory that stays."""
    setting = Setting()
    step, data = mg.compile(setting.step), batches(60, fresh=True)
    for x, y in data[:10]:
        step(x, y)
    captures, launches, _, kernels = counted(lambda: [step(x, y) for x, y in data[10:]])
    assert (captures, launches, kernels) == (0, 50, 0)
    assert counted(lambda: [step(x, y) for x, y in data[10:]], MEMORY)[2] == 50  # x; only a kernel reads y


@pretended
def test_graphs_are_given_back():
    gc.collect()
    before = pretend.library().pretend_graphs()
    setting = Setting()
    step = mg.compile(setting.step)
    for x, y in batches(6):
        step(x, y)
    assert pretend.library().pretend_graphs() == before + 2
    step.cache_clear()
    gc.collect()
    assert pretend.library().pretend_graphs() == before


FAILING = [
    ("cuStreamBeginCapture_v2", 900),
    ("cuLaunchKernel", 999),
    ("cuStreamGetCaptureInfo_v3", 901),
    ("cublasGemmEx_64", 14),
    ("cublasSetWorkspace_v2", 7),
    ("cuStreamEndCapture", 901),
    ("cuGraphInstantiateWithFlags", 2),
    ("cuGraphExecKernelNodeSetParams_v2", 910),
    ("cuGraphLaunch", 999),
]


@pretended
@pytest.mark.parametrize(("name", "code"), FAILING, ids=[name for name, _ in FAILING])
def test_a_graph_that_fails(name, code):
    """One warning, and the same bits by launching each call; other functions still have graphs."""
    gc.collect()
    before = pretend.library().pretend_graphs()
    sides = []
    for compiled in (False, True):
        setting = Setting(clip="norm")
        step = mg.compile(setting.step) if compiled else setting.step
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            for i, (x, y) in enumerate(batches(8)):
                if compiled and i == (3 if "SetParams" in name else 2):  # replayed, and then run eagerly
                    pretend.library().pretend_fail(name.encode(), 1, code)
                step(x, y)
        sides.append(setting.state())
        assert [str(each.message) for each in caught if "one by one, not as a graph" not in str(each.message)] == []
        assert len(caught) == compiled
        assert all(each.filename == __file__ for each in caught)
    assert sides[0] == sides[1]
    (program,) = step.programs
    assert not program.graphs and "error" in program.why_no_graphs and step.cache_info().hits == 5
    assert pretend.library().pretend_graphs() == before
    assert only(both(batches(5))).graphs


# --- what does not fit into a graph -----------------------------------------------------------------------------------


def next_step(step, x, y):
    """By when the label has been seen: the driver may still be behind."""
    step(x, y)
    mg.cuda.synchronize()


def test_labels_out_of_range():
    """Told late, by the next step at the latest; the step is usable afterwards."""
    setting = Setting()
    step, data = mg.compile(setting.step), batches(8, fresh=True)
    for x, y in data[:5]:
        step(x, y)
    bad = data[0][1].clone()
    bad[3] = CLASSES
    step(data[0][0], bad)
    with pytest.raises(IndexError, match=r"Target 5 is out of bounds: target\[3\]"):
        next_step(step, *data[5])
    hits = step.cache_info().hits
    assert np.isfinite(step(*data[6]).item()) and step.cache_info().hits == hits + 1


def test_a_bad_label_in_the_proof():
    setting = Setting()
    step, data = mg.compile(setting.step), batches(8)
    bad = data[0][1].clone()
    bad[2] = -7
    for i in range(2):
        step(*data[i])
    with pytest.raises(IndexError, match="Target -7 is out of bounds"):
        step(data[0][0], bad)  # its bits are looked at
    for i in range(4):
        step(*data[i])
    assert only(step).graphs


@pytest.mark.parametrize("look", [lambda t: t.item(), lambda t: t.cpu(), lambda t: bool(t > 0), lambda t: t.tolist()])
def test_looking_at_values_is_eager(look):
    weight = mg.ones(3, device="cuda")
    step = mg.compile(lambda x: look((x * weight).sum()))
    x = mg.ones(3, device="cuda")
    step(x)
    with pytest.warns(UserWarning, match="runs eagerly: it reads the value of a tensor"):
        step(x)
    found = step(x)
    assert found in (3, True, mg.tensor(3.0)) and not step.programs


def test_the_device_of_an_argument_counts():
    double = mg.compile(lambda x: x * 2 + 1)
    for _ in range(4):
        for device in ("cpu", "cuda"):
            y = double(mg.ones(3, device=device))
            assert y.device == mg.zeros(1, device=device).device and y.tolist() == [3, 3, 3]
    assert len(double.programs) == 2 and double.cache_info().hits == 2


@two
def test_the_current_gpu_counts():
    add = mg.compile(lambda x: (mg.ones(3, device="cuda") + x).sum())
    x = mg.ones((), device="cpu")
    for _ in range(4):
        assert add(x).device == mg.device("cuda:0")
    with mg.cuda.device(1):
        assert add(x).device == mg.device("cuda:1")


def test_numbers_from_the_cpu_and_filling():
    """0-d operands are uploaded; float64 is filled by halves, long memory by doubling."""
    c = mg.tensor(3.0, dtype=mg.float64)

    @mg.compile
    def f(x):
        a = mg.full((20_000,), 1 / 3, dtype=mg.float64, device="cuda")
        b = mg.full((7,), -2, dtype=mg.int64, device="cuda")
        return (a * c).sum() + x, b * 5, mg.zeros(3, device="cuda").fill_(7.0), x.clone()

    x = mg.ones((), dtype=mg.float64, device="cuda")
    for i in range(6):
        c.fill_(float(i))
        a, b, d, e = f(x)
        np.testing.assert_allclose(a.item(), 20_000 * i / 3 + 1)
        assert b.tolist() == [-10] * 7 and d.tolist() == [7] * 3 and e.item() == 1
    assert only(f).graphs


def test_explain(capsys):
    setting = Setting()
    step = mg.compile(setting.step)
    for x, y in batches(4):
        step(x, y)
    step.explain()
    text = capsys.readouterr().out
    (found,) = re.findall(r"^a replay launches one graph of (\d+) calls$", text, re.MULTILINE)
    assert int(found) == len(only(step).table()) - text.count("random.take")
    assert text.count("device.product") == 8


@pretended
def test_without_graphs(monkeypatch):
    monkeypatch.setenv("MINIGRAD_PASSES", "dead")
    assert counted(lambda: both(batches(6)))[:2] == [0, 0]
    script = """
from tests import pretend
pretend.start()
from tests.cuda.test_graphs import Setting, batches, both
step = both(batches(6))
print(step.programs[0].graphs, pretend.calls("cuStreamBeginCapture_v2"))
"""
    assert run(script, PYTHONPATH=str(ROOT), MINIGRAD_CUDA_STRICT="1") == "False 0"


@pretended
@pytest.mark.parametrize("part", range(2))
def test_random_programs(part):
    """As in test_compile_fuzz.py; `MINIGRAD_FUZZ=1000` draws more."""
    hits, seeds = 0, range(part, COUNT if COUNT > 240 else 40, 2)
    for seed in seeds:
        case = Case(seed, "cuda")
        if case.differs():
            pytest.fail(f"eager and compiled differ ({case.reason}); the smallest program found:\n{case.shrunk()}")
        hits += case.hits > 0
    assert hits >= 0.8 * len(seeds)


@pretended
def test_constants_are_filled_once():
    @mg.compile
    def f(x):
        a = mg.full((4,), 3.0, device="cuda")
        b = mg.zeros(4, device="cuda")
        b += x  # written: filled in each run
        return x * 2.0 + a * 0.5 + b

    x = mg.ones(4, device="cuda")
    for _ in range(6):
        assert f(x).tolist() == [4.5] * 4
        for program in f.programs:
            program.poison()
    names = [name for name, *_ in only(f).table()]
    assert names.count("device.fill") == 1 and "elementwise.mul.float32" in names


REFUSED = {
    "gets at the memory of a tensor": [lambda t: t.__cuda_array_interface__, lambda t: t.__dlpack__()],
    "records an event": [lambda t: mg.cuda.Event().record()],
    "waits for": [lambda t: mg.cuda.synchronize(), lambda t: mg.cuda.Event().wait()],
}


@pytest.mark.parametrize(("why", "use"), [(why, use) for why, uses in REFUSED.items() for use in uses])
def test_what_no_graph_would_do(why, use):
    def step(x):
        use(y := x * 2)
        return y

    step, x = mg.compile(step), mg.ones(3, device="cuda")
    step(x)
    with pytest.warns(UserWarning, match=why):
        assert step(x).tolist() == [2, 2, 2]


@pretended
@pytest.mark.parametrize("calls", [1, 2])
def test_out_of_memory(calls):
    """While it is recorded, or proved: the step runs as it does eagerly."""
    model = mg.nn.Sequential(*[mg.nn.Linear(256, 256, bias=False) for _ in range(4)]).to("cuda")
    optimizer, x = mg.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), mg.ones(512, 256, device="cuda")

    @mg.compile
    def step(x):
        optimizer.zero_grad()
        loss = model(x).square().mean()
        for _ in range(12):
            loss = loss + (x * 2).sum() * 0
        loss.backward()
        optimizer.step()
        return loss.detach()

    for _ in range(calls):
        before = step(x).item()
    mg.cuda.synchronize()
    mg.cuda.empty_cache()
    library = pretend.library()
    library.pretend_limit(0, mg.cuda.memory_reserved() + (10 if calls == 1 else 1) * 256 * 1024)
    try:
        with pytest.warns(UserWarning, match="while it is recorded" if calls == 1 else "no memory for a copy"):
            after = step(x).item()
        assert after < before and step(x).item() < after and not step.programs
    finally:
        library.pretend_limit(0, 1 << 30)
