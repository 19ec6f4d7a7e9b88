"""The manifest stage as a whole: shipped examples, outputs, and ten thousand rows."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from wnv.ingest.manifest.bilibili_id import av_to_bv
from wnv.ingest.manifest.codes import CODES, REFUSAL_CODES
from wnv.ingest.manifest.jsonl import read_lines
from wnv.ingest.manifest.manifest import make_manifest

EXAMPLES = Path(__file__).parents[3] / "data_manifests"
SOURCES = [EXAMPLES / "example_static.csv", EXAMPLES / "example_walk.csv"]
WALK = "序号,UR,视频标题\r\n1,https://b23.tv/AbCdEf1,a\r\n"


def test_the_shipped_tables_give_the_shipped_canonical_list(tmp_path: Path) -> None:
    result = make_manifest(SOURCES, out=tmp_path / "example.jsonl")
    for name in ("example.jsonl", "example.jsonl.report.json"):
        made, shipped = ((folder / name).read_text() for folder in (tmp_path, EXAMPLES))
        assert made.replace(f"{EXAMPLES}/", "") == shipped
    assert read_lines(tmp_path / "example.jsonl") == result.lines


def test_every_row_is_in_one_line(tmp_path: Path) -> None:
    result = make_manifest(SOURCES)
    places = [(row["file"], row["row"]) for line in result.lines for row in line.rows]
    expected = [
        (path.name, row) for path, num_rows in zip(SOURCES, (24, 10), strict=True) for row in range(1, num_rows + 1)
    ]
    assert sorted(places) == expected
    report = result.report
    assert report["num_rows"] == 34
    assert report["num_lines"] == report["num_keys"] + report["num_without_key"] == len(result.lines)
    assert all(REFUSAL_CODES.keys() & set(line.codes) for line in result.lines if line.key is None)
    assert report["codes"].keys() <= CODES.keys()
    # Rows count in their file, also where they were merged.
    assert report["files"][0]["codes"]["zero_length"] == report["codes"]["zero_length"] == 2
    assert report["files"][1]["codes"]["header_repaired"] == report["codes"]["header_repaired"] == 1
    assert report["codes"]["duplicate_in_file"] == report["codes"]["duplicate_across_files"] == 1


def test_a_canonical_list_is_a_fixed_point(tmp_path: Path) -> None:
    first = make_manifest(SOURCES, out=tmp_path / "a.jsonl")
    second = make_manifest([tmp_path / "a.jsonl"], out=tmp_path / "b.jsonl")
    assert second.lines == first.lines
    assert (tmp_path / "a.jsonl").read_bytes() == (tmp_path / "b.jsonl").read_bytes()


def test_the_format_of_the_published_script(tmp_path: Path) -> None:
    make_manifest(SOURCES, json_out=tmp_path / "metadata.json")
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


@pytest.fixture
def walk(tmp_path: Path) -> Path:
    path = tmp_path / "walk.csv"
    path.write_text(WALK, encoding="utf-8-sig", newline="")
    return path


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


def test_a_source_is_never_overwritten(walk: Path) -> None:
    with pytest.raises(ValueError, match="would overwrite"):
        make_manifest([walk], out=walk, overwrite=True)


def test_a_folder_of_videos(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").touch()
    result = make_manifest([tmp_path], kind="dynamic")
    assert [line.key for line in result.lines] == ["file:a.mp4"]
    assert result.report["key_forms"] == {"file": 1}
    with pytest.raises(ValueError, match="kind must be set"):
        make_manifest([tmp_path])


def test_one_kind_per_source(tmp_path: Path, walk: Path) -> None:
    other = walk.with_name("other.csv")
    other.write_text("url\nhttps://b23.tv/AbCdEf2\n")
    assert [line.kind for line in make_manifest([walk, other], kind=["static", "dynamic"]).lines] == [
        "static",
        "dynamic",
    ]
    assert [line.kind for line in make_manifest([walk, other], kind=[None, "static"]).lines] == ["dynamic", "static"]
    with pytest.raises(ValueError, match="got 1 for 2 sources"):
        make_manifest([walk, other], kind=["static"])
    with pytest.raises(ValueError, match="source must"):
        make_manifest([])


def test_two_files_of_one_name_are_distinguished(tmp_path: Path, walk: Path) -> None:
    twin = tmp_path / "more" / "walk.csv"
    twin.parent.mkdir()
    twin.write_bytes(walk.read_bytes())
    (line,) = make_manifest([walk, twin]).lines
    assert [row["file"] for row in line.rows] == [str(walk), str(twin)]
    assert line.codes == ("short_link", "duplicate_across_files")


def test_short_links_by_the_lock_file(tmp_path: Path, walk: Path) -> None:
    lock_file = tmp_path / "links.json"
    video = "https://www.bilibili.com/video/BV1vj411L7Dq"
    asked = make_manifest([walk], lock_file=lock_file, opener=lambda url: video)
    offline = make_manifest([walk], lock_file=lock_file)
    assert [line.key for line in asked.lines] == ["bv:BV1vj411L7Dq:p1"]
    assert offline.lines == asked.lines
    with pytest.raises(ValueError, match="lock_file"):
        make_manifest([walk], opener=lambda url: video)


def test_missing_sources_are_errors(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere\.csv"):
        make_manifest([tmp_path / "nowhere.csv"])


def test_malicious_addresses_become_lines_without_keys(tmp_path: Path) -> None:
    tricks = [
        "file:///etc/passwd",
        "../../etc/passwd",
        "javascript:alert(1)",
        "https://a:b@example.org/x.mp4",
        "/dev/sda",
    ]
    path = tmp_path / "walk.csv"
    path.write_text("url,title\n" + "".join(f"{trick},../../x\n" for trick in tricks))
    result = make_manifest([path], out=tmp_path / "walk.jsonl")
    assert [line.key for line in result.lines] == [None] * len(tricks)
    assert result.report["num_without_key"] == len(tricks)


@pytest.mark.slow
def test_ten_thousand_rows(tmp_path: Path) -> None:
    rows = ["序号,URL,视频标题,静态开始时间1,静态结束时间1,静态开始时间2,静态结束时间2"]
    for index in range(10_000):
        video = f"https://www.bilibili.com/video/{av_to_bv(2**50 + index % 9_000)}"
        url = (
            f"【示例 {index}】 {video}/?share_source=copy_web&vd_source=0123"
            if index % 3
            else f"https://b23.tv/Ab{index:05d}"
        )
        rows.append(f"{index + 1},{url},【【4K】示例 {index}-哔哩哔哩】,0147,0313,{index % 60:02d}60,12241")
    path = tmp_path / "static.csv"
    path.write_text("\r\n".join(rows), encoding="utf-8-sig", newline="")
    # In its own process, without the type checks of the tests; it prints its processor time.
    command = (
        "import sys, time; from pathlib import Path; from wnv.ingest.manifest.manifest import make_manifest; "
        "start = time.process_time(); report = make_manifest([Path(sys.argv[1])], out=Path(sys.argv[2])).report; "
        "print(report['num_rows'], time.process_time() - start)"
    )
    outcome = subprocess.run(
        [sys.executable, "-c", command, str(path), str(tmp_path / "static.jsonl")], capture_output=True, text=True
    )
    assert outcome.returncode == 0, outcome.stderr
    num_rows, seconds = outcome.stdout.split()
    assert num_rows == "10000"
    assert float(seconds) < 3  # 0.8 s on the author's machine
