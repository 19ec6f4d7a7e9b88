"""Read photographs of any usual format: upright, 8-bit sRGB, with what EXIF says about the lens."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageCms, ImageOps, features

from wnv.ingest.tasks import StageError

HEIF_SUFFIXES = frozenset(".heic .heif .avif".split())
_FILM_WIDTH_MM = 36.0  # of the 35 mm film that equivalent focal lengths refer to
_MM_PER_UNIT = {2: 25.4, 3: 10.0, 4: 1.0}  # EXIF's FocalPlaneResolutionUnit: inch, cm, mm


@dataclass(frozen=True, eq=False, kw_only=True)
class Photo:
    """A photograph.

    Attributes:
        image: Upright pixels.
        lens: Photographs with equal values share one camera: make, model, lens, focal length and size.
        focal: Focal length over the longer side, from EXIF; None if unknown.
    """

    image: UInt8[np.ndarray, "height width 3"]
    lens: tuple[str, ...]
    focal: float | None


def read_photo(path: Path) -> Photo:
    """Read a photograph. EXIF orientation is applied, embedded color profiles are converted to sRGB.

    Raises:
        StageError: `unsupported` if the format needs an extra, `corrupt` if the file cannot be decoded.
        FileNotFoundError: If it does not exist.
    """
    if path.suffix.lower() in HEIF_SUFFIXES:
        _register_heif(path)
    try:
        with Image.open(path) as picture:
            exif = picture.getexif()
            details = exif.get_ifd(ExifTags.IFD.Exif)
            upright = ImageOps.exif_transpose(picture)
            image = np.asarray(_to_srgb(upright))
    except (FileNotFoundError, MemoryError):
        raise
    except Exception as error:  # a decoder of untrusted bytes may raise anything
        raise StageError("refused", "corrupt", f"{path.name} cannot be decoded: {error}") from error
    lens = (exif.get(ExifTags.Base.Make), exif.get(ExifTags.Base.Model), details.get(ExifTags.Base.LensModel))
    focal = _focal_over_long_side(details, max(image.shape[:2]))
    zoom = details.get(ExifTags.Base.FocalLength)
    height, width = image.shape[:2]
    text = (*(str(name or "").strip("\0 ") for name in lens), f"{zoom or ''}", f"{focal or 0:.3f}")
    return Photo(image=image, lens=(*text, f"{width} x {height}"), focal=focal)


def _register_heif(path: Path) -> None:
    if path.suffix.lower() == ".avif" and features.check("avif"):
        return  # Pillow 11.3 and later decode it
    try:
        import pillow_heif
    except ImportError:
        raise StageError(
            "refused", "unsupported_photo", f"{path.name}: HEIC and AVIF need pillow-heif; pip install 'wnv[heif]'"
        ) from None
    pillow_heif.register_heif_opener()


def _to_srgb(picture: Image.Image) -> Image.Image:
    if picture.mode.startswith("I;16") or picture.mode in ("I", "F"):  # 16-bit gray
        values = np.asarray(picture, dtype=np.float64)
        return Image.fromarray((values * (255 / max(values.max(), 255))).astype(np.uint8)).convert("RGB")
    if "transparency" in picture.info or picture.mode in ("RGBA", "LA", "PA"):
        picture = Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture.convert("RGBA"))
    profile = picture.info.get("icc_profile")
    if profile and picture.mode in ("RGB", "CMYK"):
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            converted = ImageCms.profileToProfile(picture, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except ImageCms.PyCMSError:  # a damaged profile; the pixels are usable
            converted = None
        if converted is not None:
            return converted
    return picture.convert("RGB")


def _focal_over_long_side(details: Any, long_side: int) -> float | None:
    """Return the focal length from its 35 mm equivalent, or from millimeters and the density of the sensor's pixels."""
    try:
        equivalent = float(details.get(ExifTags.Base.FocalLengthIn35mmFilm) or 0)
        if equivalent > 0:
            return _plausible(equivalent / _FILM_WIDTH_MM)
        millimeters = float(details.get(ExifTags.Base.FocalLength) or 0)
        density = float(details.get(ExifTags.Base.FocalPlaneXResolution) or 0)
        unit = _MM_PER_UNIT.get(details.get(ExifTags.Base.FocalPlaneResolutionUnit, 2))
        width = float(details.get(ExifTags.Base.ExifImageWidth) or long_side)
        height = float(details.get(ExifTags.Base.ExifImageHeight) or 0)
        if millimeters > 0 and density > 0 and unit is not None:
            return _plausible(millimeters * density / unit / max(width, height))
    except (TypeError, ValueError, ZeroDivisionError):  # EXIF may hold anything
        pass
    return None


def _plausible(focal: float) -> float | None:
    return focal if 0.2 <= focal <= 20 else None
