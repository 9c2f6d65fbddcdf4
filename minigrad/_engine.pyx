# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True
# cython: initializedcheck=False, auto_pickle=False
"""The latency path: tensors, kernel calls and the tape.

DESIGN
a. A ``Tensor`` is dtype, shape and strides over a ``Storage``; its operators are C slots that allocate an output, call
   one kernel by pointer and, when recording, add one ``Node``. Everything slower than that lives in ``ops/`` and
   ``tensor.py`` and is attached to the class by ``add_methods``.
b. A ``Node`` holds where gradients go (edges: a leaf tensor, a node or None an input), what the rule needs (kept) and
   a sequence number; two of each in fields of their own, since two tuples cost as much as a small operation. Saved
   tensors are aliases: they share storage but are not the tensors the user holds, so no reference cycle can arise;
   each remembers the storage version that it expects.
c. A rule is a Python callable ``rule(dy, *saved)``, one per input, called only if that input needs a gradient. It is
   written with the same ops, so ``create_graph`` records it. Gradients of broadcast inputs are summed here.
d. The backward walk has a file of its own, _walk.pyx; it plugs itself in as ``Tensor.backward``.
e. An in-place op that must be differentiated is computed out of place and written back; the history of the tensor
   (and of the base, through a view) is rewritten. Views notice by ``history`` and rebuild their own on next use.
f. Kernels run through ``launch`` (_launch.pyx), which decides about threads.
g. A tensor may live on another device (``storage.device`` >= 0). Operations do not differ: ``Kernel.find`` returns that
   device's twin of a kernel and ``launch`` runs it. Only what touches memory itself (``fill``, ``copy_memory``,
   ``value_at``, see devices.pxi) looks at the device, and what takes several tensors, to refuse a mixture.
h. The parts of this module are files of their own in engine/. They are included, not imported: to the C compiler they
   are one, so that it inlines what a small operation runs through, and no part has to declare the names of another.
"""

cimport cython
from cpython.object cimport PyObject, Py_EQ, Py_GE, Py_GT, Py_LE, Py_LT, Py_NE
from cpython.ref cimport Py_INCREF
from cpython.tuple cimport PyTuple_New, PyTuple_SET_ITEM
from libc.stdint cimport int8_t, int16_t, int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free
from libc.string cimport memcpy

import weakref
from types import MethodType

from ._storage cimport (
    BOOL, CATEGORY, DTYPES, F32, F64, I8, I16, I32, I64, ITEMSIZE, MAXDIM, U8, Storage, device_kernel, device_name,
    device_object, devices, dtype, dtype_code, foreign_storage, lease, new_storage, promote, refuse_mixed,
)
from ._launch cimport COPY_THERE, FILL_THERE, kernel_t, launch
from ._plug cimport plugs
from ._record cimport describe, handles, recorder, recording
from ._hooks import add_hook
from .kernels import contract

cdef extern from "Python.h":
    void PyType_Modified(type t)

cdef extern from *:
    """
    #define mg_type_dict(t) Py_NewRef(((PyTypeObject *)(t))->tp_dict)
    """
    object mg_type_dict(type t)

DTYPE_NAMES = contract.DTYPES

include "engine/kernel.pxi"
include "engine/layout.pxi"
include "engine/strided.pxi"
include "engine/values.pxi"
include "engine/devices.pxi"
include "engine/operation.pxi"
include "engine/tape.pxi"
include "engine/inplace.pxi"
include "engine/construction.pxi"


