"""What the caller of a compiled function holds: results, gradients, parameters, and what an error leaves."""

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .compiled import batch, compare, dropout_network, network, state_of, training

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
