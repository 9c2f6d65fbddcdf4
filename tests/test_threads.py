"""Python threads: several models at once, one model shared, and the pool of worker threads under them."""

import threading

import numpy as np

import minigrad as mg
from minigrad import nn

from .processes import run_python


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


LARGE = """
import threading
import numpy as np
import minigrad as mg

mg.set_num_threads(2)
x = mg.tensor(np.linspace(-1, 1, 1_000_000), dtype=mg.float32)
mg.start_threads()
expected = (mg.exp(x).numpy().copy(), mg.softmax(x.view(1000, 1000), 1).numpy().copy())
wrong = []


def work():
    for _ in range(20):
        if not np.array_equal(mg.exp(x).numpy(), expected[0]):
            wrong.append("exp")
        if not np.array_equal(mg.softmax(x.view(1000, 1000), 1).numpy(), expected[1]):
            wrong.append("softmax")
        w = x.detach().requires_grad_()
        (w * w).sum().backward()
        if not np.array_equal(w.grad.numpy(), 2 * x.numpy()):
            wrong.append("backward")


threads = [threading.Thread(target=work) for _ in range(4)]
for t in threads:
    t.start()
for t in threads:
    t.join()
assert not wrong, wrong
print("fine")
"""


def test_python_threads_over_the_worker_threads():
    assert run_python("-c", LARGE).strip() == "fine"
