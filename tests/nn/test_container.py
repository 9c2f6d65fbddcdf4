"""Sequential, ModuleList, ModuleDict, ParameterList, ParameterDict: they behave as lists and dicts do."""

import copy
from collections import OrderedDict
from itertools import product

import pytest

import minigrad as mg
from minigrad import nn


class Add(nn.Module):
    """A module that can be told apart: it adds ``n``."""

    def __init__(self, n):
        super().__init__()
        self.n = n

    def forward(self, x):
        return x * 10 + self.n

    def extra_repr(self):
        return str(self.n)


def numbers(modules):
    return [m.n for m in modules]


def adds(*values):
    return [Add(n) for n in values]


# --- what Sequential and ModuleList share -----------------------------------------------------------------------------

LISTS = {"Sequential": lambda *n: nn.Sequential(*adds(*n)), "ModuleList": lambda *n: nn.ModuleList(adds(*n))}


def edited(container, edit):
    result = edit(container)
    return numbers(container), result


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (lambda c: c.append(Add(9)), [0, 1, 2, 9]),
        (lambda c: c.extend(adds(8, 9)), [0, 1, 2, 8, 9]),
        (lambda c: c.extend(c), [0, 1, 2, 0, 1, 2]),
        (lambda c: c.insert(0, Add(9)), [9, 0, 1, 2]),
        (lambda c: c.insert(3, Add(9)), [0, 1, 2, 9]),
        (lambda c: c.insert(-1, Add(9)), [0, 1, 9, 2]),
        (lambda c: c.pop(1), [0, 2]),
        (lambda c: c.pop(-1), [0, 1]),
        (lambda c: c.__delitem__(0), [1, 2]),
        (lambda c: c.__delitem__(-3), [1, 2]),
        (lambda c: c.__delitem__(slice(1, None)), [0]),
        (lambda c: c.__delitem__(slice(None, None, 2)), [1]),
        (lambda c: c.__setitem__(1, Add(9)), [0, 9, 2]),
        (lambda c: c.__setitem__(-1, Add(9)), [0, 1, 9]),
    ],
)
def test_edits(make, edit, expected):
    container = make(0, 1, 2)
    edit(container)
    assert numbers(container) == expected and len(container) == len(expected)
    assert list(container._modules) == [str(i) for i in range(len(expected))]


@pytest.mark.parametrize("make", LISTS.values(), ids=LISTS)
def test_access(make):
    c = make(0, 1, 2, 3)
    assert c[0].n == 0 and c[-1].n == 3 and getattr(c, "2").n == 2
    assert type(c[1:3]) is type(c) and numbers(c[1:3]) == [1, 2] and numbers(c[::-1]) == [3, 2, 1, 0]
    assert c[1:3][0] is c[1]
    for index in (4, -5):
        with pytest.raises(IndexError, match=f"index {index} is out of range"):
            c[index]
        with pytest.raises(IndexError):
            c[index] = Add(0)
        with pytest.raises(IndexError):
            del c[index]
    with pytest.raises(IndexError, match="Index out of range: 7"):
        c.insert(7, Add(0))
    with pytest.raises(TypeError):
        c.append(3)
    with pytest.raises(TypeError):
        c["0"]
    c[0] = None
    assert next(iter(c)) is None


# --- Sequential -------------------------------------------------------------------------------------------------------


def test_sequential_chains():
    assert nn.Sequential(*adds(1, 2, 3))(0) == 123
    assert nn.Sequential()(7) == 7


def test_sequential_of_names():
    s = nn.Sequential(OrderedDict(first=Add(1), second=Add(2)))
    assert s(0) == 12 and s.first is s[0] and list(s._modules) == ["first", "second"]
    assert list(s[1:]._modules) == ["second"]
    s.append(Add(3))
    assert list(s._modules) == ["first", "second", "2"] and s(0) == 123


def test_sequential_arithmetic():
    s, t = nn.Sequential(*adds(1, 2)), nn.Sequential(*adds(3))
    assert (s + t)(0) == 123 and len(s) == 2
    assert (s * 2)(0) == (2 * s)(0) == 1212 and (s * 2)[0] is (s * 2)[2]
    s += t
    assert s(0) == 123
    s *= 2
    assert s(0) == 123123
    for wrong, error in ((0, ValueError), (-1, ValueError), (1.5, TypeError)):
        with pytest.raises(error):
            s * wrong
    with pytest.raises(ValueError, match="supports only objects of Sequential class"):
        s + [Add(1)]


