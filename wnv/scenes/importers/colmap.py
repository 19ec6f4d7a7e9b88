"""Reads COLMAP models: the cameras and poses of `cameras` and `images`, with the folder of photographs."""

import logging
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage, capture_folders, posed_images
from wnv.scenes.importers.colmap_model import ColmapCamera, ColmapImage, ColmapModel, is_model, read_model, read_points
from wnv.scenes.importers.parsing import SCALED_FOLDERS, find_image, natural_order, pinhole, rigid
from wnv.scenes.rigid import invert_rigid
from wnv.scenes.schema import safe_id
from wnv.scenes.undistort import AnyDistortion, Distortion, FisheyeDistortion, RationalDistortion

logger = logging.getLogger(__name__)

MODEL_FOLDERS = ("", "sparse/0", "sparse", "0", "colmap/sparse/0", "dense/0/sparse", "dense/sparse")
"""Folders of a capture that may hold its model: COLMAP's, nerfstudio's, and those of 3D Gaussian Splatting."""

# Names of the parameters, in COLMAP's order.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "SIMPLE_PINHOLE": ("f", "cx", "cy"),
    "PINHOLE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL": ("f", "cx", "cy", "k1"),
    "RADIAL": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2"),
    "SIMPLE_FISHEYE": ("f", "cx", "cy"),
    "FISHEYE": ("fx", "fy", "cx", "cy"),
    "SIMPLE_RADIAL_FISHEYE": ("f", "cx", "cy", "k1"),
    "RADIAL_FISHEYE": ("f", "cx", "cy", "k1", "k2"),
    "OPENCV_FISHEYE": ("fx", "fy", "cx", "cy", "k1", "k2", "k3", "k4"),
    "FULL_OPENCV": ("fx", "fy", "cx", "cy", "k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6"),
}


def colmap_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield the capture of a COLMAP model, text or binary, or those of the folders below `source`.

    The model is looked for in a capture's folder and in its `MODEL_FOLDERS`. Image names are relative to
    `options.images`, by default a folder `images` in `source` or beside `sparse`, or one of scaled copies (`images_2`,
    `images_4`, `images_8`). Cameras are scaled to the size of the images. Registered images are sorted by name (`2.jpg`
    before `10.jpg`). Points are kept, without their tracks. Camera models are those of `_PARAMETERS`; images of
    fisheye lenses become pinholes of at most `options.undistort_fov` degrees.

    `options.fps` is only right if every frame of the video is registered.
    """
    what = f"COLMAP model (cameras.bin and images.bin, or .txt), in the folder or its {', '.join(MODEL_FOLDERS[1:])},"
    for folder, model, name in capture_folders(source, _model_folder, what=what):
        if folder == source:
            name = _project(model).resolve().name
        yield Capture(
            id=options.scene_id or safe_id(name),
            where=str(model),
            read=partial(_read, folder, model, options),
            read_points=partial(read_points, model),
        )


def _read(source: Path, folder: Path, options: ImportOptions) -> tuple[list[PosedImage], dict[str, Any]]:
    model = read_model(folder)
    root = options.images or _image_folder(source, folder)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder of images; set images= to the folder of the photographs")
    by_name = sorted(model.images, key=lambda image: natural_order(image.name))
    makers = [
        partial(_posed_image, image, model, root, index=index, options=options) for index, image in enumerate(by_name)
    ]
    images = posed_images(makers, where=str(folder), options=options)
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


def _model_folder(source: Path) -> Path | None:
    """The model of a capture; of several beside each other (sparse/0, sparse/1, ...), the one with the most images."""
    for candidate in (source / folder for folder in MODEL_FOLDERS):
        if not is_model(candidate):
            continue
        others = [path for path in candidate.parent.iterdir() if path != candidate and is_model(path)]
        if candidate.name != "0" or not others:
            return candidate
        num_images = {path: len(read_model(path).images) for path in (candidate, *sorted(others))}
        largest = max(num_images, key=lambda path: num_images[path])
        counts = ", ".join(f"{path.name} ({number} images)" for path, number in num_images.items() if path != largest)
        logger.warning("%s is imported, the model with the most images (%d); left out: %s",
            largest, num_images[largest], counts)  # fmt: skip
        return largest
    return None


def _project(folder: Path) -> Path:
    """The capture's folder: the one above `sparse/0`, `sparse`, `colmap/sparse/0` or `dense/0/sparse`."""
    folder = folder.resolve()
    while folder.name.isdigit() or folder.name in ("sparse", "colmap", "dense"):
        folder = folder.parent
    return folder


def _image_folder(source: Path, folder: Path) -> Path:
    """The folder of images: the nearest one to the model, or in `source`."""
    project, folder = _project(folder), folder.resolve()
    parents = [folder, *(parent for parent in folder.parents if project in (parent, *parent.parents))]
    for parent in (source, *parents):
        for name in ("images", *(f"images{scale}" for scale in SCALED_FOLDERS)):
            if (parent / name).is_dir():
                return parent / name
    raise FileNotFoundError(
        f"{source}: no folder 'images' here or in {project}; set images= to the folder of the photographs"
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


def _lens(camera: ColmapCamera, *, where: str) -> tuple[Float64[np.ndarray, "3 3"], AnyDistortion]:
    if camera.model not in _PARAMETERS:
        raise ValueError(
            f"{where}: camera model {camera.model} is not supported ({', '.join(_PARAMETERS)} are); "
            "run 'colmap image_undistorter' and import its output"
        )
    values = dict(zip(_PARAMETERS[camera.model], camera.params.tolist(), strict=True))
    focal = values.pop("f", None)
    K = pinhole(
        fx=values.pop("fx") if focal is None else focal,
        fy=values.pop("fy") if focal is None else focal,
        cx=values.pop("cx"),
        cy=values.pop("cy"),
    )
    if camera.model.endswith("FISHEYE"):
        return K, FisheyeDistortion(**values)
    return K, RationalDistortion(**values) if camera.model == "FULL_OPENCV" else Distortion(**values)
