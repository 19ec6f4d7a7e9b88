"""Merges lines of the same video."""

from collections.abc import Iterable
from dataclasses import replace

from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.times import merge_segments
from wnv.ingest.manifest.titles import letters_of, same_title


def merge_lines(lines: Iterable[ManifestLine]) -> list[ManifestLine]:
    """Merge lines with the same key, in the order in which keys first appear. Lines without a key are unchanged.

    Rows and codes are concatenated, segments are merged. A video that any list calls static is static.
    """
    groups: dict[object, list[ManifestLine]] = {}
    for line in lines:
        groups.setdefault(line.key or object(), []).append(line)
    return [_merge(group) if len(group) > 1 else group[0] for group in groups.values()]


def mark_same_titles(lines: Iterable[ManifestLine]) -> list[ManifestLine]:
    """Add the code `same_title` to short links that share their title with another video, probably the same one.

    Until short links are resolved, two lines of one video may end up in different splits.
    """
    lines = list(lines)
    keys: dict[str, set[str]] = {}
    for line in lines:
        if line.key is not None and line.title:
            keys.setdefault(letters_of(line.title), set()).add(line.key)
    return [
        line.with_code("same_title")
        if (line.key or "").startswith("b23:") and len(keys.get(letters_of(line.title), ())) > 1
        else line
        for line in lines
    ]


def _merge(group: list[ManifestLine]) -> ManifestLine:
    rows = [row for line in group for row in line.rows]
    num_files = len({str(row.get("file")) for row in rows})
    kinds = {line.kind for line in group}
    title = next((line.title for line in group if line.title), "")
    counted = {
        "duplicate_across_files": num_files > 1,
        "duplicate_in_file": num_files < len(rows),
        "static_wins": len(kinds) > 1,
        # Often a collection page: its address still names a previously watched video.
        "titles_differ": not all(same_title(title, line.title) for line in group),
    }
    codes = [*(code for line in group for code in line.codes), *(code for code, found in counted.items() if found)]
    segments = merge_segments(span for line in group for span in line.segments)
    readings = [line.segments if line.other_segments is None else line.other_segments for line in group]
    other = merge_segments(span for reading in readings for span in reading)
    return replace(
        group[0],
        title=title,
        kind="static" if "static" in kinds else "dynamic",
        segments=segments,
        other_segments=None if other == segments else other,
        rows=tuple(rows),
        codes=tuple(dict.fromkeys(codes)),
    )
