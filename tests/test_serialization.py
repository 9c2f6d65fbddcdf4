"""save and load: state dicts and nested checkpoints as safetensors; damaged files are refused by name."""

import io
import json
import math
import os
import stat
import threading
from collections import OrderedDict

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

import minigrad as mg
from minigrad import nn, optim

DTYPES = ["float32", "float64", "int64", "int32", "int16", "int8", "uint8", "bool"]


def through_memory(obj):
    file = io.BytesIO()
    mg.save(obj, file)
    return mg.load(io.BytesIO(file.getvalue()))


def equal(a, b):
    """Equal values of equal types; tensors by dtype, shape and bits."""
    if isinstance(a, mg.Tensor):
        return isinstance(b, mg.Tensor) and a.dtype == b.dtype and a.shape == b.shape and (
            a.detach().numpy().tobytes() == b.detach().numpy().tobytes())  # fmt: skip
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(equal(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return type(a) is type(b) and (a == b or a != a)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (3,), (2, 3), (0,), (2, 0, 3), (1, 1, 1, 1, 1, 1, 1, 2)])
def test_tensors(shape, dtype):
    values = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    state = {"x": mg.tensor(values)}
    assert equal(through_memory(state), state)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -0.0, 1e-45, 3.4e38])
def test_special_numbers(value):
    state = {"x": mg.tensor([value])}
    assert equal(through_memory(state), state)


def test_tensors_that_are_not_contiguous():
    x = mg.arange(24).reshape(2, 3, 4)
    state = {"T": x.T, "step": x[:, ::2], "part": x[1:], "expanded": mg.ones(1, 3).expand(4, 3), "flipped": x.flip(0)}
    assert equal(through_memory(state), {k: v.clone() for k, v in state.items()})


def test_tensors_that_share_memory_or_require_grad():
    w = mg.ones(2, requires_grad=True)
    loaded = through_memory({"a": w, "b": w, "c": nn.Parameter(w.detach())})
    assert all(v.tolist() == [1.0, 1.0] and not v.requires_grad for v in loaded.values())
    loaded["a"].zero_()
    assert loaded["b"].tolist() == [1.0, 1.0]


def test_a_model(tmp_path):
    path = tmp_path / "model.safetensors"
    make = lambda: nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2, dtype=mg.float32))  # noqa: E731
    a, b = make(), make()
    mg.save(a.state_dict(), path)
    state = mg.load(path)
    assert list(state) == list(a.state_dict()) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    b.load_state_dict(state)
    x = mg.randn(5, 3)
    assert a(x).tolist() == b(x).tolist()
    # other tools read it under the same names, and we read theirs
    arrays = load_file(path)
    assert sorted(arrays) == sorted(state) and arrays["0.bias"].tolist() == a[0].bias.tolist()
    save_file({"w": np.arange(3), "b": np.ones((2, 2), np.float32)}, tmp_path / "other.safetensors", {"format": "np"})
    assert equal(mg.load(str(tmp_path / "other.safetensors")), {"w": mg.arange(3), "b": mg.ones(2, 2)})


