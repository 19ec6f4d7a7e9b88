import pytest

from wnv.benchmarks.ingest import run


def test_both_sides_of_the_bookkeeping_are_measured():
    table = run(num_rows=30, num_videos=5, repeats=1)
    assert [row[0] for row in table.rows] == list(table.figures)
    assert all(rate > 0 for rate in table.figures.values())
    assert [row[-1] for row in table.rows[::2]] == ["1.0", "1.0"]


def test_nothing_cannot_be_timed():
    with pytest.raises(ValueError, match="all numbers must be at least 1, got 0, 1 and 1"):
        run(num_rows=0, num_videos=1, repeats=1)
