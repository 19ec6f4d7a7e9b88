"""Imports between rooms: the contracts of pyproject.toml hold, and each of them can fail."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def check_contracts(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the contracts of the tree in `folder`, as `make lint` does."""
    command = "from importlinter.cli import lint_imports_command; lint_imports_command(['--no-cache'])"
    return subprocess.run([sys.executable, "-c", command], cwd=folder, capture_output=True, text=True)


def test_contracts_hold():
    outcome = check_contracts(ROOT)
    assert outcome.returncode == 0, outcome.stdout


@pytest.mark.slow
def test_contracts_can_be_broken(tmp_path):
    shutil.copytree(ROOT / "wnv", tmp_path / "wnv", ignore=shutil.ignore_patterns("__pycache__", "weights"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    offences = {
        "models/a.py": ("import wnv.losses", "wnv.models is not allowed to import wnv.losses"),
        "geometry/a.py": ("import wnv.scenes", "wnv.geometry is not allowed to import wnv.scenes"),
        "ingest/a.py": ("import wnv.data", "wnv.ingest is not allowed to import wnv.data"),
        "viewer/a.py": ("import wnv.cli", "wnv.viewer is not allowed to import wnv.cli"),
        "viewer/b.py": ("import wnv.benchmarks", "wnv.viewer is not allowed to import wnv.benchmarks"),
        "helpers/__init__.py": ("", "wnv.helpers"),
        "__init__.py": ("import torch\nimport wnv.types", "wnv is not allowed to import torch"),
        "training/a.py": ("def f():\n    import torch_npu", "wnv is not allowed to import torch_npu"),
        "models/b.py": ("import lightning.pytorch", "wnv.models is not allowed to import lightning"),
        "scenes/a.py": ("from hydra import compose", "wnv.scenes is not allowed to import hydra"),
        "data/a.py": ("from omegaconf import DictConfig", "wnv.data is not allowed to import omegaconf"),
    }
    for file, (statement, _) in offences.items():
        path = tmp_path / "wnv" / file
        path.parent.mkdir(exist_ok=True)
        with path.open("a") as stream:
            stream.write(f"\n{statement}\n")
    outcome = check_contracts(tmp_path)
    assert outcome.returncode != 0
    assert [complaint for _, complaint in offences.values() if complaint not in outcome.stdout] == []
    assert "wnv is not allowed to import wnv.types" in outcome.stdout
