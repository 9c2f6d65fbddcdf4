"""Schedules that let the learning rate rise and fall, and momentum against it."""

from math import cos, floor, pi

from .base import LRScheduler, check_optimizer, per_group, set_value, warn_outside_step
from .functions import saved_function


class Cycling(LRScheduler):
    """A schedule that may set momentum too: ``momentum``, or the first of ``betas`` of the optimizers that have it."""

    def _start_momentum(self, optimizer, wanted, base, maximum, last_epoch):
        """Check the options and write them into the groups; ``base`` and ``maximum`` as lists."""
        self.cycle_momentum = wanted
        if not wanted:
            return None, None
        if "momentum" not in optimizer.defaults and "betas" not in optimizer.defaults:
            raise ValueError("optimizer must support momentum or beta1 with `cycle_momentum` option enabled")
        self.use_beta1 = "betas" in optimizer.defaults
        base, maximum = per_group("base_momentum", optimizer, base), per_group("max_momentum", optimizer, maximum)
        if last_epoch == -1:
            for group, low, high in zip(optimizer.param_groups, base, maximum):
                self._set_momentum(group, high)
                group["max_momentum"], group["base_momentum"] = high, low
        return base, maximum

    def _set_momentum(self, group, value):
        if self.use_beta1:
            group["betas"] = (value, *group["betas"][1:])
        else:
            group["momentum"] = value


SCALES = {  # mode -> scale_mode, scale(gamma, x)
    "triangular": ("cycle", lambda gamma, x: 1.0),
    "triangular2": ("cycle", lambda gamma, x: 1 / 2.0 ** (x - 1)),
    "exp_range": ("iterations", lambda gamma, x: gamma**x),
}


class CyclicLR(Cycling):
    """Straight up from ``base_lr`` to ``max_lr`` in ``step_size_up`` steps, down in ``step_size_down``, and so on.

    The height of a cycle is scaled: not at all (``mode="triangular"``), by 1/2 each cycle (``"triangular2"``), by
    gamma^step (``"exp_range"``), or by ``scale_fn(x)``, where x is the cycle (from 1) or with
    ``scale_mode="iterations"`` the step. With ``cycle_momentum`` momentum (or beta1) goes from ``max_momentum`` down
    to ``base_momentum`` and back. base_lr, max_lr and momenta may be lists, one value a group. Call step() after
    every batch. ValueError for another mode without scale_fn, lists of another length, an optimizer without momentum.
    Source: Smith, Cyclical learning rates for training neural networks, WACV 2017.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], momentum=0.9)
    >>> scheduler = mg.optim.lr_scheduler.CyclicLR(optimizer, base_lr=1.0, max_lr=2.0, step_size_up=2)
    >>> for step in range(5):
    ...     optimizer.step()
    ...     print(step, scheduler.get_last_lr(), round(optimizer.param_groups[0]["momentum"], 2))
    ...     scheduler.step()
    0 [1.0] 0.9
    1 [1.5] 0.85
    2 [2.0] 0.8
    3 [1.5] 0.85
    4 [1.0] 0.9
    """

    def __init__(
        self,
        optimizer,
        base_lr,
        max_lr,
        step_size_up=2000,
        step_size_down=None,
        mode="triangular",
        gamma=1.0,
        scale_fn=None,
        scale_mode="cycle",
        cycle_momentum=True,
        base_momentum=0.8,
        max_momentum=0.9,
        last_epoch=-1,
    ):
        base_lrs = per_group("base_lr", check_optimizer(optimizer), base_lr)
        self.max_lrs = per_group("max_lr", optimizer, max_lr)
        up = float(step_size_up)
        self.total_size = up + (up if step_size_down is None else float(step_size_down))
        self.step_ratio = up / self.total_size
        if mode not in SCALES and scale_fn is None:
            raise ValueError(f"mode is invalid and scale_fn is None: {mode!r} is none of {', '.join(SCALES)}")
        self.mode, self.gamma, self._scale_fn_custom = mode, gamma, scale_fn
        self.scale_mode = scale_mode if scale_fn is not None else SCALES[mode][0]
        base, maximum = self._start_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        if cycle_momentum:
            self.base_momentums, self.max_momentums = base, maximum
        if last_epoch == -1:  # everything is checked: a schedule that is refused changes no group
            for group, lr in zip(optimizer.param_groups, base_lrs):
                set_value(group, "lr", lr)
        super().__init__(optimizer, last_epoch)
        self.base_lrs = base_lrs

    def scale_fn(self, x):
        """What the height of a cycle is multiplied by."""
        return self._scale_fn_custom(x) if self._scale_fn_custom is not None else SCALES[self.mode][1](self.gamma, x)

    def get_lr(self):
        """The learning rates; sets momentum as well."""
        warn_outside_step(self)
        cycle = floor(1 + self.last_epoch / self.total_size)
        x = 1 + self.last_epoch / self.total_size - cycle
        part = x / self.step_ratio if x <= self.step_ratio else (x - 1) / (self.step_ratio - 1)
        scale = self.scale_fn(cycle if self.scale_mode == "cycle" else self.last_epoch)
        if self.cycle_momentum:
            for group, low, high in zip(self.optimizer.param_groups, self.base_momentums, self.max_momentums):
                self._set_momentum(group, high - (high - low) * part * scale)
        return [low + (high - low) * part * scale for low, high in zip(self.base_lrs, self.max_lrs)]

    def state_dict(self):
        """All attributes but the optimizer; of ``scale_fn`` only the attributes of a callable object."""
        state = super().state_dict()
        del state["_scale_fn_custom"]  # it comes last
        return {**state, "_scale_fn_custom": saved_function(self._scale_fn_custom)}

    def load_state_dict(self, state_dict):
        """Take over what ``state_dict`` returned; ``scale_fn`` stays this scheduler's, an object gets attributes."""
        saved = state_dict["_scale_fn_custom"]
        super().load_state_dict({**state_dict, "_scale_fn_custom": self._scale_fn_custom})
        if saved is not None:
            vars(self._scale_fn_custom).update(saved)


