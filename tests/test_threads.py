"""Python threads: several models at once, one model shared, and the pool of worker threads under them."""

import os
import threading

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn

from .processes import LAYERS, run_python


def together(count, work):
    """Run ``work(i)`` in ``count`` threads that start at the same moment; their results."""
    barrier, results, errors = threading.Barrier(count), [None] * count, []

    def run(i):
        try:
            barrier.wait()
            results[i] = work(i)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(i,)) for i in range(count)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    if errors:
        raise errors[0]
    return results


def model(i):
    """A tiny model of its own for each i, from NumPy's random numbers."""
    random = np.random.RandomState(i)
    width = 3 + i
    net = nn.Sequential(nn.Linear(6, width), (nn.ReLU, nn.Tanh, nn.Sigmoid)[i % 3](), nn.Linear(width, 3))
    with mg.no_grad():
        for p in net.parameters():
            p.copy_(mg.tensor(random.uniform(-0.5, 0.5, tuple(p.shape)), dtype=mg.float32))
    return net, random


def train(i, steps=150):
    """The losses and final weights of model i."""
    net, random = model(i)
    x = mg.tensor(random.standard_normal((16, 6)), dtype=mg.float32)
    y = mg.tensor(random.randint(0, 3, 16))
    optimizer = (
        mg.optim.Adam(net.parameters(), lr=0.01) if i % 2 else mg.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    )
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy().copy() for p in net.parameters()]


def test_eight_threads_train_eight_models():
    expected = [train(i) for i in range(8)]
    for found, (losses, weights) in zip(together(8, train), expected, strict=True):
        assert found[0] == losses and losses[-1] < losses[0]
        for a, b in zip(found[1], weights, strict=True):
            np.testing.assert_array_equal(a, b)


def test_shared_inference_beside_training():
    net, random = model(5)
    x = mg.tensor(random.standard_normal((2000, 6)), dtype=mg.float32)
    with mg.no_grad():
        expected = net(x).numpy()

    def work(i):
        if i == 7:
            return train(7)[0]
        with mg.no_grad():
            return [net(x).numpy() for _ in range(100)]

    *inferred, losses = together(8, work)
    for outputs in inferred:
        for y in outputs:
            np.testing.assert_array_equal(y, expected)
    assert losses == train(7)[0]


def test_threads_record_on_shared_weights():
    """Gradients of one model, from threads that use autograd.grad, are those of a single thread."""
    net, random = model(4)
    weights = list(net.parameters())
    xs = [mg.tensor(random.standard_normal((9, 6)), dtype=mg.float32) for _ in range(6)]

    def gradients(i):
        return [g.numpy() for _ in range(50) for g in mg.autograd.grad((net(xs[i]) ** 2).sum(), weights)]

    for i, found in enumerate(together(6, gradients)):
        for a, b in zip(found, gradients(i), strict=True):
            np.testing.assert_array_equal(a, b)


def test_threads_allocate_and_free():
    def work(i):
        kept = []
        for k in range(2000):
            t = mg.full((1 + (k * 7 + i) % 300,), float(i))
            assert (t == i).all()
            kept.append(t)
            if len(kept) > 20:
                assert (kept.pop(k % 20) == i).all()

    together(8, work)


def test_exceptions_in_one_thread_stay_there():
    def work(i):
        for _ in range(200):
            x = mg.ones(4, requires_grad=True)
            if i % 2:
                try:
                    (x @ mg.ones(3)).backward()
                except RuntimeError:
                    continue
                raise AssertionError("no error")
            (x * x).sum().backward()
            assert (x.grad == 2).all()

    together(4, work)


