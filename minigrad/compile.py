"""``compile``: an ordinary function, a training step say, captured once and replayed as one native call.

DESIGN
a. The first call with arguments of some kind runs eagerly and costs nothing more: it may stay the only one (the last
   batch of an epoch), and it creates what is only created once, such as an optimizer's state. The second runs eagerly
   and is recorded (``_capture.pyx``). The third, the first that fits the new program, is its proof: it is replayed and,
   from the same state, run eagerly; results, parameters, gradients and random states must have the same bits, else the
   function depends on something that cannot be seen, and runs eagerly for good. So no call gives anything but the eager
   result, unless a later one depends on what these did not show.
b. What the function can reach is found by walking (``_reach.pyx``): closure, globals that its code names, defaults,
   ``self``, attributes, modules, optimizers and their state, lists and dicts. All of it is guarded by identity, numbers
   and strings by value; tensors by memory, shape, ``requires_grad`` and whether they have a gradient. Only the
   hyperparameters of optimizers may change, and take effect at once, unless the user's code names them.
c. What the function changes besides tensors would not happen in a replay: where that is seen, it runs eagerly.
"""

import functools
import os
import sys
import types
import warnings
from collections import namedtuple

from . import _capture, _explain, _program
from ._engine import Tensor
from ._reach import Reach

CacheInfo = namedtuple("CacheInfo", ("hits", "misses", "maxsize", "currsize"))

_FIRST_TRIES = 4  # captures in a row that may fail because state was still being created
_SIZE, _DYNAMIC_SIZE = 8, 64
_KINDS = 1000  # of calls, that are remembered
_OWN = ("function", "programs", "off", "hits")


class CompileError(RuntimeError):
    """What ``fullgraph=True`` raises for a function that cannot be captured."""


def _log(message):
    if "capture" in os.environ.get("MINIGRAD_LOG", "").split(","):
        print(f"minigrad: compile: {message}", file=sys.stderr, flush=True)


class CompiledFunction(_program.Compiled):
    """What ``compile`` returns: called like the function; attributes are the function's.

    ``cache_info()``: calls replayed, calls recorded or run eagerly until it gives up, how many programs are held at
    most and now.
    ``explain()``: the programs as tables.
    """

    def __init__(self, function, dynamic=False, fullgraph=False):
        self.function, self.programs, self.off, self.hits = function, [], 0, 0
        self._fullgraph, self._size = fullgraph, _DYNAMIC_SIZE if dynamic else _SIZE
        self._misses, self._failures, self._made, self._evicted = 0, 0, 0, 0
        self._reason, self._met = None, set()
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
        self._met.clear()

    def _missed(self, args, kwargs, structure, leaves):
        """Run eagerly, recording, unless it is the first call of its kind; what is recorded fits the next call."""
        self._misses += 1
        kind = _program.grad_bit(), structure, *[_kind(x) for x in leaves]
        if kind not in self._met and not self._fullgraph:
            if len(self._met) > _KINDS:
                self._met.clear()
            self._met.add(kind)
            return self.function(*args, **kwargs)
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        if self.programs:
            _log(f"{name}: no program fits: {self.programs[0].why_not(leaves, structure) or 'another argument'}")
        others = [x for x in leaves if not isinstance(x, Tensor)]
        if any(isinstance(x, Tensor) and x.numel() == 0 for x in leaves):
            return self.function(*args, **kwargs)  # memory of no bytes has no place in a program
        walk = Reach([self.function, *others])
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
                try:
                    program = capture.seal(guards, structure, places, values, leaves, result)
                except MemoryError:
                    capture.refuses("takes more memory than there is, for a program of its own")
                again = program is None and capture.why == "keeps a tensor that it has made"
        finally:
            if program is None:
                capture.discard()
            _capture.stop()
        if program is not None:
            self._made += 1
            program.captured = self.hits + self._misses
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
        """The first call of a program, the first with merged calls, or the first with another learning rate or the like
        (which the function may set itself): replayed, and run eagerly from the same state. The eager result."""
        if program.swapped:
            self.hits += 1
        else:
            self._misses += 1
        try:
            state = program.snapshot(leaves)
        except MemoryError:
            self.programs.remove(program)
            program.drop()
            self._give_up("there is no memory for a copy of what it changes, to prove a replay")
            return self.function(*args, **kwargs)
        replayed = program.run_once(leaves)
        if replayed is NotImplemented:  # a check failed: eager code will say why
            return self.function(*args, **kwargs)
        bits = _bits(replayed)
        state.exchange()
        del replayed
        result = self.function(*args, **kwargs)
        if state.same() and _bits(result) == bits:
            program.trusted, program.guards.renewed = True, False
            program.proved = program.proved or self.hits + self._misses
        elif program.swap(False):
            program.chains.differ = True
            _log("merged calls differ from their parts, which are made again")
        else:
            self.programs.remove(program)
            self._give_up("a replay differs from it: it depends on something that compile cannot see")
        return result

    def explain(self, html=None):
        """Print each program as a table, a line a kernel call: its dimensions (those of a product first m, n, k), KiB
        that it reads and writes, us (one run in 64 is timed), share of the time, per cent of the machine's limit,
        GFLOP/s of products, ``mt`` if threads may share it, and the line of the function that made it. A call that
        stands for several elementwise ones has all their names, with a plus in between, and all their lines. For a GPU
        it says how many graphs there are, and gives no times.

        The limit is the bandwidth of the memory or cache that holds as many bytes, or the multiply-adds of a large
        product, whichever takes longer; both are measured once, in about half a second (``_limits.py``).

        html: a file to write instead, a page of its own with the time line and with where and how long memory is used.
        """
        name = getattr(self.function, "__qualname__", type(self.function).__name__)
        if html is not None:
            with open(html, "w", encoding="utf-8") as file:
                file.write(_explain.page(name, self.programs, self._reason))
            return
        if self._reason is not None:
            print(f"{name} runs eagerly: {self._reason}")
        elif not self.programs:
            print(f"{name} has {'no program yet' if self._misses else 'not been called yet'}")
        for program in self.programs:
            print(_explain.table(name, program))


