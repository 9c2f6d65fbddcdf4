"""The five losses: numbers to reproduce, edge cases, NumPy references, derivatives, errors.

"S n" are the systems to reproduce; PyTorch's edge cases are in test_edge_table.py.
"""

from itertools import product

import numpy as np
import pytest

import minigrad as mg

F = mg.nn.functional
DTYPES = ("float32", "float64")
REDUCTIONS = ("none", "mean", "sum")
inf, nan = np.inf, np.nan


def tensor(values, dtype="float32", grad=False):
    return mg.tensor(np.asarray(values), dtype=getattr(mg, dtype), requires_grad=grad)


def close(got, want, tolerance=2e-6, scale=None):
    """Equal up to ``tolerance`` relative to the largest value."""
    got, want = (np.asarray(v.detach() if isinstance(v, mg.Tensor) else v, np.float64) for v in (got, want))
    size = np.abs(want[np.isfinite(want)]).max(initial=0) if scale is None else scale
    np.testing.assert_allclose(got, want, tolerance, tolerance * size)


def gradient(loss, x):
    """d loss / d x, of the sum of the losses if there are several."""
    (g,) = mg.autograd.grad(loss.sum(), (x,))
    return g


# --- the systems to reproduce -----------------------------------------------------------------------------------------

X2, T2 = [[1, 2], [2, 2], [3, 4], [4, 5]], [[1, 0], [1, 0], [0, 1], [0, 1]]
X6, T6 = [[1, 2], [1, 3], [1, 3]], [0, 1, 1]


def rounded(y):
    return np.round(y.detach().numpy().astype(float), 4).tolist()


def test_s2_bce_of_sigmoid_is_bce_with_logits():
    x, t = tensor(X2), tensor(T2)
    want = [[0.3133, 2.1269], [0.1269, 2.1269], [3.0486, 0.0181], [4.0181, 0.0067]]
    for reduction, number in (("none", want), ("sum", 11.7856), ("mean", 1.4732)):
        assert rounded(mg.nn.BCELoss(reduction=reduction)(mg.nn.Sigmoid()(x), t)) == number
        assert rounded(mg.nn.BCEWithLogitsLoss(reduction=reduction)(x, t)) == number


@pytest.mark.filterwarnings("ignore:.*output of sigmoid")
def test_s3_double_sigmoid():
    x, t = mg.nn.Sigmoid()(tensor(X2)), tensor(T2)
    want = [[0.3930, 1.2275], [0.3467, 1.2275], [1.2788, 0.3181], [1.3001, 0.3151]]
    assert rounded(mg.nn.BCEWithLogitsLoss(reduction="none")(x, t)) == want
    assert rounded(mg.nn.BCEWithLogitsLoss(reduction="sum")(x, t)) == 6.4070
    assert rounded(mg.nn.BCEWithLogitsLoss()(x, t)) == 0.8009


def test_s4_pos_weight():
    x, t = tensor(X2), tensor(T2)
    one = mg.nn.BCEWithLogitsLoss(reduction="none", pos_weight=mg.tensor([1.0]))
    assert mg.equal(one(x, t), F.binary_cross_entropy_with_logits(x, t, reduction="none"))
    three = mg.tensor([3.0])
    want = [[0.9398, 2.1269], [0.3808, 2.1269], [3.0486, 0.0544], [4.0181, 0.0201]]
    for reduction, number in (("none", want), ("sum", 12.7158), ("mean", 1.5895)):
        assert rounded(mg.nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=three)(x, t)) == number


def test_s5_bce_of_logits_is_refused():
    with pytest.raises(RuntimeError, match=r"all elements of input should be between 0 and 1: input\[0, 1\] = 2"):
        mg.nn.BCELoss()(tensor(X2), tensor(T2))


def test_s6_cross_entropy_by_hand():
    x, t = tensor(X6), mg.tensor(T6)
    for reduction, number in (("none", [1.3133, 0.1269, 0.1269]), ("sum", 1.5671), ("mean", 0.5224)):
        assert rounded(mg.nn.CrossEntropyLoss(reduction=reduction)(x, t)) == number
    assert abs(F.cross_entropy(x, t, reduction="none")[0].item() - 1.3132617) < 2e-7


