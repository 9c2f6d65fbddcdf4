"""The scripts of the gallery compute the same numbers on a GPU: they check them themselves."""

import runpy
import sys
from pathlib import Path

import pytest

import minigrad as mg

from .both import needs_gpu

pytestmark = needs_gpu
EXAMPLES = Path(__file__).parent.parent.parent / "examples"
SCRIPTS = [path.stem for path in sorted(EXAMPLES.glob("*.py")) if "arguments(__doc__" in path.read_text()]


@pytest.mark.parametrize("name", SCRIPTS)
def test_numbers_hold(name, monkeypatch):
    if name in ("digits", "iris"):
        pytest.importorskip("sklearn")
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", [name, "--device", "cuda"])
    mg.cuda.reset_peak_memory_stats()
    held = mg.cuda.memory_allocated()
    try:
        runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    finally:
        mg.set_default_device("cpu")
    assert mg.cuda.max_memory_allocated() > held


def test_plots_are_drawn_on_the_cpu(monkeypatch, capsys):
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "argv", ["momentum", "--device", "cuda", "--plot", "a.png"])
    try:
        with pytest.raises(SystemExit):
            runpy.run_path(str(EXAMPLES / "momentum.py"), run_name="__main__")
    finally:
        mg.set_default_device("cpu")
    assert "leave out --device" in capsys.readouterr().err and not Path("a.png").exists()
