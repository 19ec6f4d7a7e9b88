"""Propose windows of a long video without marks in which to look for clips, best first."""

import itertools

import cv2
import numpy as np

from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.source_video import SourceVideo

_SHORT_SIDE_PX = 180
_PLACES = (0.1, 0.5, 0.9)  # positions in a window whose key frames are decoded
# Mean change between key frames, 0..1, above which the score does not grow further.
_ENOUGH_CHANGE = 0.05


def propose_windows(
    source: SourceVideo, *, num_places: int, window_s: float, per_place: int, min_brightness: float
) -> list[list[tuple[float, float]]]:
    """Divide a video evenly into places; return the windows of each place, (start, end) in seconds, best first.

    A few key frames of each window are compared: bright, sharp and different ones are better.

    Args:
        source: The video.
        num_places: Number of places; fewer if the video is too short.
        window_s: Length of a window, seconds.
        per_place: Maximum number of windows per place.
        min_brightness: Mean luminance, 0..1, below which a window is as bad as one without motion.
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
            windows.append((-_score(source, start_s, end_s, min_brightness), start_s, end_s))
        places.append([(start_s, end_s) for _, start_s, end_s in sorted(windows)])
    return places


def _score(source: SourceVideo, start_s: float, end_s: float, min_brightness: float) -> float:
    """Return 0 for a window that is dark, damaged or without motion."""
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
