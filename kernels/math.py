"""Elementary functions for kernels: exp expm1 log log1p tanh sigmoid softplus erf sin cos rsqrt pow.

DESIGN
Numba turns np.exp into a scalar libm call unless Intel's SVML is installed, so a loop that calls it stays scalar. These
are polynomials and selects without branches: LLVM vectorises `for i in range(n): y[i] = exp(x[i])` to full width. The
exceptions, sin and cos, call libm for huge arguments; sin_fast and cos_fast are the vector forms.

* One body serves float32 and float64: `_consts(x)` picks the table of x's own type while typing, and every constant and
  every integer has x's width. (An untyped literal promotes a float32 loop to float64; Numba widens int32 + int32.)
* Every step is an IEEE operation, `llvm.fmuladd` (one fma where the CPU has it) or `llvm.fma`, and no fastmath flag is
  set: the vector body and the scalar tail agree bit for bit, and nothing reassociates the range reductions.
* Results that saturate replace their argument by 0 first, so that they never run through slow denormal arithmetic.
* `forceinline` is LLVM's inlining: unlike inline='always' a helper keeps its own flags, whatever the caller's fastmath.

Methods: exp/expm1: Cody-Waite n*ln2 + r, polynomial in r, 2**n in two factors (the last product rounds a denormal).
log/log1p: fdlibm's s = f/(2+f) series; log1p_unit, softplus: a polynomial, since a division costs more than the higher
degree. pow: exp(y log x), the logarithm in two parts. tanh: Cephes' split at 0.625. erf: x + x*P(x*x) to 1, beyond it
1 - exp(P(|x|)) with P = log(erfc). sin/cos: fdlibm's kernels after a three-part pi/2 reduction (float32's in float64).
Coefficients are our own: weighted least squares at Chebyshev nodes of the stated function, 70 digits (mpmath), weighted
for relative error of the result; the fit adds less than 0.1 ulp, but for float32 exp (0.2).
"""

from typing import NamedTuple

import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import TypingError
from numba.extending import intrinsic, overload

from .contract import JIT, jit

__all__ = ["exp", "expm1", "log", "log1p", "tanh", "sigmoid", "softplus", "erf", "sin", "cos", "rsqrt", "pow"]
__all__ += ["sin_fast", "cos_fast", "beyond_fast", "exp_down", "log1p_unit"]  # of a part of the range only

_jit = jit(forceinline=True)
_UINT = {types.float32: types.uint32, types.float64: types.uint64}
_FLOAT = {u: f for f, u in _UINT.items()}


# --- typed building blocks: LLVM instructions of exactly the type of their arguments


@intrinsic
def _pick(typingctx, x, single, double):
    """`single` if x is a float32, `double` if it is a float64: decided while typing."""
    if x not in _UINT:
        raise TypingError(f"minigrad math needs float32 or float64, not {x}")
    which = 1 if x == types.float32 else 2

    def codegen(context, builder, sig, args):
        return args[which]

    return (single if which == 1 else double)(x, single, double), codegen


def _float_op(name, arity):
    """The LLVM float intrinsic `name`, of the type of its `arity` equal arguments."""

    def build(x, *rest):
        def codegen(context, builder, sig, args):
            return builder.call(_declare(builder, name, args[0].type, arity), args)

        return (x(x, *rest), codegen) if all(y == x for y in rest) else None

    # Numba reads the signature, so one lambda for each arity.
    return intrinsic(
        {
            1: lambda typingctx, x: build(x),
            2: lambda typingctx, x, y: build(x, y),
            3: lambda typingctx, x, y, z: build(x, y, z),
        }[arity]
    )


def _declare(builder, name, type_, arity):
    suffix = "f32" if isinstance(type_, ir.FloatType) else "f64"
    return builder.module.declare_intrinsic(f"{name}.{suffix}", (), ir.FunctionType(type_, [type_] * arity))


