# cython: language_level=3
"""Calling a module: ``forward`` straight from C, because a wrapper in Python costs a tenth of a microsecond a layer.

The ``forward`` of the layers that small nets consist of is C too: from C into a Python function costs as much again.

``Callable``, the base of Module, is a type with nothing but a ``tp_call`` slot. It is made in C, since the slot that
Cython makes for ``def __call__(self, *args, **kwargs)`` costs as much as Python's.
"""

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
    """
    object mg_callable_type()

from .._engine cimport Op, Tensor, apply_unary

from ..ops.linear import linear

Callable = mg_callable_type()


def linear_forward(self, input):
    """input @ weight.T + bias."""
    return linear(input, self.weight, self.bias)


def sequential_forward(self, input):
    """Each module in turn gets what the one before returned."""
    cdef dict own = self.__dict__
    for name in own["_module_names"]:
        input = own[name](input)
    return input


def elementwise_forward(Op op not None):
    """A ``forward`` that applies ``op``; where the module has ``inplace`` set, to the input itself."""

    def forward(self, input):
        cdef dict own = self.__dict__
        if own.get("inplace", False):
            return op.inplace(input)
        return apply_unary(op, <Tensor>input) if isinstance(input, Tensor) else op(input)

    return forward
