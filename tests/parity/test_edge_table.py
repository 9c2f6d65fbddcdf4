"""The rows of tests/test_edge_table.py in both libraries; where ours is kinder, PyTorch's own outcome is asserted."""

import io
import math
import warnings
from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

inf, nan = math.inf, math.nan
FILE = "edge table"
DTYPES = ("float32", "float64")
REDUCTIONS = ("mean", "sum", "none")
by_dtype = pytest.mark.parametrize("dtype", DTYPES)
LABELLED = ("cross_entropy", "nll_loss")
KINDS = (RuntimeError, ValueError, IndexError, TypeError, NotImplementedError)


def loss_and_gradient(m, name, x, target, dtype="float32", wanted=True, **options):
    """The loss and its gradient; arrays are made tensors of ``dtype`` if they hold floats."""

    def tensor(a):
        if not isinstance(a, np.ndarray):
            return a
        return m.from_numpy(a.astype(dtype) if a.dtype.kind == "f" else a.copy())

    x = tensor(np.asarray(x)).requires_grad_(wanted)
    options = {k: tensor(v) for k, v in options.items()}
    y = getattr(m.nn.functional, name)(x, tensor(np.asarray(target)), **options)
    if not wanted:
        return (y,)
    return y, m.autograd.grad(y.sum(), x)[0]


def same(name, x, target, dtype="float32", rtol=None, **options):
    ours, theirs = (loss_and_gradient(m, name, x, target, dtype, **options) for m in (mg, torch))
    for what, a, b in zip(("loss", "gradient"), ours, theirs, strict=False):
        close(FILE, a, b, f"{what} {name} {x} {target} {options}", rtol)


