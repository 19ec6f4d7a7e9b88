"""Pictures on their way into a scene file: copied byte by byte where nothing changes, else opened, fitted, encoded."""

import io
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.schema import MAX_IMAGE_PIXELS

_ORIENTATION = 0x0112
# Where a PNG says how many bits a channel has: in its first chunk, which is always the same one.
_PNG_BIT_DEPTH = 24
_TRANSPARENT_MODES = ("RGBA", "LA", "PA")
_OPAQUE_MODES = ("RGB", "L", "P", "1", "CMYK", "YCbCr")


def read_bytes(content: Path | bytes) -> bytes:
    """The encoded picture."""
    return content.read_bytes() if isinstance(content, Path) else content


def image_size(content: Path | bytes, *, where: str) -> tuple[int, int]:
    """Width and height as stored, from the header alone.

    Raises:
        ValueError: If it is not a JPEG or PNG, or has more pixels than a scene may.
    """
    with _open(content, where=where) as picture:
        return picture.size


def is_copyable(data: bytes, *, image_format: ImageFormat, where: str) -> bool:
    """Whether a scene file may hold these bytes as they are, going by the header.

    A JPEG always may, since decoding and encoding could only lose; a PNG may where PNG is asked for. Transparency,
    palettes and more than 8 bits a channel have to be converted.
    """
    with _open(data, where=where) as picture:
        is_png = picture.format == "PNG"
        plain = picture.mode in {"RGB", "L"} and "transparency" not in picture.info
    # Pillow calls a colour PNG of 16 bits a channel RGB like any other, and gives the upper 8 of them.
    return plain and (not is_png or (image_format == "png" and data[_PNG_BIT_DEPTH] <= 8))


def decode_rgb(data: bytes, *, where: str) -> UInt8[np.ndarray, "height width 3"]:
    """RGB pixels as stored (an EXIF orientation is not applied); what is transparent becomes white.

    Of colours with 16 bits a channel the upper 8 are kept.

    Raises:
        ValueError: If the picture is damaged or cut short, or is grey with more than 8 bits.
    """
    with _open(data, where=where) as picture:
        if picture.mode not in _OPAQUE_MODES + _TRANSPARENT_MODES:
            raise ValueError(
                f"{where}: pixels of mode {picture.mode} cannot become 8-bit RGB; convert the image to 8 bits a channel"
            )
        try:
            if picture.mode in _TRANSPARENT_MODES or "transparency" in picture.info:
                white = Image.new("RGBA", picture.size, "white")
                return np.array(Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"))
            return np.array(picture.convert("RGB"))
        except Exception as error:  # a decoder fed broken bytes may raise anything
            raise ValueError(
                f"{where}: the image is damaged or cut short ({error}); restore the file or remove the frame"
            ) from error


def size_hint(content: Path | bytes, *, expected: tuple[int, int], where: str) -> str:
    """What may have made an image another size than its camera says, and the way out."""
    with _open(content, where=where) as picture:
        turned = picture.size == expected[::-1]
        tagged = picture.getexif().get(_ORIENTATION, 1) in {5, 6, 7, 8}
    if turned and tagged:
        return "the EXIF orientation turns it: save the images upright, as the cameras expect them"
    return "name the folder of images that the cameras were made from, or scale the images back"


def _open(content: Path | bytes, *, where: str) -> Image.Image:
    source = io.BytesIO(content) if isinstance(content, bytes) else content
    try:
        picture = Image.open(source, formats=("JPEG", "PNG"))
    except Exception as error:  # a parser fed broken bytes may raise anything
        raise ValueError(f"{where}: not a readable JPEG or PNG ({error}); restore it or remove the frame") from error
    width, height = picture.size
    if width * height > MAX_IMAGE_PIXELS:
        picture.close()
        raise ValueError(
            f"{where}: the image has {width} x {height} pixels, more than {MAX_IMAGE_PIXELS}; scale the images down"
        )
    return picture
