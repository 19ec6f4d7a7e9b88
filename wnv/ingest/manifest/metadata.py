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
    entries: list[dict[str, Any]] = []
    for position, line in enumerate(rows, 1):
        entries.append(
            {
                "index": line.rows[0].get("row", position) if line.rows else position,
                "video_id": None if line.key is None else _video_id(line.key),
                "url": line.url,
                "title": line.title,
                "type": _TYPES[line.kind],
            }
        )
        if line.kind == "static":
            entries[-1]["static_segments"] = [
                {"start_time": _clock(start_s), "end_time": _clock(end_s)} for start_s, end_s in line.segments
            ]
    return entries


def _video_id(key: str) -> str:
    form, _, rest = key.partition(":")
    if form == "bv":
        return rest.partition(":")[0]
    # As in the published script: the last part of the path.
    return f"ep{rest}" if form == "ep" else rest.partition("?")[0].rpartition("/")[2]


def _clock(time_s: float) -> str:
    minutes, milliseconds = divmod(round(time_s * 1000), 60_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{milliseconds // 1000:02d}" + (f".{milliseconds % 1000:03d}" if milliseconds % 1000 else "")
    return f"{hours}:{minutes:02d}:{seconds}" if hours else f"{minutes:02d}:{seconds}"
