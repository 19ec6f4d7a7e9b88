"""Folders of scene files or posed clips are listed and opened alike."""

import json
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from wnv.scenes import listing
from wnv.scenes.listing import list_scenes, open_scene
from wnv.scenes.posed_clip import PosedClip
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneError


def test_clips_with_poses_are_found(tmp_path: Path, write_posed_clip: Callable) -> None:
    first = write_posed_clip(tmp_path, "b", num_frames=6)
    write_posed_clip(tmp_path / "deeper", "a", num_frames=8)
    write_posed_clip(tmp_path, "unposed", num_frames=2).with_suffix(".json").unlink()
    (tmp_path / "notes.json").write_text("[]")
    scenes = list_scenes(tmp_path)
    assert {name: scene.num_frames for name, scene in scenes.items()} == {"b": 3, "a": 4}
    for scene in scenes.values():
        source = open_scene(scene.path)
        assert isinstance(source, PosedClip)
        assert len(source) == scene.num_frames
    for path in (first, first.with_suffix(".json")):
        assert list(list_scenes(path)) == ["b"]
    shutil.copytree(tmp_path / "deeper", tmp_path / "twice")
    with pytest.raises(ValueError, match="have the id 'a'"):
        list_scenes(tmp_path)


def test_broken_poses_are_named(tmp_path: Path, write_posed_clip: Callable) -> None:
    path = write_posed_clip(tmp_path, "b", num_frames=6).with_suffix(".json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"width": 0}))
    with pytest.raises(SceneError, match="scene 'b'"):
        list_scenes(tmp_path)


def test_a_folder_holds_clips_or_scene_files(tmp_path: Path, write_posed_clip: Callable, scene_file: Path) -> None:
    assert isinstance(open_scene(str(scene_file)), SceneFile)
    assert list(list_scenes(tmp_path)) == list(list_scenes(scene_file)) == ["room"]
    write_posed_clip(tmp_path, "b", num_frames=6)
    with pytest.raises(ValueError, match="clips and scene files"):
        list_scenes(tmp_path)


def test_an_empty_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"holds no scene file"):
        list_scenes(tmp_path)
    with pytest.raises(FileNotFoundError, match="root not found"):
        list_scenes(tmp_path / "none")


def test_a_folder_without_an_index_is_listed_once_per_host(
    tmp_path: Path, make_info: Callable, make_images: Callable, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    monkeypatch.setattr(listing, "_MIN_SHARED", 3)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    root = tmp_path / "data"
    for name in "abc":
        write_scene(root, make_info(id=name), make_images())
    with caplog.at_level(logging.INFO):
        first = list_scenes(root)
        assert list_scenes(root) == first
        assert [scene.num_frames for scene in first.values()] == [3, 3, 3]
        (record,) = caplog.records
        assert re.search(r"3 scene files .*wnv-data index path=.*data", record.getMessage())
        write_scene(root, make_info(2, id="b"), make_images(2), overwrite=True)
        assert list_scenes(root)["b"].num_frames == 2
        assert len(caplog.records) == 2
        (damaged,) = tmp_path.glob("wnv-listings-*/*.json")
        damaged.write_text('{"key": 1}')
        assert list(list_scenes(root)) == ["a", "b", "c"]