CHECKPOINTS = [
    {},
    [],
    (),
    3,
    "text",
    None,
    mg.ones(2),
    [mg.ones(1), mg.zeros(1)],
    {"epoch": 3, "best": 0.5, "name": "ünïcode \n", "done": True, "none": None, "big": 10**40, "small": -1},
    {"floats": [math.nan, math.inf, -math.inf, -0.0, 5e-324, 1.7976931348623157e308, 0.1]},
    {"list": [1, [2, (3, [4])], ()], "tuple": (1, mg.ones(1), {"a": ()})},
    {1: "int", "1": "str", False: "bool", 2.5: "float", None: "none", "": mg.ones(1)},
    {"a/b": mg.ones(1), "a": {"b": mg.zeros(1)}, "a/b_": mg.full((1,), 2.0)},
    {"tensor": {"tensor": "a name"}, "dict": [["x", 1]], "float": "0.5", "__metadata__": mg.ones(1)},
    {"state": {0: {"step": mg.tensor(3.0), "exp_avg": mg.rand(2, 2)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
    OrderedDict(z=mg.ones(1), a=mg.zeros(1)),
]


@pytest.mark.parametrize("obj", CHECKPOINTS, ids=lambda o: str(type(o).__name__))
def test_nested(obj):
    assert equal(through_memory(obj), obj)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9),
        lambda p: optim.Adam(p, lr=1e-2),
        lambda p: optim.AdamW([{"params": p, "lr": 0.1}], amsgrad=True),
    ],
)
def test_resuming_is_the_same_as_going_on(make, tmp_path):
    def prepare(seed):
        mg.manual_seed(seed)
        model = nn.Linear(3, 2)
        return model, make(list(model.parameters()))

    def run(model, optimizer):
        for _ in range(5):
            optimizer.zero_grad()
            (model(x) ** 2).mean().backward()
            optimizer.step()

    x = mg.randn(8, 3)
    model, optimizer = prepare(0)
    run(model, optimizer)
    mg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "epoch": 1}, tmp_path / "c")
    run(model, optimizer)

    other, resumed = prepare(1)
    checkpoint = mg.load(tmp_path / "c")
    other.load_state_dict(checkpoint["model"])
    resumed.load_state_dict(checkpoint["optimizer"])
    assert checkpoint["epoch"] == 1
    run(other, resumed)
    assert equal(dict(other.state_dict()), dict(model.state_dict()))


class Strange:
    pass


@pytest.mark.parametrize(
    ("obj", "message"),
    [
        (Strange(), "the object is of type Strange"),
        ({"a": Strange()}, "the value at 'a' is of type Strange"),
        ({"a": [0, {"b": Strange()}]}, "the value at 'a/1/b' is of type Strange"),
        (nn.Linear(1, 1), r"the object is of type Linear; .*; save its state_dict\(\)"),
        ({"w": np.ones(2)}, "the value at 'w' is of type ndarray; .*minigrad.as_tensor"),
        ({"w": np.float32(1)}, "the value at 'w' is of type float32"),
        ({"w": {1, 2}}, "the value at 'w' is of type set"),
        ({"w": mg.float32}, "the value at 'w' is of type dtype"),
        ({(1, 2): 3}, r"the object has a key of type tuple: \(1, 2\)"),
        ({"a": {b"k": 3}}, "the value at 'a' has a key of type bytes"),
    ],
)
def test_what_cannot_be_saved(obj, message, tmp_path):
    with pytest.raises(TypeError, match=message):
        mg.save(obj, tmp_path / "f")
    assert os.listdir(tmp_path) == []


# --- files ------------------------------------------------------------------------------------------------------------


def test_a_file_is_replaced_only_when_complete(tmp_path, monkeypatch):
    path = tmp_path / "model"
    mg.save({"x": mg.ones(1)}, path)
    with pytest.raises(TypeError):
        mg.save({"x": Strange()}, path)

    def fail(*arguments):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(OSError, match="disk full"):
            mg.save({"x": mg.zeros(1)}, path)
    assert mg.load(path)["x"].tolist() == [1.0] and os.listdir(tmp_path) == ["model"]
    mg.save({"x": mg.zeros(1)}, path)
    assert mg.load(path)["x"].tolist() == [0.0]


