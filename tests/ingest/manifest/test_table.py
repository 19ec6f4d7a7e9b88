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
KEY, OTHER_KEY = "bv:BV1vj411L7Dq:p1", "bv:BV1xx411c7mD:p1"


@pytest.fixture
def table(tmp_path: Path):
    def write(text: str, *, encoding: str = "utf-8-sig"):
        path = tmp_path / "static.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return write


@pytest.mark.parametrize(("encoding", "newline"), [("utf-8-sig", "\r\n"), ("utf-8", "\n"), ("gb18030", "\r\n")])
def test_encodings_and_line_ends(table, encoding: str, newline: str) -> None:
    text = newline.join([STATIC, f"1,{VIDEO},海边的示例小镇,0147,0313,,", ""])
    (line,), about = read_table(table(text, encoding=encoding), kind="static")
    assert (about["encoding"], about["codes"]) == (encoding, ["gb18030"] * (encoding == "gb18030"))
    assert (line.key, line.title, line.segments) == (KEY, "海边的示例小镇", ((107.0, 193.0),))
    assert line.rows == (
        {"file": "static.csv", "row": 1, "cells": ["1", VIDEO, "海边的示例小镇", "0147", "0313", "", ""]},
    )


def test_newlines_and_quotes_in_cells_and_empty_rows(table) -> None:
    text = f'{WALK}\r\n\r\n1,{VIDEO},"a ""b""\nc, d"\r\n,,\r\n2,{OTHER},e\r\n'
    lines, about = read_table(table(text), kind="dynamic")
    assert [(line.key, line.title, line.codes) for line in lines] == [
        (KEY, 'a "b" c, d', ("title_newline",)),
        (None, "", ("no_url",)),
        (OTHER_KEY, "e", ()),
    ]
    assert lines[0].rows[0]["cells"][2] == 'a "b"\nc, d'
    assert (about["codes"], about["header"]) == (["header_repaired"], WALK.split(","))


@pytest.mark.parametrize(
    ("header", "columns"),
    [
        (STATIC, (1, 2, ((3, 4), (5, 6)), ())),
        (STATIC.replace("URL", "UR"), (1, 2, ((3, 4), (5, 6)), ("header_repaired",))),
        (
            "Index, url ,Title,Start Time 1,End Time 1,Start Time 2,End Time 2",
            (1, 2, ((3, 4), (5, 6)), (), (None, None)),
        ),
        ("no,Video URL,name,static_start_time_1,static_end_time_1", (1, 2, ((3, 4),), ())),
        ("编号,链接,标题,开始时间1,结束时间1", (1, 2, ((3, 4),), ())),
        (
            "url,start_s,end (s),start_2_sec,end2,",
            (0, None, ((1, 2), (3, 4)), ("unknown_column",), ("seconds", "seconds")),
        ),
        (
            "end,note,start,end 2,start 2,end3,start3,link",
            (7, None, ((2, 0), (4, 3), (6, 5)), ("unknown_column",), (None,) * 3),
        ),
    ],
)
def test_headers(header: str, columns: tuple) -> None:
    assert read_header(header.split(","), where="list.csv")[: len(columns)] == columns


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("1,https://b23.tv/AbCdEf1,title", "address column"),
        ("title;url", "address column"),
        ("url,link", "two address columns"),
        ("url,start1,end1,start2", "segment 2 .*end"),
        ("url,start,end,start1", "two columns for start 1"),
        (f"{WALK}\n1,{VIDEO}\n", "line 2: .*3 cells, got 2"),
        (f'{WALK}\n1,{VIDEO},"a\nb"\n2,{VIDEO},x,y\n', "line 4: .*got 4"),
        (f'{WALK}\n1,{VIDEO},"never closed\n2,{VIDEO},x\n', "line 3: unexpected end of data"),
        (f'{WALK}\n1,{VIDEO},"a"b\n', "line 2: ',' expected after '\"'"),
        (f"{WALK}\n1,{VIDEO},{'a' * 200_000}\n", "line 2: field larger"),
        *[
            (f"url,start,end\n{VIDEO},{cells}\n", "times.*seconds.*mmss")
            for cells in ("147,210", "1500,2100", "0147,210", "0147,210.5", "1:47,210.0")
        ],
    ],
)
def test_invalid_files_are_errors_that_name_the_line(table, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=rf"static\.csv.*{message}"):
        read_table(table(text), kind="static")


def test_other_encodings_are_errors(table) -> None:
    with pytest.raises(ValueError, match="is UTF-16"):
        read_table(table(STATIC, encoding="utf-16"), kind="static")
    with pytest.raises(ValueError, match="line 3: neither UTF-8 nor GB18030"):
        read_table(table("url\nhttps://b23.tv/AbCdEf1\n\xff\xff\n", encoding="latin-1"), kind="static")


