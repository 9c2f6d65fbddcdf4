"""Averages of a model's weights over training: stochastic weight averaging (SWA) and exponential moving averages."""

import copy
from math import cos, pi

from .._engine import Kernel
from .._gradmode import no_grad
from .._storage import int64
from ..creation import tensor
from ..nn.module import Module
from ..ops._multi import average
from .lr_scheduler import LRScheduler
from .lr_scheduler.base import check_optimizer, per_group, warn_outside_step

_LERP = Kernel("optimizers.lerp", 0.2)


def get_ema_multi_avg_fn(decay=0.999):
    """A ``multi_avg_fn``: average = decay average + (1 - decay) current for lists of tensors, one native call.

    ValueError unless 0 <= decay <= 1.

    >>> import minigrad as mg
    >>> average = [mg.zeros(2), mg.ones(1)]
    >>> mg.optim.swa_utils.get_ema_multi_avg_fn(0.75)(average, [mg.full((2,), 4.0), mg.ones(1)], 1)
    >>> average
    [tensor([1., 1.]), tensor([1.])]
    """
    _check_decay(decay)

    def ema_update(ema_param_list, current_param_list, num_averaged):
        _blend(ema_param_list, current_param_list, 1 - decay, num_averaged, get_ema_avg_fn(decay))

    return ema_update


def get_swa_multi_avg_fn():
    """A ``multi_avg_fn``: the mean of all weights so far, average += (current - average) / (num_averaged + 1).

    The weight is a Python number; PyTorch computes it in float32, also for float64 parameters.
    """

    def swa_update(averaged_param_list, current_param_list, num_averaged):
        n = int(num_averaged)
        _blend(averaged_param_list, current_param_list, 1 / (n + 1), n, get_swa_avg_fn())

    return swa_update


def get_ema_avg_fn(decay=0.999):
    """An ``avg_fn``: decay average + (1 - decay) current. ValueError unless 0 <= decay <= 1.

    >>> import minigrad as mg
    >>> mg.optim.swa_utils.get_ema_avg_fn(0.75)(mg.zeros(2), mg.full((2,), 4.0), 1)
    tensor([1., 1.])
    """
    _check_decay(decay)

    @no_grad()
    def ema_update(ema_param, current_param, num_averaged):
        return decay * ema_param + (1 - decay) * current_param

    return ema_update


def get_swa_avg_fn():
    """An ``avg_fn``: average + (current - average) / (num_averaged + 1), the mean of all weights so far."""

    @no_grad()
    def swa_update(averaged_param, current_param, num_averaged):
        return averaged_param + (current_param - averaged_param) / (num_averaged + 1)

    return swa_update


