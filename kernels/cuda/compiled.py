"""What the functions of ``parts.py`` and the type of ``dims`` become in PTX."""

import operator

from llvmlite import ir
from numba import cuda
from numba.cuda import types
from numba.cuda.datamodel.models import PrimitiveModel
from numba.cuda.extending import intrinsic, overload, register_model

ALL = 0xFFFFFFFF  # lanes of a warp
DIMS = 40


# --- the integers of ``dims``, in the kernel's parameters -------------------------------------------------------------


class Dims(types.Type):
    """DIMS int64, passed by value, indexed in place."""

    def __init__(self):
        super().__init__("Dims")


@register_model(Dims)
class _DimsModel(PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, ir.ArrayType(ir.IntType(64), DIMS).as_pointer())


class _ByValue:
    """The attributes of a parameter that is passed by value, as NVVM's dialect of LLVM writes them."""

    def _to_list(self, type_):
        return ["byval"]


def pass_dims_by_value(kernel):
    for argument in kernel.args:
        if argument.type == ir.ArrayType(ir.IntType(64), DIMS).as_pointer():
            argument.attributes = _ByValue()


@intrinsic
def _dim(typing, x, i):
    def generate(context, builder, signature, arguments):
        return builder.load(builder.gep(arguments[0], [ir.IntType(64)(0), arguments[1]]))

    return types.int64(x, types.intp), generate


@overload(operator.getitem)
def _get_dim(x, i):
    if isinstance(x, Dims):
        return lambda x, i: _dim(x, i)


# --- memory -----------------------------------------------------------------------------------------------------------


