"""Chains of elementwise calls merged into generated kernels: the bits of the calls they stand for."""

import sys
import time
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .compiled import bits, compare, training
from .processes import run_python
from .test_compile_fuzz import COUNT, SEED, Case

ODD = [0.0, -0.0, 1e-45, -1e-40, 1e-38, 3.4e38, -3.4e38, np.inf, -np.inf, np.nan, 0.5, -2.0, 88.8, 1e-8]


def merge(run):
    """Wait until the chains of all programs are compiled; the next replay has them."""
    assert all(program.chains.wait(program) for program in run.programs)


def merged(run):
    return [row[0] for row in run.programs[0].table() if "+" in row[0]]


class Bent(nn.Module):
    """An activation of several operations, one of them with a number that is learned."""

    def __init__(self):
        super().__init__()
        self.slope = nn.Parameter(mg.tensor(0.7))

    def forward(self, x):
        return x * 0.5 * ((x * self.slope).tanh() + 1) + F.leaky_relu(x, 0.2)


def bent_network():
    return nn.Sequential(nn.Linear(5, 7), Bent(), nn.Linear(7, 7), Bent(), nn.Linear(7, 3))


def test_two_hundred_steps_with_a_chain_in_forward_and_backward():
    def after(i, run):
        for program in run.programs:
            program.poison()
        if i == 20:
            merge(run)

    run = compare(training(optim.Adam, bent_network), 200, hits=190, after=after)
    assert len(merged(run)) >= 4  # of two layers, forward and backward


def clips_by_a_norm_of_its_own():
    net = bent_network()
    optimizer = optim.SGD(net.parameters(), lr=0.1)

    def step(x, y):
        optimizer.zero_grad()
        F.cross_entropy(net(x), y).backward()
        norm = (net[0].bias.grad.square().sum() * 0.5 + 1.0).sqrt() * 2.0
        nn.utils.clip_grads_with_norm_(net.parameters(), 0.1, norm)
        optimizer.step()
        return norm

    return net, [optimizer], step


def test_a_chain_ends_with_the_factor_of_clipping():
    def after(i, run):
        for program in run.programs:
            program.poison()
        if i == 5:
            merge(run)

    run = compare(clips_by_a_norm_of_its_own, 20, hits=15, after=after)
    assert "elementwise.mul+add+sqrt+mul+add+div.float32" in merged(run)
    assert "optimizers.scale + sgd.float32" in merged(run)


def several(x, y, s):
    """Results on the way, in-place edits, a number that changes, masks, a product in between."""
    a = x * 2.0
    b = a + y
    b.mul_(s)
    m = b @ y.t()
    c = b.tanh()
    c.add_(a)
    d = mg.where(c > 0.25, a, c * 0.1).clamp(-3, 3)
    e = (d.abs() + 1).sqrt() * s
    a.sub_(e)
    e.relu_()
    return a, d, m, (e.double() - 1).float(), (c == c).float() * x


def odd(i, dtype):
    rng = np.random.default_rng(i)
    values = np.resize(np.array(ODD), 60)
    rng.shuffle(values)
    return mg.tensor(values.reshape(4, 15), dtype=dtype)


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
def test_several_results_edits_in_place_and_numbers_that_change(dtype):
    run = mg.compile(several)
    kept = []
    with mg.no_grad():
        for i in range(8):
            x, y, s = odd(i, dtype), odd(i + 100, dtype), mg.tensor(0.1 * i + 0.5, dtype=dtype)
            eager, result = several(x, y, s), run(x, y, s)
            assert [plain(t) for t in result] == [plain(t) for t in eager], i
            kept += zip(result, [plain(t) for t in eager])
            if i == 0:
                continue  # it is captured when it is called again
            run.programs[0].poison()
            if i == 1:
                calls = len(run.programs[0].table())
            if i == 3:
                merge(run)
    assert len(merged(run)) >= 2
    assert len(run.programs[0].table()) <= calls - 10
    assert all(plain(t) == then for t, then in kept)  # results that are kept are left alone
    assert run.cache_info().hits == 5  # all but the first two calls and the proof


def plain(t):
    """Bytes, whatever nan looks like."""
    values = t.numpy()
    return np.where(np.isnan(values), np.nan, values).tobytes()


