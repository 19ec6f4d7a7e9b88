"""Files that stages wrote under an output root: which belong to an item, whether they exist, and their deletion."""

import os
import re
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from wnv.ingest.layout import CLIPS_FOLDER, SCENES_FOLDER, VIDEOS_FOLDER
from wnv.runtime.atomic import sweep_temporary_files
from wnv.scenes.schema import safe_id


def files_of(result: Mapping[str, Any]) -> set[str]:
    """Return the files that a stage's result names."""
    files = {part["file"] for name in ("parts", "clips") for part in result.get(name, ())}
    return files | {result[name] for name in ("sidecar", "file") if name in result}


def has_files(root: Path, result: Mapping[str, Any]) -> bool:
    """Return whether all files of a result exist and are not empty."""
    return all(_size(root / file) > 0 for file in files_of(result))


def delete_files(root: Path, files: Iterable[str]) -> None:
    """Delete files below the root. A user's own videos, which results name by absolute paths, are kept."""
    for file in files:
        path = root / file
        if not Path(file).is_absolute() and path.resolve().is_relative_to(root.resolve()):
            path.unlink(missing_ok=True)


def delete_video(root: Path, key: str) -> list[Path]:
    """Delete everything made from a video, by name: also temporary files and results that were never recorded.

    Args:
        root: The output root.
        key: Key of the video.

    Returns:
        The deleted files, relative to the root.
    """
    name = safe_id(key)
    made = re.compile(rf"\.?{re.escape(name)}_\d{{9,}}\..+")  # of a clip, its poses and scene; hidden while written
    found = [path for path in root.glob(f"{VIDEOS_FOLDER}/*") if path.name == name or path.name.startswith(f".{name}.")]
    for folder in (CLIPS_FOLDER, SCENES_FOLDER):
        found += [path for path in root.glob(f"{folder}/*/*/*") if made.fullmatch(path.name)]
    deleted: list[Path] = []
    for path in found:
        if path.is_dir():
            deleted += sorted(file.relative_to(root) for file in path.rglob("*") if file.is_file())
            shutil.rmtree(path)
        else:
            deleted.append(path.relative_to(root))
            path.unlink(missing_ok=True)
    return deleted


def sweep_leftovers(root: Path) -> None:
    """Remove the files that killed writers of any host left half-written. Only safe while no run is active."""
    for pattern in (VIDEOS_FOLDER, f"{CLIPS_FOLDER}/*/*", f"{SCENES_FOLDER}/*/*"):
        for folder in root.glob(pattern):
            sweep_temporary_files(folder, other_hosts=True)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0
