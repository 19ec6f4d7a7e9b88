"""Reads the cameras, poses and points of a COLMAP model, text or binary, without COLMAP.

Only `cameras`, `images` and `points3D` are read; their form is the same in all versions. `rigs` and `frames` (COLMAP
3.12) add nothing to the poses. Unlike pycolmap 4.2, which accepts a truncated `cameras.bin`, this reader names the
line or byte at which a file is damaged.
"""

import mmap
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.importers.parsing import numbers
from wnv.scenes.points import Points

# COLMAP's id: name and number of parameters.
CAMERA_MODELS: dict[int, tuple[str, int]] = {
    0: ("SIMPLE_PINHOLE", 3),
    1: ("PINHOLE", 4),
    2: ("SIMPLE_RADIAL", 4),
    3: ("RADIAL", 5),
    4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8),
    6: ("FULL_OPENCV", 12),
    7: ("FOV", 5),
    8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5),
    10: ("THIN_PRISM_FISHEYE", 12),
    11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4),
    13: ("DIVISION", 5),
    14: ("SIMPLE_FISHEYE", 3),
    15: ("FISHEYE", 4),
    16: ("EUCM", 6),
    17: ("EQUIRECTANGULAR", 2),
}


@dataclass(frozen=True, eq=False, kw_only=True)
class ColmapCamera:
    """A camera of a COLMAP model; `params` depend on `model`."""

    model: str
    width: int
    height: int
    params: Float64[np.ndarray, " parameter"]


@dataclass(frozen=True, eq=False, kw_only=True)
class ColmapImage:
    """A registered image: `quaternion` (w x y z) and `translation` are camera<-world."""

    name: str
    camera_id: int
    quaternion: Float64[np.ndarray, "4"]
    translation: Float64[np.ndarray, "3"]


@dataclass(frozen=True, eq=False)
class ColmapModel:
    """Cameras by id, and images in the order of the file."""

    folder: Path
    cameras: dict[int, ColmapCamera]
    images: list[ColmapImage]


def read_model(folder: Path) -> ColmapModel:
    """Read the model in a folder; binary files take precedence over text files, as in COLMAP.

    Raises:
        FileNotFoundError: If the folder holds no model.
        ValueError: If a file is malformed, with line or byte.
    """
    for suffix, cameras, images in ((".bin", _binary_cameras, _binary_images), (".txt", _text_cameras, _text_images)):
        if is_model(folder, suffix):
            return ColmapModel(folder, cameras(folder / f"cameras{suffix}"), images(folder / f"images{suffix}"))
    raise FileNotFoundError(f"{folder}: no COLMAP model (cameras.bin and images.bin, or cameras.txt and images.txt)")


def read_points(folder: Path) -> Points | None:
    """Read the points of the model in a folder, without their tracks; None if it has no points.

    Raises:
        ValueError: If the file is malformed, with line or byte.
    """
    suffix = ".bin" if is_model(folder, ".bin") else ".txt"
    path = folder / f"points3D{suffix}"
    if not path.is_file():
        return None
    found = list(_binary_points(path) if suffix == ".bin" else _text_points(path))
    if not found:
        return None
    xyz, rgb = (np.array(values) for values in zip(*found, strict=True))
    if not np.isfinite(xyz).all():
        raise ValueError(f"{path}: holds points that are not finite; export the model again")
    return Points(xyz=xyz.astype(np.float64), rgb=rgb.astype(np.uint8))


def is_model(folder: Path, suffix: str | None = None) -> bool:
    """Whether a folder holds a COLMAP model, in one form (`.bin`, `.txt`) or any."""
    suffixes = (".bin", ".txt") if suffix is None else (suffix,)
    return any(all((folder / f"{part}{s}").is_file() for part in ("cameras", "images")) for s in suffixes)


def _text_cameras(path: Path) -> dict[int, ColmapCamera]:
    cameras: dict[int, ColmapCamera] = {}
    for line, text in _lines(path):
        if not text or text.startswith("#"):
            continue
        where = f"{path}:{line}"
        words = text.split()
        if len(words) < 5:
            raise ValueError(f"{where}: a camera is 'CAMERA_ID MODEL WIDTH HEIGHT PARAMS...', got {text!r:.80}")
        camera_id, width, height = (_integer(words[index], where=where) for index in (0, 2, 3))
        params = numbers(words[4:], count=_num_params(words[1], where=where), what="camera parameters", where=where)
        cameras[camera_id] = ColmapCamera(model=words[1], width=width, height=height, params=params)
    return cameras


