"""Imports COLMAP models: the cameras and poses of `cameras` and `images`, with the folder of photographs."""

import logging
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.importers.assemble import PosedImage, assemble_scene, frame_time
from wnv.scenes.importers.colmap_model import ColmapCamera, ColmapImage, ColmapModel, is_model, read_model
from wnv.scenes.importers.source import find_image, invert_rigid, natural_order, pinhole, rigid
from wnv.scenes.schema import SceneKind, safe_id
from wnv.scenes.undistort import Distortion

logger = logging.getLogger(__name__)

# Parameters in COLMAP's order.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
}


def import_colmap(
    source: Path,
    out: Path,
    *,
    images: Path | None = None,
    scene_id: str | None = None,
    kind: SceneKind = "static",
    fps: float | int | None = None,
    max_side: int | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> list[Path]:
    """Write the scene file of a COLMAP model, text or binary, and return its path (a list of one).

    The model is looked for in `source`, `source/sparse/0`, `source/sparse` and `source/0`. Registered images are sorted
    by name (`2.jpg` before `10.jpg`). Models of cameras: PINHOLE and SIMPLE_PINHOLE are taken as they are;
    SIMPLE_RADIAL, RADIAL and OPENCV are undistorted; others are refused.

    Args:
        source: Folder of the model or of the whole project.
        out: Folder of the scene file.
        images: Folder that the names of the images start from; None takes `images` in `source`, or beside `sparse`.
        scene_id: Name of the scene; None takes the name of the project's folder.
        kind: `static`, or `dynamic` where things move while the camera does.
        fps: Frames a second of a video that the images were taken from; None for photographs (0, 1, 2, ... s). Only
            right if every frame of the video was registered; a model that lacks some is one for photographs.
        max_side: Longest side of the stored images; larger ones are made smaller.
        overwrite: Replace a scene file of this name.
        image_format: `jpeg` or `png`, for images that have to be encoded anew.
        quality: JPEG quality of images that have to be encoded anew.

    Raises:
        FileNotFoundError: If the model, the folder of images or an image is missing.
        FileExistsError: If the scene file exists and `overwrite` is not set.
        ValueError: If the model is malformed, or a frame breaks a rule of scenes; the message names file and frame.
    """
    folder = _model_folder(source)
    model = read_model(folder)
    root = images if images is not None else _image_folder(source, folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images; pass images=<folder>")
    posed = [
        _posed_image(image, model, root, index=index, fps=fps)
        for index, image in enumerate(sorted(model.images, key=lambda image: natural_order(image.name)))
    ]
    scene = assemble_scene(
        out,
        posed,
        scene_id=scene_id or safe_id(_project(folder).resolve().name),
        source={"format": "colmap"},
        kind=kind,
        max_side=max_side,
        overwrite=overwrite,
        image_format=image_format,
        quality=quality,
    )
    return [scene]


def rotation_of(quaternion: Float64[np.ndarray, "4"], *, where: str) -> Float64[np.ndarray, "3 3"]:
    """The rotation of a quaternion w x y z, which need not be of length 1.

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
                logger.warning("%s: importing this model; its neighbours %s are left out", candidate, ", ".join(others))
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
        f"{source}: no folder 'images' here or in {_project(folder)}; pass images=<folder of the photographs>"
    )


def _posed_image(
    image: ColmapImage, model: ColmapModel, root: Path, *, index: int, fps: float | int | None
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
        time_s=frame_time(index, fps=fps),
        source_index=index,
    )


def _lens(camera: ColmapCamera, *, where: str) -> tuple[Float64[np.ndarray, "3 3"], Distortion]:
    if camera.model not in _PARAMETERS:
        raise ValueError(
            f"{where}: camera model {camera.model} cannot be imported (only {', '.join(_PARAMETERS)}); run "
            "'colmap image_undistorter' and import its output"
        )
    values = {key: float(value) for key, value in zip(_PARAMETERS[camera.model], camera.params, strict=True)}
    focal = values.pop("f", None)
    K = pinhole(
        fx=values.pop("fx") if focal is None else focal,
        fy=values.pop("fy") if focal is None else focal,
        cx=values.pop("cx"),
        cy=values.pop("cy"),
        where=where,
    )
    return K, Distortion(**values)
