"""Folders of scene files or posed clips are listed and opened alike."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from wnv.scenes.listing import list_scenes, open_scene
from wnv.scenes.posed_clip import PosedClip
from wnv.scenes.scene_file import SceneFile
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
