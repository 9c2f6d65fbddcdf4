"""The losses whose unit is a row against PyTorch: all combinations of their arguments, gradients, extremes, errors."""

import math
import warnings
from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

DTYPES = ("float32", "float64")
REDUCTIONS = ("none", "mean", "sum")
inf, nan = np.inf, np.nan
CLASSES = [(7, 5), (5,), (), (1, 4), (3, 1), (40, 200)]


def evaluate(m, call, arrays, wanted):
    """The loss ``call(F, **tensors)`` and the gradients of the wanted arguments."""
    tensors = {name: None if a is None else m.from_numpy(np.array(a)) for name, a in arrays.items()}
    for name in wanted:
        tensors[name].requires_grad_(True)
    y = call(m.nn.functional, **tensors)
    if wanted:
        dy = np.cos(0.5 + np.arange(y.numel())).reshape(tuple(y.shape)).astype(str(y.dtype).partition(".")[2])
        y.backward(m.from_numpy(np.asarray(dy)))
    return [y, *[tensors[name].grad for name in wanted]]


def compare(call, arrays, wanted, what, rtol=None):
    """Loss and gradients agree with PyTorch's, and the loss alone has the bits of the loss with gradients."""
    ours = evaluate(mg, call, arrays, wanted)
    for name, a, b in zip(("loss", *wanted), ours, evaluate(torch, call, arrays, wanted), strict=True):
        close("row losses", a, b, f"{name} {what}", rtol)
    alone = evaluate(mg, call, arrays, ())[0]
    if "target" in wanted:  # its gradient comes with another way to the loss
        return
    assert alone.numpy().tobytes() == ours[0].detach().numpy().tobytes(), what


def grid(**options):
    """All combinations of the options."""
    return [dict(zip(options, values, strict=True)) for values in product(*options.values())]


# --- margins over classes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", CLASSES, ids=str)
def test_multi_margin(shape, dtype):
    rng = np.random.default_rng(0)
    x, n = rng.normal(0, 2, shape).astype(dtype), shape[-1] if shape else 1
    target = rng.integers(0, n, shape[:-1])
    for t in [target, *([target.reshape(1)] if target.ndim == 0 else [])]:
        for o in grid(p=(1, 2), margin=(1.0, 0.3, -0.5, 0), reduction=REDUCTIONS, weight=(False, True)):
            w = rng.uniform(0.1, 2, n).astype(dtype) if o.pop("weight") else None
            compare(
                lambda F, x, target, weight, o=o: F.multi_margin_loss(x, target, weight=weight, **o),
                {"x": x, "target": t, "weight": w}, ("x",), f"multi_margin {shape} {t.shape} {dtype} {o}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", CLASSES, ids=str)
def test_multilabel_margin(shape, dtype):
    rng = np.random.default_rng(1)
    x, n = rng.normal(0, 2, shape).astype(dtype), shape[-1] if shape else 1
    for low, reduction in product((-1, 0), REDUCTIONS):  # with -1 some rows end early; labels repeat
        compare(
            lambda F, x, target, r=reduction: F.multilabel_margin_loss(x, target, reduction=r),
            {"x": x, "target": rng.integers(low, n, shape)}, ("x",), f"multilabel_margin {shape} {dtype} {reduction}",
        )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shape", [(7, 5), (5,), (1, 1), (2, 3, 4), (2, 1, 2, 3, 2), (0, 3), (2, 0), (3, 1500)], ids=str
)
def test_multilabel_soft_margin(shape, dtype):
    rng = np.random.default_rng(2)
    x, target = rng.normal(0, 4, shape).astype(dtype), rng.random(shape).astype(dtype)
    weights = [None, shape, shape[-1:], (), (1,), shape[:-1] + (1,)]
    for size, reduction, t in product(weights, REDUCTIONS, (target, target > 0.5, target[..., :1], target[:1])):
        w = None if size is None else np.asarray(rng.uniform(0.1, 2, size), dtype)
        t = t.astype(np.int64) if t.dtype == bool else t
        for wanted in [("x",), *([("x", "target")] if t is target and w is None else [])]:
            compare(
                lambda F, x, target, weight, r=reduction: F.multilabel_soft_margin_loss(x, target, weight, reduction=r),
                {"x": x, "target": t, "weight": w}, wanted, f"soft {shape} {t.shape} {dtype} {size} {reduction}", 2e-5
                if dtype == "float32" else None,
            )  # fmt: skip


