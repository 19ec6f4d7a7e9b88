"""Split a segment of a video into shots and measure them in one pass over downscaled frames."""

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from fractions import Fraction
from typing import Any, Literal, NamedTuple

import cv2
import numpy as np
from scenedetect import AdaptiveDetector, ContentDetector, FrameTimecode
from scenedetect.detector import SceneDetector

from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.motion import MotionMeter, Stretch
from wnv.ingest.clip.source_video import DamagedVideoError, SourceVideo, TimedFrame, on_grid

CutDetector = Literal["adaptive", "content", "none"]

SLOW_FPS = 4
"""Up to this rate a video is a sequence of single pictures: not trimmed, not tested for parallax, hardly divided."""
_SLOW_FRAMES = 64  # a sequence of pictures is divided into parts of at most this length

_ANALYSIS_SIDE_PX = 180
_TRACKING_FPS = 10
_MAX_STRETCH_S = 3.0
# Mean difference, of 255, below which two frames are the same image, encoded twice.
_STILL_DIFFERENCE = 0.3
_FROZEN_SHARE = 0.9
# Share of a clip's time in which stretches must reach the required parallax; in the rest the camera may stand or turn.
_PARALLAX_SHARE_OF_TIME = 0.25


@dataclass(frozen=True, kw_only=True)
class ClipRules:
    """Requirements on clips.

    Attributes:
        min_s: Minimum length, seconds.
        max_s: Maximum length, seconds; longer shots are split evenly.
        trim_s: Seconds removed at both ends of a shot, where fades leave traces and marks are inexact.
        min_frames: Minimum number of frames, after trimming and division.
        min_brightness: Minimum mean luminance, 0..1.
        min_parallax: Minimum share of tracked points off the best homography, over at least a quarter of the clip.
        min_shift: Image shift over its width below which the camera counts as static.
        max_shift: Image shift over its width at which parallax is measured.
        cut_detector: `adaptive` compares the change of a frame with that of its neighbors, so that fast motion is not a
            cut; `content` uses the change alone; `none` finds no cuts.
        cut_threshold: `adaptive`: ratio to the change of neighboring frames; `content`: the change itself.
        cut_min_content: `adaptive`: minimum change of a cut.
    """

    min_s: float = 2.0
    max_s: float = 20.0
    trim_s: float = 0.3
    min_frames: int = 6
    min_brightness: float = 0.08
    min_parallax: float = 0.08
    min_shift: float = 0.01
    max_shift: float = 0.06
    cut_detector: CutDetector = "adaptive"
    cut_threshold: float = 2.0
    cut_min_content: float = 15.0

    def __post_init__(self) -> None:
        if not 0 < self.min_s <= self.max_s:
            raise ValueError(f"min_s must be positive and at most max_s, got {self.min_s} and {self.max_s}")
        if self.trim_s < 0:
            raise ValueError(f"trim_s must not be negative, got {self.trim_s}")
        if not 0 <= self.min_shift < self.max_shift <= 0.5:
            raise ValueError(f"0 <= min_shift < max_shift <= 0.5 must hold, got {self.min_shift} and {self.max_shift}")
        if self.min_frames < 2:
            raise ValueError(f"min_frames must be at least 2, got {self.min_frames}")
        if self.cut_detector not in ("adaptive", "content", "none"):
            raise ValueError(f"cut_detector must be 'adaptive', 'content' or 'none', got '{self.cut_detector}'")

    def max_length_s(self, fps: Fraction) -> float:
        """Return the maximum length of a clip of this frame rate, seconds."""
        return max(self.max_s, _SLOW_FRAMES / float(fps)) if fps <= SLOW_FPS else self.max_s


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A range of frames of a segment.

    Attributes:
        start: First frame.
        end: Frame after the last one.
        reason: Reason code for dropping it; None keeps it.
        message: Measured value, and setting and limit, for that reason.
        stats: Measurements.
    """

    start: int
    end: int
    reason: str | None = None
    message: str = ""
    stats: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A measured segment.

    Attributes:
        origin_s: Time of its first frame in the file; frame `i` is the one shown at `origin_s + i / fps`.
        fps: Frame rate of the clips.
        pieces: Its shots, divided.
        damage: The decoder's error, if the file cannot be decoded to the end of the segment.
        damage_s: Time of the damage in the file, seconds.
    """

    origin_s: Fraction
    fps: Fraction
    pieces: list[Piece]
    damage: str | None
    damage_s: float | None = None


