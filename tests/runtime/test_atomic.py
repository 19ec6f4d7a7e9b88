"""What a killed writer left is cleared away by the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from wnv.runtime.atomic import atomic_file


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are told apart in /proc")
def test_a_dead_writer_that_nobody_has_asked_for_is_dead(tmp_path: Path) -> None:
    code = f"""
import os, signal, sys
sys.path[:] = {sys.path!r}
from pathlib import Path
from wnv.runtime.atomic import atomic_file
with atomic_file(Path({str(tmp_path / "scene.zip")!r})):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    writer = subprocess.Popen([sys.executable, "-c", code])
    os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)  # dead, and still listed
    assert len(os.listdir(tmp_path)) == 1
    with atomic_file(tmp_path / "scene.zip") as file:
        file.write(b"whole")
    assert os.listdir(tmp_path) == ["scene.zip"]
    assert writer.wait() == -signal.SIGKILL
