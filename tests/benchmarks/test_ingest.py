import pytest

from wnv.benchmarks.ingest import run


def test_bookkeeping_and_baselines_are_measured():
    table = run(num_rows=30, num_videos=5, repeats=1)
    assert [row[0] for row in table.rows] == list(table.figures)
    assert all(rate > 0 for rate in table.figures.values())
    assert [row[-1] for row in table.rows[::2]] == ["1.0", "1.0"]


def test_zero_rows_are_an_error():
    with pytest.raises(ValueError, match=r"num_rows.*0"):
        run(num_rows=0, num_videos=1, repeats=1)
