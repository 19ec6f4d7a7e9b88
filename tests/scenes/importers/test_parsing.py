import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from wnv.scenes.importers.parsing import find_image, natural_order, numbers, path_inside, pose_matrix, read_json, rigid
from wnv.scenes.rigid import invert_rigid


@pytest.mark.parametrize(
    "name",
    ["../a.jpg", "/etc/passwd", "a/../../b", "..\\..\\a.jpg", "a/../../../x/b.jpg", "", "  ", "a\0b", None, 3],
)
def test_names_that_are_no_path_inside_the_folder(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match=rf"clip, frame 1: .*{re.escape(repr(name))}"):
        path_inside(tmp_path / "x", name, where="clip, frame 1")


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "b/../a.jpg", "b\\..\\a.jpg", "{root}/a.jpg"])
def test_names_inside_are_found(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name.format(root=tmp_path), where="here") == tmp_path / "a.jpg"


def test_links_inside_a_data_set_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.png").touch()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "disk")
    assert find_image(tmp_path / "set", "images/a", where="here").is_file()


def test_names_are_sorted_by_number() -> None:
    names = ["clip_1/9", "clip_1/10", "clip_1/0100", "clip_2/1"]
    assert sorted(names[::-1], key=natural_order) == names


def _rotated() -> np.ndarray:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = 3.0, -1.0, 2.0
    return pose


def test_cleaning_a_rotation_changes_it_by_its_error() -> None:
    pose = _rotated()
    np.testing.assert_array_equal(rigid(pose, what="pose", where="here"), pose)
    found = pose_matrix(np.round(pose, 5).tolist(), what="pose", where="here")
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(found, pose, atol=1e-5)
    np.testing.assert_allclose(pose_matrix(pose[:3].tolist(), what="pose", where="here"), pose)
    np.testing.assert_allclose(invert_rigid(pose) @ pose, np.eye(4), atol=1e-14)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        *[(value, "rows of 4 numbers") for value in (None, [1, 2, 3], [[1, 2, 3, 4]] * 5, {"a": 1})],
        ([[1, 2, 3]] * 3, "4 numbers, got 3"),
        ((np.eye(4) * np.nan).tolist(), "finite"),
        ((_rotated() * [-1, 1, 1, 1]).tolist(), "mirrors"),
        ((_rotated() * [2, 1, 1, 1]).tolist(), "rigid"),
        ((_rotated() * [[1], [1], [1], [2]]).tolist(), "last row"),
    ],
)
def test_other_values_are_no_pose(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"line 4: .*{message}"):
        pose_matrix(value, what="pose", where="line 4")


@pytest.mark.parametrize("value", [[1, 2], [1, 2, "x"], [1, 2, True], None, [1, 2, float("inf")], [1, 2, 10**400]])
def test_numbers_are_counted_and_finite(value: Any) -> None:
    with pytest.raises(ValueError, match=r"line 4: size must be (3 numbers, got|finite)"):
        numbers(value, count=3, what="size", where="line 4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n}', r"a\.json:2: not JSON"),
        (b"\xff\xfe", r"a\.json: not UTF-8"),
        (b"[" * 200_000, r"a\.json: .*too deeply"),
    ],
)
def test_invalid_json_is_rejected_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"a\.json"):
        read_json(path)
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(path)
    path.write_bytes(b'\xef\xbb\xbf{"frames": []}')  # as Windows writes it
    assert read_json(path) == {"frames": []}
