"""Parameters as one vector."""

from ..._engine import Tensor
from ...ops.shape import cat


def parameters_to_vector(parameters):
    """All ``parameters``, an iterable of tensors, flattened and joined: a new vector, recorded if they need gradients.

    >>> import minigrad as mg
    >>> mg.nn.utils.parameters_to_vector([mg.tensor([[1.0, 2.0]]), mg.tensor(3.0)])
    tensor([1., 2., 3.])
    """
    return cat([p.reshape(-1) for p in parameters])


def vector_to_parameters(vec, parameters):
    """Make each of ``parameters``, in order, a view of its part of ``vec``: they share its memory and have its dtype.

    RuntimeError, and nothing is changed, when ``vec`` is too short; what it has more is not used.

    >>> import minigrad as mg
    >>> w, b = mg.zeros(2, 1, requires_grad=True), mg.zeros(1, requires_grad=True)
    >>> mg.nn.utils.vector_to_parameters(mg.tensor([1.0, 2.0, 3.0]), [w, b])
    >>> b
    tensor([3.], requires_grad=True)
    """
    if not isinstance(vec, Tensor):
        raise TypeError(f"expected a Tensor, but got: {type(vec).__name__}")
    parameters = list(parameters)
    needed = sum(p.numel() for p in parameters)
    if vec.ndim != 1 or vec.numel() < needed:
        raise RuntimeError(f"vec of shape {tuple(vec.shape)} for parameters of {needed} elements in all")
    start, vec = 0, vec.detach()
    for p in parameters:
        p.data = vec[start : start + p.numel()].view(p.shape)
        start += p.numel()
