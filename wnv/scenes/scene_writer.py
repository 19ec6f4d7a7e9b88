"""Writes scene files atomically."""

import zipfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from wnv.runtime.atomic import atomic_file
from wnv.scenes.image_codec import SUFFIXES, ImageFormat, decode_image, encode_image, image_header
from wnv.scenes.points import Points, points_to_ply
from wnv.scenes.scene_json import info_to_json
from wnv.scenes.schema import POINTS_FILE, SCENE_JSON, Frame, SceneError, SceneInfo, frame_file, frame_label

# The first date of the zip format, so that equal scenes become equal files.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_scene(
    folder: str | Path,
    info: SceneInfo,
    images: Iterable[bytes | UInt8[np.ndarray, "height width 3"]],
    *,
    points: Points | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> Path:
    """Write `<folder>/<info.id>.zip` and return its path; a failed or killed write leaves no such file.

    Args:
        folder: Created if missing.
        info: The scene; `Frame.file` is replaced (`frames/000000.jpg`, ...).
        images: One per frame, in order; a generator keeps memory low. Bytes of a JPEG or PNG are stored unchanged after
            a test decoding; RGB arrays are encoded.
        points: Points of the scene.
        overwrite: Replace an existing file.
        image_format: Format of encoded arrays; `png` is lossless.
        quality: JPEG quality of encoded arrays, 1 to 100.

    Raises:
        FileExistsError: If the file exists and `overwrite` is not set.
        ValueError: If the quality is out of range.
        SceneError: If an image cannot be decoded or has another size, or their number differs from the frames'.
    """
    if not 1 <= quality <= 100:
        raise ValueError(f"JPEG quality must be in 1..100, got {quality}")
    path = Path(folder) / f"{info.id}.zip"
    with atomic_file(path, overwrite=overwrite) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        frames = _write_frames(archive, info, images, image_format=image_format, quality=quality)
        if points is not None:
            archive.writestr(zipfile.ZipInfo(POINTS_FILE, _DATE), points_to_ply(points))
        # Last, beside the archive's directory, so that a remote reader gets both in one request.
        text = info_to_json(replace(info, frames=frames))
        archive.writestr(zipfile.ZipInfo(SCENE_JSON, _DATE), text)
    return path


def _write_frames(
    archive: zipfile.ZipFile,
    info: SceneInfo,
    images: Iterable[bytes | UInt8[np.ndarray, "height width 3"]],
    *,
    image_format: ImageFormat,
    quality: int,
) -> tuple[Frame, ...]:
    named: list[Frame] = []
    for index, image in enumerate(images):
        if index == len(info.frames):
            raise SceneError(f"scene '{info.id}': more images than {len(info.frames)} frames; pass one image per frame")
        where = frame_label(info.id, index)
        if isinstance(image, bytes):
            found, _, _ = image_header(image, where=where)
            decode_image(image, width=info.width, height=info.height, where=where)
            data = image
        else:
            if image.dtype != np.uint8 or image.shape != (info.height, info.width, 3):
                raise SceneError(
                    f"{where}: images must be uint8 of shape ({info.height}, {info.width}, 3) = (height, width, RGB), "
                    f"got {image.dtype} {image.shape}"
                )
            found = image_format
            data = encode_image(image, image_format=image_format, quality=quality)
        frame = replace(info.frames[index], file=frame_file(index, SUFFIXES[found]))
        archive.writestr(zipfile.ZipInfo(frame.file, _DATE), data)
        named.append(frame)
    if len(named) != len(info.frames):
        raise SceneError(
            f"scene '{info.id}': {len(info.frames)} frames but {len(named)} images; pass one image per frame"
        )
    return tuple(named)
