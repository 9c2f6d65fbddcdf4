"""Tensor as users see it: which operations are its methods, conversions, copies, pickling, and the engine's plug-ins.

The engine attaches what stands in the tables below; what an operation does is written in ``ops/``.
"""

import functools

from . import creation, interchange, printing, random
from ._engine import Op, Tensor, add_methods, copy_, empty, filled, from_buffer, install_operators, move, write_memory
from ._engine import _cast as cast
from ._gradmode import enable_grad, is_grad_enabled, no_grad
from ._plug import install
from ._record import current
from ._storage import bool_, float32, float64, int8, int16, int32, int64, uint8
from .device import ACCELERATOR, cpu, is_page_locked, page_locked, send
from .device import device as device_type
from .ops import arithmetic, comparison, composed, indexing, linalg, pointwise, reduce, shape, sorting
from .ops._warn import warn_user
from .ops.memory_format import check_format, contiguous_format
from .size import Size

# --- what the engine asks for -----------------------------------------------------------------------------------------


def _any_zero(x):
    """Whether any integer in ``x`` is zero."""
    if x.numel() == 1:
        return x.item() == 0
    return not (x.detach() if x._device < 0 else move(x.detach(), None)).numpy().all()


def _decorate(mode, function):
    """``function`` run under a grad mode; each step of a generator function too. A mode of its own for each call."""
    import inspect

    enter = enable_grad if not mode.off else no_grad
    if inspect.isgeneratorfunction(function):

        @functools.wraps(function)
        def wrapped(*args, **kwargs):
            generator = function(*args, **kwargs)
            reply, send = None, generator.send
            while True:
                try:
                    with enter():
                        item = send(reply)
                except StopIteration as stop:
                    return stop.value
                try:
                    reply, send = (yield item), generator.send
                except GeneratorExit:
                    with enter():
                        generator.close()
                    raise
                except BaseException as error:
                    reply, send = error, generator.throw

        return wrapped

    @functools.wraps(function)
    def wrapped(*args, **kwargs):
        with enter():
            return function(*args, **kwargs)

    return wrapped


def _warn_nonleaf():
    warn_user(
        "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed. Its .grad attribute won't be "
        "populated during autograd.backward(). If you indeed want the .grad field to be populated for a non-leaf "
        "Tensor, use .retain_grad() on the non-leaf Tensor."
    )


def _power(a, b):
    for value in (a, b):
        if not isinstance(value, (Tensor, float, int)) and not creation.is_array(value):
            return NotImplemented
    return pointwise.pow(a, b)


# --- conversions ------------------------------------------------------------------------------------------------------


def destination(args, dtype=None, device=None, copy=False, non_blocking=False):
    """(dtype, device, copy, non_blocking) that the arguments of ``to`` ask for; None for what stays."""
    flags = 0
    for given in args:
        if isinstance(given, Tensor):
            dtype, device = given.dtype, given.device
        elif isinstance(given, (str, device_type)):
            device = given
        elif isinstance(given, int):
            if isinstance(given, bool):
                flags += 1
                copy, non_blocking = copy or (given and flags == 2), non_blocking or (given and flags == 1)
            else:
                device = given
        elif given is not None:
            if not creation.is_dtype(given):
                raise TypeError(f"to(): expected a dtype, a device or a tensor, got {given!r}")
            dtype = given
    return dtype, device, copy, non_blocking


