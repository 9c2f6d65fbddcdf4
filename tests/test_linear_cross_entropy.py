"""linear_cross_entropy: values and gradients against NumPy, chunks, strides, memory, threads, errors."""

from itertools import product

import numpy as np
import pytest

import minigrad as mg

from .processes import run_with_threads

F = mg.nn.functional
Options = mg.nn.LinearCrossEntropyOptions
TOLERANCE = {"float32": 1e-5, "float64": 1e-13}


def reference(x, w, b, target, weight, ignore, smoothing, reduction):
    """The loss and dx, dw, db in float64: x (N, D), w (C, D), target (N,) or (N, C)."""
    logits = x @ w.T + b
    m = logits.max(1, keepdims=True, initial=-np.inf)
    logp = logits - m - np.log(np.exp(logits - m).sum(1, keepdims=True))
    rows, c = logp.shape
    kept = np.ones(rows, bool) if target.ndim == 2 else target != ignore
    hot = target if target.ndim == 2 else np.eye(c)[np.where(kept, target, 0)]
    q = weight * (hot * (1 - smoothing) + smoothing / c) * kept[:, None]
    if target.ndim == 1:
        q = ((1 - smoothing) * hot * weight + smoothing / c * weight) * kept[:, None]
    loss, g = -(q * logp).sum(1), q.sum(1, keepdims=True) * np.exp(logp) - q
    if reduction == "mean":
        total = rows if target.ndim == 2 else (hot * weight)[kept].sum()
        loss, g = loss.sum() / total, g / total
    elif reduction == "sum":
        loss = loss.sum()
    else:
        g = g * np.cos(np.arange(rows))[:, None]
    return loss, g @ w, g.T @ x, g.sum(0)


def close(got, want, dtype):
    want = np.asarray(want)
    size = np.abs(want).max(initial=1e-3)
    np.testing.assert_allclose(got.detach().numpy(), want, TOLERANCE[dtype], TOLERANCE[dtype] * size)


@pytest.mark.parametrize("dtype", TOLERANCE)
@pytest.mark.parametrize("reduction", ["none", "mean", "sum"])
def test_against_numpy(reduction, dtype):
    rng = np.random.default_rng(0)
    for kind, smoothing, weighted, chunk in product(("labels", "probabilities"), (0.0, 0.1), (False, True), (1, 4, 99)):
        x, w, b = rng.normal(size=(10, 4)), rng.normal(size=(6, 4)), rng.normal(size=6)
        weight = rng.uniform(0.5, 2, 6) if weighted else np.ones(6)
        target = rng.random((10, 6)) if kind == "probabilities" else rng.integers(0, 6, 10)
        want = reference(x, w, b, target, weight, 2, smoothing, reduction)
        inputs = [mg.tensor(v, dtype=getattr(mg, dtype), requires_grad=True) for v in (x, w, b)]
        t = mg.tensor(target, dtype=getattr(mg, dtype)) if kind == "probabilities" else mg.tensor(target)
        options = {"reduction": reduction, "label_smoothing": smoothing, "options": Options(batch_chunk_size=chunk)}
        if kind == "labels":
            options["ignore_index"] = 2
        if weighted:
            options["weight"] = mg.tensor(weight, dtype=getattr(mg, dtype))
        loss = F.linear_cross_entropy(inputs[0], inputs[1], t, linear_bias=inputs[2], **options)
        upstream = mg.tensor(np.cos(np.arange(10)), dtype=loss.dtype) if reduction == "none" else None
        for got, expected in zip((loss, *mg.autograd.grad(loss, inputs, upstream)), want, strict=True):
            assert got.dtype is inputs[0].dtype
            close(got, expected, dtype)
        with mg.no_grad():
            alone = F.linear_cross_entropy(inputs[0], inputs[1], t, linear_bias=inputs[2], **options)
        assert not alone.requires_grad
        close(alone, want[0], dtype)


def make(*shapes):
    rng = np.random.default_rng(1)
    return [mg.tensor(rng.normal(size=s), requires_grad=True) for s in shapes]


