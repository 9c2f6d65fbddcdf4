"""All losses: how to call them and how to make their inputs, for the tests of what every loss must do.

``Row.call`` takes a library's ``nn.functional``, so that the comparison with PyTorch uses the same table.
"""

from typing import Any, NamedTuple

import numpy as np


class Row(NamedTuple):
    """One loss with one set of options."""

    name: str
    call: Any  # (F, *tensors, reduction=...) -> the loss
    make: Any  # (generator, rows, classes) -> arrays; the float64 ones can be differentiated
    inputs: int = 1  # the first of them, whose gradients come with the loss, from one kernel
    second: bool = True  # whether it has second derivatives
    weight_gradient: bool = True  # whether PyTorch, too, gives gradients of all arguments

    def tensors(self, m, rows=3, classes=4, dtype="float64", wanted=None, seed=0):
        """The arguments as tensors of library ``m``; the first ``wanted`` ones require grad."""
        wanted = self.inputs if wanted is None else wanted
        made = []
        for i, a in enumerate(self.make(np.random.default_rng(seed), rows, classes)):
            if a.dtype == np.float64:
                made.append(m.from_numpy(a.astype(dtype)).requires_grad_(i < wanted))
            else:
                made.append(m.from_numpy(a))
        return made


def normal(r, *shape):
    return r.normal(0, 2, shape)


def positive(r, *shape):
    return r.uniform(0.1, 0.9, shape)


def signs(r, *shape):
    return r.choice([-1, 1], shape)


def labels(r, n, c):
    """Class labels, some of them -100."""
    return np.where(r.random(n) < 0.2, -100, r.integers(0, c, n))


def counts(r, n, c):
    return r.poisson(2, (n, c)) + 0.25


def label_lists(r, n, c):
    """Each row's labels, one or more, ended by -1."""
    found = r.permuted(np.tile(np.arange(c), (n, 1)), axis=1)
    found[:, 1:][r.random((n, max(c - 1, 0))) < 0.5] = -1
    return found


def sequences(r, n, c):
    """Logits (T, N, C), targets (N, S) without blank 0, lengths of the inputs and of the targets."""
    frames, longest = 8, 3
    targets = r.integers(1, max(c, 2), (n, longest))
    return normal(r, frames, n, c), targets, r.integers(7, frames + 1, n), r.integers(0, longest + 1, n)


def ctc(F, x, *others, **o):
    return F.ctc_loss(F.log_softmax(x, 2), *others, **o)


def linear(F, x, w, b, t, weight, **o):
    return F.linear_cross_entropy(x, w, t, linear_bias=b, weight=weight, **o)


