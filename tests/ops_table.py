"""The table of all differentiable operations: one row buys an operation its tests.

A row says how to call the operation (``call(m, *tensors, **arguments)``, with ``m`` the module: minigrad, or torch in
the parity tests), what NumPy computes in float64 (``reference(*arrays, **arguments)``), and the cases: the shapes of
the tensors and the arguments. The tests make the tensors from ``domains``, one word for each tensor (the last one
serves the rest): away from the points where a finite difference, or the reference, would be meaningless.
"""

import itertools
import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Row:
    """An operation; see above. ``smooth``: second derivatives are checked. ``gradient``: it has one at all."""

    name: str
    call: object
    reference: object
    cases: tuple
    domains: tuple = ("any",)
    smooth: bool = True
    gradient: bool = True
    rtol: float = 1.0  # of the dtype's usual tolerance
    parity: bool = True  # PyTorch has it under the same name


@dataclass(frozen=True)
class Case:
    """The shapes of the tensors and the other arguments."""

    shapes: tuple
    arguments: dict

    def __str__(self):
        return f"{self.shapes} {self.arguments}"


def case(*shapes, **arguments):
    return Case(shapes, arguments)


def cases(shapes, *arguments):
    """A case for each of ``shapes`` (of one tensor, or tuples of several) and each of ``arguments``."""
    tuples = [s if s and isinstance(s[0], tuple) else (s,) for s in shapes]
    return tuple(Case(s, a) for s, a in itertools.product(tuples, arguments or ({},)))


DOMAINS = {
    "any": lambda r, shape: r.standard_normal(shape),
    "positive": lambda r, shape: r.uniform(0.5, 2.5, shape),
    "nonzero": lambda r, shape: r.uniform(0.4, 2.0, shape) * r.choice([-1.0, 1.0], shape),
    "between": lambda r, shape: r.integers(-3, 4, shape) + r.uniform(0.15, 0.45, shape),  # between k and k + 1/2
    "distinct": lambda r, shape: r.permutation(math.prod(shape)).reshape(shape) * 0.25 - 1.1,
    "zeros": lambda r, shape: r.standard_normal(shape) * (r.random(shape) > 0.3),
    "angle": lambda r, shape: r.uniform(-3.0, 3.0, shape),
}


def make(row, case, dtype, seed=0):
    """The arrays of a case."""
    r = np.random.default_rng(seed)
    words = row.domains + row.domains[-1:] * (len(case.shapes) - len(row.domains))
    return [np.asarray(DOMAINS[word](r, shape), dtype) for word, shape in zip(words, case.shapes, strict=False)]


# --- references that NumPy lacks --------------------------------------------------------------------------------------


def _softmax(x, dim):
    e = np.exp(x - x.max(dim, keepdims=True)) if x.size else x
    return e / e.sum(dim, keepdims=True)


def _logsumexp(x, dim, keepdim=False):
    top = x.max(dim, keepdims=True)
    y = np.log(np.exp(x - top).sum(dim, keepdims=True)) + top
    return y if keepdim else np.squeeze(y, dim)


def _norm(x, p=2, dim=None, keepdim=False):
    a = np.abs(x)
    if p == "fro":
        p = 2
    if math.isinf(p):
        return (np.max if p > 0 else np.min)(a, axis=dim, keepdims=keepdim)
    if p == 0:
        return (a != 0).sum(axis=dim, keepdims=keepdim).astype(x.dtype)
    return (a**p).sum(axis=dim, keepdims=keepdim) ** (1 / p)


def _reduced(function):
    return lambda x, dim=None, keepdim=False: function(x, axis=dim if x.ndim else None, keepdims=keepdim)


def _moment(function):
    return lambda x, dim=None, correction=1, keepdim=False: function(x, axis=dim, ddof=correction, keepdims=keepdim)


def _extreme(values, position):
    def reference(x, dim, keepdim=False):
        return values(x, axis=dim, keepdims=keepdim), position(x, axis=dim, keepdims=keepdim)

    return reference


def _where_mask(x):
    return np.asarray(np.arange(x.size).reshape(x.shape) % 3 == 0)


def _places(shape, size, seed=1):
    return np.random.default_rng(seed).integers(0, size, shape)


def _scatter_add(x, src, dim, index):
    y = x.copy()
    for at in np.ndindex(index.shape):
        to = list(at)
        to[dim] = index[at]
        y[tuple(to)] += src[at]
    return y


def _add_at(x, source, dim, index):
    y = x.copy()
    np.add.at(np.moveaxis(y, dim, 0), index, np.moveaxis(source, dim, 0))
    return y


def _scattered(x, src, dim, index):
    y = x.copy()
    np.put_along_axis(y, index, src, dim)
    return y


def _copied(x, source, dim, index):
    y = np.moveaxis(x.copy(), dim, 0)
    y[index] = source if np.ndim(source) == 0 else np.moveaxis(source, dim, 0)
    return np.moveaxis(y, 0, dim)


def _index_put(x, values, index, add):
    y = x.copy()
    if add:
        np.add.at(y, index, values)
    else:
        y[index] = values
    return y


def plain(function):
    """``function`` with the arguments of a case by position, whatever their names."""
    return lambda *arrays, **arguments: function(*arrays, *arguments.values())


