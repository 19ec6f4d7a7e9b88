"""Faults, first table: kills. Real processes, real signals, real COLMAP.

    killed    in        kills        result of the next run
    driver    fetch     6            all scenes of an undisturbed run, byte for byte, no temporary files
    driver    clip      6            the same
    driver    pose      6            the same
    driver    pack      6            the same
    worker    each      once         no next run needed: the same run retries
    Ctrl-C    pose      once         the same, also with SIGTERM; no process is left running

The moments come from a seeded generator, counted from when the ledger shows an item as running. A driver is killed
repeatedly on one root, whose scenes must be valid every time.
"""

import os
import random
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

NUM_KILLS = 6
NUM_VIDEOS = 3
# Seconds within which an item of the stage is likely still running.
RUNNING_S = {"fetch": 0.8, "clip": 0.4, "pose": 2.0, "pack": 0.15}

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Undisturbed:
    """An undisturbed run: the root before each stage, and the scenes at the end."""

    folder: Path
    source: Path
    scenes: dict[str, str]

    def before(self, stage: StageName, target: Path) -> Path:
        return copy_root(self.folder / f"before_{stage}", target)


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
            if stage != "fetch":
                copy_root(root, folder / f"before_{stage}")
            groups = (stage, "retries", "executor", *(["gate"] if stage == "fetch" else []))
            own = [text for text in QUICK if text.split(".")[0] in groups]
            wnv_data(stage, f"root={root}", *settings, *own, cwd=folder)
        (folder / "before_fetch").mkdir()
        found = assert_sound(root)
        assert len(found) == NUM_VIDEOS
        assert_complete(root, found)
        yield Undisturbed(folder, source, found)


def test_single_stages_and_run_give_the_same(undisturbed: Undisturbed, tmp_path: Path) -> None:
    wnv_data("run", f"source={undisturbed.source}", f"root={tmp_path}/root", *QUICK, cwd=tmp_path)
    assert_complete(tmp_path / "root", undisturbed.scenes)


@pytest.mark.parametrize("stage", STAGES)
def test_a_driver_is_killed(stage: StageName, undisturbed: Undisturbed, tmp_path: Path) -> None:
    rng = random.Random(f"driver {stage}")
    command = ["run", f"source={undisturbed.source}", *QUICK]
    num_kills, num_roots, root = 0, 0, tmp_path / "none"
    roots = []
    while num_kills < NUM_KILLS:
        if not root.exists() or _is_done(root, stage):
            num_roots += 1
            root = undisturbed.before(stage, tmp_path / f"root{num_roots}")
            roots.append(root)
        before = assert_sound(root) if (root / "ledger.sqlite").exists() else {}
        process = start(*command, f"root={root}", cwd=tmp_path)
        _stop_while_running(root, stage, process)
        pause_s = rng.uniform(0, RUNNING_S[stage])
        if num_roots < 2 * NUM_KILLS:
            process.send_signal(signal.SIGCONT)
            time.sleep(pause_s)
        # else the machine is too fast for these pauses: kill at once
        process.kill()
        process.communicate()
        num_kills += bool(_running(root, stage))
        after = assert_sound(root)
        assert before.items() <= after.items(), "a scene is lost"
        assert num_roots < 3 * NUM_KILLS
    for root in roots:
        out, err = wnv_data(*command, f"root={root}", cwd=tmp_path)
        assert "Traceback" not in err
        assert_complete(root, undisturbed.scenes)
    out, _ = wnv_data(*command, f"root={root}", cwd=tmp_path)
    assert "nothing to do" in out


@pytest.mark.parametrize("stage", STAGES)
def test_a_worker_is_killed(stage: StageName, undisturbed: Undisturbed, tmp_path: Path) -> None:
    rng = random.Random(f"worker {stage}")
    root = undisturbed.before(stage, tmp_path / "root")
    with start("run", f"source={undisturbed.source}", f"root={root}", *QUICK, cwd=tmp_path) as process:
        _stop_while_running(root, stage, process)
        workers = _children(process.pid)
        # Workers cannot be dismissed until the driver continues.
        time.sleep(rng.uniform(0, RUNNING_S[stage] / 2))
        for worker in workers:
            os.kill(worker, signal.SIGKILL)
        process.send_signal(signal.SIGCONT)
        _, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert_complete(root, undisturbed.scenes)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_is_interrupted(number: signal.Signals, undisturbed: Undisturbed, tmp_path: Path) -> None:
    root = undisturbed.before("pose", tmp_path / "root")
    command = ["run", f"source={undisturbed.source}", f"root={root}", *QUICK]
    with start(*command, cwd=tmp_path) as process:
        _stop_while_running(root, "pose", process)
        workers = _children(process.pid)
        process.send_signal(number)
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
            return [item for found, item, _, state, _ in ledger.states() if (found, state) == (stage, "running")]
    except (FileNotFoundError, ValueError):  # not created yet
        return []


def _is_done(root: Path, stage: StageName) -> bool:
    with Ledger.read(root) as ledger:
        return set(ledger.counts().get(stage, {})) == {"done"} and sum(ledger.counts()[stage].values()) == NUM_VIDEOS


def _children(pid: int) -> list[int]:
    return [int(text) for text in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
