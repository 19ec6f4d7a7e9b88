"""Reads the times of a list (`0147`, `12241`, `1:02:03` and damaged forms) and the segments that they mark."""

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple

from wnv.ingest.manifest.line import ManifestLine, Segments

TimeFormat = Literal["mmss", "seconds"]
"""Meaning of a cell without colons: `0147` is 1:47, or 147 seconds."""

SHORT_S = 5.0
LONG_S = 600.0

# Full-width ASCII, and the ratio sign that some keyboards type for a colon.
_NARROW = {0xFF01 + offset: 0x21 + offset for offset in range(94)} | {0x2236: ord(":")}
_MAX_CELL = 32
_EMPTY = {"", "nan", "none", "null", "n/a", "-", "--", "/"}
_DIGITS = re.compile(r"([0-9]{1,6})(\.0{1,6})?")
_SECONDS = re.compile(r"[0-9]{1,6}(\.[0-9]{1,6})?")
_CLOCK = re.compile(r"(?:([0-9]{1,2}):)?([0-9]{1,3}):([0-9]{1,2})(\.[0-9]{1,6})?")
_URL = re.compile(r"https?:/|ttps?:/|bilibili\.co|b23\.tv", re.IGNORECASE)


Readings = tuple[float, ...]
"""A time in seconds from the start of the video, the likelier reading first: two if ambiguous, none if unreadable."""


class Marked(NamedTuple):
    """The segments of a row; the fields are those of `ManifestLine`."""

    segments: Segments
    other_segments: Segments | None
    codes: tuple[str, ...]


def read_time(cell: str, times: TimeFormat = "mmss") -> tuple[Readings, list[str]]:
    """Read one cell; never fails. Returns its readings, none if it is empty, and reason codes.

    Four digits are `MMSS`, five `HMMSS` (or else `MMMSS`), six `HHMMSS`; fewer are `MMSS` whose leading zeros a
    spreadsheet removed. With colons they are `MM:SS` or `HH:MM:SS`; `H:MM:00` may also be a spreadsheet's version of
    `MM:SS`. With `times="seconds"`, numbers without colons are seconds.
    """
    text = cell.strip().lstrip("'")
    narrow = text.translate(_NARROW) if len(cell) <= _MAX_CELL else "too long"
    if narrow.lower() in _EMPTY:
        return (), []
    codes = ["fullwidth_time"] if narrow != text else []
    readings: Readings = ()
    if times == "seconds" and _SECONDS.fullmatch(narrow):
        readings = (float(narrow),)
    elif match := _DIGITS.fullmatch(narrow):
        codes += ["float_time"] * bool(match[2])
        readings = _from_digits(match[1], codes)
    elif match := _CLOCK.fullmatch(narrow):
        readings = _from_clock(match, codes)
    if not readings:
        return (), ["time_unreadable"]
    return readings, codes + ["ambiguous_time"] * (len(readings) > 1)


def _from_digits(digits: str, codes: list[str]) -> Readings:
    padded = digits.zfill(6)
    hours, minutes, seconds = int(padded[:2]), int(padded[2:4]), int(padded[4:])
    as_minutes = float(int(padded[:4]) * 60 + seconds)
    as_hours = float(hours * 3600 + minutes * 60 + seconds)
    codes += ["leading_zeros_lost"] * (len(digits) < 4) + ["seconds_over_59"] * (seconds > 59)
    if len(digits) <= 4:
        return (as_minutes,)
    if len(digits) == 6:
        return (as_hours,) if minutes <= 59 else ()
    codes.append("five_digit_time")
    return (as_hours, as_minutes) if minutes <= 59 else (as_minutes,)


def _from_clock(match: re.Match[str], codes: list[str]) -> Readings:
    hours, minutes, seconds = int(match[1] or 0), int(match[2]), int(match[3])
    if match[1] and minutes > 59:
        return ()
    codes += ["seconds_over_59"] * (seconds > 59)
    total = hours * 3600 + minutes * 60 + seconds + float(match[4] or 0)
    return (total, float(hours * 60 + minutes)) if hours and not seconds and not match[4] else (total,)


def guess_format(cells: Iterable[str]) -> TimeFormat | None:
    """Guess the meaning of a column's numbers without colons; None if it is doubtful.

    Zero-filled numbers of 4 to 6 digits (`0147`) are MMSS, fractions (`147.5`) are seconds.
    """
    numbers = [number for cell in cells if _SECONDS.fullmatch(number := cell[:_MAX_CELL].strip().translate(_NARROW))]
    is_zero_filled = any(len(number) >= 4 and number.isdecimal() and number[0] == "0" for number in numbers)
    if any(number.partition(".")[2].strip("0") for number in numbers):
        return None if is_zero_filled else "seconds"
    return "mmss" if not numbers or (is_zero_filled and all(len(number) >= 4 for number in numbers)) else None


