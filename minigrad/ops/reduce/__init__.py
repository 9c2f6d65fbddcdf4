"""Reductions: sums, products, extremes, moments, norms, softmax and its relatives, running sums.

DESIGN
a. A reduction is planned from the shape alone and the plan is cached (``plan``): ``layout`` gives the output's shape,
   the axes that lead back from an output to the input, and the kernel calls. Neighbouring reduced dimensions are
   one call on x viewed as (outer, n, inner); several such runs are reduced in turn, from the last to the first.
b. A long run is cut into blocks whose partial results a second call reduces in order, and a wide one into tiles of
   columns; both by shape alone, so that results have the same bits at any number of threads. A device other than the
   CPU has a plan of its own. ``folds`` runs the kernels.
c. ``add_up`` and ``spread`` (a broadcast view) are each other's gradients; the sum of a broadcast gradient
   (``sum_to``) and all of sum, mean and var stand on them.
"""

from ..direct import mean as mean
from ..direct import sum as sum
from .extremes import amax as amax
from .extremes import amin as amin
from .extremes import argmax as argmax
from .extremes import argmin as argmin
from .extremes import max as max
from .extremes import min as min
from .extremes import return_types as return_types
from .moments import std as std
from .moments import var as var
from .norms import norm as norm
from .products import prod as prod
from .running import cumprod as cumprod
from .running import cumsum as cumsum
from .softmaxes import log_softmax as log_softmax
from .softmaxes import logsumexp as logsumexp
from .softmaxes import softmax as softmax
from .softmaxes import softmin as softmin
from .sums import count_nonzero as count_nonzero
from .sums import sum_to as sum_to
from .truth import all as all
from .truth import any as any
