"""The table of PyTorch's edge cases: one test a row, by its number there. Where we are kinder, the test says so.

Rows 1 to 16 are about inputs of losses, 33 to 38 about optimizers, clipping and checkpoints.
"""

import io
import re
import warnings
from itertools import product

import numpy as np
import pytest

import minigrad as mg

F, nn, optim = mg.nn.functional, mg.nn, mg.optim
inf, nan = np.inf, np.nan
by_dtype = pytest.mark.parametrize("dtype", [mg.float32, mg.float64], ids=str)
LABELLED = (F.cross_entropy, F.nll_loss)
FIVE = (*LABELLED, F.binary_cross_entropy, F.binary_cross_entropy_with_logits, F.mse_loss)


def refused(error, message, call, *arguments, **options):
    with pytest.raises(error, match=message):
        call(*arguments, **options)


def run(loss, x, *arguments, dtype=mg.float32, **options):
    """The loss and its gradient with respect to x, as lists."""
    x = mg.tensor(x, dtype=dtype, requires_grad=True)
    y = loss(x, *arguments, **options)
    return y.tolist(), mg.autograd.grad(y.sum(), x)[0].tolist()


# --- inputs of losses -------------------------------------------------------------------------------------------------


@by_dtype
def test_01_empty_batch(dtype):
    for loss in FIVE:
        labelled = loss in LABELLED
        target = mg.zeros(0, dtype=mg.int64) if labelled else mg.zeros(0, 4, dtype=dtype)
        for reduction, want in (("mean", nan), ("sum", 0.0), ("none", [])):
            x = mg.zeros(0, 4, dtype=dtype, requires_grad=True)
            y = loss(x, target, reduction=reduction)
            np.testing.assert_equal(y.tolist(), want)
            assert mg.autograd.grad(y.sum(), x)[0].shape == (0, 4)
        if labelled:  # kinder, on demand
            assert loss(x, target, all_ignored="zero").item() == 0
    x = mg.zeros(0, 4, dtype=dtype, requires_grad=True)
    assert F.cross_entropy(x, mg.zeros(0, 4, dtype=dtype)).isnan()
    assert F.cross_entropy(x, mg.zeros(0, 4, dtype=dtype), all_ignored="zero").item() == 0


@by_dtype
def test_02_ignored_rows(dtype):
    x = mg.randn(4, 3, dtype=dtype).tolist()
    for loss, reduction in product(LABELLED, ("mean", "sum")):
        y, dx = run(loss, x, [-100] * 4, reduction=reduction, dtype=dtype)
        np.testing.assert_equal(y, nan if reduction == "mean" else 0)
        assert dx == [[0] * 3] * 4
        y, dx = run(loss, x, [1, 7, 2, 0], ignore_index=7, reduction=reduction, dtype=dtype)
        rest, drest = run(loss, [x[0], *x[2:]], [1, 2, 0], reduction=reduction, dtype=dtype)
        assert y == pytest.approx(rest, 1e-6) and dx[1] == [0] * 3
        np.testing.assert_allclose([dx[0], *dx[2:]], drest, 1e-6)


def test_03_labels_out_of_range():
    for loss, label in product(LABELLED, (4, -1, 2**40, -(2**63), 2**63 - 1)):
        message = f"Target {label} is out of bounds: target[3] = {label} is outside [0, 4)"  # kinder: names the row
        refused(IndexError, f"^{re.escape(message)}$", loss, mg.randn(5, 4), [0, 1, 3, label, 2])
        for grad in (False, True):
            x = mg.randn(2, 4, 1, 2, requires_grad=grad)
            refused(IndexError, rf"target\[1, 0, 1\] = {label} is outside", loss, x, [[[0, 1]], [[3, label]]])
        refused(IndexError, rf"target = {label} is outside", loss, mg.randn(4), mg.tensor(label))
        refused(IndexError, r"target\[1\] = 9 is outside", loss, mg.randn(3, 4), [0, 9, label])  # the first of several