_abs, _sqrt, _trunc = _float_op("llvm.fabs", 1), _float_op("llvm.sqrt", 1), _float_op("llvm.trunc", 1)
_copysign = _float_op("llvm.copysign", 2)
mad = _float_op("llvm.fmuladd", 3)  # x*y + z, rounded once where that is the faster way
_fma = _float_op("llvm.fma", 3)  # rounded once always: where exactness depends on it


def _libm(name):
    """A call of libm's float64 function. By name: LLVM may run its own llvm.sin on lanes that do not need it."""

    @intrinsic
    def call(typingctx, x):
        def codegen(context, builder, sig, args):
            function_type = ir.FunctionType(ir.DoubleType(), [ir.DoubleType()])
            function = builder.module.globals.get(name) or ir.Function(builder.module, function_type, name)
            return builder.call(function, args)

        return types.float64(types.float64), codegen

    return call


_libm_sin, _libm_cos = _libm("sin"), _libm("cos")


@intrinsic
def _poly(typingctx, x, coefficients):
    """A polynomial, highest power first: the even and the odd powers by Horner's rule, as two chains half as long.

    Loops of long functions wait for the longest chain, since no processor looks far enough ahead to overlap many.
    """

    def codegen(context, builder, sig, args):
        x, table = args
        fmuladd = _declare(builder, "llvm.fmuladd", x.type, 3)
        count = sig.args[1].count

        def horner(x, first, step):
            total = builder.extract_value(table, first)
            for i in range(first + step, count, step):
                total = builder.call(fmuladd, [total, x, builder.extract_value(table, i)])
            return total

        if count < 4:
            return horner(x, 0, 1)
        square = builder.fmul(x, x)
        return builder.call(fmuladd, [horner(square, count % 2, 2), x, horner(square, 1 - count % 2, 2)])

    return x(x, coefficients), codegen


@intrinsic
def _bits(typingctx, x):
    return _UINT[x](x), lambda context, builder, sig, args: builder.bitcast(
        args[0], context.get_value_type(sig.return_type)
    )


@intrinsic
def _float(typingctx, u):
    return _FLOAT[u](u), lambda context, builder, sig, args: builder.bitcast(
        args[0], context.get_value_type(sig.return_type)
    )


def _int_op(name):
    @intrinsic
    def op(typingctx, u, v):
        return (u(u, v), lambda context, builder, sig, args: getattr(builder, name)(*args)) if u == v else None

    return op


_add, _sub, _and, _or = _int_op("add"), _int_op("sub"), _int_op("and_"), _int_op("or_")
_xor, _shl, _shr = _int_op("xor"), _int_op("shl"), _int_op("lshr")


# --- constants


class _Consts(NamedTuple):
    zero: object
    half: object
    one: object
    two: object
    inf: object
    nan: object
    tiny: object  # below it expm1(x) = log1p(x) = sin(x) = x
    normal: object  # smallest normal number
    small: object  # far below one's last bit, even times itself far above ``normal``
    up: object  # a power of two that makes any denormal normal
    up_log2: object
    magic: object  # 1.5 * 2**mantissa: adding it rounds to an integer, left in the low bits
    log2e: object
    ln2_hi: object  # short enough for n*ln2_hi to be exact
    ln2_lo: object
    exp_min: object  # below it exp is 0
    exp_max: object  # above it exp is inf
    expm1_min: object  # below it expm1 is -1
    log1p_big: object  # above it 1 + x needs no correction
    tanh_max: object  # above it tanh is 1
    tanh_mid: object
    erf_max: object  # above it erf is 1
    sin_max: object  # the pi/2 reduction holds up to here
    mantissa: object  # number of stored mantissa bits
    bias: object  # of the exponent
    to_one: object  # one's bits less sqrthalf's
    sqrthalf_bits: object
    mantissa_mask: object
    split: object  # 2**mantissa, as bits
    split_bias: object  # 2**mantissa + bias, as float
    none: object
    sign: object
    bit0: object
    bit1: object
    to_sign: object  # shift from bit 1 to the sign bit
    least: object  # the logarithm of half the least normal number
    log1p_unit: tuple  # (log(1 + f) - f) / f**2 in f - 1/2, f in [0, 1]
    exp: tuple  # (exp(r) - 1 - r) / r**2
    log: tuple  # (log(1 + f) - 2s) / s**3 in s**2, s = f/(2+f)
    tanh: tuple  # (tanh(x)/x - 1) / x**2 in x**2
    erf: tuple  # erf(x)/x - 1 in x**2
    erfc: tuple  # log(erfc(x)) in x - 1
    sin: tuple  # (sin(x)/x - 1) / x**2 in x**2
    cos: tuple  # (cos(x) - 1 + x**2/2) / x**4 in x**2


