"""Every optimizer with options that matter, and what to give it."""

import numpy as np
import pytest

import minigrad as mg

DTYPES = ("float32", "float64")
inf, nan = np.inf, np.nan


def parameter(values=1.0, dtype="float32"):
    return mg.tensor(np.asarray(values, dtype), requires_grad=True)


def run(name, gradients, start=1.0, dtype="float64", **options):
    """The values of a parameter after each step with these gradients."""
    p = parameter(start, dtype)
    optimizer = getattr(mg.optim, name)([p], **options)
    values = []
    for g in gradients:
        p.grad = mg.tensor(np.asarray(g, dtype))
        optimizer.step()
        values.append(p.tolist())
    return values


OPTIMIZERS = [
    ("SGD", {"lr": 0.1}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True}),
    ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3}),
    ("Adam", {"lr": 0.1}),
    ("Adam", {"lr": 0.1, "amsgrad": True, "weight_decay": 0.1}),
    ("AdamW", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.1}),
    ("RMSprop", {"lr": 0.1, "momentum": 0.9, "centered": True, "alpha": 0.5}),
    ("Adagrad", {"lr": 0.1, "lr_decay": 0.1}),
    ("Adadelta", {"lr": 0.1}),
    ("Adamax", {"lr": 0.1, "weight_decay": 0.1}),
    ("NAdam", {"lr": 0.1, "decoupled_weight_decay": True, "weight_decay": 0.1}),
    ("RAdam", {"lr": 0.1}),
    ("ASGD", {"lr": 0.1, "t0": 7, "lambd": 0.1}),
    ("Rprop", {"lr": 0.1}),
    ("Adafactor", {"lr": 0.1, "weight_decay": 0.1}),
]
every = pytest.mark.parametrize(("name", "options"), OPTIMIZERS, ids=str)


def network(seed, dtype="float32"):
    mg.manual_seed(seed)
    return mg.nn.Sequential(mg.nn.Linear(6, 8), mg.nn.ReLU(), mg.nn.Linear(8, 3)).to(getattr(mg, dtype))


def train(model, optimizer, first, last):
    dtype = model[0].weight.dtype
    for step in range(first, last):
        rng = np.random.default_rng(step)
        x, t = mg.tensor(rng.normal(size=(10, 6)), dtype=dtype), mg.tensor(rng.integers(0, 3, 10))
        optimizer.zero_grad()
        mg.nn.functional.cross_entropy(model(x), t).backward()
        optimizer.step()
