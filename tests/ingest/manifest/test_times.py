"""Times and segments, in all forms found in lists."""

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.ingest.manifest.codes import CODES
from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.times import merge_segments, read_segments, read_time, settle_segments

FULLWIDTH = {ord(digit): 0xFEE0 + ord(digit) for digit in "0123456789:"}


@pytest.mark.parametrize(
    ("cell", "readings", "codes"),
    [
        (" 0147 ", (107,), ""),
        ("'0147", (107,), ""),
        ("0000", (0,), ""),
        ("7530", (4530,), ""),
        ("0280", (200,), "seconds_over_59"),
        ("17", (17,), "leading_zeros_lost"),
        ("17.0", (17,), "float_time leading_zeros_lost"),
        ("1140.0", (700,), "float_time"),
        ("010203", (3723,), ""),
        ("1:47", (107,), ""),
        ("75:30", (4530,), ""),
        ("00:01:47.5", (107.5,), ""),
        ("01:75", (135,), "seconds_over_59"),
        ("0147".translate(FULLWIDTH), (107,), "fullwidth_time"),
        ("17241", (172 * 60 + 41,), "five_digit_time"),  # no hour has 72 minutes
        ("12241", (4961, 122 * 60 + 41), "five_digit_time ambiguous_time"),
        ("1:47:00", (6420, 107), "ambiguous_time"),
        ("1:47:00".translate(FULLWIDTH), (6420, 107), "fullwidth_time ambiguous_time"),
        *[(cell, (), "") for cell in ("", " ", "nan", "-")],
        *[
            (cell, (), "time_unreadable")
            for cell in ("1:72:03", "017203", "1234567", "-5", "1e3", "17.5", "abc", "9" * 100_000)
        ],
    ],
)
def test_cells(cell: str, readings: tuple, codes: str) -> None:
    assert read_time(cell) == (readings, codes.split())


@pytest.mark.parametrize(
    ("cells", "segments", "codes"),
    [
        ("0147 0313 0636 0736", ((107, 193), (396, 456)), ()),
        ("0000 0017 0017 0043", ((0, 43),), ("abutting",)),
        ("0010 0040 0035 0100", ((10, 60),), ("overlapping",)),
        ("0110 0140 0010 0040", ((10, 40), (70, 100)), ("unsorted",)),
        ("1755 1817 4445 4406", ((1075, 1097), (2646, 2685)), ("reversed",)),
        ("4611 4611 - -", (), ("zero_length", "times_unusable")),
        ("- - 0030 0100", ((30, 60),), ("first_pair_empty",)),
        ("- 0155 - -", (), ("start_missing", "times_unusable")),
        ("0155 - 0200 0220", ((120, 140),), ("end_missing",)),
        ("- - - -", (), ("no_times",)),
        ("0131 0132 - -", ((91, 92),), ("short_segment",)),
        ("0000 1001 - -", ((0, 601),), ("long_segment",)),
        ("soon 0100 - -", (), ("time_unreadable", "times_unusable")),
        ("https://b23.tv/AbCdEf1 title 0214 0230", ((134, 150),), ("columns_shifted",)),
    ],
)
def test_rows(cells: str, segments: tuple, codes: tuple[str, ...]) -> None:
    words = ["" if word == "-" else word for word in cells.split()]
    assert read_segments(list(zip(words[::2], words[1::2], strict=True))) == (segments, None, codes)


def test_both_readings_of_a_row_are_kept() -> None:
    marked = read_segments([("1117", "1142"), ("12241", "12308")])
    assert marked[:2] == (((677, 702), (4961, 4988)), ((677, 702), (7361, 7388)))
    # 99:50 to 100:10: the reading that is in order is preferred; as hours the end would lie at 1:00:10.
    marked = read_segments([("9950", "10010")])
    assert marked[:2] == (((5990, 6010),), ((3610, 5990),))
    assert "reversed" not in marked.codes


def line(segments: tuple, other: tuple | None = None) -> ManifestLine:
    return ManifestLine(key="ep:1", url=None, title="", kind="static", segments=segments, other_segments=other)


ONE, LATE = ((10.0, 20.0),), ((6420.0, 6480.0),)


@pytest.mark.parametrize(
    ("segments", "other", "duration_s", "expected", "code"),
    [
        *[(ONE, None, duration_s, ONE, None) for duration_s in (None, 0.0, float("nan"), 30.0)],
        (ONE, None, 19.0, ((10.0, 19.0),), None),  # within the tolerance
        (ONE, None, 15.0, ((10.0, 15.0),), "past_end"),
        ((*ONE, (50.0, 60.0)), None, 30.0, ONE, "past_end"),
        (ONE, None, 10.0, (), "past_end"),
        (LATE, ((107.0, 108.0),), 7000.0, LATE, None),
        (LATE, ((107.0, 108.0),), 300.0, ((107.0, 108.0),), "other_reading"),
        (LATE, ((107.0, 120.0),), 110.0, ((107.0, 110.0),), "past_end"),
        ((), None, 30.0, (), None),
    ],
)
def test_settling(segments, other, duration_s, expected, code) -> None:
    assert settle_segments(line(segments, other), duration_s) == (expected, code)


CELLS = st.one_of(
    st.just(""),
    st.text(max_size=12),
    st.from_regex(r"[0-9]{1,7}", fullmatch=True),
    st.from_regex(r"[0-9]{1,2}:[0-9]{2}", fullmatch=True),
)


@given(st.lists(st.tuples(CELLS, CELLS), max_size=4), st.floats(0.1, 1e5))
def test_any_cells_become_valid_segments(pairs: list[tuple[str, str]], duration_s: float) -> None:
    marked = read_segments(pairs)
    for segments in (marked.segments, marked.other_segments or ()):
        ends = [bound for segment in segments for bound in segment]
        assert all(first < second for first, second in itertools.pairwise(ends))
        assert all(bound >= 0 for bound in ends)
    assert set(marked.codes) <= CODES.keys()
    settled, _ = settle_segments(line(marked.segments, marked.other_segments), duration_s)
    assert all(start_s < end_s <= duration_s for start_s, end_s in settled)


def test_merging_any_number() -> None:
    assert merge_segments([(5.0, 6.0), (1.0, 2.0), (2.0, 3.0), (1.5, 1.6)]) == ((1.0, 3.0), (5.0, 6.0))
    assert merge_segments([]) == ()


def test_malicious_cells_take_no_time() -> None:
    start = time.process_time()
    for cell in ("9" * 130_000, ":" * 130_000, "0" * 31 + "x", "1." + "0" * 130_000, "https://" * 16_000):
        read_segments([(cell, cell)] * 20)
    assert time.process_time() - start < 2
