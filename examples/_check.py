"""What the scripts here share: numbers that are printed and checked, and --plot."""

import argparse
import contextlib
import importlib.util
import io

import numpy as np

import minigrad as mg


def close(name, got, expected, tolerance=5e-5):
    """Print ``got`` (a tensor, array, list or number); exit status 1 if it is not ``expected`` within ``tolerance``."""
    got = np.asarray(got.tolist() if hasattr(got, "tolist") else got, np.float64)
    expected = np.asarray(expected, np.float64)
    if got.shape != expected.shape or not np.all(np.abs(got - expected) <= tolerance):  # nan is not close to anything
        raise SystemExit(f"{name}: got {got.tolist()}, expected {expected.tolist()} within {tolerance:g}")
    print(f"{name:52}  {text(got.tolist())}")


def text(value):
    """Nested lists of numbers with six significant digits."""
    return f"[{', '.join(map(text, value))}]" if isinstance(value, list) else f"{value:.6g}"


def true(name, statement):
    """Print ``name``, a statement; exit status 1 if it does not hold."""
    if not statement:
        raise SystemExit(f"{name}: no")
    print(f"{name:52}  yes")


def refused(name, error, message, call, *arguments, **options):
    """Print the exception of ``call``; exit status 1 unless it is an ``error`` with ``message`` in its text."""
    try:
        call(*arguments, **options)
    except error as problem:
        if message not in str(problem):
            raise SystemExit(f"{name}: {str(problem)!r} does not say {message!r}") from None
        print(f"{name:52}  {type(problem).__name__}: {str(problem).splitlines()[0]}")
    else:
        raise SystemExit(f"{name}: no {error.__name__}")


def arguments(doc, compiles=False):
    """The options of a script, for training --compile too. From here on, tensors are made on --device."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plot", metavar="FILE", help="draw it, as a PNG image")
    parser.add_argument("--device", metavar="NAME", default="cpu", help="cpu or cuda (default: cpu)")
    if compiles:
        parser.add_argument("--compile", action="store_true", help="record the step and replay it: the same numbers")
    options = parser.parse_args()
    try:
        mg.set_default_device(options.device)
    except RuntimeError as error:
        parser.exit(2, f"{parser.prog}: error: --device: {error}\n")
    if options.plot and options.device != "cpu":
        parser.error("--plot draws what the CPU computes: leave out --device")
    if options.plot and importlib.util.find_spec("matplotlib") is None:
        parser.exit(2, f"{parser.prog}: error: --plot needs matplotlib: pip install 'minigrad-engine[plot]'\n")
    return options


@contextlib.contextmanager
def drawing(path, columns=1, rows=1, size=(4.5, 3.2), **options):
    """The axes (an array of them if several) of a figure that is written to ``path``, as PNG, at the end."""
    from matplotlib.figure import Figure
    from PIL import Image  # which matplotlib needs too

    figure = Figure(figsize=(size[0] * columns, size[1] * rows), layout="constrained")
    yield figure.subplots(rows, columns, **options)
    image = io.BytesIO()
    figure.savefig(image, format="png", dpi=80)
    try:
        Image.open(image).convert("RGB").quantize(255).save(path, "PNG", optimize=True)  # a third of the bytes
    except OSError as problem:
        raise SystemExit(f"--plot: {path} cannot be written: {problem}") from None
    print(f"drawn to {path}")
