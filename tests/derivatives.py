"""First and second derivatives of a function of tensors against central differences, in float64."""

import numpy as np

import minigrad as mg


def weights_like(y, seed=0):
    """Fixed weights of the shape of ``y``, so that every element of an output counts differently."""
    return mg.from_numpy(np.random.default_rng(seed).uniform(0.5, 1.5, tuple(y.shape)))


def gradients(f, arrays, seeds=None):
    """The gradients of sum(w * f(*arrays) ** 2) by backward; with ``seeds``, of the sum of those by seeds."""
    tensors = [mg.tensor(a, requires_grad=True) for a in arrays]
    y = f(*tensors)
    (y * y * weights_like(y)).sum().backward(create_graph=seeds is not None)
    first = [t.grad for t in tensors]
    if seeds is None:
        return [np.zeros(a.shape) if g is None else g.numpy() for a, g in zip(arrays, first)]
    for t in tensors:
        t.grad = None
    sum((g * mg.from_numpy(s)).sum() for g, s in zip(first, seeds) if g is not None).backward()
    return [np.zeros(a.shape) if t.grad is None else t.grad.detach().numpy() for a, t in zip(arrays, tensors)]


def differences(function, arrays, eps=1e-5):
    """The gradients of a function of arrays to a number, by central differences."""
    made = []
    for i, array in enumerate(arrays):
        d = np.zeros(array.shape)
        for at in np.ndindex(array.shape):
            values = []
            for step in (eps, -eps):
                moved = [a.copy() for a in arrays]
                moved[i][at] += step
                values.append(function(*moved))
            d[at] = (values[0] - values[1]) / (2 * eps)
        made.append(d)
    return made


def check_derivatives(f, *arrays, second=True):
    """Assert that the derivatives of ``f`` (tensors to a tensor) at ``arrays`` are right."""
    arrays = [np.asarray(a, np.float64) for a in arrays]

    def value(*moved):
        with mg.no_grad():
            y = f(*[mg.tensor(a) for a in moved])
            return float((y * y * weights_like(y)).sum())

    for found, expected in zip(gradients(f, arrays), differences(value, arrays)):
        np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
    if second:
        seeds = [np.random.default_rng(1).standard_normal(a.shape) for a in arrays]

        def slope(*moved):
            return sum(float((g * s).sum()) for g, s in zip(gradients(f, moved), seeds))

        for found, expected in zip(gradients(f, arrays, seeds), differences(slope, arrays)):
            np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-6)
