"""RAdam."""

from math import sqrt

from .._engine import Kernel
from ..ops._multi import update
from .optimizer import Optimizer, check_betas, nonnegative, refuse, zero_state

_KERNEL = Kernel("optimizers.radam", 0.5)
_new_state = zero_state("exp_avg", "exp_avg_sq")


class RAdam(Optimizer):
    """RAdam: Adam that takes steps of plain momentum until the variance of its scaling is known well enough.

    m, v as in Adam; rho = 2 / (1 - b2) - 1, rho_t = rho - 2 t b2^t / (1 - b2^t); p -= lr m / (1 - b1^t) s, where s = 1
    for rho_t <= 5, else r sqrt(1 - b2^t) / (sqrt(v) + eps) with
    r^2 = (rho_t - 4) (rho_t - 2) rho / ((rho - 4) (rho - 2) rho_t).
    ``weight_decay`` adds an L2 term to the gradient, or with ``decoupled_weight_decay`` shrinks the parameter as AdamW
    does. ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``exp_avg`` (m), ``exp_avg_sq`` (v). ValueError for negative values and betas outside [0, 1).
    Source: Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.RAdam([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("exp_avg", "exp_avg_sq")
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        decoupled_weight_decay=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "maximize": maximize,
            "foreach": foreach, "capturable": capturable, "decoupled_weight_decay": decoupled_weight_decay,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(lr=group["lr"], eps=group["eps"])
        check_betas(group["betas"])
        nonnegative(weight_decay=group["weight_decay"])

    def _update(self, group):
        lr, (beta1, beta2) = float(group["lr"]), group["betas"]

        def row(step):
            left, rho = 1 - beta2**step, 2 / (1 - beta2) - 1
            r = rho - 2 * step * beta2**step / left
            rectify = sqrt((r - 4) * (r - 2) * rho / ((rho - 4) * (rho - 2) * r)) if r > 5 else 0
            return 1 - beta1**step, sqrt(left), rectify

        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["decoupled_weight_decay"], group["maximize"]),
            (lr, beta1, beta2, group["eps"], group["weight_decay"], 1.0),
            columns=3,
            row=row,
            init=_new_state,
        )