ANNEALING = {  # from start to end as part goes from 0 to 1
    "cos": lambda start, end, part: end + (start - end) / 2 * (cos(pi * part) + 1),
    "linear": lambda start, end, part: (end - start) * part + start,
}
# The values that the phases go between, by key of the group.
TWO_PHASES = ("initial_lr", "max_lr", "min_lr"), ("max_momentum", "base_momentum", "max_momentum")
THREE_PHASES = (
    ("initial_lr", "max_lr", "initial_lr", "min_lr"),
    ("max_momentum", "base_momentum", "max_momentum", "max_momentum"),
)


class OneCycleLR(Cycling):
    """One cycle: up from max_lr / div_factor to ``max_lr``, then down to a ``final_div_factor``-th of the start.

    The way up takes ``pct_start`` of all ``total_steps`` (or ``epochs * steps_per_epoch``); with ``three_phase`` the
    learning rate returns to the start in as many and goes on to the end in the rest. ``anneal_strategy``: on a
    cosine ("cos") or straight ("linear"). With ``cycle_momentum`` momentum (or beta1) goes from ``max_momentum`` down
    to ``base_momentum`` and back. max_lr and momenta may be lists, one value a group. Call step() after every batch.
    ValueError for options out of range, and by the step after total_steps; ZeroDivisionError for a phase without
    steps (pct_start * total_steps = 1). Source: Smith and Topin, Super-convergence, arXiv:1708.07120.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], momentum=0.9)
    >>> scheduler = mg.optim.lr_scheduler.OneCycleLR(
    ...     optimizer, max_lr=5.0, total_steps=5, pct_start=0.6, div_factor=5, anneal_strategy="linear"
    ... )
    >>> for step in range(5):
    ...     optimizer.step()
    ...     print(step, round(scheduler.get_last_lr()[0], 4), round(optimizer.param_groups[0]["momentum"], 2))
    ...     scheduler.step()
    0 1.0 0.95
    1 3.0 0.9
    2 5.0 0.85
    3 2.5 0.9
    4 0.0001 0.95
    """

    def __init__(
        self,
        optimizer,
        max_lr,
        total_steps=None,
        epochs=None,
        steps_per_epoch=None,
        pct_start=0.3,
        anneal_strategy="cos",
        cycle_momentum=True,
        base_momentum=0.85,
        max_momentum=0.95,
        div_factor=25.0,
        final_div_factor=1e4,
        three_phase=False,
        last_epoch=-1,
    ):
        check_optimizer(optimizer)
        if total_steps is not None:
            self.total_steps = positive("total_steps", total_steps)
        elif epochs is not None and steps_per_epoch is not None:
            self.total_steps = positive("epochs", epochs) * positive("steps_per_epoch", steps_per_epoch)
        else:
            raise ValueError("You must define either total_steps OR (epochs AND steps_per_epoch)")
        if not isinstance(pct_start, float) or pct_start < 0 or pct_start > 1:
            raise ValueError(f"Expected float between 0 and 1 pct_start, but got {pct_start}")
        if anneal_strategy not in ANNEALING:
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        ends = [pct_start * self.total_steps - 1, self.total_steps - 1]
        if three_phase:
            ends.insert(1, 2 * pct_start * self.total_steps - 2)
        lrs, momenta = THREE_PHASES if three_phase else TWO_PHASES
        self._schedule_phases = [
            {
                "end_step": end,
                "start_lr": lrs[i],
                "end_lr": lrs[i + 1],
                "start_momentum": momenta[i],
                "end_momentum": momenta[i + 1],
            }
            for i, end in enumerate(ends)
        ]
        self._anneal_func_type = anneal_strategy
        max_lrs = per_group("max_lr", optimizer, max_lr)
        self._start_momentum(optimizer, cycle_momentum, base_momentum, max_momentum, last_epoch)
        if last_epoch == -1:  # everything is checked: a schedule that is refused changes no group
            for group, lr in zip(optimizer.param_groups, max_lrs):
                group["initial_lr"], group["max_lr"] = lr / div_factor, lr
                group["min_lr"] = group["initial_lr"] / final_div_factor
        super().__init__(optimizer, last_epoch)

    def get_lr(self):
        """The learning rates; sets momentum as well. ValueError after ``total_steps``."""
        warn_outside_step(self)
        step, start = self.last_epoch, 0.0
        if step > self.total_steps:
            raise ValueError(f"Tried to step {step} times. The specified number of total steps is {self.total_steps}")
        for phase in self._schedule_phases:
            end = phase["end_step"]
            if step <= end or phase is self._schedule_phases[-1]:
                break
            start = end
        if start == end:
            raise ZeroDivisionError(f"a phase of OneCycleLR has no steps: it starts and ends at step {start}")
        anneal, part = ANNEALING[self._anneal_func_type], (step - start) / (end - start)
        groups = self.optimizer.param_groups
        if self.cycle_momentum:
            for group in groups:
                self._set_momentum(group, anneal(group[phase["start_momentum"]], group[phase["end_momentum"]], part))
        return [anneal(group[phase["start_lr"]], group[phase["end_lr"]], part) for group in groups]


def positive(name, value):
    if not isinstance(value, int) or value <= 0:
        raise ValueError(f"Expected positive integer {name}, but got {value}")
    return value
