"""What a compiled function notices to have changed, and what it leaves to the eager run."""

import builtins
import collections
import contextvars
import functools
import io
import itertools
import math
import sys
import threading
import time
import types
import warnings
import weakref

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn
from minigrad.nn import functional as F

counter = {"calls": 0}
scale = 1.0


def reads_item(x):
    return x * (x.sum().item() + 1)


def branches(x):
    return x + 1 if x.sum() > 0 else x - 1


def reads_list(x):
    return x * x.tolist()[0]


def goes_through_numpy(x):
    return mg.tensor(np.exp(x.numpy()))


def prints(x):
    return x * len(repr(x))


def makes_a_tensor_of_an_array(x):
    return x + mg.from_numpy(np.ones(3, "f4"))


def counts(x):
    counter["calls"] += 1
    return x + 1


def calls_a_hook(x):
    w = mg.ones(3, requires_grad=True)
    w.register_hook(lambda g: g * 2)
    (w * x).sum().backward()
    return w.grad


class Double(mg.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x * 2

    @staticmethod
    def backward(ctx, dy):
        return dy * 2


REFUSED = {
    reads_item: "reads the value",
    branches: "reads the value",
    reads_list: "gets at the memory",
    goes_through_numpy: "gets at the memory",
    prints: "gets at the memory",
    makes_a_tensor_of_an_array: "makes a tensor of an array",
    counts: "changes",
    calls_a_hook: "calls a hook",
    Double.apply: "calls Double.apply",
    (lambda x: x.detach().requires_grad_() * 2): "returns a tensor with a history",
    (lambda x: np.ones(3)): "returns a ndarray",
}


def repeat(function, x):
    for _ in range(6):
        function(x)


@pytest.mark.parametrize("function", REFUSED)
def test_what_cannot_be_captured_runs_eagerly_after_one_warning(function):
    run, x = mg.compile(function), mg.tensor([1.0, 2.0, 3.0])
    with pytest.warns(UserWarning, match=f"runs eagerly: it {REFUSED[function]}") as caught:
        repeat(run, x)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    for value in (mg.tensor([-1.0, -2.0, -3.0]), mg.tensor([4.0, 5.0, 6.0])):
        expected, found = function(value), run(value)
        assert np.asarray(expected.detach() if isinstance(expected, mg.Tensor) else expected).tolist() == (
            np.asarray(found.detach() if isinstance(found, mg.Tensor) else found).tolist())  # fmt: skip
    strict = mg.compile(function, fullgraph=True)
    with pytest.raises(RuntimeError, match=REFUSED[function]):
        repeat(strict, x)


def test_the_warning_names_the_line():
    run = mg.compile(branches)
    with pytest.warns(UserWarning, match="branches runs eagerly") as caught:
        run(mg.ones(3)), run(mg.ones(3))
    assert caught[0].lineno == branches.__code__.co_firstlineno + 1


def test_what_differs_from_call_to_call_is_noticed():
    run = mg.compile(lambda x: x + time.perf_counter())
    with pytest.warns(UserWarning, match="a replay differs"):
        found = [run(mg.zeros(1, dtype=mg.float64)).item() for _ in range(10)]
    assert sorted(set(found)) == found


def scaled(x):
    return x * scale


def test_numbers_that_the_function_uses_are_guarded(monkeypatch):
    class Settings:
        rate = 2.0

    settings, offset = Settings(), 1.0
    settings.rate = 3.0

    def f(x, power=2):
        return (x * settings.rate + offset) ** power

    run, also = mg.compile(f), mg.compile(scaled)
    for i in range(12):
        if i == 4:
            settings.rate = 5.0
        if i == 8:
            offset = 7.0
        monkeypatch.setitem(globals(), "scale", float(i // 4))
        for power in (1.0, 2.0):
            assert run(mg.ones(1), power).item() == (settings.rate + offset) ** power
            assert run(mg.ones(1), power=power).item() == (settings.rate + offset) ** power
        assert also(mg.ones(1)).item() == i // 4
    assert run.cache_info().hits >= 16


def test_attributes_of_classes_slots_and_methods_are_guarded():
    class Settings:
        rate = 2.0

    class Slots:
        __slots__ = ("factor",)

    class Trainer:
        def __init__(self):
            self.calls, self.slots, self.generator = 0, Slots(), mg.Generator().manual_seed(0)

        def step(self, x):
            return self.twice(x) * Settings.rate + F.dropout(x, 0.5, generator=self.generator) * 0

        def twice(self, x):
            return x * self.slots.factor

        def loop(self):
            self.calls += 1

    trainer = Trainer()
    trainer.slots.factor = 2.0
    run = mg.compile(trainer.step)
    for i in range(15):
        if i == 5:
            Settings.rate = 3.0
        if i == 10:
            trainer.slots.factor = 4.0
        trainer.loop()
        assert run(mg.ones(1)).item() == Settings.rate * trainer.slots.factor
    assert run.cache_info().hits == 8


def test_getattr_of_the_users_is_not_called():
    class Settings:
        __slots__ = ("__late", "_values", "rate")

        def __init__(self, **values):
            self._values = values

        def __getattr__(self, name):
            return self._values[name]

        def late(self, x):
            return x * self.__late

    settings = Settings(factor=2.0, _Settings__late=3.0, rate=5.0)
    run = mg.compile(lambda x: settings.late(x) * settings.factor * settings.rate)
    for i in range(15):
        if i == 5:
            settings.rate = 7.0
        if i == 10:
            settings._Settings__late = 11.0
        assert run(mg.ones(1)).item() == 2.0 * (5.0 if i < 5 else 7.0) * (3.0 if i < 10 else 11.0)
    assert run.cache_info().hits == 8


def test_attributes_of_modules_are_guarded_however_they_are_reached():
    package, inner = types.ModuleType("of_mine"), types.ModuleType("of_mine.inner")
    package.inner, inner.rate = inner, 1.0
    holder, table = types.SimpleNamespace(settings=inner), {"settings": inner}

    for function in (
        lambda x: x * package.inner.rate,
        lambda x: x * inner.rate,
        lambda x: x * holder.settings.rate,
        lambda x: x * table["settings"].rate,
        lambda x: x * getattr(inner, "rate"),  # noqa: B009
        types.FunctionType((lambda x: x * of_mine.inner.rate).__code__, {"of_mine": package}),  # noqa: F821
    ):
        run = mg.compile(function)
        for i in range(12):
            inner.rate = float(i // 6)
            assert run(mg.ones(1)).item() == i // 6
        assert run.cache_info().hits == 7


def test_attributes_of_parameters_are_guarded():
    layer = nn.Linear(2, 2)
    layer.weight.scale, layer.bias.settings = 1.0, {"offset": 0.0}

    def f(x):
        return (layer(x) * layer.weight.scale + layer.bias.settings["offset"]).detach()

    run = mg.compile(f)
    for i in range(18):
        layer.weight.scale, layer.bias.settings["offset"] = 1.0 + (i >= 6), float(i >= 12)
        layer.weight.unused = i
        assert run(mg.ones(1, 2)).tolist() == f(mg.ones(1, 2)).tolist()
    assert run.cache_info().hits == 11


def test_signs_of_zero_nan_and_the_order_of_dicts_are_guarded():
    number, weights = [0.0], {"a": mg.ones(1), "b": mg.full((1,), 2.0)}
    run = mg.compile(lambda x: x / number[0])
    power = mg.compile(lambda x, n: x / n)
    for i, value in enumerate([0.0, -0.0, math.nan, float("nan"), 0.0, -0.0] * 4):
        number[0] = value
        expected = [math.copysign(math.inf, value)] if value == value else [math.nan]
        for found in (run(mg.ones(1)).tolist(), power(mg.ones(1), value).tolist()):
            assert str(found) == str(expected), i
    assert run.cache_info().hits >= 8 and power.cache_info().hits >= 8
    fold = mg.compile(lambda x: functools.reduce(lambda y, w: y * 2 + w, weights.values(), x))
    for i in range(12):
        if i % 4 == 0:
            weights["a"] = weights.pop("a")
        if i == 8:
            weights["b"] = weights.pop("b")
        wanted = 5.0 if list(weights) == ["b", "a"] else 4.0
        assert fold(mg.zeros(1)).item() == wanted, i
    assert fold.cache_info().hits >= 2


rate_of_the_module = 1.0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * globals()["rate_of_the_module"],
        lambda x: x * eval("rate_of_the_" + "module"),
        lambda x: [exec("y = rate_of_the_module"), x * rate_of_the_module][1],  # noqa: S102
        lambda x: x * len(locals()),
        lambda x: (lambda: x * globals()["rate_of_the_module"])(),
    ],
)
def test_functions_that_reach_what_no_guard_sees_run_eagerly(function, monkeypatch):
    run = mg.compile(function)
    with pytest.warns(UserWarning, match="calls (globals|eval|exec|locals).*effect compile cannot see"):
        run(mg.ones(1)), run(mg.ones(1))
    for rate in (2.0, 3.0):
        monkeypatch.setitem(globals(), "rate_of_the_module", rate)
        assert run(mg.ones(1)).item() == function(mg.ones(1)).item()


def test_names_of_blind_functions_that_are_methods_or_the_users_own_are_no_reason():
    model = nn.Dropout(0.5)

    def locals():
        return 2.0

    run = mg.compile(lambda x: model.eval()(x) * locals())
    with mg.no_grad():
        assert [run(mg.ones(1)).item() for _ in range(4)] == [2.0] * 4
    assert run.cache_info().hits == 1


class Weighted:
    """Python calls what code does not mention."""

    def __float__(self):
        return RATES["one"]

    def __radd__(self, other):
        return other + RATES["one"]


class Described:
    def __get__(self, owner, kind):
        return RATES["one"]


class Owner:
    rate = Described()


RATES = {"one": 1.0}
evaluate, seen, held, weighted, owner = eval, types.MappingProxyType(RATES), RATES.values(), Weighted(), Owner()
weak = weakref.ref(owner)
owner.kept = 1.0


@pytest.mark.parametrize(
    "function",
    [
        lambda x: x * evaluate("RATES['one']"),
        lambda x: x * builtins.eval("RATES['one']"),
        lambda x: x * seen["one"],
        lambda x: x * next(iter(held)),
        lambda x: x * weak().kept,
        lambda x: x * float(weighted),
        lambda x: x * (0.0 + weighted),
        lambda x: x * owner.rate,
    ],
)
def test_roundabout_ways_to_a_number(function, monkeypatch):
    run = mg.compile(function)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert [run(mg.ones(1)).item() for _ in range(5)] == [1.0] * 5
        monkeypatch.setitem(RATES, "one", 2.0)
        monkeypatch.setattr(owner, "kept", 2.0)
        assert [run(mg.ones(1)).item() for _ in range(3)] == [2.0] * 3


@pytest.mark.parametrize("kind", ["ContextVar", "local"])
def test_what_depends_on_a_context_or_a_thread_runs_eagerly(kind):
    if kind == "local":
        here = threading.local()
        here.rate = 1.0
        run, change = mg.compile(lambda x: x * here.rate), lambda: setattr(here, "rate", 5.0)
    else:
        rate = contextvars.ContextVar("rate", default=1.0)
        run, change = mg.compile(lambda x: x * rate.get()), lambda: rate.set(5.0)
    with pytest.warns(UserWarning, match=f"uses a _?{kind}"):
        assert [run(mg.ones(1)).item() for _ in range(4)] == [1.0] * 4
    change()
    assert run(mg.ones(1)).item() == 5


def test_what_no_guard_can_see_runs_eagerly(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "rates_of_mine.py").write_text("rate = 1.0")
    numbers, names, queue = np.ones(2), set(), collections.deque([1.0])
    holder = types.SimpleNamespace(numbers=numbers)

    def imports(x):
        import rates_of_mine

        return x * rates_of_mine.rate

    for function, change in (
        (lambda x: x * float(numbers[0]), lambda: numbers.fill(5)),
        (lambda x: x * float(holder.numbers[1]), lambda: numbers.fill(7)),
        (lambda x: x * (5.0 if "warm" in names else 1.0), lambda: names.add("warm")),
        (lambda x: x * queue[0], lambda: queue.appendleft(5.0)),
        (imports, lambda: setattr(sys.modules["rates_of_mine"], "rate", 5.0)),
    ):
        run = mg.compile(function)
        with pytest.warns(UserWarning, match="runs eagerly: it (uses a|imports) .*whose changes compile cannot see"):
            run(mg.ones(1)), run(mg.ones(1))
        run(mg.ones(1))
        change()
        assert run(mg.ones(1)).item() == function(mg.ones(1)).item() >= 5


@pytest.mark.parametrize(
    "make",
    [
        lambda values: functools.partial(next, (v for v in values)),
        lambda values: iter(values).__next__,
        lambda values: functools.partial(next, map(float, values)),
        lambda values: (lambda it: lambda: next(it))(itertools.cycle(values)),
        lambda values: (lambda file: lambda: file.readline())(io.StringIO("".join(f"{v}\n" for v in values))),
        lambda values: io.StringIO("".join(f"{v}\n" for v in values)).readline,
    ],
)
def test_iterators_and_files_run_eagerly(make):
    take = make([1.0] * 6 + [5.0] * 6)
    run = mg.compile(lambda x: x * float(take()))
    with pytest.warns(UserWarning, match="runs eagerly: it uses a .*whose changes compile cannot see"):
        assert [run(mg.ones(1)).item() for _ in range(12)] == [1.0] * 6 + [5.0] * 6


def test_bound_methods_of_dicts_and_lists_are_guarded():
    table, values = {"rate": 1.0}, [1.0]
    get, item = table.get, values.__getitem__
    run = mg.compile(lambda x: x * get("rate") * item(0))
    for i in range(18):
        table["rate"], values[0] = 1.0 + (i >= 6), 1.0 + (i >= 12)
        assert run(mg.ones(1)).item() == table["rate"] * values[0]
    assert run.cache_info().hits >= 10


def test_an_empty_batch_runs_eagerly_and_the_others_do_not():
    layer = nn.Linear(3, 2)
    run = mg.compile(lambda x: layer(x).detach().sum())
    for n in (4, 4, 0, 4, 4, 0, 4):
        x = mg.randn(n, 3)
        assert run(x).item() == layer(x).sum().item()
    assert run.cache_info().hits == 2


def test_grad_mode_training_mode_and_requires_grad_are_guarded():
    layer = nn.Linear(3, 2)
    run = mg.compile(lambda x: layer(x).detach())
    for mode in (True, False, True):
        with mg.set_grad_enabled(mode):
            for _ in range(3):
                assert run(mg.ones(2, 3)).tolist() == layer(mg.ones(2, 3)).tolist()
    assert run.cache_info().currsize == 2


# --- what changes about functions, learning rates and around steps ----------------------------------------------------


def test_code_defaults_and_attributes_of_functions_are_guarded():
    def rate(x, factor=2.0, *, offset=0.0):
        return x * factor + offset + rate.extra

    def twice(x, factor=2.0, *, offset=0.0):
        return 2 * (x * factor + offset + rate.extra)

    rate.extra = 0.0
    run = mg.compile(lambda x: rate(x))
    changes = {
        6: lambda: setattr(rate, "__defaults__", (5.0,)),
        12: lambda: rate.__kwdefaults__.update(offset=1.0),
        18: lambda: setattr(rate, "__kwdefaults__", {"offset": 3.0}),
        24: lambda: setattr(rate, "extra", 7.0),
        30: lambda: setattr(rate, "__code__", twice.__code__),
    }
    for i in range(36):
        changes.get(i, int)()
        assert run(mg.ones(1)).item() == rate(mg.ones(1)).item(), i
    assert run.cache_info().hits >= 20


def test_lists_in_defaults_are_guarded():
    def rate(x, factors=[2.0], *, offsets={"a": 0.0}):  # noqa: B006
        return x * factors[0] + offsets["a"]

    run = mg.compile(lambda x: rate(x))
    for i in range(18):
        if i == 6:
            rate.__defaults__[0][0] = 5.0
        if i == 12:
            rate.__kwdefaults__["offsets"]["a"] = 1.0
        assert run(mg.ones(1)).item() == (2.0 if i < 6 else 5.0) + (i >= 12)
    assert run.cache_info().hits >= 10
