"""The five losses against PyTorch: every combination of their arguments, gradients, second derivatives, extremes."""

from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

DTYPES = ("float32", "float64")
REDUCTIONS = ("none", "mean", "sum")
SHAPES = [
    (7, 5),
    (5,),
    (1, 2),
    (3, 1),
    (4, 3, 6),
    (2, 4, 3, 2),
    (5, 200),
    (0, 3),
    (2, 3, 0),
    (2, 3, 1, 2, 3),
]  # (N, C, ...) and (C,)
FLAT = [(), (1,), (6,), (3, 4), (2, 3, 4), (2, 1, 3, 2), (1, 2, 1, 3, 2), (0,), (3, 0), (5000,)]
inf, nan = np.inf, np.nan


def evaluate(m, call, arrays, wanted, upstream):
    """The loss ``call(F, tensors)`` and the gradients of the ``wanted`` ones among the named arrays."""
    tensors = {name: None if a is None else m.from_numpy(np.array(a)) for name, a in arrays.items()}
    for name in wanted:
        tensors[name].requires_grad_(True)
    y = call(m.nn.functional, tensors)
    if wanted:
        dy = np.cos(upstream + np.arange(y.numel())).reshape(tuple(y.shape)).astype(str(y.dtype).partition(".")[2])
        y.backward(m.from_numpy(np.asarray(dy)))
    return [y, *[tensors[name].grad for name in wanted]]


def compare(call, arrays, wanted, what, rtol=None):
    """Loss and gradients agree with PyTorch's, and the loss without recording has the bits of the loss with it."""
    ours = evaluate(mg, call, arrays, wanted, 0.5)
    for name, a, b in zip(("loss", *wanted), ours, evaluate(torch, call, arrays, wanted, 0.5), strict=True):
        close("losses", a, b, f"{name} {what}", rtol)
    with mg.no_grad():
        alone = call(
            mg.nn.functional, {k: None if a is None else mg.from_numpy(np.array(a)) for k, a in arrays.items()}
        )
    assert alone.numpy().tobytes() == ours[0].detach().numpy().tobytes() or len(wanted) > 1, what


def channels(shape):
    """(number of classes, shape of the labels)."""
    return (shape[0], ()) if len(shape) == 1 else (shape[1], (shape[0], *shape[2:]))


