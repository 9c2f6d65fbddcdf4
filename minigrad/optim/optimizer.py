"""The base of all optimizers: parameter groups, state, hooks, saving and loading."""

import copy
import warnings
from collections import OrderedDict, defaultdict

from .._engine import RemovableHandle, Tensor, clear_gradients, enable_grad, operand
from .._storage import float32


class Required:
    """The default of a hyperparameter without one."""

    def __repr__(self):
        return "<required parameter>"


required = Required()


_SET = "optimizer parameters need to be organized in ordered collections, but sets are unordered; use a list"


class Optimizer:
    """Base class: what ``SGD``, ``Adam`` and the others share; subclasses implement ``_update(group)``.

    params: an iterable of tensors, of (name, tensor) pairs, or of dicts ``{"params": ..., option: value}`` whose
    options override ``defaults`` for their group. Parameters are updated in place, all of a group in one native call;
    one without a gradient is skipped. ``state`` maps a parameter to its buffers, ``param_groups`` is a list of dicts.
    """

    def __init__(self, params, defaults):
        self.defaults = defaults
        self.state = defaultdict(dict)
        self.param_groups = []
        self._step_pre_hooks, self._step_post_hooks = OrderedDict(), OrderedDict()
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
        if len({id(p) for p in params}) != len(params):
            warnings.warn("a parameter group contains duplicate parameters; each is updated once", stacklevel=3)
            params = list({id(p): p for p in params}.values())
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

    def _state_like(self, name, p):
        """The shape and dtype that state ``name`` of parameter ``p`` has; for state that is loaded."""
        return p.shape, p.dtype

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
        if self._step_pre_hooks or self._step_post_hooks:
            return self._step_with_hooks((self,) if closure is None else (self, closure), {})
        return self._step(closure)

    def _step_with_hooks(self, args, kwargs):
        for hook in list(self._step_pre_hooks.values()):
            changed = hook(self, args, kwargs)
            if changed is None:
                continue
            if not isinstance(changed, tuple) or len(changed) != 2:
                raise RuntimeError(f"{hook} must return None or a tuple of (new_args, new_kwargs), but got {changed}.")
            args, kwargs = changed
        loss = self._step(*args[1:], **kwargs)
        for hook in list(self._step_post_hooks.values()):
            hook(self, args, kwargs)
        return loss

    def _step(self, closure=None):
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            self._update(group)
        return loss

    def _update(self, group):
        raise TypeError(f"{type(self).__name__} does not implement _update(group)")

    def register_step_pre_hook(self, hook):
        """Call ``hook(optimizer, args, kwargs)`` before every step; args are those of ``step``, the optimizer first.

        It may return other ``(args, kwargs)``. A handle with ``remove()``.
        """
        return _register(self._step_pre_hooks, hook)

    def register_step_post_hook(self, hook):
        """Call ``hook(optimizer, args, kwargs)`` after every step. A handle with ``remove()``."""
        return _register(self._step_post_hooks, hook)

    # --- saving and loading: PyTorch's format -----------------------------------------------------------------------

    def state_dict(self):
        """``{"state": {index: buffers}, "param_groups": [...]}`` in PyTorch's format; a snapshot, not an alias."""
        index = {id(p): i for i, p in enumerate(p for g in self.param_groups for p in g["params"])}
        groups, start = [], 0
        for group in self.param_groups:
            packed = {k: copy.deepcopy(v) for k, v in group.items() if k != "params"}
            packed["params"] = list(range(start, start + len(group["params"])))
            start += len(group["params"])
            groups.append(packed)
        state = {index[id(p)]: {k: _snapshot(v) for k, v in s.items()} for p, s in self.state.items() if id(p) in index}
        return {"state": state, "param_groups": groups}

    def load_state_dict(self, state_dict):
        """Load what ``state_dict`` returned (copied); hyperparameters such as lr are taken from it too.

        ValueError names the group, parameter and shapes when it does not fit; nothing is changed then.
        """
        saved = state_dict["param_groups"]
        if len(saved) != len(self.param_groups):
            raise ValueError(
                f"loaded state dict has a different number of parameter groups: {len(saved)} instead of "
                f"{len(self.param_groups)}"
            )
        params = {}
        for i, (ours, theirs) in enumerate(zip(self.param_groups, saved, strict=True)):
            if len(ours["params"]) != len(theirs["params"]):
                raise ValueError(
                    f"loaded state dict contains a parameter group that doesn't match the size of optimizer's group: "
                    f"group {i} has {len(theirs['params'])} parameters instead of {len(ours['params'])}"
                )
            if "param_names" in ours and "param_names" in theirs and ours["param_names"] != theirs["param_names"]:
                raise ValueError(f"group {i}: parameter names {theirs['param_names']} instead of {ours['param_names']}")
            params.update(zip(theirs["params"], ours["params"], strict=True))
        state = defaultdict(dict)
        for key, values in state_dict["state"].items():
            if key not in params:
                raise ValueError(f"loaded state dict has state for parameter {key}, which no group lists")
            p = params[key]
            state[p] = {name: _restore(name, v, *self._state_like(name, p), key) for name, v in values.items()}
        for ours, theirs in zip(self.param_groups, saved, strict=True):
            kept = {"params": ours["params"]}
            if "param_names" in ours:
                kept["param_names"] = ours["param_names"]
            ours.update({k: copy.deepcopy(v) for k, v in theirs.items() if k not in kept})
        self.state = state

    def __getstate__(self):
        return {"defaults": self.defaults, "state": self.state, "param_groups": self.param_groups}

    def __setstate__(self, state):
        self.__dict__.update(state)
        self.__dict__.setdefault("_step_pre_hooks", OrderedDict())
        self.__dict__.setdefault("_step_post_hooks", OrderedDict())

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