def to(self, *args, dtype=None, device=None, non_blocking=False, copy=False, memory_format=None):
    """The tensor with another dtype or on another device: ``to(dtype)``, ``to(device)``, ``to(other)``; recorded.

    ``to(device, dtype, non_blocking, copy)`` and ``to(other, non_blocking, copy)`` work too. The tensor itself if
    nothing changes and ``copy`` is false. With ``non_blocking`` a GPU copies from page-locked memory (``pin_memory``)
    by itself, while the host goes on: that memory must not change until the GPU is done, but may be let go of. Else
    ``non_blocking`` changes nothing: what is copied to a device may be changed at once, and what is copied from one is
    there. ``memory_format``: ``contiguous_format`` makes contiguous what lies channels last, as in PyTorch.

    >>> import minigrad as mg
    >>> mg.tensor([1, 2]).to(mg.float64)
    tensor([1., 2.], dtype=minigrad.float64)
    """
    if args:
        dtype, device, copy, non_blocking = destination(args, dtype, device, copy, non_blocking)
    made = self if device is None else _moved(self, creation.like_of(device), non_blocking)
    made = made if dtype is None else cast(made, dtype)
    if memory_format is not None:
        check_format(memory_format, "to")
        if memory_format is contiguous_format and made.ndim in (4, 5):
            made = made.contiguous() if made.movedim(1, -1).is_contiguous() else made
    return made.clone() if copy and made is self else made


def to_cpu(self, memory_format=None):
    """The tensor itself if it is on the CPU, else a copy that is; recorded."""
    return to(self, device=cpu, memory_format=memory_format)


def to_accelerator(self, device=None, non_blocking=False, memory_format=None):
    """The tensor on a GPU, by default the current one: itself if it is there, else a copy; recorded."""
    made = _moved(self, creation.like_of(ACCELERATOR if device is None else device), non_blocking)
    return to(made, memory_format=memory_format)


_SEND, _PIN = Op("ToCopy", lambda dy: move(dy, None)), Op("PinMemory", "dy")


def _moved(x, like, non_blocking):
    direct = non_blocking and like is not None and is_pinned(x) and x.is_contiguous() and x.numel()
    if not direct or current() is not None:  # a program has its own uploads
        return move(x, like)
    made = empty(x.shape, x.dtype, like)
    send(made._device, made.data_ptr(), x.data_ptr(), x.numel() * x.element_size())
    return _SEND.record(made, x)


def pin_memory(self, device=None):
    """The tensor in page-locked memory of the CPU, from which a GPU copies at full speed; recorded.

    Itself if it is there already. RuntimeError where there is no GPU, or if it is on one.
    """
    if self._device >= 0:
        raise RuntimeError(f"cannot pin '{self.type()}' only dense CPU tensors can be pinned")
    if is_pinned(self):
        return self
    room = page_locked(self.numel() * self.element_size(), device)
    made = from_buffer(room, self.dtype.name, self.shape, shape.row_major(self.shape), True)
    return _PIN.record(write_memory(made, self), self)


def is_pinned(self, device=None):
    """Whether the tensor lies in page-locked memory."""
    return self._device < 0 and is_page_locked(self.data_ptr())


def get_device(self):
    """The number of the tensor's device, -1 for the CPU."""
    return self._device


def type_(self, dtype=None, non_blocking=False):
    """The name of the tensor's type, or the tensor converted to ``dtype``."""
    if dtype is not None:
        return cast(self, dtype)
    return f"minigrad.{'' if self._device < 0 else ACCELERATOR + '.'}{_TYPES[self.dtype]}Tensor"


_TYPES = {
    float32: "Float", float64: "Double", int64: "Long", int32: "Int", int16: "Short", int8: "Char", uint8: "Byte",
    bool_: "Bool",
}  # fmt: skip


def type_as(self, other):
    """The tensor converted to the dtype of ``other``, on its device."""
    return cast(self, other.dtype) if self._device == other._device else self.to(other.device, other.dtype)


def numpy(self, *, force=False):
    """A NumPy array over the same memory; ``force`` detaches first. RuntimeError if the tensor requires grad.

    >>> import minigrad as mg
    >>> x = mg.zeros(2)
    >>> x.numpy()[0] = 1.0
    >>> x
    tensor([1., 0.])
    """
    if force:
        self = move(self.detach(), None)
    if self.requires_grad:
        raise RuntimeError("Can't call numpy() on Tensor that requires grad. Use tensor.detach().numpy() instead.")
    import numpy as np

    size = self.element_size()
    return np.ndarray(
        self.shape, self.dtype.name, self._storage, self.storage_offset() * size, [s * size for s in self.stride()]
    )