def plain(x, w, t, linear_bias=None, **options):
    return F.cross_entropy(F.linear(x, w, linear_bias), t, **options)


def agree(ours, theirs, inputs):
    """Losses and gradients of two ways to compute agree."""
    dy = mg.cos(mg.arange(ours.numel(), dtype=ours.dtype)).reshape(ours.shape) + 0.1
    found = [(y, *mg.autograd.grad(y, inputs, dy)) for y in (ours, theirs)]
    for a, b in zip(*found, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), 1e-11, 1e-13)


def test_leading_dimensions_beyond_pytorch():
    x, w, b = make((2, 3, 4), (5, 4), 5)
    for t in (mg.tensor([[0, 1, 2], [3, 4, -100]]), mg.rand(2, 3, 5, dtype=mg.float64)):
        flat = t.reshape(6, 5) if t.is_floating_point() else t.reshape(6)
        for reduction in ("mean", "none"):
            ours = F.linear_cross_entropy(x, w, t, linear_bias=b, reduction=reduction)
            theirs = plain(x.reshape(6, 4), w, flat, b, reduction=reduction)
            agree(ours, theirs.reshape(2, 3) if reduction == "none" else theirs, (x, w, b))
    (second,) = mg.autograd.grad(F.linear_cross_entropy(x, w, t[..., 0] > 0.5), (x,), create_graph=True)
    assert second.requires_grad and second.shape == x.shape


def test_layouts():
    rng = np.random.default_rng(2)
    t = mg.tensor([1, 0, 3])
    bases = mg.tensor(rng.normal(size=(4, 3))), mg.tensor(rng.normal(size=(3, 6, 8)))
    x, w = bases[0].t().requires_grad_(True), bases[1][0, :5, ::2].requires_grad_(True)
    assert not x.is_contiguous() and not w.is_contiguous()
    agree(F.linear_cross_entropy(x, w, t), plain(x, w, t), (x, w))
    w = mg.tensor(rng.normal(size=(4, 5))).t().requires_grad_(True)
    b = mg.tensor(rng.normal(size=(5, 2)))[:, 0].requires_grad_(True)
    agree(F.linear_cross_entropy(x, w, t[::1], linear_bias=b), plain(x, w, t, b), (x, w, b))
    labels = mg.tensor([[1, 9], [0, 9], [3, 9]], dtype=mg.int32)[:, 0]
    agree(F.linear_cross_entropy(x, w, labels), plain(x, w, t), (x, w))
    assert F.linear_cross_entropy(x, w, [1, 0, 3]).item() == F.linear_cross_entropy(x, w, t).item()


def test_one_tensor_twice():
    (x,) = make((4, 4))
    t = mg.tensor([0, 1, 2, 3])
    agree(F.linear_cross_entropy(x, x, t), plain(x, x, t), (x,))
    found = [mg.autograd.grad(f(x, x, t), (x,), create_graph=True)[0] for f in (F.linear_cross_entropy, plain)]
    np.testing.assert_allclose(found[0].detach().numpy(), found[1].detach().numpy(), 1e-11)


@pytest.mark.parametrize("reduction", ["none", "mean"])
def test_derivatives(reduction):
    x, w, b = make((3, 2), (4, 2), 4)
    t = mg.tensor([0, 3, -100])

    def loss(x, w, b):
        return F.linear_cross_entropy(x, w, t, linear_bias=b, reduction=reduction, label_smoothing=0.1)

    assert mg.autograd.gradcheck(loss, (x, w, b))
    found = []
    for y in (loss(x, w, b), plain(x, w, t, b, reduction=reduction, label_smoothing=0.1)):
        first = mg.autograd.grad((y * y).sum(), (x, w, b), create_graph=True)
        found.append(mg.autograd.grad(sum((g * g).sum() for g in first), (x, w, b)))
    for got, want in zip(*found, strict=True):
        np.testing.assert_allclose(got.numpy(), want.numpy(), 1e-10)