def _table(f, u, mantissa, bias, **special):
    """The constants of float type f with the unsigned type u of its width."""
    sqrthalf = int(f(0.5**0.5).view(u))
    common = {
        "zero": 0.0,
        "half": 0.5,
        "one": 1.0,
        "two": 2.0,
        "inf": np.inf,
        "nan": np.nan,
        "normal": np.finfo(f).tiny,
        "small": 2.0**-40,
        "up": 2.0 ** (mantissa + 2),
        "up_log2": mantissa + 2.0,
        "magic": 1.5 * 2.0**mantissa,
        "log2e": 1.4426950408889634,
        "tanh_mid": 0.625,
        "split_bias": 2.0**mantissa + bias,
    }
    integers = {
        "mantissa": mantissa,
        "bias": bias,
        "to_one": (bias << mantissa) - sqrthalf,
        "sqrthalf_bits": sqrthalf,
        "mantissa_mask": (1 << mantissa) - 1,
        "split": (bias + mantissa) << mantissa,
        "none": 0,
        "sign": 1 << f(0).nbytes * 8 - 1,
        "bit0": 1,
        "bit1": 2,
        "to_sign": f(0).nbytes * 8 - 2,
    }
    special = {k: tuple(f(c) for c in v) if isinstance(v, tuple) else f(v) for k, v in special.items()}
    return _Consts(**{k: f(v) for k, v in common.items()}, **{k: u(v) for k, v in integers.items()}, **special)


