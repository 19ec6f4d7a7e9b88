"""The clip stage: cut a fetched video into clips of constant frame rate, each a single shot with camera motion."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import InitVar, asdict, dataclass, field
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from typing import Any, ClassVar

import cv2
import numpy as np
from jaxtyping import UInt8

from wnv.ingest.clip.bars import Bars, find_bars
from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.propose import propose_windows
from wnv.ingest.clip.segments import ClipRules, Piece, Segment, find_pieces
from wnv.ingest.clip.source_video import GridFrame, SourceVideo, constant_rate, on_grid
from wnv.ingest.clip.write_clip import write_clip
from wnv.ingest.layout import clip_file, clip_id
from wnv.ingest.photos.photo_set import PHOTOS_PREFIX
from wnv.ingest.photos.prepare_photos import prepare_photos
from wnv.ingest.tasks import Outcome, StageError, StageName, Task

PHOTO_SHORT_SIDE = 720
# Of errors of the decoder in the message of an outcome.
_BAR_FRAMES = 8  # frames in which a clip's black bars are looked for
_MAX_MESSAGES = 3
_PACKAGES = ("av", "opencv-python-headless", "scenedetect-headless")
_ENCODER_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(eq=False, kw_only=True)
class ClipStage:
    """Cuts a video into clips.

    Marked segments are split at hard cuts, trimmed and divided. Shots that are too short, too dark, frozen or without
    parallax are dropped and recorded with reason and measurements. A short video without marked segments counts as one
    segment; a long one is sampled at `max_clips` places with at most one clip each. A video without any clip is
    rejected with the most frequent reason.

    Args:
        rules: Requirements on clips.
        short_side: Shorter side of the clips in pixels, even; smaller videos keep their size.
        photo_short_side: The same for photographs.
        fps: Frame rate of the clips, as a number or a fraction (`30000/1001`); None keeps that of the video.
        max_fps: Maximum frame rate if `fps` is None: a 60 fps video keeps every second frame.
        max_clips: Maximum number of clips of a video without marked segments.
        max_tries: Windows to try at each place of a long video without marked segments.
        gop: Frames between key frames.
        crf: x264's CRF: 0 is lossless, 18 visually lossless, 51 the worst.
        preset: x264's preset: `veryfast`, `fast`, `medium`, ...
        threads: Threads of decoder, encoder and OpenCV.

    Raises:
        ValueError: If a setting is out of range.
    """

    name: ClassVar[StageName] = "clip"

    rules: ClipRules
    short_side: int = 360
    photo_short_side: int = PHOTO_SHORT_SIDE
    fps: InitVar[float | str | None] = None
    max_fps: InitVar[float] = 30.0
    max_clips: int = 8
    max_tries: int = 3
    gop: int = 12
    crf: int = 18
    preset: str = "veryfast"
    threads: int = 1
    rate: Fraction | None = field(init=False)
    max_rate: Fraction = field(init=False)

    def __post_init__(self, fps: float | str | None, max_fps: float) -> None:
        if self.short_side < 16 or self.short_side % 2:
            raise ValueError(f"short_side must be an even number of at least 16 pixels, got {self.short_side}")
        if self.photo_short_side < 16:
            raise ValueError(f"photo_short_side must be at least 16 pixels, got {self.photo_short_side}")
        for name in ("max_clips", "max_tries", "gop", "threads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.crf <= 51:
            raise ValueError(f"crf must lie in 0..51, got {self.crf}")
        if self.preset not in _ENCODER_PRESETS:
            raise ValueError(f"preset must be one of {', '.join(_ENCODER_PRESETS)}, got '{self.preset}'")
        self.rate = None if fps is None else Fraction(fps).limit_denominator(1001)
        self.max_rate = Fraction(max_fps).limit_denominator(1001)
        if (self.rate is not None and self.rate <= 0) or self.max_rate <= 0:
            raise ValueError(f"fps and max_fps must be positive, got {fps} and {max_fps}")

    def versions(self) -> dict[str, str]:
        """Return the settings and tool versions that the clips depend on."""
        rates = {"fps": self.rate, "max_fps": self.max_rate}
        own = ["short_side", "max_clips", "max_tries", "gop", "crf", "preset"]
        if self.photo_short_side != PHOTO_SHORT_SIDE:  # clips of videos do not depend on it
            own.append("photo_short_side")
        settings = {**asdict(self.rules), **rates, **{name: getattr(self, name) for name in own}}
        return {name: str(value) for name, value in settings.items()} | {name: version(name) for name in _PACKAGES}

    def __call__(self, task: Task) -> Outcome:
        """Write the clips of one video.

        Raises:
            StageError: If the video gives no clip.
        """
        if task.item.startswith(PHOTOS_PREFIX):
            with _opencv_threads(self.threads):
                return prepare_photos(task, short_side=self.photo_short_side)
        with _opencv_threads(self.threads):
            video = _Video(self, task)
            video.cut()
        counts = Counter(entry["reason"] for entry in video.dropped)
        message = "; ".join([", ".join(f"{count} {reason}" for reason, count in counts.items()), *video.messages])
        if not video.clips:
            reason = counts.most_common(1)[0][0] if counts else "no_video"
            examples = (f"{name}: {text}" for name, text in video.examples.items())
            message = "; ".join(text for text in (message, *examples) if text)
            raise StageError("refused", reason, message or f"{task.item} has no files")
        return Outcome(
            state="done",
            message=message.strip("; "),
            result={"clips": video.clips, "dropped": video.dropped},
            num_bytes=video.num_bytes,
        )


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A fetched file. `start_s` is the time of its first frame in the whole video, seconds."""

    source: SourceVideo
    start_s: float
    end_s: float


