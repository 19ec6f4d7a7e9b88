import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wnv.scenes.export_scene import export_scene
from wnv.scenes.points import Points, points_from_ply, points_to_ply
from wnv.scenes.scene_file import SceneFile, validate_scene
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneError

POINTS = Points(
    xyz=np.array([[0.5, -1.25, 3.0], [4.0, 5.0, 6.5]]), rgb=np.array([[255, 0, 7], [1, 2, 3]], dtype=np.uint8)
)


def assert_same(found: Points | None) -> None:
    assert found is not None
    np.testing.assert_array_equal(found.xyz, POINTS.xyz)
    np.testing.assert_array_equal(found.rgb, POINTS.rgb)


@pytest.fixture
def scene(tmp_path: Path, make_info: Callable, make_images: Callable) -> Path:
    return write_scene(tmp_path, make_info(4), make_images(4), points=POINTS)


def test_points_of_a_scene_file_are_a_ply_file(scene: Path, tmp_path: Path, make_info: Callable, make_images: Callable):
    assert_same(SceneFile(scene).points())
    validate_scene(scene)
    assert SceneFile(write_scene(tmp_path / "other", make_info(4), make_images(4))).points() is None


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data.replace(b"float x", b"double x")])
def test_another_layout_is_named(change: Callable[[bytes], bytes]):
    assert_same(points_from_ply(points_to_ply(POINTS), where="here"))
    with pytest.raises(SceneError, match=r"here.*PLY"):
        points_from_ply(change(points_to_ply(POINTS)), where="here")
    with pytest.raises(SceneError, match="not finite"):
        points_from_ply(points_to_ply(Points(xyz=np.full((2, 3), np.inf), rgb=POINTS.rgb)), where="here")


@pytest.mark.parametrize("suffix", [".txt", ".bin"])
def test_exports_and_imports_of_colmap_keep_points(scene: Path, tmp_path: Path, run_import: Callable, suffix: str):
    export_scene(scene, tmp_path / "room", format="colmap")
    if suffix == ".bin":
        _to_binary(tmp_path / "room" / "sparse" / "0")
    (path,) = run_import("colmap", tmp_path / "room", tmp_path / "out")
    assert_same(SceneFile(path).points())
    file = tmp_path / "room" / "sparse" / "0" / f"points3D{suffix}"
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(ValueError, match=f"points3D{suffix}"):
        run_import("colmap", tmp_path / "room", tmp_path / "damaged")


def test_nerfstudio_gets_a_ply_file(scene: Path, tmp_path: Path):
    export_scene(scene, tmp_path / "room", format="nerfstudio")
    assert_same(points_from_ply((tmp_path / "room" / "points.ply").read_bytes(), where="here"))


def _to_binary(model: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    pycolmap.Reconstruction(model).write_binary(model)
    for file in model.glob("*.txt"):
        file.unlink()
    # pycolmap leaves out points without a track.
    points = b"".join(
        struct.pack("<Q3d3BdQ", index + 1, *xyz, *map(int, rgb), 0.0, 2) + struct.pack("<4i", 1, 0, 2, 0)
        for index, (xyz, rgb) in enumerate(zip(POINTS.xyz, POINTS.rgb, strict=True))
    )
    (model / "points3D.bin").write_bytes(struct.pack("<Q", len(POINTS)) + points)
