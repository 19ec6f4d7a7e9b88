"""JPEG and PNG images of scenes: decoding, encoding, and checks of untrusted bytes."""

import io
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.scenes.schema import MAX_IMAGE_PIXELS, SceneError

ImageFormat = Literal["jpeg", "png"]
SUFFIXES: dict[str, str] = {"jpeg": ".jpg", "png": ".png"}

_START_OF_JPEG, _END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"
# Markers (ITU T.81, table B.1): frames that every decoder supports, and segments that may precede one.
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2}
_JPEG_SEGMENTS = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
# Pillow calls a photograph with an embedded preview MPO.
_FORMATS: dict[str | None, ImageFormat] = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}


def open_image(content: Path | bytes, *, where: str, formats: tuple[str, ...] = ("JPEG", "PNG")) -> Image.Image:
    """Open an image without decoding it.

    Raises:
        SceneError: If it is not of one of Pillow's `formats`, or has more pixels than a scene may.
    """
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        image = Image.open(source, formats=formats)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SceneError(f"{where}: the image has more than {MAX_IMAGE_PIXELS} pixels ({error})") from error
    except Exception as error:  # a parser of untrusted bytes may raise anything
        names = f"{', '.join(formats[:-1])} or {formats[-1]}"
        found = _describe(content)
        raise SceneError(f"{where}: not a readable {names} ({found}); convert it or remove the frame") from error
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        image.close()
        raise SceneError(
            f"{where}: the image has {width} x {height} pixels, more than {MAX_IMAGE_PIXELS}; scale the images down"
        )
    return image


def _describe(content: Path | bytes) -> str:
    """The content of an unsupported file: its format if it is known, else its first bytes."""
    if isinstance(content, bytes):
        start = content[:16]
    else:
        with content.open("rb") as file:
            start = file.read(16)
    if start[4:8] == b"ftyp":  # the container of HEIC and AVIF photographs, and of MP4
        return f"the file is {start[8:12].decode('latin-1').strip().upper()}"
    return f"starts with {start[:8].hex(' ') or 'nothing'}"


def image_header(data: bytes, *, where: str) -> tuple[ImageFormat, int, int]:
    """Read format, width and height from the header of an image.

    Raises:
        SceneError: If the image is not an 8-bit RGB or grey JPEG or PNG, or has more pixels than a scene may.
    """
    return _header(open_image(data, where=where), where)


def check_image(data: bytes, *, width: int, height: int, where: str) -> None:
    """Check format and size of an image by its header.

    Raises:
        SceneError: If the image has another size; see also `image_header`.
    """
    _check_size(image_header(data, where=where)[1:], (width, height), where)


def decode_image(
    data: bytes, *, width: int, height: int, where: str, box: tuple[int, int, int, int] | None = None
) -> UInt8[np.ndarray, "box_height box_width 3"]:
    """Decode a JPEG or PNG to RGB; grey images get three equal channels.

    An EXIF orientation is ignored, since cameras belong to the stored pixels.

    Args:
        data: Content of the image file.
        width: Required width in pixels.
        height: Required height in pixels.
        where: Subject of error messages.
        box: Crop (left, top, right, bottom), right and bottom exclusive; None returns the whole image.

    Raises:
        SceneError: If the image cannot be decoded completely, or has another size.
    """
    left, top, right, bottom = box or (0, 0, width, height)
    if data.endswith(_END_OF_JPEG) and _colour_jpeg_size(data) == (width, height):
        # OpenCV returns the same pixels in three quarters of Pillow's time, but accepts truncated files: those, and
        # all unusual ones, are left to Pillow.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None and pixels.shape == (height, width, 3):
            return cv2.cvtColor(pixels[top:bottom, left:right], cv2.COLOR_BGR2RGB)
    image = open_image(data, where=where)
    # Before decoding: a few bytes can declare an image that fills the memory.
    _check_size(_header(image, where)[1:], (width, height), where)
    try:
        return np.array(image.convert("RGB"))[top:bottom, left:right]
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        raise SceneError(
            f"{where}: the image is truncated or damaged ({error}); replace it or remove the frame"
        ) from error


def encode_image(image: UInt8[np.ndarray, "height width 3"], *, image_format: ImageFormat, quality: int = 95) -> bytes:
    """Encode an RGB image as JPEG (4:4:4, quality 1 to 100) or PNG."""
    buffer = io.BytesIO()
    if image_format == "jpeg":
        # 4:4:4, since subsampled colour blurs edges, on which novel views are judged.
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _colour_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height of a JPEG with three 8-bit channels; None for anything else.

    Pillow's parser takes a twentieth of the time of decoding.
    """
    if not data.startswith(_START_OF_JPEG):
        return None
    at = len(_START_OF_JPEG)
    while at + 10 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker in _JPEG_FRAMES:
            height, width = (int.from_bytes(data[at + i : at + i + 2], "big") for i in (5, 7))
            is_colour = data[at + 4] == 8 and data[at + 9] == 3 and width * height <= MAX_IMAGE_PIXELS
            return (width, height) if is_colour else None
        if marker not in _JPEG_SEGMENTS or length < 2:
            return None
        at += 2 + length
    return None


def _check_size(found: tuple[int, int], expected: tuple[int, int], where: str) -> None:
    if found != expected:
        raise SceneError(
            f"{where}: the image must be {expected[0]} x {expected[1]} pixels (width x height) like its scene, got "
            f"{found[0]} x {found[1]}; resize it and its K"
        )


def _header(image: Image.Image, where: str) -> tuple[ImageFormat, int, int]:
    if image.mode not in ("RGB", "L"):
        raise SceneError(
            f"{where}: images must be 8-bit RGB or grey, got mode {image.mode}; convert them (compose transparent ones "
            "over a background) before writing the scene"
        )
    return _FORMATS[image.format], *image.size
