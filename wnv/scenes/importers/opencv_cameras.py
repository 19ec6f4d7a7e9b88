"""Reads `opencv_cameras.json`: one file of OpenCV cameras per scene, as LaCT and Long-LRM publish their data."""

from functools import partial
from pathlib import Path
from typing import Any

from wnv.scenes.importers.capture import (
    Capture,
    Captures,
    ImportOptions,
    PosedImage,
    capture_folders,
    first_file,
    posed_images,
)
from wnv.scenes.importers.parsing import find_image, natural_order, number, pinhole, pose_matrix, read_json
from wnv.scenes.rigid import invert_rigid
from wnv.scenes.schema import safe_id

CAMERAS_FILE = "opencv_cameras.json"

_NUMBERS = ("w", "h", "fx", "fy", "cx", "cy")


def opencv_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield the capture of an `opencv_cameras.json`, of its folder, or of every folder below that has one.

    A file is `{"frames": [{"file_path", "w", "h", "fx", "fy", "cx", "cy", "w2c"}, ...]}`, or the list of frames alone:
    intrinsics in pixels of a `w` x `h` image, and 4x4 camera<-world matrices in OpenCV axes. Paths are relative to the
    file. Frames are sorted by path (`2.png` before `10.png`). Transparent images get a white background.
    """
    if source.is_file():
        files = [(source.parent, source, source.resolve().parent.name)]
    else:
        files = capture_folders(source, lambda folder: first_file(folder, (CAMERAS_FILE,)), what=CAMERAS_FILE)
    for _, file, name in files:
        yield Capture(id=safe_id(name), where=str(file), read=partial(_read, file, options))


def _read(file: Path, options: ImportOptions) -> tuple[list[PosedImage], dict[str, Any]]:
    content = read_json(file)
    frames = content.get("frames") if isinstance(content, dict) else content
    if not isinstance(frames, list):
        raise ValueError(f"{file}: needs a list 'frames'")
    entries = [_check_entry(entry, where=f"{file}, frame {index}") for index, entry in enumerate(frames)]
    entries.sort(key=lambda entry: natural_order(entry["file_path"]))
    makers = [partial(_posed_image, entry, file, index=index, options=options) for index, entry in enumerate(entries)]
    images = posed_images(makers, where=str(file), options=options)
    return images, {"format": "opencv_cameras", "file": file.name}


def _check_entry(entry: Any, *, where: str) -> dict[str, Any]:
    needed = {"file_path", "w2c", *_NUMBERS}
    missing = needed - set(entry if isinstance(entry, dict) else ())
    if missing:
        raise ValueError(f"{where}: lacks {', '.join(sorted(missing))}; is this an opencv_cameras.json?")
    if not isinstance(entry["file_path"], str):
        raise ValueError(f"{where}: 'file_path' must be a text, got {entry['file_path']!r:.80}")
    return entry


def _posed_image(entry: dict[str, Any], file: Path, *, index: int, options: ImportOptions) -> PosedImage:
    where = f"{file}, frame {entry['file_path']!r}"
    width, height, fx, fy, cx, cy = (number(entry[name], what=f"'{name}'", where=where) for name in _NUMBERS)
    if not (width.is_integer() and height.is_integer() and width > 0 and height > 0):
        raise ValueError(f"{where}: 'w' and 'h' must be whole numbers of pixels above 0, got {width:g} x {height:g}")
    return PosedImage(
        where=where,
        content=find_image(file.parent, entry["file_path"], where=where),
        width=int(width),
        height=int(height),
        K=pinhole(fx=fx, fy=fy, cx=cx, cy=cy),
        camtoworld=invert_rigid(pose_matrix(entry["w2c"], what="w2c", where=where)),
        time_s=options.frame_time(index),
        source_index=index,
    )
