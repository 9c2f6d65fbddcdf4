"""Resilient backpropagation."""

from .._engine import Kernel, filled
from .._storage import float32
from ..ops._multi import update
from .optimizer import Optimizer, buffer_like, nonnegative, refuse

_KERNEL = Kernel("optimizers.rprop", 0.4)


class Rprop(Optimizer):
    """Resilient backpropagation: each element has a step size of its own, and only the gradient's sign counts.

    A step size grows by ``etas[1]`` where the gradient keeps its sign and shrinks by ``etas[0]`` where it flips (g = 0
    there, for once), within ``step_sizes``; it starts as ``lr``. p -= sign(g) size. For full batches.
    ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``prev`` (the last gradient), ``step_size``.
    ValueError for negative lr, and unless 0 < etas[0] < 1 < etas[1].
    Source: Riedmiller and Braun, The RPROP algorithm, ICNN 1993; Igel and Huesken, 2000 (iRprop-).

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.Rprop([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("prev", "step_size")
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1e-2,
        etas=(0.5, 1.2),
        step_sizes=(1e-6, 50),
        *,
        capturable=False,
        foreach=None,
        maximize=False,
        differentiable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "etas": etas, "step_sizes": step_sizes, "foreach": foreach, "maximize": maximize,
            "differentiable": differentiable, "capturable": capturable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(lr=group["lr"])
        (less, more), sizes = group["etas"], group["step_sizes"]
        if len(sizes) != 2:
            raise ValueError(f"Invalid step sizes: {sizes}: two numbers are needed")
        if not 0 < less < 1 < more:
            raise ValueError(f"Invalid eta values: {less}, {more}")

    def _update(self, group):
        lr, (less, more), (smallest, largest) = float(group["lr"]), group["etas"], group["step_sizes"]

        def init(p, state):
            state["step"] = filled((), 0, float32)
            state["prev"], state["step_size"] = buffer_like(p), buffer_like(p, lr)

        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (group["maximize"],),
            (less, more, smallest, largest, 1.0),
            row=lambda step: (),  # steps are counted, though no number depends on them
            init=init,
        )
