"""Who may import whom: the tables below are the rule, read from the sources themselves."""

import ast
import functools
import re
import sys
from pathlib import Path

import pytest

import minigrad

ROOT = Path(__file__).parent.parent

# A part of minigrad, and the parts that it may import; itself always, minigrad/__init__.py everything.
ENGINE = {"kernels", "_record", "_storage", "_launch", "_plug", "_hooks", "_engine", "_gradmode", "_walk"}
BASICS = {*ENGINE, "size", "ops", "device", "interchange", "creation", "random", "printing"}
LAYERS = {
    "kernels": set(),
    "_record": set(),
    "_storage": {"kernels", "_record"},
    "_launch": {"kernels", "_record", "_storage"},
    "_plug": set(),
    "_hooks": set(),
    "_engine": {"kernels", "_record", "_storage", "_launch", "_plug", "_hooks"},
    "engine": set(),  # parts of _engine.pyx, which imports what they need
    "_gradmode": {"_plug", "_engine"},
    "_walk": {"_record", "_storage", "_launch", "_plug", "_engine"},
    "ops": ENGINE,
    "_guards": ENGINE,
    "_fuse": {"kernels"},
    "_program": {*ENGINE, "_guards"},
    "_reach": {*ENGINE, "_guards", "_program"},
    "_draft": {*ENGINE, "_guards", "_fuse", "_program"},
    "_passes": {*ENGINE, "_guards", "_fuse", "_program", "_draft"},
    "_capture": {*ENGINE, "_guards", "_program", "_draft", "_passes"},
    "_limits": {*ENGINE, "_program"},
    "_explain": {"_launch", "_limits"},
    "compile": {*ENGINE, "_guards", "_program", "_reach", "_capture", "_explain"},
    "_dlpack": set(),
    "device": {"kernels", "_storage"},
    "cuda": {"kernels", "_record", "device", "random"},
    "interchange": {*ENGINE, "_dlpack", "device"},
    "size": set(),
    "version": set(),
    "settings": set(),
    "printing": ENGINE,
    "memory": ENGINE,
    "creation": {*ENGINE, "ops", "device", "interchange"},
    "random": {*ENGINE, "ops", "device", "creation"},
    "tensor": BASICS,
    "autograd": {*BASICS, "tensor"},
    "data": {*BASICS, "tensor"},
    "nn": {*BASICS, "tensor"},
    "optim": {*BASICS, "tensor"},
    "serialization": {*BASICS, "tensor"},
    "testing": {*BASICS, "tensor", "autograd"},
    "utils": {*BASICS, "tensor", "data"},
}
# What a single file may import besides: an averaged model is a Module, optimizers know none; a module compiles itself.
FILES = {"minigrad/optim/swa_utils.py": {"nn"}, "minigrad/nn/module.py": {"compile"}}
# Packages besides the standard library (and what Cython brings); numpy for all others.
PACKAGES = {
    "kernels": {"numpy", "numba", "llvmlite", "scipy_openblas32"},
    "serialization": {"numpy", "safetensors"},
}
PRETEND = "tests/pretend.py"  # stands for a driver
# compile.py: PyTorch's names of modes
KNOW_CUDA = {f"minigrad/{name}.py" for name in ("device", "cuda", "interchange", "compile", "__init__")}
STANDARD = {*sys.stdlib_module_names, "cython", "cpython", "libc"}

parse = functools.cache(ast.parse)  # of every file, in several tests
PYX_IMPORT = re.compile(r"^[ \t]*(?:from\s+([\w.]+)\s+)?c?import\s+(\([^)]*\)|[^\n#]+)", re.MULTILINE)
PYX_SILENT = re.compile(r'""".*?"""|#[^\n]*', re.DOTALL)


def sources(*folders, endings=(".py", ".pyx", ".pxd", ".pxi")):
    """Source files as paths relative to the project, forward slashes; not those that asv and the like keep in .folders,
    nor through the link minigrad/kernels."""
    found = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in endings]
    names = {path.relative_to(ROOT).as_posix() for path in found}
    return sorted(name for name in names if not name.startswith("minigrad/kernels/") and "/." not in name)


