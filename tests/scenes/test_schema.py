"""The rules of a scene: each one broken, with the scene, the frame and the way out in the message."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wnv.scenes.scene_json import info_from_json, info_to_json
from wnv.scenes.schema import SCHEMA_VERSION, SceneError, SceneInfo, check_member_name, safe_id


def with_frame(info: SceneInfo, index: int, **changes: Any) -> tuple:
    frames = list(info.frames)
    frames[index] = replace(frames[index], **changes)
    return tuple(frames)


def with_K(info: SceneInfo, row: int, column: int, value: float) -> dict[str, Any]:
    K = info.frames[1].K.copy()
    K[row, column] = value
    return {"frames": with_frame(info, 1, K=K)}


def with_pose(info: SceneInfo, edit: Callable[[np.ndarray], Any]) -> dict[str, Any]:
    pose = info.frames[1].camtoworld.copy()
    edit(pose)
    return {"frames": with_frame(info, 1, camtoworld=pose)}


def mirror(pose: np.ndarray) -> None:
    pose[:3, 0] *= -1


def stretch(pose: np.ndarray) -> None:
    pose[:3, :3] *= 1.01


def project(pose: np.ndarray) -> None:
    pose[3, 0] = 0.1


def nan_translation(pose: np.ndarray) -> None:
    pose[0, 3] = math.nan


def infinite_rotation(pose: np.ndarray) -> None:
    pose[0, 0] = -math.inf


def overflow(pose: np.ndarray) -> None:
    pose[:3, :3] = 1e200


BROKEN = {
    "id leaves the folder": (lambda i: {"id": "../up"}, r"scene id '\.\./up' must be .* use '"),
    "id empty": (lambda i: {"id": ""}, "scene id ''"),
    "version newer": (lambda i: {"schema_version": SCHEMA_VERSION + 1}, "scene 'room'.*newer.*upgrade wnv"),
    "version older": (lambda i: {"schema_version": 0}, "scene 'room'.*schema_version must be 1"),
    "width zero": (lambda i: {"width": 0}, "width and height must be at least 1"),
    "image too large": (lambda i: {"width": 2**14, "height": 2**13}, "at most 67108864"),
    "no frames": (lambda i: {"frames": ()}, "got 0"),
    "scale negative": (lambda i: {"scale": -1.0}, "scale .* must be positive or null"),
    "scale nan": (lambda i: {"scale": math.nan}, "scale .* must be positive or null"),
    "source index negative": (lambda i: {"frames": with_frame(i, 1, source_index=-1)}, "frame 1: source_index"),
    "times equal": (lambda i: {"frames": with_frame(i, 2, time_s=1 / 30)}, "frame 2: times must increase .* sort"),
    "times fall": (lambda i: {"frames": i.frames[::-1]}, "frame 1: times must increase"),
    "time nan": (lambda i: {"frames": with_frame(i, 1, time_s=math.nan)}, "frame 1: time_s must be finite"),
    "K nan": (lambda i: with_K(i, 0, 0, math.nan), "frame 1: K holds NaN"),
    "K skewed": (lambda i: with_K(i, 0, 1, 0.1), "frame 1: K must be .* undistort"),
    "K scaled": (lambda i: with_K(i, 2, 2, 2.0), "frame 1: K must be"),
    "focal negative": (lambda i: with_K(i, 1, 1, -20.0), "frame 1: focal length fy must be positive, got -20"),
    "focal zero": (lambda i: with_K(i, 0, 0, 0.0), "frame 1: focal length fx must be positive"),
    "focal normalised": (lambda i: with_K(i, 0, 0, 0.3), "frame 1: focal length fx .* multiply normalised"),
    "focal absurd": (lambda i: with_K(i, 0, 0, 1e6), "frame 1: focal length fx"),
    "centre absurd": (lambda i: with_K(i, 1, 2, 25.0), "frame 1: principal point cy is 25 px, .* 0..16"),
    "pose nan": (lambda i: with_pose(i, nan_translation), "frame 1: camtoworld holds NaN"),
    "pose infinite": (lambda i: with_pose(i, infinite_rotation), "frame 1: camtoworld holds NaN or inf"),
    "pose mirrored": (lambda i: with_pose(i, mirror), "frame 1: camtoworld is reflected .*-1.000.* right-handed"),
    "pose stretched": (lambda i: with_pose(i, stretch), "frame 1: camtoworld is not rigid"),
    "pose overflows": (lambda i: with_pose(i, overflow), "frame 1: camtoworld is not rigid"),
    "pose projective": (lambda i: with_pose(i, project), "frame 1: the last row .* transposed"),
    "file twice": (
        lambda i: {"frames": tuple(replace(f, file="frames/a.jpg") for f in i.frames)},
        "frame 1 .*frame 0 has the same file",
    ),
    "file up": (lambda i: {"frames": with_frame(i, 1, file="frames/../../x.jpg")}, "frame 1: file .* leaves"),
    "file elsewhere": (lambda i: {"frames": with_frame(i, 1, file="x.jpg")}, "frame 1: file must lie in frames/"),
    "file no image": (lambda i: {"frames": with_frame(i, 1, file="frames/x.exe")}, r"end in \.jpg"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_each_rule_is_kept(make_info: Callable[..., SceneInfo], name: str) -> None:
    change, message = BROKEN[name]
    info = make_info()
    with pytest.raises(SceneError, match=message):
        replace(info, **change(info))


def test_kind_from_a_file_is_checked(make_info: Callable[..., SceneInfo]) -> None:
    data = json.loads(info_to_json(named(make_info())))
    data["kind"] = "moving"
    with pytest.raises(SceneError, match="kind must be 'static' or 'dynamic', got 'moving'"):
        info_from_json(json.dumps(data), name="x")


def test_rounding_to_float32_is_let_pass(make_info: Callable[..., SceneInfo]) -> None:
    info = make_info(20)
    frames = tuple(replace(f, camtoworld=f.camtoworld.astype(np.float32).astype(np.float64)) for f in info.frames)
    assert len(replace(info, frames=frames).frames) == 20


def named(info: SceneInfo) -> SceneInfo:
    return replace(info, frames=tuple(replace(f, file=f"frames/{i}.jpg") for i, f in enumerate(info.frames)))


def test_json_keeps_every_digit(make_info: Callable[..., SceneInfo]) -> None:
    info = named(make_info(5))
    text = info_to_json(info)
    back = info_from_json(text, name="x")
    np.testing.assert_array_equal(back.K, info.K)
    np.testing.assert_array_equal(back.camtoworld, info.camtoworld)
    np.testing.assert_array_equal(back.times_s, info.times_s)
    assert [(f.file, f.source_index) for f in back.frames] == [(f.file, f.source_index) for f in info.frames]
    for field in ("id", "kind", "width", "height", "scale", "source", "schema_version"):
        assert getattr(back, field) == getattr(info, field)
    assert info_to_json(back) == text
    assert json.loads(text)["frames"][1]["file"] == "frames/1.jpg"


def test_unknown_fields_are_ignored(make_info: Callable[..., SceneInfo]) -> None:
    data = json.loads(info_to_json(named(make_info())))
    data["depth_scale"] = 2
    data["frames"][0]["exposure"] = 0.1
    assert info_from_json(json.dumps(data), name="x").id == "room"


def drop(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def edit(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return edit


def put(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last, value = path

    def edit(data: Any) -> None:
        for key in keys:
            data = data[key]
        data[last] = value

    return edit


BROKEN_JSON = {
    "no version": (drop("schema_version"), "scene 'file.zip': schema_version must be 1, got None"),
    "newer": (put("schema_version", 2), "schema version 2 is newer than 1.*upgrade wnv"),
    "version true": (put("schema_version", True), "schema_version must be 1, got True"),
    "version text": (put("schema_version", "1"), "schema_version must be 1, got '1'"),
    "no id": (drop("id"), "scene 'file.zip': scene.json lacks the field 'id'"),
    "no width": (drop("width"), "scene 'room': scene.json lacks the field 'width'"),
    "width true": (put("width", True), "field 'width' must be int, got bool"),
    "width fraction": (put("width", 24.5), "field 'width' must be int, got float"),
    "frames no list": (put("frames", {}), "field 'frames' must be list"),
    "frame no object": (put("frames", 2, []), "frame 2: an entry of frames must be an object, got list"),
    "frame without pose": (drop("frames", 1, "camtoworld"), "frame 1: scene.json lacks the field 'camtoworld'"),
    "pose 3x4": (put("frames", 1, "camtoworld", [[1, 0, 0, 0]] * 3), "frame 1: field 'camtoworld' must be 4 rows"),
    "pose text": (put("frames", 1, "camtoworld", 0, 0, "1"), "frame 1: field 'camtoworld' must be 4 rows of 4 numbers"),
    "pose null": (put("frames", 1, "camtoworld", 0, 0, None), "frame 1: field 'camtoworld'"),
    "K huge integer": (put("frames", 1, "K", 0, 0, 10**400), "frame 1: K must be a finite number"),
    "time huge integer": (put("frames", 1, "time_s", 10**400), "frame 1: time_s must be a finite number"),
    "time null": (put("frames", 1, "time_s", None), "frame 1: field 'time_s' must be float or int, got NoneType"),
    "file empty": (put("frames", 1, "file", ""), "frame 1: file is empty"),
    "source text": (put("source", "here"), "field 'source' must be dict"),
}


@pytest.mark.parametrize("name", BROKEN_JSON)
def test_broken_json_is_refused(make_info: Callable[..., SceneInfo], name: str) -> None:
    edit, message = BROKEN_JSON[name]
    data = json.loads(info_to_json(named(make_info())))
    edit(data)
    with pytest.raises(SceneError, match=message):
        info_from_json(json.dumps(data), name="file.zip")


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, b"\xff\xfe\x00"], ids=["empty", "open", "deep", "bytes"])
def test_what_is_not_json_is_refused(text: str | bytes) -> None:
    with pytest.raises(SceneError, match=r"scene 'a.zip': scene.json is not JSON"):
        info_from_json(text, name="a.zip")


def test_json_must_be_an_object() -> None:
    with pytest.raises(SceneError, match="must hold an object, got list"):
        info_from_json("[]", name="a.zip")


def test_source_must_be_json(make_info: Callable[..., SceneInfo]) -> None:
    with pytest.raises(SceneError, match="scene 'room': source must be plain JSON"):
        info_to_json(named(make_info(source={"x": math.nan})))
    with pytest.raises(SceneError, match="scene 'room': source must be plain JSON"):
        info_to_json(named(make_info(source={"x": object()})))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "a//b", "./a", "a/..", "C:x", "a\0b", ""])
def test_names_that_leave_the_archive(name: str) -> None:
    with pytest.raises(SceneError, match="leaves the archive"):
        check_member_name(name, "x")


@given(st.text(max_size=400))
def test_safe_id_is_always_an_id(name: str) -> None:
    made = safe_id(name)
    assert safe_id(made) == made
    assert "/" not in made
    assert 1 <= len(made) <= 200


def test_safe_id_keeps_names_apart() -> None:
    assert safe_id("fox-1.a") == "fox-1.a"
    assert len({safe_id(name) for name in ("城市", "城镇", "a b", "a/b", "a_b")}) == 5
