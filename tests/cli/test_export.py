"""`wnv-export` as a user types it."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def scenes(tmp_path: Path, save_scene: Callable) -> Path:
    for name in ("a", "b"):
        save_scene(tmp_path / "scenes", name, num_frames=2)
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
