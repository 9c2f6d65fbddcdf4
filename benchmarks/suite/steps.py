"""One eager training step of an MLP: zero_grad, forward, cross-entropy, backward, Adam."""

from .common import COMPILED, TORCH, Case, Speedup, Timed, load

WAYS = ("minigrad", COMPILED, *TORCH, "jax")

NETS = {  # sizes, batch, goals
    "8-16-2@32": ((8, 16, 2), 32, {"torch": 28, "jax": 6}),
    "64-32-10@32": ((64, 32, 10), 32, {"torch": 20, "jax": 4.5}),
    "784-128-10@64": ((784, 128, 10), 64, {"torch": 2.8, "jax": 1.7}),
    "784-256-128-10@128": ((784, 256, 128, 10), 128, {"torch": 2.3, "jax": 1.35}),
    "784-512-512-10@256": ((784, 512, 512, 10), 256, {"torch": 2.1, "jax": 1.15}),
}


def flops(sizes, batch):
    """Of the products: forward, weights' gradients, and the inputs' but for the first layer."""
    return 2 * batch * (3 * sum(a * b for a, b in zip(sizes, sizes[1:])) - sizes[0] * sizes[1])


CASES = {name: Case(goal, flops=flops(sizes, batch)) for name, (sizes, batch, goal) in NETS.items()}


def data(sizes, batch):
    """Weights and biases by layer, inputs, labels; the same for every framework."""
    import numpy as np

    rng = np.random.default_rng(0)
    layers = [
        (rng.standard_normal((b, a)).astype("f4") * 0.05, rng.standard_normal(b).astype("f4") * 0.05)
        for a, b in zip(sizes, sizes[1:])
    ]
    return layers, rng.standard_normal((batch, sizes[0])).astype("f4"), rng.integers(0, sizes[-1], batch)


def make(framework, case):
    m = load(framework, WAYS)
    sizes, batch, _ = NETS[case]
    return (make_jax if framework == "jax" else make_torch)(m, framework, *data(sizes, batch))


def make_torch(m, framework, layers, x, y):
    """The same lines for minigrad and PyTorch."""
    model = m.nn.Sequential()
    for i, (w, b) in enumerate(layers):
        layer = m.nn.Linear(w.shape[1], w.shape[0])
        layer.weight.data, layer.bias.data = m.from_numpy(w), m.from_numpy(b)
        model.append(layer)
        if i < len(layers) - 1:
            model.append(m.nn.ReLU())
    x, y = m.from_numpy(x), m.from_numpy(y)
    criterion = m.nn.CrossEntropyLoss()
    fused = {"fused": True} if framework in ("torch fused", "torch.compile") else {}
    optimizer = m.optim.Adam(model.parameters(), lr=1e-3, **fused)
    if framework == "torch.compile":
        model = m.compile(model)

    def step():
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return m.compile(step) if framework == COMPILED else step


def make_jax(jax, framework, layers, x, y):
    """The same in JAX: one jitted function whose arguments are donated."""
    from functools import partial

    jnp = jax.numpy

    def criterion(layers, x, y):
        for i, (w, b) in enumerate(layers):
            x = x @ w.T + b
            x = jnp.maximum(x, 0) if i < len(layers) - 1 else x
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], 1).mean()

    @partial(jax.jit, donate_argnums=(0, 1, 2, 3))
    def update(layers, m, v, t, x, y):
        loss, g = jax.value_and_grad(criterion)(layers, x, y)
        t = t + 1
        m = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, m, g)
        v = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, v, g)
        c1, c2 = 1 - 0.9**t, 1 - 0.999**t
        layers = jax.tree.map(lambda p, m, v: p - 1e-3 * (m / c1) / (jnp.sqrt(v / c2) + 1e-8), layers, m, v)
        return layers, m, v, t, loss

    x, y = jnp.asarray(x), jnp.asarray(y)
    layers = jax.tree.map(jnp.asarray, layers)
    state = [layers, jax.tree.map(jnp.zeros_like, layers), jax.tree.map(jnp.zeros_like, layers), jnp.float32(0)]

    def step():
        *state[:], loss = update(*state, x, y)
        return loss.block_until_ready()

    return step


class Step(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class StepSpeedup(Speedup):
    cases = CASES
