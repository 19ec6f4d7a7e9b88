"""Propose windows of a long video without marks in which to look for clips, best first."""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.source_video import SourceVideo

_SHORT_SIDE_PX = 180
_PLACES = (0.1, 0.5, 0.9)  # positions in a window whose key frames are decoded
# Mean change between key frames, 0..1, above which the score does not grow further.
_ENOUGH_CHANGE = 0.05


@dataclass(frozen=True, kw_only=True)
class Window:
    """A range of a file in seconds, with a score; 0 means dark or without motion."""

    start_s: float
    end_s: float
    score: float


def propose_windows(
    source: SourceVideo, *, num_places: int, window_s: float, per_place: int, min_brightness: float
) -> list[list[Window]]:
    """Divide a video evenly into places and return the windows of each place, best first.

    The score comes from a few decoded key frames: bright, sharp and different ones score high.

    Args:
        source: The video.
        num_places: Number of places; fewer if the video is too short.
        window_s: Length of a window, seconds.
        per_place: Maximum number of windows per place.
        min_brightness: Mean luminance, 0..1, below which the score is 0.
    """
    num_places = max(1, min(num_places, int(source.duration_s / window_s)))
    place_s = source.duration_s / num_places
    per_place = max(1, min(per_place, int(place_s / window_s)))
    places = []
    for place in range(num_places):
        windows = []
        for number in range(per_place):
            middle_s = (place + (number + 0.5) / per_place) * place_s
            start_s, end_s = max(0.0, middle_s - window_s / 2), middle_s + window_s / 2
            score = _score(source, start_s, end_s, min_brightness)
            windows.append(Window(start_s=start_s, end_s=end_s, score=score))
        places.append(sorted(windows, key=lambda window: (-window.score, window.start_s)))
    return places


def _score(source: SourceVideo, start_s: float, end_s: float, min_brightness: float) -> float:
    images = []
    for frame in source.key_frames(start_s + share * (end_s - start_s) for share in _PLACES):
        if frame is None:
            return 0.0
        image = FrameConverter(source, frame, short_side=_SHORT_SIDE_PX)(frame)
        images.append(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if np.mean([image.mean() for image in images]) / 255 < min_brightness or len({image.shape for image in images}) > 1:
        return 0.0
    change = np.mean([cv2.absdiff(a, b).mean() / 255 for a, b in itertools.pairwise(images)])
    sharpness = np.mean([cv2.Laplacian(image, cv2.CV_32F).std() / 255 for image in images])
    return float(sharpness * min(1.0, change / _ENOUGH_CHANGE))