def test_s7_class_weights():
    w, t = mg.tensor([1.0, 2.0]), mg.tensor(T6)
    for reduction, number in (("none", [1.3133, 0.2539, 0.2539]), ("sum", 1.8210), ("mean", 0.3642)):
        assert rounded(mg.nn.CrossEntropyLoss(weight=w, reduction=reduction)(tensor(X6), t)) == number
    x = tensor(X6, "float64", grad=True)
    loss = F.cross_entropy(x, t, w.double())
    assert abs(loss.item() - 0.364194746338) < 1e-12
    row = [0.0476811688, -0.0476811688]
    np.testing.assert_allclose(gradient(loss, x).numpy(), [[-0.1462117157, 0.1462117157], row, row], atol=1e-10)
    w = mg.tensor([0.7, 0.3])
    assert rounded(F.cross_entropy(tensor(X6), t, w, reduction="none")) == [0.9193, 0.0381, 0.0381]
    assert rounded(F.cross_entropy(tensor(X6), t, w, reduction="sum")) == 0.9954
    assert rounded(F.cross_entropy(tensor(X6), t, w)) == 0.7657


def test_s8_nll_of_log_softmax_is_cross_entropy():
    x, t = tensor(X6), mg.tensor(T6)
    for reduction in REDUCTIONS:
        nll = mg.nn.NLLLoss(reduction=reduction)(mg.nn.LogSoftmax(dim=1)(x), t)
        close(nll, F.cross_entropy(x, t, reduction=reduction), 2e-7)
        ones = mg.nn.NLLLoss(weight=mg.tensor([1.0, 1.0]), reduction=reduction)
        assert rounded(ones(x, t)) == {"none": [-1, -3, -3], "sum": -7, "mean": -2.3333}[reduction]


def test_s9_smoothing_and_probabilities():
    x, t, w = tensor(X6, "float64"), mg.tensor(T6), tensor([1, 2], "float64")
    assert abs(F.cross_entropy(x, t, label_smoothing=0.1).item() - 0.572372569868) < 1e-12
    assert abs(F.cross_entropy(x, t, w, label_smoothing=0.1).item() - 0.394788802992) < 1e-12
    probabilities = tensor([[1, 0], [0.5, 0.5], [0.2, 0.8]], "float64")
    assert abs(F.cross_entropy(x, probabilities, w).item() - 1.044041374653) < 1e-12


def test_s26_logarithms():
    x = mg.log(mg.tensor([[0.6, 0.4], [0.1, 0.9]]))
    np.testing.assert_allclose(F.nll_loss(x, [0, 0], reduction="none").numpy(), [0.5108256, 2.3025851], rtol=1e-6)


# --- by label, against NumPy ------------------------------------------------------------------------------------------

SHAPES = [(5, 3), (1, 3), (5, 1), (5, 2), (3,), (1,), (4, 3, 6), (2, 4, 3, 5), (4, 1000), (3, 130, 2), (0, 3), (300, 7)]
TOLERANCE = {"float32": 3e-6, "float64": 1e-13}


def channels(shape):
    """(number of classes, shape of the labels)."""
    return (shape[0], ()) if len(shape) == 1 else (shape[1], (shape[0], *shape[2:]))


def log_softmax(x):
    m = x.max(1, keepdims=True)
    return x - m - np.log(np.exp(x - m).sum(1, keepdims=True))


def row_losses(x, q):
    """-sum(q log_softmax(x)) of each row, and its derivative; x, q (N, C)."""
    log_p = log_softmax(x) if x.size else x
    return -(q * log_p).sum(1), q.sum(1, keepdims=True) * np.exp(log_p) - q


