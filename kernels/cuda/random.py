"""Random numbers, the same words as on the CPU: twins of kernels/random.py, where the generator is described.

DESIGN
a. A thread makes the four words of one counter and the elements that come of them. Masks and uniform numbers are those
   of the CPU to the bit; normal ones differ in the last bits, as logarithms do.
b. ``shuffle`` has no twin: each of its exchanges depends on all before. ``randperm`` runs on the CPU.
"""

import math

import numpy as np
from numba import cuda

from .contract import T, dim, f8s, i8, jit, kernel, scalar, u1
from .groups import by_type
from .parts import aligned, load4, store4

PER = 1024  # units of a block: one counter a thread where that makes four elements

_u8, _u4 = np.uint64, np.uint32
_LOW = np.uint64(0xFFFFFFFF)
_M0, _M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_W0, _W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_2, _11, _32, _62 = (np.uint64(n) for n in (2, 11, 32, 62))


# --- the generator ----------------------------------------------------------------------------------------------------


@jit
def _round(c0, c1, c2, c3, k0, k1):
    a, b = _M0 * _u8(c0), _M1 * _u8(c2)  # 32 by 32 bits are one instruction
    return _u4(b >> _32) ^ c1 ^ k0, _u4(b & _LOW), _u4(a >> _32) ^ c3 ^ k1, _u4(a & _LOW)


@jit
def philox(c0, c1, c2, c3, k0, k1):
    """Philox4x32-10 of a counter of four words under a key of two, all uint32: four words."""
    for _ in range(10):
        c0, c1, c2, c3 = _round(c0, c1, c2, c3, k0, k1)
        c0, c1, c2, c3 = _u4(c0), _u4(c1), _u4(c2), _u4(c3)
        k0, k1 = _u4((_u8(k0) + _W0) & _LOW), _u4((_u8(k1) + _W1) & _LOW)
    return c0, c1, c2, c3


@jit
def _words(seed, offset, c):
    """The words of the 64-bit number offset + c under the 64-bit seed."""
    n, s = _u8(_i8(offset)) + _u8(_i8(c)), _u8(_i8(seed))
    return philox(_u4(n & _LOW), _u4(n >> _32), _u4(0), _u4(0), _u4(s & _LOW), _u4(s >> _32))


@jit
def _i8(n):
    return np.int64(n)


@jit
def _long(w0, w1):
    return (_u8(w0) << _32) | _u8(w1)


@jit
def _load(x, i, units, whole):
    """x[i : i + 4], where x ends before its last element instead."""
    if whole and i + 4 <= units:
        return load4(x, i)
    return x[i], x[min(i + 1, units - 1)], x[min(i + 2, units - 1)], x[min(i + 3, units - 1)]


@jit
def _four(y, i, units, whole, a, b, c, d):
    """y[i : i + 4] = a, b, c, d, as far as y goes."""
    if whole and i + 4 <= units:
        store4(y, i, a, b, c, d)
    else:
        y[i] = a
        if i + 1 < units:
            y[i + 1] = b
        if i + 2 < units:
            y[i + 2] = c
        if i + 3 < units:
            y[i + 3] = d


# --- words to numbers, for float32 and float64 ------------------------------------------------------------------------

# elements of a counter
_per_counter = by_type(lambda y, a, b, c, d, e: 4, lambda y, a, b, c, d, e: 2)


@jit
def _unit32(w):
    return np.float32(w >> _u4(8)) * np.float32(2.0**-24)


@jit
def _unit64(w0, w1):
    return np.float64(np.int64(_long(w0, w1) >> _11)) * 2.0**-53


@jit
def _between(u, low, high):
    v = low + u * (high - low)
    return v if v < high else low  # rounding may reach high


@jit
def _uniform32(y, i, units, low, high, words):
    a, b = _between(_unit32(words[0]), low, high), _between(_unit32(words[1]), low, high)
    c, d = _between(_unit32(words[2]), low, high), _between(_unit32(words[3]), low, high)
    _four(y, i, units, aligned(y), a, b, c, d)


@jit
def _uniform64(y, i, units, low, high, words):
    y[i] = _between(_unit64(words[0], words[1]), low, high)
    if i + 1 < units:
        y[i + 1] = _between(_unit64(words[2], words[3]), low, high)


_uniform = by_type(_uniform32, _uniform64)


def _taylor(like, first, count):
    """Coefficients (-1)^k / (first + 2k)! of sin (first = 1) and cos (first = 0), typed."""
    return [like((-1) ** k / math.factorial(first + 2 * k)) for k in range(count)]


