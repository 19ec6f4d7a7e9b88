"""Results of an importer: captures, whose cameras and images are read on request, and rejected captures."""

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
from jaxtyping import Float64

from wnv.scenes.image_codec import ImageFormat
from wnv.scenes.points import Points
from wnv.scenes.schema import SceneKind
from wnv.scenes.undistort import MAX_FISHEYE_FOV_DEG, AnyDistortion, Distortion

logger = logging.getLogger(__name__)

_MAX_DEPTH = 3
_SPLITS = ("train", "val", "test")


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Settings of an import.

    Attributes:
        scene_id: Name of the scene (nerfstudio, colmap); None derives it from the source.
        kind: `static`, or `dynamic` if anything but the camera moves (nerfstudio, colmap, lvsm); None is `static`.
        fps: Frames per second of the source video (nerfstudio, colmap, lvsm); None for photographs, timed 0, 1, 2, ...
        images: Folder that image names are relative to (colmap); None looks for `images`.
        frames: Folder of the frames (re10k); None looks for `<scene>/` beside each text file.
        root: Folder that paths are relative to (lvsm); None derives it from the source.
        undistort_fov: Largest field of view of pinholes that fisheye images become, degrees along the wider side
            (nerfstudio, colmap).
        max_side: Maximum side of the stored images in pixels; larger images are scaled down. None keeps the size.
        missing: Treatment of frames without an image file: `skip` them with a warning, or reject the scene as an
            `error` (nerfstudio, colmap, lvsm, re10k).
        exists: Treatment of a scene whose file exists: `skip` it, `replace` the file, or reject it as an `error`.
        image_format: Format of images that must be re-encoded: `jpeg` or `png`.
        quality: JPEG quality of re-encoded images, 1 to 100.
        num_workers: Scenes imported in parallel; None uses one per CPU, at most 8.

    Raises:
        ValueError: If a number is out of range.
    """

    scene_id: str | None = None
    kind: SceneKind | None = None
    fps: float | int | None = None
    images: Path | None = None
    frames: Path | None = None
    root: Path | None = None
    undistort_fov: float | int = MAX_FISHEYE_FOV_DEG
    max_side: int | None = None
    missing: Literal["error", "skip"] = "error"
    exists: Literal["skip", "replace", "error"] = "skip"
    image_format: ImageFormat = "jpeg"
    quality: int = 95
    num_workers: int | None = None

    def __post_init__(self) -> None:
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"fps must be positive, got {self.fps}; leave it out for photographs without a clock")
        if not 10 <= self.undistort_fov <= 160:
            raise ValueError(f"undistort_fov must be between 10 and 160 degrees, got {self.undistort_fov}")
        for name in ("max_side", "num_workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if not 1 <= self.quality <= 100:
            raise ValueError(f"quality must be in 1..100, got {self.quality}")

    def frame_time(self, index: int) -> float:
        """Time of frame `index` in seconds for a source without a clock."""
        return float(index) if self.fps is None else index / self.fps


@dataclass(frozen=True, eq=False, kw_only=True)
class PosedImage:
    """One image of a capture, as its source describes it.

    Attributes:
        where: File and frame, for error messages.
        content: The image file, or its bytes.
        width: Width in pixels that `K` is for.
        height: Height in pixels that `K` is for.
        K: Intrinsics in pixels; the centre of the first pixel is (0.5, 0.5).
        camtoworld: world<-camera, rigid, OpenCV axes.
        distortion: Lens distortion.
        time_s: Time in seconds.
        source_index: Index in the source video or list.
        is_turned: Whether the EXIF orientation must be applied.
    """

    where: str
    content: Path | bytes
    width: int
    height: int
    K: Float64[np.ndarray, "3 3"]
    camtoworld: Float64[np.ndarray, "4 4"]
    distortion: AnyDistortion = field(default_factory=Distortion)
    time_s: float
    source_index: int | None = None
    is_turned: bool = False


class MissingImageError(FileNotFoundError):
    """An image that a source names does not exist."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Capture:
    """One scene of a source, not read yet.

    Attributes:
        id: Name of the scene.
        where: File of the source, for messages.
        read: Returns the posed images in the order of their times, and the scene's `source` (any JSON object); raises
            ValueError or OSError if the capture is invalid.
        read_points: Returns the points of the scene, None if it has none; raises as `read`.
    """

    id: str
    where: str
    read: Callable[[], tuple[Iterable[PosedImage], Mapping[str, Any]]]
    read_points: Callable[[], Points | None] = lambda: None


