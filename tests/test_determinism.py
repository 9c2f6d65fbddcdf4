"""The same bits with any number of threads: every family of operations on inputs large enough to be shared.

The losses: tests/test_losses_table.py.
"""

from .processes import run_with_threads

SCRIPT = """
import hashlib
import numpy as np
import minigrad as mg
from minigrad import nn
from minigrad._launch import share_always
import minigrad.nn.functional as F

random = np.random.RandomState(0)


def tensor(*shape, dtype=mg.float32, grad=True):
    return mg.tensor(random.standard_normal(shape), dtype=dtype, requires_grad=grad)


share_always()  # else only calls that were seen to gain by it are shared


def show(name, *tensors):
    digest = hashlib.sha256()
    for t in tensors:
        digest.update(np.ascontiguousarray(t.detach().numpy()).tobytes())
    print(name, digest.hexdigest()[:16])


def check(name, f, *inputs):
    y = f(*inputs)
    wanted = [t for t in inputs if t.requires_grad]
    show(name, y, *(mg.autograd.grad(y, wanted, mg.cos(y.detach() + 0.1)) if y.requires_grad else ()))


for dtype in (mg.float32, mg.float64):
    x, y = tensor(499, 509, dtype=dtype), tensor(499, 509, dtype=dtype)
    row, column = tensor(509, dtype=dtype), tensor(499, 1, dtype=dtype)
    for name in "exp log1p sqrt tanh sigmoid relu sin cos erf expm1 rsqrt reciprocal abs square neg".split():
        check(name, getattr(mg, name), abs(x) + 0.5)
    for name in "add sub mul div maximum minimum pow".split():
        check(name, getattr(mg, name), abs(x) + 0.1, y)
        check(name + " row", getattr(mg, name), abs(x) + 0.1, row)
        check(name + " column", getattr(mg, name), abs(x) + 0.1, column)
        check(name + " transposed", getattr(mg, name), abs(x) + 0.1, tensor(509, 499, dtype=dtype).t())
    check("where", lambda x, y: mg.where(x > y, x, y), x, y)
    for name in "sum mean prod var std amax amin logsumexp softmax log_softmax cumsum norm".split():
        for dim in (0, 1):
            check(f"{name} {dim}", lambda x: getattr(x * 0.01 if name == "prod" else x, name)(dim=dim), x)
        if name not in ("softmax", "log_softmax", "cumsum", "logsumexp"):
            check(name, lambda x: getattr(x, name)(), x)
    show("argmax", x.argmax(), x.argmax(0), x.argmin(1))
    check("matmul", lambda x, y: x @ y.t(), x[:311], y[:257])
    check("vector", lambda x, v: x @ v, x, row)
    check("long vector", lambda x, v: v @ x, tensor(1500, 1300, dtype=dtype), tensor(1500, dtype=dtype))
    check("batched", lambda x, y: x @ y, tensor(7, 130, 65, dtype=dtype), tensor(7, 65, 90, dtype=dtype))
    check("linear", F.linear, tensor(513, 300, dtype=dtype), tensor(200, 300, dtype=dtype), tensor(200, dtype=dtype))
    index = mg.tensor(random.randint(0, 499, 1500))
    check("index", lambda x: x[index], x)
    check("index_select", lambda x: mg.index_select(x, 0, index), x)
    check("gather", lambda x: mg.gather(x, 0, mg.tensor(random.randint(0, 499, (300, 509)))), x)
    check("cat", lambda x, y: mg.cat([x, y], 1), x, y)
    check("transpose", lambda x: (x.t() * 2).contiguous(), x)
    target = mg.tensor(random.randint(0, 509, 499))
    check("cross entropy", lambda x: F.cross_entropy(x, target), x)
    check("cross entropy narrow", lambda x: F.cross_entropy(x, mg.arange(9001) % 50), tensor(9001, 50, dtype=dtype))

generator = mg.Generator()
generator.manual_seed(7)
show("random", mg.rand(1_000_003, generator=generator), mg.randn(1_000_003, generator=generator))
show("integers", mg.randint(0, 1000, (1_000_003,), generator=generator), mg.randperm(100_003, generator=generator))
mg.manual_seed(3)
show("dropout", F.dropout(tensor(499, 509), 0.3, True))

for make in (
    lambda p: mg.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-3, nesterov=True),
    lambda p: mg.optim.Adam(p, lr=0.003, weight_decay=1e-3),
    lambda p: mg.optim.AdamW(p, lr=0.003),
):
    mg.manual_seed(5)
    layers = nn.Linear(784, 300), nn.ReLU(), nn.Dropout(0.1), nn.Linear(300, 100), nn.Tanh(), nn.Linear(100, 10)
    net = nn.Sequential(*layers)
    optimizer = make(net.parameters())
    inputs, target = tensor(1024, 784, grad=False), mg.tensor(random.randint(0, 10, 1024))
    for _ in range(3):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(inputs), target)
        loss.backward()
        optimizer.step()
    show(type(optimizer).__name__, loss, *net.parameters())
"""


def test_same_bits_with_any_number_of_threads():
    one, two, four = run_with_threads(SCRIPT)
    assert len(one) > 150
    assert two == one
    assert four == one
