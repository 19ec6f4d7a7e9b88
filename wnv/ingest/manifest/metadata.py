"""The JSON that the published downloader's `--save_json` was to give: same fields, same order, values repaired."""

from collections.abc import Iterable
from typing import Any

from wnv.ingest.manifest.line import ManifestLine

_TYPES = {"static": "static", "dynamic": "walk"}


def published_metadata(rows: Iterable[ManifestLine]) -> list[dict[str, Any]]:
    """One object a row: `index`, `video_id`, `url`, `title`, `type`, and for static ones `static_segments`.

    The published script copies its cells; it stops at both published lists, and what it copies is what was typed. Here
    addresses and titles are the repaired ones, `video_id` and `url` are None where a row names no video, and times
    are `MM:SS` or `H:MM:SS`, which its README documents and FFmpeg reads as meant.

    Args:
        rows: Lines that are not merged, one a row.
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
    # As the published script does it: the last part of the path.
    return rest.partition("?")[0].rpartition("/")[2]


def _clock(time_s: float) -> str:
    milliseconds = round(time_s * 1000)
    minutes, rest = divmod(milliseconds, 60_000)
    hours, minutes = divmod(minutes, 60)
    fraction = f".{rest % 1000:03d}" if rest % 1000 else ""
    clock = f"{minutes:02d}:{rest // 1000:02d}{fraction}"
    return f"{hours}:{clock}" if hours else clock
