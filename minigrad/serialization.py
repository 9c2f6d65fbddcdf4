"""Saving and loading: safetensors files of tensors, and of dictionaries that hold tensors and plain values.

DESIGN
a. Whatever is built of dicts, lists, tuples, numbers, strings, None and tensors, such as ``optimizer.state_dict()`` or
   a checkpoint of model and optimizer, is written with its tensors under their paths ("state/0/exp_avg") and its
   structure as JSON in the file's metadata. Nothing is pickled, so loading a file runs no code.
b. So a flat dict of tensors, such as ``model.state_dict()``, is an ordinary safetensors file under the same names,
   which other tools read.
c. A file is written beside its destination and moved there when it is complete: a crash leaves the old one.
"""

import json
import os

from ._engine import Tensor
from .creation import tensor as _tensor
from .device import cpu as _cpu
from .device import device as _device

_STRUCTURE = "minigrad.structure"  # the metadata key; absent from files of other tools
_PLAIN = (bool, int, float, str, type(None))


def save(obj, f):
    """Write ``obj`` to the path or binary file ``f`` in the safetensors format.

    ``obj``: a state dict, or dicts, lists and tuples of tensors, numbers, strings and None. TypeError names the key of
    what cannot be saved. A tensor that appears twice is written twice. A path is replaced only once all is written.

    >>> import minigrad as mg, os, tempfile
    >>> path = os.path.join(tempfile.mkdtemp(), "model.safetensors")
    >>> model = mg.nn.Linear(2, 1)
    >>> mg.save(model.state_dict(), path)
    >>> model.load_state_dict(mg.load(path))
    <All keys matched successfully>
    """
    from safetensors.numpy import save as encode

    arrays = {}
    structure = json.dumps(_describe(obj, "", arrays))
    data = encode(arrays, {_STRUCTURE: structure})
    if hasattr(f, "write"):
        f.write(data)
        return
    path = os.path.realpath(os.fsdecode(f))
    special = os.path.exists(path) and not os.path.isfile(path)  # a device or a pipe, which must not be replaced
    beside = path if special else f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        with open(beside, "wb") as file:
            file.write(data)
        if beside != path:
            os.replace(beside, path)
    except BaseException:
        if beside != path and os.path.exists(beside):
            os.unlink(beside)
        raise


def load(f, map_location=None, *, weights_only=True, mmap=None):
    """Read what ``save`` wrote, or any safetensors file, from a path or binary file.

    Tensors are on the CPU unless ``map_location`` names another device; a dict of devices and a function are taken as
    in PyTorch (``map_location(tensor, "cpu")`` returns the tensor to use, or None). ``weights_only`` and ``mmap`` are
    accepted and change nothing: no file can hold code. ValueError names a file that is damaged or of another format,
    or a tensor of a dtype that tensors do not have (float16, say).

    >>> import io, minigrad as mg
    >>> file = io.BytesIO()
    >>> mg.save({"epoch": 3, "betas": (0.9, 0.999), "w": mg.ones(2)}, file)
    >>> mg.load(io.BytesIO(file.getvalue()))
    {'epoch': 3, 'betas': (0.9, 0.999), 'w': tensor([1., 1.])}
    """
    place = _placing(map_location)
    if hasattr(f, "read"):
        name, data = getattr(f, "name", "the file"), f.read()
    else:
        name = os.fspath(f)
        with open(name, "rb") as file:
            data = file.read()
    tensors, metadata = _parse(data, name)
    tensors = {key: place(t) for key, t in tensors.items()}
    if _STRUCTURE not in metadata:
        return tensors
    try:
        return _restore(json.loads(metadata[_STRUCTURE]), tensors)
    except (ValueError, TypeError, KeyError, IndexError, AttributeError, RecursionError):
        raise ValueError(f"{name}: the structure in the metadata of this file is damaged") from None


