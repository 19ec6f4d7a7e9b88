"""Merging lines of one video."""

import time

import pytest

from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.merge import mark_same_titles, merge_lines


def line(key: str | None, *, file: str = "static.csv", row: int = 1, title: str = "a", **fields) -> ManifestLine:
    rows = ({"file": file, "row": row, "cells": []},)
    return ManifestLine(**{"key": key, "url": key, "title": title, "kind": "static", "rows": rows, **fields})


def test_lines_of_one_video_are_merged_at_the_first_position() -> None:
    lines = [
        line("ep:1", row=1, segments=((5.0, 9.0),), codes=("bangumi",)),
        line("ep:2", row=2),
        line(None, codes=("no_url",)),
        line("ep:1", row=3, segments=((1.0, 2.0), (8.0, 12.0)), codes=("short_segment",)),
        line(None, codes=("no_url",)),
    ]
    merged = merge_lines(lines)
    assert [one.key for one in merged] == ["ep:1", "ep:2", None, None]
    assert merged[0].segments == ((1.0, 2.0), (5.0, 12.0))
    assert [row["row"] for row in merged[0].rows] == [1, 3]
    assert merged[0].codes == ("bangumi", "short_segment", "duplicate_in_file")
    assert merge_lines(merged) == merged


def test_static_wins_across_files() -> None:
    (merged,) = merge_lines([line("ep:1", file="walk.csv", kind="dynamic"), line("ep:1", segments=((1.0, 9.0),))])
    assert (merged.kind, merged.segments) == ("static", ((1.0, 9.0),))
    assert merged.codes == ("duplicate_across_files", "static_wins")


@pytest.mark.parametrize(("titles", "differ"), [(("", "a", "b"), True), (("【4K】A", "4k a"), False)])
def test_the_first_title_is_kept_and_a_difference_gets_a_code(titles: tuple[str, ...], differ: bool) -> None:
    (merged,) = merge_lines([line("ep:1", title=title) for title in titles])
    assert merged.title == next(filter(None, titles))
    assert ("titles_differ" in merged.codes) == differ


def test_other_readings_are_merged_with_unambiguous_ones() -> None:
    ambiguous = line("ep:1", segments=((60.0, 61.0),), other_segments=((90.0, 91.0),))
    (merged,) = merge_lines([line("ep:1", segments=((1.0, 2.0),)), ambiguous])
    assert merged.segments == ((1.0, 2.0), (60.0, 61.0))
    assert merged.other_segments == ((1.0, 2.0), (90.0, 91.0))


def test_ten_thousand_lines_of_one_video_are_merged_fast() -> None:
    start = time.process_time()
    (merged,) = merge_lines([line("ep:1", row=row, segments=((float(row), row + 0.5),)) for row in range(10_000)])
    assert len(merged.rows) == 10_000
    assert time.process_time() - start < 5


def test_short_links_with_the_title_of_another_video_are_marked() -> None:
    lines = [
        line("b23:AbCdEf1", title="【4K】Town", codes=("short_link",)),
        line("ep:1", title="4k town"),
        line("b23:AbCdEf2", title="other"),
        line("b23:AbCdEf3", title=""),
        line(None, title="other"),
    ]
    marked = mark_same_titles(lines)
    assert marked[0].codes == ("short_link", "same_title")
    assert marked[1:] == lines[1:]
    assert mark_same_titles(marked) == marked