@pytest.mark.parametrize("shapes", [((1, 4), (3, 4)), ((4,), (1, 4))], ids=str)
def test_soft_margin_of_a_target_larger_than_the_input(shapes):
    rng = np.random.default_rng(3)
    arrays = {"x": rng.normal(size=shapes[0]), "target": rng.random(shapes[1])}
    for reduction in REDUCTIONS:
        compare(
            lambda F, x, target, r=reduction: F.multilabel_soft_margin_loss(x, target, reduction=r), arrays,
            ("x", "target"), reduction,
        )  # fmt: skip


# --- pairs and triplets -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("a", "b", "t"),
    [((7, 5), (7, 5), (7,)), ((5,), (5,), ()), ((1, 4), (1, 4), (1,)), ((3, 4), (1, 4), (3,)), ((1, 4), (3, 1), (3,)),
     ((3, 4), (3, 4), (1,)), ((1, 4), (1, 4), (3,)), ((0, 4), (0, 4), (0,)), ((2, 0), (2, 0), (2,)),
     ((40, 300), (40, 300), (40,))], ids=str,
)  # fmt: skip
def test_cosine_embedding(a, b, t, dtype):
    rng = np.random.default_rng(4)
    arrays = {"a": rng.normal(size=a).astype(dtype), "b": rng.normal(size=b).astype(dtype)}
    targets = [rng.choice([-1, 1, 1, 0], t), rng.choice([-1.0, 1.0], t).astype("float32")]
    for target, margin, reduction in product(targets, (0.0, 0.4, -0.5, 1), REDUCTIONS):
        for wanted in (("a", "b"), ("b",)) if b[-1:] != (1,) else (("a",),):  # of one element the gradient is rounding
            compare(
                lambda F, a, b, t, m=margin, r=reduction: F.cosine_embedding_loss(a, b, t, m, reduction=r),
                {**arrays, "t": np.asarray(target)}, wanted, f"cosine {a} {b} {t} {dtype} {margin} {reduction}",
            )  # fmt: skip


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    "shapes",
    [((7, 5),) * 3, ((5,),) * 3, ((2, 3, 4),) * 3, ((2, 1, 2, 1, 3),) * 3, ((1, 1),) * 3, ((0, 3),) * 3, ((2, 0),) * 3,
     ((20, 300),) * 3, ((4, 3), (1, 3), (4, 1)), ((4, 1), (1, 1), (4, 3)), ((),) * 3], ids=str,
)  # fmt: skip
def test_triplet_margin(shapes, dtype):
    rng = np.random.default_rng(5)
    arrays = {name: rng.normal(size=s).astype(dtype) for name, s in zip("apn", shapes, strict=True)}
    large = max(math.prod(s) for s in shapes) > 1000
    for o in grid(
        margin=(1.0, 0.3), p=(2, 1, inf, 0.5, 1.5, 3.0), eps=(1e-6, 0.1), swap=(False, True), reduction=REDUCTIONS
    ):
        if (o["p"] == inf and 0 in shapes[0][-1:]) or (large and (o["eps"], o["margin"]) != (1e-6, 1.0)):
            continue
        for wanted in (("a", "p", "n"), ("n",)) if o["margin"] == 1 else (("a", "p", "n"),):
            compare(
                lambda F, a, p, n, o=o: F.triplet_margin_loss(a, p, n, **o), arrays, wanted,
                f"triplet {shapes} {dtype} {o}", 1e-10 if dtype == "float64" else 3e-5 if o["p"] >= 1 else 1e-3,
            )  # fmt: skip


