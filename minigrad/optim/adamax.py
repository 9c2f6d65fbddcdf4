"""Adamax."""

from .._engine import Kernel
from ..ops._multi import update
from .optimizer import Optimizer, check_betas, nonnegative, refuse, zero_state

_KERNEL = Kernel("optimizers.adamax", 0.4)
_new_state = zero_state("exp_avg", "exp_inf")


class Adamax(Optimizer):
    """Adamax: Adam with a decaying maximum of the gradient's size in place of the root of its mean square.

    m = b1 m + (1 - b1) g; u = max(b2 u, abs(g) + eps); p -= lr / (1 - b1^t) m / u; g includes weight_decay p.
    ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``exp_avg`` (m), ``exp_inf`` (u). ValueError for negative values and betas outside [0, 1).
    Source: Kingma and Ba, Adam, ICLR 2015, section 7.1.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.Adamax([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("exp_avg", "exp_inf")
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=2e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        foreach=None,
        *,
        maximize=False,
        differentiable=False,
        capturable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(lr=group["lr"], eps=group["eps"])
        check_betas(group["betas"])
        nonnegative(weight_decay=group["weight_decay"])

    def _update(self, group):
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]
        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["maximize"],),
            (beta1, beta2, group["eps"], group["weight_decay"], 1.0),
            columns=1,
            row=lambda step: (lr / (1 - beta1**step),),
            init=_new_state,
        )
