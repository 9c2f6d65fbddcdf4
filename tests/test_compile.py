"""Compiled functions: the bits of the eager run, in all that can be seen of it."""

import collections
import contextvars
import copy
import functools
import io
import itertools
import math
import os
import pickle
import sys
import threading
import types
import warnings
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .processes import run_python

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


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_hundred_steps_of_each_optimizer_have_the_eager_bits(name):
    compare(training(OPTIMIZERS[name]), 200, hits=190)


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


@pytest.mark.parametrize("name", ["Adam", "SGD, momentum", "NAdam", "Adafactor"])
def test_parameters_of_odd_layout_and_two_dtypes(name):
    compare(training(OPTIMIZERS[name], odd_network), 12, hits=8)
    compare(training(OPTIMIZERS[name], odd_network), 8, before=halve)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_learning_rate_takes_effect_at_once(name):
    compare(training(OPTIMIZERS[name]), 20, before=halve, hits=15)


def test_schedulers_and_other_hyperparameters():
    schedulers = {}

    def before(i, model, optimizers):
        optimizer = optimizers[0]
        if i == 0:
            schedulers["now"] = optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=60)
        else:
            schedulers["now"].step()
        if i == 20:
            optimizer.param_groups[0]["betas"] = (0.5, 0.9)
        if i == 30:
            optimizer.param_groups[0]["weight_decay"] = 0.1
        if i == 40:
            optimizer.param_groups[0]["maximize"] = True  # another program

    compare(training(optim.AdamW), 50, before=before, hits=40)


@pytest.mark.parametrize(
    "middle",
    [
        lambda net: nn.utils.clip_grad_norm_(net.parameters(), 0.1),
        lambda net: nn.utils.clip_grad_norm_(net.parameters(), 1.0, norm_type=float("inf")),
        lambda net: nn.utils.clip_grad_value_(net.parameters(), 0.01),
    ],
)
def test_clipping(middle):
    compare(training(optim.Adam, middle=middle), 30, hits=25)


def dropout_network():
    return nn.Sequential(nn.Linear(5, 16), nn.ReLU(), nn.Dropout(0.3), nn.Linear(16, 3))


def test_dropout_draws_new_numbers_and_follows_the_seed():
    def before(i, model, optimizers):
        if i == 15:
            mg.manual_seed(7)
        if i == 20:
            model.eval()
        if i == 25:
            model.train()
            model[2].p = 0.6

    compare(training(optim.Adam, dropout_network), 35, before=before, hits=20)


LOSSES = {
    "mse": lambda out, y: F.mse_loss(out, out.detach() * 0.5),
    "bce": lambda out, y: F.binary_cross_entropy(out.sigmoid() * 1.0, (out.detach() > 0).float()),
    "bce_logits": lambda out, y: F.binary_cross_entropy_with_logits(out, (out.detach() > 0).float()),
    "smoothing": lambda out, y: F.cross_entropy(out, y, label_smoothing=0.1),
    "sum": lambda out, y: F.cross_entropy(out, y, reduction="sum"),
    "none": lambda out, y: F.cross_entropy(out, y, reduction="none").mean(),
    "nll": lambda out, y: F.nll_loss(F.log_softmax(out, 1), y),
    "scaled": lambda out, y: F.cross_entropy(out, y) * 0.5 + 0.01 * (out * out).sum(),
    "kl": lambda out, y: F.kl_div(F.log_softmax(out, 1), F.softmax(out.detach() * 2, 1), reduction="batchmean"),
    "huber": lambda out, y: F.huber_loss(out, out.detach() + 1.5),
    "gelu": lambda out, y: F.cross_entropy(F.gelu(out), y),
    "views": lambda out, y: (out.t()[1:].reshape(-1) * out[:, :2].reshape(-1)).exp().mean(),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    compare(training(optim.Adam, criterion=LOSSES[name]), 12, hits=8)


def test_ignored_labels_and_class_weights_change_the_scale():
    weights = mg.tensor([1.0, 2.0, 0.5])

    def before(i, model, optimizers):
        weights[i % 3] = 0.1 * i

    def criterion(out, y):
        return F.cross_entropy(out, y, weight=weights, ignore_index=2)

    histories = []
    for compiled in (False, True):
        weights.copy_(mg.tensor([1.0, 2.0, 0.5]))
        mg.manual_seed(0)
        net, (optimizer,), step = training(optim.SGD, criterion=criterion)()
        run = mg.compile(step) if compiled else step
        history = []
        for i in range(20):
            before(i, None, None)
            history.append((bits(run(*batch(i))), state_of(net, [optimizer])))
        histories.append(history)
    assert histories[0] == histories[1]
    assert run.cache_info().hits >= 15


def test_accumulation_over_several_calls():
    def make():
        net = network()
        optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)

        @mg.compile
        def part(x, y):
            loss = F.cross_entropy(net(x), y) / 4
            loss.backward()
            return loss.detach()

        eager = part.function

        def step(x, y, part=part):
            total = [part(x, y) for _ in range(4)]
            optimizer.step()
            optimizer.zero_grad()
            return total

        return net, optimizer, step, eager, part

    results = []
    for compiled in (False, True):
        mg.manual_seed(0)
        net, optimizer, step, eager, part = make()
        history = []
        for i in range(12):
            history.append((bits(*step(*batch(i), part if compiled else eager)), state_of(net, [optimizer])))
        results.append(history)
    assert results[0] == results[1]
    assert part.cache_info().hits > 30


