"""Run `wnv-data` as a user does, and check the output root."""

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

from wnv.ingest.ledger import Ledger
from wnv.ingest.tasks import StageName
from wnv.scenes.scene_file import validate_scene

HERE = Path(__file__).parent
COMMAND = Path(sys.executable).with_name("wnv-data")

# Loopback hosts, tiny videos, no pauses.
QUICK = (
    "fetch.hosts=[127.0.0.1]",
    "fetch.allow_private=true",
    "fetch.proxy=''",
    "fetch.request_pause_s=0.0",
    "fetch.retry_pause_s=0.05",
    "fetch.socket_timeout_s=2",
    "gate.pause_s=0.0",
    "retries.wait_s=0.1",
    "executor.num_workers=2",
    "executor.num_fetchers=2",
    "clip.preset=ultrafast",
    "clip.rules.min_s=0.5",
    "clip.rules.trim_s=0.0",
    "clip.rules.min_frames=8",
    "pose.max_frames=12",
)
# Bars and waves have no parallax.
NO_PARALLAX = ("clip.rules.min_parallax=0.0", "clip.rules.cut_detector=none")
# Fixed cameras.
NO_COLMAP = ("pose=custom", "pose.estimator._target_=pose_fakes.WalkingEstimator")


def start(stage: str, *settings: str, cwd: Path) -> "subprocess.Popen[str]":
    """Start `wnv-data STAGE ...`."""
    environment = {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    return subprocess.Popen(
        [COMMAND, stage, *settings],
        cwd=cwd,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wnv_data(stage: str, *settings: str, cwd: Path, code: int = 0) -> tuple[str, str]:
    """Run `wnv-data STAGE ...`, check its exit code, and return stdout and stderr."""
    with start(stage, *settings, cwd=cwd) as process:
        out, err = process.communicate(timeout=240)
    assert process.returncode == code, f"wnv-data {stage} {' '.join(settings)}: {process.returncode}\n{out}\n{err}"
    return out, err


def write_list(path: Path, urls: Iterable[str], *, marks: str = ",") -> Path:
    """Write a list in the published form, with the same marks for all videos."""
    rows = ["序号,URL,视频标题,静态开始时间1,静态结束时间1"]
    rows += [f"{number},{url},第{number}段 🏠,{marks}" for number, url in enumerate(urls, 1)]
    path.write_bytes("\r\n".join([*rows, ""]).encode("utf-8-sig"))
    return path


def outcomes(root: Path, *, stage: StageName | None = None) -> dict[str, str]:
    """Return per video `done` if everything made from it is, else stage, state and reason."""
    found: dict[str, str] = {}
    with Ledger.read(root) as ledger:
        for row in ledger.rows(stage):
            if row.state != "done":
                found[row.key] = f"{row.stage} {row.state} {row.reason}"
            else:
                found.setdefault(row.key, "done")
    return found


def scenes(root: Path) -> dict[str, str]:
    """Validate every scene file; return paths below the root and SHA-256."""
    found = {}
    for path in sorted(root.glob("scenes/**/*.zip")):
        validate_scene(path)
        found[str(path.relative_to(root))] = hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def assert_sound(root: Path) -> dict[str, str]:
    """Check that all recorded files exist and are valid; return the scenes."""
    found = scenes(root)
    with Ledger.read(root) as ledger:
        for row in ledger.rows("pack", state="done"):
            assert row.result["file"] in found, f"the scene of {row.item} is missing"
        for row in ledger.rows("pose", state="done"):
            assert (root / row.result["sidecar"]).stat().st_size > 0
        for row in ledger.rows("clip", state="done"):
            assert all((root / clip["file"]).stat().st_size > 0 for clip in row.result["clips"])
        for row in ledger.rows():
            assert row.state in ("done", "pending", "running") or row.reason, row
    return found


def assert_complete(root: Path, expected: dict[str, str]) -> None:
    """Check that the scenes equal those of an undisturbed run and no temporary files are left."""
    assert assert_sound(root) == expected
    deadline = time.monotonic() + 10  # a worker whose driver was killed may hold a file for a moment
    while (left := leftovers(root)) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    with Ledger.read(root) as ledger:
        states = {state for counts in ledger.counts().values() for state in counts}
    assert states <= {"done", "refused"}, states


def leftovers(root: Path) -> list[str]:
    """Return temporary files and folders."""
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.suffix in (".tmp", ".part", ".ytdl") or path.name.startswith(".") or path.name == "whole"
    )


def copy_root(source: Path, target: Path) -> Path:
    """Copy an output root."""
    return Path(shutil.copytree(source, target))