# --- by label ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", ["cross_entropy", "nll_loss"])
def test_labels(name, shape, dtype):
    rng = np.random.default_rng(0)
    c, label_shape = channels(shape)
    smoothings = (0.0, 0.1, 1.0) if name == "cross_entropy" else (None,)
    x = rng.normal(0, 3, shape).astype(dtype)
    target = rng.integers(0, c, label_shape)
    some_ignored = np.where(rng.random(label_shape) < 0.3, -100, target)
    for weighted, ignore, reduction, smoothing in product((False, True), (-100, -1, 0), REDUCTIONS, smoothings):
        weight = rng.uniform(0.1, 2, c).astype(dtype) if weighted else None
        options = {"reduction": reduction, "ignore_index": ignore}
        if smoothing is not None:
            options["label_smoothing"] = smoothing
        for t in (target, some_ignored) if ignore == -100 else (target,):
            what = f"{name} {shape} {dtype} weighted={weighted} {options}"
            compare(
                lambda F, v, o=options: getattr(F, name)(v["x"], v["target"], weight=v["weight"], **o),
                {"x": x, "target": t, "weight": weight}, ("x",), what,
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_probabilities(shape, dtype):
    rng = np.random.default_rng(1)
    c, _ = channels(shape)
    x = rng.normal(0, 3, shape).astype(dtype)
    target = rng.random(shape).astype(dtype)  # need not sum to 1
    for weighted, reduction, smoothing in product((False, True), REDUCTIONS, (0.0, 0.1, 1.0)):
        weight = rng.uniform(0.1, 2, c).astype(dtype) if weighted else None
        options = {"reduction": reduction, "label_smoothing": smoothing}
        arrays = {"x": x, "target": target, "weight": weight}
        for wanted in [("x",), ("x", "target"), *([("x", "target", "weight")] if weighted else [])]:
            compare(
                lambda F, v, o=options: F.cross_entropy(v["x"], v["target"], weight=v["weight"], **o), arrays, wanted,
                f"probabilities {shape} {dtype} weighted={weighted} {options}",
            )  # fmt: skip


@pytest.mark.parametrize(
    ("x_dtype", "target_dtype", "weight_dtype"), [d for d in product(DTYPES, repeat=3) if len(set(d)) > 1]
)
def test_probabilities_promote(x_dtype, target_dtype, weight_dtype):
    rng = np.random.default_rng(2)
    arrays = {
        "x": rng.normal(size=(4, 3)).astype(x_dtype),
        "target": rng.random((4, 3)).astype(target_dtype),
        "weight": rng.random(3).astype(weight_dtype),
    }
    for smoothing in (0.0, 0.2):
        compare(
            lambda F, v, s=smoothing: F.cross_entropy(v["x"], v["target"], v["weight"], label_smoothing=s), arrays,
            ("x", "target", "weight"), f"{x_dtype} {target_dtype} {weight_dtype}", 1e-5,
        )  # fmt: skip


# --- elementwise ------------------------------------------------------------------------------------------------------


def shapes_of_weights(shape):
    """None, the shape itself, and what broadcasts to it on trailing dimensions."""
    found = [None, shape]
    if shape:
        found += [(), (1,), shape[-1:], shape[:-1] + (1,)]
    return list(dict.fromkeys(found))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", FLAT, ids=str)
def test_bce(shape, dtype):
    rng = np.random.default_rng(3)
    x, target = rng.uniform(0.01, 0.99, shape).astype(dtype), rng.random(shape).astype(dtype)
    hard = (rng.random(shape) < 0.5).astype(dtype)
    for reduction, size, t in product(REDUCTIONS, shapes_of_weights(shape), (target, hard)):
        weight = None if size is None else np.asarray(rng.uniform(0.1, 2, size), dtype)
        for wanted in (("x",), ("x", "target")):
            compare(
                lambda F, v, r=reduction: F.binary_cross_entropy(v["x"], v["target"], v["weight"], reduction=r),
                {"x": x, "target": t, "weight": weight}, wanted, f"bce {shape} {dtype} {reduction} weight {size}", 3e-5
                if dtype == "float32" else None,
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", FLAT, ids=str)
def test_bce_with_logits(shape, dtype):
    rng = np.random.default_rng(4)
    x, target = rng.normal(0, 4, shape).astype(dtype), rng.uniform(-0.5, 1.5, shape).astype(dtype)
    for reduction, size, positive_size in product(REDUCTIONS, shapes_of_weights(shape), shapes_of_weights(shape)):
        if positive_size == shape[:-1] + (1,) and size not in (None, shape):
            continue
        weight, positive = (
            None if s is None else np.asarray(rng.uniform(0.1, 2, s), dtype) for s in (size, positive_size)
        )
        for wanted in (("x",), ("x", "target")):
            compare(
                lambda F, v, r=reduction: F.binary_cross_entropy_with_logits(
                    v["x"], v["target"], v["weight"], reduction=r, pos_weight=v["positive"]
                ),
                {"x": x, "target": target, "weight": weight, "positive": positive}, wanted,
                f"bce_with_logits {shape} {dtype} {reduction} weight {size} pos_weight {positive_size}",
            )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "x_dtype", "target_dtype"),
    [
        ("mse_loss", "float32", "float64"),
        ("mse_loss", "float64", "float32"),
        # the other way round PyTorch's result is float32
        ("binary_cross_entropy_with_logits", "float32", "float64"),
    ],
)
def test_elementwise_promote(name, x_dtype, target_dtype):
    rng = np.random.default_rng(5)
    arrays = {"x": rng.normal(size=5).astype(x_dtype), "target": rng.random(5).astype(target_dtype)}
    for wanted in (("x",), ("x", "target")):
        compare(lambda F, v: getattr(F, name)(v["x"], v["target"]), arrays, wanted, name, 1e-5)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", FLAT, ids=str)
