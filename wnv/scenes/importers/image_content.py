"""Images of a source: size, decoding, and whether a scene file can hold their bytes unchanged."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps, features

from wnv.scenes.image_codec import ImageFormat, open_image

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", *(["AVIF"] if features.check("avif") else []))
"""Image formats that are imported; all but JPEG and PNG are converted."""

_ORIENTATION = 0x0112
_UPRIGHT = 1
# Offset of the bit depth in a PNG's first chunk, IHDR.
_PNG_BIT_DEPTH = 24
_TRANSPARENT_MODES = ("RGBA", "LA", "PA")
_OPAQUE_MODES = ("RGB", "L", "P", "1", "CMYK", "YCbCr")


def image_size(content: Path | bytes, *, where: str) -> tuple[int, int]:
    """Width and height from the header.

    Raises:
        ValueError: If it is not an image of `FORMATS`, or has more pixels than a scene may.
    """
    with _open(content, where=where) as picture:
        return picture.size


def is_turned(content: Path | bytes, *, where: str) -> bool:
    """Whether the EXIF orientation exchanges width and height."""
    with _open(content, where=where) as picture:
        return picture.getexif().get(_ORIENTATION, _UPRIGHT) in {5, 6, 7, 8}


def is_copyable(data: bytes, *, image_format: ImageFormat, where: str) -> bool:
    """Whether a scene file may hold these bytes unchanged, judged by the header.

    JPEG may, since re-encoding only loses quality; PNG may if `image_format` is `png`. Transparency, palettes and more
    than 8 bits per channel must be converted.
    """
    with _open(data, where=where) as picture:
        kind = picture.format
        plain = picture.mode in {"RGB", "L"} and "transparency" not in picture.info
    if kind == "PNG":
        # Pillow opens a 16-bit color PNG as RGB and returns the upper 8 bits.
        return plain and image_format == "png" and data[_PNG_BIT_DEPTH] <= 8
    return plain and kind in {"JPEG", "MPO"}


def decode_rgb(data: bytes, *, where: str, upright: bool = False) -> UInt8[np.ndarray, "height width 3"]:
    """Decode to RGB, composed over white; of 16-bit colors the upper 8 bits are kept.

    Args:
        data: The image file.
        where: File and frame, for messages.
        upright: Apply the EXIF orientation.

    Raises:
        ValueError: If the image is damaged or truncated, or grey with more than 8 bits.
    """
    with _open(data, where=where) as picture:
        if picture.mode not in _OPAQUE_MODES + _TRANSPARENT_MODES:
            raise ValueError(
                f"{where}: pixels of mode {picture.mode} cannot become 8-bit RGB; convert them to 8 bits per channel"
            )
        try:
            picture = ImageOps.exif_transpose(picture) if upright else picture
            if picture.mode in _TRANSPARENT_MODES or "transparency" in picture.info:
                white = Image.new("RGBA", picture.size, "white")
                return np.array(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
            return np.array(picture.convert("RGB"))
        except Exception as error:  # a decoder of untrusted bytes may raise anything
            raise ValueError(
                f"{where}: the image is damaged or truncated ({error}); restore the file or remove the frame"
            ) from error


def _open(content: Path | bytes, *, where: str) -> Image.Image:
    return open_image(content, where=where, formats=FORMATS)
