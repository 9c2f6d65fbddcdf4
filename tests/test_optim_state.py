"""The state of optimizers: resuming, saving, loading, copies, and what does not fit."""

import copy

import numpy as np
import pytest

import minigrad as mg

from .optimizers import DTYPES, every, network, parameter, train


@every
@pytest.mark.parametrize("dtype", DTYPES)
def test_resume_has_the_same_bits(name, options, dtype, tmp_path):
    whole = network(0, dtype)
    optimizer = getattr(mg.optim, name)(whole.parameters(), **options)
    train(whole, optimizer, 0, 20)

    model = network(0, dtype)
    optimizer = getattr(mg.optim, name)(model.parameters(), **options)
    train(model, optimizer, 0, 10)
    mg.save({"model": model.state_dict(), "optimizer": optimizer.state_dict()}, tmp_path / "checkpoint")
    train(model, optimizer, 10, 15)  # what was saved does not notice

    model = network(1, dtype)
    optimizer = getattr(mg.optim, name)(model.parameters(), lr=77)
    checkpoint = mg.load(tmp_path / "checkpoint")
    model.load_state_dict(checkpoint["model"])
    optimizer.load_state_dict(checkpoint["optimizer"])
    train(model, optimizer, 10, 20)
    for a, b in zip(model.parameters(), whole.parameters(), strict=True):
        assert mg.equal(a, b)


@every
def test_state_dict(name, options):
    params = [parameter(np.ones(n)) for n in (2, 3, 4)]
    optimizer = getattr(mg.optim, name)(
        [{"params": params[:1]}, {"params": params[1:], "lr": 0.5, "note": [1]}], **options
    )
    for p in (params[0], params[2]):
        p.grad = mg.ones(*p.shape)
    optimizer.step()
    saved = optimizer.state_dict()
    assert list(saved) == ["state", "param_groups"]
    assert [g["params"] for g in saved["param_groups"]] == [[0], [1, 2]]
    assert [g["lr"] for g in saved["param_groups"]] == [0.1, 0.5]
    has_state = name != "SGD" or "momentum" in options
    assert list(saved["state"]) == ([0, 1, 2] if name == "Adagrad" else [0, 2] if has_state else [])
    for index, state in saved["state"].items():
        for key, value in state.items():
            mine = optimizer.state[params[index]][key]
            assert value is not mine and mg.equal(value, mine) and value.data_ptr() != mine.data_ptr(), key
    saved["param_groups"][1]["note"].append(2)
    assert optimizer.param_groups[1]["note"] == [1]

    other = [parameter(np.ones(n)) for n in (2, 3, 4)]
    again = getattr(mg.optim, name)([{"params": other[:1]}, {"params": other[1:]}], lr=9.0)
    again.load_state_dict(saved)
    assert again.param_groups[1]["note"] == [1, 2] and again.param_groups[0]["lr"] == 0.1
    for p, q in zip(params, other):
        q.data.copy_(p.data)
        p.grad, q.grad = mg.ones(*p.shape), mg.ones(*p.shape)
    optimizer.step()
    again.step()
    for p, q in zip(params, other):
        assert mg.equal(p, q)
    for index in (0, 2) if has_state else ():  # loaded as a copy
        mine = again.state[other[index]]
        assert all(value is not mine[key] for key, value in saved["state"][index].items())
        assert any(not mg.equal(value, mine[key]) for key, value in saved["state"][index].items())


def test_state_is_loaded_in_the_dtype_of_the_parameter():
    p, q = parameter([1.0, 2.0], "float64"), parameter([1.0, 2.0])
    optimizer = mg.optim.Adam([p])
    p.grad = mg.ones(2, dtype=mg.float64)
    optimizer.step()
    other = mg.optim.Adam([q])
    other.load_state_dict(optimizer.state_dict())
    assert other.state[q]["exp_avg"].dtype is mg.float32 and other.state[q]["step"].dtype is mg.float32
    saved = optimizer.state_dict()
    saved["state"][0]["step"] = 1  # old files of PyTorch
    other.load_state_dict(saved)
    q.grad = mg.ones(2)
    other.step()
    assert other.state[q]["step"].item() == 2