def test_mse(shape, dtype):
    rng = np.random.default_rng(6)
    x, target = rng.normal(size=shape).astype(dtype), rng.normal(size=shape).astype(dtype)
    for reduction, weighted in product(REDUCTIONS, (False, True)):
        weight = np.asarray(rng.uniform(0.1, 2, shape), dtype) if weighted else None
        arrays = {"x": x, "target": target, "weight": weight}
        for wanted in [("x",), ("x", "target"), *([("x", "target", "weight")] if weighted else [])]:
            compare(
                lambda F, v, r=reduction: F.mse_loss(v["x"], v["target"], reduction=r, weight=v["weight"]), arrays,
                wanted, f"mse {shape} {dtype} {reduction} weighted={weighted}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shapes", [((3, 4), (4,)), ((2, 1, 3), (4, 1)), ((), (5,)), ((3, 1), (1, 4))], ids=str)
def test_mse_broadcasts(shapes, dtype):
    rng = np.random.default_rng(7)
    arrays = dict(zip(("x", "target"), (np.asarray(rng.normal(size=s), dtype) for s in shapes), strict=True))
    for wanted in (("x",), ("x", "target")):
        with pytest.warns(UserWarning, match="different to the input size"):
            compare(lambda F, v: F.mse_loss(v["x"], v["target"]), arrays, wanted, f"mse {shapes} {dtype}")


# --- both ways of asking ----------------------------------------------------------------------------------------------


NAMES = ["cross_entropy", "nll_loss", "binary_cross_entropy", "binary_cross_entropy_with_logits", "mse_loss"]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(("average", "reduce"), list(product((None, False, True), repeat=2))[1:])
def test_deprecated_reductions(name, average, reduce):
    rng = np.random.default_rng(8)
    labels = name in ("cross_entropy", "nll_loss")
    arrays = {"x": rng.uniform(0.1, 0.9, (3, 4)), "target": np.array([1, 0, 3]) if labels else rng.random((3, 4))}
    with pytest.warns(UserWarning, match="please use reduction="):
        compare(
            lambda F, v: getattr(F, name)(v["x"], v["target"], size_average=average, reduce=reduce), arrays, ("x",),
            f"{name} {average} {reduce}",
        )  # fmt: skip


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize(
    ("name", "options", "target"),
    [
        ("CrossEntropyLoss", {"ignore_index": 1, "label_smoothing": 0.1}, [2, 1, 0]),
        ("NLLLoss", {"ignore_index": 2}, [2, 1, 0]),
        ("BCELoss", {}, None),
        ("BCEWithLogitsLoss", {}, None),
        ("MSELoss", {}, None),
    ],
)
def test_modules(name, options, target, reduction):
    rng = np.random.default_rng(9)
    x, t = rng.uniform(0.1, 0.9, (3, 3)), np.array(target) if target else rng.random((3, 3))
    weights = [{}] if name == "MSELoss" else [{}, {"weight": rng.random(3)}]
    if name == "BCEWithLogitsLoss":
        weights += [{"pos_weight": rng.random(3)}, {"weight": rng.random((3, 3)), "pos_weight": rng.random(3)}]
    for more in weights:
        results = []
        for m in (mg, torch):
            module = getattr(m.nn, name)(
                **options, **{k: m.from_numpy(w) for k, w in more.items()}, reduction=reduction
            )
            a = m.from_numpy(x).requires_grad_(True)
            y = module(a, m.from_numpy(t))
            y.sum().backward()
            results.append((y, a.grad))
        for ours, theirs in zip(*results, strict=True):
            close("losses", ours, theirs, f"{name} {options} {list(more)} {reduction}")


# --- derivatives of derivatives ---------------------------------------------------------------------------------------

PROBABILITIES = np.random.default_rng(10).uniform(0.1, 0.9, (4, 3))
SECOND = {
    "cross_entropy": lambda F, x, t: (
        F.cross_entropy(x, t[:, 0] > 0.5, reduction="none")
        if F is mg.nn.functional
        else F.cross_entropy(x, (t[:, 0] > 0.5).long(), reduction="none")
    ),
    "smoothed": lambda F, x, t: F.cross_entropy(x, (t[:, 0] * 3).long(), ignore_index=2, label_smoothing=0.2),
    "probabilities": lambda F, x, t: F.cross_entropy(x, t, label_smoothing=0.2, reduction="sum"),
    "nll_loss": lambda F, x, t: F.nll_loss(F.log_softmax(x * x, 1), (t[:, 0] * 3).long()),
    "bce of sigmoid": lambda F, x, t: F.binary_cross_entropy(F.sigmoid(x), t),
    "bce of squares": lambda F, x, t: F.binary_cross_entropy(x * x / 100 + 0.1, t, reduction="none"),
    "bce_with_logits": lambda F, x, t: F.binary_cross_entropy_with_logits(x, t, pos_weight=t[0].detach()),
    "mse": lambda F, x, t: F.mse_loss(x * x, t, reduction="sum"),
}