def test_accumulation_within_a_call_and_zeroing_in_place():
    def make():
        net = network()
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x, y):
            optimizer.zero_grad(set_to_none=False)
            for half in (slice(None, 3), slice(3, None)):
                F.cross_entropy(net(x[half]), y[half]).backward()
            optimizer.step()
            return net(x).detach()

        return net, [optimizer], step

    compare(make, 12, hits=8)


def test_two_optimizers_and_frozen_and_shared_parameters():
    def make():
        body, head, twin = nn.Linear(5, 5), nn.Linear(5, 3), nn.Linear(5, 5)
        twin.weight = body.weight
        head.bias.requires_grad_(False)
        model = nn.ModuleList([body, twin, head])
        first = optim.Adam([body.weight, body.bias])
        second = optim.SGD([head.weight, twin.bias], lr=0.1, momentum=0.5)

        def step(x, y):
            first.zero_grad()
            second.zero_grad()
            loss = F.cross_entropy(head(twin(body(x).tanh())), y)
            loss.backward()
            first.step()
            second.step()
            return loss.detach(), {"twice": loss.detach() * 2}["twice"]

        return model, [first, second], step

    compare(make, 20, hits=16)


def penalised(net, optimizer, x, y):
    """The loss and a penalty on its gradient."""
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    grads = mg.autograd.grad(loss, list(net.parameters()), create_graph=True)
    (loss + 0.1 * sum((g * g).sum() for g in grads)).backward()
    optimizer.step()
    return loss.detach()


def looked_up(net, optimizer, x, y):
    """Rows of a table by index."""
    w = net[0].weight
    optimizer.zero_grad()
    loss = (w[y] ** 2).sum() + w.index_select(0, y).sum() + w.gather(0, y.unsqueeze(1).expand(6, 5)).mean()
    loss.backward()
    optimizer.step()
    return loss


def with_closure(net, optimizer, x, y):
    def closure():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    return optimizer.step(closure)


def with_metrics(net, optimizer, x, y):
    optimizer.zero_grad()
    out = net(x)
    loss = F.cross_entropy(out, y)
    loss.backward()
    optimizer.step()
    return loss, (out.argmax(1) == y).sum(), out.detach().softmax(1)


def adversarial(net, optimizer, x, y):
    """Two losses, of which the second sees what the first has changed; noise."""
    fake = mg.randn(6, 7)
    for target in (mg.zeros(6, 3), mg.ones(6, 3)):
        optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(net[2](fake), target) + net(x).mean()
        loss.backward()
        optimizer.step()
    return loss.detach()


SCALE = mg.tensor(8.0)


def loss_scaled(net, optimizer, x, y):
    """A scale that lives in a tensor and falls to 1, where backward would skip a product."""
    optimizer.zero_grad()
    loss = F.cross_entropy(net(x), y)
    (loss * SCALE).backward()
    with mg.no_grad():
        for p in net.parameters():
            p.grad.div_(SCALE)
        SCALE.mul_(0.5).clamp_(min=1.0)
    optimizer.step()
    return loss


def large_head(net, optimizer, x, y):
    optimizer.zero_grad()
    loss = F.linear_cross_entropy(net[:2](x), net[2].weight, y, linear_bias=net[2].bias)
    loss.backward()
    optimizer.step()
    return loss


