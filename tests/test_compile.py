"""Compiled steps: the bits of the eager run, in all that can be seen of it."""

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .compiled import (
    OPTIMIZERS,
    batch,
    bits,
    compare,
    dropout_network,
    halve,
    network,
    odd_network,
    several_steps,
    state_of,
    training,
)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_two_hundred_steps_of_each_optimizer_have_the_eager_bits(name):
    compare(training(OPTIMIZERS[name]), 200, hits=190)


@pytest.mark.parametrize("name", ["Adam", "SGD, momentum", "NAdam", "Adafactor"])
def test_parameters_of_odd_layout_and_two_dtypes(name):
    compare(training(OPTIMIZERS[name], odd_network), 12, hits=8)
    compare(training(OPTIMIZERS[name], odd_network), 8, before=halve)


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