def _torch_split(x, sections, dim):
    return np.split(x, np.cumsum([sections] * ((x.shape[dim] - 1) // sections)), dim)


# --- pointwise --------------------------------------------------------------------------------------------------------

_SHAPES = ((), (1,), (7,), (3, 5), (2, 3, 4), (0,), (2, 0, 3), (4099,))


def unary(name, reference, domain="any", *, smooth=True, call=None, rtol=1.0, arguments=({},), **flags):
    call = call or (lambda m, x, **a: getattr(m, name)(x, **a))
    return Row(name, call, reference, cases(_SHAPES, *arguments), (domain,), smooth, rtol=rtol, **flags)


_PAIRS = (
    ((), ()), ((7,), (7,)), ((3, 5), (3, 5)), ((3, 5), (5,)), ((3, 1), (4,)), ((), (2, 3)), ((2, 3), ()),
    ((2, 1, 4), (3, 1)), ((1,), (1, 3)), ((0,), (1,)), ((2, 0, 3), (3,)), ((4099,), (4099,)), ((1, 5), (3, 5)),
)  # fmt: skip


def binary(name, reference, *domains, smooth=True, call=None, rtol=1.0, gradient=True):
    call = call or (lambda m, a, b: getattr(m, name)(a, b))
    return Row(name, call, reference, cases(_PAIRS), domains or ("any",), smooth, gradient, rtol)


POINTWISE = [
    unary("neg", np.negative),
    unary("abs", np.abs, "nonzero"),
    unary("sign", np.sign, "nonzero"),
    unary("square", np.square),
    unary("reciprocal", np.reciprocal, "nonzero"),
    unary("sqrt", np.sqrt, "positive"),
    unary("rsqrt", lambda x: 1 / np.sqrt(x), "positive"),
    unary("exp", np.exp),
    unary("expm1", np.expm1),
    unary("log", np.log, "positive"),
    unary("log1p", np.log1p, "positive"),
    unary("sin", np.sin, "angle"),
    unary("cos", np.cos, "angle"),
    unary("tanh", np.tanh),
    unary("sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    unary("relu", lambda x: np.maximum(x, 0), "nonzero"),
    unary("erf", lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x)),
    unary("floor", np.floor, "between"),
    unary("ceil", np.ceil, "between"),
    unary("trunc", np.trunc, "between"),
    unary("round", np.round, "between"),
    unary("add a number", lambda x: x + 2, call=lambda m, x: x + 2),
    unary("number minus", lambda x: 2 - x, call=lambda m, x: 2 - x),
    unary("times a number", lambda x: x * -1.5, call=lambda m, x: x * -1.5),
    unary("divided by a number", lambda x: x / 3, call=lambda m, x: x / 3),
    unary("number divided by", lambda x: 3 / x, "nonzero", call=lambda m, x: 3 / x),
    unary("pow, integers", lambda x, n: x**n, "nonzero", call=lambda m, x, n: x**n,
          arguments=({"n": 2}, {"n": 3}, {"n": -1}, {"n": 1}, {"n": 0}, {"n": -2}, {"n": 5})),
    unary("pow, fractions", lambda x, n: x**n, "positive", call=lambda m, x, n: x**n,
          arguments=({"n": 0.5}, {"n": -0.5}, {"n": 1.7})),
    unary("number to the power", lambda x: 2.0**x, call=lambda m, x: 2.0**x),
    unary("clamp", lambda x, min=None, max=None: np.clip(x, min, max), "between",
          arguments=({"min": -1.0}, {"max": 1.0}, {"min": -1.0, "max": 1.0}, {"min": 2.0, "max": -2.0})),
    unary("clone", np.copy, call=lambda m, x: x.clone()),
    unary("through float64", np.copy, call=lambda m, x: x.double().to(x.dtype)),
    binary("add", np.add),
    binary("sub", np.subtract),
    binary("mul", np.multiply),
    binary("div", np.divide, "any", "nonzero"),
    binary("pow", np.power, "positive", "any"),
    binary("maximum", np.maximum),
    binary("minimum", np.minimum),
    binary("remainder", np.mod, "between", "positive", smooth=False, rtol=10),
    binary("where", lambda a, b: np.where(np.greater(a, 0) | np.less(b, 0), a, b), "nonzero",
           call=lambda m, a, b: m.where((a > 0) | (b < 0), a, b)),
    binary("clamp by tensors", lambda a, b: np.minimum(np.maximum(a, b), b + 1),
           call=lambda m, a, b: m.clamp(a, b, b + 1)),
    *[binary(name, reference, gradient=False)
      for name, reference in (("eq", np.equal), ("ne", np.not_equal), ("lt", np.less), ("le", np.less_equal),
                              ("gt", np.greater), ("ge", np.greater_equal), ("logical_and", np.logical_and),
                              ("logical_or", np.logical_or), ("logical_xor", np.logical_xor))],
    unary("isnan", np.isnan, gradient=False),
    unary("isinf", np.isinf, gradient=False),
    unary("isfinite", np.isfinite, gradient=False),
    unary("logical_not", np.logical_not, gradient=False),
    binary("floor_divide", np.floor_divide, "between", "positive", gradient=False),
    Row("add", lambda m, a, b: m.add(a, b, alpha=2.5), lambda a, b: a + 2.5 * b, cases(_PAIRS)),
    Row("sub", lambda m, a, b: m.sub(a, b, alpha=-3), lambda a, b: a + 3 * b, cases(_PAIRS)),
    Row("div", lambda m, a, b, mode: m.div(a, b, rounding_mode=mode),
        lambda a, b, mode: np.trunc(a / b) if mode == "trunc" else np.floor_divide(a, b),
        cases(_PAIRS, {"mode": "trunc"}, {"mode": "floor"}), ("between", "positive"), gradient=False),
    *[Row(name, lambda m, x, a, b, name=name, **k: getattr(m, name)(x, a, b, **k), reference,
          (case((3, 4), (3, 4), (3, 4)), case((3, 1), (4,), (), value=-2.0), case((0,), (1,), (1,), value=0.5)),
          ("any", "any", "nonzero"))
      for name, reference in (("addcmul", lambda x, a, b, value=1: x + value * a * b),
                              ("addcdiv", lambda x, a, b, value=1: x + value * a / b))],
    Row("lerp", lambda m, a, b: m.lerp(a, b, 0.3), lambda a, b: a + 0.3 * (b - a),
        (case((3, 4), (3, 4)), case((), ()))),
    Row("lerp", lambda m, a, b, w: m.lerp(a, b, w), lambda a, b, w: a + w * (b - a),
        (case((3, 4), (3, 4), (3, 4)), case((3, 1), (4,), ()))),
    unary("isclose", lambda x: np.isclose(x, 0, atol=0.5), "between", gradient=False,
          call=lambda m, x: m.isclose(x, m.zeros_like(x), atol=0.5)),
    *[unary(name, reference, domain, call=lambda m, x, name=name, **k: getattr(m.nn.functional, name)(x, **k), **flags)
      for name, reference, domain, flags in (
          ("gelu", lambda x: x * (1 + np.vectorize(math.erf, otypes=[x.dtype])(x / 2**0.5)) / 2, "any", {}),
          ("silu", lambda x: x / (1 + np.exp(-x)), "any", {}),
          ("softplus", lambda x: np.log1p(np.exp(x)), "any", {}),
          ("elu", lambda x: np.where(x > 0, x, np.expm1(x)), "nonzero", {}),
          ("leaky_relu", lambda x: np.where(x > 0, x, 0.01 * x), "nonzero", {}),
          ("tanh", np.tanh, "any", {}),
          ("sigmoid", lambda x: 1 / (1 + np.exp(-x)), "any", {}),
          ("relu", lambda x: np.maximum(x, 0), "nonzero", {}))],
    Row("gelu", lambda m, x: m.nn.functional.gelu(x, approximate="tanh"),
        lambda x: x / 2 * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x**3))), cases(_SHAPES)),
]  # fmt: skip


