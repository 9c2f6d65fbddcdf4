"""Layers, activations and nn.functional, against NumPy in float64."""

import math
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

DTYPES = {"float32": (mg.float32, 2e-6), "float64": (mg.float64, 1e-14)}


def erf(x):
    return np.vectorize(math.erf, otypes=[float])(x)


def softmax(x, axis):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# name: module, function, NumPy reference
ACTIVATIONS = {
    "ReLU": (nn.ReLU(), F.relu, lambda x: np.maximum(x, 0)),
    "Sigmoid": (nn.Sigmoid(), F.sigmoid, lambda x: 1 / (1 + np.exp(-x))),
    "Tanh": (nn.Tanh(), F.tanh, np.tanh),
    "LeakyReLU": (nn.LeakyReLU(), F.leaky_relu, lambda x: np.where(x > 0, x, 0.01 * x)),
    "LeakyReLU(.3)": (nn.LeakyReLU(0.3), lambda x: F.leaky_relu(x, 0.3), lambda x: np.where(x > 0, x, 0.3 * x)),
    "ELU": (nn.ELU(), F.elu, lambda x: np.where(x > 0, x, np.expm1(x))),
    "ELU(2)": (nn.ELU(2.0), lambda x: F.elu(x, 2.0), lambda x: np.where(x > 0, x, 2 * np.expm1(x))),
    "SiLU": (nn.SiLU(), F.silu, lambda x: x / (1 + np.exp(-x))),
    "GELU": (nn.GELU(), F.gelu, lambda x: x * 0.5 * (1 + erf(x / math.sqrt(2)))),
    "GELU(tanh)": (
        nn.GELU("tanh"),
        lambda x: F.gelu(x, approximate="tanh"),
        lambda x: x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    ),
    "Softplus": (nn.Softplus(), F.softplus, lambda x: np.logaddexp(0, x)),
    "Softplus(3, 2)": (
        nn.Softplus(3.0, 2.0),
        lambda x: F.softplus(x, 3.0, 2.0),
        lambda x: np.where(3 * x > 2, x, np.logaddexp(0, 3 * x) / 3),
    ),
    "Softmax": (nn.Softmax(-1), lambda x: F.softmax(x, -1), lambda x: softmax(x, -1)),
    "LogSoftmax": (nn.LogSoftmax(0), lambda x: F.log_softmax(x, 0), lambda x: np.log(softmax(x, 0))),
}
IN_PLACE = [name for name, (module, _, _) in ACTIVATIONS.items() if hasattr(module, "inplace")]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("shape", [(3, 5), (1, 1), (2, 3, 4)])
def test_activations(name, shape, dtype):
    module, function, reference = ACTIVATIONS[name]
    kind, tolerance = DTYPES[dtype]
    a = np.random.default_rng(0).normal(size=shape) * 3
    x = mg.tensor(a, dtype=kind)
    y = module(x)
    assert y.dtype == kind and tuple(y.shape) == shape
    np.testing.assert_allclose(y.numpy(), reference(x.double().numpy()), rtol=tolerance, atol=tolerance)
    assert function(x).tolist() == y.tolist()
    turned = mg.tensor(np.ascontiguousarray(a.T), dtype=kind).permute(*reversed(range(a.ndim)))
    np.testing.assert_allclose(module(turned).numpy(), y.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activation_gradients(name):
    x = mg.tensor(np.random.default_rng(1).normal(size=(3, 4)) + 0.01, dtype=mg.float64, requires_grad=True)
    assert mg.autograd.gradcheck(ACTIVATIONS[name][0], (x,))


@pytest.mark.parametrize("name", [n for n in ACTIVATIONS if "Softmax" not in n])
def test_activations_at_extremes(name):
    """No nan where the limit exists; gradients are those of the branch that is taken."""
    module = ACTIVATIONS[name][0]
    x = mg.tensor([-1e4, -100.0, 0.0, 100.0, 1e4], requires_grad=True)
    y = module(x)
    y.sum().backward()
    assert np.isfinite(y.detach().numpy()).all() and np.isfinite(x.grad.numpy()).all(), (y, x.grad)
    assert math.isnan(module(mg.tensor([math.nan])).item())


@pytest.mark.parametrize("name", IN_PLACE)
def test_activations_in_place(name):
    module = type(ACTIVATIONS[name][0])(inplace=True)
    x = mg.tensor([-2.0, -0.5, 0.5, 2.0], requires_grad=True)
    z = x * 1
    y = module(z)
    assert y is z
    expected = type(module)()(x)
    assert y.tolist() == expected.tolist()
    y.sum().backward()
    grad, x.grad = x.grad, None
    expected.sum().backward()
    assert grad.tolist() == x.grad.tolist()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        module(x)


def test_gelu_error():
    with pytest.raises(RuntimeError, match="approximate argument must be either none or tanh"):
        nn.GELU("erf")(mg.zeros(1))


@pytest.mark.parametrize(("function", "module"), [(F.softmax, nn.Softmax()), (F.log_softmax, nn.LogSoftmax())])
@pytest.mark.parametrize(("shape", "dim"), [((3,), 0), ((2, 3), 1), ((2, 3, 4), 0), ((2, 3, 4, 5), 1)])
def test_softmax_without_dim_warns(function, module, shape, dim):
    x = mg.randn(*shape)
    with pytest.warns(UserWarning, match="Implicit dimension choice for (log_)?softmax has been deprecated"):
        assert function(x).tolist() == function(x, dim).tolist()
    with pytest.warns(UserWarning, match="Implicit dimension"):
        module(x)


def test_softmax_dtype():
    assert F.softmax(mg.tensor([1, 2]), dim=0, dtype=mg.float64).dtype == mg.float64


@pytest.mark.parametrize(
    ("module", "text"),
    [
        (nn.ReLU(), "ReLU()"),
        (nn.ReLU(inplace=True), "ReLU(inplace=True)"),
        (nn.Sigmoid(), "Sigmoid()"),
        (nn.LeakyReLU(0.2, inplace=True), "LeakyReLU(negative_slope=0.2, inplace=True)"),
        (nn.ELU(), "ELU(alpha=1.0)"),
        (nn.SiLU(), "SiLU()"),
        (nn.GELU(), "GELU(approximate='none')"),
        (nn.Softplus(), "Softplus(beta=1.0, threshold=20.0)"),
        (nn.Softmax(dim=1), "Softmax(dim=1)"),
        (nn.LogSoftmax(), "LogSoftmax(dim=None)"),
        (nn.Dropout(0.1), "Dropout(p=0.1, inplace=False)"),
        (nn.Identity(), "Identity()"),
        (nn.Flatten(), "Flatten(start_dim=1, end_dim=-1)"),
        (nn.Unflatten(1, (2, 3)), "Unflatten(dim=1, unflattened_size=(2, 3))"),
        (nn.Linear(2, 3, bias=False), "Linear(in_features=2, out_features=3, bias=False)"),
    ],
)
def test_repr(module, text):
    assert repr(module) == text


# --- Linear -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 5), (5,), (2, 3, 5), (0, 5), (1, 1, 1, 5)])
def test_linear(shape, dtype, bias):
    kind, tolerance = DTYPES[dtype]
    layer = nn.Linear(5, 3, bias=bias, dtype=kind)
    x = mg.randn(*shape, dtype=kind)
    y = layer(x)
    assert tuple(y.shape) == (*shape[:-1], 3) and y.dtype == kind
    expected = x.double().numpy() @ layer.weight.detach().double().numpy().T
    if bias:
        expected = expected + layer.bias.detach().double().numpy()
    np.testing.assert_allclose(y.detach().numpy(), expected, rtol=10 * tolerance, atol=10 * tolerance)


def test_linear_initial_values():
    mg.manual_seed(0)
    layer = nn.Linear(100, 2000)
    for values in (layer.weight.detach().numpy(), layer.bias.detach().numpy()):
        assert np.abs(values).max() <= 0.1 and abs(values.mean()) < 0.005
        assert values.std() == pytest.approx(0.1 / math.sqrt(3), rel=0.03)
    mg.manual_seed(0)
    assert nn.Linear(100, 2000).weight.tolist() == layer.weight.tolist()
    before = layer.weight.tolist()
    layer.reset_parameters()
    assert layer.weight.tolist() != before


def test_linear_without_inputs():
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op"):
        layer = nn.Linear(0, 2)
    assert layer(mg.zeros(3, 0)).tolist() == [[0.0, 0.0]] * 3


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((4, 6), mg.float32, r"shapes cannot be multiplied \(4x6 and 5x3\)"),
        ((4, 5), mg.float64, "must have the same dtype"),
        ((4, 5), mg.int64, "must have the same dtype"),
    ],
)
def test_linear_errors(shape, dtype, message):
    with pytest.raises(RuntimeError, match=message):
        nn.Linear(5, 3)(mg.zeros(*shape, dtype=dtype))