def test_triplet_norms_without_a_kernel():
    rng = np.random.default_rng(6)
    arrays = {name: rng.normal(size=(4, 3)) for name in "apn"}
    for p, swap in product((0, -1.0, -inf), (False, True)):
        wanted = "apn" if p else ()
        compare(lambda F, a, p, n, o=p, s=swap: F.triplet_margin_loss(a, p, n, p=o, swap=s), arrays, wanted, f"p {p}")


def test_triplet_with_distance():
    rng = np.random.default_rng(7)
    arrays = {name: rng.normal(size=(6, 3)) for name in "apn"}
    distances = (None, lambda u, v: 1 - (u * v).sum(1), lambda u, v: (u - v).abs().amax(1))
    for distance, margin, swap, reduction in product(distances, (1.0, 0.2), (False, True), REDUCTIONS):
        o = {"distance_function": distance, "margin": margin, "swap": swap, "reduction": reduction}
        compare(lambda F, a, p, n, o=o: F.triplet_margin_with_distance_loss(a, p, n, **o), arrays, "apn", f"{o}")
        for m in (mg, torch):
            module = m.nn.TripletMarginWithDistanceLoss(**o)
            y = module(*[m.from_numpy(a) for a in arrays.values()])
            z = m.nn.functional.triplet_margin_with_distance_loss(*[m.from_numpy(a) for a in arrays.values()], **o)
            assert (y == z).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_distances(dtype):
    rng = np.random.default_rng(8)
    for a, b in [((7, 5), (7, 5)), ((7, 5), (5,)), ((5,), (5,)), ((2, 3, 4), (3, 4)), ((0, 3), (0, 3))]:
        arrays = {"a": rng.normal(size=a).astype(dtype), "b": rng.normal(size=b).astype(dtype)}
        for p, eps, keepdim in product((2.0, 1.0, inf, 3.0, 0.5), (1e-6, 0.1), (False, True)):
            compare(lambda F, a, b, o=(p, eps, keepdim): F.pairwise_distance(a, b, *o), arrays, "ab", f"{a} {b} {p}")
        for dim, eps, scale in product((-1, 0) if a == b else (-1,), (1e-8, 0.5, 10.0), (1, 1e-3)):
            small = {"a": arrays["a"] * scale, "b": arrays["b"]}
            compare(lambda F, a, b, d=dim, e=eps: F.cosine_similarity(a, b, d, e), small, "ab", f"{a} {dim} {eps}")


# --- alignments -------------------------------------------------------------------------------------------------------


def log_softmax(x, dtype):
    x = x - x.max(-1, keepdims=True)
    return (x - np.log(np.exp(x).sum(-1, keepdims=True))).astype(dtype)


CTC = {  # T, N, C, input lengths, target lengths
    "plain": (6, 3, 5, [6, 6, 6], [2, 2, 2]),
    "ragged": (8, 4, 5, [8, 5, 3, 7], [3, 0, 2, 1]),
    "too short": (4, 3, 3, [4, 2, 4], [2, 4, 4]),
    "nothing": (3, 2, 4, [0, 0], [0, 1]),
    "long": (90, 2, 30, [90, 70], [20, 31]),
    "one class": (3, 1, 1, [3], [0]),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CTC)
def test_ctc(case, dtype):
    frames, batch, n, inputs, lengths = CTC[case]
    rng = np.random.default_rng(9)
    x = log_softmax(rng.normal(0, 2, (frames, batch, n)), dtype)
    for o in grid(
        blank=sorted({0, n - 1}), reduction=REDUCTIONS, zero_infinity=(False, True), concatenated=(False, True)
    ):
        labels = rng.choice([c for c in range(n) if c != o["blank"]] or [0], (batch, max(lengths) + 1))
        if o.pop("concatenated"):
            labels = np.concatenate([row[:k] for row, k in zip(labels, lengths, strict=True)])
        for kind in ("tensor", "list", "tuple"):

            def call(F, x, t, kind=kind, o=o):
                m = torch if F is torch.nn.functional else mg
                make = {"tensor": m.tensor, "list": list, "tuple": tuple}[kind]
                return F.ctc_loss(x, t, make(inputs), make(lengths), **o)

            rtol = 1e-10 if dtype == "float64" else 1e-2 if case == "long" else 1e-4  # PyTorch adds up in float32
            compare(call, {"x": x, "t": labels}, ("x",), f"{case} {dtype} {o} {kind}", rtol)


