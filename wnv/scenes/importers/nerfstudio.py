"""Reads `transforms.json` captures: nerfstudio, instant-ngp, and the Blender scenes of NeRF."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.importers.capture import (
    Capture,
    Captures,
    ImportOptions,
    PosedImage,
    capture_folders,
    first_file,
    posed_images,
)
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.parsing import find_image, natural_order, number, pinhole, pose_matrix, read_json
from wnv.scenes.schema import safe_id
from wnv.scenes.undistort import AnyDistortion, Distortion, FisheyeDistortion

logger = logging.getLogger(__name__)

CAMERA_MODELS = ("PINHOLE", "SIMPLE_PINHOLE", "SIMPLE_RADIAL", "RADIAL", "OPENCV")
"""Supported models; each is OPENCV without some coefficients."""

FISHEYE_MODELS = ("OPENCV_FISHEYE",)

# World<-camera axes by `camera_convention`, a key of MapAnything's `scene_meta.json`. By default cameras look along -z
# with y up (OpenGL); ours look along +z with y down.
_AXES = {"opengl": np.diag([1.0, -1.0, -1.0, 1.0]), "opencv": np.eye(4)}
# DL3DV's benchmark has a folder `nerfstudio` per scene.
_FILES = ("transforms.json", "scene_meta.json", "nerfstudio/transforms.json")
# Parts of a capture that scene files have no place for.
_IGNORED_KEYS = (
    "mask_path", "mask", "depth_file_path", "depth", "ply_file_path", "train_filenames", "val_filenames",
    "test_filenames",
)  # fmt: skip


def nerfstudio_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield the capture of a `transforms.json` or `scene_meta.json` (MapAnything), of its folder, or of folders below.

    - Frames are sorted by `file_path` (`2.png` before `10.png`), relative to the file; the suffix may be missing, and
      `images_2`, `images_4` or `images_8` may replace a missing folder `images`.
    - Intrinsics of a frame override those of the file: `fl_x fl_y cx cy w h`, or `camera_angle_x` (and `_y`). A missing
      `fl_y` equals `fl_x`, a missing principal point is the centre, a missing size is that of the image.
      Cameras are scaled to the size of the images.
    - Distortion is `k1 k2 p1 p2 k3`; of fisheye lenses (`camera_model` OPENCV_FISHEYE, or `is_fisheye`) `k1 k2 k3 k4`.
    - Axes turn from OpenGL to OpenCV, unless `camera_convention` of file or frame is `opencv`. A uniform scale of a
      pose is removed with a warning. nerfstudio's `applied_transform` and `applied_scale` (its changes to COLMAP's
      world) are kept in `source`, not undone.
    - `time`, in seconds, is used if all frames have one; frames are then sorted by it.
    - Masks, depth maps, point clouds and lists of splits are ignored with a warning.
    """
    if source.is_file():
        # The parts of NeRF's Blender scenes are separate scenes: lego_train, lego_test.
        part = source.stem.removeprefix("transforms") if source.stem.startswith("transforms_") else ""
        files = [(source.parent, source, source.resolve().parent.name + part)]
    else:
        files = capture_folders(source, lambda folder: first_file(folder, _FILES), what=_FILES[0])
    try:
        for _, path, name in files:
            yield Capture(id=options.scene_id or safe_id(name), where=str(path), read=partial(_read, path, options))
    except FileNotFoundError as error:
        others = ", ".join(sorted(other.name for other in source.glob("transforms*.json")))
        raise FileNotFoundError(f"{error}; set source= to one of {others}" if others else str(error)) from None


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
    makers = [
        partial(_posed_image, entry, content, path=path, index=index, options=options)
        for index, entry in enumerate(entries)
    ]
    images = posed_images(makers, where=str(path), options=options)
    if clocks:
        images.sort(key=lambda image: image.time_s)
    used = [entries[image.source_index or 0] for image in images]
    _warn_of_assumptions(content, used, images, path=path)
    notes = {key: content[key] for key in ("applied_transform", "applied_scale") if key in content}
    return images, {"format": "nerfstudio", "file": path.name, **notes}


def _warn_of_assumptions(
    content: Mapping[str, Any], entries: Sequence[Mapping[str, Any]], images: Sequence[PosedImage], *, path: Path
) -> None:
    """Report what had to be assumed about sizes and poses."""
    sizeless = [e for e in entries if "fl_x" in {**content, **e} and not {"w", "h", "cx", "cy"} & {*content, *e}]
    if sizeless and images:
        logger.warning(
            "%s: fl_x=%s is taken as pixels of the images as they are (%d x %d), since 'w' and 'h' are missing; if the "
            "images were scaled, add 'w' and 'h' of the original ones",
            path, {**content, **sizeless[0]}["fl_x"], images[0].width, images[0].height,
        )  # fmt: skip
    scales = [scale for entry in entries if abs((scale := _scale(entry)) - 1) > 1e-3]
    if scales:
        logger.warning(
            "%s: %d of %d poses are scaled by %.4g, which is removed; positions are kept",
            path, len(scales), len(entries), scales[0],
        )  # fmt: skip


def _scale(entry: Mapping[str, Any]) -> float:
    """The uniform scale of a pose, which Blender writes for a scaled camera."""
    rotation = np.array(entry["transform_matrix"], dtype=np.float64)[:3, :3]
    return float(np.cbrt(np.linalg.det(rotation)))


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
    convention = camera.get("camera_convention", "opengl")
    if convention not in _AXES:
        raise ValueError(f"{where}: camera_convention must be opengl or opencv, got {convention!r}; convert the poses")
    pose = pose_matrix(entry["transform_matrix"], what="transform_matrix", where=where, allow_scale=True)
    return PosedImage(
        where=where,
        content=file,
        width=width,
        height=height,
        K=_intrinsics(camera, width=width, height=height, where=where),
        camtoworld=pose @ _AXES[convention],
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


def _distortion(camera: Mapping[str, Any], *, where: str) -> AnyDistortion:
    model = camera.get("camera_model", "OPENCV")
    is_fisheye = bool(camera.get("is_fisheye")) or model in FISHEYE_MODELS
    if model not in CAMERA_MODELS and not is_fisheye:
        raise ValueError(
            f"{where}: camera model {model!r} is not supported ({', '.join((*CAMERA_MODELS, *FISHEYE_MODELS))}); "
            "undistort the images first"
        )
    names = ("k1", "k2", "k3", "k4") if is_fisheye else ("k1", "k2", "p1", "p2", "k3")
    values = {key: number(camera.get(key, 0.0), what=f"'{key}'", where=where) for key in names}
    if is_fisheye:
        return FisheyeDistortion(**values)
    if number(camera.get("k4", 0.0), what="'k4'", where=where) != 0.0:
        raise ValueError(f"{where}: 'k4' is a coefficient of fisheye lenses; set camera_model to OPENCV_FISHEYE")
    return Distortion(**values)
