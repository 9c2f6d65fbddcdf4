"""Ctrl-C at any moment leaves a process that computes right, and optimizer steps that were done or not done."""

import signal

import pytest

from .processes import run_python

pytestmark = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="no timers on this system")

START = """
import faulthandler, random, signal, sys
import numpy as np
import minigrad as mg
from minigrad import nn
from minigrad._launch import share_always, thread_stats

faulthandler.dump_traceback_later(200, exit=True)
random.seed(int(sys.argv[1]))
armed = []
signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it in what they start in the background
signal.signal(signal.SIGALRM, lambda *_: armed and signal.raise_signal(signal.SIGINT))


def interrupted(work, seconds):
    \"\"\"Repeat ``work`` until Ctrl-C at a random moment of ``seconds``; again where a finalizer swallows it.\"\"\"
    armed.append(True)
    try:
        signal.setitimer(signal.ITIMER_REAL, random.uniform(1e-4, seconds), 1.0)
        while True:
            work()
    except KeyboardInterrupt:
        armed.clear()
        signal.setitimer(signal.ITIMER_REAL, 0)
"""

KERNELS = """
share_always()
x, a = mg.linspace(-3, 3, 2_000_000), mg.randn(400, 400)
w = mg.randn(300, 300, requires_grad=True)
deep = mg.ones(3, requires_grad=True)


def backward():
    w.grad = None
    (mg.softmax(w @ a[:300, :300], 1) * w).sum().backward()
    return w.grad


def chain():
    y = deep
    for _ in range(3000):
        y = y * 1.0 + 0.0
    deep.grad = None
    y.sum().backward()
    return deep.grad


works = [x.exp, lambda: a @ a, lambda: x.view(2000, 1000).sum(0), lambda: x.cumsum(0), backward, chain]
if hasattr(x, "sort"):
    works.append(lambda: x.sort()[0])
expected = [f().numpy().tobytes() for f in works]
before = thread_stats()["calls"]
for k in range(50):
    interrupted(works[k % len(works)], 0.03)
    assert mg.is_grad_enabled()
    for i in {k % len(works), (k + 1) % len(works)}:
        assert works[i]().numpy().tobytes() == expected[i], (k, i)
assert thread_stats()["calls"] > before  # the pool is free
print("fine")
"""

STEPS = """
share_always()
gradients = [mg.randn(300, 200), mg.randn(300).double(), mg.randn(50, 40)]


def start():
    mg.manual_seed(0)
    params = [mg.randn(g.shape, dtype=g.dtype).requires_grad_() for g in gradients]
    for p, g in zip(params, gradients):
        p.grad = g
    groups = [{"params": params[:2]}, {"params": params[2:], "lr": 0.003}]
    return params, make(groups)


def snapshot(params, optimizer):
    values = [v for s in optimizer.state.values() for v in s.values() if isinstance(v, mg.Tensor)]
    return [t.detach().numpy().tobytes() for t in (*params, *values)]


for make in (
    lambda p: mg.optim.Adam(p, lr=0.01),
    lambda p: mg.optim.SGD(p, lr=0.01, momentum=0.9),
    lambda p: mg.optim.Adafactor(p, lr=0.01),
):
    params, optimizer = start()
    done = [0]

    def step():
        optimizer.step()
        done[0] += 1

    for _ in range(17):
        interrupted(step, 0.01)
    found = snapshot(params, optimizer)
    params, optimizer = start()
    for _ in range(done[0]):
        optimizer.step()
    for late in range(18):  # steps that were done when Ctrl-C came before they were counted
        if snapshot(params, optimizer) == found:
            break
        optimizer.step()
    else:
        raise AssertionError(f"{type(optimizer).__name__}: a step was done by half")
print("fine")
"""

COMPILE = """
import threading


class NotHere:  # Ctrl-C in the middle of Numba's import, were it the main thread's
    def find_spec(self, name, path, target=None):
        if name == "numba.core.typing.templates" and threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt


sys.meta_path.insert(0, NotHere())
x = np.linspace(-1, 1, 1000, dtype="f4")
t = mg.tensor(x)
for name, f in (("exp", np.exp), ("tanh", np.tanh)):
    interrupted(getattr(t, name), 0.5)
    np.testing.assert_allclose(getattr(t, name)().numpy(), f(x), rtol=1e-5)
interrupted(mg.start_threads, 0.5)
share_always()
large = mg.ones(1_000_000)
assert (large.exp() == np.float32(np.e)).all() and thread_stats()["calls"]
print("fine")
"""


@pytest.mark.parametrize("script", [KERNELS, STEPS], ids=["kernels", "steps"])
def test_ctrl_c_at_fifty_moments(script):
    assert run_python("-c", START + script, 0).strip() == "fine"


def test_ctrl_c_while_numba_is_imported_or_compiles(tmp_path):
    assert run_python("-c", START + COMPILE, 0, MINIGRAD_CACHE_DIR=str(tmp_path)).strip() == "fine"
