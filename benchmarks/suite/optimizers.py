"""One optimizer step over given gradients: one large tensor, many small ones, a network's parameters."""

import math

from .common import Case, Speedup, Timed, load

SHAPES = {
    "25,000,000": ([(25_000_000,)], 1.0),
    "200 x 1,000": ([(1_000,)] * 200, 15),
    "200,000": ([(200_000,)], None),
    "784-256-128-10": ([(256, 784), (256,), (128, 256), (128,), (10, 128), (10,)], 2),
}


CASES = {  # parameter and two moments are read and written, the gradient is read
    f"{name}, {size}": Case({"torch": goal} if goal else {}, bytes=28 * sum(map(math.prod, shapes)))
    for name in ("Adam", "AdamW")
    for size, (shapes, goal) in SHAPES.items()
}
WAYS = ("minigrad", "torch", "torch fused", "jax")


def make(framework, case):
    m = load(framework, WAYS)
    name, size = case.split(", ", 1)
    shapes = SHAPES[size][0]
    if framework == "jax":
        return make_jax(m, name, shapes)
    parameters = [m.zeros(shape, requires_grad=True) for shape in shapes]
    for p in parameters:
        p.grad = m.full(tuple(p.shape), 0.5)
    fused = {"fused": True} if framework == "torch fused" else {}
    return getattr(m.optim, name)(parameters, lr=1e-3, **fused).step


def make_jax(jax, name, shapes):
    from functools import partial

    jnp = jax.numpy
    decay = 1e-5 if name == "AdamW" else 0.0

    @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
    def update(p, m, v, t, g):
        t = t + 1
        m = [0.9 * m + 0.1 * g for m, g in zip(m, g)]
        v = [0.999 * v + 0.001 * g * g for v, g in zip(v, g)]
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        p = [p * (1 - decay) - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8) for p, m, v in zip(p, m, v)]
        return p, m, v, t

    zeros = [[jnp.zeros(shape) for shape in shapes] for _ in range(3)]
    state, g = [*zeros, jnp.float32(0)], [jnp.full(shape, 0.5) for shape in shapes]

    def step():
        state[:] = update(*state, g)
        jax.block_until_ready(state)

    return step


class Step(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class StepSpeedup(Speedup):
    cases = CASES
