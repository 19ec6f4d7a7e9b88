"""Images of a source: size, decoding, and whether a scene file can hold their bytes unchanged."""

from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.scenes.image_codec import ImageFormat, open_image

_ORIENTATION = 0x0112
# Offset of the bit depth in a PNG's first chunk, IHDR.
_PNG_BIT_DEPTH = 24
_TRANSPARENT_MODES = ("RGBA", "LA", "PA")
_OPAQUE_MODES = ("RGB", "L", "P", "1", "CMYK", "YCbCr")


def image_size(content: Path | bytes, *, where: str) -> tuple[int, int]:
    """Width and height from the header.

    Raises:
        ValueError: If it is not a JPEG or PNG, or has more pixels than a scene may.
    """
    with open_image(content, where=where) as picture:
        return picture.size


def is_copyable(data: bytes, *, image_format: ImageFormat, where: str) -> bool:
    """Whether a scene file may hold these bytes unchanged, judged by the header.

    JPEG may, since re-encoding only loses quality; PNG may if `image_format` is `png`. Transparency, palettes and more
    than 8 bits per channel must be converted.
    """
    with open_image(data, where=where) as picture:
        is_png = picture.format == "PNG"
        plain = picture.mode in {"RGB", "L"} and "transparency" not in picture.info
    # Pillow opens a 16-bit colour PNG as RGB and returns the upper 8 bits.
    return plain and (not is_png or (image_format == "png" and data[_PNG_BIT_DEPTH] <= 8))


def decode_rgb(data: bytes, *, where: str) -> UInt8[np.ndarray, "height width 3"]:
    """Decode to RGB as stored (EXIF orientation is not applied), composed over white.

    Of 16-bit colours the upper 8 bits are kept.

    Raises:
        ValueError: If the image is damaged or truncated, or grey with more than 8 bits.
    """
    with open_image(data, where=where) as picture:
        if picture.mode not in _OPAQUE_MODES + _TRANSPARENT_MODES:
            raise ValueError(
                f"{where}: pixels of mode {picture.mode} cannot become 8-bit RGB; convert them to 8 bits per channel"
            )
        try:
            if picture.mode in _TRANSPARENT_MODES or "transparency" in picture.info:
                white = Image.new("RGBA", picture.size, "white")
                return np.array(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
            return np.array(picture.convert("RGB"))
        except Exception as error:  # a decoder of untrusted bytes may raise anything
            raise ValueError(
                f"{where}: the image is damaged or truncated ({error}); restore the file or remove the frame"
            ) from error


def size_hint(content: Path | bytes, *, expected: tuple[int, int], where: str) -> str:
    """Suggest a fix for an image whose size differs from its camera's."""
    with open_image(content, where=where) as picture:
        turned = picture.size == expected[::-1]
        tagged = picture.getexif().get(_ORIENTATION, 1) in {5, 6, 7, 8}
    if turned and tagged:
        return "its EXIF orientation rotates it; save the images upright, as the cameras expect them"
    return "use the images that the cameras were estimated from, or scale them back to this size"
