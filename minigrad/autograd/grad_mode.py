"""``inference_mode``: here another name for ``no_grad``."""

from .._gradmode import enable_grad, no_grad


def inference_mode(mode=True):
    """Do not record operations: ``with inference_mode(): ...``, ``@inference_mode()`` or ``@inference_mode``.

    In PyTorch tensors made in inference mode are special: they have no version counter and refuse to be saved for a
    backward later. Recording costs minigrad so little that this would gain nothing, so its ``inference_mode`` is
    ``no_grad``, and what is made inside it is an ordinary tensor. ``inference_mode(False)`` is ``enable_grad``.

    >>> import minigrad as mg
    >>> x = mg.ones(2, requires_grad=True)
    >>> with mg.inference_mode():
    ...     y = x * 2
    >>> y.requires_grad
    False
    """
    if callable(mode):
        return no_grad()(mode)
    return no_grad() if mode else enable_grad()
