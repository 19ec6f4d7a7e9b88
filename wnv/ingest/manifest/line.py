"""One canonical manifest line: a video with its segments, or a row without a video, and its reason codes."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from wnv.scenes.schema import SceneKind

Segments = tuple[tuple[float, float], ...]


@dataclass(frozen=True, kw_only=True)
class ManifestLine:
    """A video in a canonical list.

    Attributes:
        key: `bv:BV...:p1`, `ep:...`, `b23:...`, `url:...`, `file:...`, `photos:...`; None for rows without a video.
        url: Canonical address; for `file:` and `photos:` keys the path below the folder of videos.
        title: The cleaned title.
        kind: `static` or `dynamic`, from its list.
        segments: Marked parts, `(start_s, end_s)`, merged and sorted; empty if nothing is marked.
        other_segments: The segments by the other reading of ambiguous times, or None. The duration of the video decides
            between the two.
        photos: Names of the photographs in the folder, for `photos:` keys.
        rows: Its raw rows: `{"file", "row", "cells"}`.
        codes: Reason codes, each once.
    """

    key: str | None
    url: str | None
    title: str
    kind: SceneKind
    segments: Segments = ()
    other_segments: Segments | None = None
    photos: tuple[str, ...] = ()
    rows: tuple[Mapping[str, Any], ...] = ()
    codes: tuple[str, ...] = ()

    def fields(self) -> dict[str, Any]:
        """The fields in order, those of photographs only if there are any."""
        return {name: value for name, value in vars(self).items() if name != "photos" or value}

    def to_json(self) -> dict[str, Any]:
        """The fields as a JSON object."""
        return json.loads(json.dumps(self.fields()))

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ManifestLine":
        """The line of a valid JSON object; other fields are ignored."""
        other = values.get("other_segments")
        return cls(
            key=values["key"],
            url=values["url"],
            title=values["title"],
            kind=values["kind"],
            segments=_segments(values["segments"]),
            other_segments=None if other is None else _segments(other),
            photos=tuple(values.get("photos", ())),
            rows=tuple(values.get("rows", ())),
            codes=tuple(values.get("codes", ())),
        )

    def with_code(self, code: str, **changes: Any) -> "ManifestLine":
        """The line with one more reason code, and other changes."""
        return replace(self, codes=tuple(dict.fromkeys((*self.codes, code))), **changes)


def _segments(pairs: Any) -> Segments:
    return tuple((float(start_s), float(end_s)) for start_s, end_s in pairs)