def test_04_dtypes_of_labels():
    """Kinder: any integer or bool dtype, arrays and lists, of any byte order and strides."""
    labels = [1, 0, 1, 1]
    held = [labels, tuple(labels), np.array(labels, ">i4"), np.array(labels[::-1])[::-1]]
    held += [np.array(labels, d) for d in ("i1", "i2", "i4", "i8", "u1", "?")]
    held += [mg.tensor(labels, dtype=d) for d in (mg.int8, mg.int16, mg.int32, mg.int64, mg.uint8, mg.bool)]
    held += [np.stack([labels, labels], 1)[:, 1], mg.tensor([[y, 0] for y in labels])[:, 0]]
    for loss in LABELLED:
        x = mg.randn(4, 2)
        want = loss(x, mg.tensor(labels)).item()
        assert [loss(x, target).item() for target in held] == [want] * len(held)
        assert loss(x[0], 1).item() == loss(x[0], np.int16(1)).item() == loss(x[0], mg.tensor(1)).item()
        refused(RuntimeError, "target .*float32", loss, x, mg.tensor([1.0, 0.0, nan, 1.0]))
        message = "Expected floating point type for target with class probabilities, got minigrad.int64"
        refused(RuntimeError, message, loss, x, mg.ones(4, 2, dtype=mg.int64))


@by_dtype
def test_05_class_weights(dtype):
    x, w, other = np.arange(6.0).reshape(2, 3), mg.tensor([0, 1, 1], dtype=dtype), mg.float64
    if dtype is other:
        other = mg.float32
    for loss, smoothing in ((F.nll_loss, {}), (F.cross_entropy, {}), (F.cross_entropy, {"label_smoothing": 0.1})):
        y, dx = run(loss, x, [0, 0], w, dtype=dtype, **smoothing)
        assert np.isnan(y) and (loss is F.nll_loss or np.isnan(dx).all())
    assert run(F.cross_entropy, x, [0, 0], w, dtype=dtype, reduction="sum") == (0, [[0] * 3] * 2)
    x = mg.tensor(x, dtype=dtype)
    for loss in LABELLED:
        for wrong in (mg.ones(2), mg.ones(4), mg.ones(3, 1), mg.tensor(1.0)):
            refused(RuntimeError, "either for all 3 classes or no classes", loss, x, [0, 0], wrong.to(dtype))
        refused(RuntimeError, "for weight but found", loss, x, [0, 0], mg.ones(3, dtype=other))
        assert loss(x, [1, 2], [0.0, 1.0, 1.0]).item() == loss(x, [1, 2], w).item()  # kinder: a list


def test_06_shapes_that_do_not_match():
    for loss in LABELLED:
        message = r"Expected input batch_size \(3\) to match target batch_size \(2\)\."
        refused(ValueError, message, loss, mg.randn(3, 5), [1, 2])
        message = r"Expected target size \[2, 3\] for an input of shape \[2, 5, 3\] \(N, C, ...\), got \[2, 5\]"
        refused(RuntimeError, message, loss, mg.randn(2, 5, 3), mg.zeros(2, 5, dtype=mg.int64))
        refused(RuntimeError, r"target.squeeze\(1\)", loss, mg.randn(3, 5), [[0], [1], [2]])


@by_dtype
def test_07_extreme_logits(dtype):
    def row(x, target, **options):
        y, dx = run(F.cross_entropy, [x], [target], dtype=dtype, **options)
        return y, dx[0]

    assert row([1e4, -1e4], 1) == (20000, [1, -1])
    assert row([0, 1e4], 0) == (10000, [-1, 1])
    assert row([0, -1e4], 0) == (0, [0, 0])
    assert np.isnan(row([inf, 0], 0)[0]) and np.isnan(row([inf, 0], 0)[1]).any()
    assert row([0, -inf], 0) == (0, [0, 0])
    assert row([0, -inf], 1) == (inf, [1, -1])
    assert np.isnan(row([-inf, -inf], 0)[0])
    assert row([0, -inf], 0, label_smoothing=0.1)[0] == inf
    assert row([3], 0) == (0, [0])
    for target in ([0, 0], mg.zeros(2, 0, dtype=dtype)):
        refused(IndexError, r"shape \[2, 0\] has no classes", F.cross_entropy, mg.zeros(2, 0, dtype=dtype), target)


