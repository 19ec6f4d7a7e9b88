"""Imports the metadata of LVSM and PRoPE: a JSON file a scene that lists images, intrinsics and poses."""

from pathlib import Path
from typing import Any

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.importers.assemble import PosedImage, assemble_scene, claim_id, frame_time
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.source import (
    find_image,
    invert_rigid,
    matrix,
    numbers,
    path_inside,
    pinhole,
    read_json,
    rigid,
)
from wnv.scenes.schema import SceneKind, safe_id


def import_lvsm(
    source: Path,
    out: Path,
    *,
    root: Path | None = None,
    kind: SceneKind = "static",
    fps: float | int | None = None,
    max_side: int | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> list[Path]:
    """Write a scene file for every metadata file of LVSM, and return their paths.

    A metadata file is `{"scene_name": ..., "frames": [{"image_path", "fxfycxcy", "w2c"}, ...]}` with intrinsics in
    pixels and 4x4 camera<-world matrices in OpenCV axes. Frames keep their order. With several scenes, those before a
    bad one are kept.

    Args:
        source: A metadata file; a text file that lists some, one a line (`full_list.txt`); or a folder with that list,
            with a folder `metadata`, or with the metadata files.
        out: Folder of the scene files.
        root: Folder that the paths in the metadata and in the list start from and may not leave. None takes the folder
            of the list, or of the metadata file (the one above, if it is called `metadata`).
        kind: `static`, or `dynamic` where things move while the camera does.
        fps: Frames a second of the video that the frames were taken from; None for photographs (0, 1, 2, ... s).
        max_side: Longest side of the stored images; larger ones are made smaller.
        overwrite: Replace scene files of these names.
        image_format: `jpeg` or `png`, for images that have to be encoded anew.
        quality: JPEG quality of images that have to be encoded anew.

    Raises:
        FileNotFoundError: If a file or an image is missing.
        FileExistsError: If a scene file exists and `overwrite` is not set.
        ValueError: If a file is malformed, two scenes have one name, or a frame breaks a rule of scenes; the message
            names file and frame.
    """
    scenes: list[Path] = []
    taken: dict[str, str] = {}
    for file, base in _metadata_files(source, root):
        content = read_json(file)
        if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
            raise ValueError(f"{file}: needs an object with a list 'frames'; is this a metadata file of LVSM?")
        scenes.append(
            assemble_scene(
                out,
                [
                    _posed_image(entry, base, where=f"{file}, frame {index}", index=index, fps=fps)
                    for index, entry in enumerate(content["frames"])
                ],
                scene_id=claim_id(safe_id(str(content.get("scene_name", file.stem))), taken, where=str(file)),
                source={"format": "lvsm", "file": file.name},
                kind=kind,
                max_side=max_side,
                overwrite=overwrite,
                image_format=image_format,
                quality=quality,
            )
        )
    return scenes


def _metadata_files(source: Path, root: Path | None) -> list[tuple[Path, Path]]:
    """The metadata files, each with the folder that its paths start from."""
    if source.is_dir():
        if (source / "full_list.txt").is_file():
            return _listed(source / "full_list.txt", root or source)
        for folder in (source / "metadata", source):
            files = sorted(folder.glob("*.json"))
            if files:
                return [(file, root or _base(folder)) for file in files]
        raise FileNotFoundError(f"{source}: neither full_list.txt nor metadata/*.json nor *.json in this folder")
    if not source.is_file():
        raise FileNotFoundError(f"{source}: no such file or folder")
    if source.suffix == ".txt":
        return _listed(source, root or source.parent)
    return [(source, root or _base(source.resolve().parent))]


def _base(folder: Path) -> Path:
    """The folder that the paths in the metadata files of a folder start from."""
    folder = folder.absolute()
    return folder.parent if folder.name == "metadata" else folder


def _listed(path: Path, base: Path) -> list[tuple[Path, Path]]:
    files = []
    for line, text in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        if not text.strip():
            continue
        file = path_inside(base, text.strip(), where=f"{path}:{line}")
        if not file.is_file():
            raise FileNotFoundError(f"{path}:{line}: {file} is missing; pass root=<folder that the list starts from>")
        files.append((file, base))
    if not files:
        raise ValueError(f"{path}: lists no metadata file")
    return files


def _posed_image(entry: Any, base: Path, *, where: str, index: int, fps: float | int | None) -> PosedImage:
    missing = {"image_path", "fxfycxcy", "w2c"} - set(entry if isinstance(entry, dict) else ())
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(sorted(missing))}; is this a metadata file of LVSM?")
    where = f"{where} ({entry['image_path']})"
    file = find_image(base, entry["image_path"], where=where)
    width, height = image_size(file, where=where)
    fx, fy, cx, cy = numbers(entry["fxfycxcy"], count=4, what="fxfycxcy", where=where).tolist()
    viewmat = rigid(matrix(entry["w2c"], what="w2c", where=where), what="w2c", where=where)
    return PosedImage(
        where=where,
        content=file,
        width=width,
        height=height,
        K=pinhole(fx=fx, fy=fy, cx=cx, cy=cy, where=where),
        camtoworld=invert_rigid(viewmat),
        time_s=frame_time(index, fps=fps),
        source_index=index,
    )
