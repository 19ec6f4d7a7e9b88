"""Temporary folders are removed, also those of killed processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from wnv.ingest.pose.workspace import temporary_workspace


def test_is_removed_when_the_block_ends_or_raises(tmp_path: Path) -> None:
    with temporary_workspace(tmp_path / "deep") as workspace:
        (workspace / "file").write_text("x")
    with pytest.raises(FileNotFoundError), temporary_workspace(tmp_path / "deep") as workspace:
        (workspace / "missing").read_text()
    assert list((tmp_path / "deep").iterdir()) == []


def test_removes_only_workspaces_of_killed_processes(tmp_path: Path) -> None:
    program = (
        "import os; from pathlib import Path; from wnv.ingest.pose.workspace import temporary_workspace\n"
        f"with temporary_workspace(Path({str(tmp_path)!r})) as workspace:\n"
        "    (workspace / 'file').write_text('x'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    (abandoned,) = tmp_path.iterdir()
    (tmp_path / "wnv-pose-without-lock").mkdir()
    with temporary_workspace(tmp_path) as first, temporary_workspace(tmp_path) as second:
        assert not abandoned.exists()
        assert first.is_dir()
        assert second.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["wnv-pose-without-lock"]