def test_08_dtypes_and_layouts_of_logits():
    for loss, dtype in product(LABELLED, (mg.int64, mg.uint8, mg.bool)):
        message = f"{loss.__name__}: .* must be floating point, got minigrad"
        refused(NotImplementedError, message, loss, mg.ones(2, 3).to(dtype), [0, 1])
    x = mg.randn(3, 4)
    y, strided = x.T.clone().T, mg.randn(6, 4)
    assert not y.is_contiguous() and F.cross_entropy(y, [1, 2, 3]).item() == F.cross_entropy(x, [1, 2, 3]).item()
    strided[::2] = x
    assert F.cross_entropy(strided[::2], [1, 2, 3]).item() == F.cross_entropy(x, [1, 2, 3]).item()
    assert not hasattr(mg, "float16")  # no half precision: its logits cannot be made


def test_09_reduction_typo():
    for loss, reduction in product(FIVE, ("avg", "", None, 1, "MEAN")):
        refused(ValueError, f"^{reduction} is not a valid value for reduction", loss, mg.ones(2, 3), [0, 1],
                reduction=reduction)  # fmt: skip
    refused(ValueError, "^avg is not a valid value for reduction", nn.CrossEntropyLoss, reduction="avg")


def test_10_nll_of_positive_numbers():
    assert run(F.nll_loss, [[1.0, 2.0], [3.0, 4.0]], [1, 0]) == (-2.5, [[0, -0.5], [-0.5, 0]])


@by_dtype
def test_11_bce_at_the_bounds(dtype):
    t = mg.tensor([1, 0, 0, 1, 1], dtype=dtype)
    y, dx = run(F.binary_cross_entropy, [0, 1, 0, 1, 1e-44], t, reduction="none", dtype=dtype)
    np.testing.assert_allclose(y, [100, 100, 0, 0, 100], rtol=1e-6)
    np.testing.assert_allclose(dx, [-1e12, 1e12, 0, 0, -1e12], rtol=1e-6)
    for bad in (1.0000002, -1e-7, nan, inf, -inf, 2.0):
        p, ok = mg.tensor([0.5, bad], dtype=dtype), mg.tensor([0.0, 1.0], dtype=dtype)
        for name, pair in (("input", (p, ok)), ("target", (ok, p))):  # kinder: says where
            message = rf"all elements of {name} should be between 0 and 1: {name}\[1\] = "
            refused(RuntimeError, message, F.binary_cross_entropy, *pair)


@by_dtype
def test_12_bce_of_a_saturated_sigmoid(dtype):
    t = mg.tensor([0, 1], dtype=dtype)

    def of_sigmoid(x):
        return F.binary_cross_entropy(x.sigmoid(), t, reduction="none")

    assert run(of_sigmoid, [1e4, -1e4], dtype=dtype) == ([100, 100], [0, 0])
    with_logits = F.binary_cross_entropy_with_logits
    assert run(with_logits, [1e4, -1e4], t, reduction="none", dtype=dtype) == ([10000, 10000], [1, -1])


@by_dtype
def test_13_infinite_logits(dtype):
    """Kinder, where PyTorch has nan for three of four: sure and right costs nothing, sure and wrong all."""
    x, t, loss = [inf, inf, -inf, -inf], mg.tensor([1, 0, 0, 1], dtype=dtype), F.binary_cross_entropy_with_logits
    assert run(loss, x, t, reduction="none", dtype=dtype) == ([0, inf, 0, inf], [0, 1, 0, -1])
    assert run(loss, x[::2], t[::2], dtype=dtype) == (0, [0, 0])
    assert run(loss, x, t, reduction="sum", dtype=dtype) == (inf, [0, 1, 0, -1])
    assert run(loss, x, mg.full((4,), 0.25, dtype=dtype), reduction="none", dtype=dtype) == (
        [inf] * 4, [0.75, 0.75, -0.25, -0.25],
    )  # fmt: skip
    weighted = {"weight": [2.0, 2.0, 3.0, 3.0], "pos_weight": mg.tensor(5.0, dtype=dtype)}
    assert run(loss, x, t, reduction="none", dtype=dtype, **weighted) == ([0, inf, 0, inf], [0, 2, 0, -15])
    t.requires_grad_(True)  # by the formula instead of the kernel
    assert run(loss, x, t, reduction="none", dtype=dtype) == ([0, inf, 0, inf], [0, 1, 0, -1])
    with mg.no_grad():
        assert loss(mg.tensor(x, dtype=dtype), t, reduction="none").tolist() == [0, inf, 0, inf]


