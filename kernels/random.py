"""Random numbers: Philox4x32-10, a counter-based generator.

DESIGN
a. A generator's state is a 64-bit ``seed`` (the key) and a 64-bit ``offset`` (the counter), both passed as dims. One
   counter gives four 32-bit words. Element i depends on (seed, offset, i) alone, so neither threads nor chunks matter.
b. A call over n elements uses the counters offset, offset + 1, ...: ``ceil(n / 4)`` of them where an element takes one
   word (float32 uniform and normal; dropout, bernoulli and bernoulli_each of any dtype), ``ceil(n / 2)`` where it takes
   two (float64 uniform and normal, randint). The caller advances its offset by that; ``ceil(n / 2)`` is always enough.
c. Units are elements. Words are made a block at a time into a buffer on the stack, then turned into numbers; both loops
   run over contiguous memory and vectorise. A range that starts inside a counter makes the whole counter again.
d. Philox computes in uint64: Numba widens uint32 anyway, and LLVM multiplies the low halves in one instruction.

Salmon, Moraes, Dror, Shaw: Parallel random numbers: as easy as 1, 2, 3 (SC 2011); constants as in Random123.
"""

import math

import numpy as np
from numba import types
from numba.extending import overload

from . import math as km
from .contract import JIT, T, dim, f8s, i8, jit, kernel, scalar, u1
from .lanes import stack

WORDS = 512  # words in a block

_jit = jit(forceinline=True)
_u8 = np.uint64
_LOW = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_8, _11, _30, _32, _62 = (np.uint64(n) for n in (8, 11, 30, 32, 62))
_LOW30 = np.uint64((1 << 30) - 1)


# --- the generator ----------------------------------------------------------------------------------------------------


@_jit
def _round(c0, c1, c2, c3, k0, k1):
    a, b = _M0 * c0, _M1 * c2
    return (b >> _32) ^ c1 ^ k0, b & _LOW, (a >> _32) ^ c3 ^ k1, a & _LOW


