"""Imports captures of other formats as scene files."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from wnv.runtime.machine import num_cores
from wnv.scenes.importers.assemble import assemble_scene
from wnv.scenes.importers.capture import Capture, Captures, ImportOptions, Rejection
from wnv.scenes.importers.colmap import colmap_captures
from wnv.scenes.importers.lvsm import lvsm_captures
from wnv.scenes.importers.nerfstudio import nerfstudio_captures
from wnv.scenes.importers.opencv_cameras import opencv_captures
from wnv.scenes.importers.pixelsplat import pixelsplat_captures
from wnv.scenes.importers.re10k import re10k_captures
from wnv.scenes.scene_file import SceneFile

logger = logging.getLogger(__name__)

COMMON_OPTIONS = ("max_side", "exists", "image_format", "quality", "num_workers")

_MAX_WORKERS = 8
# Errors of one capture; a full disk, for example, ends the import.
_CAPTURE_ERRORS = (
    ValueError,
    FileNotFoundError,
    FileExistsError,
    IsADirectoryError,
    NotADirectoryError,
    PermissionError,
)


@dataclass(frozen=True)
class Importer:
    """How one format is imported.

    Attributes:
        captures: Yields the captures of a source. It raises ValueError or OSError if the source as a whole is invalid.
        options: Options of this format, besides `COMMON_OPTIONS`.
    """

    captures: Callable[[Path, ImportOptions], Captures]
    options: tuple[str, ...] = ()


IMPORTERS = {
    "nerfstudio": Importer(nerfstudio_captures, ("scene_id", "kind", "fps", "missing", "undistort_fov")),
    "colmap": Importer(colmap_captures, ("scene_id", "kind", "fps", "images", "missing", "undistort_fov")),
    "re10k": Importer(re10k_captures, ("frames", "missing")),
    "lvsm": Importer(lvsm_captures, ("kind", "fps", "root", "missing")),
    "opencv_cameras": Importer(opencv_captures, ("kind", "fps", "missing")),
    "pixelsplat": Importer(pixelsplat_captures),
}


@dataclass
class ImportResult:
    """Outcome of an import, in the order of the source.

    Attributes:
        written: Scene files that were written.
        skipped: Scene files that existed and were kept (`exists=skip`).
        rejected: Captures that cannot be imported.
    """

    written: list[Path] = field(default_factory=list)
    skipped: list[Path] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)


def import_scenes(
    source: Path,
    out: Path,
    *,
    format: str,
    options: ImportOptions | None = None,
    on_progress: Callable[[ImportResult], None] = lambda result: None,
) -> ImportResult:
    """Write one scene file per capture of a source; an invalid capture is rejected and does not stop the others.

    Lens distortion is removed. Images are copied byte for byte unless they must be undistorted, scaled or converted.

    Args:
        source: File or folder to import.
        out: Folder of the scene files.
        format: A key of `IMPORTERS`.
        options: See `ImportOptions`.
        on_progress: Called after each capture, with the result so far.

    Raises:
        FileNotFoundError: If the source, or a file that all its captures need, is missing.
        ValueError: If the source as a whole is invalid.
    """
    options = options or ImportOptions()
    result = ImportResult()
    for outcome in _outcomes(IMPORTERS[format].captures(source, options), out, options):
        if isinstance(outcome, Rejection):
            result.rejected.append(outcome)
        else:
            path, is_new = outcome
            (result.written if is_new else result.skipped).append(path)
        on_progress(result)
    return result


_Outcome = tuple[Path, bool] | Rejection


def _outcomes(captures: Captures, out: Path, options: ImportOptions) -> Iterator[_Outcome]:
    """Import captures in parallel; yield outcomes in order. Few captures are pending, since some hold their images."""
    workers = options.num_workers or min(num_cores(), _MAX_WORKERS)
    pending: deque[Future[_Outcome]] = deque()
    first_with_id: dict[str, str] = {}
    with ThreadPoolExecutor(workers) as pool:
        try:
            for capture in captures:
                if isinstance(capture, Capture):
                    capture = _claim_id(capture, first_with_id)
                pending.append(pool.submit(_import_one, capture, out, options))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            pool.shutdown(cancel_futures=True)


def _claim_id(capture: Capture, first_with_id: dict[str, str]) -> Capture | Rejection:
    """Reject a capture that would overwrite the file of another one."""
    first = first_with_id.setdefault(capture.id, capture.where)
    if first == capture.where:
        return capture
    error = ValueError(f"its name {capture.id!r} is also that of {first}; rename one, or import into two folders")
    return Rejection(capture.where, error)


def _import_one(capture: Capture | Rejection, out: Path, options: ImportOptions) -> _Outcome:
    if isinstance(capture, Rejection):
        return capture
    path = out / f"{capture.id}.zip"
    try:
        if path.is_file() and options.exists != "replace":
            if options.exists == "skip":
                return path, False
            raise FileExistsError(f"{path} exists; set exists=skip to keep it, or exists=replace")
        images, source = capture.read()
        assemble_scene(
            out, list(images), scene_id=capture.id, source=source, points=capture.read_points(), options=options
        )
        for doubt in SceneFile(path).doubts():
            logger.warning("%s", doubt)
        return path, True
    except _CAPTURE_ERRORS as error:
        return Rejection(capture.where, error)