def label_reference(name, x, target, weight, ignore, smoothing, reduction):
    """Losses and their derivatives in float64 by the formulas of Bishop 2006, 4.3.4 and Szegedy 2016, 7."""
    c, label_shape = channels(x.shape)
    rows = np.moveaxis(x.astype(float), 0 if x.ndim == 1 else 1, -1).reshape(-1, c)
    labels = np.asarray(target).reshape(-1)
    w = np.ones(c) if weight is None else weight.astype(float)
    kept = labels != ignore
    hit = np.zeros(rows.shape)
    hit[np.arange(len(rows))[kept], labels[kept]] = w[labels[kept]]
    if name == "nll_loss":
        loss, g = -(np.where(hit != 0, rows, 0) * hit).sum(1), -hit
    else:
        q = (1 - smoothing) * hit + smoothing / c * w * kept[:, None]
        loss, g = row_losses(rows, q)
    if reduction == "mean":
        total = w[labels[kept]].sum()
        loss, g = np.asarray(loss.sum() / total if total else nan), g / total if total else g
    elif reduction == "sum":
        loss = loss.sum()
    else:
        loss = loss.reshape(label_shape)
    shape = label_shape + (c,)
    return loss, np.moveaxis(g.reshape(shape), -1, 0 if x.ndim == 1 else 1)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels(name, shape, dtype):
    rng = np.random.default_rng(0)
    c, label_shape = channels(shape)
    values = rng.normal(0, 2, shape).astype(dtype)
    labels = rng.integers(0, c, label_shape)
    labels = np.where(rng.random(label_shape) < 0.2, -100, labels) if label_shape else labels
    for weighted, ignore, reduction, smoothing in product((False, True), (-100, 0), REDUCTIONS, (0, 0.1, 1)):
        if smoothing and name == "nll_loss":
            continue
        target = labels if ignore == -100 else np.where(labels == -100, 0, labels)
        weight = rng.uniform(0.5, 2, c).astype(dtype) if weighted else None
        options = {"reduction": reduction, "ignore_index": ignore}
        if name == "cross_entropy":
            options["label_smoothing"] = smoothing
        x = tensor(values, dtype, grad=True)
        loss = getattr(F, name)(x, target, None if weight is None else mg.tensor(weight), **options)
        want, slope = label_reference(name, values, target, weight, ignore, smoothing, reduction)
        assert loss.shape == want.shape and loss.dtype is x.dtype
        close(loss, want, TOLERANCE[dtype])
        if reduction == "none":
            up = rng.normal(size=label_shape)
            loss.backward(tensor(up, dtype))
            close(x.grad, slope * np.expand_dims(up, 0 if len(shape) == 1 else 1), TOLERANCE[dtype], 1)
        else:
            (loss * 3).backward()
            close(x.grad, 3 * slope, TOLERANCE[dtype], 1)
        with mg.no_grad():
            alone = getattr(F, name)(x, target, None if weight is None else mg.tensor(weight), **options)
        assert alone.numpy().tobytes() == loss.detach().numpy().tobytes()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities(shape, dtype):
    rng = np.random.default_rng(1)
    c, label_shape = channels(shape)
    axis = 0 if len(shape) == 1 else 1
    values, target = rng.normal(0, 2, shape).astype(dtype), rng.random(shape).astype(dtype)
    rows, t = (np.moveaxis(v.astype(float), axis, -1).reshape(-1, c) for v in (values, target))
    for weighted, reduction, smoothing in product((False, True), REDUCTIONS, (0, 0.1, 1)):
        weight = rng.uniform(0.5, 2, c).astype(dtype) if weighted else None
        q = (1 - smoothing) * t + smoothing / c
        want, slope = row_losses(rows, q if weight is None else q * weight)
        slope_t = -(1 - smoothing) * (log_softmax(rows) if rows.size else rows) * (1 if weight is None else weight)
        divisor = max(len(rows), 1) if reduction == "mean" else 1
        want = want.reshape(label_shape) if reduction == "none" else want.sum() / (len(rows) or nan if divisor else 1)
        if reduction == "sum":
            want = row_losses(rows, q if weight is None else q * weight)[0].sum()
        for wanted in (False, True):  # the fused kernel, the formula
            x, p = tensor(values, dtype, grad=True), tensor(target, dtype, grad=wanted)
            w = None if weight is None else mg.tensor(weight)
            loss = F.cross_entropy(x, p, w, reduction=reduction, label_smoothing=smoothing)
            assert loss.shape == np.shape(want) and loss.dtype is x.dtype
            close(loss, want, TOLERANCE[dtype])
            loss.sum().backward()
            for g, s in ((x.grad, slope), (p.grad, slope_t))[: 1 + wanted]:
                close(g, np.moveaxis((s / divisor).reshape(label_shape + (c,)), -1, axis), TOLERANCE[dtype])


def test_one_hot_probabilities_are_labels():
    x = mg.randn(6, 4, dtype=mg.float64)
    labels = mg.tensor([0, 3, 1, 1, 2, 0])
    for options in ({}, {"label_smoothing": 0.2}, {"reduction": "sum"}):
        close(
            F.cross_entropy(x, mg.eye(4, dtype=mg.float64)[labels], **options),
            F.cross_entropy(x, labels, **options).item(),
            1e-14,
        )


def test_one_label_in_one_dimension():
    """(C,) takes a label () or (1,), and gives a loss ()."""
    x = mg.randn(4)
    for loss, reduction in product((F.cross_entropy, F.nll_loss), REDUCTIONS):
        a, b = loss(x, mg.tensor(2), reduction=reduction), loss(x, mg.tensor([2]), reduction=reduction)
        assert a.shape == b.shape == () and a.item() == b.item()


