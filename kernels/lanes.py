"""Explicit vectors, for loops that LLVM leaves partly scalar: reductions of rows, extremes, transposition.

DESIGN
a. ``Lanes`` of an element type is a vector of LANES elements; LLVM splits it where registers are narrower. A bool is a
   byte. ``load`` reads fewer than LANES with a mask, so that a row needs no scalar tail.
b. ``+`` and ``*`` work on Lanes, ``convert``, ``truth``, ``higher`` and ``lower`` on Lanes and on numbers, so that one
   formula serves rows and columns. ``rotated`` and ``first`` fold a vector in an order that the CPU has no say in.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.datamodel import models
from numba.extending import intrinsic, overload, register_model

from .contract import JIT

LANES = 16
NEVER = 1 << 30  # more than lanes are asked for
BLOCK = 8  # rows and columns that ``turn`` transposes


class Lanes(types.Type):
    """LANES elements of one type."""

    def __init__(self, element):
        self.element = element
        super().__init__(f"Lanes({element})")


@register_model(Lanes)
class _Model(models.PrimitiveModel):
    def __init__(self, manager, lanes):
        super().__init__(manager, lanes, ir.VectorType(manager.lookup(lanes.element).get_data_type(), LANES))


def _element(t):
    return t.element if isinstance(t, Lanes) else t


def _size(context, t):
    return context.get_abi_sizeof(context.get_data_type(t))


def _splat(builder, value, count=LANES):
    vector = ir.VectorType(value.type, count)
    one = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), count), [0] * count))


def _shuffle(builder, a, b, order):
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order))


# --- memory -----------------------------------------------------------------------------------------------------------


@intrinsic
def stack(typing, like, count):
    """A buffer on the stack of ``count`` (a literal) elements of the type of ``like``; call it in the kernel itself."""
    if not isinstance(count, types.IntegerLiteral):
        return None
    pointer = types.CPointer(like)

    def generate(context, builder, signature, arguments):
        slot = cgutils.alloca_once(builder, context.get_data_type(like), size=count.literal_value)
        slot.align = 64
        return slot

    return pointer(like, count), generate


@intrinsic
def splat(typing, value):
    """LANES times value."""

    def generate(context, builder, signature, arguments):
        return _splat(builder, context.get_value_as_data(builder, value, arguments[0]))

    return Lanes(value)(value), generate


@intrinsic
def load(typing, x, at, count, other):
    """x[at : at + LANES], from lane ``count`` on ``other`` instead, without reading there."""

    def generate(context, builder, signature, arguments):
        p, i, n, rest = arguments
        rest = _splat(builder, context.get_value_as_data(builder, x.dtype, rest))
        mask = _below(builder, list(range(LANES)), n)
        return _masked(context, builder, "load", x.dtype, builder.gep(p, [i]), mask, rest)

    return Lanes(x.dtype)(x, at, types.intp, x.dtype), generate


@intrinsic
def store(typing, y, at, v):
    """y[at : at + LANES] = v."""

    def generate(context, builder, signature, arguments):
        p = builder.gep(arguments[0], [arguments[1]])
        p = builder.bitcast(p, arguments[2].type.as_pointer())
        builder.store(arguments[2], p, align=_size(context, y.dtype))
        return context.get_dummy_value()

    return types.void(y, at, v), generate


@intrinsic
def prefetch(typing, x, at):
    """Have the cache line of x[at], which need not exist, brought to the second cache."""

    def generate(context, builder, signature, arguments):
        word, byte = ir.IntType(32), ir.IntType(8).as_pointer()
        signature = ir.FunctionType(ir.VoidType(), [byte, word, word, word])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0")
        where = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        builder.call(function, [where, word(0), word(2), word(1)])
        return context.get_dummy_value()

    return types.void(x, at), generate


def _masked(context, builder, name, element, pointer, mask, value):
    """Load or store (``name``) LANES elements where the mask is set."""
    word, size, loads = ir.IntType(32), _size(context, element), name == "load"
    kind = f"{'f' if isinstance(element, types.Float) else 'i'}{8 * size}"
    name = f"llvm.masked.{name}.v{LANES}{kind}.p0"
    inputs = [pointer.type, word, mask.type, value.type] if loads else [value.type, pointer.type, word, mask.type]
    signature = ir.FunctionType(value.type if loads else ir.VoidType(), inputs)
    function = builder.module.globals.get(name) or ir.Function(builder.module, signature, name)
    given = [pointer, word(size), mask, value] if loads else [value, pointer, word(size), mask]
    return builder.call(function, given)


def _numbers(values):
    return ir.Constant(ir.VectorType(ir.IntType(32), LANES), values)


def _below(builder, values, count):
    """A mask: which of LANES constants are below a number."""
    return builder.icmp_signed("<", _numbers(values), _splat(builder, builder.trunc(count, ir.IntType(32))))


@intrinsic
def spread_load(typing, x, at, count, stride):
    """Lane i is x[at + i * stride] for i < count; stride is a literal: -1, or 1 and more."""
    if not isinstance(stride, types.IntegerLiteral):
        return None
    s = stride.literal_value

    def generate(context, builder, signature, arguments):
        p, at, count, _ = arguments
        if s > 0:  # what lies in between may be read
            return _spread(context, builder, x, p, at, lambda e: _below(builder, [-(-i // s) for i in e], count), s)
        back = list(range(LANES - 1, -1, -1))
        where = builder.gep(p, [builder.add(at, at.type(1 - LANES))])
        undefined = ir.VectorType(context.get_data_type(x.dtype), LANES)(ir.Undefined)
        v = _masked(context, builder, "load", x.dtype, where, _below(builder, back, count), undefined)
        return _shuffle(builder, v, v, back)

    return Lanes(x.dtype)(x, types.intp, types.intp, stride), generate


@intrinsic
def join(typing, x, at, first, to, count, stride, other):
    """Lane i is x[at + i * stride] for i < first, x[to + (i - first) * stride] below count, else ``other``."""
    if not isinstance(stride, types.IntegerLiteral):
        return None
    s = stride.literal_value

    def generate(context, builder, signature, arguments):
        p, at, first, to, count, _, rest = arguments
        lanes = list(range(LANES))

        def below(elements, bound):  # reads nothing that lies in between
            return _below(builder, [i // s if i % s == 0 else NEVER for i in elements], bound)

        def between(elements):
            return builder.and_(builder.not_(below(elements, first)), below(elements, count))

        rest = _splat(builder, context.get_value_as_data(builder, x.dtype, rest))
        to = builder.sub(to, builder.mul(first, first.type(s)))
        v = _spread(context, builder, x, p, at, lambda e: below(e, first), s)
        w = _spread(context, builder, x, p, to, between, s)
        v = builder.select(_below(builder, lanes, first), v, w)
        return builder.select(_below(builder, lanes, count), v, rest)

    return Lanes(x.dtype)(x, types.intp, types.intp, types.intp, types.intp, stride, x.dtype), generate


def _spread(context, builder, x, p, at, mask, s):
    """Every s-th of s * LANES elements, read where mask(their numbers) is set."""
    undefined = ir.VectorType(context.get_data_type(x.dtype), LANES)(ir.Undefined)

    def part(k):
        where = builder.gep(p, [builder.add(at, at.type(k * LANES))])
        wanted = mask(range(k * LANES, (k + 1) * LANES))
        return _masked(context, builder, "load", x.dtype, where, wanted, undefined)

    v = part(0)
    for k in range(1, s):
        places = [i * s - k * LANES for i in range(LANES)]
        keep = [LANES + q if 0 <= q < LANES else (q + LANES if k == 1 and q < 0 else i) for i, q in enumerate(places)]
        v = _shuffle(builder, v, part(k), keep)
    return v


@intrinsic
def spread_store(typing, y, at, v, count, stride):
    """y[at + i * stride] = lane i for i < count, and nothing in between is written; stride is a literal from 1 on."""
    if not isinstance(stride, types.IntegerLiteral):
        return None
    s = stride.literal_value

    def generate(context, builder, signature, arguments):
        p, at, v, count, _ = arguments
        for k in range(s):
            slots = range(k * LANES, (k + 1) * LANES)
            lanes = [i // s if i % s == 0 else NEVER for i in slots]
            where = builder.gep(p, [builder.add(at, at.type(k * LANES))])
            moved = _shuffle(builder, v, v, [i % LANES for i in lanes])
            _masked(context, builder, "store", y.dtype, where, _below(builder, lanes, count), moved)
        return context.get_dummy_value()

    return types.void(y, types.intp, v, types.intp, stride), generate


@intrinsic
def turn(typing, y, to, sy, x, at, sx):
    """y[to + i * sy + j] = x[at + j * sx + i] for i, j < BLOCK, in registers."""

    def generate(context, builder, signature, arguments):
        p, to, sy, q, at, sx = arguments
        vector, align = ir.VectorType(context.get_data_type(x.dtype), BLOCK), _size(context, x.dtype)

        def place(pointer, start, stride, i):
            pointer = builder.gep(pointer, [builder.add(start, builder.mul(stride, stride.type(i)))])
            return builder.bitcast(pointer, vector.as_pointer())

        rows = [builder.load(place(q, at, sx, j), align=align, typ=vector) for j in range(BLOCK)]
        for d in (1, 2, 4):  # exchange bit d of the row's number with that of the column's
            low = [k if not k & d else BLOCK + k - d for k in range(BLOCK)]
            high = [k + d if not k & d else BLOCK + k for k in range(BLOCK)]
            for i in range(BLOCK):
                if not i & d:
                    a, b = rows[i], rows[i + d]
                    rows[i], rows[i + d] = _shuffle(builder, a, b, low), _shuffle(builder, a, b, high)
        for i in range(BLOCK):
            builder.store(rows[i], place(p, to, sy, i), align=align)
        return context.get_dummy_value()

    return types.void(y, types.intp, types.intp, x, types.intp, types.intp), generate


@intrinsic
def after(typing, x, at):
    """The pointer to x[at]."""
    return x(x, at), lambda context, builder, signature, arguments: builder.gep(arguments[0], [arguments[1]])


@intrinsic
def call(typing, address, units, bufs, dims):
    """Run units [0, units) of the kernel that lies at an address."""

    def generate(context, builder, signature, arguments):
        entry, units, *tuples = arguments
        pointer, word = entry.type, ir.IntType(64)
        places = []
        for type_, values in zip((pointer, word), tuples):
            values = [builder.bitcast(v, type_) for v in cgutils.unpack_tuple(builder, values)]
            places.append(cgutils.alloca_once(builder, ir.ArrayType(type_, len(values))))
            for place, value in enumerate(values):
                builder.store(value, cgutils.gep_inbounds(builder, places[-1], 0, place))
        values = [*(builder.bitcast(p, pointer) for p in places), pointer(None), word(0), units]
        function = ir.FunctionType(ir.VoidType(), [value.type for value in values])
        builder.call(builder.bitcast(entry, function.as_pointer()), values)
        return context.get_dummy_value()

    return types.void(address, types.intp, bufs, types.UniTuple(types.intp, len(dims))), generate


@intrinsic
def same(typing, x, y):
    """Whether two pointers are equal."""

    def generate(context, builder, signature, arguments):
        return builder.icmp_unsigned("==", *[builder.ptrtoint(p, ir.IntType(64)) for p in arguments])

    return types.boolean(x, y), generate


# --- lanes among themselves -------------------------------------------------------------------------------------------


@intrinsic
def rotated(typing, v, by):
    """Lane i of the result is lane i + by (a literal) of v."""
    if not isinstance(by, types.IntegerLiteral):
        return None

    def generate(context, builder, signature, arguments):
        order = [(i + by.literal_value) % LANES for i in range(LANES)]
        return _shuffle(builder, arguments[0], arguments[0], order)

    return v(v, by), generate


@intrinsic
def first(typing, v):
    """Lane 0."""

    def generate(context, builder, signature, arguments):
        value = builder.extract_element(arguments[0], ir.Constant(ir.IntType(32), 0))
        return context.get_data_as_value(builder, v.element, value)

    return v.element(v), generate


@intrinsic
def match(typing, v, value):
    """An integer whose bit i says whether lane i equals value or is nan."""

    def generate(context, builder, signature, arguments):
        a, b = arguments[0], _splat(builder, context.get_value_as_data(builder, value, arguments[1]))
        if isinstance(value, types.Float):
            hit = builder.or_(builder.fcmp_ordered("==", a, b), builder.fcmp_unordered("uno", a, a))
        else:
            hit = builder.icmp_unsigned("==", a, b)
        return builder.zext(builder.bitcast(hit, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(v, v.element), generate


@intrinsic
def lowest_bit(typing, bits):
    """The place of the lowest bit that is set; one is."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], ir.Constant(ir.IntType(1), 1))

    return types.int64(types.int64), generate


