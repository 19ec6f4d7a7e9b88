"""Read and cut video files with PyAV, decoding as little as possible."""

# PyAV types the time base of a stream as optional; an open one has it.
# pyright: reportOperatorIssue=false

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any

import av
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.stream import VideoStream

# Containers that hold their own data. Playlists name other files and addresses, which an untrusted file must not make
# us read.
FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpegts,mpeg,mpegvideo,h264,hevc,m4v,asf,ogg,live_flv"

# Formats with an index of keyframes.
_INDEXED = ("mov", "mp4", "matroska", "webm")

CLOCK_STARTS_ANYWHERE = ("mpegts", "mpeg", "flv")
"""Formats with an arbitrary clock origin; in all others the presentation starts at zero."""

_SECOND = 1.0
_MAX_BACK_S = 60.0


VideoSource = tuple[InputContainer, VideoStream]
"""An open container and its video stream."""


class MediaError(Exception):
    """The file is not a usable video.

    Attributes:
        reason: `empty_file`, `corrupt`, `no_video` or `few_frames`.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason
        self.message = message


class UncuttableError(Exception):
    """The video cannot be cut without re-encoding: its container has no index, or mp4 cannot hold its codec."""


@dataclass(frozen=True, kw_only=True)
class VideoFacts:
    """Properties of the first video stream, as the container declares them.

    Attributes:
        width: Pixels as coded, before any rotation.
        height: Pixels as coded, before any rotation.
        fps: Average frames per second.
        codec: FFmpeg's name.
        duration_s: Source time of the end; None if the container does not declare it.
        origin_s: Container time at source time zero. Zero for most formats, so a later first frame is a delay;
            arbitrary for `CLOCK_STARTS_ANYWHERE`.
    """

    width: int
    height: int
    fps: float
    codec: str
    duration_s: float | None
    origin_s: float


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A file cut from a source, and its position there.

    Attributes:
        path: The file.
        start_s: Source time of the file's time zero.
        end_s: Source time where its last frame ends.
    """

    path: Path
    start_s: float
    end_s: float


@contextmanager
def open_video(source: Path | Any) -> Iterator[VideoSource]:
    """Open a container and its first video stream, ignoring cover art.

    Args:
        source: A path, or an object with `read`, `seek` and `tell`.

    Raises:
        MediaError: If the file is empty, not a container, or has no video stream.
    """
    if isinstance(source, Path) and source.stat().st_size == 0:
        raise MediaError("empty_file", "the file is empty")
    try:
        container: InputContainer = av.open(  # pyright: ignore[reportAssignmentType]
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
    """Read the declared properties of a video stream."""
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
    """Decode the first and last frames of a file and return the source time at which the last one ends, in seconds.

    Raises:
        MediaError: If they cannot be decoded, or the video has one frame.
    """
    try:
        with open_video(path) as (container, stream):
            stream.thread_type = "AUTO"
            first = [frame.pts for frame, _ in zip(container.decode(stream), range(2), strict=False)]
            if not first:
                raise MediaError("corrupt", "no frame can be decoded")
            if len(first) < 2:
                raise MediaError("few_frames", "the video has one frame")
            facts = video_facts(container, stream)
            last = None
            for back_s in (_SECOND, _MAX_BACK_S):  # seek further back if no keyframe follows
                near_end_s = max(0.0, (facts.duration_s or 0.0) - back_s)
                container.seek(_pts(stream, facts.origin_s + near_end_s), stream=stream)
                for frame in container.decode(stream):
                    last = frame
                if last is not None:
                    break
        if last is None:
            # Decode all: in a transport stream, a seek to the start may land behind the only keyframe.
            with open_video(path) as (container, stream):
                for frame in container.decode(stream):
                    last = frame
        if last is None or last.pts is None:
            raise MediaError("corrupt", "the last frames cannot be decoded")
        return float(last.pts * last.time_base) + _frame_s(facts) - facts.origin_s
    except av.FFmpegError as error:
        raise MediaError("corrupt", f"frames cannot be decoded: {_text(error)}") from error


def cut(source: VideoSource, start_s: float, end_s: float, path: Path) -> Cut | None:
    """Copy the frames between two source times into an mp4, from the preceding keyframe on, without re-encoding.

    All frames of the span decode as in the source. Frames before and after it may be included.

    Returns:
        The cut; None if the source has no frame at or after `start_s`.

    Raises:
        UncuttableError: If the container has no index or the codec cannot be copied.
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
            # Through a file object, a full disk raises Python's OSError instead of FFmpeg's.
            with av.open(file, "w", format="mp4") as output:
                target = output.add_stream_from_template(stream)
                for packet in chain([first], packets):
                    if packet.pts is None or packet.pts < first_pts:
                        continue  # leading frames that need frames before the keyframe
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
    # Read back from the file: edit lists and shifts of negative time stamps may have moved its clock.
    with open_video(path) as (written, copy):
        zero = next(packet for packet in written.demux(copy) if packet.pts is not None)
        zero_s = first_s - _seconds(zero, zero.pts)
    return Cut(path=path, start_s=zero_s, end_s=last_s)


def _from_keyframe(
    container: InputContainer, stream: VideoStream, time_s: float
) -> tuple[Packet | None, Iterator[Packet]]:
    """Return the last keyframe at or before a time (else the first one) and the packets after it."""
    back_s = 0.0
    while True:
        target_s = max(0.0, time_s - back_s)
        container.seek(_pts(stream, target_s), stream=stream)
        packets = (packet for packet in container.demux(stream) if packet.pts is not None and packet.size)
        first = next((packet for packet in packets if packet.is_keyframe), None)
        # Some containers seek by decoding time and may land on a keyframe that is presented too late.
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
