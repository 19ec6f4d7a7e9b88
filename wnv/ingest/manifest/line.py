"""One canonical manifest line: a video with its segments, or a row without a video, and its reason codes."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from wnv.scenes.schema import SceneKind

Segments = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class ManifestLine:
    """A video in a canonical list.

    Attributes:
        key: `bv:BV...:p1`, `ep:...`, `b23:...`, `url:...`, `file:...`; None for rows without a video.
        url: Canonical address; for `file:` keys the path below the video folder.
        title: The cleaned title.
        kind: `static` or `dynamic`, from its list.
        segments: Marked parts, `(start_s, end_s)`, merged and sorted; empty if nothing is marked.
        other_segments: The segments by the other reading of ambiguous times, or None. The duration of the video decides
            between the two.
        rows: Its raw rows: `{"file", "row", "cells"}`.
        codes: Reason codes, each once.
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
        """The fields as a JSON object."""
        return json.loads(json.dumps(asdict(self)))
