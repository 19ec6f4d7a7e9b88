"""The JSON format of the published downloader's `--save_json`: same fields, same order, repaired values."""

from collections.abc import Iterable
from typing import Any

from wnv.ingest.manifest.line import ManifestLine

_TYPES = {"static": "static", "dynamic": "walk"}


def published_metadata(rows: Iterable[ManifestLine]) -> list[dict[str, Any]]:
    """One object per row: `index`, `video_id`, `url`, `title`, `type`, and for static videos `static_segments`.

    The published script copies raw cells and fails on both published lists. Here addresses and titles are repaired,
    `video_id` and `url` are None if a row has no video, and times are `MM:SS` or `H:MM:SS`, as its README documents
    and FFmpeg reads.

    Args:
        rows: Unmerged lines, one per row.
    """
    return [_entry(line, position) for position, line in enumerate(rows, 1)]


def _entry(line: ManifestLine, position: int) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "index": line.rows[0].get("row", position) if line.rows else position,
        "video_id": _video_id(line.key),
        "url": line.url,
        "title": line.title,
        "type": _TYPES[line.kind],
    }
    if line.kind == "static":
        entry["static_segments"] = [
            {"start_time": _clock(start_s), "end_time": _clock(end_s)} for start_s, end_s in line.segments
        ]
    return entry


def _video_id(key: str | None) -> str | None:
    if key is None:
        return None
    form, _, rest = key.partition(":")
    if form == "bv":
        return rest.partition(":")[0]
    if form == "ep":
        return f"ep{rest}"
    # As in the published script: the last part of the path.
    return rest.partition("?")[0].rpartition("/")[2]


def _clock(time_s: float) -> str:
    milliseconds = round(time_s * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest % 1000:03d}" if rest % 1000 else ""
    clock = f"{minutes:02d}:{rest // 1000:02d}{fraction}"
    return f"{hours}:{clock}" if hours else clock
