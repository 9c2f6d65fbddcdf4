"""What `asv run` starts by hand: no process keeps variables that BLAS obeys; absent peers are skipped, saying so."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.dashboard
ROOT = Path(__file__).parent.parent.parent
PROBE = '''
import ctypes, os
from pathlib import Path
import scipy_openblas32
from .common import Case, Timed, load

class Number(float):
    size, shape = 1, ()

def noise():
    """How many variables Python or C still sees, and whether OpenBLAS obeyed."""
    getenv = ctypes.CDLL(None).getenv
    getenv.restype = ctypes.c_char_p
    names = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE")
    blas = ctypes.CDLL(str(next(Path(scipy_openblas32.get_lib_dir()).glob("libscipy_openblas*.so"))))
    blas.scipy_openblas_get_corename.restype = ctypes.c_char_p
    obeyed = blas.scipy_openblas_get_corename().lower() == b"nehalem"
    return Number(sum((name in os.environ) + (getenv(name.encode()) is not None) for name in names) + obeyed)

def build():
    return noise

class Probe:
    def track_process(self):
        return float(noise())

    def track_contender(self):
        from harness import Contender

        contender = Contender("build", module="suite.probe")
        contender.stop()
        return contender.first

class Peers:
    params = (["torch", "jax"],)
    param_names = ("framework",)

    def setup(self, framework):
        load(framework)

    def time_nothing(self, framework):
        pass

class Nothing(Timed):
    cases, ways = {"nothing": Case()}, ("minigrad",)

    @staticmethod
    def make(framework, case):
        print("made")
        return lambda: None
'''


@pytest.fixture
def asv(tmp_path):
    """Run asv with a copy of the suite that has a probe; what it printed."""
    pytest.importorskip("asv")
    copy = Path(shutil.copytree(ROOT / "benchmarks", tmp_path / "benchmarks", ignore=shutil.ignore_patterns(".asv*")))
    (copy / "suite" / "probe.py").write_text(PROBE)
    absent = tmp_path / "absent"  # found before what is installed
    absent.mkdir()
    for peer in ("torch", "jax"):
        (absent / f"{peer}.py").write_text(f"raise ImportError('no {peer} here')")
    config = json.loads((copy / "asv.conf.json").read_text()) | {"repo": str(ROOT)}
    (copy / "asv.conf.json").write_text(json.dumps(config))
    noise = {"OPENBLAS_CORETYPE": "Nehalem", "OPENBLAS_L2_SIZE": "512"}
    environment = os.environ | noise | {"HOME": str(tmp_path), "ASV_PYTHONPATH": str(absent)}

    def run(*arguments, **more):
        command = [sys.executable, "-m", "asv", *arguments]
        found = subprocess.run(
            command, cwd=copy, env=environment | more, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            timeout=280,
        )  # fmt: skip
        assert found.returncode == 0, found.stdout
        return found.stdout

    subprocess.run([sys.executable, copy / "machines.py"], env=environment, check=True)
    return run


def test_variables_are_gone_and_absent_peers_are_skipped(asv):
    out = asv("run", "-E", "existing", "--quick", "--show-stderr", "-b", "probe")
    assert re.search(r"probe.Probe.track_process\s+0.0", out), out
    assert re.search(r"probe.Probe.track_contender\s+0.0", out), out
    for peer in ("torch", "jax"):
        assert re.search(rf"{peer}\s+n/a", out), out
        assert f"skipped: NotImplementedError('{peer} is not installed')" in out


def test_samples_are_of_many_calls_after_one_setup(asv):
    """asv does a setup again before each sample and times one call, of which clocks and caches would be most."""
    out = asv("run", "-E", "existing", "--show-stderr", "-b", "Nothing", MINIGRAD_BENCH="quick")
    assert re.search(r"minigrad\s+[\d.]+±[\d.]+ns", out), out
    assert out.count("made\n") == 1


def test_the_probe_sees_the_variables(asv, tmp_path):
    (tmp_path / "benchmarks" / "suite" / "__init__.py").write_text("")
    out = asv("run", "-E", "existing", "--quick", "--show-stderr", "-b", "Probe")
    assert re.search(r"probe.Probe.track_process\s+[45].0", out), out
    assert re.search(r"probe.Probe.track_contender\s+[45].0", out), out


def test_quick_takes_few_cases():
    """Five cases of a family at most, and no slow way: what makes `make bench-quick` take minutes."""
    script = """
import json, suite.elementwise, suite.steps
from suite.common import chosen
print(json.dumps([chosen(range(18)), chosen("ab"), *suite.elementwise.Elementwise.params, *suite.steps.Step.params]))
"""
    found = {}
    for mode in ("quick", ""):
        environment = os.environ | {"MINIGRAD_BENCH": mode}
        command = [sys.executable, "-c", script]
        output = subprocess.check_output(command, cwd=ROOT / "benchmarks", env=environment)
        spread, both, *found[mode] = json.loads(output)
        assert spread == ([0, 4, 8, 12, 17] if mode else list(range(18)))
        assert both == ["a", "b"]
    slow = {"torch fused", "torch.compile", "jax"}
    ways, cases, step_ways, nets = found["quick"]
    assert {"minigrad", "torch"} <= set(ways) & set(step_ways)
    assert not slow & {*ways, *step_ways}
    assert len(cases) == len(nets) == 5
    assert slow <= set(found[""][2])
    assert len(found[""][1]) > 5
