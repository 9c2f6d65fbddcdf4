"""Every script in examples/ holds its numbers, fails when they are off, draws, and stands in docs/gallery.md.

They run in this process, where an exit status is what SystemExit carries; two run as a user runs them.
"""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg
from minigrad import nn, optim

ROOT = Path(__file__).parent.parent
EXAMPLES, GALLERY = ROOT / "examples", ROOT / "docs" / "gallery"

# The scripts of one idea, and what makes their numbers wrong if it is off by one per cent: losses, or an option of
# optimizers.
SCRIPTS = {
    "adam_by_hand": "lr",
    "bce_and_logits": "loss",
    "class_weights": "loss",
    "clipping": "lr",
    "cross_entropy_by_hand": "loss",
    "digits": "lr",
    "double_sigmoid": "loss",
    "gradient_facts": "lr",
    "iris": "lr",
    "learning_rates": "lr",
    "momentum": "lr",
    "moving_averages": "betas",
    "optimizer_anatomy": "lr",
    "pos_weight": "loss",
    "resume_training": "momentum",
    "schedules": "lr",
    "starter_network": "lr",
}
PROGRAMS = {"train_mlp", "evaluate"}  # the first has tests of its own, in test_train_mlp.py
LOSSES = (nn.CrossEntropyLoss, nn.NLLLoss, nn.BCELoss, nn.BCEWithLogitsLoss)


@pytest.fixture
def play(monkeypatch, capsys):
    """Run a script in this process; returncode is what it exits with, None at its end."""
    monkeypatch.syspath_prepend(EXAMPLES)

    def play(name, *arguments):
        if name in {"digits", "iris"} | PROGRAMS:
            pytest.importorskip("tqdm" if name in PROGRAMS else "sklearn")
        path = str(EXAMPLES / f"{name}.py")
        monkeypatch.setattr(sys, "argv", [path, *map(str, arguments)])
        try:
            runpy.run_path(path, run_name="__main__")
            status = None
        except SystemExit as stop:
            status = stop.code
        text = capsys.readouterr()
        return subprocess.CompletedProcess([path, *arguments], status, text.out, text.err)

    return play


def run(*arguments, **options):
    """The finished process, in a folder of its own."""
    environment = os.environ | {"PYTHONPATH": str(Path(mg.__file__).parent.parent)}
    return subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, timeout=300, env=environment, **options
    )


def spoil(monkeypatch, what, factor):
    """Multiply all losses, or a setting of all optimizers, by ``factor``."""
    if what == "loss":
        for loss in LOSSES:
            right = loss.forward
            monkeypatch.setattr(loss, "forward", lambda *a, right=right: right(*a) * factor)
        return

    def wrong(self, params, defaults, right=optim.Optimizer.__init__):
        value = defaults[what]
        value = tuple(x * factor for x in value) if isinstance(value, tuple) else value * factor
        right(self, params, {**defaults, what: value})

    monkeypatch.setattr(optim.Optimizer, "__init__", wrong)


# --- scripts ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCRIPTS)
def test_numbers_hold(name, play):
    done = play(name)
    assert not done.returncode and len(done.stdout.splitlines()) >= 4
    if name == "digits":  # compiled it prints the same numbers
        assert play(name, "--compile").stdout == done.stdout


@pytest.mark.parametrize("name", SCRIPTS)
def test_wrong_numbers_are_noticed(name, play, monkeypatch):
    spoil(monkeypatch, SCRIPTS[name], 0.3 if name == "digits" else 0.99)  # digits leaves room for other initial weights
    status = play(name).returncode  # a message, which Python prints before it exits with 1
    assert isinstance(status, str) and re.search(r": (got .*, expected .* within|no$)", status)


@pytest.mark.parametrize("name", SCRIPTS)
def test_plots(name, play, tmp_path):
    pytest.importorskip("matplotlib")
    image = tmp_path / "plot.png"
    done = play(name, "--plot", image)
    assert not done.returncode and done.stdout.endswith(f"drawn to {image}\n")
    assert image.read_bytes().startswith(b"\x89PNG") and os.listdir(tmp_path) == ["plot.png"]