@pytest.mark.parametrize("dtype", DTYPES)
def test_ctc_unbatched(dtype):
    x = log_softmax(np.random.default_rng(10).normal(size=(7, 4)), dtype)
    for o in grid(blank=(0, 3), reduction=REDUCTIONS, zero_infinity=(False, True)):
        labels = np.array([1, 1, 2])
        for t, shape in product((labels, labels[None], labels[:2]), ((), (1,))):

            def call(F, x, t, shape=shape, o=o):
                m = torch if F is torch.nn.functional else mg
                return F.ctc_loss(x, t, m.full(shape, 7), m.full(shape, 2), **o)

            if t.size == 2 or t.ndim == 2:
                compare(call, {"x": x, "t": t}, ("x",), f"unbatched {o} {shape}", 1e-4 if dtype == "float32" else 1e-10)


def test_ctc_through_log_softmax_and_infinities():
    rng = np.random.default_rng(11)
    x = rng.normal(size=(6, 2, 4))
    t = np.array([[1, 2], [3, 3]])
    compare(lambda F, x, t: F.ctc_loss(F.log_softmax(x, 2), t, [6, 5], [2, 2]), {"x": x, "t": t}, ("x",), "logits")
    x = log_softmax(x, "float64")
    x[2, 0, 1] = x[1, 0, 3] = x[4, 1, 3] = -inf  # PyTorch's gradient is nan there; here it is finite
    call = lambda F, x, t: F.ctc_loss(x, t, [6, 6], [2, 2], reduction="none")  # noqa: E731
    (y, dx), (want, want_dx) = (evaluate(m, call, {"x": x, "t": t}, ("x",)) for m in (mg, torch))
    close("row losses", y, want, "-inf")
    dx, want_dx = dx.numpy(), want_dx.numpy()
    assert np.isnan(want_dx).sum() == 3
    np.testing.assert_allclose(dx[~np.isinf(x)], want_dx[~np.isinf(x)], rtol=1e-10, atol=1e-14)
    assert (dx[np.isinf(x)] == 0).all()
    for value in (nan, -inf):
        x[3, 0] = value
        for zero in (False, True):
            compare(
                lambda F, x, t, z=zero: F.ctc_loss(x, t, [6, 6], [2, 2], reduction="none", zero_infinity=z)[0],
                {"x": x, "t": t}, (), f"{value} {zero}",
            )  # fmt: skip


# --- extremes, strides, second derivatives ----------------------------------------------------------------------------

ROWS = {  # name: (arguments, keywords) of small float64 arrays
    "multi_margin_loss": lambda r: ([r.normal(size=(3, 4))], [np.array([0, 3, 1])]),
    "multilabel_margin_loss": lambda r: ([r.normal(size=(3, 4))], [np.array([[0, 1, -1, 2]] * 3)]),
    "multilabel_soft_margin_loss": lambda r: ([r.normal(size=(3, 4))], [r.random((3, 4))]),
    "cosine_embedding_loss": lambda r: ([r.normal(size=(3, 4)), r.normal(size=(3, 4))], [np.array([1, -1, 1])]),
    "triplet_margin_loss": lambda r: ([r.normal(size=(3, 4)) for _ in range(3)], []),
}