# --- in place: an intermediate is overwritten -------------------------------------------------------------------------


def inplace(name, change, reference, *chosen, **flags):
    """``change(m, y, *tensors)`` overwrites y, a copy of the first tensor."""

    def call(m, x, *tensors):
        y = x * 1
        change(m, y, *tensors)
        return y

    def expected(x, *arrays):
        y = x.copy()
        found = reference(y, *arrays)
        return y if found is None else found

    return Row(f"in place: {name}", call, expected, chosen, **flags)


def _put(index, add=False):
    def put(y, v):
        if add:
            y[index] += v
        else:
            y[index] = v

    return put


def _setitem(m, y, v, index):
    y[tuple(m.from_numpy(i) if isinstance(i, np.ndarray) else i for i in index)] = v


def written(name, index, *chosen):
    return inplace(f"x[{name}] =", lambda m, y, v: _setitem(m, y, v, index), _put(index), *chosen)


def _through_view(m, y, v):
    view = y.view(-1)[1:]
    view.mul_(v)
    view.add_(1.0)


def _through_view_reference(y, v):
    flat = y.reshape(-1)
    flat[1:] = flat[1:] * v + 1
    return flat.reshape(y.shape)


INPLACE = [
    inplace("+=", lambda m, y, v: y.add_(v), np.add, case((3, 4), (4,)), case((3,), ())),
    inplace("-=", lambda m, y, v: y.sub_(v), np.subtract, case((3, 4), (3, 1))),
    inplace("*=", lambda m, y, v: y.mul_(v), np.multiply, case((3, 4), (4,)), case((), ())),
    inplace("/=", lambda m, y, v: y.div_(v), np.divide, case((3, 4), (3, 4)), domains=("any", "nonzero")),
    inplace("**= 2", lambda m, y: y.pow_(2), np.square, case((3, 4))),
    inplace("exp_", lambda m, y: y.exp_(), np.exp, case((3, 4))),
    inplace("tanh_", lambda m, y: y.tanh_(), np.tanh, case((3, 4))),
    inplace("sigmoid_", lambda m, y: y.sigmoid_(), lambda y: 1 / (1 + np.exp(-y)), case((3, 4))),
    inplace("clamp_", lambda m, y: y.clamp_(-1.0, 1.0), lambda y: np.clip(y, -1, 1), case((5,)), domains=("between",)),
    inplace("fill_", lambda m, y: y.fill_(3.0), lambda y: np.full_like(y, 3), case((3,))),
    inplace("copy_", lambda m, y, v: y.copy_(v), lambda y, v: np.broadcast_to(v, y.shape), case((3, 4), (4,))),
    inplace("through a view", _through_view, _through_view_reference, case((3, 2), ()), case((5,), (4,))),
    written("1", (1,), case((3,), ()), case((3, 4), (4,))),
    written("1:3, ::2", (slice(1, 3), slice(None, None, 2)), case((4, 3), (2, 2)), case((4, 3), (2,)),
            case((4, 3), ())),
    written("..., 0", (..., 0), case((2, 3), (2,))),
    written("[2, 0]", (np.array([2, 0]),), case((3,), (2,)), case((3, 4), (2, 4)), case((3, 4), ())),
    written("[0, 1], [1, 2]", (np.array([0, 1]), np.array([1, 2])), case((3, 4), (2,))),
    written("mask", (np.array([True, False, True]),), case((3,), (2,)), case((3, 2), ())),
]  # fmt: skip


# --- reductions -------------------------------------------------------------------------------------------------------

_DIMS = [
    *cases([(), (1,), (7,), (3, 5), (2, 3, 4), (4099,), (130, 70)], {}),
    case((3, 5), dim=0), case((3, 5), dim=1), case((3, 5), dim=-1, keepdim=True), case((3, 5), dim=0, keepdim=True),
    case((2, 3, 4), dim=1), case((2, 3, 4), dim=1, keepdim=True), case((1, 4, 1), dim=0), case((), dim=0),
    case((9000, 3), dim=0), case((3, 9000), dim=1), case((2, 5000), dim=0), case((70, 3, 40), dim=1),
]  # fmt: skip
_SEVERAL = [
    case((2, 3, 4), dim=(0, 1)), case((2, 3, 4), dim=(0, 2)), case((2, 3, 4), dim=(2, 0), keepdim=True),
    case((2, 3, 2, 3), dim=(0, 2)), case((2, 3, 2, 3), dim=(1, 3)), case((2, 1, 3), dim=(0, 1, 2)),
    case((40, 6, 30), dim=(0, 2)), case((40, 6, 30), dim=(-1, 0), keepdim=True),
]  # fmt: skip
_EMPTY = [
    case((0,)), case((2, 0, 3)), case((2, 0, 3), dim=0), case((2, 0, 3), dim=1), case((0, 3), dim=0, keepdim=True),
]  # fmt: skip
_ONE_DIM = tuple(c for c in _DIMS if "dim" in c.arguments)
_ONE_DIM_EMPTY = (case((2, 0, 3), dim=0), case((2, 0, 3), dim=2))


def reduction(name, reference, domain="any", *, several=True, empty=True, gradient=True):
    chosen = (*_DIMS, *(_SEVERAL if several else ()), *(_EMPTY if empty else ()))
    return Row(name, lambda m, x, **a: getattr(m, name)(x, **a), reference, chosen, (domain,), gradient=gradient)


def along(name, reference, domain="any", *, gradient=True, empty=True, keepdim=True):
    """An operation along one dimension that must be given."""
    chosen = [c for c in _ONE_DIM if keepdim or "keepdim" not in c.arguments]
    chosen = (*chosen, *(_ONE_DIM_EMPTY if empty else ()))
    return Row(name, lambda m, x, **a: getattr(m, name)(x, **a), reference, chosen, (domain,), gradient=gradient)


_CORRECTIONS = tuple(
    Case(c.shapes, {**c.arguments, **more})
    for c in (*_DIMS, *_SEVERAL)
    for more in ({}, {"correction": 0})
    if math.prod(c.shapes[0]) > 3 and c.shapes[0] != (1, 4, 1)
)
_NORMS = tuple(
    Case(c.shapes, {**c.arguments, "p": p})
    for c in (*_DIMS, *_SEVERAL)
    for p in (2, 1, math.inf, -math.inf, 3, 0.5, 1.5, "fro")
    if p != "fro" or np.size(c.arguments.get("dim", 0)) <= 2  # PyTorch has no "fro" of more
)

