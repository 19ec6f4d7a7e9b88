"""Fixtures of the notebooks: a folder to execute them in."""

import importlib
from pathlib import Path

import pytest
from notebook_run import kernel_environment


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder to execute in, and a kernel of this Python."""
    # Builds Matplotlib's font cache, if missing, here: in a cell, a slow build would write to stderr.
    importlib.import_module("matplotlib.font_manager")
    for name, value in kernel_environment(tmp_path / "jupyter").items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    folder = tmp_path / "notebooks"
    folder.mkdir()
    return folder
