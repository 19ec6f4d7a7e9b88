"""Write frames as MP4 and GIF files that play everywhere."""

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import chain
from pathlib import Path

import av
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.evaluation.images import enlarge
from wnv.runtime.atomic import atomic_file

CRF = 18  # x264 quality without visible loss
GIF_COLORS = 256
PALETTE_FRAMES = 16  # frames that the GIF's palette is made from
GIF_STEP_S = 0.01  # GIF durations are multiples of this
GIF_SHORTEST_S = 0.02  # browsers slow down shorter frames
MIN_FPS = 0.01  # a GIF frame lasts at most eleven minutes


def write_mp4(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    *,
    fps: float | int = 24,
    min_side: int = 256,
    overwrite: bool = False,
) -> Path:
    """Write an H.264 video with 4:2:0 color, which browsers, phones and slides play.

    Each frame is encoded before the next one is requested. Odd heights and widths, which 4:2:0 does not allow, repeat
    the last row or column.

    Args:
        path: The file, ending in `.mp4`.
        frames: RGB bytes, all of one size.
        fps: Frames per second.
        min_side: Small frames are enlarged by an integer factor until their shorter side has this many pixels.
        overwrite: Whether to replace an existing file.

    Raises:
        FileExistsError: If the file exists and `overwrite` is False.
        ValueError: If there is no frame, or `fps` is out of range.
    """
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{path}: a video needs at least one frame, got none")
    check_fps(fps)
    with (
        atomic_file(Path(path), overwrite=overwrite) as file,
        # faststart moves the index to the front, so that playback starts while loading; the muxer reopens by name
        av.open(file.name, mode="w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": str(CRF), "preset": "medium"}
        for number, frame in enumerate(chain([first], frames)):
            padded = _pad_to_even(enlarge(frame, min_side=min_side))
            if number == 0:
                stream.height, stream.width = padded.shape[:2]
            container.mux(stream.encode(av.VideoFrame.from_ndarray(padded, format="rgb24")))
        container.mux(stream.encode())
    return Path(path)


def write_gif(
    path: str | Path,
    frames: Sequence[UInt8[np.ndarray, "height width 3"]] | UInt8[np.ndarray, "frame height width 3"],
    *,
    fps: float | int = 24,
    min_side: int = 256,
    overwrite: bool = False,
) -> Path:
    """Write a looping GIF whose frames share one palette, so that colors do not flicker.

    Frame durations are multiples of 10 ms, at least 20 ms: 24 frames per second become 25. Arguments and errors are
    those of `write_mp4`.
    """
    if not len(frames):
        raise ValueError(f"{path}: a video needs at least one frame, got none")
    check_fps(fps)
    frames = [enlarge(frame, min_side=min_side) for frame in frames]
    chosen = np.linspace(0, len(frames) - 1, min(PALETTE_FRAMES, len(frames))).round().astype(int)
    montage = Image.fromarray(np.concatenate([frames[i] for i in chosen], axis=0))
    palette = montage.quantize(colors=GIF_COLORS, method=Image.Quantize.MEDIANCUT)
    indexed = [Image.fromarray(frame).quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for frame in frames]
    duration_s = max(round(1 / fps / GIF_STEP_S) * GIF_STEP_S, GIF_SHORTEST_S)
    with atomic_file(Path(path), overwrite=overwrite) as file:
        indexed[0].save(
            file,
            format="GIF",
            save_all=True,
            append_images=indexed[1:],
            duration=round(duration_s * 1000),
            loop=0,
            disposal=1,
        )
    return Path(path)


def check_fps(fps: float | int) -> None:
    """Raise a ValueError for a frame rate below 0.01."""
    if fps < MIN_FPS:
        raise ValueError(f"fps must be at least {MIN_FPS:g}, got {fps}")


def _pad_to_even(frame: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "new_height new_width 3"]:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
