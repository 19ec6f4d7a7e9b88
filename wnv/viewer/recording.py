"""Recordings of a window's camera, and their videos."""

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.evaluation.video import write_mp4
from wnv.geometry.poses import interpolate_poses
from wnv.viewer.session import SceneSession, ViewRequest


class Recording:
    """The views of a window with their times.

    Args:
        max_s: Seconds after which further views are dropped.
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
        """Whether further views are dropped."""
        return self.duration_s >= self.max_s

    def add(self, request: ViewRequest, second: float) -> None:
        """Add a view at a time in seconds of any monotonic clock."""
        if not self.is_full:
            self._seconds.append(second)
            self._requests.append(request)

    def frames(self, *, fps: float | int) -> Iterator[ViewRequest]:
        """The views at a constant rate, interpolated between views of the same scene and context.

        All have the aspect of the first view.

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
        """Number of views that `frames` yields."""
        return int(min(self.duration_s, self.max_s) * fps + 1e-6) + 1

    def _at(self, second: float) -> ViewRequest:
        after = bisect_right(self._seconds, second)
        before = self._requests[after - 1]
        if after == len(self._requests):
            return before
        next_one = self._requests[after]
        if (before.scene, before.frames) != (next_one.scene, next_one.frames):
            return before
        share = (second - self._seconds[after - 1]) / (self._seconds[after] - self._seconds[after - 1])
        a, b = before.camera, next_one.camera
        camera = replace(
            a,
            camtoworld=interpolate_poses(a.camtoworld, b.camtoworld, share),
            fov_y=a.fov_y + share * (b.fov_y - a.fov_y),
        )
        return replace(before, camera=camera, time=before.time + share * (next_one.time - before.time))


class VideoCancelled(Exception):  # no error
    """The user stopped the rendering of a video."""


def write_video(
    frames: Sequence[ViewRequest],
    session: SceneSession,
    *,
    out: Path,
    name: str,
    fps: float | int = 24,
    is_still: bool = True,
    on_frame: Callable[[int], None] = lambda done: None,
) -> Path:
    """Render views, write them as mp4, and return its path; whatever fails or is cancelled leaves no file.

    Args:
        frames: The views.
        session: Renders them.
        out: Folder for the video, created if missing.
        name: Start of the file's name; the first free number follows.
        fps: Frames per second.
        is_still: Whether to render at the resolution of a camera at rest.
        on_frame: Called after each frame with the number of finished frames; may raise `VideoCancelled`.
    """

    def render() -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        size = None
        for number, request in enumerate(frames, start=1):
            view = session.render(request, is_still=is_still)
            assert view is not None, "only stale requests have no view"
            image_u8 = view.image_u8
            # A later scene may have a different image size.
            size = size or image_u8.shape[:2]
            yield image_u8 if image_u8.shape[:2] == size else _resized(image_u8, size)
            on_frame(number)

    out.mkdir(parents=True, exist_ok=True)
    path = _claim_free(out, name)
    try:
        return write_mp4(path, render(), fps=fps, overwrite=True)
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _resized(image_u8: UInt8[np.ndarray, "height width 3"], size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    height, width = size
    return np.asarray(Image.fromarray(image_u8).resize((width, height), Image.Resampling.BILINEAR))


def _claim_free(out: Path, name: str) -> Path:
    """Claim the first free name with an empty file, so that two windows get different names."""
    number = 0
    while True:
        path = out / f"{name}-{number:03d}.mp4"
        try:
            path.touch(exist_ok=False)
            return path
        except FileExistsError:
            number += 1
