"""Temporary files of killed writers are removed; those of running writers are not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wnv.runtime.atomic import atomic_file, sweep_temporary_files


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc to recognise a zombie")
def test_next_writer_removes_file_of_killed_writer(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from wnv.runtime.atomic import atomic_file
with atomic_file(Path({str(tmp_path / "scene.zip")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    writer = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # a zombie: dead, but still listed
    assert len(os.listdir(tmp_path)) == 1
    with atomic_file(tmp_path / "scene.zip") as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == ["scene.zip"]
    assert writer.wait() == -signal.SIGKILL


def test_sweep_keeps_files_of_running_writers_and_of_other_hosts(tmp_path: Path) -> None:
    other, unrelated = tmp_path / ".scene.zip.node_7-1-00000000.tmp", tmp_path / ".cache.tmp"
    with atomic_file(tmp_path / "scene.zip"):
        for path in (other, unrelated):
            path.touch()
        assert sweep_temporary_files(tmp_path) == []
        assert sweep_temporary_files(tmp_path, other_hosts=True) == [other]
    assert sorted(tmp_path.iterdir()) == [unrelated, tmp_path / "scene.zip"]
