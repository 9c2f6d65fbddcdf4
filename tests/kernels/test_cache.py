"""The cache of object code: what a warm process loads, who may have written it, and what it survives."""

import contextlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import llvmlite
import llvmlite.binding as llvm
import pytest

from minigrad.kernels import contract

from ..processes import run_python

KEY, OTHER = ("elementwise.fill", "float32", ""), ("elementwise.add", "float32", "")
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="permissions are POSIX's")
NOBODY = 65534


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A function that forgets what this process knows of its cache, as a new process; the folder is ``base``'s."""
    name = contract._fingerprint()
    monkeypatch.setattr(contract, "_fingerprint", lambda: name)  # ``unprivileged`` may not be able to read the sources

    def fresh(base=tmp_path):
        monkeypatch.setenv("MINIGRAD_CACHE_DIR", str(base))
        state = {**contract._state, "folder": None, "usable": None, "warned": False}
        monkeypatch.setattr(contract, "_state", state)
        return contract.cache_folder()

    return fresh


@contextlib.contextmanager
def unprivileged():
    """As a user whom permissions bind, which they do not root."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


@pytest.fixture
def open_folder():
    """A folder that any user can reach (pytest's cannot be), of the user that ``unprivileged`` is."""
    path = Path(tempfile.mkdtemp())
    path.chmod(0o755)
    if os.geteuid() == 0:
        os.chown(path, NOBODY, NOBODY)
    yield path
    path.chmod(0o700)
    shutil.rmtree(path)


def once(*calls):
    """The one warning of several calls."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for call in calls:
            call()
    (warning,) = caught
    return str(warning.message)


def write(code=b"code"):
    return contract._write(KEY, code)


def read():
    return contract._read(KEY)


# --- the folder -------------------------------------------------------------------------------------------------------


@POSIX
def test_folder_and_files_are_made_for_their_owner_alone(cache):
    folder = cache()
    before = os.umask(0)
    try:
        write()
    finally:
        os.umask(before)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (file,) = folder.iterdir()
    assert file.name == "elementwise.fill.float32.o" and stat.S_IMODE(file.stat().st_mode) == 0o600
    assert read() == b"code"


def test_where_the_folder_is(monkeypatch, tmp_path):
    def parent(home=None, **environment):
        monkeypatch.setattr(contract, "_state", {**contract._state, "folder": None})
        for name in ("MINIGRAD_CACHE_DIR", "LOCALAPPDATA", "XDG_CACHE_HOME"):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, str(value))
        monkeypatch.setattr(os.path, "expanduser", lambda path: path.replace("~", home or "~"))
        return contract.cache_folder().parent

    assert parent(MINIGRAD_CACHE_DIR=tmp_path) == tmp_path
    assert parent(XDG_CACHE_HOME=tmp_path) == tmp_path / "minigrad"
    assert parent(str(tmp_path), XDG_CACHE_HOME="relative") == tmp_path / ".cache" / "minigrad"
    assert parent(str(tmp_path), XDG_CACHE_HOME="") == tmp_path / ".cache" / "minigrad"
    if hasattr(os, "getuid"):  # a user without a home
        assert parent() == Path(tempfile.gettempdir()) / f"minigrad-{os.getuid()}"
    monkeypatch.chdir(tmp_path)
    assert parent(MINIGRAD_CACHE_DIR="relative") == tmp_path / "relative"


@POSIX
@pytest.mark.skipif(sys.platform == "win32", reason="the home comes from the user database")
def test_without_the_variable_home(monkeypatch):
    for name in ("HOME", "MINIGRAD_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(contract, "_state", {**contract._state, "folder": None})
    assert contract.cache_folder().is_absolute()


def test_the_key(monkeypatch, tmp_path):
    """Any other source, version or CPU is another folder; the same ones are the same folder."""
    here = Path(contract.__file__).parent
    sources = sorted(here.glob("*.py"))
    for path in sources:
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(contract, "__file__", str(tmp_path / "contract.py"))
    found = [contract._fingerprint()]
    assert found == [contract._fingerprint()] and len(sources) > 10
    for path in sources:
        copy = tmp_path / path.name
        text = copy.read_text(encoding="utf-8")
        copy.write_text(text.replace("a", "b", 1), encoding="utf-8")
        found.append(contract._fingerprint())
        copy.write_text(text, encoding="utf-8")
    for owner, name, value in (
        (contract, "_numba_version", lambda: "0.1"),
        (llvmlite, "__version__", "0.1"),
        (llvm, "get_host_cpu_name", lambda: "i386"),
        (llvm, "get_host_cpu_features", lambda: llvm.FeatureMap({"sse": True})),
        (sys, "platform", "plan9"),
    ):
        with monkeypatch.context() as changed:
            changed.setattr(owner, name, value)
            found.append(contract._fingerprint())
    assert len(set(found)) == len(found)
    assert contract._fingerprint() == found[0]


def test_the_version_of_numba_without_importing_it():
    import numba

    assert numba.__version__ in contract._numba_version()


# --- files that are no use --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["truncated", "empty", "garbage", "flipped bit", "other version", "other kernel"])
def test_damaged_files_are_written_again(damage, cache):
    folder = cache()
    write()
    (file,) = folder.iterdir()
    whole = file.read_bytes()
    file.write_bytes({
        "truncated": whole[:-1],
        "empty": b"",
        "garbage": bytes(range(256)),
        "flipped bit": whole[:-1] + bytes([whole[-1] ^ 1]),
        "other version": whole.replace(contract._MAGIC, contract._MAGIC[:-1] + b"0"),
        "other kernel": contract._check(OTHER, b"code") + b"code",
    }[damage])  # fmt: skip
    assert read() is None
    write()
    assert read() == b"code" and list(folder.iterdir()) == [file]


def test_a_folder_in_place_of_a_file(cache):
    file = cache() / "elementwise.fill.float32.o"
    file.mkdir(parents=True)
    file.parent.chmod(0o700)
    assert read() is None
    assert "cannot be written" in once(write)
    assert [path.name for path in file.parent.iterdir()] == ["elementwise.fill.float32.o"]


# --- folders that are no use: one warning, and everything works -------------------------------------------------------


def test_a_file_in_place_of_the_folder(cache, tmp_path):
    (tmp_path / "file").write_text("")
    folder = cache(tmp_path / "file")
    message = once(read, write, write, read)
    assert str(folder) in message and "MINIGRAD_CACHE_DIR" in message


@POSIX
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o722, 0o1777])
def test_a_folder_that_others_may_write_is_not_used(mode, cache):
    folder = cache()
    write()
    folder.chmod(mode)
    cache()
    message = once(lambda: read() is None or pytest.fail("read"), lambda: write(b"new"), read)
    assert f"{folder} is not used" in message
    folder.chmod(0o700)
    cache()
    assert read() == b"code" and len(list(folder.iterdir())) == 1


@POSIX
@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root gives files away")
def test_a_folder_of_somebody_else_is_not_used(cache):
    folder = cache()
    write()
    os.chown(folder, NOBODY, NOBODY)
    cache()
    assert f"{folder} is not used" in once(read, write)
    os.chown(folder, 0, 0)
    (file,) = folder.iterdir()
    os.chown(file, NOBODY, NOBODY)
    cache()
    assert read() is None  # one file: replaced
    write(b"new")
    assert read() == b"new"


@POSIX
@pytest.mark.parametrize("mode", [0o660, 0o602])
def test_a_file_that_others_may_write_is_replaced(mode, cache):
    folder = cache()
    write()
    (file,) = folder.iterdir()
    file.chmod(mode)
    assert read() is None
    write(b"new")
    assert read() == b"new"


@POSIX
def test_a_folder_that_may_only_be_read(cache, open_folder):
    with unprivileged():
        folder = cache(open_folder)
        write()
        folder.chmod(0o500)
        cache(open_folder)
        assert read() == b"code"  # without a warning
        message = once(lambda: contract._write(OTHER, b"code"), lambda: contract._write(OTHER, b"code"))
        assert f"{folder} cannot be written" in message and "Permission denied" in message
        folder.chmod(0o700)
    if os.geteuid() == 0:  # root's, such as in an image made by another user: trusted
        for path in (folder, *folder.iterdir()):
            os.chown(path, 0, 0)
            path.chmod(0o755)
        cache(open_folder)
        with unprivileged():
            assert read() == b"code"


@POSIX
def test_a_place_where_nothing_may_be_made(cache, open_folder):
    open_folder.chmod(0o555)
    with unprivileged():
        folder = cache(open_folder / "deeper")
        assert f"{folder} cannot be written" in once(read, write, write)


@POSIX
@pytest.mark.parametrize("closed", ["folder", "parent"])
def test_a_folder_without_permissions(closed, cache, open_folder):
    with unprivileged():
        folder = cache(open_folder / "parent")
        write()
        shut = folder if closed == "folder" else folder.parent
        shut.chmod(0)
        cache(open_folder / "parent")
        try:
            assert str(folder) in once(read, write, write)
        finally:
            shut.chmod(0o700)


def test_a_writer_that_is_interrupted_leaves_nothing(cache, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    folder = cache()
    monkeypatch.setattr(os, "replace", stop)
    with pytest.raises(KeyboardInterrupt):
        write()
    assert list(folder.iterdir()) == []


# --- processes of their own -------------------------------------------------------------------------------------------

ADD = """
import sys
import minigrad as mg
print("ready", flush=True)
sys.stdin.readline()
print((mg.ones(3) + mg.ones(3)).tolist(), flush=True)
"""


def test_processes_that_start_together_on_an_empty_cache(tmp_path):
    environment = {**os.environ, "MINIGRAD_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(sys.path)}

    def start():
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen([sys.executable, "-c", ADD], **pipes, text=True, env=environment)

    def finish(process):
        output, errors = process.communicate()
        assert process.returncode == 0 and output == "[2.0, 2.0, 2.0]\n", errors
        return errors

    processes = [start() for _ in range(4)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:  # all have found nothing by now
        process.stdin.write("\n")
        process.stdin.flush()
    notices = [finish(process) for process in processes]
    assert all("compiling kernels" in text and text.count("\n") == 1 for text in notices[:1])
    names = sorted(path.name for path in tmp_path.glob("*/*"))
    assert names == ["elementwise.add.float32.o", "elementwise.fill.float32.o"]
    last = start()
    assert last.stdout.readline() == "ready\n"
    assert finish(last) == ""


def test_kernels_are_compiled_ahead(tmp_path):
    output = run_python("-m", "minigrad.kernels", "elementwise.fill", MINIGRAD_CACHE_DIR=str(tmp_path))
    names = sorted(path.name for path in tmp_path.glob("*/*"))
    assert names == ["elementwise.fill.float32.o", "elementwise.fill.int64.o"]
    assert output.startswith("2 kernels in ")
    script = "import sys, minigrad as mg; print(mg.ones(2).tolist(), 'numba' in sys.modules)"
    assert run_python("-c", script, MINIGRAD_CACHE_DIR=str(tmp_path)) == "[1.0, 1.0] False\n"


@pytest.mark.skipif(sys.platform == "win32", reason="limits are POSIX's")
def test_a_full_disk(tmp_path):
    """Nothing can be written, as on a full disk: one warning, right results, with threads too, and nothing is left."""
    script = """
import contextlib, io, resource, sys, warnings
import minigrad as mg
resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    assert (mg.ones(3) + mg.ones(3)).tolist() == [2.0, 2.0, 2.0]
    mg.set_num_threads(2)
    mg.start_threads()
    assert (mg.ones(100_000) + mg.ones(100_000)).sum().item() == 200_000
(warning,) = caught
print(warning.message)
"""
    place = tmp_path / "cache"
    output = run_python("-c", script, MINIGRAD_CACHE_DIR=str(place), NUMBA_CACHE_DIR=str(tmp_path / "numba"))
    assert str(place) in output and "cannot be written" in output
    assert list(place.glob("*/*")) == []


FIRST_STEP = """
import sys
import minigrad as mg
from minigrad import nn
model = nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
optimizer = mg.optim.Adam(model.parameters())
x, y = mg.randn(16, 64), mg.randint(0, 10, (16,))
optimizer.zero_grad()
nn.functional.cross_entropy(model(x), y).backward()
optimizer.step()
print(*sorted(sys.modules))
"""


def test_what_a_warm_first_step_imports():
    run_python("-c", FIRST_STEP)
    loaded = set(run_python("-c", FIRST_STEP).split())
    assert "minigrad.optim.adam" in loaded
    slow = {"numba", "numpy", "scipy", "safetensors", "importlib.metadata", "email", "traceback", "unittest", "pdb"}
    assert loaded & slow == set()
