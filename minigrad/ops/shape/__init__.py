"""Shapes and views: reshaping, permuting, expanding, joining, splitting, and in-place writes through views.

DESIGN
a. A view is ``_engine.view(x, shape, strides, offset)``: it shares memory, costs no copy, and the engine remembers its
   base. Where PyTorch copies (``flip``, ``cat``, ``repeat``, a ``reshape`` that strides do not allow), so do we.
b. A region is (shape, strides, offset, base shape, base strides): which elements of a base a view shows. ``Slice``,
   ``AsStrided`` and ``SliceWrite`` differentiate through regions with three linear operations: take a region out,
   put it into zeros, set it to zero. Each is a view of the contiguous gradient when base and region are simple, else
   it goes through the positions of the elements.
c. After a recorded in-place operation through a view the base gets a new history: ``slice_write``.
"""

from .broadcasting import broadcast_named as broadcast_named
from .broadcasting import broadcast_tensors as broadcast_tensors
from .broadcasting import broadcast_to as broadcast_to
from .broadcasting import expand as expand
from .broadcasting import expand_as as expand_as
from .copies import flip as flip
from .copies import fliplr as fliplr
from .copies import flipud as flipud
from .copies import repeat as repeat
from .copies import tile as tile
from .joining import cat as cat
from .joining import chunk as chunk
from .joining import hstack as hstack
from .joining import split as split
from .joining import stack as stack
from .joining import unbind as unbind
from .joining import vstack as vstack
from .parts import as_strided as as_strided
from .parts import diagonal as diagonal
from .parts import narrow as narrow
from .parts import select as select
from .permuting import T as T
from .permuting import inverse as inverse
from .permuting import movedim as movedim
from .permuting import mT as mT
from .permuting import permute as permute
from .permuting import t as t
from .permuting import transpose as transpose
from .regions import AS_STRIDED as AS_STRIDED
from .regions import put_region as put_region
from .regions import record_slice as record_slice
from .regions import slice_write as slice_write
from .sizes import broadcast_shapes as broadcast_shapes
from .sizes import row_major as row_major
from .sizes import sizes_of as sizes_of
from .sizes import wrap_dim as wrap_dim
from .views import contiguous as contiguous
from .views import flatten as flatten
from .views import ravel as ravel
from .views import reshape as reshape
from .views import reshape_as as reshape_as
from .views import squeeze as squeeze
from .views import unflatten as unflatten
from .views import unsqueeze as unsqueeze
from .views import view as view
from .views import view_as as view_as
