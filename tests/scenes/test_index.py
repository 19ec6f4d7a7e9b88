"""The index of a folder."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import fsspec
import pytest

from wnv.scenes.index import SceneRecord, build_index, find_scenes, read_index
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneError


@pytest.fixture
def folder(tmp_path: Path, make_info: Callable, make_images: Callable) -> Path:
    root = tmp_path / "data"
    write_scene(root, make_info(id="b", kind="dynamic"), make_images())
    write_scene(root, make_info(2, id="a"), make_images(2))
    write_scene(root / "more", make_info(1, id="c"), make_images(1))
    return root


def test_one_line_per_scene(folder: Path) -> None:
    records = build_index(folder).records
    assert records == [
        SceneRecord(id="a", file="a.zip", kind="static", num_frames=2, width=24, height=16),
        SceneRecord(id="b", file="b.zip", kind="dynamic", num_frames=3, width=24, height=16),
        SceneRecord(id="c", file="more/c.zip", kind="static", num_frames=1, width=24, height=16),
    ]
    assert read_index(folder) == records
    lines = (folder / "index.jsonl").read_text().splitlines()
    assert json.loads(lines[0]) == {
        "id": "a", "file": "a.zip", "kind": "static", "num_frames": 2, "width": 24, "height": 16
    }  # fmt: skip


def test_unfinished_files_are_not_scenes(folder: Path) -> None:
    (folder / ".a.zip.host-1-00000000.tmp").write_bytes(b"half")
    (folder / ".hidden.zip").write_bytes(b"half")
    assert [path.name for path in find_scenes(folder)] == ["a.zip", "b.zip", "c.zip"]


def test_invalid_scenes_are_left_out_and_named(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    (folder / "x.zip").write_bytes(b"no")
    (folder / "b.zip").write_bytes((folder / "b.zip").read_bytes()[:100])
    (folder / "copy.zip").write_bytes((folder / "a.zip").read_bytes())
    index = build_index(folder)
    assert [record.id for record in index.records] == [record.id for record in read_index(folder)] == ["a", "c"]
    for rejected, match in zip(index.rejected, ("b.zip: .*truncated", "copy.zip: .*'a'", "x.zip: "), strict=True):
        assert re.match(match, rejected)
        assert rejected in caplog.text


def test_an_index_is_kept_if_every_scene_is_invalid(folder: Path) -> None:
    build_index(folder)
    before = (folder / "index.jsonl").read_text()
    for path in find_scenes(folder):
        path.write_bytes(b"no")
    with pytest.raises(SceneError, match=r"3 of 3(?s:.*)b\.zip(?s:.*)c\.zip"):
        build_index(folder)
    assert (folder / "index.jsonl").read_text() == before


def test_folders_without_scenes(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such folder"):
        build_index(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match=r"holds no scene file .*wnv-data import"):
        build_index(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"has no index\.jsonl; run `wnv-data index path="):
        read_index(tmp_path)


def test_an_index_that_does_not_fit_its_folder_is_reported_and_can_be_rebuilt(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    build_index(folder)
    (folder / "a.zip").rename(folder / "new.zip")
    with pytest.raises(FileNotFoundError, match=r"a\.zip is in the index but missing.*wnv-data index"):
        read_index(folder)
    assert [record.file for record in build_index(folder).records] == ["b.zip", "more/c.zip", "new.zip"]
    (folder / "more" / "copy.zip").write_bytes(b"")
    assert [record.id for record in read_index(folder)] == ["b", "c", "a"]
    assert "1 scene files are not in the index and not used (first: more/copy.zip)" in caplog.text


def test_an_index_on_an_object_store(folder: Path) -> None:
    records = build_index(folder).records
    with fsspec.open("memory://indexed/index.jsonl", "wb") as file:
        file.write((folder / "index.jsonl").read_bytes())
    assert read_index("memory://indexed/") == records
    with pytest.raises(FileNotFoundError, match=r"memory://elsewhere has no index\.jsonl"):
        read_index("memory://elsewhere")


LINE = {"id": "a", "file": "a.zip", "kind": "static", "num_frames": 2, "width": 24, "height": 16}
BROKEN = {
    "not json": ("{", r"index\.jsonl:2: not a line of JSON"),
    "no object": ("[]", r"index\.jsonl:2: must be an object"),
    "lacks a field": (json.dumps({"id": "a"}), r"index\.jsonl:2: .*'file'"),
    "wrong type": (json.dumps(LINE | {"width": "24"}), r"index\.jsonl:2: field 'width' .*'24'"),
    "wrong kind": (json.dumps(LINE | {"kind": "x"}), r"index\.jsonl:2: kind .*'x'"),
    "leaves": (json.dumps(LINE | {"file": "../a.zip"}), r"index\.jsonl:2: file '\.\./a\.zip' leaves"),
    "twice": (json.dumps(LINE | {"id": "b"}), "names scene 'b' 2 times"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_index_is_rejected(tmp_path: Path, name: str) -> None:
    line, message = BROKEN[name]
    (tmp_path / "index.jsonl").write_text("\n")
    with pytest.raises(ValueError, match="names no scene"):
        read_index(tmp_path)
    (tmp_path / "index.jsonl").write_text(json.dumps(LINE | {"id": "b"}) + "\n" + line + "\n")
    with pytest.raises(ValueError, match=message):
        read_index(tmp_path)
