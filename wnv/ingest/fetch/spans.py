"""Which stretches of a video are fetched for its segments."""

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
    """Stretches to fetch, `(start_s, end_s)`, sorted, none overlapping another.

    Args:
        segments: Marked parts; none for a video without marks, of which the beginning is fetched.
        duration_s: Of the video; None where nobody knows.
        margin_s: Added on both sides of a segment.
        join_gap_s: Stretches that are closer together become one: a seek costs a request and the way from a keyframe.
        max_whole_s: How much of a video without marks.
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
