"""Stages of `wnv-data` for scene files: import, verify, index."""

import logging
import sys
from functools import partial
from pathlib import Path
from typing import Any, get_type_hints

from omegaconf import DictConfig
from tqdm import tqdm

from wnv.cli.app import JobFailed
from wnv.cli.settings import check_setting, local_path_setting, path_setting, plain
from wnv.scenes.importers.capture import ImportOptions
from wnv.scenes.importers.import_scenes import COMMON_OPTIONS, IMPORTERS, ImportResult, import_scenes
from wnv.scenes.index import build_index, find_scenes, read_index, rejection_message
from wnv.scenes.scene_file import SceneFile, validate_scene
from wnv.scenes.schema import INDEX_FILE, SceneError

logger = logging.getLogger(__name__)

PHOTO_OPTIONS = ("scene_id", "kind", "max_side", "exists", "image_format", "quality")
"""The options of `ImportOptions` that `format=photos` has."""


def import_captures(cfg: DictConfig) -> None:
    """Import captures of another format as scene files, and index their folder."""
    known: dict[str, tuple[str, ...]] = {"photos": PHOTO_OPTIONS}
    known |= {name: (*importer.options, *COMMON_OPTIONS) for name, importer in IMPORTERS.items()}
    if cfg.format not in known:
        raise ValueError(f"format must be one of {', '.join(known)}, got {cfg.format}")
    options = _import_options(cfg, known[cfg.format])
    importer = _import_photos if cfg.format == "photos" else partial(import_scenes, format=cfg.format)
    source, out = (local_path_setting(cfg, name) for name in ("source", "out"))
    with tqdm(unit=" scenes", disable=not sys.stderr.isatty()) as bar:

        def on_progress(result: ImportResult) -> None:
            bar.update()
            bar.set_postfix(written=len(result.written), skipped=len(result.skipped), rejected=len(result.rejected))

        result = importer(source, out, options=options, on_progress=on_progress)
    for path in result.written:
        print(path)
    written, skipped, rejected = len(result.written), len(result.skipped), len(result.rejected)
    total = written + skipped + rejected
    if total == rejected == 1:
        raise result.rejected[0].error
    for rejection in result.rejected:
        logger.warning("rejected: %s", rejection)
    if total == rejected:
        raise ValueError(f"{source}: none of {total} scenes can be imported; the reasons are above")
    _print_index(out)
    if skipped or rejected:
        print(f"{total} scenes: {written} written, {skipped} existed already, {rejected} rejected")
    if rejected:
        raise JobFailed(f"{rejected} of {total} scenes are rejected; fix them and repeat the command", code=1)


def _import_photos(source: Path, out: Path, **settings: Any) -> ImportResult:
    # Photographs need poses, which the stages of ingest estimate; importing those takes half a second.
    from wnv.ingest.photos.import_photos import import_photos

    return import_photos(source, out, **settings)


def _import_options(cfg: DictConfig, known: tuple[str, ...]) -> ImportOptions:
    """Collect the options that are set; an option that the format does not have is an error."""
    hints = get_type_hints(ImportOptions)
    options = {}
    for name in cfg:
        if name in ("format", "source", "out", "overwrite") or cfg[name] is None:
            continue
        if name not in known:
            raise ValueError(f"format={cfg.format} has no option {name}; it has {', '.join(known)}")
        if name in ("images", "frames", "root"):
            options[name] = local_path_setting(cfg, name)
        elif name == "scene_id":
            options[name] = str(cfg[name])  # a name may look like a number
        else:
            options[name] = plain(cfg, name)
            check_setting(name, options[name], hints[name])
    if cfg.overwrite is not None:  # the older name of exists=replace
        check_setting("overwrite", cfg.overwrite, bool)
        options |= {"exists": "replace"} if cfg.overwrite else {}
    return ImportOptions(**options)


def verify_scenes(cfg: DictConfig) -> None:
    """Check a scene file, or all of a folder and its indexes, every pixel included."""
    path = path_setting(cfg, "path")
    folder = Path(path)
    if not folder.is_dir():
        _print_verified(path)  # not as a Path, which would change a URL
        return
    paths = find_scenes(folder)
    rejections: list[str] = []
    for path in paths:
        try:
            _print_verified(path)
        except SceneError as error:
            print(f"rejected  {path}: {error}")
            rejections.append(path.relative_to(folder).as_posix())
    if rejections:
        raise SceneError(rejection_message(folder, rejections, total=len(paths)))
    for index in sorted(folder.rglob(INDEX_FILE)):
        read_index(index.parent)


def _print_verified(path: str | Path) -> None:
    info = validate_scene(path)
    print(f"ok  {path}: {info.kind}, {len(info.frames)} frames of {info.width} x {info.height}")
    for doubt in SceneFile(path).doubts():
        print(f"doubtful  {path}: {doubt}")


def index_scenes(cfg: DictConfig) -> None:
    """Write the index of a folder of scene files; invalid ones are left out with a warning."""
    rejected = _print_index(local_path_setting(cfg, "path"))
    if rejected:
        raise JobFailed(f"{rejected} invalid scene files are left out of the index; repair or remove them", code=1)


def _print_index(folder: Path) -> int:
    """Index a folder and print the counts; the number of invalid scene files."""
    index = build_index(folder)
    num_frames = sum(record.num_frames for record in index.records)
    print(f"{folder / INDEX_FILE}: {len(index.records)} scenes, {num_frames} frames")
    return len(index.rejected)
