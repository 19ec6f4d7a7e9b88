"""`wnv-export` as a user types it."""

import os
import re
from pathlib import Path

import numpy as np
import pytest

from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import Frame, SceneInfo


@pytest.fixture
def scenes(tmp_path: Path) -> Path:
    K = np.array([[20.0, 0, 12], [0, 20.0, 8], [0, 0, 1]])
    frames = tuple(Frame(time_s=i, K=K, camtoworld=np.eye(4)) for i in range(2))
    for name in ("a", "b"):
        info = SceneInfo(id=name, kind="static", width=24, height=16, frames=frames)
        write_scene(tmp_path / "scenes", info, [np.zeros((16, 24, 3), np.uint8)] * 2)
    return tmp_path / "scenes"


@pytest.mark.parametrize(
    ("name", "first"),
    [("nerfstudio", "transforms.json"), ("colmap", "sparse/0"), ("lvsm", "metadata/a.json")],
)
def test_a_scene(wnv_export, scenes: Path, tmp_path: Path, name: str, first: str) -> None:
    code, out, err = wnv_export(f"format={name}", "scene=scenes/a.zip", "out=out")
    assert (code, out, err) == (0, f"out/{first}\n", "")
    assert (tmp_path / "out" / first).exists()
    assert sorted(os.listdir(tmp_path)) == ["out", "scenes"]  # no folder of Hydra's
    code, _, err = wnv_export(f"format={name}", "scene=scenes/a.zip", "out=out")
    assert (code, len(err.splitlines())) == (2, 1)
    assert re.match("wnv-export: error: out .*overwrite=true", err)
    assert wnv_export(f"format={name}", "scene=scenes/a.zip", "out=out", "overwrite=true")[0] == 0


def test_a_folder_of_scenes(wnv_export, scenes: Path) -> None:
    code, out, _ = wnv_export("format=colmap", "scene=scenes", "out=out")
    assert (code, out.splitlines()) == (0, ["out/a/sparse/0", "out/b/sparse/0"])


def test_a_url(wnv_export, scenes: Path, tmp_path: Path) -> None:
    code, _, _ = wnv_export("format=lvsm", f"scene=file://{scenes}/b.zip", "out=out")
    assert code == 0
    assert (tmp_path / "out" / "metadata" / "b.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("format=obj", "scene=scenes/a.zip", "out=out"), "format.*obj"),
        (("format=colmap", "scene=scenes/no.zip", "out=out"), r"scenes/no\.zip"),
        (("format=colmap", "scene=scenes/a.zip"), "out="),
        (("format=colmap", "scene=scenes/a.zip", "out=s3://bucket/out"), "out.*s3://bucket/out"),
        (("format=colmap", "scene=scenes/a.zip", "out=out", "overwrite=no"), "overwrite.*'no'"),
    ],
)
def test_mistakes_are_one_line_and_code_2(wnv_export, scenes: Path, arguments: tuple, message: str) -> None:
    code, out, err = wnv_export(*arguments)
    assert (code, out) == (2, "")
    assert re.fullmatch(f"wnv-export: error: .*{message}.*\n", err)
