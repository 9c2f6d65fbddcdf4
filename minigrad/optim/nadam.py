"""NAdam."""

from ctypes import c_float

from .._engine import Kernel, filled
from .._storage import float32
from ..ops._multi import update
from .optimizer import Optimizer, buffer_like, check_betas, nonnegative, refuse

_KERNEL = Kernel("optimizers.nadam", 0.5)


class NAdam(Optimizer):
    """NAdam: Adam with Nesterov's momentum.

    m, v as in Adam; mu_t = b1 (1 - 0.96^(t momentum_decay) / 2), P_t = mu_1 ... mu_t;
    p -= lr ((1 - mu_t) / (1 - P_t) g + mu_t+1 / (1 - P_t mu_t+1) m) / (sqrt(v / (1 - b2^t)) + eps).
    ``weight_decay`` adds an L2 term to the gradient, or with ``decoupled_weight_decay`` shrinks the parameter as AdamW
    does. ``maximize`` ascends. ``foreach`` is accepted: every step is one fused call.
    State: ``step``, ``mu_product`` (P, float32), ``exp_avg`` (m), ``exp_avg_sq`` (v). A loaded ``mu_product`` stays
    float32, where PyTorch casts it to the parameter's dtype, so that resuming changes no bit.
    ValueError for negative values and betas outside [0, 1).
    Source: Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.NAdam([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.8944], requires_grad=True)
    """

    _buffers = ("exp_avg", "exp_avg_sq")
    _counters = ("step", "mu_product")

    def __init__(
        self,
        params,
        lr=2e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        momentum_decay=4e-3,
        decoupled_weight_decay=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
    ):
        refuse(capturable, differentiable)
        defaults = {
            "lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay, "momentum_decay": momentum_decay,
            "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize, "foreach": foreach,
            "capturable": capturable, "differentiable": differentiable,
        }  # fmt: skip
        super().__init__(params, defaults)

    def _check_group(self, group):
        nonnegative(lr=group["lr"], eps=group["eps"])
        check_betas(group["betas"])
        nonnegative(weight_decay=group["weight_decay"], momentum_decay=group["momentum_decay"])

    def _update(self, group):
        lr, (beta1, beta2), decay = float(group["lr"]), group["betas"], group["momentum_decay"]

        def row(step, product):
            mu, ahead = (beta1 * (1 - 0.5 * 0.96 ** (t * decay)) for t in (step, step + 1))
            product = c_float(product * c_float(mu).value).value  # as PyTorch's float32 state
            return 1 - beta2**step, lr * (1 - mu) / (1 - product), lr * ahead / (1 - product * ahead), product

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
            counters=self._counters,
        )


def _new_state(p, state):
    state["step"] = filled((), 0, float32)
    state["mu_product"] = filled((), 1, float32)
    state["exp_avg"], state["exp_avg_sq"] = buffer_like(p), buffer_like(p)
