"""``backward`` and ``grad``: the two ways to run the tape in reverse."""

import warnings

from .._engine import Tensor
from .._walk import run_backward
from ..creation import zeros_like


def backward(tensors, grad_tensors=None, retain_graph=None, create_graph=False, grad_variables=None, inputs=None):
    """Add the gradients of ``tensors`` into ``.grad`` of the leaves that they depend on.

    ``tensors``: a tensor or a sequence of tensors that require grad.
    ``grad_tensors``: for each the gradient to start from, of its shape, or None for a tensor with one element.
    ``retain_graph``: keep what the operations saved, so that backward can run again (default: ``create_graph``).
    ``create_graph``: record backward itself, so that the gradients can be differentiated. Each ``.grad`` then refers
    to a graph that refers to its leaf: a reference cycle that only the garbage collector frees. ``grad`` has none.
    ``inputs``: add into ``.grad`` of these tensors only (leaves or not).

    Raises RuntimeError if a tensor does not require grad, has several elements and no gradient, a gradient of another
    shape, or a graph that was freed.

    >>> import minigrad as mg
    >>> x = mg.tensor([1.0, 2.0], requires_grad=True)
    >>> mg.autograd.backward([x.sum(), (x * x).sum()])
    >>> x.grad
    tensor([3., 5.])
    """
    if grad_variables is not None:
        warnings.warn("`grad_variables` is deprecated. Use `grad_tensors` instead.", FutureWarning, stacklevel=2)
        if grad_tensors is not None:
            raise RuntimeError(
                "`grad_tensors` and `grad_variables` (deprecated) arguments both passed to `backward()`. "
                "Please only use `grad_tensors`."
            )
        grad_tensors = grad_variables
    tensors = _tuple(tensors)
    if inputs is not None:
        inputs = tuple(inputs.values()) if isinstance(inputs, dict) else _tuple(inputs)
        if not inputs:
            raise RuntimeError("`inputs` argument to `backward()` cannot be empty.")
    retain = create_graph if retain_graph is None else retain_graph
    run_backward(tensors, _gradients(tensors, grad_tensors), retain, create_graph, inputs)


def grad(
    outputs, inputs, grad_outputs=None, retain_graph=None, create_graph=False, only_inputs=True, allow_unused=None,
    is_grads_batched=False, materialize_grads=False,
):  # fmt: skip
    """The gradients of the sum of ``outputs`` with respect to ``inputs``, without touching any ``.grad``.

    ``outputs``, ``grad_outputs``, ``retain_graph``, ``create_graph``: as in ``backward``.
    ``inputs``: a tensor, a sequence or a dict of tensors that require grad, leaves or not.
    ``allow_unused``: None for an input that the outputs do not depend on, instead of RuntimeError.
    ``materialize_grads``: zeros for such an input.

    Returns a tuple of tensors of the shapes of ``inputs`` (or a dict with its keys), each with memory of its own.

    >>> import minigrad as mg
    >>> x = mg.tensor(3.0, requires_grad=True)
    >>> (slope,) = mg.autograd.grad(x**3, x, create_graph=True)
    >>> mg.autograd.grad(slope, x)
    (tensor(18.),)
    """
    if not only_inputs:
        warnings.warn(
            "only_inputs argument is deprecated and is ignored now (defaults to True). To accumulate gradient for "
            "other parts of the graph, please use backward.",
            FutureWarning,
            stacklevel=2,
        )
    if is_grads_batched:
        raise NotImplementedError("grad: is_grads_batched=True needs vmap, which minigrad does not have")
    if materialize_grads and allow_unused is False:
        raise ValueError(
            "Expected allow_unused to be True or not passed when materialize_grads=True, but got: allow_unused=False."
        )
    outputs = _tuple(outputs)
    wanted = tuple(inputs.values()) if isinstance(inputs, dict) else _tuple(inputs)
    if not wanted:
        raise RuntimeError("grad requires non-empty inputs.")
    retain = create_graph if retain_graph is None else retain_graph
    optional = bool(allow_unused) or materialize_grads
    found = run_backward(
        outputs, _gradients(outputs, grad_outputs), retain, create_graph, wanted, True, optional
    )  # fmt: skip
    if materialize_grads:
        found = tuple([zeros_like(x) if g is None else g for x, g in zip(wanted, found, strict=True)])
    return dict(zip(inputs, found, strict=True)) if isinstance(inputs, dict) else found


def _tuple(tensors):
    return (tensors,) if isinstance(tensors, Tensor) else tuple(tensors)


def _gradients(outputs, gradients):
    if gradients is None:
        return (None,) * len(outputs)
    gradients = _tuple(gradients)
    if len(gradients) != len(outputs):
        raise RuntimeError(f"got {len(outputs)} tensors and {len(gradients)} gradients")
    return gradients
