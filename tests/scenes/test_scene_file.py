"""Scene files: read one frame at a time, from anywhere, in any process; invalid ones are rejected."""

import io
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import numpy as np
import pytest
import torch
from PIL import Image

import wnv
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import validate_scene
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import MAX_IMAGE_BYTES, SceneError


@pytest.fixture
def remote(scene_file: Path) -> str:
    url = f"memory://{scene_file.parent.name}/room.zip"
    with fsspec.open(url, "wb") as file:
        file.write(scene_file.read_bytes())
    return url


def test_a_written_scene_is_read(scene_file: Path, make_info: Callable, make_images: Callable) -> None:
    info = make_info()
    with open_scene(scene_file) as scene:
        assert len(scene) == 3
        assert (scene.info.id, scene.info.kind, scene.info.scale) == ("room", "static", 0.5)
        assert scene.info.source == info.source
        assert [frame.source_index for frame in scene.info.frames] == [0, 10, 20]
        np.testing.assert_array_equal(scene.info.K, info.K)
        np.testing.assert_array_equal(scene.info.camtoworld, info.camtoworld)
        assert scene.image_u8(0).shape == (16, 24, 3)
        np.testing.assert_array_equal(scene.image_u8(1), make_images()[1])
        assert "3 frames of 24 x 16" in repr(scene)


def test_views_are_pixels_cameras_and_times(scene_file: Path, make_info: Callable, make_images: Callable) -> None:
    info = make_info()
    views = open_scene(scene_file).views([2, 1])
    assert views.images.shape == (2, 3, 16, 24)
    assert views.images.dtype == torch.float32
    np.testing.assert_array_equal((views.images[1] * 255).permute(1, 2, 0).round().numpy(), make_images()[1])
    torch.testing.assert_close(views.times, torch.tensor([2 / 30, 1 / 30]))
    torch.testing.assert_close(views.cameras.K.double(), torch.from_numpy(info.K[[2, 1]]), rtol=1e-6, atol=1e-6)
    assert (views.cameras.width, views.cameras.height) == (24, 16)
    assert views.cameras.camtoworld.dtype == torch.float32


def test_defaults_are_all_frames_and_float64_is_exact(scene_file: Path, make_info: Callable) -> None:
    with wnv.open_scene(scene_file) as scene:
        cameras = scene.cameras([1, 0, 1], dtype=torch.float64)
        np.testing.assert_array_equal(cameras.camtoworld.numpy(), make_info().camtoworld[[1, 0, 1]])
        assert (scene.id, scene.kind, scene.times_s.tolist()) == ("room", "static", [0, 1 / 30, 2 / 30])
        assert scene.cameras().K.shape == (3, 3, 3)
        assert torch.equal(scene.views().images, scene.views([0, 1, 2]).images)
        with pytest.raises(ValueError, match="indices"):
            scene.views([])


@pytest.mark.parametrize("index", [3, -1])
def test_indices_out_of_range(scene_file: Path, index: int) -> None:
    scene = open_scene(scene_file)
    for call in (scene.image_u8, scene.image_bytes):
        with pytest.raises(IndexError, match=f"'room'.*{index}"):
            call(index)
    for call in (scene.views, scene.cameras):
        with pytest.raises(IndexError, match=f"got {index}"):
            call([0, index])


def test_urls(scene_file: Path, remote: str) -> None:
    for url in (f"file://{scene_file}", remote):
        assert torch.equal(open_scene(url).views([0, 2]).images, open_scene(scene_file).views([0, 2]).images)
        assert validate_scene(url).id == "room"


@pytest.mark.parametrize("path", ["nowhere/room.zip", "memory://nowhere/room.zip", "file:///nowhere/room.zip"])
def test_a_missing_file(path: str) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_scene(path)


def test_a_replaced_file_is_noticed(scene_file: Path, make_info: Callable, make_images: Callable) -> None:
    scene = open_scene(scene_file)
    write_scene(scene_file.parent, make_info(2), make_images(3)[1:], overwrite=True)
    with pytest.raises(SceneError, match=r"replaced while open.*reopen"):
        scene.views([0, 2])


@pytest.mark.parametrize("where", ["local", "remote"])
def test_an_open_scene_is_pickled(scene_file: Path, remote: str, where: str) -> None:
    scene = open_scene(scene_file if where == "local" else remote)
    scene.image_u8(0)
    again = pickle.loads(pickle.dumps(scene))
    assert torch.equal(again.views([0, 1, 2]).images, scene.views([0, 1, 2]).images)
    assert torch.equal(again.cameras([0, 1, 2]).camtoworld, scene.cameras([0, 1, 2]).camtoworld)


def test_other_members_are_ignored(scene_file: Path, repack: Callable) -> None:
    path = repack(scene_file, members={"notes.txt": b"hello", "frames/": b"", "depth/0.bin": b"1"})
    assert len(validate_scene(path).frames) == 3