def several_steps(net, optimizer, x, y):
    for part in (x, x * 0.5, x.sin()):
        optimizer.zero_grad()
        loss = F.cross_entropy(net(part), y)
        loss.backward()
        optimizer.step()
    return loss


STEPS = [penalised, looked_up, with_closure, with_metrics, adversarial, loss_scaled, large_head, several_steps]


@pytest.mark.parametrize("step", STEPS, ids=lambda f: f.__name__)
def test_steps(step):
    def make():
        SCALE.fill_(8.0)
        net = network()
        optimizer = optim.AdamW(net.parameters(), lr=0.01)
        return net, [optimizer], lambda x, y: step(net, optimizer, x, y)

    compare(make, 14, hits=9)


def test_muon_whose_learning_rate_is_guarded():
    def matrix():
        return nn.Linear(5, 3, bias=False)

    compare(training(optim.Muon, matrix), 12, hits=8)
    compare(training(optim.Muon, matrix), 12, before=halve)


def test_batches_of_other_sizes_get_programs_of_their_own():
    run = mg.compile(training(optim.Adam)()[2])
    for _ in range(3):
        for n in (6, 4, 1):
            run(*batch(0, n))
    for i in range(5):
        for n in (6, 4, 1):
            run(*batch(i, n))
    info = run.cache_info()
    assert info.currsize == 3
    assert info.hits >= 12


def test_the_cache_is_bounded_and_a_function_that_never_repeats_runs_eagerly():
    run = mg.compile(lambda x, i: x * i)
    x = mg.ones(2)
    for i in range(20):
        assert run(x, i).tolist() == [i, i]
        assert run.cache_info().currsize <= run.cache_info().maxsize
    with pytest.warns(UserWarning, match="keeps changing"):
        assert [run(x, i)[0].item() for i in range(100)] == list(range(100))


# --- what the caller holds --------------------------------------------------------------------------------------------


def test_results_and_gradients_that_the_caller_keeps_are_left_alone():
    net, _, step = training(optim.Adam)()
    run = mg.compile(step)
    kept = []
    for i in range(12):
        loss = run(*batch(i))
        grads = [p.grad for p in net.parameters()]
        views = [p.grad.numpy() for p in net.parameters()]
        kept.append((loss, loss.item(), grads, [g.tolist() for g in grads], views))
    for loss, value, grads, values, views in kept:
        assert loss.item() == value
        assert [g.tolist() for g in grads] == values
        assert [v.tolist() for v in views] == values
    assert run.cache_info().hits >= 9
    assert len({id(loss) for loss, *_ in kept}) == 12


def test_a_result_has_the_history_that_the_eager_one_has():
    run = mg.compile(training(optim.SGD)()[2])
    for i in range(6):
        loss = run(*batch(i))
        assert loss.requires_grad
        assert loss.grad_fn is not None
        with pytest.raises(RuntimeError, match="backward through the graph a second time"):
            loss.backward()


def test_gradients_set_to_none_or_replaced_between_calls():
    def before(i, model, optimizers):
        if i % 5 == 3:
            optimizers[0].zero_grad()
        if i % 5 == 4:
            for p in model.parameters():
                p.grad = mg.ones(p.shape)

    compare(training(optim.Adam), 30, before=before, hits=20)


def test_gradients_that_are_read_before_they_are_zeroed_or_given_other_memory():
    def before(i, model, optimizers):
        if i % 6 == 5:
            p = model[0].weight
            p.grad.data = mg.full(p.shape, 2.0)
        if i % 6 == 4:
            model[0].bias.grad.requires_grad_()

    def make():
        net = network()
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x, y):
            out = net(x).tanh() * 2
            norm = sum(p.grad.abs().sum() for p in net.parameters() if p.grad is not None)
            optimizer.zero_grad()
            loss = F.cross_entropy(out, y)
            loss.backward()
            optimizer.step()
            return loss.detach() + norm.detach() if isinstance(norm, mg.Tensor) else loss.detach()

        return net, [optimizer], step

    compare(make, 40, before=before, hits=25)


def test_a_result_may_be_the_next_argument():
    weight = nn.Parameter(mg.eye(3) * 0.5)
    run = mg.compile(lambda x, h: ((x + h) @ weight).tanh().detach())
    eager = found = mg.zeros(2, 3)
    for i in range(20):
        x = mg.full((2, 3), i / 10)
        eager, found = run.function(x, eager), run(x, found)
        assert eager.tolist() == found.tolist()
    assert run.cache_info().hits == 17


