"""Tensors from data and from nothing: ``tensor``, ``from_numpy``, ``zeros``, ``arange`` and their like."""

import math
import sys
from array import array
from itertools import chain
from operator import index

from . import interchange
from ._engine import (
    Kernel,
    Tensor,
    filled,
    from_buffer,
    get_default_dtype,
    move,
    place,
    result_type,
    view,
    write_memory,
)
from ._engine import _cast as cast
from ._engine import empty as _empty
from ._record import current
from ._storage import bool_, float32, float64, int8, int16, int32, int64, uint8
from ._storage import dtype as dtype_type
from .device import cpu, default, defaults, number

CODES = {float32: "f", float64: "d", int64: "q", int32: "i", int16: "h", int8: "b", uint8: "B", bool_: "?"}
_BY_NAME = {d.name: d for d in CODES}
# By NumPy's `dtype.str`, for this machine's byte order: much faster to ask for than the name.
_ORDER = "<" if sys.byteorder == "little" else ">"
_NATIVE = {
    _ORDER + "f4": float32, _ORDER + "f8": float64, _ORDER + "i8": int64, _ORDER + "i4": int32, _ORDER + "i2": int16,
    "|i1": int8, "|u1": uint8, "|b1": bool_,
}  # fmt: skip
_NUMBERS = {float, int, bool}
_K_ARANGE = Kernel("elementwise.arange", 0.3)


# --- where ------------------------------------------------------------------------------------------------------------


def like_of(device):
    """What ``like=`` takes for a device, a name or a number; None is the default device of this thread."""
    if device is None:
        if not defaults.count:
            return None
        device = default()
    return None if device is cpu or (type(device) is str and device == "cpu") else place(number(device))


# --- from data --------------------------------------------------------------------------------------------------------


def tensor(data, *, dtype=None, device=None, requires_grad=False):
    """A new tensor with a copy of ``data``: numbers, nested sequences, an array, a tensor, or a mixture of them.

    Without ``dtype``, Python floats give the default dtype, ints int64, bools bool, and arrays and tensors keep theirs.
    TypeError for what is not numeric, ValueError for ragged sequences.

    >>> import minigrad as mg
    >>> mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    tensor([[1., 2.],
            [3., 4.]])
    >>> mg.tensor([1, 2, 3]).dtype
    minigrad.int64
    """
    if isinstance(data, Tensor):
        device = default() if device is None and defaults.count else device
        made = data.detach() if device is None else move(data.detach(), like_of(device))
        made = made if dtype is None else cast(made, dtype)
        return _finish(made.clone() if made._storage is data._storage else made, made.device, requires_grad)
    if is_array(data):
        made = _copy_array(data, dtype)
    elif isinstance(data, (list, tuple)):
        made = _from_sequence(data, dtype)
    elif isinstance(data, (float, int)):
        made = filled((), data, dtype)
    else:
        made = _from_object(data, dtype)
    return _finish(made, device, requires_grad)


def as_tensor(data, dtype=None, device=None):
    """``data`` as a tensor: a tensor itself (converted, recorded), an array without a copy if possible, else a copy.

    >>> import minigrad as mg, numpy as np
    >>> a = np.zeros(2)
    >>> mg.as_tensor(a)[0] = 1.0
    >>> a
    array([1., 0.])
    """
    if isinstance(data, Tensor):
        device = default() if device is None and defaults.count else device
        made = data if device is None else move(data, like_of(device))
        return made if dtype is None else cast(made, dtype)
    if is_array(data):
        a = _checked_array(data)
        if a is data and all(s >= 0 for s in a.strides):
            made = _finish(_share(a), device, False)
            return made if dtype is None else cast(made, dtype)
    return tensor(data, dtype=dtype, device=device)


