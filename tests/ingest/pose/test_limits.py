"""A function in a limited process returns a result or a reason."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from pose_fakes import do, sleep_with_child

from wnv.ingest.pose.limits import run_limited
from wnv.ingest.tasks import StageError

_LIMITS = {"time_limit_s": 60.0, "memory_limit_gb": 2.0}
# Generous, for a busy machine.
_PATIENCE_S = 60.0


def _is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state not in "ZX"


def _wait_for(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + _PATIENCE_S
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def _are_gone(*pids: int) -> bool:
    return not any(map(_is_running, pids))


def test_returns_the_result_or_raises_the_exception(tmp_path: Path) -> None:
    assert run_limited(do, folder=tmp_path, act="hello", **_LIMITS) == "hello"
    with pytest.raises(RuntimeError, match="UnreadableError: 1 and 2"):
        run_limited(do, folder=tmp_path, act="raise_unreadable", **_LIMITS)


@pytest.mark.parametrize(
    ("act", "reason", "text"),
    [
        ("abort", "crashed", "SIGABRT: terminate called, no runtime for ALIKED"),
        ("hog", "out_of_memory", "memory_limit_gb=2"),
        ("exit", "crashed", "exit code 3"),
    ],
)
def test_a_failed_process_has_a_reason(act: str, reason: str, text: str, tmp_path: Path) -> None:
    with pytest.raises(StageError) as caught:
        run_limited(do, folder=tmp_path, act=act, **_LIMITS)
    outcome = caught.value.outcome
    assert (outcome.state, outcome.reason) == ("failed", reason)
    assert text in outcome.message


def test_a_timeout_kills_the_process_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pids"

    class Process(subprocess.Popen):
        """Starts the timeout when the child exists."""

        def wait(self, timeout: float | None = None) -> int:
            if timeout is not None:
                assert _wait_for(note.exists)
            return super().wait(timeout)

    monkeypatch.setattr(subprocess, "Popen", Process)
    with pytest.raises(StageError) as caught:
        run_limited(sleep_with_child, folder=tmp_path, time_limit_s=0.5, memory_limit_gb=2, note=str(note))
    assert caught.value.outcome.reason == "timeout"
    assert "0.5 s" in caught.value.outcome.message
    pids = [int(pid) for pid in note.read_text().split()]
    assert len(pids) == 2
    assert _wait_for(lambda: _are_gone(*pids))


def test_it_ends_with_a_killed_caller(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    program = (
        "from pathlib import Path; from pose_fakes import sleep_with_child; "
        "from wnv.ingest.pose.limits import run_limited; "
        f"run_limited(sleep_with_child, folder=Path({str(tmp_path)!r}), time_limit_s=600, memory_limit_gb=2, "
        f"note={str(note)!r})"
    )
    caller = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    try:
        assert _wait_for(note.exists)
    finally:
        caller.kill()
        caller.wait()
    pid, grandchild = (int(word) for word in note.read_text().split())
    try:
        assert _wait_for(lambda: _are_gone(pid))
    finally:
        os.kill(grandchild, signal.SIGKILL)
