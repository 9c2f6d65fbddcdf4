"""Names, kinds and defaults of parameters are PyTorch's: optimizers, schedules, clipping, losses and all of ``nn``."""

import importlib
import inspect

import pytest
import torch

import minigrad as mg

from . import comparing

PLACES = (
    "optim", "optim.optimizer", "optim.lr_scheduler", "optim.swa_utils", "nn", "nn.functional", "nn.init", "nn.utils",
)  # fmt: skip
# All that differs, deliberately: what is ours, and why.
DIFFERENT = {
    ("nn", "ModuleList", "pop"): "(self, index)",  # theirs calls it key, like ModuleDict's
    ("nn", "Sequential", "pop"): "(self, index)",
    ("nn", "Sequential", "extend"): "(self, modules)",  # any iterable of modules
    ("nn", "PoissonNLLLoss", "forward"): "(self, input, target)",  # theirs calls the input log_input, a slip
    ("nn.functional", "dropout"): "(input, p=0.5, training=True, inplace=False, *, generator=None)",
    ("nn.functional", "normalize"): "(input, p=2.0, dim=1, eps=1e-12)",  # no out=
}
# Options that only minigrad has, keyword-only: what 'mean' gives where no row counts.
ALL_IGNORED = ("all_ignored", inspect.Parameter.KEYWORD_ONLY, "nan")
OURS = {
    **{("nn", name): ALL_IGNORED for name in ("CrossEntropyLoss", "NLLLoss", "LinearCrossEntropyLoss")},
    **{("nn.functional", name): ALL_IGNORED for name in ("cross_entropy", "nll_loss", "linear_cross_entropy")},
}
# What PyTorch has here and minigrad has not: sparse gradients, a context manager for functional use, old names.
ABSENT = {"SparseAdam", "swap_in_optimizer_params_and_state", "AdaptiveLogSoftmaxWithLoss", "NLLLoss2d"}
# Methods that need not be there.
OPTIONAL = {"share_memory"}


def place(library, name):
    return importlib.import_module(f"{library.__name__}.{name}")


def signature(f):
    """(name, kind, default) of each parameter; None for a builtin that does not tell."""
    try:
        return [(p.name, p.kind, p.default) for p in inspect.signature(f).parameters.values()]
    except ValueError:
        return None


def public(module):
    """Functions and classes of a library's module, which may be defined in another one of it."""
    library = module.__name__.partition(".")[0]
    return [
        name for name, value in vars(module).items()
        if not name.startswith("_") and callable(value) and name not in ("Tensor", "RemovableHandle")
        and (getattr(value, "__module__", None) or library).partition(".")[0] == library
    ]  # fmt: skip


CASES = [(where, name) for where in PLACES for name in public(place(mg, where)) if hasattr(place(torch, where), name)]


@pytest.mark.parametrize(("where", "name"), CASES, ids=str)
def test_signatures(where, name):
    ours, theirs = (getattr(place(m, where), name) for m in (mg, torch))
    pairs = {(where, name): (ours, theirs)}
    if isinstance(theirs, type):
        for method, value in vars(theirs).items():
            if not method.startswith("_") and inspect.isfunction(value) and hasattr(ours, method):
                pairs[where, name, method] = getattr(ours, method), value
    for key, (a, b) in pairs.items():
        if key in DIFFERENT:
            assert str(inspect.signature(a)) == DIFFERENT[key] and signature(a) != signature(b), key
        elif signature(b) is not None:
            added = [OURS[key]] if key in OURS else []
            assert signature(a) == signature(b) + added, key
            comparing.counts["signatures"] = comparing.counts.get("signatures", 0) + 1


def expected(where):
    """What is to be there of a module of PyTorch's."""
    module = place(torch, where)
    if where in ("nn", "nn.functional"):
        return [n for n in public(module) if "loss" in n.lower()]
    if where == "nn.utils":
        return ["clip_grad_norm_", "clip_grad_value_", "clip_grads_with_norm_", "get_total_norm",
                "parameters_to_vector", "vector_to_parameters"]  # fmt: skip
    return [] if where == "nn.init" else module.__all__


@pytest.mark.parametrize("where", PLACES)
def test_names(where):
    ours = place(mg, where)
    assert [name for name in expected(where) if not hasattr(ours, name) and name not in ABSENT] == []
    assert [name for name in ABSENT if hasattr(ours, name)] == []


CLASSES = [
    *[("optim", name) for name in torch.optim.__all__ if isinstance(getattr(torch.optim, name, None), type)],
    *[("optim.lr_scheduler", name) for name in torch.optim.lr_scheduler.__all__],
    *[("optim.swa_utils", name) for name in ("AveragedModel", "SWALR")],
]


@pytest.mark.parametrize(("where", "name"), [c for c in CLASSES if c[1] not in ABSENT], ids=str)
def test_methods(where, name):
    """Every public method that PyTorch's class defines itself."""
    ours, theirs = (getattr(place(m, where), name) for m in (mg, torch))
    methods = {k for k, v in vars(theirs).items() if not k.startswith("_") and inspect.isfunction(v)}
    assert {k for k in methods - OPTIONAL if not hasattr(ours, k)} == set()