def _kind(value):
    """What may tell a call that will be repeated from one that will not."""
    return (value.shape, value.dtype, value._device) if isinstance(value, Tensor) else type(value)


def _bits(value):
    """Hashes of the bytes of all tensors in a result."""
    if isinstance(value, Tensor):
        return hash(value.detach().numpy(force=True).tobytes())
    if isinstance(value, dict):
        return [_bits(v) for v in value.values()]
    return [_bits(v) for v in value] if isinstance(value, (list, tuple)) else None


_MODES = ("default", "lite", "reduce-overhead", "max-autotune-no-cudagraphs", "max-autotune")
_BACKENDS = ("inductor", "cudagraphs", "eager", "aot_eager", "aot_eager_decomp_partition", "openxla", "tvm")


def _check_options(mode, options, backend):
    """Refuse what PyTorch refuses."""
    if mode is not None and options is not None:
        raise RuntimeError("Either mode or options can be specified, but both can't be specified at the same time.")
    if mode is not None and mode not in _MODES:
        raise RuntimeError(f"Unrecognized mode={mode}, should be one of: {', '.join(_MODES)}")
    if options is not None and not (isinstance(options, dict) and all(isinstance(key, str) for key in options)):
        raise TypeError(f"compile: options must be a dict of names, got {options!r}")
    if callable(backend):
        raise NotImplementedError("compile: a backend of one's own would be given a graph, and there are none here")
    if backend is not None and backend not in _BACKENDS:
        raise RuntimeError(f"Invalid backend: {backend!r}, should be one of: {', '.join(_BACKENDS)}")


def compile(model=None, *, fullgraph=False, dynamic=None, backend=None, mode=None, options=None, disable=False):
    """``model``, captured in its first calls and replayed as one native call from then on; a decorator too.

    model: a training step (zero_grad, forward, backward, step), an evaluation step, a module; any function of
    tensors that makes the same kernel calls whenever the shapes, dtypes and settings that it depends on are the same.
    Results and all effects on tensors have the bits of the eager run. Learning rates and other hyperparameters of
    optimizers, step counts, random streams and the values of tensors are read anew in each call; numbers and strings
    that the function uses are guarded, others lead to a new capture. Effects on Python objects are not replayed.
    A function that looks at values (``.item()``, ``bool(tensor)``, NumPy, printing), calls hooks, uses sets or NumPy
    arrays, imports the user's modules or is seen to change Python objects runs eagerly, after one warning that names
    the line; with ``fullgraph`` that is an error, ``CompileError``. What it asks of the system (environment variables,
    clocks) counts as constant. On a GPU the calls of a step become one graph. With the environment variable
    ``MINIGRAD_LOG=capture`` each capture says what led to it. ``dynamic``: keep up to 64 programs instead of 8, for
    inputs of many shapes. ``disable``: the function itself. ``backend``, ``mode`` and ``options`` are for scripts that
    PyTorch runs too: there is one way to compile here, and what PyTorch refuses as well is a RuntimeError; a function
    as ``backend``, a NotImplementedError.
    The first call with arguments of some shapes and types only runs, the second is recorded, the third proves the
    program: it is replayed and run eagerly, and the bits are compared (``fullgraph``: one call earlier each,
    if the first call creates no state, as an optimizer does).

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
    2
    """
    _check_options(mode, options, backend)
    if model is None:
        return functools.partial(compile, fullgraph=fullgraph, dynamic=dynamic, disable=disable)
    if not callable(model):
        raise TypeError(f"compile: expected a function or a module, got {type(model).__name__}")
    return model if disable else CompiledFunction(model, bool(dynamic), fullgraph)
