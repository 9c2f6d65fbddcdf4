"""Threads on one graph; what the walk frees, and when."""

import gc
import threading

import numpy as np
import pytest

import minigrad as mg

from .garbage import collector_off
from .leaves import leaf

# --- threads ----------------------------------------------------------------------------------------------------------


def run_threads(count, work):
    errors = []

    def guarded(i):
        try:
            work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not errors, errors


@pytest.mark.parametrize("size", [1, 3000, 200_000])
def test_threads_accumulate_into_one_leaf(size):
    x = mg.zeros(size, requires_grad=True)
    rounds = 1000 if size < 10_000 else 20
    ones = mg.ones(size)

    def work(i):
        for _ in range(rounds):
            (x * ones).backward(ones)

    run_threads(4, work)
    assert (x.grad == 4 * rounds).all()


def test_threads_walk_one_retained_graph():
    x = leaf(np.linspace(-1, 1, 50), mg.float64)
    h = x
    for _ in range(20):
        h = (h * 1.1).tanh() + x
    y = h.sum()
    (expected,) = mg.autograd.grad(y, x, retain_graph=True)
    results = [[] for _ in range(4)]

    def work(i):
        for _ in range(30):
            results[i].extend(mg.autograd.grad(y, x, retain_graph=True))

    run_threads(4, work)
    for found in results:
        for g in found:
            np.testing.assert_array_equal(g.numpy(), expected.numpy())


def test_threads_free_one_graph():
    """One wins; the others get the error, never a crash."""
    for _ in range(50):
        x = leaf([1.0])
        y = x
        for _ in range(20):
            y = (y * 1.1).tanh()
        outcomes = []

        def work(i, y=y, outcomes=outcomes):
            try:
                y.backward()
                outcomes.append("done")
            except RuntimeError as error:
                outcomes.append("error" if "second time" in str(error) else error)

        run_threads(3, work)
        assert sorted(outcomes) in (["done"] * k + ["error"] * (3 - k) for k in (1, 2, 3))


# --- memory -----------------------------------------------------------------------------------------------------------


def training_step(x, w, b, how):
    h = (x @ w + b).relu()
    if how == "views":
        h = h.view(-1).reshape(h.shape).transpose(0, 1)[1:].sum(0)
    elif how == "in place":
        h = h * 1
        h.mul_(2)
        h[0] = 0
        h.add_(h)
    elif how == "saved outputs":
        h = h.exp().sigmoid().tanh().sqrt()
    elif how == "several outputs":
        h = h.max(1)[0] + mg.cat(h.split(1, 0), 0).sum(1)
    elif how == "grad of grad":
        (g,) = mg.autograd.grad((h * h).sum(), b, create_graph=True)
        h = h + g
    elif how == "hooks":
        h.register_hook(lambda g: g * 1)
        h.retain_grad()
    loss = (h * h).mean()
    loss.backward()
    with mg.no_grad():
        for p in (w, b):
            p -= 0.001 * p.grad
            p.grad = None
    return loss.item()


@pytest.mark.parametrize(
    "how", ["plain", "views", "in place", "saved outputs", "several outputs", "grad of grad", "hooks"]
)
def test_no_reference_cycles(how):
    x, w, b = mg.ones(3, 4), mg.ones(4, 5, requires_grad=True), mg.ones(5, requires_grad=True)
    training_step(x, w, b, how)
    with collector_off():
        before = len(gc.get_objects())
        for _ in range(200):
            training_step(x, w, b, how)
        after = len(gc.get_objects())
        assert gc.collect() == 0
        assert after - before < 50


def test_the_cycle_of_create_graph_is_collected():
    def step():
        x = leaf([1.0])
        (x * x).backward(create_graph=True)

    step()
    with collector_off():
        step()
        assert gc.collect() > 0


def test_a_walk_frees_saved_memory_as_it_goes():

    x = leaf(np.ones(10_000, np.float32))
    y = x
    for _ in range(50):
        y = y.exp().log()
    s = y.sum()
    del y
    full = mg.memory.stats()["live"]
    least = []
    x.register_hook(lambda g: least.append(mg.memory.stats()["live"]))
    s.backward()
    assert full - least[0] > 48 * 40_000  # when the leaf is reached, all that was saved is gone


def test_resident_memory_stays_flat():
    def resident():
        with open("/proc/self/statm") as f:
            return int(f.read().split()[1]) * 4096

    x, w, b = mg.ones(3, 4), mg.ones(4, 5, requires_grad=True), mg.ones(5, requires_grad=True)
    for _ in range(2_000):
        training_step(x, w, b, "plain")
    before = resident()
    for _ in range(20_000):
        training_step(x, w, b, "plain")
    assert resident() - before < 1_000_000