_MASK32 = np.uint32((1 << 30) - 1)
_S0, _S1, _S2, _S3, _S4 = _taylor(np.float32, 1, 5)
_C0, _C1, _C2, _C3, _C4, _C5 = _taylor(np.float32, 0, 6)
_D0, _D1, _D2, _D3, _D4, _D5, _D6, _D7, _D8 = _taylor(np.float64, 1, 9)
_E0, _E1, _E2, _E3, _E4, _E5, _E6, _E7, _E8, _E9 = _taylor(np.float64, 0, 10)
_QUARTER32 = np.float32(math.pi / 2)


@jit
def _rotate(c, s, quadrant):
    """(c, s) turned by quadrant * pi / 2."""
    odd, over = (quadrant & 1) != 0, (quadrant & 2) != 0
    x, y = (-s if odd else c), (c if odd else s)
    return (-x if over else x), (-y if over else y)


@jit
def _pair32(w, turn):
    """Two normal numbers of two words: Box and Muller, the angle as on the CPU."""
    u = (np.float32(w) + np.float32(0.5)) * np.float32(2.0**-32)
    f = np.float32(np.int32(turn & _MASK32)) * np.float32(2.0**-30) - np.float32(0.5)
    t = f * _QUARTER32
    z = t * t
    s = t * (_S0 + z * (_S1 + z * (_S2 + z * (_S3 + z * _S4))))
    c = _C0 + z * (_C1 + z * (_C2 + z * (_C3 + z * (_C4 + z * _C5))))
    c, s = _rotate(c, s, np.int32(turn >> _u4(30)))
    r = math.sqrt(np.float32(-2) * math.log(u))
    return r * c, r * s


@jit
def _pair64(w0, w1, t0, t1):
    u = (np.float64(np.int64(_long(w0, w1) >> _11)) + 0.5) * 2.0**-53
    turn = _long(t0, t1)
    f = np.float64(np.int64((turn << _2) >> _11)) * 2.0**-53 - 0.5
    t = f * (math.pi / 2)
    z = t * t
    s = t * (_D0 + z * (_D1 + z * (_D2 + z * (_D3 + z * (_D4 + z * (_D5 + z * (_D6 + z * (_D7 + z * _D8))))))))
    c = _E5 + z * (_E6 + z * (_E7 + z * (_E8 + z * _E9)))
    c = _E0 + z * (_E1 + z * (_E2 + z * (_E3 + z * (_E4 + z * c))))
    c, s = _rotate(c, s, np.int32(turn >> _62))
    r = math.sqrt(-2.0 * math.log(u))
    return r * c, r * s


@jit
def _normal32(y, i, units, mean, std, words):
    a, b = _pair32(words[0], words[1])
    c, d = _pair32(words[2], words[3])
    _four(y, i, units, aligned(y), mean + std * a, mean + std * b, mean + std * c, mean + std * d)


@jit
def _normal64(y, i, units, mean, std, words):
    a, b = _pair64(words[0], words[1], words[2], words[3])
    y[i] = mean + std * a
    if i + 1 < units:
        y[i + 1] = mean + std * b


_normal = by_type(_normal32, _normal64)


# --- kernels ----------------------------------------------------------------------------------------------------------


