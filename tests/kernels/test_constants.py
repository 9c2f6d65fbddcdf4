"""Sizes that a kernel and its caller must agree on."""

from minigrad.kernels import losses_each, optimizers
from minigrad.ops import _multi
from minigrad.ops import losses as loss_operations


def test_block_of_the_elementwise_losses():
    assert loss_operations.BLOCK == losses_each.BLOCK


def test_chunk_of_the_optimizers():
    assert _multi.CHUNK == optimizers.CHUNK
