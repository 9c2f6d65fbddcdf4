"""Indexing: ``x[...]`` and ``x[...] = v`` with NumPy's and PyTorch's meaning, gather, scatter, masks, triangles.

DESIGN
a. An index is read in two steps, as in PyTorch: integers, slices, None and Ellipsis make a view (``entries``); then
   arrays of integers and masks select from that view (``selection``). An integer beside arrays is therefore a plain
   selection: the dimensions of the arrays stay where they are if they are neighbours, else they come first.
b. Several arrays become one array of positions in the run of dimensions that they index, so that all of it is one
   ``take`` over (outer, size, inner) (``positions``); its gradient adds into zeros with ``take_add``.
c. Every index is checked before a kernel runs (``checks``). Indices that a backward rule will use are private copies.
d. Where a selection is small and its source is not contiguous, single elements are taken out of the source's memory
   instead of copying the source.
e. ``x[index] = v`` with no history to keep writes straight into memory; else it is computed out of place and written
   back by the engine, which rewrites the history of x. With repeated positions the last value wins, also for its
   gradient.
f. On a device other than the CPU nothing waits for an index: a kernel notes the first one outside its range, to be
   raised at the next synchronisation, and takes position 0 instead. Positions are computed there too, by ordinary
   operations; what follows from shapes is computed here and copied there. Only the number of true elements of a mask is
   waited for, since it is a shape. Indices on the CPU (lists, arrays) are checked here, and may select from any device.
"""

from .elements import gather as gather
from .elements import scatter as scatter
from .elements import scatter_add as scatter_add
from .elements import take_along_dim as take_along_dim
from .inplace import index_add_ as index_add_
from .inplace import index_copy_ as index_copy_
from .inplace import index_fill_ as index_fill_
from .inplace import index_put as index_put
from .inplace import index_put_ as index_put_
from .inplace import masked_fill_ as masked_fill_
from .inplace import scatter_ as scatter_
from .inplace import scatter_add_ as scatter_add_
from .inplace import tril_ as tril_
from .inplace import triu_ as triu_
from .items import contains as contains
from .items import getitem as getitem
from .items import iterate as iterate
from .items import setitem as setitem
from .masks import argwhere as argwhere
from .masks import masked_fill as masked_fill
from .masks import masked_select as masked_select
from .masks import nonzero as nonzero
from .masks import where as where
from .slices import index_add as index_add
from .slices import index_copy as index_copy
from .slices import index_fill as index_fill
from .slices import index_select as index_select
from .slices import take as take
from .triangles import diag as diag
from .triangles import diag_embed as diag_embed
from .triangles import tril as tril
from .triangles import triu as triu
