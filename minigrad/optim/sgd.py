"""Stochastic gradient descent."""

from .._engine import Kernel
from ..ops._multi import update
from .optimizer import Optimizer, buffer_like, check_fused, nonnegative, refuse

_KERNEL = Kernel("optimizers.sgd", 0.3)


class SGD(Optimizer):
    """Stochastic gradient descent with momentum, weight decay (L2) and Nesterov's variant.

    b = momentum b + (1 - dampening) (g + weight_decay p), b = g at first; p -= lr b, or lr (g + momentum b) with
    ``nesterov``. ``maximize`` ascends. ``foreach`` and ``fused`` are accepted: every step is one fused call.
    ValueError for negative values, and for Nesterov without momentum or with dampening.
    Source: Sutskever et al., On the importance of initialization and momentum in deep learning, ICML 2013.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.SGD([w], lr=0.1, momentum=0.9)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("momentum_buffer",)

    def __init__(
        self,
        params,
        lr=1e-3,
        momentum=0,
        dampening=0,
        weight_decay=0,
        nesterov=False,
        *,
        maximize=False,
        foreach=None,
        differentiable=False,
        fused=None,
    ):
        refuse(differentiable=differentiable)
        check_fused(foreach, fused)
        super().__init__(
            params,
            {
                "lr": lr,
                "momentum": momentum,
                "dampening": dampening,
                "weight_decay": weight_decay,
                "nesterov": nesterov,
                "maximize": maximize,
                "foreach": foreach,
                "differentiable": differentiable,
                "fused": fused,
            },
        )

    def _check_group(self, group):
        nonnegative(True, lr=group["lr"], momentum=group["momentum"], weight_decay=group["weight_decay"])
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ValueError("Nesterov momentum requires a momentum and zero dampening")

    def _state_names(self, group):
        return ("momentum_buffer" if group["momentum"] else None,)

    def _needed(self, p, group):
        return []  # a momentum buffer that is missing is made

    def _update(self, group):
        momentum = group["momentum"]
        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["nesterov"], group["maximize"]),
            (float(group["lr"]), momentum, group["dampening"], group["weight_decay"], 1.0),
            columns=1,
            init=_new_buffer if momentum else None,
            fresh="momentum_buffer" if momentum else None,
        )


def _new_buffer(p, state):
    state["momentum_buffer"] = buffer_like(p)
