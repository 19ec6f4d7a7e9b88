"""Where to look for clips in a long video that nobody has marked: windows spread over it, the promising ones first."""

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.source_video import SourceVideo

_LOOK_SIDE_PX = 180
_LOOKS = (0.1, 0.5, 0.9)  # where in a window its key frames are looked at
# Mean change, 0..1, between the looks of a window above which more of it makes no better window.
_ENOUGH_CHANGE = 0.05


@dataclass(frozen=True, kw_only=True)
class Window:
    """A stretch of a file, seconds, and how promising it looks: 0 is dark or standing still."""

    start_s: float
    end_s: float
    score: float


def propose_windows(
    source: SourceVideo, *, num_places: int, window_s: float, per_place: int, min_brightness: float
) -> list[list[Window]]:
    """Windows by place: the video is divided evenly into places, and each has a few windows, the best one first.

    Only a few key frames of each window are decoded: bright ones that are sharp and differ from each other score high.

    Args:
        source: The video.
        num_places: Number of places; fewer if the video is too short to hold them.
        window_s: Length of a window.
        per_place: Windows of a place at most.
        min_brightness: Mean luminance, 0..1, below which a window scores 0.
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
    looks = []
    for frame in source.key_frames(start_s + share * (end_s - start_s) for share in _LOOKS):
        if frame is None:
            return 0.0
        image = FrameConverter(source, frame, short_side=_LOOK_SIDE_PX)(frame)
        looks.append(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY))
    if np.mean([look.mean() for look in looks]) / 255 < min_brightness or len({look.shape for look in looks}) > 1:
        return 0.0
    change = np.mean([cv2.absdiff(a, b).mean() / 255 for a, b in itertools.pairwise(looks)])
    sharpness = np.mean([cv2.Laplacian(look, cv2.CV_32F).std() / 255 for look in looks])
    return float(sharpness * min(1.0, change / _ENOUGH_CHANGE))