def read_segments(pairs: Sequence[tuple[str, str]], times: Sequence[TimeFormat] | None = None) -> Marked:
    """Read the segments of a row's pairs of start and end, merged and sorted; `times` is `mmss` by default."""
    codes: list[str] = []
    read: list[tuple[Readings, Readings]] = []
    num_given = 0
    for position, pair in enumerate(pairs):
        if any(_URL.search(cell[:200]) for cell in pair):
            # URL and title are repeated here, and the times follow in the next pair.
            codes.append("columns_shifted")
            continue
        meaning = "mmss" if times is None else times[position]
        (start, start_codes), (end, end_codes) = (read_time(cell, meaning) for cell in pair)
        codes += start_codes + end_codes
        has_start, has_end = bool(start or start_codes), bool(end or end_codes)
        if not has_start and not has_end:
            continue
        if position > 0 and num_given == 0 and "columns_shifted" not in codes:
            codes.append("first_pair_empty")
        num_given += 1
        if not (has_start and has_end):
            codes.append("end_missing" if has_start else "start_missing")
        if start and end:
            # Prefer the reading in which start and end are in order (`9950`..`10010`).
            swapped = start[0] > end[0] and start[-1] < end[-1]
            read.append((start[::-1], end[::-1]) if swapped else (start, end))
    segments = _settled([(start[0], end[0]) for start, end in read], codes)
    if num_given == 0:
        codes += ["no_times"] * bool(pairs)
    elif not segments:
        codes.append("times_unusable")
    other = _settled([(start[-1], end[-1]) for start, end in read], [])
    return Marked(segments, None if other == segments else other, tuple(dict.fromkeys(codes)))


def _settled(spans: Iterable[tuple[float, float]], codes: list[str]) -> Segments:
    kept: list[tuple[float, float]] = []
    for start_s, end_s in spans:
        if start_s == end_s:
            codes.append("zero_length")
            continue
        if start_s > end_s:
            codes.append("reversed")
            start_s, end_s = end_s, start_s
        if kept and start_s < kept[-1][0]:
            codes.append("unsorted")
        kept.append((start_s, end_s))
    for first, second in itertools.pairwise(sorted(kept)):
        if second[0] <= first[1]:
            codes.append("abutting" if second[0] == first[1] else "overlapping")
    merged = merge_segments(kept)
    for start_s, end_s in merged:
        if end_s - start_s < SHORT_S:
            codes.append("short_segment")
        if end_s - start_s > LONG_S:
            codes.append("long_segment")
    return merged


def merge_segments(segments: Iterable[tuple[float, float]]) -> Segments:
    """Sort segments in seconds, and merge those that overlap or touch."""
    merged: list[tuple[float, float]] = []
    for start_s, end_s in sorted(segments):
        if merged and start_s <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(merged[-1][1], end_s))
        else:
            merged.append((start_s, end_s))
    return tuple(merged)


def settle_segments(
    line: ManifestLine, duration_s: float | None, *, tolerance_s: float = 2.0
) -> tuple[Segments, str | None]:
    """Choose and clip the segments of a line by the duration of its video.

    Args:
        line: The line.
        duration_s: Duration of the whole video in seconds; None, zero or less if unknown.
        tolerance_s: How far a segment may reach past the end of the video without a code, in seconds; marks are whole
            seconds.

    Returns:
        The segments, clipped to the duration, and a code: None if they fit, `other_reading` if only the other reading
        of the times fits, `past_end` if something was cut off.
    """
    if duration_s is None or not math.isfinite(duration_s) or duration_s <= 0:
        return line.segments, None
    readings: list[tuple[Segments, str | None]] = [(line.segments, None)]
    if line.other_segments is not None:
        readings.append((line.other_segments, "other_reading"))
    for segments, code in readings:
        if all(end_s <= duration_s + tolerance_s and start_s < duration_s for start_s, end_s in segments):
            return _clipped(segments, duration_s), code
    # Neither fits: the one that leaves more, or the preferred one.
    clipped = [_clipped(segments, duration_s) for segments, _ in readings]
    return max(clipped, key=lambda segments: sum(end_s - start_s for start_s, end_s in segments)), "past_end"


def _clipped(segments: Segments, duration_s: float) -> Segments:
    return tuple((start_s, min(end_s, duration_s)) for start_s, end_s in segments if start_s < duration_s)
