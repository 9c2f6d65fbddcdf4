# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""What a captured program depends on besides its arguments, and whether all of it is as it was.

DESIGN
a. Guards compare pointers and, for dicts, CPython's version tags; only what has changed is compared by value.
b. Hyperparameters of optimizers may change, also in tensors that hold them: ``Refresher`` lets the optimizer hand over
   the new ones. Not those that the user's code names (a branch on ``group["lr"]``): these are guarded by value.
"""

from cpython.dict cimport PyDict_GetItem
from cpython.object cimport PyObject
from libc.stdint cimport uint64_t
from libc.stdlib cimport free, realloc
from libc.string cimport memcmp

import types

from ._engine cimport Tensor, anomaly, default_float, grad_enabled, needs_grad
from ._storage cimport where
from ._record cimport PyThread_get_thread_ident, Recorder, recorder, set_recorder

cdef extern from *:
    """
    #if PY_VERSION_HEX < 0x030E0000
    #define mg_dict_tag(d) (((PyDictObject *)(d))->ma_version_tag)
    #else
    static uint64_t mg_no_tag = 0;
    #define mg_dict_tag(d) (++mg_no_tag)  /* always looked at again */
    #endif
    #define mg_type_dict(t) Py_NewRef(((PyTypeObject *)(t))->tp_dict)
    #define mg_cell(c) (((PyCellObject *)(c))->ob_ref)
    static PyObject *mg_part(PyObject *o, int kind) {
        PyFunctionObject *f = (PyFunctionObject *)o;
        PyObject *part = kind == 3 ? f->func_code : kind == 4 ? f->func_defaults : f->func_kwdefaults;
        return part == NULL ? Py_None : part;
    }
    static PyObject *mg_slot(PyObject *slot, PyObject *o) {
        return Py_TYPE(slot)->tp_descr_get(slot, o, (PyObject *)Py_TYPE(o));
    }
    """
    uint64_t mg_dict_tag(PyObject *d)
    PyObject *mg_cell(PyObject *c)
    PyObject *mg_part(PyObject *f, int kind)
    object mg_type_dict(object t)
    object mg_slot(object slot, object o)

SIMPLE = frozenset((int, float, bool, str, bytes, complex, type(None), type(Ellipsis), slice))


cdef void *grown(void *p, size_t n) except NULL:
    p = realloc(p, n)
    if p == NULL:
        raise MemoryError("cannot allocate a captured program")
    return p


cdef inline bint same_bits(double a, double b) noexcept:
    """Equal, but 0.0 is not -0.0, and nan is nan."""
    return memcmp(&a, &b, sizeof(double)) == 0


cdef bint same(object a, object b) except -1:
    """Whether a guard that saw ``a`` lets ``b`` pass."""
    if a is b:
        return True
    if type(a) is not type(b) or type(a) not in SIMPLE:
        return False
    if type(a) is float:
        return same_bits(a, b)
    if type(a) is complex:
        return same_bits(a.real, b.real) and same_bits(a.imag, b.imag)
    return a == b


def class_dict(kind):
    """The dict behind ``vars(kind)`` of a class."""
    return mg_type_dict(kind)


def slot_of(slot, item):
    """What an object has in a slot; ``SIMPLE`` if nothing."""
    try:
        return mg_slot(slot, item)
    except AttributeError:
        return SIMPLE


cdef list rates_in(dict group):
    """(key, tensor, number) of hyperparameters that are held in tensors; nothing may be recording."""
    return [(key, t, t.item()) for key, t in group.items() if isinstance(t, Tensor) and (<Tensor>t).count == 1]


cdef int update_with(optimizer, dict group, list rates) except -1:
    """``optimizer._update(group)`` with the numbers of ``rates`` in place of the tensors, whose values it would read."""
    for key, t, number in rates:
        group[key] = number
    try:
        optimizer._update(group)
    finally:
        for key, t, number in rates:
            group[key] = t
    return 0


cdef class Refresher(Recorder):
    """Hears of one optimizer's update only, which hands it its hyperparameters instead of running."""
    cdef list tables
    cdef bint fits

    cdef int refuse(self, object why) except -1:
        self.fits = False
        return 0

    def refuses(self, why):
        """``refuse`` for Python code."""
        self.fits = False

    def renew(self, shape, scalars, row):
        for item in self.tables:
            self.fits = self.fits and item.renew(shape, scalars, row)
        self.tables = []

    @staticmethod
    def of(optimizer, group, tables):
        """Whether the hyperparameters that ``group`` has now could be put into ``tables``."""
        cdef Refresher r
        if recorder is not None:
            return False
        r, rates = Refresher(), rates_in(group)
        r.thread, r.refreshing, r.tables, r.fits = PyThread_get_thread_ident(), True, list(tables), True
        set_recorder(r)
        try:
            update_with(optimizer, group, rates)
        finally:
            set_recorder(None)
        return r.fits and not r.tables


