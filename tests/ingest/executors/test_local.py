"""Local workers: they may die, hang or be recycled, and nothing else is lost; they never outlive the driver."""

import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_stages import FakeStage, written

from wnv.ingest.executors.local import LocalExecutor, default_num_workers
from wnv.ingest.ledger import Ledger
from wnv.ingest.tasks import Outcome, Task


@pytest.fixture
def executor() -> Iterator[LocalExecutor]:
    with LocalExecutor(num_workers=2, num_fetchers=1) as made:
        yield made


def task_of(root: Path, item: str = "a", **settings: object) -> Task:
    payload = {"file": f"clips/static/train/{item}.mp4"}
    return Task(stage="pose", item=item, root=root, payload=payload, **settings)


# Generous, for a busy machine.
PATIENCE_S = 60.0


def outcomes(executor: LocalExecutor, number: int) -> dict[str, Outcome]:
    found: dict[str, Outcome] = {}
    until = time.monotonic() + PATIENCE_S
    while len(found) < number:
        assert time.monotonic() < until, found
        found |= {task.item: outcome for task, outcome in executor.wait(1.0)}
    return found


def wait_for(condition: Callable[[], object]) -> None:
    until = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.02)


def is_alive(pid: int) -> bool:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except FileNotFoundError:
        return False
    state, num_threads = fields[0], int(fields[17])
    # A zombie counts as dead once its last thread has ended.
    return state != "Z" or num_threads > 1


def wait_until_dead(*pids: int) -> None:
    wait_for(lambda: not any(map(is_alive, pids)))


def pids_of_hanging(root: Path) -> list[int]:
    """Wait until a task hangs; return its process and its child's."""
    path = root / "child.pid"
    wait_for(lambda: path.exists() and path.read_text())
    return list(map(int, path.read_text().split()))


def test_dying_workers_fail_their_tasks_only(executor: LocalExecutor, tmp_path: Path) -> None:
    failures = {"killed": ["SIGKILL"], "aborted": ["SIGABRT"], "left": ["exit"], "refused": ["too_dark"]}
    stage = FakeStage(name="pose", failures=failures)
    found: dict[str, Outcome] = {}
    for item in [*failures, "good", "better"]:
        while not executor.room("pose"):
            found |= {task.item: outcome for task, outcome in executor.wait(5.0)}
        executor.submit(stage, task_of(tmp_path, item))
    found |= outcomes(executor, 6 - len(found))
    assert {item: (outcome.state, outcome.reason) for item, outcome in found.items()} == {
        **dict.fromkeys(("killed", "aborted", "left"), ("failed", "crashed")),
        "refused": ("refused", "too_dark"),
        **dict.fromkeys(("good", "better"), ("done", "ok")),
    }
    assert re.search("SIGKILL.*last words 遗言", found["killed"].message)
    assert "SIGABRT" in found["aborted"].message
    assert "status 3" in found["left"].message
    assert found["good"].seconds > 0


def test_fetchers_and_workers_are_counted_separately(executor: LocalExecutor, tmp_path: Path) -> None:
    assert (executor.room("fetch"), executor.room("clip"), executor.room("pack")) == (1, 2, 2)
    executor.submit(FakeStage(name="pose", seconds=0.05), task_of(tmp_path))
    assert (executor.room("fetch"), executor.room("clip"), executor.room("pack")) == (1, 1, 1)
    outcomes(executor, 1)
    assert executor.room("pose") == 2


@pytest.mark.slow
def test_a_hanging_task_is_killed_with_its_children(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The executor's clock jumps once the task hangs, so that a slow start does not count.
    jumped_s = 0.0
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + jumped_s, sleep=time.sleep)
    monkeypatch.setattr("wnv.ingest.executors.local.time", clock)
    with LocalExecutor(num_workers=1, task_timeout_s=600.0) as executor:
        executor.submit(FakeStage(name="pose", failures={"a": ["hang"]}), task_of(tmp_path))
        pids = pids_of_hanging(tmp_path)
        jumped_s = 300.0
        assert executor.wait(0.0) == []
        jumped_s = 600.0
        outcome = outcomes(executor, 1)["a"]
        assert (outcome.state, outcome.reason) == ("failed", "timeout")
        wait_until_dead(*pids)
        executor.submit(FakeStage(name="pose"), task_of(tmp_path))
        assert outcomes(executor, 1)["a"].state == "done"


