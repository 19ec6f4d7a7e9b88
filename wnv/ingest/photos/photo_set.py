"""A set of prepared photographs: a zip of upright JPEG images, and `photos.json` with names, lenses and sizes.

It stands where a video has its clip: `clips/KIND/SPLIT/ID.photos`, with the poses beside it in `ID.json`.
"""

import json
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from wnv.runtime.atomic import atomic_file
from wnv.scenes.image_codec import decode_image, encode_image
from wnv.scenes.resize import fit_size, shrink_image
from wnv.scenes.undistort import Distortion

PHOTOS_PREFIX = "photos:"
"""Start of the keys of folders of photographs."""
PHOTOS_SUFFIX = ".photos"

_INDEX = "photos.json"
_QUALITY = 97
_DATE = (1980, 1, 1, 0, 0, 0)  # so that equal photographs become equal files


@dataclass(frozen=True, kw_only=True)
class PhotoEntry:
    """A prepared photograph: its file name, size in pixels, number of its camera, and focal length over long side."""

    name: str
    width: int
    height: int
    camera: int
    focal: float | None


@dataclass(frozen=True, eq=False, kw_only=True)
class Lens:
    """Camera matrix, in pixels of the prepared photographs, and distortion."""

    K: Float64[np.ndarray, "3 3"]
    distortion: Distortion


class PhotoSetWriter:
    """Adds photographs to a set; see `write_photos`."""

    def __init__(self, archive: zipfile.ZipFile, short_side: int) -> None:
        self.entries: list[PhotoEntry] = []
        self._archive = archive
        self._short_side = short_side
        self._cameras: dict[tuple[str, ...], int] = {}

    def add(
        self, name: str, image: UInt8[np.ndarray, "height width 3"], *, lens: tuple[str, ...], focal: float | None
    ) -> None:
        """Add a photograph."""
        height, width = image.shape[:2]
        width, height = fit_size(width, height, short_side=self._short_side)
        small = image if (height, width) == image.shape[:2] else shrink_image(image, width=width, height=height)
        camera = self._cameras.setdefault(lens, len(self._cameras))
        file = zipfile.ZipInfo(photo_file(len(self.entries)), _DATE)
        self._archive.writestr(file, encode_image(small, image_format="jpeg", quality=_QUALITY))
        self.entries.append(PhotoEntry(name=name, width=width, height=height, camera=camera, focal=focal))


@contextmanager
def write_photos(path: Path, *, short_side: int) -> Iterator[PhotoSetWriter]:
    """Write a set when the block ends; a block that fails leaves no file.

    Args:
        path: The file.
        short_side: Maximum shorter side in pixels; larger photographs are scaled down.
    """
    with atomic_file(path, overwrite=True) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        writer = PhotoSetWriter(archive, short_side)
        yield writer
        index = json.dumps([asdict(entry) for entry in writer.entries])
        archive.writestr(zipfile.ZipInfo(_INDEX, _DATE), index)


def photo_file(index: int) -> str:
    """Return the name of a photograph in the set."""
    return f"{index:06d}.jpg"


def read_entries(path: Path) -> list[PhotoEntry]:
    """Return the photographs of a set."""
    with zipfile.ZipFile(path) as archive:
        return [PhotoEntry(**entry) for entry in json.loads(archive.read(_INDEX))]


def read_image(path: Path, index: int, entry: PhotoEntry) -> UInt8[np.ndarray, "height width 3"]:
    """Return the pixels of a photograph."""
    with zipfile.ZipFile(path) as archive:
        data = archive.read(photo_file(index))
    return decode_image(data, width=entry.width, height=entry.height, where=f"{path.name}, {entry.name}")


def extract(path: Path, folder: Path, entries: Sequence[PhotoEntry]) -> list[Path]:
    """Write the photographs to a folder; return their files."""
    names = [photo_file(index) for index in range(len(entries))]
    with zipfile.ZipFile(path) as archive:
        archive.extractall(folder, names)
    return [folder / name for name in names]
