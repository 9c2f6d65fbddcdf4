"""Loss kernels against their NumPy references, PyTorch's measured numbers and the edge cases."""

import platform
import re

import llvmlite.binding as llvm
import numpy as np
import pytest

from minigrad.kernels import contract
from minigrad.kernels.losses_each import BLOCK
from minigrad.kernels.losses_parts import FAR

from .harness import reference, run

DTYPES = ("float32", "float64")
ELEMENTWISE = {
    "mse": 0, "l1": 0, "smooth_l1": 0.7, "huber": 0.6, "bce": 0, "kl": 0, "kl_log": 0, "poisson": 0.1,
    "poisson_full": 1e-8, "poisson_log": 0, "poisson_log_full": 0, "hinge_embedding": 0.8, "soft_margin": 0,
    "margin_ranking": 0.3,
}  # fmt: skip
inf, nan = np.inf, np.nan


def close(got, want, t, scale=1.0):
    tolerance = {"float32": 2e-6, "float64": 1e-14}[t]
    with np.errstate(invalid="ignore"):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * scale)


def odd(a):
    """A copy that starts one element past an aligned address."""
    out = np.empty(a.size + 1, a.dtype)[1:].reshape(a.shape)
    out[...] = a
    return out


def cross_entropy(
    x, target, weight=None, ignore=-100, smoothing=0.0, scale=1.0, t="float64", splits=(), name="cross_entropy"
):
    x = odd(np.asarray(x, t))
    n, c = x.shape
    loss, dx = np.full(n, 7, t), odd(np.full((n, c), 7, t))
    weight = None if weight is None else np.asarray(weight, t)
    target = np.asarray(target, np.int64)
    dims = (c, weight is not None, ignore)
    for lo, hi in zip((0, *splits), (*splits, n), strict=True):
        run(f"losses.{name}", [loss, dx, x, target, weight], dims, (smoothing, scale), hi, t, lo=lo)
    if t == "float32":  # compiling the twin takes seconds, and it has the same code in float64
        alone = np.full(n, 7, t)
        run("losses.cross_entropy_loss", [alone, x, target, weight], dims, (smoothing,), n, t)
        close(alone, loss, t, 10)
    return loss, dx


def cross_entropy_probs(x, target, weight=None, smoothing=0.0, scale=1.0, t="float64", splits=()):
    x, target = odd(np.asarray(x, t)), np.asarray(target, t)
    n, c = x.shape
    loss, dx, dt = np.empty(n, t), np.empty((n, c), t), np.empty((n, c), t)
    weight = None if weight is None else np.asarray(weight, t)
    for lo, hi in zip((0, *splits), (*splits, n), strict=True):
        arrays = [loss, dx, dt, x, target, weight]
        run("losses.cross_entropy_probs", arrays, (c, 1, weight is not None), (smoothing, scale), hi, t, lo=lo)
    return loss, dx, dt


# --- cross-entropy ----------------------------------------------------------------------------------------------------

SIX_X, SIX_T = [[1, 2], [1, 3], [1, 3]], [0, 1, 1]  # systems.md S6


def test_cross_entropy_has_pytorchs_numbers():
    loss, _ = cross_entropy(SIX_X, SIX_T)
    np.testing.assert_allclose(loss, [1.3132617, 0.1269280, 0.1269280], atol=1e-7)
    loss, dx = cross_entropy(SIX_X, SIX_T, [1, 2], scale=1 / 5)
    np.testing.assert_allclose(loss.sum() / 5, 0.364194746338, atol=1e-12)
    row = [0.0476811688, -0.0476811688]
    np.testing.assert_allclose(dx, [[-0.1462117157, 0.1462117157], row, row], atol=1e-10)
    loss, _ = cross_entropy(SIX_X, SIX_T, smoothing=0.1)
    np.testing.assert_allclose(loss.mean(), 0.572372569868, atol=1e-12)
    loss, _ = cross_entropy(SIX_X, SIX_T, [1, 2], smoothing=0.1)
    np.testing.assert_allclose(loss.sum() / 5, 0.394788802992, atol=1e-12)
    loss, _, _ = cross_entropy_probs(SIX_X, [[1, 0], [0.5, 0.5], [0.2, 0.8]], [1, 2])
    np.testing.assert_allclose(loss.mean(), 1.044041374653, atol=1e-12)
    loss, _ = cross_entropy([[np.log(0.6), np.log(0.4)], [np.log(0.1), np.log(0.9)]], [0, 0])
    np.testing.assert_allclose(loss, [0.5108256, 2.3025851], atol=1e-7)


