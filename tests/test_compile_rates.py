"""Learning rates and schedules of compiled steps: read anew, or guarded."""

import pytest

import minigrad as mg
from minigrad import nn, optim
from minigrad.nn import functional as F

from .compiled import OPTIMIZERS, compare, halve, network, several_steps, training


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
