# cython: language_level=3
"""Calling a module: ``forward`` straight from C, because a wrapper in Python costs a tenth of a microsecond a layer.

The ``forward`` of the layers that small nets consist of is C too: from C into a Python function costs as much again.

``Callable``, the base of Module, is a type with nothing but a ``tp_call`` slot. It is made in C, since the slot that
Cython makes for ``def __call__(self, *args, **kwargs)`` costs as much as Python's.

In Sequential a Linear is not called but computed, and where nothing is recorded the ReLU after it too, in the pass over
the product that adds the bias. Both only if nobody could tell: not with hooks, a subclass or a replaced ``forward``.
"""

cimport cython

from .._engine cimport Op, Tensor, apply_unary, grad_enabled
from ..ops.linear cimport apply

cdef extern from *:
    """
    static PyObject *mg_hooked, *mg_forward, *mg_slow;

    static PyObject *mg_call_module(PyObject *self, PyObject *args, PyObject *kwargs) {
        PyObject *name, *function, *result, *hooked = PyObject_GetAttr(self, mg_hooked);
        if (hooked == NULL) return NULL;
        name = hooked == Py_False ? mg_forward : mg_slow;
        Py_DECREF(hooked);
        if (kwargs == NULL && PyTuple_GET_SIZE(args) == 1)
            return PyObject_CallMethodOneArg(self, name, PyTuple_GET_ITEM(args, 0));
        function = PyObject_GetAttr(self, name);
        if (function == NULL) return NULL;
        result = PyObject_Call(function, args, kwargs);
        Py_DECREF(function);
        return result;
    }

    static PyType_Slot mg_slots[] = {
        {Py_tp_doc, "self(...) is self.forward(...), or self._call_with_hooks(...) if self._hooked is not False."},
        {Py_tp_call, mg_call_module},
        {0, NULL},
    };
    static PyType_Spec mg_spec = {"minigrad.nn._call.Callable", 0, 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, mg_slots};

    static PyObject *mg_callable_type(void) {
        mg_hooked = PyUnicode_InternFromString("_hooked");
        mg_forward = PyUnicode_InternFromString("forward");
        mg_slow = PyUnicode_InternFromString("_call_with_hooks");
        return mg_hooked && mg_forward && mg_slow ? PyType_FromSpec(&mg_spec) : NULL;
    }
    #define mg_type_dict(t) Py_NewRef(((PyTypeObject *)(t))->tp_dict)
    """
    object mg_callable_type()
    dict mg_type_dict(type t)
    dict PyObject_GenericGetDict(object module, void *)

from ..ops.linear import linear

Callable = mg_callable_type()


def linear_forward(self, input):
    """input @ weight.T + bias."""
    return linear(input, self.weight, self.bias)


def elementwise_forward(Op op not None):
    """A ``forward`` that applies ``op``; where the module has ``inplace`` set, to the input itself."""

    def forward(self, input):
        cdef dict own = self.__dict__
        if own.get("inplace", False):
            return op.inplace(input)
        return apply_unary(op, <Tensor>input) if isinstance(input, Tensor) else op(input)

    return forward


@cython.final
cdef class Known:
    """A class and the ``forward`` that it was made with."""
    cdef type kind
    cdef dict names
    cdef object forward

    def __init__(self, type kind):
        self.kind, self.names, self.forward = kind, mg_type_dict(kind), kind.forward

    cdef dict own(self, object module):
        """The attributes of ``module`` if calling it calls just this ``forward``, else None."""
        if type(module) is not self.kind or self.names.get("forward") is not self.forward:
            return None
        cdef dict found = PyObject_GenericGetDict(module, NULL)
        return None if "_hooked" in found or "forward" in found else found


cdef Known Linear = None, ReLU = None


def know(linear, relu):
    """Tell Sequential the classes Linear and ReLU."""
    global Linear, ReLU
    Linear, ReLU = Known(linear), Known(relu)


def sequential_forward(self, input):
    """Each module in turn gets what the one before returned."""
    cdef dict modules = self.__dict__
    cdef list names = list(<dict>modules["_module_names"])
    cdef Py_ssize_t i = 0, count = len(names)
    cdef dict own
    cdef bint relu
    while i < count:
        module = modules[names[i]]
        i += 1
        own = Linear.own(module) if isinstance(input, Tensor) else None
        if own is not None:
            weight, bias = own.get("weight"), own.get("bias", False)
            if isinstance(weight, Tensor) and (bias is None or isinstance(bias, Tensor)):
                relu = i < count and not grad_enabled() and ReLU.own(modules[names[i]]) is not None
                i += relu
                input = apply(<Tensor>input, <Tensor>weight, <Tensor>bias, relu)
                continue
        input = module(input)
    return input
