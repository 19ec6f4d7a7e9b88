"""Reading: one frame at a time, from anywhere, in any process; what is broken is refused by name."""

import io
import multiprocessing
import pickle
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar

import fsspec
import numpy as np
import pytest
import torch
from fsspec.implementations.memory import MemoryFileSystem
from PIL import Image

from wnv.scenes.listing import open_scene
from wnv.scenes.scene_file import SceneFile, validate_scene
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import MAX_IMAGE_BYTES, SceneError


class CountingFileSystem(MemoryFileSystem):
    """An object store that keeps count of what is asked of it."""

    protocol = "counting"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    ranges: ClassVar[list[tuple[int | None, int | None]]] = []

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: object) -> bytes:
        self.ranges.append((start, end))
        return super().cat_file(path, start=start, end=end, **kwargs)


@pytest.fixture
def remote(scene_file: Path) -> Iterator[str]:
    fsspec.register_implementation("counting", CountingFileSystem, clobber=True)
    CountingFileSystem.ranges.clear()
    with fsspec.open("counting://bucket/room.zip", "wb") as file:
        file.write(scene_file.read_bytes())
    yield "counting://bucket/room.zip"
    CountingFileSystem.store.clear()


def test_what_was_written_is_read(scene_file: Path, make_info: Callable, make_images: Callable) -> None:
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


def test_cameras_in_float64_are_exact(scene_file: Path, make_info: Callable) -> None:
    cameras = open_scene(scene_file).cameras([1, 0, 1], dtype=torch.float64)
    np.testing.assert_array_equal(cameras.camtoworld.numpy(), make_info().camtoworld[[1, 0, 1]])


@pytest.mark.parametrize("index", [3, -1])
def test_frames_that_are_not_there(scene_file: Path, index: int) -> None:
    scene = open_scene(scene_file)
    for call in (scene.image_u8, scene.image_bytes):
        with pytest.raises(IndexError, match=f"scene 'room' has frames 0 to 2, got {index}"):
            call(index)
    for call in (scene.views, scene.cameras):
        with pytest.raises(IndexError, match=f"got {index}"):
            call([0, index])


def test_views_of_nothing_are_an_error(scene_file: Path) -> None:
    with pytest.raises(ValueError, match="name at least one"):
        open_scene(scene_file).views([])


@pytest.mark.parametrize("protocol", ["file", "memory"])
def test_urls(scene_file: Path, protocol: str) -> None:
    url = f"file://{scene_file}" if protocol == "file" else "memory://urls/room.zip"
    if protocol == "memory":
        with fsspec.open(url, "wb") as file:
            file.write(scene_file.read_bytes())
    scene = open_scene(url)
    assert torch.equal(scene.views([0, 2]).images, open_scene(scene_file).views([0, 2]).images)
    assert validate_scene(url).id == "room"


@pytest.mark.parametrize("path", ["nowhere/room.zip", "memory://nowhere/room.zip", "file:///nowhere/room.zip"])
def test_a_missing_file(path: str) -> None:
    with pytest.raises(FileNotFoundError, match="nowhere"):
        open_scene(path)


def test_a_frame_is_read_without_the_others(remote: str, scene_file: Path) -> None:
    scene = open_scene(remote)
    CountingFileSystem.ranges.clear()
    image = scene.image_u8(1)
    [(start, end)] = CountingFileSystem.ranges
    with zipfile.ZipFile(scene_file) as archive:
        info = archive.getinfo("frames/000001.png")
    assert start == info.header_offset
    assert end - start <= info.file_size + 100
    np.testing.assert_array_equal(image, open_scene(scene_file).image_u8(1))


def test_a_local_frame_is_read_though_the_others_are_damaged(scene_file: Path) -> None:
    scene = open_scene(scene_file)
    data = bytearray(scene_file.read_bytes())
    data[40:60] = b"x" * 20
    scene_file.write_bytes(data)
    assert scene.image_u8(1).shape == (16, 24, 3)
    with pytest.raises(SceneError, match=r"frames/000000\.jpg does not match its checksum.*copy it again"):
        scene.image_u8(0)


