"""linear_cross_entropy against PyTorch: its reference path and its chunked one, over all combinations of arguments."""

import warnings
from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

DTYPES = ("float32", "float64")
REDUCTIONS = ("none", "mean", "sum")
CASES = {  # name: (shape of the input, classes, positions)
    "rows": ((11, 4), 7, ()),
    "one row": ((1, 4), 3, ()),
    "unbatched": ((4,), 7, ()),
    "wide": ((5, 3), 200, ()),
    "one class": ((5, 3), 1, ()),
    "one feature": ((5, 1), 4, ()),
    "positions": ((6, 4), 5, (3,)),
    "more positions": ((6, 4), 5, (2, 3)),
    "no rows": ((0, 4), 5, ()),
    "no positions": ((6, 4), 5, (0,)),
    "no features": ((6, 0), 5, (2,)),
}
RTOL = {"float32": 3e-5, "float64": 1e-11}


def evaluate(m, arrays, wanted, options, chunk):
    """The loss and the gradients of ``wanted``; ``chunk``: rows of a chunk, None for the library's own way."""
    v = {name: None if a is None else m.from_numpy(np.array(a)) for name, a in arrays.items()}
    for name in wanted:
        v[name].requires_grad_(True)
    if chunk is not None:
        options = options | {"options": m.nn.LinearCrossEntropyOptions(batch_chunk_size=chunk)}
    y = m.nn.functional.linear_cross_entropy(
        v["x"], v["w"], v["target"], linear_bias=v["b"], weight=v["weight"], **options
    )
    if wanted:
        dy = np.cos(0.5 + np.arange(y.numel())).reshape(tuple(y.shape)).astype(arrays["x"].dtype)
        y.backward(m.from_numpy(np.asarray(dy)))
    return [y, *[v[name].grad for name in wanted]]


def compare(arrays, wanted, options, what, chunks=(None, 2)):
    theirs = evaluate(torch, arrays, wanted, options, None)
    for chunk in chunks:
        ours = evaluate(mg, arrays, wanted, options, chunk)
        for name, a, b in zip(("loss", *wanted), ours, theirs, strict=True):
            close("linear cross-entropy", a, b, f"{name} {what} {options} {chunk}", RTOL[arrays["x"].dtype.name])


def make(case, dtype, kind, biased, weighted, rng):
    size, c, out = CASES[case]
    shape = size[:-1] + out
    arrays = {
        "x": rng.normal(size=size), "w": rng.normal(size=(c, *out, size[-1])),
        "b": rng.normal(size=(c, *out)) if biased else None, "weight": rng.uniform(0.1, 2, c) if weighted else None,
    }  # fmt: skip
    arrays = {name: None if a is None else a.astype(dtype) for name, a in arrays.items()}
    if kind == "probabilities":
        arrays["target"] = rng.random((*size[:-1], c, *out)).astype(dtype)
    else:
        arrays["target"] = np.where(
            rng.random(shape) < 0.3, -100 if kind == "ignored" else 0, rng.integers(0, c, shape)
        )
    return arrays


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("case", CASES)
def test_arguments(case, dtype):
    rng = np.random.default_rng(0)
    kinds = ("labels", "ignored", "probabilities")
    for kind, biased, weighted, reduction, smoothing in product(kinds, *[(False, True)] * 2, REDUCTIONS, (0.0, 0.1)):
        if case == "one class" and smoothing:
            continue  # the gradient is 0; what rounding leaves of it cannot be compared
        arrays = make(case, dtype, kind, biased, weighted, rng)
        options = {"reduction": reduction, "label_smoothing": smoothing}
        compare(arrays, ("x", "w", *["b"] * biased), options, f"{case} {dtype} {kind} {weighted}")


