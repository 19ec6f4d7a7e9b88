"""Writes scene files in the formats of other tools."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import torch

from wnv.geometry.quaternions import quaternion_from_matrix
from wnv.runtime.atomic import atomic_folder
from wnv.scenes.image_codec import check_image
from wnv.scenes.points import Points, points_to_ply
from wnv.scenes.rigid import invert_rigid
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.schema import POINTS_FILE, SceneInfo, frame_label

_OPENCV_FROM_OPENGL = np.diag([1.0, -1.0, -1.0, 1.0])


def export_scene(scene_path: str | Path, out: str | Path, *, format: str, overwrite: bool = False) -> Path:
    """Write a scene in another format and return the file or folder to open first.

    Images are copied byte for byte as `000000.jpg`, ...; poses and intrinsics keep all digits.

    - `nerfstudio`: `transforms.json` and `images/`; OpenGL axes, `time` in seconds; points as `points.ply`.
    - `colmap`: a text model `sparse/0` and `images/`; one PINHOLE camera per distinct `K`, points without
      tracks, no times.
    - `lvsm`: `full_list.txt`, `metadata/<id>.json` and `images/<id>/`, for LVSM and PRoPE; paths are relative to `out`,
      so start LVSM there. No times.

    Args:
        scene_path: The scene file, local or any URL that fsspec understands.
        out: Folder to create.
        format: A key of `EXPORTERS`.
        overwrite: Replace an earlier export in that folder.

    Raises:
        FileExistsError: If the folder is not empty and `overwrite` is not set, or it holds other files.
        SceneError: If the scene file is invalid.
    """
    exporter = EXPORTERS[format]
    scene = SceneFile(scene_path)
    with atomic_folder(Path(out), entries=exporter.entries, overwrite=overwrite) as folder:
        images = exporter.images.format(id=scene.id)
        names = _copy_images(scene, folder / images)
        first = exporter.write(scene.info, [f"{images}/{name}" for name in names], scene.points(), folder)
    return Path(out) / first


def _copy_images(scene: SceneFile, folder: Path) -> list[str]:
    folder.mkdir(parents=True)
    names = []
    for index, frame in enumerate(scene.info.frames):
        data = scene.image_bytes(index)
        where = frame_label(scene.id, index, frame.file)
        check_image(data, width=scene.info.width, height=scene.info.height, where=where)
        # Renamed: names in the scene file may hold blanks, which COLMAP's text format cannot.
        names.append(f"{index:06d}{PurePosixPath(frame.file).suffix.lower()}")
        (folder / names[-1]).write_bytes(data)
    return names


def _write_nerfstudio(info: SceneInfo, images: Sequence[str], points: Points | None, folder: Path) -> str:
    # Adding zero turns -0.0 into 0.0.
    poses = info.camtoworld @ _OPENCV_FROM_OPENGL + 0.0
    intrinsics = [
        {"fl_x": float(K[0, 0]), "fl_y": float(K[1, 1]), "cx": float(K[0, 2]), "cy": float(K[1, 2])} for K in info.K
    ]
    is_shared = bool((info.K == info.K[0]).all())
    content: dict[str, Any] = {"camera_model": "OPENCV", "w": info.width, "h": info.height}
    content |= intrinsics[0] if is_shared else {}
    if points is not None:
        (folder / POINTS_FILE).write_bytes(points_to_ply(points))
        content["ply_file_path"] = POINTS_FILE
    content["frames"] = [
        {
            "file_path": image,
            "time": float(frame.time_s),
            **({} if is_shared else own),
            "transform_matrix": pose.tolist(),
        }
        for image, frame, own, pose in zip(images, info.frames, intrinsics, poses, strict=True)
    ]
    return _write_json(folder, "transforms.json", content)


def _write_colmap(info: SceneInfo, images: Sequence[str], points: Points | None, folder: Path) -> str:
    pinholes, camera_of_frame = np.unique(info.K[:, [0, 1, 0, 1], [0, 1, 2, 2]], axis=0, return_inverse=True)
    camera_of_frame = camera_of_frame.reshape(-1)  # NumPy 2.0 alone returns a second axis
    cameras = ["# CAMERA_ID MODEL WIDTH HEIGHT fx fy cx cy"]
    cameras += [
        f"{index + 1} PINHOLE {info.width} {info.height} {_numbers(pinhole)}" for index, pinhole in enumerate(pinholes)
    ]
    lines = ["# IMAGE_ID QW QX QY QZ TX TY TZ CAMERA_ID NAME, then a line of its 2D points: none"]
    viewmats = invert_rigid(info.camtoworld)
    quaternions = quaternion_from_matrix(torch.from_numpy(viewmats[:, :3, :3])).numpy()
    for index, (image, rotation, translation) in enumerate(zip(images, quaternions, viewmats[:, :3, 3], strict=True)):
        pose = _numbers([*rotation, *translation])
        lines += [f"{index + 1} {pose} {camera_of_frame[index] + 1} {image.removeprefix('images/')}", ""]
    positions = ["# POINT3D_ID X Y Z R G B ERROR TRACK[]: none"]
    for index in range(len(points) if points else 0):
        assert points is not None
        color = " ".join(map(str, points.rgb[index].tolist()))
        positions.append(f"{index + 1} {_numbers(points.xyz[index])} {color} 0")
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    for file, text in (("cameras.txt", cameras), ("images.txt", lines), ("points3D.txt", positions)):
        (model / file).write_text("\n".join(text) + "\n", encoding="utf-8")
    return "sparse/0"


def _write_lvsm(info: SceneInfo, images: Sequence[str], points: Points | None, folder: Path) -> str:
    fxfycxcy = info.K[:, [0, 1, 0, 1], [0, 1, 2, 2]]
    content = {
        "scene_name": info.id,
        "frames": [
            {"image_path": image, "fxfycxcy": K.tolist(), "w2c": viewmat.tolist()}
            for image, K, viewmat in zip(images, fxfycxcy, invert_rigid(info.camtoworld), strict=True)
        ],
    }
    metadata = _write_json(folder, f"metadata/{info.id}.json", content)
    (folder / "full_list.txt").write_text(f"{metadata}\n", encoding="utf-8")
    return metadata


def _write_json(folder: Path, name: str, content: dict[str, Any]) -> str:
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return name


@dataclass(frozen=True)
class Exporter:
    """How one format is written.

    Attributes:
        write: Writes everything but the images, and returns the file or folder to open first.
        entries: Names that an export creates in its folder.
        images: Folder of the images, with `{id}` for the scene's id.
    """

    write: Callable[[SceneInfo, Sequence[str], Points | None, Path], str]
    entries: tuple[str, ...]
    images: str = "images"


EXPORTERS = {
    "nerfstudio": Exporter(_write_nerfstudio, ("transforms.json", "images", POINTS_FILE)),
    "colmap": Exporter(_write_colmap, ("sparse", "images")),
    "lvsm": Exporter(_write_lvsm, ("full_list.txt", "metadata", "images"), images="images/{id}"),
}


def _numbers(values: Iterable[float]) -> str:
    """Numbers with all digits."""
    return " ".join(repr(float(value)) for value in values)
