"""From the same weights, a network trained here and with PyTorch has the same losses."""

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

import minigrad as mg

from .comparing import close

OPTIMIZERS = {
    "SGD": ("SGD", {"lr": 0.1}),
    "SGD with momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "Nesterov": ("SGD", {"lr": 0.05, "momentum": 0.9, "nesterov": True, "weight_decay": 1e-3}),
    "Adam": ("Adam", {"lr": 1e-3}),
    "AMSGrad": ("Adam", {"lr": 1e-3, "amsgrad": True}),
    "AdamW": ("AdamW", {"lr": 1e-3}),
}
STEPS, BATCH = 100, 64


@pytest.fixture(scope="module")
def digits():
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    return x[order] / 16, y[order].astype(np.int64)


def network(m, dtype):
    model = m.nn.Sequential(m.nn.Linear(64, 64), m.nn.ReLU(), m.nn.Linear(64, 10))
    return model.to(getattr(m, dtype))


def train(m, model, optimizer, x, y, dtype):
    """The ordinary four lines, STEPS times; the losses."""
    criterion = m.nn.CrossEntropyLoss()
    losses = []
    for step in range(STEPS):
        rows = np.arange(step * BATCH, (step + 1) * BATCH) % len(x)
        inputs, targets = m.from_numpy(x[rows].astype(dtype)), m.from_numpy(y[rows])
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-10)])
@pytest.mark.parametrize("name", list(OPTIMIZERS))
def test_same_curve(digits, name, dtype, tolerance):
    kind, options = OPTIMIZERS[name]
    torch.manual_seed(0)
    theirs, ours = network(torch, dtype), network(mg, dtype)
    ours.load_state_dict({k: mg.from_numpy(v.numpy().copy()) for k, v in theirs.state_dict().items()})
    curves = [
        train(m, model, getattr(m.optim, kind)(model.parameters(), **options), *digits, dtype)
        for m, model in ((mg, ours), (torch, theirs))
    ]
    for step, (a, b) in enumerate(zip(*curves, strict=True)):
        close("training", mg.tensor(a, dtype=mg.float64), torch.tensor(b, dtype=torch.float64), step, tolerance)
    assert curves[0][-1] < 0.9 * curves[0][0]
    for a, b in zip(ours.parameters(), theirs.parameters(), strict=True):
        close("training", a, b, name, 100 * tolerance)
