from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from wnv.scenes.importers.colmap import _lens
from wnv.scenes.importers.colmap_model import CAMERA_MODELS, ColmapCamera, read_model
from wnv.scenes.listing import open_scene
from wnv.scenes.undistort import distort


def _image_lines(capture: Any) -> list[str]:
    lines = ["# a comment"]
    for index, viewmat in reversed(list(enumerate(capture.viewmats))):
        quaternion = Rotation.from_matrix(viewmat[:3, :3]).as_quat(scalar_first=True).tolist()
        pose = " ".join(repr(value) for value in quaternion + viewmat[:3, 3].tolist())
        lines += [f"{index + 1} {pose} 7 walk/{index}.jpg", "" if index else "1.5 2.5 -1 3.5 4.5 2"]
    return lines


@pytest.fixture
def project(tmp_path: Path, capture: Any) -> Path:
    folder = tmp_path / "project"
    (folder / "images" / "walk").mkdir(parents=True)
    for index, jpeg in enumerate(capture.jpegs):
        (folder / "images" / "walk" / f"{index}.jpg").write_bytes(jpeg)
    model = folder / "sparse" / "0"
    model.mkdir(parents=True)
    K = capture.K
    camera = f"7 PINHOLE {capture.width} {capture.height} {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}"
    (model / "cameras.txt").write_text(f"# a comment\n{camera}\n")
    (model / "images.txt").write_text("\n".join(_image_lines(capture)) + "\n")
    return folder


def _rewrite(project: Path, file: str, change: Callable[[str], str]) -> None:
    path = project / "sparse" / "0" / file
    path.write_text(change(path.read_text()))


@pytest.mark.parametrize(
    ("where", "layout"),
    [
        (".", "sparse/0"),
        ("sparse", "sparse/0"),
        ("sparse/0", "sparse/0"),
        (".", "colmap/sparse/0"),
        (".", "dense/0/sparse"),
        ("dense/0", "dense/0/sparse"),
    ],
)
def test_cameras_and_bytes_are_kept(
    run_import: Callable, project: Path, out: Path, capture: Any, where: str, layout: str
) -> None:
    (project / layout).parent.mkdir(parents=True, exist_ok=True)
    (project / "sparse" / "0").rename(project / layout)
    (path,) = run_import("colmap", project / where, out)
    scene = open_scene(path)
    assert scene.info.id == "project"
    np.testing.assert_allclose(scene.info.camtoworld, capture.camtoworld, atol=1e-12)
    np.testing.assert_array_equal(scene.info.K, np.tile(capture.K, (4, 1, 1)))
    assert [scene.image_bytes(index) for index in range(4)] == list(capture.jpegs)


def test_images_elsewhere_and_a_byte_order_mark(run_import: Callable, project: Path, out: Path) -> None:
    for file in ("cameras.txt", "images.txt"):
        _rewrite(project, file, lambda text: f"\ufeff{text}")
    (project / "images" / "walk").rename(project / "photos")
    _rewrite(project, "images.txt", lambda text: text.replace("walk/", ""))
    (path,) = run_import("colmap", project, out, images=project / "photos")
    assert len(open_scene(path)) == 4