def test_load_state_dict_refuses_what_does_not_fit():
    p, q = parameter([1.0, 2.0]), parameter([1.0])
    optimizer = mg.optim.Adam([p, q], lr=0.25)
    p.grad = mg.ones(2)
    optimizer.step()
    good = optimizer.state_dict()

    def refused(message, change):
        bad = copy.deepcopy(good)
        change(bad)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(bad)
        assert optimizer.param_groups[0]["lr"] == 0.25 and mg.equal(
            optimizer.state[p]["exp_avg"], good["state"][0]["exp_avg"]
        )

    refused("different number of parameter groups: 2 instead of 1", lambda d: d["param_groups"].append({"params": []}))
    refused("group 0 has 1 parameters instead of 2", lambda d: d["param_groups"][0].update(params=[0], lr=3))
    refused(r"'exp_avg' of parameter 0 has shape \(3,\), not \(2,\)", lambda d: (
        d["state"][0].update(exp_avg=mg.ones(3)), d["param_groups"][0].update(lr=3)))  # fmt: skip
    refused("state for parameter 5, which no group lists", lambda d: d["state"].update({5: {}}))
    with pytest.raises(KeyError):
        optimizer.load_state_dict({"state": {}})
    optimizer.load_state_dict(good)


def test_load_state_dict_checks_names_of_states():
    def saved(name, **options):
        p = parameter([1.0, 2.0])
        optimizer = getattr(mg.optim, name)([p], **options)
        p.grad = mg.ones(2)
        optimizer.step()
        return optimizer.state_dict()

    p = parameter([1.0, 2.0])
    for name, other, options in (
        ("Adam", "SGD", {"momentum": 0.9}), ("Adam", "Rprop", {}), ("NAdam", "Adam", {}), ("Adagrad", "ASGD", {}),
        ("Adadelta", "RMSprop", {"alpha": 0.5}),
    ):  # fmt: skip
        optimizer = getattr(mg.optim, name)([p], lr=0.25)
        with pytest.raises(ValueError, match=f"but {name} needs .* was it saved by another optimizer"):
            optimizer.load_state_dict(saved(other, **options))
        assert optimizer.param_groups[0]["lr"] == 0.25 and "alpha" not in optimizer.param_groups[0]
    for key, value, message in (
        ("step", mg.ones(2), r"'step' of parameter 0 has shape \(2,\), not \(\)"),
        ("mu_product", mg.ones(2), "'mu_product'"), ("exp_avg", mg.tensor(1.0), r"'exp_avg' .* has shape \(\)"),
    ):  # fmt: skip
        state = saved("NAdam")
        state["state"][0][key] = value
        optimizer = mg.optim.NAdam([p], lr=0.25)
        with pytest.raises(ValueError, match=message):
            optimizer.load_state_dict(state)
        assert not optimizer.state and optimizer.param_groups[0]["lr"] == 0.25
    state = saved("NAdam")
    state["state"][0].update(step=3, mu_product=mg.tensor([0.5], dtype=mg.float64))
    optimizer.load_state_dict(state)
    loaded = optimizer.state[p]
    assert all(loaded[k].dtype is mg.float32 and loaded[k].shape == () for k in ("step", "mu_product"))
    names = mg.optim.NAdam([("w", p)]).state_dict()
    with pytest.raises(ValueError, match=r"group 0: parameter names \['w'\] instead of \['v'\]"):
        mg.optim.NAdam([("v", p)]).load_state_dict(names)


