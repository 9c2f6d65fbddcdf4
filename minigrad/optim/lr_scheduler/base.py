"""The base of all schedules: what a step does, resuming, state, warnings."""

from functools import wraps
from weakref import ref

from ..._engine import Tensor
from ...ops._warn import warn_user
from ..optimizer import Optimizer

EPOCH_DEPRECATION_WARNING = (
    "The epoch parameter in `scheduler.step()` was not necessary and is being deprecated where possible. Please use "
    "`scheduler.step()` to step the scheduler. During the deprecation, if epoch is different from None, the closed "
    "form is used instead of the new chainable form, where available."
)
OVERRIDDEN_WARNING = (
    "Seems like `optimizer.step()` has been overridden after learning rate scheduler initialization. Please, make sure "
    "to call `optimizer.step()` before `lr_scheduler.step()`."
)
ORDER_WARNING = (
    "Detected call of `lr_scheduler.step()` before `optimizer.step()`. You should call them in the opposite order: "
    "`optimizer.step()` before `lr_scheduler.step()`.  Failure to do this will result in skipping the first value of "
    "the learning rate schedule."
)


class LRScheduler:
    """Base class of the schedules, which set ``lr`` in an optimizer's groups; subclasses implement ``get_lr()``.

    Construction is the first step (to epoch 0) and notes each group's ``initial_lr``, from which ``base_lrs`` come.
    With ``last_epoch`` other than -1 it resumes and computes the epoch after it; KeyError without ``initial_lr``.
    Call ``step()`` after ``optimizer.step()``, else there is a UserWarning. A learning rate that is a Tensor is
    changed in place. The scheduler keeps the optimizer alive, not the other way round.

    >>> import minigrad as mg
    >>> class Halve(mg.optim.lr_scheduler.LRScheduler):
    ...     def get_lr(self):
    ...         return [lr / 2**self.last_epoch for lr in self.base_lrs]
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=0.5)
    >>> scheduler = Halve(optimizer)
    >>> optimizer.step()
    >>> scheduler.step()
    >>> scheduler.get_last_lr()
    [0.25]
    """

    _get_lr_called_within_step = False
    _is_initial = False

    def __init__(self, optimizer, last_epoch=-1):
        self.optimizer = check_optimizer(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", copied(group["lr"]))
            elif "initial_lr" not in group:
                raise KeyError(
                    f"param 'initial_lr' is not specified in param_groups[{i}] when resuming scheduler with last_epoch "
                    ">= 0; load the optimizer's state before, or start with last_epoch=-1"
                )
        self.base_lrs = group_values(optimizer, "initial_lr")
        self.last_epoch = last_epoch
        _watch(optimizer)
        self._initial_step()

    def _initial_step(self):
        self._step_count = 0
        self._is_initial = True
        try:
            self.step()
        finally:
            self._is_initial = False

    def get_lr(self):
        """The learning rates of epoch ``last_epoch``, one a group; called by ``step``. See ``get_last_lr``."""
        raise NotImplementedError(f"{type(self).__name__} does not implement get_lr()")

    def get_last_lr(self):
        """The learning rates that were set last, one a group; Tensors are copies."""
        return self._last_lr

    def step(self, epoch=None):
        """Go to the next epoch. ``epoch`` (deprecated) goes to that one, by the closed form where there is one."""
        if self._step_count == 1:  # not later: one warning is enough
            if not hasattr(self.optimizer.step, "_wrapped_by_lr_sched"):
                warn_user(OVERRIDDEN_WARNING)
            elif not getattr(self.optimizer, "_opt_called", False):
                warn_user(ORDER_WARNING)
        self._step_count += 1
        if epoch is not None:
            warn_user(EPOCH_DEPRECATION_WARNING)
        self._update_lr(epoch)

    def _update_lr(self, epoch=None):
        self.last_epoch = self.last_epoch + 1 if epoch is None else epoch
        self._assign(self.get_lr if epoch is None else getattr(self, "_get_closed_form_lr", self.get_lr))

    def _assign(self, form):
        """Set the learning rates to those that ``form()`` returns."""
        self._get_lr_called_within_step = True
        try:
            values = list(form())
        finally:
            self._get_lr_called_within_step = False
        groups = self.optimizer.param_groups
        if len(values) != len(groups):
            raise ValueError(
                f"{type(self).__name__} has learning rates for {len(values)} parameter groups, the optimizer has "
                f"{len(groups)}; add groups before the scheduler is created"
            )
        for group, lr in zip(groups, values):
            set_value(group, "lr", lr)
        self._last_lr = group_values(self.optimizer, "lr")

    def state_dict(self):
        """All attributes except the optimizer; the dict is new, its values are not copies."""
        return {key: value for key, value in self.__dict__.items() if key != "optimizer"}

    def load_state_dict(self, state_dict):
        """Take over what ``state_dict`` returned; the optimizer's state is to be loaded too, by the optimizer."""
        self.__dict__.update(state_dict)

    def __setstate__(self, state):
        self.__dict__.update(state)
        _watch(self.optimizer)  # a copy of the optimizer is not watched yet


class _LRScheduler(LRScheduler):
    """The old name."""


def check_optimizer(optimizer):
    if not isinstance(optimizer, Optimizer):
        raise TypeError(f"{type(optimizer).__name__} is not an Optimizer")
    return optimizer


def _watch(optimizer):
    """Let ``optimizer.step`` note in ``_opt_called`` that it has been called."""
    step, owner = optimizer.step, ref(optimizer)  # weak, because the optimizer holds what is made here
    if hasattr(step, "_wrapped_by_lr_sched"):
        return
    is_method = getattr(step, "__self__", None) is optimizer
    bind = step.__func__.__get__ if is_method else lambda _: step  # somebody's function in place of the method

    @wraps(step.__func__ if is_method else step)
    def noted(*args, **kwargs):
        optimizer = owner()
        if optimizer is None:
            raise ReferenceError("the optimizer of this step() no longer exists")
        optimizer._opt_called = True
        return bind(optimizer)(*args, **kwargs)

    noted._wrapped_by_lr_sched = True
    optimizer.step = noted


# --- values of groups: numbers or Tensors, which are never shared -----------------------------------------------------


def copied(value):
    return value.clone() if isinstance(value, Tensor) else value


def group_values(optimizer, key):
    """``group[key]`` of each group; Tensors are copied."""
    return [copied(group[key]) for group in optimizer.param_groups]


def set_value(group, key, value):
    """Set ``group[key]``; a Tensor there is filled in place."""
    if isinstance(group[key], Tensor):
        group[key].fill_(value.reshape(()) if isinstance(value, Tensor) and value.ndim else value)
    else:
        group[key] = value


def per_group(name, optimizer, value):
    """``value`` as a list with one entry a group; ValueError for a list or tuple of another length."""
    n = len(optimizer.param_groups)
    if not isinstance(value, (list, tuple)):
        value = [value] * n
    elif len(value) != n:
        raise ValueError(
            f"{name} must have the same length as optimizer.param_groups. {name} has {len(value)} values, param_groups "
            f"has {n}."
        )
    return [copied(v) for v in value]


def warn_outside_step(scheduler):
    """The first line of every ``get_lr``."""
    if not scheduler._get_lr_called_within_step:
        warn_user("To get the last learning rate computed by the scheduler, please use `get_last_lr()`.")