def imports(path, text):
    """Dotted names that the file imports: ``minigrad.ops.shape.stack`` for ``from .shape import stack``."""
    package = ("minigrad/" + path if path.startswith("kernels/") else path).split("/")[:-1]
    if path.endswith(".py"):
        found = []
        for node in ast.walk(parse(text)):
            if isinstance(node, ast.Import):
                found += [("", alias.name) for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                found += [("." * node.level + (node.module or ""), alias.name) for alias in node.names]
    else:
        found = [
            (module, name.split()[0])
            for module, names in PYX_IMPORT.findall(PYX_SILENT.sub("", text))
            for name in names.strip("()").split(",")
            if name.strip()
        ]
    for module, name in found:
        level = len(module) - len(module.lstrip("."))
        base = package[: len(package) - level + 1] if level else []
        yield ".".join(part for part in [*base, module.lstrip("."), name] if part)


def layer_of(path):
    return "kernels" if path.startswith("kernels/") else path.split("/")[1].split(".")[0]


def import_errors(path, text):
    """The imports of a file of the package that its layer does not allow."""
    layer = layer_of(path)
    if layer == "__init__":
        return []
    assert layer in LAYERS, f"{path}: give this part of minigrad a row in LAYERS"
    packages = PACKAGES.get(layer, {"numpy"}) | ({"cuda"} if path.startswith("kernels/cuda/") else set())
    allowed = {layer, *LAYERS[layer], *FILES.get(path, ())}
    errors = []
    for name in imports(path, text):
        top, _, rest = name.partition(".")
        part = rest.split(".")[0]
        if top == "minigrad" and part not in allowed:
            errors.append(f"{layer} must not import {name}")
        if top != "minigrad" and top not in packages | STANDARD:
            errors.append(f"{layer} must not import the package {top}")
    return errors


def public_errors(path, text):
    """Names of minigrad that are not public, imported or reached as an attribute of the package."""
    named = (n for n in ast.walk(parse(text)) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name))
    used = [f"minigrad.{n.attr}" for n in named if n.value.id in ("mg", "minigrad")]
    for name in [*imports(path, text), *used]:
        top, *rest = name.split(".")
        if top == "minigrad" and any(re.match(r"_(?!_)|kernels$", part) for part in rest):
            yield f"{name} is not public"


def says_cuda(path, text):
    """Whether code says it: comments and docstrings may."""
    if not path.endswith(".py"):
        return "cuda" in PYX_SILENT.sub("", text).lower()
    tree = parse(text)
    silent = {id(n.value) for n in ast.walk(tree) if isinstance(n, ast.Expr)}  # docstrings
    words = (v for n in ast.walk(tree) if id(n) not in silent for _, v in ast.iter_fields(n))
    return any("cuda" in word.lower() for word in words if isinstance(word, str))


def read(path):
    return (ROOT / path).read_text(encoding="utf-8")


@pytest.mark.parametrize("path", sources("minigrad", "kernels"))
def test_imports_point_downwards(path):
    assert import_errors(path, read(path)) == []


USERS = [path for path in sources("tests", "benchmarks", "examples", endings=(".py",)) if path != PRETEND]


@pytest.mark.parametrize("path", USERS)
def test_users_need_public_names_only(path):
    if not path.startswith(("tests/kernels/", "tests/cuda/")):
        assert list(public_errors(path, read(path))) == []


@pytest.mark.parametrize("path", sources("minigrad", "kernels"))
def test_only_the_device_layer_knows_cuda(path):
    if path not in KNOW_CUDA and not path.startswith("kernels/cuda/"):
        assert not says_cuda(path, read(path))


# The rules themselves: each line must be caught.
@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("kernels/reduce.py", "from .._engine import Tensor"),
        ("kernels/reduce.py", "import scipy"),
        ("kernels/cuda/reduce.py", "import cupy"),
        ("kernels/blas.pyx", "from .._storage cimport (\n    Storage,\n    dtype,\n)"),
        ("minigrad/_engine.pyx", "def f():\n    from .ops import shape"),
        ("minigrad/_engine.pxd", "from . cimport tensor"),
        ("minigrad/engine/tape.pxi", "from .._storage cimport Storage"),
        ("minigrad/ops/reduce.py", "from .. import tensor"),
        ("minigrad/ops/shape/joining.py", "from ... import tensor"),
        ("minigrad/ops/shape/joining.py", "def f():\n    import minigrad"),
        ("minigrad/ops/linear.pyx", "cimport numpy, minigrad.nn.linear"),
        ("minigrad/optim/adam.py", "from ..nn.module import Module"),
        ("minigrad/compile.py", "from .ops.shape import stack"),
    ],
)
def test_import_rule_can_fail(path, text):
    assert import_errors(path, text)


@pytest.mark.parametrize("text", ["from minigrad._engine import Op", "import minigrad.kernels.math", "mg._engine.Op"])
def test_public_rule_can_fail(text):
    assert list(public_errors("tests/test_x.py", text))


@pytest.mark.parametrize(
    ("path", "text", "expected"),
    [
        ("minigrad/tensor.py", "def to_CUDA(): pass", True),
        ("minigrad/tensor.py", "device = f'cuda:{i}'", True),
        ("minigrad/tensor.py", "def f():\n    'not on cuda'  # nor CUDA", False),
        ("minigrad/_engine.pyx", 'cdef int cuda = 0  # """', True),
        ("minigrad/_engine.pyx", 'cdef int f():\n    """cuda"""\n    # cuda', False),
    ],
)
def test_cuda_rule_can_fail(path, text, expected):
    assert says_cuda(path, text) is expected


def test_one_version_everywhere():
    built = re.search(r"version: '([\d.]+)'", (ROOT / "meson.build").read_text()).group(1)
    declared = re.search(r'^version = "([\d.]+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE).group(1)
    assert minigrad.__version__ == built == declared