# --- arithmetic -------------------------------------------------------------------------------------------------------


def _operator(symbol, of_floats, of_integers):
    @intrinsic
    def apply(typing, a, b):
        def generate(context, builder, signature, arguments):
            return getattr(builder, of_floats if isinstance(a.element, types.Float) else of_integers)(*arguments)

        return a(a, b), generate

    @overload(symbol, jit_options=JIT)
    def applied(a, b):
        if isinstance(a, Lanes) and a == b:
            return lambda a, b: apply(a, b)


_operator(operator.add, "fadd", "add")
_operator(operator.mul, "fmul", "mul")


@intrinsic
def convert(typing, y, v):
    """v, a number or Lanes, converted to the element type of pointer y; wider only, if Lanes."""
    result = Lanes(y.dtype) if isinstance(v, Lanes) else y.dtype

    def generate(context, builder, signature, arguments):
        if not isinstance(v, Lanes):
            return context.cast(builder, arguments[1], v, y.dtype)
        if v.element == y.dtype:
            return arguments[1]
        target = context.get_value_type(result)
        if isinstance(v.element, types.Float):
            return builder.fpext(arguments[1], target)
        signed = isinstance(v.element, types.Integer) and v.element.signed
        return (builder.sext if signed else builder.zext)(arguments[1], target)

    return result(y, v), generate


