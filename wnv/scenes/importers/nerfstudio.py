"""Imports `transforms.json` captures: nerfstudio, instant-ngp, and the Blender scenes of NeRF."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.importers.assemble import PosedImage, assemble_scene, frame_time
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.source import find_image, matrix, natural_order, number, pinhole, read_json, rigid
from wnv.scenes.schema import SceneKind, safe_id
from wnv.scenes.undistort import Distortion

CAMERA_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""All of them are OPENCV with some coefficients left out."""

# Cameras of these files look along -z with y up (OpenGL); ours look along +z with y down.
_OPENGL_FROM_OPENCV = np.diag([1.0, -1.0, -1.0, 1.0])


def import_nerfstudio(
    source: Path,
    out: Path,
    *,
    scene_id: str | None = None,
    kind: SceneKind = "static",
    fps: float | int | None = None,
    max_side: int | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> list[Path]:
    """Write the scene file of a capture with `transforms.json`, and return its path (a list of one).

    - Frames are sorted by `file_path` (`2.png` before `10.png`).
    - Image paths are relative to the folder of the file, and may lack the suffix.
    - Intrinsics are those of the frame, else those of the file: `fl_x fl_y cx cy w h`, or `camera_angle_x` (and `_y`);
      a missing `fl_y` equals `fl_x`, a missing principal point is the centre, a missing size that of the image.
    - Distortion `k1 k2 p1 p2 k3` is taken out of the images. Fisheye lenses are refused.
    - Axes turn from OpenGL to OpenCV. The world stays that of the file: nerfstudio's `applied_transform` and
      `applied_scale` (how it moved COLMAP's world to make it) are not undone but noted under `source`.
    - If every frame has a `time`, that is its time in seconds; it must increase in the order of the files.

    Args:
        source: The file, or the folder of a `transforms.json`.
        out: Folder of the scene file.
        scene_id: Name of the scene; None takes the name of the folder.
        kind: `static`, or `dynamic` where things move while the camera does.
        fps: Frames a second of a video that the images were taken from; None for photographs (0, 1, 2, ... s).
        max_side: Longest side of the stored images; larger ones are made smaller.
        overwrite: Replace a scene file of this name.
        image_format: `jpeg` or `png`, for images that have to be encoded anew.
        quality: JPEG quality of images that have to be encoded anew.

    Raises:
        FileNotFoundError: If the file or an image is missing.
        FileExistsError: If the scene file exists and `overwrite` is not set.
        ValueError: If the file is malformed, or a frame breaks a rule of scenes; the message names file and frame.
    """
    path = source / "transforms.json" if source.is_dir() else source
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
        raise ValueError(f"{path}: needs an object with a list 'frames'; is this a transforms.json of nerfstudio?")
    entries = [_entry(entry, path=path, index=index) for index, entry in enumerate(content["frames"])]
    entries.sort(key=lambda entry: natural_order(entry["file_path"]))
    clocks = sum("time" in entry for entry in entries)
    if clocks not in (0, len(entries)):
        raise ValueError(f"{path}: {clocks} of {len(entries)} frames have a 'time'; give it to all of them or to none")
    images = [_posed_image(entry, content, path=path, index=index, fps=fps) for index, entry in enumerate(entries)]
    notes = {key: content[key] for key in ("applied_transform", "applied_scale") if key in content}
    scene = assemble_scene(
        out,
        images,
        scene_id=scene_id or safe_id(path.resolve().parent.name),
        source={"format": "nerfstudio", "file": path.name, **notes},
        kind=kind,
        max_side=max_side,
        overwrite=overwrite,
        image_format=image_format,
        quality=quality,
    )
    return [scene]


def _entry(entry: Any, *, path: Path, index: int) -> dict[str, Any]:
    if not isinstance(entry, dict) or not isinstance(entry.get("file_path"), str):
        raise ValueError(f"{path}: entry {index} of 'frames' needs a text 'file_path', got {entry!r:.80}")
    return entry


def _posed_image(
    entry: Mapping[str, Any], shared: Mapping[str, Any], *, path: Path, index: int, fps: float | int | None
) -> PosedImage:
    where = f"{path}, frame {entry['file_path']!r}"
    file = find_image(path.parent, entry["file_path"], where=where)
    # What a frame says about its camera goes before what the file says about all of them.
    camera = {**shared, **entry}
    width, height = _size(camera, file, where=where)
    if "transform_matrix" not in entry:
        raise ValueError(f"{where}: 'transform_matrix' is missing; remove the frame or give it a pose")
    opengl = rigid(
        matrix(entry["transform_matrix"], what="transform_matrix", where=where), what="transform_matrix", where=where
    )
    return PosedImage(
        where=where,
        content=file,
        width=width,
        height=height,
        K=_intrinsics(camera, width=width, height=height, where=where),
        camtoworld=opengl @ _OPENGL_FROM_OPENCV,
        distortion=_distortion(camera, where=where),
        time_s=number(entry["time"], what="time", where=where) if "time" in entry else frame_time(index, fps=fps),
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
        where=where,
    )


def _focal(camera: Mapping[str, Any], axis: str, side: int, *, where: str) -> float | None:
    if f"fl_{axis}" in camera:
        return number(camera[f"fl_{axis}"], what=f"'fl_{axis}'", where=where)
    # An angle beside the other axis' focal length would be rounding at best.
    if f"camera_angle_{axis}" not in camera or (axis == "y" and "fl_x" in camera):
        return None
    angle = number(camera[f"camera_angle_{axis}"], what=f"'camera_angle_{axis}'", where=where)
    if not 0 < angle < math.pi:
        raise ValueError(f"{where}: 'camera_angle_{axis}' must lie between 0 and pi radians, got {angle:g}")
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
