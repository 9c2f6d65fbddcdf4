"""Muon: momentum, orthogonalised, for the matrices of hidden layers."""

from math import sqrt

from .._engine import Kernel
from .._gradmode import no_grad
from ..ops._gemm import gemm, gemm_into
from ..ops._multi import update
from ..ops.arithmetic import lerp
from .optimizer import Optimizer, buffer_like, one_element

_KERNEL = Kernel("optimizers.muon", 0.3)


class Muon(Optimizer):
    """Muon: the step is the momentum matrix with its singular values brought near 1.

    b = momentum b + (1 - momentum) g; u = b, or with ``nesterov`` (1 - momentum) g + momentum b; p *= 1 - lr
    weight_decay; p -= lr' NS(u). NS divides u by max(|u|, eps) (Frobenius norm) and repeats x = a x + (b s + c s s) x
    with s = x x^T, ``ns_steps`` times, (a, b, c) being the ``ns_coefficients``: a Newton-Schulz iteration. For a
    parameter of shape (A, B) lr' is lr sqrt(max(1, A / B)), or with ``adjust_lr_fn="match_rms_adamw"`` 0.2 lr
    sqrt(max(A, B)). Parameters must have two dimensions (ValueError); biases and the like need another optimizer.
    State: ``momentum_buffer``. The iteration runs in the parameter's dtype, where PyTorch rounds to bfloat16: steps
    agree with PyTorch's to about two digits, and with what PyTorch's would be in full precision to all.
    Source: Jordan et al., Muon: an optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is scalable
    for LLM training, 2025 (``match_rms_adamw``).

    >>> import minigrad as mg
    >>> w = mg.zeros(2, 2, requires_grad=True)
    >>> optimizer = mg.optim.Muon([w], lr=0.1)
    >>> (w * mg.tensor([[3.0, 0.0], [0.0, -3.0]])).sum().backward()
    >>> optimizer.step()
    >>> w.detach().sign()
    tensor([[-1.,  0.],
            [ 0.,  1.]])
    """

    _buffers = ("momentum_buffer",)
    _at_once = False  # reads the momentum that it has just written

    def __init__(
        self,
        params,
        lr=1e-3,
        weight_decay=0.1,
        momentum=0.95,
        nesterov=True,
        ns_coefficients=(3.4445, -4.7750, 2.0315),
        eps=1e-7,
        ns_steps=5,
        adjust_lr_fn=None,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "weight_decay": weight_decay,
                "momentum": momentum,
                "nesterov": nesterov,
                "ns_coefficients": ns_coefficients,
                "eps": eps,
                "ns_steps": ns_steps,
                "adjust_lr_fn": adjust_lr_fn,
            },
        )

    def _check_group(self, group):
        one_element(lr=group["lr"])
        for name, label in (("lr", "Learning rate"), ("momentum", "momentum"), ("weight_decay", "weight decay")):
            if not group[name] >= 0:
                raise ValueError(f"{label} should be >= 0 but is: {group[name]}")
        if group["adjust_lr_fn"] not in (None, "original", "match_rms_adamw"):
            raise ValueError(f"Adjust learning rate function {group['adjust_lr_fn']} is not supported")
        for p in group["params"]:
            if p.ndim != 2:
                raise ValueError(f"Muon only supports 2D parameters whereas we found a parameter with size: {p.shape}")

    @no_grad()
    def _update(self, group):
        if group["ns_steps"] >= 100:
            raise ValueError("Number of steps must be less than 100 for computational efficiency")
        if len(group["ns_coefficients"]) != 3:
            raise ValueError("Coefficients must be a tuple of exactly 3 values")
        lr, momentum = float(group["lr"]), group["momentum"]
        update(
            _KERNEL,
            group["params"],
            self.state,
            ("momentum_buffer",),
            (),
            (momentum, lr * group["weight_decay"]),
            init=_new_state,
            fresh="momentum_buffer",
        )
        for p in group["params"]:
            if p.grad is None:
                continue
            b = self.state[p]["momentum_buffer"]
            u = lerp(p.grad.detach(), b, momentum) if group["nesterov"] else b
            u = _orthogonal(u, group["ns_coefficients"], group["ns_steps"], group["eps"])
            p.add_(u, alpha=-lr * _ratio(group["adjust_lr_fn"], *p.shape))


def _new_state(p, state):
    state["momentum_buffer"] = buffer_like(p)


def _orthogonal(x, coefficients, steps, eps):
    """About U V^T where x = U S V^T, (A, B)."""
    a, b, c = coefficients
    tall = x.shape[0] > x.shape[1]
    x = x.t() if tall else x  # the smaller product
    x = x / x.norm().clamp(min=eps)  # so that no singular value is above 1
    for _ in range(steps):
        s = gemm(x, x, False, True)
        s = gemm_into(s.clone(), s, s, alpha=c, beta=b)
        x = gemm_into(x.clone(), s, x, alpha=1.0, beta=a)
    return x.t() if tall else x


def _ratio(rule, rows, columns):
    """What the learning rate of a matrix is multiplied with."""
    if rule == "match_rms_adamw":
        return 0.2 * sqrt(max(rows, columns))
    return sqrt(max(1, rows / columns)) if columns else 1.0
