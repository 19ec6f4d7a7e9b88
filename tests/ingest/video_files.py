"""Write test videos of many kinds, and images for them."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np

HEIGHT, WIDTH = 108, 192
_BITS = 8


def write_video(
    path: Path,
    images: Iterable[np.ndarray],
    *,
    fps: Fraction | int = 30,
    pts: Iterable[int] | None = None,
    time_base: Fraction | None = None,
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    options: dict[str, str] | None = None,
    rotation: int = 0,
    hflip: bool = False,
    aspect: Fraction | None = None,
    muxer: dict[str, str] | None = None,
    colours: dict[str, int] | None = None,
    picture_format: str = "rgb24",
) -> Path:
    """Write images as a video; `pts` are in units of `time_base`."""
    ticks = iter(pts) if pts is not None else None
    preset = {"preset": "ultrafast"} if codec in ("libx264", "libx265") else {}
    with av.open(str(path), "w", options=muxer or {}) as container:
        stream: av.VideoStream | None = None
        for number, image in enumerate(images):
            if stream is None:
                stream = container.add_stream(codec, rate=Fraction(fps), options=preset | (options or {}))
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = pix_fmt
                stream.codec_context.time_base = time_base or 1 / Fraction(fps)
                if aspect is not None:
                    stream.codec_context.sample_aspect_ratio = aspect
                for name, value in (colours or {}).items():
                    setattr(stream.codec_context, name, value)
                if rotation or hflip:
                    stream.set_display_rotation(rotation, hflip=hflip)
            frame = av.VideoFrame.from_ndarray(image, format=picture_format)
            if colours:
                frame = frame.reformat(
                    format=pix_fmt,
                    dst_colorspace=colours.get("colorspace"),
                    dst_color_range=colours.get("color_range"),
                )
                for name, value in colours.items():
                    setattr(frame, name, value)
            frame.pts = number if ticks is None else next(ticks)
            frame.time_base = time_base or 1 / Fraction(fps)
            container.mux(stream.encode(frame))
        if stream is not None:
            container.mux(stream.encode())
    return path


def texture(seed: int, *, height: int = 400, width: int = 800) -> np.ndarray:
    """Return a textured image."""
    rng = np.random.default_rng(seed)
    total = np.zeros((height, width, 3), dtype=np.float32)
    for cell in (4, 12, 40):
        coarse = rng.random((height // cell + 2, width // cell + 2, 3), dtype=np.float32)
        total += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip((total / 3 - 0.5) * 450 + 128, 0, 255).astype(np.uint8)


def moving(num_frames: int, *, seed: int = 0, speeds: tuple[float, ...] = (0.5, 1.0, 2.0)) -> Iterator[np.ndarray]:
    """Iterate over frames of layers that move at different speeds (parallax), or of one layer (a pan)."""
    layers = [texture(seed * 10 + n) for n in range(len(speeds))]
    edges = np.linspace(0, HEIGHT, len(speeds) + 1).astype(int)
    for number in range(num_frames):
        image = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
        for layer, speed, top, bottom in zip(layers, speeds, edges, edges[1:], strict=False):
            shift = np.float64([[1, 0, -speed * number], [0, 1, -top]])
            image[top:bottom] = cv2.warpAffine(layer, shift, (WIDTH, bottom - top))
        yield image


def numbered(numbers: Iterable[int], *, height: int = HEIGHT, width: int = WIDTH) -> Iterator[np.ndarray]:
    """Iterate over frames that encode their number, 0 to 255, as black and white bars."""
    for number in numbers:
        bits = [(number >> bit) & 1 for bit in range(_BITS)]
        row = np.repeat(np.array(bits, dtype=np.uint8) * 170 + 40, -(-width // _BITS))[:width]
        yield np.ascontiguousarray(np.broadcast_to(row[None, :, None], (height, width, 3)))


def numbers_of(images: Iterable[np.ndarray]) -> list[int]:
    """Decode the numbers of frames."""
    found = []
    for image in images:
        bars = np.array_split(image.mean(axis=(0, 2)), _BITS)
        found.append(sum(int(bar[len(bar) // 4 : -(len(bar) // 4)].mean() > 125) << b for b, bar in enumerate(bars)))
    return found
