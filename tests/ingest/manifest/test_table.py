"""Published tables, and tables damaged by spreadsheets."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.ingest.manifest.table import Columns, guess_kind, read_header, read_row, read_table
from wnv.ingest.manifest.titles import MAX_TITLE, clean_title, same_title

STATIC = "序号,URL,视频标题,静态开始时间1,静态结束时间1,静态开始时间2,静态结束时间2"
WALK = "序号,UR,视频标题"
VIDEO = "https://www.bilibili.com/video/BV1vj411L7Dq"
OTHER = "https://www.bilibili.com/video/BV1xx411c7mD"


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, *, encoding: str = "utf-8-sig", name: str = "static.csv"):
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize(("encoding", "codes"), [("utf-8-sig", ()), ("utf-8", ()), ("gb18030", ("gb18030",))])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_encodings_and_line_ends(table, encoding: str, codes: tuple[str, ...], newline: str) -> None:
    read = read_table(
        table(newline.join([STATIC, f"1,{VIDEO},海边的示例小镇,0147,0313,,", ""]), encoding=encoding), kind="static"
    )
    assert read.codes == codes
    (line,) = read.lines
    assert (line.key, line.title, line.segments) == ("bv:BV1vj411L7Dq:p1", "海边的示例小镇", ((107.0, 193.0),))
    assert line.rows == (
        {"file": "static.csv", "row": 1, "cells": ["1", VIDEO, "海边的示例小镇", "0147", "0313", "", ""]},
    )


def test_a_newline_and_quotes_in_a_cell(table) -> None:
    read = read_table(table(f'{WALK}\r\n1,{VIDEO},"a ""b""\nc, d"\r\n2,{OTHER},e\r\n'), kind="dynamic")
    assert [line.title for line in read.lines] == ['a "b" c, d', "e"]
    assert read.lines[0].codes == ("title_newline",)
    assert read.lines[0].rows[0]["cells"][2] == 'a "b"\nc, d'
    assert read.codes == ("header_repaired",)
    assert read.report["header"] == WALK.split(",")


@pytest.mark.parametrize(
    "header",
    [
        STATIC,
        STATIC.replace("URL", "UR"),
        STATIC.replace("URL", " url "),
        "index,url,title,start1,end1,start2,end2",
        "Index,URL,Title,Start Time 1,End Time 1,Start Time 2,End Time 2",
        "no,Video URL,Video Title,static_start_time_1,static_end_time_1,static_start_time_2,static_end_time_2",
        "编号,链接,标题,开始时间1,结束时间1,开始时间2,结束时间2",
    ],
)
def test_headers(header: str) -> None:
    columns = read_header(header.split(","), where="list.csv")
    assert (columns.url, columns.title, columns.pairs) == (1, 2, ((3, 4), (5, 6)))
    assert columns.codes == (("header_repaired",) if "UR," in header else ())


def test_columns_in_any_order_and_number() -> None:
    columns = read_header(["end", "note", "start", "end 2", "start 2", "end3", "start3", "link"], where="list.csv")
    assert (columns.url, columns.title) == (7, None)
    assert columns.pairs == ((2, 0), (4, 3), (6, 5))
    assert columns.codes == ("unknown_column",)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        ("1,https://b23.tv/AbCdEf1,title", "list.csv.*address column"),
        ("title;url", "address column"),
        ("url,link", "two address columns"),
        ("url,start1,end1,start2", "segment 2 .*end"),
        ("url,start,end,start1", "two columns for start 1"),
    ],
)
def test_invalid_headers_are_errors(header: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_header(header.split(","), where="list.csv")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (f"{WALK}\n1,{VIDEO}\n", "line 2: .*3 cells, got 2"),
        (f'{WALK}\n1,{VIDEO},"a\nb"\n2,{VIDEO},x,y\n', "line 4: .*got 4"),
        (f'{WALK}\n1,{VIDEO},"never closed\n2,{VIDEO},x\n', "line 3: unexpected end of data"),
        (f'{WALK}\n1,{VIDEO},"a"b\n', "line 2: ',' expected after '\"'"),
        (f"{WALK}\n1,{VIDEO},{'a' * 200_000}\n", "line 2: field larger"),
    ],
)
def test_invalid_files_are_errors_that_name_the_line(table, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_table(table(text), kind="static")


def test_other_encodings_are_errors(table, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="is UTF-16"):
        read_table(table(STATIC, encoding="utf-16"), kind="static")
    path = tmp_path / "static.csv"
    path.write_bytes(b"url\nhttps://b23.tv/AbCdEf1\n\xff\xff\n")
    with pytest.raises(ValueError, match="line 3: neither UTF-8 nor GB18030"):
        read_table(path, kind="static")


def test_empty_lines_are_skipped_and_empty_rows_are_not(table) -> None:
    read = read_table(table(f"{WALK}\r\n\r\n,,\r\n1,{VIDEO},a\r\n\r\n"), kind="dynamic")
    assert [(line.key, line.codes) for line in read.lines] == [(None, ("no_url",)), ("bv:BV1vj411L7Dq:p1", ())]


@pytest.mark.parametrize(
    ("name", "kind"),
    [("static.csv", "static"), ("static_example.csv", "static"), ("Walk.csv", "dynamic"), ("dynamic-2.csv", "dynamic")],
)
def test_kinds_by_name(name: str, kind: str) -> None:
    assert guess_kind(Path("lists") / name) == kind


@pytest.mark.parametrize("name", ["list.csv", "static_walk.csv"])
def test_ambiguous_names_are_errors(name: str) -> None:
    with pytest.raises(ValueError, match="kind"):
        guess_kind(Path("static") / name)


@pytest.mark.parametrize(
    ("header", "rows", "times", "segments"),
    [
        ("url,start,end", "147,210", "seconds", (147.0, 210.0)),
        ("url,start,end", "147.5,210", "seconds", (147.5, 210.0)),
        ("url,start,end", "147,1:02:03", "seconds", (147.0, 3723.0)),
        ("url,start,end", "147,210", "mmss", (107.0, 130.0)),
        ("url,start,end", "0147,0210", "auto", (107.0, 130.0)),
        ("url,start,end", "1:47,2:10", "auto", (107.0, 130.0)),
        ("url,静态开始时间1,静态结束时间1", "147,210", "auto", (107.0, 130.0)),
    ],
)
def test_meaning_of_times(table, header: str, rows: str, times: str, segments: tuple[float, float]) -> None:
    (line,) = read_table(table(f"{header}\n{VIDEO},{rows}\n"), kind="static", times=times).lines
    assert line.segments == (segments,)


@pytest.mark.parametrize("cells", ["147,210", "147.5,210.5", "1500,2100", "0147,210"])
def test_ambiguous_times_are_errors(table, cells: str) -> None:
    with pytest.raises(ValueError, match=r"static\.csv: times.*seconds.*mmss"):
        read_table(table(f"url,start,end\n{VIDEO},{cells}\n"), kind="static")


COLUMNS = read_header(STATIC.split(","), where="list.csv")


def row(url: str, title: str = "", *times: str):
    cells = ["1", url, title, *times, *[""] * (4 - len(times))]
    return read_row(cells, COLUMNS, kind="static", file="static.csv", row=1)


@pytest.mark.parametrize(
    ("url", "title", "key", "code"),
    [
        (VIDEO, f"a {VIDEO}?p=1", "bv:BV1vj411L7Dq:p1", "url_in_title"),
        (VIDEO, f"a {OTHER}", "bv:BV1vj411L7Dq:p1", "url_in_title_differs"),
        ("", f"a {OTHER}", "bv:BV1xx411c7mD:p1", "url_from_title"),
        ("https://623.tv/0IOVIC", f"a {OTHER}", "bv:BV1xx411c7mD:p1", "url_from_title"),
        ("file:///etc/passwd", f"a {OTHER}", None, "url_in_title_differs"),
    ],
)
def test_addresses_in_titles(url: str, title: str, key: str | None, code: str) -> None:
    line = row(url, title)
    assert (line.key, line.title) == (key, "a")
    assert code in line.codes


def test_shifted_columns() -> None:
    line = row(VIDEO, "a", f"{VIDEO}?p=1", "a", "0214", "0230")
    assert (line.segments, line.codes) == (((134.0, 150.0),), ("no_times", "columns_shifted")[1:])
    assert "shifted_url_differs" in row(VIDEO, "a", OTHER, "a", "0214", "0230").codes


def test_times_are_kept_without_a_video() -> None:
    line = row("", "", "0010", "0020")
    assert (line.key, line.segments, line.codes) == (None, ((10.0, 20.0),), ("no_url",))


@given(st.lists(st.text(max_size=60), min_size=7, max_size=7))
def test_any_row_becomes_a_line_that_keeps_its_cells(cells: list[str]) -> None:
    columns = Columns(num_columns=7, url=1, title=2, pairs=((3, 4), (5, 6)))
    line = read_row(cells, columns, kind="static", file="static.csv", row=1)
    assert line.rows[0]["cells"] == cells
    assert "\n" not in line.title


@pytest.mark.parametrize(
    ("cell", "title", "codes"),
    [
        ("【4K】示例", "【4K】示例", ()),
        ("【【4K】示例-哔哩哔哩】", "【4K】示例", ("title_site_suffix", "title_unwrapped")),
        ("示例_哔哩哔哩_bilibili", "示例", ("title_site_suffix",)),
        ("【示例】h", "示例", ("title_stray_letter", "title_unwrapped")),
        ("【示例】 h", "示例", ("title_stray_letter", "title_unwrapped")),
        ("【一】和【二】", "【一】和【二】", ()),
        ("4K】示例", "4K】示例", ("title_unbalanced",)),
        ("】【", "】【", ()),
        (" a\r\n b\x00 ", "a b", ("title_newline",)),
        ("\ud800👨\u200d👩\u202e", "👨\u200d👩", ()),
        ("a" * 200_000, "a" * MAX_TITLE, ("title_cut",)),
        ("", "", ()),
    ],
)
def test_titles(cell: str, title: str, codes: tuple[str, ...]) -> None:
    assert clean_title(cell) == (title, codes)


def test_comparison_of_titles() -> None:
    assert same_title("【4K】Town", "4k town")
    assert same_title("", "a")
    assert not same_title("!", "?")
    assert not same_title("a", "b")


@given(st.one_of(st.binary(max_size=200), st.text(alphabet='a,"\r\n\x00:/0é视', max_size=80).map(str.encode)))
def test_any_file_is_read_or_an_error_names_it(tmp_path_factory, data: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any_static.csv"
    path.write_bytes(b"url,title,start,end\n" + data)
    refusal = str(path)
    try:
        read_table(path, kind="static")
    except ValueError as error:
        refusal = str(error)
    assert str(path) in refusal
