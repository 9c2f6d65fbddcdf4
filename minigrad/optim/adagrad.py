"""Adagrad."""

from .._engine import Kernel, filled
from .._storage import float32
from ..ops._multi import update
from .optimizer import Optimizer, buffer_like, check_fused, nonnegative, refuse

_KERNEL = Kernel("optimizers.adagrad", 0.4)


class Adagrad(Optimizer):
    """Adagrad: steps divided by the root of the sum of all squared gradients.

    total += g^2; p -= lr / (1 + (t - 1) lr_decay) g / (sqrt(total) + eps); g includes weight_decay p; total starts with
    ``initial_accumulator_value``. ``maximize`` ascends. ``foreach`` and ``fused`` are accepted: every step is one fused
    call. State, made at once and not in the first step, as PyTorch does: ``step``, ``sum``.
    ValueError for negative values.
    Source: Duchi, Hazan and Singer, Adaptive subgradient methods, JMLR 12, 2011.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.Adagrad([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("sum",)
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1e-2,
        lr_decay=0,
        weight_decay=0,
        initial_accumulator_value=0,
        eps=1e-10,
        foreach=None,
        *,
        maximize=False,
        differentiable=False,
        fused=None,
    ):
        refuse(differentiable=differentiable)
        check_fused(foreach, fused)
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "fused": fused,
        }  # fmt: skip
        super().__init__(params, defaults)
        for group in self.param_groups:
            for p in group["params"]:
                self._new_state(p, self.state[p])

    def _check_group(self, group):
        nonnegative(**{k: group[k] for k in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps")})

    def _new_state(self, p, state):
        state["step"] = filled((), 0, float32)
        state["sum"] = buffer_like(p, self.defaults["initial_accumulator_value"])

    def _update(self, group):
        lr, lr_decay = float(group["lr"]), group["lr_decay"]
        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["maximize"],),
            (group["eps"], group["weight_decay"], 1.0),
            columns=1,
            row=lambda step: (lr / (1 + (step - 1) * lr_decay),),
            init=self._new_state,
        )
