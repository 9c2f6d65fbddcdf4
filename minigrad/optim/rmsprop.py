"""RMSprop."""

from .._engine import Kernel, filled
from .._storage import float32
from ..ops._multi import update
from .optimizer import Optimizer, buffer_like, nonnegative, refuse

_KERNEL = Kernel("optimizers.rmsprop", 0.4)


class RMSprop(Optimizer):
    """RMSprop: steps divided by the root of a running mean of the squared gradient.

    v = alpha v + (1 - alpha) g^2; b = momentum b + g / (sqrt(v) + eps); p -= lr b; g includes weight_decay p.
    ``centered`` subtracts the square of g's running mean from v under the root; as in PyTorch, the difference may round
    below 0 where a gradient stays constant, and the parameter is nan then.
    ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``square_avg``; with momentum ``momentum_buffer``; centered: ``grad_avg``.
    ValueError for negative values.
    Source: Tieleman and Hinton, Lecture 6.5, Coursera, 2012; Graves, Generating sequences, 2013 (centered).

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.RMSprop([w], lr=0.01)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("square_avg", "momentum_buffer", "grad_avg")
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1e-2,
        alpha=0.99,
        eps=1e-8,
        weight_decay=0,
        momentum=0,
        centered=False,
        capturable=False,
        foreach=None,
        maximize=False,
        differentiable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "capturable": capturable, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(**{k: group[k] for k in ("lr", "eps", "momentum", "weight_decay", "alpha")})

    def _state_names(self, group):
        momentum = "momentum_buffer" if group["momentum"] > 0 else None
        return "square_avg", momentum, "grad_avg" if group["centered"] else None

    def _update(self, group):
        names = self._state_names(group)

        def init(p, state):
            state["step"] = filled((), 0, float32)
            for name in names:
                if name is not None:
                    state[name] = buffer_like(p)

        update(
            _KERNEL,
            group["params"],
            self.state,
            names,
            (group["centered"], group["maximize"]),
            (float(group["lr"]), group["alpha"], group["eps"], group["weight_decay"], group["momentum"], 1.0),
            row=lambda step: (),  # steps are counted, though no number depends on them
            init=init,
        )
