"""Module: registration, traversal, state, modes, conversions, hooks, copies and printing."""

import copy
import pickle
from collections import OrderedDict

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn


class Net(nn.Module):
    """A model with everything: parameters, an absent one, buffers, submodules, an absent one, a plain attribute."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(mg.tensor([2.0, 3.0]))
        self.register_parameter("absent", None)
        self.register_buffer("mean", mg.tensor([0.5, 0.5]))
        self.register_buffer("scratch", mg.zeros(2), persistent=False)
        self.fc = nn.Linear(2, 3)
        self.body = nn.Sequential(nn.Linear(3, 3), nn.ReLU())
        self.none = None
        self.register_module("empty", None)
        self.width = 3

    def forward(self, x, shift=0.0):
        return self.body(self.fc((x - self.mean) * self.scale)) + shift


KEYS = ["scale", "mean", "fc.weight", "fc.bias", "body.0.weight", "body.0.bias"]


# --- what it contains -------------------------------------------------------------------------------------------------


def test_names_in_order():
    net = Net()
    assert [n for n, _ in net.named_parameters()] == [k for k in KEYS if k != "mean"]
    assert next(n for n, _ in net.named_parameters(prefix="net")) == "net.scale"
    assert [n for n, _ in net.named_parameters(recurse=False)] == ["scale"]
    assert [n for n, _ in net.named_buffers()] == ["mean", "scratch"]
    assert [n for n, _ in net.named_children()] == ["fc", "body"]
    assert [n for n, _ in net.named_modules()] == ["", "fc", "body", "body.0", "body.1"]
    assert next(iter(net.modules())) is net
    assert list(net.children()) == [net.fc, net.body]
    assert [p.shape for p in net.parameters()] == [(2,), (3, 2), (3,), (3, 3), (3,)]
    assert len(list(net.buffers())) == 2


def test_shared_parameters_and_modules_are_listed_once():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(2, 2)
            self.b = self.a
            self.w = self.a.weight

    net = Tied()
    assert [n for n, _ in net.named_parameters()] == ["w", "a.bias"]
    assert [n for n, _ in net.named_parameters(remove_duplicate=False)] == [
        "w", "a.weight", "a.bias", "b.weight", "b.bias",
    ]  # fmt: skip
    assert [n for n, _ in net.named_modules()] == ["", "a"]
    assert [n for n, _ in net.named_modules(remove_duplicate=False)] == ["", "a", "b"]
    assert list(net.state_dict()) == ["w", "a.weight", "a.bias", "b.weight", "b.bias"]
    net.load_state_dict(net.state_dict())
    twin = copy.deepcopy(net)
    assert twin.w is twin.a.weight and twin.a is twin.b and twin.w is not net.w


def test_views_of_the_registries_are_read_only():
    net = Net()
    assert list(net._parameters) == ["scale", "absent"]
    assert list(net._buffers) == ["mean", "scratch"]
    assert list(net._modules) == ["fc", "body", "empty"]
    assert net._modules["fc"] is net.fc
    with pytest.raises(TypeError):
        net._modules["fc"] = nn.ReLU()


@pytest.mark.parametrize(
    ("target", "expected"),
    [("", lambda n: n), ("fc", lambda n: n.fc), ("body.0", lambda n: n.body[0])],
)
def test_get_submodule(target, expected):
    net = Net()
    assert net.get_submodule(target) is expected(net)


def test_get_tensors_by_path():
    net = Net()
    assert net.get_parameter("body.0.weight") is net.body[0].weight
    assert net.get_buffer("mean") is net.mean
    for call, target, message in (
        (net.get_submodule, "body.7", "Sequential has no attribute `7`"),
        (net.get_submodule, "width", "`width` is not an nn.Module"),
        (net.get_parameter, "fc.nope", "Linear has no attribute `nope`"),
        (net.get_parameter, "mean", "`mean` is not an nn.Parameter"),
        (net.get_buffer, "scale", "`scale` is not a buffer"),
    ):
        with pytest.raises(AttributeError, match=message):
            call(target)


# --- attributes -------------------------------------------------------------------------------------------------------


def test_attributes_are_ordinary():
    net = Net()
    assert net.__dict__["scale"] is net.scale
    assert net.__dict__["fc"] is net.fc
    assert net.absent is None and net.empty is None


def test_reassignment_keeps_the_order_and_replaces():
    net = Net()
    net.scale = nn.Parameter(mg.zeros(2))
    net.fc = nn.Identity()
    assert next(n for n, _ in net.named_parameters()) == "scale"
    assert [n for n, _ in net.named_children()] == ["fc", "body"]
    net.absent = nn.Parameter(mg.ones(1))
    assert list(net.state_dict())[:2] == ["scale", "absent"]
    net.mean = mg.ones(2)
    assert net.state_dict()["mean"].tolist() == [1.0, 1.0]


def test_an_attribute_changes_its_kind():
    net = Net()
    net.width = nn.Parameter(mg.zeros(1))  # from a plain attribute
    assert "width" in net._parameters
    net.width = nn.ReLU()  # to a module
    assert "width" in net._modules and "width" not in net._parameters
    del net.width
    assert not hasattr(net, "width") and "width" not in net._modules
    net.fc = None  # stays registered, as None
    assert "fc" in net._modules and net.fc is None
    assert not any(k.startswith("fc") for k in net.state_dict())


def test_deletion():
    net = Net()
    del net.scale, net.mean, net.fc
    assert list(net.state_dict()) == ["body.0.weight", "body.0.bias"]
    with pytest.raises(AttributeError):
        del net.scale


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("scale", 3.0, r"cannot assign 'float' as parameter 'scale' \(minigrad.nn.Parameter or None expected\)"),
        ("scale", mg.zeros(2), r"cannot assign 'minigrad.Tensor' as parameter 'scale'"),
        ("absent", mg.zeros(2), r"cannot assign 'minigrad.Tensor' as parameter 'absent'"),
        ("fc", 3, r"cannot assign 'int' as child module 'fc' \(minigrad.nn.Module or None expected\)"),
        ("mean", [1.0], r"cannot assign 'list' as buffer 'mean' \(minigrad.Tensor or None expected\)"),
    ],
)
def test_assignment_of_the_wrong_kind(name, value, message):
    net = Net()
    before = getattr(net, name)
    with pytest.raises(TypeError, match=message):
        setattr(net, name, value)
    assert getattr(net, name) is before


def test_before_init():
    class Parameter(nn.Module):
        def __init__(self):
            self.w = nn.Parameter(mg.zeros(1))

    class Submodule(nn.Module):
        def __init__(self):
            self.m = nn.ReLU()

    class Buffer(nn.Module):
        def __init__(self):
            self.register_buffer("b", mg.zeros(1))

    class Plain(nn.Module):
        def __init__(self):
            self.size = 3
            super().__init__()

    for kind, message in (
        (Parameter, r"cannot assign parameters before Module.__init__\(\) call"),
        (Submodule, r"cannot assign module before Module.__init__\(\) call"),
        (Buffer, r"cannot assign buffer before Module.__init__\(\) call"),
    ):
        with pytest.raises(AttributeError, match=message):
            kind()
    assert Plain().size == 3


def test_a_second_init_forgets_nothing():
    class Both(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.Linear(1, 1)
            super().__init__()
            self.b = nn.Linear(1, 1)

    assert [n for n, _ in Both().named_children()] == ["a", "b"]


@pytest.mark.parametrize(
    ("register", "arguments", "error", "message"),
    [
        ("register_parameter", ("a.b", None), KeyError, 'parameter name can\'t contain "."'),
        ("register_parameter", ("", None), KeyError, "parameter name can't be empty string"),
        ("register_parameter", (3, None), TypeError, "parameter name should be a string. Got int"),
        ("register_parameter", ("forward", None), KeyError, "attribute 'forward' already exists"),
        (
            "register_parameter",
            ("p", mg.zeros(1)),
            TypeError,
            "cannot assign 'minigrad.Tensor' object to parameter 'p'",
        ),
        ("register_buffer", ("a.b", None), KeyError, 'buffer name can\'t contain "."'),
        ("register_buffer", ("", None), KeyError, "buffer name can't be empty string"),
        ("register_buffer", (3, None), TypeError, "buffer name should be a string"),
        ("register_buffer", ("fc", None), KeyError, "attribute 'fc' already exists"),
        ("register_buffer", ("b", 3), TypeError, "cannot assign 'int' object to buffer 'b'"),
        ("add_module", ("a.b", None), KeyError, 'module name can\'t contain "."'),
        ("add_module", ("", None), KeyError, "module name can't be empty string"),
        ("add_module", (3, None), TypeError, "module name should be a string"),
        ("add_module", ("scale", nn.ReLU()), KeyError, "attribute 'scale' already exists"),
        ("add_module", ("m", 3), TypeError, "int is not a Module subclass"),
        ("add_module", ("m", nn.ReLU), TypeError, "minigrad.nn.activation.ReLU is not a Module subclass"),
    ],
)
def test_registration_errors(register, arguments, error, message):
    with pytest.raises(error) as caught:
        getattr(Net(), register)(*arguments)
    assert message in str(caught.value).replace('\\"', '"').replace("\\'", "'")


def test_init_takes_no_arguments():
    with pytest.raises(TypeError, match=r"Module.__init__\(\) got an unexpected keyword argument 'x'"):
        nn.Module(x=1)
    with pytest.raises(TypeError, match=r"takes 1 positional argument but 3 were given"):
        nn.Module(1, 2)


def test_unknown_attribute():
    with pytest.raises(AttributeError, match="'Net' object has no attribute 'nope'"):
        Net().nope  # noqa: B018


def test_dir_lists_attributes_but_no_numbers():
    names = dir(nn.Sequential(nn.ReLU(), nn.Linear(1, 1)))
    assert "forward" in names and "training" in names and "0" not in names
    assert {"scale", "fc", "mean", "width"} <= set(dir(Net()))


# --- calling ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "keywords", "expected"),
    [
        ((1,), {}, (1, 2, {})),
        ((1, 5), {}, (1, 5, {})),
        ((1,), {"b": 7, "c": 8}, (1, 7, {"c": 8})),
        ((), {"a": 3}, (3, 2, {})),
    ],
)
def test_call_is_forward(arguments, keywords, expected):
    class Echo(nn.Module):
        def forward(self, a, b=2, **rest):
            return a, b, rest

    assert Echo()(*arguments, **keywords) == expected
    hooked = Echo()
    hooked.register_forward_hook(lambda module, args, output: None)
    assert hooked(*arguments, **keywords) == expected


def test_call_errors():
    with pytest.raises(NotImplementedError, match=r'Module \[Module\] is missing the required "forward" function'):
        nn.Module()(1)
    with pytest.raises(TypeError, match="forward"):
        nn.ReLU()()
    with pytest.raises(TypeError, match="forward"):
        nn.ReLU()(mg.zeros(1), 2)


def test_forward_of_the_instance_and_call_of_the_class():
    layer = nn.ReLU()
    layer.forward = lambda x: x + 1
    assert layer(mg.tensor([-1.0])).tolist() == [0.0]

    class Twice(nn.Module):
        def __call__(self, x):
            return 2 * super().__call__(x)

        def forward(self, x):
            return x

    assert Twice()(3) == 6


# --- state ------------------------------------------------------------------------------------------------------------


def test_state_dict():
    net = Net()
    state = net.state_dict()
    assert isinstance(state, OrderedDict) and list(state) == KEYS
    assert not any(v.requires_grad or isinstance(v, nn.Parameter) for v in state.values())
    state["scale"].zero_()  # shares memory
    assert net.scale.tolist() == [0.0, 0.0]
    assert net.state_dict(keep_vars=True)["scale"] is net.scale
    into = OrderedDict(other=1)
    assert net.state_dict(destination=into, prefix="a.") is into
    assert list(into) == ["other", *("a." + k for k in KEYS)]
    with pytest.warns(FutureWarning, match="Positional args are being deprecated"):
        assert next(iter(net.state_dict(OrderedDict(), "b."))) == "b.scale"


def test_load_state_dict_copies():
    a, b = Net(), Net()
    weight = b.fc.weight
    result = b.load_state_dict(a.state_dict())
    assert repr(result) == "<All keys matched successfully>" and result.missing_keys == []
    assert b.fc.weight is weight and weight.tolist() == a.fc.weight.tolist()
    with mg.no_grad():
        a.fc.weight.zero_()
    assert weight.tolist() != a.fc.weight.tolist()


def test_load_state_dict_assigns():
    a, b = Net(), Net()
    b.requires_grad_(False)
    state = a.state_dict()
    b.load_state_dict(state, assign=True)
    assert isinstance(b.fc.weight, nn.Parameter) and not b.fc.weight.requires_grad
    assert b.fc.weight.data_ptr() == a.fc.weight.data_ptr()
    assert b.mean is state["mean"]


@pytest.mark.parametrize("dtype", [mg.float64, mg.int32])
def test_load_state_dict_converts(dtype):
    net = nn.Linear(2, 2)
    net.load_state_dict({"weight": mg.ones(2, 2, dtype=dtype), "bias": mg.zeros(2, dtype=dtype)})
    assert net.weight.dtype == mg.float32 and net.weight.tolist() == [[1.0, 1.0], [1.0, 1.0]]


def test_load_state_dict_errors_list_everything_and_change_nothing():
    net = Net()
    before = {k: v.tolist() for k, v in net.state_dict().items()}
    state = {k: v + 1 for k, v in net.state_dict().items()}
    del state["mean"]
    state["extra"] = mg.zeros(1)
    state["fc.weight"] = mg.zeros(2, 3)
    state["fc.bias"] = np.zeros(3)
    with pytest.raises(RuntimeError) as caught:
        net.load_state_dict(state)
    assert str(caught.value).split("\n\t") == [
        "Error(s) in loading state_dict for Net:",
        'Missing key(s) in state_dict: "mean". ',
        'Unexpected key(s) in state_dict: "extra". ',
        "size mismatch for fc.weight: copying a param with shape minigrad.Size([2, 3]) from checkpoint, "
        "the shape in current model is minigrad.Size([3, 2]).",
        'While copying the parameter named "fc.bias", expected minigrad.Tensor or Tensor-like object from checkpoint '
        "but received <class 'numpy.ndarray'>",
    ]
    assert {k: v.tolist() for k, v in net.state_dict().items()} == before


def test_load_state_dict_not_strict():
    net = Net()
    state = net.state_dict()
    del state["mean"], state["fc.bias"]
    state["fc.more"] = mg.zeros(1)
    result = net.load_state_dict(state, strict=False)
    assert result.missing_keys == ["mean", "fc.bias"] and result.unexpected_keys == ["fc.more"]
    assert repr(result) == "_IncompatibleKeys(missing_keys=['mean', 'fc.bias'], unexpected_keys=['fc.more'])"
    with pytest.raises(RuntimeError, match="size mismatch for scale"):
        net.load_state_dict({"scale": mg.zeros(3)}, strict=False)
    with pytest.raises(TypeError, match="Expected state_dict to be dict-like"):
        net.load_state_dict([1])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"])
def test_copies_are_independent_and_complete(copied):
    net = Net().eval()
    net.fc.weight.requires_grad_(False)
    twin = copied(net)
    assert type(twin) is Net and not twin.training and twin.width == 3 and twin.absent is None
    assert repr(twin) == repr(net)
    assert not twin.fc.weight.requires_grad and isinstance(twin.fc.weight, nn.Parameter)
    for (name, a), (other, b) in zip(net.state_dict().items(), twin.state_dict().items(), strict=True):
        assert name == other and a.tolist() == b.tolist() and a.data_ptr() != b.data_ptr()
    x = mg.ones(1, 2)
    assert twin(x).tolist() == net(x).tolist()


def test_a_shallow_copy_has_its_own_registry():
    net = Net()
    twin = copy.copy(net)
    assert twin.fc is net.fc
    twin.more = nn.Linear(1, 1)
    assert [n for n, _ in net.named_children()] == ["fc", "body"]


# --- modes and conversions --------------------------------------------------------------------------------------------


def test_train_and_eval():
    net = Net()
    assert net.training and net.eval() is net
    assert not any(m.training for m in net.modules())
    assert net.train() is net and all(m.training for m in net.modules())
    with pytest.raises(ValueError, match="training mode is expected to be boolean"):
        net.train(1)


def test_requires_grad_and_zero_grad():
    net = Net()
    assert not any(p.requires_grad for p in net.requires_grad_(False).parameters())
    net.requires_grad_()
    net(mg.ones(4, 2)).sum().backward()
    grad = net.fc.weight.grad
    net.zero_grad(set_to_none=False)
    assert net.fc.weight.grad is grad and not np.any(grad.numpy())
    net.zero_grad()
    assert all(p.grad is None for p in net.parameters())


def test_zero_grad_detaches_recorded_gradients():
    layer = nn.Linear(1, 1)
    (layer(mg.ones(1, 1)) ** 2).sum().backward(create_graph=True)
    layer.zero_grad(set_to_none=False)
    assert layer.weight.grad.tolist() == [[0.0]] and not layer.weight.grad.requires_grad


def test_apply_visits_children_first():
    seen = []
    net = Net()
    assert net.apply(lambda m: seen.append(type(m).__name__)) is net
    assert seen == ["Linear", "Linear", "ReLU", "Sequential", "Net"]


@pytest.mark.parametrize(
    ("convert", "dtype"),
    [
        (lambda m: m.double(), mg.float64),
        (lambda m: m.double().float(), mg.float32),
        (lambda m: m.to(mg.float64), mg.float64),
        (lambda m: m.to(dtype=mg.float64), mg.float64),
        (lambda m: m.to("cpu", mg.float64), mg.float64),
        (lambda m: m.to(mg.zeros(1, dtype=mg.float64)), mg.float64),
        (lambda m: m.to("cpu"), mg.float32),
        (lambda m: m.to(mg.device("cpu"), non_blocking=True), mg.float32),
        (lambda m: m.cpu(), mg.float32),
    ],
)
def test_conversions_keep_the_parameters(convert, dtype):
    net = Net()
    net.register_buffer("count", mg.tensor(3))
    net(mg.ones(1, 2)).sum().backward()
    parameters = list(net.parameters())
    assert convert(net) is net
    assert all(a is b for a, b in zip(parameters, net.parameters(), strict=True))
    assert {p.dtype for p in parameters} == {p.grad.dtype for p in parameters} == {net.mean.dtype} == {dtype}
    assert net.count.dtype == mg.int64
    net.zero_grad()
    net(mg.ones(1, 2, dtype=dtype)).sum().backward()
    assert net.fc.weight.grad.dtype == dtype


def test_conversion_errors():
    with pytest.raises(TypeError, match=r"only accepts floating point dtypes, but got desired dtype=minigrad.int64"):
        Net().to(mg.int64)
    with pytest.raises(RuntimeError, match="not available"):
        Net().to("cuda")


# --- hooks ------------------------------------------------------------------------------------------------------------


def test_forward_hooks_in_order():
    layer, seen = nn.Identity(), []
    layer.register_forward_pre_hook(lambda m, args: (args[0] + 1,))
    layer.register_forward_pre_hook(lambda m, args: args[0] * 10)
    layer.register_forward_hook(lambda m, args, output: seen.append((args, output)))
    layer.register_forward_hook(lambda m, args, output: output + 3)
    first = layer.register_forward_hook(lambda m, args, output: output * 100, prepend=True)
    assert layer(1) == 2003
    assert seen == [((20,), 2000)]
    first.remove()
    first.remove()
    assert layer(1) == 23


def test_hooks_with_keywords():
    class Add(nn.Module):
        def forward(self, a, b=0):
            return a + b

    layer = Add()
    before = layer.register_forward_pre_hook(lambda m, args, kwargs: (args, {"b": kwargs["b"] + 1}), with_kwargs=True)
    after = layer.register_forward_hook(lambda m, args, kwargs, output: (output, kwargs), with_kwargs=True)
    assert layer(1, b=2) == (4, {"b": 3})
    with after:
        pass
    before.remove()
    assert layer(1, b=2) == 3
    layer.register_forward_pre_hook(lambda m, args, kwargs: 3, with_kwargs=True)
    with pytest.raises(RuntimeError, match="forward pre-hook must return None or a tuple"):
        layer(1)


def test_the_same_hook_twice():
    layer, count = nn.Identity(), []

    def hook(module, args, output):
        count.append(1)

    first, _ = layer.register_forward_hook(hook), layer.register_forward_hook(hook)
    first.remove()
    first.remove()  # removes its own only
    layer(1)
    assert count == [1]


def test_always_call():
    class Fails(nn.Module):
        def forward(self, x):
            raise ValueError("forward failed")

    layer, seen = Fails(), []
    layer.register_forward_hook(lambda m, args, output: seen.append("never"))
    layer.register_forward_hook(lambda m, args, output: seen.append(output), always_call=True)
    with pytest.raises(ValueError, match="forward failed"):
        layer(1)
    assert seen == [None]
    layer.register_forward_hook(lambda m, args, output: 1 / 0, always_call=True)
    with pytest.warns(UserWarning, match="division by zero"), pytest.raises(ValueError, match="forward failed"):
        layer(1)


def test_hooks_of_a_submodule_are_called():
    net, seen = Net(), []
    net.fc.register_forward_hook(lambda m, args, output: seen.append(output.shape))
    net(mg.ones(5, 2))
    copy.deepcopy(net)(mg.ones(4, 2))
    assert seen == [(5, 3), (4, 3)]


# --- printing ---------------------------------------------------------------------------------------------------------


def test_repr():
    assert repr(nn.Module()) == "Module()"
    assert repr(Net()) == (
        "Net(\n"
        "  (fc): Linear(in_features=2, out_features=3, bias=True)\n"
        "  (body): Sequential(\n"
        "    (0): Linear(in_features=3, out_features=3, bias=True)\n"
        "    (1): ReLU()\n"
        "  )\n"
        "  (empty): None\n"
        ")"
    )

    class Named(nn.Module):
        def __init__(self):
            super().__init__()
            self.act = nn.ReLU()

        def extra_repr(self):
            return "a=1\nb=2"

    assert repr(Named()) == "Named(\n  a=1\n  b=2\n  (act): ReLU()\n)"
