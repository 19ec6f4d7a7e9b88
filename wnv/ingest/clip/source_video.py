"""Read frames of any video file by presentation time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
from av.container import InputContainer
from av.filter import Graph
from av.stream import Stream
from av.video.frame import VideoFrame

from wnv.ingest.fetch.container import CLOCK_STARTS_ANYWHERE, FORMATS, video_facts
from wnv.ingest.tasks import StageError

# A file that ends this long before the duration in its header is truncated.
_MISSING_END_S = 1.0
# If a seek lands after its target, a second one aims this much earlier; a third one goes to the start.
_STEP_BACK_S = 10.0
# Common frame rates. A measured rate within 2.5 % of one of them is rounded to it.
_RATES = tuple(
    sorted(
        {Fraction(rate) for rate in (*range(1, 31), 48, 50, 60, 72, 75, 90, 100, 120, 144, 200, 240)}
        | {Fraction(rate * 1000, 1001) for rate in (24, 30, 48, 60, 120, 240)}
        | {Fraction(25, 2)}
    )
)
_RATE_TOLERANCE = Fraction(25, 1000)


class DamagedVideoError(ValueError):
    """The video cannot be decoded any further. The frames before are intact.

    Attributes:
        time_s: Time of the damage, seconds.
    """

    def __init__(self, message: str, time_s: float) -> None:
        super().__init__(message)
        self.time_s = time_s


@dataclass(frozen=True, kw_only=True)
class TimedFrame:
    """A decoded frame and its presentation time, seconds."""

    time_s: Fraction
    frame: VideoFrame


class SourceVideo:
    """A video file, read by presentation time. Handles edit lists, reordered frames and variable frame rates.

    Args:
        path: The file.
        threads: Threads of the decoder.

    Attributes:
        duration_s: Duration in the header, seconds; 0 if unknown.
        fps: Average frame rate in the header.
        pixel_aspect: Width of a pixel over its height.

    Raises:
        StageError: `corrupt` if it is not a video file, `no_video` if it has no video stream, or `missing_file`.
    """

    def __init__(self, path: Path, *, threads: int = 1) -> None:
        # Absolute, since FFmpeg takes a relative name with a colon for a URL.
        self.path = path.absolute()
        self._threads = threads
        if not self.path.is_file():
            raise StageError("failed", "missing_file", f"{path} does not exist; fetch it again")
        with self._open() as container:
            stream = self._stream(container)
            self._zero_s = Fraction(0)
            if container.format.name in CLOCK_STARTS_ANYWHERE:
                starts = [s.start_time * _time_base(s) for s in container.streams if s.start_time is not None]
                self._zero_s = min(starts, default=Fraction(0))
            self.duration_s = video_facts(container, stream).duration_s or 0.0
            self.fps = Fraction(stream.average_rate or stream.guessed_rate or 25)
            self.pixel_aspect = Fraction(stream.sample_aspect_ratio or 1)

    def frames(self, start_s: float = 0.0, end_s: float | None = None) -> Iterator[TimedFrame]:
        """Iterate over frames by time, from the key frame at or before `start_s` up to `end_s` or the end.

        Raises:
            DamagedVideoError: If a frame cannot be decoded or the file is truncated. The frames before are intact.
        """
        deinterlacer: Graph | None = None
        last_s: Fraction | None = None
        for frame in self._decode(start_s):
            if deinterlacer is None and frame.interlaced_frame:
                deinterlacer = _deinterlacer(frame)
            for done in [frame] if deinterlacer is None else _through(deinterlacer, frame):
                time_s = self._time(done, last_s)
                if end_s is not None and time_s >= end_s:
                    return
                if last_s is None or time_s > last_s:
                    yield TimedFrame(time_s=time_s, frame=done)
                    last_s = time_s
        expected_s = self.duration_s if end_s is None else min(end_s, self.duration_s)
        if (last_s is None and expected_s > start_s) or (last_s or 0) < expected_s - _MISSING_END_S:
            position_s = float(last_s or 0)
            raise DamagedVideoError(f"{self.path.name} ends at {position_s:.2f} s of {self.duration_s:.2f}", position_s)

    def key_frames(self, times_s: Iterable[float]) -> Iterator[VideoFrame | None]:
        """Iterate over the key frames at or before these times; None where decoding fails."""
        with self._open() as container:
            stream = self._stream(container)
            for time_s in times_s:
                try:
                    if not self._seek(container, stream, time_s):
                        yield None
                        continue
                    yield next(container.decode(stream), None)
                except av.FFmpegError as error:
                    _raise_if_not_damage(error)
                    yield None

    def key_frame_after(self, time_s: float) -> float | None:
        """Return the time of the first key frame after a time, seconds; None if there is none."""
        with self._open() as container:
            stream = self._stream(container)
            self._seek(container, stream, time_s)
            try:
                for packet in container.demux(stream):
                    if packet.is_keyframe and packet.pts is not None:
                        found_s = float(packet.pts * _time_base(stream) - self._zero_s)
                        if found_s > time_s:
                            return found_s + 1e-6  # so that a seek to it does not round down
            except av.FFmpegError as error:
                _raise_if_not_damage(error)
        return None

    def _decode(self, start_s: float) -> Iterator[VideoFrame]:
        """Iterate over frames from a key frame at or before `start_s`, decoding from the start if seeking fails."""
        for entry_s in (start_s, start_s - _STEP_BACK_S, 0.0):
            frames = self._decode_from(entry_s)
            first = next(frames, None)
            if first is not None and (entry_s <= 0 or self._time(first, None) <= start_s + 1 / self.fps):
                yield first
                yield from frames
                return

    def _decode_from(self, entry_s: float) -> Iterator[VideoFrame]:
        clean, position_s = False, 0.0
        with self._open() as container:
            stream = self._stream(container)
            if entry_s > 0 and not self._seek(container, stream, entry_s):
                return
            try:
                for frame in container.decode(stream):
                    # Frames that refer to ones before the entry are incomplete, which is not an error of the file.
                    if frame.is_corrupt and not clean:
                        continue
                    if frame.is_corrupt:
                        damaged_s = float(self._time(frame, None))
                        raise DamagedVideoError(f"{self.path.name} is damaged after {position_s:.2f} s", damaged_s)
                    clean, position_s = True, float(self._time(frame, None))
                    yield frame
            except av.FFmpegError as error:
                _raise_if_not_damage(error)
                message = f"{self.path.name} is damaged after {position_s:.2f} s: {error}"
                raise DamagedVideoError(message, position_s) from error

    def _seek(self, container: InputContainer, stream: av.VideoStream, time_s: float) -> bool:
        try:
            container.seek(int((Fraction(time_s) + self._zero_s) / _time_base(stream)), stream=stream)
        except av.FFmpegError:  # of any kind: FFmpeg reports "not permitted" for a file without index
            return False
        return True

    def _time(self, frame: VideoFrame, last_s: Fraction | None) -> Fraction:
        if frame.pts is None:  # old formats have no times
            return Fraction(0) if last_s is None else last_s + 1 / self.fps
        return frame.pts * _time_base(frame) - self._zero_s

    def _open(self) -> InputContainer:
        try:
            return av.open(str(self.path), container_options={"format_whitelist": FORMATS})
        except av.FFmpegError as error:
            _raise_if_not_damage(error)
            message = f"{self.path.name} ({self.path.stat().st_size} bytes) is not a readable video: {error}"
            raise StageError("refused", "corrupt", message) from error

    def _stream(self, container: InputContainer) -> av.VideoStream:
        streams = [stream for stream in container.streams.video if not stream.disposition.value & _ATTACHED_PICTURE]
        if not streams:
            raise StageError("refused", "no_video", f"{self.path.name} has no video stream")
        if streams[0].codec_context is None or not streams[0].width:
            raise StageError("refused", "corrupt", f"the video stream of {self.path.name} cannot be decoded")
        streams[0].thread_type = "AUTO" if self._threads > 1 else "NONE"
        streams[0].codec_context.thread_count = self._threads
        return streams[0]


_ATTACHED_PICTURE = 0x400  # a cover image, which FFmpeg also lists as a video stream


def constant_rate(average: Fraction, max_fps: Fraction | int) -> Fraction:
    """Round the rate of a video to a common one, and divide it to stay within `max_fps`.

    A rate far from all common ones becomes the next lower one, which drops frames rather than repeating them.

    Raises:
        ValueError: If `max_fps` is not positive.
    """
    if max_fps <= 0:
        raise ValueError(f"max_fps must be positive, got {max_fps}")
    nearest = min(_RATES, key=lambda rate: abs(rate - average))
    if abs(nearest - average) > average * _RATE_TOLERANCE:
        nearest = max((rate for rate in _RATES if rate <= average), default=_RATES[0])
    divisor = 1
    while nearest / divisor > max_fps:
        divisor += 1
    return nearest / divisor


@dataclass(frozen=True, kw_only=True)
class GridFrame:
    """The frame shown at a time of a regular grid; `repeated` if it was also shown at the previous time."""

    index: int
    frame: VideoFrame
    repeated: bool


def on_grid(frames: Iterator[TimedFrame], *, origin_s: Fraction, fps: Fraction) -> Iterator[GridFrame]:
    """Iterate over the frames shown at `origin_s + i / fps`, i = 0, 1, ...

    Containers round times, so a frame counts as shown from a quarter of a period before its time. The last frame is
    shown as long as the previous one, at most one period.
    """
    early_s = Fraction(1, 4) / fps
    index, shown, repeated = 0, None, False
    last_s = gap_s = 1 / fps
    for timed in frames:
        while shown is not None and origin_s + index / fps < timed.time_s - early_s:
            yield GridFrame(index=index, frame=shown, repeated=repeated)
            index, repeated = index + 1, True
        if shown is not None:
            gap_s = min(1 / fps, timed.time_s - last_s)
        shown, repeated, last_s = timed.frame, False, timed.time_s
    while shown is not None and origin_s + index / fps < last_s + gap_s - early_s:
        yield GridFrame(index=index, frame=shown, repeated=repeated)
        index, repeated = index + 1, True


def _deinterlacer(frame: VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base=frame.time_base)
    graph.link_nodes(source, graph.add("yadif", "deint=interlaced"), graph.add("buffersink")).configure()
    return graph


def _through(graph: Graph, frame: VideoFrame) -> Iterator[VideoFrame]:
    graph.vpush(frame)
    while True:
        try:
            yield graph.vpull()
        except (av.BlockingIOError, av.EOFError):
            return


def _time_base(timed: Stream | VideoFrame) -> Fraction:
    return timed.time_base or Fraction(1, av.time_base)


def _raise_if_not_damage(error: av.FFmpegError) -> None:
    """Re-raise errors of the disk, which are not errors of the video."""
    if isinstance(error, OSError):
        raise error