def test_14_targets_of_bce_with_logits():
    """Kinder: labels of any dtype."""
    x, loss = mg.randn(3), F.binary_cross_entropy_with_logits
    want = loss(x, mg.tensor([1.0, 0.0, 1.0])).item()
    for t in ([1, 0, 1], [True, False, True], np.array([1, 0, 1], "u1"), np.array([1, 0, 1], ">i2")):
        assert loss(x, t).item() == loss(x, mg.tensor(np.array(t).tolist())).item() == want
    for f in (loss, F.binary_cross_entropy):
        message = r"target size \[3, 1\] must be the same as input size \[3\]; use target.reshape\(3\)"
        refused(ValueError, message, f, x, mg.ones(3, 1))
        refused(ValueError, r"use target.reshape\(3, 1\)", f, mg.ones(3, 1), mg.ones(3))
    assert loss(mg.tensor([1.0]), mg.tensor([2.0])).item() < 0


def test_15_mse_of_different_shapes():
    """Kinder: (N, 1) against (N,) is refused; other shapes broadcast with a warning."""
    message = r"input \[3\] and target \[3, 1\] would broadcast to \[3, 3\], .*; use target.squeeze\(1\)"
    refused(ValueError, message, F.mse_loss, mg.ones(3), mg.zeros(3, 1))
    refused(ValueError, r"use input.squeeze\(1\)", F.mse_loss, mg.ones(3, 1), mg.zeros(3))
    with pytest.warns(UserWarning, match=r"target size \(\[4\]\) that is different to the input size \(\[3, 4\]\)"):
        assert F.mse_loss(mg.ones(3, 4), mg.tensor([0.0, 1.0, 2.0, 3.0]), reduction="sum").item() == 18
    refused(RuntimeError, r"input \[3\] and target \[4\] do not broadcast", F.mse_loss, mg.ones(3), mg.ones(4))
    f32, f64 = mg.ones(3), mg.zeros(3, dtype=mg.float64)
    assert F.mse_loss(f32, f64).dtype is F.mse_loss(f64, f32).dtype is mg.float64
    assert F.mse_loss(f32, [1, 1, 2]).dtype is mg.float32
    ints = mg.tensor([1, 2])
    refused(NotImplementedError, "got minigrad.int64 and target minigrad.int64", F.mse_loss, ints, ints)


@by_dtype
def test_16_softmax_of_infinities(dtype):
    assert mg.tensor([inf, 0], dtype=dtype).softmax(0).isnan().any()
    low = mg.tensor([-inf, -inf], dtype=dtype)
    assert low.softmax(0).isnan().all() and low.log_softmax(0).isnan().all()
    assert low.logsumexp(0).item() == -inf and mg.tensor([inf, 0], dtype=dtype).logsumexp(0).item() == inf
    assert mg.tensor([-inf, 0], dtype=dtype).softmax(0).tolist() == [0, 1]


# --- optimizers, clipping, checkpoints --------------------------------------------------------------------------------


def parameter(*values, grad=None, dtype=mg.float32):
    p = nn.Parameter(mg.tensor(values, dtype=dtype))
    p.grad = None if grad is None else mg.tensor(grad, dtype=dtype)
    return p