def test_links_are_followed(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    mg.save({"x": mg.ones(1)}, tmp_path / "link")
    assert (tmp_path / "link").is_symlink() and mg.load(tmp_path / "target")["x"].item() == 1.0


def test_permissions_are_the_usual_ones(tmp_path):
    (tmp_path / "plain").write_bytes(b"")
    mg.save({}, tmp_path / "saved")
    assert stat.S_IMODE((tmp_path / "saved").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


def test_devices_are_written_not_replaced():
    mg.save({"x": mg.ones(1)}, os.devnull)
    assert not os.path.isfile(os.devnull)


def test_threads_that_save_to_one_path(tmp_path):
    def work(n):
        for _ in range(10):
            mg.save({"x": mg.full((1000,), float(n))}, tmp_path / "shared")

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(mg.load(tmp_path / "shared")["x"].tolist())) == 1 and os.listdir(tmp_path) == ["shared"]


@pytest.mark.parametrize("convert", [str, os.fsencode, lambda path: path])
def test_kinds_of_paths(convert, tmp_path, monkeypatch):
    mg.save({"x": mg.ones(1)}, convert(tmp_path / "a"))
    assert mg.load(convert(tmp_path / "a"))["x"].item() == 1.0
    monkeypatch.chdir(tmp_path)
    mg.save({"x": mg.ones(1)}, "relative")
    assert (tmp_path / "relative").is_file()


def test_paths_that_do_not_work(tmp_path):
    with pytest.raises(FileNotFoundError, match="missing"):
        mg.save({}, tmp_path / "missing" / "f")
    with pytest.raises(IsADirectoryError):
        mg.save({}, tmp_path)
    with pytest.raises(FileNotFoundError, match="nothing"):
        mg.load(tmp_path / "nothing")
    with pytest.raises(IsADirectoryError):
        mg.load(tmp_path)
    with pytest.raises(TypeError):
        mg.save({}, 3.5)


def file_bytes(header, data=b""):
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def good():
    file = io.BytesIO()
    mg.save({"x": mg.ones(5), "n": [1]}, file)
    return file.getvalue()


DAMAGED = {
    "empty": lambda: b"",
    "text": lambda: b"this is not a model, and long enough",
    "header cut": lambda: good()[:30],
    "data cut": lambda: good()[:-1],
    "too long": lambda: good() + b"0",
    "huge header": lambda: b"\xff" * 8 + good()[8:],
    "no json": lambda: (4).to_bytes(8, "little") + b"{{{{",
    "wrong size": lambda: file_bytes({"x": {"dtype": "F32", "shape": [3], "data_offsets": [0, 4]}}, bytes(4)),
    "unknown dtype": lambda: file_bytes({"x": {"dtype": "F99", "shape": [1], "data_offsets": [0, 4]}}, bytes(4)),
    "structure": lambda: file_bytes({"__metadata__": {"minigrad.structure": '{"dict": [["x", {"tensor": "gone"}]]}'}}),
    "structure kind": lambda: file_bytes({"__metadata__": {"minigrad.structure": '{"set": [1]}'}}),
    "structure json": lambda: file_bytes({"__metadata__": {"minigrad.structure": "["}}),
}


@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_files(damage, tmp_path):
    path = tmp_path / "broken.safetensors"
    path.write_bytes(DAMAGED[damage]())
    with pytest.raises(ValueError, match=r"broken\.safetensors"):
        mg.load(path)


def test_files_of_other_formats(tmp_path):
    for start in (b"PK\x03\x04rest", b"\x80\x02rest"):
        (tmp_path / "model.pt").write_bytes(start)
        with pytest.raises(ValueError, match=r"model.pt is a PyTorch checkpoint"):
            mg.load(tmp_path / "model.pt")
    save_file({"half": np.ones(2, np.float16)}, tmp_path / "half")
    with pytest.raises(ValueError, match="tensor 'half' has dtype F16"):
        mg.load(tmp_path / "half")


def test_options_of_load(tmp_path):
    mg.save({"x": mg.ones(1)}, tmp_path / "f")
    assert mg.load(tmp_path / "f", "cpu", weights_only=True, mmap=False)["x"].item() == 1.0
    assert mg.load(tmp_path / "f", map_location=mg.device("cpu"))["x"].item() == 1.0
    with pytest.raises(RuntimeError, match="not available"):
        mg.load(tmp_path / "f", map_location="cuda")
