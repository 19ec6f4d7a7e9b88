"""Writes scene files: whole or not at all."""

import os
import re
import secrets
import socket
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8

from wnv.scenes.images import SUFFIXES, ImageFormat, decode_image, encode_image, image_header
from wnv.scenes.schema import SCENE_JSON, Frame, SceneError, SceneInfo, frame_file, frame_label, info_to_json

# Equal scenes become equal files; the zip format's clock starts here.
_DATE = (1980, 1, 1, 0, 0, 0)


def write_scene(
    folder: str | Path,
    info: SceneInfo,
    images: Iterable[bytes | UInt8[np.ndarray, "height width 3"]],
    *,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> Path:
    """Write `<folder>/<info.id>.zip` and return its path; a failed or killed write leaves no such file.

    Args:
        folder: Made if it is not there.
        info: The scene; `Frame.file` is given anew here (`frames/000000.jpg`, ...), whatever it was.
        images: One a frame, in order, taken one at a time so that a generator keeps memory low. Bytes are a JPEG or PNG
            and are stored as they are, after a trial decoding; arrays are RGB and are encoded.
        overwrite: Replace a file of this name.
        image_format: How arrays are encoded; `png` where loss matters.
        quality: JPEG quality of encoded arrays, 1..100.

    Raises:
        FileExistsError: If the file exists and `overwrite` is not set.
        SceneError: If an image cannot be decoded, is of another size, or there is not one image a frame.
    """
    path = Path(folder) / f"{info.id}.zip"
    _refuse_existing(path, overwrite)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(path)
    with _temporary(path, overwrite) as file, zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        frames = _write_frames(archive, info, images, image_format=image_format, quality=quality)
        # Last, so that one read of the file's end finds it beside the directory of the archive.
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
            raise SceneError(f"scene '{info.id}': more images than its {len(info.frames)} frames")
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
            f"scene '{info.id}': {len(info.frames)} frames but {len(named)} images; give one image a frame"
        )
    return tuple(named)


@contextmanager
def _temporary(path: Path, overwrite: bool) -> Iterator[BinaryIO]:
    """A new file beside `path` that takes its place when the block ends well, and vanishes when it does not."""
    temporary = path.with_name(f".{path.name}.{_host()}-{os.getpid()}-{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        _refuse_existing(path, overwrite)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(path.parent)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if path.exists() and not overwrite:
        raise FileExistsError(f"{path} exists; pass overwrite=true to replace it, or write to another folder")


def _remove_leftovers(path: Path) -> None:
    """Remove what killed writers of this scene on this machine left; a living writer's file is let be."""
    pattern = re.compile(rf"\.{re.escape(path.name)}\.{re.escape(_host())}-(\d+)-[0-9a-f]+\.tmp")
    for file in path.parent.iterdir():
        match = pattern.fullmatch(file.name)
        if match and not _is_alive(int(match[1])):
            file.unlink(missing_ok=True)


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.]", "_", socket.gethostname())


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Make the rename last through a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
