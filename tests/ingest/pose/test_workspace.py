"""Temporary folders are removed, also those of killed processes."""

import errno
import fcntl
import os
import subprocess
import sys
from pathlib import Path

import pytest

from wnv.ingest.pose.workspace import _PREFIX, temporary_workspace


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
    kept = {f"{_PREFIX}without-lock", "wnv-pose-other_node-1"}
    for name in kept:
        (tmp_path / name).mkdir()
    (tmp_path / "wnv-pose-other_node-1" / "lock").touch()  # this host does not see its lock
    with temporary_workspace(tmp_path) as first, temporary_workspace(tmp_path) as second:
        assert not abandoned.exists()
        assert first.is_dir()
        assert second.is_dir()
    assert {path.name for path in tmp_path.iterdir()} == kept


def test_a_file_system_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", flock)
    with temporary_workspace(tmp_path) as first, temporary_workspace(tmp_path):
        assert first.is_dir()
    assert list(tmp_path.iterdir()) == []
