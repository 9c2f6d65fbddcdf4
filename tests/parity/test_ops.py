"""Every operation of ``ops_table`` computes what PyTorch computes: values, dtypes and gradients."""

import numpy as np
import pytest
import torch

import minigrad as mg

from ..ops_table import TABLE, make, outputs

TOLERANCE = {np.float32: (1e-5, 1e-5), np.float64: (1e-12, 1e-12)}  # relative, absolute


def run(m, row, case, dtype):
    """Values, dtype names and gradients of one case, as NumPy arrays."""
    tensors = [m.from_numpy(a) for a in make(row, case, dtype)]
    if row.gradient:
        for x in tensors:
            x.requires_grad_(True)
    results = outputs(row.call(m, *tensors, **case.arguments))
    for i, y in enumerate(results):
        if y.requires_grad:
            dy = np.cos(np.arange(y.numel()) + i).reshape(tuple(y.shape)).astype(dtype)
            y.backward(m.from_numpy(np.asarray(dy)), retain_graph=True)
    names = [str(y.dtype).partition(".")[2] for y in results]
    return [y.detach().numpy() for y in results], names, [x.grad.numpy() for x in tensors if x.grad is not None]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("row", [row for row in TABLE if row.parity], ids=lambda row: row.name)
def test_as_pytorch(row, dtype):
    for case in row.cases:
        ours, names, gradients = run(mg, row, case, dtype)
        theirs, their_names, their_gradients = run(torch, row, case, dtype)
        assert names == their_names, str(case)
        assert len(gradients) == len(their_gradients), str(case)
        relative, absolute = TOLERANCE[dtype]
        for found, expected in zip([*ours, *gradients], [*theirs, *their_gradients], strict=True):
            assert found.shape == expected.shape, str(case)
            size = np.abs(expected[np.isfinite(expected)]).max(initial=1.0) if expected.dtype.kind == "f" else 1
            np.testing.assert_allclose(
                found, expected, row.rtol * relative, row.rtol * absolute * size, err_msg=f"{row.name} {case}"
            )
