"""Operations written by users: ``Function``, and the ``ctx`` that its two halves share.

DESIGN
a. ``apply`` runs ``forward`` unrecorded and then records one node, whose rule calls ``backward``. The node owns the
   ``ctx``; so that no reference cycle arises, saved tensors live in the node as aliases and the ``ctx`` that
   ``backward`` sees is a fresh one over the same attributes that also knows the node.
b. An output that is an input, or shares memory with one, is copied: an in-place operation on it would otherwise
   rewrite the history of that input, and ``backward`` would silently be left out. (PyTorch returns a view and refuses
   such in-place operations.)
c. Inputs changed in place (``mark_dirty``) take over their new history as after any other in-place operation.
"""

import functools

from .._engine import Op, Tensor, copy_, filled, place
from .._engine import _cast as cast
from .._gradmode import is_grad_enabled, no_grad
from .._record import current
from ..ops.reduce import sum_to


class FunctionCtx:
    """What ``forward`` leaves for ``backward``; any attribute may be set. Do not keep outputs in attributes: the
    cycle would have to wait for the garbage collector; ``save_for_backward`` has none."""

    __slots__ = ("__dict__", "_node")

    def __init__(self):
        self._node = None
        self._saved, self._dirty, self._constant, self._materialize = (), (), (), True

    def save_for_backward(self, *tensors):
        """Keep tensors (or None) for ``backward``, where ``saved_tensors`` gives them back.

        Editing one of them in place in between makes ``saved_tensors`` raise RuntimeError.
        """
        for i, t in enumerate(tensors):
            if t is not None and not isinstance(t, Tensor):
                raise TypeError(
                    f"save_for_backward can only save variables, but argument {i} is of type {type(t).__name__}; "
                    "set other values as attributes of ctx"
                )
        self._saved = tensors

    @property
    def saved_tensors(self):
        """What ``save_for_backward`` kept; RuntimeError if one was edited in place, or the graph was freed."""
        return self._saved if self._node is None else self._node.saved_tensors

    def mark_dirty(self, *tensors):
        """Say which inputs ``forward`` edited in place; each must be returned too."""
        self._dirty = tensors

    def mark_non_differentiable(self, *tensors):
        """Say which outputs have no gradient; ``backward`` still gets an argument for each."""
        self._constant = tensors

    def set_materialize_grads(self, value):
        """Whether ``backward`` gets zeros (True, the default) or None for an output that nothing depends on."""
        self._materialize = value


class Function:
    """An operation with a gradient of your own: write ``forward`` and ``backward``, then call ``apply``.

    ``forward(ctx, *args)`` takes what ``apply`` is given, tensors or not, runs without recording and returns a tensor
    or a tuple; ``ctx`` keeps values for backward. (Or write ``forward(*args)`` and ``setup_context(ctx, inputs,
    output)``.) ``backward(ctx, *grads)`` gets one gradient per output and returns one per argument of forward: a
    tensor of its shape, or None. Written with minigrad's operations it can be differentiated again.

    ``backward`` may return too few or too many gradients, one of a wrong shape, or one for an argument that is no
    tensor: RuntimeError.

    >>> import minigrad as mg
    >>> class Cube(mg.autograd.Function):
    ...     @staticmethod
    ...     def forward(ctx, x):
    ...         ctx.save_for_backward(x)
    ...         return x * x * x
    ...
    ...     @staticmethod
    ...     def backward(ctx, dy):
    ...         (x,) = ctx.saved_tensors
    ...         return dy * 3 * x * x
    >>> x = mg.tensor(2.0, requires_grad=True)
    >>> Cube.apply(x).backward()
    >>> x.grad
    tensor(12.)
    """

    def __init_subclass__(cls, **kwargs):
        super().__init_subclass__(**kwargs)
        cls._op = Op(cls.__name__, backward=_backward)

    def __call__(self, *args, **kwargs):
        raise RuntimeError(
            "Legacy autograd function with non-static forward method is deprecated. Please use new-style autograd "
            f"function with static forward method: {type(self).__name__}.apply(...)"
        )

    @staticmethod
    def forward(*args):
        """Compute the output; override it."""
        raise NotImplementedError("You must implement the forward function for custom autograd.Function.")

    @staticmethod
    def setup_context(ctx, inputs, output):
        """Save for backward, if ``forward`` does not take ``ctx``; override it."""
        raise NotImplementedError("setup_context is not implemented.")

    @staticmethod
    def backward(ctx, *grad_outputs):
        """The gradients of the arguments of ``forward``; override it."""
        raise NotImplementedError(
            "You must implement either the backward or vjp method for your custom autograd.Function to use it with "
            "backward mode AD."
        )

    @classmethod
    def apply(cls, *args):
        """Run ``forward`` on ``args`` and record it."""
        recorder = current()
        if recorder is not None:
            recorder.refuses(f"calls {cls.__name__}.apply, whose forward and backward are Python")
        ctx = FunctionCtx()
        ctx.needs_input_grad = tuple([isinstance(a, Tensor) and a.requires_grad for a in args])
        with no_grad():
            if cls.setup_context is Function.setup_context:
                output = cls.forward(ctx, *args)
            else:
                output = cls.forward(*args)
                cls.setup_context(ctx, args, output)
        outputs = output if isinstance(output, tuple) else (output,)
        for t in ctx._dirty:
            if not _among(t, outputs):
                raise RuntimeError(
                    "Some elements marked as dirty during the forward method were not returned as output. The inputs "
                    "that are modified inplace must all be outputs of the Function."
                )
        if not (is_grad_enabled() and True in ctx.needs_input_grad):
            return output
        recorded = _record(cls, ctx, args, outputs)
        return recorded if isinstance(output, tuple) else recorded[0]


