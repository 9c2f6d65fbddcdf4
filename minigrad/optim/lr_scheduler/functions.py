"""Schedules given by a function of the epoch."""

from types import FunctionType

from .base import LRScheduler, check_optimizer, group_values, warn_outside_step


def saved_function(function):
    """What a state dict keeps of a callable: an object's attributes, and None for a function or lambda."""
    return None if isinstance(function, FunctionType) or not hasattr(function, "__dict__") else vars(function).copy()


class Calling(LRScheduler):
    """``lr_lambdas``: one function of the epoch a group."""

    def __init__(self, optimizer, lr_lambda, last_epoch=-1):
        n = len(check_optimizer(optimizer).param_groups)
        if not isinstance(lr_lambda, (list, tuple)):
            lr_lambda = [lr_lambda] * n
        elif len(lr_lambda) != n:
            raise ValueError(f"Expected {n} lr_lambdas, but got {len(lr_lambda)}")
        for function in lr_lambda:
            if not callable(function):
                raise TypeError(f"lr_lambda should be a function, but got {type(function).__name__}")
        self.lr_lambdas = list(lr_lambda)
        super().__init__(optimizer, last_epoch)

    def state_dict(self):
        """All attributes but the optimizer; of the functions only the attributes of callable objects."""
        state = super().state_dict()
        del state["lr_lambdas"]
        return {**state, "lr_lambdas": [saved_function(f) for f in self.lr_lambdas]}

    def load_state_dict(self, state_dict):
        """Take over what ``state_dict`` returned; functions stay those of this scheduler, objects get attributes."""
        super().load_state_dict({key: value for key, value in state_dict.items() if key != "lr_lambdas"})
        for function, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if saved is not None:
                vars(function).update(saved)


class LambdaLR(Calling):
    """The initial learning rate times ``lr_lambda(epoch)``; a list gives each group its own function.

    State dicts hold no functions, only the attributes of callable objects.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1 / (1 + epoch))
    >>> for epoch in range(2):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [4.0]
    """

    def get_lr(self):
        warn_outside_step(self)
        return [lr * function(self.last_epoch) for function, lr in zip(self.lr_lambdas, self.base_lrs)]


class MultiplicativeLR(Calling):
    """The learning rate times ``lr_lambda(epoch)`` every epoch after the first; a list: a function a group.

    State dicts hold no functions, only the attributes of callable objects.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=8.0)
    >>> scheduler = mg.optim.lr_scheduler.MultiplicativeLR(optimizer, lambda epoch: 0.5)
    >>> for epoch in range(3):
    ...     optimizer.step()
    ...     print(epoch, scheduler.get_last_lr())
    ...     scheduler.step()
    0 [8.0]
    1 [4.0]
    2 [2.0]
    """

    def get_lr(self):
        warn_outside_step(self)
        if self._is_initial:
            return group_values(self.optimizer, "lr")
        return [
            g["lr"] * function(self.last_epoch) for function, g in zip(self.lr_lambdas, self.optimizer.param_groups)
        ]
