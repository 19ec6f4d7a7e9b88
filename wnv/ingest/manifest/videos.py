"""Lists local videos, one line per file, or a single address."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from wnv.ingest.manifest.codes import REFUSAL_CODES
from wnv.ingest.manifest.jsonl import is_inside
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.urls import read_address
from wnv.scenes.schema import SceneKind

SUFFIXES = frozenset(
    ".3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .ts .webm .wmv".split()
)  # lower case; cameras may write upper case


def read_videos(source: Path, *, kind: SceneKind) -> tuple[list[ManifestLine], dict[str, Any]]:
    """List the videos below a folder, in the order of their paths, or a single video.

    Hidden files and folders are skipped (`._IMG_1.MOV` is not a video); links to folders are not followed.

    Returns:
        One line per video, with the key `file:<path below the folder>`, and facts about the source for the report.

    Raises:
        ValueError: If there is no video.
    """
    is_folder = source.is_dir()
    folder = source if is_folder else source.parent
    names = list(_names(folder)) if is_folder else [source.name]
    videos = [name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES]
    if not videos:
        raise ValueError(f"{source}: no videos ({', '.join(sorted(SUFFIXES))}) among {len(names)} files")
    lines = []
    for number, name in enumerate(videos, 1):
        row = ({"file": str(folder.resolve()), "row": number, "cells": [name]},)
        line = ManifestLine(key=f"file:{name}", url=name, title=Path(name).stem, kind=kind, rows=row)
        lines.append(line if is_inside(name) else line.with_code("file_name_unwritable", key=None, url=None, title=""))
    return lines, {"file": str(source), "kind": kind, "num_other_files": len(names) - len(videos)}


def read_url(url: str, *, kind: SceneKind) -> tuple[list[ManifestLine], dict[str, Any]]:
    """List the video at an address, with facts for the report.

    Raises:
        ValueError: If the address names no video; gives the reason.
    """
    address = read_address(url)
    if address.key is None:
        raise ValueError(f"source={url}: {REFUSAL_CODES[address.codes[-1]]}")
    row = {"file": "source", "row": 1, "cells": [url]}
    line = ManifestLine(key=address.key, url=address.url, title="", kind=kind, rows=(row,), codes=address.codes)
    return [line], {"file": "source", "kind": kind}


def _names(folder: Path) -> Iterator[str]:
    for place, folders, files in os.walk(folder, onerror=_raise):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()


def _raise(error: OSError) -> None:
    raise error
