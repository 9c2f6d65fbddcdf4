"""Layers with the same parameters: texts, results, gradients, buffers and states in training and evaluation; errors."""

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close, counts

# how to make it, the shape of its input
LAYERS = [
    ("BatchNorm1d(3)", (5, 3)), ("BatchNorm1d(3, momentum=None, eps=0.1)", (4, 3, 2)), ("BatchNorm2d(2)", (3, 2, 4, 4)),
    ("BatchNorm1d(3, affine=False)", (5, 3)), ("BatchNorm1d(3, track_running_stats=False)", (5, 3)),
    ("BatchNorm1d(3, bias=False, momentum=0.5)", (5, 3)), ("BatchNorm3d(2)", (2, 2, 2, 2, 2)),
    ("BatchNorm1d(3)", (2, 3)),
    ("LayerNorm(4)", (3, 4)), ("LayerNorm((2, 4), eps=0.1)", (3, 2, 4)), ("LayerNorm(4, bias=False)", (4,)),
    ("LayerNorm(4, elementwise_affine=False)", (3, 4)), ("RMSNorm(4)", (3, 4)), ("RMSNorm([2, 4], eps=0.1)", (3, 2, 4)),
    ("RMSNorm(4, elementwise_affine=False)", (3, 4)), ("GroupNorm(2, 4)", (3, 4)),
    ("GroupNorm(1, 4, affine=False)", (3, 4, 2)),
    ("Hardtanh()", (3, 4)), ("Hardtanh(-0.5, 0.7)", (9,)), ("ReLU6()", (3, 4)), ("ReLU6(inplace=True)", (3, 4)),
    ("Hardsigmoid()", (9,)), ("Hardswish()", (9,)), ("SELU()", (9,)), ("CELU(2.0)", (9,)), ("Mish()", (9,)),
    ("Mish(inplace=True)", (9,)), ("Threshold(0.1, 2.0)", (9,)), ("Softsign()", (9,)), ("Tanhshrink()", (9,)),
    ("LogSigmoid()", (9,)), ("Hardshrink()", (9,)), ("Softshrink(0.3)", (9,)), ("GLU()", (3, 4)), ("GLU(0)", (4, 3)),
    ("Softmin(1)", (3, 4)), ("PReLU()", (3, 4)), ("PReLU(4, init=0.5)", (3, 4)), ("PReLU(3)", (2, 3, 4)),
]  # fmt: skip
ERRORS = """
    nn.LayerNorm(3)(x)
    F.layer_norm(x, 4)
    F.layer_norm(x, (4,), x)
    F.rms_norm(x, (3,))
    nn.GroupNorm(3, 4)
    F.group_norm(x, 3)
    F.group_norm(x[0], 2)
    nn.BatchNorm1d(4)(x[:1])
    nn.BatchNorm1d(4)(x[0])
    nn.BatchNorm1d(3)(x)
    nn.BatchNorm2d(4)(x)
    F.batch_norm(x, None, None)
    F.batch_norm(x.long(), None, None, training=True)
    F.embedding(i, x[0])
    F.embedding(i + 5, x)
    F.embedding(i - 9, x)
    F.embedding(i.double(), x)
    F.embedding(i, x, 9)
    nn.Embedding(3, 2, 7)
    F.glu(x[:, :3])
    F.glu(x[0, 0])
    F.prelu(x, x[0, :3])
    F.hardtanh(x, 1, -1)
    nn.Hardtanh(1, -1)
    F.softshrink(x, -1)
    F.celu(x, 0)
"""


def twins(text):
    """The layer in both libraries, with the same odd parameters."""
    made = [eval(f"nn.{text}", {"nn": m.nn}).double() for m in (mg, torch)]
    for m, layer in zip((mg, torch), made, strict=True):
        for n, p in enumerate(layer.parameters()):
            values = np.sin(np.arange(p.numel()) + n + 1).reshape(tuple(p.shape))
            with m.no_grad():
                p.copy_(m.from_numpy(values))
    return made


@pytest.mark.parametrize(("text", "shape"), LAYERS)
def test_layers(text, shape):
    ours, theirs = twins(text)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    for step in range(4):
        for layer in (ours, theirs):
            layer.train(step != 2)
        values = np.random.default_rng(step).standard_normal(shape) * 2 + 0.3
        xs = [m.from_numpy(values.copy()).requires_grad_() for m in (mg, torch)]
        ys = [layer(x * 1) for layer, x in zip((ours, theirs), xs, strict=True)]
        for y in ys:
            (y * y * y).sum().backward()
        close("layers", *ys, (text, step), 1e-9)
        close("layers", *[x.grad for x in xs], (text, step, "dx"), 1e-7)
        for (name, p), q in zip(ours.named_parameters(), theirs.parameters(), strict=True):
            close("layers", p.grad, q.grad, (text, step, name), 1e-7)
    for name, value in theirs.state_dict().items():
        close("layers", ours.state_dict()[name], value, (text, name), 1e-9)


@pytest.mark.parametrize("arguments", [{}, {"padding_idx": 1}, {"padding_idx": -1}], ids=str)
def test_embedding(arguments):
    ours, theirs = (m.nn.Embedding(4, 3, **arguments) for m in (mg, torch))
    assert repr(ours) == repr(theirs)
    for m, layer in ((mg, ours), (torch, theirs)):
        assert layer.weight.detach()[1].abs().sum() == 0 or arguments.get("padding_idx") != 1
        layer.load_state_dict({"weight": m.arange(12.0).reshape(4, 3)})
    for dtype in ("int64", "int32"):
        for index in ([1, 3, 1], [[0, 3], [2, 3]], []):
            ys = [layer(m.tensor(index, dtype=getattr(m, dtype))) for m, layer in ((mg, ours), (torch, theirs))]
            for y in ys:
                (y * y).sum().backward()
            close("layers", *ys, index)
            close("layers", ours.weight.grad, theirs.weight.grad, index)
    for freeze in (True, False):
        found = [m.nn.Embedding.from_pretrained(m.ones(2, 3), freeze=freeze) for m in (mg, torch)]
        assert [e.weight.requires_grad for e in found] == [not freeze] * 2


@pytest.mark.parametrize("expression", [line.strip() for line in ERRORS.strip().splitlines()])
def test_errors(expression):
    kinds = []
    for m in (mg, torch):
        scope = {"nn": m.nn, "F": m.nn.functional, "x": m.arange(8.0).reshape(2, 4), "i": m.tensor([0, 1])}
        with pytest.raises(Exception) as caught:  # noqa: PT011
            eval(expression, scope)
        kinds.append(caught.type)
    assert kinds[0] is kinds[1]
    counts["layers"] = counts.get("layers", 0) + 1


@pytest.mark.parametrize("masked", ["not", "causal", "bools", "numbers"])
def test_attention(masked):
    r = np.random.default_rng(0)
    arrays = [r.standard_normal((2, 3, 4, 5)) for _ in range(3)]
    mask = {"bools": r.random((4, 4)) > 0.3, "numbers": r.standard_normal((4, 4))}.get(masked)
    found = []
    for m in (mg, torch):
        q, k, v = (m.from_numpy(a.copy()).requires_grad_() for a in arrays)
        arguments = {"attn_mask": None if mask is None else m.from_numpy(mask), "is_causal": masked == "causal"}
        y = m.nn.functional.scaled_dot_product_attention(q, k, v, **arguments, scale=0.3)
        (y * y).sum().backward()
        found.append([y, q.grad, k.grad, v.grad])
    for a, b in zip(*found, strict=True):
        close("layers", a, b, masked, 1e-9)
