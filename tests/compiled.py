"""Steps compiled and eager, side by side: the same bits."""

import numpy as np

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

OPTIMIZERS = {
    "Adadelta": lambda p: optim.Adadelta(p, lr=0.5),
    "Adafactor": lambda p: optim.Adafactor(p),
    "Adagrad": lambda p: optim.Adagrad(p, lr_decay=0.01),
    "Adam": lambda p: optim.Adam(p),
    "Adam, amsgrad": lambda p: optim.Adam(p, amsgrad=True, weight_decay=0.01),
    "AdamW": lambda p: optim.AdamW(p),
    "Adamax": lambda p: optim.Adamax(p),
    "ASGD": lambda p: optim.ASGD(p, t0=10),
    "NAdam": lambda p: optim.NAdam(p),
    "RAdam": lambda p: optim.RAdam(p),
    "RMSprop": lambda p: optim.RMSprop(p, momentum=0.9, centered=True),
    "Rprop": lambda p: optim.Rprop(p),
    "SGD": lambda p: optim.SGD(p, lr=0.1),
    "SGD, momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=1e-3),
}


def bits(*tensors):
    return [None if t is None else t.detach().numpy().tobytes() for t in tensors]


def state_of(model, optimizers):
    """All that training leaves behind."""
    found = bits(*[t for p in model.parameters() for t in (p, p.grad)], *model.buffers())
    for optimizer in optimizers:
        for values in optimizer.state.values():
            found += bits(*[v for v in values.values() if isinstance(v, mg.Tensor)])
    return found, bits(mg.get_rng_state())


def network(dtype=mg.float32):
    return nn.Sequential(nn.Linear(5, 7), nn.ReLU(), nn.Linear(7, 3)).to(dtype)


def compare(make, steps, before=None, hits=None, after=None, **options):
    """Run ``make() -> (model, optimizers, step)`` eagerly and compiled: the same bits after every step.

    ``before(i, model, optimizers)`` is called before step i, ``after(i, run)`` after that of the compiled function;
    ``step(i)`` gets the number through ``batch``.
    """
    histories = []
    for compiled in (False, True):
        mg.manual_seed(0)
        model, optimizers, step = make()
        run = mg.compile(step, **options) if compiled else step
        history = []
        for i in range(steps):
            if before is not None:
                before(i, model, optimizers)
            result = run(*batch(i))
            results = result if isinstance(result, (tuple, list)) else [result]
            history.append((bits(*results), state_of(model, optimizers)))
            if compiled and after is not None:
                after(i, run)
        histories.append(history)
    for i, (eager, replayed) in enumerate(zip(*histories, strict=True)):
        assert eager == replayed, f"step {i}"
    if hits is not None:
        assert run.cache_info().hits >= hits, run.cache_info()
    return run


def batch(i, n=6):
    rng = np.random.default_rng(i)
    return mg.tensor(rng.standard_normal((n, 5)), dtype=mg.float32), mg.tensor(rng.integers(0, 3, n))


def training(make_optimizer, model=network, criterion=None, middle=None):
    def make():
        net = model()
        optimizer, loss_of = make_optimizer(net.parameters()), criterion or nn.CrossEntropyLoss()

        def step(x, y):
            optimizer.zero_grad()
            loss = loss_of(net(x), y)
            loss.backward()
            if middle is not None:
                middle(net)
            optimizer.step()
            return loss

        return net, [optimizer], step

    return make


def halve(i, model, optimizers):
    for group in optimizers[0].param_groups:
        group["lr"] = 0.1 / (1 + i)


def odd_network():
    """Parameters of two dtypes, one of them a transposed view, and a product over a batch of matrices."""

    class Odd(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Parameter(mg.randn(7, 5)), nn.Parameter(mg.randn(2, 7, 3))
            self.a.data = self.a.data.t()
            self.c = nn.Parameter(mg.randn(3, dtype=mg.float64))

        def forward(self, x):
            return (mg.matmul((x @ self.a).tanh(), self.b).sum(0) + self.c).float()

    return Odd()


def dropout_network():
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def several_steps(net, optimizer, x, y):
    for part in (x, x * 0.5, x.sin()):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(part), y)
        loss.backward()
        optimizer.step()
    return loss
