"""Plan the spans of a video to download for its segments."""

from collections.abc import Sequence

Spans = list[tuple[float, float]]


def plan_spans(
    segments: Sequence[tuple[float, float]],
    *,
    duration_s: float | None,
    margin_s: float,
    join_gap_s: float,
    max_whole_s: float,
) -> Spans:
    """Return sorted, non-overlapping spans `(start_s, end_s)` to fetch.

    Args:
        segments: Marked segments, seconds; if empty, the beginning of the video is fetched.
        duration_s: Duration of the video, seconds; None if unknown.
        margin_s: Seconds added before and after a segment.
        join_gap_s: Spans closer than this are joined: a seek costs a request and the data since the last keyframe.
        max_whole_s: Length to fetch of a video without segments, seconds.
    """
    limit = float("inf") if duration_s is None else duration_s
    if not segments:
        return [(0.0, min(limit, max_whole_s))]
    spans: Spans = []
    for start_s, end_s in sorted(segments):
        begin, end = max(0.0, start_s - margin_s), min(limit, end_s + margin_s)
        if begin >= end:
            continue
        if spans and begin - spans[-1][1] < join_gap_s:
            spans[-1] = (spans[-1][0], max(spans[-1][1], end))
        else:
            spans.append((begin, end))
    return spans
