"""The arguments of ``compile``: what PyTorch refuses is refused, what it accepts is accepted."""

import inspect

import pytest
import torch

import minigrad as mg

from .comparing import counts

pytestmark = pytest.mark.filterwarnings("ignore")  # of torch._inductor
MODES = ("default", "lite", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")
ACCEPTED = [{"mode": mode} for mode in MODES] + [
    {"fullgraph": True}, {"dynamic": None}, {"dynamic": True}, {"backend": "eager"}, {"backend": "inductor"},
    {"options": {"max_autotune": True}}, {"disable": True},
]  # fmt: skip
REFUSED = [{"mode": "fast"}, {"mode": "default", "options": {}}, {"backend": "fast"}]


@pytest.mark.parametrize("arguments", ACCEPTED, ids=str)
def test_accepted(arguments):
    for m in (torch, mg):
        assert callable(m.compile(abs, **arguments)) and callable(m.compile(**arguments))
        m.nn.Linear(1, 1).compile(**arguments)
    counts["compile"] = counts.get("compile", 0) + 3


@pytest.mark.parametrize("arguments", REFUSED, ids=str)
def test_refused(arguments):
    for m in (torch, mg):
        with pytest.raises(RuntimeError):
            m.compile(abs, **arguments)
        with pytest.raises(RuntimeError):
            m.nn.Linear(1, 1).compile(**arguments)
    counts["compile"] = counts.get("compile", 0) + 2


def test_parameters():
    ours, theirs = (inspect.signature(m.compile).parameters for m in (mg, torch))
    assert all((p.kind, p.default) == (theirs[n].kind, theirs[n].default) for n, p in ours.items())
