"""``compile``: an ordinary function, a training step say, captured once and replayed as one native call.

DESIGN
a. A call that fits no program runs eagerly and is recorded (``_capture.pyx``). The next call that fits the new program
   is its proof: it is replayed and, from the same state, run eagerly; results, parameters, gradients and random states
   must have the same bits, else the function depends on something that cannot be seen, and runs eagerly for good. So no
   call gives anything but the eager result, unless a later one depends on what the first two did not show.
b. What the function can reach is found by walking: closure, globals that its code names, defaults, ``self``,
   attributes, modules, optimizers and their state, lists and dicts. All of it is guarded by identity, numbers and
   strings by value; tensors by memory, shape, ``requires_grad`` and whether they have a gradient. Only the
   hyperparameters of optimizers may change, and take effect at once.
c. What the function changes besides tensors would not happen in a replay: where that is seen, it runs eagerly.
"""

import dis
import functools
import os
import sys
import types
import warnings
import weakref
from collections import namedtuple

from . import _capture, _explain, _guards, _program
from ._engine import Tensor

CacheInfo = namedtuple("CacheInfo", ("hits", "misses", "maxsize", "currsize"))

_LIBRARIES = {*sys.stdlib_module_names, "minigrad", "numpy", "numba", "llvmlite", "torch", "jax", "scipy", "pytest"} - {
    "__main__"
}
_PLAIN = (int, float, complex, str, bytes, bool, type(None), types.BuiltinFunctionType, range, slice)
_REFLECTION = ("getattr", "setattr", "vars", "__dict__", "__getattribute__")  # code that reaches any attribute
_IMPLICIT = {"__add__", "__call__", "__enter__", "__exit__", "__getattr__", "__getitem__", "__iter__", "__len__",
             "__matmul__", "__mul__", "__next__", "__setitem__", "__sub__", "__truediv__"}  # fmt: skip
_CHANGING = {("builtins", "set"), ("builtins", "bytearray"), ("builtins", "memoryview"), ("collections", "deque"),
             ("array", "array"), ("numpy", "ndarray"), ("numpy", "Generator"), ("numpy", "RandomState")}  # fmt: skip
_LIMIT = 100_000  # objects that a walk visits
_FIRST_TRIES = 4  # captures in a row that may fail because state was still being created
_SIZE, _DYNAMIC_SIZE = 8, 64
_OWN = ("function", "programs", "off", "hits")


class CompileError(RuntimeError):
    """What ``fullgraph=True`` raises for a function that cannot be captured."""