# --- elementwise, against NumPy ---------------------------------------------------------------------------------------

FLAT = [(), (1,), (7,), (3, 4), (2, 3, 4), (0,), (2, 0), (4095,), (4096,), (4097,), (3, 5000)]


def elementwise(name, x, t, q):
    """Losses and slopes by x and by t, in float64."""
    if name == "mse_loss":
        return (x - t) ** 2, 2 * (x - t), 2 * (t - x)
    if name == "binary_cross_entropy":
        return -t * np.log(x) - (1 - t) * np.log1p(-x), (x - t) / (x * (1 - x)), np.log1p(-x) - np.log(x)
    plus, minus = np.logaddexp(0, x), np.logaddexp(0, -x)
    return q * t * minus + (1 - t) * plus, (1 - t) * np.exp(-minus) - q * t * np.exp(-plus), q * minus - plus


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", FLAT, ids=str)
@pytest.mark.parametrize("name", ["mse_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits"])
def test_elementwise(name, shape, dtype):
    rng = np.random.default_rng(2)
    bce = name == "binary_cross_entropy"
    values = np.asarray(rng.uniform(0.1, 0.9, shape) if bce else rng.normal(0, 2, shape), dtype)
    target = np.asarray(rng.random(shape), dtype)
    sizes = [None, shape, shape[-1:], ()]
    for size, positive, reduction in product(sizes, sizes[:3] if "logits" in name else [None], REDUCTIONS):
        w, q = (None if s is None else np.asarray(rng.uniform(0.5, 2, s), dtype) for s in (size, positive))
        options = {"reduction": reduction, "weight": None if w is None else mg.tensor(w)}
        if q is not None:
            options["pos_weight"] = mg.tensor(q)
        w = np.broadcast_to(np.float64(1) if w is None else w.astype(float), shape)
        want, *slopes = elementwise(
            name, values.astype(float), target.astype(float), 1 if q is None else q.astype(float)
        )
        divisor = 1
        if reduction == "mean":  # of mse with weights: their sum
            divisor = (w.sum() if name == "mse_loss" else np.size(want)) or nan
        losses = want * w
        want = losses if reduction == "none" else losses.sum() / divisor
        for wanted in (False, True):
            x, t = tensor(values, dtype, grad=True), tensor(target, dtype, grad=wanted)
            loss = getattr(F, name)(x, t, **options)
            assert loss.shape == np.shape(want) and loss.dtype is x.dtype
            with np.errstate(invalid="ignore"):
                close(loss, want if np.size(losses) or reduction != "mean" else nan, TOLERANCE[dtype])
            up = np.asarray(rng.normal(size=loss.shape))
            loss.backward(tensor(up, dtype))
            for g, s in zip((x.grad, t.grad), slopes[: 1 + wanted]):
                close(g, up * s * w / divisor, 3 * TOLERANCE[dtype])
            with mg.no_grad():
                alone = getattr(F, name)(x, t, **options)
            if not wanted:
                assert alone.numpy().tobytes() == loss.detach().numpy().tobytes()


# --- layouts, memory, modes -------------------------------------------------------------------------------------------


def layouts(x):
    """Tensors with the values of x (N, C) in other layouts."""
    n, c = x.shape
    wide = mg.zeros(2 * n, 3 * c, dtype=x.dtype)
    wide[::2, 1::3] = x
    frozen = x.numpy().copy()
    frozen.flags.writeable = False
    return {
        "transposed": x.T.clone().T,
        "strided": wide[::2, 1::3],
        "offset": mg.cat([x[:1], x])[1:],
        "read-only": mg.from_numpy(frozen),
        "big-endian": mg.tensor(x.numpy().astype(x.numpy().dtype.newbyteorder(">"))),
        "channels": x.reshape(n, c, 1).permute(2, 0, 1)[0],
    }


