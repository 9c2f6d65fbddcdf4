"""A forward pass at batch 1 without recording."""

from .common import COMPILED, Case, Speedup, Timed, load

NETS = {"64-64-4": ((64, 64, 4), 12), "784-128-10": ((784, 128, 10), 3.5)}
CASES = {name: Case({"torch": goal}) for name, (_, goal) in NETS.items()}
WAYS = ("minigrad", COMPILED, "torch", "torch.compile", "jax")


def make(framework, case):
    m = load(framework, WAYS)
    sizes = NETS[case][0]
    if framework == "jax":
        return make_jax(m, sizes)
    model = m.nn.Sequential()
    for a, b in zip(sizes, sizes[1:]):
        model.extend([m.nn.Linear(a, b), m.nn.ReLU()])
    model = model[:-1].eval()
    x = m.randn(1, sizes[0])
    model = m.compile(model) if framework in ("torch.compile", COMPILED) else model

    def run():
        with m.no_grad():
            model(x)

    return run


def make_jax(jax, sizes):
    jnp, key = jax.numpy, jax.random.key(0)
    layers = [(jax.random.normal(key, (b, a)), jnp.zeros(b)) for a, b in zip(sizes, sizes[1:])]

    @jax.jit
    def forward(layers, x):
        for i, (w, b) in enumerate(layers):
            x = x @ w.T + b
            x = jnp.maximum(x, 0) if i < len(layers) - 1 else x
        return x

    x = jnp.ones((1, sizes[0]))
    return lambda: forward(layers, x).block_until_ready()


class Inference(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class InferenceSpeedup(Speedup):
    cases = CASES
