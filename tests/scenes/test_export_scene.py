"""Exports are read back by the importers, and by the other tools' readers, to the last digit."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wnv.scenes.export_scene import EXPORTERS, export_scene
from wnv.scenes.image_codec import encode_image
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import SceneFile
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneError

FORMATS = sorted(EXPORTERS)


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("shared_K", [True, False])
def test_round_trip(
    run_import: Callable, tmp_path: Path, make_info: Callable, make_images: Callable, name: str, shared_K: bool
) -> None:
    # More than ten frames, so that their order shows; one of them PNG.
    images = make_images(12)
    images[3] = encode_image(images[3], image_format="png")
    path = write_scene(tmp_path, make_info(12, shared_K=shared_K), images)
    export_scene(path, tmp_path / "room", format=name)
    (back_path,) = run_import(name, tmp_path / "room", tmp_path / "back", image_format="png")
    assert back_path.name == path.name
    scene, back = SceneFile(path), SceneFile(back_path)
    assert (back.info.width, back.info.height, len(back)) == (scene.info.width, scene.info.height, 12)
    np.testing.assert_allclose(back.info.K, scene.info.K, rtol=0, atol=1e-12)
    np.testing.assert_allclose(back.info.camtoworld, scene.info.camtoworld, rtol=0, atol=1e-12)
    assert [back.image_bytes(index) for index in range(12)] == [scene.image_bytes(index) for index in range(12)]
    if name == "nerfstudio":
        np.testing.assert_array_equal(back.times_s, scene.times_s)


def test_colmap_itself_reads_it(tmp_path: Path, scene_file: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    model = pycolmap.Reconstruction(str(export_scene(scene_file, tmp_path / "out", format="colmap")))
    info = open_scene(scene_file).info
    assert model.num_images() == 3
    for image in model.images.values():
        index = int(Path(image.name).stem)
        viewmat = np.vstack([image.cam_from_world().matrix(), [0, 0, 0, 1]])
        np.testing.assert_allclose(viewmat @ info.camtoworld[index], np.eye(4), atol=1e-9)
        np.testing.assert_allclose(model.cameras[image.camera_id].calibration_matrix(), info.K[index], atol=1e-9)


@pytest.mark.parametrize("angle", [0.0, 1e-9, np.pi, np.pi - 1e-9, -np.pi / 2])
def test_colmap_quaternions_near_half_turns(
    run_import: Callable, tmp_path: Path, make_info: Callable, make_images: Callable, angle: float
) -> None:
    info = make_info(1)
    info.frames[0].camtoworld[:3, :3] = Rotation.from_euler("z", angle).as_matrix()
    path = write_scene(tmp_path, info, make_images(1))
    export_scene(path, tmp_path / "out", format="colmap")
    [back] = run_import("colmap", tmp_path / "out", tmp_path / "back")
    np.testing.assert_allclose(open_scene(back).info.camtoworld, info.camtoworld, rtol=0, atol=1e-12)


def test_existing_exports_are_kept_by_default(tmp_path: Path, scene_file: Path) -> None:
    out = tmp_path / "deep" / "out"
    export_scene(scene_file, out, format="colmap")
    with pytest.raises(FileExistsError, match=r"out .*overwrite=true"):
        export_scene(scene_file, out, format="colmap")
    first = sorted(out.rglob("*"))
    (out / "images" / "stale.jpg").write_bytes(b"of an earlier export")
    export_scene(scene_file, out, overwrite=True, format="colmap")
    assert sorted(out.rglob("*")) == first
    assert os.listdir(out.parent) == ["out"]


def test_other_files_are_never_lost(tmp_path: Path, scene_file: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years of work")
    for out in (tmp_path / "home", tmp_path / "home" / "thesis.tex"):
        with pytest.raises(FileExistsError, match=r"thesis\.tex"):
            export_scene(scene_file, out, format="lvsm", overwrite=True)
    assert os.listdir(tmp_path / "home") == ["thesis.tex"]


def test_a_failed_export_leaves_nothing(tmp_path: Path, scene_file: Path) -> None:
    data = bytearray(scene_file.read_bytes())
    position = data.index(b"frames/000002.jpg") + 40
    data[position : position + 4] = b"oops"
    scene_file.write_bytes(data)
    with pytest.raises(SceneError, match=r"frames/000002\.jpg does not match its checksum"):
        export_scene(scene_file, tmp_path / "deep" / "out", format="lvsm")
    assert os.listdir(tmp_path / "deep") == []