def test_linear_refuses_other_devices():
    with pytest.raises(RuntimeError, match="not available"):
        nn.Linear(5, 3, device="mps")


# --- shapes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Flatten(), (2, 3, 4), (2, 12)),
        (nn.Flatten(0), (2, 3, 4), (24,)),
        (nn.Flatten(0, 1), (2, 3, 4), (6, 4)),
        (nn.Flatten(), (2, 0, 4), (2, 0)),
        (nn.Unflatten(1, (3, -1)), (2, 12), (2, 3, 4)),
        (nn.Unflatten(-1, [2, 2]), (5, 4), (5, 2, 2)),
        (nn.Identity(1, 2, a=3), (2, 3), (2, 3)),
    ],
)
def test_shapes(module, shape, expected):
    x = mg.zeros(*shape)
    assert tuple(module(x).shape) == expected


@pytest.mark.parametrize("arguments", [("1", (2, 2)), (1, 4), (1, (2, 2.0))])
def test_unflatten_errors(arguments):
    with pytest.raises(TypeError):
        nn.Unflatten(*arguments)


# --- dropout ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout(p, dtype):
    kind, tolerance = DTYPES[dtype]
    x = mg.full((200, 300), 2.0, dtype=kind, requires_grad=True)
    y = F.dropout(x, p, generator=mg.Generator().manual_seed(3))
    kept = y.detach().numpy() != 0
    assert y.dtype == kind and abs(kept.mean() - (1 - p)) < 0.01
    np.testing.assert_allclose(y.detach().numpy()[kept], 2 / (1 - p), rtol=tolerance)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), kept / (1 - p), rtol=tolerance)


