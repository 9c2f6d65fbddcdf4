"""examples/train_mlp.py as a user runs it: what it prints, writes and refuses, and its exit status."""

import gzip
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import minigrad as mg

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "examples" / "train_mlp.py"

if not all(map(importlib.util.find_spec, ("sklearn", "tqdm"))):  # importing them takes a second
    pytest.skip("needs scikit-learn and tqdm", allow_module_level=True)


def run(*arguments, **environment):
    """The finished process."""
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(Path(mg.__file__).parent.parent), **environment},
    )  # fmt: skip


def idx(array):
    """The bytes of an IDX file."""
    return bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


def images(n, side=4, seed=0):
    """n images in two classes, dark and bright, and their labels."""
    labels = (np.arange(n) % 2).astype(np.uint8)
    noise = np.random.default_rng(seed).integers(0, 60, (n, side, side))
    return (noise + 190 * labels[:, None, None]).astype(np.uint8), labels


def write(folder, part, n, zipped=False, dotted=False, **options):
    x, y = images(n, **options)
    for name, array in ((f"{part}-images-idx3-ubyte", x), (f"{part}-labels-idx1-ubyte", y)):
        name = name.replace("-idx", ".idx") if dotted else name
        data = idx(array)
        (folder / (name + (".gz" if zipped else ""))).write_bytes(gzip.compress(data) if zipped else data)


EPOCH = r"epoch +(\d+)  train loss (\d+\.\d{4})  test loss (\d+\.\d{4})  test accuracy (\d\.\d{4})  [\d,]+ samples/s"


def test_digits():
    """The newcomer's command: at least .967 (seeds 0 to 19 give .9722 to .9778), and exit status 0."""
    done = run()
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert lines[0] == "1437 training and 360 test images, 38410 parameters"
    epochs = [re.fullmatch(EPOCH, line) for line in lines[1:-1]]
    assert [int(m[1]) for m in epochs] == list(range(1, 41))
    assert float(epochs[-1][2]) < float(epochs[0][2]) / 5
    assert lines[-1] == f"test accuracy {epochs[-1][4]}" and float(epochs[-1][4]) >= 0.967


def test_digits_that_are_not_learnt(call):
    done = call("--epochs", 1, "--lr", 0)
    assert done.returncode == 1 and re.search(r"test accuracy 0\.\d{4}\n$", done.stdout)


def test_the_same_seed_gives_the_same_numbers_at_any_number_of_threads(tmp_path):
    write(tmp_path, "train", 1500, side=8)

    def numbers(*arguments, **environment):
        done = run("--data", tmp_path, "--epochs", 3, *arguments, **environment)
        return re.sub(r"[\d,]+ samples/s", "", done.stdout)

    first = numbers()
    assert first.count("epoch") == 3
    assert first == numbers(NUMBA_NUM_THREADS="1") == numbers(NUMBA_NUM_THREADS="4")
    assert first == numbers("--compile")
    assert first != numbers("--seed", 1)


@pytest.mark.parametrize(
    ("optimizer", "zipped", "dotted"), [("sgd", False, False), ("adam", True, False), ("adamw", False, True)]
)
def test_idx_files(optimizer, zipped, dotted, tmp_path):
    write(tmp_path, "train", 60, zipped, dotted)
    write(tmp_path, "t10k", 20, zipped, dotted, seed=1)
    done = run("--data", tmp_path, "--epochs", 15, "--batch-size", 16, "--hidden", "8,4", "--optimizer", optimizer)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    parameters = 16 * 8 + 8 + 8 * 4 + 4 + 4 * 10 + 10
    assert lines[0] == f"60 training and 20 test images, {parameters} parameters"
    losses = [float(re.fullmatch(EPOCH, line)[2]) for line in lines[1:-1]]
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("part", ["train", "t10k"])
def test_one_pair_of_idx_files_is_split(part, tmp_path):
    write(tmp_path, part, 10, zipped=True)
    done = run("--data", tmp_path, "--epochs", 0)
    assert done.returncode == 0 and done.stdout.startswith("8 training and 2 test images"), done.stderr


def test_no_hidden_layer(tmp_path):
    write(tmp_path, "train", 10)
    done = run("--data", tmp_path, "--epochs", 0, "--hidden", "")
    assert done.stdout.splitlines()[0].endswith(f"{16 * 10 + 10} parameters")


def test_save_load_and_plot(tmp_path):
    pytest.importorskip("matplotlib")
    write(tmp_path, "train", 50)
    model, curve = tmp_path / "model.safetensors", tmp_path / "curve.png"
    common = ("--data", tmp_path, "--hidden", "8")
    first = run(*common, "--epochs", 5, "--save", model, "--plot", curve)
    assert first.returncode == 0, first.stderr
    assert f"weights written to {model}" in first.stdout and f"curve drawn to {curve}" in first.stdout
    assert curve.read_bytes().startswith(b"\x89PNG")
    assert list(mg.load(model)) == ["0.weight", "0.bias", "2.weight", "2.bias"]
    second = run(*common, "--epochs", 0, "--load", model)
    assert second.stdout.splitlines()[-1] == first.stdout.splitlines()[-3]  # the accuracy, before what was written
    assert sorted(path.name for path in tmp_path.iterdir() if "ubyte" not in path.name) == [curve.name, model.name]


