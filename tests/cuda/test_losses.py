"""Losses of classes on a GPU, in the simulator: references, extremes, labels out of range."""

import numpy as np
import pytest

from minigrad.kernels.cuda import contract
from minigrad.kernels.cuda.losses_parts import LABEL, WARP_ROW

from .losses import DTYPES, agree, inf, nan, odd

pytestmark = pytest.mark.cuda_sim
# rows of a warp: one vector, a few, many; of several warps: kept in registers, and too long for that
SHAPES = [(0, 3), (1, 1), (5, 2), (9, 10), (3, 129), (2, 132), (2, 1000), (3, 1028), (1, 2060)]


def batch(shape, t, weighted, aligned):
    rng = np.random.default_rng(shape[1])
    n, c = shape
    x = (rng.standard_normal(shape) * 4).astype(t)
    target = np.where(rng.random(n) < 0.3, -100, rng.integers(0, c, n))
    return x if aligned else odd(x), target, rng.random(c).astype(t) + np.dtype(t).type(0.5) if weighted else None


@pytest.mark.parametrize("t", DTYPES)
@pytest.mark.parametrize("shape", SHAPES)
def test_cross_entropy(t, shape):
    n, c = shape
    for weighted, smoothing, aligned in (
        (False, 0.0, True),
        (True, 0.1, True),
        (False, 0.1, False),
        (True, 0.0, False),
    ):
        inputs, dims = batch(shape, t, weighted, aligned), (c, weighted, -100)
        outputs, scalars = [(n,), shape], (smoothing, 0.25)
        loss, _ = agree("losses.cross_entropy", t, outputs, inputs, dims, scalars, n, threads=64)
        (alone,) = agree("losses.cross_entropy_loss", t, [(n,)], inputs, dims, (smoothing,), n)
        np.testing.assert_allclose(alone, loss, 1e-5)
    if 1 < c <= WARP_ROW:  # a warp's rows do not depend on how many warps there are
        one, other = (
            agree("losses.cross_entropy", t, outputs, inputs, dims, scalars, n, threads=many) for many in (32, 96)
        )
        assert [v.tobytes() for v in one] == [v.tobytes() for v in other]


def test_16_byte_accesses_change_no_bit():
    shape = 4, 40
    x, target, weight = batch(shape, "float32", True, True)
    got = []
    for where in (lambda a: a, odd):
        loss, dx = np.zeros(4, "f"), where(np.zeros(shape, "f"))
        contract.simulate(
            "losses.cross_entropy", "float32", "", [loss, dx, where(x), target, weight], (40, 1, -100), (0.1, 0.5), 4,
            threads=64,
        )  # fmt: skip
        got.append(loss.tobytes() + dx.tobytes())
    assert got[0] == got[1]


@pytest.mark.parametrize(("t", "pad"), [("float32", 0), ("float32", 30), ("float32", 1100), ("float64", 30)])
def test_cross_entropy_extremes(t, pad):
    """As on the CPU, semantics.md 2 and 7; with more classes of no weight in the sum, to reach the other ways."""

    def one(row, label, ignore=-100, smoothing=0.0, scale=1.0):
        x, n = np.array([[-inf] * pad + row], t), pad + len(row)
        loss, dx, alone = np.zeros(1, t), np.zeros((1, n), t), np.zeros(1, t)
        target, dims = np.array([label + pad]), (n, 0, ignore + pad)
        arrays = [loss, dx, x, target, None]
        contract.simulate("losses.cross_entropy", t, "", arrays, dims, (smoothing, scale), 1, threads=64)
        contract.simulate("losses.cross_entropy_loss", t, "", [alone, *arrays[2:]], dims, (smoothing,), 1, threads=64)
        np.testing.assert_array_equal(alone, loss)
        assert not pad or np.isnan(loss[0]) or (dx[0, :pad] == 0).all()
        return loss[0], dx[0, pad:].tolist()

    assert one([1e4, 0.0], 0) == (0, [0, 0])
    assert one([1e4, 0.0], 1) == (10000, [1, -1])
    assert one([-1e4, 0.0], 0) == (10000, [-1, 1])
    assert one([0.0, -inf], 0) == (0, [0, 0])
    assert one([0.0, -inf], 1) == (inf, [1, -1])
    assert one([0.0], 0) == (0, [0])
    assert one([3e38, -3e38], 0) == (0, [0, 0])
    for row in ([inf, 0.0], [nan, 0.0], [0.0, nan], [-nan, 0.0], [-inf, -inf], [nan, -inf]):
        loss, dx = one(row, 0)
        assert np.isnan(loss) and np.isnan(dx).all()
    assert one([nan, inf], 0, ignore=0) == (0, [0, 0])
    assert one([0.0, 1.0], 0, ignore=0, scale=inf) == (0, [0, 0])
    if pad == 0:
        assert one([0.0, -inf, 1.0], 0, smoothing=0.1)[0] == inf