def _among(t, tensors):
    return any(t is other for other in tensors)


def _record(function, ctx, args, outputs):
    """Give the outputs a history; what to return for each."""
    memory = {id(a._storage) for a in args if isinstance(a, Tensor)}
    fresh = []
    for y in outputs:
        if not isinstance(y, Tensor) or _among(y, ctx._constant):
            fresh.append(None)
        elif id(y._storage) in memory:
            fresh.append(y.detach().clone())
        elif y._base is not None or y.requires_grad or _among(y, fresh):
            fresh.append(y.detach())
        else:
            fresh.append(y)
    made = {id(y): t for y, t in zip(outputs, fresh, strict=True) if t is not None}
    saved, dirty = tuple([made.get(id(t), t) for t in ctx._saved]), ctx._dirty
    ctx._function = function
    ctx._inputs = [(tuple(a.shape), a.dtype, a.device) if isinstance(a, Tensor) else None for a in args]
    ctx._outputs = [(tuple(y.shape), y.dtype, y._device) if isinstance(y, Tensor) else None for y in outputs]
    ctx._saved = ctx._dirty = ctx._constant = ()  # outputs in here would close a cycle
    function._op.record_outputs(tuple(fresh), args, saved, ctx)
    result = []
    for y, t in zip(outputs, fresh, strict=True):
        if t is None:
            result.append(y.detach() if isinstance(y, Tensor) and y.requires_grad else y)
        else:
            result.append(copy_(y, t) if _among(y, dirty) else t)
    return tuple(result)


def _backward(node, grads):
    kept = node.ctx
    ctx = FunctionCtx.__new__(FunctionCtx)
    ctx.__dict__, ctx._node = kept.__dict__, node
    grads = grads if isinstance(grads, list) else [grads]
    if ctx._materialize:
        grads = [
            filled(meta[0], 0, meta[1], place(meta[2])) if g is None and meta is not None else g
            for g, meta in zip(grads, ctx._outputs, strict=True)
        ]
    return _checked(ctx, ctx._function.backward(ctx, *grads))


def _checked(ctx, result):
    """The gradients that ``backward`` returned, one per argument of forward, in the shape and dtype of each."""
    name, count = ctx._function.__name__ + "Backward", len(ctx._inputs)
    result = list(result) if isinstance(result, (tuple, list)) else [result]
    while len(result) > count and result[-1] is None:
        result.pop()
    if len(result) != count:
        raise RuntimeError(
            f"function {name} returned an incorrect number of gradients (expected {count}, got {len(result)})"
        )
    for i, meta in enumerate(ctx._inputs):
        if result[i] is None:
            continue
        if meta is None:
            raise RuntimeError(
                f"function {name} returned a gradient different from None at position {i + 1}, but the corresponding "
                "forward input was not a Variable"
            )
        if not isinstance(result[i], Tensor):
            raise TypeError(f"function {name}: expected Variable or None (got {type(result[i]).__name__})")
        if not ctx.needs_input_grad[i]:
            result[i] = None
            continue
        problem = f"Function {name} returned an invalid gradient at index {i}"
        if result[i].device != meta[2]:
            raise RuntimeError(f"{problem} - expected device {meta[2]} but got {result[i].device}")
        if tuple(result[i].shape) != meta[0] or result[i].dtype is not meta[1]:
            result[i] = _fit(result[i], *meta[:2], problem)
    return result


def _fit(g, shape, dtype, message):
    """``g`` summed to ``shape``, if that broadcasts to its own, and converted to ``dtype``."""
    got = tuple(g.shape)
    skip = len(got) - len(shape)
    if skip < 0 or any(n not in (1, m) for n, m in zip(shape, got[skip:], strict=True)):
        raise RuntimeError(f"{message} - got {list(got)} but expected shape compatible with {list(shape)}")
    if not g.is_floating_point():
        raise RuntimeError(f"{message} - expected dtype {dtype!r} but got {g.dtype!r}")
    return cast(g if got == shape else sum_to(g, shape), dtype)


def once_differentiable(backward):
    """Decorate a ``backward`` that is not made of minigrad operations (it uses NumPy, say): it runs unrecorded.

    Differentiating its result raises RuntimeError instead of giving a wrong second derivative.
    """

    @functools.wraps(backward)
    def wrapper(ctx, *grads):
        with no_grad():
            result = backward(ctx, *grads)
        if not is_grad_enabled():
            return result
        sources = [t for t in (*grads, *ctx.saved_tensors) if isinstance(t, Tensor) and t.requires_grad]
        if not sources:
            return result
        results = [
            t.detach() if isinstance(t, Tensor) else t for t in (result if isinstance(result, tuple) else (result,))
        ]
        _ONCE.record_outputs(tuple(results), tuple(sources))
        return tuple(results)

    return wrapper


def _refuse(node, grads):
    raise RuntimeError("trying to differentiate twice a function that was marked with @once_differentiable")


_ONCE = Op("OnceDifferentiable", backward=_refuse)