def test_parameters_written_moved_and_loaded_between_calls():
    saved = {}

    def before(i, model, optimizers):
        with mg.no_grad():
            if i == 8:
                model[0].weight.mul_(0.5)
            if i == 9:
                saved["model"] = {k: v.clone() for k, v in model.state_dict().items()}
                saved["optimizer"] = optimizers[0].state_dict()
            if i == 12:
                model[0].weight.data = model[0].weight.data * 2
            if i == 16:
                model.load_state_dict(saved["model"])
                optimizers[0].load_state_dict(saved["optimizer"])
            if i == 20:
                model.load_state_dict(saved["model"], assign=True)
            if i == 25:
                model[2].bias.requires_grad_(False)

    compare(training(optim.Adam), 30, before=before, hits=8)


def test_writes_are_seen_by_the_version_check():
    net, _, step = training(optim.SGD)()
    run = mg.compile(step)
    for i in range(5):
        run(*batch(i))
    out = net(batch(0)[0]).sum()
    run(*batch(5))
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        out.backward()


def test_buffers_written_in_place():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("mean", mg.zeros(5))
            self.register_buffer("count", mg.zeros((), dtype=mg.int64))
            self.fc = nn.Linear(5, 3)

        def forward(self, x):
            if self.training:
                with mg.no_grad():
                    self.mean.mul_(0.9).add_(x.mean(0), alpha=0.1)
                    self.count += 1
            return self.fc(x - self.mean)

    compare(training(optim.Adam, Counter), 15, hits=10)


# --- what is not captured ---------------------------------------------------------------------------------------------

X = mg.ones(3)
counter = {"calls": 0}
scale = 1.0


def reads_item(x):
    return x * (x.sum().item() + 1)


def branches(x):
    return x + 1 if x.sum() > 0 else x - 1


def reads_list(x):
    return x * x.tolist()[0]


def goes_through_numpy(x):
    return mg.tensor(np.exp(x.numpy()))


def prints(x):
    return x * len(repr(x))


def makes_a_tensor_of_an_array(x):
    return x + mg.from_numpy(np.ones(3, "f4"))


def counts(x):
    counter["calls"] += 1
    return x + 1


def calls_a_hook(x):
    w = mg.ones(3, requires_grad=True)
    w.register_hook(lambda g: g * 2)
    (w * x).sum().backward()
    return w.grad


class Double(mg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, dy):
        return dy * 2


REFUSED = {
    reads_item: "reads the value",
    branches: "reads the value",
    reads_list: "gets at the memory",
    goes_through_numpy: "gets at the memory",
    prints: "gets at the memory",
    makes_a_tensor_of_an_array: "makes a tensor of an array",
    counts: "changes",
    calls_a_hook: "calls a hook",
    Double.apply: "calls Double.apply",
    (lambda x: x.detach().requires_grad_() * 2): "returns a tensor with a history",
    (lambda x: np.ones(3)): "returns a ndarray",
}


def repeat(function, x):
    for _ in range(6):
        function(x)


