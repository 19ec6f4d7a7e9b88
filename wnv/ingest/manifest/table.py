"""Reads a CSV list with a Chinese or English header into canonical lines."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.times import TimeFormat, guess_format, read_segments
from wnv.ingest.manifest.titles import clean_title
from wnv.ingest.manifest.urls import read_address, split_title
from wnv.scenes.schema import SceneKind

_NAMES = {
    "index": {"序号", "编号", "index", "no", "no.", "id", "#", "number"},
    "url": {"url", "link", "链接", "网址", "地址", "视频链接", "视频地址", "videourl", "videolink", "href"},
    "damaged_url": {"ur", "rl", "ulr"},
    "title": {"视频标题", "标题", "名称", "title", "videotitle", "name"},
}
_TIME = re.compile(r"(?:静态|static)?(开始|结束|start|end)(?:时间|time)?([0-9]{0,2})(s|secs?|seconds|秒)?")

# Failures for which an address in the title is used instead.
_HELPED_BY_TITLE = {"no_url", "url_unreadable", "bv_malformed", "short_link_damaged"}


class Columns(NamedTuple):
    """Columns of a list, found by their names.

    Attributes:
        url: Position of the address.
        title: Position of the title, or None.
        pairs: Positions of start and end, in the order of their numbers.
        codes: File codes of the header.
        times: Meaning of the numbers of each pair, None if the header does not say it.
    """

    url: int
    title: int | None
    pairs: tuple[tuple[int, int], ...]
    codes: tuple[str, ...] = ()
    times: tuple[TimeFormat | None, ...] = ()


def guess_kind(path: Path) -> SceneKind:
    """Guess the kind of the videos of a list from its file name.

    Raises:
        ValueError: If the name is ambiguous.
    """
    name = path.name.lower()
    is_static, is_dynamic = "static" in name, "walk" in name or "dynamic" in name
    if is_static == is_dynamic:
        raise ValueError(f"kind cannot be guessed from the file name {path}; set kind=static or kind=dynamic")
    return "static" if is_static else "dynamic"


def read_table(
    path: Path, *, kind: SceneKind, name: str | None = None, times: Literal["auto"] | TimeFormat = "auto"
) -> tuple[list[ManifestLine], dict[str, Any]]:
    """Read a CSV into one line per row.

    Args:
        path: The file: UTF-8 with or without a byte order mark, or GB18030.
        kind: Kind of the listed videos.
        name: Name of the file in the rows; by default its file name.
        times: Meaning of times without colons. `auto` decides per pair of columns: `seconds` if a name has the unit
            (`start_s`) or a number has a fraction, `mmss` for the columns of the published lists and for numbers that
            are zero-filled to 4 to 6 digits.

    Returns:
        One line per row, not merged, and facts about the file for the report.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the table is invalid; names the line. If `auto` cannot tell the meaning of the times.
    """
    text, encoding = _decode(path)
    records = _records(path, text)
    _, header = next(records, (0, None))
    if header is None:
        raise ValueError(f"{path} is empty; the first line must name the columns (序号,URL,视频标题,...)")
    columns = read_header(header, where=str(path))
    rows: list[list[str]] = []
    for line_number, cells in records:
        if len(cells) != len(header):
            raise ValueError(
                f"{path}, line {line_number}: must have {len(header)} cells, got {len(cells)}; quote "
                "cells that contain commas, or correct the line"
            )
        rows.append(cells)
    meanings: list[TimeFormat] = [
        _meaning(rows, header, columns, pair, path) if times == "auto" else times for pair in range(len(columns.pairs))
    ]
    lines = [
        read_row(cells, columns, kind=kind, file=name or path.name, row=row, times=meanings)
        for row, cells in enumerate(rows, 1)
    ]
    codes = ["gb18030"] * (encoding == "gb18030") + list(columns.codes)
    return lines, {"file": str(path), "kind": kind, "encoding": encoding, "header": header, "codes": codes}


def read_header(header: list[str], *, where: str) -> Columns:
    """Find the columns by their names.

    Raises:
        ValueError: If there is no address column, a name is repeated, or a start has no end.
    """
    codes: list[str] = []
    found: dict[str, int] = {}
    in_seconds: set[int] = set()  # numbers of segments
    for position, cell in enumerate(header):
        word = re.sub(r"[\s_()\[\]-]+", "", unicodedata.normalize("NFKC", cell[:100])).casefold()
        role = next((role for role, names in _NAMES.items() if word in names), "")
        if match := _TIME.fullmatch(word):
            number = int(match[2] or 1)
            role = f"{'start' if match[1] in ('开始', 'start') else 'end'} {number}"
            in_seconds |= {number} if match[3] else set()
        if role == "damaged_url":
            role = "url"
            codes.append("header_repaired")
        if role in found and role not in ("index", "title"):
            what = "address columns" if role == "url" else f"columns for {role}"
            raise ValueError(f"{where}: two {what}, {header[found[role]]!r} and {cell!r}; rename one")
        if not role or (role == "title" and role in found):
            codes.append("unknown_column")
        else:
            found.setdefault(role, position)
    if "url" not in found:
        cells = ", ".join(repr(cell[:40]) for cell in header[:10])
        raise ValueError(f"{where}: the header must have an address column (URL, link, 链接, ...), got {cells}")
    numbers = sorted({int(role.split()[1]) for role in found if " " in role})
    for number in numbers:
        for bound in ("start", "end"):
            if f"{bound} {number}" not in found:
                raise ValueError(f"{where}: segment {number} has no {bound} column; add one, it may be empty")
    pairs = tuple((found[f"start {number}"], found[f"end {number}"]) for number in numbers)
    times: tuple[TimeFormat | None, ...] = tuple("seconds" if number in in_seconds else None for number in numbers)
    return Columns(found["url"], found.get("title"), pairs, tuple(dict.fromkeys(codes)), times)


def read_row(
    cells: list[str],
    columns: Columns,
    *,
    kind: SceneKind,
    file: str,
    row: int,
    times: Sequence[TimeFormat] | None = None,
) -> ManifestLine:
    """Convert one row to a canonical line; never fails."""
    address = read_address(cells[columns.url])
    title, in_title = split_title("" if columns.title is None else cells[columns.title])
    codes = list(address.codes)
    if in_title is not None and in_title.key is not None:
        if address.key is None and codes[-1] in _HELPED_BY_TITLE:
            address = in_title
            codes += ["url_from_title", *in_title.codes]
        else:
            codes.append("url_in_title" if in_title.key == address.key else "url_in_title_differs")
    title, title_codes = clean_title(title)
    pairs = [(cells[start], cells[end]) for start, end in columns.pairs]
    marked = read_segments(pairs, times)
    codes += [*title_codes, *marked.codes]
    if "columns_shifted" in marked.codes:
        repeated = {read_address(cell).key for pair in pairs for cell in pair}
        codes += ["shifted_url_differs"] * bool(repeated - {None, address.key})
    return ManifestLine(
        key=address.key,
        url=address.url,
        title=title,
        kind=kind,
        segments=marked.segments,
        other_segments=marked.other_segments,
        rows=({"file": file, "row": row, "cells": list(cells)},),
        codes=tuple(dict.fromkeys(codes)),
    )


def _meaning(rows: list[list[str]], header: list[str], columns: Columns, pair: int, path: Path) -> TimeFormat:
    """Meaning of the numbers in a pair of columns."""
    names = [header[position] for position in columns.pairs[pair]]
    cells = [row[position] for row in rows for position in columns.pairs[pair]]
    found = columns.times[pair] or ("mmss" if names[0].strip().startswith("静态") else guess_format(cells))
    if found is None:
        example = next(cell for cell in cells if cell.strip() and ":" not in cell)
        raise ValueError(
            f"{path}: times must be set, because {example!r} in the columns {names[0]!r} and {names[1]!r} may be "
            "seconds or MMSS; set times=seconds or times=mmss, or name the columns start_s and end_s"
        )
    return found


def _decode(path: Path) -> tuple[str, Literal["utf-8", "utf-8-sig", "gb18030"]]:
    data = path.read_bytes()
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise ValueError(f"{path} is UTF-16; save it as 'CSV UTF-8'")
    try:
        return data.decode("utf-8-sig"), "utf-8-sig" if data.startswith(b"\xef\xbb\xbf") else "utf-8"
    except UnicodeDecodeError as error:
        try:
            return data.decode("gb18030"), "gb18030"
        except UnicodeDecodeError:
            line = data.count(b"\n", 0, error.start) + 1
            raise ValueError(f"{path}, line {line}: neither UTF-8 nor GB18030; save it as 'CSV UTF-8'") from None


def _records(path: Path, text: str) -> Iterator[tuple[int, list[str]]]:
    """Last line number and cells of each record; empty lines are skipped."""
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        for cells in reader:
            if cells:
                yield reader.line_num, cells
    except csv.Error as error:
        raise ValueError(
            f"{path}, line {reader.line_num}: {error}; check for an unclosed or stray quote near this line"
        ) from None