def test_help():
    done = run("--help")
    assert done.returncode == 0 and done.stderr == ""
    for option in (
        "--data", "--hidden", "--epochs", "--batch-size", "--lr", "--optimizer", "--momentum", "--seed", "--save",
        "--load", "--plot",
    ):  # fmt: skip
        assert option in done.stdout


def test_without_matplotlib(tmp_path):
    """A clear message, before training."""
    (tmp_path / "matplotlib").mkdir()
    (tmp_path / "matplotlib" / "__init__.py").write_text("raise ImportError('not here')")
    path = os.pathsep.join([str(tmp_path), str(Path(mg.__file__).parent.parent)])
    done = run("--plot", tmp_path / "curve.png", PYTHONPATH=path)
    assert done.returncode == 2 and "--plot needs matplotlib: pip install" in done.stderr and done.stdout == ""


# --- what is refused: one line on stderr and exit status 2 ------------------------------------------------------------

GOOD_IMAGES, GOOD_LABELS = (idx(a) for a in images(10))
ZIPPED = gzip.compress(GOOD_IMAGES)
IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"

FOLDERS = {
    "empty folder": ({}, "has no MNIST files"),
    "no labels": ({IMAGES: GOOD_IMAGES}, f"has {IMAGES} but not the labels to it"),
    "no images": ({LABELS + ".gz": gzip.compress(GOOD_LABELS)}, f"has {LABELS}.gz but not the images to it"),
    "truncated": ({IMAGES: GOOD_IMAGES[:-1], LABELS: GOOD_LABELS}, "is truncated: 175 bytes instead of 176"),
    "truncated header": ({IMAGES: GOOD_IMAGES[:9], LABELS: GOOD_LABELS}, "is truncated: 9 bytes, the header alone has"),
    "too long": ({IMAGES: GOOD_IMAGES + b"0", LABELS: GOOD_LABELS}, "is too long: 177 bytes instead of 176"),
    "wrong magic": ({IMAGES: b"\0\0\x0d\x03" + GOOD_IMAGES[4:], LABELS: GOOD_LABELS}, "not an IDX file of 3-D bytes"),
    "swapped": ({IMAGES: GOOD_LABELS, LABELS: GOOD_IMAGES}, "it starts with 00000801, not 00000803"),
    "empty file": ({IMAGES: b"", LABELS: GOOD_LABELS}, "is not an IDX file"),
    "not gzipped": ({IMAGES + ".gz": GOOD_IMAGES, LABELS: GOOD_LABELS}, "cannot be read: Not a gzipped file"),
    "truncated gzip": ({IMAGES + ".gz": ZIPPED[:-9], LABELS: GOOD_LABELS}, "cannot be read"),
    "damaged gzip": (
        {IMAGES + ".gz": ZIPPED[:20] + b"xxxx" + ZIPPED[24:], LABELS: GOOD_LABELS},
        "cannot be read",
    ),
    "other count": ({IMAGES: GOOD_IMAGES, LABELS: idx(images(9)[1])}, "has 10 images, .* has 9 labels"),
    "no rows": ({IMAGES: idx(images(0)[0]), LABELS: idx(images(0)[1])}, "has no images"),
    "one row": ({IMAGES: idx(images(1)[0]), LABELS: idx(images(1)[1])}, "too few to train and test on"),
    "other sizes": (
        {
            IMAGES: GOOD_IMAGES, LABELS: GOOD_LABELS, IMAGES.replace("train", "t10k"): idx(images(3, side=5)[0]),
            LABELS.replace("train", "t10k"): idx(images(3)[1]),
        },
        "training images have 16 pixels, test images 25",
    ),
}  # fmt: skip


LINUX = pytest.mark.skipif(sys.platform != "linux", reason="needs /proc, /sys and /dev/full")


def assert_one_line(done, message, printed=""):
    assert done.returncode == 2 and re.search(printed + r"\Z", done.stdout) and bool(done.stdout) == bool(printed)
    lines = done.stderr.splitlines()
    assert len(lines) == 1 and lines[0].startswith("train_mlp.py: error: ") and re.search(message, lines[0]), (
        done.stderr
    )


@pytest.fixture(scope="module")
def script():
    """The script as a module, for errors that need no process of their own."""
    spec = importlib.util.spec_from_file_location("train_mlp", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def call(script, capsys):
    """main() in this process, as ``run`` returns it."""

    def call(*arguments):
        try:
            status = script.main(list(map(str, arguments)))
        except SystemExit as stop:
            status = stop.code
        text = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, status, text.out, text.err)

    return call