@pytest.mark.parametrize("ignore", [None, -100, 0, 2])
@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_ignored_labels_and_needs(reduction, ignore):
    rng = np.random.default_rng(1)
    arrays = make("rows", "float64", "labels", True, True, rng)
    options = {"reduction": reduction, "ignore_index": ignore}
    for needs in product((False, True), repeat=3):
        compare(arrays, tuple(n for n, need in zip("xwb", needs) if need), options, f"{needs}", (None, 3))
    if ignore is not None:
        compare(arrays | {"target": np.full(11, ignore)}, ("x", "w", "b"), options, "all ignored")


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_chunked(reduction):
    """With options both libraries run in chunks of the same rows."""
    rng = np.random.default_rng(2)
    for dtype, biased, weighted, chunk in product(DTYPES, *[(False, True)] * 2, (1, 4, 11, 100)):
        arrays = make("rows", dtype, "ignored", biased, weighted, rng)
        wanted, options = ("x", "w", *["b"] * biased), {"reduction": reduction}
        ours = evaluate(mg, arrays, wanted, options, chunk)
        theirs = evaluate(torch, arrays, wanted, options, chunk)
        for name, a, b in zip(("loss", *wanted), ours, theirs, strict=True):
            close("linear cross-entropy", a, b, f"{name} chunk {chunk}", RTOL[dtype])


def test_gradients_of_probabilities():
    rng = np.random.default_rng(3)
    for case, reduction in product(("rows", "unbatched", "positions"), REDUCTIONS):
        arrays = make(case, "float64", "probabilities", True, True, rng)
        compare(arrays, ("x", "w", "b", "target"), {"reduction": reduction}, case)


@pytest.mark.parametrize("reduction", REDUCTIONS)
@pytest.mark.parametrize("case", ["rows", "unbatched", "positions"])
def test_second_derivatives(case, reduction):
    arrays = make(case, "float64", "labels", True, True, np.random.default_rng(4))
    results = []
    for m in (mg, torch):
        v = {name: m.from_numpy(np.array(a)) for name, a in arrays.items()}
        inputs = [v[name].requires_grad_(True) for name in "xwb"]
        y = m.nn.functional.linear_cross_entropy(
            inputs[0], inputs[1], v["target"], linear_bias=inputs[2], weight=v["weight"], reduction=reduction
        )
        first = m.autograd.grad((y * y).sum(), inputs, create_graph=True)
        second = m.autograd.grad(sum((g * g).sum() for g in first), inputs)
        results.append((y, *first, *second))
    for ours, theirs in zip(*results, strict=True):
        close("linear cross-entropy", ours, theirs, f"{case} {reduction}", 1e-9)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("out", [(), (2,), (2, 3)])
def test_module(out, bias):
    rng = np.random.default_rng(5)
    x, target = rng.normal(size=(6, 4)), rng.integers(0, 5, (6, *out))
    arguments = {"out_features": out, "bias": bias, "ignore_index": 1, "label_smoothing": 0.1}
    results, printed = [], []
    for m in (mg, torch):
        module = m.nn.LinearCrossEntropyLoss(4, 5, weight=m.from_numpy(rng.random(5) * 0 + 0.5), **arguments)
        module = module.double() if hasattr(module, "double") else module
        state = {k: m.from_numpy(np.random.default_rng(6).normal(size=tuple(v.shape))) for k, v in
                 module.state_dict().items()}  # fmt: skip
        module.load_state_dict(state)
        y = module(m.from_numpy(x), m.from_numpy(target))
        y.backward()
        results.append((y, *[p.grad for p in module.parameters()]))
        printed.append((repr(module), list(module.state_dict())))
    assert printed[0] == printed[1]
    for ours, theirs in zip(*results, strict=True):
        close("linear cross-entropy", ours, theirs, f"module {out} {bias}")


# --- errors -----------------------------------------------------------------------------------------------------------

