"""Reads a CSV list with a Chinese or English header into canonical lines."""

import csv
import io
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from wnv.ingest.manifest.line import ManifestLine
from wnv.ingest.manifest.times import TimeFormat, is_zero_filled, read_segments
from wnv.ingest.manifest.titles import clean_title
from wnv.ingest.manifest.urls import Address, read_address, split_title
from wnv.scenes.schema import SceneKind

_INDEX = {"序号", "编号", "index", "no", "no.", "id", "#", "number"}
_URL = {"url", "link", "链接", "网址", "地址", "视频链接", "视频地址", "videourl", "videolink", "href"}
_DAMAGED_URL = {"ur", "rl", "ulr"}
_TITLE = {"视频标题", "标题", "名称", "title", "videotitle", "name"}
_TIME = re.compile(r"(?:静态|static)?(开始|结束|start|end)(?:时间|time)?([0-9]{0,2})")

# Failures for which an address in the title is used instead.
_HELPED_BY_TITLE = {"no_url", "url_unreadable", "bv_malformed", "short_link_damaged"}


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Columns of a list, found by their names.

    Attributes:
        num_columns: Cells per row.
        url: Position of the address.
        title: Position of the title, or None.
        pairs: Positions of start and end, in the order of their numbers.
        codes: File codes of the header.
    """

    num_columns: int
    url: int
    title: int | None
    pairs: tuple[tuple[int, int], ...]
    codes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Table:
    """The contents of a CSV.

    Attributes:
        lines: One per row, not merged.
        report: Facts about the file for the report.
        codes: File codes.
    """

    lines: list[ManifestLine]
    report: dict[str, Any]
    codes: tuple[str, ...]


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
) -> Table:
    """Read a CSV into one line per row.

    Args:
        path: The file: UTF-8 with or without a byte order mark, or GB18030.
        kind: Kind of the listed videos.
        name: Name of the file in the rows; by default its file name.
        times: Meaning of times without colons. `auto` is `mmss` for the columns of the published lists and for numbers
            that are zero-filled to 4 to 6 digits.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the table is invalid; names the line. If `auto` cannot tell the meaning of the times.
    """
    text, encoding = _decode(path)
    records = _records(path, text)
    try:
        _, header = next(records)
    except StopIteration:
        raise ValueError(f"{path} is empty; the first line must name the columns (序号,URL,视频标题,...)") from None
    columns = read_header(header, where=str(path))
    rows: list[list[str]] = []
    for line_number, cells in records:
        if len(cells) != columns.num_columns:
            raise ValueError(
                f"{path}, line {line_number}: must have {columns.num_columns} cells, got {len(cells)}; quote "
                "cells that contain commas, or correct the line"
            )
        rows.append(cells)
    if times == "auto":
        times = _time_format(rows, header, columns, path)
    lines = [
        read_row(cells, columns, kind=kind, file=name or path.name, row=row, times=times)
        for row, cells in enumerate(rows, 1)
    ]
    codes = (*(["gb18030"] if encoding == "gb18030" else []), *columns.codes)
    report = {"file": str(path), "kind": kind, "encoding": encoding, "header": header}
    return Table(lines=lines, report=report, codes=codes)


def read_header(header: list[str], *, where: str) -> Columns:
    """Find the columns by their names.

    Raises:
        ValueError: If there is no address column, a name is repeated, or a start has no end.
    """
    codes: list[str] = []
    url: int | None = None
    title: int | None = None
    times: dict[tuple[int, str], int] = {}
    for position, cell in enumerate(header):
        word = re.sub(r"[\s_\-]+", "", unicodedata.normalize("NFKC", cell[:100])).casefold()
        if word in _URL | _DAMAGED_URL:
            if url is not None:
                raise ValueError(f"{where}: two address columns, {header[url]!r} and {cell!r}; rename one")
            url = position
            codes += ["header_repaired"] * (word in _DAMAGED_URL)
        elif word in _TITLE and title is None:
            title = position
        elif match := _TIME.fullmatch(word):
            place = (int(match[2] or 1), "start" if match[1] in ("开始", "start") else "end")
            if place in times:
                raise ValueError(f"{where}: two columns for {place[1]} {place[0]}, one of them {cell!r}; rename one")
            times[place] = position
        elif word not in _INDEX:
            codes.append("unknown_column")
    if url is None:
        found = ", ".join(repr(cell[:40]) for cell in header[:10])
        raise ValueError(f"{where}: the header must have an address column (URL, link, 链接, ...), got {found}")
    numbers = sorted({number for number, _ in times})
    for number in numbers:
        for bound in ("start", "end"):
            if (number, bound) not in times:
                raise ValueError(f"{where}: segment {number} has no {bound} column; add one, it may be empty")
    pairs = tuple((times[number, "start"], times[number, "end"]) for number in numbers)
    return Columns(num_columns=len(header), url=url, title=title, pairs=pairs, codes=tuple(dict.fromkeys(codes)))


def read_row(
    cells: list[str], columns: Columns, *, kind: SceneKind, file: str, row: int, times: TimeFormat = "mmss"
) -> ManifestLine:
    """Convert one row to a canonical line; never fails."""
    address = read_address(cells[columns.url])
    title = cells[columns.title] if columns.title is not None else ""
    title, in_title = split_title(title)
    codes = list(address.codes)
    if in_title is not None and in_title.key is not None:
        if address.key is None and codes[-1] in _HELPED_BY_TITLE:
            address = in_title
            codes += ["url_from_title", *in_title.codes]
        else:
            codes.append("url_in_title" if in_title.key == address.key else "url_in_title_differs")
    clean, title_codes = clean_title(title)
    codes += title_codes
    marked = read_segments([(cells[start], cells[end]) for start, end in columns.pairs], times)
    codes += marked.codes
    if "columns_shifted" in marked.codes and _names_another(cells, columns, address):
        codes.append("shifted_url_differs")
    return ManifestLine(
        key=address.key,
        url=address.url,
        title=clean,
        kind=kind,
        segments=marked.segments,
        other_segments=marked.other_segments,
        rows=({"file": file, "row": row, "cells": list(cells)},),
        codes=tuple(dict.fromkeys(codes)),
    )


def _time_format(rows: list[list[str]], header: list[str], columns: Columns, path: Path) -> TimeFormat:
    is_published = any(header[start].strip().startswith("静态") for start, _ in columns.pairs)
    cells = [row[position] for row in rows for pair in columns.pairs for position in pair]
    if is_published or is_zero_filled(cells) is not False:
        return "mmss"
    raise ValueError(
        f"{path}: times must be set, because numbers such as {next(cell for cell in cells if cell.strip())!r} may be "
        "seconds or MMSS; set times=seconds or times=mmss"
    )


def _names_another(cells: list[str], columns: Columns, address: Address) -> bool:
    keys = {read_address(cells[position]).key for pair in columns.pairs for position in pair}
    return bool(keys - {None, address.key})


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
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            raise ValueError(
                f"{path}, line {reader.line_num}: {error}; check for an unclosed or stray quote near this line"
            ) from None
        if cells:
            yield reader.line_num, cells
