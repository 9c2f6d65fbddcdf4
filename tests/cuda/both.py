"""Programs of tensors, run on the CPU and on a GPU, real or pretended: results and gradients must agree."""

import os
import types

import numpy as np
import pytest

import minigrad as mg

EXACT = bool(os.environ.get("MINIGRAD_PRETEND_CUDA"))  # a pretended GPU runs the CPU's kernels
needs_gpu = pytest.mark.skipif(not mg.cuda.is_available(), reason="needs a GPU, or MINIGRAD_PRETEND_CUDA=1")


class There(types.ModuleType):
    """minigrad, but arrays become tensors on the GPU."""

    def __getattr__(self, name):
        return getattr(mg, name)

    @staticmethod
    def from_numpy(array):
        return mg.from_numpy(array).cuda()


there = There("there")


def same(found, expected, what="", exact=EXACT):
    """``found`` is on the GPU, and has the values of ``expected``; anything but tensors is equal."""
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected), what
        for a, b in zip(found, expected, strict=True):
            same(a, b, what, exact)
    elif isinstance(expected, mg.Tensor):
        assert found.is_cuda and not expected.is_cuda, what
        assert found.dtype is expected.dtype and found.shape == expected.shape, what
        assert found.requires_grad is expected.requires_grad, what
        values(found, expected, what, exact)
    else:
        assert found == expected, what


def values(found, expected, what="", exact=EXACT):
    a, b = found.detach().cpu().numpy(), expected.detach().cpu().numpy()
    if exact or a.dtype.kind != "f":
        np.testing.assert_array_equal(a, b, err_msg=str(what))
        assert a.tobytes() == b.tobytes(), what
    else:
        most = 100 if a.dtype == np.float32 else max(100, a.size // 16)  # sums of float64 in another order drift
        tolerance = most * np.finfo(a.dtype).eps
        np.testing.assert_allclose(
            a, b, tolerance, tolerance * max(1, np.abs(b[np.isfinite(b)]).max(initial=0)), str(what)
        )


def ramp(y):
    """Numbers in the shape of ``y``, to weigh a result with: on its device."""
    return mg.tensor(np.cos(np.arange(y.numel())).reshape(tuple(y.shape)), dtype=y.dtype, device=y.device)


def floats(result):
    result = list(result) if isinstance(result, (list, tuple)) else [result]
    return [y for y in result if isinstance(y, mg.Tensor) and y.is_floating_point()]


def derivatives(ys, xs, create_graph=False):
    """The gradients of ``xs`` for weights on ``ys``; None for those that nothing depends on."""
    ys = [y for y in ys if y.requires_grad]
    if not ys:
        return [None] * len(xs)
    return list(mg.autograd.grad(ys, xs, [ramp(y) for y in ys], create_graph=create_graph, allow_unused=True))


def agree(function, *arrays, what="", twice=False, exact=EXACT):
    """``function(m, *leaves)``, its gradients and, if ``twice``, theirs, on both sides."""
    sides = []
    for m in (there, mg):
        xs = [m.from_numpy(a.copy()) for a in arrays]
        xs = [x.requires_grad_() if x.is_floating_point() else x for x in xs]
        leaves = [x for x in xs if x.requires_grad]
        result = function(m, *xs)
        first = derivatives(floats(result), leaves, create_graph=twice) if leaves else []
        second = derivatives([g for g in first if g is not None], leaves) if twice else []
        sides.append((result, first, second))
    for found, expected in zip(*sides, strict=True):
        same(found, expected, what, exact)