# fmt: off
_F32 = _table(
    np.float32, np.uint32, 23, 127,
    tiny=2.0**-30, ln2_hi=0.693359375, ln2_lo=-0.00021219444005469057, exp_min=-103.98, exp_max=88.72284,
    expm1_min=-18.0, log1p_big=2.0**26, tanh_max=10.0, sin_max=1e6, erf_max=4.0,
    exp=(0.0013941575, 0.008367097, 0.041666348, 0.16666539, 0.5),
    least=-88.03,
    log1p_unit=(
        -0.003227271, 0.0068820193, -0.010204986, 0.016672323, -0.028902961, 0.051087756, -0.09323188, 0.17922491,
        -0.37813956,
    ),
    log=(0.2357844, 0.28537548, 0.4000033, 0.6666667),
    tanh=(0.002169958, -0.008209976, 0.021715516, -0.05394988, 0.13333236, -0.3333333),
    erf=(7.8824974e-05, -0.0008018855, 0.005189312, -0.026854329, 0.11283597, -0.37612626, 0.12837917),
    erfc=(-2.1790322e-05, 0.00029007543, -0.002013065, 0.01004751, -0.041563988, -0.843107, -2.6389675, -1.8496056),
    sin=(-0.00019518426, 0.008332192, -0.16666655),
    cos=(2.4457819e-05, -0.0013887564, 0.041666653),
)
_F64 = _table(
    np.float64, np.uint64, 52, 1023,
    tiny=2.0**-60, ln2_hi=0.6931471806019545, ln2_lo=-4.2009150726810846e-11, exp_min=-745.14,
    exp_max=709.782712893384, expm1_min=-40.0, log1p_big=2.0**55, tanh_max=22.0, sin_max=1e9, erf_max=6.0,
    exp=(
        2.0921970333602302e-09, 2.5109732451932336e-08, 2.755725075988453e-07, 2.7557242297408165e-06,
        2.4801587351300936e-05, 0.0001984126988794092, 0.0013888888888871369, 0.008333333333320946, 0.04166666666666669,
        0.16666666666666677, 0.5,
    ),
    least=-709.09,
    log1p_unit=(
        2.4603202166753503e-05, -5.07309344710429e-05, 5.345477965134679e-05, -7.1480794736913e-05,
        0.00012516428859072484, -0.00020471744896207678, 0.0003235264801870357, -0.00051657469226026,
        0.0008313357204044324, -0.0013445266570441072, 0.002187648073591699, -0.0035856651069061623,
        0.005929011543464439, -0.009909900753348484, 0.016788742491521663, -0.028943183164691917, 0.0510834461054004,
        -0.09323036636366694, 0.17922493693603717, -0.37813956756734246,
    ),
    log=(
        0.14787798052001958, 0.153149390446694, 0.18183526050977825, 0.22222199396976394, 0.28571428733209703,
        0.39999999999463537, 0.6666666666666725,
    ),
    tanh=(
        6.1499232202600155e-06, -3.0444360139559025e-05, 9.182820568271212e-05, -0.00023717475007539553,
        0.0005895144463542893, -0.0014557419025025555, 0.0035921167205332284, -0.008863234619216268,
        0.02186948849070417, -0.053968253966990024, 0.13333333333331757, -0.33333333333333326,
    ),
    erf=(
        5.958930743134913e-11, -1.1373902296430895e-09, 1.4660051998394843e-08, -1.6350354461959655e-07,
        1.6461004480962034e-06, -1.4925595519506043e-05, 0.00012055331122299266, -0.0008548326981129666,
        0.005223977624823223, -0.026866170645077334, 0.11283791670954882, -0.3761263890318375, 0.1283791670955126,
    ),
    erfc=(
        -4.784137820421564e-12, 1.1756289239795224e-10, -1.3019199184318004e-09, 8.419663875475482e-09,
        -3.301393778847466e-08, 5.7010194076924615e-08, 2.067194262294133e-07, -2.1345853073693543e-06,
        9.674058985997577e-06, -2.7200951154539452e-05, 2.62973751319353e-05, 0.00023731604488574836,
        -0.0019779011175291563, 0.010033825163216699, -0.041561098023561234, -0.8431072563594868, -2.6389675142347744,
        -1.8496055099332482,
    ),
    sin=(
        1.5898375133830576e-10, -2.505079049170595e-08, 2.7557313941437537e-06, -0.00019841269830696992,
        0.008333333333323843, -0.1666666666666664,
    ),
    cos=(
        -1.1368301217342097e-11, 2.0875901557446815e-09, -2.7557315757935316e-07, 2.4801587294723167e-05,
        -0.001388888888888321, 0.04166666666666666,
    ),
)
# (atanh(s)/s - 1 - s**2/3) / s**4 in s**2, |s| <= 0.172: what pow's logarithm needs in one float64
_ATANH = (
    0.05381073691357441, 0.052281799351163054, 0.058834057813463375, 0.06666648286607593, 0.07692307880317793,
    0.09090909089830462, 0.11111111111114208, 0.14285714285714282, 0.2,
)
# fmt: on

_POW_MAX, _POW_MIN = 710.0, -746.0  # beyond them e**x is inf and 0
_THIRD = (0.3333333333333333, 1.850371707708594e-17)
_TWO_OVER_PI = 0.6366197723675814
_PIO2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)  # three full float64 parts
_PIO2_SHORT = (1.5707963267341256, 6.077100506303966e-11, 2.0222662487959506e-21)  # 33 bits each: n*part is exact


@_jit
def _consts(x):
    return _pick(x, _F32, _F64)


@_jit
def negative(x):
    """The sign bit."""
    k = _consts(x)
    return _and(_bits(x), k.sign) != k.none


@_jit
def flip(x, y):
    """x, negated where y is negative."""
    return _float(_xor(_bits(x), _and(_bits(y), _consts(x).sign)))


# --- exp family


