"""Averaged stochastic gradient descent."""

from .._engine import Kernel, filled
from .._storage import float32
from ..ops._multi import update
from .optimizer import Optimizer, buffer_like, nonnegative, refuse

_KERNEL = Kernel("optimizers.asgd", 0.4)


class ASGD(Optimizer):
    """Stochastic gradient descent that averages its parameters from step ``t0`` on.

    p = (1 - lambd eta) p - eta g; ax += mu (p - ax); then eta = lr / (1 + lambd lr t)^alpha and mu = 1 / max(1, t - t0)
    for the next step, so a new ``lr`` counts one step later; g includes weight_decay p.
    ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``eta`` and ``mu`` (float32), ``ax``: the average. Loaded ``eta`` and ``mu`` stay float32, where
    PyTorch casts them to the parameter's dtype, so that resuming changes no bit.
    ValueError for negative lr and weight_decay.
    Source: Polyak and Juditsky, Acceleration of stochastic approximation by averaging, 1992.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.ASGD([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("ax",)
    _counters = ("step", "eta", "mu")

    def __init__(
        self,
        params,
        lr=1e-2,
        lambd=1e-4,
        alpha=0.75,
        t0=1e6,
        weight_decay=0,
        foreach=None,
        maximize=False,
        differentiable=False,
        capturable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "lambd": lambd, "alpha": alpha, "t0": t0, "weight_decay": weight_decay, "foreach": foreach,
            "maximize": maximize, "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(lr=group["lr"], weight_decay=group["weight_decay"])

    def _update(self, group):
        lr, lambd, alpha, t0 = float(group["lr"]), group["lambd"], group["alpha"], group["t0"]

        def row(step, eta, mu):
            return eta, mu, lr / (1 + lambd * lr * step) ** alpha, 1 / max(1, step - t0)

        def init(p, state):
            state["step"], state["eta"], state["mu"] = (filled((), x, float32) for x in (0, lr, 1))
            state["ax"] = buffer_like(p)

        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["maximize"],),
            (lambd, group["weight_decay"], 1.0),
            columns=2,
            row=row,
            init=init,
            counters=self._counters,
        )