@pytest.mark.parametrize("name", ROWS)
def test_extremes(name):
    floats, others = ROWS[name](np.random.default_rng(12))
    for value in (nan, inf, -inf, 1e30):
        for i in range(len(floats)):
            for dtype in DTYPES if value != 1e30 else ("float64",):
                arrays = {f"x{k}": a.astype(dtype) for k, a in enumerate(floats)}
                arrays[f"x{i}"][1, 2] = value
                ours, theirs = (
                    [m.from_numpy(np.array(a)).requires_grad_(True) for a in arrays.values()] for m in (mg, torch)
                )
                rest = [[m.from_numpy(a.astype(dtype) if a.dtype == float else a) for a in others] for m in (mg, torch)]
                y = getattr(mg.nn.functional, name)(*ours, *rest[0], reduction="none")
                z = getattr(torch.nn.functional, name)(*theirs, *rest[1], reduction="none")
                close("row losses", y, z, f"{name} {value} at {i}")
                y.sum().backward()
                z.sum().backward()
                for a, b in zip(ours, theirs, strict=True):
                    keep = np.arange(3) != 1  # the other rows are as ever
                    close("row losses", a.grad[keep.nonzero()[0]], b.grad[keep.nonzero()[0]], f"{name} {value}")


@pytest.mark.parametrize("name", ROWS)
def test_strides(name):
    floats, others = ROWS[name](np.random.default_rng(13))
    results = []
    for m in (mg, torch):
        bases = [m.from_numpy(np.repeat(a.T, 2, 0).copy()).requires_grad_(True) for a in floats]
        rest = [m.from_numpy(np.repeat(a, 2, -1))[..., ::2] for a in others]
        y = getattr(m.nn.functional, name)(*[b[::2].t() for b in bases], *rest)
        y.backward()
        results.append([y, *[b.grad for b in bases]])
    for a, b in zip(*results, strict=True):
        close("row losses", a, b, name)


@pytest.mark.parametrize("name", ["multilabel_soft_margin_loss", "cosine_embedding_loss", "triplet_margin_loss"])
def test_second_derivatives(name):
    floats, others = ROWS[name](np.random.default_rng(14))
    for reduction in REDUCTIONS:
        results = []
        for m in (mg, torch):
            xs = [m.from_numpy(np.array(a)).requires_grad_(True) for a in floats]
            y = getattr(m.nn.functional, name)(*xs, *[m.from_numpy(a) for a in others], reduction=reduction)
            first = m.autograd.grad((y * y).sum(), xs, create_graph=True)
            results.append([*first, *m.autograd.grad(sum((g * g).sum() for g in first), xs)])
        for a, b in zip(*results, strict=True):
            close("row losses", a, b, f"{name} {reduction}", 1e-9)


def test_mixed_dtypes():
    rng = np.random.default_rng(15)
    for types in product(DTYPES, repeat=3):
        a, p, n = (rng.normal(size=(4, 3)).astype(t) for t in types)
        t = np.array([1, -1, 1, -1])
        compare(lambda F, a, p, n: F.triplet_margin_loss(a, p, n), {"a": a, "p": p, "n": n}, "apn", types, 1e-5)
        compare(lambda F, a, b, t: F.cosine_embedding_loss(a, b, t), {"a": a, "b": p, "t": t}, "ab", types, 1e-5)
        compare(lambda F, x, t, w: F.multilabel_soft_margin_loss(x, t, w), {"x": a, "t": p, "w": n}, "x", types, 1e-5)
    whole = {"a": np.array([[1, 2], [3, 4]]), "b": np.array([[2, 1], [0, 1]]), "t": np.array([1, -1])}
    compare(lambda F, a, b, t: F.cosine_embedding_loss(a, b, t), whole, (), "integers")
    compare(lambda F, a, b, t: F.triplet_margin_loss(a, b, a), whole, (), "integers")


# --- errors, warnings, modules ----------------------------------------------------------------------------------------

