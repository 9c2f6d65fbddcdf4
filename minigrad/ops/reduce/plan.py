"""The plan of a reduction, from the shape alone: which kernels run over what, in which units."""

import functools
import math
import operator

from ..._engine import view
from ..shape import row_major, wrap_dim

BLOCK = 32768  # elements a unit of work reduces when a long run is cut
TILE = 512  # columns a unit of the _columns kernels, see kernels/reduce.py
BLOCKS, COLUMNS, ROWS, STRIDED = range(4)  # the kernels of a reduction


def dims_of(dim, ndim):
    """``dim`` (None, an int or a sequence) as a sorted tuple of distinct non-negative dimensions."""
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(ndim))
    found = set()
    for d in dim if isinstance(dim, (tuple, list)) else (dim,):
        d = wrap_dim(d, ndim)
        if d in found:
            raise RuntimeError(f"dim {d} appears multiple times in the list of dims")
        found.add(d)
    return tuple(sorted(found)) if ndim else ()


@functools.lru_cache(4096)
def layout(shape, dim, keepdim):
    """(output shape, axes, kernel calls, number of elements reduced into one) of a reduction.

    axes: for each input dimension, the output dimension that it lies along, or -1 if it is reduced.
    """
    dims = dims_of(dim, len(shape))
    axes, out = [], []
    for d, size in enumerate(shape):
        reduced = d in dims
        axes.append(-1 if reduced else len(out))
        if keepdim or not reduced:
            out.append(1 if reduced else size)
    return tuple(out), tuple(axes), steps_of(shape, tuple(axes)), math.prod([shape[d] for d in dims])


@functools.lru_cache(4096)
def layout_to(shape, target):
    """(axes, kernel calls) of the sum that undoes a broadcast from ``target`` to ``shape``."""
    lead = len(shape) - len(target)
    axes = [-1 if d < lead or (target[d - lead] == 1 and size != 1) else d - lead for d, size in enumerate(shape)]
    if lead < 0 or [d for d, a in enumerate(axes) if a >= 0 and shape[d] != target[a]]:
        raise RuntimeError(f"a gradient of shape {tuple(shape)} cannot be summed to shape {tuple(target)}")
    return tuple(axes), steps_of(shape, tuple(axes))


@functools.lru_cache(4096)
def steps_of(shape, axes):
    """The kernel calls of a reduction on the CPU, and on another device; () where there is nothing to reduce."""
    return () if 0 in shape else (_calls(shape, axes, _cut), _calls(shape, axes, _cut_for_many))


def _calls(shape, axes, cut):
    """(which kernel, dims, units, work, size of the output) of each kernel call."""
    runs = []  # [reduced, size]
    for size, axis in zip(shape, axes, strict=True):
        if size == 1:
            continue
        if runs and runs[-1][0] == (axis < 0):
            runs[-1][1] *= size
        else:
            runs.append([axis < 0, size])
    steps, inner = [], 1
    for i in range(len(runs) - 1, -1, -1):
        reduced, n = runs[i]
        if reduced:
            cut(steps, math.prod([size for _, size in runs[:i]]), n, inner)
        else:
            inner *= n
    if not steps:  # nothing to add up, still a conversion or a square
        cut(steps, 1, 1, inner)
    return tuple(steps)


def _cut(steps, outer, n, inner):
    work, block, blocks = outer * n * inner, n, 1
    if work > BLOCK and outer < 64:
        if inner >= 8 * TILE:
            steps.append((COLUMNS, (n, inner), outer * (-(-inner // TILE)), work, outer * inner))
            return
        block = -(-BLOCK // inner) + 7 & ~7
        blocks = -(-n // block)
    _in_blocks(steps, outer, n, inner, block, blocks)


def _in_blocks(steps, outer, n, inner, block, blocks):
    which = ROWS if inner == 1 else BLOCKS
    steps.append((which, (n, inner, block, blocks), outer * blocks, outer * n * inner, outer * blocks * inner))
    if blocks > 1:
        steps.append((which, (blocks, inner, blocks, 1), outer, outer * blocks * inner, outer * inner))


def _block(outer, n, inner):
    """How many rows a unit reduces on a device of many processors, where a group of threads has one row, or 32 columns.

    A few thousand groups keep it busy, and 2,048 elements are worth one: so 10^8 numbers are added up by 2,048 groups.
    """
    side = inner if inner < 32 else 32
    groups, share = outer * -(-inner // side), n * side // 2048
    if groups >= 256 or share <= 4:
        return n
    pieces = share if share * groups < 2048 else 2048 // groups
    block = -(-n // pieces) + 31 & ~31
    return block if block < n else n


def _cut_for_many(steps, outer, n, inner):
    block = _block(outer, n, inner)
    _in_blocks(steps, outer, n, inner, block, -(-n // block))


def contiguous(x):
    return x if x.is_contiguous() else x.detach().clone()


def in_memory_order(x, axes, shape):
    """(view, axes, strides) of a permuted x: a view of descending strides, its axes, None or what restores the order.

    Those are the strides by which the result has ``shape``, where other dimensions come first in memory. None where x
    is in that order already, or repeats elements.
    """
    strides, sizes = x.stride(), x.shape
    order = sorted(range(x.ndim), key=lambda d: -strides[d])
    if 0 in strides or [d for d in order if sizes[d] != 1] == [d for d in range(x.ndim) if sizes[d] != 1]:
        return None
    turned = view(x, [sizes[d] for d in order], [strides[d] for d in order])
    kept = [axes[d] for d in order if axes[d] >= 0]
    back = None
    if kept != sorted(kept):
        steps = dict(zip(kept, row_major([shape[a] for a in kept])))
        back = [steps.get(a, 1) for a in range(len(shape))]
    return turned, tuple([axes[d] for d in order]), back


def key_of(dim):
    """``dim`` as something to look a plan up by."""
    if dim is None or type(dim) is int:
        return dim
    if isinstance(dim, (tuple, list)):
        return tuple([operator.index(d) for d in dim])
    return operator.index(dim)


def around(shape, dim):
    """(outer, n, inner) of ``shape`` around dimension ``dim``."""
    if not shape:
        return 1, 1, 1
    return math.prod(shape[:dim]), shape[dim], math.prod(shape[dim + 1 :])
