"""A scene file in the form that LVSM and PRoPE's fork of it train from."""

import json
from pathlib import Path

from wnv.runtime.atomic import atomic_folder
from wnv.scenes.exporters.images import copy_images
from wnv.scenes.exporters.viewmats import viewmats
from wnv.scenes.scene_file import SceneFile


def export_lvsm(scene_path: str | Path, out: str | Path, *, overwrite: bool = False) -> Path:
    """Write `full_list.txt`, `metadata/<id>.json` and `images/<id>/`, and return the path of the json.

    Intrinsics are in pixels and poses camera<-world, OpenCV axes; the form has no times. Paths are relative to the
    folder, so start LVSM in it. Images are copied byte for byte.

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
    metadata = Path("metadata") / f"{info.id}.json"
    fxfycxcy = info.K[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    with atomic_folder(Path(out), entries=("full_list.txt", "metadata", "images"), overwrite=overwrite) as folder:
        names = copy_images(scene, folder / "images" / info.id)
        content = {
            "scene_name": info.id,
            "frames": [
                {"image_path": f"images/{info.id}/{name}", "fxfycxcy": K.tolist(), "w2c": viewmat.tolist()}
                for name, K, viewmat in zip(names, fxfycxcy, viewmats(info.camtoworld), strict=True)
            ],
        }
        (folder / metadata).parent.mkdir()
        (folder / metadata).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        (folder / "full_list.txt").write_text(f"{metadata.as_posix()}\n", encoding="utf-8")
    return Path(out) / metadata
