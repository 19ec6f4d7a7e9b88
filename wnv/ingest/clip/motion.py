"""How a camera moves through a shot: how far the picture shifts, and how much of it no single plane or turn explains.

A camera on a tripod, or one that only turns or zooms, changes its picture by a homography, and no depth can be seen in
that. So points are followed until the picture has shifted by a good part of its width, a homography is fitted to them,
and the share of points that it does not explain is the parallax of that stretch of video.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from jaxtyping import Float32, UInt8

_MAX_POINTS = 400
_MIN_POINTS = 30
_WINDOW = (15, 15)  # pixels
_LEVELS = 3
_ROUND_TRIP_PX = 0.5  # a point that does not come back when followed back in time was not followed
# Share of the points that must be left, or the stretch ends.
_MIN_SURVIVING = 0.4
# What cannot be followed better than this is noise, water or a blur.
_MIN_SHARE = 0.2
# A point is explained by the homography within this share of the width, plus this share of the shift: lenses bend
# pictures a little, and so does following points.
_TOLERANCE = 0.003
_TOLERANCE_OF_SHIFT = 0.05


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A stretch of video.

    Attributes:
        start: Its first frame.
        end: Its last frame, with which the next stretch starts.
        shift: Median way of the points over the width of the picture.
        parallax: Share of the points that the homography does not explain; 0 where too few could be followed.
    """

    start: int
    end: int
    shift: float
    parallax: float


class MotionMeter:
    """Follows points through a shot, frame by frame, and keeps a list of stretches; no frames are kept but two.

    Args:
        max_shift: Shift over the width at which a stretch ends.
        max_frames: Frames after which a stretch ends anyway.

    Attributes:
        stretches: What has been measured, in order.
    """

    def __init__(self, *, max_shift: float, max_frames: int) -> None:
        self.stretches: list[Stretch] = []
        self._max_shift, self._max_frames = max_shift, max_frames
        self._points = self._origins = np.empty((0, 2), dtype=np.float32)
        self._num_started = 0
        self._start = self._last = -1
        self._grey: np.ndarray | None = None

    def add(self, index: int, grey: UInt8[np.ndarray, "height width"]) -> None:
        """The next frame to look at; not every frame of the video need be shown."""
        if self._grey is None:
            self._begin(index, grey)
            return
        kept = self._follow(grey)
        self._grey, self._last = grey, index
        way = np.linalg.norm(self._points - self._origins, axis=1)
        shift = float(np.median(way)) / grey.shape[1] if len(way) else 0.0
        if kept < _MIN_SURVIVING or shift >= self._max_shift or index - self._start >= self._max_frames:
            self._end(shift)
            self._begin(index, grey)

    def finish(self) -> list[Stretch]:
        """End the shot, because the video ends or because there is a cut; all stretches so far."""
        if self._grey is not None and self._last > self._start:
            way = np.linalg.norm(self._points - self._origins, axis=1)
            self._end(float(np.median(way)) / self._grey.shape[1] if len(way) else 0.0)
        self._grey = None
        return self.stretches

    def _begin(self, index: int, grey: np.ndarray) -> None:
        found = cv2.goodFeaturesToTrack(grey, _MAX_POINTS, qualityLevel=0.01, minDistance=grey.shape[0] / 30)
        self._points = np.empty((0, 2), dtype=np.float32) if found is None else found.reshape(-1, 2)
        self._origins, self._num_started = self._points, len(self._points)
        self._grey, self._start, self._last = grey, index, index

    def _follow(self, grey: np.ndarray) -> float:
        """Move the points on; the share of those the stretch began with that are still followed."""
        if not len(self._points):
            return 0.0
        settings = {"winSize": _WINDOW, "maxLevel": _LEVELS}
        there, found, _ = cv2.calcOpticalFlowPyrLK(self._grey, grey, self._points, None, **settings)
        back, returned, _ = cv2.calcOpticalFlowPyrLK(grey, self._grey, there, None, **settings)
        good = (found & returned).ravel().astype(bool)
        good &= np.linalg.norm(back - self._points, axis=1) < _ROUND_TRIP_PX
        good &= ((there >= 0) & (there < grey.shape[::-1])).all(axis=1)
        self._points, self._origins = there[good], self._origins[good]
        return len(self._points) / self._num_started

    def _end(self, shift: float) -> None:
        enough = len(self._points) >= max(_MIN_POINTS, _MIN_SHARE * self._num_started)
        parallax = _parallax(self._origins, self._points, self._grey.shape[1], shift) if enough else 0.0
        self.stretches.append(
            Stretch(start=self._start, end=self._last, shift=shift if enough else 0.0, parallax=parallax)
        )


def _parallax(
    before: Float32[np.ndarray, "point 2"], after: Float32[np.ndarray, "point 2"], width: int, shift: float
) -> float:
    """Share of points that the homography of most of them leaves too far from where they are."""
    tolerance_px = (_TOLERANCE + _TOLERANCE_OF_SHIFT * shift) * width
    homography, _ = cv2.findHomography(before, after, cv2.RANSAC, tolerance_px, maxIters=500)
    if homography is None:
        return 0.0
    mapped = cv2.perspectiveTransform(before[:, None], homography)[:, 0]
    return float((np.linalg.norm(mapped - after, axis=1) > tolerance_px).mean())