def png_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


INVALID = {
    "missing image": ({"members": {"frames/000001.png": None}}, r"'room', frame 1 \(frames/000001\.png\)"),
    "image without pose": ({"members": {"frames/9.jpg": b"x"}}, r"1 images.*frames/9\.jpg"),
    "no scene.json": ({"members": {"scene.json": None}}, r"changed\.zip.*scene\.json"),
    "scene.json broken": ({"members": {"scene.json": b"{"}}, r"changed\.zip.*scene\.json"),
    "compressed": ({"compression": zipfile.ZIP_DEFLATED}, "compressed .*zip -0 -r"),
    "member up": ({"members": {"../evil.jpg": b"x"}}, r"'\.\./evil\.jpg'"),
    "member backslash": ({"members": {"frames\\..\\evil.jpg": b"x"}}, "leaves the archive"),
}
INVALID_IMAGES = {
    "not an image": ({"members": {"frames/000001.png": b"nothing"}}, r"frame 1 \(frames/000001\.png\)"),
    "another size": ({"members": {"frames/000001.png": png_of(16, 24)}}, "frame 1 .*24 x 16.*16 x 24"),
    "truncated": ({"members": {"frames/000001.png": png_of(24, 16)[:-20]}}, "frame 1 .*truncated"),
}


@pytest.mark.parametrize("name", INVALID)
def test_invalid_files_are_rejected_when_opened(scene_file: Path, repack: Callable, name: str) -> None:
    change, message = INVALID[name]
    with pytest.raises(SceneError, match=message):
        open_scene(repack(scene_file, **change))


@pytest.mark.parametrize("name", INVALID_IMAGES)
def test_invalid_images_are_rejected_when_read(scene_file: Path, repack: Callable, name: str) -> None:
    change, message = INVALID_IMAGES[name]
    path = repack(scene_file, **change)
    scene = open_scene(path)
    assert scene.image_u8(0).shape == (16, 24, 3)
    with pytest.raises(SceneError, match=message):
        scene.image_u8(1)
    with pytest.raises(SceneError, match=message):
        validate_scene(path)


def test_damage_anywhere_is_rejected_or_harmless(scene_file: Path) -> None:
    data, whole = scene_file.read_bytes(), open_scene(scene_file)
    truth = [whole.image_u8(index) for index in range(3)]
    random = np.random.default_rng(3)
    rejected = 0
    for number in range(200):
        start = 0 if number % 2 else data.index(b"PK\x01\x02")
        damaged = bytearray(data)
        for position in random.integers(start, len(data), random.choice([1, 2, 8])):
            damaged[position] = random.integers(256)
        scene_file.write_bytes(damaged)
        try:
            scene = open_scene(scene_file)
            images = [scene.image_u8(index) for index in range(len(scene))]
        except SceneError:
            rejected += 1
        else:
            np.testing.assert_array_equal(images, truth)
            np.testing.assert_array_equal(scene.info.camtoworld, whole.info.camtoworld)
    assert 130 < rejected < 200


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_zip_is_rejected(scene_file: Path, kept: float) -> None:
    data = scene_file.read_bytes()
    scene_file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SceneError, match=r"room\.zip.*truncated"):
        open_scene(scene_file)


def _patch_directory(path: Path, offset: int, value: bytes) -> None:
    """Change a field in the directory entry of frame 1."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"frames/000001.png") - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (20, (MAX_IMAGE_BYTES + 1).to_bytes(4, "little") * 2, "268435457"),
        (20, (5000).to_bytes(4, "little") * 2, "overlaps"),
        (42, (0).to_bytes(4, "little"), "overlaps"),
        (8, b"\x01\x00", "encrypted"),
    ],
    ids=["too large", "overlaps the next", "shares bytes", "encrypted"],
)
def test_malicious_members_are_rejected(scene_file: Path, offset: int, value: bytes, message: str) -> None:
    _patch_directory(scene_file, offset, value)
    with pytest.raises(SceneError, match=message):
        open_scene(scene_file)


def test_duplicated_members_are_rejected(scene_file: Path) -> None:
    with zipfile.ZipFile(scene_file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("frames/000001.png", b"other")
    with pytest.raises(SceneError, match=r"frames/000001\.png"):
        open_scene(scene_file)


EMPTY_ZIP = b"PK\x05\x06" + bytes(18)


@pytest.mark.parametrize("data", [b"", b"hello", bytes(1000), EMPTY_ZIP], ids=["empty", "text", "zeros", "empty zip"])
def test_other_files_are_rejected(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(SceneError, match=r"a\.zip.*not a scene file.*wnv-data import"):
        open_scene(tmp_path / "a.zip")