def test_a_replaced_file_is_noticed(scene_file: Path, make_info: Callable, make_images: Callable) -> None:
    scene = open_scene(scene_file)
    write_scene(scene_file.parent, make_info(2), make_images(3)[1:], overwrite=True)
    with pytest.raises(SceneError, match=r"replaced while open.*reopen"):
        scene.views([0, 2])


def read_in_child(scene: SceneFile) -> float:
    return float(scene.views([0, 1, 2]).images.sum())


@pytest.mark.parametrize("where", ["local", "remote"])
def test_an_open_scene_is_pickled(scene_file: Path, remote: str, where: str) -> None:
    scene = open_scene(scene_file if where == "local" else remote)
    scene.image_u8(0)
    again = pickle.loads(pickle.dumps(scene))
    assert torch.equal(again.views([0, 1, 2]).images, scene.views([0, 1, 2]).images)
    assert torch.equal(again.cameras([0, 1, 2]).camtoworld, scene.cameras([0, 1, 2]).camtoworld)


def test_an_open_scene_is_read_by_forked_workers(scene_file: Path) -> None:
    scene = open_scene(scene_file)
    expected = read_in_child(scene)
    loader = torch.utils.data.DataLoader(
        [0, 1, 2] * 20,  # type: ignore[arg-type]
        num_workers=2,
        batch_size=4,
        multiprocessing_context=multiprocessing.get_context("fork"),
        collate_fn=lambda indices: float(scene.views(indices).images.sum()),
    )
    assert sum(loader) == pytest.approx(20 * expected, rel=1e-5)


def test_an_open_scene_is_shared_by_threads(scene_file: Path) -> None:
    scene = open_scene(scene_file)
    truth = [scene.image_u8(index) for index in range(3)]
    with ThreadPoolExecutor(8) as pool:
        for number, image in enumerate(pool.map(lambda n: scene.image_u8(n % 3), range(200))):
            np.testing.assert_array_equal(image, truth[number % 3])


def test_foreign_members_beside_the_frames_are_let_be(scene_file: Path, repack: Callable) -> None:
    path = repack(scene_file, members={"notes.txt": b"hello", "frames/": b"", "depth/0.bin": b"1"})
    assert len(validate_scene(path).frames) == 3


def png_of(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height)).save(buffer, "PNG")
    return buffer.getvalue()


FAULTS = {
    "missing image": (
        {"members": {"frames/000001.png": None}},
        r"scene 'room', frame 1 \(frames/000001\.png\): the image is missing from .*changed\.zip; copy",
    ),
    "image without pose": ({"members": {"frames/9.jpg": b"x"}}, r"1 images without a pose \(frames/9\.jpg first\)"),
    "no scene.json": ({"members": {"scene.json": None}}, r"without scene\.json is not a scene file"),
    "scene.json broken": ({"members": {"scene.json": b"{"}}, r"changed\.zip': scene\.json is not JSON"),
    "newer": ({"edit": lambda d: d.update(schema_version=9)}, "schema version 9 is newer than 1.*upgrade wnv"),
    "compressed": ({"compression": zipfile.ZIP_DEFLATED}, "is compressed .*zip -0 -r"),
    "member up": ({"members": {"../evil.jpg": b"x"}}, r"'\.\./evil\.jpg' leaves the archive"),
    "member absolute": ({"members": {"/evil.jpg": b"x"}}, "leaves the archive"),
    "member backslash": ({"members": {"frames\\..\\evil.jpg": b"x"}}, "leaves the archive"),
    "frame up": (
        {"edit": lambda d: d["frames"][1].update(file="frames/../../evil.png")},
        r"frame 1: file 'frames/\.\./\.\./evil\.png' leaves the archive",
    ),
}
LATER_FAULTS = {
    "not an image": ({"members": {"frames/000001.png": b"nothing"}}, r"frame 1 \(frames/000001\.png\): not a readable"),
    "another size": ({"members": {"frames/000001.png": png_of(16, 24)}}, "frame 1 .*: the image is 16 x 24 .* 24 x 16"),
    "truncated": ({"members": {"frames/000001.png": png_of(24, 16)[:-20]}}, "frame 1 .* is truncated or damaged"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_opening_refuses(scene_file: Path, repack: Callable, name: str) -> None:
    change, message = FAULTS[name]
    with pytest.raises(SceneError, match=message):
        open_scene(repack(scene_file, **change))


@pytest.mark.parametrize("name", LATER_FAULTS)
def test_reading_a_frame_and_validation_refuse(scene_file: Path, repack: Callable, name: str) -> None:
    change, message = LATER_FAULTS[name]
    path = repack(scene_file, **change)
    scene = open_scene(path)
    assert scene.image_u8(0).shape == (16, 24, 3)
    with pytest.raises(SceneError, match=message):
        scene.image_u8(1)
    with pytest.raises(SceneError, match=message):
        validate_scene(path)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 1000], ids=["empty", "text", "zeros"])
