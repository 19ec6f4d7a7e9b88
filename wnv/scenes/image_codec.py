"""The images of a scene file: JPEG or PNG bytes to pixels and back, distrusting the bytes."""

import io
from typing import Literal

import cv2
import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.scenes.schema import MAX_IMAGE_PIXELS, SceneError

ImageFormat = Literal["jpeg", "png"]
SUFFIXES: dict[str, str] = {"jpeg": ".jpg", "png": ".png"}

_START_OF_JPEG, _END_OF_JPEG = b"\xff\xd8", b"\xff\xd9"
# Markers (ITU T.81, table B.1): frames that any decoder knows, and segments that may stand before one.
_JPEG_FRAMES = {0xC0, 0xC1, 0xC2}
_JPEG_SEGMENTS = {0xC4, 0xDB, 0xDD, 0xFE, *range(0xE0, 0xF0)}
# A photograph that carries a preview besides is MPO to Pillow and JPEG to everyone else.
_FORMATS = {"JPEG": "jpeg", "MPO": "jpeg", "PNG": "png"}


def image_header(data: bytes, *, where: str) -> tuple[ImageFormat, int, int]:
    """Format, width and height as the first bytes of an image declare them; nothing is decoded.

    Raises:
        SceneError: If the bytes are no 8-bit RGB or grey JPEG or PNG, or declare more pixels than a scene may have.
    """
    return _header(_open(data, where), where)


def check_image(data: bytes, *, width: int, height: int, where: str) -> None:
    """Refuse bytes that declare no image of this size; nothing is decoded.

    Raises:
        SceneError: If they do not.
    """
    _check_size(image_header(data, where=where)[1:], (width, height), where)


def decode_image(
    data: bytes, *, width: int, height: int, where: str, box: tuple[int, int, int, int] | None = None
) -> UInt8[np.ndarray, "box_height box_width 3"]:
    """The pixels of a JPEG or PNG, RGB; grey images get three equal channels.

    An orientation tag is ignored: cameras belong to the pixels as they are stored.

    Args:
        data: The image file.
        width: Width it must have.
        height: Height it must have.
        where: Subject of error messages.
        box: Left, top, right, bottom: the pixels wanted, right and bottom excluded; None gives all.

    Raises:
        SceneError: If the image cannot be decoded to its last row, or is not of this size.
    """
    left, top, right, bottom = box or (0, 0, width, height)
    if data.endswith(_END_OF_JPEG) and _colour_jpeg_size(data) == (width, height):
        # OpenCV decodes to the same pixels by the same library in three quarters of Pillow's time, but does not mind a
        # file that is cut short: such ones are left to Pillow, and so is whatever is not plain.
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR | cv2.IMREAD_IGNORE_ORIENTATION)
        if pixels is not None and pixels.shape == (height, width, 3):
            return cv2.cvtColor(pixels[top:bottom, left:right], cv2.COLOR_BGR2RGB)
    image = _open(data, where)
    _, found_width, found_height = _header(image, where)
    # Before decoding: a few bytes can declare an image that fills the memory.
    _check_size((found_width, found_height), (width, height), where)
    try:
        return np.array(image.convert("RGB"))[top:bottom, left:right]
    except Exception as error:  # a decoder fed broken bytes may raise anything
        raise SceneError(
            f"{where}: the image is truncated or damaged ({error}); replace it or drop the frame"
        ) from error


def encode_image(image: UInt8[np.ndarray, "height width 3"], *, image_format: ImageFormat, quality: int = 95) -> bytes:
    """An RGB image as JPEG (colour at full resolution) or PNG bytes; quality 1..100 counts for JPEG only."""
    buffer = io.BytesIO()
    if image_format == "jpeg":
        # 4:4:4: halved colour would blur the very edges that novel views are judged by.
        Image.fromarray(image).save(buffer, "JPEG", quality=quality, subsampling=0)
    else:
        Image.fromarray(image).save(buffer, "PNG")
    return buffer.getvalue()


def _colour_jpeg_size(data: bytes) -> tuple[int, int] | None:
    """Width and height that a JPEG of three channels of 8 bits declares; None for whatever is not clearly one.

    Pillow's parser takes as long as a twentieth of the decoding.
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


def _check_size(found: tuple[int, int], declared: tuple[int, int], where: str) -> None:
    if found != declared:
        sizes = " and the scene says ".join(f"{width} x {height}" for width, height in (found, declared))
        raise SceneError(
            f"{where}: the image is {sizes} (width x height); all images of a scene are of one size, so resize them "
            "and their K"
        )


def _open(data: bytes, where: str) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=("JPEG", "PNG"))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise SceneError(_too_large(where, str(error))) from error
    except Exception as error:  # a parser fed broken bytes may raise anything
        start = data[:8].hex(" ") or "nothing"
        raise SceneError(
            f"{where}: not a readable JPEG or PNG ({len(data)} bytes, starting {start}); replace it or drop the frame"
        ) from error


def _header(image: Image.Image, where: str) -> tuple[ImageFormat, int, int]:
    width, height = image.size
    if width * height > MAX_IMAGE_PIXELS:
        raise SceneError(_too_large(where, f"{width} x {height}"))
    if image.mode not in ("RGB", "L"):
        raise SceneError(
            f"{where}: images must be 8-bit RGB or grey, got mode {image.mode}; convert them "
            "(compose transparent ones over a background) before writing the scene"
        )
    return _FORMATS[str(image.format)], width, height  # type: ignore[return-value]


def _too_large(where: str, found: str) -> str:
    return f"{where}: the image declares more than {MAX_IMAGE_PIXELS} pixels ({found}); it was not decoded"
