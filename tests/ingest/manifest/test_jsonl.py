"""Canonical lists on disk."""

import json
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wnv.ingest.manifest.jsonl import encode_json, read_lines, write_lines
from wnv.ingest.manifest.line import ManifestLine

GOOD = {
    "key": "ep:1",
    "url": "https://www.bilibili.com/bangumi/play/ep1",
    "title": "a",
    "kind": "static",
    "segments": [],
}


def write(path: Path, **changes) -> Path:
    path.write_text(json.dumps({**GOOD, **changes}) + "\n")
    return path


def test_there_and_back(tmp_path: Path) -> None:
    lines = [
        ManifestLine(
            key="bv:BV1vj411L7Dq:p2",
            url="https://www.bilibili.com/video/BV1vj411L7Dq?p=2",
            title='海边 "😀"',
            kind="static",
            segments=((1.0, 2.5), (3.0, 4.0)),
            other_segments=((9.0, 10.0),),
            rows=({"file": "static.csv", "row": 1, "cells": ["1", "a\nb"]},),
            codes=("reversed",),
        ),
        ManifestLine(key="b23:AbCdEf1", url="https://b23.tv/AbCdEf1", title="", kind="dynamic"),
        ManifestLine(key="file:a b/视频.mp4", url="a b/视频.mp4", title="", kind="dynamic"),
        ManifestLine(key="url:http://127.0.0.1:81/a?b=1", url="http://127.0.0.1:81/a?b=1", title="", kind="dynamic"),
        ManifestLine(key=None, url=None, title="", kind="static", codes=("no_url",)),
    ]
    path = tmp_path / "list.jsonl"
    write_lines(path, lines)
    assert read_lines(path) == lines
    with pytest.raises(FileExistsError):
        write_lines(path, lines[:1])
    write_lines(path, lines[:1], overwrite=True)
    assert read_lines(path) == lines[:1]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"key": 1}, "key must"),
        ({"title": None}, "title must"),
        ({"kind": "walk"}, "kind must.*walk"),
        ({"segments": None}, "segments must be"),
        ({"segments": [[1]]}, "segments must be"),
        ({"segments": [[1, "2"]]}, "segments must be"),
        ({"segments": [[2, 1]]}, "segments must be"),
        ({"segments": [[-1, 1]]}, "segments must be"),
        ({"segments": [[0, float("nan")]]}, "segments must be"),
        ({"segments": [[0, float("inf")]]}, "segments must be"),
        ({"segments": [[0, 2], [1, 3]]}, "segments must be"),
        ({"segments": [[0, 10**400]]}, "segments must be"),
        ({"segments": [[0, True]]}, "segments must be"),
        ({"other_segments": [[2, 1]]}, "other_segments must be"),
        ({"rows": [1]}, "rows must be"),
        ({"codes": [1]}, "codes must be"),
        ({"extra": 1}, "unknown field 'extra'"),
    ],
)
def test_invalid_lines_are_named(tmp_path: Path, changes: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"line 1: .*{message}"):
        read_lines(write(tmp_path / "list.jsonl", **changes))


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "1", '{"key": null}', "[" * 100_000, '{"segments": [[0, 1' + "0" * 5000 + "]]}", "\xff"],
    ids=lambda text: text[:12],
)
def test_lines_that_are_no_objects_are_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n\n{text}\n", encoding="latin-1")
    with pytest.raises(ValueError, match=r"line (3|1 or after)"):
        read_lines(path)


@pytest.mark.parametrize(
    ("key", "url"),
    [
        ("file:../a.mp4", "../a.mp4"),
        ("file:/etc/passwd", "/etc/passwd"),
        ("file:a.mp4", "b.mp4"),
        ("file:", ""),
        ("file:a\0.mp4", "a\0.mp4"),
        ("file:\ud800.mp4", "\ud800.mp4"),
        ("url:file:///etc/passwd", "file:///etc/passwd"),
        ("url:https://example.org/a", "https://example.org/b"),
        ("url:https://example.org/../a", "https://example.org/../a"),
        ("bv:../..:p1", "https://www.bilibili.com/video/BV1vj411L7Dq?p=1"),
        ("bv:BV1vj411L7Dq:p1", "https://www.bilibili.com/video/BV1vj411L7Dq?p=2"),
        ("bv:BV1vj411L7Dq:p1", None),
        ("b23:../x", "https://b23.tv/../x"),
        ("../../x", "https://example.org/a"),
    ],
)
def test_keys_that_do_not_match_their_address_are_removed(tmp_path: Path, key: str, url: str | None) -> None:
    (line,) = read_lines(write(tmp_path / "list.jsonl", key=key, url=url))
    assert (line.key, line.url, line.codes) == (None, None, ("key_refused",))


@given(st.text())
@example("\ud83d")  # a lone surrogate
def test_any_text_can_be_written(text: str) -> None:
    assert json.loads(encode_json({"a": text})) == {"a": text}


VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=10)),
    lambda values: st.one_of(st.lists(values, max_size=3), st.dictionaries(st.text(max_size=5), values, max_size=3)),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "other_segments", "rows", "codes"]), VALUES))
def test_any_object_is_read_or_an_error_names_its_line(tmp_path_factory, changes: dict) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    try:
        found = read_lines(write(path, **changes))[0].key or "line 1"
    except ValueError as error:
        found = str(error)
    assert "line 1" in found or found == GOOD["key"]