@_jit
def _reduce(x):
    """x = n*ln2 + r + c: r, its rounding error c, and two factors whose product is 2**n."""
    k = _consts(x)
    t = mad(x, k.log2e, k.magic)
    n = t - k.magic
    a = mad(n, -k.ln2_hi, x)
    w = n * k.ln2_lo
    r = a - w
    half = mad(n, k.half, k.magic)
    # The low bits of t and half are the integers; magic's own bits leave at the top.
    first = _float(_shl(_add(_bits(half), k.bias), k.mantissa))
    second = _float(_shl(_add(_sub(_bits(t), _bits(half)), k.bias), k.mantissa))
    return r, (a - r) - w, first, second


@_jit
def exp(x):
    """e**x. At most 0.9 ulp wrong."""
    k = _consts(x)
    y = k.zero if x > k.exp_max else x
    y = k.zero if y < k.exp_min else y
    r, c, first, second = _reduce(y)
    y = (k.one + (r + mad(r * r, _poly(r, k.exp), c))) * first * second
    y = k.inf if x > k.exp_max else y
    return k.zero if x < k.exp_min else y


@_jit
def exp_down(x):
    """e**x for x <= 0; 0 below half the least normal number. At most 1 ulp wrong, and half the work of exp."""
    k = _consts(x)
    y = k.least if x < k.least else x  # there the power is the number whose bits are 0
    t = mad(y, k.log2e, k.magic)
    n = t - k.magic
    r = mad(n, -k.ln2_lo, mad(n, -k.ln2_hi, y))
    power = _float(_shl(_add(_bits(t), k.bias), k.mantissa))
    return mad(mad(r * r, _poly(r, k.exp), r), power, power)


@_jit
def expm1(x):
    """e**x - 1. At most 1.6 ulp wrong."""
    k = _consts(x)
    y = k.zero if x > k.exp_max else x
    y = k.expm1_min if y < k.expm1_min else y
    r, c, first, second = _reduce(y)
    q = r + mad(r * r, _poly(r, k.exp), c)
    s = first * (k.half * second)  # 2**(n-1): 2**n may be too large
    y = k.two * mad(s, q, s - k.half)
    y = k.inf if x > k.exp_max else y
    return x if _abs(x) < k.tiny else y


@_jit
def sigmoid(x):
    """1 / (1 + e**-x). At most 1.7 ulp wrong."""
    k = _consts(x)
    a = -_abs(x)
    r, c, first, second = _reduce(k.exp_min if a < k.exp_min else a)
    second = k.zero if a < k.exp_min else second
    e = (k.one + (r + mad(r * r, _poly(r, k.exp), c))) * first  # e**a = e * second, which may be denormal: that is last
    enough = e * (k.small if second < k.small else second)  # e**a, or something as negligible that is not denormal
    down = x < k.zero
    top = e if down else k.one
    # top / (1 + e**a): a plain division would be 2.3 ulp wrong, since errors of e**a would count twice
    return mad(-top, enough / (k.one + enough), top) * (second if down else k.one)


@_jit
def tanh(x):
    """Hyperbolic tangent. At most 1.3 ulp wrong."""
    k = _consts(x)
    a = _abs(x)
    z = a * a
    near = mad(a, z * _poly(z, k.tanh), a)
    b = k.tanh_max if a > k.tanh_max else a
    far = k.one - k.two / (k.one + exp(b + b))
    return _copysign(near if a < k.tanh_mid else far, x)


@_jit
def erf(x):
    """Error function. At most 1.1 ulp wrong."""
    k = _consts(x)
    a = _abs(x)
    z = a * a
    near = mad(a, _poly(z, k.erf), a)
    b = k.erf_max if a > k.erf_max else a
    far = k.one - exp(_poly(b - k.one, k.erfc))
    return _copysign(near if a < k.one else far, x)


# --- log family


@_jit
def _split(x):
    """x = 2**e * m for a positive normal x, sqrt(1/2) <= m < sqrt(2)."""
    k = _consts(x)
    u = _add(_bits(x), k.to_one)
    e = _float(_or(_shr(u, k.mantissa), k.split)) - k.split_bias
    return e, _float(_add(_and(u, k.mantissa_mask), k.sqrthalf_bits))