@intrinsic
def truth(typing, y, v):
    """v != 0, for a number or Lanes, as 0 and 1 of the element type of pointer y, a byte."""
    result = Lanes(y.dtype) if isinstance(v, Lanes) else y.dtype

    def generate(context, builder, signature, arguments):
        value, floats = arguments[1], isinstance(_element(v), types.Float)
        zero = ir.Constant(value.type, None if isinstance(v, Lanes) else 0)
        hit = (
            builder.fcmp_unordered("!=", value, zero)
            if floats
            else value
            if value.type == ir.IntType(1)
            else builder.icmp_unsigned("!=", value, zero)
        )
        return builder.zext(hit, context.get_value_type(result))

    return result(y, v), generate


def _extreme(sign, nan):
    @intrinsic
    def choose(typing, a, b):
        def generate(context, builder, signature, arguments):
            x, y, element = *arguments, _element(a)
            if not isinstance(element, types.Float):
                signed = isinstance(element, types.Integer) and element.signed
                compare = builder.icmp_signed if signed else builder.icmp_unsigned
                return builder.select(compare(sign, y, x), y, x)
            best = builder.select(builder.fcmp_ordered(sign, y, x), y, x)
            return builder.select(builder.fcmp_unordered("uno", y, y), y, best) if nan else best

        return (a(a, b), generate) if a == b else None

    return choose


# Of two numbers or Lanes; nan if one of them is. The others lose a nan, and are one instruction.
higher, lower, higher_number, lower_number = _extreme(">", 1), _extreme("<", 1), _extreme(">", 0), _extreme("<", 0)


@intrinsic
def unordered(typing, a, b):
    """An integer that is not 0 if any lane of a or b is nan."""

    def generate(context, builder, signature, arguments):
        if not isinstance(a.element, types.Float):
            return ir.IntType(64)(0)
        hit = builder.fcmp_unordered("uno", *arguments)
        return builder.zext(builder.bitcast(hit, ir.IntType(LANES)), ir.IntType(64))

    return types.int64(a, b), generate


@intrinsic
def bound(typing, x, top):
    """The largest (top = 1) or the least value (0) of the element type of pointer x."""

    def generate(context, builder, signature, arguments):
        t, high = x.dtype, top.literal_value
        if isinstance(t, types.Float):
            return context.get_constant(t, float("inf") if high else -float("inf"))
        if t == types.boolean:
            return ir.Constant(ir.IntType(1), high)
        return context.get_constant(t, t.maxval if high else t.minval)

    return (x.dtype(x, top), generate) if isinstance(top, types.IntegerLiteral) else None
