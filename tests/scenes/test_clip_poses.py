"""Poses beside a clip: what is written is read, and nothing that breaks a rule is."""

import json
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from wnv.scenes.clip_poses import ClipPoses, PosedFrame, read_poses, write_poses
from wnv.scenes.schema import SceneError
from wnv.scenes.undistort import Distortion


@pytest.fixture
def poses() -> ClipPoses:
    frames = []
    for index in (0, 3, 7):
        camtoworld = np.eye(4)
        camtoworld[:3, 3] = [index / 7, 0.1, -1e-17]
        frames.append(PosedFrame(index=index, time_s=index * 1001 / 30000, camtoworld=camtoworld))
    return ClipPoses(
        id="bv_BV1xx_p1_000012000",
        kind="dynamic",
        width=64,
        height=36,
        fps=Fraction(30000, 1001),
        K=np.array([[50.1, 0, 31.5], [0, 50.3, 18.25], [0, 0, 1]]),
        distortion=Distortion(k1=-0.1, p2=1e-3),
        frames=tuple(frames),
        scale=None,
        source={"title": "走路 🚶", "statistics": {"reprojection_px": 0.4}},
    )


def test_what_is_written_is_read(tmp_path: Path, poses: ClipPoses) -> None:
    path = write_poses(tmp_path / "clip.json", poses)
    again = read_poses(path)
    for name in ("id", "kind", "width", "height", "fps", "distortion", "scale", "source"):
        assert getattr(again, name) == getattr(poses, name)
    np.testing.assert_array_equal(again.K, poses.K)
    for one, other in zip(again.frames, poses.frames, strict=True):
        assert (one.index, one.time_s) == (other.index, other.time_s)
        np.testing.assert_array_equal(one.camtoworld, other.camtoworld)
    write_poses(path, again)
    assert [entry.name for entry in tmp_path.iterdir()] == ["clip.json"]
    assert read_poses(write_poses(path, replace(poses, scale=2))).scale == 2


REFUSED_HERE = {
    "id": ({"id": "../up"}, "scene id '../up' must be"),
    "fps": ({"fps": Fraction(0)}, "fps must be positive, got 0"),
    "lens": ({"distortion": Distortion(k1=float("nan"))}, "distortion must be finite"),
    "focal": ({"K": np.diag([-50.0, 50, 1])}, "focal length fx must be positive"),
    "skew": ({"K": np.array([[50.0, 1, 0], [0, 50, 0], [0, 0, 1]])}, "K must be"),
    "none": ({"frames": ()}, "a scene has 1 to 100000 frames, got 0"),
}


@pytest.mark.parametrize("case", REFUSED_HERE)
def test_poses_that_break_a_rule_cannot_be_made(poses: ClipPoses, case: str) -> None:
    change, message = REFUSED_HERE[case]
    with pytest.raises(SceneError, match=message):
        replace(poses, **change)


def put(*path: str | int, value: object) -> Callable[[dict], None]:
    def change(data: dict) -> None:
        for key in path[:-1]:
            data = data[key]
        data[path[-1]] = value

    return change


REFUSED_WHEN_READ = {
    "version": (put("schema_version", value=2), "schema_version must be 1, got 2"),
    "version true": (put("schema_version", value=True), "schema_version must be 1, got True"),
    "no lens": (lambda data: data.pop("distortion"), "lacks the field 'distortion'"),
    "no term": (lambda data: data["distortion"].pop("k3"), "lacks the field 'k3'"),
    "term text": (put("distortion", "k1", value="0"), "field 'k1' must be float or int, got str"),
    "K text": (put("K", value="50"), "field 'K' must be list"),
    "fps number": (put("fps", value=29.97), "field 'fps' must be str"),
    "fps zero": (put("fps", value="30/0"), "fps must be a fraction"),
    "fps huge": (put("fps", value="1e999999999"), "fps must be a fraction"),
    "frame text": (put("frames", 1, value="x"), "frame 1: an entry of frames must be an object"),
    "index fraction": (put("frames", 1, "index", value=3.0), "frame 1: field 'index' must be int"),
    "index again": (
        put("frames", 1, "index", value=0),
        "frame 1: indices must .* increase, got 0 after 0",
    ),
    "index negative": (put("frames", 0, "index", value=-1), "frame 0: source_index must be 0 or more"),
    "time": (put("frames", 2, "time_s", value=7.0), "frame 2: time_s must be index / fps = 0.233567 s, got 7"),
    "time nan": (put("frames", 2, "time_s", value=float("nan")), "frame 2: time_s must be finite"),
    "pose": (put("frames", 2, "camtoworld", 0, 0, value=2.0), "frame 2: camtoworld is not rigid"),
    "pose nan": (put("frames", 2, "camtoworld", 0, 3, value=float("inf")), "frame 2: camtoworld holds NaN"),
    "kind": (put("kind", value="moving"), "kind must be 'static' or 'dynamic'"),
    "scale": (put("scale", value=10**400), "scale must be a finite number"),
}


@pytest.mark.parametrize("case", REFUSED_WHEN_READ)
def test_poses_that_break_a_rule_are_not_read(tmp_path: Path, poses: ClipPoses, case: str) -> None:
    change, message = REFUSED_WHEN_READ[case]
    path = write_poses(tmp_path / "clip.json", poses)
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))
    with pytest.raises(SceneError, match=message):
        read_poses(path)


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"[" * 100_000, b"\xff\xfe"])
def test_what_is_no_object_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "clip.json"
    path.write_bytes(text)
    with pytest.raises(SceneError, match=r"clip\.json"):
        read_poses(path)


def test_names_and_sources_are_checked(tmp_path: Path, poses: ClipPoses) -> None:
    with pytest.raises(FileNotFoundError, match="no such file of poses"):
        read_poses(tmp_path / "none.json")
    with pytest.raises(ValueError, match=r"\.json file beside the clip"):
        write_poses(tmp_path / "clip.mp4", poses)
    with pytest.raises(SceneError, match="source must be plain JSON"):
        write_poses(tmp_path / "clip.json", replace(poses, source={"x": float("nan")}))
    assert list(tmp_path.iterdir()) == []