x = np.ones((3, 4))
WRONG = {
    "p": ("multi_margin_loss", [x, np.array([0, 1, 2])], {"p": 3}),
    "label": ("multi_margin_loss", [x, np.array([0, 4, 2])], {}),
    "negative label": ("multi_margin_loss", [x, np.array([0, -1, 2])], {}),
    "labels": ("multi_margin_loss", [x, np.array([0, 1])], {}),
    "2-d labels": ("multi_margin_loss", [x, np.array([[0], [1], [1]])], {}),
    "float labels": ("multi_margin_loss", [x, np.ones(3)], {}),
    "integer input": ("multi_margin_loss", [x.astype(int), np.array([0, 1, 2])], {}),
    "no classes": ("multi_margin_loss", [x[:, :0], np.array([0, 1, 2])], {}),
    "3-d": ("multi_margin_loss", [x[None], np.array([0])], {}),
    "weight": ("multi_margin_loss", [x, np.array([0, 1, 2])], {"weight": np.ones(3)}),
    "2-d weight": ("multi_margin_loss", [x, np.array([0, 1, 2])], {"weight": np.ones((1, 4))}),
    "weight dtype": ("multi_margin_loss", [x, np.array([0, 1, 2])], {"weight": np.ones(4, "float32")}),
    "reduction": ("multi_margin_loss", [x, np.array([0, 1, 2])], {"reduction": "all"}),
    "ml label": ("multilabel_margin_loss", [x, np.full((3, 4), 4)], {}),
    "ml low label": ("multilabel_margin_loss", [x, np.full((3, 4), -2)], {}),
    "ml label after the end": ("multilabel_margin_loss", [x, np.array([[-1, 9, 9, 9]] * 3)], {}),
    "ml shape": ("multilabel_margin_loss", [x, np.zeros((3, 3), int)], {}),
    "ml rank": ("multilabel_margin_loss", [x[0], np.zeros((1, 4), int)], {}),
    "ml float": ("multilabel_margin_loss", [x, np.zeros((3, 4))], {}),
    "ml no classes": ("multilabel_margin_loss", [x[:, :0], np.zeros((3, 0), int)], {}),
    "soft shape": ("multilabel_soft_margin_loss", [x, np.zeros((3, 3))], {}),
    "soft weight": ("multilabel_soft_margin_loss", [x, x, np.ones(3)], {}),
    "soft 0-d": ("multilabel_soft_margin_loss", [np.array(1.0), np.array(1.0)], {}),
    "soft integer": ("multilabel_soft_margin_loss", [x.astype(int), x], {}),
    "soft reduction": ("multilabel_soft_margin_loss", [x, x], {"reduction": "all"}),
    "cosine 2-d target": ("cosine_embedding_loss", [x, x, np.ones((3, 1))], {}),
    "cosine 0-d target": ("cosine_embedding_loss", [x, x, np.array(1)], {}),
    "cosine rank": ("cosine_embedding_loss", [x[0], x[0], np.ones(1)], {}),
    "cosine ranks": ("cosine_embedding_loss", [x, x[0], np.ones(3)], {}),
    "cosine rows": ("cosine_embedding_loss", [x, x[:2], np.ones(3)], {}),
    "cosine targets": ("cosine_embedding_loss", [x, x, np.ones(2)], {}),
    "triplet ranks": ("triplet_margin_loss", [x, x, x[0]], {}),
    "triplet rows": ("triplet_margin_loss", [x, x[:2], x], {}),
    "triplet margin": ("triplet_margin_loss", [x, x, x], {"margin": 0}),
    "triplet inf of nothing": ("triplet_margin_loss", [x[:, :0]] * 3, {"p": inf}),
    "triplet reduction": ("triplet_margin_loss", [x, x, x], {"reduction": "all"}),
    "distance ranks": ("triplet_margin_with_distance_loss", [x, x, x[0]], {}),
    "distance margin": ("triplet_margin_with_distance_loss", [x, x, x], {"margin": -1}),
    "distance reduction": ("triplet_margin_with_distance_loss", [x, x, x], {"reduction": "all"}),
    "cosine dim": ("cosine_similarity", [x, x], {"dim": 2}),
    "cosine integers": ("cosine_similarity", [x.astype(int), x.astype(int)], {}),
}
LP, LABELS = np.log(np.full((5, 2, 4), 0.25)), np.array([[1, 2], [3, 3]])
CTC_WRONG = {
    "input lengths": (LP, LABELS, [5], [2, 2]), "target lengths": (LP, LABELS, [5, 5], [2]),
    "long input": (LP, LABELS, [5, 6], [2, 2]), "negative input": (LP, LABELS, [5, -1], [2, 2]),
    "negative target": (LP, LABELS, [5, 5], [2, -1]), "long target": (LP, LABELS, [5, 5], [2, 3]),
    "concatenated": (LP, LABELS.ravel(), [5, 5], [2, 1]), "batch": (LP, LABELS[:1], [5, 5], [2, 2]),
    "3-d targets": (LP, LABELS[None], [5, 5], [2, 2]), "0-d targets": (LP[:, 0], np.array(1), [5], [1]),
    "1-d": (LP[:, 0, 0], LABELS, [5, 5], [2, 2]), "empty": (LP[:0], LABELS, [0, 0], [2, 2]),
    "no batch": (LP[:, :0], LABELS[:0], [], []), "integers": (LP.astype(int), LABELS, [5, 5], [2, 2]),
    "blank": (LP, LABELS, [5, 5], [2, 2], 4), "negative blank": (LP, LABELS, [5, 5], [2, 2], -1),
    "reduction": (LP, LABELS, [5, 5], [2, 2], 0, "all"),
}  # fmt: skip


