"""Measure camera motion in a shot: image shift and parallax.

A static, rotating or zooming camera changes the image by a homography, which carries no depth. Points are tracked until
the image has shifted by a share of its width; the share of points off the best homography is the parallax of that
stretch of video.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_MAX_POINTS = 400
_MIN_POINTS = 30
_WINDOW = (15, 15)  # pixels
_LEVELS = 3
_ROUND_TRIP_PX = 0.5  # maximum forward-backward tracking error
# Share of points that must still be tracked, or the stretch ends.
_MIN_SURVIVING = 0.4
# Below this share of tracked points the content is noise, water or blur.
_MIN_SHARE = 0.2
# Tolerance of the homography, as shares of image width and of the shift: covers lens distortion and tracking error.
_TOLERANCE = 0.003
_TOLERANCE_OF_SHIFT = 0.05


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """Motion in a stretch of video.

    Attributes:
        start: First frame.
        end: Last frame, which is the first one of the next stretch.
        shift: Median displacement of the points over the image width.
        parallax: Share of the points off the best homography; 0 if too few could be tracked.
    """

    start: int
    end: int
    shift: float
    parallax: float


class MotionMeter:
    """Tracks points frame by frame and measures stretches.

    Args:
        max_shift: Image shift over the width at which a stretch ends.
        max_frames: Maximum frames of a stretch.

    Attributes:
        stretches: The measured stretches, in order.
    """

    def __init__(self, *, max_shift: float, max_frames: int) -> None:
        self.stretches: list[Stretch] = []
        self._max_shift, self._max_frames = max_shift, max_frames
        self._points = self._origins = np.empty((0, 2), dtype=np.float32)
        self._num_started = 0
        self._start = self._last = -1
        self._grey: np.ndarray | None = None

    def add(self, index: int, grey: UInt8[np.ndarray, "height width"]) -> None:
        """Add a frame. Frames may be skipped."""
        if self._grey is None:
            self._begin(index, grey)
            return
        kept = self._track(grey)
        self._grey, self._last = grey, index
        distance = np.linalg.norm(self._points - self._origins, axis=1)
        shift = float(np.median(distance)) / grey.shape[1] if len(distance) else 0.0
        if kept < _MIN_SURVIVING or shift >= self._max_shift or index - self._start >= self._max_frames:
            self._end(shift)
            self._begin(index, grey)

    def finish(self) -> list[Stretch]:
        """End the shot; return all stretches."""
        if self._grey is not None and self._last > self._start:
            distance = np.linalg.norm(self._points - self._origins, axis=1)
            self._end(float(np.median(distance)) / self._grey.shape[1] if len(distance) else 0.0)
        self._grey = None
        return self.stretches

    def _begin(self, index: int, grey: np.ndarray) -> None:
        found = cv2.goodFeaturesToTrack(grey, _MAX_POINTS, qualityLevel=0.01, minDistance=grey.shape[0] / 30)
        self._points = np.empty((0, 2), dtype=np.float32) if found is None else found.reshape(-1, 2)
        self._origins, self._num_started = self._points, len(self._points)
        self._grey, self._start, self._last = grey, index, index

    def _track(self, grey: np.ndarray) -> float:
        """Track the points to a frame; return the share of the initial points that is left."""
        if self._grey is None or not len(self._points):
            return 0.0
        forward, found = _flow(self._grey, grey, self._points)
        back, returned = _flow(grey, self._grey, forward)
        good = (found & returned).ravel().astype(bool)
        good &= np.linalg.norm(back - self._points, axis=1) < _ROUND_TRIP_PX
        good &= ((forward >= 0) & (forward < grey.shape[::-1])).all(axis=1)
        self._points, self._origins = forward[good], self._origins[good]
        return len(self._points) / self._num_started

    def _end(self, shift: float) -> None:
        assert self._grey is not None
        enough = len(self._points) >= max(_MIN_POINTS, _MIN_SHARE * self._num_started)
        parallax = _parallax(self._origins, self._points, self._grey.shape[1], shift) if enough else 0.0
        self.stretches.append(
            Stretch(start=self._start, end=self._last, shift=shift if enough else 0.0, parallax=parallax)
        )


def _flow(one: np.ndarray, other: np.ndarray, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    moved, found, _ = cv2.calcOpticalFlowPyrLK(  # pyright: ignore[reportCallIssue] OpenCV's stubs lack None
        *(one, other, points),
        None,  # pyright: ignore[reportArgumentType] allocates the result
        winSize=_WINDOW,
        maxLevel=_LEVELS,
    )
    return moved, found


def _parallax(
    before: Float32[np.ndarray, "point 2"], after: Float32[np.ndarray, "point 2"], width: int, shift: float
) -> float:
    """Return the share of points off the best homography."""
    tolerance_px = (_TOLERANCE + _TOLERANCE_OF_SHIFT * shift) * width
    homography, _ = cv2.findHomography(before, after, cv2.RANSAC, tolerance_px, maxIters=500)
    if homography is None:
        return 0.0
    mapped = cv2.perspectiveTransform(before[:, None], homography)[:, 0]
    return float((np.linalg.norm(mapped - after, axis=1) > tolerance_px).mean())
