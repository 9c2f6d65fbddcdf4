"""Every loss of the table against PyTorch: gradients of all arguments, layouts, kept graphs, second derivatives."""

from itertools import product

import numpy as np
import pytest
import torch

import minigrad as mg

from ..losses_table import ROWS
from .comparing import close

FILE = "table of losses"
DTYPES = ("float32", "float64")
REDUCTIONS = ("none", "mean", "sum")
RTOL = {"float32": 5e-5, "float64": 1e-10}
pytestmark = pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
every_loss = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def spread(m, t):
    """A view of the same values: dimensions in reverse order in memory, every second element."""
    wide = np.repeat(t.detach().numpy().transpose(), 2, axis=0) if t.ndim else t.detach().numpy()
    base = m.from_numpy(np.ascontiguousarray(wide)).requires_grad_(t.requires_grad)
    return base, base[::2].permute(*reversed(range(t.ndim))) if t.ndim else base


def upstream(m, y):
    dy = np.cos(0.5 + np.arange(y.numel())).reshape(tuple(y.shape))
    return m.from_numpy(np.asarray(dy, str(y.dtype).partition(".")[2]))


def wanted_sets(row):
    """How many arguments are differentiated: none but the inputs, and all that PyTorch differentiates."""
    return sorted({row.inputs, len(row.tensors(mg)) if row.weight_gradient else row.inputs})


def gradients(m, row, rows, classes, dtype, wanted, reduction, strided):
    leaves = row.tensors(m, rows, classes, dtype, wanted)
    given = leaves
    if strided:
        leaves, given = zip(*[spread(m, t) for t in leaves], strict=True)
    y = row.call(m.nn.functional, *given, reduction=reduction)
    inputs = [t for t in leaves if t.requires_grad]
    first = m.autograd.grad(y, inputs, upstream(m, y), retain_graph=True)
    second = m.autograd.grad(y, inputs, upstream(m, y) * -2.5)
    return [y, *first, *second]


@every_loss
@pytest.mark.parametrize("dtype", DTYPES)
def test_gradients(row, dtype):
    sizes = [(3, 4), (1, 1), (1, 4), (5, 1), (40, 130), *([(0, 4)] if row.name != "ctc_loss" else [])]
    for (n, c), wanted, reduction, strided in product(sizes, wanted_sets(row), REDUCTIONS, (False, True)):
        if n == 0 and row.name.startswith(("multi_margin", "multilabel_margin")):
            continue  # PyTorch returns memory that nobody wrote
        if c == 1 and (n == 1 or "cosine" in row.name or "cross" in row.name or "ctc" in row.name):
            continue  # gradients of 0, of which rounding is left; of other losses (1, 1) is compared elsewhere
        ours, theirs = (gradients(m, row, n, c, dtype, wanted, reduction, strided) for m in (mg, torch))
        for a, b in zip(ours, theirs, strict=True):
            close(FILE, a, b, f"{row.name} {n} {c} {dtype} {wanted} {reduction} {strided}", RTOL[dtype])


MISSING = ("multi_margin_loss", "multilabel_margin_loss")  # PyTorch has no second derivatives of these


@every_loss
def test_second_derivatives(row):
    for wanted, reduction in product(wanted_sets(row), REDUCTIONS):
        results = {}
        for m in (mg, torch):
            given = row.tensors(m, wanted=wanted)
            inputs = [t for t in given if t.requires_grad]
            y = row.call(m.nn.functional, *given, reduction=reduction)
            first = m.autograd.grad((y * y).sum(), inputs, create_graph=True)
            if m is torch and row.name.startswith(MISSING):
                continue
            if row.second:
                first += m.autograd.grad(sum([(g * g).sum() for g in first]), inputs)
            results[m.__name__] = (y, *first)
        if "torch" in results:
            for a, b in zip(results["minigrad"], results["torch"], strict=True):
                close(FILE, a, b, f"{row.name} {wanted} {reduction}", 1e-8)


@pytest.mark.parametrize("name", sorted(n for n in dir(mg.nn) if n.endswith("Loss")))
def test_modules_show_and_keep_the_same(name):
    given = (4, 5) if name == "LinearCrossEntropyLoss" else ()
    ours, theirs = getattr(mg.nn, name)(*given), getattr(torch.nn, name)(*given)
    assert repr(ours) == repr(theirs) and list(ours.state_dict()) == list(theirs.state_dict())
    assert [k for k in vars(theirs) if k[0] != "_"] == [k for k in vars(theirs) if k[0] != "_" and hasattr(ours, k)]
