"""Find hard cuts with PySceneDetect's detectors, on frames decoded elsewhere."""

from fractions import Fraction
from typing import Literal

import numpy as np
from jaxtyping import UInt8
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from scenedetect.detector import SceneDetector

CutDetector = Literal["adaptive", "content", "none"]


class CutFinder:
    """Finds cuts in a sequence of frames.

    Args:
        detector: `adaptive` compares the change of a frame with that of its neighbors, so that fast motion is not a
            cut; `content` uses the change alone; `none` finds no cuts.
        threshold: `adaptive`: ratio to the neighbors' change; `content`: the change itself.
        min_content: `adaptive`: minimum change of a cut.
        fps: Frame rate.

    Attributes:
        cuts: Indices of the first frames after cuts; complete after `finish`.
    """

    def __init__(self, *, detector: CutDetector, threshold: float, min_content: float, fps: Fraction) -> None:
        self.cuts: list[int] = []
        self._fps = fps
        self._last = 0
        self._detector: SceneDetector | None = None
        # min_scene_len=1 reports every cut; shots that are too short are dropped later.
        if detector == "adaptive":
            self._detector = AdaptiveDetector(
                adaptive_threshold=threshold, min_content_val=min_content, min_scene_len=1
            )
        elif detector == "content":
            self._detector = ContentDetector(threshold=threshold, min_scene_len=1)

    def add(self, index: int, image: UInt8[np.ndarray, "height width 3"]) -> None:
        """Add an RGB frame. Leave out repeated frames, after which any change looks like a cut."""
        if self._detector is not None:
            self._last = index
            found = self._detector.process_frame(FrameTimecode(index, self._fps), image[..., ::-1])
            self.cuts.extend(cut.frame_num for cut in found)

    def finish(self) -> list[int]:
        """End the sequence; return all cuts, ascending."""
        if self._detector is not None:
            found = self._detector.post_process(FrameTimecode(self._last, self._fps))
            self.cuts.extend(cut.frame_num for cut in found)
        return sorted(set(self.cuts))