class _Walk:
    """Everything that functions can reach, as guards."""

    def __init__(self, roots):
        self.tensors, self.dicts, self.names, self.lists = [], [], [], []
        self.seen, self.keep, self.full = set(), [], False
        self.mentioned = {}  # names in users' code
        self.objects = []  # of users' plain classes, whose attributes count if they are mentioned
        self.unguarded = None  # what was found whose changes no guard can see
        self.waiting = list(roots)
        while self.waiting or self.objects_reached():
            item = self.waiting.pop()
            if isinstance(item, _PLAIN) or id(item) in self.seen:
                continue
            if len(self.seen) > _LIMIT:
                self.full = True
                break
            self.seen.add(id(item))
            self.keep.append(item)
            self.visit(item)

    def visit(self, item):
        if isinstance(item, Tensor):
            self.tensors.append(item)
        elif isinstance(item, types.FunctionType):
            self.function(item)
        elif isinstance(item, types.MethodType):
            self.waiting += (item.__func__, item.__self__)
        elif isinstance(item, functools.partial):
            self.waiting += (item.func, *item.args, *item.keywords.values())
        elif isinstance(item, (staticmethod, classmethod)):
            self.waiting.append(item.__func__)
        elif isinstance(item, property):
            self.waiting += (item.fget, item.fset)
        elif isinstance(item, dict):
            self.dicts.append(item)
            self.waiting += item.keys()
            self.waiting += item.values()
        elif isinstance(item, list):
            self.lists.append(item)
            self.waiting += item
        elif isinstance(item, (tuple, frozenset)):
            self.waiting += item
        elif any((kind.__module__.partition(".")[0], kind.__name__) in _CHANGING for kind in type(item).__mro__):
            self.unguarded = f"uses a {type(item).__name__}, whose changes compile cannot see"
        elif isinstance(item, type):
            if not _library(item.__module__):
                self.objects.append(_guards.class_dict(item))
                self.waiting += [v for k, v in vars(item).items() if k == "forward" or k in _IMPLICIT]
                self.waiting += item.__bases__
        elif isinstance(item, (types.ModuleType, weakref.ref)) or type(item).__module__ == "minigrad.random":
            pass  # attributes of modules: see ``function``; generators are recorded
        else:
            if isinstance(item, _program.Compiled):
                self.waiting.append(item.function)
                return
            if type(item).__module__ == "minigrad._engine":  # @no_grad
                self.waiting.append(getattr(item, "__wrapped__", None))
            own = getattr(item, "__dict__", None)
            if isinstance(own, dict) and id(own) not in self.seen:
                if all(not _library(kind.__module__) for kind in type(item).__mro__[:-1]):
                    self.objects.append(own)
                else:
                    self.waiting.append(own)
            for kind in type(item).__mro__:
                slots = () if _library(kind.__module__) else kind.__dict__.get("__slots__", ())
                for name in (slots,) if isinstance(slots, str) else slots:
                    if name != "__dict__" and hasattr(item, name):
                        self.names.append((item, name, getattr(item, name)))
                        self.waiting.append(getattr(item, name))
            self.waiting.append(type(item))

    def objects_reached(self):
        """Follow attributes that users' code mentions; those of library classes are all followed."""
        for own in self.objects:
            for name in self.keys_of(own):
                if name in own and not isinstance(own[name], _PLAIN) and id(own[name]) not in self.seen:
                    self.waiting.append(own[name])
        return bool(self.waiting)

    def keys_of(self, own):
        everything = not self.mentioned.keys().isdisjoint(_REFLECTION)
        return tuple(own) if everything else tuple(self.mentioned)

    def guards(self, arguments):
        """``_guards.Guards`` of what was found, but for the arguments, which have their own."""
        given = {id(t) for t in arguments}
        objects = [(own, None if len(self.keys_of(own)) == len(own) else self.keys_of(own)) for own in self.objects]
        return _guards.Guards(
            [t for t in self.tensors if id(t) not in given],
            [*((item, None) for item in self.dicts), *objects],
            self.names,
            self.lists,
        )

    def function(self, function):
        self.waiting += function.__defaults__ or ()
        self.waiting += (function.__kwdefaults__ or {}).values()
        for cell in function.__closure__ or ():
            try:
                value = cell.cell_contents
            except ValueError:
                continue  # not bound yet
            self.names.append((cell, None, value))
            self.waiting.append(value)
        scope = function.__globals__
        if _library(scope.get("__name__", "")):
            return
        module = _imports(function.__code__)
        if module:
            self.unguarded = f"imports {module}, whose changes compile cannot see"
        names = _names(function.__code__)
        self.mentioned.update(dict.fromkeys(names))
        for name in names:
            if name in scope:
                value = scope[name]
                self.names.append((scope, name, value))
                if not isinstance(value, types.ModuleType):
                    self.waiting.append(value)
                elif not _library(value.__name__):
                    inner = [n for n in names if n in vars(value)]
                    self.names += [(vars(value), n, vars(value)[n]) for n in inner]
                    self.waiting += [vars(value)[n] for n in inner]


def _library(name):
    return name.partition(".")[0] in _LIBRARIES


@functools.lru_cache(1024)
def _names(code):
    """Global names and attributes that code, and code within it, mentions."""
    found = dict.fromkeys(code.co_names)
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            found.update(dict.fromkeys(_names(inner)))
    return tuple(found)


@functools.lru_cache(1024)
def _imports(code):
    """A module of the user's that code, or code within it, imports when it runs; or None."""
    for one in dis.get_instructions(code):
        if one.opname == "IMPORT_NAME" and not _library(one.argval):
            return one.argval
    return next((m for c in code.co_consts if isinstance(c, types.CodeType) and (m := _imports(c))), None)


def _log(message):
    if "capture" in os.environ.get("MINIGRAD_LOG", "").split(","):
        print(f"minigrad: compile: {message}", file=sys.stderr, flush=True)


