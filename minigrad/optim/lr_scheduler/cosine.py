"""Cosine annealing, without and with restarts (Loshchilov and Hutter, SGDR, ICLR 2017)."""

from math import cos, floor, log, pi

from .base import LRScheduler, group_values, warn_outside_step


def annealed(high, low, t, period):
    """From ``high`` at t = 0 to ``low`` at t = period, on half a cosine wave."""
    return low + (high - low) * (1 + cos(pi * t / period)) / 2


class CosineAnnealingLR(LRScheduler):
    """From the initial learning rate to ``eta_min`` in ``T_max`` epochs, on a cosine wave, and up again after them.

    lr = eta_min + (initial - eta_min) (1 + cos(pi epoch / T_max)) / 2, computed from the current learning rate, so
    that other changes of it remain. Source: Loshchilov and Hutter, SGDR: Stochastic gradient descent with warm
    restarts, ICLR 2017.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
    >>> for epoch in range(5):
    ...     optimizer.step()
    ...     print(epoch, round(scheduler.get_last_lr()[0], 6))
    ...     scheduler.step()
    0 8.0
    1 4.0
    2 0.0
    3 4.0
    4 8.0
    """

    def __init__(self, optimizer, T_max, eta_min=0.0, last_epoch=-1):
        self.T_max, self.eta_min = T_max, eta_min
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        warn_outside_step(self)
        t, period, low, groups = self.last_epoch, self.T_max, self.eta_min, self.optimizer.param_groups
        if self._is_initial:
            return group_values(self.optimizer, "lr")
        if self._step_count == 1 and t > 0:
            return self._get_closed_form_lr()
        if (t - 1 - period) % (2 * period) == 0:  # after a minimum, where the ratio below would be x / 0
            return [g["lr"] + (lr - low) * (1 - cos(pi / period)) / 2 for g, lr in zip(groups, self.base_lrs)]
        ratio = (1 + cos(pi * t / period)) / (1 + cos(pi * (t - 1) / period))
        return [ratio * (g["lr"] - low) + low for g in groups]

    def _get_closed_form_lr(self):
        return [annealed(lr, self.eta_min, self.last_epoch, self.T_max) for lr in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Cosine annealing to ``eta_min`` that starts anew after ``T_0`` epochs, then after ``T_mult`` times as many, ...

    lr = eta_min + (initial - eta_min) (1 + cos(pi T_cur / T_i)) / 2: T_cur epochs of T_i have passed since the last
    restart. ``step(epoch)`` goes to any epoch, also a fraction such as epoch + batch / batches. ValueError unless T_0
    and T_mult are positive integers and eta_min a number. Source: as of ``CosineAnnealingLR``.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2)
    >>> for epoch in range(4):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [4.0]
    2 [8.0]
    3 [4.0]
    """

    def __init__(self, optimizer, T_0, T_mult=1, eta_min=0.0, last_epoch=-1):
        if not isinstance(T_0, int) or T_0 <= 0:
            raise ValueError(f"Expected positive integer T_0, but got {T_0}")
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ValueError(f"Expected integer T_mult >= 1, but got {T_mult}")
        if not isinstance(eta_min, (float, int)):
            raise ValueError(f"Expected float or int eta_min, but got {eta_min} of type {type(eta_min)}")
        self.T_0, self.T_i, self.T_mult, self.eta_min, self.T_cur = T_0, T_0, T_mult, eta_min, last_epoch
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        warn_outside_step(self)
        return [annealed(lr, self.eta_min, self.T_cur, self.T_i) for lr in self.base_lrs]

    def step(self, epoch=None):
        """Go to the next epoch, or to ``epoch``, which may be a fraction; ValueError if it is negative."""
        if epoch is None and self.last_epoch >= 0:
            epoch = self.last_epoch + 1
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
        else:
            epoch = 0 if epoch is None else epoch
            if epoch < 0:
                raise ValueError(f"Expected non-negative epoch, but got {epoch}")
            self._find_period(epoch)
        self.last_epoch = floor(epoch)
        self._assign(self.get_lr)

    def _find_period(self, epoch):
        """Set T_cur, and T_i, for any epoch: restart n is at T_0 (1 + T_mult + ... + T_mult^(n - 1))."""
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            n = int(log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            self.T_cur = epoch - self.T_0 * (self.T_mult**n - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**n
