"""`wnv-data` as a user types it."""

import json
import os
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from wnv.cli import data
from wnv.cli.data_scenes import PHOTO_OPTIONS
from wnv.scenes.importers.capture import ImportOptions
from wnv.scenes.importers.import_scenes import COMMON_OPTIONS, IMPORTERS


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A nerfstudio capture of three pictures."""
    root = tmp_path / "captures" / "room"
    (root / "images").mkdir(parents=True)
    frames = []
    for index in range(3):
        Image.new("RGB", (24, 16), (80 * index, 90, 10)).save(root / "images" / f"{index}.jpg")
        pose = np.eye(4)
        pose[0, 3] = index
        frames.append({"file_path": f"images/{index}.jpg", "transform_matrix": pose.tolist()})
    content = {"fl_x": 20.0, "fl_y": 20.0, "cx": 12.0, "cy": 8.0, "w": 24, "h": 16, "frames": frames}
    (root / "transforms.json").write_text(json.dumps(content))
    return root


def test_import_verify_index(wnv_data, capture: Path, tmp_path: Path) -> None:
    code, out, _ = wnv_data("import", "format=nerfstudio", f"source={capture}", "out=scenes")
    assert code == 0
    assert out.splitlines() == ["scenes/room.zip", "scenes/index.jsonl: 1 scenes, 3 frames"]
    code, out, _ = wnv_data("verify", "path=scenes")
    assert (code, out) == (0, "ok  scenes/room.zip: static, 3 frames of 24 x 16\n")
    (tmp_path / "above").mkdir()
    (tmp_path / "scenes").rename(tmp_path / "above" / "scenes")
    (tmp_path / "above" / "scenes" / "index.jsonl").write_text("no record\n")
    code, _, err = wnv_data("verify", "path=above")
    assert code == 2
    assert "above/scenes/index.jsonl:1" in err
    (tmp_path / "above" / "scenes").rename(tmp_path / "scenes")
    (tmp_path / "above").rmdir()
    code, out, _ = wnv_data("verify", "path=scenes/room.zip")
    assert (code, out) == (0, "ok  scenes/room.zip: static, 3 frames of 24 x 16\n")
    (tmp_path / "scenes" / "index.jsonl").unlink()
    code, out, _ = wnv_data("index", "path=scenes")
    assert (code, out) == (0, "scenes/index.jsonl: 1 scenes, 3 frames\n")
    assert sorted(os.listdir(tmp_path)) == ["captures", "scenes"]  # no folder of Hydra's
    assert sorted(os.listdir(tmp_path / "scenes")) == ["index.jsonl", "room.zip"]


def test_doubtful_cameras_are_reported_by_import_and_verify(wnv_data, capture: Path) -> None:
    content = json.loads((capture / "transforms.json").read_text())
    content["frames"][2]["file_path"] = "images/1.jpg"
    (capture / "transforms.json").write_text(json.dumps(content | {"fl_x": 2000.0, "fl_y": 2000.0}))
    code, _, err = wnv_data("import", "format=nerfstudio", f"source={capture}", "out=scenes")
    assert code == 0
    assert re.search(r"'room': .*5 to 150 degrees, got 0\.68", err)
    assert re.search(r"'room': frames 1 and 2 hold the same image", err)
    code, out, _ = wnv_data("verify", "path=scenes")
    assert (code, out.count("doubtful  scenes/room.zip: scene 'room': ")) == (0, 2)


def test_settings_reach_the_importer(wnv_data, capture: Path, tmp_path: Path) -> None:
    arguments = ["scene_id=den", "kind=dynamic", "max_side=12", "fps=10"]
    code, _, _ = wnv_data("import", "format=nerfstudio", f"source={capture}", "out=scenes", *arguments)
    assert code == 0
    record = json.loads((tmp_path / "scenes" / "index.jsonl").read_text())
    assert record == {"id": "den", "file": "den.zip", "kind": "dynamic", "num_frames": 3, "width": 12, "height": 8}


def test_names_may_look_like_numbers_and_lie_in_the_home_folder(
    wnv_data, capture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    arguments = ["import", "format=nerfstudio", 'source="~/captures/room"', "scene_id=7"]
    code, out, err = wnv_data(*arguments, "out=2024")
    assert (code, out.splitlines()[0]) == (0, "2024/7.zip"), err
    assert wnv_data("verify", "path=2024")[0] == 0
    assert wnv_data(*arguments, 'out="~/a b"')[0] == 0
    code, out, _ = wnv_data("verify", 'path="~/a b/7.zip"')
    assert (code, out) == (0, f"ok  {tmp_path}/a b/7.zip: static, 3 frames of 24 x 16\n")


def test_every_option_is_a_setting() -> None:
    settings = set(OmegaConf.load(Path(__file__).parents[2] / "conf" / "data_import.yaml"))
    options = {name for importer in IMPORTERS.values() for name in importer.options} | {*COMMON_OPTIONS}
    assert options == {field.name for field in fields(ImportOptions)}
    assert set(PHOTO_OPTIONS) <= options
    assert options <= settings


def test_photographs_without_cameras(wnv_data, tmp_path: Path) -> None:
    (tmp_path / "house").mkdir()
    Image.new("RGB", (24, 16)).save(tmp_path / "house" / "a.jpg")
    arguments = ("import", "format=photos", "source=house", "out=scenes")
    code, _, err = wnv_data(*arguments)
    assert (code, "house: few_photos: 1 of 1" in err) == (2, True)
    code, _, err = wnv_data(*arguments, "fps=2")
    assert (code, "format=photos has no option fps" in err) == (2, True)


@pytest.mark.slow
def test_a_damaged_capture_does_not_stop_an_import(wnv_data, tmp_path: Path) -> None:
    source = tmp_path / "re10k"
    for name in "abc":
        (source / name).mkdir(parents=True)
        Image.new("RGB", (24, 16)).save(source / name / "0.jpg")
        (source / f"{name}.txt").write_text("0 0.8 1.2 0.5 0.5 0 0 1 0 0 0 0 1 0 0 0 0 1 0\n")
    (source / "b" / "0.jpg").rename(source / "b" / "7.jpg")
    arguments = ("import", "format=re10k", "source=re10k", "out=scenes")
    code, out, err = wnv_data(*arguments)
    assert code == 1
    assert out.splitlines()[:3] == ["scenes/a.zip", "scenes/c.zip", "scenes/index.jsonl: 2 scenes, 2 frames"]
    assert "re10k/b.txt:1" in err
    (source / "b" / "7.jpg").rename(source / "b" / "0.jpg")
    code, out, _ = wnv_data(*arguments)
    assert (code, out.splitlines()[:2]) == (0, ["scenes/b.zip", "scenes/index.jsonl: 3 scenes, 3 frames"])
    assert wnv_data(*arguments, "overwrite=true")[1].splitlines()[:3] == [f"scenes/{name}.zip" for name in "abc"]
    assert wnv_data(*arguments, "exists=error")[0] == 2


def test_an_index_leaves_out_damaged_scenes(wnv_data, capture: Path, tmp_path: Path) -> None:
    wnv_data("import", "format=nerfstudio", f"source={capture}", "out=scenes")
    (tmp_path / "scenes" / "junk.zip").write_bytes(b"junk")
    code, out, err = wnv_data("index", "path=scenes")
    assert (code, out) == (1, "scenes/index.jsonl: 1 scenes, 3 frames\n")
    assert "junk.zip" in err


@pytest.mark.slow
def test_verify_names_every_invalid_scene(wnv_data, capture: Path, tmp_path: Path) -> None:
    for name in "abc":
        wnv_data("import", "format=nerfstudio", f"source={capture}", "out=scenes", f"scene_id={name}")
    for name in "ac":
        path = tmp_path / "scenes" / f"{name}.zip"
        path.write_bytes(path.read_bytes()[:-30])
    code, out, err = wnv_data("verify", "path=scenes")
    assert code == 2
    assert [line.split(":")[0] for line in out.splitlines()] == [
        "rejected  scenes/a.zip", "ok  scenes/b.zip", "rejected  scenes/c.zip"
    ]  # fmt: skip
    assert "scenes: 2 of 3 scenes" in err
    assert "a.zip" in err
    assert "c.zip" in err


def test_help_shows_an_example_of_each_stage(wnv_data) -> None:
    code, out, _ = wnv_data("--help")
    assert code == 0
    listed = re.findall(r"^  (\w+) ", out, re.MULTILINE)
    assert listed == [*data.STAGES]
    assert listed[:8] == ["manifest", "run", "fetch", "clip", "pose", "pack", "status", "report"]
    for name in data.STAGES:
        assert f"\n            wnv-data {name} " in out


@pytest.mark.parametrize(
    "stage", ["import", *(pytest.param(name, marks=pytest.mark.slow) for name in ("export", "verify", "index"))]
)
def test_help_of_a_stage(wnv_data, tmp_path: Path, stage: str) -> None:
    code, out, _ = wnv_data(stage, "--help")
    assert code == 0
    assert out.startswith(f"wnv-data {stage}: ")
    assert f"\nwnv-data {stage} " in out
    assert (": null" if stage == "export" else ": ???") in out  # what must be set
    assert os.listdir(tmp_path) == []