@by_dtype
def test_33_parameters_without_gradient(dtype):
    for make in (optim.SGD, optim.Adam, optim.AdamW, optim.RMSprop):
        a, b, c = parameter(1, 2, grad=[1, 1], dtype=dtype), parameter(1, dtype=dtype), mg.ones(1, dtype=dtype)
        optimizer = make([a, b, c], lr=0.1)
        optimizer.step()
        assert b.tolist() == c.tolist() == [1] and a.tolist() != [1, 2]
        assert b not in optimizer.state and c not in optimizer.state
    with pytest.warns(UserWarning, match="duplicate parameters"):
        optim.SGD([a, a], lr=0.1)
    message = "some parameters appear in more than one parameter group"
    refused(ValueError, message, optim.SGD, [{"params": [a]}, {"params": [a]}], lr=0.1)
    refused(TypeError, "sets are unordered", optim.SGD, [{"params": {a}}], lr=0.1)
    refused(ValueError, "empty parameter list", optim.SGD, [], lr=0.1)
    refused(TypeError, "should be an iterable of Tensors or dicts", optim.SGD, a, lr=0.1)
    refused(ValueError, "can't optimize a non-leaf Tensor", optim.SGD, [a * 2], lr=0.1)


@by_dtype
def test_34_bad_gradients_stay(dtype):
    for bad, make in product((nan, inf), (lambda p: optim.SGD(p, lr=0.1, momentum=0.9), lambda p: optim.Adam(p, 0.1))):
        p = parameter(1, 1, grad=[bad, 1], dtype=dtype)
        optimizer = make([p])
        optimizer.step()
        first = p.tolist()
        p.grad = mg.ones(2, dtype=dtype)
        for _ in range(3):
            optimizer.step()
        if bad is inf and isinstance(optimizer, optim.SGD):
            assert first[0] == p[0].item() == -inf
        else:
            assert np.isnan(first[0]) and p[0].isnan()
        assert np.isfinite(first[1]) and p[1].isfinite()  # the other element goes on
        moments = [v for k, v in optimizer.state[p].items() if k != "step"]
        assert moments and all(not v[0].isfinite() and v[1].isfinite() for v in moments)
    p = parameter(1, 1, grad=[1, 1], dtype=dtype)
    optim.SGD([p], lr=nan).step()
    assert p.isnan().all()
    refused(ValueError, "Invalid learning rate: -1.0", optim.SGD, [p], lr=-1.0)


def test_35_state_of_other_shapes():
    """Kinder: refused when it is loaded, not at the next step, and nothing is changed. The file's lr still rules."""
    saved = optim.SGD([parameter(1.0, grad=[1.0])], lr=0.1, momentum=0.9)
    saved.step()
    p = parameter(1.0, 2.0, 3.0, grad=[1.0, 1.0, 1.0])
    optimizer = optim.SGD([p], lr=0.5, momentum=0.9)
    message = r"loaded state 'momentum_buffer' of parameter 0 has shape \(1,\), not \(3,\)"
    refused(ValueError, message, optimizer.load_state_dict, saved.state_dict())
    assert optimizer.param_groups[0]["lr"] == 0.5 and not optimizer.state
    optimizer.step()
    assert p.tolist() == [0.5, 1.5, 2.5]
    other = optim.SGD([parameter(1.0)], lr=0.5, momentum=0.9)
    other.load_state_dict(saved.state_dict())
    assert other.param_groups[0]["lr"] == 0.1


def test_36_state_dicts_and_files():
    layer = nn.Linear(2, 1)
    state, copied = layer.state_dict(), {k: v.clone() for k, v in layer.state_dict().items()}
    with mg.no_grad():
        layer.weight.add_(1)
    assert mg.equal(state["weight"], layer.weight) and not mg.equal(copied["weight"], layer.weight)
    assert not state["weight"].requires_grad
    weight, bias = mg.ones(1, 2), mg.ones(1)
    refused(RuntimeError, r'Missing key\(s\) in state_dict: "bias"', layer.load_state_dict, {"weight": weight})
    found = layer.load_state_dict({"weight": weight, "x": bias}, strict=False)
    assert found == (["bias"], ["x"]) and type(found).__name__ == "_IncompatibleKeys"
    message = "size mismatch for weight: copying a param with shape .*1, 3.*1, 2"
    refused(RuntimeError, message, layer.load_state_dict, {"weight": mg.ones(1, 3), "bias": bias})
    arrays = {"weight": np.ones((1, 2)), "bias": np.ones(1)}
    refused(RuntimeError, "received <class 'numpy.ndarray'>", layer.load_state_dict, arrays)
    refused(TypeError, "type Linear; .* save its state_dict", mg.save, layer, io.BytesIO())  # kinder: not at load
    file = io.BytesIO()
    mg.save(copied, file)
    file.seek(0)
    layer.load_state_dict(mg.load(file))
    assert mg.equal(layer.weight, copied["weight"])


