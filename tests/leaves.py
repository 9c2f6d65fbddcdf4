"""Leaves to differentiate by, and what is in a tensor."""

import minigrad as mg


def leaf(values, dtype=mg.float32):
    return mg.tensor(values, dtype=dtype, requires_grad=True)


def values(t):
    return t.detach().numpy().tolist()