def array(self, dtype=None, copy=None):
    """NumPy's protocol: ``np.asarray(x)`` shares memory, ``np.array(x)`` copies."""
    made = self.numpy()
    if dtype is not None and made.dtype != dtype:
        if copy is False:
            raise ValueError(f"converting {self.dtype!r} to {dtype} needs a copy, but copy=False was asked for")
        return made.astype(dtype)
    return made.copy() if copy else made


def tolist(self):
    """The values as nested lists of Python numbers, or as one number.

    >>> import minigrad as mg
    >>> mg.tensor([[1, 2], [3, 4]]).tolist()
    [[1, 2], [3, 4]]
    """
    if self.ndim == 0:
        return self.item()
    sizes = tuple(self.shape)
    if 0 in sizes:
        made = []
        for n in reversed(sizes[: sizes.index(0)]):
            made = [made[:] for _ in range(n)]
        return made
    x = move(self.detach(), None).contiguous()
    start, size = x.storage_offset() * x.element_size(), x.numel() * x.element_size()
    return memoryview(x._storage)[start : start + size].cast(creation.CODES[x.dtype], sizes).tolist()


# --- copies, pickling -------------------------------------------------------------------------------------------------


def _like(x, data):
    """A leaf of the class of ``x`` over ``data``, with its attributes."""
    made = type(x).__new__(type(x))
    made.data = data
    made.requires_grad = x.requires_grad
    if hasattr(x, "__dict__"):
        made.__dict__.update(x.__dict__)
    return made


def deepcopy(self, memo):
    """A copy of a leaf and of its gradient; RuntimeError for a non-leaf."""
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise RuntimeError(
            "Only Tensors created explicitly by the user (graph leaves) support the deepcopy protocol at the moment; "
            "use detach() or clone()"
        )
    memo[id(self)] = made = _like(self, self.detach().clone())
    if self.grad is not None:
        made.grad = deepcopy(self.grad, memo)
    return made


def copy(self):
    """``copy.copy``: a leaf over the same memory."""
    return _like(self, self.detach())


def _rebuild(kind, data, requires_grad, attributes, device=cpu):
    made = kind.__new__(kind)
    made.data = creation.tensor(data, device=device)
    made.requires_grad = requires_grad
    if attributes:
        made.__dict__.update(attributes)
    return made


def reduce_ex(self, protocol):
    """Pickling: the values and ``requires_grad``; neither history nor gradient."""
    attributes = getattr(self, "__dict__", None)
    values = move(self.detach(), None).contiguous().numpy()
    where = () if self._device < 0 else (self.device,)
    return _rebuild, (type(self), values, self.requires_grad, attributes or None, *where)


# --- the same kind of tensor ------------------------------------------------------------------------------------------


def size(self, dim=None):
    """The shape, or the size of dimension ``dim``."""
    return self.shape if dim is None else self.shape[shape.wrap_dim(dim, self.ndim)]


def _new(function):
    def method(self, *args, dtype=None, device=None, requires_grad=False):
        dtype, device = self.dtype if dtype is None else dtype, self.device if device is None else device
        return function(*args, dtype=dtype, device=device, requires_grad=requires_grad)

    method.__doc__ = (
        f"As ``minigrad.{function.__name__}``, in the dtype and on the device of this tensor unless others are given."
    )
    return method


# --- methods as functions ---------------------------------------------------------------------------------------------


def is_tensor(obj):
    """Whether ``obj`` is a tensor."""
    return isinstance(obj, Tensor)


def clone(input, *, memory_format=None):
    """A contiguous copy of ``input``, recorded. ``memory_format``: accepted if it is one that tensors have."""
    creation.model("clone", input, None)
    return input.clone(memory_format=memory_format)


def numel(input):
    """The number of elements of ``input``."""
    creation.model("numel", input, None)
    return input.numel()


def is_floating_point(input):
    """Whether the dtype of ``input`` is float32 or float64."""
    creation.model("is_floating_point", input, None)
    return input.is_floating_point()


