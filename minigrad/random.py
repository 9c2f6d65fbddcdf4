"""Random numbers from a counter-based generator: they depend on its state alone, not on threads, chunks or device.

A ``Generator`` is a seed and an offset. Each call takes as many counters as its elements need and moves the offset on.
Other devices make the same words of the same state: masks agree to the bit, normal numbers but for the last bits.
"""

import math
import os
import threading
from operator import index

from ._engine import Kernel, Tensor, copy_, empty
from ._engine import _cast as cast
from ._gradmode import no_grad
from ._record import current
from ._storage import float32, int64, uint8
from .creation import _finish, like_of, model, sizes, tensor, zeros
from .ops.pointwise import minimum, where
from .ops.sorting import topk

# estimated nanoseconds an element
_K_UNIFORM, _K_NORMAL = Kernel("random.uniform", 1.5), Kernel("random.normal", 4)
_K_RANDINT, _K_BERNOULLI = Kernel("random.randint", 3), Kernel("random.bernoulli_each", 1.5)
_K_WORDS, _K_SHUFFLE = Kernel("random.words", 0.6), Kernel("random.shuffle", 3)
_DEFAULT_SEED = 67280421310721  # PyTorch's, for a new Generator
_MASK = 2**64 - 1


def _signed(word):
    """A 64-bit word as the signed integer that kernels take."""
    return word - 2**64 if word >> 63 else word


