"""Indexes of the scene files under an output root."""

import json
from pathlib import Path
from typing import get_args

from wnv.ingest.layout import SPLITS, scene_folder
from wnv.scenes.schema import INDEX_FILE, SceneKind


def index_scenes(root: Path, *, changed: bool = True) -> dict[str, int]:
    """Rebuild the index of every folder of scene files under an output root.

    Invalid scene files are left out and logged.

    Args:
        root: The output root.
        changed: Whether scenes may have been written or removed. If not, only indexes that do not name the existing
            files are rebuilt, as after a killed run.

    Returns:
        Number of indexed scenes per folder, relative to the root.

    Raises:
        SceneError: If all scenes of a folder are invalid.
    """
    counts: dict[str, int] = {}
    for kind in get_args(SceneKind):
        for split in SPLITS:
            folder = scene_folder(kind=kind, split=split)
            scenes = {path.name for path in (root / folder).glob("*.zip")}
            index = root / folder / INDEX_FILE
            if not scenes:
                index.unlink(missing_ok=True)  # all its scenes were removed
                continue
            counts[folder] = len(scenes)
            if changed or _indexed(index) != scenes:
                from wnv.scenes.index import build_index  # imports torch, which workers do not need

                counts[folder] = len(build_index(root / folder).records)
    return counts


def _indexed(index: Path) -> set[str]:
    lines = index.read_text(encoding="utf-8").splitlines() if index.is_file() else []
    return {json.loads(line)["file"] for line in lines}
