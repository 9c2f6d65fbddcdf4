"""Making tensors on a GPU, moving them there and back, showing, saving and loading them."""

import copy
import io
import pickle
import threading
import warnings

import numpy as np
import pytest

import minigrad as mg
from minigrad.data import DataLoader, TensorDataset

from .both import needs_gpu, same, values

pytestmark = needs_gpu

MAKERS = {
    "zeros": lambda **k: mg.zeros(2, 3, **k),
    "ones": lambda **k: mg.ones((2, 3), dtype=mg.float64, **k),
    "full": lambda **k: mg.full((2,), 7, **k),
    "full of float64": lambda **k: mg.full((3, 3000), 1 / 3, dtype=mg.float64, **k),
    "arange": lambda **k: mg.arange(1, 10, 3, **k),
    "arange of floats": lambda **k: mg.arange(0, 1, 0.25, **k),
    "arange of large": lambda **k: mg.arange(2**60, 2**60 + 3, **k),
    "linspace": lambda **k: mg.linspace(0, 1, 5, **k),
    "eye": lambda **k: mg.eye(3, 4, **k),
    "tensor": lambda **k: mg.tensor([[1.0, 2.0], [3.0, 4.0]], **k),
    "tensor of ints": lambda **k: mg.tensor([1, 2], **k),
    "number": lambda **k: mg.tensor(1.5, **k),
    "of an array": lambda **k: mg.tensor(np.arange(6.0).reshape(2, 3).T, **k),
    "as_tensor": lambda **k: mg.as_tensor(np.arange(3), **k),
    "of a tensor": lambda **k: mg.tensor(mg.ones(3), **k),
    "empty rows": lambda **k: mg.zeros(0, 3, **k),
    "new_zeros": lambda **k: mg.zeros(1, **k).new_zeros(2, 2),
    "new_tensor": lambda **k: mg.zeros(1, **k).new_tensor([1, 2]),
    "zeros_like": lambda **k: mg.zeros_like(mg.ones(2, 3, **k)),
    "ones_like": lambda **k: mg.ones_like(mg.ones(2, 3), **k),
    "full_like": lambda **k: mg.full_like(mg.ones(2, 3, **k), 3),
    "requires grad": lambda **k: mg.ones(2, requires_grad=True, **k),
    "bools": lambda **k: mg.tensor([True, False, True], **k),
}


@pytest.mark.parametrize("name", MAKERS)
def test_creation(name):
    made = MAKERS[name]
    for device in ("cuda", "cuda:0", 0, mg.device("cuda"), mg.device("cuda", 0)):
        if device != 0:
            same(made(device=device), made())
    made = made(device="cuda")
    assert made.device == mg.device("cuda:0") and made.is_leaf and made.get_device() == 0


def test_default_device():
    mg.set_default_device("cuda")
    try:
        assert mg.zeros(2).is_cuda and mg.tensor([1.0]).is_cuda and mg.get_default_device() == mg.device("cuda", 0)
        assert not mg.zeros(2, device="cpu").is_cuda
        assert mg.nn.Linear(2, 2).weight.is_cuda
        batches = list(DataLoader(TensorDataset(mg.arange(4)), batch_size=2, shuffle=True))
        assert sorted(int(i) for (x,) in batches for i in x) == [0, 1, 2, 3]
    finally:
        mg.set_default_device(None)
    assert not mg.zeros(2).is_cuda


