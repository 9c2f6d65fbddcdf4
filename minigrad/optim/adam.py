"""Adam and AdamW."""

from math import sqrt

from .._engine import Kernel, Tensor
from ..ops._multi import update
from .optimizer import Optimizer, check_betas, check_fused, nonnegative, refuse, zero_state

_KERNEL = Kernel("optimizers.adam", 0.4)
_new_state = zero_state("exp_avg", "exp_avg_sq")
_new_amsgrad_state = zero_state("exp_avg", "exp_avg_sq", "max_exp_avg_sq")


class Adam(Optimizer):
    """Adam: steps scaled by running means of the gradient and of its square.

    m = b1 m + (1 - b1) g; v = b2 v + (1 - b2) g^2; p -= lr m / (1 - b1^t) / (sqrt(v / (1 - b2^t)) + eps).
    ``weight_decay`` adds an L2 term to the gradient, or with ``decoupled_weight_decay`` shrinks the parameter as AdamW
    does. ``amsgrad`` uses the largest v so far; ``maximize`` ascends. ``foreach`` and ``fused`` are accepted: every
    step is one fused call. State: ``step`` (float32, 0-d), ``exp_avg``, ``exp_avg_sq``; amsgrad: ``max_exp_avg_sq``.
    Source: Kingma and Ba, Adam, ICLR 2015; Reddi et al., On the convergence of Adam and beyond, ICLR 2018.

    >>> import minigrad as mg
    >>> w = mg.tensor([1.0], requires_grad=True)
    >>> optimizer = mg.optim.Adam([w], lr=0.1)
    >>> (w * 1.0).sum().backward()
    >>> optimizer.step()
    >>> w
    tensor([0.9000], requires_grad=True)
    """

    _buffers = ("exp_avg", "exp_avg_sq", "max_exp_avg_sq")
    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0,
        amsgrad=False,
        *,
        foreach=None,
        maximize=False,
        capturable=False,
        differentiable=False,
        fused=None,
        decoupled_weight_decay=False,
    ):
        refuse(capturable, differentiable)
        check_fused(foreach, fused)
        if isinstance(lr, Tensor) and foreach:
            raise ValueError("lr as a Tensor is not supported for capturable=False and foreach=True")
        super().__init__(
            params,
            {
                "lr": lr,
                "betas": betas,
                "eps": eps,
                "weight_decay": weight_decay,
                "amsgrad": amsgrad,
                "maximize": maximize,
                "foreach": foreach,
                "capturable": capturable,
                "differentiable": differentiable,
                "fused": fused,
                "decoupled_weight_decay": decoupled_weight_decay,
            },
        )

    def _check_group(self, group):
        nonnegative(lr=group["lr"], eps=group["eps"], weight_decay=group["weight_decay"])
        check_betas(group["betas"])

    def _state_names(self, group):
        return "exp_avg", "exp_avg_sq", "max_exp_avg_sq" if group["amsgrad"] else None

    def _update(self, group):
        lr, (beta1, beta2), amsgrad = float(group["lr"]), group["betas"], group["amsgrad"]

        def row(step):
            return lr / (1 - beta1**step), sqrt(1 - beta2**step)

        update(
            _KERNEL,
            group["params"],
            self.state,
            self._state_names(group),
            (amsgrad, group["decoupled_weight_decay"], group["maximize"]),
            (lr, beta1, beta2, group["eps"], group["weight_decay"], 1.0),
            columns=2,
            row=row,
            init=_new_amsgrad_state if amsgrad else _new_state,
        )


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameters by ``lr * weight_decay`` instead of entering the gradient.

    Source: Loshchilov and Hutter, Decoupled weight decay regularization, ICLR 2019. Otherwise as ``Adam``.
    """

    def __init__(
        self,
        params,
        lr=1e-3,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=1e-2,
        amsgrad=False,
        *,
        maximize=False,
        foreach=None,
        capturable=False,
        differentiable=False,
        fused=None,
    ):
        super().__init__(
            params,
            lr,
            betas,
            eps,
            weight_decay,
            amsgrad,
            foreach=foreach,
            maximize=maximize,
            capturable=capturable,
            differentiable=differentiable,
            fused=fused,
            decoupled_weight_decay=True,
        )