def test_scaled_copies_are_found_and_sizes_may_be_floats(
    run_import: Callable, project: Path, out: Path, capture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    K = capture.K * [[4], [4], [1]]
    camera = f"7 PINHOLE 192.0 128.0 {K[0, 0]} {K[1, 1]} {K[0, 2]} {K[1, 2]}\n"
    _rewrite(project, "cameras.txt", lambda text: camera)
    (project / "images").rename(project / "images_4")
    info = open_scene(run_import("colmap", project, out)[0]).info
    np.testing.assert_allclose(info.K[0], capture.K)
    assert "48 x 32 pixels and the cameras are for 192 x 128; K is scaled" in caplog.text


def test_a_binary_model_is_the_same_scene(run_import: Callable, project: Path, out: Path, capture: Any) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="writes the binary model")
    model = project / "sparse" / "0"
    (model / "points3D.txt").write_text("")
    # The one observation with a point would dangle.
    _rewrite(project, "images.txt", lambda text: text.replace("3.5 4.5 2", "3.5 4.5 -1"))
    (text,) = run_import("colmap", project, out / "text")
    pycolmap.Reconstruction(model).write_binary(model)
    for file in ("cameras.txt", "images.txt", "points3D.txt"):
        (model / file).unlink()
    (binary,) = run_import("colmap", project, out / "binary")
    for found, expected in zip(open_scene(binary).info.frames, open_scene(text).info.frames, strict=True):
        np.testing.assert_allclose(found.camtoworld, expected.camtoworld, atol=1e-12)
        np.testing.assert_array_equal(found.K, expected.K)
    for file in ("cameras.bin", "images.bin"):
        whole = (model / file).read_bytes()
        for length in range(0, len(whole), 7):
            (model / file).write_bytes(whole[:length])
            with pytest.raises(ValueError, match=rf"{file}: truncated"):
                read_model(model)
        (model / file).write_bytes(whole + b"\0")
        with pytest.raises(ValueError, match=rf"{file}: 1 bytes after the last entry"):
            read_model(model)
        (model / file).write_bytes(whole)


def test_cameras_of_a_rig_match_pycolmap(tmp_path: Path) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="writes the model of a rig")
    model = pycolmap.Reconstruction()
    options = pycolmap.SyntheticDatasetOptions(
        num_rigs=1, num_cameras_per_rig=2, num_frames_per_rig=3, num_points3D=20, camera_has_prior_focal_length=False
    )
    model = pycolmap.synthesize_dataset(options)
    model.write_binary(tmp_path)
    expected = {image.name: image.cam_from_world() for image in model.images.values()}
    found = read_model(tmp_path).images
    assert len(found) == 6
    for image in found:
        np.testing.assert_allclose(image.translation, expected[image.name].translation, atol=1e-12)
        # COLMAP keeps x y z w; both signs are one rotation.
        alignment = abs(np.dot(np.roll(expected[image.name].rotation.quat, 1), image.quaternion))
        assert alignment == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("model", "params"),
    [
        ("SIMPLE_PINHOLE", [40.0, 24.0, 16.0]),
        ("PINHOLE", [40.0, 41.0, 24.0, 16.0]),
        ("SIMPLE_RADIAL", [40.0, 24.0, 16.0, 0.1]),
        ("RADIAL", [40.0, 24.0, 16.0, 0.1, -0.02]),
        ("OPENCV", [40.0, 41.0, 24.0, 16.0, 0.1, -0.02, 0.003, -0.004]),
        ("FULL_OPENCV", [40.0, 41.0, 24.0, 16.0, 0.1, -0.02, 0.003, -0.004, 0.01, 0.0, 0.0, 0.0]),
    ],
)
def test_lenses_match_pycolmap(model: str, params: list[float]) -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="is the reference")
    camera = ColmapCamera(model=model, width=48, height=32, params=np.array(params))
    K, lens = _lens(camera, where="here")
    rays = np.array([[0.3, -0.2], [0.0, 0.0], [-0.5, 0.35]])
    reference = pycolmap.Camera(model=model, width=48, height=32, params=params)
    expected = reference.img_from_cam(np.concatenate([rays, np.ones((3, 1))], axis=-1))
    np.testing.assert_allclose(distort(rays, K, lens), expected, atol=1e-9)


def test_camera_models_match_pycolmap() -> None:
    pycolmap = pytest.importorskip("pycolmap", reason="is the reference")
    for model_id, (name, num_params) in CAMERA_MODELS.items():
        if hasattr(pycolmap.CameraModelId, name):
            assert int(getattr(pycolmap.CameraModelId, name)) == model_id
            assert len(pycolmap.Camera.create_from_model_name(1, name, 10.0, 6, 4).params) == num_params