@cython.freelist(256)
cdef class Tensor:
    """A multi-dimensional array of one dtype that remembers how it was computed.

    ``Tensor(data)`` converts ``data`` (nested lists, numbers, an array) to the default floating dtype and
    ``Tensor(2, 3)`` is uninitialised, as in PyTorch; prefer ``minigrad.tensor``, ``zeros`` or ``empty``.
    """

    __array_priority__ = 1000

    def __cinit__(self):
        # An empty tensor, also where a subclass forgets to call __init__.
        self.nd, self.stride_[0], self.contiguous, self.storage, self.ptr = 1, 1, True, NOTHING, NOTHING.ptr

    def __init__(self, *data, requires_grad=False):
        cdef Tensor t = plugs.legacy(data)
        self.storage, self.ptr, self.dt, self.nd = t.storage, t.ptr, t.dt, t.nd
        self.count, self.contiguous = t.count, t.contiguous
        memcpy(self.shape_, t.shape_, sizeof(t.shape_))
        memcpy(self.stride_, t.stride_, sizeof(t.stride_))
        self.requires_grad = requires_grad

    # --- what it is ---

    @property
    def shape(self):
        """The sizes of its dimensions, a tuple."""
        return plugs.size(shape_tuple(self))

    def stride(self, dim=None):
        """Steps between neighbours along each dimension (or ``dim``), in elements."""
        cdef tuple strides = tuple([self.stride_[i] for i in range(self.nd)])
        return strides if dim is None else strides[dim]

    @property
    def dtype(self):
        """The element type."""
        return DTYPES[self.dt]

    @property
    def device(self):
        """Where the memory is."""
        return plugs.device if self.storage.device < 0 else device_object(self.storage.device)

    @property
    def _device(self):
        return self.storage.device

    @property
    def ndim(self):
        """The number of dimensions."""
        return self.nd

    def dim(self):
        """The number of dimensions."""
        return self.nd

    def numel(self):
        """The number of elements."""
        return self.count

    def element_size(self):
        """Bytes an element."""
        return ITEMSIZE[self.dt]

    def data_ptr(self):
        """The address of the first element."""
        return <size_t>self.ptr

    def storage_offset(self):
        """Elements between the start of the memory block and the first element."""
        return (self.ptr - self.storage.ptr) // ITEMSIZE[self.dt]

    def is_contiguous(self):
        """Whether elements lie in row-major order without gaps."""
        return self.contiguous

    def is_floating_point(self):
        """Whether the dtype is float32 or float64."""
        return CATEGORY[self.dt] == 2

    @property
    def _version(self):
        return self.storage.version

    @property
    def _base(self):
        return self.base

    @property
    def _storage(self):
        return self.storage

    # --- gradients ---

    @property
    def requires_grad(self):
        """Whether operations on this tensor are recorded."""
        needs_grad(self)
        return self.requires

    @requires_grad.setter
    def requires_grad(self, bint value):
        if value and CATEGORY[self.dt] != 2:
            raise RuntimeError(f"only Tensors of floating point dtype can require gradients, this one is {self.dtype!r}")
        if not value and self.node is not None:
            raise RuntimeError("you can only change requires_grad flags of leaf variables; use detach() instead")
        self.requires = value

    def requires_grad_(self, bint requires_grad=True):
        """Set ``requires_grad`` in place; the tensor."""
        self.requires_grad = requires_grad
        return self

    @property
    def grad(self):
        """The gradient that backward has accumulated, or None."""
        if self.gradient is None and self.node is not None and self.node.retained is None:
            plugs.warn_nonleaf()
        return self.gradient

    @grad.setter
    def grad(self, value):
        cdef Tensor g
        if value is not None:
            if not isinstance(value, Tensor):
                raise TypeError(f"assigned grad must be a Tensor or None, got {type(value).__name__}")
            g = <Tensor>value
            if g is self:
                raise RuntimeError("can't assign Variable as its own grad")
            if not same_shape(g, self):
                raise RuntimeError(f"assigned grad has data of a different size: {shape_tuple(g)} for a tensor of shape "
                                   f"{shape_tuple(self)}")
            if g.dt != self.dt:
                raise RuntimeError(f"assigned grad has data of a different type: {g.dtype!r} for {self.dtype!r}")
            if g.storage.device != self.storage.device:
                raise RuntimeError(f"assigned grad has data located on a different device: "
                                   f"{device_name(g.storage.device)} for a tensor on {device_name(self.storage.device)}")
        self.gradient = value

    @grad.deleter
    def grad(self):
        self.gradient = None

    @property
    def is_leaf(self):
        """Whether the user made it: gradients of leaves that require grad are kept."""
        needs_grad(self)
        return self.node is None

    @property
    def grad_fn(self):
        """The node that computed it, or None."""
        needs_grad(self)
        return self.node if self.node is None or self.node.outputs >= 0 else self.node.edge0

    @property
    def output_nr(self):
        """Which output of its ``grad_fn`` it is."""
        return self.node.output if self.node is not None else 0

    @property
    def retains_grad(self):
        """Whether a non-leaf keeps its gradient."""
        return self.node is not None and self.node.retained is not None

    @property
    def data(self):
        """The same memory without history; writing through it is still seen by backward's version check."""
        return alias(self)

    @data.setter
    def data(self, value):
        cdef Tensor t = <Tensor?>value
        if t.dt != self.dt and self.requires and CATEGORY[t.dt] != 2:
            raise RuntimeError(f"data of dtype {t.dtype!r} cannot require gradients")
        needs_grad(self)
        self.base = None  # a view that is given other memory is none any more
        self.storage, self.ptr, self.dt, self.nd = t.storage, t.ptr, t.dt, t.nd
        self.count, self.contiguous = t.count, t.contiguous
        memcpy(self.shape_, t.shape_, sizeof(t.shape_))
        memcpy(self.stride_, t.stride_, sizeof(t.stride_))

    def detach(self):
        """The same memory without history."""
        return alias(self)

    def detach_(self):
        """Forget the history; the tensor itself."""
        if self.base is not None:
            raise RuntimeError("Can't detach views in-place. Use detach() instead.")
        self.node, self.requires = None, False
        return self

    def clone(self, *, memory_format=None):
        """A contiguous copy, recorded. ``memory_format``: accepted if it is one that tensors have."""
        if memory_format is not None:
            plugs.check_format(memory_format, "clone")
        return clone(self)

    def backward(self, gradient=None, retain_graph=None, create_graph=False, inputs=None):
        """Accumulate the gradient of this tensor into ``.grad`` of the leaves (or of ``inputs``) that it depends on.

        ``gradient``: of the same shape, the gradient to start from; optional if the tensor has one element.
        ``retain_graph``: keep what was saved, so that backward can run again; by default what ``create_graph`` is.
        ``create_graph``: record backward itself; ``autograd.backward`` says what that costs.
        """
        if inputs is not None:
            inputs = (inputs,) if isinstance(inputs, Tensor) else tuple(inputs)
            if not inputs:
                raise RuntimeError("'inputs' argument to backward cannot be empty.")
        if gradient is not None and not isinstance(gradient, Tensor):
            gradient = plugs.as_tensor(gradient)
        if inputs is None:
            walk_back(self, gradient, create_graph if retain_graph is None else retain_graph, create_graph)
        else:
            plugs.backward((self,), (gradient,), create_graph if retain_graph is None else retain_graph, create_graph,
                          inputs, False, False)

    def retain_grad(self):
        """Keep the gradient of this non-leaf in ``.grad`` too."""
        if not self.requires_grad:
            raise RuntimeError("can't retain_grad on Tensor that has requires_grad=False")
        retain_gradient(self)

    def register_hook(self, hook):
        """Call ``hook(grad)`` when the gradient is computed; what it returns, if not None, replaces it. A handle."""
        if not self.requires_grad:
            raise RuntimeError("cannot register a hook on a tensor that doesn't require gradient")
        if self.node is None:
            if self.hooks is None:
                self.hooks = []
            return add_hook(self.hooks, hook)
        if self.node.hooks is None:
            self.node.hooks = []
        return add_hook(self.node.hooks, hook)

    def register_post_accumulate_grad_hook(self, hook):
        """Call ``hook(tensor)`` after a gradient was added to a leaf's ``.grad``. A handle with ``remove()``."""
        if self.node is not None or not self.requires:
            raise RuntimeError("post accumulate grad hooks cannot be registered on non-leaf tensors")
        if self.after_hooks is None:
            self.after_hooks = []
        return add_hook(self.after_hooks, hook)

    # --- values ---

    def item(self):
        """The value of a tensor with one element, as a Python number."""
        if self.count != 1:
            raise RuntimeError(f"a Tensor with {self.count} elements (shape {shape_tuple(self)}) cannot be converted to "
                               "Scalar")
        return load(self)

    def __bool__(self):
        if self.count != 1:
            raise RuntimeError(f"Boolean value of Tensor with {'more than one value' if self.count else 'no values'} is "
                               "ambiguous; use .any(), .all() or .item()")
        return bool(load(self))

    def __float__(self):
        return float(self.item())

    def __int__(self):
        return int(self.item())

    def __index__(self):
        if CATEGORY[self.dt] == 2 or self.count != 1:
            raise TypeError("only integer tensors of a single element can be converted to an index")
        return int(load(self))

    def __len__(self):
        if self.nd == 0:
            raise TypeError("len() of a 0-d tensor")
        return self.shape_[0]

    def __hash__(self):
        # By its address, whose bits are mixed: tensors lie at equal distances, and a dict looks at the low bits only.
        cdef size_t h = (<size_t><PyObject *>self >> 4) * <size_t>0x9E3779B97F4A7C15
        return <Py_hash_t>(h ^ (h >> 32))

    def __iter__(self):
        return plugs.iterate(self)

    def __getitem__(self, index):
        return plugs.getitem(self, index)

    def __setitem__(self, index, value):
        plugs.setitem(self, index, value)

    def __contains__(self, value):
        return plugs.contains(self, value)

    def __repr__(self):
        return plugs.text(self)

    def __format__(self, spec):
        return plugs.format(self, spec)

    # --- operators ---

    def __add__(self, other):
        return operator(ADD, self, other)

    def __radd__(self, other):
        return operator(ADD, other, self)

    def __iadd__(self, other):
        return apply_inplace(ADD, self, other)

    def __sub__(self, other):
        return operator(SUB, self, other)

    def __rsub__(self, other):
        return operator(SUB, other, self)

    def __isub__(self, other):
        return apply_inplace(SUB, self, other)

    def __mul__(self, other):
        return operator(MUL, self, other)

    def __rmul__(self, other):
        return operator(MUL, other, self)

    def __imul__(self, other):
        return apply_inplace(MUL, self, other)

    def __truediv__(self, other):
        return operator(DIV, self, other)

    def __rtruediv__(self, other):
        return operator(DIV, other, self)

    def __itruediv__(self, other):
        return apply_inplace(DIV, self, other)

    def __mod__(self, other):
        return operator(REMAINDER, self, other)

    def __rmod__(self, other):
        return operator(REMAINDER, other, self)

    def __floordiv__(self, other):
        return operator(FLOOR_DIVIDE, self, other)

    def __rfloordiv__(self, other):
        return operator(FLOOR_DIVIDE, other, self)

    def __pow__(self, other, modulo):
        return plugs.power(self, other)

    def __rpow__(self, other, modulo):
        return plugs.power(other, self)

    def __ipow__(self, other):
        return apply_inplace(POW, self, other)

    def __matmul__(self, other):
        return plugs.matmul(self, other)

    def __rmatmul__(self, other):
        return plugs.matmul(other, self)

    def __neg__(self):
        return apply_unary(NEG, self)

    def __pos__(self):
        return self

    def __abs__(self):
        return apply_unary(ABS, self)

    def __invert__(self):
        return apply_unary(INVERT, self)

    def __and__(self, other):
        return operator(AND, self, other)

    def __rand__(self, other):
        return operator(AND, other, self)

    def __or__(self, other):
        return operator(OR, self, other)

    def __ror__(self, other):
        return operator(OR, other, self)

    def __xor__(self, other):
        return operator(XOR, self, other)

    def __rxor__(self, other):
        return operator(XOR, other, self)

    def __richcmp__(self, other, int kind):
        cdef Op op = EQ
        if kind == Py_NE:
            op = NE
        elif kind == Py_LT:
            op = LT
        elif kind == Py_LE:
            op = LE
        elif kind == Py_GT:
            op = GT
        elif kind == Py_GE:
            op = GE
        return operator(op, self, other)