def test_device_as_a_context():
    def made():
        return {mg.zeros(2).get_device(), mg.tensor([1.0]).get_device(), mg.nn.Linear(2, 2).bias.get_device(),
                mg.rand(2).get_device(), mg.randperm(3).get_device(), mg.full((2,), 1).get_device(),
                mg.as_tensor(np.ones(2)).get_device(), mg.arange(3).get_device(), mg.eye(2).get_device()}  # fmt: skip

    x, array = mg.ones(2), np.ones(2)
    with mg.device("cuda") as device:
        assert made() == {0} and device == mg.device("cuda") and mg.get_default_device() == mg.device("cuda:0")
        assert mg.as_tensor(x).is_cuda and mg.tensor(x).is_cuda  # as in PyTorch
        assert x.new_zeros(2).is_cpu and mg.zeros_like(x).is_cpu and mg.from_numpy(array).is_cpu
        assert mg.zeros(2, device="cpu").is_cpu and (x + array).is_cpu
        assert mg.nn.init.orthogonal_(mg.empty(3, 3)).is_cuda and mg.nn.init.trunc_normal_(mg.empty(3)).is_cuda
        others = []
        thread = threading.Thread(target=lambda: others.append((made(), mg.get_default_device())))
        thread.start()
        thread.join()
        assert others == [({-1}, mg.device("cpu"))]
        with mg.device("cpu"), device:
            assert made() == {0}
        with mg.device("cpu"):
            assert made() == {-1} and mg.tensor(mg.ones(2, device="cuda")).is_cpu
            mg.set_default_device("cuda")
            assert made() == {-1}
        mg.set_default_device("cpu")
        assert made() == {0}
        if mg.cuda.device_count() > 1:
            with mg.cuda.device(1):
                assert made() == {1} and mg.get_default_device() == mg.device("cuda:1")
    mg.set_default_device(None)
    with pytest.raises(KeyError), mg.device("cuda"):
        raise KeyError
    assert made() == {-1} and mg.tensor(mg.ones(2, device="cuda")).is_cuda