@by_dtype
def test_37_clipping(dtype):
    def clip(gradients, max_norm, **options):
        parameters = [parameter(*g, grad=g, dtype=dtype) for g in gradients]
        norm = nn.utils.clip_grad_norm_(parameters, max_norm, **options)
        assert norm.dtype is dtype and norm.shape == ()
        return norm.item(), [p.grad.tolist() for p in parameters]

    def agree(found, want):
        np.testing.assert_allclose(found[0], want[0], 1e-6)
        for a, b in zip(found[1], want[1], strict=True):
            np.testing.assert_allclose(a, b, 1e-6)

    norm, (g,) = clip([[3.0]], 1.0)
    assert norm == 3 and g[0] == pytest.approx(3 / (3 + 1e-6), abs=1e-7) and g[0] < 1
    assert clip([[3.0, 0.0], [4.0]], 6.0) == (5, [[3, 0], [4]])
    agree(clip([[nan, 1.0], [2.0]], 1.0), (nan, [[nan, nan], [nan]]))
    agree(clip([[inf, 1.0], [2.0]], 1.0), (inf, [[nan, 0], [0]]))
    agree(clip([[3.0, 4.0]], -1.0), (5, [[-0.6, -0.8]]))
    for bad in (nan, inf):
        p = parameter(bad, grad=[bad], dtype=dtype)
        refused(RuntimeError, "is non-finite, so it cannot be clipped", nn.utils.clip_grad_norm_, [p], 1.0,
                error_if_nonfinite=True)  # fmt: skip
        np.testing.assert_equal(p.grad.item(), bad)
    none = nn.utils.clip_grad_norm_([], 1.0)
    assert none.item() == 0 and none.dtype is mg.float32
    p = parameter(1, grad=[5], dtype=dtype)
    used = (q for q in [p])
    assert list(used)
    with pytest.warns(UserWarning, match="`parameters` is an empty generator, no gradient clipping will occur"):
        assert nn.utils.clip_grad_norm_(used, 1.0).item() == 0
    assert p.grad.item() == 5
    p = parameter(0, 0, 0, grad=[nan, 5, -5], dtype=dtype)
    nn.utils.clip_grad_value_([p], 1.0)
    np.testing.assert_equal(p.grad.tolist(), [nan, 1, -1])


def test_38_schedules():
    schedules = optim.lr_scheduler

    def optimizer(**options):
        return optim.SGD([parameter(1.0)], lr=1.0, **options)

    o = optimizer()
    schedule = schedules.StepLR(o, 1, 0.1)
    with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
        schedule.step()
    assert o.param_groups[0]["lr"] == 0.1
    o = optimizer(momentum=0.9)
    schedule = schedules.OneCycleLR(o, 1.0, total_steps=3)
    for _ in range(2):
        o.step()
        schedule.step()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        refused(ValueError, "Tried to step", lambda: [schedule.step() for _ in range(2)])
    o, seen = optimizer(), []
    schedule = schedules.CosineAnnealingLR(o, 4)
    for _ in range(9):
        o.step()
        schedule.step()
        seen += schedule.get_last_lr()
    np.testing.assert_allclose(seen, [(1 + np.cos(np.pi * t / 4)) / 2 for t in range(1, 10)], atol=1e-12)
    assert seen[3] < 1e-12 and seen[7] == pytest.approx(1)