@pytest.mark.parametrize("name", list(SECOND))
def test_second_derivatives(name):
    x0 = np.random.default_rng(11).normal(0, 2, (4, 3))
    results = []
    for m in (mg, torch):
        x, t = m.from_numpy(x0.copy()).requires_grad_(True), m.from_numpy(PROBABILITIES.copy())
        y = SECOND[name](m.nn.functional, x, t)
        (first,) = m.autograd.grad((y * y).sum(), (x,), create_graph=True)
        (second,) = m.autograd.grad((first * first).sum(), (x,))
        results.append((y, first, second))
    for ours, theirs in zip(*results, strict=True):
        # PyTorch's second derivative of BCE has 1e-12 added here and there
        close("losses", ours, theirs, name, 1e-8 if name.startswith("bce ") else None)


# --- extremes ---------------------------------------------------------------------------------------------------------

ROWS = [
    [1e4, -1e4, 0], [-1e4, 1e4, 0], [inf, 0, 1], [0, inf, 1], [-inf, 0, 1], [0, -inf, 1], [-inf, -inf, -inf],
    [nan, 0, 1], [0, nan, 1], [3e38, -3e38, 0], [0, 0, 0], [-0.0, 0, 0], [1e-40, -1e-40, 0], [inf, -inf, 0],
]  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("target", [0, 1, -100])
def test_extreme_logits(target, smoothing, dtype):
    for row, reduction in product(ROWS, REDUCTIONS):
        if target == -100 and not np.isfinite(row).all():
            continue  # the gradient of an ignored row is 0; PyTorch's is nan then
        x = np.array([row, [1, 2, 3]], dtype)
        compare(
            lambda F, v, r=reduction: F.cross_entropy(v["x"], v["target"], reduction=r, label_smoothing=smoothing),
            {"x": x, "target": np.array([target, 1])}, ("x",), f"{row} {dtype} {reduction}",
        )  # fmt: skip
        if smoothing == 0:
            compare(
                lambda F, v, r=reduction: F.nll_loss(v["x"], v["target"], reduction=r),
                {"x": x, "target": np.array([target, 1])}, ("x",), f"nll {row} {dtype} {reduction}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_logits_with_probabilities(dtype):
    for row, t in product(ROWS, ([1, 0, 0], [0, 1, 0], [0.2, 0.3, 0.5], [0, 0, 0])):
        compare(
            lambda F, v: F.cross_entropy(v["x"], v["target"], reduction="none"),
            {"x": np.array([row], dtype), "target": np.array([t], dtype)}, ("x",), f"{row} {t} {dtype}",
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("weight", [[0, 0, 0], [1, 0, 2], [0, 1, 0]], ids=str)
def test_weights_of_zero(weight, dtype):
    x = np.array([[1, 2, 3], [3, 2, 1]], dtype)
    for target, smoothing, reduction in product(([0, 0], [1, 1], [0, 1], [-100, 1]), (0.0, 0.1), REDUCTIONS):
        if reduction == "mean" and smoothing and target == [-100, 1]:
            continue  # PyTorch's smoothing term of the ignored row is 0 / 0 too
        compare(
            lambda F, v, r=reduction, s=smoothing: F.cross_entropy(
                v["x"], v["target"], v["weight"], reduction=r, label_smoothing=s
            ),
            {"x": x, "target": np.array(target), "weight": np.array(weight, dtype)}, ("x",),
            f"{weight} {target} {smoothing} {reduction}",
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_bce(dtype):
    x = [0, 1, 0, 1, 1e-44, 1e-30, 1 - 1e-7, 0.5, 0, 1]
    t = [1, 0, 0, 1, 1, 1, 0, 0.5, 0.5, 0.5]
    for reduction in REDUCTIONS:
        compare(
            lambda F, v, r=reduction: F.binary_cross_entropy(v["x"], v["target"], reduction=r),
            {"x": np.array(x, dtype), "target": np.array(t, dtype)}, ("x",), f"{dtype} {reduction}",
            1e-8 if dtype == "float64" else None,  # PyTorch's 1e-12 is float32(1e-12)
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_bce_with_logits(dtype):
    for x, t in product((1e4, -1e4, 1e38, -1e38, nan, inf, -inf, 0, -0.0, 100, -100), (0, 1, 0.5, 2, -1)):
        if np.isinf(x) and (x < 0 or t == 1):
            continue  # certain: 0 if right, infinite if wrong; PyTorch has 0 * inf = nan
        compare(
            lambda F, v: F.binary_cross_entropy_with_logits(v["x"], v["target"], reduction="none"),
            {"x": np.array([x], dtype), "target": np.array([t], dtype)}, ("x",), f"{x} {t} {dtype}",
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
def test_extreme_mse(dtype):
    values = np.array([1e30, -1e30, inf, -inf, nan, 0, 1e-30, -0.0], dtype)
    x, t = (v.ravel() for v in np.meshgrid(values, values))
    for reduction in REDUCTIONS:
        compare(
            lambda F, v, r=reduction: F.mse_loss(v["x"], v["target"], reduction=r), {"x": x, "target": t}, ("x",), dtype
        )


# --- errors -----------------------------------------------------------------------------------------------------------

X, P, T = np.ones((3, 4)), np.full((3, 4), 0.5), np.array([0, 1, 3])
BCE, LOGITS = "binary_cross_entropy", "binary_cross_entropy_with_logits"
WRONG = [
    *((f, a, o) for f in ("cross_entropy", "nll_loss") for a, o in [
        ((X, T[:2]), {}), ((X, T + 1), {}), ((X, T - 1), {}), ((X, T), {"weight": np.ones(3)}),
        ((X, T), {"weight": np.ones((1, 4))}), ((X, T), {"weight": np.ones(4, "f4")}), ((X, T), {"reduction": "avg"}),
        ((X, T), {"reduction": None}), ((X[0], T), {}), ((X[None], T), {}),
        ((X.astype(int), T), {}), ((X, np.array(1)), {}), ((X, T[:, None]), {}), ((X[:, :0], T), {}),
        ((X[None], np.zeros((1, 3), int)), {}), ((X, T), {"ignore_index": 0, "weight": np.ones(5)}),
    ]),
    *(("cross_entropy", (X, t), o) for t, o in [
        (T, {"label_smoothing": 1.1}), (P, {"ignore_index": 1}), (P[:, :3], {}),
        (P.astype(int), {}), (T * 1.0, {}), (P, {"weight": np.ones(3)}), (P, {"label_smoothing": 2.0}),
    ]),
    *((f, a, o) for f in (BCE, LOGITS) for a, o in [
        ((P, P[:2]), {}), ((P, P[0]), {}), ((P, P), {"weight": np.ones(3)}), ((P, P), {"reduction": "avg"}),
        ((P.astype(int), P), {}),
    ]),
    ("nll_loss", (np.array(1.0), T[0]), {}),
    (BCE, (P + 1, P), {}), (BCE, (P - 1, P), {}), (BCE, (P * nan, P), {}), (BCE, (P, P + 1), {}), (BCE, (P, P - 1), {}),
    (LOGITS, (P, P), {"pos_weight": np.ones(3)}),
    ("mse_loss", (X, X[:2]), {}), ("mse_loss", (X.astype(int), X.astype(int)), {}),
    ("mse_loss", (X, X), {"reduction": 1}), ("mse_loss", (X, X), {"weight": np.ones(3)}),
]  # fmt: skip


@pytest.mark.filterwarnings("ignore:Using a target size")
def test_errors():
    for name, arguments, options in WRONG:
        kinds = []
        for m in (mg, torch):
            given = [m.from_numpy(np.array(a)) for a in arguments]
            more = {k: m.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
            with pytest.raises((RuntimeError, ValueError, IndexError, TypeError)) as caught:
                getattr(m.nn.functional, name)(*given, **more)
            kinds.append(caught.type)
        what = f"{name} {[np.shape(a) for a in arguments]} {arguments[-1].ravel()[:3]} {options}: {kinds}"
        assert kinds[0] is kinds[1] or kinds == [NotImplementedError, RuntimeError], what
        close("losses", None, None, what)
