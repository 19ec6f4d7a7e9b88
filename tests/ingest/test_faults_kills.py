"""Faults, first table: kills. Real processes, real signals, real COLMAP.

killed    in               result
driver    every stage      the next run: all scenes of an undisturbed run, byte for byte, no temporary files
workers   fetch, pose      the same run retries; the same scenes
Ctrl-C    pose             no process is left running; the next run: the same scenes
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from loopback.site import LoopbackSite
from pipeline import QUICK, assert_complete, assert_sound, copy_root, leftovers, start, wnv_data, write_list
from posed_video import PosedVideo

from wnv.ingest.ledger import Ledger
from wnv.ingest.tasks import STAGES, StageName

NUM_VIDEOS = 2
# Seconds after the start of a task at which it is likely half done.
HALF_DONE_S = {"fetch": 0.3, "clip": 0.1, "pose": 1.0, "pack": 0.05}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run: the root after the clip stage, and the scenes."""

    source: Path
    clipped: Path
    scenes: dict[str, str]


@pytest.fixture(scope="module")
def undisturbed(room_video: PosedVideo, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Undisturbed]:
    folder = tmp_path_factory.mktemp("undisturbed")
    with LoopbackSite() as site:
        # Slow enough to be interrupted.
        drip = room_video.path.stat().st_size / 0.6
        urls = [site.add(f"/{number}.mp4", room_video.path, drip=drip) for number in range(NUM_VIDEOS)]
        source = write_list(folder / "static.csv", urls)
        root, clipped = folder / "root", folder / "clipped"
        for stage in ("fetch", "clip"):
            settings = [f"source={source}"] if stage == "fetch" else []
            groups = (stage, "retries", "executor", *(["gate"] if stage == "fetch" else []))
            own = [text for text in QUICK if text.split(".")[0] in groups]
            wnv_data(stage, f"root={clipped}", *settings, *own, cwd=folder)
        wnv_data("run", f"root={copy_root(clipped, root)}", *QUICK, cwd=folder)
        found = assert_sound(root)
        assert len(found) == NUM_VIDEOS
        assert_complete(root, found)
        yield Undisturbed(source, clipped, found)


def test_processes_are_killed_in_every_stage(undisturbed: Undisturbed, tmp_path: Path) -> None:
    command = ["run", f"source={undisturbed.source}", f"root={tmp_path}/root", *QUICK]
    root, scenes = tmp_path / "root", {}
    for stage in STAGES:
        process = start(*command, cwd=tmp_path)
        _stop_while_running(root, stage, process)
        if stage == "fetch":
            # First its workers only, which it replaces.
            killed = _kill_workers(stage, process)
            _stop_while_running(root, stage, process, besides=killed)
        process.send_signal(signal.SIGCONT)
        time.sleep(HALF_DONE_S[stage])
        process.kill()
        process.communicate()
        after = assert_sound(root)
        assert scenes.items() <= after.items(), "a scene is lost"
        scenes = after
    _, err = wnv_data(*command, cwd=tmp_path)
    assert "Traceback" not in err
    assert_complete(root, undisturbed.scenes)
    out, _ = wnv_data(*command, cwd=tmp_path)
    assert "nothing to do" in out


def test_an_estimate_is_interrupted_and_then_its_workers_are_killed(undisturbed: Undisturbed, tmp_path: Path) -> None:
    root = copy_root(undisturbed.clipped, tmp_path / "root")
    command = ["run", f"source={undisturbed.source}", f"root={root}", *QUICK]
    with start(*command, cwd=tmp_path) as process:
        _stop_while_running(root, "pose", process)
        workers = _children(process.pid)
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 130, err
    assert err.endswith("wnv-data run: interrupted (run the same command to resume)\n")
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)
    assert _running(root, "pose") == []
    assert leftovers(root) == []
    with start(*command, cwd=tmp_path) as process:
        _stop_while_running(root, "pose", process)
        _kill_workers("pose", process)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert_complete(root, undisturbed.scenes)


def _kill_workers(stage: StageName, process: "subprocess.Popen[str]") -> list[int]:
    """Kill the workers of a stopped driver when their tasks are about half done, and continue it."""
    # Workers cannot be dismissed until the driver continues.
    time.sleep(HALF_DONE_S[stage])
    workers = _children(process.pid)
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
    process.send_signal(signal.SIGCONT)
    return workers


def _stop_while_running(
    root: Path, stage: StageName, process: "subprocess.Popen[str]", *, besides: Sequence[int] = ()
) -> None:
    """Stop the driver, the only writer of the ledger, once an item of the stage runs in a process not in `besides`."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the run ended: {process.communicate()}")
        if _running(root, stage):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            # An item is recorded as running shortly before a process starts it.
            if _running(root, stage) and set(_children(process.pid)) - set(besides):
                return
            process.send_signal(signal.SIGCONT)
        time.sleep(0.01)
    pytest.fail(f"no item of {stage} was running")


def _running(root: Path, stage: StageName) -> list[str]:
    try:
        with Ledger.read(root) as ledger:
            return [row.item for row in ledger.rows(stage, state="running")]
    except (FileNotFoundError, ValueError):  # not created yet
        return []


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