@kernel(per=PER, types=(("int64", ""),))
def words(y: i8, seed: dim, offset: dim, units):
    """y[i] = word i % 4 of counter offset + i // 4 under seed, in [0, 2**32); y (n,)."""
    for c in range(cuda.grid(1), (units + 3) // 4, cuda.gridsize(1)):
        a, b, p, q = _words(seed, offset, c)
        _four(y, 4 * c, units, aligned(y), _i8(a), _i8(b), _i8(p), _i8(q))


@kernel(per=PER, fma=False)
def uniform(y: T, seed: dim, offset: dim, low: scalar, high: scalar, units):
    """y[i] = low + u * (high - low) in [low, high); u of 24 bits (float32) or 53 (float64)."""
    per = _per_counter(y, 0, 0, 0, 0, 0)
    for c in range(cuda.grid(1), (units + per - 1) // per, cuda.gridsize(1)):
        _uniform(y, per * c, units, low, high, _words(seed, offset, c))


@kernel(per=PER)
def normal(y: T, seed: dim, offset: dim, mean: scalar, std: scalar, units):
    """y[2p], y[2p + 1] = mean + std * sqrt(-2 log u) * (cos, sin)(angle): Box and Muller; never inf."""
    per = _per_counter(y, 0, 0, 0, 0, 0)
    for c in range(cuda.grid(1), (units + per - 1) // per, cuda.gridsize(1)):
        _normal(y, per * c, units, mean, std, _words(seed, offset, c))


@jit
def _scaled(w0, w1, low, c0, c1):
    """low + (w * c >> 64) of two 64-bit numbers by their halves."""
    high, less = _u8(w0), _u8(w1)
    middle = high * c0 + (less * c0 >> _32)
    below = less * c1 + (middle & _LOW)
    return low + np.int64(high * c1 + (middle >> _32) + (below >> _32))


@kernel(per=PER, types=(("int64", ""),))
def randint(y: i8, seed: dim, offset: dim, low: dim, high: dim, units):
    """y[i] = low + (w * (high - low) >> 64) in [low, high), w of 64 bits; bias below (high - low) / 2**64."""
    count = _u8(_i8(high)) - _u8(_i8(low))
    c0, c1 = count & _LOW, count >> _32
    for c in range(cuda.grid(1), (units + 1) // 2, cuda.gridsize(1)):
        a, b, p, q = _words(seed, offset, c)
        y[2 * c] = _scaled(a, b, low, c0, c1)
        if 2 * c + 1 < units:
            y[2 * c + 1] = _scaled(p, q, low, c0, c1)


@jit
def _threshold(p):
    """A word below it is an event of probability p."""
    return _u8(math.ceil(p * 4294967296.0))


@kernel(per=PER, types=(("float32", ""), ("bool", "")))
def bernoulli(y: T, seed: dim, offset: dim, p: f8s, units):
    """y[i] = 1 with probability p, else 0; y (n,) of any dtype."""
    limit = _threshold(p)
    for c in range(cuda.grid(1), (units + 3) // 4, cuda.gridsize(1)):
        a, b, e, f = _words(seed, offset, c)
        a, b, e, f = _u8(a) < limit, _u8(b) < limit, _u8(e) < limit, _u8(f) < limit
        _four(y, 4 * c, units, aligned(y), 1 if a else 0, 1 if b else 0, 1 if e else 0, 1 if f else 0)


@jit
def _event(w, p):
    return 1 if np.float64(w) < np.float64(p) * 4294967296.0 else 0


@kernel(per=PER)
def bernoulli_each(y: T, p: T, seed: dim, offset: dim, units):
    """y[i] = 1 with probability p[i], else 0; y, p (n,) floats."""
    for c in range(cuda.grid(1), (units + 3) // 4, cuda.gridsize(1)):
        w0, w1, w2, w3 = _words(seed, offset, c)
        whole = aligned(y) and aligned(p)
        a, b, e, f = _load(p, 4 * c, units, whole)
        _four(y, 4 * c, units, whole, _event(w0, a), _event(w1, b), _event(w2, e), _event(w3, f))


@jit
def _keep(x, kept, scale):
    return x * scale if kept else type(x)(0)


@kernel(per=PER)
def dropout(y: T, mask: u1, x: T, seed: dim, offset: dim, p: f8s, scale: scalar, units):
    """mask[i] = 0 with probability p, else 1; y = x * scale where mask, else 0; y, mask, x (n,)."""
    limit = _threshold(p)
    whole = aligned(x) and aligned(y) and aligned(mask)
    for c in range(cuda.grid(1), (units + 3) // 4, cuda.gridsize(1)):
        w0, w1, w2, w3 = _words(seed, offset, c)
        k0, k1, k2, k3 = _u8(w0) >= limit, _u8(w1) >= limit, _u8(w2) >= limit, _u8(w3) >= limit
        i = 4 * c
        a, b, e, f = _load(x, i, units, whole)
        _four(mask, i, units, whole, 1 if k0 else 0, 1 if k1 else 0, 1 if k2 else 0, 1 if k3 else 0)
        _four(y, i, units, whole, _keep(a, k0, scale), _keep(b, k1, scale), _keep(e, k2, scale), _keep(f, k3, scale))


@kernel(per=PER)
def ddropout(dx: T, dy: T, mask: u1, scale: scalar, units):
    """dx = dy * scale where mask, else 0; all (n,)."""
    whole = aligned(dx) and aligned(dy) and aligned(mask)
    for c in range(cuda.grid(1), (units + 3) // 4, cuda.gridsize(1)):
        i = 4 * c
        a, b, e, f = _load(dy, i, units, whole)
        k0, k1, k2, k3 = _load(mask, i, units, whole)
        a, b = _keep(a, k0 != 0, scale), _keep(b, k1 != 0, scale)
        _four(dx, i, units, whole, a, b, _keep(e, k2 != 0, scale), _keep(f, k3 != 0, scale))