def _placing(where):
    """A function that puts a tensor, which is on the CPU, where ``map_location`` says."""
    if isinstance(where, dict):
        where = next((there for here, there in where.items() if str(here) == "cpu"), None)  # others need not exist here
    if callable(where) and not isinstance(where, _device):
        return lambda t: _or(where(t, "cpu"), t)
    if where is None:
        return lambda t: t
    if not isinstance(where, (str, _device)):
        raise TypeError(f"load: map_location must be a device, a dict or a function, got {type(where).__name__}")
    _tensor(0, device=where)  # refuses a device that is not there before anything is read
    return lambda t: t.to(where)


def _or(found, other):
    return other if found is None else found


# --- reading ----------------------------------------------------------------------------------------------------------

_DTYPES = {
    "F32": "float32", "F64": "float64", "I64": "int64", "I32": "int32", "I16": "int16", "I8": "int8", "U8": "uint8",
    "BOOL": "bool",
}  # fmt: skip


def _parse(data, name):
    """(tensors by name, metadata) of the bytes of a safetensors file."""
    import numpy as np
    from safetensors import SafetensorError, deserialize

    try:
        entries = dict(deserialize(data))  # checks the header, offsets and sizes
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError) as error:
        if data[:4] == b"PK\x03\x04" or data[:1] == b"\x80":
            raise ValueError(
                f"{name} is a PyTorch checkpoint (a pickle), which can run code when it is loaded; "
                "convert it in PyTorch with safetensors.torch.save_file"
            ) from None
        raise ValueError(f"{name} is not a complete safetensors file: {error}") from None
    tensors = {}
    for key in header:  # the order of the file; that of `entries` is random
        if key == "__metadata__":
            continue
        entry = entries[key]
        if entry["dtype"] not in _DTYPES:
            raise ValueError(f"{name}: tensor {key!r} has dtype {entry['dtype']}, which minigrad tensors do not have")
        flat = np.frombuffer(entry["data"], np.dtype(_DTYPES[entry["dtype"]]).newbyteorder("<"))
        tensors[key] = _tensor(flat.reshape(entry["shape"]), device=_cpu)
    return tensors, header.get("__metadata__", {})


# --- the structure of nested objects ----------------------------------------------------------------------------------


def _array(value):
    # contiguous: safetensors writes the memory of other arrays in the wrong order, without a word
    return value.detach().cpu().contiguous().numpy()


def _describe(value, path, arrays):
    """``value`` as JSON: plain values as they are, containers and tensors as {kind: content}."""
    if isinstance(value, Tensor):
        name = path or "tensor"
        while name in arrays or name == "__metadata__":  # keys may contain slashes: {"a/b": t, "a": {"b": t}}
            name += "_"
        arrays[name] = _array(value)
        return {"tensor": name}
    if isinstance(value, float):
        return float(value) if value == value and abs(value) != float("inf") else {"float": repr(float(value))}
    if isinstance(value, _PLAIN):
        return value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_fields"):
        kind = "list" if isinstance(value, list) else "tuple"
        return {kind: [_describe(item, _join(path, i), arrays) for i, item in enumerate(value)]}
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, _PLAIN):
                raise TypeError(f"save: {_where(path)} has a key of type {type(key).__name__}: {key!r}")
        return {"dict": [[_describe(k, "", {}), _describe(v, _join(path, k), arrays)] for k, v in value.items()]}
    hint = "; save its state_dict()" if hasattr(value, "state_dict") else ""
    if type(value).__module__ == "numpy":
        hint = "; convert it with minigrad.as_tensor or .item()"
    raise TypeError(
        f"save: {_where(path)} is of type {type(value).__name__}; only tensors, dicts, lists, tuples, numbers, strings "
        f"and None can be saved{hint}"
    )


def _join(path, key):
    return f"{path}/{key}" if path else str(key)


def _where(path):
    return f"the value at {path!r}" if path else "the object"


def _restore(node, tensors):
    """The inverse of ``_describe``."""
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "float":
        return float(content)
    if kind == "dict":
        return {_restore(k, tensors): _restore(v, tensors) for k, v in content}
    if kind not in ("list", "tuple"):
        raise ValueError(f"unknown kind {kind!r}")
    items = [_restore(item, tensors) for item in content]
    return items if kind == "list" else tuple(items)