def test_sequential_hooks_and_subclasses():
    s, seen = nn.Sequential(*adds(1, 2)), []
    s[0].register_forward_hook(lambda m, args, output: seen.append(output))
    assert s(0) == 12 and seen == [1]

    class Residual(nn.Sequential):
        def forward(self, x):
            return x + super().forward(x)

    assert Residual(*adds(1))(5) == 5 + 51
    assert type(Residual(*adds(1, 2))[:1]) is Residual


def test_sequential_computes_what_its_modules_do():
    """Linear and ReLU are not called one by one where nobody could tell; where somebody can, they are."""
    seen = []

    class Scaled(nn.Linear):
        def forward(self, x):
            return 2 * super().forward(x)

    class Leaky(nn.ReLU):
        def forward(self, x):
            return x.clamp(min=-1)

    def hooked(module):
        module.register_forward_hook(lambda m, args, y: seen.append(m) or y + 1)
        return module

    def replaced(module):
        module.forward = lambda x: x * 3
        return module

    cases = [nn.Linear(4, 4), nn.Linear(4, 4, bias=False), Scaled(4, 4), hooked(nn.Linear(4, 4)), nn.ReLU(),
             nn.ReLU(inplace=True), Leaky(), hooked(nn.ReLU()), replaced(nn.Linear(4, 4)), replaced(nn.ReLU()),
             nn.Identity()]  # fmt: skip
    for a, b in product(cases, repeat=2):
        modules, x = (nn.Linear(3, 4), a, b, nn.ReLU()), mg.randn(5, 3)
        want = x
        for module in modules:
            want = module(want)
        calls, s = len(seen), nn.Sequential(*modules)
        seen.clear()
        assert mg.equal(s(x), want)
        with mg.no_grad():
            assert mg.equal(s(x), want), (a, b)
        assert len(seen) == 2 * calls
        seen.clear()


def test_sequential_sees_what_changes(monkeypatch):
    s, x = nn.Sequential(nn.Linear(3, 4), nn.ReLU()), mg.randn(5, 3)
    with mg.no_grad():
        for wrong, error in ((mg.randn(5, 2), RuntimeError), (x.numpy(), TypeError), (None, TypeError)):
            with pytest.raises(error):
                s(wrong)
        plain = s(x)
        s[1] = nn.Identity()
        assert mg.equal(s(x).relu(), plain) and not mg.equal(s(x), plain)
        del s[0].bias
        with pytest.raises(AttributeError):
            s(x)
        s[0].bias = 3.0
        with pytest.raises(TypeError):
            s(x)
        s[0].bias = mg.zeros(4)
        assert mg.equal(s(x), x @ s[0].weight.t())
        monkeypatch.setattr(nn.Linear, "forward", lambda self, x: x * 2)
        assert mg.equal(s(x), x * 2)
        s[0] = nn.ReLU()
        monkeypatch.setattr(nn.ReLU, "forward", lambda self, x: x * 5)
        assert mg.equal(s(x), x * 5)


def test_sequential_of_something_else():
    with pytest.raises(TypeError, match="function is not a Module subclass"):
        nn.Sequential(lambda x: x)


# --- ModuleList -------------------------------------------------------------------------------------------------------


def test_module_list():
    c = nn.ModuleList(adds(1, 2))
    assert numbers(c + adds(3)) == [1, 2, 3] and type(c + adds(3)) is nn.ModuleList
    c += adds(4)
    assert numbers(c) == [1, 2, 4]
    with pytest.raises(TypeError, match="should be called with an iterable, but got int"):
        c.extend(3)
    with pytest.raises(NotImplementedError):
        c(1)


def test_module_list_repr_counts_equal_neighbours():
    assert repr(nn.ModuleList()) == "ModuleList()"
    assert repr(nn.ModuleList([*adds(1, 2, 2, 2), nn.Sequential(Add(1))])) == (
        "ModuleList(\n  (0): Add(1)\n  (1-3): 3 x Add(2)\n  (4): Sequential(\n    (0): Add(1)\n  )\n)"
    )


