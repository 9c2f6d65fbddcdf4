"""A whole training run with the DataLoader: 10 epochs over 8,000 images of MNIST's size, 784-128-10, batch 64, Adam.

The images are random: the time does not depend on them. `mnist.py` trains on the real ones and reports accuracies.
"""

import importlib

from .common import Case, Speedup, Timed, load

CASES = {"MNIST, 10 epochs": Case({"torch": 4.5})}
WAYS = ("minigrad", "torch", "torch fused")


def make(framework, case):
    import numpy as np

    m = load(framework, WAYS)
    data = importlib.import_module(f"{m.__name__}.utils.data")
    rng = np.random.default_rng(0)
    x, y = m.from_numpy(rng.random((8_000, 784), np.float32)), m.from_numpy(rng.integers(0, 10, 8_000))

    def run():
        m.manual_seed(0)
        loader = data.DataLoader(data.TensorDataset(x, y), batch_size=64, shuffle=True)
        model = m.nn.Sequential(m.nn.Linear(784, 128), m.nn.ReLU(), m.nn.Linear(128, 10))
        criterion = m.nn.CrossEntropyLoss()
        fused = {"fused": True} if framework == "torch fused" else {}
        optimizer = m.optim.Adam(model.parameters(), lr=1e-3, **fused)
        for _ in range(10):
            for xb, yb in loader:
                optimizer.zero_grad()
                criterion(model(xb), yb).backward()
                optimizer.step()

    return run


class Training(Timed):
    cases, ways, make = CASES, WAYS, staticmethod(make)


class TrainingSpeedup(Speedup):
    cases = CASES