def test_images_of_a_lens_are_undistorted(run_import: Callable, project: Path, out: Path, capture: Any) -> None:
    _rewrite(project, "cameras.txt", lambda text: "7 SIMPLE_RADIAL 48 32 40 24 16 -0.1\n")
    scene = open_scene(run_import("colmap", project, out)[0])
    assert scene.info.source["undistorted"] is True
    assert scene.info.K[0, 0, 0] < 40
    assert scene.image_bytes(0) != capture.jpegs[0]


def test_of_several_models_the_one_with_the_most_images_is_imported(
    run_import: Callable, project: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, other = project / "sparse" / "0", project / "sparse" / "1"
    other.mkdir()
    for file in ("cameras.txt", "images.txt"):
        (other / file).write_bytes((first / file).read_bytes())
    lines = (first / "images.txt").read_text().splitlines(keepends=True)
    (first / "images.txt").write_text("".join(lines[:-2]))
    (path,) = run_import("colmap", project, out)
    assert len(open_scene(path)) == 4
    assert "0 (3 images)" in caplog.text


@pytest.mark.parametrize(
    ("file", "change", "message"),
    [
        ("cameras.txt", lambda t: t.replace("PINHOLE", "OPENCV_FISHEYE") + " 0 0 0 0", r"cameras\.txt:2.*8 numbers"),
        (
            "cameras.txt",
            lambda t: t.replace("PINHOLE", "THIN_PRISM_FISHEYE").rstrip() + " 0 0 0 0 0 0 0 0\n",
            r"image 'walk/0\.jpg', camera 7: camera model THIN_PRISM_FISHEYE .*image_undistorter",
        ),
        ("cameras.txt", lambda t: t.replace("PINHOLE", "BOX"), r"cameras\.txt:2: unknown camera model 'BOX'"),
        ("cameras.txt", lambda t: t.replace("40.5", "wide"), r"cameras\.txt:2.*wide"),
        ("cameras.txt", lambda t: t.replace("7 PINHOLE 48", "7 PINHOLE 4.8"), r"cameras\.txt:2.*whole number.*'4\.8'"),
        ("cameras.txt", lambda t: "7 PINHOLE\n", r"cameras\.txt:1: a camera is"),
        ("cameras.txt", lambda t: t.replace("7 PINHOLE", "8 PINHOLE"), r"its camera 7 is not in the model"),
        ("cameras.txt", lambda t: t.replace("48 32", "96 32"), r"walk/0\.jpg.*the image is 48 x 32"),
        ("images.txt", lambda t: t.replace("walk/0", "../0"), r"'\.\./0\.jpg'.*leaves the folder"),
        ("images.txt", lambda t: t.replace("\n\n", "\n"), r"images\.txt:3: .*observations"),
        ("images.txt", lambda t: "1 1 0 0 0 0 0\n", r"images\.txt:1: an image is"),
        ("images.txt", lambda t: "1 0 0 0 0 0 0 0 7 walk/0.jpg\n", r"quaternion"),
        ("images.txt", lambda t: "# nothing\n", r"no frames"),
    ],
)
def test_an_invalid_model_is_rejected(
    run_import: Callable, project: Path, out: Path, file: str, change: Callable[[str], str], message: str
) -> None:
    _rewrite(project, file, change)
    with pytest.raises(ValueError, match=message):
        run_import("colmap", project, out)
    assert not out.exists()


def test_missing_files_are_named(run_import: Callable, project: Path, out: Path) -> None:
    (project / "images" / "walk" / "1.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"walk/1\.jpg"):
        run_import("colmap", project, out)
    (project / "images").rename(project / "photos")
    with pytest.raises(FileNotFoundError, match="set images="):
        run_import("colmap", project, out)
    with pytest.raises(FileNotFoundError, match=r"nothing.*set images="):
        run_import("colmap", project, out, images=project / "nothing")
    with pytest.raises(FileNotFoundError, match="no COLMAP model"):
        run_import("colmap", project / "photos", out)
