"""Lists a folder of local videos: one line per file."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wnv.ingest.manifest.jsonl import is_inside
from wnv.ingest.manifest.line import ManifestLine
from wnv.scenes.schema import SceneKind

SUFFIXES = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)  # lower case; cameras may write upper case


def read_videos(folder: Path, *, kind: SceneKind) -> tuple[list[ManifestLine], dict[str, Any]]:
    """List the videos below a folder, in the order of their paths.

    Hidden files and folders are skipped (`._IMG_1.MOV` is not a video); links to folders are not followed.

    Args:
        folder: The folder.
        kind: Kind of the videos in it.

    Returns:
        One line per video, with the key `file:<path below the folder>`, and facts about the folder for the report.

    Raises:
        NotADirectoryError: If there is no such folder.
        ValueError: If it contains no video.
    """
    if not folder.is_dir():
        raise NotADirectoryError(f"{folder} is not a folder")
    lines: list[ManifestLine] = []
    num_others = 0
    for name in _names(folder):
        if os.path.splitext(name)[1].lower() not in SUFFIXES:
            num_others += 1
            continue
        row = ({"file": str(folder.resolve()), "row": len(lines) + 1, "cells": [name]},)
        if is_inside(name):
            line = ManifestLine(key=f"file:{name}", url=name, title=Path(name).stem, kind=kind, rows=row)
        else:
            line = ManifestLine(key=None, url=None, title="", kind=kind, rows=row, codes=("file_name_unwritable",))
        lines.append(line)
    if not lines:
        raise ValueError(f"{folder}: no videos ({', '.join(sorted(SUFFIXES))}) among {num_others} files")
    report = {"file": str(folder), "kind": kind, "num_other_files": num_others}
    return lines, report


def _names(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error
