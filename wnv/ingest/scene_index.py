"""Indexes of the scene files under an output root."""

import json
from pathlib import Path
from typing import get_args

from wnv.ingest.layout import SPLITS, scene_folder
from wnv.scenes.schema import INDEX_FILE, SceneKind


def index_scenes(root: Path, *, changed: bool = True) -> dict[str, int]:
    """Index every folder of scene files under an output root anew.

    Args:
        root: The output root.
        changed: Whether scenes may have been written or removed. If not, an index that names the files that are there
            is left as it is; it is missing or behind where the run before was killed.

    Returns:
        Folder, relative to the root -> how many scenes it has.

    Raises:
        SceneError: If a scene is refused; names it and why.
    """
    counts: dict[str, int] = {}
    for kind in get_args(SceneKind):
        for split in SPLITS:
            folder = scene_folder(kind=kind, split=split)
            scenes = {path.name for path in (root / folder).glob("*.zip")}
            index = root / folder / INDEX_FILE
            if not scenes:
                index.unlink(missing_ok=True)  # of scenes that were taken back
                continue
            if changed or _indexed(index) != scenes:
                from wnv.scenes.index import build_index  # brings torch, which no worker needs

                build_index(root / folder)
            counts[folder] = len(scenes)
    return counts


def _indexed(index: Path) -> set[str]:
    lines = index.read_text(encoding="utf-8").splitlines() if index.is_file() else []
    return {json.loads(line)["file"] for line in lines}
