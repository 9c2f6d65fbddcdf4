"""no_grad, enable_grad, set_grad_enabled, inference_mode: contexts, decorators, threads."""

import threading

import pytest

import minigrad as mg

from .leaves import leaf

# --- grad mode --------------------------------------------------------------------------------------------------------


def test_no_grad_and_enable_grad():
    x = leaf(1.0)
    with mg.no_grad():
        assert not mg.is_grad_enabled() and not (x * 2).requires_grad
        with mg.enable_grad():
            assert (x * 2).requires_grad
        with mg.no_grad():
            pass
        assert not mg.is_grad_enabled()
    assert mg.is_grad_enabled()


def test_grad_mode_is_restored_after_an_exception():
    with pytest.raises(ZeroDivisionError), mg.no_grad():
        raise ZeroDivisionError
    assert mg.is_grad_enabled()


def test_one_context_used_again_and_nested():
    mode = mg.no_grad()
    for _ in range(2):
        with mode, mode:
            assert not mg.is_grad_enabled()
        assert mg.is_grad_enabled()


@pytest.mark.parametrize("decorate", [mg.no_grad(), mg.no_grad, mg.inference_mode(), mg.inference_mode])
def test_no_grad_as_a_decorator(decorate):
    x = leaf(1.0)

    @decorate
    def f(a, *, b=2):
        """A docstring."""
        if b:
            f(a, b=b - 1)
        return (x * a).requires_grad, mg.is_grad_enabled()

    assert f(1.0, b=3) == (False, False) and mg.is_grad_enabled()
    assert f.__name__ == "f" and f.__wrapped__.__doc__ == "A docstring."

    class Model:
        @decorate
        def predict(self, a):
            return self, mg.is_grad_enabled(), a

    model = Model()
    assert model.predict(4) == (model, False, 4)

    @decorate
    def fail():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert mg.is_grad_enabled()


def test_no_grad_on_a_generator():
    @mg.no_grad()
    def numbers():
        got = yield mg.is_grad_enabled()
        assert not mg.is_grad_enabled()
        yield got
        return 7

    g = numbers()
    assert next(g) is False and mg.is_grad_enabled()
    assert g.send("x") == "x" and mg.is_grad_enabled()
    with pytest.raises(StopIteration) as stop:
        next(g)
    assert stop.value.value == 7 and mg.is_grad_enabled()


def test_set_grad_enabled():
    x = leaf(1.0)
    for mode in (False, True):
        with mg.set_grad_enabled(mode):
            assert (x * 2).requires_grad is mode
        assert mg.is_grad_enabled()
    mg.set_grad_enabled(False)
    try:
        assert not mg.is_grad_enabled()
    finally:
        mg.set_grad_enabled(True)
    assert mg.is_grad_enabled()

    @mg.set_grad_enabled(False)
    def f():
        return mg.is_grad_enabled()

    assert mg.is_grad_enabled() and f() is False and mg.is_grad_enabled()
    twice = mg.set_grad_enabled(True)
    with mg.no_grad():
        for _ in range(2):
            with twice:
                assert mg.is_grad_enabled()


def test_inference_mode():
    x = leaf(1.0)
    with mg.inference_mode():
        y = x * 2
        with mg.inference_mode(False):
            assert mg.is_grad_enabled()
    assert not y.requires_grad
    (y * x).backward()  # unlike in PyTorch, y is an ordinary tensor
    assert x.grad.item() == 2


def test_grad_mode_is_thread_local():
    seen = {}

    def other():
        seen["start"] = mg.is_grad_enabled()
        with mg.no_grad():
            ready.set()
            go.wait(10)
        seen["end"] = mg.is_grad_enabled()

    ready, go = threading.Event(), threading.Event()
    with mg.no_grad():
        t = threading.Thread(target=other)
        t.start()
        ready.wait(10)
    assert mg.is_grad_enabled()  # while the other thread is in no_grad
    go.set()
    t.join()
    assert seen == {"start": True, "end": True}


def test_a_decorated_function_in_two_threads():
    inside, leave = threading.Event(), threading.Event()

    @mg.no_grad
    def f(wait):
        if wait:
            inside.set()
            leave.wait(10)
        return mg.is_grad_enabled()

    after = []
    t = threading.Thread(target=lambda: (f(True), after.append(mg.is_grad_enabled())))
    t.start()
    inside.wait(10)
    with mg.no_grad():
        assert f(False) is False
        leave.set()
        t.join()
        assert not mg.is_grad_enabled()
    assert after == [True] and mg.is_grad_enabled()