@pytest.mark.parametrize("name", FOLDERS)
def test_refused_folders(name, call, tmp_path):
    files, message = FOLDERS[name]
    for file, data in files.items():
        (tmp_path / file).write_bytes(data)
    assert_one_line(call("--data", tmp_path), message)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--batch-size", 0), "argument --batch-size: must be at least 1, got 0"),
        (("--batch-size", -3), "argument --batch-size: must be at least 1, got -3"),
        (("--batch-size", "x"), "argument --batch-size: 'x' is not a number"),
        (("--epochs", -1), "argument --epochs: must be at least 0, got -1"),
        (("--lr", -0.1), "argument --lr: must be at least 0, got -0.1"),
        (("--lr", "nan"), "argument --lr: must be at least 0, got nan"),
        (("--lr", "inf"), "argument --lr: must be at least 0, got inf"),
        (("--hidden", "8,0"), "argument --hidden: must be at least 1, got 0"),
        (("--hidden", "8,,4"), "argument --hidden: '' is not a number"),
        (("--optimizer", "adagrad"), "argument --optimizer: invalid choice: 'adagrad'"),
        (("--hidden", 10**11), "--hidden: this network is too large"),
        (("--hidden", 10**20), "--hidden: this network is too large"),
        (("--hidden", "4000000000,4000000000"), "--hidden: this network is too large"),
        (("--seed", "a"), "argument --seed: 'a' is not a number"),
        (("--seed", -1), "argument --seed: must be at least 0, got -1"),
        (("--seed", 2**64), "argument --seed: must be at most 18446744073709551615, got 18446744073709551616"),
        (("--unknown",), "unrecognized arguments: --unknown"),
        (("--data", "/no/such/folder"), "the folder /no/such/folder does not exist"),
        (("--data", SCRIPT), "train_mlp.py is not a folder"),
        (("--save", "/no/such/folder/model"), "--save: the folder /no/such/folder does not exist"),
        (("--save", "/"), "--save: / is a folder"),
        (("--save", "x" * 300), "--save: xxx.* cannot be written: File name too long"),
        pytest.param(("--save", "/proc/x"), "--save: /proc/x cannot be written", marks=LINUX),
        pytest.param(("--plot", "/sys/x.png"), "--plot: /sys/x.png cannot be written", marks=LINUX),
        (("--plot", "/no/such/folder/curve.png"), "--plot: the folder /no/such/folder does not exist"),
        (("--plot", "curve.xyz"), "--plot: cannot draw files of type 'xyz'"),
        (("--plot", "curve.png", "--epochs", 0), "--plot: there is nothing to draw with --epochs 0"),
        (("--load", "/no/such/file"), "--load: the file /no/such/file does not exist"),
        (("--load", SCRIPT.parent), "--load: .*examples is a folder"),
        (("--load", SCRIPT), "--load: .*train_mlp.py is not a complete safetensors file"),
    ],
)
def test_refused_options(arguments, message, call):
    if "--plot" in arguments:
        pytest.importorskip("matplotlib")
    assert_one_line(call(*arguments), message)


def test_refused_weights(call, tmp_path):
    for state, message in (
        ({"0.weight": mg.zeros(1)}, "does not fit; --data and --hidden must be those it was saved with: Missing key"),
        ([1, 2], "Expected state_dict to be dict-like"),
    ):
        mg.save(state, tmp_path / "weights")
        assert_one_line(call("--load", tmp_path / "weights"), message)


@LINUX
@pytest.mark.parametrize("option", ["--save", "--plot"])
def test_what_cannot_be_written_after_training(option, call, tmp_path):
    """The accuracy is not lost."""
    if option == "--plot":
        pytest.importorskip("matplotlib")
    path = tmp_path / "full"
    path.symlink_to("/dev/full")
    done = call("--epochs", 1, option, path)
    assert_one_line(done, f"{option}: .*full cannot be written: No space left", r"test accuracy 0\.\d{4}\n")


@pytest.mark.parametrize(
    ("error", "status", "line"),
    [
        (KeyboardInterrupt(), 130, "train_mlp.py: interrupted\n"),
        (MemoryError("9 bytes"), 2, "train_mlp.py: error: out of memory: 9 bytes\n"),
    ],
)
def test_training_that_stops(error, status, line, script, call, monkeypatch):
    def stop(*arguments):
        raise error

    monkeypatch.setattr(script, "train_epoch", stop)
    done = call("--epochs", 1)
    assert done.returncode == status and done.stderr == line


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_closed_pipe_is_quiet(unbuffered, tmp_path):
    """As in ``| head -1``: the write fails at once, or when the buffer is flushed at the end."""
    write(tmp_path, "train", 10)
    read, end = os.pipe()
    os.close(read)
    environment = {"PYTHONPATH": str(Path(mg.__file__).parent.parent), "PYTHONUNBUFFERED": unbuffered}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--data", str(tmp_path), "--epochs", "1"], stdout=end, stderr=subprocess.PIPE,
        text=True, timeout=300, env={**os.environ, **environment},
    )  # fmt: skip
    os.close(end)
    assert done.returncode == 141 and done.stderr == ""


def test_refusal_in_a_process_of_its_own(tmp_path):
    assert_one_line(run("--data", tmp_path / "missing"), "does not exist")
    assert_one_line(run("--batch-size", 0), "must be at least 1, got 0")