REDUCTIONS = [
    reduction("sum", _reduced(np.sum)),
    reduction("mean", _reduced(np.mean), empty=False),
    reduction("prod", _reduced(np.prod), "zeros", several=False),
    reduction("amax", lambda x, dim=(), keepdim=False: np.max(x, axis=dim if dim != () else None, keepdims=keepdim),
              "distinct", empty=False),
    reduction("amin", lambda x, dim=(), keepdim=False: np.min(x, axis=dim if dim != () else None, keepdims=keepdim),
              "distinct", empty=False),
    reduction("all", _reduced(np.all), "zeros", gradient=False),
    reduction("any", _reduced(np.any), "zeros", gradient=False),
    Row("var", lambda m, x, **a: m.var(x, **a), _moment(np.var), _CORRECTIONS),
    Row("std", lambda m, x, **a: m.std(x, **a), _moment(np.std), _CORRECTIONS),
    Row("norm", lambda m, x, **a: m.norm(x, **a), _norm, _NORMS, ("distinct",), smooth=True, rtol=4),
    Row("norm, 0", lambda m, x, **a: m.norm(x, 0, **a), lambda x, **a: _norm(x, 0, **a), tuple(_DIMS), ("zeros",),
        gradient=False),
    Row("count_nonzero", lambda m, x, **a: m.count_nonzero(x, **a),
        lambda x, dim=None: np.count_nonzero(x, axis=dim),
        tuple(c for c in (*_DIMS, *_SEVERAL) if "keepdim" not in c.arguments), ("zeros",), gradient=False),
    along("max", _extreme(np.max, np.argmax), "distinct", empty=False),
    along("min", _extreme(np.min, np.argmin), "distinct", empty=False),
    Row("max of all", lambda m, x: m.max(x), np.max, cases([(), (1,), (7,), (3, 5), (4099,)]), ("distinct",)),
    Row("min of all", lambda m, x: m.min(x), np.min, cases([(), (1,), (7,), (3, 5), (4099,)]), ("distinct",)),
    along("argmax", lambda x, dim, keepdim=False: np.argmax(x, axis=dim, keepdims=keepdim), gradient=False,
          empty=False),
    along("argmin", lambda x, dim, keepdim=False: np.argmin(x, axis=dim, keepdims=keepdim), gradient=False,
          empty=False),
    Row("argmax of all", lambda m, x: m.argmax(x), np.argmax, cases([(), (1,), (7,), (3, 5), (2, 3, 4), (40000,)]),
        gradient=False),
    Row("logsumexp", lambda m, x, **a: m.logsumexp(x, **a), _logsumexp, (*_ONE_DIM, *_SEVERAL)),
    along("softmax", _softmax, keepdim=False),
    along("log_softmax", lambda x, dim: x - _logsumexp(x, dim, True) if x.size else x, keepdim=False),
    Row("normalize", lambda m, x, **k: m.nn.functional.normalize(x, **k),
        lambda x, p=2.0, dim=1: x / np.maximum(_norm(x, p, dim, True), 1e-12),
        (case((3, 4)), case((3, 4), dim=0), case((3, 4), p=1.0))),
    along("cumsum", lambda x, dim: np.cumsum(np.atleast_1d(x), dim).reshape(x.shape), keepdim=False),
    along("cumprod", lambda x, dim: np.cumprod(np.atleast_1d(x), dim).reshape(x.shape), "zeros", keepdim=False),
]  # fmt: skip


# --- shapes -----------------------------------------------------------------------------------------------------------


def shaped(name, call, reference, *chosen, **flags):
    return Row(name, call, reference, chosen, **flags)


