"""The manifest stage as a whole: shipped examples, outputs, folders, and ten thousand rows."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import wnv.ingest.manifest.codes
from wnv.ingest.manifest.bilibili_id import av_to_bv
from wnv.ingest.manifest.codes import CODES, FILE_CODES, LINE_CODES, REFUSAL_CODES, ROW_CODES
from wnv.ingest.manifest.jsonl import read_lines
from wnv.ingest.manifest.manifest import make_manifest
from wnv.ingest.manifest.videos import read_videos

EXAMPLES = Path(__file__).parents[3] / "data_manifests"
SOURCES = [EXAMPLES / "example_static.csv", EXAMPLES / "example_walk.csv"]
WALK = "序号,UR,视频标题\r\n1,https://b23.tv/AbCdEf1,a\r\n"


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    path = tmp_path / "walk.csv"
    path.write_text(WALK, encoding="utf-8-sig", newline="")
    return path


def test_the_shipped_tables_give_the_shipped_canonical_list(tmp_path: Path) -> None:
    result = make_manifest(SOURCES, out=tmp_path / "example.jsonl")
    for name in ("example.jsonl", "example.jsonl.report.json"):
        made, shipped = ((folder / name).read_text() for folder in (tmp_path, EXAMPLES))
        assert made.replace(f"{EXAMPLES}/", "") == shipped
    assert read_lines(tmp_path / "example.jsonl") == result.lines
    again = make_manifest([tmp_path / "example.jsonl"], out=tmp_path / "again.jsonl")
    assert again.lines == result.lines


def test_every_row_is_in_one_line(tmp_path: Path) -> None:
    result = make_manifest(SOURCES, json_out=tmp_path / "metadata.json")
    places = [(row["file"], row["row"]) for line in result.lines for row in line.rows]
    expected = [
        (path.name, row) for path, num_rows in zip(SOURCES, (24, 10), strict=True) for row in range(1, num_rows + 1)
    ]
    assert sorted(places) == expected
    assert all(REFUSAL_CODES.keys() & set(line.codes) for line in result.lines if line.key is None)
    assert result.report["codes"].keys() <= CODES.keys()
    # In the format of the published script.
    entries = json.loads((tmp_path / "metadata.json").read_text())
    assert len(entries) == 34
    first = entries[0]
    assert list(first) == ["index", "video_id", "url", "title", "type", "static_segments"]
    assert (first["index"], first["video_id"], first["type"]) == (1, av_to_bv(2**50), "static")
    assert first["static_segments"] == [{"start_time": "00:00", "end_time": "00:43"}]
    assert entries[5]["static_segments"][1] == {"start_time": "1:22:41", "end_time": "1:23:08"}
    assert (entries[3]["video_id"], entries[19]["video_id"], entries[15]["video_id"]) == ("AbCdEf1", "ep9999999", None)
    assert (entries[24]["index"], entries[24]["type"]) == (1, "walk")
    assert "static_segments" not in entries[24]


def test_codes_are_unique_and_used() -> None:
    assert len(CODES) == sum(len(codes) for codes in (REFUSAL_CODES, ROW_CODES, LINE_CODES, FILE_CODES))
    files = Path(wnv.ingest.manifest.codes.__file__).parent.glob("*.py")
    source = "".join(path.read_text() for path in files if path.name != "codes.py")
    assert [code for code in CODES if f'"{code}"' not in source] == []


@pytest.mark.parametrize("name", ["walk.jsonl", "walk.jsonl.report.json", "walk.json"])
def test_existing_files_are_not_replaced(tmp_path: Path, walk: Path, name: str) -> None:
    outputs = {"out": tmp_path / "walk.jsonl", "json_out": tmp_path / "walk.json"}
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{name} exists"):
        make_manifest([walk], **outputs)
    assert (tmp_path / name).read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted({"walk.csv", name})
    make_manifest([walk], **outputs, overwrite=True)
    assert (tmp_path / name).read_text() != "mine"
    assert len(list(tmp_path.iterdir())) == 4


def test_kinds_and_names_of_sources(tmp_path: Path, walk: Path) -> None:
    other = walk.with_name("other.csv")
    other.write_text("url\nhttps://b23.tv/AbCdEf2\n")
    for kinds, expected in ((["static", "dynamic"], ["static", "dynamic"]), ([None, "static"], ["dynamic", "static"])):
        assert [line.kind for line in make_manifest([walk, other], kind=kinds).lines] == expected
    twin = tmp_path / "more" / "walk.csv"
    twin.parent.mkdir()
    twin.write_bytes(walk.read_bytes())
    (line,) = make_manifest([walk, twin]).lines
    assert [row["file"] for row in line.rows] == [str(walk), str(twin)]
    assert line.codes == ("short_link", "duplicate_across_files")


def test_invalid_arguments_are_errors(tmp_path: Path, walk: Path) -> None:
    for message, sources, settings in (
        ("source must", [], {}),
        ("got 1 for 2 sources", [walk, walk], {"kind": ["static"]}),
        ("kind must be set", [tmp_path], {}),
        ("lock_file", [walk], {"opener": str}),
        ("would overwrite", [walk], {"out": walk, "overwrite": True}),
    ):
        with pytest.raises(ValueError, match=message):
            make_manifest(sources, **settings)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        make_manifest([tmp_path / "nowhere.csv"])


def test_short_links_by_the_lock_file(tmp_path: Path, walk: Path) -> None:
    lock_file = tmp_path / "links.json"
    video = "https://www.bilibili.com/video/BV1vj411L7Dq"
    asked = make_manifest([walk], lock_file=lock_file, opener=lambda url: video)
    assert [line.key for line in asked.lines] == ["bv:BV1vj411L7Dq:p1"]
    assert make_manifest([walk], lock_file=lock_file).lines == asked.lines


def test_videos_are_found_in_all_subfolders(tmp_path: Path) -> None:
    for name in ["b.MP4", "a/视频 😀.mov", "a/notes.txt", ".hidden/c.mp4", "a/._d.mp4", "z.mkv"]:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "loop").symlink_to(tmp_path)
    result = make_manifest([tmp_path], kind="dynamic")
    assert [(line.key, line.url, line.title, line.kind) for line in result.lines] == [
        ("file:b.MP4", "b.MP4", "b", "dynamic"),
        ("file:z.mkv", "z.mkv", "z", "dynamic"),
        ("file:a/视频 😀.mov", "a/视频 😀.mov", "视频 😀", "dynamic"),
    ]
    assert result.lines[2].rows == ({"file": str(tmp_path), "row": 3, "cells": ["a/视频 😀.mov"]},)
    assert (result.report["key_forms"], result.report["files"][0]["num_other_files"]) == ({"file": 3}, 1)


def test_a_single_video_and_a_single_address(tmp_path: Path) -> None:
    (tmp_path / "a b.MOV").touch()
    (tmp_path / "other.mp4").touch()
    result = make_manifest([tmp_path / "a b.MOV", "https://youtu.be/X?utm_source=a"], kind="static")
    assert [(line.key, line.url) for line in result.lines] == [
        ("file:a b.MOV", "a b.MOV"),
        ("url:https://youtu.be/X", "https://youtu.be/X"),
    ]
    assert result.report["codes"] == {"query_removed": 1}
    with pytest.raises(ValueError, match=r"source=https://b23.tv: .*single video"):
        make_manifest(["https://b23.tv"], kind="static")


def test_links_and_unsupported_files_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder, other = tmp_path / "videos", tmp_path / "other"
    for path in (folder / "a.QT", folder / "b.insv", other / "c.mp4"):
        path.parent.mkdir(exist_ok=True)
        path.touch()
    (folder / "again").symlink_to(folder)
    for name in ("x", "y"):
        (folder / name).symlink_to(other)
    found = {
        follow: [line.key for line in read_videos(folder, kind="static", follow_links=follow)[0]]
        for follow in (False, True)
    }
    assert found == {False: ["file:a.QT"], True: ["file:a.QT", "file:x/c.mp4"]}
    assert "1 videos are left out" in caplog.text
    assert "b.insv" in caplog.text
    assert "3 links to folders are not followed" in caplog.text


def test_a_name_that_is_not_utf8_is_a_line_without_a_key(tmp_path: Path) -> None:
    try:
        (tmp_path / os.fsdecode(b"\xff.mp4")).touch()
    except OSError:
        pytest.skip("this file system accepts UTF-8 names only")
    lines, _ = read_videos(tmp_path, kind="static")
    assert [(line.key, line.codes) for line in lines] == [(None, ("file_name_unwritable",))]


def test_folders_without_videos(tmp_path: Path) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match=r"no videos .* 1 files"):
        read_videos(tmp_path, kind="static")


@pytest.mark.slow
def test_ten_thousand_rows(tmp_path: Path) -> None:
    rows = ["序号,URL,视频标题,静态开始时间1,静态结束时间1,静态开始时间2,静态结束时间2"]
    for index in range(10_000):
        video = f"https://www.bilibili.com/video/{av_to_bv(2**50 + index % 9_000)}"
        tracked = f"【示例 {index}】 {video}/?share_source=copy_web&vd_source=0123"
        url = tracked if index % 3 else f"https://b23.tv/Ab{index:05d}"
        rows.append(f"{index + 1},{url},【【4K】示例 {index}-哔哩哔哩】,0147,0313,{index % 60:02d}60,12241")
    path = tmp_path / "static.csv"
    path.write_text("\r\n".join(rows), encoding="utf-8-sig", newline="")
    # In its own process, without the type checks of the tests; it prints its processor time.
    command = (
        "import sys, time; from pathlib import Path; from wnv.ingest.manifest.manifest import make_manifest; "
        "start = time.process_time(); report = make_manifest([Path(sys.argv[1])], out=Path(sys.argv[2])).report; "
        "print(report['num_rows'], time.process_time() - start)"
    )
    arguments = [sys.executable, "-c", command, str(path), str(tmp_path / "static.jsonl")]
    num_rows, seconds = subprocess.run(arguments, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    assert num_rows == "10000"
    assert float(seconds) < 3  # 0.8 s on the author's machine
