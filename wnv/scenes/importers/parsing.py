"""Parse and check the contents of source files: paths, JSON, numbers, poses."""

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.importers.capture import MissingImageError, PosedImage
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.rigid import invert_rigid

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".PNG", ".JPG", ".JPEG", ".webp", ".bmp", ".tif", ".tiff")
"""Tried in this order if a format names an image without its suffix."""

SCALED_FOLDERS = ("_2", "_4", "_8")
"""Suffixes of folders of scaled copies, as in mip-NeRF 360 and DL3DV; the largest images are used."""

SOURCE_ROTATION_TOLERANCE = 1e-3
"""Largest accepted entry of `R^T R - I`; allows for short decimals."""


def read_text(path: Path) -> str:
    """Read a UTF-8 file, without the byte order mark that Windows writes.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not UTF-8.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file")
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 text ({error.reason} at byte {error.start})") from None


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is not JSON, with line and column.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(
            f"{path}:{error.lineno}: not JSON at column {error.colno} ({error.msg}); is the file truncated?"
        ) from None
    except RecursionError:
        raise ValueError(f"{path}: JSON is nested too deeply; copy the file again") from None


def path_inside(root: Path, name: Any, *, where: str) -> Path:
    """Resolve a file name of a source inside `root`.

    Only the text of the path is checked: `..` and absolute paths may not leave `root`. Links inside `root` are
    followed, since data sets are often folders of links to another disk.

    Args:
        root: Folder that relative names start from.
        name: The name in the source.
        where: File and frame, for the message.

    Raises:
        ValueError: If the name is not a string or leaves `root`.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ValueError(f"{where}: a file name must be a non-empty text, got {name!r}")
    base = Path(os.path.abspath(root))
    path = Path(os.path.normpath(base / name.replace("\\", "/")))
    if path != base and base not in path.parents:
        raise ValueError(
            f"{where}: path {name!r} leaves the folder {root}; make it relative to that folder, or name the folder "
            "that holds the files"
        )
    return path


def find_image(root: Path, name: Any, *, where: str) -> Path:
    """Find an image that a source names inside `root`; the suffix may be missing.

    If its folder is missing, a folder of scaled copies beside it is used (`images_2`, `images_4`, `images_8`).

    Raises:
        ValueError: If the name leaves `root`.
        MissingImageError: If there is no such image.
    """
    path = path_inside(root, name, where=where)
    folders = [path.parent]
    if not path.parent.is_dir():
        folders += [path.parent.with_name(path.parent.name + scale) for scale in SCALED_FOLDERS]
    for folder in folders:
        for suffix in ("", *IMAGE_SUFFIXES):
            candidate = folder / (path.name + suffix)
            if candidate.is_file():
                return candidate
    raise MissingImageError(
        f"{where}: image {path} is missing; restore it, remove the frame from the source, or set missing=skip"
    )