def test_results_are_right_for_arguments_that_share_memory_in_some_calls():
    memory = np.arange(40, dtype=np.float32)

    def function(x, y):
        y.add_(1)  # an argument: stays a call of its own, in its place
        a = x * 2
        y.mul_(0.5)
        return (a + y) * x

    run = mg.compile(function)
    for i, at in enumerate([8, 8, 8, 8, 0, 4, 8]):
        expected = []
        for f in (function, run):
            memory[:] = np.arange(40)
            result = f(mg.from_numpy(memory[:8]), mg.from_numpy(memory[at : at + 8]))
            expected.append((bits(result), memory.tobytes()))
        assert expected[0] == expected[1], i
        if i == 2:
            merge(run)
    assert merged(run)


def test_the_swap_is_shown_and_proved(capsys):
    def function(x):
        y = x * 3
        y = y.exp()
        return y - 1

    run = mg.compile(function)
    x = mg.ones(50)
    for _ in range(3):
        run(x)
    before = run.programs[0].table()
    assert not merged(run)
    merge(run)
    assert not merged(run)  # from the next replay on
    run(x)
    assert run.cache_info()[:2] == (1, 3)
    assert len(run.programs[0].table()) < len(before)
    run.explain()
    table = capsys.readouterr().out
    line = function.__code__.co_firstlineno
    assert "elementwise.mul+exp+sub.float32" in table
    assert f"{line + 1}, {line + 2}, {line + 3}" in table


def test_a_failure_is_one_warning_and_the_calls_stay(monkeypatch):
    run = mg.compile(lambda x: x.tanh() * x)
    x = mg.ones(6)
    run(x), run(x)
    chains = run.programs[0].chains
    monkeypatch.setattr(sys.modules[type(chains).__module__], "_warned", False)
    chains.kernels = [("chains.no such kernel", "float32")]
    with pytest.warns(RuntimeWarning, match="elementwise calls of compiled functions are not merged"):
        assert not chains.wait(run.programs[0])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = mg.compile(lambda x: x.tanh() * x)
        again(x), again(x)
        again.programs[0].chains.kernels = chains.kernels
        assert not again.programs[0].chains.wait(again.programs[0])
        for _ in range(3):
            assert run(x).tolist() == again(x).tolist() == (x.tanh() * x).tolist()
    assert not merged(run)


def test_the_pass_can_be_left_out(monkeypatch):
    monkeypatch.setenv("MINIGRAD_PASSES", "relu,dead")
    run = mg.compile(lambda x: x.tanh() * x)
    for _ in range(3):
        run(mg.ones(6))
    assert run.programs[0].chains is None


SCRIPT = """
import os
import sys
import minigrad as mg

run = mg.compile(lambda x: (x.tanh() * x + x) * x)
x = mg.ones(6)
for _ in range(3):
    run(x)
chains = run.programs[0].chains
if sys.argv[1] == "start":  # and end
    chains.kernels *= 50
    chains.start(run.programs[0])
    child = os.fork() if hasattr(os, "fork") else 0
    assert [run(x).tolist() for _ in range(3)] == [((x.tanh() * x + x) * x).tolist()] * 3
    if child:
        assert os.waitpid(child, 0)[1] == 0
else:
    assert chains.wait(run.programs[0])
    assert run(x).tolist() == ((x.tanh() * x + x) * x).tolist()
    assert any("+" in row[0] for row in run.programs[0].table())
    print("numba" in sys.modules)
"""


def test_kernels_are_kept_in_the_cache_and_a_process_may_fork_and_end_while_they_are_compiled(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    begin = time.monotonic()
    run_python(script, "start")
    assert time.monotonic() - begin < 60
    run_python(script, "wait")
    assert run_python(script, "wait").strip() == "False"


def test_random_programs_with_merged_calls():
    merged = 0
    for seed in range(COUNT // 40):
        case = Case(1_000_003 * SEED + 77_777 + seed)
        case.merge = True
        if case.differs():
            pytest.fail(f"eager and compiled differ ({case.reason}); the smallest program found:\n{case.shrunk()}")
        merged += case.merged
    assert merged >= COUNT // 80  # else nothing was tested