# --- in place ---------------------------------------------------------------------------------------------------------


_OVERWRITE = Op("Copy", lambda dy: creation.zeros_like(dy), lambda dy: dy)


def _overwrite(x, y):
    """x[...] = y; what x was before stays in its history, with a gradient of zero, as in PyTorch."""
    if x.requires_grad and is_grad_enabled() and not x.is_leaf:
        y = shape.expand(cast(move(y, x), x.dtype), x.shape)
        y = _OVERWRITE.record(y.detach().clone(), x, y)
    return copy_(x, y)


def fill_(self, value):
    """Set every element to ``value``, a number or a 0-d tensor; the tensor."""
    if isinstance(value, Tensor):
        if value.ndim:
            raise RuntimeError(f"fill_ only supports 0-dimension value tensor but got shape {tuple(value.shape)}")
        return _overwrite(self, value)
    return _overwrite(self, filled((), value, self.dtype, self))


def zero_(self):
    """Set every element to 0; the tensor."""
    return _overwrite(self, filled((), 0, self.dtype, self))


def assign_(self, src, non_blocking=False):
    """Copy ``src`` (broadcast, converted) into this tensor; recorded; the tensor."""
    return _overwrite(self, src if isinstance(src, Tensor) else creation.tensor(src, device=cpu))


def where(self, condition, other):
    """The tensor where ``condition`` else ``other``."""
    return indexing.where(condition, self, other)


def _inplace(name, function):
    """The method ``name_``: an operation written back into its first operand."""

    def of_row(self, *other):
        return function.inplace(self, *other)

    def of_function(self, *args, **kwargs):
        source = self.clone() if self.requires_grad and is_grad_enabled() else self.detach()
        y = function(source, *args, **kwargs)
        if y.dtype.is_floating_point > self.dtype.is_floating_point or (self.dtype is bool_) > (y.dtype is bool_):
            raise RuntimeError(f"result type {y.dtype!r} can't be cast to the desired output type {self.dtype!r}")
        return copy_(self, y)

    method = functools.wraps(function)(of_row if isinstance(function, Op) else of_function)
    method.__name__ = method.__qualname__ = name + "_"
    method.__doc__ = f"As ``{name}``, in place; the tensor."
    return method


# --- the tables -------------------------------------------------------------------------------------------------------

# Operations that are methods, by the file they are in.
_METHODS = {
    arithmetic: "add add_ addcdiv addcdiv_ addcmul addcmul_ div div_ lerp lerp_ sub sub_",
    comparison: "allclose equal isclose",
    composed: "bincount clamp_max clamp_min nan_to_num nanmean nansum repeat_interleave roll trace",
    sorting: "argsort median sort topk unique",
    indexing: """
        argwhere diag diag_embed gather index_add index_add_ index_copy index_copy_ index_fill index_fill_ index_put
        index_put_ index_select masked_fill masked_fill_ masked_select nonzero scatter scatter_ scatter_add
        scatter_add_ take take_along_dim tril tril_ triu triu_
    """,
    linalg: "addmm bmm dot matmul mm mv outer",
    pointwise: """
        abs bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp cos eq erf exp expm1 floor floor_divide ge gt
        isfinite isinf isnan le log log1p logical_and logical_not logical_or logical_xor lt maximum minimum mul ne neg
        pow reciprocal relu remainder round rsqrt sigmoid sign sin sqrt square tanh trunc
    """,
    reduce: """
        all amax amin any argmax argmin count_nonzero cumprod cumsum log_softmax logsumexp max mean min norm prod
        softmax std sum var
    """,
    shape: """
        as_strided broadcast_to chunk contiguous diagonal expand expand_as flatten flip fliplr flipud movedim narrow
        permute ravel repeat reshape reshape_as select split squeeze t tile transpose unbind unflatten unsqueeze view
        view_as
    """,
}

