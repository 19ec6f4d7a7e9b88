"""Every rule of a scene, broken: the message names scene, frame and field."""

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from wnv.scenes.scene_json import info_from_json, info_to_json
from wnv.scenes.schema import SceneError, SceneInfo, check_member_name, safe_id


def _frame(index: int = 1, **changes: Any) -> Callable[[SceneInfo], dict[str, Any]]:
    def change(info: SceneInfo) -> dict[str, Any]:
        frames = list(info.frames)
        frames[index] = replace(frames[index], **changes)
        return {"frames": tuple(frames)}

    return change


def _K(row: int, column: int, value: float) -> Callable[[SceneInfo], dict[str, Any]]:
    def change(info: SceneInfo) -> dict[str, Any]:
        K = info.frames[1].K.copy()
        K[row, column] = value
        return _frame(K=K)(info)

    return change


def _pose(edit: Callable[[np.ndarray], Any]) -> Callable[[SceneInfo], dict[str, Any]]:
    def change(info: SceneInfo) -> dict[str, Any]:
        pose = info.frames[1].camtoworld.copy()
        edit(pose)
        return _frame(camtoworld=pose)(info)

    return change


INVALID = {
    "id leaves the folder": (lambda i: {"id": "../up"}, r"id '\.\./up'"),
    "width zero": (lambda i: {"width": 0}, "width"),
    "image too large": (lambda i: {"width": 2**14, "height": 2**13}, "67108864"),
    "no frames": (lambda i: {"frames": ()}, "frames, got 0"),
    "scale negative": (lambda i: {"scale": -1.0}, "scale.*-1"),
    "scale nan": (lambda i: {"scale": math.nan}, "scale.*nan"),
    "source index negative": (_frame(source_index=-1), "frame 1: source_index.*-1"),
    "times equal": (_frame(2, time_s=1 / 30), "frame 2: times"),
    "time nan": (_frame(time_s=math.nan), "frame 1: time_s"),
    "K nan": (_K(0, 0, math.nan), "frame 1: K .*NaN"),
    "K skewed": (_K(0, 1, 0.1), "frame 1: K .*skew"),
    "K scaled": (_K(2, 2, 2.0), "frame 1: K"),
    "focal negative": (_K(1, 1, -20.0), "frame 1: .*fy .*-20"),
    "focal normalized": (_K(0, 0, 0.3), "frame 1: .*fx .*0.3.*normalized"),
    "focal absurd": (_K(0, 0, 1e6), "frame 1: .*fx .*1e\\+06"),
    "centre absurd": (_K(1, 2, 25.0), "frame 1: .*cy .*25"),
    "pose nan": (_pose(lambda p: p.__setitem__((0, 3), math.nan)), "frame 1: camtoworld .*NaN"),
    "pose mirrored": (_pose(lambda p: p[:3, 0].__imul__(-1)), "frame 1: camtoworld .*-1.000"),
    "pose stretched": (_pose(lambda p: p[:3, :3].__imul__(1.01)), "frame 1: camtoworld .*rigid"),
    "pose overflows": (_pose(lambda p: p[:3, :3].fill(1e200)), "frame 1: camtoworld .*rigid"),
    "pose projective": (_pose(lambda p: p.__setitem__((3, 0), 0.1)), "frame 1: .*last row"),
    "file twice": (lambda i: {"frames": tuple(replace(f, file="frames/a.jpg") for f in i.frames)}, "frame 1: frame 0"),
    "file up": (_frame(file="frames/../../x.jpg"), "frame 1: file"),
    "file not an image": (_frame(file="frames/x.exe"), "frame 1: file .*x.exe"),
}


@pytest.mark.parametrize("name", INVALID)
def test_each_rule_is_checked(make_info: Callable[..., SceneInfo], name: str) -> None:
    change, message = INVALID[name]
    info = make_info()
    with pytest.raises(SceneError, match=message):
        replace(info, **change(info))


def test_float32_rounding_is_valid(make_info: Callable[..., SceneInfo]) -> None:
    info = make_info(20)
    frames = tuple(replace(f, camtoworld=f.camtoworld.astype(np.float32).astype(np.float64)) for f in info.frames)
    assert len(replace(info, frames=frames).frames) == 20