def test_dropout_comes_from_its_generator():
    x = mg.ones(1000)
    g = mg.Generator().manual_seed(1)
    first, second = F.dropout(x, generator=g), F.dropout(x, generator=g)
    assert first.tolist() != second.tolist()
    assert F.dropout(x, generator=g.manual_seed(1)).tolist() == first.tolist()
    mg.manual_seed(1)
    assert nn.Dropout()(x).tolist() == first.tolist()


@pytest.mark.parametrize("shape", [(), (1,), (0,), (3, 0), (7, 5)])
def test_dropout_shapes(shape):
    x = mg.ones(shape)
    assert F.dropout(x).shape == x.shape
    if len(shape) == 2:
        assert F.dropout(mg.ones(5, 7).T).shape == (7, 5)


def test_dropout_edges():
    x = mg.tensor([1.0, math.inf], requires_grad=True)
    y = F.dropout(x, 1.0)
    y.sum().backward()
    assert y.tolist() == [0.0, 0.0] and x.grad.tolist() == [0.0, 0.0]
    assert F.dropout(x, 0.0) is x and F.dropout(x, 0.5, training=False) is x
    assert nn.Dropout(0.5).eval()(x) is x


def test_dropout_in_place():
    x = mg.ones(100, requires_grad=True)
    z = x * 1
    y = nn.Dropout(0.5, inplace=True)(z)
    assert y is z and set(y.tolist()) == {0.0, 2.0}
    y.sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_dropout_has_second_derivatives():
    x = mg.randn(5, dtype=mg.float64, requires_grad=True)

    def call(x):
        return F.dropout(x, 0.5, generator=mg.Generator().manual_seed(0)) ** 2

    assert mg.autograd.gradcheck(call, (x,)) and mg.autograd.gradgradcheck(call, (x,))


@pytest.mark.parametrize("p", [-0.1, 1.1, math.nan])
def test_dropout_probability(p):
    for make in (nn.Dropout, lambda p: F.dropout(mg.ones(1), p)):
        with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
            make(p)


@pytest.mark.parametrize("x", [mg.ones(2, dtype=mg.int64), [1.0]])
def test_dropout_input(x):
    with pytest.raises(RuntimeError, match="input must be a floating-point tensor"):
        F.dropout(x)


# --- the rest of nn.functional ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (4,), (2, 3), (0,), (2, 0)])
@pytest.mark.parametrize("dtype", [mg.int64, mg.int32, mg.uint8, mg.bool_])
def test_one_hot(shape, dtype):
    classes = 2 if dtype == mg.bool_ else 5
    a = np.random.default_rng(0).integers(0, classes, shape)
    y = F.one_hot(mg.tensor(a, dtype=dtype), classes)
    assert y.dtype == mg.int64 and tuple(y.shape) == (*shape, classes)
    assert (y.numpy() == np.eye(classes, dtype=np.int64)[a]).all()


