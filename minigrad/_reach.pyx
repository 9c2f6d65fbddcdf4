# cython: language_level=3
"""What a function can reach, as guards: closures, globals that its code names, attributes, modules, optimizers, lists.

DESIGN
a. Breadth matters, not depth: a list of what is still to be looked at, and the ids of what was. What to do with an object
   follows from its type, and is found out once a type (``Kind``): a step of a small net reaches some 200 objects, and
   capturing it should not take many times as long as running it.
b. Of users' plain classes, functions and modules only attributes that reachable code mentions count; of others all do.
"""

import builtins
import dis
import functools
import sys
import types
import weakref

from ._engine import Tensor
from ._guards import Guards, class_dict, slot_of
from ._program import Compiled

cdef enum:
    PLAIN, BOUND, TENSOR, MODULE, FUNCTION, METHOD, PARTIAL, WRAPPED, PROPERTY, DICT, LIST, SEQUENCE, CHANGING, CLASS, NOTHING
    COMPILED, WEAK, OBJECT

LIBRARIES = {*sys.stdlib_module_names, "minigrad", "numpy", "numba", "llvmlite", "torch", "jax", "scipy", "pytest"} - {
    "__main__"
}
SIMPLE = (int, float, complex, str, bytes, bool, type(None), range, slice)
BUILTIN = (types.BuiltinFunctionType, types.MethodWrapperType)
REFLECTION = ("getattr", "setattr", "vars", "__dict__", "__getattribute__")  # code that reaches any attribute
MAKING = {"__init__", "__new__", "__init_subclass__", "__set_name__", "__del__"}  # what a step's objects are done with
UNSEEN = {("builtins", "set"), ("builtins", "bytearray"), ("builtins", "memoryview"), ("collections", "deque"),
          ("array", "array"), ("numpy", "ndarray"), ("numpy", "Generator"), ("numpy", "RandomState"),
          ("_random", "Random"), ("_contextvars", "ContextVar"), ("_thread", "_local"), ("_ctypes", "_CData"),
          ("builtins", "mappingproxy"), ("builtins", "dict_items"), ("builtins", "dict_keys"), ("builtins", "dict_values")}
BLIND = {"eval", "exec", "globals", "locals", "__import__"}  # functions whose effect or result no guard can see
BLIND_ONES = tuple([getattr(builtins, name) for name in BLIND])
LIMIT = 100_000  # objects

cdef dict kinds = {}  # type -> Kind


cdef class Kind:
    """What is to be done with objects of a type."""
    cdef int code
    cdef bint users       # a plain class of the user's: attributes count if code mentions them
    cdef bint library     # a class of a library's
    cdef bint wraps       # has what it wraps in __wrapped__
    cdef tuple slots      # their descriptors


cdef Kind kind_of(kind):
    """``Kind`` of a type."""
    cdef Kind made = Kind()
    cdef list slots = []
    made.library = library(kind.__module__)
    made.slots, made.code = (), OBJECT
    for code, of in ((PLAIN, SIMPLE), (BOUND, BUILTIN), (TENSOR, Tensor), (FUNCTION, types.FunctionType),
                     (METHOD, types.MethodType), (PARTIAL, functools.partial), (WRAPPED, (staticmethod, classmethod)),
                     (PROPERTY, property),
                     (DICT, dict), (LIST, list), (SEQUENCE, (tuple, frozenset))):
        if issubclass(kind, of):
            made.code = code
            break
    else:
        if any([(str(base.__module__).partition(".")[0], base.__name__) in UNSEEN for base in kind.__mro__]):
            made.code = CHANGING
        elif any([library(base.__module__) for base in kind.__mro__ if "__next__" in vars(base)][:1]):
            made.code = CHANGING  # an iterator or a file, whose state nothing shows
        elif issubclass(kind, type):
            made.code = CLASS
        elif issubclass(kind, types.ModuleType):
            made.code = MODULE
        elif issubclass(kind, weakref.ref):
            made.code = WEAK
        elif kind.__module__ == "minigrad.random":
            made.code = NOTHING  # generators are recorded
        elif issubclass(kind, Compiled):
            made.code = COMPILED
        else:
            made.users = all([not library(base.__module__) for base in kind.__mro__[:-1]])
            made.wraps = kind.__module__ == "minigrad._gradmode"  # @no_grad
            for base in kind.__mro__:
                if not library(base.__module__):
                    slots += [own for own in vars(base).values() if type(own) is types.MemberDescriptorType]
            made.slots = tuple(slots)
    if len(kinds) > 4096:
        kinds.clear()
    kinds[kind] = made
    return made


