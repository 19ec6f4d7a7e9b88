"""What was fetched: parts of a video, checked against what its site and its container say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from wnv.ingest.fetch.container import Cut, MediaError, VideoFacts, VideoSource, check_ends, cut
from wnv.ingest.manifest.line import ManifestLine, Segments
from wnv.ingest.manifest.times import settle_segments
from wnv.ingest.tasks import Outcome, StageError

_TOLERANCE_S = 2.0  # sites round durations, and the streams of a video differ slightly
_LEAST_SHARE = 0.8  # of the size the site gives, which it rounds


class Fetched(NamedTuple):
    """The contents of a video's folder; `code` is that of `settle_segments`."""

    facts: VideoFacts
    segments: Segments
    code: str | None
    cuts: list[Cut]


def cut_part(source: VideoSource, span: tuple[float, float], facts: VideoFacts, path: Path) -> Cut:
    """Cut a part and check that it is whole.

    Raises:
        MediaError: If the file ends before the part does, or cannot be decoded at its ends.
    """
    made = cut(source, *span, path)
    if made is None:
        raise MediaError("corrupt", f"the file has no frame after {span[0]:.1f} s")
    check_ends(path)
    if facts.duration_s is not None and made.end_s < min(span[1], facts.duration_s) - _TOLERANCE_S:
        raise MediaError("corrupt", f"the file breaks off at {made.end_s:.1f} s of {facts.duration_s:.1f} s")
    return made


def check_segments(line: ManifestLine, info: Mapping[str, Any], facts: VideoFacts) -> tuple[Segments, str | None]:
    """Check the file against the duration and size that the site gives, and settle the segments."""
    actual_s, claimed_s = facts.duration_s, info.get("duration") or 0
    if actual_s is not None and claimed_s and abs(actual_s - claimed_s) > _TOLERANCE_S + 0.05 * claimed_s:
        text = f"got a video of {actual_s:.1f} s, the site says {claimed_s:.1f} s"
        raise StageError(*(("refused", "preview") if actual_s < claimed_s else ("failed", "wrong_length")), text)
    side, claimed = min(facts.width, facts.height), min(info.get("width") or 0, info.get("height") or 0)
    if side < _LEAST_SHARE * claimed:
        text = f"got {side} pixels on the shorter side, the site says {claimed}"
        raise StageError("refused", "preview", text)
    return settle(line, actual_s)


def settle(line: ManifestLine, duration_s: float | None) -> tuple[Segments, str | None]:
    """Fit the segments of a line into the video; see `settle_segments`.

    Raises:
        StageError: If all of them lie outside of it.
    """
    segments, code = settle_segments(line, duration_s)
    if line.segments and not segments:
        last_s = max(end_s for _, end_s in line.segments)
        text = f"all segments lie outside the video: it lasts {duration_s} s, segments end at {last_s} s"
        raise StageError("refused", "wrong_length", text)
    return segments, code


def done(
    fetched: Fetched,
    files: Sequence[str],
    *,
    duration_s: float | None,
    info: Mapping[str, Any] | None = None,
    num_bytes: int = 0,
) -> Outcome:
    """Return the outcome of a fetched video."""
    info = info or {}
    result = {
        "duration_s": duration_s,
        "segments": [list(segment) for segment in fetched.segments],
        "parts": [
            {"file": file, "start_s": cut.start_s, "end_s": cut.end_s}
            for file, cut in zip(files, fetched.cuts, strict=True)
        ],
        **{name: getattr(fetched.facts, name) for name in ("width", "height", "fps", "codec")},
        "extractor": info.get("extractor_key"),
        "video_id": str(info["id"]) if info.get("id") else None,
        "format": str(info["format"]) if info.get("format") else None,
    }
    return Outcome(state="done", message=fetched.code or "", result=result, num_bytes=num_bytes)