def test_cancelling_removes_half_written_files(
    executor: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("wnv.ingest.executors.local._GRACE_S", PATIENCE_S)
    executor.submit(FakeStage(name="pose", seconds=60.0), task_of(tmp_path))
    wait_for(lambda: list(tmp_path.rglob("*.tmp")))
    executor.cancel()
    assert list(tmp_path.rglob("*.tmp")) == []
    assert written(tmp_path) == set()
    assert executor.room("pose") == 2
    executor.submit(FakeStage(name="pose"), task_of(tmp_path))
    assert outcomes(executor, 1)["a"].state == "done"


@dataclass
class ReportsProcess:
    """Returns its process, and logs a warning."""

    name: str = "pose"

    def versions(self) -> dict[str, str]:
        return {}

    def __call__(self, task: Task) -> Outcome:
        logging.getLogger("some.library").warning("注意 %d", 7)
        return Outcome(state="done", result={"pid": os.getpid(), "session": os.getsid(0)})


@pytest.mark.slow
def test_workers_are_reused_replaced_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    import test_local  # by a name under which workers can import it

    with LocalExecutor(num_workers=1, tasks_per_worker=2) as executor:
        stage = test_local.ReportsProcess()
        pids = []
        for _ in range(4):
            executor.submit(stage, task_of(tmp_path))
            result = outcomes(executor, 1)["a"].result
            assert result["session"] == result["pid"]  # not reached by Ctrl-C
            pids.append(result["pid"])
        executor.submit(stage, task_of(tmp_path))
        pids.append(outcomes(executor, 1)["a"].result["pid"])
        os.kill(pids[-1], signal.SIGKILL)  # while idle, which fails no task
        wait_until_dead(pids[-1])
        executor.submit(stage, task_of(tmp_path))
        assert outcomes(executor, 1)["a"].result["pid"] not in pids
    assert pids[0] == pids[1] != pids[2] == pids[3]
    assert "pose a: 注意 7" in caplog.text
    wait_until_dead(*pids)


def test_a_stage_that_cannot_be_unpickled_ends_the_run(executor: LocalExecutor, tmp_path: Path) -> None:
    class Unreachable:
        name = "pose"

        def __reduce__(self) -> tuple:
            return (__import__, ("no_such_module",))

        def versions(self) -> dict[str, str]:
            return {}

        def __call__(self, task: Task) -> Outcome:
            return Outcome(state="done")

    executor.submit(Unreachable(), task_of(tmp_path))
    with pytest.raises(RuntimeError, match=r"pose: ModuleNotFoundError: .*no_such_module"):
        outcomes(executor, 1)


DRIVER = """
import sys
sys.path[:] = {path!r}
from fake_stages import fake_stages, manifest
from wnv.ingest.driver import run
from wnv.ingest.executors.local import LocalExecutor
from wnv.ingest.gate import Gate
from wnv.ingest.ledger import Ledger
with Ledger.open({root!r}, val_fraction=0.2, test_fraction=0.1) as ledger:
    ledger.add_videos(manifest({num_videos}))
    with LocalExecutor(num_workers=2, num_fetchers=1) as executor:
        print("started", flush=True)
        if {waits!r}:
            sys.stdin.readline()
        run(ledger, fake_stages(**{settings!r}), executor, gate=Gate(pause_s=0.0))
"""


def start_driver(root: Path, *, num_videos: int, waits: bool = False, **settings: object) -> subprocess.Popen:
    """Start a driver; with `waits` it runs once it reads a line."""
    code = DRIVER.format(path=sys.path, root=str(root), num_videos=num_videos, waits=waits, settings=settings)
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    driver = subprocess.Popen([sys.executable, "-c", code], **pipes, text=True)
    assert driver.stdout is not None
    assert driver.stdout.readline() == "started\n", driver.stderr.read()
    return driver


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_workers_and_their_children_end_with_the_driver(tmp_path: Path, number: signal.Signals) -> None:
    driver = start_driver(tmp_path, num_videos=1, failures={"url:000": ["hang"]})
    pids = pids_of_hanging(tmp_path)
    driver.send_signal(number)
    _, output = driver.communicate(timeout=PATIENCE_S)
    assert driver.returncode == (-signal.SIGKILL if number == signal.SIGKILL else -signal.SIGINT)
    assert number == signal.SIGKILL or "KeyboardInterrupt" in output
    wait_until_dead(*pids)
    with Ledger.read(tmp_path) as ledger:
        assert ledger.counts() == {"fetch": {"running" if number == signal.SIGKILL else "pending": 1}}


@pytest.mark.slow
def test_a_second_run_on_a_root_fails_and_the_first_continues(tmp_path: Path) -> None:
    driver = start_driver(tmp_path, num_videos=1, waits=True)
    with pytest.raises(ValueError, match=f"process {driver.pid} on"):
        Ledger.open(tmp_path, val_fraction=0.2, test_fraction=0.1)
    _, output = driver.communicate("\n", timeout=PATIENCE_S)
    assert driver.returncode == 0, output
    with Ledger.read(tmp_path) as ledger:
        assert ledger.counts()["pack"] == {"done": 2}


@pytest.mark.parametrize(
    ("cores", "memory", "per_worker_gb", "number"),
    [
        ("350000 100000", "max", 1e-3, 3),
        ("50000 100000", "max", 1e-3, 1),
        ("max 100000", "5000000000", 2.0, 2),
        ("max", "max", 1e-3, 8),
        ("max", "max", 1e9, 1),
    ],
)
def test_limits_of_a_container(
    cores: str, memory: str, per_worker_gb: float, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cpu.max").write_text(cores + "\n")
    (tmp_path / "memory.max").write_text(memory + "\n")
    monkeypatch.setattr("wnv.runtime.machine._CONTAINER", tmp_path)
    monkeypatch.setattr("os.sched_getaffinity", lambda process: range(8))
    monkeypatch.setattr("os.sysconf", lambda name: 10**5)
    assert default_num_workers(per_worker_gb) == number


def test_invalid_settings_are_errors() -> None:
    with pytest.raises(ValueError, match=r"num_fetchers.* 2, 0"):
        LocalExecutor(num_workers=2, num_fetchers=0)
    with pytest.raises(ValueError, match="memory_per_worker_gb"):
        LocalExecutor(memory_per_worker_gb=0.0)