def test_what_is_no_zip_is_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.zip"
    path.write_bytes(data)
    with pytest.raises(SceneError, match=rf"a\.zip: not a zip file \({len(data)} bytes\).*wnv-data import"):
        open_scene(path)


def test_an_empty_zip_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w"):
        pass
    with pytest.raises(SceneError, match=r"without scene\.json"):
        open_scene(tmp_path / "a.zip")


def test_damage_anywhere_is_refused_or_harmless(scene_file: Path) -> None:
    data, whole = scene_file.read_bytes(), open_scene(scene_file)
    truth = [whole.image_u8(index) for index in range(3)]
    random = np.random.default_rng(3)
    refused = 0
    for number in range(600):
        start = 0 if number % 2 else data.index(b"PK\x01\x02")
        damaged = bytearray(data)
        for position in random.integers(start, len(data), random.choice([1, 2, 8])):
            damaged[position] = random.integers(256)
        scene_file.write_bytes(damaged)
        try:
            scene = open_scene(scene_file)
            images = [scene.image_u8(index) for index in range(len(scene))]
        except SceneError:
            refused += 1
        else:
            np.testing.assert_array_equal(images, truth)
            np.testing.assert_array_equal(scene.info.camtoworld, whole.info.camtoworld)
    assert 400 < refused < 600


@pytest.mark.parametrize("kept", [0.1, 0.5, 0.9, 0.999])
def test_a_truncated_zip_is_refused(scene_file: Path, kept: float) -> None:
    data = scene_file.read_bytes()
    scene_file.write_bytes(data[: int(len(data) * kept)])
    with pytest.raises(SceneError, match=r"room\.zip: the zip is truncated or damaged .*copy it again"):
        open_scene(scene_file)


def test_a_member_that_is_there_twice_is_refused(scene_file: Path) -> None:
    with zipfile.ZipFile(scene_file, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("frames/000001.png", b"other")
    with pytest.raises(SceneError, match=r"frames/000001\.png is there twice"):
        open_scene(scene_file)


def patched_directory(path: Path, name: bytes, offset: int, value: bytes) -> None:
    """Change a field in the directory entry of a member."""
    data = bytearray(path.read_bytes())
    entry = data.rindex(name) - 46
    assert data[entry : entry + 4] == b"PK\x01\x02"
    data[entry + offset : entry + offset + len(value)] = value
    path.write_bytes(data)


def test_a_member_that_claims_too_much_is_refused(scene_file: Path) -> None:
    size = (MAX_IMAGE_BYTES + 1).to_bytes(4, "little")
    patched_directory(scene_file, b"frames/000001.png", 20, size * 2)
    with pytest.raises(SceneError, match=r"frames/000001\.png claims 268435457 bytes, more than"):
        open_scene(scene_file)


def test_a_member_that_reaches_into_the_next_is_refused(scene_file: Path) -> None:
    patched_directory(scene_file, b"frames/000001.png", 20, (5000).to_bytes(4, "little") * 2)
    with pytest.raises(SceneError, match=r"frames/000001\.png overlaps"):
        open_scene(scene_file)


def test_members_that_share_their_bytes_are_refused(scene_file: Path) -> None:
    patched_directory(scene_file, b"frames/000001.png", 42, (0).to_bytes(4, "little"))
    with pytest.raises(SceneError, match="overlaps"):
        open_scene(scene_file)


def test_encrypted_members_are_refused(scene_file: Path) -> None:
    patched_directory(scene_file, b"frames/000001.png", 8, b"\x01\x00")
    with pytest.raises(SceneError, match="is encrypted"):
        open_scene(scene_file)
