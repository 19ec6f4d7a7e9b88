"""Imports RealEstate10K: one text file of cameras a scene, with a folder of its frames."""

from dataclasses import dataclass
from pathlib import Path

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.importers.assemble import PosedImage, assemble_scene
from wnv.scenes.importers.image_content import image_size
from wnv.scenes.importers.source import find_image, normalized_camera, numbers
from wnv.scenes.schema import safe_id


@dataclass(frozen=True, eq=False)
class _Clip:
    url: str | None
    first_timestamp_us: int
    images: list[PosedImage]


def import_re10k(
    source: Path,
    out: Path,
    *,
    frames: Path | None = None,
    max_side: int | None = None,
    overwrite: bool = False,
    image_format: ImageFormat = "jpeg",
    quality: int = 95,
) -> list[Path]:
    """Write a scene file for every text file of RealEstate10K, and return their paths.

    A text file is the URL of the video, then a line a frame: `timestamp_us fx fy cx cy 0 0` and the 12 numbers of the
    3x4 camera<-world matrix, row by row; the intrinsics are divided by width and height, the axes are OpenCV's. The
    frames are `<timestamp_us>.png` or `.jpg`. Times are seconds from the first frame on; the timestamp of the first is
    noted under `source`. Scenes are named by their text file. With several scenes, those before a bad one are kept.

    Args:
        source: A text file, or a folder of them.
        out: Folder of the scene files.
        frames: Folder with a folder of frames for each scene, or (one text file) the frames themselves; None looks for
            `<scene>/` beside the text file.
        max_side: Longest side of the stored images; larger ones are made smaller.
        overwrite: Replace scene files of these names.
        image_format: `jpeg` or `png`, for images that have to be encoded anew.
        quality: JPEG quality of images that have to be encoded anew.

    Raises:
        FileNotFoundError: If a text file, a folder of frames or a frame is missing.
        FileExistsError: If a scene file exists and `overwrite` is not set.
        ValueError: If a text file is malformed (with its line), or a frame breaks a rule of scenes.
    """
    if source.is_dir():
        files = sorted(source.glob("*.txt"))
        if not files:
            raise FileNotFoundError(f"{source}: no .txt file of RealEstate10K in this folder")
    elif source.is_file():
        files = [source]
    else:
        raise FileNotFoundError(f"{source}: no such file or folder")
    scenes = []
    for file in files:
        clip = _read_clip(file, _frames_folder(file, frames, is_only=source.is_file()))
        scenes.append(
            assemble_scene(
                out,
                clip.images,
                scene_id=safe_id(file.stem),
                source={
                    "format": "re10k",
                    "file": file.name,
                    "url": clip.url,
                    "first_timestamp_us": clip.first_timestamp_us,
                },
                max_side=max_side,
                overwrite=overwrite,
                image_format=image_format,
                quality=quality,
            )
        )
    return scenes


def _frames_folder(file: Path, frames: Path | None, *, is_only: bool) -> Path:
    if frames is None:
        candidates = [file.parent / file.stem]
    elif is_only:
        candidates = [frames / file.stem, frames]
    else:
        candidates = [frames / file.stem]
    for candidate in candidates:
        if candidate.is_dir():
            return candidate
    raise FileNotFoundError(
        f"{file}: no folder of frames {candidates[0]}; pass frames=<folder that holds {file.stem}/>, or move the text "
        "file away if the video is gone"
    )


def _read_clip(file: Path, folder: Path) -> _Clip:
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ValueError(f"{file}: not UTF-8 text ({error.reason} at byte {error.start})") from None
    # Some copies of the data set lack the line with the URL; a line of a frame has 19 words.
    has_url = bool(lines) and len(lines[0].split()) == 1
    timestamps: list[int] = []
    images: list[PosedImage] = []
    for line, text in enumerate(lines[has_url:], start=1 + has_url):
        if not text.strip():
            continue
        where = f"{file}:{line}"
        words = text.split()
        if len(words) != 19:
            raise ValueError(
                f"{where}: a frame is 'timestamp_us fx fy cx cy 0 0' and 12 numbers of its pose, 19 in all, got "
                f"{len(words)}; was the file cut short?"
            )
        if not words[0].isdecimal():
            raise ValueError(f"{where}: the timestamp must be whole microseconds, got {words[0]!r}")
        timestamp = int(words[0])
        if timestamps and timestamp <= timestamps[-1]:
            raise ValueError(
                f"{where}: timestamps must increase, got {timestamp} after {timestamps[-1]}; sort the lines and drop "
                "repeated ones"
            )
        timestamps.append(timestamp)
        # By the word, not the number: the names of some frames start with zeros.
        image = find_image(folder, words[0], where=where)
        where = f"{where} ({image.name})"
        width, height = image_size(image, where=where)
        values = numbers(words[1:], count=18, what="a camera", where=where)
        K, camtoworld = normalized_camera(values, width=width, height=height, where=where)
        images.append(
            PosedImage(
                where=where,
                content=image,
                width=width,
                height=height,
                K=K,
                camtoworld=camtoworld,
                time_s=(timestamp - timestamps[0]) / 1e6,
                source_index=len(images),
            )
        )
    if not images:
        raise ValueError(f"{file}: no line of a frame; remove the file or restore it")
    return _Clip(url=lines[0].strip() if has_url else None, first_timestamp_us=timestamps[0], images=images)