def test_labels_out_of_range_do_not_count():
    labels = np.array([2**40, -(2**62), 3, -1, 1])
    for c in (3, 1028):
        labels[2] = c
        x, weight = np.ones((5, c), "f"), np.ones(c, "f")
        for name, smoothing in (("cross_entropy", (0.1,)), ("nll", ())):
            loss, dx, alone = np.full(5, 7, "f"), np.full((5, c), 7, "f"), np.full(5, 7, "f")
            arrays, dims = [x, labels, weight], (c, 1, -100)
            fused = f"losses.{name}", "float32", "", [loss, dx, *arrays], dims, (*smoothing, 1), 5
            contract.simulate(*fused, threads=64)
            contract.simulate(f"losses.{name}_loss", "float32", "", [alone, *arrays], dims, smoothing, 5, threads=64)
            assert (loss[:4] == 0).all() and (dx[:4] == 0).all() and (dx[4] != 0).any() and loss[4] != 0
            np.testing.assert_allclose(alone, loss, 1e-6)


@pytest.mark.parametrize("weighted", [False, True])
def test_label_stats(weighted):
    rng = np.random.default_rng(0)
    weight = rng.random(10).astype("f") if weighted else None
    outputs = [((4,), "float64"), ((1,), "int64")]
    for n in (0, 1, 31, 1100):
        for flags in ((0, 1, 0), (1, 1, 0), (1, 0, 1)):
            target, dims = rng.integers(0, 10, n), (n, 10, weighted, -100, *flags)
            errors = np.zeros(8, np.int64)
            for ignored in (target, np.full(n, -100)):
                more = {"threads": 64, "errors": errors}
                agree("losses.label_stats", "float32", outputs, [ignored, weight], dims, (0.1,), 1, **more)
                assert not errors.any()
            if n < 200:
                continue
            target[[250, 170, 60]] = -1, 10, -100
            agree("losses.label_stats", "float32", outputs, [target, weight], dims, (0.1,), 1, **more)
            assert errors[:4].tolist() == [LABEL, 170, 10, 10]
            target[3] = -5
            agree("losses.label_stats", "float32", outputs, [target, weight], dims, (0.1,), 1, **more)
            assert errors[:4].tolist() == [LABEL, 170, 10, 10]  # the first complaint stays
            target[3] = -(2**63)
            errors[:] = 0
            agree("losses.label_stats", "float32", outputs, [target, weight], dims, (0.1,), 1, **more)
            assert errors[:4].tolist() == [LABEL, 3, -(2**63), 10]
    zero = np.zeros(3, "f")  # a weight of 0 divides by 0, as on the CPU
    agree("losses.label_stats", "float32", outputs, [np.zeros(5, int), zero], (5, 3, 1, -100, 1, 1, 0), (0.0,), 1)


def test_total():
    rng = np.random.default_rng(0)
    for n in (0, 1, 33, 1000):
        for t, u in (("float32", ""), ("float64", ""), ("float32", "float64")):
            x = rng.standard_normal(n).astype(u or t)
            for divisor, by in ((None, 1.0), (None, 0.0), (None, n), (np.array([0.3]), 1.0), (np.zeros(1), 1.0)):
                agree("losses.total", t, [(1,)], [x, divisor], (n, divisor is not None), (by,), 1, u=u)


@pytest.mark.parametrize("weighted", [False, True])
def test_nll(weighted):
    rng = np.random.default_rng(0)
    for t, (n, c) in (("float32", (0, 2)), ("float32", (1, 1)), ("float32", (19, 7)), ("float64", (3, 1030))):
        x, target = rng.standard_normal((n, c)).astype(t), rng.integers(0, c, n)
        target[::4] = c + 5  # any ignore_index
        weight = rng.random(c).astype(t) if weighted else None
        dims = (c, weighted, c + 5)
        loss, _ = agree("losses.nll", t, [(n,), (n, c)], [x, target, weight], dims, (0.5,), n)
        (alone,) = agree("losses.nll_loss", t, [(n,)], [x, target, weight], dims, (), n)
        assert loss.tobytes() == alone.tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (2, 129), (1, 1030)])
def test_cross_entropy_probs(shape):
    rng = np.random.default_rng(0)
    n, c = shape
    for t in DTYPES:
        x, target = (rng.standard_normal(shape) * 4).astype(t), (rng.random(shape) / c).astype(t)
        for weighted, smoothing in ((False, 0.0), (True, 0.1)):
            weight = rng.random(c).astype(t) + 0.5 if weighted else None
            weight = None if weight is None else weight.astype(t)
            inputs = [x, target, weight]
            dims = (c, 1, weighted)
            agree("losses.cross_entropy_probs", t, [(n,), shape, shape], inputs, dims, (smoothing, 0.25), n)
            dims = (c, 0, weighted)
            loss, _, _ = agree("losses.cross_entropy_probs", t, [(n,), shape, None], inputs, dims, (smoothing, 0.25), n)
            (alone,) = agree("losses.cross_entropy_probs_loss", t, [(n,)], inputs, (c, weighted), (smoothing,), n)
            assert loss.tobytes() == alone.tobytes()


def test_probs_of_infinite_logits():
    x = np.array([[0, -inf], [1e4, 0], [inf, 0], [nan, 0], [-inf, -inf]], "f")
    target = np.array([[1, 0.5], [1, 0], [1, 0], [1, 0], [1, 0]], "f")
    loss, dx = np.zeros(5, "f"), np.zeros((5, 2), "f")
    arrays = [loss, dx, None, x, target, None]
    contract.simulate("losses.cross_entropy_probs", "float32", "", arrays, (2, 0, 0), (0, 1), 5, threads=64)
    np.testing.assert_array_equal(loss, [inf, 0, nan, nan, nan])
    assert np.isnan(dx[2:]).all() and dx[1].tolist() == [0, 0]
