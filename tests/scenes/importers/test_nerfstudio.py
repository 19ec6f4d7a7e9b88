import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from wnv.scenes.listing import open_scene

_FLIP = np.diag([1.0, -1.0, -1.0, 1.0])


def _change(folder: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    content = json.loads((folder / "transforms.json").read_text())
    change(content)
    (folder / "transforms.json").write_text(json.dumps(content))


@pytest.fixture
def folder(tmp_path: Path, capture: Any) -> Path:
    folder = tmp_path / "my capture"
    (folder / "images").mkdir(parents=True)
    for index, jpeg in enumerate(capture.jpegs):
        (folder / "images" / f"{index}.jpg").write_bytes(jpeg)
    content = {
        "fl_x": capture.K[0, 0],
        "fl_y": capture.K[1, 1],
        "cx": capture.K[0, 2],
        "cy": capture.K[1, 2],
        "w": capture.width,
        "h": capture.height,
        "frames": [
            {"file_path": f"./images/{index}.jpg", "transform_matrix": (pose @ _FLIP).tolist()}
            for index, pose in reversed(list(enumerate(capture.camtoworld)))
        ],
    }
    (folder / "transforms.json").write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("named", [{"camera_model": "OPENCV_FISHEYE"}, {"is_fisheye": True}])
def test_fisheye_images_become_pinholes_of_the_wanted_width(
    run_import: Callable, folder: Path, out: Path, caplog: pytest.LogCaptureFixture, named: dict[str, Any]
) -> None:
    _change(folder, lambda content: content.update(named, fl_x=20.0, fl_y=20.0, k1=0.02, k4=0.001))
    (path,) = run_import("nerfstudio", folder, out, undistort_fov=80)
    info = open_scene(path).info
    assert 2 * np.degrees(np.arctan(info.width / 2 / info.K[0, 0, 0])) == pytest.approx(80)
    assert info.source["undistorted"]
    assert "4 fisheye images become pinholes of 80 degrees" in caplog.text


def test_frames_times_notes_and_own_cameras(run_import: Callable, folder: Path, out: Path, capture: Any) -> None:
    """Images, poses and shared cameras are compared in the round trip of exports."""
    moved = [[1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, -1.0, 0.0, 0.0]]
    _change(folder, lambda content: content.update(applied_transform=moved, applied_scale=0.5))
    _change(folder, lambda content: content["frames"][0].update(fl_x=50.0, cx=20.0))
    (path,) = run_import("nerfstudio", folder, out, scene_id="room")
    assert path == out / "room.zip"
    info = open_scene(path).info
    assert info.K[:, 0, 0].tolist() == [40.5, 40.5, 40.5, 50.0]
    assert info.K[:, 0, 2].tolist() == [23.25, 23.25, 23.25, 20.0]
    np.testing.assert_allclose(info.camtoworld, capture.camtoworld, atol=1e-12)
    assert info.times_s.tolist() == [0.0, 1.0, 2.0, 3.0]
    notes = {"format": "nerfstudio", "undistorted": False, "applied_transform": moved, "applied_scale": 0.5}
    assert info.source.items() >= notes.items()


def test_angle_and_defaults_of_a_blender_scene(run_import: Callable, folder: Path, out: Path, capture: Any) -> None:
    def strip(content: dict[str, Any]) -> None:
        for key in ("fl_x", "fl_y", "cx", "cy", "w", "h"):
            del content[key]
        content["camera_angle_x"] = 2 * np.arctan(0.5)
        for frame in content["frames"]:
            frame["file_path"] = frame["file_path"].removesuffix(".jpg")

    _change(folder, strip)
    (path,) = run_import("nerfstudio", folder, out)
    width, height = capture.width, capture.height
    expected = [[width, 0, width / 2], [0, width, height / 2], [0, 0, 1]]
    np.testing.assert_allclose(open_scene(path).info.K[2], expected, atol=1e-12)


def test_pngs_are_encoded_or_kept_in_8_bit_without_transparency(
    run_import: Callable, folder: Path, out: Path, encode: Callable[..., bytes]
) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (32, 48, 3), dtype=np.uint8)
    half_transparent = np.full((32, 48, 4), 100, dtype=np.uint8)
    half_transparent[..., 3] = np.where(np.arange(48) < 24, 0, 255)
    deep = np.full((32, 48, 3), (0x12FF, 0x3400, 0x56AB), dtype=np.uint16)
    pngs = [encode(pixels, "PNG"), encode(half_transparent, "PNG"), cv2.imencode(".png", deep[..., ::-1])[1].tobytes()]
    for index, png in enumerate(pngs):
        (folder / "images" / f"{index}.jpg").write_bytes(png)
    as_jpeg, as_png = (
        open_scene(run_import("nerfstudio", folder, out / image_format, image_format=image_format)[0])
        for image_format in ("jpeg", "png")
    )
    assert [Path(frame.file).suffix for frame in as_jpeg.info.frames] == [".jpg"] * 4
    assert not np.array_equal(as_jpeg.image_u8(0), pixels)
    assert [Path(frame.file).suffix for frame in as_png.info.frames] == [".png"] * 3 + [".jpg"]
    assert as_png.image_bytes(0) == pngs[0]
    assert as_png.image_u8(1)[0, [0, 23, 24, 47]].tolist() == [[255] * 3] * 2 + [[100] * 3] * 2
    assert cv2.imdecode(np.frombuffer(as_png.image_bytes(2), np.uint8), cv2.IMREAD_UNCHANGED).dtype == np.uint8
    assert as_png.image_u8(2)[0, 0].tolist() == [0x12, 0x34, 0x56]


