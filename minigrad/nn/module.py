"""Module: the base of all layers and models; it knows its parameters, buffers and submodules.

DESIGN
a. The instance ``__dict__`` is the one place where values live, so ``self.weight`` is an ordinary attribute access and
   costs nothing extra. Three ordered registries of names (``_parameter_names``, ``_buffer_names``, ``_module_names``)
   say what is what, also for names registered as None. ``__setattr__`` and ``__delattr__`` keep both in step.
   ``_parameters``, ``_buffers`` and ``_modules`` are read-only views for code that looks at them.
b. Calling is ``forward`` unless this very module has hooks (``_call.pyx``).
c. ``load_state_dict`` checks everything before it copies anything: a checkpoint that does not fit changes nothing.
"""

from collections import OrderedDict, namedtuple
from collections.abc import Mapping
from types import MappingProxyType

from .._engine import Tensor, copy_, empty
from .._gradmode import no_grad
from .._hooks import RemovableHandle
from .._record import current as current_recorder
from .._storage import float32, float64
from ..compile import compile
from ..device import ACCELERATOR
from ..ops._warn import warn_user
from ..tensor import destination
from ._call import Callable
from .parameter import Parameter


class _IncompatibleKeys(namedtuple("IncompatibleKeys", ("missing_keys", "unexpected_keys"))):
    """What ``load_state_dict`` returns."""

    __slots__ = ()

    def __repr__(self):
        if not self.missing_keys and not self.unexpected_keys:
            return "<All keys matched successfully>"
        return super().__repr__()

    __str__ = __repr__


class _Hook:
    """A registered hook; compared by identity, so that each handle removes its own."""

    __slots__ = ("always", "function", "with_kwargs")

    def __init__(self, function, with_kwargs, always=False):
        self.function, self.with_kwargs, self.always = function, with_kwargs, always


def _typename(value):
    kind = value if isinstance(value, type) else type(value)
    if issubclass(kind, Tensor):
        return "minigrad.nn.Parameter" if issubclass(kind, Parameter) else "minigrad.Tensor"
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _quoted(keys):
    return ", ".join([f'"{key}"' for key in keys])


def _indent(text, spaces=2):
    """``text`` with every line but the first indented."""
    return text.replace("\n", "\n" + " " * spaces)


