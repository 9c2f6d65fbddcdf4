"""Schedules that multiply the learning rates of all groups by one factor."""

from bisect import bisect_right
from collections import Counter

from .base import LRScheduler, group_values, warn_outside_step


class Multiplying(LRScheduler):
    """A schedule given by two factors, which agree unless somebody else changes the learning rate too.

    ``_factor()`` multiplies the current learning rates (None: they stay), ``_closed_factor()`` the initial ones.
    """

    def get_lr(self):
        warn_outside_step(self)
        factor = self._factor()
        if factor is None:
            return group_values(self.optimizer, "lr")
        return [group["lr"] * factor for group in self.optimizer.param_groups]

    def _get_closed_form_lr(self):
        return [lr * self._closed_factor() for lr in self.base_lrs]

    def _factor(self):
        raise NotImplementedError

    def _closed_factor(self):
        raise NotImplementedError


class StepLR(Multiplying):
    """The learning rate times ``gamma`` every ``step_size`` epochs: lr = initial gamma^(epoch // step_size).

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [8.0]
    2 [4.0]
    3 [4.0]
    """

    def __init__(self, optimizer, step_size, gamma=0.1, last_epoch=-1):
        self.step_size, self.gamma = step_size, gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self):
        return self.gamma if self.last_epoch != 0 and self.last_epoch % self.step_size == 0 else None

    def _closed_factor(self):
        return self.gamma ** (self.last_epoch // self.step_size)


class MultiStepLR(Multiplying):
    """The learning rate times ``gamma`` at each of the epochs ``milestones``; one listed twice counts twice.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [4.0]
    2 [4.0]
    3 [2.0]
    """

    def __init__(self, optimizer, milestones, gamma=0.1, last_epoch=-1):
        self.milestones, self.gamma = Counter(milestones), gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self):
        times = self.milestones.get(self.last_epoch)
        return None if times is None else self.gamma**times

    def _closed_factor(self):
        milestones = sorted(Counter(self.milestones).elements())  # a file of a state dict gives a plain dict
        return self.gamma ** bisect_right(milestones, self.last_epoch)


class ConstantLR(Multiplying):
    """The learning rate times ``factor`` until epoch ``total_iters``, when it is divided by it again.

    ValueError unless 0 <= factor <= 1; ZeroDivisionError at the end if it is 0.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [4.0]
    1 [4.0]
    2 [8.0]
    3 [8.0]
    """

    def __init__(self, optimizer, factor=1 / 3, total_iters=5, last_epoch=-1):
        if factor > 1 or factor < 0:
            raise ValueError(f"Constant multiplicative factor expected to be between 0 and 1. Got factor={factor}")
        self.factor, self.total_iters = factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self):
        if self.last_epoch == 0:
            return self.factor
        return 1 / self.factor if self.last_epoch == self.total_iters else None

    def _closed_factor(self):
        return self.factor + (self.last_epoch >= self.total_iters) * (1 - self.factor)


class LinearLR(Multiplying):
    """The learning rate times a factor that goes from ``start_factor`` to ``end_factor`` in ``total_iters`` epochs.

    ValueError unless 0 < start_factor <= 1 and 0 <= end_factor <= 1.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [4.0]
    1 [6.0]
    2 [8.0]
    3 [8.0]
    """

    def __init__(self, optimizer, start_factor=1 / 3, end_factor=1.0, total_iters=5, last_epoch=-1):
        if start_factor > 1 or start_factor <= 0:
            raise ValueError(
                "Starting multiplicative factor expected to be greater than 0 and less or equal to 1. "
                f"Got start_factor={start_factor}"
            )
        if end_factor > 1 or end_factor < 0:
            raise ValueError(
                f"Ending multiplicative factor expected to be between 0 and 1. Got end_factor={end_factor}"
            )
        self.start_factor, self.end_factor, self.total_iters = start_factor, end_factor, total_iters
        super().__init__(optimizer, last_epoch)

    def _factor(self):
        if self.last_epoch == 0:
            return self.start_factor
        if self._is_initial or self.last_epoch > self.total_iters:
            return None
        rise = self.end_factor - self.start_factor  # in total_iters epochs; the ratio of this epoch's to the last's:
        return 1 + rise / (self.total_iters * self.start_factor + (self.last_epoch - 1) * rise)

    def _closed_factor(self):
        rise = self.end_factor - self.start_factor
        return self.start_factor + rise * min(self.total_iters, self.last_epoch) / self.total_iters


class ExponentialLR(Multiplying):
    """The learning rate times ``gamma`` every epoch.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
    >>> for epoch in range(3):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [4.0]
    2 [2.0]
    """

    def __init__(self, optimizer, gamma, last_epoch=-1):
        self.gamma = gamma
        super().__init__(optimizer, last_epoch)

    def _factor(self):
        return None if self._is_initial else self.gamma

    def _closed_factor(self):
        return self.gamma**self.last_epoch


class PolynomialLR(Multiplying):
    """Down to 0 in ``total_iters`` epochs: lr = initial (1 - epoch / total_iters)^power.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=2, power=2)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [2.0]
    2 [0.0]
    3 [0.0]
    """

    def __init__(self, optimizer, total_iters=5, power=1.0, last_epoch=-1):
        self.total_iters, self.power = total_iters, power
        super().__init__(optimizer, last_epoch)

    def _factor(self):
        if self._is_initial or self.last_epoch > self.total_iters:
            return None
        return ((1 - self.last_epoch / self.total_iters) / (1 - (self.last_epoch - 1) / self.total_iters)) ** self.power

    def _closed_factor(self):
        return (1 - min(self.total_iters, self.last_epoch) / self.total_iters) ** self.power
