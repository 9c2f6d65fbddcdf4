"""Where tensors are made: ``with device(...)``, ``set_default_device``; more of it in tests/cuda, with a GPU."""

import threading

import pytest

import minigrad as mg
from minigrad.device import defaults


def test_contexts_end():
    cpu = mg.device("cpu")
    before = defaults.count
    with cpu as entered, cpu:
        assert entered is cpu and mg.get_default_device() == cpu and defaults.count == before + 2
        assert (
            mg.zeros(2).is_cpu
            and mg.nn.Linear(2, 1).weight.is_cpu
            and mg.rand(2).is_cpu
            and mg.tensor(mg.ones(2)).is_cpu
        )
    with pytest.raises(ZeroDivisionError), cpu:
        raise ZeroDivisionError
    assert defaults.count == before


def test_a_default_device_is_one_threads():
    before, seen = defaults.count, []

    def work():
        mg.set_default_device("cpu")
        mg.set_default_device("cpu")
        seen.append(defaults.count)
        mg.set_default_device(None)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before + 1] and defaults.count == before


def test_a_default_device_ends_with_its_thread():
    def work():
        mg.device("cpu").__enter__()
        mg.set_default_device("cpu")
        seen.append(defaults.count)

    before, seen = defaults.count, []
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before + 2] and defaults.count == before


@pytest.mark.skipif(mg.cuda.is_available(), reason="what scripts call where there is no GPU")
def test_without_a_gpu():
    generator = mg.manual_seed(5)
    assert mg.cuda.manual_seed(1) is None and mg.cuda.manual_seed_all(1) is None and mg.cuda.seed_all() is None
    assert generator.initial_seed() == 5
    assert mg.cuda.device_count() == 0 and not mg.cuda.is_initialized() and mg.cuda.memory_reserved() == 0
    assert mg.cuda.empty_cache() is None and mg.cuda.set_device(-1) is None and not mg.cuda.is_bf16_supported()
    for call in (mg.cuda.current_device, mg.cuda.synchronize, mg.cuda.get_device_name, mg.cuda.initial_seed):
        with pytest.raises(RuntimeError, match="not available"):
            call()
    with pytest.raises(ValueError, match="Expected a cuda device"):
        mg.cuda.set_device("cpu")


def test_what_is_not_there_is_not_entered():
    with pytest.raises(RuntimeError, match="device string"):
        mg.set_default_device("gpu")
    with pytest.raises(TypeError):
        mg.device("cpu")(lambda: None)
    if not mg.cuda.is_available():
        with pytest.raises(RuntimeError, match="not available"):
            mg.set_default_device("cuda")
    assert mg.get_default_device() == mg.device("cpu")
