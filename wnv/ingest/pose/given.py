"""Cameras that exist already: a `transforms.json` beside each video, as capture apps and SLAM systems write it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import cv2
import numpy as np

from wnv.ingest.pose.estimator import ClipContext, NoCameras, PoseEstimate, PoseStatistics
from wnv.ingest.tasks import StageError
from wnv.scenes.undistort import Distortion

_OPENGL_TO_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
_TIMES = ("time", "time_s", "timestamp")
_DISTORTION = ("k1", "k2", "p1", "p2", "k3")
_PERSPECTIVE = ("OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "PERSPECTIVE")


@dataclass(eq=False, kw_only=True)
class GivenPoses:
    """Reads the cameras of a video from a JSON file with nerfstudio's keys.

    The file of `walk.mp4` is `walk.json`, `walk.transforms.json` or `walk/transforms.json`, beside the video. Cameras
    are `transform_matrix` (OpenGL axes), the lens is `fl_x`, `fl_y`, `cx`, `cy`, `w`, `h` and `k1`, `k2`, `p1`, `p2`,
    `k3`. Each entry of `frames` has its `time` in the video (or `timestamp`, seconds), or the file has `fps`, and
    entry i is the image at i / fps.

    Args:
        folder: Folder of the videos; `wnv-data` sets that of `source`.
        max_gap_s: Maximum seconds between a frame and its camera; others have no pose.
    """

    unrecorded: ClassVar[frozenset[str]] = frozenset({"folder"})
    """Settings that do not make finished poses outdated."""

    folder: str | None = None
    max_gap_s: float | int = 0.02

    def __post_init__(self) -> None:
        if self.max_gap_s <= 0:
            raise ValueError(f"max_gap_s must be above 0, got {self.max_gap_s}")

    def versions(self) -> dict[str, str]:
        """Return no tools, since none is used."""
        return {}

    def estimate(self, frames: Sequence[Path], **_: Any) -> PoseEstimate:
        """Not possible without the clip; see `estimate_clip`."""
        raise StageError("refused", "no_model", "pose=given works on videos only")

    def estimate_clip(
        self,
        frames: Sequence[Path],
        *,
        clip: ClipContext,
        masks: Sequence[Path] | None,
        seed: int,
        workspace: Path,
    ) -> PoseEstimate | NoCameras:
        """Return the given cameras of the frames.

        Raises:
            StageError: If there is no file, or it is invalid.
        """
        file = self._file(clip)
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            image = cv2.imread(str(frames[0]))
            assert image is not None
            K, distortion = _lens(content, width=image.shape[1], height=image.shape[0])
            times_s, camtoworlds = _cameras(content)
        except (ValueError, KeyError, TypeError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise StageError("refused", "given_poses", f"{file.name}: {problem}") from error
        nearest = np.abs(np.asarray(clip.times_s)[:, None] - times_s).argmin(axis=1)
        gaps_s = np.abs(times_s[nearest] - clip.times_s)
        found = {
            position: camtoworlds[index]
            for position, (index, gap_s) in enumerate(zip(nearest, gaps_s, strict=True))
            if gap_s <= self.max_gap_s
        }
        if not found:
            return NoCameras(
                f"no frame has a camera within pose.estimator.max_gap_s={self.max_gap_s:g}: frames are at "
                f"{clip.times_s[0]:.2f} to {clip.times_s[-1]:.2f} s, cameras of {file.name} at {times_s.min():.2f} to "
                f"{times_s.max():.2f} s"
            )
        return PoseEstimate(K=K, distortion=distortion, camtoworlds=found, statistics=PoseStatistics())

    def _file(self, clip: ClipContext) -> Path:
        if self.folder is None:
            raise StageError("refused", "given_poses", "set pose.estimator.folder to the folder of the videos")
        video = Path(self.folder).expanduser() / clip.video
        candidates = (
            video.with_suffix(".json"),
            video.with_suffix(".transforms.json"),
            video.with_suffix("") / "transforms.json",
        )
        for file in candidates:
            if file.is_file():
                return file
        names = ", ".join(str(file.relative_to(video.parent)) for file in candidates)
        raise StageError("refused", "given_poses", f"{video.parent} has none of {names}")


def _lens(content: Mapping[str, Any], *, width: int, height: int) -> tuple[np.ndarray, Distortion]:
    """Return the lens for frames of this size.

    Raises:
        ValueError: If the file is of frames of another shape, or of a lens that is not a perspective one.
    """
    model = content.get("camera_model", "OPENCV")
    if model not in _PERSPECTIVE:
        raise ValueError(f"camera_model must be one of {', '.join(_PERSPECTIVE)}, got {model}")
    w, h = float(content["w"]), float(content["h"])
    if abs(w / h - width / height) > 0.01 * w / h:
        raise ValueError(f"its cameras are of {w:g} x {h:g} pixels, the clip has {width} x {height}, another shape")
    if "fl_x" in content:
        focal = float(content["fl_x"])
    else:
        focal = w / 2 / math.tan(float(content["camera_angle_x"]) / 2)
    K = np.array(
        [
            [focal, 0.0, float(content.get("cx", w / 2))],
            [0.0, float(content.get("fl_y", focal)), float(content.get("cy", h / 2))],
            [0.0, 0.0, 1.0],
        ]
    )
    scaled = np.diag([width / w, height / h, 1.0]) @ K
    return scaled, Distortion(**{name: float(content.get(name, 0.0)) for name in _DISTORTION})


def _cameras(content: Mapping[str, Any]) -> tuple[np.ndarray, list[np.ndarray]]:
    """Return the times in seconds, and world<-camera with OpenCV axes.

    Raises:
        ValueError: If there are none, times are missing, or a matrix is not a pose.
    """
    frames = content["frames"]
    if not frames:
        raise ValueError("frames is empty")
    names = [name for name in _TIMES if all(name in frame for frame in frames)]
    if names:
        times_s = np.array([float(frame[names[0]]) for frame in frames])
    elif "fps" in content:
        times_s = np.arange(len(frames)) / float(content["fps"])
    else:
        raise ValueError("frames have no time; add `time` in seconds to each, or `fps` to the file")
    camtoworlds = []
    for index, frame in enumerate(frames):
        camtoworld = np.array(frame["transform_matrix"], dtype=np.float64)
        if camtoworld.shape == (3, 4):
            camtoworld = np.vstack([camtoworld, [0.0, 0.0, 0.0, 1.0]])
        if camtoworld.shape != (4, 4) or not np.isfinite(camtoworld).all():
            raise ValueError(f"frames[{index}].transform_matrix must be 4 x 4 numbers")
        rotation = camtoworld[:3, :3]
        if np.abs(rotation @ rotation.T - np.eye(3)).max() > 1e-3 or np.linalg.det(rotation) < 0:
            raise ValueError(f"frames[{index}].transform_matrix must be a rotation and a position, without scale")
        camtoworlds.append(camtoworld @ _OPENGL_TO_OPENCV)
    return times_s, camtoworlds