def _check_decay(decay):
    if not 0 <= decay <= 1:
        raise ValueError(f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.")


@no_grad()
def _blend(averages, currents, weight, n, avg_fn):
    """averages += weight (currents - averages) in place: a native call a floating dtype, ``avg_fn`` for integers."""
    batches = {}
    for a, c in zip(averages, currents, strict=True):
        if a.shape != c.shape:
            raise RuntimeError(f"an average has shape {tuple(a.shape)}, its new value {tuple(c.shape)}")
        ours, theirs = batches.setdefault((a.dtype, a._device), ([], []))
        ours.append(a)
        theirs.append(c if c.dtype is a.dtype or not a.is_floating_point() else c.to(a.dtype))
    for (dtype, _), (ours, theirs) in batches.items():
        if dtype.is_floating_point:
            average(_LERP, ours, theirs, weight)
        else:
            for a, c in zip(ours, theirs, strict=True):
                a.copy_(avg_fn(a, c, n))


class AveragedModel(Module):
    """A copy of ``model`` whose weights are averages of those that ``update_parameters(model)`` has seen.

    The first update copies the weights. Later ones average: by default all weights count the same (SWA), or by
    ``avg_fn(average, current, n)`` (a tensor each, returns the new average) or ``multi_avg_fn(averages, currents, n)``
    (lists of detached tensors of one dtype and device, changed in place), n being the buffer ``n_averaged``;
    AssertionError for both. Buffers are copied from the model at each update, or averaged too with ``use_buffers``.
    Averages may be on another device than the model. Calling it calls the averaged copy, ``module``. The functions are
    not part of ``state_dict()``. ValueError, before anything is written, names the parameter or buffer of a model that
    does not fit.
    Source: Izmailov et al., Averaging weights leads to wider optima and better generalization, UAI 2018.

    >>> import minigrad as mg
    >>> model = mg.nn.Linear(1, 1, bias=False)
    >>> averaged = mg.optim.swa_utils.AveragedModel(model)
    >>> for value in (1.0, 2.0, 6.0):
    ...     _ = mg.nn.init.constant_(model.weight, value)
    ...     averaged.update_parameters(model)
    >>> averaged.module.weight.item(), averaged.n_averaged
    (3.0, tensor(3))
    """

    def __init__(self, model, device=None, avg_fn=None, multi_avg_fn=None, use_buffers=False):
        super().__init__()
        if avg_fn is not None and multi_avg_fn is not None:
            raise AssertionError("Only one of avg_fn and multi_avg_fn should be provided")
        self.module = copy.deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=int64, device=device))
        self.avg_fn = avg_fn
        self.multi_avg_fn = multi_avg_fn
        self.use_buffers = use_buffers

    def forward(self, *args, **kwargs):
        """What the averaged copy of the model computes."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model):
        """Take the present weights of ``model`` into the average."""
        (ours, params), (theirs, _) = _weights(self.module), _weights(model)
        if len(ours) != len(theirs):
            raise ValueError(f"the model has {len(theirs)} parameters and buffers instead of {len(ours)}")
        for (name, a), (_, b) in zip(ours, theirs, strict=True):
            if a.shape != b.shape:
                raise ValueError(f"{name} of the model has shape {tuple(b.shape)}, its average {tuple(a.shape)}")
        split = len(ours) if self.use_buffers else params
        pairs = [(a.detach(), _beside(a, b.detach())) for (_, a), (_, b) in zip(ours, theirs, strict=True)]
        averaged, synced = pairs[:split], pairs[split:]
        if self.n_averaged == 0:
            synced = pairs
        elif self.avg_fn is not None:  # all before the first is written
            synced = [(a, self.avg_fn(a, b, _beside(a, self.n_averaged))) for a, b in averaged] + synced
        elif averaged:
            multi_avg_fn = self.multi_avg_fn or get_swa_multi_avg_fn()
            for kind in dict.fromkeys((a.dtype, a._device) for a, _ in averaged):
                some = [(a, b) for a, b in averaged if (a.dtype, a._device) == kind]
                multi_avg_fn([a for a, _ in some], [b for _, b in some], self.n_averaged)
        for a, value in synced:
            a.copy_(value)
        self.n_averaged += 1


def _beside(a, b):
    """b on the device of a."""
    return b if b._device == a._device else b.to(a.device)


def _weights(model):
    """(name, tensor) of all parameters, then all buffers; how many are parameters."""
    params = list(model.named_parameters())
    return [*params, *model.named_buffers()], len(params)


@no_grad()
def update_bn(loader, model, device=None):
    """Recompute the running statistics of all batch normalisation layers by one pass over ``loader``.

    For averaged weights, whose statistics nobody has seen. A batch is a tensor, or a list or tuple whose first element
    is the input; ``model`` is called with it in training mode. Layers are those with ``reset_running_stats()`` and
    ``momentum``, which is None (a plain mean over all batches) for the pass. Without any it returns at once.
    """
    layers = [m for m in model.modules() if hasattr(m, "reset_running_stats") and hasattr(m, "momentum")]
    if not layers:
        return
    momenta, training = [layer.momentum for layer in layers], model.training
    try:
        for layer in layers:
            layer.reset_running_stats()
            layer.momentum = None
        model.train()
        for batch in loader:
            if isinstance(batch, (list, tuple)):
                batch = batch[0]
            model(batch if device is None else batch.to(device))
    finally:
        for layer, momentum in zip(layers, momenta, strict=True):
            layer.momentum = momentum
        model.train(training)


class SWALR(LRScheduler):
    """Move each group's learning rate to ``swa_lr`` within ``anneal_epochs`` steps, then keep it there.

    lr_t = a_t swa_lr + (1 - a_t) lr_0, a_t = s with ``anneal_strategy="linear"`` and (1 - cos(pi s)) / 2 with "cos",
    s = min(1, t / anneal_epochs). swa_lr: a number, or a list with one a group. ValueError for another strategy or a
    negative or fractional ``anneal_epochs``. The rate is computed from the present one, so it may follow another
    schedule. For the averaging phase of SWA, see ``AveragedModel``.

    >>> import minigrad as mg
    >>> optimizer = mg.optim.SGD([mg.ones(1, requires_grad=True)], lr=0.5)
    >>> scheduler = mg.optim.swa_utils.SWALR(optimizer, 0.25, anneal_epochs=2, anneal_strategy="linear")
    >>> for _ in range(3):
    ...     optimizer.step()
    ...     scheduler.step()
    ...     print(scheduler.get_last_lr())
    [0.375]
    [0.25]
    [0.25]
    """

    def __init__(self, optimizer, swa_lr, anneal_epochs=10, anneal_strategy="cos", last_epoch=-1):
        rates = per_group("swa_lr", check_optimizer(optimizer), swa_lr)
        if anneal_strategy not in ("cos", "linear"):
            raise ValueError(f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}")
        if not isinstance(anneal_epochs, int) or anneal_epochs < 0:
            raise ValueError(f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}")
        for rate, group in zip(rates, optimizer.param_groups, strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy = anneal_strategy
        self.anneal_epochs = anneal_epochs
        super().__init__(optimizer, last_epoch)

    def anneal_func(self, t):
        """How far the rate has moved, from 0 to 1, after the fraction ``t`` of the time."""
        return (1 - cos(pi * t)) / 2 if self._anneal_strategy == "cos" else t

    def get_lr(self):
        """The next learning rates, one a group."""
        warn_outside_step(self)
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, now = (self.anneal_func(max(0, min(1, t / max(1, self.anneal_epochs)))) for t in (step - 1, step))
        rates = []
        for group in self.optimizer.param_groups:
            lr, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (lr - before * end) / (1 - before)
            rates.append(end * now + start * (1 - now))
        return rates
