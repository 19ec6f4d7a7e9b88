"""Scene files are written completely or not at all."""

import os
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from wnv.scenes.image_codec import encode_image
from wnv.scenes.listing import open_scene
from wnv.scenes.scene_writer import write_scene
from wnv.scenes.schema import SceneError


def test_the_file_is_a_plain_uncompressed_zip(scene_file: Path) -> None:
    assert scene_file.name == "room.zip"
    with zipfile.ZipFile(scene_file) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["frames/000000.jpg", "frames/000001.png", "frames/000002.jpg", "scene.json"]
        assert {info.compress_type for info in archive.infolist()} == {zipfile.ZIP_STORED}


def test_bytes_are_stored_as_they_are_and_png_is_lossless(
    tmp_path: Path, make_info: Callable, make_images: Callable
) -> None:
    images = make_images()
    jpeg = encode_image(images[0], image_format="jpeg", quality=30)
    path = write_scene(tmp_path, make_info(), (image for image in [jpeg, *images[1:]]), image_format="png")
    scene = open_scene(path)
    assert scene.image_bytes(0) == jpeg
    for index in (1, 2):
        np.testing.assert_array_equal(scene.image_u8(index), images[index])
    again = write_scene(tmp_path / "again", make_info(), [jpeg, *images[1:]], image_format="png")
    assert path.read_bytes() == again.read_bytes()


def test_existing_files_are_kept_by_default_and_after_a_failure(
    scene_file: Path, make_info: Callable, make_images: Callable
) -> None:
    before = scene_file.read_bytes()
    with pytest.raises(FileExistsError, match=r"room\.zip.*overwrite=true"):
        write_scene(scene_file.parent, make_info(), make_images())
    with pytest.raises(SceneError):
        write_scene(scene_file.parent, make_info(), make_images(2), overwrite=True)
    assert scene_file.read_bytes() == before
    assert os.listdir(scene_file.parent) == ["room.zip"]
    write_scene(scene_file.parent, make_info(2), make_images(2), overwrite=True)
    assert len(open_scene(scene_file)) == 2


def test_a_file_that_appears_meanwhile_is_kept(tmp_path: Path, make_info: Callable, make_images: Callable) -> None:
    def images():
        yield from make_images()
        (tmp_path / "room.zip").write_text("another writer's")

    with pytest.raises(FileExistsError, match="exists"):
        write_scene(tmp_path, make_info(), images())
    assert os.listdir(tmp_path) == ["room.zip"]
    assert (tmp_path / "room.zip").read_text() == "another writer's"


FAULTS = {
    "too few": (lambda images: images[:2], "3 frames.* 2 images"),
    "too many": (lambda images: [*images, images[0]], "3 frames"),
    "damaged": (lambda images: [*images[:2], b"\xff\xd8\xff\xe0 no"], "scene 'room', frame 2"),
    "wrong size": (lambda images: [images[0], images[1][:, 1:], images[2]], r"frame 1: .*\(16, 24, 3\).*\(16, 23, 3\)"),
    "turned": (lambda images: [images[0], images[1].swapaxes(0, 1), images[2]], r"frame 1: .*got uint8 \(24, 16, 3\)"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_failed_write_leaves_nothing(tmp_path: Path, make_info: Callable, make_images: Callable, name: str) -> None:
    change, message = FAULTS[name]
    with pytest.raises(SceneError, match=message):
        write_scene(tmp_path, make_info(), iter(change(make_images())))
    assert os.listdir(tmp_path) == []
