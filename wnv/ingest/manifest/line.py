"""One canonical manifest line: a video with its segments, or a row that names none, and what was done to it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wnv.scenes.schema import SceneKind

Segments = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class ManifestLine:
    """A video as the manifest stage writes it.

    Attributes:
        key: `bv:BV...:p1`, `ep:...`, `b23:...`, `url:...`, `file:...`; None for rows that name no video.
        url: Canonical address; for `file:` keys the path below the folder of videos.
        title: Its title, cleaned.
        kind: `static` or `dynamic`, by the list it came from.
        segments: Marked parts, `(start_s, end_s)`, merged and sorted; none where nothing is marked.
        other_segments: The segments if the times are read the other way, where they can be; else None. Which reading
            holds is settled when the duration is known.
        rows: The raw rows it was made of: `{"file", "row", "cells"}`.
        codes: What was repaired or refused, each code once.
    """

    key: str | None
    url: str | None
    title: str
    kind: SceneKind
    segments: Segments = ()
    other_segments: Segments | None = None
    rows: tuple[Mapping[str, Any], ...] = ()
    codes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """A JSON object with these fields."""
        return json.loads(json.dumps(asdict(self)))
