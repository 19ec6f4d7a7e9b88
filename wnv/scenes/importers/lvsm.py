"""Reads the metadata of LVSM and PRoPE: one JSON file per scene with image paths, intrinsics and poses."""

from functools import partial
from pathlib import Path
from typing import Any

from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage, Rejection, posed_images
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.parsing import find_image, numbers, path_inside, pinhole, pose_matrix, read_json, read_text
from wnv.scenes.rigid import invert_rigid
from wnv.scenes.schema import safe_id


def lvsm_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield one capture per metadata file of LVSM.

    A metadata file is `{"scene_name": ..., "frames": [{"image_path", "fxfycxcy", "w2c"}, ...]}` with intrinsics in
    pixels and 4x4 camera<-world matrices in OpenCV axes. Frames keep their order.

    `source` is a metadata file; a list of them (`full_list.txt`, one path per line); or a folder with such a list, with
    a folder `metadata`, or with metadata files. Paths are relative to `options.root`, by default the folder of the list
    or metadata file (for a folder `metadata`, the one above), and may not leave it.
    """
    for file, base in _metadata_files(source, options.root):
        try:
            content = read_json(file)
            if not isinstance(content, dict) or not isinstance(content.get("frames"), list):
                raise ValueError(f"{file}: needs an object with a list 'frames'; is this a metadata file of LVSM?")
        except (ValueError, FileNotFoundError) as error:
            yield Rejection(str(file), error)
            continue
        yield Capture(
            id=safe_id(str(content.get("scene_name", file.stem))),
            where=str(file),
            read=partial(_read, file, base, content["frames"], options),
        )


def _read(
    file: Path, base: Path, entries: list[Any], options: ImportOptions
) -> tuple[list[PosedImage], dict[str, Any]]:
    makers = [
        partial(_posed_image, entry, base, where=f"{file}, frame {index}", index=index, options=options)
        for index, entry in enumerate(entries)
    ]
    images = posed_images(makers, where=str(file), options=options)
    return images, {"format": "lvsm", "file": file.name}


def _metadata_files(source: Path, root: Path | None) -> list[tuple[Path, Path]]:
    """Metadata files, each with the folder that its paths are relative to."""
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
    folder = folder.absolute()
    return folder.parent if folder.name == "metadata" else folder


def _listed(path: Path, base: Path) -> list[tuple[Path, Path]]:
    lines = [(line, text.strip()) for line, text in enumerate(read_text(path).splitlines(), start=1) if text.strip()]
    if not lines:
        raise ValueError(f"{path}: lists no metadata file")
    files = [(path_inside(base, text, where=f"{path}:{line}"), base) for line, text in lines]
    if not any(file.is_file() for file, _ in files):
        raise FileNotFoundError(f"{path}: {files[0][0]} is missing; set root= to the folder that paths start from")
    return files


def _posed_image(entry: Any, base: Path, *, where: str, index: int, options: ImportOptions) -> PosedImage:
    missing = {"image_path", "fxfycxcy", "w2c"} - set(entry if isinstance(entry, dict) else ())
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(sorted(missing))}; is this a metadata file of LVSM?")
    where = f"{where} ({entry['image_path']})"
    file = find_image(base, entry["image_path"], where=where)
    width, height = image_size(file, where=where)
    fx, fy, cx, cy = numbers(entry["fxfycxcy"], count=4, what="fxfycxcy", where=where).tolist()
    return PosedImage(
        where=where,
        content=file,
        width=width,
        height=height,
        K=pinhole(fx=fx, fy=fy, cx=cx, cy=cy),
        camtoworld=invert_rigid(pose_matrix(entry["w2c"], what="w2c", where=where)),
        time_s=options.frame_time(index),
        source_index=index,
    )
