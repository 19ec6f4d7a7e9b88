"""A camera's way through a scene, as it was dragged, and its video."""

from bisect import bisect_right
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from re import sub

import torch

from wnv.evaluation.video import write_mp4
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
    images, name = [], ""
    total = recording.num_frames(fps=fps)
    for request in recording.frames(fps=fps):
        name = name or sub(r"[^\w.-]+", "-", session.scene(request.scene).name)
        drawing = session.draw(request, is_still=True)
        # One picture size for the whole video, also where it goes on to a scene of another one.
        image = torch.from_numpy(drawing.image_u8).permute(2, 0, 1) / 255
        if images and image.shape != images[0].shape:
            image = torch.nn.functional.interpolate(image[None], size=images[0].shape[-2:], mode="bilinear")[0]
        images.append(image)
        on_frame(len(images), total)
    frames = torch.stack(images)
    while True:
        path = _first_free(out, name)
        try:
            return write_mp4(path, frames, fps=fps)
        except FileExistsError:  # somebody else took the name
            continue


def _first_free(out: Path, name: str) -> Path:
    number = 0
    while (path := out / f"{name}-{number:03d}.mp4").exists():
        number += 1
    return path
