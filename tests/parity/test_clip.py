"""Gradient clipping and parameters as a vector against PyTorch."""

from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from .comparing import close

inf, nan = np.inf, np.nan
SHAPES = {"one": [(3,)], "some": [(), (3,), (2, 1, 3), (0, 4), (40, 101)], "matrix": [(5, 7)]}
EXTREMES = {
    "plain": (), "nan": (nan,), "inf": (inf,), "-inf": (-inf,), "nan inf": (nan, inf), "zero": (0.0,), "tiny": (1e-30,),
}  # fmt: skip


def params(m, shapes, dtype, extremes=()):
    """Parameters with gradients, in which some values are extreme; one more has none."""
    rng = np.random.default_rng(0)
    made = []
    for s in SHAPES[shapes]:
        g = np.asarray(rng.normal(size=s)).astype(dtype)
        if g.size > len(extremes):
            g.reshape(-1)[: len(extremes)] = extremes
        p = m.zeros(s, dtype=getattr(m, dtype)).requires_grad_(True)
        p.grad = m.from_numpy(g)
        made.append(p)
    return [*made, m.zeros(2).requires_grad_(True)]


def agree(call, shapes, dtype, extremes, what, rtol):
    results = []
    for m in (mg, torch):
        made = params(m, shapes, dtype, extremes)
        norm = call(m.nn.utils, made)
        results.append([norm, *[p.grad for p in made]])
    for a, b in zip(*results, strict=True):
        close("clip", a, b, what, rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("shapes", SHAPES)
def test_norms(shapes, extreme, dtype):
    rtol = 1e-5 if dtype == "float32" else 1e-12
    for order, max_norm, foreach in product((2, 1, inf, 3, 0.5, 0), (0.3, 1e9, 0.0, -1.0), (None, False)):
        what = f"{shapes} {extreme} {order} {max_norm}"
        if order == inf and "some" in shapes:  # PyTorch has no largest of no elements
            continue

        def clip(utils, made):
            return utils.clip_grad_norm_(made, max_norm, order, foreach=foreach)  # noqa: B023

        agree(clip, shapes, dtype, EXTREMES[extreme], what, rtol)

        def apart(utils, made):
            norm = utils.get_total_norm([p.grad for p in made if p.grad is not None], order, foreach=foreach)  # noqa: B023
            utils.clip_grads_with_norm_(made, max_norm, norm, foreach)  # noqa: B023
            return norm

        agree(apart, shapes, dtype, EXTREMES[extreme], what, rtol)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("extreme", EXTREMES)
@pytest.mark.parametrize("shapes", SHAPES)
def test_values(shapes, extreme, dtype):
    for value, foreach in product((0.5, 0, 1e9, inf, nan, 2), (None, False)):
        agree(lambda u, made: u.clip_grad_value_(made, value, foreach), shapes, dtype, EXTREMES[extreme], value, 0)  # noqa: B023


@pytest.mark.parametrize("bad", [nan, inf])
def test_refused_alike(bad):
    errors = []
    for m in (mg, torch):
        made = params(m, "some", "float32", (bad,))
        with pytest.raises(RuntimeError) as caught:
            m.nn.utils.clip_grad_norm_(made, 1.0, error_if_nonfinite=True)
        errors.append(str(caught.value))
        assert np.isfinite(made[0].grad.numpy()).all()
    assert errors[0] == errors[1]


def test_vectors():
    results = []
    for m in (mg, torch):
        made = params(m, "matrix", "float32")
        vector = m.nn.utils.parameters_to_vector(made)
        (vector * m.arange(vector.numel())).sum().backward()
        m.nn.utils.vector_to_parameters(m.arange(vector.numel() + 3.0), made)
        results.append([vector, *made, *[p.grad for p in made]])
    for a, b in zip(*results, strict=True):
        close("clip", a, b, "vector")
