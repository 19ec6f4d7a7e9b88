"""Video files, read and cut without decoding more than has to be: PyAV, whatever the file claims to be."""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Protocol, runtime_checkable

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

# Only containers that hold their own data: playlists and the like name other files and addresses, and a file that a
# stranger serves must not have those read.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,h264,hevc,m4v,asf,ogg,live_flv"

# Those that say where their keyframes lie.
_INDEXED = ("mov", "mp4", "matroska", "webm")

CLOCK_STARTS_ANYWHERE = ("mpegts", "mpeg", "flv")
"""Formats whose clock starts anywhere; in all others zero is where the presentation starts."""

_SECOND = 1.0
_MAX_BACK_S = 60.0


@runtime_checkable
class Readable(Protocol):
    """What PyAV needs of a file."""

    def read(self, num_bytes: int = -1, /) -> bytes:
        """Up to so many bytes."""
        ...

    def seek(self, offset: int, whence: int = 0, /) -> int:
        """Stand elsewhere; the place."""
        ...

    def tell(self) -> int:
        """The place, in bytes."""
        ...


VideoSource = tuple[InputContainer, VideoStream]
"""An open container with the stream of it that is meant."""


class MediaError(Exception):
    """A file that is no usable video.

    Attributes:
        reason: `empty_file`, `corrupt`, `no_video` or `few_frames`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


class UncuttableError(Exception):
    """A video that cannot be cut without decoding it: its container cannot be sought in or its codec not be kept."""


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """What a container says of its first video stream.

    Attributes:
        width: Pixels as coded, before any rotation.
        height: Pixels as coded, before any rotation.
        fps: Frames a second, on average.
        codec: As FFmpeg calls it.
        duration_s: Source time of the end; None where the container does not say.
        origin_s: The container's clock at source time zero: most clocks start there, and a first frame that comes
            later is late; that of a transport stream starts anywhere.
    """

    width: int
    height: int
    fps: float
    codec: str
    duration_s: float | None
    origin_s: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What was cut: a file with its place in the source.

    Attributes:
        path: The file.
        start_s: Source time of the file's time zero.
        end_s: Source time where its last frame ends.
    """

    path: Path
    start_s: float
    end_s: float


@contextmanager
def open_video(source: Path | Readable) -> Iterator[VideoSource]:
    """A container and its first video stream, pictures such as cover art aside.

    Raises:
        MediaError: If it is none, or has none.
    """
    if isinstance(source, Path) and source.stat().st_size == 0:
        raise MediaError("empty_file", "the file is empty")
    try:
        container = av.open(
            str(source) if isinstance(source, Path) else source,
            container_options={"format_whitelist": FORMATS},
            buffer_size=64 * 1024,
        )
    except av.FFmpegError as error:
        raise MediaError("corrupt", f"no video container: {_text(error)}") from error
    with container:
        streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
        if not streams:
            raise MediaError("no_video", "the file has no video stream")
        yield container, streams[0]


def video_facts(container: InputContainer, stream: VideoStream) -> VideoFacts:
    """What the container says."""
    start_s = float(stream.start_time * stream.time_base) if stream.start_time is not None else 0.0
    origin_s = 0.0
    if container.format.name in CLOCK_STARTS_ANYWHERE:
        starts = [other.start_time * other.time_base for other in container.streams if other.start_time is not None]
        origin_s = float(min(starts, default=0))
    duration_s = None
    if stream.duration:
        duration_s = float(stream.duration * stream.time_base) + max(0.0, start_s - origin_s)
    elif container.duration:
        duration_s = container.duration / av.time_base
    rate = stream.average_rate or stream.guessed_rate or 0
    return VideoFacts(
        width=stream.width,
        height=stream.height,
        fps=float(rate),
        codec=stream.codec_context.name,
        duration_s=duration_s,
        origin_s=origin_s,
    )