def test_backward_again_and_scaled():
    x, w = make((3, 2), (4, 2))
    t = mg.tensor([0, 3, 1])
    for reduction in ("sum", "none"):
        y = F.linear_cross_entropy(x, w, t, reduction=reduction).sum()
        one = mg.autograd.grad(y, (x, w), retain_graph=True)
        three = mg.autograd.grad(y, (x, w), mg.tensor(3.0, dtype=mg.float64), retain_graph=True)
        for a, b in zip(one, three, strict=True):
            np.testing.assert_allclose(3 * a.numpy(), b.numpy(), 1e-14)
        w.grad = None
        y.backward(retain_graph=True)
        y.backward()
        np.testing.assert_allclose(w.grad.numpy(), 2 * one[1].numpy(), 1e-14)
        with pytest.raises(RuntimeError, match="second time"):
            y.backward()
    y = F.linear_cross_entropy(x, w, t)
    with mg.no_grad():
        w.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.backward()


def test_corners():
    x, w = make((3, 2), (4, 2))
    ignored = F.linear_cross_entropy(x, w, mg.full((3,), -100))
    assert ignored.isnan() and all((g == 0).all() for g in mg.autograd.grad(ignored, (x, w)))
    empty = mg.zeros(0, 2, dtype=mg.float64)
    for reduction, want in (("mean", np.nan), ("sum", 0.0)):
        y = F.linear_cross_entropy(empty, w, mg.zeros(0, dtype=mg.int64), reduction=reduction)
        np.testing.assert_equal(y.item(), want)
        assert (mg.autograd.grad(y, (w,))[0] == 0).all()
    y = F.linear_cross_entropy(x, mg.zeros(4, 0, 2, dtype=mg.float64), mg.zeros(3, 0, dtype=mg.int64))  # no positions
    assert y.isnan() and (mg.autograd.grad(y, (x,))[0] == 0).all()
    none = mg.zeros(3, 0, dtype=mg.float64), mg.zeros(4, 0, dtype=mg.float64)  # no features: all classes alike
    assert F.linear_cross_entropy(*none, mg.tensor([0, 1, 2])).item() == pytest.approx(np.log(4))
    weight = mg.ones(4, dtype=mg.float64, requires_grad=True)
    y = F.linear_cross_entropy(x, w, mg.tensor([0, 1, 2]), weight=weight)
    agree(y, plain(x, w, mg.tensor([0, 1, 2]), weight=weight), (x, w, weight))


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"t": [0, 1, 5]}, IndexError, r"Target 5 is out of bounds: target\[2\] = 5 is outside \[0, 5\)"),
        ({"t": [0, 1]}, ValueError, r"Expected input batch_size \(3\) to match target batch_size \(2\)"),
        ({"t": [0.0, 1.0, 2.0]}, RuntimeError, "class labels must be integers"),
        ({"t": [[0], [1], [2]]}, RuntimeError, r"Expected target size \[3\], got \[3, 1\]; .* target.squeeze\(1\)"),
        ({"x": (4,), "t": [0, 1]}, ValueError, "1D target must have size 1, but got target size: 2"),
        ({"w": (5, 3)}, RuntimeError, r"got 4 and 3, respectively"),
        ({"x": ()}, RuntimeError, "dimensionality 1 or 2"),
        ({"linear_bias": mg.ones(4)}, RuntimeError, r"expected linear_bias shape \(5,\), got \(4,\)"),
        ({"linear_bias": mg.ones(5, dtype=mg.float64)}, RuntimeError, "same dtype"),
        ({"weight": mg.ones(4)}, RuntimeError, "all 5 classes or no classes"),
        ({"reduction": "avg"}, ValueError, "avg is not a valid value for reduction"),
        ({"label_smoothing": -0.1}, RuntimeError, "label_smoothing must be between"),
        ({"options": {}}, TypeError, "options must be a LinearCrossEntropyOptions"),
        ({"linear_bias": [1.0] * 5}, TypeError, "linear_bias must be a Tensor, got list"),
    ],
)
def test_errors(change, error, message):
    change = {"x": (3, 4), "w": (5, 4), "t": [0, 1, 2]} | change
    x, w = mg.zeros(change.pop("x")), mg.zeros(change.pop("w"))
    with pytest.raises(error, match=message):
        F.linear_cross_entropy(x, w, mg.tensor(change.pop("t")), **change)


