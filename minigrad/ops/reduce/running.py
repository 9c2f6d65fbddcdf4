"""Running sums and products."""

from ..._engine import Kernel, Op, empty, filled
from ..._engine import _cast as cast
from ..._storage import bool_, float64, int64
from .._check import check_tensor
from ..shape import cat, flip, narrow, wrap_dim
from .folds import PROD, SUM
from .plan import around, contiguous

_K_CUMSUM, _K_CUMPROD = Kernel("reduce.cumsum", 1), Kernel("reduce.cumprod", 1)
_cumsum = Op("Cumsum", lambda dy, dim: flip(cumsum(flip(dy, dim), dim), dim) if dy.ndim else dy)
_cumprod = Op("Cumprod", lambda dy, x, dim: _dcumprod(dy, x, dim))


def _running(kernel, fold, op, name, input, dim, dtype, saves_input):
    check_tensor(name, input)
    d = wrap_dim(dim, input.ndim)
    if dtype is not None:
        input = cast(input, dtype)
    elif not input.is_floating_point():
        input = cast(input, int64)
    if input.dtype is bool_:
        return cast(_running(kernel, fold, op, name, input, dim, int64, False), bool_)
    x = contiguous(input)
    y = _scan(kernel, fold, x, *around(x.shape, d)) if x.numel() else empty(x.shape, x.dtype, x)
    return op.record(y, input, saved=(input, d) if saves_input else (d,))


def _scan(kernel, fold, x, outer, n, inner):
    """Running results along the middle of x (outer, n, inner).

    On a device that needs more work at once, of blocks: what comes before each is the running result of what they
    come to, and x is read twice.
    """
    wide, block, carry = float64 if x.is_floating_point() else int64, n, None
    if x._device >= 0:
        block = _scan_block(outer, n, inner)
    blocks = -(-n // block)
    if blocks > 1:
        carry = empty((outer, blocks, inner), wide, x)
        fold((carry,), (x,), (n, inner, block, blocks), (), outer * blocks, x.numel(), x.dtype, wide)
        carry = _scan(kernel, fold, carry, outer, blocks, inner)
    y = empty(x.shape, x.dtype, x)
    kernel((y,), (x, carry), (n, inner, block, blocks), (), outer * blocks, x.numel(), x.dtype, wide)
    return y


def _scan_block(outer, n, inner):
    """How many of n a block is: rows are the work of 256 threads, columns of one each."""
    wanted, least = (1024 // outer, 8192) if inner == 1 else (131072 // (outer * inner), 128)
    blocks = sorted((1, wanted, n // least))[1] if n >= least else 1
    return -(-n // blocks)


def cumsum(input, dim, *, dtype=None):
    """The sums of all elements up to each one along ``dim``; integers in int64, floats added up in float64.

    >>> import minigrad as mg
    >>> mg.cumsum(mg.tensor([1., 2., 3.]), 0)
    tensor([1., 3., 6.])
    """
    return _running(_K_CUMSUM, SUM.kernels[0], _cumsum, "cumsum", input, dim, dtype, False)


def cumprod(input, dim, *, dtype=None):
    """The products of all elements up to each one along ``dim``; integers in int64. The gradient is exact with zeros.

    >>> import minigrad as mg
    >>> mg.cumprod(mg.tensor([1., 2., 3.]), 0)
    tensor([1., 2., 6.])
    """
    return _running(_K_CUMPROD, PROD.kernels[0], _cumprod, "cumprod", input, dim, dtype, True)


def _dcumprod(dy, x, dim):
    """dx[i] = prod(x[:i]) * S[i] with S[i] = dy[i] + x[i+1] S[i+1], which needs no division.

    The recurrence is composed with itself log2(n) times: after each, S[i] has the terms of twice as many elements and
    f[i] the product that carries on to the rest.
    """
    if x.ndim == 0:
        return dy
    n = x.shape[dim]
    if n == 0:
        return dy.clone()

    def later(t, k, fill):
        pad = filled([k if d == dim else size for d, size in enumerate(t.shape)], fill, t.dtype, t)
        return cat([narrow(t, dim, k, n - k), pad], dim)

    one = filled([1 if d == dim else size for d, size in enumerate(x.shape)], 1, x.dtype, x)
    before = cat([one, narrow(cumprod(x, dim), dim, 0, n - 1)], dim)
    total, factor, k = dy, later(x, 1, 0), 1
    while k < n:
        total, factor = total + factor * later(total, k, 0), factor * later(factor, k, 0)
        k *= 2
    return before * total