@_jit
def _log_kernel(f, e, c):
    """log(2**e * (1+f)) + c, |c| far below 1."""
    k = _consts(f)
    s = f / (k.two + f)
    z = s * s
    h = k.half * f * f
    return mad(e, k.ln2_hi, f - (h - mad(s, mad(z, _poly(z, k.log), h), mad(e, k.ln2_lo, c))))


@_jit
def log(x):
    """Natural logarithm. At most 0.9 ulp wrong."""
    k = _consts(x)
    denormal = x < k.normal
    e, m = _split(x * (k.up if denormal else k.one))
    y = _log_kernel(m - k.one, e - (k.up_log2 if denormal else k.zero), k.zero)
    y = y if x < k.inf else x  # inf and nan
    y = k.nan if x < k.zero else y
    return -k.inf if x == k.zero else y


@_jit
def log1p(x):
    """log(1 + x). At most 0.9 ulp wrong."""
    k = _consts(x)
    u = k.one + x
    v = u - k.one
    c = (k.one - (u - v)) + (x - v)  # 1 + x = u + c exactly
    c = k.zero if x > k.log1p_big else c
    e, m = _split(u)
    near = e == k.zero
    f = x if near else m - k.one
    y = _log_kernel(f, e, k.zero if near else c / u)
    y = y if x < k.inf else x
    y = k.nan if x < -k.one else y
    y = -k.inf if x == -k.one else y
    return x if _abs(x) < k.tiny else y


@_jit
def _log1p_rest(f):
    """(log(1 + f) - f) / f**2 for f in [0, 1]."""
    k = _consts(f)
    return _poly(f - k.half, k.log1p_unit)


@_jit
def log1p_unit(f):
    """log(1 + f) for f in [0, 1]. At most 1.2 ulp wrong."""
    return mad(f * f, _log1p_rest(f), f)


@_jit
def softplus(x):
    """log(1 + e**x). At most 1.9 ulp wrong."""
    f = exp(-_abs(x))
    zero = _consts(x).zero
    # f last: that sum rounds once at the size of the result, the inner one at less.
    return f + mad(f * f, _log1p_rest(f), zero if x < zero else x)


# --- sin, cos


def _pio2_reduce(x):
    pass


@overload(_pio2_reduce, jit_options={**JIT, "forceinline": True})
def _pio2_reduce_overload(x):
    """x = n*pi/2 + r + c: r, c and the bits of n (low two right)."""

    def single(x):
        y = np.float64(x)
        t = mad(y, _TWO_OVER_PI, _F64.magic)
        n = -(t - _F64.magic)
        y = mad(n, _PIO2_SHORT[2], mad(n, _PIO2_SHORT[1], mad(n, _PIO2_SHORT[0], y)))
        r = np.float32(y)
        return r, np.float32(y - np.float64(r)), np.uint32(_bits(t))

    def double(x):
        t = mad(x, _TWO_OVER_PI, _F64.magic)
        n = -(t - _F64.magic)
        a = _fma(n, _PIO2[0], x)  # exact: a multiple of 2**-52 below 1
        w = n * _PIO2[1]
        r = a + w
        v = r - a
        c = (a - (r - v)) + (w - v)
        c = c + mad(n, _PIO2[2], _fma(n, _PIO2[1], -w))
        s = r + c
        return s, (r - s) + c, _bits(t)

    return single if x == types.float32 else double


@_jit
def _sincos(x, quarter):
    """sin(x + quarter*pi/2)."""
    k = _consts(x)
    r, c, n = _pio2_reduce(x)
    n = _add(n, quarter)
    z = r * r
    s = r + mad(r * z, _poly(z, k.sin), c)
    h = k.half * z
    w = k.one - h
    q = w + (((k.one - w) - h) + mad(z * z, _poly(z, k.cos), -(r * c)))
    y = s if _and(n, k.bit0) != k.bit0 else q
    return _float(_xor(_bits(y), _shl(_and(n, k.bit1), k.to_sign)))


@_jit
def sin_fast(x):
    """sin where not beyond_fast(x). At most 0.9 ulp wrong."""
    k = _consts(x)
    return x if _abs(x) < k.tiny else _sincos(x, k.none)