SHAPES = [
    shaped("reshape", lambda m, x, to: m.reshape(x, to), lambda x, to: x.reshape(to),
           case((3, 4), to=(2, 6)), case((3, 4), to=(-1,)), case((), to=(1, 1)), case((2, 0), to=(0, 5)),
           case((2, 3, 4), to=(6, -1))),
    shaped("view", lambda m, x, to: x.contiguous().view(to), lambda x, to: x.reshape(to),
           case((3, 4), to=(2, 6)), case((2, 3, 4), to=(4, -1))),
    shaped("flatten", lambda m, x, a, b: m.flatten(x, a, b), lambda x, a, b: x.reshape(x.shape[:a] + (-1,)),
           case((2, 3, 4), a=0, b=-1), case((2, 3, 4), a=1, b=-1)),
    shaped("unflatten", lambda m, x, d, to: m.unflatten(x, d, to), lambda x, d, to: x.reshape(x.shape[:d] + to),
           case((2, 6), d=1, to=(2, 3))),
    shaped("transpose", lambda m, x, a, b: m.transpose(x, a, b), plain(np.swapaxes),
           case((2, 3), a=0, b=1), case((2, 3, 4), a=0, b=-1), case((0, 3), a=0, b=1)),
    shaped("T", lambda m, x: x.T, np.transpose, case((2, 3)), case((3, 1))),
    shaped("mT", lambda m, x: x.mT, lambda x: np.swapaxes(x, -1, -2), case((2, 3)), case((2, 3, 4))),
    shaped("t", lambda m, x: m.t(x), np.transpose, case((2, 3)), case((3,))),
    shaped("permute", lambda m, x, order: m.permute(x, order), plain(np.transpose),
           case((2, 3, 4), order=(2, 0, 1)), case((2, 3, 1, 4), order=(3, 1, 0, 2)), case((), order=())),
    shaped("movedim", lambda m, x, a, b: m.movedim(x, a, b), plain(np.moveaxis),
           case((2, 3, 4), a=0, b=-1), case((2, 3, 4), a=(0, 1), b=(1, 2))),
    shaped("squeeze", lambda m, x, **a: m.squeeze(x, **a),
           lambda x, dim=None: np.squeeze(x) if dim is None else np.squeeze(x, dim),
           case((1, 3, 1)), case((1, 3, 1), dim=0), case((1, 3, 1), dim=(0, 2)), case((3,))),
    shaped("unsqueeze", lambda m, x, d: m.unsqueeze(x, d), plain(np.expand_dims),
           case((3,), d=0), case((2, 3), d=-1), case((), d=0), case((0, 3), d=1)),
    shaped("expand", lambda m, x, to: x.expand(to), plain(np.broadcast_to),
           case((3, 1), to=(3, 4)), case((3,), to=(2, 3)), case((), to=(2, 2)), case((1, 3, 1), to=(2, 3, 2)),
           case((1, 3), to=(0, 3))),
    shaped("broadcast_to", lambda m, x, to: m.broadcast_to(x, to), plain(np.broadcast_to), case((3, 1), to=(2, 3, 4))),
    shaped("flip", lambda m, x, d: m.flip(x, d), plain(np.flip),
           case((3, 4), d=(0,)), case((3, 4), d=(0, 1)), case((2, 3, 4), d=(1,)), case((0, 3), d=(0,))),
    shaped("repeat", lambda m, x, n: x.repeat(n), plain(np.tile), case((2, 3), n=(2, 1)), case((3,), n=(2, 2)),
           case((2,), n=(0,))),
    shaped("tile", lambda m, x, n: m.tile(x, n), plain(np.tile), case((2, 3), n=(2,)), case((2, 1), n=(1, 3))),
    shaped("cat", lambda m, *xs, d: m.cat(xs, d), lambda *xs, d: np.concatenate(xs, d),
           case((2, 3), (1, 3), d=0), case((2, 1), (2, 0), (2, 3), d=1), case((3,), d=0),
           case((2, 3, 1), (2, 3, 2), d=-1)),
    shaped("stack", lambda m, *xs, d: m.stack(xs, d), lambda *xs, d: np.stack(xs, d),
           case((2, 3), (2, 3), d=0), case((2, 3), (2, 3), (2, 3), d=-1), case((), (), d=0), case((0, 2), (0, 2), d=1)),
    shaped("hstack", lambda m, *xs: m.hstack(xs), lambda *xs: np.hstack(xs), case((3,), (2,)), case((2, 1), (2, 3))),
    shaped("vstack", lambda m, *xs: m.vstack(xs), lambda *xs: np.vstack(xs), case((3,), (3,)), case((2, 3), (1, 3))),
    shaped("ravel", lambda m, x: m.ravel(x), np.ravel, case((2, 3)), case(())),
    shaped("swapdims", lambda m, x: m.swapdims(x, 0, 1), lambda x: np.swapaxes(x, 0, 1), case((2, 3, 2))),
    shaped("fliplr", lambda m, x: m.fliplr(x), np.fliplr, case((2, 3))),
    shaped("flipud", lambda m, x: m.flipud(x), np.flipud, case((2, 3))),
    shaped("broadcast_tensors", lambda m, a, b: m.broadcast_tensors(a, b), np.broadcast_arrays, case((3, 1), (4,))),
    shaped("split", lambda m, x, n, d: m.split(x, n, d), plain(_torch_split),
           case((5, 2), n=2, d=0), case((2, 6), n=3, d=1)),
    shaped("split, one part used", lambda m, x, n, d: m.split(x, n, d)[1], lambda x, n, d: _torch_split(x, n, d)[1],
           case((5, 2), n=2, d=0), case((2, 6), n=3, d=1)),
    shaped("chunk", lambda m, x, n, d: m.chunk(x, n, d), lambda x, n, d: np.split(x, n, d),
           case((6, 2), n=3, d=0), case((2, 6), n=2, d=1)),
    shaped("unbind", lambda m, x, d: m.unbind(x, d), lambda x, d: list(np.moveaxis(x, d, 0)),
           case((3, 2), d=0), case((2, 3, 2), d=1)),
    shaped("select", lambda m, x, d, i: m.select(x, d, i), lambda x, d, i: np.take(x, i, d),
           case((3, 2), d=0, i=1), case((2, 3, 2), d=1, i=-1)),
    shaped("narrow", lambda m, x, d, i, n: m.narrow(x, d, i, n), lambda x, d, i, n: np.take(x, range(i, i + n), d),
           case((5, 2), d=0, i=1, n=3), case((2, 5), d=1, i=0, n=2), case((2, 5), d=1, i=5, n=0)),
    shaped("as_strided", lambda m, x: m.as_strided(x.contiguous(), (3, 2), (1, 2)),
           lambda x: np.lib.stride_tricks.as_strided(np.ascontiguousarray(x), (3, 2), (x.itemsize, 2 * x.itemsize)),
           case((6,)), case((2, 4))),
]  # fmt: skip


# --- indexing ---------------------------------------------------------------------------------------------------------


def indexed(name, index, *chosen):
    def call(m, x):
        parts = index if isinstance(index, tuple) else (index,)
        found = tuple(m.from_numpy(np.ascontiguousarray(p)) if isinstance(p, np.ndarray) else p for p in parts)
        return x[found if isinstance(index, tuple) else found[0]]

    return Row(f"x[{name}]", call, lambda x: x[index], chosen)


