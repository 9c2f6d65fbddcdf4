"""The kernels of losses whose unit is a row or a sequence against their NumPy references; one table for all of them."""

from typing import NamedTuple

import numpy as np
import pytest

from minigrad.kernels import contract

from .harness import reference, run

DTYPES = ("float32", "float64")
SIZES = [(0, 3), (1, 1), (3, 2), (40, 16), (7, 129), (3, 1500)]
inf, nan = np.inf, np.nan


class Case(NamedTuple):
    """Arguments of a kernel; grads: how many gradients, of the shape of the first input; own_...: not the twin's."""

    grads: int
    inputs: list
    dims: tuple
    scalars: tuple = ()
    room: tuple = ()  # arrays that fused kernel and twin work in
    own_room: tuple = ()
    own_inputs: tuple = ()


def multi_margin(r, n, c, t, k):
    target, weight = r.integers(0, c, n), r.uniform(0.1, 2, c).astype(t) if k % 2 else None
    return Case(1, [normal(r, n, c, t), target, weight], (c, k % 2, 1 + k // 2 % 2), (0.7 if k < 4 else 0.0,))


def multilabel_margin(r, n, c, t, k):
    target = np.array([r.permutation(c) for _ in range(n)]).reshape(n, c)
    target[r.random((n, c)) < (0.0, 1 / c, 0.9)[k % 3]] = -1
    return Case(1, [normal(r, n, c, t), target], (c,), room=(np.empty((n, c), np.uint8),))


def multilabel_soft_margin(r, n, c, t, k):
    weight = (None, r.random(c).astype(t), r.random((n, c)).astype(t))[k % 3]
    dims = (c, k % 3 > 0, c if k % 3 == 2 else 0)
    return Case(1, [normal(r, n, c, t), r.random((n, c)).astype(t), weight], dims)


def cosine_embedding(r, n, c, t, k):
    x = [normal(r, n, c, t) + 0.5 for _ in "ab"]
    return Case(2, [*x, r.choice([-1, 1, 0], n)], (c,), ((0.0, 0.4, -0.5)[k % 3],))


def triplet(r, n, c, t, k):
    order = (2.0, 1.0, inf, 3.0, 1.5)[k % 5]
    scalars = (order, 0.5, 1e-6)
    return Case(3, [normal(r, n, c, t) for _ in "apn"], (c, k // 5 % 2), scalars)


def ctc(r, n, c, t, k):
    """n sequences of c + 1 classes; every case has a target that is empty, and one too long for its input."""
    frames, longest, c = 9, 4, min(c, 30) + 1
    blank = (0, c - 1)[k % 2]
    x = r.normal(0, 2, (frames, n, c))
    x -= np.log(np.exp(x).sum(2, keepdims=True))
    inputs, lengths = r.integers(longest * 2 + 1, frames + 1, n), r.integers(1, longest + 1, n)
    lengths[1::5], inputs[2::5] = 0, 1
    labels = r.choice([i for i in range(c) if i != blank], (n, longest))
    states = 2 * longest + 1
    starts = np.arange(n) * longest
    room, own = np.empty((n, frames, states)), (np.empty((n, states)), np.empty((n, c)))
    arrays = [x.astype(t), labels.ravel(), starts, lengths, inputs]
    dims = (frames, n, c, states, blank, k // 2 % 2)
    return Case(1, arrays, dims, (), (room,), own, (r.uniform(0.5, 2, n),))


def normal(r, n, c, t):
    return r.normal(0, 2, (n, c)).astype(t)


KERNELS = {  # name: how a case is made, how many cases
    "losses_rows.multi_margin": (multi_margin, 6),
    "losses_rows.multilabel_margin": (multilabel_margin, 3),
    "losses_rows.multilabel_soft_margin": (multilabel_soft_margin, 3),
    "losses_rows.cosine_embedding": (cosine_embedding, 3),
    "losses_rows.triplet": (triplet, 10),
    "ctc.ctc": (ctc, 4),
}
TOLERANCE = {"float32": 2e-5, "float64": 1e-12}


def fused(name, case, t, splits=(), call=run):
    """Loss and gradients of the fused kernel, run over the pieces between ``splits``."""
    n, kind = case.inputs[0].shape[-2], t if call is run else "float64"
    outs = [np.full(n, 7, kind), *[np.full(case.inputs[0].shape, 7, kind) for _ in range(case.grads)]]
    scalars = case.scalars if case.own_inputs else (*case.scalars, 0.25)
    arrays = [*outs, *case.room, *case.own_room, *case.inputs, *case.own_inputs]
    if call is reference:
        reference(name, arrays, case.dims, scalars)
    else:
        for lo, hi in zip((0, *splits), (*splits, n), strict=True):
            run(name, arrays, case.dims, scalars, hi, t, lo=lo)
    return outs


def close(got, want, t, what):
    size = np.abs(want[np.isfinite(want)]).max(initial=0.1)
    np.testing.assert_allclose(got, want, TOLERANCE[t], TOLERANCE[t] * size, err_msg=what)


def test_every_kernel_is_in_the_table():
    names = {n for n in contract.registered() if n.startswith(("losses_rows.", "ctc."))}
    assert names == set(KERNELS) | {name + "_loss" for name in KERNELS}


@pytest.mark.parametrize("t", DTYPES)
@pytest.mark.parametrize("name", KERNELS)
def test_equals_its_reference(name, t):
    make, cases = KERNELS[name]
    rng = np.random.default_rng(0)
    for (n, c), k in ((size, k) for size in SIZES for k in range(cases)):
        case, what = make(rng, n, c, t, k), f"{name} {t} {n} {c} {k}"
        got, want = fused(name, case, t), fused(name, case, t, call=reference)
        for a, b in zip(got, want, strict=True):
            close(a, b, t, what)
        again = fused(name, case, t, (0, n // 3, n // 2)) if n > 2 else got
        assert [a.tobytes() for a in again] == [a.tobytes() for a in got], f"{what} in pieces"
        if t == "float32":  # the twin has the same code in float64
            alone = np.full(n, 7, t)
            run(name + "_loss", [alone, *case.room, *case.inputs], case.dims, case.scalars, n, t)
            assert alone.tobytes() == got[0].tobytes(), f"{what} alone"
            reference(name + "_loss", [want[0], *case.room, *case.inputs], case.dims, case.scalars)
            close(alone, want[0], t, what)


@pytest.mark.parametrize("name", KERNELS)
def test_a_row_of_nan_or_inf_leaves_the_others_alone(name):
    make, cases = KERNELS[name]
    for k in range(cases):
        case = make(np.random.default_rng(1), 5, 6, "float32", k)
        plain = fused(name, case, "float32")
        for value in (nan, inf, -inf, 3e38):
            for array in case.inputs[: max(case.grads, 1)]:
                kept = array.copy()
                np.moveaxis(array, -2, 0)[3, ..., 2] = value
                for a, b in zip(fused(name, case, "float32"), plain, strict=True):
                    rest = [i for i in range(5) if i != 3]
                    a, b = (v if v.ndim == 1 else np.moveaxis(v, -2, 0) for v in (a, b))
                    assert a[rest].tobytes() == b[rest].tobytes()
                array[...] = kept


def test_nan_is_not_hidden():
    """A loss with a nan in its row is nan where PyTorch's is: of distances, cosines and alignments."""
    for name in ("losses_rows.cosine_embedding", "losses_rows.triplet", "losses_rows.multilabel_soft_margin"):
        make, cases = KERNELS[name]
        for k in range(cases):
            case = make(np.random.default_rng(2), 3, 4, "float32", k)
            case.inputs[0][1, 2] = nan
            if "cosine" in name:
                case.inputs[2][:] = 1
            assert np.isnan(fused(name, case, "float32")[0]).tolist() == [False, True, False]


@pytest.mark.parametrize("name", ["losses_rows.multi_margin", "losses_rows.multilabel_margin", "ctc.ctc"])
def test_a_label_that_another_thread_writes_reads_nothing_outside(name):
    """Labels are checked before, but may change until the kernel reads them: the row's result is then any number."""
    make, _ = KERNELS[name]
    case = make(np.random.default_rng(3), 4, 6, "float32", 0)
    plain = fused(name, case, "float32")
    labels = case.inputs[1].reshape(4, -1)
    labels[2] = [2**62, -(2**62), 2**40, -7, 2**33, 6][: labels.shape[1]]
    assert fused(name, case, "float32")[0][[0, 1, 3]].tobytes() == plain[0][[0, 1, 3]].tobytes()


def test_ctc_by_hand():
    """Two frames, one label: the alignments are (label, blank), (blank, label), (label, label)."""
    p = np.array([[0.6, 0.4], [0.3, 0.7]])
    for t in DTYPES:
        x, room = np.log(p).astype(t)[:, None], (np.empty((1, 2, 3)),)
        integers = [np.array([v]) for v in (1, 0, 1, 2)]
        case = Case(
            1, [x, *integers], (2, 1, 2, 3, 0, 0), (), room, (np.empty((1, 3)), np.empty((1, 2))), (np.ones(1),)
        )
        loss, dx = fused("ctc.ctc", case, t)
        total = 0.6 * 0.7 + 0.4 * 0.3 + 0.4 * 0.7
        np.testing.assert_allclose(loss, [-np.log(total)], rtol=1e-6)
        occupied = np.array([[0.42, 0.12 + 0.28], [0.12, 0.42 + 0.28]]) / total
        np.testing.assert_allclose(dx[:, 0], p - occupied, rtol=1e-5)