@_jit
def cos_fast(x):
    """cos where not beyond_fast(x). At most 0.9 ulp wrong."""
    return _sincos(x, _consts(x).bit0)


@_jit
def beyond_fast(x):
    """True where sin_fast and cos_fast are wrong: |x| above 1e6 (float32), 1e9 (float64)."""
    return _abs(x) > _consts(x).sin_max


@_jit
def sin(x):
    """Sine everywhere. At most 0.9 ulp wrong.

    libm's beyond sin_fast's range, and its call keeps a loop scalar. A vector kernel asks beyond_fast of its whole
    block first, and runs sin_fast where no element is beyond it.
    """
    if beyond_fast(x):
        y = _libm_sin(np.float64(x))
        return _pick(x, np.float32(y), y)
    return sin_fast(x)


@_jit
def cos(x):
    """Cosine everywhere, see sin. At most 0.9 ulp wrong."""
    if beyond_fast(x):
        y = _libm_cos(np.float64(x))
        return _pick(x, np.float32(y), y)
    return cos_fast(x)


# --- powers


@_jit
def rsqrt(x):
    """1 / sqrt(x). At most 1.5 ulp wrong."""
    return _consts(x).one / _sqrt(x)


@_jit
def _log_pair(x):
    """log(x) of a positive float64 as the sum of two, 2**-64 of it wrong."""
    k = _F64
    denormal = x < k.normal
    e, m = _split(x * (k.up if denormal else k.one))
    e = e - (k.up_log2 if denormal else k.zero)
    f, d = m - k.one, m + k.one
    inverse = k.one / d
    s = f * inverse  # s + t = f / (m + 1), log(m) = 2 atanh(s + t)
    t = (_fma(-s, d, f) - s * (m - (d - k.one))) * inverse
    z = s * s
    z_low = _fma(s, s, -z) + k.two * s * t
    w = z * _poly(z, _ATANH)
    c = _THIRD[0] + w
    c_low = ((_THIRD[0] - c) + w) + _THIRD[1]
    q = z * c
    q_low = _fma(z, c, -q) + (z * c_low + z_low * c)
    u = s * q
    u_low = _fma(s, q, -u) + (s * q_low + t * q)
    v = s + u
    v_low = ((s - v) + u) + (t + u_low)
    a, b = e * k.ln2_hi, v + v
    high = a + b
    low = ((a - high) + b) + mad(e, k.ln2_lo, v_low + v_low)  # of up to 33 bits less than high
    total = high + low
    return total, (high - total) + low


@_jit
def _exp_pair(x, c):
    """e**(x + c) for float64 x and a far smaller c."""
    k = _F64
    y = _POW_MAX if x > _POW_MAX else x
    y = _POW_MIN if y < _POW_MIN else y
    r, rest, first, second = _reduce(y)
    c = rest + (c if x == y else k.zero)
    s = r + c
    return (k.one + (s + mad(s * s, _poly(s, k.exp), (r - s) + c))) * first * second


def _power(x, y):
    pass


@overload(_power, jit_options={**JIT, "forceinline": True})
def _power_overload(x, y):
    """x**y of x >= 0 or nan, but for 1**inf and what has y = 0."""

    def single(x, y):
        return np.float32(exp(np.float64(y) * log(np.float64(x))))

    def double(x, y):
        high, low = _log_pair(x)
        high = high if x < _F64.inf else x
        high = -_F64.inf if x == _F64.zero else high
        product = y * high
        return _exp_pair(product, mad(y, low, _fma(y, high, -product)))

    return single if x == types.float32 else double


@_jit
def pow(x, y):
    """x**y, specials as in C. At most 0.6 (float32, by way of float64), 1.1 ulp wrong."""
    k = _consts(x)
    a = _abs(x)
    power = _power(a, y)
    half = k.half * y
    whole = _trunc(y) == y
    odd = whole and _trunc(half) != half
    power = _copysign(power, x) if odd else power
    power = k.nan if x < k.zero and x > -k.inf and not whole else power
    power = k.one if a == k.one and _abs(y) == k.inf else power
    return k.one if x == k.one or y == k.zero else power
