"""Hard cuts in a stretch of video, by PySceneDetect's detectors on frames that we decode."""

from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from scenedetect.detector import SceneDetector

CutDetector = Literal["adaptive", "content", "none"]


class CutFinder:
    """Collects cuts while frames go by.

    Args:
        detector: `adaptive` compares the change of a frame with that of its neighbours, so that fast motion is no cut;
            `content` looks at the change alone; `none` finds nothing.
        threshold: For `adaptive` how many times its neighbours' change it must be, for `content` the change itself.
        min_content: For `adaptive`, the change that a cut has at least.
        fps: Frames a second.

    Attributes:
        cuts: Numbers of the first frames after cuts, ascending; complete after `finish`.
    """

    def __init__(self, *, detector: CutDetector, threshold: float, min_content: float, fps: Fraction) -> None:
        self.cuts: list[int] = []
        self._fps = fps
        self._last = 0
        self._detector: SceneDetector | None = None
        # Every cut counts, however near to another one: what is too short is dropped later.
        if detector == "adaptive":
            self._detector = AdaptiveDetector(
                adaptive_threshold=threshold, min_content_val=min_content, min_scene_len=1
            )
        elif detector == "content":
            self._detector = ContentDetector(threshold=threshold, min_scene_len=1)

    def add(self, index: int, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """The next frame, RGB. Repeated frames are better left out: a standstill before a change looks like a cut."""
        if self._detector is not None:
            self._last = index
            found = self._detector.process_frame(FrameTimecode(index, self._fps), image[..., ::-1])
            self.cuts.extend(cut.frame_num for cut in found)

    def finish(self) -> list[int]:
        """There are no more frames; all cuts."""
        if self._detector is not None:
            found = self._detector.post_process(FrameTimecode(self._last, self._fps))
            self.cuts.extend(cut.frame_num for cut in found)
        return sorted(set(self.cuts))