def _four(context, builder, pointer, i):
    """Pointers to vectors that cover four elements from the i-th on, elements in each, and their alignment."""
    element = pointer.type.pointee
    size = context.get_abi_sizeof(element)
    width = 4 if size <= 4 else 2
    vector = ir.VectorType(element, width)
    first = builder.bitcast(builder.gep(pointer, [i]), vector.as_pointer())
    return [builder.gep(first, [ir.IntType(64)(k)]) for k in range(4 // width)], width, size * width


@intrinsic
def _load4(typing, x, i):
    def generate(context, builder, signature, arguments):
        places, width, align = _four(context, builder, *arguments)
        vectors = [builder.load(place, align=align) for place in places]
        values = [builder.extract_element(v, ir.IntType(32)(k)) for v in vectors for k in range(width)]
        return context.make_tuple(builder, signature.return_type, values)

    return types.UniTuple(x.dtype, 4)(x, types.intp), generate


@intrinsic
def _store4(typing, y, i, a, b, c, d):
    def generate(context, builder, signature, arguments):
        places, width, align = _four(context, builder, *arguments[:2])
        for n, place in enumerate(places):
            vector = ir.Constant(place.type.pointee, ir.Undefined)
            for k in range(width):
                vector = builder.insert_element(vector, arguments[2 + n * width + k], ir.IntType(32)(k))
            builder.store(vector, place, align=align)
        return context.get_dummy_value()

    return types.void(y, types.intp, *[y.dtype] * 4), generate


@intrinsic
def _aligned(typing, x):
    def generate(context, builder, signature, arguments):
        rest = builder.and_(builder.ptrtoint(arguments[0], ir.IntType(64)), ir.IntType(64)(15))
        return builder.icmp_unsigned("==", rest, ir.IntType(64)(0))

    return types.boolean(x), generate


@intrinsic
def _after(typing, x, i):
    return x(x, types.intp), lambda context, builder, signature, arguments: builder.gep(arguments[0], [arguments[1]])


@intrinsic
def _at(typing, address, offset, kind):
    element = kind.dtype if kind.dtype != types.boolean else types.uint8

    def generate(context, builder, signature, arguments):
        there = ir.PointerType(context.get_data_type(element), 1)  # global memory
        place = builder.gep(builder.inttoptr(arguments[0], there), [arguments[1]])
        return builder.addrspacecast(place, there.pointee.as_pointer())

    return types.CPointer(element)(types.intp, types.intp, kind), generate


@intrinsic
def _counter_swap(typing, p, i, old, new):
    def generate(context, builder, signature, arguments):
        place = builder.gep(arguments[0], [arguments[1]])
        found = builder.cmpxchg(place, *arguments[2:], "monotonic", "monotonic")
        return builder.extract_value(found, 0)

    return types.int64(p, types.intp, types.int64, types.int64), generate


# --- numbers ----------------------------------------------------------------------------------------------------------


@intrinsic
def _rint(typing, x):
    name = {types.float32: "__nv_rintf", types.float64: "__nv_rint"}.get(x)

    def generate(context, builder, signature, arguments):
        function = builder.module.globals.get(name)
        if function is None:
            function = ir.Function(builder.module, ir.FunctionType(arguments[0].type, [arguments[0].type]), name)
        return builder.call(function, arguments)

    return (x(x), generate) if name else None


@intrinsic
def _split(typing, t, n):
    def generate(context, builder, signature, arguments):
        t, n = arguments
        q = builder.udiv(t, n)  # NVVM tries 32 bits first
        return context.make_tuple(builder, signature.return_type, [q, builder.sub(t, builder.mul(q, n))])

    return types.UniTuple(types.int64, 2)(types.int64, types.int64), generate


# --- over all threads -------------------------------------------------------------------------------------------------


@cuda.jit(device=True)
def _higher(a, b):
    return a if (a >= b) | (a != a) else b


@cuda.jit(device=True)
def _lower(a, b):
    return a if (a <= b) | (a != a) else b


@cuda.jit(device=True)
def _sum(a, b):
    return a + b


def _wide(v):
    """float32, float64, or int64 for whatever else."""
    v = types.unliteral(v)
    return v if isinstance(v, types.Float) else types.int64


def _warp(combine):
    def typed(v):
        wide = _wide(v)

        def over_warp(v):
            w = wide(v)
            w = combine(w, cuda.shfl_xor_sync(ALL, w, 16))
            w = combine(w, cuda.shfl_xor_sync(ALL, w, 8))
            w = combine(w, cuda.shfl_xor_sync(ALL, w, 4))
            w = combine(w, cuda.shfl_xor_sync(ALL, w, 2))
            return combine(w, cuda.shfl_xor_sync(ALL, w, 1))

        return over_warp

    return typed


def _block(warp, sums):
    def typed(v):
        wide = _wide(v)

        def over_block(v):
            room = cuda.shared.array(32, wide)
            lane, number = cuda.threadIdx.x & 31, cuda.threadIdx.x >> 5
            w = warp(wide(v))
            if lane == 0:
                room[number] = w
            cuda.syncthreads()
            if lane << 5 < cuda.blockDim.x:
                w = room[lane]
            else:
                w = wide(0) if sums else room[0]
            w = warp(w)
            cuda.syncthreads()  # before the room serves the next
            return w

        return over_block

    return typed


def overload_parts(parts):
    """Tell Numba what the functions of ``parts`` are."""

    def told(name, typed):
        overload(parts[name])(typed)

    for name, combine in (("sum", _sum), ("max", _higher), ("min", _lower)):
        told(f"warp_{name}", _warp(combine))
        told(f"block_{name}", _block(parts[f"warp_{name}"], name == "sum"))
    told("load4", lambda x, i: lambda x, i: _load4(x, i))
    told("store4", lambda y, i, a, b, c, d: lambda y, i, a, b, c, d: _store4(y, i, a, b, c, d))
    told("aligned", lambda x: lambda x: _aligned(x))
    told("after", lambda x, i: lambda x, i: _after(x, i))
    told("at", lambda address, offset, T: lambda address, offset, T: _at(address, offset, T))
    told("counter_swap", lambda p, i, old, new: lambda p, i, old, new: _counter_swap(p, i, old, new))
    told("rint", lambda x: lambda x: _rint(x))
    told("split", lambda t, n: lambda t, n: _split(t, n))