X, W, T = np.ones((3, 4)), np.ones((5, 4)), np.array([0, 1, 2])
ERRORS = {
    "no dimensions": (np.ones(()), W, T, {}),
    "weight of one dimension": (X, np.ones(4), T, {}),
    "features": (X, np.ones((5, 3)), T, {}),
    "bias": (X, W, T, {"linear_bias": np.ones(4)}),
    "bias of positions": (X, np.ones((5, 2, 4)), np.ones((3, 2), int), {"linear_bias": np.ones(5)}),
    "unbatched positions": (np.ones(4), np.ones((5, 2, 4)), np.ones(2, int), {}),
    "ignored probabilities": (X, W, np.ones((3, 5)), {"ignore_index": 1}),
    "integer probabilities": (X, W, np.ones((3, 5), int), {}),
    "batch": (X, W, T[:2], {}),
    "label too large": (X, W, T + 3, {}),
    "label negative": (X, W, T - 1, {}),
    "float labels": (X, W, T * 1.0, {}),
    "label shape": (X, np.ones((5, 2, 4)), np.ones((3, 3), int), {}),
    "class weights": (X, W, T, {"weight": np.ones(4)}),
    "dtype of class weights": (X, W, T, {"weight": np.ones(5, "f4")}),
    "dtypes": (X.astype("f4"), W, T, {}),
    "reduction": (X, W, T, {"reduction": "avg"}),
    "smoothing": (X, W, T, {"label_smoothing": 1.5}),
    "integers": (X.astype(int), W.astype(int), T, {}),
    "no classes": (X, np.ones((0, 4)), T, {}),
}


@pytest.mark.parametrize("name", ERRORS)
def test_errors(name):
    kinds = []
    for m in (mg, torch):
        x, w, t, options = ERRORS[name]
        x, w, t = (m.from_numpy(a) for a in (x, w, t))
        options = {k: m.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in options.items()}
        with pytest.raises((RuntimeError, ValueError, IndexError, NotImplementedError)) as caught:
            m.nn.functional.linear_cross_entropy(x, w, t, **options)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]


OPTIONS = {
    "acc_policy": ["auto", "accurate", "balanced", "compact", "best", ""],
    "chunking_method": ["auto", "aspect_ratio", "aspect_ratio:3", "aspect_ratio:0", "aspect_ratio:", "rows", None],
    "batch_chunk_size": [None, 1, 7, 0, -1, 2.5],
    "acc_dtype": [None, "float32", "float64", "int64"],
    "allow_retain_graph": [False, True],
}


@pytest.mark.parametrize("field", OPTIONS)
def test_options(field):
    for value in OPTIONS[field]:
        results = []
        for m in (mg, torch):
            given = getattr(m, value) if field == "acc_dtype" and value else value
            try:
                options = m.nn.LinearCrossEntropyOptions(**{field: given})
                x, w, t = (m.from_numpy(a) for a in (X, W, T))
                if value == "float32":
                    x, w = x.float(), w.float()
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")
                    results.append(m.nn.functional.linear_cross_entropy(x, w, t, options=options).item())
            except ValueError as error:
                results.append(str(error).partition(",")[0].partition(" one of")[0].partition(" None")[0])
        assert results[0] == pytest.approx(results[1]) if isinstance(results[0], float) else results[0] == results[1]


def test_chunking_methods_choose_the_same_rows():
    """A batch_chunk_size that contradicts the method is refused, one that agrees is not."""
    for n, d, c, k, size in product((1, 7, 64), (1, 8, 256), (2, 100, 1000), ("", ":1", ":2", ":5"), (1, 2, 8, 32)):
        refused = []
        for m in (mg, torch):
            options = m.nn.LinearCrossEntropyOptions(chunking_method="aspect_ratio" + k, batch_chunk_size=size)
            try:
                m.nn.functional.linear_cross_entropy(
                    m.zeros(n, d), m.zeros(c, d), m.zeros(n, dtype=m.int64), options=options
                )
            except ValueError as error:
                refused.append(str(error))
        assert len(set(refused)) <= 1 and len(refused) != 1, (n, d, c, k, size)
