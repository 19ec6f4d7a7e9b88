"""A scene file as a nerfstudio capture."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from wnv.runtime.atomic import atomic_folder
from wnv.scenes.exporters.images import copy_images
from wnv.scenes.scene_file import SceneFile

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def export_nerfstudio(scene_path: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write `transforms.json` and `images/`, and return the path of the former.

    Axes turn from OpenCV to OpenGL; the world stays. Intrinsics are given once if all frames share them, else for every
    frame. `time` is in seconds, as `wnv-data import format=nerfstudio` reads it; images are copied byte for byte.

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
    # Adding zero turns -0.0 into 0.0.
    poses = info.camtoworld @ _OPENCV_FROM_OPENGL + 0.0
    shared = bool((info.K == info.K[0]).all())
    content: dict[str, Any] = {"camera_model": "OPENCV", "w": info.width, "h": info.height}
    if shared:
        content |= _intrinsics(info.K[0])
    with atomic_folder(Path(out), entries=("transforms.json", "images"), overwrite=overwrite) as folder:
        names = copy_images(scene, folder / "images")
        content["frames"] = [
            {
                "file_path": f"images/{name}",
                "time": float(frame.time_s),
                **({} if shared else _intrinsics(frame.K)),
                "transform_matrix": pose.tolist(),
            }
            for name, frame, pose in zip(names, info.frames, poses, strict=True)
        ]
        (folder / "transforms.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Path(out) / "transforms.json"


def _intrinsics(K: np.ndarray) -> dict[str, float]:
    return {"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2])}
