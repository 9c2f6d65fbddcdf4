"""Every operation of ``ops_table``: values against NumPy in both precisions and all layouts, derivatives."""

import math

import numpy as np
import pytest

import minigrad as mg

from .ops_table import DIFFERENTIABLE, TABLE, make, outputs

TOLERANCE = {np.float32: (2e-6, 1e-5), np.float64: (1e-13, 1e-12)}  # absolute, relative


def named(rows):
    return pytest.mark.parametrize("row", rows, ids=lambda row: row.name)


def layouts(array):
    """(name, tensor) of the values of ``array`` in memory in different ways."""
    yield "contiguous", mg.from_numpy(array.copy())
    if array.ndim >= 1:
        room = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
        room[..., 1::2] = array
        yield "every second", mg.from_numpy(room[..., 1::2])
    if array.ndim >= 2:
        yield "transposed", mg.from_numpy(np.ascontiguousarray(array.swapaxes(0, -1)).swapaxes(0, -1))


def repeated(array):
    """The first slice of ``array`` everywhere, without copies in the tensor; the array and the tensor."""
    first = np.ascontiguousarray(array[:1])
    return np.broadcast_to(first, array.shape).copy(), mg.from_numpy(first).expand(array.shape)


def check(row, case, dtype, tensors, arrays, layout):
    found = outputs(row.call(mg, *tensors, **case.arguments))
    exact = outputs(row.reference(*[a.astype(np.float64) for a in arrays], **case.arguments))
    assert len(found) == len(exact), (str(case), layout)
    for y, expected in zip(found, exact, strict=True):
        expected = np.asarray(expected)
        assert tuple(y.shape) == expected.shape, (str(case), layout)
        if expected.dtype.kind == "f":
            assert y.dtype is tensors[0].dtype, (str(case), layout)
        absolute, relative = TOLERANCE[dtype]
        np.testing.assert_allclose(
            y.numpy(), expected, row.rtol * relative, row.rtol * absolute * max(1, arrays[0].size**0.5),
            err_msg=f"{row.name} {case} {layout}",
        )  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@named(TABLE)
def test_values(row, dtype):
    for case in row.cases:
        arrays = make(row, case, dtype)
        for ways in zip(*[list(layouts(a)) + 2 * [("contiguous", mg.from_numpy(a))] for a in arrays], strict=False):
            check(row, case, dtype, [t for _, t in ways], arrays, [name for name, _ in ways])
        for i, array in enumerate(arrays):
            if array.ndim and array.size and row.domains[0] != "distinct":
                same, tensor = repeated(array)
                changed = [*arrays[:i], same, *arrays[i + 1 :]]
                tensors = [tensor if j == i else mg.from_numpy(a) for j, a in enumerate(changed)]
                check(row, case, dtype, tensors, changed, f"input {i} expanded")


def leaves(row, case, seed=0):
    return [mg.from_numpy(a).requires_grad_() for a in make(row, case, np.float64, seed)]


def small(row, limit=40):
    """Cases with something to differentiate, and not too much."""
    return [c for c in row.cases if min(map(math.prod, c.shapes)) > 0 and sum(map(math.prod, c.shapes)) <= limit]


def function(row, case):
    """The operation as a function of tensors, with floating outputs only."""
    return lambda *xs: tuple(y for y in outputs(row.call(mg, *xs, **case.arguments)) if y.is_floating_point())


@named(DIFFERENTIABLE)
def test_gradients(row):
    for case in small(row):
        assert mg.autograd.gradcheck(function(row, case), leaves(row, case)), str(case)


@named([row for row in DIFFERENTIABLE if row.smooth])
def test_second_derivatives(row):
    for case in small(row, 24):
        assert mg.autograd.gradgradcheck(function(row, case), leaves(row, case)), str(case)


@named(DIFFERENTIABLE)
def test_gradients_have_the_shape_and_dtype_of_the_input(row):
    for case in row.cases:
        for dtype in (np.float32, np.float64):
            tensors = [mg.from_numpy(a).requires_grad_() for a in make(row, case, dtype)]
            for y in function(row, case)(*tensors):
                y.backward(mg.ones_like(y), retain_graph=True)
            for x in tensors:
                assert x.grad is not None and x.grad.shape == x.shape and x.grad.dtype is x.dtype, str(case)


@named(DIFFERENTIABLE)
def test_gradients_of_other_layouts(row):
    """A gradient does not depend on where the input, or the gradient that comes in, lies in memory."""
    for case in small(row, 60):
        arrays = make(row, case, np.float64)
        gradients = []
        for way in range(2):
            tensors = [list(layouts(a))[way if a.ndim else 0][1].requires_grad_() for a in arrays]
            for y in function(row, case)(*tensors):
                dy = np.cos(np.arange(y.numel())).reshape(tuple(y.shape))
                y.backward(list(layouts(dy))[way if y.ndim else 0][1], retain_graph=True)
            gradients.append([x.grad.numpy() for x in tensors])
        for straight, strided in zip(*gradients, strict=True):
            np.testing.assert_allclose(strided, straight, 1e-12, 1e-13, err_msg=f"{row.name} {case}")


@named(DIFFERENTIABLE)
def test_only_needed_gradients(row):
    """With one input that requires grad, the others get none and the one its own."""
    case = row.cases[-1]
    if len(case.shapes) < 2:
        return
    both = leaves(row, case)
    for y in function(row, case)(*both):
        y.backward(mg.ones_like(y), retain_graph=True)
    for i in range(len(both)):
        alone = [x.detach() for x in both]
        alone[i].requires_grad_()
        for y in function(row, case)(*alone):
            if y.requires_grad:
                y.backward(mg.ones_like(y), retain_graph=True)
        assert [x.grad is not None for x in alone] == [j == i for j in range(len(both))]
        np.testing.assert_array_equal(alone[i].grad.numpy(), both[i].grad.numpy(), err_msg=row.name)


# Public operations without a row, and why.
UNLISTED = {
    "without gradient, tested with their family": """
        allclose argwhere bitwise_and bitwise_not bitwise_or bitwise_xor broadcast_shapes equal nonzero one_hot
    """,
    "other names": """
        absolute clip concat concatenate divide fix ger greater greater_equal less less_equal moveaxis multiply
        negative not_equal row_stack subtract swapaxes true_divide
    """,
    "random, tested in test_random": "dropout",
    "losses and what they are made of, tested in the files of losses": """
        binary_cross_entropy binary_cross_entropy_with_logits cosine_embedding_loss cosine_similarity cross_entropy
        ctc_loss gaussian_nll_loss hinge_embedding_loss huber_loss kl_div l1_loss linear_cross_entropy
        margin_ranking_loss mse_loss multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss
        pairwise_distance poisson_nll_loss smooth_l1_loss soft_margin_loss triplet_margin_loss
        triplet_margin_with_distance_loss
    """,
}


def test_every_public_operation_has_a_row():
    """An operation that is added gets a row, or a reason above."""
    listed = {row.name.partition(",")[0].removeprefix("in place: ") for row in TABLE}
    excused = set(" ".join(UNLISTED.values()).split())
    missing = []
    for module in (mg, mg.nn.functional):
        for name, f in vars(module).items():
            operation = type(f).__name__ == "Op" or getattr(f, "__module__", "").startswith("minigrad.ops")
            public = callable(f) and not name.startswith("_") and not isinstance(f, type)
            if operation and public and name not in listed | excused:
                missing.append(name)
    assert not missing