class CompiledFunction(_program.Compiled):
    """What ``compile`` returns: called like the function; attributes are the function's.

    ``cache_info()``: calls replayed, calls recorded or run eagerly, how many programs are held at most and now.
    ``explain()``: the programs as tables.
    """

    def __init__(self, function, dynamic=False, fullgraph=False):
        self.function, self.programs, self.off, self.hits = function, [], 0, 0
        self._fullgraph, self._size = fullgraph, _DYNAMIC_SIZE if dynamic else _SIZE
        self._misses, self._failures, self._made, self._evicted = 0, 0, 0, 0
        self._reason = None
        if isinstance(function, types.FunctionType):
            functools.update_wrapper(self, function)

    def __getattr__(self, name):
        if name == "function":
            raise AttributeError(name)
        return getattr(self.function, name)

    def __setattr__(self, name, value):
        own = name in _OWN or name[0] == "_" or isinstance(self.function, types.FunctionType)
        if own:
            super().__setattr__(name, value)
        else:  # of a module
            setattr(self.function, name, value)

    def __reduce__(self):
        return CompiledFunction, (self.function, self._size == _DYNAMIC_SIZE, self._fullgraph)

    def __get__(self, instance, owner):
        return self if instance is None else types.MethodType(self, instance)

    def __repr__(self):
        return f"<compiled {self.function!r}>"

    def cache_info(self):
        """(hits, misses, maxsize, currsize), as of ``functools.lru_cache``."""
        return CacheInfo(self.hits, self._misses, self._size, len(self.programs))

    def cache_clear(self):
        """Forget all programs, and that something could not be captured."""
        self.programs, self.off, self._failures, self._reason, self._evicted = [], 0, 0, None, 0

    def _missed(self, args, kwargs, structure, leaves):
        """Run eagerly, recording; what is recorded fits the next call."""
        self._misses += 1
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        if self.programs:
            _log(f"{name}: no program fits: {self.programs[0].why_not(leaves, structure) or 'another argument'}")
        others = [x for x in leaves if not isinstance(x, Tensor)]
        if any(isinstance(x, Tensor) and x.numel() == 0 for x in leaves):
            return self.function(*args, **kwargs)  # memory of no bytes has no place in a program
        walk = _Walk([self.function, *others])
        places = [i for i, x in enumerate(leaves) if isinstance(x, Tensor)]
        values = [(i, x) for i, x in enumerate(leaves) if not isinstance(x, Tensor)]
        arguments = [leaves[i] for i in places]
        guards = walk.guards(arguments)
        capture = _capture.start(arguments, guards.tensor_list)
        if capture is None:  # another thread is recording
            return self.function(*args, **kwargs)
        program = None
        try:
            if walk.full:
                capture.refuses("can reach too many objects")
            if walk.unguarded:
                capture.refuses(walk.unguarded)
            result = self.function(*args, **kwargs)
            again = False
            if capture.why is None and not guards.holds(False):
                capture.refuses(f"changes {guards.reason}")
                again = True
            if capture.why is None:
                program = capture.seal(guards, structure, places, values, leaves, result)
                again = program is None and capture.why == "keeps a tensor that it has made"
        finally:
            if program is None:
                capture.discard()
            _capture.stop()
        if program is not None:
            self._made += 1
            self._failures = 0
            _log(f"{name}: captured {len(program.table())} calls, {program.own_bytes():,} bytes")
            self.programs.insert(0, program)
            if len(self.programs) > self._size:
                self.programs.pop()
                self._evicted += 1
                if self._evicted > 4 * self._size:
                    self._give_up(f"what it depends on keeps changing ({self._made} programs were made)")
            return result
        self._failures += 1
        _log(f"{name}: not captured: it {capture.why}")
        if not again or self._failures >= _FIRST_TRIES:
            self._give_up(f"it {capture.why}", capture.why_line)
        return result

    def _give_up(self, why, line=None):
        """Run eagerly from now on, in this grad mode, and say so."""
        self.off |= _program.grad_bit()
        self._reason = why
        self.programs = [p for p in self.programs if p.guards.grad + 1 != _program.grad_bit()]
        file, number = line or ("", 0)
        where = f" ({file}:{number})" if file else ""
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        message = f"minigrad.compile: {name} runs eagerly: {why}{where}"
        if self._fullgraph:
            self.off &= ~_program.grad_bit()
            raise CompileError(message)
        file, number = (file, number) if file else _capture.user_line()
        warnings.warn_explicit(message, UserWarning, file or "minigrad", number or 1)

    def _prove(self, program, leaves, args, kwargs):
        """The first call of a program, and the first with merged calls: replayed, and run eagerly from the same state.
        The eager result."""
        if program.swapped:
            self.hits += 1
        else:
            self._misses += 1
        gradients = program.gradient_list()
        before = program.snapshot(leaves)
        replayed = program.run_once(leaves)
        if replayed is NotImplemented:  # a check failed: eager code will say why
            return self.function(*args, **kwargs)
        after = program.outcome(leaves)
        bits = _bits(replayed)
        program.restore(leaves, before, gradients)
        del gradients, replayed
        result = self.function(*args, **kwargs)
        if program.outcome(leaves) == after and _bits(result) == bits:
            program.trusted = True
        elif program.swap(False):
            program.chains.differ = True
            _log("merged calls differ from their parts, which are made again")
        else:
            self.programs.remove(program)
            self._give_up("a replay differs from it: it depends on something that compile cannot see")
        return result

    def explain(self, html=None):
        """Print each program as a table, a line a kernel call: its dimensions (those of a product first m, n, k), KiB
        of the memory blocks it touches, us (one run in 64 is timed), share of the time, GFLOP/s of products, ``mt`` if
        threads may share it, and the line of the function that made it. A call that stands for several elementwise ones
        has all their names, with a plus in between, and all their lines.

        html: a file to write instead, a page of its own with the time line and with where and how long memory is used.
        """
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        if html is not None:
            with open(html, "w", encoding="utf-8") as file:
                file.write(_explain.page(name, self.programs, self._reason))
            return
        if self._reason is not None:
            print(f"{name} runs eagerly: {self._reason}")
        for program in self.programs:
            print(_explain.table(name, program))


