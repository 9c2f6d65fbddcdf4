"""A loss forward and backward, to the gradient of its input."""

import math

from .common import Case, Speedup, Timed, load

KINDS = {"cross-entropy": "cross_entropy", "BCE with logits": "binary_cross_entropy_with_logits", "MSE": "mse_loss"}
WORK = [  # kind, shape, goal
    ("cross-entropy", (128, 10), 10),
    ("cross-entropy", (1_024, 1_000), 4),
    ("cross-entropy", (2_048, 32_000), 10),
    ("BCE with logits", (10_000,), 7),
    ("BCE with logits", (10_000_000,), 15),
    ("MSE", (10_000,), 7),
    ("MSE", (10_000_000,), 4),
]
SIZES = {f"{kind}, {' x '.join(f'{n:,}' for n in shape)}": (kind, shape) for kind, shape, _ in WORK}
WAYS = ("minigrad", "torch", "torch.compile", "jax")


def traffic(kind, shape):
    """Bytes: logits read, gradient written (twice, see Case); but for cross-entropy a target read besides."""
    return math.prod(shape) * (12 if kind == "cross-entropy" else 16)


CASES = {name: Case({"torch": goal}, bytes=traffic(kind, shape)) for name, (kind, shape, goal) in zip(SIZES, WORK)}


def make(framework, case):
    import numpy as np

    m = load(framework, WAYS)
    kind, shape = SIZES[case]
    rng = np.random.default_rng(0)
    x = rng.standard_normal(shape, np.float32)
    t = rng.integers(0, shape[-1], shape[0]) if kind == "cross-entropy" else rng.random(shape, np.float32)
    if framework == "jax":
        return make_jax(m, kind, x, t)
    x, t = m.from_numpy(x).requires_grad_(True), m.from_numpy(t)
    loss = getattr(m.nn.functional, KINDS[kind])
    loss = m.compile(loss) if framework == "torch.compile" else loss

    def run():
        x.grad = None
        value = loss(x, t)
        value.backward()
        return value.detach()

    return run


def make_jax(jax, kind, x, t):
    jnp = jax.numpy

    def loss(x, t):
        if kind == "cross-entropy":
            return -jnp.take_along_axis(jax.nn.log_softmax(x), t[:, None], 1).mean()
        if kind == "MSE":
            return ((x - t) ** 2).mean()
        return (jnp.maximum(x, 0) - x * t + jnp.log1p(jnp.exp(-jnp.abs(x)))).mean()

    both = jax.jit(jax.value_and_grad(loss))
    x, t = jnp.asarray(x), jnp.asarray(t)
    return lambda: jax.block_until_ready(both(x, t))[0]


class Loss(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class LossSpeedup(Speedup):
    cases = CASES
