"""Connectionist temporal classification on a GPU, in the simulator."""

import numpy as np
import pytest

from tests.kernels.test_losses_rows import KERNELS, Case

from .losses import DTYPES, inf
from .test_losses_rows import equals_its_reference, simulated

pytestmark = pytest.mark.cuda_sim
NAME = "ctc.ctc"


@pytest.mark.parametrize("t", DTYPES)
def test_equals_its_reference(t):
    equals_its_reference(NAME, t, [(1, 1), (3, 6)] if t == "float32" else [(2, 3)])


@pytest.mark.parametrize("t", DTYPES)
def test_by_hand(t):
    """Two frames, one label: the alignments are (label, blank), (blank, label), (label, label)."""
    p = np.array([[0.6, 0.4], [0.3, 0.7]])
    x, room = np.log(p).astype(t)[:, None], (np.empty((1, 2, 3)),)
    integers = [np.array([v]) for v in (1, 0, 1, 2)]
    own = np.empty((1, 3)), np.empty((1, 2))
    loss, dx = simulated(NAME, Case(1, [x, *integers], (2, 1, 2, 3, 0, 0), (), room, own, (np.ones(1),)), t)
    total = 0.6 * 0.7 + 0.4 * 0.3 + 0.4 * 0.7
    np.testing.assert_allclose(loss, [-np.log(total)], rtol=1e-6)
    occupied = np.array([[0.42, 0.12 + 0.28], [0.12, 0.42 + 0.28]]) / total
    np.testing.assert_allclose(dx[:, 0], p - occupied, rtol=1e-5)


def long_case(length, frames, zero_infinity):
    """More labels than the block has threads, with repeated ones."""
    rng = np.random.default_rng(0)
    c, states = 5, 2 * length + 1
    x = rng.normal(0, 1, (frames, 1, c))
    x -= np.log(np.exp(x).sum(2, keepdims=True))
    integers = [rng.integers(1, c, length), np.array([0]), np.array([length]), np.array([frames])]
    own = np.empty((1, states)), np.empty((1, c))
    room = (np.empty((1, frames, states)),)
    return Case(1, [x, *integers], (frames, 1, c, states, 0, zero_infinity), (), room, own, (np.ones(1),))


def test_more_labels_than_threads():
    from tests.kernels.harness import reference
    from tests.kernels.test_losses_rows import fused

    case = long_case(40, 75, 0)
    for a, b in zip(simulated(NAME, case, "float64"), fused(NAME, case, "float64", call=reference), strict=True):
        np.testing.assert_allclose(a, b, 1e-10, 1e-12)
    for zero_infinity, loss, slope in ((0, inf, np.nan), (1, 0, 0)):
        got = simulated(NAME, long_case(40, 20, zero_infinity), "float64")
        np.testing.assert_array_equal(got[0], loss)
        np.testing.assert_array_equal(got[1], slope)


def test_labels_out_of_range_read_nothing_outside():
    make, _ = KERNELS[NAME]
    case = make(np.random.default_rng(3), 4, 6, "float32", 0)
    plain = simulated(NAME, case, "float32")
    case.inputs[1].reshape(4, -1)[2] = [2**62, -(2**62), 2**40, -7]
    assert simulated(NAME, case, "float32")[0][[0, 1, 3]].tobytes() == plain[0][[0, 1, 3]].tobytes()
