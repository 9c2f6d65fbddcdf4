"""What loss kernels share: strips on the stack, labels, results too large for the caches.

DESIGN
a. Strips of STRIP elements go through a buffer on the stack, so that every loop is short, simple and vectorised, and
   what is read and written alternates often enough for the memory to be busy while numbers are crunched.
b. A store reads the line that it overwrites, unless it fills whole lines and goes past the caches. For a gradient too
   large to stay in a cache (FAR) that saves a third of the traffic of a loss. It changes no bit.
c. A label is read once and checked where it is used, since another thread may write it after the caller's check.
"""

import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from .contract import jit

STRIP = 512  # elements that pass through the stack at once
FAR = 8 << 20  # bytes of a result that no cache will keep until it is read

_jit = jit(forceinline=True)
_jit_sum = jit(fastmath={"reassoc"}, forceinline=True)  # for the additions written in that very function
_call = jit(fastmath={"reassoc"})  # rare or long work, left to a call: compiling it once is enough


@intrinsic
def _ordered(typing, x):
    """The bits of x as a signed integer in the order of the floats; its own inverse (nan: beyond the infinities)."""
    integer = types.int32 if x == types.float32 else types.int64 if x == types.float64 else x
    number = {types.int32: types.float32, types.int64: types.float64}.get(x)

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], context.get_value_type(integer))
        width = bits.type.width
        flip = builder.lshr(builder.ashr(bits, bits.type(width - 1)), bits.type(1))  # all but the sign if negative
        return builder.bitcast(builder.xor(bits, flip), context.get_value_type(number or integer))

    return (number or integer)(x), generate


@intrinsic
def _larger(typing, a, b):
    """The larger of two integers, without Numba's widening to int64."""

    def generate(context, builder, signature, arguments):
        return builder.select(builder.icmp_signed(">", *arguments), *arguments)

    return (a(a, b), generate) if a == b else None


@intrinsic(prefer_literal=True)
def scratch(typing, dtype, n):
    """Room for n (a literal) numbers of T on the stack, at a multiple of 64 bytes."""
    pointer, length = types.CPointer(dtype.dtype), n.literal_value

    def generate(context, builder, signature, arguments):
        room = cgutils.alloca_once(builder, context.get_data_type(dtype.dtype), size=length)
        room.align = 64
        return room

    return pointer(dtype, n), generate


# --- large results ----------------------------------------------------------------------------------------------------


@intrinsic
def _address(typing, x):
    return types.int64(x), lambda context, builder, signature, arguments: builder.ptrtoint(arguments[0], ir.IntType(64))


@intrinsic
def _store_lines(typing, y, o, x, ox, n, scale):
    """y[o : o + n] = scale * x[ox : ox + n] past the caches, by lines of 64 bytes: y[o] begins one, n fills them."""

    def generate(context, builder, signature, arguments):
        y, o, x, ox, n, scale = arguments
        lanes = 64 // signature.args[0].dtype.bitwidth * 8
        line = ir.VectorType(scale.type, lanes)
        factor = ir.Constant(line, ir.Undefined)
        for lane in range(lanes):
            factor = builder.insert_element(factor, scale, ir.IntType(32)(lane))
        with cgutils.for_range_slice(builder, n.type(0), n, n.type(lanes), n.type) as (i, _):
            source = builder.gep(x, [builder.add(ox, i)])
            value = builder.load(builder.bitcast(source, line.as_pointer()))
            value.align = signature.args[0].dtype.bitwidth // 8
            target = builder.gep(y, [builder.add(o, i)])
            store = builder.store(builder.fmul(factor, value), builder.bitcast(target, line.as_pointer()))
            store.align = 64
            store.set_metadata("nontemporal", builder.module.add_metadata([ir.IntType(32)(1)]))
        return context.get_dummy_value()

    return types.void(y, o, x, ox, n, scale), generate


@intrinsic
def _fence(typing):
    """Order what was stored past the caches before what follows."""

    def generate(context, builder, signature, arguments):
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def _itemsize(typing, x):
    return types.int64(x), lambda context, *_: ir.IntType(64)(x.dtype.bitwidth // 8)


@intrinsic
def _fetch(typing, x, o):
    """Bring x[o] from memory, without waiting for it."""

    def generate(context, builder, signature, arguments):
        byte = ir.IntType(8).as_pointer()
        kind, i32 = ir.FunctionType(ir.VoidType(), [byte, *[ir.IntType(32)] * 3]), ir.IntType(32)
        prefetch = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        address = builder.bitcast(builder.gep(arguments[0], [arguments[1]]), byte)
        builder.call(prefetch, [address, i32(0), i32(2), i32(1)])
        return context.get_dummy_value()

    return types.void(x, o), generate


@_jit
def _far(y, n):
    """Are n numbers more than the caches are likely to keep until they are read?"""
    return n * _itemsize(y) >= FAR


@_jit
def _hand_over(y, o, x, ox, n, scale, far):
    """y[o : o + n] = scale * x[ox : ox + n]; far: past the caches, which saves reading what is overwritten."""
    size, i = _itemsize(y), 0
    if far:
        i = min(n, -_address(y) // size - o & 64 // size - 1)
        for j in range(i):
            y[o + j] = scale * x[ox + j]
        lines = n - i & -(64 // size)
        _store_lines(y, o + i, x, ox + i, lines, scale)
        i += lines
    for j in range(i, n):
        y[o + j] = scale * x[ox + j]


# --- rows ---------------------------------------------------------------------------------------------------------


@_jit
def _label(target, row, n, ignore_index):
    """The label of a row, or -1 if it does not count. Read once: another thread may write it meanwhile."""
    t = target[row]
    return t if (t != ignore_index) & (np.uint64(t) < np.uint64(n)) else -1


@_jit
def _zero(dx, o, n):
    for j in range(o, o + n):
        dx[j] = type(dx[0])(0)
