"""The base of all optimizers: parameter groups, state, hooks, saving and loading."""

import copy
from collections import OrderedDict, defaultdict
from functools import wraps

from .._engine import Tensor, clear_gradients, filled, operand
from .._gradmode import enable_grad
from .._hooks import RemovableHandle
from .._record import current
from .._storage import float32
from ..ops._multi import all_groups
from ..ops._warn import warn_user


class Required:
    """The default of a hyperparameter without one."""

    def __repr__(self):
        return "<required parameter>"


required = Required()


# Hooks of every optimizer, by PyTorch's two functions.
_global_pre_hooks: OrderedDict = OrderedDict()
_global_post_hooks: OrderedDict = OrderedDict()
_HOOKS = (
    "_optimizer_step_pre_hooks",
    "_optimizer_step_post_hooks",
    "_optimizer_state_dict_pre_hooks",
    "_optimizer_state_dict_post_hooks",
    "_optimizer_load_state_dict_pre_hooks",
    "_optimizer_load_state_dict_post_hooks",
)
_SET = "optimizer parameters need to be organized in ordered collections, but sets are unordered; use a list"


class Optimizer:
    """Base class: what ``SGD``, ``Adam`` and the others share; subclasses implement ``_update(group)``.

    params: an iterable of tensors, of (name, tensor) pairs, or of dicts ``{"params": ..., option: value}`` whose
    options override ``defaults`` for their group. Parameters are updated in place, all of a group in one native call;
    one without a gradient is skipped. ``state`` maps a parameter to its buffers, ``param_groups`` is a list of dicts.
    A subclass may instead bring its own ``step(closure=None)``; the step hooks are called around it too.
    """

    _buffers: tuple[str, ...] = ()  # keys of states that have the parameter's shape and dtype
    _counters: tuple[str, ...] = ()  # keys of states that are one float32 number
    _at_once = True  # all that ``_update`` writes it hands to ``ops._multi``

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        if "step" in vars(cls):
            cls.step = Optimizer.profile_hook_step(cls.step)

    def __init__(self, params, defaults):
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        for name in _HOOKS:
            setattr(self, name, OrderedDict())
        if isinstance(params, Tensor):
            raise TypeError(
                "params argument given to the optimizer should be an iterable of Tensors or dicts, but got a Tensor; "
                "write [tensor]"
            )
        if isinstance(params, (set, frozenset)):
            raise TypeError(_SET)
        groups = list(params)
        if not groups:
            raise ValueError("optimizer got an empty parameter list")
        if not isinstance(groups[0], dict):
            groups = [{"params": groups}]
        for group in groups:
            self.add_param_group(group)

    def add_param_group(self, param_group):
        """Add a group ``{"params": tensor or iterable, option: value, ...}``; options it lacks are the defaults."""
        if not isinstance(param_group, dict):
            raise TypeError(f"param_group must be a dict, but got {type(param_group)}")
        group = dict(param_group)
        params = group["params"]
        if isinstance(params, (set, frozenset)):
            raise TypeError(_SET)
        params = [params] if isinstance(params, Tensor) else list(params)
        names = [p[0] for p in params if isinstance(p, tuple)]
        if names and len(names) != len(params):
            raise ValueError("all optimizer params should be with/without names. Some param names are missing")
        if names:
            params = [p[1] for p in params]
            group["param_names"] = names
        for index, p in enumerate(params):
            if not isinstance(p, Tensor):
                raise TypeError(f"optimizer can only optimize Tensors, but params[{index}] is {type(p).__name__}")
            if not (p.is_leaf or p.retains_grad):
                raise ValueError(f"can't optimize a non-leaf Tensor: params[{index}] of shape {tuple(p.shape)}")
        for name, default in self.defaults.items():
            if default is required and name not in group:
                raise ValueError(f"parameter group didn't specify a value of required optimization parameter {name}")
            group.setdefault(name, default)
        first = {id(p): i for i, p in reversed([*enumerate(params)])}
        if len(first) != len(params):
            warn_user("a parameter group contains duplicate parameters; each is updated once")
            kept = sorted(first.values())
            params = [params[i] for i in kept]
            if names:
                group["param_names"] = [names[i] for i in kept]
        known = {id(p) for g in self.param_groups for p in g["params"]}
        if any(id(p) in known for p in params):
            raise ValueError("some parameters appear in more than one parameter group")
        if self.param_groups and ("param_names" in group) != ("param_names" in self.param_groups[0]):
            raise ValueError("all optimizer param groups should be with/without names")
        group["params"] = params
        self._check_group(group)
        self.param_groups.append(group)

    def _check_group(self, group):
        """Raise ValueError for hyperparameters out of range; called for every group."""

    # --- what states look like; for steps, and to check what is loaded

    def _state_names(self, group):
        """Keys of the buffers that a step of ``group`` reads, in the order of its kernel; None for one it does not."""
        return self._buffers

    def _state_like(self, name, p):
        """The shape and dtype of state ``name`` of parameter ``p``, unless it is one of ``_counters``."""
        return p.shape, p.dtype

    def _needed(self, p, group):
        """Keys without which there is no next step for ``p``."""
        return [*self._counters, *(name for name in self._state_names(group) if name is not None)]

    def zero_grad(self, set_to_none=True):
        """Forget all gradients, or with ``set_to_none=False`` set them to zero in place."""
        for group in self.param_groups:
            if set_to_none:
                clear_gradients(group["params"])
                continue
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.detach_() if p.grad.grad_fn is not None else p.grad.requires_grad_(False)
                    p.grad.zero_()

    def step(self, closure=None):
        """Update all parameters that have a gradient; ``closure`` recomputes the loss, which is then returned."""
        if self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks or _global_pre_hooks or _global_post_hooks:
            return _with_hooks(Optimizer._step, (self,) if closure is None else (self, closure), {})
        return self._step(closure)

    @staticmethod
    def profile_hook_step(func):
        """``func``, a ``step`` of a subclass, with the step hooks called around it; subclasses get it by themselves."""

        @wraps(func)
        def step(*args, **kwargs):
            return _with_hooks(func, args, kwargs)

        return step

    def _step(self, closure=None):
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        recorder = current()
        if recorder is not None:
            for group in self.param_groups:
                recorder.update(self, group)
        elif len(self.param_groups) > 1 and self._at_once:
            all_groups(self._update, self.param_groups)
        else:
            for group in self.param_groups:
                self._update(group)
        return loss

    def _update(self, group):
        raise TypeError(f"{type(self).__name__} does not implement _update(group)")

    # --- hooks ------------------------------------------------------------------------------------------------------

    def register_step_pre_hook(self, hook):
        """Call ``hook(optimizer, args, kwargs)`` before every step; args are those of ``step``, the optimizer first.

        It may return other ``(args, kwargs)``. A handle with ``remove()``.
        """
        return _register(self._optimizer_step_pre_hooks, hook)

    def register_step_post_hook(self, hook):
        """Call ``hook(optimizer, args, kwargs)`` after every step. A handle with ``remove()``."""
        return _register(self._optimizer_step_post_hooks, hook)

    def register_state_dict_pre_hook(self, hook, prepend=False):
        """Call ``hook(optimizer)`` before ``state_dict``; with ``prepend`` before other hooks. A handle."""
        return _register(self._optimizer_state_dict_pre_hooks, hook, prepend)

    def register_state_dict_post_hook(self, hook, prepend=False):
        """Call ``hook(optimizer, state_dict)`` after ``state_dict``; what it returns, if not None, is the result."""
        return _register(self._optimizer_state_dict_post_hooks, hook, prepend)

    def register_load_state_dict_pre_hook(self, hook, prepend=False):
        """Call ``hook(optimizer, state_dict)``, a shallow copy, before it is loaded; it may return another one."""
        return _register(self._optimizer_load_state_dict_pre_hooks, hook, prepend)

    def register_load_state_dict_post_hook(self, hook, prepend=False):
        """Call ``hook(optimizer)`` after a state dict was loaded."""
        return _register(self._optimizer_load_state_dict_post_hooks, hook, prepend)

    # --- saving and loading: PyTorch's format -----------------------------------------------------------------------

    def state_dict(self):
        """``{"state": {index: buffers}, "param_groups": [...]}`` in PyTorch's format; a snapshot, not an alias."""
        for hook in list(self._optimizer_state_dict_pre_hooks.values()):
            hook(self)
        index = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups, start = [], 0
        for group in self.param_groups:
            packed = {k: copy.deepcopy(v) for k, v in group.items() if k != "params"}
            packed["params"] = list(range(start, start + len(group["params"])))
            start += len(group["params"])
            groups.append(packed)
        state = {}
        for p, values in self.state.items():
            if not isinstance(p, Tensor):
                state[p] = _snapshot(values)
            elif id(p) in index:
                state[index[id(p)]] = _snapshot(values)
        saved = {"state": state, "param_groups": groups}
        for hook in list(self._optimizer_state_dict_post_hooks.values()):
            changed = hook(self, saved)
            saved = saved if changed is None else changed
        return saved

    def load_state_dict(self, state_dict):
        """Load what ``state_dict`` returned (copied); hyperparameters such as lr are taken from it too.

        ValueError names the group, parameter, state and shapes when it does not fit, which PyTorch would notice in the
        next step; names of parameters, where both have them, must be the same. Nothing is changed then.
        """
        state_dict = dict(state_dict)
        for hook in list(self._optimizer_load_state_dict_pre_hooks.values()):
            changed = hook(self, state_dict)
            state_dict = state_dict if changed is None else changed
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"loaded state dict has a different number of parameter groups: {len(saved)} instead of "
                f"{len(self.param_groups)}"
            )
        params, groups = {}, []
        for i, (ours, theirs) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(ours["params"]) != len(theirs["params"]):
                raise ValueError(
                    f"loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                    f"group {i} has {len(theirs['params'])} parameters instead of {len(ours['params'])}"
                )
            if "param_names" in ours and "param_names" in theirs and ours["param_names"] != theirs["param_names"]:
                raise ValueError(f"group {i}: parameter names {theirs['param_names']} instead of {ours['param_names']}")
            group = {**ours, **{k: copy.deepcopy(v) for k, v in theirs.items() if k != "params"}}
            params.update(zip(theirs["params"], ((p, group) for p in ours["params"]), strict=True))
            groups.append(group)
        state = defaultdict(dict)
        for key, values in state_dict["state"].items():
            if key in params:
                state[params[key][0]] = self._restore(values, *params[key], key)
            elif isinstance(key, int):
                raise ValueError(f"loaded state dict has state for parameter {key}, which no group lists")
            else:
                state[key] = _snapshot(values)
        for ours, group in zip(self.param_groups, groups, strict=True):
            ours.update(group)
        self.state = state
        for hook in list(self._optimizer_load_state_dict_post_hooks.values()):
            hook(self)

    def _restore(self, values, p, group, key):
        """Saved ``values`` as the state of ``p``: tensors copied, on p's device and in its dtype.

        Numbers such as ``step`` stay what they are, on the CPU.
        """
        if not isinstance(values, dict):
            return _snapshot(values)
        if values and not set(self._needed(p, group)) <= set(values):
            raise ValueError(
                f"loaded state of parameter {key} has {list(values)}, but {type(self).__name__} needs "
                f"{self._needed(p, group)}; was it saved by another optimizer?"
            )
        restored = {}
        for name, value in values.items():
            if name in self._counters:  # one number, in any shape
                value, shape, dtype = operand(value, float32).detach().to("cpu", copy=True), (), float32
                value = value.reshape(()) if value.numel() == 1 else value
            else:
                value, (shape, dtype) = _snapshot(value), self._state_like(name, p)
            for v in value if isinstance(value, (list, tuple)) else [value]:
                if isinstance(v, Tensor) and v.shape != tuple(shape) and (v.ndim or name in self._buffers):
                    raise ValueError(
                        f"loaded state {name!r} of parameter {key} has shape {tuple(v.shape)}, not {tuple(shape)}, "
                        f"for the parameter of shape {tuple(p.shape)}"
                    )
            keep = name == "step" or name in self._counters
            restored[name] = value if keep else _cast(value, dtype, p.device)
        return restored

    def __getstate__(self):
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state):
        self.__dict__.update(state)
        for name in _HOOKS:
            self.__dict__.setdefault(name, OrderedDict())

    def __repr__(self):
        lines = [f"{type(self).__name__} ("]
        for i, group in enumerate(self.param_groups):
            lines += [""] * (i > 0) + [f"Parameter Group {i}"]
            lines += [f"    {k}: {group[k]}" for k in sorted(group) if k != "params"]
        return "\n".join([*lines, ")"])