cdef class Guards:
    """What a program depends on besides its arguments, and whether all of it is as it was."""

    def __init__(self, tensors, dicts, names, lists, strings=()):
        """dicts: (dict, keys that matter or None for all). names: (dict, name, value) of globals, (cell, None, value) of
        closures, (object, descriptor, value) of slots, (function, ``__code__`` or the like, value). strings: that code
        holds; hyperparameters with such names may be looked at, so they are guarded."""
        cdef Py_ssize_t i
        cdef int d
        cdef Tensor t
        cdef TensorGuard *guard
        self.tensor_list, self.storages = list(tensors), []
        self.dict_list, self.dict_copies = [each for each, keys in dicts], [dict(each) for each, keys in dicts]
        self.dict_keys = [keys for each, keys in dicts]
        self.name_list, self.value_list = [(a, b) for a, b, c in names], [c for a, b, c in names]
        self.lists, self.list_copies = list(lists), [tuple(item) for item in lists]
        self.live, self.changes, self.fixed = {}, set(), frozenset(strings)
        self.rates, self.grad, self.default_dtype, self.where = [], grad_enabled(), default_float, where()
        self.tensors = <TensorGuard *>grown(NULL, (len(self.tensor_list) + 1) * sizeof(TensorGuard))
        self.dicts = <DictGuard *>grown(NULL, (len(self.dict_list) + 1) * sizeof(DictGuard))
        self.names = <NameGuard *>grown(NULL, (len(self.name_list) + 1) * sizeof(NameGuard))
        self.tensor_count, self.dict_count = len(self.tensor_list), len(self.dict_list)
        self.name_count = len(self.name_list)
        for i in range(self.tensor_count):
            t, guard = <Tensor>self.tensor_list[i], &self.tensors[i]
            needs_grad(t)
            self.storages.append(t.storage)
            guard.tensor, guard.storage, guard.ptr = <PyObject *>t, <PyObject *>t.storage, t.ptr
            guard.nd, guard.dt, guard.requires, guard.had = t.nd, t.dt, t.requires, t.gradient is not None
            for d in range(t.nd):
                guard.shape[d], guard.stride[d] = t.shape_[d], t.stride_[d]
        for i in range(self.dict_count):
            self.dicts[i].dict = <PyObject *>self.dict_list[i]
            self.dicts[i].tag = mg_dict_tag(self.dicts[i].dict)
        for i in range(self.name_count):
            a, b = self.name_list[i]
            self.names[i].dict = <PyObject *>a
            self.names[i].name = <PyObject *>b
            self.names[i].kind = 0 if b is None else 1 if type(b) is str else 2
            if type(a) is types.FunctionType:
                self.names[i].kind = {"__code__": 3, "__defaults__": 4, "__kwdefaults__": 5}[b]
            self.names[i].value = <PyObject *>self.value_list[i]

    def __dealloc__(self):
        free(self.tensors); free(self.dicts); free(self.names)

    def set_live(self, groups, rates):
        """Let the hyperparameters of (optimizer, group, tables) change; rates: [tensor, number, such a tuple] where they
        are read from tensors."""
        self.rates = rates
        for optimizer, group, tables in groups:
            for i in range(self.dict_count):
                if self.dict_list[i] is group:
                    self.live[i] = (optimizer, group, tables)

    cdef bint fails(self, object why):
        self.reason = why
        return False

    cdef bint hold(self, bint gradients) except -1:
        """Whether everything is as it was; hyperparameters that may change have been taken over then.

        ``gradients``: also whether the same tensors have one."""
        cdef Py_ssize_t i
        cdef int d
        cdef Tensor t
        cdef TensorGuard *guard
        cdef PyObject *found
        if (self.grad != grad_enabled() or anomaly or self.default_dtype != default_float
                or self.where != where()):
            return self.fails("grad mode, anomaly mode, default dtype or default device")
        for i in range(self.tensor_count):
            guard = &self.tensors[i]
            t = <Tensor>guard.tensor
            if (<PyObject *>t.storage != guard.storage or t.ptr != guard.ptr or t.nd != guard.nd or t.dt != guard.dt
                    or (t.hooks is not None and len(t.hooks)) or (t.after_hooks is not None and len(t.after_hooks))):
                return self.fails(f"memory or hooks of a tensor of shape {tuple(t.shape)}")
            if t.base is not None and t.history != t.base.history:
                return self.fails("history of a view")
            if t.requires != guard.requires:
                return self.fails(f"requires_grad of a tensor of shape {tuple(t.shape)}")
            if gradients and (t.gradient is not None) != guard.had:
                return self.fails(f"whether a tensor of shape {tuple(t.shape)} has a gradient")
            for d in range(t.nd):
                if t.shape_[d] != guard.shape[d] or t.stride_[d] != guard.stride[d]:
                    return self.fails("shape of a tensor")
        for i in range(self.name_count):
            if self.names[i].kind == 0:
                found = mg_cell(self.names[i].dict)
            elif self.names[i].kind == 1:
                found = PyDict_GetItem(<object>self.names[i].dict, <object>self.names[i].name)
            elif self.names[i].kind == 2:
                value = slot_of(<object>self.names[i].name, <object>self.names[i].dict)
                found = <PyObject *>value
            else:
                found = mg_part(self.names[i].dict, self.names[i].kind)
            if found != self.names[i].value:
                if found == NULL or not same(self.value_list[i], <object>found):
                    name = self.name_list[i][1] or "of a closure"
                    return self.fails(f"the variable {getattr(name, '__name__', name)}")
                self.value_list[i] = <object>found
                self.names[i].value = found
        for i in range(self.dict_count):
            if self.dicts[i].tag != mg_dict_tag(self.dicts[i].dict) and not self.dict_holds(i):
                return False
        for i in range(len(self.lists)):
            if not self.list_holds(<list>self.lists[i], <tuple>self.list_copies[i]):
                return self.fails("a list")
        for rate in self.rates:
            number = rate[0].item()
            if number != rate[1]:
                if not Refresher.of(*rate[2]):
                    return self.fails("a learning rate in a tensor")
                rate[1] = number
                self.renew([id(rate)])
        return True

    cdef bint list_holds(self, list now, tuple then) except -1:
        cdef Py_ssize_t i
        if len(now) != len(then):
            return False
        for i in range(len(then)):
            if now[i] is not then[i] and not same(then[i], now[i]):
                return False
        return True

    cdef bint dict_holds(self, Py_ssize_t i) except -1:
        cdef dict now = <dict>self.dict_list[i], then = <dict>self.dict_copies[i]
        cdef uint64_t tag = mg_dict_tag(self.dicts[i].dict)
        changed = []
        if self.dict_keys[i] is not None:
            for key in self.dict_keys[i]:
                if not same(then.get(key, SIMPLE), now.get(key, SIMPLE)):  # SIMPLE: not there
                    return self.fails("what is in " + self.place([key]))
            self.dicts[i].tag = tag
            return True
        if len(now) != len(then):
            return self.fails("what is in " + self.place(now.keys() ^ then.keys()))
        if list(now) != list(then) and now.keys() == then.keys():
            return self.fails("the order of what is in " + self.place(now))
        for key, value in then.items():
            found = PyDict_GetItem(now, key)
            if found == NULL:
                return self.fails("what is in " + self.place([key]))
            if not same(value, <object>found):
                changed.append(key)
        if changed:
            group = self.live.get(i)
            held = [key for key in changed if isinstance(now[key], Tensor) or isinstance(then[key], Tensor)]
            fixed = "params" in changed or not self.fixed.isdisjoint(changed)
            if group is None or fixed or held or not Refresher.of(*group):
                return self.fails("what is in " + self.place(changed))
            self.dict_copies[i] = dict(now)
            self.renew([(i, key) for key in changed])
        self.dicts[i].tag = tag
        return True

    cdef int renew(self, list changes) except -1:
        """Note what has changed for the first time."""
        for change in changes:
            if change not in self.changes:
                self.changes.add(change)
                self.renewed = True
        return 0

    cdef str place(self, keys):
        """The name of a dict entry, for people."""
        for key in keys:
            return f"{key!r} of an object or dict" if isinstance(key, str) else f"a dict, for a key of type {type(key).__name__}"
        return "a dict"

    def holds(self, gradients=True):
        """``hold`` for Python code."""
        return self.hold(gradients)