def test_labels_changed_in_their_array():
    """Writes to an array are counted by nobody, and the rows' gradients read the labels again."""
    labels = np.array([0, 1, 2])
    x, w = mg.randn(3, 2, requires_grad=True), mg.randn(4, 2)
    loss = F.linear_cross_entropy(x, w, mg.from_numpy(labels), reduction="none")
    labels[1] = 10**9
    with pytest.raises(IndexError, match=r"target\[1\] = 1000000000 is outside \[0, 4\)"):
        loss.sum().backward()
    assert x.grad is None


def test_module():
    head = mg.nn.LinearCrossEntropyLoss(4, 5, out_features=(2,), bias=True, options=Options(batch_chunk_size=2))
    assert sorted(head.state_dict()) == ["linear.bias", "linear.weight"] and head.linear.weight.shape == (10, 4)
    loss = head(mg.randn(3, 4), mg.tensor([[0, 1], [2, 3], [4, 0]]))
    loss.backward()
    assert all(p.grad.shape == p.shape and (p.grad != 0).any() for p in head.parameters())
    with pytest.raises(RuntimeError, match=r"expected weight shape to be \(5,\), got \(4,\)"):
        mg.nn.LinearCrossEntropyLoss(4, 5, weight=mg.ones(4))


SCRIPT = """
import hashlib
import numpy as np
import minigrad as mg

if threads > 1:
    mg.start_threads()
rng = np.random.RandomState(0)
for dtype in (mg.float32, mg.float64):
    shapes = (301, 65), (3001, 65), 3001
    x, w, b = (mg.tensor(rng.standard_normal(s), dtype=dtype, requires_grad=True) for s in shapes)
    t = mg.tensor(rng.randint(0, 3001, 301))
    soft = mg.tensor(rng.random_sample((301, 3001)), dtype=dtype)
    weight = mg.tensor(rng.random_sample(3001), dtype=dtype)
    inputs = x, w, b
    v = mg.tensor(rng.standard_normal((1501, 2, 130)), dtype=dtype, requires_grad=True)[..., ::2]
    for target, parameters, options in (
        (t, inputs, {}), (soft, inputs, {"weight": weight}),
        (t[:, None] // mg.tensor([2, 3]), (x, v), {"label_smoothing": 0.1}),
    ):
        for reduction in ("mean", "none"):
            for chunk in (None, 64) if target is t else (64,):
                options["options"] = mg.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)
                bias = parameters[2] if len(parameters) > 2 else None
                y = mg.nn.functional.linear_cross_entropy(
                    *parameters[:2], target, linear_bias=bias, reduction=reduction, **options
                )
                for a in (y, *mg.autograd.grad(y, parameters, mg.cos(y.detach()))):
                    print(hashlib.sha256(a.detach().numpy().tobytes()).hexdigest()[:16])
"""


def test_same_bits_with_any_number_of_threads():
    one, two, four = run_with_threads(SCRIPT)
    assert len(one) == 60
    assert two == one
    assert four == one


def test_whole_logits_never_exist():
    """(2000, 8000) float32 would be 64 MB, their gradient as much."""
    x, w = mg.randn(2000, 16, requires_grad=True), mg.randn(8000, 16, requires_grad=True)
    t = mg.randint(0, 8000, (2000,))
    for reduction in ("mean", "none"):
        mg.memory.reset_peak()
        before = mg.memory.stats()["live"]
        F.linear_cross_entropy(x, w, t, reduction=reduction, options=Options(batch_chunk_size=64)).sum().backward()
        with mg.no_grad():
            F.linear_cross_entropy(x, w, t, reduction=reduction, options=Options(batch_chunk_size=64))
        assert mg.memory.stats()["peak"] - before < 8e6  # two chunks of 2 MB, dx, dw