@pytest.mark.parametrize("t", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (3, 2), (300, 10), (40, 16), (31, 100), (5, 129), (3, 5001)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_equals_its_reference(t, shape, weighted, smoothing):
    rng = np.random.default_rng(0)
    n, c = shape
    x = (rng.standard_normal(shape) * 4).astype(t)
    target = np.where(rng.random(n) < 0.2, -100, rng.integers(0, c, n))
    weight = rng.random(c).astype(t) + 0.5 if weighted else None
    loss, dx = cross_entropy(x, target, weight, smoothing=smoothing, scale=0.25, t=t)
    want, want_dx = np.empty(n), np.empty(shape)
    if n:
        arrays = [want, want_dx, x, target, weight]
        reference("losses.cross_entropy", arrays, (c, weighted, -100), (smoothing, 0.25))
    close(loss, want, t, 10)
    close(dx, want_dx, t)
    if n > 3:
        split = cross_entropy(x, target, weight, smoothing=smoothing, scale=0.25, t=t, splits=(1, n // 3, n - 1))
        assert loss.tobytes() == split[0].tobytes() and dx.tobytes() == split[1].tobytes()


@pytest.mark.parametrize("shape", [(1, 1), (7, 10), (5, 129), (2, 3000)])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_probs_equals_its_reference(shape, weighted, smoothing):
    t = "float32"
    rng = np.random.default_rng(0)
    n, c = shape
    x = (rng.standard_normal(shape) * 4).astype(t)
    target = rng.random(shape).astype(t)  # need not sum to 1
    target /= c
    weight = rng.random(c).astype(t) + 0.5 if weighted else None
    got = cross_entropy_probs(x, target, weight, smoothing, 0.25, t)
    want = np.empty(n), np.empty(shape), np.empty(shape)
    reference("losses.cross_entropy_probs", [*want, x, target, weight], (c, 1, weighted), (smoothing, 0.25))
    for a, b in zip(got, want, strict=True):
        close(a, b, t, 10)
    alone = np.empty(n, t)
    run("losses.cross_entropy_probs_loss", [alone, x, target, weight], (c, weighted), (smoothing,), n, t)
    close(alone, got[0], t, 10)
    again = cross_entropy_probs(x, target, weight, smoothing, 0.25, t, splits=(1,))
    assert [a.tobytes() for a in again] == [a.tobytes() for a in got]


@pytest.mark.parametrize("t", DTYPES)
@pytest.mark.parametrize("pad", [0, 30, 300])
def test_cross_entropy_extremes(t, pad):
    """semantics.md 2 and 7; with more classes of no weight in the sum, to reach the other code paths."""

    def one(row, label, **more):
        loss, dx = cross_entropy([row + [-inf] * pad], [label], t=t, **more)
        assert not pad or np.isnan(loss[0]) or (dx[0, len(row) :] == 0).all()
        return loss[0], dx[0, : len(row)].tolist()

    assert one([1e4, 0.0], 0) == (0, [0, 0])
    assert one([1e4, 0.0], 1) == (10000, [1, -1])
    assert one([-1e4, 0.0], 0) == (10000, [-1, 1])
    assert one([0.0, -inf], 0) == (0, [0, 0])
    assert one([0.0, -inf], 1) == (inf, [1, -1])
    assert one([0.0], 0) == (0, [0])
    for row in ([inf, 0.0], [nan, 0.0], [0.0, nan], [-nan, 0.0], [-inf, -inf]):
        loss, dx = one(row, 0)
        assert np.isnan(loss) and np.isnan(dx).all()
    assert one([nan, inf], 0, ignore=0) == (0, [0, 0])
    assert one([0.0, 1.0], 0, ignore=0, scale=inf) == (0, [0, 0])
    if pad == 0:
        assert cross_entropy([[0.0, -inf, 1.0]], [0], smoothing=0.1, t=t)[0][0] == inf


def stats(target, c, weight=None, ignore=-100, t="float32"):
    out, bad = np.empty(4), np.empty(1, np.int64)
    target = np.asarray(target, np.int64)
    weight = None if weight is None else np.asarray(weight, t)
    for mean, smooths, zero in ((0, 1, 0), (1, 1, 0), (1, 0, 1)):
        dims = (len(target), c, weight is not None, ignore, mean, smooths, zero)
        run("losses.label_stats", [out, bad, target, weight], dims, (0.1,), 1, t)
        want, want_bad = np.empty(4), np.empty(1, np.int64)
        reference("losses.label_stats", [want, want_bad, target, weight], dims, (0.1,))
        assert bad == want_bad
        np.testing.assert_allclose(out, want)
    return bad[0]


@pytest.mark.parametrize("weighted", [False, True])
def test_label_stats(weighted):
    rng = np.random.default_rng(0)
    weight = rng.random(10) if weighted else None
    for n in (0, 1, 7, 128, 1001):
        target = rng.integers(0, 10, n)
        assert stats(target, 10, weight) == -1
        target[n // 2 :: 3] = -100
        assert stats(target, 10, weight) == -1
        if n > 100:
            target[[90, 60]] = -1, 10
            assert stats(target, 10, weight) == 60
            target[60] = 3
            assert stats(target, 10, weight) == 90
            assert stats(target, 10, weight, ignore=-1) == np.flatnonzero(target == -100)[0]
    assert stats([2**40, -(2**63)], 10, weight) == 0
    assert stats([12, 3], 10, weight, ignore=12) == -1
    assert stats([12, 12], 10, weight, ignore=12) == -1
    assert stats([3, 3], 10, np.zeros(10) if weighted else None) == -1


def test_total():
    rng = np.random.default_rng(0)
    for n in (0, 1, 2, 3, 7, 1000):
        for t, u in (("float32", ""), ("float32", "float64"), ("float64", "")):
            x = rng.standard_normal(n).astype(u or t)
            for divisor, by in ((None, 1.0), (None, 0.0), (None, n), (np.array([0.3]), 1.0), (np.zeros(1), 1.0)):
                y, want, dims = np.empty(1, t), np.empty(1, t), (n, divisor is not None)
                run("losses.total", [y, x, divisor], dims, (by,), 1, t, u)
                reference("losses.total", [want, x, divisor], dims, (by,))
                close(y, want, t, 10)


@pytest.mark.parametrize("weighted", [False, True])
def test_nll(weighted):
    rng = np.random.default_rng(0)
    for t, (n, c) in (("float32", (1, 1)), ("float32", (50, 7)), ("float64", (9, 300))):
        x, target = rng.standard_normal((n, c)).astype(t), rng.integers(0, c, n)
        target[::4] = c + 5  # any ignore_index
        weight = rng.random(c).astype(t) if weighted else None
        loss, dx, alone = np.full(n, 7, t), np.full((n, c), 7, t), np.full(n, 7, t)
        dims = (c, weighted, c + 5)
        run("losses.nll", [loss, dx, x, target, weight], dims, (0.5,), n // 3, t)
        run("losses.nll", [loss, dx, x, target, weight], dims, (0.5,), n, t, lo=n // 3)
        run("losses.nll_loss", [alone, x, target, weight], dims, (), n, t)
        want, want_dx = np.empty(n), np.empty((n, c))
        reference("losses.nll", [want, want_dx, x, target, weight], dims, (0.5,))
        close(loss, want, t)
        close(dx, want_dx, t)
        assert loss.tobytes() == alone.tobytes()


def test_a_label_that_another_thread_writes_reads_nothing_outside():
    """Labels are checked before, but may change until the kernel reads them: then their rows do not count."""
    labels = np.array([2**40, -(2**62), 3, -1, 1])
    for c in (3, 200):
        x, weight = np.ones((5, c), np.float32), np.ones(c, np.float32)
        for name, smoothing in (("cross_entropy", (0.1,)), ("nll", ())):
            labels[2] = c
            loss, dx, alone = np.full(5, 7, "f"), np.full((5, c), 7, "f"), np.full(5, 7, "f")
            run(f"losses.{name}", [loss, dx, x, labels, weight], (c, 1, -100), (*smoothing, 1.0), 5)
            run(f"losses.{name}_loss", [alone, x, labels, weight], (c, 1, -100), smoothing, 5)
            assert (loss[:4] == 0).all() and (dx[:4] == 0).all() and (dx[4] != 0).any() and loss[4] != 0
            assert (alone[:4] == 0).all()


def test_large_gradients_have_the_same_bits():
    """A gradient too large for the caches goes past them, in whole lines."""
    rng = np.random.default_rng(0)
    n, c = 30, 30_011  # rows begin anywhere in a line
    x, target, weight = rng.standard_normal((n, c), np.float32), rng.integers(0, c, n), rng.random(c, np.float32)
    target[[1, 4, 5, -1]] = -100
    plain = cross_entropy(x, target, weight, scale=0.5, t="float32")
    for splits in ((), (1, 3, 6), range(1, n)):
        far = cross_entropy(x, target, weight, scale=0.5, t="float32", splits=splits, name="cross_entropy_far")
        assert [a.tobytes() for a in plain] == [a.tobytes() for a in far]
    x = rng.standard_normal(FAR // 4 + 777, np.float32)
    for name in ("mse", "bce_logits"):
        whole = elementwise(name, x, np.abs(x))[2]
        blocks = -(-x.size // BLOCK)
        out = np.full(blocks, 7.0), None, np.empty_like(x)  # at another address
        for lo in range(0, blocks, 100):
            stop = min(lo + 100, blocks)
            dims = (x.size, 0, 0) if name == "mse" else (x.size, 0, 0, 0)
            numbers = (0.0, 1.0) if name == "mse" else (1.0,)
            arrays = [*out, x, np.abs(x), None, *([None] if name == "bce_logits" else [])]
            run(f"losses_each.{name}", arrays, dims, numbers, stop, lo=lo)
        assert whole.tobytes() == out[2].tobytes()


# --- elementwise ------------------------------------------------------------------------------------------------------


def elementwise(name, x, target, w=None, q=None, c=0.0, scale=1.0, each=False, t="float32", lo=0, out=None):
    """(part, loss, dx) of a fused kernel; ``out`` and ``lo`` continue an earlier call."""
    x, target, w, q = [None if a is None else odd(np.asarray(a, t)) for a in (x, target, w, q)]
    n = x.size
    blocks = -(-n // BLOCK)
    part, loss, dx = out or (None if each else np.full(blocks, 7.0), np.full(n, 7, t) if each else None, odd(x))
    if name == "bce_logits":
        extra, flags, numbers = [w, q], (w is not None, q is not None), ()
    else:
        extra, flags, numbers = [w], (w is not None,), (c,)
    dims = (n, each, *flags)
    run(f"losses_each.{name}", [part, loss, dx, x, target, *extra], dims, (*numbers, scale), blocks, t, lo=lo)
    if out is None and t == "float32":  # the twin has the same code in float64
        alone = [None if a is None else np.zeros_like(a) for a in (part, loss)]
        run(f"losses_each.{name}_loss", [*alone, x, target, *extra], dims, numbers, blocks, t)
        close(*((alone[1], loss) if each else (alone[0], part)), t)
    return part, loss, dx


@pytest.mark.parametrize(
    ("name", "t"),
    [*((name, "float32") for name in (*ELEMENTWISE, "bce_logits")), ("bce", "float64"), ("bce_logits", "float64")],
)
def test_elementwise_equals_its_reference(name, t):
    rng = np.random.default_rng(0)
    for n in (0, 1, 7, 1000, 20000):
        x = rng.random(n) + 0.1 * ("poisson" in name) if name.startswith(("bce", "poisson")) else None
        x = rng.standard_normal(n) * 3 if x is None or name == "bce_logits" else x
        x, target, w, q = x.astype(t), *[rng.random(n).astype(t) for _ in range(3)]
        target[::3] = target[::3] > 0.5
        if "poisson" in name:
            target *= 4
        elif name in ("hinge_embedding", "soft_margin", "margin_ranking"):
            target[n // 8 :] = np.where(target > 0.4, 1, -1)[n // 8 :]
        for weighted in (False, True):
            for each in (False, True):
                c = ELEMENTWISE.get(name, 0)
                more = {"w": w, "q": q} if weighted and name == "bce_logits" else {"w": w} if weighted else {}
                got = elementwise(name, x, target, **more, c=c, scale=0.25, each=each, t=t)
                want = [None if a is None else np.empty(a.shape) for a in got]
                if name == "bce_logits":
                    arrays = [*want, x, target, *([w, q] if weighted else [None, None])]
                    reference("losses_each.bce_logits", arrays, (n, each, weighted, weighted), (0.25,))
                else:
                    arrays = [*want, x, target, w if weighted else None]
                    reference(f"losses_each.{name}", arrays, (n, each, weighted), (c, 0.25))
                for a, b in zip(got, want, strict=True):
                    if a is not None:
                        # float32 1 - x loses up to an ulp of 1, which bce's quotient enlarges near 0 and 1
                        close(a, b, t, 1 if a is not got[2] or name != "bce" else 1e3)
                if n > 3 * BLOCK and not weighted:
                    out = elementwise(name, x[: 3 * BLOCK], target[: 3 * BLOCK], c=c, scale=0.25, t=t)
                    whole = elementwise(name, x, target, c=c, scale=0.25, t=t)
                    assert out[0].tobytes() == whole[0][:3].tobytes()
                    part, dx = np.concatenate([out[0], np.zeros(len(whole[0]) - 3)]), odd(whole[2])
                    elementwise(name, x, target, c=c, scale=0.25, t=t, lo=3, out=(part, None, dx))
                    assert part.tobytes() == whole[0].tobytes() and dx.tobytes() == whole[2].tobytes()


@pytest.mark.parametrize("t", DTYPES)
def test_bce_has_pytorchs_numbers(t):
    """systems.md S2 to S4."""
    x = np.array([1, 2, 2, 2, 3, 4, 4, 5.0])
    target = np.array([1, 0, 1, 0, 0, 1, 0, 1.0])
    plain = [0.3133, 2.1269, 0.1269, 2.1269, 3.0486, 0.0181, 4.0181, 0.0067]
    tripled = [0.9398, 2.1269, 0.3808, 2.1269, 3.0486, 0.0544, 4.0181, 0.0201]
    np.testing.assert_allclose(elementwise("bce_logits", x, target, each=True, t=t)[1], plain, atol=6e-5)
    np.testing.assert_allclose(elementwise("bce_logits", x, target, t=t)[0], 11.7856, atol=6e-5)
    p = 1 / (1 + np.exp(-x))
    np.testing.assert_allclose(elementwise("bce", p, target, each=True, t=t)[1], plain, atol=6e-5)
    np.testing.assert_allclose(elementwise("bce_logits", p, target, t=t)[0] / 8, 0.8009, atol=6e-5)
    np.testing.assert_allclose(
        elementwise("bce_logits", x, target, q=np.full(8, 3.0), each=True, t=t)[1], tripled, atol=6e-5
    )


@pytest.mark.parametrize("t", DTYPES)
def test_bce_extremes(t):
    """semantics.md 11."""
    x, target = np.array([0, 1, 0, 1, 1e-44, 0.5]), np.array([1, 0, 0, 1, 1, nan])
    _, loss, dx = elementwise("bce", x, target, each=True, t=t)
    np.testing.assert_allclose(loss, [100, 100, 0, 0, 100, nan], rtol=1e-6)
    np.testing.assert_allclose(dx, [-1e12, 1e12, 0, 0, -1e12, nan], rtol=1e-6)


def test_bce_check():
    def check(x, target):
        bad = np.empty(2, np.int64)
        x, target = odd(np.float32(x)), odd(np.float32(target))
        run("losses_each.bce_check", [bad, x, target], (len(x),), (), 1)
        want = np.empty(2, np.int64)
        reference("losses_each.bce_check", [want, x, target], (len(x),))
        assert bad.tolist() == want.tolist()
        return tuple(bad.tolist())

    assert check([], []) == (-1, -1)
    assert check([0, 1, 0.5, 1e-44, -0.0], [0, 0, 1, 1, 0.5]) == (-1, -1)
    assert check([0, nan, 2], [2, 0, 1]) == (1, 0)
    x = np.random.default_rng(0).random(5000)
    target = x.copy()
    x[[4321, 4900]], target[1030] = 1.0000002, -1e-30
    assert check(x, target) == (4321, 1030)


@pytest.mark.parametrize("t", DTYPES)
def test_bce_logits_extremes(t):
    """Certain and right costs nothing, certain and wrong everything (PyTorch: nan for the first; semantics.md 13)."""
    x = np.array([inf, -inf, inf, -inf, 1e4, -1e4, 1e4, nan, 0, inf, -inf, 3])
    target = np.array([1, 0, 0, 1, 0, 1, 1, 1, 0, 0.5, 0.5, 2])
    _, loss, dx = elementwise("bce_logits", x, target, each=True, t=t)
    third = 2 * np.log1p(np.exp(-3)) - np.log1p(np.exp(3))
    np.testing.assert_allclose(
        loss, [0, 0, inf, inf, 1e4, 1e4, 0, nan, np.log(2), inf, inf, third], rtol=1e-6, atol=1e-30
    )
    np.testing.assert_allclose(
        dx, [0, 0, 1, -1, 1, -1, 0, nan, 0.5, 0.5, -0.5, 1 / (1 + np.exp(-3)) - 2], rtol=1e-6, atol=1e-30
    )


def test_distance_extremes():
    x, target = np.array([1, 1, nan, inf, inf, 2, 0.0]), np.array([1, nan, 1, inf, 0, 0.5, 1])
    want = {
        "mse": ([0, nan, nan, nan, inf, 2.25, 1], [0, nan, nan, nan, inf, 3, -2]),
        "l1": ([0, nan, nan, nan, inf, 1.5, 1], [0, 0, 0, 0, 1, 1, -1]),
        "smooth_l1": ([0, nan, nan, nan, inf, 1, 0.5], [0, nan, nan, nan, 1, 1, -1]),
        "huber": ([0, nan, nan, nan, inf, 1, 0.5], [0, nan, nan, nan, 1, 1, -1]),
    }
    for name, (loss, dx) in want.items():
        got = elementwise(name, x, target, c=1.0, each=True)
        np.testing.assert_array_equal(got[1], loss, name)
        np.testing.assert_array_equal(got[2], dx, name)
    got = elementwise("smooth_l1", [2, 0, -1, 3.0], [2, 1, 1, 1.0], c=0.0, each=True)  # beta 0 is l1
    assert got[1].tolist() == [0, 1, 2, 2] and got[2].tolist() == [0, -1, -1, 1]


def test_target_extremes():
    """Nothing is nan that has a limit (kl, soft_margin), and nan stays nan."""
    got = elementwise("kl", [-inf, -1, nan, -inf, 0, 0, 2], [0, 0, 0, 0.5, nan, -1, 1], each=True)
    np.testing.assert_array_equal(got[1], [0, 0, nan, inf, nan, nan, -2])
    np.testing.assert_array_equal(got[2], [0, 0, 0, -0.5, nan, 1, -1])
    got = elementwise("kl_log", [-inf, -1, nan, -inf, 0], [-inf, -inf, -inf, 0, nan], each=True)
    np.testing.assert_array_equal(got[1], [0, 0, nan, inf, nan])
    np.testing.assert_array_equal(got[2], [0, 0, 0, -1, nan])
    got = elementwise("soft_margin", [-1e4, 1e4, inf, -inf, nan, 1e4], [1, 1, 1, 1, 1, -1], each=True)
    np.testing.assert_array_equal(got[1], [1e4, 0, 0, inf, nan, 1e4])
    np.testing.assert_array_equal(got[2], [-1, 0, 0, -1, nan, 1])
    got = elementwise("hinge_embedding", [2, 0.5, nan, nan, inf, 0.5, 1], [-1, -1, -1, 1, -1, 0, -1], c=1, each=True)
    np.testing.assert_array_equal(got[1], [0, 0.5, nan, nan, 0, 1, 0])
    np.testing.assert_array_equal(got[2], [0, -1, 0, 1, 0, 0, -1])
    got = elementwise("margin_ranking", [2, 1, 0.5, nan, -inf], [1, 1, 1, -1, 1], c=1, each=True)
    np.testing.assert_array_equal(got[1], [0, 0, 0.5, nan, inf])
    np.testing.assert_array_equal(got[2], [0, -1, -1, 0, -1])
    got = elementwise("poisson_log_full", [0, 0, 0, 100], [1, 2, nan, 1], each=True)
    np.testing.assert_allclose(got[1], [1, 1 + np.log(2 * np.pi * 2) / 2 + 2 * np.log(2) - 2, nan, inf], rtol=1e-6)


@pytest.mark.parametrize("t", DTYPES)
def test_gaussian_nll_equals_its_reference(t):
    rng = np.random.default_rng(0)
    eps, constant, scale = 0.3, 0.9, 0.25
    for n in (0, 1, 7, 20000):
        blocks = -(-n // BLOCK)
        x, target = (odd((rng.standard_normal(n) * 2).astype(t)) for _ in range(2))
        v = odd(rng.random(n).astype(t) * 2)
        v[1::5] = 0
        for each, has_dv in ((False, True), (True, True), (True, False)):
            got = [None if each else np.full(blocks, 7.0), np.full(n, 7, t) if each else None, odd(x)]
            got += [odd(x) if has_dv else None]
            numbers = (eps, constant, scale)
            for lo, hi in ((0, blocks // 2), (blocks // 2, blocks)):
                run("losses_each.gaussian_nll", [*got, x, target, v], (n, each, has_dv), numbers, hi, t, lo=lo)
            want = [None if a is None else np.empty(a.shape) for a in got]
            reference("losses_each.gaussian_nll", [*want, x, target, v], (n, each, has_dv), numbers)
            for a, b in zip(got, want, strict=True):
                if a is not None:
                    close(a, b, t, 10)
            if t == "float32":
                alone = [None if a is None else np.zeros_like(a) for a in got[:2]]
                run("losses_each.gaussian_nll_loss", [*alone, x, target, v], (n, each), numbers[:2], blocks, t)
                assert alone[each].tobytes() == got[each].tobytes()


def test_float32_sums_are_accurate():
    """A block's sum is a float64: a million float32 squares to 1e-7."""
    rng = np.random.default_rng(0)
    x = rng.random(1 << 20, np.float32)
    part, _, _ = elementwise("mse", x, np.zeros_like(x), t="float32")
    np.testing.assert_allclose(part.sum(), np.sum(x.astype(float) ** 2), rtol=1e-7)


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="looks for x86 registers")
def test_hot_loops_are_vectorised():
    code = contract.assembly("losses_each.bce_logits", "float32")
    widest = "zmm" if llvm.get_host_cpu_features().get("avx512f") else "[xyz]mm"
    assert re.search(rf"divps\s.*{widest}", code)
    code = contract.assembly("losses.cross_entropy_loss", "float32")
    assert re.search(rf"(?:fmadd\w*|mul)ps\s.*{widest}", code) and re.search(rf"pmaxsd\s.*{widest}", code)
    assert re.search(rf"movntps\s.*{widest}", contract.assembly("losses_each.mse", "float32"))  # see FAR