class _Measures(NamedTuple):
    """Measurements of a frame; `change` is the mean difference to the previous one, of 255."""

    repeated: bool
    brightness: float
    sharpness: float
    change: float


def find_pieces(source: SourceVideo, start_s: float, end_s: float, *, fps: Fraction, rules: ClipRules) -> Segment:
    """Decode a segment of a video once, downscaled, and divide it into pieces.

    Args:
        source: The video.
        start_s: Start of the segment, seconds in the file.
        end_s: End of the segment, seconds in the file.
        fps: Frame rate of the clips.
        rules: Requirements on clips.
    """
    origin_s, frames = starting_at(source.frames(start_s, end_s), start_s, fps)
    detector, cuts = _cut_detector(rules), [0]
    meter = MotionMeter(max_shift=rules.max_shift, max_frames=round(_MAX_STRETCH_S * fps))
    every, next_tracked, last = max(1, round(fps / _TRACKING_FPS)), 0, 0
    measures: list[_Measures] = []
    convert: FrameConverter | None = None
    grey: np.ndarray | None = None
    damage: str | None = None
    damage_s: float | None = None
    try:
        for shown in on_grid(frames, origin_s=origin_s, fps=fps):
            if shown.repeated and measures:  # left out of cut detection: any change after it looks like a cut
                measures.append(measures[-1]._replace(repeated=True, change=0.0))
                continue
            convert = convert or FrameConverter(source, shown.frame, short_side=_ANALYSIS_SIDE_PX)
            image = convert(shown.frame)
            previous, grey = grey, cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
            measures.append(
                _Measures(
                    repeated=shown.repeated,
                    brightness=float(grey.mean()) / 255,
                    sharpness=float(cv2.Laplacian(grey, cv2.CV_32F).std()) / 255,
                    change=255.0 if previous is None else float(cv2.absdiff(grey, previous).mean()),
                )
            )
            if detector is not None:
                last = shown.index
                cuts += [cut.frame_num for cut in detector.process_frame(FrameTimecode(last, fps), image[..., ::-1])]
            if shown.index >= next_tracked:
                meter.add(shown.index, grey)
                next_tracked = shown.index + every
    except DamagedVideoError as error:
        damage, damage_s = str(error), error.time_s
    if detector is not None:
        cuts += [cut.frame_num for cut in detector.post_process(FrameTimecode(last, fps))]
    stretches = meter.finish()
    pieces = [
        _judge(piece, fps, measures, stretches, rules, tone_mapped=convert is not None and convert.tone_mapped)
        for start, end in itertools.pairwise([*sorted(set(cuts)), len(measures)])
        for piece in _split(start, end, fps, rules)
        if measures
    ]
    return Segment(origin_s=origin_s, fps=fps, pieces=pieces, damage=damage, damage_s=damage_s)


def _cut_detector(rules: ClipRules) -> SceneDetector | None:
    # min_scene_len=1 reports every cut; shots that are too short are dropped later.
    if rules.cut_detector == "none":
        return None
    if rules.cut_detector == "content":
        return ContentDetector(threshold=rules.cut_threshold, min_scene_len=1)
    return AdaptiveDetector(
        adaptive_threshold=rules.cut_threshold, min_content_val=rules.cut_min_content, min_scene_len=1
    )


def starting_at(frames: Iterator[TimedFrame], start_s: float, fps: Fraction) -> tuple[Fraction, Iterator[TimedFrame]]:
    """Return the time of the first frame at or after `start_s`, and the frames from it on.

    If decoding fails before it, return `start_s` and an iterator that raises the error.
    """
    earliest_s = Fraction(start_s) - Fraction(1, 4) / fps
    try:
        for timed in frames:
            if timed.time_s >= earliest_s:
                return timed.time_s, itertools.chain([timed], frames)
    except DamagedVideoError as error:
        return Fraction(start_s), _raising(error)
    return Fraction(start_s), iter(())


