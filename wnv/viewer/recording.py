"""A camera's way through a scene, as it was dragged, and its video."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import count
from pathlib import Path
from re import sub
from tempfile import TemporaryDirectory

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.evaluation.video import write_mp4_frames
from wnv.geometry.poses import interpolate_poses
from wnv.viewer.session import SceneSession, ViewRequest


class Recording:
    """What a window showed, and when.

    Args:
        max_s: What comes later than this many seconds after the beginning is left out.
    """

    def __init__(self, *, max_s: float | int = 60) -> None:
        self.max_s = max_s
        self._seconds: list[float] = []
        self._requests: list[ViewRequest] = []

    @property
    def duration_s(self) -> float:
        """Seconds from the first view to the last."""
        return self._seconds[-1] - self._seconds[0] if self._seconds else 0.0

    @property
    def is_full(self) -> bool:
        """Whether nothing more is kept."""
        return self.duration_s >= self.max_s

    def add(self, request: ViewRequest, second: float) -> None:
        """Keep a view of that second of any clock that goes forward."""
        if not self.is_full:
            self._seconds.append(second)
            self._requests.append(request)

    def frames(self, *, fps: float | int) -> Iterator[ViewRequest]:
        """The views at a constant rate: between two of one scene and context, the camera goes evenly.

        All have the shape of the first one's window.

        Raises:
            ValueError: If nothing was recorded, or `fps` is not positive.
        """
        if not self._requests:
            raise ValueError("nothing was recorded; move the view while recording")
        if fps <= 0:
            raise ValueError(f"fps must be positive, got {fps}")
        aspect = self._requests[0].camera.aspect
        for i in range(self.num_frames(fps=fps)):
            request = self._at(self._seconds[0] + i / fps)
            yield replace(request, camera=replace(request.camera, aspect=aspect))

    def num_frames(self, *, fps: float | int) -> int:
        """How many `frames` gives."""
        return int(min(self.duration_s, self.max_s) * fps + 1e-6) + 1

    def _at(self, second: float) -> ViewRequest:
        after = bisect_right(self._seconds, second)
        before = self._requests[after - 1]
        if after == len(self._requests):
            return before
        following = self._requests[after]
        if (before.scene, before.frames) != (following.scene, following.frames):
            return before
        share = (second - self._seconds[after - 1]) / (self._seconds[after] - self._seconds[after - 1])
        a, b = before.camera, following.camera
        camera = replace(
            a,
            camtoworld=interpolate_poses(a.camtoworld, b.camtoworld, share),
            fov_y=a.fov_y + share * (b.fov_y - a.fov_y),
        )
        return replace(before, camera=camera, time=before.time + share * (following.time - before.time))


def write_recording(
    recording: Recording,
    session: SceneSession,
    *,
    out: Path,
    fps: float | int = 24,
    on_frame: Callable[[int, int], None] = lambda done, total: None,
) -> Path:
    """Draw a recording as for a camera at rest and write it as a new mp4; gives its path.

    Args:
        recording: What to draw.
        session: Who draws.
        out: Folder for the video, made if it is not there. The file is called after the scene, with the first number
            that is free: nothing is replaced.
        fps: Frames per second.
        on_frame: Told how many frames of how many are drawn.

    Raises:
        ValueError: If nothing was recorded, or `fps` is not positive.
    """
    total = recording.num_frames(fps=fps)

    def draw() -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        size = None
        for number, request in enumerate(recording.frames(fps=fps), start=1):
            image_u8 = session.draw(request, is_still=True).image_u8
            # One picture size for the whole video, also where it goes on to a scene of another one.
            size = size or image_u8.shape[:2]
            yield image_u8 if image_u8.shape[:2] == size else _resized(image_u8, size)
            on_frame(number, total)

    first = next(recording.frames(fps=fps))
    name = sub(r"[^\w.-]+", "-", session.scene(first.scene).name)
    out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=".recording-", dir=out) as folder:
        drawn = write_mp4_frames(Path(folder) / "video.mp4", draw(), fps=fps)
        path = _claim_free(out, name)
        drawn.replace(path)
    return path


def _resized(image_u8: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = size
    return np.asarray(Image.fromarray(image_u8).resize((width, height), Image.Resampling.BILINEAR))


def _claim_free(out: Path, name: str) -> Path:
    """The first name that nobody has, taken by an empty file: of two who look at once each gets another one."""
    for number in count():
        path = out / f"{name}-{number:03d}.mp4"
        with suppress(FileExistsError):
            path.touch(exist_ok=False)
            return path