class _Video:
    """Cuts one video; collects its clips, and the ranges that are dropped."""

    def __init__(self, stage: ClipStage, task: Task) -> None:
        self.stage, self.task, self.rules = stage, task, stage.rules
        self.clips: list[dict[str, Any]] = []
        self.dropped: list[dict[str, Any]] = []
        self.messages: list[str] = []
        self.examples: dict[str, str] = {}  # per reason, the value and limit of the first range
        self.num_bytes = 0
        self.parts: list[_Part] = []
        for part in task.payload["fetch"]["parts"]:
            start_s, end_s = float(part["start_s"]), float(part["end_s"])
            try:
                source = SourceVideo(task.root / part["file"], threads=stage.threads)
            except StageError as error:
                if error.outcome.state == "failed":
                    raise
                self._drop(start_s, end_s, error.outcome.reason)
                self.messages.append(error.outcome.message)
            else:
                self.parts.append(_Part(source=source, start_s=start_s, end_s=end_s))

    def cut(self) -> None:
        segments = [(float(start_s), float(end_s)) for start_s, end_s in self.task.payload["fetch"]["segments"]]
        if not self.parts:
            return
        total_s = sum(part.source.duration_s for part in self.parts)
        longest_s = max(self.rules.max_length_s(self._fps(part)) for part in self.parts)
        if segments:
            for start_s, end_s in segments:
                self._cut_marked(start_s, end_s)
        elif total_s <= self.stage.max_clips * longest_s:
            self._cut_short()
        else:
            for part in self.parts:
                self._cut_long(part, max(1, round(self.stage.max_clips * part.source.duration_s / total_s)))

    def _cut_marked(self, start_s: float, end_s: float) -> None:
        """Cut a marked segment from the part that covers most of it."""
        covered = [min(part.end_s, end_s) - max(part.start_s, start_s) for part in self.parts]
        if max(covered) <= 0:
            self._drop(start_s, end_s, "not_fetched")
            return
        part = self.parts[int(np.argmax(covered))]
        for segment in self._measure(part, max(0.0, start_s - part.start_s), end_s - part.start_s):
            for piece in segment.pieces:
                self._keep_or_drop(part, segment, piece)

    def _cut_short(self) -> None:
        """Cut a short video without marks. If it has too many good pieces, keep evenly spaced ones."""
        found = []
        for part in self.parts:
            segments = self._measure(part, 0.0, part.source.duration_s or part.end_s - part.start_s)
            found += [(part, segment, piece) for segment in segments for piece in segment.pieces]
        good = [index for index, (_, _, piece) in enumerate(found) if piece.reason is None]
        most = min(self.stage.max_clips, len(good))
        chosen = {good[(2 * n + 1) * len(good) // (2 * most)] for n in range(most)}
        for index, (part, segment, piece) in enumerate(found):
            self._keep_or_drop(part, segment, piece, is_surplus=index not in chosen)

    def _cut_long(self, part: _Part, num_places: int) -> None:
        """Cut the longest good piece of the first window that has one, at each of some places of a long video."""
        places = propose_windows(
            part.source,
            num_places=num_places,
            window_s=self.rules.max_length_s(self._fps(part)),
            per_place=self.stage.max_tries,
            min_brightness=self.rules.min_brightness,
        )
        for windows in places:
            for start_s, end_s in windows:
                found = [(segment, p) for segment in self._measure(part, start_s, end_s) for p in segment.pieces]
                good = [piece for _, piece in found if piece.reason is None]
                best = max(good, key=lambda piece: piece.end - piece.start, default=None)
                for segment, piece in found:
                    self._keep_or_drop(part, segment, piece, is_surplus=piece is not best)
                if best is not None:
                    break

    def _fps(self, part: _Part) -> Fraction:
        return self.stage.rate or constant_rate(part.source.fps, self.stage.max_rate)

    def _measure(self, part: _Part, start_s: float, end_s: float) -> list[Segment]:
        """Measure a segment; after damage, continue at the next key frame."""
        fps = self._fps(part)
        segments: list[Segment] = []
        while True:
            segment = find_pieces(part.source, start_s, end_s, fps=fps, rules=self.rules)
            segments.append(segment)
            decoded_s = float(segment.origin_s) + segment.pieces[-1].end / float(fps) if segment.pieces else start_s
            if segment.damage is None:
                if not segment.pieces:
                    self._drop(part.start_s + start_s, part.start_s + end_s, "few_frames")
                return segments
            key_frame_s = part.source.key_frame_after(max(start_s, segment.damage_s or 0.0))
            start_s = end_s if key_frame_s is None else min(key_frame_s, end_s)
            self._drop(part.start_s + decoded_s, part.start_s + start_s, "corrupt")
            if len(self.messages) < _MAX_MESSAGES:
                self.messages.append(segment.damage)
            if start_s >= end_s:
                return segments

    def _drop(self, start_s: float, end_s: float, reason: str, stats: Mapping[str, Any] | None = None) -> None:
        entry = {"start_s": round(start_s, 3), "end_s": round(end_s, 3), "reason": reason}
        last = self.dropped[-1] if self.dropped else {}
        # Adjoining ranges are merged: flashing lights would otherwise make thousands of entries.
        if not stats and last.get("reason") == reason and last["end_s"] == entry["start_s"] and "stats" not in last:
            last["end_s"] = entry["end_s"]
        else:
            self.dropped.append(entry | ({"stats": dict(stats)} if stats else {}))

    def _keep_or_drop(self, part: _Part, segment: Segment, piece: Piece, *, is_surplus: bool = False) -> None:
        origin_s = segment.origin_s + piece.start / segment.fps
        num_frames = piece.end - piece.start
        start_s = part.start_s + float(origin_s)
        end_s = start_s + num_frames / float(segment.fps)
        if piece.reason is not None or is_surplus:
            self._drop(start_s, end_s, piece.reason or "surplus", piece.stats)
            if piece.reason is not None:
                self.examples.setdefault(piece.reason, piece.message)
            return
        stage = self.stage
        about = {name: self.task.payload[name] for name in ("key", "kind", "split")}
        clip = clip_id(about["key"], start_s)
        file = clip_file(clip, kind=about["kind"], split=about["split"])
        path = self.task.root / file
        # Existing poses belong to the clip of an earlier run, which this one replaces.
        path.with_suffix(".json").unlink(missing_ok=True)
        span_s = float(origin_s), float(origin_s + num_frames / segment.fps)
        shown = islice(on_grid(part.source.frames(*span_s), origin_s=origin_s, fps=segment.fps), num_frames)
        short_side, bars = _crop(part.source, *span_s, short_side=stage.short_side)
        width, height, written = write_clip(
            path,
            _images(part.source, shown, short_side, bars),
            fps=segment.fps,
            gop=stage.gop,
            crf=stage.crf,
            preset=stage.preset,
            threads=stage.threads,
        )
        self.num_bytes += path.stat().st_size
        times = {"start_s": start_s, "end_s": end_s, "fps": str(segment.fps), "num_frames": written}
        size = {"width": width, "height": height, **({"bars": asdict(bars)} if bars else {})}
        self.clips.append({"id": clip, "file": file, **about, **times, **size, "stats": piece.stats})


def _crop(source: SourceVideo, start_s: float, end_s: float, *, short_side: int) -> tuple[int, Bars]:
    """Return the short side to which frames are scaled, and the black bars of the scaled frames."""
    first = next((timed.frame for timed in source.frames(start_s, end_s)), None)
    if first is None or not find_bars([FrameConverter(source, first, short_side=short_side)(first)]):
        return short_side, Bars()
    frames = [first]
    for time_s in np.linspace(start_s, end_s, _BAR_FRAMES + 1)[1:-1]:
        frames += [timed.frame for timed in islice(source.frames(float(time_s), end_s), 1)]
    images = [FrameConverter(source, first, short_side=short_side)(frame) for frame in frames]
    bars = find_bars(images)
    if not bars:
        return short_side, bars
    # Scale so that the picture between the bars has the wanted size, if the video has it.
    left = min(bars.crop(images[0]).shape[:2])
    short_side = round(short_side * min(images[0].shape[:2]) / left)
    return short_side, find_bars([FrameConverter(source, first, short_side=short_side)(frame) for frame in frames])


def _images(
    source: SourceVideo, shown: Iterable[GridFrame], short_side: int, bars: Bars
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    convert: FrameConverter | None = None
    image: np.ndarray | None = None
    for grid_frame in shown:
        convert = convert or FrameConverter(source, grid_frame.frame, short_side=short_side)
        if image is None or not grid_frame.repeated:
            image = bars.crop(convert(grid_frame.frame)) if bars else convert(grid_frame.frame)
        yield image


@contextmanager
def _opencv_threads(number: int) -> Iterator[None]:
    previous = cv2.getNumThreads()
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        cv2.setNumThreads(previous)
