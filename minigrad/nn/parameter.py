"""Parameter: a tensor that a module registers when it is assigned to one of its attributes."""

from .._engine import Tensor, empty


class Parameter(Tensor):
    """A tensor to be trained: ``Module.parameters()`` finds it once it is an attribute of a module.

    It shares the memory of ``data`` (an empty tensor if None) and is a leaf; results of operations are plain tensors.
    RuntimeError if ``requires_grad`` and the dtype is not floating point.

    >>> import minigrad as mg
    >>> mg.nn.Parameter(mg.tensor([1.0, 2.0]))
    Parameter containing:
    tensor([1., 2.], requires_grad=True)
    """

    def __init__(self, data=None, requires_grad=True):
        if data is None:
            data = empty((0,))
        elif not isinstance(data, Tensor):
            raise TypeError(
                f"Parameter: data must be a Tensor, not {type(data).__name__}; convert it with tensor(data)"
            )
        self.data = data
        self.requires_grad = requires_grad

    def __repr__(self):
        return "Parameter containing:\n" + super().__repr__()

    def __deepcopy__(self, memo):
        """A copy of the values and attributes, not of the gradient, as in PyTorch."""
        if id(self) in memo:
            return memo[id(self)]
        made = type(self)(self.detach().clone(), self.requires_grad)
        made.__dict__.update(self.__dict__)
        memo[id(self)] = made
        return made
