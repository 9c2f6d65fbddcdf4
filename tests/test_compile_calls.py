"""Compiled modules, methods and nested functions, in threads and forks; passes, memory, and what is told."""

import copy
import os
import pickle
import threading
import warnings

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .compiled import batch, bits, compare, network, training
from .processes import run_python

# --- modules, decorators, threads -------------------------------------------------------------------------------------

X = mg.ones(3)


def test_a_compiled_module_for_inference():
    model = nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3))
    run = mg.compile(model)
    with mg.no_grad():
        for i in range(8):
            x = batch(i)[0]
            assert run(x).tolist() == model(x).tolist()
            assert run(x.t().contiguous().t()).tolist() == model(x).tolist()
    assert run.cache_info().hits >= 10
    assert run(batch(0)[0]).requires_grad
    with pytest.warns(UserWarning, match="with a history"):
        assert run(batch(0)[0]).requires_grad  # eager, and only so while recording
    with mg.no_grad():
        hits = run.cache_info().hits
        run(batch(0)[0])
        assert run.cache_info().hits == hits + 1
    assert [p.shape for p in run.parameters()] == [p.shape for p in model.parameters()]
    assert run.eval() is model
    run.extra = 5
    assert model.extra == 5
    again = copy.deepcopy(run)
    with mg.no_grad():
        for _ in range(4):
            assert again(x).tolist() == run(x).tolist()
    assert again.cache_info().hits == 1
    assert again.function is not model


def test_a_module_compiles_itself():
    model, x, called = nn.Sequential(nn.Linear(5, 7), nn.Tanh()), batch(0)[0], []
    expected = model(x)
    model.register_forward_hook(lambda *_: called.append(1))
    assert model.compile(mode="max-autotune") is None and model[1].compile(fullgraph=True) is None
    with mg.no_grad():
        assert all(model(x).tolist() == expected.tolist() for _ in range(5))
    assert len(called) == 5 and model.forward.cache_info().hits >= 2
    assert list(model.state_dict()) == ["0.weight", "0.bias"]
    again = copy.deepcopy(model)
    assert again(x).tolist() == expected.tolist()
    assert "forward" not in {*vars(again), *vars(again[1]), *vars(pickle.loads(pickle.dumps(model[1])))}
    model.compile(disable=True)
    with pytest.raises(RuntimeError, match="with a history"):
        model(x)
    model[1].compile(disable=True)
    assert model(x).tolist() == expected.tolist() and not hasattr(model.forward, "cache_info")


def test_arguments_of_compile():
    def f(x):
        return x + 1

    assert mg.compile(f, disable=True) is f and mg.compile(disable=True)(f) is f
    for mode in (None, "default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs"):
        run = mg.compile(mode=mode, dynamic=None, backend="inductor")(f)
        assert [run(mg.ones(1)).item() for _ in range(4)] == [2] * 4 and run.cache_info().hits == 1
    assert mg.compile(f, dynamic=True, options={"max_autotune": True}).cache_info().maxsize == 64
    for error, arguments in (
        (RuntimeError, {"mode": "fast"}), (RuntimeError, {"mode": "default", "options": {}}),
        (TypeError, {"options": 3}), (RuntimeError, {"backend": "fast"}), (NotImplementedError, {"backend": print}),
    ):  # fmt: skip
        with pytest.raises(error):
            mg.compile(f, **arguments)
        with pytest.raises(error):
            mg.compile(**arguments)
    with pytest.raises(TypeError, match="positional"):
        mg.compile(f, True)


def test_decorated_functions_are_looked_into():
    rate = 2.0

    @mg.compile
    @mg.no_grad()
    def f(x):
        return x * rate

    for i in range(10):
        rate = 1.0 + i // 5
        assert f(mg.ones(1)).item() == rate
    assert f.cache_info().hits == 5


def test_a_method_is_compiled_for_its_object():
    class Trainer:
        def __init__(self, factor):
            self.factor = factor

        @mg.compile
        def times(self, x):
            return x * self.factor

    a, b = Trainer(2.0), Trainer(3.0)
    for _ in range(5):
        assert a.times(mg.ones(1)).item() == 2
        assert b.times(mg.ones(1)).item() == 3
    a.factor = 4.0
    assert a.times(mg.ones(1)).item() == 4
    hits = Trainer.times.cache_info().hits
    for i in range(5):
        a.seen = i  # nothing that the method uses
        assert a.times(mg.ones(1)).item() == 4
    assert Trainer.times.cache_info().hits >= hits + 3


def test_arguments_that_share_memory_and_are_written():
    def f(x, y):
        x.add_(1)
        return x * y

    run = mg.compile(f)
    for i in range(8):
        x, y = mg.full((3,), float(i)), mg.ones(3)
        assert run(x, y).tolist() == [i + 1] * 3
        assert x.tolist() == [i + 1] * 3
        assert x._version == 1
        z = mg.full((3,), float(i))
        assert run(z, z).tolist() == [(i + 1) ** 2] * 3


def test_views_of_arguments_and_parameters_are_returned_as_views():
    run = mg.compile(lambda x: (x[1:], X[:2], x + 1, x))
    for i in range(6):
        x = mg.full((3,), float(i))
        tail, head, more, same = run(x)
        assert same is x
        assert tail.data_ptr() == x.data_ptr() + 4
        assert head.data_ptr() == X.data_ptr()
        assert (tail.tolist(), head.tolist(), more.tolist()) == ([i] * 2, [1, 1], [i + 1] * 3)
    assert run.cache_info().hits == 3