LOSSES = {
    "cross_entropy": lambda x, t: F.cross_entropy(x, t.argmax(1)),
    "smoothed": lambda x, t: F.cross_entropy(x, t.argmax(1), t[0], label_smoothing=0.1, ignore_index=1),
    "probabilities": lambda x, t: F.cross_entropy(x, t, t[1], label_smoothing=0.1),
    "nll": lambda x, t: F.nll_loss(x, t.argmax(1), t[0]),
    "bce": lambda x, t: F.binary_cross_entropy(x, t, t[0]),
    "bce_with_logits": lambda x, t: F.binary_cross_entropy_with_logits(x, t, t[:, :1], pos_weight=t[0]),
    "mse": lambda x, t: F.mse_loss(x, t),
    "mse weighted": lambda x, t: F.mse_loss(x, t, weight=t[0]),
    "ce none": lambda x, t: F.cross_entropy(x, t.argmax(1), reduction="none"),
    "probabilities none": lambda x, t: F.cross_entropy(x, t, reduction="none"),
    "bce none": lambda x, t: F.binary_cross_entropy(x, t, reduction="none"),
    "bce_with_logits sum": lambda x, t: F.binary_cross_entropy_with_logits(x, t, reduction="sum"),
    "mse none": lambda x, t: F.mse_loss(x, t, reduction="none"),
    "ce volumes": lambda x, t: F.cross_entropy(x.reshape(2, -1, 3), t.reshape(2, -1, 3).argmax(1), reduction="none"),
    "nll volumes": lambda x, t: F.nll_loss(x.reshape(2, -1, 3), t.reshape(2, -1, 3).argmax(1), reduction="sum"),
    "one row": lambda x, t: F.cross_entropy(x[0], t[0].argmax(0)),
}  # fmt: skip


@pytest.fixture
def pair():
    rng = np.random.default_rng(3)
    return tensor(rng.uniform(0.1, 0.9, (4, 6)), "float64"), tensor(rng.uniform(0.1, 0.9, (4, 6)), "float64")


@pytest.mark.parametrize("name", list(LOSSES))
def test_layouts(name, pair):
    x, t = pair
    x.requires_grad_(True)
    want = LOSSES[name](x, t)
    slope = gradient(want, x)
    for layout, other in layouts(x.detach()).items():
        other = other.detach().requires_grad_(True)
        loss = LOSSES[name](other, t)
        assert mg.equal(loss, want), layout
        assert mg.equal(gradient(loss, other), slope), layout
    for layout, other in layouts(t).items():
        assert mg.equal(LOSSES[name](x, other), want), layout