def from_numpy(ndarray):
    """A tensor that shares the memory of ``ndarray``; writes are seen both ways.

    A read-only array gives a tensor that refuses to be written. ValueError for negative strides and foreign byte order,
    TypeError for dtypes that tensors do not have.

    >>> import minigrad as mg, numpy as np
    >>> mg.from_numpy(np.arange(3))
    tensor([0, 1, 2])
    """
    np = sys.modules.get("numpy")
    if np is None or not isinstance(ndarray, np.ndarray):
        raise TypeError(f"expected np.ndarray (got {type(ndarray).__name__})")
    _check_dtype(ndarray.dtype)
    if ndarray.dtype.str not in _NATIVE:
        raise ValueError(
            "given numpy array has byte order different from the native byte order; "
            "convert it with array.astype(array.dtype.newbyteorder('='))"
        )
    if any(s < 0 for s in ndarray.strides):
        raise ValueError(
            "At least one stride in the given numpy array is negative, and tensors with negative strides are not "
            "supported. Make a copy of your array with array.copy()."
        )
    if not _aligned(ndarray):
        raise ValueError("strides of the given numpy array are not multiples of its item size; use array.copy()")
    return _share(ndarray)


def from_dlpack(ext_tensor):
    """A tensor over the memory of any object with ``__dlpack__``, on the CPU or a GPU.

    >>> import minigrad as mg, numpy as np
    >>> mg.from_dlpack(np.ones(2))
    tensor([1., 1.], dtype=minigrad.float64)
    """
    where = getattr(ext_tensor, "__dlpack_device__", None)
    if where is not None and where()[0] == interchange.GPU:
        return interchange.from_gpu(ext_tensor)
    import numpy

    return as_tensor(numpy.from_dlpack(ext_tensor))


def is_array(value):
    """Whether ``value`` is a NumPy array or scalar; NumPy is not imported to find out."""
    np = sys.modules.get("numpy")
    return np is not None and isinstance(value, (np.ndarray, np.generic))


def _check_dtype(dt):
    """The dtype of tensors for NumPy's ``dt``, of any byte order; TypeError if there is none."""
    found = _NATIVE.get(dt.str) or _BY_NAME.get(dt.name)
    if found is None:
        raise TypeError(
            f"can't convert an array of dtype numpy.{dt.name}. The only supported types are: "
            f"{', '.join(_BY_NAME)}; convert it first with array.astype(...)."
        )
    return found


def _aligned(a):
    """Whether steps and start are whole elements."""
    size = a.itemsize
    return a.flags.aligned and all(s % size == 0 for s in a.strides)


def _checked_array(data):
    """``data`` as an ndarray that the engine can read: a supported native dtype and whole elements."""
    import numpy as np

    a = np.asarray(data)
    _check_dtype(a.dtype)
    if a.dtype.str not in _NATIVE:
        a = a.astype(a.dtype.newbyteorder("="))
    if not _aligned(a):
        a = a.copy()
    if a.ndim > 8:
        raise ValueError(f"tensors have at most 8 dimensions, got an array of shape {a.shape}")
    return a