def test_kinds_by_name() -> None:
    names = ("static_example.csv", "Walk.csv", "dynamic-2.csv")
    assert [guess_kind(Path("lists") / name) for name in names] == ["static", "dynamic", "dynamic"]
    for name in ("list.csv", "static_walk.csv"):
        with pytest.raises(ValueError, match="kind"):
            guess_kind(Path("static") / name)


@pytest.mark.parametrize(
    ("header", "rows", "times", "segments"),
    [
        ("start,end", "147.5,210", "seconds", (147.5, 210.0)),
        ("start,end", "147,1:02:03", "seconds", (147.0, 3723.0)),
        ("start,end", "147,210", "mmss", (107.0, 130.0)),
        ("start,end", "0147,0210", "auto", (107.0, 130.0)),
        ("start,end", "1:47,2:10", "auto", (107.0, 130.0)),
        ("start,end", "00:01:47.250,0:02:10", "auto", (107.25, 130.0)),
        ("start,end", "147,210.5", "auto", (147.0, 210.5)),
        ("start_s,end_s", "147,210", "auto", (147.0, 210.0)),
        ("静态开始时间1,静态结束时间1", "147,210", "auto", (107.0, 130.0)),
    ],
)
def test_meaning_of_times(table, header: str, rows: str, times: str, segments: tuple[float, float]) -> None:
    (line,), _ = read_table(table(f"url,{header}\n{VIDEO},{rows}\n"), kind="static", times=times)
    assert line.segments == (segments,)


def test_each_pair_of_columns_has_its_own_meaning(table) -> None:
    text = f"url,start1,end1,start2,end2\n{VIDEO},0147,0210,300,310.5\n"
    (line,), _ = read_table(table(text), kind="static")
    assert line.segments == ((107.0, 130.0), (300.0, 310.5))


def row(url: str, title: str = "", *times: str):
    columns = read_header(STATIC.split(","), where="list.csv")
    cells = ["1", url, title, *times, *[""] * (4 - len(times))]
    return read_row(cells, columns, kind="static", file="static.csv", row=1)


@pytest.mark.parametrize(
    ("url", "title", "key", "code"),
    [
        (VIDEO, f"a {VIDEO}?p=1", KEY, "url_in_title"),
        (VIDEO, f"a {OTHER}", KEY, "url_in_title_differs"),
        ("", f"a {OTHER}", OTHER_KEY, "url_from_title"),
        ("https://623.tv/0IOVIC", f"a {OTHER}", OTHER_KEY, "url_from_title"),
        ("file:///etc/passwd", f"a {OTHER}", None, "url_in_title_differs"),
    ],
)
def test_addresses_in_titles(url: str, title: str, key: str | None, code: str) -> None:
    line = row(url, title)
    assert (line.key, line.title) == (key, "a")
    assert code in line.codes


def test_shifted_columns_and_times_without_a_video() -> None:
    line = row(VIDEO, "a", f"{VIDEO}?p=1", "a", "0214", "0230")
    assert (line.segments, line.codes) == (((134.0, 150.0),), ("columns_shifted",))
    assert "shifted_url_differs" in row(VIDEO, "a", OTHER, "a", "0214", "0230").codes
    line = row("", "", "0010", "0020")
    assert (line.key, line.segments, line.codes) == (None, ((10.0, 20.0),), ("no_url",))


@given(st.lists(st.text(max_size=60), min_size=7, max_size=7))
def test_any_row_becomes_a_line_that_keeps_its_cells(cells: list[str]) -> None:
    line = read_row(cells, Columns(1, 2, ((3, 4), (5, 6))), kind="static", file="static.csv", row=1)
    assert line.rows[0]["cells"] == cells
    assert "\n" not in line.title


@pytest.mark.parametrize(
    ("cell", "title", "codes"),
    [
        ("【4K】示例", "【4K】示例", ""),
        ("【【4K】示例-哔哩哔哩】", "【4K】示例", "title_site_suffix title_unwrapped"),
        ("示例_哔哩哔哩_bilibili", "示例", "title_site_suffix"),
        ("【示例】 h", "示例", "title_stray_letter title_unwrapped"),
        ("【一】和【二】", "【一】和【二】", ""),
        ("4K】示例", "4K】示例", "title_unbalanced"),
        ("】【", "】【", ""),
        (" a\r\n b\x00 ", "a b", "title_newline"),
        ("\ud800👨\u200d👩\u202e", "👨\u200d👩", ""),
        ("a" * 200_000, "a" * MAX_TITLE, "title_cut"),
        ("", "", ""),
    ],
)
def test_titles(cell: str, title: str, codes: str) -> None:
    assert clean_title(cell) == (title, tuple(codes.split()))


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