def test_one_hot_counts_classes():
    assert F.one_hot(mg.tensor([0, 2])).tolist() == [[1, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(
    ("labels", "classes", "message"),
    [
        (mg.tensor([0, -1]), 3, "Class values must be non-negative"),
        (mg.tensor([0, 3]), 3, "Class values must be smaller than num_classes"),
        (mg.tensor([], dtype=mg.int64), -1, "Can not infer total number of classes from empty tensor"),
        (mg.tensor([0.0]), 3, "only applicable to index tensors"),
    ],
)
def test_one_hot_errors(labels, classes, message):
    with pytest.raises(RuntimeError, match=message):
        F.one_hot(labels, classes)


@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, math.inf])
@pytest.mark.parametrize("dim", [0, 1])
def test_normalize(p, dim):
    a = np.random.default_rng(0).normal(size=(3, 4))
    x = mg.tensor(a, requires_grad=True)
    expected = a / np.maximum(np.linalg.norm(a, p, axis=dim, keepdims=True), 1e-12)
    np.testing.assert_allclose(F.normalize(x, p, dim).detach().numpy(), expected, rtol=1e-12)
    assert F.normalize(mg.zeros(1, 2)).tolist() == [[0.0, 0.0]]


# --- losses -----------------------------------------------------------------------------------------------------------

X = mg.tensor([[1.0, 2.0], [1.0, 3.0], [1.0, 3.0]])
LABELS = mg.tensor([0, 1, 1])
LOGITS = mg.tensor([[1.0, 2.0], [2.0, 2.0], [3.0, 4.0], [4.0, 5.0]])
TARGETS = mg.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 1.0]])
W = mg.tensor([1.0, 2.0])


@pytest.mark.parametrize(
    ("loss", "input", "target", "expected"),
    [
        (nn.CrossEntropyLoss(), X, LABELS, 0.5224),
        (nn.CrossEntropyLoss(reduction="sum"), X, LABELS, 1.5671),
        (nn.CrossEntropyLoss(weight=W), X, LABELS, 0.3642),
        (nn.CrossEntropyLoss(label_smoothing=0.1), X, LABELS, 0.5724),
        (nn.CrossEntropyLoss(W, label_smoothing=0.1), X, LABELS, 0.3948),
        (nn.CrossEntropyLoss(ignore_index=0), X, LABELS, 0.1269),
        (nn.NLLLoss(W), X, LABELS, -(1 + 6 + 6) / 5),
        (nn.NLLLoss(reduction="sum"), X, LABELS, -7.0),
        (nn.NLLLoss(ignore_index=1), X, LABELS, -1.0),
        (nn.BCEWithLogitsLoss(), LOGITS, TARGETS, 1.4732),
        (nn.BCEWithLogitsLoss(pos_weight=mg.tensor([3.0])), LOGITS, TARGETS, 1.5895),
        (nn.BCEWithLogitsLoss(reduction="sum", pos_weight=mg.tensor([1.0, 1.0])), LOGITS, TARGETS, 11.7856),
        (nn.BCEWithLogitsLoss(mg.tensor([2.0])), LOGITS, TARGETS, 2 * 1.4732),
        (nn.BCELoss(), LOGITS.sigmoid(), TARGETS, 1.4732),
        (nn.BCELoss(mg.tensor([2.0]), reduction="sum"), LOGITS.sigmoid(), TARGETS, 23.5713),
        (nn.MSELoss(), LOGITS, TARGETS, (0 + 4 + 1 + 4 + 9 + 9 + 16 + 16) / 8),
        (nn.MSELoss(reduction="sum"), LOGITS, TARGETS, 59.0),
    ],
)
def test_losses(loss, input, target, expected):
    assert loss(input, target).item() == pytest.approx(expected, abs=6e-5)


LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss, nn.MSELoss)


@pytest.mark.parametrize("loss", LOSSES)
def test_reduction_is_checked_at_once(loss):
    with pytest.raises(ValueError, match="avg is not a valid value for reduction"):
        loss(reduction="avg")
    assert repr(loss()) == f"{loss.__name__}()"


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize(
    ("arguments", "reduction"),
    [
        ({"size_average": True}, "mean"),
        ({"size_average": False}, "sum"),
        ({"reduce": False}, "none"),
        ({"reduce": True}, "mean"),
        ({"size_average": False, "reduce": False}, "none"),
    ],
)
def test_legacy_reduction(loss, arguments, reduction):
    with pytest.warns(UserWarning, match=f"please use reduction='{reduction}' instead"):
        assert loss(**arguments).reduction == reduction


def test_class_weights_are_buffers():
    loss = nn.BCEWithLogitsLoss(weight=W, pos_weight=W)
    assert list(loss.state_dict()) == ["weight", "pos_weight"]
    assert loss.double().pos_weight.dtype == mg.float64
    assert list(nn.CrossEntropyLoss().state_dict()) == []


def test_importing_everything_public():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for module in (nn, F, nn.init):
            for name in module.__all__:
                assert getattr(module, name) is not None
