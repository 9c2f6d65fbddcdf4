"""nn.init: ranges and moments of what is filled in, shapes, errors."""

import math

import numpy as np
import pytest

import minigrad as mg
from minigrad.nn import init

SHAPES = {"matrix": (200, 300), "convolution": (20, 30, 5, 5)}
FANS = {"matrix": (300, 200), "convolution": (750, 500)}


def moments(tensor):
    a = tensor.detach().double().numpy()
    return a.mean(), a.std(), np.abs(a).max()


@pytest.mark.parametrize("dtype", [mg.float32, mg.float64])
@pytest.mark.parametrize("kind", SHAPES)
@pytest.mark.parametrize(
    ("fill", "std", "uniform"),
    [
        (lambda w: init.xavier_uniform_(w), lambda i, o: math.sqrt(2 / (i + o)), True),
        (lambda w: init.xavier_uniform_(w, gain=2.0), lambda i, o: 2 * math.sqrt(2 / (i + o)), True),
        (lambda w: init.xavier_normal_(w), lambda i, o: math.sqrt(2 / (i + o)), False),
        (lambda w: init.kaiming_uniform_(w, a=math.sqrt(5)), lambda i, o: math.sqrt(1 / 3 / i), True),
        (lambda w: init.kaiming_uniform_(w, nonlinearity="relu"), lambda i, o: math.sqrt(2 / i), True),
        (lambda w: init.kaiming_uniform_(w, mode="fan_out"), lambda i, o: math.sqrt(2 / o), True),
        (lambda w: init.kaiming_normal_(w), lambda i, o: math.sqrt(2 / i), False),
        (lambda w: init.kaiming_normal_(w, 1.0, "FAN_OUT"), lambda i, o: math.sqrt(1 / o), False),
        (lambda w: init.kaiming_normal_(w, nonlinearity="tanh"), lambda i, o: 5 / 3 / math.sqrt(i), False),
        (lambda w: init.uniform_(w, -2.0, 2.0), lambda i, o: 2 / math.sqrt(3), True),
        (lambda w: init.normal_(w, 0.0, 3.0), lambda i, o: 3.0, False),
        (lambda w: init.trunc_normal_(w), lambda i, o: 0.8796, False),
    ],
)
def test_moments(fill, std, uniform, kind, dtype):
    mg.manual_seed(0)
    w = mg.nn.Parameter(mg.empty(SHAPES[kind], dtype=dtype))
    assert fill(w) is w and w.requires_grad and w.grad_fn is None
    expected = std(*FANS[kind])
    mean, spread, largest = moments(w)
    assert abs(mean) < 0.02 * expected and spread == pytest.approx(expected, rel=0.02)
    if uniform:
        assert largest <= math.sqrt(3) * expected * (1 + 1e-6) and largest > 1.72 * expected


def test_the_generator_decides():
    for fill in (
        init.uniform_, init.normal_, init.xavier_uniform_, init.xavier_normal_, init.kaiming_uniform_,
        init.kaiming_normal_, init.orthogonal_, init.trunc_normal_,
    ):  # fmt: skip
        g = mg.Generator().manual_seed(5)
        a, b = fill(mg.empty(3, 4), generator=g).tolist(), fill(mg.empty(3, 4), generator=g).tolist()
        assert a != b and fill(mg.empty(3, 4), generator=g.manual_seed(5)).tolist() == a


@pytest.mark.parametrize(
    ("mean", "std", "a", "b"), [(0, 1, -2, 2), (1, 2, 0, 1.5), (0, 0.02, -2, 2), (0, 1, 2, 3), (0, 1, -5, -2)]
)
def test_trunc_normal(mean, std, a, b):
    w = init.trunc_normal_(mg.empty(100_000, dtype=mg.float64), mean, std, a, b, mg.Generator().manual_seed(0)).numpy()
    assert w.min() >= a and w.max() <= b
    low, high = (0.5 * (1 + math.erf((t - mean) / std / math.sqrt(2))) for t in (a, b))
    for t in np.linspace(max(a, mean - 3 * std), min(b, mean + 3 * std), 7)[1:-1]:
        below = (0.5 * (1 + math.erf((t - mean) / std / math.sqrt(2))) - low) / (high - low)
        assert (w <= t).mean() == pytest.approx(below, abs=0.006)


def test_trunc_normal_warns_far_from_the_mean():
    with pytest.warns(UserWarning, match="mean is more than 2 std from"):
        init.trunc_normal_(mg.empty(3), 0.0, 1.0, 3.0, 4.0)


@pytest.mark.parametrize("shape", [(4, 4), (3, 7), (7, 3), (2, 3, 4), (1, 1)])
@pytest.mark.parametrize("gain", [1, 2.0])
def test_orthogonal(shape, gain):
    w = init.orthogonal_(mg.empty(shape, dtype=mg.float64), gain).numpy().reshape(shape[0], -1)
    small = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    np.testing.assert_allclose(small, gain**2 * np.eye(len(small)), atol=1e-12)


def test_constants():
    assert init.constant_(mg.empty(2), 0.3).tolist() == mg.full((2,), 0.3).tolist()
    assert init.ones_(mg.empty(2, 2)).tolist() == [[1.0, 1.0], [1.0, 1.0]]
    assert init.zeros_(mg.ones(3)).tolist() == [0.0, 0.0, 0.0]
    assert init.eye_(mg.empty(2, 3)).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    turned = mg.empty(3, 2).T  # not contiguous
    assert init.ones_(turned).tolist() == [[1.0] * 3] * 2
    leaf = mg.zeros(2, requires_grad=True)
    assert init.ones_(leaf).grad_fn is None and leaf.tolist() == [1.0, 1.0]


def test_empty():
    assert init.orthogonal_(mg.empty(0, 3)).shape == (0, 3)
    for fill in (init.kaiming_uniform_, init.kaiming_normal_):
        with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
            fill(mg.empty(0, 3))
    for fill in (init.uniform_, init.normal_, init.zeros_, init.xavier_uniform_, init.xavier_normal_):
        assert fill(mg.empty(0, 0)).shape == (0, 0)


@pytest.mark.parametrize(
    ("arguments", "gain"),
    [
        (("linear",), 1), (("conv2d",), 1), (("conv_transpose3d",), 1), (("sigmoid",), 1), (("tanh",), 5 / 3),
        (("relu",), math.sqrt(2)), (("leaky_relu",), math.sqrt(2 / 1.0001)), (("leaky_relu", 1), 1.0),
        (("selu",), 0.75),
    ],
)  # fmt: skip
def test_gain(arguments, gain):
    assert init.calculate_gain(*arguments) == pytest.approx(gain, rel=1e-15)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: init.calculate_gain("softmax"), "Unsupported nonlinearity softmax"),
        (lambda: init.calculate_gain("leaky_relu", True), "negative_slope True not a valid number"),
        (lambda: init.calculate_gain("leaky_relu", "a"), "negative_slope a not a valid number"),
        (lambda: init.xavier_uniform_(mg.empty(3)), "fewer than 2 dimensions"),
        (lambda: init.kaiming_normal_(mg.empty(3)), "fewer than 2 dimensions"),
        (lambda: init.kaiming_normal_(mg.empty(3, 3), mode="fan"), "Mode fan not supported, please use one of"),
        (lambda: init.orthogonal_(mg.empty(3)), "Only tensors with 2 or more dimensions are supported"),
        (lambda: init.eye_(mg.empty(3)), "Only tensors with 2 dimensions are supported"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
