"""Faults, first table: kills. Real processes, real signals, real COLMAP.

killed    in               result of the next run
driver    every stage      all scenes of an undisturbed run, byte for byte, no temporary files
workers   fetch, pose      no next run needed: the same run retries
Ctrl-C    pose             the same; no process is left running
"""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
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
    """An undisturbed run, one stage at a time: the root after the clip stage, and the scenes."""

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
        root = folder / "root"
        for stage in STAGES:
            settings = [f"source={source}"] if stage == "fetch" else []
            groups = (stage, "retries", "executor", *(["gate"] if stage == "fetch" else []))
            own = [text for text in QUICK if text.split(".")[0] in groups]
            wnv_data(stage, f"root={root}", *settings, *own, cwd=folder)
            if stage == "clip":
                copy_root(root, folder / "clipped")
        found = assert_sound(root)
        assert len(found) == NUM_VIDEOS
        assert_complete(root, found)
        yield Undisturbed(source, folder / "clipped", found)


def test_the_driver_is_killed_in_every_stage(undisturbed: Undisturbed, tmp_path: Path) -> None:
    command = ["run", f"source={undisturbed.source}", f"root={tmp_path}/root", *QUICK]
    root, scenes = tmp_path / "root", {}
    for stage in STAGES:
        process = start(*command, cwd=tmp_path)
        _stop_while_running(root, stage, process)
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


@pytest.mark.parametrize("stage", ["fetch", "pose"])
def test_workers_are_killed(stage: StageName, undisturbed: Undisturbed, tmp_path: Path) -> None:
    root = tmp_path / "root"
    if stage == "pose":
        copy_root(undisturbed.clipped, root)
    with start("run", f"source={undisturbed.source}", f"root={root}", *QUICK, cwd=tmp_path) as process:
        _stop_while_running(root, stage, process)
        # Workers cannot be dismissed until the driver continues.
        time.sleep(HALF_DONE_S[stage])
        for worker in _children(process.pid):
            os.kill(worker, signal.SIGKILL)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert_complete(root, undisturbed.scenes)


def test_a_run_is_interrupted(undisturbed: Undisturbed, tmp_path: Path) -> None:
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
    wnv_data(*command, cwd=tmp_path)
    assert_complete(root, undisturbed.scenes)


def _stop_while_running(root: Path, stage: StageName, process: "subprocess.Popen[str]") -> None:
    """Stop the driver, the only writer of the ledger, once an item of the stage is running."""
    deadline = time.monotonic() + 240
    while time.monotonic() < deadline:
        if process.poll() is not None:
            pytest.fail(f"the run ended: {process.communicate()}")
        if _running(root, stage):
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            # An item is recorded as running shortly before a process starts it.
            if _running(root, stage) and _children(process.pid):
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