def natural_order(name: str) -> tuple[tuple[int, int | str], ...]:
    """Sort key that compares digits by value: `frame_2` before `frame_10`."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((1, int(part)) if index % 2 else (0, part) for index, part in enumerate(parts))


def numbers(values: Any, *, count: int, what: str, where: str) -> Float64[np.ndarray, " value"]:
    """Convert `count` values of JSON or text to finite float64 numbers.

    Raises:
        ValueError: If the count differs, or one is not a finite number.
    """
    try:
        array = np.array([_number(value) for value in values], dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: {what} must be {count} numbers, got {_shorten(values)}") from None
    if array.size != count:
        raise ValueError(f"{where}: {what} must be {count} numbers, got {array.size}")
    if not np.isfinite(array).all():
        raise ValueError(f"{where}: {what} must be finite, got {_shorten(values)}; remove the frame or repair its pose")
    return array


def number(value: Any, *, what: str, where: str) -> float:
    """Convert one value of JSON or text to a finite number.

    Raises:
        ValueError: If it is not one.
    """
    return float(numbers([value], count=1, what=what, where=where)[0])


def pinhole(*, fx: float, fy: float, cx: float, cy: float) -> Float64[np.ndarray, "3 3"]:
    """Build `K`, in pixels; `SceneInfo` checks it."""
    return np.array([[fx, 0.0, cx], [0.0, fy, cy], [0.0, 0.0, 1.0]])


def pose_matrix(value: Any, *, what: str, where: str, allow_scale: bool = False) -> Float64[np.ndarray, "4 4"]:
    """Convert a JSON value to a rigid matrix; see `rigid`.

    Args:
        value: Rows of the matrix.
        what: Name of the matrix in the source.
        where: File and frame.
        allow_scale: Remove a uniform scale of the rotation.

    Raises:
        ValueError: If it is not a 3x4 or 4x4 matrix of finite numbers, or not rigid.
    """
    if not isinstance(value, list) or len(value) not in (3, 4) or not all(isinstance(row, list) for row in value):
        raise ValueError(f"{where}: {what} must be a list of 3 or 4 rows of 4 numbers, got {_shorten(value)}")
    rows = [numbers(row, count=4, what=f"each row of {what}", where=where) for row in value]
    pose = np.stack(rows)
    determinant = float(np.linalg.det(pose[:3, :3]))
    if allow_scale and determinant > 0 and abs(determinant - 1) > SOURCE_ROTATION_TOLERANCE:
        pose[:3, :3] /= np.cbrt(determinant)
    return rigid(pose, what=what, where=where)


def rigid(pose: Float64[np.ndarray, "rows 4"], *, what: str, where: str) -> Float64[np.ndarray, "4 4"]:
    """Check that a pose is rigid, and remove rounding.

    A rotation that is off by less than `SOURCE_ROTATION_TOLERANCE` (short decimals, float32) becomes the nearest
    rotation; one that is exact to 1e-9 is kept bit for bit.

    Args:
        pose: 3x4, or 4x4 with last row 0 0 0 1.
        what: Name of the matrix in the source.
        where: File and frame.

    Raises:
        ValueError: If it has a different last row, scales, shears or mirrors.
    """
    if pose.shape == (4, 4) and not np.allclose(pose[3], (0.0, 0.0, 0.0, 1.0), atol=1e-6):
        raise ValueError(f"{where}: the last row of {what} must be 0 0 0 1, got {_shorten(pose[3].tolist())}")
    rotation = pose[:3, :3].astype(np.float64)
    determinant = float(np.linalg.det(rotation))
    if determinant < 0:
        raise ValueError(
            f"{where}: {what} mirrors the world (determinant {determinant:.3g}, must be 1); an odd number of axes is "
            "flipped, so negate one more column or row"
        )
    error = float(np.abs(rotation.T @ rotation - np.eye(3)).max())
    if error > SOURCE_ROTATION_TOLERANCE:
        raise ValueError(
            f"{where}: {what} must be rigid to {SOURCE_ROTATION_TOLERANCE}, got an error of {error:.3g} (determinant "
            f"{determinant:.3g}); remove scale and shear from the matrix"
        )
    if error > 1e-9:
        left, _, right = np.linalg.svd(rotation)
        rotation = left @ right
    result = np.eye(4)
    result[:3, :3] = rotation
    result[:3, 3] = pose[:3, 3]
    return result


def normalized_image(
    values: Float64[np.ndarray, "18"], *, content: Path | bytes, where: str, index: int, time_s: float
) -> PosedImage:
    """Make a posed image from the 18 numbers per camera of RealEstate10K and pixelSplat.

    Args:
        values: `fx fy cx cy` divided by width and height, two unused numbers, and camera<-world 3x4 row by row.
        content: The image.
        where: File and frame, for messages.
        index: Index in the source.
        time_s: Time in seconds.
    """
    width, height = image_size(content, where=where)
    fx, fy, cx, cy = (values[:4] * (width, height, width, height)).tolist()
    viewmat = rigid(values[6:].reshape(3, 4), what="the camera<-world matrix", where=where)
    return PosedImage(
        where=where,
        content=content,
        width=width,
        height=height,
        K=pinhole(fx=fx, fy=fy, cx=cx, cy=cy),
        camtoworld=invert_rigid(viewmat),
        time_s=time_s,
        source_index=index,
    )


def _number(value: Any) -> float:
    if isinstance(value, bool):
        raise TypeError("a truth value is not a number")
    return float(value)


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else text[:117] + "..."
