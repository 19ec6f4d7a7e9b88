from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.scenes.importers.parsing import find_image, matrix, natural_order, numbers, path_inside, read_json, rigid
from wnv.scenes.rigid import invert_rigid


@pytest.mark.parametrize("name", ["../a.jpg", "/etc/passwd", "a/../../b", "..\\..\\a.jpg", "a/../../../x/b.jpg"])
def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match=r"clip, frame 1: path .* leaves the folder"):
        path_inside(tmp_path / "x", name, where="clip, frame 1")


@pytest.mark.parametrize("name", ["a.jpg", "./a.jpg", "b/../a.jpg", "b\\..\\a.jpg"])
def test_names_inside_are_found(tmp_path: Path, name: str) -> None:
    assert path_inside(tmp_path, name, where="here") == tmp_path / "a.jpg"
    assert path_inside(tmp_path, str(tmp_path / "a.jpg"), where="here") == tmp_path / "a.jpg"


@given(st.text(alphabet="./\\ab", min_size=1, max_size=30).filter(str.strip))
def test_every_name_stays_inside(name: str) -> None:
    root = Path("/data/scene")
    try:
        path = path_inside(root, name, where="here")
    except ValueError:
        return
    assert path == root or root in path.parents
    assert ".." not in path.parts


def test_json_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b'\xef\xbb\xbf{"frames": []}')
    assert read_json(tmp_path / "a.json") == {"frames": []}


@pytest.mark.parametrize("name", ["", "  ", "a\0b", None, 3])
def test_invalid_names_are_rejected(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ValueError, match="non-empty text"):
        path_inside(tmp_path, name, where="here")


def test_links_inside_a_data_set_are_followed(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "a.png").touch()
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "images").symlink_to(tmp_path / "disk")
    assert find_image(tmp_path / "set", "images/a", where="here").is_file()


def test_names_are_sorted_by_number() -> None:
    names = ["clip_1/9", "clip_1/10", "clip_1/0100", "clip_2/1"]
    assert sorted(names[::-1], key=natural_order) == names


def test_cleaning_a_rotation_changes_it_by_its_error() -> None:
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    pose = np.eye(4)
    pose[:3, :3] = rotation * np.sign(np.linalg.det(rotation))
    pose[:3, 3] = 3.0, -1.0, 2.0
    np.testing.assert_array_equal(rigid(pose, what="pose", where="here"), pose)
    found = rigid(np.round(pose, 5), what="pose", where="here")
    np.testing.assert_allclose(found[:3, :3] @ found[:3, :3].T, np.eye(3), atol=1e-14)
    np.testing.assert_allclose(found, pose, atol=1e-5)
    np.testing.assert_allclose(rigid(pose[:3].copy(), what="pose", where="here"), pose)
    np.testing.assert_allclose(invert_rigid(pose) @ pose, np.eye(4), atol=1e-14)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([1, 2], "must be 3 numbers, got 2"),
        ([1, 2, "x"], "must be 3 numbers, got"),
        ([1, 2, True], "must be 3 numbers, got"),
        (None, "must be 3 numbers, got None"),
        ([1, 2, float("inf")], "must be finite"),
        ([1, 2, 10**400], "must be 3 numbers"),
    ],
)
def test_numbers_are_counted_and_finite(value: Any, message: str) -> None:
    with pytest.raises(ValueError, match=f"line 4: size {message}"):
        numbers(value, count=3, what="size", where="line 4")


@pytest.mark.parametrize("value", [None, [1, 2, 3], [[1, 2, 3]] * 3, [[1, 2, 3, 4]] * 5, {"a": 1}])
def test_other_values_are_not_a_matrix(value: Any) -> None:
    with pytest.raises(ValueError, match=r"line 4: .*pose.* 4 numbers"):
        matrix(value, what="pose", where="line 4")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n}', r"a\.json:2: not JSON"),
        (b"\xff\xfe", r"a\.json: not UTF-8"),
        (b"[" * 200_000, r"a\.json: .*too deeply"),
    ],
)
def test_invalid_json_is_rejected_with_its_line(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_json(tmp_path / "a.json")


def test_a_missing_json_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"a\.json: no such file"):
        read_json(tmp_path / "a.json")
