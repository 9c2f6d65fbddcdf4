"""Tensors are shown as PyTorch shows them."""

import math

import numpy as np
import pytest

import minigrad as mg

# What PyTorch prints, with `torch` replaced by `minigrad`.
SHOWN = [
    (lambda: mg.tensor([[1.0, 2.0]]), "tensor([[1., 2.]])"),
    (lambda: mg.tensor([1.0, 2.5]), "tensor([1.0000, 2.5000])"),
    (lambda: mg.tensor([-1.0, 2.5]), "tensor([-1.0000,  2.5000])"),
    (lambda: mg.tensor([0.0, 0.0]), "tensor([0., 0.])"),
    (lambda: mg.tensor([0.0, -0.0]), "tensor([0., -0.])"),
    (lambda: mg.tensor(1.0), "tensor(1.)"),
    (lambda: mg.tensor(0.1), "tensor(0.1000)"),
    (lambda: mg.tensor(7), "tensor(7)"),
    (lambda: mg.tensor(True), "tensor(True)"),
    (lambda: mg.tensor([1, 20, -300]), "tensor([   1,   20, -300])"),
    (lambda: mg.tensor([True, False]), "tensor([ True, False])"),
    (lambda: mg.tensor([1e-5, 1.0]), "tensor([1.0000e-05, 1.0000e+00])"),
    (lambda: mg.tensor([1.0, 2000.0]), "tensor([1.0000e+00, 2.0000e+03])"),
    (lambda: mg.tensor([1.0, 1000.0]), "tensor([   1., 1000.])"),
    (lambda: mg.tensor([0.5, 1000.0]), "tensor([5.0000e-01, 1.0000e+03])"),
    (lambda: mg.tensor([1.5, 1000.0]), "tensor([   1.5000, 1000.0000])"),
    (lambda: mg.tensor([1e9]), "tensor([1.0000e+09])"),
    (lambda: mg.tensor([1e8]), "tensor([100000000.])"),
    (lambda: mg.tensor([1e-4]), "tensor([1.0000e-04])"),
    (lambda: mg.tensor([math.nan, 1.5]), "tensor([   nan, 1.5000])"),
    (lambda: mg.tensor([math.inf, -math.inf, 1.0]), "tensor([inf, -inf, 1.])"),
    (lambda: mg.tensor([math.inf, 0.0]), "tensor([inf, 0.])"),
    (lambda: mg.tensor([1.0], dtype=mg.float64), "tensor([1.], dtype=minigrad.float64)"),
    (lambda: mg.tensor([1], dtype=mg.uint8), "tensor([1], dtype=minigrad.uint8)"),
    (lambda: mg.tensor([1.0], requires_grad=True), "tensor([1.], requires_grad=True)"),
    (lambda: mg.tensor([1.0], requires_grad=True) + 1, "tensor([2.], grad_fn=<AddBackward0>)"),
    (lambda: mg.tensor([]), "tensor([])"),
    (lambda: mg.zeros(0, 3), "tensor([], size=(0, 3))"),
    (lambda: mg.zeros(2, 0, dtype=mg.int64), "tensor([], size=(2, 0), dtype=minigrad.int64)"),
    (lambda: mg.zeros(0, dtype=mg.bool), "tensor([], dtype=minigrad.bool)"),
    (lambda: mg.tensor([[1, 2], [3, 4]]), "tensor([[1, 2],\n        [3, 4]])"),
    (lambda: mg.zeros(2, 1, 2), "tensor([[[0., 0.]],\n\n        [[0., 0.]]])"),
    (
        lambda: mg.arange(25),
        "tensor([ 0,  1,  2,  3,  4,  5,  6,  7,  8,  9, 10, 11, 12, 13, 14, 15, 16, 17,\n"
        "        18, 19, 20, 21, 22, 23, 24])",
    ),
    (lambda: mg.arange(1001), "tensor([   0,    1,    2,  ...,  998,  999, 1000])"),
    (
        lambda: mg.arange(2000).reshape(1000, 2),
        "tensor([[   0,    1],\n        [   2,    3],\n        [   4,    5],\n        ...,\n"
        "        [1994, 1995],\n        [1996, 1997],\n        [1998, 1999]])",
    ),
    (
        lambda: mg.zeros(100, 100),
        "tensor([[0., 0., 0.,  ..., 0., 0., 0.],\n        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n        ...,\n        [0., 0., 0.,  ..., 0., 0., 0.],\n"
        "        [0., 0., 0.,  ..., 0., 0., 0.],\n        [0., 0., 0.,  ..., 0., 0., 0.]])",
    ),
    (
        lambda: mg.zeros(7, dtype=mg.float64, requires_grad=True) + 1.25,
        "tensor([1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500, 1.2500],\n"
        "       dtype=minigrad.float64, grad_fn=<AddBackward0>)",
    ),
    (lambda: mg.arange(6).reshape(2, 3).T, "tensor([[0, 3],\n        [1, 4],\n        [2, 5]])"),
]


@pytest.mark.parametrize(("make", "text"), SHOWN, ids=[text.split("\n")[0] for _, text in SHOWN])
def test_repr(make, text):
    x = make()
    assert repr(x) == str(x) == text


def test_shape_and_dtype():
    assert repr(mg.zeros(2, 3).shape) == "minigrad.Size([2, 3])"
    assert repr(mg.float32) == "minigrad.float32"
    assert repr(mg.device("cpu")) == "device(type='cpu')"


def test_format():
    assert f"{mg.tensor(1.5):.3f}" == "1.500"
    assert f"{mg.tensor(3):>4}" == "   3"
    assert f"{mg.tensor(1.5)}" == "1.5"
    assert f"{mg.tensor([1.5])}" == "tensor([1.5000])"
    with pytest.raises(TypeError, match="format"):
        f"{mg.tensor([1.5]):.2f}"


@pytest.fixture
def default_options():
    yield
    mg.set_printoptions(profile="default")


@pytest.mark.parametrize(
    ("options", "data", "text"),
    [
        ({"precision": 2}, [1 / 3], "tensor([0.33])"),
        ({"sci_mode": True}, [1.5], "tensor([1.5000e+00])"),
        ({"sci_mode": False}, [1e-5, 1.0], "tensor([0.0000, 1.0000])"),
        ({"threshold": 3, "edgeitems": 1}, [1, 2, 3, 4], "tensor([1,  ..., 4])"),
        ({"linewidth": 14}, [1, 2, 3], "tensor([1, 2,\n        3])"),
        ({"profile": "short"}, [0.125], "tensor([0.12])"),
        ({"profile": "full"}, list(range(3)), "tensor([0, 1, 2])"),
    ],
)
@pytest.mark.usefixtures("default_options")
def test_print_options(options, data, text):
    mg.set_printoptions(**options)
    assert repr(mg.tensor(data)) == text


@pytest.mark.usefixtures("default_options")
def test_full_profile_shows_everything():
    mg.set_printoptions(profile="full")
    assert "..." not in repr(mg.zeros(2000))
    with pytest.raises(ValueError, match="profile"):
        mg.set_printoptions(profile="tall")


def test_every_dtype_and_shape_can_be_shown():
    for dtype in ("float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"):
        for shape in ((), (1,), (0,), (3, 0, 2), (2, 3, 4), (1,) * 8, (1100,), (40, 40), (2, 2, 2, 200)):
            x = mg.tensor(np.ones(shape, dtype))
            assert repr(x).startswith("tensor(") and max(map(len, repr(x).split("\n"))) <= 80