def test_load_state_dict_is_all_or_nothing():
    """Also when a value cannot be copied, in the last group."""

    class Stubborn:
        def __deepcopy__(self, memo):
            raise TypeError("no copies")

    p, q = parameter([1.0]), parameter([2.0])
    optimizer = mg.optim.SGD([{"params": p}, {"params": q}], lr=0.25, momentum=0.9)
    bad = optimizer.state_dict()
    bad["param_groups"][0]["lr"], bad["param_groups"][1]["note"] = 7.0, Stubborn()
    with pytest.raises(TypeError, match="no copies"):
        optimizer.load_state_dict(bad)
    assert optimizer.param_groups[0]["lr"] == 0.25


def test_states_of_no_parameter():
    """What an optimizer of one's own keeps under other keys is saved and loaded too, copied."""
    optimizer = mg.optim.SGD([parameter([1.0])])
    optimizer.state["all"] = {"seen": [mg.ones(1)]}
    saved = optimizer.state_dict()
    optimizer.state["all"]["seen"][0].zero_()
    other = mg.optim.SGD([parameter([1.0])])
    other.load_state_dict(saved)
    assert saved["state"]["all"]["seen"][0].item() == 1 and other.state["all"]["seen"][0].item() == 1


@every
def test_a_step_is_taken_by_all_or_by_none(name, options):
    """A gradient that does not fit any more, of the other dtype and last: nothing is written, no state is made."""
    a, b, c = parameter([1.0, 2.0]), parameter([3.0], "float64"), parameter([4.0], "float64")
    optimizer = getattr(mg.optim, name)([a, b, c], **options)
    fresh = {k: dict(v) for k, v in optimizer.state.items()}

    def values():
        return [x.tolist() for x in (a, b, c)], [
            {k: v.tolist() for k, v in optimizer.state.get(x, {}).items()} for x in (a, b, c)
        ]

    for round in range(2):
        for x in (a, b, c):
            x.grad = mg.ones(*x.shape, dtype=x.dtype)
        for break_it in (
            lambda: setattr(c, "data", mg.full((1,), 4.0)),  # its gradient is still float64
            lambda: setattr(c, "data", mg.full((1, 1), 4.0, dtype=mg.float64)),
        ):
            before, kept = values(), c.data
            break_it()
            with pytest.raises(RuntimeError, match="gradient of shape"):
                optimizer.step()
            c.data = kept
            assert values() == before
        group = optimizer.param_groups[0]
        kept, group["lr"] = group["lr"], "text"
        before = values()
        with pytest.raises((TypeError, ValueError)):
            optimizer.step()
        group["lr"] = kept
        assert values() == before
        if round == 0:
            assert {k: list(v) for k, v in optimizer.state.items()} == {k: list(v) for k, v in fresh.items()}
        optimizer.step()
        assert all(x != y for x, y in zip(values()[0], before[0]))


def test_user_replaces_state():
    p = parameter([1.0, 1.0])
    optimizer = mg.optim.Adam([p], lr=0.1)
    p.grad = mg.ones(2)
    optimizer.step()
    optimizer.state[p]["exp_avg"] = mg.zeros(2)
    optimizer.state[p]["exp_avg_sq"] = mg.ones(2)
    before = p.detach().clone()
    optimizer.step()
    assert mg.equal(optimizer.state[p]["exp_avg"], mg.full((2,), 0.1)) and not mg.equal(p, before)
    optimizer.state.clear()
    optimizer.step()
    assert optimizer.state[p]["step"].item() == 1
    frozen = np.ones(2, "float32")
    frozen.flags.writeable = False
    for key, value, error in (
        ("exp_avg", mg.zeros(3), RuntimeError),
        ("exp_avg", mg.zeros(1, 2), RuntimeError),
        ("exp_avg", mg.zeros(2, dtype=mg.float64), RuntimeError),
        ("exp_avg", None, TypeError),
        ("exp_avg", [0.0, 0.0], TypeError),
        ("exp_avg", mg.from_numpy(frozen), ValueError),
        ("step", mg.tensor(1), RuntimeError),
        ("step", mg.ones(2), RuntimeError),
        ("step", 1.0, TypeError),
    ):
        kept, values = optimizer.state[p][key], p.detach().clone()
        optimizer.state[p][key] = value
        with pytest.raises(error):
            optimizer.step()
        optimizer.state[p][key] = kept
        assert mg.equal(p, values) and optimizer.state[p]["step"].item() == 1
    del optimizer.state[p]["exp_avg_sq"]
    with pytest.raises(KeyError, match="lacks 'exp_avg_sq'"):
        optimizer.step()
    optimizer.state[p] = []
    with pytest.raises(TypeError, match="must be a dict, got list"):
        optimizer.step()


