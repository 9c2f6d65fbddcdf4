"""What a training step holds at once, in bytes of tensors."""

import minigrad as mg
from minigrad import nn


def test_a_step_holds_each_activation_once_and_one_gradient_of_it():
    """An MLP's three hidden activations, relu written over its input, and the gradient of the last."""
    batch, wide, classes = 512, 256, 10
    model = nn.Sequential(
        nn.Linear(64, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(), nn.Linear(wide, wide), nn.ReLU(),
        nn.Linear(wide, classes),
    )  # fmt: skip
    optimizer = mg.optim.Adam(model.parameters())
    x, y = mg.randn(batch, 64), mg.randint(0, classes, (batch,))

    def step():
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()

    step()
    optimizer.zero_grad()
    before = mg.memory.stats()["live"]
    mg.memory.reset_peak()
    step()
    held = mg.memory.stats()["peak"] - before
    activation = 4 * batch * wide
    gradients = sum(4 * p.numel() for p in model.parameters())
    assert held <= 4 * activation + gradients


def test_a_step_takes_its_memory_from_the_pool():
    x = mg.randn(1000, requires_grad=True)

    def step():
        x.grad = None
        (x * x).sigmoid().sum().backward()

    step()
    first = mg.memory.stats()
    for _ in range(10):
        step()
    last = mg.memory.stats()
    assert last["live"] == first["live"] and last["pooled"] == first["pooled"]
