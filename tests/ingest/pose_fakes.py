"""Pose estimators for tests, imported by worker processes."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np

from wnv.ingest.pose.colmap import ColmapEstimator
from wnv.ingest.pose.estimator import NoCameras, PoseEstimate, PoseStatistics
from wnv.ingest.tasks import StageError
from wnv.scenes.undistort import Distortion


def walk(num_frames: int, *, step: float = 0.25) -> dict[int, np.ndarray]:
    """Return cameras along x, each rotated a little further about y."""
    camtoworlds = {}
    for position in range(num_frames):
        angle = 0.02 * position
        camtoworld = np.eye(4)
        camtoworld[[0, 0, 2, 2], [0, 2, 0, 2]] = np.cos(angle), np.sin(angle), -np.sin(angle), np.cos(angle)
        camtoworld[:3, 3] = 5.0 + step * position, 1.0, 2.0
        camtoworlds[position] = camtoworld
    return camtoworlds


def walked(
    num_frames: int = 12,
    *,
    focal: float = 200.0,
    reprojection_px: float | None = 0.5,
    parallax_deg: float | None = 8.0,
    distortion: Distortion | None = None,
    camtoworlds: dict[int, np.ndarray] | None = None,
) -> PoseEstimate:
    """Return a valid estimate for frames of 224x126, with these deviations."""
    return PoseEstimate(
        K=np.array([[focal, 0.0, 112.0], [0.0, focal, 63.0], [0.0, 0.0, 1.0]]),
        distortion=Distortion() if distortion is None else distortion,
        camtoworlds=walk(num_frames) if camtoworlds is None else camtoworlds,
        statistics=PoseStatistics(reprojection_px=reprojection_px, parallax_deg=parallax_deg, num_points=900),
    )


class FakeEstimator:
    """Registers the first `num_registered` frames, or fails as `act` names."""

    def __init__(self, *, act: str = "pose", num_registered: int = 1000, notes: str = "") -> None:
        self.act = act
        self.num_registered = num_registered
        self.notes = notes

    def versions(self) -> dict[str, str]:
        return {"fake": "1"}

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | None:
        (workspace / "left_behind").write_text("x")
        if self.notes:
            seen = {
                "frames": [frame.name for frame in frames],
                "num_masks": None if masks is None else len(masks),
                "sizes": [path.stat().st_size for path in (*frames, *(masks or ()))],
                "seed": seed,
                "workspace": str(workspace),
            }
            with open(self.notes, "a") as file:
                file.write(json.dumps(seen) + "\n")
        if self.act == "pose":
            return walked(min(len(frames), self.num_registered))
        if self.act == "nothing":
            return None
        do(self.act)
        return None


def do(act: str) -> str:
    """Fail in one of many ways."""
    if act == "abort":
        os.write(2, b"terminate called, no runtime for ALIKED")
        os.abort()
    if act == "crash":  # as `run_limited` reports it
        raise StageError("failed", "crashed", "ended by SIGABRT")
    if act == "exit":
        sys.exit(3)
    if act == "sleep":
        time.sleep(600)
    if act == "hog":
        return str(len(np.ones(3 * 2**30, dtype=np.uint8)))
    if act == "bad_alloc":
        # The output of COLMAP's threads when memory runs out.
        os.write(2, b"terminate called after throwing an instance of 'std::bad_alloc'")
        os.abort()
    if act == "raise":
        raise ValueError("width must be even, got 3")
    if act == "refuse":
        raise StageError("refused", "low_parallax", "the camera only turns")
    if act == "raise_unreadable":
        raise UnreadableError(1, 2)
    return act


class UnreadableError(Exception):
    """An exception that can be pickled but not unpickled."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def sleep_with_child(note: str) -> None:
    """Write the ids of this process and of a child to a file, and sleep."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(f"{note}.part").write_text(f"{os.getpid()} {child.pid}")
    os.rename(f"{note}.part", note)  # atomically
    time.sleep(600)


class WalkingEstimator:
    """Returns cameras that move along x for every clip."""

    def versions(self) -> dict[str, str]:
        return {"walking": "1"}

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate:
        height, width = cv2.imread(str(frames[0])).shape[:2]
        focal = 0.9 * max(width, height)
        return PoseEstimate(
            K=np.array([[focal, 0.0, width / 2], [0.0, focal, height / 2], [0.0, 0.0, 1.0]]),
            distortion=Distortion(),
            camtoworlds=walk(len(frames)),
            statistics=PoseStatistics(reprojection_px=0.5, parallax_deg=8.0, num_points=900),
        )


class ColmapInTheRoom(WalkingEstimator):
    """COLMAP for the rendered room, on which it is fast; walking cameras for other clips."""

    def estimate(
        self, frames: Sequence[Path], *, masks: Sequence[Path] | None, seed: int, workspace: Path
    ) -> PoseEstimate | NoCameras | None:
        if cv2.imread(str(frames[0])).shape[:2] != (126, 224):
            return super().estimate(frames, masks=masks, seed=seed, workspace=workspace)
        return ColmapEstimator().estimate(frames, masks=masks, seed=seed, workspace=workspace)