def test_changed_parameters_are_noticed():
    """A gradient or state that does not fit the parameter any more is refused before anything is written."""
    p, q = parameter([1.0, 2.0]), parameter([1.0])
    optimizer = mg.optim.Adam([p, q])
    p.grad, q.grad = mg.ones(2), mg.ones(1)
    optimizer.step()
    values = p.tolist()
    q.data = mg.ones(1, dtype=mg.float64)
    with pytest.raises(
        RuntimeError, match="dtype minigrad.float32 for a parameter of shape .* and dtype minigrad.float64"
    ):
        mg.optim.SGD([q]).step()
    q.data = mg.ones(5)
    with pytest.raises(RuntimeError, match=r"gradient of shape \(1,\) .* for a parameter of shape \(5,\)"):
        optimizer.step()
    assert p.tolist() == values
    q.grad = mg.ones(5)
    with pytest.raises(RuntimeError, match=r"state 'exp_avg' has shape \(1,\)"):
        optimizer.step()
    assert p.tolist() == values
    counts = mg.ones(2, dtype=mg.int64)
    counts.grad = mg.ones(2, dtype=mg.int64)
    with pytest.raises(RuntimeError, match="minigrad.int64"):
        mg.optim.SGD([counts]).step()


def test_read_only_parameters():
    frozen = np.ones(3, "float32")
    frozen.flags.writeable = False
    p, q = parameter([1.0]), mg.from_numpy(frozen).requires_grad_(True)
    optimizer = mg.optim.SGD([p, q], lr=0.1)
    p.grad, q.grad = mg.ones(1), mg.ones(3)
    with pytest.raises(ValueError, match="read-only"):
        optimizer.step()
    assert p.item() == 1 and frozen.tolist() == [1, 1, 1]


def test_rprop_takes_two_step_sizes():
    for sizes in ((0.1,), (0.1, 0.2, 0.3)):
        with pytest.raises(ValueError, match="two numbers are needed"):
            mg.optim.Rprop([mg.ones(2, requires_grad=True)], step_sizes=sizes)
        p = parameter([1.0, 2.0])
        optimizer = mg.optim.Rprop([p])
        optimizer.param_groups[0]["step_sizes"], p.grad = sizes, mg.ones(2)
        with pytest.raises(ValueError, match="values to unpack"):
            optimizer.step()
        assert p.tolist() == [1, 2]


@every
def test_one_number_that_is_many_elements(name, options):
    p, q = parameter(np.ones((2, 2))), mg.ones(1).expand(2, 2).detach().requires_grad_(True)
    optimizer = getattr(mg.optim, name)([p, q], **options)
    p.grad, q.grad = mg.ones(2, 2), mg.tensor([[1.0, 2.0], [3.0, 4.0]])
    with pytest.raises(RuntimeError, match="more than one element .* single memory location"):
        optimizer.step(lambda: mg.tensor(0.0)) if name == "LBFGS" else optimizer.step()
    assert (p == 1).all() and (q == 1).all()


@every
def test_copies_and_pickles(name, options):
    model = network(0)
    optimizer = getattr(mg.optim, name)(model.parameters(), **options)
    train(model, optimizer, 0, 2)
    pair = copy.deepcopy((model, optimizer))
    assert pair[1].param_groups[0]["params"][0] is pair[0][0].weight
    train(*pair, 2, 4)
    train(model, optimizer, 2, 4)
    for a, b in zip(model.parameters(), pair[0].parameters(), strict=True):
        assert mg.equal(a, b)