cdef class Reach:
    """Everything that functions can reach."""
    cdef readonly list tensors, dicts, names, lists
    cdef list objects          # dicts of users' plain objects and modules
    cdef set seen
    cdef list keep, waiting
    cdef dict mentioned        # names in users' code
    cdef set strings           # constants in it
    cdef readonly bint full    # there is more
    cdef readonly object unguarded  # what was found whose changes no guard can see

    def __init__(self, roots):
        self.tensors, self.dicts, self.names, self.lists, self.objects = [], [], [], [], []
        self.seen, self.keep, self.mentioned, self.strings = set(), [], {}, set()
        self.waiting = list(roots)
        while self.waiting or self.objects_reached():
            self.visit(self.waiting.pop())
            if len(self.seen) > LIMIT:
                self.full = True
                break

    cdef int visit(self, item) except -1:
        cdef Kind kind = <Kind>kinds.get(type(item))
        cdef object own
        if kind is None:
            kind = kind_of(type(item))
        if kind.code == PLAIN:
            return 0
        own = id(item)
        if own in self.seen:
            return 0
        self.seen.add(own)
        self.keep.append(item)
        if kind.code == BOUND:
            if any([item is one for one in BLIND_ONES]):
                self.blind(item.__name__)
            self.wait(item.__self__)
        elif kind.code == TENSOR:
            self.tensors.append(item)
            own = None if type(item) is Tensor else dict_of(item)
            if own is not None:
                self.objects.append(own)
        elif kind.code == DICT:
            self.dicts.append(item)
            for key, value in (<dict>item).items():
                if type(key) is not str:
                    self.waiting.append(key)
                self.wait(value)
        elif kind.code == LIST:
            self.lists.append(item)
            for value in <list>item:
                self.wait(value)
        elif kind.code == SEQUENCE:
            for value in item:
                self.wait(value)
        elif kind.code == MODULE:
            own = dict_of(item)
            if not library(own.get("__name__", "")):
                self.objects.append(own)
        elif kind.code == FUNCTION:
            self.function(item)
        elif kind.code == METHOD:
            self.waiting += (item.__func__, item.__self__)
        elif kind.code == PARTIAL:
            self.waiting += (item.func, *item.args, *item.keywords.values())
        elif kind.code == WRAPPED:
            self.waiting.append(item.__func__)
        elif kind.code == PROPERTY:
            self.waiting += (item.fget, item.fset)
        elif kind.code == CHANGING:
            self.unguarded = f"uses a {type(item).__name__}, whose changes compile cannot see"
        elif kind.code == CLASS:
            if not library(item.__module__):
                self.objects.append(class_dict(item))
                self.waiting += [v for k, v in vars(item).items() if k == "forward" or implicit(k)]
                self.waiting += (type(item), *item.__bases__)
        elif kind.code == COMPILED:
            self.waiting.append(item.function)
        elif kind.code == WEAK:
            self.waiting.append(weakref.ref.__call__(item))
        elif kind.code == OBJECT:
            if kind.wraps:
                self.waiting.append(getattr(item, "__wrapped__", None))
            own = dict_of(item)
            if own is not None and id(own) not in self.seen:
                (self.objects if kind.users else self.waiting).append(own)
            for slot in kind.slots:
                value = slot_of(slot, item)
                self.names.append((item, slot, value))
                self.wait(value)
            if not kind.library:
                self.waiting.append(type(item))
        return 0

    cdef int blind(self, name) except -1:
        self.unguarded = f"calls {name}(), whose effect compile cannot see"
        return 0

    cdef inline int wait(self, value) except -1:
        if type(value) is not str and type(value) is not float and type(value) is not int and value is not None:
            self.waiting.append(value)
        return 0

    cdef bint objects_reached(self) except -1:
        """Follow attributes that users' code mentions; those of library classes are all followed."""
        for own in [each for each in self.objects if each]:
            for name in self.keys_of(own):
                value = (<dict>own).get(name)
                if value is not None and id(value) not in self.seen and not issubclass(type(value), SIMPLE):
                    self.waiting.append(value)
        return len(self.waiting) > 0

    cdef tuple keys_of(self, dict own):
        everything = not self.mentioned.keys().isdisjoint(REFLECTION)
        return tuple([k for k in own if k != "__builtins__"]) if everything else tuple(self.mentioned)

    def guards(self, arguments):
        """``_guards.Guards`` of what was found, but for the arguments, which have their own."""
        given = {id(t) for t in arguments}
        objects = []
        for own in self.objects:
            keys = self.keys_of(own)
            objects.append((own, None if len(keys) == len(own) else keys))
        return Guards(
            [t for t in self.tensors if id(t) not in given],
            [*[(item, None) for item in self.dicts], *objects],
            self.names,
            self.lists,
            self.strings,
        )

    cdef int function(self, function) except -1:
        for value in function.__defaults__ or ():
            self.wait(value)
        self.waiting.append(function.__kwdefaults__)
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue  # not bound yet
            self.names.append((cell, None, value))
            self.wait(value)
        scope = function.__globals__
        if library(scope.get("__name__", "")):
            return 0
        for name in ("__code__", "__defaults__", "__kwdefaults__"):
            self.names.append((function, name, getattr(function, name)))
        self.objects.append(function.__dict__)
        names, strings, module, blind = scan(function.__code__)
        self.strings |= strings
        for name in blind:
            if name not in scope:  # there it is the user's own
                self.blind(name)
        if module is not None:
            self.unguarded = f"imports {module}, whose changes compile cannot see"
        self.mentioned.update(names)
        for name in names:
            if name in scope:
                value = scope[name]
                if value is builtins and not BLIND.isdisjoint(names):
                    self.blind("a function of builtins")
                self.names.append((scope, name, value))
                self.wait(value)
        return 0