def _share(a):
    size = a.itemsize
    recorder = current()
    if recorder is not None:
        recorder.refuses("makes a tensor of an array")
    return from_buffer(a, _NATIVE[a.dtype.str].name, a.shape, [s // size for s in a.strides], a.flags.writeable)


def _copy_array(data, dtype):
    shared = _share(_checked_array(data))
    return shared.clone() if dtype is None or shared.dtype == dtype else cast(shared, dtype)


def _from_sequence(data, dtype, plain=False):
    """Nested lists level by level: each is flattened in one go, so large lists stay fast; ``plain``: no other types."""
    shape, flat = [len(data)], data
    while flat and isinstance(flat[0], (list, tuple)):
        size = len(flat[0])
        for i, row in enumerate(flat):
            if not isinstance(row, (list, tuple)) or len(row) != size:
                return _ragged(row, size, i, shape) if plain else _from_mixture(data, dtype)
        shape.append(size)
        if len(shape) > 8:
            raise ValueError("tensors have at most 8 dimensions: too many nested sequences")
        flat = list(chain.from_iterable(flat))
    kinds = set(map(type, flat))
    if not kinds <= _NUMBERS:
        if plain:  # the first is a number and another one a sequence
            _ragged(*next((row, None, i, shape) for i, row in enumerate(flat) if type(row) not in _NUMBERS))
        return _from_mixture(data, dtype)
    if dtype is None:
        dtype = get_default_dtype() if float in kinds or not kinds else int64 if int in kinds else bool_
    return _filled_with(flat, shape, dtype)


def _filled_with(flat, shape, dtype):
    """A tensor of ``shape`` over the Python numbers in ``flat``."""
    made = _empty(shape, dtype)
    code = CODES[made.dtype]
    try:
        if made.dtype.is_floating_point:
            values = array(code, flat)
        elif made.dtype is bool_:
            values = array("B", map(bool, flat))
        else:
            values = array(
                code, [v + 256 if -256 < v < 0 else v for v in map(int, flat)] if code == "B" else map(int, flat)
            )
    except OverflowError:
        raise RuntimeError(f"a value cannot be converted to {made.dtype!r} without overflow") from None
    memoryview(made._storage)[: len(values) * values.itemsize] = memoryview(values).cast("B")
    recorder = current()
    if recorder is not None:
        recorder.filled(made)
    return made


def _ragged(row, size, place, shape):
    """Refuse the ``place``-th item of a level that should be a sequence of length ``size``, or a number if None."""
    index = ""
    for n in reversed(shape):
        place, i = divmod(place, n)
        index = f"[{i}]{index}"
    wanted = "a number" if size is None else f"a sequence of length {size}"
    got = f"length {len(row)}" if isinstance(row, list) else f"type {type(row).__name__}"
    raise ValueError(f"expected {wanted} at dim {len(shape)}, got {got} at data{index}: sequences must not be ragged")


def _from_mixture(data, dtype):
    """Sequences that hold tensors, arrays, NumPy scalars or other sequences: made plain first."""
    if all(map(is_array, data)) and len({(a.shape, a.dtype) for a in data}) == 1:  # observations, samples
        import numpy

        return _copy_array(numpy.stack(data), dtype)
    found = []
    plain = _plain(data, found, "data", 0)
    if dtype is None and found:
        dtype = found[0]
        for other in found[1:]:
            dtype = result_type(_empty((), dtype), _empty((), other))
    return _from_sequence(plain, dtype, True)


def _plain(item, found, where, depth):
    """``item`` as nested lists of Python numbers; the dtypes of its parts are added to ``found``."""
    if depth > 8:
        raise ValueError("tensors have at most 8 dimensions: too many nested sequences")
    if isinstance(item, bool):
        kind = bool_
    elif isinstance(item, Tensor):
        kind, item = item.dtype, item.tolist()
    elif is_array(item):
        kind, item = _check_dtype(item.dtype), item.tolist()
    elif isinstance(item, float):
        kind, item = get_default_dtype(), float(item)
    elif isinstance(item, int):
        kind, item = int64, int(item)
    else:
        return [_plain(part, found, f"{where}[{i}]", depth + 1) for i, part in enumerate(_sequence(item, where))]
    if kind not in found:
        found.append(kind)
    return item


def _sequence(item, where):
    """``item`` if it can be iterated as a sequence, else a TypeError that says where it is."""
    if isinstance(item, (list, tuple, range)):
        return item
    if isinstance(item, (str, bytes, dict, set, complex)) or not (
        hasattr(item, "__len__") and hasattr(item, "__getitem__")
    ):
        raise TypeError(f"{where} is of type {type(item).__name__}, which cannot be converted to a tensor")
    return [item[i] for i in range(len(item))]


def _from_object(data, dtype):
    """What is neither number, list, array nor tensor: NumPy's protocols, then any sequence."""
    if hasattr(data, "__array__") or hasattr(data, "__array_interface__"):
        import numpy

        return _copy_array(numpy.asarray(data), dtype)
    return _from_mixture(list(_sequence(data, "data")), dtype)


def legacy(data):
    """``Tensor(2, 3)``: uninitialised; ``Tensor([[1, 2]])``: its values in the default dtype; ``Tensor()``: empty."""
    if len(data) == 1 and not isinstance(data[0], int):
        return tensor(data[0], dtype=get_default_dtype())
    return _empty(sizes("Tensor", data) if data else (0,), get_default_dtype())


# --- from a shape -----------------------------------------------------------------------------------------------------


def sizes(name, size):
    """The shape that ``name(2, 3)`` or ``name((2, 3))`` asks for: a tuple of ints, or a TypeError."""
    if len(size) == 1 and not hasattr(size[0], "__index__"):
        size = size[0]
        if not isinstance(size, (tuple, list)):
            raise TypeError(f"{name}(): argument 'size' must be tuple of ints, not {type(size).__name__}")
    for i, n in enumerate(size):
        if type(n) is not int and (not hasattr(n, "__index__") or isinstance(n, bool)):
            raise TypeError(
                f"{name}(): argument 'size' must be tuple of ints, "
                f"but found element of type {type(n).__name__} at pos {i}"
            )
    return tuple([n if type(n) is int else n.__index__() for n in size])


def _finish(made, device, requires_grad):
    if device is not None or defaults.count:
        made = move(made, like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def empty(*size, dtype=None, device=None, requires_grad=False):
    """An uninitialised tensor of the given sizes (numbers or one sequence).

    >>> import minigrad as mg
    >>> mg.empty(2, 3).shape
    minigrad.Size([2, 3])
    """
    made = _empty(sizes("empty", size), dtype, like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def zeros(*size, dtype=None, device=None, requires_grad=False):
    """A tensor of zeros of the given sizes (numbers or one sequence).

    >>> import minigrad as mg
    >>> mg.zeros(2, 2)
    tensor([[0., 0.],
            [0., 0.]])
    """
    made = filled(sizes("zeros", size), 0.0, dtype, like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def ones(*size, dtype=None, device=None, requires_grad=False):
    """A tensor of ones of the given sizes (numbers or one sequence).

    >>> import minigrad as mg
    >>> mg.ones((3,))
    tensor([1., 1., 1.])
    """
    made = filled(sizes("ones", size), 1.0, dtype, like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def full(size, fill_value, *, dtype=None, device=None, requires_grad=False):
    """A tensor of ``size`` with every element ``fill_value``, whose type decides the dtype if none is given.

    >>> import minigrad as mg
    >>> mg.full((2,), 7)
    tensor([7, 7])
    """
    fill_value = _number("full", fill_value)
    made = filled(sizes("full", (size,)), fill_value, dtype, like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def _number(name, value):
    if isinstance(value, Tensor) or is_array(value):
        return value.item()
    if not isinstance(value, (float, int)):
        raise TypeError(f"{name}(): argument 'fill_value' must be Number, not {type(value).__name__}")
    return value


def model(name, input, dtype):
    """(shape, dtype) for a tensor like ``input``, or of ``dtype`` if that is given."""
    if not isinstance(input, Tensor):
        raise TypeError(f"{name}(): argument 'input' must be Tensor, not {type(input).__name__}")
    return input.shape, input.dtype if dtype is None else dtype


def empty_like(input, *, dtype=None, device=None, requires_grad=False):
    """An uninitialised tensor of the shape and dtype of ``input``."""
    shape, dtype = model("empty_like", input, dtype)
    made = _empty(shape, dtype, input if device is None else like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def zeros_like(input, *, dtype=None, device=None, requires_grad=False):
    """Zeros of the shape and dtype of ``input``.

    >>> import minigrad as mg
    >>> mg.zeros_like(mg.tensor([1, 2]))
    tensor([0, 0])
    """
    shape, dtype = model("zeros_like", input, dtype)
    made = filled(shape, 0, dtype, input if device is None else like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def ones_like(input, *, dtype=None, device=None, requires_grad=False):
    """Ones of the shape and dtype of ``input``."""
    shape, dtype = model("ones_like", input, dtype)
    made = filled(shape, 1, dtype, input if device is None else like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


def full_like(input, fill_value, *, dtype=None, device=None, requires_grad=False):
    """A tensor of the shape and dtype of ``input`` with every element ``fill_value``."""
    fill_value = _number("full_like", fill_value)
    shape, dtype = model("full_like", input, dtype)
    made = filled(shape, fill_value, dtype, input if device is None else like_of(device))
    if requires_grad:
        made.requires_grad = True
    return made


# --- sequences --------------------------------------------------------------------------------------------------------


def arange(start, end=None, step=1, *, dtype=None, device=None, requires_grad=False):
    """``start, start + step, ...`` below ``end``; ``arange(n)`` is 0 to n - 1. Integers give int64.

    >>> import minigrad as mg
    >>> mg.arange(1, 2.5, 0.5)
    tensor([1.0000, 1.5000, 2.0000])
    """
    if end is None:
        start, end = 0, start
    start, end, step = (_number("arange", v) for v in (start, end, step))
    whole = all(isinstance(v, int) for v in (start, end, step))
    if not all(math.isfinite(v) for v in (start, end, step)):
        raise RuntimeError(f"unsupported range: {start} -> {end} by {step}")
    if step == 0:
        raise RuntimeError("step must be nonzero")
    if (end - start) * step < 0:
        raise RuntimeError(f"upper bound and lower bound inconsistent with step sign: {start} -> {end} by {step}")
    n = -((start - end) // step) if whole else math.ceil((end - start) / step)
    made = _empty((n,), int64 if whole and dtype is None else dtype, like_of(device))
    if whole and max(abs(start), abs(end)) >= 2**53:  # beyond what the kernel's float64 holds
        made = tensor(list(range(start, end, step)), dtype=made.dtype, device=device)
    else:
        _K_ARANGE((made,), (), (), (start, step))
    return _finish(made, device, requires_grad)


def linspace(start, end, steps, *, dtype=None, device=None, requires_grad=False):
    """``steps`` evenly spaced numbers from ``start`` to ``end``, both included.

    >>> import minigrad as mg
    >>> mg.linspace(0, 1, 5)
    tensor([0.0000, 0.2500, 0.5000, 0.7500, 1.0000])
    """
    start, end = (_number("linspace", v) for v in (start, end))
    n = index(steps)
    if n < 0:
        raise RuntimeError("number of steps must be non-negative")
    made = _empty((n,), dtype, like_of(device))
    _K_ARANGE((made,), (), (), (start, (end - start) / max(n - 1, 1)))
    if n > 1:
        write_memory(view(made, (), (), n - 1), filled((), end, made.dtype, made))
    return _finish(made, device, requires_grad)


def eye(n, m=None, *, dtype=None, device=None, requires_grad=False):
    """An (n, m) matrix with ones on the diagonal; ``m`` is ``n`` if not given.

    >>> import minigrad as mg
    >>> mg.eye(2)
    tensor([[1., 0.],
            [0., 1.]])
    """
    n, m = sizes("eye", (n, n if m is None else m))
    made = filled((n, m), 0.0, dtype, like_of(device))
    k = min(n, m)
    if k:
        write_memory(view(made, (k,), (m + 1,)), filled((), 1, made.dtype, made))
    return _finish(made, device, requires_grad)


def is_dtype(value):
    """Whether ``value`` names a dtype: a minigrad dtype, ``float``, ``int``, ``bool`` or a NumPy dtype or type."""
    if isinstance(value, dtype_type) or value in (float, int, bool):
        return True
    np = sys.modules.get("numpy")
    return np is not None and (
        isinstance(value, np.dtype) or (isinstance(value, type) and issubclass(value, np.generic))
    )