def test_a_program_is_of_a_default_device():
    @mg.compile
    def f(x):
        return x * mg.ones(2) + mg.arange(2.0)

    x = mg.full((), 3.0)
    for _ in range(4):
        assert f(x).tolist() == [3, 4] and f(x).is_cpu
    assert f.cache_info().hits
    with mg.device("cuda"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert f(x).is_cuda and f(x).tolist() == [3, 4]
    assert f(x).is_cpu


def test_seeds():
    generator = mg.manual_seed(5)
    drawn = mg.rand(3, device="cuda").tolist()
    mg.cuda.manual_seed_all(5)
    assert mg.cuda.initial_seed() == 5 and mg.rand(3, device="cuda").tolist() == drawn
    state = mg.cuda.get_rng_state()
    drawn = mg.rand(3, device="cuda").tolist()
    mg.cuda.set_rng_state(state, "cuda:0")
    assert mg.rand(3, device="cuda").tolist() == drawn
    mg.cuda.seed()
    assert mg.cuda.initial_seed() == generator.initial_seed() != 5
    mg.cuda.manual_seed(5)
    assert generator.initial_seed() == 5
    with pytest.raises(ValueError, match="Expected a cuda device"):
        mg.cuda.get_rng_state("cpu")


def test_moves():
    x = mg.arange(6.0).reshape(2, 3)
    y = x.to("cuda")
    assert y.is_cuda and not y.is_cpu and x.is_cpu and y.device.type == "cuda" and y.device.index == 0
    assert y.to("cuda") is y and y.cuda() is y and x.cpu() is x and y.cuda(0) is y and y.to(y) is y
    assert y.to("cuda", copy=True) is not y and x.to("cpu", copy=True).data_ptr() != x.data_ptr()
    values(y.cpu(), x)
    values(y.to(x), x)
    assert not y.to(x).is_cuda and x.to(y).is_cuda
    z = x.to("cuda", mg.float64, True, True)
    assert z.is_cuda and z.dtype is mg.float64
    values(z, x.double())
    assert x.to(device="cuda", dtype=mg.int32, non_blocking=True).dtype is mg.int32
    values(x.t().cuda(), x.t())
    values(y.t().cpu(), x.t())
    values(y[:, 1:].cpu(), x[:, 1:])
    values(x.expand(4, 2, 3).cuda(), x.expand(4, 2, 3))
    assert y.type(mg.float64).is_cuda and y.double().is_cuda
    values(mg.zeros(2, 3).copy_(y), x)
    values(mg.zeros(3, 2, dtype=mg.float64).t().copy_(y), x.double())
    values(mg.zeros(2, 3, device="cuda").copy_(x[:, :1]), x[:, :1].expand(2, 3))
    values(mg.zeros(2, 3, device="cuda", dtype=mg.int64).copy_(x), x.long())
    for n in (1, 1000, 1_000_000):
        values(mg.arange(n).cuda(), mg.arange(n))


def test_values():
    for dtype in (mg.float32, mg.float64, mg.int64, mg.int32, mg.int16, mg.int8, mg.uint8, mg.bool_):
        x = mg.tensor([[0, 1], [2, 3]]).to(dtype)
        y = x.cuda()
        assert (
            y.tolist() == x.tolist()
            and y[1, 0].item() == x[1, 0].item()
            and type(y[1, 0].item()) is type(x[1, 0].item())
        )
        assert y.t().tolist() == x.t().tolist()
    one = mg.tensor(3.0, device="cuda")
    assert float(one) == 3 and int(one) == 3 and bool(one) and f"{one:.1f}" == "3.0" and 3.0 in one.reshape(1)
    assert range(10)[mg.tensor(3, device="cuda")] == 3 and len(mg.zeros(4, device="cuda")) == 4
    assert [int(i) for i in mg.arange(3, device="cuda")] == [0, 1, 2]
    assert mg.equal(mg.ones(2, device="cuda"), mg.ones(2, device="cuda"))
    with pytest.raises(RuntimeError, match="ambiguous"):
        bool(mg.ones(2, device="cuda"))


def test_host_memory_is_never_given_out():
    x = mg.ones(2, device="cuda")
    message = (
        r"can't convert cuda:0 device type tensor to numpy. Use Tensor.cpu\(\) to copy the tensor to host memory first."
    )
    for read in (x.numpy, lambda: np.asarray(x), lambda: np.array(x), lambda: memoryview(x._storage)):
        with pytest.raises(TypeError, match=message):
            read()
    assert x.numpy(force=True).tolist() == [1, 1]
    assert x.requires_grad_().numpy(force=True).tolist() == [1, 1]


def test_printing():
    assert repr(mg.tensor([1.0, 2.0], device="cuda")) == "tensor([1., 2.], device='cuda:0')"
    assert repr(mg.tensor(3, device="cuda")) == "tensor(3, device='cuda:0')"
    assert repr(mg.zeros(0, device="cuda")) == "tensor([], device='cuda:0')"
    assert repr(mg.zeros(0, 2, device="cuda")) == "tensor([], device='cuda:0', size=(0, 2))"
    x = mg.ones(2, device="cuda", dtype=mg.float64, requires_grad=True)
    assert repr(x) == "tensor([1., 1.], device='cuda:0', dtype=minigrad.float64, requires_grad=True)"
    assert "grad_fn=<MulBackward0>" in repr(x * 2)
    for shape in ((1001,), (40, 40), (12, 11, 10), (2000, 2), (2, 2000), (7, 8, 30)):
        x = mg.arange(float(np.prod(shape))).reshape(shape)
        shown = [
            repr(t.cuda()).replace(", device='cuda:0'", "").replace(" ", "") for t in (x, x.mT if x.ndim > 1 else x)
        ]
        assert shown == [repr(t).replace(" ", "") for t in (x, x.mT if x.ndim > 1 else x)]
    parameter = repr(mg.nn.Parameter(mg.ones(1, device="cuda")))
    assert parameter == "Parameter containing:\ntensor([1.], device='cuda:0', requires_grad=True)"


def test_copies_and_pickles():
    x = mg.arange(4.0, device="cuda", requires_grad=True)
    (x * x).sum().backward()
    for made in (copy.deepcopy(x), copy.copy(x), pickle.loads(pickle.dumps(x))):
        assert made.is_cuda and made.requires_grad and made.is_leaf
        values(made, x)
    same(copy.deepcopy(x).grad, x.grad.cpu())
    p = mg.nn.Parameter(mg.ones(2, device="cuda"))
    assert copy.deepcopy(p).is_cuda and isinstance(pickle.loads(pickle.dumps(p)), mg.nn.Parameter)


def model():
    mg.manual_seed(1)
    net = mg.nn.Sequential(mg.nn.Linear(3, 4), mg.nn.Tanh(), mg.nn.Linear(4, 2))
    net.register_buffer("count", mg.tensor(3))
    return net


def test_modules():
    net, reference = model(), model()
    weights, before = list(net.parameters()), [id(p) for p in net.parameters()]
    net(mg.ones(2, 3)).sum().backward()
    assert net.cuda() is net and [id(p) for p in net.parameters()] == before
    assert all(p.is_cuda and p.is_leaf and p.grad.is_cuda and p.requires_grad for p in weights) and net.count.is_cuda
    x = mg.ones(2, 3)
    same(net(x.cuda()), reference(x))
    with mg.no_grad():
        same(net(x.cuda()), reference(x))
    with pytest.raises(RuntimeError, match="same device"):
        net(x)
    assert all(not p.is_cuda for p in net.cpu().parameters())
    net.to("cuda", mg.float64)
    assert (
        net[0].weight.dtype is mg.float64
        and net[0].weight.is_cuda
        and net.count.dtype is mg.int64
        and net.count.is_cuda
    )
    net.to(x)
    assert net[0].weight.dtype is mg.float32 and not net.count.is_cuda
    net.to(device="cuda")
    assert net.count.is_cuda
    layer = mg.nn.Linear(3, 2, device="cuda")
    assert layer.weight.is_cuda and layer.bias.is_cuda


def test_state_dicts():
    there, here = model().cuda(), model()
    for a, b in ((there, here), (here, there)):
        with mg.no_grad():
            for p in b.parameters():
                p.mul_(2)
        a.load_state_dict(b.state_dict())
        for name, value in b.state_dict().items():
            values(a.state_dict()[name], value)
    assert there[0].weight.is_cuda and not here[0].weight.is_cuda
    there.load_state_dict(here.state_dict(), assign=True)
    assert not there[0].weight.is_cuda


def test_files():
    state = {"epoch": 3, "model": model().cuda().state_dict(), "w": mg.arange(3, device="cuda")}
    file = io.BytesIO()
    mg.save(state, file)

    def load(where):
        return mg.load(io.BytesIO(file.getvalue()), map_location=where)

    for where, there in (
        (None, False), ("cpu", False), ("cuda", True), (mg.device("cuda:0"), True), ({"cpu": "cuda:0"}, True),
        ({"cuda:0": "cpu"}, False), (lambda t, location: t.cuda(), True), (lambda t, location: None, False),
    ):  # fmt: skip
        found = load(where)
        assert found["epoch"] == 3 and found["w"].is_cuda is there and found["w"].tolist() == [0, 1, 2], where
        for name, value in found["model"].items():
            assert value.is_cuda is there
            values(value, state["model"][name])
    with pytest.raises(TypeError, match="map_location"):
        load(3.5)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_loaders(device):
    x, y = mg.arange(10.0, device=device).reshape(5, 2), mg.arange(5, device=device)
    for kwargs in ({}, {"shuffle": True}, {"pin_memory": True}, {"drop_last": True}):
        mg.manual_seed(0)
        batches = list(DataLoader(TensorDataset(x, y), batch_size=2, **kwargs))
        mg.manual_seed(0)
        expected = list(DataLoader(TensorDataset(x.cpu(), y.cpu()), batch_size=2))
        assert len(batches) == len(expected) - bool(kwargs.get("drop_last"))
        for a, b in batches:
            assert a.device == b.device == x.device
            values(a[:, 0] / 2, b.float())
        if not kwargs:
            for found, wanted in zip(batches, expected, strict=True):
                values(found[0], wanted[0])


def test_memory_comes_back():
    mg.cuda.synchronize()
    before = mg.cuda.memory_allocated()
    x = mg.zeros(1000, device="cuda", requires_grad=True)
    (x * x).sum().backward()
    assert mg.cuda.memory_allocated() >= before + 8000
    del x
    assert mg.cuda.memory_allocated() == before


@pytest.mark.skipif(mg.cuda.device_count() < 2, reason="needs two GPUs, or MINIGRAD_PRETEND_CUDA=2")
def test_two_gpus():
    x = mg.arange(6.0).reshape(2, 3)
    a, b = x.to("cuda:0").requires_grad_(), x.to("cuda:1")
    assert repr(b).endswith("device='cuda:1')") and b.get_device() == 1 and a.to(1).device == b.device
    values(a.to("cuda:1").t().contiguous(), x.t())
    (a.to(1) * b).sum().backward()
    assert a.grad.device == a.device
    values(a.grad, x)
    for mixed in (
        lambda: a + b,
        lambda: b @ a.t(),
        lambda: mg.cat([a, b]),
        lambda: a.detach().add_(b),
        lambda: a * b.sum(),
    ):
        with pytest.raises(RuntimeError, match="at least two devices, cuda:[01] and cuda:[01]!"):
            mixed()
    with mg.cuda.device(1):
        assert mg.zeros(1, device="cuda").get_device() == 1 and x.cuda().get_device() == 1
    net = model().to("cuda:1")
    values(net(b), model()(x))
    values(net.to("cuda:0")(a), model()(x))
    values(mg.zeros(2, 3, device="cuda:1").copy_(a.detach()), x)


def test_pinned_memory():
    x = mg.arange(6.0).reshape(2, 3).t().requires_grad_()
    y = x.pin_memory()
    assert y.is_pinned() and not x.is_pinned() and y.pin_memory() is y and not y.cuda().is_pinned()
    assert y[1:].is_pinned() and not y.is_cuda and y.is_contiguous()
    values(y, x)
    values(y.cuda(), x)
    (y * 2).sum().backward()
    values(x.grad, mg.full((3, 2), 2.0))
    y[0].detach().zero_()
    assert y.tolist()[0] == [0, 0] and mg.zeros(0).pin_memory().shape == (0,)
    with pytest.raises(RuntimeError, match="cannot pin 'minigrad.cuda.FloatTensor'"):
        mg.zeros(1, device="cuda").pin_memory()
    address = y.data_ptr()
    del y
    assert mg.ones(3, 2).pin_memory().data_ptr() == address  # locking pages takes long: blocks are kept
    for batch in (mg.zeros(2), (mg.zeros(2), "a"), {"x": [mg.zeros(2)], "n": 3}):
        (found,) = DataLoader([batch], None, pin_memory=True, collate_fn=lambda item: item)
        pinned = found if isinstance(found, mg.Tensor) else found["x"][0] if isinstance(found, dict) else found[0]
        assert pinned.is_pinned() and type(found) is type(batch)


def test_a_move_inside_a_compiled_function():
    @mg.compile
    def program(x):
        return (x.cuda() * 2).cpu()

    values(program(mg.ones(3)), mg.full((3,), 2.0))
    with pytest.warns(UserWarning, match="cuda:0"):
        values(program(mg.ones(3)), mg.full((3,), 2.0))
    values(program(mg.ones(3)), mg.full((3,), 2.0))


def test_pinned_batches_of_a_compiled_step():
    w = mg.ones(3, device="cuda")

    @mg.compile
    def step(x):
        return x.to("cuda", non_blocking=True) * w

    batches = [mg.full((3,), float(i)).pin_memory() for i in range(8)]
    for i, x in enumerate(batches):
        values(step(x), mg.full((3,), float(i)))
    assert step.cache_info().hits >= 4