@dataclass(frozen=True, eq=False)
class Rejection:
    """A capture that cannot be imported, and the reason."""

    where: str
    error: Exception

    def __str__(self) -> str:
        # An error names its file in most cases.
        return str(self.error) if self.where in str(self.error) else f"{self.where}: {self.error}"


Captures: TypeAlias = Iterator[Capture | Rejection]


def posed_images(makers: Iterable[Callable[[], PosedImage]], *, where: str, options: ImportOptions) -> list[PosedImage]:
    """Make the images of a capture; missing ones are treated by `options.missing`.

    Raises:
        MissingImageError: If an image file is missing and not skipped, or all are.
    """
    images, missing = [], []
    for make in makers:
        try:
            images.append(make())
        except MissingImageError as error:
            if options.missing == "error":
                raise
            missing.append(error)
    if missing and not images:
        raise missing[0]
    if missing:
        total = len(images) + len(missing)
        logger.warning("%s: %d of %d images are missing and skipped; first: %s", where, len(missing), total, missing[0])
    return images


def source_files(source: Path, pattern: str) -> list[Path]:
    """`source` itself if it is a file, else the files that match `pattern` in it, or in its `train` and `test`, sorted.

    Raises:
        FileNotFoundError: If there is none.
    """
    if source.is_file():
        return [source]
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such file or folder")
    files = sorted(source.glob(pattern)) or [f for split in _SPLITS for f in sorted(source.glob(f"{split}/{pattern}"))]
    if not files:
        below = sorted({file.parent.name for file in source.glob(f"*/{pattern}")})
        hint = f"; it has some in {', '.join(below[:5])}: import each of these folders" if below else ""
        raise FileNotFoundError(f"{source}: no {pattern} file in this folder{hint}")
    return files


def capture_folders(
    source: Path, find: Callable[[Path], Path | None], *, what: str
) -> Iterator[tuple[Path, Path, str]]:
    """Find the captures of a data set in `source` or up to three folders below.

    Args:
        source: A capture's folder, or one that holds several.
        find: Returns the file or folder that makes a folder a capture, None if it is none.
        what: What `find` looks for, for the message.

    Yields:
        Each capture's folder, what `find` returned for it, and its name: that of the folder, or, of several captures,
        the path from `source` joined by `_`. Sorted by path.

    Raises:
        FileNotFoundError: If there is none.
    """
    if not source.is_dir():
        raise FileNotFoundError(f"{source}: no such file or folder")
    if found := find(source):
        yield source, found, source.resolve().name
        return
    num_captures = 0
    for folder, found in _captures_below(source, find, depth=_MAX_DEPTH):
        num_captures += 1
        yield folder, found, "_".join(folder.relative_to(source).parts)
    if not num_captures:
        raise FileNotFoundError(f"{source}: no {what} here or up to {_MAX_DEPTH} folders below")


def _captures_below(folder: Path, find: Callable[[Path], Path | None], *, depth: int) -> Iterator[tuple[Path, Path]]:
    for below in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if found := find(below):
            yield below, found
        elif depth > 1:
            yield from _captures_below(below, find, depth=depth - 1)


def first_file(folder: Path, names: Iterable[str]) -> Path | None:
    """The first of these files that exists in a folder."""
    return next((folder / name for name in names if (folder / name).is_file()), None)