def raised(m, name, arguments, options):
    arguments = [m.from_numpy(np.array(a)) if isinstance(a, np.ndarray) else a for a in arguments]
    options = {k: m.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
    with pytest.raises((RuntimeError, ValueError, IndexError, TypeError)) as caught:
        getattr(m.nn.functional, name)(*arguments, **options)
    return caught.type


@pytest.mark.parametrize("case", WRONG)
def test_errors(case):
    name, arguments, options = WRONG[case]
    assert raised(mg, name, arguments, options) is raised(torch, name, arguments, options)


@pytest.mark.parametrize("case", CTC_WRONG)
def test_ctc_errors(case):
    assert raised(mg, "ctc_loss", CTC_WRONG[case], {}) is raised(torch, "ctc_loss", CTC_WRONG[case], {})


def options_of(module):
    return {k: v for k, v in vars(module).items() if isinstance(v, (bool, int, float, str)) and k[0] != "_"}


@pytest.mark.filterwarnings("ignore:size_average and reduce")
def test_legacy_reductions_and_modules():
    rng = np.random.default_rng(16)
    modules = {
        "MultiMarginLoss": "multi_margin_loss", "MultiLabelMarginLoss": "multilabel_margin_loss",
        "MultiLabelSoftMarginLoss": "multilabel_soft_margin_loss", "CosineEmbeddingLoss": "cosine_embedding_loss",
        "TripletMarginLoss": "triplet_margin_loss",
    }  # fmt: skip
    for module, name in modules.items():
        floats, others = ROWS[name](rng)
        for average, reduce in product((None, True, False), repeat=2):
            results = []
            for m in (mg, torch):
                given = [m.from_numpy(a) for a in (*floats, *others)]
                with warnings.catch_warnings(record=True) as seen:
                    warnings.simplefilter("always")
                    made = getattr(m.nn, module)(size_average=average, reduce=reduce)
                    y = getattr(m.nn.functional, name)(*given, size_average=average, reduce=reduce)
                z = made(*given)
                results.append((y, z, len(seen), repr(made), list(made.state_dict()), options_of(made)))
            close("row losses", results[0][0], results[1][0], f"{name} {average} {reduce}")
            close("row losses", results[0][1], results[1][1], f"{module} {average} {reduce}")
            assert results[0][2:] == results[1][2:]
    for module in ("CTCLoss", "PairwiseDistance", "CosineSimilarity", "TripletMarginWithDistanceLoss"):
        ours, theirs = (getattr(m.nn, module)() for m in (mg, torch))
        assert repr(ours) == repr(theirs) and options_of(ours) == options_of(theirs)
