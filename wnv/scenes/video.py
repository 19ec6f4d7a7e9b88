"""Frames of a clip by their number: decord where it has a wheel, PyAV elsewhere, the same pixels from both.

Clips are what the clip stage writes: constant frame rate, frame `i` shown at `i / fps`, no reordered frames, colours
tagged, so that both decoders convert them to RGB by the same arithmetic. Other videos may be read too, but only such
clips promise the same frames from both.
"""

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Literal, Protocol, runtime_checkable

import av
import numpy as np
from jaxtyping import UInt8

from wnv.scenes.schema import MAX_IMAGE_PIXELS, SceneError

Decoder = Literal["auto", "decord", "pyav"]

# Rates of video are whole or whole * 1000/1001; decord reports them as rounded decimals.
_MAX_RATE_DENOMINATOR = 1001
# A clip has a key frame every 12 frames: beyond that, going to the next one is less work than decoding up to it.
_MAX_DECODED_TO_SKIP = 12
# The type of the first box of an MP4 file.
_MP4 = b"ftyp"


@runtime_checkable
class VideoReader(Protocol):
    """An open clip. It belongs to the thread and process that opened it; opening is cheap, so open it where it is used.

    Attributes:
        num_frames: Number of frames.
        width: Width of every frame in pixels.
        height: Height of every frame in pixels.
        fps: Frames a second; frame `i` is shown at `i / fps` seconds.
    """

    num_frames: int
    width: int
    height: int
    fps: Fraction

    def read(self, indices: Sequence[int]) -> UInt8[np.ndarray, "frame height width 3"]:
        """Frames in the order asked for, RGB; a number may come twice, and negative ones are refused.

        Raises:
            IndexError: If the clip has no such frame.
            SceneError: If the frames cannot be decoded.
        """
        ...

    def close(self) -> None:
        """Give back memory and file; the reader is of no use afterwards."""
        ...

    def __enter__(self) -> "VideoReader": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_video(path: Path, *, decoder: Decoder = "auto") -> VideoReader:
    """Open a clip for reading.

    Args:
        path: The clip.
        decoder: `decord`, `pyav`, or `auto`: decord where it is installed, else PyAV.

    Raises:
        FileNotFoundError: If there is no such file.
        SceneError: If it is no readable video.
        ImportError: If the decoder asked for is not installed.
    """
    if decoder not in ("auto", "decord", "pyav"):
        raise ValueError(f"decoder must be 'auto', 'decord' or 'pyav', got '{decoder}'")
    if not path.is_file():
        raise FileNotFoundError(f"there is no clip {path}; run the clip stage again, or check the path")
    if path.stat().st_size == 0:
        raise SceneError(f"clip {path} is an empty file; run the clip stage again")
    with open(path, "rb") as file:
        if file.read(8)[4:] != _MP4:
            # FFmpeg would go by the content alone, and playlists lead it to other files and hosts.
            raise SceneError(f"clip {path} is damaged or no video: an MP4 file is needed; run the clip stage again")
    if decoder == "auto":
        decoder = "decord" if importlib.util.find_spec("decord") is not None else "pyav"
    return _DecordReader(path) if decoder == "decord" else _PyavReader(path)


class _Reader(ABC):
    """What both readers share: the file's name in errors, the check of indices, the context manager."""

    num_frames: int
    width: int
    height: int
    fps: Fraction

    def __init__(self, path: Path) -> None:
        # Absolute, since FFmpeg takes a relative name with a colon for an address.
        self._path = path.absolute()

    def __enter__(self) -> "_Reader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...

    def _check_header(self) -> None:
        if self.num_frames < 1 or self.fps <= 0:
            raise SceneError(f"clip {self._path} has no frames; run the clip stage again")
        if self.width * self.height > MAX_IMAGE_PIXELS:
            raise SceneError(
                f"clip {self._path} is {self.width} x {self.height}, and a scene's images have at most "
                f"{MAX_IMAGE_PIXELS} pixels; write it smaller"
            )

    def _check_indices(self, indices: Sequence[int]) -> list[int]:
        wanted = [int(index) for index in indices]
        for index in wanted:
            if not 0 <= index < self.num_frames:
                raise IndexError(
                    f"clip {self._path} has {self.num_frames} frames, numbered from 0: there is no frame {index}"
                )
        return wanted

    def _damaged(self, error: object) -> SceneError:
        text = " ".join(str(error).split())[:200]
        return SceneError(f"clip {self._path} is damaged or no video ({text}); run the clip stage again")


class _DecordReader(_Reader):
    """decord, with one thread: its workers decode ahead without bound and hold what they decoded until it is closed."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        import decord

        try:
            self._reader = decord.VideoReader(str(self._path), ctx=decord.cpu(0), num_threads=1)
            self.num_frames = len(self._reader)
            self.fps = Fraction(self._reader.get_avg_fps()).limit_denominator(_MAX_RATE_DENOMINATOR)
            self.height, self.width = (int(side) for side in self._read([0]).shape[1:3])
        except Exception as error:  # DECORDError is an Exception and no more, and other errors come as RuntimeError
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
        # A program may have told decord to give tensors of some framework; those are arrays to numpy.
        return batch.asnumpy() if hasattr(batch, "asnumpy") else np.asarray(batch)

    def close(self) -> None:
        self._reader = None


class _PyavReader(_Reader):
    """PyAV, with one thread; goes to the key frame before a frame and decodes from there."""

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
            self._period = 1 / (self.fps * self._stream.time_base)  # of a frame, in ticks of the stream
            self._start = self._stream.start_time or 0
        except BaseException:
            self._container.close()
            raise
        # Where the decoder stands: the frame it gave last, and the generator that gives the next.
        self._frames: Iterator[av.VideoFrame] = iter(())
        self._index, self._frame = -1, None

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
            self._index = round((self._frame.pts - self._start) / self._period)
        if self._index != index:
            raise self._damaged(f"frame {index} is missing")
        return self._frame

    def close(self) -> None:
        self._frame, self._frames = None, iter(())
        self._container.close()