def _register(hooks, hook):
    key = object()
    hooks[key] = hook
    return _Handle(hooks, key)


def _snapshot(value):
    return value.detach().clone() if isinstance(value, Tensor) else copy.deepcopy(value)


def _restore(name, value, shape, dtype, key):
    """A saved value as state of a parameter: tensors, also those in lists, copied, in ``dtype`` but for ``step``."""
    if name == "step":
        return operand(value, float32).detach().clone().reshape(())
    if isinstance(value, (list, tuple)):
        return [_restore(name, v, shape, dtype, key) for v in value]
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if value.ndim and tuple(value.shape) != tuple(shape):
        raise ValueError(
            f"loaded state {name!r} of parameter {key} has shape {tuple(value.shape)}, the parameter {tuple(shape)}"
        )
    value = value.detach().clone()
    return value.to(dtype) if value.is_floating_point() else value


def with_gradients(params):
    """The parameters that have a gradient, once all of them are known to be usable; for steps made of operations."""
    found = [p for p in params if p.grad is not None]
    for p in found:
        if p.grad.shape != p.shape or p.grad.dtype is not p.dtype or not p.is_floating_point():
            raise RuntimeError(
                f"gradient of shape {tuple(p.grad.shape)} and dtype {p.grad.dtype!r} for a parameter of shape "
                f"{tuple(p.shape)} and dtype {p.dtype!r}"
            )
    return found


def check_state(p, state, **shapes):
    """Raise unless every state of parameter ``p`` named in ``shapes`` is a tensor of that shape and p's dtype."""
    for name, shape in shapes.items():
        if name not in state:
            raise KeyError(f"optimizer state of a parameter of shape {tuple(p.shape)} lacks {name!r}")
        value, dtype = state[name], float32 if name == "step" else p.dtype
        if not isinstance(value, Tensor):
            raise TypeError(f"optimizer state {name!r} must be a tensor, got {type(value).__name__}")
        if tuple(value.shape) != tuple(shape) or value.dtype is not dtype:
            raise RuntimeError(
                f"optimizer state {name!r} has shape {tuple(value.shape)} and dtype {value.dtype!r} instead of "
                f"{tuple(shape)} and {dtype!r} for a parameter of shape {tuple(p.shape)} and dtype {p.dtype!r}"
            )


def number(lr):
    """A learning rate as a Python number."""
    return lr.item() if isinstance(lr, Tensor) else lr


def one_element(lr):
    """PyTorch's check of a learning rate given as a tensor."""
    if isinstance(lr, Tensor) and lr.numel() != 1:
        raise ValueError("Tensor lr must be 1-element")


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


_NAMES = {"lr": "learning rate", "eps": "epsilon value"}


def nonnegative(allow_nan=False, /, **values):
    """ValueError naming the first hyperparameter that is negative, or nan unless ``allow_nan``."""
    for name, value in values.items():
        if value < 0 if allow_nan else not value >= 0:
            raise ValueError(f"Invalid {_NAMES.get(name, name + ' value')}: {value}")