class Module(Callable):
    """Base class of all layers and models.

    Assign parameters and submodules as attributes in ``__init__`` (after ``super().__init__()``) and define
    ``forward``; calling the module calls ``forward``.

    >>> import minigrad as mg
    >>> class Net(mg.nn.Module):
    ...     def __init__(self):
    ...         super().__init__()
    ...         self.fc = mg.nn.Linear(4, 2)
    ...     def forward(self, x):
    ...         return self.fc(x)
    >>> net = Net()
    >>> net
    Net(
      (fc): Linear(in_features=4, out_features=2, bias=True)
    )
    >>> [name for name, _ in net.named_parameters()]
    ['fc.weight', 'fc.bias']
    >>> net(mg.zeros(3, 4)).shape
    minigrad.Size([3, 2])
    """

    _hooked = False  # whether this instance has forward hooks or pre-hooks

    def __init__(self, *args, **kwargs):
        name = type(self).__name__
        if kwargs:
            raise TypeError(f"{name}.__init__() got an unexpected keyword argument '{next(iter(kwargs))}'")
        if args:
            raise TypeError(f"{name}.__init__() takes 1 positional argument but {len(args) + 1} were given")
        own = self.__dict__
        own["training"] = True
        # a second call (two base classes, say) must not forget what the first one's attributes registered
        for registry in ("_parameter_names", "_buffer_names", "_module_names"):
            own.setdefault(registry, {})

    def forward(self, *input):
        """What calling the module computes; subclasses define it."""
        raise NotImplementedError(f'Module [{type(self).__name__}] is missing the required "forward" function')

    # --- attributes ---

    def __setattr__(self, name, value):
        own = self.__dict__
        if isinstance(value, Parameter):
            if "_parameter_names" not in own:
                raise AttributeError("cannot assign parameters before Module.__init__() call")
            if name not in own["_parameter_names"]:
                self._forget(name)
                own.pop(name, None)
            self.register_parameter(name, value)
        elif isinstance(value, Module):
            if "_module_names" not in own:
                raise AttributeError("cannot assign module before Module.__init__() call")
            if name not in own["_module_names"]:
                self._forget(name)
                own["_module_names"][name] = None
            own[name] = value
        else:
            if value is not None and "_module_names" in own:
                if name in own["_parameter_names"]:
                    raise TypeError(
                        f"cannot assign '{_typename(value)}' as parameter '{name}' "
                        "(minigrad.nn.Parameter or None expected)"
                    )
                if name in own["_module_names"]:
                    raise TypeError(
                        f"cannot assign '{_typename(value)}' as child module '{name}' "
                        "(minigrad.nn.Module or None expected)"
                    )
                if name in own["_buffer_names"] and not isinstance(value, Tensor):
                    raise TypeError(
                        f"cannot assign '{_typename(value)}' as buffer '{name}' (minigrad.Tensor or None expected)"
                    )
            object.__setattr__(self, name, value)

    def __delattr__(self, name):
        object.__delattr__(self, name)
        self._forget(name)

    def _forget(self, name):
        """Take ``name`` out of the registries."""
        own = self.__dict__
        for registry in ("_parameter_names", "_buffer_names", "_module_names"):
            names = own.get(registry)
            if names:
                names.pop(name, None)

    def _register(self, kind, registry, name, value, allowed, note=None):
        """Put ``value`` under ``name`` into a registry after PyTorch's checks."""
        own = self.__dict__
        if registry not in own:
            raise AttributeError(f"cannot assign {kind} before Module.__init__() call")
        if not isinstance(name, str):
            raise TypeError(f"{kind} name should be a string. Got {_typename(name)}")
        if "." in name:
            raise KeyError(f'{kind} name can\'t contain ".", got: {name}')
        if name == "":
            raise KeyError(f'{kind} name can\'t be empty string ""')
        if name not in own[registry] and hasattr(self, name):
            raise KeyError(f"attribute '{name}' already exists")
        if value is not None and not isinstance(value, allowed):
            raise TypeError(
                f"cannot assign '{_typename(value)}' object to {kind} '{name}' ({_typename(allowed)} or None required)"
            )
        own[registry][name] = note
        own[name] = value

    def register_parameter(self, name, param):
        """Make ``param`` (a Parameter, or None for one that is absent) the parameter ``name``."""
        self._register("parameter", "_parameter_names", name, param, Parameter)

    def register_buffer(self, name, tensor, persistent=True):
        """Make ``tensor`` part of the module's state, though it is not trained; in ``state_dict`` if ``persistent``.

        >>> import minigrad as mg
        >>> m = mg.nn.Module()
        >>> m.register_buffer("mean", mg.zeros(2))
        >>> list(m.state_dict())
        ['mean']
        """
        self._register("buffer", "_buffer_names", name, tensor, Tensor, bool(persistent))

    def register_module(self, name, module):
        """Add ``module`` (or None) as the submodule ``name``."""
        if module is not None and not isinstance(module, Module):
            raise TypeError(f"{_typename(module)} is not a Module subclass")
        self._register("module", "_module_names", name, module, Module)

    def add_module(self, name, module):
        """Add ``module`` (or None) as the submodule ``name``."""
        self.register_module(name, module)

    def _view(self, registry):
        try:
            own = self.__dict__
            return MappingProxyType({name: own[name] for name in own[registry]})
        except KeyError:
            raise AttributeError(f"'{type(self).__name__}' object: Module.__init__() was not called") from None

    @property
    def _parameters(self):
        return self._view("_parameter_names")

    @property
    def _buffers(self):
        return self._view("_buffer_names")

    @property
    def _modules(self):
        return self._view("_module_names")

    def __dir__(self):
        return [name for name in super().__dir__() if not name[:1].isdigit()]

    def __getstate__(self):
        state = self.__dict__.copy()
        for registry in ("_parameter_names", "_buffer_names", "_module_names"):
            if registry in state:
                state[registry] = state[registry].copy()
        if state.pop("_compiled", False):  # copies are not compiled, as in PyTorch
            del state["forward"]
        return state

    # --- what it contains ---

    def named_modules(self, memo=None, prefix="", remove_duplicate=True):
        """(name, module) of this module and all below it, each module once unless told otherwise."""
        if memo is None:
            memo = set()
        if self in memo:
            return
        if remove_duplicate:
            memo.add(self)
        yield prefix, self
        own = self.__dict__
        for name in tuple(own["_module_names"]):
            module = own[name]
            if module is not None:
                yield from module.named_modules(memo, f"{prefix}.{name}" if prefix else name, remove_duplicate)

    def modules(self, remove_duplicate=True):
        """This module and all below it."""
        for _, module in self.named_modules(remove_duplicate=remove_duplicate):
            yield module

    def named_children(self):
        """(name, module) of the direct submodules."""
        seen = set()
        own = self.__dict__
        for name in tuple(own["_module_names"]):
            module = own[name]
            if module is not None and module not in seen:
                seen.add(module)
                yield name, module

    def children(self):
        """The direct submodules."""
        for _, module in self.named_children():
            yield module

    def _named(self, registry, prefix, recurse, remove_duplicate):
        """(name, tensor) of one registry, here and below."""
        seen = set()
        below = self.named_modules(prefix=prefix, remove_duplicate=remove_duplicate)
        for path, module in below if recurse else ((prefix, self),):
            own = module.__dict__
            for name in tuple(own[registry]):
                value = own[name]
                if value is None or id(value) in seen:
                    continue
                if remove_duplicate:
                    seen.add(id(value))
                yield f"{path}.{name}" if path else name, value

    def named_parameters(self, prefix="", recurse=True, remove_duplicate=True):
        """(name, parameter), names dotted by submodule; a parameter that appears twice is listed once."""
        return self._named("_parameter_names", prefix, recurse, remove_duplicate)

    def parameters(self, recurse=True):
        """All parameters; what an optimizer is given."""
        for _, value in self._named("_parameter_names", "", recurse, True):
            yield value

    def named_buffers(self, prefix="", recurse=True, remove_duplicate=True):
        """(name, buffer), names dotted by submodule."""
        return self._named("_buffer_names", prefix, recurse, remove_duplicate)

    def buffers(self, recurse=True):
        """All buffers."""
        for _, value in self._named("_buffer_names", "", recurse, True):
            yield value

    def get_submodule(self, target):
        """The module at the dotted path ``target``; AttributeError if there is none."""
        found = self
        for name in target.split(".") if target else ():
            if not hasattr(found, name):
                raise AttributeError(f"{found._get_name()} has no attribute `{name}`")
            found = getattr(found, name)
            if not isinstance(found, Module):
                raise AttributeError(f"`{name}` is not an nn.Module")
        return found

    def _get_tensor(self, target, registry, what):
        path, _, name = target.rpartition(".")
        module = self.get_submodule(path)
        if not hasattr(module, name):
            raise AttributeError(f"{module._get_name()} has no attribute `{name}`")
        if name not in module.__dict__[registry]:
            raise AttributeError(f"`{name}` is not {what}")
        return getattr(module, name)

    def get_parameter(self, target):
        """The parameter at the dotted path ``target``; AttributeError if there is none."""
        return self._get_tensor(target, "_parameter_names", "an nn.Parameter")

    def get_buffer(self, target):
        """The buffer at the dotted path ``target``; AttributeError if there is none."""
        return self._get_tensor(target, "_buffer_names", "a buffer")

    # --- state ---

    def state_dict(self, *args, destination=None, prefix="", keep_vars=False):
        """An OrderedDict of all parameters and persistent buffers by dotted name.

        The tensors share the memory of the model: training changes them too. Clone them, or ``copy.deepcopy`` the
        dict, to keep the state of a moment. ``keep_vars``: the parameters themselves instead of detached tensors.
        """
        if args:
            warn_user("Positional args are being deprecated, use kwargs instead.", FutureWarning)
            given = {"destination": destination, "prefix": prefix, "keep_vars": keep_vars}
            return self.state_dict(**given | dict(zip(given, args)))
        if destination is None:
            destination = OrderedDict()
        own = self.__dict__
        for name, value in self._local_state():
            destination[prefix + name] = value if keep_vars else value.detach()
        for name in own["_module_names"]:
            if own[name] is not None:
                own[name].state_dict(destination=destination, prefix=f"{prefix}{name}.", keep_vars=keep_vars)
        return destination

    def _local_state(self):
        """(name, tensor) of this module's own parameters and persistent buffers."""
        own = self.__dict__
        names = [*own["_parameter_names"], *(name for name, kept in own["_buffer_names"].items() if kept)]
        return [(name, own[name]) for name in names if own[name] is not None]

    def load_state_dict(self, state_dict, strict=True, assign=False):
        """Copy ``state_dict`` into the parameters and buffers; (missing_keys, unexpected_keys).

        RuntimeError that lists every wrong shape and, if ``strict``, every missing and unexpected key; nothing is
        copied then. ``assign``: use the tensors themselves instead of copying their values.

        >>> import minigrad as mg
        >>> a, b = mg.nn.Linear(2, 1), mg.nn.Linear(2, 1)
        >>> a.load_state_dict(b.state_dict())
        <All keys matched successfully>
        """
        if not isinstance(state_dict, Mapping):
            raise TypeError(f"Expected state_dict to be dict-like, got {type(state_dict)}.")
        plan, expected, missing, errors = [], set(), [], []
        for path, module in self.named_modules(remove_duplicate=False):
            prefix = f"{path}." if path else ""
            for name, current in module._local_state():
                key = prefix + name
                expected.add(key)
                if key not in state_dict:
                    missing.append(key)
                    continue
                value = state_dict[key]
                if not isinstance(value, Tensor):
                    errors.append(
                        f'While copying the parameter named "{key}", expected minigrad.Tensor or Tensor-like object '
                        f"from checkpoint but received {type(value)}"
                    )
                elif tuple(value.shape) != tuple(current.shape):
                    errors.append(
                        f"size mismatch for {key}: copying a param with shape {value.shape} from checkpoint, "
                        f"the shape in current model is {current.shape}."
                    )
                else:
                    plan.append((module, name, current, value))
        unexpected = [key for key in state_dict if key not in expected]
        if strict:
            if unexpected:
                errors.insert(0, f"Unexpected key(s) in state_dict: {_quoted(unexpected)}. ")
            if missing:
                errors.insert(0, f"Missing key(s) in state_dict: {_quoted(missing)}. ")
        if errors:
            raise RuntimeError(f"Error(s) in loading state_dict for {type(self).__name__}:\n\t" + "\n\t".join(errors))
        with no_grad():
            for module, name, current, value in plan:
                if not assign:
                    copy_(current, value)
                    continue
                if isinstance(current, Parameter):
                    if not isinstance(value, Parameter):
                        value = Parameter(value, requires_grad=current.requires_grad)
                    value.requires_grad = current.requires_grad
                setattr(module, name, value)
        return _IncompatibleKeys(missing, unexpected)

    # --- modes and conversions ---

    def train(self, mode=True):
        """Set training mode (or evaluation mode if not ``mode``) here and below; the module."""
        if not isinstance(mode, bool):
            raise ValueError("training mode is expected to be boolean")
        self.training = mode
        for module in self.children():
            module.train(mode)
        return self

    def eval(self):
        """Set evaluation mode: ``train(False)``; the module."""
        return self.train(False)

    def requires_grad_(self, requires_grad=True):
        """Set ``requires_grad`` of all parameters; the module."""
        for p in self.parameters():
            p.requires_grad_(requires_grad)
        return self

    def zero_grad(self, set_to_none=True):
        """Drop the gradients of all parameters, or fill them with zeros if not ``set_to_none``."""
        seen, waiting = set(), [self]  # not named_modules: this is called in each step
        while waiting:
            module = waiting.pop()
            if module is None or module in seen:
                continue
            seen.add(module)
            own = module.__dict__
            for name in own["_parameter_names"]:
                p = own[name]
                if p is None:
                    continue
                if set_to_none:
                    p.grad = None
                elif p.grad is not None:
                    if p.grad.requires_grad:
                        p.grad = p.grad.detach()
                    p.grad.zero_()
            for name in own["_module_names"]:
                waiting.append(own[name])

    def compile(self, *args, **kwargs):
        """Call ``forward`` through ``minigrad.compile``, which takes the arguments, from now on; hooks run as ever.

        It is replayed where nothing is recorded (evaluation, ``no_grad``); a training step is best compiled whole.

        >>> import minigrad as mg
        >>> net = mg.nn.Linear(2, 1)
        >>> net.compile()
        >>> with mg.no_grad():
        ...     y = [net(mg.ones(1, 2)) for _ in range(4)]
        >>> net.forward.cache_info().hits
        1
        """
        own = self.__dict__
        function = own["forward"].function if own.get("_compiled") else self.forward
        made = compile(function, *args, **kwargs)
        if made is not function:
            own["forward"], own["_compiled"] = made, True
        elif own.pop("_compiled", False):
            del own["forward"]

    def apply(self, fn):
        """Call ``fn(module)`` on all submodules, then on this module; the module."""
        for module in self.children():
            module.apply(fn)
        fn(self)
        return self

    def _apply(self, fn):
        """Replace every parameter's data and gradient and every buffer by ``fn`` of it; parameters stay themselves."""
        with no_grad():
            for module in self.modules():
                own = module.__dict__
                for name in own["_parameter_names"]:
                    p = own[name]
                    if p is not None:
                        grad = p.grad
                        p.grad = None
                        p.data = fn(p.data)
                        if grad is not None:
                            p.grad = fn(grad)
                for name in own["_buffer_names"]:
                    if own[name] is not None:
                        own[name] = fn(own[name])
        return self

    def to(self, *args, **kwargs):
        """Convert parameters and buffers in place; the module: ``to(dtype)``, ``to(device)``, ``to(tensor)``.

        A dtype converts floating-point tensors only; TypeError if it is not a floating-point one.
        """
        given = {
            name: kwargs.pop(name, None) for name in ("dtype", "device", "tensor", "non_blocking", "memory_format")
        }
        if kwargs:
            raise TypeError(f"to() received an invalid keyword argument {next(iter(kwargs))!r}")
        args = args if given["tensor"] is None else (*args, given["tensor"])
        dtype, device, *_ = destination(args, given["dtype"], given["device"])
        dtype = None if dtype is None else empty((0,), dtype).dtype
        if dtype is not None and not dtype.is_floating_point:
            raise TypeError(f"nn.Module.to only accepts floating point dtypes, but got desired dtype={dtype!r}")
        return self._apply(
            lambda t: t.to(
                dtype=dtype if t.is_floating_point() else None, device=device, memory_format=given["memory_format"]
            )
        )

    def float(self):
        """Convert floating-point parameters and buffers to float32; the module."""
        return self.to(float32)

    def double(self):
        """Convert floating-point parameters and buffers to float64; the module."""
        return self.to(float64)

    def cpu(self):
        """Move parameters and buffers to the CPU; the module."""
        return self.to("cpu")

    def _to_accelerator(self, device=None):
        """Move parameters and buffers to a GPU, by default the current one; the module."""
        return self.to(ACCELERATOR if device is None else device)

    vars()[ACCELERATOR] = _to_accelerator

    # --- hooks ---

    def _add_hook(self, which, hook, prepend):
        own = self.__dict__
        if which not in own:
            own[which] = []
        own["_hooked"] = True
        own[which].insert(0 if prepend else len(own[which]), hook)
        return RemovableHandle(own[which], hook)

    def register_forward_pre_hook(self, hook, *, prepend=False, with_kwargs=False):
        """Call ``hook(module, args)`` before ``forward``; what it returns, if not None, replaces ``args``.

        ``with_kwargs``: ``hook(module, args, kwargs)``, which returns None or (args, kwargs). A handle to remove it.
        """
        return self._add_hook("_forward_pre_hooks", _Hook(hook, with_kwargs), prepend)

    def register_forward_hook(self, hook, *, prepend=False, with_kwargs=False, always_call=False):
        """Call ``hook(module, args, output)`` after ``forward``; what it returns, if not None, replaces the output.

        ``with_kwargs``: ``hook(module, args, kwargs, output)``. ``always_call``: also, with None as the output, when
        ``forward`` raises. A handle to remove it.

        >>> import minigrad as mg
        >>> layer = mg.nn.ReLU()
        >>> handle = layer.register_forward_hook(lambda module, args, output: output + 1)
        >>> layer(mg.tensor([-1.0, 2.0]))
        tensor([1., 3.])
        >>> handle.remove()
        """
        return self._add_hook("_forward_hooks", _Hook(hook, with_kwargs, always_call), prepend)

    def _call_with_hooks(self, *args, **kwargs):
        recorder = current_recorder()
        if recorder is not None:
            recorder.refuses("calls a hook of a module")
        result, called = None, set()
        after = self.__dict__.get("_forward_hooks", ())
        try:
            for hook in tuple(self.__dict__.get("_forward_pre_hooks", ())):
                if hook.with_kwargs:
                    changed = hook.function(self, args, kwargs)
                    if changed is not None:
                        if not isinstance(changed, tuple) or len(changed) != 2:
                            raise RuntimeError(
                                f"forward pre-hook must return None or a tuple of (new_args, new_kwargs), "
                                f"but got {changed}."
                            )
                        args, kwargs = changed
                else:
                    changed = hook.function(self, args)
                    if changed is not None:
                        args = changed if isinstance(changed, tuple) else (changed,)
            result = self.forward(*args, **kwargs)
            for hook in tuple(after):
                called.add(hook)
                changed = hook.function(self, args, *((kwargs,) if hook.with_kwargs else ()), result)
                if changed is not None:
                    result = changed
            return result
        except Exception:
            for hook in tuple(after):
                if hook.always and hook not in called:
                    try:
                        hook.function(self, args, *((kwargs,) if hook.with_kwargs else ()), result)
                    except Exception as error:
                        warn_user(
                            "module forward hook with ``always_call=True`` raised an exception that was silenced as "
                            f"another error was raised in forward: {error}"
                        )
            raise

    # --- printing ---

    def _get_name(self):
        return type(self).__name__

    def extra_repr(self):
        """What ``repr`` shows between the parentheses; subclasses define it."""
        return ""

    def __repr__(self):
        extra = self.extra_repr()
        lines = extra.split("\n") if extra else []
        own = self.__dict__
        children = [f"({name}): {_indent(repr(own[name]))}" for name in own.get("_module_names", ())]
        if len(lines) == 1 and not children:
            return f"{self._get_name()}({extra})"
        body = "".join(f"\n  {line}" for line in lines + children)
        return f"{self._get_name()}({body}\n)" if body else f"{self._get_name()}()"