cdef object operator(Op op, object a, object b):
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return apply_binary(op, <Tensor>a, <Tensor>b)
    if not (is_number(a) or is_number(b) or plugs.is_array(a if isinstance(b, Tensor) else b)):
        return NotImplemented
    return binary(op, a, b)


cdef backward_t walk_back = NULL


cdef int set_backward(backward_t f) noexcept:
    """Plug in backward of one output, see _walk.pyx."""
    global walk_back
    walk_back = f
    return 0


def install_operators(dict ops):
    """Plug in the elementwise operations behind the operators."""
    global ADD, SUB, MUL, DIV, POW, NEG, ABS, EQ, NE, LT, LE, GT, GE, AND, OR, XOR, INVERT, REMAINDER, FLOOR_DIVIDE
    ADD, SUB, MUL, DIV, POW, NEG, ABS = (ops[n] for n in ("add", "sub", "mul", "div", "pow", "neg", "abs"))
    EQ, NE, LT, LE, GT, GE = (ops[n] for n in ("eq", "ne", "lt", "le", "gt", "ge"))
    AND, OR, XOR, INVERT = (ops[n] for n in ("bitwise_and", "bitwise_or", "bitwise_xor", "bitwise_not"))
    REMAINDER, FLOOR_DIVIDE = ops["remainder"], ops["floor_divide"]


def add_methods(dict methods):
    """Attach Python functions to Tensor: what setattr would do if extension types allowed it."""
    cdef object namespace = mg_type_dict(Tensor)
    for name, function in methods.items():
        if name in namespace:
            raise TypeError(f"Tensor already has {name!r}")
        namespace[name] = function
    PyType_Modified(Tensor)
