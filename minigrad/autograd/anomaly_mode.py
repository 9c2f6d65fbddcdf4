"""Finding the operation whose backward failed or produced nan."""

from .._engine import get_anomaly, set_anomaly


class detect_anomaly:
    """Inside this context a failing backward warns with the traceback of the operation's forward call.

    ``check_nan``: raise RuntimeError as soon as a gradient contains nan, naming the operation that computed it. Slow,
    for debugging only. The mode holds for all threads.

    >>> import minigrad as mg
    >>> x = mg.tensor([-1.0], requires_grad=True)
    >>> with mg.autograd.detect_anomaly():
    ...     mg.log(x * x).backward()
    >>> x.grad
    tensor([-2.])
    """

    def __init__(self, check_nan=True):
        self._mode = 2 if check_nan else 1
        self._before = []

    def __enter__(self):
        self._before.append(get_anomaly())
        set_anomaly(self._mode)

    def __exit__(self, *error):
        set_anomaly(self._before.pop())


class set_detect_anomaly(detect_anomaly):
    """As ``detect_anomaly``, but switched by ``mode`` and in force at once, also without a ``with`` block."""

    def __init__(self, mode, check_nan=True):
        self._mode = (2 if check_nan else 1) if mode else 0
        self._before = [get_anomaly()]
        set_anomaly(self._mode)

    def __enter__(self):
        pass


def is_anomaly_enabled():
    """Whether anomaly detection is on."""
    return get_anomaly() > 0


def is_anomaly_check_nan_enabled():
    """Whether anomaly detection looks for nan."""
    return get_anomaly() == 2