_I = np.array
INDEXING = [
    indexed("1", 1, case((3,)), case((3, 4))),
    indexed("-1, 2", (-1, 2), case((3, 4)), case((3, 4, 2))),
    indexed("1:3", slice(1, 3), case((5,)), case((5, 2)), case((2,))),
    indexed("::2, 1:", (slice(None, None, 2), slice(1, None)), case((5, 3)), case((5, 3, 2))),
    indexed("..., 0", (..., 0), case((3, 4)), case((2, 3, 4))),
    indexed("None, :, None", (None, slice(None), None), case((3,)), case((3, 2))),
    indexed("...", ..., case((3, 2)), case(())),
    indexed("5:5", slice(5, 5), case((7, 2))),
    indexed("[0, 2, 2]", _I([0, 2, 2]), case((3,)), case((3, 4))),
    indexed("[[0, -1], [1, 1]]", _I([[0, -1], [1, 1]]), case((3,)), case((3, 2))),
    indexed(":, [0, 0, 1]", (slice(None), _I([0, 0, 1])), case((3, 2)), case((2, 2, 3))),
    indexed("[0, 1], [1, 0]", (_I([0, 1]), _I([1, 0])), case((2, 2)), case((3, 3, 2))),
    indexed("[0, 1], :, [1, 0]", (_I([0, 1]), slice(None), _I([1, 0])), case((2, 3, 2))),
    indexed("[[0], [1]], [0, 1, 1]", (_I([[0], [1]]), _I([0, 1, 1])), case((2, 2))),
    indexed("1, [0, 1]", (1, _I([0, 1])), case((2, 2)), case((2, 2, 3))),
    indexed("mask", _I([True, False, True]), case((3,)), case((3, 2))),
    indexed("mask of two dimensions", _I([[True, False], [False, True]]), case((2, 2)), case((2, 2, 3))),
    indexed(":, mask", (slice(None), _I([True, False, True])), case((2, 3))),
    indexed("no indices", _I([], np.int64), case((3, 2))),
    Row("index_select", lambda m, x, dim, index: m.index_select(x, dim, m.from_numpy(index)),
        lambda x, dim, index: np.take(x, index, dim),
        (case((3,), dim=0, index=_I([2, 0, 0])), case((3, 4), dim=1, index=_I([1])),
         case((2, 3, 4), dim=1, index=_I([0, 2, 1, 1])), case((3, 4), dim=0, index=_I([], np.int64)))),
    Row("gather", lambda m, x, dim, index: m.gather(x, dim, m.from_numpy(index)),
        lambda x, dim, index: np.take_along_axis(x, index, dim),
        (case((5,), dim=0, index=_places((7,), 5)), case((3, 4), dim=1, index=_places((3, 6), 4)),
         case((3, 4), dim=0, index=_places((2, 4), 3)), case((2, 3, 4), dim=1, index=_places((2, 5, 4), 3)))),
    Row("scatter_add", lambda m, x, y, dim, index: m.scatter_add(x, dim, m.from_numpy(index), y), _scatter_add,
        (case((5,), (7,), dim=0, index=_places((7,), 5)), case((3, 4), (3, 6), dim=1, index=_places((3, 6), 4)))),
    Row("scatter", lambda m, x, y, dim, index: m.scatter(x, dim, m.from_numpy(index), y),
        lambda x, y, dim, index: _scattered(x, y, dim, index),
        (case((5,), (3,), dim=0, index=_I([4, 0, 2])), case((2, 4), (2, 2), dim=1, index=_I([[3, 1], [0, 2]])))),
    Row("scatter", lambda m, x, dim, index: m.scatter(x, dim, m.from_numpy(index), 1.5),
        lambda x, dim, index: _scattered(x, np.full(index.shape, 1.5), dim, index),
        (case((5,), dim=0, index=_I([4, 0, 0])),)),
    Row("take_along_dim", lambda m, x, dim, index: m.take_along_dim(x, m.from_numpy(index), dim),
        lambda x, dim, index: np.take_along_axis(x, index, dim), (case((3, 4), dim=1, index=_places((3, 2), 4)),)),
    Row("take", lambda m, x, index: m.take(x, m.from_numpy(index)), lambda x, index: np.take(x, index),
        (case((3, 4), index=_places((2, 5), 12)), case((3,), index=_I([], np.int64)))),
    Row("index_copy", lambda m, x, y, dim, index: m.index_copy(x, dim, m.from_numpy(index), y),
        lambda x, y, dim, index: _copied(x, y, dim, index),
        (case((5, 2), (2, 2), dim=0, index=_I([3, 1])), case((2, 4), (2, 3), dim=1, index=_I([2, 0, 3])))),
    Row("index_fill", lambda m, x, dim, index: m.index_fill(x, dim, m.from_numpy(index), 2.5),
        lambda x, dim, index: _copied(x, 2.5, dim, index), (case((5, 2), dim=0, index=_I([3, 1, 1])),)),
    Row("index_put", lambda m, x, y, index, add: m.index_put(x, tuple(map(m.from_numpy, index)), y, add),
        lambda x, y, index, add: _index_put(x, y, index, add),
        (case((4, 3), (2,), index=(_I([0, 3]), _I([1, 1])), add=False),
         case((4,), (3,), index=(_I([1, 1, 2]),), add=True),
         case((4, 3), (2, 3), index=(_I([3, 0]),), add=False), case((4, 3), (), index=(_I([1, 1]),), add=True))),
    Row("diagonal", lambda m, x, k: m.diagonal(x, k), plain(np.diagonal),
        cases([(3, 3), (2, 4)], {"k": 0}, {"k": 1}, {"k": -1})),
    Row("diag", lambda m, x, k: m.diag(x, k), np.diag, cases([(3, 3), (2, 4), (3,)], {"k": 0}, {"k": 1}, {"k": -1})),
    Row("diag_embed", lambda m, x: m.diag_embed(x), lambda x: x[..., None] * np.eye(x.shape[-1]),
        cases([(3,), (2, 3)])),
    Row("index_add", lambda m, x, y, dim, index: m.index_add(x, dim, m.from_numpy(index), y), _add_at,
        (case((5, 2), (7, 2), dim=0, index=_places((7,), 5)), case((3, 4), (3, 6), dim=1, index=_places((6,), 4)))),
    Row("masked_fill", lambda m, x, value: m.masked_fill(x, m.from_numpy(_where_mask(np.empty(tuple(x.shape)))), value),
        lambda x, value: np.where(_where_mask(x), value, x),
        tuple(cases([(5,), (3, 4), (), (0, 2)], {"value": 7.5}))),
    Row("masked_select", lambda m, x: m.masked_select(x, m.from_numpy(_where_mask(np.empty(tuple(x.shape))))),
        lambda x: x[_where_mask(x)], cases([(5,), (3, 4), (2, 3, 2)])),
    Row("tril", lambda m, x, k: m.tril(x, k), np.tril,
        cases([(3, 3), (2, 4), (2, 4, 3)], {"k": 0}, {"k": -1}, {"k": 1})),
    Row("triu", lambda m, x, k: m.triu(x, k), np.triu,
        cases([(3, 3), (2, 4), (2, 4, 3)], {"k": 0}, {"k": -1}, {"k": 1})),
]  # fmt: skip


# --- matrix products --------------------------------------------------------------------------------------------------

_PRODUCTS = tuple(
    case(*pair)
    for pair in (
        ((4,), (4,)), ((3, 4), (4,)), ((4,), (4, 2)), ((3, 4), (4, 2)), ((1, 1), (1, 1)), ((65, 33), (33, 17)),
        ((2, 3, 4), (4, 2)), ((2, 3, 4), (4,)), ((4,), (2, 4, 3)), ((3, 4), (2, 4, 2)), ((2, 3, 4), (2, 4, 2)),
        ((2, 1, 3, 4), (3, 4, 2)), ((1, 3, 4), (2, 4, 2)), ((2, 2, 3, 4), (4, 3)), ((2, 3, 4), (1, 4, 3)),
        ((0, 4), (4, 2)), ((3, 0), (0, 2)), ((3, 4), (4, 0)), ((0,), (0,)), ((2, 3, 0), (0, 2)), ((0, 3, 4), (4, 2)),
        ((2, 3, 0), (2, 0, 2)), ((1, 5), (5, 1)), ((5, 1), (1, 5)),
    )
)  # fmt: skip