def test_nested_arguments_and_results():
    def f(pair, *, options):
        return {"sum": pair[0] + pair[1], "all": [pair[0] * options["k"], None, "name"]}

    run = mg.compile(f)
    for i in range(6):
        found = run((mg.full((2,), float(i)), mg.ones(2)), options={"k": 2})
        assert found["sum"].tolist() == [i + 1] * 2
        assert found["all"][0].tolist() == [2 * i] * 2
        assert found["all"][1:] == [None, "name"]
    assert run.cache_info().hits == 3


def test_threads_that_call_one_compiled_function():
    net = network()
    forward = mg.compile(lambda x: net(x).detach())
    expected = {i: net(batch(i)[0]).tolist() for i in range(4)}
    wrong = []

    def work(i):
        for _ in range(200):
            if forward(batch(i)[0]).tolist() != expected[i]:
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


FORK = """
import math
import os
import minigrad as mg
net = mg.nn.Sequential(mg.nn.Linear(5, 7), mg.nn.ReLU(), mg.nn.Linear(7, 3))
optimizer = mg.optim.Adam(net.parameters())

@mg.compile
def step(x, y):
    optimizer.zero_grad()
    loss = mg.nn.functional.cross_entropy(net(x), y)
    loss.backward()
    optimizer.step()
    return loss.detach()

x, y = mg.ones(6, 5), mg.zeros(6, dtype=mg.int64)
for _ in range(5):
    step(x, y)
read, write = os.pipe()
child = os.fork()
losses = repr([step(x, y).item() for _ in range(5)])
if child == 0:
    os.write(write, losses.encode())
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
assert os.read(read, 1000).decode() == losses and step.cache_info().hits == 7, step.cache_info()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_replays_too():
    run_python("-c", FORK)


def test_a_compiled_function_within_another():
    net, _, step = training(optim.Adam)()
    inner = mg.compile(lambda x, y: F.cross_entropy(net(x), y).detach())
    outer = mg.compile(lambda x, y: inner(x, y) + step(x, y).detach())
    mg.manual_seed(0)
    for i in range(8):
        x, y = batch(i)
        loss = F.cross_entropy(net(x), y).item()
        assert outer(x, y).item() == pytest.approx(2 * loss, rel=1e-6)
    assert outer.cache_info().hits >= 5


@pytest.mark.parametrize(("passes", "calls"), [("", 15), ("relu", 14), ("dead", 14), ("relu,dead", 13)])
def test_passes_make_fewer_calls_with_the_same_bits(passes, calls, monkeypatch):
    monkeypatch.setenv("MINIGRAD_PASSES", passes)
    run = compare(training(optim.Adam), 8, hits=5)
    assert len(run.programs[0].table()) == calls
    net = network().eval()
    infer = mg.compile(net)
    odd = mg.tensor([[0.0, -0.0, float("nan"), float("inf"), -1e-45]] * 2)
    with mg.no_grad():
        for x in (odd, -odd, odd, mg.zeros(2, 5)):
            assert bits(infer(x)) == bits(net(x))


def test_an_unknown_pass_is_told_once(monkeypatch):
    monkeypatch.setenv("MINIGRAD_PASSES", "dead, bogus")
    runs = [mg.compile(lambda x: x * 2), mg.compile(lambda x: x * 3)]
    with pytest.warns(UserWarning, match="'bogus'; the known ones are relu,beta") as caught:
        [run(mg.ones(3)) for _ in range(6) for run in runs]
    assert len(caught) == 1


def test_a_program_needs_about_the_memory_of_the_eager_step():
    def peak(compiled):
        net = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 3))
        optimizer = optim.Adam(net.parameters())
        x, y = mg.ones(256, 64), mg.zeros(256, dtype=mg.int64)

        def step():
            optimizer.zero_grad()
            F.cross_entropy(net(x), y).backward()
            optimizer.step()

        before = mg.memory.stats()["live"]
        step = mg.compile(step) if compiled else step
        for _ in range(5):
            step()
        mg.memory.reset_peak()
        step()
        return mg.memory.stats()["peak"] - before

    assert peak(True) <= 1.1 * peak(False)


def test_explain_and_the_log(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("MINIGRAD_LOG", "capture")
    run = mg.compile(training(optim.Adam)()[2])
    for i in range(4):
        run(*batch(i))
    run(*batch(0, 2)), run(*batch(0, 2))
    run.explain()
    run.explain(html=tmp_path / "program.html")
    text = (tmp_path / "program.html").read_text()
    assert text.count("<svg") == 2 * len(run.programs)
    assert "optimizers.adam" in text
    for program in run.programs:  # blocks that are in use at the same time do not overlap
        blocks = [b for b in program.blocks() if b[2] >= 0]
        for i, (p, n, first, last) in enumerate(blocks):
            for q, m, start, end in blocks[:i]:
                assert p + n <= q or q + m <= p or last < start or end < first
    out, err = capsys.readouterr()
    assert "blas.sgemm" in out
    assert "optimizers.adam.float32" in out
    assert "compiled.py:" in out
    assert "captured" in err
    assert "no program fits" in err


def test_explain_before_anything_was_captured_or_timed(capsys):
    run = mg.compile(lambda x: x * 2)
    for expected in ("not been called yet", "no program yet", "not proved yet"):
        run.explain()
        out = capsys.readouterr().out
        assert expected in out
        run(mg.ones(3))
    assert "0.00" not in out
    assert "100" not in out
    assert out.splitlines()[-1].split()[-3:] == ["-", "-", "-"]


def test_no_warning_without_a_reason():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        compare(training(optim.Adam), 6)
