"""Whole Jacobians and Hessians."""

from .._engine import Tensor, filled
from .._gradmode import enable_grad
from ..creation import zeros_like
from ..ops.shape import stack
from .differentiate import grad


def jacobian(func, inputs, create_graph=False, strict=False, vectorize=False, strategy="reverse-mode"):
    """All first derivatives of ``func`` at ``inputs``, one backward per element of its output.

    ``func``: takes the inputs, returns a tensor or a tuple of tensors. ``inputs``: a tensor or a tuple.
    ``create_graph``: record it, so that the result can be differentiated.
    ``strict``: RuntimeError for an input that an output does not depend on, instead of zeros.
    ``vectorize`` has no effect; ``strategy`` must be "reverse-mode".

    Returns a tensor of shape ``output.shape + input.shape``; nested in a tuple per input and per output where those
    are tuples.

    >>> import minigrad as mg
    >>> mg.autograd.functional.jacobian(lambda x: x * x, mg.tensor([1.0, 2.0]))
    tensor([[2., 0.],
            [0., 4.]])
    """
    if strategy != "reverse-mode":
        raise NotImplementedError(f"jacobian: strategy must be 'reverse-mode', got {strategy!r}")
    single = isinstance(inputs, Tensor)
    given = (inputs,) if single else tuple(inputs)
    with enable_grad():
        xs = tuple([_input(x, create_graph) for x in given])
        result = func(*xs)
        outputs = (result,) if isinstance(result, Tensor) else tuple(result)
        rows = [_rows(y, xs, create_graph, strict, k) for k, y in enumerate(outputs)]
    rows = [row[0] if single else row for row in rows]
    return rows[0] if isinstance(result, Tensor) else tuple(rows)


def hessian(func, inputs, create_graph=False, strict=False, vectorize=False, outer_jacobian_strategy="reverse-mode"):
    """All second derivatives of ``func``, which returns one number, at ``inputs``; arguments as in ``jacobian``.

    Returns a tensor of shape ``input.shape + input.shape``, or a tuple of tuples of them for several inputs.

    >>> import minigrad as mg
    >>> mg.autograd.functional.hessian(lambda x: (x * x * x).sum(), mg.tensor([1.0, 2.0]))
    tensor([[ 6.,  0.],
            [ 0., 12.]])
    """

    def gradient(*xs):
        y = func(*xs)
        if not isinstance(y, Tensor) or y.numel() != 1:
            raise RuntimeError("hessian: the function must return a tensor with one element")
        found = _rows(y.reshape(()), xs, True, strict, 0)
        return found[0] if isinstance(inputs, Tensor) else found

    return jacobian(gradient, inputs, create_graph, strict, vectorize, outer_jacobian_strategy)


def _input(x, create_graph):
    if not isinstance(x, Tensor):
        raise TypeError(f"inputs must be a Tensor or a tuple of Tensors, got {type(x).__name__}")
    return x.view(x.shape) if create_graph and x.requires_grad else x.detach().requires_grad_()


def _rows(y, xs, create_graph, strict, k):
    """For each of ``xs`` the Jacobian of ``y``."""
    shape = tuple(y.shape)
    columns = [[] for _ in xs]
    flat = y.reshape(-1)
    for j in range(y.numel()):
        found = (None,) * len(xs)
        if y.requires_grad:
            found = grad(flat[j], xs, retain_graph=True, create_graph=create_graph, allow_unused=True)
        for i, (g, x) in enumerate(zip(found, xs, strict=True)):
            if g is None and strict:
                raise RuntimeError(f"output {k} of the function is independent of input {i}: refused by strict=True")
            columns[i].append(zeros_like(x) if g is None else g)
    return tuple([
        stack(column).reshape(shape + tuple(x.shape)) if column else filled(shape + tuple(x.shape), 0, x.dtype, x)
        for column, x in zip(columns, xs, strict=True)
    ])  # fmt: skip
