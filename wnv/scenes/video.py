"""Reads frames of a clip by index with decord or PyAV.

Both return the same pixels for clips of the clip stage: constant frame rate, frame `i` shown at `i / fps`, no reordered
frames, tagged colours. Other videos can be read without that guarantee.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

import av
import numpy as np
from jaxtyping import UInt8

from wnv.scenes.schema import MAX_IMAGE_PIXELS, SceneError

Decoder = Literal["auto", "decord", "pyav"]

# Frame rates are n or n * 1000/1001; decord reports them as rounded decimals.
_MAX_RATE_DENOMINATOR = 1001
# Clips have a key frame every 12 frames; beyond that, seeking is faster than decoding.
_MAX_DECODED_TO_SKIP = 12
# Type of the first box of an MP4 file.
_MP4 = b"ftyp"


class VideoReader(ABC):
    """An open clip, for the thread and process that opened it.

    Attributes:
        num_frames: Number of frames.
        width: Width of every frame in pixels.
        height: Height of every frame in pixels.
        fps: Frame rate in frames per second; frame `i` is shown at `i / fps` seconds.
    """

    num_frames: int
    width: int
    height: int
    fps: Fraction

    def __init__(self, path: Path) -> None:
        # Absolute, since FFmpeg takes a relative name with a colon for a URL.
        self._path = path.absolute()

    def __enter__(self) -> "VideoReader":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @abstractmethod
    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frame height width 3"]:
        """Decode frames to RGB, in the order of `indices`, which may repeat.

        Raises:
            IndexError: If an index is out of range; negative ones are.
            SceneError: If a frame cannot be decoded.
        """

    @abstractmethod
    def close(self) -> None:
        """Release memory and file."""

    def _check_header(self) -> None:
        if self.num_frames < 1 or self.fps <= 0:
            raise SceneError(f"clip {self._path} has no frames; run the clip stage again")
        if self.width * self.height > MAX_IMAGE_PIXELS:
            raise SceneError(
                f"clip {self._path} must have at most {MAX_IMAGE_PIXELS} pixels per frame, got {self.width} x "
                f"{self.height}; scale it down"
            )

    def _check_indices(self, indices: Sequence[int]) -> list[int]:
        wanted = [int(index) for index in indices]
        for index in wanted:
            if not 0 <= index < self.num_frames:
                raise IndexError(f"clip {self._path} has frames 0 to {self.num_frames - 1}, got {index}")
        return wanted

    def _damaged(self, error: object) -> SceneError:
        text = " ".join(str(error).split())[:200]
        return SceneError(f"clip {self._path} is damaged or not a video ({text}); run the clip stage again")


def open_video(path: Path, *, decoder: Decoder = "auto") -> VideoReader:
    """Open a clip.

    Args:
        path: The clip.
        decoder: `decord`, `pyav`, or `auto` (decord if it is installed).

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If it is not a readable video.
        ImportError: If the decoder is not installed.
    """
    if decoder not in get_args(Decoder):
        raise ValueError(f"decoder must be one of {', '.join(get_args(Decoder))}, got {decoder!r}")
    if not path.is_file():
        raise FileNotFoundError(f"clip {path} is missing; check the path, or run the clip stage again")
    with open(path, "rb") as file:
        # Checked here, since FFmpeg follows the playlists it finds to other files and hosts.
        if file.read(8)[4:] != _MP4:
            raise SceneError(f"clip {path} is damaged or not a video (an MP4 file); run the clip stage again")
    if decoder == "auto":
        decoder = "decord" if importlib.util.find_spec("decord") is not None else "pyav"
    return _DecordReader(path) if decoder == "decord" else _PyavReader(path)


class _DecordReader(VideoReader):
    """decord with one thread, since its worker threads decode ahead without bound."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import decord

        try:
            self._reader: Any = decord.VideoReader(str(self._path), ctx=decord.cpu(0), num_threads=1)
            self.num_frames = len(self._reader)
            self.fps = Fraction(self._reader.get_avg_fps()).limit_denominator(_MAX_RATE_DENOMINATOR)
            self.height, self.width = (int(side) for side in self._read([0]).shape[1:3])
        except Exception as error:  # DECORDError derives from Exception only
            raise self._damaged(error) from error
        self._check_header()

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frame height width 3"]:
        wanted = self._check_indices(indices)
        if not wanted:
            return np.empty((0, self.height, self.width, 3), dtype=np.uint8)
        try:
            return self._read(wanted)
        except Exception as error:
            raise self._damaged(error) from error

    def _read(self, indices: list[int]) -> np.ndarray:
        batch = self._reader.get_batch(indices)
        # decord's bridge may be set to tensors of another framework.
        return batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)

    def close(self) -> None:
        self._reader = None


class _PyavReader(VideoReader):
    """PyAV with one thread; seeks to the key frame before a frame and decodes from there."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            self._container = av.open(str(self._path))
        except av.FFmpegError as error:
            raise self._damaged(error) from error
        try:
            streams = self._container.streams.video
            if not streams:
                raise SceneError(f"clip {self._path} has no video stream; run the clip stage again")
            self._stream = streams[0]
            self._stream.thread_type = "NONE"
            rate = self._stream.average_rate or Fraction(0)
            self.fps = Fraction(rate).limit_denominator(_MAX_RATE_DENOMINATOR)
            self.num_frames, self.width, self.height = self._stream.frames, self._stream.width, self._stream.height
            self._check_header()
            assert self._stream.time_base is not None  # set in every open stream
            self._period = 1 / (self.fps * self._stream.time_base)  # of a frame, in ticks
            self._start = self._stream.start_time or 0
        except BaseException:
            self._container.close()
            raise
        # State of the decoder: the last frame, and the iterator of the following ones.
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._index = -1
        self._frame: av.VideoFrame | None = None

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frame height width 3"]:
        wanted = self._check_indices(indices)
        result = np.empty((len(wanted), self.height, self.width, 3), dtype=np.uint8)
        # In the order of the file, so that no frame is decoded twice.
        for place in sorted(range(len(wanted)), key=wanted.__getitem__):
            try:
                frame = self._decode(wanted[place])
            except (av.FFmpegError, StopIteration) as error:
                self._frame = None
                raise self._damaged(error) from error
            result[place] = frame.to_ndarray(format="rgb24")
        return result

    def _decode(self, index: int) -> av.VideoFrame:
        if self._frame is None or not self._index <= index <= self._index + _MAX_DECODED_TO_SKIP:
            self._container.seek(round(index * self._period) + self._start, stream=self._stream)
            self._frames, self._frame = self._container.decode(self._stream), None
        while self._frame is None or self._index < index:
            self._frame = next(self._frames)
            if self._frame.pts is None:
                raise self._damaged("a frame has no time")
            self._index = round((self._frame.pts - self._start) / self._period)
        if self._index != index:
            raise self._damaged(f"frame {index} is missing")
        return self._frame

    def close(self) -> None:
        self._frame, self._frames = None, iter(())
        self._container.close()