class Generator:
    """A stream of random numbers: the same seed gives the same numbers, at any number of threads.

    >>> import minigrad as mg
    >>> g = mg.Generator().manual_seed(1)
    >>> a = mg.rand(3, generator=g)
    >>> mg.rand(3, generator=g.manual_seed(1)).tolist() == a.tolist()
    True
    """

    def __init__(self, device="cpu"):
        from .device import device as device_type

        self.device = device_type(device)
        self._seed, self._offset, self._lock = _DEFAULT_SEED, 0, threading.Lock()

    def manual_seed(self, seed):
        """Start the stream of ``seed``, any integer of 64 bits, signed or not; the generator itself."""
        seed = index(seed)
        if not -(2**63) <= seed <= _MASK:
            raise RuntimeError(f"Overflow when unpacking long long: seed {seed} needs more than 64 bits")
        self._seed, self._offset = seed & _MASK, 0
        _refuse()
        return self

    def seed(self):
        """Start a stream of a seed from the operating system, and return that seed."""
        self.manual_seed(int.from_bytes(os.urandom(8), "little"))
        return self._seed

    def initial_seed(self):
        """The seed that the stream was started with."""
        return self._seed

    def get_state(self):
        """The state as a uint8 tensor of 16 bytes: seed and offset."""
        words = self._seed.to_bytes(8, "little") + self._offset.to_bytes(8, "little")
        return tensor(list(words), dtype=uint8, device="cpu")

    def set_state(self, new_state):
        """Continue from what ``get_state`` returned."""
        if not isinstance(new_state, Tensor) or new_state.dtype is not uint8 or new_state.shape != (16,):
            raise TypeError("expected a state as get_state() returns it: a uint8 tensor of 16 elements")
        words = bytes(new_state.tolist())
        self._seed, self._offset = int.from_bytes(words[:8], "little"), int.from_bytes(words[8:], "little")
        _refuse()
        return self

    def take(self, n):
        """(seed, offset) for a kernel over ``n`` elements, which are then used up; both as signed 64-bit integers."""
        with self._lock:
            seed, offset = self._seed, self._offset
            self._offset = (offset + (n + 1) // 2) & _MASK
        recorder = current()
        if recorder is not None:
            recorder.taken(self, n, _signed(seed), _signed(offset))
        return _signed(seed), _signed(offset)

    def __reduce__(self):
        return _restore, (self.get_state().tolist(),)

    def __repr__(self):
        return f"<minigrad.Generator seed={self._seed} offset={self._offset}>"


def _refuse():
    recorder = current()
    if recorder is not None:
        recorder.refuses("sets the state of a random generator")


def _restore(state):
    return Generator().set_state(tensor(state, dtype=uint8, device="cpu"))


default_generator = Generator()
default_generator.seed()


def manual_seed(seed):
    """Start the stream of ``seed`` in the default generator, and return that generator.

    >>> import minigrad as mg
    >>> mg.manual_seed(0).initial_seed()
    0
    """
    return default_generator.manual_seed(seed)


def seed():
    """Start the default generator from a seed of the operating system, and return that seed."""
    return default_generator.seed()


def initial_seed():
    """The seed of the default generator."""
    return default_generator.initial_seed()


def get_rng_state():
    """The state of the default generator, a uint8 tensor."""
    return default_generator.get_state()


def set_rng_state(new_state):
    """Set the state of the default generator to what ``get_rng_state`` returned."""
    default_generator.set_state(new_state)


def _run(kernel, generator, made, inputs, dims, scalars):
    """Fill ``made`` from the next counters of ``generator``."""
    if generator is None:
        generator = default_generator
    elif not isinstance(generator, Generator):
        raise TypeError(f"generator must be a minigrad.Generator, got {type(generator).__name__}")
    kernel((made,), inputs, generator.take(made.numel()) + dims, scalars)
    return made


def _floating(name, dtype, shape, like):
    made = empty(shape, dtype, like)
    if not made.dtype.is_floating_point:
        raise RuntimeError(f'"{name}" not implemented for {made.dtype!r}: floating-point dtypes only')
    return made


def rand(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform numbers in [0, 1).

    >>> import minigrad as mg
    >>> mg.rand(2, 3).shape
    minigrad.Size([2, 3])
    """
    made = _floating("rand", dtype, sizes("rand", size), like_of(device))
    return _finish(_run(_K_UNIFORM, generator, made, (), (), (0.0, 1.0)), device, requires_grad)


def randn(*size, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal numbers of mean 0 and standard deviation 1.

    >>> import minigrad as mg
    >>> mg.randn((2, 3)).dtype
    minigrad.float32
    """
    made = _floating("randn", dtype, sizes("randn", size), like_of(device))
    return _finish(_run(_K_NORMAL, generator, made, (), (), (0.0, 1.0)), device, requires_grad)


def normal(mean=0.0, std=1.0, size=None, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal numbers of ``mean`` and ``std``: numbers with a ``size``, or tensors that broadcast together.

    >>> import minigrad as mg
    >>> mg.normal(2.0, 0.0, (2,))
    tensor([2., 2.])
    """
    if isinstance(mean, Tensor) or isinstance(std, Tensor):
        if size is not None:
            raise TypeError("normal(): size is for a mean and std that are numbers")
        mean, std = (v if isinstance(v, Tensor) else tensor(float(v), device="cpu") for v in (mean, std))
        if std.numel() and bool((std.detach() < 0).any()):
            raise RuntimeError("normal expects all elements of std >= 0.0")
        with no_grad():
            both = mean + std
            made = _floating("normal", both.dtype, both.shape, both)
            return _run(_K_NORMAL, generator, made, (), (), (0.0, 1.0)) * std + mean
    if size is None:
        raise TypeError("normal(): missing argument 'size', needed when mean and std are numbers")
    _check_std(std)
    made = _floating("normal", dtype, sizes("normal", (size,)), like_of(device))
    return _finish(_run(_K_NORMAL, generator, made, (), (), (mean, std)), device, requires_grad)


def _check_std(std):
    if not std >= 0:
        raise RuntimeError(f"normal expects std >= 0.0, but found std {std}")


def randint(low, high=None, size=None, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Integers in [low, high), int64 unless ``dtype`` says otherwise: ``randint(high, size)`` starts at 0.

    >>> import minigrad as mg
    >>> mg.randint(5, 6, (3,))
    tensor([5, 5, 5])
    """
    if size is None:
        low, high, size = 0, low, high
    if size is None or high is None:
        raise TypeError("randint(): expected randint(high, size) or randint(low, high, size)")
    low, high = index(low), index(high)
    if low >= high:
        raise RuntimeError(f"random_ expects 'from' to be less than 'to', but got from={low} >= to={high}")
    if low < -(2**63) or high > 2**63 - 1:
        raise RuntimeError(f"randint(): [{low}, {high}) does not fit in int64")
    made = empty(sizes("randint", (size,)), int64, like_of(device))
    made = _run(_K_RANDINT, generator, made, (), (low, high), ())
    made = made if dtype is None else _fitting(made, low, high - 1, dtype)
    return _finish(made, device, requires_grad)


def _fitting(made, least, most, dtype):
    """``made`` as ``dtype``, which must hold all integers from ``least`` to ``most``."""
    dtype = empty((0,), dtype).dtype
    if dtype.is_floating_point:
        bits = 24 if dtype is float32 else 53
        first, last = -(2**bits), 2**bits
    else:
        bits = 1 if dtype.name == "bool" else 8 * dtype.itemsize - dtype.is_signed
        first, last = -(2**bits) if dtype.is_signed else 0, 2**bits - 1
    if least < first or most > last:
        raise RuntimeError(f"from = {least}, to = {most + 1} is out of bounds for {dtype!r}")
    return cast(made, dtype)


def randperm(n, *, generator=None, dtype=int64, device=None, requires_grad=False):
    """A random order of 0 to n - 1, the same on any device: it is made on the CPU.

    >>> import minigrad as mg
    >>> sorted(mg.randperm(4).tolist())
    [0, 1, 2, 3]
    """
    n = index(n)
    if n < 0:
        raise RuntimeError(f"n must be non-negative, got {n}")
    words, order = _run(_K_WORDS, generator, empty((n,), int64), (), (), ()), empty((n,), int64)
    _K_SHUFFLE((order,), (words,), (n,), units=1, work=n)
    return _finish(_fitting(order, 0, max(n - 1, 0), dtype), device, requires_grad)


def rand_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Uniform numbers in [0, 1) of the shape and dtype of ``input``."""
    shape, dtype = model("rand_like", input, dtype)
    device = input.device if device is None else device
    return rand(shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


def randn_like(input, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Normal numbers of mean 0 and standard deviation 1 of the shape and dtype of ``input``."""
    shape, dtype = model("randn_like", input, dtype)
    device = input.device if device is None else device
    return randn(shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


def randint_like(input, low, high=None, *, generator=None, dtype=None, device=None, requires_grad=False):
    """Integers in [low, high) of the shape and dtype of ``input``; ``randint_like(input, high)`` starts at 0."""
    low, high = (0, low) if high is None else (low, high)
    shape, dtype = model("randint_like", input, dtype)
    device = input.device if device is None else device
    return randint(low, high, shape, generator=generator, dtype=dtype, device=device, requires_grad=requires_grad)


def bernoulli(input, *, generator=None):
    """1 with probability ``input`` (elementwise, in [0, 1]), else 0, in the dtype of ``input``; no gradient.

    >>> import minigrad as mg
    >>> mg.bernoulli(mg.tensor([0.0, 1.0]))
    tensor([0., 1.])
    """
    model("bernoulli", input, None)
    p = input.detach().contiguous()
    made = _floating("bernoulli", p.dtype, p.shape, p)
    if p.numel() and not bool(((p >= 0) & (p <= 1)).all()):
        raise RuntimeError("Expected p_in >= 0 && p_in <= 1 to be true for every element of input")
    return _run(_K_BERNOULLI, generator, made, (p,), (), ())


def multinomial(input, num_samples, replacement=False, *, generator=None):
    """``num_samples`` categories of each row of weights (N, C) or (C,), int64; without replacement all differ.

    Weights need not add up to 1. RuntimeError if they are negative, infinite, nan or all 0.

    >>> import minigrad as mg
    >>> mg.multinomial(mg.tensor([0.0, 1.0, 0.0]), 3, replacement=True)
    tensor([1, 1, 1])
    """
    model("multinomial", input, None)
    if not input.is_floating_point():
        raise RuntimeError(f"multinomial only supports floating-point dtypes for input, got: {input.dtype!r}")
    if input.ndim not in (1, 2):
        raise RuntimeError("prob_dist must be 1 or 2 dim")
    if num_samples <= 0:
        raise RuntimeError("cannot sample n_sample <= 0 samples")
    if not replacement and num_samples > input.shape[-1]:
        raise RuntimeError("cannot sample n_sample > prob_dist.size(-1) samples without replacement")
    p = input.detach().double()
    if not bool(((p >= 0) & (p < math.inf)).all()):
        raise RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    if bool((p.sum(-1) <= 0).any()):
        raise RuntimeError("invalid multinomial distribution (sum of probabilities <= 0)")
    if not replacement:  # the first arrivals of processes with these rates
        arrival = -_uniform_like(p, p.shape, generator).log() / p
        return topk(arrival, num_samples, largest=False).indices
    shares = p.cumsum(-1)
    u = _uniform_like(p, (*p.shape[:-1], num_samples), generator) * shares[..., -1:]
    drawn = _how_many_below(shares, u)
    last = p.shape[-1] - 1 - (p > 0).long().flip(-1).argmax(-1, True)  # rounding may go past it
    return minimum(drawn, last)


def _how_many_below(x, bounds):
    """How many of each row of x (..., C), which ascends, are below each of ``bounds`` (..., K): int64 (..., K)."""
    n = x.shape[-1]
    if n * bounds.numel() <= 1 << 20:
        return (x.unsqueeze(-2) < bounds.unsqueeze(-1)).sum(-1)
    found = zeros(bounds.shape, dtype=int64, device=x.device)
    for bit in reversed(range(n.bit_length())):  # from the highest
        ahead = found + (1 << bit)
        found = where((ahead <= n) & (x.gather(-1, ahead.clamp(max=n) - 1) < bounds), ahead, found)
    return found


def _uniform_like(x, shape, generator):
    """Uniform numbers in (0, 1] on the device of ``x``."""
    return 1 - rand(shape, generator=generator, dtype=x.dtype, device=x.device)


# --- in place: methods of Tensor --------------------------------------------------------------------------------------


def uniform_(self, a=0.0, b=1.0, *, generator=None):
    """Fill with uniform numbers in [a, b); the tensor."""
    if not a <= b:
        raise RuntimeError(f"uniform_ expects to return a [from, to) range, but found from={a} > to={b}")
    made = _floating("uniform_", self.dtype, self.shape, self)
    return copy_(self, _run(_K_UNIFORM, generator, made, (), (), (a, b)))


def normal_(self, mean=0.0, std=1.0, *, generator=None):
    """Fill with normal numbers of ``mean`` and ``std``; the tensor."""
    _check_std(std)
    made = _floating("normal_", self.dtype, self.shape, self)
    return copy_(self, _run(_K_NORMAL, generator, made, (), (), (mean, std)))


def bernoulli_(self, p=0.5, *, generator=None):
    """Fill with 1 with probability ``p`` (a number, or a tensor that broadcasts), else 0; the tensor."""
    p = p.detach() if isinstance(p, Tensor) else tensor(float(p), device="cpu")
    each = copy_(empty(self.shape, p.dtype, self), p)
    return copy_(self, bernoulli(each, generator=generator))


def random_(self, low=None, high=None, *, generator=None):
    """Fill with integers in [low, high), [0, low), or those that the dtype holds exactly, from 0 on; the tensor."""
    if low is None:
        kind = self.dtype
        bits = {"float32": 24, "float64": 53, "bool": 1}.get(kind.name, 8 * kind.itemsize - kind.is_signed)
        low, high = 0, min(2**bits, 2**63 - 1)
    elif high is None:
        low, high = 0, low
    made = randint(low, high, self.shape, generator=generator, dtype=self.dtype, device=self.device)
    return copy_(self, made)
