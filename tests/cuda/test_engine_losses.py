"""Every loss on a GPU: values, gradients, second derivatives, mixtures of devices, labels out of range."""

import re

import numpy as np
import pytest

import minigrad as mg
import minigrad.nn.functional as F
from tests.losses_table import ROWS

from .both import agree, needs_gpu, same, there, values

pytestmark = needs_gpu
MIXED = "Expected all tensors to be on the same device, but found at least two devices, cuda:0 and cpu!"
X = np.random.default_rng(0).standard_normal((5, 4)).astype("f")


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
def test_every_loss(row, reduction):
    for dtype, wanted in (("float32", row.inputs), ("float64", 9)):  # 9: targets and weights need gradients, too
        found = []
        for m in (there, mg):
            tensors = row.tensors(m, dtype=dtype, wanted=wanted)
            loss = row.call(F, *tensors, reduction=reduction)
            leaves = [t for t in tensors if t.requires_grad]
            again = row.second and dtype == "float64"
            grads = mg.autograd.grad(loss.sum(), leaves, create_graph=again)
            curved = [(g * g).sum() for g in grads if g.requires_grad]
            second = [g for g in mg.autograd.grad(curved, leaves, allow_unused=True) if g is not None] if curved else []
            with mg.no_grad():
                found.append([loss, *grads, *second, row.call(F, *tensors, reduction=reduction)])
        for a, b in zip(*found, strict=True):
            assert a.is_cuda
            values(a, b, row.name)


def test_the_gradient_that_backward_starts_from():
    """It is known to be 1, without looking at it; unless somebody writes it, or another one is given."""
    for change in (None, lambda g: g * 2, lambda g: g.mul_(2)):
        for given in (None, 3.0):
            found = []
            for m in (there, mg):
                x = m.from_numpy(X.copy()).requires_grad_()
                loss = F.mse_loss(x, mg.zeros_like(x))
                if change is not None:
                    loss.register_hook(change)
                loss.backward(None if given is None else mg.full_like(loss, given))
                found.append(x.grad)
            values(*found)
            np.testing.assert_allclose(found[0].cpu().numpy(), X * (0.1 * (change is None or 2) * (given or 1)), 1e-6)


def test_all_ignored():
    for choice, want in (("nan", np.nan), ("zero", 0.0)):
        x, w = (mg.tensor(a, device="cuda", requires_grad=True) for a in (X, X))
        target = mg.full((5,), -100, dtype=mg.int64, device="cuda")
        head = mg.ones(3, 4, device="cuda", requires_grad=True)
        for loss in (
            F.cross_entropy(x, target, all_ignored=choice),
            F.nll_loss(w, target, mg.ones(4, device="cuda", requires_grad=True), all_ignored=choice),
            F.linear_cross_entropy(x, head, target, all_ignored=choice),
        ):
            np.testing.assert_equal(loss.item(), want)
            loss.backward()
        for leaf in (x, w, head):
            assert (leaf.grad == 0).all().item()


def test_lists_and_arrays_follow_the_input():
    agree(lambda m, x: F.cross_entropy(x, [0, 1, 2, 3, 0], np.ones(4, "f")), X)
    agree(lambda m, x: F.mse_loss(x, X.tolist(), weight=[1.0, 2.0, 3.0, 4.0]), X)
    agree(lambda m, x: F.multi_margin_loss(x, [0, 1, 2, 3, 0]), X)
    agree(lambda m, x: F.ctc_loss(x.log_softmax(1).unsqueeze(1), [[1, 2]], [5], [2]), X)
    agree(lambda m, x: F.linear_cross_entropy(x, x, [0, 1, 2, 3, 0]), X)


def test_mixed_devices_are_refused():
    x, here, target = mg.tensor(X, device="cuda"), mg.tensor(X), mg.tensor([0, 1, 2, 3, 0])
    for call in (
        lambda: F.cross_entropy(x, target),
        lambda: F.cross_entropy(here, target.cuda()),
        lambda: F.cross_entropy(x, target.cuda(), mg.ones(4)),
        lambda: F.cross_entropy(x, here.softmax(1)),
        lambda: F.nll_loss(x, target),
        lambda: F.mse_loss(x, here),
        lambda: F.mse_loss(here, x),
        lambda: F.mse_loss(x, x, weight=here),
        lambda: F.binary_cross_entropy_with_logits(x, x, pos_weight=mg.ones(4)),
        lambda: F.margin_ranking_loss(x, here, x),
        lambda: F.multi_margin_loss(x, target),
        lambda: F.cosine_embedding_loss(x, here, target.cuda()),
        lambda: F.triplet_margin_loss(x, x, here),
        lambda: F.gaussian_nll_loss(x, x, here.abs()),
        lambda: F.linear_cross_entropy(x, here, target.cuda()),
        lambda: F.linear_cross_entropy(x, x, target),
        lambda: F.ctc_loss(x.log_softmax(1), target, [5], [5]),
    ):
        with pytest.raises(RuntimeError, match=re.escape(MIXED)):
            call()


def test_labels_out_of_range_are_told_of_later():
    x = mg.tensor(X, device="cuda", requires_grad=True)
    bad = mg.tensor([0, 1, 9, 3, -7], device="cuda")
    for call in (
        lambda: F.cross_entropy(x, bad),
        lambda: F.nll_loss(x, bad),
        lambda: F.linear_cross_entropy(x, x[:4], bad),
        lambda: F.multi_margin_loss(x, bad),
        lambda: F.ctc_loss(x.log_softmax(1), bad, [5], [5]),
    ):
        loss = call()
        loss.backward()
        with pytest.raises(IndexError, match=r"Target 9 is out of bounds: target\[2\] = 9 is outside \[0, \d\)"):
            mg.cuda.synchronize()
        assert loss.item() == loss.item()
        call()
        with pytest.raises(IndexError, match="Target 9"):  # the next loss tells, too
            F.cross_entropy(x, bad * 0).item()
    p = mg.full((5,), 0.5, device="cuda")
    F.binary_cross_entropy(p, p * 3)
    with pytest.raises(RuntimeError, match="between 0 and 1"):
        mg.cuda.synchronize()
    same(F.cross_entropy(x.detach(), mg.zeros(5, dtype=mg.int64, device="cuda")),
         F.cross_entropy(mg.tensor(X), mg.zeros(5, dtype=mg.int64)))  # fmt: skip
