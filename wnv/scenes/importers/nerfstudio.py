"""Reads `transforms.json` captures: nerfstudio, instant-ngp, and the Blender scenes of NeRF."""

import logging
import math
from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.parsing import find_image, natural_order, number, pinhole, pose_matrix, read_json
from wnv.scenes.schema import safe_id
from wnv.scenes.undistort import Distortion

logger = logging.getLogger(__name__)

CAMERA_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""Supported models; each is OPENCV without some coefficients."""

# Cameras of these files look along -z with y up (OpenGL); ours look along +z with y down.
_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])
# Parts of a capture that scene files have no place for.
_IGNORED_KEYS = (
    "mask_path", "depth_file_path", "ply_file_path", "train_filenames", "val_filenames", "test_filenames",
)  # fmt: skip


def nerfstudio_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield the capture of a `transforms.json`, or of the folder that holds it.

    - Frames are sorted by `file_path` (`2.png` before `10.png`), relative to the file; the suffix may be missing.
    - Intrinsics of a frame override those of the file: `fl_x fl_y cx cy w h`, or `camera_angle_x` (and `_y`). A missing
      `fl_y` equals `fl_x`, a missing principal point is the centre, a missing size is that of the image.
    - Distortion is `k1 k2 p1 p2 k3`; fisheye lenses are rejected.
    - Axes turn from OpenGL to OpenCV. nerfstudio's `applied_transform` and `applied_scale` (its changes to COLMAP's
      world) are kept in `source`, not undone.
    - `time`, in seconds, is used if all frames have one; it must increase in the order of the files.
    - Masks, depth maps, point clouds and lists of splits are ignored with a warning.
    """
    path = source / "transforms.json" if source.is_dir() else source
    if source.is_dir() and not path.is_file():
        others = ", ".join(sorted(other.name for other in source.glob("transforms*.json")))
        raise FileNotFoundError(f"{path}: no such file" + (f"; set source= to one of {others}" if others else ""))
    yield Capture(
        id=options.scene_id or safe_id(path.resolve().parent.name),
        where=str(path),
        read=partial(_read, path, options),
    )


def _read(path: Path, options: ImportOptions) -> tuple[list[PosedImage], dict[str, Any]]:
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError(f"{path}: needs an object with a list 'frames'; is this a transforms.json of nerfstudio?")
    entries = [_check_entry(entry, where=f"{path}: entry {i} of 'frames'") for i, entry in enumerate(content["frames"])]
    entries.sort(key=lambda entry: natural_order(entry["file_path"]))
    clocks = sum("time" in entry for entry in entries)
    if clocks not in (0, len(entries)):
        raise ValueError(f"{path}: {clocks} of {len(entries)} frames have a 'time'; give it to all of them or to none")
    ignored = Counter(key for part in (content, *entries) for key in _IGNORED_KEYS if key in part)
    if ignored:
        logger.warning(
            "%s: ignored, since scene files do not hold them: %s",
            path,
            ", ".join(f"{key} ({count})" for key, count in ignored.items()),
        )
    images = [
        _posed_image(entry, content, path=path, index=index, options=options) for index, entry in enumerate(entries)
    ]
    notes = {key: content[key] for key in ("applied_transform", "applied_scale") if key in content}
    return images, {"format": "nerfstudio", "file": path.name, **notes}


def _check_entry(entry: Any, *, where: str) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
        raise ValueError(f"{where} needs a text 'file_path', got {entry!r:.80}")
    return entry


def _posed_image(
    entry: Mapping[str, Any], shared: Mapping[str, Any], *, path: Path, index: int, options: ImportOptions
) -> PosedImage:
    where = f"{path}, frame {entry['file_path']!r}"
    file = find_image(path.parent, entry["file_path"], where=where)
    camera = {**shared, **entry}
    width, height = _size(camera, file, where=where)
    if "transform_matrix" not in entry:
        raise ValueError(f"{where}: 'transform_matrix' is missing; remove the frame or give it a pose")
    opengl = pose_matrix(entry["transform_matrix"], what="transform_matrix", where=where)
    return PosedImage(
        where=where,
        content=file,
        width=width,
        height=height,
        K=_intrinsics(camera, width=width, height=height, where=where),
        camtoworld=opengl @ _OPENGL_FROM_OPENCV,
        distortion=_distortion(camera, where=where),
        time_s=number(entry["time"], what="time", where=where) if "time" in entry else options.frame_time(index),
        source_index=index,
    )


def _size(camera: Mapping[str, Any], file: Path, *, where: str) -> tuple[int, int]:
    if "w" not in camera and "h" not in camera:
        return image_size(file, where=where)
    if "w" not in camera or "h" not in camera:
        raise ValueError(f"{where}: has only one of 'w' and 'h'; give both or neither")
    width, height = (number(camera[key], what=f"'{key}'", where=where) for key in ("w", "h"))
    if not (width.is_integer() and height.is_integer() and width > 0 and height > 0):
        raise ValueError(f"{where}: 'w' and 'h' must be whole numbers of pixels above 0, got {width:g} x {height:g}")
    return int(width), int(height)


def _intrinsics(camera: Mapping[str, Any], *, width: int, height: int, where: str) -> Float64[np.ndarray, "3 3"]:
    fx = _focal(camera, "x", width, where=where)
    fy = _focal(camera, "y", height, where=where)
    if fx is None:
        raise ValueError(f"{where}: no focal length: give 'fl_x' in pixels or 'camera_angle_x' in radians")
    return pinhole(
        fx=fx,
        fy=fx if fy is None else fy,
        cx=number(camera.get("cx", width / 2), what="'cx'", where=where),
        cy=number(camera.get("cy", height / 2), what="'cy'", where=where),
    )


def _focal(camera: Mapping[str, Any], axis: str, side: int, *, where: str) -> float | None:
    if f"fl_{axis}" in camera:
        return number(camera[f"fl_{axis}"], what=f"'fl_{axis}'", where=where)
    # `fl_x` is exact where `camera_angle_y` is rounded.
    if f"camera_angle_{axis}" not in camera or (axis == "y" and "fl_x" in camera):
        return None
    angle = number(camera[f"camera_angle_{axis}"], what=f"'camera_angle_{axis}'", where=where)
    if not 0 < angle < math.pi:
        raise ValueError(f"{where}: 'camera_angle_{axis}' must be between 0 and pi radians, got {angle:g}")
    return 0.5 * side / math.tan(0.5 * angle)


def _distortion(camera: Mapping[str, Any], *, where: str) -> Distortion:
    model = camera.get("camera_model", "OPENCV")
    if model not in CAMERA_MODELS or camera.get("is_fisheye"):
        named = model if model not in CAMERA_MODELS else "is_fisheye"
        raise ValueError(
            f"{where}: camera model {named!r} is not a pinhole with OpenCV distortion ({', '.join(CAMERA_MODELS)}); "
            "undistort the images first"
        )
    if number(camera.get("k4", 0.0), what="'k4'", where=where) != 0.0:
        raise ValueError(f"{where}: 'k4' is a coefficient of fisheye lenses; undistort the images first")
    return Distortion(
        **{key: number(camera.get(key, 0.0), what=f"'{key}'", where=where) for key in ("k1", "k2", "p1", "p2", "k3")}
    )