SHARED = """
import sys, threading
import numpy as np
import minigrad as mg
from minigrad import nn
from minigrad._launch import share_always, thread_stats
from tests.test_threads import together


def train(i, steps=8):
    random = np.random.RandomState(i)
    net = nn.Sequential(nn.Linear(64, 80 + 16 * i), (nn.ReLU, nn.Tanh, nn.Sigmoid)[i % 3](), nn.Linear(80 + 16 * i, 10))
    with mg.no_grad():
        for p in net.parameters():
            p.copy_(mg.tensor(random.uniform(-0.1, 0.1, tuple(p.shape)), dtype=mg.float32))
    x, y = mg.tensor(random.standard_normal((256, 64)), dtype=mg.float32), mg.tensor(random.randint(0, 10, 256))
    optimizer = (mg.optim.Adam, mg.optim.RMSprop)[i % 2](net.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, [p.detach().numpy().tobytes() for p in net.parameters()]


mg.set_num_threads(1)
expected = [train(i) for i in range(8)]
net = nn.Sequential(nn.Linear(100, 300), nn.GELU(), nn.Linear(300, 10), nn.Softmax(1))
x = mg.randn(1000, 100)
with mg.no_grad():
    inferred = net(x).numpy().tobytes()

mg.set_num_threads(4)
share_always()
assert together(8, train) == expected  # different models
before = thread_stats()["calls"]
assert train(3) == expected[3]  # alone: also workqueue's pool is used
assert thread_stats()["calls"] > before


def infer(i):  # one model
    with mg.no_grad():
        return [net(x).numpy().tobytes() == inferred for _ in range(10)]


assert all(map(all, together(8, infer)))
w = mg.ones(300_000, requires_grad=True)


def accumulate(i):  # into one leaf; sums of integers are exact in any order
    for _ in range(5):
        (w * (i + 1)).sum().backward()


together(8, accumulate)
assert (w.grad == 5 * 36).all()


def come_and_go(i):  # tensors, while others change the number of threads
    for k in range(60):
        if i > 5:
            mg.set_num_threads(1 + (i + k) % 4)
        y = mg.full((100_000 + 50_000 * ((k + i) % 3),), float(i))
        assert ((y + y) == 2 * i).all()


together(8, come_and_go)
print("fine")
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_python_threads_over_the_worker_threads(layer):
    assert run_python("-c", SHARED, NUMBA_THREADING_LAYER=layer).strip() == "fine"


BESIDE = """
import threading
import numba
import numpy as np
import minigrad as mg
from minigrad._launch import share_always


@numba.njit(parallel=True)
def count(a):
    n = 0
    for i in numba.prange(a.size):
        n += a[i]
    return n


a, x, stop = np.ones(1_000_000), mg.linspace(-1, 1, 1_000_000), []
expected = x.exp().numpy().tobytes()
count(a)
numba.set_num_threads(1)  # the user's choice, which stays


def work():
    while not stop:
        assert count(a) == a.size


thread = threading.Thread(target=work)
thread.start()
share_always()
for _ in range(50):
    assert x.exp().numpy().tobytes() == expected
stop.append(1)
thread.join()
assert numba.get_num_threads() == 1
print("fine")
"""


@pytest.mark.parametrize("layer", LAYERS)
def test_beside_a_parallel_function_of_the_user(layer):
    """Numba's workqueue aborts a process in which two threads run parallel code."""
    assert run_python("-c", BESIDE, NUMBA_THREADING_LAYER=layer).strip() == "fine"


AT_EXIT = """
import os, sys, threading, time
import minigrad as mg
from minigrad._launch import share_always

if sys.argv[2] == "shared":
    share_always()
x, w = mg.randn(600, 600), mg.randn(600, 600, requires_grad=True)
optimizer = mg.optim.Adam([w])


def work():
    while True:
        optimizer.zero_grad()
        (x @ w).exp().sum().backward()
        optimizer.step()


for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
time.sleep(float(sys.argv[1]))
"""


@pytest.mark.parametrize(("seconds", "how", "cold"), [(0.3, "shared", 0), (0.31, "serial", 0), (0.02, "serial", 1)])
def test_daemon_threads_compute_while_the_interpreter_ends(seconds, how, cold, tmp_path):
    """Or compile, in an empty cache."""
    cache = {"MINIGRAD_CACHE_DIR": str(tmp_path)} if cold else {}
    run_python("-c", AT_EXIT, seconds, how, **cache)


def test_a_team_is_no_larger_than_what_the_process_may_use():
    """With one core nothing is shared, however many threads are asked for: they could only wait for each other."""
    script = """
import os
import minigrad as mg
from minigrad._launch import thread_stats
mg.set_num_threads(4)
mg.start_threads()
x = mg.ones(1_000_000)
for _ in range(20):
    x.exp()
assert mg.get_num_threads() == 4
print(thread_stats()["calls"])
"""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this system")
    one = f"import os; os.sched_setaffinity(0, [{min(os.sched_getaffinity(0))}])"
    assert run_python("-c", one + script, NUMBA_NUM_THREADS="4").strip() == "0"


def test_the_number_of_threads_is_an_integer():
    for wrong in (2.5, "2", None, True):
        with pytest.raises(TypeError, match="expects an int"):
            mg.set_num_threads(wrong)
