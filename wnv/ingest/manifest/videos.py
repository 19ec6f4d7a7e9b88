"""Lists local videos, one line per file, photographs, one line per folder of them, or a single address."""

import logging
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from wnv.ingest.manifest.codes import REFUSAL_CODES
from wnv.ingest.manifest.jsonl import is_inside
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.urls import read_address
from wnv.scenes.schema import SceneKind

SUFFIXES = frozenset(
    ".3g2 .3gp .avi .flv .m2ts .m4v .mkv .mov .mp4 .mpeg .mpg .mts .ogv .qt .ts .vob .webm .wmv".split()
)  # lower case; cameras may write upper case
PHOTO_SUFFIXES = frozenset(".jpg .jpeg .png .webp .tif .tiff .bmp .heic .heif .avif".split())
# Raw, panoramic and broadcast video, and raw photographs, which must be converted.
_UNSUPPORTED = frozenset(".360 .braw .dv .insv .mxf .r3d .rm .rmvb".split())
_UNSUPPORTED_PHOTOS = frozenset(".arw .cr2 .cr3 .dng .gpr .insp .jp2 .jxl .nef .orf .raf .rw2".split())

_log = logging.getLogger(__name__)


def read_videos(
    source: Path, *, kind: SceneKind, follow_links: bool = False
) -> tuple[list[ManifestLine], dict[str, Any]]:
    """List the videos below a folder, in the order of their paths, or a single video.

    A folder without videos is listed by its folders of photographs. The `.mov` of a Live Photo, beside a photograph of
    the same name, does not count as a video.

    Hidden files and folders are skipped (`._IMG_1.MOV` is not a video); links to folders are followed on request.

    Returns:
        One line per video, with the key `file:<path below the folder>`, or per folder of photographs, with the key
        `photos:<path below the folder>`, or `photos:<name of the folder>/.`; and facts about the source for the report.

    Raises:
        ValueError: If there is neither a video nor a photograph.
    """
    is_folder = source.is_dir()
    folder = source if is_folder else source.parent
    names = list(_names(folder, follow_links)) if is_folder else [source.name]
    videos, photos, unsupported, raw = (
        [name for name in names if os.path.splitext(name)[1].lower() in suffixes]
        for suffixes in (SUFFIXES, PHOTO_SUFFIXES, _UNSUPPORTED, _UNSUPPORTED_PHOTOS)
    )
    for left_out, what, target in ((unsupported, "videos", ".mp4"), (raw, "photographs", ".jpg")):
        if left_out:
            _log.warning(
                "%s: %d %s are left out because their format is not supported (%s%s); convert them to %s",
                *(source, len(left_out), what, ", ".join(left_out[:3]), ", ..." if len(left_out) > 3 else "", target),
            )
    stems = {os.path.splitext(name)[0].lower() for name in photos}
    live = {name for name in videos if name.lower().endswith(".mov") and os.path.splitext(name)[0].lower() in stems}
    if live:
        _log.warning("%s: %d .mov files of Live Photos are left out", *(source, len(live)))
        videos = [name for name in videos if name not in live]
    if not videos and photos:
        return _photo_lines(folder, photos, kind), {
            "file": str(folder),
            "kind": kind,
            "num_other_files": len(names) - len(photos),
        }
    if not videos:
        suffixes = f"videos ({', '.join(sorted(SUFFIXES))}) or photographs ({', '.join(sorted(PHOTO_SUFFIXES))})"
        raise ValueError(f"{source}: no {suffixes} among {len(names)} files")
    if photos:
        _log.warning(
            "%s: %d photographs beside videos are left out; to use them, set source= to a folder without videos",
            *(source, len(photos)),
        )
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


def _photo_lines(folder: Path, photos: Sequence[str], kind: SceneKind) -> list[ManifestLine]:
    """Return one line per folder that holds photographs, each a scene."""
    groups: dict[str, list[str]] = defaultdict(list)
    for name in photos:
        groups[Path(name).parent.as_posix()].append(Path(name).name)
    lines = []
    for number, (name, files) in enumerate(groups.items(), 1):
        row = ({"file": str(folder.resolve()), "row": number, "cells": [name]},)
        title = folder.resolve().name if name == "." else Path(name).name
        line = ManifestLine(
            # With the name of the folder, so that scenes of several roots have different ids.
            key=f"photos:{title}/." if name == "." else f"photos:{name}",
            url=name,
            title=title,
            kind=kind,
            photos=tuple(sorted(files, key=_natural)),
            rows=row,
        )
        is_valid = all(map(is_inside, [*files, title if name == "." else name]))
        lines.append(line if is_valid else line.with_code("file_name_unwritable", key=None, url=None, title=""))
    return lines


def _natural(name: str) -> list[tuple[int, str]]:
    """Sort key in which IMG_2 precedes IMG_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"([0-9]+)", name)]


def _names(folder: Path, follow_links: bool) -> Iterator[str]:
    skipped: list[str] = []
    seen: set[str] = set()
    for place, folders, files in os.walk(folder, onerror=_raise, followlinks=follow_links):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        if not follow_links:
            skipped += [name for name in folders if os.path.islink(os.path.join(place, name))]
        elif os.path.realpath(place) in seen:  # linked twice, or containing itself
            folders.clear()
            continue
        seen.add(os.path.realpath(place))
        for name in sorted(files):
            if not name.startswith("."):
                yield Path(place, name).relative_to(folder).as_posix()
    if skipped:
        _log.warning(
            "%s: %d links to folders are not followed (%s, ...); set follow_links=true",
            folder,
            len(skipped),
            skipped[0],
        )


def _raise(error: OSError) -> None:
    raise error