class _Handle(RemovableHandle):
    def __init__(self, hooks, key):
        self._hooks, self._key = hooks, key

    def remove(self):
        self._hooks.pop(self._key, None)


def _register(hooks, hook, prepend=False):
    key = object()
    hooks[key] = hook
    if prepend:
        hooks.move_to_end(key, last=False)
    return _Handle(hooks, key)


def register_optimizer_step_pre_hook(hook):
    """Call ``hook(optimizer, args, kwargs)`` before every step of every optimizer. A handle with ``remove()``."""
    return _register(_global_pre_hooks, hook)


def register_optimizer_step_post_hook(hook):
    """Call ``hook(optimizer, args, kwargs)`` after every step of every optimizer. A handle with ``remove()``."""
    return _register(_global_post_hooks, hook)


def _with_hooks(step, args, kwargs):
    """``step(*args, **kwargs)`` between the hooks of everybody and those of the optimizer, ``args[0]``."""
    self = args[0]
    recorder = current()
    if recorder is not None and (
        _global_pre_hooks or _global_post_hooks or self._optimizer_step_pre_hooks or self._optimizer_step_post_hooks
    ):
        recorder.refuses("calls a step hook of an optimizer")
    for hook in [*_global_pre_hooks.values(), *self._optimizer_step_pre_hooks.values()]:
        changed = hook(self, args, kwargs)
        if changed is None:
            continue
        if not isinstance(changed, tuple) or len(changed) != 2:
            raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
        args, kwargs = changed
    loss = step(*args, **kwargs)
    for hook in [*self._optimizer_step_post_hooks.values(), *_global_post_hooks.values()]:
        hook(self, args, kwargs)
    return loss


