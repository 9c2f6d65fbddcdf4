"""The kernels of a reduction run by its plan, on tensors of any strides."""

from ..._engine import Kernel, empty, filled, view
from ..._storage import int64
from ..direct import fold
from .plan import COLUMNS, STRIDED, TILE, contiguous, in_memory_order, steps_of


def _kernels(name, cost):
    return [Kernel(f"reduce.{name}{twin}", cost) for twin in ("", "_columns", "_rows", "_strided")]


class Fold:
    """The kernels of a reduction, those that reduce its partial results, its identity."""

    def __init__(self, name, identity, cost, then=None, converts=True):
        self.kernels = _kernels(name, cost)
        self.identity, self.then, self.converts = identity, then or self, converts

    def __call__(self, x, shape, steps, dtype, axes=None):
        """x reduced to ``shape``. With ``axes`` a transposed x is reduced in the order of its memory: no copy.

        A sum of floats only if it has no gaps, so that those change no bit.
        """
        if not steps:
            return filled(shape, self.identity, dtype, x)
        if axes is not None and not x.is_contiguous():
            turned = in_memory_order(x, axes, shape)
            exact = not (self.converts and x.is_floating_point())  # in any order
            if turned is not None and (exact or turned[0].is_contiguous()):
                x, axes, back = turned
                y = self(x, shape, steps_of(x.shape, axes), dtype)
                return view(y, shape, back).detach().clone() if back else y
        steps, to, fold = steps[x._device >= 0], dtype if self.converts else None, self
        for i, step in enumerate(steps):
            which, dims, units, work, size = step
            y = empty(shape if i == len(steps) - 1 else (size,), dtype, x)
            if x.is_contiguous() or not _strided(fold.kernels[STRIDED], (y,), x, step, to):
                fold.kernels[which]((y,), (contiguous(x),), dims, (), units, work, x.dtype, to)
            x, fold = y, fold.then
        return y


def _strided(kernel, outputs, x, step, to=None):
    """Whether the kernel could be run on x with its strides: see ``direct.fold``."""
    which, dims, units, work, _ = step
    head = (*dims, dims[0], 1, TILE) if which == COLUMNS else (*dims, dims[1])
    return fold(kernel, outputs, x, head, units, work, to)


SUM = Fold("sum", 0, 0.1)
PROD = Fold("prod", 1, 0.1)
SQUARES = Fold("sum_squares", 0, 0.1, then=SUM)
ALL = Fold("all", True, 0.1, converts=False)
ANY = Fold("any", False, 0.1, converts=False)


class Extreme:
    """The kernels of max or min: values and the positions of the first of them along the reduced run."""

    def __init__(self, name):
        self.kernels = _kernels(name, 0.3)

    def __call__(self, x, shape, steps, axes=None):
        """Values and indices of ``shape``. ``axes``, along one dimension only: as in ``Fold``."""
        if axes is not None and not x.is_contiguous():
            turned = in_memory_order(x, axes, shape)
            if turned is not None:
                x, axes, back = turned
                found = self(x, shape, steps_of(x.shape, axes))
                return tuple([view(y, shape, back).detach().clone() for y in found]) if back else found
        index, steps = None, steps[x._device >= 0]
        for i, step in enumerate(steps):
            which, dims, units, work, size = step
            y, k = (empty(shape if i == len(steps) - 1 else (size,), d, x) for d in (x.dtype, int64))
            if x.is_contiguous() or not _strided(self.kernels[STRIDED], (y, k), x, step):
                columns = which == COLUMNS
                inputs, more = ((contiguous(x),), ()) if columns else ((contiguous(x), index), (index is not None,))
                self.kernels[which]((y, k), inputs, (*dims, *more), (), units, work)
            # positions of an earlier run mean nothing along the next one
            x, index = y, k if dims[-1] > 1 and which != COLUMNS else None
        return y, k


MAX, MIN = Extreme("maxdim"), Extreme("mindim")
MAX_VALUES, MIN_VALUES = Fold("max", None, 0.1, converts=False), Fold("min", None, 0.1, converts=False)
