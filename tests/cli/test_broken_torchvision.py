"""A torchvision that does not load: commands that import Lightning say so in one line, the others work."""

import os
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

PYPROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
SCRIPTS: dict[str, str] = PYPROJECT["project"]["scripts"]


@pytest.fixture
def call(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a command beside a torchvision that fails as PyPI's build does with a torch for CPUs."""
    package, metadata = tmp_path / "path" / "torchvision", tmp_path / "path" / "torchvision-0.28.0.dist-info"
    package.mkdir(parents=True)
    metadata.mkdir()
    (package / "__init__.py").write_text('raise RuntimeError("operator torchvision::nms does not exist")\n')
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: torchvision\nVersion: 0.28.0\n")
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "path")}

    def run(command: str, *words: str) -> subprocess.CompletedProcess[str]:
        module, function = SCRIPTS[f"wnv-{command}"].split(":")
        program = [sys.executable, "-c", f"from {module} import {function} as main; main()"]
        return subprocess.run([*program, *words], cwd=tmp_path, env=environment, capture_output=True, text=True)

    return run


@pytest.mark.slow
def test_a_torchvision_that_does_not_load_is_one_line_or_not_noticed(call: Callable, tmp_path: Path) -> None:
    for command, *words in (
        ("train", "experiment=smoke", "device=cpu"),
        ("eval", "data.num_val_scenes=1"),
        ("render", "num_views=2"),
        ("demo",),
    ):
        done = call(command, *words)
        assert done.returncode == 2, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"wnv-{command}: error: torchvision 0.28.0 does not fit torch 2.")
        assert "pip uninstall torchvision" in line
    for command, *words in (("export", "weights=konet_tiny", "out=copy"), ("data", "verify", "--help")):
        done = call(command, *words)
        assert (done.returncode, done.stderr) == (0, "")
    assert {path.name for path in tmp_path.iterdir()} == {"path", "copy"}
