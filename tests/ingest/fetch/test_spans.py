"""Time spans to fetch."""

from wnv.ingest.fetch.spans import plan_spans

SETTINGS = {"margin_s": 1.0, "join_gap_s": 5.0, "max_whole_s": 100.0}


def test_spans() -> None:
    assert plan_spans([], duration_s=30.0, **SETTINGS) == [(0.0, 30.0)]
    assert plan_spans([], duration_s=300.0, **SETTINGS) == [(0.0, 100.0)]
    assert plan_spans([], duration_s=None, **SETTINGS) == [(0.0, 100.0)]
    # Margins stay inside; stretches close together are one; the order does not matter.
    assert plan_spans([(20.0, 30.0), (0.0, 4.0), (36.0, 40.0), (60.0, 70.0)], duration_s=65.0, **SETTINGS) == [
        (0.0, 5.0),
        (19.0, 41.0),
        (59.0, 65.0),
    ]
    assert plan_spans([(20.0, 30.0), (21.0, 25.0)], duration_s=None, **SETTINGS) == [(19.0, 31.0)]
    assert plan_spans([(20.0, 30.0)], duration_s=10.0, **SETTINGS) == []