def _snapshot(value):
    """A deep copy whose tensors are copied without their history."""
    if isinstance(value, Tensor):
        return value.detach().clone()
    if type(value) is dict:
        return {k: _snapshot(v) for k, v in value.items()}
    if type(value) in (list, tuple):
        return type(value)(map(_snapshot, value))
    return copy.deepcopy(value)


def _cast(value, dtype, device):
    """``value`` with its tensors, also those in a list, on ``device``; floating ones in the floating ``dtype``."""
    if isinstance(value, (list, tuple)):
        return type(value)(_cast(v, dtype, device) for v in value)
    if not isinstance(value, Tensor):
        return value
    floats = value.is_floating_point() and dtype.is_floating_point
    return value.to(device, dtype if floats else value.dtype)


def buffer_like(p, value=0):
    """A new state of the shape and dtype of parameter ``p``, on its device, filled with ``value``."""
    return filled(p.shape, value, p.dtype, like=p)


def one_element(**values):
    """ValueError naming the first hyperparameter that is a tensor of another size."""
    for name, value in values.items():
        if isinstance(value, Tensor) and value.numel() != 1:
            raise ValueError(f"Tensor {name} must be 1-element")


def refuse(capturable=False, differentiable=False):
    """PyTorch's switches that have no meaning here."""
    if capturable:
        raise ValueError("capturable=True is not supported: there is no separate capturable implementation")
    if differentiable:
        raise ValueError("differentiable=True is not supported: optimizer steps are not recorded")


def check_fused(foreach, fused):
    """``foreach`` and ``fused`` are accepted: every step is one fused call over all tensors."""
    if foreach and fused:
        raise RuntimeError("`fused` and `foreach` cannot be `True` together.")


def check_betas(betas):
    """ValueError unless there are two numbers in [0, 1)."""
    if len(betas) != 2:
        raise ValueError(f"Invalid betas: {betas}: two numbers are needed")
    for i, beta in enumerate(betas):
        if not 0 <= beta < 1:
            raise ValueError(f"Invalid beta parameter at index {i}: {beta}")


def zero_state(*names):
    """What gives a parameter its first state: ``step``, and buffers of zeros like it."""

    def init(p, state):
        state["step"] = filled((), 0, float32)
        for name in names:
            state[name] = buffer_like(p)

    return init


_NAMES = {"lr": "learning rate", "eps": "epsilon value"}


def nonnegative(allow_nan=False, /, **values):
    """ValueError naming the first hyperparameter that is negative, or nan unless ``allow_nan``."""
    for name, value in values.items():
        one_element(**{name: value})
        if value < 0 if allow_nan else not value >= 0:
            raise ValueError(f"Invalid {_NAMES.get(name, name + ' value')}: {value}")
