"""Elementwise functions and softmax, forward and backward; and reductions forward."""

from .common import Case, Speedup, Timed, load

BOTH = ("relu", "sigmoid", "tanh", "exp", "softmax")
FORWARD = ("sum", "mean", "max", "var")
AT = ("sigmoid at -95", "sigmoid at -1000")  # denormal and saturated results, which should take no longer
SIZES = {"1,000": ((10, 100), 8), "1,000,000": ((10_000, 100), 1.2)}

# Forward reads x and writes y; backward reads y and dy and writes dx; writes count twice. A reduction reads x.
CASES = {
    **{f"{f}, {n}": Case({"torch": goal}, bytes=28 * s[0] * s[1]) for f in BOTH for n, (s, goal) in SIZES.items()},
    **{f"{f}, 1,000,000": Case(bytes=28 * 1_000_000) for f in AT},
    **{f"{f} of rows, {n}": Case(bytes=4 * s[0] * s[1]) for f in FORWARD for n, (s, _) in SIZES.items()},
}
WAYS = ("minigrad", "torch", "jax")


def make(framework, case):
    import numpy as np

    m = load(framework, WAYS)
    name, size = case.split(", ", 1)
    shape = SIZES[size][0]
    x = np.random.default_rng(0).standard_normal(shape, np.float32)
    if name in AT:
        name, x = "sigmoid", x + np.float32(name.split()[-1])
    if framework == "jax":
        return make_jax(m, name, x)
    x = m.from_numpy(x)
    if " " in name:
        f = getattr(m, {"max": "amax"}.get(name.split()[0], name.split()[0]))
        return lambda: f(x, 1)
    f, dy = getattr(m, name), m.ones(shape)
    dim = (1,) if name == "softmax" else ()
    x.requires_grad_(True)

    def run():
        x.grad = None
        f(x, *dim).backward(dy)

    return run


def make_jax(jax, name, x):
    jnp = jax.numpy
    x = jnp.asarray(x)
    if " " in name:
        f = jax.jit(lambda x: getattr(jnp, name.split()[0])(x, axis=1))
        return lambda: f(x).block_until_ready()
    f = {**vars(jax.nn), **vars(jnp)}[name] if name in ("exp", "tanh") else getattr(jax.nn, name)
    both = jax.jit(lambda x, dy: (lambda y, back: (y, back(dy)))(*jax.vjp(f, x)))
    dy = jnp.ones_like(x)
    return lambda: jax.block_until_ready(both(x, dy))


class Elementwise(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class ElementwiseSpeedup(Speedup):
    cases = CASES