def check_ends(path: Path) -> float:
    """Decode the first frames and the last ones of a file; give the source time where the last one ends, in seconds.

    Raises:
        MediaError: If they cannot be decoded, or if there is only one.
    """
    try:
        with open_video(path) as (container, stream):
            stream.thread_type = "AUTO"
            first = [frame.pts for frame, _ in zip(container.decode(stream), range(2), strict=False)]
            if not first:
                raise MediaError("corrupt", "not one frame can be decoded")
            if len(first) < 2:
                raise MediaError("few_frames", "the video has one frame")
            facts = video_facts(container, stream)
            last = None
            for back_s in (_SECOND, _MAX_BACK_S, math.inf):  # further where no keyframe is found behind the aim
                near_end_s = max(0.0, (facts.duration_s or 0.0) - back_s)
                container.seek(_pts(stream, facts.origin_s + near_end_s), stream=stream)
                for frame in container.decode(stream):
                    last = frame
                if last is not None:
                    break
            if last is None or last.pts is None:
                raise MediaError("corrupt", "the last frames cannot be decoded")
            return float(last.pts * stream.time_base) + _frame_s(facts) - facts.origin_s
    except av.FFmpegError as error:
        raise MediaError("corrupt", f"frames cannot be decoded: {_text(error)}") from error


def cut(source: VideoSource, start_s: float, end_s: float, path: Path) -> Cut | None:
    """Copy the frames between two source times into an mp4, from the last keyframe before them; no re-encoding.

    Source time is the clock of a container that has an index. Every frame of the span that the source holds is there
    and decodes as in the source; before the span and after it there may be more.

    Returns:
        What was written; None if the source has no frame at or after `start_s`.

    Raises:
        UncuttableError: If this container or codec does not allow it.
        OSError: If the file cannot be written.
    """
    container, stream = source
    if not _is_indexed(container):
        raise UncuttableError(f"a file in the format '{container.format.name}' has no index to seek by")
    facts = video_facts(container, stream)
    try:
        first, packets = _from_keyframe(container, stream, start_s)
        if first is None or first.pts is None:
            return None
        first_s, first_pts, frame_s = _seconds(first, first.pts), first.pts, _frame_s(facts)
        last_s = first_s + frame_s
        with open(path, "xb") as file:
            # A file object, so that a full disk is Python's OSError and not FFmpeg's.
            with av.open(file, "w", format="mp4") as output:
                target = output.add_stream_from_template(stream)
                for packet in chain([first], packets):
                    if packet.pts is None or packet.pts < first_pts:
                        continue  # pictures that lean on frames before the keyframe
                    if _seconds(packet, packet.pts if packet.dts is None else packet.dts) >= end_s:
                        break
                    length_s = _seconds(packet, packet.duration) if packet.duration else frame_s
                    last_s = max(last_s, _seconds(packet, packet.pts) + length_s)
                    packet.pts -= first_pts
                    if packet.dts is not None:
                        packet.dts -= first_pts
                    packet.stream = target
                    output.mux(packet)
            file.flush()
            os.fsync(file.fileno())
    except (av.FFmpegError, ValueError) as error:
        raise UncuttableError(f"the video cannot be cut: {_text(error)}") from error
    # Asked of the file itself, so that no edit list and no shift of negative time stamps can move the clock.
    with open_video(path) as (written, copy):
        zero = next(packet for packet in written.demux(copy) if packet.pts is not None)
        zero_s = first_s - _seconds(zero, zero.pts)
    return Cut(path=path, start_s=zero_s, end_s=last_s)


def _from_keyframe(
    container: InputContainer, stream: VideoStream, time_s: float
) -> tuple[Packet | None, Iterator[Packet]]:
    """The last keyframe at or before a time, or the first there is, and the packets that follow it."""
    back_s = 0.0
    while True:
        target_s = max(0.0, time_s - back_s)
        container.seek(_pts(stream, target_s), stream=stream)
        packets = (packet for packet in container.demux(stream) if packet.pts is not None and packet.size)
        first = next((packet for packet in packets if packet.is_keyframe), None)
        # Some containers seek by decoding time, and so may land on a keyframe that is shown a little too late.
        if target_s == 0 or (first is not None and _seconds(first, first.pts) <= time_s):
            return first, packets
        if first is None and back_s > _MAX_BACK_S:
            return None, packets
        back_s = max(_SECOND, 2 * back_s)


def _is_indexed(container: InputContainer) -> bool:
    return any(name in _INDEXED for name in container.format.name.split(","))


def _seconds(packet: Packet, stamp: int | None) -> float:
    return float((stamp or 0) * packet.time_base)


def _pts(stream: VideoStream, time_s: float) -> int:
    return math.floor(Fraction(time_s) / stream.time_base)


def _frame_s(facts: VideoFacts) -> float:
    return 1 / facts.fps if facts.fps else 0.0


def _text(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error)
