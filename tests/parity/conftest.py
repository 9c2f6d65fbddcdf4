"""Everything in this folder compares with PyTorch: collected, and torch imported, only by `pytest -m parity`."""

from pathlib import Path

import pytest

from . import comparing


def pytest_ignore_collect(collection_path, config):
    asked = config.option.markexpr == "parity"
    return True if collection_path.name.startswith("test_") and not asked else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.parity)


def pytest_terminal_summary(terminalreporter):
    for name, count in comparing.counts.items():
        terminalreporter.write_line(f"{name}: {count} comparisons with PyTorch")
