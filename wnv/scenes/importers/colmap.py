"""Reads COLMAP models: the cameras and poses of `cameras` and `images`, with the folder of photographs."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage
from wnv.scenes.importers.colmap_model import ColmapCamera, ColmapImage, ColmapModel, is_model, read_model
from wnv.scenes.importers.parsing import find_image, natural_order, pinhole, rigid
from wnv.scenes.rigid import invert_rigid
from wnv.scenes.schema import safe_id
from wnv.scenes.undistort import Distortion

logger = logging.getLogger(__name__)

# Names of the parameters, in COLMAP's order.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}


def colmap_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield the capture of a COLMAP model, text or binary.

    The model is looked for in `source`, `source/sparse/0`, `source/sparse` and `source/0`. Image names are relative to
    `options.images`, by default the folder `images` in `source` or beside `sparse`. Registered images are sorted by
    name (`2.jpg` before `10.jpg`). Camera models PINHOLE, SIMPLE_PINHOLE, SIMPLE_RADIAL, RADIAL and OPENCV are
    supported.

    `options.fps` is only right if every frame of the video is registered.
    """
    folder = _model_folder(source)
    yield Capture(
        id=options.scene_id or safe_id(_project(folder).resolve().name),
        where=str(folder),
        read=partial(_read, source, folder, options),
    )


def _read(source: Path, folder: Path, options: ImportOptions) -> tuple[list[PosedImage], dict[str, Any]]:
    model = read_model(folder)
    root = options.images or _image_folder(source, folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images; set images= to the folder of the photographs")
    by_name = sorted(model.images, key=lambda image: natural_order(image.name))
    images = [_posed_image(image, model, root, index=index, options=options) for index, image in enumerate(by_name)]
    return images, {"format": "colmap"}


def rotation_of(quaternion: Float64[np.ndarray, "4"], *, where: str) -> Float64[np.ndarray, "3 3"]:
    """Rotation matrix of a quaternion w x y z of any length.

    Raises:
        ValueError: If its length is 0.
    """
    length = float(np.linalg.norm(quaternion))
    if length < 1e-12:
        raise ValueError(f"{where}: the quaternion of a pose must not be zero; remove the image from the model")
    w, x, y, z = quaternion / length
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def _model_folder(source: Path) -> Path:
    candidates = [source, source / "sparse" / "0", source / "sparse", source / "0"]
    for candidate in candidates:
        if is_model(candidate):
            others = sorted(p.name for p in candidate.parent.iterdir() if p != candidate and is_model(p))
            if candidate.name == "0" and others:
                logger.warning("%s is imported; models beside it are ignored: %s", candidate, ", ".join(others))
            return candidate
    tried = ", ".join(str(candidate) for candidate in candidates)
    raise FileNotFoundError(
        f"{source}: no COLMAP model (cameras.bin and images.bin, or cameras.txt and images.txt) in any of {tried}"
    )


def _project(folder: Path) -> Path:
    """The folder that holds `sparse/0` or `sparse`, else the folder of the model itself."""
    folder = folder.resolve()
    if folder.name.isdigit():
        folder = folder.parent
    return folder.parent if folder.name == "sparse" else folder


def _image_folder(source: Path, folder: Path) -> Path:
    for candidate in (source / "images", _project(folder) / "images"):
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"{source}: no folder 'images' here or in {_project(folder)}; set images= to the folder of the photographs"
    )


def _posed_image(
    image: ColmapImage, model: ColmapModel, root: Path, *, index: int, options: ImportOptions
) -> PosedImage:
    where = f"{model.folder}, image {image.name!r}"
    if image.camera_id not in model.cameras:
        raise ValueError(f"{where}: its camera {image.camera_id} is not in the model; export the model again")
    camera = model.cameras[image.camera_id]
    K, distortion = _lens(camera, where=f"{where}, camera {image.camera_id}")
    viewmat = np.eye(4)
    viewmat[:3, :3] = rotation_of(image.quaternion, where=where)
    viewmat[:3, 3] = image.translation
    return PosedImage(
        where=where,
        content=find_image(root, image.name, where=where),
        width=camera.width,
        height=camera.height,
        K=K,
        camtoworld=invert_rigid(rigid(viewmat, what="the pose", where=where)),
        distortion=distortion,
        time_s=options.frame_time(index),
        source_index=index,
    )


def _lens(camera: ColmapCamera, *, where: str) -> tuple[Float64[np.ndarray, "3 3"], Distortion]:
    if camera.model not in _PARAMETERS:
        raise ValueError(
            f"{where}: camera model {camera.model} is not supported ({', '.join(_PARAMETERS)} are); run "
            "'colmap image_undistorter' and import its output"
        )
    values = {key: float(value) for key, value in zip(_PARAMETERS[camera.model], camera.params, strict=True)}
    focal = values.pop("f", None)
    K = pinhole(
        fx=values.pop("fx") if focal is None else focal,
        fy=values.pop("fy") if focal is None else focal,
        cx=values.pop("cx"),
        cy=values.pop("cy"),
    )
    return K, Distortion(**values)
