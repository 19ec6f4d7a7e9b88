"""A scene file as a COLMAP text model."""

from pathlib import Path

import numpy as np
from jaxtyping import Float64

from wnv.runtime.atomic import atomic_folder
from wnv.scenes.exporters.images import copy_images
from wnv.scenes.exporters.viewmats import viewmats
from wnv.scenes.scene_file import SceneFile


def export_colmap(scene_path: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write `sparse/0/{cameras,images,points3D}.txt` and `images/`, and return the folder of the model.

    Cameras are PINHOLE, one for every distinct `K`. There are no points: COLMAP triangulates them from known poses
    (`point_triangulator`). The form has no times. Images are copied byte for byte.

    Args:
        scene_path: The scene file, local or any URL that fsspec understands.
        out: Folder to make.
        overwrite: Replace an earlier export in that folder.

    Raises:
        FileExistsError: If the folder is not empty and `overwrite` is not set, or it holds other things.
        SceneError: If the scene file is not valid.
    """
    scene = SceneFile(scene_path)
    info = scene.info
    pinholes, camera_of_frame = np.unique(info.K[:, [0, 1, 0, 1], [0, 1, 2, 2]], axis=0, return_inverse=True)
    camera_of_frame = camera_of_frame.reshape(-1)  # NumPy 2.0 alone gives it a second axis
    cameras = ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"]
    cameras += [
        f"{index + 1} PINHOLE {info.width} {info.height} {_numbers(pinhole)}" for index, pinhole in enumerate(pinholes)
    ]
    with atomic_folder(Path(out), entries=("sparse", "images"), overwrite=overwrite) as folder:
        names = copy_images(scene, folder / "images")
        images = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of its 2D points: none"]
        for index, (name, viewmat) in enumerate(zip(names, viewmats(info.camtoworld), strict=True)):
            pose = _numbers(np.concatenate([_quaternion(viewmat[:3, :3]), viewmat[:3, 3]]))
            images += [f"{index + 1} {pose} {camera_of_frame[index] + 1} {name}", ""]
        model = folder / "sparse" / "0"
        model.mkdir(parents=True)
        for file, lines in (
            ("cameras.txt", cameras),
            ("images.txt", images),
            ("points3D.txt", ["# POINT3D_ID X Y Z R G B ERROR TRACK[]: none"]),
        ):
            (model / file).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return Path(out) / "sparse" / "0"


def _numbers(values: Float64[np.ndarray, " value"]) -> str:
    """Numbers with all their digits."""
    return " ".join(repr(float(value)) for value in values)


def _quaternion(rotation: Float64[np.ndarray, "3 3"]) -> Float64[np.ndarray, "4"]:
    """The unit quaternion (w, x, y, z), w >= 0, of the rotation nearest to a matrix.

    It is the eigenvector of largest eigenvalue of a symmetric matrix (Bar-Itzhack 2000), which unlike the branches on
    the trace loses no digits near half turns.
    """
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = rotation
    symmetric = np.array(
        [
            [xx + yy + zz, zy - yz, xz - zx, yx - xy],
            [zy - yz, xx - yy - zz, xy + yx, xz + zx],
            [xz - zx, xy + yx, yy - xx - zz, yz + zy],
            [yx - xy, xz + zx, yz + zy, zz - xx - yy],
        ]
    )
    quaternion = np.linalg.eigh(symmetric).eigenvectors[:, -1]
    return quaternion if quaternion[0] >= 0 else -quaternion
