"""What every loss must do: right derivatives, the same bits however it runs, strides, empty batches."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

from .losses_table import ROWS
from .processes import run_with_threads

F = mg.nn.functional
REDUCTIONS = ("none", "mean", "sum")
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
every_loss = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def test_the_table_has_every_loss():
    losses = {n for n in F.__all__ if n.endswith("_loss") or "cross_entropy" in n or n == "kl_div"}
    assert losses == {row.name.partition(" ")[0] for row in ROWS}


def split(row, tensors):
    """The tensors that require grad, and the loss as a function of them."""
    at = [i for i, t in enumerate(tensors) if t.requires_grad]

    def loss(*given, reduction="mean"):
        return row.call(F, *[given[at.index(i)] if i in at else t for i, t in enumerate(tensors)], reduction=reduction)

    return [tensors[i] for i in at], loss


def wanted_sets(row):
    """How many arguments to differentiate: the inputs, and all there are."""
    return sorted({row.inputs, len(row.tensors(mg))})


@every_loss
def test_derivatives(row):
    for wanted, reduction in product(wanted_sets(row), ("none", "mean")):
        inputs, loss = split(row, row.tensors(mg, wanted=wanted))
        call = lambda *given, f=loss, r=reduction: f(*given, reduction=r)  # noqa: E731
        assert mg.autograd.gradcheck(call, tuple(inputs))
        if row.second:
            assert mg.autograd.gradgradcheck(call, tuple(inputs), fast_mode=True)
        else:
            first = mg.autograd.grad(call(*inputs).sum(), inputs, create_graph=True)
            with pytest.raises(RuntimeError, match="second derivatives are not implemented"):
                mg.autograd.grad(sum([(g * g).sum() for g in first]), inputs)


@every_loss
def test_upstream_gradients_and_retained_graphs(row):
    for wanted, reduction in product(wanted_sets(row), REDUCTIONS):
        inputs, loss = split(row, row.tensors(mg, wanted=wanted))
        y = loss(*inputs, reduction=reduction)
        dy = mg.cos(y.detach() * 0 + mg.arange(y.numel(), dtype=mg.float64).reshape(y.shape) + 0.5)
        once = mg.autograd.grad(y, inputs, dy, retain_graph=True)
        twice = mg.autograd.grad(y, inputs, dy * 2, retain_graph=True)
        kept = [g.clone() for g in once]
        for g in once:
            g.zero_()  # what was handed out is the caller's
        again = mg.autograd.grad(y, inputs, dy)
        for a, b, c in zip(kept, twice, again, strict=True):
            assert mg.equal(a, c) and mg.allclose(2 * a, b, rtol=1e-12, atol=1e-15)
        with pytest.raises(RuntimeError, match="a second time"):
            mg.autograd.grad(y, inputs, dy)
        if reduction == "none":  # the gradient is linear in dy, row by row
            ones = [t.detach().requires_grad_(True) for t in inputs]
            parts = [mg.autograd.grad((loss(*ones, reduction="none") * dy)[i].sum(), ones) for i in range(y.shape[0])]
            for i, a in enumerate(kept):
                assert mg.allclose(sum([p[i] for p in parts]), a, rtol=1e-12, atol=1e-14)


def spread(a):
    """The same values in memory that is neither contiguous nor in order."""
    wide = np.zeros([2 * s + 1 for s in reversed(a.shape)], a.dtype)
    wide.T[tuple(slice(1, None, 2) for _ in a.shape)] = a
    return mg.from_numpy(wide).permute(*reversed(range(a.ndim)))[tuple(slice(1, None, 2) for _ in a.shape)]


@every_loss
def test_strides_change_no_bit(row):
    for wanted, reduction in product(wanted_sets(row), REDUCTIONS):
        tensors = row.tensors(mg, wanted=wanted)
        inputs, loss = split(row, tensors)
        others = [spread(t.detach().numpy()).requires_grad_(t.requires_grad) for t in tensors]
        strided, moved = split(row, others)
        assert not any(t.is_contiguous() for t in others if t.numel() > 1)
        y, z = loss(*inputs, reduction=reduction), moved(*strided, reduction=reduction)
        assert mg.equal(y, z)
        for a, b in zip(mg.autograd.grad(y.sum(), inputs), mg.autograd.grad(z.sum(), strided), strict=True):
            if "linear" in row.name:  # a matrix product may add in another order
                assert mg.allclose(a, b, rtol=1e-12, atol=1e-14)
            else:
                assert mg.equal(a, b)


@every_loss
def test_reductions_and_no_grad(row):
    """'mean' and 'sum' of the losses of 'none', whose bits do not depend on whether gradients are recorded."""
    for wanted in wanted_sets(row):
        inputs, loss = split(row, row.tensors(mg, 5, 4, "float32", wanted))
        each, total = loss(*inputs, reduction="none"), loss(*inputs, reduction="sum")
        assert abs(each.sum().item() - total.item()) <= 1e-5 * each.abs().sum().item()
        for reduction in REDUCTIONS:
            y = loss(*inputs, reduction=reduction)
            with mg.no_grad():
                alone = loss(*inputs, reduction=reduction)
            assert alone.dtype is y.dtype is mg.float32 and not alone.requires_grad
            assert mg.equal(alone, y) if wanted == row.inputs else mg.allclose(alone, y, rtol=1e-5, atol=1e-6)


@every_loss
def test_no_rows(row):
    if row.name == "ctc_loss":
        with pytest.raises(RuntimeError, match="must not be empty"):
            row.call(F, *row.tensors(mg, 0), reduction="sum")
        return
    for reduction in REDUCTIONS:
        inputs, loss = split(row, row.tensors(mg, 0))
        y = loss(*inputs, reduction=reduction)
        if reduction == "none":
            assert y.numel() == 0
        else:
            assert np.isnan(y.item()) if reduction == "mean" else y.item() == 0
        for g, x in zip(mg.autograd.grad(y.sum(), inputs), inputs, strict=True):
            assert g.shape == x.shape and not g.isnan().any()


# --- the same bits at any number of threads ---------------------------------------------------------------------------

SCRIPT = """
import hashlib, sys, warnings
import numpy as np
import minigrad as mg
from minigrad._launch import share_always, thread_stats

sys.path.append(sys.argv[2])
from losses_table import ROWS

warnings.simplefilter("ignore")
share_always()


def bits(row, tensors, reduction):
    before = thread_stats()["calls"]
    y = row.call(mg.nn.functional, *tensors, reduction=reduction)
    assert (thread_stats()["calls"] > before) == (threads > 1), row.name
    wanted = [t for t in tensors if t.requires_grad]
    digest = hashlib.sha256()
    for t in (y, *(mg.autograd.grad(y, wanted, mg.cos(y.detach())) if wanted else ())):
        digest.update(np.ascontiguousarray(t.detach().numpy()).tobytes())
    return digest.hexdigest()[:16]


for dtype in ("float32", "float64"):
    for row in ROWS:
        tensors = row.tensors(mg, 300 if "ctc" in row.name else 5700, 33, dtype)
        print(row.name, dtype, bits(row, tensors, "mean"), bits(row, tensors, "none"))
        if dtype == "float32":  # the twin without gradients; the same code in float64
            print(row.name, "alone", bits(row, [t.detach() for t in tensors], "mean"))
"""


def test_same_bits_with_any_number_of_threads():
    one, two, four = run_with_threads(SCRIPT, Path(__file__).parent)
    assert len(one) == 3 * len(ROWS)
    assert two == one
    assert four == one