@_jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of a counter of four words under a key of two, all held in uint64: four words."""
    for _ in range(10):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        k0, k1 = (k0 + _W0) & _LOW, (k1 + _W1) & _LOW
    return c0, c1, c2, c3


@_jit
def _generate(words, seed, counter, count):
    """words[4 * c + k] = word k of the 64-bit number counter + c under the 64-bit seed, for c < count."""
    k0, k1 = _u8(seed) & _LOW, _u8(seed) >> _32
    for c in range(count):
        n = _u8(counter + c)
        w0, w1, w2, w3 = philox(n & _LOW, n >> _32, _u8(0), _u8(0), k0, k1)
        words[4 * c] = np.uint32(w0)
        words[4 * c + 1] = np.uint32(w1)
        words[4 * c + 2] = np.uint32(w2)
        words[4 * c + 3] = np.uint32(w3)


@_jit
def _long(words, i):
    """The i-th pair of words as one 64-bit number."""
    return (_u8(words[2 * i]) << _32) | _u8(words[2 * i + 1])


# --- words to numbers, for float32 and float64 ------------------------------------------------------------------------


def _by_type(single, double):
    """A function for kernels that is ``single`` if its first argument is a float32, else ``double``."""

    def choose(like, words, i):
        pass

    @overload(choose, jit_options={**JIT, "forceinline": True})
    def choose_overload(like, words, i):
        return single if like == types.float32 else double

    return choose


_per_counter = _by_type(lambda like, words, i: 4, lambda like, words, i: 2)

# u in [0, 1): 24 bits, 53 bits
_unit = _by_type(
    lambda like, words, i: np.float32(words[i] >> np.uint32(8)) * np.float32(2.0**-24),
    lambda like, words, i: np.float64(np.int64(_long(words, i) >> _11)) * 2.0**-53,
)

# u in (0, 1], with every bit there is, so that sqrt(-2 log u) reaches 6.7 and 8.6
_positive = _by_type(
    lambda like, words, i: (np.float32(words[i]) + np.float32(0.5)) * np.float32(2.0**-32),
    lambda like, words, i: (np.float64(np.int64(_long(words, i) >> _11)) + 0.5) * 2.0**-53,
)


def _taylor(like, first, count):
    """Coefficients (-1)^k / (first + 2k)! of sin (first = 1) and cos (first = 0), typed."""
    return [like((-1) ** k / math.factorial(first + 2 * k)) for k in range(count)]


def _circle32(like, words, i):
    """cos and sin of a random angle: the two top bits say which quadrant, the others where in [-pi/4, pi/4)."""
    w = words[i]
    f = np.float32(np.int32(w & _MASK32)) * np.float32(2.0**-30) - np.float32(0.5)
    t = f * np.float32(math.pi / 2)
    z = t * t
    s = t * (_S0 + z * (_S1 + z * (_S2 + z * (_S3 + z * _S4))))
    c = _C0 + z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * _C5))))
    return _rotate(c, s, w >> np.uint32(30))


def _circle64(like, words, i):
    w = _long(words, i)
    f = np.float64(np.int64((w << np.uint64(2)) >> _11)) * 2.0**-53 - 0.5
    t = f * (math.pi / 2)
    z = t * t
    s = t * (_D0 + z * (_D1 + z * (_D2 + z * (_D3 + z * (_D4 + z * (_D5 + z * (_D6 + z * (_D7 + z * _D8))))))))
    c = _E5 + z * (_E6 + z * (_E7 + z * (_E8 + z * _E9)))
    c = _E0 + z * (_E1 + z * (_E2 + z * (_E3 + z * (_E4 + z * c))))
    return _rotate(c, s, w >> _62)


@_jit
def _rotate(c, s, quadrant):
    """(c, s) turned by quadrant * pi / 2."""
    odd, over = (quadrant & 1) != 0, (quadrant & 2) != 0
    x, y = (-s if odd else c), (c if odd else s)
    return (-x if over else x), (-y if over else y)


_MASK32 = np.uint32((1 << 30) - 1)
_S0, _S1, _S2, _S3, _S4 = _taylor(np.float32, 1, 5)
_C0, _C1, _C2, _C3, _C4, _C5 = _taylor(np.float32, 0, 6)
_D0, _D1, _D2, _D3, _D4, _D5, _D6, _D7, _D8 = _taylor(np.float64, 1, 9)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9 = _taylor(np.float64, 0, 10)
_circle = _by_type(_circle32, _circle64)


# --- kernels ----------------------------------------------------------------------------------------------------------


@kernel
def words(y: i8, seed: dim, offset: dim, lo, hi):
    """y[i] = word i % 4 of counter offset + i // 4 under seed, in [0, 2**32); y (n,)."""
    w = stack(np.uint32(0), WORDS)
    start = lo - lo % 4
    while start < hi:
        stop = start + WORDS if start + WORDS < hi else hi
        _generate(w, seed, offset + start // 4, (stop - start + 3) // 4)
        for i in range(lo if start < lo else start, stop):
            y[i] = w[i - start]
        start += WORDS


@words.reference
def _words(y, seed, offset):
    y[:] = reference_words(seed, offset, y.size)


@kernel
def uniform(y: T, seed: dim, offset: dim, low: scalar, high: scalar, lo, hi):
    """y[i] = low + u * (high - low) in [low, high); u of 24 bits (float32) or 53 (float64)."""
    w = stack(np.uint32(0), WORDS)
    per = _per_counter(T(0), w, 0)
    span = WORDS // 4 * per
    width = high - low
    start = lo - lo % per
    while start < hi:
        stop = start + span if start + span < hi else hi
        _generate(w, seed, offset + start // per, (stop - start + per - 1) // per)
        for i in range(lo if start < lo else start, stop):
            v = low + _unit(T(0), w, i - start) * width
            y[i] = v if v < high else low  # rounding may reach high
        start += span


@uniform.reference
def _uniform(y, seed, offset, low, high):
    y[:] = low + reference_unit(y.dtype, seed, offset, y.size) * (high - low)


@kernel
def normal(y: T, seed: dim, offset: dim, mean: scalar, std: scalar, lo, hi):
    """y[2p], y[2p + 1] = mean + std * sqrt(-2 log u) * (cos, sin)(angle): Box and Muller; never inf."""
    w = stack(np.uint32(0), WORDS)
    z = stack(T(0), WORDS)
    per = _per_counter(T(0), w, 0)
    span = WORDS // 4 * per
    start = lo - lo % per
    while start < hi:
        stop = start + span if start + span < hi else hi
        counters = (stop - start + per - 1) // per
        _generate(w, seed, offset + start // per, counters)
        for p in range(counters * per // 2):
            r = np.sqrt(T(-2) * km.log(_positive(T(0), w, 2 * p)))
            c, s = _circle(T(0), w, 2 * p + 1)
            z[2 * p] = r * c
            z[2 * p + 1] = r * s
        for i in range(lo if start < lo else start, stop):
            y[i] = mean + std * z[i - start]
        start += span


@normal.reference
def _normal(y, seed, offset, mean, std):
    if y.dtype == np.float32:
        w = reference_words(seed, offset, y.size + y.size % 2).astype(np.float64)
        u, turn = (w[0::2] + 0.5) / 2.0**32, w[1::2] / 2.0**32
    else:
        w = reference_words(seed, offset, 2 * (y.size + y.size % 2))
        u = ((w[0::4] << 21 | w[1::4] >> 11) + 0.5) / 2.0**53
        turn = w[2::4] / 2.0**32 + w[3::4] / 2.0**64
    angle = 2 * np.pi * (turn - 0.125)
    z = np.sqrt(-2 * np.log(u)) * np.stack([np.cos(angle), np.sin(angle)])
    y[:] = (mean + std * z.T.reshape(-1))[: y.size]


@kernel
def randint(y: i8, seed: dim, offset: dim, low: dim, high: dim, lo, hi):
    """y[i] = low + (w * (high - low) >> 64) in [low, high), w of 64 bits; bias below (high - low) / 2**64."""
    w = stack(np.uint32(0), WORDS)
    count = _u8(high - low)
    c0, c1 = count & _LOW, count >> _32
    start = lo - lo % 2
    while start < hi:
        stop = start + WORDS // 2 if start + WORDS // 2 < hi else hi
        _generate(w, seed, offset + start // 2, (stop - start + 1) // 2)
        for i in range(lo if start < lo else start, stop):
            w1, w0 = _u8(w[2 * (i - start)]), _u8(w[2 * (i - start) + 1])
            middle = w1 * c0 + (w0 * c0 >> _32)  # the upper half of a product of 64 bits, by halves
            low_middle = w0 * c1 + (middle & _LOW)
            y[i] = low + np.int64(w1 * c1 + (middle >> _32) + (low_middle >> _32))
        start += WORDS // 2


@randint.reference
def _randint(y, seed, offset, low, high):
    w = reference_words(seed, offset, 2 * y.size).tolist()
    y[:] = [low + ((a << 32 | b) * (high - low) >> 64) for a, b in zip(w[0::2], w[1::2])]


@kernel
def shuffle(y: i8, w: i8, n: dim, lo, hi):
    """y = a random order of 0..n-1 by the 32-bit words w (n,): Fisher-Yates, bias below n / 2**32. One unit."""
    if lo < hi:
        for i in range(n):
            y[i] = i
        for i in range(n - 1, 0, -1):
            j = np.int64((_u8(w[i]) * _u8(i + 1)) >> _32)
            t = y[i]
            y[i] = y[j]
            y[j] = t


@shuffle.reference
def _shuffle(y, w, n):
    """Durstenfeld, Algorithm 235, CACM 7 (1964)."""
    y[:] = np.arange(n)
    for i in range(n - 1, 0, -1):
        j = int(w[i]) * (i + 1) >> 32
        y[i], y[j] = y[j], y[i]


@_jit
def _threshold(p):
    """A word below it is an event of probability p."""
    return _u8(np.ceil(p * 4294967296.0))


@kernel
def bernoulli(y: T, seed: dim, offset: dim, p: f8s, lo, hi):
    """y[i] = 1 with probability p, else 0; y (n,) of any dtype."""
    w = stack(np.uint32(0), WORDS)
    limit = _threshold(p)
    start = lo - lo % 4
    while start < hi:
        stop = start + WORDS if start + WORDS < hi else hi
        _generate(w, seed, offset + start // 4, (stop - start + 3) // 4)
        for i in range(lo if start < lo else start, stop):
            y[i] = T(1) if _u8(w[i - start]) < limit else T(0)
        start += WORDS


@bernoulli.reference
def _bernoulli(y, seed, offset, p):
    y[:] = reference_words(seed, offset, y.size) < p * 2.0**32


@kernel
def bernoulli_each(y: T, p: T, seed: dim, offset: dim, lo, hi):
    """y[i] = 1 with probability p[i], else 0; y, p (n,) floats."""
    w = stack(np.uint32(0), WORDS)
    start = lo - lo % 4
    while start < hi:
        stop = start + WORDS if start + WORDS < hi else hi
        _generate(w, seed, offset + start // 4, (stop - start + 3) // 4)
        for i in range(lo if start < lo else start, stop):
            y[i] = T(1) if np.float64(w[i - start]) < np.float64(p[i]) * 4294967296.0 else T(0)
        start += WORDS


@bernoulli_each.reference
def _bernoulli_each(y, p, seed, offset):
    y[:] = reference_words(seed, offset, y.size) < p.astype(np.float64) * 2.0**32


@kernel
def dropout(y: T, mask: u1, x: T, seed: dim, offset: dim, p: f8s, scale: scalar, lo, hi):
    """mask[i] = 0 with probability p, else 1; y = x * scale where mask, else 0; y, mask, x (n,)."""
    w = stack(np.uint32(0), WORDS)
    limit = _threshold(p)
    start = lo - lo % 4
    while start < hi:
        stop = start + WORDS if start + WORDS < hi else hi
        _generate(w, seed, offset + start // 4, (stop - start + 3) // 4)
        for i in range(lo if start < lo else start, stop):
            kept = _u8(w[i - start]) >= limit
            mask[i] = kept
            y[i] = x[i] * scale if kept else T(0)
        start += WORDS


@dropout.reference
def _dropout(y, mask, x, seed, offset, p, scale):
    mask[:] = reference_words(seed, offset, y.size) >= p * 2.0**32
    y[:] = np.where(mask, x * y.dtype.type(scale), 0)


@kernel
def ddropout(dx: T, dy: T, mask: u1, scale: scalar, lo, hi):
    """dx = dy * scale where mask, else 0; all (n,)."""
    for i in range(lo, hi):
        dx[i] = dy[i] * scale if mask[i] != 0 else T(0)


@ddropout.reference
def _ddropout(dx, dy, mask, scale):
    dx[:] = np.where(mask, dy * dx.dtype.type(scale), 0)


# --- the generator in NumPy, for the references -----------------------------------------------------------------------


def reference_philox(counter, key):
    """Philox4x32-10 of counters (n, 4) under keys (n, 2), uint64 arrays of words: words (n, 4)."""
    c, k = [np.array(w, _u8) for w in np.transpose(counter)], [np.array(w, _u8) for w in np.transpose(key)]
    for _ in range(10):
        a, b = _M0 * c[0], _M1 * c[2]
        c = [(b >> _32) ^ c[1] ^ k[0], b & _LOW, (a >> _32) ^ c[3] ^ k[1], a & _LOW]
        k = [(k[0] + _W0) & _LOW, (k[1] + _W1) & _LOW]
    return np.stack(c, axis=1)


def reference_words(seed, offset, n):
    """The first n words of a stream, as int64."""
    counter = np.arange(-(-n // 4), dtype=np.int64).astype(_u8) + _u8(offset % 2**64)
    zero = np.zeros_like(counter)
    key = np.broadcast_to(np.array([seed % 2**32, seed % 2**64 >> 32], _u8), (counter.size, 2))
    out = reference_philox(np.stack([counter & _LOW, counter >> _32, zero, zero], axis=1), key)
    return out.reshape(-1)[:n].astype(np.int64)


def reference_unit(dtype, seed, offset, n):
    """u in [0, 1) of each of n elements, float64."""
    if dtype == np.float32:
        return (reference_words(seed, offset, n) >> 8) / 2.0**24
    w = reference_words(seed, offset, 2 * n)
    return (w[0::2] << 21 | w[1::2] >> 11) / 2.0**53