ROWS = [
    Row("cross_entropy", lambda F, x, t, **o: F.cross_entropy(x, t, **o),
        lambda r, n, c: [normal(r, n, c), labels(r, n, c)]),
    Row("cross_entropy smoothed",
        lambda F, x, t, w, **o: F.cross_entropy(x, t, w, ignore_index=0, label_smoothing=0.1, **o),
        lambda r, n, c: [normal(r, n, c), r.integers(0, c, n), positive(r, c)], weight_gradient=False),
    Row("cross_entropy probabilities", lambda F, x, t, w, **o: F.cross_entropy(x, t, w, label_smoothing=0.1, **o),
        lambda r, n, c: [normal(r, n, c), positive(r, n, c), positive(r, c)]),
    Row("cross_entropy volumes", lambda F, x, t, **o: F.cross_entropy(x, t, **o),
        lambda r, n, c: [normal(r, n, c, 3), r.integers(0, max(c, 1), (n, 3))]),
    Row("nll_loss", lambda F, x, t, w, **o: F.nll_loss(F.log_softmax(x, 1), t, w, **o),
        lambda r, n, c: [normal(r, n, c), labels(r, n, c), positive(r, c)], weight_gradient=False),
    Row("mse_loss", lambda F, x, t, w, **o: F.mse_loss(x, t, weight=w, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), positive(r, n, c)]),
    Row("l1_loss", lambda F, x, t, w, **o: F.l1_loss(x, t, weight=w, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), positive(r, n, c)]),
    Row("huber_loss", lambda F, x, t, w, **o: F.huber_loss(x, t, weight=w, delta=1.5, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), positive(r, n, c)]),
    Row("smooth_l1_loss", lambda F, x, t, **o: F.smooth_l1_loss(x, t, beta=1.5, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c)]),
    Row("smooth_l1_loss beta 0", lambda F, x, t, **o: F.smooth_l1_loss(x, t, beta=0.0, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c)]),
    Row("kl_div", lambda F, x, t, **o: F.kl_div(x, t, **o), lambda r, n, c: [normal(r, n, c), positive(r, n, c)]),
    Row("kl_div log_target", lambda F, x, t, **o: F.kl_div(x, t, log_target=True, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c)]),
    *[
        Row(f"poisson_nll_loss {log} {full}",
            lambda F, x, t, o1=log, o2=full, **o: F.poisson_nll_loss(x, t, log_input=o1, full=o2, eps=0.01, **o),
            lambda r, n, c: [positive(r, n, c), counts(r, n, c)])
        for log in (False, True) for full in (False, True)
    ],
    Row("gaussian_nll_loss", lambda F, x, t, v, **o: F.gaussian_nll_loss(x, t, v, full=True, eps=1e-3, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), positive(r, n, c)], 3),
    Row("hinge_embedding_loss", lambda F, x, t, **o: F.hinge_embedding_loss(x, t, margin=1.5, **o),
        lambda r, n, c: [normal(r, n, c), signs(r, n, c)]),
    Row("soft_margin_loss", lambda F, x, t, **o: F.soft_margin_loss(x, t, **o),
        lambda r, n, c: [normal(r, n, c), signs(r, n, c)]),
    Row("margin_ranking_loss", lambda F, x, y, t, **o: F.margin_ranking_loss(x, y, t, margin=0.5, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), signs(r, n, c)], 2),
    Row("binary_cross_entropy", lambda F, x, t, w, **o: F.binary_cross_entropy(x, t, w, **o),
        lambda r, n, c: [positive(r, n, c), positive(r, n, c), positive(r, n, c)], weight_gradient=False),
    Row("binary_cross_entropy_with_logits",
        lambda F, x, t, w, q, **o: F.binary_cross_entropy_with_logits(x, t, w, pos_weight=q, **o),
        lambda r, n, c: [normal(r, n, c), positive(r, n, c), positive(r, n, c), positive(r, c)], weight_gradient=False),
    *[
        Row(f"multi_margin_loss {p}", lambda F, x, t, w, p=p, **o: F.multi_margin_loss(x, t, p, 0.7, w, **o),
            lambda r, n, c: [normal(r, n, c), r.integers(0, c, n), positive(r, c)], weight_gradient=False)
        for p in (1, 2)
    ],
    Row("multilabel_margin_loss", lambda F, x, t, **o: F.multilabel_margin_loss(x, t, **o),
        lambda r, n, c: [normal(r, n, c), label_lists(r, n, c)]),
    Row("multilabel_soft_margin_loss", lambda F, x, t, w, **o: F.multilabel_soft_margin_loss(x, t, w, **o),
        lambda r, n, c: [normal(r, n, c), positive(r, n, c), positive(r, c)]),
    Row("cosine_embedding_loss", lambda F, a, b, t, **o: F.cosine_embedding_loss(a, b, t, margin=-0.2, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), signs(r, n)], 2),
    *[
        Row(f"triplet_margin_loss {p} {swap}",
            lambda F, a, b, c, p=p, s=swap, **o: F.triplet_margin_loss(a, b, c, margin=2.0, p=p, swap=s, **o),
            lambda r, n, c: [normal(r, n, c), normal(r, n, c), normal(r, n, c)], 3)
        for p, swap in ((2, False), (2, True), (1, False), (3.0, True), (np.inf, False))
    ],
    Row("triplet_margin_with_distance_loss",
        lambda F, a, b, c, **o: F.triplet_margin_with_distance_loss(
            a, b, c, distance_function=lambda u, v: ((u - v) ** 2).sum(-1), swap=True, **o),
        lambda r, n, c: [normal(r, n, c), normal(r, n, c), normal(r, n, c)], 3),
    Row("ctc_loss", ctc, sequences, second=False),
    Row("linear_cross_entropy", linear,
        lambda r, n, c: [normal(r, n, 5), normal(r, c, 5), normal(r, c), r.integers(0, c, n), positive(r, c)], 3,
        weight_gradient=False),
]  # fmt: skip