@pytest.mark.parametrize("image_format", ["WEBP", "BMP", "TIFF"])
def test_other_formats_are_converted(
    run_import: Callable, folder: Path, out: Path, encode: Callable[..., bytes], image_format: str
) -> None:
    pixels = np.zeros((32, 48, 3), dtype=np.uint8)
    pixels[:, :24] = 200
    (folder / "images" / "0.jpg").write_bytes(encode(pixels, image_format))
    scene = open_scene(run_import("nerfstudio", folder, out, image_format="png")[0])
    assert np.abs(scene.image_u8(0)[:, [4, 40]].astype(int) - pixels[:, [4, 40]]).max() < 4


def test_cameras_are_scaled_to_images_and_images_turned_by_exif(
    run_import: Callable, folder: Path, out: Path, capture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """As DL3DV comes: cameras of full-size images beside a folder of scaled copies."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: the first row is the right side
    Image.open(io.BytesIO(capture.jpegs[0])).transpose(Image.Transpose.ROTATE_90).save(
        folder / "images" / "0.jpg", quality=95, exif=exif
    )
    (path,) = run_import("nerfstudio", folder, out, scene_id="turned")
    decoded = np.asarray(Image.open(io.BytesIO(capture.jpegs[0])))
    assert np.abs(open_scene(path).image_u8(0).astype(int) - decoded).mean() < 3
    (folder / "images" / "0.jpg").write_bytes(capture.jpegs[0])
    (folder / "images").rename(folder / "images_4")
    _change(folder, lambda c: c.update({key: 4 * c[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}))
    scene = open_scene(run_import("nerfstudio", folder, out)[0])
    np.testing.assert_allclose(scene.info.K[0], capture.K)
    assert scene.image_bytes(0) == capture.jpegs[0]
    assert "4 images have 48 x 32 pixels and the cameras are for 192 x 128; K is scaled" in caplog.text


def test_axes_follow_the_camera_convention(run_import: Callable, folder: Path, out: Path, capture: Any) -> None:
    """As MapAnything writes them, in a `scene_meta.json`."""

    def to_opencv(content: dict[str, Any]) -> None:
        content["camera_convention"] = "opencv"
        content["frames"][0]["camera_convention"] = "opengl"
        for frame in content["frames"][1:]:
            frame["transform_matrix"] = (np.array(frame["transform_matrix"]) @ _FLIP).tolist()

    _change(folder, to_opencv)
    (folder / "transforms.json").rename(folder / "scene_meta.json")
    info = open_scene(run_import("nerfstudio", folder, out)[0]).info
    np.testing.assert_allclose(info.camtoworld, capture.camtoworld, atol=1e-12)


def test_assumptions_are_reported(
    run_import: Callable, folder: Path, out: Path, capture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def change(content: dict[str, Any]) -> None:
        for key in ("cx", "cy", "w", "h"):
            del content[key]
        scaled = np.array(content["frames"][0]["transform_matrix"])
        scaled[:3, :3] *= 2
        content["frames"][0]["transform_matrix"] = scaled.tolist()

    _change(folder, change)
    info = open_scene(run_import("nerfstudio", folder, out)[0]).info
    np.testing.assert_allclose(info.camtoworld, capture.camtoworld, atol=1e-12)
    assert "fl_x=40.5 is taken as pixels of the images as they are (48 x 32)" in caplog.text
    assert "1 of 4 poses are scaled by 2" in caplog.text


def test_images_of_several_resolutions_become_the_smallest(
    run_import: Callable, folder: Path, out: Path, capture: Any, caplog: pytest.LogCaptureFixture
) -> None:
    Image.open(io.BytesIO(capture.jpegs[0])).resize((96, 64)).save(folder / "images" / "0.jpg", quality=95)
    _change(folder, lambda c: _first(c).update({key: 2 * c[key] for key in ("fl_x", "fl_y", "cx", "cy", "w", "h")}))
    scene = open_scene(run_import("nerfstudio", folder, out)[0])
    np.testing.assert_allclose(scene.info.K, np.tile(capture.K, (4, 1, 1)))
    decoded = np.asarray(Image.open(io.BytesIO(capture.jpegs[0])))
    assert np.abs(scene.image_u8(0).astype(int) - decoded).mean() < 3
    assert scene.image_bytes(1) == capture.jpegs[1]
    assert "1 of 4 images are scaled down to the smallest one, 48 x 32 pixels" in caplog.text


def test_max_side_scales_images_and_cameras(run_import: Callable, folder: Path, out: Path, capture: Any) -> None:
    (path,) = run_import("nerfstudio", folder, out, max_side=24)
    scene = open_scene(path)
    assert (scene.info.width, scene.info.height) == (24, 16)
    np.testing.assert_allclose(scene.info.K[0], np.diag([0.5, 0.5, 1.0]) @ capture.K)
    before = np.asarray(Image.open(io.BytesIO(capture.jpegs[0])).convert("RGB"), dtype=float)
    means = before.reshape(16, 2, 24, 2, 3).mean(axis=(1, 3))
    assert np.abs(scene.image_u8(0) - means).mean() < 3
    (same,) = run_import("nerfstudio", folder, out, max_side=48, exists="replace")
    assert open_scene(same).image_bytes(0) == capture.jpegs[0]


def test_times_of_the_file_or_of_the_video(run_import: Callable, folder: Path, out: Path) -> None:
    (path,) = run_import("nerfstudio", folder, out, fps=8, kind="dynamic")
    assert open_scene(path).info.times_s.tolist() == [0.0, 0.125, 0.25, 0.375]
    assert open_scene(path).info.kind == "dynamic"

    def add_times(content: dict[str, Any]) -> None:
        for frame, time in zip(content["frames"], (9.0, 7.0, 10.0, 8.0), strict=True):  # of 3.jpg to 0.jpg
            frame["time"] = time

    _change(folder, add_times)
    (path,) = run_import("nerfstudio", folder, out, exists="replace")
    frames = open_scene(path).info.frames
    assert [(frame.time_s, frame.source_index) for frame in frames] == [(7.0, 2), (8.0, 0), (9.0, 3), (10.0, 1)]


def _first(content: dict[str, Any]) -> dict[str, Any]:
    return min(content["frames"], key=lambda frame: frame["file_path"])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: _first(c).update(transform_matrix=[[1, 2], [3, 4]]), r"images/0\.jpg.*rows of 4 numbers"),
        (lambda c: _first(c).pop("transform_matrix"), r"images/0\.jpg.*'transform_matrix' is missing"),
        (lambda c: c.update(fl_x=-40.0), r"fx.*-40"),
        (lambda c: c.pop("fl_x"), r"'fl_x'"),
        (lambda c: c.update(w=49), r"48 x 32.*49 x 32"),
        (lambda c: c.update(w=48.5), r"48\.5 x 32"),
        (lambda c: c["frames"][0].update(w=24), r"48 x 32.*24 x 32"),
        (lambda c: _first(c).update(file_path="../secret.jpg"), r"leaves the folder"),
        (lambda c: _first(c).update(file_path=3), r"entry 3 .*'file_path'"),
        (lambda c: c.update(camera_model="EQUIRECTANGULAR"), r"'EQUIRECTANGULAR'"),
        (lambda c: c["frames"][0].update(camera_convention="blender"), r"images/3.*camera_convention.*'blender'"),
        (lambda c: c.update(k4=0.1), r"'k4'"),
        (lambda c: c.update(k1=-30.0), r"k1=-30"),
        (lambda c: c.update(frames=[]), r"no frames"),
        (lambda c: c.pop("frames"), r"'frames'"),
        (lambda c: _first(c).update(time=1.0), r"1 of 4 frames have a 'time'"),
    ],
)
def test_invalid_content_is_rejected_and_leaves_no_file(
    run_import: Callable, folder: Path, out: Path, change: Callable[[dict[str, Any]], Any], message: str
) -> None:
    _change(folder, change)
    with pytest.raises(ValueError, match=message):
        run_import("nerfstudio", folder, out)
    assert not out.exists() or not list(out.iterdir())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"<html>not found</html>", "JPEG, PNG"),
        (cv2.imencode(".png", np.full((32, 48), 40_000, dtype=np.uint16))[1].tobytes(), "8 bits"),
        (lambda jpeg: jpeg[:-60], "truncated"),
    ],
    ids=["text", "16 bit", "truncated"],
)
@pytest.mark.parametrize("distorted", [False, True])
def test_an_invalid_image_is_rejected(
    run_import: Callable, folder: Path, out: Path, content: Any, message: str, distorted: bool
) -> None:
    _change(folder, lambda c: c.update(k1=0.01 * distorted))
    file = folder / "images" / "2.jpg"
    file.write_bytes(content(file.read_bytes()) if callable(content) else content)
    with pytest.raises(ValueError, match=rf"(frame 2|images/2).*{message}"):
        run_import("nerfstudio", folder, out)


def test_missing_files_are_named_or_skipped(
    run_import: Callable, folder: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder / "images" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError, match=r"images/2\.jpg .*missing=skip"):
        run_import("nerfstudio", folder, out)
    assert len(open_scene(run_import("nerfstudio", folder, out, missing="skip")[0])) == 3
    assert "1 of 4 images are missing and skipped" in caplog.text
    (folder / "transforms.json").rename(folder / "transforms_train.json")
    with pytest.raises(FileNotFoundError, match=r"transforms_train\.json"):
        run_import("nerfstudio", folder, out)


def test_ignored_parts_are_reported_once(
    run_import: Callable, folder: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def add_parts(content: dict[str, Any]) -> None:
        content["ply_file_path"] = "points.ply"
        for frame in content["frames"]:
            frame["mask_path"] = "mask.png"

    _change(folder, add_parts)
    run_import("nerfstudio", folder, out)
    (record,) = [record for record in caplog.records if record.levelname == "WARNING"]
    assert "ply_file_path (1), mask_path (4)" in record.getMessage()
