"""Frames as mp4 and gif files that play everywhere."""

from collections.abc import Iterable
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Literal

import av
import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from wnv.evaluation.images import enlarge, to_u8
from wnv.runtime.atomic import atomic_file

GIF_COLOURS = 256
PALETTE_FRAMES = 16  # frames looked at for the palette: enough to see every part of a camera path
GIF_STEP_S = 0.01  # a gif counts time in hundredths of a second
LEAST_FPS = 0.01
GIF_SHORTEST_S = 0.02  # browsers slow down anything faster


def write_mp4(
    path: str | Path,
    images: Float[Tensor, "frame 3 height width"],
    *,
    fps: float | int = 24,
    min_side: int = 256,
    method: Literal["nearest", "bicubic"] = "bicubic",
    crf: int = 18,
    overwrite: bool = False,
) -> Path:
    """Write an H.264 video with 4:2:0 colour, which browsers, phones and slides play.

    Small pictures are enlarged by a whole factor; an odd width or height, which 4:2:0 cannot hold, gets its last row
    or column twice.

    Args:
        path: Where to, ending in `.mp4`.
        images: RGB in 0..1, one a frame.
        fps: Frames per second.
        min_side: The shorter side is at least this many pixels.
        method: How small pictures are enlarged.
        crf: x264's quality: 0 loses nothing, 18 shows no loss to the eye, 51 is the worst.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
        ValueError: If there is no frame, or `fps` is not positive.
    """
    return write_mp4_frames(
        path, to_u8(images), fps=fps, min_side=min_side, method=method, crf=crf, overwrite=overwrite
    )


def write_mp4_frames(
    path: str | Path,
    frames: Iterable[UInt8[np.ndarray, "height width 3"]],
    *,
    fps: float | int = 24,
    min_side: int = 256,
    method: Literal["nearest", "bicubic"] = "bicubic",
    crf: int = 18,
    overwrite: bool = False,
) -> Path:
    """`write_mp4` of frames that are made one by one: each is encoded before the next one is asked for, and not kept.

    Args:
        path: Where to, ending in `.mp4`.
        frames: RGB bytes, all of one size.
        fps: Frames per second.
        min_side: The shorter side is at least this many pixels.
        method: How small pictures are enlarged.
        crf: x264's quality, as for `write_mp4`.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
        ValueError: If there is no frame, or `fps` is not positive.
    """
    frames = iter(frames)
    first = next(frames, None)
    _check(path, num_frames=0 if first is None else 1, fps=fps)
    with (
        atomic_file(Path(path), overwrite=overwrite) as file,
        # faststart puts the index in front, so that a browser plays while it still loads; for that the muxer reads
        # the file again, by its name.
        av.open(file.name, mode="w", format="mp4", options={"movflags": "+faststart"}) as container,
    ):
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        for number, frame in enumerate(chain([first], frames)):
            shown = _pad_to_even(enlarge(frame, min_side=min_side, method=method))
            if number == 0:
                stream.height, stream.width = shown.shape[:2]
                stream.pix_fmt = "yuv420p"
                stream.options = {"crf": str(crf), "preset": "medium"}
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    return Path(path)


def write_gif(
    path: str | Path,
    images: Float[Tensor, "frame 3 height width"],
    *,
    fps: float | int = 24,
    min_side: int = 256,
    method: Literal["nearest", "bicubic"] = "bicubic",
    overwrite: bool = False,
) -> Path:
    """Write an endless gif; all frames share one palette, so that colours do not flicker.

    A gif counts time in hundredths of a second, so `fps` is rounded to the nearest rate it can hold (24 becomes 25),
    50 at most.

    Args:
        path: Where to, ending in `.gif`.
        images: RGB in 0..1, one a frame.
        fps: Frames per second.
        min_side: The shorter side is at least this many pixels.
        method: How small pictures are enlarged.
        overwrite: Whether an existing file may be replaced.

    Raises:
        FileExistsError: If the file is there and `overwrite` is False.
        ValueError: If there is no frame, or `fps` is not positive.
    """
    _check(path, num_frames=len(images), fps=fps)
    frames = [enlarge(frame, min_side=min_side, method=method) for frame in to_u8(images)]
    chosen = np.linspace(0, len(frames) - 1, min(PALETTE_FRAMES, len(frames))).round().astype(int)
    montage = Image.fromarray(np.concatenate([frames[i] for i in chosen], axis=0))
    palette = montage.quantize(colors=GIF_COLOURS, method=Image.Quantize.MEDIANCUT)
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


def _check(path: str | Path, *, num_frames: int, fps: float | int) -> None:
    if num_frames == 0:
        raise ValueError(f"{path}: a video needs at least one frame, got none")
    check_fps(fps)


def check_fps(fps: float | int) -> None:
    """Refuse a frame rate that a film cannot have: a gif counts no frame longer than eleven minutes.

    Raises:
        ValueError: If it is not positive, or below 0.01.
    """
    if fps <= 0:
        raise ValueError(f"fps must be positive, got {fps}")
    if fps < LEAST_FPS:
        raise ValueError(f"fps must be at least {LEAST_FPS:g}, got {fps}")


def _pad_to_even(frame: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "new_height new_width 3"]:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