def kind(call):
    """The type of error, None if there is none."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call()
    except KINDS as error:
        return type(error)
    return None


def same_error(call, expected=None):
    """Both refuse by the same type."""
    ours, theirs = kind(lambda: call(mg)), kind(lambda: call(torch))
    assert ours is theirs is not None and expected in (None, theirs), (ours, theirs)
    close(FILE, None, None, "error")


# --- inputs of losses -------------------------------------------------------------------------------------------------


@by_dtype
def test_01_empty_batch(dtype):
    x = np.zeros((0, 4))
    for reduction in REDUCTIONS:
        for name in LABELLED:
            same(name, x, np.zeros(0, int), dtype, reduction=reduction)
        for name in ("cross_entropy", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss"):
            same(name, x, x, dtype, reduction=reduction)


@by_dtype
def test_02_ignored_rows(dtype):
    x = np.random.default_rng(0).normal(size=(4, 3))
    for name, reduction, labels in product(LABELLED, REDUCTIONS, ([7] * 4, [1, 7, 2, 0])):
        same(name, x, labels, dtype, ignore_index=7, reduction=reduction)
    same("cross_entropy", x, [7] * 4, dtype, ignore_index=7, label_smoothing=0.1)
    for name in LABELLED:  # also when backward is recorded
        for m in (mg, torch):
            a = m.from_numpy(x.astype(dtype)).requires_grad_(True)
            y = getattr(m.nn.functional, name)(a, m.from_numpy(np.full(4, -100)))
            (g,) = m.autograd.grad(y, a, create_graph=True)
            assert y.isnan() and (g == 0).all()


def test_03_labels_out_of_range():
    for name, label in product(LABELLED, (4, -1, 2**40)):
        same_error(lambda m, n=name, y=label: loss_and_gradient(m, n, np.ones((3, 4)), [0, 1, y]), IndexError)


def test_04_dtypes_of_labels():
    x = np.random.default_rng(1).normal(size=(3, 4))
    for name in LABELLED:
        want = loss_and_gradient(torch, name, x, [0, 1, 3])
        for dtype in ("u1", "i8", "i1", "i2", "i4"):
            call = {"name": name, "x": x, "target": np.array([0, 1, 3], dtype)}
            refused = kind(lambda c=call: loss_and_gradient(torch, **c))
            assert refused is (None if dtype in ("u1", "i8") else RuntimeError)
            for ours, theirs in zip(loss_and_gradient(mg, **call), want, strict=True):  # kinder
                close(FILE, ours, theirs, f"{name} {dtype}")
    same_error(lambda m: loss_and_gradient(m, "cross_entropy", x, [0.0, 1.0, 3.0]), RuntimeError)
    same_error(lambda m: loss_and_gradient(m, "cross_entropy", x, np.ones((3, 4), int)), RuntimeError)


@by_dtype
def test_05_class_weights(dtype):
    x, w = np.arange(6.0).reshape(2, 3), np.array([0, 1.0, 1])
    for name, labels, reduction in product(LABELLED, ([0, 0], [0, 1], [1, 2]), REDUCTIONS):
        same(name, x, labels, dtype, weight=w, reduction=reduction)
    for name, size in product(LABELLED, ((2,), (4,), (3, 1), ())):
        same_error(lambda m, n=name, s=size: loss_and_gradient(m, n, x, [0, 0], dtype, weight=np.ones(s)))
    other = "float32" if dtype == "float64" else "float64"
    for name in LABELLED:
        same_error(lambda m, n=name: getattr(m.nn.functional, n)(
            m.from_numpy(x.astype(dtype)), m.from_numpy(np.array([0, 0])), m.from_numpy(w.astype(other))
        ))  # fmt: skip


def test_06_shapes_that_do_not_match():
    for name in LABELLED:
        same_error(lambda m, n=name: loss_and_gradient(m, n, np.ones((3, 5)), [1, 2]), ValueError)
        same_error(lambda m, n=name: loss_and_gradient(m, n, np.ones((2, 5, 3)), np.zeros((2, 5), int)), RuntimeError)


@by_dtype
def test_07_extreme_logits(dtype):
    rows = [[1e4, -1e4], [0, 1e4], [0, -1e4], [inf, 0], [0, -inf], [-inf, -inf], [nan, 0], [0, nan], [inf, -inf]]
    for x, label, smoothing in product(rows, (0, 1), (0.0, 0.1)):
        same("cross_entropy", [x], [label], dtype, label_smoothing=smoothing)
    same("cross_entropy", [[3.0]], [0], dtype)
    same_error(lambda m: loss_and_gradient(m, "cross_entropy", np.ones((2, 0)), [0, 0]), IndexError)


def test_08_dtypes_and_layouts_of_logits():
    for name, dtype in product(LABELLED, (np.int64, np.uint8)):
        x = np.ones((2, 3), dtype)
        same_error(lambda m, n=name, a=x: loss_and_gradient(m, n, a, [0, 1], wanted=False), NotImplementedError)
    x = np.random.default_rng(2).normal(size=(4, 6)).astype("f4")
    for cut in (lambda y: y.T[:3], lambda y: y[:3, ::2]):
        ours, theirs = (m.nn.functional.cross_entropy(cut(m.from_numpy(x)), m.tensor([0, 1, 2])) for m in (mg, torch))
        close(FILE, ours, theirs, "strided")


def test_09_reduction_typo():
    names = (*LABELLED, "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss")
    for name, reduction in product(names, ("avg", "", "MEAN")):
        target = np.array([0, 1]) if name in LABELLED else np.ones((2, 3))
        same_error(lambda m, n=name, t=target, r=reduction: loss_and_gradient(m, n, np.ones((2, 3)), t, reduction=r),
                   ValueError)  # fmt: skip


def test_10_nll_of_positive_numbers():
    same("nll_loss", [[1.0, 2.0], [3.0, 4.0]], [1, 0])


@by_dtype
def test_11_bce_at_the_bounds(dtype):
    rtol = 1e-8 if dtype == "float64" else None  # PyTorch's 1e-12 is a float32
    for p, t in product((0.0, 1.0, 1e-44, 0.5), (0.0, 1.0, 0.25)):
        same("binary_cross_entropy", [p], np.array([t]), dtype, rtol)
    for bad in (1.0000002, -1e-7, nan, inf, 2.0):
        pair = np.array([0.5, bad]), np.array([0.0, 1.0])
        for x, t in (pair, pair[::-1]):
            if not math.isnan(bad) or x is pair[0]:  # PyTorch lets targets of nan pass, to a loss of nan
                same_error(lambda m, x=x, t=t: loss_and_gradient(m, "binary_cross_entropy", x, t, dtype), RuntimeError)


@by_dtype
def test_12_bce_of_a_saturated_sigmoid(dtype):
    x, t = np.array([1e4, -1e4], dtype), np.array([0, 1], dtype)
    same("binary_cross_entropy_with_logits", x, t, dtype, reduction="none")
    found = []
    for m in (mg, torch):
        a = m.from_numpy(x.copy()).requires_grad_(True)
        y = m.nn.functional.binary_cross_entropy(a.sigmoid(), m.from_numpy(t), reduction="none")
        found.append((y, m.autograd.grad(y.sum(), a)[0]))
    for ours, theirs in zip(*found, strict=True):
        close(FILE, ours, theirs, "bce of sigmoid")


@by_dtype
def test_13_infinite_logits(dtype):
    """Kinder: the limits, where PyTorch has nan; the gradients of what is finite there agree."""
    x, t = [inf, inf, -inf, -inf], np.array([1.0, 0.0, 0.0, 1.0])
    call = ("binary_cross_entropy_with_logits", x, t, dtype)
    ours, theirs = (loss_and_gradient(m, *call, reduction="none") for m in (mg, torch))
    assert ours[0].tolist() == [0, inf, 0, inf] and theirs[0].isnan().tolist() == [True, False, True, True]
    close(FILE, ours[1], theirs[1], "gradient")


def test_14_targets_of_bce_with_logits():
    """Kinder: integer and bool targets."""
    x = np.random.default_rng(3).normal(size=3)
    want = loss_and_gradient(torch, "binary_cross_entropy_with_logits", x, np.array([1.0, 0, 1]))
    for dtype in ("i8", "i4", "u1", "?"):
        call = ("binary_cross_entropy_with_logits", x, np.array([1, 0, 1], dtype))
        assert kind(lambda c=call: loss_and_gradient(torch, *c)) is RuntimeError
        for ours, theirs in zip(loss_and_gradient(mg, *call), want, strict=True):
            close(FILE, ours, theirs, dtype)
    for name in ("binary_cross_entropy_with_logits", "binary_cross_entropy"):
        same_error(lambda m, n=name: loss_and_gradient(m, n, np.ones(3), np.ones((3, 1))), ValueError)
    same("binary_cross_entropy_with_logits", [1.0], np.array([2.0]))


def test_15_mse_of_different_shapes():
    """Kinder: (N, 1) against (N,) is an error; other shapes broadcast with a warning in both."""
    column = ("mse_loss", np.ones(3), np.ones((3, 1)))
    with pytest.warns(UserWarning, match="different to the input size"):
        loss_and_gradient(torch, *column)
    assert kind(lambda: loss_and_gradient(mg, *column)) is ValueError
    with pytest.warns(UserWarning, match="different to the input size"):
        same("mse_loss", np.ones((3, 4)), np.arange(4.0))
    for a, b in (("f4", "f8"), ("f8", "f4")):
        ours, theirs = (m.nn.functional.mse_loss(m.from_numpy(np.ones(3, a)), m.from_numpy(np.zeros(3, b)))
                        for m in (mg, torch))  # fmt: skip
        close(FILE, ours, theirs, "promotion")


@by_dtype
def test_16_softmax_of_infinities(dtype):
    for row, name in product(([inf, 0], [-inf, -inf], [-inf, 0], [inf, -inf]), ("softmax", "log_softmax", "logsumexp")):
        ours, theirs = (getattr(m.tensor(row, dtype=getattr(m, dtype)), name)(0) for m in (mg, torch))
        close(FILE, ours, theirs, f"{name} {row}")


# --- optimizers, clipping, checkpoints --------------------------------------------------------------------------------


def parameter(m, values, gradient=None, dtype="float32"):
    p = m.nn.Parameter(m.tensor(values, dtype=getattr(m, dtype)))
    p.grad = None if gradient is None else m.tensor(gradient, dtype=getattr(m, dtype))
    return p


@by_dtype
def test_33_parameters_without_gradient(dtype):
    for name in ("SGD", "Adam", "RMSprop"):
        found = []
        for m in (mg, torch):
            a, b, c = parameter(m, [1, 2], [1, 1], dtype), parameter(m, [1], None, dtype), m.ones(1)
            optimizer = getattr(m.optim, name)([a, b, c], lr=0.1)
            optimizer.step()
            found.append((a, b, c, len(optimizer.state), b in optimizer.state))
        for ours, theirs in zip(*(f[:3] for f in found), strict=True):
            close(FILE, ours, theirs, name)
        assert found[0][4] is found[1][4] is False and found[0][3] <= found[1][3]
    p = {m: parameter(m, [1.0]) for m in (mg, torch)}
    for bad in (lambda p: [{"params": [p]}, {"params": [p]}], lambda p: [], lambda p: p, lambda p: [p * 2],
                lambda p: [{"params": {p}}]):  # fmt: skip
        same_error(lambda m, f=bad: m.optim.SGD(f(p[m]), lr=0.1))
    for m in (mg, torch):
        with pytest.warns(UserWarning, match="duplicate parameters"):
            m.optim.SGD([p[m], p[m]], lr=0.1)


@by_dtype
def test_34_bad_gradients_stay(dtype):
    for bad, (name, options) in product((nan, inf, -inf), (("SGD", {"momentum": 0.9}), ("Adam", {}), ("AdamW", {}))):
        found = []
        for m in (mg, torch):
            p = parameter(m, [1, 1], [bad, 1], dtype)
            optimizer = getattr(m.optim, name)([p], lr=0.1, **options)
            for _ in range(3):
                optimizer.step()
                p.grad = m.ones(2, dtype=p.dtype)
            found.append((p, *[v for k, v in sorted(optimizer.state[p].items()) if k != "step"]))
        for ours, theirs in zip(*found, strict=True):
            close(FILE, ours, theirs, f"{name} {bad}")
    found = []
    for m in (mg, torch):
        p = parameter(m, [1, 1], [1, 1], dtype)
        m.optim.SGD([p], lr=nan).step()
        found.append(p)
    close(FILE, *found, "lr nan")
    same_error(lambda m: m.optim.SGD([parameter(m, [1.0])], lr=-1.0), ValueError)


def test_35_state_of_other_shapes():
    """Kinder: refused at load_state_dict; in PyTorch by the next step."""
    for m in (mg, torch):
        saved = m.optim.SGD([parameter(m, [1.0], [1.0])], lr=0.1, momentum=0.9)
        saved.step()
        optimizer = m.optim.SGD([parameter(m, [1.0, 2.0, 3.0], [1.0] * 3)], lr=0.5, momentum=0.9)
        loading = kind(lambda o=optimizer, s=saved: o.load_state_dict(s.state_dict()))
        assert loading is (None if m is torch else ValueError)
        assert kind(optimizer.step) is (RuntimeError if m is torch else None)
        other = m.optim.SGD([parameter(m, [1.0])], lr=0.5, momentum=0.9)
        other.load_state_dict(saved.state_dict())
        assert other.param_groups[0]["lr"] == 0.1


def test_36_state_dicts_and_files():
    layers = {m: m.nn.Linear(2, 1) for m in (mg, torch)}
    for m, layer in layers.items():
        state = layer.state_dict()
        with m.no_grad():
            layer.weight.add_(1)
        assert m.equal(state["weight"], layer.weight) and not state["weight"].requires_grad
        found = layer.load_state_dict({"weight": m.ones(1, 2), "x": m.ones(1)}, strict=False)
        assert (type(found).__name__, *found) == ("_IncompatibleKeys", ["bias"], ["x"])
    for state in (lambda m: {"weight": m.ones(1, 2)}, lambda m: {"weight": m.ones(1, 3), "bias": m.ones(1)},
                  lambda m: {"weight": np.ones((1, 2)), "bias": np.ones(1)}):  # fmt: skip
        same_error(lambda m, s=state: layers[m].load_state_dict(s(m)), RuntimeError)
    file = io.BytesIO()
    torch.save(layers[torch], file)  # ours refuses here, see tests/test_edge_table.py
    file.seek(0)
    with pytest.raises(Exception, match="Weights only load failed"):
        torch.load(file)


@by_dtype
def test_37_clipping(dtype):
    cases = [([[3.0]], 1.0), ([[3.0, 0.0], [4.0]], 6.0), ([[nan, 1.0], [2.0]], 1.0), ([[inf, 1.0], [2.0]], 1.0),
             ([[3.0, 4.0]], -1.0), ([[0.0]], 0.0), ([], 1.0), ([[-inf, nan]], 1.0)]  # fmt: skip
    for (gradients, most), order in product(cases, (2.0, 1.0, inf)):
        found = []
        for m in (mg, torch):
            parameters = [parameter(m, g, g, dtype) for g in gradients]
            norm = m.nn.utils.clip_grad_norm_(parameters, most, order)
            found.append((norm, *[p.grad for p in parameters]))
        for ours, theirs in zip(*found, strict=True):
            close(FILE, ours, theirs, f"{gradients} {most} {order}")
    for bad in (nan, inf):
        same_error(lambda m, b=bad: m.nn.utils.clip_grad_norm_([parameter(m, [b], [b], dtype)], 1.0,
                                                               error_if_nonfinite=True), RuntimeError)  # fmt: skip
    found = []
    for m in (mg, torch):
        p, q = parameter(m, [1], [5], dtype), parameter(m, [0] * 3, [nan, 5, -5], dtype)
        used = (v for v in [p])
        assert list(used)
        with pytest.warns(UserWarning, match="`parameters` is an empty generator"):
            norm = m.nn.utils.clip_grad_norm_(used, 1.0)
        m.nn.utils.clip_grad_value_([q], 1.0)
        found.append((norm, p.grad, q.grad))
    for ours, theirs in zip(*found, strict=True):
        close(FILE, ours, theirs, "generator, values")


def test_38_schedules():
    found = []
    for m in (mg, torch):
        schedules = m.optim.lr_scheduler

        def optimizer(m=m, **options):
            return m.optim.SGD([parameter(m, [1.0])], lr=1.0, **options)

        o = optimizer()
        schedule = schedules.StepLR(o, 1, 0.1)
        with pytest.warns(UserWarning, match=r"`lr_scheduler.step\(\)` before `optimizer.step\(\)`"):
            schedule.step()
        seen = [o.param_groups[0]["lr"]]
        o = optimizer(momentum=0.9)
        schedule = schedules.OneCycleLR(o, 1.0, total_steps=3)
        for _ in range(2):
            o.step()
            schedule.step()
            seen += schedule.get_last_lr()
        assert kind(lambda s=schedule: [s.step() for _ in range(2)]) is ValueError
        o = optimizer()
        schedule = schedules.CosineAnnealingLR(o, 4)
        for _ in range(9):
            o.step()
            schedule.step()
            seen += schedule.get_last_lr()
        found.append(m.tensor(seen, dtype=m.float64))
    close(FILE, *found, "learning rates")
