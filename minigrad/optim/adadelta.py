"""Adadelta."""

from .._engine import Kernel
from ..ops._multi import update
from .optimizer import Optimizer, nonnegative, refuse, zero_state

_KERNEL = Kernel("optimizers.adadelta", 0.6)
_new_state = zero_state("square_avg", "acc_delta")


class Adadelta(Optimizer):
    """Adadelta: steps whose size is the ratio of running means of past steps and of the gradient.

    v = rho v + (1 - rho) g^2; x = sqrt(u + eps) / sqrt(v + eps) g; u = rho u + (1 - rho) x^2; p -= lr x; g includes
    weight_decay p. ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``square_avg`` (v), ``acc_delta`` (u). ValueError for negative values and rho above 1.
    Source: Zeiler, ADADELTA: an adaptive learning rate method, 2012.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.Adadelta([w])
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9968], requires_grad=True)
    """

    _buffers = ("square_avg", "acc_delta")
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1.0,
        rho=0.9,
        eps=1e-6,
        weight_decay=0,
        foreach=None,
        *,
        capturable=False,
        maximize=False,
        differentiable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "capturable": capturable, "foreach": foreach, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(lr=group["lr"])
        if not 0 <= group["rho"] <= 1:
            raise ValueError(f"Invalid rho value: {group['rho']}")
        nonnegative(eps=group["eps"], weight_decay=group["weight_decay"])

    def _update(self, group):
        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["maximize"],),
            (float(group["lr"]), group["rho"], group["eps"], group["weight_decay"], 1.0),
            row=lambda step: (),  # steps are counted, though no number depends on them
            init=_new_state,
        )