def test_as_a_user_runs_it(tmp_path):
    done = run("-W", "error", EXAMPLES / "optimizer_anatomy.py", cwd=tmp_path)
    assert done.returncode == 0 and not list(tmp_path.iterdir()), done.stderr
    # with a library that computes something else
    wrong = "from minigrad import nn; nn.BCELoss.forward = lambda self, x, y: x.sum()"
    done = run("-c", f"{wrong}; import bce_and_logits; bce_and_logits.main()", cwd=EXAMPLES)
    assert done.returncode == 1 and re.search(r"^BCELoss\(sigmoid\(x\)\), none: got .*, expected ", done.stderr, re.M)


def test_plots_that_cannot_be_drawn(play, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    done = play("optimizer_anatomy", "--plot", tmp_path / "missing" / "plot.png")
    assert re.match(r"--plot: .* cannot be written: .*No such file", done.returncode)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = play("optimizer_anatomy", "--plot", tmp_path / "plot.png")
    assert done.returncode == 2 and "--plot needs matplotlib: pip install" in done.stderr and not done.stdout


def test_checks(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    check = runpy.run_path(str(EXAMPLES / "_check.py"))
    check["close"]("x", mg.tensor([1.0, 2.0]), [1.0, 2.00004])
    check["true"]("x", True)
    check["refused"]("x", ValueError, "literal", int, "a")
    for function, *arguments in (
        ("close", 1.0, 1.0001),
        ("close", mg.tensor([1.0]), 1.0),
        ("close", [1.0, 1.0], [1.0]),
        ("close", float("nan"), float("nan")),
        ("close", 1.0, 1.01, 0.0099),
        ("true", mg.tensor(False)),
        ("refused", ValueError, "literal", int, "1"),
        ("refused", ValueError, "other", int, "a"),
    ):
        with pytest.raises(SystemExit, match="^name: "):
            check[function]("name", *arguments)


# --- the page ---------------------------------------------------------------------------------------------------------


def test_every_script_is_short_and_shown():
    scripts = {path.stem for path in EXAMPLES.glob("[!_]*.py")}
    assert scripts == {*SCRIPTS, *PROGRAMS}, "a new script has a row in SCRIPTS"
    page = (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8")
    assert {path.stem for path in GALLERY.iterdir()} == {*SCRIPTS}, "a new script needs `make gallery`"
    for path in EXAMPLES.glob("*.py"):
        assert path.stem == "train_mlp" or len(path.read_text(encoding="utf-8").splitlines()) < 80, path
    for name in scripts:
        assert f"[{name}.py](../examples/{name}.py)" in page and f"python examples/{name}.py " in page, name
    for name in SCRIPTS:
        assert f"](gallery/{name}.png)" in page and f"examples/{name}.py --plot {name}.png" in page, name
    anchors = {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in re.findall("^#+ (.*)", page, re.M)}
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


# --- evaluate.py ------------------------------------------------------------------------------------------------------


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(EXAMPLES)
    return runpy.run_path(str(EXAMPLES / "_report.py"))


def test_report_by_hand(report):
    y, predicted = np.array([0, 0, 0, 1, 1, 2]), np.array([0, 0, 1, 1, 1, 0])  # 2 is never right
    labels, counts = report["confusion_matrix"](y, predicted)
    assert labels.tolist() == [0, 1, 2] and counts.tolist() == [[2, 1, 0], [0, 2, 0], [1, 0, 0]]
    numbers = [line.split()[-4:] for line in report["classification_report"](y, predicted).splitlines()[2:] if line]
    assert numbers == [
        ["0.6667", "0.6667", "0.6667", "3"],  # called 3 times, right twice
        ["0.6667", "1.0000", "0.8000", "2"],  # 2 * 2/3 * 1 / (2/3 + 1)
        ["0.0000", "0.0000", "0.0000", "1"],
        ["accuracy", "0.6667", "6"],
        ["0.4444", "0.5556", "0.4889", "6"],
        ["0.5556", "0.6667", "0.6000", "6"],  # (3 * 2/3 + 2 * 4/5) / 6
    ]


@pytest.mark.parametrize(
    ("classes", "called", "n"), [(2, 2, 50), (10, 10, 300), (10, 3, 40), (3, 10, 40), (120, 120, 200), (2, 1, 20)]
)
def test_report_is_that_of_scikit_learn(classes, called, n, report):
    metrics = pytest.importorskip("sklearn.metrics")
    rng = np.random.default_rng(n)
    y, predicted = rng.integers(0, classes, n), rng.integers(0, called, n)
    assert np.array_equal(report["confusion_matrix"](y, predicted)[1], metrics.confusion_matrix(y, predicted))
    for digits in (2, 4):
        expected = metrics.classification_report(y, predicted, digits=digits, zero_division=0)
        assert report["classification_report"](y, predicted, digits) == expected


def idx(array):
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes()


def test_evaluate_by_hand(play, tmp_path):
    """A network that calls an image of 2x2 pixels by its brightest one; of five images four are right."""
    for part in ("train", "t10k"):
        pixels = 255 * np.eye(4)[[0, 1, 2, 3, 3]].reshape(5, 2, 2)
        (tmp_path / f"{part}-images-idx3-ubyte").write_bytes(idx(pixels))
        (tmp_path / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([0, 1, 2, 3, 0])))
    mg.save({"0.weight": mg.eye(4), "0.bias": mg.zeros(4)}, tmp_path / "weights")
    done = play("evaluate", tmp_path / "weights", "--data", tmp_path)
    loss = np.log(np.e + 3) - 4 / 5  # the logit of the right class is 1 for four of the images
    assert not done.returncode and done.stdout.startswith(f"5 test images, mean loss {loss:.4f}, accuracy 0.8000\n\n")
    assert done.stdout.endswith("\n[[1 0 0 1]\n [0 1 0 0]\n [0 0 1 0]\n [0 0 0 1]]\n")
    for shape in ((10, 5), (3, 4)):  # for 5 pixels, for 3 classes
        mg.save({"0.weight": mg.zeros(shape), "0.bias": mg.zeros(shape[0])}, tmp_path / "weights")
        done = play("evaluate", tmp_path / "weights", "--data", tmp_path)
        assert done.returncode == 2 and "trained on other data than these images of 4 pixels" in done.stderr


def test_train_and_evaluate(play, tmp_path):
    metrics = pytest.importorskip("sklearn.metrics")
    weights = tmp_path / "weights"
    trained = play("train_mlp", "--epochs", 1, "--save", weights).stdout
    done = play("evaluate", weights)
    loss, accuracy = re.search(r"test loss (\S+)  test accuracy (\S+)", trained).groups()
    assert not done.returncode and done.stdout.startswith(f"360 test images, mean loss {loss}, accuracy {accuracy}\n")

    script = runpy.run_path(str(EXAMPLES / "evaluate.py"))
    y, predicted, _ = script["predict"](script["saved_model"](weights), script["load_digits"]()[1])
    assert f"{metrics.accuracy_score(y, predicted):.4f}" == accuracy
    assert metrics.classification_report(y, predicted, digits=4, zero_division=0) in done.stdout
    assert done.stdout.endswith(f"\n{metrics.confusion_matrix(y, predicted)}\n")


@pytest.mark.parametrize("content", [None, b"", b"text", {"fc.weight": mg.zeros(2, 2)}, {"0.weight": mg.zeros(2)}, [1]])
def test_evaluate_refuses_what_is_not_a_model(content, play, tmp_path):
    """One line and exit status 2."""
    path = tmp_path / "weights"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        mg.save(content, path)
    done = play("evaluate", path)
    message = "cannot be read: No such file" if content is None else "is not what train_mlp.py saves"
    assert done.returncode == 2 and not done.stdout
    assert re.search(rf"^evaluate.py: error: {path} {message}.*\n\Z", done.stderr, re.MULTILINE)