@pytest.mark.parametrize("function", REFUSED)
def test_what_cannot_be_captured_runs_eagerly_after_one_warning(function):
    run, x = mg.compile(function), mg.tensor([1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match=f"runs eagerly: it {REFUSED[function]}") as caught:
        repeat(run, x)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for value in (mg.tensor([-1.0, -2.0, -3.0]), mg.tensor([4.0, 5.0, 6.0])):
        expected, found = function(value), run(value)
        assert np.asarray(expected.detach() if isinstance(expected, mg.Tensor) else expected).tolist() == (
            np.asarray(found.detach() if isinstance(found, mg.Tensor) else found).tolist())  # fmt: skip
    strict = mg.compile(function, fullgraph=True)
    with pytest.raises(RuntimeError, match=REFUSED[function]):
        repeat(strict, x)


def test_the_warning_names_the_line():
    run = mg.compile(branches)
    with pytest.warns(UserWarning, match="branches runs eagerly") as caught:
        run(mg.ones(3)), run(mg.ones(3))
    assert caught[0].lineno == branches.__code__.co_firstlineno + 1


def test_what_differs_from_call_to_call_is_noticed():
    numbers = (i for i in range(100))
    unseen = weakref.ref(numbers)
    run = mg.compile(lambda x: x + next(unseen()))
    with pytest.warns(UserWarning, match="a replay differs"):
        found = [run(mg.zeros(1)).item() for _ in range(10)]
    assert found == list(range(10))


def scaled(x):
    return x * scale


def test_numbers_that_the_function_uses_are_guarded(monkeypatch):
    class Settings:
        rate = 2.0

    settings, offset = Settings(), 1.0
    settings.rate = 3.0

    def f(x, power=2):
        return (x * settings.rate + offset) ** power

    run, also = mg.compile(f), mg.compile(scaled)
    for i in range(12):
        if i == 4:
            settings.rate = 5.0
        if i == 8:
            offset = 7.0
        monkeypatch.setitem(globals(), "scale", float(i // 4))
        for power in (1.0, 2.0):
            assert run(mg.ones(1), power).item() == (settings.rate + offset) ** power
            assert run(mg.ones(1), power=power).item() == (settings.rate + offset) ** power
        assert also(mg.ones(1)).item() == i // 4
    assert run.cache_info().hits >= 16


def test_attributes_of_classes_slots_and_methods_are_guarded():
    class Settings:
        rate = 2.0

    class Slots:
        __slots__ = ("factor",)

    class Trainer:
        def __init__(self):
            self.calls, self.slots, self.generator = 0, Slots(), mg.Generator().manual_seed(0)

        def step(self, x):
            return self.twice(x) * Settings.rate + F.dropout(x, 0.5, generator=self.generator) * 0

        def twice(self, x):
            return x * self.slots.factor

        def loop(self):
            self.calls += 1

    trainer = Trainer()
    trainer.slots.factor = 2.0
    run = mg.compile(trainer.step)
    for i in range(15):
        if i == 5:
            Settings.rate = 3.0
        if i == 10:
            trainer.slots.factor = 4.0
        trainer.loop()
        assert run(mg.ones(1)).item() == Settings.rate * trainer.slots.factor
    assert run.cache_info().hits == 8


def test_getattr_of_the_users_is_not_called():
    class Settings:
        __slots__ = ("__late", "_values", "rate")

        def __init__(self, **values):
            self._values = values

        def __getattr__(self, name):
            return self._values[name]

        def late(self, x):
            return x * self.__late

    settings = Settings(factor=2.0, _Settings__late=3.0, rate=5.0)
    run = mg.compile(lambda x: settings.late(x) * settings.factor * settings.rate)
    for i in range(15):
        if i == 5:
            settings.rate = 7.0
        if i == 10:
            settings._Settings__late = 11.0
        assert run(mg.ones(1)).item() == 2.0 * (5.0 if i < 5 else 7.0) * (3.0 if i < 10 else 11.0)
    assert run.cache_info().hits == 8


def test_attributes_of_modules_are_guarded_however_they_are_reached():
    package, inner = types.ModuleType("of_mine"), types.ModuleType("of_mine.inner")
    package.inner, inner.rate = inner, 1.0
    holder, table = types.SimpleNamespace(settings=inner), {"settings": inner}

    for function in (
        lambda x: x * package.inner.rate,
        lambda x: x * inner.rate,
        lambda x: x * holder.settings.rate,
        lambda x: x * table["settings"].rate,
        lambda x: x * getattr(inner, "rate"),  # noqa: B009
        types.FunctionType((lambda x: x * of_mine.inner.rate).__code__, {"of_mine": package}),  # noqa: F821
    ):
        run = mg.compile(function)
        for i in range(12):
            inner.rate = float(i // 6)
            assert run(mg.ones(1)).item() == i // 6
        assert run.cache_info().hits == 7


def test_attributes_of_parameters_are_guarded():
    layer = nn.Linear(2, 2)
    layer.weight.scale, layer.bias.settings = 1.0, {"offset": 0.0}

    def f(x):
        return (layer(x) * layer.weight.scale + layer.bias.settings["offset"]).detach()

    run = mg.compile(f)
    for i in range(18):
        layer.weight.scale, layer.bias.settings["offset"] = 1.0 + (i >= 6), float(i >= 12)
        layer.weight.unused = i
        assert run(mg.ones(1, 2)).tolist() == f(mg.ones(1, 2)).tolist()
    assert run.cache_info().hits == 11


def test_signs_of_zero_nan_and_the_order_of_dicts_are_guarded():
    number, weights = [0.0], {"a": mg.ones(1), "b": mg.full((1,), 2.0)}
    run = mg.compile(lambda x: x / number[0])
    power = mg.compile(lambda x, n: x / n)
    for i, value in enumerate([0.0, -0.0, math.nan, float("nan"), 0.0, -0.0] * 4):
        number[0] = value
        expected = [math.copysign(math.inf, value)] if value == value else [math.nan]
        for found in (run(mg.ones(1)).tolist(), power(mg.ones(1), value).tolist()):
            assert str(found) == str(expected), i
    assert run.cache_info().hits >= 8 and power.cache_info().hits >= 8
    fold = mg.compile(lambda x: functools.reduce(lambda y, w: y * 2 + w, weights.values(), x))
    for i in range(12):
        if i % 4 == 0:
            weights["a"] = weights.pop("a")
        if i == 8:
            weights["b"] = weights.pop("b")
        wanted = 5.0 if list(weights) == ["b", "a"] else 4.0
        assert fold(mg.zeros(1)).item() == wanted, i
    assert fold.cache_info().hits >= 2


rate_of_the_module = 1.0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * globals()["rate_of_the_module"],
        lambda x: x * eval("rate_of_the_" + "module"),
        lambda x: [exec("y = rate_of_the_module"), x * rate_of_the_module][1],  # noqa: S102
        lambda x: x * len(locals()),
        lambda x: (lambda: x * globals()["rate_of_the_module"])(),
    ],
)
def test_functions_that_reach_what_no_guard_sees_run_eagerly(function, monkeypatch):
    run = mg.compile(function)
    with pytest.warns(UserWarning, match="calls (globals|eval|exec|locals).*effect compile cannot see"):
        run(mg.ones(1)), run(mg.ones(1))
    for rate in (2.0, 3.0):
        monkeypatch.setitem(globals(), "rate_of_the_module", rate)
        assert run(mg.ones(1)).item() == function(mg.ones(1)).item()


def test_names_of_blind_functions_that_are_methods_or_the_users_own_are_no_reason():
    model = nn.Dropout(0.5)

    def locals():
        return 2.0

    run = mg.compile(lambda x: model.eval()(x) * locals())
    with mg.no_grad():
        assert [run(mg.ones(1)).item() for _ in range(4)] == [2.0] * 4
    assert run.cache_info().hits == 1


@pytest.mark.parametrize("kind", ["ContextVar", "local"])
def test_what_depends_on_a_context_or_a_thread_runs_eagerly(kind):
    if kind == "local":
        here = threading.local()
        here.rate = 1.0
        run, change = mg.compile(lambda x: x * here.rate), lambda: setattr(here, "rate", 5.0)
    else:
        rate = contextvars.ContextVar("rate", default=1.0)
        run, change = mg.compile(lambda x: x * rate.get()), lambda: rate.set(5.0)
    with pytest.warns(UserWarning, match=f"uses a _?{kind}"):
        assert [run(mg.ones(1)).item() for _ in range(4)] == [1.0] * 4
    change()
    assert run(mg.ones(1)).item() == 5


def test_what_no_guard_can_see_runs_eagerly(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rates_of_mine.py").write_text("rate = 1.0")
    numbers, names, queue = np.ones(2), set(), collections.deque([1.0])
    holder = types.SimpleNamespace(numbers=numbers)

    def imports(x):
        import rates_of_mine

        return x * rates_of_mine.rate

    for function, change in (
        (lambda x: x * float(numbers[0]), lambda: numbers.fill(5)),
        (lambda x: x * float(holder.numbers[1]), lambda: numbers.fill(7)),
        (lambda x: x * (5.0 if "warm" in names else 1.0), lambda: names.add("warm")),
        (lambda x: x * queue[0], lambda: queue.appendleft(5.0)),
        (imports, lambda: setattr(sys.modules["rates_of_mine"], "rate", 5.0)),
    ):
        run = mg.compile(function)
        with pytest.warns(UserWarning, match="runs eagerly: it (uses a|imports) .*whose changes compile cannot see"):
            run(mg.ones(1)), run(mg.ones(1))
        run(mg.ones(1))
        change()
        assert run(mg.ones(1)).item() == function(mg.ones(1)).item() >= 5


@pytest.mark.parametrize(
    "make",
    [
        lambda values: functools.partial(next, (v for v in values)),
        lambda values: iter(values).__next__,
        lambda values: functools.partial(next, map(float, values)),
        lambda values: (lambda it: lambda: next(it))(itertools.cycle(values)),
        lambda values: (lambda file: lambda: file.readline())(io.StringIO("".join(f"{v}\n" for v in values))),
        lambda values: io.StringIO("".join(f"{v}\n" for v in values)).readline,
    ],
)
def test_iterators_and_files_run_eagerly(make):
    take = make([1.0] * 6 + [5.0] * 6)
    run = mg.compile(lambda x: x * float(take()))
    with pytest.warns(UserWarning, match="runs eagerly: it uses a .*whose changes compile cannot see"):
        assert [run(mg.ones(1)).item() for _ in range(12)] == [1.0] * 6 + [5.0] * 6


def test_bound_methods_of_dicts_and_lists_are_guarded():
    table, values = {"rate": 1.0}, [1.0]
    get, item = table.get, values.__getitem__
    run = mg.compile(lambda x: x * get("rate") * item(0))
    for i in range(18):
        table["rate"], values[0] = 1.0 + (i >= 6), 1.0 + (i >= 12)
        assert run(mg.ones(1)).item() == table["rate"] * values[0]
    assert run.cache_info().hits >= 10


def test_an_empty_batch_runs_eagerly_and_the_others_do_not():
    layer = nn.Linear(3, 2)
    run = mg.compile(lambda x: layer(x).detach().sum())
    for n in (4, 4, 0, 4, 4, 0, 4):
        x = mg.randn(n, 3)
        assert run(x).item() == layer(x).sum().item()
    assert run.cache_info().hits == 2


def test_grad_mode_training_mode_and_requires_grad_are_guarded():
    layer = nn.Linear(3, 2)
    run = mg.compile(lambda x: layer(x).detach())
    for mode in (True, False, True):
        with mg.set_grad_enabled(mode):
            for _ in range(3):
                assert run(mg.ones(2, 3)).tolist() == layer(mg.ones(2, 3)).tolist()
    assert run.cache_info().currsize == 2


# --- errors -----------------------------------------------------------------------------------------------------------


def test_a_label_out_of_range_raises_and_changes_nothing():
    def before(i, model, optimizers):
        if i == 10:
            x, y = batch(i)
            y[3] = 5
            with pytest.raises(IndexError, match=r"target\[3\] = 5"):
                run(x, y)

    results = []
    for compiled in (False, True):
        mg.manual_seed(0)
        net, optimizers, step = training(optim.Adam, dropout_network)()
        run = mg.compile(step) if compiled else step
        for i in range(15):
            before(i, None, None)
            run(*batch(i))
        results.append(state_of(net, optimizers)[0])
    assert results[0][0:1] == results[1][0:1]
    assert results[0] == results[1]


def test_an_exception_leaves_what_the_eager_run_leaves():
    net, _, step = training(optim.SGD)()

    def broken(x, y):
        loss = step(x, y)
        raise KeyError("stop")
        return loss

    run = mg.compile(broken)
    for _ in range(4):
        before = net[0].weight.tolist()
        with pytest.raises(KeyError):
            run(*batch(0))
        assert net[0].weight.tolist() != before
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        mg.compile(step)(mg.ones(6, 4), batch(0)[1])
    assert mg.compile(step)(*batch(0)).item() > 0  # nothing is left recording


# --- modules, decorators, threads -------------------------------------------------------------------------------------


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
        repeat(lambda x: [run(x) for run in runs], mg.ones(3))
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
    assert "test_compile.py:" in out
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


# --- what changes about functions, learning rates and around steps ----------------------------------------------------


def test_code_defaults_and_attributes_of_functions_are_guarded():
    def rate(x, factor=2.0, *, offset=0.0):
        return x * factor + offset + rate.extra

    def twice(x, factor=2.0, *, offset=0.0):
        return 2 * (x * factor + offset + rate.extra)

    rate.extra = 0.0
    run = mg.compile(lambda x: rate(x))
    changes = {
        6: lambda: setattr(rate, "__defaults__", (5.0,)),
        12: lambda: rate.__kwdefaults__.update(offset=1.0),
        18: lambda: setattr(rate, "__kwdefaults__", {"offset": 3.0}),
        24: lambda: setattr(rate, "extra", 7.0),
        30: lambda: setattr(rate, "__code__", twice.__code__),
    }
    for i in range(36):
        changes.get(i, int)()
        assert run(mg.ones(1)).item() == rate(mg.ones(1)).item(), i
    assert run.cache_info().hits >= 20


def test_lists_in_defaults_are_guarded():
    def rate(x, factors=[2.0], *, offsets={"a": 0.0}):  # noqa: B006
        return x * factors[0] + offsets["a"]

    run = mg.compile(lambda x: rate(x))
    for i in range(18):
        if i == 6:
            rate.__defaults__[0][0] = 5.0
        if i == 12:
            rate.__kwdefaults__["offsets"]["a"] = 1.0
        assert run(mg.ones(1)).item() == (2.0 if i < 6 else 5.0) + (i >= 12)
    assert run.cache_info().hits >= 10


@pytest.mark.parametrize("name", ["Adam", "SGD, momentum", "Adafactor", "NAdam"])
def test_a_learning_rate_in_a_tensor_is_read_anew(name):
    def before(i, model, optimizers):
        group = optimizers[0].param_groups[0]
        if i == 0:
            group["lr"] = mg.tensor(0.1)
        if i in (8, 9):
            group["lr"].mul_(0.5)
        if i == 12:
            group["weight_decay"] = 0.1
        if i == 18:
            group["lr"] = mg.tensor(0.01, dtype=mg.float64)
        if i == 24:
            group["lr"] = 0.2

    compare(training(OPTIMIZERS[name]), 30, before=before, hits=20)


def test_a_learning_rate_in_a_tensor_that_the_step_writes():
    def make(early):
        def made():
            net, rate = network(), mg.tensor(0.1)
            optimizer = optim.SGD(net.parameters(), lr=rate)

            def step(x, y):
                optimizer.zero_grad()
                loss = F.cross_entropy(net(x), y)
                loss.backward()
                if early:
                    rate.mul_(0.9)
                optimizer.step()
                rate.mul_(0.9)
                return loss

            return net, [optimizer], step

        return made

    compare(make(False), 12, hits=8)
    with pytest.warns(UserWarning, match="reads the value"):
        compare(make(True), 12)


def test_a_learning_rate_that_the_step_sets_itself_is_not_the_one_set_outside():
    def before(i, model, optimizers):
        if i in (8, 9):
            optimizers[0].param_groups[0]["lr"] = 5.0  # in vain

    def make():
        net = network()
        optimizer = optim.SGD(net.parameters(), lr=0.1)

        def step(x, y):
            optimizer.param_groups[0]["lr"] = 0.1
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            return loss

        return net, [optimizer], step

    compare(make, 14, before=before, hits=9)


def test_a_learning_rate_that_the_step_looks_at_is_guarded():
    def before(i, model, optimizers):
        rates = {0: 0.1, 5: 0.09, 10: 0.01, 15: 0.1, 20: 0.02}
        for group in optimizers[0].param_groups:
            group["lr"] = rates.get(i, group["lr"])

    def make():
        net = network()
        optimizer = optim.SGD(net.parameters(), lr=0.1, weight_decay=1.0)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            for group in optimizer.param_groups:
                if group["lr"] < 0.03:
                    loss = loss * 2
            loss.backward()
            optimizer.step()
            return loss.detach()

        return net, [optimizer], step

    compare(make, 25, before=before, hits=13)

    def every(i, model, optimizers):
        halve(i, model, optimizers)
        optimizers[0].param_groups[0]["weight_decay"] = 1.0 - 0.1 * (i > 10)

    with pytest.warns(UserWarning, match="keeps changing"):
        compare(make, 50, before=every)


def test_a_learning_rate_counts_for_every_step_of_a_call():
    def make():
        net = network()
        optimizer = optim.AdamW(net.parameters(), lr=0.01)
        return net, [optimizer], lambda x, y: several_steps(net, optimizer, x, y)

    compare(make, 14, before=halve, hits=9)


def averages(net, optimizer):
    averaged = optim.swa_utils.AveragedModel(net, multi_avg_fn=optim.swa_utils.get_ema_multi_avg_fn(0.9))
    return averaged, lambda: averaged.update_parameters(net)


def schedules(net, optimizer):
    scheduler = optim.lr_scheduler.ExponentialLR(optimizer, 0.9)
    return net, scheduler.step


@pytest.mark.parametrize("what", [averages, schedules])
def test_averages_and_schedules_within_a_step_run_eagerly(what):
    def make():
        net = network()
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        also, act = what(net, optimizer)

        def step(x, y):
            optimizer.zero_grad()
            loss = F.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            act()
            return loss.detach(), next(p.detach().clone() for p in also.parameters())

        return nn.ModuleList([net, also]), [optimizer], step

    with pytest.warns(UserWarning, match="runs eagerly"):
        compare(make, 12)
