"""Reads RealEstate10K: one text file of cameras per scene, with a folder of its frames."""

from functools import partial
from pathlib import Path
from typing import Any

from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, PosedImage, posed_images, source_files
from wnv.scenes.importers.parsing import (
    IMAGE_SUFFIXES,
    find_image,
    natural_order,
    normalized_image,
    numbers,
    read_text,
)
from wnv.scenes.schema import safe_id


def re10k_captures(source: Path, options: ImportOptions) -> Captures:
    """Yield one capture per text file of RealEstate10K or ACID; `source` is a text file, or a folder of them.

    A folder without text files may have them in `train`, `val` and `test`.

    A text file holds the URL of the video (it may be missing), then one line per frame: `timestamp_us fx fy cx cy 0 0`
    and the 12 numbers of the 3x4 camera<-world matrix, row by row. Intrinsics are divided by width and height; axes are
    OpenCV's. Frames are `<timestamp_us>.png` or `.jpg` in `<scene>/` beside the text file or in `options.frames`,
    which may be the folder of the frames itself for a single text file; or as many images as lines with numbers as
    names, in that order. Times are seconds from the first frame.
    """
    for file in source_files(source, "*.txt"):
        read = partial(_read, file, options, is_single=source.is_file())
        yield Capture(id=safe_id(file.stem), where=str(file), read=read)


def _read(file: Path, options: ImportOptions, *, is_single: bool) -> tuple[list[PosedImage], dict[str, Any]]:
    folder = _frames_folder(file, options.frames, is_single=is_single)
    lines = read_text(file).splitlines()
    # Some copies of the data set lack the URL; a line of a frame has 19 words.
    has_url = bool(lines) and len(lines[0].split()) == 1
    cameras: list[tuple[str, list[str]]] = []
    for line, text in enumerate(lines[has_url:], start=1 + has_url):
        where, words = f"{file}:{line}", text.split()
        if not words:
            continue
        if len(words) != 19:
            raise ValueError(
                f"{where}: a frame has 19 words, 'timestamp_us fx fy cx cy 0 0' and a pose of 12 numbers, got "
                f"{len(words)}; is the file truncated?"
            )
        if not words[0].isdecimal():
            raise ValueError(f"{where}: the timestamp must be whole microseconds, got {words[0]!r}")
        if cameras and int(words[0]) <= int(cameras[-1][1][0]):
            raise ValueError(
                f"{where}: timestamps must increase, got {words[0]} after {cameras[-1][1][0]}; sort the lines and "
                "remove duplicates"
            )
        cameras.append((where, words))
    if not cameras:
        raise ValueError(f"{file}: holds no frame; restore or remove it")
    first = int(cameras[0][1][0])
    names = _numbered(folder, len(cameras)) or [words[0] for _, words in cameras]
    makers = [
        partial(_posed_image, words, folder, where, index, first, name)
        for index, ((where, words), name) in enumerate(zip(cameras, names, strict=True))
    ]
    images = posed_images(makers, where=str(file), options=options)
    url = lines[0].strip() if has_url else None
    return images, {"format": "re10k", "file": file.name, "url": url, "first_timestamp_us": first}


def _numbered(folder: Path, num_frames: int) -> list[str]:
    """Names of the images in order if there is one per line and they are numbered from 0 or 1; else empty."""
    files = sorted(folder.iterdir(), key=lambda file: natural_order(file.name))
    images = [file for file in files if file.suffix in IMAGE_SUFFIXES and file.stem.isdecimal()]
    first = int(images[0].stem) if images else -1
    is_numbered = first in (0, 1) and [int(file.stem) for file in images] == list(range(first, first + num_frames))
    return [file.name for file in images] if is_numbered else []


def _posed_image(words: list[str], folder: Path, where: str, index: int, first_timestamp: int, name: str) -> PosedImage:
    # By the word, not the number: some frames' names start with zeros.
    image = find_image(folder, name, where=where)
    where = f"{where} ({image.name})"
    values = numbers(words[1:], count=18, what="a camera", where=where)
    time_s = (int(words[0]) - first_timestamp) / 1e6
    return normalized_image(values, content=image, where=where, index=index, time_s=time_s)


def _frames_folder(file: Path, frames: Path | None, *, is_single: bool) -> Path:
    candidates = [(frames or file.parent) / file.stem]
    if frames is not None and is_single:
        candidates.append(frames)
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"{file}: no folder of frames {candidates[0]}; set frames= to the folder that holds {file.stem}/"
    )