@pytest.mark.parametrize("name", list(LOSSES))
def test_expanded_logits(name, pair):
    _, t = pair
    row = mg.linspace(0.1, 0.9, 6, dtype=mg.float64).requires_grad_(True)
    full = row.detach().expand(4, 6).clone().requires_grad_(True)
    loss, want = LOSSES[name](row.expand(4, 6), t), LOSSES[name](full, t)
    assert mg.equal(loss, want)
    close(gradient(loss, row), gradient(want, full).sum(0).numpy(), 1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
def test_no_grad_has_the_same_bits(name, pair):
    for dtype in DTYPES:
        x, t = (v.to(getattr(mg, dtype)) for v in pair)
        loss = LOSSES[name](x.requires_grad_(True), t)
        assert loss.requires_grad
        with mg.no_grad():
            assert mg.equal(LOSSES[name](x, t), loss)
        alone = LOSSES[name](x.detach(), t)
        assert mg.equal(alone, loss) and not alone.requires_grad


@pytest.mark.parametrize("name", list(LOSSES))
def test_upstream_and_retain_graph(name, pair):
    x, t = pair
    x.requires_grad_(True)
    loss = LOSSES[name](x, t)
    loss.sum().backward(retain_graph=True)
    once = x.grad.clone()
    loss.sum().backward(retain_graph=True)
    close(x.grad, 2 * once.numpy(), 1e-14)
    x.grad = None
    (loss.sum() * -2.5).backward(retain_graph=True)
    close(x.grad, -2.5 * once.numpy(), 1e-14)
    x.grad = None
    loss.backward(mg.zeros_like(loss))
    assert mg.equal(x.grad, mg.zeros_like(x))
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.sum().backward()


@pytest.mark.parametrize("name", list(LOSSES))
def test_gradient_is_not_shared(name, pair):
    """What backward hands out may be changed without changing what a second backward hands out."""
    x, t = pair
    loss = LOSSES[name](x.requires_grad_(True), t)
    loss.sum().backward(retain_graph=True)
    once = x.grad.clone()
    x.grad.zero_()
    x.grad = None
    loss.sum().backward()
    assert mg.equal(x.grad, once)


@pytest.mark.parametrize("name", list(LOSSES))
def test_recorded_backward_has_the_same_values(name, pair):
    x, t = pair
    x.requires_grad_(True)
    loss = LOSSES[name](x, t)
    up = mg.randn(*loss.shape, dtype=mg.float64)
    (plain,) = mg.autograd.grad(loss, (x,), (up,), retain_graph=True)
    (recorded,) = mg.autograd.grad(loss, (x,), (up,), create_graph=True)
    assert not plain.requires_grad
    close(recorded, plain.numpy(), 1e-13)


@pytest.mark.parametrize("what", ["x", "x and t"])
@pytest.mark.parametrize("name", list(LOSSES))
def test_gradcheck(name, what, pair):
    x, t = pair
    x.requires_grad_(True)
    labels = "argmax" in LOSSES[name].__code__.co_names
    if what == "x and t" and not labels:
        t.requires_grad_(True)
    assert mg.autograd.gradcheck(LOSSES[name], (x, t))
    if name in ("nll", "nll volumes"):
        return  # linear
    assert mg.autograd.gradgradcheck(LOSSES[name], (x, t), fast_mode=True)


def test_gradients_of_class_weights(pair):
    """PyTorch refuses them for labels."""
    x, t = pair
    w = t[1].clone().requires_grad_(True)
    labels = mg.tensor([0, 5, -100, 2])
    for loss in (
        lambda x, w: F.cross_entropy(x, labels, w),
        lambda x, w: F.cross_entropy(x, labels, w, label_smoothing=0.1, reduction="none"),
        lambda x, w: F.nll_loss(x, labels, w),
        lambda x, w: F.cross_entropy(x, t, w),
        lambda x, w: F.cross_entropy(x, t, mg.stack([w, w], 1)[:, 0]),
        lambda x, w: F.cross_entropy(x, labels, mg.stack([w, w], 1)[:, 0]),
    ):
        assert mg.autograd.gradcheck(loss, (x.requires_grad_(True), w))
        with mg.no_grad():
            alone = loss(x, w)
        close(loss(x, w), alone.numpy(), 1e-14)
    for loss in (
        lambda x, w: F.binary_cross_entropy(x, t, w),
        lambda x, w: F.binary_cross_entropy_with_logits(x, t, pos_weight=w),
        lambda x, w: F.binary_cross_entropy_with_logits(x, t, w),
        lambda x, w: F.mse_loss(x, t, weight=w),
    ):
        assert mg.autograd.gradcheck(loss, (x, w))


def test_bce_at_the_bounds_by_every_way():
    """Gradients at 0 and 1 do not depend on what else is differentiated."""
    x, t = tensor([0, 1, 0, 1], "float64", grad=True), tensor([1, 0, 0, 1], "float64")
    want = [-1e12, 1e12, 0, 0]
    loss = F.binary_cross_entropy(x, t, reduction="sum")
    assert mg.autograd.grad(loss, (x,), create_graph=True)[0].tolist() == want
    t.requires_grad_(True)
    g = mg.autograd.grad(F.binary_cross_entropy(x, t, reduction="sum"), (x, t))
    assert g[0].tolist() == want
    assert g[1].tolist() == [100, -100, 100, -100]  # of the clamped loss; PyTorch's are infinite


def test_same_tensor_as_input_and_target():
    for loss in (F.mse_loss, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.cross_entropy):
        x = tensor([[0.2, 0.5], [0.4, 0.9]], "float64", grad=True)
        y = x.detach().clone().requires_grad_(True)
        loss(x, x).backward()
        other = y * 1
        loss(y, other).backward()
        close(x.grad, y.grad.numpy(), 1e-14)


@pytest.mark.parametrize("name", list(LOSSES))
def test_in_place_changes_are_noticed(name, pair):
    """Between forward and backward, neither the logits nor a target may change unnoticed."""
    if "volumes" in name:
        return  # copied anyway
    x, t = pair
    x.requires_grad_(True)
    logits = x * 1
    loss = LOSSES[name](logits, t)
    with mg.no_grad():
        logits.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.sum().backward()
    if "argmax" not in LOSSES[name].__code__.co_names:
        loss = LOSSES[name](x, t)
        t.mul_(0.5)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            mg.autograd.grad(loss.sum(), (x,), create_graph=True)


def test_nan_and_inf_stay_where_they_are():
    for bad in (nan, inf):
        x = tensor([[1, 2, 3], [1, bad, 3], [3, 2, 1]], "float32", grad=True)
        loss = F.cross_entropy(x, [0, 1, 2], reduction="none")
        assert loss.isnan().tolist() == [False, True, False]
        assert gradient(loss, x).isnan().any(1).tolist() == [False, True, False]
        ignored = F.cross_entropy(x, [0, -100, 2])
        assert np.isfinite(ignored.item()) and gradient(ignored, x)[1].tolist() == [0, 0, 0]
    x = tensor([1, nan, inf], grad=True)
    loss = F.mse_loss(x, mg.zeros(3), reduction="none")
    assert loss[0].item() == 1 and loss[1].isnan() and loss[2].item() == inf
    loss = F.binary_cross_entropy_with_logits(x, mg.zeros(3), reduction="none")
    assert loss[1].isnan() and gradient(loss, x)[1].isnan() and loss[2].item() == inf


def test_large_batches_sum_exactly():
    """The mean of many float32 losses is that of a float64 sum."""
    x = mg.rand(200_000, 2)
    t = mg.zeros(200_000, dtype=mg.int64)
    each = F.cross_entropy(x, t, reduction="none").numpy().astype(float)
    assert abs(F.cross_entropy(x, t).item() - each.mean()) < 1e-7
    a, b = mg.rand(1_000_001), mg.rand(1_000_001)
    exact = ((a.numpy().astype(float) - b.numpy()) ** 2).mean()
    assert abs(F.mse_loss(a, b).item() - exact) < 1e-7


# --- what is refused, and how -----------------------------------------------------------------------------------------

X = mg.ones(3, 5)
REFUSED = {
    "logits list": (
        lambda: F.cross_entropy([[1.0]], [0]),
        TypeError,
        "cross_entropy: input must be a Tensor, got list",
    ),
    "nll list": (lambda: F.nll_loss([[1.0]], [0]), TypeError, "nll_loss: input must be a Tensor, got list"),
    "bce list": (
        lambda: F.binary_cross_entropy([0.5], [0.0]),
        TypeError,
        "binary_cross_entropy: input must be a Tensor",
    ),
    "mse list": (lambda: F.mse_loss([0.5], mg.ones(1)), TypeError, "mse_loss: input must be a Tensor, got list"),
    "no target": (lambda: F.cross_entropy(X, None), TypeError, "target must be a Tensor, .* got NoneType"),
    "0-d logits": (lambda: F.cross_entropy(mg.tensor(1.0), mg.tensor(0)), ValueError, r"got shape \[\]"),
    "0-d nll": (lambda: F.nll_loss(mg.tensor(1.0), mg.tensor(0)), ValueError, r"got shape \[\]"),
    "0-d target": (lambda: F.cross_entropy(X, mg.tensor(0)), ValueError, r"target batch_size \(0\)"),
    "column": (lambda: F.cross_entropy(X, mg.zeros(3, 1, dtype=mg.int64)), RuntimeError, r"target.squeeze\(1\)"),
    "two labels": (
        lambda: F.cross_entropy(X[0], [1, 2]),
        ValueError,
        "1D target must have size 1, but got target size: 2",
    ),
    "two dims": (lambda: F.nll_loss(mg.ones(2, 3, 4), [0, 1]), RuntimeError, r"target size \[2, 4\] .*got \[2\]"),
    "no labels": (lambda: F.cross_entropy(X, []), ValueError, r"batch_size \(3\) to match target batch_size \(0\)"),
    "ragged": (lambda: F.cross_entropy(X, [[1], [1, 2], []]), ValueError, None),
    "smoothing": (
        lambda: F.cross_entropy(X, [0, 1, 2], label_smoothing=1.5),
        RuntimeError,
        "between 0.0 and 1.0. Got: 1.5",
    ),
    "nan smoothing": (lambda: F.cross_entropy(X, [0, 1, 2], label_smoothing=nan), RuntimeError, "Got: nan"),
    "ignore": (lambda: F.cross_entropy(X, X, ignore_index=1), RuntimeError, "not supported for floating point target"),
    "wide target": (
        lambda: F.cross_entropy(X, mg.ones(3, 4)),
        RuntimeError,
        r"shape \[3, 4\]: .*input's shape \[3, 5\]",
    ),
    "int bce": (
        lambda: F.binary_cross_entropy(mg.ones(2, dtype=mg.int64), mg.ones(2)),
        RuntimeError,
        "got minigrad.int64",
    ),
    "bce weight": (
        lambda: F.binary_cross_entropy(X * 0.5, X, mg.ones(3)),
        RuntimeError,
        r"weight of shape \[3\] .*\[3, 5\]",
    ),
    "pos_weight": (
        lambda: F.binary_cross_entropy_with_logits(mg.ones(3, 2), mg.ones(3, 2), pos_weight=mg.ones(3)),
        RuntimeError,
        r"pos_weight of shape \[3\] does not broadcast to the input's shape \[3, 2\]",
    ),
    "large weight": (
        lambda: F.mse_loss(mg.ones(2), mg.ones(2), weight=mg.ones(3, 2)),
        ValueError,
        r"weight of shape \[3, 2\]",
    ),
    "bool logits": (lambda: F.cross_entropy(mg.ones(2, 2) > 0, [0, 1]), NotImplementedError, "minigrad.bool"),
    "complex target": (lambda: F.mse_loss(mg.ones(2), np.ones(2, complex)), TypeError, "complex"),
    "text target": (lambda: F.cross_entropy(X, ["a", "b", "c"]), (TypeError, ValueError), None),
    "object target": (lambda: F.cross_entropy(X, np.array([1, None, 2], object)), (TypeError, ValueError), None),
}


@pytest.mark.parametrize("name", list(REFUSED))
def test_refused(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        call()


@pytest.mark.parametrize(("average", "reduce"), list(product((None, True, False), repeat=2))[1:])
def test_deprecated_arguments(average, reduce):
    want = "none" if reduce is False else "sum" if average is False else "mean"
    with pytest.warns(UserWarning, match=f"please use reduction='{want}' instead") as caught:
        loss = F.cross_entropy(X, [0, 1, 2], size_average=average, reduce=reduce)
    assert caught[0].filename == __file__
    assert mg.equal(loss, F.cross_entropy(X, [0, 1, 2], reduction=want))


def test_labels_may_be_empty_without_classes():
    none = mg.zeros(0, 0).requires_grad_(True)
    assert F.cross_entropy(none, mg.zeros(0, dtype=mg.int64), reduction="sum").item() == 0


def test_promotion():
    x32, t64 = mg.randn(3, 2), mg.rand(3, 2, dtype=mg.float64)
    assert F.cross_entropy(x32, t64).dtype is mg.float64
    assert F.cross_entropy(x32, t64.float(), mg.ones(2, dtype=mg.float64)).dtype is mg.float64
    assert F.binary_cross_entropy_with_logits(x32, t64).dtype is mg.float64
    assert F.binary_cross_entropy(x32.sigmoid(), t64).dtype is mg.float32
    x32.requires_grad_(True)
    for loss in (F.cross_entropy, F.binary_cross_entropy_with_logits, F.mse_loss):
        assert gradient(loss(x32, t64), x32).dtype is mg.float32


SHAPES_REFUSED = {  # function: arguments, what the error says
    "cosine_embedding_loss": [((4, 3), (5, 3), (4,)), r"input1 \[4, 3\], input2 \[5, 3\]"],
    "triplet_margin_loss": [((4, 3), (5, 3), (4, 3)), r"anchor \[4, 3\], positive \[5, 3\], negative \[4, 3\]"],
    "multilabel_soft_margin_loss": [((4, 3), (5, 3)), r"input \[4, 3\], target \[5, 3\]"],
    "margin_ranking_loss": [((4, 3), (5, 3), (4, 3)), r"input1 \[4, 3\], input2 \[5, 3\]"],
    "pairwise_distance": [((4, 3), (5, 3)), r"x1 \[4, 3\], x2 \[5, 3\]"],
    "cosine_similarity": [((4, 3), (5, 3)), r"x1 \[4, 3\], x2 \[5, 3\]"],
}


@pytest.mark.parametrize("name", SHAPES_REFUSED)
def test_shapes_that_do_not_broadcast_are_named(name):
    shapes, message = SHAPES_REFUSED[name]
    with pytest.raises(RuntimeError, match=f"^{name}: {message}.* do not broadcast"):
        getattr(F, name)(*map(mg.ones, shapes))
    if name == "cosine_embedding_loss":
        with pytest.raises(RuntimeError, match="target has 5 labels for the 4 rows"):
            F.cosine_embedding_loss(mg.ones(4, 3), mg.ones(4, 3), mg.ones(5))


def test_each_distance_of_a_triplet_has_its_own_width():
    """Of shapes (N, 1), (N, 1), (N, 3) the first distance is of one number, as in PyTorch."""
    a, p, n = mg.tensor([[2.0]], requires_grad=True), mg.tensor([[5.0]]), mg.tensor([[2.0, 2.0, 2.0]])
    loss = F.triplet_margin_loss(a, p, n, eps=0.0)
    assert loss.item() == 4 and gradient(loss, a).tolist() == [[-1]]
