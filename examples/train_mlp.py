"""Train a multi-layer perceptron on images of digits.

python examples/train_mlp.py                         # the 8x8 digits that scikit-learn carries
python examples/train_mlp.py --data DIR --epochs 10  # MNIST from its IDX files
"""

import argparse
import gzip
import math
import os
import sys
import tempfile
import time
import zlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

import minigrad as mg
from minigrad import nn, optim
from minigrad.data import DataLoader, TensorDataset

LEARNING_RATES = {"sgd": 0.1, "adam": 1e-3, "adamw": 1e-3}
DIGITS = {"hidden": [512], "epochs": 40, "batch_size": 32}  # defaults without --data: right for every seed tried
REQUIRED = 0.96  # the accuracy on the digits below which the exit status is 1


class Problem(Exception):
    """Something the user can put right: one line, exit status 2."""


# --- data -------------------------------------------------------------------------------------------------------------


def load_digits():
    """The 1,797 digits of scikit-learn as (train, test): 80 % and 20 % of them, shuffled the same way every time."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise Problem("the 8x8 digits come from scikit-learn: pip install scikit-learn, or pass --data DIR") from None
    images, labels = load_digits(return_X_y=True)
    order = mg.randperm(len(images), generator=mg.Generator().manual_seed(0)).numpy()
    return split(images[order] / 16, labels[order])


def load_mnist(folder):
    """MNIST (or a data set of its format) as (train, test) from the IDX files in ``folder``.

    Without one of the two pairs of files the first 80 % of the other train and the last 20 % test, in file order.
    """
    folder = Path(folder)
    if not os.path.isdir(folder):
        raise Problem(f"{folder} is not a folder" if os.path.exists(folder) else f"the folder {folder} does not exist")
    found = {}
    for part in ("train", "t10k"):
        images, labels = (find(folder, f"{part}-{name}") for name in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        if images and labels:
            x, y = read_idx(images, dimensions=3), read_idx(labels, dimensions=1)
            if len(x) != len(y):
                raise Problem(f"{images} has {len(x)} images, {labels} has {len(y)} labels")
            if x.size == 0:
                raise Problem(f"{images} has no images")
            found[part] = x.reshape(len(x), -1) / np.float32(255), y
        elif images or labels:
            raise Problem(
                f"{folder} has {(images or labels).name} but not the {'labels' if images else 'images'} to it"
            )
    if not found:
        raise Problem(f"{folder} has no MNIST files (train-images-idx3-ubyte[.gz], t10k-images-idx3-ubyte[.gz], ...)")
    if len(found) == 1:
        return split(*next(iter(found.values())))
    (x, y), (x_test, y_test) = found["train"], found["t10k"]
    if x.shape[1] != x_test.shape[1]:
        raise Problem(f"training images have {x.shape[1]} pixels, test images {x_test.shape[1]}")
    return dataset(x, y), dataset(x_test, y_test)


def find(folder, name):
    """The file ``name`` in ``folder``, gzipped or not; also under the name ``train-images.idx3-ubyte``."""
    for stem in (name, name.replace("-idx", ".idx")):
        for path in (folder / stem, folder / f"{stem}.gz"):
            if path.is_file():
                return path
    return None


def read_idx(path, dimensions):
    """The array in an IDX file of unsigned bytes: a magic number, big-endian sizes, the bytes."""
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise Problem(f"{path} cannot be read: {error}") from None
    start = 4 + 4 * dimensions
    magic, expected = data[:4], bytes((0, 0, 8, dimensions))
    if magic != expected:
        raise Problem(
            f"{path} is not an IDX file of {dimensions}-D bytes: it starts with {magic.hex()}, not {expected.hex()}"
        )
    if len(data) < start:
        raise Problem(f"{path} is truncated: {len(data)} bytes, the header alone has {start}")
    shape = [int(n) for n in np.frombuffer(data, ">u4", dimensions, offset=4)]
    if len(data) != start + math.prod(shape):
        what = "truncated" if len(data) < start + math.prod(shape) else "too long"
        raise Problem(f"{path} is {what}: {len(data)} bytes instead of {start + math.prod(shape)} for sizes {shape}")
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def dataset(images, labels):
    return TensorDataset(mg.tensor(images, dtype=mg.float32), mg.tensor(labels, dtype=mg.int64))


def split(images, labels):
    """The first 80 % to train on, the rest to test on."""
    n = len(images) * 8 // 10
    if n == 0:
        raise Problem(f"{len(images)} image(s) are too few to train and test on")
    return dataset(images[:n], labels[:n]), dataset(images[n:], labels[n:])


# --- model ------------------------------------------------------------------------------------------------------------


def make_model(inputs, hidden, classes):
    """Linear layers of the given widths with ReLU in between."""
    widths = [inputs, *hidden]
    layers = []
    try:
        for narrow, wide in zip(widths, widths[1:]):
            layers += [nn.Linear(narrow, wide), nn.ReLU()]
        return nn.Sequential(*layers, nn.Linear(widths[-1], classes))
    except (MemoryError, OverflowError, RuntimeError) as error:  # the last: more bytes than 64 bits can count
        raise Problem(f"--hidden: this network is too large: {error}") from None


def make_optimizer(name, parameters, lr, momentum):
    if name == "sgd":
        return optim.SGD(parameters, lr=lr, momentum=momentum)
    return {"adam": optim.Adam, "adamw": optim.AdamW}[name](parameters, lr=lr)


def make_step(model, criterion, optimizer):
    """A function that trains on one batch; it returns the loss."""

    def step(x, y):
        optimizer.zero_grad()
        loss = criterion(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return step


def train_epoch(model, loader, step, bar, device):
    """One pass; the mean loss and the samples per second."""
    model.train()
    total, start = 0.0, time.perf_counter()
    for x, y in loader:
        total += step(x.to(device), y.to(device)).item() * len(x)
        bar.update()
    return total / len(loader.dataset), len(loader.dataset) / (time.perf_counter() - start)


@mg.no_grad()
def evaluate(model, loader, criterion, device):
    """The mean loss and the share of right answers."""
    model.eval()
    total, right = 0.0, 0
    for x, y in loader:
        x, y = x.to(device), y.to(device)
        logits = model(x)
        total += criterion(logits, y).item() * len(x)
        right += (logits.argmax(dim=1) == y).sum().item()
    return total / len(loader.dataset), right / len(loader.dataset)


def chosen_device(name):
    """The device of that name, if it can be used."""
    try:
        return mg.device(name)
    except RuntimeError as error:
        raise Problem(f"--device: {error}") from None


def load_weights(model, path):
    if os.path.isdir(path):
        raise Problem(f"--load: {path} is a folder")
    if not os.path.exists(path):
        raise Problem(f"--load: the file {path} does not exist")
    try:
        model.load_state_dict(mg.load(path))
    except OSError as error:
        raise Problem(f"--load: {path} cannot be read: {error.strerror}") from None
    except (TypeError, ValueError) as error:
        raise Problem(f"--load: {error}") from None
    except RuntimeError as error:
        first = str(error).split("\n\t")[1].strip()
        raise Problem(
            f"--load: {path} does not fit; --data and --hidden must be those it was saved with: {first}"
        ) from None


def plot(path, history):
    """Losses and accuracy by epoch, as an image."""
    from matplotlib.figure import Figure

    epochs = range(1, len(history) + 1)
    train, test, accuracy = zip(*history)
    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot(epochs, train, label="train")
    left.plot(epochs, test, label="test")
    left.set(xlabel="epoch", ylabel="cross-entropy", yscale="log")
    left.legend()
    right.plot(epochs, accuracy)
    right.set(xlabel="epoch", ylabel="test accuracy")
    # the format is given, since savefig would otherwise add .png to a name that has no ending
    figure.savefig(path, dpi=150, format=Path(path).suffix.lstrip(".") or "png")


# --- command line -----------------------------------------------------------------------------------------------------


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: error: {message}\n")


def at_least(least, kind=int, most=None):
    def parse(text):
        try:
            value = kind(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"{text!r} is not a number") from None
        if not value >= least or value == math.inf:
            raise argparse.ArgumentTypeError(f"must be at least {least}, got {text}")
        if most is not None and value > most:
            raise argparse.ArgumentTypeError(f"must be at most {most}, got {text}")
        return value

    return parse


def widths(text):
    return [at_least(1)(part) for part in text.split(",")] if text else []


def parse_arguments(arguments=None):
    parser = Parser(
        prog="train_mlp.py", description="Train a multi-layer perceptron on images of digits.",
        epilog=f"Without --data, the exit status is 1 if the test accuracy is below {REQUIRED}.",
    )  # fmt: skip
    add = parser.add_argument
    add("--data", metavar="DIR", help="folder with MNIST in IDX files, gzipped or not (default: scikit-learn's digits)")
    add("--hidden", metavar="WIDTHS", type=widths, help="hidden widths, as in 128,64 (default: 512; 128 with --data)")
    add("--epochs", metavar="N", type=at_least(0), help="passes over the data (default: 40; 10 with --data)")
    add("--batch-size", metavar="N", type=at_least(1), help="samples a step (default: 32; 64 with --data)")
    add("--optimizer", choices=LEARNING_RATES, default="sgd", help="default: sgd")
    add("--lr", metavar="X", type=at_least(0, float), help="learning rate (default: 0.1 for sgd, 0.001 for the others)")
    add("--momentum", metavar="X", type=at_least(0, float), default=0.9, help="for sgd (default: 0.9)")
    add("--seed", metavar="N", type=at_least(0, most=2**64 - 1), default=0,
        help="of initial weights and shuffling (default: 0)")  # fmt: skip
    add("--compile", action="store_true", help="record the training step and replay it: the same numbers, faster")
    add("--device", metavar="NAME", default="cpu", help="cpu or cuda (default: cpu)")
    add("--save", metavar="FILE", help="write the trained weights, as safetensors")
    add("--load", metavar="FILE", help="start from weights that --save wrote")
    add("--plot", metavar="FILE", help="draw losses and accuracy by epoch, as an image such as curve.png")
    options = parser.parse_args(arguments)
    usual = {"hidden": [128], "epochs": 10, "batch_size": 64} if options.data else DIGITS
    for name, value in usual.items():
        if getattr(options, name) is None:
            setattr(options, name, value)
    return options


def check_output(option, path):
    real = Path(os.path.realpath(path))
    if os.path.isdir(real):
        raise Problem(f"{option}: {path} is a folder")
    if not os.path.isdir(real.parent):
        raise Problem(f"{option}: the folder {real.parent} does not exist")
    if os.path.exists(real) and not os.access(real, os.W_OK):
        raise Problem(f"{option}: {path} cannot be written")
    if os.path.exists(real) and not os.path.isfile(real):
        return  # a device or a pipe, which is written itself: its folder need not be writable
    try:  # permissions do not tell: root may write everywhere, yet not in /proc or on a read-only disk
        with tempfile.NamedTemporaryFile(dir=real.parent, prefix=f"{real.name}."):
            pass
    except OSError as error:
        raise Problem(f"{option}: {path} cannot be written: {error.strerror}") from None


def write(option, path, how):
    """Call ``how``, which writes ``path``. What check_output cannot foresee, a full disk say, is one line too."""
    try:
        how()
    except OSError as error:
        raise Problem(f"{option}: {path} cannot be written: {error.strerror}") from None


def check_outputs(options):
    """Find out before training what would go wrong after it."""
    for option, path in (("--save", options.save), ("--plot", options.plot)):
        if path:
            check_output(option, path)
    if options.plot:
        try:
            from matplotlib.backends.backend_agg import FigureCanvasAgg
        except ImportError:
            raise Problem("--plot needs matplotlib: pip install 'minigrad-engine[plot]'") from None
        kind = Path(options.plot).suffix.lstrip(".").lower() or "png"
        if kind not in FigureCanvasAgg.get_supported_filetypes():
            raise Problem(f"--plot: cannot draw files of type {kind!r}; use curve.png")
        if not options.epochs:
            raise Problem("--plot: there is nothing to draw with --epochs 0")


def run(options):
    """Train and evaluate; the test accuracy."""
    check_outputs(options)
    device = chosen_device(options.device)
    train, test = load_mnist(options.data) if options.data else load_digits()
    mg.manual_seed(options.seed)
    images, labels = train.tensors
    classes = max(10, int(labels.max()) + 1, int(test.tensors[1].max()) + 1)
    model = make_model(images.shape[1], options.hidden, classes)
    if options.load:
        load_weights(model, options.load)
    model.to(device)
    lr = LEARNING_RATES[options.optimizer] if options.lr is None else options.lr
    optimizer = make_optimizer(options.optimizer, model.parameters(), lr, options.momentum)
    criterion = nn.CrossEntropyLoss()
    step = make_step(model, criterion, optimizer)
    step = mg.compile(step) if options.compile else step
    pinned = device.type != "cpu"
    train_loader = DataLoader(train, options.batch_size, shuffle=True, pin_memory=pinned)
    test_loader = DataLoader(test, 1024, pin_memory=pinned)
    print(f"{len(train)} training and {len(test)} test images, {sum(p.numel() for p in model.parameters())} parameters")

    history = []
    with tqdm(total=options.epochs * len(train_loader), unit="batch", leave=False, disable=None) as bar:
        for epoch in range(1, options.epochs + 1):
            train_loss, speed = train_epoch(model, train_loader, step, bar, device)
            test_loss, accuracy = evaluate(model, test_loader, criterion, device)
            history.append((train_loss, test_loss, accuracy))
            bar.write(
                f"epoch {epoch:3d}  train loss {train_loss:.4f}  test loss {test_loss:.4f}  "
                f"test accuracy {accuracy:.4f}  {speed:,.0f} samples/s"
            )
    accuracy = history[-1][2] if history else evaluate(model, test_loader, criterion, device)[1]
    print(f"test accuracy {accuracy:.4f}")
    if options.save:
        write("--save", options.save, lambda: mg.save(model.state_dict(), options.save))
        print(f"weights written to {options.save}")
    if options.plot:
        write("--plot", options.plot, lambda: plot(options.plot, history))
        print(f"curve drawn to {options.plot}")
    return accuracy


def main(arguments=None):
    options = parse_arguments(arguments)
    try:
        accuracy = run(options)
        sys.stdout.flush()  # here, where a closed pipe is caught
    except Problem as problem:
        print(f"train_mlp.py: error: {problem}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"train_mlp.py: error: out of memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("train_mlp.py: interrupted", file=sys.stderr)
        return 130
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes when it exits
        if isinstance(error, BrokenPipeError):  # `| head -1` has read enough
            return 141
        print(f"train_mlp.py: error: {error}", file=sys.stderr)  # a full disk behind `> log`, say
        return 2
    return 1 if options.data is None and accuracy < REQUIRED else 0


if __name__ == "__main__":
    sys.exit(main())
