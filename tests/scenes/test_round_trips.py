"""What is exported and imported again is what it was: cameras to 1e-6 (in truth to rounding), pictures to the byte."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wnv.scenes.exporters.colmap import export_colmap
from wnv.scenes.exporters.lvsm import export_lvsm
from wnv.scenes.exporters.nerfstudio import export_nerfstudio
from wnv.scenes.importers.colmap import import_colmap
from wnv.scenes.importers.lvsm import import_lvsm
from wnv.scenes.importers.nerfstudio import import_nerfstudio
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import SceneFile, validate_scene
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneInfo


def _assert_same(found: SceneFile, expected: SceneFile, *, times: bool) -> None:
    assert (found.info.width, found.info.height) == (expected.info.width, expected.info.height)
    assert len(found) == len(expected)
    np.testing.assert_allclose(found.info.K, expected.info.K, rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.info.camtoworld, expected.info.camtoworld, rtol=0, atol=1e-12)
    if times:
        np.testing.assert_array_equal(found.info.times_s, expected.info.times_s)
    for index in range(len(expected)):
        assert found.image_bytes(index) == expected.image_bytes(index)


@pytest.fixture(params=[False, True], ids=["own K", "shared K"])
def scene(
    request: pytest.FixtureRequest, tmp_path: Path, make_info: Callable[..., SceneInfo], make_images: Callable
) -> Path:
    # More than ten frames: 10 must not come before 2.
    return write_scene(tmp_path / "before", make_info(12, shared_K=request.param), make_images(12))


def test_nerfstudio(scene: Path, tmp_path: Path) -> None:
    exported = export_nerfstudio(scene, tmp_path / "room")
    (path,) = import_nerfstudio(exported, tmp_path / "after")
    assert path.name == scene.name
    validate_scene(path)
    _assert_same(open_scene(path), open_scene(scene), times=True)


def test_colmap(scene: Path, tmp_path: Path) -> None:
    export_colmap(scene, tmp_path / "room")
    (path,) = import_colmap(tmp_path / "room", tmp_path / "after")
    assert path.name == scene.name
    validate_scene(path)
    _assert_same(open_scene(path), open_scene(scene), times=False)


def test_colmap_by_way_of_its_binary_form(scene: Path, tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="turns the text model into a binary one")
    model = export_colmap(scene, tmp_path / "room")
    pycolmap.Reconstruction(model).write_binary(model)
    for file in model.glob("*.txt"):
        file.unlink()
    (path,) = import_colmap(tmp_path / "room", tmp_path / "after")
    _assert_same(open_scene(path), open_scene(scene), times=False)


def test_lvsm(scene: Path, tmp_path: Path) -> None:
    exported = export_lvsm(scene, tmp_path / "room")
    for source in (exported, tmp_path / "room", tmp_path / "room" / "full_list.txt"):
        (path,) = import_lvsm(source, tmp_path / "after", overwrite=True)
        assert path.name == scene.name
        validate_scene(path)
        _assert_same(open_scene(path), open_scene(scene), times=False)


def test_a_scene_of_png_keeps_them(tmp_path: Path, make_info: Callable[..., SceneInfo], make_images: Callable) -> None:
    scene = write_scene(tmp_path / "before", make_info(), make_images(), image_format="png")
    exported = export_nerfstudio(scene, tmp_path / "room")
    (path,) = import_nerfstudio(exported, tmp_path / "after", image_format="png")
    _assert_same(open_scene(path), open_scene(scene), times=True)


def test_through_all_forms_in_turn(scene: Path, tmp_path: Path) -> None:
    (second,) = import_nerfstudio(export_nerfstudio(scene, tmp_path / "1" / "room"), tmp_path / "a")
    export_colmap(second, tmp_path / "2" / "room")
    (third,) = import_colmap(tmp_path / "2" / "room", tmp_path / "b")
    (fourth,) = import_lvsm(export_lvsm(third, tmp_path / "3" / "room"), tmp_path / "c")
    _assert_same(open_scene(fourth), open_scene(scene), times=False)
