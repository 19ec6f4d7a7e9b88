"""The clip stage: cut a fetched video into clips of constant frame rate, each a single shot with camera motion."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from fractions import Fraction
from importlib.metadata import version
from itertools import islice
from typing import Any

import cv2
import numpy as np
from jaxtyping import UInt8

from wnv.ingest.clip.frame_converter import FrameConverter
from wnv.ingest.clip.propose import propose_windows
from wnv.ingest.clip.segments import ClipRules, Piece, Segment, find_pieces
from wnv.ingest.clip.source_video import GridFrame, SourceVideo, constant_rate, on_grid
from wnv.ingest.clip.write_clip import write_clip
from wnv.ingest.layout import absolute, clip_file, clip_id
from wnv.ingest.tasks import Outcome, StageError, StageName, Task

_PACKAGES = ("av", "opencv-python-headless", "scenedetect-headless")
_ENCODER_PRESETS = ("ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow")


@dataclass(frozen=True, kw_only=True)
class _Part:
    """A fetched file. `start_s` is the time of its first frame in the whole video, seconds."""

    source: SourceVideo
    start_s: float
    end_s: float


@dataclass(kw_only=True)
class _Clips:
    """Clips of a video, and the ranges that were dropped."""

    clips: list[dict[str, Any]]
    dropped: list[dict[str, Any]]
    messages: list[str]
    num_bytes: int = 0

    def drop(self, start_s: float, end_s: float, reason: str, stats: Mapping[str, Any] | None = None) -> None:
        entry = {"start_s": round(start_s, 3), "end_s": round(end_s, 3), "reason": reason}
        last = self.dropped[-1] if self.dropped else {}
        # Adjoining ranges are merged: flashing lights would otherwise make thousands of entries.
        if not stats and last.get("reason") == reason and last["end_s"] == entry["start_s"] and "stats" not in last:
            last["end_s"] = entry["end_s"]
        else:
            self.dropped.append(entry | ({"stats": dict(stats)} if stats else {}))


class ClipStage:
    """Cuts a video into clips.

    Marked segments are split at hard cuts, trimmed and divided. Shots that are too short, too dark, frozen or without
    parallax are dropped and recorded with reason and measurements. A short video without marked segments counts as one
    segment; a long one is sampled at `max_clips` places with at most one clip each. A video without any clip is
    rejected with the most frequent reason.

    Args:
        rules: Requirements on clips.
        short_side: Shorter side of the clips in pixels, even; smaller videos keep their size.
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

    name: StageName = "clip"

    def __init__(
        self,
        *,
        rules: ClipRules,
        short_side: int = 360,
        fps: float | str | None = None,
        max_fps: float = 30.0,
        max_clips: int = 8,
        max_tries: int = 3,
        gop: int = 12,
        crf: int = 18,
        preset: str = "veryfast",
        threads: int = 1,
    ) -> None:
        if short_side < 16 or short_side % 2:
            raise ValueError(f"short_side must be an even number of at least 16 pixels, got {short_side}")
        for name, value in (("max_clips", max_clips), ("max_tries", max_tries), ("gop", gop), ("threads", threads)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 0 <= crf <= 51:
            raise ValueError(f"crf must lie in 0..51, got {crf}")
        if preset not in _ENCODER_PRESETS:
            raise ValueError(f"preset must be one of {', '.join(_ENCODER_PRESETS)}, got '{preset}'")
        self._fps = None if fps is None else Fraction(fps).limit_denominator(1001)
        if (self._fps is not None and self._fps <= 0) or max_fps <= 0:
            raise ValueError(f"fps and max_fps must be positive, got {fps} and {max_fps}")
        self._rules, self._short_side, self._max_fps = rules, short_side, Fraction(max_fps).limit_denominator(1001)
        self._max_clips, self._max_tries = max_clips, max_tries
        self._gop, self._crf, self._preset, self._threads = gop, crf, preset, threads

    def versions(self) -> dict[str, str]:
        """Return the settings and tool versions that the clips depend on."""
        settings = {
            **asdict(self._rules),
            "short_side": self._short_side,
            "fps": self._fps,
            "max_fps": self._max_fps,
            "max_clips": self._max_clips,
            "max_tries": self._max_tries,
            "gop": self._gop,
            "crf": self._crf,
            "preset": self._preset,
        }
        return {name: str(value) for name, value in settings.items()} | {name: version(name) for name in _PACKAGES}

    def __call__(self, task: Task) -> Outcome:
        """Write the clips of one video.

        Raises:
            StageError: If the video gives no clip.
        """
        fetched = task.payload["fetch"]
        result = _Clips(clips=[], dropped=[], messages=[])
        with _opencv_threads(self._threads):
            parts = self._open(task, fetched["parts"], result)
            if fetched["segments"]:
                self._cut_marked(task, parts, fetched["segments"], result)
            else:
                self._cut_unmarked(task, parts, result)
        counts = Counter(entry["reason"] for entry in result.dropped)
        message = "; ".join([", ".join(f"{count} {reason}" for reason, count in counts.items()), *result.messages])
        if not result.clips:
            reason = counts.most_common(1)[0][0] if counts else "no_video"
            raise StageError("refused", reason, message or f"{task.item} has no files")
        return Outcome(
            state="done",
            message=message.strip("; "),
            result={"clips": result.clips, "dropped": result.dropped},
            num_bytes=result.num_bytes,
        )

    def _open(self, task: Task, parts: list[dict[str, Any]], result: _Clips) -> list[_Part]:
        """Open the files; drop those that cannot be opened."""
        opened = []
        for part in parts:
            try:
                source = SourceVideo(absolute(task.root, part["file"]), threads=self._threads)
            except StageError as error:
                if error.outcome.state == "failed":
                    raise
                result.drop(float(part["start_s"]), float(part["end_s"]), error.outcome.reason)
                result.messages.append(error.outcome.message)
                continue
            opened.append(_Part(source=source, start_s=float(part["start_s"]), end_s=float(part["end_s"])))
        return opened

    def _cut_marked(self, task: Task, parts: list[_Part], segments: list[list[float]], result: _Clips) -> None:
        if not parts:
            return  # dropped by `_open`
        for start_s, end_s in ((float(start_s), float(end_s)) for start_s, end_s in segments):
            covered = [min(part.end_s, end_s) - max(part.start_s, start_s) for part in parts]
            if max(covered) <= 0:
                result.drop(start_s, end_s, "not_fetched")
                continue
            part = parts[int(np.argmax(covered))]
            segment = self._measure(part, max(0.0, start_s - part.start_s), end_s - part.start_s, result)
            for piece in segment.pieces:
                self._keep_or_drop(task, part, segment, piece, result)

    def _cut_unmarked(self, task: Task, parts: list[_Part], result: _Clips) -> None:
        total_s = sum(part.source.duration_s for part in parts)
        if total_s <= self._max_clips * self._rules.max_s:
            found = []
            for part in parts:
                length_s = part.source.duration_s or part.end_s - part.start_s
                segment = self._measure(part, 0.0, length_s, result)
                found += [(part, segment, piece) for piece in segment.pieces]
            good = [index for index, (_, _, piece) in enumerate(found) if piece.reason is None]
            # If there are too many, keep evenly spaced ones.
            if len(good) > self._max_clips:
                chosen = {good[(2 * n + 1) * len(good) // (2 * self._max_clips)] for n in range(self._max_clips)}
                for index in set(good) - chosen:
                    part, segment, piece = found[index]
                    found[index] = (part, segment, replace(piece, reason="surplus"))
            for part, segment, piece in found:
                self._keep_or_drop(task, part, segment, piece, result)
            return
        for part in parts:
            places = propose_windows(
                part.source,
                num_places=max(1, round(self._max_clips * part.source.duration_s / total_s)),
                window_s=self._rules.max_s,
                per_place=self._max_tries,
                min_brightness=self._rules.min_brightness,
            )
            for windows in places:
                self._cut_one_of(task, part, [(window.start_s, window.end_s) for window in windows], result)

    def _cut_one_of(self, task: Task, part: _Part, windows: list[tuple[float, float]], result: _Clips) -> None:
        """Cut the longest accepted piece of the first window that has one."""
        for start_s, end_s in windows:
            segment = self._measure(part, start_s, end_s, result)
            good = [piece for piece in segment.pieces if piece.reason is None]
            best = max(good, key=lambda piece: piece.end - piece.start, default=None)
            for piece in segment.pieces:
                surplus = piece.reason is None and piece is not best
                self._keep_or_drop(task, part, segment, replace(piece, reason="surplus") if surplus else piece, result)
            if best is not None:
                return

    def _measure(self, part: _Part, start_s: float, end_s: float, result: _Clips) -> Segment:
        fps = self._fps or constant_rate(part.source.fps, self._max_fps)
        segment = find_pieces(part.source, start_s, end_s, fps=fps, rules=self._rules)
        decoded_s = float(segment.origin_s) + segment.pieces[-1].end / float(fps) if segment.pieces else start_s
        if segment.damage is not None:
            result.drop(part.start_s + decoded_s, part.start_s + end_s, "corrupt")
            result.messages.append(segment.damage)
        elif not segment.pieces:
            result.drop(part.start_s + start_s, part.start_s + end_s, "few_frames")
        return segment

    def _keep_or_drop(self, task: Task, part: _Part, segment: Segment, piece: Piece, result: _Clips) -> None:
        origin_s = segment.origin_s + piece.start / segment.fps
        num_frames = piece.end - piece.start
        start_s = part.start_s + float(origin_s)
        end_s = start_s + num_frames / float(segment.fps)
        if piece.reason is not None:
            result.drop(start_s, end_s, piece.reason, piece.stats)
            return
        key, kind, split = (task.payload[name] for name in ("key", "kind", "split"))
        clip = clip_id(key, start_s)
        file = clip_file(clip, kind=kind, split=split)
        path = task.root / file
        # Existing poses belong to the clip of an earlier run, which this one replaces.
        path.with_suffix(".json").unlink(missing_ok=True)
        frames = part.source.frames(float(origin_s), float(origin_s + num_frames / segment.fps))
        shown = islice(on_grid(frames, origin_s=origin_s, fps=segment.fps), num_frames)
        width, height, written = write_clip(
            path,
            _images(part.source, shown, self._short_side),
            fps=segment.fps,
            gop=self._gop,
            crf=self._crf,
            preset=self._preset,
            threads=self._threads,
        )
        result.num_bytes += path.stat().st_size
        result.clips.append(
            {
                "id": clip,
                "file": file,
                "key": key,
                "kind": kind,
                "split": split,
                "start_s": start_s,
                "end_s": end_s,
                "fps": str(segment.fps),
                "num_frames": written,
                "width": width,
                "height": height,
                "stats": piece.stats,
            }
        )


def _images(
    source: SourceVideo, shown: Iterable[GridFrame], short_side: int
) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    convert: FrameConverter | None = None
    image: np.ndarray | None = None
    for grid_frame in shown:
        convert = convert or FrameConverter(source, grid_frame.frame, short_side=short_side)
        if image is None or not grid_frame.repeated:
            image = convert(grid_frame.frame)
        yield image


@contextmanager
def _opencv_threads(number: int) -> Iterator[None]:
    previous = cv2.getNumThreads()
    cv2.setNumThreads(number)
    try:
        yield
    finally:
        cv2.setNumThreads(previous)