cdef bint implicit(str name) except -1:
    """Whether Python calls a method of that name where code need not mention it."""
    return name.startswith("__") and name.endswith("__") and name not in MAKING


cdef dict dict_of(item):
    """``vars(item)`` or None; runs no code of the user's, as ``__getattr__`` would be."""
    try:
        found = object.__getattribute__(item, "__dict__")
    except Exception:
        return None
    return found if isinstance(found, dict) else None


cdef bint library(name) except -1:
    return str(name).partition(".")[0] in LIBRARIES


@functools.lru_cache(1024)
def scan(code):
    """Global names and attributes that code, and code within it, mentions; strings that it holds, also in tuples; a
    module of the user's that it imports when it runs, or None; which of ``BLIND`` it names."""
    found, strings, module, blind = dict.fromkeys(code.co_names), set(), None, set()
    for one in dis.get_instructions(code):
        if one.argval in BLIND and one.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            blind.add(one.argval)
        if one.opname == "IMPORT_NAME" and not library(one.argval):
            module = one.argval
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            names, others, other, more = scan(inner)
            found.update(names)
            strings |= others
            blind |= more
            module = module or other
        else:
            held = inner if isinstance(inner, (tuple, frozenset)) else (inner,)
            strings.update([s for s in held if type(s) is str])
    return found, strings, module, blind