def _bits(value):
    """Hashes of the bytes of all tensors in a result."""
    if isinstance(value, Tensor):
        return hash(value.detach().numpy(force=True).tobytes())
    if isinstance(value, dict):
        return [_bits(v) for v in value.values()]
    return [_bits(v) for v in value] if isinstance(value, (list, tuple)) else None


def compile(function=None, *, dynamic=False, fullgraph=False, backend=None):
    """``function``, captured in its first calls and replayed as one native call from then on; a decorator too.

    function: a training step (zero_grad, forward, backward, step), an evaluation step, a module; any function of
    tensors that makes the same kernel calls whenever the shapes, dtypes and settings that it depends on are the same.
    Results and all effects on tensors have the bits of the eager run. Learning rates and other hyperparameters of
    optimizers, step counts, random streams and the values of tensors are read anew in each call; numbers and strings
    that the function uses are guarded, others lead to a new capture. Effects on Python objects are not replayed.
    A function that looks at values (``.item()``, ``bool(tensor)``, NumPy, printing), calls hooks, uses sets or NumPy
    arrays, imports the user's modules or is seen to change Python objects runs eagerly, after one warning that names
    the line; with ``fullgraph`` that is an error, ``CompileError``. What it asks of the system (environment variables,
    clocks) counts as constant. ``dynamic``: keep up to 64 programs instead of 8, for inputs of many shapes. ``backend``
    is accepted and ignored. With the environment variable ``MINIGRAD_LOG=capture`` each capture says what led to it.
    A step that creates state in its first call (momentum, say) is captured in the second one; the call after the
    capture proves the program: it is replayed and run eagerly, and the bits are compared.

    >>> import minigrad as mg
    >>> model = mg.nn.Linear(2, 1)
    >>> optimizer = mg.optim.SGD(model.parameters(), lr=0.1)
    >>> @mg.compile
    ... def step(x, y):
    ...     optimizer.zero_grad()
    ...     loss = mg.nn.functional.mse_loss(model(x), y)
    ...     loss.backward()
    ...     optimizer.step()
    ...     return loss.detach()
    >>> losses = [step(mg.ones(4, 2), mg.ones(4, 1)) for _ in range(5)]
    >>> step.cache_info().hits
    3
    """
    if function is None:
        return lambda f: compile(f, dynamic=dynamic, fullgraph=fullgraph, backend=backend)
    if not callable(function):
        raise TypeError(f"compile: expected a function or a module, got {type(function).__name__}")
    return CompiledFunction(function, dynamic, fullgraph)