LINALG = [
    Row("matmul", lambda m, a, b: m.matmul(a, b), np.matmul, _PRODUCTS),
    Row("@ of transposes", lambda m, a, b: a.mT @ b.mT, lambda a, b: np.swapaxes(a, -1, -2) @ np.swapaxes(b, -1, -2),
        (case((4, 3), (2, 4)), case((2, 4, 3), (2, 4)), case((2, 4, 3), (2, 5, 4)), case((4, 3), (2, 5, 4)))),
    Row("mm", lambda m, a, b: m.mm(a, b), np.matmul, (case((3, 4), (4, 2)), case((3, 0), (0, 2)))),
    Row("mv", lambda m, a, b: m.mv(a, b), np.matmul, (case((3, 4), (4,)), case((0, 4), (4,)))),
    Row("dot", lambda m, a, b: m.dot(a, b), np.dot, (case((4,), (4,)), case((0,), (0,)))),
    Row("outer", lambda m, a, b: m.outer(a, b), np.outer, (case((4,), (3,)), case((0,), (3,)))),
    Row("bmm", lambda m, a, b: m.bmm(a, b), np.matmul, (case((2, 3, 4), (2, 4, 2)), case((0, 3, 4), (0, 4, 2)))),
    Row("addmm", lambda m, c, a, b, **k: m.addmm(c, a, b, **k),
        lambda c, a, b, beta=1, alpha=1: beta * c + alpha * (a @ b),
        (case((2,), (3, 4), (4, 2)), case((3, 2), (3, 4), (4, 2), beta=0.5, alpha=-2.0))),
    Row("linear", lambda m, x, w, b: m.nn.functional.linear(x, w, b), lambda x, w, b: x @ w.T + b,
        (case((5, 4), (3, 4), (3,)), case((4,), (3, 4), (3,)), case((2, 5, 4), (3, 4), (3,)),
         case((0, 4), (3, 4), (3,)))),
    Row("linear without bias", lambda m, x, w: m.nn.functional.linear(x, w), lambda x, w: x @ w.T,
        (case((5, 4), (3, 4)), case((4,), (3, 4)), case((2, 5, 4), (3, 4)))),
    Row("linear with relu", lambda m, x, w, b: m.nn.functional.linear(x, w, b, relu=True),
        lambda x, w, b: np.maximum(x @ w.T + b, 0),
        (case((5, 4), (3, 4), (3,)), case((2, 5, 4), (3, 4), (3,))), parity=False),
]  # fmt: skip

# --- functions of layers ----------------------------------------------------------------------------------------------


def _standard(x, axis, eps=1e-5):
    return (x - x.mean(axis, keepdims=True)) / np.sqrt(x.var(axis, keepdims=True) + eps)


def _batch_norm(m, x, w, b, **k):
    return m.nn.functional.batch_norm(x, None, None, w, b, True, **k)


def _attention(q, k, v, is_causal=False):
    scores = q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1])
    if is_causal:
        scores = np.where(np.tri(*scores.shape[-2:], dtype=bool), scores, -np.inf)
    return _softmax(scores, -1) @ v


_FEW = cases(((), (7,), (3, 5), (0,)))


def _functional(name, reference, *domains, chosen=_FEW, smooth=True, parity=True, **arguments):
    def call(m, *tensors, **more):
        return getattr(m.nn.functional, name)(*tensors, **arguments, **more)

    return Row(f"F.{name}", call, reference, chosen, domains or ("nonzero",), smooth, parity=parity)


def _rows_of(places):
    return lambda w: w[places]


def _sorted(x, dim=-1, descending=False):
    order = np.argsort(-x if descending else x, dim)
    return np.take_along_axis(x, order, dim), order