# Operations that are also methods that write their result back, as name_.
_INPLACE = {
    pointwise: """
        abs bitwise_and bitwise_not bitwise_or bitwise_xor ceil clamp cos eq erf exp expm1 floor floor_divide ge gt le
        log log1p logical_and logical_not logical_or logical_xor lt mul ne neg pow reciprocal relu remainder round rsqrt
        sigmoid sign sin sqrt square tanh trunc
    """,
    reduce: "cumprod cumsum",
    composed: "clamp_max clamp_min nan_to_num",
}

_ALIASES = {
    "absolute": "abs", "clip": "clamp", "divide": "div", "fix": "trunc", "ger": "outer", "greater": "gt",
    "greater_equal": "ge", "less": "lt", "less_equal": "le", "moveaxis": "movedim", "multiply": "mul",
    "negative": "neg", "not_equal": "ne", "subtract": "sub", "swapaxes": "transpose", "swapdims": "transpose",
    "true_divide": "div",
}  # fmt: skip

_CASTS = {
    "float": float32, "double": float64, "long": int64, "int": int32, "short": int16, "char": int8, "byte": uint8,
    "bool": bool_,
}  # fmt: skip


def _cast_method(name, dtype):
    def method(self):
        return cast(self, dtype)

    method.__name__ = method.__qualname__ = name
    method.__doc__ = f"The tensor converted to {dtype.name}; recorded."
    return method


def _methods():
    """All that is attached to Tensor: name -> function or property."""
    found = {name: getattr(module, name) for module, names in _METHODS.items() for name in names.split()}
    for module, names in _INPLACE.items():
        found.update((name + "_", _inplace(name, getattr(module, name))) for name in names.split())
    found.update((alias, found[name]) for alias, name in _ALIASES.items())
    found.update((alias + "_", found[name + "_"]) for alias, name in _ALIASES.items() if name + "_" in found)
    found.update((name, _cast_method(name, dtype)) for name, dtype in _CASTS.items())
    for name in ("empty", "zeros", "ones", "full", "tensor"):
        found["new_" + name] = _new(getattr(creation, name))
    found.update(
        T=property(shape.T), mT=property(shape.mT), nbytes=property(lambda x: x.numel() * x.element_size()),
        size=size, to=to, type=type_, type_as=type_as, numpy=numpy, tolist=tolist, cpu=to_cpu, nelement=Tensor.numel,
        ndimension=Tensor.dim, multinomial=random.multinomial, itemsize=property(Tensor.element_size),
        is_signed=lambda x: x.dtype.is_signed,
        where=where, fill_=fill_, zero_=zero_, copy_=assign_, uniform_=random.uniform_, normal_=random.normal_,
        bernoulli_=random.bernoulli_, random_=random.random_, bernoulli=random.bernoulli,
        __array__=array, __deepcopy__=deepcopy, __copy__=copy, __reduce_ex__=reduce_ex, get_device=get_device,
        pin_memory=pin_memory, is_pinned=is_pinned,
        is_cpu=property(lambda x: x._device < 0), **interchange.METHODS,
    )  # fmt: skip
    found[ACCELERATOR], found["is_" + ACCELERATOR] = to_accelerator, property(lambda x: x._device >= 0)
    return found


install(
    any_zero=_any_zero,
    as_tensor=functools.partial(creation.tensor, device=cpu),
    as_strided_op=shape.AS_STRIDED,
    check_format=check_format,
    contains=indexing.contains,
    decorate=_decorate,
    device=cpu,
    expand=shape.expand,
    format=printing.format_tensor,
    getitem=indexing.getitem,
    is_array=creation.is_array,
    iterate=indexing.iterate,
    legacy=creation.legacy,
    matmul=linalg.matmul,
    power=_power,
    setitem=indexing.setitem,
    size=Size,
    slice_write=shape.slice_write,
    sum_to=reduce.sum_to,
    text=printing.tensor_text,
    warn_nonleaf=_warn_nonleaf,
)
install_operators({**vars(pointwise), "pow": pointwise.power})
add_methods(_methods())
