"""Elementwise losses on a GPU, in the simulator: references, extremes, the check of bce."""

import numpy as np
import pytest

from minigrad.kernels import losses_each as cpu
from minigrad.kernels.cuda import contract, losses_each
from minigrad.kernels.cuda.losses_parts import INPUT, TARGET

from .losses import DTYPES, agree, inf, nan, odd

pytestmark = pytest.mark.cuda_sim
BLOCK = losses_each.BLOCK
NAMES = {
    "mse": 0, "l1": 0, "smooth_l1": 0.7, "huber": 0.6, "bce": 0, "kl": 0, "kl_log": 0, "poisson": 0.1,
    "poisson_full": 1e-8, "poisson_log": 0, "poisson_log_full": 0, "hinge_embedding": 0.8, "soft_margin": 0,
    "margin_ranking": 0.3, "bce_logits": None,
}  # fmt: skip


def test_a_unit_is_the_cpus():
    assert BLOCK == cpu.BLOCK


def numbers(name, n, t):
    rng = np.random.default_rng(n)
    x = rng.random(n) + 0.1 * ("poisson" in name) if name in ("bce", "poisson", "poisson_full") else rng.normal(0, 3, n)
    x, target, w, q = x.astype(t), *[rng.random(n).astype(t) for _ in range(3)]
    target[::3] = target[::3] > 0.5
    if "poisson" in name:
        target *= 4
    elif name in ("hinge_embedding", "soft_margin", "margin_ranking"):
        target[n // 8 :] = np.where(target > 0.4, 1, -1)[n // 8 :]
    return x, target, w, q


def run(name, t, x, target, w=None, q=None, scale=1.0, each=False, aligned=True, threads=64, tolerance=10.0, c=None):
    """(part, loss, dx) of the fused kernel, and (part, loss) of its twin; both agree with the reference."""
    n, c = x.size, NAMES[name] if c is None else c
    blocks = -(-n // BLOCK)
    lie = (lambda a: a) if aligned else odd
    inputs = [None if a is None else lie(a) for a in (x, target, w, *([q] if name == "bce_logits" else []))]
    dims = (n, each, w is not None, *([q is not None] if name == "bce_logits" else []))
    constants = () if name == "bce_logits" else (c,)
    sums = [None if each else ((blocks,), "float64"), (n,) if each else None]
    more = {"threads": threads, "scale": tolerance}
    got = agree(f"losses_each.{name}", t, [*sums, (n,)], inputs, dims, (*constants, scale), blocks, **more)
    alone = agree(f"losses_each.{name}_loss", t, sums, inputs, dims, constants, blocks, **more)
    for a, b in zip(alone, got[:2], strict=True):
        assert a is None or a.tobytes() == b.tobytes()
    return got


@pytest.mark.parametrize("name", NAMES)
def test_equals_its_reference(name):
    # float32 1 - x loses up to an ulp of 1, which bce's quotient enlarges near 0 and 1
    tolerance = 1e3 if name == "bce" else 10.0
    for t, n, each, weighted, aligned in (
        ("float32", 0, False, False, True),
        ("float32", 1, True, False, True),
        ("float32", 33, False, True, False),
        ("float32", 257, True, True, True),
        ("float32", 2 * BLOCK + 5, False, False, True),
        ("float64", 300, False, True, True),
    ):
        x, target, w, q = numbers(name, n, t)
        some = {"w": w if weighted else None, "q": q if weighted else None}
        run(name, t, x, target, **some, scale=0.25, each=each, aligned=aligned, tolerance=tolerance * max(1, n / 100))


def test_a_unit_has_the_same_bits_whoever_computes_it():
    x, target, _, _ = numbers("mse", 2 * BLOCK + 5, "float32")
    whole = run("mse", "float32", x, target, tolerance=1e3)
    first = run("mse", "float32", x[:BLOCK], target[:BLOCK], aligned=False, tolerance=1e3)
    assert whole[0][:1].tobytes() == first[0].tobytes() and whole[2][:BLOCK].tobytes() == first[2].tobytes()


def elements(name, x, target, c=1.0, t="float32"):
    """(losses, dx), the reference left aside."""
    x, target = np.array(x, t), np.array(target, t)
    loss, dx = np.zeros_like(x), np.zeros_like(x)
    extra = [None] if name == "bce_logits" else []
    scalars = (1.0,) if name == "bce_logits" else (c, 1.0)
    arrays, dims = [None, loss, dx, x, target, None, *extra], (x.size, 1, 0, *[0 for _ in extra])
    contract.simulate(f"losses_each.{name}", t, "", arrays, dims, scalars, 1, threads=32)
    return loss, dx


@pytest.mark.parametrize("t", DTYPES)
def test_bce_logits_extremes(t):
    """Certain and right costs nothing, certain and wrong everything."""
    x = [inf, -inf, inf, -inf, 1e4, -1e4, 1e4, nan, 0, inf, -inf, 3]
    loss, dx = elements("bce_logits", x, [1, 0, 0, 1, 0, 1, 1, 1, 0, 0.5, 0.5, 2], t=t)
    third = 2 * np.log1p(np.exp(-3)) - np.log1p(np.exp(3))
    want = [0, 0, inf, inf, 1e4, 1e4, 0, nan, np.log(2), inf, inf, third]
    np.testing.assert_allclose(loss, want, rtol=1e-6, atol=1e-30)
    want = [0, 0, 1, -1, 1, -1, 0, nan, 0.5, 0.5, -0.5, 1 / (1 + np.exp(-3)) - 2]
    np.testing.assert_allclose(dx, want, rtol=1e-6, atol=1e-30)


def test_extremes():
    """As tests/kernels/test_losses.py has them for the CPU."""
    x, target = [1, 1, nan, inf, inf, 2, 0.0], [1, nan, 1, inf, 0, 0.5, 1]
    for name, want, slope in (
        ("mse", [0, nan, nan, nan, inf, 2.25, 1], [0, nan, nan, nan, inf, 3, -2]),
        ("l1", [0, nan, nan, nan, inf, 1.5, 1], [0, 0, 0, 0, 1, 1, -1]),
        ("smooth_l1", [0, nan, nan, nan, inf, 1, 0.5], [0, nan, nan, nan, 1, 1, -1]),
        ("huber", [0, nan, nan, nan, inf, 1, 0.5], [0, nan, nan, nan, 1, 1, -1]),
    ):
        loss, dx = elements(name, x, target)
        np.testing.assert_array_equal(loss, want, name)
        np.testing.assert_array_equal(dx, slope, name)
    loss, dx = elements("smooth_l1", [2, 0, -1, 3.0], [2, 1, 1, 1.0], 0.0)  # beta 0 is l1
    assert loss.tolist() == [0, 1, 2, 2] and dx.tolist() == [0, -1, -1, 1]
    for name, x, target, want, slope in (
        ("kl", [-inf, -1, nan, -inf, 0, 0, 2], [0, 0, 0, 0.5, nan, -1, 1], [0, 0, nan, inf, nan, nan, -2],
         [0, 0, 0, -0.5, nan, 1, -1]),
        ("kl_log", [-inf, -1, nan, -inf, 0], [-inf, -inf, -inf, 0, nan], [0, 0, nan, inf, nan], [0, 0, 0, -1, nan]),
        ("soft_margin", [-1e4, 1e4, inf, -inf, nan, 1e4], [1, 1, 1, 1, 1, -1], [1e4, 0, 0, inf, nan, 1e4],
         [-1, 0, 0, -1, nan, 1]),
        ("hinge_embedding", [2, 0.5, nan, nan, inf, 0.5, 1], [-1, -1, -1, 1, -1, 0, -1], [0, 0.5, nan, nan, 0, 1, 0],
         [0, -1, 0, 1, 0, 0, -1]),
        ("margin_ranking", [2, 1, 0.5, nan, -inf], [1, 1, 1, -1, 1], [0, 0, 0.5, nan, inf], [0, -1, -1, 0, -1]),
        ("bce", [0, 1, 0, 1, 0.5], [0, 1, 1, 0, 1], [0, 0, 100, 100, np.float32(np.log(2))], [0, 0, -1e12, 1e12, -2]),
    ):  # fmt: skip
        loss, dx = elements(name, x, target)
        np.testing.assert_allclose(loss, want, 1e-6, err_msg=name)
        np.testing.assert_allclose(dx, slope, 1e-6, err_msg=name)
    loss, _ = elements("poisson_log_full", [0, 0, 0, 100], [1, 2, nan, 1])
    np.testing.assert_allclose(loss, [1, 1 + np.log(2 * np.pi * 2) / 2 + 2 * np.log(2) - 2, nan, inf], rtol=1e-6)


def test_bce_check():
    rng = np.random.default_rng(0)
    x = rng.random(300)
    target = x.copy()
    x[:5] = 0, 1, 0.5, 1e-44, -0.0

    def check():
        errors = np.zeros(8, np.int64)
        bad = np.zeros(2, np.int64)
        contract.simulate("losses_each.bce_check", "float64", "", [bad, x, target], (300,), (), 1, errors=errors)
        return errors[:2].tolist()

    assert check() == [0, 0]
    target[270] = -1e-30
    assert check() == [TARGET, 270]
    x[270] = nan
    assert check() == [INPUT, 270]


@pytest.mark.parametrize("t", DTYPES)
def test_gaussian_nll(t):
    rng = np.random.default_rng(0)
    for n in (0, 1, 33, BLOCK + 7):
        blocks = -(-n // BLOCK)
        x, target = (odd((rng.standard_normal(n) * 2).astype(t)) for _ in range(2))
        v = odd(rng.random(n).astype(t) * np.dtype(t).type(2))
        v[1::5] = 0
        for each, has_dv in ((False, True), (True, False)):
            sums = [None if each else ((blocks,), "float64"), (n,) if each else None]
            outputs, dims, more = [*sums, (n,), (n,) if has_dv else None], (n, each, has_dv), {"scale": 10 + n}
            name, numbers = "losses_each.gaussian_nll", (0.3, 0.9, 0.25)
            got = agree(name, t, outputs, [x, target, v], dims, numbers, blocks, **more)
            alone = agree(name + "_loss", t, sums, [x, target, v], dims[:2], numbers[:2], blocks, **more)
            assert alone[each].tobytes() == got[each].tobytes()