def _middle(x, dim, keepdim=False):
    order = np.take(np.argsort(x, dim), [(x.shape[dim] - 1) // 2], dim)
    values = np.take_along_axis(x, order, dim)
    return (values, order) if keepdim else (values.squeeze(dim), order.squeeze(dim))


def _named(name, reference, *chosen, domains=("distinct",), **flags):
    return Row(name, lambda m, *xs, **k: getattr(m, name)(*xs, **k), reference, chosen, domains, **flags)


ORDERS = [
    _named("sort", _sorted, case((7,)), case((3, 5), dim=0), case((2, 3, 4), dim=1, descending=True), case((0,))),
    _named("argsort", lambda x, **k: _sorted(x, **k)[1], case((7,)), case((3, 5), dim=0, descending=True),
           gradient=False),
    _named("topk", lambda x, k, dim=-1, largest=True: [y.take(range(k), dim) for y in _sorted(x, dim, largest)],
           case((7,), k=3), case((3, 5), k=2, dim=0), case((3, 5), k=5, largest=False), case((4,), k=0)),
    _named("median", _middle, case((7,), dim=0), case((3, 4), dim=1), case((3, 4), dim=0, keepdim=True)),
    Row("unique", lambda m, x: m.unique(m.floor(x), return_inverse=True, return_counts=True),
        lambda x: [y.reshape(x.shape) if i == 1 else y for i, y in
                   enumerate(np.unique(np.floor(x), return_inverse=True, return_counts=True))],
        (case((3, 5)), case((7,)), case((0,))), ("between",), gradient=False),
    _named("roll", lambda x, shifts, dims=None: np.roll(x, shifts, dims), case((7,), shifts=2),
           case((3, 4), shifts=-1), case((3, 4), shifts=(1, 6), dims=(0, -1)), case((0,), shifts=1)),
    _named("repeat_interleave", lambda x, repeats, dim=None: np.repeat(x, repeats, dim), case((3, 4), repeats=2),
           case((3, 4), repeats=3, dim=1), case((2, 3), repeats=0, dim=0)),
    Row("repeat_interleave", lambda m, x: m.repeat_interleave(x, m.tensor([2, 0, 1]), dim=0),
        lambda x: np.repeat(x, [2, 0, 1], 0), (case((3,)), case((3, 2)))),
    _named("meshgrid", lambda *xs, indexing: np.meshgrid(*xs, indexing=indexing), case((2,), (3,), indexing="ij"),
           case((2,), (3,), (2,), indexing="xy"), case((2,), indexing="xy")),
    _named("trace", np.trace, case((3, 3)), case((2, 4)), domains=("any",)),
    _named("cdist", lambda a, b, p=2.0: (np.abs(a[..., :, None, :] - b[..., None, :, :]) ** p).sum(-1) ** (1 / p),
           case((2, 3), (4, 3)), case((2, 2, 3), (1, 3, 3), p=1.0), case((2, 3), (2, 3), p=3.0), domains=("any",),
           rtol=4, smooth=False),
    _named("std_mean", lambda x, dim=None: [x.std(dim, ddof=1), x.mean(dim)], case((3, 4), dim=0), case((5,))),
    _named("var_mean", lambda x, dim, correction: [x.var(dim, ddof=correction), x.mean(dim)],
           case((3, 4), dim=1, correction=0)),
    *[Row(name, lambda m, x, name=name, **k: getattr(m, name)(m.where(x > 0, x, math.nan), **k),
          lambda x, dim=None, f=f: f(np.where(x > 0, x, np.nan), dim), (case((9,)), case((5, 7), dim=1)), ("nonzero",))
      for name, f in (("nansum", np.nansum), ("nanmean", np.nanmean))],
    Row("nan_to_num", lambda m, x: m.nan_to_num(x / (x > 0), 2.0, 3.0, -1.0),
        lambda x: np.where(x > 0, x, -1), (case((9,)),), ("nonzero",), gradient=False),
    _named("clamp_min", lambda x, min: np.maximum(x, min), case((3, 4), min=0.0), domains=("between",), smooth=False),
    _named("clamp_max", lambda x, max: np.minimum(x, max), case((3, 4), max=0.0), domains=("between",), smooth=False),
    Row("bincount", lambda m, x: (m.bincount((x * x).long()), m.bincount((x * x).long(), minlength=30)),
        lambda x: [np.bincount(np.floor(x * x).astype(int), minlength=n) for n in (0, 30)],
        (case((9,)), case((0,))), ("between",), gradient=False),
]  # fmt: skip
FUNCTIONAL = [
    _functional("hardtanh", lambda x: np.clip(x, -1, 1), "between", smooth=False),
    _functional("relu6", lambda x: np.clip(x, 0, 6), "between", smooth=False),
    _functional("hardsigmoid", lambda x: np.clip(x + 3, 0, 6) / 6, "between", smooth=False,
                parity=False),  # PyTorch's slope is 1 / 6 in float32 in float64 too
    _functional("hardswish", lambda x: x * np.clip(x + 3, 0, 6) / 6, "between", smooth=False),
    _functional("hardshrink", lambda x: x * (np.abs(x) > 0.5), "between", smooth=False),
    _functional("softshrink", lambda x: np.sign(x) * np.maximum(np.abs(x) - 0.5, 0), "between", smooth=False),
    _functional("threshold", lambda x: np.where(x > 0.1, x, 2), "between", smooth=False, threshold=0.1, value=2.0),
    _functional("selu", lambda x: 1.0507009873554805
                * np.where(x > 0, x, 1.6732632423543772 * np.expm1(np.minimum(x, 0)))),
    _functional("celu", lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2)), alpha=2.0),
    _functional("mish", lambda x: x * np.tanh(np.log1p(np.exp(x)))),
    _functional("softsign", lambda x: x / (1 + np.abs(x))),
    _functional("tanhshrink", lambda x: x - np.tanh(x)),
    _functional("logsigmoid", lambda x: -np.log1p(np.exp(-x))),
    _functional("softmin", lambda x, dim: _softmax(-x, dim), chosen=(case((3, 5), dim=0), case((2, 3, 2), dim=-1))),
    _functional("glu", lambda x, dim=-1: np.divide(np.split(x, 2, dim)[0], 1 + np.exp(-np.split(x, 2, dim)[1])),
                chosen=(case((4,)), case((3, 6)), case((4, 3), dim=0))),
    _functional("prelu", lambda x, w: np.where(x > 0, x, x * w.reshape((-1,) + (1,) * max(x.ndim - 2, 0))),
                chosen=(case((3, 2), (2,)), case((2, 3, 2), (3,)), case((5,), (1,)))),
    Row("layer_norm", lambda m, x, w, b: m.nn.functional.layer_norm(x, tuple(w.shape), w, b),
        lambda x, w, b: _standard(x, tuple(range(-w.ndim, 0))) * w + b,
        (case((3, 5), (5,), (5,)), case((2, 2, 3), (2, 3), (2, 3)), case((4,), (4,), (4,)), case((0, 4), (4,), (4,))),
        rtol=10),
    Row("rms_norm", lambda m, x, w: m.nn.functional.rms_norm(x, tuple(w.shape), w, 1e-5),
        lambda x, w: x / np.sqrt(np.mean(x * x, -1, keepdims=True) + 1e-5) * w, (case((3, 5), (5,)), case((4,), (4,))),
        rtol=4),
    Row("group_norm", lambda m, x, w, b: m.nn.functional.group_norm(x, 2, w, b),
        lambda x, w, b: (_standard(x.reshape(x.shape[0], 2, -1), 2).reshape(x.shape)
                         * w.reshape(-1, *(1,) * (x.ndim - 2)) + b.reshape(-1, *(1,) * (x.ndim - 2))),
        (case((3, 6), (6,), (6,)), case((2, 4, 3), (4,), (4,))), rtol=10),
    Row("batch_norm", _batch_norm,
        lambda x, w, b: (_standard(x, (0, *range(2, x.ndim))) * w.reshape(-1, *(1,) * (x.ndim - 2))
                         + b.reshape(-1, *(1,) * (x.ndim - 2))),
        (case((5, 3), (3,), (3,)), case((3, 2, 4), (2,), (2,))), rtol=10),
    *[Row("embedding", lambda m, w, at=at: m.nn.functional.embedding(m.from_numpy(at), w), _rows_of(at),
          (case((4, 3)),))
      for at in (np.array([1, 3, 1]), np.array([[0, 2], [2, 2]]), np.zeros((0,), int), np.array(2))],
    Row("attention", lambda m, *xs, **k: m.nn.functional.scaled_dot_product_attention(*xs, **k), _attention,
        (case((2, 3), (4, 3), (4, 2)), case((2, 3, 2), (2, 3, 2), (2, 3, 2), is_causal=True)), rtol=4),
]  # fmt: skip

TABLE = [*POINTWISE, *INPLACE, *REDUCTIONS, *SHAPES, *INDEXING, *LINALG, *ORDERS, *FUNCTIONAL]
DIFFERENTIABLE = [row for row in TABLE if row.gradient]


def outputs(result):
    """The results of an operation as a list."""
    return list(result) if isinstance(result, (tuple, list)) else [result]