def _stored(info: SceneInfo) -> SceneInfo:
    return replace(info, frames=tuple(replace(f, file=f"frames/{i}.jpg") for i, f in enumerate(info.frames)))


def test_json_keeps_every_digit_and_ignores_unknown_fields(make_info: Callable[..., SceneInfo]) -> None:
    info = _stored(make_info(5))
    text = info_to_json(info)
    data = json.loads(text)
    data["depth_scale"] = data["frames"][0]["exposure"] = 2
    for back in (info_from_json(text, name="x"), info_from_json(json.dumps(data), name="x")):
        assert info_to_json(back) == text
        np.testing.assert_array_equal(back.K, info.K)
        np.testing.assert_array_equal(back.camtoworld, info.camtoworld)
        np.testing.assert_array_equal(back.times_s, info.times_s)
        for field in ("id", "kind", "width", "height", "scale", "source"):
            assert getattr(back, field) == getattr(info, field)


INVALID_JSON = {
    "no version": (("schema_version", ...), "'file.zip'.*schema_version.*None"),
    "newer": (("schema_version", 2), "schema_version.*2.*upgrade"),
    "version true": (("schema_version", True), "schema_version.*True"),
    "kind": (("kind", "moving"), "kind.*'moving'"),
    "no id": (("id", ...), "'file.zip'.*'id'"),
    "width true": (("width", True), "'width'.*bool"),
    "width fraction": (("width", 24.5), "'width'.*float"),
    "frame not an object": (("frames", 2, []), "frame 2: .*list"),
    "frame without pose": (("frames", 1, "camtoworld", ...), "frame 1: .*'camtoworld'"),
    "pose 3x4": (("frames", 1, "camtoworld", [[1, 0, 0, 0]] * 3), "frame 1: .*'camtoworld'.*4 rows"),
    "pose text": (("frames", 1, "camtoworld", 0, 0, "1"), "frame 1: .*'camtoworld'"),
    "K huge integer": (("frames", 1, "K", 0, 0, 10**400), "frame 1: K"),
    "time huge integer": (("frames", 1, "time_s", 10**400), "frame 1: time_s"),
    "file empty": (("frames", 1, "file", ""), "frame 1: file"),
    "source text": (("source", "here"), "'source'.*str"),
}


@pytest.mark.parametrize("name", INVALID_JSON)
def test_invalid_json_is_rejected(make_info: Callable[..., SceneInfo], edit_json: Callable, name: str) -> None:
    (*keys, value), message = INVALID_JSON[name]
    text = edit_json(info_to_json(_stored(make_info())), *keys, value=value)
    with pytest.raises(SceneError, match=message):
        info_from_json(text, name="file.zip")


@pytest.mark.parametrize("text", ["", "{", "[]", "[" * 100_000, b"\xff\xfe\x00"], ids=str)
def test_text_that_is_not_an_object_is_rejected(text: str | bytes) -> None:
    with pytest.raises(SceneError, match=r"a\.zip.*scene\.json"):
        info_from_json(text, name="a.zip")


@pytest.mark.parametrize("value", [math.nan, object()])
def test_source_must_be_json(make_info: Callable[..., SceneInfo], value: object) -> None:
    with pytest.raises(SceneError, match=r"'room'.*source"):
        info_to_json(_stored(make_info(source={"x": value})))


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a\\b", "a//b", "./a", "a/..", "C:x", "a\0b", ""])
def test_names_that_leave_the_archive(name: str) -> None:
    with pytest.raises(SceneError, match="leaves the archive"):
        check_member_name(name, "x")


def test_any_name_becomes_an_id_and_different_names_different_ids() -> None:
    assert safe_id("fox-1.a") == "fox-1.a"
    names = ["城市", "城镇", "a b", "a/b", "a_b", "", ".", "..", "-a", "a\0b", "x" * 400, "\ud800", " \n/"]
    ids = [safe_id(name) for name in names]
    assert len(set(ids)) == len(names)
    for made in ids:
        assert safe_id(made) == made
        assert "/" not in made
        assert 1 <= len(made) <= 200
