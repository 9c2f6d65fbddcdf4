"""Losses of rows on a GPU, in the simulator, over the cases of tests/kernels/test_losses_rows.py."""

import numpy as np
import pytest

from minigrad.kernels.cuda import contract
from tests.kernels.test_losses_rows import KERNELS, TOLERANCE, fused

from .losses import DTYPES, inf, nan

pytestmark = pytest.mark.cuda_sim
ROWS = [name for name in KERNELS if name.startswith("losses_rows.")]
SIZES = {"float32": [(0, 3), (1, 1), (3, 2), (2, 40)], "float64": [(3, 3)]}  # the same code


def run(name, arrays, dims=(), scalars=(), units=0, t="float32", lo=0):
    """``harness.run`` in the simulator."""
    contract.simulate(name, t, "", arrays, dims, scalars, units, threads=32)


def simulated(name, case, t):
    """What ``fused`` gives, of the kernel for a GPU."""
    n = case.inputs[0].shape[-2]
    outs = [np.full(n, 7, t), *[np.full(case.inputs[0].shape, 7, t) for _ in range(case.grads)]]
    scalars = case.scalars if case.own_inputs else (*case.scalars, 0.25)
    run(name, [*outs, *case.room, *case.own_room, *case.inputs, *case.own_inputs], case.dims, scalars, n, t)
    return outs


def close(got, want, t, what):
    size = np.abs(want[np.isfinite(want)]).max(initial=0.1)
    np.testing.assert_allclose(got, want, TOLERANCE[t], TOLERANCE[t] * size, err_msg=what)


def equals_its_reference(name, t, sizes):
    from tests.kernels.harness import reference

    make, cases = KERNELS[name]
    rng = np.random.default_rng(0)
    for (n, c), k in ((size, k) for size in sizes for k in range(cases)):
        case, what = make(rng, n, c, t, k), f"{name} {t} {n} {c} {k}"
        got, want = simulated(name, case, t), fused(name, case, t, call=reference)
        for a, b in zip(got, want, strict=True):
            close(a, b, t, what)
        alone = np.full(n, 7, t)
        run(name + "_loss", [alone, *case.room, *case.inputs], case.dims, case.scalars, n, t)
        assert alone.tobytes() == got[0].tobytes(), f"{what} alone"


@pytest.mark.parametrize("t", DTYPES)
@pytest.mark.parametrize("name", ROWS)
def test_equals_its_reference(name, t):
    equals_its_reference(name, t, SIZES[t])


@pytest.mark.parametrize("name", ROWS)
def test_nan_and_infinity_are_the_cpus(name):
    """A bad row leaves the others alone, and its loss is nan or infinite where the CPU's is."""
    make, cases = KERNELS[name]
    for k in range(cases):
        case = make(np.random.default_rng(1), 3, 6, "float32", k)
        if "cosine" in name:
            case.inputs[2][:] = 1
        plain = simulated(name, case, "float32")
        for value in (nan, inf, -inf, 3e38):
            for array in case.inputs[:1]:
                kept = array.copy()
                array[1, 2] = value
                got, cpu = simulated(name, case, "float32"), fused(name, case, "float32")
                for a, b, c in zip(got, plain, cpu, strict=True):
                    assert a[[0, 2]].tobytes() == b[[0, 2]].tobytes()
                    more = np.isnan(c) if value == 3e38 else False  # float64 powers do not overflow
                    np.testing.assert_array_equal(np.isnan(a) | more, np.isnan(c), f"{name} {k} {value}")
                array[...] = kept


@pytest.mark.parametrize("name", ["losses_rows.multi_margin", "losses_rows.multilabel_margin"])
def test_labels_out_of_range_read_nothing_outside(name):
    make, _ = KERNELS[name]
    case = make(np.random.default_rng(3), 4, 6, "float32", 0)
    plain = simulated(name, case, "float32")
    labels = case.inputs[1].reshape(4, -1)
    labels[2] = [2**62, -(2**62), 2**40, -7, 2**33, 6][: labels.shape[1]]
    assert simulated(name, case, "float32")[0][[0, 1, 3]].tobytes() == plain[0][[0, 1, 3]].tobytes()
