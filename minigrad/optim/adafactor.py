"""Adafactor: Adam's scaling with the second moments of a matrix kept as one row and one column."""

from .._engine import Kernel, filled
from .._storage import float32, float64
from ..ops._multi import factored
from .optimizer import Optimizer, one_element

_KERNEL = Kernel("factored.adafactor", 1.5)
_EPS = {float32: 2.0**-23, float64: 2.0**-52}


class Adafactor(Optimizer):
    """Adafactor: adaptive steps whose memory grows with rows plus columns, not with rows times columns.

    Per parameter at step t: w = t^beta2_decay; r = min(lr, 1 / sqrt(t)); p *= 1 - lr weight_decay. Of a gradient g of
    shape (..., N, M): row_var = (1 - w) row_var + w mean(g^2, -1), col_var likewise along -2, and
    v = row_var col_var / max(mean(row_var), eps1); of a vector v = variance = (1 - w) variance + w g^2.
    u = g / sqrt(max(v, eps1^2)); p -= max(eps2, rms(p)) r u / max(1, rms(u) / d), where rms(p) is taken before the
    decay. ``eps`` is (eps1, eps2), eps1 None: the machine epsilon of the dtype. ``maximize`` ascends; ``foreach`` is
    accepted: every step is one native call. ValueError for values out of range: d below 1, beta2_decay above 0, others
    below 0. State: ``step`` (float32, 0-d), ``row_var`` (..., N, 1), ``col_var`` (..., 1, M); of vectors ``variance``.
    Source: Shazeer and Stern, Adafactor: adaptive learning rates with sublinear memory cost, ICML 2018; lr and eps1 as
    in PyTorch.

    >>> import minigrad as mg
    >>> w = mg.ones(3, 2, requires_grad=True)
    >>> optimizer = mg.optim.Adafactor([w], lr=0.1)
    >>> (w * 4.0).sum().backward()
    >>> optimizer.step()
    >>> w[0].detach(), optimizer.state[w]["row_var"].shape
    (tensor([0.9000, 0.9000]), minigrad.Size([3, 1]))
    """

    _counters = ("step",)

    def __init__(
        self,
        params,
        lr=1e-2,
        beta2_decay=-0.8,
        eps=(None, 1e-3),
        d=1.0,
        weight_decay=0.0,
        *,
        foreach=None,
        maximize=False,
    ):
        super().__init__(
            params,
            {
                "lr": lr,
                "beta2_decay": beta2_decay,
                "eps": eps,
                "d": d,
                "weight_decay": weight_decay,
                "foreach": foreach,
                "maximize": maximize,
            },
        )

    def _check_group(self, group):
        one_element(lr=group["lr"])
        eps1, eps2 = group["eps"]
        for label, value in (
            ("Learning rate should be >= 0", group["lr"]),
            ("beta2_decay should be <= 0", -group["beta2_decay"]),
            ("epsilon1 should be >= 0", 0.0 if eps1 is None else eps1),
            ("epsilon2 should be >= 0", eps2),
            ("Clipping threshold d should be >= 1", group["d"] - 1),
            ("weight_decay should be >= 0", group["weight_decay"]),
        ):
            if not value >= 0:
                shown = {"b": -value, "C": group["d"]}.get(label[0], value)
                raise ValueError(f"{label} but is: {shown}")

    def _state_like(self, name, p):
        return _shapes(p).get(name, p.shape), p.dtype

    def _needed(self, p, group):
        return list(_shapes(p))

    def _update(self, group):
        lr, decay, (eps1, eps2) = float(group["lr"]), group["beta2_decay"], group["eps"]
        shrink = group["weight_decay"] and lr  # an infinite lr leaves the step 1 / sqrt(t), and must not decay
        factored(
            _KERNEL,
            group["params"],
            self.state,
            (group["maximize"],),
            {
                dtype: (shrink, eps if eps1 is None else eps1, eps2, group["d"], group["weight_decay"])
                for dtype, eps in _EPS.items()
            },
            row=lambda step: (step**decay, min(lr, 1 / step**0.5)),
            init=_new_state,
        )


def _new_state(p, state):
    for name, shape in _shapes(p).items():
        state[name] = filled((), 0, float32) if name == "step" else filled(shape, 0, p.dtype, like=p)


def _shapes(p):
    """The shape of each state of parameter ``p``."""
    if p.ndim < 2:
        return {"step": (), "variance": p.shape}
    *batch, rows, columns = p.shape
    return {"step": (), "row_var": (*batch, rows, 1), "col_var": (*batch, 1, columns)}
