"""After a fork the child computes, also when the parent had worker threads (OpenMP's do not survive a fork)."""

import os

import pytest

from .processes import LAYERS, run_python

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")

START = """
import multiprocessing, os, signal
import numpy as np
import minigrad as mg
from minigrad import nn
from minigrad._launch import share_always

mg.set_num_threads(2)
x = mg.tensor(np.linspace(-1, 1, 250_000), dtype=mg.float32)


def use_worker_threads():
    share_always()
    for _ in range(20):
        mg.exp(x)


def compute():
    w = mg.tensor(np.linspace(-1, 1, 250_000), dtype=mg.float32, requires_grad=True)
    ((w * 2).sigmoid() * w).sum().backward()
    net = nn.Sequential(nn.Linear(64, 128), nn.ReLU(), nn.Linear(128, 10))
    with mg.no_grad():
        for p in net.parameters():
            p.copy_(mg.linspace(-0.1, 0.1, p.numel()).view(p.shape))
    optimizer = mg.optim.Adam(net.parameters(), lr=0.01)
    inputs, target = x[: 512 * 64].view(512, 64) * 3, mg.arange(512) % 10
    for _ in range(5):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(net(inputs), target)
        loss.backward()
        optimizer.step()
    return [w.grad.numpy().tobytes(), loss.item(), mg.softmax(x.view(500, 500), 1).numpy().tobytes()]


def in_child():
    pid = os.fork()
    if pid == 0:
        try:
            signal.alarm(100)
            os._exit(0 if compute() == expected else 3)
        except BaseException:
            import traceback
            traceback.print_exc()
            os._exit(4)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status == 0, f"the child ended with {status}"

"""


def run(script, **environment):
    output = run_python("-c", START + script, **environment)
    assert output.splitlines()[-1:] == ["fine"]  # TBB may say before that it could not stop its threads


@pytest.mark.parametrize("layer", LAYERS)
def test_fork_before_and_after_worker_threads_were_used(layer):
    script = """
import threading
expected = compute()
in_child()
use_worker_threads()
assert compute() == expected
in_child()
in_child()
assert compute() == expected  # the parent still has its threads
with multiprocessing.get_context("fork").Pool(2) as pool:  # what a loader does: batches from children
    for batch in pool.imap(batch_of, range(4)):
        assert np.array_equal(batch, batch_of(0))
failed = []


def fork():
    try:
        in_child()
    except BaseException as error:
        failed.append(error)


thread = threading.Thread(target=fork)
thread.start()
thread.join()
assert not failed, failed
print("fine")
"""
    batch = "\ndef batch_of(i):\n    return mg.softmax(x.view(500, 500), 1)[:10].numpy()\n"
    run(batch + script, NUMBA_THREADING_LAYER=layer)


def test_fork_while_another_thread_compiles(tmp_path):
    """The child then compiles too, also the very kernel whose compilation the parent had begun."""
    run(
        """
import threading, time
y = mg.tensor([0.5])
thread = threading.Thread(target=lambda: y.exp())
thread.start()
for k in range(3):
    time.sleep(0.1)
    pid = os.fork()
    if pid == 0:
        signal.alarm(100)
        os._exit(0 if abs(y.exp().item() - 1.6487212) < 1e-6 and abs(y.tanh().item() - 0.46211717) < 1e-6 else 3)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
thread.join()
assert abs(y.tanh().item() - 0.46211717) < 1e-6
print("fine")
""",
        MINIGRAD_CACHE_DIR=str(tmp_path),
    )


def test_fork_while_another_thread_computes():
    run("""
import threading
expected = compute()
use_worker_threads()
stop = []


def work():
    while not stop:
        mg.exp(x)


t = threading.Thread(target=work)
t.start()
for _ in range(5):
    in_child()
stop.append(1)
t.join()
print("fine")
""")


def test_a_child_forks_again():
    run("""
expected = compute()
use_worker_threads()
pid = os.fork()
if pid == 0:
    signal.alarm(200)
    in_child()
    os._exit(0)
assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
print("fine")
""")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(method, tmp_path):
    script = tmp_path / "job.py"
    script.write_text(
        START
        + f"""
def job(k):
    return compute()

if __name__ == "__main__":
    expected = compute()
    use_worker_threads()
    with multiprocessing.get_context({method!r}).Pool(2) as pool:
        assert pool.map(job, range(2)) == [expected] * 2
    print("fine")
"""
    )
    assert run_python(script).strip() == "fine"