def _text_images(path: Path) -> list[ColmapImage]:
    images: list[ColmapImage] = []
    is_points = False
    for line, text in _lines(path):
        if is_points:
            # The second line of an image holds its observations and may be empty. Their number is checked, since a
            # file without its empty lines would otherwise lose every other image.
            is_points = False
            if len(text.split()) % 3:
                raise ValueError(
                    f"{path}:{line}: expected the observations of the image above (triples 'X Y POINT3D_ID', or an "
                    f"empty line), got {text!r:.80}"
                )
            continue
        if not text or text.startswith("#"):
            continue
        where = f"{path}:{line}"
        words = text.split(maxsplit=9)
        if len(words) != 10:
            raise ValueError(
                f"{where}: an image is 'IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME' and a line of observations "
                f"(it may be empty), got {text!r:.80}"
            )
        pose = numbers(words[1:8], count=7, what="the pose", where=where)
        images.append(
            ColmapImage(
                name=words[9],
                camera_id=_integer(words[8], where=where),
                quaternion=pose[:4],
                translation=pose[4:],
            )
        )
        is_points = True
    return images


def _binary_cameras(path: Path) -> dict[int, ColmapCamera]:
    reader = _Reader(path)
    cameras: dict[int, ColmapCamera] = {}
    for _ in range(reader.count()):
        camera_id, model_id, width, height = reader.take("<iiQQ")
        if model_id not in CAMERA_MODELS:
            raise ValueError(f"{path}: camera {camera_id} has unknown model {model_id}; undistort with COLMAP first")
        model, num_params = CAMERA_MODELS[model_id]
        params = numbers(
            reader.take(f"<{num_params}d"), count=num_params, what="parameters", where=f"{path}, camera {camera_id}"
        )
        cameras[camera_id] = ColmapCamera(model=model, width=width, height=height, params=params)
    reader.end()
    return cameras


def _binary_images(path: Path) -> list[ColmapImage]:
    reader = _Reader(path)
    images: list[ColmapImage] = []
    for _ in range(reader.count()):
        image_id, *pose, camera_id = reader.take("<I7di")
        name = reader.text()
        where = f"{path}, image {image_id} ({name})"
        values = numbers(pose, count=7, what="the pose", where=where)
        # Per observation: x, y, point id.
        reader.skip(24 * reader.count())
        images.append(ColmapImage(name=name, camera_id=camera_id, quaternion=values[:4], translation=values[4:]))
    reader.end()
    return images


def _text_points(path: Path) -> Iterator[tuple[tuple[float, ...], tuple[int, ...]]]:
    for line, text in _lines(path):
        if not text or text.startswith("#"):
            continue
        where = f"{path}:{line}"
        words = text.split(maxsplit=8)
        if len(words) < 8:
            raise ValueError(f"{where}: a point is 'POINT3D_ID X Y Z R G B ERROR TRACK...', got {text!r:.80}")
        yield (
            tuple(numbers(words[1:4], count=3, what="a position", where=where).tolist()),
            tuple(_color(word, where=where) for word in words[4:7]),
        )


def _binary_points(path: Path) -> Iterator[tuple[tuple[float, ...], tuple[int, ...]]]:
    reader = _Reader(path)
    for _ in range(reader.count()):
        _, x, y, z, *rgb, _ = reader.take("<Q3d3Bd")
        # Per observation: image id, index of its point.
        reader.skip(8 * reader.count())
        yield (x, y, z), tuple(rgb)
    reader.end()


def _color(word: str, *, where: str) -> int:
    value = _integer(word, where=where)
    if not 0 <= value <= 255:
        raise ValueError(f"{where}: a color must be 0 to 255, got {word}")
    return value


class _Reader:
    """Sequential reader of a binary file; a truncated one raises ValueError with the byte."""

    def __init__(self, path: Path) -> None:
        self._path = path
        # Mapped, not read: observations, which are skipped, can be gigabytes.
        with path.open("rb") as file:
            self._data = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
        self._at = 0

    def take(self, layout: str) -> tuple[Any, ...]:
        start = self._at
        self.skip(struct.calcsize(layout))
        return struct.unpack_from(layout, self._data, start)

    def count(self) -> int:
        return self.take("<Q")[0]

    def text(self) -> str:
        end = self._data.find(b"\0", self._at)
        if end < 0:
            self._fail()
        start, self._at = self._at, end + 1
        return self._data[start:end].decode("utf-8", "surrogateescape")

    def skip(self, num_bytes: int) -> None:
        if self._at + num_bytes > len(self._data):
            self._fail()
        self._at += num_bytes

    def end(self) -> None:
        if self._at != len(self._data):
            raise ValueError(
                f"{self._path}: {len(self._data) - self._at} bytes after the last entry; the file is damaged or "
                "not COLMAP's; export the model again"
            )

    def _fail(self) -> None:
        raise ValueError(
            f"{self._path}: truncated within an entry at byte {len(self._data)}; copy or export the model again"
        )


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    with path.open(encoding="utf-8-sig", errors="surrogateescape") as file:
        for line, text in enumerate(file, start=1):
            yield line, text.strip()


def _integer(word: str, *, where: str) -> int:
    try:
        if float(word).is_integer():  # some tools write sizes as 96.0
            return int(float(word))
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"{where}: expected a whole number, got {word!r}")


def _num_params(model: str, *, where: str) -> int:
    counts = dict(CAMERA_MODELS.values())
    if model not in counts:
        raise ValueError(f"{where}: unknown camera model {model!r}; undistort with COLMAP first")
    return counts[model]