# --- ModuleDict -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "modules",
    [
        lambda a, b: {"a": a, "b": b},
        lambda a, b: [("a", a), ["b", b]],
        lambda a, b: nn.ModuleDict({"a": a, "b": b}),
        lambda a, b: OrderedDict(a=a, b=b),
    ],
)
def test_module_dict(modules):
    a, b = adds(1, 2)
    d = nn.ModuleDict(modules(a, b))
    assert (
        list(d) == list(d.keys()) == ["a", "b"] and list(d.values()) == [a, b] and dict(d.items()) == {"a": a, "b": b}
    )
    assert d["a"] is a and "b" in d and "c" not in d and len(d) == 2
    d["c"] = Add(3)
    assert d.pop("a") is a and list(d) == ["b", "c"]
    del d["b"]
    assert [n for n, _ in d.named_children()] == ["c"]
    for act in (lambda: d["b"], lambda: d.pop("b"), lambda: d.__delitem__("b")):
        with pytest.raises(KeyError):
            act()
    d.clear()
    assert len(d) == 0


@pytest.mark.parametrize(
    ("modules", "error", "message"),
    [
        (3, TypeError, "should be called with an iterable of key/value pairs, but got int"),
        ([3], TypeError, "update sequence element #0 should be Iterable; is int"),
        ([("a", nn.ReLU(), 1)], ValueError, "update sequence element #0 has length 3; 2 is required"),
        ({"keys": nn.ReLU()}, KeyError, "attribute 'keys' already exists"),
        ({3: nn.ReLU()}, TypeError, "module name should be a string. Got int"),
    ],
)
def test_module_dict_errors(modules, error, message):
    with pytest.raises(error, match=message):
        nn.ModuleDict(modules)


# --- parameters -------------------------------------------------------------------------------------------------------


def test_parameter_list():
    p = nn.Parameter(mg.ones(1))
    values = nn.ParameterList([p, mg.zeros(2), 3])
    assert values[0] is p and isinstance(values[1], nn.Parameter) and values[-1] == 3 and len(values) == 3
    assert [n for n, _ in values.named_parameters()] == ["0", "1"]
    values += [mg.zeros(4)]
    assert list(values.state_dict()) == ["0", "1", "3"]
    assert [v.shape for v in values[::3]] == [(1,), (4,)] and type(values[:1]) is nn.ParameterList
    values[1] = mg.zeros(5)
    assert values[1].shape == (5,)
    assert repr(nn.ParameterList([mg.zeros(2, 3), "x"])) == (
        "ParameterList(\n    (0): Parameter containing: [minigrad.float32 of size 2x3]\n    (1): Object of type: str\n)"
    )
    with pytest.raises(IndexError, match="index 9 is out of range"):
        values[9]
    with pytest.raises(TypeError, match="should be called with an iterable, but got Tensor"):
        values.extend(mg.zeros(2))
    with pytest.raises(RuntimeError, match="should not be called"):
        values(1)
    assert len(copy.deepcopy(values)) == 4


def test_parameter_dict():
    p = nn.Parameter(mg.ones(1))
    d = nn.ParameterDict({"a": p, "b": mg.zeros(2)})
    assert d["a"] is p and isinstance(d["b"], nn.Parameter) and list(d) == ["a", "b"] and "a" in d
    assert [n for n, _ in d.named_parameters()] == ["a", "b"]
    assert list(reversed(d)) == ["b", "a"] and d.get("z") is None and d.get("a") is p
    assert d.setdefault("c", mg.zeros(3)).shape == (3,) and d.setdefault("a") is p
    assert d.popitem()[0] == "c" and d.pop("b").shape == (2,) and list(d.keys()) == ["a"]
    d |= {"e": mg.zeros(1)}
    assert list((d | {"f": 1}).keys()) == ["a", "e", "f"] and [k for k, _ in d.copy().items()] == ["a", "e"]
    assert list(d.fromkeys(["x", "y"], 1).values()) == [1, 1]
    del d["a"]
    assert [n for n, _ in d.named_parameters()] == ["e"]
    d.clear()
    assert len(d) == 0 and repr(d) == "ParameterDict()"
    for act in (lambda: d["a"], lambda: d.pop("a"), lambda: d.popitem(), lambda: d.__delitem__("a")):
        with pytest.raises(KeyError):
            act()
    for key, error in ((3, TypeError), ("keys", KeyError)):
        with pytest.raises(error):
            d[key] = mg.zeros(1)
    with pytest.raises(TypeError, match="iterable of key/value pairs"):
        d.update(3)
    with pytest.raises(RuntimeError, match="should not be called"):
        d()