def _raising(error: Exception) -> Iterator[TimedFrame]:
    raise error
    yield  # makes this a generator


def _split(start: int, end: int, fps: Fraction, rules: ClipRules) -> Iterator[Piece]:
    """Trim a shot and divide it into equal pieces of at most `max_s`."""
    trim = 0 if fps <= SLOW_FPS else math.ceil(rules.trim_s * fps)
    first, stop = start + trim, end - trim
    num_frames = stop - first
    trimmed = f", trimmed by clip.rules.trim_s={rules.trim_s:g} at both ends" if trim else ""
    if num_frames < rules.min_s * fps and end - start >= rules.min_frames:
        length = f"{max(0, num_frames) / float(fps):.2f} s{trimmed}, clip.rules.min_s={rules.min_s:g}"
        yield Piece(start=start, end=end, reason="too_short", message=length)
        return
    num_parts = max(1, math.ceil(num_frames / max(1, math.floor(rules.max_length_s(fps) * fps))))
    if num_frames / num_parts < rules.min_frames:
        number = f"{max(0, num_frames // num_parts)} frames{trimmed}, clip.rules.min_frames={rules.min_frames}"
        yield Piece(start=start, end=end, reason="few_frames", message=number)
        return
    edges = [first + num_frames * part // num_parts for part in range(num_parts + 1)]
    yield from (Piece(start=a, end=b) for a, b in itertools.pairwise(edges))


def _judge(
    piece: Piece,
    fps: Fraction,
    measures: list[_Measures],
    stretches: list[Stretch],
    rules: ClipRules,
    *,
    tone_mapped: bool,
) -> Piece:
    """Return the piece with its measurements and, if it is to be dropped, the reason."""
    if piece.reason is not None:
        return piece
    frames = measures[piece.start : piece.end]
    brightness = float(np.mean([frame.brightness for frame in frames]))
    still = float(np.mean([frame.change < _STILL_DIFFERENCE for frame in frames[1:]]))
    parallax, shift = _motion(piece, stretches, rules)
    stats = {
        "brightness": round(brightness, 4),
        "sharpness": round(float(np.mean([frame.sharpness for frame in frames])), 4),
        "still": round(still, 4),
        "parallax": round(parallax, 4),
        "shift_per_s": round(shift * float(fps) / (piece.end - piece.start), 4),
        "num_duplicated": sum(frame.repeated for frame in frames[1:]),
        "tone_mapped": tone_mapped,
    }
    # Reason, whether it applies, and value and limit. Steps between single pictures are too wide to be tracked.
    checks = (
        ("too_dark", brightness < rules.min_brightness, f"brightness {brightness:.3f}, ", "min_brightness"),
        ("frozen", still > _FROZEN_SHARE, f"{still:.0%} of the frames equal their predecessor, at most 90%", ""),
        ("no_parallax", fps > SLOW_FPS and parallax < rules.min_parallax, f"parallax {parallax:.3f}, ", "min_parallax"),
    )
    for reason, applies, value, setting in checks:
        if applies:
            message = f"{value}clip.rules.{setting}={getattr(rules, setting):g}" if setting else value
            return replace(piece, reason=reason, message=message, stats=stats)
    return replace(piece, stats=stats)


def _motion(piece: Piece, stretches: list[Stretch], rules: ClipRules) -> tuple[float, float]:
    """Return the parallax reached in a quarter of the piece's time, and the sum of its shifts."""
    total_shift, shares = 0.0, []
    for stretch in stretches:
        inside = min(stretch.end, piece.end) - max(stretch.start, piece.start)
        # Tracking fails at cuts, so a stretch across one is not used.
        if inside * 2 > stretch.end - stretch.start:
            shares.append((stretch.parallax if stretch.shift >= rules.min_shift else 0.0, inside))
            total_shift += stretch.shift
    needed = _PARALLAX_SHARE_OF_TIME * (piece.end - piece.start)
    for parallax, frames in sorted(shares, reverse=True):
        needed -= frames
        if needed <= 0:
            return parallax, total_shift
    return 0.0, total_shift
